"""Read the rows of any source, one after the other, in constant memory, from the very bytes that are hashed.

A row that cannot be used comes as a `BadRow`; whoever reads decides whether to go on. What makes a whole file useless
(a header without the columns, a damaged Parquet file) is a UsageError. The digest is known when all bytes were read,
so rows that came before an IntegrityError must not be used.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import NamedTuple

from safetune.core.digest import short
from safetune.core.errors import IntegrityError, UsageError
from safetune.core.source import FOLDER, HUB, JSONL, KINDS, MIXTURE, Source
from safetune.engine.data.derived import mixture_parts, mixture_rows
from safetune.engine.data.dvc import check_pin, dvc_pin, is_dvc
from safetune.engine.data.folders import data_files
from safetune.engine.data.hub import hub_files
from safetune.engine.data.lines import DataFile
from safetune.engine.data.records import BadRow, Row
from safetune.engine.data.tables import READERS, SUFFIXES, How
from safetune.state.files import sha256_listing

__all__ = ["BadRow", "Row", "files_of", "kind_of", "read"]

_HINT = "restore the file, or review the new rows and pin their digest (safetune data pin)"


class Files(NamedTuple):
    """The files of a source by the name that messages use; `whole` is true where the pin is that of their listing."""

    files: Mapping[str, Path]
    kind: str
    whole: bool


def read(source: Source, longest_row: int, start_line: int = 0) -> Generator[Row | BadRow, None, str]:
    """Yield the rows of a source, after `start_line` (the `at` of the last row that is known already).

    `longest_row` is in bytes. With an empty `source.sha256` nothing is compared. The generator returns the digest of
    what was read; all bytes are hashed, wherever it starts.

    Raises:
        UsageError: when the source cannot be read at all, or has no rows.
        IntegrityError: when the bytes are not the pinned ones, or a file changed while it was read.
    """
    whose = f"source {source.name}"
    if source.kind == MIXTURE:
        parts = mixture_parts(Path(source.path), source.sha256, whose)
        yield from mixture_rows(Path(source.path), parts, (longest_row, start_line), whose)
        return Path(source.path).name
    found = files_of(source)
    sums: dict[str, str] = {}
    before, any_row = 0, False
    for name, path in found.files.items():
        how = How(source.columns, longest_row, start_line - before, before)
        with DataFile(path, name, whose) as file:
            rows = READERS[_format(name, found, whose)](file, how)
            try:
                while True:
                    row = next(rows)
                    any_row = True
                    yield row
            except StopIteration as stop:
                before += int(stop.value)
            sums[name] = file.finish()
    digest = _check(source, found, sums)
    if not any_row and start_line == 0:
        names = ", ".join(list(found.files)[:3])
        raise UsageError(f"{whose}: {names} has no rows")
    return digest


def _check(source: Source, found: Files, sums: Mapping[str, str]) -> str:
    whole = found.whole
    digest = sha256_listing(sums) if whole else next(iter(sums.values()))
    if source.sha256 and digest != source.sha256:
        what = "source {} has {} {}, the playbook pins {}"
        of = "a listing of files with sha256" if whole else "sha256"
        raise IntegrityError(what.format(source.name, of, short(digest), short(source.sha256)), hint=_HINT)
    if whole and files_of(source).files.keys() != sums.keys():
        raise IntegrityError(f"source {source.name}: files came or went while the folder was read", hint=_HINT)
    return digest


def files_of(source: Source) -> Files:
    """Return the files of a source that is no mixture; data that DVC pins is compared with its pin first.

    Raises:
        UsageError: when they are not there.
        IntegrityError: when a link leads elsewhere, or DVC pins other data.
    """
    whose = f"source {source.name}"
    if source.kind == HUB:
        return Files(hub_files(source.path, source.about.revision, whose), HUB, True)
    if is_dvc(source.path):
        pin = dvc_pin(source.path, whose)
        check_pin(pin, whose)
        if pin.data.is_dir():
            return Files(data_files(pin.data, whose), FOLDER, True)
        return Files({pin.data.name: pin.data}, SUFFIXES.get(pin.data.suffix, source.kind), False)
    path = Path(source.path)
    if source.kind == FOLDER:
        return Files(data_files(path, whose), FOLDER, True)
    # A person may name a link; from here on its target is meant.
    return Files({path.name: path.resolve()}, source.kind, False)


def _format(name: str, found: Files, whose: str) -> str:
    kind = SUFFIXES[Path(name).suffix] if found.whole else found.kind
    if kind not in READERS:
        raise UsageError(f"{whose}: {name} cannot be read as {kind[:40]}", hint=f"known formats: {', '.join(KINDS)}")
    return kind


def kind_of(uri: str) -> str:
    """Return the kind of a source by its uri, where `format` is left out: by its suffix, or what lies there.

    What DVC pins has the kind of its data; of an out of `dvc.yaml` the suffix is taken from its name.
    """
    if uri.startswith("hub:"):
        return HUB
    name = uri.partition("#")[2] or uri if is_dvc(uri) else uri
    path = Path(name.removesuffix(".dvc"))
    if path.suffix in SUFFIXES:
        return SUFFIXES[path.suffix]
    if path.is_dir():
        return MIXTURE if (path / "mixture.json").is_file() else FOLDER
    return JSONL
