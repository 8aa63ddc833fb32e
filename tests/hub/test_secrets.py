"""No token, signature or password in the logs, the store, or a message, whatever clients do."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from hubs import TOKEN, Client, ask, serving


def test_nothing_secret_is_logged_or_stored(tmp_path: Path) -> None:
    wrong = "hf_a-wrong-token-that-is-still-somebodys-secret"
    with serving(tmp_path / "hub", "--user", "me", "--verbose") as (process, url):
        for xet in (True, False):
            Client(url, TOKEN, tmp_path / f"home-{xet}", xet=xet).run(
                """
                api.create_repo(args[0])
                api.upload_file(repo_id=args[0], path_in_repo="w.bin", path_or_fileobj=os.urandom(100_000))
                hf_hub_download(args[0], "w.bin")
                """,
                f"me/with-{xet}",
            )
        oid = "0" * 64
        batch = {"operation": "upload", "objects": [{"oid": oid, "size": 1}]}
        answer = ask(url, "POST", "/me/with-True.git/info/lfs/objects/batch", batch)
        link = answer.json()["objects"][0]["actions"]["upload"]["href"]
        signature = link.partition("signature=")[2]
        ask(url, "PUT", link.removeprefix(url), b"x", token=None)
        access = ask(url, "GET", "/api/models/me/with-True/xet-write-token/main").json()["accessToken"]
        ask(url, "POST", "/cas-0/v1/shards", b"broken", token=access)
        basic = base64.b64encode(f"me:{TOKEN}".encode()).decode()
        ask(url, "GET", "/me/with-True/info/refs?service=git-upload-pack", token=None, Authorization=f"Basic {basic}")
        said = ask(url, "GET", "/api/whoami-v2", token=wrong).body
        said += ask(url, "POST", "/login", f"token={wrong}".encode(), token=None, Origin=url).body
        process.terminate()
        output = "".join(process.communicate(timeout=60)).encode()
    assert re.search(rb"PUT /lfs/objects/0+ 400 ", output)
    stored = [path.read_bytes() for path in (tmp_path / "hub").rglob("*") if path.is_file()]
    for secret in (TOKEN, wrong, signature, access, basic):
        for text in (output, said, *stored):
            assert secret.encode() not in text
