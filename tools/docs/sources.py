"""The sources of the documents' figures; each is a name in a page's expressions."""

import ast
import json
import operator
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "docs" / "source"
RESULTS = ROOT / "benchmarks" / "results"

_OPERATORS: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
}
# Calls in a constant's definition that are evaluated; all take numbers or a collection.
_CALLS: Mapping[str, Callable[..., Any]] = {
    "frozenset": frozenset,
    "len": len,
    "range": range,
    "tuple": tuple,
}


class UnknownFact(LookupError):
    """A page names a fact that its source does not have, or has twice with different values."""


class Code:
    """Constants of one folder of the code, by name alone, so that a module may be moved.

    `code.trainer.MAX_LINES` is the one module-level assignment of MAX_LINES in trainer/**.py;
    `code.layer.Limits.max_bytes` the default of a class's field. Nothing is imported.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getattr__(self, name: str) -> Any:
        found = _constants(self._folder).get(name, [])
        values = [value() for value in found]
        if not values:
            raise UnknownFact(f"{self._folder} has no constant {name}")
        if any(value != values[0] for value in values):
            raise UnknownFact(f"{self._folder} has several constants {name}: {values}")
        return values[0]


class Fields:
    """Defaults of a class's fields."""

    def __init__(self, values: Mapping[str, Callable[[], Any]]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        if name not in self._values:
            raise UnknownFact(f"no field {name} with a default")
        return self._values[name]()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fields) and self._values.keys() == other._values.keys()

    __hash__ = object.__hash__


@cache
def _constants(folder: Path) -> dict[str, list[Callable[[], Any]]]:
    """For each constant of the folder's modules, the functions that evaluate its definitions."""
    found: dict[str, list[Callable[[], Any]]] = {}
    for file in sorted(folder.rglob("*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        here = dict(_assigned(tree.body))
        for name, expression in here.items():
            found.setdefault(name, []).append(partial(_value, expression, here, folder))
        for statement in tree.body:
            if isinstance(statement, ast.ClassDef):
                fields = {
                    name: partial(_value, expression, here, folder)
                    for name, expression in _assigned(statement.body)
                }
                found.setdefault(statement.name, []).append(partial(Fields, fields))
    return found


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for statement in body:
        targets: list[ast.expr]
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        elif isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id, value
            elif (
                isinstance(target, ast.Tuple)
                and isinstance(value, ast.Tuple)
                and len(target.elts) == len(value.elts)
            ):
                for one, its in zip(target.elts, value.elts, strict=True):
                    if isinstance(one, ast.Name):
                        yield one.id, its


def _value(node: ast.expr, here: Mapping[str, ast.expr], folder: Path) -> Any:
    """The value of a constant's definition: numbers, strings, collections, their arithmetic."""

    def of(one: ast.expr) -> Any:
        return _value(one, here, folder)

    match node:
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -of(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](of(left), of(right))
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return tuple(map(of, elements))
        case ast.Set(elts=elements):
            return frozenset(map(of, elements))
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {of(key): of(value) for key, value in pairs if key is not None}
        case ast.Name(id=name):
            return of(here[name]) if name in here else getattr(Code(folder), name)
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _CALLS:
            return _CALLS[name](*map(of, arguments))
        case ast.Call(func=ast.Name(id="timedelta"), keywords=keywords):
            sizes = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
            return sum(sizes[str(one.arg)] * of(one.value) for one in keywords)
        case ast.Call(keywords=keywords) if any(one.arg == "default" for one in keywords):
            return of(next(one.value for one in keywords if one.arg == "default"))
        case ast.Subscript(value=value, slice=ast.Constant(value=index)):
            return of(value)[index]
    raise UnknownFact(f"not a constant of numbers: {ast.unparse(node)}")


class Options:
    """Defaults of a command's options, from its `add_argument` calls: `--max-bad` is max_bad."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cache  # noqa: B019  there are a handful
    def __getattr__(self, name: str) -> Any:
        option = "--" + name.replace("_", "-")
        values = []
        for file in sorted(self._folder.rglob("*.py")):
            for call in ast.walk(ast.parse(file.read_text("utf-8"))):
                if (
                    isinstance(call, ast.Call)
                    and getattr(call.func, "attr", "") == "add_argument"
                    and isinstance(call.args[0], ast.Constant)
                    and call.args[0].value == option
                ):
                    values += [
                        _value(k.value, {}, self._folder)
                        for k in call.keywords
                        if k.arg == "default"
                    ]
        if len(values) != 1:
            raise UnknownFact(f"{self._folder} has {len(values)} defaults of {option}")
        return values[0]


class Template:
    """template.yaml: `template.Epochs` is a parameter's default; `template.resource` and
    `template.parameter` have all attributes."""

    @cached_property
    def document(self) -> dict[str, Any]:
        """The file, parsed; intrinsic functions as dictionaries."""
        return dict(yaml_parse((ROOT / "template.yaml").read_text("utf-8")))

    @property
    def parameter(self) -> dict[str, Any]:
        """Parameters by name."""
        return dict(self.document["Parameters"])

    @property
    def resource(self) -> dict[str, Any]:
        """Properties of resources by logical name."""
        return {
            name: each.get("Properties", {}) for name, each in self.document["Resources"].items()
        }

    def count(self, kind: str) -> int:
        """How many resources of this type there are."""
        return sum(each["Type"] == kind for each in self.document["Resources"].values())

    def __getattr__(self, name: str) -> Any:
        if name not in self.parameter:
            raise UnknownFact(f"template.yaml has no parameter {name}")
        value = self.parameter[name]["Default"]
        return float(value) if isinstance(value, str) and re.fullmatch(r"\d+", value) else value


class Results:
    """`results.serving` is benchmarks/results/serving.json."""

    def __getattr__(self, name: str) -> Any:
        file = RESULTS / f"{name}.json"
        if not file.is_file():
            raise UnknownFact(f"there is no {file.relative_to(ROOT)}")
        return json.loads(file.read_text("utf-8"))


class Locked:
    """`locked.mxnet` is the version of a package on which all locks agree.

    older: the version for the oldest Python, where newer ones have another.
    """

    def __init__(self, *, older: bool = False) -> None:
        self._marker = "python_full_version < " if older else ""

    def __getattr__(self, name: str) -> str:
        package = re.escape(name.replace("_", "-"))
        pattern = re.compile(rf"^{package}==([^ \\;+]+).*{self._marker}", re.MULTILINE)
        versions = {
            version
            for lock in (
                *ROOT.glob("*/requirements*.txt"),
                *ROOT.glob("*/*/requirements*.txt"),
                *(ROOT / "requirements").glob("*.txt"),
            )
            for version in pattern.findall(lock.read_text("utf-8"))
        }
        if len(versions) != 1:
            raise UnknownFact(f"locks have {sorted(versions)} of {name}")
        return versions.pop()


def cited() -> dict[str, Any]:
    """What others publish, by name: docs/source/cited.toml, each value with its source."""
    entries = tomllib.loads((SOURCE / "cited.toml").read_text("utf-8"))
    return {
        group: {name: entry["value"] for name, entry in names.items()}
        for group, names in entries.items()
    }


_FOLDERS = (
    "batch_prep",
    "benchmarks",
    "demo",
    "droplens_cli",
    "droplens_console",
    "functions",
    "localcloud",
    "tests",
    "tools",
    "trainer",
)


def everything() -> dict[str, Any]:
    """The names that a page may use."""
    folders = {
        "layer": ROOT / "layers" / "droplens" / "droplens",
        **{name: ROOT / name for name in _FOLDERS},
    }
    prices = json.loads((ROOT / "droplens_cli" / "prices.json").read_text("utf-8"))
    return {
        "code": {name: Code(folder) for name, folder in folders.items()},
        "option": {name: Options(folder) for name, folder in folders.items()},
        "template": Template(),
        "results": Results(),
        "locked": Locked(),
        "older": Locked(older=True),
        "cited": cited(),
        "prices": {**prices, "region_name": "US East (N. Virginia), us-east-1"},
    }
