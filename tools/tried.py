"""Records when which command last succeeded: docs/tried.json, and its table in both READMEs.

    python -m tools.tried KIND WORDS          # KIND succeeded today, with this outcome
    python -m tools.tried KIND --junit FILE   # the outcome is what pytest wrote there

The commands of the table call it after they succeed, if RECORD=1 is set. It needs the standard
library only.
"""

import argparse
import json
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "docs" / "tried.json"
# By language; `make docs` renders the same tables.
READMES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh-CN.md"}
BEGIN, END = "<!-- tried: begin -->\n", "<!-- tried: end -->\n"
# kind: the environment, and the command that fills in the row.
ROWS = {
    "tests": ("one machine, every check, and every test but the longest", "make test RECORD=1"),
    "journey": ("one machine, the journey", "make demo RECORD=1"),
    "containers": ("the real containers, by Docker or Podman", "make containers RECORD=1"),
    "account": ("an AWS account", "make demo ACCOUNT=1 RECORD=1"),
    "gpu": ("a GPU", "make bench-training RECORD=1"),
}
_HEAD = {
    "en": ("where", "last tried", "outcome", "command"),
    "zh": ("环境", "最近一次验证", "结果", "命令"),
}
_NEVER = {"en": "**never**", "zh": "**从未**"}
_IN_CHINESE = {
    "tests": "单机上除最长几个以外的全部检查和测试",
    "journey": "单机上的完整流程",
    "containers": "Docker 或 Podman 中的真实容器",
    "account": "AWS 账号",
    "gpu": "GPU",
}


def table(records: dict[str, Any], language: str = "en") -> str:
    """A README's table, with "never" for a kind without a record."""
    lines = [f"| {' | '.join(_HEAD[language])} |", "|---|---|---|---|"]
    for kind, (english, command) in ROWS.items():
        where = english if language == "en" else _IN_CHINESE[kind]
        record = records.get(kind)
        when = f"{record['date']}, commit {record['commit']}" if record else _NEVER[language]
        lines.append(f"| {where} | {when} | {record['outcome'] if record else ''} | `{command}` |")
    return "\n".join(lines) + "\n"


def with_table(page: str, records: dict[str, Any], language: str = "en") -> str:
    """The page with the table in its place."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + table(records, language) + END + rest.split(END)[1]


def outcome_of(junit: Path) -> str:
    """How many tests passed and were skipped. Raises SystemExit where none passed or one failed:
    a run in which all were skipped has tried nothing."""
    counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for suite in ET.parse(junit).getroot().iter("testsuite"):  # noqa: S314  pytest's own
        for name in counts:
            counts[name] += int(suite.get(name, 0))
    failed = counts["failures"] + counts["errors"]
    passed = counts["tests"] - failed - counts["skipped"]
    if failed or passed <= 0:
        raise SystemExit(f"not recorded: {passed} tests passed, {failed} failed")
    return f"{passed:,} tests passed, {counts['skipped']:,} skipped"


def record(kind: str, outcome: str) -> None:
    """Record the outcome with today's date and the commit that is checked out."""
    head = ["git", "rev-parse", "--short=7", "HEAD"]
    commit = subprocess.check_output(head, cwd=ROOT, text=True).strip()
    changed = ["git", "status", "--porcelain", "--untracked-files=no"]
    names = subprocess.check_output(changed, cwd=ROOT, text=True).splitlines()
    # Files that an earlier record has changed are not code.
    if any(not re.search(r"(README(\.zh-CN)?\.md|docs/tried\.json)$", name) for name in names):
        commit += " and changes"
    records = json.loads(RECORDS.read_text("utf-8")) if RECORDS.is_file() else {}
    records[kind] = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit,
        "outcome": outcome,
    }
    RECORDS.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n", "utf-8")
    for language, page in READMES.items():
        page.write_text(with_table(page.read_text("utf-8"), records, language), "utf-8")
    print(f"recorded in {RECORDS.relative_to(ROOT)} and the READMEs: {kind}, {outcome}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and record."""
    parser = argparse.ArgumentParser(prog="python -m tools.tried", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("kind", choices=ROWS)
    parser.add_argument("words", nargs="?")
    parser.add_argument("--junit", type=Path)
    options = parser.parse_args(arguments)
    if bool(options.words) == bool(options.junit):
        parser.error("either words or --junit")
    record(options.kind, options.words or outcome_of(options.junit))


if __name__ == "__main__":
    main()
