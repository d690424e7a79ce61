"""The report of a demo in an account, without identifying data.

The files can be attached to an issue: no account id, no ARN, no address, no name of a person.
"""

import json
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any

SCHEMA = "droplens.account-demo.v1"
_ARN = re.compile(r"arn:aws[a-z-]*:([a-z0-9-]*):[^\s\"'`,;)\]}>]*")
_ACCOUNT = re.compile(r"(?<![0-9A-Za-z])[0-9]{12}(?![0-9A-Za-z])")
# Access keys, and the unique ids of users and roles: all begin with A.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
_KEY = re.compile(r"\bA[A-Z]{3}[A-Z2-7]{12,}\b")
_EMAIL = re.compile(r"[^\s@<>\"']+@[^\s@<>\"']+\.[A-Za-z]{2,}")


class Outcome(StrEnum):
    """The outcome of a check. UNKNOWN: it could not be made; it does not count as kept."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """One check, its outcome, and what was observed or AWS's message."""

    what: str
    outcome: Outcome
    said: str


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure. note: how it was taken."""

    what: str
    value: float
    unit: str
    note: str = ""


@dataclass(slots=True)
class Record:
    """Everything that a demo in an account found out. steps: seconds and failure, by title.

    error: why it ended early, and what to do; left: what could not be removed.
    """

    began: datetime
    facts: dict[str, str] = field(default_factory=dict)
    steps: dict[str, tuple[float, bool]] = field(default_factory=dict)
    measures: list[Measure] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    error: str = ""
    hint: str = ""
    left: list[str] = field(default_factory=list)

    def check(self, what: str, kept: bool | None, said: str) -> None:
        """Note a check; kept None: it could not be made."""
        outcome = Outcome.UNKNOWN if kept is None else Outcome.PASSED if kept else Outcome.FAILED
        self.checks.append(Check(what, outcome, said))

    def measure(self, what: str, value: float, unit: str, note: str = "") -> None:
        """Note a figure."""
        self.measures.append(Measure(what, value, unit, note))

    def count(self, outcome: Outcome) -> int:
        """The number of checks with this outcome."""
        return sum(check.outcome is outcome for check in self.checks)


class Redaction:
    """Replaces names in a text. words: whole words, each with its replacement."""

    def __init__(self, words: Mapping[str, str]) -> None:
        # The longest first: a folder's name before the name in it.
        known = sorted((word for word in words if len(word) > 1), key=len, reverse=True)
        self._words = words
        self._known = (
            re.compile(rf"(?<!\w)({'|'.join(map(re.escape, known))})(?!\w)") if known else None
        )

    def __call__(self, text: str) -> str:
        """The text without ARNs, account ids, keys, addresses and the known words."""
        text = _ARN.sub(lambda found: f"<ARN of {found[1] or 'AWS'}>", text)
        text = _EMAIL.sub("<address>", text)
        if self._known:
            text = self._known.sub(lambda found: self._words[found[1]], text)
        return _KEY.sub("<key>", _ACCOUNT.sub("<account>", text))


def versions(root: Path, sam: str) -> dict[str, str]:
    """Versions of the software used. sam: the output of `sam --version`."""
    found = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "sam": sam,
        "boto3": metadata.version("boto3"),
    }
    head = root / ".git"
    if head.exists():
        found["commit"] = _commit(root)
    return found


def _commit(root: Path) -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def as_json(record: Record, redact: Redaction) -> dict[str, Any]:
    """The report for programs."""
    document = {
        "schema": SCHEMA,
        "began": f"{record.began:%Y-%m-%dT%H:%M:%SZ}",
        **record.facts,
        "steps": [
            {"step": title, "seconds": round(seconds, 1), "failed": failed}
            for title, (seconds, failed) in record.steps.items()
        ],
        "measures": [
            {"what": one.what, "value": one.value, "unit": one.unit, "note": one.note}
            for one in record.measures
        ],
        "checks": [
            {"what": one.what, "outcome": one.outcome.value, "said": one.said}
            for one in record.checks
        ],
        "error": record.error or None,
        "left": record.left,
    }
    cleaned: dict[str, Any] = _redacted(document, redact)
    return cleaned


def _redacted(value: Any, redact: Redaction) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(key): _redacted(inner, redact) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [_redacted(inner, redact) for inner in value]
    return value


def as_markdown(document: Mapping[str, Any]) -> str:
    """The same report for people."""
    facts = {
        name: value
        for name, value in document.items()
        if isinstance(value, str) and name not in ("schema", "began", "error")
    }
    lines = [
        f"# make demo ACCOUNT=1, {document['began']}",
        "",
        *_table(["", ""], [[name, value] for name, value in facts.items()]),
    ]
    if document["error"]:
        lines += ["## It ended early", "", "```", document["error"], "```", ""]
    counted = [check["outcome"] for check in document["checks"]]
    sums = ", ".join(f"{counted.count(one.value)} {one.value}" for one in Outcome)
    lines += [
        f"## Checks: {sums}",
        "",
        *_table(
            ["promise", "", "seen"],
            [[one["what"], one["outcome"], one["said"]] for one in document["checks"]],
        ),
        "## Steps",
        "",
        *_table(
            ["step", "seconds", ""],
            [
                [one["step"], f"{one['seconds']:.1f}", "failed" if one["failed"] else ""]
                for one in document["steps"]
            ],
        ),
        "## Measured",
        "",
        *_table(
            ["", "", "how"],
            [
                [one["what"], f"{one['value']:.6g} {one['unit']}", one["note"]]
                for one in document["measures"]
            ],
        ),
    ]
    if document["left"]:
        lines += ["## Left in the account", "", *(f"- {one}" for one in document["left"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    def line(cells: list[str]) -> str:
        escaped = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(escaped)} |"

    return [line(head), "|" + "---|" * len(head), *map(line, rows), ""]


def write(record: Record, redact: Redaction, folder: Path) -> Path:
    """Write both reports into the folder; returns the one for people."""
    folder.mkdir(parents=True, exist_ok=True)
    document = as_json(record, redact)
    stem = folder / f"report-{record.began:%Y-%m-%d-%H%M%S}"
    text = json.dumps(document, indent=1, ensure_ascii=False)
    stem.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    page = stem.with_suffix(".md")
    page.write_text(as_markdown(document), encoding="utf-8")
    return page
