"""Screen the rows of a stage by the model that the stage starts from: scores, flags, and what follows from them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetune.core.digest import JSON, canonical, short
from safetune.core.errors import IntegrityError, RunError, UsageError
from safetune.core.events import Event, screened
from safetune.core.playbook import Screen, Stage
from safetune.engine.asking import Subject
from safetune.engine.data.mixture import TRAIN, Part
from safetune.engine.data.stage_rows import StageRows
from safetune.engine.jobs import run_jobs, write_job
from safetune.plugins import load
from safetune.protocols import Job, Launcher, Listener
from safetune.state.atomic import write_atomic
from safetune.state.files import open_regular
from safetune.state.store import Store

SCORES, REPORT, FORMAT = "scores.jsonl", "screen.json", "safetune-screen/1"
DROP = "drop"


@dataclass(frozen=True, slots=True)
class Screened:
    """What screening found: the stored object, how many rows were scored, and the numbers of the flagged ones."""

    data: str
    scored: int
    flagged: tuple[int, ...]


def screen_rows(
    rows: StageRows, stage: Stage, start: Subject, where: tuple[Store, Path, str], listener: Listener
) -> StageRows:
    """Score the rows of a stage and leave out what the playbook says; `where` is the store, the folder, the stage key.

    Raises:
        UsageError: when more rows are flagged than the playbook allows.
        RunError: when a row cannot be scored.
    """
    screen = stage.screen
    if screen is None:
        return rows
    store, folder, key = where
    parts = [part for part in rows.parts if part.role == TRAIN]
    found = _known(store.events(), key, rows.mixture, screen, store)
    if found is None:
        scores = _score(rows, stage, screen, start, (folder, listener))
        found = _store(scores, parts, screen, rows.mixture, (store, folder))
        counts = found.scored, len(found.flagged)
        store.commit(screened((key, rows.mixture), found.data, counts, screen.identity))
    share = len(found.flagged) / found.scored
    if screen.max_flagged is not None and share > screen.max_flagged:
        raise UsageError(
            f"stage {stage.name}: the screen {screen.name} flags {len(found.flagged)} of {found.scored} rows "
            f"({share:.1%}), more than {screen.max_flagged:.1%}; nothing was trained",
            hint=f"look at the scores in object {short(found.data)}, mend or leave out the rows, and run again",
        )
    return replace(rows, skip=found.flagged) if screen.action == DROP else rows


def _known(events: Sequence[Event], key: str, mixture: str, screen: Screen, store: Store) -> Screened | None:
    """Return a screening of the very same rows with the same settings that the ledger names."""
    for event in reversed(events):
        same = event.text("stage_key") == key and event.text("mixture") == mixture
        if event.kind == "screened" and same and canonical(event.data.get("screen")) == canonical(screen.identity):
            data = event.text("scores")
            store.objects.verify(data)
            try:
                with open_regular(store.objects.path(data) / REPORT) as stream:
                    said = json.loads(stream.read())
                return Screened(data, int(said["scored"]), tuple(int(n) for n in said["flagged"]))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise IntegrityError(f"screening {short(data)} cannot be read: {error}") from error
    return None


def _score(rows: StageRows, stage: Stage, screen: Screen, start: Subject, place: tuple[Path, Listener]) -> list[float]:
    folder, listener = place[0] / "screen", place[1]
    anchors = {side: rows.job_sources(f"anchor:{side}") for side in ("harmful", "safe")}
    content: dict[str, JSON] = {
        "job": "screen",
        "model": start.weights,
        "rows": rows.job_sources(),
        "screen": screen.name,
        "options": screen.options,
        "anchors": {side: found[0] for side, found in anchors.items()} if all(anchors.values()) else None,
        "seed": stage.seed,
        "threads": stage.launch.threads,
        "output": str(folder / "scores"),
    }
    prompt = rows.job(stage).get("prompt")
    write_job(folder, {**content, **({"prompt": prompt} if prompt else {})})
    launcher: Launcher = load("launcher", "local")  # type: ignore[assignment]
    job = Job(folder, "screen", threads=stage.launch.threads)
    outcome = run_jobs(((job, f"{stage.name} screen", launcher),), listener)[0]
    expected = sum(part.kept for part in rows.parts if part.role == TRAIN)
    return _read_scores(folder / "scores" / SCORES, expected, outcome)


def _read_scores(path: Path, expected: int, outcome: Mapping[str, JSON]) -> list[float]:
    try:
        scores = [float(json.loads(line)["score"]) for line in path.read_bytes().splitlines()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"the screen left no usable scores: {error}") from error
    if len(scores) != expected or outcome.get("n") != expected or not all(math.isfinite(s) for s in scores):
        raise RunError(f"the screen left {len(scores)} scores for {expected} rows")
    return scores


def flagged(scores: Sequence[float], screen: Screen) -> list[int]:
    """Return the places of flagged scores: those above `flag_above`, or the share `flag_top` of the highest.

    Of equal scores at the border the earlier rows are flagged.
    """
    if screen.flag_above is not None:
        return [n for n, score in enumerate(scores) if score > screen.flag_above]
    count = math.ceil((screen.flag_top or 0.0) * len(scores))
    highest = sorted(range(len(scores)), key=lambda n: (-scores[n], n))
    return sorted(highest[:count])


def _store(
    scores: Sequence[float], parts: Sequence[Part], screen: Screen, mixture: str, where: tuple[Store, Path]
) -> Screened:
    """Keep scores and flags by the numbers that rows have in the mixture."""
    numbers = [part.first + n for part in parts for n in range(part.kept)]
    marked = tuple(numbers[n] for n in flagged(scores, screen))
    store, folder = where
    place = folder / "screened"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    lines = [canonical({"row": n, "score": score}) + b"\n" for n, score in zip(numbers, scores, strict=True)]
    write_atomic(place / SCORES, b"".join(lines))
    said: dict[str, JSON] = {"format": FORMAT, "mixture": mixture, "screen": screen.identity, "scored": len(scores)}
    write_atomic(place / REPORT, canonical({**said, "flagged": list(marked)}) + b"\n")
    return Screened(store.objects.adopt(place), len(scores), marked)
