"""A server of a bucket with any number of keys that are stored nowhere, and of its S3 Inventory.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PAGE = 1000
# Rows of a file of the inventory.
FILE = 250_000
MANIFEST = "manifest.json"
_ENTRY = (
    "<Contents><Key>{0}</Key><LastModified>2026-11-27T12:00:00.000Z"
    "</LastModified><ETag>&quot;{1:032x}&quot;</ETag><Size>{2}</Size>"
    "<StorageClass>STANDARD</StorageClass></Contents>"
)


@contextmanager
def serving_keys(count: int, bucket: str, place: str) -> Iterator[str]:
    """The address of a server that lists so many keys, a page of them for each request.

    bucket: the name under which they are listed; place: the bucket that has their inventory.
    """
    inventory = inventory_objects(count, bucket, place)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            split = urlsplit(self.path)
            body = inventory.get(split.path)
            if body is None:
                start = int(parse_qs(split.query).get("continuation-token", ["0"])[0])
                body = page(start, min(start + PAGE, count), count).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"0"')
            self.send_header("Last-Modified", "Fri, 27 Nov 2026 12:00:00 GMT")
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


def inventory_objects(count: int, bucket: str, place: str) -> dict[str, bytes]:
    """The objects of an inventory of the same keys as CSV, by their paths on the server."""
    files: list[dict[str, object]] = []
    objects = {}
    for start in range(0, count, FILE):
        rows = "".join(
            f'"{bucket}","{key(number)}","{size(number)}","{etag(number)}","STANDARD"\n'
            for number in range(start, min(start + FILE, count))
        )
        body = gzip.compress(rows.encode(), 6)
        name = f"data/{start}.csv.gz"
        files.append({"key": name, "size": len(body), "MD5checksum": md5(body)})
        objects[f"/{place}/{name}"] = body
    manifest = json.dumps(
        {
            "sourceBucket": bucket,
            "destinationBucket": f"arn:aws:s3:::{place}",
            "version": "2016-11-30",
            "fileFormat": "CSV",
            "fileSchema": "Bucket, Key, Size, ETag, StorageClass",
            "files": files,
        }
    ).encode()
    return objects | {
        f"/{place}/{MANIFEST}": manifest,
        f"/{place}/manifest.checksum": md5(manifest).encode(),
    }


def md5(body: bytes) -> str:
    """As a manifest has it."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def key(number: int) -> str:
    """The name of an object."""
    return f"2026/{number // PAGE:03}/{number:09}.jpg"


def etag(number: int) -> str:
    """The ETag of an object, which compresses no better than a real one."""
    return md5(str(number).encode())


def size(number: int) -> int:
    """The bytes of an object."""
    return 50_000 + number % 1000


def page(start: int, stop: int, count: int) -> str:
    """The keys from `start` to `stop` (not included) of so many."""
    entries = "".join(
        _ENTRY.format(key(number), number, size(number)) for number in range(start, stop)
    )
    token = f"<NextContinuationToken>{stop}</NextContinuationToken>" if stop < count else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>photographs</Name><KeyCount>{stop - start}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
        f"<IsTruncated>{str(stop < count).lower()}</IsTruncated>{token}{entries}</ListBucketResult>"
    )
