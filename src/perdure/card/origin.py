"""Where a base model comes from, told from its name or its folder, without the network."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perdure.card import metadata
from perdure.card.allowed import is_public_link, is_sayable, unique
from perdure.card.document import front_matter
from perdure.card.facts import License
from perdure.card.vocabulary import LICENSES, is_language, is_revision
from perdure.format.hub_id import HUB, hub_id, is_hub_id, looks_like_hub_id
from perdure.format.names import CARD, holds_weights

_MAX_CARD = 2**20  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The public name of a base model, and what its card says of it; None or empty where that is not known."""

    id: str | None = None
    revision: str | None = None
    license: License | None = None
    languages: tuple[str, ...] = ()

    def described(self, recorded: Mapping[str, object]) -> Origin:
        """With what a card's front matter says, in place of what is not known yet."""
        return replace(
            self,
            license=self.license or license_in(recorded, self.id),
            languages=self.languages or languages_in(recorded),
        )


def origin_of(name_or_path: str, *, revision: str | None = None, exact: bool = False) -> Origin:
    """Trace a base model to its place on a Hub.

    Args:
        name_or_path: What the model was loaded by: a Hub id or a local folder.
        revision: The commit it was loaded at, where the loader recorded one.
        exact: Only name a repository that holds these very weights. Otherwise, of a local folder that was itself
            fine-tuned, the base that its card names is the origin.
    """
    found = hub_id(name_or_path)
    if found is not None and found[1] is not None:  # a folder of the Hub's cache
        return Origin(id=found[0], revision=found[1]).described(_card_metadata(Path(name_or_path)))
    if looks_like_hub_id(name_or_path):
        if revision is None or not is_revision(revision):
            return Origin(id=name_or_path)
        snapshot = _cache() / f"models--{name_or_path.replace('/', '--')}" / "snapshots" / revision
        return Origin(id=name_or_path, revision=revision).described(_card_metadata(snapshot))
    if not name_or_path:
        return Origin()
    recorded = _card_metadata(Path(name_or_path))
    base = recorded.get("base_model")
    only = base[0] if isinstance(base, list) and len(base) == 1 else base
    known = not exact and is_hub_id(only)
    return Origin(id=str(only) if known else None).described(recorded)


def only_commit(name: str) -> str | None:
    """The commit of a model by which the Hub's cache holds its weights; None where it holds several, or none.

    For who has just loaded it by its name: which of several that was, nobody recorded.
    """
    if not looks_like_hub_id(name):
        return None
    snapshots = (_cache() / f"models--{name.replace('/', '--')}" / "snapshots").glob("*")
    held = [folder.name for folder in snapshots if any(map(holds_weights, (file.name for file in folder.glob("*"))))]
    return held[0] if len(held) == 1 and is_revision(held[0]) else None


def _card_metadata(folder: Path) -> dict[str, Any]:
    try:
        card = folder / CARD
        if card.stat().st_size > _MAX_CARD:
            return {}
        return metadata.parse(front_matter(card.read_text(encoding="utf-8"))) or {}
    except (OSError, ValueError):  # no such folder, or bytes that are no text: then nothing is known
        return {}


def license_in(recorded: Mapping[str, object], of: str | None = None) -> License | None:
    """The licence that a card's front matter names; `other` says nothing without its name and link.

    Args:
        recorded: The front matter.
        of: The repository that a link to one of its files is of.
    """
    known, name, link = (recorded.get(key) for key in ("license", "license_name", "license_link"))
    if not isinstance(known, str) or known not in LICENSES:
        return None
    if known != "other":
        return License(id=known)
    if not isinstance(name, str) or not isinstance(link, str) or not is_sayable(name) or not is_sayable(link):
        return None
    is_file = re.fullmatch(r"[\w-][\w.-]*", link) is not None
    if is_file and of is not None:
        link = f"{HUB}/{of}/blob/main/{link}"
    return License(id=known, name=name, link=link) if is_file or is_public_link(link) else None


def languages_in(recorded: Mapping[str, object]) -> tuple[str, ...]:
    """The languages that a card's front matter names, without what narrows them to a country or script."""
    said = recorded.get("language")
    listed = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    codes = ("no" if code is False else code for code in listed[:100])  # what YAML 1.1 makes of Norwegian
    short = (code.partition("-")[0] for code in codes if isinstance(code, str))
    return unique(filter(is_language, short))


def _cache() -> Path:
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
