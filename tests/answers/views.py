"""Right and wrong answers to the exercises on views."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.ops import box_iou
from torchvision.transforms.v2 import functional as transforms

from answers.edit import edited
from clbook import augmentations, checks
from clbook.checks.views import (
    CROP_MISTAKES,
    CUTOUT_MISTAKES,
    FLIP_MISTAKES,
    GRAY_MISTAKES,
    IOU_MISTAKES,
    KEPT_MISTAKES,
    LIGHT_MISTAKES,
    SOLARIZE_MISTAKES,
)

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

FLIP = """
def flip(images, flips):
    return torch.where(flips[:, None, None, None], images.flip(3), images)
"""

FLIP_ON_A_COPY = """
def flip(images, flips):
    result = images.clone()
    result[flips] = images[flips].flip(-1)
    return result
"""


def flip_by_places(images, flips):
    width = images.shape[3]
    places = torch.arange(width)
    places = torch.where(flips[:, None], width - 1 - places, places)  # [N, W]
    return images.gather(3, places[:, None, None].expand_as(images))


def flip_one_by_one(images, flips):
    return torch.stack([image.flip(2) if yes else image for image, yes in zip(images, flips.tolist(), strict=True)])


RIGHT_FLIP = [edited(FLIP), edited(FLIP_ON_A_COPY), flip_one_by_one, flip_by_places, augmentations.horizontal_flip]

WRONG_FLIP = [
    (lambda images, flips: images.clone(), "nothing is mirrored"),
    (lambda images, flips: images.flip(3), "every picture is mirrored"),
    (edited(FLIP, "flips[:", "~flips[:"), "the others are mirrored"),
    (lambda images, flips: images.flip(3) if flips[0] else images, "one decision for the whole batch, the first"),
    (lambda images, flips: images.flip(3) if flips.any() else images, "one decision for the whole batch, taken with"),
    (lambda images, flips: images.flip(3) if flips else images, "Boolean value of Tensor"),
    (edited(FLIP, "flip(3)", "flip(2)"), "mirrored top to bottom"),
    (edited(FLIP, "flip(3)", "flip(1)"), "the channels are in reverse order"),
    (edited(FLIP, "flip(3)", "flip(0)"), "the batch is in reverse order"),
    (edited(FLIP, "flip(3)", "flip(2, 3)"), "half a turn"),
    (lambda images, flips: torch.stack([x.flip(1) if f else x for x, f in zip(images, flips, strict=True)]), "top to"),
    (edited(FLIP, "[:, None, None, None]"), "stops with an error in line 3"),
    (edited(FLIP_ON_A_COPY, "images.clone()", "images.data"), "changed its input `images`"),
    (edited(FLIP_ON_A_COPY, "    return result", "    return result[flips]"), "only the mirrored pictures come back"),
    (edited(FLIP_ON_A_COPY, "images.clone()", "torch.zeros_like(images)"), "not in a way that this check knows"),
    (edited(FLIP, "images.flip(3), images", "images.detach().flip(3), images.detach()"), "no gradient flows back"),
]

GRAY = """
def grayscale(images, which):
    r, g, b = images.unbind(1)
    gray = (0.299 * r + 0.587 * g + 0.114 * b)[:, None]
    return torch.where(which[:, None, None, None], gray, images)
"""

GRAY_ON_A_COPY = """
def grayscale(images, which):
    result = images.clone()
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=images.dtype)
    result[which] = torch.einsum("nchw,c->nhw", images[which], weights)[:, None].expand(-1, 3, -1, -1)
    return result
"""


def gray_by_matrix(images, which):
    to_gray = torch.tensor([0.299, 0.587, 0.114], dtype=images.dtype).expand(3, 3)
    matrices = torch.where(which[:, None, None], to_gray, torch.eye(3, dtype=images.dtype))  # [N, 3, 3]
    return (matrices @ images.flatten(2)).view_as(images)


def gray_one_by_one(images, which):
    pictures = []
    for image, yes in zip(images, which.tolist(), strict=True):
        gray = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        pictures.append(torch.stack([gray] * 3) if yes else image)
    return torch.stack(pictures)


def gray_of_clbook(images, which):
    return augmentations.adjust_saturation(images, 1 - which.to(images.dtype))


RIGHT_GRAY = [edited(GRAY), edited(GRAY_ON_A_COPY), gray_by_matrix, gray_one_by_one, gray_of_clbook]

SUM = "(0.299 * r + 0.587 * g + 0.114 * b)"
WRONG_GRAY = [
    (edited(GRAY, "gray, images)", "images, images)"), "nothing is gray"),
    (edited(GRAY, SUM, "((r + g + b) / 3)"), "a plain mean of R, G and B"),
    (edited(GRAY, "r, g, b =", "b, g, r ="), "the weights of red and blue are exchanged"),
    (edited(GRAY, "r, g, b =", "g, r, b ="), "the weights of red and green are exchanged"),
    (edited(GRAY, "0.114", "0.144"), "the weights don't sum to 1"),
    (edited(GRAY, SUM, "(r + g + b)"), "R, G and B are added without weights"),
    (edited(GRAY, SUM, "images.amax(1)"), "this is the largest of R, G and B"),
    (edited(GRAY, "torch.where(which[:, None, None, None], gray, images)", "gray"), "one channel comes back"),
    (edited(GRAY, "torch.where(which[:, None, None, None], gray, images)", "gray.expand_as(images)"), "every picture"),
    (edited(GRAY, "gray, images)", "images, gray)"), "the others are gray"),
    (lambda images, which: gray_of_clbook(images, which[:1].expand_as(which)), "one decision for the whole batch, the"),
    (edited(GRAY, "[:, None, None, None]"), "along the width"),
    (edited(GRAY_ON_A_COPY, "result[which]", "result[which, 0]"), "stops with an error"),
    (edited(GRAY_ON_A_COPY, "[:, None].expand(-1, 3, -1, -1)", ".mean()"), "not in a way that this check knows"),
    (edited(GRAY_ON_A_COPY, "images.clone()", "images.data"), "changed its input `images`"),
    (lambda images, which: gray_one_by_one(images, which).double(), "result is torch.float64"),
]

LIGHT = """
def light(images, brightness, contrast):
    b, c = brightness[:, None, None, None], contrast[:, None, None, None]
    bright = (b * images).clamp(0, 1)
    gray = 0.299 * bright[:, 0] + 0.587 * bright[:, 1] + 0.114 * bright[:, 2]
    mean = gray.mean((1, 2))[:, None, None, None]
    return (mean + c * (bright - mean)).clamp(0, 1)
"""

LIGHT_LOOP = """
def light(images, brightness, contrast):
    pictures = []
    for image, b, c in zip(images, brightness, contrast):
        image = (image * b).clamp(0, 1)
        mean = (0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]).mean()
        pictures.append(torch.clamp(c * image + (1 - c) * mean, 0, 1))
    return torch.stack(pictures)
"""


def light_einsum(images, brightness, contrast):
    bright = torch.einsum("nchw,n->nchw", images, brightness).clamp(0, 1)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=images.dtype)
    mean = torch.einsum("nchw,c->n", bright, weights) / (images.shape[2] * images.shape[3])
    return torch.lerp(mean.view(-1, 1, 1, 1), bright, contrast.view(-1, 1, 1, 1)).clamp(0, 1)


def light_of_clbook(images, brightness, contrast):
    return augmentations.adjust_contrast(augmentations.adjust_brightness(images, brightness), contrast)


def light_of_torchvision(images, brightness, contrast):
    pictures = []
    for image, b, c in zip(images, brightness.tolist(), contrast.tolist(), strict=True):
        pictures.append(transforms.adjust_contrast(transforms.adjust_brightness(image, b), c))
    return torch.stack(pictures)


RIGHT_LIGHT = [edited(LIGHT), edited(LIGHT_LOOP), light_einsum, light_of_clbook, light_of_torchvision]

OWN_MEAN = "gray.mean((1, 2))[:, None, None, None]"
WRONG_LIGHT = [
    (
        edited(
            LIGHT_LOOP,
            "b, c in zip(images, brightness, contrast)",
            "b, c in zip(images, [brightness[0]] * 9, [contrast[0]] * 9)",
        ),
        "the first picture's factors",
    ),
    (edited(LIGHT, "brightness[:, None, None, None]", "brightness[0]"), "the first picture's brightness"),
    (edited(LIGHT, "contrast[:, None, None, None]", "contrast[0]"), "the first picture's contrast"),
    (edited(LIGHT, "b, c =", "c, b ="), "brightness and contrast are exchanged"),
    (edited(LIGHT, "    return (mean + c * (bright - mean)).clamp(0, 1)", "    return bright"), "contrast is not used"),
    (edited(LIGHT, "b * images", "images"), "the brightness is not used"),
    (lambda x, b, c: augmentations.adjust_brightness(augmentations.adjust_contrast(x, c), b), "contrast first, then"),
    (edited(LIGHT, ".clamp(0, 1)"), "nothing is clamped"),
    (edited(LIGHT, "(b * images).clamp(0, 1)", "b * images"), "not clamped after the brightness"),
    (edited(LIGHT, "mean)).clamp(0, 1)", "mean))"), "not clamped at the end"),
    (edited(LIGHT, OWN_MEAN, "0.5"), "contrast is taken about 0.5"),
    (edited(LIGHT, OWN_MEAN, "gray.mean()"), "over the whole batch"),
    (edited(LIGHT, OWN_MEAN, "bright.mean((2, 3), keepdim=True)"), "each channel has a mean of its own"),
    (edited(LIGHT, OWN_MEAN, "bright.mean((1, 2, 3), keepdim=True)"), "a plain mean over R, G and B"),
    (edited(LIGHT, OWN_MEAN, "gray[:, None]"), "that is saturation"),
    (edited(LIGHT, "b * images", "b + images"), "the brightness is added"),
    (edited(LIGHT, "mean + c *", "c *"), "not in a way that this check knows"),
    (edited(LIGHT, OWN_MEAN, "0"), "the contrast only multiplies"),
    (edited(LIGHT, "(mean + c * (bright - mean))", "(bright + c * (mean - bright))"), "the blend runs the wrong way"),
    (edited(LIGHT, "[:, None, None, None], contrast[:, None, None, None]", ", contrast"), "along the width"),
    (edited(LIGHT, "(b * images)", "images.mul_(b)"), "changed its input `images`"),
    (edited(LIGHT, "bright = (b * images)", "bright = (b * images.detach())"), "no gradient flows back to `images`"),
]

CROP = """
def crop(images, boxes, size):
    pictures = []
    for image, (top, left, height, width) in zip(images, boxes.tolist()):
        i = torch.arange(size) + 0.5
        rows = top + (i * height / size).long()
        columns = left + (i * width / size).long()
        pictures.append(image[:, rows][:, :, columns])
    return torch.stack(pictures)
"""


def crop_at_once(images, boxes, size):
    i = torch.arange(size) + 0.5
    rows = boxes[:, :1] + (i * boxes[:, 2:3] / size).floor().long()  # [N, size]
    columns = boxes[:, 1:2] + (i * boxes[:, 3:] / size).floor().long()
    n = torch.arange(len(images))[:, None, None]
    return images[n, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def crop_by_interpolate(images, boxes, size):
    cut = [image[:, t : t + h, x : x + w] for image, (t, x, h, w) in zip(images, boxes.tolist(), strict=True)]
    return torch.cat([F.interpolate(one[None], (size, size), mode="nearest-exact") for one in cut])


def crop_by_matrices(images, boxes, size):
    def one_hot(first, length, old):
        places = first[:, None] + (2 * torch.arange(size) + 1) * length[:, None] // (2 * size)
        return F.one_hot(places, old).to(images.dtype)  # [N, size, old]

    rows, columns = (one_hot(boxes[:, i], boxes[:, i + 2], images.shape[i + 2]) for i in range(2))
    return torch.einsum("nih,nchw,njw->ncij", rows, images, columns)


RIGHT_CROP = [edited(CROP), crop_at_once, crop_by_interpolate, crop_by_matrices]

WRONG_CROP = [
    (lambda x, boxes, size: F.interpolate(x, (size, size), mode="nearest-exact"), "the boxes are not used"),
    (edited(CROP, "boxes.tolist()", "boxes[:1].tolist() * len(images)"), "one box, the first"),
    (edited(CROP, "(top, left, height, width)", "(left, top, width, height)"), "rows and columns are exchanged"),
    (edited(CROP, "(top, left, height, width)", "(top, left, width, height)"), "height and width are exchanged"),
    (edited(CROP, "(top, left, height, width)", "(left, top, height, width)"), "top and left are exchanged"),
    (edited(CROP, "(i * height / size)", "(i * (height - top) / size)"), "not in a way that this check knows"),
    (edited(CROP.replace("(i * height / size)", "(i * (height - top) / size)"), "(i * width / size)",
     "(i * (width - left) / size)"), "lower right corner"),
    (edited(CROP.replace("top + (i", "(i"), "left + (i", "(i"), "from the upper left corner of the picture"),
    (edited(CROP, "torch.arange(size) + 0.5", "torch.arange(size)"), "corners are looked up, not their centres"),
    (lambda x, boxes, size: crop_by(x, boxes, size, lambda a, n: a + torch.linspace(0, n - 1, size).round().long()),
     "align_corners"),
    (lambda x, boxes, size: torch.cat([F.interpolate(one[None, :, t : t + h, c : c + w], (size, size)) for
     one, (t, c, h, w) in zip(x, boxes.tolist(), strict=True)]), "corners are looked up, not their centres"),
    (lambda x, boxes, size: augmentations.resized_crop(x, boxes, size), "(bilinear)"),
    (edited(CROP, "(i * width / size).long()", "i.long()"), "only the rows are scaled"),
    (edited(CROP, "image[:, rows][:, :, columns]", "image[:, rows, columns]"), "shape"),
    (edited(CROP, "image[:, rows][:, :, columns]", "image[:, columns][:, :, rows]"), "rows and columns are exchanged"),
    (edited(CROP, "torch.stack(pictures)", "pictures"), "of type list, not a tensor"),
    (edited(CROP, "torch.stack(pictures)", "torch.stack(pictures).mT"), "the result lies on its side"),
    (edited(CROP, "zip(images, ", "zip(images.detach(), "), "no gradient flows back to `images`"),
]  # fmt: skip


def crop_by(images, boxes, size, places):
    """`places(first, length)` tells which pixels to take."""
    return torch.stack([image[:, places(t, h)][:, :, places(x, w)] for image, (t, x, h, w) in
                        zip(images, boxes.tolist(), strict=True)])  # fmt: skip


KEPT = """
def kept(crops, objects):
    begin = torch.maximum(crops[:, :2], objects[:, :2])
    end = torch.minimum(crops[:, :2] + crops[:, 2:], objects[:, :2] + objects[:, 2:])
    inner = (end - begin).clamp(min=0).prod(1)
    return inner / objects[:, 2:].prod(1)
"""


def kept_column_by_column(crops, objects):
    (t1, l1, h1, w1), (t2, l2, h2, w2) = crops.unbind(1), objects.unbind(1)
    height = (torch.minimum(t1 + h1, t2 + h2) - torch.maximum(t1, t2)).clamp(min=0)
    width = (torch.minimum(l1 + w1, l2 + w2) - torch.maximum(l1, l2)).clamp(min=0)
    return height * width / (h2 * w2)


def kept_one_by_one(crops, objects):
    shares = []
    for (t1, l1, h1, w1), (t2, l2, h2, w2) in zip(crops.tolist(), objects.tolist(), strict=True):
        inner = max(0, min(t1 + h1, t2 + h2) - max(t1, t2)) * max(0, min(l1 + w1, l2 + w2) - max(l1, l2))
        shares.append(inner / (h2 * w2))
    return torch.tensor(shares)


def kept_by_pixels(crops, objects):
    def inside(boxes, side=40):
        top, left, height, width = boxes[:, :, None, None].unbind(1)
        y, x = torch.arange(side)[:, None], torch.arange(side)
        return (y >= top) & (y < top + height) & (x >= left) & (x < left + width)  # [N, side, side]

    return (inside(crops) & inside(objects)).sum((1, 2)) / inside(objects).sum((1, 2))


RIGHT_KEPT = [edited(KEPT), kept_column_by_column, kept_one_by_one, kept_by_pixels]

WRONG_KEPT = [
    (edited(KEPT, ".clamp(min=0)"), "boxes that lie apart get an area"),
    (iou_column_by_column, "which is IoU"),
    (edited(KEPT, "/ objects[:, 2:]", "/ crops[:, 2:]"), "divided by the crop's area"),
    (edited(KEPT, " / objects[:, 2:].prod(1)", ".float()"), "in pixels"),
    (edited(KEPT, ".prod(1)", ".sum(1)"), "sides are added"),
    (edited(KEPT, ".prod(1)", "[:, 0]"), "only the heights are compared"),
    (edited(KEPT, ".prod(1)", "[:, 1]"), "only the widths are compared"),
    (edited(KEPT, "crops[:, :2] + crops[:, 2:], objects[:, :2] + objects[:, 2:]", "crops[:, 2:], objects[:, 2:]"),
     "not in a way"),
    (lambda crops, objects: kept_one_by_one(crops, objects).mean(), "this is the mean over the pictures"),
    (lambda crops, objects: 1 - kept_one_by_one(crops, objects), "the share that is lost"),
    (lambda crops, objects: (kept_one_by_one(crops, objects) > 0.99).float(), "zeros and ones"),
    (lambda crops, objects: (kept_one_by_one(crops, objects) > 0).float(), "meet at all"),
    (edited(KEPT, "inner / ", "inner // "), "unusual tensor"),
    (edited(KEPT, "    begin", "    crops[:, 2:] += crops[:, :2]\n    begin"), "changed its input `crops`"),
    (lambda crops, objects: kept_one_by_one(objects, crops), "divided by the crop's area"),
]  # fmt: skip

CATALOGUE = {
    checks.check_solarize: (WRONG_SOLARIZE, RIGHT_SOLARIZE, SOLARIZE_MISTAKES),
    checks.check_cutout: (WRONG_CUTOUT, RIGHT_CUTOUT, CUTOUT_MISTAKES),
    checks.check_box_iou: (WRONG_IOU, RIGHT_IOU, IOU_MISTAKES),
    checks.check_flip: (WRONG_FLIP, RIGHT_FLIP, FLIP_MISTAKES),
    checks.check_grayscale: (WRONG_GRAY, RIGHT_GRAY, GRAY_MISTAKES),
    checks.check_brightness_contrast: (WRONG_LIGHT, RIGHT_LIGHT, LIGHT_MISTAKES),
    checks.check_crop: (WRONG_CROP, RIGHT_CROP, CROP_MISTAKES),
    checks.check_object_kept: (WRONG_KEPT, RIGHT_KEPT, KEPT_MISTAKES),
}


# --- views: no equation, so a catalogue of its own (tests/test_check_views.py) ---

VIEWS = """
def views(batch, generator):
    n, pictures = len(batch), augmentations.to_float(batch)

    def between(low, high):
        return low + (high - low) * torch.rand(n, generator=generator)

    def view():
        side = between(12, 17).long()
        top, left = (between(0, 1) * (17 - side)).long(), (between(0, 1) * (17 - side)).long()
        x = augmentations.resized_crop(pictures, torch.stack([top, left, side, side], 1), 16)
        x = augmentations.horizontal_flip(x, between(0, 1) < 0.5)
        x = augmentations.adjust_brightness(x, between(0.5, 1.5))
        x = augmentations.adjust_contrast(x, between(0.5, 1.5))
        return augmentations.adjust_saturation(x, between(0, 1).round())

    return view(), view()
"""


BOXES = """        side = between(12, 17).long()
        top, left = (between(0, 1) * (17 - side)).long(), (between(0, 1) * (17 - side)).long()
"""


def views_of(source):
    """`views` of that source."""
    scope = {"torch": torch, "augmentations": augmentations}
    exec(source, scope)
    return scope["views"]


def views_with(*edits):
    """`VIEWS` with edits: old, new, old, new, ..."""
    source = VIEWS
    for old, new in zip(edits[::2], edits[1::2], strict=True):
        assert old in source, f"{old!r} is not in the source: the edit would change nothing"
        source = source.replace(old, new)
    return views_of(source)


def views_as_a_list(batch, generator):
    return list(augmentations.simclr(16)(batch, generator))


RIGHT_VIEWS = [
    views_of(VIEWS),
    augmentations.simclr(16),
    augmentations.TwoViews(16, scale=(0.8, 1.0), brightness=0.5, hue=0.5, gray=0.5),
    augmentations.TwoViews(16, fast=True),
    views_as_a_list,
]

WRONG_VIEWS = [
    (views_with("    return view(), view()", "    return view()"), "expected two tensors"),
    (views_with("return view(), view()", "return view(), view(), view()"), "got 3 things"),
    (views_with("return view(), view()", "return torch.stack([view(), view()])"), "got a Tensor"),
    (views_with("return view(), view()", "return batch, batch"), "a view is torch.uint8"),
    (views_with("1), 16)", "1), 14)"), "a view has the shape [6, 3, 14, 14], the batch [6, 3, 16, 16]"),
    (views_with("augmentations.to_float(batch)", "batch.float()"), "each view is one flat colour"),
    (views_with("return view(), view()", "return pictures, view()"), "the first view is the picture itself"),
    (views_with("return view(), view()", "x = view()\n    return x, x"), "both views are the same"),
    (views_with("    n, pictures", "    generator = torch.Generator().manual_seed(0)\n    n, pictures"), "each call"),
    (views_with("torch.rand(n, generator=generator)", "torch.rand(n)"), "something is drawn without the generator"),
    (views_with("return view(), view()", "return view().flip(0), view()"), "row i of a view"),
    (views_with("return view(), view()", "x = view()\n    return x, (view() + x.mean(0)) / 2"), "views of others"),
    (views_with("torch.rand(n, generator=generator)", "torch.rand(1, generator=generator).expand(n)"), "whole batch"),
    (views_with("between(0, 1) < 0.5", "(between(0, 1) < 0.5)[:1].expand(n)"), "the flip is drawn once for the whole"),
    (views_with("between(0, 1) < 0.5", "between(0, 1) < 0"), "the flip is the same in all views"),
    (views_with("adjust_brightness(x, between(0.5, 1.5))", "adjust_brightness(x, between(0.5, 1.5)[0])"),
     "the brightness is drawn once for the whole batch"),
    (views_with("    def view():", "    light = between(0.5, 1.5)\n\n    def view():",
                "brightness(x, between(0.5, 1.5))", "brightness(x, light)"),
     "the brightness is the same in both views of a picture"),
    (views_with("    def view():", "    mirrored = between(0, 1) < 0.5\n\n    def view():", "x, between(0, 1) < 0.5",
                "x, mirrored"), "the flip is the same in both views of a picture"),
    (views_with(BOXES, "", "    def view():\n", BOXES.replace("        ", "    ") + "\n    def view():\n"),
     "the crop is the same in both views of a picture"),
    (views_with("    def view():", "    gray = between(0, 1).round()\n\n    def view():", "x, between(0, 1).round()",
                "x, gray"), "the gray is the same in both views of a picture"),
    (views_with("between(0, 1).round()", "between(0, 1).round()[0]"), "the gray is drawn once for the whole batch"),
    (views_with("between(0, 1).round()", "1.0"), "the gray is the same in all views"),
    (views_with("between(12, 17).long()", "between(16, 17).long()"), "the crop is the same in all views"),
    (views_with("    n, pictures", "    batch += 1\n    n, pictures"), "changed its input `batch`"),
    (views_with("side = between(12, 17).long()", "side = between(12, 17).lng()"), "stops with an error"),
    (views_with("return view(), view()", "return 2 * view() - 1, view()"), "clamp to 0..1"),
    (views_with("return view(), view()", "return 255 * view(), view()"), "values reach"),
    (views_with("return view(), view()", "return view() / 0, view()"), "NaN or infinite"),
]  # fmt: skip

QUESTIONS = {
    "crop_overlap": (
        [
            (lambda seed: 200 * _overlap(seed), "in pixels"),
            (lambda seed: 100 * _overlap(seed), "in per cent"),
            (lambda seed: 200 * _overlap(seed) / _second_area(seed), "share of the second crop"),
            (
                lambda seed: 200 * _overlap(seed) / (200 + _second_area(seed) - 200 * _overlap(seed)),
                "intersection over",
            ),
            (lambda seed: 200 * _overlap(seed) / 1024, "share of the whole picture"),
            (lambda seed: 1 - _overlap(seed), "does *not* show"),
            (lambda seed: _second_area(seed) / 200, "compares the two areas"),
            (lambda seed: f"{_overlap(seed)}", "expected a number"),
            (lambda seed: -1, "-1 is not it"),
        ],
        [
            lambda seed: _overlap(seed),
            lambda seed: torch.tensor(_overlap(seed)),
            lambda seed: np.float32(_overlap(seed)),
            lambda seed: kept_one_by_one(*_given_boxes(seed)),
        ],
    ),
    "untouched_pairs": (
        [
            (lambda seed: _untouched(seed) ** 0.5, "this holds for one view"),
            (lambda seed: (1 - _chances(seed)[0]) ** 2, "leaves the gray out"),
            (lambda seed: (1 - _chances(seed)[1]) ** 2, "leaves the jitter out"),
            (lambda seed: 2 * _untouched(seed) ** 0.5, "doubled"),
            (lambda seed: (1 - sum(_chances(seed))) ** 2, "the two probabilities are added"),
            (lambda seed: 1 - _untouched(seed), "at least one view"),
            (lambda seed: (1 - _chances(seed)[0] * _chances(seed)[1]) ** 2, "it should be neither"),
            (lambda seed: f"{100 * _untouched(seed):.0f} %", "expected a number"),
        ],
        [
            lambda seed: _untouched(seed),
            lambda seed: round(_untouched(seed), 3),
            lambda seed: torch.tensor(_untouched(seed)),
            lambda seed: np.square(1 - sum(_chances(seed)) + np.prod(_chances(seed))),
        ],
    ),
    "left_out_step": (
        [
            (lambda seed: _others(seed)[0], "without "),
            (lambda seed: _others(seed)[1], "would "),
            (lambda seed: _others(seed)[2], "the clue `"),
            (lambda seed: "gray", "expected one of"),
            (lambda seed: 3, "got 3"),
            (lambda seed: [_right_step(seed)], "expected one of"),
        ],
        [
            lambda seed: _right_step(seed),
            lambda seed: _right_step(seed).upper(),
            lambda seed: f" {_right_step(seed)}\n",
        ],
    ),
}


def _given_boxes(seed):
    """The second crop as the crop, the first as the object."""
    given = checks.given("crop_overlap", seed)
    return torch.tensor([given["second"]]), torch.tensor([given["first"]])


def _overlap(seed):
    (t1, l1, h1, w1), (t2, l2, h2, w2) = checks.given("crop_overlap", seed).values()
    assert h1 * w1 == 200
    return (min(t1 + h1, t2 + h2) - max(t1, t2)) * (min(l1 + w1, l2 + w2) - max(l1, l2)) / 200


def _second_area(seed):
    return math.prod(checks.given("crop_overlap", seed)["second"][2:])


def _chances(seed):
    return tuple(checks.given("untouched_pairs", seed).values())


def _untouched(seed):
    return math.prod(1 - p for p in _chances(seed) * 2)


STEPS = {"crop": "scale", "flip": "flip", "brightness": "brightness", "hue": "hue"}


def _right_step(seed):
    """The step whose strength differs between the two recipes."""
    whole, part = (checks.four_step_views(seed=s).__closure__[0].cell_contents for s in (None, seed))
    return next(step for step, name in STEPS.items() if getattr(whole, name) != getattr(part, name))


def _others(seed):
    return [step for step in STEPS if step != _right_step(seed)]
