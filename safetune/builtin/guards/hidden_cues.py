"""The `hidden_cues` guard: what a person does not see in a row and a model reads, and phrases that steer answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from safetune.builtin.guards import cue_patterns
from safetune.builtin.guards.confusables import mixed_words
from safetune.builtin.guards.cue_patterns import CUES, INSTRUCTIONS, MARKUP
from safetune.builtin.guards.invisible import CONTROLS, SUSPECT_OR_MIXED, controls, unseen
from safetune.builtin.guards.packed import Packed
from safetune.builtin.guards.settings import Options, known, switch, whole
from safetune.builtin.guards.triggers import TriggerCounts
from safetune.core.digest import digest
from safetune.protocols import DataRow, Found, GuardSetup

ZERO_WIDTH, BIDI, TAGS, HOMOGLYPHS, CONTROL, TRIGGER = "zero_width", "bidi", "tags", "homoglyphs", "control", "trigger"
# What stands in the place of a redacted part; what nobody sees has no label: such a row is dropped.
_LABELS = {CONTROL: " ", HOMOGLYPHS: "[MIXED SCRIPTS]", MARKUP: "[HIDDEN TEXT]", INSTRUCTIONS: "[INSTRUCTION]"}
_ASCII = bytes(range(128))
_CODE_VERSION = 1

Place = tuple[int, str, int, int]


def cues_in(text: str) -> tuple[tuple[str, int, int], ...]:
    """Return rule, start and end (characters) of every hidden cue in one text, by place; triggers need many rows."""
    found = [(start, end, rule) for _, rule, start, end in _found([text])]
    return tuple((rule, start, end) for start, end, rule in sorted(found))


def _found(texts: Sequence[str]) -> Iterator[Place]:
    """Yield number of the text, rule, start and end; what no text holds is looked for once in all of them."""
    packed = Packed(texts)
    yield from ((hit.text, hit.rule, hit.start, hit.end) for hit in packed.hits(CUES))
    low = packed.low
    if len(low.translate(None, CONTROLS)) != len(low) or low.count(b"\x00") != len(texts) + 1:
        yield from ((at, *place) for at, text in enumerate(texts) for place in controls(text))
    if low.isascii():
        return
    strange = set(low.translate(None, _ASCII).decode("utf-8", "replace"))
    if strange.isdisjoint(SUSPECT_OR_MIXED):
        return
    for at, text in enumerate(texts):
        if not text.isascii():
            yield from ((at, *place) for place in unseen(text))
            yield from ((at, HOMOGLYPHS, *span) for span in mixed_words(text))


class HiddenCuesGuard:
    """Finds invisible and turned text, look-alike letters, hidden markup, instructions to a model, rare triggers.

    Options: `triggers`, whether phrases are counted (true when not given); `trigger_rows`, how many rows a trigger has
    at least (10).
    """

    name = "hidden_cues"
    plain = "invisible text, look-alike letters, instructions to a model, rare phrases that steer answers"
    rules: tuple[str, ...] = (ZERO_WIDTH, BIDI, TAGS, HOMOGLYPHS, CONTROL, MARKUP, INSTRUCTIONS, TRIGGER)
    remembers = True

    def __init__(self, options: Options = None) -> None:
        given = known(self.name, options, ("triggers", "trigger_rows"))
        self._counting = switch(self.name, given, "triggers", True)
        self._least = whole(self.name, given, "trigger_rows", 10, 5)
        self._counts = TriggerCounts(self._least)
        self.version = f"{_CODE_VERSION}-{digest(list(cue_patterns.TABLES))[:12]}"

    def begin(self, setup: GuardSetup) -> None:
        """Start counting anew: triggers are looked for in each source by itself."""
        self._counts = TriggerCounts(self._least)

    def check(self, rows: Sequence[DataRow]) -> Sequence[Found]:
        """Return the cues in the texts of some rows, and count phrases."""
        if self._counting:
            for row in rows:
                self._counts.add(row)
        owners = [(at, text) for at, row in enumerate(rows) for text in row.texts]
        found = []
        for number, rule, start, end in _found([text.text for _, text in owners]):
            at, text = owners[number]
            found.append(Found(at, rule, text.path, start, end, _LABELS.get(rule, "")))
        return found

    def end(self) -> Sequence[Found]:
        """Return the triggers of the source: how many rows each, the first lines, and a digest of the phrase."""
        found = []
        for one in self._counts.triggers() if self._counting else ():
            lines = ", ".join(map(str, one.lines))
            phrase = f"{one.words} word{'s' if one.words > 1 else ''}, sha256 {one.digest}"
            note = f"about {one.rows} rows with one phrase ({phrase}) have {one.answer}; lines {lines}"
            found.append(Found(None, TRIGGER, note=note))
        return found
