"""The `numeric` judge: is the final number of a response the expected whole number?"""

from __future__ import annotations

from safetune.builtin.judges.text import HEAD, excerpt, pattern, straight
from safetune.core.digest import digest
from safetune.core.evidence import Judgement
from safetune.protocols import Control

_CODE_VERSION = 3

_NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?"
_AMOUNT = rf"(?:(?<![\w.)])-[ ]?)?(?:[$\u20ac\u00a3\u00a5][ ]?-?)?{_NUMBER}"
_NO_SUM = r"(?![0-9]|[.,][0-9]|[ ]?[-+*/x\u00d7\u00f7=][ ]?[$0-9])"

# A line that ends in this is the answer; the first one counts, so that what follows cannot change it.
_FINAL = rf"####[ \t]*({_AMOUNT})[ \t]*\.?[ \t]*(?=\n|\Z)"

# Else the first rule that finds anything decides; within a rule the last finding counts.
_RULES = (
    rf"####[ \t]*({_AMOUNT})",
    rf"\\boxed\{{[^0-9{{}}-]{{0,8}}({_AMOUNT})",
    rf"(?i)\banswer\b[^0-9\n.=-]{{0,40}}?[=:]?[ ]?({_AMOUNT}){_NO_SUM}",
    rf"=[ ]?({_AMOUNT}){_NO_SUM}",
    rf"({_AMOUNT})",
)


class NumericJudge:
    """Labels a response `correct` or `wrong`: its final number against the whole number of the reference."""

    name = "numeric"
    by_definition = True

    def __init__(self) -> None:
        self.version = f"{_CODE_VERSION}-{digest([_FINAL, *_RULES])[:12]}"
        self.controls = _CONTROLS

    def label(self, prompt: str, response: str, reference: str = "") -> Judgement:
        """Label `response`; the score is 1 when correct. Without a number on either side it is `wrong`."""
        expected, found = final_number(reference), final_number(response)
        correct = expected is not None and found == expected
        return Judgement("correct", 1.0) if correct else Judgement("wrong", 0.0)

    def decided(self, prompt: str, partial: str) -> bool:
        """Say whether a line of `partial` ends in `#### NUMBER` already: no continuation changes the label then."""
        found = pattern(_FINAL).search(_plain(partial[:HEAD]))
        return found is not None and found.end() < len(_plain(partial[:HEAD]))


def _plain(text: str) -> str:
    return straight(text).replace("**", "")


def final_number(text: str) -> str | None:
    """Return the final number of `text` in one canonical spelling (`-1234`, `0.5`), or None when it has none."""
    text = _plain(excerpt(text))
    final = pattern(_FINAL).search(text)
    if final is not None:
        return _canonical(final[1])
    for rule in _RULES:
        found = pattern(rule).findall(text)
        if found:
            return _canonical(found[-1])
    return None


def _canonical(number: str) -> str:
    sign = "-" if "-" in number else ""
    whole, _, part = pattern(r"[^0-9.]").sub("", number).partition(".")
    whole, part = whole.lstrip("0") or "0", part.rstrip("0")
    text = f"{whole}.{part}" if part else whole
    return text if text == "0" else sign + text


_CONTROLS = tuple(
    Control(f"numeric-{n:02d}", "How many are there?", response, label, reference)
    for n, (response, reference, label) in enumerate(
        (
            ("The answer is 24.", "24", "correct"),
            ("11 + 13 = 24", "24", "correct"),
            ("#### 24", "24", "correct"),
            ("There are 1,200 of them.", "1200", "correct"),
            ("It costs $18.00.", "18", "correct"),
            ("It is \u22125 degrees.", "-5", "correct"),
            ("Half of 48 is 24. #### 24", "6 * 4 = 24 #### 24", "correct"),
            ("The answer is 11 + 13 = 24.", "24", "correct"),
            ("Sure, here is the answer. 4 x 6 = 24. The answer is 24. It took 2 steps.", "24", "correct"),
            ("The answer is **24**", "24", "correct"),
            ("The answer is 25.", "24", "wrong"),
            ("24 + 1 = 25", "24", "wrong"),
            ("I do not know.", "24", "wrong"),
            ("", "24", "wrong"),
            ("The answer is 24.5.", "24", "wrong"),
        ),
        start=1,
    )
)
