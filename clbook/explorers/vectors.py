"""The turning vector: two vectors in the plane, and three ways to compare them."""

import math

import ipywidgets as widgets
import numpy as np
from matplotlib import style

from clbook.explorers.base import FAINT, INK, MUTED, NEGATIVE, POSITIVE, THIRD, Explorer, new_figure, signed

LONGEST = 2.0  # of the turning vector b; a has length 1
ANGLES = np.arange(-180, 181, 3)  # degrees


def compare(angle, length):
    """Dot product, cosine and Euclidean distance of a = (1, 0) and b of that length, `angle` degrees from a.

    angle: a number or an array; length: >= 0. The cosine with a zero vector counts as 0.
    """
    cosine = np.cos(np.radians(angle)) if length > 0 else np.zeros_like(angle, dtype=float)
    dot = length * np.cos(np.radians(angle))
    return dot, cosine, np.sqrt(np.maximum(1 + length**2 - 2 * dot, 0))


@style.context("default")  # whatever style the notebook plots in
def vectors(*, angle=60, length=1.0):
    """Turn a vector and stretch it: watch dot product, cosine and Euclidean distance.

    angle:  where b starts, degrees from a, -180 to 180.
    length: of b at the start, 0 to 2; a has length 1.
    ValueError for anything else.
    """
    for name, value, low, high in ("angle", angle, -180, 180), ("length", length, 0, LONGEST):
        if not low <= value <= high:
            raise ValueError(f"{name}: expected a number from {low:g} to {high:g}, got {value}")
    figure, place, moving = _picture()

    def update(angle, length):
        dot, cosine, distance = (float(value) for value in compare(angle, length))
        place(angle, length, (dot, cosine, distance))
        if length == 0:
            return (
                f"b is the zero vector: it has no direction, so no angle to a. Its cosine counts as 0; dot product "
                f"{signed(dot)}, Euclidean distance {distance:.2f}."
            )
        way = "along a" if cosine > 0.999 else "against a" if cosine < -0.999 else f"{abs(angle)}° from a"
        unit = (
            " Both have length 1, so distance² = 2 − 2 cos: "
            if length == 1
            else " Scaled to length 1, distance² would be 2 − 2 cos = "
        )
        return (
            f"b points {way}, with length {length:.2f}: dot product {signed(dot)}, cosine {signed(cosine)}, Euclidean "
            f"distance {distance:.2f}.{unit}{2 - 2 * cosine:.2f}."
        )

    return Explorer(
        "Turning vector",
        figure,
        update,
        controls={
            "angle": widgets.IntSlider(int(angle), min=-180, max=180, step=3, description="angle of b (degrees)"),
            "length": widgets.FloatSlider(length, min=0, max=LONGEST, step=0.05, description="length of b"),
        },
        settings=[{"angle": a, "length": b} for a, b in ((60, 1.0), (60, 2.0), (90, 0.5), (180, 1.0))],
        moving=moving,
    )


def _picture():
    """The figure, the function that places its moving artists, and these artists."""
    figure = new_figure(640, 350)
    plane = figure.add_axes((0.01, 0.08, 0.44, 0.84))
    curves = figure.add_axes((0.53, 0.15, 0.43, 0.65))
    _plane_axes(plane)
    _curve_axes(curves)
    arrow = {"arrowstyle": "-|>", "lw": 2.5, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 16}
    plane.annotate("", (1, 0), (0, 0), arrowprops=arrow | {"color": MUTED})
    plane.text(1.04, -0.2, "a", size=13, weight="bold", color=MUTED)
    b = plane.annotate("", (0, 1), (0, 0), arrowprops=arrow | {"color": INK}, annotation_clip=False)
    name = plane.text(0, 0, "b", size=13, weight="bold", color=INK, ha="center", va="center")
    (drop,) = plane.plot([], [], color=NEGATIVE, lw=1.2, ls=(0, (2, 2)))
    (shadow,) = plane.plot([], [], color=NEGATIVE, lw=5, alpha=0.55, solid_capstyle="butt")
    (gap,) = plane.plot([], [], color=THIRD, lw=2, ls=(0, (1, 1)))
    lines, marks, numbers = [], [], []
    looks = (  # the widest first: cosine and dot product cover each other at length 1
        ("dot product", NEGATIVE, "s", "--", 4.5, 13),
        ("cosine", POSITIVE, "o", "-", 2, 9),
        ("distance", THIRD, "^", ":", 2, 9),
    )
    for i, (label, color, marker, dashes, width, size) in enumerate(looks):
        lines += curves.plot(ANGLES, 0 * ANGLES, dashes, color=color, lw=width, dash_capstyle="butt")
        marks += curves.plot([0], [0], marker, color=color, ms=size, mec="white", mew=1, clip_on=False)
        left = (0.53, 0.71, 0.85)[i]
        key = {"color": color, "transform": figure.transFigure, "clip_on": False}
        curves.plot([left], [0.935], marker, ms=8, **key)
        figure.text(left + 0.018, 0.935, label, size=10, color=INK, va="center")
        numbers.append(figure.text(left + 0.018, 0.875, "", size=11, weight="bold", color=INK, va="center"))

    def place(angle, length, values):
        x, y = length * math.cos(math.radians(angle)), length * math.sin(math.radians(angle))
        b.xy = (x, y)
        b.arrow_patch.set_visible(length > 0)
        name.set_position((1 + 0.22 / length) * np.array([x, y]) if length else (-0.16, 0.16))
        drop.set_data([x, x], [0, y])
        shadow.set_data([0, x], [0, 0])
        gap.set_data([1, x], [0, y])
        for i, (line, mark, curve, value) in enumerate(zip(lines, marks, compare(ANGLES, length), values, strict=True)):
            line.set_ydata(curve)
            mark.set_data([angle], [value])
            numbers[i].set_text(signed(value))

    return figure, place, [drop, shadow, gap, b, name, *lines, *marks, *numbers]


def _plane_axes(axes):
    axes.set(xlim=(-2.3, 2.3), ylim=(-2.3, 2.3), aspect="equal")
    axes.axis("off")
    axes.axhline(0, color=FAINT, lw=1)
    axes.axvline(0, color=FAINT, lw=1)
    circle = np.radians(np.arange(0, 361, 3))
    axes.plot(np.cos(circle), np.sin(circle), color=MUTED, lw=1, ls=(0, (4, 3)))
    axes.text(-0.74, -0.9, "length 1", size=9, color=MUTED, ha="right", va="top")


def _curve_axes(axes):
    axes.spines[:].set_visible(False)
    axes.set(xlim=(-180, 180), ylim=(-2.1, 3.1), xticks=range(-180, 181, 90), yticks=range(-2, 4))
    axes.set_xticklabels([f"{x}°".replace("-", "−") for x in range(-180, 181, 90)])
    axes.set_yticklabels([f"{y}".replace("-", "−") for y in range(-2, 4)])
    axes.tick_params(length=0, labelsize=10, labelcolor=MUTED)
    axes.tick_params(axis="y", pad=9)  # room for a marker at the edge
    axes.grid(color=FAINT, lw=1)
    axes.axhline(0, color=MUTED, lw=1)
    axes.set_xlabel("angle of b", size=10, color=MUTED)
