"""Another tool as a child process: what may run, what it is given, how it may fail, and that it never outlives us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from safetune.core.errors import RunError, UsageError
from safetune.engine.foreign import Allowed, ForeignOrder, problem, read_allowed, run_foreign, tool_identity
from safetune.protocols import Progress


def tool(folder: Path, body: str) -> Path:
    """A program of a person: a shell script."""
    path = folder / "tool"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def order(*arguments: str, results: str = "*.out", minutes: float = 1.0) -> ForeignOrder:
    return ForeignOrder("command", (*arguments, "{model}"), results, Path("/models/tiny"), "check", minutes)


def run(folder: Path, body: str, wanted: ForeignOrder, tasks: Path | None = None) -> Path:
    said: list[Progress] = []
    allowed = Allowed({"command:check": tool(folder, body)}, tasks)
    found = run_foreign(wanted, allowed, folder / "job", said.append)
    assert any("worker.log" in str(one.fields.get("text")) for one in said)
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(pid: int, seconds: float = 10.0) -> bool:
    """Whether a process ends within some seconds."""
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_alive(pid)


def test_the_tool_gets_its_arguments_whole_and_placeholders_replaced(tmp_path: Path) -> None:
    body = 'cd "$1"; shift; for a in "$@"; do echo "$a" >> said.out; done'
    wanted = order("{output}", "--model=hf/{model}", "{tasks_dir}/one.py@task", "$1; `id` 'x'", "a b", '{"k": 1}')
    found = run(tmp_path, body, wanted, tasks=tmp_path / "tasks")
    assert found == tmp_path / "job" / "output" / "said.out"
    assert found.read_text().splitlines() == [
        "--model=hf//models/tiny",
        f"{tmp_path}/tasks/one.py@task",
        "$1; `id` 'x'",
        "a b",
        '{"k": 1}',
        "/models/tiny",
    ]


def test_the_tool_sees_no_secret_and_nothing_of_safetunes_own_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "VIRTUAL_ENV", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "planted")
    found = run(tmp_path, 'env > "$1/env.out"; pwd > "$1/pwd"; ls -A >> "$1/pwd"', order("{output}"))
    seen = found.read_text()
    assert "planted" not in seen
    assert "SAFETUNE_CONDUCTOR" not in seen
    lines = seen.splitlines()
    assert {"OMP_NUM_THREADS=1", "HF_HUB_OFFLINE=1"} <= set(lines)
    assert any(line.startswith(f"PATH={tmp_path}:") for line in lines)
    assert (found.parent / "pwd").read_text().splitlines() == [str(tmp_path / "job" / "work")]


def test_what_an_earlier_run_left_is_removed(tmp_path: Path) -> None:
    run(tmp_path, 'touch "$1/a.out" "$PWD/left"', order("{output}"))
    assert run(tmp_path, 'ls -A > "$1/b.out"', order("{output}")).read_text() == ""


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("echo first; echo 'the key is wrong' >&2; exit 3", 'exit code 3; its last words: "the key is wrong"'),
        ("kill -9 $$", "ended by signal 9"),
        ("true", r'no file in its output fit "\*\.out"'),
        ('touch "$1/a.out" "$1/b.out"', r"2 files \(a\.out, b\.out\)"),
        ('mkdir "$1/a.out"', "no file"),
        ('touch -d "2 days ago" "$1/a.out"', "older than this run"),
        ('ln -s /etc/hostname "$1/a.out"', "link that leads out"),
    ],
)
def test_a_tool_that_does_not_do_well_is_an_error_that_says_how(tmp_path: Path, body: str, why: str) -> None:
    with pytest.raises(RunError, match=why):
        run(tmp_path, body, order("{output}"))


def test_the_last_words_are_those_of_this_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="earlier words"):
        run(tmp_path, "echo earlier words; exit 1", order())
    with pytest.raises(RunError) as caught:
        run(tmp_path, "exit 1", order())
    assert "words" not in caught.value.message


def test_a_tool_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    body = 'sleep 60 & echo $! > "$1/child"; echo $$ > "$1/me"; trap "" TERM; sleep 60; sleep 60'
    with pytest.raises(RunError, match=r"did not end within 0\.02 minutes"):
        run(tmp_path, body, order("{output}", minutes=0.02))
    output = tmp_path / "job" / "output"
    assert ends(int((output / "me").read_text()))
    assert ends(int((output / "child").read_text()))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 9), (signal.SIGKILL, -9)])
def test_a_tool_does_not_outlive_the_run_that_ordered_it(tmp_path: Path, number: signal.Signals, code: int) -> None:
    program = tool(tmp_path, 'echo $$ > "$1/me.tmp"; mv "$1/me.tmp" "$1/me"; sleep 60')
    script = f"""
import sys
from pathlib import Path
from safetune.core.errors import InterruptedRun
from safetune.engine.foreign import *
order = ForeignOrder("command", ("{{output}}", "{{model}}"), "*.out", Path("/m"), "check")
try:
    run_foreign(order, Allowed({{"command:check": Path({str(program)!r})}}), Path({str(tmp_path / "job")!r}), print)
except InterruptedRun:
    sys.exit(9)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    me = tmp_path / "job" / "output" / "me"
    deadline = time.monotonic() + 20
    while not me.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    pid = int(me.read_text())
    assert is_alive(pid)
    os.kill(child.pid, number)
    assert child.wait(20) == code
    assert ends(pid)


@pytest.mark.parametrize(
    "argument",
    [
        *("/etc/passwd", "--config=/etc/x", "a,/etc/x", "~/x", "x=~root/x", "{output}/../../x", "..", "../x", "a/../b"),
        *("https://example.org/x", "file:///etc/x", '{"path": "/etc/x"}', "@/etc/x", "$HOME/x", "${HOME}/x", "a\0b"),
        *("{model}-other/x", "{output}x", "{model}.py", "a={model}2"),
    ],
)
def test_an_argument_with_a_path_of_its_own_is_refused(tmp_path: Path, argument: str) -> None:
    with pytest.raises(UsageError, match="has a path of its own"):
        run(tmp_path, "true", order(argument))
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize(
    "argument", ["a/b", "hf/tiny", "1..2", "1/2", "--x=a/b", "50%", "a=b,c={model},d", "-T", "x:y"]
)
def test_an_argument_without_a_path_of_its_own_is_passed_on(tmp_path: Path, argument: str) -> None:
    assert problem(order(argument), Allowed({"command:check": tool(tmp_path, "true")})) == ""


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (order("{modell}"), "unknown placeholder"),
        (replace(order(), arguments=("{output}",)), "no argument has {model}"),
        (order("--trust_remote_code"), "trust_remote_code"),
        (order("--trust-remote-code"), "trust_remote_code"),
        (order("-M", "Trust_Remote_Code=true"), "trust_remote_code"),
        (order("{tasks_dir}/x.py"), "needs a folder of tasks"),
        (order(results="/etc/*"), "no pattern below the output folder"),
        (order(results="../*"), "no pattern below the output folder"),
        (order(results="~/x"), "no pattern below the output folder"),
        (order(results=""), "no pattern below the output folder"),
        (order(minutes=0), "timeout_minutes"),
        (order(minutes=float("nan")), "timeout_minutes"),
        (order(minutes=1e9), "timeout_minutes"),
        (replace(order(), program="other"), "not allowed here"),
        (replace(order(), engine="inspect", program=""), "not allowed here"),
        (replace(order(), engine="inspekt"), "did you mean"),
    ],
)
def test_a_wrong_order_is_refused_before_anything_starts(tmp_path: Path, wanted: ForeignOrder, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        run(tmp_path, "true", wanted)
    assert not (tmp_path / "job").exists()
    assert caught.value.message in problem(wanted, Allowed({"command:check": tmp_path / "tool"}))


def test_a_program_that_is_not_there_or_may_not_run_is_refused(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for path in (plain, tmp_path / "absent", tmp_path):
        with pytest.raises(UsageError, match=r"SAFETUNE_ENGINE_COMMAND_CHECK: .* is no program that can be run"):
            run_foreign(order(), Allowed({"command:check": path}), tmp_path / "job", lambda _: None)


def test_only_the_environment_allows_a_program() -> None:
    allowed = read_allowed(
        {
            "SAFETUNE_ENGINE_INSPECT": "/opt/inspect",
            "SAFETUNE_ENGINE_LM_EVAL": "/opt/lm-eval",
            "SAFETUNE_ENGINE_GARAK": "",
            "SAFETUNE_ENGINE_COMMAND_MY_CHECK": "/opt/check",
            "SAFETUNE_ENGINE_TASKS": "/opt/tasks",
            "SAFETUNE_OTHER": "x",
        }
    )
    programs = {"inspect": "/opt/inspect", "lm-eval": "/opt/lm-eval", "command:my-check": "/opt/check"}
    assert {name: str(path) for name, path in allowed.programs.items()} == programs
    assert allowed.tasks == Path("/opt/tasks")
    assert read_allowed({}) == Allowed({})


@pytest.mark.parametrize(
    "name", ["SAFETUNE_ENGINE_INSPEKT", "SAFETUNE_ENGINE_", "SAFETUNE_ENGINE_COMMAND", "SAFETUNE_ENGINE_COMMAND_"]
)
def test_a_variable_that_names_no_engine_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="names no engine"):
        read_allowed({name: "/opt/x"})


@pytest.mark.parametrize("name", ["SAFETUNE_ENGINE_INSPECT", "SAFETUNE_ENGINE_TASKS"])
def test_a_relative_path_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not an absolute path"):
        read_allowed({name: "bin/inspect"})


def test_the_identity_of_an_order_is_what_can_change_its_results() -> None:
    one = order("a")
    assert one.identity == replace(one, timeout_minutes=2.0, model=Path("/other")).identity
    others = (order("b"), order("a", results="*.x"), replace(one, program="p"), replace(one, engine="garak"))
    assert all(one.identity != other.identity for other in others)


# -- the model that is asked -------------------------------------------------------------------------------------------

INSPECT = ("eval", "{tasks_dir}/checks.py@sums", "--model", "hf/{model}", "-M", "device=cpu", "--log-dir", "{output}")
LM_EVAL = ("run", "--model", "hf", "--model_args", "pretrained={model},dtype=float32", "--output_path", "{output}")
GARAK = ("--config", "{tasks_dir}/garak.json", "--target_name", "{model}", "--report_prefix", "{output}/run")
KNOWN = {"inspect": INSPECT, "lm-eval": LM_EVAL, "garak": GARAK}


def told(folder: Path, engine: str, *arguments: str) -> str:
    """What is said against arguments of a known tool."""
    program = tool(folder, "true")
    one = ForeignOrder(engine, arguments, "*.out", Path("/models/tiny"))
    return problem(one, Allowed({engine: program}, folder))


@pytest.mark.parametrize("engine", KNOWN)
def test_the_arguments_that_the_document_names_are_fine(tmp_path: Path, engine: str) -> None:
    assert told(tmp_path, engine, *KNOWN[engine]) == ""


@pytest.mark.parametrize(
    ("engine", "more"),
    [
        ("inspect", ("--model", "hf/gpt2")),
        ("inspect", ("--model=hf/gpt2",)),
        ("inspect", ("--model", "hf/{model},hf/gpt2")),
        ("inspect", ("--model-role", "grader=hf/gpt2")),
        ("inspect", ("-M", "model_path=gpt2")),
        ("inspect", ("--model", "mockllm/{model}")),
        ("inspect", ("--model",)),
        ("lm-eval", ("--model", "dummy")),
        ("lm-eval", ("--model=dummy",)),
        ("lm-eval", ("-mdummy",)),
        ("lm-eval", ("--model_args", "pretrained=gpt2")),
        ("lm-eval", ("--model_args=dtype=float32,pretrained=gpt2",)),
        ("lm-eval", ("--model_args", "pretrained={model},peft=other")),
        ("lm-eval", ("--model_args", '{"pretrained": "gpt2"}')),
        ("lm-eval", ("-a", "model=gpt2")),
        ("lm-eval", ("--trust",)),
        ("garak", ("--target_name", "gpt2")),
        ("garak", ("--target_n", "gpt2")),
        ("garak", ("--model_name=gpt2",)),
        ("garak", ("-n", "gpt2")),
        ("garak", ("-ngpt2",)),
        ("garak", ("--target_type", "test.Blank")),
        ("garak", ("-m", "test.Blank")),
        ("garak", ("--generator_options", '{"huggingface": {"Model": {"name": "gpt2"}}}')),
    ],
)
def test_an_argument_that_names_another_model_is_refused(tmp_path: Path, engine: str, more: tuple[str, ...]) -> None:
    assert "argument" in told(tmp_path, engine, *KNOWN[engine], *more)
    assert "argument" in told(tmp_path, engine, *more, *KNOWN[engine])


@pytest.mark.parametrize(
    ("engine", "more"),
    [
        ("inspect", ("--model-base-name", "x", "-T", "models=3", "--max-tokens", "6")),
        ("lm-eval", ("--model", "vllm", "--model_args", "pretrained={model}", "--tasks", "a_model", "--limit", "5")),
        ("lm-eval", ("--model_args", '{"pretrained": "{model}", "dtype": "float32"}')),
        ("garak", ("--target_type", "huggingface.Model", "-n", "{model}", "--spec", "probes.dan.Dan_11_0")),
    ],
)
def test_an_argument_that_names_no_other_model_is_passed_on(tmp_path: Path, engine: str, more: tuple[str, ...]) -> None:
    assert told(tmp_path, engine, *KNOWN[engine], *more) == ""


# -- what made the results ---------------------------------------------------------------------------------------------


def test_the_tool_is_told_apart_by_its_bytes_and_by_its_tasks_where_it_is_given_them(tmp_path: Path) -> None:
    program, tasks = tool(tmp_path, "true"), tmp_path / "tasks"
    (tasks / "deep").mkdir(parents=True)
    (tasks / "deep" / "one.py").write_text("1")
    link = tmp_path / "link"
    link.symlink_to(program)
    allowed, uses, plain = Allowed({"command:check": program}, tasks), order("{tasks_dir}/deep/one.py"), order()
    first = (tool_identity(uses, allowed), tool_identity(plain, allowed))
    assert first == (tool_identity(uses, allowed), tool_identity(plain, Allowed({"command:check": link}, tasks)))
    (tasks / "deep" / "one.py").write_text("2")
    assert tool_identity(uses, allowed) != first[0]
    assert tool_identity(plain, allowed) == first[1]
    (tasks / "deep" / "one.py").write_text("1")
    (tasks / "deep" / "__pycache__").mkdir()
    (tasks / "deep" / "__pycache__" / "one.cpython-311.pyc").write_text("what Python makes of it")
    assert tool_identity(uses, allowed) == first[0]
    (tasks / "deep" / "one.py").rename(tasks / "deep" / "two.py")
    assert tool_identity(uses, allowed) != first[0]
    (tasks / "deep" / "two.py").rename(tasks / "deep" / "one.py")
    assert tool_identity(uses, allowed) == first[0]
    tool(tmp_path, "false")
    assert tool_identity(plain, allowed) != first[1]


def test_tasks_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    program, tasks = tool(tmp_path, "true"), tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "elsewhere").symlink_to(tmp_path)
    allowed = Allowed({"command:check": program}, tasks)
    with pytest.raises(UsageError, match="elsewhere is a link to a folder"):
        tool_identity(order("{tasks_dir}/x"), allowed)
    (tasks / "elsewhere").unlink()
    os.mkfifo(tasks / "pipe")
    with pytest.raises(UsageError, match="pipe is no file"):
        tool_identity(order("{tasks_dir}/x"), allowed)
    with pytest.raises(UsageError, match="absent"):
        tool_identity(order("{tasks_dir}/x"), replace(allowed, tasks=tmp_path / "absent"))
