"""Bad input to everything public: an error that says what was expected and what came, and it is ours, not torch's."""

import inspect
import math
import re
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

import clbook
from clbook import (
    augmentations,
    datasets,
    distributed,
    evaluation,
    losses,
    methods,
    moco,
    models,
    plots,
    similarity,
    training,
)

MODULES = (
    augmentations,
    datasets,
    distributed,
    evaluation,
    losses,
    methods,
    models,
    moco,
    plots,
    similarity,
    training,
)
NAN, INF = math.nan, math.inf


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# --- what can be wrong: (argument, how it is changed, the error, words of the message beside "expected ... got") ---


def one(name, error, *values, words=None):
    """Each of the values in place of the good one."""
    return [(name, lambda _, value=value: value, error, words or name) for value in values]


def changed(name, error, *changes, words=None):
    """Each change applied to the good value. `name` may be several names, all changed alike."""
    return [(name, change, error, words or name.split()[0]) for change in changes]


def spoilt(value):
    """Change one number of a tensor."""

    def change(x):
        x = x.clone()
        x.view(-1)[-1] = value
        return x

    return change


NOT_A_TENSOR = (lambda x: x.tolist(), lambda x: x.numpy(), lambda x: None)


def on_another_device(x):
    return torch.empty(x.shape, dtype=x.dtype, device="meta")


def rows(name, *, words=None, dtype_error=TypeError, none=True, device_words="", device_error=ValueError):
    """Embeddings [N, D]."""
    lists = NOT_A_TENSOR if none else NOT_A_TENSOR[:2]
    return [
        *changed(name, TypeError, *lists, words=words),
        *changed(name, dtype_error, lambda x: x.int(), lambda x: x > 0, words=words),
        *changed(name, ValueError, lambda x: x[0], lambda x: x[None], lambda x: x[:0], lambda x: x[:, :0], words=words),
        *changed(name, ValueError, spoilt(NAN), spoilt(INF), spoilt(-INF), words=f"{words or name}.*NaN or infinity"),
        *changed(name, device_error, on_another_device, words=device_words or "meta"),
    ]


def numbers(name, *, least=0.0, above=False, most=INF, error=TypeError):
    """A plain number: least <= or < x <= most."""
    bad = [NAN, least - 1, *([least] if above else []), *([most + 0.1] if most < INF else [])]
    return [*one(name, ValueError, *bad), *one(name, error, "1", None, [1.0], torch.tensor(0.5), True)]


def counts(name, least=1, *, none=True):
    return one(name, ValueError, least - 1, -1, 2.0, NAN, "2", True, *([None] if none else []))


def labels(name, *, negative=False, device=True):
    """Labels [N] of integers; `negative` ones may be wrong too, and are where floats are a ValueError."""
    words, elsewhere = name.replace("_", "."), [on_another_device] * device
    floats = ValueError if negative else TypeError
    return [
        *changed(name, TypeError, lambda y: y.tolist(), lambda y: y.numpy(), words=words),
        *changed(name, ValueError, lambda y: y[:-1], lambda y: y[:, None], *elsewhere, words=words),
        *changed(name, floats, lambda y: y.float(), words=words),
        *(changed(name, ValueError, lambda y: y - 10, words=words) if negative else []),
    ]


# Augmentations, everywhere: the batch, the parameters.
PICTURES = [
    *changed("images", TypeError, *NOT_A_TENSOR, lambda x: x.int(), lambda x: x > 0),
    *changed("images", ValueError, lambda x: x[0], lambda x: x[None], lambda x: x[:0], lambda x: x[:, :, :0]),
]
RGB = [*PICTURES, *changed("images", ValueError, lambda x: x[:, :1], lambda x: torch.cat([x, x[:, :1]], 1))]
UNIT = [  # where values are looked at: views, and what takes pictures from outside
    *changed("images", ValueError, lambda x: 255 * x, lambda x: 2 * x - 1, words=r"images.*\[0, 1\].*Divide by 255"),
    *changed("images", ValueError, spoilt(NAN), spoilt(INF), spoilt(-INF)),
]
GENERATOR = one("generator", TypeError, 0, 5, "seed")
CHOICE = r"bool tensor"


def chance(name, words="p"):
    return one(name, ValueError, -0.1, 1.1, NAN, "1", None, True, words=f"{words}: expected a probability")


def strength(*names, words=None):
    found = []
    for name in names:
        found += one(name, ValueError, -0.1, NAN, INF, "1", None, True, *([0.6] if name == "hue" else []), words=words)
    return found


def bounds(name, most=INF):
    bad = [(0, 0.5), (-1, 0.5), (0.5, 0.2), (NAN, 0.5), (0.1, NAN), (0.1, INF), 0.5, (0.5,), ("0", "1"), None]
    return one(name, ValueError, *bad, *([(0.5, most + 0.1)] if most < INF else []))


def parameter(name, *bad, words=None):
    """A number or [N]."""
    return [
        *one(name, ValueError, *bad, *(torch.tensor([value, value]) for value in bad), NAN, words=words),
        *one(name, TypeError, "1", None, words=words),
        *one(name, ValueError, torch.ones(3) * 0.4, torch.ones(2, 1) * 0.4, words="one for each of 2 pictures"),
    ]


def which(name):
    return [
        *one(name, TypeError, [True, False], torch.tensor([0, 1]), words=CHOICE),
        *one(name, ValueError, torch.tensor([True]), words="one for each of 2 pictures"),
    ]


BOXES = [
    *changed("boxes", TypeError, *NOT_A_TENSOR),
    *changed("boxes", ValueError, lambda b: b[0], lambda b: b[:1], lambda b: b[:, :3]),
]
INSIDE = changed("boxes", ValueError, lambda b: b - 1, lambda b: b + 5, lambda b: b * NAN, lambda b: b * 0)
FACTORS = ("brightness", "contrast", "saturation", "hue")

X = rand(2, 3, 8, 8)
IMAGES = {"images": X}
BOX = torch.tensor([[0, 0, 4, 4], [1, 2, 3, 5]])
VIEW = [
    *counts("size"),
    *bounds("scale", 1.0),
    *bounds("blur_sigma"),
    *strength("rotation", "brightness", "contrast", "saturation", "hue", "noise"),
    *(case for name in ("flip", "jitter", "gray", "blur", "solarize", "cutout") for case in chance(name, name)),
]
A = augmentations
AUGMENTATIONS = {
    "to_float": (A.to_float, IMAGES, PICTURES),
    "check_pictures": (A.check_pictures, IMAGES, PICTURES + UNIT),
    "resized_crop": (A.resized_crop, IMAGES | {"boxes": BOX, "size": 4, "flips": torch.tensor([True, False])},
                     [*PICTURES, *BOXES, *INSIDE, *counts("size"), *which("flips")]),
    "random_resized_crop": (A.random_resized_crop, IMAGES | {"size": 4}, [
        *PICTURES, *counts("size"), *bounds("scale", 1.0), *bounds("ratio"), *chance("flip"), *GENERATOR]),
    "horizontal_flip": (A.horizontal_flip, IMAGES | {"flips": torch.tensor([True, False])},
                        [*PICTURES, *which("flips")]),
    "random_horizontal_flip": (A.random_horizontal_flip, IMAGES, [*PICTURES, *chance("p"), *GENERATOR]),
    "rotate": (A.rotate, IMAGES | {"degrees": 10.0}, [*PICTURES, *parameter("degrees", INF)]),
    "random_rotation": (A.random_rotation, IMAGES | {"degrees": 10.0}, [*PICTURES, *strength("degrees"), *GENERATOR]),
    "rgb_to_gray": (A.rgb_to_gray, IMAGES, RGB),
    "adjust_brightness": (A.adjust_brightness, IMAGES | {"factor": 0.5}, [*PICTURES, *parameter("factor", -0.1, INF)]),
    "adjust_contrast": (A.adjust_contrast, IMAGES | {"factor": 0.5}, [*RGB, *parameter("factor", -0.1, INF)]),
    "adjust_saturation": (A.adjust_saturation, IMAGES | {"factor": 0.5}, [*RGB, *parameter("factor", -0.1, INF)]),
    "adjust_hue": (A.adjust_hue, IMAGES | {"shift": 0.1}, [*RGB, *parameter("shift", -0.6, 0.6, INF)]),
    "color_jitter": (A.color_jitter, IMAGES, [*RGB, *strength(*FACTORS), *chance("p"), *GENERATOR]),
    "random_grayscale": (A.random_grayscale, IMAGES, [*RGB, *chance("p"), *GENERATOR]),
    "gaussian_blur": (A.gaussian_blur, IMAGES | {"sigma": 1.0, "kernel_size": 3},
                      [*PICTURES, *parameter("sigma", 0.0, -1.0, INF), *counts("kernel_size", none=False),
                       *one("kernel_size", ValueError, 4)]),
    "random_gaussian_blur": (A.random_gaussian_blur, IMAGES | {"p": 1.0, "kernel_size": 3}, [
        *PICTURES, *chance("p"), *bounds("sigma"), *counts("kernel_size", none=False), *GENERATOR]),
    "solarize": (A.solarize, IMAGES | {"threshold": 0.5, "which": torch.tensor([True, False])},
                 [*PICTURES, *parameter("threshold", -0.1, 1.1), *which("which")]),
    "random_solarize": (A.random_solarize, IMAGES,
                        [*PICTURES, *chance("p"), *one("threshold", ValueError, -0.1, 1.1, NAN), *GENERATOR]),
    "gaussian_noise": (A.gaussian_noise, IMAGES, [*PICTURES, *parameter("std", -0.1, INF), *GENERATOR]),
    "random_gaussian_noise": (A.random_gaussian_noise, IMAGES, [*PICTURES, *strength("std"), *GENERATOR]),
    "cutout": (A.cutout, IMAGES | {"boxes": BOX}, [
        *PICTURES, *BOXES, *changed("boxes", ValueError, lambda b: b - 9),
        *one("fill", ValueError, -1, 1.1, NAN, "1")]),
    "random_cutout": (A.random_cutout, IMAGES, [
        *PICTURES, *chance("p"), *bounds("scale", 1.0), *bounds("ratio"), *one("fill", ValueError, -1, 1.1, NAN, "1"),
        *GENERATOR]),
    "sampled_crop": (A.sampled_crop, IMAGES | {"boxes": BOX, "size": 4, "flips": torch.tensor([True, False])},
                     [*PICTURES, *BOXES, *INSIDE, *counts("size"), *which("flips"), *parameter("degrees", INF)]),
    "random_sampled_crop": (A.random_sampled_crop, IMAGES | {"size": 4}, [
        *PICTURES, *counts("size"), *bounds("scale", 1.0), *bounds("ratio"), *chance("flip"), *strength("rotation"),
        *GENERATOR]),
    "color_matrix": (A.color_matrix, {"brightness": 1.0}, [
        *(case for name in FACTORS[:3] for case in one(name, ValueError, -0.1, INF, NAN, torch.tensor([1.0, -1.0]))),
        *one("hue", ValueError, -0.6, 0.6, NAN), *one("hue", TypeError, "0"), *one("brightness", TypeError, None),
        ("brightness contrast hue", lambda good: torch.ones(3) if good else torch.zeros(2), ValueError, "N pictures")]),
    "linear_color": (A.linear_color, IMAGES | dict.fromkeys(FACTORS, 0.1), [
        *RGB, *(case for name in FACTORS for case in one(name, ValueError, -0.6, INF, NAN)),
        *(case for name in FACTORS for case in one(name, ValueError, torch.ones(3), words="one for each of 2"))]),
    "linear_color_jitter": (A.linear_color_jitter, IMAGES,
                            [*RGB, *strength(*FACTORS), *chance("p"), *chance("gray", "gray"), *GENERATOR]),
    "View": (A.View, {}, VIEW),
    **{f"View.{name}": (getattr(A.View(4), name), IMAGES, RGB + UNIT + GENERATOR) for name in ("__call__", "one")},
    "TwoViews": (A.TwoViews, {}, [*VIEW, *one("second", TypeError, 4, {"size": 4})]),
    "TwoViews.__call__": (A.TwoViews(4), IMAGES, RGB + UNIT + GENERATOR),
    "MultiCrop": (A.MultiCrop, {}, [*one("large", TypeError, 4, None), *one("small", TypeError, 4, None),
                                    *counts("n_large"), *counts("n_small", 0)[1:]]),
    "MultiCrop.__call__": (A.MultiCrop(A.View(4), A.View(4), 1, 1), IMAGES, RGB + UNIT + GENERATOR),
    **{name: (getattr(A, name), {"size": 32}, counts("size")) for name in ("simclr", "moco_v2", "byol")},
}  # fmt: skip

Z, Z2, Y = rand(6, 4) - 0.5, rand(6, 4, seed=1) - 0.5, torch.tensor([0, 0, 1, 1, 2, 2])
SAME = torch.tensor([True, False] * 3)
TEMPERATURE = numbers("temperature", above=True)
MARGIN = [*numbers("margin"), *one("margin", ValueError, INF)]
CHUNK = one("chunk_size", ValueError, 0, -1, 2.0, "2", True)
ONE_PAIR, OTHER_ROWS = (lambda z: z[:1]), (lambda z: z[:-1], lambda z: z[:, 1:])
LOSSES = {
    "info_nce": (losses.info_nce, {"query": Z, "key": Z2, "temperature": 0.1}, [
        *rows("query"), *rows("key"), *changed("key", ValueError, *OTHER_ROWS), *TEMPERATURE,
        *CHUNK, *changed("query key", ValueError, ONE_PAIR, words="2 pairs.*negatives")]),
    "info_nce with a queue": (losses.info_nce, {"query": Z, "key": Z2, "queue": Z2, "temperature": 0.1}, [
        *rows("query"), *rows("key"), *rows("queue", none=False), *changed("queue", ValueError, OTHER_ROWS[1]),
        *TEMPERATURE, *CHUNK]),
    "nt_xent": (losses.nt_xent, {"view1": Z, "view2": Z2, "temperature": 0.1}, [
        *rows("view1"), *rows("view2"), *changed("view2", ValueError, *OTHER_ROWS), *TEMPERATURE, *CHUNK,
        *changed("view1 view2", ValueError, ONE_PAIR, words="2 pairs.*negatives")]),
    "sup_con": (losses.sup_con, {"embeddings": Z, "labels": Y, "temperature": 0.1}, [
        *rows("embeddings", device_words="labels"), *labels("labels"), *TEMPERATURE, *CHUNK,
        *one("labels", ValueError, torch.arange(6))]),
    "pair_margin": (losses.pair_margin, {"a": Z, "b": Z2, "same": SAME, "margin": 0.5}, [
        *rows("a"), *rows("b"), *changed("b", ValueError, *OTHER_ROWS), *MARGIN,
        *changed("same", TypeError, *NOT_A_TENSOR, lambda s: s.int()),
        *changed("same", ValueError, lambda s: s[1:], lambda s: s[:, None], on_another_device)]),
    "triplet_margin": (losses.triplet_margin, {"anchor": Z, "positive": Z2, "negative": Z2.flip(0), "margin": 0.2}, [
        *rows("anchor"), *rows("positive"), *rows("negative"), *changed("positive", ValueError, *OTHER_ROWS),
        *changed("negative", ValueError, *OTHER_ROWS), *MARGIN]),
    "batch_triplet": (losses.batch_triplet, {"embeddings": Z, "labels": Y, "margin": 0.2}, [
        *rows("embeddings", device_words="labels"), *labels("labels"), *MARGIN,
        *one("mining", ValueError, "easy", None), *one("average", ValueError, "mean", None),
        *one("labels", ValueError, torch.arange(6), torch.zeros(6, dtype=torch.int64))]),
    "mine_triplets": (losses.mine_triplets, {"distances": Z @ Z.T, "labels": Y, "margin": 0.2, "mining": "all"}, [
        *rows("distances", device_words="labels"), *changed("distances", ValueError, lambda d: d[:3]),
        *labels("labels"), *MARGIN, *one("mining", ValueError, "easy", None)]),
}  # fmt: skip
PAIRS = {"a": Z, "b": Z2}
SIMILARITY = {
    name: (getattr(similarity, name), PAIRS, [
        *rows("a", words="a", device_error=TypeError), *rows("b", words="b", device_error=TypeError),
        *changed("b", ValueError, lambda b: b[:, 1:]), *changed("b", TypeError, lambda b: b.double(), words="float64")])
    for name in ("cosine_similarity_matrix", "euclidean_distance_matrix")
}  # fmt: skip

NET = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
NO_MODULE = (None, torch.relu, "small")
MOMENTUM = numbers("momentum", most=1.0)
BATCH = rand(4, 3)
MOCO = {
    "NegativeQueue": (moco.NegativeQueue, {"size": 8, "dim": 4},
                      [*counts("size"), *counts("dim"), *one("seed", TypeError, "0", None, 0.5, True)]),
    "NegativeQueue.enqueue": (lambda keys: moco.NegativeQueue(8, 4).enqueue(keys), {"keys": Z}, [
        *rows("keys"), *changed("keys", ValueError, lambda k: k[:, 1:], lambda k: torch.cat([k, k]))]),
    "MomentumEncoder": (moco.MomentumEncoder, {"encoder": NET, "momentum": 0.9},
                        [*one("encoder", TypeError, *NO_MODULE), *MOMENTUM]),
    "MomentumEncoder.update": (lambda encoder: moco.MomentumEncoder(NET, 0.9).update(encoder), {"encoder": NET}, [
        *one("encoder", TypeError, *NO_MODULE), *one("encoder", ValueError, nn.Linear(2, 2), NET.to("cpu")[1])]),
    "SplitBatchNorm": (moco.SplitBatchNorm, {"num_features": 3, "splits": 2},
                       [*counts("num_features"), *counts("splits")]),
    "SplitBatchNorm.forward": (lambda x: moco.SplitBatchNorm(3, 2)(x), {"x": BATCH}, [
        *changed("x", TypeError, *NOT_A_TENSOR, lambda x: x.int(), words="batch"),
        *changed("x", ValueError, lambda x: x[0], lambda x: x[:3], lambda x: x[:0], lambda x: x[:, 1:],
                 words="batch")]),
    "split_batch_norm": (moco.split_batch_norm, {"module": nn.BatchNorm1d(3), "splits": 2}, [
        *one("module", TypeError, *NO_MODULE), *one("module", ValueError, NET), *counts("splits")]),
    "encode_shuffled": (moco.encode_shuffled, {"encoder": NET, "images": X}, [
        *changed("images", ValueError, *NOT_A_TENSOR, lambda x: x[:0], lambda x: x[0, 0, 0, 0])]),
}  # fmt: skip

STEM = one("stem", ValueError, "large", None, 7)


def loaded(source):
    with tempfile.TemporaryDirectory() as folder:
        torch.save(models.small(2).state_dict(), Path(folder) / "encoder.pt")
        models.load_weights(models.small(2), folder if source == "a run" else source, "small")


def evaluated(module):
    with models.evaluating(module):
        pass


MODELS = {
    "small": (models.small, {"width": 2}, counts("width")),
    "conv4": (models.conv4, {"width": 2}, counts("width")),
    "resnet18": (models.resnet18, {"stem": "small"}, STEM),
    "resnet34": (models.resnet34, {"stem": "small"}, STEM),
    "resnet50": (models.resnet50, {"stem": "small"}, STEM),
    "build": (models.build, {"name": "small", "width": 2}, [
        *one("name", ValueError, "smal", None, 18, ["small"], words="model"), *counts("width"),
        *one("stem", ValueError, "small")]),
    "load_weights": (loaded, {"source": "a run"}, [
        *one("source", ValueError, "nowhere", words="encoder"),
        *one("source", ValueError, "torchvision", words="init")]),  # which has none of small
    "evaluating": (evaluated, {"module": NET}, one("module", TypeError, *NO_MODULE)),
    "first_weight": (models.first_weight, {"encoder": NET}, one("encoder", TypeError, *NO_MODULE)),
    "feature_dim": (models.feature_dim, {"encoder": NET, "image_size": 8}, [
        *one("encoder", TypeError, *NO_MODULE), *counts("image_size"),
        *one("encoder", ValueError, nn.Conv2d(3, 4, 1), nn.Unflatten(3, (2, 4)))]),
    "ProjectionHead": (models.ProjectionHead, {"in_dim": 4, "hidden_dim": 3, "out_dim": 2}, [
        *counts("in_dim"), *counts("hidden_dim"), *counts("out_dim"), *one("depth", ValueError, 1, 4, 2.0, True, "2"),
        *one("batch_norm", ValueError, True, "yes", None)]),
    "PredictionHead": (models.PredictionHead, {"dim": 4, "hidden_dim": 2},
                       [*counts("dim"), *counts("hidden_dim", none=False)]),
}  # fmt: skip

SET = datasets.ImageSet("bars", (255 * rand(6, 3, 8, 8)).byte(), Y, ("a", "b", "c"), {"edge": Y % 2})
BARE = datasets.ImageSet("bars", SET.images)
LESSONS = Path(__file__).parents[1] / "notebooks"  # there is a picture in it
NO_PATH = one("root", TypeError, 5, ["data"])
DATASETS = {
    "ImageSet.subset": (SET.subset, {"index": [0, 2]}, [
        *one("index", ValueError, [6], [-7], [[0]], torch.tensor([True]), torch.ones(6, 1) > 0),
        *one("index", TypeError, [0.5], "0", None, 3)]),
    "load": (datasets.load, {"name": "shapes", "n": 2}, [
        *one("name", ValueError, "shape", "folder:/no/such/place", None, [], 5, words="data set|folder"),
        *one("split", ValueError, "valid", None, []),
        *counts("n", none=False), *counts("image_size", 8, none=False), *counts("seed", 0, none=False), *NO_PATH]),
    "load_folder": (datasets.load_folder, {"path": LESSONS, "image_size": 8}, [
        *one("path", TypeError, None, 5), *one("path", ValueError, "/no/such/place", words="folder"),
        *counts("image_size", 8, none=False)]),
    "downloads": (datasets.downloads, {"root": "."}, NO_PATH),
}  # fmt: skip

VIEWS = (rand(2, 3, 8, 8), rand(2, 3, 8, 8, seed=1))
METHODS = {
    "SimCLR": (lambda **options: methods.SimCLR(models.small(2) if "encoder" not in options else options.pop("encoder"),
                                                **options), {}, [
        *one("encoder", TypeError, *NO_MODULE), *one("temperature", ValueError, 0, -1, NAN, "0.1", None, True),
        *counts("out_dim")]),
    "SimCLR.loss": (methods.SimCLR(models.small(2)).loss, {"views": VIEWS}, [
        *changed("views", TypeError, lambda v: v[0], lambda v: v[:1], lambda v: None, lambda v: [x.numpy() for x in v]),
        *changed("views", ValueError, lambda v: [x[0] for x in v], lambda v: [x.byte() for x in v],
                 lambda v: (v[0], on_another_device(v[1]))),
        *changed("views", ValueError, lambda v: (v[0], v[1][:1]), lambda v: [spoilt(NAN)(x) for x in v], words="view"),
        *changed("views", ValueError, lambda v: [x[:1] for x in v], words="2 pairs.*negatives")]),
    "MoCo": (lambda **options: methods.MoCo(models.small(2) if "encoder" not in options else options.pop("encoder"),
                                            **options), {}, [
        *one("encoder", TypeError, *NO_MODULE), *one("temperature", ValueError, 0, -1, NAN, "0.1", None, True),
        *counts("out_dim"), *one("queue_size", ValueError, 0, -1, 2.0, "2", None, True, words="size"), *MOMENTUM,
        *one("symmetric", TypeError, 1, "yes", None)]),
    "MoCo.loss": (methods.MoCo(models.small(2), queue_size=8).loss, {"views": VIEWS}, [
        *changed("views", TypeError, lambda v: v[0], lambda v: v[:1], lambda v: None, lambda v: [x.numpy() for x in v]),
        *changed("views", ValueError, lambda v: [x[0] for x in v], lambda v: [x.byte() for x in v],
                 lambda v: (v[0], on_another_device(v[1]))),
        *changed("views", ValueError, lambda v: (v[0], v[1][:1]), lambda v: [spoilt(NAN)(x) for x in v],
                 words="views|query")]),
}  # fmt: skip

PAIR = {"views": VIEWS, "labels": torch.tensor([0, 1])}
BAD_VIEWS = [
    *changed("views", TypeError, lambda v: v[0], lambda v: v[:1], lambda v: None, lambda v: [x.numpy() for x in v]),
    *changed("views", ValueError, lambda v: [x[0] for x in v], lambda v: [x.byte() for x in v]),
]
BAD_LABELS = changed("labels", ValueError, lambda y: y[:1]) + changed("labels", TypeError, lambda y: y.float())
METHODS |= {
    "SupCon": (lambda **options: methods.SupCon(options.pop("encoder", models.small(2)), **options), {}, [
        *one("encoder", TypeError, *NO_MODULE), *one("temperature", ValueError, 0, -1, NAN, "0.1", None, True),
        *counts("out_dim")]),
    "SupCon.loss": (methods.SupCon(models.small(2)).loss, PAIR, [
        *BAD_VIEWS, *BAD_LABELS]),
    "Triplet": (lambda **options: methods.Triplet(options.pop("encoder", models.small(2)), **options), {}, [
        *one("encoder", TypeError, *NO_MODULE), *one("margin", ValueError, -0.1, 2.1, NAN, "0.1", None, True),
        *one("mining", ValueError, "soft", None, True), *counts("out_dim")]),
    "Triplet.loss": (methods.Triplet(models.small(2)).loss, PAIR, [
        *BAD_VIEWS, *BAD_LABELS]),
}  # fmt: skip

FEATURES = {"bank": Z, "bank_labels": Y, "queries": Z2}
TRIPLE = dict.fromkeys(("train", "val", "test"), (Z, Y))
K = [*counts("k"), *one("k", ValueError, 7)]
SPLITS = [
    *(case for name in TRIPLE for case in one(name, TypeError, None, Z, (Z,))),
    *(case for name in TRIPLE for case in one(
        name, ValueError, (Z[0], Y), (Z[:0], Y[:0]), (Z, Y[1:]), (Z, on_another_device(Y)), (spoilt(NAN)(Z), Y),
        (spoilt(INF)(Z), Y), (Z, Y - 1), (Z, Y.float()))),
    *one("val", ValueError, (Z[:, 1:], Y), words="same D"), *one("train", ValueError, (Z, Y * 0)),
    *one("strengths", ValueError, (), (0.0,), (NAN,)), *one("strengths", TypeError, 1.0, None, ("1",)),
]  # fmt: skip


def features(name, *, bank=False, none=True):
    """As `rows`, but integers are a ValueError here, and a device alone can't be wrong."""
    cases = rows(name, dtype_error=ValueError, none=none)[:-1]
    return [(n, change, (TypeError, ValueError) if bank else error, words) for n, change, error, words in cases]


QUERIES = [*features("queries", bank=True), *changed("queries", ValueError, on_another_device, lambda q: q[:, 1:])]
E = evaluation
EVALUATION = {
    "encode": (E.encode, {"encoder": NET, "images": X}, [
        *PICTURES, *UNIT, *one("encoder", TypeError, torch.relu, "small"), *counts("batch_size")]),
    "encode, pixels": (E.encode, {"encoder": None, "images": X}, PICTURES + UNIT),
    "knn_accuracy": (E.knn_accuracy, FEATURES | {"labels": Y, "k": 2}, [
        *features("bank"), *labels("bank_labels", negative=True), *QUERIES[:-2], *labels("labels", negative=True), *K,
        *TEMPERATURE]),
    "knn_predict": (E.knn_predict, FEATURES | {"k": 2}, [*features("bank"), *QUERIES, *K, *TEMPERATURE]),
    "knn_score": (E.knn_score, {"encoder": NET, "bank": SET, "queries": SET, "factor": "edge"}, [
        *one("encoder", TypeError, torch.relu, "small"), *one("factor", ValueError, "color", 5), *counts("k"),
        *one("bank", TypeError, None, X, words="ImageSet"), *one("queries", TypeError, None, words="ImageSet"),
        *one("queries", ValueError, BARE, words="factor")]),
    "recall_at_k": (E.recall_at_k, {"queries": Z, "labels": Y, "ks": (1, 2), "bank": Z2, "bank_labels": Y}, [
        *features("queries"), *labels("labels", negative=True), *features("bank", none=False),
        *one("ks", ValueError, (), (0,), (7,), (1.0,), (True,)), *one("ks", TypeError, 1, None),
        *one("bank_labels", ValueError, None), *one("bank", ValueError, None)]),
    "linear_probe": (E.linear_probe, TRIPLE | {"strengths": (1.0,)}, SPLITS),
    "linear_probe_accuracy": (E.linear_probe_accuracy, TRIPLE | {"strengths": (1.0,)}, SPLITS),
    "fine_tune": (E.fine_tune, {"encoder": NET, "train": SET, "val": SET, "steps": 2}, [
        *one("encoder", TypeError, *NO_MODULE), *counts("steps"), *counts("evaluations"), *counts("batch_size"),
        *one("train", TypeError, None, X, words="ImageSet"), *one("val", TypeError, None, words="ImageSet"),
        *one("test", TypeError, X, words="ImageSet"), *one("train", ValueError, BARE, words="labels"),
        *one("train", ValueError, SET.subset([0, 1]), words="2 classes"),
        *one("learning_rates", ValueError, (), (0,), (NAN,)), *one("learning_rates", TypeError, 0.1, None),
        *numbers("weight_decay")]),
    "balanced_subset": (E.balanced_subset, {"labels": Y, "per_class": 1}, [
        *changed("labels", TypeError, *NOT_A_TENSOR), *counts("per_class"), *one("per_class", ValueError, 3),
        *changed("labels", ValueError, lambda y: y - 1, lambda y: y.float(), lambda y: y[:0], lambda y: y[None])]),
    "label_efficiency": (E.label_efficiency, {"methods": {"one": lambda r, s: 0.5}, "labels": Y, "budgets": (1,)}, [
        *one("methods", TypeError, None, [len], words="methods"), *one("methods", ValueError, {}, words="method"),
        *one("budgets", ValueError, (), (0,), (3,), words="budget|per_class"), *one("budgets", TypeError, 1, None),
        *one("seeds", ValueError, (), (0,), (1, 1), words="seeds"), *one("seeds", TypeError, 5, None),
        *one("methods", ValueError, {"a": lambda r, s: 1.5}, {"a": lambda r, s: NAN}, words="accuracies"),
        *changed("labels", TypeError, *NOT_A_TENSOR), *changed("labels", ValueError, lambda y: y - 1)]),
    "confusion_matrix": (E.confusion_matrix, {"predicted": Y, "labels": Y, "classes": 3}, [
        *labels("labels", negative=True, device=False), *labels("predicted", negative=True, device=False),
        *counts("classes"),
        *one("classes", ValueError, 2, words="below 2")]),
    "alignment": (E.alignment, {"z1": Z, "z2": Z2}, [
        *features("z1"), *features("z2", bank=True), *changed("z2", ValueError, *OTHER_ROWS, on_another_device),
        *numbers("alpha", above=True)]),
    "uniformity": (E.uniformity, {"z": Z},
                   [*features("z"), *changed("z", ValueError, ONE_PAIR), *numbers("t", above=True)]),
    "effective_rank": (E.effective_rank, {"features": Z},
                       [*features("features"), *changed("features", ValueError, ONE_PAIR)]),
    "neighbours_kept": (E.neighbours_kept, {"features": Z, "points": Z2, "k": 1}, [
        *features("features"), *features("points", bank=True), *changed("features", ValueError, ONE_PAIR),
        *changed("points", ValueError, OTHER_ROWS[0], on_another_device),
        *one("k", ValueError, 0, 99, 1.0, True, None)]),
    "dimension_std": (E.dimension_std, {"z": Z}, [*features("z"), *changed("z", ValueError, ONE_PAIR)]),
    "collapse": (E.collapse, {"z": Z}, [*features("z")[:-3], *changed("z", ValueError, ONE_PAIR)]),  # it reports NaN
}  # fmt: skip

TINY = training.TrainConfig(n=4, image_size=8, width=2, batch_size=2, steps=1, evaluations=1, device="cpu",
                            precision="fp32")  # fmt: skip
POSITIVE = ("temperature", "learning_rate", "steps", "epochs", "minutes", "n", "image_size", "view_size", "width",
            "queue_size", "checkpoint_minutes")  # fmt: skip
RUN = [
    *changed("images", TypeError, *NOT_A_TENSOR, lambda x: x.int(), lambda x: x > 0),
    *changed("images", ValueError, lambda x: x[0], lambda x: x[:, :1], lambda x: x[:0], lambda x: x[:1]),
    *changed("images", ValueError, lambda x: x[:, :, :0], spoilt(NAN), spoilt(INF)),
    *changed("images", ValueError, lambda x: 255 * x, lambda x: 2 * x - 1, words="Divide by 255"),
    *one("config", TypeError, None, {"steps": 1}),
]
CONFIG = [
    *(case for name in POSITIVE for case in one(name, ValueError, 0, -1)),
    *(case for name in POSITIVE for case in one(name, TypeError, "1", True, [1])),
    *one("temperature", ValueError, NAN, INF), *one("learning_rate", ValueError, NAN),
    *(case for name in ("steps", "batch_size", "n", "seed") for case in one(name, TypeError, 1.5, "1", True)),
    *(case for name in ("weight_decay", "seed", "evaluations", "margin") for case in one(name, ValueError, -1)),
    *one("weight_decay", ValueError, NAN), *one("minutes", ValueError, NAN), *one("batch_size", ValueError, 1, 0),
    *one("warmup", ValueError, -0.1, 1.0, NAN), *one("crop", ValueError, 0.0, 1.1, NAN),
    *(case for name in ("flip", "jitter", "gray") for case in one(name, ValueError, -0.1, 1.1, NAN)),
    *(case for name in ("rotation", *FACTORS) for case in one(name, ValueError, -0.1, NAN, INF)),
    *one("data", TypeError, None, 5), *one("model", TypeError, None, 5), *one("method", TypeError, None, 5),
    *one("method", ValueError, "", "SimCLR"), *one("symmetric", TypeError, 1, None),
    *one("compile", TypeError, 1, None),
]  # fmt: skip
T = training
TRAINING = {
    "TrainConfig": (T.TrainConfig, {}, [*CONFIG, ("steps epochs", lambda _: 2, ValueError, "one of steps, epochs")]),
    "TrainConfig.for_data": (T.TrainConfig.for_data, {"data": "shapes"},
                             [*CONFIG, *one("data", TypeError, [], {})]),
    "TrainConfig.changed": (T.TrainConfig().changed, {}, CONFIG),
    "TrainConfig.preset": (T.TrainConfig.preset, {"name": "laptop", "steps": 1},
                           [*one("name", ValueError, "huge", "pictures-gpu", words="preset"),
                            *one("steps", ValueError, 0)]),
    "fit": (T.fit, {"images": rand(4, 3, 8, 8), "config": TINY},
            [*RUN, *one("monitor", TypeError, 5, {}), *one("on_row", TypeError, 5, {}),
             *one("method", TypeError, 5, "simclr"), *one("views", TypeError, 5, {}), *one("on_step", TypeError, 5, {}),
             *one("state", ValueError, 5, {}, {"clbook": 1})]),
    "check": (T.check, {"images": rand(4, 3, 8, 8), "config": TINY}, RUN),
    "find_device": (T.find_device, {"name": "cpu"}, [
        *one("name", ValueError, "tpu", "", words="device"), *one("name", TypeError, None, 0, words="device")]),
    "find_precision": (T.find_precision, {"name": "auto", "device": torch.device("cpu")},
                       [*one("name", ValueError, "fp8", None, 32, words="precision"),
                        *one("device", TypeError, "cpu", None)]),
    "new_encoder": (T.new_encoder, {"config": TINY}, one("config", TypeError, None, {"steps": 1})),
}  # fmt: skip

P = plots
SHOWN = [
    *changed("images", TypeError, *NOT_A_TENSOR),
    *changed("images", ValueError, lambda x: x[0], lambda x: x[:0], lambda x: x[:, :2], lambda x: x[:, :, :0]),
]
MATRIX = (lambda m: m[0], lambda m: m[:0], lambda m: m.tolist(), lambda m: None)
POINTS = {"map": rand(6, 2).numpy()}
LINES = {"ours": [(1, 0.5, 0.4, 0.6), (2, 0.6, 0.5, 0.7)]}
BAD_LINES = ({}, {"a": []}, {"a": [(1, 2, 3)]}, {"a": [(1, NAN, 0, 1)]}, {"a": [(1, 0.1, 0.2, 0.3)]})
PLOTS = {
    "to_numpy": (P.to_numpy, IMAGES, SHOWN),
    "image_grid": (P.image_grid, IMAGES | {"titles": ["a", "b"]}, [
        *SHOWN, *counts("columns"), *one("titles", ValueError, ["a"], ["a"] * 3), *one("rows", ValueError, ["a"] * 2)]),
    "view_pairs": (P.view_pairs, {"images": X, "view1": X, "view2": X}, [
        *SHOWN, *one("view1", TypeError, None, words="images"), *one("view2", ValueError, X[0], words="images"),
        *one("view1", ValueError, X[:1], words="views"), *one("view2", ValueError, X[:1], words="views")]),
    "curves": (P.curves, {"history": [{"step": 0, "knn": 0.2}, {"step": 5, "loss": 3.0}]},
               [*one("history", ValueError, [{"loss": 3.0}], [5], ["step"]), *one("history", TypeError, None, 5)]),
    "neighbours": (P.neighbours, {"queries": X, "found": X[:, None], "titles": [["a", "b"]] * 2}, [
        *changed("queries", TypeError, lambda x: x.tolist(), lambda x: x.numpy(), words="images"),
        *changed("queries", ValueError, lambda x: x[:1], lambda x: x[:, :2], words="found|images"),
        *changed("found", ValueError, *NOT_A_TENSOR, lambda f: f[0], lambda f: f[:, :0], lambda f: f[:1]),
        *one("titles", ValueError, [["a", "b"]], [["a"], ["a", "b"]])]),
    "curves_of_runs": (P.curves_of_runs, {"runs": {"a": [{"step": 0, "knn": 0.2}, {"step": 5, "loss": 3.0}]}}, [
        *one("runs", ValueError, {}, {"a": [{"loss": 3.0}]}, {"a": [5]}), *one("runs", TypeError, None, [1])]),
    "interval_curves": (P.interval_curves, {"lines": LINES, "log_x": True}, [
        *one("lines", ValueError, *BAD_LINES, {"a": [(0, 0.5, 0.4, 0.6)]}, words="lines|a: "),
        *one("lines", TypeError, None, [1])]),
    "similarity_heatmap": (P.similarity_heatmap, {"similarities": rand(3, 3), "positives": torch.eye(3) > 0}, [
        *changed("similarities", ValueError, *MATRIX, spoilt(1.1), spoilt(INF), lambda m: m * NAN),
        *one("rows", ValueError, ["a"], words="names"), *one("columns", ValueError, ["a"], words="names"),
        *changed("positives", ValueError, lambda p: p[:1], lambda p: p.int(), lambda p: p.tolist())]),
    "confusion": (P.confusion, {"matrix": torch.eye(2), "classes": ("a", "b")}, [
        *changed("matrix", ValueError, *MATRIX, spoilt(-1.0), spoilt(NAN)), *one("classes", ValueError, ("a",), (),
                                                                                  words="names")]),
    "similarity_histograms": (P.similarity_histograms, {"positives": rand(5), "negatives": rand(5)}, [
        *changed("positives", TypeError, *NOT_A_TENSOR), *changed("negatives", TypeError, *NOT_A_TENSOR),
        *changed("negatives", ValueError, spoilt(1.1), spoilt(NAN), lambda v: v[:0])]),
    "tsne": (P.tsne, {"features": Z, "perplexity": 2}, [
        *changed("features", ValueError, *MATRIX, spoilt(NAN), spoilt(INF)),
        *one("perplexity", ValueError, 0, -1, NAN, INF, "30", None),
        *one("metric", ValueError, "manhattan", None), *one("steps", ValueError, 249, 500.0, None)]),
    "pca": (P.pca, {"features": Z}, changed("features", ValueError, *MATRIX, spoilt(NAN), spoilt(INF))),
    "embedding_maps": (P.embedding_maps, {"maps": POINTS, "labels": Y, "classes": SET.classes, "images": SET.images}, [
        *one("maps", ValueError, {}, {"map": rand(6, 3).numpy()}, {"map": rand(0, 2)}, POINTS | {"b": rand(5, 2)}),
        *one("labels", TypeError, Y.tolist(), Y.float()), *one("labels", ValueError, Y[1:], Y - 1, Y + 1),
        *one("images", ValueError, SET.images[1:])]),
}  # fmt: skip

NO_ROWS = [*changed("tensor", TypeError, *NOT_A_TENSOR, words="rows"),
           *changed("tensor", ValueError, lambda x: x[0, 0], words="rows")]  # fmt: skip
DISTRIBUTED = {
    "gather": (distributed.gather, {"tensor": Z}, NO_ROWS),
    "share": (lambda tensor: distributed.share(tensor), {"tensor": Z}, NO_ROWS),
    "replicate": (distributed.replicate, {"module": nn.Linear(2, 2)}, one("module", TypeError, None, 3, nn.Linear)),
    "SyncBatchNorm": (lambda x, size=4: distributed.SyncBatchNorm(size)(x), {"x": Z}, [
        *changed("x", ValueError, lambda x: x[:, :3], lambda x: x[0])]),
    "SyncBatchNorm.forward": (distributed.SyncBatchNorm(4), {"x": Z}, [
        *changed("x", ValueError, lambda x: x[:, :3], lambda x: x[0])]),
}  # fmt: skip

TABLE = {
    f"{module.__name__.removeprefix('clbook.')}.{name}": row
    for module, table in zip(
        MODULES,
        (AUGMENTATIONS, DATASETS, DISTRIBUTED, EVALUATION, LOSSES, METHODS, MODELS, MOCO, PLOTS, SIMILARITY, TRAINING),
        strict=True,
    )
    for name, row in table.items()
}

RECORD = "a record that a function of ours makes: what goes in was checked there"
EXEMPT = {
    "models.read_weights": "load_weights, which has a row, hands its file on; what a file may be wrong in has tests",
    "methods.MoCo.keys": "the encoder is the judge of its images",
    "datasets.ImageSet": RECORD,
    "distributed.group": "a context manager; its bad input has tests of its own",
    "distributed.average_gradients": "the parameters that an optimizer has taken already",
    "distributed.any_rank": "anything is true or false",
    "distributed.writers": "one number of the caller's clock",
    "evaluation.Probe": RECORD,
    "evaluation.FineTuned": RECORD,
    "evaluation.Interval": RECORD,
    "evaluation.Collapse": RECORD,
    "training.Fit": RECORD,
    "training.check_state": "what a state may be wrong in has tests of its own, beside fit's",
    "plots.Picture": RECORD,
    "plots.Picture.save": "any path the system takes; what it doesn't take, it says itself",
    "plots.LiveCurves": "its options go to curves, which has a row",
    "plots.LiveCurves.__call__": "the rows go to curves, which has a row",
    "moco.MomentumEncoder.forward": "hands its inputs to the encoder, whatever that takes",
}


def surface():
    """module.function, module.Class, module.Class.method of all that is public and takes something."""
    for module in MODULES:
        short = module.__name__.removeprefix("clbook.")
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__ or not callable(thing):
                continue
            if inspect.isclass(thing) and issubclass(thing, Exception):
                continue
            if inspect.signature(thing).parameters:
                yield f"{short}.{name}"
            for method, function in vars(thing).items() if inspect.isclass(thing) else ():
                function = getattr(function, "__func__", function)  # a class method's
                public = not method.startswith("_") or method == "__call__"
                if public and inspect.isfunction(function) and len(inspect.signature(function).parameters) > 1:
                    yield f"{short}.{name}.{method}"


def test_every_public_function_has_a_row_or_a_reason():
    rows = {name.split(" with ")[0].split(", ")[0] for name in TABLE}
    assert set(surface()) == rows | set(EXEMPT)
    assert not rows & set(EXEMPT)


def test_every_module_that_can_be_called_is_looked_at():
    here = {path.stem for path in Path(clbook.__file__).parent.glob("[a-z]*.py")}
    elsewhere = {
        "cli",
        "doctor",
        "explorers",
        "checks",
        "runs",
        "grading",
        "submission",
        "files",
        "reports",
        "results",
    }  # their bad input has tests in their own files
    assert here - elsewhere == {module.__name__.removeprefix("clbook.") for module in MODULES}


CASES = [
    pytest.param(call, good, *case, id=f"{name}-{case[0]}-{i}")
    for name, (call, good, cases) in TABLE.items()
    for i, case in enumerate(cases)
]


@pytest.mark.parametrize("name", TABLE)
def test_the_good_call_of_each_row_is_good(name):
    call, good, cases = TABLE[name]
    call(**good)
    assert cases, "a row without a bad input shows nothing"


@pytest.mark.parametrize(("call", "good", "names", "change", "error", "words"), CASES)
def test_bad_input_says_what_was_expected_and_what_came(call, good, names, change, error, words):
    bad = {name: change(good.get(name)) for name in names.split()}
    with pytest.raises((TypeError, ValueError)) as caught:
        call(**good | bad)
    message = str(caught.value)
    assert isinstance(caught.value, error), message
    assert re.search(r"expected\b.*\bgot\b", message, re.S), message
    assert re.search(words, message, re.S), message
    raised = Path(str(caught.traceback[-1].path))
    assert raised.parent == Path(clbook.__file__).parent, f"raised in {raised}: {message}"


# --- on a GPU no check may wait for the device: meta tensors have no values to wait for, and say so ---


def on_meta(tree):
    if isinstance(tree, torch.Tensor):
        return tree.to("meta").requires_grad_(tree.is_floating_point())
    return tree


STEPS = ["losses.info_nce", "losses.info_nce with a queue", "losses.nt_xent", "losses.pair_margin",
         "losses.triplet_margin"]  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("chunk_size", [None, 4])
def test_a_loss_never_looks_at_a_value(name, chunk_size):
    call, good, _ = TABLE[name]
    if chunk_size and "chunk_size" in inspect.signature(call).parameters:
        good = good | {"chunk_size": chunk_size}
    loss = call(**{key: on_meta(value) for key, value in good.items()})
    loss.backward()
    assert loss.shape == () and loss.device.type == "meta"


@pytest.mark.parametrize("name", [n for n in TABLE if n.startswith("augmentations.") and "images" in TABLE[n][1]])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_an_augmentation_never_looks_at_a_value(name, dtype):
    call, good, _ = TABLE[name]
    good = {key: value.to("meta") if isinstance(value, torch.Tensor) else value for key, value in good.items()}
    result = call(**good | {"images": torch.empty(2, 3, 8, 8, dtype=dtype, device="meta")})
    views = result if isinstance(result, tuple | list) else [result]
    assert all(view is None or view.device.type == "meta" for view in views)


def test_per_picture_parameters_are_never_looked_at():
    factor = torch.empty(2, device="meta")
    for step in (A.adjust_brightness, A.adjust_contrast, A.adjust_saturation, A.adjust_hue, A.rotate, A.solarize,
                 A.gaussian_blur, A.gaussian_noise, A.linear_color):  # fmt: skip
        assert step(X.to("meta"), factor).shape == X.shape


@pytest.mark.parametrize("recipe", [A.simclr, A.moco_v2, A.byol])
@pytest.mark.parametrize("size", [16, 64])
def test_a_preset_never_looks_at_a_value(recipe, size):
    for view in recipe(size)(X.to("meta")):
        assert view.shape == (2, 3, size, size)


def test_every_step_of_a_view_never_looks_at_a_value():
    options = {"rotation": 10.0, "blur": 0.5, "solarize": 0.5, "noise": 0.1, "cutout": 0.5}
    for fast in (False, True):
        assert A.View(8, fast=fast, **options)(X.to("meta")).device.type == "meta"


def test_the_queue_and_the_momentum_encoder_never_look_at_a_value():
    queue = moco.NegativeQueue(8, 4).to("meta")
    queue.enqueue(Z.to("meta"))
    assert queue.negatives().device.type == "meta"
    net = nn.Linear(4, 4).to("meta")
    moco.MomentumEncoder(net, 0.9).update(net)


def test_meta_tensors_do_refuse_to_be_looked_at():
    """Else none of the tests above could fail."""
    for look in (lambda x: x.item(), bool, lambda x: x.nonzero(), lambda x: x.tolist()):
        with pytest.raises(RuntimeError):
            look(torch.ones((), device="meta"))
