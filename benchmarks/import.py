"""What `import perdure` costs over starting Python: median of fresh processes, in milliseconds."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time


def measure(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    rounds = [(measure("pass"), measure("import perdure")) for _ in range(21)][1:]
    bare, with_it = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"python {bare:.0f} ms, with `import perdure` {with_it:.0f} ms: {with_it - bare:.0f} ms more (target: 150)")


if __name__ == "__main__":
    main()
