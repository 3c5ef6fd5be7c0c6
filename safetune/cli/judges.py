"""Commands that try a judge alone: judge list, judge label, judge calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safetune.cli.app import AsJson, Store, app
from safetune.cli.console import progress, show
from safetune.cli.next_step import DEFAULT_STORE
from safetune.core.errors import ExitCode, UsageError

judge = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(judge, name="judge", help="Try a judge alone: list, label, calibrate.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A judge.", show_default=False)]
Options = Annotated[
    str, typer.Option("--options", metavar="JSON|FILE", help="Options of the judge.", show_default=False)
]


@judge.command("list")
def list_judges(store: Store = DEFAULT_STORE, as_json: AsJson = False) -> int:
    """Show every judge: its labels, its languages, the card that is shipped with it.

    \b
    Example:
      safetune judge list
    """
    from safetune.engine.calibrate import judges
    from safetune.report.json_view import jsonable
    from safetune.report.judge import list_lines

    found = judges()
    return show(as_json, lambda paint: list_lines(found, paint), lambda: {"judges": jsonable(found)})


@judge.command("label")
def label_responses(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Rows with prompt and response.")],
    options: Options = "",
    store: Store = DEFAULT_STORE,
    as_json: AsJson = False,
) -> int:
    """Let a judge label the responses of a file.

    A judge that asks a model keeps the answers in the store, and asks only for what is missing. Exits 6 when the judge
    labels its own controls wrongly.

    \b
    Example:
      safetune judge label refusal responses.jsonl
    """
    from safetune.engine.calibrate import Trial, label, read_options
    from safetune.report.judge import label_json, label_lines

    with progress(as_json) as listener:
        found = label(Trial(name, read_options(options), file, store), listener)
    code = ExitCode.FAILED_RUN if found.said.failed else ExitCode.DONE
    return show(as_json, lambda paint: label_lines(found, paint), lambda: label_json(found), code)


@judge.command("calibrate")
def calibrate_judge(
    name: Name,
    labelled: Annotated[
        Path, typer.Option("--labelled", metavar="FILE.jsonl", help="Rows with prompt, response, label.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="CARD.json", help="Write the card that a suite may name.")
    ] = None,
    options: Options = "",
    names: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="LABEL=LABEL", help="The judge's word = the file's; may be given again."),
    ] = None,
    language: Annotated[
        str, typer.Option("--language", metavar="CODE", help="Of rows that name none.", show_default=False)
    ] = "",
    store: Store = DEFAULT_STORE,
    as_json: AsJson = False,
) -> int:
    """Say how right a judge is on responses that people labelled.

    Labels are refusal and compliance, or harmful and harmless. Accuracy, sensitivity and specificity come with 95 %
    intervals, for each language and together. The card holds for this version of the judge alone.

    \b
    Example:
      safetune judge calibrate refusal --labelled sample.jsonl --out refusal.json
    """
    from safetune.engine.calibrate import Terms, Trial, calibrate, read_options
    from safetune.report.judge import calibrate_json, calibrate_lines

    trial = Trial(name, read_options(options), labelled, store)
    terms = Terms(_names(names or []), language)
    with progress(as_json) as listener:
        found = calibrate(trial, terms, out, listener)
    return show(as_json, lambda paint: calibrate_lines(found, paint), lambda: calibrate_json(found))


def _names(given: list[str]) -> dict[str, str]:
    """Return what --map says: the judge's label to the file's."""
    found: dict[str, str] = {}
    for text in given:
        own, sign, other = text.partition("=")
        if not sign or not own or not other:
            raise UsageError(f"--map {text}: write the judge's label, =, and the file's", hint="--map unsafe=harmful")
        if own in found:
            raise UsageError(f"--map says twice what {own} is")
        found[own] = other
    return found
