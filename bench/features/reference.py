"""Reference statistics: the mean and covariance of a data set's features, with where they come from inside the file.

Files are npz without pickle. Foreign files with ``mu`` and ``sigma`` (pytorch-fid, clean-fid, ADM) are read as well; what
they do not say about themselves stays unknown, and is said to be unknown.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import uuid
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.features.base import Extractor
from bench.stats.moments import checked_moments

FORMAT = "gen-bench reference statistics 1"
FOREIGN_LAYERS = {"pool": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}  # ADM's files hold sFID's layer, too


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where statistics come from. None means that the file does not say.

    extractor, extractor_version: name and version (weights hash, resize mode, input size, normalisation).
    weights_sha256, resize: those parts of the version by themselves: the beginning of the hash, the name of the mode.
    data_sha256: SHA-256 over the pixels of the images. split: ``train``, ``test`` ...
    source: the file that a foreign statistic was read from.
    """

    extractor: str | None = None
    extractor_version: str | None = None
    layer: str | None = None
    data: str | None = None
    data_sha256: str | None = None
    split: str | None = None
    source: str | None = None
    weights_sha256: str | None = None
    resize: str | None = None


@dataclasses.dataclass(frozen=True)
class ReferenceStatistics:
    """mu: float64 ``(d,)``. sigma: float64 ``(d, d)``, unbiased covariance. n: images behind them, or None where unknown."""

    mu: np.ndarray
    sigma: np.ndarray
    n: int | None
    provenance: Provenance

    @classmethod
    def of_features(
        cls, features: np.ndarray, extractor: Extractor, layer: str, *, data: str, data_sha256: str, split: str | None
    ) -> ReferenceStatistics:
        """Statistics of a feature matrix ``(N, d)``, N >= 2 and all finite, in float64."""
        values = _checked(features, "the features of the reference")
        provenance = Provenance(
            extractor.name,
            extractor.version,
            layer,
            data,
            data_sha256,
            split,
            weights_sha256=extractor.fingerprint,
            resize=extractor.mode,
        )
        return cls(values.mean(0), np.atleast_2d(np.cov(values, rowvar=False)), len(values), provenance)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the npz, aside first and then renamed. ``.npz`` is added where it is missing."""
        path = with_suffix(path)
        about = {"format": FORMAT, "n": self.n, **dataclasses.asdict(self.provenance)}
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                np.savez(file, mu=self.mu, sigma=self.sigma, provenance=np.array(json.dumps(about)))
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise BenchError(f"cannot write statistics to {path}: {error.strerror}; choose another place") from None
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str], layer: str = "pool") -> ReferenceStatistics:
        """Read our files and those of pytorch-fid, clean-fid (statistics, or features under ``feats``) and ADM.

        layer: which statistics to take from a foreign file: ``spatial`` (sFID), else those of the whole image, as for FID. Ours
        name their layer.
        """
        path = Path(path).expanduser()
        arrays = _read(path, layer)
        provenance, n = Provenance(layer=layer, source=str(path)), None
        if "provenance" in arrays:
            provenance, n = _provenance(arrays["provenance"], path)
        elif "feats" in arrays:
            features = _checked(arrays["feats"], f"the features in {path}")
            return cls(features.mean(0), np.atleast_2d(np.cov(features, rowvar=False)), len(features), provenance)
        mu, sigma = checked_moments(arrays["mu"], arrays["sigma"], f"the statistics in {path}")
        return cls(mu, sigma, n, provenance)

    def require(self, extractor: Extractor, layer: str) -> str | None:
        """Raises BenchError where features of ``extractor`` must not be compared with these statistics.

        Returns a note for the reader where the file does not say what it was made with, else None.
        """
        width = extractor.layers.get(layer)
        about = self.provenance
        if width != len(self.mu) or (about.layer is not None and about.layer != layer):
            raise BenchError(
                f"statistics of layer '{about.layer}' ({len(self.mu)} numbers) cannot be compared with layer "
                f"'{layer}' of {extractor.name} ({width}); make them with the same extractor and layer"
            )
        if about.extractor_version is None:
            return f"{about.source} does not say with which weights and resizing it was made"
        if about.extractor_version != extractor.version:
            raise BenchError(
                f"statistics were made with [{about.extractor_version}], these features with [{extractor.version}]; "
                "make the statistics again"
            )
        return None


def with_suffix(path: str | os.PathLike[str]) -> Path:
    """Where ``save(path)`` writes."""
    path = Path(path).expanduser()
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")


def _checked(features: np.ndarray, what: str) -> np.ndarray:
    """float64 ``(N, d)`` with N >= 2, all finite; else BenchError."""
    if features.ndim != 2 or len(features) < 2 or features.shape[1] == 0 or features.dtype.kind not in "fiu":
        raise BenchError(
            f"{what} are {features.dtype} {features.shape}, but a covariance needs numbers (N, d) with N >= 2; give more images"
        )
    values = features.astype(np.float64)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(1)))
        raise BenchError(f"{what} must be finite, but row {row} holds NaN or infinity; look at that image")
    return values


def _read(path: Path, layer: str) -> dict[str, np.ndarray]:
    """The arrays of a statistics file that matter, under our names; other arrays (ADM's images) are not even decoded."""
    mu, sigma = FOREIGN_LAYERS.get(layer, ("mu", "sigma"))
    try:
        contents = np.load(path, allow_pickle=False)
        if isinstance(contents, np.ndarray):
            raise BenchError(f"{path} is a single array, no statistics; give an npz with mu and sigma")
        with contents as file:
            names = {"provenance": "provenance"} if "provenance" in file.files else {}
            if names:
                mu, sigma = "mu", "sigma"
            if mu in file.files and sigma in file.files:
                names |= {"mu": mu, "sigma": sigma}
            elif "feats" in file.files and layer != "spatial":
                names |= {"feats": "feats"}
            else:
                raise BenchError(
                    f"{path} has no {mu} and {sigma} (it has {', '.join(file.files)}); give statistics of layer '{layer}'"
                )
            return {own: file[theirs] for own, theirs in names.items()}
    except FileNotFoundError:
        raise BenchError(f"statistics {path} do not exist; correct the path or make them") from None
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise BenchError(
                f"{path} holds pickled objects, which are never loaded; save mu and sigma as plain arrays"
            ) from None
        raise BenchError(f"cannot read statistics from {path}: {error}; give an npz with mu and sigma") from None
    except (OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise BenchError(f"cannot read statistics from {path}: {error}; it is damaged or no npz") from None


def _provenance(text: np.ndarray, path: Path) -> tuple[Provenance, int | None]:
    try:
        about: dict[str, Any] = json.loads(str(text))
        if about.pop("format") != FORMAT:
            raise ValueError("another format")
        n = about.pop("n")
        known = {field.name for field in dataclasses.fields(Provenance)}
        return Provenance(**{key: value for key, value in about.items() if key in known}), n
    except (ValueError, KeyError, AttributeError, TypeError):
        raise BenchError(f"{path} does not say what it is in a way we know ({FORMAT}); make it again") from None
