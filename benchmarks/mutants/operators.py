"""Small faults in Python source, one at a time: the mutants of a module.

The operators are those of the literature (A. J. Offutt et al., "An experimental determination of
sufficient mutant operators", 1996: relational, logical and arithmetic operators, absolute values,
unary signs), and constants, negated conditions and removed statements beside them.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.MatMult: ast.Mult,
}
_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault. line: its first line, from 1; before, after: the expression or statement.

    function: the first line of the function in whose body it is, decorators included, and of the
    outermost one where they are nested; None for what runs at import.
    """

    line: int
    before: str
    after: str
    source: str
    function: int | None = None


def mutants(source: str) -> list[Mutant]:
    """Every mutant of a module's source, in the order of the source; each one compiles."""
    found = []
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    body = source.encode()
    tree = ast.parse(source)
    bodies = list(_bodies(tree))
    for node, after in _faults(tree):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        before = body[begin:end].decode()
        changed = (body[:begin] + after.encode() + body[end:]).decode()
        if after == before or not _compiles(changed):
            continue
        place = next((place for place, lines in bodies if node.lineno in lines), None)
        found.append(Mutant(node.lineno, " ".join(before.split()), after, changed, place))
    return sorted(set(found), key=lambda mutant: (mutant.line, mutant.before, mutant.after))


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _bodies(node: ast.AST) -> Iterator[tuple[int, range]]:
    """The outermost functions: first line, and the lines of the body, if none is shared."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            assert child.end_lineno is not None
            first = min([child.lineno, *(one.lineno for one in child.decorator_list)])
            begin = child.body[0].lineno
            if begin > child.lineno:
                yield first, range(begin, child.end_lineno + 1)
        else:
            yield from _bodies(child)


Located = ast.expr | ast.stmt


def _faults(tree: ast.AST) -> Iterator[tuple[Located, str]]:
    """Nodes, each with the text that takes its place. Annotations and docstrings stay."""
    for node in _executed(tree):
        if isinstance(node, ast.expr):
            yield from ((node, f"({ast.unparse(other)})") for other in _expressions(node))
            yield from ((node, text) for text in _constants(node))
        elif isinstance(node, ast.AugAssign) and type(node.op) in _ARITHMETIC:
            changed = ast.AugAssign(node.target, _ARITHMETIC[type(node.op)](), node.value)
            yield node, ast.unparse(changed)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield node, "pass"
        elif isinstance(node, ast.Continue):
            yield node, "break"
        elif isinstance(node, ast.Break):
            yield node, "continue"
        if isinstance(node, ast.If | ast.While | ast.IfExp):
            yield node.test, f"(not ({ast.unparse(node.test)}))"


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes whose value matters when the program runs: no annotation, docstring, assertion or
    import, and nothing inside of a text, whose parts have no place of their own."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_params") or isinstance(node, ast.JoinedStr):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(
                child, ast.Import | ast.ImportFrom | ast.Assert
            ):
                continue
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            yield from _executed(child)


def _expressions(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            ops: list[ast.cmpop] = list(node.ops)
            ops[place] = _COMPARISONS[type(operator)]()
            yield ast.Compare(node.left, ops, node.comparators)
    elif isinstance(node, ast.BinOp):
        if type(node.op) in _ARITHMETIC and not _is_text(node):
            yield ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.BoolOp(other, node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in _CALLS:
            yield ast.Call(ast.Name(_CALLS[node.func.id]), node.args, node.keywords)
        elif isinstance(node.func, ast.Attribute) and node.func.attr in _CALLS:
            function = ast.Attribute(node.func.value, _CALLS[node.func.attr])
            yield ast.Call(function, node.args, node.keywords)


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(side, ast.JoinedStr)
        or (isinstance(side, ast.Constant) and isinstance(side.value, str | bytes))
        for side in (node.left, node.right)
    )


def _constants(node: ast.expr) -> Iterator[str]:
    if not isinstance(node, ast.Constant):
        return
    value = node.value
    if isinstance(value, bool):
        yield str(not value)
    elif isinstance(value, int):
        yield str(value + 1)
        if value > 0:
            yield str(value - 1)
    elif isinstance(value, float):
        yield repr(value * 1.25 if value else 1.0)
