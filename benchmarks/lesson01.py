"""What lesson 01 shows of more runs than it has time for: kNN on `val` over the smallest crop, and with one set of
parameters for the whole batch. Some two minutes on one thread.

    python benchmarks/lesson01.py          writes benchmarks/lesson01.csv
"""

import csv
from dataclasses import asdict
from pathlib import Path

import torch

from clbook import augmentations as ops
from clbook import datasets, evaluation, losses, methods, models, training

RESULTS = Path(__file__).with_suffix(".csv")
SEEDS = (0, 1)
CROPS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
SIZE, N = 16, 2000
FACTORS = ("shape", "color", "background")


def config(seed: int, **changes) -> training.TrainConfig:
    """The lesson's."""
    quick = {"steps": 300, "image_size": SIZE, "width": 16, "evaluations": 0, "seed": seed}
    return training.TrainConfig.for_data("shapes", **quick | changes)


def settings() -> str:
    """What decides the results and isn't a default, in one line; the file opens with it."""
    defaults = asdict(training.TrainConfig()) | {"data": None}
    apart = "device", "precision", "seed"  # which don't decide them, or of which there are several
    told = {name: value for name, value in asdict(config(0)).items() if value != defaults[name] and name not in apart}
    told |= {"pictures": N, "gray of the arms": 0.2}
    return "# " + "; ".join(f"{name} {value}" for name, value in told.items())


class OneViewAtATime(methods.SimCLR):
    """SimCLR with a pass of its own for each view, so that batch-norm sees them apart."""

    def loss(self, views):
        z1, z2 = (self.head(self.encoder(view)) for view in views)
        return losses.nt_xent(z1, z2, temperature=self.temperature)


def draw(n: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """The lesson's parameters for each of n pictures."""

    def between(low, high):
        return low + (high - low) * torch.rand(n, generator=generator)

    side = (SIZE * between(0.8, 1.0).sqrt()).round()
    top, left = ((between(0, 1) * (SIZE - side + 1)).floor() for _ in range(2))
    return {
        "box": torch.stack([top, left, side, side], 1).long(),
        "flip": between(0, 1) < 0.5,
        "brightness": between(0.5, 1.5),
        "contrast": between(0.5, 1.5),
        "saturation": between(0.3, 1.7),
        "hue": between(-0.5, 0.5),
        "gray": between(0, 1) < 0.2,
    }


def view(images: torch.Tensor, p: dict[str, torch.Tensor]) -> torch.Tensor:
    made = ops.resized_crop(images, p["box"], SIZE, p["flip"])
    made = ops.adjust_contrast(ops.adjust_brightness(made, p["brightness"]), p["contrast"])
    made = ops.adjust_hue(ops.adjust_saturation(made, p["saturation"]), p["hue"])
    return torch.where(p["gray"][:, None, None, None], ops.rgb_to_gray(made), made)


def views(shared: bool):
    """(batch, generator) to two views; `shared`: with one set of parameters for all pictures of a view."""

    def make(batch, generator):
        n = len(batch)
        sets = [draw(1 if shared else n, generator) for _ in range(2)]
        return tuple(view(batch, {k: v.expand(n, *v.shape[1:]) for k, v in p.items()}) for p in sets)

    return make


def judge(encoder, train, val) -> list[float]:
    bank, queries = (evaluation.encode(encoder, s.images) for s in (train, val))
    found = [evaluation.knn_accuracy(bank, train.factors[f], queries, val.factors[f]) for f in FACTORS]
    return [round(accuracy, 3) for accuracy in found]


def runs(seed: int):
    """Rows: experiment, setting, seed, loss, kNN on each factor."""
    train, val = (datasets.load("shapes", s, n=n, image_size=SIZE, seed=seed) for s, n in (("train", N), ("val", 1000)))

    def row(experiment, setting, run):
        return [experiment, setting, seed, round(run.history[-1]["loss"], 2), *judge(run.encoder, train, val)]

    for passes, kind in ("one pass", methods.SimCLR), ("a pass a view", OneViewAtATime):
        for name in ("each its own", "one for all"):
            c = config(seed)
            torch.manual_seed(seed)
            method = kind(models.build("small", width=c.width), temperature=c.temperature)
            run = training.fit(train.images, c, method=method, views=views(name == "one for all"))
            yield row("parameters", f"{name}, {passes}", run)
    for crop in CROPS:
        yield row("crop", crop, training.fit(train.images, config(seed, crop=crop)))


def main() -> None:
    rows = []
    for seed in SEEDS:
        for row in runs(seed):
            rows.append(row)
            print(*row, flush=True)
    write(rows)


def write(rows: list[list]) -> None:
    with RESULTS.open("w", newline="") as file:
        file.write(settings() + "\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["experiment", "setting", "seed", "loss", *FACTORS])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
