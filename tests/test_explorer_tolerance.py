"""Uniformity against tolerance: the sentence and the picture say what the rows hold."""

import importlib
import re

import pytest

from clbook.explorers import tolerance

ROWS = importlib.import_module("clbook.explorers.tolerance").ROWS
EXPLORER = tolerance()
NUMBERS = re.compile(r"[−\d]*\d\.\d+|\d+ %")


@pytest.mark.parametrize("row", ROWS, ids=[f"{row[0]:g}" for row in ROWS])
def test_the_sentence_and_the_rings_say_what_was_measured(row):
    tau, knn, uniformity, same, others = row
    sentence, _ = EXPLORER.draw(tau=tau)
    assert sentence.startswith(f"τ = {tau:g}: uniformity {uniformity:.2f}".replace("-", "−"))
    assert NUMBERS.findall(sentence)[-3:] == [f"{same:.3f}", f"{others:.3f}", f"{100 * knn:.0f} %"]
    plane, scores = EXPLORER._figure.axes
    rings = [line for axes in (plane, scores) for line in axes.lines if line.get_markersize() == 13]
    assert [ring.get_xydata().tolist() for ring in rings] == [
        [[uniformity, same]],
        [[uniformity, others]],
        [[tau, knn]],
    ]
    assert f"gap {same - others:.3f}" in [text.get_text() for text in plane.texts]


def test_every_point_lies_inside_its_axes():
    plane, scores = EXPLORER._figure.axes
    for tau, knn, uniformity, same, others in ROWS:
        assert scores.get_ylim()[0] < knn < scores.get_ylim()[1] and scores.get_xlim()[0] < tau < scores.get_xlim()[1]
        assert plane.get_xlim()[0] < uniformity < plane.get_xlim()[1]
        assert plane.get_ylim()[0] < others < same < plane.get_ylim()[1]


def test_lines_differ_by_more_than_their_colour():
    one, two = EXPLORER._figure.axes[0].lines[:2]
    assert (one.get_marker(), one.get_linestyle()) == ("o", "-")
    assert (two.get_marker(), two.get_linestyle()) == ("s", "--")


def test_what_the_lesson_says_of_the_rows():
    taus, knn, uniformity, same, others = zip(*ROWS, strict=True)
    assert taus[knn.index(max(knn))] in (0.1, 0.2) and min(knn[3:5]) > max(knn[0], knn[-1]) + 0.15
    assert list(same) == sorted(same)
    assert list(uniformity[1:]) == sorted(uniformity[1:]) and uniformity[0] < uniformity[2]
    gaps = [a - b for a, b in zip(same, others, strict=True)]
    assert gaps.index(min(gaps)) == 0


@pytest.mark.parametrize("tau", [0.3, 0, -1, float("nan"), 100])
def test_only_a_measured_temperature_will_do(tau):
    with pytest.raises(ValueError, match=r"expected a temperature that was measured \(0.01, 0.02, 0.05, .*\); got"):
        tolerance(tau=tau)
    assert tolerance(tau=1).values == {"tau": 1}
