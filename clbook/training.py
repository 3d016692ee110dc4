"""Train an encoder, without labels unless the method wants them: one frozen configuration, one function."""

import itertools
import math
import os
import time
import typing
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from clbook import distributed, models
from clbook.augmentations import TwoViews, check_pictures
from clbook.losses import NotFinite
from clbook.methods import MoCo, SimCLR, SupCon, Triplet


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run; `clbook train --help` is made from it."""

    data: str = _option("shapes", "shapes, digits, folder:PATH, or a download: cifar10, cifar100, stl10, ...")
    n: int | None = _option(None, "pictures to train on; all unless told, of shapes 4,000")
    image_size: int = _option(32, "side of a picture in pixels")
    view_size: int | None = _option(
        None, "side of a view in pixels; image_size unless told, of photographs 24; smaller is faster"
    )
    model: str = _option("small", f"encoder: {', '.join(models.ENCODERS)}")
    width: int | None = _option(
        None,
        "channels of the first layer of small or conv4, 32 unless told (shapes and digits: 24); h has 8 times as many",
    )
    stem: str | None = _option(None, "of a resnet: small or imagenet; imagenet from 96 px on unless told")
    init: str | None = _option(None, "start from this encoder: the folder of a run, or torchvision (ImageNet weights)")
    method: str = _option("simclr", "simclr, moco; with labels also sup_con, triplet")
    temperature: float = _option(0.2, "of the loss, > 0; triplet has none")
    queue_size: int = _option(4096, "moco: keys of earlier batches that wait as negatives")
    momentum: float = _option(0.99, "moco: of the slow encoder, 0 to 1; a memory of 1 / (1 - m) steps")
    symmetric: bool = _option(False, "moco: each view is query once and key once")
    margin: float = _option(0.2, "triplet: by how much a negative is to be further away")
    mining: str = _option("semi-hard", "triplet: all, semi-hard or hard")
    batch_size: int = _option(256, "pictures a step, over all processes; each has the others as negatives")
    steps: int | None = _option(None, "stop after so many batches")
    epochs: int | None = _option(None, "stop after so many passes over the pictures")
    minutes: float | None = _option(None, "stop after so many minutes of training; 1 if nothing is said")
    learning_rate: float = _option(2e-3, "highest learning rate of AdamW")
    weight_decay: float = _option(1e-4, "of AdamW")
    warmup: float = _option(0.05, "share of the run in which the learning rate rises; then it falls as a cosine")
    crop: float = _option(0.2, "smallest share of a picture's area that a view keeps, 0 to 1")
    flip: float = _option(0.5, "probability of mirroring left to right")
    rotation: float = _option(0.0, "turns views by up to so many degrees either way")
    jitter: float = _option(0.8, "probability of changing the colours")
    brightness: float = _option(0.4, "strength: factors in 1 - x .. 1 + x")
    contrast: float = _option(0.4, "strength: factors in 1 - x .. 1 + x")
    saturation: float = _option(0.4, "strength: factors in 1 - x .. 1 + x")
    hue: float = _option(0.1, "strength: shifts by -x .. x turns of the colour circle, at most 0.5")
    gray: float = _option(0.2, "probability of taking the colours out")
    seed: int = _option(0, "of weights, views and order")
    device: str = _option("auto", "auto, cpu, cuda, mps")
    precision: str = _option("auto", "auto, fp32, bf16, fp16; auto is bf16 where the device computes in it")
    compile: bool = _option(False, "compile the encoder: slow to start, then faster on a GPU")
    evaluations: int = _option(10, "times that kNN is measured on the way")
    knn_every: float | None = _option(None, "epochs between two measurements of kNN, in place of evaluations")
    checkpoint_minutes: float = _option(5.0, "minutes between two checkpoints, from which --resume goes on")

    def __post_init__(self):
        for name, kind in typing.get_type_hints(type(self)).items():
            value = getattr(self, name)
            wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
            if wrong and not (type(value) is int and isinstance(0.0, kind)):
                raise TypeError(f"{name}: expected {getattr(kind, '__name__', kind)}, got {value!r}")
        if sum(limit is not None for limit in (self.steps, self.epochs, self.minutes)) > 1:
            raise ValueError(f"expected one of steps, epochs and minutes, got steps={self.steps}, "
                             f"epochs={self.epochs}, minutes={self.minutes}")  # fmt: skip
        for name in ("n", "temperature", "learning_rate", "steps", "epochs", "minutes", "image_size",
                     "view_size", "width", "queue_size", "checkpoint_minutes", "knn_every"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not (value > 0 and (name != "temperature" or value < math.inf)):
                raise ValueError(f"{name}: expected a number > 0, got {value}")
        if self.method not in METHODS:
            raise ValueError(f"method: expected one of {', '.join(METHODS)}; got {self.method!r}")
        keys = self.batch_size * (2 if self.symmetric else 1)
        if self.method == "moco" and self.queue_size < keys:
            raise ValueError(f"queue_size: expected room for the {keys} keys of a batch, got {self.queue_size}")
        for name in ("weight_decay", "seed", "evaluations", "margin"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected a number >= 0, got {getattr(self, name)}")
        if self.seed >= 2**32:
            raise ValueError(f"seed: expected a number below 2**32, got {self.seed}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size: expected at least 2 (the others are the negatives), got {self.batch_size}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup: expected a share of the run, 0 to below 1, got {self.warmup}")
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop: expected a share of the area, above 0 to 1, got {self.crop}")
        self.views()  # checks the strengths

    @classmethod
    def for_data(cls, data: str = "shapes", **changes) -> "TrainConfig":
        """The recipe for a data set, with `changes`. Views must leave alone what you want to learn (the way up of a
        digit) and change what you don't (the colour of a shape), so they go with the data."""
        _check_kind("data", data, str)
        return cls(data=data, **RECIPES.get(data, PHOTOGRAPHS)).changed(**changes)

    @classmethod
    def preset(cls, name: str, **changes) -> "TrainConfig":
        """The configuration of that name in `PRESETS`, with `changes`; a limit (steps, epochs, minutes) takes the place
        of the preset's.

        Raises:
            ValueError: no such preset.
        """
        if name not in PRESETS:
            raise ValueError(f"preset: expected one of {', '.join(PRESETS)}; got {name!r}")
        if "data" not in PRESETS[name] | changes:
            raise ValueError(f"preset: expected data with {name}, which is for your own pictures, got none; give "
                             "--data folder:PATH")  # fmt: skip
        preset = PRESETS[name] | ({"data": changes["data"]} if "data" in changes else {})
        return cls.for_data(**preset).changed(**changes)

    def changed(self, **changes) -> "TrainConfig":
        """This configuration with `changes`. What was meant for the old value of a changed setting is left out: width,
        stem and view size with another encoder, view size with another size of pictures, the old limit (steps, epochs
        or minutes) with another, `knn_every` with other `evaluations`."""
        new = {name for name, value in changes.items() if value != getattr(self, name, None)}
        left_out = [name for name, goes_with in _GOES_WITH.items() if new & set(goes_with)]
        return replace(self, **dict.fromkeys(left_out) | changes)

    def options(self) -> dict[str, Any]:
        """What the encoder is built with, beside its name."""
        stem = self.stem
        if stem is None and self.model.startswith("resnet"):
            stem = "imagenet" if self.image_size >= IMAGENET_STEM_FROM else "small"
        return {key: value for key, value in (("width", self.width), ("stem", stem)) if value is not None}

    def side(self) -> int:
        """The side of a view in pixels."""
        return self.view_size or self.image_size

    def views(self) -> TwoViews:
        """The random views that the configuration asks for."""
        return TwoViews(self.side(), (self.crop, 1.0), self.flip, self.rotation, self.brightness, self.contrast,
                        self.saturation, self.hue, self.jitter, self.gray)  # fmt: skip


_STRONG_COLORS = {"brightness": 0.5, "contrast": 0.5, "saturation": 0.7, "hue": 0.5, "gray": 0.5}
_GOES_WITH = {"width": ["model"], "stem": ["model"], "view_size": ["model", "image_size"],
              "steps": ["epochs", "minutes"], "epochs": ["steps", "minutes"], "minutes": ["steps", "epochs"],
              "knn_every": ["evaluations"]}  # fmt: skip
_QUICK = {"width": 24, "batch_size": 64, "learning_rate": 2e-3, "temperature": 0.1}
RESIDENT_SHARE = 0.5  # of a device's free memory that the pictures may take
IMAGENET_STEM_FROM = 96  # px; below, a stem that shrinks to a quarter would leave too little
STATE_VERSION = 2  # of what `fit` hands to `on_step`
_RANKS_APART = 1_000_003  # seeds of the ranks' views: far apart, so that no rank has those of a run with another seed
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
METHODS = {
    "simclr": lambda encoder, config: SimCLR(encoder, temperature=config.temperature),
    "moco": lambda encoder, config: MoCo(encoder, temperature=config.temperature, queue_size=config.queue_size,
                                         momentum=config.momentum, symmetric=config.symmetric),
    "sup_con": lambda encoder, config: SupCon(encoder, temperature=config.temperature),
    "triplet": lambda encoder, config: Triplet(encoder, margin=config.margin, mining=config.mining),
}  # fmt: skip
PHOTOGRAPHS = {"model": "conv4", "temperature": 0.1, "view_size": 24}  # all other data, folders among them
RECIPES = {
    "shapes": {"crop": 0.8, **_QUICK, **_STRONG_COLORS},
    "digits": {"crop": 0.7, "flip": 0.0, **_QUICK, **_STRONG_COLORS},
}
_CIFAR10_GPU = {"data": "cifar10", "model": "resnet18", "epochs": 200, "batch_size": 512, "learning_rate": 2e-3}
PRESETS = {  # whole runs by name; the data's recipe fills in the rest
    "laptop": {"data": "cifar10", "minutes": 10},
    "cifar10-gpu": _CIFAR10_GPU,
    "cifar10-gpus": _CIFAR10_GPU | {"batch_size": 2048, "learning_rate": 4e-3},  # for 4 of 512 each
    "pictures-gpu": {"model": "resnet50", "image_size": 224, "epochs": 100, "batch_size": 256, "learning_rate": 1e-3},
}


@dataclass
class Fit:
    """What a run leaves in memory."""

    config: TrainConfig
    encoder: nn.Module
    method: nn.Module
    history: list[dict[str, float]]  # rows: step, epoch, seconds, learning_rate, loss, and what the monitor measured
    interrupted: bool = False  # by Ctrl-C, or by `on_step`


@torch.enable_grad()  # and afterwards as it was, even if Ctrl-C came while a monitor had switched it off
def fit(images: Tensor, config: TrainConfig = TrainConfig(), *, labels: Tensor | None = None,
        method: nn.Module | None = None,
        views: Callable[[Tensor, torch.Generator], tuple[Tensor, ...]] | None = None,
        monitor: Callable[[nn.Module], dict[str, float]] | None = None,
        on_row: Callable[[dict[str, float]], None] | None = None,
        on_step: Callable[[Callable[[], dict]], bool | None] | None = None,
        state: dict | None = None, progress: bool = False) -> Fit:  # fmt: skip
    """Train an encoder on pictures; labels only come in where the method is supervised.

    In a group of processes (`distributed.group`) all call this alike, and each takes its share of every batch; the
    weights stay the same on all. `monitor` and `on_row` are called on rank 0, and progress is shown there. `on_step` is
    called on all: it must return the same on all, and ask for the state on all or none. Batch-norm is taken over all
    ranks (`distributed.replicate`).

    Args:
        images: [N, 3, H, W], uint8 or float in [0, 1]; at least one batch of them.
        config: the run. A number of steps or epochs gives the same result each time (on one CPU and thread count; on a
            GPU up to the order of its sums); minutes stop by the clock, and the learning rate follows it.
        labels: [N], integers, for a method whose `supervised` is true: its loss is called as loss(views, labels).
        method: trained in place of the new one that the config asks for: a module with an `encoder`, a `loss(views)`
            and an `after_step()`, which is called once the weights have moved. It brings its own initial weights.
        views: called as views(batch, generator) in place of `config.views()`; its views go to `method.loss`.
        monitor: called with the encoder before the first step, then `config.evaluations` times, the last at the end, or
            every `config.knn_every` epochs and at the end; what it returns joins the history. Give it the validation
            split.
        on_row: called with each new row of the history: every ten steps, with each measurement, and at the end.
        on_step: called after each step but the last with a function that makes the state of the run: a dict of tensors
            and plain values, to be saved or copied at once. If it returns True the run ends here, as after Ctrl-C.
        state: of an earlier run with the same config and pictures, to go on from: with steps or epochs, on the same
            machine, thread count and number of processes, to the same weights, bit for bit on a CPU, as if nothing had
            happened.
        progress: show a progress bar.

    Returns:
        A `Fit`. Ctrl-C ends the run early and returns what was learned so far, with `interrupted` set.

    Raises:
        ValueError: pictures of the wrong shape, NaN or not in [0, 1], fewer than a batch; labels that don't fit or are
            missing; a state of another run.
        TypeError: pictures that aren't a uint8 or float tensor, a config that isn't a `TrainConfig`, a method without
            one of its three parts, something to call that can't be called.
        FloatingPointError: the loss is no longer a number; the message names the step, the batch and the likely cause.
        ConnectionError: another process of the group is gone.
    """
    if method is None:
        # The state has all weights: where the run began may be gone by now.
        check(images, config if state is None else replace(config, init=None), labels)
        method = _new_method(config, fresh=state is not None)
    else:
        _check_images(images, config)
        _check_method(method)
    supervised = _check_labels(labels, images, method)
    for name, function in (("views", views), ("monitor", monitor), ("on_row", on_row), ("on_step", on_step)):
        if function is not None and not callable(function):
            raise TypeError(f"{name}: expected a function or None, got {type(function).__name__}")
    if not distributed.is_writer():
        monitor, on_row, progress = None, None, False
    device = find_device(config.device)
    precision = find_precision(config.precision, device, config.side())
    method = method.to(device, memory_format=torch.channels_last).train()
    distributed.replicate(method)
    if config.compile:
        method.encoder.compile()
    learned = [p for p in method.parameters() if p.requires_grad]  # a momentum encoder's are moved, not learned
    # Fused, it can also skip a step that fp16 spoiled without waiting for the GPU to say so. Not on a CPU, where it is
    # quicker, too: there `fit` and a loop written by hand with torch's defaults end at the same weights (lesson 06).
    optimizer = torch.optim.AdamW(learned, config.learning_rate, weight_decay=config.weight_decay,
                                  fused=device.type == "cuda")  # fmt: skip
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    generator = torch.Generator(device).manual_seed(config.seed + _RANKS_APART * distributed.rank())
    views = views or config.views()
    log = _Log(
        config,
        len(images) // config.batch_size,
        (lambda: monitor(method.encoder)) if monitor else None,
        method.encoder,
        on_row,
        progress,
    )
    run = _Run(
        config,
        [len(images), _fingerprint(images, labels if supervised else None)],
        method,
        optimizer,
        scaler,
        generator,
        log,
    )
    result = Fit(config, method.encoder, method, log.history)
    try:
        if state is None:
            log.write(0.0, measured=True)
        else:
            run.restore(state)
        rows = map(distributed.share, _batches(len(images), config, start=log.count))
        for batch in _feed((images, labels) if supervised else (images,), rows, device):
            rate = _learning_rate(config, log.done())
            for group in optimizer.param_groups:
                group["lr"] = rate
            log.views = made = ()  # the last ones make room
            made = views(batch[0], generator)
            log.views = made = tuple(v.to(memory_format=torch.channels_last) for v in made)
            try:
                with torch.autocast(device.type, _AUTOCAST.get(precision), enabled=precision in _AUTOCAST):
                    loss = method.loss(made, *batch[1:])
            except NotFinite as error:  # the losses look for NaN where that costs nothing, which is on the CPU
                if log.count == 0:
                    raise
                raise log.diverged(math.nan, rate) from error
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            distributed.average_gradients(learned)
            scaler.step(optimizer)
            scaler.update()
            method.after_step()
            if log.step(loss.detach(), rate):
                break
            if on_step and on_step(run.state):
                result.interrupted = True
                if log.losses:
                    log.write(rate, measured=False)  # after the state: a run that goes on has its own rows
                break
    except KeyboardInterrupt:
        if not log.history:  # there is nothing yet to go on with
            raise
        result.interrupted = True
    finally:
        log.bar.close()
        method.eval()
    return result


def find_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is CUDA, else Apple's MPS, else the CPU. Processes of a group exchange nothing
    over MPS, and need a GPU each."""
    alone = distributed.world_size() == 1
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available() and alone, "cpu": True}
    _check_kind("device", name, str)
    if name == "auto":
        name = next(device for device, there in have.items() if there)
    kind, _, number = name.partition(":")
    numbers = map(str, range(torch.cuda.device_count() if kind == "cuda" else 1))
    if not have.get(kind) or (number and number not in numbers):
        there = ", ".join(device for device, there in have.items() if there)
        raise ValueError(f"device: expected auto or one of this machine's ({there}), got {name!r}")
    here, seen = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    own = seen == 1 and "CUDA_VISIBLE_DEVICES" in os.environ  # perhaps another one for each process
    if kind == "cuda" and not alone and here > seen and not own:
        raise ValueError(f"device: expected a GPU for each of the {here} processes on this machine, got {seen}; start "
                         f"{seen} (--nproc-per-node {seen}), or take --device cpu")  # fmt: skip
    if kind == "cuda" and not alone and number and here > 1 and not own:
        raise ValueError(f"device: expected no number where {here} processes take a GPU each, got {name!r}; leave it "
                         "out")  # fmt: skip
    return torch.device(name)


def find_precision(name: str, device: torch.device, view_size: int | None = None) -> str:
    """ "fp32", "bf16" or "fp16"; "auto" is bf16 where the device computes in it (a CPU without such instructions
    crawls). "fp16" is for older GPUs: gradients are scaled so that small ones don't vanish.

    On a CPU views of less than 17 px are for fp32: an encoder's last stride can meet a map of one pixel, and the
    weights that then see nothing but padding get from torch 2.14 in bf16, as gradient, whatever is in memory.
    """
    _check_kind("device", device, torch.device)
    if name not in ("auto", "fp32", "bf16", "fp16"):
        raise ValueError(f"precision: expected auto, fp32, bf16 or fp16, got {name!r}")
    tiny = device.type == "cpu" and view_size is not None and view_size < 17
    if name == "bf16" and tiny:
        raise ValueError(f"precision: expected fp32 for views of {view_size} px on a CPU, which in bf16 gets wrong "
                         "gradients below 17 px, got 'bf16'; take fp32, or larger views")  # fmt: skip
    if name != "auto":
        return name
    if device.type == "cpu":
        has = any(torch.cpu.get_capabilities().get(kind) for kind in ("avx512_bf16", "amx_bf16", "bf16"))
        return "bf16" if has and not tiny else "fp32"
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def check(images: Tensor, config: TrainConfig, labels: Tensor | None = None) -> None:
    """Raise a `ValueError` or `TypeError` for whatever would keep `fit` from starting."""
    _check_images(images, config)
    find_precision(config.precision, find_device(config.device), config.side())
    method = _new_method(config)  # finds out whether `init` can be read
    _check_labels(labels, images, method)
    for size in {config.image_size, config.side()}:
        models.feature_dim(method.encoder, size)  # a VGG can't take small pictures


def _check_images(images: Tensor, config: TrainConfig) -> None:
    _check_kind("config", config, TrainConfig)
    _check_kind("images", images, Tensor)
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images: expected [N, 3, H, W], got {list(images.shape)}")
    if images.is_floating_point() and not images.isfinite().all():
        bad = (~images.isfinite()).flatten(1).any(1).nonzero()[:, 0].tolist()
        raise ValueError(f"images: expected finite numbers in [0, 1], got NaN or infinity in {len(bad)} pictures, "
                         f"the first is picture {bad[0]}; leave them out")  # fmt: skip
    check_pictures(images)
    if len(images) < config.batch_size:
        raise ValueError(f"images: expected at least one batch of {config.batch_size} pictures, got {len(images)}; "
                         "set a smaller batch_size or give more pictures")  # fmt: skip
    if config.batch_size % distributed.world_size():
        raise ValueError(f"batch_size: expected a multiple of {distributed.world_size()}, the number of processes that "
                         f"share each batch, got {config.batch_size}")  # fmt: skip


def _check_method(method: nn.Module) -> None:
    _check_kind("method", method, nn.Module)
    missing = [name for name in ("encoder", "loss", "after_step") if not hasattr(method, name)]
    if missing:
        raise TypeError(f"method: expected a module with encoder, loss(views) and after_step(), got a "
                        f"{type(method).__name__} without {', '.join(missing)}")  # fmt: skip


def _check_labels(labels: Tensor | None, images: Tensor, method: nn.Module) -> bool:
    """Whether the method takes labels, and if so that they are there."""
    if not getattr(method, "supervised", False):
        return False
    if labels is None:
        raise ValueError(f"labels: {type(method).__name__} learns from labels, and these pictures have none; give "
                         "labelled ones, or choose another method")  # fmt: skip
    _check_kind("labels", labels, Tensor)
    if labels.shape != images.shape[:1] or labels.is_floating_point():
        raise ValueError(f"labels: expected {len(images)} integers [N], got {labels.dtype} {list(labels.shape)}")
    if len(labels.unique()) < 2:
        raise ValueError(f"labels: expected two classes at least, for {type(method).__name__} tells them apart, got "
                         "one; choose another method")  # fmt: skip
    return True


def _check_kind(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected a {kind.__name__}, got {type(value).__name__}")


def new_encoder(config: TrainConfig) -> nn.Module:
    """The config's encoder with fresh random weights: the baseline that shows what training adds. A run starts from it,
    unless its config has an `init`."""
    return _new_method(config, fresh=True).encoder.eval()


def _new_method(config: TrainConfig, *, fresh: bool = False) -> nn.Module:
    """The method as it is before the first step; `fresh` leaves out the weights that the config's `init` would load."""
    _check_kind("config", config, TrainConfig)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
        torch.default_generator.manual_seed(config.seed)  # torch.manual_seed is for GPUs, too, which aren't needed here
        encoder = models.build(config.model, **config.options())
        if config.init is not None and not fresh:
            models.load_weights(encoder, config.init, config.model)  # before a momentum encoder copies them
        return METHODS[config.method](encoder, config)


def _batches(count: int, config: TrainConfig, start: int = 0):
    """The rows of batches, for ever: a new order each epoch, the rest that fills no batch left out. From batch number
    `start` on they are those that a run from 0 would have had."""
    generator = torch.Generator().manual_seed(config.seed)
    number, per_epoch = 0, count // config.batch_size
    while True:
        order = torch.randperm(count, generator=generator)
        for i in range(max(0, start - number), per_epoch):
            yield order[i * config.batch_size : (i + 1) * config.batch_size]
        number += per_epoch


def _feed(data: tuple[Tensor, ...], batches: Iterator[Tensor], device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    """Those rows of each tensor of `data`, on the device, batch by batch.

    What fits moves there once and for all. Else a thread takes the next batch out of memory, or off the disk, while the
    device computes, into pinned memory, from where it is copied while the host goes on.
    """
    if device.type == "cpu" or sum(tensor.nbytes for tensor in data) <= RESIDENT_SHARE * _free_bytes(device):
        data = tuple(tensor.to(device) for tensor in data)
        for rows in batches:
            rows = rows.to(device, non_blocking=True)
            yield tuple(tensor[rows] for tensor in data)
        return
    pin = Tensor.pin_memory if device.type == "cuda" else Tensor.contiguous
    with ThreadPoolExecutor(1, thread_name_prefix="clbook-batches") as thread:
        ahead = None
        for rows in itertools.chain(batches, [None]):
            ready, ahead = ahead, rows is not None and thread.submit(_rows_of, data, rows, pin)
            if ready:
                yield tuple(tensor.to(device, non_blocking=True) for tensor in ready.result())


def _fingerprint(images: Tensor, labels: Tensor | None) -> int:
    """Of some of the pictures and all labels: other ones have another, with next to no exception."""
    some = (torch.arange(256) * (len(images) - 1) // 255).to(images.device)
    start = 0 if labels is None else zlib.crc32(labels.cpu().numpy().tobytes())
    return zlib.crc32(images[some].detach().cpu().contiguous().view(torch.uint8).numpy().tobytes(), start)


def _rows_of(data: tuple[Tensor, ...], rows: Tensor, pin: Callable[[Tensor], Tensor]) -> list[Tensor]:
    return [pin(tensor[rows]) for tensor in data]


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()


def _learning_rate(config: TrainConfig, done: float) -> float:
    """Linear warm-up, then half a cosine down to zero; `done` is the share of the run behind us."""
    if done < config.warmup:
        return config.learning_rate * min(1, max(done, 1e-3) / config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - config.warmup) / (1 - config.warmup)))


@dataclass
class _Run:
    """The parts of a run that change from step to step, to be written down and taken up again."""

    config: TrainConfig
    pictures: list[int]  # their number and their fingerprint
    method: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    views: torch.Generator
    log: "_Log"

    def state(self) -> dict:
        """All that a step depends on; the order of the pictures follows from the seed and the count."""
        self.log.check()
        parts = {name: getattr(self, name).state_dict() for name in ("method", "optimizer", "scaler", "log")}
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        random = {"views": distributed.gather(self.views.get_state()),  # of a group: those of all ranks in a row
                  "torch": distributed.gather(torch.get_rng_state()),
                  "cuda": [distributed.gather(numbers) for numbers in cuda]}  # fmt: skip
        start = {"clbook": STATE_VERSION, "config": asdict(self.config), "pictures": self.pictures}
        return start | {"random": random} | parts

    def restore(self, state: dict) -> None:
        check_state(state, self.config)
        if state["pictures"] != self.pictures:
            raise ValueError(f"state: expected that of a run on these {self.pictures[0]:,} pictures, got one on "
                             f"{state['pictures'][0]:,} others; bring them back, or start a new run")  # fmt: skip
        processes = len(state["random"]["torch"]) // len(torch.get_rng_state())
        if processes != distributed.world_size():
            raise ValueError(f"state: expected that of a run on {distributed.world_size()} process(es), got one on "
                             f"{processes}; go on with as many (torchrun --nproc-per-node {processes})")  # fmt: skip
        if len(state["random"]["views"]) != processes * len(self.views.get_state()):
            raise ValueError(f"state: expected that of a run on {self.views.device.type}, got one on another kind of "
                             "device; go on where it began, or start a new run from its encoder (--init)")  # fmt: skip
        for name in ("method", "optimizer", "scaler", "log"):
            getattr(self, name).load_state_dict(state[name])
        self.views.set_state(_own_numbers(state["random"]["views"]))
        torch.set_rng_state(_own_numbers(state["random"]["torch"]))
        for i, numbers in enumerate(state["random"]["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(_own_numbers(numbers), i)


def _own_numbers(states: Tensor) -> Tensor:
    """This process's state of a generator. A copy: torch 2.14 crashes on one that is a slice of another tensor."""
    return distributed.share(states).cpu().clone()


def check_state(state: dict, config: TrainConfig) -> None:
    """Raise a `ValueError` unless `state` is one that `fit` has made for this config."""
    _check_kind("config", config, TrainConfig)
    parts = {"clbook", "config", "pictures", "random", "method", "optimizer", "scaler", "log"}
    if not isinstance(state, dict) or state.keys() != parts or state["clbook"] != STATE_VERSION:
        found = ", ".join(map(str, state)) if isinstance(state, dict) else type(state).__name__
        raise ValueError(f"state: expected one that fit has made, of version {STATE_VERSION}, got {found:.200}")
    mine = asdict(config)
    other = [name for name in mine.keys() | state["config"].keys() if mine.get(name) != state["config"].get(name)]
    if other:
        name = min(other)
        raise ValueError(f"state: expected that of a run with this config, got one with {name} = "
                         f"{state['config'].get(name)!r} instead of {mine.get(name)!r}; start a new run")  # fmt: skip


class _Log:
    """Counts the steps, knows what share of the run is done, and writes the history."""

    every = 10  # steps a row; in between nothing waits for the device

    def __init__(self, config: TrainConfig, steps_per_epoch: int, measure, encoder: nn.Module, on_row, progress: bool):
        self.config, self.steps_per_epoch = config, steps_per_epoch
        self.measure, self.encoder, self.on_row = measure, encoder, on_row
        self.steps = config.steps or (config.epochs and config.epochs * steps_per_epoch)
        self.count, self.measured, self.losses, self.history = 0, 0, [], []
        self.start = time.monotonic()
        self.views = ()  # of the last batch
        self.bar = tqdm(total=100, disable=not progress, bar_format="{percentage:3.0f}% |{bar}| {elapsed}{postfix}")

    def state_dict(self) -> dict:
        losses = torch.stack([loss.cpu() for loss in self.losses]) if self.losses else torch.empty(0)
        return {"count": self.count, "measured": self.measured, "seconds": time.monotonic() - self.start,
                "losses": distributed.gather(losses), "history": list(self.history)}  # fmt: skip

    def load_state_dict(self, state: dict) -> None:
        self.count, self.measured = state["count"], state["measured"]
        self.losses = list(distributed.share(state["losses"]))  # on the CPU; the next row takes them with the others
        self.history[:] = state["history"]
        self.start = time.monotonic() - state["seconds"]

    def check(self) -> None:
        """Raise where a loss that is in no row yet is not finite: such a state is not worth keeping."""
        if distributed.any_rank(not all(loss.isfinite() for loss in self.losses))[0]:
            raise self.diverged(math.nan, self.history[-1].get("learning_rate", self.config.learning_rate))

    def done(self) -> float:
        """The share of the run that is behind us, 0 to 1."""
        if self.steps:
            return self.count / self.steps
        return distributed.writers(min(1.0, (time.monotonic() - self.start) / (60 * (self.config.minutes or 1))))

    def step(self, loss: Tensor, rate: float) -> bool:
        """Count a step; True if it was the last. The last one always ends in a row."""
        self.count += 1
        self.losses.append(loss)
        done = self.done()  # asked once, for the clock goes on while a row is written
        marks = self._marks(done)
        if marks > self.measured:
            self.measured = marks
            self.write(rate, measured=True)
        elif self.count % self.every == 0 or done >= 1:
            self.write(rate, measured=False)
        return done >= 1

    def _marks(self, done: float) -> int:
        """How often kNN is to have been measured by now; at the end once more than the epochs ask for."""
        if self.config.knn_every is None:
            return int(done * self.config.evaluations)
        return int(self.count / self.steps_per_epoch / self.config.knn_every + 1e-9) + (done >= 1)

    def diverged(self, loss: float, rate: float) -> FloatingPointError:
        shown = torch.cat([view.detach().float().flatten() for view in self.views]) if self.views else torch.zeros(1)
        cause = "most often the learning rate is too high, or the temperature too low: try a third, or twice"
        if not shown.isfinite().all():
            cause = "the views hold NaN or infinity: look at what makes them"
        return FloatingPointError(
            f"the loss is {loss} after step {self.count}, learning rate {rate:.2g}, temperature "
            f"{self.config.temperature:g}; the last batch's views have mean {shown.mean():.3g} and standard deviation "
            f"{shown.std(correction=0):.3g}. The likely cause: {cause}"
        )

    def write(self, rate: float, *, measured: bool) -> None:
        row = {
            "step": self.count,
            "epoch": self.count / self.steps_per_epoch,
            "seconds": time.monotonic() - self.start,
        }
        if self.losses:
            losses = torch.stack([loss.to(self.losses[-1].device) for loss in self.losses])
            row |= {"learning_rate": rate, "loss": distributed.gather(losses).mean().item()}
            self.losses = []
            if not math.isfinite(row["loss"]):
                raise self.diverged(row["loss"], rate)
        found = {}
        if measured and self.measure:
            # Not before these checks, for a monitor may save the encoder. The last update has met no loss yet.
            if not all(tensor.isfinite().all() for tensor in self.encoder.state_dict().values()):
                raise self.diverged(math.nan, rate)
            found = self.measure()
        self.history.append(row | found)
        self.bar.n = round(100 * self.done())
        self.bar.set_postfix(
            {name: f"{value:.3f}" for name, value in self.history[-1].items() if name in ("loss", *found)}
        )
        if self.on_row:
            self.on_row(self.history[-1])
