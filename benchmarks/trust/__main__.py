"""How far a measured model can be trusted on pictures that it never saw, its own and others.

    make bench-trust            REPEATS=2 for a quick look

A fifth of every class is set aside as the exam, which nothing sees. On the rest all happens as in a
run: a fifth is validation, the recipe `probe` learns from what remains, and the evaluation makes
the model card. Then the exam is answered as results do it, and so are pictures of other kinds. A
model of half of the classes is asked about the other half. Last, labels of training pictures are
changed, and training has to find them. That is done over and over with other splits: an exam of a
few hundred pictures shows an error of some points of pure chance.
"""

import argparse
from typing import Any

from benchmarks.harness import keep, provenance, versions
from benchmarks.trust.curves import draw
from benchmarks.trust.goals import goals, headline
from benchmarks.trust.pictures import sets_and_foreign
from benchmarks.trust.repeat import repeat
from benchmarks.trust.summary import summary
from benchmarks.trust.table import show
from benchmarks.trust.wrong_labels import of_cleanlab

REPEATS = {"cars24": 15, "cars196": 3, "digits": 3}
# Of the repeats, those in which labels are changed.
SEARCHES = 3
PACKAGES = ("numpy", "onnxruntime", "pillow", "scipy")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, help="of each set of pictures")
    arguments = parser.parse_args()
    measured = provenance()
    sets: dict[str, Any] = {}
    for pictures in sets_and_foreign():
        repeats = arguments.repeats or REPEATS[pictures.name]
        print(
            f"\n{pictures.name}: {len(pictures.labels)} pictures, {len(pictures.classes)} classes"
        )
        found = []
        for seed in range(repeats):
            found.append(repeat(pictures, seed, of_cleanlab if seed < SEARCHES else None))
            right = found[-1].right.mean()
            print(f"  split {seed + 1} of {repeats}: {right:.1%} right", flush=True)
        sets[pictures.name] = summary(pictures, found)
        show(sets[pictures.name])
    reached = list(goals(sets))
    print("\ngoals, of all sets the worst:")
    for goal in reached:
        limit = f"{'at least' if goal.least else 'at most'} {goal.limit:g}"
        value = "not measured" if goal.value is None else f"{goal.value:.4f}"
        verdict = {True: "reached", False: "MISSED", None: ""}[goal.reached]
        print(f"  {goal.figure:38} {limit:15} {value:>12} {verdict}")
    result = {
        **measured,
        "versions": versions(*PACKAGES),
        **headline(sets),
        "goals": [
            {
                "figure": goal.figure,
                "limit": goal.limit,
                "least": goal.least,
                "value": goal.value,
                "reached": goal.reached,
            }
            for goal in reached
        ],
        "sets": sets,
    }
    keep("trust", result)
    draw(result)


if __name__ == "__main__":
    main()
