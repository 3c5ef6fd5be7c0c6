"""A suite of one's own: a file of rows and ten lines of YAML, as docs/suites.md shows them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safetune.core.errors import PlaybookError
from safetune.core.evidence import Prompt
from safetune.core.playbook import Playbook
from safetune.core.suite import Named
from safetune.engine.prompts import load_prompts, suite_fact
from safetune.playbook.load import load
from safetune.playbook.shared import shipped_configs
from safetune.playbook.suites import load_suite
from safetune.state.files import sha256_file

_SHOWN = re.compile(r"<!-- (?P<name>[\w.-]+) -->\n```\w+\n(?P<text>.*?)```", re.DOTALL)


def shown(repo_root: Path) -> dict[str, str]:
    """Return the files that the page shows, by name."""
    page = (repo_root / "docs" / "suites.md").read_text(encoding="utf-8")
    return {found["name"]: found["text"] for found in _SHOWN.finditer(page)}


def playbook(folder: Path, suites: str, sha256: str = "") -> Playbook:
    """Write a playbook with the suites of the page on top of the starter, and load it."""
    sha256 = sha256 or sha256_file(folder / "questions.csv")
    path = folder / "playbook.yaml"
    starter = shipped_configs() / "starter.yaml"
    path.write_text(f"schema: safetune/1\nextends: {starter}\n{suites.replace('SHA256', sha256)}", encoding="utf-8")
    return load(path)


@pytest.fixture
def pages(repo_root: Path, tmp_path: Path) -> dict[str, str]:
    """Write the CSV of the page into a folder, and return all that the page shows."""
    found = shown(repo_root)
    (tmp_path / "questions.csv").write_text(found["questions.csv"], encoding="utf-8")
    return found


def test_a_csv_and_ten_lines_of_yaml_are_a_suite(pages: dict[str, str], tmp_path: Path) -> None:
    assert len(pages["own.yaml"].strip().splitlines()) <= 11  # `suites:` and ten lines
    found = playbook(tmp_path, pages["own.yaml"])
    own = next(s for s in found.suites if s.name == "product-questions")
    prompts = load_prompts(own)
    assert [type(p) for p in prompts] == [Prompt] * len(prompts)
    assert len(prompts) == len(pages["questions.csv"].strip().splitlines()) - 1
    assert all(p.text and p.reference and p.slice for p in prompts)
    fact = suite_fact(own)
    assert fact.problem == ""
    assert (fact.size, fact.clusters) == (len(prompts), len(prompts))


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("reference: answer", "reference: anwser", 'row 1 has no column "anwser"'),
        ("slice: topic", "slice: topics", 'row 1 has no column "topics", which `slice` names; did you mean "topic"?'),
        ("counts: [correct]", "counts: [corect]", 'counts the label "corect", which the judge exact does not show'),
    ],
)
def test_a_wrong_word_in_it_is_a_problem_that_the_plan_shows(
    pages: dict[str, str], tmp_path: Path, right: str, wrong: str, said: str
) -> None:
    assert right in pages["own.yaml"]
    fact = suite_fact(playbook(tmp_path, pages["own.yaml"].replace(right, wrong)).suites[-1])
    assert said in fact.problem
    assert (fact.identity, fact.size) == ("", None)


def test_another_file_than_the_pinned_one_is_a_problem_too(pages: dict[str, str], tmp_path: Path) -> None:
    fact = suite_fact(playbook(tmp_path, pages["own.yaml"], "0" * 64).suites[-1])
    assert "questions.csv has sha256" in fact.problem


def test_a_mistake_in_its_shape_has_a_line_and_a_column(pages: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(PlaybookError) as found:
        playbook(tmp_path, pages["own.yaml"].replace("judge: {", "juge: {"))
    places = {d.message: d.line for d in found.value.diagnostics}
    line = 3 + pages["own.yaml"].splitlines().index("    judge: {exact: {where: contains}}")
    assert line in [number for message, number in places.items() if '"juge"' in message], places


def test_the_attack_that_the_page_shows_is_one(
    repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Any] = {}
    exec(shown(repo_root)["shouting.py"], made)  # our own page
    monkeypatch.setattr("safetune.engine.prompts.attacks.load", lambda *_: made["Shouting"]())
    own = replace(load_suite(shipped_configs() / "suites" / "harmless.yaml"), attacks=(Named("shouting"),))
    found = load_prompts(own)
    assert len(found) == 80
    assert {(p.slice, p.text.isupper()) for p in found} == {("shouting", True)}


def test_every_other_suite_that_the_page_shows_has_no_mistake(repo_root: Path, tmp_path: Path) -> None:
    page = (repo_root / "docs" / "suites.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(- name: .*?)```", page, re.DOTALL)
    assert len(blocks) >= 6
    names = {re.search(r"file: ([\w.]+)", block) for block in blocks}
    for name in filter(None, names):
        (tmp_path / name[1]).touch()
    loaded = playbook(tmp_path, "suites:\n" + "".join(blocks), "0" * 64)
    assert len(loaded.suites) == len(blocks) + 2
    rules = next(s for s in loaded.suites if s.prompts.kind == "rules")
    assert suite_fact(rules).problem == ""
