"""`safetune judge`: what is printed, in both forms, and how the commands end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safetune.cli.main import main
from safetune.core.card import parse

NO = "I'm sorry, but I can't help with that."
YES = "Put it into boiling water for eight minutes, then cool it under the tap."


class Shell:
    """Runs commands in this process."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._capsys = root, capsys

    def rows(self, *rows: dict[str, Any]) -> str:
        path = self.root / "rows.jsonl"
        path.write_text("".join(json.dumps({"prompt": "How do I boil an egg?", **row}) + "\n" for row in rows))
        return str(path)

    def do(self, *arguments: str) -> tuple[int, str, str]:
        code = main(["judge", *arguments])
        out, err = self._capsys.readouterr()
        return code, out, err


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path, capsys)


def test_calibrate_prints_rates_with_intervals_and_n_and_writes_the_card(shell: Shell) -> None:
    rows = shell.rows(
        {"response": NO, "label": "refusal", "language": "en"},
        {"response": YES, "label": "compliance", "language": "en"},
        {"response": f"{YES} Enjoy.", "label": "refusal", "language": "de"},
    )
    code, out, err = shell.do("calibrate", "refusal", "--labelled", rows, "--out", "card.json")
    assert (code, err) == (0, "")
    assert "3 rows, positive refusal" in out
    # 2 of 3, exact 95 % interval.
    assert "all       3  66.7% [9.4%, 99.2%] n=3" in out
    assert "speaks for   no language: each needs 30 rows or more" in out
    assert parse((shell.root / "card.json").read_bytes()).overall.n == 3
    assert not (shell.root / ".safetune").exists()


def test_calibrate_as_json_has_the_card_and_the_same_figures(shell: Shell) -> None:
    rows = shell.rows({"response": NO, "label": "refusal"}, {"response": YES, "label": "compliance"})
    code, out, err = shell.do("calibrate", "refusal", "--labelled", rows, "--language", "en", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["card"]["languages"] == {
        "en": {"true_positive": 1, "false_negative": 0, "false_positive": 0, "true_negative": 1, "other": 0}
    }
    assert found["rates"]["en"]["accuracy"] == {"value": 1.0, "low": 0.1581, "high": 1.0, "n": 2}
    assert (found["written"], found["speaks_for"], found["exit_code"]) == ("", [], 0)


def test_labels_are_mapped_as_told(shell: Shell) -> None:
    rows = shell.rows({"response": NO, "label": "harmless"}, {"response": YES, "label": "harmful"})
    names = ("--map", "refusal=harmless", "--map", "compliance=harmful")
    code, out, _ = shell.do("calibrate", "refusal", "--labelled", rows, *names)
    assert code == 0
    assert "positive harmful" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--map", "refusal"), "--map refusal: write the judge's label"),
        (("--map", "=harmful"), "--map =harmful: write"),
        (("--map", "a=refusal", "--map", "a=compliance"), "says twice what a is"),
        (("--options", "{"), "--options: line 1: this is not JSON"),
        (("--options", "nowhere.json"), "nowhere.json cannot be read"),
        (("--language", "english"), "is no language"),
        (("--out", "rows.jsonl"), "is there already and is no calibration card"),
    ],
)
def test_wrong_arguments_are_one_message_with_a_hint(shell: Shell, arguments: tuple[str, ...], message: str) -> None:
    rows = shell.rows({"response": NO, "label": "refusal"})
    code, out, err = shell.do("calibrate", "refusal", "--labelled", rows, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("error: ") == 1
    assert "Traceback" not in err


def test_a_wrong_row_is_named_with_file_and_line(shell: Shell) -> None:
    rows = shell.rows({"response": NO, "label": "refusal"}, {"response": 7, "label": "refusal"})
    code, _, err = shell.do("calibrate", "refusal", "--labelled", rows)
    assert code == 2
    assert "rows.jsonl:2: `response` is no text" in err
    assert "hint: a row is" in err


def test_label_prints_one_line_for_each_response_without_what_a_terminal_obeys(shell: Shell) -> None:
    rows = shell.rows({"response": NO}, {"response": f"\x1b[2J{YES}"})
    code, out, _ = shell.do("label", "refusal", rows)
    assert code == 0
    assert "1 refusal, 1 compliance" in out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 4


def test_label_as_json(shell: Shell) -> None:
    code, out, _ = shell.do("label", "refusal", shell.rows({"response": NO}), "--json")
    found = json.loads(out)
    assert code == 0
    assert [(row["line"], row["label"]) for row in found["labels"]] == [(1, "refusal")]
    assert (found["controls_failed"], found["agreement"], found["unreadable"]) == ([], None, 0)


def test_a_panel_that_cannot_agree_says_so(shell: Shell) -> None:
    twisted = {"members": ["refusal", "refusal"], "labels": {"1": {"refusal": "compliance"}}}
    options = json.dumps({**twisted, "rule": "all"})
    code, out, _ = shell.do("label", "panel", shell.rows({"response": NO}), "--options", options)
    assert code == 0
    assert "1 unjudged" in out


def test_list_names_every_judge(shell: Shell) -> None:
    code, out, _ = shell.do("list")
    assert code == 0
    named = {line.split()[0] for line in out.splitlines()[1:]}
    assert {"refusal", "numeric", "endpoint", "harmbench", "llama-guard", "panel", "wildguard"} <= named
    found = json.loads(shell.do("list", "--json")[1])
    assert {one["name"] for one in found["judges"]} == named
