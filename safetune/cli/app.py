"""The typer application: what every command is called, and the options that all of them share."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Protocol

import typer

from safetune.cli.next_step import remember
from safetune.core.errors import EXIT_CODE_MEANINGS


class _Runnable(Protocol):
    """A command line that can be run."""

    def main(self, *, args: list[str], prog_name: str, standalone_mode: bool) -> int | None:
        """Run it and return the exit code."""
        ...


_PURPOSE = """Take a language model through planned fine-tuning sprints, with a safety gate after each stage.

A playbook (YAML) says what to train, how to measure it and what must hold. A stage whose gate says PASS is promoted;
anything else is rejected, and every step is one line of a ledger that can be verified.

\b
Example:
  safetune init tutor && cd tutor
  safetune plan playbook.yaml -o plan.json
  safetune run plan.json
  safetune status
"""


def _exit_codes() -> str:
    rows = "\n".join(f"  {int(code):>3}  {meaning}" for code, meaning in EXIT_CODE_MEANINGS.items())
    return f"\b\nExit codes of all commands:\n{rows}"


_HELP = ["-h", "--help"]

app = typer.Typer(
    name="safetune",
    help=_PURPOSE,
    epilog=_exit_codes(),
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": _HELP, "max_content_width": 100},
)

Store = Annotated[Path, typer.Option("--store", metavar="DIR", help="Folder of the store.", callback=remember)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Playbook = Annotated[Path, typer.Argument(metavar="PLAYBOOK", help="A playbook (YAML).", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the ledger.", show_default=False)]
Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", min=1, help="Evaluation workers at once; default: as many as fit."),
]


def _version(wanted: bool) -> None:
    if wanted:
        from safetune import __version__

        typer.echo(f"safetune {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Keep the group's own help; nothing happens before a command."""


# Each adds its commands, in the order in which a person meets them.
for _room in ("playbooks", "stores", "data", "acts", "judges", "trace", "about"):
    import_module(f"safetune.cli.{_room}")


def command() -> _Runnable:
    """Return the whole command tree, ready to be run."""
    from typer.main import get_command

    from safetune.cli.arguments import simplify

    tree = get_command(app)
    simplify(tree, _HELP)
    return tree
