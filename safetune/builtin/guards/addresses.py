"""Addresses of people and machines: e-mail, IP, MAC. Each function looks at one place that a search has pointed at."""

from __future__ import annotations

import ipaddress
import re

_LOCAL = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.!#$%&'*+/=?^_`{|}~-"
_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}([^\W\d_]{2,24}|xn--[a-z0-9-]{2,59})(?![\w@])")
# What stands behind the last dot of `icon@2x.png`, and is no top-level domain.
_FILES = frozenset(
    [
        "png",
        "jpg",
        "jpeg",
        "gif",
        "webp",
        "svg",
        "css",
        "js",
        "ts",
        "py",
        "json",
        "html",
        "md",
        "txt",
        "pdf",
        "mp3",
        "mp4",
        "xml",
        "yaml",
        "yml",
        "csv",
    ]
)
_AT_SIGN = re.compile(r" ?[\[(] ?at ?[\])] ?", re.IGNORECASE)
_DOTS = re.compile(r" ?[\[(] ?dot ?[\])] ?", re.IGNORECASE)
_HIDDEN_DOMAIN = re.compile(r"[a-z0-9-]{1,63}(?:(?: ?[\[(] ?dot ?[\])] ?|\.)[a-z0-9-]{1,63}){1,4}", re.IGNORECASE)

_V6 = re.compile(r"(?<![0-9A-Za-z:.%])[0-9A-Fa-f:]{3,39}(?:(?<=:)[0-9]{1,3}(?:\.[0-9]{1,3}){3})?(?![0-9A-Za-z:])")
_MAC = re.compile(r"(?<![0-9A-Za-z:])[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}(?![0-9A-Za-z:])")
_V4 = re.compile(r"(?<![0-9A-Za-z.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9A-Za-z]|\.[0-9])")
_VERSION = re.compile(
    r"(?i)(?:\bv|version|release|build|firmware|driver|section|chapter|clause|§|rev\.?)[ .:#=\"']{0,3}$"
)
_NETWORK = re.compile(r"(?i)\b(?:ip|ipv4|address|host|server|dns|ping|gateway|client|network|router|subnet)")


def email(text: str, at: int, first: int = 0) -> tuple[int, int] | None:
    """Return the span of the e-mail address around the `@` at `at`, or None; it begins at `first` or later."""
    domain = _DOMAIN.match(text, at + 1)
    if domain is None or domain.group(1).lower() in _FILES:
        return None
    before = text[max(first, at - 64) : at]
    local = before[len(before.rstrip(_LOCAL)) :]
    for opener in ("mailto:", "://", "/", "=", "'", "`", "*", "|", "{", "#"):
        local = local.rpartition(opener)[2] if opener in local else local
    local = local.lstrip(".!&?~-+^$%}")
    start = at - len(local)
    if not local or local.endswith(".") or _has_password(text, start, first) or _is_remote(local, text, domain.end()):
        return None
    return start, domain.end()


def _has_password(text: str, start: int, first: int) -> bool:
    """Say whether it is `scheme://user:password@host`, which is the business of the secrets guard."""
    before = text[max(first, start - 80) : start]
    return "://" in before and not re.search(r"[\s?]", before[before.rfind("://") :])


def _is_remote(local: str, text: str, end: int) -> bool:
    """Say whether it is the address of a repository, such as those that begin with `git@`."""
    return local == "git" and text[end : end + 1] == ":"


def hidden_email(text: str, at: int, first: int = 0) -> tuple[int, int] | None:
    """Return the span of an address whose `@` at or before `at` is written as `[at]` or `(at)`, or None."""
    sign = _AT_SIGN.match(text, at - 1 if text[at - 1 : at] == " " else at)
    domain = _HIDDEN_DOMAIN.match(text, sign.end()) if sign else None
    if sign is None or domain is None:
        return None
    before = text[max(first, sign.start() - 64) : sign.start()]
    local = before[len(before.rstrip(_LOCAL)) :].lstrip(".")
    last = _DOTS.sub(".", domain.group()).rpartition(".")[2]
    if not local or not 2 <= len(last) <= 24 or not last.isalpha():
        return None
    return sign.start() - len(local), domain.end()


def ip_v4(text: str, start: int) -> tuple[int, int] | None:
    """Return the span of a public IPv4 address that begins at `start`, or None: no version, no private network."""
    found = _V4.match(text, start)
    if found is None or not _public(found.group()):
        return None
    before = text[max(0, start - 40) : start]
    if _VERSION.search(before):
        return None
    small = all(int(part) < 20 for part in found.group().split("."))
    return None if small and not _NETWORK.search(before) else found.span()


def machine(text: str, colon: int, first: int = 0) -> tuple[str, int, int] | None:
    """Return `ip` or `mac` and the span of the address whose colon is at `colon`, or None."""
    before = text[max(first, colon - 39) : colon]
    start = colon - len(before) + len(before.rstrip("0123456789abcdefABCDEF:"))
    mac = _MAC.match(text, start)
    if mac is not None:
        digits = set(mac.group().replace(":", "").lower())
        return ("mac", *mac.span()) if len(digits) > 1 and digits & set("abcdef") else None
    found = _V6.match(text, start)
    if found is None or not any(c.isdigit() for c in found.group()) or found.group().count(":") < 2:
        return None
    written = found.group().rstrip(":") if not found.group().endswith("::") else found.group()
    if not written.strip(":").count(":") or not _public(written):
        return None
    return "ip", start, start + len(written)


def _public(written: str) -> bool:
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return False
    return address.is_global and not address.is_multicast
