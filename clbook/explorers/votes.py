"""The votes explorer: a query picture, its nearest neighbours, and how they vote on its class."""

import ipywidgets as widgets
import numpy as np
from matplotlib import style
from matplotlib.patches import Rectangle

from clbook.explorers.base import (
    CSS_DPI,
    FAINT,
    INK,
    MUTED,
    NEGATIVE,
    POSITIVE,
    Explorer,
    Montage,
    new_figure,
    percent,
    signed,
)

KS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100, 200)
TAUS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.5, 1.0)
SHOWN = 8  # neighbours with a picture
ROWS = 10  # classes with a bar: of more, those with most votes
QUERY, THUMB, STRIDE, LEFT, TOP = 84, 52, 61, 140, 72  # CSS pixels


def share_votes(similarities, labels, classes, *, k, temperature):
    """How the k most similar vote: (rows of the neighbours, nearest first [k]; share of each class [classes]).

    similarities: [N] of one query with the bank; labels: [N] integers below `classes`. Each neighbour votes with
    weight exp(s / temperature) (Wu et al. 2018, section 3.4); stable for any temperature above 0.
    """
    nearest = np.argsort(-similarities, kind="stable")[:k]
    weights = np.exp((similarities[nearest] - similarities[nearest[0]]) / temperature)
    return nearest, np.bincount(labels[nearest], weights, minlength=classes) / weights.sum()


@style.context("default")  # whatever style the notebook plots in
def votes(features=None, labels=None, classes=None, *, queries=None, images=None, k=20, temperature=0.07):
    """Watch neighbours vote: a query, those nearest to it by cosine similarity, and the votes of each class.

    features:    [N, D] (an array, a tensor); left out, with all the rest: the pixels of 400 `shapes`, less their mean.
    labels:      [N] integers from 0; classes: the name of each.
    queries:     rows of `features` to ask about, at least 2; the first 12 unless told. A query never votes on itself.
    images:      [N, C, H, W], uint8 or float in [0, 1], to show beside the names.
    k:           neighbours that vote, to begin with, 1 to N - 1; temperature: of the weights exp(s / temperature), > 0.
    ValueError for anything else.
    """
    if features is None:
        if not (labels is None and classes is None and images is None):
            raise ValueError(
                "expected features [N, D] with labels, classes and images; got some of them without features"
            )
        features, labels, classes, images = _pixels_of_shapes()
    units, labels, classes = _checked(features, labels, classes)
    rows = _checked_queries(range(min(12, len(units))) if queries is None else queries, len(units))
    most = len(units) - 1
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= most:
        raise ValueError(f"k: expected an integer from 1 to {most}, the other pictures; got {k!r}")
    if not 0 < temperature < np.inf:
        raise ValueError(f"expected a temperature above 0; got {temperature}. Usual is 0.07.")
    ks = sorted({k, *(each for each in KS if each <= most)})
    thumbnails = None if images is None else _thumbnails(images, len(units))
    figure, place, moving = _votes_picture(thumbnails, labels, classes, ks[-1])

    def update(query, k, temperature):
        similarities = units @ units[query]
        similarities[query] = -np.inf
        order, _ = share_votes(similarities, labels, len(classes), k=ks[-1], temperature=temperature)
        nearest, shares = share_votes(similarities, labels, len(classes), k=k, temperature=temperature)
        number, truth, winner = rows.index(query) + 1, labels[query], shares.argmax()
        place(number, query, k, temperature, order, similarities[order], shares)
        own = np.count_nonzero(labels[nearest] == winner)
        of = f"{own} of {k} neighbours" if k > 1 else "its nearest neighbour"
        return (
            f"Query {number}, k = {k}, τ = {temperature:g}: {classes[winner]} takes {_told(shares[winner])} of the "
            f"votes ({of}); truth: {classes[truth]}."
        )

    taus = sorted({*TAUS, float(temperature)})
    few, many = ks[0], ks[-1]
    return Explorer(
        "Votes explorer",
        figure,
        update,
        controls={
            "query": widgets.SelectionSlider(
                options=[(f"{i}", row) for i, row in enumerate(rows, 1)], value=rows[0], description="query"
            ),
            "k": widgets.SelectionSlider(
                options=[(f"{each}", each) for each in ks], value=k, description="neighbours k"
            ),
            "temperature": widgets.SelectionSlider(
                options=[(f"{tau:g}", tau) for tau in taus],
                value=float(temperature),
                description="temperature τ of votes",
            ),
        },
        settings=[{}, {"k": few}, {"k": many, "temperature": 1.0}, {"k": many, "temperature": 0.02}],
        moving=moving,
    )


def _pixels_of_shapes():
    from clbook import datasets  # brings torch, and seconds

    shapes = datasets.load("shapes", "val", n=400, image_size=24)
    pixels = shapes.images.flatten(1).numpy() / 255.0
    return pixels - pixels.mean(0), shapes.labels, shapes.classes, shapes.images


def _array(values):
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _checked(features, labels, classes):
    features = _array(features)
    if features.ndim != 2 or len(features) < 3 or features.dtype.kind != "f" or not np.isfinite(features).all():
        raise ValueError(f"features: expected finite floating-point [N, D], N at least 3; got {features.dtype} "
                         f"{list(features.shape)}")  # fmt: skip
    if labels is None or classes is None:
        raise ValueError("expected labels [N] and the names of the classes with the features; got none")
    labels, classes = _array(labels), [str(name) for name in classes]
    if labels.shape != features.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(f"labels: expected {len(features)} integers, one for each row of features; got {labels.dtype} "
                         f"{list(labels.shape)}")  # fmt: skip
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(f"labels: expected 0 to {len(classes) - 1}, as there are {len(classes)} classes; got "
                         f"{labels.min()} to {labels.max()}")  # fmt: skip
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12), labels, classes


def _checked_queries(queries, n):
    rows = [int(row) for row in queries]
    if len(set(rows)) < max(2, len(rows)) or not 0 <= min(rows) <= max(rows) < n:
        raise ValueError(f"queries: expected at least 2 different rows, each from 0 to {n - 1}; got {rows}")
    return rows


def _thumbnails(images, n):
    from clbook.plots import to_numpy

    if len(images) != n:
        raise ValueError(f"images: expected {n}, one for each row of features; got {len(images)}")
    return _posterised(to_numpy(images))


def _posterised(images, step=32):
    """Eight levels a channel: enough for a thumbnail, and the panel's palette holds all their colours."""
    return images // step * step + step // 2


def _votes_picture(thumbnails, labels, classes, most):
    """The figure, the function that places its moving artists, and these artists."""
    bars = min(len(classes), ROWS)
    width, height = 640, TOP + QUERY + 62 + max(150, 24 * bars) + 48
    figure = new_figure(width, height)
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    page.axis("off")
    title = page.text(16, 34, "", size=17, weight="bold", color=INK)
    show_tiles, moving_tiles = _tiles(page, thumbnails)
    lead = page.text(LEFT, TOP, "its nearest neighbours, with cosine similarity", size=10, color=MUTED)
    lead.set(va="bottom", zorder=4)
    look = {"size": 8.5, "color": INK, "ha": "center", "va": "top", "linespacing": 1.35}
    words = [page.text(LEFT + STRIDE * i + THUMB / 2, TOP + THUMB + 14, "", **look) for i in range(SHOWN)]
    place_weights, moving_weights = _weights(figure, labels, most, bars)
    place_bars, moving_bars = _bars(figure, classes, bars)

    def place(number, query, k, temperature, order, similarities, shares):
        truth = labels[query]
        title.set_text(f"query {number},  k = {k},  τ = {temperature:g}")
        show_tiles(query, f"truth: {classes[truth]}", order[:SHOWN], labels[order] == truth, k)
        for i, row in enumerate(order[:SHOWN]):
            shown = f"{_short(classes[labels[row]])}\n{signed(similarities[i])}"
            words[i].set(text=shown, alpha=1 if i < k else 0.45)
        place_weights(k, order, np.exp((similarities - similarities[0]) / temperature), truth)
        place_bars(shares, truth)

    moving = [title, *moving_tiles, *words, *moving_weights, *moving_bars]
    return figure, place, moving


def _told(share):
    return "100 %" if share == 1 else percent(share)


def _short(name):
    return name if len(name) <= 9 else f"{name[:8]}…"


def _tiles(page, thumbnails):
    """The query and its neighbours: a full blue frame agrees with the truth, a dashed orange one does not."""
    corners = [(16, TOP, QUERY), *((LEFT + STRIDE * i, TOP + 8, THUMB) for i in range(SHOWN))]
    frames = [Rectangle((x, y), side, side, fill=False, lw=2.2, zorder=3, visible=False) for x, y, side in corners]
    for frame in frames:
        page.add_patch(frame)
    truth = page.text(16 + QUERY / 2, TOP + QUERY + 6, "", size=8.5, color=INK, ha="center", va="top")
    strip, moving = None, [*frames, truth]
    if thumbnails is not None:  # one picture for all
        strip = np.full((QUERY, corners[-1][0] + THUMB - 16, 4), 255, np.uint8)
        picture = Montage(strip, 2, left=2 * 16, top=2 * TOP)
        page.figure.add_artist(picture)
        moving.append(picture)

    def show(query, name, order, agrees, k):
        truth.set_text(name)
        for i, row in enumerate((query, *order)):
            votes, right = i <= k, i == 0 or agrees[i - 1]
            color = (POSITIVE if right else NEGATIVE) if votes else MUTED
            dashes = "-" if right else (0, (3, 1.6))
            frames[i].set(visible=True, edgecolor=color, linestyle=dashes, alpha=1 if votes else 0.4)
            if strip is not None:
                x, y, side = corners[i]
                tile = _scaled(thumbnails[row], side)
                faded = tile if votes else 255 - (255 - tile) // 4
                strip[y - TOP : y - TOP + side, x - 16 : x - 16 + side, :3] = faded

    return show, moving


def _scaled(image, side):
    """[H, W, 3] to [side, side, 3], the nearest pixel for each."""
    rows, columns = (np.arange(side) * size // side for size in image.shape[:2])
    return image[rows][:, columns]


def _weights(figure, labels, most, bars):
    """Below left: the weight of each neighbour by rank, beside the nearest one's."""
    width, height = figure.get_size_inches() * CSS_DPI
    axes = figure.add_axes((48 / width, 48 / height, 236 / width, max(150, 24 * bars) / height))
    axes.set(xscale="log", xlim=(0.8, max(2, most) * 1.25), ylim=(0, 1.42), yticks=(0, 0.5, 1))
    ticks = [rank for rank in (1, 2, 5, 10, 20, 50, 100, 200) if rank <= most]
    axes.set_xticks(ticks, [f"{rank}" for rank in ticks])
    axes.minorticks_off()
    _plain(axes, "weight exp(s/τ), the nearest = 1", "y")
    axes.set_xlabel("neighbour, nearest first", size=10, color=MUTED)
    (line,) = axes.plot([], [], color=MUTED, lw=1)
    cut = axes.axvline(1, ymax=0.74, color=INK, lw=1.2, ls=(0, (2, 2)))  # below the legend
    (same,) = axes.plot([], [], "o", color=POSITIVE, ms=6.5, mec="white", mew=0.4, label="same class as query")
    (other,) = axes.plot([], [], "X", color=NEGATIVE, ms=6.5, mec="white", mew=0.4, label="another class")
    axes.legend(
        loc="upper right",
        bbox_to_anchor=(1.04, 1.02),
        fontsize=8.5,
        frameon=False,
        handletextpad=0.2,
        borderpad=0,
        labelcolor=INK,
    )

    def place(k, order, weights, truth):
        ranks, agrees = np.arange(1, len(order) + 1), labels[order] == truth
        line.set_data(ranks, weights)
        cut.set_xdata([k * 1.1] * 2)
        for marks, chosen in (same, agrees), (other, ~agrees):
            marks.set_data(ranks[:k][chosen[:k]], weights[:k][chosen[:k]])

    return place, [line, cut, same, other]


def _bars(figure, classes, bars):
    """Below right: the share of the votes that each class takes."""
    width, height = figure.get_size_inches() * CSS_DPI
    axes = figure.add_axes((396 / width, 48 / height, 168 / width, max(150, 24 * bars) / height))
    axes.set(xlim=(0, 1), xticks=(0, 0.5, 1), xticklabels=("0", "50 %", "100 %"), ylim=(bars - 0.5, -0.5), yticks=[])
    _plain(axes, "votes (hatched: truth)", "x")
    drawn = axes.barh(range(bars), 0, height=0.62, linewidth=0, edgecolor="white")
    beside = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "va": "center_baseline"}
    beside |= {"ha": "right", "size": 10, "color": INK}
    names = [axes.annotate(_short(classes[row]), (0, row), xytext=(-3.5, 0), **beside) for row in range(bars)]
    numbers = [axes.annotate("", (1, row), xytext=(44, 0), **beside) for row in range(bars)]
    most_voted = len(classes) > bars  # of more classes than bars, the ten with most votes: only then names move

    def place(shares, truth):
        order = np.argsort(-shares, kind="stable")[:bars] if most_voted else range(bars)
        for row, each in enumerate(order):
            right = each == truth
            drawn[row].set(
                width=shares[each], facecolor=POSITIVE if right else NEGATIVE, hatch="////" if right else None
            )
            share = _told(shares[each]).replace("under", "<").replace("over", ">") if shares[each] else "–"
            numbers[row].set(text=share, weight="bold" if each == shares.argmax() else "normal")
            if most_voted:
                names[row].set_text(_short(classes[each]))

    return place, [*drawn, *numbers, *(names if most_voted else [])]


def _plain(axes, heading, grid):
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=9.5, labelcolor=MUTED)
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=FAINT, lw=1)
    axes.set_title(heading, size=10.5, color=INK, pad=10, loc="left")
