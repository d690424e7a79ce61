"""Progress on the screen: plain lines without a terminal, a list of steps with one."""

import io

import pytest
from rich.console import Console

from demo import screen as screen_module
from demo.screen import Screen, is_interactive


def console(*, terminal: bool) -> Console:
    return Console(
        file=io.StringIO(), width=100, force_terminal=terminal, color_system=None, _environ={}
    )


def printed(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


@pytest.fixture(autouse=True)
def no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


def test_without_a_terminal_every_step_begins_and_ends_with_a_line() -> None:
    on = console(terminal=False)
    with Screen(on, ["Upload"]) as screen, screen.step("Upload", "looking"):
        screen.update("Upload", "10 pictures, then _READY")
    first, last = printed(on).splitlines()
    assert first.endswith("s] Upload: looking")
    assert "Upload: done after 0." in last
    assert last.endswith("s: 10 pictures, then _READY")


def test_plain_progress_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    on = console(terminal=False)
    with Screen(on, ["Upload"]) as screen, screen.step("Upload", "begins"):
        screen.update("Upload", "pictures", 1, 10)
        monkeypatch.setattr(screen_module, "PLAIN_EVERY", 0.0)
        screen.update("Upload", "pictures", 7, 10)
    assert "1 of 10" not in printed(on)
    assert "Upload: 7 of 10 pictures" in printed(on)


def test_a_step_that_raises_is_shown_as_failed() -> None:
    on = console(terminal=False)
    screen = Screen(on, ["Upload"])
    with screen, pytest.raises(OSError, match="disk"), screen.step("Upload", "copying"):
        raise OSError("disk")
    assert "Upload: failed after" in printed(on)
    assert screen.steps["Upload"].failed


def test_a_terminal_shows_steps_done_running_and_to_come() -> None:
    on = console(terminal=True)
    screen = Screen(on, ["Upload", "Training", "Answers"])
    with screen.step("Upload", "5 pictures"):
        pass
    screen.begin("Training")
    screen.update("Training", "features", 3, 12)
    on.print(screen)
    upload, training, answers = printed(on).splitlines()
    assert upload.startswith("✔ Upload   5 pictures")
    assert "3 of 12 features" in training
    assert "━" in training
    assert answers.startswith("· Answers")


def test_a_terminal_in_continuous_integration_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert is_interactive(console(terminal=True))
    assert not is_interactive(console(terminal=False))
    monkeypatch.setenv("CI", "true")
    assert not is_interactive(console(terminal=True))
