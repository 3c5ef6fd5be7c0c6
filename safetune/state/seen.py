"""Which rows each optimizer step saw, as a file: `seen.safetensors` beside `lineage.json`.

The tensors are `rows` (uint32, the numbers of the rows, step after step) and `offsets` (steps + 1 numbers, where each
step begins), and the same for the rows of techniques: `technique_rows`, `technique_offsets`. Offsets are uint32 too,
int64 where there are more rows than that holds: a step of one row then takes 8 bytes and no more.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from safetune.core.errors import IntegrityError, RunError
from safetune.state.atomic import write_atomic
from safetune.state.files import read_regular

SEEN, ABOUT, FORMAT = "seen.safetensors", "lineage.json", "safetune-lineage/1"
MOST = 2**32 - 1  # the largest row number

_TYPES = {"U32": "I", "I64": "q"}
_LITTLE = sys.byteorder == "little"


@dataclass(frozen=True, slots=True)
class Steps:
    """Row numbers by optimizer step, from 0: those of step n are `rows[offsets[n]:offsets[n + 1]]`."""

    rows: array[int]
    offsets: array[int]

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[array[int]]:
        """Yield the row numbers of each step."""
        for start, end in pairwise(self.offsets):
            yield self.rows[start:end]


@dataclass(frozen=True, slots=True)
class SeenRows:
    """What was seen: rows of the stage's own sources, and rows of the sources of its techniques."""

    rows: Steps
    technique: Steps


class Growing:
    """The record of a run while it goes on: steps are added in order, several times for one step."""

    def __init__(self, before: Steps | None = None) -> None:
        self._rows = array("I", before.rows if before else ())
        self._offsets = array("q", before.offsets if before else (0,))

    def add(self, step: int, numbers: Iterable[int]) -> None:
        """Add what step `step` (from 0) saw: the step that is going on, or the next one.

        Raises:
            RunError: for any other step, or for a number that is no row number.
        """
        going_on = len(self._offsets) - 2
        if step not in (going_on, going_on + 1):
            raise RunError(f"step {step + 1} was recorded after step {going_on + 1}")
        try:
            self._rows.extend(numbers)
        except (OverflowError, TypeError) as error:
            raise RunError(f"step {step + 1} saw a row without a number: {error}") from error
        if step == going_on:
            self._offsets[-1] = len(self._rows)
        else:
            self._offsets.append(len(self._rows))

    @property
    def steps(self) -> Steps:
        """A copy of what was recorded so far."""
        return Steps(self._rows[:], self._offsets[:])


def joined(parts: Sequence[Steps]) -> Steps:
    """Return what several processes saw, step by step, in the order of the processes.

    Raises:
        RunError: when they did not take the same number of steps.
    """
    if len({len(part) for part in parts}) != 1:
        raise RunError("the processes recorded different numbers of steps")
    found = Growing()
    for step, each in enumerate(zip(*parts, strict=True)):
        found.add(step, (number for numbers in each for number in numbers))
    return found.steps


def encode(seen: SeenRows) -> bytes:
    """Return the safetensors form (https://github.com/huggingface/safetensors, Format)."""
    tensors = {"rows": seen.rows.rows, "offsets": _narrow(seen.rows.offsets)}
    if len(seen.technique):
        tensors |= {"technique_rows": seen.technique.rows, "technique_offsets": _narrow(seen.technique.offsets)}
    header: dict[str, object] = {}
    blocks: list[bytes] = []
    place = 0
    for name, values in sorted(tensors.items(), key=lambda one: (-one[1].itemsize, one[0])):  # so that all are aligned
        blocks.append(_bytes(values))
        kind = next(kind for kind, code in _TYPES.items() if code == values.typecode)
        header[name] = {"dtype": kind, "shape": [len(values)], "data_offsets": [place, place + len(blocks[-1])]}
        place += len(blocks[-1])
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return b"".join((len(head).to_bytes(8, "little"), head, *blocks))


def decode(data: bytes) -> SeenRows:
    """Return what `encode` wrote.

    Raises:
        ValueError: when it is anything else.
    """
    try:
        begin = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:begin])
        found = {name: _tensor(data[begin:], of) for name, of in header.items() if name != "__metadata__"}
        own = _checked(Steps(found["rows"], array("q", found["offsets"])))
        technique = Steps(found.get("technique_rows", array("I")), array("q", found.get("technique_offsets", [0])))
        return SeenRows(own, _checked(technique))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a record of rows: {error!r}") from error


def write_lineage(folder: Path, seen: SeenRows, about: Mapping[str, str | int]) -> None:
    """Write both files into `folder`; `about` says which mixture and stage the numbers belong to.

    Raises:
        MachineError: when the machine refuses.
    """
    counts = {"steps": len(seen.rows), "rows": len(seen.rows.rows), "technique_rows": len(seen.technique.rows)}
    write_atomic(folder / SEEN, encode(seen))
    write_atomic(folder / ABOUT, json.dumps({**about, **counts, "format": FORMAT}, sort_keys=True).encode() + b"\n")


def read_seen(path: Path) -> SeenRows:
    """Read a file of row numbers.

    Raises:
        IntegrityError: when it is missing or is not one.
    """
    try:
        return decode(read_regular(path))
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path.name} is not a record of rows: {error}", hint="safetune verify") from error


def _narrow(offsets: array[int]) -> array[int]:
    return array("I" if offsets[-1] <= MOST else "q", offsets)


def _bytes(values: array[int]) -> bytes:
    if not _LITTLE:
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _tensor(data: bytes, of: Mapping[str, object]) -> array[int]:
    start, end = of["data_offsets"]  # type: ignore[misc]
    found = array(_TYPES[str(of["dtype"])])
    if not 0 <= start <= end <= len(data):  # type: ignore[has-type]
        raise ValueError("a tensor lies outside of the file")
    found.frombytes(data[start:end])  # type: ignore[has-type]
    if [len(found)] != of["shape"]:
        raise ValueError("a tensor has another shape than it says")
    if not _LITTLE:
        found.byteswap()
    return found


def _checked(steps: Steps) -> Steps:
    offsets = steps.offsets
    if not offsets or offsets[0] != 0 or offsets[-1] != len(steps.rows):
        raise ValueError("the steps do not cover the rows")
    if any(a > b for a, b in pairwise(offsets)):
        raise ValueError("the steps are not in order")
    return steps
