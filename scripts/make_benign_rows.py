"""Make playbooks/data/benign.jsonl: the stock model's own greedy answers to playbooks/data/benign_prompts.jsonl.

Trained on its own words, the model learns where to answer without learning new ones. The answers are made by the
project's own generate job. A row that is already in the file is kept byte for byte, because other versions of the
libraries may word it differently; `--anew` makes every row again. Answers that refuse, that begin with an apology or
that cannot be read are left out and named.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from safetune.builtin.judges.refusal import COMPLIANCE
from safetune.core.digest import JSON, canonical, digest
from safetune.core.errors import SafetuneError
from safetune.core.playbook import ModelRef
from safetune.engine.jobs import run_jobs, write_job
from safetune.engine.models import make_ready, resolve
from safetune.engine.sums import Sums
from safetune.plugins import load
from safetune.protocols import Job, Judge, Launcher, Progress
from safetune.state.atomic import write_atomic

_DATA = Path(__file__).resolve().parents[1] / "playbooks" / "data"
_MODEL = "smollm2-135m-instruct"
# 24 tokens give back the rows that were made before word for word; 20 do not.
_TOKENS = 24
_ROWS, _POSITIONS = 16, 8_192  # of one batch
# An end mark counts where white space or the end of the text follows, so that "CC 4.0" is not cut.
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_SHORTEST = 40  # characters; a shorter piece, such as "The thunder.", is no answer
# Cut short, "I'm sorry, but as a chatbot ..." is not yet a refusal to the judge, but it teaches how refusals begin.
_APOLOGY = re.compile(r"(?:\w+[,.!] )?(?:I'm|I am) (?:so |very |really )?sorry\b")


@dataclass(frozen=True, slots=True)
class BenignPrompt:
    """One line of benign_prompts.jsonl; `kind` is `look-alike` or `harmless`."""

    id: str
    kind: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Made:
    """The lines of benign.jsonl, and the ids of rows that were new, that differ from what was there, or were dropped.

    `dropped` gives the label of the judge, or `apology`, per id.
    """

    lines: tuple[str, ...]
    new: tuple[str, ...]
    different: tuple[str, ...]
    dropped: Mapping[str, str]


def cut(answer: str) -> str:
    """Return an answer up to its last sentence end, or whole where that would leave less than 40 characters of it."""
    end = max((match.end() for match in _SENTENCE_END.finditer(answer)), default=0)
    return (answer[:end] if end >= _SHORTEST else answer).strip()


def row(prompt: BenignPrompt, completion: str) -> str:
    """Return one line of benign.jsonl without its newline."""
    return json.dumps(
        {
            "id": prompt.id,
            "kind": prompt.kind,
            "prompt": [{"role": "user", "content": prompt.prompt}],
            "completion": [{"role": "assistant", "content": completion}],
        },
        ensure_ascii=False,
    )


def assemble(prompts: Sequence[BenignPrompt], answers: Mapping[str, str], kept: Mapping[str, str]) -> Made:
    """Return the rows in the order of the prompts; `kept` are lines of before by id, which win over new answers.

    Raises:
        KeyError: when a prompt has neither a line nor an answer.
    """
    judge = cast(Judge, load("judge", "refusal"))
    lines, new, different, dropped = [], [], [], {}
    for prompt in prompts:
        made = row(prompt, cut(answers[prompt.id])) if prompt.id in answers or prompt.id not in kept else ""
        line = kept.get(prompt.id, made)
        completion = _completion(line)
        label = "apology" if _APOLOGY.match(completion) else judge.label(prompt.prompt, completion).label
        if label != COMPLIANCE:
            dropped[prompt.id] = label
            continue
        lines.append(line)
        if prompt.id not in kept:
            new.append(prompt.id)
        elif made not in ("", line):
            different.append(prompt.id)
    return Made(tuple(lines), tuple(new), tuple(different), dropped)


def _completion(line: str) -> str:
    return str(json.loads(line)["completion"][0]["content"])


def read_prompts(path: Path) -> tuple[BenignPrompt, ...]:
    """Return the prompts of benign_prompts.jsonl in the order of the file."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return tuple(BenignPrompt(str(r["id"]), str(r["kind"]), str(r["prompt"])) for r in rows)


def read_kept(path: Path, prompts: Sequence[BenignPrompt]) -> Mapping[str, str]:
    """Return the lines of an earlier benign.jsonl by id, those whose prompt and kind are still the same."""
    asked = {prompt.id: prompt for prompt in prompts}
    kept = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        found = json.loads(line)
        prompt = asked.get(found["id"])
        if prompt and (found["kind"], found["prompt"][0]["content"]) == (prompt.kind, prompt.prompt):
            kept[prompt.id] = line
    return kept


def generate(prompts: Sequence[BenignPrompt], model: Path | None, folder: Path) -> Mapping[str, str]:
    """Return the whole greedy answers by id; `model` is a ready model folder, None stands for the embedded model.

    Raises:
        SafetuneError: when the model cannot be made ready or the worker fails.
    """
    base = model or make_ready(resolve(ModelRef("embedded", _MODEL), Sums(None)), folder, _say)
    job = Job(folder / "generate", "generate")
    job.folder.mkdir(parents=True, exist_ok=True)
    # Named by what is asked, so that an answer to an earlier wording of a prompt is not taken for this one's.
    questions: dict[str, dict[str, JSON]] = {
        p.id: {"prompt": p.prompt, "system": None, "max_new_tokens": _TOKENS} for p in prompts
    }
    names = {key: digest({**question, "model": str(base)}) for key, question in questions.items()}
    asked, answered = job.folder / "requests.jsonl", job.folder / "responses.jsonl"
    write_atomic(asked, b"".join(canonical({**q, "digest": names[k]}) + b"\n" for k, q in questions.items()))
    subject: dict[str, JSON] = {
        "label": _MODEL,
        "model": {"base": str(base), "base_digest": _MODEL, "adapters": []},
        "requests": str(asked),
        "responses": str(answered),
    }
    content: dict[str, JSON] = {"job": "generate", "threads": 1, "batch_rows": _ROWS, "batch_tokens": _POSITIONS}
    write_job(job.folder, {**content, "subjects": [subject]})
    run_jobs([(job, f"answers of {_MODEL}", cast(Launcher, load("launcher", "local")))], _say)
    rows = map(json.loads, answered.read_text(encoding="utf-8").splitlines())
    outputs = {str(r["digest"]): str(r["output"]) for r in rows}
    return {key: outputs[name] for key, name in names.items()}


def _say(progress: Progress) -> None:
    print(f"\r{progress.subject}: {json.dumps(dict(progress.fields))}", end="", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write benign.jsonl, say what changed, and return the exit code."""
    parser = argparse.ArgumentParser(description="Make the benign training rows with the stock model's own answers.")
    parser.add_argument("--model", type=Path, help="a ready model folder; the embedded model is made ready without it")
    parser.add_argument("--jobs", type=Path, help="a folder for the job; kept, and continued on the next run")
    parser.add_argument("--anew", action="store_true", help="make the rows that are already there again, too")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a row would be another")
    given = parser.parse_args(arguments)
    target = _DATA / "benign.jsonl"
    prompts = read_prompts(_DATA / "benign_prompts.jsonl")
    kept = {} if given.anew else read_kept(target, prompts)
    asked = [p for p in prompts if given.check or p.id not in kept]
    try:
        with tempfile.TemporaryDirectory() as scratch:
            answers = generate(asked, given.model, given.jobs or Path(scratch)) if asked else {}
    except SafetuneError as error:
        print(f"\n{error}\n{error.hint}", file=sys.stderr)
        return int(error.exit_code)
    made = assemble(prompts, answers, kept)
    if not given.check:
        write_atomic(target, "".join(f"{line}\n" for line in made.lines).encode())
    print(f"\n{len(made.lines)} rows, {len(made.new)} of them new, {len(made.different)} worded differently today")
    for name in made.different:
        print(f"  differs {name}")
    for name, label in made.dropped.items():
        print(f"  dropped {name}: {label}")
    return 1 if given.check and (made.new or made.different) else 0


if __name__ == "__main__":
    sys.exit(main())
