"""Loading a playbook looks at files and does nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from safetune.playbook.shared import shipped_configs

_WATCH = """
import json, os, sys
from pathlib import Path
import safetune.playbook.load
seen = set()
loud = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "ctypes.", "urllib.")
def watch(event, arguments):
    if event.startswith(loud):
        seen.add(event)
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        seen.add(f"write {arguments[0]}")
    if event in ("os.mkdir", "os.remove", "os.rename", "os.truncate", "os.utime"):
        seen.add(f"{event} {arguments[0]}")
sys.dont_write_bytecode = True
sys.addaudithook(watch)
playbook = safetune.playbook.load.load(Path(sys.argv[1]))
heavy = [m for m in ("jsonschema", "rich", "typer", "torch", "numpy", "socket", "asyncio") if m in sys.modules]
print(json.dumps({"name": playbook.name, "seen": sorted(seen), "heavy": heavy}))
"""


def test_loading_opens_no_socket_starts_no_program_writes_nothing_and_imports_nothing_heavy(repo_root: Path) -> None:
    starter = shipped_configs() / "starter.yaml"
    done = subprocess.run(
        [sys.executable, "-c", _WATCH, str(starter)], capture_output=True, text=True, check=True, cwd=repo_root
    )
    assert json.loads(done.stdout) == {"name": "my-tutor", "seen": [], "heavy": []}
