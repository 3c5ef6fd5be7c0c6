"""The generation job: ask one or several subjects everything that has no response yet, batch by batch to disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from safetune.core.digest import JSON, canonical
from safetune.core.errors import RunError
from safetune.plugins import load as load_plugin
from safetune.worker.asking import GENERATE, Asked, Asker, read_requests
from safetune.worker.batching import Batch, Budget, batches
from safetune.worker.model import quiet
from safetune.worker.queues import Queue, Stopped, Subject, round_of, turns
from safetune.worker.reporter import Reporter
from safetune.worker.sharding import Rank, rank, together

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from safetune.worker.resident import Resident


def generate(job: Mapping[str, Any], reporter: Reporter) -> Mapping[str, JSON]:
    """Answer every request that has no response yet; each finished batch is on disk before the next begins.

    Requests of a lower `round` come first, whatever the subject, and what is stopped meanwhile is left out. The base
    model stays in memory from one subject to the next. The batches depend on the requests alone, so a job that was
    interrupted goes on with the same ones.

    Raises:
        UsageError: when the requests cannot be read or the model cannot be used.
        RunError: when a number is not finite, or the processes are not those that the job asks for.
    """
    started, me = time.monotonic(), rank(job)
    stopped = Stopped(str(job.get("stopped") or ""))
    worker = _Worker(job, me, reporter)
    with together(me):
        for queue, number in turns([worker.queue(_subject(content, me), stopped) for content in job["subjects"]]):
            worker.work(queue, number)
    subjects = [_subject(content, me) for content in job["subjects"]]
    return {
        "done": sum(_count(subject, stopped) for subject in subjects),
        "left_out": sum(len(subject.missing) for subject in subjects),
        "tokens": worker.tokens,
        "seconds": round(time.monotonic() - started, 3),
        "generation_seconds": round(worker.seconds, 3),
    }


def _subject(content: Mapping[str, Any], me: Rank) -> Subject:
    target = Path(content["responses"])
    answered(me.file(target))  # cuts a torn line off this process's own file
    done = frozenset().union(*(answered(path, cut=False) for path in me.files(target)))
    return Subject(str(content["label"]), content["model"], target, read_requests(Path(content["requests"])), done)


def _count(subject: Subject, stopped: Stopped) -> int:
    missing = subject.missing
    if len(stopped.leaves_out(missing)) < len(missing):
        raise RunError(f"{subject.responses.name} lacks responses", hint="run the same command again")
    return len(subject.requests) - len(missing)


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
        self._chat_templates: Mapping[str, str] = job.get("chat_templates") or {}
        self._resident: Resident | None = None
        self._ready: tuple[Subject, Answerer] | None = None
        self._noted: set[str] = set()
        self.tokens, self.seconds = 0, 0.0

    def queue(self, subject: Subject, stopped: Stopped) -> Queue:
        """Return what is left to ask a subject; of one that is done it is said here, of the others when they begin."""
        queue = Queue(subject, stopped)
        if not queue.rounds:
            self._say(queue, None)
        return queue

    def work(self, queue: Queue, number: int) -> None:
        """Ask a subject what is missing of a round; nothing is loaded when nothing is, or nobody wants it any more."""
        if number == min(queue.rounds):
            self._say(queue, None)
        if not queue.wants(number):
            return
        answerer = self._answerer(queue.subject)
        if queue.batches is None:
            queue.batches = self._batches(queue.subject, answerer.asker)
            queue.total = queue.written + sum(len(b.rows) for share in queue.batches.values() for b in share)
        began, tokens = time.monotonic(), 0
        with self._me.file(queue.subject.responses).open("ab") as stream:
            for batch in map(queue.wanted, queue.batches[number]):
                if not batch.rows:
                    continue
                rows = answerer.answer(batch)
                stream.write(b"".join(canonical(row) + b"\n" for row in rows))
                stream.flush()
                os.fsync(stream.fileno())
                queue.written += len(rows)
                tokens += sum(int(str(row["tokens"])) for row in rows)
                self._say(queue, round(tokens / max(time.monotonic() - began, 1e-9), 1))
        self.tokens, self.seconds = self.tokens + tokens, self.seconds + time.monotonic() - began

    def _say(self, queue: Queue, rate: float | None) -> None:
        fields: dict[str, JSON] = {"done": queue.written, "total": queue.total, "tokens_per_s": rate}
        self._reporter.say("generated", subject=queue.subject.label, **fields)

    def _batches(self, subject: Subject, asker: Asker) -> Mapping[int, list[Batch]]:
        rounds: dict[int, list[Asked]] = {}
        for row in subject.requests:
            rounds.setdefault(round_of(row), []).append(asker.ask(row))
        return {number: self._share(asked, subject.done) for number, asked in rounds.items()}

    def _share(self, asked: Sequence[Asked], done: frozenset[str]) -> list[Batch]:
        """Return this process's batches without the rows that are answered; every so-many-th one is its own."""
        lines = sum(max(1, len(one.choices)) for one in asked)
        rows = min(self._budget.rows, -(-lines // self._me.count))
        mine = batches(asked, Budget(rows, self._budget.tokens))[self._me.number :: self._me.count]
        left = [Batch(b.shared, tuple(one for one in b.rows if one.digest not in done)) for b in mine]
        return [batch for batch in left if batch.rows]

    def _answerer(self, subject: Subject) -> Answerer:
        """Return the model of a subject, at once when it is the one that was asked last."""
        from safetune.worker.resident import Resident

        if self._ready and self._ready[0] is subject:
            return self._ready[1]
        if self._resident is None:
            quiet(self._threads)
            self._resident = Resident()
        self._ready = None  # the resident model changes under it
        answerer = Answerer(*self._resident.take(subject.model), self._chat_templates)
        if answerer.slow_because and subject.label not in self._noted:
            self._noted.add(subject.label)
            self._reporter.say("note", text=f"model.generate is used for this model: {answerer.slow_because}")
        self._ready = subject, answerer
        return answerer


class Answerer:
    """A model with its tokenizer that answers greedily and scores choices."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        chat_templates: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        from safetune.worker import decoding

        self._tokenizer = tokenizer
        self.asker = Asker(model, tokenizer, chat_templates)
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
