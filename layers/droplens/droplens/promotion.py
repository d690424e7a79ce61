"""From an endpoint in service to the live model: measure, switch by one write, sweep, tidy up."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from droplens import hosting
from droplens.card import ModelCard
from droplens.cards import Cards
from droplens.endpoint import probabilities
from droplens.errors import UserError
from droplens.failures import Failures
from droplens.measuring import measure
from droplens.packed import PackedDataset, read_packed
from droplens.pictures import Preprocessing
from droplens.routing import Router
from droplens.runs import Run, RunKey, Runs, Stage, Status
from droplens.settings import PromotionSettings
from droplens.storage import Bucket
from droplens.sweep import sweep
from droplens.telemetry import logger, metrics
from droplens.training import BUILTIN

if TYPE_CHECKING:
    from types_boto3_sagemaker.client import SageMakerClient
    from types_boto3_sagemaker_runtime.client import SageMakerRuntimeClient
    from types_boto3_sqs.client import SQSClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """promote_endpoint's tools, gathered once per process."""

    bucket: Bucket
    cards: Cards
    sagemaker: "SageMakerClient"
    runtime: "SageMakerRuntimeClient"
    sqs: "SQSClient"
    settings: PromotionSettings

    def promote(self, endpoint: str, key: RunKey, runs: Runs, failures: Failures) -> Status | None:
        """Measure the run's endpoint and make it live if it is good enough.

        Every step finds what an earlier, interrupted attempt has done and goes on from there.
        Returns the run's end, or None if there was nothing to do.
        """
        if not runs.claim(key, Stage.PROMOTE):
            logger.info("run is past this stage, or another invocation has it")
            failures.notify_once(key)
            return None
        run = runs.get(key)
        if run is None:
            return None
        with failures.recorded(key, Stage.PROMOTE):
            card = self.cards.of_run(key.classifier, key.run_id) or self._measure(endpoint, run)
            if card.measured.accuracy < self.settings.minimum_accuracy:
                return self._refuse(card, failures)
            live = self.cards.make_live(card)
            if live.run_id != key.run_id:
                return self._superseded(card, live, runs)
            self.cards.make_default_if_first(key.classifier)
            waiting = self._sweep(key.classifier, runs)
            self._retire(live, runs)
            runs.end(key, Status.LIVE, accuracy=card.measured.accuracy, waiting=waiting)
            logger.info("model is live", accuracy=card.measured.accuracy, waiting=waiting)
            metrics.add_metric(name="RunLive", unit="Count", value=1)
            return Status.LIVE
        return Status.FAILED

    def _measure(self, endpoint: str, run: Run) -> ModelCard:
        try:
            return self._measured(endpoint, run)
        except UserError:
            # The run has failed: nobody needs its endpoint, which may be billed by the hour.
            hosting.remove_endpoint(self.sagemaker, endpoint)
            raise

    def _measured(self, endpoint: str, run: Run) -> ModelCard:
        dataset = read_packed(self.bucket, run.key)
        trainer = str(run.facts["trainer"])
        preprocessing = sender_preprocessing(dataset, trainer, int(run.facts["image_size"]))
        measurement, confident_from = measure(
            self.bucket,
            dataset,
            preprocessing,
            lambda picture: probabilities(self.runtime, endpoint, picture, len(dataset.classes)),
            seed=run.key.run_id,
        )
        card = ModelCard(
            classifier=run.key.classifier,
            run_id=run.key.run_id,
            endpoint=endpoint,
            trainer=trainer,
            classes=dataset.classes,
            preprocessing=preprocessing,
            measured=measurement,
            confident_from=confident_from,
            promoted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self.cards.keep(card)
        metrics.add_metric(
            name="MeasuredAccuracy", unit="Percent", value=100 * measurement.accuracy
        )
        return card

    def _refuse(self, card: ModelCard, failures: Failures) -> Status:
        key = RunKey(card.classifier, card.run_id)
        hosting.remove_endpoint(self.sagemaker, card.endpoint)
        failures.fail(
            key,
            Stage.PROMOTE,
            "accuracy.too_low",
            f"{card.measured.accuracy:.1%} of {card.measured.pictures} validation pictures were "
            f"answered rightly; MinimumAccuracy asks for {self.settings.minimum_accuracy:.1%}",
            Status.REFUSED,
            accuracy=card.measured.accuracy,
        )
        return Status.REFUSED

    def _superseded(self, card: ModelCard, live: ModelCard, runs: Runs) -> Status:
        key = RunKey(card.classifier, card.run_id)
        hosting.remove_endpoint(self.sagemaker, card.endpoint)
        runs.end(
            key,
            Status.SUPERSEDED,
            accuracy=card.measured.accuracy,
            replaced_by=live.run_id,
        )
        logger.info("a newer run is live already", live=live.run_id)
        return Status.SUPERSEDED

    def _sweep(self, classifier: str, runs: Runs) -> int:
        default = self.cards.default_classifier()
        known: dict[str, bool] = {}

        def is_known(name: str) -> bool:
            if name not in known:
                known[name] = runs.any_of(name)
            return known[name]

        return sweep(
            self.bucket,
            classifier,
            Router(is_known, lambda: default),
            default == classifier,
            self.sqs,
            self.settings.picture_queue_url,
        )

    def _retire(self, live: ModelCard, runs: Runs) -> None:
        """Delete what the live model replaced. A picture on its way there asks the new one.

        That is the card before it, and any older run still called live: the one between the two
        may have been replaced itself before it came to tidy up.
        """
        key = RunKey(live.classifier, live.run_id)
        older = {run.key.run_id for run in runs.live_before(key)}
        if live.replaces is not None:
            older.add(live.replaces)
        for run_id in sorted(older):
            old = self.cards.of_run(live.classifier, run_id)
            if old is not None:
                hosting.remove_endpoint(self.sagemaker, old.endpoint)
            runs.replace(RunKey(live.classifier, run_id), by=live.run_id)


def sender_preprocessing(dataset: PackedDataset, trainer: str, image_size: int) -> Preprocessing:
    """What must be done to a picture before it is sent, so that the model sees it as in training.

    The built-in algorithm trains on the centre square of each record but squashes whatever it is
    sent when it serves; our own image does both sides itself.
    """
    crop = image_size if trainer == BUILTIN else None
    return Preprocessing(shorter_side=dataset.shorter_side, crop=crop)
