"""What generator and discriminator play for: losses, gradient penalties, how evenly they are matched; and DiffAugment."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor

LOSSES = ("non-saturating", "minimax", "hinge", "wgan-gp", "lsgan")


def discriminator_loss(real: Tensor, fake: Tensor, loss: str) -> Tensor:
    """real, fake: scores (logits) ``(B, 1)``.

    Hinge: max(0, 1 - real) + max(0, 1 + fake). Wasserstein: fake - real (its penalty is ``gradient_penalty``). Least squares
    (2016, arXiv 1611.04076): half of (real - 1)^2 + fake^2. Else the cross entropy.
    """
    match loss:
        case "hinge":
            return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        case "wgan-gp":
            return fake.mean() - real.mean()
        case "lsgan":
            return 0.5 * ((real - 1).square().mean() + fake.square().mean())
        case _:
            return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor, loss: str) -> Tensor:
    """With D = sigmoid(score). Non-saturating: -log D(fake); minimax: log(1 - D(fake)); hinge and Wasserstein: -score;
    least squares: half of (score - 1)^2."""
    match loss:
        case "hinge" | "wgan-gp":
            return -fake.mean()
        case "lsgan":
            return 0.5 * (fake - 1).square().mean()
        case "minimax":
            return -F.softplus(fake).mean()
        case _:
            return F.softplus(-fake).mean()


def differentiable_twice() -> AbstractContextManager[None]:
    """Networks run uncompiled inside: graphs that ``torch.compile`` makes have no second derivative."""
    return torch.compiler.set_stance("force_eager")


def r1_penalty(discriminate: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """Mean over the batch of |gradient of the score by the image|^2 at real images; times gamma / 2 it is the penalty R1 of
    "Which Training Methods for GANs do actually Converge?" (2018, arXiv 1801.04406)."""
    real = real.detach().requires_grad_(True)
    with differentiable_twice():
        (gradient,) = torch.autograd.grad(discriminate(real).float().sum(), real, create_graph=True)
    return gradient.float().square().flatten(1).sum(1).mean()


def gradient_penalty(discriminate: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Mean of (|gradient| - 1)^2 at random points between pairs of real and fake images ("Improved Training of Wasserstein
    GANs", 2017, arXiv 1704.00028)."""
    share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device)
    between = torch.lerp(fake.detach(), real, share).requires_grad_(True)
    with differentiable_twice():
        (gradient,) = torch.autograd.grad(discriminate(between).float().sum(), between, create_graph=True)
    length = (gradient.float().square().flatten(1).sum(1) + 1e-12).sqrt()
    return (length - 1).square().mean()


def advantage(real: Tensor, fake: Tensor) -> Tensor:
    """How often a real example is scored above a fake one, 0-d in [0, 1]: 0.5 when the discriminator guesses, 1 when it has
    won. It means the same for every loss, which a score of 0 does not."""
    real, fake = real.detach().float().flatten(), fake.detach().float().flatten()
    return (real[:, None] > fake).float().mean() + 0.5 * (real[:, None] == fake).float().mean()


def differentiable_augmentation(x: Tensor) -> Tensor:
    """Random brightness, saturation, contrast, shift (1/8 of the side) and cutout (half the side), each drawn for each image.

    ``(B, C, H, W)`` in [-1, 1] -> the same shape, differentiable. Applied to real and fake images alike, so that a small data set
    cannot be learned by heart without the generator learning the augmentation ("Differentiable Augmentation for Data-Efficient GAN
    Training", 2020, arXiv 2006.10738).
    """
    n, device = len(x), x.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, 1, device=device)

    x = x + uniform(-0.5, 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * uniform(0, 2)
    level = x.mean((1, 2, 3), keepdim=True)
    x = level + (x - level) * uniform(0.5, 1.5)
    return cut_out(shift(x))


def shift(x: Tensor, share: float = 1 / 8) -> Tensor:
    """Each image moved by up to ``share`` of its sides, zeros where nothing was."""
    n, _, height, width = x.shape
    rows = _moved(n, height, share, x.device)
    columns = _moved(n, width, share, x.device)
    padded = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    image = torch.arange(n, device=x.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _moved(n: int, side: int, share: float, device: torch.device) -> Tensor:
    """Where each position of ``side`` is read from in an axis with one zero at each end, ``(n, side)``."""
    most = int(side * share + 0.5)
    offset = torch.randint(-most, most + 1, (n, 1), device=device)
    return (torch.arange(side, device=device) + offset + 1).clamp(0, side + 1)


def cut_out(x: Tensor, share: float = 1 / 2) -> Tensor:
    """A rectangle of ``share`` of the sides set to zero, its middle anywhere in the image."""
    n, _, height, width = x.shape
    inside = []
    for side in (height, width):
        size = int(side * share + 0.5)
        first = torch.randint(-(size // 2), side + 1 - size % 2 - size // 2, (n, 1), device=x.device)
        place = torch.arange(side, device=x.device)
        inside.append((place >= first) & (place < first + size))
    return x.masked_fill((inside[0][:, None, :, None]) & (inside[1][:, None, None, :]), 0.0)
