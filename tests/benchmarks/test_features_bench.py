"""From PNG files to Inception features beside clean-fid, with the same random weights. Run with ``--benchmark-only -s``.

Ours and theirs take turns, so that a busy machine slows both; ratios are of medians. ``cpu`` is processor time (all threads
together), which other jobs on the machine disturb less than wall time.
"""

import itertools
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from bench.data.decode import decode
from bench.data.images import Tally
from bench.data.sources import EncodedImages
from bench.features.fast import compare, faster
from bench.features.files import extract_files
from bench.features.inception import InceptionExtractor
from bench.features.resize import resize
from tests.features.random_inception import network_with, random_state

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
pytestmark = [pytest.mark.benchmark(group="features"), pytest.mark.timeout(1800)]


def take_turns(
    work: dict[str, Callable[[], object]], images: int, rounds: int = ROUNDS
) -> dict[str, tuple[float, float]]:
    """Median (wall, processor) images/s of each piece of work, run in turns after one warm-up each."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, run in work.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if turn:
                times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: (images / statistics.median(w for w, _ in taken), images / statistics.median(c for _, c in taken))
        for name, taken in times.items()
    }


def report(title: str, speeds: dict[str, tuple[float, float]], peer: str) -> None:
    print(f"\n{title} ({torch.get_num_threads()} threads)")
    for name, (wall, cpu) in speeds.items():
        ratio = f"{wall / speeds[peer][0]:5.2f}x wall, {cpu / speeds[peer][1]:5.2f}x cpu"
        print(f"  {name:32} {wall:9.1f} images/s wall {cpu:9.1f} images/s cpu   {ratio}")


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return random_state(0)


@pytest.fixture(scope="module")
def clean_fid(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    peer = pytest.importorskip("cleanfid.inception_pytorch")
    fetch, peer.load_state_dict_from_url = peer.load_state_dict_from_url, lambda url, progress: state
    try:
        return peer.InceptionV3([3], resize_input=False, normalize_input=False).eval()
    finally:
        peer.load_state_dict_from_url = fetch


def png_folder(folder: Path, side: int, count: int) -> Path:
    """Smooth random colour fields with grain: they compress about as photographs do."""
    rng = np.random.default_rng(0)
    for i in range(count):
        field = ndimage.gaussian_filter(rng.normal(size=(side, side, 3)), (side / 16, side / 16, 0))
        pixels = 128 + 60 * field / field.std() + rng.normal(scale=4, size=field.shape)
        Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8)).save(folder / f"{i:04}.png")
    return folder


def has_bfloat16() -> bool:
    """Whether the processor computes with bfloat16; without such instructions it is emulated, slower than float32."""
    flags = Path("/proc/cpuinfo")
    return torch.cuda.is_available() or (flags.exists() and "bf16" in flags.read_text())


@pytest.mark.parametrize(("side", "count"), [(32, 256), (256, 64)])
def test_decode_and_resize(benchmark, tmp_path: Path, side: int, count: int) -> None:
    """PNG files to 299 x 299 floats, against clean-fid's data set in a loader with 0 and 2 workers."""
    utils = pytest.importorskip("cleanfid.utils")
    folder = png_folder(tmp_path, side, count)
    files = sorted(folder.iterdir())

    def ours() -> None:
        images = Tally(EncodedImages(folder), True, "").readable(EncodedImages(folder).walk(transparency="dropped"))
        while batch := [image.pixels for image in itertools.islice(images, 16)]:
            resize(torch.from_numpy(np.stack(batch)), 299)

    def theirs(workers: int) -> None:
        for _ in torch.utils.data.DataLoader(
            utils.ResizeDataset(files, mode="clean"), batch_size=16, num_workers=workers
        ):
            pass

    work = {
        "clean-fid, 0 workers": lambda: theirs(0),
        "clean-fid, 2 workers": lambda: theirs(2),
        "ours": ours,
        "decoding alone, 1 thread": lambda: [decode(path.read_bytes(), "dropped") for path in files],
    }
    report(f"PNG {side} px -> 299 px, clean", take_turns(work, count), "clean-fid, 0 workers")
    benchmark.pedantic(ours, rounds=1)


def test_network_exact_float32(benchmark, state, clean_fid) -> None:
    """The network alone, on the same 299 x 299 pixels."""
    extractor = InceptionExtractor.of_network(network_with(state), "random", layers=["pool"])
    channels_last = extractor.pixels(torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8))
    pixels = channels_last.contiguous()
    with torch.inference_mode():
        theirs, ours = clean_fid(pixels)[0].flatten(1), extractor.run(channels_last)["pool"]
        assert (ours - theirs).norm() < 1e-5 * theirs.norm()
        work = {"clean-fid": lambda: clean_fid(pixels), "ours": lambda: extractor.run(channels_last)}
        report("Inception-v3, batch 8, exact float32", take_turns(work, 8), "clean-fid")
        benchmark.pedantic(work["ours"], rounds=1)


def test_files_to_features(benchmark, tmp_path: Path, state, clean_fid) -> None:
    """PNG files to features, end to end."""
    fid = pytest.importorskip("cleanfid.fid")
    extractor = InceptionExtractor.of_network(network_with(state), "random", layers=["pool"])
    folder = png_folder(tmp_path, 32, 32)
    files = sorted(folder.iterdir())

    def theirs() -> np.ndarray:
        model = lambda batch: clean_fid((batch - 128) / 128)[0].flatten(1)  # noqa: E731
        return fid.get_files_features([str(path) for path in files], model, 0, 8, "cpu", "clean", verbose=False)

    def ours() -> np.ndarray:
        return extract_files(EncodedImages(folder), extractor, batch_size=8).features["pool"]

    assert np.linalg.norm(ours() - theirs()) < 1e-5 * np.linalg.norm(theirs())
    report("PNG 32 px -> features", take_turns({"clean-fid": theirs, "ours": ours}, 32, min(3, ROUNDS)), "clean-fid")
    benchmark.pedantic(ours, rounds=1)


def test_opt_in_precision(benchmark, state, clean_fid) -> None:
    """bfloat16 and compilation: speed beside the check that decides whether they may be used."""
    images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    blurred = ndimage.gaussian_filter(images, (0, 1, 1, 0))
    exact = InceptionExtractor.of_network(network_with(state), "random", layers=["pool"])
    pixels = exact.pixels(torch.from_numpy(images[:8]))
    print()
    work: dict[str, Callable[[], object]] = {"clean-fid": lambda: clean_fid(pixels), "exact": lambda: exact.run(pixels)}
    for bfloat16, compiled in itertools.product((False, True), repeat=2):
        if not (bfloat16 or compiled) or (bfloat16 and not has_bfloat16()):
            continue
        fast = faster(InceptionExtractor.of_network(network_with(state), "random", layers=["pool"]), bfloat16, compiled)
        name = " ".join(word for word, used in (("bfloat16", bfloat16), ("compiled", compiled)) if used)
        print(f"  {name}: {compare(exact, fast, images, blurred)}")
        work[name] = lambda fast=fast: fast.run(pixels)
    with torch.inference_mode():
        report("Inception-v3, batch 8, opt-in speed", take_turns(work, 8, min(3, ROUNDS)), "clean-fid")
        benchmark.pedantic(work["exact"], rounds=1)
