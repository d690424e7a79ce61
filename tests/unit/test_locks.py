"""Every install is pinned and hashed: what was tested is what runs."""

import re
import subprocess

import pytest

from tests.support.repository import ROOT

LOCKS = sorted(
    source.relative_to(ROOT).with_suffix(".txt").as_posix()
    for depth in ("*/*.in", "*/*/*.in")
    for source in ROOT.glob(depth)
)
# A line of a shell or a Dockerfile, or of a program that puts pip's command together.
INSTALL = re.compile(
    r"\bpip3? (?:install|download|wheel)\b|[\"']-m[\"'], [\"']pip[\"'](?!, [\"']--version)"
)


def entries(lock: str) -> list[str]:
    """The requirements of a lock, each with its continuation lines joined."""
    text = (ROOT / lock).read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def unpinned(lines: list[str]) -> list[str]:
    """The entries without an exact version or without a hash."""
    whole = re.compile(r"^[A-Za-z0-9._-]+(\[[^\]]+\])?==[^\s;]+.*--hash=sha256:[0-9a-f]{64}")
    return [line.split()[0] for line in lines if not whole.match(line)]


def test_every_source_of_requirements_has_a_lock() -> None:
    assert len(LOCKS) >= 8
    assert all((ROOT / lock).is_file() for lock in LOCKS)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_an_exact_version_and_its_hashes(lock: str) -> None:
    found = entries(lock)
    assert found
    assert unpinned(found) == []


@pytest.mark.parametrize(
    "line",
    [
        "boto3",
        "boto3>=1.43",
        "boto3==1.43.106",
        "boto3 @ https://example.org/b.whl --hash=sha256:" + "0" * 64,
    ],
)
def test_a_loose_requirement_is_found(line: str) -> None:
    assert unpinned([line]) != []


@pytest.fixture(scope="module")
def installers() -> dict[str, list[str]]:
    """The lines that install, by file: of every file that git keeps but documents and tests."""
    kept = subprocess.check_output(
        [
            "git",
            "ls-files",
            "--",
            ":!*.md",
            ":!*.txt",
            ":!tests/",
            ":!localcloud/containers/images.py",
        ],
        cwd=ROOT,
        text=True,
    ).splitlines()
    texts = {
        name: (ROOT / name).read_text("utf-8", errors="replace")
        for name in kept
        if (ROOT / name).is_file()
    }
    lines = {
        name: [line for line in text.splitlines() if INSTALL.search(line)]
        for name, text in texts.items()
    }
    return {name: found for name, found in lines.items() if found}


def test_every_install_asks_for_hashes(installers: dict[str, list[str]]) -> None:
    assert set(installers) >= {"batch_prep/Dockerfile", "trainer/Dockerfile", "tools/venvs.py"}
    for name, lines in installers.items():
        if name.endswith(".py"):
            assert "--require-hashes" in (ROOT / name).read_text("utf-8"), name
        else:
            assert [line for line in lines if "--require-hashes" not in line] == [], name


def test_sam_build_installs_from_locks_only() -> None:
    """It installs the requirements.txt of a function or layer; hashes in it bind pip to them."""
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("functions", "layers")
        for path in (ROOT / folder).rglob("requirements.txt")
    }
    links = {name for name in found if name.startswith("layers/image_sources/")}
    locks = {"layers/droplens/requirements.txt", "layers/inference/requirements.txt"}
    assert found - links == locks
    assert {(ROOT / name).resolve().relative_to(ROOT).as_posix() for name in links} <= set(LOCKS)
    assert "layers/droplens/requirements.txt" in LOCKS
    assert not [*ROOT.glob("functions/*/pyproject.toml"), *ROOT.glob("layers/*/pyproject.toml")]
