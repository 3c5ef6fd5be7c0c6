"""The shipped schema is a good schema, and the loader's own walker agrees with the jsonschema package on it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from safetune.core.digest import JSON
from safetune.core.playbook import Adapter, Guardrail, Launch, Limits
from safetune.playbook.nodes import Node
from safetune.playbook.schema import part_schema, schema, suite_schema, whole_keys
from safetune.playbook.shared import shipped_configs
from safetune.playbook.strict_yaml import parse
from safetune.playbook.text import read_text
from safetune.playbook.walker import ANNOTATIONS, KEYWORDS, check


def subschemas(one: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a schema and every schema in it."""
    yield one
    for key in ("items", "additionalProperties", "propertyNames", "if", "else"):
        if isinstance(one.get(key), Mapping):
            yield from subschemas(one[key])
    for key in ("properties", "$defs"):
        for inner in one.get(key, {}).values():
            yield from subschemas(inner)
    for inner in one.get("oneOf", ()):
        yield from subschemas(inner)


def test_the_schema_is_a_valid_schema_of_draft_2020_12() -> None:
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for one in (schema(), part_schema(), suite_schema()):
        jsonschema.Draft202012Validator.check_schema(one)


def test_the_schema_uses_only_what_the_walker_knows() -> None:
    used = {key for one in subschemas(schema()) for key in one}
    assert used <= KEYWORDS | ANNOTATIONS
    assert used >= KEYWORDS  # the walker knows nothing that no test could reach


def test_every_key_has_a_description_for_the_editor() -> None:
    for one in subschemas(schema()):
        for name, inner in one.get("properties", {}).items():
            target = schema()["$defs"][inner["$ref"].rpartition("/")[2]] if "$ref" in inner else inner
            assert target.get("description"), name


def test_every_pattern_has_words_for_it_and_refuses_a_line_feed_at_the_end() -> None:
    for one in subschemas(schema()):
        if "pattern" in one:
            assert one["patternErrorMessage"]
            assert one["pattern"] == r"\S" or one["pattern"].endswith(r"$(?!\n)")


def test_no_mapping_with_named_keys_takes_others_unless_they_are_options() -> None:
    taking = [
        one for one in subschemas(schema()) if "properties" in one and one.get("additionalProperties") is not False
    ]
    assert [sorted(one["properties"]) for one in taking] == [
        ["sources"],
        ["card"],
        ["action", "rules"],
        ["action", "flag_above", "flag_top", "harmful", "max_flagged", "method", "safe"],
    ]


def test_the_schema_says_the_same_defaults_as_the_records() -> None:
    definitions = schema()["$defs"]

    def says(definition: str, key: str, value: object) -> bool:
        return f"{value} when not given" in definitions[definition]["properties"][key]["description"].replace(
            " (when", " when"
        )

    assert says("adapter", "rank", Adapter().rank)
    assert says("adapter", "alpha", Adapter().alpha)
    assert says("launch", "num_processes", Launch().num_processes)
    assert says("launch", "threads", Launch().threads)
    guardrail = Guardrail("a", "b", "c", Limits(), "d")
    assert says("guardrail", "confidence", guardrail.confidence)
    assert says("guardrail", "min_samples", guardrail.min_samples)
    assert says("guardrail", "severity", guardrail.severity)


def _node(folder: Path, document: Any) -> Node:
    path = folder / "a.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")
    return parse(read_text(path))[0]


def _with_rare_keys(document: Any) -> Any:
    """Return the example with keys that few playbooks have."""
    first, second = document["guardrails"]
    first |= {"slices": {"only": ["a"], "critical": ["b"], "min_samples": 40}, "sequential": True}
    document["guardrails"] = [first, {**second, "slices": ["a", "b"]}, {**first, "name": "c", "slices": "every"}]
    document["suites"][1]["metrics"].append({"name": "mean", "of": "score", "worse": "lower"})
    document["promotion"]["alpha_budget"] = 0.2
    return document


@pytest.mark.parametrize("kind", ["playbook", "part", "suite"])
def test_the_walker_agrees_with_jsonschema_on_damaged_documents(
    kind: str, document: JSON, mutate: ModuleType, tmp_path: Path
) -> None:
    rules = {"playbook": schema(), "part": part_schema(), "suite": suite_schema()}[kind]
    if kind == "suite":
        document = parse(read_text(shipped_configs() / "suites" / "jailbreakbench-pair.yaml"))[0].json
    if kind != "suite":
        document = _with_rare_keys(document)
    validator = jsonschema.Draft202012Validator(rules)
    assert validator.is_valid(document)
    agreed = {True: 0, False: 0}
    for seed in range(700):
        r = random.Random(f"{kind}-{seed}")
        node = _node(tmp_path, mutate.structure(document, r, r.choice((1, 1, 2, 4))))
        if node.value is None or any(n.broken for n in node.walk()):
            continue
        theirs = validator.is_valid(node.json)
        assert theirs == (check(node, rules) == ()), (seed, [e.message for e in validator.iter_errors(node.json)])
        agreed[theirs] += 1
    assert agreed[True] > 30
    assert agreed[False] > 200


def test_the_walker_points_into_the_part_that_jsonschema_blames(
    document: JSON, mutate: ModuleType, tmp_path: Path
) -> None:
    validator = jsonschema.Draft202012Validator(schema())
    for seed in range(250):
        node = _node(tmp_path, mutate.structure(document, random.Random(f"place-{seed}"), 1))
        mine = {d.column for d in check(node, schema())}
        theirs = [_columns(node, list(error.absolute_path)) for error in validator.iter_errors(node.json)]
        assert all(mine & columns for columns in theirs), seed


def _columns(node: Node, path: list[Any]) -> set[int]:
    """Return the columns of the value at a path, of its keys and of its items; the document is one line."""
    for step in path:
        node = node.members[step] if isinstance(step, str) else node.items[step]
    keys = {place.column for place in node.keys.values()}
    return {node.place.column, *keys, *(item.place.column for item in node.items)}


def test_the_keys_of_a_whole_playbook_are_all_known_keys() -> None:
    assert set(whole_keys()) <= set(schema()["properties"])
