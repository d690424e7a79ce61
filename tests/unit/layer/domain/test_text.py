"""What strangers chose, in sentences: bounded, on one line, and nothing that turns it around."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.domain.errors import UserError
from droplens.domain.text import (
    MAX_CLASS_NAME,
    MAX_SENTENCE,
    class_name_problem,
    one_line,
    paragraphs,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Citroën C3 \N{CAT FACE}, 猫 und ไทย", "Citroën C3 \N{CAT FACE}, 猫 und ไทย"),
        ("a\r\n\tb\u2028c\x85d\xa0e", "a   b c d e"),
        ("\x1b[2J\x00\x9b\u202egpj.exe\u2066", "\ufffd[2J\ufffd\ufffd\ufffdgpj.exe\ufffd"),
        ("\ud800", "\ufffd"),
    ],
)
def test_a_text_is_shown_on_one_line(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_of_a_long_text_both_ends_are_kept() -> None:
    shown = one_line("begin" + "x" * 600_000 + "end", 100)
    assert len(shown) == 100
    assert shown.startswith("beginxxx")
    assert shown.endswith("xxxend")
    assert " … (599,908 more characters) … " in shown


@given(st.text(), st.integers(0, 60))
def test_whatever_it_was_it_is_bounded_and_printable(text: str, most: int) -> None:
    shown = one_line(text, most)
    assert len(shown) <= most
    assert all(character.isprintable() or character in "\u200c\u200d" for character in shown)
    assert len(paragraphs(text, most)) <= most
    assert paragraphs(text, most).count("\n") <= text.count("\n")


def test_every_error_is_bounded_where_it_is_made() -> None:
    error = UserError("packed.incomplete", "a\n" + "x" * 10**6)
    assert len(error.message) == len(str(error)) == MAX_SENTENCE
    assert error.message.isprintable()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("x" * (MAX_CLASS_NAME + 1), "257 characters"),
        ("two\nlines", "U\\+000A"),
        ("\x1b[2J", "U\\+001B"),
        ("\u202egpj", "RIGHT-TO-LEFT OVERRIDE"),
        ("zero\u200bwidth", "ZERO WIDTH SPACE"),
        ("\u2028", "LINE SEPARATOR"),
        ("\ud800", "U\\+D800"),
    ],
)
def test_what_cannot_be_a_class_name(name: str, problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        assert class_name_problem(name) is None, class_name_problem(name)


@pytest.mark.parametrize(
    "name",
    [
        "x" * MAX_CLASS_NAME,
        "Citroën\xa0C3",
        "👩\u200d🔧",
        "\u0645\u06cc\u200c\u062e\u0648",
        "\u05e9\u05dc",
    ],
)
def test_what_can(name: str) -> None:
    assert class_name_problem(name) is None
