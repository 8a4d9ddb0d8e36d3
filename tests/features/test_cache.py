"""The feature cache: addressed by content, shared by processes, bounded, and never trusted blindly."""

import multiprocessing
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.errors import BenchError
from bench.features.base import Extractor
from bench.features.cache import FeatureCache, default_folder, feature_key


class Sums(Extractor):
    """Sums of pixels; counts how often it is asked."""

    name = "sums"

    def __init__(self, version: str = "sums 1") -> None:
        self.version = version
        self.layers = {"sum": 1}
        self.calls = 0

    def to(self, device: torch.device) -> "Sums":
        return self

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        self.calls += 1
        return {"sum": images.flatten(1).float().sum(1, keepdim=True)}


def noise(count: int = 6, side: int = 8) -> np.ndarray:
    return np.random.default_rng().integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_the_second_time_is_read_from_the_folder(tmp_path: Path) -> None:
    images, extractor = noise(), Sums()
    first = FeatureCache(tmp_path).features(images, extractor)
    second = FeatureCache(tmp_path).features(images.copy(), extractor)
    assert extractor.calls == 1
    np.testing.assert_array_equal(first["sum"], second["sum"])
    np.testing.assert_array_equal(first["sum"][:, 0], images.reshape(6, -1).sum(1, dtype=np.float32))


def test_whatever_changes_a_number_changes_the_key() -> None:
    images = noise()
    changed = images.copy()
    changed[3, 2, 1, 0] ^= 1
    wider = Sums()
    wider.layers = {"sum": 1, "more": 1}
    keys = [
        feature_key(images, Sums()),
        feature_key(changed, Sums()),
        feature_key(images[::-1], Sums()),
        feature_key(images.reshape(6, 16, 4, 3), Sums()),
        feature_key(images, Sums("sums 2")),
        feature_key(images, wider),
    ]
    assert len(set(keys)) == len(keys)
    assert feature_key(np.asfortranarray(images), Sums()) == keys[0]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "pickle", "other rows"])
def test_a_damaged_entry_is_ignored_and_rewritten(tmp_path: Path, damage: str) -> None:
    images, extractor, cache = noise(), Sums(), FeatureCache(tmp_path)
    good = cache.features(images, extractor)
    (entry,) = tmp_path.glob("*.npz")
    whole = bytearray(entry.read_bytes())
    if damage == "truncated":
        entry.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        whole[whole.find(good["sum"].tobytes()) + 5] ^= 0x40
        entry.write_bytes(whole)
    elif damage == "empty":
        entry.write_bytes(b"")
    elif damage == "pickle":
        entry.write_bytes(pickle.dumps({"sum": good["sum"]}))
    else:
        cache.put(entry.stem, {"sum": good["sum"][:2]})
    again = cache.features(images, extractor)
    np.testing.assert_array_equal(again["sum"], good["sum"])
    assert extractor.calls == 2
    assert cache.features(images, extractor)["sum"].shape == (6, 1)
    assert extractor.calls == 2, "the damaged entry was not rewritten"


def test_the_least_recently_used_entries_go_first(tmp_path: Path) -> None:
    row = {"sum": np.zeros((256, 1), np.float32)}
    FeatureCache(tmp_path).put("probe", row)
    size = (tmp_path / "probe.npz").stat().st_size
    (tmp_path / "probe.npz").unlink()
    cache = FeatureCache(tmp_path, max_bytes=3 * size)
    for i, key in enumerate("abc"):
        cache.put(key, row)
        os.utime(tmp_path / f"{key}.npz", (1000 + i, 1000 + i))
    assert cache.get("a") is not None, "a is now the most recently used"
    cache.put("d", row)
    assert sorted(path.stem for path in tmp_path.glob("*.npz")) == ["a", "c", "d"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= cache.max_bytes


def test_an_entry_larger_than_the_cache_is_not_stored(tmp_path: Path) -> None:
    cache, extractor, images = FeatureCache(tmp_path, max_bytes=10), Sums(), noise()
    assert cache.features(images, extractor)["sum"].shape == (6, 1)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_killed_processes_are_cleared_and_fresh_ones_kept(tmp_path: Path) -> None:
    old, fresh = tmp_path / ".k.1.tmp", tmp_path / ".k.2.tmp"
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    FeatureCache(tmp_path).put("a", {"sum": np.zeros((1, 1), np.float32)})
    assert not old.exists()
    assert fresh.exists()


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    images = noise()
    assert FeatureCache(blocked / "cache").features(images, Sums())["sum"].shape == (6, 1)


def _hammer(folder: str, seed: int, rounds: int, wrong: "multiprocessing.Queue[str]") -> None:
    """Read, write and evict a few shared keys; report every entry that is not what its key says."""
    rng = np.random.default_rng(seed)
    cache = FeatureCache(folder, max_bytes=6 * 4 * 20_000)
    for _ in range(rounds):
        value = int(rng.integers(0, 10))
        found = cache.get(f"key{value}")
        if found is None:
            cache.put(f"key{value}", {"sum": np.full((20_000, 1), value, np.float32)})
        elif found["sum"].shape != (20_000, 1) or not (found["sum"] == value).all():
            wrong.put(f"key{value} was torn")
    wrong.put("done")


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    wrong: multiprocessing.Queue[str] = context.Queue()
    workers = [context.Process(target=_hammer, args=(str(tmp_path), seed, 100, wrong)) for seed in (1, 2)]
    for worker in workers:
        worker.start()
    said = [wrong.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    assert said == ["done", "done"]
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert list(tmp_path.glob(".*.tmp")) == []
    assert 0 < sum(path.stat().st_size for path in tmp_path.glob("*.npz")) <= 2 * 6 * 4 * 20_000


def test_the_default_folder_respects_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "gen-bench" / "features"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_folder() == Path.home() / ".cache" / "gen-bench" / "features"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path.home() / ".cache" / "gen-bench" / "features"


def test_a_negative_size_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="must not be negative"):
        FeatureCache(tmp_path, max_bytes=-1)
