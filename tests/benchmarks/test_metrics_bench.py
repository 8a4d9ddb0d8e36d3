"""Speed and memory beside other libraries: d = 2048, 10000 real and 10000 fake features, run in turn on the same data.

    python -m pytest tests/benchmarks/test_metrics_bench.py --benchmark-only -s

Each test prints the seconds of every library and the ratio to ours, and fails where a promised ratio is not met.
"""

import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from bench.metrics.frechet import frechet_distance, frechet_distances
from bench.metrics.inception import inception_score
from bench.metrics.kernel import kernel_distance
from bench.metrics.precision_recall import prdc

pytestmark = [pytest.mark.peer, pytest.mark.timeout(1800)]

N, D = 10_000, 2048
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))


def feature_set(which, n=N, d=D):
    """float32 with a power-law spectrum i^-1.2, as of a network; fakes have other scales and a shift."""
    rng = np.random.default_rng(which)
    scale = np.arange(1, d + 1, dtype=np.float32) ** -0.6
    if which:
        scale = scale * np.exp(0.1 * rng.standard_normal(d)).astype(np.float32)
    basis = np.linalg.qr(np.random.default_rng(7).standard_normal((d, d)))[0].astype(np.float32)
    return (rng.standard_normal((n, d), dtype=np.float32) * scale) @ basis.T + np.float32(0.01 * which)


@pytest.fixture(scope="module")
def sets():
    return feature_set(0), feature_set(1)


def seconds(call):
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        call()
    return time.perf_counter() - began


def beside(benchmark, ours, peers, rounds=ROUNDS):
    """Run ours and every peer in turn ``rounds`` times -> peer -> (its median seconds) / (our median seconds)."""
    times = {name: [] for name in peers}

    def peers_first():
        for name, peer in peers.items():
            times[name].append(seconds(peer))

    benchmark.pedantic(ours, setup=peers_first, rounds=rounds)
    own = benchmark.stats.stats.median
    ratios = {name: statistics.median(values) / own for name, values in times.items()}
    print(f"\nours {own:.2f} s")
    for name, ratio in ratios.items():
        print(f"{name} {statistics.median(times[name]):.2f} s = {ratio:.2f} x ours")
    benchmark.extra_info["ratios"] = ratios
    return ratios


def torchmetrics_from_features(real, fake):
    from torchmetrics.image.fid import _compute_fid

    moments = []
    for features in (real, fake):
        x = torch.from_numpy(features).double()
        mean = x.mean(0)
        moments += [mean, (x.T @ x - len(x) * torch.outer(mean, mean)) / (len(x) - 1)]
    return _compute_fid(*moments)


def fidelity_from_features(real, fake):
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    return fid_statistics_to_metric(
        *(fid_features_to_statistics(torch.from_numpy(z)) for z in (real, fake)), verbose=False
    )


def sqrtm_from_features(distance):
    def call(real, fake):
        return distance(*(part for z in (real, fake) for part in (z.mean(0), np.cov(z, rowvar=False))))

    return call


def test_frechet_distance_from_features(benchmark, sets):
    from pytorch_fid.fid_score import calculate_frechet_distance

    ratios = beside(
        benchmark,
        lambda: frechet_distance(*sets, interval=False),
        {
            "torch-fidelity": lambda: fidelity_from_features(*sets),
            "torchmetrics": lambda: torchmetrics_from_features(*sets),
            "pytorch-fid, clean-fid (sqrtm)": lambda: sqrtm_from_features(calculate_frechet_distance)(*sets),
        },
    )
    assert (
        min(ratios["torch-fidelity"], ratios["torchmetrics"]) >= 1.5
    )  # more than half of our time goes into the two covariances,
    assert ratios["pytorch-fid, clean-fid (sqrtm)"] >= 5  # at the processor's float64 peak, as it does in every library


def test_frechet_distance_from_statistics(benchmark, sets):
    from cleanfid.fid import frechet_distance as clean_fid
    from torch_fidelity.metric_fid import fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    from bench.metrics.frechet import frechet_distance_from_stats

    stats = [part for z in sets for part in (z.mean(0).astype(float), np.cov(z, rowvar=False))]
    tensors = [torch.from_numpy(part) for part in stats]
    pairs = [{"mu": stats[i], "sigma": stats[i + 1]} for i in (0, 2)]
    ratios = beside(
        benchmark,
        lambda: frechet_distance_from_stats(*stats),
        {
            "torch-fidelity": lambda: fid_statistics_to_metric(*pairs, verbose=False),
            "torchmetrics": lambda: _compute_fid(*tensors),
            "clean-fid, pytorch-fid (sqrtm)": lambda: clean_fid(*stats),
        },
    )
    assert min(ratios["torch-fidelity"], ratios["torchmetrics"]) >= 2
    assert ratios["clean-fid, pytorch-fid (sqrtm)"] >= 8


def test_interval_of_the_frechet_distance(benchmark, sets):
    """The distance with its corrected value and interval costs at most ten times the distance alone."""
    ratios = beside(
        benchmark,
        lambda: frechet_distances(*sets),
        {"the distance alone": lambda: frechet_distance(*sets, interval=False)},
    )
    assert ratios["the distance alone"] >= 1 / 10


def test_kernel_distance(benchmark, sets):
    import piq
    from cleanfid.fid import kernel_distance as clean_fid
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torchmetrics.image.kid import poly_mmd

    x, y = (torch.from_numpy(z) for z in sets)

    def torchmetrics():
        for _ in range(100):
            poly_mmd(x[torch.randperm(N)[:1000]], y[torch.randperm(N)[:1000]])

    peers = {
        "torch-fidelity": lambda: kid_features_to_metric(
            x, y, kid_subsets=100, kid_subset_size=1000, rng_seed=2020, verbose=False
        ),
        "torchmetrics": torchmetrics,
        "clean-fid": lambda: clean_fid(*sets),
        "piq": lambda: piq.KID(n_subsets=100, subset_size=1000, average=True).compute_metric(x, y),
    }
    ratios = beside(benchmark, lambda: kernel_distance(*sets), peers)
    assert min(ratios.values()) > 1


def test_kernel_distance_in_float32_is_exact_to_six_digits(benchmark, sets):
    exact = float(kernel_distance(*(z.astype(np.float64) for z in sets)))
    ours = float(benchmark.pedantic(kernel_distance, args=sets, rounds=1))
    print(f"\nfloat32 {ours!r}, float64 {exact!r}, relative error {abs(ours / exact - 1):.1e}")
    assert ours == pytest.approx(exact, rel=1e-6)


def test_precision_recall_density_coverage(benchmark, sets):
    from prdc import compute_prdc
    from torch_fidelity.metric_prc import prc_features_to_metric

    x, y = (torch.from_numpy(z) for z in sets)
    ratios = beside(
        benchmark,
        lambda: prdc(*sets, interval=False),
        {
            "with intervals": lambda: prdc(*sets),
            "prdc": lambda: compute_prdc(*sets, 5),
            "torch-fidelity (P, R only)": lambda: prc_features_to_metric(
                y, x, prc_neighborhood=5, prc_batch_size=10_000, verbose=False
            ),
        },
        rounds=min(ROUNDS, 2),
    )
    assert ratios["prdc"] >= 3.5


PEAK = """
import gc, json
from pathlib import Path
import numpy as np, torch
from tests.benchmarks.test_metrics_bench import feature_set

def status(key):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024

real, fake = feature_set(0, {n}), feature_set(1, {n})
{warm_up}
gc.collect()
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
before = status("VmRSS")
result = [float(value) for value in {call}]
print(json.dumps([status("VmHWM") - before, result]))
"""


def peak_mib(imports, call, n=N):
    """(MiB above the features in a process of its own, the result)."""
    warm_up = f"{imports}\nreal_, fake_ = real[:100], fake[:100]\n" + call.replace("real", "real_").replace(
        "fake", "fake_"
    )
    script = PEAK.format(n=n, warm_up=warm_up, call=call)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")

OURS = ("from bench.metrics.precision_recall import prdc", "prdc(real, fake)")
PACKAGE = ("from prdc import compute_prdc", "compute_prdc(real, fake, 5).values()")


@linux
def test_memory_of_precision_recall_density_coverage(benchmark):
    package, counts = peak_mib(*PACKAGE)
    ours, own_counts = benchmark.pedantic(peak_mib, args=OURS, rounds=1)
    print(f"\nextra memory: prdc {package:.0f} MiB, ours {ours:.0f} MiB = 1/{package / ours:.1f}")
    assert own_counts == pytest.approx(counts, abs=1e-12)
    assert ours <= package / 6


@linux
def test_memory_of_fifty_thousand(benchmark):
    ours, _ = benchmark.pedantic(peak_mib, args=(*OURS, 50_000), rounds=1)
    print(f"\n50000 + 50000: extra memory {ours:.0f} MiB")
    assert ours <= 2048


@linux
def test_memory_of_the_vendi_score_of_fifty_thousand(benchmark):
    """N = 50000 in some matrices of d x d and some thousands of rows, where N x N would take 20 GB."""
    own = ("from bench.metrics.vendi import vendi_score", "[vendi_score(fake)]")
    ours, _ = benchmark.pedantic(peak_mib, args=(*own, 50_000), rounds=1)
    square = D * D * 8 / 2**20
    print(f"\n50000: extra memory {ours:.0f} MiB = {ours / square:.1f} times d x d")
    assert ours <= 24 * square


def test_vendi_score(benchmark, sets):
    """Against vendi-score's N x N default and its dual, N = 5000."""
    from vendi_score import vendi

    x = sets[1][:5000]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    peers = {
        "vendi-score score_X (N x N)": lambda: vendi.score_X(unit, normalize=False),
        "vendi-score score_dual": lambda: vendi.score_dual(unit, normalize=False),
    }
    from bench.metrics.vendi import _SecondMoment

    beside(benchmark, lambda: _SecondMoment(x).eigenvalues(None), peers, rounds=min(ROUNDS, 2))


def test_inception_score(benchmark):
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = 2 * np.random.default_rng(0).standard_normal((50_000, 1008)).astype(np.float32)
    x = torch.from_numpy(logits)
    peers = {"torch-fidelity": lambda: isc_features_to_metric(x.double(), splits=10, shuffle=True, rng_seed=2020)}
    beside(benchmark, lambda: inception_score(logits, seed=2020), peers)
