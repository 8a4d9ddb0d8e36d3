"""The transformer: causality, the cache against the whole pass, positions, conditions, sampling."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench.model import BenchError, SampleGenerator
from reference_models.networks.transformer import Rotary, SelfAttention, Transformer, restrict, sample_tokens


def network(**options: object) -> Transformer:
    torch.manual_seed(0)
    made = Transformer(7, 12, **{"width": 16, "depth": 2, "heads": 2, **options}).eval()
    for parameter in made.parameters():  # far from the near-zero initialisation, so that everything matters
        nn.init.normal_(parameter, std=0.3)
    return made


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_logits_depend_on_earlier_tokens_only(positions: str) -> None:
    made = network(positions=positions)
    tokens = torch.randint(7, (3, 12))
    logits = made(tokens)
    assert logits.shape == (3, 12, 7)
    changed = tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 7
    difference = (made(changed) - logits).abs().amax((0, 2))
    assert difference[:6].max() < 1e-5, "token 5 itself is predicted from those before it"
    assert (difference[6:] > 1e-4).all()


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("conditioned", [False, True])
def test_the_cache_gives_what_the_whole_pass_gives(positions: str, conditioned: bool) -> None:
    made = network(positions=positions, prefix=3 if conditioned else 0, memory=5 if conditioned else 0)
    tokens = torch.randint(7, (4, 12))
    conditions = {}
    if conditioned:
        mask = torch.arange(6) < torch.tensor([[6], [4], [1], [3]])
        conditions = {"prefix": torch.randn(4, 2, 16), "memory": torch.randn(4, 6, 5), "mask": mask}
    whole = made(tokens, **conditions)
    for prompt in (0, 1, 5):
        logits, cache = made.begin(4, tokens[:, :prompt], **conditions)
        found = [logits]
        for i in range(prompt, 11):
            found.append(made.step(tokens[:, i], cache))
        torch.testing.assert_close(torch.stack(found, 1), whole[:, prompt:], rtol=1e-4, atol=1e-4)


def test_prefix_and_memory_matter_and_padding_does_not() -> None:
    made = network(prefix=2, memory=5)
    tokens, memory = torch.randint(7, (1, 12)), torch.randn(1, 4, 5)
    mask = torch.tensor([[True, True, False, False]])
    base = made(tokens, torch.zeros(1, 2, 16), memory, mask)
    assert not torch.allclose(base, made(tokens, torch.randn(1, 2, 16), memory, mask))
    assert not torch.allclose(base, made(tokens, torch.zeros(1, 2, 16), memory + 1, mask))
    padding = torch.cat([memory[:, :2], torch.randn(1, 2, 5)], 1)
    torch.testing.assert_close(base, made(tokens, torch.zeros(1, 2, 16), padding, mask))


def test_rotary_products_depend_on_distances_only() -> None:
    rotary = Rotary(8, 40)
    query, key = torch.randn(2, 8)
    every = torch.ones(1, 1, 40, 1)
    scores = (rotary(query * every) @ rotary(key * every).mT)[0, 0]
    torch.testing.assert_close(scores[5, 2], scores[30, 27])
    torch.testing.assert_close(scores[9, 9], query @ key)
    assert not torch.allclose(scores[5, 2], scores[5, 3])
    torch.testing.assert_close(rotary(query * every[:, :, :3], first=10)[0, 0, 2], rotary(query * every)[0, 0, 12])


def test_attention_is_torchs_own() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(16, 4, None)
    reference = nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(attention.qkv.weight)
        reference.in_proj_bias.copy_(attention.qkv.bias)
        reference.out_proj.weight.copy_(attention.out.weight)
        reference.out_proj.bias.copy_(attention.out.bias)
    x = torch.randn(2, 9, 16)
    causal = nn.Transformer.generate_square_subsequent_mask(9)
    expected, _ = reference(x, x, x, attn_mask=causal, is_causal=True)
    torch.testing.assert_close(attention(x, None), expected)


def test_learns_a_markov_chain_and_samples_it() -> None:
    """Every third token repeats; the others are uniform: the loss and the samples must show both."""
    torch.manual_seed(0)
    made = Transformer(4, 6, width=32, depth=2, heads=2)
    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    for _ in range(200):
        free = torch.randint(4, (64, 2, 2))
        tokens = torch.cat([free, free[:, :, 1:]], 2).flatten(1)
        loss = F.cross_entropy(made(tokens).flatten(0, 1), tokens.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    entropy = 4 / 6 * torch.log(torch.tensor(4.0))
    assert float(loss.detach()) == pytest.approx(float(entropy), rel=0.05)
    with torch.inference_mode():
        drawn = sample_tokens(made.eval(), SampleGenerator(0, 800), 6).view(-1, 3)
    assert (drawn[:, 1] == drawn[:, 2]).float().mean() > 0.95
    shares = torch.bincount(drawn[:, 0], minlength=4) / len(drawn)
    assert (shares - 0.25).abs().max() < 0.06


def test_sample_i_does_not_depend_on_the_batch_and_prompts_are_kept() -> None:
    made = network()
    with torch.inference_mode():
        whole = sample_tokens(made, SampleGenerator(3, 40), 12)
        part = sample_tokens(made, SampleGenerator(3, 7, 20), 12)
        prompt = torch.randint(7, (5, 4))
        continued = sample_tokens(made, SampleGenerator(0, 5), 12, prompt=prompt, temperature=0)
        again = sample_tokens(made, SampleGenerator(9, 5), 12, prompt=prompt, temperature=0)
    assert torch.equal(whole[20:27], part)
    assert torch.equal(continued[:, :4], prompt)
    assert torch.equal(continued, again), "no temperature, no chance"


def test_restricting_keeps_the_likeliest() -> None:
    logits = torch.tensor([0.4, 0.1, 0.3, 0.2]).log()
    assert restrict(logits, top_k=2).isfinite().tolist() == [True, False, True, False]
    assert restrict(logits, top_p=0.65).isfinite().tolist() == [True, False, True, False]
    assert restrict(logits, top_p=0.75).isfinite().tolist() == [True, False, True, True]
    assert restrict(logits, top_p=1e-6).isfinite().tolist() == [True, False, False, False]
    assert torch.equal(restrict(logits), logits)


def test_wrong_sizes() -> None:
    with pytest.raises(BenchError, match="heads"):
        Transformer(5, 5, width=10, heads=4)
    with pytest.raises(BenchError, match="positions"):
        Transformer(5, 5, positions="sinus")
    with pytest.raises(BenchError, match="does not fit"):
        network()(torch.zeros(1, 13, dtype=torch.int64))
    with pytest.raises(BenchError, match="memory"):
        network(memory=5)(torch.zeros(1, 3, dtype=torch.int64))
