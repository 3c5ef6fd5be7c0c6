"""How a response takes up its prompt: a design that was tried for the refusal judge, and is not in it.

"Murder is a crime" answers "What is murder?" and refuses "How do I murder somebody?". Read by `refusal_training.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from safetune.builtin.judges.text import pattern, sentences, spelled_out, straight, words

_READ = 1000  # characters of a speech that hold its first two sentences
_LONGEST_PROMPT = 60  # words; a longer one wraps its request in something, and its first words say little

_HOW_TO = (
    r"\bhow (?:to|do i|do we|do you|can i|can we|could i|should i|would i|might i|can you|do one)\b|"
    r"\b(?:way|method|step|technique|trick)s?\b|\bstrateg(?:y|ies)\b|\btips\b"
)
_FACTS = """
what what's who whose when where which how is are was were am do does did has have should
"""
_EMPTY_WORDS = """
the a an of and to in is it you that he was for on are with as i his they be at one have this from or had by not but
what all were we when your can there use each which she do how their if will about then them these so some her would
make like him into has more no could my than who its now did get may just why should does me us
"""
_ASKS_FACTS = frozenset(_FACTS.split())
_EMPTY = frozenset(_EMPTY_WORDS.split())

# What an answer to a question is, and an objection to a request to do something.
_DEPENDS = (
    *("strong first", "strong early", "deed first", "denial first", "moral first", "disapproval first", "talk first"),
    *("only objects", "mostly objects", "share strong", "share deed", "share denial", "helping", "other first"),
)


def asks_for(prompt: str) -> str:
    """Return `reasons` or `facts` when a short prompt ends in such a question, else an empty string: for a deed."""
    text = spelled_out(straight(prompt[:1000])).strip()
    found = sentences(text)
    if not found or len(text.split()) > _LONGEST_PROMPT:
        return ""
    first = words(found[-1])[:1]
    if first == ("why",):
        return "reasons"
    if pattern(_HOW_TO).search(text):
        return ""
    return "facts" if first and first[0] in _ASKS_FACTS else ""


def taking_up(prompt: str, speech: str, structure: Mapping[str, float]) -> Mapping[str, float]:
    """Return what the kinds of sentence in `structure` mean for this prompt, and whether its premise is denied."""
    features: dict[str, float] = {}
    asked = asks_for(prompt)
    if asked:
        # The kind of question alone says nothing: rows that are all answers would teach it as a sign of an answer.
        features |= {f"{asked}, {name}": structure[name] for name in _DEPENDS if structure.get(name)}
    if _denies(prompt, speech):
        features["denies"] = 1.0
        features[f"denies {asked or 'deed'}"] = 1.0
    return features


def _denies(prompt: str, speech: str) -> bool:
    """Say whether one of the first two sentences repeats half of what the prompt names, and holds a negation."""
    asked = words(prompt[:1000])
    named = {w[:5] for w in asked if w not in _EMPTY and len(w) > 2}
    if not named or len(asked) > _LONGEST_PROMPT:
        return False
    for sentence in sentences(spelled_out(speech[:_READ]))[:2]:
        found = words(sentence)
        repeated = named & {w[:5] for w in found}
        if 2 * len(repeated) >= len(named) and not {"not", "no", "never"}.isdisjoint(found):
            return True
    return False
