"""The views explorer: its sentence against numbers counted anew, its views against the steps they are made of."""

import itertools
import re

import pytest
import torch
from PIL import Image

from clbook import augmentations, datasets
from clbook.explorers import views
from clbook.explorers.views import GENTLE, PICTURES, SETTINGS, START, _measure, _pictures, _uniform, two_views

SENTENCE = re.compile(
    r"The two views of a picture share (under 1|over 99|\d+) % of its area\. Their mean colours differ by "
    r"(\d\.\d\d), those of different pictures by (\d\.\d\d): by mean colour alone, (\d+) of (\d+) views find their "
    r"partner among (\d+) \(blindly: (\d\.\d)\)\."
)
LOW = {name: 0.05 if name == "crop" else 0.0 for name in START}
HIGH = {**dict.fromkeys(START, 1.0), "rotation": 90.0, "hue": 0.5, "blur": 3.0}


@pytest.fixture(scope="module")
def explorer():
    return views()


@pytest.fixture(scope="module")
def scenes():
    return _pictures(None, None, 0)


@pytest.mark.parametrize("setting", [START, GENTLE, HIGH, LOW, START | {"crop": 0.3, "gray": 1.0}])
def test_the_sentence_says_what_a_loop_counts(explorer, scenes, setting):
    first, second, boxes = two_views(scenes, _uniform(len(scenes), 0), **setting)
    side, n = scenes.shape[-1], len(scenes)
    area = 0
    for one, other in zip(*boxes.tolist(), strict=True):
        pixels = [{(y, x) for y in range(t, t + h) for x in range(c, c + w)} for t, c, h, w in (one, other)]
        area += len(pixels[0] & pixels[1]) / side**2 / n
    means = [[channel.mean().item() for channel in view] for view in [*first, *second]]

    def apart(i, k):
        return sum(abs(a - b) for a, b in zip(means[i], means[k], strict=True)) / 3

    own = [apart(i, (i + n) % (2 * n)) for i in range(2 * n)]
    others = [[apart(i, k) for k in range(2 * n) if k % n != i % n] for i in range(2 * n)]
    found = sum(mine < min(rest) for mine, rest in zip(own, others, strict=True))
    told = SENTENCE.fullmatch(explorer.draw(**setting)[0]).groups()
    assert told[0] == ("under 1" if area < 0.01 else "over 99" if area > 0.99 else f"{100 * area:.0f}")
    assert float(told[1]) == pytest.approx(sum(own) / len(own), abs=0.0051)
    assert float(told[2]) == pytest.approx(sum(map(sum, others)) / sum(map(len, others)), abs=0.0051)
    assert [int(number) for number in told[3:6]] == [found, 10, 9] and told[6] == "1.1"


def test_every_corner_of_all_nine_sliders_gives_pictures_and_numbers(scenes):
    uniform = _uniform(len(scenes), 0)
    for values in itertools.product(*zip(LOW.values(), HIGH.values(), strict=True)):
        first, second, boxes = two_views(scenes, uniform, **dict(zip(START, values, strict=True)))
        assert first.shape == second.shape == scenes.shape
        for view in (first, second):
            augmentations.check_pictures(view)  # finite, in [0, 1]
        assert all(0 <= number <= 10 for number in _measure(first, second, boxes, scenes.shape[-1]).values())


def test_without_any_change_the_views_are_the_picture(scenes):
    first, second, _ = two_views(scenes, _uniform(len(scenes), 0), **GENTLE | {"crop": 1.0})
    square = two_views(scenes, torch.full((2, 11, len(scenes)), 0.5), **GENTLE)
    for view in square[:2]:  # the draw 0.5 leaves the aspect alone
        torch.testing.assert_close(view, scenes, atol=1e-5, rtol=0)
    assert first.shape == second.shape == scenes.shape


def test_a_slider_scales_its_draw_and_touches_no_other(scenes):
    """One step at a time, from the uniform numbers: the view is clbook's operation with these parameters."""
    u = _uniform(len(scenes), 3)
    u[:, :4] = 0.5  # the whole picture, of its own shape
    swing = 2 * u[0] - 1
    expected = {
        "flip": (0.6, augmentations.horizontal_flip(scenes, u[0, 4] < 0.6)),
        "rotation": (40.0, augmentations.rotate(scenes, 40 * swing[5])),
        "brightness": (0.7, augmentations.adjust_brightness(scenes, 1 + 0.7 * swing[6])),
        "contrast": (0.7, augmentations.adjust_contrast(scenes, 1 + 0.7 * swing[7])),
        "saturation": (0.7, augmentations.adjust_saturation(scenes, 1 + 0.7 * swing[8])),
        "hue": (0.3, augmentations.adjust_hue(scenes, 0.3 * swing[9])),
        "blur": (1.5, augmentations.gaussian_blur(scenes, 1.5, kernel_size=13)),
    }
    for name, (strength, wanted) in expected.items():
        view = two_views(scenes, u, **GENTLE | {name: strength})[0]
        torch.testing.assert_close(view, wanted, atol=1e-4, rtol=0)
        assert (view - scenes).abs().mean() > 0.005, name
    gray = two_views(scenes, u, **GENTLE | {"gray": 0.5})[0]
    for image, before, number in zip(gray, scenes, u[0, 10], strict=True):
        assert torch.equal(image[0], image[1]) == (number < 0.5).item() or torch.equal(before[0], before[1])


def test_smaller_crops_lie_inside_and_share_less(scenes):
    uniform, shared = _uniform(5, 1), []
    for crop in (1.0, 0.6, 0.2, 0.05):
        first, second, boxes = two_views(scenes, uniform, **GENTLE | {"crop": crop})
        assert (boxes >= 0).all() and (boxes[..., :2] + boxes[..., 2:] <= 16).all() and (boxes[..., 2:] >= 1).all()
        shared.append(_measure(first, second, boxes, 16)["shared"])
    assert shared == sorted(shared, reverse=True) and shared[0] > 0.7 > 0.5 > shared[-1]


def test_colour_gives_the_partner_away_until_it_is_hidden(explorer):
    found = [int(SENTENCE.fullmatch(explorer.draw(**setting)[0])[4]) for setting in SETTINGS]
    assert found[0] == 10 and found[0] > found[1] > found[2]


def test_pictures_of_any_kind_are_shown():
    generator = torch.Generator().manual_seed(0)
    photos = torch.randint(256, (7, 3, 90, 130), dtype=torch.uint8, generator=generator)
    shown = _pictures(photos, None, 0)
    assert shown.shape == (PICTURES, 3, 64, 64) and shown.dtype == torch.float32
    assert "of 10 views" in views(photos).sentence
    small = torch.rand(2, 3, 9, 8, generator=generator).requires_grad_()
    explorer = views(small)
    assert _pictures(small, None, 0).shape == (2, 3, 8, 8)
    assert "of 4 views find their partner among 3 (blindly: 1.3)" in explorer.sentence
    assert explorer.draw(**HIGH)[1].shape == views().draw()[1].shape
    assert torch.equal(_pictures(small[:, :, :8], None, 0), small[:, :, :8].detach())


def test_a_folder_of_ones_own(tmp_path):
    for i in range(4):
        Image.new("RGB", (80 + i, 60), (60 * i, 255 - 60 * i, 90)).save(tmp_path / f"{i}.png")
    explorer = views(folder=tmp_path)
    assert "of 8 views" in explorer.sentence
    assert explorer.sentence == views(folder=str(tmp_path)).sentence


def test_of_a_large_folder_only_what_is_shown_is_read(tmp_path, monkeypatch):
    for i in range(60):
        Image.new("RGB", (20, 20), (4 * i, 255 - 4 * i, 90)).save(tmp_path / f"{i}.png")
    read, true_read = [], datasets._read_picture
    monkeypatch.setattr(datasets, "_read_picture", lambda file, size: read.append(file) or true_read(file, size))
    assert "of 10 views" in views(folder=tmp_path).sentence and len(read) == PICTURES


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"images": torch.rand(3, 3, 8, 8), "folder": "x"}, ValueError, "expected `images` or `folder`.*got both"),
        ({"images": torch.rand(1, 3, 8, 8)}, ValueError, "at least 2 RGB pictures.*got 1 with 3 channels"),
        ({"images": torch.rand(3, 1, 8, 8)}, ValueError, "got 3 with 1 channels"),
        ({"images": torch.rand(3, 8, 8)}, ValueError, r"expected a batch \[N, C, H, W\]"),
        ({"images": 255 * torch.rand(3, 3, 8, 8)}, ValueError, r"expected float values in \[0, 1\]"),
        ({"images": [[1]]}, TypeError, "expected a tensor"),
        ({"folder": "/nowhere/at/all"}, ValueError, "does not exist"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        views(**arguments)


def test_the_same_seed_the_same_draws():
    assert views(seed=4).sentence == views(seed=4).sentence != views(seed=5).sentence
