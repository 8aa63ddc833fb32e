"""The random number generators that training draws from: Python's, NumPy's, torch's, and every CUDA device's."""

from __future__ import annotations

import random
import struct
from typing import Any

import numpy as np
import torch


def cpu_state() -> dict[str, Any]:
    """The state of the three global generators on the CPU."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": torch.get_rng_state(),
    }


def set_cpu_state(state: dict[str, Any]) -> None:
    """Put `cpu_state` back."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])


def packed(state: tuple[Any, ...]) -> tuple[int, bytes, float | None]:
    """What `random.Random.getstate` returns, with bytes in place of 625 integers."""
    version, words, gauss = state
    return version, struct.pack(f"<{len(words)}I", *words), gauss


def unpacked(state: tuple[int, bytes, float | None]) -> tuple[Any, ...]:
    """The inverse of `packed`."""
    version, words, gauss = state
    return version, struct.unpack(f"<{len(words) // 4}I", words), gauss


def state() -> dict[str, Any]:
    """The state of all generators; CUDA's where the process has used CUDA (asking would occupy every device)."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return {**cpu_state(), "cuda": cuda}


def set_state(saved: dict[str, Any]) -> None:
    """Put `state` back; devices that are not here are passed over."""
    set_cpu_state(saved)
    for device, device_state in enumerate(saved["cuda"][: device_count()]):
        torch.cuda.set_rng_state(device_state, device)


def device_count() -> int:
    """How many CUDA devices have a generator that can be set."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
