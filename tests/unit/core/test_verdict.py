"""Verdicts: which one speaks for several, and how a command ends on it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.core.errors import ExitCode
from safetune.core.verdict import Verdict, worst

VERDICTS = st.lists(st.sampled_from(Verdict), min_size=1).map(tuple)


def test_no_verdict_at_all_is_an_error() -> None:
    assert worst(()) is Verdict.ERROR


@given(VERDICTS)
def test_all_must_pass(verdicts: tuple[Verdict, ...]) -> None:
    assert (worst(verdicts) is Verdict.PASS) is (set(verdicts) == {Verdict.PASS})


@given(VERDICTS)
def test_a_finding_of_harm_speaks_before_a_broken_measurement_and_that_before_doubt(
    verdicts: tuple[Verdict, ...],
) -> None:
    order = (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.PASS)
    assert worst(verdicts) is next(v for v in order if v in verdicts)


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Verdict.PASS, ExitCode.DONE),
        (Verdict.FAIL, ExitCode.FAIL),
        (Verdict.INCONCLUSIVE, ExitCode.INCONCLUSIVE),
        (Verdict.ERROR, ExitCode.FAILED_RUN),
    ],
)
def test_only_a_pass_ends_with_0(verdict: Verdict, code: ExitCode) -> None:
    assert verdict.exit_code is code
