"""Hostile texts for every output."""

from __future__ import annotations

import unicodedata

import pytest

_BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_ZERO_WIDTH = (
    "\u00ad\u034f\u115f\u1160\u17b4\u180b\u180e\u200b\u200c\u200d"
    "\u2060\u2061\u2062\u2063\u2064\u206a\u3164\ufe0f\ufeff\uffa0"
)
_BREAKS = "\u0085\u2028\u2029"
_ODD = "\ud800\udbff\udc00\udfff\ufffe\uffff\U000e0001\U000e0041\U000e007f\U000e0100\U0010ffff\ue000\u2800\u0378"
_SEQUENCES = (
    "\x1b[2J\x1b[H", "\x1b[31mred\x1b[0m", "\x1b[1A\x1b[2K", "\x1b[?1049h", "\x1b[?25l", "\x1b[6n", "\x1bc", "\x1b(0",
    "\x1b]0;title\x07", "\x1b]2;title\x1b\\", "\x1b]8;;http://example.test\x07link\x1b]8;;\x07",
    "\x1b]52;c;aGVsbG8=\x07", "\x1b]1337;File=inline=1:AAAA\x07", "\x1b]4;1;?\x07", "\x1b]50;font\x07",
    "\x1b]9;4;1;50\x07", "\x1bP$q\"p\x1b\\", "\x1bPtmux;x\x1b\\", "\x1b_app\x1b\\", "\x1b^pm\x1b\\", "\x1bXsos\x1b\\",
    "\x9b31m", "\x9d0;t\x9c", "\x90q\x9c", "\x9fapp\x9c", "\x1b[5i", "\x1b[4i", "\x1b[20h", "\x1b[8;1;1t", "\x1b[21t",
    "\x1b[>c", "\x05", "PASS\rFAIL", "FAIL\x08\x08\x08\x08PASS", "a\nGATE sft   PASS",
    "a\r\nnext: safetune run evil.yaml", "\tindent", "::error::boo", "::set-output name=x::y",
    "  ::warning file=a::b", "::stop-commands::tok", "::add-mask::x", "##[error]boo", "a ##[group]b",
    "##vso[task.setvariable variable=x]y", "##teamcity[buildStatus text='x']", "####[x]", "<script>alert(1)</script>",
    "![x](http://example.test/x)", "[x](javascript:alert(1))", "=cmd|' /C calc'!A0", "@SUM(1)", "+1+1", "-1+1",
    "%s%n%x", "{0.__class__}", "${HOME}", "$(id)", "`id`", "'; drop table", "\\x1b[2J", "..\\..\\x", "../../x",
    "e" + "\u0301" * 400, "\u0e01" + "\u0e49" * 100, "\u20dd" * 50, "\u200d".join("abc"), "a\u202egpj.exe",
    "\u2066x\u2069", "\x00", "a\x00b", "\x7f" * 3, "x" * 5_000, "\x1b" * 2_000, "\u202e" * 500,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "", " ", "\u00a0", "\u3000", "\u2003wide", "日本語" * 40,
    "\ufdfa" * 30,
)  # fmt: skip


def hostile_texts() -> tuple[str, ...]:
    """Every control character, every kind of invisible one, and sequences that terminals and build servers obey."""
    single = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
    found = [f"a{c}b" for c in (*single, *_BIDI, *_ZERO_WIDTH, *_BREAKS, *_ODD)]
    found += [f"{c}{c}at the start" for c in (*_BIDI, *_ZERO_WIDTH)]
    return tuple(dict.fromkeys((*found, *_SEQUENCES)))


def raw_controls(text: str) -> list[str]:
    """Return every character of one line that a terminal would obey or hide, as U+XXXX."""
    bad = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    hidden = set(_ZERO_WIDTH) | {"\u2800"} | {chr(c) for c in range(0xFE00, 0xFE10)}
    return [f"U+{ord(c):04X}" for c in text if unicodedata.category(c) in bad or c in hidden]


@pytest.fixture(scope="session")
def hostile() -> tuple[str, ...]:
    """At least 200 hostile texts."""
    texts = hostile_texts()
    assert len(texts) >= 200
    return texts


@pytest.fixture(scope="session")
def controls_in() -> object:
    """The function that finds raw controls in one line."""
    return raw_controls
