"""All core guards over rows: CPU time of a row, in units of what it takes here to parse it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from safetune.core.digest import canonical, sha256_hex
from safetune.core.source import Provenance, Source
from safetune.engine.data.guarding import Guards, Scope
from safetune.playbook.data import build_policy
from safetune.playbook.layers import shipped_policy

ROWS = 3_000
MOST = 80  # parsed rows a row; it takes about 35


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds that something takes at best, of three times."""
    found = []
    for _ in range(3):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def test_a_row_takes_little_more_than_what_must_be_done_with_it(tmp_path: Path) -> None:
    lines = []
    for n in range(ROWS):
        asked = f"In which building of town {n % 90} is number {n} kept, if the list of {1900 + n % 97} is right? "
        said = f"It was moved to house {n * 7 % 1009} when the {n * 13 % 211} ships came. "
        row = {
            "prompt": [{"role": "user", "content": asked * 4}],
            "completion": [{"role": "assistant", "content": said * 7}],
        }
        lines.append(canonical(row))
    data = b"".join(line + b"\n" for line in lines)
    (tmp_path / "rows.jsonl").write_bytes(data)
    about = Provenance(languages=("en",))
    source = Source("rows", str(tmp_path / "rows.jsonl"), sha256_hex(data), "MIT", "c", "o", ("train",), about=about)
    policy = build_policy(shipped_policy())

    def once() -> None:
        assert Guards(Scope(policy)).guard(source, None, lambda _: None).rows == ROWS

    unit = seconds(lambda: [json.loads(line) for line in lines])
    taken = seconds(once)
    assert taken / unit < MOST, f"a row takes as long as parsing {taken / unit:.1f} rows"
