"""What the documents say is so: every `bench` command in them runs, every Python block runs, the table is the real one."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "plugin" / "README.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)

# The suites of the documents, at a size that a test can afford.
CONFIG = """
[suites.quick]
datasets = ["digits16"]
models = ["autoencoder", "vae-beta4"]
baselines = ["noise"]
seeds = [0, 1]
budget = { steps = 5 }
samples = 30
sample_batch = 30
metrics = ["frechet", "kernel", "reconstruction"]
rank_by = "kid_effnetlite0"

[models.vae-beta4]
model = "vae"
config = { beta = 4.0 }

[datasets.digits16]
dataset = "digits"
options = { resolution = 16 }

[gate]
suite = "quick"
[[gate.metrics]]
metric = "kid_effnetlite0"
direction = "lower"
"""


def blocks(language):
    found = []
    for path in DOCS:
        for name, text in BLOCK.findall(path.read_text()):
            if name == language:
                found.append((path.relative_to(ROOT).as_posix(), text))
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small `quick`, its results, and some images to score."""
    place = tmp_path_factory.mktemp("docs")
    (place / "benchmarks.toml").write_text(CONFIG)
    run(place, [sys.executable, "-m", "bench.cli", "run", "quick"])
    from PIL import Image

    from bench.data.digits import Digits

    (place / "samples").mkdir()
    for i, image in enumerate(Digits(resolution=16).load().train[:60]):
        Image.fromarray(image[..., 0]).save(place / "samples" / f"{i:03}.png")
    (place / "votes.csv").write_text("winner,loser\nvae,gan\ngan,vae\nvae,gan\n")
    (place / ".gitignore").write_text("artifacts/\n")
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -qm first"):
        run(place, ["git", *command.split()])
    return place


def run(place, command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"{command}\n{done.stderr}\n{done.stdout}"
    return done


def bench_commands(language):
    lines = []
    for path, text in blocks(language):
        for line in text.splitlines():
            command = line.partition("#")[0].strip()
            if command.startswith("bench "):
                lines.append(pytest.param(command, id=f"{path}: {command}"))
    return lines


@pytest.mark.parametrize("command", bench_commands("sh"))
def test_every_bench_command_runs(command, place):
    words = command.split()[1:]
    trial = None
    if "TRIAL" in words:
        import bench

        trial = bench.load_results(place / "results").trial.iloc[0]
    run(place, [sys.executable, "-m", "bench.cli", *(trial if word == "TRIAL" else word for word in words)])


@pytest.mark.parametrize("command", bench_commands("console"))
def test_every_command_that_takes_minutes_is_understood(command):
    """Those of ``console`` blocks: tests of their own run them; here their words and options are those of the command."""
    from typer.main import get_command

    from bench.cli import app

    _, name, *words = command.split()
    known = get_command(app).commands  # type: ignore[attr-defined]
    known[name].make_context(name, words)


def test_every_make_target_named_exists():
    makefile = (ROOT / "Makefile").read_text()
    named = {word for path in DOCS for word in re.findall(r"\bmake ([a-z]+)", path.read_text())}
    assert {"bench", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize(("path", "text"), [pytest.param(*block, id=block[0]) for block in blocks("python")])
def test_every_python_block_runs(path, text, place):
    (place / "example.py").write_text(text)
    run(place, [sys.executable, "example.py"])


@pytest.mark.parametrize(("path", "text"), [pytest.param(*block, id=block[0]) for block in blocks("toml")])
def test_every_toml_block_parses(path, text):
    assert tomllib.loads(text)


def committed(path):
    """A file as git has it staged: `make bench` writes new results over the committed ones. Without git: the file itself."""
    if not (ROOT / ".git").exists():
        return (ROOT / path).read_text()
    done = subprocess.run(["git", "show", f":{path}"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


TABLE = re.compile(r"<!-- table of (\S+) -->\n(.*?)\n<!-- /table -->", re.DOTALL)


@pytest.mark.parametrize("path", [path for path in DOCS if TABLE.search(path.read_text())], ids=lambda path: path.name)
def test_tables_are_those_of_the_committed_results(path):
    for source, shown in TABLE.findall(path.read_text()):
        board = committed(source)
        for line in shown.strip().splitlines():
            assert line in board, f"{path.name}: this line is not in {source}"


def test_the_readme_shows_a_table():
    assert TABLE.search((ROOT / "README.md").read_text())


def test_links_and_pictures_of_the_documents_exist():
    for path in DOCS:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
