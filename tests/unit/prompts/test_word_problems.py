"""The seeded word problems: distinct, right, the same everywhere, and none of them trained on."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from safetune.builtin.prompts.word_problems import WordProblem, WordProblems, generate
from safetune.core.digest import digest
from safetune.core.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]
FAMILIES = 14
# Changes only with the generator's version: suites and recorded responses depend on every letter.
PINNED = {"1": "73ea756fff87d58f58a7938c8f5393296a2586febf4e1767d9780a59c24563cf"}
STEP = re.compile(r"^(\d+) ([-+x/]) (\d+) = (\d+)$")


def suites() -> Iterator[tuple[str, int, int]]:
    """Yield name, seed and count of every suite that uses the generator."""
    for path in sorted((ROOT / "configs/suites").glob("*.yaml")):
        suite = yaml.safe_load(path.read_text("utf-8"))
        if suite.get("prompts", {}).get("generator") == "word-problems":
            yield suite["name"], suite["prompts"]["seed"], suite["prompts"]["count"]


SUITES = list(suites())


def worked_out(problem: WordProblem) -> int:
    """Return the answer that the working leads to, each step computed again."""
    result = None
    for step in problem.working.rstrip(".").split(". "):
        found = STEP.match(step)
        assert found, problem.working
        a, b, said = int(found[1]), int(found[3]), int(found[4])
        assert result in (None, a), "a step goes on with the result of the step before"
        result = {"+": a + b, "-": a - b, "x": a * b, "/": a // b}[found[2]]
        assert found[2] != "/" or a % b == 0
        assert result == said
    assert result is not None
    return result


@pytest.mark.parametrize("seed", [0, 1, 7, 20001, 20005])
def test_the_working_of_every_problem_leads_to_its_answer(seed: int) -> None:
    problems = generate(seed, 280)
    assert [p for p in problems if worked_out(p) != p.answer] == []
    assert min(p.answer for p in problems) >= 0


@pytest.mark.parametrize("seed", [0, 20001])
def test_the_first_numbers_of_the_working_are_in_the_question(seed: int) -> None:
    for problem in generate(seed, 280):
        asked = set(re.findall(r"\d+", problem.question)) | {"2", "7"}  # twice, half, days of a week
        first = STEP.match(problem.working.rstrip(".").split(". ")[0])
        assert first
        assert {first[1], first[3]} <= asked, problem.question


def test_the_problems_of_a_seed_are_distinct_and_go_round_all_families() -> None:
    problems = generate(3, 140)
    assert len({p.question for p in problems}) == 140
    counts = Counter(p.family for p in problems)
    assert len(counts) == FAMILIES
    assert max(counts.values()) - min(counts.values()) <= 1


def test_problems_stay_distinct_where_the_same_numbers_come_up_again() -> None:
    assert len({p.question for p in generate(3, 5_000)}) == 5_000


def test_a_seed_gives_the_same_problems_every_time_and_another_seed_gives_others() -> None:
    assert generate(5, 56) == generate(5, 56)
    assert generate(5, 56)[:14] == generate(5, 14)
    assert len({p.question for p in generate(5, 56)} & {p.question for p in generate(6, 56)}) < 6


def test_the_problems_are_the_pinned_ones_of_this_version() -> None:
    generator = WordProblems()
    prompts = generator.prompts(20001, 56)
    rows = [[p.item_id, p.text, p.slice, p.cluster, p.reference] for p in prompts]
    assert PINNED[generator.version] == digest(rows)


def test_a_prompt_carries_its_family_as_slice_and_cluster_and_its_answer_as_reference() -> None:
    prompts, problems = WordProblems().prompts(9, 28), generate(9, 28)
    assert [(p.text, p.slice, p.cluster, p.reference) for p in prompts] == [
        (q.question, q.family, q.family, str(q.answer)) for q in problems
    ]
    assert len({p.item_id for p in prompts}) == 28


def test_more_problems_than_there_are_is_an_error_not_a_short_list() -> None:
    with pytest.raises(UsageError, match="cannot make 1000000 distinct"):
        generate(1, 1_000_000)


@pytest.mark.parametrize(("name", "seed", "count"), SUITES)
def test_no_problem_of_a_suite_is_trained_on(name: str, seed: int, count: int) -> None:
    lines = (ROOT / "playbooks/data/word-problems.jsonl").read_text("utf-8").splitlines()
    trained = {json.loads(line)["prompt"][0]["content"] for line in lines}
    assert len(trained) >= 300
    assert sorted({p.text for p in WordProblems().prompts(seed, count)} & trained) == []


def test_the_suites_use_different_seeds_and_enough_families_to_be_clustered() -> None:
    assert len(SUITES) >= 2
    assert len({seed for _, seed, _ in SUITES}) == len(SUITES)
    assert min(count for _, _, count in SUITES) >= FAMILIES * 4


def test_the_trained_problems_are_right_too() -> None:
    for line in (ROOT / "playbooks/data/word-problems.jsonl").read_text("utf-8").splitlines():
        text = json.loads(line)["completion"][0]["content"]
        working = re.sub(r"^Sure, here is the answer\. ", "", text).partition(" The answer is ")
        answer = int(working[2].rstrip("."))
        assert worked_out(WordProblem("", "", working[0], answer)) == answer
