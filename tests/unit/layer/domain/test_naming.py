"""Names that AWS accepts, that say their run, and that no two stacks share."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.domain import naming
from droplens.domain.errors import UserError
from tests.support.strategies import CLASSIFIERS, PATHS

STACKS = st.from_regex(r"[a-z](-?[a-z0-9]){0,29}", fullmatch=True).filter(lambda it: len(it) <= 30)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


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


@given(before=MOMENTS, now=MOMENTS)
def test_a_successor_sorts_after_its_run_whatever_the_clock_says(
    before: datetime, now: datetime
) -> None:
    run = naming.run_id(before, "dataset")
    later = naming.later_run_id(run, now, "corrections")
    assert later > run
    assert later[:15] >= f"{now:%Y%m%d-%H%M%S}"
