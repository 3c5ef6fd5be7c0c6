"""Prompt templates of a playbook: what `plan` says of them, what is measured with them, and what is exported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

TUTOR, CAREFUL = "You are the tutor of class 3b.", "Refuse what could hurt people."
BRACKETS = (
    "{% for m in messages %}{{ '[' + m['role'] + ']\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]\n' }}{% endif %}"
)


def design(lab: Any, serving: str = "served", chat_template: str = "", **stage: str) -> Any:
    """Give the playbook of one sprint a policy and a safety part, and templates with and without the latter."""
    lab.only_sprint(1)
    served: dict[str, Any] = {"name": "served", "system": ["tutor", "careful"]}
    if chat_template:
        (lab.root / "chat.jinja").write_text(chat_template)
        served |= {"chat_template": "chat.jinja", "sha256": hashlib.sha256(chat_template.encode()).hexdigest()}
    lab.content["prompts"] = {
        "parts": [
            {"name": "tutor", "layer": "task", "text": TUTOR},
            {"name": "careful", "layer": "safety", "text": CAREFUL},
        ],
        "templates": [served, {"name": "trained", "system": ["tutor"]}],
    }
    if serving:
        lab.content["prompts"]["serving"] = serving
    lab.content["sprints"][0]["stages"][0] |= stage
    return lab.save()


def evidence(lab: Any, event: Mapping[str, Any]) -> Mapping[str, Any]:
    path = lab.store / "objects" / event["data"]["evidence"] / "evaluation.json"
    found: Mapping[str, Any] = json.loads(path.read_bytes())
    return found


# -- plan --------------------------------------------------------------------------------------------------------------


def test_the_plan_says_what_is_known_of_the_templates_with_their_place(fresh: Any) -> None:
    lab = design(fresh, template="served")
    done = lab.watched("plan", lab.playbook)
    assert done.code == 0, done.err
    assert done.says("! stage two/sft: trains with served, the template it is served with", "playbook.yaml:")
    assert done.says("arXiv:2402.18540", "[safety-prompt-in-training]")
    (found,) = lab.json("plan", lab.playbook)["prompts"]
    assert (found["rule"], found["part"], found["refused"]) == ("safety-prompt-in-training", "stage two/sft", False)
    assert "playbook.yaml:" in found["where"]


def test_a_plan_without_the_known_mistake_says_nothing(fresh: Any) -> None:
    lab = design(fresh, template="trained")
    done = lab.do("plan", lab.playbook)
    assert done.code == 0, done.err
    assert "  prompts " not in done.out


def test_the_default_system_message_of_the_model_is_read_from_its_folder(fresh: Any) -> None:
    (found,) = design(fresh).json("plan", fresh.playbook)["prompts"]
    assert (found["rule"], found["part"]) == ("default-system-prompt", "stage two/sft")
    assert "You are a helpful AI assistant named SmolLM" in found["text"]


def test_hidden_text_is_said_and_not_shown(fresh: Any) -> None:
    lab = design(fresh, template="trained")
    lab.content["prompts"]["parts"][0]["text"] = "You are\u200b\u200b\u200b the tutor."
    done = lab.save().do("plan", lab.playbook)
    assert done.says("prompt part tutor: part tutor holds characters that nobody sees", "[hidden-cue]")
    assert "\u200b" not in done.out


def test_a_hostile_chat_template_blocks_the_plan_and_is_never_run(fresh: Any) -> None:
    lab = design(fresh, chat_template=BRACKETS + "{{ messages.__class__ }}", template="trained")
    done = lab.do("plan", lab.playbook)
    assert done.code == 2
    assert done.says("what no chat template needs: __class__")
    ran = lab.run()
    assert (ran.code, lab.events("trained")) == (2, [])
    assert ran.says("what no chat template needs: __class__")


# -- run, evaluate, export ---------------------------------------------------------------------------------------------


def test_a_run_trains_with_one_template_and_is_gated_with_the_other(fresh: Any) -> None:
    lab = design(fresh, chat_template=BRACKETS, template="trained")
    done = lab.run()
    assert done.code == 0, done.err
    (trained,) = lab.events("trained")
    assert trained["data"]["figures"]["system_given"] > 0
    (suite,) = evidence(lab, lab.events("gated")[0])["suites"]
    assert suite["told"]["serving"] == {
        "template": "served",
        "system": f"{TUTOR}\n\n{CAREFUL}",
        "chat_template_sha256": hashlib.sha256(BRACKETS.encode()).hexdigest(),
    }

    # `safetune prompts` prints what is asked.
    rows = lab.json("prompts", lab.playbook, "asks")["prompts"]
    assert all((row["system"], row["template"]) == (f"{TUTOR}\n\n{CAREFUL}", "served") for row in rows)

    # The second column: the same model without the system message. Nothing of it is a gate.
    without = lab.do("evaluate", lab.playbook, "stable", "--template", "none", "--workers", "1")
    assert without.code == 0, without.err
    assert without.says("measured with the model's own template", "served with template served")
    last = evidence(lab, lab.events("evaluated")[-1])
    assert "serving" not in last["suites"][0]["told"]
    with_it = lab.do("evaluate", lab.playbook, "stable", "--workers", "1")
    assert with_it.says("asked asks: template served, a system message of")
    named = lab.json("evaluate", lab.playbook, "stable", "--template", "trained", "--workers", "1")
    assert named["report"]["suites"][0]["told"]["serving"]["system"] == TUTOR
    assert len({json.dumps(evidence(lab, e)["items"]) for e in lab.events("evaluated")[1:]}) == 3

    # What leaves the store carries what it was gated with.
    out = lab.do("export", "stable", "--to", lab.root / "out", "--playbook", lab.playbook)
    assert out.code == 0, out.err
    assert out.says("gated with template served", "system_prompt.txt", "its chat template is in the folder")
    assert (lab.root / "out" / "chat_template.jinja").read_text() == BRACKETS
    assert (lab.root / "out" / "system_prompt.txt").read_text() == f"{TUTOR}\n\n{CAREFUL}"

    # Another serving template is another gate: the plan asks for it, and nothing is exported before.
    lab.content["prompts"]["parts"][1]["text"] = "Be careful."
    lab.save()
    (stage,) = lab.json("plan", lab.playbook)["stages"]
    assert (stage["action"], stage["steps"]) == ("run", ["evaluate", "gate again"])
    refused = lab.do("export", "stable", "--to", lab.root / "other", "--playbook", lab.playbook)
    assert refused.code == 2
    assert refused.says("gated with another serving template than the playbook has now")
    assert not (lab.root / "other").exists()


def test_another_template_is_for_measuring_alone(fresh: Any) -> None:
    lab = design(fresh)
    gate = lab.do("evaluate", lab.playbook, "base", "--gate", "--template", "none")
    assert gate.code == 2
    assert gate.says("a gate asks with the template that the model is served with")
    unknown = lab.do("evaluate", lab.playbook, "base", "--template", "nobody")
    assert unknown.code == 2
    assert unknown.says('no prompt template is called "nobody"', "known: served, trained, none")
    (lab.root / "said.jsonl").write_text("")
    recorded = lab.do("evaluate", lab.playbook, "--recorded", "said.jsonl", "--template", "none")
    assert recorded.code == 2
    assert recorded.says("recorded responses were made elsewhere")


def test_recorded_responses_are_marked_as_made_elsewhere(fresh: Any) -> None:
    lab = design(fresh)
    rows = [{"item_id": f"p{n:02d}", "suite": "asks", "output": "No."} for n in range(40)]
    (lab.root / "said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = lab.do("evaluate", lab.playbook, "--recorded", "said.jsonl")
    assert done.code == 0, done.err
    assert done.says("the responses were made elsewhere, so how they were asked is not known")
    (suite,) = evidence(lab, lab.events("evaluated")[-1])["suites"]
    assert suite["told"]["made"] == "elsewhere"
    assert suite["told"]["serving"]["template"] == "served"
