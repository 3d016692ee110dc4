"""The tolerance explorer: what small and large temperatures make of the features, measured on short runs."""

import ipywidgets as widgets
from matplotlib import style
from matplotlib.ticker import NullLocator

from clbook.explorers.base import FAINT, INK, MUTED, NEGATIVE, POSITIVE, THIRD, Explorer, new_figure, signed

# τ, kNN accuracy, uniformity, mean cosine within a shape and between shapes: the features h of a short run on shapes,
# means of three seeds. Made by benchmarks/lesson03.py, and compared with its benchmarks/lesson03.csv by a test.
ROWS = (
    (0.01, 0.493, -2.422, 0.346, 0.338),
    (0.02, 0.542, -2.444, 0.348, 0.333),
    (0.05, 0.632, -2.353, 0.360, 0.333),
    (0.1, 0.684, -2.287, 0.368, 0.336),
    (0.2, 0.681, -2.228, 0.372, 0.337),
    (0.5, 0.583, -2.107, 0.381, 0.344),
    (1, 0.506, -2.006, 0.384, 0.351),
    (2, 0.446, -1.833, 0.395, 0.368),
)


@style.context("default")  # whatever style the notebook plots in
def tolerance(*, tau=0.1):
    """Uniformity against tolerance along the temperature, and the accuracy that comes of it (Wang & Liu 2021).

    Uniformity says how evenly features fill the sphere (`evaluation.uniformity`; lower is more even), tolerance how
    close pictures of one shape stay, though the loss took them for negatives: their mean cosine similarity.

    tau: where the slider starts, one of the temperatures that were measured: 0.01 to 2. ValueError for anything else.
    """
    rows = {row[0]: row[1:] for row in ROWS}
    if tau not in rows:
        raise ValueError(f"expected a temperature that was measured ({', '.join(map(str, rows))}); got {tau}")
    figure, place, moving = _picture()

    def update(tau):
        knn, uniformity, same, others = rows[tau]
        place(tau, knn, uniformity, same, others)
        return (
            f"τ = {tau:g}: uniformity {signed(uniformity)} (lower: more even); two pictures of one shape have a mean "
            f"cosine of {same:.3f}, of different shapes {others:.3f}; the neighbours are right about the shape in "
            f"{100 * knn:.0f} % of the cases (means of three short runs)."
        )

    return Explorer(
        "Tolerance explorer",
        figure,
        update,
        controls={
            "tau": widgets.SelectionSlider(
                options=[(f"{value:g}", value) for value in rows], value=tau, description="temperature τ"
            )
        },
        settings=[{"tau": 0.01}, {"tau": 0.1}, {"tau": 0.5}, {"tau": 2.0}],
        moving=moving,
    )


def _picture():
    """The figure, the function that places what moves, and the artists that it moves."""
    figure = new_figure(640, 392)
    plane = figure.add_axes((62 / 640, 62 / 392, 270 / 640, 248 / 392))
    scores = figure.add_axes((404 / 640, 62 / 392, 216 / 640, 248 / 392))
    taus, knn, uniformity, same, others = zip(*ROWS, strict=True)
    for axes in (plane, scores):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9.5, labelcolor=MUTED, color=MUTED)
        axes.grid(color=FAINT, lw=1)
        axes.set_axisbelow(True)
    plane.plot(uniformity, same, "o-", color=POSITIVE, ms=5, lw=1.5, label="of one shape (tolerance)")
    plane.plot(uniformity, others, "s--", color=NEGATIVE, ms=4, lw=1.2, label="of different shapes")
    plane.legend(loc="upper left", frameon=False, fontsize=9.5, borderpad=0, labelcolor=INK)
    plane.set(xlim=(-2.72, -1.7), ylim=(0.32, 0.415))
    plane.set_xlabel("uniformity of h (left: more even)", size=10.5, color=INK)
    plane.set_title("mean cosine of two pictures", size=11, color=INK, loc="left", pad=8)
    for text, place, align in (
        (f"τ = {taus[0]:g}", (uniformity[0] - 0.07, 0.341), "right"),
        (f"τ = {taus[-1]:g}", (uniformity[-1], same[-1] + 0.0055), "center"),
    ):
        plane.text(*place, text, ha=align, va="center", size=9.5, color=MUTED)
    scores.plot(taus, knn, "o-", color=THIRD, ms=5, lw=1.5)
    scores.set_xscale("log")
    scores.set_xticks((0.01, 0.1, 1), ("0.01", "0.1", "1"))
    scores.xaxis.set_minor_locator(NullLocator())
    scores.set_ylim(0.2, 0.8)
    scores.set_xlabel("temperature τ", size=10.5, color=INK)
    scores.set_title("kNN accuracy on shapes", size=11, color=INK, loc="left", pad=8)
    scores.axhline(0.2, color=MUTED, lw=1.2, ls=(0, (4, 3)), clip_on=False)
    scores.annotate("guessing blindly: 0.2", (1, 0.2), xycoords=scores.get_yaxis_transform(), xytext=(0, 4),
                    textcoords="offset points", ha="right", size=9.5, color=MUTED)  # fmt: skip

    title = figure.text(16 / 640, 1 - 32 / 392, "", size=17, weight="bold", color=INK)
    rings = [plane.plot([0], [0], "o", mfc="none", mec=INK, ms=13, mew=2, zorder=5)[0] for _ in range(2)]
    (rule,) = plane.plot([0, 0], [0, 0], color=INK, lw=1.5)
    gap = plane.text(0, 0.3225, "", size=10, weight="bold", color=INK, ha="center")
    (ring,) = scores.plot([1], [0], "o", mfc="none", mec=INK, ms=13, mew=2, zorder=5)
    number = scores.text(1, 0, "", size=11, weight="bold", color=INK, ha="center", va="bottom")

    def place(tau, knn, uniformity, same, others):
        title.set_text(f"τ = {tau:g}")
        for marker, height in zip(rings, (same, others), strict=True):
            marker.set_data([uniformity], [height])
        rule.set_data([uniformity, uniformity], [others, same])
        gap.set_text(f"gap {same - others:.3f}")
        gap.set_x(uniformity)
        ring.set_data([tau], [knn])
        number.set_text(f"{knn:.2f}")
        number.set_position((tau, knn + 0.03))

    return figure, place, [title, *rings, rule, gap, ring, number]
