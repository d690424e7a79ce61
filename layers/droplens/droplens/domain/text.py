"""Sanitising of untrusted text for log lines, mails, items and class names.

A file name may have 600 KB, line breaks that forge log lines, and characters that reverse the
direction of the text. Errors and notifications are sanitised where they are created, so that no
caller has to.
"""

import unicodedata

# Far below the limits of DynamoDB (400 KB per item) and SNS (256 KB per message): people read it.
MAX_SENTENCE = 2000
MAX_MESSAGE = 16_000
MAX_CLASS_NAME = 256
# Joiners within words and emoji: invisible, but they do not change the direction of text.
_JOINERS = "\u200c\u200d"
_REPLACEMENT = "\ufffd"


def one_line(text: str, most: int = MAX_SENTENCE) -> str:
    """`text` on one line of at most `most` characters, without invisible ones.

    The middle of a longer text is replaced by the number of characters left out.
    """
    if len(text) <= most and text.isprintable():
        return text
    # Shortened first, so that only `most` characters are examined: each is replaced by one.
    return "".join(map(_visible, _shortened(text, most)))


def paragraphs(text: str, most: int = MAX_MESSAGE) -> str:
    """As `one_line`, but keeps line breaks."""
    lines = _shortened(text, most).split("\n")
    return "\n".join("".join(map(_visible, line)) for line in lines)


def class_name_problem(name: str) -> str | None:
    """Why `name` cannot be a class name, as a phrase that follows "it"; None where it can."""
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
    # Line and paragraph separators, and spaces outside ASCII.
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
