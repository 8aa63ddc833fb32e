"""One process writes, all of them learn how it went."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from perdure.errors import SaveFailed

T = TypeVar("T")


def on_main(trainer: Any, work: Callable[[], T]) -> T | None:
    """Do `work` on the main process while the others wait, and fail everywhere if it fails there.

    Must be called by every process. The others wait as long as the process group's timeout allows
    (`ddp_timeout`, half an hour by default).

    Returns:
        What `work` returned; None on the other processes.

    Raises:
        SaveFailed: On the other processes, with the main process's message. The main process raises the error itself.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return work()
    result: T | None = None
    failure: BaseException | None = None
    if trainer.is_world_process_zero():
        try:
            result = work()
        except BaseException as error:  # the others must hear of it before it is raised here
            failure = error
    said = _tell_all(f"{type(failure).__name__}: {failure}" if failure else "", trainer.accelerator.device)
    if failure is not None:
        raise failure
    if said:
        raise SaveFailed(f"The main process failed, so this one stops too: {said}")
    return result


def _tell_all(message: str, device: Any) -> str:
    """Text from rank 0 to all, as bytes in a tensor: an object broadcast would unpickle what it receives."""
    import torch
    import torch.distributed as dist

    size = torch.tensor([len(message.encode())], dtype=torch.int64, device=device)
    dist.broadcast(size, src=0)
    if not size.item():
        return ""
    content = torch.zeros(int(size.item()), dtype=torch.uint8, device=device)
    if dist.get_rank() == 0:
        content = torch.tensor(list(message.encode()), dtype=torch.uint8, device=device)
    dist.broadcast(content, src=0)
    return bytes(content.tolist()).decode()
