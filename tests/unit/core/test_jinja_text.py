"""Chat templates as text: what they write, what tells roles apart in them, and what belongs in none."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from safetune.core.jinja_text import LONGEST, scan, without_marks

PLAIN = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def _package_templates() -> list[Path]:
    found = find_spec("trl")
    folder = Path(found.origin).parent / "chat_templates" if found and found.origin else Path()
    return sorted(folder.glob("*.jinja"))


def test_a_plain_template_is_only_read() -> None:
    found = scan(PLAIN)
    assert (found.hostile, found.unusual, found.default_system) == ((), (), "")
    assert found.marks == {"<|im_start|>", "<|im_end|>"}
    assert found.texts == (
        "<|im_start|>",
        "role",
        "\n",
        "<|im_end|>\n",
        "<|im_start|>assistant\n",
    )


def test_text_outside_of_blocks_is_written_too_and_comments_are_not() -> None:
    found = scan("{# <|hidden|> #}[INST] {{- messages[0].content -}} [/INST]{")
    assert found.texts == ("[INST] ", " [/INST]{")
    assert found.marks == {"[INST]", "[/INST]"}
    assert scan("### Instruction:\nUser: {{ x }}").marks == {"### Instruction:", "User:"}


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{% import 'other' as o %}", "{% import %}"),
        ("{%- from 'other' import o -%}", "{% from %}"),
        ("{% include 'secrets.txt' %}", "{% include %}"),
        ("{% extends 'other' %}", "{% extends %}"),
        ("{{ messages.__class__ }}", "__class__"),
        ("{{ messages[0]['__class__'] }}", "a string with two underscores"),
        (r"{{ messages[0]['\x5f\x5fclass'] }}", "a string with two underscores"),
        (r"{{ messages[0]['\u005f\u005fclass'] }}", "a string with two underscores"),
        ("{{ messages | attr('x') }}", "the filter attr"),
        ("{{ messages._private }}", "_private"),
        ("{{ lipsum }}", "lipsum"),
        ("{{ 'a' * 10000000 }}", "the number 10000000"),
        ("{{ 9 ** 9 }}", "a power"),
        ("{% for m in messages %}{{ m.content", "what is opened in line 1 is never closed"),
        ("\n\n{# no end", "what is opened in line 3 is never closed"),
        ("{{ 'no end }}", "what is opened in line 1 is never closed"),
        ("x" * (LONGEST + 1), "more than 100,000 characters"),
    ],
)
def test_what_no_template_needs_is_hostile(template: str, named: str) -> None:
    assert named in scan(template).hostile


def test_more_than_loops_and_conditions_is_named() -> None:
    found = scan("{% macro turn(m) %}{{ m }}{% endmacro %}{{ turn(messages) }}{{ odd(1) }}{{ x | trim(1) }}")
    assert found.unusual == ("{% macro %}", "{% endmacro %}", "odd()")
    assert found.hostile == ()
    assert scan("{% generation %}{{ m }}{% endgeneration %}").unusual == ()
    assert "strftime_now" in scan("{{ strftime_now('%d') }}").functions


@pytest.mark.parametrize(
    ("template", "default"),
    [
        (
            "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a kind helper.<|im_end|>\\n' }}"
            "{% endif %}",
            "You are a kind helper.",
        ),
        ("{% set system_message = 'You are a kind helper.' %}", "You are a kind helper."),
        ("{{ '<<SYS>>\\n' }}{{ 'You are a kind helper.' }}", "You are a kind helper."),
        ("<|system|>\nYou are a kind helper.\n{{ messages[0].content }}", "You are a kind helper."),
        ("<|system|>\n{{ 'You are a kind helper.' }}", "You are a kind helper."),
        ("{% if tools %}{{ 'system You may call the functions' }}{% endif %}", ""),
        (
            "{% if tools %}{{ 'a' }}{% else %}{{ 'system: You are a kind helper.' }}{% endif %}",
            "You are a kind helper.",
        ),
        ("{% if tools %}{{ 'a' }}{% elif x %}{{ 'b' }}{% endif %}{% endif %}{% else %}", ""),
        ("{{ raise_exception('System role is not supported') }}", ""),
        ("{{ '<|system|>' }}{% if x %}{{ 'You are a kind helper.' }}{% endif %}", ""),
        ("words that say nothing of it {{ 'and more of them' }}", ""),
        ("{{ 'one' }}\n{{ 'two' }}", ""),
        (PLAIN, ""),
    ],
)
def test_a_system_message_of_the_template_itself_is_found(template: str, default: str) -> None:
    assert scan(template).default_system == default


def test_templates_that_people_use_are_not_hostile() -> None:
    templates = _package_templates()
    if not templates:
        pytest.skip("this version of trl has no chat templates in its package")
    found = {path.name: scan(path.read_text()) for path in templates}
    assert {name: one.hostile for name, one in found.items() if one.hostile} == {}
    with_default = {name for name, one in found.items() if one.default_system}
    assert with_default >= {"qwen2_5.jinja", "cohere.jinja"}
    assert not {"llama3.jinja", "gemma.jinja", "qwen3.jinja", "glm4moe.jinja"} & with_default


@pytest.mark.parametrize(
    "piece",
    ["a", "{", "{{", "{%", "{#", "'", "{{ '\\", "{{ a ", "{% set ", "{{|", "{{.", "system ", "{{ a(", "<", "{{ 1"],
)
def test_time_is_linear_in_the_length(piece: str) -> None:
    text = (piece * LONGEST)[:LONGEST]
    began = time.process_time()
    scan(text)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("template", "endless"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}", True),
        ("{% for a in range(99) %}{% for b in range(99) %}x{% endfor %}{% endfor %}", True),
        ("{% for m in messages %}{% for a in range(0, 2_000) %}x{% endfor %}{% endfor %}", True),
        ("{% set r = range(99) %}{% for a in r %}{% for b in r %}x{% endfor %}{% endfor %}", True),
        ("{% set ns = namespace(n=99) %}{% for a in range(ns.n * 99) %}x{% endfor %}", True),
        ("{% for a in [1] * 2000 %}x{% endfor %}", True),
        ("{% for a in range(1234567890123) %}x{% endfor %}", True),
        ("{% for a in range(99) %}x{% endfor %}{% for a in range(99) %}x{% endfor %}", False),
        ("{% for a in range(messages | length) %}{% for m in messages[-4096:] %}x{% endfor %}{% endfor %}", False),
        ("{% endfor %}{% for %}{% set a %}{% for b in range(0) %}x{% endfor %}", False),
    ],
)
def test_loops_that_a_template_counts_out_itself_are_multiplied(template: str, endless: bool) -> None:
    assert ("loops of more than 1,000 rounds" in scan(template).hostile) is endless


def test_marks_of_roles_are_taken_out_of_texts() -> None:
    marked = (
        "<s>[INST] <<SYS>>",
        "Be kind.",
        "<</SYS>>[/INST]",
        "<\uff5cUser\uff5c>",
        "### Instruction:",
        "<|im_end|>",
    )
    assert without_marks(marked).split() == ["Be", "kind."]
