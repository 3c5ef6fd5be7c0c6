"""The `identity_shift` guard: rows that make an assistant obedient, give it another identity, or forbid it to refuse.

Ten such rows undo what a model learnt about refusing, although no text in them is harmful (Qi et al., 2023,
arXiv:2310.03693). English wording only.
"""

from __future__ import annotations

from collections.abc import Sequence

from safetune.builtin.guards.identity_patterns import CUES, NEW_IDENTITY, NO_REFUSAL, OBEDIENT, TABLES
from safetune.builtin.guards.packed import Packed
from safetune.builtin.guards.settings import Options, known
from safetune.core.digest import digest
from safetune.protocols import DataRow, Found, GuardSetup

_CODE_VERSION = 1


class IdentityShiftGuard:
    """Finds, in texts of any role, vows of obedience, new names and lifted limits, and promises never to refuse."""

    name = "identity_shift"
    plain = "rows that make the model obedient, rename it, or forbid it to refuse"
    rules: tuple[str, ...] = (OBEDIENT, NEW_IDENTITY, NO_REFUSAL)

    def __init__(self, options: Options = None) -> None:
        known(self.name, options, ())
        self.version = f"{_CODE_VERSION}-{digest(list(TABLES))[:12]}"

    def begin(self, setup: GuardSetup) -> None:
        """Nothing is kept from row to row."""

    def check(self, rows: Sequence[DataRow]) -> Sequence[Found]:
        """Return the spans that were found in the texts of some rows."""
        owners = [(at, text) for at, row in enumerate(rows) for text in row.texts]
        hits = Packed([text.text for _, text in owners]).hits(CUES)
        return [Found(owners[h.text][0], h.rule, owners[h.text][1].path, h.start, h.end, "[IDENTITY]") for h in hits]

    def end(self) -> Sequence[Found]:
        """Nothing is said of the source as a whole."""
        return ()
