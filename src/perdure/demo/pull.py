"""Load the published model as anybody would: in a process of its own, which knows nothing of perdure."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from perdure import HubError
from perdure.demo.folder import DemoFolder
from perdure.demo.isolation import isolated

_SOURCE = Path(__file__).with_name("ask.py")
_PATIENCE = 300  # seconds; importing PyTorch and transformers takes most of them on a slow machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the script reports.

    Attributes:
        question: What was asked.
        answer: The text, without special tokens.
        tokens: How many were generated, the EOS included.
        stopped_at_eos: The model ended its answer by itself, before the limit.
        used_perdure: Whether perdure was imported.
    """

    question: str
    answer: str
    tokens: int
    stopped_at_eos: bool
    used_perdure: bool


def pull_and_ask(folder: DemoFolder, *, repo: str, revision: str, question: str, endpoint: str, token: str) -> Answer:
    """Run the script, which stays in the folder for a person to read and run, in an empty cache.

    Raises:
        HubError: It failed; the message ends with its last words.
    """
    shutil.copyfile(_SOURCE, folder.script)  # outside the package, so that nothing of perdure is on its path
    home = folder.caches / "loading"
    try:
        done = subprocess.run(
            [sys.executable, str(folder.script), repo, revision, question],
            env=isolated(os.environ, endpoint=endpoint, home=home, token=token),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise HubError(f"Loading {repo} from {endpoint} took more than {_PATIENCE} s and was given up.") from error
    if done.returncode != 0:
        last = "\n".join(done.stderr.replace(token, "***").splitlines()[-5:])
        raise HubError(f"{folder.script} could not load {repo} from {endpoint}:\n{last}")
    return Answer(**json.loads(done.stdout))
