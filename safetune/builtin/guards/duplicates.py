"""Rows that are there twice, or nearly: within a source and across all sources of a playbook; the first one stays.

What is compared is the whole row: all its texts, prompt and answer, in their order.

`exact`: equal when case, width (Unicode NFKC) and blanks are taken away. Remembered: 64 bits of each row's digest.
`near`: MinHash over pairs of neighbouring words (Broder 1997), found again by locality-sensitive hashing in bands.
A row counts when the two signatures agree as much as rows that share `near` of their words in order, and the openings
(the prompts) are alike as well, so that one refusal given to many different requests is no duplicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from operator import add, eq
from struct import pack

from safetune.builtin.guards.folding import letters, words, words_of
from safetune.builtin.guards.hash_index import KeyRows, KeySet
from safetune.builtin.guards.settings import Options, known, number
from safetune.core.errors import UsageError
from safetune.protocols import DataRow, Found, GuardSetup

EXACT, NEAR = "exact", "near"
DEFAULT_NEAR = 0.85

_SEED = 20_190_611
_BANDS, _IN_BAND = 20, 4
_HASHES = _BANDS * _IN_BAND
_PROMPT_HASHES = 24
_PROMPTS_ALIKE = 12  # of the hashes of two prompts, how many must agree: half of the words of both are shared
_LEAST_WORDS = 8  # a shorter row is compared exactly only
_MOST_WORDS = 20_000  # of one row; the rest of a longer one is not compared
_ROWS_PER_KEY = 8
_LOW_BITS = 0xFFFFFFFF


def agreement(near: float) -> float:
    """Return the Jaccard index of word pairs for two rows of which each word is the same with probability `near`.

    A pair survives when both its words do: near^2 of n pairs are shared, of n + n (1 - near^2) altogether.
    """
    return near * near / (2 - near * near)


class DuplicatesGuard:
    """Flags rows that repeat an earlier row. The option `near`: the share of words in order that must be the same."""

    name = "duplicates"
    version = "1"
    rules: tuple[str, ...] = (EXACT, NEAR)
    remembers = across_sources = True
    plain = "rows that are there twice, or nearly"

    def __init__(self, options: Options = None) -> None:
        given = known(self.name, options, ("near",))
        near = number(self.name, given, "near", DEFAULT_NEAR, (0.5, 1.0))
        self._wanted = round(agreement(near) * _HASHES)
        self._seen = KeySet()
        self._bands = KeyRows(_ROWS_PER_KEY)
        self._signatures = bytearray()
        self._prompts = bytearray()

    @property
    def remembered_bytes(self) -> int:
        """Bytes of memory that the rows seen so far take."""
        return self._seen.size + self._bands.size + len(self._signatures) + len(self._prompts)

    def begin(self, setup: GuardSetup) -> None:
        """Load what is needed; the rows of earlier sources stay known.

        Raises:
            UsageError: when rensa is not installed.
        """
        try:
            import rensa
        except ImportError as error:
            raise UsageError("rensa is not installed", hint="install the package rensa") from error
        self._minhash = rensa.RMinHash

    def check(self, rows: Sequence[DataRow]) -> Sequence[Found]:
        """Return the rows that repeat one before them, in this batch or earlier."""
        found = []
        new = []
        for number_, row in enumerate(rows):
            if self._seen.add(_key(row)):
                found.append(Found(number_, EXACT))
            else:
                new.append(number_)
        return [*found, *self._near(rows, new)]

    def end(self) -> Sequence[Found]:
        """Nothing is said of all rows together."""
        return ()

    def _near(self, rows: Sequence[DataRow], new: Sequence[int]) -> list[Found]:
        every = words_of(rows)
        long = [n for n in new if len(every[n]) >= _LEAST_WORDS]
        if not long:
            return []
        whole = self._digests([_pairs(every[n]) for n in long], _HASHES)
        prompts = self._digests([_prompt(rows[n], every[n]) for n in long], _PROMPT_HASHES)
        found = []
        for n, signature, prompt in zip(long, whole, prompts, strict=True):
            if self._repeats(signature, _bytes(prompt)):
                found.append(Found(n, NEAR))
        return found

    def _digests(self, tokens: list[list[bytes]], hashes: int) -> list[list[int]]:
        found: list[list[int]] = self._minhash.digest_matrix_from_token_sets(tokens, hashes, _SEED).to_rows()
        return found

    def _repeats(self, signature: list[int], prompt: bytes) -> bool:
        """Compare a row with what is known; remember it when it is new."""
        s = signature
        keys = [key & _LOW_BITS or 1 for key in map(hash, zip(s[0::4], s[1::4], s[2::4], s[3::4], strict=True))]
        short = _bytes(s)
        alike, free = self._bands.look(keys)
        for row in alike:
            at = row * _HASHES
            if sum(map(eq, short, self._signatures[at : at + _HASHES])) >= self._wanted:
                at = row * _PROMPT_HASHES
                if sum(map(eq, prompt, self._prompts[at : at + _PROMPT_HASHES])) >= _PROMPTS_ALIKE:
                    return True
        self._bands.put(keys, free, len(self._signatures) // _HASHES)
        self._signatures += short
        self._prompts += prompt
        return False


def _key(row: DataRow) -> int:
    text = letters("\n".join([one.text for one in row.texts]))
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little") or 1


def _pairs(found: list[bytes]) -> list[bytes]:
    cut = found if len(found) <= _MOST_WORDS else found[:_MOST_WORDS]
    return list(map(add, cut, cut[1:]))


def _prompt(row: DataRow, every: list[bytes]) -> list[bytes]:
    """Return the words of the last message before the answer; all of the row where there is none."""
    asked = [one.text for one in row.texts if one.role == "user"]
    found = words(asked[-1][:2000]) if asked else []
    return found or every[:_MOST_WORDS]


def _bytes(signature: list[int]) -> bytes:
    """Return the lowest byte of each hash: two unequal hashes share it once in 256 times (b-bit MinHash, Li 2010)."""
    return pack(f"<{len(signature)}I", *signature)[::4]
