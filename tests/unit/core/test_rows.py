"""Shapes of training rows, and what keeps a row from being used."""

from __future__ import annotations

import pytest

from safetune.core.rows import COMPLETION, MESSAGES, PREFERENCE, last_role, problem, shape

ASK = [{"role": "user", "content": "2 + 2?"}]
ANSWER = [{"role": "assistant", "content": "4"}]


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"prompt": ASK, "completion": ANSWER}, COMPLETION),
        ({"messages": ASK + ANSWER}, MESSAGES),
        ({"prompt": ASK, "chosen": ANSWER, "rejected": ANSWER}, PREFERENCE),
        ({"prompt": ASK, "chosen": ANSWER, "rejected": ANSWER, "completion": ANSWER}, PREFERENCE),
        ({"prompt": ASK}, None),
        ({}, None),
    ],
)
def test_a_row_has_the_shape_of_its_columns(row: dict[str, object], columns: tuple[str, ...] | None) -> None:
    assert shape(row) == columns


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASK, "completion": ANSWER},
        {"messages": tuple(ASK + ANSWER)},
        {"prompt": ASK, "chosen": ANSWER, "rejected": ANSWER},
        {"prompt": [{"role": "system", "content": ""}, *ASK], "completion": ANSWER, "extra": 1},
    ],
)
def test_a_good_row_has_no_problem(row: dict[str, object]) -> None:
    assert problem(row, COMPLETION, MESSAGES, PREFERENCE) == ""


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "needs `prompt` + `completion` or `messages`; this one has none of these"),
        ({"text": "x", "a": 1}, "this one has none of these"),
        ({"prompt": ASK, "chosen": ANSWER, "rejected": ANSWER}, "needs `prompt` + `completion`"),
        ({"prompt": "2 + 2?", "completion": ANSWER}, "`prompt` must be a list of messages"),
        ({"prompt": ASK, "completion": []}, "`completion` must be a list of messages"),
        ({"messages": ["hello"]}, "`messages` has a message without a text `content`"),
        ({"messages": [{"role": "assistant", "content": None}]}, "without a text `content`"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "an unknown role; known: system, user, assistant"),
        ({"messages": [{"content": "x"}]}, "an unknown role"),
        ({"messages": [{**ANSWER[0], "tool_calls": []}]}, "more than `role` and `content`"),
        ({"messages": ANSWER + ASK}, "the last message of `messages` is not the assistant's"),
        ({"prompt": ASK, "completion": ASK}, "the last message of `completion` is not the assistant's"),
    ],
)
def test_a_problem_is_said_in_one_sentence(row: dict[str, object], message: str) -> None:
    assert message in problem(row, COMPLETION, MESSAGES)


@pytest.mark.parametrize("part", ["chosen", "rejected"])
def test_both_sides_of_a_preference_must_end_with_the_assistant(part: str) -> None:
    row = {"prompt": ASK, "chosen": ANSWER, "rejected": ANSWER, part: ASK}
    assert problem(row, PREFERENCE) == f"the last message of `{part}` is not the assistant's"


@pytest.mark.parametrize("messages", ["text", [], None, ["text"], [{}]])
def test_what_is_no_list_of_messages_has_no_last_role(messages: object) -> None:
    assert last_role(messages) == ""
