"""From an endpoint in service to the live model: measured, judged, approved, switched to."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from droplens import __version__
from droplens.aws.events import (
    MODEL_DEPLOYED,
    MODEL_PACKAGE,
    continued,
    detail_type,
    endpoint_changed,
    model_deployed,
    model_package_arn,
)
from droplens.aws.s3 import Bucket
from droplens.aws.sagemaker import run_of_resource
from droplens.aws.sagemaker_runtime import explain, predict_with_retries
from droplens.domain import layout
from droplens.domain.card import Measurement, ModelCard, ModelObject, Novelty
from droplens.domain.errors import ObjectMissing, UserError
from droplens.domain.figures import counted, exact_percent, percent
from droplens.domain.result import Response, best_first
from droplens.domain.run import Run, RunKey, Stage, Status
from droplens.evaluation.artefact import named_suspects, read_artefact, write_suspects
from droplens.evaluation.comparison import compare
from droplens.evaluation.evaluation import (
    accuracy_on_test,
    cross_validation,
    evaluate,
    input_size,
)
from droplens.evaluation.measure import OutOfTime, measure
from droplens.imaging.prepare import Preprocessing, prepare
from droplens.journey.invocation import Invocation
from droplens.journey.origin import check_model_object, check_origin
from droplens.journey.retire import announce, announce_if_replaced
from droplens.journey.rollback import Restoration
from droplens.journey.train import BUILTIN
from droplens.prediction.loaded_models import LoadedModels
from droplens.prediction.predictor import Decoding, InProcessPredictor
from droplens.records.manifest import PackedDataset
from droplens.report.class_map import ClassMap, Explain, parse_class_map
from droplens.report.publish import publish
from droplens.runtime.settings import PromotionSettings
from droplens.runtime.telemetry import count, follow, logger
from droplens.state import endpoints, registry
from droplens.state.cards import Cards, is_past
from droplens.state.packed import read_packed
from droplens.state.registry import Registry
from droplens.statistics.calibration import Calibration
from droplens.statistics.conformal import LabelSets
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
    """Makes deployed models live, if they may be. models: those that this process runs itself."""

    bucket: Bucket
    cards: Cards
    models: LoadedModels
    registry: Registry
    sagemaker: "SageMakerClient"
    runtime: "SageMakerRuntimeClient"
    settings: PromotionSettings

    def start(
        self, event: Mapping[str, Any], invocation: Invocation
    ) -> tuple[RunKey | None, Status | None]:
        """Promote the run of an endpoint or model package, or complete its rollback.

        event: SageMaker's, of an endpoint in service or a decision on a model package; unparsed,
        since the next invocation gets it where this one runs out of time. Returns the run and its
        status, None where there is none, or nothing to do.
        """
        key = self._run_of(event)
        if key is None:
            return None, None
        follow(key)
        run = invocation.runs.get(key)
        if run is not None and (surplus := _surplus(event, run)) is not None:
            # It could not be deleted earlier: SageMaker refuses that while it is being created.
            endpoints.dispose(self.sagemaker, invocation.runs, key, surplus)
            return key, run.status
        if run is not None and run.status is Status.RESTORING:
            restoration = Restoration(cards=self.cards)
            return key, restoration.complete(run, self.settings.reclassify, invocation)
        try:
            return key, self.promote(key, invocation)
        except OutOfTime:
            logger.info("out of time: continued in another invocation")
            invocation.invoke(continued(event))
            return key, Status.MEASURING

    def promote(self, key: RunKey, invocation: Invocation) -> Status | None:
        """Measure the run's endpoint and make its model live if it may be.

        Every step finds what an earlier, interrupted attempt has done, and continues from there.
        Returns the run's status, or None if there was nothing to do. Raises OutOfTime where the
        invocation has no time for the next part of the measurement; the stage is free then.
        """
        if not invocation.runs.claim(key, Stage.PROMOTE):
            logger.info("stage is done, or claimed by another invocation")
            invocation.failures.notify_once(key)
            return None
        run = invocation.runs.get(key)
        if run is None:
            return None
        with invocation.failures.recorded(key, Stage.PROMOTE):
            kept = self.cards.of_run(key.classifier, key.run_id)
            card = kept or self._measure(run, invocation)
            try:
                live = self.cards.live(key.classifier)
                # A live model was judged before; one that a newer model overtook is superseded.
                if not is_past(card, live):
                    # Judged first: no approval is requested for a model that cannot go live.
                    self._judged(card, live)
                    if not self._approved(card, run, invocation):
                        return Status.AWAITING
                return self._go_live(card, invocation)
            except Refused as refusal:
                return self._refuse(card, refusal, invocation)
        return Status.FAILED

    def _measure(self, run: Run, invocation: Invocation) -> ModelCard:
        try:
            return self._measured(run, invocation)
        except UserError:
            # The run has failed: its endpoint is no longer needed, and may be billed by the hour.
            endpoints.dispose(self.sagemaker, invocation.runs, run.key, run.endpoint)
            raise

    def _measured(self, run: Run, invocation: Invocation) -> ModelCard:
        check_origin(run.image, run.model_data, run.key, self.settings)
        check_model_object(run.model, run.model_data, run.key, self.settings)
        dataset = read_packed(self.bucket, run.key)
        preprocessing = sender_preprocessing(dataset, run.trainer, run.image_size)
        measured = measure(
            self.bucket,
            run.key,
            dataset,
            preprocessing,
            self._predict(run, dataset, preprocessing),
            invocation.has_time,
        )
        artefact = read_artefact(self.bucket, run.model_data, len(dataset.classes))
        found = evaluate(
            measured.validation,
            dataset.classes,
            dataset.validation,
            self.settings.confident_precision,
            candidate_precision=self.settings.candidate_precision,
            unfamiliar_share=self.settings.unfamiliar_share,
            training=artefact.training,
        )
        calibration = Calibration.from_dict(found["calibration"])
        live = self.cards.live(run.key.classifier)
        comparison = compare(found, live, self._evaluation(live)).to_dict() if live else None
        suspects = named_suspects(self.bucket, dataset, artefact.suspects or ())
        measured_at = datetime.now(UTC).isoformat(timespec="seconds")
        evaluation: dict[str, Any] = {
            **found,
            **run.key.as_key(),
            "endpoint": run.endpoint,
            "trainer": run.trainer,
            "measured_at": measured_at,
            "droplens_version": __version__,
            "cross_validation": cross_validation(artefact.training),
            "input_size": input_size(artefact.training),
            # Reported only: gate, calibration, threshold and comparison rest on validation alone.
            "test": accuracy_on_test(measured.test, calibration, dataset.test),
            "comparison": comparison,
            "suspects": None
            if artefact.suspects is None
            else {"suspects": len(suspects), "training": dataset.train},
        }
        card = ModelCard(
            classifier=run.key.classifier,
            run_id=run.key.run_id,
            endpoint=run.endpoint,
            trainer=run.trainer,
            classes=dataset.classes,
            preprocessing=preprocessing,
            input_size=evaluation["input_size"],
            measured=measurement(found),
            calibration=calibration,
            ece_before=found["calibration"]["ece_before"],
            ece_after=found["calibration"]["ece_after"],
            confident_from=found["confident"]["threshold"],
            coverage=found["confident"]["share"],
            unconfident_because=found["confident"]["reason"],
            confident_by_class=found["confident"]["by_class"],
            novelty=card_novelty(found["familiarity"]),
            candidates=card_candidates(found["candidates"]),
            comparison=comparison,
            promoted_at=measured_at,
            droplens_version=__version__,
            model=run.model,
        )
        evaluation["gate"] = {
            "minimum_accuracy": self.settings.minimum_accuracy,
            "accuracy_confidence": self.settings.accuracy_confidence,
            "lower_end": round(lower_end(card.measured, self.settings.accuracy_confidence), 6),
        }
        evaluation["decision"] = self._decision(card, live)
        # An interrupted attempt has written the same, except for the time and the comparison.
        self.bucket.write_json(
            layout.evaluation_key(card.classifier, card.run_id),
            json.dumps(evaluation, ensure_ascii=False).encode(),
        )
        if artefact.suspects is not None:
            write_suspects(self.bucket, run.key, suspects)
        report = publish(
            self.bucket,
            dataset,
            evaluation,
            artefact.training,
            suspects,
            self._explain(run, dataset, preprocessing, invocation),
        )
        size = {"input_size": card.input_size} if card.input_size else {}
        invocation.runs.note(run.key, report=report, **size)
        self.cards.keep(card)
        count("MeasuredAccuracy", 100 * card.measured.accuracy, MetricUnit.Percent)
        return card

    def _predict(
        self, run: Run, dataset: PackedDataset, preprocessing: Preprocessing
    ) -> Callable[[bytes], Response]:
        """The candidate's response for one prepared JPEG, as classify_image will get it."""
        if run.model is None:
            return lambda picture: predict_with_retries(
                self.runtime, run.endpoint, picture, len(dataset.classes), run.trainer
            )
        predictor = self._in_process(run, run.model, dataset, preprocessing)
        return lambda picture: predictor.predict(predictor.prepare(picture, Decoding())[0])

    def _in_process(
        self, run: Run, model: ModelObject, dataset: PackedDataset, preprocessing: Preprocessing
    ) -> InProcessPredictor:
        classifier = run.key.classifier
        return self.models.predictor(classifier, model, preprocessing, len(dataset.classes))

    def _explain(
        self,
        run: Run,
        dataset: PackedDataset,
        preprocessing: Preprocessing,
        invocation: Invocation,
    ) -> Explain | None:
        """The class map of a packed image, by the candidate itself, while there is time."""
        if run.trainer == BUILTIN:
            return None
        predictor = self._in_process(run, run.model, dataset, preprocessing) if run.model else None

        def explained(image: bytes) -> ClassMap | None:
            if not invocation.has_time():
                return None
            if predictor is None:
                body, _ = prepare(image, preprocessing)
                return parse_class_map(explain(self.runtime, run.endpoint, body))
            found = predictor.explain(image)
            if found.class_map is None:
                return None
            label = best_first(found.probabilities)[0]
            return ClassMap(label, tuple(map(tuple, found.class_map.tolist())))

        return explained

    def _compared(self, card: ModelCard, live: ModelCard | None) -> ModelCard:
        """The card, compared with the model that is live now, by the stored predictions of both."""
        if live is None:
            return replace(card, comparison=None)
        if card.comparison is not None and card.comparison["run_id"] == live.run_id:
            return card
        found = self._evaluation(card) or _evaluation_of(card)
        return replace(card, comparison=compare(found, live, self._evaluation(live)).to_dict())

    def _evaluation(self, card: ModelCard) -> Mapping[str, Any] | None:
        try:
            body, _ = self.bucket.read(layout.evaluation_key(card.classifier, card.run_id))
        except ObjectMissing:
            return None
        return dict(json.loads(body))

    def _decision(self, card: ModelCard, live: ModelCard | None) -> dict[str, str | None]:
        """The decision by the measurement alone; a person may still have to approve the model."""
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

    def _approved(self, card: ModelCard, run: Run, invocation: Invocation) -> bool:
        """Register the model; False if a person has yet to decide on it.

        Raises Refused where the person has rejected it.
        """
        runs = invocation.runs
        manual = self.settings.approval == MANUAL
        package = run.model_package
        if not package:
            try:  # it may have been measured in another invocation, and its item changed since
                check_origin(run.image, run.model_data, run.key, self.settings)
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
            invocation.failures.publish(
                f"Droplens: {run.key.classifier} awaits approval",
                f"Run {run.key.run_id} of classifier {run.key.classifier}: validation accuracy "
                f"{counted(card.measured.right, card.measured.pictures)}. It goes live when its "
                f"model is approved in the Model Registry:\n\n"
                f"aws sagemaker update-model-package --model-package-arn {package} "
                f"--model-approval-status Approved",
            )
            runs.note(run.key, approval_asked=True)
        runs.wait(run.key)
        # The event of a decision that was made before `wait` has found the stage claimed.
        if not self._decided(package):
            logger.info("model waits for approval", model_package=package)
            return False
        return runs.claim(run.key, Stage.PROMOTE)

    def _decided(self, package: str) -> bool:
        status, words = self.registry.approval(package)
        if status == registry.REJECTED:
            raise Refused("approval.rejected", words or "rejected in the Model Registry")
        return status == registry.APPROVED

    def _go_live(self, card: ModelCard, invocation: Invocation) -> Status:
        runs, invoke = invocation.runs, invocation.invoke
        key = RunKey(card.classifier, card.run_id)
        ready = replace(card, promoted_at=datetime.now(UTC).isoformat(timespec="seconds"))
        # Other models may have gone live since it was measured, weeks ago perhaps: it is judged
        # against the one that it replaces.
        live = self.cards.make_live(ready, lambda replaced: self._judged(ready, replaced))
        if live.run_id != key.run_id:
            return self._superseded(card, live, invocation)
        self.cards.make_default_if_first(key.classifier)
        announce(live, self.settings.reclassify, invoke)
        runs.end(key, Status.LIVE, accuracy=card.measured.accuracy, generation=live.generation)
        announce_if_replaced(live, self.cards, self.settings.reclassify, invoke)
        logger.info("model is live", accuracy=card.measured.accuracy)
        count("RunLive")
        return Status.LIVE

    def _refuse(self, card: ModelCard, refusal: Refused, invocation: Invocation) -> Status:
        key = RunKey(card.classifier, card.run_id)
        endpoints.dispose(self.sagemaker, invocation.runs, key, card.endpoint)
        invocation.failures.fail(
            key,
            Stage.PROMOTE,
            refusal.code,
            str(refusal),
            Status.REFUSED,
            accuracy=card.measured.accuracy,
        )
        return Status.REFUSED

    def _superseded(self, card: ModelCard, live: ModelCard, invocation: Invocation) -> Status:
        key = RunKey(card.classifier, card.run_id)
        endpoints.dispose(self.sagemaker, invocation.runs, key, card.endpoint)
        invocation.runs.end(
            key,
            Status.SUPERSEDED,
            accuracy=card.measured.accuracy,
            replaced_by=live.run_id,
        )
        logger.info("run is superseded by a newer one", live=live.run_id)
        return Status.SUPERSEDED

    def _run_of(self, event: Mapping[str, Any]) -> RunKey | None:
        if detail_type(event) == MODEL_DEPLOYED:
            return model_deployed(event)
        if detail_type(event) == MODEL_PACKAGE:
            return registry.run_of_package(self.sagemaker, model_package_arn(event))
        changed = endpoint_changed(event)
        return run_of_resource(self.sagemaker, changed.arn, changed.tags)


def lower_end(measured: Measurement, confidence: float) -> float:
    """The lower end of the accuracy's interval, which MinimumAccuracy is compared with."""
    return wilson(measured.right, measured.pictures, two_sided(confidence))[0]


def too_inaccurate(measured: Measurement, minimum: float, confidence: float) -> str | None:
    """Why a candidate's accuracy is not shown to reach `minimum`, or None where it is.

    Compared is the lower end of the accuracy's Wilson interval of `confidence`, two-sided: few
    images, all of them correct, are no evidence of a good model. At a confidence of 0 it is the
    accuracy as counted.
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
    """Why a comparison (`comparison.Comparison.to_dict`) rules a candidate out, or None."""
    # With other classes, an earlier version compared all images, which is no reason to refuse.
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


def _surplus(event: Mapping[str, Any], run: Run) -> str | None:
    """The endpoint of `event` if it is not needed, or None.

    It is of an earlier try, or is to be removed, or its run has ended without a model.
    """
    if detail_type(event) in (MODEL_PACKAGE, MODEL_DEPLOYED):
        return None
    name = endpoint_changed(event).name
    over = run.status in (Status.FAILED, Status.REFUSED, Status.SUPERSEDED) or (
        run.status is Status.REPLACED and run.retired
    )
    unwanted = name in run.to_remove or name != (run.endpoint or name)
    return name if over or unwanted else None


def _evaluation_of(card: ModelCard) -> dict[str, Any]:
    """What a card holds of its model's evaluation, where the evaluation itself is gone."""
    return {
        "classes": [{"name": name} for name in card.classes],
        "pictures": card.measured.pictures,
        "accuracy": {"value": card.measured.accuracy},
        "answers": [],
    }


def measurement(evaluation: Mapping[str, Any]) -> Measurement:
    """The part of an evaluation that a card holds."""
    return Measurement(
        pictures=evaluation["pictures"],
        available=evaluation["available"],
        accuracy=evaluation["accuracy"]["value"],
        top5=evaluation["top5"]["value"],
        latency_ms_p50=evaluation["latency_ms"]["p50"],
        latency_ms_p95=evaluation["latency_ms"]["p95"],
    )


def card_novelty(familiarity: Mapping[str, Any]) -> Novelty | None:
    """The part of an evaluation's familiarity that a card holds; None where it cannot tell."""
    if familiarity["limit"] is None:
        return None
    return Novelty(
        limit=familiarity["limit"],
        share=familiarity["share"]["value"],
        quantiles=tuple(familiarity["quantiles"]),
    )


def card_candidates(candidates: Mapping[str, Any]) -> LabelSets | None:
    """The label sets of an evaluation, or None where it has none."""
    return None if candidates["method"] is None else LabelSets.from_dict(dict(candidates))


def sender_preprocessing(dataset: PackedDataset, trainer: str, image_size: int) -> Preprocessing:
    """How an image is prepared before it is sent, so that the model's input is as in training.

    The built-in algorithm trains on the centre square of each record, but resizes whatever it is
    sent to a square, aspect ratio not kept; our own container prepares images itself.
    """
    crop = image_size if trainer == BUILTIN else None
    return Preprocessing(shorter_side=dataset.shorter_side, crop=crop)
