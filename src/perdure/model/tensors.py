"""Torch tensors as the bytes and type names of safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from perdure._optional import require
from perdure.errors import InvalidInput

if TYPE_CHECKING:
    import torch


def dtype_name(name: str, tensor: torch.Tensor) -> str:
    """A tensor's dtype as safetensors calls it.

    Raises:
        InvalidInput: The format has no such type.
    """
    known = _dtype_names().get(tensor.dtype)
    if known is None:
        raise InvalidInput(
            f"{name} has dtype {tensor.dtype}, which safetensors cannot hold; nothing was written.",
            hint="Convert it to a dtype that it can hold before saving.",
        )
    return known


def torch_dtype(name: str) -> torch.dtype | None:
    """The inverse of `dtype_name`; None where this PyTorch has no such type."""
    return next((dtype for dtype, known in _dtype_names().items() if known == name), None)


@cache
def _dtype_names() -> Mapping[torch.dtype, str]:
    import torch

    names = {
        "bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "uint16": "U16", "int32": "I32", "uint32": "U32",
        "int64": "I64", "uint64": "U64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
        "complex64": "C64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
        "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
    }  # fmt: skip
    return {getattr(torch, attribute): name for attribute, name in names.items() if hasattr(torch, attribute)}


def as_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a tensor, row-major; its own memory where that is already so, a copy on the CPU otherwise."""
    import torch

    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def check_storable(tensors: Mapping[str, object]) -> None:
    """Refuse what a file could not hold, by name, before anything is written.

    Raises:
        InvalidInput: A value is no tensor, has no data (meta device), is sharded over processes, nested, or sparse.
    """
    torch = require("torch", "Saving weights")
    without_data = []
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor):
            raise InvalidInput(
                f"{name} in the state dict is a {type(value).__name__}, not a tensor; nothing was written.",
                hint="Only tensors go into safetensors: turn it into one, or leave it out of the state dict.",
            )
        if value.is_meta:
            without_data.append(name)
        elif hasattr(value, "full_tensor"):
            raise InvalidInput(
                f"{name} is sharded over several processes; nothing was written.",
                hint="Gather the full state dict first, and save that.",
            )
        else:
            check_dense(name, value)
            dtype_name(name, value)
    if without_data:
        raise InvalidInput(
            f"{len(without_data)} tensors are on the meta device and have no data, {without_data[0]} the first. "
            "Nothing was written.",
            hint="Load or initialise the model for real first, without offloading weights to disk.",
        )


def check_dense(name: str, tensor: torch.Tensor) -> None:
    """Refuse a tensor whose values are not one run of memory.

    Raises:
        InvalidInput: It is nested or sparse.
    """
    import torch

    if tensor.is_nested:
        raise InvalidInput(
            f"{name} is a nested tensor; nothing was written.",
            hint="Call torch.nested.to_padded_tensor on it before saving, or save its parts one by one.",
        )
    if tensor.layout != torch.strided:
        raise InvalidInput(f"{name} is sparse; nothing was written.", hint="Call .to_dense() on it before saving.")


def not_finite(tensor: torch.Tensor) -> str:
    """How many values are NaN or infinite, in words; empty when all are finite."""
    import torch

    values = torch.view_as_real(tensor.detach().resolve_conj()) if tensor.is_complex() else tensor.detach()
    if not values.is_floating_point() or values.numel() == 0:
        return ""
    values = values.to(torch.float32) if values.element_size() == 1 else values  # the smallest types have no extremes
    # NaN and infinity both show in the extremes, which one fast pass finds; only then are they counted.
    if all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(values)):
        return ""
    counts = {"NaN": int(torch.isnan(values).sum()), "infinite": int(torch.isinf(values).sum())}
    found = " and ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{found} of {values.numel()} values"
