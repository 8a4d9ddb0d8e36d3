"""VQ-VAE: the codebook by its definition, dead codes, the prior, the bound."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.data.base import Data
from bench.metrics.base import Evidence
from bench.metrics.codes import CodeUsage
from bench.model import Batch, BenchError, ImageSpace, SampleGenerator
from bench.scoring import missing
from reference_models.networks.codebook import Codebook, CodeCounter, usage_of
from reference_models.vqvae import VQVAE, grid_halvings

SPACE = ImageSpace(1, 8, 8)


def test_quantising_takes_the_nearest_entry() -> None:
    torch.manual_seed(0)
    book = Codebook(11, 3, 0.9, 0.01)
    encoded = torch.randn(4, 3, 5, 6)
    quantised, index = book.quantise(encoded)
    flat = encoded.permute(0, 2, 3, 1).reshape(-1, 3)
    expected = torch.cdist(flat, book.entries).argmin(1).view(4, 5, 6)
    assert torch.equal(index, expected)
    assert torch.equal(quantised[2, :, 1, 4], book.entries[index[2, 1, 4]])


def test_entries_follow_moving_averages_of_what_is_assigned_to_them() -> None:
    torch.manual_seed(0)
    decay = 0.8
    book = Codebook(5, 2, decay, 0.0)  # no restarts
    entries = torch.randn(5, 2)
    counts, sums = torch.ones(5), entries.clone()
    book.counts.copy_(counts)
    book.sums.copy_(sums)
    book.entries.copy_(entries)
    for _ in range(4):
        encoded = torch.randn(3, 2, 2, 2)
        _, index = book.quantise(encoded)
        book.learn(encoded, index)
        for k in range(5):  # the definition, one entry at a time
            members = [encoded[b, :, i, j] for b in range(3) for i in range(2) for j in range(2) if index[b, i, j] == k]
            counts[k] = decay * counts[k] + (1 - decay) * len(members)
            sums[k] = decay * sums[k] + (1 - decay) * sum(members, torch.zeros(2))
        torch.testing.assert_close(book.entries, sums / counts[:, None])


def test_without_restarts_an_entry_that_nothing_chooses_stays() -> None:
    book = Codebook(3, 2, 0.5, 0.0)
    before = book.entries.clone()
    for _ in range(200):
        book.learn(torch.ones(4, 2, 1, 1), torch.zeros(4, 1, 1, dtype=torch.int64))
    assert torch.equal(book.entries[1:], before[1:])
    torch.testing.assert_close(book.entries[0], torch.ones(2))


def test_dead_entries_restart_at_encodings_of_the_batch() -> None:
    torch.manual_seed(0)
    book = Codebook(4, 2, 0.5, 0.1)
    encoded = torch.randn(8, 2, 2, 2)
    book.counts.fill_(1.0)
    book.sums.copy_(torch.tensor([[0.0, 0.0], [0.1, 0.0], [500.0, 500.0], [-900.0, 0.0]]))
    book.entries.copy_(book.sums)
    points = encoded.permute(0, 2, 3, 1).reshape(-1, 2)
    for step in range(6):
        book.learn(encoded, book.quantise(encoded)[1])
        away = book.entries.norm(dim=1).max() > 100
        assert bool(away) == (step < 3), "unused for 4 batches at decay 1/2 is below 0.1"
    assert torch.cdist(book.entries, points).min(1).values.max() < 2


def test_the_first_batch_fills_the_codebook() -> None:
    torch.manual_seed(0)
    book = Codebook(6, 3, 0.97, 0.5)
    encoded = 40 + torch.randn(4, 3, 2, 2)  # 16 vectors, less than 0.5 of which is the weight of the first batch
    book.learn(encoded, book.quantise(encoded)[1])
    points = encoded.permute(0, 2, 3, 1).reshape(-1, 3)
    torch.testing.assert_close(torch.cdist(book.entries, points).min(1).values, torch.zeros(6), atol=0.02, rtol=0)


def test_usage_of_known_counts() -> None:
    """Four codes used equally are worth four; p of one and 1 - p of another are worth e to the binary entropy."""
    used, perplexity = usage_of(torch.tensor([7, 7, 0, 7, 7]))
    assert (float(used), float(perplexity)) == (pytest.approx(0.8), pytest.approx(4.0))
    used, perplexity = usage_of(torch.tensor([0, 30, 10]))
    assert float(used) == pytest.approx(2 / 3)
    assert float(perplexity) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))


def test_codes_are_counted_over_an_epoch() -> None:
    """A batch of two holds two codes, an epoch of four batches all eight; the next epoch begins at nothing."""
    counter = CodeCounter(8, images=8)
    for first in range(0, 8, 2):
        counter.count(torch.tensor([[first], [first + 1]]))
    assert counter.counts.tolist() == [1] * 8
    for _ in range(3):
        counter.count(torch.full((2, 3), 5))
        assert counter.counts.tolist() == [1] * 8, "those of the complete epoch until the next one is"
    counter.count(torch.full((2, 3), 2))
    assert counter.counts.tolist() == [0, 0, 6, 0, 0, 18, 0, 0]


def test_training_reports_the_codes_of_an_epoch_not_of_a_batch(digits: Tensor) -> None:
    """Batches of one image, which has 4 codes on this grid: the report still sees all images since the beginning."""
    torch.manual_seed(0)
    model = VQVAE(SPACE, width=8, codes=16, grid=2, prior_width=16, autoencoder_share=0.5)
    chosen = []
    for image in digits[:40]:
        losses = model.train_step(Batch(image[None]), 0.2)
        chosen.append(int(model.counter.counts.sum()))
    assert chosen == [4 * (i + 1) for i in range(40)]
    assert float(losses["codes_used"]) * 16 > 4
    assert float(losses["perplexity"]) > 4
    before = int(model.counter.counts.sum())
    model.train_step(Batch(digits[:10]), 0.9)
    assert int(model.counter.counts.sum()) == before + 40, "the codes that the prior learns from are counted too"


def test_gradients_pass_straight_through(digits: Tensor) -> None:
    """The encoder's gradient is the decoder's at the quantised code, plus the commitment's."""
    torch.manual_seed(0)
    model = VQVAE(SPACE, width=8, commitment=0.7)
    x = digits[:16]
    encoded = model.encoder(x).detach()
    quantised, _ = model.codebook.quantise(encoded)
    at = quantised.clone().requires_grad_()
    (through,) = torch.autograd.grad(F.mse_loss(model.decoder(at), x), at)
    expected = through + 0.7 * 2 * (encoded - quantised) / encoded.numel()
    seen: list[Tensor] = []
    model.encoder.register_forward_hook(lambda _m, _i, out: out.register_hook(seen.append) and None)
    model.train_step(Batch(x), 0.0)
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-7)


def test_stages_share_the_budget(digits: Tensor) -> None:
    torch.manual_seed(0)
    model = VQVAE(SPACE, width=8, prior_width=16, autoencoder_share=0.5)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    losses = model.train_step(Batch(digits[:16]), 0.1)
    assert float(losses["prior"]) == pytest.approx(math.log(128))
    changed = {n.split(".")[0] for n, value in model.state_dict().items() if not torch.equal(value, state[n])}
    assert changed == {"encoder", "codebook", "decoder"}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.train_step(Batch(digits[:16]), 0.7)
    changed = {n.split(".")[0] for n, value in model.state_dict().items() if not torch.equal(value, state[n])}
    assert changed == {"prior"}


def test_learns_digits_and_a_prior_over_their_codes(digits: Tensor, train: Callable) -> None:
    torch.manual_seed(0)
    model = VQVAE(SPACE, codes=32, width=16, prior_width=32, prior_depth=2)
    losses = train(model, digits, 400)
    with torch.inference_mode():
        error = (model.reconstruct(digits) - digits).square().mean()
    assert error < 0.45 * digits.var(0).mean()
    assert losses[150]["mse"] < 0.5 * losses[0]["mse"]
    assert losses[-1]["prior"] < 0.75 * math.log(32)
    bits = float(model.nll(digits).mean()) / (64 * math.log(2))
    assert 2 < bits < 6.5
    usage = model.code_usage()
    assert usage["codes_used"] > 0.9
    assert 8 < usage["perplexity"] <= 32
    assert int(model.usage.sum()) == 512 * 16
    images = np.zeros((512, 8, 8, 1), np.uint8)
    evidence = Evidence(data=Data("none", SPACE, images, images), samples=images, features=None, model=model)  # type: ignore[arg-type]
    assert not missing(CodeUsage.needs, evidence)
    found = {m.name: float(m) for m in CodeUsage().measure(evidence)}
    assert found == {"codes_used": usage["codes_used"], "code_perplexity": usage["perplexity"]}
    with torch.inference_mode():
        x = model.sample(200, SampleGenerator(0, 200))
    assert (x.mean(0) - digits.mean(0)).abs().mean() < 0.15, "the mean image of samples is that of the data"


def test_overfits_one_batch(digits: Tensor, train: Callable) -> None:
    torch.manual_seed(0)
    model = VQVAE(SPACE, width=16, prior_width=16, prior_depth=1, autoencoder_share=0.95)
    train(model, digits[:4], 300, batch_size=8)
    with torch.inference_mode():
        assert float((model.reconstruct(digits[:4]) - digits[:4]).square().mean()) < 0.02


def test_the_bound_is_pixels_plus_prior(digits: Tensor) -> None:
    """With a decoder that ignores its codes and a prior that knows nothing: both terms by hand."""
    torch.manual_seed(0)
    model = VQVAE(SPACE, width=8, prior_width=16)
    nn.init.zeros_(model.prior.head.weight)

    class Black(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return torch.full((len(z), 1, 8, 8), -1.0)

    model.decoder = Black()
    model.log_scale.fill_(math.log(2.0))
    black = torch.full((3, 1, 8, 8), -1.0)
    below = torch.distributions.Normal(-1.0, 2.0).cdf(
        torch.tensor(-1 + 1 / 255)
    )  # the lowest level reaches to -infinity
    expected = 16 * math.log(128) - 64 * math.log(below)
    torch.testing.assert_close(model.nll(black), torch.full((3,), expected), rtol=1e-4, atol=0.0)


def test_grids() -> None:
    sides = (7, 8, 16, 28, 32, 64)
    assert [grid_halvings(ImageSpace(1, side, side), 8) for side in sides] == [0, 1, 1, 2, 2, 3]
    assert [grid_halvings(ImageSpace(1, side, side), 4) for side in sides] == [0, 1, 2, 2, 3, 4]
    assert VQVAE(ImageSpace(1, 32, 32), width=8, grid=8, prior_width=16).grid == (8, 8)


def test_usage_before_it_is_counted_and_wrong_options() -> None:
    with pytest.raises(BenchError, match="fit_prior"):
        VQVAE(SPACE).code_usage()
    for wrong in ({"codes": 0}, {"decay": 1.0}, {"width": 7}, {"commitment": -1.0}, {"prior_learning_rate": 0.0}):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            VQVAE(SPACE, **wrong)
