"""cleanlab's answer to which labels are wrong.

    python find_label_issues.py INPUT.npz OUTPUT.json

Runs in an environment with cleanlab. INPUT: for each of several cases, numbered from 0,
labels_0 [records] and probabilities_0 [records, classes], each record predicted by a model that has
not learnt from it. OUTPUT: for each case, by way of ranking, numbers of records, the most
suspicious first: those that `find_label_issues` reports, in two orders, and all of them in the
order of the label quality score.
"""

import json
import sys
from pathlib import Path

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray

ORDERS = ("self_confidence", "normalized_margin")


def _rankings(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> dict[str, list[int]]:
    reported = {
        order: find_label_issues(
            labels, probabilities, return_indices_ranked_by=order, n_jobs=1
        ).tolist()
        for order in ORDERS
    }
    return {
        **reported,
        "quality_score": np.argsort(get_label_quality_scores(labels, probabilities)).tolist(),
    }


def main(source: str, target: str) -> None:
    """Ask for every case; what is not given is the library's default."""
    given = np.load(source)
    found = [
        _rankings(given[f"labels_{case}"], given[f"probabilities_{case}"])
        for case in range(len(given) // 2)
    ]
    Path(target).write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
