"""The sweep finds exactly the pictures without an answer, in any order of keys and any number."""

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.s3.models import s3_backends

from droplens import layout
from droplens.errors import RetryLater
from droplens.events import object_created
from droplens.routing import Router
from droplens.storage import Bucket, ListedObject, ObjectMissing
from droplens.sweep import PAGE, picture_message, sweep, unanswered
from tests.unit.layer.account import BUCKET, Cloud
from tests.unit.layer.fakes import ACCOUNT


def router(default: str | None = None, known: Iterable[str] = ("cars",)) -> Router:
    return Router(set(known).__contains__, lambda: default)


def swept(
    cloud: Cloud,
    classifier: str = "cars",
    default: str | None = None,
    known: Iterable[str] = ("cars",),
) -> list[str]:
    found = sweep(
        cloud.bucket,
        classifier,
        router(default, known),
        default == classifier,
        cloud.sqs,
        cloud.picture_queue,
    )
    keys = cloud.queued()
    assert found == len(keys)
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
    created = object_created(picture_message(BUCKET, entry))
    assert (created.bucket, created.key, created.bytes) == (BUCKET, "input/cars/a+b %41.jpg", 3)
    assert created.etag == entry.etag


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


def test_the_default_classifier_s_sweep_finds_what_nobody_else_answers(cloud: Cloud) -> None:
    for key in ("input/a.jpg", "input/cars/b.jpg", "input/birds/c.jpg", "input/My Photos/d.jpg"):
        cloud.put(key, b"x")
    known = ("cars", "birds")
    assert swept(cloud, "cars", default="cars", known=known) == [
        "input/My Photos/d.jpg",
        "input/a.jpg",
        "input/cars/b.jpg",
    ]
    assert swept(cloud, "birds", default="cars", known=known) == ["input/birds/c.jpg"]


def test_a_classifier_whose_name_begins_another_s_leaves_it_alone(cloud: Cloud) -> None:
    cloud.put("input/cars/a.jpg", b"x")
    cloud.put("input/cars-2/a.jpg", b"x")
    answer(cloud, "input/cars-2/a.jpg", classifier="cars-2")
    assert swept(cloud, known=("cars", "cars-2")) == ["input/cars/a.jpg"]


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
    """A bucket that holds these keys, and counts how it is asked."""

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = sorted(keys, key=str.encode)
        self.listed = self.asked = 0

    def entries(self, prefix: str, start_after: str = "") -> Iterator[ListedObject]:
        for key in self.keys:
            if key.startswith(prefix) and key.encode() > start_after.encode():
                self.listed += 1
                yield ListedObject(key, "etag", 1)

    def head(self, key: str, _version: str | None = None) -> None:  # type: ignore[override]
        self.asked += 1
        if key not in self.keys:
            raise ObjectMissing(key)


def pictures(*names: str) -> list[ListedObject]:
    return [ListedObject(f"input/cars/{name}", "etag", 1) for name in sorted(names, key=str.encode)]


# Few letters, so that names often begin alike, with those on either side of "." in the order.
NAMES = st.text("ab+-./0\u00e9\U0001f697", min_size=1, max_size=4)


@given(
    answered=st.sets(NAMES, max_size=15), waiting=st.sets(NAMES, max_size=15), others=st.sets(NAMES)
)
def test_any_names_in_any_order(answered: set[str], waiting: set[str], others: set[str]) -> None:
    names = answered | waiting
    results = {layout.result_key(f"input/cars/{name}", "cars") for name in answered}
    strangers = {f"results/cars/{name}" for name in others} - {
        layout.result_key(f"input/cars/{name}", "cars") for name in names
    }
    found = unanswered(CountingBucket(results | strangers), "cars", pictures(*names))
    assert {entry.key for entry in found} == {f"input/cars/{name}" for name in names - answered}


@pytest.mark.parametrize("names", [("a", "a-"), ("a", "a-b", "a/b"), ("-", "a", "a-")])
def test_results_before_the_first_picture_s_and_after_the_last_one_s_are_seen(
    names: tuple[str, ...],
) -> None:
    bucket = CountingBucket(layout.result_key(f"input/cars/{name}", "cars") for name in names)
    assert list(unanswered(bucket, "cars", pictures(*names))) == []


def test_pages_are_compared_where_their_results_stand() -> None:
    names = [f"{n:05}.jpg" for n in range(3 * PAGE)]
    bucket = CountingBucket(layout.result_key(f"input/cars/{name}", "cars") for name in names)
    assert list(unanswered(bucket, "cars", pictures(*names))) == []
    assert bucket.listed <= 3 * (PAGE + 1)
    assert bucket.asked == 0


def test_where_other_results_lie_between_by_the_thousand_each_key_is_asked_for() -> None:
    others = [f"results/cars/b{n:06}.json" for n in range(12 * PAGE)]
    bucket = CountingBucket([*others, "results/cars/a.json", "results/cars/c.json"])
    found = unanswered(bucket, "cars", pictures("a", "b", "c"))
    assert [entry.key for entry in found] == ["input/cars/b"]
    assert bucket.listed <= 10 * PAGE + 2
    assert bucket.asked == 2


class RefusingQueue:
    """A queue that takes only the first of each batch."""

    def send_message_batch(self, **request: list[object]) -> dict[str, list[object]]:
        return {"Failed": request["Entries"][1:]}


def test_messages_that_are_not_taken_make_the_sweep_come_again(cloud: Cloud) -> None:
    cloud.put("input/cars/a.jpg")
    cloud.put("input/cars/b.jpg")
    with pytest.raises(RetryLater, match="1 messages"):
        sweep(cloud.bucket, "cars", router(), False, RefusingQueue(), "queue")  # type: ignore[arg-type]
