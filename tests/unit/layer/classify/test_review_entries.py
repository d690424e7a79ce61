"""Reviews are entered beside other calls, and no failure among them is lost."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from droplens.classify.review_entries import ReviewEntries
from droplens.domain.review import Review
from droplens.state.cards import Cards
from tests.support.aws_account import Cloud
from tests.support.builders import card, go_live
from tests.support.classification import classification, dropped

KEYS = [f"input/cars/{number}.jpg" for number in range(4)]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def unsure(cloud: Cloud, cards: Cards) -> Cloud:
    go_live(cards, card(confident_from=0.999))
    return cloud


def classify(cloud: Cloud, entries: ReviewEntries) -> None:
    tools = classification(cloud, enter_review=entries.start)
    for key in KEYS:
        tools.classify(dropped(cloud, key=key))


def test_all_are_entered_once_their_failures_were_asked_for(
    unsure: Cloud, threads: ThreadPoolExecutor
) -> None:
    entries = ReviewEntries(unsure.reviews().enter, threads)
    classify(unsure, entries)
    assert entries.failed() == set()
    assert [len(unsure.reviews().of_image(key)) for key in KEYS] == [1, 1, 1, 1]


def test_a_failure_is_told_once_and_stops_no_other(
    unsure: Cloud, threads: ThreadPoolExecutor
) -> None:
    reviews = unsure.reviews()

    def enter(review: Review) -> None:
        if review.key == KEYS[1]:
            raise ConnectionError("the table was not reached")
        reviews.enter(review)

    entries = ReviewEntries(enter, threads)
    classify(unsure, entries)
    assert entries.failed() == {KEYS[1]}
    assert entries.failed() == set()
    assert [len(reviews.of_image(key)) for key in KEYS] == [1, 0, 1, 1]
