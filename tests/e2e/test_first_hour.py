"""The first hour of a newcomer, at a terminal: from a folder whose name has a space, mistakes too.

Whatever fails is a sentence with a next step, and nothing shows a traceback.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localcloud.ports import free_port
from tests.support.deployed_cloud import Cloud
from tests.support.drawn_images import drawing
from tests.support.terminal import in_a_terminal

ENVIRONMENTS = ("cli", "cloud", "demo", "lambda", "tools")
# A page of a terminal; the stack's outputs and what to do next are a part of it.
PAGE = 50
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def lines_of(seen: str) -> list[str]:
    """What stays on a terminal: of a line that is drawn again, what it is at last."""
    drawn = (line.rstrip("\r").rpartition("\r")[2] for line in seen.split("\n"))
    return [line for line in (_CONTROL.sub("", line).rstrip() for line in drawn) if line]


def copied(source: Path, target: Path) -> None:
    """A clone's files as they are here, and its environments, which share their files with ours.

    An environment's stamp names its place: in the new one it counts as complete.
    """
    listed = subprocess.check_output(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=source, text=True
    )
    for name in filter(None, listed.split("\0")):
        if (source / name).is_file() or (source / name).is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name, follow_symlinks=False)
    venvs = target / ".local" / "venv"
    for name in ENVIRONMENTS:
        here = source / ".local" / "venv" / name

        def linked(one: str, other: str) -> None:
            try:
                os.link(one, other)
            except OSError:  # another file system
                shutil.copy2(one, other)

        # Bytecode that another process writes just now has such a name until it is complete.
        half = shutil.ignore_patterns("*.pyc.*")
        shutil.copytree(here, venvs / name, symlinks=True, ignore=half, copy_function=linked)
        stamp = (here / ".complete").read_text().replace(str(here), str(venvs / name))
        (venvs / name / ".complete").unlink()
        (venvs / name / ".complete").write_text(stamp)


@pytest.fixture(scope="module")
def clone(
    cloud: Cloud, repo_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloud]:
    """A clone in a folder with a space, with a local cloud of its own that was never up."""
    home = tmp_path_factory.mktemp("first hour") / "droplens"
    copied(repo_root, home)
    port = free_port()
    environment = {
        name: value
        for name, value in cloud.environment.items()
        if not name.startswith(("AWS_", "DROPLENS_", "PARAMETERS"))
    } | {
        "DROPLENS_LOCAL": ".local",
        "DROPLENS_PORT": str(port),
        # Built by the tests before; the path of an image's build has a space in a unit test.
        "DROPLENS_IMAGES": cloud.environment["DROPLENS_IMAGES"],
        "PYTHON": sys.executable,
        "TERM": "xterm",
    }
    found = Cloud(home, environment, f"http://127.0.0.1:{port}")
    yield found
    found.localcloud("down")


@pytest.fixture(scope="module")
def run(clone: Cloud) -> Callable[..., list[str]]:
    """Types a make command at a terminal -> the lines that it shows, and never a traceback."""

    def run(*words: str, fails: bool = False, **answers: str) -> list[str]:
        asked = {question.replace("_", " "): answer for question, answer in answers.items()}
        code, seen = in_a_terminal(["make", *words], clone.root, clone.environment, asked)
        assert "Traceback" not in seen
        assert (code != 0) == fails, seen
        shown = lines_of(seen)
        if fails:
            # make's own line is the last; the step before it is something to type.
            assert re.search(r"make [a-z-]+|again|kill \d+", " ".join(shown[:-1])), seen
        return shown

    return run


# A deployment from nothing, with that of the shared cloud where this test is run alone.
@pytest.mark.timeout(1800)
def test_the_first_hour(clone: Cloud, run: Callable[..., list[str]]) -> None:
    # Before anything is up.
    assert "was not up" in run("down")[-1]
    for command in (["rollback-local", "CLASSIFIER=cars"], ["status-local"], ["destroy-local"]):
        assert "the local cloud is down: `make up` starts it" in " ".join(run(*command, fails=True))

    shown = run("deploy-local")
    assert len(shown) <= PAGE, "\n".join(shown)
    assert any("Successfully created" in line for line in shown)
    outputs = dict(line.split() for line in shown if re.fullmatch(r"  \w+ +\S+", line))
    clone.outputs = outputs
    assert outputs["BucketName"].startswith("droplens-")
    log = clone.root / ".local" / "sam" / "deploy.log"
    assert "Successfully created" in log.read_text()

    # A picture with no model there, one in a folder that is no classifier: both wait.
    clone.put("input/a.jpg", drawing("rings", 1))
    clone.put("input/carz/a.jpg", drawing("rings", 2))
    shown = run("status-local")
    assert any("input/carz/" in line and "no classifier has this name" in line for line in shown)
    asked = "which classifier? make rollback-local CLASSIFIER=cars"
    assert asked in run("rollback-local", fails=True)[0]
    refused = run("rollback-local", "CLASSIFIER=cars", fails=True)
    assert any("cars has no live model" in line for line in refused), refused
    run("resume-local", "CLASSIFIER=cars", fails=True)
    assert run("redrive-local")[-1] == "Dead-letter queue is empty"

    refused = run("destroy-local", fails=True, **{"Type the stack's name": "dropplens"})
    assert any("nothing was removed" in line for line in refused)
    assert any(re.search(r"bucket .*, \d+ object versions, [\d.]+ [kM]B", line) for line in refused)
    shown = run("destroy-local", **{"Type the stack's name": "droplens"})
    assert shown[-1] == "nothing is left of droplens"
    refused = run("redrive-local", fails=True)
    assert any("no stack droplens: `make deploy-local` creates it" in line for line in refused)
    assert "its state is kept" in run("down")[-1]
