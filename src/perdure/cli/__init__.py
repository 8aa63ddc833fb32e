"""The `perdure` command: one file per subcommand, each imported only when it is called."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command and exit: 0 done, 1 found wrong, 2 wrong call, 3 the other side is away."""
    try:
        from perdure.cli.app import run
    except KeyboardInterrupt:  # while it is imported: no traceback for that
        print("Stopped.", file=sys.stderr)
        sys.exit(130)
    run()
