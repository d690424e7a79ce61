"""How many images a minute a practised hand reviews: in Chromium, by what the page shows.

The driver looks at the page as a person does: it waits until the next image is seen, thinks, and
presses a key. Of every ten images it searches the class of one by its name.
"""

import random
import time
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.classify.pictures import jpegs
from benchmarks.console.images import CLASSES, CLASSIFIER, RUN_ID, result
from benchmarks.console.stack import Served
from benchmarks.harness import quartiles
from droplens.domain import layout
from droplens.domain.card import Measurement, ModelCard
from droplens.domain.result import to_json
from droplens.domain.review import review_of
from droplens.imaging.prepare import Preprocessing

SIDE = 640
ONE_OF = 10  # images whose class is searched
SECONDS_PER_KEY = 0.15  # of a typist with 400 keys a minute
# The image that is seen is another one, and is drawn completely.
_NEXT = """(before) => {
  const image = document.querySelector("#photo img");
  return image && image.complete && image.naturalWidth > 0 && image.src !== before;
}"""
_SEEN = "document.querySelector('#photo img').src"


@dataclass(frozen=True, slots=True)
class Pace:
    """thinking: mean seconds from when an image is seen until the first key."""

    thinking: float
    images: int


def enter(served: Served, count: int) -> None:
    """Put images into the bucket and into the queue, and the model that has predicted them."""
    card = ModelCard(
        classifier=CLASSIFIER,
        run_id=RUN_ID,
        endpoint="e",
        trainer="droplens",
        classes=CLASSES,
        preprocessing=Preprocessing(shorter_side=224),
        measured=Measurement(
            pictures=1, available=1, accuracy=0.9, top5=1, latency_ms_p50=1, latency_ms_p95=1
        ),
        confident_from=None,
        promoted_at="2026-11-22T12:00:00+00:00",
    )
    client: Any = served.bucket.client
    served.bucket.write_json(layout.live_card_key(CLASSIFIER), card.to_json())
    reviews, entered = served.reviews(), 0
    for number, image in enumerate(jpegs(3 * count, SIDE)):
        key = f"input/{CLASSIFIER}/{number:05}.jpg"
        predicted = result(number, key)
        if entered == count or predicted["status"] != "classified":
            continue
        predicted["prediction"]["confident"] = False
        stored = client.put_object(Bucket=served.bucket.name, Key=key, Body=image)
        predicted["image"]["version_id"] = stored["VersionId"]
        place = layout.result_key(key, CLASSIFIER)
        served.bucket.write_json(place, to_json(predicted))
        found = review_of(predicted, place, 0.0)
        assert found is not None
        entered += reviews.enter(found)


def measure(address: str, chromium: str, pace: Pace) -> dict[str, Any]:
    """The figures of one reviewer. address: of the console, with its token."""
    choose = random.Random(0)
    waits, thought = [], 0.0
    with sync_playwright() as playwright:
        # Chromium's own sandbox cannot be set up by root, and the pages are ours.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(address)
        page.wait_for_url("**/")
        page.goto(f"{page.url}review/{CLASSIFIER}")
        page.wait_for_function(_NEXT, arg="")
        began = time.monotonic()
        for number in range(pace.images):
            before = page.evaluate(_SEEN)
            thinking = pace.thinking * choose.uniform(0.5, 1.5)
            time.sleep(thinking)
            thought += thinking + _answer(page, choose, number)
            pressed = time.monotonic()
            if number == pace.images - 1:
                break
            page.wait_for_function(_NEXT, arg=before, polling="raf")
            waits.append(time.monotonic() - pressed)
        minutes = (time.monotonic() - began) / 60
        page.wait_for_function(
            "(count) => Number(document.querySelector('#count').textContent) === count",
            arg=pace.images,
        )
        saved_after = time.monotonic() - pressed
        browser.close()
    return {
        "images": pace.images,
        "images_per_minute": round(pace.images / minutes, 1),
        "thinking_seconds": pace.thinking,
        "searched": pace.images // ONE_OF,
        "seconds_per_key": SECONDS_PER_KEY,
        "person_seconds_per_image": round(thought / pace.images, 3),
        "next_image_ms": quartiles([1000 * wait for wait in waits]),
        "next_image_ms_p95": round(1000 * sorted(waits)[int(0.95 * len(waits))], 1),
        "page_share": round(sum(waits) / (60 * minutes), 4),
        "last_saved_after_ms": round(1000 * saved_after, 1),
    }


def _answer(page: Page, choose: random.Random, number: int) -> float:
    """Press the keys of one decision; returns the seconds that a person needs for them."""
    if number % ONE_OF != ONE_OF - 1:
        page.keyboard.press(choose.choice("1112345"))
        return 0.0
    words = choose.choice(CLASSES).removeprefix("class ")
    for key in ("/", *words):
        page.keyboard.press(key)
        time.sleep(SECONDS_PER_KEY)
    page.keyboard.press("Enter")
    return SECONDS_PER_KEY * (1 + len(words))
