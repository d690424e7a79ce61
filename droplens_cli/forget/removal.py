"""Removes images and what was made from them, in an order that bears interruption and late work.

1. Delete markers hide the images and their copies: nothing begins to classify or to pack them.
2. What was made from them is removed; lists and rows of batch inference are written anew.
3. Classifications that had read an image may store their results: they are waited for.
4. All is looked for again, until a look finds nothing.
5. While a run is in progress that may have an image, the hidden versions stay: by their bytes it is
   found in the run's records. Then copies are removed, and the images' own versions last.

So an interrupted removal is completed by the same command, and a repeated one does nothing.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens_cli.forget import inferred
from droplens_cli.forget import versions as stored
from droplens_cli.forget.traces import Finder, Traces
from droplens_cli.forget.versions import Version

# The timeout of classify_image, which reads an image at its beginning.
LATE_RESULT_SECONDS = 120
_MOST_LOOKS = 5


def settle() -> None:
    """Wait until no classification that has read an image can store its result."""
    print(
        "the pictures are hidden; waiting for classifications that have begun, "
        f"{LATE_RESULT_SECONDS} s",
        file=sys.stderr,
        flush=True,
    )
    time.sleep(LATE_RESULT_SECONDS)


def settle_nothing() -> None:
    """Do not wait: a result that is stored later is found by the same command."""


def confirmed(key: str) -> bool:
    """Whether the user confirms: a folder's key is typed."""
    try:
        if key.endswith("/"):
            return input(f"Type the folder to remove all of this ({key}): ").strip() == key
        return input("Remove all of this? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


@dataclass(slots=True)
class Removed:
    """The outcome of a removal.

    removed: versions by kind, "pictures" for the images' own; reviews: how many were removed; left:
    sentences on what is still there, and why.
    """

    removed: dict[str, list[Version]] = field(default_factory=dict)
    reviews: int = 0
    left: list[str] = field(default_factory=list)

    def add(self, kind: str, those: Sequence[Version], refused: Sequence[str]) -> None:
        """Note versions that were removed, and what S3 refused."""
        if those:
            self.removed.setdefault(kind, []).extend(those)
        self.left += refused


def remove(
    finder: Finder,
    keys: Sequence[str],
    found: Traces,
    *,
    with_datasets: bool,
    settle: Callable[[], None],
) -> Removed:
    """Remove the images `keys` and what was made from them.

    found: their traces, as the user has seen them; with_datasets: equal files of datasets too;
    settle: waits until no classification that has read one of the images can store its result.
    """
    bucket, outcome, traces = finder.bucket, Removed(), found
    for _ in range(_MOST_LOOKS):
        copies = traces.copies(with_datasets=with_datasets)
        hidden = _hide(bucket, [*traces.own, *chain(*copies.values())])
        relisted = inferred.rewrite(bucket, traces.inferred, keys)
        for kind, those in traces.made.items():
            outcome.add(kind, those, stored.remove(bucket, those))
        finder.remove_reviews(traces.reviews)
        outcome.reviews += len(traces.reviews)
        if outcome.left:
            return outcome
        if not hidden and not traces.reviews and not any(traces.made.values()):
            break
        if relisted or any(key.startswith(layout.INPUT) for key in hidden):
            settle()
        traces = finder.find(keys)
    else:
        outcome.left.append(f"{keys[0]}: it is uploaded or classified again and again")
        return outcome
    if traces.in_progress:
        outcome.left += [
            f"{run.classifier}: run {run.run_id} is in progress and has the picture, or may pack "
            "it; until it has ended, the hidden versions by which it is found there stay"
            for run in traces.in_progress
        ]
        return outcome
    for kind, those in {**copies, "pictures": traces.own}.items():
        outcome.add(kind, those, stored.remove(bucket, those))
    late = [one.key for one in stored.versions_of_each(bucket, keys)]
    outcome.left += [f"{key} was uploaded meanwhile" for key in dict.fromkeys(late)]
    return outcome


def _hide(bucket: Bucket, those: Sequence[Version]) -> list[str]:
    """Put a delete marker on each object that can still be read; returns their keys."""
    client: Any = bucket.client
    shown = [one.key for one in those if one.is_latest and not one.is_marker]
    for key in shown:
        client.delete_object(Bucket=bucket.name, Key=key)
    return shown
