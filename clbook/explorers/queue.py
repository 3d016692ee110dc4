"""The queue explorer: a ring of keys with its pointer, and how far the encoder that makes them has moved since."""

import math

import ipywidgets as widgets
import numpy as np
from matplotlib import colormaps, style
from matplotlib.collections import PolyCollection

from clbook.explorers.base import CSS_DPI, FAINT, INK, MUTED, NEGATIVE, POSITIVE, Explorer, new_figure, percent, signed

STEPS, SIZES = 120, (8, 12, 16, 20, 24, 32, 48, 64)
MOMENTA = (0.0, 0.5, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
INNER, MIDDLE, OUTER, ARC = 0.62, 0.82, 1.0, 6  # radii of the ring; corners along the arc of a slot


def ring(step, batch, size):
    """The queue after `step` steps of `batch` keys: the step that wrote each slot (int [K], 0 for noise), and the
    pointer. The rule of moco.NegativeQueue: write from the pointer on, round the end, and move it."""
    written, pointer = np.zeros(size, int), 0
    for t in range(1, step + 1):
        written[(pointer + np.arange(batch)) % size] = t
        pointer = (pointer + batch) % size
    return written, pointer


def key_path(momentum, steps=STEPS, dim=32):
    """A toy: weights of the key encoder before the first step and after each, [steps + 1, dim].

    The query encoder's weights start at a point of length 1. They drift at random, slowly, and each step's pictures
    throw them a little off that way. The key encoder follows by theta_k <- m theta_k + (1 - m) theta_q.
    """
    rng = np.random.default_rng(0)
    start = rng.normal(size=dim) / math.sqrt(dim)
    start /= np.linalg.norm(start)
    drift = (rng.normal(size=(steps, dim)) * 0.12 / math.sqrt(dim)).cumsum(0)
    query = start + drift + rng.normal(size=(steps, dim)) * 0.8 / math.sqrt(dim)  # [steps, dim], after each step
    path = [start]
    for weights in query:
        path.append(momentum * path[-1] + (1 - momentum) * weights)
    return np.stack(path)


def staleness(path, step):
    """Cosines of keys that are 0, 1, ... `step` steps old with a fresh one, after `step` steps: [step + 1]."""
    units = path / np.linalg.norm(path, axis=1, keepdims=True)
    return (units[: step + 1] @ units[step])[::-1]


@style.context("default")  # whatever style the notebook plots in
def queue(size=16, *, batch=3, momentum=0.99, step=9):
    """Watch the queue turn: its slots by the age of their keys, and how stale they are beside a fresh key.

    size, batch: K from 8 to 64 (one of the slider's values), and B from 1 to 8 keys a step; momentum: m, one of the
    slider's values; step: 0 to 120, the steps that are done. ValueError for anything else.
    """
    for name, value, allowed in (
        ("size", size, SIZES),
        ("momentum", momentum, MOMENTA),
        ("batch", batch, range(1, 9)),
        ("step", step, range(STEPS + 1)),
    ):
        if value not in allowed:
            known = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else ", ".join(map(str, allowed))
            raise ValueError(f"{name}: expected one of {known}; got {value!r}")
    paths = {m: key_path(m) for m in MOMENTA}
    figure, place, moving = _picture()

    def update(step, batch, size, momentum):
        written, pointer = ring(step, batch, size)
        cosines = staleness(paths[momentum], step)
        real = int((written > 0).sum())
        oldest = step + 1 - int(written[written > 0].min()) if real else 0
        place(step, batch, momentum, written, pointer, cosines, oldest)
        memory = 1 / (1 - momentum)
        noise = f", {size - real} of {size} slots are noise" if real < size else ""
        keys = f"the oldest key is {_steps(oldest)} old" if real else "no key has come yet"
        stale = f" (cosine with a fresh one {signed(cosines[oldest])})" if real else ""
        return (
            f"After step {step}, {_keys(batch)} a step: the pointer is at slot {pointer}, {keys}{stale}{noise}; "
            f"m = {momentum:g} is a memory of {_steps(round(memory))}, and the initial weights still make up "
            f"{percent(momentum**step)} of the key encoder."
        )

    return Explorer(
        "Queue explorer",
        figure,
        update,
        controls={
            "step": widgets.IntSlider(step, min=0, max=STEPS, description="steps done"),
            "batch": widgets.IntSlider(batch, min=1, max=8, description="keys a step, B"),
            "size": widgets.SelectionSlider(
                options=[(str(k), k) for k in SIZES], value=size, description="slots in the queue, K"
            ),
            "momentum": widgets.SelectionSlider(
                options=[(f"{m:g}", m) for m in MOMENTA], value=float(momentum), description="momentum m"
            ),
        },
        settings=[
            {"step": 3, "batch": 3, "size": 16, "momentum": 0.99},
            {"step": 40, "batch": 3, "size": 16, "momentum": 0.99},
            {"step": 100, "batch": 1, "size": 64, "momentum": 0.99},
            {"step": 100, "batch": 1, "size": 64, "momentum": 0.0},
        ],
        moving=moving,
    )


def _steps(count):
    return f"{count} step{'' if count == 1 else 's'}"


def _keys(count):
    return f"{count} key{'' if count == 1 else 's'}"


def _picture():
    """The figure, the function that places its moving artists, and these artists."""
    figure = new_figure(640, 400)
    width, height = figure.get_size_inches() * CSS_DPI
    ring_axes = figure.add_axes((4 / width, 14 / height, 326 / width, 326 / height), xlim=(-1.35, 1.35))
    ring_axes.set(ylim=(-1.35, 1.35), aspect="equal")
    ring_axes.axis("off")
    weights = figure.add_axes((392 / width, 246 / height, 228 / width, 80 / height))
    cosines = figure.add_axes((392 / width, 54 / height, 228 / width, 100 / height))
    _side_axes(weights, cosines)

    title = figure.text(16 / width, 1 - 30 / height, "", size=17, weight="bold", color=INK)
    lead = figure.text(172 / width, 1 - 30 / height, "", size=11, color=INK)
    slots = PolyCollection([], edgecolors="white", linewidths=1.2)
    noise = PolyCollection([], facecolors="white", edgecolors="#b5b5b5", linewidths=0.8)
    (crosses,) = ring_axes.plot([], [], "x", color="#8a8a8a", ms=5, mew=1.2)  # a hatch would take longer to draw
    due = PolyCollection([], facecolors="none", edgecolors=NEGATIVE, linewidths=2.2, linestyles=[(0, (3, 1.5))])
    for collection in (slots, noise, due):
        ring_axes.add_collection(collection, autolim=False)
    ages = [ring_axes.text(0, 0, "", ha="center", va="center_baseline", size=10) for _ in range(max(SIZES))]
    (hand,) = ring_axes.plot([0, 0], [0, 0], color=NEGATIVE, lw=3, solid_capstyle="round")
    (head,) = ring_axes.plot([0], [0], "o", color=NEGATIVE, ms=8)
    middle = ring_axes.text(0, 0, "", ha="center", va="center", size=10.5, color=INK)
    ring_axes.text(0, -1.3, "age of the keys in steps   × noise   dashed: next", ha="center", size=9.5, color=MUTED)
    grid = np.arange(STEPS + 1)
    (share,) = weights.plot(grid, grid, color=POSITIVE, lw=2)
    (now,) = weights.plot([0], [0], "o", color=POSITIVE, ms=8, mec="white", clip_on=False)
    (half,) = weights.plot([0, 0], [0, 0.5], color=MUTED, lw=1.2, ls=(0, (4, 3)))
    half_text = weights.text(0.98, 0.86, "", size=9.5, color=MUTED, ha="right", transform=weights.transAxes)
    (past,) = cosines.plot([0], [1], color="#b5b5b5", lw=1.6)
    (held,) = cosines.plot([0], [1], color=POSITIVE, lw=2.6)
    (end,) = cosines.plot([0], [1], "D", color=NEGATIVE, ms=7, mec="white", clip_on=False)
    end_text = cosines.text(0.98, 0.08, "", size=9.5, color=NEGATIVE, ha="right", transform=cosines.transAxes)

    def place(step, batch, momentum, written, pointer, found, oldest):
        size = len(written)
        title.set_text(f"step {step}")
        lead.set_text(f"K = {size} slots, {_keys(batch)} a step, m = {momentum:g}")
        _place_ring(slots, noise, crosses, ages, written, step)
        next_slots = (pointer + np.arange(batch)) % size
        due.set_verts([_wedge(i, size) for i in next_slots])
        x, y = _towards(pointer, size)
        hand.set_data([0.18 * x, 0.5 * x], [0.18 * y, 0.5 * y])
        head.set_data([0.5 * x], [0.5 * y])
        middle.set_text(f"pointer: slot {pointer}")
        middle.set_y(-0.25 if y > 0 else 0.25)  # clear of the hand
        share.set_ydata(momentum**grid)
        now.set_data([step], [momentum**step])
        life = math.log(0.5) / math.log(momentum) if momentum else 0
        half.set_data([life, life], [0, 0.5])
        half.set_visible(life <= STEPS)
        half_text.set_text(f"half-life {'under 1 step' if life < 1 else _steps(round(life))}")
        past.set_data(range(step + 1), found)
        held.set_data(range(oldest + 1), found[: oldest + 1])
        end.set_data([oldest], [found[oldest]])
        end_text.set_text(f"oldest key: {signed(found[oldest])}" if oldest else "no key yet")

    moving = [title, lead, slots, noise, crosses, due, *ages, hand, head, middle, share, now, half, half_text]
    return figure, place, [*moving, past, held, end, end_text]


def _side_axes(weights, cosines):
    for axes, heading in (weights, "share of the initial weights, mᵗ"), (cosines, "toy: cosine with a fresh key"):
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=9.5, labelcolor=MUTED)
        axes.grid(axis="y", color=FAINT, lw=1)
        axes.set_axisbelow(True)
        axes.set_title(heading, size=11, color=INK, pad=8, loc="left")
    weights.set(xlim=(0, STEPS), ylim=(0, 1), yticks=(0, 0.5, 1), yticklabels=("0", "50 %", "100 %"))
    weights.set_xlabel("step t", size=10, color=INK, labelpad=2)
    cosines.set(xlim=(0, STEPS), ylim=(-0.2, 1), yticks=(0, 0.5, 1))
    cosines.set_xlabel("age in steps (grey: overwritten)", size=10, color=INK)


def _place_ring(slots, noise, crosses, ages, written, step):
    """Slots coloured by the age of their keys, dark for the newest; the age stands in them; noise is crossed."""
    size = len(written)
    real = np.flatnonzero(written)
    age = step + 1 - written[real]
    top = max(age.max(initial=1), 2)
    shades = colormaps["cividis"](0.1 + 0.85 * np.round(3 * (age - 1) / (top - 1)) / 3)  # few: small panels
    slots.set(verts=[_wedge(i, size) for i in real], facecolors=shades)
    empty = np.flatnonzero(written == 0)
    noise.set_verts([_wedge(i, size) for i in empty])
    crosses.set_data(*np.reshape([_towards(i, size) for i in empty], (-1, 2)).T * MIDDLE)
    for text in ages:
        text.set_text("")
    every = 1 if size <= 24 else 2 if size <= 32 else 4
    for i, steps, shade in zip(real, age, shades, strict=True):
        if i % every == 0:
            x, y = _towards(i, size)
            ages[i].set(x=MIDDLE * x, y=MIDDLE * y, text=str(steps), color="white" if shade[:3].sum() < 1.5 else INK)


def _towards(slot, size):
    """The unit vector to the middle of a slot: slot 0 begins at twelve o'clock, and they follow clockwise."""
    angle = 2 * math.pi * (slot + 0.5) / size
    return math.sin(angle), math.cos(angle)


def _wedge(slot, size):
    angles = 2 * np.pi * np.linspace(slot, slot + 1, ARC) / size
    arc = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    return np.concatenate([OUTER * arc, INNER * arc[::-1]])
