"""Xet uploads: hashes as published examples have them, damaged and hostile objects, shards that would take long."""

from __future__ import annotations

import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
from hubs import TOKEN, ask, ndjson
from xets import SHARD_END, SHARD_TAG, Post, pack, poster, sha256, shard_of, xorb_name

from perdure.hub import limits
from perdure.hub.accounts import Accounts
from perdure.hub.db import Database, open_database
from perdure.hub.server import HubServer
from perdure.hub.xet import cas
from perdure.hub.xet.hashing import chunk_hash, hash_bytes, hash_text, xorb_hash
from perdure.hub.xet.xorb import XetError, Xorb, check_xorb


@pytest.fixture
def post(server: HubServer) -> Post:
    return poster(server, TOKEN, "me/xet")


def test_hashes_are_those_of_the_published_examples() -> None:
    """The test vectors of draft-denis-xet: https://datatracker.ietf.org/doc/draft-denis-xet/"""
    said = "d8d408e608fb9ca213b9909a65d86d725f2de4d8d540324be8a363e7a6e228cb"
    assert hash_text(chunk_hash(b"Hello World!")) == said
    assert hash_text(bytes(range(32))) == "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918"
    children = (
        ("c28f58387a60d4aa200c311cda7c7f77f686614864f5869eadebf765d0a14a69", 100),
        ("6e4e3263e073ce2c0e78cc770c361e2778db3b054b98ab65e277fc084fa70f22", 200),
    )
    root = xorb_hash([(hash_bytes(text), length) for text, length in children])
    assert hash_text(root) == "be64c7003ccd3cf4357364750e04c9592b3c36705dee76a71590c011766b6c14"


def test_a_xorb_is_stored_under_its_own_hash_only(post: Post, server: HubServer) -> None:
    one, two = os.urandom(70_000), bytes(range(256)) * 300
    grouped = b"".join(two[i::4] for i in range(4))
    body = pack(one) + pack(two, 2, lz4.frame.compress(grouped)) + pack(two, 1, lz4.frame.compress(two))
    name = xorb_name(one, two, two)
    assert post(f"xorbs/default/{'0' * 64}", body).status == 400
    assert post("xorbs/default/..%2F..%2Fx", body).status == 400
    assert post(f"xorbs/default/{name}", body[:-1]).status == 400
    assert post(f"xorbs/default/{name}", body).json() == {"was_inserted": True}
    assert post(f"xorbs/default/{name}", body).json() == {"was_inserted": False}
    content = one + two + two
    sha = sha256(content)
    shard = shard_of(sha, (name, len(content), 0, 3), xorbs=(name,))
    assert post("shards", shard).json() == {"result": 1}
    commit = ndjson(("lfsFile", {"path": "w.bin", "algo": "sha256", "oid": sha, "size": len(content)}))
    assert ask(server.url, "POST", "/api/models/me/xet/commit/main", commit).status == 200
    assert ask(server.url, "GET", "/me/xet/resolve/main/w.bin").body == content


def test_an_odd_length_is_regrouped_right(tmp_path: Path) -> None:
    for size in range(1, 10):
        data = bytes(range(size))
        grouped = b"".join(data[i::4] for i in range(4))
        (tmp_path / "xorb").write_bytes(pack(data, 2, lz4.frame.compress(grouped)) + b"XETBLOB\0footer")
        assert list(Xorb(tmp_path / "xorb").read()) == [data]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"garbage", b"\1" * 8, pack(b"x", 3), pack(b"x", 1), pack(b"", 0), pack(b"xy", 0, b"xy", 3),
        pack(b"x", 1, lz4.frame.compress(bytes(100)), 50),  # more than it promises
        pack(b"x", 1, lz4.frame.compress(bytes(50)), 100),  # less
        pack(b"x", 1, lz4.frame.compress(bytes(50_000_000)), 131_072),  # a bomb
        pack(b"x", 0, b"x", 200_000),
        pack(b"a") * 8193,
        b"\0" * 7,
    ],
)  # fmt: skip
def test_damaged_and_hostile_xorbs_are_refused(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "xorb").write_bytes(body)
    with pytest.raises(XetError):
        check_xorb(tmp_path / "xorb", "0" * 64)


def test_a_xorb_that_unpacks_beyond_its_bound_is_refused(tmp_path: Path) -> None:
    chunk = pack(b"x", 1, lz4.frame.compress(bytes(131_072)), 131_072)
    (tmp_path / "xorb").write_bytes(chunk * 513)
    with pytest.raises(XetError, match="unpacks to more"):
        check_xorb(tmp_path / "xorb", "0" * 64)


def test_shards_that_promise_too_much_are_refused_and_store_nothing(post: Post, server: HubServer) -> None:
    data = os.urandom(1000)
    name = xorb_name(data)
    assert post(f"xorbs/default/{name}", pack(data)).status == 200
    bad = [
        b"", b"x" * 48, SHARD_TAG + bytes(16), SHARD_TAG + struct.pack("<2Q", 2, 0),
        shard_of(None, (name, 1000, 0, 1)),  # no sha256
        shard_of(sha256(b"other"), (name, 1000, 0, 1)),  # another sha256
        shard_of(sha256(data), (name, 999, 0, 1)),  # another size
        shard_of(sha256(data), (name, 1000, 0, 2)),  # a chunk that is not there
        shard_of(sha256(data), (name, 1000, 1, 1)),
        shard_of(sha256(data), ("ab" * 32, 1000, 0, 1)),  # a xorb that is not there
        shard_of(sha256(data), (name, 1000, 0, 1), xorbs=("ab" * 32,)),
        shard_of(sha256(data), *[(name, 2**32 - 1, 0, 1)] * 1000),  # larger than any file may be
        shard_of(sha256(data), (name, 1000, 0, 1))[:150],
    ]  # fmt: skip
    for shard in bad:
        assert post("shards", shard).status == 400, shard
    assert not list((server._folder / "blobs").rglob(sha256(data)))
    assert not list((server._folder / "staging").iterdir())
    assert post("shards", shard_of(sha256(data), (name, 1000, 0, 1))).status == 200


def test_a_small_shard_does_not_stand_for_endless_work(
    post: Post, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(limits.XORB_CHUNK)
    name = xorb_name(*[data] * 64)
    packed = lz4.frame.compress(data)
    assert post(f"xorbs/default/{name}", pack(data, 1, packed) * 64).status == 200
    size = 64 * limits.XORB_CHUNK
    endless = shard_of(sha256(b"other"), *[(name, size, 0, 64)] * 2000)
    assert b"repeat the same chunks" in post("shards", endless).body
    # one xorb may say the same chunk many times: that counts once
    monkeypatch.setattr(limits, "SHARD_UNPACKED", size)
    assert b"repeat the same chunks" in post("shards", shard_of(sha256(b"other"), *[(name, size, 0, 64)] * 2)).body
    assert post("shards", shard_of(sha256(data * 64), (name, size, 0, 64))).status == 200
    assert not list((server._folder / "staging").iterdir())


def test_many_files_of_a_shard_are_written_down_together(
    post: Post, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    datas = [os.urandom(100) for _ in range(30)]
    name = xorb_name(*datas)
    assert post(f"xorbs/default/{name}", b"".join(map(pack, datas))).status == 200
    files = [shard_of(sha256(data), (name, 100, i, i + 1))[48:-96] for i, data in enumerate(datas)]
    shard = shard_of(None)
    writes, write = [], Database.write
    monkeypatch.setattr(Database, "write", lambda db: writes.append(1) or write(db))  # counts, and changes nothing
    assert post("shards", shard[:48] + b"".join(files * 100) + SHARD_END + SHARD_END).status == 200
    assert len(writes) < 10
    for data in datas:
        body = {"oid": sha256(data), "size": 100}
        assert ask(server.url, "POST", "/me/xet.git/info/lfs/objects/verify", body).status == 200


def test_a_shard_of_what_is_gone_renews_its_senders_address_alone(post: Post, server: HubServer) -> None:
    db = open_database(server._folder)
    Accounts(db).add_user_with_token("renewer", "token-of-the-renewer", admin=False, label="test")
    db.close()
    other = poster(server, "token-of-the-renewer", "renewer/xet")

    def addresses() -> list[str]:
        return [
            ask(server.url, "GET", f"/api/models/{repo}/xet-write-token/main", token=token).json()["casUrl"]
            for repo, token in (("me/xet", TOKEN), ("renewer/xet", "token-of-the-renewer"))
        ]

    mine, theirs = addresses()
    for _ in range(2):
        assert b"is not stored here" in other("shards", shard_of(sha256(b"x"), ("0" * 64, 1, 0, 1))).body
        assert addresses()[0] == mine
    assert addresses()[1] != theirs


def test_shards_wait_for_each_other_and_hold_nobody_else_up(
    post: Post, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many shards of one caller some work and the others wait: without a place or a thread others could need."""
    begun, go, guard = threading.Semaphore(0), threading.Event(), threading.Lock()
    store, working, most = cas._store, 0, 0

    def slow(*args: Any) -> None:  # a fault that cannot be had otherwise: a file whose work takes as long as we like
        nonlocal working, most
        with guard:
            working += 1
            most = max(most, working)
        begun.release()
        assert go.wait(60)
        store(*args)
        with guard:
            working -= 1

    monkeypatch.setattr(cas, "_store", slow)
    datas = [os.urandom(1000) for _ in range(50)]
    for data in datas:
        assert post(f"xorbs/default/{xorb_name(data)}", pack(data)).status == 200
    shards = [shard_of(sha256(data), (xorb_name(data), 1000, 0, 1)) for data in datas]
    db = open_database(server._folder)
    Accounts(db).add_user_with_token("other", "token-of-the-other", admin=False, label="test")
    db.close()
    other, data = poster(server, "token-of-the-other", "other/xet"), os.urandom(1000)
    assert other(f"xorbs/default/{xorb_name(data)}", pack(data)).status == 200
    with ThreadPoolExecutor(len(shards) + 1) as pool:
        answers = [pool.submit(post, "shards", shard) for shard in shards]
        try:
            for _ in range(limits.SHARDS_EACH):
                assert begun.acquire(timeout=60)
            assert ask(server.url, "GET", "/api/models").status == 200
            answers.append(pool.submit(other, "shards", shard_of(sha256(data), (xorb_name(data), 1000, 0, 1))))
            assert begun.acquire(timeout=60)
        finally:
            go.set()
        assert [answer.result().status for answer in answers] == [200] * len(answers)
    assert most == limits.SHARDS_EACH + 1  # the other's among them


def test_a_renewed_address_does_not_disturb_uploads_under_way(post: Post, server: HubServer) -> None:
    data = os.urandom(1000)
    name = xorb_name(data)
    assert post(f"xorbs/default/{name}", pack(data)).status == 200
    before = ask(server.url, "GET", "/api/models/me/xet/xet-write-token/main").json()["casUrl"]
    for _ in range(2):
        assert b"Upload again" in post("shards", shard_of(sha256(data), ("ab" * 32, 1000, 0, 1))).body
    after = ask(server.url, "GET", "/api/models/me/xet/xet-write-token/main").json()["casUrl"]
    assert after != before
    assert post("shards", shard_of(sha256(data), (name, 1000, 0, 1))).status == 200
