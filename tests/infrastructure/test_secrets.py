"""No tracked file holds a key, a token or a password."""

import re
import subprocess
from pathlib import Path

import pytest

SECRETS = {
    "an AWS access key's id": re.compile(r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    "an AWS secret key": re.compile(
        r"(?i)aws.{0,20}?(?:secret|key).{0,20}?[=:]\s*[\"']?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"
    ),
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "a token of GitHub's or GitLab's": re.compile(
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,}|glpat-[\w-]{20,})"
    ),
    "a token of a package registry's": re.compile(
        r"\b(?:pypi-AgE[\w-]{50,}|npm_[A-Za-z0-9]{36})\b"
    ),
    "a password in an address": re.compile(
        r"[a-z]+://[^\s/:@\"'{}<>]+:[^\s/:@\"'{}<>]{6,}@(?!example\.)"
    ),
}


@pytest.fixture(scope="module")
def tracked(repo_root: Path) -> dict[str, str]:
    """The text of every file that git keeps; of pictures and the like, what reads as text."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=repo_root, capture_output=True, check=True
    ).stdout.decode("utf-8")
    names = [name for name in listing.split("\0") if name and (repo_root / name).is_file()]
    return {name: (repo_root / name).read_text("utf-8", errors="replace") for name in names}


@pytest.mark.parametrize("kind", SECRETS)
def test_no_tracked_file_holds(tracked: dict[str, str], kind: str) -> None:
    assert tracked
    assert [name for name, text in tracked.items() if SECRETS[kind].search(text)] == []


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("an AWS access key's id", "AK" + "IA" + "Q3EGRZ7XKJ2M5TPV"),
        ("an AWS secret key", "aws_secret_access" + "_key = " + "wJalrXUtnFEMI/K7MDEN" * 2),
        ("a private key", "-----BEGIN RSA " + "PRIVATE KEY-----"),
        ("a token of GitHub's or GitLab's", "ghp" + "_" + "a1B2" * 9),
        ("a token of a package registry's", "npm" + "_" + "a1B2" * 9),
        ("a password in an address", "https" + "://user:" + "hunter22" + "@host/"),
    ],
)
def test_a_planted_one_would_be_found(kind: str, text: str) -> None:
    assert SECRETS[kind].search(text)
