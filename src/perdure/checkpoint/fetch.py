"""A checkpoint that was pushed to a Hub becomes one of this run's, so that another machine goes on from it.

It is put where the run's own are. So what reads, verifies, lists and rotates those does so with it, and a run that is
interrupted before its first save finds it again without a download.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TypeGuard

from perdure.checkpoint import catalog
from perdure.checkpoint.snapshot import FOLDER, KIND
from perdure.distributed.group import Group
from perdure.errors import InvalidInput, StateMismatch
from perdure.publishing.pull import bring, going_on
from perdure.publishing.snapshot import Snapshot, look
from perdure.publishing.source import SCHEME, Source
from perdure.publishing.target import endpoint_words


def is_on_hub(source: object) -> TypeGuard[str]:
    """Whether this names a revision on a Hub, `hf://NAMESPACE/NAME@REVISION`, rather than a folder."""
    return isinstance(source, str) and source.startswith(SCHEME)


def fetch(run: Path, source: object, group: Group, *, step: int | None = None) -> int:
    """Download the checkpoint that a revision holds into the run's folder, as its own; returns of which step it is.

    Every rank makes this call; rank 0 downloads. What is there already is not downloaded again.

    Args:
        step: What was asked for besides; a revision holds one step, so there can be nothing.

    Raises:
        InvalidInput: `source` names no revision on a Hub.
        StateMismatch: It holds no checkpoint that a run can go on from.
        AlreadyExists: The run has another checkpoint of this step.
        PerdureError: As `pull` raises them. Nothing was changed.
    """
    if not is_on_hub(source) or step is not None:
        raise InvalidInput(
            f"There is nothing to restore in {source!r}{'' if step is None else f' with step={step}'}. "
            "Nothing was changed.",
            hint="From a Hub: restore(state, 'hf://me/model@revision'). Of this folder: restore(state, step=200)",
        )
    return group.agree(lambda: _bring(run, source) if group.rank == 0 else 0)[0]


def _bring(run: Path, source: str) -> int:
    with going_on("The same call goes on with it."):
        snapshot = look(Source.of(source))
        step = _step_of(snapshot)
        bring(snapshot, catalog.path_of(run, step), replaces=False)
    return step


def _step_of(snapshot: Snapshot) -> int:
    manifest = snapshot.manifest
    if manifest is None or manifest.kind != KIND or manifest.step is None:
        raise StateMismatch(
            f"{snapshot} holds a model, not a checkpoint of a run. Nothing was changed.",
            hint=f"Push a checkpoint, with what resuming needs: {_push_command(snapshot, 'RUN/checkpoint-N', 'NAME')}",
        )
    if not any(path.startswith(f"{FOLDER}/") for path in manifest.files):
        again = _push_command(snapshot, f"RUN/checkpoint-{manifest.step}", snapshot.source.revision)
        raise StateMismatch(
            f"{snapshot} holds the model of step {manifest.step}, and nothing that resuming needs: it was pushed "
            "without its training state. Nothing was changed.",
            hint=f"Push it again from where it was saved, with training_state=True: {again}",
        )
    return manifest.step


def _push_command(snapshot: Snapshot, folder: str, revision: str) -> str:
    source = snapshot.source
    words = ["perdure", "push", folder, snapshot.repo, "--revision", revision]
    words += ["--path-in-repo", source.path_in_repo] if source.path_in_repo else []
    return shlex.join([*words, "--training-state", *endpoint_words(source.endpoint)])
