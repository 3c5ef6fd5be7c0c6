"""Other tools' own word on what is written and computed here: mlcroissant reads the records, dvc-data makes the md5s.

`SAFETUNE_PEERS` names the folder of `scripts/install_peers.sh` (default `build/peers`); what is not there is installed.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sourcelab import jsonl, row, sha, write

from safetune.engine.data.croissant import DataFileEntry, Derived, Origin, croissant_json, read_record, row_fields
from safetune.engine.data.dvc import file_md5, folder_md5

pytestmark = pytest.mark.slow

_LOAD = """
import json, logging, sys
said = []
class Note(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())
from absl import logging as absl_logging
absl_logging.get_absl_logger().addHandler(Note())
logging.getLogger().addHandler(Note())
import mlcroissant
data = mlcroissant.Dataset(sys.argv[1])
issues = data.metadata.ctx.issues
about = data.metadata
rows = {r.uuid: [{k: str(v) for k, v in one.items()} for one in data.records(r.uuid)] for r in about.record_sets}
print(json.dumps({
    "said": said, "errors": sorted(map(str, issues.errors)), "warnings": sorted(map(str, issues.warnings)),
    "version": str(about.ctx.conforms_to.value), "licences": [str(getattr(x, "name", x)) for x in about.license],
    "languages": about.in_language, "limits": about.data_limitations, "rows": rows, "version_of_data": about.version,
    "sha256": [file.sha256 for file in about.distribution],
}))
"""
_MD5 = """
import json, sys
from dvc_objects.fs.local import LocalFileSystem
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db import HashFileDB
from dvc_data.hashfile.hash import file_md5
fs = LocalFileSystem()
odb = HashFileDB(fs, sys.argv[2])
found = {}
for name in ("md5", "md5-dos2unix"):
    _, _, whole = build(odb, sys.argv[1], fs, name, dry_run=True)
    found[name] = whole.hash_info.value
    found[name + " file"] = file_md5(sys.argv[1] + "/b/lines.csv", fs, name=name)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def peer(repo_root: Path) -> Path:
    """Give the python of the tools' environment; it is installed first where that is needed, and possible."""
    folder = Path(os.environ.get("SAFETUNE_PEERS") or repo_root / "build" / "peers").absolute()
    path = folder / "data" / "bin" / "python"
    if not path.is_file():
        script = [str(repo_root / "scripts" / "install_peers.sh"), str(folder), "data"]
        made = subprocess.run(script, capture_output=True, text=True, timeout=1800, check=False)
        if made.returncode != 0 or not path.is_file():
            said = (made.stderr.strip().splitlines() or ["no reason given"])[-1]
            pytest.skip(f"data tools cannot be installed in {folder}: {said[:200]}; set SAFETUNE_PEERS")
    return path


def ask(python: Path, code: str, *words: Path) -> dict[str, Any]:
    done = subprocess.run(
        [str(python), "-c", code, *map(str, words)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_mlcroissant_loads_a_written_record_without_a_word(tmp_path: Path, peer: Path) -> None:
    rows = jsonl(*({"id": f"id{n}", "row": row(f"q{n}", f"a{n}")} for n in range(3)))
    files = []
    for name in ("words", "more words"):
        write(tmp_path / f"{name}.jsonl", rows)
        fields = row_fields(("prompt", "completion"))
        files.append(DataFileEntry(f"{name}.jsonl", f"{name}.jsonl", sha(rows), len(rows), 3, fields))
    mixture = Derived(
        name="Tutor: stage sft",
        description="Rows of a stage, in several words: Übung, \u65e5\u672c.",
        url="https://example.org/tutor",
        published="2026-01-31",
        creators=("tutoring-team", "safety-team"),
        licences=("MIT", "CC-BY-4.0", "MIT OR Apache-2.0", "LicenseRef-own"),
        files=tuple(files),
        sources=(
            Origin("words", sha(rows), "MIT", "here", "me", "release"),
            Origin("more", sha(b"x"), "LicenseRef-own"),
        ),
        languages=("en", "de"),
        collected=("2023-01-01", "2023-12-31"),
        limits=("no dialects", "short rows"),
        made_by=("pii: 3 rows redacted.",),
    )
    path = write(tmp_path / "croissant.json", json.dumps(croissant_json(mixture)).encode())
    found = ask(peer, _LOAD, path)
    assert (found["errors"], found["warnings"], found["said"]) == ([], [], [])
    assert found["version"] == "http://mlcommons.org/croissant/1.1"
    assert found["licences"] == [
        "https://spdx.org/licenses/MIT.html",
        "https://spdx.org/licenses/CC-BY-4.0.html",
        "MIT OR Apache-2.0",
        "LicenseRef-own",
    ]
    assert (found["languages"], found["limits"]) == (["en", "de"], ["no dialects", "short rows"])
    assert found["sha256"] == [sha(rows)] * 2
    assert found["rows"]["rows-of-words.jsonl"][2]["rows-of-words.jsonl/prompt"] == "b'q2'"
    smallest = Derived("a", "b", "https://example.org", "2026-01-31", ("c",), ("MIT",), (), ())
    found = ask(peer, _LOAD, write(tmp_path / "smallest.json", json.dumps(croissant_json(smallest)).encode()))
    assert (found["errors"], found["warnings"], found["said"]) == ([], [], [])


def test_a_record_that_mlcroissant_writes_is_read(tmp_path: Path, peer: Path) -> None:
    code = """
import datetime, json, sys, mlcroissant as mlc
about = mlc.Metadata(
    name="words", license="https://choosealicense.com/licenses/cc-by-4.0/", url="https://example.org/words",
    in_language=["en"], creators=[mlc.Person(name="A. B.")], data_limitations=["no dialects"],
    data_collection_timeframe=[datetime.datetime(2023, 1, 2), datetime.datetime(2023, 3, 4)],
    distribution=[mlc.FileObject(id="w", content_url="words.jsonl", encoding_formats=["application/jsonlines"],
                                 sha256="0" * 64)])
open(sys.argv[1], "w").write(json.dumps(about.to_json(), default=str))
print("{}")
"""
    ask(peer, code, tmp_path / "c.json")
    found = read_record(tmp_path / "c.json", "source words")
    assert (found.name, found.licence, found.publisher, found.languages) == ("words", "CC-BY-4.0", "A. B.", ("en",))
    assert (found.limits, found.sha256) == (("no dialects",), {"words.jsonl": "0" * 64})
    assert found.collected == ("2023-01-02", "2023-03-04")


def test_md5s_are_those_of_dvc(tmp_path: Path, peer: Path) -> None:
    folder = tmp_path / "data"
    write(folder / "a.jsonl", jsonl(row()))
    write(folder / "b/lines.csv", b"x,y\r\n" * 300_000)
    write(folder / "b/\u00e4 b.txt", b"a\r\nb")
    write(folder / "z.bin", b"\0\r\n" * 10)
    found = ask(peer, _MD5, folder, tmp_path / "odb")
    for name, old in (("md5", False), ("md5-dos2unix", True)):
        assert folder_md5(folder, dos2unix=old)[0] == found[name]
        assert file_md5(folder / "b/lines.csv", dos2unix=old)[0] == found[f"{name} file"]
    assert found["md5"] != found["md5-dos2unix"]
