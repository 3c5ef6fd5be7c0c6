"""The `secrets` guard: every kind by its form, what only holds a place, and what is no secret."""

from __future__ import annotations

import pytest
from plantings import ALNUM, HEX, Maker, github, row, secrets

from safetune.builtin.guards.secrets import SecretsGuard

MAKER = Maker(11)
KINDS = secrets(MAKER)
DASHES = "-" * 5


def _hits(text: str) -> list[tuple[str, str]]:
    return [(f.rule, text[f.start : f.end]) for f in SecretsGuard().check([row(text)])]


@pytest.mark.parametrize("rule", SecretsGuard.rules)
def test_every_kind_is_found_by_its_form(rule: str) -> None:
    text = KINDS[rule]
    start, end = text.index("<<"), text.index(">>") - 2
    plain = text.replace("<<", "").replace(">>", "")
    assert _hits(plain) == [(rule, plain[start:end])]


def test_there_are_more_than_15_kinds() -> None:
    assert len(SecretsGuard.rules) >= 40


@pytest.mark.parametrize("rule", SecretsGuard.rules)
def test_a_secret_in_code_and_in_json_is_found_too(rule: str) -> None:
    secret = KINDS[rule].partition("<<")[2].partition(">>")[0]
    for text in (f'x = ["{secret}"]', f"token: {secret}\n", f"(service key `{secret}`)"):
        if rule not in ("aws_secret_key", "assignment", "entropy"):
            assert rule in [hit for hit, _ in _hits(text)], text.replace(secret, "...")


def test_no_finding_holds_the_secret() -> None:
    for rule, text in KINDS.items():
        secret = text.partition("<<")[2].partition(">>")[0]
        for found in SecretsGuard().check([row(text.replace("<<", "").replace(">>", ""))]):
            assert found.label == f"[{found.rule.upper()}]"
            assert secret[:8] not in found.note + found.label + found.path, rule


def test_a_token_whose_check_sum_does_not_fit_is_found_and_said_to_be_doubtful() -> None:
    good = github(Maker(5))
    wrong = good[:-1] + ("a" if good[-1] != "a" else "b")
    (right,) = SecretsGuard().check([row(f"use {good}")])
    (doubtful,) = SecretsGuard().check([row(f"use {wrong}")])
    assert right.note == ""
    assert "check sum" in doubtful.note


# Forms with nothing in them, in pieces so that no scanner takes this file for a leak.
PLACEHOLDERS = (
    "AK" + "IA" + "IOSFODNN7EXAMPLE",
    "gh" + "p_" + "x" * 36,
    "gh" + "p_" + "a" * 36,
    "sk" + "_live_" + "your_key_goes_here_1234",
    "AI" + "za" + "0" * 35,
    f"{DASHES}BEGIN RSA PRIVATE KEY{DASHES}\n...\n{DASHES}END RSA PRIVATE KEY{DASHES}",
    f"{DASHES}BEGIN PRIVATE KEY{DASHES}",
    f"{DASHES}BEGIN CERTIFICATE{DASHES}\n{Maker(1).of(ALNUM, 600)}\n{DASHES}END CERTIFICATE{DASHES}",
    "postgres://user:password@localhost/db",
    "https://user:${TOKEN}@host.org/",
    "https://{user}:{secret}@host.org/",
    'password = "changeme123"',
    'api_key = "<your-api-key-1>"',
    'api_key = "YOUR_API_KEY_1"',
    'token = "xxxxxxxxxxxx1"',
)
NO_SECRETS = (
    "password = getpass.getpass('x1')",
    "password=os.environ['PASSWORD_1']",
    "token = self.token_store.next2",
    "self.secret_key = b64encode(urandom(64))",
    'password_reset_template = "auth/password_reset1.html"',
    'password_hash = "a1B2c3D4e5F6"',
    "the api key Getting_started_with_Version2_release",
    "The password: correct horse battery staple",
    "key: 123e4567-e89b-12d3-a456-426614174000",
    f"the sha256 key is {Maker(2).of(HEX, 64)}",
    f"commit {Maker(3).of(HEX, 40)} fixes the token",
    f"key data:image/png;base64,{Maker(4).of(ALNUM, 80)}",
    f"a digest such as {Maker(5).of(HEX, 32)}",
    f"token {'lorem ipsum dolor sit amet ' * 5}",
    "https://a.example/the-secret-key-to-a-long-and-happy-life-2024",
    "secret santa: https://a.example/wiki/Secret_Santa_(Christmas)_2019_edition",
    "eyJub3QiOiJhIGhlYWRlciJ9.eyJub3QiOiJhIGp3dCJ9.AbCdEfGhIjKlMnOpQrStUv",
    "key = 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1'",
)


@pytest.mark.parametrize("text", PLACEHOLDERS)
def test_what_holds_the_place_of_a_secret_is_none(text: str) -> None:
    assert _hits(f"see {text} there") == []


@pytest.mark.parametrize("text", NO_SECRETS)
def test_it_leaves_alone(text: str) -> None:
    assert _hits(text) == []


def test_the_rule_that_says_more_wins() -> None:
    key = github(Maker(6))
    assert [rule for rule, _ in _hits(f'token = "{key}"')] == ["github_token"]
    assert _hits(f'token = "v1:{key}"') == [("github_token", f"v1:{key}")]


def test_a_key_is_found_to_its_end_and_not_beyond_its_text() -> None:
    body = Maker(7).of(ALNUM, 400)
    key = f"{DASHES}BEGIN EC PRIVATE KEY{DASHES}\n{body}"
    first, second = SecretsGuard().check([row(key, "after"), row(f"{key}\n{DASHES}END EC PRIVATE KEY{DASHES} after")])
    assert (first.row, first.start, first.end) == (0, 0, len(key))
    assert second.end == len(key) + 1 + len(f"{DASHES}END EC PRIVATE KEY{DASHES}")


def test_no_rows_and_empty_texts_have_nothing() -> None:
    assert list(SecretsGuard().check([])) == []
    assert _hits("") == []
    assert list(SecretsGuard().end()) == []
