"""What the documents point to is there: files, headings, make targets, modules, options."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from droplens.domain import layout
from tests.support.repository import ROOT
from tools.contract import RESULT, validate

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "demo/*.md", "tests/fuzz/corpus/*.md")
    for path in ROOT.glob(pattern)
)
_MAP = "docs/architecture.md"
_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_FOLDERS = (
    "batch_prep",
    "localcloud",
    "demo",
    "droplens_cli",
    "droplens_console",
    "tools",
    "benchmarks",
    "trainer",
    "tests",
)
_INLINE = re.compile(r"`((?:[^`\n]|\n(?!\s*\n))+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*)(?=[\s=`,;)]|$)")
# Of the AWS CLI itself, not of an operation.
_AWS_OPTIONS = {"--query", "--output", "--region", "--endpoint-url"}
_AWS_S3: dict[str, set[str]] = {"cp": {"--recursive"}, "mv": {"--recursive"}, "sync": set()}


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def without_code(text: str) -> str:
    return _INLINE.sub("", _FENCED.sub("", text))


def slug(heading: str) -> str:
    """GitHub's anchor of a heading."""
    words = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def commands(page: str) -> Iterator[str]:
    """Every line of a shell block and every inline code, continued lines joined."""
    text = text_of(page)
    for _, language, body in _FENCED.findall(text):
        if language in ("sh", ""):
            yield from re.sub(r"\\\n\s*", " ", body).splitlines()
    for code in _INLINE.findall(_FENCED.sub("", text)):
        yield " ".join(code.split())


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in _LINK.findall(without_code(text_of(page))):
        if "://" in target:
            assert target.startswith("https://"), target
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.resolve().is_relative_to(ROOT), target
        assert file.exists(), target
        if anchor:
            headings = map(slug, _HEADING.findall(_FENCED.sub("", file.read_text("utf-8"))))
            assert anchor in headings, target


def test_links_and_anchors_are_read_as_github_reads_them() -> None:
    assert slug("A run that waits") == "a-run-that-waits"
    assert slug("`dataset.json`, and what *it* says: all") == "datasetjson-and-what-it-says-all"
    assert _LINK.findall("see [a b](c.md#d) and [e](https://f/)") == ["c.md#d", "https://f/"]


@cache
def makefile() -> str:
    return (ROOT / "Makefile").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_and_their_variables_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*)(?: [a-z -]+)?:(?!=)", makefile(), re.MULTILINE))
    targets |= {
        name
        for names in re.findall(r"^([a-z][a-z -]+):(?!=)", makefile(), re.MULTILINE)
        for name in names.split()
    }
    for line in commands(page):
        for match in re.finditer(r"(?:^|[;&|] |[A-Z_]+=\S+ )make( [^`#]*)?", line):
            rest = re.sub(r"\"[^\"]*\"|'[^']*'", "_", match.group(1) or "").split()
            for word in rest:
                name, is_variable, _ = word.partition("=")
                if is_variable:
                    assert re.search(rf"\b{name}\b", makefile()), f"{line}: {name}"
                elif re.fullmatch(r"[a-z][a-z-]*", word):
                    assert word in targets, line


_PACKAGES = ("layers/droplens/droplens", "batch_prep", "trainer", "localcloud", "droplens_console")
_PATH = re.compile(r"(?:…/)?[\w.-]+(?:/[\w.-]+)*/?")


def paths(page: str) -> list[str]:
    """Inline code that has the form of a path with a folder in it."""
    codes = _INLINE.findall(_FENCED.sub("", text_of(page)))
    return [code for code in codes if "/" in code and _PATH.fullmatch(code)]


@pytest.mark.parametrize("page", PAGES)
def test_paths_in_the_repository_exist(page: str) -> None:
    kept = {entry.name for entry in ROOT.iterdir() if entry.is_dir()} - {".local"}
    bases = [ROOT, ROOT / "layers" / "droplens", ROOT / _PACKAGES[0]]
    for path in paths(page):
        if path.partition("/")[0] in kept or path.endswith(".py"):
            assert any((base / path).exists() for base in bases), path


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", _MAP])
def test_a_guide_to_the_code_names_files_folders_and_prefixes_of_the_bucket_only(page: str) -> None:
    prefixes = {value for value in vars(layout).values() if isinstance(value, str)}
    named = {path.removeprefix("…/") for path in paths(page)} - prefixes
    named = {path for path in named if not path.startswith(".local/")}
    assert len(named) > 20
    bases = [ROOT, *(ROOT / package for package in _PACKAGES)]
    assert not [path for path in named if not any((base / path).exists() for base in bases)]


def test_the_architecture_has_a_row_for_every_package_of_the_layer() -> None:
    layer = ROOT / _PACKAGES[0]
    packages = {folder.parent.name for folder in layer.glob("*/__init__.py")}
    row = re.compile(r"^\| `(?:…|layers/droplens/droplens)/(\w+)/` \|", re.MULTILINE)
    rows = row.findall(text_of(_MAP))
    assert set(rows) == packages


def sources_of(module: str) -> list[Path]:
    """The files of a module that `python -m` would run; empty where there is none."""
    place = ROOT / module.replace(".", "/")
    if (place / "__main__.py").is_file():
        return sorted(place.rglob("*.py"))
    return [place.with_suffix(".py")] if place.with_suffix(".py").is_file() else []


@cache
def options_of(files: tuple[Path, ...]) -> set[str]:
    """Options that argparse is given in these files; flags of fields are named by the fields."""
    text = "\n".join(file.read_text("utf-8") for file in files)
    return set(re.findall(r"[\"'/](--[a-z][a-z-]*)(?=[\"'/])", text))


@pytest.mark.parametrize("page", PAGES)
def test_modules_and_their_options_exist(page: str) -> None:
    for line in commands(page):
        for module, rest in re.findall(r"python3? -m ([\w.]+)([^`;|#]*)", line):
            if module in ("pip", "pytest", "venv"):
                continue
            files = sources_of(module)
            assert files, line
            for option in _OPTION.findall(rest):
                assert option in options_of(tuple(files)) | {"--help"}, line


@pytest.mark.parametrize("page", PAGES)
def test_options_that_stand_alone_are_some_command_s(page: str) -> None:
    ours = tuple(file for folder in _FOLDERS for file in (ROOT / folder).rglob("*.py"))
    fields = re.findall(
        r"^    (\w+): ", (ROOT / "droplens_cli/cost.py").read_text("utf-8"), re.MULTILINE
    )
    known = options_of(ours) | {f"--{name.replace('_', '-')}" for name in fields}
    known |= {"--help", "--visibility-timeout"}  # the latter is the AWS CLI's
    for code in _INLINE.findall(_FENCED.sub("", text_of(page))):
        if code.startswith("--"):
            for option in _OPTION.findall(code):
                assert option in known, code


@pytest.mark.parametrize("page", PAGES)
def test_calls_of_the_aws_cli_are_operations_with_such_parameters(page: str) -> None:
    session = botocore.session.get_session()
    for line in commands(page):
        for call in re.findall(r"(?<![\w.-])aws ([a-z][^`|;)#]*)", line):
            words = re.sub(r"\"[^\"]*\"|'[^']*'", "_", call).split()
            if not re.fullmatch(r"[a-z0-9-]+", words[0]) or len(words) < 2:
                continue
            service, operation, options = words[0], words[1], set(_OPTION.findall(call))
            if service == "s3":
                assert options <= _AWS_S3[operation] | _AWS_OPTIONS, line
                continue
            service = "s3" if service == "s3api" else service
            model = session.get_service_model(service)
            operations = {xform_name(name, "-"): name for name in model.operation_names}
            assert operation in operations, line
            given = model.operation_model(operations[operation]).input_shape
            members = given.members if given else {}
            known = {f"--{xform_name(name, '-')}" for name in members} | _AWS_OPTIONS
            assert options <= known, f"{line}: {options - known}"


@pytest.mark.parametrize("page", PAGES)
def test_environment_variables_are_read_somewhere(page: str) -> None:
    code = makefile() + "".join(
        file.read_text("utf-8")
        for folder in (*_FOLDERS, ".ci")
        for file in (ROOT / folder).rglob("*")
        if file.suffix in (".py", "") and file.is_file() and "corpus" not in file.parts
    )
    for name in set(re.findall(r"\bDROPLENS_[A-Z0-9_]+", text_of(page))):
        assert name in code, name


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_example_is_a_result(page: str) -> None:
    [example] = [body for _, language, body in _FENCED.findall(text_of(page)) if language == "json"]
    document: dict[str, Any] = json.loads(example)
    document["image"]["etag"] = document["image"]["version_id"] = "0" * 32
    document["image"]["bucket"] = document["model"]["endpoint"] = "droplens"
    validate(RESULT, document)


def test_the_documents_tell_of_one_example() -> None:
    examples = {
        body
        for page in ("README.md", "README.zh-CN.md")
        for _, language, body in _FENCED.findall(text_of(page))
        if language == "json"
    }
    assert len(examples) == 1
