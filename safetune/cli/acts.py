"""Commands by which people overrule a gate, in the open: approve, override."""

from __future__ import annotations

from typing import Annotated

import typer

from safetune.cli.app import AsJson, Reason, Store, app
from safetune.cli.console import show
from safetune.cli.next_step import DEFAULT_STORE

_Checkpoint = Annotated[
    str, typer.Argument(metavar="CHECKPOINT", help="Its digest, 6 digits or more.", show_default=False)
]
_Evidence = Annotated[
    str, typer.Option("--evidence", metavar="ID", help="The evidence of its last gate, 6 digits or more.")
]


@app.command()
def approve(
    checkpoint: _Checkpoint,
    evidence: _Evidence,
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="In which role you agree.")],
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What you looked at; kept in the ledger.")] = "",
    store: Store = DEFAULT_STORE,
    as_json: AsJson = False,
) -> int:
    """Agree to the use of a checkpoint that did not pass.

    It is bound to the evidence of that gate; a later gate ends it. Who you are is taken from the system's user name,
    which is no proof.

    \b
    Example:
      safetune approve 3f2a91 --evidence 77c0de --role safety --note "read all 12 flips"
    """
    from safetune.engine.override import Claim
    from safetune.engine.override import approve as agree
    from safetune.report.json_view import record
    from safetune.report.store import approve_lines

    result = agree(store, Claim(checkpoint, evidence), role, note)
    return show(as_json, lambda paint: approve_lines(result), lambda: record(result))


@app.command()
def override(
    checkpoint: _Checkpoint,
    evidence: _Evidence,
    reason: Reason = "",
    to: Annotated[
        str, typer.Option("--to", metavar="CHANNEL", help="Default: the only channel there is.", show_default=False)
    ] = "",
    store: Store = DEFAULT_STORE,
    as_json: AsJson = False,
) -> int:
    """Promote a checkpoint whose gate said FAIL or INCONCLUSIVE.

    Needs a reason and the approval of somebody else. The verdict stays what it was and is shown as overridden; a later
    gate of the checkpoint ends the override.

    \b
    Example:
      safetune override 3f2a91 --evidence 77c0de --reason "the judge misread a dialect"
    """
    from safetune.engine.override import Claim
    from safetune.engine.override import override as overrule
    from safetune.report.json_view import record
    from safetune.report.store import override_lines

    result = overrule(store, Claim(checkpoint, evidence), reason, to)
    return show(as_json, lambda paint: override_lines(result, paint), lambda: record(result))
