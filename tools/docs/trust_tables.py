"""The tables of docs/trust.md, of what bench-trust measured."""

from collections.abc import Callable, Mapping
from typing import Any

from tools.docs.markdown import markdown

_MAPS = {
    "none": "the endpoint's own",
    "ours": "**ours**",
    "temperature": "temperature",
    "beta": "beta",
    "isotonic": "isotonic",
}
_PARTS = {"half": "fitted on half", "all": "on all"}
_RANKINGS = {
    "ours": "**ours**",
    "self_confidence": "`find_label_issues`",
    "quality_score": "`get_label_quality_scores`",
}
_CHANGES = {"random": "any other", "look_alikes": "the most confused"}

Results = Mapping[str, Any]


def trust_tables(results: Results) -> dict[str, str]:
    """Every table by its name."""
    return {
        "maps": maps(results),
        "coverage": coverage(results),
        "candidates": candidates(results),
        "foreign": foreign(results),
        "unseen": unseen(results),
        "suspects": suspects(results),
        "goals": goals(results),
    }


def maps(results: Results) -> str:
    """Calibration errors of ours and of its peers, on each set of pictures."""
    rows = []
    for key in next(iter(results["sets"].values()))["maps"]:
        name, _, part = key.partition("_")
        row = [_MAPS[name] + (f", {_PARTS[part]}" if part else "")]
        for found in results["sets"].values():
            one = found["maps"][key]
            row += [f"{one['ece']:.3f}", f"{one['rms_debiased']:.3f}", f"{one['brier']:.3f}"]
        rows.append(row)
    head = ["map"]
    for name, found in results["sets"].items():
        head += [f"{_title(name, found)}: ECE", "debiased RMS", "Brier"]
    return markdown(head, rows)


def coverage(results: Results) -> str:
    """The share of confident predictions, and how many of those were correct."""

    def cells(found: Results) -> list[str]:
        its = found["coverage_at_95_precision"]
        return [
            f"{its['mean']:.1%}",
            f"{its['least']:.1%} to {its['most']:.1%}",
            f"{its['reached']:.1%}",
            f"{its['missed']} of {found['repeats']}",
        ]

    head = ["confident, mean", "by split", "of those, correct"]
    return _by_set(results, [*head, "splits with fewer than 95 % correct"], cells)


def candidates(results: Results) -> str:
    """Coverage and size of the label sets."""

    def cells(found: Results) -> list[str]:
        its = found["candidates"]
        sizes = {int(size): count for size, count in its["sizes"].items()}
        return [
            f"{its['coverage']['mean']:.1%}",
            f"{its['coverage']['least']:.1%} to {its['coverage']['most']:.1%}",
            f"{its['mean_size']['mean']:.2f}",
            f"{sizes.get(1, 0) / sum(sizes.values()):.0%}",
            f"{max(sizes)}",
        ]

    head = ["hold the right class", "by split", "classes, mean", "single class"]
    return _by_set(results, [*head, "most classes"], cells)


def foreign(results: Results) -> str:
    """What each model makes of pictures of another kind."""
    rows = [
        [
            _title(name, found),
            f"{its['pictures']} {other}",
            f"{its['auroc']['mean']:.4f}",
            f"{its['auroc_of_probability']['mean']:.3f}",
            f"{its['confident']['mean']:.1%}",
            f"{its['confident_by_probability']['mean']:.1%}",
        ]
        for name, found in results["sets"].items()
        for other, its in found["foreign"].items()
    ]
    head = ["model of", "asked about", "AUROC of the novelty", "of the best probability"]
    return _spaced(markdown([*head, "called confident", "by the probability alone"], rows))


def unseen(results: Results) -> str:
    """What a model of half of the classes makes of the other half."""

    def cells(found: Results) -> list[str]:
        its = found["unseen_classes"]
        return [
            f"{its['auroc']['mean']:.3f}",
            f"{its['auroc_of_novelty']['mean']:.3f}",
            f"{its['confident']['mean']:.1%}",
            f"{its['own_confident']['mean']:.1%}",
            f"{found['own_unfamiliar_share']['mean']:.1%}",
        ]

    head = ["AUROC of the probability", "of the novelty", "called confident"]
    head += ["its own, called confident", "its own, called unfamiliar"]
    return _by_set(results, head, cells)


def suspects(results: Results) -> str:
    """Which of the changed labels are found, beside cleanlab."""
    rows = []
    for name, found in results["sets"].items():
        for change, its in found["suspects"].items():
            for ranking, title in _RANKINGS.items():
                one = its["rankings"][ranking]
                first = one["precision_at_50"]
                rows.append(
                    [
                        _title(name, found),
                        f"{its['changed']} of {its['of']} to {_CHANGES[change]} class",
                        title,
                        f"{first['mean']:.2f}" if first else "",
                        f"{one['precision_at_changed']['mean']:.2f}",
                        f"{one['found'][-1]:.2f}",
                    ]
                )
    head = ["pictures", "labels changed", "ranking", "of the first 50", "of as many as changed"]
    return markdown([*head, "found among twice as many"], rows)


def goals(results: Results) -> str:
    """Each goal, its value, and whether it is reached."""
    rows = [
        [
            f"`{goal['figure']}`",
            f"{'at least' if goal['least'] else 'at most'} {goal['limit']:g}",
            "" if goal["value"] is None else f"{goal['value']:.4f}",
            {True: "yes", False: "**no**", None: "not measured"}[goal["reached"]],
        ]
        for goal in results["goals"]
    ]
    return markdown(["figure", "goal", "measured", "reached"], rows)


def _by_set(results: Results, head: list[str], cells: Callable[[Results], list[str]]) -> str:
    """A row for each set of pictures: its title and the `cells` of what was found."""
    rows = [[_title(name, found), *cells(found)] for name, found in results["sets"].items()]
    return _spaced(markdown(["pictures", *head], rows))


def _title(name: str, found: Results) -> str:
    kind = "digits" if name == "digits" else "car models"
    return f"{found['classes']} {kind}"


def _spaced(table: str) -> str:
    """With a space before every percent sign, as everywhere in the documents."""
    return table.replace("%", " %").replace("  %", " %")
