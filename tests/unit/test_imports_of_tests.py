"""What tests share lies in tests/support: no test needs another one's module."""

import ast
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# The fuzzer is a program of its own, which make fuzz starts and a unit test is about.
SHARED = ("tests/support/", "tests/fuzz/")


def imported(path: Path, root: Path) -> Iterator[str]:
    """The files below tests/ that the file imports, by their path from the repository's top."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: an import that begins with a dot"
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [f"{node.module}"]
        for name in names:
            module = Path(*name.split(".")).with_suffix(".py")
            if name.startswith("tests.") and (root / module).is_file():
                yield module.as_posix()


def test_no_test_imports_a_test_or_what_another_folder_keeps_for_itself(repo_root: Path) -> None:
    looked_at, found = 0, []
    for path in sorted((repo_root / "tests").rglob("*.py")):
        own = path.relative_to(repo_root)
        for module in imported(path, repo_root):
            looked_at += 1
            name, folder = PurePosixPath(module).name, PurePosixPath(module).parent
            shared = module.startswith(SHARED) or folder in PurePosixPath(own).parents
            if name.startswith(("test_", "conftest")) or not shared:
                found.append(f"{own} imports {module}")
    assert looked_at > 100
    assert found == []


def test_nothing_but_tests_imports_tests(repo_root: Path) -> None:
    others = ("batch_prep", "benchmarks", "demo", "functions", "layers", "localcloud", "tools")
    assert [
        f"{path.relative_to(repo_root)} imports {module}"
        for folder in (*others, "trainer")
        for path in sorted((repo_root / folder).rglob("*.py"))
        for module in imported(path, repo_root)
    ] == []
