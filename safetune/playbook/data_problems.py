"""What is wrong with sources, the data policy and screens beyond their shape."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches

from safetune.core.admission import says_nothing
from safetune.core.diagnostics import Diagnostic
from safetune.core.source import FOLDER, HUB, MIXTURE
from safetune.playbook.data import HUB_PREFIX, SCREEN_KEYS, kind_of
from safetune.playbook.licences import NotSPDX, parse
from safetune.playbook.names import Named, doubles, unknown
from safetune.playbook.nodes import Node
from safetune.playbook.paths import address_problem, file_problem, is_file, is_folder, within_file
from safetune.playbook.scalars import ambiguity
from safetune.playbook.strict_yaml import quote

_CLOSE = 0.8  # other keys are options of the method; what is this close to a key of the screen is a slip
_LONGEST = 400  # characters of a licence, as the schema says
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_HUB = re.compile(rf"hub:{_PART}/{_PART}(?:/(?!\.\.?(?:/|\Z))[^/\\]+)*\Z")


def source_problems(whole: Node) -> Iterator[Diagnostic]:
    """Yield the mistakes of all sources."""
    yield from doubles(whole.items_of("sources"), "source")
    for source in whole.items_of("sources"):
        yield from _place_problems(source)
        yield from _permission_problems(source)
        yield from _period_problems(source)
        yield from guard_problems(source)
        uses = dict(source.texts_of("use"))
        if "train" in uses and "evaluate" in uses:
            message = "`evaluate` has no effect beside `train`: it only keeps rows out of training"
            yield uses["evaluate"].place.diagnostic("SP313", message, "keep one of the two")


def _place_problems(source: Node) -> Iterator[Diagnostic]:
    """Yield rows that are not there, and a revision that is missing or pins nothing."""
    uri, croissant, revision = source.get("uri"), source.get("croissant"), source.get("revision")
    if croissant is not None and croissant.text.strip():
        wrong = file_problem(croissant, "the Croissant record")
        if wrong is not None:
            yield wrong
    if uri is None or not uri.text.strip():
        return
    kind = source.text_of("format") or kind_of(uri)
    hub = uri.text.startswith(HUB_PREFIX)
    if hub != (kind == HUB):
        message = "`format: hub` is for hub:ORG/NAME" if kind == HUB else "what is on the hub has the format hub"
        yield source.key_place("format").diagnostic("SP313", message, "remove `format`, or change `uri`")
        return
    if kind != HUB:
        wrong = _row_problem(uri, kind)
        if wrong is not None:
            yield wrong
        if revision is not None:
            message = "`revision` pins a hub dataset only; here it has no effect"
            yield revision.place.diagnostic("SP313", message, "remove it")
    elif not _HUB.match(uri.text):
        yield uri.place.diagnostic("SP312", f"{quote(uri.text)} is no hub dataset", "write hub:ORG/NAME")
    elif revision is None:
        message = f"the hub dataset {quote(uri.text)} has no revision, so it can change"
        yield uri.place.diagnostic("SP303", message, "add `revision: COMMIT`, the full commit hash of the dataset")


def _row_problem(uri: Node, kind: str) -> Diagnostic | None:
    wrong = address_problem(uri)
    path, _ = within_file(uri)
    if wrong is not None or (is_folder(path) if kind in (FOLDER, MIXTURE) else is_file(path)):
        return wrong
    what = "the folder" if kind in (FOLDER, MIXTURE) else "the source file"
    hint = f"looked for {path}; paths are relative to {uri.place.text.shown}"
    return uri.place.diagnostic("SP305", f"{what} {quote(uri.text)} does not exist", hint)


def _permission_problems(source: Node) -> Iterator[Diagnostic]:
    """Yield a licence that is no SPDX expression, and rows that nobody is said to have allowed.

    A word for nothing, such as `unknown`, is no mistake here: the data policy decides what it leads to.
    """
    licence, consent, basis = source.get("licence"), source.get("consent"), source.text_of("basis")
    if licence is not None and len(licence.text) <= _LONGEST and not says_nothing(licence.text):
        yield from _licence_problem(licence, licence.text)
    if not source.members or source.get("croissant") is not None:
        return
    if consent is None and basis in ("", "consent"):
        message = "`basis: consent` needs `consent`" if basis else "neither `consent` nor `basis` is given"
        hint = "say who agreed to this use of the rows, and how; or give another lawful basis"
        yield (source.key_place("basis")).diagnostic("SP323", message, hint)


def _licence_problem(node: Node, text: str) -> Iterator[Diagnostic]:
    try:
        parse(text)
    except NotSPDX as error:
        yield node.place.diagnostic("SP322", f"{quote(text)}: {error.why}", error.hint)


def _period_problems(source: Node) -> Iterator[Diagnostic]:
    collected = source.get("collected")
    first, last = (collected.text_of(key) if collected is not None else "" for key in ("from", "to"))
    common = min(len(first), len(last))
    if collected is not None and first[:common] > last[:common]:
        message = f"a collection from {first} to {last} ends before it begins"
        yield collected.place.diagnostic("SP324", message, "swap the two")


def guard_problems(node: Node) -> Iterator[Diagnostic]:
    """Yield guards that a list names twice, and unquoted options that can be read in two ways."""
    seen: dict[str, Node] = {}
    for item in node.items_of("guards"):
        for name, settings in item.members.items():
            if name in seen:
                message = f"the guard {quote(name)} is listed before, at {seen[name].place.where}"
                yield item.key_place(name).diagnostic("SP301", message, "join the two")
            seen.setdefault(name, item)
            yield from option_problems(
                value for key, value in settings.members.items() if key not in ("action", "rules")
            )


def option_problems(options: Iterator[Node]) -> Iterator[Diagnostic]:
    """Yield unquoted words among free options that one reader takes for a text and another for something else."""
    for node in (inner for option in options for inner in option.walk()):
        kind = ambiguity(node.value) if isinstance(node.value, str) and node.plain else ""
        if kind:
            hint = (
                "write true or false, or quote it"
                if kind == "a boolean"
                else f"quote it if a text is meant, else write {kind} plainly"
            )
            yield node.place.diagnostic("SP115", f"{quote(node.text)} can be read as {kind} or as a text", hint)


def policy_problems(policy: Node | None) -> Iterator[Diagnostic]:
    """Yield the mistakes of the joined data policy."""
    if policy is None:
        return
    yield from guard_problems(policy)
    admission = policy.get("admission")
    licences = admission.get("licences") if admission is not None else None
    for key in ("allow", "forbid"):
        for text, node in licences.texts_of(key) if licences is not None else ():
            if not text.endswith("*"):
                yield from _licence_problem(node, text)


def screen_problems(stage: Node, sources: Named) -> Iterator[Diagnostic]:
    """Yield the mistakes of a stage's screen."""
    screen = stage.get("screen")
    if screen is None:
        return
    for key in ("harmful", "safe"):
        node = screen.get(key)
        if node is not None and node.text and node.text not in sources:
            yield unknown(node, node.text, "source", sources)
    top, most = screen.number_of("flag_top"), screen.number_of("max_flagged")
    if top is not None and most is not None and top > most:
        message = f"`flag_top: {top:g}` flags more rows than `max_flagged: {most:g}` allows: it always blocks"
        place = screen.key_place("max_flagged")
        yield place.diagnostic("SP326", message, f"raise `max_flagged` above {top:g}, or lower `flag_top`")
    for key in screen.members:
        if key not in SCREEN_KEYS and (close := get_close_matches(key, sorted(SCREEN_KEYS), n=1, cutoff=_CLOSE)):
            hint = f'did you mean "{close[0]}"?'
            yield screen.key_place(key).diagnostic("SP201", f"there is no key {quote(key)} here", hint)
    yield from option_problems(iter(screen.members.values()))
