"""Suspicious labels: the least probable first, none that is the most probable class itself."""

import numpy as np
import pytest

from trainer.recipes import suspects
from trainer.recipes.ridge_head import fit_head
from trainer.recipes.suspects import Suspect, find_suspects


def test_suspects_are_ranked_by_the_probability_of_their_label() -> None:
    probabilities = np.array(
        [[0.25, 0.75], [0.125, 0.875], [0.0625, 0.9375], [0.5, 0.5]], np.float32
    )
    found = find_suspects(np.array([3, 5, 8, 9]), np.array([0, 0, 1, 0]), probabilities)
    assert found == [Suspect(5, 0, 1, 0.125, 0.875), Suspect(3, 0, 1, 0.25, 0.75)]


def test_equally_suspicious_records_stay_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "MAX_SUSPECTS", 3)
    probabilities = np.tile(np.array([[0.25, 0.75]], np.float32), (5, 1))
    found = find_suspects(np.arange(5), np.zeros(5, np.int64), probabilities)
    assert [each.record for each in found] == [0, 1, 2]


def test_without_records_there_are_no_suspects() -> None:
    none = np.empty(0, np.int64)
    assert find_suspects(none, none, np.empty((0, 3), np.float32)) == []


def test_labels_that_were_changed_are_found() -> None:
    rng = np.random.default_rng(0)
    truths = np.repeat(np.arange(4), 25)
    x = (rng.standard_normal((4, 60))[truths] + rng.standard_normal((100, 60))).astype(np.float32)
    labels = truths.copy()
    changed = rng.choice(100, 8, replace=False)
    labels[changed] = (truths[changed] + 1) % 4
    fit = fit_head(x.copy(), labels, 4, seed=0)
    records = fit.left_out.records
    found = find_suspects(records, labels[records], fit.head.of_scores(fit.left_out.scores))
    first = found[:8]
    assert {each.record for each in first} == set(changed.tolist())
    assert [each.likely for each in first] == [truths[each.record] for each in first]
