"""Random views of a batch, every picture with parameters of its own.

Each step comes twice: `op(images, parameters)` does just what it is told, so that it can be compared, and
`random_op(images, ..., generator)` draws one set of parameters per picture and calls it. Pictures are
[N, 3, H, W] (geometry, brightness, blur, solarising, noise and cutout take any number of channels), uint8 or float in
[0, 1]; results are float in [0, 1]. A transform that draws *one* set for the whole batch (torchvision's, on a batched
tensor) is a different thing: where each view has a pass of its own through the encoder, a shift shared by all its
pictures is a constant, which batch-norm removes (lesson 01 shows when that costs accuracy).

`View` puts the steps together, `TwoViews` and `MultiCrop` are made of it, and `simclr`, `moco_v2` and `byol` are the
papers' settings. `fast=True` takes steps that are close to torchvision's instead of equal.
"""

import numbers
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as torchvision rounds it
_BLOCK = 64  # pictures that share one order of the colour steps, and that fit a processor's cache


def to_float(images: Tensor) -> Tensor:
    """uint8 [N, C, H, W] to float32 in [0, 1]; float32 and float64 pass as they are, half precision becomes float32."""
    _check_batch(images)
    if images.dtype == torch.uint8:
        return images.float().div_(255)
    # Half precision holds neither a pixel's place nor a hue well enough.
    return images if images.dtype == torch.float64 else images.float()


def check_pictures(images: Tensor) -> None:
    """Refuse what is no batch of pictures, and on the CPU float pictures outside [0, 1] (NaN among them).

    Views, `evaluation.encode` and `training.fit` ask this once, for all the steps that follow. On a GPU a look at the
    values would make every step wait.
    """
    _check_batch(images)
    if images.is_floating_point() and images.device.type == "cpu":
        low, high = (value.item() for value in images.detach().aminmax())
        if not (low >= -1e-3 and high <= 1 + 1e-3):  # NaN fails too
            raise ValueError(f"images: expected float values in [0, 1], got {low:g} to {high:g}. Divide by 255, or pass"
                             " uint8; a normalization belongs into the encoder, as its first layer")  # fmt: skip


def resized_crop(images: Tensor, boxes: Tensor, size: int, flips: Tensor | None = None) -> Tensor:
    """Cut `boxes` out and scale them to size x size: bilinear, antialiased where it shrinks.

    Scaling is linear along each axis, so it is a product with two small matrices per picture,
    `out = W_y @ image @ W_x^T`, in one batched multiplication each. Equal to torchvision's `resized_crop` of a
    float tensor.

    Args:
        images: [N, C, H, W].
        boxes: [N, 4] integers: top, left, height, width, inside the picture.
        size: side of the result in pixels.
        flips: [N] bool, mirror these left to right; it costs nothing here.

    Returns:
        [N, C, size, size] float.
    """
    images = to_float(images)
    n, c, h, w = images.shape
    top, left, height, width = _inner_boxes(boxes, images)  # [N] each
    _check_size(size)
    mirrored = None if flips is None else _chosen(flips, images)[:, 0]  # [N, 1, 1]
    rows = _scaling(top, height, h, size)  # [N, size, H]
    columns = _scaling(left, width, w, size, mirrored)  # [N, size, W]
    narrow = torch.bmm(images.reshape(n, c * h, w), columns.mT)  # [N, C*H, size]
    return (rows[:, None] @ narrow.view(n, c, h, size)).clamp_(0, 1)  # [N, C, size, size]


def _scaling(start: Tensor, length: Tensor, inputs: int, outputs: int, mirrored: Tensor | None = None) -> Tensor:
    """Weights [N, outputs, inputs] that scale pixels start..start+length to `outputs`: a triangle over each
    output's centre, as wide as an input pixel or, when shrinking, as an output pixel."""
    start, length = start[:, None, None], length[:, None, None]
    scale = length / outputs  # input pixels in an output pixel
    out = torch.arange(outputs, device=start.device, dtype=start.dtype)[:, None]
    pixel = torch.arange(inputs, device=start.device, dtype=start.dtype)
    if mirrored is not None:
        out = torch.where(mirrored, outputs - 1 - out, out)  # [N, outputs, 1]
    centre = start + (out + 0.5) * scale - 0.5  # [N, outputs, 1]
    if outputs >= inputs:  # nothing shrinks: a centre moved into the box sees two pixels of it and none outside
        centre = torch.maximum(torch.minimum(centre, start + length - 1), start)
        return (pixel - centre).abs_().neg_().add_(1).clamp_(min=0)  # [N, outputs, inputs]
    weights = (pixel - centre).abs_().div_(-scale.clamp(min=1)).add_(1).clamp_(min=0)
    weights *= (pixel >= start) & (pixel < start + length)  # [N, 1, inputs]: nothing from outside the box
    return weights.div_(weights.sum(2, keepdim=True))


def random_resized_crop(images: Tensor, size: int, *, scale: tuple[float, float] = (0.2, 1.0),
                        ratio: tuple[float, float] = (3 / 4, 4 / 3), flip: float = 0.0,
                        generator: torch.Generator | None = None) -> Tensor:  # fmt: skip
    """A random part of each picture, scaled to size x size, mirrored with probability `flip`.

    Args:
        images: [N, C, H, W].
        scale: smallest and largest share of the area, in (0, 1].
        ratio: narrowest and widest width / height; the logarithm is uniform.
    """
    images = to_float(images)
    boxes = _random_boxes(images, scale, ratio, generator)
    return resized_crop(images, boxes, size, _chance(images, flip, generator))


def _random_boxes(images: Tensor, scale, ratio, generator, tries: int = 10) -> Tensor:
    """[N, 4]: the first of ten draws that fits the picture, as torchvision does it, else the largest centred box."""
    _check_range("scale", scale, 1.0)
    _check_range("ratio", ratio, float("inf"))
    n, _, h, w = images.shape
    u = _rand((4, tries, n), images, generator)
    area = (scale[0] + (scale[1] - scale[0]) * u[0]) * h * w
    lowest, highest = torch.log(torch.tensor(ratio)).tolist()
    aspect = torch.exp(lowest + (highest - lowest) * u[1])
    width, height = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()  # [tries, N]
    fits = (width >= 1) & (width <= w) & (height >= 1) & (height <= h)
    first = fits.float().argmax(0, keepdim=True)  # the first that fits
    width, height, fits, u, v = (t.gather(0, first)[0] for t in (width, height, fits, u[2], u[3]))
    whole_w = max(1, round(h * ratio[1])) if w / h > ratio[1] else w
    whole_h = max(1, round(w / ratio[0])) if w / h < ratio[0] else h
    width, height = torch.where(fits, width, whole_w), torch.where(fits, height, whole_h)
    left = torch.where(fits, (u * (w - width + 1)).floor(), (w - whole_w) // 2)
    top = torch.where(fits, (v * (h - height + 1)).floor(), (h - whole_h) // 2)
    return torch.stack([top, left, height, width], 1)


def horizontal_flip(images: Tensor, flips: Tensor) -> Tensor:
    """Mirror the pictures where `flips` ([N] bool) is true."""
    images = to_float(images)
    return torch.where(_chosen(flips, images), images.flip(3), images)


def random_horizontal_flip(images: Tensor, p: float = 0.5, *, generator: torch.Generator | None = None) -> Tensor:
    """Mirror each picture left to right with probability p."""
    images = to_float(images)
    return horizontal_flip(images, _chance(images, p, generator))


def rotate(images: Tensor, degrees: Tensor | float) -> Tensor:
    """Turn each picture anticlockwise about its centre: bilinear, black where nothing was.

    Equal to torchvision's `rotate` with bilinear interpolation.

    Args:
        images: [N, C, H, W].
        degrees: a number, or [N].
    """
    images = to_float(images)
    n, _, h, w = images.shape
    _check_values("degrees", degrees, "a finite number", torch.isfinite)
    angle = torch.deg2rad(_per_image(degrees, images)).reshape(-1).expand(n)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # From places of the result to places of the picture, both from -1 to 1, which is not the same length along x and y.
    matrix = torch.stack([cos, -sin * h / w, zero, sin * w / h, cos, zero], 1).view(n, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def random_rotation(images: Tensor, degrees: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Turn each picture by an angle uniform in -degrees .. degrees."""
    _check_strengths(degrees=degrees)
    images = to_float(images)
    return rotate(images, degrees * (2 * _rand((len(images),), images, generator) - 1))


# --- colour: each takes images [N, 3, H, W] and one factor per image, [N] or a number -------------------


def rgb_to_gray(images: Tensor) -> Tensor:
    """[N, 3, H, W] to luminance [N, 1, H, W]."""
    images = _to_rgb(images)
    r, g, b = images.unbind(1)
    return (LUMA[0] * r).add_(g, alpha=LUMA[1]).add_(b, alpha=LUMA[2]).unsqueeze(1)


def adjust_brightness(images: Tensor, factor: Tensor | float) -> Tensor:
    """Multiply by `factor` >= 0: 0 is black, 1 the original."""
    images = to_float(images)
    _check_factor("factor", factor)
    return (images * _per_image(factor, images)).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor | float) -> Tensor:
    """Blend with the picture's mean luminance: 0 is one flat gray, 1 the original."""
    return _blend(images, rgb_to_gray(images).flatten(1).mean(1).view(-1, 1, 1, 1), factor)


def adjust_saturation(images: Tensor, factor: Tensor | float) -> Tensor:
    """Blend with the picture's own grays: 0 is grayscale, 1 the original."""
    return _blend(images, rgb_to_gray(images), factor)


def _blend(images: Tensor, other: Tensor, factor: Tensor | float) -> Tensor:
    images = to_float(images)
    _check_factor("factor", factor)
    return torch.lerp(other, images, _per_image(factor, images)).clamp_(0, 1)


def adjust_hue(images: Tensor, shift: Tensor | float) -> Tensor:
    """Turn the colour circle by `shift`, in turns (-0.5..0.5); HSV's value and saturation stay.

    HSV's way there and back, in closed form: with V = max(R, G, B), chroma C = V - min(R, G, B) and hue h in turns,
    a channel is V - C * clamp(2 - 6 |x|, 0, 1), x = h + 1/2, 1/6 or -1/6, less the nearest whole number.
    """
    images = _to_rgb(images)
    shift = _per_image(_as_tensor("shift", shift), images)
    _check_shift("shift", shift)
    r, g, b = images.unbind(1)  # [N, H, W]
    value = torch.maximum(torch.maximum(r, g), b)
    chroma = value - torch.minimum(torch.minimum(r, g), b)
    # Numbers 0 and 1 in place of comparisons, which take ten times as long on a processor.
    not_red = (value - r).sign_()  # is red less than the largest?
    blue = (value - g).sign_().mul_(not_red)  # and green, too?
    hue = torch.lerp(g - b, (b - r).add_(chroma, alpha=2), not_red)  # in sixths of a turn, times C
    hue = torch.lerp(hue, (r - g).add_(chroma, alpha=4), blue)
    hue = hue / chroma.clamp(min=1e-8).mul_(6)  # in turns; where C is 0 it does not matter
    hue = hue.add_(shift[:, 0])
    x = hue[:, None] + torch.arange(3, -2, -2, device=hue.device, dtype=hue.dtype).div_(6).view(3, 1, 1)
    x = x.sub_(x.round()).abs_().mul_(-6).add_(2).clamp_(0, 1)  # [N, 3, H, W]
    return torch.addcmul(value[:, None], chroma[:, None], x, value=-1)


def color_jitter(images: Tensor, *, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4,
                 hue: float = 0.1, p: float = 1.0, generator: torch.Generator | None = None) -> Tensor:  # fmt: skip
    """Random brightness, contrast, saturation and hue, in random order, with torchvision's semantics.

    Factors are uniform in [max(0, 1 - x), 1 + x], the hue shift in [-hue, hue], drawn for each picture; so is
    whether it is jittered at all (p). The order of the four steps is drawn for every 64 pictures, not for each.
    """
    images = to_float(images)
    n = len(images)
    _check_strengths(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
    steps = [(adjust, low + (high - low) * _rand((n,), images, generator)) for adjust, x, low, high in (
        (adjust_brightness, brightness, max(0, 1 - brightness), 1 + brightness),
        (adjust_contrast, contrast, max(0, 1 - contrast), 1 + contrast),
        (adjust_saturation, saturation, max(0, 1 - saturation), 1 + saturation),
        (adjust_hue, hue, -hue, hue),
    ) if x]  # fmt: skip
    chosen = _chance(images, p, generator)
    if generator is not None and generator.device.type != "cpu":  # the host would wait for a GPU's numbers
        generator = torch.Generator().manual_seed(zlib.crc32(generator.get_state().numpy().tobytes()))
    blocks = []
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        block = images[rows]
        for i in torch.randperm(len(steps), generator=generator).tolist():
            adjust, factor = steps[i]
            block = adjust(block, factor[rows])
        blocks.append(torch.lerp(images[rows], block, _per_image(chosen[rows].to(block.dtype), block)))
    return torch.cat(blocks)


def random_grayscale(images: Tensor, p: float = 0.2, *, generator: torch.Generator | None = None) -> Tensor:
    """Take the colour out of each picture with probability p; three equal channels remain."""
    images = to_float(images)
    gray = rgb_to_gray(images)
    return torch.lerp(images, gray, _per_image(_chance(images, p, generator).to(images.dtype), images))


# --- blur, solarise, noise, cutout: pictures of any number of channels ---------------------------------


def gaussian_blur(images: Tensor, sigma: Tensor | float, kernel_size: int | None = None) -> Tensor:
    """Blur each picture with a Gaussian of its own; beyond its edge a picture is mirrored.

    Blurring is linear along each axis, so as in `resized_crop` it is a product with two small matrices per picture.
    Equal to torchvision's `gaussian_blur` of a float tensor, to 2e-6 in float32.

    Args:
        images: [N, C, H, W].
        sigma: standard deviation in pixels, > 0: a number, or [N].
        kernel_size: how many pixels are averaged along an axis, odd. None: a tenth of the shorter side as SimCLR's
            code rounds it (23 of 224, 9 of 96), but at least 3. It may be larger than the picture, which is then
            mirrored more than once.
    """
    images = to_float(images)
    n, c, h, w = images.shape
    if kernel_size is None:
        kernel_size = 2 * max(1, min(h, w) // 20) + 1
    if not _is_count(kernel_size) or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size: expected an odd integer of at least 1, got {kernel_size!r}")
    _check_values("sigma", sigma, "a finite number > 0", lambda v: (v > 0) & (v < torch.inf))
    offsets = torch.arange(kernel_size, device=images.device) - kernel_size // 2  # [K]
    sigma = _per_image(sigma, images).reshape(-1, 1)  # [N, 1], or [1, 1] of a number
    kernels = torch.softmax(-((offsets / sigma) ** 2) / 2, 1).expand(n, -1)  # [N, K]
    rows, columns = _blurring(kernels, offsets, h), _blurring(kernels, offsets, w)  # [N, H, H], [N, W, W]
    across = torch.bmm(images.reshape(n, c * h, w), columns.mT)  # [N, C*H, W]
    return (rows[:, None] @ across.view(n, c, h, w)).clamp_(0, 1)  # [N, C, H, W]


def _blurring(kernels: Tensor, offsets: Tensor, length: int) -> Tensor:
    """Weights [N, length, length] that average pixels with `kernels` [N, K]; what lies outside is found in the mirror,
    which leaves out the edge itself (... 2 1 0 1 2 ...)."""
    n = len(kernels)
    period = max(2 * (length - 1), 1)
    places = (torch.arange(length, device=offsets.device)[:, None] + offsets).abs() % period  # [length, K]
    places = torch.minimum(places, period - places).expand(n, -1, -1)  # [N, length, K]
    weights = kernels.new_zeros(n, length, length)
    return weights.scatter_add_(2, places, kernels[:, None].expand(-1, length, -1))


def random_gaussian_blur(images: Tensor, p: float = 0.5, *, sigma: tuple[float, float] = (0.1, 2.0),
                         kernel_size: int | None = None,
                         generator: torch.Generator | None = None) -> Tensor:  # fmt: skip
    """Blur each picture with probability p; sigma, in pixels, is uniform between the two bounds."""
    images = to_float(images)
    _check_range("sigma", sigma, float("inf"))
    chosen = _chance(images, p, generator)
    sigmas = sigma[0] + (sigma[1] - sigma[0]) * _rand((len(images),), images, generator)
    if images.device.type != "cpu":  # asking which are chosen would make every step wait
        return torch.where(_chosen(chosen, images), gaussian_blur(images, sigmas, kernel_size), images)
    view = images.clone()
    if chosen.any():
        view[chosen] = gaussian_blur(images[chosen], sigmas[chosen], kernel_size)
    return view


def solarize(images: Tensor, threshold: Tensor | float = 0.5, which: Tensor | None = None) -> Tensor:
    """Invert the values of at least `threshold`: x becomes 1 - x. Equal to torchvision's `solarize`.

    Args:
        images: [N, C, H, W].
        threshold: in [0, 1], for uint8 pictures too: a number, or [N]. 1 inverts full brightness alone.
        which: [N] bool, the pictures to solarise; None is all.
    """
    images = to_float(images)
    _check_values("threshold", threshold, "a number from 0 to 1", lambda v: (v >= 0) & (v <= 1))
    bright = images >= _per_image(threshold, images)
    if which is not None:
        bright &= _chosen(which, images)
    return torch.where(bright, 1 - images, images)


def random_solarize(images: Tensor, p: float = 0.2, *, threshold: float = 0.5,
                    generator: torch.Generator | None = None) -> Tensor:  # fmt: skip
    """Solarise each picture with probability p."""
    images = to_float(images)
    return solarize(images, threshold, _chance(images, p, generator))


def gaussian_noise(images: Tensor, std: Tensor | float = 0.1, *, generator: torch.Generator | None = None) -> Tensor:
    """Add normal noise, its own for every value, and cut to [0, 1]; torchvision's `gaussian_noise` of a float tensor.

    Args:
        images: [N, C, H, W].
        std: standard deviation, >= 0 (black to white is 1): a number, or [N].
    """
    images = to_float(images)
    _check_values("std", std, "a finite number >= 0", lambda v: (v >= 0) & (v < torch.inf))
    device = _home(generator, images.device)
    noise = torch.randn(images.shape, generator=generator, device=device, dtype=images.dtype).to(images.device)
    return torch.addcmul(images, noise, _per_image(std, images)).clamp_(0, 1)


def random_gaussian_noise(images: Tensor, std: float = 0.1, *, generator: torch.Generator | None = None) -> Tensor:
    """Add noise to each picture, with a standard deviation uniform in 0 .. std."""
    images = to_float(images)
    _check_strengths(std=std)
    return gaussian_noise(images, std * _rand((len(images),), images, generator), generator=generator)


def cutout(images: Tensor, boxes: Tensor, fill: float = 0.0) -> Tensor:
    """Paint `boxes` over with one value in all channels. Equal to torchvision's `erase` where a box is inside.

    DeVries & Taylor (2017) cut a square of fixed side around a random pixel, part of which may lie outside: give such
    boxes here. `random_cutout` draws them as Random Erasing does.

    Args:
        images: [N, C, H, W].
        boxes: [N, 4] integers: top, left, height, width; may stick out of the picture, height or width 0 is no box.
        fill: in [0, 1].
    """
    images = to_float(images)
    h, w = images.shape[2:]
    _check_boxes(boxes, images)
    _check_values("boxes", boxes[:, 2:], "heights and widths of at least 0", lambda v: v >= 0)
    if not _is_number(fill) or not 0 <= fill <= 1:
        raise ValueError(f"fill: expected a number from 0 to 1, got {fill!r}")
    top, left, height, width = boxes.to(images.device)[:, :, None].unbind(1)  # [N, 1] each
    y, x = torch.arange(h, device=images.device), torch.arange(w, device=images.device)
    rows, columns = (y >= top) & (y < top + height), (x >= left) & (x < left + width)  # [N, H], [N, W]
    hole = rows[:, None, :, None] & columns[:, None, None, :]  # [N, 1, H, W]
    return torch.where(hole, fill, images)


def random_cutout(images: Tensor, p: float = 0.5, *, scale: tuple[float, float] = (0.02, 0.33),
                  ratio: tuple[float, float] = (0.3, 3.3), fill: float = 0.0,
                  generator: torch.Generator | None = None) -> Tensor:  # fmt: skip
    """Paint a random box over, in each picture with probability p, as Random Erasing (Zhong et al. 2017) does.

    Args:
        images: [N, C, H, W].
        scale: smallest and largest share of the area, in (0, 1].
        ratio: narrowest and widest width / height; the logarithm is uniform. The box lies inside the picture: where
            none of ten draws fits, it is the largest in the centre that the ratio allows, as in `random_resized_crop`.
        fill: in [0, 1].
    """
    images = to_float(images)
    boxes = _random_boxes(images, scale, ratio, generator)
    return cutout(images, boxes * _chance(images, p, generator)[:, None], fill)


# --- the fast path: one sampling, one matrix of colours ------------------------------------------------
# Close to the steps above, not equal to them; the figures below are from benchmarks/fast_views.py.


def sampled_crop(images: Tensor, boxes: Tensor, size: int, flips: Tensor | None = None,
                 degrees: Tensor | float = 0.0) -> Tensor:  # fmt: skip
    """Crop, scale, mirror and turn in one bilinear sampling: `rotate(resized_crop(...), degrees)`, nearly.

    It differs in three ways: it is not antialiased where it shrinks (off by 0.004 to 0.007 in the mean for crops of
    32 pixels to 16, by under 0.001 where they grow); the corners that a turn uncovers show what lies beside the box
    (the edge's pixels, outside the picture) instead of black; and a turn does not sample a second time, which softens
    (0.001 to 0.004 away from the corners, for up to 30 degrees).

    Args:
        images: [N, C, H, W].
        boxes: [N, 4]: top, left, height, width in pixels, inside the picture.
        size: side of the result in pixels.
        flips: [N] bool, mirror these left to right.
        degrees: anticlockwise, after the mirroring: a number, or [N].

    Returns:
        [N, C, size, size] float.
    """
    images = to_float(images)
    n, c, h, w = images.shape
    top, left, height, width = _inner_boxes(boxes, images)  # [N] each
    _check_size(size)
    _check_values("degrees", degrees, "a finite number", torch.isfinite)
    across, down = width / w, height / h  # half the box's sides, in a picture that goes from -1 to 1
    centre_x, centre_y = (2 * left + width) / w - 1, (2 * top + height) / h - 1
    if flips is not None:
        across = torch.where(_chosen(flips, images).flatten(), -across, across)
    angle = torch.deg2rad(_per_image(degrees, images)).reshape(-1).expand(n)
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.stack([across * cos, -across * sin, centre_x, down * sin, down * cos, centre_y], 1)  # [N, 6]
    grid = F.affine_grid(matrix.view(n, 2, 3), [n, c, size, size], align_corners=False)  # [N, size, size, 2]
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_sampled_crop(images: Tensor, size: int, *, scale: tuple[float, float] = (0.2, 1.0),
                        ratio: tuple[float, float] = (3 / 4, 4 / 3), flip: float = 0.0, rotation: float = 0.0,
                        generator: torch.Generator | None = None) -> Tensor:  # fmt: skip
    """The fast twin of `random_resized_crop` and, by up to `rotation` degrees either way, `random_rotation`."""
    images = to_float(images)
    _check_strengths(rotation=rotation)
    boxes = _random_boxes(images, scale, ratio, generator)
    flips = _chance(images, flip, generator)
    degrees = rotation * (2 * _rand((len(images),), images, generator) - 1)
    return sampled_crop(images, boxes, size, flips, degrees)


def color_matrix(brightness: Tensor | float = 1.0, contrast: Tensor | float = 1.0, saturation: Tensor | float = 1.0,
                 hue: Tensor | float = 0.0) -> Tensor:  # fmt: skip
    """The matrices [N, 3, 3] by which the four colour steps, in this order, change RGB; contrast's mean apart.

    Brightness and contrast scale, saturation blends with the luminance (0 is grayscale), and the hue turns colours
    about the gray axis R = G = B. To HSV's hue, which keeps the largest channel instead of the channels' sum, that is
    as near as a matrix comes: over the colour cube it leaves no more than a least-squares fit does (a mean of 0.070
    at a tenth of a turn).

    Args:
        brightness, contrast, saturation: factors >= 0; hue: in turns, -0.5..0.5: numbers, or [N]. All numbers: N is 1.
    """
    values = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    for name, value in values.items():
        (_check_shift if name == "hue" else _check_factor)(name, value)
    device = next((v.device for v in values.values() if isinstance(v, Tensor)), None)
    factors = [torch.as_tensor(v, device=device).reshape(-1, 1, 1) for v in values.values()]  # [N, 1, 1] or [1, 1, 1]
    if len({len(factor) for factor in factors} - {1}) > 1:
        raise ValueError(f"expected numbers, or one for each of N pictures, got {[len(factor) for factor in factors]}")
    brightness, contrast, saturation, hue = factors
    channel = torch.arange(3, device=device)
    angle = 2 * torch.pi / 3 * (3 * hue - (channel[:, None] - channel))  # [N, 3, 3]: channels are a third apart
    turned = (1 + 2 * angle.cos()) / 3
    gray = torch.tensor(LUMA, device=device, dtype=turned.dtype)  # [3]: in every row, a channel's share of luminance
    return brightness * contrast * (saturation * turned + (1 - saturation) * gray)


def linear_color(images: Tensor, brightness: Tensor | float = 1.0, contrast: Tensor | float = 1.0,
                 saturation: Tensor | float = 1.0, hue: Tensor | float = 0.0) -> Tensor:  # fmt: skip
    """`adjust_brightness`, contrast, saturation and hue one after the other, nearly, with one matrix per picture.

    It differs in two ways: values are cut to [0, 1] once, at the end, and the hue is `color_matrix`'s, not HSV's. So
    brightness, contrast or saturation alone are exact. At strengths 0.4, 0.4, 0.4 and 0.1, on shapes and on smooth
    random pictures, the hue alone is off by 0.03 to 0.04 in the mean (at most 0.25), which is most of what so small a
    shift does; the other three together by 0.002 to 0.005 (at most 0.3); all four by 0.03 (at most 0.6), of a change
    of 0.11 to 0.12.

    Args:
        images: [N, 3, H, W].
        brightness, contrast, saturation: factors >= 0; hue: in turns, -0.5..0.5: a number, or [N].
    """
    images = _to_rgb(images)
    n = len(images)
    factors = [_per_image(v, images).flatten() for v in (brightness, contrast, saturation, hue)]  # [N] or [1] each
    matrix = color_matrix(*factors).expand(n, 3, 3)
    pixels = images.flatten(2)  # [N, 3, H*W]
    luminance = pixels.mean(2) @ torch.tensor(LUMA, device=images.device, dtype=images.dtype)  # [N]
    offset = (1 - factors[1]) * factors[0] * luminance  # [N]: contrast's part of the mean
    return torch.baddbmm(offset.view(n, 1, 1), matrix, pixels).clamp_(0, 1).view(images.shape)


def linear_color_jitter(images: Tensor, *, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4,
                        hue: float = 0.1, p: float = 1.0, gray: float = 0.0,
                        generator: torch.Generator | None = None) -> Tensor:  # fmt: skip
    """The fast twin of `color_jitter` and, with probability `gray`, `random_grayscale`: `linear_color` with the same
    distribution of factors, in one order."""
    images = _to_rgb(images)
    _check_strengths(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
    _check_probability("p", p)
    _check_probability("gray", gray)
    u = _rand((6, len(images)), images, generator)
    factors = [
        torch.where(u[4] < p, low + (high - low) * drawn, still)  # [N]
        for drawn, low, high, still in (
            (u[0], max(0, 1 - brightness), 1 + brightness, 1),
            (u[1], max(0, 1 - contrast), 1 + contrast, 1),
            (u[2], max(0, 1 - saturation), 1 + saturation, 1),
            (u[3], -hue, hue, 0),
        )
    ]
    factors[2] = torch.where(u[5] < gray, 0, factors[2])
    return linear_color(images, *factors)


# --- views ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """The recipe of one view, with the steps in this order; `view(images, generator)` is [N, 3, size, size] float."""

    size: int = 32  # pixels a side
    scale: tuple[float, float] = (0.2, 1.0)  # share of the area that a crop keeps
    flip: float = 0.5  # probability
    rotation: float = 0.0  # degrees either way
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1  # turns of the colour circle
    jitter: float = 0.8  # probability of the four above
    gray: float = 0.2  # probability
    blur: float = 0.0  # probability
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # pixels
    solarize: float = 0.0  # probability; the threshold is 0.5
    noise: float = 0.0  # largest standard deviation
    cutout: float = 0.0  # probability
    fast: bool = False  # not exact: colours by one matrix; turned, or larger than 64 pixels, also by one sampling

    def __post_init__(self):
        _check_size(self.size)
        _check_range("scale", self.scale, 1.0)
        _check_range("blur_sigma", self.blur_sigma, float("inf"))
        names = ("rotation", "brightness", "contrast", "saturation", "hue", "noise")
        _check_strengths(**{name: getattr(self, name) for name in names})
        for name in ("flip", "jitter", "gray", "blur", "solarize", "cutout"):
            _check_probability(name, getattr(self, name))

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.one(images, generator)

    def one(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One view of each picture."""
        check_pictures(images)
        return self._one(to_float(images), generator)

    def _one(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        view = self._color(self._crop(images, generator), generator)
        if self.blur:
            view = random_gaussian_blur(view, self.blur, sigma=self.blur_sigma, generator=generator)
        if self.solarize:
            view = random_solarize(view, self.solarize, generator=generator)
        if self.noise:
            view = random_gaussian_noise(view, self.noise, generator=generator)
        if self.cutout:
            view = random_cutout(view, self.cutout, generator=generator)
        return view

    def _crop(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        options = {"scale": self.scale, "flip": self.flip, "generator": generator}
        if self.fast and (self.rotation or self.size > 64):  # small crops are as fast by matrices
            return random_sampled_crop(images, self.size, rotation=self.rotation, **options)
        view = random_resized_crop(images, self.size, **options)
        return random_rotation(view, self.rotation, generator=generator) if self.rotation else view

    def _color(self, view: Tensor, generator: torch.Generator | None) -> Tensor:
        options = {"brightness": self.brightness, "contrast": self.contrast, "saturation": self.saturation,
                   "hue": self.hue, "p": self.jitter, "generator": generator}  # fmt: skip
        if self.fast:
            return linear_color_jitter(view, gray=self.gray, **options)
        return random_grayscale(color_jitter(view, **options), self.gray, generator=generator)


@dataclass(frozen=True)
class TwoViews(View):
    """SimCLR's views (section 3 and appendix A, blur left out as there for small pictures): crop, flip, colour
    jitter, grayscale.

    `views = TwoViews(size=32)`, then `view1, view2 = views(images, generator)`: two float tensors
    [N, 3, size, size]; row i of both comes from picture i. Where the two differ, as BYOL's do, `second` is the
    recipe of the second.
    """

    second: View | None = None  # None: like the first

    def __post_init__(self):
        super().__post_init__()
        if self.second is not None and not isinstance(self.second, View):
            raise TypeError(f"second: expected a View or None, got {type(self.second).__name__}")

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        check_pictures(images)
        images = to_float(images)
        return self._one(images, generator), (self.second or self)._one(images, generator)


@dataclass(frozen=True)
class MultiCrop:
    """SwAV's multi-crop (Caron et al. 2020): a few large views and several small ones of each picture.

    `crops = MultiCrop()`, then `views = crops(images, generator)`: a list of n_large tensors
    [N, 3, large.size, large.size], then n_small [N, 3, small.size, small.size]; row i of all comes from picture i.
    The shares of the area are the paper's; its sizes for ImageNet are 224 and 96.
    """

    large: View = field(default_factory=lambda: View(32, scale=(0.14, 1.0)))
    small: View = field(default_factory=lambda: View(16, scale=(0.05, 0.14)))
    n_large: int = 2
    n_small: int = 6

    def __post_init__(self):
        for name in ("large", "small"):
            if not isinstance(getattr(self, name), View):
                raise TypeError(f"{name}: expected a View, got {type(getattr(self, name)).__name__}")
        if not _is_count(self.n_large):
            raise ValueError(f"n_large: expected an integer of at least 1, got {self.n_large!r}")
        if not _is_count(self.n_small, 0):
            raise ValueError(f"n_small: expected an integer of at least 0, got {self.n_small!r}")

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> list[Tensor]:
        check_pictures(images)
        images = to_float(images)
        return [view._one(images, generator) for view in [self.large] * self.n_large + [self.small] * self.n_small]


# --- presets, named after their papers ------------------------------------------------------------------
# Pictures below 64 pixels take a paper's CIFAR settings, larger ones its ImageNet settings.


def simclr(size: int = 32) -> TwoViews:
    """Chen et al. (2020): appendix A, with colour distortion of strength 1 and a blur in half of the views.

    Below 64 pixels their CIFAR-10 settings (appendix B.9): strength 0.5 and no blur. Crops keep 8 % or more of the
    area; they are scaled bilinearly here, bicubically in the authors' code, which blurs with zeros beyond the edge.
    """
    if _is_small(size):
        return TwoViews(size, scale=(0.08, 1.0))
    return TwoViews(size, scale=(0.08, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5)


def moco_v2(size: int = 32) -> TwoViews:
    """Chen, Fan, Girshick & He (2020), with the numbers of the authors' code: SimCLR's steps with half its colour
    distortion, crops of 20 % or more.

    Below 64 pixels the CIFAR-10 settings of the authors' notebook: no blur, crops of 8 % or more.
    """
    return TwoViews(size, scale=(0.08, 1.0)) if _is_small(size) else TwoViews(size, scale=(0.2, 1.0), blur=0.5)


def byol(size: int = 32) -> TwoViews:
    """Grill et al. (2020), table 6: two different views. The first is always blurred, the second seldom, and the
    second alone is solarised; saturation changes half as much as brightness.

    Below 64 pixels the same without blur, as solo-learn has it for CIFAR; the paper has no such setting.
    """
    both = {"size": size, "scale": (0.08, 1.0), "saturation": 0.2}
    if _is_small(size):
        return TwoViews(**both, second=View(**both, solarize=0.2))
    return TwoViews(**both, blur=1.0, second=View(**both, blur=0.1, solarize=0.2))


def _is_small(size: int) -> bool:
    _check_size(size)
    return size < 64


# --- parameters -----------------------------------------------------------------------------------------


def _rand(shape: tuple[int, ...], images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers, drawn where the generator lives and moved to where the pictures are."""
    device = _home(generator, images.device)
    return torch.rand(shape, generator=generator, device=device).to(images.device)


def _home(generator: torch.Generator | None, otherwise: torch.device) -> torch.device:
    """Where random numbers are drawn."""
    if generator is None:
        return otherwise
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator: expected a torch.Generator or None, got {type(generator).__name__}. "
                        "Make one of a seed: torch.Generator().manual_seed(0)")  # fmt: skip
    return generator.device


def _chance(images: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """[N] bool, true with probability p."""
    _check_probability("p", p)
    return _rand((len(images),), images, generator) < p


def _per_image(value: Tensor | float, images: Tensor) -> Tensor:
    """A number or [N] to a tensor that broadcasts over [N, C, H, W]."""
    value = _as_tensor("parameter", value).to(images.device)
    if value.ndim and value.shape != images.shape[:1]:
        raise ValueError(f"expected a number or one for each of {len(images)} pictures, got {list(value.shape)}")
    return (value if value.dtype == torch.bool else value.to(images.dtype)).reshape(-1, 1, 1, 1)


def _chosen(which: Tensor, images: Tensor) -> Tensor:
    """[N] bool to [N, 1, 1, 1]."""
    if not isinstance(which, Tensor) or which.dtype != torch.bool:
        raise TypeError(f"expected a bool tensor [N], got {getattr(which, 'dtype', type(which).__name__)}")
    return _per_image(which, images)


def _check_batch(images: Tensor) -> None:
    if not isinstance(images, Tensor):
        raise TypeError(f"images: expected a tensor [N, C, H, W], got {type(images).__name__}")
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"images: expected a batch [N, C, H, W] with no empty side, got {list(images.shape)}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(f"images: expected uint8 in 0..255 or float in [0, 1], got {images.dtype}")


def _to_rgb(images: Tensor) -> Tensor:
    images = to_float(images)
    if images.shape[1] != 3:
        raise ValueError(f"images: expected RGB, [N, 3, H, W], got {list(images.shape)}")
    return images


def _check_size(size: int) -> None:
    if not _is_count(size):
        raise ValueError(f"size: expected an integer of at least 1, got {size!r}")


def _check_boxes(boxes: Tensor, images: Tensor) -> None:
    expected = f"[{len(images)}, 4] (top, left, height, width)"
    if not isinstance(boxes, Tensor):
        raise TypeError(f"boxes: expected a tensor {expected}, got {type(boxes).__name__}")
    if boxes.shape != (len(images), 4):
        raise ValueError(f"boxes: expected {expected}, got {list(boxes.shape)}")


def _inner_boxes(boxes: Tensor, images: Tensor) -> tuple[Tensor, ...]:
    """Top, left, height, width, [N] each, of boxes that lie inside the picture."""
    _check_boxes(boxes, images)
    h, w = images.shape[2:]
    top, left, height, width = boxes.to(images.device, images.dtype).unbind(1)
    inside = (top >= 0) & (left >= 0) & (height >= 1) & (width >= 1) & (top + height <= h) & (left + width <= w)
    if images.device.type == "cpu" and not inside.all():  # on a GPU the check would make every step wait
        i = int(inside.int().argmin())
        raise ValueError(f"boxes: expected top, left, height, width inside {h} x {w}, got {boxes[i].tolist()}, row {i}")
    return top, left, height, width


def _check_probability(name: str, p: float) -> None:
    if not _is_number(p) or not 0 <= p <= 1:
        raise ValueError(f"{name}: expected a probability from 0 to 1, got {p!r}")


def _check_range(name: str, bounds: tuple[float, float], most: float) -> None:
    pair = isinstance(bounds, tuple | list) and len(bounds) == 2 and all(map(_is_number, bounds))
    if not pair or not 0 < bounds[0] <= bounds[1] <= most or bounds[1] == float("inf"):
        raise ValueError(f"{name}: expected 0 < low <= high {'<' if most > 1 else '<='} {most}, got {bounds!r}")


def _check_strengths(**strengths: float) -> None:
    for name, strength in strengths.items():
        most = 0.5 if name == "hue" else torch.inf
        if not _is_number(strength) or not 0 <= strength <= most or strength == torch.inf:
            end = most if name == "hue" else "any finite number"
            raise ValueError(f"{name}: expected a strength from 0 to {end}, got {strength!r}")


def _is_count(value: int, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: float) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check_factor(name: str, value: Tensor | float) -> None:
    _check_values(name, value, "a finite factor >= 0", lambda v: (v >= 0) & (v < torch.inf))


def _check_shift(name: str, value: Tensor | float) -> None:
    _check_values(name, value, "a shift from -0.5 to 0.5", lambda v: v.abs() <= 0.5)


def _as_tensor(name: str, value: Tensor | float) -> Tensor:
    if not isinstance(value, Tensor | numbers.Real):
        raise TypeError(f"{name}: expected a number or a tensor [N], got {type(value).__name__}")
    return torch.as_tensor(value)


def _check_values(name: str, value: Tensor | float, expected: str, good: Callable[[Tensor], Tensor]) -> None:
    """Check a number or a tensor, unless that would make a GPU wait."""
    value = _as_tensor(name, value)
    if value.device.type == "cpu" and not good(value).all():
        raise ValueError(f"{name}: expected {expected}, got {value[~good(value)].flatten()[0].item():g}")
