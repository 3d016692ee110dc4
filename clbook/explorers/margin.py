"""The margin explorer: an anchor and its positive in the plane, where a negative is easy, semi-hard or hard, and what
the hinge makes of it."""

import ipywidgets as widgets
import numpy as np
from matplotlib import style
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from clbook.explorers.base import FAINT, INK, MUTED, NEGATIVE, POSITIVE, THIRD, Explorer, new_figure

EDGE = 2.2  # the plane shows -EDGE to EDGE
REACH = 2.0  # how far from the anchor a negative may be
TOP = 2.6  # of the loss: 1.2² + 1, and some room
DIRECTION = np.array([np.cos(np.radians(200)), np.sin(np.radians(200))])  # of the positive
SCATTERED = (  # by hand: the rest of the batch, all on one side so that they don't cover the positive
    (0.35, 0.3), (0.15, 0.75), (0.8, -0.25), (-0.3, 0.95), (0.95, 0.55), (0.4, -1.05),
    (-0.55, 1.2), (1.35, 0.1), (0.6, 1.35), (1.5, -0.75), (1.1, 1.3),
)  # fmt: skip
HARD, SEMI_HARD, EASY = "hard", "semi-hard", "easy"
LOOKS = {HARD: (NEGATIVE, "xxx", "X"), SEMI_HARD: (THIRD, "///", "s"), EASY: (MUTED, None, "o")}


def hinge(positive, negatives, margin, squared=False):
    """What a triplet makes of each negative: (loss float64 [M], region [M], one of easy, semi-hard and hard).

    positive, negatives: distances to the anchor, a number and [M]; margin: of the distance, or of its square.
    The loss is max(0, d(a, p) - d(a, n) + margin); easy ones have none. Hard is a negative no farther away than the
    positive.
    """
    power = 2 if squared else 1
    ap, an = positive**power, np.asarray(negatives, dtype=np.float64) ** power
    return np.maximum(ap - an + margin, 0), np.where(an <= ap, HARD, np.where(an < ap + margin, SEMI_HARD, EASY))


def _checked(negatives):
    if hasattr(negatives, "detach"):
        negatives = negatives.detach().cpu().double()
    points = np.asarray(negatives, dtype=np.float64)
    expected = "expected the other negatives of the batch as points around the anchor, shape [M, 2] with M at least 1"
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 1:
        raise ValueError(f"{expected}; got shape {list(points.shape)}")
    if broken := np.count_nonzero(~np.isfinite(points)):
        raise ValueError(f"{expected}; got {broken} NaN or infinite")
    farthest = np.linalg.norm(points, axis=1).max()
    if farthest > REACH + 1e-6:
        raise ValueError(f"{expected}, at most {REACH:g} away from it; got one {farthest:.4g} away. Scale them down.")
    return points


@style.context("default")  # whatever style the notebook plots in
def margin(negatives=None):
    """See what a margin asks for: a triplet in the plane, the regions around its anchor, and the hinge.

    negatives: [M, 2] points around the anchor, at most 2 away: the rest of the batch beside the negative that the
               sliders move (a list, an array, a tensor). Left out: eleven, placed by hand. ValueError for
               anything else.
    """
    others = _checked(SCATTERED if negatives is None else negatives)
    distances = np.linalg.norm(others, axis=1)
    figure, place, moving = _picture(others, distances)

    def update(margin, positive, distance, angle, squared):
        losses, regions = hinge(positive, np.append(distances, distance), margin, squared)
        place(margin, positive, distance, angle, squared, losses, regions)
        active, loss = losses[losses > 0], losses[-1]
        over = f", {active.mean():.2f} over the active" if len(active) else ""
        count = f"{len(active)} of {len(losses)} negatives {'is' if len(active) == 1 else 'are'} active"
        return (
            f"Margin {margin:.2f}, distances {'squared' if squared else 'as they are'}: with the positive at "
            f"{positive:.2f}, a negative at {distance:.2f} is {regions[-1]}, its loss {loss:.2f}. In the batch "
            f"{count}; the mean is {losses.mean():.2f} over all{over}."
        )

    return Explorer(
        "Margin explorer",
        figure,
        update,
        controls={
            "margin": widgets.FloatSlider(0.4, min=0, max=1, step=0.05, description="margin m"),
            "positive": widgets.FloatSlider(0.8, min=0.1, max=1.2, step=0.05, description="distance of the positive"),
            "distance": widgets.FloatSlider(1, min=0.1, max=REACH, step=0.05, description="distance of the negative"),
            "angle": widgets.IntSlider(330, min=0, max=350, step=10, description="its direction, degrees"),
            "squared": widgets.SelectionSlider(
                options=[("as it is, d", False), ("squared, d²", True)], description="the distance"
            ),
        },
        settings=[
            {},
            {"distance": 0.6},
            {"margin": 0.1, "distance": 1.0},
            {"positive": 0.3, "distance": 0.5, "squared": True},
        ],
        moving=moving,
    )


def _picture(others, distances):
    """The figure, the function that places its moving artists, and these artists."""
    figure = new_figure(640, 400)
    plane, curve = _axes(figure)
    rings = {SEMI_HARD: _Ring(plane), HARD: _Ring(plane)}
    spans = {region: _span(curve, region) for region in rings}
    (line,) = curve.plot([], [], color=INK, lw=2.2, clip_on=True)
    dots = {
        (axes, region): axes.plot([], [], LOOKS[region][2], color=LOOKS[region][0], ms=7.5, mec="white", mew=0.7)[0]
        for axes in (plane, curve)
        for region in LOOKS
    }
    stem, link = (plane.plot([], [], color=color, lw=1.5)[0] for color in (POSITIVE, INK))
    (star,) = plane.plot([], [], "*", color=POSITIVE, ms=16, mec="white", mew=0.8)
    mine = [axes.plot([], [], "D", color="white", ms=9.5, mec=INK, mew=2, clip_on=False)[0] for axes in (plane, curve)]
    (drop,) = curve.plot([], [], color=INK, lw=1, ls=(0, (3, 2)))
    title, formula, losses_text = (
        figure.text(x / 640, y / 400, "", size=size, weight=weight, color=INK)
        for x, y, size, weight in ((16, 371, 13.5, "bold"), (346, 374, 10.5, "normal"), (346, 353, 10.5, "bold"))
    )

    def place(margin, positive, distance, angle, squared, losses, regions):
        outer = np.sqrt(positive**2 + margin) if squared else positive + margin
        rings[HARD].place(0, positive, HARD)
        rings[SEMI_HARD].place(positive, outer, SEMI_HARD)
        for region, ends in ((HARD, (0, positive)), (SEMI_HARD, (positive, outer))):
            spans[region].set_x(ends[0])
            spans[region].set_width(ends[1] - ends[0])
        x = np.linspace(0, EDGE, 111)
        line.set_data(x, hinge(positive, x, margin, squared)[0])
        for region in LOOKS:
            of = regions[:-1] == region
            dots[plane, region].set_data(*others[of].T)
            dots[curve, region].set_data(distances[of], losses[:-1][of])
        point = distance * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        star.set_data(*(positive * DIRECTION)[:, None])
        stem.set_data(*np.array([(0, 0), positive * DIRECTION]).T)
        link.set_data(*np.array([(0, 0), point]).T)
        mine[0].set_data(*point[:, None])
        mine[1].set_data([distance], losses[-1:])
        drop.set_data([distance, distance], [0, losses[-1]])
        title.set_text(f"{regions[-1]} · {(losses > 0).sum()} of {len(losses)} active")
        d = "d²" if squared else "d"
        formula.set_text(f"max(0, {d}(a, p) − {d}(a, n) + {margin:.2f})")
        ap, an = (positive**2, distance**2) if squared else (positive, distance)
        losses_text.set_text(f"max(0, {ap:.2f} − {an:.2f} + {margin:.2f}) = {losses[-1]:.2f}")

    regions = [rings[SEMI_HARD].patch, rings[HARD].patch, *spans.values()]
    moving = [*regions, line, stem, link, drop, *dots.values(), star, *mine, title, formula, losses_text]
    return figure, place, moving


def _axes(figure):
    """The plane with the anchor, the curve of the hinge, and what the marks mean."""
    plane = figure.add_axes((16 / 640, 66 / 400, 290 / 640, 290 / 400), xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE))
    curve = figure.add_axes((372 / 640, 110 / 400, 252 / 640, 226 / 400), xlim=(0, EDGE), ylim=(0, TOP))
    plane.set(xticks=[], yticks=[])
    plane.spines[:].set_color(FAINT)
    plane.plot(0, 0, "P", color=INK, ms=12, mec="white", mew=0.8, zorder=6)
    curve.spines[["top", "right"]].set_visible(False)
    curve.tick_params(labelsize=9.5, labelcolor=MUTED)
    curve.set(xticks=(0, 0.5, 1, 1.5, 2), yticks=(0, 0.5, 1, 1.5, 2, 2.5))
    curve.set_xlabel("distance of the negative", size=10.5, color=INK)
    curve.set_ylabel("loss", size=10.5, color=INK)
    marks = [("P", INK, "anchor a", 10), (LOOKS[HARD][2], LOOKS[HARD][0], "hard negative", 8)]
    marks += [("*", POSITIVE, "positive p", 13), (LOOKS[SEMI_HARD][2], LOOKS[SEMI_HARD][0], "semi-hard negative", 7)]
    marks += [("D", "white", "the negative n that you move", 8), (LOOKS[EASY][2], LOOKS[EASY][0], "easy negative", 7)]
    handles = [
        plane.plot([], [], marker, ls="", color=color, ms=size, mec=INK if color == "white" else "white", label=name)[0]
        for marker, color, name, size in marks
    ]
    look = {"ncols": 3, "frameon": False, "fontsize": 9.5, "handletextpad": 0.1, "columnspacing": 2, "borderpad": 0}
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(12 / 640, 8 / 400), **look)
    return plane, curve


class _Ring:
    """A hatched ring around the anchor; a disc if its inner radius is 0."""

    def __init__(self, axes):
        self.patch = PathPatch(Path(np.zeros((1, 2))), zorder=1, lw=1.2)
        axes.add_patch(self.patch)

    def place(self, inner, outer, region):
        color, hatch, _ = LOOKS[region]
        angles = np.linspace(0, 2 * np.pi, 121)
        circle = np.stack([np.cos(angles), np.sin(angles)], 1)  # [121, 2]
        codes = [Path.MOVETO, *[Path.LINETO] * 119, Path.CLOSEPOLY]
        # The inner circle runs the other way round, so that it stays empty.
        path = Path(np.concatenate([outer * circle, inner * circle[::-1]]), codes * 2)
        self.patch.set_path(path)
        self.patch.set(facecolor=(*_rgb(color), 0.1), edgecolor=(*_rgb(color), 0.6), hatch=hatch)


def _span(axes, region):
    color, hatch, _ = LOOKS[region]
    span = Rectangle((0, 0), 0, TOP, facecolor=(*_rgb(color), 0.1), edgecolor=(*_rgb(color), 0.35), hatch=hatch, lw=0)
    return axes.add_patch(span)


def _rgb(color):
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
