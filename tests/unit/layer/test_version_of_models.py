"""Whoever finds a model finds the version of Droplens that measured it."""

from droplens import __version__
from droplens.domain import layout
from droplens.state.cards import Cards
from tests.support.aws_account import Cloud
from tests.support.builders import RUN, pack
from tests.support.promotion import in_service, promote


def test_card_and_evaluation_name_the_version(cloud: Cloud, cards: Cards) -> None:
    in_service(cloud, RUN)
    pack(cloud)
    promote(cloud)
    live = cards.live("cars")
    assert live is not None
    assert live.droplens_version == __version__
    evaluation = cloud.json(layout.evaluation_key(RUN.classifier, RUN.run_id))
    assert evaluation["droplens_version"] == __version__
