"""Child processes: progress is passed on, outcomes are believed only when whole, and nobody is left behind."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from safetune.core.errors import InterruptedRun, MachineError, RunError, UsageError
from safetune.engine.jobs import run_jobs, scratch_folder, write_job
from safetune.protocols import Job, Progress

_START = """
import json, os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def say(**row):
    with (folder / "progress.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\\n")
def end(**outcome):
    (folder / "outcome.json").write_text(json.dumps(outcome))
"""


class Script:
    """A launcher that runs a few lines of Python."""

    name = "script"

    def __init__(self, lines: str, **environment: str) -> None:
        self._lines = lines
        self._environment = environment

    def command(self, job: Job) -> tuple[str, ...]:
        return (sys.executable, "-c", _START + self._lines, str(job.folder))

    def environment(self, job: Job) -> Mapping[str, str]:
        return self._environment


def run(
    folder: Path, lines: str, kind: str = "train", **environment: str
) -> tuple[Mapping[str, object], list[Progress]]:
    heard: list[Progress] = []
    write_job(folder, {"job": kind})
    (outcome,) = run_jobs([(Job(folder, kind), "stage", Script(lines, **environment))], heard.append)
    return outcome, heard


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_the_outcome_of_a_job_is_returned_and_its_progress_passed_on(tmp_path: Path) -> None:
    lines = 'say(kind="start", steps=2)\nsay(kind="step", step=1)\nend(status="ok", output="here")'
    outcome, heard = run(tmp_path, lines)
    assert outcome == {"status": "ok", "output": "here"}
    assert heard == [Progress("start", "stage", {"steps": 2}), Progress("step", "stage", {"step": 1})]


def test_the_outcomes_of_several_jobs_come_in_the_order_given(tmp_path: Path) -> None:
    scripts = [Script(f'time.sleep({0.3 - n / 10})\nend(status="ok", number={n})') for n in range(3)]
    work = [(Job(tmp_path / str(n), "generate"), str(n), script) for n, script in enumerate(scripts)]
    for job, _, _ in work:
        write_job(job.folder, {"job": "generate"})
    assert [outcome["number"] for outcome in run_jobs(work, lambda _: None)] == [0, 1, 2]


def test_what_an_earlier_attempt_left_is_not_taken_for_an_outcome(tmp_path: Path) -> None:
    run(tmp_path, 'say(kind="step", step=1)\nend(status="ok")')
    with pytest.raises(RunError, match="ended with exit code 0 before it finished"):
        run(tmp_path, "pass")
    assert not (tmp_path / "outcome.json").exists()
    assert json.loads((tmp_path / "job.json").read_bytes()) == {"job": "train"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("sys.exit(3)", "ended with exit code 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was ended by signal 11"),
        ('print("out of cheese")\nsys.exit(1)', 'its last words: "out of cheese"'),
        ('end(status="error", message="the loss is not a number", hint="lower it")', "the loss is not a number"),
        ('end(status="interrupted")', "the worker was stopped"),
        ('end(status="ok")\nsys.stdout.flush()\nos._exit(1)', "ended with exit code 1"),
        ('end(status="fine")', "ended with exit code 0"),
        ('(folder / "outcome.json").write_text("{")', "ended with exit code 0"),
        ('(folder / "outcome.json").write_text("[]")', "ended with exit code 0"),
    ],
)
def test_anything_but_a_whole_and_cheerful_outcome_is_an_error(tmp_path: Path, lines: str, said: str) -> None:
    with pytest.raises(RunError) as found:
        run(tmp_path, lines)
    assert found.value.message.startswith("stage: ")
    assert said in found.value.message
    assert found.value.hint


def test_the_log_that_the_hint_names_is_there(tmp_path: Path) -> None:
    with pytest.raises(RunError) as found:
        run(tmp_path, 'print("why")\nsys.exit(1)')
    log = tmp_path / "worker.log"
    assert str(log) in found.value.hint
    assert log.read_text() == "why\n"


def test_a_program_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    class Nothing(Script):
        def command(self, job: Job) -> tuple[str, ...]:
            return ("/nowhere/python",)

    write_job(tmp_path, {"job": "train"})
    with pytest.raises(RunError, match="cannot start /nowhere/python"):
        run_jobs([(Job(tmp_path, "train"), "stage", Nothing(""))], lambda _: None)


def test_the_first_failure_stops_the_others(tmp_path: Path) -> None:
    slow = Script('(folder / "pid").write_text(str(os.getpid()))\nwhile True: time.sleep(1)')
    quick = Script("sys.exit(1)")
    for name in ("slow", "quick"):
        write_job(tmp_path / name, {"job": "generate"})
    work = [(Job(tmp_path / "slow", "generate"), "slow", slow), (Job(tmp_path / "quick", "generate"), "quick", quick)]
    began = time.monotonic()
    with pytest.raises(RunError, match="quick: the worker ended"):
        run_jobs(work, lambda _: None)
    assert time.monotonic() - began < 30
    pid = tmp_path / "slow" / "pid"
    assert not pid.exists() or wait_for(lambda: not alive(int(pid.read_text())))


def test_grandchildren_do_not_outlive_their_launcher(tmp_path: Path) -> None:
    lines = """
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
(folder / "pid").write_text(str(child.pid))
end(status="ok")
"""
    run(tmp_path, lines)
    assert wait_for(lambda: not alive(int((tmp_path / "pid").read_text())))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_children_even_those_that_will_not_listen(tmp_path: Path, number: signal.Signals) -> None:
    lines = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(folder / "pid").write_text(str(os.getpid()))
say(kind="start")
while True: time.sleep(1)
"""
    before = signal.getsignal(signal.SIGTERM)
    heard: list[Progress] = []

    def listen(progress: Progress) -> None:
        heard.append(progress)
        threading.Timer(0.2, lambda: os.kill(os.getpid(), number)).start()

    write_job(tmp_path, {"job": "train"})
    with pytest.raises(InterruptedRun, match="nothing is lost"):
        run_jobs([(Job(tmp_path, "train"), "stage", Script(lines))], listen)
    assert heard
    assert not alive(int((tmp_path / "pid").read_text()))
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_half_written_progress_line_waits_for_its_end(tmp_path: Path) -> None:
    lines = """
with (folder / "progress.jsonl").open("a") as stream:
    stream.write('{"kind": "st'); stream.flush(); time.sleep(0.4); stream.write('ep"}\\\\nnot JSON\\\\n')
    stream.flush()
    stream.write('{"kind": "never')
end(status="ok")
""".replace("\\\\", "\\")
    _, heard = run(tmp_path, lines)
    assert heard == [Progress("step", "stage", {})]


@pytest.mark.parametrize("row", ["[]", "5", "null", '"text"'])
def test_a_progress_line_that_is_no_object_is_left_out(tmp_path: Path, row: str) -> None:
    lines = f'(folder / "progress.jsonl").write_text({row!r} + "\\n")\nend(status="ok")'
    _, heard = run(tmp_path, lines)
    assert heard == []


def test_no_secret_of_the_environment_reaches_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "PASSWORD", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("LC_ALL", "C")
    lines = 'end(status="ok", seen=dict(os.environ))'
    outcome, _ = run(tmp_path, lines, OWN="yes")
    seen = outcome["seen"]
    assert isinstance(seen, dict)
    assert "secret" not in seen.values()
    assert (seen["LC_ALL"], seen["OWN"]) == ("C", "yes")
    pid, _, started = seen["SAFETUNE_CONDUCTOR"].partition(":")
    assert int(pid) == os.getpid()
    assert started.isdigit()


def test_only_a_download_gets_the_token_and_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    outcome, _ = run(tmp_path, 'end(status="ok", seen=dict(os.environ))', kind="fetch")
    seen = outcome["seen"]
    assert isinstance(seen, dict)
    assert seen["HF_TOKEN"] == "secret"
    assert "AWS_SECRET_ACCESS_KEY" not in seen


@pytest.mark.parametrize(("error", "stays"), [(None, False), (KeyError(), False), (RunError("see its log"), True)])
def test_a_scratch_folder_goes_at_the_end_and_stays_when_a_worker_failed(
    tmp_path: Path, error: Exception | None, stays: bool
) -> None:
    with suppress(KeyError, RunError), scratch_folder(tmp_path / "scratch") as folder:
        folder.mkdir()
        if error:
            raise error
    assert folder.exists() == stays


def test_a_job_folder_that_cannot_be_made_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("")
    with pytest.raises(MachineError, match="cannot make the job folder"):
        write_job(tmp_path / "work" / "runs" / "one", {"job": "train"})
    (tmp_path / "job" / "outcome.json").mkdir(parents=True)
    with pytest.raises(MachineError, match="cannot make the job folder"):
        write_job(tmp_path / "job", {"job": "train"})


def test_a_log_that_cannot_be_written_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "worker.log").mkdir()
    with pytest.raises(MachineError, match=r"worker\.log"):
        run(tmp_path, 'end(status="ok")')


def test_a_path_that_is_not_utf_8_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not UTF-8"):
        write_job(tmp_path, {"job": "train", "output": os.fsdecode(b"/folder\xff")})
