"""Make a revision that was chosen the head of a branch: one commit, in which the Hub copies what it holds already."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import uuid4

from perdure.errors import Conflict, HubError, NotFound, Unavailable
from perdure.format.manifest import decode
from perdure.format.names import MANIFEST, is_for_resuming
from perdure.publishing import once
from perdure.publishing.address import FILES, with_address
from perdure.publishing.promotion import Promotion
from perdure.publishing.refusals import refuse_names_beside
from perdure.publishing.remote import Remote, RemoteRepo
from perdure.publishing.remote_file import RemoteFile
from perdure.publishing.request import PromoteRequest
from perdure.publishing.secrets import require_clean_words
from perdure.publishing.subfolder import own_files
from perdure.publishing.target import MAIN, Target, endpoint_in_force, endpoint_words

_log = logging.getLogger("perdure")


def promote(
    repo: str,
    revision: str,
    *,
    tag: str | None = None,
    to: str = MAIN,
    force: bool = False,
    training_state: bool = False,
    message: str | None = None,
    expected_head: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    dry_run: bool = False,
) -> Promotion:
    """Make a revision what everybody gets: one commit on a branch, after which it holds the revision's files.

    Its card loads the model from that branch then. No weights go over the wire: the Hub copies what it holds. What the
    revision does not have is deleted in the same commit; the branch's history keeps it. Where nothing differs, no
    commit is made; so it can simply be done again. Folders with a manifest of their own, such as `last-checkpoint`, are
    no part of the model: those of the branch stay, those of the revision are not copied.

    Args:
        repo: `NAMESPACE/NAME`, or `NAME` for a repository of the token's own user.
        revision: A branch, a tag, or a commit's whole id.
        tag: An annotated tag for the commit. Tags do not move, unless `force`.
        to: The branch; where there is none, it begins at the revision.
        force: Move the tag if it is elsewhere. The Hub cannot move one: for a moment there is none.
        training_state: Copy what only resuming needs, too, where the revision has it.
        message: Of the commit and of the tag.
        expected_head: The commit at which the branch must be, unless it is what the revision is already; by default
            the one that it is at now. A commit that somebody else makes meanwhile is never overwritten.
        token: By default `HF_TOKEN`, or what `hf auth login` stored.
        endpoint: The Hub's address: by default `HF_ENDPOINT`, or huggingface.co.
        dry_run: Only say what would be done.

    Raises:
        InvalidInput: A name is none.
        NotFound: There is no such repository or revision.
        Conflict: The tag is elsewhere, or somebody else committed meanwhile; nothing was changed.
        HubError: Also where the commit was made and the tag was not; the message says what is left, and what to type.

    ```python
    best = next(one for one in perdure.revisions("me/my-model", metric="eval_loss") if one.best)
    perdure.promote("me/my-model", best.name, tag="v1.0")
    ```
    """
    target = Target(repo=repo, revision=to, tag=tag, endpoint=endpoint_in_force(endpoint))
    asked = PromoteRequest(
        target=target, revision=revision, force=force, training_state=training_state, message=message,
        expected_head=expected_head,
    )  # fmt: skip
    require_clean_words("message", message)
    return _Promote(Remote(target.endpoint, token), asked).run(dry_run=dry_run)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Changes:
    """What makes one tree of the other: files to copy, the manifest if it has to be another one, files to delete."""

    copy: Mapping[str, int]
    add: Mapping[str, bytes]
    delete: Mapping[str, int]

    @property
    def empty(self) -> bool:
        return not (self.copy or self.add or self.delete)

    @property
    def files(self) -> dict[str, int]:
        """All that become another file: path → bytes."""
        return dict(sorted({**self.copy, **{path: len(data) for path, data in self.add.items()}}.items()))


class _Promote:
    def __init__(self, remote: Remote, asked: PromoteRequest) -> None:
        self._remote = remote
        self._asked = asked
        self._target = asked.target

    def run(self, *, dry_run: bool) -> Promotion:
        name = self._remote.full_name(self._target.repo)
        found = self._remote.look(name)
        if found is None:
            raise NotFound(f"{self._target.endpoint} has no repository {name} that this token may see.")
        chosen = self._remote.resolve(found.name, self._asked.revision)
        if chosen is None:
            raise NotFound(
                f"{found.name} has no revision {self._asked.revision}.",
                hint="`"
                + " ".join(["perdure revisions", found.name, *endpoint_words(self._target.endpoint)])
                + "` lists them.",
            )
        head = found.branches.get(self._target.revision)
        changes = self._changes(found.name, chosen, head)
        if head is None or not changes.empty:
            once.require_head(found.name, self._target.revision, head, self._asked.expected_head)
        commit = (head or chosen) if changes.empty else None
        tag_before = self._tag_before(found, commit)
        refuse_names_beside(found, self._target)
        outcome = Promotion(
            repo=found.name, endpoint=self._target.endpoint, revision=self._asked.revision, chosen=chosen,
            to=self._target.revision, before=head, commit=commit, copied=changes.files, deleted=changes.delete,
            tag=self._target.tag, tag_before=tag_before, changed=not changes.empty, dry_run=dry_run,
        )  # fmt: skip
        return outcome if dry_run else self._do(found, outcome, changes)

    def _do(self, found: RemoteRepo, outcome: Promotion, changes: _Changes) -> Promotion:
        if outcome.before is None:
            self._remote.create_branch(found.name, outcome.to, start=outcome.chosen)
        commit = outcome.commit or self._commit(found.name, outcome, changes)
        if outcome.tag is not None and found.tags.get(outcome.tag) != commit:
            self._tag(found.name, outcome, commit)
        return replace(outcome, commit=commit)

    def _changes(self, repo: str, chosen: str, head: str | None) -> _Changes:
        there = self._remote.tree(repo, chosen)
        wanted = own_files(there)
        if head is not None:  # otherwise the branch begins with all that the revision has
            there = wanted if head == chosen else own_files(self._remote.tree(repo, head))
        known = {path: self._remote.read(repo, path, chosen) for path in FILES if _is_read(path, wanted.get(path))}
        if not self._asked.training_state and any(map(is_for_resuming, wanted)):
            wanted = {path: file for path, file in wanted.items() if not is_for_resuming(path)}
            if MANIFEST in known:
                manifest = decode(known[MANIFEST])
                kept = {path: entry for path, entry in manifest.files.items() if not is_for_resuming(path)}
                known[MANIFEST] = replace(manifest, files=kept).encode()
        known |= with_address(known, repo, self._target.revision)
        add = {path: data for path, data in known.items() if not wanted[path].matches(data)}
        return _Changes(
            copy={path: file.size for path, file in wanted.items() if path not in add and file != there.get(path)},
            add={path: data for path, data in add.items() if path not in there or not there[path].matches(data)},
            delete={path: file.size for path, file in there.items() if path not in wanted},
        )

    def _tag_before(self, found: RemoteRepo, commit: str | None) -> str | None:
        """Where the tag is, if it has to be moved.

        Raises:
            Conflict: That is not allowed.
        """
        tag = self._target.tag
        if tag is None or tag not in found.tags:
            return None
        there = self._remote.resolve(found.name, tag) or found.tags[tag]  # through an annotated tag to its commit
        if there == commit:
            return None
        if not self._asked.force:
            raise Conflict(
                f"The tag {tag} of {found.name} exists already, at commit {there[:12]}, and tags do not move. "
                "Nothing was changed.",
                hint="Choose a new tag, or move this one with --force (force=True).",
            )
        return there

    @property
    def _message(self) -> str:
        return self._asked.message or f"Promote {self._asked.revision} to {self._target.revision}"

    def _commit(self, repo: str, outcome: Promotion, changes: _Changes) -> str:
        push_id, head = uuid4().hex, outcome.before or outcome.chosen
        try:
            return self._remote.commit(
                repo,
                outcome.to,
                add=changes.add,
                delete=list(changes.delete),
                copy=list(changes.copy),
                copy_from=outcome.chosen,
                message=once.signed(self._message, push_id),
                parent=head,
            )
        except (Conflict, Unavailable) as error:  # which may be all that is left of an answer that was lost
            made = None
            with suppress(HubError):
                made = once.find(self._remote, repo, outcome.to, push_id, since=head)
            if made is not None:
                return made.commit
            hints = [error.hint, f"Then: {self._asked.command}" if isinstance(error, Unavailable) else ""]
            raise type(error)(error.message, hint="\n  ".join(filter(None, hints))) from error

    def _tag(self, repo: str, outcome: Promotion, commit: str) -> None:
        tag, before = outcome.tag, outcome.tag_before
        assert tag is not None
        try:
            if before is not None:
                _log.warning("The tag %s of %s moves from commit %s to %s.", tag, repo, before, commit)
                self._remote.delete_tag(repo, tag)
            self._remote.create_tag(repo, tag, commit=commit, message=self._message)
        except HubError as error:
            there = None
            with suppress(HubError):
                there = self._remote.resolve(repo, tag)
            if there == commit:  # it was made, and the answer lost
                return
            was = f" It was at {before[:12]}, and may be gone." if before is not None else ""
            raise type(error)(
                f"{outcome.to} of {repo} is what was chosen (commit {commit}); the tag {tag} is not there.{was} "
                f"{error.message}",
                hint="\n  ".join(filter(None, [error.hint, f"Then: {self._asked.command}"])),
            ) from error


def _is_read(path: str, file: RemoteFile | None) -> bool:
    return file is not None and file.size <= FILES[path]
