"""The receptive-field explorer: how many places a ResNet leaves of a picture, and how much each of them sees."""

import ipywidgets as widgets
import numpy as np
from matplotlib import style
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from clbook.explorers.base import CSS_DPI, FAINT, INK, MUTED, NEGATIVE, POSITIVE, THIRD, Explorer, new_figure

SIZES = (16, 24, 32, 48, 64, 96, 128, 160, 192, 224)
STEMS = {  # its layers as (kernel, stride, padding)
    "small": ((3, 1, 1),),
    "imagenet": ((7, 2, 3), (3, 2, 1)),  # the second is the max-pool
}
STEM_LABELS = {"small": "3×3, stride 1", "imagenet": "7×7, stride 2 + pool"}
STAGES = ("stem", "stage 1", "stage 2", "stage 3", "stage 4")
EDGE = 0.3  # of the picture's side, drawn around it: a receptive field may be larger than the picture


def resnet_places(size, stem, blocks):
    """What a ResNet of basic blocks leaves of a picture: for the stem and each of four stages (side, jump, field).

    size: the picture's side in pixels, at least 1; stem: "small" or "imagenet"; blocks: to a stage, at least 1.
    side: places along one side of the feature map, floor((n + 2p - k) / s) + 1 for each layer of kernel k, stride s
    and padding p. jump: pixels from one place to the next. field: pixels along one side of the square that a place
    sees, its receptive field (padding included). ValueError for anything else.
    """
    for name, value in (("size", size), ("blocks", blocks)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}: expected an integer of at least 1; got {value!r}")
    if stem not in STEMS:
        raise ValueError(f"stem: expected one of {', '.join(STEMS)}; got {stem!r}")
    inner = (3, 1, 1)
    parts = [STEMS[stem], [inner] * (2 * blocks), *[[(3, 2, 1)] + [inner] * (2 * blocks - 1)] * 3]
    side, jump, field, rows = size, 1, 1, []
    for layers in parts:
        for kernel, stride, padding in layers:
            side = (side + 2 * padding - kernel) // stride + 1
            field += (kernel - 1) * jump
            jump *= stride
        rows.append((side, jump, field))
    return rows


@style.context("default")  # whatever style the notebook plots in
def receptive_field(size=32, *, stem="imagenet", blocks=2):
    """Picture size, stem and depth of a ResNet: how many places are left, and how much of the picture each one sees.

    size:   side of the picture in pixels where its slider starts, 16 to 224 (in steps of those of the slider).
    stem:   "small" (3x3, stride 1) or "imagenet" (7x7, stride 2, then a 3x3 max-pool of stride 2).
    blocks: basic blocks to a stage, 1 to 4; 2 is ResNet-18.
    ValueError for anything else.
    """
    resnet_places(size, stem, blocks)
    if size not in SIZES or blocks > 4:
        raise ValueError(f"expected a size of {', '.join(map(str, SIZES))} and 1 to 4 blocks; got {size} and {blocks}")
    figure, place, moving = _picture()

    def update(size, stem, blocks, stage):
        rows = resnet_places(size, stem, blocks)
        place(size, rows, stage)
        side, _, field = rows[stage]
        where = "the stem" if stage == 0 else f"stage {stage}"
        left = f"1 × 1 place, which sees {field} px" if side == 1 else f"{side} × {side} places, each sees {field} px"
        beyond = f": {field / size:.1f} times the picture's side, padding included" if field > 1.05 * size else ""
        net = f"{STEM_LABELS[stem]}, {blocks} block{'s' if blocks > 1 else ''} a stage"
        return f"{net}: after {where} a {size}-px picture is {left}{beyond}."

    return Explorer(
        "Receptive-field explorer",
        figure,
        update,
        controls={
            "size": widgets.SelectionSlider(options=[(f"{s} px", s) for s in SIZES], value=size, description="picture"),
            "stem": widgets.SelectionSlider(
                options=[(label, name) for name, label in STEM_LABELS.items()], value=stem, description="stem"
            ),
            "blocks": widgets.IntSlider(blocks, min=1, max=4, description="blocks a stage"),
            "stage": widgets.SelectionSlider(
                options=[(name, i) for i, name in enumerate(STAGES)], value=4, description="look after"
            ),
        },
        settings=[
            {"size": 224, "stem": "imagenet", "stage": 3, "blocks": 2},
            {"size": 32, "stem": "imagenet", "stage": 3, "blocks": 2},
            {"size": 32, "stem": "small", "stage": 3, "blocks": 2},
            {"size": 32, "stem": "small", "stage": 2, "blocks": 1},
        ],
        moving=moving,
    )


def scene(size):
    """A disc and a triangle on a ground, on `size` x `size` pixels: uint8 [size, size, 4], which is drawn fastest."""
    fine = 224 // size * size  # drawn finely, then averaged to pixels
    y, x = (np.mgrid[:fine, :fine] + 0.5) / fine
    picture = np.empty((fine, fine, 3))
    picture[:] = (0.80, 0.86, 0.90)
    picture[(x - 0.32) ** 2 + (y - 0.36) ** 2 < 0.19**2] = (0.55, 0.55, 0.62)
    picture[(y < 0.86) & (y - 0.36 > 1.9 * np.abs(x - 0.68))] = (0.93, 0.79, 0.42)
    colors = picture.reshape(size, fine // size, size, fine // size, 3).mean((1, 3))
    return np.dstack([255 * colors, np.full((size, size), 255)]).astype(np.uint8)


def _picture():
    """The figure, the function that places its moving artists, and these artists."""
    figure = new_figure(640, 336)
    width, height = figure.get_size_inches() * CSS_DPI
    view = figure.add_axes((16 / width, 12 / height, 268 / width, 268 / height))
    view.set(xlim=(-EDGE, 1 + EDGE), ylim=(1 + EDGE, -EDGE), xticks=[], yticks=[], facecolor="#f6f6f6")
    view.spines[:].set_color(FAINT)
    label = view.text(
        0.5,
        -EDGE + 0.08,
        "padding: nothing is here",
        size=9,
        color=MUTED,
        ha="center",
        va="center",
        zorder=5,
        bbox={"facecolor": "white", "alpha": 0.85, "lw": 0, "pad": 2},
    )
    axes, places, seen = _rows(figure, width, height)
    pictures = {size: scene(size) for size in SIZES}
    image = view.imshow(pictures[16], extent=(0, 1, 1, 0), interpolation="nearest", zorder=1)
    (grid,) = view.plot([], [], color=INK, lw=0.6, alpha=0.55, zorder=2)
    field_box = view.add_patch(
        Rectangle((0, 0), 1, 1, fill=False, hatch="//", edgecolor=NEGATIVE, lw=2.2, alpha=0.9, zorder=3)
    )
    (dot,) = view.plot([], [], "o", color=POSITIVE, ms=8, mec="white", mew=1, zorder=4)
    title = figure.text(16 / width, 1 - 26 / height, "", size=14, weight="bold", color=INK)
    picture_side = axes.axvline(32, color=THIRD, lw=1.6, ls=(0, (4, 3)))
    side_name = axes.annotate("", (32, -0.62), color=THIRD, size=9.5, ha="center", va="bottom", annotation_clip=False)
    (sides,) = axes.plot([], [], "o-", color=POSITIVE, ms=8, mec="white", lw=1.2)
    (fields,) = axes.plot([], [], "s--", color=NEGATIVE, ms=7.5, mec="white", lw=1.2)
    (arrow,) = axes.plot([], [], ">", color=INK, ms=8, transform=axes.get_yaxis_transform(), clip_on=False)
    moving = [image, grid, field_box, label, dot, title, picture_side, side_name, sides, fields, arrow, *places, *seen]

    def place(size, rows, stage):
        side, jump, field = rows[stage]
        image.set_data(pictures[size])
        edges = np.arange(side + 1) * jump / size if side <= 32 else np.array([])
        grid.set_data(*_grid(np.append(edges[edges < 1], 1.0)) if len(edges) else ([], []))
        centre = ((side // 2) * jump + 0.5) / size  # padding of (k - 1) / 2: the first place sits on the first pixel
        field_box.set_bounds(centre - field / size / 2, centre - field / size / 2, field / size, field / size)
        dot.set_data([centre], [centre])
        title.set_text(f"{size} px, after {STAGES[stage] if stage else 'the stem'}")
        picture_side.set_xdata([size, size])
        side_name.set_text(f"picture {size}")
        side_name.set_x(size)
        side_name.xy = (size, -0.62)
        sides.set_data([row[0] for row in rows], range(5))
        fields.set_data([row[2] for row in rows], range(5))
        arrow.set_data([-0.56], [stage])
        for row, (n, _, pixels) in enumerate(rows):
            places[row].set_text(f"{n}×{n}")
            seen[row].set_text(f"{pixels} px")

    return figure, place, moving


def _grid(edges):
    """One broken line through the edges of all places: x and y, with gaps of NaN."""
    ends, gap = [0, 1, np.nan], len(edges)
    across = np.tile(ends, gap), np.repeat(edges, 3)
    down = np.repeat(edges, 3), np.tile(ends, gap)
    return np.r_[across[0], down[0]], np.r_[across[1], down[1]]


def _rows(figure, width, height):
    """The axes of sides and fields, one row a stage, and beside them two columns of empty numbers."""
    axes = figure.add_axes((368 / width, 56 / height, 126 / width, 200 / height))
    axes.set(xscale="log", xlim=(0.8, 1400), ylim=(4.5, -0.5), yticks=range(5))
    axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"], size=9.5, color=MUTED)
    axes.set_yticklabels(STAGES, size=11, color=INK)
    axes.set_xticks([], minor=True)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(axis="both", color=FAINT, lw=1)
    axes.set_axisbelow(True)
    axes.set_xlabel("along a side", size=10, color=MUTED)
    columns = []
    for right, mark, color, heading in ((566, "o", POSITIVE, "places"), (626, "s", NEGATIVE, "sees")):
        figure.text(
            right / width, 1 - 52 / height, heading, size=10.5, weight="bold", color=INK, ha="right", va="center"
        )
        sign = (right - 7.4 * len(heading) - 16) / width, 1 - 52 / height
        figure.add_artist(Line2D(*[[x] for x in sign], marker=mark, color=color, ms=8))
        heights = [(256 - 20 - 40 * row) / height for row in range(5)]
        columns.append(
            [figure.text(right / width, y, "", size=10.5, color=INK, ha="right", va="center") for y in heights]
        )
    return axes, *columns
