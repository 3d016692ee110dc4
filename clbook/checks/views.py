"""Checks of random views: pictures [N, C, H, W], parameters of its own for each."""

import itertools
from collections.abc import Callable
from functools import partial

import torch
from torch import equal

from clbook import augmentations
from clbook.checks.exercise import FRESH, NOT_STARTED, Exercise, Report, _Stop, _stop_for_error, judge
from clbook.checks.question import Choice, Question


def check_solarize(function: Callable, seed: int = 0) -> Report:
    """Check `function(images, threshold)`: pictures [N, C, H, W] in [0, 1] and a threshold for each, [N]: values of
    at least its threshold are inverted, x becomes 1 - x.
    """
    exercise = Exercise(
        task="write the function that takes pictures [N, C, H, W] and thresholds [N] and returns them solarised",
        cases=[
            {
                "images": torch.tensor([[[[0.2, 0.9]], [[0.6, 0.1]]], [[[0.4, 0.7]], [[0.2, 0.5]]]]),
                "threshold": torch.tensor([0.5, 0.3]),
            },
            {"images": _pictures(1, 3, 3, 2, 3), "threshold": torch.tensor([0.3, 0.8, 0.55])},
            {"images": _pictures(2, 4, 3, 5, 4), "threshold": torch.tensor([0.0, 1.0, 0.5, 0.9])},
            {"images": _pictures(3, 6, 3, 5, 7).double(), "threshold": torch.linspace(0.1, 0.9, 6).double()},
        ],
        edge_cases=[{"images": torch.tensor([[[[0.25, 0.5, 0.75]]]]), "threshold": torch.tensor([0.25])}],
        oracle=_solarize_loop,
        mistakes=SOLARIZE_MISTAKES,
        not_finite="right where it is finite, but some values are NaN or infinite: is something divided by zero?",
        verified="values agree with a plain loop in 7 cases, fresh ones included (N from 1 to 6, 1 to 3 channels, "
        "float32 and float64, a value that equals its threshold); the inputs are left as they were.",
        gradients=False,  # a threshold has none
        fresh=lambda seed: {
            "images": _pictures(seed, 3 + seed % 3, 3, 4, 6),
            "threshold": 0.2 + 0.6 * _pictures(seed + 7, 3 + seed % 3),
        },
    )
    return judge(function, exercise, seed)


def _pictures(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _integers(seed: int, low: int, high: int, *shape: int) -> torch.Tensor:
    """Whole numbers from low to high, both included."""
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed))


def _boxes(seed: int, n: int, height: int, width: int, least: int = 1) -> torch.Tensor:
    """Boxes [n, 4] (top, left, height, width) inside a picture, no side shorter than `least`."""
    u = torch.rand(4, n, generator=torch.Generator().manual_seed(seed))
    tall, wide = (least + (u[i] * (side - least + 1)).long() for i, side in enumerate((height, width)))
    top, left = (u[2] * (height - tall + 1)).long(), (u[3] * (width - wide + 1)).long()
    return torch.stack([top, left, tall, wide], 1)


def _box_pairs(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(_boxes(seed + 7 * i, 3 + seed % 3, 16, 12, least=2) for i in range(2))


def _solarize_loop(images, threshold):
    """One number at a time."""
    new = [[1 - x if x >= t else x for x in image.flatten()] for image, t in zip(images, threshold, strict=True)]
    return torch.stack([torch.stack(row) for row in new]).reshape(images.shape)


def _where(images, bright, inverted=None):
    return torch.where(bright, 1 - images if inverted is None else inverted, images)


def _own(values):
    return values[:, None, None, None]


def _along(images, values, axis):
    """[N] laid along another axis than the first, repeated until it is long enough."""
    length = images.shape[axis]
    return values.repeat(length)[:length].reshape([length if i == axis % 4 else 1 for i in range(4)])


_BROADCAST = ("the thresholds run along the {}, not along the batch: [N] has to become [N, 1, 1, 1] before it meets "
              "[N, C, H, W].")  # fmt: skip

SOLARIZE_MISTAKES = [
    (lambda x, t: x, "nothing is inverted. Is the threshold taken as 0..255, or divided away?"),
    (lambda x, t: 1 - x, "every value is inverted: only those of at least the threshold are."),
    (lambda x, t: _where(x, x < _own(t)), "the dark values are inverted: solarising inverts the bright ones."),
    (lambda x, t: _where(x, x > _own(t)), "a value that equals its threshold stays: at least (≥), not more than (>)."),
    (lambda x, t: _where(x, x >= t[0]), "one threshold for the whole batch: every picture has its own."),
    (lambda x, t: _where(x, x >= t.mean()), "one threshold for the whole batch, the mean: each picture has its own."),
    (lambda x, t: _where(x, x >= _along(x, t, -1)), _BROADCAST.format("width")),
    (lambda x, t: _where(x, x >= _along(x, t, -2)), _BROADCAST.format("height")),
    (lambda x, t: _where(x, x >= _along(x, t, 1)), _BROADCAST.format("channels")),
    (lambda x, t: _where(x, x >= _own(t), -x), "inverted values are −x: in [0, 1] the inverse is 1 − x."),
    (lambda x, t: _where(x, x >= _own(t), 255 - x), "inverted values are 255 − x: these pictures lie in [0, 1]."),
    (lambda x, t: _where(x, x >= _own(t), _own(t) - x), "inverted values are threshold − x: they are 1 − x."),
    (lambda x, t: (x >= _own(t)).to(x.dtype), "these are zeros and ones: return pictures, not the comparison."),
    (lambda x, t: torch.where(x >= _own(t), 1 - x, 0 * x), "the dark values have become 0: they stay as they are."),
]  # fmt: skip


def check_cutout(function: Callable, seed: int = 0) -> Report:
    """Check `function(images, boxes)`: pictures [N, C, H, W] and a box for each, integers [N, 4] (top, left, height,
    width) inside the picture: all that lies in its box becomes 0.
    """
    exercise = Exercise(
        task="write the function that takes pictures [N, C, H, W] and boxes [N, 4] and returns them with boxes of 0",
        cases=[
            _cutout_case([[0, 1, 1, 2]], 1, 2, 3, base=torch.arange(1.0, 7).view(1, 1, 2, 3) / 10),
            _cutout_case([[0, 0, 1, 2], [1, 0, 2, 1]], 3, 3, 3, seed=4),
            _cutout_case([[1, 2, 3, 1], [0, 0, 4, 4], [2, 1, 1, 3]], 3, 4, 5, seed=5),
            _cutout_case(
                [[2, 0, 2, 3], [0, 3, 0, 2], [1, 1, 2, 2], [4, 4, 1, 1]], 2, 5, 5, seed=6, dtype=torch.float64
            ),
        ],
        oracle=_cutout_loop,
        mistakes=CUTOUT_MISTAKES,
        not_finite="right where it is finite, but some values are NaN or infinite: fill with 0.",
        verified="values and gradients agree with a plain loop in 6 cases, fresh ones included (N from 1 to 5, 1 to 3 "
        "channels, pictures that aren't square, an empty box, float32 and float64); the inputs are left as they were.",
        fresh=lambda seed: _cutout_case(_boxes(seed, 3 + seed % 3, 6, 5).tolist(), 3, 6, 5, seed=seed),
    )
    return judge(function, exercise, seed)


def _cutout_case(boxes, channels, height, width, *, seed=0, base=None, dtype=torch.float32) -> dict:
    images = _pictures(seed, len(boxes), channels, height, width) if base is None else base
    return {"images": images.to(dtype), "boxes": torch.tensor(boxes)}


def _cutout_loop(images, boxes):
    """Pixel by pixel: in the box or not?"""
    kept = torch.ones_like(images)
    for i, (top, left, height, width) in enumerate(boxes.tolist()):
        for y in range(images.shape[2]):
            for x in range(images.shape[3]):
                if top <= y < top + height and left <= x < left + width:
                    kept[i, :, y, x] = 0
    return images * kept


def _cut(images, boxes, *, hole=None, fill=0.0, keep=False):
    """Cutout with one part replaced; `hole` tells, of rows y, columns x and the boxes' numbers, what lies inside."""
    y = torch.arange(images.shape[2])[:, None]  # [H, 1]
    x = torch.arange(images.shape[3])  # [W]
    inside = (hole or _hole)(y, x, *boxes[:, :, None, None].unbind(1))[:, None]  # [N, 1, H, W]
    return torch.where(inside == keep, images, fill)


def _hole(y, x, top, left, height, width):
    return (y >= top) & (y < top + height) & (x >= left) & (x < left + width)


def _to_corner(y, x, top, left, bottom, right):
    return (y >= top) & (y < bottom) & (x >= left) & (x < right)


def _inclusive(y, x, top, left, height, width):
    return (y >= top) & (y <= top + height) & (x >= left) & (x <= left + width)


def _centred(y, x, top, left, height, width):
    return _hole(y, x, top - height // 2, left - width // 2, height, width)


def _bands(y, x, top, left, height, width):
    return (y >= top) & (y < top + height) | (x >= left) & (x < left + width)


def _first_channel(images, boxes):
    return torch.cat([_cut(images, boxes)[:, :1], images[:, 1:]], 1)


CUTOUT_MISTAKES = [
    (lambda x, b: x, "nothing is cut out."),
    (partial(_cut, keep=True), "the box is kept and the rest cut out: it is the other way round."),
    (lambda x, b: _cut(x, b[:1].expand_as(b)), "one box, the first, for the whole batch: every picture has its own."),
    (lambda x, b: _cut(x, b[:, [1, 0, 3, 2]]), "rows and columns are exchanged: top and height run along H, the "
     "third axis; left and width along W, the last."),
    (lambda x, b: _cut(x, b[:, [0, 1, 3, 2]]), "height and width are exchanged: a box is top, left, height, width."),
    (partial(_cut, hole=_to_corner), "height and width are taken for the lower right corner: a box ends at "
     "top + height and left + width."),
    (partial(_cut, hole=_inclusive), "one row and one column too many: the box ends before top + height and "
     "before left + width."),
    (partial(_cut, hole=_centred), "the box is centred on its corner: top and left are where it begins."),
    (partial(_cut, hole=_bands), "whole rows and columns are cut out: a pixel is in the box if its row *and* its "
     "column are (&, not |)."),
    (_first_channel, "only the first channel is cut: a box goes through all of them."),
    (partial(_cut, fill=1.0), "the boxes are filled with 1: fill with 0."),
    (partial(_cut, fill=0.5), "the boxes are filled with 0.5: fill with 0."),
]  # fmt: skip


def check_box_iou(function: Callable, seed: int = 0) -> Report:
    """Check `function(boxes1, boxes2)`: two boxes for each of N pictures, integers [N, 4] each (top, left, height,
    width, at least one pixel), to the area of their intersection over that of their union, [N] in 0 to 1.
    """
    exercise = Exercise(
        task="write the function that takes boxes1 [N, 4] and boxes2 [N, 4] and returns intersection over union [N]",
        cases=[
            _iou_case([[0, 0, 2, 2]], [[1, 0, 2, 2]]),  # 2 of 6
            _iou_case([[0, 0, 4, 6], [2, 3, 5, 2]], [[1, 2, 6, 3], [0, 0, 9, 9]]),
            _iou_case([[0, 0, 2, 2], [0, 5, 3, 1], [4, 4, 2, 3]], [[3, 4, 2, 3], [1, 1, 2, 3], [4, 4, 2, 3]]),
            _iou_case([[0, 9, 6, 7], [8, 0, 4, 9], [3, 3, 20, 11]], [[2, 0, 9, 12], [10, 2, 16, 3], [20, 5, 4, 25]]),
        ],
        oracle=_iou_loop,
        mistakes=IOU_MISTAKES,
        not_finite="right where it is finite, but some values are NaN or infinite: the union is never empty, since "
        "every box has at least one pixel. What do you divide by?",
        verified="values agree with counting pixels in 6 cases, fresh ones included (N from 1 to 5, boxes that meet, "
        "contain each other, are equal, or lie apart); the inputs are left as they were.",
        gradients=False,
        fresh=lambda seed: dict(zip(("boxes1", "boxes2"), _box_pairs(seed), strict=True)),
    )
    return judge(function, exercise, seed)


def _iou_case(boxes1, boxes2) -> dict:
    return {"boxes1": torch.tensor(boxes1), "boxes2": torch.tensor(boxes2)}


def _iou_loop(boxes1, boxes2):
    """Count pixels."""
    shares = []
    for one, other in zip(boxes1.tolist(), boxes2.tolist(), strict=True):
        a, b = ({(y, x) for y in range(t, t + h) for x in range(c, c + w)} for t, c, h, w in (one, other))
        shares.append(len(a & b) / len(a | b))
    return torch.tensor(shares)


def _iou(boxes1, boxes2, *, clamp=True, outer=lambda inner, a, b: a + b - inner, read=lambda b: b, combine=torch.prod):
    """Intersection over union with one part replaced."""
    (a, b) = (read(boxes.double()) for boxes in (boxes1, boxes2))
    low = torch.maximum(a[:, :2], b[:, :2])
    sides = torch.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]) - low  # [N, 2], negative where they lie apart
    inner = combine(sides.clamp(min=0) if clamp else sides, 1)
    return (inner / outer(inner, *(combine(boxes[:, 2:], 1) for boxes in (a, b)))).float()


def _as_corners(boxes):
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)


IOU_MISTAKES = [
    (partial(_iou, clamp=False), "boxes that lie apart get an area: both sides of their intersection are negative, and "
     "the product of two negatives is positive. Clamp each side at 0 first."),
    (partial(_iou, outer=lambda inner, a, b: a + b), "divided by the sum of both areas: the union counts what they "
     "share once, so subtract the intersection."),
    (partial(_iou, outer=lambda inner, a, b: a), "divided by the area of the first box: the union is wanted."),
    (partial(_iou, outer=lambda inner, a, b: b), "divided by the area of the second box: the union is wanted."),
    (partial(_iou, outer=lambda inner, a, b: torch.minimum(a, b)), "divided by the smaller area: the union is wanted."),
    (partial(_iou, outer=lambda inner, a, b: torch.maximum(a, b)), "divided by the larger area: the union is wanted."),
    (partial(_iou, outer=lambda inner, a, b: 1 + 0 * a), "this is the intersection's area: divide by the union's."),
    (partial(_iou, combine=torch.sum), "sides are added, not multiplied: an area is height × width."),
    (partial(_iou, read=_as_corners), "height and width are taken for the lower right corner: a box ends at "
     "top + height and left + width."),
    (lambda a, b: _iou(a, b).mean(), "this is the mean over the pictures: return one number for each, [N]."),
    (lambda a, b: 1 - _iou(a, b), "this is 1 − IoU: 1 stands for equal boxes, 0 for boxes that lie apart."),
]  # fmt: skip


# --- the steps of lab 1 ---


def check_flip(function: Callable, seed: int = 0) -> Report:
    """Check `function(images, flips)`: pictures [N, C, H, W] and a yes or no for each, booleans [N]: the pictures with
    a yes come back mirrored left to right.
    """
    exercise = Exercise(
        task="write the function that takes pictures [N, C, H, W] and flips [N] and returns the chosen ones mirrored",
        cases=[
            {"images": torch.arange(1.0, 13).view(2, 1, 2, 3) / 20, "flips": torch.tensor([True, False])},
            {"images": _pictures(11, 3, 3, 4, 3), "flips": torch.tensor([False, False, True])},
            {"images": _pictures(12, 2, 3, 3, 3), "flips": torch.tensor([False, False])},
            {"images": _pictures(13, 4, 3, 4, 4).double(), "flips": torch.tensor([True, False, True, True])},
        ],
        oracle=_flip_loop,
        mistakes=FLIP_MISTAKES,
        not_finite="right where it is finite, but some values are NaN or infinite: values only change places.",
        verified="values and gradients agree with a plain loop in 6 cases, fresh ones included (N from 2 to 6, 1 to 3 "
        "channels, all, some and none chosen, float32 and float64); the inputs are left as they were.",
        fresh=lambda seed: {
            "images": _pictures(seed, 4 + seed % 3, 3, 3, 5),
            "flips": _some(seed + 7, 4 + seed % 3),
        },
    )
    return judge(function, exercise, seed)


def _some(seed: int, n: int) -> torch.Tensor:
    """Booleans [n], both kinds among them."""
    return torch.cat([torch.tensor([True, False]), _pictures(seed, n - 2) < 0.5])


def _flip_loop(images, flips):
    """Row by row, from the last value to the first."""
    pictures = []
    for image, flip in zip(images, flips.tolist(), strict=True):
        columns = range(image.shape[2])
        pictures.append(torch.stack([image[:, :, i] for i in (reversed(columns) if flip else columns)], 2))
    return torch.stack(pictures)


def _flipped(images, which, axes=(3,)):
    return torch.where(which, images.flip(axes), images)


FLIP_MISTAKES = [
    (lambda x, f: x, "nothing is mirrored."),
    (lambda x, f: x.flip(3), "every picture is mirrored: only those with a yes are."),
    (lambda x, f: _flipped(x, ~_own(f)), "the others are mirrored: those with a yes are meant."),
    (lambda x, f: _flipped(x, f[0]), "one decision for the whole batch, the first: every picture has its own."),
    (lambda x, f: _flipped(x, f.any()), "one decision for the whole batch, taken with any(): every picture has its "
     "own."),
    (lambda x, f: _flipped(x, _own(f), [2]), "mirrored top to bottom: left to right is along W, the last axis."),
    (lambda x, f: _flipped(x, _own(f), [1]), "the channels are in reverse order, so the colours change: left to right "
     "is along W, the last axis."),
    (lambda x, f: _flipped(x, _own(f), [0]), "the batch is in reverse order: that mixes pictures up. Left to right is "
     "along W, the last axis."),
    (lambda x, f: _flipped(x, _own(f), [2, 3]), "mirrored along both sides, which is half a turn: only W is meant."),
    (lambda x, f: torch.where(_own(f), x.mT, x) if x.shape[2] == x.shape[3] else _flipped(x, _own(f)), "rows and "
     "columns are exchanged: that mirrors along the diagonal. Left to right is along W alone."),
    (lambda x, f: _flipped(x, _along(x, f, -1)), "the decisions run along the width, not along the batch: [N] has to "
     "become [N, 1, 1, 1] before it meets [N, C, H, W]."),
    (lambda x, f: x[f].flip(3), "only the mirrored pictures come back: return all N, in their order."),
]  # fmt: skip


def check_grayscale(function: Callable, seed: int = 0) -> Report:
    """Check `function(images, which)`: RGB pictures [N, 3, H, W] and a yes or no for each, booleans [N]: the pictures
    with a yes come back gray, 0.299 R + 0.587 G + 0.114 B in all three channels.
    """
    exercise = Exercise(
        task="write the function that takes pictures [N, 3, H, W] and which [N] and returns the chosen ones in gray",
        cases=[
            {
                "images": torch.tensor([0.1, 0.3, 0.9, 0.7, 0.2, 0.2, 0.8, 0.4, 0.5, 0.6, 0.1, 0.3]).view(2, 3, 1, 2),
                "which": torch.tensor([True, False]),
            },
            {"images": _tinted(21, 3, 2, 3), "which": torch.tensor([False, True, True])},
            {"images": _tinted(22, 2, 3, 3), "which": torch.tensor([False, False])},
            {"images": _tinted(23, 4, 4, 4).double(), "which": torch.tensor([True, True, False, True])},
        ],
        oracle=_gray_loop,
        mistakes=GRAY_MISTAKES,
        not_finite="right where it is finite, but some values are NaN or infinite: is something divided by zero?",
        verified="values and gradients agree with a plain loop in 6 cases, fresh ones included (N from 2 to 6, all, "
        "some and none chosen, float32 and float64; 0.2989 for red passes too); the inputs are left as they were.",
        tolerance=1e-3,  # torchvision's weight of red is 0.2989
        fresh=lambda seed: {
            "images": _tinted(seed, 4 + seed % 3, 3, 5),
            "which": _some(seed + 7, 4 + seed % 3),
        },
    )
    return judge(function, exercise, seed)


def _tinted(seed: int, n: int, height: int, width: int) -> torch.Tensor:
    """Pictures whose channels differ, so that no mean is like another."""
    return _pictures(seed, n, 3, height, width) * torch.tensor([0.7, 1.0, 0.4]).view(3, 1, 1)


def _gray_loop(images, which):
    """Pixel by pixel."""
    new = images.clone()
    for i, chosen in enumerate(which.tolist()):
        for y in range(images.shape[2] if chosen else 0):
            for x in range(images.shape[3]):
                red, green, blue = images[i, :, y, x]
                new[i, :, y, x] = 0.299 * red + 0.587 * green + 0.114 * blue
    return new


def _luma(images, weights=(0.299, 0.587, 0.114)):
    return (images * torch.tensor(weights, dtype=images.dtype).view(3, 1, 1)).sum(1, keepdim=True)  # [N, 1, H, W]


def _grayed(images, which, gray=None):
    return torch.where(which, _luma(images) if gray is None else gray, images)


GRAY_MISTAKES = [
    (lambda x, w: x, "nothing is gray."),
    (lambda x, w: _grayed(x, _own(w), x.mean(1, keepdim=True)), "a plain mean of R, G and B: green counts most, blue "
     "least (0.299, 0.587, 0.114)."),
    (lambda x, w: _grayed(x, _own(w), _luma(x, (0.114, 0.587, 0.299))), "the weights of red and blue are exchanged: "
     "channel 0 is red, its weight is 0.299."),
    (lambda x, w: _grayed(x, _own(w), _luma(x, (0.587, 0.299, 0.114))), "the weights of red and green are exchanged: "
     "0.299 for red, 0.587 for green."),
    (lambda x, w: _grayed(x, _own(w), _luma(x, (0.299, 0.587, 0.144))), "the weights don't sum to 1: blue's is 0.114. "
     "White must stay white."),
    (lambda x, w: _grayed(x, _own(w), x.sum(1, keepdim=True)), "R, G and B are added without weights, and leave 0 to "
     "1."),
    (lambda x, w: _grayed(x, _own(w), x.amax(1, keepdim=True)), "this is the largest of R, G and B, HSV's value: gray "
     "is their weighted sum."),
    (lambda x, w: _grayed(x, _own(w), (x.amax(1, keepdim=True) + x.amin(1, keepdim=True)) / 2), "this is the middle "
     "between the largest and the smallest channel: gray is the weighted sum of all three."),
    (lambda x, w: _grayed(x, _own(w), _luma(x).mean((2, 3), keepdim=True)), "each gray picture is one flat gray: the "
     "sum goes over the channels, not over the pixels."),
    (lambda x, w: _grayed(x, torch.tensor(True)), "every picture is gray: only those with a yes are."),
    (lambda x, w: _grayed(x, ~_own(w)), "the others are gray: those with a yes are meant."),
    (lambda x, w: _grayed(x, w[0]), "one decision for the whole batch, the first: every picture has its own."),
    (lambda x, w: _grayed(x, w.any()), "one decision for the whole batch, taken with any(): each picture has its own."),
    (lambda x, w: _grayed(x, _along(x, w, -1)), "the decisions run along the width, not along the batch: [N] has to "
     "become [N, 1, 1, 1] before it meets [N, C, H, W]."),
    (lambda x, w: _luma(x), "one channel comes back: the result has three, as the others of the batch do."),
    (lambda x, w: torch.cat([_grayed(x, _own(w))[:, :1], x[:, 1:]], 1), "only the first channel is replaced: gray has "
     "all three equal."),
]  # fmt: skip


def check_brightness_contrast(function: Callable, seed: int = 0) -> Report:
    """Check `function(images, brightness, contrast)`: RGB pictures [N, 3, H, W] and two factors for each, [N]: first
    times the brightness, clamped to 0..1, then blended with the flat mean of its own gray, m + contrast * (x - m),
    and clamped again.
    """
    exercise = Exercise(
        task="write the function that takes pictures [N, 3, H, W], brightness [N] and contrast [N] and returns them "
        "brighter and with that contrast",
        cases=[
            {
                "images": torch.tensor([0.4, 0.8]).expand(2, 3, 1, 2).clone(),
                "brightness": torch.tensor([1.5, 0.5]),
                "contrast": torch.tensor([0.5, 1.2]),
            },
            {
                "images": _tinted(31, 3, 3, 2),
                "brightness": torch.tensor([1.8, 0.6, 1.0]),
                "contrast": torch.tensor([1.0, 1.9, 0.4]),
            },
            {
                "images": _tinted(32, 4, 5, 4).double(),
                "brightness": torch.tensor([0.7, 2.2, 1.3, 0.4]).double(),
                "contrast": torch.tensor([2.4, 0.3, 2.8, 1.6]).double(),
            },
        ],
        oracle=_light_loop,
        mistakes=LIGHT_MISTAKES,
        not_finite="right where it is finite, but some values are NaN or infinite: nothing has to be divided here.",
        verified="values and the pictures' gradients agree with a plain loop in 5 cases, fresh ones included (N from 2 "
        "to 6, factors from 0.3 to 2.8, float32 and float64; 0.2989 for red passes too); the inputs are left as they "
        "were.",
        gradients=("images",),
        tolerance=1e-3,  # torchvision's weight of red is 0.2989
        fresh=lambda seed: {
            "images": _tinted(seed, 4 + seed % 3, 3, 4),
            "brightness": 0.4 + 1.6 * _pictures(seed + 7, 4 + seed % 3),
            "contrast": 0.3 + 1.9 * _pictures(seed + 8, 4 + seed % 3),
        },
    )
    return judge(function, exercise, seed)


def _light_loop(images, brightness, contrast):
    """Picture by picture, one number at a time."""
    new = []
    for image, b, c in zip(images, brightness, contrast, strict=True):
        bright = [[(b * x).clamp(0, 1) for x in channel.flatten()] for channel in image]  # 3 lists of numbers
        grays = [0.299 * red + 0.587 * green + 0.114 * blue for red, green, blue in zip(*bright, strict=True)]
        mean = sum(grays) / len(grays)
        new.append(torch.stack([torch.stack([(mean + c * (x - mean)).clamp(0, 1) for x in row]) for row in bright]))
    return torch.stack(new).reshape(images.shape)


def _unit(x):
    return x.clamp(0, 1)


def _mean_gray(images):
    return _luma(images).mean((1, 2, 3), keepdim=True)  # [N, 1, 1, 1]


def _light(images, brightness, contrast, *, brighten=torch.mul, flat=_mean_gray, factor=_own, first=_unit, last=_unit):
    """Brightness, then contrast, with one part replaced."""
    bright = first(brighten(images, factor(brightness)))
    mean = flat(bright)
    return last(mean + factor(contrast) * (bright - mean))


def _contrast_first(images, brightness, contrast):
    return _unit(_own(brightness) * _light(images, torch.ones_like(brightness), contrast))


def _mean_before(images, brightness, contrast):
    return _light(images, brightness, contrast, flat=lambda bright: _mean_gray(images))


def _first_of(values):
    return values[:1].expand_as(values)


LIGHT_MISTAKES = [
    (lambda x, b, c: x, "the pictures come back as they were."),
    (lambda x, b, c: _light(x, _first_of(b), _first_of(c)), "the first picture's factors are used for the whole batch: "
     "every picture has its own."),
    (lambda x, b, c: _light(x, _first_of(b), c), "the first picture's brightness is used for the whole batch: every "
     "picture has its own."),
    (lambda x, b, c: _light(x, b, _first_of(c)), "the first picture's contrast is used for the whole batch: every "
     "picture has its own."),
    (lambda x, b, c: _light(x, c, b), "brightness and contrast are exchanged."),
    (lambda x, b, c: _light(x, b, torch.ones_like(c)), "the contrast is not used."),
    (lambda x, b, c: _light(x, torch.ones_like(b), c), "the brightness is not used."),
    (_contrast_first, "contrast first, then brightness: it is the other way round, and the order matters."),
    (_mean_before, "the mean is taken before the brightness is changed: contrast looks at the brightened picture."),
    (partial(_light, first=lambda x: x, last=lambda x: x), "nothing is clamped: values leave 0 to 1."),
    (partial(_light, first=lambda x: x), "values are not clamped after the brightness: a pixel above 1 shifts the mean "
     "that contrast blends with."),
    (partial(_light, last=lambda x: x), "values are not clamped at the end: a contrast above 1 pushes them out of 0 to "
     "1."),
    (partial(_light, flat=lambda x: 0.5), "contrast is taken about 0.5: take it about the picture's own mean gray."),
    (partial(_light, flat=lambda x: _mean_gray(x).mean()), "the mean gray is taken over the whole batch: every picture "
     "has its own, so keep the first axis out of mean(...)."),
    (partial(_light, flat=lambda x: x.mean((2, 3), keepdim=True)), "each channel has a mean of its own: that changes "
     "the tint. The mean of the picture's gray is one number."),
    (partial(_light, flat=lambda x: x.mean((1, 2, 3), keepdim=True)), "a plain mean over R, G and B: first the gray, "
     "with its weights 0.299, 0.587, 0.114, then its mean."),
    (partial(_light, flat=_luma), "blended with the picture's own gray, pixel by pixel: that is saturation. Contrast "
     "blends with the mean of the gray, one number for a picture."),
    (partial(_light, brighten=lambda x, b: x + b), "the brightness is added: it is a factor."),
    (partial(_light, brighten=lambda x, b: x + b - 1), "brightness − 1 is added: brightness is a factor."),
    (partial(_light, flat=lambda x: 0.0), "the contrast only multiplies: the mean is taken away first and put back "
     "after."),
    (lambda x, b, c: _light(x, b, 1 - c), "the blend runs the wrong way: with contrast 1 the picture stays, with "
     "contrast 0 only the flat gray is left."),
    (lambda x, b, c: _light(x, b, c, factor=lambda values: _along(x, values, -1)), "the factors run along the width, "
     "not along the batch: [N] has to become [N, 1, 1, 1] before it meets [N, C, H, W]."),
]  # fmt: skip


def check_crop(function: Callable, seed: int = 0) -> Report:
    """Check `function(images, boxes, size)`: pictures [N, C, H, W] and a box for each, integers [N, 4] (top, left,
    height, width) inside it, to [N, C, size, size]: each box scaled by taking the nearest pixel. New row i is the old
    row top + floor((i + 0.5) * height / size), and so for columns.
    """
    exercise = Exercise(
        task="write the function that takes pictures [N, C, H, W], boxes [N, 4] and size and returns the boxes scaled "
        "to size × size",
        # In none is (i + 0.5) * height / size a whole number, where rounding errors would decide.
        cases=[
            _crop_case([[0, 1, 1, 2]], 1, 3, 4, size=2, base=torch.arange(1.0, 13).view(1, 1, 3, 4) / 20),
            _crop_case([[0, 1, 3, 2], [1, 1, 2, 3]], 3, 5, 5, size=2, seed=42),
            _crop_case([[1, 2, 3, 5], [0, 0, 7, 7], [2, 1, 5, 2]], 3, 7, 7, size=8, seed=43),
            _crop_case([[1, 0, 6, 5], [1, 3, 2, 4], [2, 3, 3, 4]], 1, 8, 7, size=4, seed=44, dtype=torch.float64),
        ],
        oracle=_crop_loop,
        mistakes=CROP_MISTAKES,
        not_finite="right where it is finite, but some values are NaN or infinite: values are only copied.",
        verified="values and gradients agree with a plain loop in 6 cases, fresh ones included (N from 1 to 5, 1 to 3 "
        "channels, pictures and boxes that aren't square, sizes 2, 4 and 8, smaller and larger, float32 and float64); "
        "the inputs are left as they were.",
        fresh=lambda seed: _crop_case(
            _boxes(seed, 3 + seed % 3, 7, 6, least=4).tolist(), 3, 7, 6, size=4 + 4 * (seed % 2), seed=seed
        ),
    )
    return judge(function, exercise, seed)


def _crop_case(boxes, channels, height, width, *, size, **options) -> dict:
    return _cutout_case(boxes, channels, height, width, **options) | {"size": size}


def _crop_loop(images, boxes, size):
    """Pixel by pixel, in whole numbers: (i + 1/2) h / S = (2i + 1) h / 2S."""
    new = images.new_zeros(len(images), images.shape[1], size, size)
    for n, (top, left, height, width) in enumerate(boxes.tolist()):
        for i in range(size):
            for j in range(size):
                new[n, :, i, j] = images[n, :, top + (2 * i + 1) * height // (2 * size),
                                         left + (2 * j + 1) * width // (2 * size)]  # fmt: skip
    return new


def _nearest(i, length, size):
    return ((i + 0.5) * length / size).floor()


def _cropped(images, boxes, size, *, rows=_nearest, columns=_nearest, read=lambda b: b):
    """Crop and scale with one part replaced; what would leave the picture stays at its edge."""
    i, (h, w), pictures = torch.arange(size).double(), images.shape[2:], []
    for image, (top, left, height, width) in zip(images, read(boxes).tolist(), strict=True):
        y = (top + rows(i, height, size)).long().clamp(0, h - 1)
        x = (left + columns(i, width, size)).long().clamp(0, w - 1)
        pictures.append(image[:, y][:, :, x])
    return torch.stack(pictures)


def _both(index):
    return partial(_cropped, rows=index, columns=index)


def _whole(images, boxes, size):
    everything = torch.tensor([[0, 0, *images.shape[2:]]]).expand_as(boxes)
    return _cropped(images, everything, size)


def _aligned_corners(i, length, size):
    return (i * (length - 1) / (size - 1)).round()


CROP_MISTAKES = [
    (_whole, "the boxes are not used: the whole pictures are scaled."),
    (lambda x, b, s: _cropped(x, b[:1].expand_as(b), s), "one box, the first, for the whole batch: every picture has "
     "its own."),
    (partial(_cropped, read=lambda b: b[:, [1, 0, 3, 2]]), "rows and columns are exchanged: top and height run along "
     "H, the third axis; left and width along W, the last."),
    (partial(_cropped, read=lambda b: b[:, [0, 1, 3, 2]]), "height and width are exchanged: a box is top, left, "
     "height, width."),
    (partial(_cropped, read=lambda b: b[:, [1, 0, 2, 3]]), "top and left are exchanged: a box is top, left, height, "
     "width."),
    (partial(_cropped, read=_as_corners), "height and width are taken for the lower right corner: a box ends at "
     "top + height and left + width."),
    (partial(_cropped, read=lambda b: b * torch.tensor([0, 0, 1, 1])), "the box is cut from the upper left corner of "
     "the picture: add top to the rows, left to the columns."),
    (_both(lambda i, length, size: (i * length / size).floor()), "the new pixels' corners are looked up, not their "
     "centres: the centre of pixel i lies at i + 0.5."),
    (_both(_aligned_corners), "first and last pixel are laid on the box's first and last (align_corners): that "
     "stretches what lies between. The centre of pixel i lies at i + 0.5."),
    (_both(lambda i, length, size: ((i + 0.5) * length / size).round()), "rounded, not cut off: a place from 1.0 to "
     "just below 2.0 lies in pixel 1, so take the floor."),
    (_both(lambda i, length, size: i), "nothing is scaled: these are the size × size pixels from the box's corner on."),
    (partial(_cropped, columns=lambda i, length, size: i), "only the rows are scaled."),
    (partial(_cropped, rows=lambda i, length, size: i), "only the columns are scaled."),
    (lambda x, b, s: _cropped(x, b, s).mT, "the result lies on its side: rows come before columns."),
    (lambda x, b, s: _cropped(x, b, s).flip(2), "the result is upside down."),
    (lambda x, b, s: augmentations.resized_crop(x, b, s), "values are blended from several pixels (bilinear): take the "
     "nearest pixel as it is."),
]  # fmt: skip


def check_object_kept(function: Callable, seed: int = 0) -> Report:
    """Check `function(crops, objects)`: two boxes for each of N pictures, integers [N, 4] each (top, left, height,
    width, at least one pixel), to the share of the object's box that lies in the crop, [N] in 0 to 1.
    """
    exercise = Exercise(
        task="write the function that takes crops [N, 4] and objects [N, 4] and returns the share of each object that "
        "its crop keeps, [N]",
        cases=[
            _kept_case([[0, 0, 2, 4]], [[1, 2, 2, 5]]),  # 2 of 10
            _kept_case([[0, 0, 4, 6], [2, 3, 5, 2]], [[1, 2, 6, 3], [0, 0, 9, 9]]),
            _kept_case([[0, 0, 2, 2], [0, 5, 3, 1], [4, 4, 2, 3]], [[3, 4, 2, 3], [1, 1, 2, 3], [4, 4, 2, 3]]),
            _kept_case([[0, 9, 6, 7], [8, 0, 4, 9], [3, 3, 20, 11]], [[2, 0, 9, 12], [10, 2, 16, 3], [5, 5, 4, 7]]),
        ],
        oracle=_kept_loop,
        mistakes=KEPT_MISTAKES,
        not_finite="right where it is finite, but some values are NaN or infinite: every object has at least one "
        "pixel. What do you divide by?",
        verified="values agree with counting pixels in 6 cases, fresh ones included (N from 1 to 5, boxes that meet, "
        "contain each other, are equal, or lie apart); the inputs are left as they were.",
        gradients=False,
        fresh=lambda seed: _kept_case(*(boxes.tolist() for boxes in _box_pairs(seed))),
    )
    return judge(function, exercise, seed)


def _kept_case(crops, objects) -> dict:
    return {"crops": torch.tensor(crops), "objects": torch.tensor(objects)}


def _kept_loop(crops, objects):
    """Count the object's pixels, and those of them that the crop shows."""
    shares = []
    for (top, left, height, width), (t, c, h, w) in zip(crops.tolist(), objects.tolist(), strict=True):
        shown = [top <= y < top + height and left <= x < left + width for y in range(t, t + h) for x in range(c, c + w)]
        shares.append(sum(shown) / len(shown))
    return torch.tensor(shares)


_kept = partial(_iou, outer=lambda inner, crop, object: object)

KEPT_MISTAKES = [
    (partial(_kept, clamp=False), "boxes that lie apart get an area: both sides of what they share are negative, and "
     "the product of two negatives is positive. Clamp each side at 0 first."),
    (_iou, "divided by the union, which is IoU: what counts is how much of the object is left, so divide by the "
     "object's area."),
    (partial(_iou, outer=lambda inner, a, b: a), "divided by the crop's area: divide by the object's."),
    (partial(_iou, outer=lambda inner, a, b: torch.minimum(a, b)), "divided by the smaller area: divide by the "
     "object's."),
    (partial(_iou, outer=lambda inner, a, b: torch.maximum(a, b)), "divided by the larger area: divide by the "
     "object's."),
    (partial(_iou, outer=lambda inner, a, b: a + b), "divided by the sum of both areas: divide by the object's."),
    (partial(_iou, outer=lambda inner, a, b: 1 + 0 * a), "this is the area that both share, in pixels: divide by the "
     "object's."),
    (partial(_kept, combine=torch.sum), "sides are added, not multiplied: an area is height × width."),
    (partial(_kept, combine=lambda sides, axis: sides[:, 0]), "only the heights are compared: an area is height × "
     "width."),
    (partial(_kept, combine=lambda sides, axis: sides[:, 1]), "only the widths are compared: an area is height × "
     "width."),
    (partial(_kept, read=_as_corners), "height and width are taken for the lower right corner: a box ends at "
     "top + height and left + width."),
    (lambda crops, objects: _kept(crops, objects).mean(), "this is the mean over the pictures: return one number for "
     "each, [N]."),
    (lambda crops, objects: 1 - _kept(crops, objects), "this is the share that is lost: the share kept is wanted."),
    (lambda crops, objects: (_kept(crops, objects) == 1).float(), "these are zeros and ones: a part of an object "
     "counts, too."),
    (lambda crops, objects: (_kept(crops, objects) > 0).float(), "this tells whether crop and object meet at all: how "
     "much is kept?"),
]  # fmt: skip


# --- a whole recipe: no equation to compare with, so it is asked for its properties ---

VIEWS = Exercise(
    task="write the function that takes a batch [N, 3, H, W] and a generator and returns two views of each picture",
    cases=[],
    oracle=None,
    mistakes=[],
    not_finite="",
    verified="values lie in 0 to 1, two different views come back in the batch's shape, each row made of its own "
    "picture alone; the same seed gives the same views, the next call others; and crop, flip, light and gray are drawn "
    "for every picture.",
)


def check_views(function: Callable, seed: int = 0) -> Report:
    """Check `function(batch, generator)`: pictures [N, 3, H, W], uint8, and a `torch.Generator`, to a pair of views,
    float [N, 3, H, W] in 0 to 1. A view is a crop, sometimes mirrored, with a brightness of its own, sometimes gray;
    all drawn from the generator, for every picture.
    """
    report = judge(function, VIEWS, seed)
    if not report:  # not begun, or no function
        return report
    batch, state = (255 * _pictures(FRESH + seed, 6, 3, 16, 16)).byte(), torch.get_rng_state()
    try:
        _ask_views(function, batch, seed)
        for what, (picture, measure) in _PROBES.items():
            _probe(function, picture, measure, what, seed)
    except _Stop as stop:
        return stop.report
    except (Exception, SystemExit) as error:
        if isinstance(error, NotImplementedError) and "not implemented for" not in str(error):  # a stub, not torch
            return Report(NOT_STARTED, f"{VIEWS.task}.")
        return _stop_for_error(error, {"batch": batch}, VIEWS).report
    finally:
        torch.set_rng_state(state)
    return report


def _call_views(function, batch, generator) -> tuple[torch.Tensor, torch.Tensor]:
    given = batch.clone()
    views = function(given, generator)
    nothing = views is None or views is ... or views is NotImplemented
    if nothing or (isinstance(views, tuple | list) and any(view is None or view is ... for view in views)):
        raise _Stop(f"{VIEWS.task}. Nothing is returned yet (a missing `return` looks the same).", NOT_STARTED)
    if not equal(given, batch):
        raise _Stop("your function changed its input `batch`, which belongs to the caller. Make new tensors.")
    if not isinstance(views, tuple | list) or len(views) != 2 or not all(isinstance(v, torch.Tensor) for v in views):
        found = f"{len(views)} things" if isinstance(views, tuple | list) else f"a {type(views).__name__}"
        raise _Stop(f"expected two tensors, `return view1, view2`, got {found}.")
    for view in views:
        _check_view(view, batch)
    return tuple(view.detach() for view in views)


def _check_view(view, batch) -> None:
    if not view.is_floating_point():
        raise _Stop(f"a view is {view.dtype}: begin with `augmentations.to_float(batch)`, which makes float in 0 to 1.")
    if view.shape != batch.shape:
        raise _Stop(f"a view has the shape {list(view.shape)}, the batch {list(batch.shape)}: they are equal here.")
    if not view.isfinite().all():
        raise _Stop("some values are NaN or infinite: is something divided by zero?")
    low, high = (value.item() for value in view.detach().aminmax())
    if high > 2:
        raise _Stop(f"values reach {high:.0f}: begin with `augmentations.to_float(batch)`, which divides by 255.")
    if low < -1e-3 or high > 1 + 1e-3:
        raise _Stop(f"values from {low:.2f} to {high:.2f}: clamp to 0..1 where a step leaves it.")


def _ask_views(function, batch, seed: int) -> None:
    """Raise `_Stop` unless the views come from the generator, and each from its own picture."""

    def views(pictures, generator=None):
        return _call_views(function, pictures, generator or torch.Generator().manual_seed(seed))

    generator = torch.Generator().manual_seed(seed)
    (view1, view2), (next1, _) = views(batch, generator), views(batch, generator)
    flat = (view1.flatten(2) - view1.flatten(2).median(2, keepdim=True).values).abs() < 1e-3  # [N, 3, H * W]
    if flat.float().mean() > 0.9:  # not all: a pixel of 0 stays 0
        raise _Stop(
            "each view is one flat colour: begin with `augmentations.to_float(batch)`, which divides by 255, or all "
            "values are clamped to 1."
        )
    if equal(view1, augmentations.to_float(batch)):
        raise _Stop("the first view is the picture itself: both views are changed.")
    if equal(view1, view2):
        raise _Stop("both views are the same: draw parameters twice, once for each view.")
    if equal(view1, next1):
        raise _Stop("each call gives the same views: use the generator that is given, make and seed none inside.")
    if not equal(view1, views(batch)[0]):
        raise _Stop(
            "two generators with the same seed give different views: something is drawn without the generator, "
            "`torch.rand(n, generator=generator)`."
        )
    other = batch.clone()
    other[3] = 255 - batch[3]
    for first, second in zip((view1, view2), views(other), strict=True):
        changed = (first != second).flatten(1).any(1).nonzero()[:, 0].tolist()
        if 3 not in changed:
            raise _Stop("row i of a view doesn't come from picture i: keep the order of the batch.")
        if changed != [3]:
            raise _Stop(
                "where one picture of the batch changes, views of others do, too: is a mean taken over the "
                "batch, or are rows mixed?"
            )


# What tells each step from the others: a picture on which only it shows, and what to measure on its views, [N].


def _mirrored(views):
    """A ramp from dark to bright falls instead of rising."""
    light = views.mean((1, 2))  # [N, W]
    return (light[:, -1] < light[:, 0]).float()


def _edge(views):
    """The row below which a dark picture is bright."""
    light = views.mean((1, 3))  # [N, H]
    return (light[:, 1:] - light[:, :-1]).abs().argmax(1).float()


def _colourless(views):
    return ((views.amax(1) - views.amin(1)).mean((1, 2)) < 0.02).float()


_RAMP = torch.linspace(0.2, 0.8, 16).expand(3, 16, 16)
_STEP = torch.cat([torch.full((3, 8, 16), 0.3), torch.full((3, 8, 16), 0.6)], 1)
_RED = torch.tensor([0.8, 0.3, 0.2])[:, None, None].expand(3, 16, 16)
_FLAT = torch.full((3, 16, 16), 0.5)
_PROBES = {
    "the flip": (_RAMP, _mirrored),
    "the crop": (_STEP, _edge),
    "the brightness": (_FLAT, lambda views: views.mean((1, 2, 3))),
    "the gray": (_RED, _colourless),
}


def _probe(function, picture, measure, what: str, seed: int, n: int = 32, calls: int = 6) -> None:
    """Views of one picture, n times a batch: does the measure differ within a batch, and from view to view?"""
    generator = torch.Generator().manual_seed(FRESH + seed)
    batch = (255 * picture).byte().expand(n, -1, -1, -1).contiguous()
    pairs = [[measure(view) for view in _call_views(function, batch, generator)] for _ in range(calls)]
    found = list(itertools.chain(*pairs))  # [N] each
    within = torch.stack([values.amax() - values.amin() for values in found]).mean().item()
    if within > 1e-3:
        if all((first - second).abs().max() < 1e-3 for first, second in pairs):
            raise _Stop(f"{what} is the same in both views of a picture: the second view needs draws of its own.")
        return
    across = torch.stack([values.mean() for values in found])
    if across.amax() - across.amin() > 1e-3:
        raise _Stop(f"{what} is drawn once for the whole batch: every picture needs a draw of its own, [N] numbers.")
    raise _Stop(f"{what} is the same in all views: {2 * calls * n} views of one picture do not differ in it.")


# --- questions ---


def _two_crops(seed: int) -> dict:
    """Two crops of a picture of 32 × 32, (top, left, height, width). The second begins inside the first and ends
    beyond it."""
    top, left, tall, wide = 1 + seed % 4, seed % 3, 7 - seed % 5, 17 - 2 * (seed % 7)  # tall × wide is what they share
    second = (top + 10 - tall, left + 20 - wide, tall + 9, wide + 6)
    return {"first": (top, left, 10, 20), "second": second}


def _shared_sides(first, second) -> list[int]:
    return [min(first[i] + first[i + 2], second[i] + second[i + 2]) - max(first[i], second[i]) for i in range(2)]


def _shared(first, second) -> int:
    """Count pixels."""
    a, b = ({(y, x) for y in range(t, t + h) for x in range(c, c + w)} for t, c, h, w in (first, second))
    return len(a & b)


def _area(box) -> int:
    return box[2] * box[3]


_NOT_OTHERS = "of what the *first* crop shows: divide by the first crop's area."

CROP_OVERLAP = Question(
    task="find the share of the first crop's area that the second crop shows, too, from 0 to 1",
    given=_two_crops,
    answer=lambda first, second: _shared(first, second) / _area(first),
    mistakes=[
        (lambda first, second: _shared(first, second), "this is the shared area in pixels: divide by the first's."),
        (lambda first, second: 100 * _shared(first, second) / _area(first), "right in per cent: a share is 0 to 1."),
        (lambda first, second: _shared(first, second) / _area(second), f"this is the share of the second crop, not "
         f"{_NOT_OTHERS}"),
        (lambda first, second: _shared(first, second) / (_area(first) + _area(second) - _shared(first, second)),
         f"this is intersection over union, not the share {_NOT_OTHERS}"),
        (lambda first, second: _shared(first, second) / 32**2, f"this is the share of the whole picture, not "
         f"{_NOT_OTHERS}"),
        (lambda first, second: 1 - _shared(first, second) / _area(first), "this is the share that the second crop does "
         "*not* show."),
        (lambda first, second: _shared_sides(first, second)[0] / first[2], "this is the share of the height alone: an "
         "area is height × width."),
        (lambda first, second: _shared_sides(first, second)[1] / first[3], "this is the share of the width alone: an "
         "area is height × width."),
        (lambda first, second: _area(second) / _area(first), "this compares the two areas, wherever they lie: which "
         "part of them do both crops cover?"),
    ],
    verified="the part that both crops show, divided by the first crop's area.",
)  # fmt: skip


def _chances(seed: int) -> dict:
    """The probabilities that a view is jittered, and that it is made gray: 35 pairs of them."""
    return {"jitter": (30 + 4 * (seed % 7)) / 100, "gray": (20 + 3 * (2 * seed % 5)) / 100}


UNTOUCHED_PAIRS = Question(
    task="find the share of pairs in which neither view is jittered or made gray, from 0 to 1",
    given=_chances,
    answer=lambda jitter, gray: ((1 - jitter) * (1 - gray)) ** 2,
    mistakes=[
        (lambda jitter, gray: (1 - jitter) * (1 - gray), "this holds for one view: both must be untouched."),
        (lambda jitter, gray: (1 - jitter) ** 2, "this leaves the gray out: an untouched view has escaped both steps."),
        (lambda jitter, gray: (1 - gray) ** 2, "this leaves the jitter out: an untouched view has escaped both steps."),
        (lambda jitter, gray: 2 * (1 - jitter) * (1 - gray), "one view's share, doubled: for both it is multiplied by "
         "itself."),
        (lambda jitter, gray: (1 - jitter - gray) ** 2, "the two probabilities are added: what is independent is "
         "multiplied, (1 − jitter) · (1 − gray) for a view."),
        (lambda jitter, gray: 1 - ((1 - jitter) * (1 - gray)) ** 2, "this is the share of pairs with at least one view "
         "changed: the others are meant."),
        (lambda jitter, gray: (1 - (1 - jitter) * (1 - gray)) ** 2, "this is the share of pairs with *both* views "
         "changed: neither should be."),
        (lambda jitter, gray: (1 - jitter * gray) ** 2, "1 − jitter · gray is a view that is not *both* jittered and "
         "gray: it should be neither."),
        (lambda jitter, gray: (jitter * gray) ** 2, "in these pairs everything happens to both views: nothing should."),
        (lambda jitter, gray: 100 * ((1 - jitter) * (1 - gray)) ** 2, "right in per cent: a share is 0 to 1."),
    ],
    verified="a view escapes with (1 − jitter) · (1 − gray), and a pair has two views.",
)  # fmt: skip

_GENTLE = {"scale": (0.6, 1.0), "flip": 0.5, "brightness": 0.7, "contrast": 0.0, "saturation": 0.0, "hue": 0.5,
           "jitter": 1.0, "gray": 0.0}  # fmt: skip
_WITHOUT = {
    "crop": {"scale": (1.0, 1.0)},
    "flip": {"flip": 0.0},
    "brightness": {"brightness": 0.0},
    "hue": {"hue": 0.0},
}
_AGAINST = {
    "crop": "without crops every row would stay in its place, and the clue `rows` would find most partners.",
    "flip": "without flips left would stay left, and the clue `columns` would find about as many partners as `rows`.",
    "brightness": "without brightness changes the clue `lightness` would find several times as many partners.",
    "hue": "without hue shifts red would stay red, and the clue `tint` would find most partners.",
}


def _left_out(seed: int) -> str:
    return list(_WITHOUT)[_integers(FRESH + seed, 0, len(_WITHOUT) - 1, 1).item()]


def four_step_views(size: int = 16, seed: int | None = None) -> Callable:
    """A recipe of four steps, crop, flip, brightness and hue, for the question "left_out_step": all four, or, with a
    seed, without one of them. Called as views(batch, generator)."""
    changes = {} if seed is None else _WITHOUT[_left_out(seed)]
    recipe = augmentations.TwoViews(size, **_GENTLE | changes)
    return lambda batch, generator: recipe(batch, generator)  # the recipe itself would print the answer


LEFT_OUT_STEP = Choice(
    task="which step was left out of the second recipe",
    options={
        "crop": "the crop",
        "flip": "the flip",
        "brightness": "the change of brightness",
        "hue": "the shift of hue",
    },
    right=_left_out,
    why_not=lambda option, seed: _AGAINST[option],
    verified="the clue that this step hides finds far more partners than with all four steps.",
)
