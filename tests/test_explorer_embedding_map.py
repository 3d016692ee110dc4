"""What the embedding map sends to the browser, and what it answers; the browser itself: test_browser.py."""

import base64
import importlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

from clbook.explorers import embedding_map

module = importlib.import_module("clbook.explorers.embedding_map")  # the package shows the function of that name

rng = np.random.default_rng(0)
POINTS = rng.normal(size=(30, 2))
IMAGES = torch.from_numpy(rng.integers(0, 256, (30, 3, 1, 1), dtype=np.uint8)).repeat(1, 1, 16, 16)
LABELS = torch.arange(30) % 3
FEATURES = torch.from_numpy(rng.normal(size=(30, 5)))
CLASSES = ["ring", "bar", "cross"]


@pytest.fixture
def made():
    return embedding_map(POINTS, IMAGES, LABELS, CLASSES, features=FEATURES)


def by_cosine(row, k=10):
    x = FEATURES.numpy()
    cosine = [x[row] @ other / np.linalg.norm(x[row]) / np.linalg.norm(other) for other in x]
    return [j for j in np.argsort(cosine)[::-1].tolist() if j != row][:k]


def on_map(row, k=10):
    return [j for j in np.argsort(np.linalg.norm(POINTS - POINTS[row], axis=1)).tolist() if j != row][:k]


def test_a_click_is_answered_with_neighbours_by_features(made):
    made.widget.query = [7]
    answer, near = made.widget.answer, by_cosine(7)
    assert answer["rows"] == near == made.neighbours(7)
    shared = len({*near} & {*on_map(7)})
    assert answer["text"].startswith(f"Picture 7, {CLASSES[7 % 3]}. Its 10 nearest by features: ")
    assert answer["text"].endswith(f"; {shared} of them are among its 10 nearest on the map.")
    for label, name in enumerate(CLASSES):
        assert f"{sum(j % 3 == label for j in near)} {name}" in answer["text"]


def test_without_features_neighbours_are_the_maps_own():
    made = embedding_map(POINTS, IMAGES)
    made.widget.query = [3]
    assert made.widget.answer == {"rows": on_map(3), "text": "Picture 3. Its 10 nearest on the map."}
    assert repr(made) == "Embedding map of 30 pictures."


def test_a_lasso_is_answered_with_classes_and_what_it_left_out(made):
    rows = [0, 1, 3, 6, 9, 20]
    made.widget.query = rows
    inside = np.mean([j in rows for row in rows for j in by_cosine(row)])
    assert made.widget.answer["rows"] == rows
    assert made.widget.answer["text"] == (
        "6 pictures circled: 4 ring, 1 bar, 1 cross. Of their 10 nearest neighbours by features, "
        f"{100 * inside:.0f} % are circled too."
    )
    made.widget.query = []
    assert made.widget.answer == {"rows": [], "text": "Nothing chosen."}


def test_of_very_many_that_are_circled_some_are_measured(made, monkeypatch):
    asked, true_nearest = [], module._nearest
    monkeypatch.setattr(module, "MEASURED", 7)
    monkeypatch.setattr(module, "_nearest", lambda space, rows, k: asked.append(rows) or true_nearest(space, rows, k))
    text = made.tell(list(range(30)))
    assert text.startswith("30 pictures circled: 10 ring") and text.endswith(" 100 % are circled too.")
    assert asked == [[0, 5, 10, 15, 20, 25]]


def test_points_fill_the_square_from_their_middle_and_keep_their_shape(made):
    sent = np.frombuffer(made.widget.points, np.float32).reshape(-1, 2)
    extent = np.ptp(POINTS, axis=0)
    assert np.abs(sent).max() == pytest.approx(1)
    assert sent.max(0) + sent.min(0) == pytest.approx(0, abs=1e-6)
    assert np.ptp(sent, axis=0) == pytest.approx(2 * extent / extent.max())
    assert np.frombuffer(made.widget.labels, np.uint8).tolist() == LABELS.tolist()


@pytest.mark.parametrize("side", [8, 16, 32, 48])
def test_every_picture_lies_in_its_tile(side):
    images = IMAGES[:, :, :1, :1].repeat(1, 1, side, side)
    widget = embedding_map(POINTS, images).widget
    sheet = np.asarray(Image.open(io.BytesIO(widget.sheet))).astype(int)
    assert widget.tile == min(side, 32) and widget.columns == 6 and sheet.shape == (5 * widget.tile, 6 * widget.tile, 3)
    for i in range(30):
        top, left = i // 6 * widget.tile, i % 6 * widget.tile
        tile = sheet[top : top + widget.tile, left : left + widget.tile]
        assert np.abs(tile - images[i, :, 0, 0].numpy()).max() <= 6  # JPEG


def test_float_and_grey_pictures_are_shown_alike():
    grey = IMAGES[:, :1]
    a, b, c = (embedding_map(POINTS, x).widget.sheet for x in (grey, grey / 255, grey.repeat(1, 3, 1, 1)))
    assert a == b == c


def test_one_output_carries_the_map_and_a_picture_of_it(made):
    data, metadata = made._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == made.widget.model_id
    assert data["text/plain"] == "Embedding map of 30 pictures in 3 classes (ring, bar, cross)."
    assert metadata["image/png"]["alt"].startswith(data["text/plain"])
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).width > 300


def test_points_that_coincide_and_few_points_do_no_harm():
    made = embedding_map(np.zeros((3, 2)), IMAGES[:3], LABELS[:3], CLASSES, features=FEATURES[:3])
    made.widget.query = [0]
    assert sorted(made.widget.answer["rows"]) == [1, 2] and "Its 2 nearest" in made.widget.answer["text"]
    assert not np.frombuffer(made.widget.points, np.float32).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((POINTS[:2], IMAGES[:2]), r"points: expected finite numbers \[N, 2\], N from 3 to 65,536, got \[2, 2\]"),
        ((POINTS[:, :1], IMAGES), r"got \[30, 1\]"),
        ((POINTS * np.nan, IMAGES), "with NaN or infinity"),
        ((POINTS, None), "images: expected one for each of 30 points, got None"),
        ((POINTS, IMAGES[:9]), "images: expected one for each of 30 points, got 9"),
        ((POINTS, IMAGES, LABELS), "labels and classes, or neither"),
        ((POINTS, IMAGES, None, CLASSES), "labels and classes, or neither"),
        ((POINTS, IMAGES, LABELS, CLASSES[:2]), "labels: expected"),
        ((POINTS, IMAGES, LABELS, [str(i) for i in range(256)]), "classes: expected at most 255, got 256"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(arguments, message):
    with pytest.raises(ValueError, match=message):
        embedding_map(*arguments)


def test_features_of_other_pictures_are_refused():
    with pytest.raises(ValueError, match="features: expected one for each of 30 points, got 29"):
        embedding_map(POINTS, IMAGES, features=FEATURES[:29])
