"""The circle explorer: InfoNCE on points of the unit circle, and the force on each of them."""

import math

import ipywidgets as widgets
import numpy as np
from matplotlib import style
from matplotlib.patches import Circle, FancyArrow

from clbook.explorers.base import FAINT, INK, MUTED, NEGATIVE, POSITIVE, THIRD, Explorer, new_figure, percent
from clbook.explorers.temperature import gradients, softmax_weights, tau_slider

ANCHOR = 90.0  # degrees: the anchor stands on top
FIXED = (-80.0, -125.0, 175.0, 120.0)  # degrees from the anchor: the negatives that no slider moves
NAMES = ("positive", "negative 1", *(f"negative {i}" for i in range(2, len(FIXED) + 2)))
LONGEST = 0.55  # of an arrow, in radii


def forces(angles, tau):
    """One anchor and its candidates on the unit circle: (weights [N], loss, pulls [N], the anchor's own pull).

    angles: [N] degrees from the anchor, anticlockwise, the positive first. A pull is -dL/d(angle), the derivative per
    radian: above 0 it turns the point anticlockwise. The pulls, the anchor's included, sum to 0.
    """
    turned = np.radians(np.asarray(angles, dtype=np.float64))
    weights, loss = softmax_weights(np.cos(turned), tau)
    pulls = gradients(weights, tau) * np.sin(turned)  # ds/d(angle) = -sin
    return weights, loss, pulls, -pulls.sum()


@style.context("default")  # whatever style the notebook plots in
def circle(positive=60.0, negative=-35.0, *, tau=0.2):
    """Attraction and repulsion: an anchor, its positive and five negatives on the unit circle, two of them movable.

    positive: degrees between the anchor and its positive, anticlockwise, 0 to 180.
    negative: degrees between the anchor and negative 1, anticlockwise, -175 to 175.
    tau:      where the temperature starts.

    Arrows show where a step of gradient descent pushes each point, in units of 1/τ: their lengths compare at one τ.
    ValueError for anything else.
    """
    for name, value, low in ("positive", positive, 0), ("negative", negative, -175):
        if not low <= value <= 175 + 5 * (name == "positive"):
            top = 180 if name == "positive" else 175
            raise ValueError(f"{name}: expected degrees from the anchor, {low} to {top}; got {value}")
    softmax_weights((1, 0), tau)  # refuses a bad temperature before anything is drawn
    figure, place, moving = _picture()

    def update(tau, positive, negative):
        angles = np.array([positive, negative, *FIXED])
        weights, loss, pulls, own = forces(angles, tau)
        place(tau, angles, weights, loss, pulls * tau, own * tau)
        beyond = "above" if loss > math.log(len(weights)) else "below"
        return (
            f"τ = {tau:g}: the positive, {positive:.0f}° from the anchor, takes {percent(weights[0])} of the weight "
            f"and {_moved(pulls[0] * tau, positive)}; negative 1, {abs(negative):.0f}° away, takes "
            f"{percent(weights[1])} and {_moved(pulls[1] * tau, negative)}. The loss is {loss:.2f}, {beyond} "
            f"blind guessing (log {len(weights)} = {math.log(len(weights)):.2f})."
        )

    return Explorer(
        "Circle explorer",
        figure,
        update,
        controls={
            "tau": tau_slider(tau),
            "positive": widgets.FloatSlider(positive, min=0, max=180, step=5, description="positive, degrees"),
            "negative": widgets.FloatSlider(negative, min=-175, max=175, step=5, description="negative 1, degrees"),
        },
        settings=[{}, {"tau": 0.05}, {"tau": 5.0}, {"positive": 15.0, "negative": 35.0}],
        moving=moving,
    )


def _moved(pull, angle):
    """What happens to a candidate, in words; `pull` in units of 1/τ."""
    if abs(pull) < 0.005:
        return "hardly moves"
    return f"is {'pulled closer' if pull * angle < 0 else 'pushed away'} ({abs(pull):.2f}/τ)"


def _picture():
    """The figure, the function that places what moves, and the artists that it moves."""
    figure = new_figure(640, 392)
    plane, weights, losses = _axes(figure)
    title = figure.text(16 / 640, 1 - 32 / 392, "", size=17, weight="bold", color=INK)
    looks = [("*", POSITIVE, ""), ("D", NEGATIVE, "")] + [("o", NEGATIVE, "")] * len(FIXED)
    points = [plane.plot([0], [0], m, color=c, mec="white", mew=0.8, clip_on=False, zorder=4)[0] for m, c, _ in looks]
    (anchor,) = plane.plot(*_at(ANCHOR), "s", color=THIRD, ms=11, mec="white", mew=0.8, clip_on=False, zorder=5)
    plane.text(*_at(ANCHOR, 1.17), "anchor", size=10.5, weight="bold", color=THIRD, ha="center", va="center")
    words = [plane.text(0, 0, n, size=10, color=INK, ha="center", va="center") for n in ("positive", *"12345")]
    arrows = [
        plane.add_patch(FancyArrow(0, 0, 0, 0, width=0.028, length_includes_head=True, color=color, zorder=3))
        for color in (*(look[1] for look in looks), THIRD)
    ]
    bars = weights.barh(range(len(looks)), 0, height=0.62, color=NEGATIVE)
    bars[0].set(facecolor=POSITIVE, hatch="////", edgecolor="white", linewidth=0)
    shares = [
        weights.annotate(
            "",
            (1, row),
            xytext=(44, 0),
            textcoords="offset points",
            ha="right",
            va="center_baseline",
            size=11,
            color=INK,
            weight="normal" if row else "bold",
        )
        for row in range(len(looks))
    ]
    (bar,) = losses.barh([0], 0, height=0.6, color=INK)
    (beyond,) = losses.plot(losses.get_xlim()[1], 0, ">", color=INK, ms=9, clip_on=False)
    number = losses.text(1, 1.75, "", size=11, weight="bold", color=INK, ha="right", transform=losses.transAxes)

    def place(tau, angles, found, loss, pulls, own):
        title.set_text(f"τ = {tau:g}")
        places = ANCHOR + angles
        for i, (angle, share) in enumerate(zip(places, found, strict=True)):
            points[i].set_data(*[[x] for x in _at(angle)])
            points[i].set_markersize((11, 6, *[6] * len(FIXED))[i] + 10 * math.sqrt(share))
            words[i].set_position(_at(angle, (0.7, 0.82, *[1.19] * len(FIXED))[i]))
            bars[i].set_width(share)
            shares[i].set_text(percent(share).replace("under", "<").replace("over", ">"))
        for arrow, point, angle, pull in zip(arrows, [*points, anchor], [*places, ANCHOR], [*pulls, own], strict=True):
            _point(arrow, angle, pull, start=0.006 * point.get_markersize())
        limit = losses.get_xlim()[1]
        bar.set_width(min(loss, limit))
        beyond.set_visible(loss > limit)
        number.set_text(f"{loss:.2f}" if loss < 100 else f"{loss:.0f}")

    return figure, place, [title, *points, anchor, *words, *arrows, *bars, *shares, bar, beyond, number]


def _axes(figure):
    """The circle at the left; the weights of its candidates, and below them the loss, at the right."""
    width, height = 640, 392
    plane = figure.add_axes((30 / width, 8 / height, 340 / width, 340 / height), xlim=(-1.34, 1.34), ylim=(-1.34, 1.34))
    plane.axis("off")
    plane.add_patch(Circle((0, 0), 1, fill=False, color=FAINT, lw=2))
    plane.plot([0], [0], "+", color=MUTED, ms=8)
    weights = figure.add_axes((470 / width, 138 / height, 100 / width, 25 * len(NAMES) / height))
    losses = figure.add_axes((398 / width, 52 / height, 216 / width, 22 / height))
    for axes in (weights, losses):
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=10, labelcolor=MUTED)
        axes.set_axisbelow(True)
    weights.set(xlim=(0, 1), ylim=(len(NAMES) - 0.5, -0.5), yticks=range(len(NAMES)), xticks=(0, 0.5, 1))
    weights.set_xticklabels(("0", "½", "1"))
    weights.set_yticklabels(NAMES, size=11, color=INK)
    weights.get_yticklabels()[0].set(weight="bold", color=POSITIVE)
    weights.set_title("weight p", size=11, color=INK, pad=12, loc="left")
    weights.grid(axis="x", color=FAINT, lw=1, clip_on=False)
    weights.axvline(1 / len(NAMES), color=MUTED, lw=1.2, ls=(0, (4, 3)))
    guess = math.log(len(NAMES))
    losses.set(xlim=(0, 2 * guess), ylim=(-0.5, 0.5), xticks=(0, guess, 2 * guess), yticks=[])
    losses.set_xticklabels(("0", f"log {len(NAMES)} = {guess:.2f}", f"{2 * guess:.1f}"))
    losses.text(0, 1.75, "loss", size=11, weight="bold", color=INK, transform=losses.transAxes)
    losses.axvspan(0, 2 * guess, 0.2, 0.8, color=FAINT, lw=0)
    losses.axvline(guess, color=MUTED, lw=1.2, ls=(0, (4, 3)))
    return plane, weights, losses


def _at(degrees, radius=1.0):
    return radius * math.cos(math.radians(degrees)), radius * math.sin(math.radians(degrees))


def _point(arrow, degrees, pull, start):
    """Along the circle's tangent from the marker's edge, as long as the pull; a speck isn't drawn."""
    arrow.set_visible(abs(pull) >= 0.04)
    turn, length = degrees + math.copysign(90, pull), LONGEST * min(1.0, abs(pull))
    (x, y), (dx, dy) = np.add(_at(degrees), _at(turn, start)), _at(turn, length)
    head = min(0.12, length)
    arrow.set_data(x=x, y=y, dx=dx, dy=dy, head_width=head, head_length=head)
