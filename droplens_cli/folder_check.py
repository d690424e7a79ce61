"""Checks a dataset on this machine before it is uploaded, by the code that packs it in the cloud.

Every picture is read, decoded and resized as the packing job does; only the records are not kept.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, cast

from batch_prep import job
from batch_prep.errors import JobError
from batch_prep.options import Options, Step
from batch_prep.progress import Report
from batch_prep.shards.merge import MANIFEST
from batch_prep.shards.worker import Packer
from batch_prep.sources.archives import ArchiveLimits
from batch_prep.sources.entries import File, is_system_path
from batch_prep.sources.folders import open_source
from batch_prep.sources.guard import Guard
from batch_prep.storage.folder import Span
from batch_prep.storage.local import LocalFolder
from droplens.domain import layout
from droplens.imaging.prepare import Limits, Preprocessing
from droplens_cli.errors import CommandError, ExitCode

# The stack's parameters that limit a dataset, with the template's defaults.
DEFAULTS = {
    "ValidationShare": "0.2",
    "MaxBadShare": "0.2",
    "MaxDatasetPictures": "1000000",
    "MaxDatasetGiB": "256",
}
_BAD_IMAGE = "image."


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to upload. key: below the dataset's prefix; bytes: its size."""

    path: Path
    key: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalDataset:
    """A dataset on this machine.

    archive: the one file that it consists of, or None; files: what a folder consists of, without
    what the upload puts last; last: the label list that completes a folder, None for the marker.
    """

    classifier: str
    archive: LocalFile | None
    files: tuple[LocalFile, ...]
    last: LocalFile | None

    @property
    def completing_key(self) -> str:
        """The key of the object that completes the dataset."""
        if self.archive is not None:
            return self.archive.key
        return self.last.key if self.last else f"{self.prefix}{layout.READY_MARKER}"

    @property
    def prefix(self) -> str:
        """The prefix of a folder's files."""
        return f"{layout.DATASETS}{self.classifier}/"

    @property
    def every(self) -> tuple[LocalFile, ...]:
        """All files, the completing one last."""
        return (*self.files, *filter(None, [self.archive, self.last]))


def local_dataset(source: Path, classifier: str, unreadable: Sequence[str] = ()) -> LocalDataset:
    """The files of the dataset at `source`, a folder or an archive.

    unreadable: names that are left out. Raises CommandError where there is none, or where a file's
    name cannot be a key of S3.
    """
    if not layout.is_classifier_name(classifier):
        raise CommandError(
            f"{classifier!r} cannot be a classifier's name",
            "use lower-case letters, digits and '-', at most 31 characters: --as cars",
            ExitCode.USAGE,
        )
    if not source.exists():
        raise CommandError(f"{source} does not exist", code=ExitCode.BAD_INPUT)
    if source.is_file():
        return _archive(source, classifier)
    prefix = f"{layout.DATASETS}{classifier}/"
    lists = [name for name in layout.LABEL_LISTS if (source / name).is_file()]
    with _as_command_error():
        kept = set(_names(source)) - set(unreadable)
    files = [_file(source / name, f"{prefix}{name}") for name in sorted(kept)]
    last = next(
        (one for one in files if one.path.name in lists and one.path.parent == source), None
    )
    return LocalDataset(
        classifier=classifier,
        archive=None,
        files=tuple(one for one in files if one is not last),
        last=last,
    )


def check(
    source: Path, classifier: str, parameters: Mapping[str, str], report: Report
) -> dict[str, Any]:
    """The manifest dataset.json that the packing job would write for this dataset.

    parameters: the stack's; report: gets (stage, done, total). Raises CommandError where the
    dataset would be refused.
    """
    chosen = {**DEFAULTS, **{name: parameters[name] for name in DEFAULTS if name in parameters}}
    packer = Packer(Preprocessing(shorter_side=256), Limits(), os.cpu_count() or 1)
    logging.getLogger("batch_prep").setLevel(logging.CRITICAL)  # the manifest has its warnings
    with TemporaryDirectory(prefix="droplens-") as folder:
        options = Options(
            step=Step.ALL,
            shards=None,
            shard=None,
            source=str(source),
            destination=folder,
            preprocessing=packer.preprocessing,
            validation=float(chosen["ValidationShare"]),
            seed=0,
            max_bad=float(chosen["MaxBadShare"]),
            guard=Guard(int(chosen["MaxDatasetPictures"]), int(chosen["MaxDatasetGiB"])),
            classifier=classifier,
            run_id="check",
            runs_table=None,
            workers=packer.workers,
        )
        destination = _WithoutRecords(Path(folder))
        with _as_command_error(), packer.worker_pool() as pool:
            job.run(options, destination, packer, pool, report)
        manifest: dict[str, Any] = json.loads(destination.read(MANIFEST))
        continued = manifest.get("continued", {}).get("skipped")
        if continued:
            lines = destination.read(continued).decode().splitlines()
            manifest["skipped"] = [json.loads(line) for line in lines]
    return manifest


def unreadable(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    """The entries of the files that were meant to be pictures and cannot be read."""
    return [entry for entry in manifest["skipped"] if entry["code"].startswith(_BAD_IMAGE)]


class _WithoutRecords(LocalFolder):
    """A folder that keeps every file but the records."""

    @contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        """A file to write sequentially."""
        if path.endswith(".rec"):
            yield cast(BinaryIO, _Nowhere())
            return
        with super().writer(path) as file:
            yield file

    def concatenate(self, path: str, spans: Sequence[Span]) -> None:
        """Nothing: the parts were not kept."""


class _Nowhere:
    """A file whose content is not kept."""

    def write(self, data: bytes) -> int:
        return len(data)


@contextmanager
def _as_command_error() -> Iterator[None]:
    try:
        yield
    except JobError as error:
        raise CommandError(
            str(error),
            "nothing was uploaded; correct it and repeat the command",
            ExitCode.BAD_INPUT,
        ) from None


def _archive(source: Path, classifier: str) -> LocalDataset:
    ending = next((one for one in layout.ARCHIVE_SUFFIXES if source.name.endswith(one)), None)
    if ending is None:
        raise CommandError(
            f"{source} is neither a folder nor an archive of {', '.join(layout.ARCHIVE_SUFFIXES)}",
            "name the folder that has one folder of pictures per class",
            ExitCode.BAD_INPUT,
        )
    key = f"{layout.DATASETS}{classifier}{ending}"
    return LocalDataset(classifier=classifier, archive=_file(source, key), files=(), last=None)


def _names(source: Path) -> Iterator[str]:
    """The names of the files that belong to the dataset, with "/".

    Of class folders those that may be pictures; of any other kind all that are not hidden.
    """
    limits = ArchiveLimits(max_member_bytes=Limits().max_bytes)
    with open_source(str(source), limits, int(DEFAULTS["MaxDatasetPictures"])) as opened:
        if not opened.listed:
            yield from (entry.name for entry in opened.entries() if isinstance(entry, File))
            return
    for listed in LocalFolder(source).list():
        if not listed.path.endswith("/") and not is_system_path(tuple(listed.path.split("/"))):
            yield listed.path


def _file(path: Path, key: str) -> LocalFile:
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        length = layout.MAX_KEY_BYTES + 1
    if length > layout.MAX_KEY_BYTES or not path.is_file():
        shown = key.encode("utf-8", "replace").decode()
        raise CommandError(
            f"the file name {shown[:200]!r} cannot be a key of S3: it is not UTF-8, or longer than "
            f"{layout.MAX_KEY_BYTES:,} bytes",
            "rename the file; nothing was uploaded",
            ExitCode.BAD_INPUT,
        )
    return LocalFile(path, key, path.stat().st_size)
