"""The target of a rollback: the run that was live before the live one.

The live model card has the history of targets, `way_back`, written with the switch: the replaced
run, followed by the replaced run's own history. A run that was rolled back from is in no history,
so that a rollback returns to it only if it is named.
"""

from collections.abc import Collection, Sequence

# Successive rollbacks without a new model in between.
MOST = 50


def way_back_after(
    run_id: str, live: str, way_back: Sequence[str] | None, replaces: str | None
) -> tuple[str, ...]:
    """The rollback targets of `run_id`, which is about to replace `live`, the next one first.

    way_back, replaces: of the live card; way_back is None if an earlier version wrote the card.
    """
    if way_back is None:
        way_back = [replaces] if replaces else []
    # If `run_id` is older than the live run, this is a rollback: newer runs are dropped.
    steps = (live, *way_back)
    return tuple(step for step in steps if step < run_id)[:MOST]


def to_go_back_to(
    run_id: str, way_back: Sequence[str] | None, replaces: str | None, may_return: Collection[str]
) -> str | None:
    """The target of a rollback from the live run `run_id`, or None if there is none.

    may_return: the runs that were live and can be live again.
    """
    if way_back is None:  # a card of an earlier version
        older = sorted((run for run in may_return if run < run_id), reverse=True)
        way_back = [replaces, *older] if replaces and replaces < run_id else older
    return next((run for run in way_back if run in may_return), None)
