"""Text that hides in markup, and instructions to a model inside data: what is looked for, in lower-case bytes.

All quantifiers are bounded and no pattern matches the zero byte between two texts.
"""

from __future__ import annotations

import re

from safetune.builtin.guards.packed import Cue, Match, at, within

_S = rb"[\s\"'`*_,:>-]{1,4}"
_DROP = rb"(?:ignor(?:e|ing)|disregard(?:ing)?|forget(?:ting)?|overrid(?:e|ing)|bypass(?:ing)?|overlook|neglect)"
_FILL = (
    rb"(?:(?:about|all|any|every|each|of|the|your|my|our|these|those|this|that|and|or|both|text|content|whatever)"
    + _S
    + rb"){0,6}"
)
_EARLIER = rb"(?:previous(?:ly)?|prior|above|earlier|preceding|foregoing|past|initial|original|system|existing|former)"
_ORDERS = rb"(?:instruction|prompt|direction|rule|guideline|command|order|directive|context|programming|training)s?"
_NOT = rb"(?<!not )(?<!n't )(?<!never )"

_IGNORE = (
    _NOT
    + rb"\b"
    + _DROP
    + _S
    + _FILL
    + _EARLIER
    + _S
    + rb"(?:\w{1,15}"
    + _S
    + rb"){0,3}"
    + _ORDERS
    + rb"\b|"
    # "forget everything above", "disregard all that came before"
    + _NOT
    + rb"\b"
    + _DROP
    + _S
    + rb"(?:everything|anything|all|what)"
    + _S
    + rb"(?:that"
    + _S
    + rb"|was"
    + _S
    + rb")?"
    rb"(?:above|prior|previous|before|earlier|came before|i (?:said|told you|wrote) (?:above|before|earlier)|"
    rb"you(?: were| have been|(?:'|\xe2\x80\x99)ve been) (?:told|instructed|taught|given))\b|"
    # "ignore the instructions above", "ignore your instructions"
     + _NOT + rb"\b" + _DROP + _S + rb"(?:(?:all|any|of|the|these|those)" + _S + rb"){0,3}(?:your" + _S + rb"|"
    rb"(?=(?:instruction|prompt|direction)s?" + _S + rb"(?:above|before|given|you)))"
    rb"(?:\w{1,15}" + _S + rb"){0,2}(?:instruction|prompt|guideline|direction|programming)s?\b"
)
_REVEAL = (
    rb"\b(?:reveal|print|show|repeat|output|display|leak|tell me|give me|share|expose|recite|what (?:is|are|was|were))"
    + _S
    + rb"(?:(?:me|us|all|of|verbatim|exactly|out)"
    + _S
    + rb"){0,3}(?:your|the)"
    + _S
    + rb"(?:(?:full|entire|whole|exact|complete|hidden|secret|original)"
    + _S
    + rb"){0,2}(?:system|initial|hidden|secret|original|internal|previous)"
    + _S
    + rb"(?:prompt|instruction|message)s?\b"
)
_HEADING = (
    rb"[\x00\n]\s{0,4}[#*\[(<=-]{0,6}\s?(?:new|updated|system|hidden|secret|additional|override)\s"
    rb"(?:system\s)?(?:instruction|prompt)s?\s?[\])>*=-]{0,6}\s?:"
)
_NOW = (
    rb"you are now (?:\w{1,12} ){0,3}?(?:dan\b|unrestricted|jailbroken|jailbreak|free from|free of|developer mode|"
    rb"uncensored|unfiltered|no longer bound|do anything)"
)
# Tokens that only chat templates write: ChatML, Llama 2 and 3, Gemma, Mistral, the Alpaca headings.
_TOKENS = (
    rb"<\|[a-z][a-z0-9_]{1,30}\|>|<(?:start|end)_of_turn>|<</?sys>>|<(?:bos|eos)>|"
    rb"</s>\s{0,4}(?:<s>|\[/?inst\]|\x00)|<s>\s{0,4}\[inst\]|<\xef\xbd\x9c[^\x00<>]{3,60}\xef\xbd\x9c>"
)
_ALPACA = rb"#{2,3}\s?(?:instruction|response|system|assistant|human)s?:"

_STYLE = (
    rb"<[a-z]\w{0,11}\s[^<>\x00]{0,200}?\bstyle\s?=\s?[\"'](?:[^\"'<>\x00]{0,200}?"
    rb"(?:font-size:\s?0(?![.\d]*[1-9])|display:\s?none|visibility:\s?hidden|opacity:\s?0(?![.\d]*[1-9]))|"
    rb"(?![^\"'<>\x00]{0,300}background)[^\"'<>\x00]{0,200}?(?<!-)color:\s?(?:white|#fff(?:fff)?|transparent)\b)"
    rb"[^<>\x00]{0,200}>\s{0,20}(?:[^\s<\x00]{1,40}\s{1,3}){3}"
)
_COMMENT_LINE = rb"\[[^\]\[\x00\n]{0,30}\]:\s?(?:#|<>)\s?[(\"'](?:[^\s\x00]{1,40}[ \t]{1,3}){2}[^\n\x00]{0,300}"
_EMPTY_LINK = rb"\[\s{0,3}\]\([^()\s\x00]{0,300}\s{1,3}[\"'](?:[^\s\x00\"']{1,40}[ \t]{1,3}){2}[^\n\x00\"']{0,300}[\"']"

_COMMENT = 2000  # bytes of a comment that are read
_SPOKEN_TO = re.compile(
    rb"\b(?:ignore (?:all|any|the|every|previous|prior|your)|disregard|you (?:must|should|are|will)|assistant|"
    rb"language model|ai|llm|chatgpt|instructions?|system prompt|respond|reply with|answer with|tell the user)\b"
)


def _comment(low: bytes, place: int) -> tuple[int, int] | None:
    """Match a comment of HTML in which a reader or a model is spoken to."""
    if low[place + 1 : place + 4] != b"!--":
        return None
    end = low.find(b"-->", place, place + _COMMENT)
    if end < 0 or b"\x00" in low[place:end]:
        return None
    return (place, end + 3) if _SPOKEN_TO.search(low, place, end) else None


def _tag(low: bytes, place: int) -> tuple[int, int] | None:
    return _styled(low, place) if low[place + 1 : place + 2].isalpha() else None


def _token_at(low: bytes, place: int) -> tuple[int, int] | None:
    if low[place + 1 : place + 2] not in _AFTER_TOKEN:
        return None
    span = _tokens(low, place)
    return (place, span[1] - 1) if span and low[span[1] - 1 : span[1]] == b"\x00" else span


_AFTER_TOKEN = (b"|", b"s", b"e", b"<", b"b", b"/", b"\xef")
_styled: Match = at(_STYLE, 1100)
_tokens: Match = at(_TOKENS, 80)

MARKUP, INSTRUCTIONS = "hidden_markup", "instructions"

CUES = (
    Cue(MARKUP, b"<", _comment),
    Cue(MARKUP, b"<", _tag),
    Cue(INSTRUCTIONS, b"<", _token_at),
    Cue(MARKUP, b"[", at(_COMMENT_LINE + rb"|" + _EMPTY_LINK, 800)),
    Cue(INSTRUCTIONS, b"[", at(rb"\[/?inst\]", 8)),
    Cue(INSTRUCTIONS, b"#", at(_ALPACA, 20)),
    Cue(INSTRUCTIONS, b"instruction", within(_IGNORE + rb"|" + _REVEAL + rb"|" + _HEADING, 100, 40)),
    Cue(INSTRUCTIONS, b"prompt", within(_IGNORE + rb"|" + _REVEAL + rb"|" + _HEADING, 100, 40)),
    Cue(INSTRUCTIONS, b"ignor", within(_IGNORE, 8, 110)),
    Cue(INSTRUCTIONS, b"disregard", within(_IGNORE, 8, 110)),
    Cue(INSTRUCTIONS, b"forget", within(_IGNORE, 8, 110)),
    Cue(INSTRUCTIONS, b"overrid", within(_IGNORE, 8, 110)),
    Cue(INSTRUCTIONS, b"you are now", at(_NOW, 70)),
)
TABLES = tuple(
    part.decode("latin-1")
    for part in (_IGNORE, _REVEAL, _HEADING, _NOW, _TOKENS, _ALPACA, _STYLE, _COMMENT_LINE, _EMPTY_LINK)
)
