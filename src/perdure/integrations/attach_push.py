"""Where the checkpoints of an attached trainer are pushed: as `attach` was told, or as the trainer's arguments say."""

from __future__ import annotations

import atexit
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from perdure.checkpoint.records import SaveRecord
from perdure.errors import CheckFailed, InvalidInput, PerdureError, Unauthorized
from perdure.folder.paths import resolve
from perdure.format.manifest import read_manifest
from perdure.format.names import OUTBOX
from perdure.io.durable import make_folders
from perdure.model.configs import write_transformers_configs
from perdure.model.kind import kind_of
from perdure.model.tokenizer import write_tokenizer
from perdure.publishing.after import words
from perdure.publishing.evaluate import what_is_missing
from perdure.publishing.job import Job, outbox_command
from perdure.publishing.outbox import Outbox
from perdure.publishing.receipt import Receipt
from perdure.publishing.remote import Remote
from perdure.publishing.secrets import scan
from perdure.publishing.target import MAIN, Target, endpoint_in_force

After = str | Callable[[Receipt], object]

_log = logging.getLogger("perdure")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A branch to which checkpoints go, or for each of them one of its own.

    Attributes:
        branch: Its name; for `each`, how the names begin.
        each: Every checkpoint is a branch, which begins at the repository's first commit.
        folder: Where in the branch, with `{step}` for the step; by default at its root.
        training_state: With what only resuming needs.
        is_followed: What the caller wants to follow a push follows this one.
    """

    branch: str
    each: bool = False
    folder: str = ""
    training_state: bool = False
    is_followed: bool = False

    def revision(self, step: int) -> str:
        """The branch that the checkpoint of a step goes to.

        >>> Route(branch="main", each=True).revision(200)
        'main-step-000000200'
        """
        return f"{self.branch}-step-{step:09d}" if self.each else self.branch

    def path_in_repo(self, step: int) -> str:
        """The folder of the branch that the checkpoint of a step goes to.

        >>> Route(branch="main", folder="checkpoint-{step}").path_in_repo(200)
        'checkpoint-200'
        """
        return self.folder.format(step=step)


def routes_of(args: Any, *, is_told: bool, revisions: bool, training_state: bool) -> tuple[Route, ...]:
    """Where every checkpoint goes; a trainer's `hub_strategy` counts where `attach` is not told what to push.

    Args:
        is_told: `attach` was given `push_to`, and `revisions` and `training_state` with it.
    """
    branch = args.hub_revision or MAIN
    if is_told:
        return (Route(branch=branch, each=revisions, training_state=training_state, is_followed=True),)
    if not args.push_to_hub:
        return ()
    every = Route(branch=branch, is_followed=True)
    strategies = {
        "end": (),
        "every_save": (every,),
        "checkpoint": (every, Route(branch=branch, folder="last-checkpoint", training_state=True)),
        "all_checkpoints": (every, Route(branch=branch, folder="checkpoint-{step}", training_state=True)),
    }
    return strategies[str(getattr(args.hub_strategy, "value", args.hub_strategy))]


class CheckpointPushes:
    """Writes every checkpoint that is committed down in the outbox of `output_dir`, whose worker pushes meanwhile.

    Only the main process has one.

    Attributes:
        outbox: The outbox.
    """

    def __init__(self, trainer: Any, repo: str, routes: tuple[Route, ...], *, after: After | None, skips: bool) -> None:
        self._repo = repo
        self._routes = routes
        self._after = after
        self._skips = skips
        self._private: bool | None = trainer.args.hub_private_repo
        self._endpoint = endpoint_in_force(None)
        self._told: set[str] = set()
        self.outbox = Outbox(trainer.args.output_dir, token=trainer.args.hub_token)

    @classmethod
    def wanted(
        cls, trainer: Any, *, push_to: str | None, revisions: bool, training_state: bool, after: After | None
    ) -> CheckpointPushes | None:
        """What is to be pushed while the trainer trains; None for nothing, and on all processes but the main one.

        Raises:
            InvalidInput: A name is wrong, or something is to follow where nothing is pushed.
            CheckFailed: What lies beside the weights must not leave the machine, so no push would come to pass.
        """
        args = trainer.args
        routes = routes_of(args, is_told=push_to is not None, revisions=revisions, training_state=training_state)
        if after is not None and not routes:
            raise InvalidInput(
                "after_push= is to follow pushes of checkpoints, and there are none.", hint='Say push_to="me/my-model".'
            )
        for name, value in (("revisions", revisions), ("training_state", training_state)):
            if not isinstance(value, bool):
                raise InvalidInput(f"{name}={value!r} is neither True nor False.")
        if training_state and push_to is None:
            raise InvalidInput(
                "training_state=True is said of what push_to= pushes, and there is none.",
                hint='Say push_to="me/my-model".',
            )
        if after is not None and not isinstance(after, str) and not callable(after):
            raise InvalidInput(f"after_push={after!r} is neither a command line nor a callable.")
        command = words(after) if isinstance(after, str) else None
        if not routes:
            return None
        repo = push_to if push_to is not None else _repo_of(trainer)
        for route in routes:
            Target(repo=repo, revision=route.revision(1), endpoint=endpoint_in_force(None))
        if not trainer.is_world_process_zero():
            return None
        _check_configs(trainer)
        if command is not None and (missing := what_is_missing(command)):
            _log.warning("after_push=%r cannot be run on this machine: %s", after, missing)
        made = cls(trainer, repo, routes, after=after, skips=push_to is None and not args.hub_always_push)
        made._check_token(args.hub_token)
        return made

    def begin(self, restored: Path | None) -> None:
        """Training begins: push what waits from now on.

        Args:
            restored: The checkpoint that it goes on from. The run may have been killed before it wrote the push down.
        """
        place = self.outbox.run / OUTBOX
        is_known = place.is_dir()  # otherwise it is of another run, or of one that pushed nothing
        self._attempt(place, lambda: make_folders(place))
        self._attempt(place, self._watch)
        self._attempt(place, self.outbox.start)
        if restored is not None and is_known and restored.parent == self.outbox.run:
            self._attempt(restored, lambda: self._add(restored, once=True))

    def committed(self, record: SaveRecord) -> None:
        """A checkpoint is in place; on the thread that wrote it, so that training is not kept waiting."""
        self._attempt(record.path, lambda: self._add(record.path))

    def tell_what_is_left(self) -> None:
        """Training is over, and not all is pushed: say so, and again when the process ends, unless `finish` comes."""
        self.settled()
        atexit.register(self._tell_at_exit)
        if left := self._left():
            _log.info(
                "%d pushes to %s are still to be done, in the background, until this process ends. To wait for them: "
                "perdure.finish(trainer, wait=...); those that are left then: %s",
                left, self._repo, outbox_command(self.outbox.run, "drain"),
            )  # fmt: skip

    def settled(self) -> None:
        """What is left was told by `finish`."""
        atexit.unregister(self._tell_at_exit)

    def _tell_at_exit(self) -> None:
        self._attempt(self.outbox.run, self.outbox.stop)
        if left := self._left():
            drain = outbox_command(self.outbox.run, "drain")
            _log.warning("Still to be pushed to %s, in the outbox: %d. Push with: %s", self._repo, left, drain)

    def _left(self) -> int:
        try:
            return sum(job.pending for job in self.outbox.jobs())
        except PerdureError as error:
            _log.warning("%s %s", error.message, error.hint)
            return 0

    def _watch(self) -> None:
        for route in self._routes:
            if not route.each:
                self.outbox.watch(self._repo, revision=route.branch, endpoint=self._endpoint)

    def _add(self, path: Path, *, once: bool = False) -> None:
        jobs = self.outbox.jobs() if self._skips or once else ()
        manifest = read_manifest(path)
        assert manifest.step is not None, "a checkpoint"
        known = {(job.revision, job.path_in_repo, job.step) for job in jobs if once}
        for route in self._routes:
            revision, folder = route.revision(manifest.step), route.path_in_repo(manifest.step)
            if (revision, folder, manifest.step) not in known:
                message = f"Training in progress, step {manifest.step}{', checkpoint' if folder else ''}"
                self.outbox.add(
                    path, self._repo, revision=revision, path_in_repo=folder, private=self._private,
                    endpoint=self._endpoint, message=message, start="first" if route.each else None,
                    training_state=route.training_state, after=self._after if route.is_followed else None,
                    metrics={name: value for name, value in manifest.metrics.items() if math.isfinite(value)},
                    step=manifest.step,
                )  # fmt: skip
                if self._skips:
                    self._pass_over(jobs, (self._repo, revision, folder), manifest.step)

    def _pass_over(self, jobs: Sequence[Job], place: tuple[str, str, str], step: int) -> None:
        """Give up what waits to be pushed to the same place, as the Trainer does unless hub_always_push is set."""
        for job in jobs:
            # One that was tried may be a commit already, whose answer was lost.
            is_new = job.state == "queued" and not job.tries
            is_older = job.step is not None and job.step < step and place == (job.repo, job.revision, job.path_in_repo)
            if is_new and is_older:
                with suppress(InvalidInput):  # a worker has taken it on just now
                    self.outbox.cancel(job.id)
                    self._warn_once(
                        "passed over", "%s is not pushed to %s: before its turn came there was a newer one. To push "
                        "every checkpoint, say hub_always_push=True.", job.folder, self._repo,
                    )  # fmt: skip

    def _attempt(self, path: Path, work: Callable[[], object]) -> None:
        """Do what must not cost the training; what goes wrong is told, once for all checkpoints."""
        try:
            work()
        except (PerdureError, OSError) as error:
            words, hint = (error.message, error.hint) if isinstance(error, PerdureError) else (str(error), "")
            about = words.replace(str(path), "")
            self._warn_once(about, "%s is not queued for %s: %s %s", path, self._repo, words, hint)

    def _warn_once(self, about: str, message: str, *values: object) -> None:
        level = logging.INFO if about in self._told else logging.WARNING
        self._told.add(about)
        _log.log(level, message, *values)

    def _check_token(self, token: str | None) -> None:
        try:
            Remote(self._endpoint, token)
        except Unauthorized as error:
            _log.warning(
                "Checkpoints are queued in %s, but not pushed. %s Set HF_TOKEN, log in with `hf auth login`, or say "
                "hub_token in the trainer's arguments.",
                self.outbox.run, error.message,
            )  # fmt: skip


def _repo_of(trainer: Any) -> str:
    """The repository that the trainer's arguments name; the trainer's own attribute has the namespace, too."""
    named = getattr(trainer, "hub_model_id", None) or trainer.args.hub_model_id
    return str(named or resolve(Path(trainer.args.output_dir)).name)


def _check_configs(trainer: Any) -> None:
    """Refuse what would keep every checkpoint here: the scan before a push reads what lies beside the weights.

    Raises:
        CheckFailed: Something is found.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    collator = getattr(trainer.data_collator, "tokenizer", None)
    tokenizer = trainer.processing_class or collator
    with TemporaryDirectory() as place:
        folder = Path(place) / "model"
        folder.mkdir()
        if kind_of(model) == "model":
            write_transformers_configs(model, folder, tokenizer)
        if tokenizer is not None:
            write_tokenizer(tokenizer, folder)
        found = scan({path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()})
    if found:
        raise CheckFailed(
            "No checkpoint could be pushed, since each would hold what must not leave the machine unnoticed:\n  "
            + "\n  ".join(map(str, found)),
            findings=tuple(finding.id for finding in found),
            hint="Take it out of model.config or of the tokenizer; or attach without push_to, and push what is meant "
            "to be read with: perdure push FOLDER REPO " + " ".join(f"--allow {finding.id}" for finding in found),
        )
