"""How accurate in how many minutes: ours beside lightly's SimCLR loop, on photographs and a processor.

    python benchmarks/fixed_budget.py --data folder:PATH      # the pictures of CIFAR-10; or --data cifar10, a download

Each run has a seed of its own: three of 2, 5 and 10 minutes of training each, one of 30; the table has their means.
Both have the same encoder, cores and pictures; the learning rate falls to zero at the end of the budget. Ours is what
`clbook train` does with the recipe for photographs. lightly's is its SimCLR benchmark for CIFAR-10 as far as a budget
allows: its views, made by two workers from PIL pictures, its loss at its τ = 0.5, its head, and SGD with momentum at
its rate, 0.06 for each 128 pictures of a batch. Measured is kNN (k = 20, cosine, τ = 0.07) of the features h, the test
pictures among the training pictures. What was tuned was tuned on the validation split.

Rows stand in `fixed_budget.csv`; those there are not measured again, so the command goes on where it stopped. A row
that other programs disturbed (more than 3 % of the machine's work) is left out, and comes again with the next call. The
table goes to RESULTS.md, the curve to `fixed_budget.png`.

    python benchmarks/fixed_budget.py --data folder:PATH --try steps=848 temperature=0.2

tries another recipe instead, by its validation split alone, and adds a line to `fixed_budget_tried.csv`.
"""

import argparse
import csv
import json
import math
import os
import resource
import statistics
import sys
import time
import warnings
from pathlib import Path

import measure
import torch
from peers import ABOUT, RESULTS, Pictures
from torch import nn

from clbook import datasets, evaluation, models, plots, training
from clbook.datasets import ImageSet
from clbook.files import write_whole

HERE = Path(__file__).parent
ROWS = HERE / "fixed_budget.csv"
TRIED = HERE / "fixed_budget_tried.csv"
COLUMNS = ("arm", "minutes", "seed", "encoder", "pictures", "steps", "validation", "test", "disturbed", "threads")
SEEDS = {2: (0, 1, 2), 5: (0, 1, 2), 10: (0, 1, 2), 30: (0,)}  # of each budget in minutes
AIMS = {5: 0.62, 10: 0.66, 30: 0.72}
MOST_DISTURBED = 0.03  # of the machine's time, by others
BATCH = 256


def encoder_options(minutes: float) -> dict:
    """The same for both: a longer run has use for a larger one."""
    return {"model": "conv4", "width": 32 if minutes <= 10 else 64}


def ours(train: ImageSet, minutes: float, seed: int) -> tuple[nn.Module, int]:
    config = training.TrainConfig.for_data("cifar10", minutes=minutes, seed=seed, evaluations=0, device="cpu",
                                           batch_size=BATCH, **encoder_options(minutes))  # fmt: skip
    run = training.fit(train.images, config)
    return run.encoder, run.history[-1]["step"]


def theirs(train: ImageSet, minutes: float, seed: int) -> tuple[nn.Module, int]:
    """lightly's loop, as its benchmark for CIFAR-10 has it, but that a clock ends it."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    torch.manual_seed(seed)
    options = encoder_options(minutes)
    encoder = models.build(options["model"], width=options["width"])
    dim = models.feature_dim(encoder)
    model = nn.Sequential(encoder, SimCLRProjectionHead(dim, dim, 128)).train()
    transform = SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0.0)
    pictures = Pictures(train.images, transform)
    criterion = NTXentLoss()
    rate = 0.06 * BATCH / 128
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=5e-4)
    loader = torch.utils.data.DataLoader(pictures, batch_size=BATCH, shuffle=True, drop_last=True, num_workers=2,
                                         persistent_workers=True)  # fmt: skip
    started, steps = time.monotonic(), 0
    while True:
        for (x0, x1), _ in loader:
            done = (time.monotonic() - started) / (60 * minutes)
            if done >= 1:
                return Normalized(encoder.eval()), steps
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * done))
            loss = criterion(model(x0), model(x1))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            steps += 1


class Normalized(nn.Module):
    """lightly's views are normalized as ImageNet's are, so its encoder wants pictures that are."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.encoder((images - self.mean) / self.std)


ARMS = {"ours": ours, "lightly": theirs}


def row(arm: str, minutes: float, seed: int, data: dict[str, ImageSet]) -> dict:
    started = busy()
    encoder, steps = ARMS[arm](data["train"], minutes, seed)
    mine, all_of_it = (after - before for after, before in zip(busy(), started, strict=True))
    scores = {split: evaluation.knn_score(encoder, data["train"], data[split], k=20) for split in ("val", "test")}
    options = encoder_options(minutes)
    return {"arm": arm, "minutes": f"{minutes:g}", "seed": seed, "encoder": f"{options['model']} {options['width']}",
            "pictures": steps * BATCH, "steps": steps, "validation": f"{scores['val']:.4f}",
            "test": f"{scores['test']:.4f}", "disturbed": f"{max(0, 1 - mine / all_of_it):.4f}",
            "threads": torch.get_num_threads()}  # fmt: skip


def busy() -> tuple[float, float]:
    """Seconds of processor time so far: of this process and its children, and of the machine (Linux; else the same)."""
    mine = sum(getattr(resource.getrusage(who), name) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
               for name in ("ru_utime", "ru_stime"))  # fmt: skip
    stat = Path("/proc/stat")
    if not stat.exists():
        return mine, mine
    user, nice, system, _idle, _wait, irq, soft = map(int, stat.read_text().split()[1:8])
    return mine, (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def attempt(changes: dict, data: dict[str, ImageSet]) -> dict:
    """A run with another recipe, as the validation split sees it."""
    limits = {} if {"steps", "epochs"} & changes.keys() else {"minutes": 2}
    settings = {"evaluations": 0, "device": "cpu", "batch_size": BATCH} | limits | changes
    run = training.fit(data["train"].images, training.TrainConfig.for_data("cifar10", **settings))
    last = run.history[-1]
    return {"changes": " ".join(f"{name}={value}" for name, value in sorted(changes.items())), "steps": last["step"],
            "seconds": f"{last['seconds']:.0f}", "loss": f"{last['loss']:.3f}",
            "validation": f"{evaluation.knn_score(run.encoder, data['train'], data['val'], k=20):.4f}"}  # fmt: skip


def change(text: str) -> tuple[str, int | float | str]:
    """ "name=value" of the command line."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


# --- what was measured ------------------------------------------------------------------------------------


def read(path: Path = ROWS) -> list[dict]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def add(new: dict, path: Path = ROWS) -> None:
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(new), lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(new)


def missing(rows: list[dict]) -> list[tuple[str, int, int]]:
    """What is still to be measured, the short budgets first, the arms by turns."""
    have = {(row["arm"], float(row["minutes"]), int(row["seed"])) for row in rows}
    wanted = [(arm, minutes, seed) for minutes, seeds in SEEDS.items() for seed in seeds for arm in ARMS]
    return [key for key in wanted if (key[0], float(key[1]), key[2]) not in have]


def found(rows: list[dict], arm: str, minutes: float) -> list[dict]:
    return [row for row in rows if row["arm"] == arm and float(row["minutes"]) == minutes]


def report(rows: list[dict], pixels: float) -> list[dict]:
    """The table's rows, a budget and an arm each, and what is aimed at."""
    out = [{"what": "pixels", "measured": f"{pixels:.3f}"}]
    for minutes in SEEDS:
        test = {arm: [float(row["test"]) for row in found(rows, arm, minutes)] for arm in ARMS}
        for arm, scores in test.items():
            if scores:
                one = found(rows, arm, minutes)[0]
                seen = statistics.mean(float(row["pictures"]) for row in found(rows, arm, minutes))
                spread = f" ({min(scores):.3f} to {max(scores):.3f}, {len(scores)} seeds)" if len(scores) > 1 else ""
                out.append({"what": f"{minutes} min, {one['encoder']}: {arm}, {seen / 1e6:.2f} million pictures seen",
                            "measured": f"{statistics.mean(scores):.3f}{spread}"})  # fmt: skip
        if all(test.values()):
            behind = min(test["ours"]) - max(test["lightly"])
            out.append(measure.claim(f"{minutes} min: our worst seed above lightly's best by", behind, 0, ""))
        if test["ours"] and minutes in AIMS:
            out.append(measure.claim(f"{minutes} min: ours", statistics.mean(test["ours"]), AIMS[minutes], ""))
    return out


def curve(rows: list[dict], pixels: float) -> plots.Picture:
    lines = {}
    for arm in ARMS:
        scores = {m: [float(row["test"]) for row in found(rows, arm, m)] for m in SEEDS}
        lines[arm] = [(m, statistics.mean(s), min(s), max(s)) for m, s in scores.items() if s]
    budgets = sorted({point[0] for line in lines.values() for point in line})
    lines["pixels"] = [(m, pixels, pixels, pixels) for m in budgets]
    shown = {name: line for name, line in lines.items() if line}
    return plots.interval_curves(shown, xlabel="minutes of training", ylabel="kNN on the test pictures", log_x=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10", help="folder:PATH of its pictures, or cifar10, a download")
    parser.add_argument("--rows", type=int, metavar="N", help="stop after so many new rows")
    parser.add_argument("--most", type=float, metavar="MINUTES", default=30, help="no longer budget than this (30)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--try", dest="changes", nargs="+", metavar="NAME=VALUE", help="settings of another recipe")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")  # of lightly about its dependencies
    if not options.changes and not measure.peer("lightly.loss"):
        print("fixed_budget: lightly is not installed; pip install -c constraints.txt -e '.[bench]'")
        return 1
    data = {split: datasets.load(options.data, split) for split in ("train", "val", "test")}
    if options.changes:
        add(new := attempt(dict(map(change, options.changes)), data), TRIED)
        print(new)
        return 0
    todo = [key for key in missing(read()) if key[1] <= options.most][: options.rows]
    for arm, minutes, seed in todo:
        new = row(arm, minutes, seed, data)
        kept = float(new["disturbed"]) <= MOST_DISTURBED
        print(new if kept else f"left out, the machine was busy with other things: {new}", flush=True)
        if kept:
            add(new)
    rows, pixels = read(), evaluation.knn_score(None, data["train"], data["test"], k=20)
    about = " ".join(__doc__.split("\n\n")[2].split())
    text = f"{about}\n\n{measure.table(report(rows, pixels))}\n\n{measure.machine(options.threads)}"
    print(text)
    measure.write(RESULTS, {"fixed_budget": text}, ABOUT)
    if rows:
        write_whole(HERE / "fixed_budget.png", curve(rows, pixels).png())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
