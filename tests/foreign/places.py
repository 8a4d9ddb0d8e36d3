"""Images put into every kind of place that `bench score` reads: each function returns its path."""

import zipfile

import numpy as np
from PIL import Image


def as_folder(images, place, suffix="png"):
    (place / "deeper").mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(place / ("deeper" if i % 2 else ".") / f"{i:03}.{suffix}")
    return place


def as_zip(images, place):
    folder = as_folder(images, place / "unpacked")
    with zipfile.ZipFile(place / "images.zip", "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder))
    return place / "images.zip"


def as_npz(images, place):
    np.savez(place / "images.npz", images)
    return place / "images.npz"


def as_npy(images, place):
    np.save(place / "images.npy", images)
    return place / "images.npy"
