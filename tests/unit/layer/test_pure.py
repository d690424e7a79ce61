"""Keys, names, cards, answers and settings: the parts that know no AWS client."""

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens import layout, naming, result
from droplens.calibration import IDENTITY, Calibration
from droplens.card import CardError, ModelCard
from droplens.errors import UserError
from droplens.result import UnexpectedAnswer, parse_probabilities, rank
from droplens.routing import Router, likely_classifier
from droplens.settings import ClassificationSettings, Settings, SettingsError, TrainingSettings
from tests.unit.layer.made import card
from tests.unit.layer.near_misses import NEAR_MISSES

STACKS = st.from_regex(r"[a-z](-?[a-z0-9]){0,29}", fullmatch=True).filter(lambda it: len(it) <= 30)
CLASSIFIERS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,30}", fullmatch=True)
PATHS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001

# --- layout


@pytest.mark.parametrize(
    ("key", "classifier", "source"),
    [
        ("datasets/cars/_READY", "cars", "datasets/cars/"),
        ("datasets/cars.zip", "cars", "datasets/cars.zip"),
        ("datasets/cars.tar", "cars", "datasets/cars.tar"),
        ("datasets/cars.tar.gz", "cars", "datasets/cars.tar.gz"),
        ("datasets/cars.tgz", "cars", "datasets/cars.tgz"),
        ("datasets/cars/labels.csv", "cars", "datasets/cars/labels.csv"),
        ("datasets/cars/labels.jsonl", "cars", "datasets/cars/labels.jsonl"),
        ("datasets/cars/labels.json", "cars", "datasets/cars/labels.json"),
        ("datasets/cars/labels.lst", "cars", "datasets/cars/labels.lst"),
        # Names that cannot be: they are told to their owner, so they are found all the same.
        ("datasets/Cars/_READY", "Cars", "datasets/Cars/"),
        ("datasets/a/b/_READY", "a/b", "datasets/a/b/"),
        ("datasets/v1.2.zip", "v1.2", "datasets/v1.2.zip"),
        ("datasets/Cars/labels.csv", "Cars", "datasets/Cars/labels.csv"),
    ],
)
def test_a_marker_an_archive_or_a_list_completes_a_dataset(
    key: str, classifier: str, source: str
) -> None:
    assert layout.dataset_source(key) == layout.DatasetSource(classifier, source)


@pytest.mark.parametrize(
    "key",
    [
        "datasets/cars/audi/1.jpg",
        "datasets/cars/audi/photos.zip",
        "datasets/cars/_READY.txt",
        "datasets/cars.ZIP",
        "datasets/cars/audi/labels.csv",
        "datasets/cars/Labels.csv",
        "datasets/cars/labels.txt",
        "datasets/cars.csv",
        "datasets/labels.csv",
        "datasets//labels.csv",
        "datasets/_READY",
        "datasets//_READY",
        "datasets/.zip",
        "datasets/.tar.gz",
        "datasets/",
        "input/cars/_READY",
        "packed/cars.zip",
    ],
)
def test_any_other_object_completes_none(key: str) -> None:
    assert layout.dataset_source(key) is None


@pytest.mark.parametrize("key", NEAR_MISSES)
def test_what_nearly_completes_a_dataset_is_known(key: str) -> None:
    classifier, words = NEAR_MISSES[key]
    assert layout.dataset_source(key) is None
    missed = layout.near_miss(key)
    assert missed is not None
    assert missed.classifier == classifier
    assert words in missed.advice


@pytest.mark.parametrize(
    "key",
    [
        "datasets/cars/audi/1.jpg",
        "datasets/cars/audi/photos.zip",
        "datasets/cars/car_ims.tgz",
        "datasets/cars/car_devkit.tgz",
        "datasets/cars/audi/labels.csv",
        "datasets/cars/photos.rar",
        "datasets/.zip",
        "datasets/",
        "input/cars/_ready",
        "training/cars/20261122-120000-1a2b3c/output/model.tar.gz",
        "build/trainer/0123456789abcdef.zip",
    ],
)
def test_an_ordinary_object_is_no_near_miss(key: str) -> None:
    assert layout.near_miss(key) is None


@pytest.mark.parametrize("name", ["a", "0", "cars", "cars-24", "a--b", "x" * 31])
def test_names_that_a_classifier_can_have(name: str) -> None:
    assert layout.is_classifier_name(name)


@pytest.mark.parametrize(
    "name", ["", "-cars", "Cars", "cars_24", "a/b", "autos é", "x" * 32, "a\n"]
)
def test_names_that_a_classifier_cannot_have(name: str) -> None:
    assert not layout.is_classifier_name(name)


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("input/cars/a.jpg", "cars"),
        ("input/cars/2026/a.jpg", "cars"),
        ("input/cars", None),
        ("input/a.jpg", None),
        ("input/My Photos/a.jpg", None),
        ("input//a.jpg", None),
    ],
)
def test_a_picture_names_its_classifier_in_front(key: str, named: str | None) -> None:
    assert layout.named_classifier(key) == named


@pytest.mark.parametrize(
    ("key", "result_key"),
    [
        ("input/cars/a.jpg", "results/cars/a.jpg.json"),
        ("input/cars/b/a.jpg", "results/cars/b/a.jpg.json"),
        ("input/cars/cars/a.jpg", "results/cars/cars/a.jpg.json"),
        ("input/a.jpg", "results/cars/a.jpg.json"),
        ("input/birds/a.jpg", "results/cars/birds/a.jpg.json"),
        ("input/cars-2/a.jpg", "results/cars/cars-2/a.jpg.json"),
        ("input/cars/~a.jpg", "results/cars/~a.jpg.json"),
        ("input/cars/b/~0123456789abcdef", "results/cars/b/~0123456789abcdef.json"),
        # It would stand where another picture's result may have to.
        ("input/cars/~0123456789abcdef", "results/cars/~6859993182ee5d96.json"),
    ],
)
def test_where_the_answer_of_cars_stands(key: str, result_key: str) -> None:
    assert layout.result_key(key, "cars") == result_key


@pytest.mark.parametrize("letter", ["a", "\u00e4", "\u8eca", "\U0001f697"])
def test_the_longest_names_have_results_that_s3_can_store(letter: str) -> None:
    room = (1024 - len("input/cars/")) // len(letter.encode())
    one, two = (f"input/cars/{letter * (room - 1)}{end}" for end in "xy")
    keys = {layout.result_key(key, "cars") for key in (one, two)}
    assert len(keys) == 2
    assert all(len(key.encode()) <= 1024 for key in keys)
    assert all(key.startswith(f"results/cars/{letter}") for key in keys)


@pytest.mark.parametrize(
    ("key", "folder"),
    [
        ("datasets/cars/", "datasets/cars/"),
        ("datasets/cars/labels.csv", "datasets/cars/"),
        ("datasets/cars.zip", None),
        ("datasets/cars/photos.zip", None),
    ],
)
def test_pictures_one_by_one_stand_below_a_folder(key: str, folder: str | None) -> None:
    assert layout.DatasetSource("cars", key).folder == folder


@pytest.mark.parametrize("name", ["a", "birds-of-2026", "x" * 31])
@pytest.mark.parametrize("ending", [".ZIP", ".Tar.Gz"])
def test_an_archive_in_capitals_names_its_classifier(name: str, ending: str) -> None:
    missed = layout.near_miss(f"datasets/{name}{ending}")
    assert missed is not None
    assert missed.classifier == name


def test_a_result_s_name_is_cut_where_it_would_be_longer_than_1024_bytes() -> None:
    whole = "x" * (1024 - len("results/cars/") - len(".json"))
    assert layout.result_key(f"input/cars/{whole}", "cars") == f"results/cars/{whole}.json"
    longer = layout.result_key(f"input/cars/{whole}x", "cars")
    # All of the 1024 are used: what stays of the name, "~", sixteen digits and ".json".
    assert len(longer) == 1024
    assert re.fullmatch(r"results/cars/x{989}~[0-9a-f]{16}\.json", longer)


@given(classifier=CLASSIFIERS, path=PATHS, other=PATHS)
def test_pictures_that_name_their_classifier_share_no_result(
    classifier: str, path: str, other: str
) -> None:
    one, two = (f"input/{classifier}/{name}" for name in (path, other))
    keys = {layout.result_key(key, classifier) for key in (one, two)}
    assert len(keys) == len({one, two})
    assert all(key.startswith(f"results/{classifier}/") and key.endswith(".json") for key in keys)


@given(classifier=CLASSIFIERS, path=PATHS)
def test_nothing_that_the_system_writes_is_a_picture_or_a_dataset(
    classifier: str, path: str
) -> None:
    run = "20261122-120000-1a2b3c"
    for key in (
        layout.result_key(f"input/{path}", classifier),
        layout.packed_prefix(classifier, run) + path,
        layout.training_prefix(classifier, run) + path,
        layout.live_card_key(classifier),
        layout.card_key(classifier, run),
        layout.DEFAULT_CLASSIFIER_KEY,
    ):
        assert not layout.is_picture_key(key)
        assert layout.dataset_source(key) is None


@given(classifier=CLASSIFIERS)
def test_the_cards_of_a_classifier_are_never_the_default_s_key(classifier: str) -> None:
    assert layout.live_card_key(classifier) != layout.DEFAULT_CLASSIFIER_KEY


@given(classifier=CLASSIFIERS)
def test_a_live_card_s_key_tells_its_classifier_and_no_other_key_does(classifier: str) -> None:
    assert layout.live_card_key(classifier) == f"models/{classifier}/live.json"
    assert layout.live_classifier(layout.live_card_key(classifier)) == classifier
    assert layout.live_classifier(layout.card_key(classifier, "20261122-120000-1a2b3c")) is None
    assert layout.live_classifier(layout.DEFAULT_CLASSIFIER_KEY) is None
    assert layout.live_classifier(f"reports/{classifier}/live.json") is None


def test_a_folder_marker_is_no_picture() -> None:
    assert layout.is_picture_key("input/cars/a.jpg")
    assert not layout.is_picture_key("input/cars/")
    assert not layout.is_picture_key("datasets/cars/a.jpg")


# --- naming


@given(earlier=MOMENTS, seconds=st.integers(1, 10**9), one=PATHS, two=PATHS)
def test_run_ids_sort_by_age(earlier: datetime, seconds: int, one: str, two: str) -> None:
    later = earlier + timedelta(seconds=seconds)
    assert naming.run_id(earlier, one) < naming.run_id(later, two)


def test_a_run_id_is_that_of_its_dataset_version_whatever_the_time_zone() -> None:
    moment = datetime.fromisoformat("2026-11-22T13:00:00+01:00")
    run_id = naming.run_id(moment, "datasets/cars/_READY\nversion-1")
    assert run_id == naming.run_id(moment.astimezone(UTC), "datasets/cars/_READY\nversion-1")
    assert re.fullmatch(r"20261122-120000-[0-9a-f]{6}", run_id)
    assert run_id != naming.run_id(moment, "datasets/cars/_READY\nversion-2")


@given(
    stack=STACKS,
    classifier=CLASSIFIERS,
    moment=MOMENTS,
)
def test_every_name_fits_sagemaker_and_says_its_run(
    stack: str, classifier: str, moment: datetime
) -> None:
    run = naming.run_id(moment, classifier)
    name = naming.resource_name(stack, classifier, run)
    assert len(name) <= 63
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name)
    assert name == name.lower()
    assert name.startswith(f"{stack}--")
    assert name.endswith(f"-{run}")


@given(one=STACKS, other=STACKS, classifier=CLASSIFIERS)
def test_no_stack_s_names_begin_as_another_s(one: str, other: str, classifier: str) -> None:
    run = "20261122-120000-1a2b3c"
    for longer in (other, f"{one}-{other}"[:30].rstrip("-")):
        for name in (
            naming.resource_name(longer, classifier, run),
            naming.group_name(longer, classifier),
        ):
            assert name.startswith(f"{one}{naming.SEPARATOR}") == (one == longer)


def test_long_names_that_begin_alike_stay_apart() -> None:
    run = "20261122-120000-1a2b3c"
    stack = "s" * 30
    names = {naming.resource_name(stack, "classifier-" + end, run) for end in "abc"}
    assert len(names) == 3


@pytest.mark.parametrize("stack", ["Droplens", "drop_lens", "s" * 31, "a--b", "a-", "1st", ""])
def test_a_stack_name_that_sagemaker_or_iam_could_not_take_is_told(stack: str) -> None:
    with pytest.raises(UserError, match=r"lower-case letters.*at most 30"):
        naming.resource_name(stack, "cars", "20261122-120000-1a2b3c")


# --- routing


def test_a_picture_goes_to_the_classifier_of_its_folder_and_one_without_to_the_default() -> None:
    router = Router(lambda name: name == "cars", lambda: "birds")
    assert router.classifier_for("input/cars/a.jpg") == "cars"
    assert router.classifier_for("input/a.jpg") == "birds"


@pytest.mark.parametrize("folder", ["plants", "carz", "Cars", "My Photos", "", "cars ", "~"])
def test_a_folder_that_names_no_classifier_is_nobody_s(folder: str) -> None:
    router = Router(lambda name: name == "cars", lambda: "cars")
    assert router.classifier_for(f"input/{folder}/a.jpg") is None


@pytest.mark.parametrize(
    ("folder", "likely"),
    [
        ("zh-carz", "zh-cars"),
        ("ZH-Cars", "zh-cars"),
        ("zh_cars", "zh-cars"),
        ("bird", "birds"),
        ("invoices", None),
        ("", None),
        ("x" * 1000, None),
        # Of the name only 64 letters count, and difflib's ratio must be 0.6 or more:
        # 2 * 27 / (64 + 27) = 0.593 is too few, 2 * 28 / (64 + 29) = 0.602 is not.
        ("a" * 27 + "x" * 100, None),
        ("b" * 28 + "x" * 100, "b" * 28 + "-"),
    ],
)
def test_the_likely_classifier_is_the_one_whose_name_is_near(
    folder: str, likely: str | None
) -> None:
    names = {"zh-cars", "birds", "digits", "a" * 27, "b" * 28 + "-"}
    assert likely_classifier(folder, names) == likely


def test_without_a_default_a_picture_of_no_classifier_is_nobody_s() -> None:
    assert Router(lambda _: False, lambda: None).classifier_for("input/a.jpg") is None


# --- model card


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"confident_from": None, "replaces": "20261101-000000-a"},
        {"confident_from": None, "unconfident_because": "too few validation pictures: 9"},
        {"calibration": Calibration(1.7), "ece_before": 0.2, "ece_after": 0.03, "coverage": 0.8},
        {"comparison": {"worse": False}, "generation": 3, "newest": "20261130-000000-b"},
        {"way_back": ("20261102-000000-b", "20261101-000000-a")},
        {"way_back": ()},
    ],
)
def test_a_card_is_read_as_it_was_written(changes: dict[str, Any]) -> None:
    model = card(classes=("Škoda", "Citroën C4", "比亚迪"), **changes)
    assert ModelCard.from_json(model.to_json()) == model


def test_a_card_can_be_read_by_people() -> None:
    lines = card(classes=("Škoda", "比亚迪")).to_json().decode().splitlines()
    assert ' "classifier": "cars",' in lines
    assert '  "Škoda",' in lines


def test_a_card_tells_how_many_pictures_were_correct() -> None:
    measured = dataclasses.replace(card().measured, pictures=12, accuracy=0.75)
    assert measured.right == 9
    # A share that no float holds.
    assert dataclasses.replace(measured, pictures=29, accuracy=28 / 29).right == 28


def test_a_card_of_another_schema_is_refused_by_its_name() -> None:
    document = {**json.loads(card().to_json()), "schema": "droplens.model-card.v9"}
    with pytest.raises(CardError, match=r"droplens\.model-card\.v9"):
        ModelCard.from_json(json.dumps(document).encode())


SINCE_CALIBRATION = {
    "calibration",
    "coverage",
    "unconfident_because",
    "comparison",
    "generation",
    "newest",
    "way_back",
}


def test_a_card_from_before_calibration_is_read_as_one_without() -> None:
    document = json.loads(card().to_json())
    for name in SINCE_CALIBRATION:
        del document[name]
    old = ModelCard.from_json(json.dumps(document).encode())
    assert old == card()
    assert old.calibration == IDENTITY


@pytest.mark.parametrize("missing", sorted(json.loads(card().to_json()).keys() - SINCE_CALIBRATION))
def test_a_card_that_lacks_anything_is_refused(missing: str) -> None:
    document = json.loads(card().to_json())
    del document[missing]
    with pytest.raises(CardError):
        ModelCard.from_json(json.dumps(document).encode())


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b"\xff"])
def test_a_card_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(CardError):
        ModelCard.from_json(text)


# --- answers


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_ranking_holds_the_best_five_in_order(probabilities: list[float]) -> None:
    classes = tuple(f"class {number}" for number in range(len(probabilities)))
    ranked = rank(probabilities, card(classes=classes))
    assert len(ranked) == min(5, len(classes))
    assert ranked[0].probability == round(max(probabilities), 6)
    assert [entry.probability for entry in ranked] == sorted(
        (entry.probability for entry in ranked), reverse=True
    )
    assert len({entry.label for entry in ranked}) == len(ranked)


def test_ties_are_broken_in_class_order() -> None:
    ranked = rank([0.25, 0.25, 0.25, 0.25], card(classes=("d", "c", "b", "a")))
    assert [entry.label for entry in ranked] == ["d", "c", "b", "a"]


def test_a_probability_a_hair_above_one_is_one() -> None:
    assert rank([1.0000009, 0.0], card())[0].probability == 1.0


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not a list"),
        (b"no", "not a list"),
        (b'{"predictions": []}', "not a list"),
        (b'"01"', "not a list"),
        (b"0.5", "not a list"),
        (b'[0.5, "many"]', "not a list"),
        (b"[0.5, null]", "not a list"),
        (b"[[0.5], [0.5]]", "not a list"),
        (b"[1.0]", "1 probabilities for 2"),
        (b"[0.2, 0.3, 0.5]", "3 probabilities for 2"),
        (b"[NaN, 0.5]", "no probabilities"),
        (b"[Infinity, 0.5]", "no probabilities"),
        (b"[-0.1, 1.1]", "no probabilities"),
        (b"[3.1, -2.7]", "no probabilities"),
    ],
)
def test_an_answer_that_is_not_one_probability_per_class_is_unexpected(
    body: bytes, why: str
) -> None:
    with pytest.raises(UnexpectedAnswer, match=why):
        parse_probabilities(body, 2)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_probabilities_are_read_as_they_were_sent(probabilities: list[float]) -> None:
    assert parse_probabilities(json.dumps(probabilities).encode(), len(probabilities)) == (
        probabilities
    )


def test_json_of_a_result_keeps_every_script_readable() -> None:
    text = result.to_json({"label": "Škoda 比亚迪"}).decode()
    assert "Škoda 比亚迪" in text


# --- settings


@dataclass(frozen=True, slots=True, kw_only=True)
class _EveryKind(Settings):
    name: str
    count: int
    share: float
    wanted: bool


EVERY_KIND = {"NAME": "x", "COUNT": "3", "SHARE": "0.25", "WANTED": "true"}


def test_settings_are_read_by_their_type() -> None:
    settings = _EveryKind.from_environment({**EVERY_KIND, "OTHER": "ignored"})
    assert settings == _EveryKind(name="x", count=3, share=0.25, wanted=True)


@pytest.mark.parametrize("variable", EVERY_KIND)
def test_a_missing_variable_is_named(variable: str) -> None:
    environment = {name: text for name, text in EVERY_KIND.items() if name != variable}
    with pytest.raises(SettingsError, match=f"{variable} is not set"):
        _EveryKind.from_environment(environment)


@pytest.mark.parametrize(
    ("variable", "text"), [("COUNT", "3.5"), ("SHARE", "much"), ("WANTED", "True"), ("WANTED", "1")]
)
def test_a_malformed_variable_is_named_with_what_it_holds(variable: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable}='{re.escape(text)}'"):
        _EveryKind.from_environment({**EVERY_KIND, variable: text})


def test_without_an_argument_the_process_s_environment_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for field in ClassificationSettings.__dataclass_fields__:
        monkeypatch.setenv(
            field.upper(), "7" if field.endswith(("concurrency", "hours")) else field
        )
    assert ClassificationSettings.from_environment().bucket == "bucket"


@pytest.mark.parametrize(("endpoint", "classify", "each"), [(5, 2, 2), (200, 10, 20), (2, 5, 1)])
def test_invocations_share_what_the_endpoint_takes(endpoint: int, classify: int, each: int) -> None:
    settings = ClassificationSettings(
        bucket="b",
        runs_table="r",
        event_bus="e",
        picture_queue_url="q",
        endpoint_max_concurrency=endpoint,
        classify_max_concurrency=classify,
        stop_idle_endpoint_hours=0,
    )
    assert settings.calls_at_once == each


def test_every_settings_field_has_a_type_that_can_be_read() -> None:
    environment = {"USE_SPOT": "true"}
    numbers = TrainingSettings.__dataclass_fields__
    for name in numbers:
        environment.setdefault(name.upper(), "1")
    settings = TrainingSettings.from_environment(environment)
    assert math.isclose(settings.learning_rate, 1.0)
    assert settings.use_spot is True
