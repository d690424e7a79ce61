"""The classification of one dropped image, idempotent per image version and model."""

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from droplens.aws.events import ObjectCreated, is_later
from droplens.aws.s3 import Bucket
from droplens.aws.sagemaker_runtime import EndpointBusy, EndpointMissing, predict
from droplens.classify.drift import count_prediction
from droplens.classify.former_results import former_results
from droplens.classify.routing import Router, likely_classifier
from droplens.domain import layout, result
from droplens.domain.card import ModelCard
from droplens.domain.errors import NotBegun, ObjectMissing, RetryLater
from droplens.domain.review import Review, review_of
from droplens.domain.stored_object import ObjectInfo
from droplens.imaging.prepare import ImageError, Limits
from droplens.imaging.weighted_semaphore import WeightedSemaphore
from droplens.prediction.loaded_models import LoadedModels, ModelUnusable
from droplens.prediction.predictor import Decoding, EndpointPredictor, Predictor
from droplens.runtime.telemetry import count, logger
from droplens.state.cards import CachedCards

if TYPE_CHECKING:
    from types_boto3_sagemaker_runtime.client import SageMakerRuntimeClient


# The metadata of a result object.
META_IMAGE_ETAG = "picture-etag"
META_VERSION = "picture-version"
META_SEQUENCER = "picture-sequencer"
META_KEY = "picture-key-sha256"
META_RUN = "run-id"
META_GENERATION = "live-generation"

ATTEMPTS = 5

# Timeouts of one call of the endpoint; SageMaker's own limit for a response is 60 s.
CONNECT_SECONDS = 5
READ_SECONDS = 50
# Including what follows: the result is written and its event published.
CALL_SECONDS = CONNECT_SECONDS + READ_SECONDS + 10
# A call that a busy endpoint refused is repeated once, after up to so many seconds.
PAUSE_SECONDS = 2.0


def unlimited() -> float:
    """The remaining seconds of a caller without a deadline."""
    return math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """The classification of dropped images: one object per process, shared by its threads.

    is_stranded: whether a classifier's newest run ended without a model.
    decoding: pixels that may be decoded at the same time, so that a batch of large images needs
        no more memory than the largest one.
    endpoint_calls: calls of the endpoint at the same time.
    models: those that this process runs itself.
    request_endpoint: called with bucket and classifier when the live endpoint is missing; None
        where idle endpoints are not removed.
    result_schema: the version of results and events, "v1" or "v2".
    enter_review: called with the review that a stored result calls for, also where it was called
        before, and may return before it is entered; None where nothing is reviewed.
    spot_check_share: of all images, to be reviewed.
    """

    bucket: Bucket
    cards: CachedCards
    router: Router
    is_stranded: Callable[[str], bool]
    runtime: "SageMakerRuntimeClient"
    decoding: WeightedSemaphore
    endpoint_calls: WeightedSemaphore
    models: LoadedModels
    limits: Limits = field(default_factory=Limits)
    request_endpoint: Callable[[str, str], None] | None = None
    result_schema: str = result.V2
    enter_review: Callable[[Review], object] | None = None
    spot_check_share: float = 0.0

    def classify(
        self,
        dropped: ObjectCreated,
        seconds_left: Callable[[], float] = unlimited,
        *,
        isolated: bool = False,
    ) -> dict[str, Any] | None:
        """Classify one image and store the result.

        seconds_left: until the invocation times out. A call of the endpoint for which there may be
        too few is not begun, and NotBegun is raised. isolated: decode the image in the sandbox even
        if it is plain.

        Returns the detail of the "Image Classified" event, or None where there is no result: not an
        image's key, a deleted image, a folder that names no classifier, or no model yet (the sweep
        after its promotion finds the image). Raises RetryLater for transient faults.
        """
        if not layout.is_image_key(dropped.key):
            return None
        classifier, card = self._card_for(dropped.key)
        if classifier is None or card is None:
            self._wait(dropped.key, classifier)
            return None
        try:
            # The current version, which may be newer than the event's.
            data, image = self.bucket.read_at_most(dropped.key, self.limits.max_bytes)
        except ObjectMissing:
            logger.info("picture no longer exists", key=dropped.key)
            return None
        try:
            document, card = self._classified(image, data, card, seconds_left, isolated)
        except ImageError as problem:
            document = result.rejected(self.bucket.name, image, problem, card)
        rejected = document["status"] == "rejected"
        logger.info(
            f"picture {document['status']}",
            key=dropped.key,
            classifier=card.classifier,
            run_id=card.run_id,
            **({"code": document["error"]["code"]} if rejected else _logged(document)),
        )
        count("PictureClassified", int(not rejected))
        count("PictureRejected", int(rejected))  # its average is the share, which has an alarm
        if not rejected:
            count_prediction(document["prediction"], card)
        detail = self._store(image, dropped.sequencer_of(image), document, card)
        if dropped.answered_by_default:
            self._remove_former(image.key, card)
        return detail

    def _remove_former(self, key: str, card: ModelCard) -> None:
        """Remove the default classifier's result, now that the image's own classifier has one.

        After a crash before this, the next receive of the message does it.
        """
        default = self.router.default()
        if default is None or layout.first_folder(key) != card.classifier:
            return
        for place, etag in former_results(self.bucket, key, default):
            if self.bucket.delete(place, etag):
                logger.info("result of the default classifier is removed", key=key, result=place)

    def _wait(self, key: str, classifier: str | None) -> None:
        """Log that an image waits; as a warning with a metric if it waits for no run."""
        folder = layout.first_folder(key)
        if classifier is None and folder is not None:
            logger.warning(
                "picture cannot be classified: its first folder names no classifier",
                key=key,
                folder=folder,
                likely=likely_classifier(folder, self.cards.classifiers()),
            )
            count("PictureStranded")
            return
        if classifier is not None and self.is_stranded(classifier):
            logger.warning(
                "picture cannot be classified: the newest run of its classifier produced no model",
                key=key,
                classifier=classifier,
            )
            count("PictureStranded")
            return
        logger.info("picture waits for its first model", key=key, classifier=classifier)

    def _card_for(self, key: str) -> tuple[str | None, ModelCard | None]:
        """The classifier for `key`, and its live card."""
        named = layout.named_classifier(key)
        if named is not None and (card := self.cards.live(named)):
            return named, card
        classifier = self.router.classifier_for(key)
        return classifier, self.cards.live(classifier) if classifier else None

    def _classified(
        self,
        image: ObjectInfo,
        data: bytes | None,
        card: ModelCard,
        seconds_left: Callable[[], float],
        isolated: bool,
    ) -> tuple[dict[str, Any], ModelCard]:
        if data is None:
            raise ImageError(
                "image.too_large",
                f"{image.bytes} bytes; at most {self.limits.max_bytes} are read",
            )
        decoding = Decoding(self.limits, self.decoding.held, isolated)
        try:
            return self._predicted(image, data, decoding, card, seconds_left), card
        except (EndpointMissing, ModelUnusable):
            # The model was replaced after its card was read: take the one that is live now.
            fresh = self.cards.live(card.classifier, fresh=True)
            if fresh is None or fresh.endpoint == card.endpoint:
                if self.request_endpoint and card.model is None:
                    self.request_endpoint(self.bucket.name, card.classifier)
                raise
            return self._predicted(image, data, decoding, fresh, seconds_left), fresh

    def _predicted(
        self,
        image: ObjectInfo,
        data: bytes,
        decoding: Decoding,
        card: ModelCard,
        seconds_left: Callable[[], float],
    ) -> dict[str, Any]:
        predictor = self._predictor(card, seconds_left)
        prepared, info = predictor.prepare(data, decoding)
        # Of an endpoint, each call is counted by itself.
        with _counted() if card.model else nullcontext():
            response = predictor.predict(prepared)
        return result.classified(self.bucket.name, image, info, response, card)

    def _predictor(self, card: ModelCard, seconds_left: Callable[[], float]) -> Predictor[Any]:
        if card.model is not None:
            return self.models.predictor(
                card.classifier, card.model, card.preprocessing, len(card.classes)
            )
        return EndpointPredictor(card.preprocessing, partial(self._response, card, seconds_left))

    def _response(
        self, card: ModelCard, seconds_left: Callable[[], float], body: bytes
    ) -> result.Response:
        """The endpoint's response; with one retry where it is busy and there is time."""
        with self.endpoint_calls.held(1):
            try:
                return self._call(card, body, seconds_left)
            except EndpointBusy:
                pause = random.uniform(0.1, 1) * PAUSE_SECONDS
                if seconds_left() < pause + CALL_SECONDS:
                    raise
                time.sleep(pause)
                return self._call(card, body, seconds_left)

    def _call(
        self, card: ModelCard, body: bytes, seconds_left: Callable[[], float]
    ) -> result.Response:
        """One call, with metrics of failure and latency."""
        if (left := seconds_left()) < CALL_SECONDS:
            raise NotBegun("endpoint.no_time", f"{left:.0f} s are left: a call may take longer")
        with _counted():
            return predict(self.runtime, card.endpoint, body, len(card.classes), card.trainer)

    def _store(
        self, image: ObjectInfo, sequencer: str | None, document: dict[str, Any], card: ModelCard
    ) -> dict[str, Any] | None:
        """Write the result unless the same or a newer one exists; returns its event's detail.

        Its review is entered after it, by a repeat of the message too.
        """
        key = layout.result_key(image.key, card.classifier)
        ours = {
            META_IMAGE_ETAG: image.etag,
            META_VERSION: image.version_id or "",
            META_KEY: _key_digest(image.key),
            META_RUN: card.run_id,
            META_GENERATION: str(card.generation),
        }
        metadata = {**ours, META_SEQUENCER: sequencer} if sequencer else ours
        written = result.in_version(document, self.result_schema)
        body = result.to_json(written)
        replacing: str | None = None
        for _ in range(ATTEMPTS):
            if self.bucket.write_json(key, body, replacing=replacing, metadata=metadata):
                self._enter(document, key)
                return result.classified_event(written, key, card.generation)
            try:
                standing = self.bucket.head(key)
            except ObjectMissing:
                replacing = None  # it was deleted meanwhile
                continue
            if ours.items() <= standing.metadata.items():
                # A repeat. Its event may not have been published: publish it again, with the same
                # id and the stored result, since ours may differ: a decoder may have timed out.
                if (first := self._unchanged(key, standing)) is not None:
                    self._enter(first, key)
                    first = result.in_version(first, self.result_schema)
                    return result.classified_event(first, key, card.generation)
                continue
            if standing.metadata.get(META_KEY, ours[META_KEY]) != ours[META_KEY]:
                key, replacing = layout.other_result_key(image.key, card.classifier), None
                continue
            if self._is_newer(standing.metadata, image, sequencer, card):
                return None
            replacing = standing.etag
        raise RetryLater("result.contended", f"{key} keeps changing")

    def _enter(self, document: dict[str, Any], key: str) -> None:
        """Enter the review that this result at `key` calls for, if it does."""
        if self.enter_review is None or document["status"] != "classified":
            return
        if (review := review_of(document, key, self.spot_check_share)) is not None:
            self.enter_review(review)

    def _unchanged(self, key: str, standing: ObjectInfo) -> dict[str, Any] | None:
        """The stored result, or None if it has changed since its metadata was read."""
        try:
            body, info = self.bucket.read(key)
        except ObjectMissing:
            return None
        return dict(json.loads(body)) if info.etag == standing.etag else None

    def _is_newer(
        self,
        standing: Mapping[str, str],
        image: ObjectInfo,
        sequencer: str | None,
        card: ModelCard,
    ) -> bool:
        """Whether the stored result, by its metadata, is newer than ours."""
        version = (image.etag, image.version_id or "")
        if (standing.get(META_IMAGE_ETAG), standing.get(META_VERSION)) == version:
            # By generation, since after a rollback the older run's result is the newer one.
            return int(standing.get(META_GENERATION, "0")) > card.generation
        if sequencer and (stored := standing.get(META_SEQUENCER)):
            return is_later(stored, sequencer)
        # Only events of S3 have a sequencer; without one, compare with the current version.
        try:
            now = self.bucket.head(image.key)
        except ObjectMissing:
            return True  # the image no longer exists: keep the stored result
        return (now.etag, now.version_id or "") != version


@contextmanager
def _counted() -> Iterator[None]:
    """Metrics of failure and latency of a prediction, by an endpoint or by this process."""
    began = time.monotonic()
    try:
        yield
    except (RetryLater, result.UnexpectedResponse):
        count("EndpointError", 1)
        raise
    count("EndpointError", 0)  # its average is the share, which has an alarm
    count("EndpointLatency", 1000 * (time.monotonic() - began), MetricUnit.Milliseconds)


def _logged(document: dict[str, Any]) -> dict[str, Any]:
    """What the log line of a classified image has of its prediction: numbers, which queries add."""
    prediction = document["prediction"]
    unfamiliar = None if prediction["familiar"] is None else int(not prediction["familiar"])
    return {"probability": prediction["probability"], "unfamiliar": unfamiliar}


def _key_digest(key: str) -> str:
    """A digest of the key: metadata are HTTP headers, which are limited to ASCII."""
    return hashlib.sha256(key.encode()).hexdigest()
