"""The documents' tables, of results files, the template and commands."""

import json
from collections.abc import Mapping
from typing import Any

from benchmarks.backbones.table import markdown as backbones_table
from benchmarks.classify.table import markdown as classify_table
from benchmarks.console import table as console_tables
from benchmarks.inference.table import markdown as inference_table
from benchmarks.packing import join_memory
from benchmarks.packing.__main__ import arithmetic, memory_table
from benchmarks.packing.__main__ import table as packing_table
from benchmarks.review.table import markdown as review_table
from benchmarks.review.table import worst as review_worst
from benchmarks.serving.table import markdown as serving_table
from benchmarks.training.table import comparison as comparison_table
from benchmarks.training.table import growth as growth_table
from benchmarks.training.table import markdown as probe_table
from droplens_cli import cost
from tools import tried
from tools.docs.markdown import markdown
from tools.docs.sources import RESULTS, ROOT
from tools.docs.trust_tables import trust_tables


def tables(facts: Mapping[str, Any]) -> dict[str, str]:
    """Every table by its name. facts: the result of `sources.everything`."""
    results, template = facts["results"], facts["template"]
    records = json.loads((ROOT / "docs" / "tried.json").read_text("utf-8"))
    return {
        "packing": packing_table(results.packing),
        "packing_growth": join_memory.table(results.join_memory),
        "packing_memory": memory_table(results.packing["memory"]),
        "packing_arithmetic": arithmetic(results.packing),
        "classify": classify_table(results.classify).strip(),
        "console_review": console_tables.review(results.console["review"]).strip(),
        "console_gallery": console_tables.gallery(results.console["gallery"]).strip(),
        "review": review_table(results.review["sets"]).strip(),
        "review_worst": review_worst(results.review["judged"]),
        "serving": serving_table(results.serving).strip(),
        "inference": inference_table(results.inference).strip(),
        "backbones": backbones_table(results.backbones).strip(),
        "probe": probe_table(results.training["probe"]).strip(),
        "growth": growth_table(results.growth).strip(),
        "comparison": comparison_table(results.training["comparison"]).strip(),
        "cost": cost.table(cost.Usage(), cost.Prices()),
        "cost_demo": cost.demo_table(cost.Prices()),
        "cost_sums": cost_sums(),
        "tried": tried.table(records).strip(),
        "tried_zh": tried.table(records, "zh").strip(),
        **trust_tables(results.trust),
        "measured_when": measured_when(),
        "parameters": parameters(template.document),
    }


def cost_sums() -> str:
    """The sums of `make cost`, without their lines."""
    rows = cost.table(cost.Usage(), cost.Prices()).splitlines()
    heads = [row.split("|") for row in rows if row.startswith(("| |", "|--", "| **"))]
    return "\n".join("|".join(cells[:2] + cells[3:]) for cells in heads)


def measured_when() -> str:
    """Command, date, commit and machine of each results file."""
    rows = []
    for file in sorted(RESULTS.glob("*.json")):
        results = json.loads(file.read_text("utf-8"))
        parts = {
            "": results,
            "memory": results.get("memory_measured"),
            "probe": results.get("probe"),
            "comparison": results.get("comparison"),
        }
        for part, its in parts.items():
            if not its:
                continue
            link = f"[{file.name}](../benchmarks/results/{file.name})"
            machine = its["machine"]
            rows.append(
                [
                    f"{link}, `{part}`" if part else link,
                    f"`{its['command']}`",
                    its["measured_at"][:10],
                    _commit(its),
                    f"{machine['cores']} cores" if isinstance(machine, dict) else machine,
                ]
            )
    return markdown(["file", "command", "measured", "commit", "machine"], rows)


def _commit(origin: Mapping[str, Any]) -> str:
    commit, stored = str(origin["commit"]), origin.get("stored_in")
    if commit != "unknown":
        return f"`{commit[:7]}`" + (" and changes" if commit.endswith("-dirty") else "")
    return f"unknown, stored in `{stored[:7]}`" if stored else "unknown"


def parameters(template: Mapping[str, Any]) -> str:
    """Every parameter of the template by groups: default, allowed values, description."""
    described = template["Parameters"]
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    lines = []
    for group in groups:
        rows = []
        for name in group["Parameters"]:
            one = described[name]
            default = one["Default"]
            text = " ".join(one["Description"].split()).replace("|", "\\|")
            rows.append(
                [f"`{name}`", f"`{default}`" if default != "" else "empty", _allowed(one), text]
            )
        lines += [f"## {group['Label']['default']}", ""]
        lines += [markdown(["parameter", "default", "allowed", "what it decides"], rows), ""]
    return "\n".join(lines).strip()


def _allowed(parameter: Mapping[str, Any]) -> str:
    if "AllowedValues" in parameter:
        return ", ".join(f"`{value}`" for value in parameter["AllowedValues"])
    if "MinValue" in parameter:
        return f"{parameter['MinValue']:,} to {parameter['MaxValue']:,}"
    return str(parameter.get("ConstraintDescription", "any"))
