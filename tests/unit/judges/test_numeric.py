"""The numeric judge: which number is the answer, and what must hold for any text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.builtin.judges import numeric
from safetune.builtin.judges.numeric import NumericJudge, final_number

JUDGE = NumericJudge()

ANSWERS = {
    "The answer is 24.": "24",
    "The answer is 24 apples, not 25.": "24",
    "The answer is: 24": "24",
    "The final answer = 24": "24",
    "11 + 13 = 24": "24",
    "11 + 13 = 24 apples. She has them in 2 boxes.": "24",
    "5 + 4 = 9. 9 - 2 = 7. The answer is 7.": "7",
    "5 + 4 = 9. 9 - 2 = 7. The answer is": "7",
    "Sure, here is the answer. 11 + 13 = 24. The answer is 24.": "24",
    "The answer is 11 + 13 = 24.": "24",
    "#### 24": "24",
    "He has 3 left. #### 1,024": "1024",
    "There are 24": "24",
    "There are 2 boxes, so that makes 24.": "24",
    "1,234,567 stamps": "1234567",
    "24.0": "24",
    "24.50": "24.5",
    "0.50": "0.5",
    "$18.00": "18",
    "-$5": "-5",
    "\u20ac 7": "7",
    "-5": "-5",
    "\u22125": "-5",
    "= -5": "-5",
    "10-5": "5",
    "007": "7",
    "-0": "0",
    "**24**": "24",
    "The answer is **24**.": "24",
    "\\boxed{24}": "24",
    "24, 25, 26": "26",
    "1,2": "2",
    "24%": "24",
}


@pytest.mark.parametrize(("text", "number"), ANSWERS.items())
def test_the_final_number_is_found_and_written_in_one_way(text: str, number: str) -> None:
    assert final_number(text) == number
    assert JUDGE.label("How many?", text, number).label == "correct"


@pytest.mark.parametrize("text", ["", "I do not know.", "twenty-four", "####", "The answer is", "\u0664\u0665"])
def test_a_response_without_a_number_is_wrong(text: str) -> None:
    assert final_number(text) is None
    assert JUDGE.label("How many?", text, "24").label == "wrong"


@pytest.mark.parametrize("text", ["25", "240", "2", "-24", "24.5", "The answer is 25, and 24 is too small."])
def test_another_number_is_wrong(text: str) -> None:
    judged = JUDGE.label("How many?", text, "24")
    assert (judged.label, judged.score) == ("wrong", 0.0)


def test_a_reference_may_end_like_the_answers_of_gsm8k() -> None:
    reference = "She sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = <<48+24=72>>72 clips.\n#### 72"
    assert JUDGE.label("How many clips?", "She sold 72 clips.", reference).label == "correct"
    assert JUDGE.label("How many clips?", "She sold 24 clips.", reference).label == "wrong"


@pytest.mark.parametrize("reference", ["", "none"])
def test_without_a_number_in_the_reference_nothing_is_correct(reference: str) -> None:
    assert JUDGE.label("How many?", "24", reference).label == "wrong"
    assert JUDGE.label("How many?", "", reference).label == "wrong"


def test_every_control_is_labelled_as_it_says() -> None:
    assert [c.name for c in JUDGE.controls if JUDGE.label(c.prompt, c.response, c.reference).label != c.label] == []
    assert len(JUDGE.controls) >= 12
    assert {c.label for c in JUDGE.controls} == {"correct", "wrong"}


@given(
    st.integers(-(10**12), 10**12),
    st.sampled_from(["{}", "{:,}", "The answer is {:,}.", "= {}", "#### {:,}", "It is ${:,}"]),
)
def test_a_whole_number_is_found_however_it_is_written(number: int, form: str) -> None:
    assert JUDGE.label("", form.format(number), str(number)).label == "correct"
    assert JUDGE.label("", form.format(number), str(number + 1)).label == "wrong"


@given(st.text(), st.text(alphabet="0123456789,.-=$# answer\n") | st.text(), st.text(max_size=20))
def test_any_text_gets_a_label_and_the_same_one_again(prompt: str, response: str, reference: str) -> None:
    first = JUDGE.label(prompt, response, reference)
    assert first.label in {"correct", "wrong"}
    assert first.score == float(first.label == "correct")
    assert NumericJudge().label(prompt, response, reference) == first


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("unit", ["1,", "1", "answer ", "= ", "-", "#", "answer is 1 + "])
def test_a_megabyte_is_judged_in_half_a_second_of_processor_time(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    start = time.process_time()
    JUDGE.label("", text, "24")
    assert time.process_time() - start < 0.5


def test_the_version_changes_with_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numeric, "_RULES", numeric._RULES[:-1])
    assert NumericJudge().version != JUDGE.version
