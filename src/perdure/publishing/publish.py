"""Publish a folder: what was asked for is made a request, the folder is prepared, and pushed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, overload

from perdure.errors import Unavailable
from perdure.folder.paths import resolve
from perdure.publishing.once import ONLY_TRY, Attempt
from perdure.publishing.prepare import prepared
from perdure.publishing.push import Push
from perdure.publishing.push_plan import PushPlan
from perdure.publishing.receipt import Receipt
from perdure.publishing.remote import Remote
from perdure.publishing.request import PushRequest
from perdure.publishing.secrets import require_clean_words
from perdure.publishing.target import MAIN, Target, endpoint_in_force

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _Options(TypedDict, total=False):
    revision: str
    path_in_repo: str
    tag: str | None
    private: bool | None
    message: str | None
    token: str | None
    endpoint: str | None
    verify: bool
    training_state: bool
    allow: Collection[str]
    expected_head: str | None


@overload
def publish(
    folder: str | Path, repo: str, *, dry_run: Literal[False] = False, **options: Unpack[_Options]
) -> Receipt: ...


@overload
def publish(folder: str | Path, repo: str, *, dry_run: Literal[True], **options: Unpack[_Options]) -> PushPlan: ...


@overload
def publish(folder: str | Path, repo: str, *, dry_run: bool, **options: Unpack[_Options]) -> Receipt | PushPlan: ...


def publish(
    folder: str | Path,
    repo: str,
    *,
    revision: str = MAIN,
    path_in_repo: str = "",
    tag: str | None = None,
    private: bool | None = None,
    message: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    verify: bool = True,
    training_state: bool = False,
    allow: Collection[str] = (),
    expected_head: str | None = None,
    dry_run: bool = False,
) -> Receipt | PushPlan:
    """Publish a model folder as one atomic commit: readers see all of the old model or all of the new.

    Only what belongs to the model goes out. Files of an earlier save that the folder no longer has are deleted in the
    same commit; what people added on the Hub stays. When nothing differs, no commit is made. So a push whose outcome
    is unknown can simply be done again.

    Args:
        folder: What `save_model` or a checkpointer wrote, or another model folder.
        repo: `NAMESPACE/NAME`, or `NAME` for a repository of the token's own user. Created if missing.
        revision: The branch; created from `main` if missing.
        path_in_repo: A folder of the repository in which the model goes, by default its root. What lies elsewhere is
            left alone; and this folder by later pushes to the root, where it has a manifest.
        tag: A tag for the commit. A tag never moves: if it exists elsewhere nothing is sent.
        private: Whether a new repository is private: by default it is. An existing one stays as it is, but for
            False, which makes it public once everything is there; where True is asked for and it is public, nothing
            is sent.
        message: The commit's message.
        token: By default `HF_TOKEN`, or what `hf auth login` stored.
        endpoint: The Hub's address: by default `HF_ENDPOINT`, or huggingface.co.
        verify: Read every file and compare it with the manifest first; False when the caller has just done so.
        training_state: Of a checkpoint, also send what only resuming needs: the optimizer, the place in the data.
        allow: What may leave the machine although it looks as if it must not: ids that `CheckFailed` named.
        expected_head: The commit at which the branch must be: where somebody committed on top of it, nothing is
            sent, unless the branch holds all of this already.
        dry_run: Only say what would be done, as a `PushPlan`. Nothing is created on the Hub, nor sent.

    Raises:
        InvalidInput, NotFound: The folder or a name is wrong; nothing was sent.
        Corrupt: The folder is not what was saved; nothing was sent.
        CheckFailed: It holds what looks like a token, key or password, a pickle other than weights, or in its
            configuration a path of this machine; nothing was sent.
        Unauthorized: No token, a wrong one, or one that may not do this.
        Rejected: The Hub refused for good, in its own words.
        Conflict: The tag exists elsewhere, the branch is not at `expected_head`, or somebody else committed in
            between.
        HubError: Also where the commit was made and the tag was refused; the message says so and names the commit.
        Unavailable: The Hub is away. Nothing is lost; the hint is the command that pushes later.

    ```python
    plan = perdure.publish("out", "me/my-model", tag="v1.0", dry_run=True)
    print(plan.add, plan.delete, plan.nbytes)
    receipt = perdure.publish("out", "me/my-model", tag="v1.0")
    print(receipt.commit_url)
    ```
    """
    folder = resolve(Path(folder))
    target = Target(
        repo=repo, revision=revision, tag=tag, path_in_repo=path_in_repo, endpoint=endpoint_in_force(endpoint)
    )
    request = PushRequest(
        target=target, private=private, message=message, training_state=training_state, allow=tuple(allow),
        expected_head=expected_head,
    )  # fmt: skip
    require_clean_words("message", message)
    again = request.command(folder)
    try:
        remote = Remote(target.endpoint, token)
        with prepared(folder, verify=verify, training_state=training_state, allow=allow) as selection:
            push = Push(remote=remote, request=request, selection=selection, again=again, make_public=private is False)
            return push.plan() if dry_run else push.run()
    except Unavailable as error:
        raise Unavailable(
            f"{error.message} Nothing was lost: everything lies in {folder}.",
            hint="\n  ".join(filter(None, [error.hint, "" if dry_run else f"Push it later with: {again}"])),
            retry_after=error.retry_after,
        ) from error


def publish_to(request: PushRequest, folder: Path, *, token: str | None = None, attempt: Attempt = ONLY_TRY) -> Receipt:
    """`publish`, for callers that tell in their own words how to push later.

    An existing repository is never made public: nobody may be there who was asked.

    Args:
        attempt: Which try of a push this is, where it may be tried again.
    """
    remote = Remote(request.target.endpoint, token)
    with prepared(folder, verify=True, training_state=request.training_state, allow=request.allow) as selection:
        return Push(remote=remote, request=request, selection=selection, attempt=attempt).run()
