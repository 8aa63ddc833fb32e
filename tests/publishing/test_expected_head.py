"""`expected_head`: somebody else's commit is not pushed over, and what is there already is no conflict."""

from __future__ import annotations

import json
from pathlib import Path

from publishing import Hub, save_folder, weights

PROGRAM = """
import json
import perdure

def told(work, *arguments, **options):
    try:
        return work(*arguments, **options).commit
    except perdure.Conflict as error:
        return str(error)

one, two, model = {arguments}
repo = "me/guarded"
absent = told(perdure.publish, one, repo, expected_head="0" * 40)
first = perdure.publish(one, repo).commit
second = perdure.publish(two, repo, expected_head=first).commit
seen = [
    absent, second,
    told(perdure.publish, model, repo, expected_head=first),
    told(perdure.publish, model, repo, expected_head=first, dry_run=True),
    told(perdure.publish, model, repo, expected_head=first, revision="gone"),
    told(perdure.publish, two, repo, expected_head=first, tag="v1"),
    told(perdure.promote, repo, first, expected_head=first),
    told(perdure.promote, repo, "v1", expected_head=first),
]
print(json.dumps(seen))
"""


def test_somebody_elses_commit_is_not_pushed_over(hub: Hub, tmp_path: Path) -> None:
    folders = [str(save_folder(tmp_path / str(n), {"model.safetensors": weights(n, size=8)})) for n in range(3)]
    absent, second, *told = json.loads(hub.run(PROGRAM.format(arguments=folders)))
    assert "main of me/guarded is gone" in absent
    assert hub.commits("me/guarded")[0] == second
    conflict, dry, gone, again, promoted, same = told
    assert conflict == dry and second[:12] in conflict and "somebody else was there. Nothing was sent." in conflict
    assert "gone of me/guarded is gone" in gone and "somebody else was there" in promoted
    assert again == same == second, "a push, or a promotion, that is done again finds all there, and tags it"
    assert hub.commits("me/guarded", "v1")[0] == second

    refused = hub.cli("push", folders[2], "me/guarded", "--expected-head", "0" * 40)
    assert refused.code == 1 and refused.error["kind"] == "conflict"
