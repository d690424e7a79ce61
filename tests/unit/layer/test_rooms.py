"""Which room may import which: from the functions towards what is pure, never back."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.repository import ROOT

LAYER = ROOT / "layers" / "droplens" / "droplens"
# A room imports rooms of earlier rows only, and its own.
ORDER = (
    {"imaging", "statistics", "inference"},
    {"domain", "records"},
    {"runtime"},
    {"aws"},
    {"state", "prediction"},
    {"evaluation", "classify"},
    {"report"},
    {"journey"},
)
PURE = {"imaging", "inference", "statistics", "domain", "records"}
VERSION = "droplens.__version__"
# What an image or a pure test need not install.
OF_AWS = {"boto3", "botocore", "aws_lambda_powertools", "aws_xray_sdk"}


def imports(file: Path) -> set[str]:
    """The modules that a file imports when it is loaded or run; those for types alone too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms() -> dict[str, list[Path]]:
    return {
        folder.name: sorted(folder.rglob("*.py"))
        for folder in LAYER.iterdir()
        if (folder / "__init__.py").is_file()
    }


def test_every_room_has_its_place_in_the_order() -> None:
    assert set(rooms()) == set().union(*ORDER)


def test_at_most_five_modules_stand_outside_of_rooms() -> None:
    assert len(list(LAYER.glob("*.py"))) <= 5


@pytest.mark.parametrize("row", range(len(ORDER)))
def test_a_room_imports_only_from_the_rows_before_it(row: int) -> None:
    before = set().union(*ORDER[:row])
    against = [
        f"{file.relative_to(LAYER)} imports {name}"
        for room in ORDER[row]
        for file in rooms()[room]
        for name in imports(file)
        if name.startswith("droplens.") and name != VERSION
        if name.split(".")[1] not in before | {room}
    ]
    assert not against


@pytest.mark.parametrize("room", sorted(PURE))
def test_pure_rooms_import_no_aws_client(room: str) -> None:
    against = [
        f"{file.relative_to(LAYER)} imports {name}"
        for file in rooms()[room]
        for name in imports(file)
        if name.split(".")[0] in OF_AWS
    ]
    assert not against


@pytest.mark.parametrize("package", ["batch_prep", "trainer"])
def test_the_containers_import_pure_rooms_only(package: str) -> None:
    against = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sorted((ROOT / package).rglob("*.py"))
        for name in imports(file)
        if name.startswith("droplens.") and name.split(".")[1] not in PURE
    ]
    assert not against


def test_nothing_but_the_handlers_is_above_the_layer() -> None:
    others = {"functions", "batch_prep", "trainer", "localcloud", "tools", "demo", "benchmarks"}
    against = [
        f"{file.relative_to(LAYER)} imports {name}"
        for file in sorted(LAYER.rglob("*.py"))
        for name in imports(file)
        if name.split(".")[0] in others
    ]
    assert not against


def test_the_answers_to_a_newcomer_s_questions_are_files() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    table = text[text.index("## Where is it decided?") :].split("\n\n", 2)[1]
    answers = re.findall(r"\| `([^`]+)` \|", table)
    assert len(answers) >= 10
    assert not [answer for answer in answers if not (ROOT / answer).is_file()]
