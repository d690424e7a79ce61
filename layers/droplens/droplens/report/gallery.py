"""The report's galleries of validation images: confident errors, low confidence."""

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from PIL import Image

from droplens.imaging.prepare import decode
from droplens.report.class_map import ClassMap, overlay, strongest
from droplens.report.formatting import percent
from droplens.report.markup import Child, Element, element, name

# Images in each of the two galleries, with about 5 KB each: the page stays well below 1 MB.
GALLERY = 24
SIDE = 144
QUALITY = 70
# A map has a few cells along a side: its picture is smaller than the thumbnail by this factor.
MAP_SHRINKS = 4

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
    chosen: Sequence[Entry],
    names: Sequence[str],
    thumbnails: Mapping[int, bytes],
    maps: Mapping[int, ClassMap],
    identifier: str,
) -> list[Child]:
    """Images with their predicted and actual classes, and class maps that can be shown.

    thumbnails, maps: by record id; identifier: unique in the page.
    """
    if not chosen:
        return [element("p", "There are none.")]
    images = [_image(answer, names, thumbnails, maps.get(answer["record"])) for answer in chosen]
    switch: list[Child] = []
    if any(answer["record"] in maps for answer in chosen):
        switch = [
            element("input", type="checkbox", id=identifier, class_="maps"),
            element(
                "label",
                "Show what speaks for the predicted class: the regions with the largest share of "
                "its score in orange",
                for_=identifier,
            ),
        ]
    return [*switch, element("ul", images, class_="gallery")]


def _image(
    answer: Entry, names: Sequence[str], thumbnails: Mapping[int, bytes], drawn: ClassMap | None
) -> Element:
    (label, probability), truth = answer["top"][0], answer["truth"]
    thumbnail = thumbnails.get(answer["record"])
    shown = embedded(thumbnail, f"Validation picture {answer['record']}")
    if thumbnail is not None and drawn is not None:
        words = f"What speaks for {names[label]}, most of all {strongest(drawn)}"
        shown = element("div", shown, _map(thumbnail, drawn, words), class_="explained")
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


def _map(thumbnail: bytes, drawn: ClassMap, alt: str) -> Element:
    """The map in the thumbnail's shape, at a fraction of its size."""
    with Image.open(BytesIO(thumbnail)) as image:
        sides = (max(1, side // MAP_SHRINKS) for side in image.size)
    data = base64.b64encode(overlay(drawn, *sides)).decode()
    return element("img", src=f"data:image/png;base64,{data}", alt=alt, class_="map")


def embedded(thumbnail: bytes | None, alt: str) -> Element:
    """A small JPEG inside the page, or a space in place of a missing one."""
    if thumbnail is None:
        return element("div", "no picture", class_="blank")
    data = base64.b64encode(thumbnail).decode()
    return element("img", src=f"data:image/jpeg;base64,{data}", alt=alt)
