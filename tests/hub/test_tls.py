"""https with an authority of one's own: the unmodified client, Xet included; and certificates that cannot be used."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from hubs import TOKEN, Client, ask, serving

from perdure.errors import InvalidInput
from perdure.hub.server import HubServer
from perdure.hub.tls import Tls


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the authority's certificate, and a certificate and key that it signed for this machine."""
    folder = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    issued = ca.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    ca.issue_cert("elsewhere").private_key_pem.write_to_path(folder / "other.pem")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Path) -> Iterator[HubServer]:
    tls = Tls(cert=authority / "cert.pem", key=authority / "key.pem")
    with HubServer(tmp_path_factory.mktemp("hub"), user="me", token=TOKEN, tls=tls) as running:
        yield running


@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_the_client_pushes_and_pulls_over_https(
    server: HubServer, authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xet: bool
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    repo = f"me/over-https-{xet}"
    script = """
        data = os.urandom(300_000)
        api.create_repo(args[0])
        commit = api.upload_file(path_or_fileobj=data, path_in_repo="w.safetensors", repo_id=args[0])
        same = Path(hf_hub_download(args[0], "w.safetensors")).read_bytes() == data
        print(json.dumps([same, commit.commit_url]))
    """
    same, commit = Client(server.url, TOKEN, tmp_path / "home", xet=xet).run(script, repo)
    assert server.url.startswith("https://127.0.0.1:")
    assert same
    assert commit.startswith(f"{server.url}/{repo}/commit/")


def test_a_client_that_does_not_know_the_authority_sends_no_token(server: HubServer, tmp_path: Path) -> None:
    failed = Client(server.url, TOKEN, tmp_path / "home").fail("api.whoami()")
    assert "CERTIFICATE_VERIFY_FAILED" in failed


def test_serve_takes_both_files_and_does_not_warn(tmp_path: Path, authority: Path) -> None:
    options = ["--host", "0.0.0.0", "--tls-cert", str(authority / "cert.pem"), "--tls-key", str(authority / "key.pem")]
    with serving(tmp_path / "hub", *options) as (process, url):
        assert url.startswith("https://0.0.0.0:")
        trusted = ssl.create_default_context(cafile=str(authority / "ca.pem"))
        with urlopen(url.replace("0.0.0.0", "localhost"), context=trusted, timeout=30) as answer:
            assert b"This is a perdure hub" in answer.read()
        process.terminate()
        assert "Warning" not in process.communicate(timeout=30)[1]


def test_behind_a_proxy_addresses_are_the_proxys(tmp_path: Path) -> None:
    headers = {"X_Forwarded_Proto": "https", "Host": "hub.example"}
    for behind_proxy, address in ((True, "https://hub.example/me/one"), (False, "http://hub.example/me/two")):
        with HubServer(tmp_path / "hub", user="me", token=TOKEN, behind_proxy=behind_proxy) as plain:
            answer = ask(plain.url, "POST", "/api/repos/create", {"name": address[-3:]}, **headers)
            assert answer.json()["url"] == address


def test_certificates_that_cannot_be_used_are_refused_before_anything_is_made(tmp_path: Path, authority: Path) -> None:
    encrypted = tmp_path / "encrypted.pem"
    key_of_all = serialization.load_pem_private_key((authority / "key.pem").read_bytes(), password=None)
    encrypted.write_bytes(
        key_of_all.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"word"),
        )
    )
    cert = authority / "cert.pem"
    for key, why in [
        (authority / "other.pem", "KEY_VALUES_MISMATCH"),
        (tmp_path / "none.pem", "No such file"),
        (cert, "cannot be used"),
        (encrypted, "is encrypted"),
    ]:
        with pytest.raises(InvalidInput, match=why):
            HubServer(tmp_path / "hub", tls=Tls(cert=cert, key=key)).start()
    assert not (tmp_path / "hub").exists()


def test_a_key_that_the_hub_may_not_read_is_named_with_whom_it_runs_as(tmp_path: Path, authority: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes((authority / "key.pem").read_bytes())
    key.chmod(0)
    user = os.geteuid()
    if user == 0:  # who may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(InvalidInput, match="the hub runs as"):
            Tls(cert=key, key=key).check()
    finally:
        os.seteuid(user)
