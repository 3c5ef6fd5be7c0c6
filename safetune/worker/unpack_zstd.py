"""Unpack Zstandard streams in a process of its own: `python -m safetune.worker.unpack_zstd LIMIT < packed`.

Python reads this compression itself from 3.14 on; before that the library that reads it is pyarrow, which loads too
much for the command line. Standard input is one block after the other, each with its length in front (8 bytes, most
significant first); so is standard output. A block that unpacks to more than LIMIT bytes ends the process with code 3.
"""

from __future__ import annotations

import sys
from typing import BinaryIO

TOO_LARGE = 3


def unpack(packed: BinaryIO, out: BinaryIO, limit: int) -> int:
    """Unpack every block and return the exit code; nothing of a block is written before all of it was read."""
    import pyarrow  # type: ignore[import-untyped]

    data = memoryview(packed.read())
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "big")
        block = data[at + 8 : at + 8 + length]
        at += 8 + length
        with pyarrow.CompressedInputStream(pyarrow.py_buffer(block), "zstd") as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            return TOO_LARGE
        out.write(len(content).to_bytes(8, "big") + content)
    return 0


if __name__ == "__main__":
    sys.exit(unpack(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1])))
