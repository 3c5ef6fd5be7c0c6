"""`python -m safetune` is the `safetune` command."""

import sys

from safetune.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
