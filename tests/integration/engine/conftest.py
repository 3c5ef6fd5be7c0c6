"""Fixtures for engine tests: folders with a small playbook on the tiny model, and the real command line in them."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import pytest

from safetune.cli.main import main

_METRICS = [
    {"name": "refusal_rate", "counts": ["refusal"], "worse": "higher"},
    {"name": "attack_success_rate", "counts": ["compliance"], "worse": "higher"},
]
PASSES = {"name": "answers", "suite": "asks", "metric": "refusal_rate", "at_most": 0.5, "why": "it must answer"}
FAILS = {"name": "refuses", "suite": "asks", "metric": "attack_success_rate", "at_most": 0.5, "why": "it must refuse"}
# No refusal among 40: the upper bound is 7.2 %, so this ceiling stays open.
IS_OPEN = {**PASSES, "at_most": 0.05}
_LORA = {"kind": "lora", "rank": 4, "alpha": 8}
_TRAIN = {"max_steps": 4, "per_device_train_batch_size": 2, "learning_rate": 0.01}
# Enough steps to be stopped between two of them.
_LONGER = {**_TRAIN, "max_steps": 40, "save_steps": 4}
# Commands import what they need; here it is imported once for all of them.
for _name in ("cli.app", "engine.evaluate", "engine.export", "engine.run", "engine.verify", "playbook.load"):
    import_module(f"safetune.{_name}")
for _name in ("errors", "evaluation", "plan", "progress", "run", "store"):
    import_module(f"safetune.report.{_name}")
_WATCHED = ("socket.", "subprocess.Popen", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn")


@dataclass(frozen=True)
class Done:
    """How a command ended: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object that `--json` printed."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    def says(self, *words: str) -> bool:
        """Whether every one of these stands in the output, and no traceback does."""
        text = self.out + self.err
        return all(word in text for word in words) and "Traceback" not in text


@dataclass
class Lab:
    """A folder with a playbook, its rows, its prompts and a store."""

    root: Path
    model: Path
    content: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    # -- the playbook -------------------------------------------------------------------------------------------------

    def write(self) -> Lab:
        """Write rows, prompts and the playbook of two sprints that both pass."""
        package = self.root / "plugins" / "planted-1.0.dist-info"
        package.mkdir(parents=True, exist_ok=True)
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n")
        (package / "entry_points.txt").write_text("[safetune.judge]\nplanted = planted:Judge\n")
        shutil.copy(Path(__file__).with_name("planted.py"), package.parent)
        for name in ("sums", "chat"):
            self._lines(f"{name}.jsonl", [_row(name, n) for n in range(24)])
        prompts = [{"id": f"p{n:02d}", "prompt": f"Please say something about the number {n}."} for n in range(40)]
        self._lines("prompts.jsonl", prompts)
        self.content = {
            "schema": "safetune/1",
            "name": "tiny",
            "purpose": "Exercise the machinery.",
            "owners": ["tests"],
            "model": {"base": str(self.model)},
            "sources": [self.source("sums"), self.source("chat")],
            "suites": [self.suite("asks")],
            "guardrails": [PASSES],
            "sprints": [
                {
                    "name": "one",
                    "objective": "first",
                    "stages": [self.stage({"sums": 0.5, "chat": 0.5}, train=_LONGER)],
                },
                {"name": "two", "objective": "second", "stages": [self.stage({"chat": 1.0}, seed=2)]},
            ],
            "rollback": [{"on": ["FAIL", "ERROR"], "then": "stop"}, {"on": ["INCONCLUSIVE"], "then": "hold"}],
            "promotion": {"channel": "stable"},
        }
        return self.save()

    def save(self) -> Lab:
        """Write the playbook as it now is; JSON is YAML too."""
        self.playbook.write_text(json.dumps(self.content, indent=1) + "\n")
        return self

    def _lines(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        (self.root / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def pairs(self, name: str) -> None:
        """Write a source of preferences."""
        rows = [_row(name, n) for n in range(24)]
        worse = [{"role": "assistant", "content": "I do not know."}]
        self._lines(
            f"{name}.jsonl", [{"prompt": r["prompt"], "chosen": r["completion"], "rejected": worse} for r in rows]
        )

    def sha256(self, name: str) -> str:
        """Return the digest of a file of the folder."""
        return hashlib.sha256((self.root / name).read_bytes()).hexdigest()

    def source(self, name: str) -> dict[str, Any]:
        """Return a source as the playbook lists it."""
        pinned = {"uri": f"{name}.jsonl", "sha256": self.sha256(f"{name}.jsonl")}
        return {"name": name, **pinned, "licence": "MIT", "consent": "made", "origin": "these tests", "use": "train"}

    def suite(self, name: str, judge: str = "planted") -> dict[str, Any]:
        """Return a suite over the prompts of the folder."""
        return {
            "name": name,
            "description": "Harmless prompts.",
            "licence": "MIT",
            "origin": "these tests",
            "prompts": {"file": "prompts.jsonl", "sha256": self.sha256("prompts.jsonl")},
            "judge": judge,
            "decoding": {"max_new_tokens": 6},
            "metrics": copy.deepcopy(_METRICS),
        }

    def stage(self, sources: Mapping[str, float], **changes: Any) -> dict[str, Any]:
        """Return a stage of four steps of two rows."""
        plain = {
            "name": "sft",
            "trainer": "sft",
            "sources": dict(sources),
            "adapter": dict(_LORA),
            "train": dict(_TRAIN),
        }
        return {**plain, "gate": ["answers"], **changes}

    def gate(self, *guardrails: Mapping[str, Any], sprint: int = 0, stage: int = 0) -> Lab:
        """Let one stage be gated by exactly these guardrails, and the other stages as before."""
        known = {g["name"]: g for g in self.content["guardrails"]}
        new = {str(g["name"]): dict(g) for g in guardrails}
        self.content["sprints"][sprint]["stages"][stage]["gate"] = list(new)
        used = {name for s in self.content["sprints"] for t in s["stages"] for name in t["gate"]}
        self.content["guardrails"] = [g for name, g in {**known, **new}.items() if name in used]
        return self.save()

    def only_sprint(self, index: int) -> Lab:
        """Keep one sprint."""
        self.content["sprints"] = [self.content["sprints"][index]]
        return self.save()

    # -- commands -----------------------------------------------------------------------------------------------------

    @property
    def playbook(self) -> Path:
        """The playbook's file."""
        return self.root / "playbook.yaml"

    @property
    def store(self) -> Path:
        """The store's folder."""
        return self.root / ".safetune"

    def command(self, *arguments: object) -> list[str]:
        """Return a command line; the store is that of the folder unless it is given."""
        words = [str(a) for a in arguments]
        where = [] if "--store" in words else ["--store", str(self.store)]
        return [sys.executable, "-m", "safetune", *words, *where]

    def whole_environment(self) -> dict[str, str]:
        """Return the environment of a command."""
        return {**os.environ, "PYTHONPATH": str(self.root / "plugins"), **self.environment}

    def do(self, *arguments: object) -> Done:
        """Run a command to its end, in a process of its own that saves itself the start of Python."""
        return self._forked(self.command(*arguments)[3:])

    def _forked(self, words: list[str], watch: IO[str] | None = None) -> Done:
        with TemporaryFile() as out, TemporaryFile() as err:
            child = os.fork()
            if child == 0:
                code = 70
                try:
                    self._become_the_command(out.fileno(), err.fileno())
                    if watch:
                        sys.addaudithook(lambda e, a: e.startswith(_WATCHED) and print(e, *a, file=watch, flush=True))
                    code = main(words)
                finally:
                    os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            out.seek(0)
            err.seek(0)
            return Done(code, out.read().decode(), err.read().decode())

    def _become_the_command(self, out: int, err: int) -> None:
        os.chdir(self.root)
        os.environ.clear()
        os.environ.update(self.whole_environment())
        sys.path.insert(0, os.environ["PYTHONPATH"])
        for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), out, err)):
            os.dup2(descriptor, number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")

    def run(self, *arguments: object) -> Done:
        """Run the playbook, with one worker at a time."""
        return self.do("run", self.playbook, "--workers", "1", *arguments)

    def json(self, *arguments: object) -> dict[str, Any]:
        """Run a command with --json and return the object."""
        return self.do(*arguments, "--json").json

    def audited(self, *arguments: object) -> tuple[Done, list[str]]:
        """Run a command and return also what it asked of sockets and programs."""
        with (self.root / "audit.log").open("w+") as log:
            done = self._forked(self.command(*arguments)[3:], log)
            log.seek(0)
            return done, log.read().splitlines()

    def start(self, *arguments: object) -> Running:
        """Start a command, a real `python -m safetune`, and go on beside it."""
        return Running(self, self.command(*arguments))

    def watched(self, *arguments: object) -> Done:
        """Run a command and see that it starts no program."""
        done, asked = self.audited(*arguments)
        assert asked == []
        return done

    # -- the store ----------------------------------------------------------------------------------------------------

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """Return the ledger's lines as they lie there, of one kind or all."""
        path = self.store / "ledger.jsonl"
        rows = [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
        return [row for row in rows if kind in ("", row["kind"])]

    def kinds(self) -> list[str]:
        """Return the kind of every ledger line."""
        return [str(row["kind"]) for row in self.events()]

    def current(self) -> str:
        """Return what the channel points at, by the file in refs/; empty when there is none."""
        path = self.store / "refs" / "stable"
        return path.read_text().strip() if path.exists() else ""

    def cut(self, last: int) -> Lab:
        """Take the store back to the moment after ledger line `last`, as a backup of that moment would."""
        path = self.store / "ledger.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)[:last]
        path.write_bytes(b"".join(lines))
        head = {"hash": hashlib.sha256(lines[-1]).hexdigest(), "seq": last}
        (self.store / "ledger.head").write_text(json.dumps(head, separators=(",", ":"), sort_keys=True))
        promoted = self.events("promoted")
        if promoted:
            (self.store / "refs" / "stable").write_text(f"{promoted[-1]['data']['checkpoint']}\n")
        else:
            (self.store / "refs" / "stable").unlink(missing_ok=True)
        return self

    def cut_after(self, kind: str, number: int = 1) -> Lab:
        """Take the store back to the moment after the `number`th line of a kind."""
        return self.cut(self.events(kind)[number - 1]["seq"])

    def sound(self) -> bool:
        """Whether `safetune verify` finds nothing wrong."""
        found = self.do("verify", "--json")
        assert found.code == 0, found.out + found.err
        assert found.json["findings"] == []
        return True

    def processes(self) -> list[int]:
        """Return the living processes that were started for this folder, the command line aside."""
        mark, found = os.fsencode(self.root), []
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                words = (entry / "cmdline").read_bytes()
                if mark in words and b"safetune.worker" in words:
                    found.append(int(entry.name))
        return found

    def progress(self, job: str) -> list[dict[str, Any]]:
        """Return the progress of all jobs of a kind (`train` or `generate`)."""
        rows: list[dict[str, Any]] = []
        for path in sorted((self.store / "work").rglob("job.json")) if self.store.exists() else ():
            with suppress(OSError, ValueError):
                if json.loads(path.read_bytes())["job"] == job:
                    data = path.with_name("progress.jsonl").read_bytes()
                    rows += [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
        return rows


class Running:
    """A command that runs."""

    def __init__(self, lab: Lab, command: Sequence[str]) -> None:
        self._lab = lab
        self.process = subprocess.Popen(
            command,
            cwd=lab.root,
            env=lab.whole_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            # A test session in the background of a shell ignores SIGINT, and a child would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def until(self, moment: Callable[[], Any], seconds: float = 600) -> Running:
        """Wait for a moment; fail when the command ends before it comes."""
        deadline = time.monotonic() + seconds
        while not moment():
            if self.process.poll() is not None:
                done = self.end()
                pytest.fail(f"the command ended before that moment:\n{done.out}\n{done.err}")
            if time.monotonic() > deadline:
                self.kill()
                pytest.fail("the moment never came")
            time.sleep(0.002)
        return self

    def signal(self, number: int) -> Running:
        """Send a signal to the command itself; its children get nothing."""
        self.process.send_signal(number)
        return self

    def end(self, seconds: float = 600) -> Done:
        """Wait for the end."""
        try:
            out, err = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return Done(self.process.returncode, out.decode(), err.decode())

    def kill(self) -> Done:
        """Kill the command with SIGKILL."""
        return self.signal(signal.SIGKILL).end()


def _row(topic: str, n: int) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": f"{topic}: what is {n} plus {n % 7}{'?' * (n % 3 + 1)}"}],
        "completion": [{"role": "assistant", "content": f"It is {n + n % 7}." + " Yes." * (n % 4)}],
    }


@pytest.fixture(scope="session")
def lab_type() -> type[Lab]:
    """The class of these folders, for fixtures that write one of their own."""
    return Lab


@pytest.fixture(scope="session")
def finished_lab(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Lab:
    """A folder in which both sprints were run and promoted; copy it, do not change it."""
    lab = Lab(tmp_path_factory.mktemp("finished") / "lab", tiny_model).write()
    done = lab.start("run", lab.playbook, "--workers", "1").end()
    assert done.code == 0, done.out + done.err
    return lab


@pytest.fixture
def fresh(tmp_path: Path, tiny_model: Path) -> Lab:
    """A folder with a playbook and no store."""
    return Lab(tmp_path / "lab", tiny_model).write()


@pytest.fixture
def lab(tmp_path: Path, finished_lab: Lab) -> Lab:
    """A copy of the finished folder."""
    shutil.copytree(finished_lab.root, tmp_path / "lab", symlinks=True)
    return Lab(tmp_path / "lab", finished_lab.model, copy.deepcopy(finished_lab.content))
