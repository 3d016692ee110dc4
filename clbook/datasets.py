"""Pictures as one uint8 tensor: drawn here, shipped with scikit-learn, or read from a folder of yours.

>>> train = load("shapes", n=4000)
>>> train.images.shape, train.images.dtype
(torch.Size([4000, 3, 32, 32]), torch.uint8)
"""

import difflib
import hashlib
import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

SPLITS = ("train", "val", "test")
DEFAULT_SIZE = 32  # pixels a side

SHAPES = ("triangle", "cross", "ring", "crescent", "bar")
COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
TEXTURES = ("solid", "striped", "checked", "dotted")
BACKGROUNDS = ("maroon", "brown", "olive", "forest", "teal", "navy", "plum", "gray")
SIZES = ("small", "medium", "large")
PLACES = tuple(f"{v} {h}".replace("middle centre", "centre") for v in ("upper", "middle", "lower")
               for h in ("left", "centre", "right"))  # fmt: skip


@dataclass(frozen=True)
class ImageSet:
    """Pictures and what is known of them. `len(s)` is N; `s.subset(index)` selects rows of everything."""

    name: str
    images: Tensor  # [N, C, H, W] uint8, RGB
    labels: Tensor | None = None  # [N] int64; None where the pictures have no classes
    classes: tuple[str, ...] = ()  # the name of label 0, 1, ...
    factors: dict[str, Tensor] = field(default_factory=dict)  # shapes: name -> [N] int64 or float32
    factor_names: dict[str, tuple[str, ...]] = field(default_factory=dict)  # the names of categorical factors
    masks: Tensor | None = None  # [N, H, W] bool, True on the object
    boxes: Tensor | None = None  # [N, 4] float32: x0, y0, x1, y1 in pixels, right and lower edge exclusive
    captions: tuple[str, ...] | None = None
    files: tuple[str, ...] | None = None  # folder: each picture's path
    skipped: tuple[tuple[str, str], ...] = ()  # folder: (path, reason) of files that could not be read

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:  # a cell that ends in an image set must not print thousands of captions
        kinds = f", {len(self.classes)} classes" if self.classes else ""
        return f"ImageSet({self.name!r}, {len(self):,} pictures {list(self.images.shape[1:])}{kinds})"

    def subset(self, index: Sequence[int] | Tensor) -> "ImageSet":
        """The pictures at `index` ([M] integers, or a mask [N] bool), with all that belongs to them."""
        index = torch.as_tensor(index)
        index = index.nonzero()[:, 0] if index.dtype == torch.bool else index.long()
        pick = {f.name: _rows(getattr(self, f.name), index) for f in fields(self) if f.name in _PER_IMAGE}
        return replace(self, **pick)


_PER_IMAGE = ("images", "labels", "factors", "masks", "boxes", "captions", "files")


def _rows(value, index: Tensor):
    if isinstance(value, Tensor):
        return value[index]
    if isinstance(value, dict):
        return {name: column[index] for name, column in value.items()}
    return value if value is None else tuple(value[i] for i in index.tolist())


def available() -> tuple[str, ...]:
    """The names that `load` takes."""
    return (*_LOADERS, "folder:PATH")


def load(name: str, split: str = "train", *, n: int | None = None, seed: int = 0,
         image_size: int | None = None, root: str | Path | None = None) -> ImageSet:  # fmt: skip
    """Load a data set into memory.

    Args:
        name: "shapes" (drawn here; labels are the shapes), "digits" (scikit-learn's handwritten digits) or
            "folder:PATH": your own pictures, in class folders or flat, below `train`, `val`, `test` or not.
        split: "train", "val" or "test". The three never share a picture.
        n: how many pictures. "shapes" draws any number (4,000 for training, else 1,000); the others pick n at
            random by `seed`, or give all.
        seed: seeds what is drawn. The same seed gives the same bytes on every machine; n = 100 is the
            beginning of n = 1,000.
        image_size: side in pixels, 32 unless told. A folder's pictures are scaled (shorter side) and cropped
            to the centre.
        root: where "folder:" looks for a relative PATH; the current directory unless told.

    Returns:
        An `ImageSet`; its images are uint8 [N, 3, image_size, image_size].

    Raises:
        ValueError: an unknown name or split, a folder that is missing, empty or has one class only, n or
            image_size out of range. Files that can't be read are skipped, listed in `skipped` and warned of.
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}{_nearest(split, SPLITS)}")
    for what, value, least in (("n", n, 1), ("image_size", image_size, 8), ("seed", seed, 0)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise ValueError(f"{what}: expected an integer of at least {least}, got {value!r}")
    size = image_size or DEFAULT_SIZE
    if isinstance(name, str) and name.startswith("folder:"):
        path = Path(root or ".").expanduser() / Path(name.removeprefix("folder:")).expanduser()
        return _load_folder(path, split, n, seed, size)
    if name not in _LOADERS:
        choices = ", ".join(available())
        raise ValueError(f"data set: expected one of {choices}; got {name!r}{_nearest(name, _LOADERS)}")
    return _LOADERS[name](split, n, seed, size)


def _nearest(word: str, choices) -> str:
    close = difflib.get_close_matches(str(word), list(choices), n=2, cutoff=0.5)
    return f". Did you mean {' or '.join(map(repr, close))}?" if close else ""


# --- shapes: scenes with known factors ------------------------------------------------------------------
#
# The same bytes everywhere: numbers come from RandomState, whose streams NumPy has frozen, and every pixel from
# + - * / sqrt and floor in float64, which IEEE 754 rounds exactly. Sines are the one exception, so they are
# rounded far above their error.

# Colours are told apart by hue alone: every backdrop has one luminance, and every object a higher one, so that a gray
# picture still shows the shape but hardly the colours.
_HUES = np.array([0, 28, 55, 120, 180, 225, 275, 325]) / 60  # of COLORS, in sixths of the colour circle
_BACKDROP_HUES = np.array([0, 28, 55, 120, 180, 225, 275, 0]) / 60  # of BACKGROUNDS, the last without saturation
_LUMA = np.array([0.299, 0.587, 0.114])
_BACKDROP_LUMA, _OBJECT_LUMA = 0.33, 0.55
_CHUNK = 250  # scenes drawn at a time: small enough for the processor's cache


def _load_shapes(split: str, n: int | None, seed: int, size: int) -> ImageSet:
    n = n or (4000 if split == "train" else 1000)
    stream = [seed, SPLITS.index(split)]
    scene = _draw_factors(np.random.RandomState([*stream, 0]).random_sample((n, 14)), size / 32)
    noise = np.frombuffer(np.random.RandomState([*stream, 1]).bytes(n * size * size), np.uint8)
    noise = noise.reshape(n, size, size)
    images = np.empty((n, 3, size, size), np.uint8)
    masks = np.empty((n, size, size), bool)

    def draw(start):  # each chunk is its own rows, so threads never meet
        rows = slice(start, start + _CHUNK)
        images[rows], masks[rows] = _rasterize({k: v[rows] for k, v in scene.items()}, noise[rows], size)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(draw, range(0, n, _CHUNK)))

    factors = _public_factors(scene, size)
    names = {"shape": SHAPES, "color": COLORS, "texture": TEXTURES, "background": BACKGROUNDS,
             "size": SIZES, "place": PLACES}  # fmt: skip
    return ImageSet("shapes", torch.from_numpy(images), factors["shape"], SHAPES, factors, names,
                    torch.from_numpy(masks), _boxes(masks), _captions(factors))  # fmt: skip


def _draw_factors(u: np.ndarray, unit: float) -> dict[str, np.ndarray]:
    """Uniform numbers [n, 14] to each scene's factors; lengths in pixels, `unit` pixels for one of 32."""
    shape, color, texture, background = (
        (u[:, i] * len(names)).astype(np.int64) for i, names in enumerate((SHAPES, COLORS, TEXTURES, BACKGROUNDS))
    )
    radius = (8.6 + 2.7 * u[:, 4]) * unit
    room = 32 * unit - 2 * radius
    turn = np.pi * (u[:, 7] - 0.5)  # +-90 degrees
    return {
        "shape": shape,
        "color": color,
        "texture": texture,
        "background": background,
        "radius": radius,
        "x": radius + room * u[:, 5],
        "y": radius + room * u[:, 6],
        "turn": 180 * (u[:, 7] - 0.5),
        "cos": np.round(np.cos(turn) * 2**30) / 2**30,
        "sin": np.round(np.sin(turn) * 2**30) / 2**30,
        "ink": _object_rgb(_HUES[color] + 0.3 * (u[:, 8] - 0.5), 0.75 + 0.25 * u[:, 9], 0.8 + 0.2 * u[:, 10]),
        "ground": _backdrop_rgb(background),
        "slope_x": u[:, 11] - 0.5,  # of the background's brightness
        "slope_y": u[:, 12] - 0.5,
        "period": (5.5 + u[:, 13]) * unit,  # of the texture
    }


def _hsv_to_rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """[n] each (hue in sixths of the circle) to [n, 3]."""
    k = (np.array([5.0, 3.0, 1.0]) + hue[:, None]) % 6
    return value[:, None] * (1 - saturation[:, None] * np.clip(np.minimum(k, 4 - k), 0, 1))


def _object_rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """A colour [n, 3], mixed with white until it is light enough."""
    rgb = _hsv_to_rgb(hue, saturation, value)
    luma = (rgb * _LUMA).sum(1)
    white = np.clip((_OBJECT_LUMA - luma) / (1 - luma), 0, 1)[:, None]
    return rgb + white * (1 - rgb)


def _backdrop_rgb(background: np.ndarray) -> np.ndarray:
    saturation = np.where(np.arange(len(BACKGROUNDS)) < 7, 0.8, 0.0)
    rgb = _hsv_to_rgb(_BACKDROP_HUES, saturation, np.ones(len(BACKGROUNDS)))
    return (rgb * _BACKDROP_LUMA / (rgb * _LUMA).sum(1, keepdims=True))[background]


def _rasterize(scene: dict[str, np.ndarray], noise: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 [n, 3, size, size] and masks bool [n, size, size] of n scenes."""
    column = {name: values[:, None, None] for name, values in scene.items() if values.ndim == 1}  # [n, 1, 1]
    x = np.arange(size) + 0.5  # pixel centres
    y = x[:, None]
    dx, dy = x - column["x"], y - column["y"]  # [n, 1, W], [n, H, 1]
    u = dx * column["cos"] + dy * column["sin"]  # [n, H, W], pixels along the object's own axes
    v = dy * column["cos"] - dx * column["sin"]
    distance, paint = np.empty_like(u), np.ones_like(u)
    for kind, signed_distance in enumerate(_DISTANCES):
        rows = scene["shape"] == kind
        radius = column["radius"][rows]
        distance[rows] = radius * signed_distance(u[rows] / radius, v[rows] / radius)
    for kind, pattern in enumerate(_PATTERNS):
        rows = scene["texture"] == kind
        period = column["period"][rows]
        paint[rows] = 1 - 0.16 * pattern(u[rows] / period, v[rows] / period)
    cover = np.clip(0.5 - distance, 0, 1)  # the share of a pixel that the object fills
    light = 1 + 0.25 * (x * column["slope_x"] + y * column["slope_y"]) / size
    grain = noise * (16 / 255) - 8 + 0.5  # +-8 of 255, and the half that turns floor into rounding
    images = np.empty((len(u), 3, size, size), np.uint8)
    for c in range(3):
        ground = light * scene["ground"][:, c, None, None]
        ink = paint * scene["ink"][:, c, None, None]
        images[:, c] = np.floor(np.clip(255 * (ground + cover * (ink - ground)) + grain, 0, 255.5))
    return images, cover > 0.5


# Signed distances to each shape's edge, < 0 inside; u points right and v down, in radii, both [n, H, W].


def _triangle(u, v):
    return np.maximum(v, 0.8660254037844386 * np.abs(u) - 0.5 * v) - 0.54


def _cross(u, v):
    a, b = np.abs(u), np.abs(v)
    return np.minimum(np.maximum(a - 0.92, b - 0.25), np.maximum(a - 0.25, b - 0.92))


def _ring(u, v):
    return np.abs(np.sqrt(u * u + v * v) - 0.69) - 0.18


def _crescent(u, v):
    bite = u - 0.5
    return np.maximum(np.sqrt(u * u + v * v) - 0.95, 0.75 - np.sqrt(bite * bite + v * v))


def _bar(u, v):
    return np.maximum(np.abs(u) - 0.95, np.abs(v) - 0.38)


_DISTANCES = (_triangle, _cross, _ring, _crescent, _bar)  # as in SHAPES


# Textures: how dark the paint is at (u, v), in periods; 0 is the plain colour, 1 the darkest.


def _wave(t):
    """A triangle wave from -1 to 1, of period 1."""
    return 4 * np.abs(t - np.floor(t) - 0.5) - 1


def _solid(u, v):
    return np.zeros_like(u)


def _stripes(u, v):
    return np.clip(0.5 + 2 * _wave(v), 0, 1)


def _checks(u, v):
    return np.clip(0.5 + 3 * _wave(0.5 * (u + v)) * _wave(0.5 * (u - v)), 0, 1)


def _dots(u, v):
    a, b = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    return np.clip(1.7 - 5 * np.sqrt(a * a + b * b), 0, 1)


_PATTERNS = (_solid, _stripes, _checks, _dots)  # as in TEXTURES


def _public_factors(scene: dict[str, np.ndarray], size: int) -> dict[str, Tensor]:
    third = np.floor(3 * np.stack([scene["x"], scene["y"]]) / size).astype(np.int64)
    scale = np.clip(np.floor((scene["radius"] / size * 32 - 8.6) / 0.9), 0, 2).astype(np.int64)
    columns = {name: scene[name] for name in ("shape", "color", "texture", "background")}
    columns |= {"size": scale, "place": 3 * third[1] + third[0]}
    columns |= {name: scene[name].astype(np.float32) for name in ("x", "y", "radius", "turn")}
    return {name: torch.from_numpy(values) for name, values in columns.items()}


def _boxes(masks: np.ndarray) -> Tensor:
    """The tight box of each mask: x0, y0, x1, y1."""
    across, down = masks.any(1), masks.any(2)  # [N, W], [N, H]
    size = masks.shape[1]
    edges = [
        across.argmax(1),
        down.argmax(1),
        size - across[:, ::-1].argmax(1),
        size - down[:, ::-1].argmax(1),
    ]
    return torch.from_numpy(np.stack(edges, 1).astype(np.float32))


def _captions(factors: dict[str, Tensor]) -> tuple[str, ...]:
    names = (SIZES, COLORS, TEXTURES, SHAPES, PLACES, BACKGROUNDS)
    columns = zip(
        *(factors[f].tolist() for f in ("size", "color", "texture", "shape", "place", "background")),
        strict=True,
    )
    return tuple(
        "a {} {} {} {} in the {}, on {}".format(*(k[i] for k, i in zip(names, row, strict=True))) for row in columns
    )


# --- digits: scikit-learn's, 8 x 8, real handwriting ----------------------------------------------------


def _load_digits(split: str, n: int | None, seed: int, size: int) -> ImageSet:
    from sklearn.datasets import load_digits  # slow to import, and only needed here

    bunch = load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.target))  # fixed: the splits never move
    rows = np.split(order, [1257, 1527])[SPLITS.index(split)]  # 1,257 / 270 / 270
    rows = rows[_choose(len(rows), n, seed, f"digits, split {split}")]
    gray = torch.from_numpy(bunch.images[rows]).float().unsqueeze(1) / 16  # [N, 1, 8, 8] in [0, 1]
    scaled = F.interpolate(gray, size=(size, size), mode="bilinear", antialias=True)
    images = (scaled * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    labels = torch.from_numpy(bunch.target[rows]).to(torch.int64)
    return ImageSet("digits", images, labels, tuple("0123456789"))


def _choose(have: int, n: int | None, seed: int, where: str) -> np.ndarray:
    """n of `have` rows at random, in their old order; all of them for None."""
    if n is None:
        return np.arange(have)
    if n > have:
        raise ValueError(f"n: {where} has {have} pictures, got n={n}. Ask for fewer, or leave n out for all")
    return np.sort(np.random.RandomState(seed).permutation(have)[:n])


# --- folder: anyone's own pictures ----------------------------------------------------------------------

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


def _load_folder(path: Path, split: str, n: int | None, seed: int, size: int) -> ImageSet:
    if not path.is_dir():
        raise ValueError(f"folder: expected a folder of pictures, got {str(path)!r}, which "
                         f"{'is a file' if path.exists() else 'does not exist'}")  # fmt: skip
    pictures, classes = _find_split(path, split)
    chosen = _choose(len(pictures), n, seed, f"folder {str(path)!r}, split {split}")
    pictures = [pictures[i] for i in chosen]
    with ThreadPoolExecutor() as pool:
        read = list(pool.map(lambda p: _read_picture(p[0], size), pictures, chunksize=64))
    skipped = tuple((str(p[0]), why) for p, why in zip(pictures, read, strict=True) if isinstance(why, str))
    kept = [(p, pixels) for p, pixels in zip(pictures, read, strict=True) if not isinstance(pixels, str)]
    if skipped:
        names = "; ".join(f"{f}: {why}" for f, why in skipped[:3]) + (" ..." if len(skipped) > 3 else "")
        if not kept:
            raise ValueError(
                f"folder: none of the {len(skipped)} files in {str(path)!r} is a readable picture. {names}"
            )
        warnings.warn(f"skipped {len(skipped)} of {len(read)} files that could not be read: {names}", stacklevel=3)
    images = torch.from_numpy(np.stack([pixels for _, pixels in kept]))
    labels = torch.tensor([label for (_, label), _ in kept]) if classes else None
    return ImageSet(
        f"folder:{path}", images, labels, classes, files=tuple(str(f) for (f, _), _ in kept), skipped=skipped
    )


def _find_split(path: Path, split: str) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """The (file, label) pairs of a split, and the names of the classes (none for a flat folder)."""
    own = [s for s in SPLITS if (path / s).is_dir()]
    if own and "train" not in own:
        raise ValueError(f"folder: {str(path)!r} has {' and '.join(own)} but no 'train' beside it; add one")
    pictures, classes = _find_pictures(path / "train" if own else path)
    if split in own and split != "train":
        found, names = _find_pictures(path / split)
        if not set(names) <= set(classes) or bool(names) != bool(classes):
            raise ValueError(
                f"folder: expected the classes of 'train' ({_few(classes)}) in {split!r}, got {_few(names)}"
            )
        return [(file, classes.index(names[label]) if classes else 0) for file, label in found], classes
    share = {s: 0.1 for s in SPLITS[1:] if s not in own}
    part = _cut(pictures, share, path)[split]
    if not part:
        raise ValueError(f"folder: {len(pictures)} pictures in {str(path)!r} are too few for a {split!r} split of "
                         f"{share[split]:.0%} of each class; add pictures, or a folder named {split!r}")  # fmt: skip
    return part, classes


def _find_pictures(path: Path) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    seen = [f for f in sorted(path.iterdir()) if f.name[0] != "."]
    loose = _pictures_in(seen)
    folders = {d.name: _pictures_in(_walk(d)) for d in seen if d.is_dir()}
    folders = {name: files for name, files in folders.items() if files}
    if folders and loose:
        raise ValueError(f"folder: {str(path)!r} holds pictures ({loose[0].name}, ...) beside class folders "
                         f"({_few(folders)}); expected one or the other. Move the loose ones")  # fmt: skip
    if not folders and not loose:
        raise ValueError(f"folder: no pictures in {str(path)!r}; expected class folders or files that end in "
                         f"{', '.join(sorted(_SUFFIXES))}")  # fmt: skip
    if len(folders) == 1:
        raise ValueError(f"folder: expected at least two class folders in {str(path)!r}, got one ({_few(folders)}). "
                         "To train without labels, put the pictures right into the folder")  # fmt: skip
    labelled = [(file, label) for label, files in enumerate(folders.values()) for file in files]
    return labelled or [(file, 0) for file in loose], tuple(folders)


def _walk(folder: Path) -> list[Path]:
    """All that is below a folder, at any depth, but nothing hidden (.ipynb_checkpoints, macOS's ._files)."""
    return [f for f in folder.rglob("*") if not any(part[0] == "." for part in f.relative_to(folder).parts)]


def _pictures_in(files) -> list[Path]:
    return sorted(f for f in files if f.suffix.lower() in _SUFFIXES and f.is_file())


def _few(names) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "no class folders"


def _cut(pictures: list[tuple[Path, int]], share: dict[str, float], path: Path) -> dict[str, list]:
    """Take each share of each class away from train, by the hash of the file's name: nearly all stay where they are
    when others come or go."""
    rank = lambda picture: hashlib.sha256(picture[0].relative_to(path).as_posix().encode()).digest()  # noqa: E731
    parts = {split: [] for split in ("train", *share)}
    for label in sorted({label for _, label in pictures}):
        rest = sorted((p for p in pictures if p[1] == label), key=rank)
        total = len(rest)
        for split, part in share.items():
            taken = round(part * total)
            parts[split] += rest[:taken]
            rest = rest[taken:]
        parts["train"] += rest
    return {split: sorted(part) for split, part in parts.items()}


_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def _read_picture(file: Path, size: int) -> np.ndarray | str:
    """uint8 [3, size, size], or in words why the file can't be read."""
    try:
        with Image.open(file) as picture:
            picture.draft("RGB", (2 * size, 2 * size))  # large JPEGs decode at a fraction of the work
            upright = ImageOps.exif_transpose(picture)
            square = ImageOps.fit(_to_rgb(upright), (size, size), Image.Resampling.BICUBIC)
            return np.asarray(square).transpose(2, 0, 1)
    except _BROKEN as error:
        return f"{type(error).__name__}: {error}".replace(str(file), file.name)


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits of gray: convert() would clip them at 255
        gray = np.asarray(picture).astype(np.float64).clip(0, 65535) / 257
        picture = Image.fromarray(gray.round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


_LOADERS = {"shapes": _load_shapes, "digits": _load_digits}
