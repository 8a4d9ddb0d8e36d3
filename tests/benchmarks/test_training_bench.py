"""Training speed beside other code: the same networks, batch 64, 32x32x3, run in turn in one process.

    python -m pytest tests/benchmarks/test_training_bench.py --benchmark-only -s

Each test prints parameters and images per second of both, and the ratio; it fails where a promised ratio is not met.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.data.base import Data
from bench.model import Batch, GenerativeModel, ImageSpace
from bench.training.batches import Batches
from bench.training.loop import mixed_precision
from bench.training.precision import choose, has_fast_bfloat16
from reference_models.gan import GAN
from reference_models.vae import VAE

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

SPACE = ImageSpace(3, 32, 32)
BATCH, STEPS, ROUNDS = 64, 4, 7
Step = Callable[[], object]


def in_turn(benchmark: object, ours: Step, peer: Step, rounds: int = ROUNDS) -> float:
    """Rounds of ``STEPS`` steps of the peer and then of ours -> (the peer's median seconds) / (our median seconds)."""
    times: list[float] = []

    def run(step: Step) -> None:
        for _ in range(STEPS):
            step()

    def peer_first() -> None:
        began = time.perf_counter()
        run(peer)
        times.append(time.perf_counter() - began)

    run(peer), run(ours)  # both are warm
    benchmark.pedantic(lambda: run(ours), setup=peer_first, rounds=rounds)  # type: ignore[attr-defined]
    mine = statistics.median(benchmark.stats.stats.data)  # type: ignore[attr-defined]
    images = STEPS * BATCH
    print(f"\nours {images / mine:.0f} images/s, peer {images / statistics.median(times):.0f} images/s", end=", ")
    return statistics.median(times) / mine


def same_size(ours: nn.Module, peer: nn.Module) -> None:
    """Parameters within 5 %."""
    mine, others = (sum(p.numel() for p in module.parameters()) for module in (ours, peer))
    print(f"\nparameters: ours {mine:,}, peer {others:,}", end="")
    assert mine == pytest.approx(others, rel=0.05)


def images() -> Tensor:
    return (torch.randint(256, (BATCH, *SPACE.shape)) / 127.5 - 1).float()


def training(model: GenerativeModel, x: Tensor) -> Step:
    """A step as the harness takes it: in the precision that its trial finds faster here."""
    model.train()
    noise = torch.randint(256, (4 * BATCH, SPACE.height, SPACE.width, SPACE.channels), dtype=torch.uint8).numpy()
    device = torch.device("cpu")
    dtype, why = choose(model, Batches(Data("noise", SPACE, noise, noise[:1]), BATCH, 0, device), "auto")
    print(f"\n{why}", end="")

    def step() -> None:
        with mixed_precision(device, dtype):
            model.train_step(Batch(x), 0.5)

    return step


class DCGAN(nn.Module):
    """DCGAN (2015, arXiv 1511.06434) and its training step as PyTorch's examples write them: float32, eager, NCHW."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        w = width
        self.latent = latent
        self.generator = nn.Sequential(
            *self._up(latent, 4 * w, 4, 1, 0),
            *self._up(4 * w, 2 * w, 4, 2, 1),
            *self._up(2 * w, w, 4, 2, 1),
            nn.ConvTranspose2d(w, 3, 4, 2, 1, bias=False),
            nn.Tanh(),
        )
        self.discriminator = nn.Sequential(
            nn.Conv2d(3, w, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            *self._down(w, 2 * w),
            *self._down(2 * w, 4 * w),
            nn.Conv2d(4 * w, 1, 4, 1, 0, bias=False),
            nn.Sigmoid(),
        )
        self.g_optimizer = torch.optim.Adam(self.generator.parameters(), 2e-4, betas=(0.5, 0.999))
        self.d_optimizer = torch.optim.Adam(self.discriminator.parameters(), 2e-4, betas=(0.5, 0.999))

    @staticmethod
    def _up(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> list[nn.Module]:
        convolution = nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    @staticmethod
    def _down(inputs: int, outputs: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.LeakyReLU(0.2, inplace=True),
        ]

    def step(self, x: Tensor) -> None:
        real, fake_label = torch.ones(len(x)), torch.zeros(len(x))
        self.discriminator.zero_grad()
        F.binary_cross_entropy(self.discriminator(x).view(-1), real).backward()
        fake = self.generator(torch.randn(len(x), self.latent, 1, 1))
        F.binary_cross_entropy(self.discriminator(fake.detach()).view(-1), fake_label).backward()
        self.d_optimizer.step()
        self.generator.zero_grad()
        F.binary_cross_entropy(self.discriminator(fake).view(-1), real).backward()
        self.g_optimizer.step()


def test_gan_trains_faster_than_the_same_dcgan(benchmark: object) -> None:
    """At least 1.8 times where the processor has bfloat16 matrix instructions; without them float32 has to be no slower."""
    torch.manual_seed(0)
    ours, peer, x = GAN(SPACE, width=64), DCGAN(latent=64, width=64), images()
    same_size(ours, peer)
    ratio = in_turn(benchmark, training(ours, x), lambda: peer.step(x))
    print(f"ratio {ratio:.2f}")
    assert ratio >= (1.8 if has_fast_bfloat16(torch.device("cpu")) else 1.0)


def test_vae_trains_as_fast_as_pythae(benchmark: object) -> None:
    """The same encoder and decoder inside pythae's VAE, with Adam as its trainer makes it."""
    models = pytest.importorskip("pythae.models")
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    torch.manual_seed(0)
    ours, theirs, x = VAE(SPACE), VAE(SPACE), images()

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.network = theirs.encoder

        def forward(self, x: Tensor) -> ModelOutput:
            mean, log_variance = self.network(x).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.network = theirs.decoder

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.network(z))

    config = models.VAEConfig(input_dim=SPACE.shape, latent_dim=ours.config.latent)
    peer = models.VAE(config, encoder=Encoder(), decoder=Decoder()).train()
    optimizer = torch.optim.Adam(peer.parameters(), lr=1e-4)
    same_size(ours, peer)

    def step() -> None:
        optimizer.zero_grad()
        peer({"data": x}).loss.backward()
        optimizer.step()

    ratio = in_turn(benchmark, training(ours, x), step)
    print(f"ratio {ratio:.2f}")
    assert ratio >= 1.0
