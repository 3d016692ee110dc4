"""The receptive-field explorer: what its sentence says, against pixels that are traced one by one."""

import re

import pytest
import torch

from clbook import models, plots
from clbook.explorers import base, receptive_field
from clbook.explorers.receptive_field import SIZES, resnet_places

SENTENCE = re.compile(r".*: after (.+) a (\d+)-px picture is (\d+) × \3 places?, (?:each|which) sees (\d+) px.*\.")
EXPLORER = receptive_field()


def layers_until(stage, stem, blocks):
    """(kernel, stride, padding) of every layer up to the end of a stage, written out."""
    layers = [(3, 1, 1)] if stem == "small" else [(7, 2, 3), (3, 2, 1)]
    for number in range(1, stage + 1):
        for block in range(blocks):
            layers += [(3, 2 if number > 1 and block == 0 else 1, 1), (3, 1, 1)]
    return layers


def places(size, layers):
    """Lay each kernel down until it sticks out."""
    for kernel, stride, padding in layers:
        size = len(range(-padding, size + padding - kernel + 1, stride))
    return size


def pixels_seen(layers):
    """Trace place 0 back: place i of a layer is made of i·s − p … i·s − p + k − 1 of the one below."""
    low = high = 0
    for kernel, stride, padding in reversed(layers):
        low, high = low * stride - padding, high * stride - padding + kernel - 1
    return high - low + 1


@pytest.mark.parametrize("stem", ["small", "imagenet"])
@pytest.mark.parametrize("blocks", [1, 2, 4])
@pytest.mark.parametrize("size", [16, 32, 160, 224])
@pytest.mark.parametrize("stage", range(5))
def test_the_sentence_says_what_tracing_finds(size, stem, blocks, stage):
    sentence = EXPLORER._update(size=size, stem=stem, blocks=blocks, stage=stage)
    where, picture, side, field = SENTENCE.fullmatch(sentence).groups()
    layers = layers_until(stage, stem, blocks)
    assert where == ("the stem" if stage == 0 else f"stage {stage}") and int(picture) == size
    assert int(side) == places(size, layers) and int(field) == pixels_seen(layers)
    assert ("times the picture's side" in sentence) == (int(field) > 1.05 * size)
    assert f"{blocks} block{'s' * (blocks > 1)} a stage" in sentence


@pytest.mark.parametrize("stem", ["small", "imagenet"])
def test_the_field_is_the_support_of_the_gradient(stem):
    """Ones everywhere, so that no influence cancels: whichever pixel has a gradient is seen."""
    row, x = 3, torch.zeros(1, 1, 640, requires_grad=True)
    y = x
    for kernel, stride, padding in layers_until(row, stem, 1):
        y = torch.conv1d(y, torch.ones(1, 1, kernel), stride=stride, padding=padding)
    seen = torch.autograd.grad(y[0, 0, y.shape[-1] // 2], x)[0][0, 0].nonzero()
    side, jump, field = resnet_places(640, stem, 1)[row]
    assert y.shape[-1] == side and seen.max() - seen.min() + 1 == field
    assert (seen.max() + seen.min()) / 2 == side // 2 * jump  # where the picture's frame is drawn


@pytest.mark.parametrize("stem", models.STEMS)
def test_the_sides_are_those_of_the_resnet18_of_clbook(stem):
    with torch.device("meta"):
        network, x, found = models.build("resnet18", stem=stem), torch.zeros(1, 3, 96, 96), []
    x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    found.append(x.shape[-1])
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = stage(x)
        found.append(x.shape[-1])
    assert found == [side for side, _, _ in resnet_places(96, stem, 2)]


def test_known_fields():
    assert [field for _, _, field in resnet_places(224, "imagenet", 2)] == [11, 43, 99, 211, 435]  # ResNet-18
    assert [side for side, _, _ in resnet_places(224, "imagenet", 2)] == [56, 56, 28, 14, 7]  # He 2016, table 1
    assert receptive_field().sentence == (
        "7×7, stride 2 + pool, 2 blocks a stage: after stage 4 a 32-px picture is 1 × 1 place, which sees 435 px: 13.6 "
        "times the picture's side, padding included."
    )


def test_the_frame_is_as_large_as_the_field():
    explorer = receptive_field()
    for size in SIZES:
        explorer.draw(size=size, stem="small", stage=2)
        (frame,) = explorer._figure.axes[0].patches
        side, jump, field = resnet_places(size, "small", 2)[2]
        assert frame.get_width() * size == pytest.approx(field)
        assert (frame.get_x() + frame.get_width() / 2) * size == pytest.approx(side // 2 * jump + 0.5)


def test_places_and_fields_differ_by_more_than_their_colour():
    lines = [line for line in EXPLORER._figure.axes[1].lines if len(line.get_xdata()) == 5]
    assert [line.get_marker() for line in lines] == ["o", "s"]
    assert {base.POSITIVE, base.NEGATIVE, base.THIRD} <= set(plots.PALETTE)
    assert EXPLORER._figure.axes[0].patches[0].get_hatch() == "//"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size: expected an integer of at least 1; got 0"),
        ({"size": 32.0}, "size: expected an integer of at least 1; got 32.0"),
        ({"size": 33}, "expected a size of 16, 24, .* got 33"),
        ({"stem": "big"}, "stem: expected one of small, imagenet; got 'big'"),
        ({"blocks": True}, "blocks: expected an integer of at least 1; got True"),
        ({"blocks": 5}, "1 to 4 blocks; got 32 and 5"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        receptive_field(**options)


def test_a_resnet_may_have_any_first_setting():
    explorer = receptive_field(64, stem="small", blocks=1)
    assert explorer.values == {"size": 64, "stem": "small", "blocks": 1, "stage": 4}
