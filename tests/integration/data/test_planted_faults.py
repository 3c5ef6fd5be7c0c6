"""Faults planted in 10,000 real rows, through the whole pipeline: what is found, what is not, and what fires on clean
rows. Prints the figures of D1; `-m slow` repeats them with other seeds and more of each kind.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from faultlab import MORE, REAL, Amounts, Fault, Field, Planter, told

from safetune.core.digest import sha256_hex
from safetune.core.intervals import clopper_pearson_lower, clopper_pearson_upper
from safetune.core.row_id import row_id
from safetune.engine.data.desk import scope_of
from safetune.engine.prompts import load_once
from safetune.playbook.load import load

ROWS = 10_000
# The least recall of a kind; of what matches its prefix, together. The first four lines are those of D1.
LEAST = {
    "secrets": 0.99,
    "pii": 0.95,
    "copies/near": 0.98,
    "contamination": 1.0,
    "copies/exact": 1.0,
    "copies/short rows": 0.8,
    "hidden_cues": 0.97,
    "identity_shift": 0.85,
    "language": 0.95,
    "unreadable": 1.0,
    "backdoor": 1.0,
}
LEAST_OF_EACH = 0.9
MOST_FALSE = 0.005
STRONG = ("block", "drop", "redact")


@dataclass(frozen=True)
class Trial:
    """A folder with a playbook over planted rows, the rows, and what `data check` said of them."""

    folder: Path
    field: Field
    findings: Sequence[Mapping[str, Any]]
    said: str

    def recall(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return how many were planted and found, by kind and what exactly."""
        by_line: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
        for one in self.findings:
            by_line.setdefault((one.get("file", ""), one["line"]), []).append(one)
        triggered = {line for one in self.findings if one["rule"] == "trigger" for line in _lines_in(one["note"])}
        planted, found = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for (file, line), fault in self.field.faults.items():
            kind = fault.kind, fault.what
            if fault.kind == "backdoor":
                continue  # of a source as a whole: it is found or not, and names some of the rows
            planted[kind] += 1
            found[kind] += any(fault.met_by({"span": None, **one}) for one in by_line.get((file, line), ()))
        rows = {line for (_, line), fault in self.field.faults.items() if fault.kind == "backdoor"}
        planted["backdoor", "trigger"] = 1
        found["backdoor", "trigger"] = int(bool(triggered) and triggered <= rows)
        return {kind: (count, found[kind]) for kind, count in planted.items()}

    def false_alarms(self) -> dict[tuple[str, str, str], set[int]]:
        """Return clean rows with a finding, by guard, rule and action; a public row that comes twice is none."""
        twice = _twice(self.field.clean)
        found: dict[tuple[str, str, str], set[int]] = {}
        for one in self.findings:
            if one.get("file") == REAL and one["line"] in self.field.clean:
                if one["rule"] == "exact" and one["line"] in twice:
                    continue
                found.setdefault((one["guard"], one["rule"], one["action"]), set()).add(one["line"])
        return found


def _lines_in(note: str) -> list[int]:
    return [int(n) for n in note.rpartition("lines ")[2].split(", ") if n.isdigit()]


def _twice(rows: Mapping[int, tuple[str, str]]) -> frozenset[int]:
    """Return lines whose text, but for case, width and blanks, stood in an earlier line."""
    seen: set[str] = set()
    again: set[int] = set()
    for line, pair in sorted(rows.items()):
        text = "".join(unicodedata.normalize("NFKC", "\0".join(pair)).casefold().split())
        if text in seen:
            again.add(line)
        seen.add(text)
    return frozenset(again)


def _playbook(repo_root: Path, folder: Path, **data: Any) -> Path:
    """Write the playbook that ships, with the planted rows as its sources; return its path."""
    content = yaml.safe_load((repo_root / "playbooks/quickstart.yaml").read_text())
    model = folder / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"never loaded")
    content["model"] = {"base": "model"}
    about = {"licence": "MIT", "consent": "public", "origin": "public sets", "languages": ["en"], "use": ["train"]}
    names = [(name.removesuffix(".jsonl"), name) for name in (REAL, MORE)]
    content["sources"] = [
        {"name": name, "uri": file, "sha256": sha256_hex((folder / file).read_bytes()), **about} for name, file in names
    ]
    for sprint in content["sprints"]:
        for stage in sprint["stages"]:
            stage["sources"] = {name: 0.5 for name, _ in names}
            stage.pop("techniques", None)
    content["data"] = {"max_bad_rows": 0.01, **data}
    path = folder / ("all.yaml" if data else "shipped.yaml")
    path.write_text(json.dumps(content, indent=1))
    return path


def _do(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "safetune", *map(str, words)]
    return subprocess.run(command, cwd=folder, env=dict(os.environ), capture_output=True, text=True, timeout=600)


def _trial(repo_root: Path, data_root: Path, folder: Path, seed: int, amounts: Amounts) -> Trial:
    spec = importlib.util.spec_from_file_location("cue_accuracy", repo_root / "scripts/cue_accuracy.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    planter = Planter(data_root, ROWS, seed, amounts)
    for guard in ("pii", "secrets"):
        planter.sentences(guard)
    planter.cues(script.PLANTS)
    planter.trigger()
    planter.copies()
    for name in (REAL, MORE):
        (folder / name).write_bytes(b"{}\n")
    suites = scope_of(load(_playbook(repo_root, folder)), load_once()).suites
    assert len(suites) == 4
    planter.contamination({name: [prompt.text for prompt in some] for name, some in suites.items()})
    planter.identity(repo_root / "tests/unit/guards/identity_cases.json")
    planter.foreign()
    planter.unreadable()
    field = planter.grown()
    field.write(folder)
    path = _playbook(repo_root, folder)
    done = _do(folder, "data", "check", path.name, "--findings", "found.jsonl")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = (folder / "found.jsonl").read_bytes().splitlines()
    return Trial(folder, field, [json.loads(line) for line in lines], done.stdout + done.stderr)


@pytest.fixture(scope="module")
def trial(repo_root: Path, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """The faults of one seed."""
    return _trial(repo_root, data_root, tmp_path_factory.mktemp("faults"), 11, Amounts())


def _kinds(found: Mapping[tuple[str, str], tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Return planted and found of each line of `LEAST`."""
    kinds = {}
    for name in LEAST:
        kind, _, begin = name.partition("/")
        some = [counts for (k, what), counts in found.items() if k == kind and what.startswith(begin)]
        kinds[name] = sum(n for n, _ in some), sum(k for _, k in some)
    return kinds


def _table(trial: Trial) -> Iterator[str]:
    found = trial.recall()
    yield f"\n{'planted':44} {'rows':>6} {'found':>6}  recall (95 %, Clopper and Pearson)"
    rows = [(name, counts) for name, counts in _kinds(found).items()]
    rows += [(f"  {kind}: {what}", counts) for (kind, what), counts in sorted(found.items())]
    for name, (planted, hits) in rows:
        low, high = clopper_pearson_lower(hits, planted, 0.975), clopper_pearson_upper(hits, planted, 0.975)
        yield f"{name:44} {planted:6,} {hits:6,}  {hits / planted:.3f} ({low:.3f} to {high:.3f})"
    clean = len(trial.field.clean)
    yield f"{'findings in clean rows':44} {'rows':>6} {'found':>6}  share"
    for (guard, rule, action), lines in sorted(trial.false_alarms().items()):
        yield f"{f'{action}: {guard}/{rule}':44} {clean:6,} {len(lines):6,}  {len(lines) / clean:.4f}"


def _too_few(trial: Trial) -> dict[str, str]:
    found = trial.recall()
    few = {k: f"{hits} of {n}" for k, (n, hits) in _kinds(found).items() if n == 0 or hits < LEAST[k] * n}
    # No kind of them is missed, whatever the others make up for.
    each = {f"{k}: {what}": c for (k, what), c in found.items() if k in ("secrets", "pii", "hidden_cues")}
    return few | {name: f"{hits} of {n}" for name, (n, hits) in each.items() if hits < LEAST_OF_EACH * n}


def _too_many(trial: Trial) -> dict[str, int]:
    clean = len(trial.field.clean)
    assert clean > 7_000
    found = {kind: lines for kind, lines in trial.false_alarms().items() if kind[2] in STRONG}
    return {"/".join(kind): len(lines) for kind, lines in found.items() if len(lines) > MOST_FALSE * clean}


def test_planted_faults_are_found(trial: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print("\n".join(_table(trial)))
    assert _too_few(trial) == {}


def test_clean_rows_are_left_alone(trial: Trial) -> None:
    assert _too_many(trial) == {}


def test_every_kind_of_fault_was_planted(trial: Trial) -> None:
    from safetune.builtin.guards.secrets import SecretsGuard

    planted = {kind for kind, _ in trial.recall()}
    assert planted == {name.partition("/")[0] for name in LEAST}
    secrets = {what for kind, what in trial.recall() if kind == "secrets"}
    assert secrets == set(SecretsGuard.rules)
    assert len({what for kind, what in trial.recall() if kind == "pii"}) >= 20


def test_findings_name_the_row_by_its_id(trial: Trial) -> None:
    for one in trial.findings:
        if one["line"] and one["rule"] != "unreadable":
            content = json.loads(trial.field.lines[one["file"]][one["line"] - 1])
            assert one["row"] == row_id(content)


# -- what is written ---------------------------------------------------------------------------------------------------


def _needles(trial: Trial, *guards: str) -> dict[tuple[str, int], Fault]:
    """Return the planted personal data and secrets that a guard acted on, by place."""
    acted = {(o["file"], o["line"], o["guard"]) for o in trial.findings if o["action"] in STRONG and o["line"]}
    return {
        (file, line): fault
        for (file, line), fault in trial.field.faults.items()
        if fault.kind in guards and (file, line, fault.guard) in acted
    }


def _leaked(text: str, faults: Mapping[tuple[str, int], Fault]) -> list[str]:
    """Return kinds whose text, or a piece of it, stands in an output; JSON may have escaped it."""
    found = []
    for fault in faults.values():
        whole = fault.text
        middle = max(whole[len(whole) // 3 :].split("\n")[0][:16], whole[-12:], key=len)
        if any(piece in text for piece in (whole, json.dumps(whole)[1:-1], middle if len(middle) > 8 else whole)):
            found.append(f"{fault.kind}/{fault.what}")
    return found


def test_neither_findings_nor_what_check_prints_hold_what_was_found(trial: Trial) -> None:
    faults = _needles(trial, "pii", "secrets")
    assert len(faults) > 1_000
    assert _leaked((trial.folder / "found.jsonl").read_text(), faults) == []
    assert _leaked(trial.said, faults) == []
    assert "blocked: guards block it:" in trial.said


_ADMIT = """
import sys
from pathlib import Path
from safetune.engine.data.stage_rows import stage_rows
from safetune.engine.planning import prepare, silent
from safetune.state.store import Store

store = Store.create(Path(".safetune"))
prepared = prepare(Path(sys.argv[1]), Path(".safetune"))
problems = [one.problem for one in prepared.facts.guarded.values() if one.problem]
assert not problems, problems
rows = stage_rows(prepared, prepared.playbook.sprints[0].stages[0], store, Path("scratch"), silent)
store.commit(rows.draft("k" * 64))
print(rows.mixture[:12])
"""


@pytest.fixture(scope="module")
def stored(trial: Trial, repo_root: Path) -> Trial:
    """The same rows with what blocks left out, in a store, admitted to a stage; `said` is all that is told of them."""
    rules = dict.fromkeys(("tags", "zero_width", "bidi"), "drop")
    guards = [{"secrets": {"action": "drop"}}, {"hidden_cues": {"action": "flag", "rules": rules}}]
    path = _playbook(repo_root, trial.folder, guards=guards)
    # In a process of its own: the hashing threads of a pass would not live on in tests that fork this one.
    admitting = subprocess.run(
        [sys.executable, "-c", _ADMIT, path.name], cwd=trial.folder, capture_output=True, text=True, timeout=600
    )
    assert admitting.returncode == 0, admitting.stderr
    mixture = admitting.stdout.strip()
    said = []
    for words in (
        ("data", "card", mixture, "--markdown", "card.md"),
        ("data", "card", mixture, "--json"),
        ("data", "card", path.name),
        ("data", "check", path.name, "--json"),
    ):
        done = _do(trial.folder, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(done.stdout + done.stderr)
    return replace(trial, said="\n".join([*said, (trial.folder / "card.md").read_text()]))


def _stored(folder: Path, name: str) -> str:
    paths = sorted((folder / ".safetune/objects").glob(f"*/{name}"))
    assert paths
    return "\n".join(path.read_text() for path in paths)


def test_what_is_redacted_or_dropped_is_not_in_the_stored_rows(stored: Trial) -> None:
    rows = [json.loads(line) for line in _stored(stored.folder, "rows.jsonl").split("\n") if line]
    kept = {row["id"]: json.dumps(row["row"], ensure_ascii=False) for row in rows}
    labels = 0
    for (file, line), fault in _needles(stored, "pii", "secrets").items():
        text = kept.get(row_id(json.loads(stored.field.lines[file][line - 1])), "")
        assert json.dumps(fault.text, ensure_ascii=False)[1:-1] not in text, f"{fault.what} of {file}:{line}"
        if fault.what == "ip":
            continue
        assert fault.kind == "pii" or not text
        labels += f"[{fault.what.upper()}]" in text
    assert labels >= 0.95 * sum(f.kind == "pii" and f.what != "ip" for f in _needles(stored, "pii").values())
    dropped = [fault for fault in stored.field.faults.values() if fault.kind in ("contamination", "unreadable")]
    assert dropped
    assert len(rows) < sum(len(lines) for lines in stored.field.lines.values()) - len(dropped)


def test_neither_cards_nor_stored_findings_hold_what_was_found(stored: Trial) -> None:
    faults = _needles(stored, "pii", "secrets")
    assert "Examples, as the guards left them" in stored.said
    assert "EMAIL" in stored.said
    for text in (stored.said, _stored(stored.folder, "findings.jsonl"), _stored(stored.folder, "data.json")):
        assert _leaked(text, faults) == []


def test_a_kept_row_is_the_row_but_for_what_was_redacted(stored: Trial) -> None:
    rows = [json.loads(line) for line in _stored(stored.folder, "rows.jsonl").split("\n") if line]
    kept = {row["id"]: row["row"] for row in rows}
    found = {one["line"] for one in stored.findings if one.get("file") == REAL}
    untouched = [pair for line, pair in stored.field.clean.items() if line not in found]
    assert len(untouched) > 5_000
    assert all(kept[row_id(told(pair))] == told(pair) for pair in untouched)


# -- again, with more --------------------------------------------------------------------------------------------------

MORE_OF_EACH = Amounts(25, 40, 1_200, 200, 110, 60, 30, 40)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_other_seeds_give_the_same_figures(
    seed: int, repo_root: Path, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _trial(repo_root, data_root, tmp_path, seed, MORE_OF_EACH)
    with capsys.disabled():
        print("\n".join(_table(found)))
    assert _too_few(found) == {}
    assert _too_many(found) == {}
