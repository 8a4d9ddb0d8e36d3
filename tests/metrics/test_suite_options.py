"""Metrics of suites take the options of their functions, give the same numbers, and say in the name what is not the default."""

from __future__ import annotations

import numpy as np
import pytest

from bench import metrics, registry
from bench.errors import BenchError
from bench.measured_names import may_measure
from bench.metrics.memorisation import memorisation_verdict
from bench.metrics.vendi import vendi_score
from tests.metrics.sets import Evidence, evidence


def named(name):
    return registry.load(registry.find("metric", name).target)


@pytest.fixture(scope="module")
def seen() -> Evidence:
    return evidence(int(np.random.randint(2**31)), "images")


def sets(seen):
    return [seen.features(split, "final") for split in ("train", "real", "fake")]


OPTIONS = {
    "prdc": ({"k": 3, "closed": True}, {
        f"{name}_k3_closed_toy": lambda train, real, fake, i=i: metrics.prdc(real, fake, 3, closed=True)[i]
        for i, name in enumerate(("precision", "recall", "density", "coverage"))
    }),
    "kernel": ({"subsets": 7, "subset_size": 40}, {
        "kid_toy": lambda train, real, fake: metrics.kernel_distance(real, fake),
        "kid_7x40_toy": lambda train, real, fake: metrics.kernel_distance_subsets(real, fake, 7, 40).mean,
    }),
    "realism": ({"k": 5}, {"realism_k5_toy": lambda train, real, fake: metrics.median_realism(real, fake, 5)}),
    "clipped": ({"k": 3}, {
        "clipped_density_k3_toy": lambda train, real, fake: metrics.clipped_density(real, fake, 3),
        "clipped_coverage_k3_toy": lambda train, real, fake: metrics.clipped_coverage(real, fake, 3),
    }),
    "sliced-wasserstein": ({"directions": 40}, {
        "sliced_w2_directions40_toy": lambda train, real, fake: metrics.sliced_wasserstein(real, fake, 40),
    }),
    "vendi": ({"orders": [0.5, "inf"]}, {
        "vendi_q0.5_toy": lambda train, real, fake: vendi_score(fake, 0.5),
        "vendi_qinf_toy": lambda train, real, fake: vendi_score(fake, np.inf),
    }),
    "frechet-infinity": ({"points": 6}, {
        "fd_infinity_points6_toy_final": lambda train, real, fake: metrics.fid_infinity(real, fake, points=6),
    }),
    "bins": ({"bins": 5}, {
        "ndb_bins5_toy": lambda train, real, fake: metrics.ndb(real, fake, 5, train)[0],
        "jsd_bins_bins5_toy": lambda train, real, fake: metrics.ndb(real, fake, 5, train)[1],
    }),
    "memorisation": ({"cells": 2, "threshold": 0.9}, {
        "data_copying_ct_cells2_toy": lambda train, real, fake: metrics.data_copying(train, real, fake, 2),
        "memorised_cells2_toy": lambda train, real, fake: memorisation_verdict(train, real, fake, 2),
        "mifd_threshold0.9_toy_final": lambda train, real, fake: metrics.mifid(
            metrics.frechet_distance(real, fake), metrics.mifid_distance(train, fake), 0.9
        ),
        "authpct_toy": lambda train, real, fake: metrics.authpct(train, fake),
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_options_are_those_of_the_function_and_stand_in_the_name(name, seen):
    options, due = OPTIONS[name]
    found = {m.name: m for m in named(name)(**options).measure(seen)}
    assert set(due) <= set(found)
    for measurement, function in due.items():
        assert float(found[measurement]) == pytest.approx(float(function(*sets(seen))), rel=1e-9, nan_ok=True)
        assert may_measure(measurement, [name], ["toy"])
    usual = {m.name for m in named(name)().measure(seen)}
    assert usual.isdisjoint(set(due) - {"kid_toy", "authpct_toy", "vendi_qinf_toy"})


def test_the_inception_score_takes_splits_and_the_published_shuffle(seen):
    (found,) = named("inception-score")(splits=2, shuffle=2020).measure(seen)
    logits = seen.features("fake", "logits")
    assert found.name == "is_splits2_seed2020_toy"
    assert float(found) == float(metrics.inception_score(logits, 2, 2020))
    (found,) = named("inception-score")(shuffle="none").measure(seen)
    assert found.name == "is_seednone_toy"
    assert float(found) == float(metrics.inception_score(logits, 10, None))
    assert named("inception-score")().measure(seen)[0].name == "is_toy"


def test_noise_levels_are_chosen(seen):
    found = [m.name for m in named("reconstruction")(noise_levels=[0.05]).measure(seen)]
    assert [name for name in found if name.startswith("denoising")] == ["denoising_gain_0.05"]


def test_pairs_are_chosen(seen):
    assert float(named("ms-ssim-diversity")(pairs=9).measure(seen)[0]) == float(
        metrics.ms_ssim_diversity(seen.samples, pairs=9)
    )


def test_fewer_bins_than_asked_for_are_said(seen):
    found = named("bins")().measure(seen)
    assert all("9 bins of 100" in m.note for m in found)


@pytest.mark.parametrize(
    "name",
    ["bins", "clipped", "cmmd", "collapse", "conditional", "fld", "frechet", "frechet-infinity", "kernel", "memorisation",
     "prdc", "realism", "sliced-wasserstein", "vendi"],
)  # fmt: skip
def test_every_metric_of_features_takes_a_layer(name, seen):
    found = [m.name for m in named(name)(layer="spatial").measure(seen)]
    assert any(each.endswith("_toy_spatial") for each in found)
    with pytest.raises(BenchError, match="no layer 'spatail'"):
        named(name)(layer="spatail").measure(seen)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("prdc", {"k": 0}, "k must be at least 1"),
        ("kernel", {"subsets": 0}, "subsets must be at least 1"),
        ("vendi", {"orders": [0.0]}, "orders of Vendi scores must be positive"),
        ("bins", {"bins": 1}, "bins must be at least 2"),
        ("memorisation", {"threshold": -1.0}, "threshold is a cosine distance"),
        ("reconstruction", {"noise_levels": [0.0]}, "noise_levels must be above 0"),
        ("inception-score", {"shuffle": -1}, "shuffle must be at least 0"),
        ("sliced-wasserstein", {"directions": 1}, "directions must be at least 2"),
        ("frechet-infinity", {"points": 1}, "points must be at least 2"),
        ("lpips-diversity", {"net": "vgg19"}, "no distance 'vgg19'"),
    ],
)
def test_impossible_options_are_refused_when_the_metric_is_made(name, options, said):
    with pytest.raises(BenchError, match=said):
        named(name)(**options)


def test_names_with_settings_are_checked_for_the_extractor():
    for name in (
        "precision_k3_dataset_classifier",
        "kid_100x1000_dataset_classifier_mid",
        "precision_dataset_classifier",
    ):
        assert may_measure(name, ["prdc", "kernel"], ["dataset-classifier"])
        assert not may_measure(
            name.replace("dataset_classifier", "effnetlite0"), ["prdc", "kernel"], ["dataset-classifier"]
        )
