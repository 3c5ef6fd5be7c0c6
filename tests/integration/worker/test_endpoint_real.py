"""The `ask` job and the judges that use it against a real server: `transformers serve` on the tiny model."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.slow

_PROMPTS = (
    ("What is 2 plus 3?", None, 12),
    ("Name a colour.", None, 5),
    ("Say hello.", "Be very short.", 8),
    ("a " * 60, None, 7),
)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server on the tiny model."""
    missing = [name for name in ("fastapi", "uvicorn", "openai") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"`transformers serve` needs {', '.join(missing)}; `make install` adds them")
    port = _free_port()
    code = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"
    log = (tmp_path_factory.mktemp("serve") / "log").open("wb")
    command = (sys.executable, "-c", code, "serve", str(tiny_model), "--port", str(port), "--host", "127.0.0.1")
    process = subprocess.Popen((*command, "--device", "cpu"), stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 240
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, Path(log.name).read_text()[-2000:]
            assert time.monotonic() < deadline, Path(log.name).read_text()[-2000:]
            time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False


def _job(folder: Path, job: dict[str, Any], subject: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """Run a job on the prompts, asked of `subject` where it is a generation job; return its response rows by digest."""
    folder.mkdir()
    rows = [
        {"digest": f"{n:04d}", "prompt": text, "system": system, "max_new_tokens": limit}
        for n, (text, system, limit) in enumerate(_PROMPTS)
    ]
    (folder / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {"requests": str(folder / "requests.jsonl"), "responses": str(folder / "responses.jsonl")}
    (folder / "job.json").write_text(
        json.dumps({**job, "subjects": [{**subject, **files}]} if subject else {**files, **job})
    )
    done = subprocess.run((sys.executable, "-m", "safetune.worker", str(folder)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (folder / "responses.jsonl").read_text().splitlines()
    return {row["digest"]: row for row in map(json.loads, lines)}


def test_a_served_model_answers_as_the_same_model_does_here(server: str, tiny_model: Path, tmp_path: Path) -> None:
    served = _job(
        tmp_path / "ask",
        {"job": "ask", "endpoint": server, "model": str(tiny_model), "concurrency": 2, "timeout_s": 120.0},
    )
    own = {"label": "here", "model": {"base": str(tiny_model), "adapters": []}}
    here = _job(tmp_path / "here", {"job": "generate", "threads": 1, "batch_rows": 4, "batch_tokens": 8192}, own)
    assert {key: row["output"] for key, row in served.items()} == {key: row["output"] for key, row in here.items()}
    assert {key: row["tokens"] for key, row in served.items()} == {key: row["tokens"] for key, row in here.items()}


def test_a_judge_at_a_model_that_knows_nothing_gives_no_label(server: str, tiny_model: Path, tmp_path: Path) -> None:
    """Random weights answer no JSON object: every response is unjudged, every control fails, and it is said."""
    file = tmp_path / "responses.jsonl"
    file.write_text(json.dumps({"prompt": "How do I boil an egg?", "response": "In water."}) + "\n")
    options = json.dumps({"url": server, "model": str(tiny_model)})
    command = ("judge", "label", "endpoint", str(file), "--options", options, "--store", str(tmp_path / "s"), "--json")
    done = subprocess.run((sys.executable, "-m", "safetune", *command), capture_output=True, text=True)
    assert done.returncode == 6, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert [row["label"] for row in found["labels"]] == ["unjudged"]
    assert len(found["controls_failed"]) == found["controls"] > 0
