"""The base that every explorer stands on, and each explorer in every corner of its sliders."""

import base64
import html
import io
import itertools
import math
import random
import re
import subprocess
import sys
import threading

import ipywidgets as widgets
import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from clbook import plots
from clbook.explorers import (
    Explorer,
    base,
    budget,
    circle,
    margin,
    new_figure,
    perplexity,
    queue,
    receptive_field,
    replay,
    temperature,
    tolerance,
    vectors,
    views,
    votes,
)
from clbook.explorers.base import Montage
from clbook.explorers.temperature import PLACED, gradients, short, softmax_weights

rng = np.random.default_rng(0)
BATCH = np.r_[0.8, np.tanh(rng.normal(0, 0.3, 511))]
TWO_SNAPSHOTS = [
    {"step": 0, "knn": 0.25, "features": rng.normal(size=(6, 3))},
    {"step": 70, "loss": 1.5, "knn": 0.5, "features": rng.normal(size=(6, 3))},
]

MANY = rng.normal(size=(60, 8))

FEATURES = rng.normal(size=(120, 16))
EXPLORERS = {  # every explorer joins here, in each of its shapes
    "perplexity": perplexity,
    "perplexity, features": lambda: perplexity(FEATURES, np.arange(120) % 7, [f"class {i}" for i in range(7)]),
    "temperature": temperature,
    "temperature, a batch of 512": lambda: temperature(BATCH),
    "temperature, one negative": lambda: temperature([0.2, 0.3], tau=0.07),
    "vectors": vectors,
    "budget": budget,
    "circle": circle,
    "tolerance": tolerance,
    "views": views,
    "receptive field": receptive_field,
    "replay": replay,
    "replay, two snapshots": lambda: replay(TWO_SNAPSHOTS, [0, 1, 2, 2, 1, 0]),
    "margin": margin,
    "votes": votes,
    "votes, 30 classes without pictures": lambda: votes(MANY, np.arange(60) % 30, [f"class {i}" for i in range(30)]),
    "queue": queue,
}


@pytest.fixture(scope="module", params=EXPLORERS)
def make(request):
    return EXPLORERS[request.param]


@pytest.fixture(scope="module")
def explorer(make):
    return make()


def extremes(control):
    return (
        (control.options[0][1], control.options[-1][1]) if hasattr(control, "options") else (control.min, control.max)
    )


def corners(explorer, most=32):
    """The first values, then each combination of the sliders' ends; of more than `most` some, all low and all high.

    (Nine sliders have 512 corners; such an explorer has a test of its own that goes through all.)
    """
    ends = list(itertools.product(*(extremes(control) for control in explorer.controls.values())))
    if len(ends) > most:
        ends = [ends[0], *random.Random(0).sample(ends[1:-1], most - 2), ends[-1]]
    return [explorer._initial, *(dict(zip(explorer.controls, values, strict=True)) for values in ends)]


def shown(explorer):
    """The pixels that the live picture shows now."""
    return np.asarray(Image.open(io.BytesIO(explorer._image.value)).convert("RGBA"))


def said(explorer):
    return html.unescape(re.sub("<[^>]*>", "", explorer._text.value))


# --- every explorer ---


def test_every_corner_is_drawn_whole_and_told(explorer):
    figure, pictures = explorer._figure, []
    for corner in corners(explorer):
        sentence, pixels = explorer.draw(**corner)
        assert sentence.endswith(".") and "nan" not in sentence and "inf" not in sentence, sentence
        pictures.append(pixels)
        for text in figure.findobj(matplotlib.text.Text):
            if text.get_text() and text.get_visible():
                box = text.get_window_extent()
                inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
                assert inside, f"{text.get_text()!r} is cut off at {corner}"
    assert len({picture.shape for picture in pictures}) == 1
    assert len({picture.tobytes() for picture in pictures}) == len(pictures), "two corners look the same"


@pytest.mark.slow
def test_moving_there_and_back_leaves_no_ghosts(explorer):
    start = explorer.values
    before = shown(explorer)
    for corner in corners(explorer, most=4)[1:]:
        explorer.values = corner
        sentence, pixels = explorer.draw(**corner)
        assert not np.array_equal(shown(explorer), before)
        assert said(explorer) == explorer.sentence == sentence
        assert np.array_equal(shown(explorer), pixels)
    explorer.values = start
    assert np.array_equal(shown(explorer), before)


@pytest.mark.slow
def test_blitting_draws_what_a_full_redraw_draws(explorer, make):
    """Each corner beside the same corner of a fresh explorer, which comes to it from the other side."""
    fresh, some = make(), corners(explorer, most=5)
    pictures = [explorer.draw(**corner)[1] for corner in some]
    for corner, picture in zip(some[::-1], pictures[::-1], strict=True):
        fresh._update(**corner)
        fresh._figure.stale = True  # forget the background
        assert np.array_equal(picture, fresh._pixels())


@pytest.mark.parametrize("make", ["vectors", "temperature", "votes"], indirect=True)  # the lock is the base's
def test_two_threads_moving_sliders_end_in_a_true_picture(explorer):
    names = list(explorer.controls)
    start, failures = explorer.values, []
    low, high = corners(explorer)[1], corners(explorer)[-1]
    expected = [explorer.draw(**low), explorer.draw(**high)]
    together = threading.Barrier(2)

    def move(name):
        together.wait(timeout=10)
        for i in range(8):
            explorer.values = {name: (low, high)[i % 2][name]}

    def draw():
        together.wait(timeout=10)
        for i in range(8):
            sentence, pixels = explorer.draw(**(low, high)[i % 2])
            if sentence != expected[i % 2][0] or not np.array_equal(pixels, expected[i % 2][1]):
                failures.append(i)

    for work in [[lambda: move(names[0]), lambda: move(names[-1])], [lambda: move(names[0]), draw]]:
        threads = [threading.Thread(target=target) for target in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
            assert not thread.is_alive()
        assert explorer.error is None and not failures
        assert said(explorer) == explorer.draw(**explorer.values)[0]
        assert np.array_equal(shown(explorer), explorer.draw(**explorer.values)[1])
    explorer.values = start


@pytest.mark.slow
def test_one_output_carries_the_sliders_the_panel_and_the_sentences(explorer):
    data, metadata = explorer._repr_mimebundle_()
    sentences = [explorer.draw(**setting)[0] for setting in explorer._settings]
    assert 3 <= len(sentences) <= 4
    view = data["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == explorer.widget.model_id
    assert data["text/plain"].split("\n") == sentences
    alt = metadata["image/png"]["alt"]
    assert alt.startswith(explorer.title) and all(sentence in alt for sentence in sentences)
    assert "0x" not in data["text/plain"]  # an address would differ at each run


def test_the_static_panel_shows_each_setting(explorer):
    png = base64.b64decode(explorer._repr_mimebundle_()[0]["image/png"])
    assert len(png) < 250_000  # a lesson with several explorers must stay light
    panel = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    top = 0
    frames = [explorer.draw(**setting)[1][..., :3] for setting in explorer._settings]
    height, width = frames[0].shape[:2]
    columns = panel.shape[1] // width
    for row in range(0, len(frames), columns):
        for column, frame in enumerate(frames[row : row + columns]):
            left = column * (width + 2 * base.GAP)
            found = panel[top : top + height, left : left + width]
            assert np.abs(found - frame).mean() < 0.1  # but for the palette, pixel for pixel
            caption = panel[top + height : top + height + 60, left : left + width]
            assert (caption < 160).any(), "no sentence below the picture"
        top += round((panel.shape[0] + 2 * base.GAP) / math.ceil(len(frames) / columns))


def test_the_style_of_the_notebook_does_not_matter():
    plain = temperature()
    with style.context("dark_background"):
        dark = temperature()
        assert np.array_equal(dark.draw(tau=1.0)[1], plain.draw(tau=1.0)[1])


def test_importing_the_explorers_is_light():
    """No pyplot (its global state is not for threads), and no torch (seconds, for a slider)."""
    code = "import sys, clbook.explorers; print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


# --- the base ---


def disc(update=None, moving=True):
    """A small explorer: a disc that a slider moves."""
    figure = new_figure(100, 50)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 10), ylim=(-1, 1))
    axes.axis("off")
    (dot,) = axes.plot([0], [0], "o", ms=12)
    title = axes.set_title("still", y=0.5)

    def place(x):
        dot.set_xdata([x])
        return f"The disc is at {x}."

    return Explorer(
        "Disc",
        figure,
        (lambda x: update(x, dot, title)) if update else place,
        controls={"x": widgets.IntSlider(2, 0, 9)},
        settings=[{"x": 1}, {"x": 5}, {"x": 9}],
        moving=[dot] if moving else [],
    )


def test_kept_text_looks_as_matplotlib_draws_it():
    ours, theirs = (new_figure(240, 200) for _ in range(2))
    FigureCanvasAgg(theirs)
    looks = {"weight": "bold"}, {"alpha": 0.45}, {"style": "italic", "color": "blue"}, {"rotation": 30}, {"size": 7.3}
    for figure in ours, theirs:
        for i, look in enumerate(looks):
            for j, words in enumerate(("Åg = −0.85", "two\nj lines", " ", "$x^2$", "Åg = −0.85")):
                figure.text(0.02 + 0.2 * j, 0.03 + 0.197 * i, words, **look)
        figure.text(0.9, 0.5, "cut off", clip_on=True, clip_box=figure.bbox.shrunk(0.96, 0.96))
        figure.text(-0.03, 0.5, "outside")
    theirs.canvas.draw()
    for _ in range(2):  # made, then kept
        ours.canvas.draw()
        assert np.array_equal(ours.canvas.buffer_rgba(), theirs.canvas.buffer_rgba())


def test_a_montage_repeats_its_pixels():
    figure = new_figure(6, 5, density=1)
    grid = rng.integers(0, 256, (2, 2, 4), dtype=np.uint8)
    grid[..., 3] = 255
    figure.add_artist(Montage(grid, 2, left=1, top=0))
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    assert np.array_equal(pixels[:4, 1:5], np.kron(grid, np.ones((2, 2, 1), np.uint8)))
    assert (pixels[4] == 255).all() and (pixels[:, [0, 5]] == 255).all()


def test_without_moving_artists_the_picture_is_the_same():
    blitted, redrawn = disc(), disc(moving=False)
    for x in (0, 9, 2):  # clear of the title: moving artists are drawn last, so on top
        assert np.array_equal(blitted.draw(x=x)[1], redrawn.draw(x=x)[1])


def test_an_artist_that_was_not_named_moves_too():
    def update(x, dot, title):
        title.set_text(f"now {x}")
        return "A title."

    explorer = disc(update)
    first, second = explorer.draw(x=1)[1], explorer.draw(x=8)[1]
    assert not np.array_equal(first, second)
    assert np.array_equal(explorer.draw(x=1)[1], first)


def test_the_widget_has_a_fixed_size_and_twice_the_pixels():
    explorer = disc()
    assert (explorer._image.layout.width, explorer._image.layout.height) == ("100px", "50px")
    picture = Image.open(io.BytesIO(explorer._image.value))
    assert (picture.mode, picture.size) == ("RGB", (200, 100))
    assert (explorer.draw(x=3)[1][..., 3] == 255).all()  # so leaving alpha out loses nothing
    assert explorer.widget.children == (explorer.controls["x"], explorer._image, explorer._text)
    assert repr(explorer) == "Disc: The disc is at 2."


def test_an_error_on_a_move_is_shown_to_the_learner_and_passes():
    def update(x, dot, title):
        if x == 3:
            raise ValueError("expected x < 3 & more; got 3")
        dot.set_xdata([x])
        return "Fine."

    explorer = disc(update)
    before = shown(explorer)
    explorer.values = {"x": 3}
    assert "could not be drawn. ValueError: expected x < 3 & more; got 3" in said(explorer)
    assert "x &lt; 3 &amp; more" in explorer._text.value and 'role="alert"' in explorer._text.value
    assert isinstance(explorer.error, ValueError)
    assert np.array_equal(shown(explorer), before)
    explorer.values = {"x": 2}
    assert said(explorer) == "Fine." and 'role="status"' in explorer._text.value and explorer.error is None


def test_what_fails_at_once_is_raised():
    def broken(x, dot, title):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        disc(broken)
    with pytest.raises(TypeError, match="expected `update` to return the sentence, a str; got NoneType"):
        disc(lambda x, dot, title: None)


def test_unknown_parameters_are_named():
    explorer = disc()
    message = r"expected parameters of this explorer \(x\); got y"
    with pytest.raises(ValueError, match=message):
        explorer.draw(y=1)
    with pytest.raises(ValueError, match=message):
        explorer.values = {"y": 1}


def test_left_out_parameters_keep_their_first_value():
    explorer = disc()
    explorer.values = {"x": 7}
    assert explorer.draw() == ("The disc is at 2.", pytest.approx(explorer.draw(x=2)[1]))
    assert said(explorer) == "The disc is at 7."  # the live picture stays as it is


def test_a_panel_of_photographs_keeps_its_colours():
    noise = rng.integers(0, 256, (80, 90, 4), dtype=np.uint8)
    noise[..., 3] = 255
    stored = Image.open(io.BytesIO(base._small_png(noise)))
    assert np.array_equal(np.asarray(stored), noise[..., :3])


# --- temperature ---


def by_hand(similarities, tau):
    """exp(s/tau) / sum, in a loop and without any trick: within float64 for tau >= 0.01."""
    total = sum(math.exp(s / tau) for s in similarities)
    weights = [math.exp(s / tau) / total for s in similarities]
    return weights, math.log(total) - similarities[0] / tau


SENTENCE = re.compile(
    r"τ = ([\d.]+): the positive \(similarity (−?[\d.]+)\) takes (.+?) % of the weight, "
    r"the hardest negative \((−?[\d.]+)\) (.+?) %; the loss is ([\d.]+) "
    r"\(blind guessing: log (\d+) = ([\d.]+)\)\. "
    r"Gradient: ([−+\d.]+) on the positive, ([−+\d.]+) on that negative\."
)


THREE = {8: temperature(), 512: temperature(BATCH), 2: temperature([0.2, 0.3])}


def told(share):
    return "under 1" if share < 0.01 else "over 99" if share > 0.99 else f"{share * 100:.0f}"


@pytest.mark.parametrize("similarities", [PLACED, BATCH, [0.2, 0.3]], ids=["placed", "batch", "pair"])
@pytest.mark.parametrize("tau", [0.01, 0.05, 0.07, 0.1, 0.5, 1.0, 10.0])
@pytest.mark.parametrize("positive", [-1.0, 0.0, 0.45, 1.0])
def test_the_sentence_says_what_a_loop_computes(similarities, tau, positive):
    sentence = THREE[len(similarities)]._update(tau=tau, positive=positive)
    negatives = list(similarities[1:])
    weights, loss = by_hand([positive, max(negatives), *sorted(negatives)[:-1]], tau)
    found = SENTENCE.fullmatch(sentence).groups()
    assert [float(found[i].replace("−", "-")) for i in (0, 1)] == [tau, positive]
    assert found[2] == told(weights[0]) and found[4] == told(weights[1])
    assert float(found[3].replace("−", "-")) == pytest.approx(max(negatives), abs=0.0051)
    assert float(found[5]) == pytest.approx(loss, abs=0.0051)
    assert int(found[6]) == len(similarities)
    assert float(found[7]) == pytest.approx(math.log(len(similarities)), abs=0.0051)
    slopes = -math.fsum(weights[1:]) / tau, weights[1] / tau
    for text, slope in zip(found[8:], slopes, strict=True):
        assert float(text.replace("−", "-")) == pytest.approx(slope, rel=0.051, abs=0.0006)


def test_weights_of_equal_similarities_are_equal_and_the_loss_is_log_n():
    weights, loss = softmax_weights([0.3] * 5, 0.07)
    assert weights == pytest.approx([0.2] * 5) and loss == pytest.approx(math.log(5))
    assert weights.sum() == pytest.approx(1, abs=1e-12)


def test_tiny_temperatures_do_not_overflow():
    """s/tau = 10,000, far past exp: the loss is the hinge on the hardest negative, its gap over tau."""
    weights, loss = softmax_weights([0.5, 1.0, -1.0], 1e-4)
    assert weights.tolist() == [0, 1, 0] and loss == pytest.approx(5000)
    weights, loss = softmax_weights([1.0, 0.5, -1.0], 1e-4)
    assert weights.tolist() == [1, 0, 0] and loss == 0 and math.copysign(1, loss) == 1


def test_tensors_are_read_whatever_their_gradient_or_rounding():
    cosines = torch.tensor([1.0000001, 0.5, -0.25], requires_grad=True)
    sentence, _ = temperature(cosines).draw(tau=1.0)
    assert sentence == temperature([1.0, 0.5, -0.25]).draw(tau=1.0)[0]
    assert temperature(cosines.bfloat16()).sentence.startswith("τ = 0.1: the positive (similarity 1.00)")


def test_the_positive_comes_first_and_the_negatives_in_any_order():
    assert np.array_equal(temperature([0.1, 0.4, -0.2]).draw()[1], temperature([0.1, -0.2, 0.4]).draw()[1])
    assert temperature([0.1, 0.4, -0.2]).sentence.startswith("τ = 0.1: the positive (similarity 0.10)")


def test_any_temperature_may_be_the_first():
    explorer = temperature(tau=0.123)
    assert explorer.values["tau"] == 0.123 and explorer.sentence.startswith("τ = 0.123: ")
    taus = [value for _, value in explorer.controls["tau"].options]
    assert taus == sorted(taus) and taus[0] == 0.01 and taus[-1] == 10
    assert {0.05, 0.07, 0.1, 0.2, 0.5, 1.0} < set(taus)
    assert temperature(tau=1).values["tau"] == 1


def test_the_rows_add_up_to_the_whole():
    """A batch's last row holds all the others: the widths of the bars are the whole softmax."""
    for similarities in (PLACED, BATCH, [0.2, 0.3], BATCH[:9]):
        explorer = temperature(similarities)
        explorer.draw(tau=0.3)
        weights_axes = explorer._figure.axes[1]
        widths = [bar.get_width() for bar in weights_axes.patches]
        assert sum(widths) == pytest.approx(1) and 2 <= len(widths) <= 8


def test_the_gradients_are_those_of_autograd_and_sum_to_zero():
    for similarities in (PLACED, BATCH, [0.2, 0.3], BATCH[:9]):
        for tau in (0.05, 0.2, 3.0):
            s = torch.tensor(np.asarray(similarities), dtype=torch.float64, requires_grad=True)
            torch.nn.functional.cross_entropy(s[None] / tau, torch.tensor([0])).backward()
            found = gradients(softmax_weights(similarities, tau)[0], tau)
            assert found == pytest.approx(s.grad.numpy(), abs=1e-9)
            assert found.sum() == pytest.approx(0, abs=1e-9)


def test_the_bars_of_the_gradients_are_in_units_of_one_over_tau():
    explorer = temperature([0.6, 0.5, 0.1])
    explorer.draw(tau=0.2)
    weights, _ = by_hand([0.6, 0.5, 0.1], 0.2)
    widths = [bar.get_width() for bar in explorer._figure.axes[2].patches]
    assert widths == pytest.approx([weights[0] - 1, *weights[1:]])


def test_numbers_are_short_and_signed():
    told = {0.0: "0", 1e-12: "0", 0.0004: "0", -0.0123: "−0.012", 0.5: "+0.50", 5.03: "+5.0", -84.2: "−84", 100: "+100"}
    assert {number: short(number) for number in told} == told


def test_the_positive_differs_by_more_than_its_colour():
    cosines, weights, gradients, _ = temperature()._figure.axes
    markers = {line.get_marker() for line in cosines.lines} - {"None"}
    assert markers == {"*", "o"}
    assert {base.POSITIVE, base.NEGATIVE} <= set(plots.PALETTE)
    for axes in weights, gradients:
        assert [bar.get_hatch() for bar in axes.patches] == ["////", *[None] * 7]
    assert [label.get_text() for label in cosines.get_yticklabels()][:2] == ["positive", "hardest negative"]


@pytest.mark.parametrize(
    ("similarities", "tau", "message"),
    [
        (None, 0, "expected a temperature above 0; got 0"),
        (None, -0.1, "expected a temperature above 0; got -0.1"),
        (None, math.nan, "expected a temperature above 0; got nan"),
        (None, math.inf, "expected a temperature above 0; got inf"),
        ([0.5], 0.1, r"with N at least 2; got shape \[1\]"),
        ([], 0.1, r"got shape \[0\]"),
        (0.5, 0.1, r"got shape \[\]"),
        ([[0.5, 0.1]], 0.1, r"got shape \[1, 2\]"),
        ([0.5, math.nan, math.inf], 0.1, "got 2 NaN or infinite. Was a zero vector"),
        ([0.5, -1.2], 0.1, r"all in \[-1, 1\]; got -1.2. Normalise the embeddings first"),
        (torch.tensor([7.0, 0.5]), 0.1, r"all in \[-1, 1\]; got 7"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(similarities, tau, message):
    with pytest.raises(ValueError, match=message):
        temperature(similarities, tau=tau)
    if similarities is not None:
        with pytest.raises(ValueError, match=message):
            softmax_weights(similarities, tau)
