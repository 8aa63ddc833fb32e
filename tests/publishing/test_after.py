"""A command that follows a push knows what was pushed, and costs nothing when it fails."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perdure.errors import InvalidInput
from perdure.publishing import after
from perdure.publishing.receipt import Receipt

RECEIPT = Receipt(
    repo="me/a", endpoint="http://h", url="u", revision="r", commit="c" * 40, commit_url="u", tag=None, private=True,
    files=(), deleted=(), bytes_sent=0, created=False, changed=True, left_out=(),
)  # fmt: skip


def run(code: str, folder: Path, **options: float) -> after.Followed:
    command = shlex.join([sys.executable, "-c", code])
    followed = after.run(command, RECEIPT, step=20, metrics={"loss": 0.5}, folder=folder / "new", **options)
    assert followed is not None
    return followed


def test_it_is_told_what_was_pushed_and_its_results_come_back(tmp_path: Path) -> None:
    code = (
        "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('PERDURE_')}));"
        "json.dump({'acc': 0.75, 'n': 3}, open(os.environ['PERDURE_RESULTS'], 'w'))"
    )
    followed = run(code, tmp_path)
    assert followed.problem is None and followed.results == {"acc": 0.75, "n": 3.0}
    assert (tmp_path / "new").stat().st_mode & 0o77 == 0
    told = json.loads((tmp_path / "new/output.txt").read_text())
    assert told.pop("PERDURE_RESULTS") == str(tmp_path / "new/results.json")
    assert told == {
        "PERDURE_REPO": "me/a", "PERDURE_REVISION": "r", "PERDURE_PATH_IN_REPO": "", "PERDURE_COMMIT": "c" * 40,
        "PERDURE_ENDPOINT": "http://h", "PERDURE_STEP": "20", "PERDURE_METRICS": '{"loss": 0.5}',
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; print('why'); sys.exit(3)", "ended with 3"),
        ("import time; time.sleep(60)", "was ended after 0.5 seconds"),
        ("import os; open(os.environ['PERDURE_RESULTS'], 'w').write('[1]')", "no JSON object"),
        ("import os; open(os.environ['PERDURE_RESULTS'], 'w').write('{\"a\": NaN}')", "finite"),
        ("import os; open(os.environ['PERDURE_RESULTS'], 'w').write('{\"a\": \"' + 'x' * 2**20 + '\"}')", "too large"),
    ],
)
def test_what_goes_wrong_is_told(tmp_path: Path, code: str, words: str) -> None:
    limit = 0.5 if "sleep" in code else 60
    followed = run(code, tmp_path, limit=limit)
    assert followed.results == {} and followed.problem is not None and words in followed.problem


def test_what_it_started_itself_ends_with_it(tmp_path: Path) -> None:
    child = shlex.join(["sh", "-c", f"echo $$ > {shlex.quote(str(tmp_path / 'pid'))}; exec sleep 60"])
    followed = run(f"import shlex, subprocess; subprocess.run(shlex.split({child!r}))", tmp_path, limit=5)
    assert followed.problem is not None and "was ended after 5 seconds" in followed.problem
    require_ended(tmp_path / "pid")


def test_what_it_prints_is_bounded_and_what_it_leaves_behind_ends(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys; print('first', os.nice(0), flush=True);"
        f"child = subprocess.Popen(['yes']); open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid));"
        "import time; time.sleep(1);"
        "child.send_signal(19); os.waitid(os.P_PID, child.pid, os.WSTOPPED); print('last')"
    )
    assert run(code, tmp_path).problem is None
    printed = (tmp_path / "new/output.txt").read_bytes()
    assert printed.startswith(b"first %d\n" % os.nice(0)) and printed.endswith(b"last\n")
    assert b"bytes are left out" in printed and len(printed) < 2**21
    require_ended(tmp_path / "pid")


@pytest.mark.parametrize("how", ["told", "killed"])
def test_it_ends_with_who_waits_for_it(tmp_path: Path, how: str) -> None:
    pid = tmp_path / "pid"
    read, write = os.pipe()
    waiting = os.fork()
    if waiting == 0:
        if how == "killed":
            os.close(write)
            read = subprocess.PIPE
        command = shlex.join(["sh", "-c", f"echo $$ > {pid}.new; mv {pid}.new {pid}; trap '' INT; sleep 60; sleep 60"])
        followed = after.run(command, RECEIPT, step=None, metrics={}, folder=tmp_path / "new", leash=read)
        os._exit(0 if followed is None else 1)
    until = time.monotonic() + 60
    while not pid.exists() and time.monotonic() < until:
        time.sleep(0.02)
    if how == "killed":
        os.kill(waiting, signal.SIGKILL)
    else:
        os.write(write, b"x")
    _, status = os.waitpid(waiting, 0)
    assert os.waitstatus_to_exitcode(status) == (-signal.SIGKILL if how == "killed" else 0)
    require_ended(pid)
    os.close(read)
    os.close(write)


def require_ended(pid: Path) -> None:
    left = Path("/proc", pid.read_text().strip(), "stat")
    until = time.monotonic() + 30
    while left.exists() and " Z " not in left.read_text() and time.monotonic() < until:
        time.sleep(0.02)  # what is dead already stays there until it is buried
    assert time.monotonic() < until


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    followed = after.run("no-such-program", RECEIPT, step=None, metrics={}, folder=tmp_path)
    assert followed is not None and followed.problem is not None and "could not be run" in followed.problem


@pytest.mark.parametrize("command", ["'unclosed", ""])
def test_what_is_no_command_line_is_refused(command: str) -> None:
    with pytest.raises(InvalidInput):
        after.words(command)
