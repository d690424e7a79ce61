"""Training images whose label may be wrong, and what people decide about them.

Each decision is a correction, also that the label is right: it is kept in the bucket, nobody is
asked again, and the next run takes it. Images that a correction has labelled are not asked about.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batch_prep.sources.ready_made_splits import TRAIN, VALIDATION
from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing
from droplens.domain.layout import DatasetSource
from droplens.domain.run import Run, RunKey
from droplens.report.suspects import typical_records
from droplens.state.packed import Span, find_spans, read_image
from droplens_console.data.training_images import copy_original, identity_of

# Of a list of 10,000 lines, the most, with names of files of at most 1,024 bytes.
_MOST_BYTES = 40 * 1024 * 1024
# A class name of an evaluation's 1,000,000 answers; it is read for the typical images only.
_MOST_EVALUATION = 512 * 1024 * 1024
_RUNS_KEPT = 4


class NoSuspects(LookupError):
    """The run has no list of suspects, or it does not have this record."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """One training image. record: in the training channel; name: of its file in the dataset;
    label: its class; likely: the most probable one; both probabilities are leave-one-out."""

    record: int
    name: str
    label: str
    likely: str
    probability: float
    likely_probability: float


@dataclass(slots=True)
class _OfRun:
    """What was read of a run. spans: of the suspects' images; typical: the span of a typical image
    in the validation channel by class."""

    dataset: DatasetSource
    suspects: Mapping[int, Suspect]
    classes: Sequence[str]
    spans: Mapping[int, Span] = field(default_factory=dict)
    typical: Mapping[str, Span] = field(default_factory=dict)


class SuspectDesk:
    """The suspects of runs in one bucket. Thread-safe.

    Every method raises NoSuspects for a run without suspects, and what `run` raises.
    """

    def __init__(self, bucket: Bucket, run: Callable[[RunKey], Run]) -> None:
        """run: reads a run's record."""
        self._bucket = bucket
        self._run = run
        self._lock = threading.Lock()
        self._runs: dict[RunKey, _OfRun] = {}

    def open(self, run: RunKey) -> tuple[list[Suspect], int]:
        """The suspects of the run that nobody has decided, the most suspicious first, and how many
        were decided. Raises NoSuspects."""
        found = self._of(run)
        decided = self._decided(run.classifier)
        left = [
            one
            for one in found.suspects.values()
            if self._file(found, run.classifier, one) not in decided
        ]
        return left, len(found.suspects) - len(left)

    def classes(self, run: RunKey) -> list[str]:
        """The classes of the run's dataset, in alphabetical order. Raises NoSuspects."""
        return sorted(self._of(run).classes)

    def image(self, run: RunKey, record: int) -> bytes:
        """The suspect's packed image, a JPEG. Raises NoSuspects."""
        return self._packed(run, TRAIN, self._of(run).spans.get(record))

    def typical(self, run: RunKey, label: str) -> bytes:
        """A typical image of a class: of those validated, the one predicted best.

        Raises NoSuspects where no image of the class was predicted correctly.
        """
        return self._packed(run, VALIDATION, self._of(run).typical.get(label))

    def decide(self, run: RunKey, record: int, label: str) -> None:
        """Keep that the image shows `label`: a class, or layout.NONE_CLASS.

        Raises NoSuspects, ValueError for another label, and OriginalMissing.
        """
        found, suspect = self._of(run), self._suspect(run, record)
        if label not in (*found.classes, layout.NONE_CLASS):
            raise ValueError(f"the dataset has no class {label!r}")
        classifier = run.classifier
        identity = identity_of(found.dataset, suspect.name)
        key = layout.correction_key(classifier, label, identity)
        copy_original(self._bucket, found.dataset, suspect.name, key)
        self._remove(classifier, self._file(found, classifier, suspect), but=key)

    def undo(self, run: RunKey, record: int) -> None:
        """Take the decision back: its correction is removed. Raises NoSuspects."""
        found, suspect = self._of(run), self._suspect(run, record)
        classifier = run.classifier
        self._remove(classifier, self._file(found, classifier, suspect), but=None)

    def _of(self, run: RunKey) -> _OfRun:
        with self._lock:  # the images of a page are requested at the same time
            if run not in self._runs:
                self._runs[run] = self._read(run)
                while len(self._runs) > _RUNS_KEPT:
                    del self._runs[next(iter(self._runs))]
            return self._runs[run]

    def _read(self, run: RunKey) -> _OfRun:
        dataset = DatasetSource(run.classifier, self._run(run).dataset["key"])
        classifier, run_id = run.classifier, run.run_id
        prefix = layout.packed_prefix(classifier, run_id)
        try:
            body, _ = self._bucket.read_at_most(
                layout.suspects_key(classifier, run_id), _MOST_BYTES
            )
            manifest = json.loads(self._bucket.read(f"{prefix}dataset.json")[0])
        except ObjectMissing:
            raise NoSuspects(
                f"run {run_id} has no list of suspects: its training has named no picture whose "
                "label may be wrong, or does not look for them"
            ) from None
        suspects = {
            one.record: one
            for one in map(_suspect, (body or b"").decode().splitlines())
            if not one.name.startswith(layout.CORRECTIONS)
        }
        try:
            spans = find_spans(self._bucket, prefix, TRAIN, suspects)
            typical = self._typical(run, {one.likely for one in suspects.values()})
        except ObjectMissing:
            raise NoSuspects(
                f"the packed pictures of run {run_id} were removed, as `droplens forget` does"
            ) from None
        return _OfRun(
            dataset=dataset,
            suspects=suspects,
            classes=manifest["classes"],
            spans=spans,
            typical=typical,
        )

    def _typical(self, run: RunKey, labels: set[str]) -> dict[str, Span]:
        classifier, run_id = run.classifier, run.run_id
        prefix = layout.packed_prefix(classifier, run_id)
        try:
            body, _ = self._bucket.read_at_most(
                layout.evaluation_key(classifier, run_id), _MOST_EVALUATION
            )
        except ObjectMissing:
            return {}
        records = typical_records(json.loads(body), sorted(labels)) if body else {}
        spans = find_spans(self._bucket, prefix, VALIDATION, set(records.values()))
        return {label: spans[record] for label, record in records.items() if record in spans}

    def _packed(self, run: RunKey, channel: str, span: Span | None) -> bytes:
        if span is None:
            raise NoSuspects(f"run {run.run_id} has no such image")
        prefix = layout.packed_prefix(run.classifier, run.run_id)
        return read_image(self._bucket, prefix, channel, span)

    def _suspect(self, run: RunKey, record: int) -> Suspect:
        try:
            return self._of(run).suspects[record]
        except KeyError:
            raise NoSuspects(f"run {run.run_id} has no suspect {record}") from None

    def _file(self, found: _OfRun, classifier: str, suspect: Suspect) -> str:
        """The file name of the suspect's correction, in whichever class."""
        identity = identity_of(found.dataset, suspect.name)
        key = layout.correction_key(classifier, suspect.label, identity)
        return key.rpartition("/")[2]

    def _decided(self, classifier: str) -> set[str]:
        """The file names of all corrections."""
        prefix = layout.corrections_prefix(classifier)
        return {entry.key.rpartition("/")[2] for entry in self._bucket.entries(prefix)}

    def _remove(self, classifier: str, file: str, but: str | None) -> None:
        """Remove the corrections of this file name in all classes but the one with the key `but`.

        Two that disagree would leave the image out (docs/datasets.md).
        """
        client: Any = self._bucket.client
        for entry in list(self._bucket.entries(layout.corrections_prefix(classifier))):
            if entry.key.rpartition("/")[2] == file and entry.key != but:
                client.delete_object(Bucket=self._bucket.name, Key=entry.key)


def _suspect(line: str) -> Suspect:
    found = json.loads(line)
    return Suspect(**{name: found[name] for name in Suspect.__dataclass_fields__})
