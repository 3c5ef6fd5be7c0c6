"""Sources, the data policy and prompts: what arrives, what is refused, what the digest depends on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from license_expression import get_spdx_licensing  # type: ignore[import-untyped]

from safetune.cli.starter import write_starter
from safetune.core.admission import Licence
from safetune.core.data_policy import ACTIONS, GuardSettings
from safetune.core.diagnostics import Diagnostic
from safetune.core.errors import PlaybookError
from safetune.core.playbook import Playbook
from safetune.core.source import KINDS, LAWFUL_BASES, Provenance
from safetune.engine.data.known import KnownPlugins
from safetune.playbook.layers import shipped_policy
from safetune.playbook.licences import PLAIN, NotSPDX, parse
from safetune.playbook.load import load, load_marked
from safetune.playbook.schema import part_schema, schema
from safetune.playbook.shared import shipped_configs
from safetune.playbook.strict_yaml import parse as parse_yaml
from safetune.playbook.text import read_text
from safetune.playbook.walker import check
from safetune.plugins import load as plugin

Write = Callable[[Mapping[str, str]], Path]
Load = Callable[[Path], tuple[Diagnostic, ...]]

SHA = "0" * 63 + "a"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
USE = "    use: train\n"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def on(example: str, *keys: str) -> str:
    """Add keys to the first source."""
    return example.replace(USE, USE + "".join(f"    {key}\n" for key in keys), 1)


def with_data(example: str, data: str) -> str:
    return example.replace("sources:\n", f"data: {data}\nsources:\n", 1)


def guard(playbook: Playbook, name: str) -> GuardSettings:
    return {one.name: one for one in playbook.inputs.policy.guards}[name]


def test_everything_that_a_source_says_arrives(example: str, write: Write, folder: Path) -> None:
    text = on(
        example,
        "publisher: acme",
        "basis: contract",
        "collected: {from: 2024-01, to: 2024-02-29}",
        "languages: [en, de]",
        "limits: [' few rows ']",
        "columns: {prompt: question}",
        "guards: [{pii: {rules: {ip: drop}}}, {outliers: {action: block, longest: 9}}]",
    )
    found = load(write({"playbook.yaml": text})).sources[0]
    assert found.about == Provenance("acme", "contract", ("2024-01", "2024-02-29"), ("en", "de"), ("few rows",))
    assert (found.columns, found.kind, found.path) == ({"prompt": "question"}, "jsonl", str(folder / "rows.jsonl"))
    assert found.guards == (
        GuardSettings("pii", "redact", {"ip": "drop"}),  # the action stays that of the policy
        GuardSettings("outliers", "block", {}, {"longest": 9}),
    )


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("rows.csv", "csv"),
        ("rows.parquet", "parquet"),
        ("rows.jsonl.dvc", "jsonl"),
        ("rows.csv.dvc", "csv"),
        ("dvc.yaml#out.parquet", "parquet"),
        ("inner", "folder"),
        ("mixed", "mixture"),
    ],
)
def test_the_kind_of_a_source_is_that_of_its_uri(uri: str, kind: str, example: str, write: Write, folder: Path) -> None:
    for name in ("rows.csv", "rows.parquet", "rows.jsonl.dvc", "rows.csv.dvc", "dvc.yaml"):
        (folder / name).touch()
    (folder / "inner").mkdir()
    (folder / "mixed").mkdir()
    (folder / "mixed" / "mixture.json").touch()
    found = load(write({"playbook.yaml": example.replace("uri: rows.jsonl\n", f"uri: {uri}\n", 1)})).sources[0]
    assert (found.kind, found.path) == (kind, str(folder / uri))
    said = on(example.replace("uri: rows.jsonl\n", f"uri: {uri}\n", 1), "format: jsonl")
    if kind not in ("folder", "mixture"):
        assert load(write({"playbook.yaml": said})).sources[0].kind == "jsonl"


def test_a_hub_dataset_is_pinned_by_its_revision(example: str, write: Write, mistakes: Load) -> None:
    hub = example.replace("uri: rows.jsonl\n", "uri: hub:org/name/part\n", 1)
    found = load(write({"playbook.yaml": on(hub, f"revision: {COMMIT}")})).sources[0]
    assert (found.kind, found.path, found.about.revision) == ("hub", "hub:org/name/part", COMMIT)
    assert [d.code for d in mistakes(write({"playbook.yaml": hub}))] == ["SP303"]


@pytest.mark.parametrize(
    ("keys", "code", "says"),
    [
        (["revision: " + COMMIT], "SP313", "pins a hub dataset only"),
        (["format: hub"], "SP313", "`format: hub` is for"),
        (["format: folder"], "SP305", "the folder"),
        (["croissant: gone.json"], "SP305", "the Croissant record"),
        (["collected: {from: '2025', to: 2024-12}"], "SP324", "ends before it begins"),
        (["collected: {from: 2024-13}"], "SP206", "a date is written"),
        (["basis: because"], "SP204", "expected one of consent"),
        (["guards: [{pii: {}}, {pii: {}}]"], "SP301", 'the guard "pii" is listed before'),
        (["guards: [{pii: {action: delete}}]"], "SP204", "expected one of off"),
        (["guards: [{pii: {deep: yes}}]"], "SP115", "can be read as a boolean"),
        (["languages: [english]"], "SP206", "ISO 639"),
    ],
)
def test_what_is_wrong_with_a_source_is_said(
    keys: list[str], code: str, says: str, example: str, write: Write, mistakes: Load
) -> None:
    (found,) = mistakes(write({"playbook.yaml": on(example, *keys)}))
    assert (found.code, says in found.message) == (code, True), found


@pytest.mark.parametrize("uri", ["hub:name", "hub:org/name/../x", "hub:org/na me", "hub:/a/b"])
def test_what_is_no_hub_dataset_is_refused(uri: str, example: str, write: Write, mistakes: Load) -> None:
    text = on(example.replace("uri: rows.jsonl\n", f"uri: '{uri}'\n", 1), f"revision: {COMMIT}")
    assert [d.code for d in mistakes(write({"playbook.yaml": text}))] == ["SP312"]
    said = on(example.replace("uri: rows.jsonl\n", "uri: hub:a/b\n", 1), "format: csv")
    assert [d.code for d in mistakes(write({"playbook.yaml": said}))] == ["SP313"]


def test_somebody_must_have_allowed_it_unless_a_record_says_so(example: str, write: Write, mistakes: Load) -> None:
    silent = example.replace("    consent: public-release\n", "", 1)
    assert [d.code for d in mistakes(write({"playbook.yaml": silent}))] == ["SP323"]
    (found,) = mistakes(write({"playbook.yaml": on(silent, "basis: consent")}))
    assert (found.code, found.message) == ("SP323", "`basis: consent` needs `consent`")
    assert mistakes(write({"playbook.yaml": on(silent, "basis: no-personal-data")})) == ()
    bare = silent.replace("    licence: MIT\n    origin: written here\n", "", 1)
    assert {d.code for d in mistakes(write({"playbook.yaml": bare}))} == {"SP202", "SP323"}
    write({"c.json": "{}"})
    assert mistakes(write({"playbook.yaml": on(bare, "croissant: c.json")})) == ()


@pytest.mark.parametrize(
    ("licence", "says", "hint"),
    [
        ("Apache2", 'SPDX lists no licence "Apache2"', 'did you mean "Apache-2.0"?'),
        ("CC-BY-4", 'SPDX lists no licence "CC-BY-4"', 'did you mean "CC-BY-4.0"?'),
        ("ours", 'SPDX lists no licence "ours"', "LicenseRef-NAME"),
        ("MIT OR", "no SPDX expression", "MIT OR Apache-2.0"),
        ("MIT WITH Apache-2.0", 'no exception "Apache-2.0"', ""),
    ],
)
def test_a_licence_is_an_spdx_expression(
    licence: str, says: str, hint: str, example: str, write: Write, mistakes: Load
) -> None:
    (found,) = mistakes(write({"playbook.yaml": example.replace("licence: MIT\n", f"licence: {licence}\n", 1)}))
    assert (found.code, found.column) == ("SP322", 14)
    assert says in found.message
    assert hint in found.hint
    allowed = with_data(example, "{admission: {licences: {allow: [Apache2, 'Apache2*']}}}")
    assert [d.code for d in mistakes(write({"playbook.yaml": allowed}))] == ["SP322"]


def test_words_for_nothing_are_left_to_the_policy(example: str, write: Write, mistakes: Load) -> None:
    text = example.replace("licence: MIT\n", "licence: unknown\n", 1).replace("consent: public-release", "consent: tbd")
    assert mistakes(write({"playbook.yaml": text})) == ()


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("MIT", Licence("MIT")),
        ("mit", Licence("MIT")),
        ("GPL-2.0", Licence("GPL-2.0-only")),
        ("GPL-2.0+", Licence("GPL-2.0-or-later")),
        ("MIT+", Licence("MIT")),
        ("LicenseRef-ours", Licence("LicenseRef-ours")),
        ("MIT or Apache-2.0", Licence(any_of=(Licence("MIT"), Licence("Apache-2.0")))),
        (
            "MIT AND (GPL-3.0-only WITH GCC-exception-3.1 OR LicenseRef-x)",
            Licence(
                all_of=(
                    Licence("MIT"),
                    Licence(any_of=(Licence("GPL-3.0-only", "GCC-exception-3.1"), Licence("LicenseRef-x"))),
                )
            ),
        ),
    ],
)
def test_licences_are_parsed_in_the_spelling_of_spdx(text: str, licence: Licence) -> None:
    assert parse(text) == licence


@pytest.mark.parametrize("text", ["", "GCC-exception-3.1", "MIT, ISC", "MIT/ISC", "(" * 300, "AND", "MIT WITH foo"])
def test_what_is_no_expression_is_refused_in_words(text: str) -> None:
    with pytest.raises(NotSPDX) as raised:
        parse(text)
    assert raised.value.hint


def test_the_plain_licences_are_those_of_spdx() -> None:
    known = get_spdx_licensing().known_symbols
    assert [key for key in PLAIN if key not in known or known[key].is_deprecated] == []


# -- the policy --------------------------------------------------------------------------------------------------------


def test_the_shipped_policies_are_sound_and_say_why() -> None:
    for name in ("data", "strict-data"):
        path = shipped_configs() / "policies" / f"{name}.yaml"
        document, refused = parse_yaml(read_text(path))
        assert (refused, check(document, part_schema())) == ((), ())
        for item in document.members["data"].items_of("guards"):
            for guard_name, settings in item.members.items():
                rules = settings.get("rules")
                known = plugin("guard", guard_name).rules  # type: ignore[attr-defined]
                assert rules is None or set(rules.members) <= set(known), guard_name
    lines = (shipped_configs() / "policies" / "data.yaml").read_text().splitlines()
    assert sum(line.strip().startswith("#") for line in lines) > 20


def test_the_shipped_policy_names_only_licences_that_need_no_package(example: str, write: Write) -> None:
    admission = load(write({"playbook.yaml": example})).inputs.policy.admission
    assert set(admission.allow) <= PLAIN
    assert "CC-BY-NC*" in admission.forbid
    assert (admission.otherwise, admission.on_problem) == ("block", "block")
    assert admission.required == ("licence", "consent", "origin")


def test_layers_are_joined_key_by_key_and_guards_by_name(example: str, write: Write) -> None:
    default = load(write({"playbook.yaml": example})).inputs.policy
    parent = "schema: safetune/1\ndata:\n  max_flagged: 0.2\n"
    parent += "  guards: [{pii: {rules: {email: drop}}}, {outliers: {a: 1, b: 1}}]\n"
    child = with_data(
        example,
        "{admission: {licences: {otherwise: warn}}, guards: [{outliers: {b: 2, action: drop}}, {mine: {}}]}",
    ).replace("name: tutor\n", "name: tutor\nextends: parent.yaml\n", 1)
    playbook = load(write({"playbook.yaml": child, "parent.yaml": parent}))
    policy = playbook.inputs.policy
    assert policy.admission == replace(default.admission, otherwise="warn")
    assert (policy.max_flagged, policy.longest_row) == (0.2, default.longest_row)
    assert guard(playbook, "pii") == GuardSettings("pii", "redact", {"ip": "flag", "email": "drop"})
    assert guard(playbook, "outliers") == GuardSettings("outliers", "drop", {}, {"a": 1, "b": 2})
    assert guard(playbook, "mine") == GuardSettings("mine")
    assert [g.name for g in policy.guards] == [*(g.name for g in default.guards), "mine"]
    assert "data" in load_marked(write({"playbook.yaml": child})).where


def test_lists_of_licences_are_joined_across_layers_and_forbidden_wins(example: str, write: Write) -> None:
    default = load(write({"playbook.yaml": example})).inputs.policy.admission
    parent = "schema: safetune/1\ndata:\n  admission: {licences: {allow: [GPL-3.0-only], forbid: [MIT]}}\n"
    child = with_data(example, "{admission: {licences: {allow: [LicenseRef-ours, mit]}}}")
    child = child.replace("name: tutor\n", "name: tutor\nextends: parent.yaml\n", 1)
    found = load(write({"playbook.yaml": child, "parent.yaml": parent})).inputs.policy.admission
    assert {key.casefold() for key in found.allow} == {
        key.casefold() for key in (*default.allow, "GPL-3.0-only", "LicenseRef-ours")
    }
    assert len(found.allow) == len(default.allow) + 2
    assert set(found.forbid) == {*default.forbid, "MIT"}


@pytest.mark.parametrize("key", ["allow", "forbid"])
def test_a_list_of_licences_that_is_none_is_refused(key: str, example: str, write: Write, mistakes: Load) -> None:
    text = with_data(example, f"{{admission: {{licences: {{{key}: MIT}}}}}}")
    assert [d.code for d in mistakes(write({"playbook.yaml": text}))] == ["SP203"]


def test_the_strict_policy_asks_for_more_and_drops_what_is_only_told(example: str, write: Write) -> None:
    text = example.replace("name: tutor\n", "name: tutor\nextends: policies/strict-data\n", 1)
    playbook = load(write({"playbook.yaml": text}))
    assert {"publisher", "collected", "languages", "limits"} < set(playbook.inputs.policy.admission.required)
    assert {guard(playbook, name).action for name in ("language", "outliers", "toxicity", "identity_shift")} == {"drop"}
    assert guard(playbook, "secrets").action == "block"
    assert guard(playbook, "hidden_cues").rules["tags"] == "block"


def test_the_strict_policy_takes_the_place_of_the_default_one(write: Write, folder: Path) -> None:
    write_starter(folder / "tutor")
    path = folder / "tutor" / "playbook.yaml"
    path.write_text(path.read_text().replace("extends: policies/default", "extends: policies/strict-data"))
    playbook = load(path)
    assert (playbook.channel, len(playbook.rollback)) == ("stable", 2)
    assert playbook.inputs.policy.max_flagged == 0.05


def test_rules_of_a_layer_below_win_over_an_action_above(example: str, write: Write) -> None:
    off = with_data(example, "{guards: [{hidden_cues: {action: 'off'}}]}")
    assert guard(load(write({"playbook.yaml": off})), "hidden_cues").action_of("tags") == "block"
    both = "{guards: [{hidden_cues: {action: 'off', rules: {tags: 'off', zero_width: 'off', bidi: 'off'}}}]}"
    found = guard(load(write({"playbook.yaml": with_data(example, both)})), "hidden_cues")
    assert {found.action, *found.rules.values()} == {"off"}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("{guards: [{pii: {}}, {pii: {}}]}", "SP301"),
        ("{guards: [{aaa: {}, bbb: {}}]}", "SP207"),
        ("{guards: pii}", "SP203"),
        ("{admission: x}", "SP203"),
        ("x", "SP203"),
        ("{max_bad_rows: 5}", "SP205"),
        ("{admission: {required: [colour]}}", "SP204"),
        ("{guards: [{pii: {rules: {ip: x}}}]}", "SP204"),
        ("{guards: [{pii: {rules: 3}}]}", "SP203"),
    ],
)
def test_what_is_wrong_with_a_policy_is_said_once(
    data: str, code: str, example: str, write: Write, mistakes: Load
) -> None:
    assert [d.code for d in mistakes(write({"playbook.yaml": with_data(example, data)}))] == [code]


def test_guards_screens_and_rules_that_do_not_exist_are_named(example: str, write: Write) -> None:
    text = with_data(example, "{guards: [{pi: {}}, {pii: {rules: {emial: drop}}}]}")
    text = text.replace("seed: 7", "seed: 7\n        screen: {method: gradients, flag_top: 0.1}")
    with pytest.raises(PlaybookError) as raised:
        load_marked(write({"playbook.yaml": on(text, "guards: [{secret: {}}]")}), KnownPlugins())
    assert [(d.code, d.message, d.hint) for d in raised.value.diagnostics] == [
        ("SP318", 'no guard is called "pi"', 'did you mean "pii"?'),
        ("SP318", 'the guard "pii" has no rule "emial"', 'did you mean "email"?'),
        ("SP318", 'no guard is called "secret"', 'did you mean "secrets"?'),
        ("SP318", 'no screen is called "gradients"', 'did you mean "gradient"?'),
    ]


def test_the_rules_of_a_guard_that_cannot_be_loaded_are_unknown() -> None:
    known = KnownPlugins()
    assert known.get("guard nothing") is None
    assert known.get("nothing") is None
    assert "email" in known["guard pii"]
    assert set(known) >= {"guard", "screen"}
    assert len(known) == len(set(known))


def test_the_schema_knows_the_words_of_the_records() -> None:
    definitions = schema()["$defs"]
    source = definitions["source"]["properties"]
    assert tuple(source["basis"]["enum"]) == LAWFUL_BASES
    assert set(source["format"]["enum"]) == set(KINDS)
    guard_schema = definitions["guard"]["additionalProperties"]["properties"]
    assert tuple(guard_schema["action"]["enum"]) == ACTIONS
    assert tuple(guard_schema["rules"]["additionalProperties"]["enum"]) == ACTIONS


def test_the_shipped_policy_costs_little() -> None:
    shipped_policy.cache_clear()
    start = time.process_time()
    shipped_policy()
    assert time.process_time() - start < 0.05
