"""The figures of a set of pictures on the terminal."""

from collections.abc import Mapping
from typing import Any

Summary = Mapping[str, Any]


def show(found: Summary) -> None:
    """Print the summary of one set."""
    _maps(found["maps"])
    coverage, candidates = found["coverage_at_95_precision"], found["candidates"]
    print(
        f"  confident by 95 %: {_share(coverage)} of the exam, {coverage['reached']:.1%} of them "
        f"right; fewer than 95 % in {coverage['missed']} splits, none in {coverage['without']}"
    )
    print(
        f"  label sets hold the class of {_share(candidates['coverage'])}, with "
        f"{candidates['mean_size']['mean']:.2f} classes on average"
    )
    print(f"  own pictures called unfamiliar: {_share(found['own_unfamiliar_share'])}")
    for name, other in found["foreign"].items():
        print(
            f"  {other['pictures']} {name}: AUROC {other['auroc']['mean']:.4f} (best probability "
            f"{other['auroc_of_probability']['mean']:.4f}), confident {_share(other['confident'])} "
            f"(by probability alone {_share(other['confident_by_probability'])})"
        )
    unseen = found["unseen_classes"]
    print(
        f"  the other half of the classes: AUROC {unseen['auroc']['mean']:.4f} (novelty "
        f"{unseen['auroc_of_novelty']['mean']:.4f}), confident {_share(unseen['confident'])}, "
        f"own {_share(unseen['own_confident'])}"
    )
    for change, its in found["suspects"].items():
        print(f"  {its['changed']} of {its['of']} labels changed ({change}):")
        for name, ranking in its["rankings"].items():
            first = ranking["precision_at_50"]
            print(
                f"    {name:28} of the first 50 {_share(first) if first else '-':>16}, of as many "
                f"as were changed {_share(ranking['precision_at_changed']):>16}, "
                f"{ranking['flagged']['mean']:.0f} ranked"
            )


def _maps(maps: Mapping[str, Any]) -> None:
    print(
        f"  {'map':16} {'ECE':>7} {'by chance':>10} {'debiased':>9} {'one exam':>16} {'Brier':>7}"
    )
    for name, each in maps.items():
        one = f"{each['ece_of_one_exam']['mean']:.3f} ± {each['ece_of_one_exam']['sd']:.3f}"
        print(
            f"  {name:16} {each['ece']:7.4f} {each['ece_noise_floor']:10.4f} "
            f"{each['rms_debiased']:9.4f} {one:>16} {each['brier']:7.4f}"
        )


def _share(spread: Mapping[str, float]) -> str:
    return f"{spread['mean']:.1%} ± {spread['sd']:.1%}"
