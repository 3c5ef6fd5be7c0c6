"""The `presidio` guard: its options, what it says when presidio is missing, and what its recognisers find."""

from __future__ import annotations

import importlib.util
import socket
import sys
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace

import pytest
from guardrows import setup
from plantings import row

from safetune.builtin.guards.presidio import RECOGNISERS, PresidioGuard
from safetune.core.errors import UsageError

INSTALLED = importlib.util.find_spec("presidio_analyzer") is not None


class _Ats:
    """Finds every `@`, weakly when it is the last character, and cannot read a tab."""

    supported_entities = ("AT",)

    def analyze(self, text: str, entities: Sequence[str], nlp_artifacts: None = None) -> list[SimpleNamespace]:
        assert list(entities) == ["AT"]
        if "\t" in text:
            raise RuntimeError(text)
        return [
            SimpleNamespace(start=n, end=n + 1, score=0.4 if n == len(text) - 1 else 1.0)
            for n, c in enumerate(text)
            if c == "@"
        ]


@pytest.fixture
def suffixes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A presidio of one recogniser, and the list of suffixes that it asks."""
    recognisers, suffixes = ModuleType("presidio_analyzer.predefined_recognizers"), ModuleType("tldextract")
    vars(recognisers)["EmailRecognizer"] = _Ats
    vars(suffixes)["TLDExtract"] = lambda **options: options
    monkeypatch.setitem(sys.modules, "presidio_analyzer", ModuleType("presidio_analyzer"))
    monkeypatch.setitem(sys.modules, recognisers.__name__, recognisers)
    monkeypatch.setitem(sys.modules, "tldextract", suffixes)
    return suffixes


def test_what_is_missing_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(UsageError, match="not installed") as caught:
        PresidioGuard().begin(setup())
    assert "safetune[presidio]" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recogniser": ["email"]}, 'no option "recogniser"'),
        ({"recognisers": ["emial"]}, 'no recogniser is called "emial"'),
        ({"recognisers": []}, "a list of names"),
        ({"recognisers": "email"}, "a list of names"),
        ({"score": 2}, "from 0 to 1"),
        ({"score": True}, "from 0 to 1"),
        ({"score": "high"}, "from 0 to 1"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PresidioGuard(options)  # type: ignore[arg-type]


def test_findings_have_spans_and_labels_from_the_least_score_on(suffixes: ModuleType) -> None:
    guard = PresidioGuard({"recognisers": ["email"]})
    guard.begin(setup())
    (found,) = guard.check([row("none"), row("a@b@")])
    assert (found.row, found.rule, found.path, found.start, found.end) == (1, "email", "t[0]", 1, 2)
    assert found.label == "[EMAIL]"
    low = PresidioGuard({"recognisers": ["email"], "score": 0.3})
    low.begin(setup())
    assert len(low.check([row("a@b@")])) == 2
    assert list(low.end()) == []


def test_no_list_of_suffixes_is_fetched(suffixes: ModuleType) -> None:
    PresidioGuard({"recognisers": ["email"]}).begin(setup())
    assert vars(suffixes)["extract"] == {"suffix_list_urls": (), "cache_dir": None}


def test_a_text_that_a_recogniser_cannot_read_is_a_finding_without_its_words(suffixes: ModuleType) -> None:
    guard = PresidioGuard({"recognisers": ["email"]})
    guard.begin(setup())
    (found,) = guard.check([row("private\twords")])
    assert (found.row, found.path, found.label) == (0, "", "")
    assert "private" not in found.note


def test_a_recogniser_that_this_presidio_lacks_is_named(suffixes: ModuleType) -> None:
    with pytest.raises(UsageError, match="IbanRecognizer"):
        PresidioGuard({"recognisers": ["email", "iban"]}).begin(setup())


@pytest.mark.skipif(not INSTALLED, reason="presidio-analyzer is not installed")
def test_its_own_recognisers_find_what_they_should_without_network_or_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    had = "torch" in sys.modules
    guard = PresidioGuard()
    guard.begin(setup())
    assert ("torch" in sys.modules) == had
    assert len(guard.rules) == len(RECOGNISERS)
    rules = {f.rule for f in guard.check([row("jo@web.org, 4111 1111 1111 1111, DE89370400440532013000, 8.8.8.8")])}
    assert {"email", "card", "iban", "ip"} <= rules
