"""The faults that are tried are real ones, and what is called equivalent is still there."""

from pathlib import Path

import pytest

from benchmarks.mutants.__main__ import Score, equivalents, modules
from benchmarks.mutants.operators import mutants


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("a < b", {("a < b", "(a <= b)")}),
        ("x = a + 1", {("a + 1", "(a - 1)"), ("1", "2"), ("1", "0")}),
        ("x = 'a' + b", set()),
        ("x = not a", {("not a", "(a)")}),
        ("x = a and b", {("a and b", "(a or b)")}),
        ("x = max(a, b)", {("max(a, b)", "(min(a, b))")}),
        ("x = True", {("True", "False")}),
        ("x = 0.5", {("0.5", "0.625")}),
        ("x -= y", {("x -= y", "x += y")}),
        ("save(x)", {("save(x)", "pass")}),
        ("if a:\n    b", {("a", "(not (a))")}),
        ("for a in b:\n    continue", {("continue", "break")}),
        ('"""A docstring."""', set()),
        ("assert a < b", set()),
        ("def f(a: 'int | None') -> None: ...", set()),
        ("x = f'{a < b}'", set()),
    ],
)
def test_each_operator_makes_its_fault(source: str, changes: set[tuple[str, str]]) -> None:
    found = mutants(source)
    assert {(mutant.before, mutant.after) for mutant in found} == changes
    for mutant in found:
        compile(mutant.source, "mutant", "exec")
        assert mutant.source != source


def test_a_fault_stands_at_its_place_also_behind_letters_of_several_bytes() -> None:
    (mutant,) = (found for found in mutants("ä = 'é'; x = a < b") if "<" in found.before)
    assert mutant.source == "ä = 'é'; x = (a <= b)"


def test_the_share_leaves_out_what_no_test_could_tell() -> None:
    assert Score(tried=10, killed=8, equivalent=2).killed_share == 1.0
    assert Score(tried=10, killed=4, equivalent=2).killed_share == 0.5
    assert Score().killed_share is None


def test_every_module_and_its_tests_are_there(repo_root: Path) -> None:
    for module in modules():
        assert (repo_root / module.file).is_file(), module
        assert module.tests
        for test in module.tests:
            assert (repo_root / test).is_file(), module


def test_what_is_called_equivalent_is_a_mutant_of_today(repo_root: Path) -> None:
    files = {module.name: repo_root / module.file for module in modules()}
    for (name, line, before, after), reason in equivalents().items():
        text = files[name].read_text("utf-8")
        lines = text.splitlines()
        found = {
            (lines[mutant.line - 1].strip(), mutant.before, mutant.after)
            for mutant in mutants(text)
        }
        assert (line, before, after) in found, f"{name}: {line}"
        assert len(reason) > 10
