"""Options of a judge: what a playbook may write under its name, checked before anything is judged."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

from safetune.core.digest import JSON
from safetune.core.errors import UsageError

Options = Mapping[str, JSON] | None


def known_options(judge: str, options: Options, known: Collection[str]) -> Mapping[str, JSON]:
    """Return the options, an empty mapping when there are none.

    Raises:
        UsageError: when one of them is not in `known`.
    """
    given = dict(options or {})
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(sorted(known)) or 'none'}"
            raise UsageError(f'the judge {judge} has no option "{name}"', hint=hint)
    return given


def one_of(judge: str, given: Mapping[str, JSON], name: str, values: tuple[str, ...]) -> str:
    """Return the option `name`, which must be one of `values`; the first of them where it is not given.

    Raises:
        UsageError: when it is something else.
    """
    value = given.get(name, values[0])
    if not isinstance(value, str) or value not in values:
        raise UsageError(f"the judge {judge}: {name} is {value!r}", hint=f"one of: {', '.join(values)}")
    return value
