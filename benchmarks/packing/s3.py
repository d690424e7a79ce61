"""An S3 in memory that takes next to nothing of the cores, and answers as late as the real one.

    python -m benchmarks.packing.s3 MILLISECONDS

Prints the port of 127.0.0.1 that it listens on. S3 itself takes none of a packer's cores; a whole
server on the same machine takes a quarter of two. Knows just the requests that packers send, to
buckets of any name, signed by anybody: it is not an S3 to test against.
"""

import asyncio
import re
import sys
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from urllib.parse import parse_qs, unquote
from xml.etree.ElementTree import fromstring
from xml.sax.saxutils import escape

_PAGE = 1000
# No head of the packers' is longer.
_HEAD_BYTES = 64 * 1024
_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
_ISO_DATE = "2026-01-01T00:00:00.000Z"

Headers = dict[str, str]
# A body in pieces: what S3 would move within itself is not moved here.
Pieces = list[memoryview]
Answer = tuple[str, Headers, Pieces]


@dataclass(frozen=True, slots=True)
class Object:
    """What is kept under a key."""

    body: Pieces
    etag: str

    @property
    def length(self) -> int:
        """Of the body, in bytes."""
        return sum(map(len, self.body))


@dataclass(frozen=True, slots=True)
class Request:
    """One request. path: the bucket's name and the key, decoded."""

    method: str
    path: str
    query: dict[str, str]
    headers: Headers
    body: memoryview


class Store:
    """The objects, by bucket and key, and the uploads under way."""

    def __init__(self) -> None:
        self._objects: dict[str, Object] = {}
        self._keys: list[str] = []
        self._uploads: dict[str, dict[int, Object]] = {}
        self._numbers = count(1)

    def answer(self, request: Request) -> Answer:
        """Execute the command."""
        _, _, key = request.path.partition("/")
        actions: dict[tuple[str, str], Callable[[Request], Answer]] = {
            ("GET", "list-type"): self._list,
            ("POST", "delete"): self._delete,
            ("POST", "uploads"): self._begin,
            ("PUT", "uploadId"): self._part,
            ("POST", "uploadId"): self._complete,
            ("DELETE", "uploadId"): self._abort,
            ("GET", ""): self._get,
            ("HEAD", ""): self._get,
            ("PUT", ""): self._put if key else lambda _: ("200 OK", {}, []),
        }
        for (method, word), action in actions.items():
            if method == request.method and (not word or word in request.query):
                return action(request)
        return "501 Not Implemented", {}, []

    def _get(self, request: Request) -> Answer:
        found = self._objects.get(request.path)
        if found is None:
            return _error("404 Not Found", "NoSuchKey")
        if request.headers.get("if-match", found.etag) != found.etag:
            return _error("412 Precondition Failed", "PreconditionFailed")
        headers = {"ETag": found.etag, "Last-Modified": _DATE, "Accept-Ranges": "bytes"}
        asked = request.headers.get("range")
        if asked is None:
            return "200 OK", headers, found.body
        start, end = _range(asked, found.length)
        if start >= end:
            return _error("416 Range Not Satisfiable", "InvalidRange")
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.length}"
        return "206 Partial Content", headers, _cut(found.body, start, end)

    def _put(self, request: Request) -> Answer:
        return "200 OK", {"ETag": self._keep(request.path, [request.body])}, []

    def _keep(self, path: str, body: Pieces) -> str:
        if path not in self._objects:
            insort(self._keys, path)
        self._objects[path] = Object(body, self._etag())
        return self._objects[path].etag

    def _etag(self) -> str:
        return f'"{next(self._numbers):032x}"'

    def _list(self, request: Request) -> Answer:
        bucket = request.path.partition("/")[0] + "/"
        prefix = bucket + request.query.get("prefix", "")
        after = request.query.get("continuation-token")
        start = (
            bisect_left(self._keys, prefix) if after is None else bisect_right(self._keys, after)
        )
        delimiter = request.query.get("delimiter")
        found: list[str] = []
        more = False
        for path in self._keys[start:]:
            if not path.startswith(prefix):
                break
            if delimiter and delimiter in path[len(prefix) :]:
                continue
            if len(found) == _PAGE:
                more = True
                break
            found.append(path)
        contents = "".join(
            f"<Contents><Key>{escape(path.removeprefix(bucket))}</Key>"
            f"<Size>{self._objects[path].length}</Size>"
            f"<ETag>{escape(self._objects[path].etag)}</ETag>"
            f"<LastModified>{_ISO_DATE}</LastModified></Contents>"
            for path in found
        )
        contents += f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        if more:
            contents += f"<NextContinuationToken>{escape(found[-1])}</NextContinuationToken>"
        return _xml("ListBucketResult", contents)

    def _delete(self, request: Request) -> Answer:
        bucket = request.path.partition("/")[0]
        for key in fromstring(bytes(request.body)).iter(f"{_NAMESPACE}Key"):  # noqa: S314  the packers'
            path = f"{bucket}/{key.text}"
            if self._objects.pop(path, None):
                del self._keys[bisect_left(self._keys, path)]
        return _xml("DeleteResult", "")

    def _begin(self, _: Request) -> Answer:
        upload = f"{next(self._numbers):x}"
        self._uploads[upload] = {}
        return _xml("InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>")

    def _part(self, request: Request) -> Answer:
        source = request.headers.get("x-amz-copy-source")
        part = Object([request.body], self._etag())
        if source is not None:
            copied = self._objects[unquote(source).lstrip("/")]
            start, end = _range(request.headers["x-amz-copy-source-range"], copied.length)
            part = Object(_cut(copied.body, start, end), part.etag)
        self._uploads[request.query["uploadId"]][int(request.query["partNumber"])] = part
        if source is not None:
            return _xml("CopyPartResult", f"<ETag>{escape(part.etag)}</ETag>")
        return "200 OK", {"ETag": part.etag}, []

    def _complete(self, request: Request) -> Answer:
        parts = self._uploads.pop(request.query["uploadId"])
        pieces = chain.from_iterable(parts[number].body for number in sorted(parts))
        etag = self._keep(request.path, list(pieces))
        return _xml("CompleteMultipartUploadResult", f"<ETag>{escape(etag)}</ETag>")

    def _abort(self, request: Request) -> Answer:
        self._uploads.pop(request.query["uploadId"], None)
        return "204 No Content", {}, []


def _xml(name: str, content: str) -> Answer:
    body = f'<{name} xmlns="{_NAMESPACE[1:-1]}">{content}</{name}>'
    return "200 OK", {"Content-Type": "application/xml"}, [memoryview(body.encode())]


def _error(status: str, code: str) -> Answer:
    return status, {}, [memoryview(f"<Error><Code>{code}</Code></Error>".encode())]


def _cut(pieces: Pieces, start: int, end: int) -> Pieces:
    """The bytes from `start` to `end`, which is not included, where they are."""
    cut: Pieces = []
    for piece in pieces:
        if (part := piece[max(start, 0) : max(end, 0)]).nbytes:
            cut.append(part)
        start, end = start - len(piece), end - len(piece)
    return cut


def _range(asked: str, length: int) -> tuple[int, int]:
    """First byte, and the one behind the last."""
    start, end = asked.removeprefix("bytes=").split("-")
    return int(start), min(int(end) + 1, length) if end else length


class Connection(asyncio.BufferedProtocol):
    """One connection: requests in, each answered `delay` seconds after it has come.

    A body is received where it is kept.
    """

    def __init__(self, store: Store, delay: float) -> None:
        self._store = store
        self._delay = delay
        self._room = memoryview(bytearray(_HEAD_BYTES))
        self._came = 0  # bytes of `_room`
        self._head: tuple[str, str, Headers] | None = None
        self._body = self._room[:0]
        self._filled = 0  # bytes of `_body`

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio's
        return self._room[self._came :] if self._head is None else self._body[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._head is None:
            self._came += nbytes
        else:
            self._filled += nbytes
        while self._head or self._read_head():
            assert self._head is not None
            if self._filled < len(self._body):
                return
            method, target, headers = self._head
            self._later(partial(self._reply, _request(method, target, headers, self._body)))
            self._head = None

    def _read_head(self) -> bool:
        """Whether there is one; what came behind it begins the body, or the next head."""
        head, end, rest = bytes(self._room[: self._came]).partition(b"\r\n\r\n")
        if not end:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if headers.get("expect", "").lower() == "100-continue":
            self._later(partial(self._transport.write, b"HTTP/1.1 100 Continue\r\n\r\n"))
        self._head = method, target, headers
        length = int(headers.get("content-length", 0))
        self._filled = min(length, len(rest))
        self._body = memoryview(bytearray(length))
        self._body[: self._filled] = rest[: self._filled]
        self._came = len(rest) - self._filled
        self._room[: self._came] = rest[self._filled :]
        return True

    def _later(self, deed: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(self._delay, deed)

    def _reply(self, request: Request) -> None:
        status, headers, body = self._store.answer(request)
        headers = {"Content-Length": str(sum(map(len, body))), **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        sent = [] if request.method == "HEAD" else body
        self._transport.writelines([f"HTTP/1.1 {status}\r\n{lines}\r\n".encode(), *sent])


def _request(method: str, target: str, headers: Headers, body: memoryview) -> Request:
    path, _, query = target.partition("?")
    asked = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
    if "aws-chunked" in headers.get("content-encoding", ""):
        body = memoryview(_unchunked(bytes(body)))
    return Request(method, unquote(path).lstrip("/"), asked, headers, body)


def _unchunked(body: bytes) -> bytes:
    """Without the sizes, signatures and check sums that the SDKs put between the pieces."""
    pieces: list[bytes] = []
    position = 0
    while True:
        head = re.compile(rb"([0-9a-f]+)[^\r]*\r\n").match(body, position)
        assert head is not None
        size = int(head[1], 16)
        if size == 0:
            return b"".join(pieces)
        pieces.append(body[head.end() : head.end() + size])
        position = head.end() + size + 2


async def _serve(delay: float) -> None:
    store = Store()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(store, delay), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1]) / 1000))
