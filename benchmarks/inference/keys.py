"""A server of ListObjectsV2 with any number of keys that are stored nowhere.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PAGE = 1000
_ENTRY = (
    "<Contents><Key>2026/{0:03}/{1:09}.jpg</Key><LastModified>2026-11-27T12:00:00.000Z"
    "</LastModified><ETag>&quot;{1:032x}&quot;</ETag><Size>{2}</Size>"
    "<StorageClass>STANDARD</StorageClass></Contents>"
)


@contextmanager
def serving_keys(count: int) -> Iterator[str]:
    """The address of a server that lists so many keys, a page of them for each request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            start = int(asked.get("continuation-token", ["0"])[0])
            body = page(start, min(start + PAGE, count), count).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def page(start: int, stop: int, count: int) -> str:
    """The keys from `start` to `stop` (not included) of so many."""
    entries = "".join(
        _ENTRY.format(number // PAGE, number, 50_000 + number % 1000)
        for number in range(start, stop)
    )
    token = f"<NextContinuationToken>{stop}</NextContinuationToken>" if stop < count else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>photographs</Name><KeyCount>{stop - start}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
        f"<IsTruncated>{str(stop < count).lower()}</IsTruncated>{token}{entries}</ListBucketResult>"
    )
