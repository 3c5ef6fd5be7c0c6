"""Screens and prompts of a playbook, and everything about data that its digest depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from safetune.core.diagnostics import Diagnostic
from safetune.core.playbook import Screen
from safetune.core.prompt_design import PromptPart
from safetune.playbook.load import load, load_marked

Write = Callable[[Mapping[str, str]], Path]
Load = Callable[[Path], tuple[Diagnostic, ...]]

SHA = "0" * 63 + "a"
USE = "    use: train\n"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def on(example: str, *keys: str) -> str:
    """Add keys to the first source."""
    return example.replace(USE, USE + "".join(f"    {key}\n" for key in keys), 1)


def with_data(example: str, data: str) -> str:
    return example.replace("sources:\n", f"data: {data}\nsources:\n", 1)


SCREEN = "seed: 7\n        screen: {method: representation, harmful: rows, safe: held, flag_top: 0.1, layers: [1]}"


def test_a_screen_arrives(example: str, write: Write) -> None:
    found = load(write({"playbook.yaml": example.replace("seed: 7", SCREEN)})).sprints[0].stages[0].screen
    assert found == Screen("representation", ("rows", "held"), {"layers": [1]}, None, 0.1)
    more = SCREEN.replace("flag_top: 0.1", "flag_above: -1.5, action: drop, max_flagged: 0.2")
    found = load(write({"playbook.yaml": example.replace("seed: 7", more)})).sprints[0].stages[0].screen
    assert found == Screen("representation", ("rows", "held"), {"layers": [1]}, -1.5, None, "drop", 0.2)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("flag_top: 0.1", "flag_top: 0.1, flag_above: 1", "SP208"),
        ("flag_top: 0.1, ", "", "SP208"),
        ("safe: held, ", "", "SP202"),
        ("safe: held", "safe: hold", "SP302"),
        ("layers: [1]", "deep: yes", "SP115"),
        ("flag_top: 0.1", "flag_top: 0", "SP205"),
        ("flag_top: 0.1", "flag_top: 0.1, max_flagged: 0.05", "SP326"),
        ("flag_top: 0.1", "flag_top: 0.1, max_flaged: 0.2", "SP201"),
        ("layers: [1]", "acton: drop", "SP201"),
    ],
)
def test_what_is_wrong_with_a_screen_is_said(
    old: str, new: str, code: str, example: str, write: Write, mistakes: Load
) -> None:
    text = example.replace("seed: 7", SCREEN.replace(old, new))
    assert [d.code for d in mistakes(write({"playbook.yaml": text}))] == [code]


def test_a_share_above_its_own_limit_and_a_slip_are_said_with_place_and_hint(
    example: str, write: Write, mistakes: Load
) -> None:
    text = example.replace("seed: 7", SCREEN.replace("flag_top: 0.1", "flag_top: 0.1, max_flagged: 0.05"))
    (found,) = mistakes(write({"playbook.yaml": text}))
    assert "flags more rows than `max_flagged: 0.05` allows" in found.message
    assert found.hint == "raise `max_flagged` above 0.1, or lower `flag_top`"
    assert found.excerpt[found.caret - 1 :].startswith("max_flagged")
    assert not mistakes(write({"playbook.yaml": text.replace("0.05", "0.1")}))
    slip = example.replace("seed: 7", SCREEN.replace("layers", "flag_tp"))
    assert [d.hint for d in mistakes(write({"playbook.yaml": slip}))] == ['did you mean "flag_top"?']


JINJA = "{{ messages }}\n"
PROMPTS = f"""prompts:
  parts:
    - {{name: house, layer: policy, text: " Be kind. "}}
    - {{name: long, layer: safety, file: long.txt, sha256: {sha("Stay safe.")}}}
  templates:
    - {{name: plain, system: [long, house], chat_template: chat.jinja, sha256: {sha(JINJA)}}}
    - {{name: bare, system: [house]}}
  serving: plain
suites:
"""


@pytest.fixture
def prompted(example: str, folder: Path) -> str:
    """The example with prompts, and the files that they name."""
    (folder / "long.txt").write_text("Stay safe.")
    (folder / "chat.jinja").write_text(JINJA)
    return example.replace("suites:\n", PROMPTS, 1).replace("seed: 7", "seed: 7\n        template: bare")


def test_parts_and_templates_arrive_with_the_text_of_their_files(prompted: str, write: Write) -> None:
    playbook = load(write({"playbook.yaml": prompted}))
    design = playbook.inputs.prompts
    assert [template.name for template in design.templates] == ["plain", "bare"]
    assert design.serving is design.templates[0]
    assert design.templates[0].system == "Stay safe.\n\nBe kind."
    assert design.templates[0].parts[1] == PromptPart("house", "policy", "Be kind.")
    assert [template.chat_template for template in design.templates] == [JINJA, ""]
    assert playbook.sprints[0].stages[0].template == "bare"
    assert "prompts" in load_marked(write({"playbook.yaml": prompted})).where


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ("system: [house]", "system: [hous]", "SP302", "no part is called"),
        ("serving: plain", "serving: plane", "SP302", "no template is called"),
        ("template: bare", "template: bear", "SP302", "no template is called"),
        ("name: bare", "name: plain", "SP301", "the template"),
        ("name: long", "name: house", "SP301", "the part"),
        (sha(JINJA), SHA, "SP325", f"its sha256 is {sha(JINJA)}"),
        ("file: long.txt", "file: gone.txt", "SP305", "does not exist"),
        ("file: long.txt", "file: https://a/b", "SP312", "is an address"),
        ("file: long.txt", "file: big.txt", "SP325", "allowed are 65,536"),
        ("file: long.txt", "file: bytes.txt", "SP325", "is not UTF-8"),
        ("file: long.txt", "file: empty.txt", "SP325", "is empty"),
        ("file: long.txt, ", "", "SP208", "either `text` or `file`"),
        (f", sha256: {sha(JINJA)}", "", "SP202", "needs the key"),
        ("layer: policy", "layer: house", "SP204", "policy"),
        (", system: [house]}", "}", "SP207", "at least 2 keys"),
    ],
)
def test_what_is_wrong_with_prompts_is_said(
    old: str, new: str, code: str, says: str, prompted: str, write: Write, mistakes: Load, folder: Path
) -> None:
    (folder / "big.txt").write_text("x" * 70_000)
    (folder / "bytes.txt").write_bytes(b"\xff\xff")
    (folder / "empty.txt").write_text(" \n")
    text = prompted.replace(old, new)
    if "empty.txt" in new:
        text = text.replace(sha("Stay safe."), sha(" \n"))
    found = mistakes(write({"playbook.yaml": text}))
    assert code in {d.code for d in found}
    assert says in next(d for d in found if d.code == code).message


# -- the digest --------------------------------------------------------------------------------------------------------


def test_the_digest_depends_on_what_may_change_what_is_trained_or_admitted(
    prompted: str, write: Write, folder: Path
) -> None:
    write({"c.json": "{}"})
    keys = (
        "publisher: acme", "basis: contract", "collected: {from: '2024'}", "languages: [en]", "limits: [few]",
        "columns: {prompt: q}", "guards: [{pii: {}}]", "croissant: c.json", "format: csv",
    )  # fmt: skip
    texts = [prompted, *(on(prompted, key) for key in keys)]
    texts += [prompted.replace("seed: 7", SCREEN), prompted.replace("template: bare", "template: plain")]
    texts += [prompted.replace("serving: plain", "serving: bare"), prompted.replace("Be kind", "Be nice")]
    data = ("{max_flagged: 0.2}", "{longest_row: 9}", "{max_bad_rows: 0.1}", "{guards: [{pii: {action: drop}}]}",
            "{admission: {on_problem: warn}}", "{admission: {licences: {allow: [GPL-3.0-only]}}}")  # fmt: skip
    texts += [with_data(prompted, one) for one in data]
    digests = [load(write({"playbook.yaml": text})).digest for text in texts]
    assert len(set(digests)) == len(texts)
    (folder / "away").mkdir()
    (folder / "away" / "long.txt").write_text("Stay safe.")
    moved = prompted.replace("file: long.txt", "file: away/long.txt")
    assert load(write({"playbook.yaml": moved})).digest == digests[0]
    write({"c.json": "{ }"})
    assert load(write({"playbook.yaml": on(prompted, "croissant: c.json")})).digest not in digests
