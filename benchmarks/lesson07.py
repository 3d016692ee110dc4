"""Lesson 07's arms that are too many to train in the lesson: small batches and momentum.

    python benchmarks/lesson07.py [SEED ...]

Writes benchmarks/lesson07.csv, a row an arm and seed: kNN accuracy of h on val, mean loss of the last ten steps.
"""

import csv
import sys
from pathlib import Path

import torch

from clbook import datasets, evaluation, methods, models, training

RESULTS = Path(__file__).with_suffix(".csv")
SETTINGS = {"steps": 300, "image_size": 16, "width": 16, "evaluations": 0, "precision": "fp32", "device": "cpu"}
PICTURES, BATCH, SEEDS = 2000, 16, (0, 1, 2)
FIELDS = ("arm", "batch", "queue", "momentum", "seed", "knn", "loss")
HEADER = f"# {PICTURES} shapes, {SETTINGS}; made by benchmarks/lesson07.py"


def arms():
    """Name -> (class, its options)."""
    return {
        "SimCLR": (methods.SimCLR, {}),
        "MoCo, queue of a batch": (methods.MoCo, {"queue_size": BATCH}),
        **{f"MoCo m={m}": (methods.MoCo, {"queue_size": 512, "momentum": m}) for m in (0.0, 0.9, 0.99, 0.999)},
    }


def train(seed, images, kind, options):
    config = training.TrainConfig.for_data("shapes", seed=seed, batch_size=BATCH, **SETTINGS)
    torch.manual_seed(seed)
    encoder = models.small(config.width)
    return training.fit(images, config, method=kind(encoder, temperature=config.temperature, **options))


def rows(seed):
    pictures = datasets.load("shapes", n=PICTURES, image_size=16, seed=seed)
    val = datasets.load("shapes", "val", image_size=16, seed=seed)
    torch.manual_seed(seed)
    score = evaluation.knn_score(models.small(SETTINGS["width"]).eval(), pictures, val)
    yield dict(zip(FIELDS, ("random encoder", "", "", "", seed, f"{score:.3f}", ""), strict=True))
    for name, (kind, options) in arms().items():
        run = train(seed, pictures.images, kind, options)
        score, loss = evaluation.knn_score(run.encoder, pictures, val), run.history[-1]["loss"]
        slow = "" if kind is methods.SimCLR else options.get("momentum", 0.99)
        found = name, BATCH, options.get("queue_size", ""), slow, seed, f"{score:.3f}", f"{loss:.2f}"
        yield dict(zip(FIELDS, found, strict=True))


def read(path=RESULTS):
    """The rows of a results file, without its header."""
    with open(path, newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def main(seeds):
    with open(RESULTS, "w", newline="") as file:
        print(HEADER, file=file)
        table = csv.DictWriter(file, FIELDS, lineterminator="\n")
        table.writeheader()
        for seed in seeds:
            for row in rows(seed):
                table.writerow(row)
                file.flush()
                print(*row.values(), flush=True)


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or SEEDS)
