"""What a reader of `bench score` must know about the sets of images, and of the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from bench.foreign_images import ImageSet
from bench.record import Measurement

LOOKED_AT = 64  # images of a folder or zip whose range of values is looked at


def warnings_of(images: ImageSet) -> list[str]:
    """What a reader must know about one set."""
    warnings = []
    if images.report.corrupt:
        warnings.append(images.report.summary())
    if images.report.transparent:
        warnings.append(
            f"{images.report.transparent} of {len(images)} images from {images.name} had transparency, which was dropped, as clean-fid "
            "and pytorch-fid do"
        )
    return warnings + _range_warnings(images)


def _range_warnings(images: ImageSet) -> list[str]:
    """Pictures that are no pictures: one value everywhere, or nothing above 1."""
    some = images.some(LOOKED_AT)
    least, most = (min(int(each.min()) for each in some), max(int(each.max()) for each in some))
    if least == most:
        return [f"all pixels of {images.name} are {most}: look at the images"]
    if most <= 1:
        return [
            f"no pixel of {images.name} is above 1 of 255: pixels from 0 to 1 must be multiplied by 255 before they become uint8"
        ]
    return []


def input_warnings(fake: ImageSet, real: ImageSet, train: ImageSet | None) -> list[str]:
    """What about the sets makes their comparison doubtful."""
    warnings = warnings_of(fake) + warnings_of(real) + ([] if train is None else warnings_of(train))
    if len(fake) != len(real):
        warnings.append(
            f"{len(fake)} samples against {len(real)} reference images: compare equal counts only, as raw Fréchet distances, precision, "
            "recall, density and coverage depend on both"
        )
    of_fake, of_real = _lossy(fake), _lossy(real)
    if of_fake is not None and of_real is not None and abs(of_fake - of_real) > 0.5:
        warnings.append(
            f"{fake.name} holds {of_fake:.0%} JPEG and {real.name} {of_real:.0%}: the distance also measures JPEG artefacts"
        )
    return warnings + _equal_images(fake, real, train)


def _equal_images(fake: ImageSet, real: ImageSet, train: ImageSet | None) -> list[str]:
    """Images that stand in a set twice or in two sets, pixel by pixel."""
    warnings = []
    shared = _shared(fake, real)
    if shared:
        warnings.append(
            f"{shared} of {len(fake)} samples equal a reference image: the sets are not independent and intervals do not hold"
        )
    different = len(set(fake.report.digests))
    if different < len(fake):
        warnings.append(
            f"{len(fake) - different} of {len(fake)} samples repeat another one pixel by pixel: intervals take samples for independent"
        )
    if train is not None:
        shared = _shared(real, train)
        if shared:
            warnings.append(
                f"{shared} of {len(real)} reference images are training images, too: copies of them pass for good samples"
            )
        copies = _shared(fake, train)
        if copies:
            warnings.append(f"{copies} of {len(fake)} samples equal a training image pixel by pixel")
    return warnings


def _shared(images: ImageSet, others: ImageSet) -> int:
    """How many of ``images`` are among the others."""
    known = set(others.report.digests)
    return sum(digest in known for digest in images.report.digests)


def _lossy(images: ImageSet) -> float | None:
    """Share of JPEG files; None where files are unknown (arrays)."""
    if "array" in images.report.formats:
        return None
    return images.report.formats.get("JPEG", 0) / max(sum(images.report.formats.values()), 1)


def warnings_of_values(measurements: Sequence[Measurement]) -> list[str]:
    """What measurements say of themselves, each sentence once with the names of all that say it, and the verdict on copies."""
    names: dict[str, list[str]] = {}
    for measurement in measurements:
        if measurement.note:
            names.setdefault(measurement.note, []).append(measurement.name)
    warnings = [f"{', '.join(of)}: {note}" for note, of in names.items()]
    if any(m.name.startswith("memorised") and m == 1 for m in measurements):
        warnings.append("the samples are closer to training images than new data are: distances reward this copying")
    return warnings
