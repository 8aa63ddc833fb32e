"""State → Snapshot → files: what a checkpoint is to hold, fixed at once and written later."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from perdure.checkpoint.model import FORMAT, ModelFiles, files_of, ownership
from perdure.errors import InvalidInput
from perdure.folder import stage
from perdure.format.header import Header, lay_out
from perdure.format.manifest import Manifest
from perdure.format.names import MANIFEST, TRAINING_STATE, check_name, holds_weights, is_read_by_loaders
from perdure.io.direct import Extent
from perdure.model.tensors import check_dense, check_storable, dtype_name
from perdure.model.weights import unwrap
from perdure.state.buckets import order_of
from perdure.state.capture import Part, capture, capture_module, parameter_names
from perdure.state.staging import Staging
from perdure.state.state import State

FOLDER = TRAINING_STATE
KIND = "checkpoint"
WRITER_BUDGET = 16 * 2**20  # bytes of slabs


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Which moment of training a checkpoint is of."""

    step: int
    epoch: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def moment_of(step: int, epoch: float | None, metrics: Mapping[str, float] | None) -> Moment:
    """A moment as a training loop tells it.

    Raises:
        InvalidInput: One of these is not what it should be.
    """
    try:
        count = operator.index(step)
        values = {str(name): float(value) for name, value in (metrics or {}).items()}
        passed = None if epoch is None else float(epoch)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"step, epoch and metrics are numbers: {error}; nothing was written.") from error
    if not 0 <= count < 10**18:
        raise InvalidInput(f"step={count} cannot be; nothing was written.", hint="Steps done are counted from 0.")
    if passed is not None and not 0 <= passed < 2**63:
        raise InvalidInput(f"epoch={passed} cannot be; nothing was written.", hint="Epochs done are counted from 0.")
    return Moment(step=count, epoch=passed, metrics=values)


@dataclass(frozen=True, slots=True)
class TensorFile:
    """One safetensors file: the bytes that begin it, what they say, and where each tensor's bytes come from."""

    head: bytes
    header: Header
    extents: Mapping[str, Extent]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A checkpoint as it is to be written; whatever of it training may change soon, `staging` looks after.

    Attributes:
        tensors: Path → file.
        parts: Path without ending → part.
        files: Path → content, of what else is to stand beside the model.
    """

    moment: Moment
    staging: Staging
    tensors: Mapping[str, TensorFile]
    parts: Mapping[str, Part]
    model: ModelFiles | None
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensor files."""
        return sum(file.header.size for file in self.tensors.values())


def check_state(state: object) -> State:
    """Refuse what is no `State`, most likely a model.

    Raises:
        InvalidInput: It is none.
    """
    if not isinstance(state, State):
        raise InvalidInput(
            f"A checkpoint is of a State, not of a {type(state).__name__}; nothing was done.",
            hint="Name all that the run consists of: perdure.State(model=model, optimizer=optimizer, …)",
        )
    return state


def check_modules(state: State) -> None:
    """Refuse a state of modules with tensors whose values are not one run of memory.

    Raises:
        InvalidInput: One is nested or sparse.
    """
    for component, module in state.modules():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            check_dense(f"{component}.{name}", tensor)


def take(
    state: State, moment: Moment, staging: Staging, tokenizer: Any = None, files: Mapping[str, bytes] | None = None
) -> Snapshot:
    """Fix what a checkpoint is to hold.

    Raises:
        InvalidInput: Something in the state cannot be expressed without pickle, or cannot be saved; it is named.
    """
    tensors: dict[str, TensorFile] = {}
    parts: dict[str, Part] = {}
    check_modules(state)
    names = parameter_names(state, unwrap)
    model: ModelFiles | None = None
    for name, component in state.components.items():
        if not isinstance(component, torch.nn.Module):
            part = capture(name, component, names)
        elif name == "model":
            module = unwrap(component)
            model = files_of(module, tokenizer)
            about = {**model.about, **order_of(component)}
            part = capture_module(name, module, model.kind, model.by_key(), about)
            owner = ownership(module)
            for path, own in model.weights.items():
                tensors[path] = _weights_file(own, model.metadata, staging, owner)
        else:
            part = capture_module(name, unwrap(component), "state", {}, order_of(component))
        parts[f"{FOLDER}/{name}"] = part
        if part.live or part.copied:
            tensors[f"{FOLDER}/{name}.safetensors"] = _part_file(part, staging)
    beside = _beside(files or {}, {*tensors, *(model.small if model is not None else ())})
    return Snapshot(moment=moment, staging=staging, tensors=tensors, parts=parts, model=model, files=beside)


def _beside(files: Mapping[str, bytes], taken: set[str]) -> dict[str, bytes]:
    """Files that a caller wants to stand beside the model, under names that are free."""
    for path in files:
        try:
            check_name(path)
        except ValueError as error:
            raise InvalidInput(f"files: {error}; nothing was written.") from None
        if path in taken or path == MANIFEST or path.startswith(f"{FOLDER}/") or holds_weights(path):
            raise InvalidInput(
                f"files: {path} is the checkpoint's own; nothing was written.", hint="Name it otherwise."
            )
    return dict(files)


def with_parts(snapshot: Snapshot, parts: Mapping[str, Part]) -> Snapshot:
    """The snapshot with what other ranks handed in: path without ending → part."""
    files = {f"{path}.safetensors": _part_file(part, snapshot.staging) for path, part in parts.items() if part.copied}
    return replace(snapshot, tensors={**snapshot.tensors, **files}, parts={**snapshot.parts, **parts})


def _weights_file(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], staging: Staging, owner: Any
) -> TensorFile:
    own = {name: owner(tensor) for name, tensor in tensors.items()}
    # A forward pass changes buffers, so they are copied now; what nobody owns was made for us.
    held = {name: tensor.detach().clone() if own[name] == "buffer" else tensor for name, tensor in tensors.items()}
    live = {name for name, whose in own.items() if whose == "parameter"}
    return _file(held, live, metadata, staging)


def _part_file(part: Part, staging: Staging) -> TensorFile:
    tensors = {**part.live, **part.copied}
    try:
        check_storable(tensors)
    except InvalidInput as error:
        raise InvalidInput(f"{part.name}: {error.message}", hint=error.hint) from None
    return _file(tensors, set(part.live), FORMAT, staging)


def _file(
    tensors: Mapping[str, torch.Tensor], live: set[str], metadata: Mapping[str, str], staging: Staging
) -> TensorFile:
    shapes = ((name, dtype_name(name, tensor), tuple(tensor.shape)) for name, tensor in tensors.items())
    head, header = lay_out(shapes, metadata)
    # In the order of the file: what is written last is what leaves its live tensor first when time runs out.
    extents = {name: staging.extent(name, tensors[name], live=name in live) for name in header.tensors}
    return TensorFile(head, header, extents)


def write(
    snapshot: Snapshot, folder: Path, *, memory: int = WRITER_BUDGET, threads: int | None = None
) -> tuple[Manifest, list[str]]:
    """Write a snapshot into `folder`, make it durable, and put it in place at once.

    Args:
        memory: Bytes for slabs.
        threads: How many move bytes, as for `perdure.io.direct.write`.

    Returns:
        The manifest, and what is worth telling the user.

    Raises:
        SaveFailed: The system refused, or the state was changed meanwhile; what was in `folder` before is whole.
    """
    with stage(folder) as staged:
        (staged.path / FOLDER).mkdir()
        for path, file in snapshot.tensors.items():
            (staged.path / path).parent.mkdir(parents=True, exist_ok=True)
            staged.write_extents(path, file.head, file.header, file.extents, budget=memory, threads=threads)
        for path, part in snapshot.parts.items():
            document = {"type": part.type, "state": part.document}
            staged.write(f"{path}.json", json.dumps(document, allow_nan=False).encode())
        told = [warning for part in snapshot.parts.values() for warning in part.warnings]
        if snapshot.model is not None:
            for path, data in snapshot.model.small.items():
                staged.write(path, data)
            told += snapshot.model.finish(staged)
        for path, data in snapshot.files.items():
            staged.write(path, data)
        snapshot.staging.check()
        moment = snapshot.moment
        manifest = staged.commit(KIND, stale=_stale, step=moment.step, epoch=moment.epoch, metrics=moment.metrics)
    return manifest, told


def _stale(name: str) -> bool:
    return name.startswith(f"{FOLDER}/") or is_read_by_loaders(name)
