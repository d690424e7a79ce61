"""What is removed with an image, and which models were trained on it: as text, and for programs."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from batch_prep.sources.ready_made_splits import NONE, TEST, TRAIN, VALIDATION
from droplens.domain import layout
from droplens.domain.run import IN_PROGRESS, MAY_RETURN, Status
from droplens_cli.forget.removal import Removed
from droplens_cli.forget.traces import Packed, Traces
from droplens_cli.forget.versions import Version

# Keys of one kind that the text names.
_MOST_NAMED = 20
_PART = {
    TRAIN: "trained on it",
    VALIDATION: "validated on it",
    TEST: "tested on it",
    NONE: "judged familiarity by it",
}
WORDS = {
    "pictures": "pictures",
    "results": "results",
    "corrections": "corrections",
    "datasets": "equal files of datasets",
    "records": "packed records, all pictures in them",
    "reports": "report pages that show it",
    "inferred": "lists and rows of batch inference, written anew without it",
}


def plan(traces: Traces, *, with_datasets: bool) -> str:
    """What would be removed, what would stay, and which models have learned from the images."""
    there = _there(traces, with_datasets=with_datasets)
    parts = [part for kind, those in there.items() for part in _listed(WORDS[kind], those)]
    parts += [f"reviews: {len(traces.reviews):,}"] if traces.reviews else []
    return "\n".join(
        [*(parts or ["nothing is there"]), *stays(traces, with_datasets=with_datasets)]
    )


def done(outcome: Removed) -> str:
    """What was removed, a line for each kind."""
    lines = []
    for kind, those in outcome.removed.items():
        lines.append(f"removed: {WORDS[kind]}: {_counted(those)}")
    if outcome.reviews:
        lines.append(f"removed: reviews: {outcome.reviews:,}")
    return "\n".join(lines or ["nothing was there to remove"])


def stays(traces: Traces, *, with_datasets: bool) -> Iterator[str]:
    """Sentences on what is not removed: copies in datasets, models, runs that are not searched."""
    if traces.datasets and not with_datasets:
        keys = [one.key for one in traces.datasets if not one.is_marker]
        yield (
            f"equal files in datasets stay, the first {keys[0]}: the next run trains on them "
            "again; --datasets removes them too"
        )
    for packed in traces.packed:
        yield _of_run(packed)
    if live := sorted(
        {one.run.key.classifier for one in traces.packed if one.run.status is Status.LIVE}
    ):
        yield (
            f"no model forgets single pictures: train {', '.join(live)} anew without it, by a new "
            "_READY or `droplens upload --again`, and let that model replace the live one"
        )
    if archives := sorted({key for one in traces.packed if (key := _archive(one))}):
        yield f"{', '.join(archives)} may still have it: upload it anew without the picture"
    if traces.unsearched:
        first = traces.unsearched[0]
        yield (
            f"{len(traces.unsearched)} runs were packed by an earlier version and cannot be "
            f"searched for it, the first {first.classifier} {first.run_id}"
        )


def document(
    keys: Sequence[str], traces: Traces, outcome: Removed | None, *, with_datasets: bool
) -> dict[str, Any]:
    """The same for programs. outcome: None where nothing was to be removed."""
    there = _there(traces, with_datasets=with_datasets)
    kept = [] if with_datasets else traces.datasets
    return {
        "keys": list(keys),
        "dry_run": outcome is None,
        "found": {kind: _counts(those) for kind, those in there.items()},
        "removed": {kind: _counts(those) for kind, those in outcome.removed.items()}
        if outcome
        else {},
        "reviews": {
            "found": len(traces.reviews),
            "removed": outcome.reviews if outcome else 0,
        },
        "kept_copies": sorted({one.key for one in kept}),
        "runs": [
            {
                **one.run.key.as_key(),
                "status": one.run.status.value,
                "channels": one.channels,
                "dataset": one.run.dataset.get("key", ""),
            }
            for one in traces.packed
        ],
        "unsearched_runs": [run.as_key() for run in traces.unsearched],
        "left": outcome.left if outcome else [],
    }


def _there(traces: Traces, *, with_datasets: bool) -> dict[str, list[Version]]:
    copies = traces.copies(with_datasets=with_datasets)
    return {"pictures": traces.own, **traces.made, **copies}


def _of_run(packed: Packed) -> str:
    run, status = packed.run.key, packed.run.status
    parts = " and ".join(_PART.get(channel, channel) for channel in packed.channels)
    if status in MAY_RETURN and status is not Status.LIVE:
        more = "; a rollback can make it live again"
    elif status in IN_PROGRESS:
        more = "; its records are removed once it has ended"
    else:
        more = ""
    return f"{run.classifier}: run {run.run_id} ({status.value}) was {parts}{more}"


def _archive(packed: Packed) -> str | None:
    """The archive that the run was packed from; None where its files are objects of their own."""
    key = packed.run.dataset.get("key", "")
    return key if key and layout.DatasetSource("", key).folder is None else None


def _listed(words: str, those: Sequence[Version]) -> Iterator[str]:
    if not those:
        return
    yield f"{words}: {_counted(those)}"
    counts = _counts(those)
    for key in list(counts)[:_MOST_NAMED]:
        yield f"  {key}"
    if len(counts) > _MOST_NAMED:
        yield f"  … and {len(counts) - _MOST_NAMED:,} more"


def _counted(those: Sequence[Version]) -> str:
    keys = len({one.key for one in those})
    return f"{keys:,} {'key' if keys == 1 else 'keys'}, {len(those):,} with all versions"


def _counts(those: Sequence[Version]) -> dict[str, int]:
    """The number of versions, delete markers included, by key."""
    return dict(Counter(one.key for one in those))
