"""Whatever a stranger drops ends in a result: the model's answer, or a code of the closed list."""

from collections import Counter

import pytest

from droplens.imaging import sandbox
from droplens.imaging.prepare import CODES, ImageError, Preprocessing, prepare
from droplens.state.cards import Cards
from tests.support import hostile_images
from tests.support.aws_account import Cloud
from tests.support.builders import RUN, SIDE, card, go_live
from tests.support.classification import classification, dropped
from tests.support.photos import heic

MUTANTS = 120  # of each sound picture
SOUND = {**hostile_images.sound(), "heic": heic("corners")}
PREPROCESSING = Preprocessing(SIDE, SIDE)


def verdict(data: bytes) -> str:
    """The code of the refusal, or "picture". Anything else that is raised is a fault of ours."""
    try:
        jpeg, _ = prepare(data, PREPROCESSING)
    except ImageError as problem:
        return problem.code
    assert jpeg.startswith(b"\xff\xd8\xff")
    return "picture"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    ("name", "data"), [pytest.param(*x, id=x[0]) for x in hostile_images.certainly_hostile()]
)
def test_what_is_no_picture_is_refused_with_a_code(name: str, data: bytes) -> None:
    assert verdict(data) in CODES, name


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow's words on damaged EXIF
@pytest.mark.parametrize("name", SOUND)
def test_a_mutated_picture_is_a_picture_or_has_a_code(name: str) -> None:
    verdicts = Counter(verdict(data) for data in hostile_images.mutants(SOUND[name], MUTANTS))
    assert verdicts.total() == MUTANTS
    assert verdicts.keys() <= CODES | {"picture"}
    assert verdicts.keys() & CODES, "no mutant was hostile"


@pytest.mark.parametrize(
    ("name", "data"), [pytest.param(*x, id=x[0]) for x in hostile_images.polyglots()]
)
def test_what_follows_a_picture_is_not_looked_at(name: str, data: bytes) -> None:
    assert verdict(data) == "picture", name


def test_a_picture_that_came_back_is_answered_alike_in_a_process_of_its_own(
    cloud: Cloud, cards: Cards
) -> None:
    go_live(cards, card())
    classify = classification(cloud).classify
    sandbox.stop()
    beside = classify(dropped(cloud, SOUND["jpeg"], key="input/cars/beside.jpg"))
    assert sandbox.worker_pid() is None
    alone = classify(dropped(cloud, SOUND["jpeg"], key="input/cars/alone.jpg"), isolated=True)
    assert sandbox.worker_pid() is not None
    assert beside is not None
    assert alone is not None
    assert alone["prediction"] == beside["prediction"]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_every_hostile_file_has_a_result(cloud: Cloud, cards: Cards) -> None:
    go_live(cards, card())
    classify = classification(cloud).classify
    hostile = dict(hostile_images.certainly_hostile())
    for name, data in hostile.items():
        sent = classify(dropped(cloud, data, key=f"input/cars/{name}.jpg"))
        assert sent is not None
        assert sent["error"]["code"] in CODES, name

    stored = cloud.results()
    assert len(stored) == len(hostile)
    assert {one["status"] for one in stored} == {"rejected"}
    assert {one["model"]["run_id"] for one in stored} == {RUN.run_id}
