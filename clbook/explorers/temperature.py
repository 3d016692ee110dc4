"""The temperature explorer: one anchor, its candidates, and the weight and the gradient that each of them gets."""

import math

import ipywidgets as widgets
import numpy as np
from matplotlib import style

from clbook.explorers.base import CSS_DPI, FAINT, INK, MUTED, NEGATIVE, POSITIVE, Explorer, new_figure, percent, signed

STEPS = (1, 1.1, 1.2, 1.4, 1.6, 1.8, 2, 2.2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9)  # all can be read out
TAUS = (*(float(f"{step}e{decade}") for decade in (-2, -1, 0) for step in STEPS), 10.0)
PLACED = (0.7, 0.55, 0.35, 0.2, 0.05, -0.1, -0.35, -0.6)  # by hand: the positive, then seven negatives
ROWS = 7  # for negatives: a larger batch shows its hardest six, and all others together in the last row


def softmax_weights(similarities, tau):
    """What InfoNCE makes of one anchor's candidates: (weights float64 [N], loss in nats).

    similarities: [N] cosines in [-1, 1], the positive first; tau: the temperature, above 0.
    The weights are exp(s/tau) / sum exp(s/tau), the loss is -log of the positive's. Blind guessing
    scores log(N). Stable for any tau. ValueError for anything else.
    """
    similarities = _checked(similarities)
    if not 0 < tau < math.inf:
        raise ValueError(f"expected a temperature above 0; got {tau}. Usual values lie between 0.05 and 1.")
    logits = (similarities - similarities.max()) / tau  # exp(s/tau) itself overflows once s/tau passes 709
    log_weights = logits - np.log(np.exp(logits).sum())
    return np.exp(log_weights), abs(log_weights[0].item())


def gradients(weights, tau):
    """dL/ds of each candidate, [N], the positive first: -(1 - p)/tau for it, p/tau for a negative; they sum to 0."""
    return np.append(-weights[1:].sum(), weights[1:]) / tau


def tau_slider(tau):
    """A slider of temperatures from 0.01 to 10, in steps that can be read out, that starts at `tau`."""
    taus = [(f"{value:g}", value) for value in sorted({*TAUS, float(tau)})]
    return widgets.SelectionSlider(options=taus, value=float(tau), description="temperature τ")


def _checked(similarities):
    if hasattr(similarities, "detach"):  # a tensor, perhaps on a GPU or with a gradient
        similarities = similarities.detach().cpu().double()
    values = np.asarray(similarities, dtype=np.float64)
    expected = "expected one anchor's cosine similarities, the positive first, then its negatives"
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"{expected}, shape [N] with N at least 2; got shape {list(values.shape)}")
    if broken := np.count_nonzero(~np.isfinite(values)):
        raise ValueError(f"{expected}; got {broken} NaN or infinite. Was a zero vector divided by its norm?")
    worst = values[np.abs(values).argmax()]
    if abs(worst) > 1.001:  # float32 rounding may pass 1 by a little
        raise ValueError(f"{expected}, all in [-1, 1]; got {worst:.4g}. Normalise the embeddings first.")
    return values.clip(-1, 1)


@style.context("default")  # whatever style the notebook plots in
def temperature(similarities=None, *, tau=0.1):
    """Feel the temperature: one anchor, its candidates, the softmax weight and the gradient that each gets.

    A gradient is that of the loss with respect to a candidate's similarity: below 0 for the positive, which a step
    of descent raises, above 0 for the negatives. Its bars are drawn in units of 1/τ, the numbers are its own.

    similarities: [N] cosine similarities of one anchor in [-1, 1], the positive first, then N - 1 >= 1
                  negatives (a list, an array, a tensor); left out: eight candidates placed by hand.
    tau:          where the temperature starts. Its slider runs from 0.01 to 10, the positive's from -1 to 1.
    ValueError for anything else.
    """
    candidates = _checked(PLACED if similarities is None else similarities)
    softmax_weights(candidates, tau)  # refuses a bad temperature before anything is drawn
    start, negatives = candidates[0], np.sort(candidates[1:])[::-1]
    figure, place, moving = _temperature_picture(negatives)

    def update(tau, positive):
        weights, loss = softmax_weights(np.append(positive, negatives), tau)
        slopes = gradients(weights, tau)
        place(tau, positive, weights, slopes, loss)
        guess = f"log {len(weights)} = {math.log(len(weights)):.2f}"
        return (
            f"τ = {tau:g}: the positive (similarity {signed(positive)}) takes {percent(weights[0])} of the "
            f"weight, the hardest negative ({signed(negatives[0])}) {percent(weights[1])}; "
            f"the loss is {loss:.2f} (blind guessing: {guess}). "
            f"Gradient: {short(slopes[0])} on the positive, {short(slopes[1])} on that negative."
        )

    behind = max(negatives[0] - 0.15, -1.0)
    return Explorer(
        "Temperature explorer",
        figure,
        update,
        controls={
            "tau": tau_slider(tau),
            "positive": widgets.FloatSlider(start, min=-1, max=1, step=0.01, description="similarity of the positive"),
        },
        settings=[{"tau": 0.02}, {"tau": 0.2}, {"tau": 5.0}, {"tau": 0.1, "positive": behind}],
        moving=moving,
    )


def _temperature_picture(negatives):
    """The figure, the function that places its moving artists, and these artists."""
    few = len(negatives) <= ROWS
    own, others = (negatives, []) if few else np.split(negatives, [ROWS - 1])
    labels = ["positive", "hardest negative", *(f"negative {i}" for i in range(2, len(own) + 1))]
    labels += [] if few else [f"{len(others)} others, together"]
    figure = new_figure(640, height := 192 + 25 * len(labels))
    cosines, weights, gradients, losses = _temperature_axes(figure, labels, guess=math.log(len(negatives) + 1))
    _negative_lollipops(cosines, own, others)

    title = figure.text(16 / 640, 1 - 32 / height, "", size=17, weight="bold", color=INK)
    lead = figure.text(176 / 640, 1 - 32 / height, "", size=11, color=INK)
    level = cosines.axvline(0, color=POSITIVE, lw=1.2, ls=(0, (2, 2)))
    (stem,) = cosines.plot([0, 0], [0, 0], color=POSITIVE, lw=2.5)
    (star,) = cosines.plot([0], [0], "*", color=POSITIVE, ms=15, mec="white", mew=0.8, clip_on=False)
    bars = weights.barh(range(len(labels)), 0, height=0.62, color=NEGATIVE)
    bars[0].set(facecolor=POSITIVE, hatch="////", edgecolor="white", linewidth=0)
    shares = [_number(weights, row) for row in range(len(labels))]
    slopes = gradients.barh(range(len(labels)), 0, height=0.62, color=NEGATIVE)
    slopes[0].set(facecolor=POSITIVE, hatch="////", edgecolor="white", linewidth=0)
    slope_numbers = [_number(gradients, row) for row in range(len(labels))]
    (bar,) = losses.barh([0], 0, height=0.6, color=INK)
    (beyond,) = losses.plot(losses.get_xlim()[1], 0, ">", color=INK, ms=9, clip_on=False)
    loss_number = _number(losses, 0)

    def place(tau, positive, weights, gradients, loss):
        title.set_text(f"τ = {tau:g}")
        lead.set_text(_lead(positive - negatives[0]))
        level.set_xdata([positive, positive])
        stem.set_xdata([0, positive])
        star.set_xdata([positive])
        weights, gradients = (v if few else [*v[:ROWS], v[ROWS:].sum()] for v in (weights, gradients))
        for weight, rectangle, share in zip(weights, bars, shares, strict=True):
            rectangle.set_width(weight)
            share.set_text(percent(weight).replace("under", "<").replace("over", ">"))
        for gradient, rectangle, number in zip(gradients, slopes, slope_numbers, strict=True):
            rectangle.set_width(gradient * tau)
            number.set_text(short(gradient))
        limit = losses.get_xlim()[1]
        bar.set_width(min(loss, limit))
        beyond.set_visible(loss > limit)
        loss_number.set_text(f"{loss:.2f}" if loss < 100 else f"{loss:.0f}")

    drawn = [*bars, *shares, *slopes, *slope_numbers]
    return figure, place, [title, lead, level, stem, star, *drawn, bar, beyond, loss_number]


def _temperature_axes(figure, labels, guess):
    """Similarities, weights and gradients on shared rows; below them the loss, with blind guessing in the middle."""
    width, height = figure.get_size_inches() * CSS_DPI
    rows = 25 * len(labels) / height
    cosines = figure.add_axes((168 / width, 108 / height, 130 / width, rows))
    weights = figure.add_axes((326 / width, 108 / height, 86 / width, rows))
    gradients = figure.add_axes((486 / width, 108 / height, 88 / width, rows))
    losses = figure.add_axes((168 / width, 36 / height, 406 / width, 28 / height))
    for axes in (cosines, weights, gradients, losses):
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=10, labelcolor=MUTED)
        axes.tick_params(axis="y", pad=11)  # room for a marker at -1
        axes.set_axisbelow(True)
    headings = "cosine similarity s", "weight p", "gradient ∂L/∂s"
    for axes, heading in zip((cosines, weights, gradients), headings, strict=True):
        axes.set(ylim=(len(labels) - 0.5, -0.5), yticks=range(len(labels)), yticklabels=[])
        axes.grid(axis="x", color=FAINT, lw=1, clip_on=False)
        axes.set_title(heading, size=11, color=INK, pad=18, loc="left")
    cosines.set(xlim=(-1, 1), xticks=(-1, 0, 1), xticklabels=("−1", "0", "1"))
    cosines.set_yticklabels(labels, size=11, color=INK)
    cosines.get_yticklabels()[0].set(weight="bold", color=POSITIVE)
    cosines.axvline(0, color=MUTED, lw=1)
    weights.set(xlim=(0, 1), xticks=(0, 0.5, 1), xticklabels=("0", "½", "1"))
    gradients.set(xlim=(-1, 1), xticks=(-1, 0, 1), xticklabels=("−1/τ", "0", "1/τ"))
    gradients.axvline(0, color=MUTED, lw=1)
    losses.set(xlim=(0, 2 * guess), ylim=(-0.5, 0.5), xticks=(0, guess, 2 * guess), yticks=[0])
    losses.set_xticklabels(("0", f"blind guess: log {math.exp(guess):.0f} = {guess:.2f}", f"{2 * guess:.1f}"))
    losses.set_yticklabels(["loss"], size=11, weight="bold", color=INK)
    losses.axvspan(0, 2 * guess, 0.2, 0.8, color=FAINT, lw=0)
    equal = math.exp(-guess)
    weights.text(equal, 1.02, "equal share", size=9.5, color=MUTED, transform=weights.get_xaxis_transform())
    for axes, chance in (weights, equal), (losses, guess):
        axes.axvline(chance, color=MUTED, lw=1.2, ls=(0, (4, 3)))
    return cosines, weights, gradients, losses


def _negative_lollipops(axes, own, others):
    rows = range(1, len(own) + 1)
    axes.hlines(rows, 0, own, color=NEGATIVE, lw=2.5)
    axes.plot(own, rows, "o", color=NEGATIVE, ms=9, mec="white", mew=0.8, clip_on=False)
    if len(others):  # a line over the range they span
        axes.plot([others[-1], others[0]], [rows.stop] * 2, "|-", color=NEGATIVE, lw=2.5, ms=9, mew=2)


def _number(axes, row):
    """An empty number, right-aligned in a column beside the axes."""
    look = {"size": 11, "weight": "normal" if row else "bold", "color": INK}
    beside = {"xycoords": axes.get_yaxis_transform(), "xytext": (46, 0), "textcoords": "offset points"}
    return axes.annotate("", (1, row), ha="right", va="center_baseline", **look, **beside)


def short(number):
    """Three digits or so, a sign and a true minus: "+5.03", "−0.012", "0" for what is nearly nothing."""
    digits = max(0, min(3, 1 - math.floor(math.log10(max(abs(number), 1e-9)))))
    text = f"{number:+.{digits}f}"
    return text.replace("-", "−") if float(text) else "0"


def _lead(gap):
    if abs(gap) < 0.005:
        return "the positive is level with the hardest negative"
    return f"the positive {'leads' if gap > 0 else 'trails'} the hardest negative by {abs(gap):.2f}"
