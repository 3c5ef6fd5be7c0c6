"""Prompts that are gone through several times: few are kept in memory, many in a file that has no name."""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import attrgetter

from safetune.core.evidence import Cells, Prompt
from safetune.state.lines import LineFile, Lines

_FEW = 2_000
_CELLS = attrgetter(*Prompt.__slots__)


def keep(prompts: Iterable[Prompt]) -> Sequence[Prompt]:
    """Return prompts that may come one by one as something that can be gone through again.

    Raises:
        MachineError: when there is no room for a file.
    """
    if isinstance(prompts, Lines | tuple):
        return prompts
    coming = iter(prompts)
    first = tuple(islice(coming, _FEW))
    if len(first) < _FEW:
        return first
    lines = Lines(LineFile.temporary(), _decode)
    for prompt in chain(first, coming):
        lines.append(_encode(prompt))
    return lines


def cells(prompts: Sequence[Prompt]) -> Iterator[Cells]:
    """Yield the fields of every prompt, in order."""
    return map(marshal.loads, prompts.raw()) if isinstance(prompts, Lines) else map(_CELLS, prompts)


def _encode(prompt: Prompt) -> bytes:
    # It holds any text, five times faster than JSON. The file has no name: nobody else can write or read it.
    return marshal.dumps(_CELLS(prompt))


def _decode(line: bytes) -> Prompt:
    return Prompt(*marshal.loads(line))
