"""Whether the sources of a playbook may be used: their declarations read, their licences parsed, the policy applied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from safetune.core.admission import Declared, Licence, Refusal, refusals, says_nothing
from safetune.core.data_policy import Admission
from safetune.core.digest import JSON
from safetune.core.source import MIXTURE, Provenance, Source
from safetune.engine.data.declared import declared
from safetune.engine.data.derived import mixture_parts
from safetune.playbook.licences import NotSPDX, parse


def refused(source: Source, policy: Admission, trains: bool = True) -> tuple[Refusal, ...]:
    """Return what speaks against a source, those that a derived mixture was made of included.

    What its Croissant record declares counts as said by the source. Rows that no step sees (`trains` false: a screen
    compares with them) may be for evaluation only.

    Raises:
        UsageError: when a record or a mixture cannot be read.
        IntegrityError: when a mixture is not the pinned one.
    """
    return refusals(_declared(source, trains), policy)


def _declared(source: Source, trains: bool) -> Declared:
    said = declared(source)
    said = said if trains else replace(said, use=("train",))
    parts: tuple[Declared, ...] = ()
    if source.kind == MIXTURE:
        found = mixture_parts(Path(source.path), source.sha256, f"source {source.name}")
        parts = tuple(_part(part.name, part.declared) for part in found)
    return Declared(said, _licence(said.licence), parts)


def _part(name: str, said: Mapping[str, JSON]) -> Declared:
    """Return a source of a mixture from the declarations that the mixture keeps."""
    first, last = (*_texts(said, "collected"), "", "")[:2]
    about = Provenance(
        publisher=_text(said, "publisher"),
        basis=_text(said, "basis"),
        collected=(first, last),
        languages=_texts(said, "languages"),
        limits=_texts(said, "limits"),
    )
    source = Source(
        name=name,
        path="",
        sha256=_text(said, "sha256"),
        licence=_text(said, "licence"),
        consent=_text(said, "consent"),
        origin=_text(said, "origin"),
        use=_texts(said, "use"),
        about=about,
    )
    within = said.get("of")
    found = [one for one in within if isinstance(one, Mapping)] if isinstance(within, list | tuple) else []
    return Declared(source, _licence(source.licence), tuple(_part(_text(one, "name"), one) for one in found))


def _text(said: Mapping[str, JSON], key: str) -> str:
    value = said.get(key)
    return value if isinstance(value, str) else ""


def _texts(said: Mapping[str, JSON], key: str) -> tuple[str, ...]:
    value = said.get(key)
    return tuple(str(one) for one in value) if isinstance(value, list | tuple) else ()


def _licence(text: str) -> Licence | None:
    if says_nothing(text):
        return None
    try:
        return parse(text)
    except NotSPDX:
        return None


def problem_of(found: Iterable[Refusal]) -> str:
    """Return what blocks a source as one line, with what to do; empty when nothing does."""
    blocking = [one for one in found if one.blocks]
    return "; ".join(f"{one.why} ({one.hint})" for one in blocking)


def warning_of(found: Iterable[Refusal]) -> str:
    """Return what is only told of a source as one line; empty when there is nothing."""
    return "; ".join(one.why for one in found if not one.blocks)
