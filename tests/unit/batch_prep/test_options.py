"""The command line: its defaults, and values that are refused."""

import pytest

from batch_prep.errors import JobError
from batch_prep.options import parse

NEEDED = ["--source", "s3://b/datasets/cars/", "--destination", "s3://b/packed/cars/r/"]
NEEDED += ["--classifier", "cars", "--run-id", "r"]


def test_the_defaults_are_those_of_the_documentation() -> None:
    options = parse(NEEDED)
    assert options.preprocessing.to_dict() == {"shorter_side": 256, "crop": None, "quality": 95}
    assert (options.validation, options.seed, options.max_bad) == (0.2, 0, 0.2)
    assert options.runs_table is None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--validation", "0"),
        ("--validation", "0.6"),
        ("--max-bad", "1.1"),
        ("--workers", "0"),
        ("--shorter-side", "0"),
        ("--quality", "100"),
    ],
)
def test_a_value_out_of_its_range_is_refused_with_the_range(option: str, value: str) -> None:
    with pytest.raises(JobError, match="expected"):
        parse([*NEEDED, option, value])


def test_what_is_needed_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(NEEDED[2:])
    assert "--source" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "shards"), [([], None), (["auto"], None), (["7"], 7)])
def test_shards_are_counted_or_left_to_the_job(given: list[str], shards: int | None) -> None:
    assert parse([*NEEDED, *(["--shards", *given] if given else [])]).shards == shards


def test_a_number_of_shards_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse([*NEEDED, "--shards", "many"])
    assert "--shards" in capsys.readouterr().err
