"""Pictures of the course: matplotlib figures with a sentence for whoever can't see them.

Every function returns a `Picture`. In a notebook it shows itself; `picture.save(path)` writes a PNG. Nothing here
touches pyplot's global state, so nothing leaks, warns or shows up twice.
"""

import base64
import io
import itertools
import math
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

# Okabe and Ito's colours: apart for every common kind of colour vision.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "P", "X", "v", "*", "<", ">")  # nothing is told by colour alone
INK, FAINT = "#333333", "#9a9a9a"
_DPI = 110


class Picture:
    """A figure and its `alt` text."""

    def __init__(self, figure: Figure, alt: str):
        self.figure, self.alt = figure, alt

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
        ax.title.set_size(10.5)
    return figure, axes


def to_numpy(images: Tensor) -> np.ndarray:
    """[N, C, H, W] uint8 or float in [0, 1] to uint8 [N, H, W, 3]."""
    images = images.detach().cpu()
    if images.is_floating_point():
        images = (images.clamp(0, 1) * 255).round().byte()
    return images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def image_grid(
    images: Tensor,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 8,
    rows: Sequence[str] | None = None,
    alt: str | None = None,
) -> Picture:
    """Pictures [N, C, H, W] in rows, each with a title if there are titles; `rows` names the rows at their left."""
    count = -(-len(images) // columns)
    lines = [textwrap.fill(title, 14) for title in titles or ()]  # as wide as a picture
    height = 1.1 + (0.1 + 0.15 * max(line.count("\n") + 1 for line in lines) if lines else 0)
    figure, axes = _figure(1.1 * columns + (0.8 if rows else 0), height * count, count, columns)
    for i, ax in enumerate(axes.flat):
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if i < len(images):
            ax.imshow(to_numpy(images[i : i + 1])[0], interpolation="nearest")
            if lines:
                ax.set_title(lines[i], fontsize=9, color=INK)
    if rows:
        for ax, name in zip(axes[:, 0], rows, strict=True):
            ax.set_ylabel(name, fontsize=10, color=INK)
    return Picture(figure, alt or f"{len(images)} pictures" + (f": {', '.join(titles)}." if titles else "."))


def view_pairs(images: Tensor, view1: Tensor, view2: Tensor, *, alt: str | None = None) -> Picture:
    """One column a picture: the original above, its two views below."""
    n = len(images)
    figure, axes = _figure(1.1 * n + 0.8, 3.5, 3, n)
    for row, (name, batch) in enumerate((("picture", images), ("view 1", view1), ("view 2", view2))):
        for ax, image in zip(axes[row], to_numpy(batch), strict=True):
            ax.imshow(image, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        axes[row, 0].set_ylabel(name, fontsize=10, color=INK)
    return Picture(figure, alt or f"{n} pictures, and below each two random views of it.")


def curves(history: Sequence[Mapping[str, float]], *, baselines: Mapping[str, float] | None = None, metric: str = "knn",
           chance: float | None = None, steps: int | None = None) -> Picture:  # fmt: skip
    """Loss and a metric over the steps of a run, side by side.

    Args:
        history: rows with "step", some with "loss", some with `metric`; as `training.fit` makes them.
        baselines: name -> value, dashed lines beside the metric.
        chance: the loss of blind guessing, a dashed line beside the loss.
        steps: the end of the horizontal axis, so that a live curve does not rescale.
    """
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
    top = max([value for _, value in loss] + [chance or 0]) or 1
    axes[0, 0].set_title("loss (lower: the task is solved better)", color=INK)
    axes[0, 0].set_ylim(0, 1.08 * top)
    axes[0, 1].set_title(f"{'kNN accuracy' if metric == 'knn' else metric} (higher is better)", color=INK)
    axes[0, 1].set_ylim(0, 1.02)
    _curve(axes[0, 0], loss, PALETTE[0], "", guess)
    _curve(axes[0, 1], score, PALETTE[3], "o", baselines)
    fall = f" ends at {loss[-1][1]:.2f}" if loss else " is not measured yet"
    end = f" ends at {score[-1][1]:.2f} after {score[-1][0]} steps" if score else " is not measured yet"
    beside = f"; baselines: {', '.join(_label(*line) for line in baselines.items())}" if baselines else ""
    return Picture(figure, f"Two curves over training. Loss{fall}; {metric}{end}{beside}.")


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
    top = ax.get_ylim()[1]
    places = _apart(list(lines.values()), 0.065 * top, top)
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


def tsne(features: Tensor, *, perplexity: float = 30, seed: int = 0) -> np.ndarray:
    """t-SNE of features [N, D] in cosine distance, to [N, 2] (van der Maaten & Hinton 2008, scikit-learn's).

    Distances between far clusters, their sizes and their density mean nothing; near neighbours do.
    """
    from sklearn.manifold import TSNE  # slow to import, and only needed here

    if not features.isfinite().all():
        raise ValueError("features: expected finite numbers, got NaN or infinity; did the training diverge?")
    if (features == features[:1]).all():  # collapsed to one point, on which scikit-learn's t-SNE crashes
        return np.zeros((len(features), 2), np.float32)
    if len(features) <= perplexity:
        perplexity = max(1, (len(features) - 1) / 3)
    method = TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=seed)
    return method.fit_transform((features / features.abs().max()).numpy())  # it crashes on tiny features, too


def embedding_maps(maps: Mapping[str, np.ndarray], labels: Tensor | None, classes: Sequence[str], *,
                   images: Tensor | None = None, alt: str | None = None) -> Picture:  # fmt: skip
    """Maps [N, 2] side by side, by name; colour and marker tell the class, a legend names them.

    Args:
        labels: [N] int64, or None for maps without classes.
        classes: their names.
        images: [N, C, H, W]; if given, thumbnails are drawn in place of some points.
    """
    columns = -(-len(classes) // 20) if len(classes) <= 40 else 0  # of the legend; beyond 40 the signs repeat
    figure, axes = _figure(4.3 * len(maps) + 1.3 * columns, 4.3, 1, len(maps))
    labels = np.zeros(len(next(iter(maps.values()))), int) if labels is None else labels.numpy()
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
