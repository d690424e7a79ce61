"""The report page in a real Chromium, without a window: what it does, and that it asks nobody.

With DROPLENS_SCREENSHOTS naming a folder, what was seen is left there to be looked at.
"""

import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from droplens.report.class_map import ClassMap
from droplens.report.gallery import thumbnail, wanted
from droplens.report.page import render
from droplens.report.suspects import PAIR_SIDE, SHOWN, Suspects
from tests.support.browser import DESKTOP, PHONE, SEEN_AS, Scheme, chromium
from tests.support.drawn_images import drawing
from tests.support.evaluations import (
    PROBE,
    candidates,
    class_names,
    dataset,
    evaluation,
    familiarity,
    suspects,
)

SIZES = (3, 24, 196)
# Of 9 by 12 cells, with one region that speaks for the class and one against it.
CLASS_MAP = ClassMap(
    0,
    tuple(
        tuple(
            math.exp(-((row - 3) ** 2 + (column - 8) ** 2) / 6)
            - math.exp(-((row - 6) ** 2 + (column - 2) ** 2) / 6)
            for column in range(12)
        )
        for row in range(9)
    ),
)
# WCAG 2.2, success criterion 1.4.3: letters of the usual size, and large ones.
CONTRAST, CONTRAST_OF_LARGE = 4.5, 3.0

# The contrast of every text that is seen, as [ratio, is large, text].
CONTRASTS = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = numbers(colour).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      const [, , , alpha = 1] = numbers(colour);
      if (alpha > 0) return colour;
    }
  };
  const seen = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    const inMatrix = element.closest(".matrix svg");
    if (!text || inMatrix || element.tagName === "SCRIPT" || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const colour = element instanceof SVGElement ? style.fill : style.color;
    const [high, low] = [light(colour), light(ground(element))].sort((a, b) => b - a);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    seen.push([(high + 0.05) / (low + 0.05), large, text.slice(0, 40)]);
  }
  return seen;
}"""


@dataclass(slots=True)
class Opened:
    """A page in the browser, and all that it complained of or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A report by its number of classes, with pictures drawn here."""
    folder = tmp_path_factory.mktemp("reports")
    pages = {}
    for size in SIZES:
        names = class_names(size)
        found = evaluation(
            names,
            per_class=7 if size > 3 else 40,
            familiarity=familiarity(),
            candidates=candidates(),
        )
        pictures = {
            record: thumbnail(drawing("rings", record, (120, 90))) for record in wanted(found)
        }
        small = [
            thumbnail(drawing("rings", record, (90, 70)), PAIR_SIDE) for record in range(SHOWN)
        ]
        to_check = Suspects(
            suspects(names),
            dict(enumerate(small)),
            dict(zip(names, small, strict=False)),
        )
        pages[size] = folder / f"{size}.html"
        pages[size].write_bytes(
            render(
                found,
                dataset=dataset(names),
                training=PROBE,
                thumbnails=pictures,
                maps=dict.fromkeys(pictures, CLASS_MAP),
                to_check=to_check,
            )
        )
    return pages


@pytest.fixture
def open_report(browser: Browser, reports: dict[int, Path]) -> Iterator[Open]:
    contexts = []

    def opened(
        size: int,
        scheme: Scheme = "light",
        viewport: ViewportSize = DESKTOP,
    ) -> Opened:
        context = browser.new_context(color_scheme=scheme, viewport=viewport)
        contexts.append(context)
        seen = Opened(context.new_page())
        seen.page.on("console", lambda message: seen.complaints.append(message.text))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.goto(reports[size].as_uri())
        return seen

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("scheme", "viewport"), SEEN_AS)
def test_it_can_be_read_in_every_light_and_width(
    open_report: Open, size: int, scheme: Scheme, viewport: ViewportSize
) -> None:
    seen = open_report(size, scheme, viewport)
    if folder := os.environ.get("DROPLENS_SCREENSHOTS"):
        name = f"report-{size}-{scheme}-{viewport['width']}.png"
        seen.page.screenshot(path=Path(folder) / name, full_page=True)
    assert not seen.complaints
    others = [url for url in seen.requests if not url.startswith("data:")]
    assert others == [seen.page.url], "the page and nothing else"
    assert seen.page.title().startswith("cars: ")
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    pale = [
        (round(ratio, 2), text)
        for ratio, large, text in seen.page.evaluate(CONTRASTS)
        if ratio < (CONTRAST_OF_LARGE if large else CONTRAST)
    ]
    assert not pale
    loaded = "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    assert seen.page.locator("img").count() > 0
    assert seen.page.evaluate(loaded)


def test_a_heading_sorts_the_table_and_says_so(open_report: Open) -> None:
    page = open_report(24).page
    table = page.get_by_role("table", name="Every class")
    found = table.get_by_role("columnheader", name="Recall")

    def shares() -> list[float]:
        return [
            float(each.get_attribute("value") or "nan")
            for each in table.locator("tbody tr td:nth-of-type(1) data").all()
        ]

    unsorted = shares()
    found.get_by_role("button").press("Enter")
    expect(found).to_have_attribute("aria-sort", "ascending")
    assert shares() == sorted(unsorted)
    found.get_by_role("button").press("Enter")
    expect(found).to_have_attribute("aria-sort", "descending")
    assert shares() == sorted(unsorted, reverse=True)
    assert len(set(unsorted)) > 1
    names = table.get_by_role("columnheader", name="Class")
    names.get_by_role("button").click()
    expect(found).to_have_attribute("aria-sort", "none")
    first = table.get_by_role("rowheader").first
    last = table.get_by_role("rowheader").last
    in_order = "([a, b]) => a.localeCompare(b, undefined, { numeric: true }) <= 0"
    assert page.evaluate(in_order, [first.inner_text(), last.inner_text()])


def test_everything_that_works_by_mouse_is_reached_by_keyboard(open_report: Open) -> None:
    page = open_report(24).page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the figures")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        at = page.evaluate(
            "(({ tagName, id, className, parentElement }) =>"
            " [tagName, id || className || parentElement.tagName].join(' '))"
            "(document.activeElement)"
        )
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert at.startswith("BODY") or outline != "none", at
        reached.add(at)
    stops = {"INPUT from", "BUTTON DIV", "DIV matrix named", "DIV scroll", "BUTTON TH"}
    assert stops <= reached


def test_the_slider_walks_along_the_curve_and_reads_it_out(open_report: Open) -> None:
    page = open_report(24).page
    slider, words = page.get_by_role("slider"), page.locator("#taken")
    slider.press("End")
    expect(words).to_contain_text(
        "100.0\N{NO-BREAK SPACE}% of the predictions are accepted without review"
    )
    at_end = page.locator("#sure .dot.chosen").bounding_box()
    slider.press("Home")
    expect(words).not_to_contain_text("100.0\N{NO-BREAK SPACE}% of the predictions")
    at_start = page.locator("#sure .dot.chosen").bounding_box()
    assert at_start is not None
    assert at_end is not None
    assert at_start["x"] < at_end["x"]


def test_the_matrix_of_196_classes_is_seen_whole_and_magnified_until_it_can_be_read(
    open_report: Open,
) -> None:
    page = open_report(196).page
    matrix = page.locator(".matrix")
    whole = matrix.bounding_box()
    drawing_size = page.locator(".matrix svg").bounding_box()
    assert whole is not None
    assert drawing_size is not None
    assert drawing_size["height"] <= DESKTOP["height"]
    assert drawing_size["width"] <= whole["width"]
    labels = matrix.locator(".rows li")
    expect(labels.first).to_be_hidden()
    matrix.focus()
    for _ in range(5):
        page.keyboard.press("+")
    expect(labels.first).to_be_visible()
    for _ in range(100):
        page.keyboard.press("ArrowRight")
    here = matrix.locator(".rows li.here")
    expect(here).to_be_in_viewport()
    said = page.locator("#cell").inner_text()
    assert here.inner_text() in said
    cursor = page.locator(".matrix .cursor").bounding_box()
    magnified = matrix.bounding_box()
    assert cursor is not None
    assert magnified is not None
    sides: tuple[tuple[Literal["x", "y"], Literal["width", "height"]], ...] = (
        ("x", "width"),
        ("y", "height"),
    )
    for edge, side in sides:
        assert magnified[edge] <= cursor[edge] <= magnified[edge] + magnified[side]
    if folder := os.environ.get("DROPLENS_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "matrix-magnified.png")
    page.get_by_role("button", name="Show the whole matrix").click()
    expect(labels.first).to_be_hidden()


def test_the_matrix_is_read_out_under_the_pointer(open_report: Open) -> None:
    page = open_report(24).page
    wrong = page.locator(".matrix rect.wrong").first
    wrong.scroll_into_view_if_needed()
    wrong.hover()
    column, row = (int(wrong.get_attribute(name) or -1) for name in ("x", "y"))
    expect(page.locator("#cell")).to_contain_text(", predicted ")
    expect(page.locator(".matrix .rows li.here")).to_have_text(
        page.locator(".matrix .rows li").nth(row).inner_text()
    )
    expect(page.locator(".matrix .columns li.here")).to_have_text(
        page.locator(".matrix .columns li").nth(column).inner_text()
    )


def test_on_paper_it_keeps_to_the_page(open_report: Open) -> None:
    page = open_report(24).page
    page.emulate_media(media="print", color_scheme="dark")
    expect(page.get_by_role("navigation")).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    assert page.pdf().startswith(b"%PDF")


def test_without_its_script_the_figures_are_all_there(
    browser: Browser, reports: dict[int, Path]
) -> None:
    context = browser.new_context(java_script_enabled=False, viewport=PHONE)
    page = context.new_page()
    page.goto(reports[24].as_uri())
    assert page.get_by_role("table", name="Every class").get_by_role("row").count() == 25
    expect(page.locator(".matrix svg")).to_be_visible()
    expect(page.get_by_role("button", name="Magnify the matrix")).to_be_hidden()
    context.close()


def test_class_maps_are_shown_over_the_images_on_request(open_report: Open) -> None:
    """By keyboard, in one gallery, without moving anything."""
    seen = open_report(24)
    section = seen.page.locator("#mistakes")
    image, drawn = section.locator(".explained img").first, section.locator(".map").first
    expect(drawn).to_be_hidden()
    switch = section.get_by_role("checkbox", name="Show what speaks for the predicted class")
    switch.focus()  # scrolls
    before = image.bounding_box()
    switch.press("Space")
    expect(drawn).to_be_visible()
    words = re.compile("^What speaks for .+, most of all middle right$")
    expect(drawn).to_have_attribute("alt", words)
    assert drawn.bounding_box() == image.bounding_box() == before
    expect(seen.page.locator("#unsure .map").first).to_be_hidden()
    if folder := os.environ.get("DROPLENS_SCREENSHOTS"):
        section.screenshot(path=Path(folder) / "class-maps.png")
