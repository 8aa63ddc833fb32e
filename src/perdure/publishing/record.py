"""Write what was measured after a push onto the card that was pushed: one commit, after which a pull still verifies."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

from perdure.card.card import Card
from perdure.errors import Conflict, HubError, InvalidInput, NotFound, Unavailable
from perdure.format.manifest import FileEntry
from perdure.format.names import CARD, MANIFEST
from perdure.io.digest import as_text, digest_bytes
from perdure.publishing import once
from perdure.publishing.after import Results, checked
from perdure.publishing.remote import Remote
from perdure.publishing.remote_file import RemoteFile
from perdure.publishing.secrets import require_clean_words
from perdure.publishing.subfolder import joined, own_files
from perdure.publishing.target import MAIN, Target, endpoint_in_force

_MAX_CARD = 4 * 2**20  # bytes
_TRIES = 5  # where others commit to the branch in the same moment, with results of their own perhaps
_TASK = "text-generation"  # of a card that names none


def record_results(
    repo: str,
    results: Results,
    *,
    revision: str = MAIN,
    commit: str | None = None,
    message: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Write results onto the card of a revision on the Hub, in one commit. What people wrote there stays.

    The manifest is renewed in the same commit, unless people had edited the card. Where the card says all that already
    no commit is made.

    Args:
        repo: `NAMESPACE/NAME`, or `NAME` for a repository of the token's own user.
        results: Metric → number; or a dataset's id on the Hub → metric → number, for the card's `model-index`.
        revision: The branch.
        commit: The commit that was measured: where the branch holds another model by now, nothing is written.
        message: Of the commit.
        token: By default `HF_TOKEN`, or what `hf auth login` stored.
        endpoint: The Hub's address: by default `HF_ENDPOINT`, or huggingface.co.

    Returns:
        The commit at which the branch is then.

    Raises:
        InvalidInput: A result is no number, or a dataset no Hub id.
        NotFound: There is no such repository or branch.
        Conflict: The branch holds another model than the one that was measured.
        Unauthorized, Rejected, Unavailable: The Hub would not, or is away.

    ```python
    perdure.record_results("me/my-model", {"accuracy": 0.81}, revision="main-step-000000200")
    ```
    """
    try:
        found = checked(results)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"These are no results, metric → number: {error}. Nothing was written.") from error
    require_clean_words("message", message)
    target = Target(repo=repo, revision=revision, endpoint=endpoint_in_force(endpoint))
    remote = Remote(target.endpoint, token)
    return record(
        remote, remote.full_name(target.repo), target.revision, found, measured=commit, message=message,
        push_id=uuid4().hex + once.RESULTS,
    )  # fmt: skip


def record(
    remote: Remote,
    repo: str,
    branch: str,
    results: Results,
    *,
    push_id: str,
    measured: str | None = None,
    message: str | None = None,
    folder: str = "",
) -> str:
    """`record_results`, for what may be tried again.

    Args:
        push_id: Ends with `once.RESULTS`, and is the same at every try: where an earlier one made its commit after
            `measured`, that is the outcome.
        folder: Where in the repository the model with its card lies.
    """
    message = once.signed(message or f"Results: {', '.join(results)}", push_id)
    since = measured
    for tries_left in reversed(range(_TRIES)):
        found = remote.look(repo)
        head = found.branches.get(branch) if found is not None else None
        if found is None or head is None:
            raise NotFound(f"{remote.endpoint} has no branch {branch} of {repo} that this token may see.")
        if made := once.find(remote, found.name, branch, push_id, since=since):
            return made.commit
        tree = own_files(remote.tree(found.name, head), folder)
        was = own_files(remote.tree(found.name, measured), folder) if measured and head != measured else tree
        if once.without_card(tree) != once.without_card(was):
            raise Conflict(f"{branch} of {repo} holds another model by now than the one that was measured.")
        files = _with_results(remote, found.name, head, tree, results, folder=folder)
        if not files:
            return head
        since = since or head
        try:
            return remote.commit(found.name, branch, add=files, delete=(), message=message, parent=head)
        except Conflict:  # the answer may have been lost: then the next look finds the commit
            if not tries_left:
                raise
        except Unavailable:
            with suppress(HubError):
                if made := once.find(remote, found.name, branch, push_id, since=since):
                    return made.commit
            raise
    raise AssertionError("unreachable")


def _with_results(
    remote: Remote, repo: str, head: str, tree: Mapping[str, RemoteFile], results: Results, *, folder: str
) -> dict[str, bytes]:
    """The card with the results, and the manifest that names it so; empty where the card has them."""
    before = b""
    if CARD in tree:
        if tree[CARD].size > _MAX_CARD:
            raise InvalidInput(f"The card of {repo} is too large to be edited. Nothing was written.")
        before = remote.read(repo, joined(folder, CARD), head)
    after = add_results(before.decode(errors="surrogateescape"), results).encode(errors="surrogateescape")
    if after == before:
        return {}
    files = {CARD: after}
    if manifest := remote.manifest(repo, head, tree, folder):
        named = manifest.files.get(CARD)
        # Otherwise the card holds a person's words, which is known by this: the manifest names another, or none.
        if (named.digest == as_text(digest_bytes(before))) if named else CARD not in tree:
            entry = FileEntry(size=len(after), digest=as_text(digest_bytes(after)))
            every = dict(sorted({**manifest.files, CARD: entry}.items()))
            files[MANIFEST] = replace(manifest, files=every).encode()
    return {joined(folder, path): data for path, data in files.items()}


def add_results(text: str, results: Results) -> str:
    """A card's text with results added."""
    card = Card.parse(text)
    plain = {name: value for name, value in results.items() if not isinstance(value, Mapping)}
    if plain:
        card = card.with_results(plain)
    task = None if isinstance(card.metadata.get("pipeline_tag"), str) else _TASK
    for dataset, values in results.items():
        if isinstance(values, Mapping):
            card = card.with_results(values, dataset=dataset, task=task)
    return card.text
