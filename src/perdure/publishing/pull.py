"""A revision on a Hub → a folder on this disk: downloaded beside it, verified, and put in place at once."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from perdure.checks import verify as check
from perdure.errors import AlreadyExists, Corrupt, NotFound, PerdureError, SaveFailed, Unavailable
from perdure.folder import is_interrupted
from perdure.folder.kept import KeptStage, stage_kept
from perdure.folder.paths import resolve
from perdure.folder.previous import sort_out
from perdure.format.manifest import FileEntry, Manifest, read_manifest
from perdure.format.names import ADAPTER_CONFIG, CARD, MANIFEST, STAGING_PREFIX, holds_weights, is_weights
from perdure.io.digest import as_text, digest_file
from perdure.publishing.download import Download
from perdure.publishing.remote_file import is_same
from perdure.publishing.remote_read import progress
from perdure.publishing.snapshot import AS_IT_IS, Snapshot, check_complete, look
from perdure.publishing.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What a pull came to.

    Attributes:
        path: The folder, absolute.
        repo: The repository's full name.
        endpoint: The Hub's address.
        revision: The branch, tag or commit that was asked for.
        path_in_repo: The folder of it; empty for the root.
        commit: What that was when the pull began: everything is of this commit.
        files: Paths of the revision's files.
        nbytes: Bytes of these.
        bytes_received: Bytes that came over the network; what was there before did not.
        changed: Whether anything was put in place; False where the folder was all of this already.
    """

    path: Path
    repo: str
    endpoint: str
    revision: str
    path_in_repo: str
    commit: str
    files: tuple[str, ...]
    nbytes: int
    bytes_received: int
    changed: bool


def pull(
    repo: str,
    folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    path_in_repo: str = "",
    endpoint: str | None = None,
    token: str | None = None,
    verify: bool = True,
) -> Pulled:
    """Download a revision of a model: resumable, verified to the byte, and put in place at once.

    Everything goes into a staging folder beside `folder` first. What is interrupted stays there, and the next pull of
    the same commit goes on with it. Each file is compared with the digest that the Hub has of it, and all of them with
    the manifest, where the revision has one; then the folder is the old one or the new one at every moment. Where it
    is this commit already, nothing is downloaded. `perdure verify` finds whole what was pulled.

    Args:
        repo: `NAMESPACE/NAME`, with `@REVISION` or `@REVISION/FOLDER` if you like.
        folder: Where to; parents are made. One that is there already is replaced if perdure saved or pulled it; files
            in it that belong to no model stay.
        revision: A branch, tag or commit; by default `main`. A branch that moves meanwhile changes nothing.
        path_in_repo: A folder of the repository, by default its root; folders of the root that have a manifest of
            their own, such as `last-checkpoint`, do not come with it.
        endpoint: The Hub's address: by default `HF_ENDPOINT`, or huggingface.co.
        token: By default `HF_TOKEN`, or what `hf auth login` stored; a public repository needs none.
        verify: Compare the whole with its manifest. False takes a revision that somebody changed on the Hub as it is.

    Raises:
        InvalidInput: A name is wrong, or another process is pulling into this folder.
        NotFound: There is no such repository, revision or folder, or no model in it.
        AlreadyExists: The folder is not perdure's, or holds edits that would be lost.
        Unauthorized: The repository is gated, or not for this token to read.
        Rejected: The Hub refused for good, or holds what no folder can.
        Corrupt: What the Hub sent is not what it holds, or not what was saved.
        Unavailable: The Hub is away. What came is kept, and the hint is the command that goes on.
        SaveFailed: The disk refused. In all cases the folder is as it was.

    ```python
    pulled = perdure.pull("me/my-model@v1.0", "out")
    print(pulled.commit, pulled.bytes_received)
    ```
    """
    source = Source.of(repo, revision=revision, path_in_repo=path_in_repo, endpoint=endpoint)
    target = resolve(Path(folder))
    check_place(target)
    with going_on(f"Go on with it: {source.pull_command(target, verify=verify)}"):
        return bring(look(source, token), target, verify=verify)


@contextmanager
def going_on(how: str) -> Iterator[None]:
    """Where the Hub is away, say that nothing is lost, and how to go on."""
    try:
        yield
    except Unavailable as error:
        raise Unavailable(
            f"{error.message} Nothing was put in place; what came so far is kept.",
            hint="\n  ".join(filter(None, [error.hint, how])),
            retry_after=error.retry_after,
        ) from error


def bring(snapshot: Snapshot, target: Path, *, verify: bool = True, replaces: bool = True) -> Pulled:
    """`pull`, of a snapshot that was looked at, into a folder that is resolved and checked.

    Args:
        replaces: Whether a folder that is there, and is anything else than this snapshot, may be replaced.
    """
    if verify:
        check_complete(snapshot)
    if _is_there(target, snapshot):
        return _pulled(snapshot, target, received=0, changed=False)
    if not replaces and os.path.lexists(target):
        raise AlreadyExists(
            f"{target} is there already, and is not {snapshot}. Nothing was downloaded.",
            hint=f"Name another folder, or move it away: {shlex.join(['mv', str(target), f'{target}.old'])}",
        )
    _refuse_nothing(target, snapshot)
    _refuse_edits(target, snapshot)
    key = json.dumps([snapshot.source.endpoint, snapshot.repo, snapshot.commit, snapshot.source.path_in_repo])
    with stage_kept(target, key) as staged:
        staged.keep_only(set(snapshot.files))
        _take_over(target, staged, snapshot)
        _require_space(staged, snapshot)
        with progress(f"Pulling {snapshot.repo}", snapshot.nbytes) as advance:
            download = Download(snapshot, staged.path, advance)
            download.run()
        if snapshot.manifest is None:
            kind = "adapter" if ADAPTER_CONFIG in snapshot.files else "model"
            staged.commit(kind, stale=is_weights)
        else:
            (staged.path / MANIFEST).write_bytes(_with_card(snapshot.manifest, staged.path).encode())
            if verify:
                _require_whole(snapshot, staged.path)
            staged.place(stale=is_weights)
    return _pulled(snapshot, target, received=download.received, changed=True)


def check_place(target: Path) -> None:
    """Refuse a folder that a pull must not replace.

    Raises:
        AlreadyExists: Perdure neither saved nor pulled it.
    """
    if not os.path.lexists(target):
        return
    try:
        names = {path.name for path in target.iterdir() if not path.name.startswith(STAGING_PREFIX)}
    except OSError:
        names = {""}
    if names and MANIFEST not in names and not is_interrupted(target):
        raise AlreadyExists(
            f"{target} is there already, and perdure neither saved nor pulled it. Nothing was downloaded.",
            hint=f"Name another folder, or move it away: {shlex.join(['mv', str(target), f'{target}.old'])}",
        )


def _is_there(target: Path, snapshot: Snapshot) -> bool:
    """Whether the folder is this snapshot already, whole."""
    if is_interrupted(target):
        return False
    try:
        manifest = read_manifest(target)
    except PerdureError:
        return False
    if snapshot.manifest is None:
        described = manifest.files.keys() == snapshot.files.keys()
    else:
        described = _without_card(manifest) == _without_card(snapshot.manifest)
    same = described and all(is_same(target / path, file) for path, file in snapshot.files.items())
    return same and check.verify(target).ok


def _without_card(manifest: Manifest) -> Manifest:
    return replace(manifest, files={path: entry for path, entry in manifest.files.items() if path != CARD})


def _with_card(manifest: Manifest, folder: Path) -> Manifest:
    """The manifest with the card as it is: one that a person edited on the Hub is what they want to say."""
    if not (folder / CARD).is_file():
        return manifest
    size, digest = digest_file(folder / CARD)
    files = {**manifest.files, CARD: FileEntry(size=size, digest=as_text(digest))}
    return replace(manifest, files=dict(sorted(files.items())))


def _refuse_nothing(target: Path, snapshot: Snapshot) -> None:
    """A revision without a model, as `main` may be where each checkpoint has its branch, replaces none."""
    if any(map(holds_weights, snapshot.files)):
        return
    replaces = target.is_dir() and any(holds_weights(path.name) for path in target.iterdir())
    if replaces or snapshot.files.keys() <= {CARD}:
        others = [name for name in snapshot.reader.revisions(snapshot.repo) if name != snapshot.source.revision]
        raise NotFound(
            f"{snapshot} holds no model. Nothing was downloaded.",
            hint=f"There are besides: {', '.join(others)}" if others else "",
        )


def _refuse_edits(target: Path, snapshot: Snapshot) -> None:
    """What a person wrote into the folder must not go without a word."""
    if not target.is_dir():
        return
    known = _known(target)
    for name in sort_out(target, is_weights)[1]:
        if name not in snapshot.files or is_same(target / name, snapshot.files[name]):
            continue
        if (target / name).is_file() and known.get(name) == as_text(digest_file(target / name)[1]):
            continue
        raise AlreadyExists(
            f"{target / name} was edited since it was saved, and {snapshot} has another one. Nothing was downloaded.",
            hint=f"Keep yours under another name: {shlex.join(['mv', str(target / name), f'{target / name}.mine'])}",
        )


def _known(target: Path) -> dict[str, str]:
    try:
        return {path: entry.digest for path, entry in read_manifest(target).files.items()}
    except PerdureError:
        return {}


def _take_over(target: Path, staged: KeptStage, snapshot: Snapshot) -> None:
    """Copy what the folder has of the snapshot: of a revision whose card alone is new, nothing else is downloaded."""
    for path, file in snapshot.files.items():
        copy = staged.path / path
        if not copy.exists() and is_same(target / path, file):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(target / path, copy)


def _require_space(staged: KeptStage, snapshot: Snapshot) -> None:
    here = sum(path.stat().st_size for path in staged.path.rglob("*") if path.is_file())
    missing, free = snapshot.nbytes - here, shutil.disk_usage(staged.path).free
    if missing > free:
        raise SaveFailed(
            f"{snapshot} needs {missing / 1e9:.1f} GB more beside {staged.target}, and there are {free / 1e9:.1f} GB. "
            "Nothing was downloaded.",
            hint="Free some space there, or pull into a folder on another disk.",
        ) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _require_whole(snapshot: Snapshot, folder: Path) -> None:
    problems = [problem for problem in check.verify(folder).problems if problem.kind != "extra"]
    if problems:
        others = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise Corrupt(
            f"{snapshot} is not what was saved: {problems[0]}{others}. Nothing was put in place.",
            path=problems[0].path,
            tensor=problems[0].tensor,
            hint=AS_IT_IS,
        )


def _pulled(snapshot: Snapshot, target: Path, *, received: int, changed: bool) -> Pulled:
    return Pulled(
        path=target,
        repo=snapshot.repo,
        endpoint=snapshot.source.endpoint,
        revision=snapshot.source.revision,
        path_in_repo=snapshot.source.path_in_repo,
        commit=snapshot.commit,
        files=tuple(snapshot.files),
        nbytes=snapshot.nbytes,
        bytes_received=received,
        changed=changed,
    )
