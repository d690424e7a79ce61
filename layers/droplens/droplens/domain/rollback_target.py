"""Which run a rollback goes back to: the one that was live before the live one went live.

Kept with the live card, by the same write that switches: the way back from it. A run that goes
live puts the one that it replaces in front of that one's own way back. A rollback only goes along
it, so that what was rolled back from is never gone back to, unless somebody names it.
"""

from collections.abc import Collection, Sequence

# Rollbacks one after another, without a new model between them.
MOST = 50


def way_back_after(
    run_id: str, live: str, way_back: Sequence[str] | None, replaces: str | None
) -> tuple[str, ...]:
    """The way back from `run_id`, which is about to replace `live`: runs, the next one first.

    way_back, replaces: of the live card; its way back is None if an earlier version wrote it.
    """
    if way_back is None:
        way_back = [replaces] if replaces else []
    # A run that is older than the live one is gone back to: what lies on the way is left behind.
    steps = (live, *way_back)
    return tuple(step for step in steps if step < run_id)[:MOST]


def to_go_back_to(
    run_id: str, way_back: Sequence[str] | None, replaces: str | None, may_return: Collection[str]
) -> str | None:
    """The run that a rollback from the live run `run_id` goes back to, or None if there is none.

    may_return: the runs that were live and can be so again.
    """
    if way_back is None:  # a card of an earlier version
        older = sorted((run for run in may_return if run < run_id), reverse=True)
        way_back = [replaces, *older] if replaces and replaces < run_id else older
    return next((run for run in way_back if run in may_return), None)
