"""Encoders: plain torch modules that outlive this package."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from clbook import models
from clbook.models import ProjectionHead, build, evaluating, feature_dim, small


@pytest.fixture(autouse=True)
def the_same_weights_every_time():
    torch.manual_seed(0)


def pictures(n=4, height=32, width=32):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0))


def by_hand(width):
    """`small` as someone without this package would write it down."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.Conv2d(2 * width, 4 * width, 3, 2, 1, bias=False), nn.BatchNorm2d(4 * width), nn.ReLU(),
        nn.Conv2d(4 * width, 8 * width, 3, 2, 1, bias=False), nn.BatchNorm2d(8 * width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


@pytest.mark.parametrize("width", [1, 6, 32])
def test_small_loads_into_a_hand_written_network(width):
    encoder = small(width)
    encoder(pictures())  # running statistics that aren't the initial ones
    file = io.BytesIO()
    torch.save(encoder.state_dict(), file)
    file.seek(0)
    other = by_hand(width)
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    for training in (True, False):
        assert torch.equal(encoder.train(training)(pictures()), other.train(training)(pictures()))
    assert type(encoder) is nn.Sequential
    assert all(type(part).__module__.startswith("torch.") for part in encoder.modules())


@pytest.mark.parametrize(("height", "width"), [(32, 32), (8, 8), (1, 1), (33, 20), (64, 96)])
def test_small_takes_any_picture_size(height, width):
    features = small(4).eval()(pictures(2, height, width))
    assert features.shape == (2, 32) and features.isfinite().all() and (features >= 0).all()


def test_features_tell_pictures_apart_and_gradients_arrive_everywhere():
    encoder = small(8)
    features = encoder(pictures())
    assert (torch.pdist(features) > 1e-3).all()
    features.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_build_makes_what_its_function_makes_anew_each_time():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = build("small", width=4), build("small", width=4)
        torch.manual_seed(0)
        again = small(width=4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first[0].weight, second[0].weight)
    assert build("small")[0].out_channels == 32


def test_unknown_models_are_answered_with_the_nearest():
    for close in ("smal", "Small", "smaller"):
        with pytest.raises(ValueError, match=rf"expected one of small; got '{close}'\. Did you mean 'small'\?"):
            build(close)
    with pytest.raises(ValueError, match=r"expected one of small; got 'resnet9000'$"):
        build("resnet9000")


# --- evaluating, feature_dim ---


def frozen_in_part():
    """A module in training mode with one batch-norm in evaluation mode, as fine-tuning may leave it."""
    encoder = small(2).train()
    encoder[1].eval()
    return encoder


def modes(module):
    return [part.training for part in module.modules()]


def test_evaluating_gives_every_part_its_mode_back():
    encoder = frozen_in_part()
    before = modes(encoder)
    with evaluating(encoder) as same:
        assert same is encoder and not any(modes(encoder))
    assert modes(encoder) == before
    with pytest.raises(KeyError), evaluating(encoder):
        raise KeyError
    assert modes(encoder) == before


@pytest.mark.parametrize("encoder", [small(1), small(5), nn.Flatten(), nn.Sequential(nn.Flatten(), nn.Linear(3072, 7))])
def test_feature_dim_is_the_width_of_the_features(encoder):
    assert feature_dim(encoder) == encoder.eval()(pictures()).shape[1]


def test_feature_dim_leaves_no_trace():
    encoder = frozen_in_part()
    before, state, random = modes(encoder), copy.deepcopy(encoder.state_dict()), torch.get_rng_state()
    assert feature_dim(encoder) == 16
    assert feature_dim(nn.Flatten(), image_size=8) == 3 * 8 * 8
    assert modes(encoder) == before
    assert all(torch.equal(v, state[k]) for k, v in encoder.state_dict().items())  # batch statistics included
    assert torch.equal(random, torch.get_rng_state())
    assert not modes(small(1).eval())[0] and feature_dim(small(1).double()) == 8


def test_feature_dim_restores_the_mode_when_the_encoder_fails():
    encoder = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(5, 5)).train()
    with pytest.raises(RuntimeError):
        feature_dim(encoder)
    assert all(modes(encoder))


# --- the head ---


def test_projection_head_is_linear_norm_relu_linear():
    head = ProjectionHead(6, hidden_dim=5, out_dim=3)
    h = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    (w1, scale, shift, w2, b2) = head.parameters()
    assert [p.shape for p in (w1, scale, shift, w2, b2)] == [(5, 6), (5,), (5,), (3, 5), (3,)]
    hidden = h @ w1.T
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt() * scale + shift
    torch.testing.assert_close(head(h), F.relu(hidden) @ w2.T + b2)


def test_projection_head_has_simclrs_sizes():
    assert ProjectionHead(16)(torch.rand(4, 16)).shape == (4, 128)
    assert ProjectionHead(16)[0].out_features == 256


# --- bad input ---

BAD = {
    "small": [((width,), {}, f"width: expected an integer of at least 1, got {width!r}") for width in (0, -1, 2.0, "")],
    "build": [
        (("big",), {}, "model: expected one of small; got 'big'"),
        ((None,), {}, "got None"),
        (("small",), {"width": 0}, "width: expected an integer of at least 1, got 0"),
    ],
    "feature_dim": [((nn.Identity(),), {}, "encoder: expected features [N, D], got [1, 3, 32, 32] for one picture")],
    "ProjectionHead": [
        ((0,), {}, "in_dim: expected an integer of at least 1, got 0"),
        ((4, -1), {}, "hidden_dim: expected an integer of at least 1, got -1"),
        ((4, 4, 2.5), {}, "out_dim: expected an integer of at least 1, got 2.5"),
    ],
}


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in BAD for case in BAD[name]])
def test_bad_input_says_what_was_expected_and_what_came(name, case):
    arguments, options, words = case
    with pytest.raises(ValueError, match=r"expected[\s\S]*got") as error:
        getattr(models, name)(*arguments, **options)
    assert words in str(error.value)


def test_every_public_function_is_in_the_table_of_bad_input():
    ours = {n for n, f in vars(models).items() if getattr(f, "__module__", "") == models.__name__}
    assert set(BAD) == {name for name in ours if not name.startswith("_")} - {"evaluating"}  # it takes modules only
