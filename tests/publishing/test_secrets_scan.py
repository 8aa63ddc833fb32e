"""What must not leave the machine is found, named by file and line, and never repeated."""

from __future__ import annotations

import io
import json
import pickle
import string
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import Outbox, promote, publish, record_results
from perdure.errors import CheckFailed
from perdure.publishing.after import words
from perdure.publishing.secrets import require_clean, scan
from publishing import Hub, save_folder, weights

LETTERS = string.ascii_letters + string.digits
TOKEN = f"hf_{LETTERS[7:41]}"
SECRETS = {
    "hub-token": [TOKEN, "hf_pdr_" + LETTERS[9:52]],
    "openai-key": [f"sk-proj-{LETTERS[20:60]}", f"sk-{LETTERS[14:62]}"],
    "github-token": [f"ghp_{LETTERS[:36]}", f"github_pat_{LETTERS}{LETTERS[:20]}"],
    "aws-key": ["AKIA" + "Z7QX3M5K9LB2W8RT"],
    "google-key": [f"AIza{LETTERS[3:38]}"],
    "gitlab-token": ["glpat-" + LETTERS[20:44]],
    "web-token": [f"eyJ{LETTERS[:20]}.eyJ{LETTERS[20:50]}.{LETTERS[10:50]}"],
    "slack-token": ["xoxb-172839405617-abcDEF123ghi"],
    "private-key": ["-----BEGIN OPENSSH PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----"],
    "password": [
        '"password": "correct7Horse!Battery"',
        "api_key=9f8e7d6c5b4a39281706f5e4",
        "'SECRET': 'aB3dE5fG7hI9jK1l'",
        '"aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzQ1pLmKEs"',
        "postgres://me:hunter2@db.example.org/runs",
    ],
}


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in SECRETS.items() for text in texts])
def test_secrets_are_found_by_their_shape_with_the_line(kind: str, text: str) -> None:
    (found,) = scan({"config.json": f'{{\n "a": 1,\n "b": {text}\n}}\n'.encode()})
    assert found.id == f"config.json:3:{kind}"
    with pytest.raises(CheckFailed) as caught:
        require_clean({"config.json": b"\n\n" + text.encode()})
    assert text not in str(caught.value) and caught.value.findings == (found.id,)
    require_clean({"config.json": b"\n\n" + text.encode()}, allow=[found.id])


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("README.md", "export HF_TOKEN=hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
        ("README.md", "A risk-averse-and-otherwise-quite-ordinary-long-word about task-specific-fine-tuning-methods"),
        ("README.md", "It lies in /home/me/models on my machine."),
        ("config.json", '{"use_auth_token": true, "pad_token": "<|endoftext|>", "api_key": "YOUR_API_KEY_HERE"}'),
        ("config.json", '{"url": "https://example.org/home/me", "home": "~/home/x", "path": "models/root/x"}'),
        (
            "config.json",
            '{"proxy": "http://user:password@proxy:80", "chat_template": "in \\"/scratch/x\\" or /tmp/x"}',
        ),
        ("config.json", '{"auto_map": {"AutoModel": "me/x--modeling.X"}, "url": "/v1/chat", "a_path": "/chat"}'),
        ("VERSION.txt", "2.3.0\n"),
        ("LICENSE", "config\nfoo\n"),
        ("modeling_mine.py", "api_key = os.environ['KEY2']\npassword=settings.password_v2_of_user\n"),
        ("tokenizer.json", '{"vocab": {"password\\": \\"abcdefg1234567": 1, "/home/me": 2, "sk-": 3}}'),
        ("perdure.json", json.dumps({"secret_proj.weight": "blake3:9f8e7d6c5b4a39281706f5e4"})),
    ],
)
def test_what_only_looks_like_it_is_left_alone(path: str, text: str) -> None:
    assert scan({path: text.encode()}) == []


@pytest.mark.parametrize(
    "place",
    [
        "/mnt/nfs/me/base",
        "/data/me",
        "/models/base",
        "x\\n/home/me/base",
        "/home/me/base",
        "/Users/me/base",
        "/root/.cache/base",
        r"C:\\Users\\me",
        "file:///home/me/x",
    ],
)
def test_paths_of_this_machine_in_configurations(place: str) -> None:
    document = f'{{"model_type": "llama",\n "_name_or_path": "{place}"}}'.encode()
    assert [finding.id for finding in scan({"config.json": document})] == ["config.json:2:absolute-path"]
    assert scan({"training_state/loop.json": document, "trainer_state.json": document}) == []


def test_secrets_however_a_text_spells_them() -> None:
    texts = {
        "line.json": json.dumps({"note": f"token:\n{TOKEN}"}).encode(),
        "code.json": f'{{"note": "\\u0020{TOKEN}"}}'.encode(),
        "wide.json": f'{{"a": 1,\n"note": "{TOKEN}"}}'.encode("utf-16"),
        "wide_too.json": f'{{"note": "{TOKEN}"}}'.encode("utf-16-be"),
    }
    found = [(finding.path, finding.line, finding.kind) for finding in scan(texts)]
    assert found == [
        ("code.json", 1, "hub-token"), ("line.json", 1, "hub-token"), ("wide.json", 2, "hub-token"),
        ("wide_too.json", 1, "hub-token"),
    ]  # fmt: skip


def test_a_message_and_a_command_with_a_secret_are_neither_sent_nor_kept(saved: Path, tmp_path: Path) -> None:
    box, url = Outbox(tmp_path / "run"), "http://127.0.0.1:9"
    for call in (
        lambda: publish(saved, "me/x", message=f"with {TOKEN}", endpoint=url, token=TOKEN),
        lambda: promote("me/x", "a", message=f"with {TOKEN}", endpoint=url, token=TOKEN),
        lambda: record_results("me/x", {"acc": 1.0}, message=f"with {TOKEN}", endpoint=url, token=TOKEN),
        lambda: box.add(saved, "me/x", message=f"with {TOKEN}", endpoint=url),
        lambda: box.add(saved, "me/x", after=f"env HF_TOKEN={TOKEN} python measure.py", endpoint=url),
    ):
        with pytest.raises(CheckFailed, match="token of a Hub") as refused:
            call()
        assert TOKEN not in str(refused.value)
    assert box.jobs() == () and not (tmp_path / "run").exists()
    assert words("python measure.py --max-tokens=256 --model hf:me/x") != []


def test_files_that_are_told_by_their_name_or_first_bytes(tmp_path: Path) -> None:
    torch_file = tmp_path / "vocab.txt"
    with zipfile.ZipFile(torch_file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": 1}))
    np.save(array := io.BytesIO(), np.array([{}, []], dtype=object))
    files = {
        ".env": b"A=1", "deploy.pem": b"", "training_args.bin": b"x", "optimizer.pt": b"x", "vocab.txt": torch_file,
        "data.json": pickle.dumps([1, 2, 3]), "pytorch_model.bin": torch_file, "tokenizer.model": b"\x0a\x80\x02",
        "oldest.json": pickle.dumps(Path("x"), protocol=0), "ending.json": pickle.dumps([1], protocol=2) + b"\n",
        "objects.npy": array.getvalue(), "model.safetensors": weights(),
        "training_state/optimizer.safetensors": weights(),
    }  # fmt: skip
    assert [finding.id for finding in scan(files)] == [
        ".env:0:credentials", "data.json:0:pickle", "deploy.pem:0:credentials", "ending.json:0:pickle",
        "objects.npy:0:pickle", "oldest.json:0:pickle", "optimizer.pt:0:optimizer-state",
        "training_args.bin:0:training-arguments", "vocab.txt:0:pickle",
    ]  # fmt: skip


@given(before=st.integers(0, 600), blocks=st.sampled_from([0, 2**20 - 600, 2**20 - 40, 2 * 2**20 - 560]))
def test_a_token_is_found_once_wherever_blocks_end(before: int, blocks: int) -> None:
    text = b"\n" * (blocks + before) + TOKEN.encode() + b"\n" * 600
    assert [finding.line for finding in scan({"vocab.txt": text})] == [blocks + before + 1]


def test_a_token_in_the_header_of_weights() -> None:
    header = json.dumps({"__metadata__": {"run": TOKEN}}).encode()
    assert [finding.kind for finding in scan({"model.safetensors": len(header).to_bytes(8, "little") + header})] == [
        "hub-token"
    ]


def test_a_push_is_refused_until_each_finding_is_allowed(hub: Hub, tmp_path: Path) -> None:
    config = json.dumps({"_name_or_path": "/home/me/base", "token": TOKEN}, indent=1).encode()
    folder = save_folder(tmp_path / "out", {"model.safetensors": weights(), "config.json": config})
    refused = hub.push(folder, "me/secret")
    assert refused.code == 1 and refused.error["kind"] == "check-failed"
    assert "config.json, line 2" in refused.error["message"] and TOKEN not in json.dumps(refused.document)
    assert "--allow config.json:2:absolute-path --allow config.json:3:hub-token" in refused.error["hint"]
    one = hub.push(folder, "me/secret", "--allow", "config.json:2:absolute-path")
    assert "line 2" not in one.error["message"] and "line 3" in one.error["message"]
    allowed = hub.push(folder, "me/secret", "--allow", "config.json:2:absolute-path", "--allow",
                       "config.json:3:hub-token")  # fmt: skip
    assert allowed.code == 0 and allowed.document["created"]
