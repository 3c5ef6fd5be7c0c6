"""Commands that work on a store: rollback, status, log, verify, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safetune.cli.app import AsJson, Reason, Store, app
from safetune.cli.console import progress, show
from safetune.cli.next_step import DEFAULT_STORE
from safetune.core.errors import ExitCode


@app.command()
def rollback(
    channel: Annotated[
        str, typer.Argument(metavar="CHANNEL", help="Default: the only channel there is.", show_default=False)
    ] = "",
    to: Annotated[
        str, typer.Option("--to", metavar="CHECKPOINT", help="An earlier promotion; default: the one before.")
    ] = "",
    reason: Reason = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Choose and verify, but change nothing.")] = False,
    store: Store = DEFAULT_STORE,
    as_json: AsJson = False,
) -> int:
    """Move a channel back to an earlier promotion.

    Every file of it is verified first; nothing is deleted. A second identical call changes nothing and exits 0.

    \b
    Example:
      safetune rollback stable --reason "complaints since Monday"
    """
    from safetune.engine.rollback import RollbackRequest, roll_back
    from safetune.report.json_view import record
    from safetune.report.store import rollback_lines

    result = roll_back(store, RollbackRequest(channel, to, reason, dry_run))
    return show(as_json, lambda paint: rollback_lines(result, paint), lambda: record(result))


@app.command()
def status(store: Store = DEFAULT_STORE, as_json: AsJson = False) -> int:
    """Show where channels point and what became of checkpoints.

    \b
    Example:
      safetune status
    """
    from safetune.engine.status import status as look
    from safetune.report.json_view import record
    from safetune.report.store import status_lines

    found = look(store)
    return show(as_json, lambda paint: status_lines(found, paint), lambda: record(found))


@app.command()
def log(
    last: Annotated[int, typer.Option("--last", "-n", metavar="N", min=0, help="How many lines; 0 shows all.")] = 20,
    store: Store = DEFAULT_STORE,
    as_json: AsJson = False,
) -> int:
    """Show the ledger: who did what, and when; the newest last.

    \b
    Example:
      safetune log --last 50
    """
    from safetune.engine.status import log as read
    from safetune.report.json_view import jsonable
    from safetune.report.store import log_lines

    events = read(store)
    shown = events[-last:] if last else events
    return show(
        as_json,
        lambda paint: log_lines(shown, len(events), events[: len(events) - len(shown)]),
        lambda: {"events": jsonable(shown), "total": len(events)},
    )


@app.command()
def verify(store: Store = DEFAULT_STORE, as_json: AsJson = False) -> int:
    """Hold the whole store against its ledger.

    Every link, every object and every pointer is checked. Damage exits 5.

    \b
    Example:
      safetune verify
    """
    from safetune.engine.verify import verify as check
    from safetune.report.json_view import record
    from safetune.report.store import verify_lines

    found = check(store)
    code = ExitCode.STALE if found.findings else ExitCode.DONE
    return show(as_json, lambda paint: verify_lines(found, paint), lambda: record(found), code)


@app.command()
def export(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A channel or a promoted checkpoint.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="A folder that does not exist yet.")],
    playbook: Annotated[
        Path, typer.Option("--playbook", metavar="PLAYBOOK", help="The playbook that names the base model.")
    ],
    store: Store = DEFAULT_STORE,
    as_json: AsJson = False,
) -> int:
    """Write a promoted checkpoint as one model folder.

    Everything is merged into it, ready to be served. Only what is promoted leaves the store.

    \b
    Example:
      safetune export stable --to served --playbook playbook.yaml
    """
    from safetune.engine.export import export as write_out
    from safetune.report.json_view import record
    from safetune.report.store import export_lines

    with progress(as_json) as listener:
        result = write_out(playbook, store, (target, to), listener)
    return show(as_json, lambda paint: export_lines(result), lambda: record(result))
