"""Finds what was made from an image: results, corrections, copies, records, rows, report pages.

Copies are found by their bytes, whatever their names are. A file of the same size is read and
compared by its SHA-256, since an ETag is no digest of the content where a key encrypts the bucket
(S3 API Reference, "Object"). Records are found in the lists of digests that packing writes.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from batch_prep.sources.ready_made_splits import TRAIN, VALIDATION
from droplens.aws.s3 import Bucket
from droplens.classify.former_results import MAX_RESULT_BYTES
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing
from droplens.domain.review import Review
from droplens.domain.run import IN_PROGRESS, Run, RunKey
from droplens.records.digests import PackedFrom, find, shortened
from droplens.report.gallery import wanted
from droplens.report.suspects import SHOWN, typical_records
from droplens.state.reviews import Reviews
from droplens_cli.errors import CommandError, ExitCode
from droplens_cli.forget import inferred
from droplens_cli.forget import versions as stored
from droplens_cli.forget.versions import Version
from droplens_cli.session import CONNECTIONS

_PREFIXES = (layout.INPUT, layout.CORRECTIONS, layout.DATASETS)


@dataclass(frozen=True, slots=True)
class Packed:
    """A run whose packed data has the image. found: its records, of which there is one at least."""

    run: Run
    found: tuple[PackedFrom, ...]

    @property
    def channels(self) -> list[str]:
        """The names of the channels that have it, sorted."""
        return sorted({one.channel for one in self.found})


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What there is of some images, and of what was made from them.

    own: versions of the keys themselves; reviews: rows of the review queue; datasets: equal files
    below datasets/ under other keys; records: of runs that have ended; reports: those that show it;
    packed: all runs that have it; unsearched: runs that an earlier version packed, whose records
    cannot be searched; packing: runs in progress that may be packing it, without records yet;
    inferred: lists and rows of batch inference that name it.
    """

    own: list[Version]
    results: list[Version] = field(default_factory=list)
    reviews: list[Review] = field(default_factory=list)
    corrections: list[Version] = field(default_factory=list)
    datasets: list[Version] = field(default_factory=list)
    records: list[Version] = field(default_factory=list)
    reports: list[Version] = field(default_factory=list)
    packed: list[Packed] = field(default_factory=list)
    unsearched: list[RunKey] = field(default_factory=list)
    packing: list[RunKey] = field(default_factory=list)
    inferred: list[Version] = field(default_factory=list)

    @property
    def made(self) -> dict[str, list[Version]]:
        """What was made from the images and can be removed now, by kind; without copies."""
        return {
            "results": self.results,
            "records": self.records,
            "reports": self.reports,
            "inferred": self.inferred,
        }

    def copies(self, *, with_datasets: bool) -> dict[str, list[Version]]:
        """Copies that are to be removed with the images, by kind."""
        return {
            "corrections": self.corrections,
            "datasets": self.datasets if with_datasets else [],
        }

    @property
    def in_progress(self) -> list[RunKey]:
        """The runs in progress that have the image, or may be packing it."""
        going = [one.run.key for one in self.packed if one.run.status in IN_PROGRESS]
        return sorted({*going, *self.packing}, key=lambda run: (run.classifier, run.run_id))


def keys_of(bucket: Bucket, wanted_key: str) -> list[str]:
    """The key itself, or every key below a prefix that ends in "/", deleted ones included.

    Raises CommandError for what is no image below input/, corrections/ or datasets/.
    """
    if not wanted_key.startswith(_PREFIXES) or wanted_key in _PREFIXES:
        raise CommandError(
            f"{wanted_key} names no picture",
            f"name a key or, with a slash at its end, a folder below {', '.join(_PREFIXES)}",
            ExitCode.USAGE,
        )
    if not wanted_key.endswith("/"):
        keys = [wanted_key]
    else:
        found = (one.key for one in stored.versions(bucket, wanted_key))
        keys = [key for key in dict.fromkeys(found) if not key.endswith("/")]
    for key in keys:
        if layout.dataset_source(key) is not None:
            raise CommandError(
                f"{key} completes a dataset and is no picture",
                "droplens finds no picture in an archive or a list: upload it anew without the "
                "picture, then forget the picture where it is a file of its own",
                ExitCode.USAGE,
            )
    return keys


class Finder:
    """Finds traces in a stack.

    reviews: None where it has none; runs: all of its runs, read anew at every call.
    """

    def __init__(
        self, bucket: Bucket, reviews: Reviews | None, runs: Callable[[], list[Run]]
    ) -> None:
        self.bucket = bucket
        self.reviews = reviews
        self.runs = runs
        self._digests = stored.Digests(bucket)

    def find(self, keys: Sequence[str]) -> Traces:
        """What there is of these images now."""
        own = stored.versions_of_each(self.bucket, keys)
        runs = self.runs()
        results = self._results(keys, {run.key.classifier for run in runs})
        digests = frozenset(self._digests.of_each(own).values())
        sizes = frozenset(one.bytes for one in own if not one.is_marker)
        marks = frozenset(map(layout.correction_mark, keys))

        def copies(prefix: str) -> list[Version]:
            return self._copies(prefix, frozenset(keys), digests, sizes, marks)

        corrections, datasets = copies(layout.CORRECTIONS), copies(layout.DATASETS)
        labelled = [
            *corrections,
            *datasets,
            *(o for o in own if not o.key.startswith(layout.INPUT)),
        ]
        packed, unsearched, packing = self._packed(
            runs, digests, {_classifier(o) for o in labelled}
        )
        ended = [one for one in packed if one.run.status not in IN_PROGRESS]
        return Traces(
            own=own,
            results=results,
            reviews=self._reviews(keys),
            corrections=corrections,
            datasets=datasets,
            records=[version for one in ended for version in self._records(one)],
            reports=[version for one in packed for version in self._report(one)],
            packed=packed,
            unsearched=unsearched,
            packing=packing,
            inferred=inferred.find(self.bucket, keys),
        )

    def _results(self, keys: Sequence[str], classifiers: set[str]) -> list[Version]:
        """The results of all classifiers for these keys, also former ones of the default one."""
        known = classifiers | {
            name for name in self.bucket.level(layout.RESULTS) if isinstance(name, str)
        }
        places = [
            (key, place)
            for key in keys
            if layout.is_image_key(key)
            for classifier in sorted(known)
            for place in (
                layout.result_key(key, classifier),
                layout.other_result_key(key, classifier),
            )
        ]

        def of_image(place: tuple[str, str]) -> list[Version]:
            there = stored.versions_of(self.bucket, place[1])
            own = {one for one in there if self._names(one, place[0])}
            return stored.with_markers(there, own)

        with ThreadPoolExecutor(CONNECTIONS) as threads:
            return [version for found in threads.map(of_image, places) for version in found]

    def _reviews(self, keys: Sequence[str]) -> list[Review]:
        if self.reviews is None:
            return []
        return [review for key in keys for review in self.reviews.of_image(key)]

    def remove_reviews(self, those: Sequence[Review]) -> None:
        """Remove what `find` has found of the review queue."""
        for review in those:
            assert self.reviews is not None  # else none was found
            self.reviews.remove(review)

    def _names(self, result: Version, key: str) -> bool:
        """Whether a version of a result is one of the image `key`: two images may share a place."""
        if result.is_marker or result.bytes > MAX_RESULT_BYTES:
            return False
        try:
            parts = stored.parts(self.bucket, result)
            return parts is not None and json.loads(b"".join(parts))["image"]["key"] == key
        except (ValueError, TypeError, LookupError, RecursionError):
            return False

    def _copies(
        self,
        prefix: str,
        keys: frozenset[str],
        digests: frozenset[str],
        sizes: frozenset[int],
        marks: frozenset[str],
    ) -> list[Version]:
        """Files below `prefix` with the images' bytes, and corrections named after them."""
        chosen: set[Version] = set()
        by_size: list[Version] = []
        for one in stored.versions(self.bucket, prefix):
            if one.key in keys or one.is_marker:
                continue
            mark = one.key.rpartition("/")[2].partition("-")[0]
            if prefix == layout.CORRECTIONS and mark in marks:
                chosen.add(one)
            elif one.bytes in sizes:
                by_size.append(one)
        for one, digest in self._digests.of_each(by_size).items():
            if digest in digests:
                chosen.add(one)
        there = [v for key in {o.key for o in chosen} for v in stored.versions_of(self.bucket, key)]
        return sorted(stored.with_markers(there, chosen), key=lambda one: one.key)

    def _packed(
        self, runs: Sequence[Run], digests: frozenset[str], labelled: set[str]
    ) -> tuple[list[Packed], list[RunKey], list[RunKey]]:
        """Runs that have the images, runs that cannot be searched, and runs that may pack them.

        labelled: classifiers that have a labelled copy.
        """
        short = frozenset(map(shortened, digests))
        packed, unsearched, packing = [], [], []
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            for run, found in zip(
                runs, threads.map(lambda run: self._records_of(run.key, short), runs), strict=True
            ):
                if found:
                    packed.append(Packed(run, found))
                elif found is None and run.status in IN_PROGRESS and run.key.classifier in labelled:
                    packing.append(run.key)
                elif found is None and self._is_packed(run.key):
                    unsearched.append(run.key)
        return packed, unsearched, packing

    def _records_of(self, run: RunKey, digests: frozenset[str]) -> tuple[PackedFrom, ...] | None:
        """The run's records of these files; None where it has no list."""
        try:
            body = self.bucket.stream(layout.digests_key(run.classifier, run.run_id))
        except ObjectMissing:
            return None
        with body:
            return tuple(find(body.iter_lines(), digests))

    def _is_packed(self, run: RunKey) -> bool:
        try:
            self.bucket.head(f"{layout.packed_prefix(run.classifier, run.run_id)}dataset.json")
        except ObjectMissing:
            return False
        return True

    def _records(self, packed: Packed) -> Iterator[Version]:
        """The record files that have the image: they are removed whole."""
        run = packed.run.key
        prefix = layout.packed_prefix(run.classifier, run.run_id)
        for channel in packed.channels:
            yield from stored.versions_of(self.bucket, f"{prefix}{channel}/{channel}.rec")
        yield from stored.versions(self.bucket, layout.shards_prefix(run.classifier, run.run_id))

    def _report(self, packed: Packed) -> list[Version]:
        """The run's report page, if it shows the image."""
        run = packed.run.key
        pages = stored.versions_of(self.bucket, layout.report_key(run.classifier, run.run_id))
        return pages if pages and self._is_shown(packed) else []

    def _is_shown(self, packed: Packed) -> bool:
        """As droplens.report.publish chooses the images of the page; also where that is unknown."""
        run = packed.run.key
        try:
            body, _ = self.bucket.read(layout.evaluation_key(run.classifier, run.run_id))
        except ObjectMissing:
            return True
        evaluation: dict[str, Any] = json.loads(body)
        try:
            lines, _ = self.bucket.read(layout.suspects_key(run.classifier, run.run_id))
        except ObjectMissing:
            lines = b""
        suspects = [json.loads(line) for line in lines.splitlines()[:SHOWN]]
        likely = typical_records(evaluation, [entry["likely"] for entry in suspects])
        shown = {
            TRAIN: {entry["record"] for entry in suspects},
            VALIDATION: {*wanted(evaluation), *likely.values()},
        }
        return any(one.record in shown.get(one.channel, ()) for one in packed.found)


def _classifier(labelled: Version) -> str:
    """The classifier that a file below corrections/ or datasets/ is for."""
    return labelled.key.split("/")[1]
