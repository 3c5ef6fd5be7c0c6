"""Simulate gates whose truth is known: `python scripts/simulate_gate.py [--write] [TABLE ...]`.

Prints the tables of docs/statistics.md, or rewrites them there with `--write`; some eight minutes on one core for all
of them. Seeds are fixed. A row that breaks its promise ends the script with 1 and is still written.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT / "tests"))

from gatecases import TABLES, Row, table  # noqa: E402
from gatesim import remembering  # noqa: E402

PAGE = _ROOT / "docs" / "statistics.md"


def simulate(name: str) -> list[Row]:
    """Return the rows of a table, and say on the way how long each took."""
    rows = []
    for make in TABLES[name]:
        begun = time.process_time()
        rows.append(make())
        kept = "" if rows[-1].kept else "  BROKEN"
        print(f"{time.process_time() - begun:6.1f} s  {rows[-1].text}{kept}", file=sys.stderr, flush=True)
    return rows


def put(name: str, text: str) -> None:
    """Put a table into the page, between its marks."""
    page = PAGE.read_text(encoding="utf-8")
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    PAGE.write_text(marks.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page), encoding="utf-8")


def main() -> int:
    """Simulate what is named, or everything."""
    names = [name for name in sys.argv[1:] if not name.startswith("-")] or list(TABLES)
    kept = True
    with remembering():
        for name in names:
            rows = simulate(name)
            kept = kept and all(row.kept for row in rows)
            text = table(name, rows)
            if "--write" in sys.argv:
                put(name, text)
            else:
                print(text, end="\n\n", flush=True)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
