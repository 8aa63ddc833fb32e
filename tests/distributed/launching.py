"""torchrun, and what its ranks wrote down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def torchrun(count: int, program: Path, *, timeout: int = 200, check: bool = True, **environment: str) -> str:
    """Run a program on `count` ranks under torchrun; returns what it said on standard error."""
    launcher = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}", "--standalone", str(program)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CI": "1", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, errors = launcher.communicate(timeout=timeout)
    except BaseException:
        launcher.terminate()  # it ends its ranks, which lead sessions of their own; killed, it would leave them behind
        launcher.communicate(timeout=60)
        raise
    assert not check or launcher.returncode == 0, errors[-3000:]
    return errors


def played(out: Path, count: int, scenes: Sequence[str], program: str = "ranks.py") -> dict[str, list[Any]]:
    """What each rank wrote down in each scene of a program beside this file; None for a rank that did not live."""
    torchrun(count, Path(__file__).parent / program, OUT=str(out), SCENES=",".join(scenes))
    return {name: [_read(out / f"{name}.{rank}.json") for rank in range(count)] for name in scenes}


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None
