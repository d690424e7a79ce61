"""A failed picture is retried later each time, and an hour of trouble costs few of its tries."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.aws.sqs import LONGEST_DELAY, VisibilityBackoff, delay, grouped
from tests.support.aws_account import MAX_RECEIVES, VISIBILITY_TIMEOUT, Cloud
from tests.support.aws_fakes import refusal

HOUR = 3600


@given(receives=st.integers(1, 1000), chance=st.floats(0, 1, exclude_max=True))
def test_a_delay_grows_to_a_quarter_of_an_hour(receives: int, chance: float) -> None:
    assert 5 <= delay(receives, chance) <= LONGEST_DELAY
    assert delay(receives + 1, chance) >= delay(receives, chance)
    assert delay(receives, 0) <= delay(receives, chance)


def test_pictures_that_failed_together_come_back_apart() -> None:
    assert (delay(1, 0), delay(1, 0.99)) == (5, 10)
    assert (delay(7, 0), delay(7, 0.5)) == (320, 480)
    assert (delay(8, 0), delay(8, 0.999)) == (450, 900)


def test_five_hours_of_trouble_lose_nothing_and_one_hour_costs_few_tries() -> None:
    soonest = [delay(n, 0) for n in range(1, MAX_RECEIVES)]
    assert sum(soonest) > 5 * HOUR
    assert sum(soonest[:13]) < HOUR < sum(soonest[:15])


def received(cloud: Cloud, *bodies: str) -> list[dict[str, Any]]:
    for body in bodies:
        cloud.sqs.send_message(QueueUrl=cloud.picture_queue, MessageBody=body)
    messages = cloud.sqs.receive_message(
        QueueUrl=cloud.picture_queue, MaxNumberOfMessages=10, AttributeNames=["All"]
    )["Messages"]
    return [
        {"receiptHandle": found["ReceiptHandle"], "attributes": found["Attributes"]}
        for found in messages
    ]


def hidden(cloud: Cloud) -> int:
    attributes = cloud.sqs.get_queue_attributes(
        QueueUrl=cloud.picture_queue, AttributeNames=["All"]
    )["Attributes"]
    return int(attributes["ApproximateNumberOfMessagesNotVisible"])


def test_a_failed_message_is_hidden_for_its_own_delay(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = received(cloud, "a", "b")
    asked: list[dict[str, Any]] = []
    change = cloud.sqs.change_message_visibility_batch

    def ask(**request: Any) -> Any:
        asked.append(request)
        return change(**request)

    monkeypatch.setattr(cloud.sqs, "change_message_visibility_batch", ask, raising=False)
    records[1]["attributes"]["ApproximateReceiveCount"] = "9"
    VisibilityBackoff(cloud.sqs, cloud.picture_queue).hide(records)
    first, second = (entry["VisibilityTimeout"] for entry in asked[0]["Entries"])
    assert 5 <= first <= 10
    assert 450 <= second <= 900
    assert hidden(cloud) == 2


def test_where_nothing_failed_sqs_is_not_asked() -> None:
    VisibilityBackoff(object(), "queue").hide([])  # type: ignore[arg-type]


class Refusing:
    """SQS, which takes no call, or none of the messages."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def change_message_visibility_batch(self, **request: Any) -> dict[str, Any]:
        if self.error:
            raise self.error
        return {"Failed": request["Entries"]}


@pytest.mark.parametrize("error", [refusal("AccessDenied", "ChangeMessageVisibility"), None])
def test_a_message_that_cannot_be_hidden_longer_is_noted_and_no_failure(
    cloud: Cloud, error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    queue: Any = Refusing(error)
    VisibilityBackoff(queue, "queue").hide(received(cloud, "a"))
    assert "visibility timeout" in caplog.text


def test_what_was_not_begun_comes_again_soon_for_a_few_times(cloud: Cloud) -> None:
    for receives, longest in ((1, 10), (4, 10), (5, 160)):
        queue = RecordingQueue()
        record = {
            "messageId": "late",
            "receiptHandle": "handle",
            "attributes": {"ApproximateReceiveCount": str(receives)},
        }
        VisibilityBackoff(queue, "queue").hide([record], {"late"})  # type: ignore[arg-type]
        [entry] = queue.entries
        assert longest / 2 <= entry["VisibilityTimeout"] <= longest


class RecordingQueue:
    """Keeps what is asked of it."""

    def change_message_visibility_batch(self, **request: Any) -> dict[str, Any]:
        self.entries = request["Entries"]
        return {}


NOW = 1_795_000_000.0


def message(name: str, receives: int, first_received_ago: float) -> dict[str, Any]:
    return {
        "messageId": name,
        "receiptHandle": f"handle-{name}",
        "attributes": {
            "ApproximateReceiveCount": str(receives),
            "ApproximateFirstReceiveTimestamp": str(round(1000 * (NOW - first_received_ago))),
        },
    }


def groups(*messages: dict[str, Any]) -> list[list[str]]:
    return [[one["messageId"] for one in group] for group in grouped(messages, NOW)]


def test_what_may_have_ended_an_invocation_is_handled_alone_and_last() -> None:
    worst, bad = message("worst", 9, 7200), message("bad", 3, 1500)
    assert groups(worst, message("new", 1, 0), bad, message("again", 2, 800)) == [
        ["new", "again"],
        ["bad"],
        ["worst"],
    ]
    assert groups(worst, bad) == [["bad"], ["worst"]]
    assert groups() == []


def test_throttled_pictures_stay_together_until_the_visibility_timeout_has_passed() -> None:
    """Five tries within five minutes: no invocation that had them can have been ended by force."""
    throttled = [message(str(number), 6, VISIBILITY_TIMEOUT - 1) for number in range(10)]
    assert len(groups(*throttled)) == 1
    longer = [message(str(number), 6, VISIBILITY_TIMEOUT) for number in range(10)]
    assert len(groups(*longer)) == 10


def test_done_messages_are_deleted_at_once_and_the_others_stay(cloud: Cloud) -> None:
    records = received(cloud, "a", "b", "c")
    VisibilityBackoff(cloud.sqs, cloud.picture_queue).delete(records[:2])
    assert hidden(cloud) == 1
    VisibilityBackoff(object(), "queue").delete([])  # type: ignore[arg-type]


class NoDeletion(Refusing):
    """SQS, which deletes nothing."""

    def delete_message_batch(self, **request: Any) -> dict[str, Any]:
        return self.change_message_visibility_batch(**request)


@pytest.mark.parametrize("error", [refusal("AccessDenied", "DeleteMessage"), None])
def test_a_message_that_cannot_be_deleted_is_noted_and_no_failure(
    cloud: Cloud, error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    queue: Any = NoDeletion(error)
    VisibilityBackoff(queue, "queue").delete(received(cloud, "a"))
    assert "left for Lambda" in caplog.text
