"""Which model answers is one object, changed by one write that knows what it replaces."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens import layout
from droplens.card import CardError
from droplens.cards import CachedCards, Cards
from droplens.errors import RetryLater
from droplens.journey.way_back import to_go_back_to, way_back_after
from tests.support.aws_account import Cloud
from tests.support.builders import card, go_live

RUNS = [f"2026112{day}-120000-1a2b3c" for day in range(1, 9)]


def test_there_is_no_model_at_first(cards: Cards) -> None:
    assert cards.live("cars") is None
    assert cards.of_run("cars", RUNS[0]) is None
    assert cards.default_classifier() is None


def test_the_first_model_replaces_none(cards: Cards) -> None:
    assert cards.make_live(card(RUNS[0])).replaces is None
    live = cards.live("cars")
    assert live is not None
    assert live.run_id == RUNS[0]


def test_a_newer_model_says_whom_it_replaces(cards: Cards) -> None:
    cards.make_live(card(RUNS[0]))
    live = cards.make_live(card(RUNS[1]))
    assert (live.run_id, live.replaces) == (RUNS[1], RUNS[0])
    assert cards.live("cars") == live


def test_an_older_model_never_replaces_a_newer_one(cloud: Cloud, cards: Cards) -> None:
    newer = cards.make_live(card(RUNS[1]))
    assert cards.make_live(card(RUNS[0])) == newer
    assert cards.live("cars") == newer
    assert cloud.versions(layout.live_card_key("cars")) == 1


def test_making_live_again_changes_nothing(cloud: Cloud, cards: Cards) -> None:
    cards.make_live(card(RUNS[0]))
    first = cards.make_live(card(RUNS[1]))
    assert cards.make_live(card(RUNS[1])) == first
    assert first.replaces == RUNS[0]
    assert cloud.versions(layout.live_card_key("cars")) == 2


def test_each_classifier_has_a_live_model_of_its_own(cards: Cards) -> None:
    cards.make_live(card(RUNS[1], "cars"))
    cards.make_live(card(RUNS[0], "birds"))
    birds = cards.live("birds")
    assert birds is not None
    assert birds.run_id == RUNS[0]


class ChangingBucket:
    """A bucket in which somebody else always writes first."""

    def __init__(self, cards: Cards) -> None:
        self.read = cards.bucket.read

    def write_json(self, *_: Any, **__: Any) -> bool:
        return False


def test_a_card_that_keeps_changing_is_left_to_a_retry(cards: Cards) -> None:
    bucket: Any = ChangingBucket(cards)
    with pytest.raises(RetryLater, match="keeps changing"):
        Cards(bucket).make_live(card(RUNS[0]))


def test_a_run_s_own_card_is_kept_as_it_was_first_measured(cards: Cards) -> None:
    cards.keep(card(RUNS[0], confident_from=0.5))
    cards.keep(card(RUNS[0], confident_from=0.9))
    kept = cards.of_run("cars", RUNS[0])
    assert kept is not None
    assert kept.confident_from == 0.5


def test_the_first_classifier_to_go_live_stays_the_default(cards: Cards) -> None:
    cards.make_default_if_first("cars")
    cards.make_default_if_first("birds")
    assert cards.default_classifier() == "cars"


def test_a_live_card_that_cannot_be_read_is_not_taken_for_none(cloud: Cloud, cards: Cards) -> None:
    cloud.put(layout.live_card_key("cars"), b"{}")
    with pytest.raises(CardError):
        cards.live("cars")


def test_a_card_is_remembered_and_its_absence_is_not(cards: Cards) -> None:
    cached = CachedCards(cards, seconds=3600)
    assert cached.live("cars") is None
    first = go_live(cards, card(RUNS[0]))
    assert cached.live("cars") == first
    second = go_live(cards, card(RUNS[1]))
    assert cached.live("cars") == first
    assert cached.live("cars", fresh=True) == second
    assert cached.live("cars") == second


def test_a_remembered_card_is_forgotten_after_its_time(cards: Cards) -> None:
    cached = CachedCards(cards, seconds=0)
    go_live(cards, card(RUNS[0]))
    assert cached.live("cars") is not None
    second = go_live(cards, card(RUNS[1]))
    assert cached.live("cars") == second


def test_a_card_that_is_still_the_same_is_not_fetched_again(cards: Cards) -> None:
    first = go_live(cards, card(RUNS[0]))
    cached = CachedCards(cards, seconds=0)
    kept = cached.live("cars")
    assert kept == first
    assert cached.live("cars") is kept


def test_the_default_classifier_is_remembered_but_not_its_absence(cards: Cards) -> None:
    cached = CachedCards(cards, seconds=3600)
    assert cached.default_classifier() is None
    cards.make_default_if_first("cars")
    assert cached.default_classifier() == "cars"
    cards.bucket.client.delete_object(Bucket=cards.bucket.name, Key=layout.DEFAULT_CLASSIFIER_KEY)
    assert cached.default_classifier() == "cars"


def test_a_withdrawn_card_is_forgotten(cloud: Cloud, cards: Cards) -> None:
    cached = CachedCards(cards, seconds=3600)
    go_live(cards, card(RUNS[0]))
    assert cached.live("cars") is not None
    cloud.s3.delete_object(Bucket=cards.bucket.name, Key=layout.live_card_key("cars"))
    assert cached.live("cars", fresh=True) is None
    assert cached.live("cars") is None


@given(st.lists(st.sampled_from(["promote", "back", *range(8)]), max_size=14))
def test_the_way_back_is_that_of_the_models_that_were_not_left(steps: list[Any]) -> None:
    """Against a history that is kept whole: what was left by a rollback is taken out of it."""
    live, replaces = RUNS[0], None
    way_back: tuple[str, ...] = ()
    history, newest = [RUNS[0]], 0
    for step in steps:
        if step == "promote":
            if newest == len(RUNS) - 1:
                continue
            newest += 1
            chosen = RUNS[newest]
        elif step == "back":
            chosen = to_go_back_to(live, way_back, replaces, RUNS) or live
            assert chosen == (history[-2] if len(history) > 1 else live)
        else:
            chosen = RUNS[min(step, newest)]
        if chosen == live:
            continue
        history = [run for run in history if run < chosen] + [chosen]
        way_back, replaces, live = way_back_after(chosen, live, way_back, replaces), live, chosen
        assert list(way_back) == history[-2::-1]
