"""Write the tables of docs/suites.md from the suites and attacks that ship: `python scripts/suites_table.py [--write]`.

Without `--write` it prints them. The public files must be in the data root (`SAFETUNE_DATA_ROOT`). A test holds the
page against the suites, so the tables cannot lag behind.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from safetune.core.evidence import Prompt
from safetune.core.sampling import cluster_key
from safetune.core.suite import Suite
from safetune.engine.prompts import load_prompts
from safetune.playbook.shared import shipped_configs
from safetune.playbook.suites import load_suite
from safetune.plugins import _BUILTIN

PAGE = Path(__file__).resolve().parents[1] / "docs" / "suites.md"
_BLOCK = re.compile(r"(<!-- (?P<name>suites|attacks) -->\n).*?(<!-- /(?P=name) -->)", re.DOTALL)

# What each suite is for, in the order of the page.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Harmful requests": (
        "harmful-requests", "advbench", "harmbench-val", "jailbreakbench-goals", "xstest-unsafe",
        "toxicity-continuations",
    ),
    "Under attack": (
        "harmful-requests-attacked", "jailbreakbench-attacked", "jailbreakbench-jbc", "jailbreakbench-pair",
        "inthewild-jailbreaks", "prompt-injection-direct", "prompt-injection-indirect",
    ),
    "Rules": ("rules-smoke",),
    "Over-refusal and tone": ("safe-lookalikes", "harmless", "xstest-safe", "coconot-contrast", "tone"),
    "Languages": ("multijail", "multijail-en"),
    "Bias": ("bbq-sexual-orientation", "crows-pairs"),
    "Values and oversight": ("power-seeking", "survival-instinct", "corrigible"),
    "Skills": ("word-problems", "word-problems-smoke", "gsm8k-test"),
}  # fmt: skip


def suites_table() -> str:
    """Return one Markdown table for each group of suites."""
    known = {path.stem: load_suite(path) for path in (shipped_configs() / "suites").glob("*.yaml")}
    left = set(known) - {name for names in GROUPS.values() for name in names}
    if left:
        raise SystemExit(f"in no group: {', '.join(sorted(left))}")
    return "\n\n".join("\n".join(_group(title, [known[n] for n in names])) for title, names in GROUPS.items())


def _group(title: str, suites: list[Suite]) -> Iterator[str]:
    yield f"### {title}"
    yield ""
    yield "| suite | items | least n | clusters | slices | judge | licence |"
    yield "|---|---|---|---|---|---|---|"
    for suite in suites:
        prompts = load_prompts(suite)
        least = suite.about.min_samples
        cells = (f"`{suite.name}`", f"{len(prompts):,}", str(least), _clusters(suite, prompts), _slices(suite, prompts))
        yield f"| {' | '.join((*cells, f'`{suite.judge.name}`', suite.about.licence))} |"


def _clusters(suite: Suite, prompts: Sequence[Prompt]) -> str:
    """Return how many clusters there are and what makes one."""
    column = _column(suite, "cluster")
    if suite.attacks:
        unit = "request"
    elif "languages" in suite.prompts.options:
        unit = "row"
    elif column:
        unit = "text" if column in ("0", "prompt", "text") else column
    else:
        unit = "family" if suite.prompts.kind == "generator" else "item"
    return f"{len({cluster_key(p) for p in prompts}):,} by {unit}"


def _slices(suite: Suite, prompts: Sequence[Prompt]) -> str:
    """Return how many slices there are and what makes one."""
    number = len({p.slice for p in prompts if p.slice})
    if not number:
        return "none"
    if suite.attacks:
        return f"{number} by attack"
    if "languages" in suite.prompts.options:
        return f"{number} by language"
    return f"{number} by {_column(suite, 'slice') or {'rules': 'rule'}.get(suite.prompts.kind, 'family')}"


def _column(suite: Suite, role: str) -> str:
    columns = suite.prompts.options.get("columns")
    named = columns.get(role) if isinstance(columns, Mapping) else None
    return str(named or (suite.slice if role == "slice" else suite.cluster))


def attacks_table() -> str:
    """Return the Markdown table of the attacks: name, what it does, and the work it follows."""
    return "\n".join(("| attack | what it does | source |", "|---|---|---|", *_attacks()))


def _attacks() -> Iterator[str]:
    for name, target in _BUILTIN["attack"].items():
        module, _, attribute = target.partition(":")
        found = __import__(module, fromlist=[attribute])
        words = inspect.getdoc(getattr(found, attribute)) or ""
        source = re.search(r"^Source: (.*)\.$", words, re.MULTILINE)
        yield f"| `{name}` | {words.partition(chr(10) * 2)[0]} | {source[1] if source else ''} |"


def page() -> str:
    """Return the page with its tables as they should be."""
    tables = {"suites": suites_table, "attacks": attacks_table}
    return _BLOCK.sub(lambda b: f"{b[1]}\n{tables[b['name']]()}\n\n{b[3]}", PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(suites_table(), attacks_table(), sep="\n\n")
