"""Compare what is selected with what a commit of the Hub holds, byte for byte, without fetching any of it."""

from __future__ import annotations

from collections.abc import Mapping

from perdure.errors import Corrupt, UnsupportedFormat
from perdure.format.manifest import MAX_SIZE, decode
from perdure.format.names import MANIFEST
from perdure.publishing.plan import Plan, make_plan
from perdure.publishing.remote import Remote, RemoteFile
from perdure.publishing.selection import Content, Selection, git_blob_id, sha256, size_of
from perdure.publishing.subfolder import joined, own_files


def compare(remote: Remote, repo: str, commit: str | None, selection: Selection, *, folder: str = "") -> Plan:
    """What a commit on top of `commit` has to change, so that it holds what is selected in a folder of its tree.

    Args:
        commit: None where there is nothing yet.
        folder: By default, the root. Other folders with manifests of their own are none of its.
    """
    tree = own_files(remote.tree(repo, commit), folder) if commit is not None else {}
    sizes = {path: size_of(content) for path, content in selection.files.items()}
    same = {path for path, size in sizes.items() if path in tree and _is_same(selection.files[path], size, tree[path])}
    before = _saved_before(remote, repo, commit, tree, folder) if commit is not None else frozenset()
    there = {path: file.size for path, file in tree.items()}
    return make_plan(sizes, there, same=same, saved_before=before).below(folder)


def _is_same(content: Content, size: int, there: RemoteFile) -> bool:
    if size != there.size:
        return False
    return sha256(content) == there.sha256 if there.sha256 else git_blob_id(content) == there.blob_id


def _saved_before(
    remote: Remote, repo: str, commit: str, tree: Mapping[str, RemoteFile], folder: str
) -> frozenset[str]:
    if MANIFEST not in tree or tree[MANIFEST].size > MAX_SIZE:
        return frozenset()
    try:
        return frozenset(decode(remote.read(repo, joined(folder, MANIFEST), commit)).files)
    except (Corrupt, UnsupportedFormat):  # then nothing is known of the earlier save but what its weights' names tell
        return frozenset()
