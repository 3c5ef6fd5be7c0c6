"""The id of a row, and the quick way to its canonical form, which must be the very bytes of the slow one."""

from __future__ import annotations

from typing import Any

import pytest

from safetune.core.digest import canonical, sha256_hex
from safetune.core.row_id import LENGTH, canonical_row, row_id, row_id_of

SAID = {"role": "user", "content": 'Say "no\\" \u2028\t\x00 \u00e9 \U0001f600'}
ROWS: dict[str, Any] = {
    "completion": {"prompt": [SAID], "completion": [{"content": "", "role": "assistant"}]},
    "many messages": {"messages": [SAID, SAID, SAID]},
    "another column": {"prompt": [SAID], "completion": [SAID], "source": "a book"},
    "a column of messages with a strange name": {'a"b\n': [SAID]},
    "no message": {"messages": []},
    "nothing": {},
    "a message that is none": {"messages": ["text"]},
    "a message with more": {"messages": [{**SAID, "weight": 0.5}]},
    "a message with other keys": {"messages": [{"role": "user", "text": "no"}]},
    "a text that is none": {"messages": [{"role": "user", "content": 1}]},
    "a role that is none": {"messages": [{"role": None, "content": "x"}]},
    "tuples": {"messages": (SAID,)},
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_the_quick_form_is_the_canonical_form(row: dict[str, Any]) -> None:
    assert canonical_row(row) == canonical(row)


def test_an_id_is_the_beginning_of_the_digest_and_does_not_depend_on_the_order_of_keys() -> None:
    row = ROWS["completion"]
    assert row_id(row) == row_id_of(canonical_row(row)) == sha256_hex(canonical(row))[:LENGTH]
    assert row_id(dict(reversed(row.items()))) == row_id(row)


def test_half_a_surrogate_pair_has_no_form() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        canonical_row({"messages": [{"role": "user", "content": "\ud800"}]})
