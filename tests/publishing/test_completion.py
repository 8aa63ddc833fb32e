"""Tab completion, asked for in the way that the shells' scripts ask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PERDURE = Path(sys.executable).with_name("perdure")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_perdure_itself(shell: str) -> None:
    script = subprocess.run([PERDURE, "completion", shell], capture_output=True, text=True, check=True).stdout
    assert f"_PERDURE_COMPLETE={shell}_complete" in script


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("pu", "push"),
        ("push --rev", "--revision"),
        ("pull --no", "--no-verify"),
        ("rev", "revisions"),
        ("promote --fo", "--force"),
        ("evaluate li", "lighteval"),
        ("completion z", "zsh"),
    ],
)
def test_commands_options_and_choices_are_completed(words: str, found: str) -> None:
    line = f"perdure {words}"
    environment = {
        **os.environ,
        "_PERDURE_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
    }
    answer = subprocess.run([PERDURE], env=environment, capture_output=True, text=True, check=True).stdout
    assert f"plain,{found}" in answer.splitlines()


def test_an_unknown_shell_is_a_wrong_call() -> None:
    assert subprocess.run([PERDURE, "completion", "tcsh"], capture_output=True, check=False).returncode == 2
