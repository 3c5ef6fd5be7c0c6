"""The Croissant record of a stage's mixture: the same rows and sources, in the form that other tools read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from safetune.core.digest import JSON, digest
from safetune.core.playbook import Stage
from safetune.core.rows import shape
from safetune.engine.data.croissant.writing import DataFileEntry, Derived, Origin, croissant_json, row_fields
from safetune.engine.data.desk import Admitted
from safetune.engine.data.mixture import Part, rows_of
from safetune.engine.data.staging import ROWS
from safetune.state.objects import ObjectStore

CROISSANT = "croissant.json"
# A record wants a day of publication. A mixture is never published by being made, and equal mixtures must be equal.
_NO_DAY = "1970-01-01"


def croissant_record(
    playbook: tuple[str, Sequence[str]],
    stage: Stage,
    parts: Sequence[Part],
    admitted: Mapping[str, Admitted],
    objects: ObjectStore,
) -> bytes:
    """Return the record as a file; `playbook` is its name and its owners."""
    title, owners = playbook
    sources = {part.name: admitted[part.name].source for part in parts}
    days = [source.about.collected for source in sources.values() if all(source.about.collected)]
    record = Derived(
        name=f"{title}-{stage.name}",
        description=f"Rows that train stage {stage.name} of the playbook {title}, as its guards left them.",
        url=f"urn:safetune:mixture:{digest([[p.role, p.rows_sha256] for p in parts])}",
        published=_NO_DAY,
        creators=tuple(owners),
        licences=tuple(sorted({source.licence for source in sources.values() if source.licence})),
        languages=tuple(sorted({code for source in sources.values() for code in source.about.languages})),
        collected=(min(day for day, _ in days), max(day for _, day in days)) if days else ("", ""),
        limits=tuple(dict.fromkeys(limit for source in sources.values() for limit in source.about.limits)),
        made_by=tuple(_made(admitted[name]) for name in sources),
        files=tuple(_file(part, objects) for part in {part.name: part for part in parts}.values()),
        sources=tuple(_origin(admitted[name]) for name in sources),
    )
    text = json.dumps(croissant_json(record), indent=2, sort_keys=True, ensure_ascii=True)
    return text.encode() + b"\n"


def _made(one: Admitted) -> str:
    outcome = one.outcome
    return f"{one.source.name}: {outcome.kept} of {outcome.rows + outcome.bad} rows kept by the guards."


def _origin(one: Admitted) -> Origin:
    source = one.source
    consent = source.consent or source.about.basis
    return Origin(source.name, source.sha256, source.licence, source.origin, source.about.publisher, consent)


def _file(part: Part, objects: ObjectStore) -> DataFileEntry:
    path = Path(objects.path(part.data) / ROWS)
    first: list[Mapping[str, JSON]] = [content for _, content in islice(rows_of(objects, part), 1)]
    columns = shape(first[0]) if first else None
    return DataFileEntry(
        name=f"{part.name}.jsonl",
        url=f"../{part.data}/{ROWS}",
        sha256=part.rows_sha256,
        size=path.stat().st_size,
        rows=part.kept,
        fields=row_fields(columns or ()),
    )
