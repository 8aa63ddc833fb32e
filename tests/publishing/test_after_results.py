"""What was measured after a push comes onto its card, in one commit more, and what is pulled still verifies."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from faulty_proxy import FaultyProxy, Request

from perdure import Outbox, verify
from perdure.errors import InvalidInput
from perdure.publishing.receipt import Receipt
from perdure.publishing.record import record_results
from publishing import Hub, save_folder, weights

WORDS = "# A model\n\nWords of a person.\n"


def saved_at(step: int, folder: Path) -> Path:
    files = {"model.safetensors": weights(step), "config.json": b"{}", "README.md": WORDS.encode()}
    return save_folder(folder / f"checkpoint-{step}", files)


def measuring(results: object) -> str:
    """A command line that leaves results."""
    code = f"import os; open(os.environ['PERDURE_RESULTS'], 'w').write({json.dumps(results)!r})"
    return shlex.join([sys.executable, "-c", code])


def require_whole(hub: Hub, repo: str, folder: Path) -> None:
    for path in hub.files(repo):
        folder.mkdir(exist_ok=True)
        (folder / path).write_bytes(hub.read(repo, path))
    assert verify(folder).ok


def test_results_of_a_command_are_one_commit_more_and_the_next_push_goes_on_top(
    hub: Hub, box: Outbox, tmp_path: Path
) -> None:
    results = {"accuracy": 0.8125, "openai/gsm8k": {"exact_match": 0.5}}

    commits: list[str] = []

    def lose(request: Request) -> str | None:
        commits.extend([request.path] if "/commit/" in request.path else [])
        return "lost" if len(commits) == 2 and not proxy.met else None

    with FaultyProxy(hub.url, lose) as proxy:
        box.add(saved_at(10, tmp_path), "me/measured", endpoint=proxy.url, after=measuring(results))
        assert box.drain(timeout=60) == () and proxy.met["lost"] == 1
        (job,) = box.jobs()
        assert job.state == "done" and job.error is None and job.receipt is not None
        made = hub.commits("me/measured")
        assert made[:2] == [job.receipt.results_commit, job.receipt.commit] and len(made) == 3
        card = hub.read("me/measured", "README.md").decode()
        assert "Words of a person." in card and "0.8125" in card and "model-index" in card and "openai/gsm8k" in card
        require_whole(hub, "me/measured", tmp_path / "pulled")

        hub.run("import perdure; perdure.record_results('measured', {'by hand': 1})")
        assert hub.commits("me/measured")[1:] == made
        box.add(saved_at(20, tmp_path), "me/measured", endpoint=proxy.url)
        assert box.drain(timeout=60) == ()
        assert [one.state for one in box.jobs()] == ["done", "done"] and len(hub.commits("me/measured")) == 5


def test_a_worker_that_is_killed_amid_it_neither_measures_nor_commits_twice(
    hub: Hub, box: Outbox, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    measure = measuring({"a": 1})
    code = f"open({str(seen)!r}, 'a').write('x'); " + shlex.split(measure)[2]
    lost: list[str] = []

    def kill(request: Request) -> str | None:
        if len(lost) == 1:
            lost.append("worker")
            process = box._worker._process
            assert process is not None
            process.kill()
            return "refused"
        if "/commit/" in request.path and seen.exists() and not lost:
            lost.append("answer")
            return "lost"  # the hub makes the commit, and nobody hears of it
        return None

    with FaultyProxy(hub.url, kill) as proxy:
        box.add(saved_at(10, tmp_path), "me/cutoff", endpoint=proxy.url, after=shlex.join([sys.executable, "-c", code]))
        assert box.drain(timeout=60) == () and len(lost) == 2
    (job,) = box.jobs()
    assert job.state == "done" and job.error is None and seen.read_text() == "x"
    assert len(hub.commits("me/cutoff")) == 3 and job.receipt is not None
    assert job.receipt.results_commit == hub.commits("me/cutoff")[0]


def test_a_function_measures_in_this_process_and_a_process_that_ends_first_is_told_of(
    hub: Hub, box: Outbox, tmp_path: Path
) -> None:
    def measure(receipt: Receipt) -> Mapping[str, float]:
        return {"accuracy": 0.75 if receipt.revision == "main" else float("nan")}

    box.add(saved_at(10, tmp_path), "me/called", endpoint=hub.url, after=measure)
    box.add(saved_at(20, tmp_path), "me/called", endpoint=hub.url, revision="other", after=measure)
    assert box.drain(timeout=60) == ()
    good, bad = box.jobs()
    assert (good.state, good.error, bad.state) == ("done", None, "done") and "not every number" in (bad.error or "")
    assert "0.75" in hub.read("me/called", "README.md").decode() and good.receipt is not None
    assert good.receipt.results_commit == hub.commits("me/called")[0]
    require_whole(hub, "me/called", tmp_path / "pulled")

    box.add(saved_at(30, tmp_path), "me/called", endpoint=hub.url, after=measure)
    assert Outbox(box.run, token=hub.token).drain(timeout=60) == ()  # as another process would
    assert "was not called" in (box.jobs()[2].error or "")
    assert box.drain(timeout=60) == () and box.jobs()[2].error is None


def test_results_go_on_nothing_but_the_model_that_was_measured(hub: Hub, tmp_path: Path) -> None:
    assert hub.push(saved_at(10, tmp_path), "me/moved").code == 0
    first = hub.commits("me/moved")[0]
    theirs = hub.commit_file("me/moved", "config.json", b'{"of": "somebody else"}')
    told = hub.run(f"""
import perdure
from perdure.errors import Conflict
try:
    perdure.record_results("me/moved", {{"a": 1}}, commit={first!r})
except Conflict as error:
    print(error.message)
print(perdure.record_results("me/moved", {{"a": 1}}, commit={theirs!r}))
print(perdure.record_results("me/moved", {{"a": 1}}))
""").splitlines()
    assert "another model" in told[0] and told[1] == told[2] == hub.commits("me/moved")[0]
    assert hub.commits("me/moved")[1] == theirs


@pytest.mark.parametrize("results", [{"a": "high"}, {"": 1}, {"a": float("inf")}, [1], {"no id!": {"a": 1}}])
def test_what_is_no_result_is_refused(results: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="no results"):
        record_results("me/a", results)
