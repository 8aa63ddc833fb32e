"""A command that follows a push knows what was pushed, and costs nothing when it fails."""

from __future__ import annotations

import json
import shlex
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
    return after.run(command, RECEIPT, step=20, metrics={"loss": 0.5}, folder=folder / "new", **options)


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
    left = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    until = time.monotonic() + 30
    while left.exists() and " Z " not in left.read_text() and time.monotonic() < until:
        time.sleep(0.02)  # what is dead already stays there until it is buried
    assert time.monotonic() < until


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    followed = after.run("no-such-program", RECEIPT, step=None, metrics={}, folder=tmp_path)
    assert followed.problem is not None and "could not be run" in followed.problem


@pytest.mark.parametrize("command", ["'unclosed", ""])
def test_what_is_no_command_line_is_refused(command: str) -> None:
    with pytest.raises(InvalidInput):
        after.words(command)
