"""The perplexity explorer: t-SNE maps of the same points, and how much of each neighbourhood they keep."""

from functools import lru_cache

import ipywidgets as widgets
import numpy as np
from matplotlib import style

from clbook.explorers.base import FAINT, INK, MUTED, NEGATIVE, POSITIVE, THIRD, Explorer, new_figure, percent

PERPLEXITIES = (2, 5, 10, 30, 50, 100)
NEIGHBOURS = 10
FEWEST, MOST = 120, 300  # perplexity 100 needs some points; six maps should not take long
WIDTH, HEIGHT = 640, 400
COLORS = (POSITIVE, NEGATIVE, THIRD, "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # plots.PALETTE's, less the yellow
MARKERS = ("o", "s", "^", "D", "P", "X", "v", "*", "<", ">")
SPREADS = 1, 8  # standard deviations of the tight and the wide group


def noise(n=120, dim=50, seed=0):
    """Isotropic Gaussian noise, float32 [n, dim]: no groups at all."""
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def two_groups(n=120, dim=50, seed=0):
    """Two Gaussians, one eight times as wide as the other, far apart: points [n, dim], labels [n]."""
    labels = np.arange(n) % 2
    points = noise(n, dim, seed) * np.array(SPREADS, np.float32)[labels, None]
    points[:, 0] += 60 * labels
    return points, labels


def spread(points):
    """How wide a group is: the root of the mean squared distance from its centre."""
    return float(np.sqrt(np.square(points - points.mean(0)).sum(1).mean()))


@lru_cache(maxsize=8)
def _maps(data, dim):
    """perplexity -> (map [N, 2] in [-1, 1], share of neighbours kept), for the bytes of float32 [N, dim]."""
    import torch

    from clbook import evaluation, plots

    x = torch.frombuffer(bytearray(data), dtype=torch.float32).view(-1, dim)
    maps = {}
    for perplexity in PERPLEXITIES:
        points = plots.tsne(x, perplexity=perplexity, metric="euclidean", steps=500)
        kept = evaluation.neighbours_kept(x, torch.from_numpy(points), k=NEIGHBOURS)
        points = points - (points.max(0) + points.min(0)) / 2
        maps[perplexity] = points / max(np.abs(points).max(), 1e-30), kept
    return maps


def _checked(features, labels, classes):
    """Unit vectors float32 [N, D] and labels [N]: neighbours of features are found by their angle, as kNN does."""
    x = np.asarray(features.detach().cpu() if hasattr(features, "detach") else features, dtype=np.float32)
    if x.ndim != 2 or not FEWEST <= len(x) <= MOST or not np.isfinite(x).all():
        raise ValueError(f"features: expected finite numbers [N, D], N from {FEWEST} to {MOST} (as in features[:200]), "
                         f"got {list(x.shape)}{'' if np.isfinite(x).all() else ' with NaN or infinity'}")  # fmt: skip
    if (labels is None) != (not len(classes)):
        raise ValueError("expected labels and classes, or neither; got only one of them")
    labels = np.zeros(len(x), int) if labels is None else np.asarray(labels)
    if labels.shape != x.shape[:1] or labels.min() < 0 or labels.max() >= max(1, len(classes)):
        raise ValueError(f"labels: expected [{len(x)}], each from 0 to {max(1, len(classes)) - 1}, got "
                         f"{list(labels.shape)} from {labels.min()} to {labels.max()}")  # fmt: skip
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12), labels


@style.context("default")  # whatever style the notebook plots in
def perplexity(features=None, labels=None, classes=()):
    """Turn the perplexity of t-SNE: what a map shows of data that you know, and what it makes up.

    features: [N, D], N from 120 to 300, to map beside the two examples, as unit vectors: noise without any groups, and
              two groups of which one is eight times as wide. Twelve maps of 120 points take some seconds, once.
    labels:   [N] integers, told by colour and marker; with `classes`, their names, at most 10.
    ValueError for anything else.
    """
    if len(classes) > len(MARKERS):
        raise ValueError(f"classes: expected at most {len(MARKERS)}, got {len(classes)}")
    groups, sides = two_groups()
    sets = {
        "noise": (noise(), np.zeros(len(noise()), int), ("a point of noise",)),
        "two groups": (groups, sides, ("tight group", "wide group")),
    }
    if features is not None:
        sets = {"your features": (*_checked(features, labels, classes), tuple(classes) or ("a picture",))} | sets
    maps = {name: _maps(x.tobytes(), x.shape[1]) for name, (x, _, _) in sets.items()}
    figure, place, moving = _picture(sets, maps)

    def update(data, perplexity):
        points, kept = maps[data][perplexity]
        x, labels, _ = sets[data]
        place(data, perplexity)
        chance = percent(NEIGHBOURS / (len(x) - 1))
        told = (
            f"Perplexity {perplexity}, {data}: the map keeps {percent(kept)} of each point's {NEIGHBOURS} nearest "
            f"neighbours (a random map: {chance})"
        )
        if data == "noise":
            return told + "; whatever groups you see are made up."
        if data == "two groups":
            real, drawn = (spread(p[labels == 1]) / spread(p[labels == 0]) for p in (x, points))
            return told + f"; the wide group is {real:.1f} times as wide in the data, {drawn:.1f} times on the map."
        return told + "."

    first = next(iter(sets))
    settings = [{"data": name, "perplexity": p} for name in sets for p in (2, 50 if name == "noise" else 100)]
    if features is not None:  # three sets: one map of each, and a second of the features
        settings = [{"perplexity": 30}, {"perplexity": 100}, {"data": "noise", "perplexity": 2},
                    {"data": "two groups", "perplexity": 30}]  # fmt: skip
    return Explorer(
        "Perplexity explorer",
        figure,
        update,
        controls={
            "perplexity": widgets.SelectionSlider(
                options=[(str(p), p) for p in PERPLEXITIES], value=5, description="perplexity"
            ),
            "data": widgets.ToggleButtons(options=[(name, name) for name in sets], value=first, description="data"),
        },
        settings=settings,
        moving=moving,
    )


def _picture(sets, maps):
    """The figure, a function that places everything in it, and the artists that it moves."""
    figure = new_figure(WIDTH, HEIGHT)
    plane, line = _axes(figure)
    groups, legends, curves = {}, {}, {}
    for name, (_, _, classes) in sets.items():
        looks = [
            {"marker": MARKERS[i], "ms": 5.5, "color": COLORS[i % len(COLORS)], "mec": "white", "mew": 0.5, "ls": ""}
            for i in range(len(classes))
        ]
        groups[name] = [plane.plot([], [], **look)[0] for look in looks]
        rows = [(0.645, 0.30 - 0.05 * i) for i in range(len(classes))]
        if len(classes) > 5:  # two columns
            rows = [(0.645 + 0.18 * (i // 5), 0.30 - 0.05 * (i % 5)) for i in range(len(classes))]
        legends[name] = [_sign(figure, *row, look) for row, look in zip(rows, looks, strict=True)]
        legends[name] += [
            figure.text(x + 0.02, y, text, size=10, color=INK, va="center_baseline")
            for (x, y), text in zip(rows, classes, strict=True)
        ]
        kept = [100 * maps[name][p][1] for p in PERPLEXITIES]
        curves[name] = line.plot(range(len(kept)), kept, "o-", color=INK, ms=5, lw=1.6, clip_on=False)[0]
    title = figure.text(16 / WIDTH, 1 - 26 / HEIGHT, "", size=15, weight="bold", color=INK, va="baseline")
    (now,) = line.plot([0], [0], "D", color=NEGATIVE, ms=11, mec="white", clip_on=False, zorder=5)
    number = line.annotate("", (0, 0), xytext=(0, 11), textcoords="offset points", ha="center", size=11,
                           weight="bold", color=INK)  # fmt: skip
    chance = line.axhline(0, color=MUTED, lw=1.2, ls=(0, (4, 3)))
    guess = line.text(2.5, 0, "a random map", size=9.5, color=MUTED, ha="center", va="bottom")

    def place(data, perplexity):
        points, kept = maps[data][perplexity]
        labels = sets[data][1]
        for name in sets:
            for artist in (*groups[name], *legends[name], curves[name]):
                artist.set_visible(name == data)
        for label, group in enumerate(groups[data]):
            group.set_data(*points[labels == label].T)
        title.set_text(f"perplexity {perplexity} · {data}")
        spot = PERPLEXITIES.index(perplexity), 100 * kept
        now.set_data([spot[0]], [spot[1]])
        number.xy = spot
        number.set_text(percent(kept))
        level = 100 * NEIGHBOURS / (len(labels) - 1)
        chance.set_ydata([level] * 2)
        guess.set_y(level + 1)

    moving = [a for some in (groups, legends) for artists in some.values() for a in artists]
    return figure, place, [*moving, *curves.values(), title, chance, guess, now, number]


def _axes(figure):
    """The map, which has no scales since they would mean nothing; and the neighbours kept over the perplexity."""
    plane = figure.add_axes(
        (16 / WIDTH, 16 / HEIGHT, 344 / WIDTH, 344 / HEIGHT), xlim=(-1.07, 1.07), ylim=(-1.07, 1.07)
    )
    plane.set(xticks=[], yticks=[])
    plane.spines[:].set(color="#cccccc")
    line = figure.add_axes((420 / WIDTH, 186 / HEIGHT, 196 / WIDTH, 150 / HEIGHT))
    line.set(xlim=(-0.8, 5.5), ylim=(0, 100), yticks=(0, 50, 100), xticks=range(len(PERPLEXITIES)))
    line.set_xticklabels(PERPLEXITIES)
    line.set_yticklabels(("0", "50 %", "100 %"))
    line.set_title(f"{NEIGHBOURS} neighbours kept", size=11, color=INK, loc="left", pad=14)
    line.set_xlabel("perplexity", size=10, color=MUTED)
    line.grid(axis="y", color=FAINT)
    line.set_axisbelow(True)
    line.spines[:].set_visible(False)
    line.tick_params(length=0, labelsize=9.5, labelcolor=MUTED)
    return plane, line


def _sign(figure, x, y, look):
    from matplotlib.lines import Line2D

    return figure.add_artist(Line2D([x], [y], transform=figure.transFigure, **look))
