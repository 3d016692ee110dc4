import ast
import base64
import inspect
import io
import itertools
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib._pylab_helpers import Gcf
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from clbook import plots
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


LABELS = torch.arange(120)
NEAR = {"pixels": 0.42, "random encoder": 0.44}
PICTURES = {
    "grid": lambda: plots.image_grid(rand(11, 3, 8, 8)),
    "grid of one": lambda: plots.image_grid(rand(1, 1, 8, 8)),
    "grid of bytes": lambda: plots.image_grid((rand(8, 3, 8, 8) * 255).byte(), columns=4),
    "grid with titles": lambda: plots.image_grid(rand(9, 3, 8, 8), [f"circle {i}" for i in range(9)]),
    "grid with captions": lambda: plots.image_grid(
        rand(9, 3, 8, 8), ["a medium purple striped triangle"] * 4 + ["a red ring"] * 5
    ),
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
    assert drawing == {"image_grid", "view_pairs", "curves", "embedding_maps"}


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
    with pytest.raises(ValueError, match="zip"):
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


def test_the_palette_is_eight_different_colours_with_more_markers():
    assert len(set(plots.PALETTE)) == 8
    assert len(set(plots.MARKERS)) == 10
