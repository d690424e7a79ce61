"""Every install is pinned and hashed: what was tested is what runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted(
    source.relative_to(ROOT).with_suffix(".txt").as_posix()
    for depth in ("*/*.in", "*/*/*.in")
    for source in ROOT.glob(depth)
)
INSTALLERS = [
    "Makefile",
    "batch_prep/Dockerfile",
    "trainer/Dockerfile",
    "tools/venvs.py",
]


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


@pytest.mark.parametrize("name", INSTALLERS)
def test_every_install_asks_for_hashes(name: str) -> None:
    text = (ROOT / name).read_text()
    installs = re.findall(r"^.*\bpip install\b.*$", text, re.MULTILINE)
    assert all("--require-hashes" in line for line in installs), installs
    if name != "Makefile":
        assert "--require-hashes" in text
