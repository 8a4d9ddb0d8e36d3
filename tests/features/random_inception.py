"""Random but lively weights for the FID network, shared with other people's implementations of it."""

from pathlib import Path

import torch
from torch import Tensor, nn

from bench.features.inception import FIDInception


def random_state(seed: int) -> dict[str, Tensor]:
    """Kaiming convolutions, batch norms calibrated on noise so that every layer has signal, random affine parameters."""
    torch.manual_seed(seed)
    network = FIDInception()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(2, 3, 299, 299).to(memory_format=torch.channels_last))
    return {name: value.clone() for name, value in network.state_dict().items() if "num_batches" not in name}


def network_with(state: dict[str, Tensor]) -> FIDInception:
    network = FIDInception()
    network.load_state_dict(state, strict=False)
    return network.eval()


def saved(state: dict[str, Tensor], path: Path) -> Path:
    torch.save(state, path)
    return path
