"""Xet uploads: hashes as published examples have them, damaged and hostile objects, and the store that was wiped."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
from hubs import TOKEN, Answer, Client, ask, ndjson

from perdure.hub import limits
from perdure.hub.accounts import Accounts
from perdure.hub.db import Database, open_database
from perdure.hub.server import HubServer
from perdure.hub.xet import cas
from perdure.hub.xet.hashing import chunk_hash, hash_bytes, hash_text, xorb_hash
from perdure.hub.xet.xorb import XetError, Xorb, check_xorb

_TAG = b"HFRepoMetaData\0" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
_END = b"\xff" * 32 + bytes(16)


def _chunk(data: bytes, scheme: int = 0, packed: bytes | None = None, unpacked: int | None = None) -> bytes:
    body = data if packed is None else packed
    size = len(data) if unpacked is None else unpacked
    return b"\0" + len(body).to_bytes(3, "little") + bytes([scheme]) + size.to_bytes(3, "little") + body


def _name(*chunks: bytes) -> str:
    return hash_text(xorb_hash([(chunk_hash(chunk), len(chunk)) for chunk in chunks]))


def _digest(name: str) -> bytes:
    return struct.pack("<4Q", *(int(name[i : i + 16], 16) for i in range(0, 64, 16)))


def _shard(sha256: str | None, *terms: tuple[str, int, int, int], xorbs: tuple[str, ...] = ()) -> bytes:
    flags = 1 << 30 if sha256 else 0
    shard = _TAG + struct.pack("<2Q", 2, 0)
    shard += struct.pack("<32s2IQ", bytes(32), flags, len(terms), 0)
    for xorb, size, start, stop in terms:
        shard += struct.pack("<32s4I", _digest(xorb), 0, size, start, stop)
    if sha256:
        shard += struct.pack("<32s2Q", _digest(sha256), 0, 0)
    shard += _END
    for xorb in xorbs:
        shard += struct.pack("<32s4I", _digest(xorb), 0, 0, 0, 0)
    return shard + _END


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


Post = Callable[[str, bytes], Answer]


@pytest.fixture
def post(server: HubServer) -> Post:
    return _poster(server, TOKEN, "me/xet")


def _poster(server: HubServer, token: str, repo: str) -> Post:
    ask(server.url, "POST", "/api/repos/create", {"name": repo.partition("/")[2]}, token=token)
    access = ask(server.url, "GET", f"/api/models/{repo}/xet-write-token/main", token=token).json()
    address = access["casUrl"].removeprefix(server.url)
    return lambda path, body: ask(server.url, "POST", f"{address}/v1/{path}", body, token=access["accessToken"])


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
    body = _chunk(one) + _chunk(two, 2, lz4.frame.compress(grouped)) + _chunk(two, 1, lz4.frame.compress(two))
    name = _name(one, two, two)
    assert post(f"xorbs/default/{'0' * 64}", body).status == 400
    assert post("xorbs/default/..%2F..%2Fx", body).status == 400
    assert post(f"xorbs/default/{name}", body[:-1]).status == 400
    assert post(f"xorbs/default/{name}", body).json() == {"was_inserted": True}
    assert post(f"xorbs/default/{name}", body).json() == {"was_inserted": False}
    content = one + two + two
    sha = _sha(content)
    shard = _shard(sha, (name, len(content), 0, 3), xorbs=(name,))
    assert post("shards", shard).json() == {"result": 1}
    commit = ndjson(("lfsFile", {"path": "w.bin", "algo": "sha256", "oid": sha, "size": len(content)}))
    assert ask(server.url, "POST", "/api/models/me/xet/commit/main", commit).status == 200
    assert ask(server.url, "GET", "/me/xet/resolve/main/w.bin").body == content


def test_an_odd_length_is_regrouped_right(tmp_path: Path) -> None:
    for size in range(1, 10):
        data = bytes(range(size))
        grouped = b"".join(data[i::4] for i in range(4))
        (tmp_path / "xorb").write_bytes(_chunk(data, 2, lz4.frame.compress(grouped)) + b"XETBLOB\0footer")
        assert list(Xorb(tmp_path / "xorb").read()) == [data]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"garbage", b"\1" * 8, _chunk(b"x", 3), _chunk(b"x", 1), _chunk(b"", 0), _chunk(b"xy", 0, b"xy", 3),
        _chunk(b"x", 1, lz4.frame.compress(bytes(100)), 50),  # more than it promises
        _chunk(b"x", 1, lz4.frame.compress(bytes(50)), 100),  # less
        _chunk(b"x", 1, lz4.frame.compress(bytes(50_000_000)), 131_072),  # a bomb
        _chunk(b"x", 0, b"x", 200_000),
        _chunk(b"a") * 8193,
        b"\0" * 7,
    ],
)  # fmt: skip
def test_damaged_and_hostile_xorbs_are_refused(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "xorb").write_bytes(body)
    with pytest.raises(XetError):
        check_xorb(tmp_path / "xorb", "0" * 64)


def test_a_xorb_that_unpacks_beyond_its_bound_is_refused(tmp_path: Path) -> None:
    chunk = _chunk(b"x", 1, lz4.frame.compress(bytes(131_072)), 131_072)
    (tmp_path / "xorb").write_bytes(chunk * 513)
    with pytest.raises(XetError, match="unpacks to more"):
        check_xorb(tmp_path / "xorb", "0" * 64)


def test_shards_that_promise_too_much_are_refused_and_store_nothing(post: Post, server: HubServer) -> None:
    data = os.urandom(1000)
    name = _name(data)
    assert post(f"xorbs/default/{name}", _chunk(data)).status == 200
    bad = [
        b"", b"x" * 48, _TAG + bytes(16), _TAG + struct.pack("<2Q", 2, 0),
        _shard(None, (name, 1000, 0, 1)),  # no sha256
        _shard(_sha(b"other"), (name, 1000, 0, 1)),  # another sha256
        _shard(_sha(data), (name, 999, 0, 1)),  # another size
        _shard(_sha(data), (name, 1000, 0, 2)),  # a chunk that is not there
        _shard(_sha(data), (name, 1000, 1, 1)),
        _shard(_sha(data), ("ab" * 32, 1000, 0, 1)),  # a xorb that is not there
        _shard(_sha(data), (name, 1000, 0, 1), xorbs=("ab" * 32,)),
        _shard(_sha(data), *[(name, 2**32 - 1, 0, 1)] * 1000),  # larger than any file may be
        _shard(_sha(data), (name, 1000, 0, 1))[:150],
    ]  # fmt: skip
    for shard in bad:
        assert post("shards", shard).status == 400, shard
    assert not list((server._folder / "blobs").rglob(_sha(data)))
    assert not list((server._folder / "staging").iterdir())
    assert post("shards", _shard(_sha(data), (name, 1000, 0, 1))).status == 200


def test_a_small_shard_does_not_stand_for_endless_work(
    post: Post, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(limits.XORB_CHUNK)
    name = _name(*[data] * 64)
    packed = lz4.frame.compress(data)
    assert post(f"xorbs/default/{name}", _chunk(data, 1, packed) * 64).status == 200
    size = 64 * limits.XORB_CHUNK
    endless = _shard(_sha(b"other"), *[(name, size, 0, 64)] * 2000)
    assert b"repeat the same chunks" in post("shards", endless).body
    # one xorb may say the same chunk many times: that counts once
    monkeypatch.setattr(limits, "SHARD_UNPACKED", size)
    assert b"repeat the same chunks" in post("shards", _shard(_sha(b"other"), *[(name, size, 0, 64)] * 2)).body
    assert post("shards", _shard(_sha(data * 64), (name, size, 0, 64))).status == 200
    assert not list((server._folder / "staging").iterdir())


def test_many_files_of_a_shard_are_written_down_together(
    post: Post, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    datas = [os.urandom(100) for _ in range(30)]
    name = _name(*datas)
    assert post(f"xorbs/default/{name}", b"".join(map(_chunk, datas))).status == 200
    files = [_shard(_sha(data), (name, 100, i, i + 1))[48:-96] for i, data in enumerate(datas)]
    shard = _shard(None)
    writes, write = [], Database.write
    monkeypatch.setattr(Database, "write", lambda db: writes.append(1) or write(db))  # counts, and changes nothing
    assert post("shards", shard[:48] + b"".join(files * 100) + _END + _END).status == 200
    assert len(writes) < 10
    for data in datas:
        body = {"oid": _sha(data), "size": 100}
        assert ask(server.url, "POST", "/me/xet.git/info/lfs/objects/verify", body).status == 200


def test_a_shard_of_what_is_gone_renews_its_senders_address_alone(post: Post, server: HubServer) -> None:
    db = open_database(server._folder)
    Accounts(db).add_user_with_token("renewer", "token-of-the-renewer", admin=False, label="test")
    db.close()
    other = _poster(server, "token-of-the-renewer", "renewer/xet")

    def addresses() -> list[str]:
        return [
            ask(server.url, "GET", f"/api/models/{repo}/xet-write-token/main", token=token).json()["casUrl"]
            for repo, token in (("me/xet", TOKEN), ("renewer/xet", "token-of-the-renewer"))
        ]

    mine, theirs = addresses()
    for _ in range(2):
        assert b"is not stored here" in other("shards", _shard(_sha(b"x"), ("0" * 64, 1, 0, 1))).body
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
        assert post(f"xorbs/default/{_name(data)}", _chunk(data)).status == 200
    shards = [_shard(_sha(data), (_name(data), 1000, 0, 1)) for data in datas]
    db = open_database(server._folder)
    Accounts(db).add_user_with_token("other", "token-of-the-other", admin=False, label="test")
    db.close()
    other, data = _poster(server, "token-of-the-other", "other/xet"), os.urandom(1000)
    assert other(f"xorbs/default/{_name(data)}", _chunk(data)).status == 200
    with ThreadPoolExecutor(len(shards) + 1) as pool:
        answers = [pool.submit(post, "shards", shard) for shard in shards]
        try:
            for _ in range(limits.SHARDS_EACH):
                assert begun.acquire(timeout=60)
            assert ask(server.url, "GET", "/api/models").status == 200
            answers.append(pool.submit(other, "shards", _shard(_sha(data), (_name(data), 1000, 0, 1))))
            assert begun.acquire(timeout=60)
        finally:
            go.set()
        assert [answer.result().status for answer in answers] == [200] * len(answers)
    assert most == limits.SHARDS_EACH + 1  # the other's among them


def _push(client: Client, file: Path) -> Path:
    got = client.run(
        """
        api.create_repo("me/m", exist_ok=True)
        api.upload_file(repo_id="me/m", path_or_fileobj=args[0], path_in_repo="w.bin")
        print(json.dumps(hf_hub_download("me/m", "w.bin", cache_dir=args[0] + "-cache")))
        """,
        file,
    )
    return Path(got)


@pytest.mark.parametrize("lost", [["xorbs", "blobs"], ["xorbs"], ["blobs"], ["."]])
def test_a_wiped_store_with_a_warm_client_loses_no_bytes(tmp_path: Path, lost: list[str]) -> None:
    """The client remembers by address what it has sent: to a store that forgot, it would send nothing again."""
    store, file = tmp_path / "store", tmp_path / "w.bin"
    file.write_bytes(os.urandom(1_000_000))
    with HubServer(store, user="me", token=TOKEN) as first:
        client = Client(first.url, TOKEN, tmp_path / "home")
        assert _push(client, file).read_bytes() == file.read_bytes()
        port = int(first.url.rpartition(":")[2])
    for name in lost:
        shutil.rmtree(store / name)
    with HubServer(store, user="me", token=TOKEN, port=port) as second:
        assert second.url == first.url
        if lost != ["."]:
            ask(second.url, "DELETE", "/api/repos/delete", {"name": "m"})
        shutil.rmtree(f"{file}-cache")
        assert _push(client, file).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("lost", ["emptied", "restored"])
def test_after_xorbs_vanished_the_second_push_succeeds(tmp_path: Path, lost: str) -> None:
    """A push that builds on what is gone fails; it makes the client forget, so that the next one sends it again."""
    store, backup = tmp_path / "store", tmp_path / "backup"
    one, two = tmp_path / "one.bin", tmp_path / "two.bin"
    for file in (one, two):
        file.write_bytes(os.urandom(1_000_000))
    with HubServer(store, user="me", token=TOKEN) as hub:
        client = Client(hub.url, TOKEN, tmp_path / "home")
        _push(client, one)
        port = int(hub.url.rpartition(":")[2])
    shutil.copytree(store, backup)
    with HubServer(store, user="me", token=TOKEN, port=port):
        _push(client, two)
    if lost == "restored":
        shutil.rmtree(store)
        backup.rename(store)
    else:
        for path in [*(store / "xorbs").iterdir(), *(store / "blobs").iterdir()]:
            shutil.rmtree(path)
    shutil.rmtree(f"{two}-cache")
    script = """
        api.create_repo("me/n", exist_ok=True)
        api.upload_file(repo_id="me/n", path_or_fileobj=args[0], path_in_repo="w.bin")
        print(json.dumps(hf_hub_download("me/n", "w.bin", cache_dir=args[0] + "-cache")))
    """
    with HubServer(store, user="me", token=TOKEN, port=port) as hub:
        assert client.fail(script, two)
        assert ask(hub.url, "GET", "/api/models/me/n/commits/main").json()[0]["title"] == "initial commit"
        assert Path(client.run(script, two)).read_bytes() == two.read_bytes()


def test_a_renewed_address_does_not_disturb_uploads_under_way(post: Post, server: HubServer) -> None:
    data = os.urandom(1000)
    name = _name(data)
    assert post(f"xorbs/default/{name}", _chunk(data)).status == 200
    before = ask(server.url, "GET", "/api/models/me/xet/xet-write-token/main").json()["casUrl"]
    for _ in range(2):
        assert b"Upload again" in post("shards", _shard(_sha(data), ("ab" * 32, 1000, 0, 1))).body
    after = ask(server.url, "GET", "/api/models/me/xet/xet-write-token/main").json()["casUrl"]
    assert after != before
    assert post("shards", _shard(_sha(data), (name, 1000, 0, 1))).status == 200


def test_knowing_a_sha256_opens_nobody_elses_file(tmp_path: Path) -> None:
    secret, other, thief = os.urandom(5000), os.urandom(5000), "token-of-somebody-else"
    wanted = _sha(secret)
    commit = ndjson(("lfsFile", {"path": "w.bin", "algo": "sha256", "oid": wanted, "size": len(secret)}))

    def give(url: str, repo: str, token: str, shard: bytes, data: bytes) -> int:
        ask(url, "POST", "/api/repos/create", {"name": repo.partition("/")[2]}, token=token)
        access = ask(url, "GET", f"/api/models/{repo}/xet-write-token/main", token=token).json()
        address, key = f"{access['casUrl'].removeprefix(url)}/v1", access["accessToken"]
        assert ask(url, "POST", f"{address}/xorbs/default/{_name(data)}", _chunk(data), token=key).status == 200
        return ask(url, "POST", f"{address}/shards", shard, token=key).status

    with HubServer(tmp_path, user="me", token=TOKEN) as hub:
        db = open_database(tmp_path)
        accounts = Accounts(db)
        accounts.add_user_with_token("you", thief, admin=False, label="test")
        db.close()
        honest = _shard(wanted, (_name(secret), 5000, 0, 1))
        assert give(hub.url, "me/mine", TOKEN, honest, secret) == 200
        assert ask(hub.url, "POST", "/api/models/me/mine/commit/main", commit).status == 200
        for forged in (_shard(wanted), _shard(wanted, (_name(other), 5000, 0, 1))):
            assert give(hub.url, "you/loot", thief, forged, other) == 400
            assert ask(hub.url, "POST", "/api/models/you/loot/commit/main", commit, token=thief).status == 400
        # whoever has the same bytes may of course store them, too
        assert give(hub.url, "you/loot", thief, honest, secret) == 200
        assert ask(hub.url, "POST", "/api/models/you/loot/commit/main", commit, token=thief).status == 200
        assert ask(hub.url, "GET", "/you/loot/resolve/main/w.bin", token=thief).body == secret


@pytest.mark.parametrize("access", [{"private": True}, {"gated": "manual"}])
def test_a_xorb_opens_nobody_elses_chunks(tmp_path: Path, access: dict[str, object]) -> None:
    """What everybody may download shares a xorb with what they may not."""
    shared, secret, thief = os.urandom(5000), os.urandom(5000), "token-of-somebody-else"
    xorb, body = _name(shared, secret), _chunk(shared) + _chunk(secret)

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
        whole, part = _shard(_sha(shared + secret), (xorb, 10_000, 0, 2)), _shard(_sha(shared), (xorb, 5000, 0, 1))
        stolen = _shard(_sha(secret), (xorb, 5000, 1, 2))
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
        assert ask(hub.url, "POST", f"{address}/xorbs/default/{xorb}", _chunk(shared), token=key).status == 400
        assert store("you/loot", thief, stolen) == 400
        assert ask(hub.url, "POST", f"{address}/xorbs/default/{xorb}", body, token=key).json() == {
            "was_inserted": False
        }
        assert store("you/loot", thief, stolen) == 200


def test_a_second_version_sends_only_what_changed(server: HubServer, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "w.bin"
    data = bytearray(os.urandom(8_000_000))
    file.write_bytes(data)
    _push(client, file)
    before = _size(server._folder / "xorbs")
    data[4_000_000:4_000_100] = os.urandom(100)
    file.write_bytes(data)
    shutil.rmtree(f"{file}-cache")
    assert _push(client, file).read_bytes() == data
    assert _size(server._folder / "xorbs") - before < 1_000_000


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
