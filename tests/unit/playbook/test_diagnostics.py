"""Every diagnostic code: what causes it, where it points, what it says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from safetune.core.diagnostics import Diagnostic
from safetune.core.errors import ExitCode, PlaybookError
from safetune.playbook.load import load_marked

Write = Callable[[Mapping[str, str]], Path]
Load = Callable[[Path], tuple[Diagnostic, ...]]

# Stands, in the text of a case, before the place that the diagnostic must point at.
HERE = "\u00ab"

GATE = "gate: [skill, answers]"
TRAIN = "max_steps: 10"
RULES = "prompts: {rules: [{name: r, rule: b, probes: [a]"
TWO_RULES = f"{RULES}, broken_by: [b]}}"
PROMPTS = "prompts: {generator: word-problems, seed: 1, count: 40}"
SKILL = "at_least: 0.25, why: the aim}"
SHA = "0" * 63 + "a"
FILE = f"prompts: {{file: rows.jsonl, sha256: {SHA}}}"
PUBLIC = f"sha256: {SHA}, source: here}}"
BASE = "base: smollm2-135m-instruct}"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Case:
    """The example with `old` replaced by `new`; `says` is part of the message, `hint` part of the hint.

    `also` lists the codes of other mistakes that the change makes.
    """

    code: str
    old: str
    new: str
    says: str
    hint: str = ""
    also: tuple[str, ...] = ()


CASES = (
    # YAML that is more than plain data
    Case("SP103", "purpose: Teach", 'purpose: «"\\0" #', "U+0000"),
    Case("SP104", "owners: [team-a", "owners: «}[team-a", "this is not YAML"),
    Case(
        "SP104",
        "objective: better sums",
        "objective: better«: sums",
        "this is not YAML",
        'quote a text that holds ": "',
    ),
    Case("SP105", TRAIN, f"a: {'[' * 18}«[1]{']' * 18}", "nested deeper than 24"),
    Case("SP107", "seed: 7", "seed: «!!int 7", 'tags are not allowed, found "!!int"', "remove the tag"),
    Case("SP107", "seed: 7", "seed: «!x 7", 'found "!x"'),
    Case("SP108", "[team-a", "«&o [team-a", "anchors are not allowed, found &o"),
    Case(
        "SP109",
        "owners: [team-a, team-b]",
        "owners: [&x team-a, «*x ]",
        "aliases are not allowed, found *x",
        also=("SP108",),
    ),
    Case("SP110", "kind: lora, rank", "kind: lora, «<<: {alpha: 8}, rank", "merge keys"),
    Case("SP111", "name: tutor", "name: tutor\n«name: again", 'the key "name" was given before, in line 2'),
    Case("SP112", "kind: lora", "«[a]: 1, kind: lora", "a key must be a plain text"),
    Case("SP112", "kind: lora", '«"": 1, kind: lora', "a key must not be empty"),
    Case("SP113", "promotion:", "«---\npromotion:", "a second YAML document"),
    Case("SP113", "schema: safetune/1", "«%YAML 1.1\n---\nschema: safetune/1", "directives"),
    Case("SP115", "packing: false", "packing: «no", '"no" can be read as a boolean', "write true or false"),
    Case("SP115", "packing: false", "packing: «1_000", '"1_000" can be read as a number'),
    Case("SP115", "weight: 1.0", "weight: «12:30", "can be read as a time or a date"),
    Case("SP115", "weight: 1.0", "weight: {a: [«~]}", "can be read as null"),
    Case("SP115", TRAIN, "max_steps: «1e999", "can be read as a number"),
    # shape
    Case("SP201", "objective:", "«objectiv:", 'no key "objectiv"', 'did you mean "objective"?', also=("SP202",)),
    Case("SP201", "seed: 7", "seed: 7\n        «zzzzzz: 1", 'no key "zzzzzz"', "known here: name, trainer"),
    Case("SP202", "promotion: {channel: stable}\n", "", 'the key "promotion" is missing'),
    Case("SP202", "sha256: " + SHA + "\n    licence: MIT\n", "licence: MIT\n", '"sha256" is missing', "sha256sum FILE"),
    Case("SP202", "seed: 1, count", "count", '"generator" needs the key "seed"'),
    Case("SP203", "name: tutor", "name: «2024", "expected a text, found the number 2024", '"2024"'),
    Case("SP203", "name: tutor", "name: «true", "expected a text, found true", "quotes"),
    Case("SP203", "rank: 8", 'rank: «"8"', 'a whole number, found the text "8"', "remove the quotes"),
    Case("SP203", "rank: 8", "rank: «8.5", "a whole number, found the number 8.5"),
    Case("SP203", "rank: 8", "rank: «010", 'found the text "010"', "plain decimal digits"),
    Case("SP203", "rank: 8", "rank: «", "found nothing", "write a value"),
    Case("SP203", "owners: [team-a, team-b]", "owners: «team-a", "expected a list", "write a list"),
    Case("SP203", "at_least: 0.25", "at_least: «.nan", 'expected a number, found the text ".nan"'),
    Case("SP204", "schema: safetune/1", "schema: «safetune/2", 'expected safetune/1, found the text "safetune/2"'),
    Case("SP204", "severity: warn", "severity: «warm", "expected one of block, warn", 'did you mean "warn"?'),
    Case("SP204", "on: [INCONCLUSIVE]", "on: [«inconclusive]", "expected one of", "write INCONCLUSIVE"),
    Case("SP205", "at_least: 0.25", "at_least: «25", "25 is above the maximum of 1", "25 per cent is 0.25"),
    Case("SP205", "confidence: 0.9", "confidence: «0.5", "0.5 is below the minimum of 0.8"),
    Case("SP205", "{rows: 0.5}", "{rows: «0}", "0 must be above 0"),
    Case("SP205", "seed: 7", "seed: «-1", "-1 is below the minimum of 0"),
    Case("SP206", "name: tutor", "name: «My Tutor", "a name has lower-case letters", '"my-tutor" would do'),
    Case("SP206", "name: tutor", 'name: «"tutor\\n"', "a name has lower-case letters"),
    Case("SP206", "why: the aim", 'why: «" "', "must not be empty"),
    Case("SP206", f"sha256: {SHA}\n", "sha256: «abc\n", "a SHA-256 has 64", "sha256sum FILE"),
    Case("SP206", TRAIN, "«Max-Steps: 10", "an option has lower-case letters"),
    Case(
        "SP206", "licence: MIT\n    consent", f"licence: «{'x' * 401}\n    consent", "401 characters, allowed are 400"
    ),
    Case("SP206", BASE, "base: a/b, revision: «main}", "a revision is a full commit hash", "git ls-remote"),
    Case("SP207", "owners: [team-a, team-b]", "owners: «[]", "at least 1 item, found 0"),
    Case("SP207", "owners: [team-a, team-b]", "owners: [a, b, «a]", 'the text "a" is listed twice'),
    Case("SP207", "{rows: 0.5}", "«{}", "at least 1 key, found 0"),
    Case("SP208", PROMPTS, "prompts: «{seed: 1}", "exactly one of `file`, `generator`, `public`, `rules`"),
    # meaning
    Case("SP301", "{name: held,", "{name: «rows,", 'the source "rows" is defined before, at'),
    Case("SP301", "- harmless\n", "- harmless\n  - «harmless\n", 'the suite "harmless" is listed before'),
    Case("SP301", "- name: answers", "- name: «skill", 'the guardrail "skill" is defined before', also=("SP302",)),
    Case(
        "SP301",
        "worse: lower}\n",
        "worse: lower}\n      - {name: «accuracy, counts: [a], worse: lower}\n",
        'the metric "accuracy" is defined before',
    ),
    Case("SP301", "        gate:", "          - {«kl_regularization: {}}\n        gate:", "is listed twice"),
    Case("SP302", "{rows: 0.5}", "{«row: 0.5}", 'no source is called "row"', 'did you mean "rows"?'),
    Case(
        "SP302", "sources: {rows: 1}}", "sources: {«anchors: 1}}", 'no source is called "anchors"', "known: rows, held"
    ),
    Case("SP302", GATE, "gate: [skill, answers, «skil]", 'no guardrail is called "skil"', 'did you mean "skill"?'),
    Case("SP302", "success: [skill]", "success: [«x-y]", 'no guardrail is called "x-y"'),
    Case(
        "SP302", "suite: arithmetic", "suite: «arithmetics", "no suite of this playbook", 'did you mean "arithmetic"?'
    ),
    Case("SP303", BASE, "base: «org/model}", "has no revision", "git ls-remote https://huggingface.co/org/model HEAD"),
    Case("SP304", BASE, "base: «smollm2-135m}", "no model is called", 'did you mean "smollm2-135m-instruct"?'),
    Case("SP304", BASE, "base: «./nowhere}", 'the model folder "./nowhere" does not exist'),
    Case("SP304", BASE, "base: «a.gguf}", 'the model file "a.gguf" does not exist'),
    Case(
        "SP305",
        "    uri: rows.jsonl",
        "    uri: «row.jsonl",
        'the source file "row.jsonl" does not exist',
        "looked for",
    ),
    Case("SP305", "config_file: launch.yaml", "config_file: «no.yaml", "the configuration file"),
    Case("SP305", PROMPTS, FILE.replace("rows", "«no"), "the prompt file"),
    Case("SP307", "{rows: 0.5}", "{rows: 0.5, «held: 0.5}", 'the source "held" may not be trained on'),
    Case("SP308", "at_least: 0.25, ", "", "sets no limit", "at_most"),
    Case("SP308", "at_least: 0.25", "at_least: «0", "`at_least: 0` can never fail"),
    Case("SP308", "at_least: 0.25", "at_least: 0.5, worse_by_at_most: «1.0", "`worse_by_at_most: 1` can never fail"),
    Case("SP308", "worse_by_at_most: 0.1", "at_most: «1", "`at_most: 1` can never fail"),
    Case("SP203", "worse_by_at_most: 0.1", "at_most: «100%", "expected a number"),
    Case("SP308", "worse_by_at_most: 0.1", "at_most: «0.0", "`at_most: 0` can never be met", "leave room"),
    Case("SP308", "at_least: 0.25", "at_least: «1", "`at_least: 1` can never be met"),
    Case("SP308", "at_least: 0.25", "better_by_at_least: «1.0", "`better_by_at_least: 1` can never be met"),
    Case("SP308", "at_least: 0.25", "at_most: 0.2, at_least: «0.25", "at least 0.25 and at most 0.2", "remove one"),
    Case("SP308", "at_least: 0.25", "at_most: 0.25, at_least: «0.25", "at least 0.25 and at most 0.25"),
    Case("SP309", "metric: accuracy", "metric: «acuracy", "has no metric", 'did you mean "accuracy"?'),
    Case("SP310", GATE, "gate: «[answers]", "no guardrail of this gate blocks", also=("SP314", "SP316")),
    Case("SP310", SKILL, f"severity: observe, {SKILL}", "no guardrail of this gate blocks"),
    Case("SP206", SKILL, "at_least: 0.25, why: «' '}", "it must not be empty"),
    Case("SP205", SKILL, f"confidence: «0.5, {SKILL}", "below the minimum of 0.8"),
    Case("SP205", SKILL, f"confidence: «1, {SKILL}", "above the maximum of 0.9999"),
    Case("SP204", SKILL, f"severity: «observed, {SKILL}", "expected one of block, warn, observe", '"observe"'),
    Case("SP206", SKILL, f"slices: «all, {SKILL}", "the only word is every"),
    Case("SP203", SKILL, f"slices: «3, {SKILL}", "expected a text or a list or a mapping"),
    Case("SP207", SKILL, f"slices: «[], {SKILL}", "expected at least 1 item"),
    Case("SP207", SKILL, f"slices: [a, «a], {SKILL}", "is listed twice"),
    Case("SP207", SKILL, f"slices: «{{}}, {SKILL}", "expected at least 1 key"),
    Case("SP201", SKILL, f"slices: {{«critcal: [a]}}, {SKILL}", "there is no key", '"critical"'),
    Case("SP203", SKILL, f"sequential: «yes, {SKILL}", "expected true or false"),
    Case("SP208", "{name: accuracy, counts: [correct]", "«{name: accuracy, counts: [a], of: score", "`of: score`"),
    Case("SP208", "{name: accuracy, counts: [correct]", "«{name: accuracy", "give either `counts` or `of: score`"),
    Case("SP204", "counts: [correct]", "of: «scores", "expected score", '"score"'),
    Case("SP205", "channel: stable", "channel: stable, alpha_budget: «0", "must be above 0"),
    Case("SP205", "channel: stable", "channel: stable, alpha_budget: «1", "above the maximum of 0.9999"),
    Case("SP311", "on: [INCONCLUSIVE]", "on: [«FAIL]", '"FAIL" has a rule already'),
    Case(
        "SP312",
        "    uri: rows.jsonl",
        "    uri: «https://x.org/rows.jsonl",
        "is an address, not a path",
        "fetch the file",
    ),
    Case("SP312", BASE, "base: «hf://org/model}", "is an address, not a path"),
    Case("SP312", PROMPTS, f"prompts: {{public: «../secret, {PUBLIC}", "not a path inside the data root"),
    Case("SP312", PROMPTS, f"prompts: {{public: «https://x.org/a, {PUBLIC}", "is an address"),
    Case("SP313", BASE, f"base: smollm2-135m-instruct, revision: «{COMMIT}}}", "pins a hub id only"),
    Case("SP313", "then: hold}", "«to: sprint-start, then: hold}", "`to` has no effect with `then: hold`"),
    Case("SP313", "use: train", "use: [train, «evaluate]", "`evaluate` has no effect beside `train`"),
    Case("SP313", PROMPTS, PROMPTS[:-1] + ", «format: csv}", "`format` has no effect with prompts from a generator"),
    Case("SP313", PROMPTS, FILE[:-1] + ", «header: true}", "`header` has no effect with the format jsonl"),
    Case("SP313", "judge: numeric", "judge: numeric\n    «slice: family", "`slice` has no effect with prompts from a"),
    Case("SP313", PROMPTS, f"{FILE[:-1]}, text: a, columns: {{«prompt: x}}}}", "`prompt` has no effect with `text`"),
    Case("SP313", PROMPTS, f"{FILE[:-1]}, languages: {{en: x}}, «text: a}}", "`text` has no effect with `languages`"),
    Case("SP313", PROMPTS, f"{FILE[:-1]}, columns: {{«choices: x}}}}", "no effect with the evaluator generation"),
    Case("SP313", "judge: numeric", "judge: numeric\n    evaluator: likelihood\n    «max_perplexity: 9", "writes no"),
    Case("SP313", PROMPTS, f"{FILE}\n    attacks: [hex]\n    «slice: kind", "`slice` has no effect with `attacks`"),
    Case("SP313", PROMPTS, f"{FILE[:-1]}, languages: {{en: x}}}}\n    «slice: kind", "the language is the slice"),
    Case("SP313", PROMPTS, f"{RULES}, broken_by: [b]}}]}}\n    «cluster: kind", "`cluster` has no effect with prompts"),
    Case(
        "SP301", PROMPTS, f"{TWO_RULES}, {{name: «r, rule: c, probes: [d], kept_by: [e]}}]}}", 'the rule "r" is defined'
    ),
    Case("SP319", PROMPTS, f"{RULES.replace('[{', '[«{')}}}]}}", 'nothing would show that the rule "r" was broken'),
    Case("SP316", GATE, "gate: [skill]", 'the guardrail "answers" is in no gate'),
    Case("SP317", SKILL, "«at_most: 0.25, why: the aim}", "accuracy is worse when it is lower", "use `at_least`"),
    Case("SP320", SKILL, f"«slices: every, {SKILL}", 'the suite "arithmetic" has no slices', "give the suite"),
    Case("SP321", "channel: stable", "channel: stable, alpha_budget: «0.04", "does not pay for the gate", "cost 0.05"),
    # other files
    Case(
        "SP401", "owners:", "extends: «policies/defaults\nowners:", "no shared part", 'did you mean "policies/default"?'
    ),
    Case("SP401", "owners:", "extends: «other.yaml\nowners:", 'the playbook "other.yaml" does not exist'),
    Case("SP402", "owners:", "extends: «playbook.yaml\nowners:", "in a circle: playbook.yaml -> playbook.yaml"),
    Case("SP404", "- harmless\n", "- «harmles\n", "no shared suite is called", 'did you mean "harmless"?'),
)


def changed(example: str, case: Case) -> tuple[str, tuple[int, int] | None]:
    """Return the changed text, and the place that the case marks, if any."""
    assert example.count(case.old) >= 1, case.old
    text = example.replace(case.old, case.new, 1)
    if HERE not in text:
        return text, None
    before = text[: text.index(HERE)].split("\n")
    return text.replace(HERE, ""), (len(before), len(before[-1]) + 1)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.code}-{c.new[:24]!r}")
def test_a_mistake_is_found_at_its_place_with_its_message(
    case: Case, example: str, write: Write, mistakes: Load
) -> None:
    if case.code == "SP320":  # what a generator makes may have slices
        example = example.replace(PROMPTS, FILE)
    text, place = changed(example, case)
    everything = mistakes(write({"playbook.yaml": text}))
    found = [d for d in everything if d.code == case.code and case.says in d.message]
    assert len(found) == 1
    assert sorted(d.code for d in everything) == sorted((case.code, *case.also))
    assert case.hint in found[0].hint
    if place is not None:
        assert (found[0].line, found[0].column) == place
    assert found[0].excerpt in text.split("\n")[found[0].line - 1]


def test_a_band_of_two_limits_is_no_limit_on_the_wrong_side(example: str, write: Write, mistakes: Load) -> None:
    text = example.replace("at_least: 0.25", "at_least: 0.25, at_most: 0.75")
    assert mistakes(write({"playbook.yaml": text})) == ()


def test_critical_slices_block_whatever_the_severity(example: str, write: Write, mistakes: Load) -> None:
    text = example.replace(GATE, "gate: [answers]").replace("success: [skill]", "success: [answers]")
    text = text.replace("  - {name: skill, suite: arithmetic, metric: accuracy, at_least: 0.25, why: the aim}\n", "")
    assert [d.code for d in mistakes(write({"playbook.yaml": text}))] == ["SP310"]
    critical = text.replace("severity: warn", "severity: warn\n    slices: {critical: [cooking]}")
    assert mistakes(write({"playbook.yaml": critical})) == ()


@pytest.mark.parametrize(
    "prompts",
    [
        PROMPTS,
        f"{FILE}\n    slice: kind",
        f"{FILE}\n    attacks: [hex]",
        f"{FILE[:-1]}, languages: {{en: x}}}}",
        f"{FILE[:-1]}, columns: {{slice: x}}}}",
        f"{TWO_RULES}]}}",
        "prompts: {engine: {name: inspect, arguments: [a], results: b, slice: kind}}",
    ],
)
def test_every_way_to_have_slices_may_be_gated_by_slice(
    prompts: str, example: str, write: Write, mistakes: Load
) -> None:
    text = example.replace(PROMPTS, prompts).replace(SKILL, f"slices: [a], {SKILL}")
    assert mistakes(write({"playbook.yaml": text})) == ()


def test_a_tool_that_asks_by_itself_cannot_be_stopped_early(example: str, write: Write, mistakes: Load) -> None:
    text = example.replace(PROMPTS, "prompts: {engine: {name: inspect, arguments: [a], results: b}}")
    text = text.replace(SKILL, f"sequential: true, {SKILL}")
    (found,) = mistakes(write({"playbook.yaml": text}))
    assert (found.code, found.column) == ("SP313", text.split("\n")[found.line - 1].index("sequential") + 1)
    assert mistakes(write({"playbook.yaml": text.replace("sequential: true", "sequential: false")})) == ()


def test_a_budget_pays_for_every_stage_once(example: str, write: Write, mistakes: Load) -> None:
    stage = example[example.index("      - name: sft") : example.index("rollback:")].replace("name: sft", "name: two")
    text = example.replace("rollback:", stage + "rollback:")
    for budget, codes in (("0.1", []), ("0.09", ["SP321"])):
        path = write({"playbook.yaml": text.replace("channel: stable", f"channel: stable, alpha_budget: {budget}")})
        found = mistakes(path)
        assert [d.code for d in found] == codes
    assert 'the gate of "one/two"' in found[0].message
    assert "the gates up to it cost 0.1 together" in found[0].hint
    dearer = example.replace("severity: warn", "severity: block")  # at a confidence of 0.9
    path = write({"playbook.yaml": dearer.replace("channel: stable", "channel: stable, alpha_budget: 0.09")})
    assert [d.code for d in mistakes(path)] == ["SP321"]


def test_the_example_has_no_mistakes(example: str, write: Write, mistakes: Load) -> None:
    assert mistakes(write({"playbook.yaml": example})) == ()


def test_plugins_that_do_not_exist_are_named_where_they_are_used(example: str, write: Write) -> None:
    plugins = {
        "trainer": ("dpo", "sft"), "technique": ("kl_regularization",), "judge": ("numeric", "refusal"),
        "prompts": ("word-problems",),
    }  # fmt: skip
    path = write({"playbook.yaml": example})
    load_marked(path, plugins)
    wrong = example.replace("trainer: sft", "trainer: sftt").replace("kl_regularization:", "kl_regularisation:")
    wrong = wrong.replace("judge: numeric", "judge: numbers").replace("generator: word-problems", "generator: words")
    path.write_text(wrong)
    load_marked(path)  # without the names that exist, nothing is said
    with pytest.raises(PlaybookError) as raised:
        load_marked(path, plugins)
    found = raised.value.diagnostics
    assert {d.code for d in found} == {"SP318"}
    assert [(d.line, d.column, d.message) for d in found] == [
        (21, 26, 'no prompt generator is called "words"'),
        (22, 12, 'no judge is called "numbers"'),
        (42, 18, 'no trainer is called "sftt"'),
        (47, 13, 'no technique is called "kl_regularisation"'),
    ]
    assert [d.hint for d in found[2:]] == ['did you mean "sft"?', 'did you mean "kl_regularization"?']


def test_all_mistakes_are_told_at_once_in_the_order_of_the_text(example: str, write: Write, mistakes: Load) -> None:
    text = (
        example.replace("rank: 8", "rank: 0")
        .replace("name: tutor", "name: Tutor")
        .replace("[skill, answers]", "[skil]")
    )
    found = mistakes(write({"playbook.yaml": text}))
    assert [d.code for d in found] == ["SP206", "SP316", "SP316", "SP314", "SP205", "SP302"]
    assert [(d.line, d.column) for d in found] == sorted((d.line, d.column) for d in found)


def test_a_success_guardrail_outside_the_gates_of_its_sprint_is_an_error(
    example: str, write: Write, mistakes: Load
) -> None:
    second = example[example.index("  - name: one") : example.index("rollback:")].replace("name: one", "name: two")
    first = example.replace("success: [skill]", "success: [answers]", 1).replace("[skill, answers]", "[skill]", 1)
    found = mistakes(write({"playbook.yaml": first.replace("rollback:", second + "rollback:")}))
    assert [(d.code, d.line) for d in found] == [("SP314", 39)]
    assert "is in no gate of this sprint" in found[0].message


def test_equal_stage_names_in_one_sprint_are_an_error_and_in_two_sprints_are_not(
    example: str, write: Write, mistakes: Load
) -> None:
    stage = example[example.index("      - name: sft") : example.index("rollback:")]
    found = mistakes(write({"playbook.yaml": example.replace("rollback:", stage + "rollback:")}))
    assert [(d.code, d.line, d.column) for d in found] == [("SP301", 51, 15)]
    sprint = example[example.index("  - name: one") : example.index("rollback:")].replace("name: one", "name: two")
    assert mistakes(write({"playbook.yaml": example.replace("rollback:", sprint + "rollback:")})) == ()


def test_more_values_than_a_person_writes_are_refused(write: Write, mistakes: Load) -> None:
    (found,) = mistakes(write({"playbook.yaml": "owners: [" + "a, " * 10_500 + "a]"}))
    assert (found.code, found.line) == ("SP106", 1)
    assert "more than 10,000 values" in found.message


def test_an_error_exits_with_the_code_of_a_playbook_error_and_names_the_first_mistake(write: Write) -> None:
    with pytest.raises(PlaybookError) as raised:
        load_marked(write({"playbook.yaml": "schema: safetune/1\nowners: 3\nextends: policies/default\n"}))
    assert raised.value.exit_code is ExitCode.USAGE
    assert raised.value.message.startswith("8 mistakes, the first at")


def test_the_excerpt_of_a_very_long_line_is_cut_around_the_caret(write: Write, mistakes: Load) -> None:
    text = f"{{schema: safetune/1, purpose: {'x' * 500}, owners: &a [b], extends: policies/default}}"
    found = next(d for d in mistakes(write({"playbook.yaml": text})) if d.code == "SP108")
    assert found.column == text.index("&a") + 1
    assert len(found.excerpt) <= 160
    assert found.excerpt[found.caret - 1 :].startswith("&a [b]")


def test_every_code_in_the_source_has_a_test(repo_root: Path) -> None:
    source = "".join(path.read_text() for path in (repo_root / "safetune" / "playbook").glob("*.py"))
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    codes = set(re.findall(r'"(SP\d{3})"', source))
    assert len(codes) > 35
    assert sorted(code for code in codes if f'"{code}"' not in tests) == []
