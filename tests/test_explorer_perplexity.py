"""The perplexity explorer against numbers that share no code with it."""

import re
import sys

import numpy as np
import pytest
import torch

from clbook import plots
from clbook.explorers import perplexity
from clbook.explorers.base import percent

module = sys.modules["clbook.explorers.perplexity"]  # the function hides it
rng = np.random.default_rng(1)
FEATURES = rng.normal(size=(130, 8)).astype(np.float32)
LABELS = np.arange(130) % 3
SENTENCE = re.compile(
    r"Perplexity (\d+), (.+): the map keeps (.+) of each point's 10 nearest neighbours \(a random map: (.+?)\)(.*)\."
)


@pytest.fixture(scope="module")
def explorer():
    return perplexity(torch.from_numpy(FEATURES), LABELS, ["a", "b", "c"])


def kept(x, points, k=10):
    """Sets of rows, one point after another."""
    shared = 0
    for i in range(len(x)):
        near = [sorted(range(len(x)), key=lambda j, p=p: np.sum((p[i] - p[j]) ** 2))[1 : k + 1] for p in (x, points)]
        shared += len({*near[0]} & {*near[1]})
    return shared / (k * len(x))


@pytest.mark.parametrize("value", [2, 30, 100])
def test_the_sentence_says_what_sets_count(explorer, value):
    units = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    points = plots.tsne(torch.from_numpy(units), perplexity=value, metric="euclidean", steps=500)
    found = SENTENCE.fullmatch(explorer.draw(perplexity=value)[0]).groups()
    assert found == (str(value), "your features", percent(kept(units, points)), percent(10 / 129), "")


def test_the_groups_are_as_wide_as_told(explorer):
    points, labels = module.two_groups()
    distances = [np.linalg.norm(points[labels == i] - points[labels == i].mean(0), axis=1) for i in (0, 1)]
    truth = np.sqrt((distances[1] ** 2).mean() / (distances[0] ** 2).mean())
    assert truth == pytest.approx(8, rel=0.1)
    drawn = []
    for value in (5, 100):
        sentence = explorer.draw(data="two groups", perplexity=value)[0]
        real, seen = map(
            float, re.search(r"is ([\d.]+) times as wide in the data, ([\d.]+) times on", sentence).groups()
        )
        assert real == pytest.approx(truth, abs=0.051)
        drawn.append(seen)
    assert drawn[0] < 2 and drawn[1] > 2 * drawn[0]  # what you read off is the setting


def test_noise_is_noise(explorer):
    x = module.noise()
    assert abs(x.mean()) < 0.05 and x.std() == pytest.approx(1, abs=0.05)
    assert explorer.draw(data="noise", perplexity=2)[0].endswith("; whatever groups you see are made up.")


def test_each_class_has_its_own_marker_and_its_points(explorer):
    explorer.draw(perplexity=10)
    plane = explorer._figure.axes[0]
    lines = [line for line in plane.lines if line.get_visible()]
    assert [len(line.get_xdata()) for line in lines] == [44, 43, 43]
    assert len({line.get_marker() for line in lines}) == len({line.get_color() for line in lines}) == 3
    assert set(module.COLORS) <= set(plots.PALETTE)
    names = {text.get_text() for text in explorer._figure.texts if text.get_visible()}
    assert {"a", "b", "c"} <= names and "tight group" not in names


@pytest.mark.parametrize(
    ("features", "labels", "classes", "message"),
    [
        (FEATURES[:119], None, (), r"N from 120 to 300 .*got \[119, 8\]"),
        (np.zeros((301, 2)), None, (), r"got \[301, 2\]"),
        (FEATURES[:, 0], None, (), r"got \[130\]"),
        (np.full((130, 2), np.nan), None, (), "with NaN or infinity"),
        (FEATURES, LABELS, (), "labels and classes, or neither"),
        (FEATURES, None, ("a",), "labels and classes, or neither"),
        (FEATURES, LABELS, ("a", "b"), r"labels: expected \[130\], each from 0 to 1, got \[130\] from 0 to 2"),
        (FEATURES, LABELS[:5], ("a", "b", "c"), r"got \[5\]"),
        (FEATURES, LABELS, [str(i) for i in range(11)], "classes: expected at most 10, got 11"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(features, labels, classes, message):
    with pytest.raises(ValueError, match=message):
        perplexity(features, labels, classes)
