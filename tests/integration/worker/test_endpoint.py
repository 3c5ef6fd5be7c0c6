"""The `ask` job against an endpoint with faults: what is asked, what counts as a response, what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fake_endpoint import Endpoint, Reply, Script, endpoint, said

from safetune.worker.endpoint import Endpoint as Settings

KEY = "sk-secret-9f2c"


class Desk:
    """Makes ask jobs in a folder and runs them."""

    def __init__(self, root: Path, repo: Path) -> None:
        self.root, self._repo = root, repo

    def job(self, url: str, prompts: int | list[dict[str, Any]] = 6, **changes: Any) -> None:
        rows = prompts if isinstance(prompts, list) else [{"prompt": f"question {n}"} for n in range(prompts)]
        filled = [{"digest": f"{n:04d}", "system": None, "max_new_tokens": 16, **row} for n, row in enumerate(rows)]
        (self.root / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in filled))
        job: dict[str, Any] = {
            "job": "ask",
            "requests": str(self.root / "requests.jsonl"),
            "endpoint": url,
            "model": "m",
        }
        job |= {"responses": str(self.root / "responses.jsonl"), "concurrency": 3, "timeout_s": 5.0}
        (self.root / "job.json").write_text(json.dumps({**job, "first_wait_s": 0.01, **changes}))

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            (sys.executable, "-m", "safetune.worker", str(self.root)),
            env={**os.environ, "PYTHONPATH": str(self._repo), **environment},
            stdout=subprocess.DEVNULL,
            stderr=(self.root / "worker.log").open("ab"),
        )

    def run(self) -> dict[str, Any]:
        """Run the job in this process and return its outcome."""
        from safetune.worker.__main__ import main

        before = dict(os.environ)
        try:
            main(self.root)
        finally:
            os.environ.clear()
            os.environ.update(before)
        outcome: dict[str, Any] = json.loads((self.root / "outcome.json").read_bytes())
        return outcome

    def responses(self) -> dict[str, Any]:
        path = self.root / "responses.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        rows = [json.loads(line) for line in lines]
        assert len({row["digest"] for row in rows}) == len(rows), "something was answered twice"
        return {row["digest"]: row for row in rows}


@pytest.fixture
def desk(tmp_path: Path, repo_root: Path) -> Desk:
    return Desk(tmp_path, repo_root)


def echo(body: Mapping[str, Any], times: int) -> Reply:
    return said(f"to {body['messages'][-1]['content']}", usage={"completion_tokens": 7})


def asked(desk: Desk, script: Script, prompts: int = 6, **changes: Any) -> tuple[dict[str, Any], Endpoint]:
    with endpoint(script) as there:
        desk.job(there.url, prompts, **changes)
        return desk.run(), there


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_key_for_a_near_endpoint_never_goes_to_a_proxy(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with endpoint(echo) as proxy, endpoint(echo) as there:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        desk.job(there.url.replace("127.0.0.1", host), 2, key_variable="SOME_KEY")
        outcome = desk.run()

    assert (outcome["status"], outcome["done"]) == ("ok", 2)
    assert proxy.asked == []
    assert [headers["Authorization"] for _, headers, _ in there.asked] == [f"Bearer {KEY}"] * 2


def test_a_far_endpoint_is_asked_through_the_proxy(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with endpoint(echo) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        desk.job("http://models.invalid/v1", 1)
        outcome = desk.run()

    assert (outcome["status"], outcome["done"]) == ("ok", 1)
    assert [path for path, _, _ in proxy.asked] == ["http://models.invalid/v1/chat/completions"]


# -- what is asked and what comes back ---------------------------------------------------------------------------------


def test_every_request_is_answered_once_with_the_endpoints_own_token_counts(desk: Desk) -> None:
    outcome, there = asked(desk, echo)
    assert (outcome["status"], outcome["done"], outcome["tokens"], outcome["unanswered"]) == ("ok", 6, 42, 0)
    assert desk.responses()["0003"] == {"digest": "0003", "output": "to question 3", "tokens": 7}
    assert sorted(there.prompts()) == [f"question {n}" for n in range(6)]


def test_what_is_sent_is_greedy_bounded_and_has_the_system_message_only_where_there_is_one(desk: Desk) -> None:
    with endpoint(echo) as there:
        desk.job(there.url, [{"prompt": "a"}, {"prompt": "b", "system": ""}, {"prompt": "c", "system": "Be short."}])
        desk.run()
    bodies = {body["messages"][-1]["content"]: (path, body) for path, _, body in there.asked}
    assert {path for path, _ in bodies.values()} == {"/v1/chat/completions"}
    user = {"role": "user", "content": "a"}
    assert bodies["a"][1] == {"model": "m", "messages": [user], "temperature": 0, "max_tokens": 16}
    assert bodies["b"][1]["messages"][0] == {"role": "system", "content": ""}
    assert bodies["c"][1]["messages"][0] == {"role": "system", "content": "Be short."}
    assert all("Authorization" not in headers for _, headers, _ in there.asked)


@pytest.mark.parametrize(("change", "noted"), [({"chat_template": "ab"}, True), ({}, False)])
def test_a_chat_template_cannot_be_sent_and_that_is_said(desk: Desk, change: dict[str, str], noted: bool) -> None:
    with endpoint(echo) as there:
        desk.job(there.url, [{"prompt": "a", "system": "Be short.", **change}])
        assert desk.run()["status"] == "ok"
    assert "chat_template" not in there.asked[0][2]
    assert ("cannot be sent" in (desk.root / "progress.jsonl").read_text()) is noted


def test_several_are_under_way_at_once_and_no_more_than_allowed(desk: Desk) -> None:
    def slow(body: Mapping[str, Any], times: int) -> Reply:
        return Reply(body=echo(body, times).body, hang=0.15)

    outcome, there = asked(desk, slow, 9)
    assert outcome["done"] == 9
    assert there.at_once == 3


def test_a_second_run_asks_only_for_what_is_missing(desk: Desk) -> None:
    with endpoint(echo) as there:
        desk.job(there.url, 4)
        desk.run()
        with (desk.root / "responses.jsonl").open("ab") as stream:
            stream.write(b'{"digest":"0004","outp')  # torn by a kill
        desk.job(there.url, 6)
        outcome = desk.run()
    assert outcome["done"] == 6
    assert sorted(there.prompts()) == [f"question {n}" for n in range(6)]
    assert len(desk.responses()) == 6


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, None),
        ({}, None),
        ({"completion_tokens": None}, None),
        ({"completion_tokens": -1}, None),
        ({"completion_tokens": True}, None),
        ({"completion_tokens": 3.5}, None),
        ([3], None),
        ({"completion_tokens": 3}, 3),
    ],
)
def test_a_token_count_is_the_endpoints_or_none(desk: Desk, usage: object, tokens: int | None) -> None:
    outcome, _ = asked(desk, lambda body, times: said("yes", usage=usage), 1)
    assert desk.responses()["0000"]["tokens"] == tokens
    assert outcome["tokens"] == tokens


def test_an_answer_that_was_cut_at_the_limit_is_a_response(desk: Desk) -> None:
    outcome, _ = asked(desk, lambda body, times: said("half a sen", "length"), 1)
    assert outcome["status"] == "ok"
    assert desk.responses()["0000"]["output"] == "half a sen"


# -- what is no response -----------------------------------------------------------------------------------------------

NO_ANSWER: dict[str, Reply] = {
    "an empty answer": said(""),
    "only spaces": said(" \n"),
    "nothing": said(None),
    "half a surrogate pair": Reply(body=b'{"choices":[{"message":{"content":"\\ud800"}}]}'),
    "a tool call": said("x", "tool_calls"),
    "what a filter left": said("Half of", "content_filter"),
    "garbage": Reply(body=b"<html>busy</html>"),
    "nested too deeply": Reply(body=b"[" * 100_000),
    "no choices": Reply(body=b'{"choices": []}'),
    "choices of another shape": Reply(body=b'{"choices": "yes"}'),
    "an error in a good reply": Reply(body=b'{"error": {"message": "overloaded"}}'),
    "a list": Reply(body=b"[]"),
    "not this request": Reply(status=400, body=b'{"error": "too long"}'),
    "too large": Reply(status=413),
    "more than anybody would say": Reply(body=b" " * 9_000_000),
}


@pytest.mark.parametrize("wrong", NO_ANSWER.values(), ids=NO_ANSWER.keys())
def test_what_is_no_answer_is_no_response_and_the_others_stand(desk: Desk, wrong: Reply) -> None:
    def script(body: Mapping[str, Any], times: int) -> Reply:
        return wrong if body["messages"][-1]["content"] == "question 1" else echo(body, times)

    outcome, _ = asked(desk, script, 4)
    assert sorted(desk.responses()) == ["0000", "0002", "0003"]
    assert (outcome["status"], outcome["done"], outcome["unanswered"]) == ("ok", 3, 1)
    assert outcome["why"]
    told = [json.loads(line) for line in (desk.root / "progress.jsonl").read_bytes().splitlines()]
    assert f"no usable answer to 1 of 4 requests: {outcome['why']}" in [row.get("text") for row in told]


@pytest.mark.parametrize("wrong", NO_ANSWER.values(), ids=NO_ANSWER.keys())
def test_an_endpoint_that_answers_nothing_usable_is_an_error(desk: Desk, wrong: Reply) -> None:
    outcome, _ = asked(desk, lambda body, times: wrong, 2)
    assert outcome["status"] == "error"
    assert "no usable answer to any of 2" in outcome["message"]
    assert desk.responses() == {}


# -- asking again ------------------------------------------------------------------------------------------------------

LATER: dict[str, Reply] = {
    "too many requests": Reply(status=429, headers={"Retry-After": "0"}),
    "a broken server": Reply(status=500, body=b"oops"),
    "an overloaded one": Reply(status=503),
    "garbage once": Reply(body=b'{"choices": [{"mess'),
    "a connection that is cut": Reply(body=b'{"choices"', cut=True),
    "one that hangs": Reply(hang=30.0),
    "one that drips": Reply(body=said("an answer that comes far too late").body, drip=0.05),
}


@pytest.mark.parametrize("trouble", LATER.values(), ids=LATER.keys())
def test_what_may_pass_is_asked_again(desk: Desk, trouble: Reply) -> None:
    outcome, there = asked(desk, lambda body, times: trouble if not times else echo(body, times), 2, timeout_s=0.5)
    assert (outcome["status"], outcome["done"]) == ("ok", 2)
    assert len(there.asked) == 4


def test_a_wait_that_the_endpoint_asks_for_is_kept(desk: Desk) -> None:
    began = time.monotonic()
    busy = Reply(status=429, headers={"Retry-After": "1"})
    outcome, _ = asked(desk, lambda body, times: busy if not times else echo(body, times), 1)
    assert outcome["status"] == "ok"
    assert time.monotonic() - began >= 1.0


@pytest.mark.parametrize("trouble", [LATER["too many requests"], LATER["a broken server"], LATER["one that hangs"]])
def test_trouble_that_stays_ends_the_job_and_keeps_what_came_before(desk: Desk, trouble: Reply) -> None:
    def script(body: Mapping[str, Any], times: int) -> Reply:
        return echo(body, times) if body["messages"][-1]["content"] < "question 3" else trouble

    outcome, there = asked(desk, script, 6, timeout_s=0.2, concurrency=1)
    assert outcome["status"] == "error"
    assert "after 5 tries" in outcome["message"]
    assert outcome["usage"] is False
    assert sorted(desk.responses()) == ["0000", "0001", "0002"]
    assert there.prompts().count("question 3") == 5


def test_an_endpoint_that_is_not_there_is_an_error(desk: Desk) -> None:
    with endpoint(echo) as there:
        url = there.url
    desk.job(url, 2)
    outcome = desk.run()
    assert outcome["status"] == "error"
    assert "ConnectionRefusedError" in outcome["message"]


@pytest.mark.parametrize("status", [401, 403, 404, 405, 302, 307])
def test_what_would_be_refused_every_time_ends_the_job_at_once(desk: Desk, status: int) -> None:
    elsewhere = {"Location": "http://127.0.0.1:9/v1/chat/completions"}
    outcome, there = asked(desk, lambda body, times: Reply(status=status, headers=elsewhere), 5, concurrency=1)
    assert (outcome["status"], outcome["usage"]) == ("error", True)
    assert f"HTTP {status}" in outcome["message"]
    assert len(there.asked) == 1


# -- the key -----------------------------------------------------------------------------------------------------------


def test_the_key_goes_into_the_header_and_nowhere_else(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    said_back = Reply(status=401, body=f"wrong key {KEY} given".encode())
    outcome, there = asked(desk, lambda body, times: said_back, 1, key_variable="SOME_KEY")
    assert there.asked[0][1]["Authorization"] == f"Bearer {KEY}"
    assert "wrong key [key] given" in outcome["message"]
    assert all(KEY.encode() not in path.read_bytes() for path in desk.root.iterdir())


@pytest.mark.parametrize("value", ["", " ", "two words", "line\nbreak", "caf\u00e9"])
def test_a_key_that_is_none_is_refused_before_anything_is_asked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SOME_KEY", value)
    outcome, there = asked(desk, echo, 1, key_variable="SOME_KEY")
    assert (outcome["status"], outcome["usage"]) == ("error", True)
    assert "SOME_KEY holds no key" in outcome["message"]
    assert there.asked == []


def test_the_key_is_not_in_the_text_form_of_the_settings() -> None:
    assert KEY not in repr(Settings("https://example.org/v1", "m", KEY, 1.0))


def test_a_key_is_not_sent_in_the_open(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    desk.job("http://models.example.org/v1", 1, key_variable="SOME_KEY")
    outcome = desk.run()
    assert "unencrypted" in outcome["message"]


# -- what a chat endpoint cannot be asked ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"kind": "likelihood", "choices": ["a", "b"]}, "likelihoods"),
        ({"prefill": "Sure, here is"}, "prefilled"),
        ({"template": "none"}, "without a chat template"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_is_asked(desk: Desk, row: dict[str, Any], words: str) -> None:
    with endpoint(echo) as there:
        desk.job(there.url, [{"prompt": "a"}, {"prompt": "b", **row}])
        outcome = desk.run()
    assert (outcome["status"], outcome["usage"]) == ("error", True)
    assert words in outcome["message"]
    assert there.asked == []


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.org", "http://", "https://me:pass@example.org/v1"]
)
def test_only_a_plain_address_is_asked(desk: Desk, url: str) -> None:
    desk.job(url, 1)
    outcome = desk.run()
    assert (outcome["status"], outcome["usage"]) == ("error", True)
    assert "pass" not in outcome["message"]


# -- kills -------------------------------------------------------------------------------------------------------------


def test_a_kill_loses_no_answer_that_was_written_and_the_next_run_asks_for_the_rest(desk: Desk) -> None:
    def script(body: Mapping[str, Any], times: int) -> Reply:
        return Reply(body=echo(body, times).body, hang=0.05)

    with endpoint(script) as there:
        desk.job(there.url, 60, concurrency=2)
        process = desk.start()
        deadline = time.monotonic() + 30
        while len(desk.responses()) < 8:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = desk.responses()
        assert 8 <= len(kept) < 60
        before = len(there.asked)
        outcome = desk.run()
    assert outcome["done"] == 60
    assert desk.responses().items() >= kept.items()
    assert len(there.asked) - before == 60 - len(kept)


def test_a_worker_that_is_told_to_stop_does_not_wait_for_a_slow_endpoint(desk: Desk) -> None:
    with endpoint(lambda body, times: Reply(hang=60.0)) as there:
        desk.job(there.url, 4, timeout_s=60.0)
        process = desk.start()
        deadline = time.monotonic() + 30
        while len(there.asked) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 1
    assert json.loads((desk.root / "outcome.json").read_bytes())["status"] == "interrupted"


def test_no_ml_library_is_loaded(desk: Desk) -> None:
    code = "import sys, safetune.worker.endpoint; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded & {"torch", "transformers", "numpy", "huggingface_hub"} == set()
