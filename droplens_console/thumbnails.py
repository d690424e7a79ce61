"""Thumbnails: the only form in which images of the bucket reach the browser.

Each is decoded by our own decoder in its sandbox, within the limits of classification, and encoded
anew: no byte of an untrusted file is sent.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from io import BytesIO

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from droplens.domain import layout
from droplens.imaging.prepare import ImageError, Limits, decode
from droplens_console.rendering import stack_of

SIDES = (96, 192, 384, 768)
QUALITY = 82
# Sandboxed decoders at a time: each may take up to 1 GiB.
_AT_ONCE = 4
_MOST_KEPT = 64 * 1024 * 1024
_OF_USERS = (layout.INPUT, layout.DATASETS, layout.CORRECTIONS)
_FOR_EVER = "private, max-age=31536000, immutable"


class Thumbnails:
    """Thumbnails by a key of their own, those used last kept in memory."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Hashable, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._decoding = threading.BoundedSemaphore(_AT_ONCE)

    def get(self, key: Hashable, side: int, read: Callable[[], bytes]) -> bytes:
        """A JPEG of at most `side` x `side` pixels.

        key: names the image's bytes, which never change; read: gets them. Raises ImageError.
        """
        with self._lock:
            if (key, side) in self._kept:
                self._kept.move_to_end((key, side))
                return self._kept[key, side]
        made = self.made(side, read)
        with self._lock:
            if (key, side) not in self._kept:
                self._kept[key, side] = made
                self._bytes += len(made)
            while self._bytes > _MOST_KEPT:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return made

    def made(self, side: int, read: Callable[[], bytes]) -> bytes:
        """A new one, not kept, of which _AT_ONCE are decoded at a time. Raises ImageError."""
        with self._decoding:
            return thumbnail(read(), side)


def thumbnail(data: bytes, side: int) -> bytes:
    """A JPEG of the image, at most `side` pixels wide and high. Raises ImageError."""
    image, _ = decode(data, Limits(), side, isolated=True)
    image.thumbnail((side, side))
    out = BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()


def of_object(request: Request) -> Response:
    """Of an object that users put there. key, version: the object's; side: one of SIDES.

    Only a thumbnail of a named version is cached: an object's newest version changes.
    """
    key, version = (request.query_params.get(name, "") for name in ("key", "version"))
    side = side_of(request)
    if not key.startswith(_OF_USERS):
        raise HTTPException(404, "there are thumbnails of pictures only")
    bucket, most = stack_of(request).bucket, Limits().max_bytes

    def read() -> bytes:
        if version:
            data, _ = bucket.read_version_at_most(key, version, most)
        else:
            data, _ = bucket.read_at_most(key, most)
        if data is None:
            raise HTTPException(415, f"the file has more than {most:,} bytes")
        return data

    thumbnails: Thumbnails = request.app.state.thumbnails
    try:
        made = (
            thumbnails.get((key, version), side, read) if version else thumbnails.made(side, read)
        )
    except ImageError as error:
        raise HTTPException(415, str(error)) from None
    return jpeg(made, for_ever=bool(version))


def side_of(request: Request) -> int:
    """The parameter `side`. Raises HTTPException for one that is not offered."""
    given = request.query_params.get("side", "")
    if given not in map(str, SIDES):
        raise HTTPException(404, f"sides are {', '.join(map(str, SIDES))}")
    return int(given)


def jpeg(made: bytes, *, for_ever: bool) -> Response:
    """The response with a thumbnail. for_ever: its address always has the same one."""
    return Response(
        made,
        headers={"Cache-Control": _FOR_EVER} if for_ever else {},
        media_type="image/jpeg",
    )


ROUTES = [Route("/thumbnail", of_object)]
