"""Numbers by text: a dict of a hundred thousand long texts needs hundreds of bytes each, this one needs about 150."""

from __future__ import annotations

from hashlib import blake2b

_SHORT = 48  # characters of a text that is kept as it is: its digest would need as much


class Index:
    """Numbers by text. A short text of ASCII is kept; others are told apart by 128 bits of BLAKE2, and not kept."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers: dict[str | bytes, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def get(self, text: str) -> int | None:
        """Return the number of a text, or None."""
        return self._numbers.get(_key(text))

    def put(self, text: str, number: int) -> None:
        """Keep `number` for a text, in place of any other."""
        self._numbers[_key(text)] = number


def _key(text: str) -> str | bytes:
    if len(text) <= _SHORT and text.isascii():
        return text
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
