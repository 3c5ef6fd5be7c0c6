"""Commands about training data: data check, card, pin, withdraw."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safetune.cli.app import AsJson, Store, app
from safetune.cli.console import progress, show
from safetune.cli.next_step import DEFAULT_STORE

data = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data", help="Training data: check, card, pin, withdraw.")


@data.command()
def check(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A playbook (YAML) or one data file.")],
    source: Annotated[
        list[str] | None, typer.Option("--source", metavar="NAME", help="Only this source; may be given again.")
    ] = None,
    guard: Annotated[
        list[str] | None, typer.Option("--guard", metavar="NAME", help="Only this guard; may be given again.")
    ] = None,
    findings: Annotated[
        Path | None, typer.Option("--findings", metavar="FILE.jsonl", help="Write every finding there.")
    ] = None,
    store: Store = DEFAULT_STORE,
    as_json: AsJson = False,
) -> int:
    """Guard rows and say what is found.

    Trains nothing and changes nothing. Exits 2 when a source may not train a model as it is. Findings name source, row,
    place and rule, never the text itself. Interrupted? With a store the same command continues.

    \b
    Example:
      safetune data check playbook.yaml --guard pii --findings found.jsonl
    """
    from safetune.core.data_card import card_json
    from safetune.engine.data.check import CheckRequest
    from safetune.engine.data.check import check as look
    from safetune.report.data_card import check_lines

    wanted = CheckRequest(target, store, tuple(source or ()), tuple(guard or ()), findings)
    with progress(as_json) as listener:
        result = look(wanted, listener)
    return show(
        as_json,
        lambda paint: check_lines(result.card, result.findings, paint),
        lambda: {**card_json(result.card), "findings": result.findings},
        result.exit_code,
    )


@data.command()
def card(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A playbook, a channel, a checkpoint or a mixture.")],
    against: Annotated[
        str, typer.Option("--against", metavar="TARGET", help="Show what differs from this one.", show_default=False)
    ] = "",
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE.md", help="Write the card there, with examples.")
    ] = None,
    store: Store = DEFAULT_STORE,
    as_json: AsJson = False,
) -> int:
    """Show what a model learns from.

    Sources with licence and consent, rows kept, dropped and why; or what differs between two cards.

    \b
    Example:
      safetune data card stable --against playbook.yaml
    """
    from safetune.core.data_card import card_json, differences
    from safetune.engine.data.cards import card_of, pair_of
    from safetune.report.data_card import card_lines, difference_lines
    from safetune.report.data_card import markdown as written
    from safetune.report.json_view import jsonable

    with progress(as_json) as listener:
        if markdown is not None or not against:
            found, examples = card_of(target, store, listener)
        if against:
            after, before = pair_of(target, against, store, listener)
    if markdown is not None:
        _write(markdown, written(found, examples))
    if not against:
        return show(as_json, lambda paint: card_lines(found, paint), lambda: card_json(found))
    changes = differences(before, after)
    return show(as_json, lambda paint: difference_lines(changes, paint), lambda: {"differences": jsonable(changes)})


@data.command()
def withdraw(
    what: Annotated[
        str, typer.Argument(metavar="SOURCE|ROW", help="A source by name, or 8 digits of its sha256 or of a row's id.")
    ],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the ledger.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    store: Store = DEFAULT_STORE,
    as_json: AsJson = False,
) -> int:
    """Withdraw consent to a source or a row.

    Every checkpoint that learnt from it, and all that was trained from one, is quarantined for good: no gate and no
    override frees it. Channels go back to the newest promotion that did not. Exits 3 when a channel has none.

    \b
    Example:
      safetune data withdraw support-chats --reason "the customer withdrew consent on 3 May" --dry-run
    """
    from safetune.engine.data.withdraw import withdraw as take_back
    from safetune.report.data_withdraw import withdraw_lines
    from safetune.report.json_view import record

    result = take_back(store, what, reason, dry_run)
    return show(as_json, lambda paint: withdraw_lines(result, paint), lambda: record(result), result.exit_code)


def _write(path: Path, text: str) -> None:
    from safetune.core.errors import UsageError
    from safetune.state.atomic import write_atomic

    if not path.absolute().parent.is_dir() or path.is_dir():
        raise UsageError(f"the card cannot be written as {path}", hint="name a file in a folder that exists")
    write_atomic(path, text.encode())


@data.command()
def pin(
    uri: Annotated[str, typer.Argument(metavar="URI", help="A file, a folder, a mixture, a DVC pin or hub:org/name.")],
    revision: Annotated[
        str, typer.Option("--revision", metavar="HASH", help="Of a hub dataset: its full commit hash.")
    ] = "",
    format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="jsonl, csv, parquet, folder, hub or mixture.")
    ] = "",
    as_json: AsJson = False,
) -> int:
    """Print a source entry for a playbook.

    The data is read and hashed; what only you can know, such as licence and consent, is left to be filled in.

    \b
    Example:
      safetune data pin rows.jsonl
    """
    from safetune.core.data_policy import DataPolicy
    from safetune.engine.data.pin import pin as measure
    from safetune.engine.data.pin import source_at, usable
    from safetune.report.data_pin import pin_json, pin_lines

    found = usable(measure(uri, source_at(uri, Path.cwd(), format, revision), DataPolicy().longest_row))
    return show(as_json, lambda paint: pin_lines(found), lambda: pin_json(found))
