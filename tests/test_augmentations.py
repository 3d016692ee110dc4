"""Each step against torchvision's, picture by picture with the same parameters; each random one for what it must do."""

import colorsys
import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as TF
from torchvision.transforms.v2 import functional as TF2

from clbook import augmentations, datasets
from clbook.augmentations import (
    MultiCrop,
    TwoViews,
    View,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    byol,
    color_jitter,
    color_matrix,
    cutout,
    gaussian_blur,
    gaussian_noise,
    horizontal_flip,
    linear_color,
    linear_color_jitter,
    moco_v2,
    random_cutout,
    random_gaussian_blur,
    random_gaussian_noise,
    random_grayscale,
    random_horizontal_flip,
    random_resized_crop,
    random_rotation,
    random_sampled_crop,
    random_solarize,
    resized_crop,
    rgb_to_gray,
    rotate,
    sampled_crop,
    simclr,
    solarize,
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


# --- blur, solarise, noise, cutout against torchvision ---


@pytest.mark.parametrize("picture_size", PICTURE_SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_gaussian_blur_equals_torchvision(picture_size, channels):
    images = pictures(6, picture_size, channels)
    sigmas = torch.tensor([0.1, 0.3, 0.7, 1.0, 2.0, 10.0])
    taken = [k for k in (1, 3, 5, 9, 23) if k // 2 < min(picture_size)]  # torchvision mirrors once
    for kernel_size in taken:
        for dtype, close in ((torch.float32, 2e-6), (torch.float64, 1e-12)):
            floats = images.to(dtype) / 255
            expected = one_by_one(lambda x, s, k=kernel_size: TF2.gaussian_blur(x, k, s), floats, sigmas.tolist())
            same(gaussian_blur(floats, sigmas.to(dtype), kernel_size), expected.clamp(0, 1), close)
            same(gaussian_blur(floats, 0.75, kernel_size), TF2.gaussian_blur(floats, kernel_size, 0.75), close)
        in_bytes = one_by_one(lambda x, s, k=kernel_size: TF2.gaussian_blur(x, k, s), images, sigmas.tolist()) / 255
        same(gaussian_blur(images, sigmas, kernel_size), in_bytes, 0.51 / 255)  # torchvision rounds


@pytest.mark.parametrize("picture_size", [(1, 1), (2, 3), (5, 1), (4, 4)])
def test_gaussian_blur_mirrors_a_picture_smaller_than_the_kernel_again_and_again(picture_size):
    images = pictures(5, picture_size).double() / 255
    sigma, reach = 3.0, 7
    weights = np.array([math.exp(-(d**2) / (2 * sigma**2)) for d in range(-reach, reach + 1)])
    weights /= weights.sum()
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="reflect")
    expected = np.zeros(images.shape)
    for y in range(picture_size[0]):
        for x in range(picture_size[1]):
            patch = padded[:, :, y : y + 2 * reach + 1, x : x + 2 * reach + 1]
            expected[:, :, y, x] = np.einsum("ncyx,y,x->nc", patch, weights, weights)
    same(gaussian_blur(images, sigma, 2 * reach + 1), torch.from_numpy(expected), 1e-6)


@pytest.mark.parametrize(
    ("picture_size", "kernel_size"),
    [((224, 224), 23), ((96, 230), 9), ((230, 96), 9), ((39, 39), 3), ((40, 40), 5), ((8, 8), 3), ((1, 1), 3)],
)
def test_kernel_is_a_tenth_of_the_shorter_side(picture_size, kernel_size):
    images = pictures(1, picture_size, seed=3).flip(1) / 255
    images[0, 0] = torch.rand(picture_size, generator=generator())
    assert torch.equal(gaussian_blur(images, 5.0), gaussian_blur(images, 5.0, kernel_size))
    if min(picture_size) > 1:
        assert not torch.equal(gaussian_blur(images, 5.0), gaussian_blur(images, 5.0, kernel_size + 2))


@pytest.mark.parametrize("picture_size", PICTURE_SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_solarize_equals_torchvision(picture_size, channels):
    images = pictures(8, picture_size, channels)
    floats = images / 255
    for threshold in (0, 1, 51, 128, 200, 255):  # of 255, so that some values are at it
        expected = TF2.solarize(images, threshold) / 255
        same(solarize(images, threshold / 255), expected, 1e-6)
        same(solarize(floats, threshold / 255), TF2.solarize(floats, threshold / 255), 1e-6)
    thresholds = torch.linspace(0, 1, 8)
    expected = one_by_one(TF2.solarize, floats, thresholds.tolist())
    same(solarize(images, thresholds), expected, 1e-6)
    which = torch.arange(8) % 3 == 1
    same(solarize(images, thresholds, which), torch.where(which[:, None, None, None], expected, floats), 1e-6)


def test_solarize_changes_bright_values_alone():
    images = torch.tensor([0.0, 0.2, 0.499, 0.5, 0.8, 1.0]).view(1, 1, 1, 6)
    same(solarize(images).flatten(), torch.tensor([0.0, 0.2, 0.499, 0.5, 0.2, 0.0]))
    assert torch.equal(solarize(images, 1.0).flatten(), torch.tensor([0.0, 0.2, 0.499, 0.5, 0.8, 0.0]))


@pytest.mark.parametrize("picture_size", PICTURE_SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_cutout_equals_torchvision(picture_size, channels):
    images = pictures(12, picture_size, channels)
    boxes = some_boxes(12, *picture_size)
    for fill in (0, 0.25, 1.0):
        value = torch.full((channels, 1, 1), float(fill))
        expected = one_by_one(lambda x, b, v=value: TF2.erase(x, *b, v), images / 255, boxes.tolist())
        assert torch.equal(cutout(images, boxes, fill), expected)
        assert torch.equal(cutout(images / 255, boxes.float(), fill), expected)
        assert cutout(images.double() / 255, boxes, fill).dtype == torch.float64


def test_cutout_takes_boxes_that_stick_out():
    images = torch.full((6, 3, 5, 7), 0.5)
    boxes = torch.tensor([[-2, 3, 4, 2], [3, -1, 9, 3], [-9, -9, 99, 99], [5, 0, 2, 2], [1, 1, 0, 3], [-3, 0, 3, 7]])
    expected = images.clone()
    for i, (top, left, height, width) in enumerate(boxes.tolist()):
        for y in range(top, top + height):
            for x in range(left, left + width):
                if 0 <= y < 5 and 0 <= x < 7:
                    expected[i, :, y, x] = 0
    assert torch.equal(cutout(images, boxes), expected)
    assert [int((cutout(images, boxes)[i] == 0).sum()) // 3 for i in range(6)] == [4, 4, 35, 0, 0, 0]


@pytest.mark.parametrize("picture_size", PICTURE_SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("std", [0.0, 0.1, 2.0])
def test_gaussian_noise_equals_torchvision(picture_size, channels, std):
    for dtype in (torch.float32, torch.float64):
        images = pictures(6, picture_size, channels).to(dtype) / 255
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            expected = TF2.gaussian_noise(images, 0.0, std)
            torch.manual_seed(3)
            same(gaussian_noise(images, std), expected, 1e-6)


def test_gaussian_noise_has_the_standard_deviation_of_each_picture():
    images, stds = torch.full((5, 3, 60, 60), 0.5), torch.tensor([0.0, 0.01, 0.03, 0.06, 0.1])
    noise = gaussian_noise(images, stds, generator=generator()) - images
    assert torch.equal(noise[0], torch.zeros(3, 60, 60))
    same(noise.flatten(1).std(1), stds, 0.002)
    same(noise.flatten(1).mean(1), torch.zeros(5), 0.004)
    assert torch.corrcoef(noise[1:].flatten(0, 1).flatten(1)).fill_diagonal_(0).abs().max() < 0.08  # nothing is shared


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_pictures_are_computed_in_float32(dtype):
    images = (pictures(6, (200, 180)) / 255).to(dtype)
    boxes = some_boxes(6, 200, 180)
    for operation in (
        lambda x: adjust_hue(x, 0.1),  # gray pictures would be NaN in float16
        lambda x: rotate(x, 30),
        lambda x: resized_crop(x, boxes, 32),
        lambda x: gaussian_blur(x, 1.3),
        lambda x: solarize(x, 0.3),
        lambda x: cutout(x, boxes),
        lambda x: gaussian_noise(x, 0.1, generator=generator()),
        lambda x: sampled_crop(x, boxes, 32),
        lambda x: linear_color(x, 1.2, 0.8, 1.1, 0.1),
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
EVERYTHING = {"size": 9, "rotation": 10.0, "blur": 0.5, "solarize": 0.2, "noise": 0.1, "cutout": 0.5}
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
    "random_gaussian_blur": lambda x, g=None: random_gaussian_blur(x, 1.0, sigma=(0.5, 2.0), generator=g),
    "random_solarize": lambda x, g=None: random_solarize(x, 0.5, generator=g),
    "random_gaussian_noise": lambda x, g=None: random_gaussian_noise(x, generator=g),
    "random_cutout": lambda x, g=None: random_cutout(x, 1.0, generator=g),
    "random_sampled_crop": lambda x, g=None: random_sampled_crop(x, 9, flip=0.5, rotation=30, generator=g),
    "linear_color_jitter": lambda x, g=None: linear_color_jitter(x, gray=0.2, generator=g),
    "View": lambda x, g=None: View(**EVERYTHING)(x, g),
    "fast View": lambda x, g=None: View(**EVERYTHING, fast=True)(x, g),
    "second of TwoViews": lambda x, g=None: TwoViews(9, second=View(**EVERYTHING))(x, g)[1],
    "MultiCrop": lambda x, g=None: MultiCrop(small=View(9, scale=(0.05, 0.14)))(x, g)[-1],
}
EITHER = ("random_horizontal_flip", "random_grayscale", "random_solarize")  # each done or not
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
    if step in [RANDOM[name] for name in EITHER]:
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


@every_random_step
def test_no_step_waits_for_a_gpu(step):
    """A tensor on the meta device has no values: whatever asks for one, as checks and indexing by mask do, fails."""
    assert step(torch.empty(100, 3, 9, 9, device="meta")).shape == (100, 3, 9, 9)


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
    same(random_sampled_crop(square, 8, **whole), square / 255)
    same(random_sampled_crop(square, 8, **whole, flip=1.0), square.flip(3) / 255)
    for p, once in ((0.0, lambda step, images: images / 255), (1.0, lambda step, images: step(images))):
        same(random_gaussian_blur(images, p, sigma=(0.8, 0.8)), once(lambda x: gaussian_blur(x, 0.8), images), 1e-6)
        assert torch.equal(random_solarize(images, p, threshold=0.3), once(lambda x: solarize(x, 0.3), images))
        holes = (random_cutout(images, p, fill=0.4321) == 0.4321).flatten(1).any(1)
        assert torch.equal(holes, torch.full((80,), p == 1.0))
        same(linear_color_jitter(images, p=0.0, gray=p), once(lambda x: rgb_to_gray(x).expand(-1, 3, -1, -1), images))
    assert torch.equal(random_cutout(images, 0.0), floats)
    assert torch.equal(random_gaussian_noise(images, 0.0), floats)
    same(linear_color_jitter(images, brightness=0, contrast=0, saturation=0, hue=0), floats)


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
        lambda x: random_gaussian_blur(x, p, sigma=(1.0, 2.0), generator=generator()),
        lambda x: random_solarize(x, p, generator=generator()),
        lambda x: random_cutout(x, p, scale=(0.5, 0.5), ratio=(0.5, 0.5), generator=generator()),
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


def test_the_order_of_the_steps_is_drawn_by_the_host(monkeypatch):
    """Which would wait for a GPU's numbers. The generator here says that it is a GPU's, and draws on the CPU."""

    class Far(torch.Generator):
        device = torch.device("cuda")

    def order_of(seed):
        drawn.clear()
        color_jitter(pictures(64 * 5, (2, 3)), generator=Far().manual_seed(seed))
        return list(drawn)

    drawn, true_randperm = [], torch.randperm

    def randperm(n, *, generator):
        assert generator.device.type == "cpu"
        drawn.append(true_randperm(n, generator=generator).tolist())
        return torch.tensor(drawn[-1])

    monkeypatch.setattr(augmentations, "_rand", lambda shape, images, generator: torch.rand(shape, generator=generator))
    monkeypatch.setattr(torch, "randperm", randperm)
    assert order_of(1) == order_of(1) != order_of(2) and len(set(map(tuple, order_of(1)))) > 1


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


# --- blur, noise, cutout: how much, where ---


def test_blur_and_noise_fill_their_ranges(monkeypatch):
    asked = {}

    def record(name):
        monkeypatch.setattr(augmentations, name, lambda x, value, *_, **__: asked.update({name: value}) or x)

    record("gaussian_blur")
    record("gaussian_noise")
    images = torch.zeros(3000, 1, 2, 2)
    random_gaussian_blur(images, 1.0, sigma=(0.5, 2.5), generator=generator())
    random_gaussian_noise(images, 0.2, generator=generator())
    for value, low, high in ((asked["gaussian_blur"], 0.5, 2.5), (asked["gaussian_noise"], 0.0, 0.2)):
        near = (high - low) / 100
        assert low <= value.min() < low + near and high - near < value.max() <= high
        assert value.mean() == pytest.approx((low + high) / 2, abs=3 * near)


def test_blur_leaves_the_pictures_that_were_not_chosen():
    images = pictures(200, (9, 9))[10:] / 255
    for p in (0.01, 0.5):
        view = random_gaussian_blur(images, p, sigma=(1.0, 1.0), generator=generator())
        chosen = torch.rand(190, generator=generator()) < p
        same(view, torch.where(chosen[:, None, None, None], gaussian_blur(images, 1.0), images), 1e-6)
        assert torch.equal(view[~chosen], images[~chosen])
        every = random_gaussian_blur(images, 1.0, generator=generator())
        some = random_gaussian_blur(images, p, generator=generator())
        same(some, torch.where(chosen[:, None, None, None], every, images), 1e-6)  # each its own sigma


def holes_drawn(picture_size, n=3000, **options):
    """[n, 4]: top, left, height, width of what random_cutout painted, by looking at the pictures."""
    hole = random_cutout(torch.zeros(n, 2, *picture_size), 1.0, fill=1.0, generator=generator(), **options) == 1
    assert torch.equal(hole[:, 0], hole[:, 1])
    rows, columns = hole[:, 0].any(2).int(), hole[:, 0].any(1).int()
    assert torch.equal(hole[:, 0].sum((1, 2)), rows.sum(1) * columns.sum(1))  # one full box
    return torch.stack([rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)], 1).float()


def test_random_cutout_paints_a_box_of_the_area_and_ratio_asked_for():
    top, left, h, w = holes_drawn((40, 60), scale=(0.05, 0.2), ratio=(0.5, 2.0)).unbind(1)
    area, rounding = h * w / 2400, 0.5 * (h + w + 1) / 2400
    assert (area >= 0.05 - rounding).all() and (area <= 0.2 + rounding).all() and area.max() - area.min() > 0.14
    assert ((w + 0.5) / (h - 0.5) >= 0.5).all() and ((w - 0.5) / (h + 0.5) <= 2).all()
    assert (w / h).log().mean() == pytest.approx(0, abs=0.05)
    assert (top / (40 - h)).mean() == pytest.approx(0.5, abs=0.02)
    assert (left / (60 - w)).mean() == pytest.approx(0.5, abs=0.02)
    assert top.min() == 0 and left.min() == 0 and (top + h).max() == 40 and (left + w).max() == 60


def test_random_cutout_by_default_covers_a_fiftieth_to_a_third():
    h, w = holes_drawn((50, 50)).unbind(1)[2:]
    assert 0.017 < (h * w / 2500).min() < 0.03 and 0.3 < (h * w / 2500).max() < 0.345
    assert 0.28 < (w / h).min() < 0.4 and 2.6 < (w / h).max() < 3.7


# --- the fast path ---


def test_color_matrix_of_nothing_is_the_identity_and_thirds_of_a_turn_exchange_channels():
    same(color_matrix(), torch.eye(3)[None], 1e-6)
    images = pictures(8) / 255
    for shift, channels in ((1 / 3, [2, 0, 1]), (-1 / 3, [1, 2, 0])):
        same(linear_color(images, hue=shift), images[:, channels], 1e-6)
        same(linear_color(images, hue=shift), adjust_hue(images, shift), 1e-5)


@pytest.mark.parametrize("hue", [-0.5, -0.2, 0.05, 0.31])
def test_color_matrix_turns_about_the_gray_axis(hue):
    cross = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / math.sqrt(3)
    turn = torch.linalg.matrix_exp(2 * math.pi * hue * cross)
    same(color_matrix(hue=torch.tensor([hue], dtype=torch.float64))[0], turn, 1e-9)


def test_color_matrix_takes_numbers_and_pictures_mixed():
    factors = torch.tensor([0.5, 1.0, 1.5])
    matrices = color_matrix(2, factors, 0.5, factors - 1)
    assert matrices.shape == (3, 3, 3)
    for matrix, factor in zip(matrices, factors.tolist(), strict=True):
        same(matrix, color_matrix(2.0, factor, 0.5, factor - 1)[0], 1e-6)


@pytest.mark.parametrize("picture_size", PICTURE_SIZES)
def test_brightness_contrast_saturation_alone_are_exact(picture_size):
    images = pictures(8, picture_size)
    for name, exact in (("brightness", adjust_brightness), ("contrast", adjust_contrast),
                        ("saturation", adjust_saturation)):  # fmt: skip
        for factor in (0.0, 0.4, 1.0, 3.0, torch.linspace(0, 2, 8)):
            same(linear_color(images, **{name: factor}), exact(images, factor))


def test_linear_color_is_the_four_steps_in_order_where_nothing_is_cut():
    """Dull pictures: no step leaves [0, 1]; the hue turns by thirds, where HSV turns alike."""
    images = 0.4 + 0.2 * pictures(9, (6, 5)).double() / 255
    brightness, contrast, saturation = torch.rand(3, 9, generator=generator(), dtype=torch.float64) * 0.8 + 0.6
    hue = torch.tensor([1, 0, -1] * 3, dtype=torch.float64) / 3
    expected = adjust_contrast(adjust_brightness(images, brightness), contrast)
    expected = adjust_hue(adjust_saturation(expected, saturation), hue)
    assert expected.min() > 0 and expected.max() < 1
    same(linear_color(images, brightness, contrast, saturation, hue), expected, 1e-4)  # LUMA adds up to 0.9999


def test_linear_color_equals_a_loop_over_pixels():
    images = pictures(5, (3, 4)).double() / 255
    factors = [(1.2, 0.7, 1.6, 0.1), (0.5, 1.8, 0.3, -0.4), (1, 1, 1, 0.5), (0, 1, 1, 0), (1.5, 0.2, 0, 0.25)]
    view = linear_color(images, *torch.tensor(factors, dtype=torch.float64).unbind(1))
    for image, (brightness, contrast, saturation, hue), got in zip(images, factors, view, strict=True):
        colors = [[v * brightness for v in pixel] for pixel in image.flatten(1).T.tolist()]
        lumas = [0.2989 * r + 0.587 * g + 0.114 * b for r, g, b in colors]
        mean = sum(lumas) / len(lumas)
        colors = [[contrast * v + (1 - contrast) * mean for v in pixel] for pixel in colors]
        angle = 2 * math.pi * hue
        for pixel, place in zip(colors, got.flatten(1).T.tolist(), strict=True):
            luma = 0.2989 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]
            r, g, b = (saturation * v + (1 - saturation) * luma for v in pixel)
            gray, sine = (r + g + b) / 3, math.sin(angle) / math.sqrt(3)  # Rodrigues' formula
            turned = [gray + math.cos(angle) * (v - gray) + sine * (before - after)
                      for v, before, after in ((r, b, g), (g, r, b), (b, g, r))]  # fmt: skip
            assert place == pytest.approx([min(max(v, 0), 1) for v in turned], abs=1e-4)  # LUMA adds up to 0.9999


def test_linear_color_is_as_far_from_the_exact_colours_as_documented():
    images = datasets.load("shapes", n=300).images / 255
    brightness, contrast, saturation = 0.6 + 0.8 * torch.rand(3, 300, generator=generator())
    hue = 0.1 * (2 * torch.rand(300, generator=generator(1)) - 1)
    difference = (linear_color(images, hue=hue) - adjust_hue(images, hue)).abs()
    assert difference.mean() == pytest.approx(0.04, abs=0.005) and difference.max() < 0.25
    exact = adjust_contrast(adjust_brightness(images, brightness), contrast)
    exact = adjust_hue(adjust_saturation(exact, saturation), hue)
    difference = (linear_color(images, brightness, contrast, saturation, hue) - exact).abs()
    assert difference.mean() == pytest.approx(0.033, abs=0.006) and difference.max() < 0.6


def test_linear_color_jitter_draws_the_factors_of_color_jitter(monkeypatch):
    asked = []
    monkeypatch.setattr(augmentations, "linear_color", lambda images, *factors: asked.append(factors))
    images = torch.zeros(4000, 3, 1, 1)
    linear_color_jitter(images, brightness=0.4, contrast=0.2, saturation=3, hue=0.3, generator=generator())
    for factor, low, high in zip(asked[0], (0.6, 0.8, 0, -0.3), (1.4, 1.2, 4, 0.3), strict=True):
        near = (high - low) / 100
        assert low <= factor.min() < low + near and high - near < factor.max() <= high
        assert factor.mean() == pytest.approx((low + high) / 2, abs=3 * near) and (factor == 0).sum() < 10
    assert (torch.corrcoef(torch.stack(asked[0])) - torch.eye(4)).abs().max() < 0.06

    linear_color_jitter(images, p=0.7, gray=0.3, generator=generator())
    brightness, contrast, saturation, hue = asked[1]
    still = brightness == 1
    assert still.float().mean() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(contrast == 1, still) and torch.equal(hue == 0, still)
    gray = saturation == 0
    assert gray.float().mean() == pytest.approx(0.3, abs=0.03)
    assert gray[still].float().mean() == pytest.approx(0.3, abs=0.06)  # whether jittered or not
    assert torch.equal(saturation == 1, still & ~gray)


@pytest.mark.parametrize("degrees", [0.0, 30.0, -135.0])
@pytest.mark.parametrize("flipped", [False, True])
def test_sampled_crop_of_a_ramp_is_the_ramp_at_the_places_asked_for(degrees, flipped):
    """Bilinear sampling gives a ramp exactly, so each value tells where it was taken."""
    h, w, size = 40, 60, 9
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    ramp = torch.stack([x / w, y / h])[None].double()
    boxes = torch.tensor([[12, 20, 10, 16], [14, 22, 12, 6], [15, 25, 9, 9]])
    got = sampled_crop(ramp.expand(3, -1, -1, -1), boxes, size, torch.full((3,), flipped), degrees)
    for (top, left, height, width), view in zip(boxes.tolist(), got, strict=True):
        for i in range(size):
            for j in range(size):
                down, right = (i + 0.5) / size - 0.5, (j + 0.5) / size - 0.5  # from the centre, in sides of the view
                angle = math.radians(degrees)  # anticlockwise where y points down: what comes from is clockwise
                from_x = math.cos(angle) * right - math.sin(angle) * down
                from_y = math.sin(angle) * right + math.cos(angle) * down
                from_x = -from_x if flipped else from_x
                place_x = left + (from_x + 0.5) * width - 0.5
                place_y = top + (from_y + 0.5) * height - 0.5
                assert view[:, i, j].tolist() == pytest.approx([place_x / w, place_y / h], abs=1e-5)


@pytest.mark.parametrize("picture_size", PICTURE_SIZES)
def test_sampled_crop_of_whole_pictures_equals_the_exact_steps_where_it_does_not_shrink(picture_size):
    images = pictures(6, picture_size)
    whole = torch.tensor([[0, 0, *picture_size]]).expand(6, -1)
    flips = torch.arange(6) % 2 == 0
    for size in (max(picture_size), 45):
        same(sampled_crop(images, whole, size, flips), resized_crop(images, whole, size, flips))
    assert sampled_crop(images, whole, 5).shape == (6, 3, 5, 5)


def test_sampled_crop_turns_as_rotate_does_away_from_the_corners():
    images = pictures(6, (32, 32))
    whole = torch.tensor([[0, 0, 32, 32]]).expand(6, -1)
    flips, degrees = torch.arange(6) % 2 == 0, torch.tensor([0.0, 20.0, -100.0, 200.5, 90.0, 359.0])
    got = sampled_crop(images, whole, 32, flips, degrees)
    expected = rotate(horizontal_flip(images, flips), degrees)
    y, x = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(32) - 15.5, indexing="ij")
    disc = torch.hypot(x, y) < 15
    same(got[:, :, disc], expected[:, :, disc])
    black = (expected == 0).all(1) & ~disc
    assert (got[4:, :, 0, 0] > 0).any() and black.any()


def test_random_sampled_crop_draws_boxes_flips_and_angles(monkeypatch):
    asked = []
    monkeypatch.setattr(augmentations, "sampled_crop", lambda *arguments: asked.append(arguments))
    images = torch.zeros(3000, 1, 40, 30)
    random_sampled_crop(images, 8, scale=(0.3, 0.9), flip=0.3, rotation=20, generator=generator())
    _, boxes, size, flips, degrees = asked[0]
    assert torch.equal(boxes, boxes_drawn(monkeypatch, (40, 30), scale=(0.3, 0.9))) and size == 8
    assert flips.float().mean() == pytest.approx(0.3, abs=0.03)
    assert -20 <= degrees.min() < -19.5 and 19.5 < degrees.max() <= 20 and abs(degrees.mean()) < 1


# --- the new steps and gradients ---


@pytest.mark.parametrize(
    "step",
    [
        lambda x: gaussian_blur(x, torch.tensor([0.5, 1.5])),
        lambda x: random_gaussian_blur(x, 0.9, generator=generator()),
        lambda x: solarize(x),
        lambda x: gaussian_noise(x, 0.01, generator=generator()),
        lambda x: cutout(x, torch.tensor([[0, 0, 2, 2], [1, 1, 2, 2]])),
        lambda x: adjust_brightness(x, 0.9),
        lambda x: adjust_contrast(x, 0.9),
        lambda x: adjust_saturation(x, 0.9),
        lambda x: adjust_hue(x, 0.05),
        lambda x: adjust_hue(x, torch.tensor([-0.3, 0.5])),
        lambda x: linear_color(x, 0.9, 0.9, 0.9, 0.05),
        lambda x: sampled_crop(x, torch.tensor([[0, 0, 4, 4], [1, 1, 3, 3]]), 5, degrees=10.0),
    ],
)
def test_gradients_reach_the_pictures(step):
    images = (0.3 + 0.1 * torch.rand(2, 3, 4, 4, generator=generator(), dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(step, images)


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


def test_a_view_is_its_steps_one_after_the_other():
    images = pictures(100, (20, 30))
    view = View(size=11, blur=0.7, blur_sigma=(0.5, 1.5), solarize=0.4, noise=0.2, cutout=0.6)
    g = generator(3)
    expected = random_resized_crop(images, 11, flip=0.5, generator=g)
    expected = random_grayscale(color_jitter(expected, p=0.8, generator=g), 0.2, generator=g)
    expected = random_gaussian_blur(expected, 0.7, sigma=(0.5, 1.5), generator=g)
    expected = random_solarize(expected, 0.4, generator=g)
    expected = random_gaussian_noise(expected, 0.2, generator=g)
    expected = random_cutout(expected, 0.6, generator=g)
    assert torch.equal(view(images, generator(3)), expected)
    assert torch.equal(view.one(images, generator(3)), expected)


@pytest.mark.parametrize(("size", "rotation"), [(11, 0.0), (11, 15.0), (65, 0.0), (64, 0.0)])
def test_a_fast_view_is_the_fast_steps_one_after_the_other(size, rotation):
    images, g = pictures(30, (20, 30)), generator(3)
    if rotation or size > 64:
        expected = random_sampled_crop(images, size, scale=(0.3, 0.7), flip=0.5, rotation=rotation, generator=g)
    else:
        expected = random_resized_crop(images, size, scale=(0.3, 0.7), flip=0.5, generator=g)
    expected = linear_color_jitter(expected, brightness=0.1, contrast=0.2, saturation=0.3, hue=0.05, p=0.6, gray=0.3,
                                   generator=g)  # fmt: skip
    view = View(size, scale=(0.3, 0.7), rotation=rotation, brightness=0.1, contrast=0.2, saturation=0.3, hue=0.05,
                jitter=0.6, gray=0.3, fast=True)  # fmt: skip
    assert torch.equal(view(images, generator(3)), expected)


def test_fast_views_of_large_pictures_and_exact_ones_show_the_same():
    """Same boxes, whole and unturned: the two paths agree but for the hue."""
    images = pictures(8, (80, 80)) / 255
    view = View(80, scale=(1.0, 1.0), flip=0.0, brightness=0, contrast=0, saturation=0, hue=0, gray=0, fast=True)
    same(view(images), images)


@pytest.mark.parametrize("views", [TwoViews(8), TwoViews(8, blur=0.5, second=View(6, solarize=0.5))])
def test_the_second_view_has_its_own_recipe_or_that_of_the_first(views):
    images, g = pictures(30), generator(3)
    first, second = views(images, generator(3))
    assert torch.equal(first, View(**{f.name: getattr(views, f.name) for f in dataclasses.fields(View)})(images, g))
    assert torch.equal(second, (views.second or views).one(images, g))


def test_multi_crop_gives_large_views_then_small_ones_each_drawn_anew():
    images = pictures(40, (20, 20))
    crops = MultiCrop(View(12, scale=(0.5, 1.0)), View(7, scale=(0.1, 0.3)), n_large=2, n_small=4)
    views, g = crops(images, generator(3)), generator(3)
    assert isinstance(views, list) and [v.shape[-1] for v in views] == [12, 12, 7, 7, 7, 7]
    for view, recipe in zip(views, [crops.large] * 2 + [crops.small] * 4, strict=True):
        assert torch.equal(view, recipe(images, g))
    for i, view in enumerate(views):
        for other in views[i + 1 :]:
            assert view.shape != other.shape or not torch.equal(view, other)
    assert [len(MultiCrop(n_large=a, n_small=b)(images)) for a, b in ((1, 0), (2, 6), (3, 1))] == [1, 8, 4]
    default = MultiCrop()
    assert (default.large, default.small) == (View(32, scale=(0.14, 1.0)), View(16, scale=(0.05, 0.14)))
    assert (default.n_large, default.n_small) == (2, 6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        default.n_small = 3


# preset, size: (scale, brightness, contrast, saturation, hue, blur, solarise of the first; of the second)
PRESETS = {
    (simclr, 32): ((0.08, 1.0), 0.4, 0.4, 0.4, 0.1, (0.0, 0.0), (0.0, 0.0)),
    (simclr, 224): ((0.08, 1.0), 0.8, 0.8, 0.8, 0.2, (0.5, 0.0), (0.5, 0.0)),
    (moco_v2, 32): ((0.08, 1.0), 0.4, 0.4, 0.4, 0.1, (0.0, 0.0), (0.0, 0.0)),
    (moco_v2, 224): ((0.2, 1.0), 0.4, 0.4, 0.4, 0.1, (0.5, 0.0), (0.5, 0.0)),
    (byol, 32): ((0.08, 1.0), 0.4, 0.4, 0.2, 0.1, (0.0, 0.0), (0.0, 0.2)),
    (byol, 224): ((0.08, 1.0), 0.4, 0.4, 0.2, 0.1, (1.0, 0.0), (0.1, 0.2)),
}


@pytest.mark.parametrize(("preset", "size"), PRESETS)
def test_presets_are_the_papers_settings(preset, size):
    *colors, first, second = PRESETS[preset, size]
    views = preset(size)
    for view, (blur, solarise) in ((views, first), (views.second or views, second)):
        assert [view.scale, view.brightness, view.contrast, view.saturation, view.hue] == colors
        assert (view.size, view.flip, view.jitter, view.gray, view.rotation) == (size, 0.5, 0.8, 0.2, 0)
        assert (view.blur, view.solarize, view.blur_sigma) == (blur, solarise, (0.1, 2.0))
        assert (view.noise, view.cutout, view.fast) == (0, 0, False)
    assert preset() == preset(32) and preset(63).blur == 0 and preset(64).blur == preset(224).blur > 0
    assert all(view.shape == (2, 3, size, size) for view in views(pictures(2, (20, 20))))


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
    "check_pictures": ((), [
        (255 * X, ValueError, "images: expected float values in [0, 1], got"),
        (X - 1, ValueError, "Divide by 255, or pass uint8"),
        (X * math.nan, ValueError, "got nan to nan"),
    ], []),
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
        ((X, 4), {"ratio": (2, 1)}, ValueError, "ratio: expected 0 < low <= high < inf, got (2, 1)"),
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
        ((X, -1.0), {}, ValueError, "degrees: expected a strength from 0 to any finite number, got -1.0"),
        ((X, math.nan), {}, ValueError, "got nan"),
    ]),
    "rgb_to_gray": ((), NOT_RGB, []),
    "adjust_brightness": ((1.0,), [], FACTOR),
    "adjust_contrast": ((1.0,), NOT_RGB, FACTOR),
    "adjust_saturation": ((1.0,), NOT_RGB, FACTOR),
    "adjust_hue": ((0.1,), NOT_RGB, FACTOR),
    "color_jitter": ((), NOT_RGB, [
        *(((X,), {name: -0.1}, ValueError, f"{name}: expected a strength from 0 to any finite number, got -0.1")
          for name in ("brightness", "contrast", "saturation")),
        ((X,), {"hue": 0.6}, ValueError, "hue: expected a strength from 0 to 0.5, got 0.6"),
        ((X,), {"hue": math.nan}, ValueError, "got nan"),
        ((X,), {"p": 2}, ValueError, "p: expected a probability from 0 to 1, got 2"),
    ]),
    "random_grayscale": ((), NOT_RGB, [
        ((X, 1.1), {}, ValueError, "p: expected a probability from 0 to 1, got 1.1"),
    ]),
    "gaussian_blur": ((1.0,), [], [
        *FACTOR,
        *(((X, value), {}, ValueError, f"sigma: expected a finite number > 0, got {value:g}")
          for value in (0.0, -1.0, math.inf, math.nan)),
        ((X, torch.tensor([1.0, -0.5])), {}, ValueError, "sigma: expected a finite number > 0, got -0.5"),
        *(((X, 1.0, size), {}, ValueError, f"kernel_size: expected an odd integer of at least 1, got {size}")
          for size in (0, 2, -1, 3.0, True)),
    ]),
    "random_gaussian_blur": ((), [], [
        ((X, 1.1), {}, ValueError, "p: expected a probability from 0 to 1, got 1.1"),
        ((X,), {"sigma": (0.0, 1.0)}, ValueError, "sigma: expected 0 < low <= high < inf, got (0.0, 1.0)"),
        ((X,), {"sigma": (2.0, 1.0)}, ValueError, "got (2.0, 1.0)"),
        ((X, 1.0), {"kernel_size": 4}, ValueError, "kernel_size: expected an odd integer of at least 1, got 4"),
    ]),
    "solarize": ((), [], [
        *FACTOR,
        *(((X, value), {}, ValueError, f"threshold: expected a number from 0 to 1, got {value:g}")
          for value in (10, 128, -0.1, math.nan)),  # 10: on pictures in [0, 1] nothing would ever happen
        ((X, torch.tensor([0.5, 1.5])), {}, ValueError, "threshold: expected a number from 0 to 1, got 1.5"),
        ((X, 0.5, torch.tensor([1, 0])), {}, TypeError, "expected a bool tensor [N], got torch.int64"),
    ]),
    "random_solarize": ((), [], [
        ((X, -0.1), {}, ValueError, "p: expected a probability from 0 to 1, got -0.1"),
        ((X,), {"threshold": 10}, ValueError, "threshold: expected a number from 0 to 1, got 10"),
    ]),
    "gaussian_noise": ((), [], [
        *FACTOR,
        *(((X, value), {}, ValueError, f"std: expected a finite number >= 0, got {value:g}")
          for value in (-0.1, math.inf, math.nan)),
    ]),
    "random_gaussian_noise": ((), [], [((X, -1), {}, ValueError, "std: expected a strength from 0 to any finite num")]),
    "cutout": ((BOX,), [], [
        ((X, BOX[:1]), {}, ValueError, "boxes: expected [2, 4] (top, left, height, width), got [1, 4]"),
        ((X, BOX.tolist()), {}, TypeError, "boxes: expected a tensor [2, 4] (top, left, height, width), got list"),
        ((X, BOX - torch.tensor([0, 0, 3, 0])), {}, ValueError, "heights and widths of at least 0, got -1"),
        ((X, BOX, 1.5), {}, ValueError, "fill: expected a number from 0 to 1, got 1.5"),
        ((X, BOX, math.nan), {}, ValueError, "fill: expected a number from 0 to 1, got nan"),
    ]),
    "random_cutout": ((), [], [
        ((X, 2), {}, ValueError, "p: expected a probability from 0 to 1, got 2"),
        ((X,), {"scale": (0.5, 1.5)}, ValueError, "scale: expected 0 < low <= high <= 1.0, got (0.5, 1.5)"),
        ((X,), {"ratio": (0, 1)}, ValueError, "ratio: expected 0 < low <= high < inf, got (0, 1)"),
        ((X,), {"fill": -1}, ValueError, "fill: expected a number from 0 to 1, got -1"),
    ]),
    "sampled_crop": ((BOX, 4), [], [
        ((X, BOX[:1], 4), {}, ValueError, "boxes: expected [2, 4] (top, left, height, width), got [1, 4]"),
        ((X, BOX.tolist(), 4), {}, TypeError, "boxes: expected a tensor [2, 4] (top, left, height, width), got list"),
        ((X, BOX + torch.tensor([0, 1, 0, 0]), 4), {}, ValueError, "inside 4 x 4, got [0, 1, 4, 4], row 0"),
        ((X, BOX - torch.tensor([0, 0, 2, 0]), 4), {}, ValueError, "inside 4 x 4, got [1, 1, 0, 2], row 1"),
        ((X, BOX, 0), {}, ValueError, "size: expected an integer of at least 1, got 0"),
        ((X, BOX, 4, torch.tensor([1, 0])), {}, TypeError, "expected a bool tensor [N], got torch.int64"),
        ((X, BOX, 4, None, torch.ones(3)), {}, ValueError, "expected a number or one for each of 2 pictures, got [3]"),
        ((X, BOX, 4, None, math.nan), {}, ValueError, "degrees: expected a finite number, got nan"),
    ]),
    "random_sampled_crop": ((4,), [], [
        ((X, 4), {"scale": (0, 1)}, ValueError, "scale: expected 0 < low <= high <= 1.0, got (0, 1)"),
        ((X, 4), {"flip": 1.5}, ValueError, "p: expected a probability from 0 to 1, got 1.5"),
        ((X, 4), {"rotation": -1}, ValueError, "rotation: expected a strength from 0 to any finite number, got -1"),
        ((X, 0), {}, ValueError, "size: expected an integer of at least 1, got 0"),
    ]),
    "color_matrix": (None, [], [
        *(((), {name: value}, ValueError, f"{name}: expected a finite factor >= 0, got {value:g}")
          for name in ("brightness", "contrast", "saturation") for value in (-0.5, math.inf, math.nan)),
        ((), {"hue": 0.6}, ValueError, "hue: expected a shift from -0.5 to 0.5, got 0.6"),
        ((torch.ones(2), torch.ones(3)), {}, ValueError, "numbers, or one for each of N pictures, got [2, 3, 1, 1]"),
    ]),
    "linear_color": ((), NOT_RGB, [
        *FACTOR,
        *(((X,), {name: torch.tensor([1, -0.5])}, ValueError, f"{name}: expected a finite factor >= 0, got -0.5")
          for name in ("brightness", "contrast", "saturation")),
        ((X,), {"hue": math.nan}, ValueError, "hue: expected a shift from -0.5 to 0.5, got nan"),
    ]),
    "linear_color_jitter": ((), NOT_RGB, [
        *(((X,), {name: -0.1}, ValueError, f"{name}: expected a strength from 0 to any finite number, got -0.1")
          for name in ("brightness", "contrast", "saturation")),
        ((X,), {"hue": 0.6}, ValueError, "hue: expected a strength from 0 to 0.5, got 0.6"),
        ((X,), {"p": 2}, ValueError, "p: expected a probability from 0 to 1, got 2"),
        ((X,), {"gray": -1}, ValueError, "gray: expected a probability from 0 to 1, got -1"),
    ]),
    **{name: (None, [], [
        *(((), {name: 1.5}, ValueError, f"{name}: expected a probability from 0 to 1, got 1.5")
          for name in ("flip", "jitter", "gray", "blur", "solarize", "cutout")),
        *(((), {name: -1}, ValueError, f"{name}: expected a strength from 0 to")
          for name in ("rotation", "brightness", "contrast", "saturation", "hue", "noise")),
        ((), {"hue": 0.51}, ValueError, "hue: expected a strength from 0 to 0.5, got 0.51"),
        ((), {"scale": (0.0, 1.0)}, ValueError, "scale: expected 0 < low <= high <= 1.0, got (0.0, 1.0)"),
        ((), {"blur_sigma": (0.0, 1.0)}, ValueError, "blur_sigma: expected 0 < low <= high < inf, got (0.0, 1.0)"),
        ((), {"size": 0}, ValueError, "size: expected an integer of at least 1, got 0"),
        ((), {"size": 8.5}, ValueError, "got 8.5"),
        *([((), {"second": 32}, TypeError, "second: expected a View or None, got int")] if name == "TwoViews" else []),
    ]) for name in ("View", "TwoViews")},
    "MultiCrop": (None, [], [
        ((32,), {}, TypeError, "large: expected a View, got int"),
        ((), {"small": 16}, TypeError, "small: expected a View, got int"),
        *(((), {"n_large": n}, ValueError, f"n_large: expected an integer of at least 1, got {n}")
          for n in (0, 2.0, True)),
        ((), {"n_small": -1}, ValueError, "n_small: expected an integer of at least 0, got -1"),
    ]),
    **{name: (None, [], [((0,), {}, ValueError, "size: expected an integer of at least 1, got 0"),
                         ((32.0,), {}, ValueError, "size: expected an integer of at least 1, got 32.0")])
       for name in ("simclr", "moco_v2", "byol")},
}  # fmt: skip
RECIPES = {"View": View(4), "TwoViews": TwoViews(4), "MultiCrop": MultiCrop(View(4), View(4))}


def bad_calls():
    for name, (rest, images, calls) in BAD.items():
        function = getattr(augmentations, name)
        for arguments, options, kind, words in calls:
            yield pytest.param(function, arguments, options, kind, words, id=f"{name}-{words}")
        if rest is None and name not in RECIPES:  # takes no pictures
            continue
        if rest is None:
            function, rest, images = RECIPES[name], (), NOT_RGB
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


def test_crops_may_be_one_pixel_wide():
    images = torch.arange(16.0).view(1, 1, 4, 4).expand(50, 1, 4, 4) / 16
    generator = torch.Generator().manual_seed(0)
    crops = augmentations.random_resized_crop(images, 1, scale=(1 / 16, 1 / 16), ratio=(1, 1), generator=generator)
    pixels = (16 * crops).flatten()
    assert torch.equal(pixels, pixels.round())  # a pixel each, no mean of several
    assert len(pixels.unique()) > 10


def test_whether_a_picture_is_jittered_says_nothing_of_its_hue():
    images = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1).expand(400, 3, 2, 2)
    jittered = augmentations.linear_color_jitter(
        images,
        brightness=0,
        contrast=0,
        saturation=0,
        hue=0.3,
        p=0.5,
        gray=0,
        generator=torch.Generator().manual_seed(0),
    )
    turn = (jittered[:, 1] - jittered[:, 2]).mean((1, 2))  # > 0 towards green, < 0 towards blue, 0 not at all
    assert (turn > 1e-4).sum() > 60 and (turn < -1e-4).sum() > 60 and (turn.abs() < 1e-6).sum() > 120
