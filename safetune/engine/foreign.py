"""Run another evaluation tool in its own environment, when a suite names it, and find the results it wrote.

A playbook is data and may not run code, and these tools run code: tasks of Inspect and of lm-eval are Python files. So
a suite names an engine and its arguments, and nothing else: which program that is, and which folder of tasks it may
read, is for the person who runs safetune to allow, in environment variables. An argument can point to the model, to the
output folder and to that folder of tasks by placeholders; any other path in an argument is refused. So is an argument
that, as far as is known of the tool, names another model than the one to be asked.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from safetune.core.diagnostics import did_you_mean
from safetune.core.digest import JSON, digest
from safetune.core.errors import RunError, UsageError
from safetune.engine.jobs import run_jobs, write_job
from safetune.plugins import load
from safetune.protocols import Job, Launcher, Listener, Progress
from safetune.state.atomic import machine_errors, write_atomic
from safetune.state.files import sha256_file

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
_TRUST = "trust_remote_code"
_TRUSTING = re.compile(r"trust[-_]?remote", re.IGNORECASE)
_MODEL_KEYS = r"pretrained|peft|delta|gguf_file|lora_local_path|model|model[-_]path|model_name|target_name"
_COMPILED, _NO_TASKS = "__pycache__", ".git"  # what Python, and git, make of tasks


@dataclass(frozen=True, slots=True)
class _Option:
    """An option by which a tool is told what to ask: how its value may begin, and whether it must name the model."""

    names: tuple[str, ...]
    starts: tuple[str, ...] = ("",)
    model: bool = True


# The versions in docs/interop.md. Their parsers take the beginning of a long name for the whole.
_OPTIONS: Mapping[str, tuple[_Option, ...]] = {
    "inspect": (_Option(("--model",), ("hf/", "vllm/", "sglang/")), _Option(("--model_role",))),
    "lm-eval": (_Option(("--model", "-m", "-M"), ("hf", "huggingface", "vllm", "sglang"), model=False),),
    "garak": (
        _Option(("--target_name", "--model_name", "-n")),
        _Option(("--target_type", "--model_type", "-t", "-m"), ("huggingface",), model=False),
    ),
}
_KEYS: Mapping[str, re.Pattern[str]] = {
    engine: re.compile(rf"""(?<![\w-])(?:{keys})["']?\s*[=:]\s*["']?([^,"'\s]*)""")
    for engine, keys in (("inspect", _MODEL_KEYS), ("lm-eval", _MODEL_KEYS), ("garak", f"{_MODEL_KEYS}|name"))
}


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


def tool_identity(order: ForeignOrder, allowed: Allowed) -> Mapping[str, JSON]:
    """Return what tells a tool and its tasks apart, as JSON: SHA-256 of its program, and of the tasks it is given.

    What the program itself loads, such as packages of its environment, has no part in it.

    Raises:
        UsageError: when the program is not allowed, or program or tasks cannot be read.
    """
    program = _program(order, allowed)
    try:
        found: dict[str, JSON] = {"program": sha256_file(program.resolve())}
        if allowed.tasks is not None and any("{tasks_dir}" in argument for argument in order.arguments):
            found["tasks"] = _content(allowed.tasks)
    except OSError as error:
        raise UsageError(f"{order.key}: {error.filename} cannot be read: {error.strerror}") from error
    return found


def _content(folder: Path) -> str:
    """Return the digest of all files below a folder by name."""
    found: dict[str, JSON] = {}
    for place, folders, files in os.walk(folder, onerror=_fail):
        folders[:] = [name for name in folders if name != _NO_TASKS]
        for path in (Path(place, name) for name in (*folders, *files)):
            if path.is_dir():
                if path.is_symlink():
                    raise UsageError(f"{path} is a link to a folder", hint=f"{_TASKS_VARIABLE} needs what it links to")
            elif not path.is_file():
                raise UsageError(f"{path} is no file", hint=f"take it out of the folder of {_TASKS_VARIABLE}")
            elif path.parent.name != _COMPILED or path.suffix != ".pyc":
                found[os.fsencode(path.relative_to(folder)).hex()] = sha256_file(path)
    return digest(found)


def _fail(error: OSError) -> None:
    raise error


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
    _check_model(order)


def _check_model(order: ForeignOrder) -> None:
    """Refuse arguments that let the tool ask another model, or let a model bring code, as far as they can be told."""
    if not any("{model}" in argument for argument in order.arguments):
        raise UsageError(f"no argument has {{model}}: {order.key} would not ask the model", hint="say where it goes")
    for argument in order.arguments:
        flag = _flag(argument)
        if _TRUSTING.search(argument) or (len(flag) > len("--t") and f"--{_TRUST}".startswith(flag)):
            raise UsageError(f"the argument {argument!r} is {_TRUST}: weights may not bring code of their own")
        for found in _KEYS[order.engine].finditer(argument) if order.engine in _KEYS else ():
            if "{model}" not in found[1]:
                raise UsageError(f"the argument {argument!r} names another model", hint="write {model} for it")
    for flag, value in _told(order.arguments):
        for option in _OPTIONS.get(order.engine, ()):
            if any(flag == name or (len(flag) > len("--") and name.startswith(flag)) for name in option.names):
                _check_option(flag, value, option)


def _check_option(flag: str, value: str, option: _Option) -> None:
    if option.model and not all("{model}" in part for part in value.split(",")):
        raise UsageError(f"the argument {flag} {value!r} names another model", hint="write {model} for it")
    if not value.startswith(option.starts):
        known = ", ".join(option.starts)
        raise UsageError(f"the argument {flag} {value!r} may not ask the model", hint=f"what begins with {known} does")


def _flag(argument: str) -> str:
    """Return the long option that an argument is, without a value and with underscores; empty for any other."""
    return f"--{argument[2:].partition('=')[0].replace('-', '_')}" if argument.startswith("--") else ""


def _told(arguments: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield every option with the value that it has if it takes one."""
    for argument, following in zip(arguments, (*arguments[1:], ""), strict=True):
        if flag := _flag(argument):
            yield flag, argument.partition("=")[2] if "=" in argument else following
        elif argument.startswith("-"):
            yield argument[:2], argument[2:].removeprefix("=") or following


def _command(order: ForeignOrder, allowed: Allowed, output: Path) -> tuple[str, ...]:
    """Return the argument vector, with placeholders replaced in each argument for itself: no shell reads it."""
    program = _program(order, allowed)
    values = {"{model}": str(order.model), "{output}": str(output)}
    if allowed.tasks is not None:
        values["{tasks_dir}"] = str(allowed.tasks)
    return (str(program), *(_argument(argument, values) for argument in order.arguments))


def _program(order: ForeignOrder, allowed: Allowed) -> Path:
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
    return program


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
