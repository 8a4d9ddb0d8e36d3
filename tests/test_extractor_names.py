"""One way to name extractors, on the command line and in suites."""

import pytest

from bench.errors import BenchError
from bench.extractor_names import extractor_source
from bench.measured_names import may_measure
from bench.plan import plan
from bench.suite import load_config

SUITE = """
[suites.s]
datasets = ["digits"]
models = ["vae"]
seeds = [0]
budget = {{ steps = 2 }}
metrics = ["kernel"]
extractor = {extractor}
"""


def config(tmp_path, extractor):
    path = tmp_path / "benchmarks.toml"
    path.write_text(SUITE.format(extractor=extractor))
    return load_config(path)


@pytest.mark.parametrize(
    ("name", "target", "options"),
    [
        ("timm:resnet18.a1_in1k", "TimmExtractor", {"model": "resnet18.a1_in1k"}),
        ("dinov2-vits14", "DINOv2Extractor", {"variant": "vits14"}),
        ("clip-vitl14_336", "CLIPExtractor", {"variant": "vitl14_336"}),
        ("inception-legacy_tensorflow", "InceptionExtractor", {"mode": "legacy_tensorflow"}),
        ("inception", "InceptionExtractor", {}),
        ("dataset-classifier", "DatasetClassifier", {}),
        ("my_package.mine:Mine", "my_package.mine:Mine", {}),
    ],
)
def test_names_mean_the_same_in_suites_as_in_score(name, target, options, tmp_path):
    found, given = extractor_source(name)
    assert found.endswith(target)
    assert given == options
    suite = config(tmp_path, f'["effnetlite0", "{name}"]').suite("s")
    assert [choice.name for choice in suite.extractor] == ["effnetlite0", name]


def test_a_suite_resolves_kinds_and_keeps_their_options(tmp_path):
    settings = config(tmp_path, '[{ name = "timm:resnet18", weights = "w.safetensors" }, "timm:resnet50"]')
    (trial, *_) = plan(settings, "s", device="cpu")
    assert [(part.name, part.options) for part in trial.extractors] == [
        ("timm:resnet18", {"model": "resnet18", "weights": "w.safetensors"}),
        ("timm:resnet50", {"model": "resnet50"}),
    ]
    assert all(part.target.endswith(":TimmExtractor") for part in trial.extractors)
    assert len({part.digest for part in trial.extractors}) == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timn:resnet18", "did you mean 'timm:resnet18'"),
        ("dinov-vits14", "did you mean 'dinov2-vits14'"),
        ("effnetlite", "did you mean 'effnetlite0'"),
        ("timm", "write for example timm:resnet18"),
        ("timm:", "write for example timm:resnet18"),
    ],
)
def test_unknown_kinds_are_named_with_the_nearest(name, said, tmp_path):
    with pytest.raises(BenchError, match=said):
        extractor_source(name)
    with pytest.raises(BenchError, match=rf"benchmarks.toml: key 'suites.s.extractor': .*{said}"):
        config(tmp_path, f'"{name}"')


def test_a_measurement_of_a_kind_may_rank():
    assert may_measure("kid_timm_resnet18_a1_in1k", ["kernel"], ["timm:resnet18.a1_in1k"])
    assert may_measure("kid_dinov2_vits14", ["kernel"], ["dinov2-vits14"])
    assert not may_measure("kid_effnetlite0", ["kernel"], ["timm:resnet18"])
