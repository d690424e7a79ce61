"""The validation images that the report shows: the worst mistakes and the least sure."""

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from droplens.imaging.prepare import decode
from droplens.report.markup import Child, Element, element, name
from droplens.report.wording import percent

# Images in each of the two galleries, at about 5 KB: the page stays well below a megabyte.
GALLERY = 24
SIDE = 144
QUALITY = 70

Answer = Mapping[str, Any]


def worst(evaluation: Mapping[str, Any]) -> list[Answer]:
    """The wrong answers, the surest first."""
    wrong = [each for each in evaluation["answers"] if each["top"][0][0] != each["truth"]]
    return sorted(wrong, key=lambda each: (-each["top"][0][1], each["record"]))[:GALLERY]


def least_sure(evaluation: Mapping[str, Any]) -> list[Answer]:
    """The answers of the lowest probability."""
    answers: list[Answer] = evaluation["answers"]
    return sorted(answers, key=lambda each: (each["top"][0][1], each["record"]))[:GALLERY]


def wanted(evaluation: Mapping[str, Any]) -> list[int]:
    """The ids of the records whose images the report shows."""
    return sorted({each["record"] for each in [*worst(evaluation), *least_sure(evaluation)]})


def thumbnail(picture: bytes) -> bytes:
    """A small JPEG of a packed image. Raises ImageError."""
    small, _ = decode(picture, shorter_side=SIDE)
    small.thumbnail((SIDE, SIDE))
    out = BytesIO()
    small.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()


def gallery(
    chosen: Sequence[Answer], names: Sequence[str], thumbnails: Mapping[int, bytes]
) -> list[Child]:
    """Images with what was predicted and what they are."""
    if not chosen:
        return [element("p", "There are none.")]
    return [
        element("ul", (_picture(answer, names, thumbnails) for answer in chosen), class_="gallery")
    ]


def _picture(answer: Answer, names: Sequence[str], thumbnails: Mapping[int, bytes]) -> Element:
    (label, probability), truth = answer["top"][0], answer["truth"]
    thumbnail = thumbnails.get(answer["record"])
    if thumbnail is None:
        shown = element("div", "no picture", class_="blank")
    else:
        data = base64.b64encode(thumbnail).decode()
        shown = element(
            "img",
            src=f"data:image/jpeg;base64,{data}",
            alt=f"Validation picture {answer['record']}",
        )
    verdict: list[Child] = (
        [element("span", "correct", class_="is-right")]
        if label == truth
        else [element("span", "actual ", class_="is-wrong"), name(names[truth])]
    )
    caption = element(
        "figcaption",
        "Predicted ",
        name(names[label]),
        f" ({percent(probability)}), ",
        *verdict,
    )
    return element("li", element("figure", shown, caption))
