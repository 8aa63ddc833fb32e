"""The unmodified @huggingface/hub from npm: create, commit, list, download, delete.

It asks the server how to upload (`transfers` of the LFS batch) and is told to do it without Xet.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hubs import CLIENTS

from perdure.hub.accounts import Accounts, new_token
from perdure.hub.db import open_database
from perdure.hub.server import HubServer

pytestmark = pytest.mark.skipif(
    not (CLIENTS / "js" / "node_modules" / "@huggingface" / "hub").is_dir() or shutil.which("node") is None,
    reason="waits for node and @huggingface/hub: scripts/install-clients",
)

_PREAMBLE = """
import * as hub from "@huggingface/hub";
const [hubUrl, accessToken, ...args] = process.argv.slice(2);
const access = { hubUrl, accessToken };
const collect = async (rows) => { const all = []; for await (const row of rows) all.push(row); return all; };
const raised = (promise) => promise.then(() => null, (error) => error.statusCode ?? String(error));
"""


def _run(server: HubServer, script: str, *args: object) -> Any:
    token = new_token()  # it takes only tokens that start with hf_, as those made here do
    db = open_database(server._folder)
    Accounts(db).add_token(Accounts(db).require_user("me"), token, role="write", label="test")
    db.close()
    # beside node_modules, where node looks for packages
    path = CLIENTS / "js" / f"test-{os.getpid()}.mjs"
    path.write_text(_PREAMBLE + script)
    try:
        done = subprocess.run(
            ["node", path, server.url, token, *map(str, args)], capture_output=True, text=True, timeout=90, check=False
        )
    finally:
        path.unlink()
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_the_whole_road(server: HubServer, tmp_path: Path, kind: str) -> None:
    weights = tmp_path / "w.bin"
    weights.write_bytes(os.urandom(700_000))
    seen = _run(
        server,
        """
        import { readFileSync } from "node:fs";
        const [kind, file] = args;
        const repo = { type: kind, name: `me/from-js-${kind}` };
        const at = { ...access, repo };
        const data = readFileSync(file);
        await hub.createRepo({ ...at, private: true });
        const again = await raised(hub.createRepo(at));
        const commit = await hub.commit({ ...at, title: "from JavaScript", operations: [
            { operation: "addOrUpdate", path: "sub/w.bin", content: new Blob([data]) },
            { operation: "addOrUpdate", path: "a.txt", content: new Blob(["text"]) },
            { operation: "addOrUpdate", path: "b.txt", content: new Blob(["to go"]) },
        ]});
        await hub.deleteFiles({ ...at, paths: ["b.txt"] });
        const late = await raised(hub.commit({ ...at, title: "late", parentCommit: commit.commit.oid,
            operations: [{ operation: "delete", path: "a.txt" }] }));
        const got = await hub.downloadFile({ ...at, path: "sub/w.bin" });
        const part = await (await hub.downloadFile({ ...at, path: "sub/w.bin" })).slice(1000, 1010).arrayBuffer();
        const info = await hub.fileDownloadInfo({ ...at, path: "sub/w.bin" });
        const files = await collect(hub.listFiles({ ...at, recursive: true, expand: true }));
        const paths = await hub.pathsInfo({ ...at, paths: ["sub/w.bin", "absent"] });
        const list = kind === "model" ? hub.listModels : hub.listDatasets;
        const rows = await collect(list({ ...access, search: { owner: "me", query: "from-js" }, limit: 10 }));
        console.log(JSON.stringify({
            me: (await hub.whoAmI(access)).name, again, late, size: info.size,
            same: Buffer.from(await got.arrayBuffer()).equals(data),
            part: Buffer.from(part).equals(data.subarray(1000, 1010)),
            files: files.map((f) => [f.path, f.lastCommit?.title]), paths: paths.map((p) => p.path),
            titles: (await collect(hub.listCommits(at))).map((c) => c.title),
            exists: [await hub.fileExists({ ...at, path: "a.txt" }), await hub.fileExists({ ...at, path: "b.txt" }),
                     await hub.repoExists(at), await hub.repoExists({ ...access, repo: "me/none" })],
            listed: rows.some((row) => row.name === repo.name), absent: await hub.downloadFile({ ...at, path: "zz" }),
        }));
        await hub.deleteRepo(at);
        """,
        kind,
        weights,
    )
    assert (seen["me"], seen["again"], seen["late"], seen["size"]) == ("me", 409, 412, 700_000)
    assert seen["same"]
    assert seen["part"]
    added = "from JavaScript"
    assert [row for row in seen["files"] if row[0] != ".gitattributes"] == [
        ["a.txt", added],
        ["sub", added],
        ["sub/w.bin", added],
    ]
    assert seen["paths"] == ["sub/w.bin"]
    assert seen["titles"] == ["Deletes 1 files", added, "initial commit"]
    assert seen["exists"] == [True, False, True, False]
    assert seen["listed"]
    assert seen["absent"] is None
