"""The locks of the environments, and what is told where one cannot be made."""

import sys
from pathlib import Path

import pytest

from tools import venvs


def test_every_lock_is_hashed_and_names_no_index(repo_root: Path) -> None:
    locks = [repo_root / lock for lock in venvs.LOCKS.values()]
    for text in (lock.read_text() for lock in locks):
        assert "--hash=sha256:" in text
        assert "index-url" not in text
        assert "find-links" not in text
        assert "://" not in text


@pytest.mark.parametrize(
    ("pip_said", "told"),
    [
        (
            (
                "WARNING: Retrying (Retry(total=1)) after connection broken by 'ProxyError('Cannot "
                "connect to proxy.', NewConnectionError('<pip.HTTPSConnection object at 0x7f>: "
                "Failed to establish a new connection: [Errno 111] Connection refused'))': "
                "/simple/boto3/\n"
                "ERROR: No matching distribution found for boto3==1.43.106"
            ),
            "pip cannot reach the package index (Cannot connect to proxy.'",
        ),
        (
            (
                "WARNING: The repository located at pypi.internal is not a trusted or secure host "
                "and is being ignored.\nERROR: No matching distribution found for boto3==1.43.106"
            ),
            "pip does not take packages from pypi.internal without https",
        ),
        (
            "ERROR: HTTP error 403 while getting https://pypi.internal/boto3.whl",
            "the package index refuses pip (403)",
        ),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "other files than the locks name",
        ),
        ("ERROR: No matching distribution found for boto3==1.43.106", "has no boto3==1.43.106"),
        (
            (
                "The virtual environment was not created successfully because ensurepip is not\n"
                "available.  On Debian/Ubuntu systems, you need to install the python3-venv"
            ),
            "apt-get install python{}.{}-venv".format(*sys.version_info[:2]),
        ),
    ],
)
def test_what_the_surroundings_lack_is_told_with_the_next_step(pip_said: str, told: str) -> None:
    explanation = venvs.InstallError(f"cloud: pip failed:\n    {pip_said}").explanation
    assert explanation is not None
    assert told in explanation
    assert explanation.endswith("then run the same command again")


def test_what_is_not_known_is_told_as_pip_said_it() -> None:
    assert venvs.InstallError("cloud: pip failed:\n    error: something else").explanation is None
