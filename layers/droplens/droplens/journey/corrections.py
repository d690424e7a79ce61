"""The corrections of a classifier: which ones a run takes, and how many are new since then.

A run's corrections are listed once, before its packing. Its jobs read that list, so that they agree
on it while people go on correcting.
"""

import json
from collections.abc import Iterator
from itertools import islice

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing, UserError
from droplens.domain.run import RunKey
from droplens.domain.stored_object import ListedObject

# The list is held in memory, 200 bytes for each.
MOST_CORRECTIONS = 100_000


def keep_list(bucket: Bucket, run: RunKey) -> bool:
    """Store the list of corrections that the run takes, unless it is stored; False for none.

    Raises UserError where they are too many.
    """
    found = dict(islice(_listed(bucket, run.classifier), MOST_CORRECTIONS + 1))
    if len(found) > MOST_CORRECTIONS:
        raise UserError(
            "corrections.too_many",
            f"{layout.corrections_prefix(run.classifier)} has more than {MOST_CORRECTIONS:,} "
            "pictures: move the older ones into the dataset",
        )
    key = layout.corrections_list_key(run.classifier, run.run_id)
    if not found:
        return _stored(bucket, run) is not None
    lines = (
        json.dumps({"path": path, "bytes": one.bytes, "etag": one.etag}, ensure_ascii=False) + "\n"
        for path, one in found.items()
    )
    bucket.write_json(key, "".join(lines).encode())
    return True


def count_new(bucket: Bucket, since: RunKey, enough: int) -> int:
    """The number of corrections that the run `since` did not take, counted up to `enough`.

    Changed ones count too. Where there are more corrections than a run takes, `enough` is returned:
    the run fails, with the reason.
    """
    taken, new = _stored(bucket, since) or {}, 0
    for count, (path, one) in enumerate(_listed(bucket, since.classifier)):
        new += taken.get(path) != one.etag
        if new == enough or count == MOST_CORRECTIONS:
            return enough
    return new


def _listed(bucket: Bucket, classifier: str) -> Iterator[tuple[str, ListedObject]]:
    """The corrections, each with its path below the classifier's prefix."""
    prefix = layout.corrections_prefix(classifier)
    for entry in bucket.entries(prefix):
        if layout.corrected_classifier(entry.key) is not None:
            yield entry.key.removeprefix(prefix), entry


def _stored(bucket: Bucket, run: RunKey) -> dict[str, str] | None:
    """The ETags by path of the corrections that the run took; None where it has no list."""
    try:
        body, _ = bucket.read(layout.corrections_list_key(run.classifier, run.run_id))
    except ObjectMissing:
        return None
    rows = (json.loads(line) for line in body.decode().splitlines())
    return {row["path"]: row["etag"] for row in rows}
