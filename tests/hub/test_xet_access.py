"""What Xet clients know of, a file's sha256 or a xorb's name, opens nobody else's bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hubs import TOKEN, ask, look_after, ndjson
from xets import pack, poster, sha256, shard_of, xorb_name

from perdure.hub.accounts import Accounts
from perdure.hub.server import HubServer
from perdure.hub.xet.hashing import chunk_hash, hash_text


def test_knowing_a_sha256_opens_nobody_elses_file(tmp_path: Path) -> None:
    secret, other, thief = os.urandom(5000), os.urandom(5000), "token-of-somebody-else"
    wanted = sha256(secret)
    commit = ndjson(("lfsFile", {"path": "w.bin", "algo": "sha256", "oid": wanted, "size": len(secret)}))

    with HubServer(tmp_path, user="me", token=TOKEN) as hub:

        def give(repo: str, token: str, shard: bytes, data: bytes) -> int:
            post = poster(hub, token, repo)
            assert post(f"xorbs/default/{xorb_name(data)}", pack(data)).status == 200
            return post("shards", shard).status

        assert hub._hub is not None
        Accounts(hub._hub.db).add_user_with_token("you", thief, admin=False, label="test")
        honest = shard_of(wanted, (xorb_name(secret), 5000, 0, 1))
        assert give("me/mine", TOKEN, honest, secret) == 200
        assert ask(hub.url, "POST", "/api/models/me/mine/commit/main", commit).status == 200
        for forged in (shard_of(wanted), shard_of(wanted, (xorb_name(other), 5000, 0, 1))):
            assert give("you/loot", thief, forged, other) == 400
            assert ask(hub.url, "POST", "/api/models/you/loot/commit/main", commit, token=thief).status == 400
        # whoever has the same bytes may of course store them, too
        assert give("you/loot", thief, honest, secret) == 200
        assert ask(hub.url, "POST", "/api/models/you/loot/commit/main", commit, token=thief).status == 200
        assert ask(hub.url, "GET", "/you/loot/resolve/main/w.bin", token=thief).body == secret


@pytest.mark.parametrize("access", [{"private": True}, {"gated": "manual"}])
def test_a_xorb_opens_nobody_elses_chunks(tmp_path: Path, access: dict[str, object]) -> None:
    """What everybody may download shares a xorb with what they may not."""
    shared, secret, thief = os.urandom(5000), os.urandom(5000), "token-of-somebody-else"
    xorb, body = xorb_name(shared, secret), pack(shared) + pack(secret)

    with HubServer(tmp_path, user="me", token=TOKEN) as hub:

        def enter(repo: str, token: str) -> tuple[str, str]:
            ask(hub.url, "POST", "/api/repos/create", {"name": repo, "private": False}, token=token)
            granted = ask(hub.url, "GET", f"/api/models/{repo}/xet-write-token/main", token=token).json()
            return f"{granted['casUrl'].removeprefix(hub.url)}/v1", granted["accessToken"]

        def store(repo: str, token: str, shard: bytes) -> int:
            address, key = enter(repo, token)
            return ask(hub.url, "POST", f"{address}/shards", shard, token=key).status

        assert hub._hub is not None
        accounts = Accounts(hub._hub.db)
        accounts.add_user_with_token("you", thief, admin=False, label="test")
        address, key = enter("me/closed", TOKEN)
        assert ask(hub.url, "PUT", "/api/models/me/closed/settings", dict(access)).status == 200
        assert ask(hub.url, "POST", f"{address}/xorbs/default/{xorb}", body, token=key).status == 200
        whole, part = (
            shard_of(sha256(shared + secret), (xorb, 10_000, 0, 2)),
            shard_of(sha256(shared), (xorb, 5000, 0, 1)),
        )
        stolen = shard_of(sha256(secret), (xorb, 5000, 1, 2))
        assert store("me/closed", TOKEN, whole) == 200
        assert store("you/loot", thief, part) == 400  # not even known to be here
        assert store("me/open", TOKEN, part) == 200
        assert store("you/loot", thief, part) == 200
        assert store("you/loot", thief, stolen) == 400
        assert store("you/loot", thief, whole) == 400
        address, key = enter("you/loot", thief)
        first = f"{address}/chunks/default/{hash_text(chunk_hash(shared))}"
        assert ask(hub.url, "GET", first, token=key).status == 404
        # the name and other bytes prove nothing; the bytes themselves do
        assert ask(hub.url, "POST", f"{address}/xorbs/default/{xorb}", pack(shared), token=key).status == 400
        assert store("you/loot", thief, stolen) == 400
        assert ask(hub.url, "POST", f"{address}/xorbs/default/{xorb}", body, token=key).json() == {
            "was_inserted": False
        }
        assert store("you/loot", thief, stolen) == 200


def test_wrong_terms_of_a_file_that_is_held_change_nothing(tmp_path: Path) -> None:
    ours, other = os.urandom(5000), os.urandom(5000)
    commit = ndjson(("lfsFile", {"path": "w.bin", "algo": "sha256", "oid": sha256(ours), "size": 5000}))
    with HubServer(tmp_path, user="me", token=TOKEN) as hub:
        post = poster(hub, TOKEN, "me/held")
        for data in (ours, other):  # of what is held, none are asked to prove it again
            assert post(f"xorbs/default/{xorb_name(data)}", pack(data)).status == 200
            assert post("shards", shard_of(sha256(ours), (xorb_name(data), 5000, 0, 1))).status == 200
        assert ask(hub.url, "POST", "/api/models/me/held/commit/main", commit).status == 200
        assert ask(hub.url, "GET", "/me/held/resolve/main/w.bin").body == ours
        assert look_after("fsck", tmp_path)["ok"]
