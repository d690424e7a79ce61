"""After another model has gone live: replaced models are retired, waiting images classified.

Promotion and rollback both end in one write, and then invoke promote_endpoint with the event of
that switch. What an invocation has no time for is left to the next.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from droplens.aws.events import ModelSwitched, switched_event
from droplens.aws.s3 import Bucket
from droplens.classify.sweep import Progress, Sweep
from droplens.classify.unclaimed import unclaimed_folders
from droplens.domain.card import ModelCard
from droplens.domain.run import Run, RunKey, Status
from droplens.journey.invocation import Invocation
from droplens.runtime.telemetry import follow, logger
from droplens.state import endpoints
from droplens.state.cards import Cards
from droplens.state.runs import Runs

if TYPE_CHECKING:
    from types_boto3_sagemaker.client import SageMakerClient
    from types_boto3_sqs.client import SQSClient


def announce(live: ModelCard, reclassify: str, invoke: Callable[[object], None]) -> None:
    """Send promote_endpoint the event of a switch to `live`."""
    switched = ModelSwitched(
        classifier=live.classifier,
        run_id=live.run_id,
        generation=live.generation,
        reclassify=reclassify,
    )
    invoke(switched_event(switched))


def announce_if_replaced(
    card: ModelCard, cards: Cards, reclassify: str, invoke: Callable[[object], None]
) -> None:
    """Send the event again where another model went live before `card`'s run was on record."""
    now = cards.live(card.classifier)
    if now is not None and now.generation != card.generation:
        announce(now, reclassify, invoke)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retirement:
    """Retires replaced models, and sends waiting images to the live one.

    queue: URL of the queue of images; keep_models: replaced models that go on serving.
    """

    bucket: Bucket
    cards: Cards
    sagemaker: "SageMakerClient"
    sqs: "SQSClient"
    queue: str
    keep_models: int

    def follow_up(self, switched: ModelSwitched, invocation: Invocation) -> int | None:
        """Retire what was replaced, then sweep; returns how many images were sent to the queue.

        None where a later switch has taken over, or the sweep continues in another invocation.
        """
        follow(switched.run)
        runs = invocation.runs
        self.settle(switched.classifier, runs)
        live = self.cards.live(switched.classifier)
        if live is None or live.generation != switched.generation:
            logger.info("superseded by a later switch of the live model")
            return None
        if not switched.cursor:
            self._note_unclaimed(switched.run, runs)
        sweep = Sweep(
            bucket=self.bucket,
            classifier=switched.classifier,
            default=self.cards.default_classifier(),
            sqs=self.sqs,
            queue=self.queue,
            reclassify=switched.reclassify,
        )
        done = sweep.run(Progress(switched.cursor, switched.found), invocation.has_time)
        runs.note(switched.run, waiting=done.found)
        if done.finished:
            logger.info("sweep is complete", waiting=done.found)
            return done.found
        invocation.invoke(switched_event(switched.after(done.cursor, done.found)))
        return None

    def settle(self, classifier: str, runs: Runs) -> None:
        """Bring every run's record and endpoint into line with the card that is live now.

        The records are read before the card: a run that goes live in between has changed its
        record since, so that the conditional writes below do not apply to it.
        """
        known = runs.of(classifier)
        live = self.cards.live(classifier)
        if live is None:
            return
        for run in known:
            if run.status is Status.LIVE and run.key.run_id != live.run_id:
                runs.replace(run, by=live.run_id)
            overtaken = run.key.run_id < max(live.run_id, live.newest)
            if (
                run.status in (Status.AWAITING, Status.WAITING)
                and overtaken
                and runs.end(run.key, Status.SUPERSEDED, replaced_by=live.run_id)
            ):
                self._remove(run, runs)
        replaced = [run for run in runs.of(classifier) if run.status is Status.REPLACED]
        replaced.sort(key=lambda run: run.replaced_at, reverse=True)
        # A model without an endpoint costs nothing, and stays ready for a rollback.
        serving = [run for run in replaced if not run.retired and run.model is None]
        unfinished = [run for run in replaced if run.retired and not run.endpoint_removed]
        for run in [*serving[self.keep_models :], *unfinished]:
            # An image that was routed to it is sent to the live endpoint when it is retried.
            if runs.retire(run) and self._remove(run, runs):
                runs.endpoint_removed(run)

    def _remove(self, run: Run, runs: Runs) -> bool:
        """Remove the run's endpoint, if it has one; False where SageMaker refuses that now."""
        if not run.endpoint:
            return True
        return endpoints.dispose(self.sagemaker, runs, run.key, run.endpoint)

    def _note_unclaimed(self, run: RunKey, runs: Runs) -> None:
        """Record in the run which folders of images name no classifier, a typo perhaps."""
        found = unclaimed_folders(self.cards, runs.any_of)
        runs.note(run, unclaimed=[folder.to_dict() for folder in found])
        for folder in found:
            logger.warning(
                "pictures wait in a folder that names no classifier",
                folder=folder.folder,
                likely=folder.likely,
            )
