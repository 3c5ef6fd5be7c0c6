"""A model behind an endpoint as the target of `evaluate`: asked through a real job and a real socket."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # tests/, for fake_endpoint

from fake_endpoint import Reply, endpoint, said

KEY = "sk-secret-31bb"
REFUSAL = "I'm sorry, but I can't help with that request."


class Done(Protocol):
    code: int
    out: str
    err: str
    document: Any


class Desk(Protocol):
    root: Path

    def do(self, *arguments: object, environment: dict[str, str] | None = None) -> Done: ...
    def write(self, **changes: Any) -> None: ...


def test_an_endpoint_is_measured_each_time_anew_and_promotes_nothing(desk: Desk) -> None:
    desk.write()
    with endpoint(lambda body, times: said(REFUSAL)) as there:
        target = f"{there.url}#tiny"
        done = desk.do("evaluate", "playbook.yaml", target, "--json")
        assert done.code == 0, done.err
        first = len(there.asked)
        assert {body["model"] for _, _, body in there.asked} == {"tiny"}
        desk.do("evaluate", "playbook.yaml", target, "--json")
        assert len(there.asked) == 2 * first > 0
    (suite,) = done.document["report"]["suites"]
    assert suite["labels"]["candidate"] == {"refusal": suite["expected"]}
    gated = desk.do("log", "--json").document
    assert "promoted" not in str(gated)


def test_its_key_comes_from_a_variable_and_stays_out_of_every_file(desk: Desk) -> None:
    desk.write()
    with endpoint(lambda body, times: said(REFUSAL)) as there:
        target = f"{there.url}#tiny"
        environment = {"TINY_KEY": KEY}
        done = desk.do("evaluate", "playbook.yaml", target, "--key-variable", "TINY_KEY", environment=environment)
        assert done.code == 0, done.err
        assert {headers["Authorization"] for _, headers, _ in there.asked} == {f"Bearer {KEY}"}
    kept = [path for path in desk.root.rglob("*") if path.is_file()]
    assert all(KEY.encode() not in path.read_bytes() for path in kept)


def test_an_endpoint_that_answers_nothing_is_an_error_and_no_rate(desk: Desk) -> None:
    desk.write()
    with endpoint(lambda body, times: Reply(status=400, body=b'{"error": {"message": "no"}}')) as there:
        done = desk.do("evaluate", "playbook.yaml", f"{there.url}#tiny", "--gate")
    assert done.code == 6
    assert "Traceback" not in done.err


def test_an_endpoint_without_a_model_or_with_a_key_in_it_is_refused(desk: Desk) -> None:
    desk.write()
    for target in ("http://127.0.0.1:1/v1", f"http://user:{KEY}@127.0.0.1:1/v1#tiny"):
        done = desk.do("evaluate", "playbook.yaml", target)
        assert done.code == 2
        assert "ADDRESS#MODEL" in done.err
        assert KEY not in done.err
