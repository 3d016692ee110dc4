"""The circle: its forces against autograd, its sentence against plain loops, its looks."""

import importlib
import math
import re

import numpy as np
import pytest
import torch

from clbook.explorers import base, circle

module = importlib.import_module("clbook.explorers.circle")  # the name in the package is the function
SENTENCE = re.compile(
    r"τ = ([\d.]+): the positive, (\d+)° from the anchor, takes (.+?) % of the weight and (.+?); negative 1, (\d+)° "
    r"away, takes (.+?) % and (.+?)\. The loss is ([\d.]+), (above|below) blind guessing \(log 6 = 1\.79\)\."
)


def by_autograd(degrees, tau):
    """Weights, loss and -dL/d(angle) of the candidates and of the anchor, from the loss alone."""
    angles = torch.tensor([0.0, *degrees], dtype=torch.float64).deg2rad().requires_grad_()
    points = torch.stack([angles.cos(), angles.sin()], 1)
    logits = points[1:] @ points[0] / tau
    loss = torch.nn.functional.cross_entropy(logits[None], torch.tensor([0]))
    (gradient,) = torch.autograd.grad(loss, angles)
    return logits.softmax(0).tolist(), loss.item(), (-gradient[1:]).tolist(), -gradient[0].item()


@pytest.mark.parametrize("tau", [0.05, 0.2, 1.0, 10.0])
@pytest.mark.parametrize("degrees", [(60, -35, -80, 120), (0, 5), (180, 90, 90), (15, 35, -125)])
def test_forces_are_the_derivatives_of_the_loss(degrees, tau):
    for found, expected in zip(module.forces(degrees, tau), by_autograd(degrees, tau), strict=True):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_what_pulls_the_candidates_pulls_the_anchor_the_other_way():
    _, _, pulls, own = module.forces((60, -35, -80, 120), 0.2)
    assert pulls.sum() + own == pytest.approx(0, abs=1e-12)
    assert pulls[0] < 0 < own  # the positive, at the left, is turned clockwise and the anchor towards it


EXPLORER = circle()


@pytest.mark.parametrize("tau", [0.01, 0.2, 10.0])
@pytest.mark.parametrize(("positive", "negative"), [(60, -35), (0, 175), (180, 20), (45, 45), (90, 0)])
def test_the_sentence_says_what_the_loss_computes(tau, positive, negative):
    sentence = EXPLORER._update(tau=tau, positive=float(positive), negative=float(negative))
    found = SENTENCE.fullmatch(sentence).groups()
    weights, loss, pulls, _ = by_autograd((positive, negative, *module.FIXED), tau)
    assert (float(found[0]), int(found[1]), int(found[4])) == (tau, positive, abs(negative))
    for share, text in (weights[0], found[2]), (weights[1], found[5]):
        assert text == ("under 1" if share < 0.01 else "over 99" if share > 0.99 else f"{100 * share:.0f}")
    for pull, text, closer in (pulls[0], found[3], "pulled closer"), (pulls[1], found[6], "pushed away"):
        if abs(pull) * tau < 0.005:
            assert text == "hardly moves"
        else:
            assert text == f"is {closer} ({abs(pull) * tau:.2f}/τ)"
    assert float(found[7]) == pytest.approx(loss, abs=0.0051)
    assert (found[8] == "above") == (loss > math.log(6))


def test_an_arrow_points_where_descent_goes_and_is_as_long_as_the_pull():
    EXPLORER.draw(tau=0.2, positive=60.0, negative=-35.0)
    plane = EXPLORER._figure.axes[0]
    arrows = [patch for patch in plane.patches if type(patch).__name__ == "FancyArrow"]
    _, _, pulls, own = module.forces((60, -35, *module.FIXED), 0.2)
    for arrow, angle, pull in zip(arrows, (60, -35, *module.FIXED, 0), (*pulls, own), strict=True):
        assert arrow.get_visible() == (abs(pull) * 0.2 >= 0.04)
        if arrow.get_visible():
            turn = math.radians(angle + module.ANCHOR)
            tangent = np.array([-math.sin(turn), math.cos(turn)]) * np.sign(pull)
            vertices = arrow.get_xy() @ tangent
            assert np.ptp(vertices) == pytest.approx(module.LONGEST * min(1, abs(pull) * 0.2))
            assert vertices.min() > 0  # it leaves the point, in the direction of the pull


def test_kinds_differ_by_more_than_their_colour():
    EXPLORER.draw()
    plane, weights, _ = EXPLORER._figure.axes
    assert [line.get_marker() for line in plane.lines][1:] == ["*", "D", "o", "o", "o", "o", "s"]
    assert [bar.get_hatch() for bar in weights.patches] == ["////", *[None] * 5]
    words = [text.get_text() for text in plane.texts]
    assert words == ["anchor", "positive", "1", "2", "3", "4", "5"]
    assert weights.get_yticklabels()[0].get_color() == base.POSITIVE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positive": -5}, "positive: expected degrees from the anchor, 0 to 180; got -5"),
        ({"positive": 181}, "0 to 180; got 181"),
        ({"positive": math.nan}, "0 to 180; got nan"),
        ({"negative": 180}, "negative: expected degrees from the anchor, -175 to 175; got 180"),
        ({"tau": 0}, "expected a temperature above 0; got 0"),
        ({"tau": math.inf}, "expected a temperature above 0; got inf"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        circle(**arguments)


def test_it_starts_where_it_is_told():
    assert circle(20, 100, tau=0.123).sentence.startswith("τ = 0.123: the positive, 20° from the anchor")
