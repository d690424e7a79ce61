"""When corrections start a run: enough of them are new, and the dataset is whole.

Each correction has an event, and a person or a program may store thousands at once. The corrections
are listed only when, by the number of events since they were last listed, enough could be new.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from droplens.aws.s3 import Bucket
from droplens.domain import layout, naming
from droplens.domain.errors import ObjectMissing
from droplens.domain.run import IN_PROGRESS, Run, RunKey, Stage, Status
from droplens.journey import corrections
from droplens.journey.invocation import Invocation
from droplens.runtime.telemetry import logger

# S3 lists some 7,000 objects a second, so this looks at 200,000.
LOOKING_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """enough: so many new corrections start a run."""

    bucket: Bucket
    enough: int

    def due(self, newest: Run, invocation: Invocation) -> RunKey | None:
        """The run that follows `newest` after one correction more; None if it is not due.

        However many events come, one run follows: `newest` names its successor by a conditional
        write. While a run is in progress none is started; the first correction after it counts all.
        """
        if newest.awaits_packing_after_corrections:
            return newest.key  # an earlier try may have ended before it had submitted
        events, at_most = invocation.runs.count_correction(newest.key)
        if newest.status in IN_PROGRESS or not _was_packed(newest):
            logger.info("newest run allows no run after corrections", status=newest.status.value)
            return None
        if at_most is not None and at_most < self.enough:
            logger.info("corrections are too few for a run", at_most=at_most)
            return None
        new = corrections.count_new(self.bucket, newest.key, self.enough)
        if new < self.enough:
            invocation.runs.counted_corrections(newest.key, events, new)
            logger.info("corrections are too few for a run", new=new)
            return None
        if reason := self._not_whole(newest):
            # The next look is after as many corrections again.
            invocation.runs.counted_corrections(newest.key, events, 0)
            logger.warning("corrections wait for a whole dataset", reason=reason)
            invocation.failures.publish(
                f"Droplens: corrections of {newest.key.classifier} wait",
                f"Enough corrections of {newest.key.classifier} are new for a run, and none is "
                f"started: {reason}.",
            )
            return None
        last, now = newest.key.run_id, invocation.runs.clock()
        proposed = naming.later_run_id(last, now, f"{last}\n{newest.dataset['version']}")
        run_id = invocation.runs.name_successor(newest.key, proposed)
        logger.info("corrections start a run", new=new, run=run_id)
        return RunKey(newest.key.classifier, run_id)

    def _not_whole(self, newest: Run) -> str | None:
        """Why the dataset of `newest` is not whole, as far as the bucket shows; None if it is."""
        source = layout.DatasetSource(newest.key.classifier, newest.dataset["key"])
        try:
            completed = self.bucket.head(source.completed_by)
        except ObjectMissing:
            return f"{source.completed_by} was deleted"
        if (completed.version_id or completed.etag) != newest.dataset["version"]:
            return f"{source.completed_by} has changed since, and its own run takes them"
        if source.folder is None:
            return None
        later = stored_after(self.bucket, source.folder, completed.stored_at.timestamp())
        return later and (
            f"{later} was stored after {source.completed_by}. When the dataset is whole, put "
            f"{source.completed_by} again: the run that it starts takes them"
        )


def stored_after(
    bucket: Bucket, prefix: str, moment: float, clock: Callable[[], float] = time.monotonic
) -> str | None:
    """The key of an object below `prefix` that was stored after `moment`, or None.

    moment: seconds since 1970, whole ones as S3 returns them. After LOOKING_SECONDS the rest is
    taken to be older.
    """
    until = clock() + LOOKING_SECONDS
    for listed in bucket.entries(prefix):
        if listed.stored_at.timestamp() // 1 > moment:
            return listed.key
        if clock() > until:
            logger.warning("not all objects were looked at", key=listed.key)
            return None
    return None


def _was_packed(run: Run) -> bool:
    """Whether the run's dataset could be packed, so that packing it again is worth a try."""
    return not (run.status is Status.FAILED and run.error.get("stage") == Stage.PACK)
