"""The smaller parts of the command line: arguments, starter, and the look at the machine."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from safetune.cli import machine
from safetune.cli.app import app, command
from safetune.cli.arguments import Plain, simplify
from safetune.cli.data import data
from safetune.cli.judges import judge
from safetune.cli.main import main
from safetune.cli.starter import write_starter
from safetune.core.errors import EXIT_CODE_MEANINGS, MachineError, UsageError


def _plain(annotation: object, least: float | None = None) -> Plain:
    return Plain(SimpleNamespace(type_descriptor=SimpleNamespace(annotation=annotation), min=least))


def test_arguments_become_what_the_commands_expect() -> None:
    assert _plain(str).coerce("a", None, None) == "a"
    assert _plain(int).coerce("7", None, None) == 7
    assert _plain(Path).coerce("a/b", None, None) == Path("a/b")
    assert _plain(Path).coerce(Path("a"), None, None) == Path("a")
    assert _plain(list[str]).coerce(("a", "b"), None, None) == ["a", "b"]
    assert _plain(list[str]).coerce(None, None, None) is None
    assert _plain(int).coerce(None, None, None) is None


@pytest.mark.parametrize("value", ["x", "1.5", "", "0", "-1"])
def test_a_number_that_is_none_or_too_small_is_refused(value: str) -> None:
    with pytest.raises(typer.BadParameter):
        _plain(int, 1).coerce(value, None, None)


def test_every_parameter_of_every_command_is_converted_without_typer() -> None:
    tree = command()
    commands = {"": tree, **tree.commands, **tree.commands["judge"].commands}  # type: ignore[attr-defined]
    commands |= {f"data {name}": one for name, one in tree.commands["data"].commands.items()}  # type: ignore[attr-defined]
    left = [
        (name, parameter.name)
        for name, one in commands.items()
        for parameter in one.params
        if not isinstance(parameter._runtime_param, Plain)
    ]
    assert len(commands) == 25
    assert left == []


def test_a_typer_without_that_place_is_left_alone() -> None:
    class Other:
        params: tuple[object, ...] = (SimpleNamespace(type_descriptor=SimpleNamespace(annotation=str)),)
        commands: dict[str, object] = {}  # noqa: RUF012
        allow_extra_args = allow_interspersed_args = ignore_unknown_options = False

        def get_params(self, context: object) -> tuple[object, ...]:
            return self.params

    simplify(Other(), ["--help"])
    assert not hasattr(Other.params[0], "_runtime_param")


def test_every_command_has_help_with_an_example_store_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    names = [info.name or (info.callback.__name__ if info.callback else "") for info in app.registered_commands]
    assert (
        " ".join(names)
        == "init plan run evaluate prompts rollback status log verify export approve override trace schema doctor"
    )
    below = [f"judge {info.name}" for info in judge.registered_commands]
    assert " ".join(below) == "judge list judge label judge calibrate"
    data_commands = [f"data {info.name or getattr(info.callback, '__name__', '')}" for info in data.registered_commands]
    assert " ".join(data_commands) == "data check data card data withdraw data pin"
    for name in (*names, *below, *data_commands):
        assert main([*name.split(), "--help"]) == 0
        text = capsys.readouterr().out
        assert f"Example:\n    safetune {name}" in text
        assert "--store" in text or name == "data pin"
        assert "--json" in text


def test_the_help_lists_every_command_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for code, meaning in EXIT_CODE_MEANINGS.items():
        assert f"{int(code):>5}  {meaning}" in text
    assert "..." not in text.replace("[ARGS]...", "")  # no summary is cut short


def test_the_starter_is_written_once_and_never_over_anything(tmp_path: Path) -> None:
    written = write_starter(tmp_path / "new")
    assert written[-1] == tmp_path / "new" / "playbook.yaml"
    before = {path: path.read_bytes() for path in written}
    for path in written:
        others = [p for p in written if p != path]
        for other in others:
            other.unlink()
        with pytest.raises(UsageError, match="exists; nothing was written"):
            write_starter(tmp_path / "new")
        assert not any(other.exists() for other in others)
        assert path.read_bytes() == before[path]
        path.unlink()
        write_starter(tmp_path / "new")
    assert {path: path.read_bytes() for path in written} == before


def test_the_starter_refuses_a_link_to_nowhere_and_a_file_as_folder(tmp_path: Path) -> None:
    (tmp_path / "playbook.yaml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="exists; nothing was written"):
        write_starter(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["playbook.yaml"]
    with pytest.raises(UsageError, match="not a folder"):
        write_starter(_file(tmp_path))


@pytest.mark.parametrize("allowed", range(6))
def test_a_disk_that_fills_up_leaves_nothing_of_the_starter(
    allowed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [allowed]

    def space_for_a_few(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*args: object, **options: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **options)

        return call

    for name in ("write", "replace"):
        monkeypatch.setattr(os, name, space_for_a_few(name))
    (tmp_path / "mine").write_text("x")
    with pytest.raises(MachineError, match="the disk is full"):
        write_starter(tmp_path / "new" / "folder")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_a_file_that_somebody_makes_meanwhile_is_kept_and_nothing_else_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "lexists", lambda path: False)  # as if the files came after the look
    (tmp_path / "playbook.yaml").write_text("theirs")
    with pytest.raises(UsageError, match="exists; nothing was written"):
        write_starter(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["playbook.yaml"]
    assert (tmp_path / "playbook.yaml").read_text() == "theirs"


def _file(folder: Path) -> Path:
    path = folder / "plain"
    path.write_text("x")
    return path


def test_the_rows_of_the_starter_are_the_ones_that_its_playbook_pins(tmp_path: Path) -> None:
    *rows, playbook = write_starter(tmp_path)
    assert rows
    for path in rows:
        assert hashlib.sha256(path.read_bytes()).hexdigest() in playbook.read_text()


def test_doctor_finds_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFETUNE_DATA_ROOT", str(tmp_path / "nowhere"))
    monkeypatch.setattr(machine, "_PACKAGES", ("typer", "no-such-package-at-all"))
    monkeypatch.setattr(machine, "_LITTLE_DISK", 10**18)
    missing = {check.topic: check for check in machine.look(tmp_path / "store") if not check.good}
    assert set(missing) == {"no-such-package-at-all", "disk", "data root"}
    assert all(check.hint for check in missing.values())


def test_a_store_that_is_a_file_is_said_by_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_starter(Path())
    place = str(_file(tmp_path))
    for words in (["plan", "playbook.yaml"], ["run", "playbook.yaml"], ["status"], ["log"], ["verify"], ["rollback"]):
        assert main([*words, "--store", place]) == 2
        assert f"{place} is a file, a store is a folder" in capsys.readouterr().err
    assert main(["doctor", "--store", place]) == 2
    assert "is a file, a store is a folder" in capsys.readouterr().out


def test_doctor_looks_at_a_store_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "format").write_text("x")
    found = {check.topic: check.found for check in machine.look(tmp_path)}
    assert found["store"] == str(tmp_path)
