"""Training and sampling speed beside diffusers, 32x32x3, batch 64, equal numbers of parameters, in turn in one run.

    python -m pytest tests/benchmarks/test_diffusion_bench.py --benchmark-only -s

diffusers: ``UNet2DModel`` with ``DDPMScheduler`` / ``DDIMScheduler`` as its training example uses them: epsilon prediction, linear
schedule, AdamW, float32. Ours: ``DDPM`` with the same prediction and schedule. The two U-Nets are not the same network: ours adds its
skips, and by default folds 2 x 2 pixels into channels at its entrance; "same levels" is ours without that folding, with 32, 96
and 96 channels where diffusers has 32, 64 and 72. In float32, and in bfloat16 where the processor has instructions for it: the harness
trains in whichever is faster.
"""

import functools
import statistics
import time

import pytest
import torch

from bench.model import Batch, ImageSpace, SampleGenerator
from bench.training.loop import mixed_precision
from bench.training.precision import has_fast_bfloat16
from reference_models.ddpm import DDPM

diffusers = pytest.importorskip("diffusers")
pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

BATCH, SPACE, NFE, ROUNDS = 64, ImageSpace(3, 32, 32), 4, 5
TRAINING, SAMPLING = 1.6, 2.0  # promised ratios
CPU = torch.device("cpu")


def parameters(module):
    return sum(p.numel() for p in module.parameters())


class Peer:
    """What diffusers' unconditional training example does in a step, and its DDIM pipeline without the conversion to PIL."""

    def __init__(self):
        self.net = diffusers.UNet2DModel(
            sample_size=32,
            in_channels=3,
            out_channels=3,
            layers_per_block=1,
            block_out_channels=(32, 64, 72),
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            norm_num_groups=8,
        )
        self.noise = diffusers.DDPMScheduler()
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)

    def train_step(self, x):
        noise = torch.randn_like(x)
        t = torch.randint(0, 1000, (len(x),))
        predicted = self.net(self.noise.add_noise(x, noise, t), t).sample
        torch.nn.functional.mse_loss(predicted, noise).backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def sample(self):
        scheduler = diffusers.DDIMScheduler()
        scheduler.set_timesteps(NFE)
        x = torch.randn(BATCH, 3, 32, 32)
        for t in scheduler.timesteps:
            x = scheduler.step(self.net(x, t).sample, t, x).prev_sample
        return x


def ours(**network):
    return DDPM(SPACE, prediction="epsilon", schedule="linear", times="uniform", steps=NFE, attention=(8,), **network)


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    peer = Peer()
    found = {
        "diffusers": peer,
        "ours": ours(width=24, multipliers=(1, 2, 4, 4)),
        "ours, same levels": ours(width=32, multipliers=(1, 3, 3), patch=1),
    }
    size = {name: parameters(model.net if model is peer else model) for name, model in found.items()}
    print()
    for name, count in size.items():
        print(f"{name:16s} {count / 1e6:.3f} M parameters ({count / size['diffusers'] - 1:+.1%})")
        assert abs(count / size["diffusers"] - 1) < 0.05
    return found


def seconds(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def race(benchmark, calls, promised, work):
    """Every call in turn, ``ROUNDS`` times after one warm-up; images per second by the median."""
    for call in calls.values():
        call()
    times = {name: [] for name in calls}

    def others():
        for name, call in calls.items():
            if name != "ours":
                times[name].append(seconds(call))

    def mine():
        times["ours"].append(seconds(calls["ours"]))

    benchmark.pedantic(mine, setup=others, rounds=ROUNDS)
    speed = {name: work / statistics.median(values) for name, values in times.items()}
    for name, value in speed.items():
        print(f"{name:28s} {value:8.1f} images/s   {value / speed['diffusers']:.2f}x diffusers")
    assert speed["ours"] / speed["diffusers"] >= promised
    same_levels = max(value for name, value in speed.items() if name.startswith("ours, same levels"))
    assert same_levels / speed["diffusers"] >= (promised if has_fast_bfloat16(CPU) else 1.3)


def in_bfloat16(call):
    def run():
        with mixed_precision(CPU, torch.bfloat16):
            return call()

    return run


def with_bfloat16(calls):
    """Ours once more in bfloat16, where that is not emulated."""
    lower = {f"{name}, bfloat16": in_bfloat16(call) for name, call in calls.items() if name.startswith("ours")}
    return {**calls, **(lower if has_fast_bfloat16(CPU) else {})}


def test_training(benchmark, models):
    x = torch.rand(BATCH, 3, 32, 32) * 2 - 1
    calls = {
        name: functools.partial(model.train_step, x)
        if name == "diffusers"
        else functools.partial(model.train_step, Batch(x), 0.5)
        for name, model in models.items()
    }
    race(benchmark, with_bfloat16(calls), TRAINING, BATCH)


def test_sampling(benchmark, models):
    def mine(model):
        model.eval()
        with torch.inference_mode():
            return model.sample(BATCH, SampleGenerator(0, BATCH))

    calls = {name: model.sample if name == "diffusers" else (lambda m=model: mine(m)) for name, model in models.items()}
    race(benchmark, with_bfloat16(calls), SAMPLING, BATCH)
