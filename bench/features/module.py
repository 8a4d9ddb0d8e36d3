"""Any network as an extractor: a torch module in hand, or a model of timm by name."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bench.errors import BenchError, did_you_mean
from bench.features.module_state import module_digest, state_digest
from bench.features.network import NetworkExtractor
from bench.features.weights import load_state_dict, sha256_of


class ModuleExtractor(NetworkExtractor):
    """Any torch module that turns ``(B, 3, size, size)`` into a feature matrix ``(B, d)`` or a dict of such.

    mean, std: of each channel, for pixels in [0, 1]. name: stands in measurement names (``fd_<name>``).
    A tensor becomes the layer ``features``. fingerprint: what tells this module from others; default a digest of its weights, its
    plain attributes and its code. Where these cannot be seen whole (see ``bench.features.module_state``), a warning says so and
    features are not cached.
    """

    def __init__(
        self, module: nn.Module, size: int, mean: float | Sequence[float] = 0.5, std: float | Sequence[float] = 0.5,
        name: str = "module", fingerprint: str | None = None,
    ) -> None:  # fmt: skip
        network = _Named(module.eval(), name)
        uncacheable = None
        if fingerprint is None:
            state, uncacheable = state_digest(module)
            fingerprint = hashlib.sha256(f"{module_digest(module)}{state}".encode()).hexdigest()[:16]
        super().__init__(
            name,
            network,
            {},
            fingerprint=f"{fingerprint}-incomplete" if uncacheable else fingerprint,
            sides=(size, size),
            mean=_grey_levels(mean),
            std=_grey_levels(std),
        )
        if uncacheable is not None:
            self.uncacheable = uncacheable
            warnings.warn(f"features of extractor {name} are not cached: {uncacheable}", stacklevel=2)
        self.to(next((each.device for each in (*module.parameters(), *module.buffers())), self.device))
        with torch.inference_mode():
            probe = network(self.pixels(torch.zeros(2, size, size, 3, dtype=torch.uint8, device=self.device)))
        self.layers = {layer: values.shape[1] for layer, values in probe.items()}


class TimmExtractor(ModuleExtractor):
    """A model of the timm library by name: pooled features and, where it has a classifier, logits.

    weights: the file (safetensors or state dict), where it is not in the Hugging Face cache. download: permission to fetch
    it. The whole image is resized to the model's input size; nothing is cropped.
    """

    paper: ClassVar[str] = "PyTorch Image Models, 2019, github.com/huggingface/pytorch-image-models"
    licence: ClassVar[str] = "Apache-2.0 (code); weights: see each model's card"

    def __init__(self, model: str, weights: str | os.PathLike[str] | None = None, download: bool = False) -> None:
        try:
            import timm
        except ImportError:
            raise BenchError("extractor timm needs the package timm: run pip install timm") from None
        if not timm.is_model(model):
            raise BenchError(f"timm has no model '{model}'; {did_you_mean(model, timm.list_models())}")
        path = _timm_weights(model, weights, download)
        state = load_state_dict(path)
        try:
            with torch.random.fork_rng(devices=[]):  # timm draws weights before it loads them
                network = timm.create_model(model, pretrained=True, pretrained_cfg_overlay={"state_dict": state})
        except (RuntimeError, KeyError) as error:
            wrong = _few_keys(str(error).splitlines()[-1].strip().rstrip("."))
            raise BenchError(
                f"{path} does not hold the weights of timm's {model} ({wrong}); give its own file"
            ) from None
        settings = timm.data.resolve_model_data_config(network)
        super().__init__(
            _TimmLayers(network),
            settings["input_size"][-1],
            settings["mean"],
            settings["std"],
            "timm_" + model.replace(".", "_").replace("/", "_"),
            sha256_of(path)[:16],
        )


class _Named(nn.Module):
    """Gives the output's layers their names and refuses anything but matrices: flattened maps are not features."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module, self.name = module, name

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        output = self.module(x)
        layers = output if isinstance(output, dict) else {"features": output}
        for layer, values in layers.items():
            if not isinstance(values, Tensor) or values.ndim != 2 or len(values) != len(x):
                shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
                raise BenchError(
                    f"extractor {self.name} gave {shape} for layer '{layer}' of {len(x)} images, expected (B, d); "
                    "pool or flatten inside the module"
                )
        return layers


class _TimmLayers(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.network.forward_head(self.network.forward_features(x), pre_logits=True)
        classifier = self.network.get_classifier()
        return {"features": features} | (
            {} if isinstance(classifier, nn.Identity) else {"logits": classifier(features)}
        )


def _few_keys(text: str, most: int = 3) -> str:
    """A sentence of torch's with only the first of the keys that it names."""
    keys = re.findall(r'"[^"]*"', text)
    return text if len(keys) <= most else f"{text[: text.index(keys[most])].rstrip(', ')} and {len(keys) - most} more"


def _grey_levels(value: float | Sequence[float]) -> float | tuple[float, ...]:
    return value * 255 if isinstance(value, int | float) else tuple(channel * 255 for channel in value)


def _timm_weights(model: str, weights: str | os.PathLike[str] | None, download: bool) -> Path:
    """The weight file: given, in the Hugging Face cache, or fetched with permission."""
    import timm
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    if weights is not None:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise BenchError(f"the weights of timm's {model} are not at {path}; give the path of a safetensors file")
        return path
    settings = timm.get_pretrained_cfg(model)
    repository = getattr(settings, "hf_hub_id", None)
    if not repository:
        raise BenchError(f"timm has no published weights for {model}; name a file with the option weights")
    file = getattr(settings, "hf_hub_filename", None) or "model.safetensors"
    cached = try_to_load_from_cache(repository, file)
    if isinstance(cached, str):
        return Path(cached)
    if not download:
        raise BenchError(
            f"extractor timm:{model} needs {file} of huggingface.co/{repository} in the Hugging Face cache; "
            "fetch it there or name the file with the option weights"
        )
    try:
        return Path(hf_hub_download(repository, file))
    except Exception as error:
        raise BenchError(
            f"cannot download {file} of {repository}: {str(error).splitlines()[0]}; fetch it by hand"
        ) from None
