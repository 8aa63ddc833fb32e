"""A trainer's processes: one writes and all learn how it went, and what each of them holds whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from perdure.distributed.group import Group
from perdure.errors import SaveFailed

T = TypeVar("T")


def on_main(group: Group, work: Callable[[], T]) -> T | None:
    """Do `work` on the main process while the others wait, and fail everywhere if it fails there.

    Must be called by every process. The others wait as long as the process group's timeout allows
    (`ddp_timeout`, half an hour by default).

    Returns:
        What `work` returned; None on the other processes.

    Raises:
        PerdureError: What `work` raised, as `Group.agree` tells it; a SaveFailed where that was no PerdureError.
    """
    done: list[T] = []

    def work_on_main() -> None:
        if group.rank == 0:
            done.append(work())

    group.agree(work_on_main, error=SaveFailed)
    return done[0] if done else None


def model_spread_by(trainer: Any) -> str | None:
    """What spreads the model over processes, so that none holds it whole."""
    plugin = getattr(getattr(trainer.accelerator, "state", None), "deepspeed_plugin", None)
    if getattr(trainer, "is_fsdp_enabled", False) or getattr(trainer, "is_fsdp_xla_enabled", False):
        return "FSDP"
    if getattr(trainer, "is_deepspeed_enabled", False) and getattr(plugin, "zero_stage", 3) == 3:
        return "DeepSpeed ZeRO-3"
    if getattr(trainer, "is_distributed_loading_by_transformers", False):
        return "a distributed configuration"
    return None


def state_spread_by(trainer: Any) -> str | None:
    """What spreads the model or its optimizer, as DeepSpeed does at every stage."""
    return model_spread_by(trainer) or ("DeepSpeed" if getattr(trainer, "is_deepspeed_enabled", False) else None)
