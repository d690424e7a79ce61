"""Which model answers is one object, changed by one write that knows what it replaces."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.domain import layout
from droplens.domain.card import CardError
from droplens.domain.errors import RetryLater
from droplens.domain.rollback_target import to_go_back_to, way_back_after
from droplens.state.cards import CachedCards, Cards, is_past
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
        self.tries = 0

    def write_json(self, *_: Any, **__: Any) -> bool:
        self.tries += 1
        return False


def test_a_card_that_keeps_changing_is_left_to_a_retry(cards: Cards) -> None:
    bucket: Any = ChangingBucket(cards)
    with pytest.raises(RetryLater, match="keeps changing") as left:
        Cards(bucket).make_live(card(RUNS[0]))
    assert (left.value.code, bucket.tries) == ("promotion.contended", 5)


def test_the_live_card_counts_the_switches_and_keeps_the_newest_run(cards: Cards) -> None:
    made = [cards.make_live(card(run)) for run in RUNS[:3]]
    made.append(cards.roll_back(card(RUNS[0]), leaving=RUNS[2]))
    assert [live.generation for live in made] == [1, 2, 3, 4]
    assert [live.newest for live in made] == [RUNS[0], RUNS[1], RUNS[2], RUNS[2]]
    assert [live.replaces for live in made] == [None, RUNS[0], RUNS[1], RUNS[2]]
    # Neither the one that was left nor one between comes back by a repeated event.
    assert cards.make_live(card(RUNS[2])) == cards.make_live(card(RUNS[1])) == made[3]
    assert cards.make_live(card(RUNS[3])).generation == 5


def test_the_newest_run_is_also_known_where_an_earlier_version_wrote_the_live_card(
    cloud: Cloud, cards: Cards
) -> None:
    cloud.put(layout.live_card_key("cars"), card(RUNS[1]).to_json())
    assert cards.make_live(card(RUNS[2])).newest == RUNS[2]
    cloud.put(layout.live_card_key("cars"), card(RUNS[3]).to_json())
    assert cards.roll_back(card(RUNS[1]), leaving=RUNS[3]).newest == RUNS[3]


def test_a_rollback_that_another_switch_has_overtaken_changes_nothing(cards: Cards) -> None:
    cards.make_live(card(RUNS[0]))
    newer = cards.make_live(card(RUNS[2]))
    assert cards.roll_back(card(RUNS[0]), leaving=RUNS[1]) == newer
    assert cards.live("cars") == newer


@pytest.mark.parametrize(
    ("run", "live", "newest", "past"),
    [
        (RUNS[1], RUNS[0], "", False),
        (RUNS[1], RUNS[1], "", True),
        (RUNS[0], RUNS[1], "", True),
        (RUNS[1], RUNS[0], RUNS[0], False),
        (RUNS[1], RUNS[0], RUNS[1], True),
        (RUNS[1], RUNS[0], RUNS[2], True),
    ],
)
def test_a_run_has_had_its_turn_once_it_or_a_newer_one_was_live(
    run: str, live: str, newest: str, past: bool
) -> None:
    assert is_past(card(run), card(live, newest=newest)) is past
    assert not is_past(card(run), None)


def test_every_live_card_is_found_and_no_other_object(cloud: Cloud, cards: Cards) -> None:
    go_live(cards, card(RUNS[0], "birds"))
    go_live(cards, card(RUNS[1], "cars"))
    cards.keep(card(RUNS[2], "fish"))
    cards.make_default_if_first("cars")
    assert [live.classifier for live in cards.all_live()] == ["birds", "cars"]


def test_classifiers_are_known_by_what_was_packed_or_measured(cloud: Cloud, cards: Cards) -> None:
    for key in ("packed/birds/r/dataset.json", "models/cars/r/card.json", "models/default.json"):
        cloud.put(key)
    cloud.put("packed/My Photos/r/dataset.json")
    cloud.put("input/fish/a.jpg")
    assert cards.classifiers() == {"birds", "cars"}


class Clock:
    """Seconds that pass only as it is told."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("droplens.state.cards.time", clock)
    return clock


def test_a_card_is_believed_for_five_seconds_and_five_more_each_time_that_it_is_the_same(
    cards: Cards, clock: Clock
) -> None:
    cached = CachedCards(cards)
    first = go_live(cards, card(RUNS[0]))
    assert cached.live("cars") == first
    clock.now = 105.0
    assert cached.live("cars") == first  # asked again, and still the same
    second = go_live(cards, card(RUNS[1]))
    clock.now = 109.9
    assert cached.live("cars") == first
    clock.now = 110.0
    assert cached.live("cars") == second


def test_a_card_that_is_asked_for_afresh_is_believed_from_then_on(
    cards: Cards, clock: Clock
) -> None:
    cached = CachedCards(cards, seconds=5)
    go_live(cards, card(RUNS[0]))
    cached.live("cars")
    clock.now = 104.0
    second = go_live(cards, card(RUNS[1]))
    assert cached.live("cars", fresh=True) == second
    go_live(cards, card(RUNS[2]))
    clock.now = 108.9
    assert cached.live("cars") == second


def test_the_default_is_believed_for_five_seconds_and_the_names_for_a_minute(
    cloud: Cloud, cards: Cards, clock: Clock
) -> None:
    cached = CachedCards(cards)
    cards.make_default_if_first("cars")
    cloud.put("packed/cars/r/dataset.json")
    assert (cached.default_classifier(), cached.classifiers()) == ("cars", {"cars"})
    cloud.put(layout.DEFAULT_CLASSIFIER_KEY, b'{"classifier": "birds"}')
    cloud.put("packed/birds/r/dataset.json")
    clock.now = 104.9
    assert cached.default_classifier() == "cars"
    clock.now = 105.0
    assert cached.default_classifier() == "birds"
    clock.now = 159.9
    assert cached.classifiers() == {"cars"}
    clock.now = 160.0
    assert cached.classifiers() == {"birds", "cars"}


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
