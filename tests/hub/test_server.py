"""Starting, stopping, being killed: `perdure serve`, its store, and many clients at once."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hubs import TOKEN, Client, ask, ndjson, serving, wait_until

from perdure.errors import InvalidInput
from perdure.hub.accounts import Accounts
from perdure.hub.db import open_database
from perdure.hub.server import HubServer


def _file(path: str, content: str = "YQ==") -> tuple[str, dict[str, str]]:
    return ("file", {"path": path, "content": content, "encoding": "base64"})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_when_it_is_ready_and_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path / "hub", "--user", "me") as (process, url):
        assert ask(url, "GET", "/api/whoami-v2").json()["name"] == "me"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert TOKEN not in out + err  # what was given is not repeated where logs are kept
    with pytest.raises(OSError):
        ask(url, "GET", "/")


def test_the_first_start_makes_an_administrator_and_shows_the_token_once(tmp_path: Path) -> None:
    with serving(tmp_path / "hub", token=None) as (process, url):
        process.terminate()
        _, said = process.communicate(timeout=30)
        token = next(line.strip() for line in said.splitlines() if line.startswith("  hf_pdr_"))
    with serving(tmp_path / "hub", token=None) as (process, url):
        assert ask(url, "GET", "/api/whoami-v2", token=token).json()["name"] == "admin"
        process.terminate()
        assert token not in process.communicate(timeout=30)[1]


def test_json_for_scripts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "perdure", "serve", "--dir", str(tmp_path / "hub"), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert (
            ask(ready["url"], "GET", "/api/whoami-v2", token=ready["token"]).json()["name"] == ready["user"] == "admin"
        )
    finally:
        process.kill()
        process.communicate()


def test_a_later_start_adds_the_token_it_is_given(tmp_path: Path) -> None:
    with HubServer(tmp_path, user="me", token=TOKEN):
        pass
    with HubServer(tmp_path, user="me", token="another-good-token") as hub:
        for token in [TOKEN, "another-good-token"]:
            assert ask(hub.url, "GET", "/api/whoami-v2", token=token).json()["name"] == "me"
    with HubServer(tmp_path, token="and-a-third-one") as hub:  # for the administrator there is
        assert hub.user == "me"
        assert ask(hub.url, "GET", "/api/whoami-v2", token="and-a-third-one").status == 200
    with HubServer(tmp_path, user="second") as hub:
        assert hub.token is not None
        assert ask(hub.url, "GET", "/api/whoami-v2", token=hub.token).json()["name"] == "second"
    with HubServer(tmp_path) as hub:
        assert (hub.user, hub.token) == ("me", None)


@pytest.mark.parametrize("token", [None, "a-token-that-would-be-added"])
def test_it_is_not_started_for_somebody_who_is_no_administrator(tmp_path: Path, token: str | None) -> None:
    with HubServer(tmp_path, user="me", token=TOKEN):
        db = open_database(tmp_path)
        Accounts(db).add_user_with_token("ben", "token-of-ben", admin=False, label="test")
        db.close()
    with pytest.raises(InvalidInput, match="no administrator"):
        HubServer(tmp_path, user="Ben", token=token).start()
    with HubServer(tmp_path) as hub:
        answers = [ask(hub.url, "GET", "/api/whoami-v2", token=word).status for word in ("token-of-ben", token or "-")]
        assert answers == [200, 401]


@pytest.mark.parametrize(
    ("user", "token"),
    [
        ("a b", TOKEN),
        ("..", TOKEN),
        ("api", TOKEN),
        ("", TOKEN),
        ("me", "short"),
        ("me", "with space in it"),
        ("me", "ünïcödé-token"),
    ],
)
def test_unusable_names_and_tokens_are_refused_before_anything_is_made(tmp_path: Path, user: str, token: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        HubServer(tmp_path / "hub", user=user, token=token).start()
    assert token not in str(caught.value)
    assert not (tmp_path / "hub").exists()


def test_two_servers_never_share_a_store(tmp_path: Path) -> None:
    with serving(tmp_path / "hub") as (_, url):
        refused = subprocess.run(
            [sys.executable, "-m", "perdure", "serve", "--dir", str(tmp_path / "hub"), "--port", "0"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert refused.returncode == 2
        assert "Another hub is running" in refused.stderr
        assert ask(url, "GET", "/api/whoami-v2").status == 200
    with HubServer(tmp_path / "hub") as hub, pytest.raises(InvalidInput, match="Another hub"):
        HubServer(tmp_path / "hub").start()
    assert hub.url


def test_a_port_in_use_and_a_folder_that_is_a_file(tmp_path: Path) -> None:
    with HubServer(tmp_path / "one") as hub:
        with pytest.raises(InvalidInput, match=r"cannot listen(.|\n)*--port"):
            HubServer(tmp_path / "two", port=int(hub.url.rpartition(":")[2])).start()
        with pytest.raises(InvalidInput, match=r"cannot listen(.|\n)*--host"):
            HubServer(tmp_path / "two", host="203.0.113.1").start()
    assert not (tmp_path / "two").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot keep its files"):
        HubServer(tmp_path / "file").start()


def test_listening_to_the_network_without_tls_warns(tmp_path: Path) -> None:
    with serving(tmp_path / "hub", "--host", "0.0.0.0") as (process, _):
        process.terminate()
        assert "without TLS" in process.communicate(timeout=30)[1]


def test_only_this_machine_is_listened_to_unless_told(tmp_path: Path) -> None:
    with serving(tmp_path / "hub") as (_, url):
        address = urlsplit(url)
        assert address.hostname == "127.0.0.1"
        with pytest.raises(OSError):  # another address of this machine, which 0.0.0.0 would have been, too
            socket.create_connection(("127.0.0.2", address.port), timeout=10)


def test_a_folder_of_other_files_is_not_mixed_with_the_hubs(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="is no hub's folder") as caught:
        HubServer(tmp_path).start()
    assert "--dir" in str(caught.value.hint)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    with HubServer(tmp_path / "disk"):
        pass
    with HubServer(tmp_path / "disk") as again:
        assert ask(again.url, "GET", "/", token=None).status == 200


def test_other_users_of_the_machine_cannot_enter_the_store(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        (tmp_path / "given").mkdir()
        for folder in (tmp_path / "made", tmp_path / "given"):
            with HubServer(folder, user="me", token=TOKEN) as hub:
                _upload(hub.url, b"some bytes")
                modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
            folders = dict.fromkeys(("blobs", "repos", "staging", "xorbs"), 0o700)
            database = dict.fromkeys(("hub.sqlite3", "hub.sqlite3-shm", "hub.sqlite3-wal"), 0o600)
            assert modes == folders | database
        assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("made", "given")] == [0o700, 0o755]
    finally:
        os.umask(before)


def test_stored_files_are_readable_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with HubServer(tmp_path, user="me", token=TOKEN) as hub:
            _upload(hub.url, b"some bytes")
            blobs = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
            assert [path.stat().st_mode & 0o777 for path in blobs] == [0o640]
    finally:
        os.umask(before)


def _upload(url: str, data: bytes, repo: str = "kept") -> str:
    ask(url, "POST", "/api/repos/create", {"name": repo})
    oid = hashlib.sha256(data).hexdigest()
    body = {"operation": "upload", "objects": [{"oid": oid, "size": len(data)}]}
    batch = ask(url, "POST", f"/me/{repo}.git/info/lfs/objects/batch", body).json()
    href = batch["objects"][0]["actions"]["upload"]["href"].removeprefix(url)
    assert ask(url, "PUT", href, data, token=None).status == 200
    return oid


def test_a_request_under_way_may_finish_when_the_server_is_told_to_stop(tmp_path: Path) -> None:
    with serving(tmp_path / "hub", "--user", "me") as (process, url):
        ask(url, "POST", "/api/repos/create", {"name": "slow"})
        body = ndjson(_file("a.txt"))
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as raw:
            head = (
                f"POST /api/models/me/slow/commit/main HTTP/1.1\r\nHost: {address.netloc}\r\n"
                f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            raw.sendall(head.encode() + body[:10])
            _until_staged(tmp_path / "hub")
            process.terminate()
            assert process.stderr is not None
            assert any("Stopping" in line for line in process.stderr)
            raw.sendall(body[10:])
            assert b'"success":true' in raw.makefile("rb").read()
        assert process.wait(timeout=30) == 0
    with serving(tmp_path / "hub") as (_, url):
        assert ask(url, "GET", "/me/slow/resolve/main/a.txt").body == b"a"


def _until_staged(store: Path) -> None:
    wait_until(lambda: bool(list((store / "staging").iterdir())))


@pytest.mark.parametrize("xet", [True, False])
def test_killed_in_the_middle_of_uploads_it_keeps_what_it_acknowledged(tmp_path: Path, xet: bool) -> None:
    store, file = tmp_path / "hub", tmp_path / "w.bin"
    file.write_bytes(os.urandom(30_000_000))
    with serving(store, "--user", "me") as (process, url):
        oid = _upload(url, b"acknowledged")
        commit = ndjson(("lfsFile", {"path": "w.bin", "algo": "sha256", "oid": oid, "size": 12}), _file("a.txt"))
        assert ask(url, "POST", "/api/models/me/kept/commit/main", commit).status == 200
        port = url.rpartition(":")[2]
        client = Client(url, TOKEN, tmp_path / "home", xet=xet)
        push = client.start("api.upload_file(repo_id='me/kept', path_or_fileobj=args[0], path_in_repo='w.bin')", file)
        _until_staged(store)
        process.kill()
        process.wait()
        push.kill()  # it would go on trying for minutes
        push.communicate(timeout=60)
    # what a kill at the wrong instant leaves behind
    git = next((store / "repos").iterdir())
    (git / "refs" / "heads" / "main.lock").write_text("")
    with serving(store, "--port", port) as (_, url):
        assert not list((store / "staging").iterdir())
        assert ask(url, "GET", "/me/kept/resolve/main/w.bin").body == b"acknowledged"
        assert ask(url, "GET", "/me/kept/resolve/main/a.txt").body == b"a"
        got = client.run(
            """
            api.upload_file(repo_id="me/kept", path_or_fileobj=args[0], path_in_repo="w.bin")
            print(json.dumps(hf_hub_download("me/kept", "w.bin")))
            """,
            file,
        )
        assert Path(got).read_bytes() == file.read_bytes()


def test_every_commit_acknowledged_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    with serving(tmp_path / "hub", "--user", "me") as (process, url):
        ask(url, "POST", "/api/repos/create", {"name": "many"})

        def push(worker: int) -> None:
            for i in range(1000):
                name = f"{worker}-{i}.txt"
                try:
                    answer = ask(url, "POST", "/api/models/me/many/commit/main", ndjson(_file(name)))
                except OSError:
                    return
                if answer.status == 200:
                    acknowledged.append(name)

        with ThreadPoolExecutor(4) as pool:
            for worker in range(4):
                pool.submit(push, worker)
            try:
                wait_until(lambda: len(acknowledged) >= 40, 120)
            finally:
                process.kill()
    with serving(tmp_path / "hub") as (_, url):
        tree = ask(url, "GET", "/api/models/me/many/tree/main").json()
        assert set(acknowledged) <= {entry["path"] for entry in tree}
        assert ask(url, "POST", "/api/models/me/many/commit/main", ndjson(_file("after.txt"))).status == 200


def test_of_pushers_with_the_same_parent_exactly_one_wins(tmp_path: Path) -> None:
    with HubServer(tmp_path, user="me", token=TOKEN) as hub:
        ask(hub.url, "POST", "/api/repos/create", {"name": "race"})
        parent = ask(hub.url, "GET", "/api/models/me/race").json()["sha"]
        start = threading.Barrier(8)

        def push(worker: int) -> int:
            start.wait(30)
            body = ndjson(_file(f"{worker}.txt"), header={"summary": str(worker), "parentCommit": parent})
            return ask(hub.url, "POST", "/api/models/me/race/commit/main", body).status

        with ThreadPoolExecutor(8) as pool:
            statuses = sorted(pool.map(push, range(8)))
        assert statuses == [200] + [412] * 7
        assert len(ask(hub.url, "GET", "/api/models/me/race/commits/main").json()) == 2


def test_pushers_without_a_parent_all_land(tmp_path: Path) -> None:
    with HubServer(tmp_path, user="me", token=TOKEN) as hub:
        ask(hub.url, "POST", "/api/repos/create", {"name": "race"})

        def push(worker: int) -> int:
            return ask(hub.url, "POST", "/api/models/me/race/commit/main", ndjson(_file(f"{worker}.txt"))).status

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(push, range(16))) == {200}
        assert len(ask(hub.url, "GET", "/api/models/me/race/tree/main").json()) == 17
        assert len(ask(hub.url, "GET", "/api/models/me/race/commits/main").json()) == 17


def test_of_creators_of_one_repo_exactly_one_wins(tmp_path: Path) -> None:
    with HubServer(tmp_path, user="me", token=TOKEN) as hub:
        with ThreadPoolExecutor(8) as pool:
            names = ["Same", "same"] * 4
            answers = list(pool.map(lambda name: ask(hub.url, "POST", "/api/repos/create", {"name": name}), names))
        assert sorted(answer.status for answer in answers) == [200] + [409] * 7
        assert {answer.json()["url"].lower() for answer in answers} == {f"{hub.url}/me/same"}
        assert len(list((tmp_path / "repos").iterdir())) == 1


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "hub.sqlite3") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    refused = subprocess.run(
        [sys.executable, "-m", "perdure", "serve", "--dir", str(tmp_path), "--port", "0"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "newer perdure" in refused.stderr


def test_a_request_that_does_not_end_is_told_that_the_server_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.hub.server._FINISH_SECONDS", 1)
    hub = HubServer(tmp_path, user="me", token=TOKEN).start()
    address = urlsplit(hub.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as raw:
        head = f"POST /api/repos/create HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {TOKEN}\r\n"
        raw.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        assert ask(hub.url, "GET", "/").status == 200  # by now the one before is being read
        assert hub.stop()
        assert raw.makefile("rb").read().startswith(b"HTTP/1.1 503 ")


def test_a_store_that_cannot_be_written_or_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "hub.sqlite3").write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(InvalidInput, match="cannot keep its files in"):
        HubServer(tmp_path, user="me", token=TOKEN).start()


def test_a_full_disk_is_said_and_leaves_nothing_behind(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    oid = hashlib.sha256(data).hexdigest()
    with serving(tmp_path / "hub", "--user", "me", max_file=2_000_000) as (_, url):
        ask(url, "POST", "/api/repos/create", {"name": "full"})
        body = {"operation": "upload", "objects": [{"oid": oid, "size": len(data)}]}
        batch = ask(url, "POST", "/me/full.git/info/lfs/objects/batch", body).json()
        href = batch["objects"][0]["actions"]["upload"]["href"].removeprefix(url)
        answer = ask(url, "PUT", href, data, token=None)
        assert (answer.status, "disk is full" in answer.json()["error"]) == (507, True)
        assert not list((tmp_path / "hub" / "staging").iterdir())
        assert not list((tmp_path / "hub" / "blobs").rglob(oid))
        assert ask(url, "POST", "/api/models/me/full/commit/main", ndjson(_file("a.txt"))).status == 200
