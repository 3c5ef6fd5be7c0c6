"""Run another evaluation tool in its own environment, when a suite names it, and find the results it wrote.

A playbook is data and may not run code, and these tools run code: tasks of Inspect and of lm-eval are Python files. So
a suite names an engine and its arguments, and nothing else: which program that is, and which folder of tasks it may
read, is for the person who runs safetune to allow, in environment variables. An argument can point to the model, to the
output folder and to that folder of tasks by placeholders; any other path in an argument is refused.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from safetune.core.diagnostics import did_you_mean
from safetune.core.digest import JSON
from safetune.core.errors import RunError, UsageError
from safetune.engine.jobs import run_jobs, write_job
from safetune.plugins import load
from safetune.protocols import Job, Launcher, Listener, Progress
from safetune.state.atomic import machine_errors, write_atomic

ENGINES = ("inspect", "lm-eval", "garak", "command")
PLACEHOLDERS = ("{model}", "{output}", "{tasks_dir}")

_VARIABLE = "SAFETUNE_ENGINE_"
_TASKS_VARIABLE = "SAFETUNE_ENGINE_TASKS"
_MINUTES = 7 * 24 * 60.0
# The tool has its own packages: what belongs to the environment of safetune would mix the two up.
_HIDDEN = ("PYTHONPATH", "VIRTUAL_ENV", "SAFETUNE_CONDUCTOR")
_NAME = re.compile(r"\{[a-z_]+\}")
# A path that is not below a placeholder: absolute, in a home folder, upwards, an address, a variable, a longer name.
_LOOSE_PATH = re.compile(r"(?:^|[\s=:,;@'\"(\[{])[/~]|(?:^|[^\w.])\.\.(?:\W|$)|://|\$[A-Za-z_{]|\{[a-z_]+\}[\w.-]")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the person who runs safetune allows: programs by engine (`command:NAME` for own ones), a folder of tasks."""

    programs: Mapping[str, Path]
    tasks: Path | None = None


@dataclass(frozen=True, slots=True)
class ForeignOrder:
    """What a suite asks of another tool, about one model.

    `program` names one of the allowed commands where the engine is `command`, and is empty otherwise. `arguments` may
    hold the placeholders; `results` is a pattern below the output folder that exactly one file must fit; `model` is
    the folder of whole weights that `{model}` stands for.
    """

    engine: str
    arguments: tuple[str, ...]
    results: str
    model: Path
    program: str = ""
    timeout_minutes: float = 60.0

    @property
    def identity(self) -> Mapping[str, JSON]:
        """What can change the results, as JSON: the model has an identity of its own, and the time-out has no part."""
        own = {"program": self.program} if self.program else {}
        return {"engine": self.engine, "arguments": list(self.arguments), "results": self.results, **own}

    @property
    def key(self) -> str:
        """The name under which its program is allowed."""
        return f"command:{self.program}" if self.engine == "command" else self.engine

    @property
    def variable(self) -> str:
        """The environment variable that allows its program."""
        return _VARIABLE + self.key.replace(":", "_").replace("-", "_").upper()


def read_allowed(environment: Mapping[str, str]) -> Allowed:
    """Return what environment variables allow: `SAFETUNE_ENGINE_INSPECT`, `_LM_EVAL`, `_GARAK`, `_COMMAND_<NAME>`.

    `SAFETUNE_ENGINE_TASKS` is the folder that `{tasks_dir}` stands for.

    Raises:
        UsageError: when a variable names no known engine, or its value is no absolute path.
    """
    programs: dict[str, Path] = {}
    tasks = None
    for name, value in sorted(environment.items()):
        if not name.startswith(_VARIABLE) or not value:
            continue
        key = name.removeprefix(_VARIABLE).lower().replace("_", "-")
        if not Path(value).is_absolute():
            raise UsageError(f"{name} is not an absolute path", hint=f"for example {name}=/opt/tools/bin/{key}")
        if name == _TASKS_VARIABLE:
            tasks = Path(value)
        elif key in ENGINES[:-1]:
            programs[key] = Path(value)
        elif key.startswith("command-") and key != "command-":
            programs[f"command:{key.removeprefix('command-')}"] = Path(value)
        else:
            raise UsageError(f"{name} names no engine", hint=f"known: {', '.join(ENGINES)}, and {_TASKS_VARIABLE}")
    return Allowed(programs, tasks)


def problem(order: ForeignOrder, allowed: Allowed) -> str:
    """Say what keeps an order from being run here, or return an empty text; runs nothing."""
    try:
        _command(order, allowed, Path("output"))
        _check_order(order)
    except UsageError as error:
        return f"{error.message}{f'; {error.hint}' if error.hint else ''}"
    return ""


def run_foreign(order: ForeignOrder, allowed: Allowed, folder: Path, listener: Listener) -> Path:
    """Run the tool with `folder` as its workplace, and return the one results file that it wrote there.

    What an earlier run left in the output folder is removed first.

    Raises:
        UsageError: when the order is wrong, or its program is not allowed or not there.
        RunError: when it fails, takes too long, or writes no results, several, or old ones.
        InterruptedRun: when a person or a scheduler stops it; the tool has ended by then.
        MachineError: when the folder cannot be written.
    """
    _check_order(order)
    folder = folder.absolute()
    output, cwd = folder / "output", folder / "work"
    command = _command(order, allowed, output)
    with machine_errors(f"make {folder}"):
        for place in (output, cwd):
            if place.exists():
                shutil.rmtree(place)
            place.mkdir(parents=True)
    content: dict[str, JSON] = {"job": "tool", "command": list(command), "cwd": str(cwd), "hidden": list(_HIDDEN)}
    write_job(folder, {**content, "seconds": order.timeout_minutes * 60})
    began = folder / "began"
    write_atomic(began, b"", durable=False)
    subject = f"{order.key} on {order.model.name}"
    listener(Progress("note", subject, {"text": f"started; its log is {folder / 'worker.log'}"}))
    run_jobs([(Job(folder, "tool"), subject, _ToolLauncher())], listener)
    return _results(order, output, began.stat().st_mtime_ns)


class _ToolLauncher:
    """Starts the worker that runs a tool."""

    name = "tool"

    def command(self, job: Job) -> tuple[str, ...]:
        """Return the argument vector of the worker."""
        return (sys.executable, "-m", "safetune.worker.tool", str(job.folder))

    def environment(self, job: Job) -> Mapping[str, str]:
        """Return the variables of every worker: threads, no hub, no telemetry."""
        local: Launcher = load("launcher", "local")  # type: ignore[assignment]
        return local.environment(job)


def _check_order(order: ForeignOrder) -> None:
    if not math.isfinite(order.timeout_minutes) or not 0 < order.timeout_minutes <= _MINUTES:
        raise UsageError(f"timeout_minutes is {order.timeout_minutes}; it must be above 0 and at most {_MINUTES:g}")
    pattern = PurePosixPath(order.results)
    if not pattern.parts or pattern.is_absolute() or ".." in pattern.parts or "~" in order.results:
        raise UsageError(f'results: "{order.results}" is no pattern below the output folder', hint='such as "*.eval"')


def _command(order: ForeignOrder, allowed: Allowed, output: Path) -> tuple[str, ...]:
    """Return the argument vector, with placeholders replaced in each argument for itself: no shell reads it."""
    if order.engine not in ENGINES:
        near = did_you_mean(order.engine, list(ENGINES))
        raise UsageError(f'no engine is called "{order.engine}"{f"; {near}" if near else ""}')
    program = allowed.programs.get(order.key)
    if program is None:
        raise UsageError(
            f"the engine {order.key} is not allowed here: a playbook may not choose what runs on this machine",
            hint=f"if you trust the playbook and the tool: export {order.variable}=/path/to/its/program",
        )
    if not program.is_file() or not os.access(program, os.X_OK):
        raise UsageError(f"{order.variable}: {program} is no program that can be run", hint="check the path")
    values = {"{model}": str(order.model), "{output}": str(output)}
    if allowed.tasks is not None:
        values["{tasks_dir}"] = str(allowed.tasks)
    return (str(program), *(_argument(argument, values) for argument in order.arguments))


def _argument(argument: str, values: Mapping[str, str]) -> str:
    for name in _NAME.findall(argument):
        if name == "{tasks_dir}" and name not in values:
            raise UsageError(f"the argument {argument!r} needs a folder of tasks", hint=f"set {_TASKS_VARIABLE}")
        if name not in values:
            raise UsageError(f"the argument {argument!r} has an unknown placeholder", hint=f"known: {PLACEHOLDERS}")
    if "\0" in argument or _LOOSE_PATH.search(argument):
        raise UsageError(
            f"the argument {argument!r} has a path of its own: it may only point into {', '.join(PLACEHOLDERS)}",
            hint=f"put the file into the folder of {_TASKS_VARIABLE} and write {{tasks_dir}}/FILE",
        )
    return _NAME.sub(lambda found: values[found.group()], argument)


def _results(order: ForeignOrder, output: Path, began: int) -> Path:
    """Return the one file that fits the pattern, is new, and lies where it seems to lie."""
    try:
        found = sorted(path for path in output.glob(order.results) if path.is_file())
    except (ValueError, NotImplementedError, OSError) as error:
        raise RunError(f"{order.key}: cannot look for results: {error}") from error
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:_SHOWN])
        what = f"{len(found)} files ({names}{', ...' if len(found) > _SHOWN else ''})" if found else "no file"
        raise RunError(
            f'{order.key} ended well, but {what} in its output fit "{order.results}"; one is needed',
            hint=f"the output is {output}; its log is {output.parent / 'worker.log'}",
        )
    path = found[0]
    if not path.resolve().is_relative_to(output.resolve()):
        raise RunError(f"{order.key}: its results file {path.name} is a link that leads out of the output folder")
    if path.stat().st_mtime_ns < began:
        raise RunError(f"{order.key}: its results file {path.name} is older than this run")
    return path
