"""An invocation knows its own time, owns its claims, and invokes others only where it can."""

from dataclasses import dataclass
from typing import Any

import pytest

from droplens.domain.run import RunKey, Stage
from droplens.journey.invocation import Invocation
from tests.support.aws_account import Cloud

RUN = RunKey("cars", "20261122-120000-1a2b3c")


@dataclass
class Context:
    """What Lambda's context says of its invocation."""

    milliseconds: int
    aws_request_id: str = "request-1"

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


def invocation(cloud: Cloud, context: Any, *more: Any) -> Invocation:
    return Invocation.of(context, cloud.table, cloud.sns, cloud.topic, *more)


@pytest.mark.parametrize(
    ("milliseconds", "enough"), [(180_000, False), (180_001, True), (0, False)]
)
def test_a_step_goes_on_while_its_longest_part_can_still_be_done(
    cloud: Cloud, milliseconds: int, enough: bool
) -> None:
    assert invocation(cloud, Context(milliseconds)).has_time() is enough


def test_the_time_is_read_when_it_is_needed(cloud: Cloud) -> None:
    context = Context(900_000)
    step = invocation(cloud, context)
    assert (step.seconds_left(), step.has_time()) == (900, True)
    context.milliseconds = 60_500
    assert (step.seconds_left(), step.has_time()) == (60.5, False)


def test_its_claims_are_its_own_and_a_failure_of_its_run_is_sent_to_its_topic(
    cloud: Cloud,
) -> None:
    first = invocation(cloud, Context(60_000))
    first.runs.open(RUN, {"version": "v1"})
    assert first.runs.claim(RUN, Stage.PACK)
    assert not invocation(cloud, Context(60_000, "request-2")).runs.claim(RUN, Stage.PACK)
    assert invocation(cloud, Context(60_000)).runs.claim(RUN, Stage.PACK)
    first.failures.fail(RUN, Stage.PACK, "dataset.incomplete", "no images")
    [notice] = cloud.notices()
    assert "no images" in notice["message"]


def test_events_for_others_go_to_the_function_that_was_given(cloud: Cloud) -> None:
    sent: list[Any] = []
    invocation(cloud, Context(60_000), sent.append).invoke({"turn": 1})
    assert sent == [{"turn": 1}]
    with pytest.raises(RuntimeError, match="turn"):
        invocation(cloud, Context(60_000)).invoke({"turn": 1})
