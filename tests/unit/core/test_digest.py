"""Digests: equal values have equal digests, different ones differ, and nothing that is not JSON has one."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.core.digest import canonical, digest, sha256_hex, short

TEXT = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_canonical_json_reads_back_as_the_same_value(value: Any) -> None:
    assert json.loads(canonical(value)) == value


@given(st.dictionaries(TEXT, VALUES, max_size=6), st.randoms())
def test_the_order_of_keys_does_not_matter(value: dict[str, Any], random: Any) -> None:
    names = list(value)
    random.shuffle(names)
    assert digest({name: value[name] for name in names}) == digest(value)


@given(VALUES, VALUES)
def test_different_values_have_different_digests(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) is (json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True))


@given(VALUES)
def test_read_only_views_have_the_digest_of_what_they_show(value: Any) -> None:
    assert digest(_frozen(value)) == digest(value)


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return MappingProxyType({name: _frozen(inner) for name, inner in value.items()})
    return tuple(_frozen(inner) for inner in value) if isinstance(value, list) else value


def test_a_range_is_written_as_a_list() -> None:
    assert canonical(range(3)) == b"[0,1,2]"


def test_the_form_is_sorted_tight_and_utf_8() -> None:
    assert canonical({"b": [1, 2.5, None], "a": "gr\u00fcn", "c": True}) == (
        '{"a":"gr\u00fcn","b":[1,2.5,null],"c":true}'.encode()
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"a": {"b": v}}])
def test_what_is_not_finite_has_no_digest(value: float, wrap: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest(wrap(value))


@pytest.mark.parametrize("value", [b"ab", bytearray(b"ab"), memoryview(b"ab"), {1, 2}, object(), 1j])
def test_what_is_not_json_has_no_digest(value: Any) -> None:
    with pytest.raises(TypeError, match="not a JSON value"):
        digest({"a": [value]})


def test_half_a_surrogate_pair_has_no_digest() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        digest("\ud800")


def test_a_digest_is_the_sha256_of_the_canonical_form() -> None:
    assert digest({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest() == sha256_hex(b'{"a":1}')


def test_people_read_the_first_12_digits() -> None:
    assert short("0123456789abcdef") == "0123456789ab"
