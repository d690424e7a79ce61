"""HTML as an element tree, in which untrusted text cannot become markup."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from typing import Any

# Not allowed in HTML text: control characters but tab and newline, and lone surrogates.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

Element = ET.Element
Child = Element | str | int | None
Attribute = str | int | float | bool | None


def element(tag: str, *children: Child | Iterable[Child], **attributes: Attribute) -> Element:
    """`<tag attributes>children</tag>`; text is escaped when the page is serialised.

    Children that are None are omitted, and so are attributes that are None or False; True gives an
    attribute without a value. `_` in an attribute's name becomes `-`, a trailing one is dropped.
    """
    made = ET.Element(tag)
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        made.set(name.rstrip("_").replace("_", "-"), "" if value is True else _text(value))
    append(made, *children)
    return made


def append(parent: Element, *children: Child | Iterable[Child]) -> None:
    """Append children to `parent`."""
    for child in children:
        if child is None:
            continue
        if isinstance(child, ET.Element):
            parent.append(child)
        elif isinstance(child, str | int):
            _append_text(parent, _text(child))
        else:
            append(parent, *child)


def name(text: str) -> Element:
    """A name from a user: isolated, so that it cannot change the direction of other text."""
    return element("bdi", text)


def json_block(identifier: str, value: Any) -> Element:
    """JSON data for the page's script; "<" is escaped, so that no value can end the element."""
    text = json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
    return element("script", text, type="application/json", id=identifier)


def document(root: Element) -> bytes:
    """The page as UTF-8 HTML."""
    text: str = ET.tostring(root, encoding="unicode", method="html")
    return b"<!doctype html>\n" + text.encode()


def _append_text(parent: Element, text: str) -> None:
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


def _text(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", str(value))
