"""Checks of random views: pictures [N, C, H, W], parameters of its own for each."""

from collections.abc import Callable
from functools import partial

import torch

from clbook.checks.exercise import Exercise, Report, judge


def check_solarize(function: Callable) -> Report:
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
        verified="values agree with a plain loop in 5 cases (N from 1 to 6, 1 to 3 channels, float32 and float64, a "
        "value that equals its threshold); the inputs are left as they were.",
        gradients=False,  # a threshold has none
    )
    return judge(function, exercise)


def _pictures(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


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


def check_cutout(function: Callable) -> Report:
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
        verified="values and gradients agree with a plain loop in 4 cases (N from 1 to 4, 1 to 3 channels, pictures "
        "that aren't square, an empty box, float32 and float64); the inputs are left as they were.",
    )
    return judge(function, exercise)


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


def check_box_iou(function: Callable) -> Report:
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
        verified="values agree with counting pixels in 4 cases (N from 1 to 3, boxes that meet, contain each other, "
        "are equal, or lie apart); the inputs are left as they were.",
        gradients=False,
    )
    return judge(function, exercise)


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
