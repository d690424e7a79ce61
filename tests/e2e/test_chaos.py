"""Repeated events, killed workers, a failing endpoint: every picture has one right answer."""

from pathlib import Path

from benchmarks.classify.chaos import ROUGH, chaos
from benchmarks.classify.cloud import deployed

PICTURES = 80


def test_every_picture_has_one_right_answer_whatever_happens(
    built_once: dict[str, str], tmp_path: Path
) -> None:
    with deployed(tmp_path, **ROUGH, **built_once) as cloud:
        report = chaos(cloud, PICTURES, patience=300)

    found = {
        kind: report[kind]
        for kind in ("lost", "doubled", "wrong", "untold", "unfounded", "dead_letters")
    }
    assert found == dict.fromkeys(found, 0)
    assert report["events"] >= PICTURES
    assert report["workers_killed"] > 0
    assert report["endpoints_killed"] > 0
