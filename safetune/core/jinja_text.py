"""Read a chat template without running it: what it writes itself, what it does, and what no template needs to do.

Chat templates are Jinja (jinja.palletsprojects.com/templates), run by transformers in a sandbox. Here one is only cut
into the text that it writes, its statements and its expressions, which is enough to compare two of them and to see
constructs that belong in no template. Nothing is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

LONGEST = 100_000  # characters; those of large models with tools have about 20,000

PLAIN = frozenset(("for", "endfor", "if", "elif", "else", "endif", "set", "endset", "break", "continue"))
_MARKING = frozenset(("generation", "endgeneration"))
_HOSTILE = frozenset(("import", "from", "include", "extends"))
_HOSTILE_NAMES = frozenset(("lipsum", "cycler", "joiner", "self"))
_KNOWN_CALLS = frozenset(("raise_exception", "range", "namespace", "dict", "loop", "strftime_now"))
_OPERATORS = frozenset(("and", "or", "not", "in", "is", "if", "elif", "else", "for", "set"))
_MOST_ROUNDS = 1_000  # of loops over what a template itself counts out; those over messages are as long as they are
_LARGE = 1_000_000  # a whole number of this size in a template makes a loop, or a text, without end

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"(?<![\w.])[0-9][0-9_]*")
_LOOP = re.compile(r"for\b.*?\bin\b(.*)", re.DOTALL)
_COUNTED = re.compile(r"\brange\b|\bnamespace\b|\*|\A\s*[0-9][0-9_]*\s*\Z")
_SETTING = re.compile(r"set\s+([A-Za-z_][A-Za-z0-9_]*)[^=]*=(.*)", re.DOTALL)
_CALL = re.compile(r"(?<![\w.])(\|\s*)?([A-Za-z_][A-Za-z0-9_]*)\s*\(")
_INSIDE = re.compile(r"\.\s*(_[A-Za-z0-9_]*)|\|\s*(attr\b)")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}
# What tells roles apart: special tokens, bracketed words, headings, and names with a colon.
_MARK = re.compile(
    r"<\|[^|<>\n]{1,60}\|>|<[/a-z_]{1,40}>|<<?/?[A-Z_]{2,40}>>?|\[/?[A-Z_]{2,40}\]|#{1,6} ?[A-Z][A-Za-z]{1,40}:?"
    r"|\b(?:User|Assistant|System|Human|USER|ASSISTANT|SYSTEM|HUMAN):"
)
_TURN = re.compile(r"</?s>|<[|\uff5c][^<>\n]{1,60}[|\uff5c]>|#{2,3} ?[A-Za-z]{1,40}:|\[/?[A-Za-z_]{2,40}\]")
_SYSTEM_MARK = re.compile(r"system\b|<<SYS>>|\[SYSTEM_PROMPT\]", re.IGNORECASE)
_TOOLS = re.compile(r"\btools\b(?! is (?:none|not defined))")
_SETS_SYSTEM = re.compile(r"set\s+\w*system\w*\s*=", re.IGNORECASE)
_PROSE = re.compile(r"[A-Za-z][A-Za-z,.']{0,30}(?: [A-Za-z,.']{1,30}){2}")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of a template: `kind` is text, statement or expression; `code` has its strings blanked out."""

    kind: str
    code: str
    strings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a template is made of.

    `texts` are the texts that it writes itself, in order; `marks` what tells roles apart in them; `hostile` and
    `unusual` name constructs that no template needs, and such as are more than loops and conditions; `default_system`
    is the text that it puts in where a conversation has no system message, as far as can be seen.
    """

    texts: tuple[str, ...]
    marks: frozenset[str]
    hostile: tuple[str, ...] = ()
    unusual: tuple[str, ...] = ()
    default_system: str = ""
    functions: frozenset[str] = field(default_factory=frozenset)


def without_marks(texts: Iterable[str]) -> str:
    """Return the texts of a template without what tells roles apart in them, one on a line."""
    return "\n".join(_TURN.sub(" ", _MARK.sub(" ", text)) for text in texts)


def scan(template: str) -> Scanned:
    """Read a template; a broken or endless one has a word about it in `hostile`. Takes time linear in its length."""
    if len(template) > LONGEST:
        return Scanned((), frozenset(), (f"more than {LONGEST:,} characters",))
    pieces, broken = _pieces(template)
    hostile = [*broken, *dict.fromkeys(word for piece in pieces for word in _hostile(piece)), *_endless(pieces)]
    statements = [_first_word(piece.code) for piece in pieces if piece.kind == "statement"]
    own = {name for piece in pieces for name in _macros(piece)}
    calls = {
        name for piece in pieces if piece.kind != "text" for filters, name in _CALL.findall(piece.code) if not filters
    }
    unknown = sorted(calls - _KNOWN_CALLS - _OPERATORS - own)
    others = dict.fromkeys(word for word in statements if word not in PLAIN | _MARKING | _HOSTILE)
    unusual = [*(f"{{% {word} %}}" for word in others), *(f"{name}()" for name in unknown)]
    texts = tuple(text for piece in pieces for text in piece.strings if text)
    marks = frozenset(mark for text in texts for mark in _MARK.findall(text))
    return Scanned(texts, marks, tuple(hostile), tuple(unusual), _default_system(pieces), frozenset(calls))


def _pieces(template: str) -> tuple[list[_Piece], list[str]]:
    """Cut a template; the second value says where it is broken."""
    pieces: list[_Piece] = []
    place = 0
    while place < len(template):
        opened = template.find("{", place)
        while opened >= 0 and template[opened + 1 : opened + 2] not in ("{", "%", "#"):
            opened = template.find("{", opened + 1)
        text = template[place : opened if opened >= 0 else len(template)]
        if text:
            pieces.append(_Piece("text", "", (text,)))
        if opened < 0:
            break
        kind = template[opened + 1]
        end, code, strings = _inside(template, opened + 2, {"{": "}}", "%": "%}", "#": "#}"}[kind], kind == "#")
        if end < 0:
            line = template.count("\n", 0, opened) + 1
            return pieces, [f"what is opened in line {line} is never closed"]
        if kind != "#":
            pieces.append(_Piece("statement" if kind == "%" else "expression", code.strip("-+ \n\t\r"), strings))
        place = end
    return pieces, []


def _inside(template: str, start: int, close: str, comment: bool) -> tuple[int, str, tuple[str, ...]]:
    """Return where a block ends (-1: nowhere), its code with strings blanked out, and its strings."""
    if comment:
        found = template.find(close, start)
        return (found + 2 if found >= 0 else -1), "", ()
    code: list[str] = []
    strings: list[str] = []
    place = start
    while place < len(template):
        character = template[place]
        if template.startswith(close, place):
            return place + 2, "".join(code), tuple(strings)
        if character in "\"'":
            end = _string_end(template, place)
            if end < 0:
                return -1, "", ()
            strings.append(_unescaped(template[place + 1 : end]))
            code.append('""')
            place = end + 1
            continue
        code.append(character)
        place += 1
    return -1, "", ()


def _string_end(template: str, start: int) -> int:
    """Return the place of the quote that closes the string which opens at `start`, or -1."""
    place = start + 1
    while place < len(template):
        if template[place] == "\\":
            place += 1
        elif template[place] == template[start]:
            return place
        place += 1
    return -1


def _unescaped(text: str) -> str:
    """Return a string as Jinja reads it, as far as it matters here."""

    def plain(found: re.Match[str]) -> str:
        code = found[1] or found[2]
        return chr(int(code, 16)) if code else _ESCAPED.get(found[3], found[3])

    return _ESCAPE.sub(plain, text)


def _first_word(code: str) -> str:
    found = _WORD.match(code)
    return found[0] if found else ""


def _macros(piece: _Piece) -> list[str]:
    """Return the name of the macro that a statement begins."""
    words = _WORD.findall(piece.code) if piece.kind == "statement" else []
    return words[1:2] if words[:1] == ["macro"] else []


def _hostile(piece: _Piece) -> Iterator[str]:
    """Yield what no template needs of a piece: other files, the inside of Python, loops without end."""
    if piece.kind == "text":
        return
    if piece.kind == "statement" and (word := _first_word(piece.code)) in _HOSTILE:
        yield f"{{% {word} %}}"
    yield from (name or "the filter attr" for name, _ in _INSIDE.findall(piece.code))
    for name in _WORD.findall(piece.code):
        if name.startswith("__") or name in _HOSTILE_NAMES:
            yield name
    for text in piece.strings:
        if re.search(r"__[a-z]", text):
            yield "a string with two underscores"
    for number in _NUMBER.findall(piece.code):
        if len(number) > 9 or int(number.replace("_", "")) >= _LARGE:
            yield f"the number {number[:12]}"
    if "**" in piece.code:
        yield "a power"


def _endless(pieces: list[_Piece]) -> list[str]:
    """Say how many rounds loops have that a template counts out itself, nested ones multiplied; none where few."""
    known: dict[str, int] = {}
    open_loops = [1]
    for piece in pieces:
        word = _first_word(piece.code) if piece.kind == "statement" else ""
        if word == "set" and (setting := _SETTING.match(piece.code)):
            known[setting[1]] = max(known.get(setting[1], 1), _rounds(setting[2], known))
        elif word == "for" and (loop := _LOOP.match(piece.code)):
            open_loops.append(min(open_loops[-1] * _rounds(loop[1], known), _LARGE))
        elif word == "endfor" and len(open_loops) > 1:
            open_loops.pop()
        if open_loops[-1] > _MOST_ROUNDS:
            return [f"loops of more than {_MOST_ROUNDS:,} rounds"]
    return []


def _rounds(code: str, known: dict[str, int]) -> int:
    """Return how many rounds a loop over an expression has, at most `_LARGE`: 1 where only a conversation can tell."""
    rounds = 1
    for name in _WORD.findall(code):
        rounds = min(rounds * known.get(name, 1), _LARGE)
    for number in _NUMBER.findall(code) if _COUNTED.search(code) else ():
        # A longer number is refused as such.
        rounds = min(rounds * max(int(number.replace("_", "")), 1), _LARGE) if len(number) < 10 else _LARGE
    return rounds


def _default_system(pieces: list[_Piece]) -> str:
    """Return the system message that a template writes of its own: prose that follows a system mark, or is set as one.

    It is seen in one string or in a string right after the mark; what is put together of more is not. What is written
    for tools alone, or into an error, is none.
    """
    before = ""
    for piece in _for_everybody(pieces):
        setting = piece.kind == "statement" and _SETS_SYSTEM.search(piece.code)
        for text in piece.strings if piece.kind == "expression" or setting else ():
            told = f"{before}{text}"
            mark = None if setting else _SYSTEM_MARK.search(told)
            found = _PROSE.search(told, mark.end() if mark else 0) if mark or setting else None
            if found:
                return _sentence(told[found.start() :])
            before = told[-40:]
        if piece.kind == "text":
            text = piece.strings[0]
            mark = _SYSTEM_MARK.search(text)
            if mark and (found := _PROSE.search(text, mark.end())):
                return _sentence(text[found.start() :])
            before = f"{before}{text}"[-40:] if not text.strip() or mark else ""
        elif piece.kind == "statement":
            before = ""
    return ""


def _for_everybody(pieces: list[_Piece]) -> Iterator[_Piece]:
    """Yield the pieces that do not stand under a condition on tools, and raise no error."""
    tools: list[bool] = []
    for piece in pieces:
        word = _first_word(piece.code) if piece.kind == "statement" else ""
        if word == "if":
            tools.append(bool(_TOOLS.search(piece.code)))
        elif word in ("elif", "else") and tools:
            tools[-1] = False
        elif word == "endif" and tools:
            tools.pop()
        if not any(tools) and "raise_exception" not in piece.code:
            yield piece


def _sentence(text: str) -> str:
    """Return the prose at the beginning of a text, on one line: up to the next mark or line break."""
    return re.split(r"<\||<<|\[|\n", text, maxsplit=1)[0].strip()
