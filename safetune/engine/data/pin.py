"""Pin a source: read all of it once, and say its digest, its rows, and how its columns can be understood."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from safetune.core import rows
from safetune.core.digest import JSON
from safetune.core.errors import UsageError
from safetune.core.pinned import Pinned
from safetune.core.source import CSV, KINDS, MIXTURE, PARQUET, Provenance, Source
from safetune.engine.data.declared import mixture_record
from safetune.engine.data.derived import mixture_parts
from safetune.engine.data.dvc import dvc_pin, is_dvc
from safetune.engine.data.lines import DataFile
from safetune.engine.data.reading import BadRow, Files, files_of, kind_of, read
from safetune.engine.data.records import Strange, strict_json, utf8
from safetune.engine.data.tables import SUFFIXES, arrow_errors, open_parquet
from safetune.state.files import sha256_listing

_LONGEST_HEADER = 1024 * 1024
_PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip")
# Names that columns of public data sets often have, for prompts and for answers; the first that is there counts.
_PROMPTS = ("prompt", "question", "instruction", "query", "problem", "goal", "input")
_ANSWERS = ("completion", "answer", "response", "output", "solution", "target")
_SYSTEM = ("system", "system_prompt")


def pin(uri: str, source: Source, longest_row: int) -> Pinned:
    """Return the pin of a source whose `sha256` may be empty; `uri` is what the playbook is to say.

    Raises:
        UsageError: when it cannot be found.
        IntegrityError: when it changes meanwhile, or DVC pins other data.
    """
    source = replace(source, name=source.name or uri, sha256="")
    if source.kind == MIXTURE:
        return _mixture(uri, source, longest_row)
    found = files_of(source)
    columns = dict(source.columns) or _guess(found, source)
    guess = replace(source, columns=columns)
    digest, size = _digest(found, f"source {source.name}")
    good = bad = 0
    first = ""
    try:
        for row in read(guess, longest_row):
            if isinstance(row, BadRow):
                bad, first = bad + 1, first or row.message
            else:
                good += 1
    except UsageError as error:
        first = first or error.message
    dvc = dvc_pin(source.path, uri).md5 if is_dvc(source.path) else ""
    revision = source.about.revision
    return Pinned(uri, found.kind, digest, good, size, len(found.files), bad, first, revision, columns, {}, dvc)


def source_at(uri: str, folder: Path, kind: str = "", revision: str = "") -> Source:
    """Return a bare source for a uri that is relative to `folder`; the kind is found out when it is left out.

    Raises:
        UsageError: when nothing is named, or the kind is none that is known.
    """
    if not uri.strip():
        raise UsageError("there is nothing to pin", hint="name a file, a folder, a mixture, a DVC pin or hub:ORG/NAME")
    if kind and kind not in KINDS:
        raise UsageError(f'no format is called "{kind[:40]}"', hint=f"known: {', '.join(KINDS)}")
    path = uri if uri.startswith("hub:") else str((folder / uri).absolute())
    return Source("", path, "", "", "", "", (), kind or kind_of(path), Provenance(revision=revision))


def usable(found: Pinned) -> Pinned:
    """Return a pin of which at least one row can be used.

    Raises:
        UsageError: when no row can, with the reason of the first.
    """
    if found.rows:
        return found
    why = f": {found.first_bad}" if found.first_bad else ""
    raise UsageError(f"{found.uri} has no row that can be used{why}", hint=_remedy(found.uri))


def _remedy(uri: str) -> str:
    suffix = Path(uri).suffix.lower()
    if suffix in _PACKED:
        return f"compressed files ({', '.join(_PACKED)}) are not read: unpack it first"
    if suffix == ".json":
        return (
            "a file is read as JSONL, one object on each line; a Croissant record is no data: "
            "pin its data file, and name the record with `croissant:` in the source"
        )
    return "rows need prompt and completion, messages, or prompt, chosen and rejected; map others with `columns`"


def _mixture(uri: str, source: Source, longest_row: int) -> Pinned:
    parts = mixture_parts(Path(source.path), "", f"source {source.name}")
    size = count = 0
    for row in read(source, longest_row):
        if isinstance(row, BadRow):
            raise UsageError(row.message)
        count += 1
    for part in parts:
        size += (Path(source.path).parent / part.data / "rows.jsonl").stat().st_size
    record = mixture_record(parts)
    declared: dict[str, JSON] = {
        "licence": record.licence,
        "consent": record.consent,
        "basis": record.basis,
        "origin": record.origin,
        "publisher": record.publisher,
        "languages": list(record.languages),
        "limits": list(record.limits),
    }
    said = {key: value for key, value in declared.items() if value}
    return Pinned(uri, MIXTURE, Path(source.path).name, count, size, len(parts), declared=said)


def _digest(found: Files, whose: str) -> tuple[str, int]:
    sums, size = {}, 0
    for name, path in found.files.items():
        with DataFile(path, name, whose) as file:
            sums[name] = file.hash_all()
            file.finish()
            size += file.size
    return (sha256_listing(sums) if found.whole else next(iter(sums.values()))), size


def _guess(found: Files, source: Source) -> dict[str, str]:
    """Return which columns of the first file seem to be prompt and answer; nothing where rows have their shape."""
    name, path = next(iter(found.files.items()))
    kind = SUFFIXES[Path(name).suffix] if found.whole else found.kind
    header = _first_cells(path, kind, f"source {source.name}")
    if (shape := rows.shape(header)) is not None:
        texts = all(isinstance(header[column], str) for column in shape)  # of a table the cells are not looked at
        return {column: column for column in shape} if texts else {}
    parts = {"prompt": _first(_PROMPTS, header), "completion": _first(_ANSWERS, header)}
    if not all(parts.values()):
        return {}
    system = _first(_SYSTEM, header)
    return parts | ({"system": system} if system else {})


def _first(names: tuple[str, ...], header: Collection[str]) -> str:
    return next((name for name in names if name in header), "")


def _first_cells(path: Path, kind: str, whose: str) -> Mapping[str, object]:
    """Return the columns of a table without cells, or the first row of JSONL; nothing when it cannot be read."""
    with DataFile(path, path.name, whose) as file:
        try:
            if kind == PARQUET:
                return dict.fromkeys(map(str, open_parquet(file).schema_arrow.names))
            line = next((line for _, line in file.lines(_LONGEST_HEADER) if line is None or line.strip()), None)
            if line is None:
                return {}
            if kind == CSV:
                return dict.fromkeys(next(csv.reader([utf8(line).removeprefix("\ufeff")]), []))
            row = strict_json(line)
            return row if isinstance(row, dict) else {}
        except (Strange, csv.Error):
            return {}
        except arrow_errors():
            return {}
