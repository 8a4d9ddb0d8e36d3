"""Wrong configs: each is one sentence with file, key path and remedy."""

from pathlib import Path

import pytest

from bench.config_file import find_config
from bench.errors import BenchError
from bench.measured_names import STEMS, may_measure
from bench.record import extractor_names
from bench.store import ResultStore
from bench.suite import Config, load_config

GOOD = """
[suites.tiny]
datasets = ["digits"]
models = ["vae"]
budget = { steps = 5 }
metrics = ["kernel"]
"""

WRONG = {
    "unknown key": (GOOD + "sed = [1]\n", r"unknown key 'sed' in \[suites\.tiny\]; did you mean 'seeds'"),
    "unknown table": (GOOD + "[model.x]\n", r"unknown key 'model' in .*did you mean 'models'"),
    "unknown model": (GOOD.replace('"vae"', '"vea"'), r"suites\.tiny\.models\[0\]': unknown model 'vea'.*'vae'"),
    "unknown data set": (GOOD.replace('"digits"', '"digit"'), r"suites\.tiny\.datasets\[0\].*did you mean 'digits'"),
    "unknown metric": (GOOD.replace('"kernel"', '"kernl"'), r"suites\.tiny\.metrics\[0\].*did you mean 'kernel'"),
    "unknown unit": (GOOD.replace("steps = 5", "minutes = 5"), r"unknown key 'minutes' in \[suites\.tiny\.budget\]"),
    "two budgets": (GOOD.replace("steps = 5", "steps = 5, images = 9"), r"exactly one of .*got images and steps"),
    "no budget": (GOOD.replace("budget = { steps = 5 }", ""), r"key 'suites\.tiny\.budget' is missing"),
    "negative budget": (GOOD.replace("steps = 5", "steps = -5"), r"suites\.tiny\.budget\.steps.*greater than 0"),
    "wrong type": (GOOD + 'seeds = "0,1"\n', r"suites\.tiny\.seeds.*list"),
    "repeated seed": (GOOD + "seeds = [1, 1]\n", r"suites\.tiny\.seeds': '1' stands twice"),
    "negative seed": (GOOD + "seeds = [-1]\n", r"suites\.tiny\.seeds\[0\].*greater than or equal to 0"),
    "huge seed": (GOOD + f"seeds = [{2**70}]\n", r"suites\.tiny\.seeds\[0\].*less than 4294967296"),
    "endless budget": (GOOD.replace("steps = 5", "seconds = inf"), r"suites\.tiny\.budget\.seconds.*finite number"),
    "endless time-out": (GOOD + "timeout = inf\n", r"suites\.tiny\.timeout.*finite number"),
    "not TOML": (GOOD + "seeds = [1,\n", r"not valid TOML"),
    "class without colon": (GOOD + '[models.mine]\nclass = "my_pkg.MyVAE"\n', r"'class' must read 'module:Class'"),
    "class and model": (GOOD + '[models.mine]\nclass = "a:B"\nmodel = "vae"\n', r"either 'model' or 'class'"),
    "gate without suite": (
        GOOD + '[gate]\nsuite = "tyni"\n[[gate.metrics]]\nmetric = "kid"\ndirection = "lower"\n',
        r"gate\.suite': no suite 'tyni'; did you mean 'tiny'",
    ),
    "gate direction": (
        GOOD + '[gate]\nsuite = "tiny"\n[[gate.metrics]]\nmetric = "kid"\ndirection = "down"\n',
        r"gate\.metrics\[0\]\.direction.*'higher' or 'lower', got 'down'",
    ),
    "bad precision": (
        GOOD + 'precision = "half"\n',
        r"suites\.tiny\.precision.*'auto', 'float32', 'bfloat16' or 'float16'",
    ),
    "curves without a distance": (
        GOOD.replace('"kernel"', '"prdc"') + "checkpoints = 3\n",
        r"suites\.tiny.*need frechet or kernel among the metrics",
    ),
    "target without value": (GOOD + 'target = { metric = "kid" }\n', r"suites\.tiny\.target\.value' is missing"),
    "unknown key of a target": (
        GOOD + 'target = { metric = "kid", metrc = 1, value = 1 }\n',
        r"unknown key 'metrc'.*'metric'",
    ),
    "batch of zero": (GOOD + "batch_sweep = [0]\n", r"suites\.tiny\.batch_sweep\[0\].*greater than 0"),
    "price without a date": (
        GOOD + '[[prices]]\ndevice = "AMD EPYC.*"\nper_hour = 0.1\nsource = "bill"\n',
        r"prices\[0\]\.date' is missing",
    ),
    "free device": (
        GOOD + '[[prices]]\ndevice = "L4"\nper_hour = 0\ndate = 2026-11-01\nsource = "bill"\n',
        r"prices\[0\]\.per_hour.*greater",
    ),
    "device that is no expression": (
        GOOD + '[[prices]]\ndevice = "L4("\nper_hour = 1\ndate = 2026-11-01\nsource = "bill"\n',
        r"prices\[0\]\.device.*'L4\(' is not a regular expression",
    ),
    "unknown key of a price": (
        GOOD + '[[prices]]\ndevice = "L4"\nper_hur = 1\nper_hour = 1\ndate = 2026-11-01\nsource = "bill"\n',
        r"unknown key 'per_hur'.*'per_hour'",
    ),
    "class of data without colon": (
        GOOD + '[datasets.mine]\nclass = "my_pkg.Data"\n',
        r"'class' must read 'module:Class'",
    ),
    "one metric twice": (
        GOOD.replace('["kernel"]', '["kernel", { name = "prdc", k = 3 }, { name = "prdc", k = 5 }]'),
        r"suites\.tiny\.metrics': 'prdc' stands twice",
    ),
    "one extractor twice": (
        GOOD + 'extractor = ["effnetlite0", "effnetlite0"]\n',
        r"extractor': 'effnetlite0' stands twice",
    ),
    "ranked by what no metric measures": (
        GOOD + 'rank_by = "fd_effnetlite0_mid"\n',
        r"suites\.tiny\.rank_by': the suite does not measure 'fd_effnetlite0_mid'; did you mean",
    ),
    "ranked by another extractor": (GOOD + 'rank_by = "kid_inception"\n', r"rank_by': the suite does not measure"),
    "misspelt extractor of a rank": (GOOD + 'rank_by = "kid_efnetlite0"\n', r"did you mean 'kid_effnetlite0'"),
    "misspelt measurement": (GOOD + 'rank_by = "kdi_effnetlite0"\n', r"did you mean 'kid_effnetlite0'"),
    "misspelt objective": (
        GOOD + 'objectives = ["kid_effnetlite0", "sampling_throughputs"]\n',
        r"objectives\[1\]': .*did you mean 'sampling_throughput'",
    ),
    "unknown extractor": (GOOD + 'extractor = "effnet"\n', r"suites\.tiny\.extractor': unknown extractor 'effnet'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_config_is_one_sentence(name, tmp_path):
    text, expected = WRONG[name]
    path = tmp_path / "benchmarks.toml"
    path.write_text(text)
    with pytest.raises(BenchError, match=expected) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_everything_in_committed_records_may_be_ranked_by():
    """The names in bench.measured_names are those that trials really leave behind."""
    for path in Path("results").glob("*/records.jsonl"):
        for record in ResultStore(path.parent).records():
            extractors = extractor_names(record.config).split(", ")
            metrics = [metric["name"] for metric in record.config["metrics"]]
            for found in record.measurements:
                assert may_measure(found.name, metrics, extractors), found.name
                if found.source in STEMS:
                    left = [metric for metric in STEMS if metric != found.source]
                    assert not may_measure(found.name, left, extractors), found.name


def test_metrics_of_other_packages_may_measure_anything(tmp_path):
    path = tmp_path / "benchmarks.toml"
    path.write_text(GOOD.replace('"kernel"', '"sliced-wasserstein"') + 'rank_by = "my_own_score_effnetlite0"\n')
    assert load_config(path).suite("tiny").rank_by == "my_own_score_effnetlite0"


def test_good_config(tmp_path):
    path = tmp_path / "benchmarks.toml"
    path.write_text(GOOD + '[models.mine]\nclass = "my_pkg.my_model:MyVAE"\nconfig = { width = 3 }\n')
    config = load_config(path)
    assert config.suite("tiny").budget.unit == "steps"
    assert config.model_source("mine") == ("my_pkg.my_model:MyVAE", {"width": 3})
    with pytest.raises(BenchError, match="did you mean 'tiny'"):
        config.suite("tinny")


def test_shipped_config_is_valid_and_has_the_promised_suites():
    config = load_config(find_config(Path("benchmarks.toml")))
    assert {"quick", "mnist", "emoji", "gpu"} <= set(config.suites)
    assert len({suite.budget.unit for suite in config.suites.values()} & {"seconds", "images"}) == 2


def test_missing_config_file(tmp_path):
    with pytest.raises(BenchError, match="no config file"):
        find_config(tmp_path / "nothing.toml")


def test_schema_is_a_json_schema_of_the_whole_file():
    schema = Config.model_json_schema(by_alias=True)
    assert set(schema["properties"]) == {"suites", "models", "datasets", "gate", "prices"}
    assert "class" in schema["$defs"]["ModelVariant"]["properties"]
