"""`bench sanity` small and fast: every registered metric that can be tried on little data responds as documented."""

import numpy as np
import pytest

from bench import registry
from bench.data.digits import Digits
from bench.metrics.base import Metric
from bench.plan import Part
from bench.record import Measurement
from bench.sanity import trial
from bench.sanity.expected import EXPECTED, stem
from bench.sanity.judge import chance, judge
from bench.sanity.page import page
from bench.sanity.run import Reading
from bench.sanity.trial import try_metrics

FAST = (
    "bins", "clipped", "cmmd", "collapse", "fld", "frechet", "frechet-infinity", "inception-score", "kernel", "latent-paths",
    "likelihood", "memorisation", "modes", "prdc", "realism", "reconstruction", "sliced-wasserstein", "vendi",
)  # fmt: skip


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield try_metrics("mnist", "dataset-classifier", FAST, n=160, repeats=3, strengths=2, points=("ring8",))


def test_every_metric_responds_as_documented(outcome):
    said = [f"{f.stem} under {f.corruption}: {f.found}, {f.correlation:+.2f}" for f in outcome.failures]
    assert not said
    assert {finding.metric for finding in outcome.findings} == set(FAST)
    assert sum(finding.documented is not None for finding in outcome.findings) > 60


def test_all_measurements_of_these_metrics_are_held_to_something(outcome):
    """At 160 images the corrected Fréchet distance of 128 features can be told, too."""
    held = {f.stem for f in outcome.findings if f.documented is not None}
    assert {"fd_corrected", "ppl_z_full_l2", "anomaly_auroc", "density", "fld_gap"} <= held


def test_known_blind_spots_are_found(outcome):
    found = {(f.stem, f.corruption): f.found for f in outcome.findings}
    assert found["kid", "memorised"] == "nothing", "a kernel distance does not see copying"
    assert found["near_copies", "noise"] != "worse", "noise makes no copies (it may undo some that are so by chance)"


def test_the_page_has_a_card_for_each_metric(outcome):
    text = page(outcome)
    for name in FAST:
        assert f"\n## {name}\n" in text
    assert "NOT FOUND" not in text
    assert text.count("\n| `") > 100


class AlwaysOne(Metric):
    """A metric that notices nothing."""

    def measure(self, evidence):
        return [Measurement(1.0, name=f"kid_{evidence.extractor}", n=len(evidence.samples), direction="lower")]


def test_a_metric_that_does_not_respond_fails(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here = f"{__name__}:AlwaysOne"
    entry = registry.Entry("metric", "kernel", here)
    monkeypatch.setattr(trial, "part_of", lambda name, options=None: Part(name=name, target=entry.target, digest="x"))
    blind = try_metrics("digits", "dataset-classifier", ["kernel"], n=60, repeats=3, strengths=1, points=())
    assert {finding.corruption for finding in blind.failures} == {"noise", "blur", "jpeg", "mode-dropping"}
    assert "NOT FOUND" in page(blind)


class GivesUp(AlwaysOne):
    """A metric that can be computed on images of the data set alone."""

    def measure(self, evidence):
        data = Digits().load()
        known = {image.tobytes() for image in (*data.train, *data.test)}
        if not known.issuperset(image.tobytes() for image in evidence.samples):
            raise ValueError("cannot be computed")
        return super().measure(evidence)


def test_a_metric_that_cannot_be_computed_under_a_corruption_fails(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    part = Part(name="kernel", target=f"{__name__}:GivesUp", digest="x")
    monkeypatch.setattr(trial, "part_of", lambda name, options=None: part)
    outcome = try_metrics("digits", "dataset-classifier", ["kernel"], n=60, repeats=3, strengths=1, points=())
    failed = {finding.corruption: finding for finding in outcome.failures}
    assert set(failed) == {"noise", "blur", "jpeg", "mode-dropping"}
    assert all(len(failed[name].values) == 1 for name in ("noise", "blur", "jpeg")), "a value on clean data alone"
    assert "NOT FOUND" in page(outcome)


def reading(value, strength, repeat, corruption="noise", name="kid", direction="lower"):
    return Reading("kernel", name, direction, "samples", corruption if strength else "clean", strength, repeat, value)


def test_detection_needs_every_repetition_beyond_every_clean_one():
    clean = [reading(v, 0.0, i) for i, v in enumerate((1.0, 1.1, 0.9))]
    weak = [reading(v, 0.1, i) for i, v in enumerate((1.2, 1.05, 1.3))]
    strong = [reading(v, 0.5, i) for i, v in enumerate((2.0, 2.1, 1.9))]
    (finding,) = judge([*clean, *weak, *strong])
    assert finding.found == "worse"
    assert finding.detected == 0.5
    assert 0.8 < finding.correlation < 1
    assert not finding.fails
    (upwards,) = judge([*(r for r in clean), *(reading(-r.value, r.strength, r.repeat) for r in strong)])
    assert upwards.found == "better"
    assert upwards.fails, "documented as worse"


def test_higher_is_better_turns_the_sign():
    clean = [reading(v, 0.0, i, name="precision", direction="higher") for i, v in enumerate((0.9, 0.8))]
    noisy = [reading(v, 0.4, i, name="precision", direction="higher") for i, v in enumerate((0.1, 0.2))]
    (finding,) = judge([*clean, *noisy])
    assert finding.found == "worse"
    assert finding.values == ((0.0, pytest.approx(0.85)), (0.4, pytest.approx(0.15)))


def test_chance_of_a_false_detection():
    rng = np.random.default_rng(0)
    hits = sum(rng.random(3).min() > rng.random(3).max() for _ in range(20_000))
    assert hits / 20_000 == pytest.approx(chance(3), abs=0.006)


def test_every_registered_metric_has_a_documented_response():
    """A metric that is registered without a claim would never be held to anything."""
    texts = {
        name: registry.module_path(entry.target.partition(":")[0]).read_text()
        for name, entry in registry.entries("metric").items()
    }
    assert set(texts) >= set(FAST)
    assert stem("fd_effnetlite0_mid", "effnetlite0") == "fd"
    assert stem("pdist_effnetlite0_diversity", "effnetlite0") == "pdist_effnetlite0_diversity"
    assert all(set(claims.values()) <= {"worse", "better"} for claims in EXPECTED.values())
