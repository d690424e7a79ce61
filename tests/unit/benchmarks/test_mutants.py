"""The faults that are tried are real ones, and what is called equivalent is still there."""

import subprocess
import sys
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


@pytest.mark.parametrize(
    ("source", "functions"),
    [
        ("x = 1", {None}),
        ("def f(x=1):\n    return x + 2", {None, 1}),
        ("def f(x): return x + 2", {None}),
        ("class A:\n    b = 1\n\n    @property\n    def c(self):\n        return 2", {None, 4}),
        ("def f():\n    def g():\n        return 1\n    return g", {1}),
    ],
)
def test_a_fault_belongs_to_the_outermost_function_whose_body_has_it(
    source: str, functions: set[int | None]
) -> None:
    assert {mutant.function for mutant in mutants(source)} == functions


SOURCE = """\
import functools

FIRST = 5


def half(x):
    return x / 2


@functools.cache
def cached(x):
    return x - 1


class Counter:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1


def at_import():
    return 7


SEVEN = at_import()
"""
TESTS = """\
import module
from module import Counter, cached, half


def test_other():
    assert module.FIRST == 5


def test_half():
    assert half(4) == 2


def test_cached():
    assert cached(3) == 2


def test_counter():
    counter = Counter()
    counter.add()
    assert counter.count > 0
"""
SCRIPT = """\
import sys, time
from pathlib import Path
from benchmarks.mutants.operators import mutants
from benchmarks.mutants.session import Tests

folder = Path(sys.argv[1])
found = mutants((folder / "module.py").read_text())
tests = Tests.collected(Path.cwd(), folder, "module.py", ["test_module.py"], found)
for number in tests.try_here:
    tests.try_mutant(number)
left = set(tests.try_here)
while left:
    for number, killed in tests.outcomes():
        left.remove(number)
        print(found[number].line, found[number].after, killed, sep="|")
    time.sleep(0.01)
tests.close()
"""


def test_faults_are_tried_in_forks_of_the_process_that_holds_the_tests(
    tmp_path: Path, repo_root: Path
) -> None:
    (tmp_path / "module.py").write_text(SOURCE, "utf-8")
    (tmp_path / "test_module.py").write_text(TESTS, "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=repo_root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Neither FIRST nor the body of at_import is tried here: both run while tests are imported.
    assert set(done.stdout.splitlines()) == {
        "7|(x * 2)|True",
        "7|3|True",
        "7|1|True",
        "12|(x + 1)|True",
        "12|2|True",
        "12|0|True",
        "17|1|False",
        "20|self.count -= 1|True",
        "20|2|False",
        "20|0|True",
    }


def test_a_module_whose_tests_fail_without_a_fault_is_not_tried(
    tmp_path: Path, repo_root: Path
) -> None:
    (tmp_path / "module.py").write_text(SOURCE, "utf-8")
    (tmp_path / "test_module.py").write_text("def test(): assert False", "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=repo_root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "tests fail without any mutant: test_module.py" in done.stderr


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
        for test in module.slow:
            file, name = test.split("::")
            assert file in module.tests
            assert f"def {name}(" in (repo_root / file).read_text("utf-8")


def test_what_is_called_equivalent_is_a_mutant_of_today(repo_root: Path) -> None:
    named = {name for name, *_ in equivalents()}
    found = set()
    for module in modules():
        if module.name in named:
            text = (repo_root / module.file).read_text("utf-8")
            lines = text.splitlines()
            found |= {
                (module.name, lines[mutant.line - 1].strip(), mutant.before, mutant.after)
                for mutant in mutants(text)
            }
    assert set(equivalents()) - found == set()
    assert all(len(reason) > 10 for reason in equivalents().values())
