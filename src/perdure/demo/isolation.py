"""An environment in which Hugging Face libraries know one hub, on this machine, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

# A token, a cache, an offline switch or a proxy of the person's own would each change what the demo shows.
_FOREIGN = ("HF_", "HUGGINGFACE_", "HUGGING_FACE_", "TRANSFORMERS_", "XET_")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def isolated(environment: Mapping[str, str], *, endpoint: str, home: Path, token: str | None = None) -> dict[str, str]:
    """`environment`, with the hub at `endpoint` as the only one and `home` for everything that is cached.

    >>> isolated({"HF_TOKEN": "a person's", "LANG": "C"}, endpoint="http://127.0.0.1:1", home=Path("h"))["HF_ENDPOINT"]
    'http://127.0.0.1:1'
    """
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(_FOREIGN) and name.upper() not in _PROXIES
    }
    return {
        **kept,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home.absolute()),
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0" if token else "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "TOKENIZERS_PARALLELISM": "false",  # forking after its threads have started makes it warn
        **({"HF_TOKEN": token} if token else {}),
    }
