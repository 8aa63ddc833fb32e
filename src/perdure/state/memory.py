"""Which saved tensor is which piece of a live module's memory.

What a model's file holds need not have the live parameters' names: ties are written once, an adapter's or a fused
expert's names are those that its readers expect. So a checkpoint records where in live memory each saved tensor
belongs, and what no saved tensor covers is saved beside it. Reading back is then a copy to those places.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch


@dataclass(slots=True)
class Region:
    """The memory of one live tensor; tensors that are tied have one in common. `tensor` is detached."""

    tensor: torch.Tensor
    names: list[str]
    trained: bool
    buffer: bool
    places: dict[str, int | None] = field(default_factory=dict)
    covered: int = 0

    @property
    def nbytes(self) -> int:
        """How large the tensor is."""
        return self.tensor.numel() * self.tensor.element_size()

    def put(self, saved: str, offset: int | None, nbytes: int) -> None:
        """A saved tensor is a piece of this memory, `offset` bytes in; or all of it, where `offset` is None."""
        self.places[saved] = offset
        self.covered += nbytes


def regions_of(module: torch.nn.Module) -> list[Region]:
    """Everything that makes a module compute what it does: parameters and buffers, those not in its state_dict too."""
    found: dict[object, Region] = {}
    parameters = module.named_parameters(remove_duplicate=False)
    buffers = module.named_buffers(remove_duplicate=False)
    for buffer, named in ((False, parameters), (True, buffers)):
        for name, tensor in named:
            region = found.setdefault(view_of(tensor), Region(tensor.detach(), [], False, buffer))
            region.names.append(name)
            region.trained |= tensor.requires_grad
            region.buffer &= buffer
    return list(found.values())


def settle(regions: list[Region], saved: Mapping[str, torch.Tensor]) -> list[Region]:
    """Note in `regions` where the tensors of `saved` belong; returns the regions that these do not make up.

    Of those returned, no place is noted: they are to be saved whole.
    """
    whole = {view_of(region.tensor): region for region in regions}
    dense = [region for region in regions if region.tensor.is_contiguous()]
    by_storage: dict[tuple[object, ...], list[Region]] = {}
    for region in dense:
        by_storage.setdefault(_storage(region.tensor), []).append(region)
    for name, tensor in saved.items():
        exact = whole.get(view_of(tensor))
        if exact is not None:
            if not exact.covered:  # of one that was written under several names, the first is enough
                exact.put(name, None, exact.nbytes)
        elif tensor.is_contiguous():
            nbytes = tensor.numel() * tensor.element_size()
            for region in by_storage.get(_storage(tensor), ()):
                offset = tensor.data_ptr() - region.tensor.data_ptr()
                if offset >= 0 and offset + nbytes <= region.nbytes and tensor.dtype == region.tensor.dtype:
                    region.put(name, offset, nbytes)
                    break
    left = [region for region in regions if region.nbytes and region.covered != region.nbytes]
    for region in left:
        region.places.clear()
    return left


def as_document(regions: list[Region]) -> dict[str, list[Any]]:
    """Saved name → [live name], with the offset in bytes behind it for a piece; without those that are the same."""
    return {
        saved: [region.names[0], *([] if offset is None else [offset])]
        for region in regions
        for saved, offset in region.places.items()
        if offset is not None or saved != region.names[0]
    }


def locate(
    regions: list[Region], saved: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], places: Mapping[str, list[Any]]
) -> tuple[dict[str, tuple[torch.Tensor, int]], list[str]]:
    """Where in live memory saved tensors belong, and what of the two differs.

    Args:
        saved: Name → dtype and shape.
        places: What `as_document` returned when they were saved.

    Returns:
        Name → live tensor and offset in bytes, for each that can be read back; and the differences in words.
    """
    by_name = {name: region for region in regions for name in region.names}
    found: dict[str, tuple[torch.Tensor, int]] = {}
    differences: list[str] = []
    for key, (dtype, shape) in saved.items():
        name, *offset = places.get(key, [key])
        region = by_name.get(name)
        if region is None:
            differences.append(f"{name} is in the checkpoint only")
            continue
        nbytes = _nbytes(dtype, shape)
        begin = offset[0] if offset else 0
        if type(begin) is not int or begin < 0:
            raise ValueError(f"the place of {key!r} is none")
        fits = region.tensor.is_contiguous() and begin + nbytes <= region.nbytes if offset else True
        if region.tensor.dtype != dtype or not fits or not (offset or region.tensor.shape == shape):
            differences.append(f"{name} is {_shown(dtype, shape)} in the checkpoint and {_of(region.tensor)} here")
            region.covered = region.nbytes  # told of already
            continue
        region.put(key, begin, nbytes)
        found[key] = region.tensor, begin
    for region in regions:
        ends = sorted((start, start + _nbytes(*saved[key])) for key, start in _offsets(region))
        if region.covered == region.nbytes and any(end != begin for (_, end), (begin, _) in pairwise(ends)):
            raise ValueError(f"pieces of {region.names[0]!r} overlap")
        if region.covered > region.nbytes:
            differences.append(f"{' and '.join(region.names)} are one tensor here, and several in the checkpoint")
    return found, differences


def _offsets(region: Region) -> list[tuple[str, int]]:
    return [(key, offset or 0) for key, offset in region.places.items()]


def _nbytes(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * dtype.itemsize


def _of(tensor: torch.Tensor) -> str:
    return _shown(tensor.dtype, tuple(tensor.shape))


def _shown(dtype: torch.dtype, shape: tuple[int, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')}{list(shape)}"


def view_of(tensor: torch.Tensor) -> tuple[object, ...]:
    """What tells whether two tensors are the same memory, seen alike."""
    if tensor.numel() == 0:  # has no memory to share
        return (id(tensor),)
    return tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def _storage(tensor: torch.Tensor) -> tuple[object, ...]:
    return tensor.device, tensor.untyped_storage().data_ptr()
