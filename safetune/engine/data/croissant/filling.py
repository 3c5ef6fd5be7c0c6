"""What a Croissant record says, filled in where the playbook says nothing; what contradicts it is an error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath

from safetune.core.errors import UsageError
from safetune.core.source import Source
from safetune.engine.data.croissant.licences import same
from safetune.engine.data.croissant.record import Record


def fill(source: Source, record: Record) -> Source:
    """Return the source with what its record adds. What the playbook declares stays; limits of both are kept.

    Raises:
        UsageError: with everything in which playbook and record contradict each other.
    """
    wrong = tuple(contradictions(source, record))
    if wrong:
        raise UsageError(
            f"source {source.name}: the playbook and {PurePosixPath(record.path).name} contradict each other: "
            + "; ".join(wrong),
            hint="correct one of them; the record says what the publisher declared",
        )
    about = source.about
    first, last = about.collected
    return replace(
        source,
        licence=source.licence or record.licence,
        consent=source.consent or record.consent,
        origin=source.origin or record.origin,
        about=replace(
            about,
            publisher=about.publisher or record.publisher,
            basis=about.basis or record.basis,
            collected=(first, last) if first or last else record.collected,
            languages=about.languages or record.languages,
            limits=tuple(dict.fromkeys((*about.limits, *record.limits))),
            croissant=record.path if record.version else about.croissant,
        ),
    )


def contradictions(source: Source, record: Record) -> Iterator[str]:
    """Yield in words what the playbook declares and the record denies.

    Languages and the period of a source may be a part of those of the whole data set. Names are not compared.
    """
    if source.licence and record.licence and not same(source.licence, record.licence):
        yield f"licence {source.licence}, not {record.licence}"
    strange = [code for code in source.about.languages if record.languages and code not in record.languages]
    if strange:
        yield f"languages {', '.join(strange)}, not {', '.join(record.languages)}"
    for mine, theirs, early in zip(source.about.collected, record.collected, (True, False), strict=True):
        if mine and theirs and (mine < theirs if early else mine > theirs):
            yield f"collected {'from' if early else 'to'} {mine}, not {theirs}"
    pinned = record.sha256.get(PurePosixPath(source.path.removesuffix(".dvc")).name, "")
    if pinned and source.sha256 and source.sha256 != pinned:
        yield f"sha256 {source.sha256[:12]}, not {pinned[:12]}"
