"""Merge packed shards into one dataset, without the images that must not be in it.

Records are copied within S3. The manifest dataset.json is written last: it makes the dataset
complete.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np

from batch_prep.manifest import write as reports
from batch_prep.manifest.dataset import Dataset, SkippedFiles, Table, assemble, check_classes
from batch_prep.options import Options
from batch_prep.shards.channel_lists import ChannelLists, Written, write_small
from batch_prep.shards.files import PackedImage, Shard, Skipped, packed_shards
from batch_prep.shards.split import Reading
from batch_prep.storage.folder import Folder, Span, together
from droplens.domain.layout import DIGESTS_LIST
from droplens.records.digests import digest_line

MANIFEST = "dataset.json"
FAILURE = "failure.json"
CLASSES = "classes.json"

# dataset.json has the others.
_MOST_LOGGED = 20

_LOG = logging.getLogger(__name__)


def merge(options: Options, destination: Folder, shards: int) -> None:
    """Merge `shards` packed shards. Raises JobError where they are no complete, usable dataset."""
    started = time.monotonic()
    packed, reading = packed_shards(destination, shards)
    dataset = _read(destination, packed, reading, options.max_bad)
    named = _named_rows(dataset)
    rows = enumerate(_images(destination, packed))
    check_classes(dataset, lambda: {row: one.name for row, one in rows if row in named})
    with ThreadPoolExecutor(1) as pool:
        listed = pool.submit(write_small, destination, CLASSES, to_json(reading.classes))
        names, written = _write_channels(destination, packed, dataset, reading.channels, named)
        written[CLASSES] = listed.result()
    seconds = time.monotonic() - started
    report = reports.manifest(options, dataset, reading, names, written, shards, seconds)
    report, lists = reports.split(report)
    for path, entries in lists.items():
        with destination.writer(path) as lines:
            for entry in entries:
                lines.write(_json_line(entry))
    destination.write(MANIFEST, to_json(report))
    tidy(destination, packed)
    counts = " ".join(f"{name}={count}" for name, count in report["counts"].items())
    _LOG.info("read as %s", reading.read_as)
    for warning in report["warnings"][:_MOST_LOGGED]:
        _LOG.warning("%s", warning)
    _LOG.info("packed classes=%d %s", len(reading.classes), counts)


def tidy(destination: Folder, packed: Iterable[Shard]) -> None:
    """Remove the shards' files, and the failure that an earlier attempt reported."""
    destination.remove([FAILURE, *chain.from_iterable(shard.paths() for shard in packed)])


def to_json(value: object) -> bytes:
    """Indented JSON in UTF-8, as in all JSON files of a dataset."""
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


def _json_line(entry: object) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"


def _read(
    destination: Folder,
    shards: Iterable[Shard],
    reading: Reading,
    max_bad: float,
) -> Dataset:
    table, skipped = Table(), SkippedFiles(reports.MOST_LISTED)
    for shard in shards:
        for row in shard.report(destination):
            if isinstance(row, Skipped):
                skipped.add(row)
            else:
                table.add(shard.number, row)
    is_split = reading.given is not None
    return assemble(reading.classes, table, skipped, max_bad, is_split=is_split)


def _images(
    destination: Folder, shards: Iterable[Shard], skip: Callable[[Skipped], None] = lambda _: None
) -> Iterator[PackedImage]:
    """Every packed image, in the order of the table's rows; `skip` is called for the others."""
    for shard in shards:
        for row in shard.report(destination):
            if isinstance(row, PackedImage):
                yield row
            else:
                skip(row)


def _named_rows(dataset: Dataset) -> set[int]:
    """The rows of the images that the manifest names one by one."""
    groups = chain(
        dataset.duplicates,
        dataset.conflicts,
        dataset.near,
        dataset.near_conflicts,
        dataset.overruled,
    )
    return set(chain.from_iterable(groups))


def _write_channels(
    destination: Folder,
    shards: Sequence[Shard],
    dataset: Dataset,
    channels: Sequence[str],
    named: set[int],
) -> tuple[dict[int, str], dict[str, Written]]:
    """Write every channel's files. Returns the image names of the rows `named`, and the files."""
    paths = {channel: f"{channel}/{channel}" for channel in channels}
    files = [
        destination.writer(path + kind) for path in paths.values() for kind in (".idx", ".lst")
    ]
    files.append(destination.writer(DIGESTS_LIST))
    lists_skipped = dataset.skipped.total > len(dataset.skipped.first)
    if lists_skipped:
        files.append(destination.writer(reports.SKIPPED))
    names: dict[int, str] = {}
    written: dict[str, Written] = {}
    with ThreadPoolExecutor(len(channels)) as pool:
        copies = []
        for channel, path in paths.items():
            spans = [
                Span(shards[shard].path(f"{channel}.rec"), start, end)
                for shard, start, end in _runs(dataset.rows, dataset.in_channel(channel))
            ]
            copies.append(pool.submit(destination.concatenate, f"{path}.rec", spans))
            written[f"{path}.rec"] = Written(sum(span.length for span in spans), None)
        with together(*files) as opened:
            lists = {
                channel: ChannelLists(*opened[2 * index : 2 * index + 2])
                for index, channel in enumerate(channels)
            }
            digests = opened[2 * len(channels)]

            def skip(skipped: Skipped) -> None:
                if lists_skipped:
                    opened[-1].write(_json_line(reports.skipped_entry(skipped)))

            for row, image in enumerate(_images(destination, shards, skip)):
                if row in named:
                    names[row] = image.name
                if dataset.kept[row]:
                    lists[image.channel].add(image)
                    digests.write(digest_line(image.sha256, image.channel, image.id))
        for copy in copies:
            copy.result()
    for channel, path in paths.items():
        written |= lists[channel].written(path)
    return names, written


def _runs(rows: np.ndarray, where: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Shard, start and end of each range of bytes in which these rows' records are contiguous."""
    shards, starts = rows["shard"][where], rows["start"][where]
    if not len(shards):
        return
    ends = starts + rows["length"][where]
    firsts = np.flatnonzero(np.r_[True, (shards[1:] != shards[:-1]) | (starts[1:] != ends[:-1])])
    lasts = np.r_[firsts[1:] - 1, len(shards) - 1]
    for first, last in zip(firsts, lasts, strict=True):
        yield int(shards[first]), int(starts[first]), int(ends[last])
