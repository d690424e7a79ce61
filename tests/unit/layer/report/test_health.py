"""The report's section on the dataset."""

from collections.abc import Mapping

from droplens.report.health import health
from droplens.report.markup import element
from tests.support.evaluations import dataset


def shown(more: Mapping[str, int]) -> dict[str, str]:
    """The counts of the section by what they count, of a dataset with further counts."""
    described = dataset(["audi", "bmw"])
    described["counts"] |= more
    section = element("div", health(described))
    return {one.findtext("dt", ""): one.findtext("dd", "") for one in section.iterfind("dl/div")}


def test_corrections_are_counted_where_a_run_took_some() -> None:
    without = shown({})
    assert without["for training"] == "48"
    assert not any("correction" in what for what in without)
    taken = shown({"corrections": 1200, "none": 3, "overruled": 2})
    assert taken == without | {
        "corrections, counted above": "1,200",
        "corrections to none of the classes": "3",
        "labels that a correction replaced": "2",
    }


def balance(**classes: int) -> str:
    """The sentence on classes of so many training pictures."""
    described = dataset(["audi", "bmw"])
    described["per_class"] = [
        {"name": label, "train": count, "validation": 1, "skipped": 0}
        for label, count in classes.items()
    ]
    paragraphs = element("div", health(described)).iterfind("p")
    return "".join(list(paragraphs)[-1].itertext())


def test_the_largest_and_the_smallest_class_are_named_where_they_differ() -> None:
    assert balance(audi=11, bmw=11) == "2 classes. Each has 11 training pictures."
    assert balance(audi=11, bmw=1200) == (
        "2 classes. The largest, bmw, has 1,200 training pictures; the smallest, audi, 11. "
        "The classes are imbalanced: a model favours those with more pictures."
    )
