"""Datasets that a browser has dropped: received into a temporary folder, checked, and uploaded.

The check and the upload are those of `droplens upload`: every picture is decoded as the packing job
does, and the object that completes the dataset is written last.
"""

import secrets
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError

from batch_prep.sources.entries import UnsafePath, safe_parts
from droplens.domain.run import RunKey
from droplens_cli.aws_errors import explained
from droplens_cli.errors import CommandError, ExitCode
from droplens_cli.folder_check import DEFAULTS, check, local_dataset, unreadable
from droplens_cli.upload import Upload
from droplens_console.stack import ConsoleStack

# Of the disk that a dropped dataset must leave free.
_LEFT_FREE = 2 * 1024**3
# Files beside the pictures: lists and what systems write.
_FURTHER_FILES = 1000


class Step(StrEnum):
    """Where a dropped dataset stands."""

    RECEIVING = "receiving"
    CHECKING = "checking"
    CHECKED = "checked"
    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the page shows. done, total: of the current step, total None where not known.

    manifest: dataset.json as packing would write it; others: objects that the dataset has in the
    bucket beside these files; run: that the upload has begun; is_new: whether it has; error,
    next_step: why it failed.
    """

    step: Step = Step.RECEIVING
    classifier: str = ""
    done: int = 0
    total: int | None = None
    manifest: Mapping[str, Any] | None = None
    others: int = 0
    run: RunKey | None = None
    is_new: bool = False
    error: str = ""
    next_step: str = ""


@dataclass(slots=True)
class DatasetDrop:
    """One dropped dataset. name: in addresses. Its folder goes with the object, or the program."""

    stack: ConsoleStack
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    state: State = State()
    _folder: TemporaryDirectory[str] = field(
        default_factory=lambda: TemporaryDirectory(prefix="droplens-drop-")
    )
    _bytes: int = 0
    _files: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def folder(self) -> Path:
        """The temporary folder with what was received."""
        return Path(self._folder.name)

    def receive(self, path: str) -> "Receiving":
        """A place for one file. path: within the dataset. Raises CommandError for one that leads
        out of it, or that is too much."""
        try:
            parts = safe_parts(path)
        except UnsafePath as error:
            raise _bad(f"{path!r} cannot be a file of a dataset: {error}") from None
        if not parts:
            raise _bad("a file without a name")
        most = int(self.stack.parameters.get("MaxDatasetPictures", DEFAULTS["MaxDatasetPictures"]))
        with self._lock:
            if self.state.step not in (Step.RECEIVING, Step.CHECKED, Step.FAILED):
                raise _bad(f"the dataset is {self.state.step}: no file can be added")
            self.state = replace(self.state, step=Step.RECEIVING)  # what was checked is not all
            self._files += 1
            if self._files > most + _FURTHER_FILES:
                raise _bad(f"more than {most:,} files")
        return Receiving(self, self.folder.joinpath(*parts))

    def took(self, count: int) -> None:
        """Count received bytes. Raises CommandError where they are too many."""
        gib = int(self.stack.parameters.get("MaxDatasetGiB", DEFAULTS["MaxDatasetGiB"]))
        with self._lock:
            self._bytes += count
            if self._bytes > gib * 1024**3:
                raise _bad(f"the dataset has more than {gib} GiB")
        if shutil.disk_usage(self.folder).free < _LEFT_FREE:
            raise _bad(
                "this machine's disk is full: the dataset is kept there until it is uploaded",
                "`droplens upload` sends a folder without a copy",
            )

    def check(self, classifier: str) -> None:
        """Begin the check in a thread."""
        self._begin(
            Step.CHECKING,
            (Step.RECEIVING, Step.CHECKED, Step.FAILED),
            lambda: self._check(classifier),
            classifier=classifier,
            manifest=None,
        )

    def upload(self) -> None:
        """Begin the upload of the checked dataset in a thread."""
        self._begin(Step.UPLOADING, (Step.CHECKED,), self._upload)

    def remove(self) -> None:
        """Delete the temporary folder."""
        self._folder.cleanup()

    def _begin(
        self, step: Step, after: tuple[Step, ...], act: Callable[[], None], **changes: Any
    ) -> None:
        with self._lock:
            if self.state.step not in after:
                raise _bad(f"the dataset is {self.state.step}")
            self.state = replace(
                self.state, step=step, done=0, total=None, error="", next_step="", **changes
            )
        threading.Thread(target=self._run, args=(act,), name=step.value, daemon=True).start()

    def _run(self, act: Callable[[], None]) -> None:
        try:
            act()
        except CommandError as error:
            self._note(step=Step.FAILED, error=error.sentence, next_step=error.next_step)
        except (BotoCoreError, ClientError) as error:
            sentence, next_step = explained(error)
            self._note(step=Step.FAILED, error=sentence, next_step=next_step)
        except OSError as error:
            self._note(step=Step.FAILED, error=str(error))
        except Exception as error:  # else no other dataset could be dropped
            self._note(step=Step.FAILED, error=str(error) or type(error).__name__)
            raise

    def _note(self, **changes: Any) -> None:
        with self._lock:
            self.state = replace(self.state, **changes)

    def _check(self, classifier: str) -> None:
        local_dataset(self.folder, classifier)  # names that cannot be keys, before all the work

        def report(_: str, done: int, total: int | None) -> None:
            self._note(done=done, total=total)

        manifest = check(self.folder, classifier, self.stack.parameters, report)
        dataset = local_dataset(self.folder, classifier, _left_out(manifest))
        others = len(Upload(self.stack.bucket, dataset).others())
        self._note(step=Step.CHECKED, manifest=manifest, others=others)

    def _upload(self) -> None:
        state = self.state
        assert state.manifest is not None
        dataset = local_dataset(self.folder, state.classifier, _left_out(state.manifest))
        self._note(total=len(dataset.files))
        sent = 0

        def done(_: Any) -> None:
            nonlocal sent
            sent += 1
            self._note(done=sent)

        outcome = Upload(self.stack.bucket, dataset).send(done, again=False)
        self._note(step=Step.UPLOADED, run=outcome.run, is_new=outcome.is_new)
        self.remove()


class Receiving:
    """A file that is being received; it is there when `close` was called, else not at all."""

    def __init__(self, drop: DatasetDrop, path: Path) -> None:
        self._drop = drop
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._beside = path.with_name(f".{secrets.token_hex(8)}.part")
            self._file: BinaryIO = self._beside.open("xb")
        except OSError as error:
            raise _bad(f"{path.name!r} cannot be written here: {error.strerror}") from None

    def write(self, data: bytes) -> None:
        """Append bytes. Raises CommandError where the dataset is too large."""
        self._drop.took(len(data))
        self._file.write(data)

    def close(self) -> None:
        """The file is complete."""
        self._file.close()
        try:
            self._beside.replace(self._path)
        except OSError as error:
            raise _bad(f"{self._path.name!r} cannot be written here: {error.strerror}") from None

    def discard(self) -> None:
        """The file was not received."""
        self._file.close()
        self._beside.unlink(missing_ok=True)


class DatasetDrops:
    """The dropped dataset of a console: one at a time."""

    def __init__(self, stack: ConsoleStack) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        self._current: DatasetDrop | None = None

    def begin(self) -> DatasetDrop:
        """Receive another dataset; the one before is forgotten.

        Raises CommandError while that is checked or uploaded.
        """
        with self._lock:
            current = self._current
            if current and current.state.step in (Step.CHECKING, Step.UPLOADING):
                raise _bad(f"another dataset is {current.state.step}", "wait for its end")
            if current:
                current.remove()
            self._current = DatasetDrop(self._stack)
            return self._current

    def get(self, name: str) -> DatasetDrop:
        """The dataset of this name. Raises LookupError."""
        with self._lock:
            if self._current is None or self._current.name != name:
                raise LookupError("there is no such dataset any more: drop it again")
            return self._current

    def close(self) -> None:
        """Delete what was received."""
        with self._lock:
            if self._current is not None:
                self._current.remove()
                self._current = None


def _left_out(manifest: Mapping[str, Any]) -> list[str]:
    return [entry["name"] for entry in unreadable(manifest)]


def _bad(sentence: str, next_step: str = "") -> CommandError:
    return CommandError(sentence, next_step, ExitCode.BAD_INPUT)
