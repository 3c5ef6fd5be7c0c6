"""Commands about safetune itself: schema, doctor."""

from __future__ import annotations

from safetune.cli.app import AsJson, Store, app
from safetune.cli.console import show
from safetune.cli.next_step import DEFAULT_STORE
from safetune.core.errors import ExitCode


@app.command()
def schema(store: Store = DEFAULT_STORE, as_json: AsJson = False) -> int:
    """Print the JSON Schema of playbooks, for editors.

    With --json it is the member `schema` of the object.

    \b
    Example:
      safetune schema > playbook.schema.json
    """
    import json

    from safetune.cli.boundary import write
    from safetune.playbook.schema import schema as schema_of

    if as_json:
        return show(True, lambda paint: [], lambda: {"schema": schema_of()})
    write([json.dumps(schema_of(), indent=2)])
    return int(ExitCode.DONE)


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
