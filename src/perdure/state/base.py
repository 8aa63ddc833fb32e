"""The frozen base of an adapter: checkpoints do not hold it, but say which one it was.

Of each frozen tensor they hold dtype, shape and a digest of 16 pieces of its bytes, spread evenly to the very end. So
another base model, another quantization of it, or rows for new tokens that were drawn at random again are recognised,
at a cost of microseconds per tensor. A change of single values between the pieces is not.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from perdure.io.digest import digest_bytes
from perdure.state.memory import Region

_PIECES, _PIECE = 16, 256  # bytes
_DIGITS = 32

Fingerprint = list[Any]
"""Dtype, shape and digest; the digest is None of a tensor whose bytes cannot be had."""

_known: weakref.WeakKeyDictionary[torch.nn.Module, dict[str, Fingerprint]] = weakref.WeakKeyDictionary()


def base_of(module: torch.nn.Module, regions: Sequence[Region]) -> dict[str, Fingerprint]:
    """Name → fingerprint of each tensor of the base among a module's `regions`, as it was when first asked for.

    The first counts, because merging an adapter into its base and taking it out again, as is done to generate, rounds
    the base: a run begins with, and is resumed from, the one that was loaded.
    """
    known = _known.setdefault(module, {})
    frozen = base_in(regions)
    known.update(fingerprints(region for region in frozen if region.names[0] not in known))
    return {region.names[0]: known[region.names[0]] for region in frozen}


def fingerprints(regions: Iterable[Region]) -> dict[str, Fingerprint]:
    """Name → fingerprint, as it is now."""
    return {region.names[0]: _fingerprint(region.tensor) for region in regions}


def changed(one: Mapping[str, Fingerprint], other: Mapping[str, Fingerprint]) -> list[str]:
    """Names of the tensors that are in both, and not the same."""
    return [name for name in one if name in other and _differ(one[name], other[name])]


def base_differences(module: torch.nn.Module, regions: Sequence[Region], saved: Mapping[str, Fingerprint]) -> list[str]:
    """In what the frozen base of a live module is not the one that a checkpoint was made with, in words.

    Args:
        regions: The module's, with what the checkpoint holds of each noted in it.
        saved: What the checkpoint says of the base.
    """
    base, found = base_of(module, regions), []
    if others := changed(saved, base):
        name = others[0]
        was, now = _form(saved[name]), _form(base[name])
        how = "has other values" if was == now else f"was {was} and is {now}"
        found = [f"the frozen base model is another one ({len(others)} of {len(saved)} tensors: {name} {how})"]
    here = {name for region in regions for name in region.names}
    found += [f"{name}, of the frozen base, is not here" for name in saved if name not in here]
    return found + [
        f"{region.names[0]}, which is frozen, is not in the checkpoint or its base"
        for region in base_in(regions)
        if region.covered < region.nbytes and saved.keys().isdisjoint(region.names)
    ]


def base_in(regions: Sequence[Region]) -> list[Region]:
    """Which of a module's regions are its frozen base: parameters that are not trained, and packed weights.

    Quantizers such as GPTQ and AWQ keep a layer's weights as buffers, which other layers change as they run. They are
    known by an integer matrix; what lies beside it, scales and zero points, is of the same weights.
    """
    buffers = [region for region in regions if region.buffer]
    packed = {_layer(region) for region in buffers if region.tensor.ndim > 1 and not region.tensor.is_floating_point()}
    return [region for region in regions if not region.trained and (not region.buffer or _layer(region) in packed)]


def _layer(region: Region) -> str:
    return region.names[0].rpartition(".")[0]


def _differ(one: Fingerprint, other: Fingerprint) -> bool:
    return one[:2] != other[:2] or (None not in (one[2], other[2]) and one[2] != other[2])


def _form(fingerprint: Fingerprint) -> str:
    return f"{fingerprint[0]}{fingerprint[1]}"


def _fingerprint(tensor: torch.Tensor) -> Fingerprint:
    try:
        digest = digest_bytes(_sample(tensor)).hex()[:_DIGITS]
    except RuntimeError:  # of meta tensors, and of subclasses that are no memory of their own
        digest = None
    return [str(tensor.dtype).removeprefix("torch."), list(tensor.shape), digest]


def _sample(tensor: torch.Tensor) -> bytes:
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    size = flat.numel()
    if size > _PIECES * _PIECE:
        step = (size - _PIECE) // (_PIECES - 1)
        first = size - _PIECE - step * (_PIECES - 1)  # so that the last piece ends with the tensor
        flat = flat.as_strided((_PIECES, _PIECE), (step, 1), flat.storage_offset() + first)
    return flat.cpu().contiguous().numpy().tobytes()
