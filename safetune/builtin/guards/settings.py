"""Options of guards, refused where they are unknown, out of range or of the wrong kind."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from safetune.core.diagnostics import did_you_mean
from safetune.core.digest import JSON
from safetune.core.errors import UsageError

Options = Mapping[str, JSON] | None


def known(guard: str, options: Options, names: Collection[str]) -> Mapping[str, JSON]:
    """Return the options, an empty mapping when there are none.

    Raises:
        UsageError: when one of them is not in `names`.
    """
    given = dict(options or {})
    for name in given:
        if name not in names:
            hint = did_you_mean(name, names) or f"known: {', '.join(sorted(names)) or 'none'}"
            raise UsageError(f'the guard {guard} has no option "{name}"', hint=hint)
    return given


def number(
    guard: str, given: Mapping[str, JSON], name: str, default: float, limits: tuple[float, float] = (0.0, 1.0)
) -> float:
    """Return the option `name`, a number from the first limit to the second.

    Raises:
        UsageError: when it is something else.
    """
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not limits[0] <= value <= limits[1]:
        hint = f"a number from {limits[0]:g} to {limits[1]:g}"
        raise UsageError(f"the guard {guard}: {name} is {value!r}", hint=hint)
    return float(value)


def whole(guard: str, given: Mapping[str, JSON], name: str, default: int, least: int) -> int:
    """Return the option `name`, a whole number of at least `least`.

    Raises:
        UsageError: when it is something else.
    """
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"the guard {guard}: {name} is {value!r}", hint=f"a whole number of at least {least}")
    return value


def switch(guard: str, given: Mapping[str, JSON], name: str, default: bool) -> bool:
    """Return the option `name`, true or false.

    Raises:
        UsageError: when it is something else.
    """
    value = given.get(name, default)
    if not isinstance(value, bool):
        raise UsageError(f"the guard {guard}: {name} is {value!r}", hint="true or false")
    return value
