"""Photos get answers, and ten are reviewed by single keys: in a real Chromium, on a running cloud.

With DROPLENS_SCREENSHOTS naming a folder, every page is kept there.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from playwright.sync_api import Browser, ViewportSize, expect

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.review import NONE, review_of
from droplens.state.reviews import Reviews
from tests.support import console_in_browser
from tests.support.browser import SEEN_AS, Scheme
from tests.support.console_in_browser import Seen, decide, next_image, tab
from tests.support.deployed_cloud import CLASSES, Cloud
from tests.support.drawn_images import drawing

IMAGES = 10
AGAIN = "(item) => document.querySelector('#review').dataset.item === item"
FOLDER = "input/patterns/reviewed/"


@pytest.fixture(scope="module")
def address(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        cache = str(tmp_path_factory.mktemp("cache"))
        patch.setitem(cloud.environment, "XDG_CACHE_HOME", cache)
        patch.setitem(cloud.environment, "DROPLENS_REVIEWER", "ada")
        with console_in_browser.served(cloud) as found:
            yield found


@pytest.fixture(scope="module")
def waiting(cloud: Cloud, live_patterns: dict[str, Any]) -> Iterator[Reviews]:
    """Ten images of "patterns" that were classified, and wait for a person."""
    assert live_patterns["status"] == "live"
    names = [f"{CLASSES[number % 3]}-{number}.jpg" for number in range(IMAGES)]
    for number, name in enumerate(names):
        label = name.partition("-")[0]
        cloud.put(f"{FOLDER}{name}", drawing(label, 8800 + number))
    session = boto3.Session(
        cloud.keys["AWS_ACCESS_KEY_ID"],
        cloud.keys["AWS_SECRET_ACCESS_KEY"],
        region_name=cloud.keys["AWS_REGION"],
    )
    table = session.resource("dynamodb", endpoint_url=cloud.url).Table(
        cloud.outputs["ReviewsTableName"]
    )
    reviews = Reviews(table, Bucket(cloud.client("s3"), cloud.bucket))
    for name in names:
        key = f"results/patterns/reviewed/{name}.json"
        # A spot check of every image: the model is confident of most.
        review = review_of(cloud.result(key), key, 1.0)
        assert review is not None
        reviews.enter(review)
    yield reviews
    for entry in reviews.bucket.entries(layout.corrections_prefix("patterns")):
        cloud.client("s3").delete_object(Bucket=cloud.bucket, Key=entry.key)


def test_ten_images_are_reviewed_by_single_keys(cloud: Cloud, seen: Seen, waiting: Reviews) -> None:
    page = seen.open("/review/patterns")
    before = ""
    decided: dict[str, str] = {}
    while len(decided) < IMAGES:
        before = next_image(page, before)
        key = page.locator("#caption").inner_text()
        if not key.startswith(FOLDER):  # another test's
            page.keyboard.press("s")
            continue
        label, number = key.rpartition("/")[2].partition("-")[0], len(decided)
        if number == 3:  # by its name
            page.keyboard.press("/")
            page.keyboard.type(label)
            page.keyboard.press("Enter")
        elif number == 5:  # a slip of the finger, undone
            page.keyboard.press("0")
            next_image(page, before)
            page.keyboard.press("u")
            page.wait_for_function(AGAIN, arg=before)
            decide(page, label)
        elif number == 7:
            page.keyboard.press("0")
            label = NONE
        else:
            decide(page, label)
        decided[key] = label
    expect(page.locator("#count")).to_have_text(str(IMAGES), timeout=30_000)
    expect(page.locator("#left")).to_have_text(re.compile("^[0-9]+$"))
    assert seen.complaints == []
    kept = {review.key: review for review in waiting.decisions("patterns").reviews}
    assert {key: kept[key].label for key in decided} == decided
    assert {kept[key].reviewer for key in decided} == {"ada"}
    prefix = layout.corrections_prefix("patterns")
    labels = Counter(
        entry.key.removeprefix(prefix).partition("/")[0] for entry in waiting.bucket.entries(prefix)
    )
    assert labels == Counter(decided.values())


def test_a_dropped_photo_gets_its_answer_and_what_speaks_for_it(
    seen: Seen, live_patterns: dict[str, Any], tmp_path: Path
) -> None:
    photo = tmp_path / "a photo.jpg"
    photo.write_bytes(drawing("rings", 8900))
    page = seen.open("/try")
    page.locator("#wanted").select_option("patterns")
    page.locator("#photo").set_input_files(photo)
    expect(page.locator("#answer strong")).to_have_text("rings", timeout=120_000)
    page.get_by_role("link", name="The whole result").click()
    page.get_by_role("link", name="Show what speaks for the class").click()
    drawn = page.get_by_role("img", name="What speaks for rings")
    expect(drawn).to_be_visible()
    assert drawn.evaluate("(image) => image.naturalWidth") > 0
    seen.screenshot("result")
    seen.check()


def test_a_dropped_folder_is_checked_before_anything_is_sent(
    cloud: Cloud, seen: Seen, tmp_path: Path
) -> None:
    for label in CLASSES:
        (tmp_path / "dropped" / label).mkdir(parents=True)
        for number in range(3):
            image = drawing(label, 8950 + number)
            (tmp_path / "dropped" / label / f"{number}.jpg").write_bytes(image)
    page = seen.open("/try")
    page.locator("#folder").set_input_files(tmp_path / "dropped")
    expect(page.get_by_role("table", name="Classes").get_by_role("row")).to_have_count(
        4, timeout=120_000
    )
    expect(page.locator("#dataset")).to_contain_text("9 pictures of 3 classes")
    expect(page.get_by_role("button", name="Upload it")).to_be_visible()
    seen.screenshot("try")
    seen.check()
    assert (
        cloud.client("s3")
        .list_objects_v2(Bucket=cloud.bucket, Prefix="datasets/dropped/")
        .get("KeyCount")
        == 0
    )


@pytest.mark.parametrize(("scheme", "viewport"), SEEN_AS[::3])
def test_pages_can_be_read_in_every_light_and_width(
    browser: Browser,
    address: str,
    waiting: Reviews,
    live_patterns: dict[str, Any],
    scheme: Scheme,
    viewport: ViewportSize,
) -> None:
    pages = {
        "review": "/review/patterns",
        "decisions": "/review/patterns/decisions",
        "results": "/results/patterns",
        "suspects": f"/suspects/patterns/{live_patterns['run_id']}",
    }
    with tab(browser, address, scheme, viewport) as seen:
        for name, path in pages.items():
            page = seen.open(path)
            expect(page.locator("h1")).to_be_visible()
            seen.screenshot(f"{name}-{scheme}-{viewport['width']}")
            # The browser says so of the page of a run without suspects.
            seen.complaints[:] = [one for one in seen.complaints if "404" not in one]
            seen.check()
