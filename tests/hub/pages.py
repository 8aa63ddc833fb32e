"""What the tests of the hub's pages share: repositories to look at, and requests as a browser makes them."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zlib
from urllib.parse import quote, urlsplit

from hubs import TOKEN, Answer, ask, ndjson

from perdure.format.header import lay_out

CARD = """---
license: apache-2.0
language: [en, de]
library_name: transformers
pipeline_tag: text-generation
base_model: Qwen/Qwen3-0.6B
datasets: [openai/gsm8k]
tags: [sft]
model-index:
- name: maths
  results:
  - dataset: {name: GSM8K, type: gsm8k}
    metrics: [{type: exact_match, value: 0.4213, name: exact match}]
---
# A model for maths

See [usage](#usage), the [script](train/run.py) and <https://example.org/paper>.

## Usage

```python
print("2 + 2")
```

| Benchmark | Base | This |
|:--|--:|--:|
| GSM8K | 31.2 | **42.1** |

![loss](plots/loss.png) ![badge](https://img.example.org/badge.svg)
"""


def look(
    url: str, path: str, *, cookie: str = "", method: str = "GET", body: bytes | None = None, **more: str
) -> Answer:
    """A request as a browser makes it; `path` is sent as it is."""
    headers = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", **more}
    if cookie:
        headers["Cookie"] = cookie
    return ask(url, method, path, body, token=None, **headers)


def sign_in(url: str, token: str = TOKEN, following: str = "/") -> Answer:
    """Send the form that asks for a token."""
    form = f"token={quote(token)}&next={quote(following, safe='')}".encode()
    return look(url, "/login", method="POST", body=form, Origin=url)


def cookie_of(answer: Answer) -> str:
    """The cookie that an answer sets, as it is sent back."""
    return answer.headers["set-cookie"].partition(";")[0]


def commit(url: str, repo: str, files: dict[str, bytes], summary: str = "test", *, revision: str = "main") -> str:
    """Commit small files; the new commit's id."""
    entries = [
        ("file", {"path": path, "encoding": "base64", "content": base64.b64encode(data).decode()})
        for path, data in files.items()
    ]
    api = f"/api/{repo}" if repo.startswith("datasets/") else f"/api/models/{repo}"
    body = ndjson(*entries, header={"summary": summary})
    return str(_done(ask(url, "POST", f"{api}/commit/{quote(revision, safe='')}", body)).json()["commitOid"])


def commit_large(url: str, repo: str, path: str, data: bytes) -> None:
    """Upload a file as git-lfs does, and commit it."""
    oid = hashlib.sha256(data).hexdigest()
    wanted = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": len(data)}]}
    (offered,) = _done(ask(url, "POST", f"/{repo}.git/info/lfs/objects/batch", wanted)).json()["objects"]
    if "actions" in offered:
        link = urlsplit(offered["actions"]["upload"]["href"])
        _done(ask(url, "PUT", f"{link.path}?{link.query}", data, token=None))
    entry = {"path": path, "algo": "sha256", "oid": oid, "size": len(data)}
    _done(ask(url, "POST", f"/api/models/{repo}/commit/main", ndjson(("lfsFile", entry))))


def create(url: str, name: str, *, private: bool = False, kind: str = "model") -> None:
    """Make a repository of the administrator's."""
    _done(ask(url, "POST", "/api/repos/create", {"name": name, "private": private, "type": kind}))


def fill(url: str, *, private: str = "secret") -> None:
    """A model with a card, pictures, tensors, checkpoints and tags; a dataset; something private; 40 more models."""
    create(url, "maths")
    commit_large(url, "me/maths", "model.safetensors", tensors())
    files = {
        "README.md": CARD.encode(),
        "config.json": json.dumps({"model_type": "qwen3", "layers": 28}, indent=1).encode(),
        "train/run.py": b"import torch\n" + b"".join(b"x = %d\n" % n for n in range(40)),
        "plots/loss.png": picture(),
    }
    commit(url, "me/maths", files, "Upload the model\n\nTrained for 3 epochs.")
    changed = files["train/run.py"].replace(b"import torch", b"import numpy")
    commit(url, "me/maths", {"train/run.py": changed, "notes.md": b"# Notes\n\nRead *me*.\n"}, "Numpy is enough")
    for run, loss in (("main", 2.0), ("warm", 1.5)):
        for step in (100, 200, 300):
            branch = f"{run}-step-{step:09d}"
            _done(ask(url, "POST", f"/api/models/me/maths/branch/{branch}", {}))
            manifest = {"format": "perdure", "step": step, "metrics": {"eval_loss": loss * 50 / step, "nans": "nan"}}
            commit(url, "me/maths", {"perdure.json": json.dumps(manifest).encode()}, f"Step {step}", revision=branch)
    _done(ask(url, "POST", "/api/models/me/maths/tag/main-step-000000200", {"tag": "v1.0", "message": "first"}))
    proposal = {"title": "Say what it is for", "description": "See *the card*.", "pullRequest": True}
    _done(ask(url, "POST", "/api/models/me/maths/discussions", proposal))
    commit(url, "me/maths", {"use.md": b"For sums.\n"}, "Add a note", revision="refs/pr/1")
    create(url, "gsm", kind="dataset")
    commit(url, "datasets/me/gsm", {"README.md": b"# Sums\n", "train.jsonl": b'{"q": "1+1"}\n'})
    create(url, private, private=True)
    for number in range(40):
        create(url, f"run-{number:02d}")


def tensors() -> bytes:
    """A safetensors file with 600 tensors of zeros."""
    layers = [(f"layers.{n}.weight", "BF16", (4, 8)) for n in range(599)]
    head, header = lay_out([*layers, ("lm_head.bias", "F32", (10,))], {"format": "pt"})
    return head + bytes(header.size - len(head))


def picture() -> bytes:
    """A PNG, 8 pixels wide and high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\0" + b"\x40\x80\xc0" * 8 for _ in range(8)))
    size = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _done(answer: Answer) -> Answer:
    assert answer.status < 300, answer.body[:500]
    return answer
