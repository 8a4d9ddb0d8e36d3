"""A fixed piece of training work, small enough to be timed in a moment: what a machine is compared with itself on."""

from __future__ import annotations

import torch
from torch import nn


class Probe:
    """One training step of a small convolutional network on a fixed batch; about a millisecond on one core."""

    def __init__(self, device: torch.device, width: int = 16, batch: int = 8, resolution: int = 16) -> None:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            self.network = nn.Sequential(
                nn.Conv2d(3, width, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.SiLU(),
                nn.Flatten(),
                nn.Linear(width * resolution**2, 32),
            ).to(device)
            self.x = torch.randn(batch, 3, resolution, resolution).to(device)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.0)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.network(self.x).square().mean().backward()
        self.optimizer.step()
