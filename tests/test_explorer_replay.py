"""The replay explorer: its sentence against numbers computed by hand, its map, and what it refuses."""

import re

import numpy as np
import pytest
import torch

from clbook import plots
from clbook.explorers import replay
from clbook.explorers.replay import COLORS, MARKERS

rng = np.random.default_rng(1)
LABELS = [0, 0, 1, 1, 2, 2, 0, 1, 2, 0, 0, 1, 2, 2]
FEATURES = [rng.normal(size=(14, 5)) + 1.0 for _ in range(4)]
RUN = [
    {"step": 10 * i, "knn": 0.2 + 0.1 * i, "features": features} | ({"loss": 5.0 - i} if i else {})
    for i, features in enumerate(FEATURES)
]
SENTENCE = re.compile(
    r"Step (\d+) of 30: (?:no loss yet|loss ([\d.]+) \(blind guessing: 4\.84\)), kNN ([\d.]+); of the (\d+) nearest "
    r"neighbours of picture (\d+) \((\w+)\), (\d+) show its class\."
)


def alike(features, follow, count):
    """The `count` others of the highest cosine, one at a time: how many have the label of `follow`?"""
    cosines = {
        i: sum(a * b for a, b in zip(f, features[follow], strict=True)) / np.sqrt(sum(x * x for x in f))
        for i, f in enumerate(features)
        if i != follow
    }
    nearest = sorted(cosines, key=cosines.get)[-count:]
    return sum(LABELS[i] == LABELS[follow] for i in nearest)


@pytest.fixture(scope="module")
def explorer():
    return replay(RUN, LABELS, ["ring", "bar", "cross"], chance=4.84, baselines={"pixels": 0.3, "random encoder": 0.2})


@pytest.mark.parametrize("i", range(4))
@pytest.mark.parametrize("follow", [0, 5, 13])
def test_the_sentence_says_what_a_loop_counts(explorer, i, follow):
    step, loss, knn, count, followed, name, same = SENTENCE.fullmatch(
        explorer.draw(step=10 * i, follow=follow)[0]
    ).groups()
    assert (int(step), int(followed), name) == (10 * i, follow, ["ring", "bar", "cross"][LABELS[follow]])
    assert float(knn) == pytest.approx(RUN[i]["knn"], abs=0.0051)
    assert loss is None if i == 0 else float(loss) == pytest.approx(5.0 - i)
    assert int(count) == 10 and int(same) == alike(FEATURES[i], follow, 10)


def test_the_map_is_that_of_scikit_learn_at_the_last_step(explorer):
    explorer.draw(step=30, follow=0)
    drawn = np.concatenate([sign.get_offsets() for sign in explorer._figure.axes[0].collections[:3]])
    order = np.argsort(LABELS, kind="stable")
    expected, _ = plots.pca(torch.nn.functional.normalize(torch.from_numpy(FEATURES[-1])))
    drawn = drawn[np.argsort(order)]
    for axis in range(2):  # up to sign
        assert np.allclose(drawn[:, axis], expected[:, axis], atol=1e-6) or np.allclose(
            drawn[:, axis], -expected[:, axis], atol=1e-6
        )


def test_distances_on_the_map_are_at_most_those_of_the_features(explorer):
    """One linear map for all steps: it shortens, and never turns on the way."""
    for i in range(4):
        explorer.draw(step=10 * i)
        points = np.concatenate([sign.get_offsets() for sign in explorer._figure.axes[0].collections[:3]])
        units = FEATURES[i] / np.linalg.norm(FEATURES[i], axis=1, keepdims=True)
        units = units[np.argsort(LABELS, kind="stable")]
        on_map, in_full = (np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (points, units))
        assert (on_map <= in_full + 1e-9).all()


def test_tensors_tuples_and_missing_names_will_do():
    tensors = tuple(row | {"features": torch.from_numpy(row["features"]).float().requires_grad_()} for row in RUN)
    sentence = replay(tensors, torch.tensor(LABELS)).sentence
    assert sentence.startswith("Step 20 of 30: loss 3.00, kNN 0.40;") and "(class 1)" in sentence


def test_a_collapsed_run_is_drawn():
    dead = [row | {"features": np.ones((14, 5))} for row in RUN]
    assert replay(dead, LABELS).sentence.startswith("Step 20 of 30")


def test_the_followed_picture_differs_by_more_than_its_colour(explorer):
    assert COLORS == plots.PALETTE and MARKERS == plots.MARKERS
    legend = explorer._figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["ring", "bar", "cross"]
    explorer.draw(step=10, follow=4)
    shown = [line for line in explorer._figure.axes[0].lines if len(line.get_xdata()) == 1]
    assert len(shown) == 1 and shown[0].get_marker() == MARKERS[2] and shown[0].get_markersize() > 10


@pytest.mark.parametrize(
    ("snapshots", "labels", "classes", "message"),
    [
        (RUN[0], LABELS, None, 'expected snapshots, dicts with "step", .* got dict'),
        ([1, 2], LABELS, None, "got list"),
        (RUN[:1], LABELS, None, r"at least 2 by rising step; got steps \[0\]"),
        (RUN[::-1], LABELS, None, r"got steps \[30, 20, 10, 0\]"),
        ([{"step": 0}, *RUN[1:]], LABELS, None, "got one without features, knn"),
        ([RUN[0], RUN[1] | {"features": FEATURES[1][:5]}], LABELS, None, r"got \[14, 5\], \[5, 5\]"),
        ([row | {"features": row["features"][:2]} for row in RUN], [0, 1], None, "N at least 3"),
        (
            [RUN[0], RUN[1] | {"features": FEATURES[1] * np.inf}],
            LABELS,
            None,
            "infinity at step 10. Did the run diverge",
        ),
        ([RUN[0], RUN[1] | {"loss": np.nan}], LABELS, None, "a loss or knn that isn't at step 10"),
        (RUN, LABELS[:3], None, r"expected labels, 14 whole numbers from 0 up, .* got int64 \[3\]"),
        (RUN, None, None, r"expected labels, 14"),
        (RUN, [float(i) for i in LABELS], None, r"got float64 \[14\]"),
        (RUN, [-1] * 14, None, "from 0 up"),
        (RUN, LABELS, ["ring"], "expected a name for each of 3 classes; got 1 names"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(snapshots, labels, classes, message):
    with pytest.raises(ValueError, match=message):
        replay(snapshots, labels, classes)
