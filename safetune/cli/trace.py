"""The command `trace`: from a row to checkpoints, from a checkpoint to sources, from an answer to rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safetune.cli.app import AsJson, Store, app
from safetune.cli.console import progress, show
from safetune.cli.next_step import DEFAULT_STORE
from safetune.core.errors import UsageError

if TYPE_CHECKING:
    from safetune.engine.data.trace import OutputTrace, Tracer

_AMONG = 100


@app.command()
def trace(
    target: Annotated[
        str,
        typer.Argument(metavar="ROW|CHECKPOINT", help="A row's id, FILE.jsonl:LINE, a checkpoint, or a channel."),
    ],
    output: Annotated[
        str, typer.Option("--output", metavar="TEXT", help="An answer of the checkpoint.", show_default=False)
    ] = "",
    output_file: Annotated[
        Path | None, typer.Option("--output-file", metavar="FILE", help="The same, from a file.", show_default=False)
    ] = None,
    item: Annotated[
        str,
        typer.Option("--item", metavar="SUITE/ITEM", help="What it answered in its last gate.", show_default=False),
    ] = "",
    count: Annotated[int, typer.Option("--top", metavar="N", min=1, help="How many rows to show.")] = 10,
    gradients: Annotated[
        Path | None,
        typer.Option(
            "--gradients",
            metavar="PLAYBOOK",
            help="Rank by gradients, too (LoRA); the playbook names the base model.",
            show_default=False,
        ),
    ] = None,
    prompt: Annotated[
        str, typer.Option("--prompt", metavar="TEXT", help="What was asked; for --gradients.", show_default=False)
    ] = "",
    among: Annotated[
        int, typer.Option("--among", metavar="N", min=0, help="Nearest rows to compare by gradients; 0: all.")
    ] = _AMONG,
    excerpts: Annotated[bool, typer.Option("--show", help="Show the beginning of rows, redacted and escaped.")] = False,
    store: Store = DEFAULT_STORE,
    as_json: AsJson = False,
) -> int:
    """Trace rows to checkpoints, and checkpoints to rows.

    Says which checkpoints saw a row, what a checkpoint was taught by, or which rows are near an answer.

    A row's answer covers checkpoints that inherited it. Rows near an answer are those that its checkpoint or an
    ancestor saw; near means alike, which is a hint and no proof.

    \b
    Example:
      safetune trace 3f9a1c77
      safetune trace stable --item harmful-requests/17
    """
    from safetune.engine.data.trace import Tracer

    tracer = Tracer(store)
    wanted = _Wanted(output, output_file, item, prompt, count, among, gradients, excerpts)
    if tracer.is_checkpoint(target):
        return _checkpoint(tracer, tracer.named(target), wanted, as_json)
    if wanted.any:
        raise UsageError(f'"{target}" is not a checkpoint or a channel, so it answers nothing', hint="safetune status")
    from safetune.report.json_view import record
    from safetune.report.trace import row_lines

    row = tracer.row(target, excerpts)
    return show(as_json, lambda paint: row_lines(row, paint), lambda: record(row))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What was asked of a checkpoint."""

    output: str
    file: Path | None
    item: str
    prompt: str
    count: int
    among: int
    gradients: Path | None
    show: bool

    @property
    def any(self) -> bool:
        return bool(self.output or self.file or self.item or self.gradients)


def _checkpoint(tracer: Tracer, digest: str, wanted: _Wanted, as_json: bool) -> int:
    from safetune.report.json_view import record
    from safetune.report.trace import checkpoint_lines, output_lines

    if not wanted.any:
        made = tracer.checkpoint(digest)
        return show(as_json, lambda paint: checkpoint_lines(made, paint), lambda: record(made))
    near = _near(tracer, digest, wanted, as_json)
    return show(as_json, lambda paint: output_lines(near, paint), lambda: record(near))


def _near(tracer: Tracer, digest: str, wanted: _Wanted, as_json: bool) -> OutputTrace:
    text = _text(tracer, digest, wanted)
    if wanted.gradients is None:
        return tracer.near(digest, text, wanted.count, wanted.show)
    from safetune.engine.data.attribution import Asked, by_gradients

    asked = Asked(digest, wanted.prompt, text, wanted.among, wanted.count, wanted.show)
    with progress(as_json) as listener:
        return by_gradients(tracer, asked, wanted.gradients, listener)


def _text(tracer: Tracer, digest: str, wanted: _Wanted) -> str:
    given = [bool(wanted.output), wanted.file is not None, bool(wanted.item)]
    if sum(given) != 1:
        raise UsageError("name one answer: --output, --output-file or --item", hint='--output "TEXT"')
    if wanted.item:
        return tracer.answer(digest, wanted.item)
    if wanted.file is None:
        return wanted.output
    try:
        return wanted.file.read_text()
    except OSError as error:
        raise UsageError(f"{wanted.file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{wanted.file} is not UTF-8 from byte {error.start + 1} on") from error
