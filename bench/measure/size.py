"""How big a model is, before anything is trained: parameters, and FLOPs an image of training and of sampling."""

from __future__ import annotations

import torch

from bench.measure.flops import FlopCount, count, count_training
from bench.model import Batch, FitsPrior, GenerativeModel, SampleGenerator
from bench.space import ImageSpace

IMAGES = 8


def measure_size(model: GenerativeModel) -> dict[str, str]:
    """Label -> text. FLOPs are counted on copies in training, and on one sample, of random images; the model is changed by the latter."""
    found = {"parameters": f"{sum(parameter.numel() for parameter in model.parameters()):,}"}
    if not model.trains or not isinstance(model.space, ImageSpace):
        return found
    batch = _random_batch(model)
    training, steps = count_training(model, lambda copied, progress: copied.train_step(batch, progress))
    found["training FLOPs an image"] = _said(training, steps * len(batch))
    model.eval()
    with torch.inference_mode():
        if isinstance(model, FitsPrior):
            model.fit_prior([_random_batch(model) for _ in range(IMAGES)])
        found["sampling FLOPs an image"] = _said(
            count(lambda: model.sample(1, SampleGenerator(0, 1, 0, model.device))), 1
        )
    return found


def _random_batch(model: GenerativeModel) -> Batch:
    x = torch.rand(IMAGES, *model.space.shape, device=model.device) * 2 - 1
    return Batch(x, torch.zeros(IMAGES, dtype=torch.int64, device=model.device), IMAGES * ("a random image",))


def _said(found: FlopCount, images: int) -> str:
    text = f"{found.flops / images:,.0f} (covers {found.coverage:.1%} of the work)"
    return f"{text}; {found.note}" if found.note else text
