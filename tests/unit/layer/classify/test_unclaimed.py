"""A run that goes live says which folders of pictures name no classifier."""

from droplens.aws.events import ModelSwitched
from droplens.classify.unclaimed import Unclaimed, unclaimed_folders
from droplens.domain.run import RunKey
from droplens.state.cards import Cards
from tests.support.aws_account import Cloud
from tests.support.builders import RUN, card, go_live
from tests.support.promotion import retirement


def test_folders_that_name_no_classifier_are_found_and_those_in_the_making_are_not(
    cloud: Cloud, cards: Cards
) -> None:
    go_live(cards, card())
    cloud.runs().open(RunKey("birds", RUN.run_id), {"version": "v"})
    for name in ("a.jpg", "cars/a.jpg", "birds/a.jpg", "carz/a.jpg", "carz/b.jpg", "My Dog/a.jpg"):
        cloud.put(f"input/{name}", b"x")
    found = unclaimed_folders(cards, cloud.runs().any_of)
    assert found == [Unclaimed("My Dog", None), Unclaimed("carz", "cars")]
    assert unclaimed_folders(cards, cloud.runs().any_of, most=1) == found[:1]


def test_the_item_of_the_run_that_goes_live_names_them(cloud: Cloud, cards: Cards) -> None:
    cloud.runs().open(RUN, {"version": "v"})
    live = go_live(cards, card())
    cloud.put("input/Cars/a.jpg", b"x")
    switched = ModelSwitched(
        classifier="cars", run_id=RUN.run_id, generation=live.generation, reclassify="none"
    )
    retirement(cloud).follow_up(switched, cloud.invocation())
    run = cloud.runs().get(RUN)
    assert run is not None
    assert run.record["unclaimed"] == [{"folder": "Cars", "likely": "cars"}]
    assert cloud.queued() == []
