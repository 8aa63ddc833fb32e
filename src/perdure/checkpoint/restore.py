"""A committed checkpoint → a live State, in place: all that does not fit is told before a byte is changed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch

from perdure.checkpoint import ranks
from perdure.checkpoint.model import activate, active_differences, key_of, other_kind
from perdure.checkpoint.reading import Progress, read_document, read_tensors, read_verified_header
from perdure.checkpoint.snapshot import FOLDER, KIND
from perdure.distributed.group import Group
from perdure.errors import Corrupt, NotFound, PerdureError, StateMismatch, UnsupportedFormat
from perdure.format.header import Header
from perdure.format.manifest import Manifest, read_manifest
from perdure.io.digest import as_text, digest_bytes
from perdure.io.locks import pinned
from perdure.model.tensors import torch_dtype
from perdure.model.weights import unwrap
from perdure.state.apply import Comparable, apply, differences, left_out, targets
from perdure.state.base import base_differences, base_in
from perdure.state.buckets import restore_order
from perdure.state.capture import parameter_names
from perdure.state.extra import extra_differences, put_extra
from perdure.state.memory import locate, regions_of
from perdure.state.state import RNG, State
from perdure.state.tree import Tensors, decode, tensor_devices

_log = logging.getLogger("perdure")
_SHOWN = 5

Targets = dict[str, tuple[torch.Tensor, int]]


def restore_from(
    folder: Path,
    state: State,
    group: Group,
    *,
    strict: bool,
    progress: Progress,
    outcome: str = "Nothing was changed.",
) -> Manifest:
    """Put a checkpoint's state into the live objects of `state`; on every rank, or on none.

    Args:
        strict: Refuse when anything is missing, extra or different; otherwise say so and restore what fits.
        progress: Called with the number of bytes read since the last call.
        outcome: How the message of a refusal ends.

    Raises:
        Corrupt: A file is not what was saved, or cannot be read; tensors may have been read into by then.
        NotFound: It is not a checkpoint, or was never committed.
        StateMismatch: It is not of this run. This call changed nothing, unless the message says what.
        UnsupportedFormat: A newer perdure wrote it, or this PyTorch has no such dtype.
    """
    with ExitStack() as held:
        readers: list[_Reader] = []

        def plan() -> str:
            try:
                held.enter_context(pinned(folder))
                readers.append(_planned(folder, state, group, strict, outcome))
            except PerdureError:
                raise
            except OSError as error:
                raise Corrupt(f"{folder} cannot be read: {error.strerror}.", path=folder) from error
            return as_text(digest_bytes(readers[0].manifest.encode()))

        if len(set(group.agree(plan))) > 1:
            raise Corrupt(f"{folder} was replaced while it was read.", path=folder)
        group.agree(lambda: readers[0].read(progress))
        group.agree(readers[0].apply)
        return readers[0].manifest


def _planned(folder: Path, state: State, group: Group, strict: bool, outcome: str) -> _Reader:
    manifest = read_manifest(folder)
    if manifest.kind != KIND:
        raise NotFound(f"{folder} is a saved {manifest.kind}, not a checkpoint.")
    reader = _Reader(folder, manifest, state, group)
    found = reader.plan()
    if found and strict:
        _refuse(folder, found, outcome, reader.world_size if reader.world_size != group.size else None)
    tell_passed_over(folder, [*found, *(f"nothing is taken of {name}, which begins anew" for name in reader.left)])
    return reader


def tell_passed_over(folder: Path, differences: Iterable[str]) -> None:
    """Say what of a checkpoint does not fit and is passed over, as `strict=False` wants it."""
    for difference in differences:
        _log.warning("%s: %s; going on as told (strict=False)", folder, difference)


def _refuse(folder: Path, found: list[str], outcome: str, other_world: int | None) -> None:
    shown = "; ".join(found[:_SHOWN]) + (f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
    usual = "Resume with what was saved, or take what fits with restore(state, strict=False)."
    raise StateMismatch(
        f"{folder} is not of this run: {shown}. {outcome}",
        differences=tuple(found),
        hint=usual if other_world is None else _going_on(other_world),
    )


def _other_world(saved: int, here: int) -> str:
    return f"it was saved by {_processes(saved)}, and {'there is' if here == 1 else 'there are'} {here} here"


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


def _going_on(saved: int) -> str:
    how = f"under torchrun --nproc-per-node={saved} (or as many over several machines)" if saved > 1 else "by itself"
    return (
        f"Start the run {how}, or go on regardless with restore(state, strict=False): model and optimizer are "
        "taken, random generators and the place in the data are not."
    )


def _enumerated(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


@dataclass(slots=True)
class _Component:
    component: Any
    document: Any
    tensors: Tensors


class _Reader:
    """One checkpoint against one State."""

    def __init__(self, folder: Path, manifest: Manifest, state: State, group: Group) -> None:
        self.manifest = manifest
        self.world_size = ranks.world_size(manifest.files)
        self.left: list[str] = []  # components that begin anew, since theirs differs
        self._files: dict[str, tuple[Header, Targets]] = {}
        self._folder = folder
        self._state = state
        self._group = group
        self._names = parameter_names(state, unwrap)
        self._ready: dict[str, _Component] = {}
        self._active: list[str] = []
        self._modules: list[tuple[torch.nn.Module, Any]] = []
        self._extra: list[tuple[str, torch.nn.Module, Any, Tensors]] = []

    def plan(self) -> list[str]:
        """Decide what is read into where; returns what does not fit."""
        same_world = self.world_size == self._group.size
        saved = ranks.of_rank(self.manifest.files, self._group.rank if same_world else 0)
        components = self._state.components
        found = [] if same_world else [_other_world(self.world_size, self._group.size)]
        found += [f"the checkpoint has no {name}" for name in components if name not in saved]
        found += [f"the checkpoint has {name}, and State has not" for name in saved if name not in components]
        for name, component in components.items():
            if name in saved and (same_world or not (name == RNG or ranks.is_of_rank(component))):
                document = read_document(self._folder, self.manifest, saved[name])
                try:
                    found += self._plan_one(name, component, saved[name], document["type"], document["state"])
                except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
                    path = self._folder / saved[name]
                    raise Corrupt(f"{path} does not describe a {name}: {error!r}.", path=path) from error
        return found

    def read(self, progress: Progress) -> None:
        """Read tensors into live memory, verified."""
        for path, (header, into) in self._files.items():
            read_tensors(self._folder / path, self.manifest.files[path], header, into, progress)

    def apply(self) -> None:
        """Have every component take what was read; the generators are last, since others may draw.

        Raises:
            StateMismatch: One refused; the message says what was changed by then.
        """
        name = ""
        try:
            for name, module, document, tensors in self._extra:
                put_extra(name, module, document, tensors)
            if self._active:
                activate(unwrap(self._state.components["model"]), self._active)
            for name, one in self._ready.items():
                apply(name, one.component, one.document, one.tensors, self._names)
        except StateMismatch as error:
            raise StateMismatch(f"{error.message} {self._changed_before(name)}", hint=error.hint) from error
        for wrapped, about in self._modules:
            restore_order(wrapped, about)

    def _changed_before(self, refusing: str) -> str:
        before = takewhile(lambda name: name != refusing, self._ready if refusing in self._ready else ())
        read = (name for name, _ in (*self._state.modules(), *self._state.optimizers()))
        taken = {*before, *read}.difference([refusing])
        changed = [name for name in self._state.components if name in taken]
        if not changed:
            return f"Nothing else was changed; {refusing} may have taken a part of it."
        were = "was" if len(changed) == 1 else "were"
        return (
            f"By then {_enumerated(changed)} {were} changed, wholly or in part, and {refusing} may be, too: "
            "make them anew before you go on."
        )

    def _plan_one(self, name: str, component: Any, path: str, type_: str, document: Any) -> list[str]:
        beside = f"{path.removesuffix('.json')}.safetensors"
        headers = {beside: self._header(beside)} if beside in self.manifest.files else {}
        if isinstance(component, torch.nn.Module):
            if name == "model":
                if other := other_kind(component, has_adapters="base" in document):
                    return [other]
                headers.update({path: self._header(path) for path in self._model_files()})
            self._modules.append((component, document))
            return self._plan_module(name, unwrap(component), document, headers)
        found = differences(name, component, type_, document, self._names)
        devices = tensor_devices(document)
        shapes = {key: value for header in headers.values() for key, value in _shapes(header).items()}
        if set(devices) != set(shapes):
            raise ValueError("its tensors are not those of the file beside it")
        if found:
            self.left += [] if isinstance(component, Comparable) else [name]  # which are there to be compared
            return found
        into = targets(component, shapes, devices, self._names)
        for file, header in headers.items():
            self._files[file] = header, {key: (into[key], 0) for key in header.tensors}
        decode(document, lambda key, device: into[key])  # whatever is wrong with it, before anything is changed
        self._ready[name] = _Component(component, document, into)
        return left_out(name, component, document, self._names)

    def _plan_module(
        self, name: str, module: torch.nn.Module, document: Any, headers: Mapping[str, Header]
    ) -> list[str]:
        regions = regions_of(module)
        extra = document.get("extra", {})
        own = {path: _extra_targets(extra, header) for path, header in headers.items() if path.startswith(f"{FOLDER}/")}
        tensors = {key: target for targets_ in own.values() for key, (target, _) in targets_.items()}
        if set(tensor_devices(extra)) != set(tensors):
            raise ValueError("its tensors are not those of the file beside it")
        unused = {*document["unused"], *(key_of(path, key) for path, targets_ in own.items() for key in targets_)}
        keys = {
            key_of(path, tensor): (path, tensor, shape)
            for path, header in headers.items()
            for tensor, shape in _shapes(header).items()
            if key_of(path, tensor) not in unused
        }
        beside = {key: [tensor] for key, (path, tensor, _) in keys.items() if path.startswith(f"{FOLDER}/")}
        shapes = {key: shape for key, (_, _, shape) in keys.items()}
        located, found = locate(regions, shapes, {**document["places"], **beside})
        base = document.get("base")
        of_base = {region.names[0] for region in base_in(regions)} if base is not None else set()
        found += [
            f"{' and '.join(region.names)} is not in the checkpoint"
            for region in regions
            if region.covered < region.nbytes and region.names[0] not in of_base
        ]
        if base is not None:
            found += base_differences(module, regions, base)
            found += (missing := active_differences(module, document["active"]))
            self._active = [] if missing else document["active"]
        found += extra_differences(module, extra)
        if extra:
            self._extra.append((name, module, extra, tensors))
        into: dict[str, Targets] = {path: own.get(path, {}) for path in headers}
        for key, target in located.items():
            path, tensor, _ = keys[key]
            into[path][tensor] = target
        self._files.update({path: (headers[path], targets_) for path, targets_ in into.items()})
        return [f"{name}: {difference}" for difference in found]

    def _model_files(self) -> list[str]:
        return [
            path for path, entry in self.manifest.files.items() if entry.tensors and not path.startswith(f"{FOLDER}/")
        ]

    def _header(self, path: str) -> Header:
        return read_verified_header(self._folder, self.manifest, path)


def _extra_targets(document: Any, header: Header) -> Targets:
    wanted = tensor_devices(document)
    return {
        key: (torch.empty(shape, dtype=dtype), 0) for key, (dtype, shape) in _shapes(header).items() if key in wanted
    }


def _shapes(header: Header) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    return {name: (_dtype(name, info.dtype), info.shape) for name, info in header.tensors.items()}


def _dtype(name: str, stored: str) -> torch.dtype:
    if (dtype := torch_dtype(stored)) is None:
        raise UnsupportedFormat(f"{name} has dtype {stored}, which this PyTorch does not have.")
    return dtype
