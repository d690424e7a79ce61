"""Class maps in the report."""

import base64
import json
import re
from io import BytesIO

import pytest
from PIL import Image

from droplens.report.class_map import ClassMap, overlay, parse_class_map, strongest
from droplens.report.gallery import thumbnail, wanted
from droplens.report.page import render
from tests.support.drawn_images import drawing
from tests.support.evaluations import class_names, evaluation

MAP = ClassMap(3, ((0.0, 0.5, -1.0), (0.0, 0.0, 1.0)))


def response(**class_map: object) -> bytes:
    return json.dumps({"probabilities": [1.0], "novelty": 1.0, "class_map": class_map}).encode()


def test_a_response_without_a_map_has_none() -> None:
    assert parse_class_map(b'{"probabilities": [1.0], "class_map": null}') is None
    assert parse_class_map(b'{"probabilities": [1.0]}') is None


def test_a_map_is_read_row_by_row() -> None:
    body = response(label=3, height=2, width=3, values=[[0, 0.5, -1], [0, 0, 1]])
    assert parse_class_map(body) == MAP


@pytest.mark.parametrize(
    "class_map",
    [
        {"label": 3},
        {"label": 3, "values": []},
        {"label": 3, "values": [[]]},
        {"label": 3, "values": [[1, 2], [3]]},
        {"label": 3, "values": [[1], ["x"]]},
        {"label": 3, "values": [[float("nan")]]},
        {"label": 3, "values": [[float("inf")]]},
        {"label": "x", "values": [[1]]},
        {"label": 3, "values": [[0] * 300]},
        {"label": 3, "values": 7},
    ],
)
def test_a_malformed_map_is_refused(class_map: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="class map"):
        parse_class_map(response(**class_map))


def test_a_response_that_is_a_list_is_refused() -> None:
    with pytest.raises(ValueError, match="malformed class map"):
        parse_class_map(b"[0.5, 0.5]")


def test_the_overlay_is_opaque_where_the_class_is_spoken_for() -> None:
    with Image.open(BytesIO(overlay(MAP, 3, 2))) as image:
        opacity = image.convert("RGBA").getchannel("A").tobytes()
    assert opacity[5] == max(opacity) > 0
    assert opacity[0] == opacity[2] == 0
    assert 0 < opacity[1] < opacity[5]


def test_a_map_in_which_nothing_speaks_for_the_class_is_transparent() -> None:
    with Image.open(BytesIO(overlay(ClassMap(0, ((-1.0, 0.0),)), 4, 4))) as image:
        assert image.convert("RGBA").getchannel("A").getextrema() == (0, 0)


def test_the_strongest_region_is_told_in_words() -> None:
    assert strongest(MAP) == "lower right"
    assert strongest(ClassMap(0, ((1.0, 0.0), (0.0, 0.0)))) == "upper left"
    assert strongest(ClassMap(0, ((0.0,),))) == "middle centre"


def test_the_page_shows_each_map_over_its_image_and_a_switch_for_each_gallery() -> None:
    found = evaluation(class_names(12))
    shown = wanted(found)
    small = {record: thumbnail(drawing("rings", record, (200, 120))) for record in shown}
    page = render(found, thumbnails=small, maps=dict.fromkeys(shown, MAP)).decode()
    images = re.findall(r'src="data:image/png;base64,([^"]+)" alt="([^"]+)" class="map"', page)
    assert len(images) >= len(shown)
    assert len(re.findall(r'type="checkbox"[^>]*class="maps"', page)) == 2
    with Image.open(BytesIO(base64.b64decode(images[0][0]))) as image:
        assert image.width / image.height == pytest.approx(200 / 120, rel=0.05)
    assert images[0][1].startswith("What speaks for ")
    assert 'class="maps"' not in render(found, thumbnails=small).decode()
