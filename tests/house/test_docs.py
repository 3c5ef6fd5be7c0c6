"""What the documents say exists: commands and their options, exit codes, targets of make, files that are linked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main

from safetune.cli.app import app, command
from safetune.core.errors import EXIT_CODE_MEANINGS, ExitCode

_ROOT = Path(__file__).resolve().parents[2]
_DOCS = [_ROOT / "README.md", *sorted((_ROOT / "docs").rglob("*.md"))]
_CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_CALL = re.compile(r"(?<![\w/.-])safetune ((?!/)[^`\n|]*)")
_EXIT = re.compile(r"\bexit(?:s|ed)?(?: with)?(?: codes?)? (\d+)\b(?!\.\d)", re.IGNORECASE)
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_LOOSE_OPTIONS = frozenset({"--help", "-h", "--version"})


def _name(path: Path) -> str:
    return str(path.relative_to(_ROOT))


def _text(path: Path) -> str:
    assert path.is_file(), f"{_name(path)} is missing: the documents are part of the product"
    return path.read_text()


def _commands() -> dict[str, click.Command]:
    command()  # registers every command
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group) or hasattr(group, "commands")
    return dict(group.commands)


def _calls(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (where, words after `safetune`) for every call in code, joined lines included."""
    for code in _CODE.finditer(_text(path)):
        for call in _CALL.finditer(code.group().replace("\\\n", " ").strip("`")):
            words = re.split(r"\s+", call.group(1).partition("#")[0].strip())
            if words and words[0]:
                yield f"{_name(path)}: safetune {' '.join(words)}", words


def _options(found: click.Command) -> set[str]:
    names = {name for p in found.params if hasattr(p, "opts") for name in (*p.opts, *p.secondary_opts)}
    return {name for name in names if name.startswith("-")} | _LOOSE_OPTIONS


@pytest.mark.parametrize("path", _DOCS, ids=_name)
def test_every_command_and_option_in_the_documents_exists(path: Path) -> None:
    known, wrong = _commands(), []
    for where, words in _calls(path):
        if words[0].startswith("-"):
            wrong += [where] if words[0] not in _LOOSE_OPTIONS else []
        elif re.fullmatch(r"[a-z][a-z-]*", words[0]):
            group = getattr(known.get(words[0]), "commands", {})
            if group and len(words) > 1 and words[1] not in group:
                wrong.append(where)
            found = group.get(words[1]) if group and len(words) > 1 else known.get(words[0])
            options = _options(found) if found else set()
            wrong += [where] if words[0] not in known else []
            # What follows a separator belongs to another program.
            own = words[: next((n for n, w in enumerate(words) if w in ("&&", "|", ";", ">")), len(words))]
            used = {w.partition("=")[0].rstrip(",.;:)") for w in own if re.match(r"--?[a-z]", w)}
            wrong += [f"{where}: {option}" for option in used - options] if words[0] in known else []
    assert wrong == []


def test_the_readme_shows_the_commands_of_the_main_job() -> None:
    shown = {words[0] for _, words in _calls(_ROOT / "README.md")}
    assert {"plan", "run", "evaluate", "rollback"} <= shown


@pytest.mark.parametrize("path", _DOCS, ids=_name)
def test_every_exit_code_in_the_documents_exists(path: Path) -> None:
    named = {int(number) for number in _EXIT.findall(_text(path))}
    assert named - {int(code) for code in ExitCode} == set()


def test_the_readme_explains_every_exit_code() -> None:
    rows = dict(re.findall(r"^\| *(\d+) *\| *(.+?) *\|", _text(_ROOT / "README.md"), re.MULTILINE))
    assert {int(code): meaning for code, meaning in rows.items()} == {
        int(code): meaning for code, meaning in EXIT_CODE_MEANINGS.items()
    }


def test_every_exit_code_has_a_meaning() -> None:
    assert set(EXIT_CODE_MEANINGS) == set(ExitCode)


@pytest.mark.parametrize("path", _DOCS, ids=_name)
def test_every_target_of_make_in_the_documents_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", _text(_ROOT / "Makefile"), re.MULTILINE))
    code = "\n".join(found.group() for found in _CODE.finditer(_text(path)))
    assert set(re.findall(r"(?<![\w-])make ([a-z-]+)", code)) - targets == set()


@pytest.mark.parametrize("path", _DOCS, ids=_name)
def test_every_linked_file_exists(path: Path) -> None:
    links = [link for link in _LINK.findall(_text(path)) if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in links if not (path.parent / link).exists()] == []
