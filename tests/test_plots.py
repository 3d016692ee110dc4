import ast
import base64
import functools
import inspect
import io
import itertools
import warnings
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib._pylab_helpers import Gcf
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from clbook import plots
from clbook.explorers import base as explorers
from clbook.plots import LiveCurves, Picture


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def points(n, seed=0):
    return rand(n, 2, seed=seed).numpy() * 40


def history(steps=60):
    rows = [{"step": 0, "epoch": 0.0, "seconds": 0.0, "knn": 0.3}]
    for step in range(10, steps + 1, 10):
        rows.append({"step": step, "loss": 4.8 - 3 * step / steps, "learning_rate": 1e-3})
        if step % 30 == 0:
            rows[-1]["knn"] = 0.3 + 0.6 * step / steps
    return rows


def cosines(n, m=None):
    return 2 * rand(n, m or n) - 1


def rising(start):
    return [(x, start + 0.1 * i, start + 0.1 * i - 0.03, start + 0.1 * i + 0.05) for i, x in enumerate((1, 5, 20, 100))]


LABELS = torch.arange(120)
LONG = ["a red ring", "a medium purple striped triangle on olive", *(f"a longer name {i}" for i in range(38))]
NEAR = {"pixels": 0.42, "random encoder": 0.44}
PICTURES = {
    "grid": lambda: plots.image_grid(rand(11, 3, 8, 8)),
    "grid of one": lambda: plots.image_grid(rand(1, 1, 8, 8)),
    "grid of bytes": lambda: plots.image_grid((rand(8, 3, 8, 8) * 255).byte(), columns=4),
    "grid with titles": lambda: plots.image_grid(rand(9, 3, 8, 8), [f"circle {i}" for i in range(9)]),
    "grid with captions": lambda: plots.image_grid(
        rand(9, 3, 8, 8), ["a medium purple striped triangle"] * 4 + ["a red ring"] * 5
    ),
    "dollars": lambda: plots.image_grid(rand(1, 3, 8, 8), ["a $x_{$ b"]),
    "dollars on a map": lambda: plots.embedding_maps({"$x_{$": points(9)}, LABELS[:9] * 0, ["$y_{$"]),
    "dollars at curves": lambda: plots.curves(history(), baselines={"$x_{$": 0.4}),
    "pairs": lambda: plots.view_pairs(rand(6, 3, 8, 8), rand(6, 3, 16, 16), rand(6, 3, 16, 16)),
    "one pair": lambda: plots.view_pairs(*rand(3, 1, 3, 8, 8)),
    "curves": lambda: plots.curves(history(), baselines=NEAR, chance=4.84),
    "no history": lambda: plots.curves([], baselines=NEAR, chance=4.84, steps=300),
    "bare curves": lambda: plots.curves(history()),
    "nothing at all": lambda: plots.curves([]),
    "long curves": lambda: plots.curves(history(30000), baselines=NEAR | {"supervised": 1.0}, chance=11.09),
    "another metric": lambda: plots.curves([{"step": 5, "loss": 0.0, "rank": 0.5}], metric="rank"),
    "maps": lambda: plots.embedding_maps({"a": points(120), "b": points(120, 1)}, LABELS % 8, list("abcdefgh")),
    "one class": lambda: plots.embedding_maps({"pixels": points(120)}, LABELS * 0, ["the only one"]),
    "no labels": lambda: plots.embedding_maps({"pixels": points(120)}, None, ()),
    "20 classes": lambda: plots.embedding_maps(
        {"a": points(120), "b": points(120)}, LABELS % 20, [f"a longer name {i}" for i in range(20)]
    ),
    "40 classes": lambda: plots.embedding_maps({"a": points(120)}, LABELS % 40, [f"class {i}" for i in range(40)]),
    "100 classes": lambda: plots.embedding_maps({"a": points(120)}, LABELS % 100, [f"class {i}" for i in range(100)]),
    "thumbnails": lambda: plots.embedding_maps({"a": points(120)}, LABELS % 3, list("abc"), images=rand(120, 3, 8, 8)),
    "one point": lambda: plots.embedding_maps({"a": points(1)}, None, (), images=rand(1, 3, 8, 8)),
    "thumbnails on two maps": lambda: plots.embedding_maps(
        {"a": points(120), "b": points(120, 1)}, LABELS % 3, list("abc"), images=rand(120, 3, 8, 8)
    ),
    "similarities": lambda: plots.similarity_heatmap(cosines(8), positives=torch.eye(8, dtype=torch.bool)),
    "named similarities": lambda: plots.similarity_heatmap(cosines(12, 4), rows=LONG[:12], columns=LONG[:4]),
    "short names": lambda: plots.similarity_heatmap(
        cosines(3, 7), rows=["a", "b", "c"], columns=[f"view {i}" for i in range(7)]
    ),
    "forty names": lambda: plots.similarity_heatmap(cosines(40), rows=LONG, columns=LONG),
    "one similarity": lambda: plots.similarity_heatmap(cosines(1)),
    "one row": lambda: plots.similarity_heatmap(cosines(1, 100), rows=["query"]),
    "two columns": lambda: plots.similarity_heatmap(cosines(100, 2), columns=["a", "b"]),
    "many similarities": lambda: plots.similarity_heatmap(cosines(300), positives=torch.eye(300, dtype=torch.bool)),
    "confusion": lambda: plots.confusion(torch.tensor([[50, 3], [4, 12345]]), ["cat", "dog"]),
    "confusion of 20": lambda: plots.confusion(torch.eye(20, dtype=torch.int64), LONG[:20]),
    "confusion of 100": lambda: plots.confusion(torch.eye(100), [str(i) for i in range(100)]),
    "confusion of one": lambda: plots.confusion(torch.zeros(1, 1), ["cat"]),
    "neighbours": lambda: plots.neighbours(rand(3, 3, 8, 8), rand(3, 4, 3, 8, 8)),
    "neighbours with titles": lambda: plots.neighbours(
        rand(3, 3, 8, 8), rand(3, 4, 3, 8, 8), titles=[["query $x_{$"] + ["0.99 " + "long" * 9] * 4] * 3
    ),
    "one neighbour": lambda: plots.neighbours(rand(1, 1, 8, 8), rand(1, 1, 1, 8, 8), titles=[["a", "b"]]),
    "two runs": lambda: plots.curves_of_runs({"one": history(), "other $x_{$": history(30000)}),
    "nine runs": lambda: plots.curves_of_runs({f"{'_' * i}{'run/' * 40}": history(100 * i) for i in range(9)}),
    "runs of nothing": lambda: plots.curves_of_runs({"a": [], "b": [{"step": 0, "knn": 0.5}]}),
    "intervals": lambda: plots.interval_curves({"probe": rising(0.4), "from scratch": rising(0.2)}, log_x=True),
    "linear intervals": lambda: plots.interval_curves({"probe": rising(0.4), "from scratch": rising(0.2)}),
    "nine near lines": lambda: plots.interval_curves({name: rising(i / 1000) for i, name in enumerate(LONG[:9])}),
    "twenty near lines": lambda: plots.interval_curves({name: rising(0.4) for name in LONG[:20]}, log_x=True),
    "one interval": lambda: plots.interval_curves({"probe": [(5, 0.5, 0.4, 0.6)]}, log_x=True),
    "crowded x": lambda: plots.interval_curves({"a": [(x, 0.5, 0.4, 0.6) for x in range(1, 50)]}, log_x=True),
    "histograms": lambda: plots.similarity_histograms(cosines(9), -cosines(30)),
    "one place": lambda: plots.embedding_maps({"a": points(9) * 0}, None, (), images=rand(9, 3, 8, 8)),
}  # fmt: skip


@pytest.fixture(params=PICTURES, scope="module")
def picture(request):
    return PICTURES[request.param]()


# --- every picture ----------------------------------------------------------------------------------------


def test_every_picture_is_a_png_with_words(picture):
    assert isinstance(picture, Picture) and isinstance(picture.figure, Figure)
    assert len(picture.alt) > 10 and picture.alt.endswith(".") and "  " not in picture.alt
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png = picture.png()
    with Image.open(io.BytesIO(png)) as decoded:
        decoded.load()
        inches = picture.figure.get_size_inches()
        assert decoded.format == "PNG" and decoded.size == pytest.approx(tuple(inches * 110), abs=1)


@functools.cache
def texts_of(picture):
    """The visible texts and their boxes in pixels."""
    picture.figure.draw_without_rendering()
    texts = [t for t in picture.figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
    axes_off = {
        t for ax in picture.figure.axes if not ax.axison for axis in (ax.xaxis, ax.yaxis) for t in axis.findobj(Text)
    }
    inside = [t for t in texts if t not in axes_off and not is_stray_tick(t)]
    return {t: t.get_window_extent() for t in inside}


def is_stray_tick(text):
    """Matplotlib keeps labels of ticks beyond an axis' limits and doesn't draw them."""
    axis = next(
        (a for ax in text.figure.axes for a in (ax.xaxis, ax.yaxis) if text in a.get_ticklabels(which="both")), None
    )
    if axis is None:
        return False
    low, high = sorted(axis.get_view_interval())
    place = text.get_position()[0 if axis.axis_name == "x" else 1]
    return not low - 1e-9 <= place <= high + 1e-9


def test_no_text_is_cut_off(picture):
    frame = picture.figure.bbox
    for text, box in texts_of(picture).items():
        inside = box.x0 >= frame.x0 - 1 and box.x1 <= frame.x1 + 1 and box.y0 >= frame.y0 - 1 and box.y1 <= frame.y1 + 1
        assert inside, (text.get_text(), box, frame)


def test_no_text_lies_on_another(picture):
    for (one, a), (other, b) in itertools.combinations(texts_of(picture).items(), 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1 or down <= 1, (one.get_text(), other.get_text())


def test_every_function_that_draws_is_tried_here():
    drawing = {name for name, f in vars(plots).items() if inspect.isfunction(f) and not name.startswith("_")
               and f.__module__ == plots.__name__ and inspect.signature(f).return_annotation is Picture}  # fmt: skip
    assert drawing == {"image_grid", "view_pairs", "curves", "embedding_maps", "similarity_heatmap", "confusion",
                       "interval_curves", "similarity_histograms", "neighbours", "curves_of_runs"}  # fmt: skip


@pytest.mark.parametrize("name", ["curves", "maps", "intervals", "confusion", "two runs"])
def test_the_style_that_a_notebook_plots_in_changes_nothing(name):
    plain = PICTURES[name]().png()
    with matplotlib.style.context("dark_background"):
        assert PICTURES[name]().png() == plain


def test_powers_on_a_log_axis_of_ones_own_are_formulas():
    figure = Figure()
    figure.subplots().set(yscale="log", ylim=(1e-3, 1))
    Picture(figure, "x").png()
    powers = [text for text in figure.findobj(Text) if "mathdefault" in text.get_text()]
    assert powers and all(text.get_parse_math() for text in powers)


def test_a_notebook_gets_picture_text_and_alt():
    picture = Picture(Figure(figsize=(1, 1)), "what it shows")
    data, metadata = picture._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == picture.png()
    assert data["text/plain"] == repr(picture) == "what it shows"
    assert metadata == {"image/png": {"alt": "what it shows"}}


def test_a_picture_is_saved(tmp_path):
    plots.image_grid(rand(2, 3, 8, 8)).save(tmp_path / "grid.png")
    assert (tmp_path / "grid.png").read_bytes() == plots.image_grid(rand(2, 3, 8, 8)).png()


def test_alt_texts_can_be_given():
    images = rand(2, 3, 8, 8)
    assert plots.image_grid(images, alt="mine").alt == "mine"
    assert plots.view_pairs(images, images, images, alt="mine").alt == "mine"
    assert plots.embedding_maps({"a": points(9)}, None, (), alt="mine").alt == "mine"
    assert plots.similarity_heatmap(cosines(2), alt="mine").alt == "mine"
    assert plots.confusion(torch.eye(2), ["a", "b"], alt="mine").alt == "mine"
    assert plots.interval_curves({"a": rising(0.1)}, alt="mine").alt == "mine"
    assert plots.neighbours(images, images[:, None], alt="mine").alt == "mine"
    assert plots.curves_of_runs({"a": history()}, alt="mine").alt == "mine"
    assert plots.similarity_histograms(cosines(2), cosines(2), alt="mine").alt == "mine"


def test_pyplot_and_its_global_figures_are_left_alone():
    for path in Path(plots.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            assert not any(
                "pyplot" in name or "pylab" in name for name in [*names, getattr(node, "module", None) or ""]
            )
    before = dict(Gcf.figs)
    plots.curves(history()).png()
    plots.image_grid(rand(2, 3, 8, 8)).png()
    assert dict(Gcf.figs) == before


# --- pixels -----------------------------------------------------------------------------------------------


def test_bytes_and_floats_become_the_same_pixels():
    bytes_ = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, 16, 16)
    for images in (bytes_, bytes_.float() / 255, bytes_.double() / 255, (bytes_.float() / 255).requires_grad_()):
        assert np.array_equal(plots.to_numpy(images), bytes_.permute(0, 2, 3, 1).numpy())
    gray = plots.to_numpy(bytes_[:, :1])
    assert gray.shape == (2, 16, 16, 3) and np.array_equal(gray, plots.to_numpy(bytes_))
    assert plots.to_numpy(torch.tensor([-0.5, 1.5]).reshape(2, 1, 1, 1)).ravel().tolist() == [0] * 3 + [255] * 3


def shown(ax):
    return [np.asarray(image.get_array()) for image in ax.get_images()]


def test_the_grid_shows_every_picture_under_its_title():
    images = rand(11, 3, 8, 8)
    axes = plots.image_grid(images, [f"title {i}" for i in range(11)], columns=4).figure.axes
    assert len(axes) == 12 and shown(axes[11]) == []
    for i in range(11):
        (seen,) = shown(axes[i])
        assert np.array_equal(seen, plots.to_numpy(images)[i]) and axes[i].get_title() == f"title {i}"


def test_rows_of_a_grid_have_names():
    figure = plots.image_grid(rand(8, 3, 8, 8), columns=4, rows=["query", "nearest"]).figure
    assert [ax.get_ylabel() for ax in figure.axes] == ["query", "", "", "", "nearest", "", "", ""]
    with pytest.raises(ValueError, match="rows: expected 2 for 8 pictures, got 1"):
        plots.image_grid(rand(8, 3, 8, 8), columns=4, rows=["query"])


def test_pairs_stand_in_columns():
    images, view1, view2 = rand(3, 5, 3, 8, 8)
    axes = np.array(plots.view_pairs(images, view1, view2).figure.axes).reshape(3, 5)
    for row, batch in enumerate((images, view1, view2)):
        for column in range(5):
            assert np.array_equal(shown(axes[row, column])[0], plots.to_numpy(batch)[column])
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["picture", "view 1", "view 2"]


# --- curves -----------------------------------------------------------------------------------------------


def curve(ax):
    return np.array(ax.lines[0].get_data())


def test_curves_draw_the_history():
    rows = history()
    loss, score = plots.curves(rows, baselines=NEAR, chance=4.84).figure.axes
    assert curve(loss).T.tolist() == [[row["step"], row["loss"]] for row in rows if "loss" in row]
    assert curve(score).T.tolist() == [[row["step"], row["knn"]] for row in rows if "knn" in row]
    assert [line.get_ydata()[0] for line in loss.lines[1:]] == [4.84]
    assert [line.get_ydata()[0] for line in score.lines[1:]] == [0.42, 0.44]
    assert len({line.get_linestyle() for line in score.lines}) == 3  # not told by colour alone
    assert [t.get_text() for t in score.texts] == ["pixels 0.42", "random encoder 0.44"]
    assert [t.get_text() for t in loss.texts] == ["blind guessing 4.84"]


def test_curves_stay_in_sight():
    for rows, chance in ((history(), 4.84), (history(), None), ([{"step": 1, "loss": 90.0}], 4.84), ([], 4.84)):
        ax = plots.curves(rows, chance=chance).figure.axes[0]
        highest = max([row["loss"] for row in rows if "loss" in row] + [chance or 0])
        assert ax.get_ylim()[0] == 0 and highest < ax.get_ylim()[1] < 1.2 * highest


def test_curves_of_any_sign_and_size_stay_in_sight():
    rows = [{"step": i, "loss": -0.3 - i / 10, "uniformity": -i / 2, "rank": 20.0 * i} for i in range(1, 7)]
    for metric in ("uniformity", "rank"):
        for picture in (plots.curves(rows, metric=metric), plots.curves_of_runs({"a": rows}, metric=metric)):
            for ax in picture.figure.axes:
                low, high = ax.get_ylim()
                assert low < min(curve(ax)[1]) <= max(curve(ax)[1]) < high, metric
    assert [ax.get_ylim()[0] for ax in plots.curves_of_runs({"a": history()}).figure.axes] == [0, 0]


def test_a_live_curve_keeps_its_frame():
    """Nothing moves but the curve: with `steps` the axes, their limits and the size of the picture stay."""
    rows = history(300)
    frames = [plots.curves(rows[:n], baselines=NEAR, chance=4.84, steps=300) for n in (0, 1, 2, 5, len(rows))]
    sizes, places, limits = set(), set(), set()
    for frame in frames:
        sizes.add(Image.open(io.BytesIO(frame.png())).size)
        places.add(tuple(tuple(ax.get_position().bounds) for ax in frame.figure.axes))
        limits.add(tuple((*ax.get_xlim(), *ax.get_ylim()) for ax in frame.figure.axes))
    assert len(sizes) == len(places) == len(limits) == 1


def test_without_steps_the_axis_ends_with_the_history():
    for ax in plots.curves(history(60)).figure.axes:
        assert ax.get_xlim() == (0, 60)


@pytest.mark.parametrize(
    "values", [(0.42, 0.44), (0.44, 0.42), (0.5, 0.5, 0.5), (0.99, 1.0, 0.98), (0.0, 0.01), (0.1, 0.9)]
)
def test_names_of_near_baselines_stand_apart_in_their_order(values):
    baselines = {f"baseline {'abc'[i]}": value for i, value in enumerate(values)}
    picture = plots.curves(history(), baselines=baselines)
    texts = picture.figure.axes[1].texts
    boxes = texts_of(picture)
    for one, other in itertools.combinations(range(len(values)), 2):
        a, b = boxes[texts[one]], boxes[texts[other]]
        assert a.y1 <= b.y0 or b.y1 <= a.y0
        if values[one] != values[other]:
            assert (a.y0 < b.y0) == (values[one] < values[other])
    apart = len(values) == 2 and abs(values[0] - values[1]) > 0.5
    for text, value in zip(texts, values, strict=True):
        assert text.get_position()[1] == pytest.approx(value, abs=1e-9 if apart else 0.15)
        assert text.get_position()[1] <= 1.02  # else it meets the title


def test_the_words_tell_the_curves():
    said = plots.curves(history(), baselines=NEAR, chance=4.84).alt
    assert said == ("Two curves over training. Loss ends at 1.80; knn ends at 0.90 after 60 steps; "
                    "baselines: pixels 0.42, random encoder 0.44.")  # fmt: skip
    assert plots.curves([]).alt == "Two curves over training. Loss is not measured yet; knn is not measured yet."


# --- live -------------------------------------------------------------------------------------------------


def test_live_curves_update_one_display(monkeypatch):
    import IPython.display

    first, updates = [], []

    def display(picture, display_id):
        assert display_id is True
        first.append(picture)
        return SimpleNamespace(update=updates.append)

    monkeypatch.setattr(IPython.display, "display", display)
    clock = iter(range(0, 1000))  # a second passes each time that someone looks
    monkeypatch.setattr(plots.time, "monotonic", lambda: next(clock))
    live = LiveCurves(baselines=NEAR, chance=4.84, steps=60)
    rows = history()
    for row in rows:
        live(row)
    assert all(isinstance(picture, Picture) for picture in first + updates)
    assert updates[-1].png() == plots.curves(rows, baselines=NEAR, chance=4.84, steps=60).png()
    drawn = [curve(picture.figure.axes[0])[0, -1] for picture in updates]
    assert len(first) == 1
    assert drawn == [20, 30, 50, 60]  # after two seconds, and with every row that has the metric


def test_live_curves_draw_the_last_row_without_a_metric_too(monkeypatch):
    import IPython.display

    pictures = []
    handle = SimpleNamespace(update=pictures.append)
    monkeypatch.setattr(IPython.display, "display", lambda picture, display_id: handle)
    monkeypatch.setattr(plots.time, "monotonic", lambda: 0.0)
    live = LiveCurves(steps=60)
    for row in history():
        live({key: value for key, value in row.items() if key != "knn"})
    assert [curve(picture.figure.axes[0])[0, -1] for picture in pictures] == [60]


# --- maps -------------------------------------------------------------------------------------------------


def test_maps_show_every_point_in_the_sign_of_its_class():
    maps = {"pixels": points(120), "features": points(120, 1)}
    figure = plots.embedding_maps(maps, LABELS % 3, ["ant", "bee", "cow"]).figure
    for ax, (name, places) in zip(figure.axes, maps.items(), strict=True):
        assert ax.get_title() == name
        assert [c.get_label() for c in ax.collections] == ["ant", "bee", "cow"]
        for label, collection in enumerate(ax.collections):
            assert np.array_equal(collection.get_offsets(), places[label::3])
            assert tuple(collection.get_facecolor()[0][:3]) == pytest.approx(to_rgb(plots.PALETTE[label]))
        assert len({collection.get_paths()[0].vertices.tobytes() for collection in ax.collections}) == 3
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["ant", "bee", "cow"]


def test_forty_classes_have_forty_signs():
    (ax,) = plots.embedding_maps({"a": points(120)}, LABELS % 40, [str(i) for i in range(40)]).figure.axes
    signs = {(tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in ax.collections}
    assert len(signs) == 40
    assert len(ax.figure.legends[0].get_texts()) == 40


def test_more_classes_than_signs_get_no_legend():
    assert PICTURES["100 classes"]().figure.legends == []


def test_a_class_without_a_picture_keeps_the_colours_of_the_others():
    (ax,) = plots.embedding_maps({"a": points(60)}, torch.full((60,), 2), ["ant", "bee", "cow"]).figure.axes
    (collection,) = ax.collections
    assert collection.get_label() == "cow"
    assert tuple(collection.get_facecolor()[0][:3]) == pytest.approx(to_rgb(plots.PALETTE[2]))


def test_thumbnails_lie_on_their_points_apart_and_leave_all_in_sight():
    places, images = points(120), rand(120, 3, 8, 8)
    picture = plots.embedding_maps({"a": places}, None, (), images=images)
    picture.png()
    (ax,) = picture.figure.axes
    pixels = plots.to_numpy(images)
    assert 10 < len(ax.images) <= 60
    centres = []
    for thumbnail in ax.images:
        x0, x1, y0, y1 = thumbnail.get_extent()
        centres.append(((x0 + x1) / 2, (y0 + y1) / 2))
        (i,) = np.flatnonzero(np.abs(places - centres[-1]).max(1) < 1e-3)
        assert np.array_equal(thumbnail.get_array(), pixels[i])
        assert x1 - x0 == pytest.approx(y1 - y0, rel=1e-4)
    width = x1 - x0
    gaps = [max(abs(a[0] - b[0]), abs(a[1] - b[1])) for a, b in itertools.combinations(centres, 2)]
    assert min(gaps) > width
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert left < places[:, 0].min() and places[:, 0].max() < right
    assert bottom < places[:, 1].min() and places[:, 1].max() < top
    assert right - left < 2 * np.ptp(places[:, 0])


@pytest.mark.parametrize("n", [1, 2, 3, 5, 30, 31, 80])
def test_tsne_takes_few_points(n):
    places = plots.tsne(rand(n, 6))
    assert places.shape == (n, 2) and np.isfinite(places).all()


@pytest.mark.parametrize(
    "features",
    [torch.zeros(20, 4), torch.full((20, 4), 0.3), rand(20, 4) * 1e-25, rand(20, 4) * 1e25, rand(1, 4).repeat(20, 1)],
)
def test_tsne_survives_collapsed_tiny_and_huge_features(features):
    """On most of these scikit-learn's own ends the process."""
    assert np.isfinite(plots.tsne(features)).all()


@pytest.mark.parametrize("draw", [plots.tsne, plots.pca])
def test_maps_take_features_as_training_has_them(draw):
    features = rand(20, 4).bfloat16().requires_grad_()
    expected = draw(features.detach().float())
    assert all(np.array_equal(*pair) for pair in zip(draw(features), expected, strict=True))


def test_tsne_refuses_what_is_no_number():
    features = rand(20, 4)
    features[3, 2] = float("nan")
    with pytest.raises(ValueError, match="expected finite numbers, got NaN or infinity"):
        plots.tsne(features)


def clusters():
    centres = torch.nn.functional.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(1)), dim=1)
    return centres.repeat_interleave(20, 0) + 0.05 * rand(60, 16), np.arange(3).repeat(20)


def test_tsne_is_repeatable():
    features, _ = clusters()
    before = np.random.get_state()[1].copy()
    assert np.array_equal(plots.tsne(features), plots.tsne(features))
    assert np.array_equal(np.random.get_state()[1], before)


def test_tsne_measures_angles():
    """Neighbours by direction, though all three directions are near and lengths differ by a factor of a hundred."""
    directions, labels = clusters()
    lengths = torch.logspace(-1, 1, 20).repeat(3)[:, None]
    places = plots.tsne((1 + 0.3 * directions) * lengths, perplexity=10)
    distances = np.linalg.norm(places[:, None] - places, axis=2) + 1e9 * np.eye(60)
    assert (labels[distances.argmin(1)] == labels).mean() > 0.95


def test_tsne_measures_lengths_where_it_is_told_to():
    """Three groups that differ in length alone: in cosine distance there is nothing to tell apart."""
    direction = torch.nn.functional.normalize(rand(1, 8), dim=1)
    x = torch.tensor([1.0, 5, 25]).repeat_interleave(20)[:, None] * direction + 0.02 * rand(60, 8)
    places = plots.tsne(x, perplexity=10, metric="euclidean", steps=500)
    distances = np.linalg.norm(places[:, None] - places, axis=2) + 1e9 * np.eye(60)
    labels = np.arange(3).repeat(20)
    assert (labels[distances.argmin(1)] == labels).all()


def test_pca_keeps_what_it_says():
    """An ellipsoid of known axes, turned and moved, comes back with its axes, their shares and the distances."""
    scales = torch.tensor([5.0, 2.0, 0.5, 0.1])
    x = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    x = torch.linalg.qr(x - x.mean(0)).Q * scales  # exactly these singular values
    turn = torch.linalg.qr(rand(4, 4)).Q
    places, shares = plots.pca(x @ turn + 7)
    assert places.shape == (400, 2) and shares == pytest.approx((scales[:2] ** 2 / (scales**2).sum()).numpy(), rel=1e-4)
    for axis in (0, 1):
        sign = np.sign(places[:, axis] @ x[:, axis].numpy())
        assert sign * places[:, axis] == pytest.approx(x[:, axis].numpy(), abs=1e-4)
    again, _ = plots.pca(x @ turn + 7)
    assert np.array_equal(places, again)


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_pca_takes_any_scale(scale):
    places, shares = plots.pca(scale * rand(30, 5))
    expected, same = plots.pca(rand(30, 5).double())
    assert shares == pytest.approx(same, rel=1e-3) and places / scale == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("shape", [(1, 5), (2, 5), (7, 1), (1, 1), (3, 2)])
def test_pca_takes_few_points_and_one_dimension(shape):
    places, shares = plots.pca(rand(*shape))
    assert places.shape == (shape[0], 2) and np.isfinite(places).all() and (shape[0] > 1) == (shares.sum() > 0.99)


def test_pca_of_one_place_is_one_place():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for features in (torch.zeros(20, 4), torch.full((20, 4), 0.3)):
            places, shares = plots.pca(features)
            assert not places.any() and not shares.any()


def test_pca_of_many_pixels_is_repeatable():
    features = rand(700, 1200) * torch.linspace(3, 0, 1200)  # scikit-learn draws random numbers here
    first, shares = plots.pca(features)
    assert np.array_equal(first, plots.pca(features)[0])
    spectrum = torch.linalg.svdvals((features - features.mean(0)).double()).square()
    assert shares == pytest.approx((spectrum[:2] / spectrum.sum()).numpy(), rel=0.05)


@pytest.mark.parametrize("method", [plots.tsne, plots.pca])
@pytest.mark.parametrize(
    ("features", "words"),
    [
        (torch.tensor([[1.0, float("inf")], [0, 1]]), "expected finite numbers, got NaN or infinity"),
        (rand(5), r"expected a tensor \[N, D\], N and D > 0, got \[5\]"),
        (rand(0, 5), r"got \[0, 5\]"),
        ([[1.0, 2.0]], r"expected a tensor \[N, D\]"),
    ],
)
def test_maps_refuse_what_is_no_matrix_of_numbers(method, features, words):
    with pytest.raises(ValueError, match=words):
        method(features)


# --- heat maps --------------------------------------------------------------------------------------------


def test_similarities_are_colours_from_minus_one_to_one():
    values = cosines(5, 9)
    ax, bar = plots.similarity_heatmap(values).figure.axes
    (image,) = ax.images
    assert np.allclose(image.get_array(), values) and image.get_clim() == (-1, 1)
    assert bar.get_ylabel() == "cosine similarity"
    assert [t.get_text() for t in bar.get_yticklabels()] == ["−1.0", "−0.5", "0.0", "0.5", "1.0"]
    cells = {t.get_position(): t.get_text() for t in ax.texts}
    assert cells == {(j, i): f"{values[i, j]:z.2f}" for i in range(5) for j in range(9)}
    assert [t.get_text() for t in ax.get_yticklabels()] == [str(i) for i in range(5)]


def test_numbers_in_cells_can_be_read_and_only_small_maps_have_them():
    ax = plots.similarity_heatmap(torch.tensor([[-1.0, -0.5, 0.0, 0.5, 1.0]])).figure.axes[0]
    for text, value in zip(ax.texts, (-1, -0.5, 0, 0.5, 1), strict=True):
        light = [lab(color, "all three cones")[0] for color in (text.get_color(), ax.images[0].to_rgba(value)[:3])]
        assert abs(light[0] - light[1]) > 35
    assert len(plots.similarity_heatmap(cosines(12)).figure.axes[0].texts) == 144
    assert not plots.similarity_heatmap(cosines(2, 13)).figure.axes[0].texts


def test_names_stand_at_their_rows_and_columns():
    picture = plots.similarity_heatmap(cosines(2, 3), rows=["ant", "bee"], columns=["one", "two", LONG[1]])
    ax = picture.figure.axes[0]
    assert [(t.get_position()[1], t.get_text()) for t in ax.get_yticklabels()] == [(0, "ant"), (1, "bee")]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["one", "two", "a medium purple striped…"]
    assert {t.get_rotation() for t in ax.get_xticklabels()} == {90}
    picture = plots.similarity_heatmap(cosines(2), rows=["Animalia_Chordata_Aves_Passeriformes", "b" * 28])
    assert [t.get_text() for t in picture.figure.axes[0].get_yticklabels()] == [
        "Animalia_Chordata_Aves_Pass…",
        "b" * 28,
    ]
    picture = plots.similarity_heatmap(cosines(41), rows=[*LONG, "one more"])
    assert not any("name" in text.get_text() for text in texts_of(picture))


def test_positives_are_outlined_and_told():
    values = torch.tensor([[0.9, 0.2, -0.2], [0.6, 0.8, 0.1]])
    positives = torch.tensor([[True, False, False], [False, False, True]])
    picture = plots.similarity_heatmap(values, positives=positives)
    assert [patch.get_xy() for patch in picture.figure.axes[0].patches] == [(-0.5, -0.5), (1.5, 0.5)]
    assert picture.alt == (
        "Heat map of 2 × 3 similarities, from -0.20 to 0.90, on average 0.40. Positives (outlined) average 0.50, the "
        "others 0.35; highest of the others: 0.80 in row 1, column 1."
    )
    assert plots.similarity_heatmap(values).alt == picture.alt.split(" Positives")[0]
    named = plots.similarity_heatmap(values, rows=["ant", "bee"], columns=["x", "y", "z"], positives=positives)
    assert named.alt == picture.alt.replace("row 1, column 1", "row bee, column y")
    for mask in (torch.zeros(2, 3), torch.ones(2, 3)):
        assert "Positives" not in plots.similarity_heatmap(values, positives=mask.bool()).alt
    large = plots.similarity_heatmap(cosines(65), positives=torch.eye(65).bool())
    assert not large.figure.axes[0].patches and "Positives average" in large.alt and "outlined" not in large.alt
    assert len(plots.similarity_heatmap(cosines(64), positives=torch.eye(64).bool()).figure.axes[0].patches) == 64


def test_cells_without_a_number_are_left_out():
    values = torch.tensor([[float("nan"), 0.5], [-0.1, float("nan")]])
    picture = plots.similarity_heatmap(values, positives=torch.tensor([[False, True], [False, False]]))
    assert [t.get_text() for t in picture.figure.axes[0].texts] == ["", "0.50", "-0.10", ""]
    assert picture.alt == ("Heat map of 2 × 2 similarities, from -0.10 to 0.50, on average 0.20. Positives (outlined) "
                           "average 0.50, the others -0.10; highest of the others: -0.10 in row 1, "
                           "column 0.")  # fmt: skip


def test_confusion_shows_counts_on_shares_of_the_true_class():
    matrix = torch.tensor([[8, 2, 0], [1, 4, 0], [0, 0, 0]])
    picture = plots.confusion(matrix, ["ant", "bee", "cow"])
    ax = picture.figure.axes[0]
    assert np.allclose(ax.images[0].get_array(), [[0.8, 0.2, 0], [0.2, 0.8, 0], [0, 0, 0]])
    assert {t.get_position(): t.get_text() for t in ax.texts} == {
        (j, i): str(matrix[i, j].item()) for i in range(3) for j in range(3)
    }
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("true", "taken for")
    assert picture.alt == ("Confusion matrix of 15 pictures in 3 classes: 80.0% right. Most often ant is taken "
                           "for bee, 2 times.")  # fmt: skip
    assert plots.confusion(torch.eye(2), ["a", "b"]).alt == "Confusion matrix of 2 pictures in 2 classes: 100.0% right."


# --- neighbours, and runs over each other -------------------------------------------------------------------


def test_each_query_stands_left_of_what_was_found_for_it():
    queries, found = rand(2, 3, 8, 8), rand(2, 4, 3, 8, 8, seed=1)
    names = [[f"{row}{column}" for column in range(5)] for row in range(2)]
    (ax,) = plots.neighbours(queries, found, titles=names).figure.axes
    seen = {}  # place -> pixels
    for image in ax.get_images():
        left, _, bottom, _ = image.get_extent()
        seen[-bottom, left] = np.asarray(image.get_array())
    rows = [torch.cat([query[None], others]) for query, others in zip(queries, found, strict=True)]
    expected = [plots.to_numpy(picture[None])[0] for row in rows for picture in row]
    assert all(np.array_equal(seen[place], pixels) for place, pixels in zip(sorted(seen), expected, strict=True))
    lefts = sorted({left for _, left in seen})
    assert lefts[1] - lefts[0] > 1.2 * (lefts[2] - lefts[1])  # the gap
    places = sorted((-text.get_position()[1], text.get_position()[0], text.get_text()) for text in ax.texts)
    assert [name for *_, name in places] == [name for row in names for name in row]


def test_runs_lie_over_each_other_and_are_told_apart_without_colour():
    histories = {"_one": history(60), "two$": history(120), "three": [{"step": 0, "knn": 0.25}]}
    picture = plots.curves_of_runs(histories)
    for ax, what in zip(picture.figure.axes, ("loss", "knn"), strict=True):
        lines = ax.get_lines()
        assert len({line.get_marker() for line in lines}) == len({line.get_color() for line in lines}) == 3
        for line, rows in zip(lines, histories.values(), strict=True):
            assert line.get_xydata().tolist() == [[row["step"], row[what]] for row in rows if what in row]
    assert [text.get_text() for text in picture.figure.legends[0].get_texts()] == list(histories)
    assert picture.alt == (
        "Curves of 3 runs over training: _one ends at loss 1.80, knn 0.90 after 60 steps; two$ ends at loss 1.80, knn "
        "0.90 after 120 steps; three ends at loss not measured, knn 0.25 after 0 steps."
    )


# --- intervals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_x", [False, True])
def test_lines_and_bands_are_the_rows(log_x):
    table = {"probe": rising(0.4)[::-1], "from scratch": rising(0.2)}  # in any order
    ax = plots.interval_curves(table, log_x=log_x, xlabel="labels", ylabel="kNN").figure.axes[0]
    assert (ax.get_xscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log" if log_x else "linear", "labels", "kNN")
    lines = [line for line in ax.lines if line.get_label() in table]
    for line, rows in zip(lines, table.values(), strict=True):
        assert np.array_equal(line.get_xydata(), np.array(sorted(rows))[:, :2])
    bands = [collection for collection in ax.collections if len(collection.get_paths()[0]) > 4]
    for line, band, rows in zip(lines, bands, table.values(), strict=True):
        corners = {(x, y) for x, y in band.get_paths()[0].vertices.round(6)}
        assert {(x, round(y, 6)) for x, _, *ends in rows for y in ends} <= corners
        assert line.get_color() and to_rgb(line.get_color()) == pytest.approx(tuple(band.get_facecolor()[0][:3]))
    assert len({line.get_marker() for line in lines}) == len({line.get_linestyle() for line in lines}) == 2
    if log_x:
        assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "5", "20", "100"]


def test_lines_are_named_where_they_end_in_their_order_and_sign():
    table = {"low": rising(0.1), "high": rising(0.5), "near": rising(0.495)}
    picture = plots.interval_curves(table)
    ax = picture.figure.axes[0]
    boxes = texts_of(picture)
    names = {t.get_text(): boxes[t].y0 for t in ax.texts}
    assert list(names) == ["low 0.40", "high 0.80", "near 0.80"]
    assert names["low 0.40"] < names["near 0.80"] < names["high 0.80"]
    assert ax.texts[0].get_position()[1] == pytest.approx(0.4)
    signs = [line for line in ax.lines if not line.get_clip_on()]
    lines = [line for line in ax.lines if line.get_label() in table]
    for sign, line, text in zip(signs, lines, ax.texts, strict=True):
        assert (sign.get_marker(), sign.get_color()) == (line.get_marker(), line.get_color())
        assert sign.get_ydata()[0] == text.get_position()[1]


def test_the_words_tell_each_line():
    assert plots.interval_curves({"probe": rising(0.4), "scratch": rising(0.2)}).alt == (
        "Accuracy over labelled pictures a class, with intervals: probe from 0.40 at 1 to 0.70 at 100 (0.67 to 0.75); "
        "scratch from 0.20 at 1 to 0.50 at 100 (0.47 to 0.55)."
    )


def test_histograms_are_shares_of_their_own():
    positives, negatives = torch.tensor([[0.99, 0.51], [0.53, 1.0]]), torch.tensor([-1.0, 0.02])
    picture = plots.similarity_histograms(positives, negatives)
    ax = picture.figure.axes[0]
    outlines = {patch.get_label(): patch for patch in ax.patches}
    assert {patch.get_hatch() for patch in ax.patches} == {"////", ""}  # not told by colour alone
    for name, high in (("positives", 0.5), ("negatives", 0.5)):
        assert outlines[name].get_path().vertices[:, 1].max() == pytest.approx(high)
    assert picture.alt == ("Two histograms of similarities: 2 negatives average -0.49 (standard deviation 0.51); 4 "
                           "positives average 0.76 (standard deviation 0.24).")  # fmt: skip


# --- bad input --------------------------------------------------------------------------------------------

ROW = (1, 0.5, 0.4, 0.6)
BAD = [
    (lambda: plots.similarity_heatmap(cosines(3)[0]), r"similarities: expected a tensor \[N, M\], .* got \[3\]"),
    (lambda: plots.similarity_heatmap(cosines(3)[:0]), r"got \[0, 3\]"),
    (lambda: plots.similarity_heatmap([[1.0]]), "got list"),
    (lambda: plots.similarity_heatmap(cosines(3) * 3), r"expected cosines in \[-1, 1\], .*, got .*; normalize"),
    (lambda: plots.similarity_heatmap(cosines(3) * float("nan")), "not NaN alone"),
    (lambda: plots.similarity_heatmap(cosines(3), rows=["a"]), r"as many names .*, \[3, 3\], got 1 and 0"),
    (lambda: plots.similarity_heatmap(cosines(3), columns=["a"]), "got 0 and 1"),
    (lambda: plots.similarity_heatmap(cosines(3), positives=torch.eye(3)), "positives: expected bool .*float32"),
    (lambda: plots.similarity_heatmap(cosines(3), positives=torch.eye(2).bool()), r"got torch.bool \[2, 2\]"),
    (lambda: plots.similarity_heatmap(cosines(3), positives=[True]), "got <class 'list'>"),
    (lambda: plots.confusion(torch.eye(3), ["a"]), r"matrix: expected as many names .*, \[3, 3\], got 1"),
    (lambda: plots.confusion(torch.eye(3), []), "C names, got 0 names"),
    (lambda: plots.confusion(-torch.eye(2), ["a", "b"]), "expected counts >= 0 .* counts from -1"),
    (lambda: plots.confusion(rand(2, 3), ["a", "b"]), "as many names as rows and columns"),
    (lambda: plots.interval_curves({}), "lines: expected at least one name with rows"),
    (lambda: plots.interval_curves({"a": []}), r"a: expected rows \(x, mean, low, high\) of finite numbers, got \[\]"),
    (lambda: plots.interval_curves({"a": [ROW[:3]]}), "a: expected rows"),
    (lambda: plots.interval_curves({"a": [(1, float("nan"), 0, 1)]}), "a: expected rows .* of finite numbers"),
    (lambda: plots.interval_curves({"a": [(1, 0.5, 0.6, 0.7)]}), "a: expected low <= mean <= high"),
    (lambda: plots.interval_curves({"a": [(1, 0.5, 0.3, 0.4)]}), "a: expected low <= mean <= high"),
    (lambda: plots.interval_curves({"a": [(0, 0.5, 0.4, 0.6)]}, log_x=True), "expected x > 0 on a log.*, got 0"),
    (lambda: plots.similarity_histograms(torch.ones(0), cosines(2)), r"positives: expected cosines .* got 0 numbers"),
    (lambda: plots.similarity_histograms(cosines(2), 9 * torch.ones(3)), r"negatives: .* got 3 numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "words"), BAD)
def test_bad_input_says_what_was_expected(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# --- colours ----------------------------------------------------------------------------------------------

MACHADO = {  # Machado, Oliveira and Fernandes 2009, table 1, severity 1.0; on linear RGB
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "all three cones": np.eye(3),
}


def lab(color, vision):
    """CIE L*a*b* (D65) of what someone with that vision sees."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(MACHADO[vision]) @ linear, 0, 1)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = to_xyz @ linear / [0.95047, 1, 1.08883]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", MACHADO)
def test_the_first_six_colours_are_apart_for_every_vision(vision):
    """Delta E 1976, where 2.3 is just noticeable: the nearest two are 16 apart (green and sky blue, tritanopia)."""
    seen = {color: lab(color, vision) for color in plots.PALETTE[:6]}
    distances = {pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in itertools.combinations(seen, 2)}
    nearest = min(distances, key=distances.get)
    assert distances[nearest] > 15, (nearest, distances[nearest])


@pytest.mark.parametrize("vision", MACHADO)
@pytest.mark.parametrize(("name", "centre"), [("coolwarm", True), ("cividis", False)])
def test_heat_maps_rise_evenly_for_every_vision(name, centre, vision):
    """Steps of a similar size everywhere; lightness rises all the way, or up to the centre and falls again."""
    seen = np.array([lab(matplotlib.colormaps[name](x)[:3], vision) for x in np.linspace(0, 1, 33)])
    steps = np.linalg.norm(np.diff(seen, axis=0), axis=1)
    assert steps.max() < (3 if centre else 4.5) * steps.min()
    rises = np.diff(seen[:, 0])
    assert (rises[:15] > 0).all() and ((rises[17:] < 0).all() if centre else (rises > 0).all())
    if centre:
        assert np.linalg.norm(seen[0] - seen[-1]) > 50  # -1 and 1 are never taken for each other


def test_the_palette_is_eight_different_colours_with_more_markers():
    assert len(set(plots.PALETTE)) == 8
    assert len(set(plots.MARKERS)) == 10


# --- colours -------------------------------------------------------------------------------------------------

LACKING = {  # Machado, Oliveira and Fernandes 2009, severity 1: on linear RGB
    "nothing": np.eye(3),
    "red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # of sRGB, D65


def closest(colors, cones):
    """The smallest difference (CIE 1976) between two of these colours, as seen without one kind of cones."""
    rgb = np.array([to_rgb(color) for color in colors])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ np.array(LACKING[cones]).T, 0, 1) @ XYZ.T / XYZ.sum(1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
    return min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2))


@pytest.mark.parametrize("cones", LACKING)
def test_colours_stay_apart_for_every_kind_of_colour_vision(cones):
    assert closest(plots.PALETTE, cones) > 10
    assert closest((explorers.POSITIVE, explorers.NEGATIVE, explorers.THIRD), cones) > 15
    assert {explorers.POSITIVE, explorers.NEGATIVE, explorers.THIRD} <= set(plots.PALETTE)


def test_the_measure_of_colours_finds_a_bad_pair():
    assert closest(("#d62728", "#8c7000"), "nothing") > 50
    assert closest(("#d62728", "#8c7000"), "green") < 5
