"""The report on one evaluated candidate: a single HTML file without external resources.

Its input is the evaluation, the packed dataset's manifest and the trainer's training.json. Style
sheet and script are inline; the Content-Security-Policy allows no others.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from droplens.report.advice import advice, standing
from droplens.report.class_map import ClassMap
from droplens.report.classes import classes
from droplens.report.confidence import confidence, within_noise
from droplens.report.confusion import READABLE_CLASSES, confused
from droplens.report.curves import trained
from droplens.report.formatting import (
    FEWEST_TO_CHART,
    correct,
    counted,
    exact_percent,
    names_of,
    percent,
    points,
)
from droplens.report.gallery import gallery, lowest_confidence, most_confident_errors
from droplens.report.health import health
from droplens.report.markup import Child, Element, document, element, name
from droplens.report.suspects import Suspects, suspects
from droplens.report.tables import table
from droplens.report.unknown import unknown

HERE = Path(__file__).parent
CELL = 24  # CSS pixels of a matrix cell with a number

Document = Mapping[str, Any]


def render(
    evaluation: Document,
    *,
    dataset: Document | None = None,
    training: Document | None = None,
    thumbnails: Mapping[int, bytes] | None = None,
    maps: Mapping[int, ClassMap] | None = None,
    to_check: Suspects | None = None,
) -> bytes:
    """The page, as UTF-8 HTML.

    evaluation: evaluation.json; dataset: dataset.json; training: the artefact's training.json,
    each None where there is none. thumbnails: small JPEGs by record id, for the ids of
    `gallery.wanted`; a missing one is left blank. maps: class maps of the same images. to_check:
    training images whose label may be wrong.
    """
    names = names_of(evaluation)
    sections: list[tuple[str, str, list[Child]]] = [
        ("advice", "What to do", [advice(evaluation, dataset)]),
        ("sure", "Calibration and confidence", confidence(evaluation)),
        ("unknown", "What it does not know", unknown(evaluation)),
        ("confused", "Confusion matrix", confused(evaluation)),
        (
            "mistakes",
            "Most confident errors",
            gallery(
                most_confident_errors(evaluation),
                names,
                thumbnails or {},
                maps or {},
                "mistake-maps",
            ),
        ),
        (
            "unsure",
            "Lowest-confidence predictions",
            gallery(
                lowest_confidence(evaluation), names, thumbnails or {}, maps or {}, "unsure-maps"
            ),
        ),
        ("suspects", "Labels to check", suspects(evaluation, to_check)),
        ("classes", "Classes", classes(evaluation, dataset)),
        ("before", "Comparison with the live model", _comparison(evaluation)),
        ("training", "Training", trained(training)),
        ("dataset", "Dataset", health(dataset)),
        ("about", "About these figures", _about(evaluation)),
    ]
    shown = [(key, title, content) for key, title, content in sections if content]
    script = (HERE / "page.js").read_text("utf-8")
    style = "".join(
        [
            (HERE / "tokens.css").read_text("utf-8"),
            (HERE / "page.css").read_text("utf-8"),
            _sizes(len(evaluation["classes"])),
        ]
    )
    policy = (
        f"default-src 'none'; img-src data:; style-src {_allowed(style)}; "
        f"script-src {_allowed(script)}; base-uri 'none'; form-action 'none'"
    )
    accuracy = counted(correct(evaluation), evaluation["pictures"])
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{evaluation['classifier']}: {accuracy} · Droplens"),
        element("link", rel="icon", href="data:,"),
        element("style", style),
    )
    body = element(
        "body",
        element("a", "Skip to the figures", class_="skip", href="#main"),
        _header(evaluation),
        _navigation((key, title) for key, title, _ in shown),
        element("main", (_section(*each) for each in shown), id="main", tabindex=-1),
        _footer(evaluation),
        element("script", script),
    )
    return document(element("html", head, body, lang="en"))


def _allowed(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _sizes(classes: int) -> str:
    cell = (
        f"{CELL}px"
        if classes <= READABLE_CLASSES
        else f"calc(min(100vw - 2.5rem, 44rem) / {classes})"
    )
    return f":root {{ --classes: {classes}; --cell: {cell}; }}\n"


def _header(evaluation: Document) -> Element:
    kind, sentence = standing(evaluation)
    accuracy = counted(correct(evaluation), evaluation["pictures"])
    value, _, interval = accuracy.partition(" (")
    return element(
        "header",
        element(
            "p", "Droplens report on ", element("b", evaluation["classifier"]), class_="kicker"
        ),
        element(
            "h1",
            "Validation accuracy ",
            element("span", value, class_="figure"),
            element("span", f" ({interval}", class_="interval"),
        ),
        *_tested(evaluation),
        *_cross_validated(evaluation),
        element("p", element("strong", sentence), class_=f"standing {kind}"),
        element("dl", *_key_figures(evaluation), class_="figures"),
    )


def _tested(evaluation: Document) -> list[Child]:
    found = evaluation["test"]
    if found is None:
        return []
    return [
        element(
            "p",
            f"Test accuracy {counted(found['right'], found['pictures'])}, measured on the test "
            "pictures of the dataset through the same endpoint. It decides nothing: calibration, "
            "thresholds and minimum accuracy rest on other pictures.",
            class_="second",
        )
    ]


def _cross_validated(evaluation: Document) -> list[Child]:
    found = evaluation["cross_validation"]
    if found is None:
        return []
    return [
        element(
            "p",
            f"Cross-validation accuracy on the training pictures ({found['method']}): "
            f"{counted(found['right'], found['pictures'])}. The trainer counted it, each picture "
            "predicted by a model fitted to all others; it was not measured through the endpoint, "
            "and no model goes live by it.",
            class_="second",
        )
    ]


def _key_figures(evaluation: Document) -> list[Child]:
    confident, calibration = evaluation["confident"], evaluation["calibration"]
    required = exact_percent(confident["precision"])
    threshold = confident["threshold"]
    found: list[Child] = [
        _key_figure(
            "Confident predictions",
            "None" if threshold is None else percent(confident["share"]),
            f"No threshold: {confident['reason']}. Every prediction is for a person to review."
            if threshold is None
            else f"reach the threshold; {percent(confident['precision_measured'])} of them are "
            "correct. The others are for a person to review.",
        ),
        _key_figure(
            "Auto-accept threshold",
            "None" if threshold is None else percent(threshold),
            f"Results say “confident: false”, at any probability: {required} cannot be shown."
            if threshold is None
            else f"At or above this probability at least {required} of the predictions are "
            f"correct, and results say “confident: true”.{_by_class(confident)}",
        ),
        _calibration_figure(calibration),
    ]
    if len(evaluation["classes"]) > 5:
        found.append(
            _key_figure(
                "Top-5 accuracy",
                percent(evaluation["top5"]["value"]),
                "of the pictures have their class among the five most probable; 95 % interval "
                f"{percent(evaluation['top5']['low'])} to {percent(evaluation['top5']['high'])}.",
            )
        )
    return found


def _by_class(confident: Document) -> str:
    thresholds = (confident.get("by_class") or {}).values()
    if not thresholds:
        return ""
    highest = percent(min(1.0, max(thresholds)))
    return f" Classes differ: it is {percent(min(thresholds))} to {highest}."


def _calibration_figure(calibration: Document) -> Element:
    title = "Calibration error (ECE)"
    judged = calibration["judged_on"]
    if judged < FEWEST_TO_CHART:
        return _key_figure(
            title,
            "Unknown",
            f"Too few pictures to tell: {judged} could be judged, {FEWEST_TO_CHART} are needed.",
        )
    chance = (
        f"On {judged:,} pictures chance alone shows {percent(calibration['ece_noise_floor'])} on "
        f"average and up to {percent(calibration['ece_noise_limit'])}: "
    )
    return _key_figure(
        title,
        percent(calibration["ece_after"]),
        "is how far probability and accuracy lie apart, on average. "
        + chance
        + ("this is within noise." if within_noise(calibration) else "this is more than noise."),
    )


def _key_figure(title: str, value: str, meaning: str) -> Element:
    return element(
        "div",
        element("dt", title),
        element("dd", value, class_="figure"),
        element("dd", meaning),
    )


def _navigation(targets: Iterable[tuple[str, str]]) -> Element:
    links = (element("li", element("a", title, href=f"#{key}")) for key, title in targets)
    return element("nav", element("ul", links), aria_label="Sections")


def _section(key: str, title: str, content: Sequence[Child]) -> Element:
    heading = element("h2", title, id=f"{key}-title")
    return element("section", heading, *content, id=key, aria_labelledby=f"{key}-title")


def _comparison(evaluation: Document) -> list[Child]:
    comparison = evaluation["comparison"]
    if comparison is None:
        return [element("p", "There was no live model to compare with: this is the first.")]
    if comparison["method"] == "none":
        why = (
            "the two models have no class in common"
            if not comparison["classes"]
            else "of the classes that both know there are no measured pictures of the live model"
        )
        return [element("p", f"Nothing was compared with the live model: {why}.")]
    difference = comparison["difference"]
    text = (
        f"{points(difference['value'])}, with a 95 % interval from {points(difference['low'])} to "
        f"{points(difference['high'])}"
    )
    paired = comparison["method"] == "paired"
    live, new = (
        counted(comparison[f"right_{which}"], comparison[f"pictures_{which}"])
        for which in ("before", "after")
    )
    rows: list[list[Child]] = [
        ["Pictures", comparison["pictures_before"], comparison["pictures_after"]],
        ["Accuracy", live, new],
    ]
    if paired:
        rows.append(
            ["Correct where the other was not", comparison["only_before"], comparison["only_after"]]
        )
    how = (
        f"Both models predicted the same {comparison['pictures']:,} pictures. Difference: {text}: "
        f"{_verdict(comparison)} (a model no worse would do so badly with a probability of "
        f"{comparison['p_value']:.2g}; McNemar's test)."
        if paired
        else "Each model was measured on validation pictures of its own. Difference: "
        f"{text}: {_verdict(comparison)} (Newcombe's interval)."
    )
    return [
        element("p", _compared_classes(comparison), how),
        table(
            "The live model and this one",
            ("", f"Live ({comparison['run_id']})", "This one"),
            rows,
        ),
    ]


def _compared_classes(comparison: Document) -> str:
    if comparison["same_task"]:
        return ""
    changes = [
        f"{comparison[key]:,} {'is' if comparison[key] == 1 else 'are'} {what}"
        for key, what in (("classes_added", "new"), ("classes_removed", "gone"))
        if comparison[key]
    ]
    common = "one class" if comparison["classes"] == 1 else f"{comparison['classes']:,} classes"
    return (
        f"The class list has changed ({' and '.join(changes)}), so the two were compared on "
        f"pictures of the {common} that both know. "
    )


def _verdict(comparison: Document) -> str:
    if comparison["worse"]:
        return "the new model is worse, beyond chance"
    if comparison["difference"]["low"] > 0:
        return "the new model is better, beyond chance"
    return "within chance"


def _about(evaluation: Document) -> list[Child]:
    sample = (
        "all"
        if evaluation["pictures"] == evaluation["available"]
        else f"a stratified sample of the {evaluation['available']:,}"
    )
    latency = evaluation["latency_ms"]
    test = evaluation["test"]
    facts = (
        ("Measured", evaluation["measured_at"]),
        ("Run", evaluation["run_id"]),
        ("Endpoint", evaluation["endpoint"]),
        ("Trainer", evaluation["trainer"]),
        ("Pictures", f"{evaluation['pictures']:,}: {sample} validation pictures"),
        *([("Test pictures", _test_pictures(test))] if test else []),
        ("Macro F1 (mean over classes)", percent(evaluation["macro_f1"])),
        (
            "Latency of the endpoint",
            f"{latency['p50']:.0f} ms (median), {latency['p95']:.0f} ms (95th percentile)",
        ),
    )
    rows = (
        element("div", element("dt", term), element("dd", name(str(text)))) for term, text in facts
    )
    return [
        element(
            "p",
            "The validation pictures were held out from training and sent through the very "
            "endpoint that serves, prepared as your pictures will be. The figures hold for "
            "pictures like these; pictures of anything else get a prediction too, whose accuracy "
            "nobody knows.",
        ),
        element("dl", rows, class_="about"),
    ]


def _test_pictures(test: Document) -> str:
    if test["pictures"] == test["available"]:
        return f"{test['pictures']:,}: all test pictures"
    return f"{test['pictures']:,}: a stratified sample of the {test['available']:,} test pictures"


def _footer(evaluation: Document) -> Element:
    return element(
        "footer", element("p", f"Droplens · {evaluation['classifier']} · {evaluation['run_id']}")
    )
