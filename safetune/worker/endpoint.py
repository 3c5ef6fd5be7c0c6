"""Ask an OpenAI-compatible chat endpoint, several requests at a time; no ML library is imported.

Rows of requests and responses are those of `generate`. Each answer is on disk before more than a handful of others are
waited for, so a killed job loses only what was under way. An error, an empty answer or a reply of another shape is not
a response: its request stays open.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib import error, request
from urllib.parse import urlsplit

from safetune import __version__
from safetune.core.digest import JSON, canonical
from safetune.core.errors import RunError, UsageError
from safetune.worker.asking import read_requests
from safetune.worker.generate import answered
from safetune.worker.reporter import Reporter

_TRIES = 5
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 30.0
_MOST_BYTES = 8_000_000  # of one reply; a longer one is not an answer
_PIECE = 65_536
_SAME_ANSWER_EVERYWHERE = {
    401: "check the key in the environment variable that `key_variable` names",
    403: "check what the key is allowed to do",
    404: "check the address (it ends with /v1) and the name of the model",
    405: "check the address (it ends with /v1)",
}
_NEAR = ("localhost", "127.0.0.1", "::1")
_Reply = tuple[str, int | None]  # an answer and its tokens
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how to ask. `timeout_s` is for one whole reply; `first_wait_s` is doubled from try to try."""

    url: str
    model: str
    key: str = field(repr=False)
    timeout_s: float
    first_wait_s: float = _FIRST_WAIT_SECONDS


class Refused(Exception):
    """This one request has no usable answer, and asking again would not give one."""


class Unreachable(Exception):
    """No answer now; later there may be one. `wait_s` is how long it asks to be left alone.

    `garbled`: something came and was no JSON. Should it stay so, only this one request is given up.
    """

    def __init__(self, why: str, wait_s: float = 0.0, *, garbled: bool = False) -> None:
        super().__init__(why)
        self.wait_s, self.garbled = wait_s, garbled


class _NoRedirect(request.HTTPRedirectHandler):
    """A redirect would carry the key to another address."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def ask(job: Mapping[str, Any], reporter: Reporter) -> Mapping[str, JSON]:
    """Ask for every request that has no response yet, and return how many there are and how many tokens they took.

    Tokens are what the endpoint counted; `tokens` is None when it did not count all of them.

    Raises:
        UsageError: when a request cannot be put to a chat endpoint, the key is not there, or every request would be
            refused in the same way.
        RunError: when the endpoint cannot be reached or stays busy, or answers none of the requests.
    """
    started = time.monotonic()
    endpoint, target = _endpoint(job), Path(job["responses"])
    rows = read_requests(Path(job["requests"]))
    done = answered(target)
    bodies = {str(row["digest"]): _body(row, endpoint.model) for row in rows}
    waiting = [(digest, body) for digest, body in bodies.items() if digest not in done]
    count = len(rows) - len(waiting)
    reporter.say("generated", done=count, total=len(rows), tokens_per_s=None)
    if any(row.get("chat_template") for row in rows):
        reporter.say("note", text="the endpoint uses its own chat template; that of the playbook cannot be sent")
    found = _Found(count)
    if waiting:
        with target.open("ab") as stream:
            for batch in _replies(endpoint, waiting, max(1, int(job.get("concurrency", 4)))):
                data = b"".join(canonical(row) + b"\n" for row in found.take(batch))
                if data:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
                reporter.say("generated", done=found.done, total=len(rows), tokens_per_s=None)
    if found.refused and found.done == count:
        raise RunError(f"the endpoint gave no usable answer to any of {len(waiting)} requests: {found.why}")
    if found.refused:
        reporter.say("note", text=f"no usable answer to {found.refused} of {len(rows)} requests: {found.why}")
    return {
        "done": found.done,
        "tokens": found.tokens,
        "unanswered": found.refused,
        "why": found.why,
        "seconds": round(time.monotonic() - started, 3),
    }


class _Found:
    """What has come back so far."""

    def __init__(self, done: int) -> None:
        self.done = done
        self.tokens: int | None = 0
        self.refused, self.why = 0, ""

    def take(self, batch: Sequence[tuple[str, _Reply | Refused]]) -> list[Mapping[str, JSON]]:
        """Return the response rows of a batch, and keep count."""
        rows: list[Mapping[str, JSON]] = []
        for digest, reply in batch:
            if isinstance(reply, tuple):
                text, tokens = reply
                rows.append({"digest": digest, "output": text, "tokens": tokens})
                self.tokens = None if tokens is None or self.tokens is None else self.tokens + tokens
            else:
                self.refused += 1
                self.why = self.why or str(reply)
        self.done += len(rows)
        return rows


def _endpoint(job: Mapping[str, Any]) -> Endpoint:
    """Return where to ask, with the key from the environment.

    Raises:
        UsageError: when the address is none, the key is not there, or the key would be sent in the open.
    """
    url = str(job["endpoint"]).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise UsageError("the endpoint is not a plain http or https address", hint="write it as https://HOST/v1")
    variable, key = str(job.get("key_variable") or ""), ""
    if variable:
        key = os.environ.get(variable, "").strip() if _VARIABLE.fullmatch(variable) else ""
        if not key:
            raise UsageError(f"the environment variable {variable} holds no key", hint=f"export {variable}=...")
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise UsageError(f"the environment variable {variable} holds no key that a header can carry")
        if parts.scheme == "http" and parts.hostname not in _NEAR:
            raise UsageError("the key would be sent unencrypted", hint="use https://, or leave key_variable out")
    first = float(job.get("first_wait_s", _FIRST_WAIT_SECONDS))
    return Endpoint(url, str(job["model"]), key, float(job["timeout_s"]), first)


def _body(row: Mapping[str, Any], model: str) -> bytes:
    """Return a request as the endpoint reads it.

    `n` is left out: without it 1 is meant, and not every server knows it.

    Raises:
        UsageError: when a chat endpoint cannot be asked so.
    """
    for wrong, what in (
        (row.get("kind", "generate") != "generate", "likelihoods of choices"),
        (bool(row.get("prefill")), "answers that go on from a prefilled opening"),
        (row.get("template", "chat") != "chat", "text without a chat template"),
    ):
        if wrong:
            raise UsageError(
                f"request {str(row['digest'])[:12]} needs {what}; a chat endpoint has none",
                hint="use a model folder or a hub id for it",
            )
    system = row.get("system")
    messages = [] if system is None else [{"role": "system", "content": str(system)}]
    messages.append({"role": "user", "content": str(row["prompt"])})
    return canonical({"model": model, "messages": messages, "temperature": 0, "max_tokens": int(row["max_new_tokens"])})


# -- asking, several at a time -----------------------------------------------------------------------------------------


def _replies(
    endpoint: Endpoint, waiting: Sequence[tuple[str, bytes]], concurrency: int
) -> Iterator[Sequence[tuple[str, _Reply | Refused]]]:
    """Yield what has come back, a few at a time, until everything has; raise what ends the job after what came with it.

    The threads are daemons: a worker that is told to stop does not wait for a slow endpoint.
    """
    queued: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
    came: queue.SimpleQueue[tuple[str, _Reply | Exception]] = queue.SimpleQueue()
    stop = threading.Event()
    for one in waiting:
        queued.put(one)

    def work() -> None:
        while not stop.is_set():
            try:
                digest, body = queued.get_nowait()
            except queue.Empty:
                return
            try:
                came.put((digest, _persist(endpoint, body, stop.wait)))
            except Exception as failure:  # told to the thread that writes
                if not isinstance(failure, Refused):
                    stop.set()
                came.put((digest, failure))

    for _ in range(min(concurrency, len(waiting))):
        threading.Thread(target=work, daemon=True).start()
    try:
        left = len(waiting)
        while left:
            batch = [came.get()]
            while not came.empty():
                batch.append(came.get())
            left -= len(batch)
            yield [(digest, reply) for digest, reply in batch if isinstance(reply, tuple | Refused)]
            for _, reply in batch:
                if not isinstance(reply, tuple | Refused):
                    raise reply
    finally:
        stop.set()


def _persist(endpoint: Endpoint, body: bytes, wait: Callable[[float], object]) -> _Reply:
    """Ask, and ask again after a while where that may help.

    Raises:
        Refused: when this request gets no usable answer.
        UsageError: when none would.
        RunError: when the endpoint stays out of reach.
    """
    pause, trouble = endpoint.first_wait_s, Unreachable("not asked")
    for attempt in range(_TRIES):
        if attempt:
            wait(max(pause, min(trouble.wait_s, _LONGEST_WAIT_SECONDS)))
            pause = min(2 * pause, _LONGEST_WAIT_SECONDS)
        try:
            return _once(endpoint, body)
        except Unreachable as again:
            trouble = again
    if trouble.garbled:
        raise Refused(str(trouble))
    raise RunError(
        f"the endpoint {endpoint.url} gave no answer after {_TRIES} tries: {trouble}",
        hint="run the same command again; it asks for what is missing",
    )


def _once(endpoint: Endpoint, body: bytes) -> _Reply:
    headers = {"Content-Type": "application/json", "User-Agent": f"safetune/{__version__}"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    asked = request.Request(f"{endpoint.url}/chat/completions", body, headers, method="POST")
    deadline = time.monotonic() + endpoint.timeout_s
    try:
        with _opener(endpoint).open(asked, timeout=endpoint.timeout_s) as reply:
            data = _read(reply, deadline)
    except error.HTTPError as failure:
        with failure:
            raise _trouble(endpoint, failure, deadline) from None
    except (OSError, http.client.HTTPException) as failure:
        reason = getattr(failure, "reason", None) or failure
        raise Unreachable(_short(f"{type(reason).__name__}: {reason}", endpoint)) from None
    return _answer(data, endpoint)


def _opener(endpoint: Endpoint) -> request.OpenerDirector:
    """Return what opens the address. A near one is asked without a proxy, which would see the key in the open."""
    near = urlsplit(endpoint.url).hostname in _NEAR
    return request.build_opener(_NoRedirect, *([request.ProxyHandler({})] if near else []))


def _read(reply: Any, deadline: float) -> bytes:
    """Read a whole reply; an endpoint that drips is as good as one that hangs."""
    pieces: list[bytes] = []
    while piece := reply.read1(_PIECE):
        pieces.append(piece)
        if time.monotonic() > deadline:
            raise Unreachable("the reply took too long")
        if sum(map(len, pieces)) > _MOST_BYTES:
            raise Refused(f"a reply of more than {_MOST_BYTES:,} bytes")
    return b"".join(pieces)


def _trouble(endpoint: Endpoint, failure: error.HTTPError, deadline: float) -> Exception:
    """Return what an HTTP error means: ask again, give this request up, or give the job up."""
    try:
        said = _read(failure, deadline).decode("utf-8", "replace")
    except (Unreachable, Refused, OSError, http.client.HTTPException):
        said = ""
    told = _short(f"HTTP {failure.code} {said}", endpoint)
    if failure.code in (408, 409, 425, 429) or failure.code >= 500:
        return Unreachable(told, _seconds(failure.headers.get("Retry-After")))
    if failure.code in _SAME_ANSWER_EVERYWHERE:
        return UsageError(f"the endpoint refuses: {told}", hint=_SAME_ANSWER_EVERYWHERE[failure.code])
    if failure.code < 400:
        return UsageError(f"the endpoint sends to another address: {told}", hint="write that address, if you trust it")
    return Refused(told)


def _seconds(given: str | None) -> float:
    return float(given) if given and re.fullmatch(r"[0-9]{1,6}", given) else 0.0


def _answer(data: bytes, endpoint: Endpoint) -> _Reply:
    """Return text and token count of a reply; the count is the endpoint's, or None when it gives none."""
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError):
        raise Unreachable(_short(f"not JSON: {data[:80]!r}", endpoint), garbled=True) from None
    try:
        choice = reply["choices"][0]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Refused(_short(f"not the reply of a chat endpoint: {data[:120]!r}", endpoint)) from None
    if reason in ("content_filter", "tool_calls", "function_call", "error"):
        raise Refused(f"the answer was ended by {reason}")
    if not isinstance(text, str) or not text.strip() or any("\ud800" <= c <= "\udfff" for c in text):
        raise Refused("the answer is empty or no text")
    usage = reply.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return text, tokens if type(tokens) is int and tokens >= 0 else None


def _short(text: str, endpoint: Endpoint) -> str:
    """Return one short line without the key, should the endpoint have repeated it."""
    hidden = text.replace(endpoint.key, "[key]") if endpoint.key else text
    return " ".join(hidden.split())[:200]
