"""Latent and cascaded diffusion: their stages, the scale of latents, the image that super-resolution is given."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.model import Batch, BenchError, ImageSpace, SampleGenerator
from reference_models.cascaded_diffusion import CascadedDiffusion, shrink, stage_sides
from reference_models.latent_diffusion import LatentDiffusion


def test_latents_have_unit_variance_and_images_come_back(digits: Tensor, train: Callable) -> None:
    torch.manual_seed(0)
    images = torch.nn.functional.interpolate(digits, 16, mode="bilinear")
    model = LatentDiffusion(ImageSpace(1, 16, 16), width=8, autoencoder_width=16, autoencoder_share=0.9)
    train(model, images, 150, batch_size=32)
    with torch.inference_mode():
        z = model.latent(images)
        assert z.shape == (len(images), 4, 8, 8)
        assert float(z.mean((0, 2, 3)).abs().max()) < 0.3
        assert torch.allclose(z.std((0, 2, 3)), torch.ones(4), atol=0.3)
        error = (model.reconstruct(images) - images).square().mean()
        assert error < 0.1 * images.var()
        torch.testing.assert_close(model.decode(model.encode(images[:3])), model.reconstruct(images[:3]))


def test_each_part_trains_in_its_share(digits: Tensor) -> None:
    torch.manual_seed(0)
    model = LatentDiffusion(ImageSpace(1, 8, 8), width=8, autoencoder_share=0.5)
    changed = []
    for progress in (0.1, 0.9):
        before = {name: p.clone() for name, p in model.named_parameters()}
        model.train_step(Batch(digits[:8]), progress)
        changed.append({name.split(".")[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])})
    assert changed == [{"encoder", "decoder"}, {"network"}]


@pytest.mark.parametrize(("side", "latent"), [(8, 8), (16, 8), (32, 8), (64, 8), (28, 7)])
def test_latent_maps_are_small(side: int, latent: int) -> None:
    model = LatentDiffusion(ImageSpace(3, side, side), width=8, autoencoder_width=8)
    assert model.latent_space.shape == (4, latent, latent)


def test_stages_double_up_to_the_image() -> None:
    found = {side: [s[0] for s in stage_sides(ImageSpace(3, side, side), 16)] for side in (8, 16, 28, 32, 64)}
    assert found == {8: [4, 8], 16: [8, 16], 28: [14, 28], 32: [16, 32], 64: [16, 32, 64]}
    with pytest.raises(BenchError, match="even sides"):
        stage_sides(ImageSpace(1, 7, 7), 16)


def test_super_resolution_keeps_the_small_image(digits: Tensor, train: Callable) -> None:
    """After a short training, the enlarged image shrinks back to about what it was made from."""
    torch.manual_seed(0)
    model = CascadedDiffusion(ImageSpace(1, 8, 8), width=16, prediction="x0", weighting="velocity")
    losses = train(model, digits, 120, batch_size=32)
    assert sum(loss["loss_8"] for loss in losses[-10:]) < 0.8 * sum(loss["loss_8"] for loss in losses[:10])
    small = shrink(digits[:32], (4, 4))
    level = torch.full((32,), 0.05)
    with torch.inference_mode():
        image = model.augmented(small, level, torch.randn(32, 1, 8, 8))
        out = model._sample_stage(model.networks[1], (8, 8), image, level, SampleGenerator(0, 32), 10)
    kept = (shrink(out, (4, 4)) - small).square().mean()
    other = (shrink(out, (4, 4)).roll(1, 0) - small).square().mean()
    assert kept < 0.5 * other


def test_evaluations_and_wrong_options() -> None:
    assert CascadedDiffusion(ImageSpace(1, 32, 32), width=8, steps=20, enlarging_steps=5).nfe == 25
    assert LatentDiffusion(ImageSpace(1, 8, 8), width=8, sampler="heun", steps=5).nfe == 9
    assert LatentDiffusion(ImageSpace(1, 32, 32), width=8).latent_space.shape == (4, 8, 8)
    assert LatentDiffusion(ImageSpace(1, 32, 32), width=8, latent_side=16).latent_space.shape == (4, 16, 16)
    for model, wrong in (
        (CascadedDiffusion, {"augmentation": 0.9}),
        (CascadedDiffusion, {"patch": 2}),
        (CascadedDiffusion, {"smallest": 0}),
        (LatentDiffusion, {"autoencoder_share": 1.0}),
        (LatentDiffusion, {"kl_weight": -1.0}),
        (LatentDiffusion, {"latent_side": 0}),
    ):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            model(ImageSpace(1, 8, 8), **wrong)
