"""From an endpoint in service to the live model: measure, judge, ask, and switch by one write."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from droplens import __version__
from droplens.aws.events import (
    MODEL_PACKAGE,
    continued,
    detail_type,
    endpoint_changed,
    model_package_arn,
)
from droplens.aws.s3 import Bucket
from droplens.aws.sagemaker import run_of_resource
from droplens.aws.sagemaker_runtime import probabilities_with_retries
from droplens.domain import layout
from droplens.domain.card import Measurement, ModelCard
from droplens.domain.errors import ObjectMissing, UserError
from droplens.domain.figures import counted, exact_percent, percent
from droplens.domain.run import Run, RunKey, Stage, Status
from droplens.evaluation.comparison import compare
from droplens.evaluation.evaluation import accuracy_on_test, cross_validation, evaluate
from droplens.evaluation.measure import OutOfTime, measure
from droplens.imaging.prepare import Preprocessing
from droplens.journey import deploy
from droplens.journey.failures import Failures
from droplens.journey.origin import check_origin
from droplens.journey.retire import announce, announce_if_replaced
from droplens.journey.rollback import complete
from droplens.journey.train import BUILTIN
from droplens.records.manifest import PackedDataset
from droplens.report.publish import publish, read_training
from droplens.runtime.settings import PromotionSettings
from droplens.runtime.telemetry import count, follow, logger
from droplens.state import registry
from droplens.state.cards import Cards, is_past
from droplens.state.packed import read_packed
from droplens.state.registry import Registry
from droplens.state.runs import Runs
from droplens.statistics.calibration import Calibration
from droplens.statistics.intervals import fewest, two_sided, wilson

if TYPE_CHECKING:
    from types_boto3_sagemaker.client import SageMakerClient
    from types_boto3_sagemaker_runtime.client import SageMakerRuntimeClient

MANUAL = "manual"


class Refused(Exception):
    """The candidate must not go live. code: for programs; the message: for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """promote_endpoint's tools, gathered once per process."""

    bucket: Bucket
    cards: Cards
    registry: Registry
    sagemaker: "SageMakerClient"
    runtime: "SageMakerRuntimeClient"
    settings: PromotionSettings

    def promote(
        self,
        key: RunKey,
        runs: Runs,
        failures: Failures,
        may_go_on: Callable[[], bool],
        invoke: Callable[[object], None],
    ) -> Status | None:
        """Measure the run's endpoint and make it live if it may.

        Every step finds what an earlier, interrupted attempt has done and goes on from there.
        may_go_on: whether there is time for more questions; where there is not, OutOfTime is
        raised, and the stage is free for the next invocation. invoke: has a switch followed up.
        Returns where the run stands then, or None if there was nothing to do.
        """
        if not runs.claim(key, Stage.PROMOTE):
            logger.info("stage is done, or claimed by another invocation")
            failures.notify_once(key)
            return None
        run = runs.get(key)
        if run is None:
            return None
        with failures.recorded(key, Stage.PROMOTE):
            card = self.cards.of_run(key.classifier, key.run_id) or self._measure(
                run, runs, may_go_on
            )
            try:
                live = self.cards.live(key.classifier)
                # One that is live already was judged when it went live, and is not asked for twice.
                if not is_past(card, live):
                    # Nobody need be asked about a model that could not go live anyway.
                    self._judged(card, live)
                    if not self._approved(card, run, runs, failures):
                        return Status.AWAITING
                return self._go_live(card, runs, invoke)
            except Refused as refusal:
                return self._refuse(card, refusal, runs, failures)
        return Status.FAILED

    def _measure(self, run: Run, runs: Runs, may_go_on: Callable[[], bool]) -> ModelCard:
        try:
            return self._measured(run, runs, may_go_on)
        except UserError:
            # The run has failed: nobody needs its endpoint, which may be billed by the hour.
            deploy.dispose(self.sagemaker, runs, run.key, run.endpoint)
            raise

    def _measured(self, run: Run, runs: Runs, may_go_on: Callable[[], bool]) -> ModelCard:
        endpoint = run.endpoint
        model_data = run.model_data
        check_origin(run.image, model_data, run.key, self.settings)
        dataset = read_packed(self.bucket, run.key)
        trainer = run.trainer
        preprocessing = sender_preprocessing(dataset, trainer, run.image_size)
        measured = measure(
            self.bucket,
            run.key,
            dataset,
            preprocessing,
            lambda picture: probabilities_with_retries(
                self.runtime, endpoint, picture, len(dataset.classes)
            ),
            may_go_on,
        )
        found = evaluate(
            measured.validation,
            dataset.classes,
            dataset.validation,
            self.settings.confident_precision,
        )
        calibration = Calibration.from_dict(found["calibration"])
        live = self.cards.live(run.key.classifier)
        comparison = compare(found, live, self._evaluation(live)).to_dict() if live else None
        training = read_training(self.bucket, model_data)
        measured_at = datetime.now(UTC).isoformat(timespec="seconds")
        evaluation: dict[str, Any] = {
            **found,
            **run.key.as_key(),
            "endpoint": endpoint,
            "trainer": trainer,
            "measured_at": measured_at,
            "droplens_version": __version__,
            "cross_validation": cross_validation(training),
            # Reported apart: gate, calibration, threshold and comparison rest on validation alone.
            "test": accuracy_on_test(measured.test, calibration, dataset.test),
            "comparison": comparison,
        }
        card = ModelCard(
            classifier=run.key.classifier,
            run_id=run.key.run_id,
            endpoint=endpoint,
            trainer=trainer,
            classes=dataset.classes,
            preprocessing=preprocessing,
            measured=measurement(found),
            calibration=calibration,
            ece_before=found["calibration"]["ece_before"],
            ece_after=found["calibration"]["ece_after"],
            confident_from=found["confident"]["threshold"],
            coverage=found["confident"]["share"],
            unconfident_because=found["confident"]["reason"],
            comparison=comparison,
            promoted_at=measured_at,
            droplens_version=__version__,
        )
        evaluation["gate"] = {
            "minimum_accuracy": self.settings.minimum_accuracy,
            "accuracy_confidence": self.settings.accuracy_confidence,
            "lower_end": round(lower_end(card.measured, self.settings.accuracy_confidence), 6),
        }
        evaluation["decision"] = self._decision(card, live)
        # An attempt that was cut off has left the same, but for the time and the comparison.
        self.bucket.write_json(
            layout.evaluation_key(card.classifier, card.run_id),
            json.dumps(evaluation, ensure_ascii=False).encode(),
        )
        report = publish(self.bucket, dataset, evaluation, training)
        runs.note(run.key, report=report)
        self.cards.keep(card)
        count("MeasuredAccuracy", 100 * card.measured.accuracy, MetricUnit.Percent)
        return card

    def _compared(self, card: ModelCard, live: ModelCard | None) -> ModelCard:
        """The card, compared with the model that is live now.

        Both were measured before, each once, and what they answered is kept: no endpoint is asked.
        """
        if live is None:
            return replace(card, comparison=None)
        if card.comparison is not None and card.comparison["run_id"] == live.run_id:
            return card
        found = self._evaluation(card) or _told_by(card)
        return replace(card, comparison=compare(found, live, self._evaluation(live)).to_dict())

    def _evaluation(self, card: ModelCard) -> Mapping[str, Any] | None:
        try:
            body, _ = self.bucket.read(layout.evaluation_key(card.classifier, card.run_id))
        except ObjectMissing:
            return None
        return dict(json.loads(body))

    def _decision(self, card: ModelCard, live: ModelCard | None) -> dict[str, str | None]:
        """What the measurement alone says; a person may still have to say more."""
        try:
            self._judged(card, live)
        except Refused as refusal:
            return {"status": Status.REFUSED, "code": refusal.code, "reason": str(refusal)}
        return {"status": None, "code": None, "reason": None}

    def _judged(self, card: ModelCard, live: ModelCard | None) -> ModelCard:
        """The card with its comparison to the live model.

        Raises Refused for a candidate that is not good enough, or worse than the live model.
        """
        if problem := too_inaccurate(
            card.measured, self.settings.minimum_accuracy, self.settings.accuracy_confidence
        ):
            raise Refused("accuracy.too_low", problem)
        card = self._compared(card, live)
        if problem := worse_than_live(card.comparison):
            raise Refused("accuracy.worse_than_live", problem)
        return card

    def _approved(self, card: ModelCard, run: Run, runs: Runs, failures: Failures) -> bool:
        """Register the model; False if a person has yet to decide on it.

        Raises Refused where the person has rejected it.
        """
        manual = self.settings.approval == MANUAL
        package = run.model_package
        if not package:
            image, model_data = run.image, run.model_data
            try:  # it may have been measured in another invocation, and its item changed since
                check_origin(image, model_data, run.key, self.settings)
            except UserError as error:
                raise Refused(error.code, error.message) from error
            package = self.registry.register(
                card,
                run,
                read_packed(self.bucket, run.key),
                self.bucket.name,
                registry.PENDING if manual else registry.APPROVED,
            )
            runs.note(run.key, model_package=package, accuracy=card.measured.accuracy)
        if not manual or self._decided(package):
            return True
        if not run.approval_asked:
            failures.publish(
                f"Droplens: {run.key.classifier} awaits approval",
                f"Run {run.key.run_id} of classifier {run.key.classifier}: validation accuracy "
                f"{counted(card.measured.right, card.measured.pictures)}. It goes live when its "
                f"model is approved in the Model Registry:\n\n"
                f"aws sagemaker update-model-package --model-package-arn {package} "
                f"--model-approval-status Approved",
            )
            runs.note(run.key, approval_asked=True)
        runs.wait(run.key)
        # Whoever decided before the stage was let go of has met a closed door.
        if not self._decided(package):
            logger.info("model waits for approval", model_package=package)
            return False
        return runs.claim(run.key, Stage.PROMOTE)

    def _decided(self, package: str) -> bool:
        status, words = self.registry.approval(package)
        if status == registry.REJECTED:
            raise Refused("approval.rejected", words or "rejected in the Model Registry")
        return status == registry.APPROVED

    def _go_live(self, card: ModelCard, runs: Runs, invoke: Callable[[object], None]) -> Status:
        key = RunKey(card.classifier, card.run_id)
        ready = replace(card, promoted_at=datetime.now(UTC).isoformat(timespec="seconds"))
        # Weeks may have passed since it was measured, and other models gone live: what counts is
        # the one that it replaces.
        live = self.cards.make_live(ready, lambda replaced: self._judged(ready, replaced))
        if live.run_id != key.run_id:
            return self._superseded(card, live, runs)
        self.cards.make_default_if_first(key.classifier)
        announce(live, self.settings.reclassify, invoke)
        runs.end(key, Status.LIVE, accuracy=card.measured.accuracy, generation=live.generation)
        announce_if_replaced(live, self.cards, self.settings.reclassify, invoke)
        logger.info("model is live", accuracy=card.measured.accuracy)
        count("RunLive")
        return Status.LIVE

    def _refuse(self, card: ModelCard, refusal: Refused, runs: Runs, failures: Failures) -> Status:
        key = RunKey(card.classifier, card.run_id)
        deploy.dispose(self.sagemaker, runs, key, card.endpoint)
        failures.fail(
            key,
            Stage.PROMOTE,
            refusal.code,
            str(refusal),
            Status.REFUSED,
            accuracy=card.measured.accuracy,
        )
        return Status.REFUSED

    def _superseded(self, card: ModelCard, live: ModelCard, runs: Runs) -> Status:
        key = RunKey(card.classifier, card.run_id)
        deploy.dispose(self.sagemaker, runs, key, card.endpoint)
        runs.end(
            key,
            Status.SUPERSEDED,
            accuracy=card.measured.accuracy,
            replaced_by=live.run_id,
        )
        logger.info("run is superseded by a newer one", live=live.run_id)
        return Status.SUPERSEDED


def lower_end(measured: Measurement, confidence: float) -> float:
    """The lower end of the accuracy's interval, which is held against MinimumAccuracy."""
    return wilson(measured.right, measured.pictures, two_sided(confidence))[0]


def too_inaccurate(measured: Measurement, minimum: float, confidence: float) -> str | None:
    """Why a candidate's accuracy is not shown to reach `minimum`, or None where it is.

    What counts is the lower end of the accuracy's Wilson interval of `confidence`, two-sided: few
    pictures, all of them right, are no evidence of a good model. At a confidence of 0 it is the
    accuracy as it was counted.
    """
    z = two_sided(confidence)
    low = lower_end(measured, confidence)
    if low >= minimum:
        return None
    accuracy = f"validation accuracy {counted(measured.right, measured.pictures)}"
    asked = f"MinimumAccuracy asks for {exact_percent(minimum)}"
    if measured.accuracy < minimum or confidence == 0:
        return f"{accuracy}; {asked}"
    needed = fewest(minimum, z)
    return (
        f"{accuracy}; {asked} at the lower end of the {exact_percent(confidence)} interval, which "
        f"is {percent(low)}. "
        + (
            "No number of pictures shows 100 %: ask for less"
            if needed is None
            else f"It takes more validation pictures to show that, {needed:,} or more if all of "
            "them are right: add pictures to the dataset, or ask for less"
        )
        + " (MinimumAccuracy, or AccuracyConfidence=0 for the accuracy as counted)"
    )


def worse_than_live(found: Mapping[str, Any] | None) -> str | None:
    """Why a comparison (`comparison.Comparison.to_dict`) speaks against a candidate, or None."""
    # What an earlier version has found of other classes was of all pictures, and decided nothing.
    if found is None or not found["worse"] or not (found["same_task"] or found.get("classes")):
        return None
    where = ""
    if not found["same_task"]:
        common = "one class" if found["classes"] == 1 else f"{found['classes']:,} classes"
        where = f" on the {common} that both know"
    if found["method"] == "paired":
        evidence = (
            f"of {found['pictures']:,} validation pictures that both were measured on, "
            f"{found['right_after']:,} of its predictions are correct and "
            f"{found['right_before']:,} of the live model's; a model as good would do so badly "
            f"once in {1 / max(found['p_value'], 1e-6):,.0f} times"
        )
    else:
        difference = found["difference"]
        evidence = (
            f"its accuracy differs by {100 * difference['value']:.1f} points "
            f"({100 * difference['low']:.1f} to {100 * difference['high']:.1f}), each model "
            "measured on validation pictures of its own"
        )
        if found.get("pictures_before"):
            counts = found["pictures_after"], found["pictures_before"]
            evidence += f", {counts[0]:,} and the live one {counts[1]:,}"
    return f"worse than the live model {found['run_id']}{where}: {evidence}"


def take_up(
    event: Mapping[str, Any],
    promotion: Promotion,
    runs: Runs,
    failures: Failures,
    may_go_on: Callable[[], bool],
    invoke: Callable[[object], None],
) -> tuple[RunKey | None, Status | None]:
    """Promote the run that an event of SageMaker tells of, or complete its rollback.

    may_go_on, invoke: as `Promotion.promote` takes them; what there is no time for is left to
    another invocation with the same event.
    """
    key = _run_of(event, promotion.sagemaker)
    if key is None:
        return None, None
    follow(key)
    run = runs.get(key)
    if run is not None and (surplus := _surplus(event, run)) is not None:
        # It was still being made when nobody needed it any more, which SageMaker lets nobody stop.
        deploy.dispose(promotion.sagemaker, runs, key, surplus)
        return key, run.status
    if run is not None and run.status is Status.RESTORING:
        return key, complete(run, promotion.cards, runs, promotion.settings.reclassify, invoke)
    try:
        return key, promotion.promote(key, runs, failures, may_go_on, invoke)
    except OutOfTime:
        logger.info("out of time: continued in another invocation")
        invoke(continued(event))
        return key, Status.MEASURING


def _run_of(event: Mapping[str, Any], sagemaker: "SageMakerClient") -> RunKey | None:
    if detail_type(event) == MODEL_PACKAGE:
        return registry.run_of_package(sagemaker, model_package_arn(event))
    changed = endpoint_changed(event)
    return run_of_resource(sagemaker, changed.arn, changed.tags)


def _surplus(event: Mapping[str, Any], run: Run) -> str | None:
    """The endpoint that has come into service though nobody needs it, or None.

    It is one of an earlier try, one that is to be removed, or that of a run without a model.
    """
    if detail_type(event) == MODEL_PACKAGE:
        return None
    name = endpoint_changed(event).name
    over = run.status in (Status.FAILED, Status.REFUSED, Status.SUPERSEDED) or (
        run.status is Status.REPLACED and run.retired
    )
    unwanted = name in run.to_remove or name != (run.endpoint or name)
    return name if over or unwanted else None


def _told_by(card: ModelCard) -> dict[str, Any]:
    """What a card tells of its model's evaluation, where that itself is gone."""
    return {
        "classes": [{"name": name} for name in card.classes],
        "pictures": card.measured.pictures,
        "accuracy": {"value": card.measured.accuracy},
        "answers": [],
    }


def measurement(evaluation: Mapping[str, Any]) -> Measurement:
    """An evaluation as a card tells it in short."""
    return Measurement(
        pictures=evaluation["pictures"],
        available=evaluation["available"],
        accuracy=evaluation["accuracy"]["value"],
        top5=evaluation["top5"]["value"],
        latency_ms_p50=evaluation["latency_ms"]["p50"],
        latency_ms_p95=evaluation["latency_ms"]["p95"],
    )


def sender_preprocessing(dataset: PackedDataset, trainer: str, image_size: int) -> Preprocessing:
    """What must be done to a picture before it is sent, so that the model sees it as in training.

    The built-in algorithm trains on the centre square of each record but squashes whatever it is
    sent when it serves; our own image does both sides itself.
    """
    crop = image_size if trainer == BUILTIN else None
    return Preprocessing(shorter_side=dataset.shorter_side, crop=crop)
