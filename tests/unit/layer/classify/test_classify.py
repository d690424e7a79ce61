"""Every picture gets one right answer, whatever happens to it, its event or its model."""

import dataclasses
import json
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from PIL import Image

from droplens.aws.eventbridge import EventPublisher
from droplens.aws.events import ObjectCreated, is_later
from droplens.aws.s3 import Bucket
from droplens.classify.classify import CALL_SECONDS, Classification
from droplens.classify.routing import Router
from droplens.domain import layout
from droplens.domain.card import Novelty
from droplens.domain.errors import NotBegun, ObjectMissing, RetryLater
from droplens.domain.result import classified_event
from droplens.domain.run import RunKey, Status
from droplens.imaging.prepare import CODES, ImageError, Limits, Preprocessing, prepare
from droplens.imaging.weighted_semaphore import WeightedSemaphore
from droplens.prediction.loaded_models import LoadedModels
from droplens.prediction.request_body import fitting
from droplens.runtime.telemetry import metrics
from droplens.state.cards import Cards
from droplens.statistics.conformal import THRESHOLD, LabelSets
from tests.support.aws_account import BUCKET, Cloud
from tests.support.aws_fakes import FakeRuntime, check_request, refusal
from tests.support.builders import RUN, card, go_live, jpeg, redness
from tests.support.classification import BLUE, KEY, RED, classification, dropped
from tests.support.repository import ROOT
from tools.contract import EVENT as EVENT_SCHEMA
from tools.contract import EVENT_V1, RESULT_V1, validate
from tools.contract import RESULT as RESULT_SCHEMA

FROZEN = ROOT / "tests/unit/layer/domain/frozen"
# The own images' novelty is uniform between 0 and 4.
OWN = Novelty(limit=3.96, share=0.01, quantiles=tuple(n / 25 for n in range(101)))
RESULT = "results/cars/a+b %41 車.jpg.json"
NEWER = "20261124-120000-bbbbbb"


@pytest.fixture
def live(cloud: Cloud, cards: Cards) -> Cloud:
    """An account in which the classifier "cars" tells blue from red."""
    cloud.runs().open(RUN, {"version": "v"})
    go_live(cards, card())
    cards.make_default_if_first("cars")
    return cloud


def test_a_picture_is_answered(live: Cloud) -> None:
    event = dropped(live)
    sent = classification(live).classify(event)
    stored = live.json(RESULT)
    validate(RESULT_SCHEMA, stored)
    validate(EVENT_SCHEMA, sent)
    assert stored["status"] == "classified"
    assert stored["prediction"]["label"] == "red"
    assert stored["prediction"]["confident"] is True
    assert [entry["label"] for entry in stored["top"]] == ["red", "blue"]
    assert stored["image"] == {
        "bucket": BUCKET,
        "key": KEY,
        "etag": event.etag,
        "version_id": event.version_id,
        "bytes": len(RED),
        "width": 80,
        "height": 70,
        "format": "JPEG",
    }
    assert stored["model"] == {"run_id": RUN.run_id, "endpoint": card().endpoint, "accuracy": 0.9}
    assert sent is not None
    assert sent["result"] == {"bucket": BUCKET, "key": RESULT}
    assert sent["prediction"] == stored["prediction"]


@pytest.mark.parametrize(("threshold", "confident"), [(0.5, True), (0.999, False), (None, False)])
def test_confidence_is_the_model_card_s_threshold(
    cloud: Cloud, cards: Cards, threshold: float | None, confident: bool
) -> None:
    go_live(cards, card(confident_from=threshold))
    classification(cloud).classify(dropped(cloud))
    assert cloud.json(RESULT)["prediction"]["confident"] is confident


def telling(novelty: float | None) -> FakeRuntime:
    """An endpoint that tells this novelty of every picture."""
    return FakeRuntime(lambda body: {"probabilities": redness(body), "novelty": novelty})


@pytest.mark.parametrize(
    ("novelty", "familiar", "familiarity"),
    [(-1.0, True, 1.0), (2.0, True, 0.5), (3.96, True, 0.01), (3.97, False, 0.0075), (9, False, 0)],
)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_an_unfamiliar_picture_is_never_confident(
    cloud: Cloud,
    cards: Cards,
    novelty: float,
    familiar: bool,
    familiarity: float,
    version: str,
) -> None:
    go_live(cards, card(novelty=OWN, confident_from=0.5))
    classification(cloud, telling(novelty), result_schema=version).classify(dropped(cloud))
    prediction = cloud.json(RESULT)["prediction"]
    assert prediction["confident"] is familiar
    if version == "v2":
        assert prediction["familiar"] is familiar
        assert prediction["familiarity"] == pytest.approx(familiarity)


@pytest.mark.parametrize(
    ("own", "novelty"), [(None, None), (None, 3.0), (OWN, None)], ids=["neither", "card", "model"]
)
def test_a_model_that_cannot_tell_what_is_familiar_says_so(
    cloud: Cloud, cards: Cards, own: Novelty | None, novelty: float | None
) -> None:
    go_live(cards, card(novelty=own))
    classification(cloud, telling(novelty)).classify(dropped(cloud))
    prediction = cloud.json(RESULT)["prediction"]
    assert (prediction["familiar"], prediction["familiarity"]) == (None, None)
    assert prediction["confident"] is True
    assert cloud.json(RESULT)["candidates"] is None


@pytest.mark.parametrize(("least", "candidates"), [(0.9, ["red"]), (0.001, ["red", "blue"])])
def test_candidates_are_the_model_card_s(
    cloud: Cloud, cards: Cards, least: float, candidates: list[str]
) -> None:
    go_live(cards, card(candidates=LabelSets(0.95, THRESHOLD, {"probability": least})))
    classification(cloud).classify(dropped(cloud))
    assert cloud.json(RESULT)["candidates"] == candidates


@pytest.mark.parametrize("body", [RED, b"no picture"])
def test_v1_is_written_as_it_always_was(cloud: Cloud, cards: Cards, body: bytes) -> None:
    go_live(
        cards,
        card(novelty=OWN, candidates=LabelSets(0.95, THRESHOLD, {"probability": 0.001})),
    )
    sent = classification(cloud, telling(0.5), result_schema="v1").classify(dropped(cloud, body))
    for name, document in ((RESULT_V1, cloud.json(RESULT)), (EVENT_V1, sent)):
        frozen = json.loads((FROZEN / f"{name}.json").read_text("utf-8"))
        Draft202012Validator(frozen).validate(document)


@pytest.mark.parametrize(
    ("stored", "now", "sent"),
    [("v1", "v2", "v1"), ("v2", "v1", "v1"), ("v1", "v1", "v1"), ("v2", "v2", "v2")],
)
def test_a_repeat_after_a_change_of_the_version_sends_what_its_consumers_know(
    live: Cloud, stored: str, now: str, sent: str
) -> None:
    event = dropped(live)
    first = classification(live, result_schema=stored).classify(event)
    again = classification(live, result_schema=now).classify(event)
    assert first is not None
    assert again is not None
    assert again["id"] == first["id"]
    assert live.json(RESULT)["schema"] == f"droplens.result.{stored}"
    validate(EVENT_V1 if sent == "v1" else EVENT_SCHEMA, again)


def test_the_log_says_how_probable_and_whether_unfamiliar(
    cloud: Cloud, cards: Cards, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    go_live(cards, card(novelty=OWN))
    classification(cloud, telling(9.0)).classify(dropped(cloud))
    [line] = [one for one in caplog.records if one.getMessage() == "picture classified"]
    probability = cloud.json(RESULT)["prediction"]["probability"]
    assert vars(line)["probability"] == probability
    assert vars(line)["unfamiliar"] == 1


@pytest.mark.parametrize("key", ["input/cars/", "results/cars/a.jpg.json", "datasets/cars/a.jpg"])
def test_what_is_no_picture_s_key_is_let_be(live: Cloud, key: str) -> None:
    runtime = FakeRuntime(redness)
    assert classification(live, runtime).classify(dropped(live, key=key)) is None
    assert runtime.asked == []


def test_before_any_model_a_picture_waits_without_an_answer(cloud: Cloud) -> None:
    assert classification(cloud).classify(dropped(cloud)) is None
    assert cloud.keys("results/") == []


def test_a_picture_whose_own_model_is_in_the_making_is_not_the_default_s(live: Cloud) -> None:
    live.runs().open(RunKey("birds", RUN.run_id), {"version": "v"})
    assert classification(live).classify(dropped(live, key="input/birds/a.jpg")) is None
    assert live.keys("results/") == []


def test_a_picture_without_a_folder_is_the_default_s(live: Cloud) -> None:
    classification(live).classify(dropped(live, key="input/a.jpg"))
    stored = live.json("results/cars/a.jpg.json")
    validate(RESULT_SCHEMA, stored)
    assert stored["classifier"] == "cars"


@pytest.mark.parametrize(
    ("folder", "likely"),
    [("carz", "cars"), ("Cars", "cars"), ("plants", None), ("My Photos", None), ("", None)],
)
def test_a_picture_in_a_folder_of_no_classifier_waits_and_that_is_said(
    live: Cloud,
    caplog: pytest.LogCaptureFixture,
    fresh_metrics: None,
    folder: str,
    likely: str | None,
) -> None:
    runtime = FakeRuntime(redness)
    event = dropped(live, key=f"input/{folder}/a.jpg")
    assert classification(live, runtime).classify(event) is None
    [record] = caplog.records
    told = vars(record)
    assert record.levelname == "WARNING"
    assert (told["key"], told["folder"], told["likely"]) == (event.key, folder, likely)
    assert counted() == {"PictureStranded": [1]}
    assert (live.keys("results/"), runtime.asked) == ([], [])


# --- what the default classifier answered formerly


@pytest.fixture
def answered_formerly(live: Cloud, cards: Cards) -> ObjectCreated:
    """A picture of "birds" that "cars" answered while there was no "birds", which there is now."""
    event = dropped(live, key="input/birds/a.jpg")
    tools = classification(live)
    everything_s = dataclasses.replace(
        tools, router=OldRouter(tools.router.is_known, tools.router.default)
    )
    everything_s.classify(event)
    assert live.json("results/cars/birds/a.jpg.json")["classifier"] == "cars"
    live.runs().open(RunKey("birds", RUN.run_id), {"version": "v"})
    go_live(cards, card(classifier="birds"))
    return dataclasses.replace(event, answered_by_default=True)


class OldRouter(Router):
    """As it was: folders of no classifier are the default's."""

    def classifier_for(self, key: str) -> str | None:
        return super().classifier_for(key) or self.default()


def test_its_answer_goes_when_the_picture_s_own_classifier_has_answered(
    live: Cloud, answered_formerly: ObjectCreated, caplog: pytest.LogCaptureFixture
) -> None:
    tools = classification(live)
    sent = tools.classify(answered_formerly)
    assert live.keys("results/") == ["results/birds/a.jpg.json"]
    assert "result of the default classifier is removed" in caplog.messages
    assert tools.classify(answered_formerly) == sent
    # It can be had back: the bucket keeps versions.
    assert live.versions("results/cars/birds/a.jpg.json") == 1


def test_an_answer_of_another_picture_at_its_place_stays(
    live: Cloud, answered_formerly: ObjectCreated
) -> None:
    """input/cars/birds/a.jpg has its result where "cars" would have answered input/birds/a.jpg."""
    place = "results/cars/birds/a.jpg.json"
    live.s3.delete_object(Bucket=BUCKET, Key=place)
    classification(live).classify(dropped(live, key="input/cars/birds/a.jpg"))
    classification(live).classify(answered_formerly)
    assert live.json(place)["image"]["key"] == "input/cars/birds/a.jpg"
    assert live.keys("results/") == ["results/birds/a.jpg.json", place]


def test_it_stays_while_the_picture_s_own_classifier_has_not_answered(
    live: Cloud, answered_formerly: ObjectCreated
) -> None:
    runtime = FakeRuntime(redness, error=refusal("ModelError", "InvokeEndpoint"))
    with pytest.raises(RetryLater):
        classification(live, runtime).classify(answered_formerly)
    assert live.keys("results/") == ["results/cars/birds/a.jpg.json"]


def test_nothing_is_removed_of_a_picture_of_the_default_s_own(live: Cloud) -> None:
    tools = classification(live)
    for key in ("input/a.jpg", "input/cars/a.jpg"):
        tools.classify(dataclasses.replace(dropped(live, key=key), answered_by_default=True))
    assert len(live.keys("results/")) == 2


def test_without_a_default_classifier_nothing_of_it_is_looked_for(live: Cloud) -> None:
    live.s3.delete_object(Bucket=BUCKET, Key=layout.DEFAULT_CLASSIFIER_KEY)
    event = dataclasses.replace(dropped(live), answered_by_default=True)
    assert classification(live).classify(event) is not None


def test_a_picture_that_vanished_has_no_answer(
    live: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    event = dropped(live)
    live.s3.delete_object(Bucket=BUCKET, Key=KEY)
    assert classification(live).classify(event) is None
    assert live.keys("results/") == []
    [record] = caplog.records
    assert (record.getMessage(), vars(record)["key"]) == ("picture no longer exists", KEY)


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (80, 70), **more: Any) -> bytes:
    out = BytesIO()
    Image.new(mode, size, 0).save(out, kind, **more)
    return out.getvalue()


REJECTED = {
    "image.empty": b"",
    "image.unreadable": b"a text file called .jpg",
    "image.unsupported_format": b"8BPS" + bytes(60),
    "image.too_large": encoded("BMP", size=(400, 200)),
    "image.too_many_pixels": encoded("PNG", size=(600, 500)),
    "image.too_narrow": encoded("PNG", size=(500, 4)),
}


def test_there_is_a_picture_for_every_reason() -> None:
    assert REJECTED.keys() == CODES


@pytest.mark.parametrize("code", sorted(REJECTED))
def test_a_picture_that_cannot_be_classified_gets_the_reason(live: Cloud, code: str) -> None:
    runtime = FakeRuntime(redness)
    limits = Limits(max_bytes=200_000, max_pixels=250_000)
    sent = classification(live, runtime, limits=limits).classify(dropped(live, REJECTED[code]))
    stored = live.json(RESULT)
    validate(RESULT_SCHEMA, stored)
    validate(EVENT_SCHEMA, sent)
    assert (stored["status"], stored["error"]["code"]) == ("rejected", code)
    assert "prediction" not in stored
    assert runtime.asked == []


def test_a_picture_overwritten_with_a_huge_one_is_judged_by_what_it_is_now(live: Cloud) -> None:
    event = dropped(live)
    dropped(live, bytes(300_000))
    classification(live, limits=Limits(max_bytes=200_000)).classify(event)
    stored = live.json(RESULT)
    assert stored["error"]["code"] == "image.too_large"
    assert stored["image"]["bytes"] == 300_000


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_other_formats_are_answered_too(live: Cloud, kind: str) -> None:
    classification(live).classify(dropped(live, encoded(kind), "input/cars/a"))
    stored = live.json("results/cars/a.json")
    validate(RESULT_SCHEMA, stored)
    assert stored["image"]["format"] == kind


# --- repeated and late events


def test_a_repeated_event_finds_its_answer_and_has_the_same_id(live: Cloud) -> None:
    event, tools = dropped(live), classification(live)
    sent = [tools.classify(event) for _ in range(3)]
    assert live.versions(RESULT) == 1
    assert sent[0] == sent[1] == sent[2]


def test_a_repeated_message_of_the_sweep_finds_its_answer_too(live: Cloud) -> None:
    swept, tools = dataclasses.replace(dropped(live), sequencer=None), classification(live)
    assert tools.classify(swept) == tools.classify(swept)
    assert live.versions(RESULT) == 1


def test_an_overwritten_picture_is_answered_anew(live: Cloud) -> None:
    tools = classification(live)
    first = tools.classify(dropped(live, RED))
    second = tools.classify(dropped(live, BLUE))
    assert live.json(RESULT)["prediction"]["label"] == "blue"
    assert first is not None
    assert second is not None
    assert first["id"] != second["id"]


def test_two_pictures_that_would_share_a_result_both_get_one(live: Cloud) -> None:
    named, unnamed = "input/cars/same.jpg", "input/same.jpg"
    assert layout.result_key(named, "cars") == layout.result_key(unnamed, "cars")
    tool = classification(live)
    events = [dropped(live, body, key) for body, key in ((RED, named), (BLUE, unnamed))]
    told = [tool.classify(event) for event in events]

    keys = [detail["result"]["key"] for detail in told if detail]
    assert keys == ["results/cars/same.jpg.json", layout.other_result_key(unnamed, "cars")]
    stored = [json.loads(live.bucket.read(key)[0]) for key in keys]
    assert [result["image"]["key"] for result in stored] == [named, unnamed]
    assert tool.classify(events[1]) == told[1]
    for result in stored:
        validate(RESULT_SCHEMA, result)


def test_a_picture_called_like_another_s_result_takes_it_from_none(live: Cloud) -> None:
    """Two pictures that meet, and one whose name is where the second of them goes."""
    named, unnamed = "input/cars/same.jpg", "input/same.jpg"
    place = layout.other_result_key(unnamed, "cars")
    thief = "input/cars/" + place.removeprefix("results/cars/").removesuffix(".json")
    tool = classification(live)
    told = [
        tool.classify(dropped(live, body, key))
        for body, key in ((BLUE, thief), (RED, named), (BLUE, unnamed))
    ]
    keys = [detail["result"]["key"] for detail in told if detail]
    assert keys == [layout.other_result_key(thief, "cars"), "results/cars/same.jpg.json", place]
    stored = [json.loads(live.bucket.read(key)[0])["image"]["key"] for key in keys]
    assert stored == [thief, named, unnamed]


def test_a_model_that_is_live_again_answers_under_another_id(live: Cloud, cards: Cards) -> None:
    """Whoever drops repeats by their id would keep the answer of the model that was left."""
    event = dropped(live)
    told = [classification(live).classify(event)]
    cards.make_live(card(NEWER))
    told.append(classification(live).classify(event))
    cards.roll_back(card(), leaving=NEWER)
    told += [classification(live).classify(event) for _ in range(2)]
    runs = [detail["model"]["run_id"] for detail in told if detail]
    assert runs == [RUN.run_id, NEWER, RUN.run_id, RUN.run_id]
    first, second, again, repeat = [detail["id"] for detail in told if detail]
    assert len({first, second, again}) == 3
    assert repeat == again


def test_a_repeated_event_tells_the_answer_that_stands(live: Cloud) -> None:
    """One id means one answer, also where the picture would be answered otherwise now."""
    event = dropped(live)
    first = classification(live).classify(event)
    other = FakeRuntime(lambda picture: redness(picture)[::-1])
    assert classification(live, other).classify(event) == first
    assert live.versions(RESULT) == 1


def test_what_is_no_result_is_written_over(live: Cloud) -> None:
    live.put(RESULT, b"{}", Metadata={"generation": "many", "run": "none"})
    assert classification(live).classify(dropped(live, RED)) is not None
    assert live.json(RESULT)["prediction"]["label"] == "red"


def test_a_late_event_of_an_older_version_does_not_bring_its_answer_back(live: Cloud) -> None:
    tools = classification(live)
    older, newer = dropped(live, RED), dropped(live, BLUE)
    for event in (newer, older, newer, older):
        tools.classify(event)
    stored = live.json(RESULT)
    assert (stored["prediction"]["label"], stored["image"]["etag"]) == ("blue", newer.etag)
    assert live.versions(RESULT) == 1


class OverwrittenMeanwhile:
    """An endpoint that takes so long that the picture is another one when it answers."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.tools = cloud, classification(cloud)

    def invoke_endpoint(self, **request: Any) -> Any:
        self.tools.classify(dropped(self.cloud, BLUE))
        return FakeRuntime(redness).invoke_endpoint(**request)


def test_an_answer_that_comes_after_a_newer_picture_s_is_dropped(live: Cloud) -> None:
    event = dropped(live, RED)
    assert classification(live, OverwrittenMeanwhile(live)).classify(event) is None
    assert live.json(RESULT)["prediction"]["label"] == "blue"
    assert live.versions(RESULT) == 1


@pytest.mark.parametrize("seed", range(4))
def test_shuffled_and_doubled_events_leave_the_last_version_s_answer(
    live: Cloud, seed: int
) -> None:
    events = [dropped(live, jpeg((200 - n, n, n))) for n in range(3)] + [dropped(live, BLUE)]
    deliveries = events * 2
    random.Random(seed).shuffle(deliveries)
    tools = classification(live)
    for event in deliveries:
        tools.classify(event)
    assert live.json(RESULT)["image"]["etag"] == events[-1].etag
    assert live.keys("results/") == [RESULT]


def test_a_newer_model_answers_anew_and_an_older_one_does_not_undo_it(
    live: Cloud, cards: Cards
) -> None:
    event, old = dropped(live), classification(live)
    old.classify(event)
    go_live(cards, card(NEWER))
    sent = classification(live).classify(event)
    assert live.json(RESULT)["model"]["run_id"] == NEWER
    assert sent is not None
    assert sent["model"]["run_id"] == NEWER
    assert old.classify(event) is None
    assert live.json(RESULT)["model"]["run_id"] == NEWER


def test_an_answer_deleted_by_its_owner_is_written_again(live: Cloud) -> None:
    event, tools = dropped(live), classification(live)
    tools.classify(event)
    live.s3.delete_object(Bucket=BUCKET, Key=RESULT)
    assert tools.classify(event) is not None
    assert live.json(RESULT)["prediction"]["label"] == "red"


def test_an_answer_deleted_while_it_was_looked_at_is_written_again(live: Cloud) -> None:
    class Vanishing(Bucket):
        """The result is deleted between the look at its metadata and the reading of it."""

        def read(self, key: str) -> Any:
            if key == RESULT:
                live.s3.delete_object(Bucket=BUCKET, Key=key)
            return super().read(key)

    event = dropped(live)
    first = classification(live).classify(event)
    tools = dataclasses.replace(classification(live), bucket=Vanishing(live.s3, BUCKET))
    assert tools.classify(event) == first
    assert live.json(RESULT)["prediction"]["label"] == "red"


def test_a_picture_is_decoded_in_a_process_of_its_own_only_where_that_is_asked_for(
    live: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolated: list[bool] = []

    def prepared(*args: Any, **options: Any) -> Any:
        isolated.append(options["isolated"])
        return prepare(*args, **options)

    monkeypatch.setattr("droplens.prediction.predictor.prepare", prepared)
    classification(live).classify(dropped(live))
    classification(live).classify(dropped(live, key="input/cars/b.jpg"), isolated=True)
    assert isolated == [False, True]


class ChangingBucket(Bucket):
    """A bucket in which somebody else always writes an older answer first."""

    tries = 0

    def write_json(self, *_: Any, **__: Any) -> bool:
        self.tries += 1
        return False

    def head(self, key: str, _version: str | None = None) -> Any:
        raise ObjectMissing(key)


def test_an_answer_that_keeps_changing_is_left_to_the_queue(live: Cloud) -> None:
    event = dropped(live)
    bucket = ChangingBucket(live.s3, BUCKET)
    tools = Classification(
        bucket=bucket,
        cards=classification(live).cards,
        router=Router(lambda _: True, lambda: None),
        is_stranded=lambda _: False,
        runtime=FakeRuntime(redness),  # type: ignore[arg-type]
        decoding=WeightedSemaphore(10**8),
        endpoint_calls=WeightedSemaphore(10),
        models=LoadedModels(bucket),
    )
    with pytest.raises(RetryLater, match="keeps changing") as left:
        tools.classify(event)
    assert left.value.code == "result.contended"
    assert bucket.tries == 5


def test_the_same_bytes_dropped_again_are_answered_anew_under_another_id(live: Cloud) -> None:
    tools = classification(live)
    first, second = (tools.classify(dropped(live, RED)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first["image"]["etag"] == second["image"]["etag"]
    assert live.json(RESULT)["image"]["version_id"] == second["image"]["version_id"]
    assert first["id"] != second["id"]


def metadata(cloud: Cloud, key: str = RESULT) -> dict[str, str]:
    return cloud.bucket.head(key).metadata


def test_a_result_tells_of_which_version_and_model_it_is(live: Cloud) -> None:
    event = dropped(live)
    classification(live).classify(event)
    told = metadata(live)
    assert (told["picture-etag"], told["picture-version"]) == (event.etag, event.version_id)
    assert (told["picture-sequencer"], told["run-id"]) == (event.sequencer, RUN.run_id)


def test_a_version_that_its_event_does_not_tell_of_gets_no_sequencer(live: Cloud) -> None:
    late = dropped(live, RED)
    newer = dropped(live, BLUE)
    classification(live).classify(late)
    assert metadata(live)["picture-version"] == newer.version_id
    assert "picture-sequencer" not in metadata(live)


@pytest.mark.parametrize("told", ["by S3", "by the sweep"])
def test_an_answer_that_took_long_does_not_replace_a_newer_version_s(
    live: Cloud, told: str
) -> None:
    class Overtaken(Bucket):
        """Between our reading of the picture and our writing, it is overwritten and answered."""

        def read_at_most(self, key: str, limit: int) -> Any:
            found = super().read_at_most(key, limit)
            newer.append(dropped(live, BLUE))
            classification(live).classify(newer[-1])
            return found

    newer: list[ObjectCreated] = []
    event = dropped(live, RED)
    if told == "by the sweep":
        event = dataclasses.replace(event, sequencer=None)
    tools = dataclasses.replace(classification(live), bucket=Overtaken(live.s3, BUCKET))
    assert tools.classify(event) is None
    assert live.json(RESULT)["image"]["version_id"] == newer[0].version_id
    assert live.versions(RESULT) == 1


@pytest.mark.parametrize(
    ("one", "other", "later"),
    [
        ("0062E9A41B77D50E9D", "0062E9A41B77D50E9C", True),
        ("0062E9A41B77D50E9C", "0062E9A41B77D50E9C", False),
        ("0062E9A41B77D5", "0062E9A41B77D50E9C", False),
        ("0062E9A41B77D6", "0062E9A41B77D50E9C", True),
        ("0062e9a41b77d50e9d", "0062E9A41B77D50E9C", True),
    ],
)
def test_sequencers_order_the_versions_of_a_key(one: str, other: str, later: bool) -> None:
    assert is_later(one, other) is later


def test_an_answer_from_before_switches_were_counted_is_written_anew(
    cloud: Cloud, cards: Cards
) -> None:
    cloud.put(layout.live_card_key("cars"), card().to_json())
    event, tools = dropped(cloud), classification(cloud)
    first = tools.classify(event)
    told = {name: value for name, value in metadata(cloud).items() if name != "live-generation"}
    cloud.put(RESULT, cloud.bucket.read(RESULT)[0], Metadata=told)
    assert tools.classify(event) == first
    assert metadata(cloud)["live-generation"] == "0"


def test_a_swept_picture_that_was_overwritten_is_answered_anew(live: Cloud) -> None:
    """The sweep's message tells no sequencer: which version is newer, the bucket says."""
    tools = classification(live)
    tools.classify(dropped(live, RED))
    swept = dataclasses.replace(dropped(live, BLUE), sequencer=None)
    sent = tools.classify(swept)
    assert sent is not None
    assert sent["image"]["version_id"] == swept.version_id
    assert live.json(RESULT)["prediction"]["label"] == "blue"


def test_a_swept_picture_that_goes_before_its_answer_is_written_leaves_the_standing_one(
    live: Cloud,
) -> None:
    class Deleting(Bucket):
        """The picture is deleted right after it was read."""

        def read_at_most(self, key: str, limit: int) -> Any:
            found = super().read_at_most(key, limit)
            live.s3.delete_object(Bucket=BUCKET, Key=key)
            return found

    classification(live).classify(dropped(live, RED))
    swept = dataclasses.replace(dropped(live, BLUE), sequencer=None)
    tools = dataclasses.replace(classification(live), bucket=Deleting(live.s3, BUCKET))
    assert tools.classify(swept) is None
    assert live.json(RESULT)["prediction"]["label"] == "red"


# --- what is counted


def counted() -> dict[str, list[float]]:
    """The metrics since the fixture `fresh_metrics`, by name."""
    return {name: metric["Value"] for name, metric in metrics.metric_set.items()}


@pytest.fixture
def fresh_metrics() -> None:
    metrics.clear_metrics()


class Clock:
    """Seconds that pass only as it is told; for `time` in a module."""

    def __init__(self, *readings: float) -> None:
        self.readings = list(readings)

    def monotonic(self) -> float:
        return self.readings.pop(0)


def test_an_answered_picture_is_counted_with_the_time_that_the_endpoint_took(
    live: Cloud, fresh_metrics: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("droplens.classify.classify.time", Clock(5.0, 5.25))
    classification(live).classify(dropped(live))
    assert counted() == {
        "PictureClassified": [1],
        "PictureRejected": [0],
        "EndpointError": [0],
        "EndpointLatency": [250],
    }
    assert metrics.metric_set["EndpointLatency"]["Unit"] == "Milliseconds"


def test_a_rejected_picture_is_counted_as_such(live: Cloud, fresh_metrics: None) -> None:
    classification(live).classify(dropped(live, b"no picture"))
    assert counted() == {"PictureClassified": [0], "PictureRejected": [1]}


@pytest.mark.parametrize("answer", [[0.1, 0.2, 0.7], refusal("ModelError", "InvokeEndpoint")])
def test_a_call_that_gave_no_answer_is_counted_as_an_error_of_the_endpoint(
    live: Cloud, fresh_metrics: None, answer: Any
) -> None:
    runtime = FakeRuntime(lambda _: answer)
    if isinstance(answer, Exception):
        runtime = FakeRuntime(redness, error=answer)
    with pytest.raises(Exception, match=card().endpoint):
        classification(live, runtime).classify(dropped(live))
    assert counted() == {"EndpointError": [1]}


def test_a_log_line_tells_what_became_of_a_picture(
    live: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    tools = classification(live)
    tools.classify(dropped(live))
    tools.classify(dropped(live, b"no picture", "input/cars/b.jpg"))
    told = [vars(record) for record in caplog.records]
    assert [(one["msg"], one["key"], one.get("code")) for one in told] == [
        ("picture classified", KEY, None),
        ("picture rejected", "input/cars/b.jpg", "image.unreadable"),
    ]


def test_a_key_as_long_as_s3_allows_has_one_result(live: Cloud) -> None:
    tools = classification(live)
    keys = ["input/cars/" + "é" * 500 + name + ".jpg" for name in "abc"]
    keys = [key + "x" * (1024 - len(key.encode())) for key in keys]
    told = [tools.classify(dropped(live, key=key)) for key in keys for _ in range(2)]
    results = {detail["result"]["key"] for detail in told if detail}
    assert len(results) == 3
    assert set(live.keys("results/")) == results
    for key in results:
        assert len(key.encode()) <= 1024
        validate(RESULT_SCHEMA, live.json(key))


# --- many at once


def together(classify: Callable[[ObjectCreated], Any], events: list[ObjectCreated]) -> list[Any]:
    with ThreadPoolExecutor(len(events)) as pool:
        return list(pool.map(classify, events))


def test_a_repeated_event_in_many_threads_makes_one_result(live: Cloud) -> None:
    told = together(classification(live).classify, [dropped(live)] * 8)
    assert all(detail == told[0] for detail in told)
    assert live.versions(RESULT) == 1


def test_pictures_are_asked_about_side_by_side_but_no_more_than_the_endpoint_takes(
    live: Cloud,
) -> None:
    now, most, lock, three = 0, 0, threading.Lock(), threading.Barrier(3, timeout=30)

    def model(picture: bytes) -> list[float]:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        three.wait()  # it would break if they came one by one
        with lock:
            now -= 1
        return redness(picture)

    events = [dropped(live, key=f"input/cars/{n}.jpg") for n in range(9)]
    classify = classification(
        live, FakeRuntime(model), endpoint_calls=WeightedSemaphore(3)
    ).classify
    together(classify, events)
    assert len(live.keys("results/")) == 9
    assert most == 3


# --- pictures that wait


def test_a_picture_that_waits_in_vain_is_made_known(
    live: Cloud, caplog: pytest.LogCaptureFixture, fresh_metrics: None
) -> None:
    birds = RunKey("birds", RUN.run_id)
    live.runs().open(birds, {"version": "v"})
    tools, event = classification(live), dropped(live, key="input/birds/a.jpg")
    tools.classify(event)
    live.runs().end(birds, Status.FAILED)
    tools.classify(event)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert vars(caplog.records[1])["classifier"] == "birds"
    assert vars(caplog.records[1])["key"] == event.key
    assert counted() == {"PictureStranded": [1]}
    assert live.keys("results/") == []


# --- endpoints that change or fail


def test_an_endpoint_replaced_meanwhile_answers_with_its_own_classes(
    live: Cloud, cards: Cards
) -> None:
    runtime = FakeRuntime(redness)
    tools = classification(live, runtime)
    tools.classify(dropped(live, key="input/cars/first.jpg"))
    newer = go_live(cards, card(NEWER, classes=("azul", "rojo")))
    runtime.gone = {card().endpoint}
    tools.classify(dropped(live))
    stored = live.json(RESULT)
    assert stored["prediction"]["label"] == "rojo"
    assert stored["model"]["endpoint"] == newer.endpoint


def test_a_picture_is_prepared_anew_for_the_model_that_took_over(live: Cloud, cards: Cards) -> None:
    sizes = []

    def model(picture: bytes) -> list[float]:
        with Image.open(BytesIO(picture)) as image:
            sizes.append(min(image.size))
        return redness(picture)

    runtime = FakeRuntime(model, gone={card().endpoint})
    tools = classification(live, runtime)
    assert tools.cards.live("cars") is not None
    preprocessing = type(card().preprocessing)(32)
    go_live(cards, card(NEWER, preprocessing=preprocessing))
    tools.classify(dropped(live))
    assert sizes == [32]


def test_a_live_endpoint_that_is_away_is_tried_again_later(live: Cloud) -> None:
    runtime = FakeRuntime(redness, gone={card().endpoint})
    with pytest.raises(RetryLater):
        classification(live, runtime).classify(dropped(live))
    assert live.keys("results/") == []


@pytest.mark.parametrize("withdrawn", [False, True])
def test_an_endpoint_that_is_away_is_asked_for_once(live: Cloud, withdrawn: bool) -> None:
    """Also where there is no live card any more when it is looked at again."""
    asked: list[tuple[str, str]] = []
    runtime = FakeRuntime(redness, gone={card().endpoint})
    tools = classification(
        live, runtime, request_endpoint=lambda bucket, name: asked.append((bucket, name))
    )
    assert tools.cards.live("cars") is not None
    if withdrawn:
        live.s3.delete_object(Bucket=BUCKET, Key=layout.live_card_key("cars"))
    with pytest.raises(RetryLater, match=card().endpoint):
        tools.classify(dropped(live))
    assert asked == [(BUCKET, "cars")]
    assert len(runtime.asked) == 1


@pytest.mark.parametrize("code", ["ThrottlingException", "ModelError", "ServiceUnavailable"])
def test_the_system_s_own_trouble_never_becomes_a_result(live: Cloud, code: str) -> None:
    event = dropped(live)
    runtime = FakeRuntime(redness, error=refusal(code, "InvokeEndpoint"))
    tools = classification(live, runtime)
    with pytest.raises(RetryLater):
        tools.classify(event)
    assert live.keys("results/") == []
    runtime.error = None
    assert tools.classify(event) is not None
    assert live.json(RESULT)["prediction"]["label"] == "red"


@pytest.mark.parametrize("answer", [[0.1, 0.2, 0.7], {"red": 1}, "red", [float("nan"), 1.0]])
def test_an_answer_that_does_not_fit_the_classes_never_becomes_a_result(
    live: Cloud, answer: Any
) -> None:
    event = dropped(live)
    with pytest.raises(Exception, match=card().endpoint):
        classification(live, FakeRuntime(lambda _: answer)).classify(event)
    assert live.keys("results/") == []


@given(path=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40))
def test_an_event_s_id_is_that_of_picture_version_model_and_generation(path: str) -> None:
    image = {"bucket": BUCKET, "etag": "e1", "version_id": None, "key": f"input/cars/{path}"}
    answer: dict[str, Any] = {
        "schema": "droplens.result.v2",
        "status": "classified",
        "classifier": "cars",
        "image": image,
        "model": {"run_id": RUN.run_id},
    }
    key = layout.result_key(answer["image"]["key"], "cars")
    ids = {
        classified_event(answer, key, 1)["id"],
        classified_event({**answer, "image": {**image, "etag": "e2"}}, key, 1)["id"],
        classified_event({**answer, "image": {**image, "version_id": "v"}}, key, 1)["id"],
        classified_event({**answer, "model": {"run_id": NEWER}}, key, 1)["id"],
        classified_event(answer, key + "x", 1)["id"],
        classified_event(answer, key, 2)["id"],
    }
    assert len(ids) == 6
    assert classified_event(answer, key, 1)["id"] in ids


# --- the event


class FakeBus:
    """An event bus; refused: of so many entries of a call, the first ones, it takes none."""

    def __init__(self, refused: int = 0, error: Exception | None = None) -> None:
        self.refused = refused
        self.error = error
        self.calls: list[list[dict[str, Any]]] = []

    def put_events(self, **request: Any) -> dict[str, Any]:
        check_request("events", "PutEvents", request)
        if self.error is not None:
            raise self.error
        self.calls.append(request["Entries"])
        taken = len(request["Entries"]) - self.refused
        failed = {"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"}
        return {
            "FailedEntryCount": self.refused,
            "Entries": [failed] * self.refused + [{"EventId": "1"}] * taken,
        }


def test_answers_are_announced_on_the_bus_in_one_call(live: Cloud) -> None:
    bus: Any = FakeBus()
    tools = classification(live)
    sent = {name: tools.classify(dropped(live, key=f"input/cars/{name}.jpg")) for name in "ab"}
    details = {name: detail for name, detail in sent.items() if detail is not None}
    assert EventPublisher(bus, "default").publish(details) == set()
    [entries] = bus.calls
    assert {(entry["Source"], entry["DetailType"]) for entry in entries} == {
        ("droplens", "Image Classified")
    }
    for entry, name in zip(entries, "ab", strict=True):
        detail = json.loads(entry["Detail"])
        validate(EVENT_SCHEMA, detail)
        assert detail == details[name]


def test_with_nothing_to_announce_nobody_is_called() -> None:
    bus: Any = FakeBus()
    assert EventPublisher(bus, "default").publish({}) == set()
    assert bus.calls == []


def test_an_event_that_was_not_taken_is_sent_again_with_the_next_try(live: Cloud) -> None:
    bus: Any = FakeBus(refused=1)
    event, tools = dropped(live), classification(live)
    first = tools.classify(event)
    assert first is not None
    assert EventPublisher(bus, "default").publish({"refused": first, "taken": first}) == {"refused"}
    assert tools.classify(event) == first


@pytest.mark.parametrize(
    "error",
    [refusal("InternalException", "PutEvents"), EndpointConnectionError(endpoint_url="events")],
)
def test_while_eventbridge_is_away_every_event_is_sent_again(live: Cloud, error: Exception) -> None:
    bus: Any = FakeBus(error=error)
    detail = classification(live).classify(dropped(live))
    assert detail is not None
    assert EventPublisher(bus, "default").publish({"1": detail, "2": detail}) == {"1", "2"}


# --- an endpoint that is slow, busy, or takes no more


class Moody(FakeRuntime):
    """Fails with these errors in turn, then answers."""

    def __init__(self, *codes: str) -> None:
        super().__init__(redness)
        self.codes = list(codes)

    def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
        self.error = refusal(self.codes.pop(0), "InvokeEndpoint") if self.codes else None
        return super().invoke_endpoint(**request)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between two calls."""
    waited: list[float] = []
    monkeypatch.setattr("droplens.classify.classify.time.sleep", waited.append)
    return waited


@pytest.mark.parametrize(
    "code", ["ModelNotReadyException", "ThrottlingException", "ServiceUnavailable"]
)
def test_a_busy_endpoint_is_asked_once_more(live: Cloud, pauses: list[float], code: str) -> None:
    runtime = Moody(code)
    assert classification(live, runtime).classify(dropped(live)) is not None
    assert len(runtime.asked) == 2
    assert len(pauses) == 1
    with pytest.raises(RetryLater, match=code):
        classification(live, Moody(code, code)).classify(dropped(live, key="input/cars/b.jpg"))


def test_what_a_moment_does_not_mend_is_left_to_the_queue(live: Cloud, pauses: list[float]) -> None:
    for error in (refusal("ModelError", "InvokeEndpoint"), ReadTimeoutError(endpoint_url="x")):
        runtime = FakeRuntime(redness, error=error)
        with pytest.raises(RetryLater):
            classification(live, runtime).classify(dropped(live))
        assert len(runtime.asked) == 1
    assert pauses == []


def test_no_call_begins_that_may_not_end_in_time(live: Cloud, pauses: list[float]) -> None:
    runtime = Moody()
    with pytest.raises(NotBegun):
        classification(live, runtime).classify(dropped(live), lambda: CALL_SECONDS - 1)
    assert runtime.asked == []
    assert classification(live, runtime).classify(dropped(live), lambda: CALL_SECONDS) is not None
    # Nor a second one.
    busy = Moody("ModelNotReadyException")
    with pytest.raises(RetryLater, match="ModelNotReady"):
        classification(live, busy).classify(
            dropped(live, key="input/cars/c.jpg"), lambda: CALL_SECONDS
        )
    assert pauses == []


@pytest.mark.parametrize(("longest", "pause"), [(True, 2.0), (False, 0.2)])
def test_a_busy_endpoint_is_asked_again_after_a_fifth_of_a_second_to_two_if_time_allows(
    live: Cloud, pauses: list[float], monkeypatch: pytest.MonkeyPatch, longest: bool, pause: float
) -> None:
    monkeypatch.setattr(
        "droplens.classify.classify.random.uniform", lambda low, high: high if longest else low
    )
    # One call may take 65 seconds: 5 to connect, 50 for the answer, 10 for what follows.
    event, busy = dropped(live), Moody("ModelNotReadyException")
    with pytest.raises(RetryLater, match="ModelNotReady"):
        classification(live, busy).classify(event, lambda: 64.99 + pause)
    assert (len(busy.asked), pauses) == (1, [])
    busy = Moody("ModelNotReadyException")
    assert classification(live, busy).classify(event, lambda: 65 + pause) is not None
    assert (len(busy.asked), pauses) == (2, [pause])


def test_a_call_is_not_begun_with_less_than_65_seconds(live: Cloud) -> None:
    runtime = FakeRuntime(redness)
    with pytest.raises(NotBegun, match="64 s are left") as left:
        classification(live, runtime).classify(dropped(live), lambda: 64.4)
    assert (left.value.code, runtime.asked) == ("endpoint.no_time", [])


def noise(width: int, height: int, quality: int = 95) -> bytes:
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    jpeg_file = BytesIO()
    Image.fromarray(pixels).save(jpeg_file, "JPEG", quality=quality)
    return jpeg_file.getvalue()


def test_a_very_long_picture_is_sent_in_as_many_bytes_as_an_endpoint_takes(
    live: Cloud, cards: Cards
) -> None:
    """The worst that passes the limits of a picture, at the largest ImageSize."""
    sent: list[bytes] = []
    go_live(cards, card(NEWER, preprocessing=Preprocessing(512)))

    def answer(body: bytes) -> list[float]:
        sent.append(body)
        return [0.1, 0.9]

    event = dropped(live, noise(512 * 20, 512))
    assert event.bytes > 4_000_000
    result = classification(live, FakeRuntime(answer)).classify(event)
    assert result is not None
    assert result["status"] == "classified"
    assert len(sent[0]) <= 4_000_000
    assert Image.open(BytesIO(sent[0])).size == (512 * 20, 512)


def test_what_no_quality_fits_is_refused() -> None:
    with pytest.raises(ImageError, match="640 x 640 pixels") as refused:
        fitting(noise(640, 640), 20_000)
    assert refused.value.code == "image.too_large"
