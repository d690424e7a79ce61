"""What a model is unsure of enters the review queue once, after its result, whatever crashes."""

import threading
from typing import Any

import pytest

from droplens.aws.events import ObjectCreated
from droplens.classify.classify import Classification
from droplens.domain.card import Novelty
from droplens.domain.review import Reason, Review, draw
from droplens.state.cards import Cards
from droplens.state.reviews import Reviews
from tests.support.aws_account import Cloud
from tests.support.aws_fakes import FakeRuntime
from tests.support.builders import RUN, card, go_live, redness
from tests.support.classification import KEY, RED, classification, dropped
from tests.support.crashes import crash_in

RESULT = "results/cars/a+b %41 車.jpg.json"
NEWER = "20261124-120000-bbbbbb"
OWN = Novelty(limit=3.96, share=0.01, quantiles=tuple(n / 25 for n in range(101)))


def tools(
    cloud: Cloud, share: float = 0.0, runtime: FakeRuntime | None = None, **more: Any
) -> Classification:
    return classification(
        cloud, runtime, enter_review=cloud.reviews().enter, spot_check_share=share, **more
    )


def entered(cloud: Cloud) -> list[Review]:
    return cloud.reviews().of_image(KEY)


@pytest.fixture
def unsure(cloud: Cloud, cards: Cards) -> Cloud:
    """An account whose model is sure of nothing."""
    go_live(cards, card(confident_from=0.999))
    return cloud


@pytest.fixture
def sure(cloud: Cloud, cards: Cards) -> Cloud:
    go_live(cards, card(confident_from=0.5))
    return cloud


def test_an_unsure_prediction_is_entered_as_its_result_has_it(unsure: Cloud) -> None:
    event = dropped(unsure)
    tools(unsure).classify(event)
    [review] = entered(unsure)
    result = unsure.json(review.result)
    assert review.result == RESULT
    assert (review.classifier, review.version, review.model) == (
        "cars",
        event.version_id,
        RUN.run_id,
    )
    assert (review.predicted, review.probability) == (
        result["prediction"]["label"],
        result["prediction"]["probability"],
    )
    assert (review.reason, review.sampled) == (Reason.UNSURE, None)
    assert unsure.reviews().claim("cars", "ann", 1) == [review]


def test_a_confident_prediction_is_not(sure: Cloud) -> None:
    tools(sure).classify(dropped(sure))
    assert entered(sure) == []


def test_a_spot_check_is_entered_by_the_digest_of_its_version(sure: Cloud) -> None:
    event = dropped(sure)
    chance = draw(KEY, str(event.version_id))
    tools(sure, chance).classify(event)
    assert entered(sure) == []
    tools(sure, chance + 1e-9).classify(event)
    [review] = entered(sure)
    assert (review.reason, review.sampled) == (Reason.SPOT_CHECK, chance + 1e-9)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_an_unfamiliar_picture_says_so_in_either_version_of_results(
    cloud: Cloud, cards: Cards, version: str
) -> None:
    go_live(cards, card(novelty=OWN, confident_from=0.5))
    runtime = FakeRuntime(lambda body: {"probabilities": redness(body), "novelty": 9})
    tools(cloud, runtime=runtime, result_schema=version).classify(dropped(cloud))
    assert [review.reason for review in entered(cloud)] == [Reason.UNFAMILIAR]


def test_a_rejected_picture_has_nothing_to_review(unsure: Cloud) -> None:
    tools(unsure, 1.0).classify(dropped(unsure, b"no picture"))
    assert unsure.json(RESULT)["status"] == "rejected"
    assert entered(unsure) == []


def test_repeats_at_the_same_time_enter_it_once(unsure: Cloud) -> None:
    event = dropped(unsure)
    threads = [threading.Thread(target=tools(unsure).classify, args=(event,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entered(unsure)) == 1


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_between_result_and_review_is_made_up_for_by_the_repeat(
    unsure: Cloud, after: bool
) -> None:
    event = dropped(unsure)
    with crash_in(Reviews, "enter", after=after):
        tools(unsure).classify(event)
    assert unsure.versions(RESULT) == 1
    assert len(entered(unsure)) == int(after)
    detail = tools(unsure).classify(event)
    assert detail is not None
    assert detail["prediction"]["confident"] is False
    assert unsure.versions(RESULT) == 1
    assert len(entered(unsure)) == 1


def test_a_decided_review_is_not_entered_again(unsure: Cloud) -> None:
    event = dropped(unsure)
    tools(unsure).classify(event)
    [review] = entered(unsure)
    decided = unsure.reviews().decide(review, "blue", "ann")
    tools(unsure).classify(event)
    assert entered(unsure) == [decided]


def test_each_version_and_each_model_has_its_own(unsure: Cloud, cards: Cards) -> None:
    first = dropped(unsure)
    tools(unsure).classify(first)
    second = dropped(unsure)
    tools(unsure).classify(second)
    go_live(cards, card(NEWER, confident_from=0.999))
    tools(unsure).classify(second)
    assert {(one.version, one.model) for one in entered(unsure)} == {
        (first.version_id, RUN.run_id),
        (second.version_id, RUN.run_id),
        (second.version_id, NEWER),
    }


def test_a_result_that_a_newer_one_keeps_out_enters_nothing(unsure: Cloud, cards: Cards) -> None:
    """The model that was replaced meanwhile answers late."""
    event = dropped(unsure)
    late = tools(unsure)
    late.cards.live("cars")
    go_live(cards, card(NEWER, confident_from=0.999))
    tools(unsure).classify(event)
    late.classify(event)
    assert [one.model for one in entered(unsure)] == [NEWER]


def test_without_a_queue_nothing_is_entered(unsure: Cloud) -> None:
    event: ObjectCreated = dropped(unsure, RED)
    classification(unsure).classify(event)
    assert entered(unsure) == []
