"""No metric depends on the order of rows (beyond 1e-10), on the number of threads, or on blocks of rows."""

import numpy as np
import pytest
import torch

from bench.metrics import (
    authpct,
    bins,
    clipped_coverage,
    clipped_density,
    cmmd,
    fld,
    frechet_distance,
    frechet_distance_of_pairs,
    inception_score,
    kernel_distance,
    manifold,
    median_realism,
    mifid_distance,
    prdc,
    sliced_wasserstein,
    vendi,
    vendi_score,
)

METRICS = {
    "frechet": lambda r, f, t: frechet_distance(r, f),
    "frechet of pairs": lambda r, f, t: frechet_distance_of_pairs(r, r * 0.9 + 0.1),
    "kernel": lambda r, f, t: kernel_distance(r, f),
    "cmmd": lambda r, f, t: cmmd(r, f),
    "precision": lambda r, f, t: prdc(r, f).precision,
    "recall": lambda r, f, t: prdc(r, f).recall,
    "density": lambda r, f, t: prdc(r, f).density,
    "coverage": lambda r, f, t: prdc(r, f).coverage,
    "realism": lambda r, f, t: median_realism(r, f),
    "clipped density": lambda r, f, t: clipped_density(r, f),
    "clipped coverage": lambda r, f, t: clipped_coverage(r, f),
    "vendi": lambda r, f, t: vendi_score(f),
    "vendi, q = 0.1": lambda r, f, t: vendi_score(f, 0.1),
    "vendi, few": lambda r, f, t: vendi_score(f[:, :][np.argsort(f[:, 0])[:8]]),
    "sliced": lambda r, f, t: sliced_wasserstein(r, f, 50),
    "fld": lambda r, f, t: fld(t, r, f),
    "authpct": lambda r, f, t: authpct(t, f),
    "mifid distance": lambda r, f, t: mifid_distance(t, f),
    "inception score": lambda r, f, t: inception_score(f, 1),
}
SETS = [
    np.random.default_rng(i).normal(size=(n, 12)) * np.arange(1, 13) ** -0.5 + 0.1 * i
    for i, n in enumerate((240, 220, 300))
]


@pytest.mark.parametrize("name", sorted(METRICS))
def test_row_order_does_not_matter(name):
    real, fake, train = SETS
    shuffled = [np.random.default_rng(9).permutation(each) for each in SETS]
    if name == "fld":  # its baseline splits the training set in two by order
        shuffled[2] = train
    one, other = float(METRICS[name](real, fake, train)), float(METRICS[name](*shuffled))
    assert other == pytest.approx(one, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_threads_do_not_matter(name):
    before = torch.get_num_threads()
    try:
        values = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            values.append(float(METRICS[name](*SETS)))
    finally:
        torch.set_num_threads(before)
    assert values[1] == pytest.approx(values[0], rel=1e-10, abs=1e-10)


def test_blocks_of_rows_do_not_matter(monkeypatch):
    real, fake, _ = SETS
    whole = [*map(float, prdc(real, fake)), float(vendi_score(fake))]
    monkeypatch.setattr(manifold, "BLOCK_BYTES", 4 * 16 * 220)
    monkeypatch.setattr(manifold, "PAIRS", 7)
    monkeypatch.setattr(vendi, "ROWS", 13)
    assert [*map(float, prdc(real, fake)), float(vendi_score(fake))] == pytest.approx(whole, rel=1e-12)
    assert bins.MOST_ROWS >= 1000
