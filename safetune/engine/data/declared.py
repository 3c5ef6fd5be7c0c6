"""A source with everything that is declared of it: by the playbook, by its Croissant record, by a mixture's sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetune.core.checkpoint import Named
from safetune.core.digest import JSON
from safetune.core.source import MIXTURE, Source
from safetune.core.withdrawal import named_in
from safetune.engine.data.croissant.filling import fill
from safetune.engine.data.croissant.licences import together
from safetune.engine.data.croissant.record import Record, read_record
from safetune.engine.data.derived import Part, mixture_parts


def declared(source: Source) -> Source:
    """Return the source with what its Croissant record, and the sources of a derived mixture, add to its declarations.

    Raises:
        UsageError: when they cannot be read, or the playbook contradicts them.
        IntegrityError: when a mixture is not the pinned one.
    """
    whose = f"source {source.name}"
    if source.kind == MIXTURE:
        source = fill(source, mixture_record(mixture_parts(Path(source.path), source.sha256, whose)))
    if source.about.croissant:
        source = fill(source, read_record(Path(source.about.croissant), whose))
    return source


def inner(source: Source) -> Mapping[str, JSON]:
    """Return the declarations of the sources that a derived mixture was made of, as `of`; nothing of any other source.

    Each brings its own `of`, so that nothing is lost in mixtures of mixtures: what is withdrawn may be one of them.

    Raises:
        UsageError, IntegrityError: when the mixture cannot be read, or is not the pinned one.
    """
    if source.kind != MIXTURE:
        return {}
    parts = mixture_parts(Path(source.path), source.sha256, f"source {source.name}")
    return {"of": [{**part.declared, "name": part.name} for part in parts]}


def named_sources(source: Source) -> list[Named]:
    """Return name and sha256 of a source, and of every source that it was derived from.

    Raises:
        UsageError, IntegrityError: when a mixture cannot be read, or is not the pinned one.
    """
    return named_in([{"name": source.name, "sha256": source.sha256, **inner(source)}])


def mixture_record(parts: Sequence[Part]) -> Record:
    """Return what the sources of a mixture declared, taken together: all licences apply, all limits hold.

    A lawful basis is taken over when it is the same for all; a declaration that one of them lacks is left empty where
    it would otherwise speak for that one too (licence, consent, origin).
    """
    said = [part.declared for part in parts]
    first = [_day(one, 0) for one in said]
    last = [_day(one, 1) for one in said]
    bases = {str(one.get("basis", "")) for one in said}
    return Record(
        path="mixture.json",
        version="",
        licence=together(_all(said, "licence")),
        publisher=", ".join(_some(said, "publisher")),
        origin="; ".join(_all(said, "origin")),
        collected=(min(first) if all(first) else "", max(last) if all(last) else ""),
        languages=_listed(said, "languages"),
        limits=_listed(said, "limits"),
        consent="; ".join(_all(said, "consent")),
        basis=bases.pop() if len(bases) == 1 else "",
    )


def _some(said: Sequence[Any], key: str) -> list[str]:
    return list(dict.fromkeys(str(one[key]) for one in said if one.get(key)))


def _all(said: Sequence[Any], key: str) -> list[str]:
    return _some(said, key) if all(one.get(key) for one in said) else []


def _listed(said: Sequence[Any], key: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(item) for one in said for item in one.get(key) or ()))


def _day(one: Any, at: int) -> str:
    days = one.get("collected") or ("", "")
    return str(days[at]) if len(days) == 2 else ""
