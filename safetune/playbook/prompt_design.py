"""Prompt parts and templates of a playbook: files are read here, at load, and must have the digest that is pinned."""

from __future__ import annotations

from collections.abc import Iterator

from safetune.core.diagnostics import Diagnostic
from safetune.core.digest import sha256_hex
from safetune.core.errors import PlaybookError
from safetune.core.prompt_design import PromptDesign, PromptPart, PromptTemplate
from safetune.playbook.names import doubles, named, unknown
from safetune.playbook.nodes import Node
from safetune.playbook.paths import address_problem, file_problem, resolve
from safetune.playbook.strict_yaml import quote
from safetune.playbook.text import Unreadable, decode, read_bytes

MAX_CHARACTERS = 64 * 1024  # of a file; longer prompts leave no room for a conversation


def prompt_problems(whole: Node) -> Iterator[Diagnostic]:
    """Yield the mistakes of `prompts` and of stages that name a template."""
    prompts = whole.get("prompts")
    templates = named(prompts.items_of("templates")) if prompts is not None else {}
    if prompts is not None:
        yield from _part_problems(prompts)
        serving = prompts.get("serving")
        if serving is not None and serving.text and serving.text not in templates:
            yield unknown(serving, serving.text, "template", templates)
    for sprint in whole.items_of("sprints"):
        for stage in sprint.items_of("stages"):
            wanted = stage.get("template")
            if wanted is not None and wanted.text and wanted.text not in templates:
                yield unknown(wanted, wanted.text, "template", templates)


def _part_problems(prompts: Node) -> Iterator[Diagnostic]:
    parts = named(prompts.items_of("parts"))
    yield from doubles(prompts.items_of("parts"), "part")
    yield from doubles(prompts.items_of("templates"), "template")
    for part in prompts.items_of("parts"):
        found = _read(part, "file")
        if isinstance(found, Diagnostic):
            yield found
    for template in prompts.items_of("templates"):
        for name, node in template.texts_of("system"):
            if name not in parts:
                yield unknown(node, name, "part", parts)
        found = _read(template, "chat_template")
        if isinstance(found, Diagnostic):
            yield found


def _read(node: Node, key: str) -> str | Diagnostic:
    """Return the text of the file that `key` names, empty where there is none, or what is wrong with it."""
    file, pinned = node.get(key), node.text_of("sha256")
    if file is None or not file.text.strip():
        return ""
    wrong = address_problem(file) or file_problem(file, "the file")
    if wrong is not None:
        return wrong
    path = resolve(file)
    try:
        data = read_bytes(path, file.text)
        text = decode(data, path, file.text).content
    except Unreadable as error:
        message = f"{quote(file.text)} cannot be used: {error.diagnostics[0].message}"
        return file.place.diagnostic("SP325", message, error.diagnostics[0].hint)
    if len(text) > MAX_CHARACTERS:
        message = f"{quote(file.text)} has {len(text):,} characters, allowed are {MAX_CHARACTERS:,}"
        return file.place.diagnostic("SP325", message)
    found = sha256_hex(data)
    if pinned and found != pinned:
        message = f"{quote(file.text)} is not what is pinned: its sha256 is {found}"
        return file.place.diagnostic("SP325", message, "review it, then pin that")
    return text if text.strip() else file.place.diagnostic("SP325", f"{quote(file.text)} is empty", "write it")


def build_prompts(node: Node | None) -> PromptDesign:
    """Return the prompt design of a document without mistakes.

    Raises:
        PlaybookError: when a file has changed since it was checked.
    """
    if node is None:
        return PromptDesign()
    parts = {part.text_of("name"): _build_part(part) for part in node.items_of("parts")}
    templates = tuple(
        PromptTemplate(
            name=template.text_of("name"),
            parts=tuple(parts[name] for name, _ in template.texts_of("system")),
            chat_template=_text(template, "chat_template"),
        )
        for template in node.items_of("templates")
    )
    design = PromptDesign(templates)
    return PromptDesign(templates, design.template(node.text_of("serving")))


def _build_part(node: Node) -> PromptPart:
    text = node.text_of("text") or _text(node, "file")
    return PromptPart(node.text_of("name"), node.text_of("layer"), text.strip())


def _text(node: Node, key: str) -> str:
    found = _read(node, key)
    if isinstance(found, Diagnostic):
        raise PlaybookError((found,))
    return found
