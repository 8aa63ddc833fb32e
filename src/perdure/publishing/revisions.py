"""The revisions of a repository, with what is known of each, to choose among them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeVar

from perdure.errors import NotFound, Rejected, Unavailable
from perdure.format.metrics import is_lower_better
from perdure.publishing.measured import FILES, Measured, measured, step_in
from perdure.publishing.plot import plot_scores
from perdure.publishing.remote import Remote
from perdure.publishing.revision import Revision
from perdure.publishing.staged import is_staging_branch
from perdure.publishing.target import check_repo, endpoint_in_force

_Answer = TypeVar("_Answer")

_AT_ONCE = 8
_TRIES = 4
_LONGEST_WAIT = 60.0  # seconds; longer than that somebody at a terminal does not wait without a word
_KINDS: Final[tuple[Literal["branch", "tag"], ...]] = ("branch", "tag")
_USUAL = ("eval_loss", "loss")  # what is compared where nobody says, if it is there


def revisions(
    repo: str,
    *,
    metric: str | None = None,
    lower: bool | None = None,
    plot: str | os.PathLike[str] | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Revision, ...]:
    """The branches and tags of a repository, with step, commit, date and metrics, and which is best.

    Metrics are read from what was pushed: the manifest of a checkpoint, the trainer's log, the card's `model-index`.
    No weights are fetched. What cannot be read of a revision costs its own metrics and no other's.

    Args:
        repo: `NAMESPACE/NAME`, or `NAME` for a repository of the token's own user.
        metric: By which they are compared; by default `eval_loss`, else `loss`, else the one that most have.
        lower: Whether less of it is better; by default where its name ends in "loss" or "perplexity".
        plot: A file for a plot of the metric over the steps: `.png`, `.svg` or `.pdf`. Needs matplotlib.
        token: By default `HF_TOKEN`, or what `hf auth login` stored.
        endpoint: The Hub's address: by default `HF_ENDPOINT`, or huggingface.co.
        progress: Called with how many revisions are read, and of how many.

    Returns:
        By step, those without one first; branches before tags.

    Raises:
        NotFound: There is no such repository.
        InvalidInput: A plot was asked for, and no revision has a step and the metric.
        Unauthorized, Rejected, Unavailable: The Hub would not, or is away.

    ```python
    for one in perdure.revisions("me/my-model", metric="eval_loss"):
        print(one.name, one.step, one.score, "best" if one.best else "")
    ```
    """
    check_repo(repo)
    remote = Remote(endpoint_in_force(endpoint), token)
    name = remote.full_name(repo)
    found = remote.look(name)
    if found is None:
        raise NotFound(f"{remote.endpoint} has no repository {name} that this token may see.")
    branches = {branch: at for branch, at in found.branches.items() if not is_staging_branch(branch)}
    read = _read_all(remote, found.name, {*branches.values(), *found.tags.values()}, progress)
    listed = [
        replace(
            read[commit], name=ref, kind=kind, step=step_in(ref) if read[commit].step is None else read[commit].step
        )
        for kind, refs in zip(_KINDS, (branches, found.tags), strict=True)
        for ref, commit in refs.items()
    ]
    listed.sort(key=lambda one: (-1 if one.step is None else one.step, one.kind, one.name))
    compared = _compared(listed, metric, lower=lower)
    if plot is not None:
        plot_scores(compared, Path(plot), title=found.name)
    return compared


def _read_all(
    remote: Remote, repo: str, commits: Collection[str], progress: Callable[[int, int], object] | None
) -> dict[str, Revision]:
    """Commit → what is known of it; several are asked for at once."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="perdure-revisions") as pool:
        asked = [pool.submit(_read, remote, repo, commit) for commit in commits]
        read = {}
        try:
            for done in as_completed(asked):
                read[done.result().commit] = done.result()
                if progress is not None:
                    progress(len(read), len(asked))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return read


def _read(remote: Remote, repo: str, commit: str) -> Revision:
    at, found = None, Measured()
    try:
        at = _patiently(lambda: remote.committed_at(repo, commit))
        sizes = _patiently(lambda: remote.sizes(repo, list(FILES), commit))
        found = measured({
            path: _patiently(partial(remote.read, repo, path, commit))
            for path, size in sizes.items()
            if size <= FILES[path]
        })  # fmt: skip
        large = sorted(path for path, size in sizes.items() if size > FILES[path])
        if large:
            found = replace(found, problem=" ".join(filter(None, [found.problem, f"Too large: {', '.join(large)}."])))
    except Rejected as error:  # of this one alone: it may have been deleted meanwhile
        found = Measured(problem=error.message)
    return Revision(
        name=commit, kind="branch", commit=commit, committed_at=at, step=found.step, metrics=found.metrics,
        problem=found.problem,
    )  # fmt: skip


def _patiently(ask: Callable[[], _Answer]) -> _Answer:
    """Ask again where a Hub has enough of questions for a moment, as it may when there are hundreds."""
    for failures in range(1, _TRIES):
        try:
            return ask()
        except Unavailable as error:
            seconds = max(error.retry_after, 2.0 ** (failures - 2))
            if seconds > _LONGEST_WAIT:
                raise
            time.sleep(seconds)
    return ask()


def _compared(listed: Sequence[Revision], metric: str | None, *, lower: bool | None) -> tuple[Revision, ...]:
    names = Counter(name for one in listed for name in one.metrics)
    chosen = metric or next((name for name in _USUAL if name in names), None)
    chosen = chosen or next((name for name, _ in names.most_common(1)), None)
    if chosen is None:
        return tuple(listed)
    sign = -1 if (is_lower_better(chosen) if lower is None else lower) else 1
    scored = [replace(one, metric=chosen, score=one.metrics.get(chosen)) for one in listed]
    ranks = [(sign * one.score, -1 if one.step is None else one.step) for one in scored if one.score is not None]
    best = max(ranks, default=None)
    return tuple(
        replace(one, best=True)
        if one.score is not None and (sign * one.score, -1 if one.step is None else one.step) == best
        else one
        for one in scored
    )
