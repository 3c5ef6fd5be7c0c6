"""Commands about safetune itself: schema, doctor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from safetune.cli.app import AsJson, Store, app
from safetune.cli.console import show
from safetune.cli.next_step import DEFAULT_STORE
from safetune.core.errors import ExitCode, UsageError


@app.command()
def schema(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="playbook, suite, or what --json prints: gate (a part of both), evaluate, run.",
        ),
    ] = "playbook",
    store: Store = DEFAULT_STORE,
    as_json: AsJson = False,
) -> int:
    """Print a JSON Schema of playbooks, suites or results.

    Those of playbooks and suites are for editors, those of results for programs. With --json it is the member `schema`
    of the object.

    \b
    Example:
      safetune schema > playbook.schema.json
    """
    import json

    from safetune.cli.boundary import write

    found = _schema(what)
    if as_json:
        return show(True, lambda paint: [], lambda: {"schema": found})
    write([json.dumps(found, indent=2)])
    return int(ExitCode.DONE)


def _schema(what: str) -> Mapping[str, object]:
    from safetune.core.diagnostics import did_you_mean
    from safetune.playbook import schema as written
    from safetune.report.schemas import NAMES, output_schema

    if what in NAMES:
        return output_schema(what)
    if what in (known := {"playbook": written.schema, "suite": written.suite_schema}):
        return known[what]()
    names = (*known, *NAMES)
    raise UsageError(
        f'there is no schema of "{what}"; known: {", ".join(names)}',
        hint=did_you_mean(what, names) or "safetune schema",
    )


@app.command()
def doctor(store: Store = DEFAULT_STORE, as_json: AsJson = False) -> int:
    """Say what this machine offers and what is missing.

    Exits 2 when something that is needed is missing.

    \b
    Example:
      safetune doctor
    """
    from safetune.cli.machine import look
    from safetune.report.doctor import doctor_lines
    from safetune.report.json_view import jsonable

    checks = look(store)
    code = ExitCode.DONE if all(c.good for c in checks) else ExitCode.USAGE
    return show(as_json, lambda paint: doctor_lines(checks, paint), lambda: {"checks": jsonable(checks)}, code)
