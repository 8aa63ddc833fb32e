"""A card that is published loads the model from where it is published; its facts and the manifest say so, too."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from perdure.card.address import addressed
from perdure.card.facts import Facts
from perdure.errors import PerdureError
from perdure.format.manifest import MAX_SIZE, FileEntry, decode
from perdure.format.names import CARD, FACTS, MANIFEST
from perdure.io.digest import as_text, digest_bytes
from perdure.publishing.selection import Selection, opened, size_of
from perdure.publishing.target import MAIN

FILES = {CARD: 4 * 2**20, FACTS: 4 * 2**20, MANIFEST: MAX_SIZE}  # path → bytes that are read of it at the most


def at_address(selection: Selection, repo: str, revision: str) -> Selection:
    """What is selected, as it is to be in a branch of a repository."""
    known = {}
    for path, most in FILES.items():
        if path in selection.files and size_of(selection.files[path]) <= most:
            with opened(selection.files[path]) as file:
                known[path] = file.read()
    return replace(selection, files={**selection.files, **with_address(known, repo, revision)})


def with_address(files: Mapping[str, bytes], repo: str, revision: str) -> dict[str, bytes]:
    """What becomes of `FILES`; nothing where one is missing, since then nobody knows which words are whose."""
    if not all(path in files for path in FILES):
        return {}
    made: dict[str, bytes] = {}
    with suppress(PerdureError):  # what does not read is pushed as it is
        facts, manifest = Facts.from_json(files[FACTS]), decode(files[MANIFEST])
        text, facts = addressed(
            files[CARD].decode(errors="surrogateescape"), facts, repo=repo,
            revision=None if revision == MAIN else revision,
        )  # fmt: skip
        made = {CARD: text.encode(errors="surrogateescape"), FACTS: facts.to_json().encode()}
        entries = {
            path: FileEntry(size=len(data), digest=as_text(digest_bytes(data)))
            for path, data in made.items()
            # A card that the manifest does not name so holds words that were written on the Hub.
            if path in manifest.files and manifest.files[path].digest == as_text(digest_bytes(files[path]))
        }
        made[MANIFEST] = replace(manifest, files={**manifest.files, **entries}).encode()
    return made
