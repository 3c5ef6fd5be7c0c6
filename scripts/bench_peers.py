"""The other tools' side of the benchmark: what each is started with, and what it answered.

One workload: 64 prompts, 64 new tokens, greedy, float32, one thread, 16 at a time (garak asks one at a time). `ask`
gives the commands for one model and all prompts as one task; `gate` those for two models and three suites, each tool in
the best way it has: Inspect does all of it in one process, lm-eval and garak all suites of one model.

`python scripts/bench_peers.py MODEL [--only NAME ...] [--gate]` runs each once and prints what it took.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_measure import Case, Sample, once

from safetune.engine.importing import read_results

ROOT = Path(__file__).resolve().parents[1]
SUITES = {"harmful-requests": 21, "safe-lookalikes": 21, "harmless": 22}
NEW_TOKENS, AT_ONCE = 64, 16
VERSIONS = {"transformers": "", "inspect": "0.3.285", "lm-eval": "0.4.13", "garak": "0.17.1"}

_TASKS = ROOT / "scripts" / "peer_tasks"
_ONE_THREAD = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


@dataclass(frozen=True, slots=True)
class Workload:
    """What all sides do: models in the order to answer, prompt rows, and whether each suite is a task of its own."""

    models: tuple[Path, ...]
    prompts: Path
    by_suite: bool

    @property
    def suites(self) -> tuple[str, ...]:
        """The names of the tasks; one of everything where the suites are not apart."""
        return tuple(SUITES) if self.by_suite else ("everything",)

    @property
    def expected(self) -> int:
        """How many answers a side must give."""
        return sum(SUITES.values()) * len(self.models)


@dataclass(frozen=True, slots=True)
class Peer:
    """One tool on one workload: its commands in turn (argument vectors), and how to read its answers."""

    name: str
    version: str
    commands: tuple[tuple[str, ...], ...]
    folder: Path
    answers: Callable[[], list[str]]

    @property
    def output(self) -> Path:
        """The folder of its results, emptied before each run."""
        return self.folder / "out"

    @property
    def case(self) -> Case:
        """The commands as one case: a later one starts when the earlier one did well."""
        line = " && ".join(shlex.join(command) for command in self.commands)
        environment = {
            **_ONE_THREAD,
            "BENCH_PROMPTS": str(self.folder.parent / "prompts.jsonl"),
            **{f"XDG_{kind}_HOME": str(self.folder / "xdg") for kind in ("CACHE", "CONFIG", "DATA")},
        }
        title = f"{self.name} {self.version}".strip()
        return Case(title, ("/bin/sh", "-ec", line), self.folder, None, self.reset, environment)

    def reset(self) -> None:
        """Remove the results of an earlier run."""
        shutil.rmtree(self.output, ignore_errors=True)
        self.output.mkdir(parents=True)

    def tokens(self, model: Path) -> int:
        """Return how many tokens its answers have: real ones, counted the same way for every tool.

        Raises:
            SystemExit: when it did not answer every prompt of the workload.
        """
        return count_tokens(self.answers(), model)


def count_tokens(texts: Sequence[str], model: Path) -> int:
    """Return the number of tokens of texts, by the tokenizer of a model folder, without special tokens."""
    from tokenizers import Tokenizer  # type: ignore[import-untyped,unused-ignore]

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    return sum(len(found.ids) for found in tokenizer.encode_batch(list(texts), add_special_tokens=False))


def installed(tools: Path) -> tuple[str, ...]:
    """Return the names of the peers that can be run: bare transformers always, the others where their program is."""
    programs = {"inspect": "inspect/bin/inspect", "lm-eval": "lm_eval/bin/lm-eval", "garak": "garak/bin/garak"}
    return ("transformers", *(name for name, path in programs.items() if (tools / path).is_file()))


def write_prompts(path: Path) -> None:
    """Write the 64 prompts of the workload: the first of each bundled suite."""
    lines: list[str] = []
    for suite, count in SUITES.items():
        text = (ROOT / "configs" / "suites" / "prompts" / f"{suite}.jsonl").read_text(encoding="utf-8")
        found = [json.loads(line) for line in text.splitlines()[:count]]
        lines += [json.dumps({"id": row["id"], "suite": suite, "prompt": row["prompt"]}) for row in found]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def ask(model: Path, work: Path, tools: Path) -> tuple[Peer, ...]:
    """Return every tool on one model and all prompts as one task; `tools` is the folder of install_peers.sh."""
    return _peers(Workload((model,), work / "prompts.jsonl", by_suite=False), work, tools)


def gate(models: tuple[Path, Path], work: Path, tools: Path) -> tuple[Peer, ...]:
    """Return every tool on two models (two different folders) and three suites."""
    return _peers(Workload(models, work / "prompts.jsonl", by_suite=True), work, tools)


def _peers(load: Workload, work: Path, tools: Path) -> tuple[Peer, ...]:
    write_prompts(load.prompts)
    makers = {"transformers": _plain, "inspect": _inspect, "lm-eval": _lm_eval, "garak": _garak}
    found = []
    for name, make in makers.items():
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        commands, results = make(load, folder, tools)
        found.append(Peer(name, VERSIONS[name], commands, folder, _all_of(load, name, results)))
    return tuple(found)


_Made = tuple[tuple[tuple[str, ...], ...], Callable[[], list[str]]]  # the commands, and what reads the answers


def _all_of(load: Workload, name: str, results: Callable[[], list[str]]) -> Callable[[], list[str]]:
    def answers() -> list[str]:
        found = results()
        if len(found) != load.expected:
            sys.exit(f"bench: {name} gave {len(found)} answers, {load.expected} were asked for")
        return found

    return answers


def _plain(load: Workload, folder: Path, tools: Path) -> _Made:
    """Bare transformers, in the environment that safetune itself runs in."""
    files = [folder / "out" / f"{n}.jsonl" for n, _ in enumerate(load.models)]
    (first, out), *others = zip(load.models, files, strict=True)
    more = [str(part) for pair in others for part in pair]
    command = (sys.executable, str(_TASKS / "plain.py"), str(first), str(load.prompts), str(out), *more)

    def answers() -> list[str]:
        return [json.loads(line)["output"] for file in files for line in file.read_text(encoding="utf-8").splitlines()]

    return (command,), answers


def _inspect(load: Workload, folder: Path, tools: Path) -> _Made:
    program = str(tools / "inspect" / "bin" / "inspect")
    tasks = [f"{_TASKS / 'inspect_task.py'}@{suite.replace('-', '_')}" for suite in load.suites]
    models = ",".join(f"hf/{model}" for model in load.models)
    asked = ("--model", models, "-M", "device=cpu", "-M", "do_sample=false", "-T", f"prompts={load.prompts}")
    how = ("--max-tokens", str(NEW_TOKENS), "--max-connections", str(AT_ONCE), "--display", "plain")
    command = (program, "eval", *tasks, *asked, *how, "--log-dir", str(folder / "out"))
    return (command,), lambda: _imported(folder / "out", "*.eval")


def _lm_eval(load: Workload, folder: Path, tools: Path) -> _Made:
    program, tasks = str(tools / "lm_eval" / "bin" / "lm-eval"), folder / "tasks"
    _write_lm_eval_tasks(load, tasks)
    names = ",".join(f"bench_{suite.replace('-', '_')}" for suite in load.suites)
    commands = tuple(
        (
            *(program, "run", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32"),
            *("--device", "cpu", "--tasks", names, "--include_path", str(tasks), "--apply_chat_template"),
            *("--batch_size", str(AT_ONCE), "--output_path", str(folder / "out" / str(n)), "--log_samples"),
        )
        for n, model in enumerate(load.models)
    )
    return commands, lambda: _imported(folder / "out", "**/samples_*.jsonl")


def _write_lm_eval_tasks(load: Workload, tasks: Path) -> None:
    tasks.mkdir(parents=True, exist_ok=True)
    shutil.copy(_TASKS / "lm_eval_refusal.py", tasks)
    rows = [json.loads(line) for line in load.prompts.read_text(encoding="utf-8").splitlines()]
    for suite in load.suites:
        name = f"bench_{suite.replace('-', '_')}"
        chosen = [json.dumps(row) for row in rows if suite in ("everything", row["suite"])]
        (tasks / f"{name}.jsonl").write_text("\n".join(chosen) + "\n", encoding="utf-8")
        template = (_TASKS / "lm_eval_task.yaml").read_text(encoding="utf-8")
        text = template.replace("@NAME@", name).replace("@FILE@", json.dumps(str(tasks / f"{name}.jsonl")))
        (tasks / f"{name}.yaml").write_text(text, encoding="utf-8")


def _garak(load: Workload, folder: Path, tools: Path) -> _Made:
    program, commands = str(tools / "garak" / "bin" / "garak"), []
    classes = ["".join(word.capitalize() for word in suite.split("-")) for suite in load.suites]
    spec = ",".join(f"probes.safetune_bench.{name}" for name in classes)
    for n, model in enumerate(load.models):
        config = folder / f"garak-{n}.json"
        huggingface = {"max_tokens": NEW_TOKENS, "hf_args": {"device": "cpu", "do_sample": False}}
        plugins = {"target_type": "huggingface.Model", "target_name": str(model)}
        content = {
            "run": {"generations": 1, "seed": 1},
            "plugins": {**plugins, "generators": {"huggingface": {"Model": huggingface}}},
            "reporting": {"report_dir": str(folder / "out"), "report_prefix": f"model-{n}"},
        }
        config.write_text(json.dumps(content), encoding="utf-8")
        commands.append((program, "--config", str(config), "--spec", spec))
    return tuple(commands), lambda: _imported(folder / "out", "*.report.jsonl")


def _imported(folder: Path, pattern: str) -> list[str]:
    found = [read_results(path, "bench", "candidate") for path in sorted(folder.glob(pattern))]
    return [item.output for one in found for item in one.items]


def _second(model: Path, work: Path) -> Path:
    """Return the same model in another folder, without another copy of its bytes where the disk allows it."""
    target = work / "second-model"
    shutil.rmtree(target, ignore_errors=True)
    try:
        shutil.copytree(model, target, copy_function=os.link)
    except shutil.Error:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(model, target)
    return target


def main() -> None:
    """Run each tool once and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tools", type=Path, default=ROOT / "build" / "peers")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench" / "peers")
    parser.add_argument("--only", nargs="+", choices=tuple(VERSIONS), default=tuple(VERSIONS))
    parser.add_argument("--gate", action="store_true", help="two models and three suites instead of one and one")
    wanted = parser.parse_args()
    tools, work, model = wanted.tools.absolute(), wanted.work.absolute(), wanted.model.absolute()
    work.mkdir(parents=True, exist_ok=True)
    sides = gate((model, _second(model, work)), work, tools) if wanted.gate else ask(model, work, tools)
    for side in sides:
        if side.name in wanted.only:
            side.reset()
            took: Sample = once(side.case)
            print(f"{side.case.name}: {took.cpu:.1f} CPU s, {took.wall:.1f} s wall, {side.tokens(model)} tokens")


if __name__ == "__main__":
    main()
