"""Text that strangers chose, made fit for a log line, a mail, a table's item and a class name.

A file name may have 600 KB, line ends that forge log lines, and characters that turn the direction
in which the rest of the line is read. Whoever puts such a name into a sentence need not know:
errors and notifications go through here where they are made.
"""

import unicodedata

# DynamoDB takes 400 KB an item, SNS 256 KB a message, a person less.
MAX_SENTENCE = 2000
MAX_MESSAGE = 16_000
MAX_CLASS_NAME = 256
# Joiners within words and emoji: invisible by themselves, and they turn nothing around.
_JOINERS = "\u200c\u200d"
_REPLACEMENT = "\ufffd"


def one_line(text: str, most: int = MAX_SENTENCE) -> str:
    """`text` of at most `most` characters on one line, without any that cannot be seen.

    Of a longer one the middle is left out, and how much it was.
    """
    if len(text) <= most and text.isprintable():
        return text
    # A character becomes one character, so that nothing far beyond the bound is looked at.
    return "".join(map(_visible, _shortened(text, most)))


def paragraphs(text: str, most: int = MAX_MESSAGE) -> str:
    """As `one_line`, but line ends stay."""
    lines = _shortened(text, most).split("\n")
    return "\n".join("".join(map(_visible, line)) for line in lines)


def class_name_problem(name: str) -> str | None:
    """Why `name` cannot be a class's, in words that go on after "it"; None where it can."""
    if len(name) > MAX_CLASS_NAME:
        return f"has {len(name):,} characters, the limit is {MAX_CLASS_NAME}"
    for character in name:
        if not (
            character.isprintable()
            or character in _JOINERS
            or unicodedata.category(character) == "Zs"
        ):
            kind = unicodedata.name(character, f"U+{ord(character):04X}")
            return f"has a character that cannot be seen ({kind})"
    return None


def _visible(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    # Line and paragraph separators, and spaces that are none of ASCII's.
    if character.isspace():
        return " "
    return _REPLACEMENT


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    missing = f" … ({len(text) - most:,} more characters) … "
    room = max(0, most - len(missing))
    head = room * 2 // 3
    return (text[:head] + missing + text[len(text) - (room - head) :])[:most]
