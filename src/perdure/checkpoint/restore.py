"""A committed checkpoint → a live State, in place: all that does not fit is told before a byte is changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from perdure.checkpoint.model import activate, active_differences, key_of
from perdure.checkpoint.reading import (
    Progress,
    read_document,
    read_tensors,
    read_verified_header,
    torch_dtypes,
)
from perdure.checkpoint.snapshot import FOLDER, KIND
from perdure.errors import Corrupt, NotFound, StateMismatch
from perdure.format.header import Header
from perdure.format.manifest import Manifest, read_manifest
from perdure.io.locks import pinned
from perdure.model.weights import unwrap
from perdure.state.apply import apply, differences, targets
from perdure.state.base import base_differences, is_frozen
from perdure.state.capture import parameter_names
from perdure.state.memory import locate, regions_of
from perdure.state.state import State
from perdure.state.tree import Tensors, decode, tensor_devices

_log = logging.getLogger("perdure")
_SHOWN = 5

Targets = dict[str, tuple[torch.Tensor, int]]


def restore_from(
    folder: Path, state: State, *, strict: bool, progress: Progress, outcome: str = "Nothing was changed."
) -> Manifest:
    """Put a checkpoint's state into the live objects of `state`.

    Args:
        strict: Refuse when anything is missing, extra or different; otherwise say so and restore what fits.
        progress: Called with the number of bytes read since the last call.
        outcome: What a refusal leaves behind, a sentence.

    Raises:
        Corrupt: A file is not what was saved; tensors may have been read into by then.
        NotFound: It is not a checkpoint, or was never committed.
        OSError: It cannot be opened.
        StateMismatch: It is not of this run; this call changed nothing.
    """
    with pinned(folder):
        manifest = read_manifest(folder)
        if manifest.kind != KIND:
            raise NotFound(f"{folder} is a saved {manifest.kind}, not a checkpoint.")
        reader = _Reader(folder, manifest, state)
        found = reader.plan()
        if found and strict:
            _refuse(folder, found, outcome)
        for difference in found:
            _log.warning("%s: %s; going on as told (strict=False)", folder, difference)
        for path, (header, into) in reader.files.items():
            read_tensors(folder / path, manifest.files[path], header, into, progress)
        reader.apply()
    return manifest


def _refuse(folder: Path, found: list[str], outcome: str) -> None:
    shown = "; ".join(found[:_SHOWN]) + (f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
    raise StateMismatch(
        f"{folder} is not of this run: {shown}. {outcome}",
        differences=tuple(found),
        hint="Resume with what was saved, or take what fits with restore(state, strict=False).",
    )


@dataclass(slots=True)
class _Component:
    component: Any
    document: Any
    tensors: Tensors


class _Reader:
    """One checkpoint against one State."""

    def __init__(self, folder: Path, manifest: Manifest, state: State) -> None:
        self.files: dict[str, tuple[Header, Targets]] = {}
        self._folder = folder
        self._manifest = manifest
        self._state = state
        self._names = parameter_names(state, unwrap)
        self._ready: dict[str, _Component] = {}
        self._active: list[str] = []

    def plan(self) -> list[str]:
        """Decide what is read into where; returns what does not fit."""
        saved = {
            PurePosixPath(path).stem: path
            for path in self._manifest.files
            if path.startswith(f"{FOLDER}/") and path.endswith(".json")
        }
        components = self._state.components
        found = [f"the checkpoint has no {name}" for name in components if name not in saved]
        found += [f"the checkpoint has {name}, and State has not" for name in saved if name not in components]
        for name, component in components.items():
            if name in saved:
                document = read_document(self._folder, self._manifest, saved[name])
                try:
                    found += self._plan_one(name, component, document["type"], document["state"])
                except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
                    path = self._folder / saved[name]
                    raise Corrupt(f"{path} does not describe a {name}: {error!r}.", path=path) from error
        return found

    def apply(self) -> None:
        """Have every component take what was read; the generators are last, since others may draw."""
        if self._active:
            activate(unwrap(self._state.components["model"]), self._active)
        for name, one in self._ready.items():
            apply(name, one.component, one.document, one.tensors, self._names)

    def _plan_one(self, name: str, component: Any, type_: str, document: Any) -> list[str]:
        beside = f"{FOLDER}/{name}.safetensors"
        headers = {beside: self._header(beside)} if beside in self._manifest.files else {}
        if isinstance(component, torch.nn.Module):
            if name == "model":
                headers.update({path: self._header(path) for path in self._model_files()})
            return self._plan_module(name, unwrap(component), document, headers)
        found = differences(name, component, type_, document, self._names)
        devices = tensor_devices(document)
        shapes = {key: value for header in headers.values() for key, value in _shapes(header).items()}
        if set(devices) != set(shapes):
            raise ValueError("its tensors are not those of the file beside it")
        if found:
            return found
        into = targets(component, shapes, devices, self._names)
        for path, header in headers.items():
            self.files[path] = header, {key: (into[key], 0) for key in header.tensors}
        decode(document, lambda key, device: into[key])  # whatever is wrong with it, before anything is changed
        self._ready[name] = _Component(component, document, into)
        return []

    def _plan_module(
        self, name: str, module: torch.nn.Module, document: Any, headers: Mapping[str, Header]
    ) -> list[str]:
        regions = regions_of(module)
        unused = set(document["unused"])
        keys = {
            _key(path, tensor): (path, tensor, shape)
            for path, header in headers.items()
            for tensor, shape in _shapes(header).items()
            if _key(path, tensor) not in unused
        }
        beside = {key: [tensor] for key, (path, tensor, _) in keys.items() if path.startswith(f"{FOLDER}/")}
        shapes = {key: shape for key, (_, _, shape) in keys.items()}
        located, found = locate(regions, shapes, {**document["places"], **beside})
        base = document.get("base")
        found += [
            f"{' and '.join(region.names)} is not in the checkpoint"
            for region in regions
            if region.covered < region.nbytes and (base is None or not is_frozen(region))
        ]
        if base is not None:
            found += base_differences(module, regions, base)
            found += (missing := active_differences(module, document["active"]))
            self._active = [] if missing else document["active"]
        into: dict[str, Targets] = {path: {} for path in headers}
        for key, target in located.items():
            path, tensor, _ = keys[key]
            into[path][tensor] = target
        self.files.update({path: (headers[path], targets_) for path, targets_ in into.items()})
        return [f"{name}: {difference}" for difference in found]

    def _model_files(self) -> list[str]:
        return [
            path for path, entry in self._manifest.files.items() if entry.tensors and not path.startswith(f"{FOLDER}/")
        ]

    def _header(self, path: str) -> Header:
        return read_verified_header(self._folder, self._manifest, path)


def _key(path: str, tensor: str) -> str:
    return key_of(path, tensor)  # of what was saved beside the model's files, the folder's name is part of it


def _shapes(header: Header) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    dtypes = torch_dtypes()
    return {name: (dtypes[info.dtype], info.shape) for name, info in header.tensors.items()}
