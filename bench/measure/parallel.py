"""Data-parallel training of any model: every process has the whole model and its own batch; gradients are averaged.

A model's ``train_step`` hides forward, backward and one optimizer or several, so torch's DistributedDataParallel, which wraps a
forward call, cannot be put around it. Gradients are averaged just before each optimizer steps, in one message an optimizer; the
result is that of DistributedDataParallel, without the overlap of communication and backward pass. Buffers (batch-norm statistics)
stay each process's own.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from bench.model import GenerativeModel


def make_data_parallel(model: GenerativeModel) -> None:
    """Give every process the weights of process 0, and average gradients over processes before every optimizer step."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor, 0)
    for optimizer in model.optimizers().values():
        optimizer.register_step_pre_hook(_average_gradients)


def _average_gradients(optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
    gradients: list[Tensor] = [
        parameter.grad
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    for dtype in {gradient.dtype for gradient in gradients}:
        same = [gradient for gradient in gradients if gradient.dtype == dtype]
        flat = _flatten_dense_tensors(same)
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        torch._foreach_copy_(same, list(_unflatten_dense_tensors(flat, same)))
