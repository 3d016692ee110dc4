"""A run folder: what a training leaves on disk. Files appear whole or not at all."""

import csv
import datetime
import io
import json
import math
import os
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from clbook import datasets, evaluation, plots, training
from clbook.datasets import ImageSet
from clbook.training import Fit, TrainConfig

COLUMNS = ("step", "epoch", "seconds", "learning_rate", "loss", "knn")


class RunFolder:
    """`config.json`, `metrics.csv`, `encoder.pt`, `curves.png`, `tsne.png`, `summary.txt` of one run.

    Making it creates the folder and writes `config.json`: a place that can't be written to is found before training.

    Args:
        path: the folder, new or empty; None picks `runs/<data>-<date>-<time>`.
        config: of the run.

    Raises:
        ValueError: the folder holds files already, or can't be created or written to.
    """

    def __init__(self, path: str | Path | None, config: TrainConfig):
        name = Path(config.data.removeprefix("folder:")).name or "folder"
        self.path = Path(path or f"runs/{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            taken = next(self.path.iterdir(), None)
            self.write("config.json", json.dumps(asdict(config), indent=2).encode() + b"\n") if taken is None else None
        except OSError as error:
            raise ValueError(
                f"run folder: can't write to {str(self.path)!r} ({error.strerror}); choose another with --run"
            ) from error
        if taken:
            raise ValueError(
                f"run folder: expected a new or empty folder, {str(self.path)!r} holds {taken.name}; "
                "choose another with --run"
            )

    def write(self, name: str, content: bytes) -> Path:
        """Write a file beside its place, then move it there: a crash or a full disk leaves the old one whole."""
        target, part = self.path / name, self.path / f".{name}.part"
        try:
            part.write_bytes(content)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
        return target

    def add_metrics(self, row: dict[str, float]) -> None:
        """Append a row of the history to `metrics.csv`; it is on disk when this returns."""
        with (self.path / "metrics.csv").open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow({k: v if isinstance(v, int) else f"{v:.6g}" for k, v in row.items()})

    def save_encoder(self, encoder: nn.Module) -> Path:
        """The encoder's state dict: plain tensors on the CPU, `torch.load(path, weights_only=True)` reads it."""
        buffer = io.BytesIO()
        torch.save(
            {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()},
            buffer,
        )
        return self.write("encoder.pt", buffer.getvalue())


def train(config: TrainConfig, path: str | Path | None = None, *, progress: bool = True) -> tuple[str, bool]:
    """Train as `config` says, into a run folder; what comes back is the summary's line, which also
    stands in `summary.txt`, and whether the run was interrupted.

    The curves follow kNN on the validation split; the test split is used once, for the summary. Ctrl-C ends training
    early and saves what was learned so far.

    Raises:
        ValueError: data, configuration or folder of the wrong kind; all of it found before training.
        FloatingPointError: training diverged; the encoder of the last measurement is in the folder.
    """
    bank = datasets.load(config.data, "train", n=config.n, image_size=config.image_size)
    watched, test = (datasets.load(config.data, split, image_size=config.image_size) for split in ("val", "test"))
    training.check(bank.images, config)
    run = RunFolder(path, config)
    few_bank, few_watched = _some(bank, 5000), _some(watched, 1000)

    def monitor(encoder: nn.Module) -> dict[str, float]:
        run.save_encoder(encoder)  # so that no crash loses more than a tenth of the run
        return {} if bank.labels is None else {"knn": evaluation.knn_score(encoder, few_bank, few_watched)}

    fit = training.fit(bank.images, config, monitor=monitor, on_row=run.add_metrics, progress=progress)
    run.save_encoder(fit.encoder)
    scores = {name: evaluation.knn_score(encoder, bank, test) for name, encoder in
              (("trained", fit.encoder), ("pixels", None), ("random encoder", training.new_encoder(config)))
              if bank.labels is not None}  # fmt: skip
    line = _summary(fit, scores, len(test), run.path)
    run.write("summary.txt", line.encode() + b"\n")
    chance = math.log(2 * config.batch_size - 1)
    baselines = {name: score for name, score in scores.items() if name != "trained"}
    run.write("curves.png", plots.curves(fit.history, baselines=baselines, chance=chance).png())
    run.write("tsne.png", _map(fit.encoder, test).png())
    return line, fit.interrupted


def _summary(fit: Fit, scores: dict[str, float], tested: int, path: Path) -> str:
    last = fit.history[-1]
    loss = f"loss {last['loss']:.3f}, " if "loss" in last else ""
    effort = f"{loss}{last['step']} steps, {last['epoch']:.1f} epochs, {last['seconds'] / 60:.1f} minutes"
    if fit.interrupted:
        effort = f"stopped early: {effort}"
    if not scores:
        return f"No labels, so no kNN; {effort}; in {path}"
    return (f"kNN {scores['trained']:.3f} on {tested:,} test pictures (pixels {scores['pixels']:.3f}, random encoder "
            f"{scores['random encoder']:.3f}); {effort}; in {path}")  # fmt: skip


def _some(images: ImageSet, most: int) -> ImageSet:
    """At most so many pictures, at random: a folder's come class by class."""
    return images.subset(torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:most])


def _map(encoder: nn.Module, images: ImageSet) -> plots.Picture:
    some = _some(images, 1000)
    maps = {
        name: plots.tsne(evaluation.encode(e, some.images))
        for name, e in (("pixels", None), ("trained features", encoder))
    }
    return plots.embedding_maps(maps, some.labels, some.classes, images=some.images)
