"""Which S3 keys are datasets, images and results, and where the answer of each stands."""

import re

import pytest
from hypothesis import given

from droplens.domain import layout
from tests.support.incomplete_datasets import NEAR_MISSES
from tests.support.strategies import CLASSIFIERS, PATHS


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
    found = layout.dataset_source(key)
    assert found == layout.DatasetSource(classifier, source)
    assert found.completed_by == key


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
        assert not layout.is_image_key(key)
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
    assert layout.is_image_key("input/cars/a.jpg")
    assert not layout.is_image_key("input/cars/")
    assert not layout.is_image_key("datasets/cars/a.jpg")
