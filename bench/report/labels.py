"""Direct labels beside the points of a plot, placed so that none covers another, a point or an error bar."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Where a label may stand, in points from its mark: (dx, dy, share of its width to the left, of its height below the anchor);
# the best places first.
_NEAR = [
    (9, 0, 0.0, 0.5), (-9, 0, 1.0, 0.5), (8, 6, 0.0, 0.0), (8, -6, 0.0, 1.0), (-8, 6, 1.0, 0.0), (-8, -6, 1.0, 1.0),
    (0, 10, 0.5, 0.0), (0, -10, 0.5, 1.0),
]  # fmt: skip
_FAR = [(k * dx, k * dy, left, below) for k in (2.2, 3.4) for dx, dy, left, below in _NEAR]


def place_labels(axes: Axes, points: Sequence[tuple[float, float, str, Any]], size: float = 10) -> None:
    """Label each (x, y, text, colour) in data coordinates. Greedy: the most crowded point first, the place that hides least.

    Labels far from their point get a thin leader line. Call it last, when limits and scales of the axes are final.
    """
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    point = axes.figure.dpi / 72
    marks = axes.transData.transform([(x, y) for x, y, *_ in points])
    taken = [np.array([x - 5 * point, y - 5 * point, x + 5 * point, y + 5 * point]) for x, y in marks]
    taken += _bars(axes)
    taken += [np.array(text.get_window_extent(renderer).extents) for text in axes.texts]
    frame = np.array(axes.get_window_extent(renderer).extents)
    distances = np.linalg.norm(marks[:, None] - marks[None], axis=-1)
    crowded_first = np.argsort(np.sort(distances, axis=1)[:, 1:3].sum(axis=1), kind="stable")
    for i in crowded_first:
        x, y, text, colour = points[i]
        label = axes.annotate(
            text, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=size, color=colour, zorder=6, gid="label"
        )
        width, height = label.get_window_extent(renderer).size
        label.remove()
        boxes = []
        for dx, dy, left, below in _NEAR + _FAR:
            x0, y0 = marks[i][0] + dx * point - left * width, marks[i][1] + dy * point - below * height
            boxes.append(np.array([x0, y0, x0 + width, y0 + height]))
        costs = [
            sum(_overlap(box, other) for other in taken) + 10 * _outside(box, frame) + order * point * point
            for order, box in enumerate(boxes)
        ]
        chosen = int(np.argmin(costs))
        dx, dy, left, below = (_NEAR + _FAR)[chosen]
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 4}
        axes.annotate(
            text, (x, y), xytext=(dx, dy), textcoords="offset points", fontsize=size, color=colour, zorder=6, gid="label",
            ha={0.0: "left", 0.5: "center", 1.0: "right"}[left], va={0.0: "bottom", 0.5: "center", 1.0: "top"}[below],
            arrowprops=leader if chosen >= len(_NEAR) else None,
        )  # fmt: skip
        taken.append(boxes[chosen])


def _bars(axes: Axes) -> list[np.ndarray]:
    """Thin boxes around the error bars the steps of the front and the floor, as already drawn."""
    boxes = []
    for line in axes.lines:
        if line.get_gid() == "floor line":
            y = axes.transData.transform((1, float(np.asarray(line.get_ydata())[0])))[1]
            boxes.append(np.array([axes.bbox.x0, y - 2, axes.bbox.x1, y + 2]))
        if line.get_gid() == "front":
            corners = axes.transData.transform(np.column_stack(line.get_data()))
            corners = np.array([corner for a, b in pairwise(corners) for corner in (a, [b[0], a[1]])] + [corners[-1]])
            boxes += [np.concatenate([np.minimum(a, b) - 2, np.maximum(a, b) + 2]) for a, b in pairwise(corners)]
    for container in axes.containers:
        for collection in container[2]:  # type: ignore[index]
            for segment in collection.get_segments():
                ends = axes.transData.transform(segment)
                if np.isfinite(ends).all():
                    low, high = ends.min(axis=0) - 2, ends.max(axis=0) + 2
                    boxes.append(np.concatenate([low, high]))
    return boxes


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Shared area of two boxes (x0, y0, x1, y1), in pixels."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    return float(width * height) if width > 0 and height > 0 else 0.0


def _outside(box: np.ndarray, frame: np.ndarray) -> float:
    """Area of ``box`` outside of ``frame``."""
    width, height = box[2:] - box[:2]
    return float(width * height) - _overlap(box, frame)
