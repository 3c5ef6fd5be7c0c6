"""The `secrets` guard: keys, tokens and passwords, found by their published forms or by what they are called.

Long words are rare in prose, and every key is one: one search over all texts of a batch, turned into a picture of
where long words are, points at them; the exact forms are tried there only. A finding never holds the secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from safetune.builtin.guards import secret_kinds as kinds
from safetune.builtin.guards.joined import Joined, overlapping
from safetune.protocols import DataRow, Found, GuardSetup

_IN_WORDS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+/=.~%:@$&!;#"
_PICTURE = bytes(ord("w") if byte in _IN_WORDS else ord(" ") for byte in range(256))
_LONG_WORDS = re.compile(b"w" * kinds.LONG + b"w*")
_SET = tuple(re.compile(sign + kinds.VALUE) for sign in ("=", ":"))
_SCHEME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+."
_LONGEST_KEY = 16_384  # characters between the lines that begin and end a private key
_LEAST_KEY = 40

Hit = tuple[str, int, int, str]


class SecretsGuard:
    """Finds about forty kinds of keys, tokens and passwords."""

    name = "secrets"
    version = "1"
    plain = "keys, tokens and passwords"
    rules = (
        *("private_key", "gcp_service_account", "database_url", "url_password"),
        *sorted({kind.rule for kind in kinds.PREFIXED}),
        *("aws_secret_key", "assignment", "entropy"),
    )

    def begin(self, setup: GuardSetup) -> None:
        """Nothing to get ready."""

    def check(self, rows: Sequence[DataRow]) -> Sequence[Found]:
        """Return what is found in the next rows, in their order."""
        joined = Joined(rows)
        hits = [*_private_keys(joined), *_urls(joined), *_words(joined), *_assignments(joined)]
        return [joined.found(*hit) for hit in _apart(hits)]

    def end(self) -> Sequence[Found]:
        """Nothing can only be said of all rows together."""
        return ()


_RANK = {rule: at for at, rule in enumerate(SecretsGuard.rules)}


def _apart(hits: list[Hit]) -> Iterator[Hit]:
    """Yield the hits in the order of the text; of those that overlap, all they reach and the rule that says most."""
    for start, end, group in overlapping(hits):
        rule, _, _, note = min(group, key=lambda hit: _RANK[hit[0]])
        yield rule, start, end, note


def _private_keys(joined: Joined) -> Iterator[Hit]:
    text = joined.text
    for begin in kinds.PRIVATE_KEY.finditer(text):
        limit = min(joined.bounds(begin.start())[1], begin.end() + _LONGEST_KEY)
        stop = text.find("-----", begin.end(), limit)
        end = limit if stop < 0 else stop
        body = re.sub(r"\\n|\s", "", text[begin.end() : end])
        if len(body) >= _LEAST_KEY and not kinds.placeholder(body[:400]):
            line = re.compile("-----END [A-Z0-9 ]{1,60}-----").match(text, end)
            yield "private_key", begin.start(), line.end() if line else end, ""
    for found in kinds.SERVICE_ACCOUNT.finditer(text):
        if not kinds.placeholder(found.group()):
            yield "gcp_service_account", *found.span(), ""


def _urls(joined: Joined) -> Iterator[Hit]:
    text = joined.text
    for found in kinds.WITH_PASSWORD.finditer(text):
        if kinds.placeholder(found["password"]) or kinds.placeholder(found["user"] + ":"):
            continue
        before = text[max(0, found.start() - 20) : found.start()]
        scheme = before[len(before.rstrip(_SCHEME)) :]
        if scheme:
            rule = "database_url" if scheme.lower() in kinds.DATABASES else "url_password"
            yield rule, found.start() - len(scheme), found.end(), ""


def _words(joined: Joined) -> Iterator[Hit]:
    """Yield what is in long words: the kinds with a form, and runs that look random near a word that names them."""
    text = joined.text
    picture = text.encode("ascii", "replace").replace(b"?", b" ").translate(_PICTURE)
    for word in _LONG_WORDS.finditer(picture):
        start, end = word.span()
        for found in kinds.FORMS.finditer(text, start, end):
            hit = _formed(found)
            if hit is not None:
                yield hit
        for run in kinds.RUNS.finditer(text, start, end):
            rule = _random(joined, run)
            if rule:
                yield rule, *run.span(), ""


def _formed(found: re.Match[str]) -> Hit | None:
    rule, token = str(found.lastgroup), found.group()
    holds = kinds.HOLDS.get(rule)
    if kinds.placeholder(token) or (holds is not None and not holds(token)):
        return None
    made_up = rule in ("github_token", "npm_token") and not token.startswith("github_pat_") and not kinds.checked(token)
    return rule, *found.span(), "its check sum does not fit: perhaps made up" if made_up else ""


def _random(joined: Joined, run: re.Match[str]) -> str:
    if not kinds.random_run(run.group()):
        return ""
    before, _ = joined.around(*run.span(), 48, 0)
    if not kinds.WORDS.search(before) or kinds.NOT_SECRET.search(before):
        return ""
    return "aws_secret_key" if len(run.group()) == 40 and kinds.AWS.search(before) else "entropy"


def _assignments(joined: Joined) -> Iterator[Hit]:
    text = joined.text
    for signs in _SET:
        for found in signs.finditer(text):
            before = text[max(0, found.start() - 40) : found.start()]
            named = kinds.NAMED.search(before)
            if named is None or kinds.NO_NAME.search(named["rest"]):
                continue
            group = "quoted" if found["quoted"] is not None else "bare"
            if group == "bare" and text[found.end() : found.end() + 1] in ("(", "["):
                continue  # a call
            if kinds.random_value(found[group].rstrip(".,"), group == "quoted"):
                yield "assignment", *found.span(group), ""
