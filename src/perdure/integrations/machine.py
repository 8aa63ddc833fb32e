"""The hardware that a run trains on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

from perdure.card.allowed import is_sayable
from perdure.card.training import Hardware


def hardware(device: Any, processes: int = 1) -> Hardware:
    """What a run trains on.

    Args:
        device: A `torch.device` of this process.
        processes: How many train together, each on a device of its own.
    """
    if device.type == "cuda":
        import torch

        properties = torch.cuda.get_device_properties(device)
        return Hardware(name=properties.name, count=processes, memory=properties.total_memory)
    name = _cpu() if device.type in ("cpu", "mps") else device.type.upper()
    return Hardware(name=name, memory=_memory())


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        found = None
    name = " ".join(found[1].split()) if found else platform.processor()
    return name if is_sayable(name) else f"CPU ({platform.machine()})"


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None
