import base64
import json
import re
import tarfile
from html.parser import HTMLParser
from io import BytesIO

import pytest
from PIL import Image

from droplens import layout
from droplens.packed import read_packed
from droplens.reportpage.confusion import order, pairs
from droplens.reportpage.gallery import GALLERY, SIDE, thumbnail, wanted
from droplens.reportpage.page import render
from droplens.reportpage.publish import publish
from droplens.telemetry import metrics
from tests.unit.layer.account import BUCKET, Cloud
from tests.unit.layer.evaluations import HOSTILE, PROBE, class_names, dataset, evaluation
from tests.unit.layer.made import RUN, jpeg, pack

ARTEFACT = f"s3://{BUCKET}/training/cars/{RUN.run_id}/job/output/model.tar.gz"

CHARTS = 5  # reliability before and after, coverage, and two of the training


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_answer_and_its_uncertainty_come_first() -> None:
    found = evaluation(class_names(10))
    text = Page(render(found)).text
    share = f"{found['accuracy']['value']:.1%}"
    assert f"{share} of pictures it had never seen are answered rightly." in text
    low, high = found["accuracy"]["low"], found["accuracy"]["high"]
    assert f"between {low:.1%} and {high:.1%}" in text


def test_names_from_strangers_add_no_element_and_no_attribute() -> None:
    tame = [f"name {number}" for number in range(len(HOSTILE))]
    pages = [
        Page(render(evaluation(names), dataset=dataset(names), training=PROBE))
        for names in (tame, list(HOSTILE))
    ]
    shapes = [[(tag, sorted(given)) for tag, given in page.elements] for page in pages]
    assert shapes[0] == shapes[1]
    assert HOSTILE[0] in pages[1].text  # as words


def test_every_name_keeps_its_direction_to_itself() -> None:
    page = render(evaluation(list(HOSTILE)), dataset=dataset(list(HOSTILE))).decode()
    outside = re.sub(r"<bdi>[^<]*</bdi>|<script.*?</script>", "", page, flags=re.DOTALL)
    assert "\u202e" in page
    assert "\u202e" not in outside


def test_only_its_own_style_and_script_may_run() -> None:
    page = Page(render(evaluation(class_names(10))))
    policy = next(meta["content"] or "" for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not [given for _, given in page.elements if "style" in given]
    addresses = [given.get("src") or given.get("href") or "#" for _, given in page.elements]
    assert all(address.startswith(("#", "data:")) for address in addresses)


def test_a_refused_candidate_is_told_so_and_why() -> None:
    refused = {"status": "refused", "code": "accuracy.too_low", "reason": "40% is not enough"}
    assert (
        "Refused: 40% is not enough."
        in Page(render(evaluation(class_names(4), decision=refused))).text
    )


def test_the_first_model_has_nothing_to_be_compared_with() -> None:
    assert "this is the first" in Page(render(evaluation(class_names(4), comparison=None))).text


def test_where_nothing_can_be_relied_on_a_person_looks_at_every_answer() -> None:
    found = evaluation(class_names(4), per_class=5)
    assert found["confident"]["threshold"] is None
    assert "Let a person look at every answer." in Page(render(found)).text


def test_a_pair_that_makes_the_mistakes_is_named() -> None:
    found = evaluation(["Audi", "BMW"], per_class=60)
    assert re.search(
        r"Audi and BMW are taken for each other in \d+ of the", Page(render(found)).text
    )


@pytest.mark.parametrize(
    "training",
    [
        PROBE,
        {
            "recipe": "finetune",
            "accuracy": {"train": 0.9, "validation": 0.8},
            "epochs": [
                {"epoch": 1, "train_accuracy": 0.5, "validation_accuracy": 0.4, "train_loss": 1.9},
                {"epoch": 2, "train_accuracy": 0.7, "validation_accuracy": 0.6, "train_loss": 1.2},
            ],
        },
    ],
    ids=["penalties", "epochs"],
)
def test_the_training_is_drawn_as_two_curves(training: dict[str, object]) -> None:
    charts = [
        len(Page(render(evaluation(class_names(4)), training=given)).all("svg"))
        for given in (None, training)
    ]
    assert charts[1] == charts[0] + 2


def test_the_pictures_shown_are_the_worst_and_the_least_sure() -> None:
    found = evaluation(class_names(40))
    chosen = wanted(found)
    assert len(chosen) <= 2 * GALLERY
    wrong = [a for a in found["answers"] if a["top"][0][0] != a["truth"]]
    assert max(wrong, key=lambda a: a["top"][0][1])["record"] in chosen
    assert min(found["answers"], key=lambda a: a["top"][0][1])["record"] in chosen


def test_a_thumbnail_is_a_small_jpeg_inside_the_page() -> None:
    small = thumbnail(jpeg(size=(500, 300)))
    with Image.open(BytesIO(small)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (SIDE, round(SIDE * 3 / 5)))
    found = evaluation(class_names(4))
    images = Page(render(found, thumbnails={wanted(found)[0]: small})).all("img")
    assert images
    assert images[0]["src"] == f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"


def test_a_page_of_196_classes_with_all_its_pictures_stays_below_two_megabytes() -> None:
    names = class_names(196)
    found = evaluation(names, per_class=20)
    noise = BytesIO()
    Image.effect_noise((SIDE, SIDE), 90).convert("RGB").save(noise, "JPEG", quality=70)
    pictures = dict.fromkeys(wanted(found), noise.getvalue())
    page = render(found, dataset=dataset(names), training=PROBE, thumbnails=pictures)
    assert len(page) < 2_000_000


def test_confused_classes_stand_beside_each_other() -> None:
    cells = [(0, 0, 5), (0, 4, 3), (4, 0, 1), (1, 1, 9), (2, 5, 2), (3, 3, 1), (5, 4, 1)]
    placed = order(6, cells)
    assert sorted(placed) == list(range(6))
    assert abs(placed.index(0) - placed.index(4)) == 1
    assert abs(placed.index(2) - placed.index(5)) == 1
    assert placed[-2:] == [1, 3]  # confused with nothing


def test_pairs_count_both_directions_and_begin_with_the_most_confused() -> None:
    assert pairs([(0, 1, 2), (1, 0, 2), (2, 0, 3), (1, 1, 9)]) == [(0, 1, 4), (0, 2, 3)]


def published(cloud: Cloud, model_data: str = ARTEFACT) -> str | None:
    found = evaluation(["blue", "red"], classifier=RUN.classifier, run_id=RUN.run_id)
    return publish(cloud.bucket, read_packed(cloud.bucket, RUN), found, model_data)


def artefact(*files: tuple[str, bytes]) -> bytes:
    """As SageMaker packs what the trainer left."""
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    return packed.getvalue()


def test_the_page_stands_beside_its_evaluation_with_pictures_and_curves(cloud: Cloud) -> None:
    pack(cloud)
    model = artefact(("model.onnx", b"\0" * 100_000), ("training.json", json.dumps(PROBE).encode()))
    cloud.put(ARTEFACT.partition(f"{cloud.bucket.name}/")[2], model)
    key = published(cloud)
    assert key == layout.report_key(RUN.classifier, RUN.run_id)
    stored = cloud.s3.get_object(Bucket=cloud.bucket.name, Key=key)
    assert stored["ContentType"] == "text/html; charset=utf-8"
    page = Page(stored["Body"].read())
    assert len(page.all("img")) == len(page.all("figcaption")) - CHARTS
    assert "Recipe “probe”" in page.text


@pytest.mark.parametrize("stored", [False, True], ids=["no artefact", "one of another trainer"])
def test_without_training_json_the_page_does_without_curves(cloud: Cloud, *, stored: bool) -> None:
    pack(cloud)
    if stored:
        cloud.put(ARTEFACT.partition(f"{cloud.bucket.name}/")[2], artefact(("model.params", b"x")))
    key = published(cloud)
    assert key is not None
    page = Page(cloud.bucket.read(key)[0])
    assert "How it was trained" not in page.text
    assert page.all("img")


def test_a_page_that_cannot_be_made_stops_nobody_and_is_heard_of(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    pack(cloud)
    cloud.put(ARTEFACT.partition(f"{cloud.bucket.name}/")[2], b"not an archive")
    assert published(cloud) is None
    assert "the report could not be made" in caplog.text
    assert metrics.metric_set.pop("ReportFailed")["Value"] == [1.0]
