"""Each step against torchvision's, picture by picture with the same parameters; each random one for what it must do."""

import colorsys
import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as TF

from clbook import augmentations
from clbook.augmentations import (
    TwoViews,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    color_jitter,
    horizontal_flip,
    random_grayscale,
    random_horizontal_flip,
    random_resized_crop,
    random_rotation,
    resized_crop,
    rgb_to_gray,
    rotate,
    to_float,
)

few_examples = settings(derandomize=True, deadline=None, max_examples=25, database=None)
PICTURE_SIZES = [(1, 1), (1, 9), (7, 5), (32, 32), (5, 40)]  # height, width


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n=6, size=(9, 7), channels=3, seed=0):
    """uint8 noise; the first four are black, white, gray and pure colours, where hue and its ties are delicate."""
    images = torch.randint(0, 256, (n, channels, *size), generator=generator(seed), dtype=torch.uint8)
    images[:1] = 0
    images[1:2] = 255
    images[2:3] = images[2:3, :1]
    images[3:4] = images[3:4] // 128 * 255
    return images


def one_by_one(operation, images, *parameters):
    """torchvision's operation on each picture by itself."""
    return torch.stack([operation(image, *p) for image, *p in zip(images, *parameters, strict=True)])


def same(got, expected, close=1e-5):
    torch.testing.assert_close(got, expected, rtol=0, atol=close)


# --- geometry against torchvision ---


def some_boxes(n, height, width):
    """Top, left, height, width of n boxes: the whole, single pixels in the corners, then any."""
    u = torch.rand(n, 4, generator=generator(1))
    h, w = (1 + u[:, 0] * height).floor(), (1 + u[:, 1] * width).floor()
    boxes = torch.stack([(u[:, 2] * (height - h + 1)).floor(), (u[:, 3] * (width - w + 1)).floor(), h, w], 1).long()
    boxes[0] = torch.tensor([0, 0, height, width])
    boxes[1] = torch.tensor([0, 0, 1, 1])
    boxes[2] = torch.tensor([height - 1, width - 1, 1, 1])
    return boxes


@pytest.mark.parametrize("picture_size", PICTURE_SIZES)
@pytest.mark.parametrize("size", [1, 4, 13, 32, 45])
@pytest.mark.parametrize("channels", [1, 3])
def test_resized_crop_equals_torchvision(picture_size, size, channels):
    images = pictures(12, picture_size, channels)
    boxes = some_boxes(12, *picture_size)
    floats = images.float() / 255
    expected = one_by_one(
        lambda image, box: TF.resized_crop(image, *box, [size, size], InterpolationMode.BILINEAR, antialias=True),
        floats, boxes.tolist())  # fmt: skip
    same(resized_crop(images, boxes, size), expected)
    same(resized_crop(floats.double(), boxes, size), expected.double())
    flips = torch.arange(12) % 3 == 0
    mirrored = torch.where(flips[:, None, None, None], TF.hflip(expected), expected)
    same(resized_crop(images, boxes.float(), size, flips), mirrored)


def test_resized_crop_sees_nothing_outside_its_box():
    images = torch.ones(1, 1, 8, 8)
    images[:, :, 2:5, 3:7] = 0.25
    for size in (1, 2, 3, 8, 20):
        same(resized_crop(images, torch.tensor([[2, 3, 3, 4]]), size), torch.full((1, 1, size, size), 0.25))


@pytest.mark.parametrize("picture_size", PICTURE_SIZES)
@pytest.mark.parametrize("degrees", [0, 90, 180, 270, 360, -37.5, 11.0, 45])
def test_rotate_equals_torchvision(picture_size, degrees):
    images = pictures(5, picture_size).float() / 255
    expected = TF.rotate(images, degrees, InterpolationMode.BILINEAR)
    same(rotate(images, degrees), expected)
    same(rotate(images, torch.full((5,), degrees)), expected)


def test_rotate_takes_an_angle_for_each_picture():
    images, degrees = pictures(6, (12, 17)), torch.tensor([0, 20, -100, 200.5, 90, 359])
    expected = one_by_one(lambda i, d: TF.rotate(i, d, InterpolationMode.BILINEAR), images / 255, degrees.tolist())
    same(rotate(images, degrees), expected)


def test_a_quarter_turn_is_anticlockwise():
    images = pictures(4, (6, 6))
    same(rotate(images, 90), torch.rot90(images / 255, 1, (2, 3)))


def test_horizontal_flip_equals_torchvision():
    images, flips = pictures(6), torch.tensor([True, False, True, True, False, True])
    expected = one_by_one(lambda i, f: TF.hflip(i) if f else i, images / 255, flips)
    assert torch.equal(horizontal_flip(images, flips), expected)
    assert torch.equal(horizontal_flip(images[:, :1], flips), expected[:, :1])


# --- colour against torchvision ---

COLOUR = {
    adjust_brightness: (TF.adjust_brightness, [0, 0.3, 0.9, 1, 1.4, 3]),
    adjust_contrast: (TF.adjust_contrast, [0, 0.3, 0.9, 1, 1.4, 3]),
    adjust_saturation: (TF.adjust_saturation, [0, 0.3, 0.9, 1, 1.4, 3]),
    adjust_hue: (TF.adjust_hue, [-0.5, -0.21, 0, 0.1, 1 / 3, 0.5]),
}


@pytest.mark.parametrize("operation", COLOUR)
@pytest.mark.parametrize("picture_size", PICTURE_SIZES)
def test_colour_equals_torchvision(operation, picture_size):
    theirs, factors = COLOUR[operation]
    images = pictures(8, picture_size)
    for dtype in (torch.float32, torch.float64):
        floats = images.to(dtype) / 255
        for factor in factors:
            same(operation(floats, factor), theirs(floats, factor))
        different = torch.tensor([*factors, *factors])[:8]
        expected = one_by_one(theirs, floats, different.tolist())
        same(operation(floats, different), expected)
    in_bytes = one_by_one(theirs, images, different.tolist()) / 255  # torchvision rounds down on the way
    same(operation(images, different), in_bytes, 2 / 255)


def test_rgb_to_gray_equals_torchvision():
    images = pictures()
    same(rgb_to_gray(images), TF.rgb_to_grayscale(images / 255), 1e-6)
    assert rgb_to_gray(images).shape == (6, 1, 9, 7)


@few_examples
@given(st.tuples(*[st.integers(0, 255)] * 3), st.floats(-0.5, 0.5, width=32))
def test_hue_equals_the_colorsys_module(rgb, shift):
    h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in rgb))
    expected = torch.tensor(colorsys.hsv_to_rgb((h + shift) % 1, s, v))
    same(adjust_hue(torch.tensor(rgb, dtype=torch.uint8).view(1, 3, 1, 1), shift).flatten(), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_pictures_are_computed_in_float32(dtype):
    images = (pictures(6, (200, 180)) / 255).to(dtype)
    boxes = some_boxes(6, 200, 180)
    for operation in (
        lambda x: adjust_hue(x, 0.1),  # gray pictures would be NaN in float16
        lambda x: rotate(x, 30),
        lambda x: resized_crop(x, boxes, 32),
    ):
        assert torch.equal(operation(images), operation(images.float()))


def test_to_float_divides_bytes_by_255():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_float(images).flatten(), torch.arange(256) / 255)
    assert to_float(images).dtype == torch.float32
    for dtype, kept in ((torch.float32, torch.float32), (torch.float64, torch.float64), (torch.float16, torch.float32)):
        assert to_float(torch.rand(1, 1, 2, 2).to(dtype)).dtype == kept


# --- the random steps ---

VIEW = TwoViews(size=9, rotation=10)
RANDOM = {
    "random_resized_crop": lambda x, g=None: random_resized_crop(x, 9, flip=0.5, generator=g),
    "random_horizontal_flip": lambda x, g=None: random_horizontal_flip(x, generator=g),
    "random_rotation": lambda x, g=None: random_rotation(x, 90, generator=g),
    "color_jitter": lambda x, g=None: color_jitter(x, generator=g),
    "brightness": lambda x, g=None: color_jitter(x, contrast=0, saturation=0, hue=0, generator=g),
    "contrast": lambda x, g=None: color_jitter(x, brightness=0, saturation=0, hue=0, generator=g),
    "saturation": lambda x, g=None: color_jitter(x, brightness=0, contrast=0, hue=0, generator=g),
    "hue": lambda x, g=None: color_jitter(x, brightness=0, contrast=0, saturation=0, generator=g),
    "random_grayscale": lambda x, g=None: random_grayscale(x, 0.5, generator=g),
    "TwoViews": lambda x, g=None: VIEW(x, g)[1],
}
every_random_step = pytest.mark.parametrize("step", RANDOM.values(), ids=RANDOM)


@every_random_step
def test_range_shape_and_type(step):
    images = pictures(150)
    for picture in (images, images.float() / 255, images.double() / 255, (images / 255).half()):
        view = step(picture, generator())
        assert view.shape[:2] == (150, 3) and view.shape[2] == 9 and view.isfinite().all()
        assert view.dtype == (torch.float64 if picture.dtype == torch.float64 else torch.float32)
        assert view.min() >= 0 and view.max() <= 1 and view.max() > 0.5
    same(step(images, generator()), step(images / 255, generator()))


@every_random_step
def test_one_batch_of_one_picture_gives_different_views(step):
    """One set of parameters for the whole batch would give the same view of every copy."""
    images = pictures(20, (9, 9))[-1:].expand(100, -1, -1, -1)
    views = step(images, generator())
    changed = (views - images / 255).abs().flatten(1).amax(1) > 1e-3
    kinds = len(torch.unique(views.flatten(1), dim=0))
    if step in (RANDOM["random_horizontal_flip"], RANDOM["random_grayscale"]):  # either done or not
        assert kinds == 2 and 30 < changed.sum() < 70
    else:
        assert kinds > 70 and changed.sum() > 90  # two of a hundred small crops may well be the same


@every_random_step
def test_seed_decides_the_views_and_global_random_numbers_stay(step):
    images = pictures(100)
    state = torch.get_rng_state()
    first, again, other = step(images, generator(1)), step(images, generator(1)), step(images, generator(2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, again) and not torch.equal(first, other)
    drawing = generator(1)
    step(images, drawing)
    assert not torch.equal(step(images, drawing), first)  # the generator moves on


@every_random_step
def test_without_a_generator_the_global_seed_decides(step):
    images = pictures(100)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        first = step(images)
        assert not torch.equal(step(images), first)
        torch.manual_seed(5)
        assert torch.equal(step(images), first)


@every_random_step
def test_input_is_never_changed(step):
    for images in (pictures(100), pictures(100) / 255):
        before = images.clone()
        view = step(images, generator())
        assert torch.equal(images, before)
        view.zero_()
        assert torch.equal(images, before)  # the view has memory of its own


@every_random_step
def test_a_view_depends_on_its_own_picture_only(step):
    """150 pictures go through the colour steps in three blocks; none may see another."""
    images, others = pictures(150, seed=1), pictures(150, seed=2)
    view = step(images, generator())
    for i in (0, 5, 63, 64, 100, 128, 149):
        mixed = others.clone()
        mixed[i] = images[i]
        same(step(mixed, generator())[i], view[i], 1e-6)


def test_probability_zero_never_and_one_always():
    images = pictures(80)
    floats = images / 255
    assert torch.equal(random_horizontal_flip(images, 0.0), floats)
    assert torch.equal(random_horizontal_flip(images, 1.0), floats.flip(3))
    assert torch.equal(random_grayscale(images, 0.0), floats)
    same(random_grayscale(images, 1.0), rgb_to_gray(images).expand(-1, 3, -1, -1))
    assert torch.equal(color_jitter(images, p=0.0), floats)
    assert torch.equal(color_jitter(images, brightness=0, contrast=0, saturation=0, hue=0), floats)
    same(random_rotation(images, 0.0), floats)
    square = pictures(80, (8, 8))
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    same(random_resized_crop(square, 8, **whole), square / 255)
    same(random_resized_crop(square, 8, **whole, flip=1.0), square.flip(3) / 255)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_probabilities_are_met(p):
    n = 4000
    images = torch.tensor([[0.9, 0.0], [0.4, 0.1], [0.2, 0.3]]).view(1, 3, 1, 2).expand(n, -1, -1, -1)
    tolerance = 4 * math.sqrt(p * (1 - p) / n)  # four standard deviations
    for step in (
        lambda x: random_horizontal_flip(x, p, generator=generator()),
        lambda x: random_grayscale(x, p, generator=generator()),
        lambda x: color_jitter(x, p=p, generator=generator()),
        lambda x: resized_crop_flips(x, p),
    ):
        share = (step(images) != images).flatten(1).any(1).float().mean().item()
        assert share == pytest.approx(p, abs=tolerance)


def resized_crop_flips(images, p):
    wide = images.repeat_interleave(2, 2)  # square, so that only the mirror changes it
    return random_resized_crop(wide, 2, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=p, generator=generator())[:, :, :1]


# --- crops: where, how large ---


def boxes_drawn(monkeypatch, picture_size, n=3000, **options):
    """The boxes [n, 4] that random_resized_crop asks for."""
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(augmentations, "resized_crop", lambda images, boxes, size, flips: asked.append(boxes))
        random_resized_crop(torch.zeros(n, 1, *picture_size), 8, generator=generator(), **options)
    return asked[0]


def boxes_of_torchvision(picture_size, n=3000, scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3)):
    image = torch.zeros(1, *picture_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.tensor([RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(n)]).float()


@pytest.mark.parametrize(
    ("picture_size", "options"),
    [
        ((64, 64), {}),
        ((64, 64), {"scale": (0.05, 0.4), "ratio": (0.5, 3.0)}),
        ((40, 90), {"scale": (0.3, 0.9)}),
        ((90, 40), {}),
    ],
)
def test_crops_are_distributed_as_torchvision_draws_them(monkeypatch, picture_size, options):
    height, width = picture_size
    boxes = boxes_drawn(monkeypatch, picture_size, **options)
    top, left, h, w = boxes.unbind(1)
    assert torch.equal(boxes, boxes.round()) and (h >= 1).all() and (w >= 1).all()
    assert (top >= 0).all() and (left >= 0).all() and (top + h <= height).all() and (left + w <= width).all()

    low, high = options.get("scale", (0.2, 1.0))
    narrow, wide = options.get("ratio", (3 / 4, 4 / 3))
    rounding = 0.5 * (h + w + 1)  # both sides are rounded to whole pixels
    assert (h * w >= low * height * width - rounding).all() and (h * w <= high * height * width + rounding).all()
    assert ((w + 0.5) / (h - 0.5) >= narrow).all() and ((w - 0.5) / (h + 0.5) <= wide).all()

    theirs = boxes_of_torchvision(picture_size, **options)
    for ours, expected, span in (
        (h * w, theirs[:, 2] * theirs[:, 3], height * width),
        ((w / h).log(), (theirs[:, 3] / theirs[:, 2]).log(), 1),
        (top, theirs[:, 0], height),
        (left, theirs[:, 1], width),
    ):
        at = torch.linspace(0.02, 0.98, 25)
        assert (ours.quantile(at) - expected.quantile(at)).abs().max() < 0.05 * span


def test_every_place_is_as_likely_and_rows_do_not_follow_columns(monkeypatch):
    top, left, h, w = boxes_drawn(monkeypatch, (8, 8), 6000).unbind(1)
    for start, length in ((top, h), (left, w)):
        for side in (4, 5, 7):
            counts = start[length == side].long().bincount()
            assert len(counts) == 8 - side + 1 and counts.max() < 1.3 * counts.min()
    places = torch.stack([top / (8 - h), left / (8 - w), w / h])[:, (h < 8) & (w < 8)]
    assert (torch.corrcoef(places) - torch.eye(3)).abs().max() < 0.06


@pytest.mark.parametrize(
    ("picture_size", "ratio"), [((4, 40), (3 / 4, 4 / 3)), ((40, 4), (3 / 4, 4 / 3)), ((5, 31), (0.5, 0.9))]
)
def test_where_no_draw_fits_the_largest_centred_box_is_taken(monkeypatch, picture_size, ratio):
    options = {"scale": (1.0, 1.0), "ratio": ratio}
    boxes = boxes_drawn(monkeypatch, picture_size, 50, **options)
    assert torch.equal(boxes, boxes_of_torchvision(picture_size, 50, **options))
    assert len(boxes.unique(dim=0)) == 1


@pytest.mark.parametrize(
    ("picture_size", "ratio"), [((1, 10), (0.3, 0.4)), ((10, 1), (2.5, 3.0)), ((1, 1), (0.1, 9.0))]
)
def test_a_box_has_at_least_one_pixel(monkeypatch, picture_size, ratio):
    boxes = boxes_drawn(monkeypatch, picture_size, 50, ratio=ratio)
    assert boxes[:, 2:].min() >= 1
    assert random_resized_crop(pictures(50, picture_size), 4, ratio=ratio).isfinite().all()


# --- colour jitter: factors and their order ---


def test_factors_fill_their_ranges():
    n = 3000
    flat = torch.full((n, 3, 1, 1), 0.5)
    factor = color_jitter(flat, brightness=0.4, contrast=0, saturation=0, hue=0, generator=generator())[:, 0, 0, 0] * 2
    assert 0.6 <= factor.min() < 0.61 and 1.39 < factor.max() <= 1.4 and factor.mean() == pytest.approx(1, abs=0.02)

    dark = flat / 4
    factor = color_jitter(dark, brightness=3, contrast=0, saturation=0, hue=0, generator=generator())[:, 0, 0, 0] * 8
    assert 0 <= factor.min() < 0.01 and 3.98 < factor.max() <= 4
    assert (factor == 0).sum() < 10  # drawn from 0 up: no third of them below it and clamped

    steps = torch.tensor([0.45, 0.55]).view(1, 1, 1, 2).expand(n, 3, 1, 2)
    view = color_jitter(steps, brightness=0, contrast=0.4, saturation=0, hue=0, generator=generator())
    factor = (view[..., 1] - view[..., 0])[:, 0, 0] / 0.1
    assert 0.599 <= factor.min() < 0.61 and 1.39 < factor.max() <= 1.401

    colour = torch.tensor([0.55, 0.45, 0.45]).view(1, 3, 1, 1).expand(n, -1, -1, -1)
    view = color_jitter(colour, brightness=0, contrast=0, saturation=0.4, hue=0, generator=generator())
    factor = (view[:, 0] - view[:, 1])[:, 0, 0] / 0.1
    assert 0.599 <= factor.min() < 0.61 and 1.39 < factor.max() <= 1.401

    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(n, -1, -1, -1)
    view = color_jitter(red, brightness=0, contrast=0, saturation=0, hue=0.1, generator=generator())
    shift = torch.tensor([(colorsys.rgb_to_hsv(*v)[0] + 0.5) % 1 - 0.5 for v in view.flatten(1).tolist()])
    assert -0.1001 <= shift.min() < -0.098 and 0.098 < shift.max() <= 0.1001 and abs(shift.mean()) < 0.01


def test_color_jitter_is_torchvisions_steps_in_the_order_drawn(monkeypatch):
    """Record which steps run on which rows with which factors, then do the same with torchvision, one by one."""
    calls, recording = [], []
    for ours in COLOUR:

        def record(images, factor, ours=ours):
            calls.append((ours, factor))
            return ours(images, factor)

        monkeypatch.setattr(augmentations, ours.__name__, record)
    images = pictures(64 * 40 + 5, (2, 3))
    view = color_jitter(images, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.4, generator=generator())

    assert len(calls) == 4 * 41
    blocks = [calls[i : i + 4] for i in range(0, len(calls), 4)]
    for block in blocks:
        assert {ours for ours, _ in block} == set(COLOUR)
        recording += [[(ours, factor[i].item()) for ours, factor in block] for i in range(len(block[0][1]))]
    assert len(recording) == len(images)
    orders = [tuple(ours for ours, _ in block) for block in blocks]
    assert len(set(orders)) > 12 and {order[0] for order in orders} == set(COLOUR)  # of 24

    for i in [*range(0, len(images), 37), len(images) - 1]:
        expected = images[i] / 255
        for ours, factor in recording[i]:
            expected = COLOUR[ours][0](expected, factor)
        same(view[i], expected, 5e-5)
    for ours in COLOUR:  # independent factors
        factors = torch.tensor([dict(steps)[ours] for steps in recording])
        assert len(factors.unique()) > 0.99 * len(factors)
    names = [torch.tensor([dict(steps)[ours] for steps in recording]) for ours in COLOUR]
    correlation = torch.corrcoef(torch.stack(names)) - torch.eye(4)
    assert correlation.abs().max() < 0.1


def test_rotation_angles_fill_their_range(monkeypatch):
    angles = []
    monkeypatch.setattr(augmentations, "rotate", lambda images, degrees: angles.append(degrees))
    random_rotation(torch.zeros(3000, 1, 1, 1), 30, generator=generator())
    assert -30 <= angles[0].min() < -29.5 and 29.5 < angles[0].max() <= 30 and abs(angles[0].mean()) < 1


# --- two views ---

STILL = TwoViews(8, scale=(1.0, 1.0), flip=0, brightness=0, contrast=0, saturation=0, hue=0, jitter=0, gray=0)


def test_two_views_are_the_steps_one_after_the_other():
    images = pictures(100, (20, 30))
    views = TwoViews(size=11, scale=(0.3, 0.7), flip=0.4, rotation=25.0, brightness=0.1, contrast=0.2, saturation=0.3,
                     hue=0.05, jitter=0.6, gray=0.3)  # fmt: skip
    drawing = generator(3)
    for view in views(images, generator(3)):
        expected = random_resized_crop(images, 11, scale=(0.3, 0.7), flip=0.4, generator=drawing)
        expected = random_rotation(expected, 25.0, generator=drawing)
        expected = color_jitter(expected, brightness=0.1, contrast=0.2, saturation=0.3, hue=0.05, p=0.6,
                                generator=drawing)  # fmt: skip
        expected = random_grayscale(expected, 0.3, generator=drawing)
        assert view.shape == (100, 3, 11, 11)
        assert torch.equal(view, expected)


def test_the_two_views_of_a_picture_differ_and_keep_its_row():
    images = pictures(80, (12, 12))
    view1, view2 = TwoViews(size=12)(images, generator())
    assert ((view1 - view2).abs().flatten(1).amax(1) > 1e-3)[4:].all()
    solid = torch.rand(80, 3, 1, 1, generator=generator()).expand(-1, -1, 12, 12)
    for view in dataclasses.replace(STILL, scale=(0.2, 1.0), flip=0.5)(solid, generator()):
        same(view, solid[:, :, :8, :8])


def test_everything_switched_off_leaves_the_picture():
    images = pictures(40, (8, 8))
    for view in STILL(images, generator()):
        same(view, images / 255)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"flip": 1.0}, lambda x: x.flip(3)),
        ({"gray": 1.0}, lambda x: TF.rgb_to_grayscale(x, 3)),
        ({"size": 16}, lambda x: TF.resize(x, [16, 16], antialias=True)),
    ],
)
def test_each_switch_does_its_thing(change, expected):
    images = pictures(40, (8, 8)) / 255
    for view in dataclasses.replace(STILL, **change)(images, generator()):
        same(view, expected(images))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_colour_strengths_need_the_jitter_and_the_jitter_them(name):
    images = pictures(40, (8, 8)) / 255
    changed = dataclasses.replace(STILL, **{name: 0.3})(images, generator())[0]
    same(changed, images)
    changed = dataclasses.replace(STILL, **{name: 0.3}, jitter=1.0)(images, generator())[0]
    assert ((changed - images).abs().flatten(1).amax(1) > 1e-3)[4:].all()
    same(dataclasses.replace(STILL, jitter=1.0)(images, generator())[0], images)


def test_two_views_is_a_frozen_record():
    with pytest.raises(dataclasses.FrozenInstanceError):
        STILL.size = 3
    assert TwoViews() == TwoViews(32, (0.2, 1.0), 0.5, 0.0, 0.4, 0.4, 0.4, 0.1, 0.8, 0.2)


# --- bad input ---

X = torch.rand(2, 3, 4, 4, generator=generator())
GRAY = X[:, :1]
BOX = torch.tensor([[0, 0, 4, 4], [1, 1, 2, 2]])

BAD_IMAGES = [  # for the first argument of every function
    (X.numpy(), TypeError, "images: expected a tensor [N, C, H, W], got ndarray"),
    (X.long(), TypeError, "images: expected uint8 in 0..255 or float in [0, 1], got torch.int64"),
    (X > 0, TypeError, "got torch.bool"),
    (X[0], ValueError, "images: expected a batch [N, C, H, W] with no empty side, got [3, 4, 4]"),
    (X[:0], ValueError, "got [0, 3, 4, 4]"),
    (X[:, :, :0], ValueError, "got [2, 3, 0, 4]"),
]
NOT_RGB = [(GRAY, ValueError, "images: expected RGB, [N, 3, H, W], got [2, 1, 4, 4]")]
FACTOR = [((X, torch.ones(3)), {}, ValueError, "expected a number or one for each of 2 pictures, got [3]"),
          ((X, torch.ones(2, 1)), {}, ValueError, "got [2, 1]")]  # fmt: skip

# name: (what follows the images in a good call, further bad images, other bad calls)
BAD = {
    "to_float": ((), [], []),
    "resized_crop": ((BOX, 4), [], [
        ((X, BOX[:1], 4), {}, ValueError, "boxes: expected [2, 4] (top, left, height, width), got [1, 4]"),
        ((X, BOX[:, :3], 4), {}, ValueError, "got [2, 3]"),
        ((X, BOX + torch.tensor([0, 1, 0, 0]), 4), {}, ValueError, "inside 4 x 4, got [0, 1, 4, 4], row 0"),
        ((X, BOX - torch.tensor([0, 0, 2, 0]), 4), {}, ValueError, "inside 4 x 4, got [1, 1, 0, 2], row 1"),
        ((X, BOX - torch.tensor([1, 0, 0, 0]), 4), {}, ValueError, "inside 4 x 4, got [-1, 0, 4, 4], row 0"),
        ((X, BOX, 0), {}, ValueError, "size: expected an integer of at least 1, got 0"),
        ((X, BOX, 4, torch.tensor([True])), {}, ValueError, "one for each of 2 pictures, got [1]"),
        ((X, BOX, 4, torch.tensor([1, 0])), {}, TypeError, "expected a bool tensor [N], got torch.int64"),
    ]),
    "random_resized_crop": ((4,), [], [
        ((X, 0), {}, ValueError, "size: expected an integer of at least 1, got 0"),
        ((X, 2.5), {}, ValueError, "got 2.5"),
        ((X, 4), {"scale": (0, 1)}, ValueError, "scale: expected 0 < low <= high <= 1.0, got (0, 1)"),
        ((X, 4), {"scale": (0.2, 1.1)}, ValueError, "got (0.2, 1.1)"),
        ((X, 4), {"scale": (0.8, 0.2)}, ValueError, "got (0.8, 0.2)"),
        ((X, 4), {"scale": (math.nan, 1)}, ValueError, "got (nan, 1)"),
        ((X, 4), {"ratio": (2, 1)}, ValueError, "ratio: expected 0 < low <= high <= inf, got (2, 1)"),
        ((X, 4), {"ratio": (-1, 1)}, ValueError, "got (-1, 1)"),
        ((X, 4), {"flip": 1.5}, ValueError, "p: expected a probability from 0 to 1, got 1.5"),
    ]),
    "horizontal_flip": ((torch.tensor([True, False]),), [], [
        ((X, torch.tensor([True])), {}, ValueError, "expected a number or one for each of 2 pictures, got [1]"),
        ((X, torch.tensor([1, 0])), {}, TypeError, "expected a bool tensor [N], got torch.int64"),
        ((X, [True, False]), {}, TypeError, "expected a bool tensor [N], got list"),
    ]),
    "random_horizontal_flip": ((), [], [
        ((X, -0.1), {}, ValueError, "p: expected a probability from 0 to 1, got -0.1"),
        ((X, 1.1), {}, ValueError, "got 1.1"),
        ((X, math.nan), {}, ValueError, "got nan"),
    ]),
    "rotate": ((10.0,), [], FACTOR),
    "random_rotation": ((10.0,), [], [
        ((X, -1.0), {}, ValueError, "degrees: expected a strength from 0 to inf, got -1.0"),
        ((X, math.nan), {}, ValueError, "got nan"),
    ]),
    "rgb_to_gray": ((), NOT_RGB, []),
    "adjust_brightness": ((1.0,), [], FACTOR),
    "adjust_contrast": ((1.0,), NOT_RGB, FACTOR),
    "adjust_saturation": ((1.0,), NOT_RGB, FACTOR),
    "adjust_hue": ((0.1,), NOT_RGB, FACTOR),
    "color_jitter": ((), NOT_RGB, [
        *(((X,), {name: -0.1}, ValueError, f"{name}: expected a strength from 0 to inf, got -0.1")
          for name in ("brightness", "contrast", "saturation")),
        ((X,), {"hue": 0.6}, ValueError, "hue: expected a strength from 0 to 0.5, got 0.6"),
        ((X,), {"hue": math.nan}, ValueError, "got nan"),
        ((X,), {"p": 2}, ValueError, "p: expected a probability from 0 to 1, got 2"),
    ]),
    "random_grayscale": ((), NOT_RGB, [
        ((X, 1.1), {}, ValueError, "p: expected a probability from 0 to 1, got 1.1"),
    ]),
    "TwoViews": (None, [], [
        *(((), {name: 1.5}, ValueError, f"{name}: expected a probability from 0 to 1, got 1.5")
          for name in ("flip", "jitter", "gray")),
        *(((), {name: -1}, ValueError, f"{name}: expected a strength from 0 to")
          for name in ("rotation", "brightness", "contrast", "saturation", "hue")),
        ((), {"hue": 0.51}, ValueError, "hue: expected a strength from 0 to 0.5, got 0.51"),
        ((), {"scale": (0.0, 1.0)}, ValueError, "scale: expected 0 < low <= high <= 1.0, got (0.0, 1.0)"),
        ((), {"size": 0}, ValueError, "size: expected an integer of at least 1, got 0"),
        ((), {"size": 8.5}, ValueError, "got 8.5"),
    ]),
}  # fmt: skip


def bad_calls():
    for name, (rest, images, calls) in BAD.items():
        function = getattr(augmentations, name)
        for arguments, options, kind, words in calls:
            yield pytest.param(function, arguments, options, kind, words, id=f"{name}-{words}")
        if rest is None:
            function, rest, images = TwoViews(size=4), (), NOT_RGB
        for bad, kind, words in BAD_IMAGES + images:
            yield pytest.param(function, (bad, *rest), {}, kind, words, id=f"{name}-{words}")


@pytest.mark.parametrize(("function", "arguments", "options", "kind", "words"), list(bad_calls()))
def test_bad_input_says_what_was_expected_and_what_came(function, arguments, options, kind, words):
    with pytest.raises(kind, match=r"expected[\s\S]*got") as error:
        function(*arguments, **options)
    assert words in str(error.value)


def test_hue_alone_asks_for_rgb_too():
    with pytest.raises(ValueError, match="expected RGB"):
        color_jitter(GRAY, brightness=0, contrast=0, saturation=0)


def test_every_public_function_is_in_the_table_of_bad_input():
    ours = {n for n, f in vars(augmentations).items() if getattr(f, "__module__", "") == augmentations.__name__}
    assert set(BAD) == {name for name in ours if not name.startswith("_")}
