"""cleanlab's answer to which labels are wrong.

    python find_label_issues.py INPUT.npz OUTPUT.json

Runs in an environment with cleanlab. INPUT: labels [records] and probabilities [records, classes],
each record predicted by a model that has not learnt from it. OUTPUT: by way of ranking, the numbers
of the records that `find_label_issues` reports, the most suspicious first.
"""

import json
import sys
from pathlib import Path

import numpy as np
from cleanlab.filter import find_label_issues

RANKINGS = ("self_confidence", "normalized_margin")


def main(source: str, target: str) -> None:
    """Ask once for each ranking; everything else is the library's default."""
    given = np.load(source)
    found = {
        ranking: find_label_issues(
            given["labels"],
            given["probabilities"],
            return_indices_ranked_by=ranking,
            n_jobs=1,
        ).tolist()
        for ranking in RANKINGS
    }
    Path(target).write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
