"""The report's galleries of validation images: confident errors, low confidence."""

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from droplens.imaging.prepare import decode
from droplens.report.formatting import percent
from droplens.report.markup import Child, Element, element, name

# Images in each of the two galleries, with about 5 KB each: the page stays well below 1 MB.
GALLERY = 24
SIDE = 144
QUALITY = 70

Entry = Mapping[str, Any]


def most_confident_errors(evaluation: Mapping[str, Any]) -> list[Entry]:
    """The incorrect predictions, by descending probability."""
    wrong = [each for each in evaluation["answers"] if each["top"][0][0] != each["truth"]]
    return sorted(wrong, key=lambda each: (-each["top"][0][1], each["record"]))[:GALLERY]


def lowest_confidence(evaluation: Mapping[str, Any]) -> list[Entry]:
    """The predictions with the lowest probability."""
    answers: list[Entry] = evaluation["answers"]
    return sorted(answers, key=lambda each: (each["top"][0][1], each["record"]))[:GALLERY]


def wanted(evaluation: Mapping[str, Any]) -> list[int]:
    """The ids of the records whose images the report shows."""
    return sorted(
        {
            each["record"]
            for each in [*most_confident_errors(evaluation), *lowest_confidence(evaluation)]
        }
    )


def thumbnail(image: bytes, side: int = SIDE) -> bytes:
    """A JPEG of a packed image, at most `side` pixels wide and high. Raises ImageError."""
    small, _ = decode(image, shorter_side=side)
    small.thumbnail((side, side))
    out = BytesIO()
    small.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()


def gallery(
    chosen: Sequence[Entry], names: Sequence[str], thumbnails: Mapping[int, bytes]
) -> list[Child]:
    """Images with their predicted and actual classes."""
    if not chosen:
        return [element("p", "There are none.")]
    return [
        element("ul", (_image(answer, names, thumbnails) for answer in chosen), class_="gallery")
    ]


def _image(answer: Entry, names: Sequence[str], thumbnails: Mapping[int, bytes]) -> Element:
    (label, probability), truth = answer["top"][0], answer["truth"]
    shown = embedded(thumbnails.get(answer["record"]), f"Validation picture {answer['record']}")
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


def embedded(thumbnail: bytes | None, alt: str) -> Element:
    """A small JPEG inside the page, or a space in place of a missing one."""
    if thumbnail is None:
        return element("div", "no picture", class_="blank")
    data = base64.b64encode(thumbnail).decode()
    return element("img", src=f"data:image/jpeg;base64,{data}", alt=alt)
