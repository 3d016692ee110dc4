"""Pictures as one uint8 tensor: drawn here, shipped with scikit-learn, downloaded, or read from a folder of yours.

>>> train = load("shapes", n=4000)
>>> train.images.shape, train.images.dtype
(torch.Size([4000, 3, 32, 32]), torch.uint8)

What is kept on disk lies below `~/.cache/clbook`, or where the environment variable CLBOOK_CACHE says, and can be
deleted at any time: `data` holds what was downloaded (CLBOOK_DATA puts it elsewhere), `pictures` the decoded pictures
of large folders.
"""

import contextlib
import difflib
import hashlib
import io
import json
import os
import shutil
import socket
import struct
import tempfile
import time
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

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
    factors: dict[str, Tensor] = field(default_factory=dict)  # shapes, pets: name -> [N] int64 or float32
    factor_names: dict[str, tuple[str, ...]] = field(default_factory=dict)  # the names of categorical factors
    masks: Tensor | None = None  # [N, H, W] bool, True on the object
    boxes: Tensor | None = None  # [N, 4] float32: x0, y0, x1, y1 in pixels, right and lower edge exclusive
    captions: tuple[str, ...] | None = None
    files: tuple[str, ...] | None = None  # folder, pets: each picture's path
    skipped: tuple[tuple[str, str], ...] = ()  # folder, pets: (path, reason) of files that could not be read

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:  # a cell that ends in an image set must not print thousands of captions
        kinds = f", {len(self.classes)} classes" if self.classes else ""
        return f"ImageSet({self.name!r}, {len(self):,} pictures {list(self.images.shape[1:])}{kinds})"

    def subset(self, index: Sequence[int] | Tensor) -> "ImageSet":
        """The pictures at `index` ([M] integers, or a mask [N] bool), with all that belongs to them."""
        index = _check_index(index, len(self))
        index = index.nonzero()[:, 0] if index.dtype == torch.bool else index.long()
        pick = {f.name: _rows(getattr(self, f.name), index) for f in fields(self) if f.name in _PER_IMAGE}
        return replace(self, **pick)


_PER_IMAGE = ("images", "labels", "factors", "masks", "boxes", "captions", "files")


def _check_index(index: Sequence[int] | Tensor, n: int) -> Tensor:
    if not isinstance(index, Tensor | np.ndarray | Sequence) or isinstance(index, str):
        raise TypeError(f"index: expected integers [M], or a mask [{n}] of bool, got {type(index).__name__}")
    index = torch.as_tensor(index).cpu()  # on the CPU it fits tensors anywhere
    if index.is_floating_point() and index.numel():  # an empty list makes a tensor of floats
        raise TypeError(f"index: expected integers [M], or a mask [{n}] of bool, got {index.dtype}")
    if index.ndim != 1 or (index.dtype == torch.bool and len(index) != n):
        raise ValueError(f"index: expected integers [M], or a mask [{n}] of bool, got {index.dtype} {[*index.shape]}")
    if index.dtype != torch.bool and index.numel() and not -n <= index.min() <= index.max() < n:
        raise ValueError(f"index: expected rows of {n} pictures, got {index.min()} to {index.max()}")
    return index


def _rows(value, index: Tensor):
    if isinstance(value, Tensor):
        return value[index]
    if isinstance(value, dict):
        return {name: column[index] for name, column in value.items()}
    return value if value is None else tuple(value[i] for i in index.tolist())


def available() -> tuple[str, ...]:
    """The names that `load` takes."""
    return (*_LOADERS, *_DOWNLOADS, "folder:PATH")


def downloads(root: str | Path | None = None) -> dict[str, bool]:
    """The names that are downloaded the first time, and whether they are there already; `root` as for `load`."""
    _check_root(root)
    return {name: (_data_root(root) / source.folder).is_dir() for name, source in _DOWNLOADS.items()}


def load(name: str, split: str = "train", *, n: int | None = None, seed: int = 0,
         image_size: int | None = None, root: str | Path | None = None) -> ImageSet:  # fmt: skip
    """Load a data set: into memory, or mapped from a cache on disk where it has thousands of files.

    Args:
        name: what to load.
            "shapes": drawn here; labels are the shapes.
            "digits": scikit-learn's handwritten digits.
            "cifar10", "cifar100", "stl10", "fashion_mnist": torchvision's, downloaded the first time.
            "stl10-unlabelled": STL-10's 100,000 unlabelled pictures for training; val and test are those of "stl10".
            "pets": the Oxford-IIIT pets as cats (0) and dogs (1), downloaded the first time; the factor "breed" holds
            the 37 breeds.
            "folder:PATH": your own pictures, in class folders or flat, below `train`, `val`, `test` or not.
        split: "train", "val" or "test". The three never share a picture. What is downloaded keeps its official test
            split; val is a tenth of its training split, the same pictures each time.
        n: how many pictures. "shapes" draws any number (4,000 for training, else 1,000); the others pick n at
            random by `seed`, or give all. Files that can't be read are made up for by others while there are any.
        seed: seeds what is drawn. The same seed gives the same bytes on every machine; of shapes, n = 100 is the
            beginning of n = 1,000.
        image_size: side in pixels, 32 unless told. Pictures of another size are scaled, with antialiasing; those of
            folders and pets so that the shorter side fits, and then cropped to the centre.
        root: where downloads are kept, in torchvision's layout (the module says where they go unless told), or where
            "folder:" looks for a relative PATH (the current directory unless told).

    Returns:
        An `ImageSet`; its images are uint8 [N, 3, image_size, image_size].

    Raises:
        ValueError: an unknown name or split, a folder that is missing, empty or has one class only, n or
            image_size out of range. Files that can't be read are skipped, listed in `skipped` and warned of.
        OSError: a download that failed, or files of one that are damaged.
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}{_nearest(split, SPLITS)}")
    _check_counts(n=(n, 1), image_size=(image_size, 8), seed=(seed, 0))
    if seed >= 2**32:
        raise ValueError(f"seed: expected an integer below 2**32, got {seed}")
    _check_root(root)
    if not isinstance(name, str) or not (name in _LOADERS or name in _DOWNLOADS or name.startswith("folder:")):
        choices = ", ".join(available())
        raise ValueError(f"data set: expected one of {choices}; got {name!r}{_nearest(name, available()[:-1])}")
    size = image_size or DEFAULT_SIZE
    if name.startswith("folder:"):
        path = Path(root or ".").expanduser() / Path(name.removeprefix("folder:")).expanduser()
        return _load_folder(path, split, n, seed, size)
    if name in _DOWNLOADS:
        loader = _load_pets if name == "pets" else _load_tensors
        return loader(name, split, n, seed, size, _data_root(root))
    return _LOADERS[name](split, n, seed, size)


def _check_counts(**counts: tuple[int | None, int]) -> None:
    """Each a value, or None for what is not said, and the least that it may be."""
    for what, (value, least) in counts.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise ValueError(f"{what}: expected an integer of at least {least}, got {value!r}")


def _check_root(root: str | Path | None) -> None:
    if root is not None and not isinstance(root, str | os.PathLike):
        raise TypeError(f"root: expected a folder's path or None, got {type(root).__name__}")


def _cache_folder() -> Path:
    return Path(os.environ.get("CLBOOK_CACHE") or "~/.cache/clbook").expanduser()


def _data_root(root: str | Path | None) -> Path:
    return Path(root or os.environ.get("CLBOOK_DATA") or _cache_folder() / "data").expanduser()


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
_CHUNK = 250  # scenes of 32 px drawn at a time: small enough for the processor's cache


def _load_shapes(split: str, n: int | None, seed: int, size: int) -> ImageSet:
    n = n or (4000 if split == "train" else 1000)
    stream = [seed, SPLITS.index(split)]
    scene = _draw_factors(np.random.RandomState([*stream, 0]).random_sample((n, 14)), size / 32)
    noise = np.frombuffer(np.random.RandomState([*stream, 1]).bytes(n * size * size), np.uint8)
    noise = noise.reshape(n, size, size)
    images = np.empty((n, 3, size, size), np.uint8)
    masks = np.empty((n, size, size), bool)

    step = max(1, min(_CHUNK, _CHUNK * 32**2 // size**2))

    def draw(start):  # each chunk is its own rows, so threads never meet
        rows = slice(start, start + step)
        images[rows], masks[rows] = _rasterize({k: v[rows] for k, v in scene.items()}, noise[rows], size)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(draw, range(0, n, step)))

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
        # Thirds of where a centre can be, not of the picture: a large object's is never far from the middle.
        "place": (3 * np.floor(3 * u[:, 6]) + np.floor(3 * u[:, 5])).astype(np.int64),
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
    scale = np.clip(np.floor((scene["radius"] / size * 32 - 8.6) / 0.9), 0, 2).astype(np.int64)
    columns = {name: scene[name] for name in ("shape", "color", "texture", "background")}
    columns |= {"size": scale, "place": scene["place"]}
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
    return _order(have, n, seed, where)[:n]


def _order(have: int, n: int | None, seed: int, where: str) -> np.ndarray:
    """All rows: first those that `_choose` gives, then the others at random."""
    if n is None:
        return np.arange(have)
    if n > have:
        raise ValueError(f"n: {where} has {have} pictures, got n={n}. Ask for fewer, or leave n out for all")
    order = np.random.RandomState(seed).permutation(have)
    order[:n].sort()
    return order


# --- downloads, through torchvision -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Download:
    kind: str  # torchvision's class
    folder: str  # that it makes
    train: dict  # its arguments for the official training split
    test: dict
    labelled: bool = True


_DOWNLOADS = {
    "cifar10": _Download("CIFAR10", "cifar-10-batches-py", {"train": True}, {"train": False}),
    "cifar100": _Download("CIFAR100", "cifar-100-python", {"train": True}, {"train": False}),
    "fashion_mnist": _Download("FashionMNIST", "FashionMNIST", {"train": True}, {"train": False}),
    "stl10": _Download("STL10", "stl10_binary", {"split": "train"}, {"split": "test"}),
    "stl10-unlabelled": _Download("STL10", "stl10_binary", {"split": "train"}, {"split": "test"}, labelled=False),
    "pets": _Download("OxfordIIITPet", "oxford-iiit-pet", {"split": "trainval"}, {"split": "test"}),
}


def _load_tensors(name: str, split: str, n: int | None, seed: int, size: int, root: Path) -> ImageSet:
    """The data sets that torchvision reads into one array."""
    source = _DOWNLOADS[name]
    unlabelled = split == "train" and not source.labelled
    arguments = {"split": "unlabeled"} if unlabelled else source.test if split == "test" else source.train
    found = _open(name, root, arguments)
    data = np.asarray(found.data)  # [M, h, w], [M, h, w, 3] or [M, 3, h, w]
    if data.ndim == 3:
        data = data[:, None]  # [M, 1, h, w]
    elif data.shape[1] != 3:
        data = data.transpose(0, 3, 1, 2)  # [M, 3, h, w]
    rows = np.arange(len(data)) if unlabelled else _part(len(data), split)
    rows = rows[_choose(len(rows), n, seed, f"{name}, split {split}")]
    images = _scaled(data, rows, size)
    if unlabelled:
        return ImageSet(name, images)
    targets = found.labels if source.kind == "STL10" else found.targets
    return ImageSet(name, images, torch.as_tensor(np.asarray(targets)[rows]).long(), tuple(found.classes))


def _part(have: int, split: str) -> np.ndarray:
    """The rows of an official split that are ours: train and val are 9 to 1, test is whole."""
    if split == "test":
        return np.arange(have)
    order = np.random.RandomState(0).permutation(have)  # fixed: the splits never move
    return order[: have // 10] if split == "val" else order[have // 10 :]


def _scaled(data: np.ndarray, rows: np.ndarray, size: int) -> Tensor:
    """Those rows of uint8 [M, 1 or 3, h, w] as uint8 [N, 3, size, size]."""
    images = torch.empty(len(rows), 3, size, size, dtype=torch.uint8)
    for start in range(0, len(rows), 1000):  # the rows of all at once would double what STL-10 needs
        some = torch.from_numpy(data[rows[start : start + 1000]])  # [B, 1 or 3, h, w]
        if some.shape[2:] != (size, size):
            some = F.interpolate(some, (size, size), mode="bicubic", antialias=True)  # in bytes, as Pillow computes
        images[start : start + 1000] = some  # gray goes into all three channels
    return images


def _load_pets(name: str, split: str, n: int | None, seed: int, size: int, root: Path) -> ImageSet:
    source = _DOWNLOADS[name]
    breeds = tuple(_open(name, root, source.test if split == "test" else source.train).classes)
    folder = root / source.folder
    lines = (folder / "annotations" / f"{'test' if split == 'test' else 'trainval'}.txt").read_text().splitlines()
    listed = [lines[i].split() for i in _part(len(lines), split)]  # file, breed from 1, species from 1, a number
    pictures = [(folder / "images" / f"{entry[0]}.jpg", i) for i, entry in enumerate(listed)]
    found = _read_set(name, folder, split, pictures, ("cat", "dog"), n, seed, size)
    breed, species = (torch.tensor([int(entry[i]) - 1 for entry in listed])[found.labels] for i in (1, 2))
    return replace(found, labels=species, factors={"breed": breed}, factor_names={"breed": breeds})


def _open(name: str, root: Path, arguments: dict):
    """torchvision's data set, downloaded if it isn't there."""
    from torchvision import datasets as theirs  # slow to import, and only needed here

    source = _DOWNLOADS[name]
    folder, kind = root / source.folder, getattr(theirs, source.kind)
    if not folder.is_dir():
        _download(name, kind, folder)
    try:
        return kind(root, **arguments)  # reads no pickle whose checksum is wrong
    except (MemoryError, PermissionError):  # no damage, and deleting would not help
        raise
    except Exception as error:  # torchvision asserts, reshapes and unpickles: whatever it meets there
        raise OSError(f"{name}: expected torchvision's files in {str(folder)!r}, got damaged ones ({_reason(error)}); "
                      "delete that folder, and it will be downloaded again") from error  # fmt: skip


def _download(name: str, kind, folder: Path) -> None:
    """Download beside the place and move there what is whole, so that no half of it is ever taken for all."""
    patience = socket.getdefaulttimeout()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_parts(folder.parent, f".{name}-*")
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as part:
            socket.setdefaulttimeout(30)  # seconds of silence; torchvision sets none
            kind(part, download=True)
            os.replace(Path(part) / folder.name, folder)
    except Exception as error:  # of the network, the disk, the archive or torchvision's check
        if not folder.is_dir():  # else another process was faster
            raise OSError(
                f"{name}: could not be downloaded to {str(folder.parent)!r} ({_reason(error)}). Try again later, or "
                f"copy the folder {folder.name!r} there from another machine. Without a network there are 'shapes', "
                "'digits' and your own pictures, 'folder:PATH'"
            ) from error
    finally:
        socket.setdefaulttimeout(patience)


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


# --- folder: anyone's own pictures ----------------------------------------------------------------------

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


def load_folder(path: str | Path, *, image_size: int | None = None) -> ImageSet:
    """Every picture of a folder, in no splits: those of its class folders or flat, and where it has them of `train`,
    `val` and `test`, one after the other. In all else as `load("folder:PATH")`.

    Args:
        path: the folder.
        image_size: side in pixels, 32 unless told.

    Raises:
        ValueError: no such folder, no pictures in it, an image_size out of range. Files that can't be read are skipped,
            listed in `skipped` and warned of.
        TypeError: a path of another kind.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path: expected a folder's path, got {type(path).__name__}")
    _check_counts(image_size=(image_size, 8))
    return _load_folder(Path(path).expanduser(), None, None, 0, image_size or DEFAULT_SIZE)


def _load_folder(path: Path, split: str | None, n: int | None, seed: int, size: int) -> ImageSet:
    """split: None for all."""
    if not path.is_dir():
        raise ValueError(f"folder: expected a folder of pictures, got {str(path)!r}, which "
                         f"{'is a file' if path.exists() else 'does not exist'}")  # fmt: skip
    pictures, classes = _find_split(path, split) if split else _find_all(path)
    return _read_set(f"folder:{path}", path, split or "all", pictures, classes, n, seed, size)


def _find_all(path: Path) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """As `_find_split`, of all splits."""
    own = _own_splits(path)
    pictures, classes = _find_pictures(own.pop("train", path))
    return pictures + [pair for split in own for pair in _find_own(own[split], split, classes)], classes


def _find_split(path: Path, split: str) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """The (file, label) pairs of a split, and the names of the classes (none for a flat folder)."""
    own = _own_splits(path)
    pictures, classes = _find_pictures(own.pop("train", path))
    if split in own:
        return _find_own(own[split], split, classes), classes
    share = {s: 0.1 for s in SPLITS[1:] if s not in own}
    part = _cut(pictures, share, path)[split]
    if not part:
        raise ValueError(f"folder: {len(pictures)} pictures in {str(path)!r} are too few for a {split!r} split of "
                         f"{share[split]:.0%} of each class; add pictures, or a folder named {split!r}")  # fmt: skip
    return part, classes


def _own_splits(path: Path) -> dict[str, Path]:
    """The splits that have a folder of their own: none, or train and perhaps others. `Train` will do, unless it stands
    beside other classes."""
    folders = [d for d in sorted(path.iterdir()) if d.is_dir()]
    named = {d.name.lower(): d for d in folders if d.name.lower() in SPLITS}
    own = {split: named[split] for split in SPLITS if split in named}
    others = [d.name for d in folders if own and d not in own.values() and _holds_pictures(d)]
    if others and not any(d.name in SPLITS for d in folders):
        return {}
    if others:
        raise ValueError(f"folder: {str(path)!r} holds {' and '.join(own)} beside {_few(others)}; expected splits or "
                         "classes, not both. Rename the class, or move the other folders away")  # fmt: skip
    if own and "train" not in own:
        raise ValueError(f"folder: {str(path)!r} has {' and '.join(own)} but no 'train' beside it; add one")
    return own


def _find_own(path: Path, split: str, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    """The pairs of a split that has a folder, with the labels that `train` gives its classes."""
    found, names = _find_pictures(path)
    if not set(names) <= set(classes) or bool(names) != bool(classes):
        raise ValueError(f"folder: expected the classes of 'train' ({_few(classes)}) in {split!r}, got {_few(names)}")
    return [(file, classes.index(names[label]) if classes else 0) for file, label in found]


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


def _holds_pictures(folder: Path) -> bool:
    return folder.is_dir() and folder.name[0] != "." and bool(_pictures_in(_walk(folder)))


def _pictures_in(files) -> list[Path]:
    return sorted(f for f in files if f.suffix.lower() in _SUFFIXES and f.is_file())


def _few(names) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "no class folders"


def _cut(pictures: list[tuple[Path, int]], share: dict[str, float], path: Path) -> dict[str, list]:
    """Take each share of each class away from train, by the hash of the file's name: nearly all stay where they are
    when others come or go."""

    def rank(picture):
        return hashlib.sha256(os.fsencode(picture[0].relative_to(path).as_posix())).digest()

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


# --- picture files: decoded in parallel, large sets only once -----------------------------------------------

_CACHE_ABOVE = 2000  # pictures; fewer are read anew each time, within seconds
_DECODER = f"1, Pillow {PIL.__version__}"  # what was decoded by another one is decoded again
_FOOTER = struct.Struct("<QQI")  # at the end of a cache file: bytes of the pixels, bytes of the list, checksum of both


def _read_set(name: str, path: Path, split: str, pictures: list[tuple[Path, int]], classes: tuple[str, ...],
              n: int | None, seed: int, size: int) -> ImageSet:  # fmt: skip
    """Read n of the (file, label) pairs, all of them below `path`."""
    pictures = [pictures[i] for i in _order(len(pictures), n, seed, f"{name}, split {split}")]
    files = [file for file, _ in pictures]
    if (n or len(files)) > _CACHE_ABOVE:
        images, reasons = _read_cached(files, n or len(files), size, path, [str(path.resolve()), split, n, seed, size])
    else:
        images, reasons = _read_in_memory(files, n or len(files), size)
    tried = list(zip(pictures, reasons, strict=False))  # without the pictures that n left over
    skipped = tuple((str(file), why) for (file, _), why in tried if why)
    kept = [picture for picture, why in tried if not why]
    if skipped:
        names = "; ".join(f"{f}: {why}" for f, why in skipped[:3]) + (" ..." if len(skipped) > 3 else "")
        if not kept:
            raise ValueError(f"{name.partition(':')[0]}: none of the {len(skipped)} files in {str(path)!r} is a "
                             f"readable picture. {names}")  # fmt: skip
        warnings.warn(f"skipped {len(skipped)} of {len(tried)} files that could not be read: {names}", stacklevel=4)
    labels = torch.tensor([label for _, label in kept]) if classes else None
    return ImageSet(name, images, labels, classes, files=tuple(str(file) for file, _ in kept), skipped=skipped)


def _read_in_memory(files: list[Path], n: int, size: int) -> tuple[Tensor, list[str]]:
    """uint8 [at most n, 3, size, size], and for each file that was tried why it can't be read, or ""."""
    memory = io.BytesIO()
    reasons, _ = _decode(files, n, memory, lambda i: _read_picture(files[i], size))
    pixels = memory.getbuffer()
    images = torch.frombuffer(pixels, dtype=torch.uint8) if pixels else torch.empty(0, dtype=torch.uint8)
    return images.view(-1, 3, size, size), reasons


def _decode(files: list[Path], n: int, out, read) -> tuple[list[str], int]:
    """Write pixels to `out`, file by file, until n could be read; the reasons, and the checksum of what was written.
    `read(i)` gives the pixels of file i, or in words why there are none."""
    reasons, checksum, missing = [], 0, n
    Image.init()  # Pillow's formats, which threads would load at the same time, and miss some
    with ThreadPoolExecutor() as pool, tqdm(total=n, desc="decoding", disable=n <= _CACHE_ABOVE, leave=False) as bar:
        while missing and len(reasons) < len(files):
            some = range(len(reasons), min(len(reasons) + min(missing, 1000), len(files)))  # in memory at a time
            for pixels in pool.map(read, some):  # Pillow lets go of the interpreter while it decodes and scales
                good = not isinstance(pixels, str)
                reasons.append("" if good else pixels)
                missing -= good
                if good:
                    pixels = pixels.tobytes()
                    checksum = zlib.crc32(pixels, checksum)
                    out.write(pixels)
            bar.update(n - missing - bar.n)
    return reasons, checksum


def _read_cached(files: list[Path], n: int, size: int, path: Path, key: list) -> tuple[Tensor, list[str]]:
    """As `_read_in_memory`, but mapped from a file in the cache, which is written first where it isn't there, is
    damaged, or is of other files. Of the old one the files that haven't changed are taken over."""
    cache = _cache_folder() / "pictures" / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.cache"
    stamps = [_stamp(file, path) for file in files]  # before they are read: a change during that will be noticed
    images, entries = _open_cache(cache, size)
    broken = [file for file, (_, why) in zip(files, entries, strict=False) if why]  # perhaps only out of reach then
    if not _fits(images, entries, stamps, n) or not all(isinstance(_read_picture(f, size), str) for f in broken):
        try:
            part = _write_part(cache, files, stamps, n, size, images, entries)
            images = None  # Windows replaces no file that is mapped
            try:
                os.replace(part, cache)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            warnings.warn(f"the decoded pictures could not be kept in {str(cache.parent)!r} ({error.strerror or error})"
                          " and stay in memory; choose another place with CLBOOK_CACHE", stacklevel=5)  # fmt: skip
        images, entries = _open_cache(cache, size)
    if not _fits(images, entries, stamps, n):  # no room, nothing readable, or another process wrote for other files
        return _read_in_memory(files, n, size)
    return images, [why for _, why in entries]


def _stamp(file: Path, path: Path) -> tuple[str, int, int]:
    """What tells that a file is the same as before."""
    try:
        about = file.stat()
        return file.relative_to(path).as_posix(), about.st_size, about.st_mtime_ns
    except OSError:  # gone since it was listed
        return file.relative_to(path).as_posix(), -1, -1


def _fits(images: Tensor, entries: list, stamps: list, n: int) -> bool:
    """Whether a cache holds these files as they are: all of them, or as many as gave n pictures."""
    same = [stamp for stamp, _ in entries] == stamps[: len(entries)]
    return same and (len(entries) == len(stamps) or len(images) == n)


def _open_cache(cache: Path, size: int) -> tuple[Tensor, list[tuple[tuple, str]]]:
    """The pictures of a cache file, mapped, and its (stamp, reason) entries; none of one that is missing, damaged,
    half-written or of another decoder."""
    try:
        with cache.open("rb") as file:
            total = file.seek(-_FOOTER.size, os.SEEK_END)
            pixels, listed, checksum = _FOOTER.unpack(file.read())
            if pixels + listed != total:
                raise ValueError("cut off")
            file.seek(pixels)
            about = file.read(listed)
        images = torch.from_file(str(cache), shared=False, size=pixels, dtype=torch.uint8)
        if zlib.crc32(about, zlib.crc32(images.numpy())) != checksum:  # seconds where decoding would take minutes
            raise ValueError("damaged")
        about = json.loads(about)
        if about["decoder"] != _DECODER:
            raise ValueError("of another decoder")
        return images.view(-1, 3, size, size), [(tuple(stamp), why) for stamp, why in about["entries"]]
    except (OSError, ValueError, KeyError, RuntimeError, struct.error):
        return torch.empty(0, 3, size, size, dtype=torch.uint8), []


def _write_part(cache: Path, files: list[Path], stamps: list, n: int, size: int, old: Tensor, entries: list) -> Path:
    """Write beside the place, so that it can be moved there: no one ever sees half a file."""
    rows = iter(range(len(old)))
    known = {stamp: next(rows) for stamp, why in entries if not why}
    pixels = old.numpy()

    def read(i):
        row = known.get(stamps[i])
        return _read_picture(files[i], size) if row is None else pixels[row]

    cache.parent.mkdir(parents=True, exist_ok=True)
    _remove_parts(cache.parent, "*.part")
    handle, part = tempfile.mkstemp(".part", cache.stem, cache.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            reasons, checksum = _decode(files, n, out, read)
            listed = {"decoder": _DECODER, "entries": list(zip(stamps, reasons, strict=False))}
            listed = json.dumps(listed).encode()
            out.write(listed + _FOOTER.pack(out.tell(), len(listed), zlib.crc32(listed, checksum)))
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    return Path(part)


def _remove_parts(folder: Path, pattern: str) -> None:
    """What a process left that was killed while it wrote: nobody has written to it for a day."""
    for part in folder.glob(pattern):
        with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
            if time.time() - part.stat().st_mtime > 86400:
                shutil.rmtree(part) if part.is_dir() else part.unlink()


def _read_picture(file: Path, size: int) -> np.ndarray | str:
    """uint8 [3, size, size], or in words why the file can't be read."""
    try:
        with Image.open(file) as picture:
            picture.draft("RGB", (2 * size, 2 * size))  # large JPEGs decode at a fraction of the work
            upright = _turned(picture)
            square = ImageOps.fit(_to_rgb(upright), (size, size), Image.Resampling.BICUBIC)
            return np.asarray(square).transpose(2, 0, 1)
    except Exception as error:  # a broken file can make Pillow raise anything, and costs only itself
        return f"{type(error).__name__}: {error}".replace(str(file), file.name)


def _turned(picture: Image.Image) -> Image.Image:
    """As its EXIF says. Where that is damaged the pixels are there all the same."""
    picture.load()
    with contextlib.suppress(Exception):
        picture.getexif()  # Pillow remembers it
    for key in ("exif", "Raw profile type exif"):
        picture.info.pop(key, None)  # or `exif_transpose` writes it anew, which fails on odd tags
    return ImageOps.exif_transpose(picture)


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits of gray: convert() would clip them at 255
        gray = np.asarray(picture).astype(np.float64).clip(0, 65535) / 257
        picture = Image.fromarray(gray.round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


_LOADERS = {"shapes": _load_shapes, "digits": _load_digits}
