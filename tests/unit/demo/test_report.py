"""The closing report: the numbers in it, the choice of rows, and the table as it is printed."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from demo.dataset import Picture
from demo.report import (
    ROWS,
    Answer,
    Outcome,
    accuracy_line,
    answers_table,
    print_report,
    selection,
)
from droplens.statistics.intervals import wilson


def console(*, colour: bool = False, width: int = 120) -> Console:
    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="truecolor" if colour else None,
        _environ={},
    )


def printed(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


def classified(label: str, probability: float = 0.9, *, confident: bool = True) -> dict[str, Any]:
    return {
        "status": "classified",
        "prediction": {"label": label, "probability": probability, "confident": confident},
        "top": [{"label": label, "probability": probability}, {"label": "b", "probability": 0.05}],
    }


def answer(truth: str, said: str, name: str = "x.png") -> Answer:
    return Answer(name, Picture(Path("/none") / name, truth, name), classified(said))


def outcome(answers: list[Answer], *, stays_up: bool = False) -> Outcome:
    return Outcome(
        answers=answers,
        measured={"accuracy": 0.955, "pictures": 200},
        results_uri="s3://bucket/results/pets/demo-1/",
        results_folder=Path("/copies"),
        report=Path("/copies/report.html"),
        input_uri="s3://bucket/input/pets/",
        endpoint_url="http://127.0.0.1:4566",
        stays_up=stays_up,
        seconds={"Upload": 2.4, "Training": 30.0},
    )


@pytest.mark.parametrize(("right", "asked"), [(0, 10), (8, 10), (10, 10), (77, 80), (153, 163)])
def test_the_interval_ends_where_the_share_is_just_believable(right: int, asked: int) -> None:
    # Wilson's definition: at either end, the observed share lies 1.96 standard errors away,
    # where the standard error is the one that this end itself would give.
    share = right / asked
    for end in wilson(right, asked):
        squared_error = end * (1 - end) / asked
        assert (share - end) ** 2 == pytest.approx(1.959964**2 * squared_error, abs=1e-12)


def test_the_interval_has_its_textbook_values() -> None:
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=5e-5)
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=5e-5)


def test_accuracy_counts_rejected_and_missing_answers_as_not_right() -> None:
    picture = Picture(Path("/none"), "a", "a.png")
    rejected = {"status": "rejected", "error": {"code": "image.empty", "message": "no bytes"}}
    answers = [
        answer("a", "a"),
        answer("a", "b"),
        Answer("r.png", picture, rejected),
        Answer("m.png", picture, None),
    ]
    # Wilson by hand: (0.25 + 0.4802 -+ 0.6844) / 1.9604.
    assert accuracy_line(answers) == "25.0 % (1 of 4; 4.6 to 69.9)"


def test_few_answers_are_all_shown_the_wrong_ones_first() -> None:
    answers = [answer("a", "a"), answer("a", "b"), answer("b", "b")]
    assert selection(answers, ROWS) == [answers[1], answers[0], answers[2]]


@pytest.mark.parametrize(("wrong", "shown_wrong"), [(0, 0), (3, 3), (14, 14), (60, 14), (99, 19)])
def test_of_many_answers_a_page_is_shown(wrong: int, shown_wrong: int) -> None:
    answers = [answer("a", "b", f"{n}.png") for n in range(wrong)]
    answers += [answer("a", "a", f"{n}.png") for n in range(wrong, 100)]
    shown = selection(answers, ROWS)
    assert len({each.name for each in shown}) == ROWS
    assert sum(not each.right for each in shown) == shown_wrong


def test_right_answers_shown_come_from_all_classes() -> None:
    answers = [answer(f"class {n // 10}", f"class {n // 10}", f"{n}.png") for n in range(100)]
    assert {each.picture.label for each in selection(answers, 10)} == {
        f"class {n}" for n in range(10)
    }


def test_a_row_says_answer_probability_certainty_and_truth() -> None:
    on = console()
    wrong = Answer("w.png", Picture(Path("/none"), "b", "w.png"), classified("a", confident=False))
    on.print(answers_table([answer("a", "a", "r.png"), wrong], on))
    right_row, wrong_row = (line for line in printed(on).splitlines() if ".png" in line)
    assert right_row.split() == ["r.png", "a", "90.0", "%", "yes", "a", "✔", "correct"]
    assert wrong_row.split() == ["w.png", "a", "90.0", "%", "no", "b", "✘", "wrong"]
    assert "(predicted no. 2)" in printed(on)


def test_a_rejected_picture_shows_the_reason_and_a_missing_answer_its_absence() -> None:
    on = console()
    picture = Picture(Path("/none"), "a", "a.png")
    reason = {"status": "rejected", "error": {"code": "image.empty", "message": "holds no bytes"}}
    on.print(answers_table([Answer("r.png", picture, reason), Answer("m.png", picture, None)], on))
    assert "holds no bytes" in printed(on)
    assert "no result" in printed(on)


def test_names_are_shown_as_they_are_not_read_as_markup() -> None:
    on = console()
    on.print(answers_table([answer("[red]", "[/bold]", "[blink]1.png")], on))
    for name in ("[red]", "[/bold]", "[blink]1.png"):
        assert name in printed(on)


def test_pictures_are_drawn_where_the_terminal_has_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 30), (200, 10, 20)).save(path)
    drawn = [Answer("a.png", Picture(path, "a", "a.png"), classified("a"))]
    on, off = console(colour=True), console()
    on.print(answers_table(drawn, on))
    off.print(answers_table(drawn, off))
    assert "\x1b[38;2;200;10;20;48;2;200;10;20m" in printed(on)
    assert "▀" in printed(on)
    assert "▀" not in printed(off)


def test_addresses_are_never_broken_into_lines() -> None:
    on = console(width=40)
    print_report(on, outcome([answer("a", "a")]))
    lines = printed(on).splitlines()
    assert "Results   s3://bucket/results/pets/demo-1/" in lines
    copy = "s3 cp photo.jpg s3://bucket/input/pets/"
    assert any(line.endswith(f"--endpoint-url http://127.0.0.1:4566 {copy}") for line in lines)
    assert any(line.endswith("s3 cp s3://bucket/results/pets/photo.jpg.json -") for line in lines)


def test_the_report_says_how_to_bring_a_stopped_cloud_back() -> None:
    stopped, running = console(), console()
    print_report(stopped, outcome([answer("a", "a")]))
    print_report(running, outcome([answer("a", "a")], stays_up=True))
    assert "make up" in printed(stopped)
    assert "make up" not in printed(running)
    assert "make console-local" in printed(running)


def test_the_report_names_no_command_for_a_console_that_follows() -> None:
    on = console()
    print_report(on, outcome([answer("a", "a")], stays_up=True), opens_console=True)
    assert "The console, below, shows" in printed(on)
    assert "make console-local" not in printed(on)
    assert "make down" in printed(on)


def test_the_report_tells_the_measured_accuracy_the_times_and_what_it_left_out() -> None:
    on = console()
    print_report(on, outcome([answer("a", "a", f"{n}.png") for n in range(50)]))
    # Wilson by hand: 191 of 200 is 95.5 %; (0.955 + 0.0096 -+ 0.0303) / 1.0192.
    assert "95.5 % (191 of 200; 91.7 to 97.6) before it went live" in printed(on)
    assert "50 of 50, 50 of them correct" in printed(on)
    assert "file:///copies/report.html" in printed(on)
    assert "32 in total: upload 2, training 30" in printed(on)
    assert "20 of 50 predictions shown." in printed(on)


def test_a_certain_prediction_that_is_not_confident_has_its_reason() -> None:
    on = console()
    unsure = Answer(
        "u.png", Picture(Path("/none"), "a", "u.png"), classified("a", 1.0, confident=False)
    )
    reason = "too few validation pictures: 9, and it takes 52"
    print_report(on, replace(outcome([unsure]), unconfident_because=reason))
    (row,) = (line for line in printed(on).splitlines() if "u.png" in line)
    assert row.split()[:6] == ["u.png", "a", "100.0", "%", "no:", "no"]
    assert f"none, at any probability: {reason}" in printed(on)


def test_where_there_is_a_threshold_the_confident_predictions_are_counted() -> None:
    on = console()
    wrong = Answer("w.png", Picture(Path("/none"), "b", "w.png"), classified("a"))
    unsure = Answer("u.png", Picture(Path("/none"), "a", "u.png"), classified("a", confident=False))
    missing = Answer("m.png", Picture(Path("/none"), "a", "m.png"), None)
    print_report(on, outcome([answer("a", "a"), wrong, unsure, missing]))
    assert "2 of 4, 1 of them correct" in printed(on)
    assert "no: no threshold" not in printed(on)


def of_v2(label: str, *, familiar: bool | None, candidates: list[str] | None) -> dict[str, Any]:
    result = classified(label, confident=familiar is True)
    share = None if familiar is None else 0.5 * familiar
    result["prediction"] |= {"familiar": familiar, "familiarity": share}
    return {**result, "candidates": candidates}


def test_the_report_says_what_is_unfamiliar_and_what_a_picture_may_show() -> None:
    def told(name: str, truth: str, familiar: bool, candidates: list[str]) -> Answer:
        picture = Picture(Path("/none") / name, truth, name)
        return Answer(name, picture, of_v2("a", familiar=familiar, candidates=candidates))

    answers = [
        told("1.png", "a", True, ["a"]),
        told("2.png", "b", True, ["a", "b"]),
        told("3.png", "c", False, ["a", "b", "d"]),
    ]
    stranger = told("s.png", "none of the classes", False, ["a"])
    on = console()
    print_report(on, replace(outcome(answers), stranger=stranger))
    text = " ".join(printed(on).split())
    assert "1 of 3 held-out pictures; a picture of none of the classes: unfamiliar, so not" in text
    assert "hold the actual class of 2 of 3 pictures, 2.0 classes on average" in text
    assert "no: unfamiliar" in text


def test_a_picture_that_is_taken_for_one_of_the_classes_is_not_passed_over() -> None:
    picture = Picture(Path("/none/s.png"), "none of the classes", "s.png")
    stranger = Answer("s.png", picture, of_v2("a", familiar=True, candidates=None))
    on = console()
    print_report(on, replace(outcome([answer("a", "a")]), stranger=stranger))
    assert "none of the classes: taken for familiar" in " ".join(printed(on).split())


def test_a_model_that_cannot_tell_has_no_such_lines() -> None:
    on = console()
    stranger = answer("none of the classes", "a")
    print_report(on, replace(outcome([answer("a", "a")]), stranger=stranger))
    assert "Unfamiliar" not in printed(on)
    assert "Candidates" not in printed(on)
