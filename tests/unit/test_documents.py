"""Every figure in the documents comes from its source, and a typed one is refused."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.docs.__main__ import problems_of
from tools.docs.figures import KINDS, unsourced
from tools.docs.render import FILTERS, evaluate, render, sources
from tools.docs.sources import SOURCE, Code, Template, UnknownFact

PAGES = sources()
_EXPRESSION = re.compile(r"\{\{.*?\}\}")
_NUMBER = re.compile(r"\d+")


@pytest.fixture(scope="module", params=list(PAGES))
def page(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def source(page: str) -> str:
    return PAGES[page].read_text("utf-8")


def test_every_document_has_a_source(repo_root: Path) -> None:
    there = {path.relative_to(repo_root).as_posix() for path in (repo_root / "docs").glob("*.md")}
    there |= {path.name for path in repo_root.glob("README*.md")}
    assert there == set(PAGES)


def test_a_document_is_what_its_source_renders_to_and_no_figure_was_typed(
    page: str, source: str
) -> None:
    assert problems_of(page, PAGES[page].name, source) == []


def wrong(text: str) -> Iterator[str]:
    """The text with each of its numbers changed, one at a time."""
    for match in _NUMBER.finditer(text):
        last = match.end() - 1
        yield text[:last] + str((int(text[last]) + 1) % 10) + text[last + 1 :]


def around(source: str, match: re.Match[str]) -> tuple[str, str]:
    """What stands before and after an expression on its line."""
    begin = source.rfind("\n", 0, match.start()) + 1
    end = source.find("\n", match.end())
    return source[begin : match.start()], source[match.end() : end]


def test_each_wrong_figure_in_the_page_is_refused(
    page: str, source: str, repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = render(source, PAGES[page].name)
    monkeypatch.setattr("tools.docs.__main__.render", lambda *_: rendered)
    monkeypatch.setattr("tools.docs.__main__.unsourced", lambda _: [])
    for text in wrong((repo_root / page).read_text("utf-8")):
        assert problems_of(page, PAGES[page].name, source, text)


# A number in a command is no figure; tests/unit/tools/test_tried.py holds these tables to their
# commands.
WITHOUT_FIGURES = {"{{ table.tried }}", "{{ table.tried_zh }}"}


def test_each_figure_that_replaces_an_expression_is_refused(page: str, source: str) -> None:
    # As somebody would who has both files agree: the source says the wrong figure too.
    for match in _EXPRESSION.finditer(source):
        value = evaluate(match.group())
        typed = next(wrong(value), value)
        if match.group() in WITHOUT_FIGURES or not (typed != value or unsourced(value)):
            continue
        before, after = around(source, match)
        assert unsourced(before + typed + after), f"{match.group()} may be replaced by {typed!r}"


def test_each_figure_beside_an_expression_is_refused(page: str, source: str) -> None:
    for match in _EXPRESSION.finditer(source):
        before, after = around(source, match)
        for changed in (f"7{match.group()}", f"{match.group()}7"):
            assert unsourced(before + changed + after), changed


@pytest.mark.parametrize(
    "text",
    [
        "packs 434 pictures/s",
        "packs `434` pictures/s",
        "packs `434 MB`",
        "packs `434 pictures a second`",
        "costs `$0.79`",
        "```mermaid\nA -->|434 pictures/s| B\n```\n",
        "peaks at 247MB",
        "takes 1.5s",
        "82.2% of them",
        "$0.79",
        "after 14 days",
        "**Twelve** alarms",
        "a quarter of an hour",
        "Fewer than 2000 pictures",
        "On 2019 pictures",
        "Droplens packed 2019. Then it ended.",
        "| 30, 32 |",
        "ends with 0",
        "{{ 434 }} pictures/s",
        "{{ '434' }} pictures/s",
        "{{ 'twelve' }} alarms",
        "{% set rate = 434 %}{{ rate }}",
        "{% raw %}434{% endraw %} pictures/s",
        "{{ results.packing.runs[3].seconds }}",
        "共十二个告警",
        "每秒 434 张",
    ],
)
def test_a_typed_figure_is_found(text: str) -> None:
    assert unsourced(text)


@pytest.mark.parametrize(
    "text",
    [
        "S3, EC2, int8, fp32, v1 and ml.g5.xlarge",
        "SHA-256 of UTF-8",
        "Wilson 1927, Guo et al. 2017, arXiv:1706.04599",
        "[aws-cdk #18237](https://github.com/aws/aws-cdk/issues/18237)",
        "`make demo MINUTES=90` with `MinimumAccuracy=0.9`",
        "```sh\nmake cost OPTIONS='--pictures 1000000'\n```\n",
        "1. First.\n2. Second.\n",
        "{{ template.Epochs }} epochs",
        "one of the two, three times",
        "一个事件",
    ],
)
def test_what_is_no_figure_is_let_be(text: str) -> None:
    assert unsourced(text) == []


def test_no_expression_stands_where_figures_are_not_looked_for(source: str) -> None:
    for kind, pattern in KINDS.items():
        for match in pattern.finditer(source):
            assert not _EXPRESSION.search(match.group()), kind


def test_the_architecture_names_every_event_and_function_of_the_template(repo_root: Path) -> None:
    page = (repo_root / "docs/architecture.md").read_text("utf-8")
    template = (repo_root / "template.yaml").read_text("utf-8")
    sources = set(re.findall(r"\bsource: \[([a-z0-9.]+)\]", template))
    kinds = set(re.findall(r"\bdetail-type: \[([^\]]+)\]", template))
    assert {"aws.s3", "aws.batch", "aws.sagemaker", "droplens"} <= sources
    for name in (*sources, *kinds):
        assert name in page, name
    for folder in (repo_root / "functions").iterdir():
        if (folder / "app.py").is_file():
            assert f"`{folder.name}`" in page, folder.name


def test_the_template_s_own_words_have_the_figures_of_the_code() -> None:
    # docs/parameters.md repeats them.
    said = {
        name: " ".join(one["Description"].split()) for name, one in Template().parameter.items()
    }
    alarms = (
        "{{ alarms.all | word }} alarms, one of which is billed as {{ alarms.metrics_of_math }},"
    )
    assert evaluate(alarms) in said["Monitoring"]
    assert evaluate("essential - {{ alarms.essential | word }} alarms") in said["Monitoring"]
    price = "pays {{ prices.prices.alarm.usd | dollars }} and"
    assert evaluate(price) in said["Monitoring"]
    assert evaluate("takes {{ shown.fewest_confident }} validation") in said["ConfidentPrecision"]
    interval = "{{ shown.three.low | percent }} for 3 of 3 pictures and"
    interval += " {{ shown.twenty.low | percent }} for 20 of 20"
    assert evaluate(interval) in said["AccuracyConfidence"]
    for name in ("four", "thirty_five"):
        assert evaluate(f"{{{{ shown.{name}.of }}}} of") in said["MinimumAccuracy"]
    assert evaluate("{{ budget.threshold }} % of what is spent") in said["MonthlyBudgetUsd"]
    assert (
        evaluate("{{ template.PicturesPerPackingJob }}").replace(",", "")
        in (said["PicturesPerPackingJob"])
    )


def test_every_cited_figure_says_where_it_is_published_and_is_used() -> None:
    cited = tomllib.loads((SOURCE / "cited.toml").read_text("utf-8"))
    pages = "".join(path.read_text("utf-8") for path in PAGES.values())
    for group, names in cited.items():
        for name, entry in names.items():
            assert set(entry) == {"value", "source"}
            assert len(entry["source"]) > 20, name
            assert f"cited.{group}.{name} " in pages, f"{group}.{name} is cited nowhere"


def test_constants_are_found_wherever_their_module_lies(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "one.py").write_text("A = 3 * 2**10\nB = A + 1\nSAME = 7\nTWICE = 1\n")
    (tmp_path / "deep" / "er" / "two.py").write_text(
        "from one import A\nC: int = 2 * A\nSAME = 7\nTWICE = 2\nclass K:\n    field: float = 0.5\n"
    )
    code = Code(tmp_path)
    assert (code.A, code.B, code.C, code.SAME, code.K.field) == (3072, 3073, 6144, 7, 0.5)
    for missing in ("TWICE", "D"):
        with pytest.raises(UnknownFact):
            getattr(code, missing)


def test_an_unknown_fact_is_an_error_and_no_gap() -> None:
    with pytest.raises(UnknownFact):
        evaluate("{{ template.Nothing }}")
    with pytest.raises(UnknownFact):
        evaluate("{{ results.nothing }}")
    with pytest.raises(Exception, match="no attribute 'nothing'"):
        evaluate("{{ results.packing.nothing }}")
    assert Template().MaxTrainingMinutes == 240


def test_a_unit_that_does_not_come_out_even_is_an_error() -> None:
    assert FILTERS["mib"](25 * 2**20) == "25"
    with pytest.raises(ValueError, match="multiple"):
        FILTERS["mib"](25 * 10**6)
    assert FILTERS["percent_tenths"](0.8223) == "82.2 %"
    assert FILTERS["word"](12) == "twelve"
    assert FILTERS["word"](3) == "3"
