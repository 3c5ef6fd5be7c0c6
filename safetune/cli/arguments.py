"""Plain conversion of arguments: typer's own goes through pydantic, whose import costs more than most commands do.

Only the types that our commands use are taken over, at the one place where typer keeps its lazily built converter
(`_runtime_param`, typer 0.29). Should another typer not have it, typer converts as ever, only slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import typer

_PLAIN: dict[object, Callable[[object], object]] = {
    bool: bool,  # a flag that is given is True already; this is for one that is not
    str: str,
    int: lambda value: int(str(value)),
    Path: lambda value: Path(str(value)),
}
_PLAIN_LISTS: dict[object, Callable[[object], object]] = {list[str]: str}


class _Parameter(Protocol):
    """The part of a typer parameter that is used here."""

    type_descriptor: _Descriptor
    min: float | None


class _Descriptor(Protocol):
    annotation: object


class Plain:
    """Converts the values of one parameter."""

    def __init__(self, parameter: _Parameter) -> None:
        self._annotation = parameter.type_descriptor.annotation
        self._least = getattr(parameter, "min", None)

    def coerce(self, value: object, param: object, ctx: object) -> object:
        """Return what the command gets; the signature is typer's.

        Raises:
            typer.BadParameter: when the text means no such value.
        """
        if self._annotation in _PLAIN_LISTS:
            return [str(item) for item in value] if isinstance(value, Iterable) else None
        if value is None:
            return None
        try:
            found = _PLAIN[self._annotation](value)
        except ValueError:
            raise self._refusal(f"{value!r} is not a whole number", param, ctx) from None
        if self._least is not None and isinstance(found, int) and found < self._least:
            raise self._refusal(f"{found} is below {self._least:g}", param, ctx)
        return found

    @staticmethod
    def _refusal(message: str, param: Any, ctx: Any) -> typer.BadParameter:
        return typer.BadParameter(message, ctx=ctx, param=param)


def simplify(command: Any, help_names: list[str]) -> None:
    """Give plain conversion to the parameters of a typer command, its help option and all commands below it."""
    context = typer.Context(command, help_option_names=help_names)
    for parameter in command.get_params(context):
        known = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
        if hasattr(parameter, "_runtime_param") and (known in _PLAIN or known in _PLAIN_LISTS):
            parameter._runtime_param = Plain(parameter)
    for below in getattr(command, "commands", {}).values():
        simplify(below, help_names)
