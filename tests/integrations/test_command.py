"""The code that ran and the command that started it, in real repositories and under real launchers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import perdure

SECRET = "hf_" + "a" * 30
_TELLS = """
import json, sys
from perdure.integrations.command import command
from perdure.integrations.git import source
found = source()
print(json.dumps([found and [found.commit, found.dirty, found.repository, found.script], command()]))
"""


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_code_that_ran_and_what_was_typed(tmp_path):
    folder, script = tmp_path / "repo", tmp_path / "repo" / "runs" / "train.py"
    script.parent.mkdir(parents=True)
    script.write_text(_TELLS)

    def told(*arguments: str, by: Sequence[str | Path] = (sys.executable, script)) -> list[object]:
        command = [*by, *arguments]
        ours = os.pathsep.join(str(folder) for folder in (Path(perdure.__file__).parents[1], *filter(None, sys.path)))
        elsewhere = {**os.environ, "GIT_DIR": str(tmp_path / "another.git"), "PYTHONPATH": ours}
        done = subprocess.run(
            command, cwd=folder, env=elsewhere, check=True, capture_output=True, text=True, timeout=60
        )
        found: list[object] = json.loads(done.stdout)
        return found

    assert told() == [None, "python runs/train.py"]
    git(folder, "init", "-q")
    git(folder, "remote", "add", "origin", f"https://me:{SECRET}@example.org/me/x.git")
    (folder / ".gitattributes").write_text("*.py filter=mine\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    git(folder, "config", "filter.mine.clean", f"touch {tmp_path / 'ran'}; cat")
    git(folder, "config", "filter.mine.required", "true")
    head = git(folder, "rev-parse", "HEAD")
    code = [head, False, "https://example.org/me/x", "runs/train.py"]
    assert told("--lr", "1e-4", "--data", "runs/train.py") == [
        code, "python runs/train.py --lr 1e-4 --data runs/train.py",
    ]  # fmt: skip
    script.write_text(_TELLS + "# changed\n")
    code[1] = True
    hidden = told("--out", "/data/out", "--token", "0123", f"--key={SECRET}", "--to=../x", "--lr=2")
    assert hidden == [code, "python runs/train.py --out … --token … --key=… --to=… --lr=2"]
    assert not (tmp_path / "ran").exists(), "what a repository names is not run"
    secret = [
        "--wandb-key",
        "0a" * 20,
        "--pw",
        "hunter2",
        "-p",
        "hunter2",
        "++hub_token=abc",
        "-DTOKEN=abc",
        "--cfg",
        '{"hub_token": "abc"}',
        "--header",
        "Authorization: Bearer abc",
        "--data",
        "https://x.org/?X-Amz-Signature=0a",
        "--addr",
        "10.1.2.3",
        "--hub",
        "https://git.corp/x",
        "--revision",
        "0a" * 20,
        "--use_auth_token",
        "--bf16",
    ]
    assert told(*secret)[1] == (
        "python runs/train.py --wandb-key … --pw … -p … ++hub_token=… -DTOKEN=… --cfg … --header … --data … --addr … "
        f"--hub … --revision {'0a' * 20} --use_auth_token --bf16"
    )
    assert told("--lr=2", by=(sys.executable, "-m", "runs.train"))[1] == "python -m runs.train --lr=2"
    options = [f"--option_{n}=value" for n in range(100)]
    assert told(*options)[1] == " ".join(["python runs/train.py", *options]), "a trainer's are many"
    program = tmp_path / "environment" / "bin" / "my-train"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", program.parents[1]], check=True, timeout=60)
    program.write_text(f"#!{program.with_name('python')}\n{_TELLS}")
    program.chmod(0o755)
    assert told("--lr=2", by=(program,)) == [None, "my-train --lr=2"]
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=1", script)
    assert told("--lr=2", by=torchrun)[1] == "torchrun --nproc-per-node 1 runs/train.py --lr=2"
    launch = (sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes=1", "--num_machines=1",
              "--mixed_precision=no", "--dynamo_backend=no", script)  # fmt: skip
    assert told("--lr=2", by=launch)[1] == "accelerate launch … runs/train.py --lr=2"
