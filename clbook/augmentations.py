"""Random views of a batch, every picture with parameters of its own.

Each step comes twice: `op(images, parameters)` does just what it is told, so that it can be compared, and
`random_op(images, ..., generator)` draws one set of parameters per picture and calls it. Pictures are
[N, 3, H, W] (geometry and grayscale copies take any number of channels), uint8 or float in [0, 1]; results are
float in [0, 1]. A transform that draws *one* set for the whole batch (torchvision's, on a batched tensor) is a
different thing: a colour shift shared by all is a constant, which batch-norm removes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as torchvision rounds it
_BLOCK = 64  # pictures that share one order of the colour steps, and that fit a processor's cache


def to_float(images: Tensor) -> Tensor:
    """uint8 [N, C, H, W] to float32 in [0, 1]; float32 and float64 pass as they are, half precision becomes float32."""
    if not isinstance(images, Tensor):
        raise TypeError(f"images: expected a tensor [N, C, H, W], got {type(images).__name__}")
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"images: expected a batch [N, C, H, W] with no empty side, got {list(images.shape)}")
    if images.dtype == torch.uint8:
        return images.float().div_(255)
    if not images.is_floating_point():
        raise TypeError(f"images: expected uint8 in 0..255 or float in [0, 1], got {images.dtype}")
    # Half precision holds neither a pixel's place nor a hue well enough.
    return images if images.dtype == torch.float64 else images.float()


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
    if boxes.shape != (n, 4):
        raise ValueError(f"boxes: expected [{n}, 4] (top, left, height, width), got {list(boxes.shape)}")
    _check_size(size)
    top, left, height, width = boxes.to(images.device, images.dtype).unbind(1)  # [N] each
    inside = (top >= 0) & (left >= 0) & (height >= 1) & (width >= 1) & (top + height <= h) & (left + width <= w)
    if images.device.type == "cpu" and not inside.all():  # on a GPU the check would make every step wait
        i = int(inside.int().argmin())
        raise ValueError(f"boxes: expected top, left, height, width inside {h} x {w}, got {boxes[i].tolist()}, row {i}")
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
    weights = (pixel - centre).abs_().div_(-scale.clamp(min=1)).add_(1).clamp_(min=0)  # [N, outputs, inputs]
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
    return (images * _per_image(factor, images)).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor | float) -> Tensor:
    """Blend with the picture's mean luminance: 0 is one flat gray, 1 the original."""
    return _blend(images, rgb_to_gray(images).flatten(1).mean(1).view(-1, 1, 1, 1), factor)


def adjust_saturation(images: Tensor, factor: Tensor | float) -> Tensor:
    """Blend with the picture's own grays: 0 is grayscale, 1 the original."""
    return _blend(images, rgb_to_gray(images), factor)


def _blend(images: Tensor, other: Tensor, factor: Tensor | float) -> Tensor:
    images = to_float(images)
    return torch.lerp(other, images, _per_image(factor, images)).clamp_(0, 1)


def adjust_hue(images: Tensor, shift: Tensor | float) -> Tensor:
    """Turn the colour circle by `shift`, in turns (-0.5..0.5); HSV's value and saturation stay.

    HSV's way there and back, in closed form: with V = max(R, G, B), chroma C = V - min(R, G, B) and hue h in turns,
    a channel is V - C * clamp(2 - 6 |x|, 0, 1), x = h + 1/2, 1/6 or -1/6, less the nearest whole number.
    """
    images = _to_rgb(images)
    r, g, b = images.unbind(1)  # [N, H, W]
    value = torch.maximum(torch.maximum(r, g), b)
    chroma = value - torch.minimum(torch.minimum(r, g), b)
    # Numbers 0 and 1 in place of comparisons, which take ten times as long on a processor.
    not_red = (value - r).sign_()  # is red less than the largest?
    blue = (value - g).sign_().mul_(not_red)  # and green, too?
    hue = torch.lerp(g - b, (b - r).add_(chroma, alpha=2), not_red)  # in sixths of a turn, times C
    hue = torch.lerp(hue, (r - g).add_(chroma, alpha=4), blue)
    hue = hue / chroma.clamp(min=1e-8).mul_(6)  # in turns; where C is 0 it does not matter
    hue = hue.add_(_per_image(shift, images)[:, 0])
    x = hue[:, None] + torch.tensor([3.0, 1.0, -1.0], device=hue.device, dtype=hue.dtype).div_(6).view(3, 1, 1)
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
    device = generator.device if generator else None
    blocks = []
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        block = images[rows]
        for i in torch.randperm(len(steps), generator=generator, device=device).tolist():
            adjust, factor = steps[i]
            block = adjust(block, factor[rows])
        blocks.append(torch.lerp(images[rows], block, _per_image(chosen[rows].to(block.dtype), block)))
    return torch.cat(blocks)


def random_grayscale(images: Tensor, p: float = 0.2, *, generator: torch.Generator | None = None) -> Tensor:
    """Take the colour out of each picture with probability p; three equal channels remain."""
    images = to_float(images)
    gray = rgb_to_gray(images)
    return torch.lerp(images, gray, _per_image(_chance(images, p, generator).to(images.dtype), images))


# --- two views ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TwoViews:
    """SimCLR's views (section 3 and appendix A, blur left out as there for small pictures): crop, flip, colour
    jitter, grayscale.

    `views = TwoViews(size=32)`, then `view1, view2 = views(images, generator)`: two float tensors
    [N, 3, size, size]; row i of both comes from picture i.
    """

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

    def __post_init__(self):
        _check_size(self.size)
        _check_range("scale", self.scale, 1.0)
        _check_strengths(
            rotation=self.rotation,
            brightness=self.brightness,
            contrast=self.contrast,
            saturation=self.saturation,
            hue=self.hue,
        )
        for name in ("flip", "jitter", "gray"):
            _check_probability(name, getattr(self, name))

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        images = to_float(images)
        return self.one(images, generator), self.one(images, generator)

    def one(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One view of each picture."""
        view = random_resized_crop(images, self.size, scale=self.scale, flip=self.flip, generator=generator)
        if self.rotation:
            view = random_rotation(view, self.rotation, generator=generator)
        view = color_jitter(view, brightness=self.brightness, contrast=self.contrast, saturation=self.saturation,
                            hue=self.hue, p=self.jitter, generator=generator)  # fmt: skip
        return random_grayscale(view, self.gray, generator=generator)


# --- parameters -----------------------------------------------------------------------------------------


def _rand(shape: tuple[int, ...], images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers, drawn where the generator lives and moved to where the pictures are."""
    device = generator.device if generator else images.device
    return torch.rand(shape, generator=generator, device=device).to(images.device)


def _chance(images: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """[N] bool, true with probability p."""
    _check_probability("p", p)
    return _rand((len(images),), images, generator) < p


def _per_image(value: Tensor | float, images: Tensor) -> Tensor:
    """A number or [N] to a tensor that broadcasts over [N, C, H, W]."""
    value = torch.as_tensor(value, device=images.device)
    if value.ndim and value.shape != images.shape[:1]:
        raise ValueError(f"expected a number or one for each of {len(images)} pictures, got {list(value.shape)}")
    return (value if value.dtype == torch.bool else value.to(images.dtype)).reshape(-1, 1, 1, 1)


def _chosen(which: Tensor, images: Tensor) -> Tensor:
    """[N] bool to [N, 1, 1, 1]."""
    if not isinstance(which, Tensor) or which.dtype != torch.bool:
        raise TypeError(f"expected a bool tensor [N], got {getattr(which, 'dtype', type(which).__name__)}")
    return _per_image(which, images)


def _to_rgb(images: Tensor) -> Tensor:
    images = to_float(images)
    if images.shape[1] != 3:
        raise ValueError(f"images: expected RGB, [N, 3, H, W], got {list(images.shape)}")
    return images


def _check_size(size: int) -> None:
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"size: expected an integer of at least 1, got {size!r}")


def _check_probability(name: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: expected a probability from 0 to 1, got {p}")


def _check_range(name: str, bounds: tuple[float, float], most: float) -> None:
    if not 0 < bounds[0] <= bounds[1] <= most:
        raise ValueError(f"{name}: expected 0 < low <= high <= {most}, got {bounds}")


def _check_strengths(**strengths: float) -> None:
    for name, strength in strengths.items():
        most = 0.5 if name == "hue" else float("inf")
        if not 0 <= strength <= most:
            raise ValueError(f"{name}: expected a strength from 0 to {most}, got {strength}")
