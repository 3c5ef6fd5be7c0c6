"""The budgets of the design: how long files and functions may be, what a call or a record carries, what needs words."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE_LINES = 400
BODY_LINES, BODY_LINES_95TH = 60, 40
PARAMETERS = 5
FIELDS = 12
FORBIDDEN_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"})

_PACKAGE = Path(__file__).resolve().parents[2] / "safetune"
_SOURCES = sorted(_PACKAGE.rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Found:
    """One function or class: where it is, and the classes it is in."""

    path: Path
    node: Function | ast.ClassDef
    owners: tuple[str, ...]

    @property
    def where(self) -> str:
        """Where a person looks: file, line and name."""
        name = ".".join((*self.owners, self.node.name))
        return f"{self.path.relative_to(_PACKAGE.parent)}:{self.node.lineno} {name}"

    @property
    def public(self) -> bool:
        """Whether others may use it: no part of its name is private."""
        return not any(name.startswith("_") for name in (*self.owners, self.node.name))


def _walk(path: Path, node: ast.AST, owners: tuple[str, ...]) -> Iterator[Found]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            yield Found(path, child, owners)
            inside = child.name if isinstance(child, ast.ClassDef) else f"<{child.name}>"
            yield from _walk(path, child, (*owners, inside))
        else:
            yield from _walk(path, child, owners)


_FOUND = [found for path in _SOURCES for found in _walk(path, ast.parse(path.read_text()), ())]
_FUNCTIONS = [(f, f.node) for f in _FOUND if isinstance(f.node, Function)]
_CLASSES = [(f, f.node) for f in _FOUND if isinstance(f.node, ast.ClassDef)]


def _body_lines(function: Function) -> int:
    """Return how many lines the body takes, its docstring not counted."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _is_command(function: Function) -> bool:
    """Whether a command line gives the arguments: its options are not a call that anybody writes."""
    names = {getattr(d.func, "attr", "") for d in function.decorator_list if isinstance(d, ast.Call)}
    return bool(names & {"command", "callback"})


def _parameters(function: Function) -> int:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return len(named) - bool(named and named[0].arg in ("self", "cls"))


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def test_there_is_something_to_look_at() -> None:
    assert len(_SOURCES) > 40
    assert len(_FUNCTIONS) > 200
    assert len(_CLASSES) > 40


def test_no_file_is_longer_than_400_lines() -> None:
    everything = (*_SOURCES, *(p for room in ("tests", "scripts") for p in (_PACKAGE.parent / room).rglob("*.py")))
    lengths = {str(p.relative_to(_PACKAGE.parent)): len(p.read_text().splitlines()) for p in everything}
    assert {p: n for p, n in lengths.items() if n > FILE_LINES} == {}


def test_no_function_body_is_longer_than_60_lines() -> None:
    assert [f"{f.where}: {_body_lines(n)}" for f, n in _FUNCTIONS if _body_lines(n) > BODY_LINES] == []


def test_95_of_100_function_bodies_have_at_most_40_lines() -> None:
    lengths = [_body_lines(node) for _, node in _FUNCTIONS]
    assert statistics.quantiles(lengths, n=20)[-1] <= BODY_LINES_95TH


def test_a_call_takes_at_most_5_arguments() -> None:
    many = [(f, _parameters(n)) for f, n in _FUNCTIONS if not _is_command(n)]
    assert [f"{f.where}: {count}" for f, count in many if count > PARAMETERS] == []


def test_a_record_has_at_most_12_fields() -> None:
    counted = [(f, sum(isinstance(s, ast.AnnAssign) for s in n.body)) for f, n in _CLASSES if _is_dataclass(n)]
    assert [f"{f.where}: {count}" for f, count in counted if count > FIELDS] == []


def test_records_are_frozen_and_have_slots() -> None:
    decorators = [(f, ast.unparse(d)) for f, n in _CLASSES for d in n.decorator_list if "dataclass" in ast.unparse(d)]
    loose = [f.where for f, text in decorators if f.public and not ("frozen=True" in text and "slots=True" in text)]
    assert loose == []


def test_every_public_name_outside_the_command_line_is_explained() -> None:
    modules = [p for p in _SOURCES if p.name != "__main__.py" and ast.get_docstring(ast.parse(p.read_text())) is None]
    assert [str(p.relative_to(_PACKAGE.parent)) for p in modules] == []
    nested = [f for f in _FOUND if any(owner.startswith("<") for owner in f.owners)]
    silent = [
        f.where
        for f in _FOUND
        if f.public and f not in nested and "cli" not in f.path.parts and ast.get_docstring(f.node) is None
    ]
    assert silent == []


def test_no_room_is_a_drawer_for_everything() -> None:
    parts = {part.removesuffix(".py") for path in _SOURCES for part in path.relative_to(_PACKAGE).parts}
    assert parts & FORBIDDEN_NAMES == set()
