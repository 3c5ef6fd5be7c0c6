"""The generation job: ask one or several subjects everything that has no response yet, batch by batch to disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetune.core.digest import JSON, canonical
from safetune.core.errors import RunError
from safetune.plugins import load as load_plugin
from safetune.worker.asking import GENERATE, Asked, Asker, read_requests
from safetune.worker.batching import Batch, Budget, batches
from safetune.worker.model import quiet
from safetune.worker.reporter import Reporter
from safetune.worker.sharding import Rank, rank, together

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from safetune.worker.resident import Resident


@dataclass(frozen=True, slots=True)
class Subject:
    """One model and what it is asked: its requests, and those that have no response yet."""

    label: str
    model: Mapping[str, Any]
    responses: Path
    requests: Sequence[Mapping[str, Any]]
    done: frozenset[str]

    @property
    def is_done(self) -> bool:
        """Whether every request has its response."""
        return all(str(request["digest"]) in self.done for request in self.requests)


def generate(job: Mapping[str, Any], reporter: Reporter) -> Mapping[str, JSON]:
    """Answer every request that has no response yet; each finished batch is on disk before the next begins.

    The base model stays in memory from one subject to the next. The batches depend on the requests alone, so a job
    that was interrupted goes on with the same ones.

    Raises:
        UsageError: when the requests cannot be read or the model cannot be used.
        RunError: when a number is not finite, or the processes are not those that the job asks for.
    """
    started, me = time.monotonic(), rank(job)
    worker = _Worker(job, me, reporter)
    with together(me):
        for content in job["subjects"]:
            worker.work(_subject(content, me))
    done = sum(_count(_subject(content, me)) for content in job["subjects"])
    return {
        "done": done,
        "tokens": worker.tokens,
        "seconds": round(time.monotonic() - started, 3),
        "generation_seconds": round(worker.seconds, 3),
    }


def _subject(content: Mapping[str, Any], me: Rank) -> Subject:
    target = Path(content["responses"])
    answered(me.file(target))  # cuts a torn line off this process's own file
    done = frozenset().union(*(answered(path, cut=False) for path in me.files(target)))
    return Subject(str(content["label"]), content["model"], target, read_requests(Path(content["requests"])), done)


def _count(subject: Subject) -> int:
    if not subject.is_done:
        raise RunError(f"{subject.responses.name} lacks responses", hint="run the same command again")
    return len(subject.requests)


def answered(target: Path, cut: bool = True) -> set[str]:
    """Return the digests of the requests answered before; a torn last line (a kill in mid-write) is cut off first."""
    if not target.exists():
        return set()
    data = target.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if cut and len(whole) != len(data):
        with target.open("r+b") as stream:
            stream.truncate(len(whole))
    found = set()
    for line in whole.splitlines():
        try:
            found.add(str(json.loads(line)["digest"]))
        except (ValueError, KeyError, TypeError):
            continue  # not a response: its request is simply asked again
    return found


class _Worker:
    """Works on one subject after the other with one resident base."""

    def __init__(self, job: Mapping[str, Any], me: Rank, reporter: Reporter) -> None:
        self._me, self._reporter, self._threads = me, reporter, int(job["threads"])
        self._budget = Budget(int(job["batch_rows"]), int(job["batch_tokens"]))
        self._resident: Resident | None = None
        self.tokens, self.seconds = 0, 0.0

    def work(self, subject: Subject) -> None:
        """Ask a subject what is missing; nothing is loaded when nothing is."""
        total, written = len(subject.requests), sum(str(r["digest"]) in subject.done for r in subject.requests)
        self._reporter.say("generated", subject=subject.label, done=written, total=total, tokens_per_s=None)
        if subject.is_done:
            return
        answerer = self._answerer(subject)
        asked = [answerer.asker.ask(request) for request in subject.requests]
        began, tokens, share = time.monotonic(), 0, self._share(asked, subject.done)
        total = written + sum(len(batch.rows) for batch in share)  # of this process
        with self._me.file(subject.responses).open("ab") as stream:
            for batch in share:
                rows = answerer.answer(batch)
                stream.write(b"".join(canonical(row) + b"\n" for row in rows))
                stream.flush()
                os.fsync(stream.fileno())
                written += len(rows)
                tokens += sum(int(str(row["tokens"])) for row in rows)
                rate = round(tokens / max(time.monotonic() - began, 1e-9), 1)
                self._reporter.say("generated", subject=subject.label, done=written, total=total, tokens_per_s=rate)
        self.tokens, self.seconds = self.tokens + tokens, self.seconds + time.monotonic() - began

    def _share(self, asked: Sequence[Asked], done: frozenset[str]) -> list[Batch]:
        """Return this process's batches without the rows that are answered; every so-many-th one is its own."""
        lines = sum(max(1, len(one.choices)) for one in asked)
        rows = min(self._budget.rows, -(-lines // self._me.count))
        mine = batches(asked, Budget(rows, self._budget.tokens))[self._me.number :: self._me.count]
        left = [Batch(b.shared, tuple(one for one in b.rows if one.digest not in done)) for b in mine]
        return [batch for batch in left if batch.rows]

    def _answerer(self, subject: Subject) -> Answerer:
        from safetune.worker.resident import Resident

        if self._resident is None:
            quiet(self._threads)
            self._resident = Resident()
        answerer = Answerer(*self._resident.take(subject.model))
        if answerer.slow_because:
            self._reporter.say("note", text=f"model.generate is used for this model: {answerer.slow_because}")
        return answerer


class Answerer:
    """A model with its tokenizer that answers greedily and scores choices."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        from safetune.worker import decoding

        self._tokenizer = tokenizer
        self.asker = Asker(model, tokenizer)
        self.slow_because = decoding.why_not(model)
        self.model, self.ends = model, _ends(model, tokenizer)
        decoding.plain_generation(model)
        self._engine = decoding.Engine(model)
        self._decoder: decoding.Decoder | decoding.Fallback = (
            decoding.Fallback(model, self.ends, self._decided)
            if self.slow_because
            else decoding.Decoder(self._engine, self.ends, self._decided)
        )
        self._judges: dict[str, Any] = {}

    def answer(self, batch: Batch) -> list[Mapping[str, JSON]]:
        """Return one response row per request: what the model said, or how likely it finds each choice."""
        if batch.rows[0].kind == GENERATE:
            said = self._decoder.answer(batch)
            return [
                {"digest": one.digest, "output": self._text(tokens), "tokens": len(tokens)}
                for one, tokens in zip(batch.rows, said, strict=True)
            ]
        from safetune.worker.likelihood import score

        scored = score(self._engine, batch, cached=not self.slow_because)
        return [
            {
                "digest": one.digest,
                "output": canonical({"logprobs": list(s.logprobs), "tokens": list(s.tokens)}).decode(),
                "tokens": sum(s.tokens),
            }
            for one, s in zip(batch.rows, scored, strict=True)
        ]

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _decided(self, asked: Asked, tokens: Sequence[int]) -> bool:
        """Ask the request's judge whether what was said so far settles its label; one that cannot say has not."""
        if asked.judge not in self._judges:
            self._judges[asked.judge] = getattr(load_plugin("judge", asked.judge), "decided", None)
        decided = self._judges[asked.judge]
        return decided is not None and bool(decided(asked.prompt, self._text(tokens)))


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that end an answer: the tokenizer's own first, and all that the model's settings name."""
    given = getattr(model.generation_config, "eos_token_id", None)
    also = given if isinstance(given, list) else [given]
    return [int(token) for token in dict.fromkeys([tokenizer.eos_token_id, *also]) if token is not None]
