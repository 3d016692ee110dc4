"""How far the fast path of the views is from the exact one, with the same parameters on both sides.

python benchmarks/fast_views.py

Values go from 0 to 1. "the step itself" is how much the exact step changes the pictures, or, for crops, nothing: a crop
has no picture to compare itself with.
"""

import torch
from torch.nn import functional as F

from clbook import augmentations as aug
from clbook import datasets

N = 1000


def shapes() -> torch.Tensor:
    """[N, 3, 32, 32]: the course's own, flat colours and sharp edges."""
    return datasets.load("shapes", n=N).images / 255


def smooth(generator: torch.Generator) -> torch.Tensor:
    """[N, 3, 32, 32]: random colours at 5 x 5 places, and all between them."""
    return F.interpolate(torch.rand(N, 3, 5, 5, generator=generator), size=32, mode="bicubic").clamp(0, 1)


def parameters(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Factors of each picture, as `TwoViews` draws them by default."""

    def uniform(low, high):
        return low + (high - low) * torch.rand(N, generator=generator)

    return {
        "brightness": uniform(0.6, 1.4),
        "contrast": uniform(0.6, 1.4),
        "saturation": uniform(0.6, 1.4),
        "hue": uniform(-0.1, 0.1),
        "degrees": uniform(-30, 30),
    }


def random_boxes(generator: torch.Generator) -> torch.Tensor:
    """[N, 4]: top, left, height, width, with sides of 14 to 32 pixels."""
    sides = torch.randint(14, 33, (N, 2), generator=generator)
    return torch.cat([(torch.rand(N, 2, generator=generator) * (33 - sides)).long(), sides], 1)


def exact_colors(images: torch.Tensor, **factors: torch.Tensor) -> torch.Tensor:
    for name in ("brightness", "contrast", "saturation", "hue"):
        if name in factors:
            images = getattr(aug, f"adjust_{name}")(images, factors[name])
    return images


def cases(images: torch.Tensor, drawn: dict[str, torch.Tensor], boxes: torch.Tensor, flips: torch.Tensor):
    """(name, exact, fast, what the exact step started from) of every step, then of all."""
    colors = {name: drawn[name] for name in ("brightness", "contrast", "saturation", "hue")}
    for name, factor in colors.items():
        yield name, exact_colors(images, **{name: factor}), aug.linear_color(images, **{name: factor}), images
    three = {name: factor for name, factor in colors.items() if name != "hue"}
    yield "all but the hue", exact_colors(images, **three), aug.linear_color(images, **three), images
    yield "all four", exact_colors(images, **colors), aug.linear_color(images, **colors), images
    gray = aug.rgb_to_gray(images).expand_as(images)
    yield "grayscale", gray, aug.linear_color(images, saturation=0.0), images
    for size in (32, 16, 64):
        crop = aug.resized_crop(images, boxes, size, flips)
        yield f"crop to {size}", crop, aug.sampled_crop(images, boxes, size, flips), None
    crop = aug.rotate(aug.resized_crop(images, boxes, 32, flips), drawn["degrees"])
    fast = aug.sampled_crop(images, boxes, 32, flips, drawn["degrees"])
    yield "crop to 32, turned", crop, fast, None
    disc = torch.hypot(*torch.meshgrid(*[torch.linspace(-1, 1, 33)[:-1] + 1 / 32] * 2, indexing="ij")) < 0.9
    yield "... away from the corners", crop[..., disc], fast[..., disc], None
    crop = aug.resized_crop(images, boxes, 32, flips)
    yield "crop, all four", exact_colors(crop, **colors), aug.linear_color(crop, **colors), crop


def hue_by_matrix(shift: float, generator: torch.Generator) -> tuple[float, float]:
    """Mean difference from HSV's hue over the colour cube: of the turn about the gray axis, of the best matrix."""
    colors = torch.rand(40_000, 3, 1, 1, generator=generator)
    exact = aug.adjust_hue(colors, shift).flatten(1)
    best = torch.linalg.lstsq(colors.flatten(1), exact).solution  # [3, 3]
    turned = colors.flatten(1) @ aug.color_matrix(hue=shift)[0].T
    return (turned - exact).abs().mean().item(), (colors.flatten(1) @ best - exact).abs().mean().item()


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    print("| pictures | step | mean difference | largest | the step itself |\n|---|---|---|---|---|")
    for name, images in (("shapes", shapes()), ("smooth", smooth(generator))):
        drawn = parameters(generator)
        boxes = random_boxes(generator)
        flips = torch.rand(N, generator=generator) < 0.5
        for step, exact, fast, before in cases(images, drawn, boxes, flips):
            difference = (exact - fast).abs()
            change = "" if before is None else f"{(exact - before).abs().mean():.4f}"
            print(f"| {name} | {step} | {difference.mean():.4f} | {difference.max():.4f} | {change} |")
    print("\n| hue shift | turned about the gray axis | least-squares matrix |\n|---|---|---|")
    for shift in (0.05, 0.1, 0.2, 0.5):
        print("| {} | {:.4f} | {:.4f} |".format(shift, *hue_by_matrix(shift, generator)))


if __name__ == "__main__":
    main()
