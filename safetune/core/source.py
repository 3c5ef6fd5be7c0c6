"""A source: where rows come from, who allowed what, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from safetune.core.data_policy import GuardSettings
from safetune.core.digest import JSON

JSONL, CSV, PARQUET, FOLDER, HUB, MIXTURE = "jsonl", "csv", "parquet", "folder", "hub", "mixture"
KINDS = (JSONL, CSV, PARQUET, FOLDER, HUB, MIXTURE)

# Article 6(1) of the General Data Protection Regulation, and the case in which it does not apply.
LAWFUL_BASES = (
    "consent",
    "contract",
    "legal-obligation",
    "vital-interests",
    "public-task",
    "legitimate-interests",
    "no-personal-data",
)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a source says of itself beyond licence and consent.

    `basis` is one of `LAWFUL_BASES` or empty; `collected` is (first, last) day in ISO 8601, empty where unknown;
    `languages` are ISO 639-1 codes; `limits` are known limits in words; `revision` pins a hub dataset; `croissant` is
    the absolute path of the Croissant record that the declarations were read from, or empty.
    """

    publisher: str = ""
    basis: str = ""
    collected: tuple[str, str] = ("", "")
    languages: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    revision: str = ""
    croissant: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Rows for training or evaluation, pinned by digest. `path` is absolute; it never enters a digest.

    `sha256` is that of the file, or of a folder's listing (`state.files`). `columns` says which columns of a table
    make a row: `prompt` and `completion`, or others of the shapes in `core.rows`; empty when rows have their shape.
    `guards` are settings for this source alone, on top of the policy's.
    """

    name: str
    path: str
    sha256: str
    licence: str
    consent: str
    origin: str
    use: tuple[str, ...]
    kind: str = JSONL
    about: Provenance = Provenance()
    columns: Mapping[str, str] = field(default_factory=dict)
    guards: tuple[GuardSettings, ...] = ()

    @property
    def identity(self) -> Mapping[str, JSON]:
        """What makes two sources the same before any guard has seen them: the name, the bytes, how they are read."""
        columns: Mapping[str, JSON] = {"columns": dict(self.columns)} if self.columns else {}
        return {"name": self.name, "sha256": self.sha256, **columns}

    @property
    def declarations(self) -> Mapping[str, JSON]:
        """Everything that the source says of itself, without where it lies: what a card and the ledger keep."""
        about = self.about
        said: dict[str, JSON] = {
            "name": self.name,
            "sha256": self.sha256,
            "kind": self.kind,
            "licence": self.licence,
            "consent": self.consent,
            "basis": about.basis,
            "origin": self.origin,
            "publisher": about.publisher,
            "collected": list(about.collected) if any(about.collected) else [],
            "languages": list(about.languages),
            "limits": list(about.limits),
            "revision": about.revision,
            "use": list(self.use),
        }
        return {name: value for name, value in said.items() if value}
