"""Libraries that run in the demo know its hub and nothing else."""

from __future__ import annotations

from pathlib import Path

from perdure.demo.isolation import isolated

PERSONAL = {
    "HF_TOKEN": "theirs",
    "HF_TOKEN_PATH": "/theirs",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_CACHE": "/theirs",
    "HUGGING_FACE_HUB_TOKEN": "theirs",
    "TRANSFORMERS_OFFLINE": "1",
    "https_proxy": "http://proxy:3128",
    "PATH": "/bin",
}


def test_what_is_a_persons_own_stays_out(tmp_path: Path) -> None:
    kept = isolated(PERSONAL, endpoint="http://127.0.0.1:1", home=tmp_path)
    assert kept.keys() & PERSONAL.keys() == {"PATH"}
    assert "theirs" not in " ".join(kept.values())
    assert kept["HF_ENDPOINT"] == "http://127.0.0.1:1"
    assert kept["HF_HOME"] == str(tmp_path)


def test_the_demos_token_is_the_only_one(tmp_path: Path) -> None:
    assert isolated(PERSONAL, endpoint="http://127.0.0.1:1", home=tmp_path, token="ours")["HF_TOKEN"] == "ours"
