"""Train an encoder without labels: one frozen configuration, one function."""

import math
import time
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from clbook import models
from clbook.augmentations import TwoViews, check_pictures
from clbook.methods import SimCLR


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run; `clbook train --help` is made from it."""

    data: str = _option("shapes", "shapes, digits, folder:PATH, or a download: cifar10, cifar100, stl10, ...")
    n: int | None = _option(None, "pictures to train on; all unless told")
    image_size: int = _option(32, "side of a view in pixels")
    model: str = _option("small", f"encoder: {', '.join(models.ENCODERS)}")
    width: int | None = _option(None, "channels of small's first layer, 32 unless told; features are 8 times as many")
    temperature: float = _option(0.2, "of the loss, > 0")
    batch_size: int = _option(256, "pictures a step; each has the others as negatives")
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
    precision: str = _option("auto", "auto, fp32, bf16; auto is bf16 where the device computes in it")
    evaluations: int = _option(10, "times that kNN is measured on the way")

    def __post_init__(self):
        for name, kind in typing.get_type_hints(type(self)).items():
            value = getattr(self, name)
            wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
            if wrong and not (type(value) is int and isinstance(0.0, kind)):
                raise TypeError(f"{name}: expected {getattr(kind, '__name__', kind)}, got {value!r}")
        if sum(limit is not None for limit in (self.steps, self.epochs, self.minutes)) > 1:
            raise ValueError(f"expected one of steps, epochs and minutes, got steps={self.steps}, "
                             f"epochs={self.epochs}, minutes={self.minutes}")  # fmt: skip
        for name in ("n", "temperature", "learning_rate", "steps", "epochs", "minutes", "image_size", "width"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and (name != "temperature" or value < math.inf)):
                raise ValueError(f"{name}: expected a number > 0, got {value}")
        for name in ("weight_decay", "seed", "evaluations"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected a number >= 0, got {getattr(self, name)}")
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
        config = RECIPES.get(data, {}) | changes
        if config.get("model", "small") != "small" and "width" not in changes:
            config.pop("width", None)  # the recipe's is that of `small`
        return cls(data=data, **config)

    def views(self) -> TwoViews:
        """The random views that the configuration asks for."""
        return TwoViews(self.image_size, (self.crop, 1.0), self.flip, self.rotation, self.brightness, self.contrast,
                        self.saturation, self.hue, self.jitter, self.gray)  # fmt: skip


_STRONG_COLORS = {"brightness": 0.5, "contrast": 0.5, "saturation": 0.7, "hue": 0.5, "gray": 0.5}
_QUICK = {"width": 24, "batch_size": 64, "learning_rate": 2e-3, "temperature": 0.1}
RECIPES = {
    "shapes": {"crop": 0.8, **_QUICK, **_STRONG_COLORS},
    "digits": {"crop": 0.7, "flip": 0.0, **_QUICK, **_STRONG_COLORS},
}


@dataclass
class Fit:
    """What a run leaves in memory."""

    config: TrainConfig
    encoder: nn.Module
    method: nn.Module
    history: list[dict[str, float]]  # rows: step, epoch, seconds, learning_rate, loss, and what the monitor measured
    interrupted: bool = False


@torch.enable_grad()  # and afterwards as it was, even if Ctrl-C came while a monitor had switched it off
def fit(images: Tensor, config: TrainConfig = TrainConfig(), *, method: nn.Module | None = None,
        views: Callable[[Tensor, torch.Generator], tuple[Tensor, ...]] | None = None,
        monitor: Callable[[nn.Module], dict[str, float]] | None = None,
        on_row: Callable[[dict[str, float]], None] | None = None, progress: bool = False) -> Fit:  # fmt: skip
    """Train an encoder on pictures alone; labels never come in.

    Args:
        images: [N, 3, H, W], uint8 or float in [0, 1]; at least one batch of them.
        config: the run. A number of steps or epochs gives the same result each time (on one machine and thread count);
            minutes stop by the clock, and the learning rate follows it.
        method: trained in place of the new SimCLR that the config asks for: a module with an `encoder`, a `loss(views)`
            and an `after_step()`, which is called once the weights have moved. It brings its own initial weights.
        views: called as views(batch, generator) in place of `config.views()`; its views go to `method.loss`.
        monitor: called with the encoder before the first step and `config.evaluations` times on the way, the last
            time at the end; what it returns joins the history. Give it the validation split.
        on_row: called with each new row of the history, some every ten steps.
        progress: show a progress bar.

    Returns:
        A `Fit`. Ctrl-C ends the run early and returns what was learned so far, with `interrupted` set.

    Raises:
        ValueError: pictures of the wrong shape, NaN or not in [0, 1], fewer than a batch.
        TypeError: pictures that aren't a uint8 or float tensor, a config that isn't a `TrainConfig`, a method without
            one of its three parts, something to call that can't be called.
        FloatingPointError: the loss is no longer a number; the message names the step and the likely cause.
    """
    if method is None:
        check(images, config)
        method = _new_method(config)
    else:
        _check_images(images, config)
        _check_method(method)
    for name, function in (("views", views), ("monitor", monitor), ("on_row", on_row)):
        if function is not None and not callable(function):
            raise TypeError(f"{name}: expected a function or None, got {type(function).__name__}")
    device = find_device(config.device)
    precision = find_precision(config.precision, device)
    method = method.to(device, memory_format=torch.channels_last).train()
    learned = [p for p in method.parameters() if p.requires_grad]  # a momentum encoder's are moved, not learned
    optimizer = torch.optim.AdamW(learned, config.learning_rate, weight_decay=config.weight_decay)
    generator = torch.Generator(device).manual_seed(config.seed)
    views = views or config.views()
    log = _Log(
        config,
        len(images) // config.batch_size,
        lambda: monitor(method.encoder) if monitor else {},
        on_row,
        progress,
    )
    result = Fit(config, method.encoder, method, log.history)
    try:
        for batch in _batches(images, config, device):
            rate = _learning_rate(config, log.done())
            for group in optimizer.param_groups:
                group["lr"] = rate
            made = tuple(v.to(memory_format=torch.channels_last) for v in views(batch, generator))
            try:
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                    loss = method.loss(made)
            except ValueError as error:  # the losses refuse NaN where that costs nothing, which is on the CPU
                if log.count == 0:
                    raise
                raise log.diverged(math.nan, rate) from error
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            method.after_step()
            if log.step(loss.detach(), rate):
                break
    except KeyboardInterrupt:
        result.interrupted = True
    finally:
        log.bar.close()
        method.eval()
    return result


def find_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is CUDA, else Apple's MPS, else the CPU."""
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    _check_kind("device", name, str)
    if name == "auto":
        name = next(device for device, there in have.items() if there)
    if not have.get(name.split(":")[0]):
        there = ", ".join(device for device, there in have.items() if there)
        raise ValueError(f"device: expected auto or one of this machine's ({there}), got {name!r}")
    return torch.device(name)


def find_precision(name: str, device: torch.device) -> str:
    """ "fp32" or "bf16"; "auto" is bf16 where the device computes in it (a CPU without such instructions crawls)."""
    _check_kind("device", device, torch.device)
    if name not in ("auto", "fp32", "bf16"):
        raise ValueError(f"precision: expected auto, fp32 or bf16, got {name!r}")
    if name != "auto":
        return name
    if device.type == "cpu":
        return (
            "bf16" if any(torch.cpu.get_capabilities().get(c) for c in ("avx512_bf16", "amx_bf16", "bf16")) else "fp32"
        )
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def check(images: Tensor, config: TrainConfig) -> None:
    """Raise a `ValueError` or `TypeError` for whatever would keep `fit` from starting."""
    _check_images(images, config)
    find_precision(config.precision, find_device(config.device))
    models.feature_dim(new_encoder(config), config.image_size)  # a VGG can't take small pictures


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


def _check_method(method: nn.Module) -> None:
    _check_kind("method", method, nn.Module)
    missing = [name for name in ("encoder", "loss", "after_step") if not hasattr(method, name)]
    if missing:
        raise TypeError(f"method: expected a module with encoder, loss(views) and after_step(), got a "
                        f"{type(method).__name__} without {', '.join(missing)}")  # fmt: skip


def _check_kind(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected a {kind.__name__}, got {type(value).__name__}")


def new_encoder(config: TrainConfig) -> nn.Module:
    """The encoder as it is before the first step: the baseline that shows what training adds."""
    return _new_method(config).encoder.eval()


def _new_method(config: TrainConfig) -> SimCLR:
    _check_kind("config", config, TrainConfig)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
        torch.manual_seed(config.seed)
        options = {} if config.width is None else {"width": config.width}
        return SimCLR(models.build(config.model, **options), temperature=config.temperature)


def _batches(images: Tensor, config: TrainConfig, device: torch.device):
    """Batches for ever: a new order each epoch, the rest that fills no batch left out."""
    order = torch.Generator().manual_seed(config.seed)
    while True:
        for rows in torch.randperm(len(images), generator=order).split(config.batch_size):
            if len(rows) == config.batch_size:
                yield images[rows].to(device)


def _learning_rate(config: TrainConfig, done: float) -> float:
    """Linear warm-up, then half a cosine down to zero; `done` is the share of the run behind us."""
    if done < config.warmup:
        return config.learning_rate * min(1, max(done, 1e-3) / config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - config.warmup) / (1 - config.warmup)))


class _Log:
    """Counts the steps, knows what share of the run is done, and writes the history."""

    every = 10  # steps a row; in between nothing waits for the device

    def __init__(self, config: TrainConfig, steps_per_epoch: int, measure, on_row, progress: bool):
        self.config, self.steps_per_epoch, self.measure, self.on_row = (
            config,
            steps_per_epoch,
            measure,
            on_row,
        )
        self.steps = config.steps or (config.epochs and config.epochs * steps_per_epoch)
        self.count, self.measured, self.losses, self.history = 0, 0, [], []
        self.start = time.monotonic()
        self.bar = tqdm(total=100, disable=not progress, bar_format="{percentage:3.0f}% |{bar}| {elapsed}{postfix}")
        self.write(0.0, measured=True)

    def done(self) -> float:
        """The share of the run that is behind us, 0 to 1."""
        if self.steps:
            return self.count / self.steps
        return min(1.0, (time.monotonic() - self.start) / (60 * (self.config.minutes or 1)))

    def step(self, loss: Tensor, rate: float) -> bool:
        """Count a step; True if it was the last. The last one always ends in a row."""
        self.count += 1
        self.losses.append(loss)
        done = self.done()  # asked once, for the clock goes on while a row is written
        if done * self.config.evaluations >= self.measured + 1:
            self.measured = int(done * self.config.evaluations)
            self.write(rate, measured=True)
        elif self.count % self.every == 0 or done >= 1:
            self.write(rate, measured=False)
        return done >= 1

    def diverged(self, loss: float, rate: float) -> FloatingPointError:
        return FloatingPointError(
            f"the loss is {loss} after step {self.count}, learning rate {rate:.2g}. Most often the learning rate is "
            "too high, or the temperature too low: try a third, or twice"
        )

    def write(self, rate: float, *, measured: bool) -> None:
        row = {
            "step": self.count,
            "epoch": self.count / self.steps_per_epoch,
            "seconds": time.monotonic() - self.start,
        }
        if self.losses:
            row |= {"learning_rate": rate, "loss": torch.stack(self.losses).mean().item()}
            self.losses = []
            if not math.isfinite(row["loss"]):
                raise self.diverged(row["loss"], rate)
        found = self.measure() if measured else {}  # not before the check: a monitor may save the encoder
        self.history.append(row | found)
        self.bar.n = round(100 * self.done())
        self.bar.set_postfix(
            {name: f"{value:.3f}" for name, value in self.history[-1].items() if name in ("loss", *found)}
        )
        if self.on_row:
            self.on_row(self.history[-1])
