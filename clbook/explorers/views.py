"""The views explorer: how strong each random change is, and what two views of a picture still share."""

import ipywidgets as widgets
import numpy as np
from matplotlib import style
from matplotlib.collections import LineCollection
from matplotlib.patheffects import Normal, Stroke

from clbook.explorers.base import (
    CSS_DPI,
    FAINT,
    INK,
    MUTED,
    NEGATIVE,
    POSITIVE,
    THIRD,
    Explorer,
    Montage,
    new_figure,
    percent,
)

PICTURES = 5  # shown, at most
SIDE = 64  # pixels: larger pictures are scaled down to it
START = {"crop": 0.8, "flip": 0.5, "rotation": 0.0, "brightness": 0.5, "contrast": 0.5, "saturation": 0.7, "hue": 0.5,
         "gray": 0.5, "blur": 0.0}  # the course's recipe for `shapes`  # fmt: skip
GENTLE = {"crop": 1.0, **dict.fromkeys(list(START)[1:], 0.0)}
SETTINGS = (GENTLE | {"crop": 0.8, "flip": 0.5}, START | {"hue": 0.0, "gray": 0.0}, START)


@style.context("default")  # whatever style the notebook plots in
def views(images=None, *, folder=None, seed=0):
    """Set the strength of each random change, and see two views of a few pictures.

    The random draws stay: a slider changes only how strong they come out. `images` and `folder` left out, it shows
    scenes of `shapes`.

    images: [N, 3, H, W], uint8 or float in [0, 1], N at least 2; the first 5 are shown, cut to a centred square.
    folder: a folder of your own pictures, by classes or flat; any 5 of them (by `seed`) are shown.
    seed:   of the draws; another one, other views.
    ValueError for anything else, TypeError for images that aren't a tensor.
    """
    pictures = _pictures(images, folder, seed)
    uniform = _uniform(len(pictures), seed)
    figure, place, moving = _views_picture(pictures)

    def update(**strengths):
        first, second, boxes = two_views(pictures, uniform, **strengths)
        found = _measure(first, second, boxes, pictures.shape[-1])
        place(first, second, boxes, found)
        n = 2 * len(pictures)
        return (
            f"The two views of a picture share {percent(found['shared'])} of its area. Their mean colours differ by "
            f"{found['own']:.2f}, those of different pictures by {found['other']:.2f}: by mean colour alone, "
            f"{found['partners']} of {n} views find their partner among {n - 1} (blindly: {n / (n - 1):.1f})."
        )

    return Explorer(
        "Views explorer", figure, update, controls=_controls(), settings=[dict(s) for s in SETTINGS], moving=moving
    )


def two_views(images, uniform, *, crop, flip, rotation, brightness, contrast, saturation, hue, gray, blur):
    """Two views of each picture, float [N, 3, S, S], and their crops, integers [2, N, 4] (top, left, height, width).

    images: [N, 3, S, S]; uniform: [2, 11, N] numbers in [0, 1), the draws that the strengths scale.
    The steps are clbook.augmentations', in one order and each applied to every view; a crop too wide for the picture
    is made narrower, not drawn again.
    """
    import torch

    from clbook import augmentations as ops

    side, made, boxes = images.shape[-1], [], []
    for u in uniform:
        swing = 2 * u - 1  # -1 to 1
        area, aspect = side**2 * (crop + (1 - crop) * u[0]), (4 / 3) ** swing[1]
        height, width = ((area * a).sqrt().round().clamp(1, side) for a in (1 / aspect, aspect))  # [N] each
        corner = [(u[i] * (side - length + 1)).floor() for i, length in ((2, height), (3, width))]
        box = torch.stack([*corner, height, width], 1).long()  # [N, 4]
        view = ops.resized_crop(images, box, side, u[4] < flip)
        view = ops.rotate(view, rotation * swing[5]) if rotation else view
        view = ops.adjust_brightness(view, 1 + brightness * swing[6])
        view = ops.adjust_contrast(view, 1 + contrast * swing[7])
        view = ops.adjust_saturation(view, 1 + saturation * swing[8])
        view = ops.adjust_hue(view, hue * swing[9])
        view = torch.where((u[10] < gray)[:, None, None, None], ops.rgb_to_gray(view), view)
        made.append(ops.gaussian_blur(view, blur, kernel_size=13) if blur else view)
        boxes.append(box)
    return *made, torch.stack(boxes)


def _pictures(images, folder, seed):
    """[N, 3, S, S] float, N from 2 to 5, S at most 64."""
    import torch

    from clbook import augmentations, datasets

    if images is not None and folder is not None:
        raise ValueError("expected `images` or `folder`, or neither for scenes of shapes; got both: leave one out")
    if folder is not None:
        images = _some_of(folder, seed)
    elif images is None:
        images = datasets.load("shapes", n=PICTURES, image_size=16, seed=seed).images
    augmentations.check_pictures(images)
    n, channels, height, width = images.shape
    if n < 2 or channels != 3:
        raise ValueError(f"expected at least 2 RGB pictures [N, 3, H, W]; got {n} with {channels} channels. Every view "
                         "has to find its partner among those of other pictures")  # fmt: skip
    square = min(height, width)
    box = torch.tensor([[(height - square) // 2, (width - square) // 2, square, square]])
    images = images[:PICTURES].detach().cpu()
    return augmentations.resized_crop(images, box.expand(len(images), 4), min(square, SIDE))


def _some_of(folder, seed):
    from clbook import datasets

    try:
        return datasets.load(f"folder:{folder}", n=PICTURES, image_size=SIDE, seed=seed).images
    except ValueError:  # fewer than that, or no such folder
        return datasets.load(f"folder:{folder}", image_size=SIDE, seed=seed).images


def _uniform(n, seed):
    import torch

    return torch.rand(2, 11, n, generator=torch.Generator().manual_seed(seed))


def _measure(first, second, boxes, side):
    """What the views of a picture share, and what colour alone tells."""
    import torch

    low = boxes[..., :2].amax(0)  # [N, 2]: where both crops begin
    high = (boxes[..., :2] + boxes[..., 2:]).amin(0)
    shared = (high - low).clamp(min=0).prod(1) / side**2  # [N]
    means = torch.cat([first, second]).mean((2, 3))  # [2N, 3]
    apart = (means[:, None] - means).abs().mean(2)  # [2N, 2N]
    n = len(first)
    partner = torch.arange(2 * n).roll(n)
    own = apart[torch.arange(2 * n), partner]  # [2N]
    others = apart + torch.diag(torch.full((2 * n,), torch.inf))  # a view doesn't meet itself
    others[torch.arange(2 * n), partner] = torch.inf
    other = others[others.isfinite()]
    return {"shared": shared.mean().item(), "own": own.mean().item(), "other": other.mean().item(),
            "partners": int((own < others.amin(1)).sum())}  # fmt: skip


def _controls():
    def slider(name, text, high, low=0.0, step=0.05, form=".2f"):
        return widgets.FloatSlider(START[name], min=low, max=high, step=step, description=text, readout_format=form)

    return {
        "crop": slider("crop", "smallest crop (share)", 1.0, low=0.05),
        "flip": slider("flip", "flip (probability)", 1.0),
        "rotation": slider("rotation", "rotation (± degrees)", 90.0, step=5.0, form=".0f"),
        "brightness": slider("brightness", "brightness (±)", 1.0),
        "contrast": slider("contrast", "contrast (±)", 1.0),
        "saturation": slider("saturation", "saturation (±)", 1.0),
        "hue": slider("hue", "hue (± turns)", 0.5),
        "gray": slider("gray", "grayscale (probability)", 1.0),
        "blur": slider("blur", "blur (sigma, pixels)", 3.0, step=0.25),
    }


def _views_picture(pictures):
    """The figure, the function that places its moving artists, and these artists."""
    from clbook.plots import to_numpy

    n, _, side, _ = pictures.shape
    figure = new_figure(640, 430)
    gap = max(1, side // 16)
    cell = side + gap
    grid = np.full((3 * cell - gap, n * cell - gap, 4), 255, np.uint8)
    rows, columns = grid.shape[:2]
    zoom = 1008 // (PICTURES * cell - gap)  # whole pixels of the figure for each of the pictures'
    montage = Montage(grid, zoom, left=192, top=32)
    figure.add_artist(montage)
    axes = figure.add_axes((192 / 1280, 1 - (32 + zoom * rows) / 860, zoom * columns / 1280, zoom * rows / 860))
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.axis("off")
    for row, name in enumerate(("picture", "view 1\n(solid)", "view 2\n(dashed)")):
        axes.text(-14 / zoom, row * cell + side / 2, name, ha="right", va="center", size=11, color=INK)
    outlines = [
        LineCollection([], colors=color, linewidths=1.8, linestyles=line, clip_on=False,
                       path_effects=[Stroke(linewidth=3.4, foreground="white"), Normal()])
        for color, line in ((POSITIVE, "-"), (NEGATIVE, (0, (3, 1.6))))
    ]  # fmt: skip
    for outline in outlines:
        axes.add_collection(outline, autolim=False)
    bars, numbers, fits = _bars(figure)

    def place(first, second, boxes, found):
        for row, batch in enumerate((pictures, first, second)):
            for i, image in enumerate(to_numpy(batch)):
                grid[row * cell : row * cell + side, i * cell : i * cell + side, :3] = image
        for outline, own in zip(outlines, boxes.tolist(), strict=True):
            outline.set_segments([_outline(box, i * cell) for i, box in enumerate(own)])
        for name, bar in bars.items():
            bar.set_width(found[name] * fits[name])
            numbers[name].set_text(percent(found[name]) if name == "shared" else f"{found[name]:.2f}")

    return figure, place, [montage, *outlines, *bars.values(), *numbers.values()]


def _outline(box, offset):
    top, left, height, width = box
    x0, x1, y0, y1 = left + offset + 0.5, left + offset + width - 0.5, top + 0.5, top + height - 0.5
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]


def _bars(figure):
    """Three bars on one axis of length 1: the area is a share of it, and colours that differ by 0.5 fill it."""
    width, height = figure.get_size_inches() * CSS_DPI
    axes = figure.add_axes((300 / width, 16 / height, 244 / width, 84 / height), xlim=(0, 1), ylim=(2.5, -0.5))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=11, labelcolor=INK)
    axes.set(xticks=[], yticks=range(3))
    axes.set_yticklabels(("area that both views show", "mean colour: two views of one picture",
                          "mean colour: different pictures"))  # fmt: skip
    for row in range(3):
        axes.barh([row], 1, height=0.6, color=FAINT)
    looks = {"shared": (MUTED, "", 1.0), "own": (THIRD, "////", 2.0), "other": (THIRD, "", 2.0)}
    bars, numbers = {}, {}
    for row, (name, (color, hatch, _)) in enumerate(looks.items()):
        (bars[name],) = axes.barh([row], 0, height=0.6, color=color, hatch=hatch, edgecolor="white", linewidth=0)
        numbers[name] = axes.annotate("", (1, row), xytext=(46, 0), textcoords="offset points", ha="right",
                                      va="center_baseline", size=11, color=INK)  # fmt: skip
    return bars, numbers, {name: fit for name, (_, _, fit) in looks.items()}
