"""Lesson 03's curve over the temperature: one short run for each τ and seed, on small scenes.

    python benchmarks/lesson03.py [--seeds 0 1 2] [--taus 0.01 0.1 2.0]

Writes `lesson03.csv` beside this file, its settings in the first lines. Of the features h of `val`: kNN, uniformity,
and the mean cosine of two pictures of one shape (tolerance) and of different shapes (others); of z, which the loss
compares, the mean cosine of all pairs. The explorer `tolerance` holds the means of these rows. Some two CPU minutes.
"""

import argparse
import csv
import statistics
from pathlib import Path

import torch
import torch.nn.functional as F

from clbook import datasets, evaluation, training

RESULTS = Path(__file__).with_suffix(".csv")
TAUS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
SEEDS = (0, 1, 2)  # of pictures, weights, views and order
PICTURES = {"n": 2000, "image_size": 16}
SETTINGS = {"steps": 300, "image_size": 16, "width": 16, "evaluations": 0, "precision": "fp32"}  # batches of 64
MEASURED = ("knn", "uniformity", "tolerance", "others", "z_cosine")


def measure(tau: float, seed: int) -> dict[str, float]:
    """One run, as the lesson makes them, and what is measured of it on `val`."""
    train = datasets.load("shapes", seed=seed, **PICTURES)
    val = datasets.load("shapes", "val", n=1000, image_size=16, seed=seed)
    run = training.fit(train.images, training.TrainConfig.for_data("shapes", temperature=tau, seed=seed, **SETTINGS))
    h = evaluation.encode(run.encoder, val.images)  # [1000, 128]
    with torch.no_grad():
        z = run.method.head.cpu()(h)  # [1000, 128]
    return {
        "knn": evaluation.knn_score(run.encoder, train, val),
        "uniformity": evaluation.uniformity(h),
        **by_shape(h, val.labels),
        "z_cosine": evaluation.collapse(z).mean_cosine,
    }


def by_shape(h: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Mean cosine over pairs of one shape (tolerance), and over pairs of two."""
    h = F.normalize(h.double(), dim=1)
    cosines, same = h @ h.T, labels[:, None] == labels  # [N, N]
    pairs = ~torch.eye(len(h), dtype=torch.bool)
    return {"tolerance": cosines[same & pairs].mean().item(), "others": cosines[~same].mean().item()}


def means(rows: list[dict[str, str]]) -> list[tuple[float, ...]]:
    """(τ, then the mean over the seeds of each thing measured), by rising τ: what the explorer holds."""
    taus = sorted({float(row["tau"]) for row in rows})
    return [
        (tau, *(round(statistics.mean(float(r[name]) for r in rows if float(r["tau"]) == tau), 3) for name in MEASURED))
        for tau in taus
    ]


def read(path: Path = RESULTS) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def main(seeds: list[int], taus: list[float], path: Path = RESULTS) -> None:
    with path.open("w", newline="") as file:
        file.write(f"# shapes, {PICTURES}, val n=1000; TrainConfig.for_data('shapes', {SETTINGS})\n")
        file.write("# of h: knn (k = 20), uniformity, cosine within a shape (tolerance), between (others)\n")
        file.write("# of z: mean cosine of all pairs (z_cosine)\n")
        writer = csv.DictWriter(file, ["tau", "seed", *MEASURED], lineterminator="\n")
        writer.writeheader()
        for seed in seeds:
            for tau in taus:
                found = measure(tau, seed)
                writer.writerow({"tau": tau, "seed": seed} | {name: f"{found[name]:.4f}" for name in MEASURED})
                file.flush()
    for row in means(read(path)):
        print(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--taus", type=float, nargs="+", default=list(TAUS))
    options = parser.parse_args()
    main(options.seeds, options.taus)
