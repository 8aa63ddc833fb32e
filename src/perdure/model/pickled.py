"""Legacy `.bin` files: written when asked for, and read without running anything that they hold."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.errors import Corrupt
from perdure.model.weights import view_of

if TYPE_CHECKING:
    import torch


def write(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors with `torch.save`; one that has several names is written once and stays shared.

    Raises:
        OSError: The disk refused.
    """
    import torch

    owned: dict[tuple[object, ...], torch.Tensor] = {}
    state = {name: owned.setdefault(view_of(tensor), _owning(tensor)) for name, tensor in tensors.items()}
    try:
        torch.save(state, path)
    except RuntimeError as error:  # torch's writer tells no more than that a write failed
        raise OSError(errno.EIO, f"{path.name} could not be written; is the disk full?") from error


def _owning(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor without more memory than its own: `torch.save` writes all that a view is a view of."""
    value = tensor.detach().cpu().contiguous()
    whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
    return value if whole else value.clone()


def read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a `.bin` file, mapped from disk where its format allows; nothing in it is ever executed.

    Raises:
        Corrupt: It is damaged, or holds anything but a dictionary of tensors.
        OSError: It cannot be read at all.
    """
    import torch

    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"  # the format before torch 1.6 cannot be mapped
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except OSError:
        raise
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise Corrupt(
            f"{path} is not a file of weights that can be read safely; nothing in it was executed.",
            path=path,
            hint="Whoever made it should save it again as safetensors; a pickle that needs code to load may do harm.",
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise Corrupt(f"{path} does not hold a dictionary of tensors.", path=path)
    return dict(state)
