"""Finds figures typed in a page's source; only the kinds named here are allowed."""

import re
from typing import NamedTuple

import jinja2

HOLE = "\N{OBJECT REPLACEMENT CHARACTER}"

# Names with a number in them, which is no figure.
NAMES = (
    "SHA-256",
    "UTF-8",
    "Apache-2.0",
    "ResNet-18",
    "EfficientNet-Lite0",
    "Lite2",
    "CUDA 13",
    "R580",
    "4:2:0",
    "8-bit",
    "x86-64",
    "127.0.0.1",
    "Debian 12",
    "1.0",
    "top-1",
    "top-5",
)
# Kinds of text that need no source: examples, addresses, sources. They are removed before figures
# are searched for.
KINDS = {
    # An example or a command; tests compare commands, options and examples with the code.
    "fenced code": re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL),
    # A name, a setting or a command. What begins with a number is a figure.
    "code": re.compile(r"`(?!\s*[$.,]*\d)(?:[^`\n]|\n(?!\s*\n))+`"),
    "address of a link": re.compile(r"\]\([^)\s]+\)"),
    "number of an issue": re.compile(r"#\d+"),
    "preprint": re.compile(r"arXiv:\d+\.\d+"),
    # Of what is cited: an author or a title, then the year.
    "year of a source": re.compile(
        r"(?:\b[A-Z][\w-]+|al\.|\*,)\s(?:19|20)\d\d(?=\s*(?:[,|·)*:]|$|and\b|arXiv))", re.MULTILINE
    ),
    "place in a list": re.compile(r"^ *\d\. ", re.MULTILINE),
    "name": re.compile("|".join(rf"(?<![\w.]){re.escape(name)}(?!\w)" for name in NAMES)),
}
# Not at the end of a word (S3, int8, v1), which is a name.
_DIGITS = re.compile(r"(?<![\w])\d[\d.,:]*")
# "one", "two" and the like are grammar more often than they are figures.
FEWEST_IN_WORDS = 5
_WORDS = (
    "five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|"
    "eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|"
    "fifth|quarter|tenth"
)
_IN_WORDS = re.compile(rf"(?<![\w-])(?:{_WORDS})s?(?![\w])", re.IGNORECASE)
_CHINESE = re.compile(r"[一二两三四五六七八九十百千万亿半]+(?=[个张次分秒小天年月倍类种核条台])")
_CHINESE_GRAMMAR = re.compile(r"一[个张次种条台]|两[个种次]|每[一个]|半[个]?")

_DRAWING = re.compile(r"^```mermaid\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LEXER = jinja2.Environment(keep_trailing_newline=True, autoescape=False)  # noqa: S701


class Unsourced(NamedTuple):
    """A figure without a source. line: of the page's source, from 1."""

    line: int
    text: str


def unsourced(source: str) -> list[Unsourced]:
    """The figures in a page's source that are no expression's value."""
    found, text = _expressions(source)
    # A drawing is checked as a sentence is.
    text = _DRAWING.sub(lambda match: f"   {' ' * 7}\n{match.group(1)}   ", text)
    for pattern in KINDS.values():
        text = pattern.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
    for pattern in (_DIGITS, _IN_WORDS):
        for match in pattern.finditer(text):
            found.append(Unsourced(text.count("\n", 0, match.start()) + 1, match.group()))
    grammar = _CHINESE_GRAMMAR.sub(lambda match: " " * len(match.group()), text)
    for match in _CHINESE.finditer(grammar):
        found.append(Unsourced(text.count("\n", 0, match.start()) + 1, match.group()))
    return sorted(found)


def _expressions(source: str) -> tuple[list[Unsourced], str]:
    """Figures within expressions, and the source with a hole in place of each expression.

    An expression is a name with filters: a number in it, or a text with one, is a figure that was
    typed.
    """
    found: list[Unsourced] = []
    text: list[str] = []
    for line, kind, value in _LEXER.lex(source):
        if kind in ("data", "raw_begin", "raw_end"):
            text.append(value)
            continue
        if kind in ("variable_begin", "block_begin", "comment_begin"):
            text.append(HOLE)
        elif kind in ("integer", "float") or (kind == "string" and _is_figure(value)):
            found.append(Unsourced(line, value))
        text.append(
            "\n" * value.count("\n") if kind not in ("data", "raw_begin", "raw_end") else ""
        )
    return found, "".join(text)


def _is_figure(text: str) -> bool:
    return bool(re.search(r"\d", text) or _IN_WORDS.search(text))
