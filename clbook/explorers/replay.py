"""The replay explorer: a run of training once more, step by step, as a map of its features beside its curves."""

import functools
import itertools
import math

import ipywidgets as widgets
import numpy as np
from matplotlib import style

from clbook.explorers.base import FAINT, INK, MUTED, NEGATIVE, POSITIVE, Explorer, new_figure

COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")  # plots.PALETTE
MARKERS = ("o", "s", "^", "D", "P", "X", "v", "*", "<", ">")  # plots.MARKERS
NEIGHBOURS = 10
WIDTH, HEIGHT = 640, 440


@style.context("default")  # whatever style the notebook plots in
def replay(snapshots=None, labels=None, classes=None, *, history=None, baselines=None, chance=None):
    """Replay a run of training: the map of its features at each snapshot, its loss, its kNN accuracy.

    The map shows the same pictures at every step, seen along the two principal directions of the *last* snapshot, so
    that what moves is the features and not the point of view. One picture is followed, with the trail that it left
    and its ten nearest neighbours, by cosine in all D dimensions.

    snapshots: two or more dicts by rising "step", each with "features" [N, D] of the same N >= 3 pictures (an array, a
               tensor), "knn", and "loss" where there is one; a row of `fit`'s history and the features is one. Left
               out: a small run is trained on the spot, in a few seconds (16-px shapes; once in a session).
    labels:    [N] whole numbers from 0 up: what the markers and colours tell.
    classes:   their names.
    history:   rows with "step" and "loss", "knn" or both, for finer curves; the snapshots themselves unless told.
    baselines: name -> kNN accuracy, dashed lines.
    chance:    the loss of blind guessing, a dashed line.
    ValueError for anything else.
    """
    if snapshots is None:
        return replay(**_recorded())
    steps, features = _checked_snapshots(snapshots)
    labels, names = _checked_labels(labels, classes, len(features[0]))
    points, share = _map(features)
    curves = {key: _curve(history or snapshots, key) for key in ("loss", "knn")}
    title = f"2 main directions of {features[0].shape[1]}: {100 * share:.0f} % of the variance at the end"
    figure, place, moving = _picture(points, labels, names, curves, steps[-1], baselines or {}, chance, title)

    def update(step, follow):
        i = steps.index(step)
        others = (features[i] @ features[i][follow]).argsort(kind="stable")[::-1]
        near = others[others != follow][:NEIGHBOURS]
        loss, knn = snapshots[i].get("loss"), snapshots[i]["knn"]
        place(i, step, follow, near, loss, knn)
        alike = int((labels[near] == labels[follow]).sum())
        told = "no loss yet" if loss is None else f"loss {loss:.2f}"
        guess = f" (blind guessing: {chance:.2f})" if chance and loss is not None else ""
        return (
            f"Step {step} of {steps[-1]}: {told}{guess}, kNN {knn:.2f}; of the {len(near)} nearest neighbours of "
            f"picture {follow} ({names[labels[follow]]}), {alike} show its class."
        )

    middle = steps[len(steps) // 2]
    follow = min(7, len(labels) - 2)
    return Explorer(
        "Replay explorer",
        figure,
        update,
        controls={
            "step": widgets.SelectionSlider(options=[(str(s), s) for s in steps], value=middle, description="step"),
            "follow": widgets.IntSlider(follow, 0, len(labels) - 1, description="picture to follow"),
        },
        settings=[{"step": steps[i]} for i in (0, len(steps) // 4, len(steps) // 2, -1)]
        if len(steps) > 4
        else [{"step": s, "follow": f} for s in (steps[0], steps[-1]) for f in (follow, follow + 1)],
        moving=moving,
    )


@functools.cache
def _recorded():
    """A run small enough to train while one waits."""
    from clbook import datasets, evaluation, training  # with torch: seconds, and only needed here

    train = datasets.load("shapes", n=2000, image_size=16)
    val = datasets.load("shapes", "val", n=150, image_size=16)
    config = training.TrainConfig.for_data(
        "shapes", steps=200, image_size=16, width=16, evaluations=8, precision="fp32", device="cpu"
    )
    kept = []

    def look(encoder):
        kept.append(evaluation.encode(encoder, val.images))
        bank = evaluation.encode(encoder, train.images)
        return {"knn": evaluation.knn_accuracy(bank, train.labels, kept[-1], val.labels)}

    rows = training.fit(train.images, config, monitor=look).history
    moments = [row for row in rows if "knn" in row]
    return {
        "snapshots": [row | {"features": h} for row, h in zip(moments, kept, strict=True)],
        "labels": val.labels,
        "classes": val.classes,
        "history": rows,
        "baselines": {"pixels": evaluation.knn_score(None, train, val), "random encoder": moments[0]["knn"]},
        "chance": math.log(2 * config.batch_size - 1),
    }


def _array(values):
    if hasattr(values, "detach"):  # a tensor, perhaps on a GPU or with a gradient
        values = values.detach().cpu().numpy()
    return np.asarray(values)


def _checked_snapshots(snapshots):
    """The steps, and the features as unit vectors, float64 [N, D] each."""
    expected = 'expected snapshots, dicts with "step", "features" [N, D] and "knn"'
    if not isinstance(snapshots, list | tuple) or not all(isinstance(row, dict) for row in snapshots):
        raise ValueError(f"{expected}; got {type(snapshots).__name__}")
    for row in snapshots:
        if missing := [key for key in ("step", "features", "knn") if key not in row]:
            raise ValueError(f"{expected}; got one without {', '.join(missing)}")
    steps = [row["step"] for row in snapshots]
    if len(steps) < 2 or any(a >= b for a, b in itertools.pairwise(steps)):
        raise ValueError(f"{expected}, at least 2 by rising step; got steps {steps}")
    features = [_array(row["features"]).astype(np.float64) for row in snapshots]
    if any(f.ndim != 2 or f.shape != features[0].shape or len(f) < 3 or f.shape[1] < 2 for f in features):
        shapes = sorted({str(list(f.shape)) for f in features})
        raise ValueError(f"{expected}, of the same pictures each time, N at least 3, D at least 2; got "
                         f"{', '.join(shapes)}")  # fmt: skip
    for step, f in zip(steps, features, strict=True):
        if not np.isfinite(f).all():
            raise ValueError(f"{expected}, finite numbers; got NaN or infinity at step {step}. Did the run diverge?")
    for row in snapshots:
        if not all(math.isfinite(row.get(key, 0)) for key in ("loss", "knn")):
            raise ValueError(f"{expected}, finite numbers; got a loss or knn that isn't at step {row['step']}")
    return steps, [f / np.maximum(np.linalg.norm(f, axis=1, keepdims=True), 1e-12) for f in features]


def _checked_labels(labels, classes, n):
    values = _array([] if labels is None else labels)
    if values.shape != (n,) or values.dtype.kind not in "iu" or values.min() < 0:
        raise ValueError(f"expected labels, {n} whole numbers from 0 up, one for each picture; got {values.dtype} "
                         f"{list(values.shape)}")  # fmt: skip
    names = [f"class {i}" for i in range(values.max() + 1)] if classes is None else list(classes)
    if values.max() >= len(names):
        raise ValueError(f"expected a name for each of {values.max() + 1} classes; got {len(names)} names")
    return values, names


def _map(features):
    """Points [N, 2] for each snapshot, along the last one's two principal directions; their share of its variance."""
    last = features[-1]
    mean = last.mean(0)
    _, lengths, directions = np.linalg.svd(last - mean, full_matrices=False)
    directions = directions[:2] * np.sign(directions[:2].sum(1, keepdims=True) + 1e-12)  # a sign that is settled
    variance = np.square(lengths)
    share = variance[:2].sum() / variance.sum() if variance.sum() > 1e-12 else 1.0
    return [(f - mean) @ directions.T for f in features], share


def _curve(rows, key):
    return np.array([(row["step"], row[key]) for row in rows if row.get(key) is not None], float).reshape(-1, 2)


def _picture(points, labels, names, curves, last, baselines, chance, title):
    """The figure, the function that places its moving artists, and these artists."""
    figure = new_figure(WIDTH, HEIGHT)
    axes, signs = _map_axes(figure, points, labels, names, title)
    plots = {
        "loss": _curve_axes(figure, 238, curves["loss"], last, "loss", POSITIVE),
        "knn": _curve_axes(figure, 62, curves["knn"], last, "kNN accuracy", NEGATIVE),
    }
    top = max([*curves["loss"][:, 1], chance or 0, 1e-3])
    plots["loss"].set_ylim(0, 1.12 * top)
    plots["knn"].set_ylim(0, 1)
    plots["loss"].tick_params(labelbottom=False)
    plots["knn"].set_xlabel("step", size=10, color=MUTED)
    lines = {"loss": {"blind guessing": chance} if chance else {}, "knn": baselines}
    for key, values in lines.items():
        for i, (name, value) in enumerate(values.items()):
            dashes = ((0, (5, 3)), (0, (1.5, 2)), (0, (6, 2, 1.5, 2)))[i % 3]
            plots[key].axhline(value, color=INK, lw=1.1, ls=dashes, label=f"{name} {value:.2f}")
        if values:
            plots[key].legend(
                loc="lower left" if key == "loss" else "upper left",
                fontsize=9,
                frameon=False,
                handlelength=2.2,
                borderaxespad=0.1,
            )

    heading = figure.text(24 / WIDTH, 1 - 30 / HEIGHT, "", size=15, weight="bold", color=INK)
    numbers = figure.text(386 / WIDTH, 1 - 30 / HEIGHT, "", size=12, color=INK)
    (trail,) = axes.plot([], [], color=INK, lw=1.3)
    (near,) = axes.plot([], [], "o", ms=10, mfc="none", mec=INK, mew=0.9)
    followed = [
        axes.plot([], [], COLORS[c % 8], marker=MARKERS[c % 10], ms=13, mec="black", mew=1.6, ls="")[0]
        for c in range(len(names))
    ]
    marks = {
        key: ax.plot([], [], "o", ms=9, mfc="white", mec=INK, mew=2, clip_on=False)[0] for key, ax in plots.items()
    }
    rules = [ax.axvline(0, color=INK, lw=0.9) for ax in plots.values()]

    def place(i, step, follow, neighbours, loss, knn):
        heading.set_text(f"step {step} of {last}")
        numbers.set_text(f"{'no loss yet' if loss is None else f'loss {loss:.2f}'},  kNN {knn:.2f}")
        for c, sign in enumerate(signs):
            sign.set_offsets(points[i][labels == c])
        trail.set_data(*np.array([p[follow] for p in points[: i + 1]]).T)
        near.set_data(*points[i][neighbours].T)
        for c, sign in enumerate(followed):
            sign.set_data(*(points[i][[follow]] if c == labels[follow] else np.empty((0, 2))).T)
        for key, value in ("loss", loss), ("knn", knn):
            marks[key].set_data([] if value is None else [step], [] if value is None else [value])
        for rule in rules:
            rule.set_xdata([step, step])

    return figure, place, [heading, numbers, *rules, *signs, trail, near, *followed, *marks.values()]


def _sign(c):
    return {"s": 17, "color": COLORS[c % 8], "marker": MARKERS[c % 10], "linewidths": 0.3, "edgecolors": INK}


def _map_axes(figure, points, labels, names, title):
    """A square that holds every snapshot; below it what the signs mean."""
    axes = figure.add_axes((24 / WIDTH, 68 / HEIGHT, 318 / WIDTH, 318 / HEIGHT))
    every = np.concatenate(points)
    centre, half = (every.max(0) + every.min(0)) / 2, max(0.55 * np.ptp(every, axis=0).max(), 1e-3)
    axes.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] - half, centre[1] + half), xticks=[], yticks=[])
    axes.spines[:].set_color("#cccccc")
    axes.text(0.5, -0.045, title, size=9, color=MUTED, transform=axes.transAxes, ha="center", va="center")
    signs = [axes.scatter([], [], **_sign(c), label=name[:14]) for c, name in enumerate(names)]
    shown = [signs[c] for c in sorted(set(labels.tolist()))[:12]]
    look = {"fontsize": 9.5, "frameon": False, "handletextpad": 0.1, "columnspacing": 0.9, "markerscale": 1.6}
    figure.legend(handles=shown, loc="lower left", bbox_to_anchor=(16 / WIDTH, 0), ncols=min(6, len(shown)), **look)
    return axes, signs


def _curve_axes(figure, bottom, curve, last, heading, color):
    axes = figure.add_axes((386 / WIDTH, bottom / HEIGHT, 236 / WIDTH, 140 / HEIGHT))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, labelcolor=MUTED, color="#cccccc")
    axes.set(xlim=(0, last), xticks=sorted({0, last // 2, last}))
    axes.grid(axis="y", color=FAINT, lw=0.8)
    axes.set_axisbelow(True)
    axes.set_title(heading, size=10.5, color=INK, loc="left", pad=5)
    axes.plot(*curve.T, color=color, lw=1.8, clip_on=False)
    return axes
