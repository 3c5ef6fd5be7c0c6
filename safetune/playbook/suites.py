"""Suite definitions: in files of their own below `configs/suites`, or inline in a playbook."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safetune.core.diagnostics import Diagnostic, did_you_mean
from safetune.core.digest import JSON
from safetune.core.errors import PlaybookError
from safetune.core.suite import (
    GENERATION,
    LABEL,
    LEAST_SAMPLES,
    LIKELIHOOD,
    NO_SAMPLING,
    About,
    Decoding,
    Metric,
    Named,
    PromptSource,
    Sampling,
    Suite,
)
from safetune.playbook.names import doubles
from safetune.playbook.nodes import Node
from safetune.playbook.paths import file_problem, resolve
from safetune.playbook.schema import suite_schema
from safetune.playbook.shared import find_part, part_names
from safetune.playbook.strict_yaml import parse, quote
from safetune.playbook.text import Unreadable, read_text
from safetune.playbook.walker import check

_KINDS = {"file": "bundled", "generator": "generator", "public": "public", "rules": "rules", "engine": "engine"}
_READER_OPTIONS = ("format", "header", "rows", "columns", "where", "text", "languages")

# What has an effect for each kind of prompts, beside the key that names the kind.
_USED = {
    "file": ("sha256", *_READER_OPTIONS),
    "generator": ("seed", "count"),
    "rules": ("rules",),
    "engine": (),
    "public": ("sha256", "source", *_READER_OPTIONS),
}


def load_suite(path: Path) -> Suite:
    """Return the suite that a file defines.

    Raises:
        PlaybookError: with every mistake in the file.
    """
    node, problems = read_suite(path)
    if node is None or problems:
        raise PlaybookError(problems)
    return build_suite(node)


def read_suite(path: Path) -> tuple[Node | None, tuple[Diagnostic, ...]]:
    """Return the definition in a file, and every mistake in it; None when it cannot be read at all."""
    try:
        node, refused = parse(read_text(path))
    except Unreadable as error:
        return None, error.diagnostics
    problems = [*refused, *check(node, suite_schema()), *suite_problems(node)]
    name = node.get("name")
    if name is not None and name.text and name.text != path.stem:
        message = f"the suite in {path.name} must be called {quote(path.stem)}, not {quote(name.text)}"
        problems.append(name.place.diagnostic("SP405", message, "rename the suite or the file"))
    return node, tuple(problems)


def find_suite(node: Node) -> tuple[Node | None, tuple[Diagnostic, ...]]:
    """Return the definition behind an item of `suites`: a shared one by name, or the item itself."""
    if not isinstance(node.value, str):
        return node, tuple(suite_problems(node))
    folder = node.place.text.folder
    path = find_part(f"suites/{node.text}", folder)
    if path is not None:
        return read_suite(path)
    known = part_names("suites", folder)
    hint = did_you_mean(node.text, known) or f"known: {', '.join(known)}"
    return None, (node.place.diagnostic("SP404", f"no shared suite is called {quote(node.text)}", hint),)


def suite_problems(node: Node) -> Iterator[Diagnostic]:
    """Yield what is wrong with a definition beyond its shape."""
    yield from doubles(node.items_of("metrics"), "metric")
    prompts = node.get("prompts")
    if prompts is None:
        return
    kind = next((kind for kind in _KINDS if prompts.get(kind) is not None), "")
    if kind:
        yield from _idle_keys(node, prompts, kind)
        yield from _unseen_rules(prompts)
    file, public = prompts.get("file"), prompts.get("public")
    wrong = file_problem(file, "the prompt file") if file is not None and file.text else None
    wrong = wrong or (_public_problem(public) if public is not None and public.text else None)
    if wrong is not None:
        yield wrong


def _idle_keys(node: Node, prompts: Node, kind: str) -> Iterator[Diagnostic]:
    """Yield the keys that would be read and then do nothing."""
    form = prompts.text_of("format", "jsonl")
    for key in prompts.members:
        others = key in (*_READER_OPTIONS, "sha256", "source", "seed", "count") and key not in _USED[kind]
        reason = f"prompts from a {kind}" if others else ""
        if (key == "header" and form != "csv") or (key == "rows" and form != "json"):
            reason = reason or f"the format {form}"
        if key == "text" and prompts.get("languages") is not None:
            reason = reason or "`languages`"
        if reason:
            yield _idle(prompts, key, reason)
    yield from _idle_columns(node, prompts)
    yield from _idle_names(node, prompts, kind)
    if node.get("max_perplexity") is not None and node.text_of("evaluator") == LIKELIHOOD:
        yield _idle(node, "max_perplexity", "the evaluator likelihood, which writes no responses")


def _idle(node: Node, key: str, reason: str) -> Diagnostic:
    return node.key_place(key).diagnostic("SP313", f"`{key}` has no effect with {reason}", "remove it")


def _idle_columns(node: Node, prompts: Node) -> Iterator[Diagnostic]:
    """Yield the roles of columns that something else fills."""
    columns = prompts.get("columns")
    if columns is None:
        return
    languages, attacks = prompts.get("languages") is not None, bool(node.items_of("attacks"))
    text = "`text`" if prompts.get("text") is not None else ""
    reasons = {
        "prompt": "`languages`" if languages else text,
        "slice": "`attacks`: the attack is the slice" if attacks else ("`languages`" if languages else ""),
        "choices": "" if node.text_of("evaluator") == LIKELIHOOD else "the evaluator generation",
    }
    for role, reason in reasons.items():
        if reason and columns.get(role) is not None:
            yield _idle(columns, role, reason)


def _idle_names(node: Node, prompts: Node, kind: str) -> Iterator[Diagnostic]:
    """Yield `slice` and `cluster` where neither names a column that is read."""
    columns = prompts.get("columns")
    for key in ("slice", "cluster"):
        if node.get(key) is None:
            continue
        reason = {"generator": "prompts from a generator", "rules": "prompts from rules"}.get(kind, "")
        reason = "`columns` naming one" if columns is not None and columns.get(key) is not None else reason
        if key == "slice" and not reason:
            reason = "`languages`: the language is the slice" if prompts.get("languages") is not None else ""
            reason = "`attacks`: the attack is the slice" if node.items_of("attacks") else reason
        if reason:
            yield _idle(node, key, reason)


def _unseen_rules(prompts: Node) -> Iterator[Diagnostic]:
    """Yield the rules that nobody could see broken, and those with the name of another."""
    rules = prompts.items_of("rules")
    yield from doubles(rules, "rule")
    for rule in rules:
        if rule.members and rule.get("broken_by") is None and rule.get("kept_by") is None:
            message = f"nothing would show that the rule {quote(rule.text_of('name'))} was broken"
            yield rule.place.diagnostic("SP319", message, "give it `broken_by` or `kept_by`")


def _public_problem(public: Node) -> Diagnostic | None:
    """Keep public files inside the data root."""
    if public.text.startswith(("/", "~")) or ".." in Path(public.text).parts:
        hint = "write it as FOLDER/FILE, relative to the data root"
        return public.place.diagnostic("SP312", f"{quote(public.text)} is not a path inside the data root", hint)
    if "://" in public.text:
        hint = "write FOLDER/FILE below the data root here, and the address in `source`"
        return public.place.diagnostic("SP312", f"{quote(public.text)} is an address, not a path", hint)
    return None


def build_suite(node: Node) -> Suite:
    """Return the suite of a definition that has no mistakes."""
    decoding = node.members["decoding"]
    return Suite(
        name=node.text_of("name"),
        about=_build_about(node),
        prompts=_build_prompts(node.members["prompts"]),
        judge=build_named(node.members["judge"]),
        metrics=tuple(_build_metric(metric) for metric in node.items_of("metrics")),
        decoding=Decoding(decoding.whole_of("max_new_tokens"), decoding.text_of("system_prompt")),
        slice=node.text_of("slice"),
        cluster=node.text_of("cluster"),
        evaluator=node.text_of("evaluator", GENERATION),
        attacks=tuple(build_named(attack) for attack in node.items_of("attacks")),
        sampling=_build_sampling(node.get("sampling")),
        max_perplexity=node.number_of("max_perplexity"),
    )


def _build_about(node: Node) -> About:
    citation, origin = node.text_of("citation"), node.text_of("origin")
    return About(
        description=node.text_of("description").strip(),
        licence=node.text_of("licence"),
        origin=f"{origin}; cite {citation}" if citation else origin,
        hazards=tuple(text for text, _ in node.texts_of("hazards")),
        languages=tuple(text for text, _ in node.texts_of("languages")),
        min_samples=node.whole_of("min_samples", LEAST_SAMPLES),
    )


def build_named(node: Node) -> Named:
    """Return a plugin's name and options; a judge's `card` is kept apart, as an absolute path."""
    if isinstance(node.value, str):
        return Named(node.text)
    name, options = next(iter(node.members.items()))
    card = options.get("card")
    given = {key: member.json for key, member in options.members.items() if key != "card"}
    return Named(name, given, str(resolve(card)) if card is not None else "")


def _build_sampling(node: Node | None) -> Sampling:
    if node is None:
        return NO_SAMPLING
    return Sampling(node.whole_of("sample"), node.number_of("sealed") or 0.0, node.whole_of("seed"))


def _build_metric(node: Node) -> Metric:
    counts = tuple(text for text, _ in node.texts_of("counts"))
    return Metric(node.text_of("name"), counts, node.text_of("worse"), node.text_of("of", LABEL))


def _build_prompts(node: Node) -> PromptSource:
    key = next(key for key in _KINDS if node.get(key) is not None)
    named = node.members[key]
    if key == "engine":
        asked = {name: member.json for name, member in named.members.items() if name != "name"}
        return PromptSource("engine", named.text_of("name"), options=asked)
    location = str(resolve(named)) if key == "file" else ("" if key == "rules" else named.text)
    options: dict[str, JSON] = {name: node.members[name].json for name in _USED[key] if node.get(name) is not None}
    options.pop("sha256", None)
    options |= {name: node.whole_of(name) for name in ("seed", "count") if name in options}
    return PromptSource(_KINDS[key], location, node.text_of("sha256"), options)
