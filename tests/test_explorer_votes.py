"""The votes explorer says and draws what a plain loop counts."""

import math
import re

import numpy as np
import pytest
import torch

from clbook import plots
from clbook.explorers import base, votes
from clbook.explorers.votes import share_votes

rng = np.random.default_rng(0)
CLASSES = ("ring", "bar", "cross")
FEATURES, LABELS = rng.normal(size=(40, 5)), rng.integers(0, 3, 40)
QUERIES = (3, 0, 17)
SENTENCE = re.compile(
    r"Query (\d+), k = (\d+), τ = ([\d.]+): (\w+) takes (.+?) of the votes "
    r"\((?:(\d+) of \d+ neighbours|its nearest neighbour)\); truth: (\w+)\."
)


def by_hand(query, k, tau):
    """Winner, its share, its neighbours: one other picture at a time."""
    cosines = {}
    for j in range(40):
        if j != query:
            lengths = math.sqrt(sum(FEATURES[query] ** 2)) * math.sqrt(sum(FEATURES[j] ** 2))
            cosines[j] = sum(FEATURES[query] * FEATURES[j]) / lengths
    nearest = sorted(cosines, key=cosines.get, reverse=True)[:k]
    polled = [sum(math.exp(cosines[j] / tau) for j in nearest if LABELS[j] == c) for c in range(3)]
    winner = polled.index(max(polled))
    return winner, polled[winner] / sum(polled), sum(LABELS[j] == winner for j in nearest)


@pytest.fixture(scope="module")
def explorer():
    return votes(FEATURES, LABELS, CLASSES, queries=QUERIES)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("k", [1, 2, 20, 39])
@pytest.mark.parametrize("tau", [0.01, 0.07, 1.0])
def test_the_sentence_says_what_a_loop_counts(explorer, query, k, tau):
    sentence = explorer._update(query=query, k=k, temperature=tau)
    winner, share, neighbours = by_hand(query, k, tau)
    number, told_k, told_tau, name, told, own, truth = SENTENCE.fullmatch(sentence).groups()
    assert (int(number), int(told_k), float(told_tau)) == (QUERIES.index(query) + 1, k, tau)
    assert (name, truth) == (CLASSES[winner], CLASSES[LABELS[query]])
    assert own is None if k == 1 else int(own) == neighbours
    if told == "over 99 %":
        assert share > 0.99
    else:
        assert float(told.removesuffix(" %")) == pytest.approx(100 * share, abs=0.51)


def test_the_bars_are_the_shares_and_the_truth_is_hatched(explorer):
    explorer.draw(query=17, k=20, temperature=0.1)
    bars = explorer._figure.axes[2].patches
    assert sum(bar.get_width() for bar in bars) == pytest.approx(1)
    winner, share, _ = by_hand(17, 20, 0.1)
    assert bars[winner].get_width() == pytest.approx(share)
    assert [bar.get_hatch() for bar in bars] == ["////" if c == LABELS[17] else None for c in range(3)]
    assert {base.POSITIVE, base.NEGATIVE} <= set(plots.PALETTE)
    assert {line.get_marker() for line in explorer._figure.axes[1].lines} == {"None", "o", "X"}


def test_a_query_never_votes_on_itself():
    features = np.concatenate([np.eye(4), np.eye(4)])  # each row has one double, of another class
    explorer = votes(features, np.r_[0, 0, 0, 0, 1, 1, 1, 1], ("a", "b"), queries=[0, 5], k=1)
    assert "b takes 100 % of the votes (its nearest neighbour); truth: a" in explorer.draw(query=0)[0]
    assert "a takes 100 % of the votes (its nearest neighbour); truth: b" in explorer.draw(query=5)[0]


def test_tiny_temperatures_do_not_overflow():
    nearest, shares = share_votes(np.array([0.1, 0.9, 0.8]), np.array([1, 0, 1]), 2, k=3, temperature=1e-4)
    assert nearest.tolist() == [1, 2, 0] and shares.tolist() == [1, 0]


def test_tensors_and_pictures_are_taken():
    features = torch.tensor(FEATURES, requires_grad=True)
    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with_pictures = votes(features, torch.tensor(LABELS), CLASSES, queries=torch.tensor(QUERIES), images=images)
    plain = votes(FEATURES, LABELS, CLASSES, queries=QUERIES)
    assert with_pictures.sentence == plain.sentence
    assert not np.array_equal(with_pictures.draw()[1], plain.draw()[1])


def test_of_many_classes_those_with_most_votes_are_shown():
    labels = np.arange(40) % 25
    explorer = votes(FEATURES, labels, [f"breed {c}" for c in range(25)], k=3)
    explorer.draw(k=3)
    axes = explorer._figure.axes[2]
    widths = [bar.get_width() for bar in axes.patches]
    assert len(widths) == 10 and widths == sorted(widths, reverse=True) and sum(widths) == pytest.approx(1)
    assert explorer.draw(k=3)[0].split(": ")[1].startswith(axes.texts[0].get_text())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": None}, "got some of them without features"),
        ({"features": FEATURES[0]}, r"features: expected finite floating-point \[N, D\].*got float64 \[5\]"),
        ({"features": FEATURES[:2]}, "N at least 3"),
        ({"features": np.full((40, 2), np.nan)}, "expected finite"),
        ({"labels": None}, "expected labels"),
        ({"labels": LABELS[:7]}, r"labels: expected 40 integers.*\[7\]"),
        ({"labels": LABELS / 2}, "labels: expected 40 integers.*float64"),
        ({"classes": ("ring",)}, "labels: expected 0 to 0, as there are 1 classes; got 0 to 2"),
        ({"queries": [1]}, "queries: expected at least 2 different rows"),
        ({"queries": [1, 1]}, "queries: expected at least 2 different rows"),
        ({"queries": [1, 40]}, "each from 0 to 39"),
        ({"images": torch.zeros(3, 3, 8, 8)}, "images: expected 40, one for each row of features; got 3"),
        ({"k": 0}, "k: expected an integer from 1 to 39"),
        ({"k": 40}, "k: expected an integer from 1 to 39"),
        ({"k": 2.5}, "k: expected an integer from 1 to 39"),
        ({"temperature": 0}, "expected a temperature above 0; got 0"),
        ({"temperature": math.nan}, "expected a temperature above 0; got nan"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(change, message):
    given = {"features": FEATURES, "labels": LABELS, "classes": CLASSES, "queries": QUERIES} | change
    with pytest.raises(ValueError, match=message):
        votes(**given)
