"""The report on one measured candidate: a single HTML file that asks nothing of any network.

Its input is the evaluation, the packed dataset's manifest and the trainer's training.json. The
style sheet and the script stand inside it; its Content-Security-Policy lets run no other.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

from droplens.confidence import wilson
from droplens.reportpage.advice import advice, names_of, percent, standing, training_counts
from droplens.reportpage.charts import Axis, Chart, figure, percent_axis
from droplens.reportpage.confusion import READABLE_CLASSES, matrix, pairs
from droplens.reportpage.gallery import least_sure, worst
from droplens.reportpage.markup import Child, Element, append, document, element, json_block, name

HERE = Path(__file__).parent
LISTED = 20  # rows of lists that a dataset could make endless
DRAWN_POINTS = 200  # of a curve that has one for every picture
NOTHING = "\N{EN DASH}"  # stands in a table for what there is none of
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
    sections = [
        ("advice", "What to do", _advice(evaluation, dataset)),
        ("sure", "How sure", _sure(evaluation)),
        ("confused", "What is confused", _confused(evaluation)),
        ("mistakes", "The worst mistakes", _gallery(evaluation, worst, thumbnails or {})),
        ("unsure", "The least sure", _gallery(evaluation, least_sure, thumbnails or {})),
        ("classes", "Every class", _classes(evaluation, dataset)),
        ("before", "Against the live model", _comparison(evaluation)),
        ("training", "How it was trained", _training(training)),
        ("dataset", "The dataset", _dataset(dataset)),
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
    judged = [answer for answer in evaluation["answers"] if answer.get("half") != "fit"]
    said = sum(answer["top"][0][1] for answer in judged) / max(len(judged), 1)
    held = sum(answer["top"][0][0] == answer["truth"] for answer in judged) / max(len(judged), 1)
    share = "none" if confident["threshold"] is None else percent(confident["share"])
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
                share,
                f"of the answers are called confident: those can be relied on to be right "
                f"{confident['precision']:.0%} of the time. The rest is for a person.",
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


def _advice(evaluation: Document, dataset: Document | None) -> list[Child]:
    items = (
        element("li", element("strong", short), " ", *explained)
        for short, explained in advice(evaluation, dataset)
    )
    return [element("ol", items, class_="advice")]


# --- How sure ---


def _sure(evaluation: Document) -> list[Child]:
    calibration = evaluation["calibration"]
    panels = [
        _reliability(calibration[f"bins_{when}"], when, calibration[f"ece_{when}"])
        for when in ("before", "after")
    ]
    floor_ = calibration.get("ece_noise_floor")
    noise = (
        f" Perfectly honest probabilities would show about {percent(floor_)} on so few pictures."
        if floor_ is not None
        else ""
    )
    how = (
        "The map did not help on pictures that it had not seen, so the probabilities stay as they "
        "came from the model."
        if calibration["method"] == "none"
        else f"The map ({_method(calibration)}) was fitted on {calibration['fitted_on']} other "
        "validation pictures."
    )
    return [
        element(
            "p",
            "A probability is honest if, of all answers given at 80%, 80% are right: dots on the "
            f"diagonal. Judged on {calibration['judged_on']} pictures. {how}{noise}",
        ),
        element("div", panels, class_="panels"),
        *_coverage(evaluation),
    ]


def _method(calibration: Document) -> str:
    values = ", ".join(f"{value:.3g}" for value in calibration["parameters"].values())
    return f"{calibration['method']} {values}".strip()


def _reliability(bins: Sequence[Document], when: str, error: float) -> Element:
    filled = [each for each in bins if each["count"]]
    total = sum(each["count"] for each in filled)
    title = f"{'Before' if when == 'before' else 'After'} calibration: error {percent(error)}"
    chart = Chart(
        percent_axis("probability that was given"),
        percent_axis("share of right answers"),
        f"{title}. The table below holds its numbers.",
    )
    for each in filled:
        chart.bar(each["low"], each["high"], 0.25 * each["count"] / total, "amount")
    chart.line([(0, 0), (1, 1)], "ideal")
    for each in filled:
        low, high = wilson(round(each["accuracy"] * each["count"]), each["count"])
        chart.line([(each["probability"], low), (each["probability"], high)], "whisker")
    for each in filled:
        radius = 2.5 + 4 * (each["count"] / total) ** 0.5
        chart.dot(each["probability"], each["accuracy"], when, radius)
    rows = (
        [
            f"{each['low']:.0%} to {each['high']:.0%}",
            each["count"],
            percent(each["probability"]),
            percent(each["accuracy"]),
        ]
        for each in filled
    )
    return element(
        "div",
        figure(
            chart.svg,
            element("strong", title),
            ". Larger dots and bars are more answers; whiskers are 95% intervals.",
        ),
        _numbers(("Probability", "Answers", "Given on average", "Right"), rows),
    )


def _coverage(evaluation: Document) -> list[Child]:
    points = _thinned(evaluation["coverage"])
    confident = evaluation["confident"]
    if len(points) < 2:
        return []
    lowest = min(precision for _, _, precision in points)
    y = percent_axis(
        "of these, right", max(0.0, floor(min(lowest, confident["precision"]) * 20 - 0.5) / 20)
    )
    chart = Chart(
        percent_axis("pictures answered without a person"),
        y,
        "Precision against coverage: the more answers are taken without a look, the fewer of them "
        "are right. The slider below reads the curve out.",
    )
    chart.line([(0, confident["precision"]), (1, confident["precision"])], "asked")
    chart.line([(share, precision) for _, share, precision in points], "curve")
    start = next(
        (
            number
            for number, (threshold, _, _) in enumerate(points)
            if confident["threshold"] is not None and threshold <= confident["threshold"]
        ),
        len(points) - 1,
    )
    chart.dot(points[start][1], points[start][2], "chosen", 5)
    return [
        element("h3", "What if you asked for more, or for less?"),
        element(
            "div",
            figure(
                chart.svg,
                "Answers from the surest to the least sure. The dashed line is the precision asked "
                f"for, {confident['precision']:.0%}; the dot is where the slider stands.",
            ),
            element(
                "div",
                element("label", "Take answers without a look from a probability of", for_="from"),
                element(
                    "input",
                    type="range",
                    id="from",
                    min=0,
                    max=len(points) - 1,
                    value=start,
                    aria_describedby="taken",
                ),
                element("p", _taken(points[start]), id="taken", aria_live="polite"),
                class_="what-if",
            ),
            json_block("coverage", [[round(value, 5) for value in point] for point in points]),
            class_="panels",
        ),
    ]


def _taken(point: Sequence[float]) -> str:
    threshold, share, precision = point
    return (
        f"From {percent(threshold)} up: {percent(share)} of the pictures are answered without a "
        f"person, {percent(precision)} of them rightly; {percent(1 - share)} are left to look at."
    )


def _thinned(points: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    if len(points) <= DRAWN_POINTS:
        return list(points)
    step = (len(points) - 1) / (DRAWN_POINTS - 1)
    return [points[round(number * step)] for number in range(DRAWN_POINTS)]


# --- What is confused ---


def _confused(evaluation: Document) -> list[Child]:
    cells = [(truth, answer, count) for truth, answer, count in evaluation["confusion"]]
    names = names_of(evaluation)
    confused = pairs(cells)
    shown, data = matrix(names, cells)
    taken = Counter({(truth, answer): count for truth, answer, count in cells})
    rows = [
        [
            _go_to(one, other, names),
            taken[one, other],
            taken[other, one],
            count,
        ]
        for one, other, count in confused[:LISTED]
    ]
    controls = element(
        "div",
        (
            element("button", sign, type="button", data_zoom=step, aria_label=said)
            for sign, step, said in (
                ("+", "in", "Magnify the matrix"),
                ("\N{MINUS SIGN}", "out", "Shrink the matrix"),
                ("All", "fit", "Show the whole matrix"),
            )
        ),
        element("output", "Point at a cell, or use the arrow keys.", id="cell"),
        class_="controls",
        hidden=True,
    )
    listed = (
        _table(
            "The pairs of classes that are confused most",
            ("Classes", "first taken for second", "second for first", "together"),
            rows,
        )
        if rows
        else element("p", "Nothing was confused.")
    )
    return [
        element(
            "p",
            f"Each of the {len(names)} rows is a class, each column an answer; on the diagonal the "
            "two agree. Classes that are confused stand beside each other.",
        ),
        controls,
        shown,
        data,
        listed,
    ]


def _go_to(one: int, other: int, names: Sequence[str]) -> list[Child]:
    return [name(names[one]), element("span", " and ", class_="and"), name(names[other])]


# --- Pictures ---


def _gallery(evaluation: Document, choose: Any, thumbnails: Mapping[int, bytes]) -> list[Child]:
    names = names_of(evaluation)
    chosen = choose(evaluation)
    if not chosen:
        return [element("p", "There are none.")]
    return [
        element("ul", (_picture(answer, names, thumbnails) for answer in chosen), class_="gallery")
    ]


def _picture(answer: Document, names: Sequence[str], thumbnails: Mapping[int, bytes]) -> Element:
    (label, probability), truth = answer["top"][0], answer["truth"]
    thumbnail = thumbnails.get(answer["record"])
    if thumbnail is None:
        shown = element("div", "no picture", class_="blank")
    else:
        data = base64.b64encode(thumbnail).decode()
        shown = element(
            "img",
            src=f"data:image/jpeg;base64,{data}",
            alt=f"Validation picture {answer['record']}",
        )
    verdict: list[Child] = (
        [element("span", "right: ", class_="is-right"), name(names[truth])]
        if label == truth
        else [
            element("span", "said ", class_="is-wrong"),
            name(names[label]),
            element("br"),
            element("span", "is ", class_="is-right"),
            name(names[truth]),
        ]
    )
    caption = element("figcaption", element("b", percent(probability)), " ", *verdict)
    return element("li", element("figure", shown, caption))


# --- Every class ---


def _classes(evaluation: Document, dataset: Document | None) -> list[Child]:
    trained = training_counts(dataset)
    names = names_of(evaluation)
    mistaken: dict[int, tuple[int, int]] = {}
    for truth, answer, count in evaluation["confusion"]:
        if truth != answer and count > mistaken.get(truth, (0, 0))[0]:
            mistaken[truth] = (count, answer)
    rows = []
    for number, each in enumerate(evaluation["classes"]):
        count, answer = mistaken.get(number, (0, 0))
        rows.append(
            [
                name(each["name"]),
                _share(each["recall"], bar=True),
                _share(each["precision"]),
                _share(each["f1"]),
                each["pictures"],
                trained.get(each["name"], NOTHING),
                [name(names[answer]), f" ({count})"] if count else NOTHING,
            ]
        )
    columns = (
        "Class",
        "Found",
        "Precision",
        "F1",
        "Measured on",
        "Learnt from",
        "Most often taken for",
    )
    return [
        element(
            "p",
            "Found (recall): of the pictures of the class, the share answered rightly. Precision: "
            "of the answers that name the class, the share that is right. F1 is their harmonic "
            "mean. On few pictures each is rough.",
        ),
        _table("Every class; its headings sort it", columns, rows, sortable=True),
    ]


def _share(value: float | None, *, bar: bool = False) -> Element | str:
    if value is None:
        return NOTHING
    if not bar:
        return element("data", f"{value:.0%}", value=value)
    drawn = element(
        "svg",
        element("rect", width=100, height=6, class_="track"),
        element("rect", width=round(100 * value, 1), height=6, class_="fill"),
        viewBox="0 0 100 6",
        class_="share",
        aria_hidden="true",
        preserveAspectRatio="none",
    )
    return element("data", f"{value:.0%} ", drawn, value=value)


# --- Against the live model ---


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
                f"answers can be compared: {said}, new against live.",
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
            f"{_verdict(comparison)} (exact McNemar test, p = {comparison['p_value']:.2g}).",
        ),
        _table(
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


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f} points".replace("-", "\N{MINUS SIGN}")


# --- How it was trained ---


def _training(training: Document | None) -> list[Child]:
    if training is None:
        return []
    accuracy = ", ".join(
        f"{percent(share)} on the {what} pictures" for what, share in training["accuracy"].items()
    )
    curves = _epochs(training) or _penalties(training)
    seconds = sum(training.get("seconds", {}).values())
    return [
        element(
            "p",
            f"Recipe “{training['recipe']}”, {seconds:.0f} seconds. The trainer's own count of "
            f"right answers: {accuracy}. A large gap between the two is learning by heart.",
        ),
        *curves,
    ]


def _epochs(training: Document) -> list[Child]:
    epochs = training.get("epochs") or []
    if len(epochs) < 2:
        return []
    charts = []
    for what, title in (("accuracy", "share of right answers"), ("loss", "loss (cross-entropy)")):
        lines = {
            channel: [
                (float(each["epoch"]), float(each[f"{channel}_{what}"]))
                for each in epochs
                if each.get(f"{channel}_{what}") is not None
            ]
            for channel in ("train", "validation")
        }
        values = [value for line in lines.values() for _, value in line]
        if not values:
            continue
        first, last = epochs[0]["epoch"], epochs[-1]["epoch"]
        step = max(1, ceil((last - first) / 6))
        ticks = [(float(epoch), str(epoch)) for epoch in range(first, last + 1, step)]
        y = percent_axis(title) if what == "accuracy" else _loss_axis(title, values)
        chart = Chart(Axis("epoch", first, last, ticks), y, f"{title} by epoch")
        for channel, line in lines.items():
            chart.line(line, channel)
        charts.append(
            figure(chart.svg, f"{title.capitalize()}: training dashed, validation solid.")
        )
    return [element("div", charts, class_="panels")]


def _penalties(training: Document) -> list[Child]:
    path = training.get("cross_validation", {}).get("path") or []
    if len(path) < 2:
        return []
    strengths = [log10(each["l2"]) for each in path]
    low, high = min(strengths), max(strengths)
    ticks = [(float(each), f"1e{each}") for each in range(ceil(low - 1e-9), floor(high + 1e-9) + 1)]
    x = Axis("strength of the penalty (L2)", low, high, ticks)
    chosen = log10(training["cross_validation"]["l2"])
    charts = []
    for what, title in (("accuracy", "share of right answers"), ("loss", "loss (cross-entropy)")):
        values = [each[what] for each in path]
        y = percent_axis(title) if what == "accuracy" else _loss_axis(title, values)
        chart = Chart(x, y, f"{title} on held-out folds by strength of the penalty")
        chart.line(list(zip(strengths, values, strict=True)), "validation")
        for strength, value in zip(strengths, values, strict=True):
            chart.dot(strength, value, "chosen" if strength == chosen else "validation")
        charts.append(
            figure(chart.svg, f"{title.capitalize()} in cross-validation; the large dot was taken.")
        )
    return [
        element(
            "p",
            "This recipe solves for its weights instead of going through epochs. What it learns "
            "from its own pictures is how strongly to hold the weights back: the curve below.",
        ),
        element("div", charts, class_="panels"),
    ]


def _loss_axis(title: str, values: Sequence[float]) -> Axis:
    top = max(*values, 1e-6)
    scale = 10 ** floor(log10(top))
    step = next(scale * each for each in (0.2, 0.5, 1, 2, 5) if top / (scale * each) <= 5)
    ticks = [(number * step, f"{number * step:.3g}") for number in range(ceil(top / step) + 1)]
    return Axis(title, 0, ticks[-1][0], ticks)


# --- The dataset ---


def _dataset(dataset: Document | None) -> list[Child]:
    if dataset is None:
        return []
    counts = dataset["counts"]
    kinds = (
        ("train", "to learn from"),
        ("validation", "to measure on"),
        ("duplicates", "left out: the same picture twice"),
        ("conflicts", "left out: one picture under two labels"),
        ("skipped", "left out: could not be used"),
        ("upscaled", "smaller than the model's input"),
    )
    facts = [
        element("div", element("dt", said), element("dd", f"{counts[key]:,}", class_="figure"))
        for key, said in kinds
        if key in counts
    ]
    found: list[Child] = [element("dl", facts, class_="facts")]
    per_class = dataset.get("per_class") or []
    if per_class:
        most = max(per_class, key=lambda each: each["train"])
        least = min(per_class, key=lambda each: each["train"])
        balance = element(
            "p",
            f"{len(per_class)} classes. The largest, ",
            name(most["name"]),
            f", has {most['train']} pictures to learn from; the smallest, ",
            name(least["name"]),
            f", {least['train']}.",
        )
        append(
            balance,
            " A model leans towards what it saw most."
            if most["train"] > 5 * least["train"]
            else None,
        )
        found.append(balance)
    for key, title, columns in (
        ("warnings", "Warnings", ("Warning",)),
        ("skipped", "Could not be used", ("File", "Why")),
        ("conflicts", "One picture under two labels", ("File", "Same as", "Labels")),
        ("duplicates", "The same picture twice", ("File", "Same as")),
    ):
        entries = dataset.get(key) or []
        if entries:
            rows = [_dataset_row(key, each) for each in entries[:LISTED]]
            more = f", the first {LISTED}" if len(entries) > LISTED else ""
            summary = element("summary", f"{title}: {len(entries):,}{more}")
            found.append(element("details", summary, _table(title, columns, rows)))
    return found


def _dataset_row(key: str, entry: Any) -> list[Child | list[Child]]:
    match key:
        case "warnings":
            return [name(entry)]
        case "skipped":
            return [name(entry["name"]), name(entry["reason"])]
        case "conflicts":
            return [name(entry["name"]), name(entry["same_as"]), name(", ".join(entry["labels"]))]
        case _:
            return [name(entry["name"]), name(entry["same_as"])]


# --- About ---


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


# --- Tables ---


def _table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Child | Iterable[Child]]],
    *,
    sortable: bool = False,
) -> Element:
    lines = list(rows)
    headings = (
        element(
            "th",
            element("button", column, type="button") if sortable else column,
            scope="col",
            class_=_alignment(lines[0][place]),
            aria_sort="none" if sortable else None,
        )
        for place, column in enumerate(columns)
    )
    body = (
        element(
            "tr",
            element("th", row[0], scope="row"),
            (element("td", cell, class_=_alignment(cell)) for cell in row[1:]),
        )
        for row in lines
    )
    table = element(
        "table",
        element("caption", title),
        element("thead", element("tr", headings)),
        element("tbody", body),
        class_="sortable" if sortable else None,
    )
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label=title)


def _alignment(cell: Any) -> str | None:
    is_number = isinstance(cell, int) or (isinstance(cell, Element) and cell.tag == "data")
    return "number" if is_number else None


def _numbers(columns: Sequence[str], rows: Iterable[Sequence[Child]]) -> Element:
    return element(
        "details", element("summary", "Numbers"), _table("Numbers of the chart", columns, rows)
    )
