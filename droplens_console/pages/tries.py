"""Try it: a photo and its answer, a folder of class folders and its check and upload.

Files come through this server on 127.0.0.1 as bodies of requests, and are streamed to the disk.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from droplens.domain.layout import RESULTS
from droplens.imaging.limits import Limits
from droplens_cli import classify
from droplens_cli.errors import CommandError
from droplens_cli.folder_check import unreadable
from droplens_console.addresses import run_address, thumbnail_address
from droplens_console.data.dataset_drop import DatasetDrop
from droplens_console.pages.link import Link
from droplens_console.rendering import page, readers_of, stack_of, with_fields

LINK = Link("Try it", "/try")
# The page asks again where there is no answer yet.
_WAIT_SECONDS = 20.0
_SIDE = 384
_MOST_LISTED = 20
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 100


def show(request: Request) -> Response:
    """The page."""
    names = sorted(card.classifier for card in stack_of(request).cards.all_live())
    return page(request, "tries.html", classifiers=names, most_bytes=Limits().max_bytes)


async def photo(request: Request) -> Response:
    """Drop a photo into the bucket. Returns its key and that of its result."""
    stack, wanted = stack_of(request), request.query_params.get("classifier", "")
    name = await run_in_threadpool(classify.answering_classifier, stack, wanted)
    with TemporaryDirectory(prefix="droplens-") as folder:
        path = Path(folder) / _file_name(request.query_params.get("name", ""))
        async with _body(request) as parts:
            with path.open("wb") as file:
                async for part in parts:
                    file.write(part)
        [dropped] = await run_in_threadpool(classify.drop, stack.bucket, [path], name, wanted)
    return JSONResponse({"key": dropped.key, "result": dropped.result, "classifier": name})


def answer(request: Request) -> Response:
    """The result of a dropped photo; waits for some seconds, and is null where there is none."""
    key, result_key = (request.query_params.get(name, "") for name in ("key", "result"))
    if not result_key.startswith(RESULTS):
        raise HTTPException(404, "there is no such result")
    dropped = classify.Dropped(Path(key), key, result_key)
    found = next(classify.results(stack_of(request).bucket, [dropped], _WAIT_SECONDS), None)
    if found is None:
        return JSONResponse({"result": None})
    result = found[1]
    image = result["image"]
    return JSONResponse(
        {
            "result": result,
            "image": thumbnail_address(image["key"], image["version_id"], _SIDE),
            "page": f"/results/{result['classifier']}/one?{urlencode({'key': result_key})}",
        }
    )


def begin(request: Request, _: Mapping[str, str]) -> Response:
    """Receive a dataset."""
    return JSONResponse({"name": readers_of(request).drops.begin().name})


async def receive(request: Request) -> Response:
    """One file of the dataset; `path`: within it."""
    drop, given = _drop(request), request.query_params.get("path", "")
    receiving = await run_in_threadpool(drop.receive, given)
    try:
        async with _body(request) as parts:
            async for part in parts:
                await run_in_threadpool(receiving.write, part)
        await run_in_threadpool(receiving.close)
    except BaseException:
        receiving.discard()
        raise
    return JSONResponse({})


def check(request: Request, fields: Mapping[str, str]) -> Response:
    """Begin the check."""
    _drop(request).check(fields.get("classifier", ""))
    return JSONResponse({})


def upload(request: Request, _: Mapping[str, str]) -> Response:
    """Begin the upload."""
    _drop(request).upload()
    return JSONResponse({})


def state(request: Request) -> Response:
    """Where the dataset stands."""
    return JSONResponse(_shown(_drop(request)))


def _shown(drop: DatasetDrop) -> dict[str, Any]:
    found = drop.state
    shown: dict[str, Any] = {
        "step": found.step.value,
        "done": found.done,
        "total": found.total,
        "error": found.error,
        "next": found.next_step,
        "others": found.others,
        "is_new": found.is_new,
        "run": found.run and run_address(found.run),
    }
    if found.manifest is not None:
        manifest, counts = found.manifest, found.manifest["counts"]
        bad = unreadable(manifest)
        shown["check"] = {
            "pictures": counts["train"] + counts["validation"] + counts.get("test", 0),
            "read_as": manifest["read_as"],
            "classes": [
                {name: one[name] for name in ("name", "files", "train", "validation", "skipped")}
                for one in sorted(manifest["per_class"], key=lambda one: one["files"])
            ],
            "unreadable": [f"{one['name']}: {one['reason']}" for one in bad[:_MOST_LISTED]],
            "unreadable_count": len(bad),
            "duplicates": counts["duplicates"],
            "conflicts": counts["conflicts"],
            "warnings": manifest["warnings"],
        }
    return shown


@asynccontextmanager
async def _body(request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
    """The request's body in parts, of at most the bytes of a picture. Raises CommandError."""
    most = Limits().max_bytes

    async def parts() -> AsyncIterator[bytes]:
        received = 0
        async for part in request.stream():
            received += len(part)
            if received > most:
                raise CommandError(f"a file has more than {most:,} bytes, the limit of a picture")
            yield part

    try:
        yield parts()
    except ClientDisconnect:
        raise HTTPException(400, "the file was not sent completely") from None


def _file_name(given: str) -> str:
    """A name for the photo's key, of what the browser says."""
    name = given.replace("\\", "/").rpartition("/")[2]
    return _UNSAFE.sub("_", name)[-_LONGEST_NAME:].strip(".") or "photo.jpg"


def _drop(request: Request) -> DatasetDrop:
    try:
        return readers_of(request).drops.get(request.path_params["name"])
    except LookupError as error:
        raise HTTPException(404, str(error.args[0])) from None


_DATASET = "/try/dataset/{name}"
ROUTES = [
    Route("/try", show),
    Route("/try/photo", photo, methods=["POST"]),
    Route("/try/answer", answer),
    Route("/try/dataset", with_fields(begin), methods=["POST"]),
    Route(f"{_DATASET}/file", receive, methods=["POST"]),
    Route(f"{_DATASET}/check", with_fields(check), methods=["POST"]),
    Route(f"{_DATASET}/upload", with_fields(upload), methods=["POST"]),
    Route(f"{_DATASET}/state", state),
]
