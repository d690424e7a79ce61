"""Labels changed on purpose, and how many of them are found.

A ranking is a list of record numbers, the most suspicious first. Its precision is counted against
the changed labels alone: a label that was wrong before counts as a false alarm.
"""

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.trust.pictures import CLEANLAB_PYTHON
from trainer.recipes.ridge_head import Fit, fit_head
from trainer.recipes.suspects import find_suspects

CHANGED = 0.05
# Shares of as many labels as were changed.
CHECKED = tuple(step / 10 for step in range(1, 21))

Labels = NDArray[np.int64]
Rows = NDArray[np.float32]
# Labels, and the left-out probabilities that ours are ranked by.
Case = tuple[Labels, Rows]
# Of each case, the rankings of another library by name.
Peer = Callable[[Sequence[Case]], list[dict[str, list[int]]]]


def change_at_random(labels: Labels, classes: int, rng: np.random.Generator) -> Labels:
    """CHANGED of the labels become any other class."""
    changed = labels.copy()
    chosen = _chosen(labels, rng)
    changed[chosen] = (labels[chosen] + rng.integers(1, classes, len(chosen))) % classes
    return changed


def change_to_look_alikes(labels: Labels, look_alikes: Labels, rng: np.random.Generator) -> Labels:
    """CHANGED of the labels become the look-alike of their class, of `look_alikes` by class."""
    changed = labels.copy()
    chosen = _chosen(labels, rng)
    changed[chosen] = look_alikes[labels[chosen]]
    return changed


def most_confused(labels: Labels, probabilities: Rows) -> Labels:
    """For each class another one, which its records are most probable of on average.

    probabilities: [records, classes], of a model that learnt the right labels, without the record.
    """
    classes = probabilities.shape[1]
    confused = np.stack([probabilities[labels == label].mean(axis=0) for label in range(classes)])
    np.fill_diagonal(confused, -1.0)
    return confused.argmax(axis=1)


def _chosen(labels: Labels, rng: np.random.Generator) -> Labels:
    return rng.choice(len(labels), round(CHANGED * len(labels)), replace=False)


@dataclass(frozen=True, slots=True)
class Search:
    """Changed labels, and the rankings that shall find them.

    wrong: bool [records]; rankings: by name, of ours and of cleanlab.
    """

    wrong: NDArray[np.bool_]
    rankings: dict[str, list[int]]

    def precision(self, name: str, first: int) -> float:
        """Of the first `first` of a ranking, the share that was changed.

        A ranking that is shorter finds no more.
        """
        return float(self.wrong[self.rankings[name][:first]].sum() / first)

    def curve(self, name: str) -> list[float]:
        """The share of the changed labels that is found, after checking each of CHECKED."""
        wrong = int(self.wrong.sum())
        checked = [max(1, round(share * wrong)) for share in CHECKED]
        return [self.precision(name, first) * first / wrong for first in checked]


def search(
    fit: Fit, pictures: tuple[Rows, Labels], classes: int, seed: int, peer: Peer
) -> dict[str, Search]:
    """By the way of changing labels. pictures: features and right labels, which `fit` learnt."""
    features, labels = pictures
    rng = np.random.default_rng(seed)
    records, probabilities = _left_out(fit)
    look_alikes = most_confused(labels[records], probabilities)
    changes = {
        "random": change_at_random(labels, classes, rng),
        "look_alikes": change_to_look_alikes(labels, look_alikes, rng),
    }
    left_out = {
        name: _left_out(fit_head(features.copy(), given, classes, seed))
        for name, given in changes.items()
    }
    cases = [(changes[name][its], rows) for name, (its, rows) in left_out.items()]
    found = {}
    for (name, given), others in zip(changes.items(), peer(cases), strict=True):
        records, probabilities = left_out[name]
        ours = find_suspects(records, given[records], probabilities)
        theirs = {way: records[ranking].tolist() for way, ranking in others.items()}
        found[name] = Search(given != labels, {"ours": [each.record for each in ours], **theirs})
    return found


def _left_out(fit: Fit) -> tuple[Labels, Rows]:
    """The records that were left out, and their probabilities."""
    return fit.left_out.records, fit.head.of_scores(fit.left_out.scores)


def of_cleanlab(cases: Sequence[Case]) -> list[dict[str, list[int]]]:
    """cleanlab's rankings of each case, by their names."""
    script = Path(__file__).with_name("find_label_issues.py")
    with TemporaryDirectory() as work:
        source, target = Path(work, "given.npz"), Path(work, "found.json")
        arrays: dict[str, NDArray[Any]] = {}
        for number, (labels, left_out) in enumerate(cases):
            arrays |= {f"labels_{number}": labels, f"probabilities_{number}": left_out}
        np.savez(source, allow_pickle=False, **arrays)
        command = [str(CLEANLAB_PYTHON), str(script), str(source), str(target)]
        subprocess.run(command, check=True)
        found: list[dict[str, list[int]]] = json.loads(target.read_text("utf-8"))
    return found
