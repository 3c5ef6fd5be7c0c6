"""Write the Croissant 1.1 record of a derived mixture."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safetune.core.digest import JSON
from safetune.engine.data.croissant.licences import simple

_CR = "http://mlcommons.org/croissant"
_CONTEXT: Mapping[str, JSON] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": f"{_CR}/",
    "rai": f"{_CR}/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "conformsTo": "dct:conformsTo",
    **{
        term: f"cr:{term}"
        for term in (
            *("annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes"),
            *("extract", "field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray"),
            *("isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "readLines", "recordSet"),
            *("references", "regex", "repeated", "replace", "samplingRate", "sdVersion", "separator", "source"),
            *("subField", "transform", "unArchive", "value"),
        )
    },
}
_JSONL = "application/jsonlines"
ID_FIELD = ("id", "", "The id of the row: a digest of the row as it was read.")


def row_fields(shape: Sequence[str]) -> tuple[tuple[str, str, str], ...]:
    """Return the fields of the lines of a data object whose rows have the columns `shape`, such as prompt, completion.

    A column of messages is a field of their texts.
    """
    return (ID_FIELD, *(("row", f"$.{name}[*].content", f"The texts of `{name}`, in order.") for name in shape))


@dataclass(frozen=True, slots=True)
class DataFileEntry:
    """One file of rows: its name in the record, where it lies, what it is made of.

    `fields` are (column, JSON path inside it or nothing, what it is in words).
    """

    name: str
    url: str
    sha256: str
    size: int
    rows: int
    fields: tuple[tuple[str, str, str], ...] = (ID_FIELD,)


@dataclass(frozen=True, slots=True)
class Origin:
    """One source that rows came from, as it was declared; `consent` may be a lawful basis in words."""

    name: str
    sha256: str
    licence: str
    origin: str = ""
    publisher: str = ""
    consent: str = ""


@dataclass(frozen=True, slots=True)
class Derived:
    """What the record of a mixture says. `licences` are SPDX expressions that all apply; `languages` ISO 639-1 codes.

    `published` is a day in ISO 8601, given by the caller: the record of equal mixtures must be equal. `collected` is
    the first and last day of collection; `made_by` says in sentences what was done to the rows.
    """

    name: str
    description: str
    url: str
    published: str
    creators: tuple[str, ...]
    licences: tuple[str, ...]
    files: tuple[DataFileEntry, ...]
    sources: tuple[Origin, ...]
    languages: tuple[str, ...] = ()
    collected: tuple[str, str] = ("", "")
    limits: tuple[str, ...] = ()
    made_by: tuple[str, ...] = ()


def croissant_json(mixture: Derived, version: str = "1.0.0") -> Mapping[str, JSON]:
    """Return the JSON-LD document; `version` is that of the data set (semantic versioning).

    Provenance is written with PROV-O as section "Responsible AI and Governance" of the specification proposes: each
    source as an entity that the mixture was derived from, with its licence and what was declared of consent.
    """
    found: dict[str, JSON] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [f"{_CR}/1.1", f"{_CR}/RAI/1.0"],
        "name": mixture.name,
        "description": mixture.description,
        "url": mixture.url,
        "version": version,
        "datePublished": mixture.published,
        "license": [_licence(one) for one in dict.fromkeys(mixture.licences)],
        "creator": [{"@type": "sc:Organization", "name": name} for name in mixture.creators],
        "citeAs": f"{mixture.name}, version {version}",
        "inLanguage": list(mixture.languages),
        "distribution": [_file(file) for file in mixture.files],
        "recordSet": [_records(file) for file in mixture.files],
        "rai:dataLimitations": list(mixture.limits),
        "rai:dataPreprocessingProtocol": list(mixture.made_by),
        "rai:dataCollectionTimeframe": [day for day in mixture.collected if day],
        "prov:wasDerivedFrom": [_origin(one) for one in mixture.sources],
        "prov:wasGeneratedBy": {"@type": "prov:Activity", "prov:label": "Rows admitted, guarded and mixed by safetune"},
    }
    return {key: value for key, value in found.items() if value or key in ("license", "distribution")}


def _licence(expression: str) -> JSON:
    """Return the address of one SPDX licence, a work with the expression as its name for anything else."""
    if simple(expression):
        return f"https://spdx.org/licenses/{expression}.html"
    return {"@type": "sc:CreativeWork", "name": expression}


def _id(name: str) -> str:
    """Return a name as an id, which must not have spaces; names of one record must differ in more than those."""
    return re.sub(r"\s+", "-", name)


def _file(file: DataFileEntry) -> JSON:
    return {
        "@type": "cr:FileObject",
        "@id": _id(file.name),
        "name": file.name,
        "description": f"{file.rows} rows, one JSON object a line.",
        "contentUrl": file.url,
        "contentSize": f"{file.size} B",
        "encodingFormat": _JSONL,
        "sha256": file.sha256,
    }


def _records(file: DataFileEntry) -> JSON:
    name = f"rows-of-{_id(file.name)}"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"The rows of {file.name}, in their order.",
        "field": [_field(file, name, field) for field in file.fields],
    }


def _field(file: DataFileEntry, records: str, field: tuple[str, str, str]) -> JSON:
    column, path, what = field
    name = path.removeprefix("$.").partition("[")[0] or column
    source: dict[str, JSON] = {"fileObject": {"@id": _id(file.name)}, "extract": {"column": column}}
    many: dict[str, JSON] = {"isArray": True, "arrayShape": "-1"} if path else {}
    return {
        "@type": "cr:Field",
        "@id": f"{records}/{name}",
        "name": name,
        "description": what,
        "dataType": "sc:Text",
        **many,
        "source": {**source, "transform": {"jsonPath": path}} if path else source,
    }


def _origin(one: Origin) -> JSON:
    found: dict[str, JSON] = {
        "@type": "prov:Entity",
        "@id": f"urn:sha256:{one.sha256}",
        "prov:label": one.name,
        "sha256": one.sha256,
        "license": _licence(one.licence) if one.licence else "",
        "isBasedOn": one.origin,
        "prov:wasAttributedTo": {"@type": "prov:Agent", "prov:label": one.publisher} if one.publisher else "",
        "usageInfo": {"@type": "sc:CreativeWork", "name": f"consent: {one.consent}"} if one.consent else "",
    }
    return {key: value for key, value in found.items() if value}


def all_licences(expressions: Sequence[str]) -> tuple[str, ...]:
    """Return the licences that apply to a mixture of sources under these expressions, each once, in order."""
    return tuple(dict.fromkeys(one for one in expressions if one))
