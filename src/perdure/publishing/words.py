"""What people wrote onto the card on the Hub, and what was measured since, stays on it through a push."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from perdure.card.document import Document
from perdure.card.reconcile import add_results, reconcile, results_of_others
from perdure.errors import Conflict, Corrupt, UnsupportedFormat
from perdure.format.manifest import MAX_SIZE, decode
from perdure.format.names import CARD, MANIFEST
from perdure.io.digest import as_text, digest_bytes
from perdure.publishing.remote import Remote
from perdure.publishing.remote_file import RemoteFile
from perdure.publishing.selection import Content, Selection
from perdure.publishing.subfolder import joined, own_files

_MAX_CARD = 4 * 2**20  # bytes
_log = logging.getLogger("perdure")


def keep_words(remote: Remote, repo: str, commit: str | None, selection: Selection, *, folder: str = "") -> Selection:
    """What is selected, its card with all that people wrote onto the one of `commit`.

    The manifest goes on naming the card that was saved. So a card that differs from what its commit's manifest names
    is known to hold somebody's words; a folder without a manifest is pushed as it is.

    Args:
        folder: Of the repository, in which that card is; by default its root.

    Raises:
        Conflict: Both cards have words that the other lacks.
    """
    card = selection.files.get(CARD)
    if card is None or commit is None or MANIFEST not in selection.files:
        return selection
    tree = own_files(remote.tree(repo, commit), folder)
    if CARD not in tree:
        return selection
    if tree[CARD].size > _MAX_CARD:
        raise Conflict(f"The card of {repo} is too large to be merged with this one. Nothing was sent.")
    ours, theirs = (
        card if isinstance(card, bytes) else card.read_bytes(),
        remote.read(repo, joined(folder, CARD), commit),
    )
    merged: bytes | None = ours
    if ours != theirs:
        manifest = remote.read(repo, joined(folder, MANIFEST), commit) if _is_readable(tree.get(MANIFEST)) else None
        merged = _merged(ours, theirs, is_as_pushed=manifest is not None and _is_named(manifest, theirs))
    if merged is None:
        raise Conflict(
            f"The card of {repo} was edited on the Hub, and the one here has words of its own. Nothing was sent.",
            hint=f"Put what is new on the Hub into the {CARD} here; then push again.",
        )
    if merged == ours:
        return selection
    _log.info("The card of %s keeps what was written on the Hub.", repo)
    files: Mapping[str, Content] = {**selection.files, CARD: merged}
    return replace(selection, files=files)


def _merged(ours: bytes, theirs: bytes, *, is_as_pushed: bool) -> bytes | None:
    here, there = (Document.parse(text.decode(errors="surrogateescape")) for text in (ours, theirs))
    added = results_of_others(here, there)
    if is_as_pushed and not added:
        return ours
    made: Document | None = add_results(here, added)[0] if added else here
    if not is_as_pushed and made is not None:
        made = reconcile(made, there)
    return None if made is None else str(made).encode(errors="surrogateescape")


def _is_readable(manifest: RemoteFile | None) -> bool:
    return manifest is not None and manifest.size <= MAX_SIZE


def _is_named(manifest: bytes, card: bytes) -> bool:
    """Whether a card is the one that the manifest beside it names: as it was pushed."""
    try:
        entry = decode(manifest).files.get(CARD)
    except (Corrupt, UnsupportedFormat):
        return False
    return entry is not None and entry.digest == as_text(digest_bytes(card))
