"""Listings come from source text; code digests see code and nothing else."""

import importlib
import subprocess
import sys
import textwrap

import pytest

from bench import registry
from bench.errors import BenchError


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A little package on the path; returns a function that rewrites one of its files."""
    for name in [name for name in sys.modules if name.startswith("zoo_pkg")]:
        del sys.modules[name]
    root = tmp_path / "zoo_pkg"
    root.mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(textwrap.dedent(text))
        registry.code_digest.cache_clear()

    write("__init__.py", "")
    write("parts.py", "WIDTH = 3\n")
    write(
        "model.py",
        '''
        import import_that_does_not_exist
        from zoo_pkg.parts import WIDTH
        class Net:
            """A net of one layer.

            More text."""
            family = "vae"
            paper: str = "Some title, 2020, arXiv 2001.00001"
            size = 4
            def f(self): return WIDTH
        ''',
    )
    return write


def test_describe_reads_literals_without_importing(package):
    about = registry.describe(registry.find("model", "zoo_pkg.model:Net"))
    assert about == {
        "summary": "A net of one layer.",
        "family": "vae",
        "paper": "Some title, 2020, arXiv 2001.00001",
    }


def test_digest_follows_code_of_the_package_and_ignores_comments(package):
    before = registry.code_digest("zoo_pkg.model:Net")
    package("parts.py", '"""A docstring."""\n# a comment\nWIDTH   =   3\n')
    assert registry.code_digest("zoo_pkg.model:Net") == before
    package("parts.py", "WIDTH = 4\n")
    assert registry.code_digest("zoo_pkg.model:Net") != before


def test_digest_follows_relative_imports(package):
    package("model.py", "from .parts import WIDTH\nfrom . import parts\nclass Net: pass\n")
    before = registry.code_digest("zoo_pkg.model:Net")
    package("parts.py", "WIDTH = 5\n")
    assert registry.code_digest("zoo_pkg.model:Net") != before


def test_digest_follows_the_whole_package_from_a_subpackage(package):
    package("deep/__init__.py", "")
    package("deep/net.py", "from ..parts import WIDTH\nclass Net: pass\n")
    before = registry.code_digest("zoo_pkg.deep.net:Net")
    package("parts.py", "WIDTH = 6\n")
    assert registry.code_digest("zoo_pkg.deep.net:Net") != before


def test_digest_of_a_metric_follows_the_statistics_behind_its_intervals():
    closure = registry._closure("bench.metrics.collapse", ("bench.metrics", "bench.stats"))
    assert "bench.stats.intervals" in closure
    assert not any(name.startswith("bench.report") for name in closure)


def test_digest_ignores_the_words_of_a_card(package):
    text = "class Net:\n    paper = 'A'\n    known_failures = ('{}' 'y')\n    family = '{}'\n"
    package("model.py", text.format("x", "vae"))
    before = registry.code_digest("zoo_pkg.model:Net")
    package("model.py", text.format("z", "vae"))
    assert registry.code_digest("zoo_pkg.model:Net") == before
    package("model.py", text.format("x", "gan"))
    assert registry.code_digest("zoo_pkg.model:Net") != before


def test_digest_of_a_loose_file_follows_the_files_beside_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    digests = set()
    for width in (1, 2, 2):
        (tmp_path / "loose_model.py").write_text(
            "import json, numpy.linalg, bench.model\nfrom loose_parts.net import WIDTH\nclass Net: pass\n"
        )
        (tmp_path / "loose_parts").mkdir(exist_ok=True)
        (tmp_path / "loose_parts" / "net.py").write_text(f"import loose_sizes\nWIDTH = {width}\n")
        (tmp_path / "loose_sizes.py").write_text("SIZE = 3\n")
        importlib.invalidate_caches()
        registry.code_digest.cache_clear()
        digests.add(registry.code_digest("loose_model:Net"))
        assert registry._closure("loose_model", "loose_model") == {"loose_model", "loose_parts.net", "loose_sizes"}
    assert len(digests) == 2


def test_digests_import_nothing(package):
    registry.code_digest("zoo_pkg.model:Net")
    assert not {"zoo_pkg.model", "zoo_pkg.parts"} & set(sys.modules)


def test_errors_are_sentences(package):
    with pytest.raises(BenchError, match=r"cannot import .zoo_pkg\.model:Net..*import_that_does_not_exist"):
        registry.load("zoo_pkg.model:Net")
    with pytest.raises(BenchError, match=r"module .zoo_pkg\.parts. has no 'Net'"):
        registry.load("zoo_pkg.parts:Net")
    with pytest.raises(BenchError, match="unknown model 'vaee'; did you mean 'vae'"):
        registry.find("model", "vaee")


def test_a_broken_file_is_a_sentence_with_its_line(package):
    package("torn.py", "import sys\nclass Net(:\n    pass\n")
    with pytest.raises(BenchError, match=r"torn\.py, line 2: not valid Python"):
        registry.code_digest("zoo_pkg.torn:Net")
    with pytest.raises(BenchError, match=r"cannot import .zoo_pkg\.torn:Net.: SyntaxError: .*torn\.py, line 2"):
        registry.load("zoo_pkg.torn:Net")
    package("raises.py", "import sys\nWIDTH = undefined\nclass Net: pass\n")
    with pytest.raises(BenchError, match=r"NameError: name 'undefined' is not defined \(raises\.py, line 2\)"):
        registry.load("zoo_pkg.raises:Net")


def test_built_ins_are_registered_described_and_importable():
    for kind in registry.KINDS:
        found = registry.entries(kind)
        assert found
        for entry in found.values():
            about = registry.describe(entry)
            assert len(about["summary"]) > 10, entry
            assert registry.load(entry.target).__name__ == entry.target.partition(":")[2]


@pytest.mark.parametrize("what", ["models", "datasets", "metrics", "extractors", "suites"])
def test_listing_imports_no_torch(what):
    code = (
        "import sys; sys.argv = ['bench', 'list', %r]\n"
        "from bench.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code % what], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 4


def test_help_imports_neither_torch_nor_pandas():
    code = (
        "import sys; sys.argv = ['bench', '--help']\n"
        "from bench.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'scipy', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
