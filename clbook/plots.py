"""Pictures of the course: matplotlib figures with a sentence for whoever can't see them.

Every function that draws returns a `Picture`. In a notebook it shows itself; `picture.save(path)` writes a PNG. Nothing
here touches pyplot's global state, so nothing leaks, warns or shows up twice.
"""

import base64
import io
import itertools
import math
import numbers
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

# Okabe and Ito's colours: apart for every common kind of colour vision.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "P", "X", "v", "*", "<", ">")  # nothing is told by colour alone
INK, FAINT = "#333333", "#9a9a9a"
_DPI = 110
# Whatever style the notebook plots in; and a dollar sign in a name begins no formula.
_plain = style.context(["default", {"text.parse_math": False}])


class Picture:
    """A figure and its `alt` text."""

    def __init__(self, figure: Figure, alt: str):
        self.figure, self.alt = figure, alt

    @style.context("default")  # ticks are made as late as this, and a logarithmic axis writes formulas
    def png(self) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})  # no version: small diffs
        return buffer.getvalue()

    def save(self, path: str | Path) -> None:
        Path(path).write_bytes(self.png())

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, include=None, exclude=None):
        data = {"image/png": base64.b64encode(self.png()).decode(), "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt}}


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, np.ndarray]:
    """Inches; axes always as an array [rows, columns]."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(colors=INK, labelsize=9)
    return figure, axes


def to_numpy(images: Tensor) -> np.ndarray:
    """[N, C, H, W] uint8 or float in [0, 1] to uint8 [N, H, W, 3]."""
    if not isinstance(images, Tensor):
        raise TypeError(f"images: expected a tensor [N, C, H, W], got {type(images).__name__}")
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"images: expected [N, C, H, W] with C 1 or 3, none of them 0, got {list(images.shape)}")
    images = images.detach().cpu()
    if images.is_floating_point():
        images = (images.clamp(0, 1) * 255).round().byte()
    return images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


@_plain
def image_grid(
    images: Tensor,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 8,
    rows: Sequence[str] | None = None,
    alt: str | None = None,
) -> Picture:
    """Pictures [N, C, H, W] in rows, each with a title if there are titles; `rows` names the rows at their left."""
    if type(columns) is not int or columns < 1:
        raise ValueError(f"columns: expected an integer of at least 1, got {columns!r}")
    pictures = to_numpy(images)
    count = -(-len(images) // columns)
    for name, given, needed in (("titles", titles, len(images)), ("rows", rows, count)):
        if given and len(given) != needed:
            raise ValueError(f"{name}: expected {needed} for {len(images)} pictures, got {len(given)}")
    lines = [textwrap.fill(title, 14) for title in titles or ()]  # as wide as a picture
    height = 1.1 + (0.1 + 0.15 * max(line.count("\n") + 1 for line in lines) if lines else 0)
    figure, axes = _figure(1.1 * columns + (0.8 if rows else 0), height * count, count, columns)
    for i, ax in enumerate(axes.flat):
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if i < len(images):
            ax.imshow(pictures[i], interpolation="nearest")
            if lines:
                ax.set_title(lines[i], fontsize=9, color=INK)
    if rows:
        for ax, name in zip(axes[:, 0], rows, strict=True):
            ax.set_ylabel(name, fontsize=10, color=INK)
    return Picture(figure, alt or f"{len(images)} pictures" + (f": {', '.join(titles)}." if titles else "."))


@_plain
def view_pairs(images: Tensor, view1: Tensor, view2: Tensor, *, alt: str | None = None) -> Picture:
    """One column a picture: the original above, its two views below."""
    batches = {"picture": to_numpy(images), "view 1": to_numpy(view1), "view 2": to_numpy(view2)}
    n = len(images)
    if not n == len(view1) == len(view2):
        raise ValueError(f"expected two views of each of {n} pictures, got {len(view1)} and {len(view2)}")
    figure, axes = _figure(1.1 * n + 0.8, 3.5, 3, n)
    for row, (name, batch) in enumerate(batches.items()):
        for ax, image in zip(axes[row], batch, strict=True):
            ax.imshow(image, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        axes[row, 0].set_ylabel(name, fontsize=10, color=INK)
    return Picture(figure, alt or f"{n} pictures, and below each two random views of it.")


@_plain
def neighbours(queries: Tensor, found: Tensor, *, titles: Sequence[Sequence[str]] | None = None,
               alt: str | None = None) -> Picture:  # fmt: skip
    """A row for each query: the query at the left, and behind a gap what was found for it.

    Args:
        queries: [N, C, H, W], uint8 or float in [0, 1]; found: [N, K, C, H, W], K >= 1, nearest first.
        titles: N rows of 1 + K texts, each above its picture: what the query is, then each neighbour.
    """
    if not isinstance(found, Tensor) or found.ndim != 5 or not found.shape[1] or len(found) != len(queries):
        got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"found: expected [{len(queries)}, K, C, H, W], K >= 1, like the queries, got {got}")
    n, k = found.shape[:2]
    if titles is not None and [len(row) for row in titles] != [1 + k] * n:
        raise ValueError(f"titles: expected {n} rows of {1 + k}, got rows of {[len(row) for row in titles]}")
    pictures = np.concatenate(
        [to_numpy(queries)[:, None], to_numpy(found.flatten(0, 1)).reshape(n, k, *found.shape[-2:], 3)], 1
    )
    figure, axes = _figure(1.15 * (1 + k) + 0.35, 1.35 * n + 0.1)
    ax = axes[0, 0]  # one for all pictures: an axes of its own for each would take ten times as long to draw
    ax.set_position((0, 0, 1, 1))
    ax.axis("off")
    for row, column in np.ndindex(n, 1 + k):
        x, y = 0.08 + 1.15 * column + 0.25 * (column > 0), 1.35 * (n - 1 - row) + 0.1  # inches
        ax.imshow(pictures[row, column], extent=(x, x + 1.05, y, y + 1.05), interpolation="nearest")
        if titles is not None:
            title = titles[row][column]
            ax.text(x + 0.525, y + 1.07, title if len(title) < 18 else f"{title[:16]}…", ha="center", va="bottom",
                    fontsize=8.5, color=INK)  # fmt: skip
    ax.set(xlim=(0, 1.15 * (1 + k) + 0.35), ylim=(0, 1.35 * n + 0.1))
    return Picture(figure, alt or f"{n} pictures, and beside each the {k} that were found for it.")


@_plain
def curves(history: Sequence[Mapping[str, float]], *, baselines: Mapping[str, float] | None = None, metric: str = "knn",
           chance: float | None = None, steps: int | None = None) -> Picture:  # fmt: skip
    """Loss and a metric over the steps of a run, side by side.

    Args:
        history: rows with "step", some with "loss", some with `metric`; as `training.fit` makes them.
        baselines: name -> value, dashed lines beside the metric.
        chance: the loss of blind guessing, a dashed line beside the loss.
        steps: the end of the horizontal axis, so that a live curve does not rescale.
    """
    if not isinstance(history, Sequence):
        raise TypeError(f"history: expected a list of rows, as training.fit makes it, got {type(history).__name__}")
    if not all(isinstance(row, Mapping) and "step" in row for row in history):
        raise ValueError('history: expected rows with "step", as training.fit makes them, got one without')
    figure, axes = _figure(9, 3.2, 1, 2)
    loss = [(row["step"], row["loss"]) for row in history if "loss" in row]
    score = [(row["step"], row[metric]) for row in history if metric in row]
    guess, baselines = {"blind guessing": chance} if chance else {}, baselines or {}
    room = [0.07 * max((len(_label(*line)) for line in lines.items()), default=0) for lines in (guess, baselines)]
    width = (9 - 1.15 - sum(room)) / 2  # inches of an axis; its lines are named in the room to its right
    for ax, left in zip(axes[0], (0.4, 1 + width + room[0]), strict=True):  # fixed: a live curve must not jump
        ax.set_position((left / 9, 0.16, width / 9, 0.74))
        ax.set_xlabel("step", color=INK, fontsize=9)
        ax.set_xlim(0, steps or max([row["step"] for row in history] + [1]))
    low, top = (f([value for _, value in loss] + [chance or 0, 0]) for f in (min, max))
    axes[0, 0].set_title("loss (lower: the task is solved better)", color=INK)
    axes[0, 0].set_ylim(1.08 * low, 1.08 * (top if low or top else 1))
    axes[0, 1].set_title(f"{'kNN accuracy' if metric == 'knn' else metric} (higher is better)", color=INK)
    values = [value for _, value in score] + [0, 1, *baselines.values()]
    axes[0, 1].set_ylim(1.02 * min(values), 1.02 * max(values))
    _curve(axes[0, 0], loss, PALETTE[0], "", guess)
    _curve(axes[0, 1], score, PALETTE[3], "o", baselines)
    fall = f" ends at {loss[-1][1]:.2f}" if loss else " is not measured yet"
    end = f" ends at {score[-1][1]:.2f} after {score[-1][0]} steps" if score else " is not measured yet"
    beside = f"; baselines: {', '.join(_label(*line) for line in baselines.items())}" if baselines else ""
    return Picture(figure, f"Two curves over training. Loss{fall}; {metric}{end}{beside}.")


@_plain
def curves_of_runs(runs: Mapping[str, Sequence[Mapping[str, float]]], *, metric: str = "knn",
                   alt: str | None = None) -> Picture:  # fmt: skip
    """Loss and a metric of several runs over their steps, one above the other: a line and a sign for each run.

    Args:
        runs: name -> history, as `curves` takes it. Losses of different methods or batch sizes can't be compared.
    """
    if not isinstance(runs, Mapping):
        raise TypeError(f"runs: expected histories by name, got {type(runs).__name__}")
    if not runs or not all(isinstance(row, Mapping) and "step" in row for rows in runs.values() for row in rows):
        got = "a row without" if runs else "none"
        raise ValueError(f'runs: expected histories of rows with "step", as training.fit makes them, got {got}')
    figure, axes = _figure(9, 3.2 + 0.24 * len(runs), 1, 2)
    told = []
    for i, (name, rows) in enumerate(runs.items()):
        style = {"color": PALETTE[i % 8], "linestyle": ("-", "--", "-.", ":")[i % 4], "linewidth": 1.6,
                 "marker": MARKERS[i % 10], "markersize": 5}  # fmt: skip
        ends = []
        for ax, what in zip(axes[0], ("loss", metric), strict=True):
            points = np.array([(row["step"], row[what]) for row in rows if what in row], float).reshape(-1, 2)
            sparse = max(1, len(points) // 8)  # signs tell lines apart, they needn't stand at every point
            ax.plot(*points.T, **style, markevery=(i % sparse, sparse))
            ends.append(f"{what} {points[-1, 1]:.2f}" if len(points) else f"{what} not measured")
        told.append(f"{name} ends at {', '.join(ends)} after {max((row['step'] for row in rows), default=0)} steps")
    for ax, title in zip(axes[0], ("loss", "kNN accuracy" if metric == "knn" else metric), strict=True):
        ax.set_title(title, color=INK)
        ax.set_xlabel("step", color=INK, fontsize=9)
        if ax.dataLim.ymin >= 0:  # a negative cosine is a loss, too
            ax.set_ylim(bottom=0)
        ax.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    names = [f"…{name[-99:]}" if len(name) > 100 else name for name in runs]
    figure.legend(axes[0, 0].lines, names, loc="outside lower left", frameon=False, fontsize=9)
    return Picture(figure, alt or f"Curves of {len(runs)} runs over training: {'; '.join(told)}.")


def _label(name: str, value: float) -> str:
    return f"{name} {value:.2f}"


def _curve(ax: Axes, points, color: str, marker: str, lines: Mapping[str, float]) -> None:
    """A curve, and dashed lines by name; the axis has its limits already."""
    ax.plot(
        *np.array(points, float).reshape(-1, 2).T,
        color=color,
        marker=marker,
        markersize=4.5,
        linewidth=1.8,
        clip_on=False,
        zorder=3,
    )
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    bottom, top = ax.get_ylim()
    places = _apart(list(lines.values()), 0.065 * (top - bottom), top)
    for i, (name, value) in enumerate(lines.items()):
        ax.axhline(value, color=INK, linewidth=1.1, linestyle=("--", ":", "-.")[i % 3])
        ax.text(1.015, places[i], _label(name, value), transform=ax.get_yaxis_transform(), va="center", fontsize=8.5,
                color=INK)  # fmt: skip


def _apart(values: list[float], gap: float, top: float) -> list[float]:
    """The values, moved as far as they must be to stand `gap` apart: up, but not beyond `top`, then down."""
    places, order = list(values), sorted(range(len(values)), key=values.__getitem__)
    for low, high in itertools.pairwise(order):
        places[high] = max(places[high], places[low] + gap)
    for i, high in enumerate(reversed(order)):
        places[high] = min(places[high], top - i * gap)
    return places


@_plain
def interval_curves(lines: Mapping[str, Sequence[tuple[float, float, float, float]]], *,
                    xlabel: str = "labelled pictures a class", ylabel: str = "accuracy", log_x: bool = False,
                    alt: str | None = None) -> Picture:  # fmt: skip
    """Means with their intervals: a line for each name, named where it ends, in a band from low to high.

    Args:
        lines: name -> rows (x, mean, low, high), as `evaluation.label_efficiency` gives them.
        log_x: x on a logarithmic axis.

    Raises:
        ValueError: no line, rows that aren't four finite numbers with low <= mean <= high, x <= 0 on a log axis.
    """
    if not isinstance(lines, Mapping):
        raise TypeError(f"lines: expected rows (x, mean, low, high) by name, got {type(lines).__name__}")
    table = {name: _interval_rows(name, rows, log_x) for name, rows in lines.items()}
    if not table:
        raise ValueError("lines: expected at least one name with rows (x, mean, low, high), got none")
    names = {name: _label(name, rows[-1, 1]) for name, rows in table.items()}
    height, room = max(3.4, 1 + 0.2 * len(names)), 0.3 + 0.075 * max(map(len, names.values()))
    figure, axes = _figure(5.4 + room, height)
    ax = axes[0, 0]
    ax.set_position((0.8 / (5.4 + room), 0.55 / height, 4.5 / (5.4 + room), 1 - 0.75 / height))
    ax.set_axisbelow(True)
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    for i, (name, rows) in enumerate(table.items()):
        x, mean, low, high = rows.T
        color, dashes = PALETTE[i % 8], ("-", "--", "-.", ":")[i % 4]
        ax.fill_between(x, low, high, color=color, alpha=0.13, linewidth=0)
        ax.plot(x, mean, dashes, color=color, marker=MARKERS[i % 10], markersize=6, linewidth=1.8, label=name)
        ax.errorbar(x, mean, (mean - low, high - mean), fmt="none", ecolor=color, elinewidth=0.9, capsize=3)
    ax.set_xlabel(xlabel, color=INK, fontsize=9.5)
    ax.set_ylabel(ylabel, color=INK, fontsize=9.5)
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    if log_x:
        _log_ticks(ax, np.unique(np.concatenate([rows[:, 0] for rows in table.values()])))
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, top)
    places = _apart([rows[-1, 1] for rows in table.values()], 0.17 * (top - bottom) / (height - 0.75), top)
    for i, text in enumerate(names.values()):  # the sign once more beside the name: it may have had to move
        ax.plot(1.03, places[i], MARKERS[i % 10], transform=ax.get_yaxis_transform(), clip_on=False, markersize=6,
                color=PALETTE[i % 8])  # fmt: skip
        ax.text(1.055, places[i], text, transform=ax.get_yaxis_transform(), va="center", fontsize=9, color=INK)
    told = "; ".join(f"{name} from {rows[0, 1]:.2f} at {rows[0, 0]:g} to {rows[-1, 1]:.2f} at {rows[-1, 0]:g} "
                     f"({rows[-1, 2]:.2f} to {rows[-1, 3]:.2f})" for name, rows in table.items())  # fmt: skip
    return Picture(figure, alt or f"{ylabel.capitalize()} over {xlabel}, with intervals: {told}.")


def _interval_rows(name: str, rows: Sequence, log_x: bool) -> np.ndarray:
    """[n, 4], by rising x."""
    table = np.array([tuple(row) for row in rows], float)
    if table.ndim != 2 or table.shape[1] != 4 or not np.isfinite(table).all():
        raise ValueError(f"{name}: expected rows (x, mean, low, high) of finite numbers, got {list(rows)}")
    if (table[:, 2] > table[:, 1]).any() or (table[:, 1] > table[:, 3]).any():
        raise ValueError(f"{name}: expected low <= mean <= high in rows (x, mean, low, high), got {list(rows)}")
    if log_x and table[:, 0].min() <= 0:
        raise ValueError(f"{name}: expected x > 0 on a logarithmic axis, got {table[:, 0].min():g}; set log_x=False")
    return table[table[:, 0].argsort(kind="stable")]


def _log_ticks(ax: Axes, values: np.ndarray) -> None:
    """A logarithmic axis that is labelled at the values themselves, as far as their labels have room."""
    ax.set_xscale("log")
    kept = values[:1]
    for value in values[1:]:
        if np.log(value / kept[-1]) > 0.09 * np.log(values[-1] / values[0]):
            kept = np.append(kept, value)
    ax.set_xticks(kept, [f"{value:g}" for value in kept])
    ax.set_xticks([], minor=True)


@_plain
def similarity_heatmap(similarities: Tensor, *, rows: Sequence[str] = (), columns: Sequence[str] = (),
                       positives: Tensor | None = None, alt: str | None = None) -> Picture:  # fmt: skip
    """Cosine similarities [N, M] as colours, blue for -1 over gray to red for 1; numbers too, up to 12 a side.

    Args:
        similarities: in [-1, 1]; NaN cells are left white, such as a picture's similarity with itself.
        rows, columns: names; none are written beyond 40.
        positives: [N, M] bool, cells to outline (up to 64 a side); the words tell them from the others at any size.

    Raises:
        ValueError: no matrix, cosines out of range or all NaN, names or positives of another shape.
    """
    _check_matrix("similarities", similarities, len(rows), len(columns))
    values = similarities.detach().cpu().double().numpy()
    n, m = values.shape
    if np.isnan(values).all() or not np.nanmax(np.abs(values)) <= 1 + 1e-3:
        raise ValueError("similarities: expected cosines in [-1, 1], and not NaN alone, got "
                         f"{values.min():g} to {values.max():g}; normalize the vectors first")  # fmt: skip
    cells = [[f"{v:z.2f}" if v == v else "" for v in row] for row in values] if max(n, m) <= 12 else None
    figure, ax = _heat_map(values, "coolwarm", (-1, 1), cells, rows, columns, ("", "", "cosine similarity"))
    told = (
        f"Heat map of {n} × {m} similarities, from {np.nanmin(values):z.2f} to {np.nanmax(values):z.2f}, "
        f"on average {np.nanmean(values):z.2f}."
    )
    if positives is not None:
        if not isinstance(positives, Tensor) or positives.dtype != torch.bool or positives.shape != similarities.shape:
            got = f"{positives.dtype} {list(positives.shape)}" if isinstance(positives, Tensor) else type(positives)
            raise ValueError(f"positives: expected bool [{n}, {m}] like the similarities, got {got}")
        told += _positives(ax, values, positives.cpu().numpy(), rows or range(n), columns or range(m))
    return Picture(figure, alt or told)


def _positives(ax: Axes, values: np.ndarray, positives: np.ndarray, rows: Sequence, columns: Sequence) -> str:
    """Outline them, and say how they stand against the others."""
    outlined = max(values.shape) <= 64
    for i, j in np.argwhere(positives) if outlined else ():
        ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.6, clip_on=False))
    mine, others = np.where(positives, values, np.nan), np.where(positives, np.nan, values)
    if np.isnan(mine).all() or np.isnan(others).all():
        return ""
    i, j = np.unravel_index(np.nanargmax(others), others.shape)
    return (
        f" Positives{' (outlined)' if outlined else ''} average {np.nanmean(mine):z.2f}, the others "
        f"{np.nanmean(others):z.2f}; highest of the others: {others[i, j]:z.2f} in row {rows[i]}, column {columns[j]}."
    )


@_plain
def confusion(matrix: Tensor, classes: Sequence[str], *, alt: str | None = None) -> Picture:
    """A confusion matrix as colours: the share of each true class, and counts, up to 12 classes.

    Args:
        matrix: [C, C] counts, rows the true class, as `evaluation.confusion_matrix` gives them.
        classes: C names.
    """
    _check_matrix("matrix", matrix, len(classes), len(classes))
    counts = matrix.detach().cpu().double().numpy()
    if not classes or not (counts >= 0).all():  # NaN fails too
        raise ValueError(f"matrix: expected counts >= 0 [C, C] and C names, got {len(classes)} names and counts from "
                         f"{counts.min():g}")  # fmt: skip
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    cells = [[f"{count:.0f}" for count in row] for row in counts] if len(classes) <= 12 else None
    titles = ("true", "taken for", "share of the true class")
    figure, _ = _heat_map(shares, "cividis", (0, 1), cells, classes, classes, titles)
    wrong = counts * (1 - np.eye(len(counts)))
    i, j = np.unravel_index(wrong.argmax(), wrong.shape)
    worst = f" Most often {classes[i]} is taken for {classes[j]}, {wrong[i, j]:.0f} times." if wrong.any() else ""
    right = np.trace(counts) / max(counts.sum(), 1)
    return Picture(figure, alt or f"Confusion matrix of {counts.sum():,.0f} pictures in {len(classes)} classes: "
                                  f"{right:.1%} right.{worst}")  # fmt: skip


def _check_matrix(name: str, matrix: Tensor, rows: int, columns: int) -> None:
    if not isinstance(matrix, Tensor) or matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"{name}: expected a tensor [N, M], N and M > 0, got "
                         f"{list(matrix.shape) if isinstance(matrix, Tensor) else type(matrix).__name__}")  # fmt: skip
    if rows not in (0, matrix.shape[0]) or columns not in (0, matrix.shape[1]):
        raise ValueError(f"{name}: expected as many names as rows and columns, {list(matrix.shape)}, got {rows} and "
                         f"{columns}")  # fmt: skip


def _short(name: str) -> str:
    short = textwrap.shorten(name, 28, placeholder="…")  # at a word's end
    return short if short != "…" else f"{name[:27]}…"


def _heat_map(values: np.ndarray, colors: str, limits: tuple[float, float], cells: Sequence[Sequence[str]] | None,
              rows: Sequence[str], columns: Sequence[str], titles: Sequence[str]) -> tuple[Figure, Axes]:  # fmt: skip
    """Colours with a colour bar; `cells` are written into them. titles: of the rows, the columns, the colours."""
    n, m = values.shape
    tall, wide = (5.5 / count if count > 40 else min(0.5, max(0.17, 5.5 / count)) for count in (n, m))  # inches a cell
    rows, columns = (
        [_short(name) for name in names or map(str, range(count))] if count <= 40 else []
        for names, count in ((rows, n), (columns, m))
    )
    longest = [max(map(len, names), default=4) for names in (rows, columns)]
    upright = bool(columns) and 0.075 * longest[1] > wide - 0.03  # names of columns that are too long to lie
    left = 0.2 + 0.075 * longest[0] + 0.25 * bool(titles[0])
    bottom = 0.2 + (0.075 * longest[1] if upright else 0.15) + 0.25 * bool(titles[1])
    bar = min(max(tall * n, 2.0), 3.5)
    width, height = left + wide * m + 1.15, bottom + max(tall * n, bar) + 0.15
    figure, axes = _figure(width, height)
    ax = axes[0, 0]
    ax.set_position((left / width, 1 - (0.15 + tall * n) / height, wide * m / width, tall * n / height))
    drawn = ax.imshow(values, cmap=colors, vmin=limits[0], vmax=limits[1], interpolation="nearest", aspect="auto")
    bar_ax = figure.add_axes((1 - 0.85 / width, 1 - (0.15 + bar) / height, 0.16 / width, bar / height))
    figure.colorbar(drawn, cax=bar_ax, ticks=np.linspace(*limits, 5)).outline.set_visible(False)
    bar_ax.tick_params(colors=INK, labelsize=8.5)
    bar_ax.set_ylabel(titles[2], color=INK, fontsize=9.5)
    ax.set_ylabel(titles[0], color=INK, fontsize=9.5)
    ax.set_xlabel(titles[1], color=INK, fontsize=9.5)
    ax.spines[:].set_visible(False)
    for axis, names, side, turn in ((ax.yaxis, rows, tall, 0), (ax.xaxis, columns, wide, 90 * upright)):
        if names:
            axis.set_ticks(range(len(names)), names, fontsize=9 if side > 0.25 else 7.5, rotation=turn)
            axis.set_tick_params(length=0)
        else:
            axis.set_major_locator(MaxNLocator(6, integer=True))
    for i, j in np.ndindex(n, m) if cells else ():
        light = np.dot(drawn.to_rgba(values[i, j])[:3], (0.299, 0.587, 0.114)) > 0.5
        ax.text(j, i, cells[i][j], ha="center", va="center", fontsize=8.5, color="black" if light else "white")
    return figure, ax


@_plain
def similarity_histograms(positives: Tensor, negatives: Tensor, *, alt: str | None = None) -> Picture:
    """How positive and negative similarities (any shape, in [-1, 1]) are spread, each as a share of its own."""
    figure, axes = _figure(5.6, 2.8)
    ax, told = axes[0, 0], []
    for name, values, color, hatch in (
        ("negatives", negatives, PALETTE[3], "////"),
        ("positives", positives, PALETTE[0], ""),
    ):
        if not isinstance(values, Tensor):
            raise TypeError(f"{name}: expected a tensor of cosines, got {type(values).__name__}")
        values = values.detach().cpu().double().flatten().numpy()
        if not len(values) or not np.abs(values).max() <= 1 + 1e-3:
            raise ValueError(f"{name}: expected cosines in [-1, 1], at least one, got {len(values)} numbers")
        ax.hist(values.clip(-1, 1), bins=np.linspace(-1, 1, 41), weights=np.full(len(values), 1 / len(values)),
                histtype="stepfilled", facecolor=(*to_rgb(color), 0.35), edgecolor=color, linewidth=1.4, hatch=hatch,
                label=name)  # fmt: skip
        told.append(f"{len(values):,} {name} average {values.mean():z.2f} (standard deviation {values.std():.2f})")
    ax.set_xlabel("cosine similarity", color=INK, fontsize=9.5)
    ax.set_ylabel("share", color=INK, fontsize=9.5)
    ax.set_xlim(-1, 1)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9.5)
    return Picture(figure, alt or f"Two histograms of similarities: {'; '.join(told)}.")


def tsne(features: Tensor, *, perplexity: float = 30, seed: int = 0, metric: str = "cosine",
         steps: int = 1000) -> np.ndarray:  # fmt: skip
    """t-SNE of features [N, D] to [N, 2] (van der Maaten & Hinton 2008, scikit-learn's, which starts from PCA).

    Distances between far clusters, their sizes and their density mean nothing; near neighbours do.

    Args:
        perplexity: how many neighbours each point heeds, roughly; at most (N - 1) / 3 where N is no larger than it.
        metric: distance in D dimensions, "cosine" or "euclidean".
        steps: of gradient descent, at least 250; small maps are done after 500.
    """
    from sklearn.manifold import TSNE  # slow to import, and only needed here

    features = _check_finite(features)
    if not isinstance(perplexity, numbers.Real) or not 0 < perplexity < math.inf:
        raise ValueError(f"perplexity: expected a number > 0 (5 to 50 is usual), got {perplexity!r}")
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f'metric: expected "cosine" or "euclidean", got {metric!r}')
    if type(steps) is not int or steps < 250:
        raise ValueError(f"steps: expected an integer of at least 250, got {steps!r}")
    if (features == features[:1]).all():  # collapsed to one point, on which scikit-learn's t-SNE crashes
        return np.zeros((len(features), 2), np.float32)
    if len(features) <= perplexity:
        perplexity = max(1, (len(features) - 1) / 3)
    method = TSNE(perplexity=perplexity, metric=metric, init="pca", max_iter=steps, random_state=seed)
    return method.fit_transform((features / features.abs().max()).numpy())  # it crashes on tiny features, too


def pca(features: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The two principal components of features [N, D] (scikit-learn's): points [N, 2], and the share of the variance
    that each explains, [2].

    Unlike t-SNE it is linear: distances on the map are never longer than in D dimensions, and what it leaves out is
    known, one minus the two shares. Lengths count; for angles give it `F.normalize(features)`.
    """
    from sklearn.decomposition import PCA  # slow to import, and only needed here

    features = _check_finite(features)
    points, shares = np.zeros((len(features), 2), np.float32), np.zeros(2)
    scale = features.abs().max()
    x = (features / scale).double().numpy() if scale > 0 else features.double().numpy()
    if np.ptp(x, axis=0).max() > 0:
        method = PCA(min(2, *x.shape), random_state=0)
        points[:, : method.n_components] = method.fit_transform(x) * scale.item()
        shares[: method.n_components] = method.explained_variance_ratio_
    return points, shares


def _check_finite(features: Tensor) -> Tensor:
    """Them, as scikit-learn can take them."""
    if not isinstance(features, Tensor) or features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"features: expected a tensor [N, D], N and D > 0, got {list(getattr(features, 'shape', ()))}")
    if not features.isfinite().all():
        raise ValueError("features: expected finite numbers, got NaN or infinity; did the training diverge?")
    features = features.detach().cpu()
    return features if features.dtype == torch.float64 else features.float()


@_plain
def embedding_maps(maps: Mapping[str, np.ndarray], labels: Tensor | None, classes: Sequence[str], *,
                   images: Tensor | None = None, alt: str | None = None) -> Picture:  # fmt: skip
    """Maps [N, 2] side by side, by name; colour and marker tell the class, a legend names them.

    Args:
        labels: [N] int64, or None for maps without classes.
        classes: their names.
        images: [N, C, H, W]; if given, thumbnails are drawn in place of some points.
    """
    _check_maps(maps, labels, classes, images)
    columns = -(-len(classes) // 20) if len(classes) <= 40 else 0  # of the legend; beyond 40 the signs repeat
    figure, axes = _figure(4.3 * len(maps) + 1.3 * columns, 4.3, 1, len(maps))
    labels = np.zeros(len(next(iter(maps.values()))), int) if labels is None else labels.cpu().numpy()
    for ax, (name, points) in zip(axes[0], maps.items(), strict=True):
        for label in np.unique(labels):
            mine = points[labels == label]
            ax.scatter(*mine.T, s=13, color=PALETTE[label % 8], marker=MARKERS[label % 10], linewidths=0.3, alpha=0.75,
                       edgecolors=INK, label=classes[label] if classes else None)  # fmt: skip
        ax.set_title(name, color=INK)
        ax.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
        ax.spines[:].set(visible=True, color="#dddddd")
        if images is not None:
            _thumbnails(ax, points, images)
    if columns:
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(),
            loc="outside right center",
            frameon=False,
            fontsize=9.5,
            markerscale=1.8,
            ncols=columns,
        )
    return Picture(figure, alt or f"Maps of {len(labels)} pictures: {'; '.join(maps)}. Each point is a picture"
                                  f"{', its marker and colour its class' if classes else ''}.")  # fmt: skip


def _check_maps(maps: Mapping[str, np.ndarray], labels: Tensor | None, classes: Sequence[str],
                images: Tensor | None) -> None:  # fmt: skip
    shapes = {name: np.shape(points) for name, points in maps.items()}
    n = next((shape[0] for shape in shapes.values() if shape), 0)
    if not n or set(shapes.values()) != {(n, 2)}:
        raise ValueError(f"maps: expected one or more by name, points [N, 2] each, got {shapes or 'none'}")
    if labels is not None:
        if not isinstance(labels, Tensor) or labels.is_floating_point():
            raise TypeError(f"labels: expected int64 [{n}], got {getattr(labels, 'dtype', type(labels).__name__)}")
        if labels.shape != (n,) or labels.min() < 0 or (classes and labels.max() >= len(classes)):
            raise ValueError(f"labels: expected [{n}], each 0 to below {len(classes) or 'any'}, got "
                             f"{list(labels.shape)} from {labels.min()} to {labels.max()}")  # fmt: skip
    if images is not None and len(images) != n:
        raise ValueError(f"images: expected one for each of {n} points, got {len(images)}")


def _thumbnails(ax: Axes, points: np.ndarray, images: Tensor, *, most: int = 60) -> None:
    """Pictures in place of points, as many as fit without touching: greedily, in the order given."""
    span = np.ptp(points, axis=0).max() or 1
    shown = []
    for i, point in enumerate(points):
        if len(shown) < most and all(np.abs(points[j] - point).max() > 0.075 * span for j in shown):
            shown.append(i)
    half = 0.032 * span
    for i, image in zip(shown, to_numpy(images[shown]), strict=True):
        (x, y) = points[i]
        ax.imshow(image, extent=(x - half, x + half, y - half, y + half), zorder=3, interpolation="nearest")
    ax.use_sticky_edges = False
    ax.autoscale_view()  # imshow has zoomed in on the last one


class LiveCurves:
    """Curves that grow while a model trains: pass it as `on_row` to `training.fit`.

    The picture keeps its place and its size, and what is stored in the notebook is its last state: it is drawn anew
    with each row that holds the metric, as a run's last row does, and else every two seconds at most.
    """

    def __init__(self, **options):
        """`options` go to `curves`."""
        self.options, self.history, self.handle, self.drawn = options, [], None, -math.inf

    def __call__(self, row: Mapping[str, float]) -> None:
        from IPython.display import display  # only a notebook has a display

        self.history.append(row)
        last = row["step"] == self.options.get("steps")
        if not last and self.options.get("metric", "knn") not in row and time.monotonic() < self.drawn + 2:
            return
        picture = curves(self.history, **self.options)
        if self.handle is None:
            self.handle = display(picture, display_id=True)
        else:
            self.handle.update(picture)
        self.drawn = time.monotonic()
