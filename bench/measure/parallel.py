"""Data-parallel training of any model: every process has the whole model and its own batch; gradients are averaged.

torch's DistributedDataParallel wraps *one* forward call that is followed by *one* backward pass. A model here owns its training step:
two networks and two optimizers, several forward calls before a backward pass, gradient penalties, clipping. So what
DistributedDataParallel does is done below the model, at the gradients themselves (Li et al., "PyTorch Distributed: Experiences on
Accelerating Data Parallel Training", 2020, arXiv 2006.15704): as soon as all gradients of a bucket of 25 MiB are there, its average
over the processes is on its way while the backward pass goes on; at the end of the pass every gradient is the average. Clipping
and optimizers then see the averages, as with DistributedDataParallel, and a second backward pass before the step may follow, since
the average of an average and new gradients is the average of both.

Buffers (batch-norm statistics) stay each process's own, as with ``broadcast_buffers=False``. All processes must take the same path
through the model: a step that only some of them take would wait for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from bench.model import GenerativeModel

BUCKET_MIB, FIRST_BUCKET_MIB = 25.0, 1.0
"""Sizes of DistributedDataParallel's buckets: the first is small, so that communication begins early."""


def make_data_parallel(model: GenerativeModel) -> None:
    """Give every process the weights and buffers of process 0; from now on every backward pass averages gradients over processes."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor, 0)
    if dist.get_world_size() > 1:
        for optimizer in model.optimizers().values():
            GradientAverage([parameter for group in optimizer.param_groups for parameter in group["params"]])


class GradientAverage:
    """Averages the gradients of one optimizer's parameters over all processes, in buckets, while backward passes run.

    parameters: in the order of the forward pass, so that the last, whose gradients come first, share the first bucket. One object an
    optimizer: a pass through the generator does not wait for gradients of the discriminator.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], bucket_mib: float = BUCKET_MIB) -> None:
        self.buckets = [_Bucket(group) for group in buckets_of(parameters, bucket_mib)]
        self._next = 0  # buckets are sent in one order, the same in every process
        self._passing = False
        for bucket in self.buckets:
            for parameter in bucket.parameters:
                learns = parameter.requires_grad
                parameter.requires_grad_(True)  # one that is frozen now may learn later
                parameter.register_post_accumulate_grad_hook(self._hook(bucket))
                parameter.requires_grad_(learns)

    def _hook(self, bucket: _Bucket) -> Callable[[Tensor], None]:
        def gradient_arrived(parameter: Tensor) -> None:
            if not self._passing:
                self._passing = True
                torch.autograd.Variable._execution_engine.queue_callback(self._finish)
            bucket.take(parameter)
            while self._next < len(self.buckets) and self.buckets[self._next].is_full():
                self.buckets[self._next].send()
                self._next += 1

        return gradient_arrived

    def _finish(self) -> None:
        """The backward pass has ended: send what is left, wait for all, and put the averages where the gradients were."""
        for bucket in self.buckets:
            if bucket.has_unsent():
                bucket.send()
        for bucket in self.buckets:
            bucket.receive()
        self._next, self._passing = 0, False


class _Bucket:
    """Parameters whose gradients travel in one message."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self._expected: set[Tensor] = set(
            parameters
        )  # what the last pass through here brought: a pass may leave layers out
        self._arrived: set[Tensor] = set()
        self._late = False
        self._sent: tuple[list[Tensor], Tensor, dist.Work] | None = None

    def take(self, parameter: Tensor) -> None:
        self._arrived.add(parameter)
        self._late |= self._sent is not None

    def is_full(self) -> bool:
        return self._expected <= self._arrived

    def has_unsent(self) -> bool:
        return self._late or (bool(self._arrived) and self._sent is None)

    def send(self) -> None:
        """A copy of the gradients goes out; they themselves stay as they are until ``receive``, so that it may go out again."""
        if self._sent is not None:
            self._sent[2].wait()
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        flat = _flatten_dense_tensors(gradients)
        flat /= dist.get_world_size()
        self._sent = gradients, flat, dist.all_reduce(flat, async_op=True)
        self._late = False

    def receive(self) -> None:
        if self._sent is not None:
            gradients, flat, work = self._sent
            work.wait()
            with torch.no_grad():
                torch._foreach_copy_(gradients, list(_unflatten_dense_tensors(flat, gradients)))
            self._expected = self._arrived
        self._arrived, self._sent = set(), None


def buckets_of(
    parameters: Sequence[nn.Parameter], mebibytes: float = BUCKET_MIB, first: float = FIRST_BUCKET_MIB
) -> list[list[nn.Parameter]]:
    """Parameters from the last to the first, in groups of one type and device of at most ``mebibytes`` (one larger parameter is alone)."""
    found: list[list[nn.Parameter]] = []
    size = 0
    for parameter in reversed(parameters):
        limit = (min(first, mebibytes) if len(found) <= 1 else mebibytes) * 2**20
        bytes_ = parameter.numel() * parameter.element_size()
        alike = bool(found) and (found[-1][0].dtype, found[-1][0].device) == (parameter.dtype, parameter.device)
        if alike and size + bytes_ <= limit:
            found[-1].append(parameter)
            size += bytes_
        else:
            found.append([parameter])
            size = bytes_
    return found
