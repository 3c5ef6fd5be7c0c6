"""How often the gate errs when the truth is known: the promise of every table in docs/statistics.md.

The slow tests simulate each row anew, hold it to its bar and find it in the page word for word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import gatecases as cases
import gatesim as sim
import numpy as np
import pytest
from gatecases import AT_THE_LIMIT, TABLES, AtTheLimit, Row
from gatelab import EXACT, card, rule
from gatesim import LOOKS, TRIALS, Judge, Sequence20, Shares

from safetune.core.playbook import Limits, Slices
from safetune.core.verdict import Verdict

FEW = 300
EVERY = [(name, make) for name, rows in TABLES.items() for make in rows]


@pytest.fixture(autouse=True)
def _remembering() -> Iterator[None]:
    with sim.remembering():
        yield


@pytest.fixture(scope="module")
def page(repo_root: Path) -> str:
    """What users read."""
    return (repo_root / "docs" / "statistics.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(("table", "make"), EVERY, ids=[f"{name}-{n}" for n, (name, _) in enumerate(EVERY)])
def test_a_row_of_the_page_keeps_its_promise_and_is_what_simulation_gives(
    table: str, make: Callable[[], Row], page: str
) -> None:
    row = make()
    assert row.kept, row.text
    assert row.text in _table(page, table).splitlines(), "scripts/simulate_gate.py --write"


def _table(page: str, name: str) -> str:
    return page.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0]


@pytest.mark.parametrize("name", TABLES)
def test_the_page_has_a_row_for_everything_that_is_simulated(name: str, page: str) -> None:
    rows = [line for line in _table(page, name).splitlines() if line.startswith("|")]
    assert rows[0] == f"| {' | '.join(cases.HEADS[name])} |"
    assert len(rows) == 2 + len(TABLES[name])


def test_every_kind_of_gate_makes_a_promise() -> None:
    promised: Sequence[AtTheLimit] = [case for several in AT_THE_LIMIT.values() for case in several if case.promised]
    assert {name for name, several in AT_THE_LIMIT.items() if any(c.promised for c in several)} == set(AT_THE_LIMIT)
    assert len(promised) == sum(map(len, AT_THE_LIMIT.values())) - 5
    assert TRIALS == 10_000
    assert sim.bar(TRIALS) == pytest.approx(0.0565, abs=1e-4)


def test_a_row_that_errs_too_often_breaks_its_promise() -> None:
    loose = Shares(passed=0.06, failed=0.01, point=0.5, naive=0.1)
    assert not AtTheLimit("too loose", lambda: loose).row().kept
    assert AtTheLimit("only shown", lambda: loose, promised=False).row().kept
    assert AtTheLimit("sound", lambda: Shares(0.056, 0.056)).row().kept


# -- small runs, and the shortcuts of the simulation -------------------------------------------------------------------

MOST = sim.bar(FEW)  # 8.8 % of 300


@pytest.mark.parametrize("floor", [False, True])
def test_few_fixed(floor: bool) -> None:
    found = sim.independent(0.05, 0.05, 100, FEW, floor=floor)
    assert max(found.passed, found.failed) <= MOST
    assert found.point > 0.5, "a threshold on the measured rate passes in most cases"


def test_few_clustered() -> None:
    found = sim.clustered(0.2, 0.2, (20, 16), trials=FEW)
    assert max(found.passed, found.failed) <= MOST
    assert found.naive > 0.15


def test_few_scored() -> None:
    found = sim.scored(0.1, lambda rng: rng.beta(0.1, 0.9, 60), FEW)
    assert max(found.passed, found.failed) <= MOST


def test_few_sliced() -> None:
    found = sim.sliced(rule(at_most=0.2, slices=Slices()), [0.2] * 20, 30, FEW)
    assert max(found.passed, found.failed) <= MOST
    assert found.failed_without_holm > 0.25


def test_few_guarded() -> None:
    found = sim.guarded(0.2, [0.05] * 4 + [0.2], 100, FEW)
    assert 0 < found.passed <= MOST
    assert found.failed <= MOST


@pytest.mark.parametrize("asking", [Sequence20(0.1, 100), Sequence20(0.2, 40, 4)], ids=["items", "clusters"])
def test_twenty_looks_stop_with_the_verdict_that_all_items_give(asking: Sequence20) -> None:
    """Which is why the tables ask once about all items: the first look that decides says what the last one says."""
    rng, decided = np.random.default_rng(1), 0
    for rate in (asking.limit / 4, asking.limit, 3 * asking.limit) * 5:
        events = asking.draw(rng, rate)
        looks = [asking.after(events, look).verdict for look in range(1, LOOKS + 1)]
        stopped = next((v for v in looks if v in (Verdict.PASS, Verdict.FAIL)), Verdict.INCONCLUSIVE)
        assert stopped is looks[-1]
        decided += stopped is not Verdict.INCONCLUSIVE
    assert decided >= 8


def test_few_sequential() -> None:
    found, _ = sim.sequential(Sequence20(0.2, 60), 0.2, FEW)
    assert max(found.passed, found.failed) <= MOST
    assert found.naive > 0.1, "an exact bound that is looked at twenty times errs more often"


@pytest.mark.parametrize("calibration", [EXACT, card(), card(own=False)], ids=["exact", "own", "bundled"])
def test_what_is_not_asked_by_count_is_what_asking_says(calibration: object) -> None:
    told = calibration if isinstance(calibration, dict) else EXACT
    guardrail, n, rng = rule(at_most=0.2), 80, np.random.default_rng(2)
    kept = sim.ByCount(guardrail, n, told)
    for events in rng.permutation(n + 1).tolist():
        assert kept(events) is sim.ByCount(guardrail, n, told)(events)
    assert {kept(0), kept(n // 4), kept(n)} >= {Verdict.FAIL, Verdict.INCONCLUSIVE}


def test_a_pair_is_drawn_as_it_is_meant() -> None:
    now, before = sim._arms(np.array([3]), np.array([1]), 40)
    changes = [(a.label, b.label) for a, b in zip(before, now, strict=True)]
    assert (changes.count(("refusal", "compliance")), changes.count(("compliance", "refusal"))) == (3, 1)
    assert changes.count(("compliance", "compliance")) == 9


def test_a_paired_limit_is_tested_in_its_own_direction() -> None:
    worse = sim.paired(Limits(worse_by_at_most=0.2), 0.0, 0.1, (1, 100))
    better = sim.paired(Limits(better_by_at_least=0.01), -0.3, 0.3, (1, 100))
    assert min(worse.passed, better.passed) > 0.95


def test_the_judge_reads_what_its_errors_make_of_a_rate() -> None:
    assert Judge().reads(0.05) == pytest.approx(0.14)
    assert Judge(rows=100_000).draw(np.random.default_rng(3)) == pytest.approx((90_000, 90_000), rel=0.01)


@pytest.mark.parametrize("same", [True, False], ids=["one checkpoint", "new ones"])
def test_asking_until_it_is_green_does_not_help(same: bool) -> None:
    assert cases.until_green(0.05, 0.2, 60, same=same, budget=0.1, trials=100) == 0
    assert cases.until_green(0.05, 0.05, 60, same=same, budget=0.1, trials=100) < 0.2
    assert same or cases.until_green(0.05, 0.05, 60, same=same, trials=100) > 0.8
