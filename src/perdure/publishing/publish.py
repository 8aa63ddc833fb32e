"""The sequence of a push: check the folder, look at the Hub, plan, commit once, confirm, tag."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from perdure.errors import Conflict, Corrupt, HubError, Rejected, Unauthorized, Unavailable, UnsupportedFormat
from perdure.folder.paths import resolve
from perdure.format.manifest import MAX_SIZE, decode
from perdure.format.names import MANIFEST
from perdure.io.locks import pinned
from perdure.publishing import once
from perdure.publishing.plan import Plan, make_plan
from perdure.publishing.prepare import prepare
from perdure.publishing.receipt import Receipt
from perdure.publishing.remote import Remote, RemoteFile, RemoteRepo
from perdure.publishing.selection import Selection, git_blob_id, sha256
from perdure.publishing.target import MAIN, Target, endpoint_in_force


def publish(
    folder: str | Path,
    repo: str,
    *,
    revision: str = MAIN,
    tag: str | None = None,
    private: bool | None = None,
    message: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    verify: bool = True,
) -> Receipt:
    """Publish a model folder as one atomic commit: readers see all of the old model or all of the new.

    Only what belongs to the model goes out. Files of an earlier save that the folder no longer has are deleted in the
    same commit; what people added on the Hub stays. When nothing differs, no commit is made. So a push whose outcome
    is unknown can simply be done again.

    Args:
        folder: What `save_model` wrote, or another model folder.
        repo: `NAMESPACE/NAME`, or `NAME` for a repository of the token's own user. Created if missing.
        revision: The branch; created from `main` if missing.
        tag: A tag for the commit. A tag never moves: if it exists elsewhere nothing is sent.
        private: Whether a new repository is private: by default it is. The visibility of an existing one never
            changes; where True is asked for and it is public, nothing is sent.
        message: The commit's message.
        token: By default `HF_TOKEN`, or what `hf auth login` stored.
        endpoint: The Hub's address: by default `HF_ENDPOINT`, or huggingface.co.
        verify: Read every file and compare it with the manifest first; False when the caller has just done so.

    Raises:
        InvalidInput, NotFound: The folder or a name is wrong; nothing was sent.
        Corrupt: The folder is not what was saved; nothing was sent.
        Unauthorized: No token, a wrong one, or one that may not do this.
        Rejected: The Hub refused for good, in its own words.
        Conflict: The tag exists elsewhere, or somebody else committed in between.
        HubError: Also where the commit was made and the tag was refused; the message says so and names the commit.
        Unavailable: The Hub is away. Nothing is lost; the hint is the command that pushes later.

    ```python
    receipt = perdure.publish("out", "me/my-model", tag="v1.0")
    print(receipt.commit_url)
    ```
    """
    folder = resolve(Path(folder))
    target = Target(repo=repo, revision=revision, tag=tag, endpoint=endpoint_in_force(endpoint))
    try:
        return publish_to(target, folder, private=private, message=message, token=token, verify=verify)
    except Unavailable as error:
        command = target.push_command(folder, private=private, message=message)
        raise Unavailable(
            f"{error.message} Nothing was lost: everything lies in {folder}.",
            hint="\n  ".join(filter(None, [error.hint, f"Push it later with: {command}"])),
        ) from error


def publish_to(
    target: Target,
    folder: Path,
    *,
    private: bool | None = None,
    message: str | None = None,
    token: str | None = None,
    verify: bool = True,
    push_id: str | None = None,
    expected_head: str | None = None,
    tried_on: str | None = None,
    on_base: Callable[[str], object] | None = None,
) -> Receipt:
    """`publish`, for callers that have a checked target already and tell in their own words how to push later.

    Args:
        push_id: The same at every try of a push: where an earlier one made its commit, that is the outcome.
        expected_head: The commit at which the branch must be; `Conflict` otherwise, with nothing sent.
        tried_on: What `on_base` was told at the first try; None if there was none.
        on_base: Called before anything is committed with the commit to commit on; "" for an empty repository.
    """
    remote = Remote(target.endpoint, token)
    selection = prepare(folder, verify=verify)
    again = target.push_command(folder, private=private, message=message)
    with pinned(folder):  # a checkpoint must not be rotated away, nor replaced, while it is sent
        return _push(
            remote, target, selection, private=private, message=message, again=again,
            push_id=push_id, expected_head=expected_head, tried_on=tried_on, on_base=on_base,
        )  # fmt: skip


def _push(
    remote: Remote,
    target: Target,
    selection: Selection,
    *,
    private: bool | None,
    message: str | None,
    again: str,
    push_id: str | None,
    expected_head: str | None,
    tried_on: str | None,
    on_base: Callable[[str], object] | None,
) -> Receipt:
    name = target.repo if "/" in target.repo else f"{remote.user()}/{target.repo}"
    found, created = _find_or_create(remote, name, private=private)
    head = found.branches.get(target.revision)
    made = once.find(remote, found.name, target.revision, push_id, since=tried_on) if head is not None else None
    if made is None:
        once.require_head(found.name, target.revision, head, expected_head)
    base = made.parent if made is not None else head or found.branches.get(MAIN)
    plan = _compare(remote, found.name, base, selection)
    _refuse_to_move_tag(found, target, made.commit if made is not None else base if plan.empty else None)
    _refuse_name_beside(target.revision, found.branches, "branch")
    _refuse_name_beside(target.tag, found.tags, "tag")
    if on_base is not None:
        on_base(base or "")
    if head is None and base is not None:
        remote.create_branch(found.name, target.revision, start=base)
    commit = made.commit if made is not None else base
    if made is None and (commit is None or not plan.empty):
        commit = _commit(
            remote, found.name, target.revision, plan, selection, message=message, parent=base, push_id=push_id
        )
    assert commit is not None
    if target.tag is not None and target.tag not in found.tags:
        _tag(remote, found.name, target.tag, commit, again=again)
    page = f"{target.endpoint}/{found.name}"
    return Receipt(
        repo=found.name,
        endpoint=target.endpoint,
        url=page if target.revision == MAIN else f"{page}/tree/{target.revision}",
        revision=target.revision,
        commit=commit,
        commit_url=f"{page}/commit/{commit}",
        tag=target.tag,
        private=found.private,
        files=plan.send,
        deleted=plan.delete,
        bytes_sent=plan.nbytes,
        created=created,
        changed=not plan.empty,
        left_out=selection.left_out,
    )


def _find_or_create(remote: Remote, name: str, *, private: bool | None) -> tuple[RemoteRepo, bool]:
    found = remote.look(name)
    if found is not None:
        if private and not found.private:
            raise Rejected(
                f"{found.name} is public, and a private one was asked for. Nothing was sent.",
                hint="Make it private in its settings on the Hub, or choose another name.",
            )
        return found, False
    try:
        remote.create_repo(name, private=private is not False)
    except Conflict as error:
        raise Unauthorized(
            f"{name} exists, but this token may not see it. Nothing was sent.",
            hint="Use a token of its owner, or choose another name.",
        ) from error
    made = remote.look(name)
    if made is None:
        raise Unauthorized(f"{name} was created, but this token may not read it. Nothing was sent.")
    return made, True


def _compare(remote: Remote, name: str, base: str | None, selection: Selection) -> Plan:
    tree = remote.tree(name, base) if base is not None else {}
    sizes = {path: file.stat().st_size for path, file in selection.files.items()}
    same = {path for path, size in sizes.items() if path in tree and _is_same(selection.files[path], size, tree[path])}
    before = _saved_before(remote, name, base, tree) if base is not None else frozenset()
    return make_plan(sizes, tree.keys(), same=same, saved_before=before)


def _is_same(file: Path, size: int, there: RemoteFile) -> bool:
    if size != there.size:
        return False
    return sha256(file) == there.sha256 if there.sha256 else git_blob_id(file) == there.blob_id


def _saved_before(remote: Remote, name: str, base: str, tree: Mapping[str, RemoteFile]) -> frozenset[str]:
    if MANIFEST not in tree or tree[MANIFEST].size > MAX_SIZE:
        return frozenset()
    try:
        return frozenset(decode(remote.read(name, MANIFEST, base)).files)
    except (Corrupt, UnsupportedFormat):  # then nothing is known of the earlier save but what its weights' names tell
        return frozenset()


def _refuse_to_move_tag(found: RemoteRepo, target: Target, unchanged_head: str | None) -> None:
    there = found.tags.get(target.tag) if target.tag is not None else None
    if there is not None and there != unchanged_head:
        raise Conflict(
            f"The tag {target.tag} of {found.name} exists already, at commit {there[:12]}, and tags do not move. "
            "Nothing was sent.",
            hint="Choose a new tag, or push without one.",
        )


def _refuse_name_beside(name: str | None, there: Collection[str], what: str) -> None:
    """Git cannot hold `v1` and `v1/x` both; told here, before the commit, and in words that are true."""
    for other in there:
        if name is not None and (other.startswith(f"{name}/") or name.startswith(f"{other}/")):
            raise Conflict(
                f"There is a {what} {other}, and git allows no {what} {name} beside it. Nothing was sent.",
                hint=f"Choose another name for the {what}.",
            )


def _tag(remote: Remote, name: str, tag: str, commit: str, *, again: str) -> None:
    try:
        remote.create_tag(name, tag, commit=commit)
    except HubError as error:
        words = f"{name} is published as {commit}; the tag {tag} is missing. {error.message}"
        raise type(error)(words, hint="\n  ".join(filter(None, [error.hint, f"Tag it with: {again}"]))) from error


def _commit(
    remote: Remote,
    name: str,
    revision: str,
    plan: Plan,
    selection: Selection,
    *,
    message: str | None,
    parent: str | None,
    push_id: str | None,
) -> str:
    try:
        commit = remote.commit(
            name,
            revision,
            add={path: selection.files[path] for path in plan.send},
            delete=plan.delete,
            message=once.signed(message or "Publish a model with perdure", push_id),
            parent=parent,
        )
    except Conflict:
        made = once.find(remote, name, revision, push_id, since=parent or "")
        if made is None:  # otherwise the Hub was still at it when an earlier try was given up
            raise
        return made.commit
    missing = sorted(selection.files.keys() - remote.tree(name, commit).keys())
    if missing:  # the client leaves out, without a word, what a .gitignore on the Hub names
        raise Rejected(
            f"{name} has a new commit {commit[:12]}, but the Hub left out of it: {', '.join(missing)}.",
            hint="A .gitignore in the repository may name them: remove it there, then push again.",
        )
    return commit
