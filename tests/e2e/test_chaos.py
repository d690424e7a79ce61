"""Repeated events, killed workers, a failing model: every picture has one right answer."""

from pathlib import Path

import pytest

from benchmarks.classify.chaos import ROUGH, chaos
from benchmarks.classify.cloud import deployed

PICTURES = 80


# One of both is enough for make test: a stack of its own takes a minute.
@pytest.mark.parametrize(
    "inside",
    [False, pytest.param(True, marks=pytest.mark.long)],
    ids=["endpoints", "EndpointMode=lambda"],
)
def test_every_picture_has_one_right_answer_whatever_happens(
    built_once: dict[str, str], tmp_path: Path, inside: bool
) -> None:
    with deployed(tmp_path, **ROUGH, **built_once) as cloud:
        report = chaos(cloud, PICTURES, patience=300, inside=inside)

    found = {
        kind: report[kind]
        for kind in ("lost", "doubled", "wrong", "untold", "unfounded", "dead_letters")
    }
    assert found == dict.fromkeys(found, 0)
    assert report["events"] >= PICTURES
    assert report["workers_killed"] > 0
    assert inside or report["endpoints_killed"] > 0
