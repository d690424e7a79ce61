"""Classifies photographs of this machine: drops them into the bucket and waits for the results."""

import json
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing
from droplens.imaging.prepare import Limits
from droplens_cli.errors import CommandError, ExitCode
from droplens_cli.stack import Stack
from droplens_cli.upload import THREADS

SHORTEST_POLL, LONGEST_POLL = 0.25, 3.0
# Of a file's name in its key; the rest of a longer one is cut.
_LONGEST_NAME = 100
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Dropped:
    """A photograph that was uploaded. key: below input/; result: the key of its result."""

    path: Path
    key: str
    result: str


def photographs(paths: Sequence[Path]) -> list[Path]:
    """The files of `paths`; of a folder, every visible file below it.

    Raises CommandError for one that does not exist, is larger than a picture may be, or where
    nothing is left.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(
                one
                for one in path.rglob("*")
                if one.is_file()
                and not any(part.startswith(".") for part in one.relative_to(path).parts)
            )
        elif path.is_file():
            found.append(path)
        else:
            raise CommandError(f"{path} does not exist", code=ExitCode.BAD_INPUT)
    if not found:
        raise CommandError(f"there is no file in {paths[0]}", code=ExitCode.BAD_INPUT)
    most = Limits().max_bytes
    for path in found:
        if path.stat().st_size > most:
            raise CommandError(
                f"{path} has {path.stat().st_size:,} bytes, the limit is {most:,}",
                "nothing was sent; make it smaller or leave it out",
                ExitCode.BAD_INPUT,
            )
    return found


def answering_classifier(stack: Stack, wanted: str) -> str:
    """The classifier that will answer: `wanted`, or the default one for "".

    Raises CommandError where it has no live model.
    """
    bucket = stack.bucket
    name = wanted
    if not name:
        try:
            name = json.loads(bucket.read(layout.DEFAULT_CLASSIFIER_KEY)[0])["classifier"]
        except ObjectMissing:
            raise CommandError(
                "no model is live yet, so nothing can be classified",
                f"`{stack.command('status')}` shows the runs; `droplens upload` begins one",
                ExitCode.NO_TARGET,
            ) from None
    try:
        bucket.head(layout.live_card_key(name))
    except ObjectMissing:
        raise CommandError(
            f"{name} has no live model",
            f"`{stack.command('status')}` shows the classifiers and their runs",
            ExitCode.NO_TARGET,
        ) from None
    return name


def drop(bucket: Bucket, paths: Sequence[Path], classifier: str, wanted: str) -> list[Dropped]:
    """Upload the photographs under keys of their own.

    wanted: the classifier that was named, "" for the default one, which only answers pictures
    that are in no folder.
    """
    now = datetime.now(UTC)
    mark = f"cli-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    place = f"{layout.INPUT}{wanted}/{mark}/" if wanted else f"{layout.INPUT}{mark}-"
    dropped = []
    for number, path in enumerate(paths, 1):
        name = _UNSAFE.sub("_", path.name)[-_LONGEST_NAME:]
        key = f"{place}{number:04}-{name}"
        dropped.append(Dropped(path, key, layout.result_key(key, classifier)))

    def put(one: Dropped) -> None:
        client: Any = bucket.client
        client.put_object(Bucket=bucket.name, Key=one.key, Body=one.path.read_bytes())

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(put, dropped))
    return dropped


def results(
    bucket: Bucket, dropped: Sequence[Dropped], timeout: float
) -> Iterator[tuple[Dropped, dict[str, Any]]]:
    """Each photograph's result as it arrives; ends after `timeout` seconds without a new one."""
    waiting = {one.result: one for one in dropped}
    heard, pause = time.monotonic(), SHORTEST_POLL
    with ThreadPoolExecutor(THREADS) as threads:
        while waiting and time.monotonic() - heard < timeout:
            found = list(threads.map(lambda key: _read(bucket, key), list(waiting)))
            for key, result in zip(list(waiting), found, strict=True):
                if result is not None:
                    yield waiting.pop(key), result
                    heard, pause = time.monotonic(), SHORTEST_POLL
            if waiting:
                time.sleep(pause)
                pause = min(1.5 * pause, LONGEST_POLL)


def _read(bucket: Bucket, key: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(bucket.read(key)[0])
    except ObjectMissing:
        return None
    return found
