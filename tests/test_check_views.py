"""`check_views` has no equation to compare with: it asks a recipe for its properties, and names each known fault."""

import pytest
import torch
from answers.views import RIGHT_VIEWS, WRONG_VIEWS

from clbook import checks

SEEDS = 0, 3, 104_729


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("views", "phrase"), WRONG_VIEWS)
def test_wrong_views_are_rejected_with_their_own_diagnosis(views, phrase, seed):
    report = checks.check_views(views, seed=seed)
    assert report.verdict == "Not yet"
    assert phrase in report.text


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("views", RIGHT_VIEWS)
def test_right_views_are_accepted_and_leave_no_trace(views, seed):
    state = torch.get_rng_state()
    assert checks.check_views(views, seed=seed).require().message.startswith("Right: values ")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("blank", [None, ..., lambda *_: None, lambda *_: ..., lambda *_: (..., ...)])
def test_blank_views_are_not_started(blank):
    assert checks.check_views(blank).message.startswith("Not started: write the function that takes ")


def test_stub_that_raises_is_not_started():
    def views(batch, generator):
        raise NotImplementedError("your turn")

    assert checks.check_views(views).verdict == "Not started"


def test_views_in_place_of_the_function():
    assert "your function itself, not called; it was given a tuple" in checks.check_views((1, 2)).text


def test_the_steps_of_the_four_step_recipe_are_told_apart_by_their_clues():
    """The question of lab 1 has the answer that its key says, for each seed."""
    for seed in range(12):
        whole, part = checks.four_step_views(), checks.four_step_views(seed=seed)
        assert repr(whole).startswith("<function") and repr(part).startswith("<function")  # prints no answer
        ramp = torch.linspace(0.2, 0.8, 16).expand(64, 3, 16, 16)  # red, brighter from left to right
        view, _ = part(ramp * torch.tensor([1.0, 0.6, 0.4]).view(3, 1, 1), torch.Generator().manual_seed(seed))
        value = view.amax(1)  # [N, H, W]: no hue shift changes it
        slope = (value[:, 0, -1] / value[:, 0, 0]).log()  # [N]
        still = {
            "crop": slope.abs().max() - slope.abs().min() < 0.45,  # not 0, since values are clamped to 1
            "flip": bool((slope > 0).all()),
            "brightness": bool(value.mean((1, 2)).std() < 0.06),
            "hue": view.mean((2, 3)).argmax(1).unique().tolist() == [0],
        }
        assert [step for step, same in still.items() if same] == [checks.answers(seed)["left_out_step"]], still
