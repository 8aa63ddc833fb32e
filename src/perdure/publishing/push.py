"""One push: what is there is looked at, what has to change is planned, committed once, and tagged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from perdure.errors import Conflict, HubError, Rejected, Unauthorized
from perdure.publishing import once
from perdure.publishing.address import at_address
from perdure.publishing.compare import compare
from perdure.publishing.parts import MOST, Limits, Part, divide
from perdure.publishing.plan import Plan
from perdure.publishing.push_plan import PushPlan
from perdure.publishing.receipt import Receipt
from perdure.publishing.refusals import refuse_moving_tag, refuse_names_beside, refuse_public
from perdure.publishing.remote import Remote, RemoteRepo
from perdure.publishing.request import PushRequest
from perdure.publishing.selection import Content, Selection
from perdure.publishing.staged import clear_up, commit_in_parts
from perdure.publishing.subfolder import joined
from perdure.publishing.target import MAIN, Target
from perdure.publishing.words import keep_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """What is to be pushed where.

    Args:
        again: The command that does it again; empty where the caller tells that.
        make_public: Whether a private repository becomes public, once everything is there.
        limits: What goes into one commit; more of them look like one to readers of the branch.
    """

    remote: Remote
    request: PushRequest
    selection: Selection
    again: str = ""
    make_public: bool = False
    limits: Limits = MOST
    attempt: once.Attempt = once.ONLY_TRY

    def plan(self) -> PushPlan:
        """What `run` would do now; only reads."""
        target, name = self.target, self._name()
        found = self._look(name)
        head = found.branches.get(target.revision) if found is not None else None
        base = head or (self._start(found) if found is not None else None)
        full_name = name if found is None else found.name
        _, plan = self._compared(full_name, base)
        if found is not None:
            self._require_expected(found, head, plan)
            self._refuse(found, base if plan.empty else None)
        return PushPlan(
            repo=full_name,
            endpoint=target.endpoint,
            revision=target.revision,
            base=base,
            tag=target.tag,
            private=self.request.private is not False if found is None else found.private and not self.make_public,
            makes_public=found is not None and found.private and self.make_public,
            creates=found is None,
            creates_branch=head is None,
            add={path: plan.sizes[path] for path in plan.add},
            change={path: plan.sizes[path] for path in plan.change},
            delete={path: plan.sizes[path] for path in plan.delete},
            keep={path: plan.sizes[path] for path in plan.keep},
            left_out=self.selection.left_out,
        )

    def run(self) -> Receipt:
        """Do it. Whatever it raises before the commit, nothing has changed for readers of the branch."""
        found, created = self._find_or_create(self._name())
        revision = self.target.revision
        head = found.branches.get(revision)
        made = self._made(found, since=self.attempt.tried_on) if head is not None else None
        base = made.parent if made is not None else head or self._start(found)
        selection, plan = self._compared(found.name, base)
        if made is None:
            self._require_expected(found, head, plan)
        elif self.attempt.push_id is not None:
            clear_up(self.remote, found, self.attempt.push_id)
        self._refuse(found, made.commit if made is not None else base if plan.empty else None)
        if self.attempt.on_base is not None:
            self.attempt.on_base(base or "")
        if head is None and base is not None:
            self.remote.create_branch(found.name, revision, start=base)
        commit = made.commit if made is not None else base
        if made is None and (commit is None or not plan.empty):
            commit = replace(self, selection=selection)._commit(found, plan, parent=base)
        assert commit is not None
        tag = self.target.tag
        if tag is not None and tag not in found.tags:
            self._after(
                commit, f"the tag {tag} is missing", lambda: self.remote.create_tag(found.name, tag, commit=commit)
            )
        if self.make_public and found.private:
            self._after(commit, f"{found.name} is still private", lambda: self.remote.make_public(found.name))
        return self._receipt(found, plan, commit=commit, created=created, created_branch=head is None)

    @property
    def target(self) -> Target:
        """Where to."""
        return self.request.target

    @property
    def _contents(self) -> dict[str, Content]:
        """Path in the repository → what goes there."""
        return {joined(self.target.path_in_repo, path): file for path, file in self.selection.files.items()}

    def _name(self) -> str:
        return self.remote.full_name(self.target.repo)

    def _look(self, name: str) -> RemoteRepo | None:
        found = self.remote.look(name)
        if found is not None and self.request.private:
            refuse_public(found)
        if found is None and self.request.expected_head:
            once.require_head(name, self.target.revision, None, self.request.expected_head)
        return found

    def _find_or_create(self, name: str) -> tuple[RemoteRepo, bool]:
        found = self._look(name)
        if found is not None:
            return found, False
        try:
            self.remote.create_repo(name, private=self.request.private is not False)
        except Conflict as error:
            found = self._look(name)  # another run made it just now, or it is somebody else's
            if found is not None:
                return found, False
            raise Unauthorized(
                f"{name} exists, but this token may not see it. Nothing was sent.",
                hint="Use a token of its owner, or choose another name.",
            ) from error
        made = self.remote.look(name)
        if made is None:
            raise Unauthorized(f"{name} was created, but this token may not read it. Nothing was sent.")
        return made, True

    def _start(self, found: RemoteRepo) -> str | None:
        """Where a branch that is new begins; None where nothing was ever committed."""
        main = found.branches.get(MAIN)
        return self.remote.first_commit(found.name) if self.request.start == "first" and main is not None else main

    def _made(self, found: RemoteRepo, *, since: str | None) -> once.Made | None:
        return once.find(self.remote, found.name, self.target.revision, self.attempt.push_id, since=since)

    def _compared(self, repo: str, base: str | None) -> tuple[Selection, Plan]:
        """What is to be there, with the words of others, and what has to change for that."""
        folder = self.target.path_in_repo
        selection = self.selection if folder else at_address(self.selection, repo, self.target.revision)
        selection = keep_words(self.remote, repo, base, selection, folder=folder)
        return selection, compare(self.remote, repo, base, selection, folder=folder)

    def _require_expected(self, found: RemoteRepo, head: str | None, plan: Plan) -> None:
        """Refuse to push over what somebody else committed; where the branch has all of it already, nothing is."""
        revision, expected = self.target.revision, self.request.expected_head
        if head is not None and plan.empty:
            return
        left_at = once.beneath_cards(self.remote, found.name, head, expected)
        once.require_head(found.name, revision, left_at, expected or None)
        if expected == once.NOBODY and head is not None:
            start = self.remote.first_commit(found.name) if revision == MAIN else self._start(found)
            once.require_new(found.name, revision, head, start=start)

    def _refuse(self, found: RemoteRepo, unchanged_head: str | None) -> None:
        refuse_moving_tag(found, self.target, unchanged_head)
        refuse_names_beside(found, self.target)

    def _commit(self, found: RemoteRepo, plan: Plan, *, parent: str | None) -> str:
        parts = divide(plan, self.limits)
        try:
            if parent is not None and len(parts) > 1:
                return self._commit_in_parts(found, parts, parent=parent)
            commit = self.remote.commit(
                found.name,
                self.target.revision,
                add={path: self._contents[path] for path in plan.send},
                delete=plan.delete,
                message=once.signed(self._message, self.attempt.push_id),
                parent=parent,
            )
        except Conflict:
            made = self._made(found, since=parent or "")
            if made is None:  # otherwise the Hub was still at it when an earlier try was given up
                raise
            return made.commit
        self._require_all(found.name, commit)
        return commit

    def _commit_in_parts(self, found: RemoteRepo, parts: Sequence[Part], *, parent: str) -> str:
        push_id = self.attempt.push_id or uuid4().hex
        clear_up(self.remote, found, push_id)
        return commit_in_parts(
            self.remote, found.name, self.target.revision, parts, self._contents, message=self._message,
            push_id=push_id, parent=parent, check=lambda commit: self._require_all(found.name, commit),
        )  # fmt: skip

    @property
    def _message(self) -> str:
        return self.request.message or "Publish a model with perdure"

    def _require_all(self, name: str, commit: str) -> None:
        missing = sorted(self._contents.keys() - self.remote.tree(name, commit).keys())
        if missing:  # the client leaves out, without a word, what a .gitignore on the Hub names
            raise Rejected(
                f"{name} has a new commit {commit[:12]}, but the Hub left out of it: {', '.join(missing)}.",
                hint="A .gitignore in the repository may name them: remove it there, then push again.",
            )

    def _after(self, commit: str, otherwise: str, step: Callable[[], None]) -> None:
        """A step that follows the commit; where it fails, the error says that the commit is there all the same."""
        try:
            step()
        except HubError as error:
            words = f"It is published as {commit}; {otherwise}. {error.message}"
            hints = [error.hint, f"Then: {self.again}" if self.again else ""]
            raise type(error)(words, hint="\n  ".join(filter(None, hints))) from error

    def _receipt(self, found: RemoteRepo, plan: Plan, *, commit: str, created: bool, created_branch: bool) -> Receipt:
        page = f"{self.target.endpoint}/{found.name}"
        revision, folder = self.target.revision, self.target.path_in_repo
        return Receipt(
            repo=found.name,
            endpoint=self.target.endpoint,
            url=page if revision == MAIN and not folder else "/".join(filter(None, [page, "tree", revision, folder])),
            revision=revision,
            commit=commit,
            commit_url=f"{page}/commit/{commit}",
            tag=self.target.tag,
            private=found.private and not self.make_public,
            files=plan.send,
            deleted=plan.delete,
            bytes_sent=plan.nbytes,
            created=created,
            created_branch=created_branch,
            made_public=found.private and self.make_public,
            changed=not plan.empty,
            left_out=self.selection.left_out,
            path_in_repo=folder,
        )
