"""The budget explorer: what the loss of a batch takes of memory, as one matrix and in chunks."""

import math

import ipywidgets as widgets
from matplotlib import style
from matplotlib.ticker import NullLocator

from clbook.explorers.base import FAINT, INK, MUTED, NEGATIVE, POSITIVE, Explorer, new_figure

PAIRS = tuple(2**i for i in range(6, 17))  # 64 to 65,536
ROWS = tuple(2**i for i in range(4, 13))  # 16 to 4,096
DIMS = tuple(2**i for i in range(5, 12))  # 32 to 2,048
LAPTOP = 8 * 2**30
KEPT = 3  # copies that autograd and the way back hold at the worst moment; lesson 10 measures them


def loss_bytes(pairs, dim, rows=None):
    """Bytes that NT-Xent, written down in PyTorch, holds at its worst moment: float32, value and gradient.

    pairs: N, at least 1; dim: D; rows: of the 2N x 2N matrix at a time, all of them unless told. Three copies of that
    part of the matrix (log-softmax, the gradient that arrives there, that of the logits), and three of the 2N vectors.
    """
    rows = 2 * pairs if rows is None else min(rows, 2 * pairs)
    return KEPT * 4 * 2 * pairs * (rows + dim)


def most_pairs(budget, dim):
    """The largest N whose dense loss fits into so many bytes."""
    # 24 N (2N + D) <= budget
    return int((math.sqrt(dim**2 + 8 * budget / (4 * 2 * KEPT)) - dim) / 4)


def size(count):
    """Bytes in words: "144 MiB"."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= scale:
            return f"{count / scale:,.1f} {unit}" if count < 10 * scale else f"{count / scale:,.0f} {unit}"
    return f"{count / 2**10:,.0f} KiB"


@style.context("default")  # whatever style the notebook plots in
def budget(*, pairs=1024, rows=256, dim=128):
    """Feel the budget: what NT-Xent of N pairs holds in memory, dense and in chunks, against N.

    pairs: N, 64 to 65,536; rows: of the matrix in memory at a time, 16 to 4,096; dim: length of the vectors, 32 to
    2,048. All are powers of two. ValueError for anything else.
    """
    controls = {}
    for name, value, values, label in (
        ("pairs", pairs, PAIRS, "pairs N"),
        ("rows", rows, ROWS, "rows at a time"),
        ("dim", dim, DIMS, "length D of z"),
    ):
        if value not in values:
            raise ValueError(f"{name}: expected a power of two from {values[0]} to {values[-1]:,}; got {value}")
        controls[name] = widgets.SelectionSlider(
            options=[(f"{number:,}", number) for number in values], value=value, description=label
        )
    figure, place, moving = _picture()

    def update(pairs, rows, dim):
        dense, chunked = loss_bytes(pairs, dim), loss_bytes(pairs, dim, rows)
        place(pairs, rows, dim, dense, chunked)
        less = dense / chunked
        saved = "no less, all fits into one chunk" if less < 1.05 else f"{less:,.1f} times less"
        return (
            f"N = {pairs:,} pairs of vectors of {dim:,} numbers: the dense loss holds {size(dense)} at its worst "
            f"moment, with {min(rows, 2 * pairs):,} of its {2 * pairs:,} rows at a time it holds {size(chunked)}, "
            f"{saved}. In 8 GiB the dense loss takes at most {most_pairs(LAPTOP, dim):,} pairs."
        )

    return Explorer(
        "Budget explorer",
        figure,
        update,
        controls=controls,
        settings=[
            {"pairs": 256, "rows": 256, "dim": 128},
            {"pairs": 4096, "rows": 256, "dim": 128},
            {"pairs": 16384, "rows": 256, "dim": 128},
            {"pairs": 16384, "rows": 4096, "dim": 2048},
        ],
        moving=moving,
    )


def _picture():
    """The figure, the function that places what moves, and the artists that it moves."""
    figure = new_figure(640, 372)
    axes = figure.add_axes((84 / 640, 56 / 372, 430 / 640, 252 / 372))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9.5, labelcolor=MUTED, color=MUTED)
    axes.grid(color=FAINT, lw=1)
    axes.set_axisbelow(True)
    axes.set(xscale="log", yscale="log", xlim=(PAIRS[0] / 1.3, PAIRS[-1] * 1.3), ylim=(2**15, 2**39))
    axes.set_xticks(PAIRS[::2], [f"{pairs:,}" for pairs in PAIRS[::2]])
    axes.set_yticks([2**i for i in (20, 25, 30, 35)], ["1 MiB", "32 MiB", "1 GiB", "32 GiB"])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("pairs N in a batch", size=10.5, color=INK)
    axes.set_title("what the loss holds at its worst moment", size=10.5, color=INK, loc="left", pad=8)
    axes.axhline(LAPTOP, color=MUTED, lw=1.2, ls=(0, (4, 3)))
    axes.text(PAIRS[0] / 1.2, LAPTOP * 1.25, "8 GiB, a laptop", size=9.5, color=MUTED, va="bottom")

    title = figure.text(16 / 640, 1 - 32 / 372, "", size=17, weight="bold", color=INK)
    setting = figure.text(176 / 640, 1 - 32 / 372, "", size=11, color=INK)
    (dense_line,) = axes.plot([], [], "-", color=NEGATIVE, lw=2)
    (chunked_line,) = axes.plot([], [], "--", color=POSITIVE, lw=2)
    (rule,) = axes.plot([], [], color=MUTED, lw=1.2)
    (square,) = axes.plot([], [], "s", color=NEGATIVE, ms=9, mec="white", mew=0.8, clip_on=False)
    (disc,) = axes.plot([], [], "o", color=POSITIVE, ms=9, mec="white", mew=0.8, clip_on=False)
    beside = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "xytext": (10, 0)}
    beside |= {"size": 10.5, "va": "center", "annotation_clip": False}
    dense_text = axes.annotate("", (1, 1), color=NEGATIVE, weight="bold", **beside)
    chunked_text = axes.annotate("", (1, 1), color=POSITIVE, weight="bold", **beside)

    def place(pairs, rows, dim, dense, chunked):
        title.set_text(f"N = {pairs:,}")
        setting.set_text(f"D = {dim:,}, {min(rows, 2 * pairs):,} of {2 * pairs:,} rows at a time")
        dense_line.set_data(PAIRS, [loss_bytes(n, dim) for n in PAIRS])
        chunked_line.set_data(PAIRS, [loss_bytes(n, dim, rows) for n in PAIRS])
        rule.set_data([pairs, pairs], [chunked, dense])
        square.set_data([pairs], [dense])
        disc.set_data([pairs], [chunked])
        ends = loss_bytes(PAIRS[-1], dim), loss_bytes(PAIRS[-1], dim, rows)
        for text, name, number, end in (
            (dense_text, "■ dense", dense, ends[0]),
            (chunked_text, "● in chunks", chunked, ends[1]),
        ):
            text.set_text(f"{name}\n{size(number)}")
            text.xy = (1, end)

    return figure, place, [title, setting, dense_line, chunked_line, rule, square, disc, dense_text, chunked_text]
