"""Prompts that are gone through several times: few are kept in memory, many in a file that has no name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from operator import attrgetter

from safetune.core.evidence import Prompt
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


def _encode(prompt: Prompt) -> bytes:
    # Not canonical: this must hold any text, and is read by nobody else.
    return json.dumps(_CELLS(prompt)).encode()


def _decode(line: bytes) -> Prompt:
    item_id, text, place, cluster, reference, choices, prefill, system = json.loads(line.decode())
    return Prompt(item_id, text, place, cluster, reference, tuple(choices), prefill, system)
