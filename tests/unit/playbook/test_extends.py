"""Playbooks that build on others, and shared parts found by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from safetune.core.diagnostics import Diagnostic
from safetune.playbook.load import load_marked
from safetune.playbook.shared import config_folders, find_part, part_names, shipped_configs

Write = Callable[[Mapping[str, str]], Path]
Load = Callable[[Path], tuple[Diagnostic, ...]]

HEAD = "schema: safetune/1\nextends: playbook.yaml\n"


def test_a_child_replaces_scalars_and_joins_named_lists(example: str, write: Write, folder: Path) -> None:
    child = (
        HEAD + "name: child\nguardrails:\n"
        "  - {name: extra, suite: harmless, metric: answer_rate, at_least: 0.5, why: more}\n"
        "  - {name: answers, suite: harmless, metric: refusal_rate, at_most: 0.2, why: stricter}\n"
        "sprints:\n  - name: one\n    objective: other\n    stages:\n"
        "      - {name: only, trainer: sft, sources: {rows: 1}, gate: [skill, answers, extra]}\n"
    )
    write({"playbook.yaml": example, "child.yaml": child})
    parent, loaded = load_marked(folder / "playbook.yaml"), load_marked(folder / "child.yaml")
    playbook = loaded.playbook
    assert (playbook.name, playbook.purpose) == ("child", parent.playbook.purpose)
    assert [g.name for g in playbook.guardrails] == ["skill", "answers", "extra"]
    answers = playbook.guardrails[1]
    assert (answers.why, answers.severity, answers.limits.worse_by_at_most) == ("stricter", "block", None)
    assert [[stage.name for stage in sprint.stages] for sprint in playbook.sprints] == [["only"]]
    assert loaded.where["guardrail skill"] == f"{folder}/playbook.yaml:27"
    assert loaded.where["guardrail answers"] == f"{folder}/child.yaml:6"
    assert loaded.where["rollback"] == parent.where["rollback"]


def test_a_name_that_the_child_gives_twice_is_still_a_double(
    example: str, write: Write, mistakes: Load, folder: Path
) -> None:
    guardrail = "  - {name: skill, suite: arithmetic, metric: accuracy, at_least: 0.2, why: because}\n"
    write({"playbook.yaml": example, "child.yaml": HEAD + "guardrails:\n" + guardrail * 2})
    (found,) = mistakes(folder / "child.yaml")
    assert (found.code, found.line, found.column) == ("SP301", 5, 12)


def test_paths_are_relative_to_the_file_that_names_them(example: str, write: Write, folder: Path) -> None:
    write({"playbook.yaml": example, "deep/child.yaml": HEAD.replace("playbook", "../playbook")})
    loaded = load_marked(folder / "deep" / "child.yaml").playbook
    assert {source.path for source in loaded.sources} == {str(folder / "rows.jsonl")}
    assert loaded.sprints[0].stages[0].launch.config_file == str(folder / "launch.yaml")


def test_a_mistake_in_a_parent_is_told_in_the_parent(example: str, write: Write, mistakes: Load, folder: Path) -> None:
    broken = example.replace("rank: 8", "rank: 0")
    write({"playbook.yaml": broken, "child.yaml": HEAD + "owners: 3\n"})
    found = mistakes(folder / "child.yaml")
    assert [(Path(d.file).name, d.line, d.column, d.code) for d in found] == [
        ("child.yaml", 3, 9, "SP203"),
        ("playbook.yaml", 45, 37, "SP205"),
    ]


def test_a_parent_that_is_no_yaml_is_told_once_and_nothing_is_said_to_be_missing(
    write: Write, mistakes: Load, folder: Path
) -> None:
    write({"playbook.yaml": "schema: [\n", "child.yaml": HEAD})
    (found,) = mistakes(folder / "child.yaml")
    assert (Path(found.file).name, found.code) == ("playbook.yaml", "SP104")


def test_what_is_missing_everywhere_is_told_in_the_child(
    example: str, write: Write, mistakes: Load, folder: Path
) -> None:
    write(
        {
            "playbook.yaml": example.replace("owners: [team-a, team-b]\n", "extends: base.yaml\n"),
            "base.yaml": "schema: safetune/1\n",
        }
    )
    write({"child.yaml": HEAD})
    (found,) = mistakes(folder / "child.yaml")
    assert (Path(found.file).name, found.line, found.code) == ("child.yaml", 1, "SP202")
    assert found.message == 'the key "owners" is missing, here and in what this file extends'


def test_a_circle_is_told_in_the_file_that_closes_it(write: Write, mistakes: Load, folder: Path) -> None:
    for one, other in (("a", "b"), ("b", "c"), ("c", "a")):
        write({f"{one}.yaml": f"schema: safetune/1\nextends: {other}.yaml\n"})
    (found,) = mistakes(folder / "a.yaml")
    assert (Path(found.file).name, found.line, found.column, found.code) == ("c.yaml", 2, 10, "SP402")
    assert found.message.endswith("in a circle: a.yaml -> b.yaml -> c.yaml -> a.yaml")


def test_a_circle_through_a_symbolic_link_is_found(write: Write, mistakes: Load, folder: Path) -> None:
    write({"a.yaml": "schema: safetune/1\nextends: link.yaml\n"})
    (folder / "link.yaml").symlink_to(folder / "a.yaml")
    for start in ("a.yaml", "link.yaml"):
        (found,) = mistakes(folder / start)
        assert found.code == "SP402"


def test_more_than_five_levels_are_refused(write: Write, mistakes: Load, folder: Path) -> None:
    for n in range(9):
        write({f"l{n}.yaml": f"schema: safetune/1\nextends: l{n + 1}.yaml\n"})
    (found,) = mistakes(folder / "l0.yaml")
    assert (Path(found.file).name, found.code) == ("l4.yaml", "SP403")


def test_a_folder_of_shared_parts_upwards_from_the_playbook_comes_first(
    example: str, write: Write, folder: Path
) -> None:
    own = (shipped_configs() / "policies" / "default.yaml").read_text().replace("stable", "canary")
    text = example.replace("promotion: {channel: stable}\n", "extends: policies/default\n")
    write({"a/b/playbook.yaml": text.replace("rows.jsonl", "../../rows.jsonl").replace("launch.", "../../launch.")})
    path = folder / "a" / "b" / "playbook.yaml"
    assert load_marked(path).playbook.channel == "stable"
    write({"a/configs/policies/default.yaml": own})
    assert load_marked(path).playbook.channel == "canary"
    write({"a/b/configs/suites/other.yaml": ""})
    assert load_marked(path).playbook.channel == "stable"


def test_parts_are_looked_for_in_the_nearest_folder_and_then_in_the_shipped_one(write: Write, folder: Path) -> None:
    write({"a/configs/suites/mine.yaml": "", "configs/suites/far.yaml": ""})
    deep = folder / "a" / "b"
    deep.mkdir()
    assert config_folders(deep) == (folder / "a" / "configs", shipped_configs())
    assert find_part("suites/mine", deep) == folder / "a" / "configs" / "suites" / "mine.yaml"
    assert find_part("suites/harmless", deep) == shipped_configs() / "suites" / "harmless.yaml"
    assert find_part("suites/far", deep) is None
    assert {"mine", "harmless"} <= set(part_names("suites", deep))
    assert "far" not in part_names("suites", deep)


@pytest.mark.parametrize(
    "name", ["../rows", "/etc/passwd", "suites/../../x", "suites/../suites/a", "", "A", "suites/", "a\0b"]
)
def test_the_name_of_a_part_is_no_path(name: str, write: Write, folder: Path) -> None:
    write({"configs/suites/a.yaml": "", "rows.yaml": "", "x.yaml": "", "configs/A.yaml": ""})
    assert find_part(name, folder) is None


def test_a_shared_suite_must_be_called_like_its_file(example: str, write: Write, mistakes: Load) -> None:
    suite = (shipped_configs() / "suites" / "word-problems.yaml").read_text()
    path = write(
        {"playbook.yaml": example.replace("- harmless", "- sums\n  - harmless"), "configs/suites/sums.yaml": suite}
    )
    (found,) = mistakes(path)
    assert (Path(found.file).name, found.line, found.column, found.code) == ("sums.yaml", 2, 7, "SP405")


def test_mistakes_in_a_shared_suite_are_told_in_its_file_and_not_again_in_the_playbook(
    example: str, write: Write, mistakes: Load
) -> None:
    suite = (shipped_configs() / "suites" / "harmless.yaml").read_text().replace("worse: higher", "worse: hihger")
    suite = suite.replace("prompts/harmless.jsonl", "prompts/none.jsonl")
    found = mistakes(write({"playbook.yaml": example, "configs/suites/harmless.yaml": suite}))
    assert [(Path(d.file).name, d.code) for d in found] == [("harmless.yaml", "SP305"), ("harmless.yaml", "SP204")]
