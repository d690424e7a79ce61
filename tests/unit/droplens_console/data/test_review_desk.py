"""A reviewer's pages get images that nobody else has, and decisions are kept before they return."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from droplens.domain.review import NONE
from droplens.state.reviews import LEASE, AlreadyDecided, Reviews
from droplens_console.data.review_desk import (
    Item,
    ReviewDesk,
    UnknownClass,
    UnknownReview,
    reviewer_name,
)
from tests.support.builders import RUN
from tests.support.deployed_stack import Deployed, deployed  # noqa: F401  a fixture
from tests.support.reviewing import (
    CLASSES,
    corrections,
    reviews_of,
    waiting,
    with_versions,
)

NAMES = [f"{number}.jpg" for number in range(8)]
Desk = Callable[..., ReviewDesk]


@pytest.fixture
def stack(deployed: Deployed) -> Deployed:  # noqa: F811
    stack = with_versions(deployed)
    waiting(stack, *NAMES)
    return stack


@pytest.fixture
def desk(stack: Deployed) -> Desk:
    def made(reviewer: str = "ada") -> ReviewDesk:
        return ReviewDesk(stack.bucket, lambda: reviews_of(stack), reviewer)

    return made


def names(items: list[Item]) -> list[str]:
    return [item.review.key.rpartition("/")[2] for item in items]


def test_images_come_in_the_queue_s_order_with_the_most_probable_classes(desk: Desk) -> None:
    items = desk().claim("page", "cars", 3)
    assert names(items) == NAMES[:3]
    assert [one.label for one in items[0].candidates] == list(CLASSES[:5])
    assert items[0].candidates[0].probability == 0.4


def test_a_page_gets_none_twice_and_no_other_page_or_person_gets_them(desk: Desk) -> None:
    ada, bob = desk("ada"), desk("bob")
    first = names(ada.claim("one", "cars", 2))
    second = names(ada.claim("one", "cars", 2))
    other_page = names(ada.claim("two", "cars", 2))
    other_person = names(bob.claim("three", "cars", 8))
    assert first + second + other_page + other_person == NAMES


def test_a_closed_page_s_images_are_for_the_next_page(desk: Desk) -> None:
    ada, bob = desk("ada"), desk("bob")
    had = names(ada.claim("one", "cars", 3))
    ada.leave("one")
    assert names(bob.claim("b", "cars", 8)) == NAMES[3:]
    assert names(ada.claim("two", "cars", 3)) == had


def test_a_page_that_is_closed_while_it_claims_leaves_its_images_to_the_next(
    stack: Deployed,
) -> None:
    def closed_meanwhile() -> Reviews:
        ada.leave("one")
        return reviews_of(stack)

    ada = ReviewDesk(stack.bucket, closed_meanwhile, "ada")
    assert names(ada.claim("one", "cars", 3)) == NAMES[:3]
    assert names(ada.claim("two", "cars", 3)) == NAMES[:3]


def test_a_page_that_has_ended_without_notice_holds_nothing_for_ever(stack: Deployed) -> None:
    now = [datetime.now(UTC)]
    ada = ReviewDesk(stack.bucket, lambda: reviews_of(stack), "ada", clock=lambda: now[0])
    ada.claim("one", "cars", 8)
    assert ada.claim("two", "cars", 8) == []
    now[0] += LEASE + timedelta(seconds=1)
    assert names(ada.claim("two", "cars", 8)) == NAMES


def test_a_decision_is_kept_with_who_when_and_what_the_model_said(
    desk: Desk, stack: Deployed
) -> None:
    ada = desk()
    items = ada.claim("page", "cars", 3)
    before = datetime.now(UTC)
    for item, label in zip(items, ("bmw", CLASSES[5], NONE), strict=True):
        ada.decide("page", item.name, label)
    assert corrections(stack) == {"0.jpg": "bmw", "1.jpg": CLASSES[5], "2.jpg": NONE}
    kept = desk("bob").decisions("cars").reviews
    assert [one.label for one in kept] == [NONE, CLASSES[5], "bmw"]
    assert {(one.reviewer, one.model, one.predicted) for one in kept} == {
        ("ada", RUN.run_id, CLASSES[0])
    }
    assert all(one.decided is not None and one.decided >= before for one in kept)
    assert sum(desk().waiting("cars").values()) == len(NAMES) - 3
    assert names(ada.claim("page", "cars", 1)) == ["3.jpg"]


def test_what_is_no_class_is_refused(desk: Desk, stack: Deployed) -> None:
    ada = desk()
    [item] = ada.claim("page", "cars", 1)
    with pytest.raises(UnknownClass, match="trabant"):
        ada.decide("page", item.name, "trabant")
    with pytest.raises(UnknownReview):
        ada.decide("page", "a guess", "bmw")
    assert corrections(stack) == {}


def test_an_undone_decision_leaves_no_correction_and_the_page_has_its_image(
    desk: Desk, stack: Deployed
) -> None:
    ada = desk()
    [item] = ada.claim("page", "cars", 1)
    ada.decide("page", item.name, "bmw")
    ada.undo("page", item.name)
    assert corrections(stack) == {}
    assert desk("bob").claim("other", "cars", 8)[0].review.key.endswith("1.jpg")
    assert ada.claim("second", "cars", 8) == []
    ada.decide("page", item.name, "fiat")
    assert corrections(stack) == {"0.jpg": "fiat"}


def test_a_skipped_image_goes_to_the_end_and_to_others(desk: Desk) -> None:
    ada = desk()
    [item] = ada.claim("page", "cars", 1)
    ada.skip("page", item.name)
    assert names(desk("bob").claim("other", "cars", 1)) == ["0.jpg"]
    assert names(ada.claim("page", "cars", 8)) == NAMES[1:]


def test_a_decision_after_the_lease_finds_another_s(stack: Deployed) -> None:
    """A page that slept: the image was given to somebody else, who has decided it."""
    table = reviews_of(stack)
    ada = ReviewDesk(stack.bucket, lambda: reviews_of(stack), "ada")
    [item] = ada.claim("page", "cars", 1)
    table.decide(item.review, "fiat", "bob")
    with pytest.raises(AlreadyDecided, match="bob"):
        ada.decide("page", item.name, "bmw")
    assert corrections(stack) == {"0.jpg": "fiat"}


def test_reviewers_at_once_do_none_twice(desk: Desk, stack: Deployed) -> None:
    """Each has two images when the next one claims, and decides one before it claims again."""
    desks = {name: desk(name) for name in ("ada", "bob", "eve")}
    held: dict[str, list[Item]] = {name: [] for name in desks}
    done: list[str] = []
    while len(done) < len(NAMES):
        for name, mine in desks.items():
            held[name] += mine.claim(f"page of {name}", "cars", 2 - len(held[name]))
            assert len({one for items in held.values() for one in names(items)}) == sum(
                map(len, held.values())
            )
        for name, mine in desks.items():
            if held[name]:
                item = held[name].pop(0)
                mine.decide(f"page of {name}", item.name, "bmw")
                done += names([item])
    assert sorted(done) == NAMES
    assert corrections(stack) == dict.fromkeys(NAMES, "bmw")


def test_without_its_result_an_image_has_the_predicted_class(desk: Desk, stack: Deployed) -> None:
    stack.put("results/cars/0.jpg.json", b"{}")
    stack.s3.delete_object(Bucket=stack.bucket.name, Key="results/cars/1.jpg.json")
    for item in desk().claim("page", "cars", 2):
        assert [(one.label, one.probability) for one in item.candidates] == [(CLASSES[0], 0.4)]


def test_the_reviewer_is_who_the_setting_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROPLENS_REVIEWER", "ada\nlovelace")
    assert "\n" not in reviewer_name()
    monkeypatch.delenv("DROPLENS_REVIEWER")
    monkeypatch.setenv("LOGNAME", "grace")
    assert reviewer_name() == "grace"
