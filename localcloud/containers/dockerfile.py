"""Parses the subset of the Dockerfile language that can be executed without Docker."""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from localcloud.settings import LocalCloudError

KEYWORDS = ("FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT", "CMD", "ARG", "LABEL")
PROGRAM = "/opt/program"
"""The only folder of an image that exists locally; everything is copied into it."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. `words` is its arguments split as its form requires (JSON or shell words);
    `text` the arguments as written, lines joined; `line` where it starts, from 1."""

    keyword: str
    text: str
    words: tuple[str, ...]
    line: int


def parse(path: Path) -> list[Instruction]:
    """Raises LocalCloudError naming file and line for whatever has no local meaning."""
    instructions: list[Instruction] = []
    pending: list[str] = []
    arguments: dict[str, str] = {}
    start = 0
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        start = start if pending else number
        pending.append(line.removesuffix("\\").strip())
        if not line.endswith("\\"):
            step = _instruction(path, " ".join(pending), start, arguments)
            instructions.append(step)
            if step.keyword == "ARG":
                arguments |= argument(step)
            pending = []
    if pending:
        raise LocalCloudError(f"{path}:{start}: the last line ends with a backslash")
    if next((step.keyword for step in instructions if step.keyword != "ARG"), "") != "FROM":
        raise LocalCloudError(f"{path}:1: an image starts with FROM")
    return instructions


def _instruction(path: Path, text: str, line: int, arguments: dict[str, str]) -> Instruction:
    keyword, _, rest = text.partition(" ")
    keyword, rest = keyword.upper(), rest.strip()

    def refuse(reason: str) -> LocalCloudError:
        return LocalCloudError(f"{path}:{line}: {keyword} {rest}: {reason}")

    if keyword not in KEYWORDS:
        raise refuse(f"only {', '.join(KEYWORDS)} can be carried out without Docker")
    if not rest:
        raise refuse("has no arguments")
    words = _words(rest, refuse)
    if keyword == "FROM":
        image = expand(words[0], arguments).partition("@")[0]
        repository = image.rsplit("/", 1)[-1].partition(":")[0]
        if repository != "python" or len(words) != 1:
            raise refuse("without Docker an image starts from one plain python image")
    if keyword in ("ENTRYPOINT", "CMD") and not rest.startswith("["):
        raise refuse('write it in the JSON form, ["python", "-m", …]')
    if keyword == "WORKDIR" and not is_inside_program(rest):
        raise refuse(f"only {PROGRAM} and folders in it exist without Docker")
    if keyword == "COPY":
        words = tuple(word for word in words if not word.startswith("--chown="))
        flags = [word for word in words if word.startswith("--")]
        if flags or len(words) < 2:
            raise refuse("give sources and one destination, and no flag but --chown")
        destination = words[-1]
        if destination.startswith("/") and not is_inside_program(destination):
            raise refuse(f"only {PROGRAM} and folders in it exist without Docker")
    return Instruction(keyword, rest, words, line)


def _words(rest: str, refuse: Callable[[str], LocalCloudError]) -> tuple[str, ...]:
    if rest.startswith("["):
        try:
            words = json.loads(rest)
        except ValueError as error:
            raise refuse(f"is not a JSON list ({error})") from error
        if not all(isinstance(word, str) for word in words):
            raise refuse("holds something other than text")
        return tuple(words)
    try:
        return tuple(shlex.split(rest))
    except ValueError as error:
        raise refuse(str(error)) from error


def argument(instruction: Instruction) -> dict[str, str]:
    """The names that one ARG declares, each with its default; "" where it has none."""
    pairs = [word.partition("=") for word in instruction.words]
    return {name: default for name, _, default in pairs}


def is_inside_program(path: str) -> bool:
    """Whether a path in the image is one that exists locally."""
    clean = path.rstrip("/")
    return ".." not in clean.split("/") and (clean == PROGRAM or clean.startswith(PROGRAM + "/"))


def environment_assignments(instruction: Instruction) -> list[tuple[str, str]]:
    """ENV's pairs, from `ENV A=1 B=2` as well as the old `ENV A 1`."""
    if "=" not in instruction.words[0]:
        return [(instruction.words[0], " ".join(instruction.words[1:]))]
    pairs = [word.partition("=") for word in instruction.words]
    return [(name, value) for name, _, value in pairs]


def expand(value: str, environment: dict[str, str]) -> str:
    """`$NAME` and `${NAME}` as Docker replaces them in ENV and WORKDIR; unknown ones are empty."""
    return re.sub(
        r"\$(?:\{(\w+)\}|(\w+))", lambda hit: environment.get(hit[1] or hit[2], ""), value
    )
