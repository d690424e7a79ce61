"""The review queue in a real conditional store: each review once, whatever fails."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from droplens.domain import layout
from droplens.domain.errors import UserError
from droplens.domain.review import NONE, Reason, Review
from droplens.state.reviews import LEASE, AlreadyDecided, ReviewMissing, Reviews
from tests.support.aws_account import Cloud
from tests.support.aws_fakes import refusal
from tests.support.reviews import review, sampled_review

OLDER = "20261121-120000-1a2b3c"


@pytest.fixture
def reviews(cloud: Cloud) -> Reviews:
    return cloud.reviews()


def enter(cloud: Cloud, number: int, order: float = 0.5, **changes: Any) -> Review:
    """Drop an image, and enter its review."""
    version = cloud.put(f"input/cars/{number}.jpg", f"image {number}".encode())["VersionId"]
    entered = review(number, version=version, order=order, **changes)
    assert cloud.reviews().enter(entered)
    return entered


def correction(of: Review, label: str) -> str:
    return layout.correction_key("cars", label, of.key)


def item(cloud: Cloud, number: int = 0) -> dict[str, Any]:
    [found] = [
        one
        for one in cloud.reviews_table.scan()["Items"]
        if one["image"].endswith(f"/{number}.jpg")
    ]
    return dict(found)


def test_a_review_is_entered_once_for_each_version_and_model(reviews: Reviews) -> None:
    assert reviews.enter(review())
    assert not reviews.enter(review(predicted="blue"))
    assert reviews.enter(review(version="v2"))
    assert reviews.enter(review(model=OLDER))
    assert {(one.version, one.model) for one in reviews.of_image(review().key)} == {
        ("v1", review().model),
        ("v2", review().model),
        ("v1", OLDER),
    }


def test_it_is_read_as_it_was_entered(reviews: Reviews) -> None:
    entered = review(sampled=0.01, reason=Reason.UNFAMILIAR, probability=0.123456)
    reviews.enter(entered)
    assert reviews.of_image(entered.key) == [entered]


def test_another_fault_is_no_repeat(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def put_item(**_: Any) -> None:
        raise refusal("ProvisionedThroughputExceededException", "PutItem")

    monkeypatch.setattr(cloud.reviews_table, "put_item", put_item)
    with pytest.raises(ClientError, match="Provisioned"):
        cloud.reviews().enter(review())


@pytest.mark.parametrize("days", [0, 30])
def test_dynamodb_deletes_it_after_its_retention(cloud: Cloud, days: int) -> None:
    cloud.reviews(retention_days=days).enter(review())
    over = int((review().entered + timedelta(days=days)).timestamp())
    assert item(cloud).get("expires") == (over if days else None)


def test_the_least_in_order_comes_first_and_no_more_than_asked_for(
    cloud: Cloud, reviews: Reviews
) -> None:
    for number, order in enumerate((0.7, 0.2, 0.95, 0.05)):
        enter(cloud, number, order)
    enter(cloud, 9, 0.0, classifier="birds")
    assert [one.order for one in reviews.claim("cars", "ann", 3)] == [0.05, 0.2, 0.7]


def test_a_claimed_review_is_its_reviewer_s_until_the_lease_is_over(
    cloud: Cloud, reviews: Reviews
) -> None:
    first, second = enter(cloud, 0, 0.1), enter(cloud, 1, 0.2)
    assert reviews.claim("cars", "ann", 1) == [first]
    assert reviews.claim("cars", "bob", 5) == [second]
    assert reviews.claim("cars", "ann", 5) == [first]
    cloud.clock.turn(LEASE.total_seconds() + 1)
    assert reviews.claim("cars", "bob", 5) == [first, second]
    assert reviews.claim("cars", "ann", 5) == []


def test_reviewers_at_the_same_time_never_get_the_same(cloud: Cloud) -> None:
    for number in range(12):
        enter(cloud, number, number / 20)
    got: dict[str, list[Review]] = {}

    def work(name: str) -> None:
        got[name] = cloud.reviews().claim("cars", name, 4)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("ann", "bob", "cy")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = [one.key for hand in got.values() for one in hand]
    assert len(keys) == len(set(keys)) == 12


def test_an_index_that_is_late_hands_nothing_out_twice(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index goes on showing what it showed before anybody claimed or decided."""
    free, decided = enter(cloud, 0), enter(cloud, 1)
    before = cloud.reviews_table.query
    shown = list(cloud.reviews_table.scan()["Items"])

    def late(**query: Any) -> Any:
        return {"Items": shown} if "IndexName" in query else before(**query)

    monkeypatch.setattr(cloud.reviews_table, "query", late)
    reviews = cloud.reviews()
    reviews.decide(decided, "red", "ann")
    assert reviews.claim("cars", "ann", 5) == [free]
    assert reviews.claim("cars", "bob", 5) == []


def test_a_released_review_is_the_next_one_s_and_comes_back_last(
    cloud: Cloud, reviews: Reviews
) -> None:
    first, second = enter(cloud, 0, 0.1), enter(cloud, 1, 0.2)
    [claimed] = reviews.claim("cars", "ann", 1)
    reviews.release(claimed, "ann")
    assert reviews.claim("cars", "ann", 5) == [second, first]
    reviews.release(first, "ann")
    assert reviews.claim("cars", "bob", 1) == [first]


def test_nobody_releases_what_another_holds(cloud: Cloud, reviews: Reviews) -> None:
    enter(cloud, 0)
    [claimed] = reviews.claim("cars", "ann", 1)
    reviews.release(claimed, "bob")
    assert reviews.claim("cars", "bob", 1) == []


def test_a_decision_is_a_correction_and_history(cloud: Cloud, reviews: Reviews) -> None:
    entered = enter(cloud, 0)
    other = enter(cloud, 1)
    cloud.clock.turn(60)
    decided = reviews.decide(entered, "blue", "ann")
    assert (decided.label, decided.reviewer, decided.decided) == ("blue", "ann", cloud.clock.now)
    assert cloud.bucket.read(correction(entered, "blue"))[0] == b"image 0"
    assert reviews.of_image(entered.key) == [decided]
    assert reviews.decisions("cars").reviews == [decided]
    assert reviews.claim("cars", "bob", 5) == [other]
    assert reviews.waiting("cars") == {
        Reason.UNSURE: 0,
        Reason.UNFAMILIAR: 0,
        Reason.SPOT_CHECK: 1,
    }


def test_the_correction_is_the_version_that_was_predicted(cloud: Cloud, reviews: Reviews) -> None:
    entered = enter(cloud, 0)
    cloud.put(entered.key, b"another image")
    reviews.decide(entered, NONE, "ann")
    assert cloud.bucket.read(correction(entered, NONE))[0] == b"image 0"


def test_the_same_decision_again_changes_nothing(cloud: Cloud, reviews: Reviews) -> None:
    entered = enter(cloud, 0)
    decided = reviews.decide(entered, "blue", "ann")
    cloud.clock.turn(1)
    assert reviews.decide(entered, "blue", "ann") == decided
    assert cloud.keys("corrections/") == [correction(entered, "blue")]


@pytest.mark.parametrize(("label", "reviewer"), [("red", "ann"), ("blue", "bob")])
def test_another_decision_is_refused_with_the_one_that_stands(
    cloud: Cloud, reviews: Reviews, label: str, reviewer: str
) -> None:
    entered = enter(cloud, 0)
    decided = reviews.decide(entered, "blue", "ann")
    with pytest.raises(AlreadyDecided, match=r"ann has reviewed .*0\.jpg as blue") as caught:
        reviews.decide(entered, label, reviewer)
    assert caught.value.review == decided
    assert cloud.keys("corrections/") == [correction(entered, "blue")]


def test_a_review_that_is_gone_can_be_neither_decided_nor_undone(
    cloud: Cloud, reviews: Reviews
) -> None:
    entered = enter(cloud, 0)
    reviews.remove(entered)
    with pytest.raises(ReviewMissing, match=r"no review of input/cars/0\.jpg"):
        reviews.decide(entered, "red", "ann")
    with pytest.raises(ReviewMissing, match=r"no review of input/cars/0\.jpg"):
        reviews.undo(entered, "ann")
    assert cloud.keys("corrections/") == []


@pytest.mark.parametrize("label", ["", ".hidden", "a/b", "a\\b", "a\nb", "x" * 257, "🚗" * 256])
def test_a_label_that_can_be_no_folder_is_refused(
    cloud: Cloud, reviews: Reviews, label: str
) -> None:
    entered = enter(cloud, 0)
    with pytest.raises(UserError, match="is no class"):
        reviews.decide(entered, label, "ann")
    assert reviews.of_image(entered.key) == [entered]


def test_undo_returns_it_to_the_queue_and_takes_the_correction_away(
    cloud: Cloud, reviews: Reviews
) -> None:
    entered = enter(cloud, 0)
    decided = reviews.decide(entered, "blue", "ann")
    assert reviews.undo(decided, "ann") == entered
    assert reviews.undo(decided, "ann") == entered
    assert cloud.keys("corrections/") == []
    assert reviews.decisions("cars").reviews == []
    assert reviews.claim("cars", "bob", 1) == []
    assert reviews.claim("cars", "ann", 1) == [entered]
    assert reviews.decide(entered, "red", "ann").label == "red"
    assert cloud.keys("corrections/") == [correction(entered, "red")]


def test_a_later_decision_is_not_undone(cloud: Cloud, reviews: Reviews) -> None:
    entered = enter(cloud, 0)
    decided = reviews.decide(entered, "blue", "ann")
    reviews.undo(decided, "ann")
    cloud.clock.turn(1)
    later = reviews.decide(entered, "red", "bob")
    with pytest.raises(AlreadyDecided):
        reviews.undo(decided, "ann")
    assert reviews.of_image(entered.key) == [later]


def cut_off(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, after: int, act: Callable[[], object]
) -> None:
    """Let the process end after so many calls that change something."""
    made = 0

    def limited(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(**request: Any) -> Any:
            nonlocal made
            if made == after:
                raise SystemExit
            made += 1
            return real(**request)

        return call

    with monkeypatch.context() as patch:
        for thing, name in (
            (cloud.reviews_table, "update_item"),
            (cloud.s3, "copy_object"),
            (cloud.s3, "delete_object"),
        ):
            patch.setattr(thing, name, limited(getattr(thing, name)))
        with pytest.raises(SystemExit):
            act()


@pytest.mark.parametrize("after", [1, 2])
def test_a_decision_that_was_cut_off_is_completed_by_whoever_comes_next(
    cloud: Cloud, reviews: Reviews, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    entered = enter(cloud, 0)
    cut_off(cloud, monkeypatch, after, lambda: reviews.decide(entered, "blue", "ann"))
    assert sum(reviews.waiting("cars").values()) == 0
    assert reviews.claim("cars", "bob", 1) == []
    assert cloud.keys("corrections/") == [correction(entered, "blue")]
    [found] = reviews.decisions("cars").reviews
    assert (found.label, found.reviewer) == ("blue", "ann")


@pytest.mark.parametrize("after", [1, 2])
def test_so_is_an_undo(
    cloud: Cloud, reviews: Reviews, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    entered = enter(cloud, 0)
    decided = reviews.decide(entered, "blue", "ann")
    cut_off(cloud, monkeypatch, after, lambda: reviews.undo(decided, "ann"))
    cloud.clock.turn(LEASE.total_seconds() + 1)
    assert reviews.claim("cars", "bob", 1) == [entered]
    assert cloud.keys("corrections/") == []
    assert "former" not in item(cloud)


def test_who_settles_a_decision_that_is_undone_meanwhile_leaves_no_correction(
    cloud: Cloud, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ann's decision is found unfinished by Bob; she undoes it while he copies."""
    entered = enter(cloud, 0)
    cut_off(cloud, monkeypatch, 1, lambda: reviews.decide(entered, "blue", "ann"))
    copy = cloud.s3.copy_object
    [decided] = reviews.of_image(entered.key)

    def undone_meanwhile(**request: Any) -> Any:
        monkeypatch.setattr(cloud.s3, "copy_object", copy)
        cloud.reviews().undo(decided, "ann")
        return copy(**request)

    monkeypatch.setattr(cloud.s3, "copy_object", undone_meanwhile)
    assert reviews.claim("cars", "bob", 1) == []
    assert cloud.keys("corrections/") == []
    assert reviews.claim("cars", "ann", 1) == [entered]


def test_a_decision_is_made_where_the_one_before_is_undone_meanwhile(
    cloud: Cloud, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bob undoes his decision after it has kept Ann's from being made, and before she reads it."""
    entered = enter(cloud, 0)
    of_bob = reviews.decide(entered, "blue", "bob")
    get = cloud.reviews_table.get_item

    def undone_meanwhile(**request: Any) -> Any:
        monkeypatch.setattr(cloud.reviews_table, "get_item", get)
        cloud.reviews().undo(of_bob, "bob")
        return get(**request)

    monkeypatch.setattr(cloud.reviews_table, "get_item", undone_meanwhile)
    decided = reviews.decide(entered, "red", "ann")
    assert (decided.label, decided.reviewer) == ("red", "ann")
    assert cloud.keys("corrections/") == [correction(entered, "red")]


def test_a_decision_holds_for_every_model_that_waits_for_it(cloud: Cloud, reviews: Reviews) -> None:
    entered = enter(cloud, 0)
    older = replace(entered, model=OLDER, predicted="blue")
    another = replace(entered, classifier="birds", model=OLDER)
    assert reviews.enter(older)
    assert reviews.enter(another)
    assert len(reviews.claim("cars", "ann", 5)) == 1
    decided = reviews.decide(entered, "blue", "ann")
    assert {(one.classifier, one.label) for one in reviews.of_image(entered.key)} == {
        ("cars", "blue"),
        ("birds", None),
    }
    assert len(reviews.decisions("cars").reviews) == 2
    reviews.undo(decided, "ann")
    assert [one.label for one in reviews.of_image(entered.key)] == [None] * 3
    assert all("former" not in one for one in cloud.reviews_table.scan()["Items"])
    assert cloud.keys("corrections/") == []


def test_a_decision_looks_at_items_as_they_are_where_reads_are_late(
    cloud: Cloud, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = enter(cloud, 0)
    assert reviews.enter(replace(entered, model=OLDER))
    query = cloud.reviews_table.query

    def late(**request: Any) -> Any:
        return query(**request) if request.get("ConsistentRead") else {"Items": []}

    with monkeypatch.context() as patch:
        patch.setattr(cloud.reviews_table, "query", late)
        reviews.decide(entered, "blue", "ann")
        get = cloud.reviews_table.get_item

        def late_item(**request: Any) -> Any:
            return get(**request) if request.get("ConsistentRead") else {}

        patch.setattr(cloud.reviews_table, "get_item", late_item)
        with pytest.raises(AlreadyDecided):
            reviews.decide(entered, "red", "bob")
    assert {one.label for one in reviews.of_image(entered.key)} == {"blue"}


def test_of_two_predictions_that_wait_the_later_one_is_shown(
    cloud: Cloud, reviews: Reviews
) -> None:
    older = enter(cloud, 0, 0.1, model=OLDER, sampled=0.01)
    newer = replace(
        older, model=review().model, order=0.9, entered=older.entered + timedelta(hours=1)
    )
    assert reviews.enter(newer)
    assert reviews.claim("cars", "ann", 5) == [newer]
    assert sum(reviews.waiting("cars").values()) == 1
    reviews.decide(newer, "blue", "ann")
    [found] = reviews.sample("cars", OLDER)
    assert found.label == "blue"


def test_what_was_labelled_before_a_model_saw_it_is_not_reviewed_again(
    cloud: Cloud, reviews: Reviews
) -> None:
    """The image may be among those that the newer model was trained on."""
    older = enter(cloud, 0, model=OLDER)
    reviews.decide(older, "blue", "ann")
    assert reviews.enter(replace(older, model=review().model, sampled=0.01))
    assert reviews.claim("cars", "ann", 1) == []
    assert [one.model for one in reviews.of_image(older.key)] == [OLDER]
    assert reviews.sample("cars", review().model) == []


def test_an_image_that_is_gone_or_replaced_needs_no_review(cloud: Cloud, reviews: Reviews) -> None:
    gone, replaced, there = enter(cloud, 0), enter(cloud, 1), enter(cloud, 2)
    cloud.s3.delete_object(Bucket=cloud.bucket.name, Key=gone.key)
    cloud.put(replaced.key, b"another image")
    assert reviews.claim("cars", "ann", 5) == [there]
    assert reviews.of_image(gone.key) == reviews.of_image(replaced.key) == []


def test_a_decision_stands_where_the_image_is_gone(cloud: Cloud, reviews: Reviews) -> None:
    entered = enter(cloud, 0)
    cloud.s3.delete_object(Bucket=cloud.bucket.name, Key=entered.key, VersionId=entered.version)
    decided = reviews.decide(entered, "blue", "ann")
    assert reviews.decisions("cars").reviews == [decided]
    assert cloud.keys("corrections/") == []


def test_history_comes_in_pages_newest_first(cloud: Cloud, reviews: Reviews) -> None:
    for number in range(5):
        entered = enter(cloud, number)
        cloud.clock.turn(1)
        reviews.decide(entered, "red", "ann")
    first = reviews.decisions("cars", limit=2)
    second = reviews.decisions("cars", after=first.after, limit=2)
    last = reviews.decisions("cars", after=second.after, limit=2)
    keys = [one.key for page in (first, second, last) for one in page.reviews]
    assert keys == [f"input/cars/{number}.jpg" for number in (4, 3, 2, 1, 0)]
    assert last.after is None
    for wrong in ("nonsense", "[1]", '{"image": 1}', str(first.after).replace("cars/d", "birds/d")):
        with pytest.raises(ValueError, match=r"page|Expecting value"):
            reviews.decisions("cars", after=wrong)


def test_the_sample_of_a_model_is_what_was_drawn_decided_or_not(
    cloud: Cloud, reviews: Reviews
) -> None:
    enter(cloud, 0)
    enter(cloud, 1, sampled=0.01, reason=Reason.UNFAMILIAR, predicted="green")
    decided = enter(cloud, 2, sampled=0.5)
    enter(cloud, 3, sampled=0.01, model=OLDER)
    reviews.decide(decided, "blue", "ann")
    found = sorted(reviews.sample("cars", review().model), key=lambda one: one.sampled)
    assert found == [
        sampled_review(reason=Reason.UNFAMILIAR, predicted="green"),
        sampled_review(sampled=0.5, label="blue"),
    ]
