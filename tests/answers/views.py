"""Right and wrong answers to the exercises on views."""

import torch
from torchvision.ops import box_iou

from answers.edit import edited
from clbook import augmentations, checks
from clbook.checks.views import CUTOUT_MISTAKES, IOU_MISTAKES, SOLARIZE_MISTAKES

SOLARIZE = """
def solarize(images, threshold):
    bright = images >= threshold[:, None, None, None]
    return torch.where(bright, 1 - images, images)
"""


def solarize_by_arithmetic(images, threshold):
    bright = (images >= threshold.view(-1, 1, 1, 1)).to(images.dtype)
    return bright * (1 - images) + (1 - bright) * images


def solarize_on_a_copy(images, threshold):
    result = images.clone()
    bright = images >= threshold.reshape(-1, 1, 1, 1)
    result[bright] = 1 - result[bright]
    return result


def solarize_picture_by_picture(images, threshold):
    return torch.stack([torch.where(x < t, x, 1 - x) for x, t in zip(images, threshold, strict=True)])


RIGHT_SOLARIZE = [
    edited(SOLARIZE),
    solarize_by_arithmetic,
    solarize_on_a_copy,
    solarize_picture_by_picture,
    augmentations.solarize,
]


def solarize_in_place(images, threshold):
    bright = images >= threshold[:, None, None, None]
    images.data[bright] = 1 - images.data[bright]
    return images


WRONG_SOLARIZE = [
    (
        edited(SOLARIZE, "threshold[:, None, None, None]", "255 * threshold[:, None, None, None] + 1"),
        "nothing is inver",
    ),
    (edited(SOLARIZE, "torch.where(bright, 1 - images, images)", "1 - images"), "every value is inverted"),
    (edited(SOLARIZE, ">=", "<"), "the dark values are inverted"),
    (edited(SOLARIZE, ">=", ">"), "a value that equals its threshold"),
    (edited(SOLARIZE, "threshold[:, None, None, None]", "threshold[0]"), "one threshold for the whole batch: "),
    (
        edited(SOLARIZE, "threshold[:, None, None, None]", "threshold.mean()"),
        "one threshold for the whole batch, the m",
    ),
    (edited(SOLARIZE, "[:, None, None, None]"), "along the width"),
    (edited(SOLARIZE, "[:, None, None, None]", "[:, None, None]"), "along the channels"),
    (edited(SOLARIZE, "[:, None, None, None]", "[:5, None, None, None]"), "stops with an error in line 3"),
    (edited(SOLARIZE, "1 - images", "-images"), "inverted values are −x"),
    (edited(SOLARIZE, "1 - images", "255 - images"), "inverted values are 255 − x"),
    (edited(SOLARIZE, "torch.where(bright, 1 - images, images)", "bright.to(images.dtype)"), "zeros and ones"),
    (edited(SOLARIZE, "torch.where(bright, 1 - images, images)", "bright * (1 - images)"), "dark values have become 0"),
    (edited(SOLARIZE, "torch.where(bright, 1 - images, images)", "bright"), "unusual tensor"),
    (solarize_in_place, "changed its input `images`"),
    (lambda images, threshold: augmentations.solarize(images, threshold).double(), "result is torch.float64"),
]

CUTOUT = """
def cutout(images, boxes):
    top, left, height, width = boxes[:, :, None, None].unbind(1)
    y = torch.arange(images.shape[2])[:, None]
    x = torch.arange(images.shape[3])
    rows, columns = (y >= top) & (y < top + height), (x >= left) & (x < left + width)
    hole = rows & columns
    return torch.where(hole[:, None], 0, images)
"""

CUTOUT_LOOP = """
def cutout(images, boxes):
    result = images.clone()
    for i, (top, left, height, width) in enumerate(boxes.tolist()):
        result[i, :, top : top + height, left : left + width] = 0
    return result
"""


def cutout_by_mask(images, boxes):
    mask = torch.ones_like(images[:, :1])
    for one, box in zip(mask, boxes, strict=True):
        one[:, box[0] : box[0] + box[2], box[1] : box[1] + box[3]].zero_()
    return images * mask


RIGHT_CUTOUT = [edited(CUTOUT), edited(CUTOUT_LOOP), cutout_by_mask, augmentations.cutout]

WRONG_CUTOUT = [
    (lambda images, boxes: images.clone(), "nothing is cut out"),
    (edited(CUTOUT, "0, images", "images, 0"), "the box is kept"),
    (
        edited(CUTOUT_LOOP, "enumerate(boxes.tolist())", "enumerate(boxes[:1].tolist() * len(images))"),
        "one box, the first",
    ),
    (edited(CUTOUT_LOOP, "(top, left, height, width)", "(left, top, width, height)"), "rows and columns are exchanged"),
    (edited(CUTOUT_LOOP, "(top, left, height, width)", "(top, left, width, height)"), "height and width are exchanged"),
    (edited(CUTOUT_LOOP, "top : top + height, left : left + width", "top:height, left:width"), "lower right corner"),
    (
        edited(CUTOUT_LOOP, "top + height, left : left + width", "top + height + 1, left : left + width + 1"),
        "one row and",
    ),
    (edited(CUTOUT, "rows & columns", "rows | columns"), "whole rows and columns"),
    (edited(CUTOUT_LOOP, "[i, :,", "[i, 0,"), "only the first channel"),
    (edited(CUTOUT_LOOP, "= 0", "= 1"), "filled with 1"),
    (edited(CUTOUT_LOOP, "= 0", "= 0.5"), "filled with 0.5"),
    (edited(CUTOUT_LOOP, "images.clone()", "images.data"), "changed its input `images`"),
    (edited(CUTOUT_LOOP, "[i, :,", "[:, :,"), "not in a way that this check knows"),
    (edited(CUTOUT_LOOP, "[i, :,", "[i,"), "not in a way that this check knows"),
    (edited(CUTOUT_LOOP, "images.clone()", "images.detach().clone()"), "no gradient flows back to `images`"),
]

IOU = """
def iou(boxes1, boxes2):
    low = torch.maximum(boxes1[:, :2], boxes2[:, :2])
    high = torch.minimum(boxes1[:, :2] + boxes1[:, 2:], boxes2[:, :2] + boxes2[:, 2:])
    inner = (high - low).clamp(min=0).prod(1)
    return inner / (boxes1[:, 2:].prod(1) + boxes2[:, 2:].prod(1) - inner)
"""


def iou_column_by_column(boxes1, boxes2):
    (t1, l1, h1, w1), (t2, l2, h2, w2) = boxes1.unbind(1), boxes2.unbind(1)
    height = (torch.minimum(t1 + h1, t2 + h2) - torch.maximum(t1, t2)).clamp(min=0)
    width = (torch.minimum(l1 + w1, l2 + w2) - torch.maximum(l1, l2)).clamp(min=0)
    return height * width / (h1 * w1 + h2 * w2 - height * width)


def iou_one_by_one(boxes1, boxes2):
    shares = []
    for (t1, l1, h1, w1), (t2, l2, h2, w2) in zip(boxes1.tolist(), boxes2.tolist(), strict=True):
        inner = max(0, min(t1 + h1, t2 + h2) - max(t1, t2)) * max(0, min(l1 + w1, l2 + w2) - max(l1, l2))
        shares.append(inner / (h1 * w1 + h2 * w2 - inner))
    return torch.tensor(shares)


def iou_of_torchvision(boxes1, boxes2):
    a, b = (torch.cat([boxes[:, [1, 0]], boxes[:, [1, 0]] + boxes[:, [3, 2]]], 1) for boxes in (boxes1, boxes2))
    return box_iou(a.float(), b.float()).diagonal()


RIGHT_IOU = [edited(IOU), iou_column_by_column, iou_one_by_one, iou_of_torchvision]

UNION = "(boxes1[:, 2:].prod(1) + boxes2[:, 2:].prod(1) - inner)"
WRONG_IOU = [
    (edited(IOU, ".clamp(min=0)"), "boxes that lie apart get an area"),
    (edited(IOU, " - inner)", ")"), "divided by the sum of both areas"),
    (edited(IOU, UNION, "boxes1[:, 2:].prod(1)"), "divided by the area of the first box"),
    (edited(IOU, UNION, "boxes2[:, 2:].prod(1)"), "divided by the area of the second box"),
    (edited(IOU, f" / {UNION}", ".float()"), "this is the intersection's area"),
    (edited(IOU, ".prod(1)", ".sum(1)"), "sides are added"),
    (
        edited(IOU, "boxes1[:, :2] + boxes1[:, 2:], boxes2[:, :2] + boxes2[:, 2:]", "boxes1[:, 2:], boxes2[:, 2:]"),
        "not in",
    ),
    (lambda a, b: iou_column_by_column(a, b).mean(), "this is the mean"),
    (lambda a, b: 1 - iou_column_by_column(a, b), "this is 1 − IoU"),
    (lambda a, b: iou_column_by_column(a, b).double(), "result is torch.float64"),
    (lambda a, b: iou_column_by_column(a, b).tolist(), "of type list, not a tensor"),
    (edited(IOU, "inner / (", "inner // ("), "unusual tensor"),
    (lambda a, b: box_iou(a.float(), b.float()).diagonal(), "lower right corner"),
]

CATALOGUE = {
    checks.check_solarize: (WRONG_SOLARIZE, RIGHT_SOLARIZE, SOLARIZE_MISTAKES),
    checks.check_cutout: (WRONG_CUTOUT, RIGHT_CUTOUT, CUTOUT_MISTAKES),
    checks.check_box_iou: (WRONG_IOU, RIGHT_IOU, IOU_MISTAKES),
}
