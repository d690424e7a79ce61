"""Results for the gallery and for the page of one: the index, whole results, and class maps."""

import json
import threading
from dataclasses import dataclass
from typing import Any

from droplens.aws.sagemaker_runtime import EndpointMissing, explain
from droplens.classify.former_results import MAX_RESULT_BYTES
from droplens.domain.choices import BUILTIN
from droplens.domain.errors import ObjectMissing, RetryLater
from droplens.domain.stored_object import NO_VERSION
from droplens.imaging.prepare import ImageError, Limits, prepare
from droplens.prediction.request_body import fitting
from droplens.report.class_map import ClassMap, overlay, parse_class_map, strongest
from droplens_cli.results import to_row
from droplens_console.data.cache_folder import cache_folder
from droplens_console.data.results_index import ResultsIndex
from droplens_console.data.results_sync import ResultsSync
from droplens_console.stack import ConsoleStack

# Sides of a class map's picture, which the browser stretches over the image.
MAP_SIDE = 192
_MAPS_KEPT = 100


class NoResult(LookupError):
    """The bucket has no such result."""


class NoClassMap(Exception):
    """There is no class map of the result; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class DrawnMap:
    """A class map to be shown over its image. label: the class that it speaks for; strongest:
    where, in words, it does most."""

    png: bytes
    label: str
    strongest: str


class ResultsReader:
    """The results of a stack. Thread-safe."""

    def __init__(self, stack: ConsoleStack) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        self._index: ResultsIndex | None = None
        self._syncs: dict[str, ResultsSync] = {}
        self._maps: dict[tuple[str, ...], DrawnMap] = {}

    @property
    def index(self) -> ResultsIndex:
        """The index of this stack's results."""
        with self._lock:
            if self._index is None:
                folder = cache_folder(self._stack.target, self._stack.bucket.name)
                self._index = ResultsIndex(folder / "results.sqlite")
            return self._index

    def sync(self, classifier: str) -> ResultsSync:
        """What keeps the index of the classifier up to date."""
        index = self.index
        with self._lock:
            if classifier not in self._syncs:
                self._syncs[classifier] = ResultsSync(self._stack.bucket, index, classifier)
            return self._syncs[classifier]

    def document(self, key: str) -> dict[str, Any]:
        """The whole result. Raises NoResult."""
        try:
            body, _ = self._stack.bucket.read_at_most(key, MAX_RESULT_BYTES)
            found = json.loads(body or b"null")
        except (ObjectMissing, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or to_row(found) is None:
            raise NoResult(f"there is no result {key}")
        return found

    def class_map(self, result: dict[str, Any]) -> DrawnMap:
        """Which regions of the image speak for its class, by the model that has predicted it.

        Raises NoClassMap.
        """
        key = (result["image"]["key"], result["image"]["version_id"], result["model"]["run_id"])
        with self._lock:
            if key in self._maps:
                return self._maps[key]
        drawn = self._drawn(result)
        with self._lock:
            self._maps[key] = drawn
            while len(self._maps) > _MAPS_KEPT:
                del self._maps[next(iter(self._maps))]
        return drawn

    def _drawn(self, result: dict[str, Any]) -> DrawnMap:
        classifier, run_id = result["classifier"], result["model"]["run_id"]
        live = self._stack.cards.live(classifier)
        card = live if live and live.run_id == run_id else None
        card = card or self._stack.cards.of_run(classifier, run_id)
        if result["status"] != "classified" or card is None:
            raise NoClassMap("the picture was not classified by a model that is known")
        if card.trainer == BUILTIN:
            raise NoClassMap("models of the built-in algorithm have no class maps")
        if card.model is not None:
            raise NoClassMap(
                f"model {run_id} has no endpoint to compute a class map: its report has class maps"
            )
        try:
            found = self._explained(result, card.endpoint, card.preprocessing)
        except EndpointMissing:
            raise NoClassMap(f"the endpoint of model {run_id} is not in service") from None
        except RetryLater as error:
            raise NoClassMap(f"the endpoint does not respond now: {error.message}") from None
        except (ValueError, ImageError) as error:
            raise NoClassMap(str(error)) from None
        if found is None or found.label >= len(card.classes):
            raise NoClassMap(f"the model {run_id} has none")
        png = overlay(found, MAP_SIDE, MAP_SIDE)
        return DrawnMap(png, card.classes[found.label], strongest(found))

    def _explained(
        self, result: dict[str, Any], endpoint: str, preprocessing: Any
    ) -> ClassMap | None:
        image = result["image"]
        try:
            data, _ = self._stack.bucket.read_version_at_most(
                image["key"], image["version_id"] or NO_VERSION, Limits().max_bytes
            )
        except ObjectMissing:
            raise NoClassMap("the picture is not in the bucket any more") from None
        if data is None:
            raise NoClassMap("the picture is too large")
        body, _ = prepare(data, preprocessing, isolated=True)
        runtime = self._stack.client("sagemaker-runtime")
        return parse_class_map(explain(runtime, endpoint, fitting(body)))
