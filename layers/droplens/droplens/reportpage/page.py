"""The report on one measured candidate: a single HTML file that asks nothing of any network.

Its input is the evaluation, the packed dataset's manifest and the trainer's training.json. The
style sheet and the script stand inside it; its Content-Security-Policy lets run no other.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from droplens.reportpage.advice import advice, standing
from droplens.reportpage.classes import classes
from droplens.reportpage.confusion import READABLE_CLASSES, confused
from droplens.reportpage.curves import trained
from droplens.reportpage.gallery import gallery, least_sure, worst
from droplens.reportpage.health import health
from droplens.reportpage.markup import Child, Element, document, element, name
from droplens.reportpage.sureness import sure
from droplens.reportpage.tables import table
from droplens.reportpage.wording import names_of, percent

HERE = Path(__file__).parent
CELL = 24  # CSS pixels of a matrix cell that can be read

Document = Mapping[str, Any]


def render(
    evaluation: Document,
    *,
    dataset: Document | None = None,
    training: Document | None = None,
    thumbnails: Mapping[int, bytes] | None = None,
) -> bytes:
    """The page, as UTF-8 HTML.

    evaluation: evaluation.json; dataset: dataset.json; training: the artefact's training.json,
    each None where there is none. thumbnails: small JPEGs by record id, of those that
    `gallery.wanted` asks for; a missing one is left blank.
    """
    names = names_of(evaluation)
    sections: list[tuple[str, str, list[Child]]] = [
        ("advice", "What to do", [advice(evaluation, dataset)]),
        ("sure", "How sure", sure(evaluation)),
        ("confused", "What is confused", confused(evaluation)),
        ("mistakes", "The worst mistakes", gallery(worst(evaluation), names, thumbnails or {})),
        ("unsure", "The least sure", gallery(least_sure(evaluation), names, thumbnails or {})),
        ("classes", "Every class", classes(evaluation, dataset)),
        ("before", "Against the live model", _comparison(evaluation)),
        ("training", "How it was trained", trained(training)),
        ("dataset", "The dataset", health(dataset)),
        ("about", "About these figures", _about(evaluation)),
    ]
    told = [(key, title, content) for key, title, content in sections if content]
    script = (HERE / "page.js").read_text("utf-8")
    style = (HERE / "page.css").read_text("utf-8") + _sizes(len(evaluation["classes"]))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_allowed(style)}; "
        f"script-src {_allowed(script)}; base-uri 'none'; form-action 'none'"
    )
    accuracy = percent(evaluation["accuracy"]["value"])
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{evaluation['classifier']}: {accuracy} right · Droplens"),
        element("link", rel="icon", href="data:,"),
        element("style", style),
    )
    body = element(
        "body",
        element("a", "Skip to the figures", class_="skip", href="#main"),
        _header(evaluation),
        _navigation((key, title) for key, title, _ in told),
        element("main", (_section(*each) for each in told), id="main", tabindex=-1),
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
    accuracy, confident = evaluation["accuracy"], evaluation["confident"]
    calibration = evaluation["calibration"]
    kind, sentence = standing(evaluation)
    right = round(accuracy["value"] * evaluation["pictures"])
    judged = [answer for answer in evaluation["answers"] if answer["half"] == "judge"]
    said = sum(answer["top"][0][1] for answer in judged) / max(len(judged), 1)
    held = sum(answer["top"][0][0] == answer["truth"] for answer in judged) / max(len(judged), 1)
    asked = f"{confident['precision']:.0%}"
    return element(
        "header",
        element(
            "p", "Droplens report on ", element("b", evaluation["classifier"]), class_="kicker"
        ),
        element(
            "h1",
            element("span", percent(accuracy["value"]), class_="figure"),
            " of pictures it had never seen are answered rightly.",
        ),
        element("p", element("strong", sentence), class_=f"standing {kind}"),
        element(
            "dl",
            _key_figure(
                "Right answers",
                percent(accuracy["value"]),
                f"{right} of {evaluation['pictures']} pictures; 19 times in 20 the true share lies "
                f"between {percent(accuracy['low'])} and {percent(accuracy['high'])}. Among its "
                f"first five answers: {percent(evaluation['top5']['value'])}.",
            ),
            _key_figure(
                "Sure enough to act on",
                percent(confident["share"]),
                "of the answers are called confident: there is no probability from which "
                f"{asked} of them can be relied on to be right. Every one is for a person."
                if confident["threshold"] is None
                else "of the answers are called confident: those can be relied on to be right "
                f"{asked} of the time. The rest is for a person.",
            ),
            _key_figure(
                "Honest about doubt",
                f"{100 * calibration['ece_after']:.1f} points",
                "lie between probability and truth on average. Over all, it says "
                f"{percent(said)} where {percent(held)} are right.",
            ),
            class_="figures",
        ),
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
    difference = comparison["difference"]
    said = (
        f"{_points(difference['value'])}, with 95% confidence from {_points(difference['low'])} to "
        f"{_points(difference['high'])}"
    )
    if comparison["method"] != "paired":
        return [
            element(
                "p",
                "The two models were measured on different pictures, so only their shares of right "
                f"answers can be compared: {said}, new against live.{_other_classes(comparison)}",
            )
        ]
    rows = [
        ["Right answers", comparison["right_before"], comparison["right_after"]],
        ["Right where the other was wrong", comparison["only_before"], comparison["only_after"]],
    ]
    return [
        element(
            "p",
            f"Both answered the same {comparison['pictures']} pictures. The difference is {said}: "
            f"{_verdict(comparison)} (a model no worse would do so badly with a probability of "
            f"{comparison['p_value']:.2g}; McNemar's test).{_other_classes(comparison)}",
        ),
        table(
            "Candidate and live model on the same pictures",
            ("", f"Live ({comparison['run_id']})", "This one"),
            rows,
        ),
    ]


def _verdict(comparison: Document) -> str:
    if comparison["worse"]:
        return "the new model is worse, beyond what chance explains"
    if comparison["difference"]["low"] > 0:
        return "the new model is better, beyond what chance explains"
    return "chance alone explains it"


def _other_classes(comparison: Document) -> str:
    if comparison["same_task"]:
        return ""
    return " The two do not know the same classes, so this did not decide."


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f} points".replace("-", "\N{MINUS SIGN}")


def _about(evaluation: Document) -> list[Child]:
    sample = (
        "all"
        if evaluation["pictures"] == evaluation["available"]
        else f"a stratified sample of the {evaluation['available']:,}"
    )
    latency = evaluation["latency_ms"]
    facts = (
        ("Measured", evaluation["measured_at"]),
        ("Run", evaluation["run_id"]),
        ("Endpoint", evaluation["endpoint"]),
        ("Trainer", evaluation["trainer"]),
        ("Pictures", f"{evaluation['pictures']:,}: {sample} validation pictures"),
        ("Mean F1 of the classes", percent(evaluation["macro_f1"])),
        (
            "Time of one answer",
            f"{latency['p50']:.0f} ms at the median, {latency['p95']:.0f} ms in 95 of 100 cases",
        ),
    )
    rows = (
        element("div", element("dt", term), element("dd", name(str(said)))) for term, said in facts
    )
    return [
        element(
            "p",
            "Every picture here was held back from training and sent through the endpoint that "
            "answers, prepared as it prepares yours. The figures hold for pictures like these; "
            "pictures of anything else get an answer too, and nothing here says how good it is.",
        ),
        element("dl", rows, class_="about"),
    ]


def _footer(evaluation: Document) -> Element:
    return element(
        "footer", element("p", f"Droplens · {evaluation['classifier']} · {evaluation['run_id']}")
    )
