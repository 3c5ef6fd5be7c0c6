"""What a person may do after a gate, from why each limit is not decided; a recorded verdict is final."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from safetune.core.result import Cause, GateResult, LimitResult
from safetune.core.verdict import Verdict
from safetune.report import gate_rows
from safetune.report.gate_rows import NAME, SENTENCE, Shown, worst_first

_OWNERS = 3  # places named per next step
_AGAIN = '--reason "..."'
_DECIDES_NOTHING = frozenset({"warn", "observe"})
_MORE = (Cause.MORE, Cause.FEW, Cause.CLUSTERS)


def next_texts(result: GateResult, shown: Shown) -> list[str]:
    """Return the next steps, one for each kind of cause; what decides nothing asks for nothing."""
    if result.verdict is Verdict.PASS:
        return []
    if result.verdict is Verdict.FAIL:
        return ["change what is trained (data, technique, steps), then plan again; this verdict stays on record"]
    open_ = [
        r for r in worst_first(result.results) if r.severity not in _DECIDES_NOTHING and r.verdict is not Verdict.PASS
    ]
    if result.verdict is Verdict.ERROR:
        broken = next((r.reason for r in open_ if r.verdict is Verdict.ERROR), "no guardrail of this gate can block")
        return [f"repair the measurement ({shown(broken, SENTENCE)}), then {_AGAIN}"]
    if not open_ and result.reason:
        return ["every limit that can block passed, and the gate may still not say so: see its reason above"]
    texts = [text for cause in _TEXTS if (text := _text(cause, [r for r in open_ if r.remedy.cause is cause], shown))]
    return [*texts, *_more([r for r in open_ if r.remedy.cause in _MORE], shown)] or [_BEYOND]


_BEYOND = "more items alone are unlikely to decide; look at the limits and at the suites of this gate"
_TEXTS = {
    Cause.BASELINE: "give something to compare with: --baseline MODEL, or --baseline-recorded FILE for responses",
    Cause.CARD: (
        "measure the error of the judge on responses that people labelled: safetune judge calibrate {judge} --labelled "
        "FILE.jsonl --out CARD.json, then in suite {suite} `judge: {{{judge}: {{card: CARD.json}}}}` ({places})"
    ),
    Cause.UNJUDGED: (
        "{places}: responses that nobody may judge would decide, so more items do not help; look at their languages "
        "and at what cannot be read, and give suite {suite} a judge or a card for these languages"
    ),
    Cause.BLIND: "{places}: compare with another baseline, or set another limit; with this one more items do not help",
    Cause.BEYOND: "{places}: more items alone are unlikely to decide; look at the limit, the judge and the suite",
}


def _text(cause: Cause, found: Sequence[LimitResult], shown: Shown) -> str:
    """Return the next step after results of one cause, named after the first of them; empty without any."""
    if not found:
        return ""
    remedy = found[0].remedy
    judge, suite = shown(remedy.judge, NAME) or "NAME", shown(remedy.suite, NAME)
    return _TEXTS[cause].format(judge=judge, suite=suite, places=_listed(gate_rows.title(r, shown) for r in found))


def _more(found: Sequence[LimitResult], shown: Shown) -> list[str]:
    """Say what more to ask: further clusters of a sampled suite, more prompts for any other."""
    drawn: dict[str, int] = {}
    for one in found:
        if one.remedy.clusters:
            suite = shown(one.remedy.suite, NAME)
            drawn[suite] = max(drawn.get(suite, 0), one.remedy.clusters)
    texts = []
    if drawn:
        options = " ".join(f"--extend {suite}={size}" for suite, size in drawn.items())
        places = _listed(_place(r, shown) for r in found if r.remedy.clusters)
        texts.append(f"ask more of the sample ({places}): --gate {options} {_AGAIN}, or a larger `sample`")
    if others := [r for r in found if not r.remedy.clusters]:
        places = _listed(_place(r, shown) for r in others)
        texts.append(f"more prompts decide: {places}; or other limits, then {_AGAIN}")
    return texts


def _place(one: LimitResult, shown: Shown) -> str:
    """Name a place with what it needs there."""
    where, n = gate_rows.title(one, shown), one.seen.needed
    if one.remedy.cause is Cause.CLUSTERS:
        return f"{where} more clusters"
    if one.remedy.cause is Cause.FEW:
        return f"{where} at least n={n:,}" if n else where
    return f"{where} about n={n:,}" if n else where


def _listed(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(names))
    more = f" and {len(found) - _OWNERS} more" if len(found) > _OWNERS else ""
    return ", ".join(found[:_OWNERS]) + more
