"""The order in which DistributedDataParallel adds gradients, so that more than two processes resume exactly.

DDP sends gradients in buckets. After a process's first backward pass it fills them anew, in the order in which the
gradients came. At another place in a bucket the ranks' values are added in another order, and rounded otherwise. So a
resumed process is made to fill its buckets before its first step as they were in the run that it goes on with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

ORDER = "gradient_order"


def order_of(module: torch.nn.Module) -> dict[str, list[int]]:
    """For a module's document: the order by which its gradients fill buckets, if the sum of them hangs on that."""
    if not isinstance(module, DistributedDataParallel) or not _rearranges(module):
        return {}
    told = module._get_ddp_logging_data()  # type: ignore[no-untyped-call]
    order = told.get("rebuilt_per_bucket_param_indices") or told.get("prev_iteration_grad_ready_order_indices") or ""
    return {ORDER: [int(number) for number in re.findall(r"\d+", order)]}


def restore_order(module: torch.nn.Module, document: Mapping[str, Any]) -> None:
    """Have the first step to come add gradients as the run did that the document is of."""
    order = document.get(ORDER)
    if not order or not isinstance(module, DistributedDataParallel) or not _rearranges(module):
        return
    ddp = module
    parameters = [parameter for parameter in ddp.module.parameters() if parameter.requires_grad]
    hooked = any(getattr(parameter, "_post_accumulate_grad_hooks", None) for parameter in parameters)
    if hooked or sorted(order) != list(range(len(parameters))):
        return

    def before_forward(*_: Any) -> None:
        if torch.is_grad_enabled() and ddp.require_backward_grad_sync:  # all ranks' buckets are about to be used
            hook.remove()
            _fill(ddp, [parameters[number] for number in order])

    hook = ddp.register_forward_pre_hook(before_forward)


def _rearranges(ddp: DistributedDataParallel) -> bool:
    """Whether it will fill its buckets anew, and that makes a difference: two numbers have the same sum either way."""
    fixed = ddp.find_unused_parameters or ddp.static_graph or getattr(ddp, "_comm_hooks", None)
    return not fixed and torch.distributed.get_world_size(ddp.process_group) > 2


def _fill(ddp: DistributedDataParallel, parameters: Sequence[torch.nn.Parameter]) -> None:
    """A backward pass of nothing but zeros, after which DDP fills its buckets anew; gradients stay as they are."""
    gradients = [parameter.grad for parameter in parameters]
    ddp.reducer.prepare_for_forward()
    ddp.reducer.prepare_for_backward([])
    for parameter in parameters:
        parameter.grad = None
        parameter.backward(torch.zeros_like(parameter))  # type: ignore[no-untyped-call]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
