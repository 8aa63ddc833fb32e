"""The revisions of a repository, each with what was pushed with it, and the best of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from faulty_proxy import FaultyProxy, Request

from perdure.cli.chart import chart
from perdure.publishing.measured import measured
from publishing import Hub

CARD = """---
model-index:
- name: me/many
  results:
  - task: {type: text-generation}
    dataset: {name: GSM8K, type: gsm8k}
    metrics: [{type: exact_match, name: exact match, value: %s}, {type: of_text, value: high}]
---
# Words of a person
"""
PUSH = """
import json, sys
from huggingface_hub import CommitOperationAdd, HfApi
from perdure.format.manifest import Manifest
api, many = HfApi(), int(sys.argv[1]) if len(sys.argv) > 1 else 4
api.create_repo("me/many", private=True)
for step in range(100, 100 * many + 1, 100):
    branch, loss = f"main-step-{step:09d}", 1 + abs(step - 300) / 1000
    api.create_branch("me/many", branch=branch)
    manifest = Manifest(kind="checkpoint", files={}, step=step, metrics={"eval_loss": loss}).encode()
    card = "---\\nmodel-index: [{results: [3]}]\\n---\\n" if step == 200 else CARD % (step / 1000)
    files = {"README.md": card.encode(), "perdure.json": manifest if step != 400 else b"{}"}
    api.create_commit("me/many", [CommitOperationAdd(path, data) for path, data in files.items()],
                      commit_message="x", revision=branch)
api.create_branch("me/many", branch="perdure-staging-0a1b")
api.create_tag("me/many", tag="v1", tag_message="m", revision="main-step-000000300")
""".replace("CARD %", f"{CARD!r} %")


@pytest.fixture(scope="module")
def repo(hub: Hub) -> str:
    hub.run(PUSH)
    return "me/many"


def test_each_has_step_date_and_metrics_and_the_best_is_marked(hub: Hub, repo: str, tmp_path: Path) -> None:
    found = hub.cli("revisions", repo)
    assert found.code == 0, found.messages
    rows = {row["name"]: row for row in found.document}
    assert list(rows) == ["main", *(f"main-step-000000{step}" for step in (100, 200, 300)), "v1", "main-step-000000400"]
    best = [row["name"] for row in found.document if row["best"]]
    assert best == ["main-step-000000300", "v1"] and rows["v1"]["kind"] == "tag"
    assert rows["v1"]["metrics"] == {"eval_loss": 1.0, "exact match": 0.3} and rows["v1"]["score"] == 1.0
    assert rows["v1"]["commit"] == hub.commits(repo, "v1")[0] == hub.commits(repo, "main-step-000000300")[0]
    assert abs(rows["v1"]["committed_at"] - Path(hub.home).stat().st_mtime) < 86400

    broken = rows["main-step-000000200"]  # its card; and of the next one its manifest
    assert broken["metrics"] == {"eval_loss": 1.1} and "README.md" in broken["problem"]
    broken = rows["main-step-000000400"]
    assert broken["metrics"] == {"exact match": 0.4} and broken["step"] == 400 and "manifest" in broken["problem"]
    assert [rows[name]["problem"] for name in ("main", "v1")] == [None, None]

    table = hub.text("revisions", repo).splitlines()
    assert table[0].split()[:6] == ["REVISION", "KIND", "STEP", "DATE", "COMMIT", "eval_loss"]
    best_row = next(row for row in table if row.startswith("main-step-000000300"))
    assert (
        best_row.split()[1:3] == ["branch", "300"] and hub.commits(repo, "v1")[0][:12] in best_row and "1 ★" in best_row
    )
    assert any(line.startswith("main-step-000000200: ") and "README.md" in line for line in table)
    chart = table[table.index("eval_loss over steps") + 1 :]
    assert sum(line.count("•") for line in chart) == 2 and sum(line.count("★") for line in chart) == 1
    assert table[-1] == f"To make the best one main: perdure promote {repo}@main-step-000000300 --tag v1.0"

    plot = tmp_path / "curve.png"
    by_card = hub.cli("revisions", repo, "--metric", "exact match", "--plot", str(plot))
    assert [row["step"] for row in by_card.document if row["best"]] == [400]
    assert plot.read_bytes().startswith(b"\x89PNG")
    lower = hub.cli("revisions", repo, "--metric", "exact match", "--lower", "--plot", str(tmp_path / "x.doc"))
    assert lower.code == 2 and lower.error["kind"] == "invalid-input"


def test_a_hub_that_has_enough_of_questions_is_asked_again_when_it_says(hub: Hub, repo: str) -> None:
    def choose(request: Request) -> str | None:
        return "429 for 2 s" if "/commits/" in request.path and not proxy.met else None

    with FaultyProxy(hub.url, choose) as proxy:
        found = hub.cli("revisions", repo, HF_ENDPOINT=proxy.url)
        assert found.code == 0 and sum(proxy.met.values()) == 1
    assert sum(row["best"] for row in found.document) == 2


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"null", b'{"log_history": [3]}', b"[" * 5000, b"---\nmodel-index: 3\n---\n"]
)
def test_what_anybody_wrote_into_a_file_costs_that_file_alone(data: bytes) -> None:
    good = json.dumps({"global_step": 7, "log_history": [{"loss": 2, "step": 5}, {"eval_loss": 1.5}]}).encode()
    found = measured({"trainer_state.json": good, "README.md": data, "perdure.json": data})
    assert found.step == 7 and found.metrics == {"loss": 2.0, "eval_loss": 1.5} and found.problem


def test_a_chart_has_every_point_within_its_frame() -> None:
    assert chart([]) == []
    flat = chart([(0, 1.0), (10, 1.0)], marked=[(10, 1.0)])
    assert flat[0].count("•") == 1 and flat[0].endswith("★") and max(map(len, flat)) <= 80


@pytest.mark.skipif("PERDURE_MANY_REVISIONS" not in os.environ, reason="makes hundreds of commits first")
def test_hundreds(hub: Hub) -> None:
    hub.run(PUSH.replace("me/many", "me/hundreds").replace("else 4", "else 300"))
    found = hub.cli("revisions", "me/hundreds")
    assert len(found.document) == 302 and sum(row["best"] for row in found.document) == 2
