"""Commands that start from a playbook: init, plan, run, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safetune.cli.app import AsJson, Playbook, Reason, Store, Workers, app
from safetune.cli.console import progress, show
from safetune.cli.next_step import DEFAULT_STORE
from safetune.cli.outputs import JUnit, Markdown, Outputs, Sarif, outputs
from safetune.core.errors import UsageError


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write it.", show_default=False)] = Path(),
    store: Store = DEFAULT_STORE,
    as_json: AsJson = False,
) -> int:
    """Write a playbook to start from.

    An existing file is never touched.

    \b
    Example:
      safetune init tutor
    """
    from safetune.cli.starter import write_starter

    written = write_starter(folder)
    here = "" if folder == Path() else f"cd {folder} && "
    return show(
        as_json,
        lambda paint: [
            *(f"wrote {_safe(path)}" for path in written),
            f"next: {_safe(here)}safetune plan playbook.yaml",
        ],
        lambda: {"written": [str(path) for path in written]},
    )


@app.command()
def plan(
    playbook: Playbook,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE.json", help="Save the plan; `run` obeys or refuses it."),
    ] = None,
    detailed_exitcode: Annotated[
        bool,
        typer.Option(
            "--detailed-exitcode",
            help="Exit 10 when something would be run, else the code of the recorded verdict that blocks (3, 4, 6).",
        ),
    ] = False,
    sarif: Sarif = None,
    store: Store = DEFAULT_STORE,
    as_json: AsJson = False,
) -> int:
    """Say for every stage whether it would run, and why.

    Trains nothing, starts nothing, opens no connection. Exits 0 when the plan can be shown, also when a recorded FAIL
    blocks a stage: that is information. Exits 2 when a mistake or something missing blocks a stage.

    \b
    Example:
      safetune plan playbook.yaml -o plan.json
    """
    from safetune.engine.planning import is_plan, prepare, save_plan
    from safetune.engine.preview import preview
    from safetune.report.ci import CiReport
    from safetune.report.plan import PlanView, plan_document, plan_exit_code, plan_lines

    if output is not None and not is_plan(output):
        raise UsageError(f"a saved plan must be called something.json, not {output}", hint="-o plan.json")
    files = Outputs(sarif=sarif, inputs=(playbook, output))
    with outputs(files, str(playbook)) as write_files, progress(as_json) as listener:
        prepared = prepare(playbook, store, listener)
        files.survey(prepared)
        if output is not None:
            save_plan(prepared.plan, output)
        code = plan_exit_code(prepared.plan, detailed_exitcode)
        write_files(CiReport(str(playbook), code))
    saved = str(output) if output else ""
    policy, sources = prepared.playbook.inputs.policy, prepared.playbook.sources
    milder = {source.name: policy.loosened_for(source.guards) for source in sources}
    view = PlanView(prepared.facts, preview(prepared), prepared.where, str(playbook), saved, milder)
    return show(
        as_json,
        lambda paint: plan_lines(view, paint),
        lambda: plan_document(view),
        code,
    )


@app.command()
def run(
    playbook: Annotated[
        Path, typer.Argument(metavar="PLAYBOOK|PLAN.json", help="A playbook, or a saved plan.", show_default=False)
    ],
    reason: Reason = "",
    workers: Workers = None,
    markdown: Markdown = None,
    junit: JUnit = None,
    sarif: Sarif = None,
    store: Store = DEFAULT_STORE,
    as_json: AsJson = False,
) -> int:
    """Train, evaluate and gate the stages that are not settled.

    What passes is promoted, the rest is rejected. A saved plan is done exactly, or refused with what changed (exit 5).
    Interrupted? The same command continues. A recorded verdict is final; --reason lets a gate that was changed since
    decide once more.

    \b
    Example:
      safetune run plan.json
    """
    from safetune.engine.planning import is_plan, prepare, read_plan, refuse_if_stale
    from safetune.engine.run import RunSettings, run_playbook
    from safetune.report.ci import run_report
    from safetune.report.run import run_json, run_lines

    files = Outputs(markdown, junit, sarif, inputs=(playbook,))
    with outputs(files, str(playbook)) as write_files, progress(as_json) as listener:
        saved = read_plan(playbook) if is_plan(playbook) else None
        prepared = prepare(saved.playbook if saved else playbook, store, listener)
        files.survey(prepared)
        if saved:
            refuse_if_stale(saved, prepared.plan, prepared.events)
        result = run_playbook(prepared, store, RunSettings(workers, reason, listener, saved.digest if saved else ""))
        write_files(run_report(result))
    return show(
        as_json,
        lambda paint: run_lines(result, paint),
        lambda: run_json(result),
        result.exit_code,
    )


@app.command()
def evaluate(
    playbook: Playbook,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="base, a channel, a checkpoint (6 digits or more), a model folder, or ADDRESS#MODEL of an endpoint; "
            "default: the playbook's channel.",
            show_default=False,
        ),
    ] = "",
    gate: Annotated[bool, typer.Option("--gate", help="Decide too; the verdict is the exit code.")] = False,
    stage: Annotated[
        str, typer.Option("--stage", metavar="SPRINT/STAGE", help="Whose guardrails to use.", show_default=False)
    ] = "",
    suite: Annotated[
        list[str] | None, typer.Option("--suite", metavar="NAME", help="Only this suite; may be given again.")
    ] = None,
    baseline: Annotated[
        str, typer.Option("--baseline", metavar="TARGET", help="What to compare with.", show_default=False)
    ] = "",
    recorded: Annotated[
        Path | None, typer.Option("--recorded", metavar="FILE.jsonl", help="Judge these responses; no model is loaded.")
    ] = None,
    baseline_recorded: Annotated[
        Path | None, typer.Option("--baseline-recorded", metavar="FILE.jsonl", help="The baseline's responses.")
    ] = None,
    key_variable: Annotated[
        str, typer.Option("--key-variable", metavar="NAME", help="The variable with an endpoint's key.")
    ] = "",
    template: Annotated[
        str,
        typer.Option(
            "--template",
            metavar="NAME|none",
            help="Ask with this prompt template instead of the one that the playbook serves.",
            show_default=False,
        ),
    ] = "",
    reason: Reason = "",
    extend: Annotated[
        list[str] | None,
        typer.Option(
            "--extend", metavar="SUITE=N", help="Gate again with N clusters of a sampled suite; may be given again."
        ),
    ] = None,
    workers: Workers = None,
    markdown: Markdown = None,
    junit: JUnit = None,
    store: Store = DEFAULT_STORE,
    as_json: AsJson = False,
) -> int:
    """Measure a model or recorded responses on a playbook's suites.

    The evidence is stored. With --gate the verdict is the exit code; for a checkpoint of the store it is recorded.

    \b
    Example:
      safetune evaluate playbook.yaml stable --gate
    """
    from safetune.engine.evaluate import Again, AskedHow, EvaluateRequest
    from safetune.engine.evaluate import evaluate as measure
    from safetune.report.ci import evaluation_report
    from safetune.report.evaluation import evaluate_json, evaluate_lines

    if (markdown or junit) and not gate:
        raise UsageError("--markdown and --junit are about a gate", hint="add --gate")

    wanted = EvaluateRequest(
        playbook=playbook,
        store=store,
        target=target,
        baseline=baseline,
        suites=tuple(suite or ()),
        gate=gate,
        stage=stage,
        recorded=recorded,
        baseline_recorded=baseline_recorded,
        again=Again(reason, tuple(extend or ())),
        workers=workers,
        asked=AskedHow(key_variable, template),
    )
    files = Outputs(markdown, junit, inputs=(playbook, recorded, baseline_recorded))
    with outputs(files, target or str(recorded or playbook)) as write_files, progress(as_json) as listener:
        result = measure(wanted, listener)
        write_files(evaluation_report(result))
    return show(as_json, lambda paint: evaluate_lines(result, paint), lambda: evaluate_json(result), result.exit_code)


@app.command()
def prompts(
    playbook: Playbook,
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="A suite of the playbook.", show_default=False)],
    store: Store = DEFAULT_STORE,
    as_json: AsJson = False,
) -> int:
    """Print what a suite asks, one JSON row an item.

    Ask it elsewhere, add "output" to each row, and `evaluate --recorded` judges it. Items
    that only gates read are not printed.

    \b
    Example:
      safetune prompts playbook.yaml harmless > asked.jsonl
    """
    import json

    from safetune.engine.listing import list_prompts

    rows = list_prompts(playbook, store, suite)
    return show(as_json, lambda paint: [json.dumps(row) for row in rows], lambda: {"prompts": rows})


def _safe(text: object) -> str:
    from safetune.report.untrusted import render_untrusted

    return render_untrusted(text)
