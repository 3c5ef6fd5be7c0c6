"""Croissant records: what is read of one, what a playbook may not deny, and what is written for a mixture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sourcelab import sha, source, write

from safetune.core.errors import UsageError
from safetune.core.source import Provenance, Source
from safetune.engine.data.croissant import (
    DataFileEntry,
    Derived,
    Origin,
    Record,
    croissant_json,
    fill,
    read_record,
    row_fields,
)
from safetune.engine.data.croissant.licences import same, simple, spdx, together
from safetune.engine.data.declared import declared

CR = "http://mlcommons.org/croissant"
PREFIXES = {
    "@vocab": "https://schema.org/",
    "cr": f"{CR}/",
    "rai": f"{CR}/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
}
SUM = sha(b"rows")
FULL: dict[str, Any] = {
    "@context": PREFIXES,
    "@type": "sc:Dataset",
    "conformsTo": [f"{CR}/1.1", f"{CR}/RAI/1.0"],
    "name": "Words",
    "url": "https://example.org/words",
    "license": "https://creativecommons.org/licenses/by-sa/4.0/",
    "creator": [{"@type": "Person", "name": "A. B."}, {"@type": "Organization", "name": "C"}],
    "inLanguage": ["en-GB", {"@type": "Language", "name": "German", "alternateName": "de"}],
    "temporalCoverage": "2021/2022-02",
    "rai:dataLimitations": ["no dialects", "short"],
    "rai:dataBiases": "young people",
    "rai:personalSensitiveInformation": "names of authors",
    "usageInfo": [{"@type": "DefinedTerm", "name": "General Research Use", "termCode": "DUO_0000042"}],
    "distribution": [
        {"@type": "cr:FileObject", "@id": "w", "contentUrl": "https://x.org/d/words.jsonl?x=1", "sha256": SUM},
        {"@type": "cr:FileObject", "@id": "z", "contentUrl": "z.zip", "md5": "0"},
    ],
}


def read(path: Path, **changes: Any) -> Record:
    record = {key: value for key, value in {**FULL, **changes}.items() if value is not None}
    return read_record(write(path / "croissant.json", json.dumps(record).encode()), "source words")


def test_a_record_says_what_a_source_declares(tmp_path: Path) -> None:
    assert read(tmp_path) == Record(
        path=str(tmp_path / "croissant.json"),
        version="1.1",
        name="Words",
        licence="CC-BY-SA-4.0",
        publisher="A. B., C",
        origin="https://example.org/words",
        collected=("2021-01-01", "2022-02-28"),
        languages=("en", "de"),
        limits=(
            "no dialects",
            "short",
            "bias: young people",
            "personal or sensitive information: names of authors",
            "use: General Research Use (DUO_0000042)",
        ),
        sha256={"words.jsonl": SUM},
    )


def test_names_may_be_written_with_any_prefix_or_in_full(tmp_path: Path) -> None:
    other = {
        "@context": {"schema": "http://schema.org/", "dcterms": "http://purl.org/dc/terms/", "r": f"{CR}/RAI/"},
        "dcterms:conformsTo": {"@id": f"{CR}/1.0"},
        "schema:name": {"@value": "Words"},
        "https://schema.org/license": {"@id": "https://spdx.org/licenses/MIT.html"},
        "schema:publisher": "D",
        "r:dataLimitations": {"@list": ["a", "b"]},
        "http://mlcommons.org/croissant/RAI/dataBiases": [{"@value": "c"}],
        "schema:distribution": {"schema:sha256": SUM.upper(), "schema:name": "n.csv"},
        "schema:inLanguage": "eng",
    }
    found = read_record(write(tmp_path / "c.json", json.dumps(other).encode()), "source words")
    assert (found.version, found.name, found.licence, found.publisher) == ("1.0", "Words", "MIT", "D")
    assert (found.limits, found.sha256) == (("a", "b", "bias: c"), {"n.csv": SUM})
    assert found.languages == ("eng",)


def test_a_policy_of_use_is_a_limit(tmp_path: Path) -> None:
    offer = {
        "@type": ["CreativeWork", "odrl:Offer"],
        "name": "Policy",
        "odrl:permission": {
            "odrl:action": {"@id": "duo:0000006", "name": "Health use"},
            "odrl:constraint": [{"name": "Non-commercial use only", "odrl:rightOperand": {"@id": "duo:0000018"}}],
        },
    }
    found = read(tmp_path, usageInfo=[offer, "ask first"]).limits
    assert [text for text in found if text.startswith("use: ")] == [
        "use: Policy",
        "use: Health use (duo:0000006)",
        "use: Non-commercial use only",
        "use: duo:0000018",
        "use: ask first",
    ]


@pytest.mark.parametrize(
    ("time", "days"),
    [
        ({"temporalCoverage": "2024-02"}, ("2024-02-01", "2024-02-29")),
        ({"temporalCoverage": "2024-02-03T10:00:00Z"}, ("2024-02-03", "2024-02-03")),
        ({"temporalCoverage": "../2024"}, ("", "2024-12-31")),
        ({"temporalCoverage": "2020-05-01/.."}, ("2020-05-01", "")),
        ({"temporalCoverage": ["2020", "2022/2023"]}, ("2020-01-01", "2023-12-31")),
        ({"temporalCoverage": ["2020", "2022/.."]}, ("2020-01-01", "")),
        ({"rai:dataCollectionTimeframe": ["2019-01-02", "2019-03-04"]}, ("2019-01-02", "2019-03-04")),
        ({"rai:dataCollectionTimeFrame": "2018"}, ("2018-01-01", "2018-12-31")),
        ({"temporalCoverage": None}, ("", "")),
        ({"temporalCoverage": "2023-02-30"}, ("", "")),
        ({"temporalCoverage": "2023-13"}, ("", "")),
    ],
)
def test_the_time_of_collection(tmp_path: Path, time: dict[str, Any], days: tuple[str, str]) -> None:
    assert read(tmp_path, **time).collected == days


def test_what_cannot_be_compared_is_kept_in_words_or_left_out(tmp_path: Path) -> None:
    found = read(tmp_path, temporalCoverage="January 2023", inLanguage=["en", "Old English"])
    assert (found.collected, found.languages) == (("", ""), ())
    assert "collected: January 2023" in found.limits
    with pytest.raises(UsageError, match="ends before it begins"):
        read(tmp_path, temporalCoverage="2023/2022")


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("mit", "MIT"),
        ("MIT or apache-2.0", "MIT OR Apache-2.0"),
        ("https://spdx.org/licenses/GPL-3.0-only", "GPL-3.0-only"),
        ("http://www.apache.org/licenses/LICENSE-2.0.txt", "Apache-2.0"),
        ("https://opensource.org/licenses/MIT", "MIT"),
        ("https://choosealicense.com/licenses/cc-by-4.0/", "CC-BY-4.0"),
        ("https://creativecommons.org/licenses/by-nc-nd/3.0/de/", "CC-BY-NC-ND-3.0-DE"),
        ("https://creativecommons.org/publicdomain/zero/1.0/legalcode", "CC0-1.0"),
        ("https://opendatacommons.org/licenses/odbl/1-0/", "ODbL-1.0"),
        ("https://www.gnu.org/licenses/agpl-3.0.en.html", "AGPL-3.0-only"),
        ("https://creativecommons.org/licenses/by/9.9/", "https://creativecommons.org/licenses/by/9.9/"),
        ("https://example.org/terms", "https://example.org/terms"),
        ("see the web page", "see the web page"),
        ("LicenseRef-own", "LicenseRef-own"),
        ("(" * 5000, "(" * 5000),
    ],
)
def test_licences_by_key_and_address(written: str, key: str) -> None:
    assert spdx(written) == key


def test_licences_of_a_record(tmp_path: Path) -> None:
    work = {"@type": "CreativeWork", "name": "The MIT licence", "url": "https://opensource.org/license/mit"}
    assert read(tmp_path, license=[work, "cc0-1.0", "MIT"]).licence == "MIT AND CC0-1.0"
    assert read(tmp_path, license={"name": "ours"}).licence == "ours"
    assert read(tmp_path, license=None).licence == ""
    assert together(["MIT OR X", "MIT", "MIT"]) == "(MIT OR X) AND MIT"
    assert same("MIT AND CC0-1.0", "cc0-1.0 and mit")
    assert not same("MIT OR CC0-1.0", "MIT AND CC0-1.0")
    assert same("ours", "ours")
    assert not same("ours", "MIT")
    assert (simple("MIT"), simple("MIT OR X"), simple("LicenseRef-a"), simple("")) == (True, False, False, False)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is no Croissant record"),
        (b"[]", "is no JSON object"),
        (b"{", "not JSON"),
        (b'{"name": "a"}', "is no Croissant 1.0 or 1.1 record"),
        (b'{"http://purl.org/dc/terms/conformsTo": "http://mlcommons.org/croissant/0.8"}', "is no Croissant 1.0"),
        (b'{"a": 1, "a": 2}', "a key stands twice"),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "nested more than"),
        (b" " * (17 * 1024 * 1024), "it has more than"),
    ],
)
def test_what_is_no_record(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        read_record(write(tmp_path / "c.json", data), "source words")


def test_a_record_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"source words: c\.json cannot be read: no such file"):
        read_record(tmp_path / "c.json", "source words")


WEIRD: list[Any] = [None, 1, True, "x", [], {}, [None], [[]], {"@list": {}}, {"@value": 3}, [{"name": [1]}], {"@id": 7}]


@pytest.mark.parametrize("value", WEIRD, ids=str)
def test_values_of_strange_kinds_are_no_traceback(tmp_path: Path, value: Any) -> None:
    for key in FULL:
        if key != "conformsTo":
            record = json.dumps({**FULL, key: value}).encode()
            try:
                read_record(write(tmp_path / "c.json", record), "source words")
            except UsageError:
                assert key == "@context"  # without its terms `conformsTo` means nothing


def bare(tmp_path: Path, **changes: Any) -> Source:
    about = Provenance(croissant=str(write(tmp_path / "croissant.json", json.dumps(FULL).encode())))
    of = replace(source(tmp_path / "words.jsonl"), licence="", consent="", origin="", about=about)
    about_keys = {key: value for key, value in changes.items() if hasattr(about, key)}
    rest = {key: value for key, value in changes.items() if key not in about_keys}
    return replace(of, **rest, about=replace(about, **about_keys))


def test_a_record_fills_what_the_playbook_leaves_out(tmp_path: Path) -> None:
    full = declared(bare(tmp_path, limits=("mine",), sha256=SUM))
    assert (full.licence, full.origin, full.consent) == ("CC-BY-SA-4.0", "https://example.org/words", "")
    assert (full.about.publisher, full.about.collected) == ("A. B., C", ("2021-01-01", "2022-02-28"))
    assert full.about.limits[:2] == ("mine", "no dialects")
    assert full.about.croissant == str(tmp_path / "croissant.json")


def test_the_playbook_wins_where_both_can_be_true(tmp_path: Path) -> None:
    mine = bare(
        tmp_path,
        licence="cc-by-sa-4.0",
        origin="here",
        publisher="me",
        consent="yes",
        languages=("de",),
        collected=("2021-05-01", ""),
    )
    full = declared(mine)
    assert (full.licence, full.origin, full.consent) == ("cc-by-sa-4.0", "here", "yes")
    assert (full.about.publisher, full.about.languages) == ("me", ("de",))
    assert full.about.collected == ("2021-05-01", "")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"licence": "MIT"}, "licence MIT, not CC-BY-SA-4.0"),
        ({"languages": ("en", "fr")}, "languages fr, not en, de"),
        ({"collected": ("2020-12-31", "")}, "collected from 2020-12-31, not 2021-01-01"),
        ({"collected": ("2021-01-01", "2022-03-01")}, "collected to 2022-03-01, not 2022-02-28"),
        ({"sha256": "0" * 64}, f"sha256 000000000000, not {SUM[:12]}"),
    ],
)
def test_a_contradiction_is_an_error(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError) as error:
        declared(bare(tmp_path, **changes))
    assert why in error.value.message
    assert "the playbook and croissant.json contradict each other" in error.value.message


def test_all_contradictions_are_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"licence MIT.*; languages fr"):
        declared(bare(tmp_path, licence="MIT", languages=("fr",)))


def test_the_digest_of_another_file_is_no_contradiction(tmp_path: Path) -> None:
    other = replace(bare(tmp_path), path="/x/more.jsonl", sha256="0" * 64)
    assert declared(other).licence == "CC-BY-SA-4.0"
    tracked = replace(bare(tmp_path), path="/x/words.jsonl.dvc", sha256="0" * 64)
    with pytest.raises(UsageError, match="sha256 0000"):
        declared(tracked)


def mixed() -> Derived:
    file = DataFileEntry("words.jsonl", "objects/d/rows.jsonl", SUM, 4, 2, row_fields(("prompt", "completion")))
    return Derived(
        name="tutor",
        description="Rows of the stage sft.",
        url="urn:safetune:mixture",
        published="2026-01-31",
        creators=("tutoring-team",),
        licences=("MIT", "MIT OR Apache-2.0", "MIT"),
        files=(file,),
        sources=(Origin("words", SUM, "MIT", "here", "me", "release"), Origin("more", sha(b"x"), "")),
        languages=("en",),
        collected=("2023-01-01", "2023-12-31"),
        limits=("no dialects",),
        made_by=("pii: 3 rows redacted.",),
    )


def test_what_is_written_can_be_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "croissant.json", json.dumps(croissant_json(mixed())).encode())
    found = read_record(path, "source words")
    assert (found.version, found.name, found.publisher) == ("1.1", "tutor", "tutoring-team")
    assert found.licence == "MIT AND (MIT OR Apache-2.0)"
    assert (found.languages, found.limits) == (("en",), ("no dialects",))
    assert found.collected == ("2023-01-01", "2023-12-31")
    assert found.sha256 == {"rows.jsonl": SUM}


def test_a_written_record_names_every_source(tmp_path: Path) -> None:
    found: Any = croissant_json(mixed())
    one, two = found["prov:wasDerivedFrom"]
    assert one == {
        "@type": "prov:Entity",
        "@id": f"urn:sha256:{SUM}",
        "prov:label": "words",
        "sha256": SUM,
        "license": "https://spdx.org/licenses/MIT.html",
        "isBasedOn": "here",
        "prov:wasAttributedTo": {"@type": "prov:Agent", "prov:label": "me"},
        "usageInfo": {"@type": "sc:CreativeWork", "name": "consent: release"},
    }
    assert set(two) == {"@type", "@id", "prov:label", "sha256"}
    assert [field["@id"] for field in found["recordSet"][0]["field"]] == [
        "rows-of-words.jsonl/id",
        "rows-of-words.jsonl/prompt",
        "rows-of-words.jsonl/completion",
    ]
    bare: Any = croissant_json(replace(mixed(), collected=("", ""), limits=(), made_by=(), languages=()))
    assert not [key for key in bare if key.startswith("rai:") or key == "inLanguage"]


def test_filling_from_nothing_changes_nothing() -> None:
    of = source("/x/words.jsonl")
    assert fill(of, Record("", "")) == of
