"""One way in for text that somebody else wrote: file names, playbooks, model outputs, error messages of libraries.

A terminal obeys bytes that a person never sees, and a CI log obeys some that a person does see. Nothing of that kind
passes here; what is taken out stays readable as an escape such as `\\x1b`, so that evidence is not lost.
"""

from __future__ import annotations

import unicodedata

DEFAULT_LIMIT = 400

# Category Cf, the surrogates and the controls are escaped by category. These are not, and are invisible all the same:
# the rest of the property Default_Ignorable_Code_Point (Unicode, DerivedCoreProperties), and the empty Braille cell.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0") | frozenset(
    chr(code) for code in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
)
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_MARKS = frozenset({"Mn", "Me"})
_MARKS_IN_A_ROW = 3  # letters of living languages carry at most this many; towers of them cover other lines
_CI_COMMANDS = ("::", "##")
_CUT = "..."


def render_untrusted(text: object, limit: int = DEFAULT_LIMIT) -> str:
    """Return `text` as one line of at most `limit` characters that no terminal and no CI log obeys.

    Control characters, ANSI and OSC sequences, line breaks, bidirectional and zero-width characters, lone surrogates
    and unassigned code points become visible escapes; other spaces become plain ones; a text that is too long ends in
    `...`. `limit` below 3 gives that many dots. A second pass over the result changes nothing.
    """
    found = str(text)
    # Every character becomes at least one: nothing behind the limit can be seen, and a huge text costs nothing.
    parts: list[str] = []
    size, marks = 0, 0
    for character in found:
        marks = marks + 1 if unicodedata.category(character) in _MARKS else 0
        piece = _escape(character) if marks > _MARKS_IN_A_ROW else _visible(character)
        parts.append(piece)
        size += len(piece)
        if size > limit:
            break
    line = _disarm("".join(parts))
    return line if len(line) <= limit else _CUT[:limit] if limit <= len(_CUT) else line[: limit - len(_CUT)] + _CUT


def _visible(character: str) -> str:
    if " " <= character <= "~":
        return character
    category = unicodedata.category(character)
    if category in _ESCAPED or character in _INVISIBLE:
        return _escape(character)
    return " " if category == "Zs" else character


def _escape(character: str) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    code = ord(character)
    return short or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def _disarm(line: str) -> str:
    """Break up what build servers read as commands: `::name::` at the start of a line, `##[name]` anywhere."""
    body = line.lstrip()
    if body.startswith(_CI_COMMANDS[0]):
        line = line[: len(line) - len(body)] + "\\x3a" + body[1:]
    while "##[" in line or "##vso[" in line or "##teamcity[" in line:
        for word in ("##[", "##vso[", "##teamcity["):
            line = line.replace(word, "#\\x23" + word[2:])
    return line
