"""Regular expressions from a playbook: which of them can be searched in bounded time.

Python's engine backtracks, so `(a+)+b` takes exponential time on a text of a's. The tries that an expression could
need from one place of a text are counted, roughly and from above. A repeat whose next character may also be what
follows it can end at each of its lengths, and each is a way to go on; a repeat after that is counted once for each
way. A repeat whose inside can match in more than one way is refused, and so are references to groups and conditions.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from safetune.builtin.judges.text import HEAD, TAIL

TEXT = HEAD + TAIL + 1
MOST_TRIES = 4 * TEXT  # from one place: about one repeat that may end anywhere, and the search for what follows
LONGEST = 1_000  # characters of one expression
_UNROLLED = 20

# The parser of `re` is private, but only it is sure to read what `re` reads. A test pins what is used of it.
_parser: Any = import_module("re._parser")
_Node = Any  # a pair: the name of the operation, and its arguments

_SINGLE = frozenset({"LITERAL", "NOT_LITERAL", "ANY", "IN"})
_REPEATS = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})
_LOOKING = frozenset({"ASSERT", "ASSERT_NOT"})
_GROUPS = frozenset({"SUBPATTERN", "ATOMIC_GROUP"})
_START = frozenset({"AT_BEGINNING", "AT_BEGINNING_STRING"})
_SOMETHING: tuple[_Node, ...] = (("ANY", None),)

# Characters that stand for all when two sets of them are compared; those of the expression are added.
_SAMPLE = frozenset(map(chr, range(128))) | frozenset("\u00a0\u00e9\u00df\u0130\u0131\u017f\u212a\u0416\u4e2d\u0664")


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that may be used."""

    source: str
    compiled: re.Pattern[str]


@lru_cache(maxsize=1024)
def expression(source: str) -> Expression:
    """Return `source` ready for use.

    Raises:
        ValueError: with the reason, when it is no regular expression, finds itself in every text, or could take long.
    """
    if len(source) > LONGEST:
        raise ValueError(f"longer than {LONGEST} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # "possible nested set": it may come to mean something else
            tree = list(_parser.parse(source))
            compiled = re.compile(source)
    except (re.error, FutureWarning, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from error
    nodes = [*_walk(tree)]
    operations = {_name(n) for n in nodes} | {str(n[1]) for n in nodes if _name(n) == "AT"}
    if operations & {"GROUPREF", "GROUPREF_EXISTS"}:
        raise ValueError("references to groups are not supported: they may take too long")
    tries, _ = _Counting(_alphabet(nodes)).sequence(tree, (), 1)
    once = bool(tree) and str(tree[0][1]) in _START and not compiled.flags & re.MULTILINE
    if tries > MOST_TRIES * (TEXT if once else 1):
        raise ValueError("it could take too long: two repeats, or alternatives, can take the same text")
    if compiled.search("") and not operations & {"ASSERT_NOT"}:
        raise ValueError("it is found in the empty text")
    return Expression(source, compiled)


def _name(node: _Node) -> str:
    return str(node[0])


def _inner(node: _Node) -> list[Sequence[_Node]]:
    """Return the sequences inside a node."""
    name, value = _name(node), node[1]
    if name in _REPEATS:
        return [list(value[2])]
    if name == "SUBPATTERN":
        return [list(value[3])]
    if name == "ATOMIC_GROUP":
        return [list(value)]
    if name in _LOOKING:
        return [list(value[1])]
    if name == "BRANCH":
        return [list(branch) for branch in value[1]]
    return []


def _walk(nodes: Iterable[_Node]) -> Iterable[_Node]:
    for node in nodes:
        yield node
        for inner in _inner(node):
            yield from _walk(inner)


def _alphabet(nodes: Iterable[_Node]) -> frozenset[str]:
    named = {chr(n[1]) for n in nodes if _name(n) in ("LITERAL", "NOT_LITERAL")}
    in_sets = {chr(v) for n in nodes if _name(n) == "IN" for kind, v in n[1] if str(kind) == "LITERAL"}
    return _SAMPLE | named | in_sets


class _Counting:
    """Counts tries and ways. `ways` is in how many ways what stands before can have matched from one place."""

    def __init__(self, alphabet: frozenset[str]) -> None:
        self._all = alphabet
        text = "".join(sorted(alphabet))
        self._categories = {letter: frozenset(re.findall(f"\\{letter}", text)) for letter in "dDsSwW"}
        self._folds = {c: _folds(c) for c in alphabet}

    def sequence(self, nodes: Sequence[_Node], follow: Sequence[_Node], ways: int) -> tuple[int, int]:
        """Return the tries that `nodes` cost when `follow` stands behind them, and the ways after them."""
        tries = 0
        for n, node in enumerate(nodes):
            behind, sure = [*nodes[n + 1 :], *follow], ways == 1
            before = nodes[n - 1] if n else None
            more, ways = self._node(node, behind, ways, before)
            # One way reads the text once, however many repeats share it.
            tries = max(tries, more) if sure else tries + more
            if max(tries, ways) > MOST_TRIES * TEXT:
                break
        return max(tries, ways), ways

    def _node(self, node: _Node, follow: Sequence[_Node], ways: int, before: _Node | None) -> tuple[int, int]:
        name, inner = _name(node), _inner(node)
        if name in _REPEATS:
            return self._repeat((node, before), inner[0], follow, ways)
        if name in _GROUPS:
            return self.sequence(inner[0], follow, ways)
        if name in _LOOKING:
            return self.sequence(inner[0], _SOMETHING, ways)[0], ways
        if name == "BRANCH":
            counts = [self.sequence(branch, follow, ways) for branch in inner]
            apart = self._apart([[*branch, *follow] for branch in inner])
            after = [c[1] for c in counts]
            return sum(c[0] for c in counts), max(after) if apart else sum(after)
        return 0, ways

    def _repeat(
        self, at: tuple[_Node, _Node | None], body: Sequence[_Node], follow: Sequence[_Node], ways: int
    ) -> tuple[int, int]:
        node, before = at
        least, most = int(node[1][0]), min(int(node[1][1]), TEXT)
        if least == most and most * len(body) <= _UNROLLED:
            return self.sequence([*body] * most, follow, ways)
        apart = self._apart([body, follow]) if follow else False
        if most == 1:
            tries, after = self.sequence(body, follow, ways)
            return tries, max(after, ways) if apart else after + ways
        if self.sequence(body, _SOMETHING, 1)[1] > 1:
            raise ValueError("it could take too long: what is repeated can match the same text in several ways")
        if not follow:  # the last repeat ends the search as soon as it has its least number
            return max(most, ways * max(least, 1)), ways
        # From different places behind a character that the repeat does not take, it reads different text.
        fresh = before is not None and _name(before) in _SINGLE and self._apart([[before], body])
        tries = most if ways == 1 or fresh else ways * most
        return tries, ways * (1 if apart else most - least + 1)

    def _apart(self, sequences: Sequence[Sequence[_Node]]) -> bool:
        """Say whether no two of the sequences can begin with the same character."""
        sets = [self._first(s) for s in sequences]
        return len(frozenset[str]().union(*sets)) == sum(map(len, sets))

    def _first(self, nodes: Sequence[_Node]) -> frozenset[str]:
        """Return the characters that a match of a sequence can begin with: all when it can match nothing."""
        found: frozenset[str] = frozenset()
        for n, node in enumerate(nodes):
            name = _name(node)
            if name in _SINGLE:
                return found | self._characters(node)
            if name in _REPEATS:
                found |= self._first(_inner(node)[0])
                if int(node[1][0]) > 0:
                    return found
            elif name in _GROUPS or name == "BRANCH":
                return found.union(*(self._first([*inner, *nodes[n + 1 :]]) for inner in _inner(node)))
        return self._all

    def _characters(self, node: _Node) -> frozenset[str]:
        """Return the characters that a node for one character may take: in either case, rather too many than too few.

        A set that is negated leaves out what it names in the case that it names.
        """
        name, value = _name(node), node[1]
        if name == "ANY":
            return self._all
        if name == "NOT_LITERAL":
            return self._all - {chr(value)}
        parts = [("LITERAL", value)] if name == "LITERAL" else list(value)
        negated = bool(parts) and str(parts[0][0]) == "NEGATE"
        taken = frozenset[str]().union(*(self._part(str(kind), v, negated) for kind, v in parts))
        if negated or len(taken) == len(self._all):
            return self._all - taken if negated else taken
        wide = _folded(taken)
        return frozenset(c for c in self._all if self._folds[c] & wide) | taken

    def _part(self, kind: str, value: Any, negated: bool) -> frozenset[str]:
        if kind == "LITERAL":
            return frozenset(chr(value))
        if kind == "RANGE":
            low, high = value
            if high > 127 and not negated:  # the sample says too little about what lies in it
                return self._all
            return frozenset(c for c in self._all if low <= ord(c) <= high)
        if kind == "CATEGORY":
            letter = {"DIGIT": "d", "SPACE": "s", "WORD": "w"}[str(value).rpartition("_")[2]]
            return self._categories[letter.upper() if "_NOT_" in str(value) else letter]
        return frozenset()


def _folds(character: str) -> frozenset[str]:
    return frozenset({character.lower(), character.upper(), character.casefold()})


def _folded(characters: Iterable[str]) -> frozenset[str]:
    return frozenset[str]().union(*map(_folds, characters))
