"""Compare what is selected with what a commit of the Hub holds, byte for byte, without fetching any of it."""

from __future__ import annotations

from collections.abc import Mapping

from perdure.errors import Corrupt, UnsupportedFormat
from perdure.publishing.plan import Plan, make_plan
from perdure.publishing.remote import Remote
from perdure.publishing.remote_file import RemoteFile
from perdure.publishing.selection import Selection, size_of
from perdure.publishing.subfolder import own_files


def compare(remote: Remote, repo: str, commit: str | None, selection: Selection, *, folder: str = "") -> Plan:
    """What a commit on top of `commit` has to change, so that it holds what is selected in a folder of its tree.

    Args:
        commit: None where there is nothing yet.
        folder: By default, the root. Other folders with manifests of their own are none of its.
    """
    tree = own_files(remote.tree(repo, commit), folder) if commit is not None else {}
    sizes = {path: size_of(content) for path, content in selection.files.items()}
    same = {path for path in sizes if path in tree and tree[path].matches(selection.files[path])}
    before = _saved_before(remote, repo, commit, tree, folder) if commit is not None else frozenset()
    there = {path: file.size for path, file in tree.items()}
    return make_plan(sizes, there, same=same, saved_before=before).below(folder)


def _saved_before(
    remote: Remote, repo: str, commit: str, tree: Mapping[str, RemoteFile], folder: str
) -> frozenset[str]:
    try:
        manifest = remote.manifest(repo, commit, tree, folder)
        return frozenset(manifest.files if manifest else ())
    except (Corrupt, UnsupportedFormat):  # then nothing is known of the earlier save but what its weights' names tell
        return frozenset()
