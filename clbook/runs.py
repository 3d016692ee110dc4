"""A run folder: what a training leaves on disk. Files appear whole or not at all."""

import csv
import datetime
import io
import json
import math
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path

import torch
from torch import nn

from clbook import datasets, distributed, evaluation, models, plots, reports, training
from clbook.datasets import ImageSet
from clbook.files import write_whole
from clbook.training import Fit, TrainConfig

CHECKPOINTS = ("checkpoint.pt", "checkpoint-before.pt")  # the newest first
COLUMNS = ("step", "epoch", "seconds", "learning_rate", "loss", "knn")
BANK, TESTED = 50_000, 10_000  # pictures for the summary's kNN at most: all of ImageNet would take hours


class RunFolder:
    """`config.json`, `metrics.csv`, `encoder.pt`, `curves.png`, `tsne.png`, `neighbours.png`, `summary.txt`,
    `environment.json` and `report.html`, the page with all of it, of one run; while it is not at its end
    `checkpoint.pt` and the one before; where TensorBoard is installed, `tensorboard/`. A run that diverged leaves
    `diverged.txt` in place of what is made at the end.

    Making it creates the folder and writes `config.json`: a place that can't be written to is found before training.

    Args:
        path: the folder, new or empty; None picks `runs/<data>-<date>-<time>`.
        config: of the run.

    Raises:
        ValueError: the folder holds files already, lies among the pictures, or can't be created or written to.
    """

    def __init__(self, path: str | Path | None, config: TrainConfig):
        name = Path(config.data.removeprefix("folder:")).name
        self.path = Path(path or f"runs/{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}")
        pictures = Path(config.data.removeprefix("folder:")).expanduser().resolve()
        if config.data.startswith("folder:") and self.path.resolve().is_relative_to(pictures):
            raise ValueError(f"run folder: {str(self.path)!r} would lie among the pictures, and its own be taken for "
                             "some of them; choose another with --run")  # fmt: skip
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

    @classmethod
    def reopen(cls, path: str | Path) -> "RunFolder":
        """The folder of a run that is to go on."""
        run = cls.__new__(cls)
        run.path = Path(path)
        return run

    def write(self, name: str, content: bytes) -> Path:
        """Write a file of the run, whole or not at all."""
        return write_whole(self.path / name, content)

    def add_metrics(self, row: dict[str, float]) -> None:
        """Append a row of the history to `metrics.csv`; it is on disk when this returns."""
        with (self.path / "metrics.csv").open("a", newline="") as file:
            _write_rows(file, [row], header=file.tell() == 0)

    def set_metrics(self, rows: list[dict[str, float]]) -> None:
        """`metrics.csv` as it was at a checkpoint: the rows after it will come again."""
        file = io.StringIO(newline="")
        _write_rows(file, rows, header=True)
        self.write("metrics.csv", file.getvalue().encode())

    def save_checkpoint(self, state: dict) -> None:
        """Keep the state of the run; the one before stays beside it, should this one turn out to be unreadable."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        newest, before = (self.path / name for name in CHECKPOINTS)
        if newest.exists():
            os.replace(newest, before)  # whatever happens now, it is there
        self.write(newest.name, buffer.getvalue())

    def load_checkpoint(self, config: TrainConfig) -> dict:
        """The newest state that can be read and is of this run.

        Raises:
            ValueError: there is none; the message says what is wrong with each.
        """
        wrong = []
        for name in CHECKPOINTS:
            try:
                state = torch.load(self.path / name, map_location="cpu", weights_only=True)
                training.check_state(state, config)
                return state
            except FileNotFoundError:
                wrong.append(f"{name} is not there")
            except Exception as error:  # a file that is cut off or no checkpoint at all can raise anything
                wrong.append(f"{name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
        raise ValueError(
            f"resume: expected a checkpoint in {str(self.path)!r}; {'; '.join(wrong)}. A run that came to its end "
            "keeps none; start a new one with --config"
        )

    def drop_checkpoints(self) -> None:
        for name in CHECKPOINTS:
            (self.path / name).unlink(missing_ok=True)

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

    The curves follow kNN on the validation split; the test split is used once, for the summary. Ctrl-C or SIGTERM ends
    training after the step under way, with a checkpoint to go on from and what was learned so far.

    In a group of processes (`distributed.group`) all call this alike. Rank 0 evaluates and writes; the line of the
    others is empty. A signal to any of them ends training on all, after the same step.

    Raises:
        ValueError: data, configuration or folder of the wrong kind; all of it found before training.
        FloatingPointError: training diverged; the message stands in `diverged.txt` too, and the encoder of the last
            measurement is in the folder.
        ConnectionError: another process of the group is gone; the last checkpoint is in the folder.
    """
    data = load_splits(config)
    training.check(data["train"].images, config, data["train"].labels)
    run = RunFolder(path, config) if distributed.is_writer() else None
    return _train(config, data, run, None, progress)


def resume(path: str | Path, *, progress: bool = True) -> tuple[str, bool]:
    """Go on with the run in this folder from its last good checkpoint; what comes back is as from `train`.

    Raises:
        ValueError: no run with a checkpoint there, or other pictures or another number of processes than it had.
    """
    with distributed.writer_first():  # which may still be about to save it
        config, run = read_config(Path(path) / "config.json"), RunFolder.reopen(path)
        state = run.load_checkpoint(config)
    data = load_splits(config)
    elsewhere = replace(config, init=None)  # where it began may be gone by now
    training.check(data["train"].images, elsewhere, data["train"].labels)
    return _train(config, data, run if distributed.is_writer() else None, state, progress)


def read_config(path: str | Path) -> TrainConfig:
    """The configuration in a `config.json`.

    Raises:
        ValueError: no such file, not JSON, or not the fields of a `TrainConfig`.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"config: can't read {str(path)!r} ({error.strerror}); give the config.json of a run"
        ) from error
    except ValueError as error:
        raise ValueError(f"config: {str(path)!r} is no JSON ({error}); give the config.json of a run") from error
    known = {field.name for field in fields(TrainConfig)}
    unknown = sorted(set(values) - known) if isinstance(values, dict) else ["no object"]
    if unknown:
        raise ValueError(f"config: expected the fields of a TrainConfig in {str(path)!r}, got {', '.join(unknown)}")
    try:
        return TrainConfig(**values)
    except TypeError as error:
        raise ValueError(f"config: {str(path)!r}: {error}") from error


def read_metrics(path: str | Path) -> list[dict[str, float]]:
    """The rows of a run's `metrics.csv`, as `training.fit` made them: what was not measured is not in a row.

    Raises:
        ValueError: no such file, or not the columns of one.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    except OSError as error:
        raise ValueError(f"metrics: can't read {str(path)!r} ({error.strerror}); give the folder of a run") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"metrics: expected numbers in {str(path)!r}, got other things ({error})") from error
    if not all("step" in row for row in rows):
        raise ValueError(f"metrics: expected the columns {', '.join(COLUMNS)} in {str(path)!r}, got none named step")
    return [{name: int(value) if name == "step" else value for name, value in row.items()} for row in rows]


def load_encoder(path: str | Path) -> tuple[TrainConfig, nn.Module]:
    """The configuration of the run in a folder, and its encoder, in evaluation mode on the CPU.

    Raises:
        ValueError: no run there, or its `encoder.pt` can't be read or isn't of its `config.json`.
    """
    path = Path(path)
    config = read_config(path / "config.json")
    encoder = models.build(config.model, **config.options())
    models.read_weights(encoder, path / "encoder.pt", config.model)
    return config, encoder.eval()


def load_splits(config: TrainConfig) -> dict[str, ImageSet]:
    """The train, val and test pictures of a run, in this order; n limits those for training."""
    limits = {"train": config.n, "val": None, "test": None}
    with distributed.writer_first():
        return {split: datasets.load(config.data, split, n=n, image_size=config.image_size)
                for split, n in limits.items()}  # fmt: skip


def _train(config, data: dict[str, ImageSet], run: RunFolder | None, state: dict | None,
           progress: bool) -> tuple[str, bool]:  # fmt: skip
    """`run` is None for a process that only computes."""
    bank, test = data["train"], data["test"]
    few_bank, few_watched = _some(bank, 5000), _some(data["val"], 1000)

    def monitor(encoder: nn.Module) -> dict[str, float]:
        run.save_encoder(encoder)
        return {} if bank.labels is None else {"knn": evaluation.knn_score(encoder, few_bank, few_watched)}

    with _Keeper(run, config.checkpoint_minutes) as keeper, _tensorboard(run, state) as add_events:
        stale = state is not None

        def on_row(row: dict[str, float]) -> None:
            nonlocal stale
            if stale:  # not before: `fit` may yet refuse the state
                run.set_metrics(state["log"]["history"])
                stale = False
            run.add_metrics(row)
            add_events(row)

        try:
            fit = training.fit(bank.images, config, labels=bank.labels, monitor=monitor, on_row=on_row,
                               on_step=keeper.after_step, state=state, progress=progress)  # fmt: skip
        except FloatingPointError as error:
            if run:
                run.write("diverged.txt", _bytes(f"{error}\n"))
            raise
    line = ""
    with distributed.writer_first():  # the others wait: where one process ends as interrupted, torchrun ends the rest
        if run:
            run.save_encoder(fit.encoder)
            # The curve begins with the encoder as it was before training.
            baselines = {} if bank.labels is None else {"pixels": evaluation.knn_score(None, few_bank, few_watched)}
            line = _finish(run, fit, bank, test, baselines)
            if not fit.interrupted:
                run.drop_checkpoints()  # not before: a run that is killed over its report can go on to it
    return line, fit.interrupted


def _finish(run: RunFolder, fit: Fit, bank: ImageSet, test: ImageSet, baselines: dict[str, float]) -> str:
    """Look at the test split, which is done here alone, and write what is found; the summary's line."""
    bank, test = (some if len(some) <= most else _some(some, most) for some, most in ((bank, BANK), (test, TESTED)))
    random = training.new_encoder(fit.config).to(models.first_weight(fit.encoder).device)
    scores = {name: evaluation.knn_score(encoder, bank, test) for name, encoder in
              (("trained", fit.encoder), ("pixels", None), ("random encoder", random))
              if bank.labels is not None}  # fmt: skip
    line = _summary(fit, scores, len(test), run.path)
    run.write("summary.txt", _bytes(f"{line}\n"))
    about = reports.environment(fit.config)
    run.write("environment.json", json.dumps(about, indent=2).encode() + b"\n")
    pictures = {
        "curves": plots.curves(fit.history, baselines=baselines, chance=_chance(fit.config)),
        "tsne": _map(fit.encoder, test),
        "neighbours": reports.neighbours(fit.encoder, _some(bank, 5000), _some(test, 5)),
    }
    pngs = {name: picture.png() for name, picture in pictures.items()}
    for name, png in pngs.items():
        run.write(f"{name}.png", png)
    shown = [reports.Shown(*words, pngs[name], pictures[name].alt) for name, words in _WORDS.items()]
    meters = reports.collapse(fit, _some(bank, 1000))
    run.write("report.html", _bytes(reports.page(fit.config, line, about, shown, meters)))
    return line


def _bytes(text: str) -> bytes:
    """UTF-8, of names too that are none: Linux allows them."""
    return text.encode(errors="backslashreplace")


_WORDS = {  # of each picture in the report: its title, and what is below it
    "curves": ("Curves", "kNN is on some pictures of the validation split, that of pixels too."),
    "tsne": ("t-SNE", "Test pictures. Near neighbours mean something; distances and sizes of clusters don't."),
    "neighbours": ("Nearest neighbours", "Test pictures at the left, the nearest of the training pictures beside."),
}


class _Keeper:
    """Saves a checkpoint every so often, and when the run is asked to stop: by Ctrl-C or SIGTERM, after the step under
    way. Asked again two seconds later or more, training ends at once, without a checkpoint; sooner it is the same
    request, for torchrun, a terminal and a scheduler may all pass it on. All processes of a group have a keeper, and
    they agree after each step; where `run` is None nothing is saved."""

    def __init__(self, run: RunFolder | None, minutes: float):
        self.run, self.seconds, self.saved, self.stop, self.handlers = run, 60 * minutes, time.monotonic(), False, {}
        self.asked = 0.0

    def __enter__(self) -> "_Keeper":
        if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else
            self.handlers = {number: signal.signal(number, self._asked) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _asked(self, *_) -> None:
        if self.stop and time.monotonic() - self.asked > 2:
            raise KeyboardInterrupt
        if not self.stop:
            self.stop, self.asked = True, time.monotonic()

    def after_step(self, state) -> bool:
        due = self.run is not None and time.monotonic() - self.saved > self.seconds
        stop, due = distributed.any_rank(self.stop, due)
        if stop or due:
            now = state()  # all ranks have a part in it
            if self.run:
                self.run.save_checkpoint(now)
            self.saved = time.monotonic()
        return stop


@contextmanager
def _tensorboard(run: RunFolder | None, state: dict | None) -> Iterator[Callable[[dict[str, float]], None]]:
    """What adds a row of the history to `tensorboard/` of the run, as events; it is on disk when that returns. Where
    TensorBoard isn't installed, or `run` is None, it does nothing."""
    writer = _summary_writer() if run else None
    if writer is None:
        yield lambda row: None
        return
    # The rows after the checkpoint come again: TensorBoard is told to forget them.
    again = state and state["log"]["history"][-1]["step"] + 1
    with writer(run.path / "tensorboard", purge_step=again) as events:

        def add(row: dict[str, float]) -> None:
            for name in ("learning_rate", "loss", "knn"):
                if name in row:
                    events.add_scalar(name, row[name], row["step"])
            events.flush()  # by itself it would wait for two minutes

        yield add


def _summary_writer() -> type | None:
    try:
        from torch.utils.tensorboard import SummaryWriter  # only here: nothing but training needs it
    except Exception as error:  # a broken installation can raise anything, and is no reason not to train
        if not isinstance(error, ModuleNotFoundError) or error.name != "tensorboard":
            reason = str(error).partition("\n")[0] or type(error).__name__
            print(f"clbook: no TensorBoard logs, for it can't be imported ({reason:.120})", file=sys.stderr)
        return None
    return SummaryWriter


def _chance(config: TrainConfig) -> float | None:
    """The loss of blind guessing, where that is one number."""
    return {"simclr": math.log(2 * config.batch_size - 1), "moco": math.log(config.queue_size + 1)}.get(config.method)


def _write_rows(file, rows: list[dict[str, float]], *, header: bool) -> None:
    writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")
    if header:
        writer.writeheader()
    writer.writerows({k: v if isinstance(v, int) else f"{v:.6g}" for k, v in row.items()} for row in rows)


def _summary(fit: Fit, scores: dict[str, float], tested: int, path: Path) -> str:
    last = fit.history[-1]
    loss = f"loss {last['loss']:.3f}, " if "loss" in last else ""
    effort = f"{loss}{last['step']} steps, {last['epoch']:.1f} epochs, {last['seconds'] / 60:.1f} minutes"
    if fit.interrupted:
        again = f"clbook train --resume {shlex.quote(str(path))}"
        if 1 < distributed.world_size() == int(os.environ.get("LOCAL_WORLD_SIZE", distributed.world_size())):
            again = f"torchrun --nproc-per-node {distributed.world_size()} -m -- {again}"
        on = f", `{again}` goes on" if any((path / name).exists() for name in CHECKPOINTS) else ""
        effort = f"stopped early{on}: {effort}"
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
