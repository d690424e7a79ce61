"""What follows when another model goes live: what it replaced is retired, pictures are answered.

Promotion and rollback both end in one write, and then invoke promote_endpoint with the event of
that switch. Whatever is left when time runs out is done by the next invocation.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from droplens.aws.events import ModelSwitched, switched_event
from droplens.aws.s3 import Bucket
from droplens.classify.sweep import Progress, Sweep
from droplens.classify.unclaimed import unclaimed_folders
from droplens.domain.card import ModelCard
from droplens.domain.run import Run, RunKey, Status
from droplens.journey import deploy
from droplens.runtime.telemetry import logger
from droplens.state.cards import Cards
from droplens.state.runs import Runs

if TYPE_CHECKING:
    from types_boto3_lambda.client import LambdaClient
    from types_boto3_sagemaker.client import SageMakerClient
    from types_boto3_sqs.client import SQSClient


class Invoker:
    """Hands an event to a function, which takes it up by itself: again, if it fails."""

    def __init__(self, client: "LambdaClient", function: str) -> None:
        self.client = client
        self.function = function

    def __call__(self, event: object) -> None:
        """Returns as soon as Lambda has the event in keeping."""
        self.client.invoke(
            FunctionName=self.function, InvocationType="Event", Payload=json.dumps(event)
        )


def announce(live: ModelCard, reclassify: str, invoke: Callable[[object], None]) -> None:
    """Have promote_endpoint do what follows a switch."""
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
    """Have the records put right where another model went live before this one's said it was."""
    now = cards.live(card.classifier)
    if now is not None and now.generation != card.generation:
        announce(now, reclassify, invoke)


@dataclass(frozen=True, slots=True, kw_only=True)
class Switching:
    """What is needed to follow a switch up. keep_models: replaced models that go on serving."""

    bucket: Bucket
    cards: Cards
    sagemaker: "SageMakerClient"
    sqs: "SQSClient"
    queue: str
    keep_models: int

    def follow_up(
        self,
        switched: ModelSwitched,
        runs: Runs,
        may_go_on: Callable[[], bool],
        invoke: Callable[[object], None],
    ) -> int | None:
        """Retire and sweep; returns how many pictures were sent, or None if it is not over yet.

        invoke: hands on what is left of the sweep.
        """
        self.settle(switched.classifier, runs)
        live = self.cards.live(switched.classifier)
        if live is None or live.generation != switched.generation:
            logger.info("superseded by a later switch of the live model")
            return None
        if not switched.cursor:
            self._tell_of_unclaimed(switched.run, runs)
        sweep = Sweep(
            bucket=self.bucket,
            classifier=switched.classifier,
            default=self.cards.default_classifier(),
            sqs=self.sqs,
            queue=self.queue,
            reclassify=switched.reclassify,
        )
        done = sweep.run(Progress(switched.cursor, switched.found), may_go_on)
        runs.note(switched.run, waiting=done.found)
        if done.finished:
            logger.info("sweep is complete", waiting=done.found)
            return done.found
        invoke(switched_event(switched.after(done.cursor, done.found)))
        return None

    def settle(self, classifier: str, runs: Runs) -> None:
        """Put every run's record and endpoint right by the card that is live now.

        The records are read before the card: a run that goes live in between has changed its
        record since, and is let be.
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
        serving = [run for run in replaced if not run.retired]
        unfinished = [run for run in replaced if run.retired and not run.endpoint_removed]
        for run in [*serving[self.keep_models :], *unfinished]:
            # A picture on its way to it asks the live one.
            if runs.retire(run) and self._remove(run, runs):
                runs.endpoint_removed(run)

    def _remove(self, run: Run, runs: Runs) -> bool:
        """Whether the run has no endpoint any more."""
        endpoint = run.endpoint
        return not endpoint or deploy.dispose(self.sagemaker, runs, run.key, endpoint)

    def _tell_of_unclaimed(self, run: RunKey, runs: Runs) -> None:
        """Note in the run's item which folders of pictures name no classifier, a typo perhaps."""
        found = unclaimed_folders(self.cards, runs.any_of)
        runs.note(run, unclaimed=[folder.to_dict() for folder in found])
        for folder in found:
            logger.warning(
                "pictures wait in a folder that names no classifier",
                folder=folder.folder,
                likely=folder.likely,
            )
