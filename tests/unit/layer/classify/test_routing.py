"""Which classifier an image goes to."""

import pytest

from droplens.classify.routing import Router, likely_classifier


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
