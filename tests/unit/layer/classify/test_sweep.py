"""The sweep finds exactly the pictures without an answer, in any order of keys and any number."""

import json
import tracemalloc
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.s3.models import s3_backends

from droplens.aws.events import object_created
from droplens.aws.s3 import Bucket
from droplens.classify.former_results import MAX_RESULT_BYTES
from droplens.classify.sweep import NONE, PAGE, Progress, Results, Sweep, image_message
from droplens.domain import layout, result
from droplens.domain.errors import ObjectMissing, RetryLater
from droplens.domain.stored_object import ListedObject
from tests.support.aws_account import BUCKET, Cloud
from tests.support.aws_fakes import ACCOUNT
from tests.support.results import CLASSIFIED, CLASSIFIED_V1


def sweep(
    cloud: Cloud,
    classifier: str = "cars",
    default: str | None = None,
    reclassify: str = NONE,
) -> Sweep:
    return Sweep(
        bucket=cloud.bucket,
        classifier=classifier,
        default=default,
        sqs=cloud.sqs,
        queue=cloud.picture_queue,
        reclassify=reclassify,
    )


def swept(cloud: Cloud, *args: Any, **kwargs: Any) -> list[str]:
    done = sweep(cloud, *args, **kwargs).run(Progress(), lambda: True)
    keys = cloud.queued()
    assert done.found == len(keys)
    assert done.finished
    return sorted(keys)


def answer(cloud: Cloud, *keys: str, classifier: str = "cars") -> None:
    for key in keys:
        cloud.put(layout.result_key(key, classifier), b"{}")


def test_an_empty_bucket_has_nothing_waiting(cloud: Cloud) -> None:
    assert swept(cloud) == []


def test_only_pictures_without_an_answer_are_enqueued(cloud: Cloud) -> None:
    for key in ("input/cars/", "input/cars/a.jpg", "input/cars/b.jpg", "input/cars/c/d.jpg"):
        cloud.put(key, b"x")
    answer(cloud, "input/cars/b.jpg")
    assert swept(cloud) == ["input/cars/a.jpg", "input/cars/c/d.jpg"]


def test_a_message_is_read_as_s3_s_own_event_is(cloud: Cloud) -> None:
    cloud.put("input/cars/a+b %41.jpg", b"xyz")
    [entry] = cloud.bucket.entries("input/")
    created = object_created(image_message(BUCKET, entry))
    assert (created.bucket, created.key, created.bytes) == (BUCKET, "input/cars/a+b %41.jpg", 3)
    assert created.etag == entry.etag
    assert not created.answered_by_default


# Names whose order changes once ".json" follows them: "-" sorts before ".", "/" after it.
AWKWARD = [
    "a",
    "a-b",
    "a.b",
    "a/b",
    "a.json",
    "a.json.json",
    "a-",
    "a b",
    "A",
    "ä",
    "車",
    "a+",
    "🚗",
]


@pytest.mark.parametrize("answered", [0, 1, 2, 3])
def test_the_order_of_keys_and_of_their_results_may_differ(cloud: Cloud, answered: int) -> None:
    keys = [f"input/cars/{name}" for name in AWKWARD]
    for key in keys:
        cloud.put(key, b"x")
    answer(cloud, *keys[answered::4])
    assert swept(cloud) == sorted(set(keys) - set(keys[answered::4]))


def test_the_default_classifier_s_sweep_finds_files_without_a_folder_and_no_other_folder_s(
    cloud: Cloud,
) -> None:
    for key in ("input/", "input/a.jpg", "input/z.jpg", "input/cars/b.jpg", "input/birds/c.jpg"):
        cloud.put(key, b"x")
    for key in ("input/My Photos/d.jpg", "input//e.jpg", "input/Cars/f.jpg", "input/zh-carz/g.jpg"):
        cloud.put(key, b"x")
    found = ["input/a.jpg", "input/cars/b.jpg", "input/z.jpg"]
    assert swept(cloud, "cars", default="cars") == found
    assert swept(cloud, "birds", default="cars") == ["input/birds/c.jpg"]


def test_the_default_classifier_s_sweep_does_not_list_what_stands_in_other_folders(
    cloud: Cloud,
) -> None:
    stored = s3_backends[ACCOUNT]["aws"]
    for n in range(3 * PAGE):
        stored.put_object(BUCKET, f"input/birds/{n:05}.jpg", b"x")
    cloud.put("input/z.jpg", b"x")
    listings: list[str] = []
    events = cloud.s3.meta.events
    events.register(
        "before-call.s3.ListObjectsV2", lambda **call: listings.append(call["model"].name)
    )
    assert swept(cloud, "cars", default="cars") == ["input/z.jpg"]
    assert len(listings) == 3  # files without a folder, their results, the classifier's folder


# --- what the default classifier once answered in another classifier's folder


def answered_formerly(cloud: Cloud, key: str, place: str | None = None, by: str = "cars") -> str:
    document = {"status": "classified", "classifier": by, "image": {"key": key}}
    place = place or layout.result_key(key, "cars")
    cloud.put(place, json.dumps(document).encode())
    return place


def test_pictures_that_the_default_classifier_answered_are_answered_again_and_marked(
    cloud: Cloud,
) -> None:
    long = "input/birds/" + "x" * 1000
    for key in ("a", "b/c", "new", "right"):
        cloud.put(f"input/birds/{key}", b"x")
    cloud.put(long, b"x")
    for key in ("input/birds/a", "input/birds/b/c", "input/birds/right", long):
        answered_formerly(cloud, key)
    answer(cloud, "input/birds/right", classifier="birds")
    # Of a default classifier's picture, at the key where one of birds' would have had its own.
    cloud.put("input/birds/twin", b"x")
    answered_formerly(cloud, "input/cars/birds/twin")
    answer(cloud, "input/birds/twin", classifier="birds")
    sweep(cloud, "birds", default="cars").run(Progress(), lambda: True)
    sent = {
        message["detail"]["object"]["key"]: object_created(message) for message in drained(cloud)
    }
    former = {key for key, created in sent.items() if created.answered_by_default}
    assert former == {"input/birds/a", "input/birds/b/c", "input/birds/right", long}
    assert sent.keys() - former == {"input/birds/new"}


def test_where_two_met_the_former_result_is_found_beside_the_other(cloud: Cloud) -> None:
    key = "input/birds/a"
    cloud.put(key, b"x")
    answer(cloud, key, classifier="birds")
    answered_formerly(cloud, "input/cars/birds/a")
    assert swept(cloud, "birds", default="cars") == []
    answered_formerly(cloud, key, layout.other_result_key(key, "cars"))
    assert swept(cloud, "birds", default="cars") == [key]


def drained(cloud: Cloud) -> list[Any]:
    found = []
    while got := cloud.sqs.receive_message(
        QueueUrl=cloud.picture_queue, MaxNumberOfMessages=10
    ).get("Messages"):
        for message in got:
            found.append(json.loads(message["Body"]))
            cloud.sqs.delete_message(
                QueueUrl=cloud.picture_queue, ReceiptHandle=message["ReceiptHandle"]
            )
    return found


def test_a_classifier_whose_name_begins_another_s_leaves_it_alone(cloud: Cloud) -> None:
    cloud.put("input/cars/a.jpg", b"x")
    cloud.put("input/cars-2/a.jpg", b"x")
    answer(cloud, "input/cars-2/a.jpg", classifier="cars-2")
    assert swept(cloud) == ["input/cars/a.jpg"]


def test_thousands_of_pictures_over_many_pages(cloud: Cloud) -> None:
    keys = [f"input/cars/{n:05}.jpg" for n in range(PAGE + 345)]
    waiting = set(keys[::30])
    stored = s3_backends[ACCOUNT]["aws"]  # without a request for each
    for key in keys:
        stored.put_object(BUCKET, key, b"x")
        if key not in waiting:
            stored.put_object(BUCKET, layout.result_key(key, "cars"), b"{}")
    assert swept(cloud) == sorted(waiting)


class CountingBucket(Bucket):
    """A bucket that holds these keys, sorted as S3 sorts them, and counts how it is asked."""

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = sorted(keys)
        self.pages = self.asked = 0

    def page(self, prefix: str, start_after: str = "") -> tuple[list[ListedObject], bool]:
        self.pages += 1
        first = max(bisect_left(self.keys, prefix), bisect_right(self.keys, start_after))
        end = bisect_left(self.keys, prefix + "\U0010ffff")
        keys = self.keys[first : min(end, first + PAGE)]
        found = [ListedObject(key, "etag", 1, datetime.now(UTC)) for key in keys]
        return found, first + PAGE < end

    def head(self, key: str, _version: str | None = None) -> None:  # type: ignore[override]
        self.asked += 1
        if key not in self.keys:
            raise ObjectMissing(key)


def unanswered(bucket: Bucket, names: Iterable[str]) -> set[str]:
    results = Results(bucket, "cars")
    return {name for name in sorted(names) if not results.has(f"input/cars/{name}")}


# Few letters, so that names often begin alike, with those on either side of "." in the order.
NAMES = st.text("ab+-./0~\u00e9\U0001f697", min_size=1, max_size=4)


def result_of(name: str) -> str:
    return layout.result_key(f"input/cars/{name}", "cars")


@given(
    answered=st.sets(NAMES, max_size=15),
    waiting=st.sets(NAMES, max_size=15),
    others=st.sets(NAMES),
    longer=st.sampled_from([0, 998, 1000, 1002, 1004, 1010]),
)
def test_any_names_in_any_order(
    answered: set[str], waiting: set[str], others: set[str], longer: int
) -> None:
    answered = {"x" * longer + name for name in answered}
    names = answered | {"x" * longer + name for name in waiting}
    results = {result_of(name) for name in answered}
    strangers = {f"results/cars/{name}" for name in others} - {result_of(name) for name in names}
    bucket = CountingBucket(results | strangers)
    assert unanswered(bucket, names) == names - answered
    assert bucket.asked == 0


@given(st.sets(NAMES, min_size=2, max_size=9), st.sampled_from([0, 1000, 1002, 1003]))
def test_no_later_picture_s_result_sorts_before_the_bound(names: set[str], longer: int) -> None:
    keys = sorted(f"input/cars/{'x' * longer}{name}" for name in names)
    for number, key in enumerate(keys):
        bound = layout.result_bound(key, "cars")
        assert all(bound < layout.result_key(later, "cars") for later in keys[number:])


@pytest.mark.parametrize("names", [("a", "a-"), ("a", "a-b", "a/b"), ("-", "a", "a-")])
def test_results_before_the_first_picture_s_and_after_the_last_one_s_are_seen(
    names: tuple[str, ...],
) -> None:
    assert unanswered(CountingBucket(map(result_of, names)), names) == set()


def whole_sweep(pictures: int) -> tuple[CountingBucket, Sweep]:
    """A sweep of so many pictures, all of them answered."""
    keys = [f"input/cars/{n:07}.jpg" for n in range(pictures)]
    bucket = CountingBucket([*keys, *(layout.result_key(key, "cars") for key in keys)])
    return bucket, Sweep(
        bucket=bucket,
        classifier="cars",
        default=None,
        sqs=RefusingQueue(),  # type: ignore[arg-type]
        queue="queue",
    )


def test_a_thousand_answered_pictures_take_two_calls() -> None:
    bucket, sweep_of_all = whole_sweep(200_000)
    done = sweep_of_all.run(Progress(), lambda: True)
    assert done == Progress("input/cars/0199999.jpg", 0, finished=True)
    assert bucket.pages <= 410
    assert bucket.asked == 0


def test_memory_does_not_grow_with_the_pictures() -> None:
    peaks = []
    for pictures in (20_000, 60_000):
        _, sweep_of_all = whole_sweep(pictures)
        tracemalloc.start()
        try:
            sweep_of_all.run(Progress(), lambda: True)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    # The first run's own noise is a quarter; memory that grew would be three times as much.
    assert peaks[1] < 1.6 * peaks[0] < 6 * 2**20


def test_results_that_nobody_asks_for_are_not_listed() -> None:
    others = [f"results/cars/b{n:06}.json" for n in range(30 * PAGE)]
    bucket = CountingBucket([*others, "results/cars/a.json", "results/cars/c.json"])
    assert unanswered(bucket, ("a", "b", "c")) == {"b"}
    assert bucket.pages <= 15


def test_where_results_lie_between_by_the_thousand_a_key_is_asked_for() -> None:
    others = [f"results/cars/a-{n:06}.json" for n in range(30 * PAGE)]
    bucket = CountingBucket([*others, "results/cars/a.json"])
    assert unanswered(bucket, ("a", "ab")) == {"ab"}
    assert bucket.asked == 1
    assert bucket.pages <= 15


@pytest.mark.parametrize(("between", "asked"), [(10_999, 0), (11_000, 1)])
def test_up_to_eleven_pages_are_read_before_a_key_is_asked_for(between: int, asked: int) -> None:
    # With ten pages kept one more is read, and the picture's own result is the last on it.
    others = [f"results/cars/a-{n:06}.json" for n in range(between)]
    bucket = CountingBucket([*others, "results/cars/a.json", "results/cars/b.json"])
    assert unanswered(bucket, ("a",)) == set()
    assert bucket.asked == asked


def test_sqs_is_sent_ten_messages_at_a_time(cloud: Cloud) -> None:
    class Counting:
        """A queue that takes all, and keeps how many came at once."""

        calls: list[int] = []  # noqa: RUF012

        def send_message_batch(self, **request: Any) -> dict[str, Any]:
            self.calls.append(len(request["Entries"]))
            return {}

    for n in range(21):
        cloud.put(f"input/cars/{n:02}.jpg")
    queue: Any = Counting()
    assert replace(sweep(cloud), sqs=queue).run(Progress(), lambda: True).found == 21
    assert queue.calls == [10, 10, 1]


def test_a_sweep_that_ran_out_of_time_is_gone_on_with(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("droplens.classify.sweep.PAGE", 3)
    keys = [f"input/{name}" for name in ("a", "cars/a", "cars/b", "cars/c", "cars/d", "x", "y")]
    for key in keys:
        cloud.put(key, b"x")
    answer(cloud, "input/cars/b", "input/x")
    progress, attempts = Progress(), 0
    while not progress.finished:
        progress = sweep(cloud, default="cars").run(progress, lambda: False)
        attempts += 1
    assert attempts == 4
    assert progress.found == 5
    assert sorted(cloud.queued()) == sorted(set(keys) - {"input/cars/b", "input/x"})


def judged(cloud: Cloud, key: str, status: str = "classified", confident: bool = True) -> None:
    document: dict[str, Any] = {"status": status, "image": {"key": key}}
    if status == "classified":
        document["prediction"] = {"confident": confident}
    place = layout.result_key(key, "cars")
    if any(entry.key == place for entry in cloud.bucket.entries(place)):
        place = layout.other_result_key(key, "cars")
    cloud.put(place, json.dumps(document).encode())


@pytest.mark.parametrize("document", [CLASSIFIED, CLASSIFIED_V1], ids=["v2", "v1"])
@pytest.mark.parametrize("confident", [True, False])
def test_results_of_both_versions_are_read(
    cloud: Cloud, document: dict[str, Any], confident: bool
) -> None:
    key = document["image"]["key"]
    cloud.put(key, b"x")
    prediction = {**document["prediction"], "confident": confident}
    if not confident and "familiar" in prediction:
        prediction |= {"familiar": False, "familiarity": 0.0}
    stored = result.to_json({**document, "prediction": prediction})
    cloud.put(layout.result_key(key, "cars"), stored)
    assert swept(cloud, reclassify="unsure") == ([] if confident else [key])


@pytest.mark.parametrize(
    ("reclassify", "again"),
    [
        ("none", {"new"}),
        ("unsure", {"new", "unsure", "twin"}),
        ("all", {"new", "unsure", "twin", "sure", "rejected", "cars/twin"}),
    ],
)
def test_a_new_model_answers_again_what_it_is_asked_to(
    cloud: Cloud, reclassify: str, again: set[str]
) -> None:
    for name in ("new", "sure", "unsure", "rejected", "cars/twin", "twin"):
        cloud.put(f"input/{name}", b"x")
    judged(cloud, "input/sure")
    judged(cloud, "input/unsure", confident=False)
    judged(cloud, "input/rejected", "rejected")
    judged(cloud, "input/cars/twin")
    judged(cloud, "input/twin", confident=False)
    found = swept(cloud, default="cars", reclassify=reclassify)
    assert found == sorted(f"input/{name}" for name in again)


@pytest.mark.parametrize("reclassify", ["none", "unsure", "all"])
def test_results_of_pictures_that_have_expired_are_passed_over(
    cloud: Cloud, reclassify: str
) -> None:
    for name in ("a", "b", "d"):
        judged(cloud, f"input/cars/{name}.jpg", confident=False)
    cloud.put("input/cars/c.jpg", b"x")
    assert swept(cloud, reclassify=reclassify) == ["input/cars/c.jpg"]


def test_a_picture_that_has_no_result_is_not_asked_for_one_again(cloud: Cloud) -> None:
    class Unread(Bucket):
        """A bucket whose listings tell all that is needed."""

        def read_at_most(self, key: str, _: int) -> Any:
            pytest.fail(f"{key} is known to be missing")

    cloud.put("input/cars/a.jpg")
    unread = replace(sweep(cloud, reclassify="unsure"), bucket=Unread(cloud.s3, BUCKET))
    assert unread.run(Progress(), lambda: True).found == 1


class RefusingQueue:
    """A queue that takes only the first of each batch."""

    def send_message_batch(self, **request: list[object]) -> dict[str, list[object]]:
        return {"Failed": request["Entries"][1:]}


def test_messages_that_are_not_taken_make_the_sweep_come_again(cloud: Cloud) -> None:
    cloud.put("input/cars/a.jpg")
    cloud.put("input/cars/b.jpg")
    refused = replace(sweep(cloud), sqs=RefusingQueue())  # type: ignore[arg-type]
    with pytest.raises(RetryLater, match="1 messages"):
        refused.run(Progress(), lambda: True)


GARBAGE = [
    b"{}",
    b"",
    b"null",
    b"[]",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"image": "input/cars/a"}',
    b'{"image": {"key": "input/cars/a"}}',
    b'{"image": {"key": "input/cars/a"}, "status": "classified"}',
    b'{"image": {"key": "input/cars/a"}, "status": "classified", "prediction": []}',
    b" " * MAX_RESULT_BYTES + b'{"image": {"key": "input/cars/a"}, "status": "rejected"}',
]


@pytest.mark.parametrize("body", GARBAGE, ids=lambda body: body[:60].decode("latin-1"))
def test_what_is_no_result_does_not_stop_a_sweep(cloud: Cloud, body: bytes) -> None:
    for name in ("a", "b", "c"):
        cloud.put(f"input/cars/{name}", b"x")
    cloud.put(layout.result_key("input/cars/a", "cars"), body)
    cloud.put(layout.other_result_key("input/cars/b", "cars"), body)
    judged(cloud, "input/cars/c")
    assert swept(cloud, reclassify="unsure") == ["input/cars/a", "input/cars/b"]


def test_a_picture_called_like_another_s_result_is_found_answered(cloud: Cloud) -> None:
    stolen = layout.other_result_key("input/a", "cars").removeprefix("results/cars/")
    names = ["a", "b", stolen.removesuffix(".json"), "~z"]
    for name in names:
        cloud.put(f"input/cars/{name}", b"x")
    assert swept(cloud) == sorted(f"input/cars/{name}" for name in names)
    answer(cloud, *(f"input/cars/{name}" for name in names))
    assert swept(cloud) == []
