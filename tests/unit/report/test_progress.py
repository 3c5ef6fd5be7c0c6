"""Progress: a plain log that is never noisy and never loses what matters, and lines that are redrawn in place."""

from __future__ import annotations

import io
import re
from itertools import pairwise

from safetune.protocols import Progress
from safetune.report.progress import LiveLines, PlainLog, fit
from safetune.report.text import width


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _step(n: int, steps: int = 100, subject: str = "s/sft") -> Progress:
    fields = {"step": n, "steps": steps, "loss": 1.25, "tokens_per_s": 1234.5, "seconds_left": 840.0}
    return Progress("step", subject, fields)


def test_a_step_line_has_step_loss_speed_and_time_left() -> None:
    stream, clock = io.StringIO(), Clock()
    PlainLog(stream, clock)(_step(10))
    assert stream.getvalue() == "s/sft: step 10/100  loss 1.2500  1,234 tokens/s  14 min left\n"


def test_a_log_has_about_one_line_per_tenth_of_the_work() -> None:
    stream, clock = io.StringIO(), Clock()
    log = PlainLog(stream, clock)
    for n in range(1, 1001):
        clock.now += 2
        log(_step(n, 1000))
    log.close()
    lines = stream.getvalue().splitlines()
    assert 10 <= len(lines) <= 11
    assert lines[-1].startswith("s/sft: step 1000/1000")


def test_never_more_than_one_line_per_second_and_subject() -> None:
    stream, clock = io.StringIO(), Clock()
    log = PlainLog(stream, clock)
    written: list[float] = []
    for n in range(1, 1001):
        clock.now += 0.01
        before = len(stream.getvalue())
        log(_step(n, 1000))
        log(Progress("saved", "s/sft", {"step": n}))
        written += [clock.now] if len(stream.getvalue()) > before else []
    assert len(written) >= 5
    assert min(b - a for a, b in pairwise(written)) >= 0.99
    assert stream.getvalue().count("\n") == len(written)


def test_steps_that_come_too_fast_are_left_out_and_not_piled_up() -> None:
    stream, clock = io.StringIO(), Clock()
    log = PlainLog(stream, clock)
    for n in range(1, 101):
        clock.now += 0.05
        log(_step(n))
    log.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) >= 5
    assert all(line.count("step ") == 1 for line in lines)


def test_what_is_said_once_is_never_lost() -> None:
    stream, clock = io.StringIO(), Clock()
    log = PlainLog(stream, clock)
    log(Progress("stage", "s/sft", {"steps": ["train", "gate"], "why": "never trained"}))
    log(Progress("start", "s/sft", {"steps": 20}))
    log(Progress("resumed", "s/sft", {"step": 8}))
    log(Progress("settled", "s/sft", {"outcome": "promoted", "checkpoint": "ab" * 32, "verdict": "PASS"}))
    log.close()
    assert stream.getvalue().splitlines() == [
        "s/sft: train, gate: never trained",
        "s/sft: starting, 20 steps; resumed after step 8; promoted abababababab, gate PASS",
    ]


def test_a_held_line_is_said_when_anybody_speaks_a_second_later() -> None:
    stream, clock = io.StringIO(), Clock()
    log = PlainLog(stream, clock)
    log(Progress("stage", "a", {"steps": ["train"], "why": ""}))
    log(Progress("note", "a", {"text": "converting"}))
    clock.now += 1
    log(Progress("note", "b", {"text": "hello"}))
    assert stream.getvalue().splitlines() == ["a: train", "a: converting", "b: hello"]


def test_a_second_stage_of_the_same_name_is_logged_from_its_start() -> None:
    stream, clock = io.StringIO(), Clock()
    log = PlainLog(stream, clock)
    for _ in range(2):
        log(Progress("start", "s/sft", {"steps": 2}))
        for n in (1, 2):
            clock.now += 2
            log(_step(n, 2))
        clock.now += 2
    assert stream.getvalue().count("step 1/2") == 2


def test_responses_are_counted_without_a_speed_at_first() -> None:
    stream = io.StringIO()
    PlainLog(stream, Clock())(Progress("generated", "evaluate x", {"done": 0, "total": 64, "tokens_per_s": None}))
    assert stream.getvalue() == "evaluate x: 0/64 responses\n"


def test_a_kind_that_nobody_knows_says_nothing() -> None:
    stream = io.StringIO()
    log = PlainLog(stream, Clock())
    log(Progress("telemetry", "x", {"a": 1}))
    log.close()
    assert stream.getvalue() == ""


def test_figures_that_are_missing_or_wrong_do_not_raise() -> None:
    for listener in (PlainLog(io.StringIO(), Clock()), LiveLines(io.StringIO(), Clock())):
        for kind in ("stage", "start", "step", "generated", "resumed", "saved", "settled", "note"):
            listener(Progress(kind, "x", {}))
            listener(Progress(kind, "x", {"step": "a", "steps": None, "done": True, "total": 0, "loss": []}))
        listener.close()


class Gone(io.StringIO):
    """A terminal that went away."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_terminal_that_went_away_does_not_end_a_training() -> None:
    for listener in (PlainLog(Gone(), Clock()), LiveLines(Gone(), Clock())):
        listener(_step(1))
        listener.close()


def _screen(written: str) -> list[str]:
    """Play what was written on a terminal of unlimited height."""
    lines: list[str] = []
    for piece in re.split(r"(\x1b\[\d+F\x1b\[J)", written):
        if back := re.fullmatch(r"\x1b\[(\d+)F\x1b\[J", piece):
            del lines[len(lines) - int(back.group(1)) :]
        else:
            lines += piece.splitlines()
    return lines


def test_live_lines_are_one_per_subject_and_redrawn_in_place() -> None:
    stream, clock = io.StringIO(), Clock()
    live = LiveLines(stream, clock)
    for n in range(1, 4):
        clock.now += 1
        live(_step(n))
        live(Progress("generated", "evaluate base", {"done": n, "total": 9}))
    live.close()
    screen = _screen(stream.getvalue())
    assert len(screen) == 2
    assert screen[0].startswith("s/sft  step 3/100")
    assert screen[1].startswith("evaluate base  3/9 responses")


def test_a_settled_stage_leaves_one_line_behind() -> None:
    stream, clock = io.StringIO(), Clock()
    live = LiveLines(stream, clock)
    live(_step(100))
    clock.now += 1
    live(Progress("settled", "s/sft", {"outcome": "rejected", "checkpoint": "cd" * 32, "verdict": "FAIL"}))
    live(_step(1, subject="s/dpo"))
    live.close()
    screen = _screen(stream.getvalue())
    assert screen[0] == "s/sft  rejected cdcdcdcdcdcd, gate FAIL"
    assert screen[1].startswith("s/dpo  step 1/100")


def test_live_figures_are_drawn_at_most_ten_times_a_second_and_the_last_is_drawn_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    live = LiveLines(stream, clock)
    for n in range(1, 101):
        clock.now += 0.001
        live(_step(n))
    assert stream.getvalue().count("step") <= 3
    live.close()
    assert _screen(stream.getvalue())[-1].startswith("s/sft  step 100/100")


def test_a_line_never_wraps() -> None:
    assert fit("x" * 50, 40) == "x" * 37 + "..."
    assert fit("short", 40) == "short"
    assert width(fit("日" * 50, 41)) <= 41
    assert fit("x" * 50, 1) == "x" * 17 + "..."
