"""What a loop written with Accelerate consists of, read off its `Accelerator`; accelerate itself is not imported."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perdure.distributed.group import launched
from perdure.errors import InvalidInput

_log = logging.getLogger("perdure")
_SPREAD = ("FSDP", "DEEPSPEED", "MEGATRON_LM", "XLA", "TP")  # none of these leaves a process with the whole model
_ASKED = re.compile(r"\0--num[_-]processes[\0=](\d+)\0")


class _Steps:
    """Where an Accelerator stands within an accumulation of gradients, and, in the middle of one, those it has."""

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator

    def state_dict(self) -> dict[str, Any]:
        pending = {} if self._accelerator.sync_gradients else self._parameters()
        gradients = {name: one.grad for name, one in pending.items() if one.grad is not None}
        return {"step": self._accelerator.step, "gradients": gradients}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._accelerator.step = state["step"]
        if gradients := state.get("gradients"):
            for name, one in self._parameters().items():
                one.grad = gradients[name].to(one.device) if name in gradients else None

    def _parameters(self) -> dict[str, Any]:
        models = enumerate(self._accelerator._models)
        return {f"{number}.{name}": one for number, model in models for name, one in model.named_parameters()}


def components_of(accelerator: Any) -> dict[str, Any]:
    """What was prepared by an Accelerator, or registered for checkpointing, by name.

    The first of a kind is `model`, `optimizer`, `scheduler`, `loader`, `custom`; the second is `model_2`, and so on.

    Raises:
        InvalidInput: It is none, or nothing was prepared; the model is spread over processes; or the processes that
            were launched know nothing of each other.
    """
    if not hasattr(accelerator, "distributed_type"):
        raise InvalidInput(
            f"This is a {type(accelerator).__name__}, not an accelerate.Accelerator.",
            hint="For objects of your own: State(model=model, optimizer=optimizer, …)",
        )
    _check_processes(accelerator)
    how = accelerator.distributed_type.name
    if how in _SPREAD:
        raise InvalidInput(
            f"The model is spread over processes by {how}, and State holds models that each process has whole.",
            hint="Save it with accelerator.save_state().",
        )
    if not accelerator._models:
        raise InvalidInput(
            "This Accelerator has prepared no model.",
            hint="First: model, optimizer, loader = accelerator.prepare(model, optimizer, loader)",
        )
    kinds = {
        "model": accelerator._models,
        "optimizer": accelerator._optimizers,
        "scheduler": [getattr(one, "scheduler", one) for one in accelerator._schedulers],
        "loader": accelerator._dataloaders,
        "custom": accelerator._custom_objects,
    }
    found = {
        kind if number == 1 else f"{kind}_{number}": one
        for kind, several in kinds.items()
        for number, one in enumerate(several, 1)
    }
    return {**found, "scaler": accelerator.scaler, "accelerator": _Steps(accelerator)}


def _check_processes(accelerator: Any) -> None:
    if accelerator.num_processes > 1:
        return
    if (count := launched()) > 1:
        raise InvalidInput(
            f"{count} processes were launched, and this Accelerator knows of one: each would train by itself, and "
            "write the same checkpoints.",
            hint="On CPUs, make it with Accelerator(cpu=True).",
        )
    if (count := _asked_for()) > 1:
        _log.warning(
            "`accelerate launch` was asked for %d processes, and started one, as it does with --cpu. "
            "Several: torchrun --nproc-per-node=%d, and Accelerator(cpu=True).",
            count, count,
        )  # fmt: skip


def _asked_for() -> int:
    """How many processes `accelerate launch`, which waits for this one, was told to start."""
    try:
        words = Path(f"/proc/{os.getppid()}/cmdline").read_text(errors="replace")
    except OSError:  # not Linux
        return 1
    asked = _ASKED.search(words) if "accelerate" in words else None
    return int(asked[1]) if asked else 1
