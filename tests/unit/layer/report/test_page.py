import base64
import json
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from droplens.domain import layout
from droplens.evaluation.artefact import read_artefact
from droplens.evaluation.evaluation import Prediction, cross_validation, evaluate
from droplens.report.confusion import order, pairs
from droplens.report.gallery import GALLERY, SIDE, thumbnail, wanted
from droplens.report.page import render
from droplens.report.publish import publish
from droplens.report.suspects import PAIR_SIDE, SHOWN, Suspects, typical_records
from droplens.runtime.telemetry import metrics
from droplens.state.packed import read_packed
from tests.support.aws_account import BUCKET, Cloud
from tests.support.builders import RUN, artefact, jpeg, pack
from tests.support.evaluations import (
    HOSTILE,
    PROBE,
    candidates,
    class_names,
    dataset,
    evaluation,
    familiarity,
    suspects,
)

ARTEFACT = f"s3://{BUCKET}/training/cars/{RUN.run_id}/job/output/model.tar.gz"


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
        self.text += data.replace("\N{NO-BREAK SPACE}", " ")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_answer_and_its_uncertainty_come_first() -> None:
    found = evaluation(class_names(10))
    text = Page(render(found)).text
    right = sum(count for truth, said, count in found["confusion"] if truth == said)
    low, high = 100 * found["accuracy"]["low"], 100 * found["accuracy"]["high"]
    share = f"{100 * right / 60:.1f} % ({right} of 60; {low:.1f} to {high:.1f})"
    assert f"Validation accuracy {share}" in text


def counted_on(right: int, pictures: int, probability: float = 0.9) -> dict[str, Any]:
    """The evaluation of a model of two classes, with so many pictures predicted correctly."""
    answers = [
        Prediction(
            record=record,
            name=f"{record}.jpg",
            sha256=f"{record:064x}",
            truth=record % 2,
            seconds=0.01,
            probabilities=[probability, 1 - probability][:: 1 if said == 0 else -1],
        )
        for record in range(pictures)
        for said in [record % 2 if record < right else 1 - record % 2]
    ]
    found = evaluate(answers, ("Audi", "BMW"), pictures, 0.95)
    return {**evaluation(["Audi", "BMW"]), **found}


def test_the_headline_has_the_counts_and_the_interval() -> None:
    # Wilson by hand: 119 of 129 is 92.25 %; (0.9225 + 0.0149 -+ 0.0485) / 1.0298.
    text = Page(render(counted_on(119, 129))).text
    assert "Validation accuracy 92.2 % (119 of 129; 86.3 to 95.7)" in text


def test_what_cannot_be_known_from_nine_pictures_is_said_in_place_of_charts() -> None:
    page = Page(render(counted_on(9, 9, probability=1.0)))
    # What is left of the drawings: the matrix. A class of 4 or 5 has a bar where it has 5.
    assert [svg for svg in page.all("svg") if svg.get("class") == "chart"] == []
    assert page.text.count("Too few pictures to tell") == 3
    assert "Calibration error (ECE)Unknown" in page.text
    assert (
        "“confident: false” at any probability, also at 100 %. The reason: too few validation "
        "pictures: 9, and it takes 59 to show that 95 % of the confident predictions are correct."
    ) in page.text
    # Nothing else says anything of the calibration.
    assert "ECE 0" not in page.text


def test_a_class_of_few_pictures_has_counts_in_place_of_shares() -> None:
    page = Page(render(counted_on(9, 9)))
    table = page.text.partition("Most often predicted as")[2]
    assert "BMW4 of 44 of 4" in table
    assert "Audi100 % 100 %100 %5" in table


def test_the_test_accuracy_stands_apart_from_the_validation_accuracy() -> None:
    found = counted_on(9, 9)
    assert "Test accuracy" not in Page(render(found)).text
    share = {"value": 0.75, "low": 0.5313, "high": 0.8881}
    found["test"] = {"pictures": 20, "available": 400, "right": 15, "accuracy": share}
    text = Page(render(found)).text
    # Wilson by hand: (0.75 + 0.0960 -+ 0.2127) / 1.1921.
    assert "Test accuracy 75.0 % (15 of 20; 53.1 to 88.8), measured on" in text
    assert text.index("Validation accuracy") < text.index("Test accuracy")
    assert "20: a stratified sample of the 400 test pictures" in text


def test_the_cross_validated_accuracy_is_the_second_line_and_called_so() -> None:
    found = counted_on(9, 9)
    assert "Cross-validation" not in Page(render(found)).text
    found["cross_validation"] = cross_validation(
        {"cross_validation": {"left_out": 36, "accuracy": 34 / 36}}
    )
    text = Page(render(found)).text
    # Wilson by hand: 34 of 36 is 94.44 %; (0.9444 + 0.0534 -+ 0.0917) / 1.1067.
    assert (
        "Cross-validation accuracy on the training pictures (leave-one-out): "
        "94.4 % (34 of 36; 81.9 to 98.5)"
    ) in text
    assert "not measured through the endpoint" in text
    assert text.index("Validation accuracy") < text.index("Cross-validation accuracy")


CALIBRATION: dict[str, Any] = {
    "method": "temperature and uniform",
    "parameters": {"temperature": 1.4, "uniform": 0.01},
    "fitted_on": 200,
    "judged_on": 200,
    "ece_noise_floor": 0.03,
    "ece_noise_limit": 0.05,
}


@pytest.mark.parametrize(
    ("before", "after", "effect", "level"),
    [
        (0.045, 0.049, "within noise: neither a gain nor a harm", "this is within noise"),
        (0.060, 0.035, "within noise: neither a gain nor a harm", "this is within noise"),
        (0.100, 0.040, "It lowered the error.", "this is within noise"),
        (0.100, 0.060, "It lowered the error.", "this is more than noise"),
        (0.060, 0.100, "It raised the error", "this is more than noise"),
    ],
)
def test_a_calibration_error_within_noise_is_neither_gain_nor_harm(
    before: float, after: float, effect: str, level: str
) -> None:
    found = counted_on(380, 400)
    found["calibration"] |= {**CALIBRATION, "ece_before": before, "ece_after": after}
    text = Page(render(found)).text
    effects = ("neither a gain", "It lowered the error", "It raised the error")
    assert [each for each in effects if each in text] == [
        each for each in effects if each in effect
    ]
    assert effect in text
    assert level in text


def test_probabilities_are_called_wrong_only_beyond_noise() -> None:
    found = counted_on(380, 400)
    warned = []
    for error, floor, limit in ((0.09, 0.03, 0.05), (0.09, 0.03, 0.1), (0.055, 0.03, 0.05)):
        found["calibration"] |= {
            "ece_after": error,
            "ece_noise_floor": floor,
            "ece_noise_limit": limit,
        }
        warned.append("Do not take the probabilities literally" in Page(render(found)).text)
    assert warned == [True, False, False]


def test_without_a_map_there_is_one_diagram() -> None:
    found = counted_on(95, 98)
    assert found["calibration"]["method"] == "none"
    found["calibration"]["judged_on"] = 50
    text = Page(render(found)).text
    assert "The model's own probabilities: ECE" in text
    assert "After calibration" not in text


def test_an_evaluation_of_an_earlier_version_has_no_section_on_what_is_unknown() -> None:
    found = evaluation(class_names(4))
    for section in ("familiarity", "candidates", "suspects"):
        found.pop(section, None)
    text = Page(render(found)).text
    assert "What it does not know" not in text
    assert "Calibration and confidence" in text


def test_the_limit_of_novelty_is_told_with_what_lies_above_it() -> None:
    found = evaluation(class_names(4)) | {"familiarity": familiarity(), "candidates": None}
    page = Page(render(found))
    text = page.text.partition("Pictures of something else")[2].partition("Confusion matrix")[0]
    # Wilson by hand: 5 of 400 is 1.25 %; (0.0125 + 0.0048 -+ 0.0135) / 1.0096.
    assert "about 1 % of the model's own pictures lie above it" in text
    assert "of the validation pictures 1.2 % (5 of 400; 0.5 to 2.9) do" in text
    assert "on 1,600 training pictures, each compared with all others" in text


def test_the_distribution_of_novelty_is_drawn_up_to_its_limit_and_beyond() -> None:
    found = evaluation(class_names(4)) | {"familiarity": familiarity(), "candidates": None}
    section = render(found).decode().partition('id="unknown"')[2].partition("</section>")[0]
    bars = re.findall(
        r'class="bar (?:own|beyond)"[^>]* x="([\d.]+)"[^>]* height="([\d.]+)"', section
    )
    # A bar has a sixteenth of the limit: 8 of them between 0.5 and 1, and some of the last 1 %.
    heights = [float(height) for _, height in bars]
    assert len([height for height in heights if height > 5]) == 8
    assert max(heights[:8]) - min(heights[:8]) < 3
    assert 0 < section.count('class="bar beyond"') <= 8


@pytest.mark.parametrize("left_out", [0, 1600])
def test_a_limit_without_training_pictures_says_why(left_out: int) -> None:
    why = "its novelties of validation pictures differ from those of training"
    section = familiarity(left_out=left_out, note=None if left_out else why)
    text = Page(render(evaluation(class_names(4)) | {"familiarity": section})).text
    assert (f"It rests on these alone: {why}." in text) == (left_out == 0)


def test_a_model_that_cannot_tell_says_so() -> None:
    reason = "the model does not compute how novel a picture is"
    section = familiarity(limit=None, share=None, quantiles=None, reason=reason)
    none = candidates(
        method=None, parameters={}, coverage=None, sizes=[], reason="too few pictures"
    )
    found = evaluation(class_names(4)) | {"familiarity": section, "candidates": none}
    text = Page(render(found)).text
    assert f"cannot tell whether a picture is like its own: {reason}." in text
    assert "There are no label sets: too few pictures." in text


def test_the_sizes_of_label_sets_are_told_and_drawn() -> None:
    found = evaluation(class_names(24)) | {"familiarity": None, "candidates": candidates()}
    page = Page(render(found))
    text = page.text.partition("One of these")[2].partition("Confusion matrix")[0]
    assert "in at least 95 % of pictures like the model's own" in text
    assert "it was in 95.2 % (92.7 to 96.9). On average there are 1.6 candidates" in text
    assert "75.0 % of the pictures have a single one" in text
    assert "10 or more102.5 %" in text  # the rows of the table have no space between cells


def test_thresholds_that_differ_by_class_are_told_with_their_range() -> None:
    found = counted_on(396, 400)
    assert "Classes differ" not in Page(render(found)).text
    found["confident"]["by_class"] = {"Audi": 0.71, "BMW": 1.02}
    assert "Classes differ: it is 71.0 % to 100.0 %." in Page(render(found)).text


def test_a_gallery_says_what_was_predicted_and_what_it_is() -> None:
    text = Page(render(counted_on(59, 60, probability=0.884))).text
    assert "Predicted Audi (88.4 %), actual BMW" in text
    assert "Predicted BMW (88.4 %), correct" in text


def test_the_gate_is_stated_with_its_figures() -> None:
    text = Page(render(evaluation(class_names(4)))).text
    assert (
        "Passed the gate: MinimumAccuracy asks for 50 %, and the lower end of the 95 % interval "
        "is 65.3 %."
    ) in text
    as_counted = {"minimum_accuracy": 0.5, "accuracy_confidence": 0.0, "lower_end": 0.7}
    text = Page(render(evaluation(class_names(4), gate=as_counted))).text
    assert "Passed the gate: MinimumAccuracy asks for 50 %." in text


def test_a_changed_class_list_is_told_with_what_was_compared() -> None:
    found = evaluation(class_names(4))
    found["comparison"] |= {
        "method": "unpaired",
        "same_task": False,
        "classes": 3,
        "classes_added": 1,
        "classes_removed": 2,
        "pictures": 0,
        "pictures_before": 50,
        "pictures_after": 40,
        "right_before": 45,
        "right_after": 30,
        "p_value": None,
        "difference": {"value": -0.15, "low": -0.31, "high": 0.004},
    }
    text = Page(render(found)).text
    assert (
        "The class list has changed (1 is new and 2 are gone), so the two were compared on "
        "pictures of the 3 classes that both know."
    ) in text
    # Wilson: 45 of 50, 78.6 to 95.7; 30 of 40, 59.8 to 85.8.
    assert "90.0 % (45 of 50; 78.6 to 95.7)" in text
    assert "75.0 % (30 of 40; 59.8 to 85.8)" in text
    assert "within chance" in text


@pytest.mark.parametrize(
    ("classes", "why"),
    [(0, "no class in common"), (2, "no measured pictures of the live model")],
)
def test_where_nothing_can_be_compared_the_page_says_why(classes: int, why: str) -> None:
    found = evaluation(class_names(4))
    found["comparison"] |= {
        "method": "none",
        "same_task": False,
        "classes": classes,
        "difference": None,
    }
    assert why in Page(render(found)).text


def test_names_from_strangers_add_no_element_and_no_attribute() -> None:
    tame = [f"name {number}" for number in range(len(HOSTILE))]
    pages = [
        Page(
            render(
                evaluation(names),
                dataset=dataset(names),
                training=PROBE,
                to_check=Suspects(suspects(names)),
            )
        )
        for names in (tame, list(HOSTILE))
    ]
    shapes = [[(tag, sorted(given)) for tag, given in page.elements] for page in pages]
    assert shapes[0] == shapes[1]
    assert HOSTILE[0] in pages[1].text  # as words


def test_every_name_keeps_its_direction_to_itself() -> None:
    names = list(HOSTILE)
    found = Suspects(suspects(names))
    page = render(evaluation(names), dataset=dataset(names), to_check=found).decode()
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
    assert "Review every prediction." in Page(render(found)).text


def test_a_pair_that_makes_the_mistakes_is_named() -> None:
    found = evaluation(["Audi", "BMW"], per_class=60)
    assert re.search(
        r"Audi and BMW are confused with each other in \d+ of the", Page(render(found)).text
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


def noise(side: int) -> bytes:
    """A JPEG that compresses badly."""
    out = BytesIO()
    Image.effect_noise((side, side), 90).convert("RGB").save(out, "JPEG", quality=70)
    return out.getvalue()


def test_a_page_of_196_classes_with_all_its_pictures_stays_below_two_megabytes() -> None:
    names = class_names(196)
    found = evaluation(names, per_class=20)
    small = noise(PAIR_SIDE)
    to_check = Suspects(
        suspects(names), dict.fromkeys(range(SHOWN), small), dict.fromkeys(names, small)
    )
    page = render(
        found,
        dataset=dataset(names),
        training=PROBE,
        thumbnails=dict.fromkeys(wanted(found), noise(SIDE)),
        to_check=to_check,
    )
    assert len(Page(page).all("img")) == 2 * GALLERY + 2 * SHOWN
    assert len(page) < 2_000_000


def test_a_label_to_check_stands_with_the_class_that_is_likely() -> None:
    found = evaluation(["Audi", "BMW"])
    assert "Labels to check" not in Page(render(found)).text
    found["suspects"] = {"suspects": 60}
    text = Page(render(found, to_check=Suspects(suspects(["Audi", "BMW"])))).text
    assert "60 were predicted as another class than the label says; these 50 are those" in text
    assert text.count("Labelled Audi") == text.count("Labelled BMW") == SHOWN / 2
    assert "Labelled Audi (0.1 %), more like BMW (99.0 %), at the rightAudi/0.jpg" in text
    assert "packed/cars/20261122-120000-1a2b3c/suspects.jsonl lists all of them" in text


@pytest.mark.parametrize(("right", "effect"), [(900, True), (980, False)])
def test_what_wrong_labels_would_change_is_told_where_it_can_be(right: int, effect: bool) -> None:
    found = evaluation(["Audi", "BMW"])
    found["cross_validation"] = cross_validation(
        {"cross_validation": {"left_out": 1000, "accuracy": right / 1000}}
    )
    text = Page(render(found, to_check=Suspects(suspects(["Audi", "BMW"])))).text
    # Wilson by hand: 950 and 900 of 1,000, (0.95 + 0.00192 -+ 0.01365) / 1.00384 the first.
    told = (
        "the cross-validation accuracy is 95.0 % (950 of 1,000; 93.5 to 96.2) in place of "
        "90.0 % (900 of 1,000; 88.0 to 91.7)"
    )
    assert (told in text) == effect


def test_the_typical_image_of_a_class_is_the_most_probable_of_the_correct_ones() -> None:
    found = evaluation(class_names(6), per_class=30)
    names = [each["name"] for each in found["classes"]]
    chosen = typical_records(found, [*names[:2], "a class that is gone"])
    assert set(chosen) == set(names[:2])
    for label, record in chosen.items():
        correct = [
            answer
            for answer in found["answers"]
            if names[answer["truth"]] == label and answer["top"][0][0] == answer["truth"]
        ]
        assert record == max(correct, key=lambda answer: answer["top"][0][1])["record"]


def test_a_class_that_is_never_predicted_correctly_has_no_typical_image() -> None:
    found = evaluation(["Audi", "BMW"])
    for answer in found["answers"]:
        answer["top"][0][0] = 1 - answer["truth"]
    assert typical_records(found, ["Audi", "BMW"]) == {}
    assert "no picture" in Page(render(found, to_check=Suspects(suspects(["Audi", "BMW"])))).text


def test_confused_classes_stand_beside_each_other() -> None:
    cells = [(0, 0, 5), (0, 4, 3), (4, 0, 1), (1, 1, 9), (2, 5, 2), (3, 3, 1), (5, 4, 1)]
    placed = order(6, cells)
    assert sorted(placed) == list(range(6))
    assert abs(placed.index(0) - placed.index(4)) == 1
    assert abs(placed.index(2) - placed.index(5)) == 1
    assert placed[-2:] == [1, 3]  # confused with nothing


def test_pairs_count_both_directions_and_begin_with_the_most_confused() -> None:
    assert pairs([(0, 1, 2), (1, 0, 2), (2, 0, 3), (1, 1, 9)]) == [(0, 1, 4), (0, 2, 3)]


def published(
    cloud: Cloud, model_data: str = ARTEFACT, to_check: Sequence[Mapping[str, Any]] = ()
) -> str | None:
    found = evaluation(["blue", "red"], 50, classifier=RUN.classifier, run_id=RUN.run_id)
    for answer in found["answers"]:
        answer["record"] %= 12
    training = read_artefact(cloud.bucket, model_data, 2).training
    return publish(cloud.bucket, read_packed(cloud.bucket, RUN), found, training, to_check)


def test_the_page_stands_beside_its_evaluation_with_pictures_and_curves(cloud: Cloud) -> None:
    pack(cloud)
    model = artefact(("model.onnx", b"\0" * 100_000), ("training.json", json.dumps(PROBE).encode()))
    cloud.put(ARTEFACT.partition(f"{cloud.bucket.name}/")[2], model)
    key = published(cloud)
    assert key == layout.report_key(RUN.classifier, RUN.run_id)
    stored = cloud.s3.get_object(Bucket=cloud.bucket.name, Key=key)
    assert stored["ContentType"] == "text/html; charset=utf-8"
    page = Page(stored["Body"].read())
    charts = [each for each in page.all("svg") if each.get("class") == "chart"]
    assert len(charts) >= 4  # reliability, coverage, and two of the training
    assert len(page.all("img")) == len(page.all("figcaption")) - len(charts)
    assert "Recipe “probe”" in page.text


def test_the_images_of_labels_to_check_are_read_from_the_training_records(cloud: Cloud) -> None:
    pack(cloud)
    listed = suspects(["blue", "red"], 3)
    listed[0]["record"], listed[1]["record"], listed[2]["record"] = 7, 19, 1_000_000
    key = published(cloud, to_check=listed)
    assert key is not None
    page = Page(cloud.bucket.read(key)[0])
    colours = {}
    for image in page.all("img"):
        assert image["src"] is not None
        data = base64.b64decode(image["src"].partition(",")[2])
        with Image.open(BytesIO(data)) as picture:
            colours[image["alt"]] = picture.convert("RGB").getpixel((5, 5))
    # Odd records are red; the shade falls with the record's number.
    assert colours["Training picture 7"] == pytest.approx((213, 10, 20), abs=3)
    assert colours["Training picture 19"] == pytest.approx((201, 10, 20), abs=3)
    assert "Training picture 1000000" not in colours
    assert "no picture" in page.text


@pytest.mark.parametrize("stored", [False, True], ids=["no artefact", "one of another trainer"])
def test_without_training_json_the_page_does_without_curves(cloud: Cloud, *, stored: bool) -> None:
    pack(cloud)
    if stored:
        cloud.put(ARTEFACT.partition(f"{cloud.bucket.name}/")[2], artefact(("model.params", b"x")))
    key = published(cloud)
    assert key is not None
    page = Page(cloud.bucket.read(key)[0])
    assert "Accuracy as the trainer counted it" not in page.text
    assert page.all("img")


def test_a_page_that_cannot_be_made_stops_nobody_and_is_heard_of(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    pack(cloud)
    cloud.put(f"packed/cars/{RUN.run_id}/validation/validation.idx", b"not an index")
    metrics.metric_set.pop("ReportFailed", None)  # of other tests in this process
    assert published(cloud) is None
    assert "the report could not be made" in caplog.text
    assert metrics.metric_set.pop("ReportFailed")["Value"] == [1.0]
