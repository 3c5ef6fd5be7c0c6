"""The mixture of a stage: which guarded rows it is made of, by what share, from whom and under which licence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetune.core.digest import JSON, canonical
from safetune.core.errors import IntegrityError
from safetune.core.playbook import Playbook, Stage
from safetune.engine.data.declared import inner
from safetune.engine.data.desk import Admitted
from safetune.engine.data.stored_rows import rows_in
from safetune.state.atomic import write_atomic
from safetune.state.files import open_regular
from safetune.state.objects import ObjectStore

MIXTURE, FORMAT = "mixture.json", "safetune-mixture/1"
TRAIN = "train"
_MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """One source of a mixture. `role` is `train`, `technique:NAME`, or `anchor:harmful` and `anchor:safe` of a screen.

    Rows of a mixture are counted over all parts in order; `first` is the number of this part's first row.
    """

    name: str
    role: str
    share: float
    data: str
    rows_sha256: str
    first: int
    kept: int


def wanted_by(stage: Stage) -> Sequence[tuple[str, str, float]]:
    """Return what a stage trains on, what its techniques read and what its screen compares, as (name, role, share)."""
    wanted = [(name, TRAIN, share) for name, share in stage.sources]
    wanted += [(name, f"technique:{t.name}", share) for t in stage.techniques for name, share in t.sources]
    if stage.screen:
        sides = zip(stage.screen.anchors, ("harmful", "safe"), strict=True)
        wanted += [(name, f"anchor:{side}", 1.0) for name, side in sides if name]
    return wanted


def parts_of(stage: Stage, admitted: Mapping[str, Admitted]) -> tuple[Part, ...]:
    """Return the parts of a stage's mixture: what it trains on, what its techniques read, what its screen compares."""
    parts: list[Part] = []
    first = 0
    for name, role, share in wanted_by(stage):
        outcome = admitted[name].outcome
        parts.append(Part(name, role, share, outcome.data, outcome.rows_sha256, first, outcome.kept))
        first += outcome.kept
    return tuple(parts)


def mixture_content(
    playbook: Playbook, stage: Stage, parts: Sequence[Part], admitted: Mapping[str, Admitted]
) -> Mapping[str, JSON]:
    """Return what the mixture's file says."""
    rows: list[JSON] = [
        {
            "name": part.name,
            "role": part.role,
            "share": part.share,
            "data": part.data,
            "rows_sha256": part.rows_sha256,
            "first": part.first,
            "kept": part.kept,
            "source": {**admitted[part.name].source.declarations, **inner(admitted[part.name].source)},
        }
        for part in parts
    ]
    return {"format": FORMAT, "stage": stage.name, "sources": rows, "policy": playbook.inputs.policy.identity}


def store_mixture(content: Mapping[str, JSON], also: Mapping[str, bytes], objects: ObjectStore, folder: Path) -> str:
    """Put a mixture into the store and return its digest; `also` are files that stand beside it, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / MIXTURE, canonical(content) + b"\n")
    for name, data in also.items():
        write_atomic(folder / name, data)
    return objects.adopt(folder)


@dataclass(frozen=True, slots=True)
class Mixture:
    """A mixture as it lies in the store: its parts, and what each source said of itself, by name."""

    digest: str
    parts: tuple[Part, ...]
    sources: Mapping[str, Mapping[str, JSON]]
    content: Mapping[str, JSON]


def read_mixture(objects: ObjectStore, digest: str) -> Mixture:
    """Read a mixture of the store.

    Raises:
        IntegrityError: when it is missing, damaged, or says something else than a mixture does.
    """
    objects.verify(digest)
    try:
        with open_regular(objects.path(digest) / MIXTURE) as stream:
            content = json.loads(stream.read(_MOST_BYTES))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        rows = content["sources"]
        parts = tuple(Part(**{name: row[name] for name in Part.__slots__}) for row in rows)
        sources = {str(row["name"]): dict(row["source"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{digest[:12]} is no mixture: {error}", hint="safetune verify") from error
    return Mixture(digest, parts, sources, content)


def rows_of(objects: ObjectStore, part: Part) -> Iterator[tuple[str, Mapping[str, JSON]]]:
    """Yield id and content of the rows of a part, in order.

    Raises:
        IntegrityError: when the stored rows cannot be read.
    """
    yield from rows_in(objects, part.data, part.name)
