"""What a generation job is still to ask: by subject and round, less what nobody wants any more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetune.worker.batching import Batch

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """One model and what it is asked: its requests, and the digests of those that have a response."""

    label: str
    model: Mapping[str, Any]
    responses: Path
    requests: Sequence[Row]
    done: frozenset[str]

    @property
    def missing(self) -> Sequence[Row]:
        """The requests that have no response yet."""
        return [row for row in self.requests if str(row["digest"]) not in self.done]


class Stopped:
    """The parts of an evaluation that nobody wants any more, as the engine writes them down while the job runs.

    A request is left out when all parts that it belongs to have stopped; one that belongs to none is always asked.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def leaves_out(self, rows: Sequence[Row]) -> frozenset[str]:
        """Return the digests of those requests that need not be asked, as things stand now."""
        try:
            parts = frozenset(map(str, json.loads(Path(self._path).read_bytes()))) if self._path else frozenset()
        except (OSError, ValueError, TypeError):  # nobody has stopped anything, or it cannot be read: then all is asked
            return frozenset()
        return frozenset(str(row["digest"]) for row in rows if row.get("parts") and parts.issuperset(row["parts"]))


class Queue:
    """What is left to ask one subject; `batches` are made of it by round, once there is a model to read it with.

    `written` of `total` requests have their response.
    """

    def __init__(self, subject: Subject, stopped: Stopped) -> None:
        self.subject, self._stopped = subject, stopped
        self._rows = {str(row["digest"]): row for row in subject.requests}
        self.total = len(subject.requests)
        self.written = self.total - len(subject.missing)
        self.batches: Mapping[int, Sequence[Batch]] | None = None

    @property
    def rounds(self) -> frozenset[int]:
        """The rounds in which something is missing."""
        return frozenset(map(round_of, self.subject.missing))

    def wants(self, number: int) -> bool:
        """Say whether anything of a round is still to be asked."""
        missing = [row for row in self.subject.missing if round_of(row) == number]
        return len(self._stopped.leaves_out(missing)) < len(missing)

    def wanted(self, batch: Batch) -> Batch:
        """Return what of a batch is still to be asked."""
        out = self._stopped.leaves_out([self._rows[one.digest] for one in batch.rows])
        return Batch(batch.shared, tuple(one for one in batch.rows if one.digest not in out))


def round_of(row: Row) -> int:
    """Return the round of a request: 0 where it names none."""
    return int(row.get("round", 0))


def turns(queues: Sequence[Queue]) -> Iterator[tuple[Queue, int]]:
    """Yield whose turn it is in which round: to and fro, since going from one model to another takes time."""
    order, rounds = list(queues), {id(queue): queue.rounds for queue in queues}
    for number in sorted(frozenset().union(*rounds.values())):
        turn = [queue for queue in order if number in rounds[id(queue)]]
        yield from ((queue, number) for queue in turn)
        order.sort(key=lambda queue: queue is not turn[-1])
