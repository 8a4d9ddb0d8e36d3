"""The interface: per-sample randomness, configs, capabilities."""

import dataclasses

import pytest
import torch

from bench.errors import BenchError
from bench.model import (
    Batch,
    GenerativeModel,
    HasLikelihood,
    ImageSpace,
    Iterative,
    Reconstructs,
    SampleGenerator,
    TokenSpace,
    capabilities,
)


class Tiny(GenerativeModel):
    """A model for tests."""

    @dataclasses.dataclass(frozen=True)
    class Config:
        width: int = 3

        def __post_init__(self):
            if self.width < 1:
                raise ValueError(f"width must be at least 1, got {self.width}")

    def train_step(self, batch, progress):
        return {}

    def sample(self, n, generator, **options):
        return generator.randn(*self.space.shape)

    def reconstruct(self, x):
        return x


def draws(n, start, seed=7):
    generator = SampleGenerator(seed, n, start)
    first = generator.randn(3, 2)
    logits = torch.arange(5.0).expand(n, 4, 5)
    return [first, generator.rand(5), generator.randint(10, 2), generator.categorical(logits), generator.randn(1)]


@pytest.mark.parametrize("batch", [1, 7, 16, 33, 50])
def test_sample_i_is_the_same_for_any_batch_size(batch):
    whole = draws(50, 0)
    parts = [draws(min(batch, 50 - start), start) for start in range(0, 50, batch)]
    for k, expected in enumerate(whole):
        assert torch.equal(torch.cat([part[k] for part in parts]), expected)


def test_streams_are_normal_uniform_and_independent():
    generator = SampleGenerator(0, 4096)
    z, u = generator.randn(16), generator.rand(16)
    assert abs(z.mean()) < 0.02
    assert abs(z.std() - 1) < 0.02
    assert abs(u.mean() - 0.5) < 0.01
    assert len(torch.unique(z)) > 0.999 * z.numel()
    assert abs(torch.corrcoef(torch.stack([z[:, 0], z[:, 1]]))[0, 1]) < 0.06
    other = SampleGenerator(1, 4096).randn(16)
    assert abs(torch.corrcoef(torch.stack([z.flatten(), other.flatten()]))[0, 1]) < 0.02


def test_categorical_follows_the_softmax():
    p = torch.tensor([0.1, 0.2, 0.7])
    drawn = SampleGenerator(3, 20_000).categorical(p.log().expand(20_000, 3))
    frequency = torch.bincount(drawn, minlength=3) / 20_000
    assert torch.allclose(frequency, p, atol=0.015)


def test_config_errors_are_sentences():
    space = ImageSpace(1, 4, 4)
    with pytest.raises(BenchError, match="Tiny has no option 'widht'; did you mean 'width'"):
        Tiny(space, widht=4)
    with pytest.raises(BenchError, match="width must be at least 1, got 0"):
        Tiny(space, width=0)
    with pytest.raises(BenchError, match="Tiny generates ImageSpace, but the data set holds sequences"):
        Tiny(TokenSpace(10, 4))


def test_capabilities_are_discovered():
    model = Tiny(ImageSpace(1, 4, 4))
    assert capabilities(model) == ["Reconstructs"]
    assert isinstance(model, Reconstructs)
    assert not isinstance(model, HasLikelihood)
    assert not isinstance(model, Iterative)


def test_batch_counts_examples():
    assert len(Batch(torch.zeros(5, 1))) == 5
