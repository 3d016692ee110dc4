"""Lesson 09's label-efficiency curves, over seeds of pictures, weights, views, order and labelled subset.

python benchmarks/lesson09.py [SEED ...]     writes lesson09.csv beside this file; about a minute a seed on one core

Nothing is chosen here, so the validation split only judges: one strength of the probe, one learning rate, the last
step. Each seed trains its own encoders without labels, on shapes and on scattered digits.
"""

import csv
import sys
from dataclasses import replace
from pathlib import Path

import torch

from clbook import datasets, evaluation, training

RESULTS = Path(__file__).with_name("lesson09.csv")
COLUMNS = ("data", "arm", "per_class", "seed", "accuracy")
SIDE, WIDTH, PICTURES, STEPS = 24, 16, 3000, 400  # of pretraining
STRENGTH, RATE, TUNED_STEPS, SCRATCH_STEPS = 1.0, 3e-3, 100, 150
BUDGETS = {"shapes": (1, 2, 5, 10, 50), "digits": (5, 50)}  # labelled pictures a class
SETTINGS = (
    f"{SIDE} px, width {WIDTH}, {STEPS} steps of 64 on {PICTURES} shapes or 1257 scattered digits; "
    f"probe C = {STRENGTH:g}; fine-tuning {TUNED_STEPS} steps, training from scratch {SCRATCH_STEPS} steps of at most "
    f"64 pictures, AdamW {RATE:g}, on views; judged on val"
)


def main(seeds: list[int]) -> None:
    rows = [row for seed in seeds for row in measure(seed)]
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# {SETTINGS}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((*row[:4], f"{row[4]:.3f}") for row in rows)


def measure(seed: int):
    """Rows (data, arm, per_class, seed, accuracy) of one seed."""
    data = {"shapes": load_shapes(seed), "digits": load_digits(seed)}
    configs = {
        name: training.TrainConfig.for_data(name, steps=STEPS, image_size=SIDE, width=WIDTH, evaluations=0, seed=seed)
        for name in data
    }
    fresh = training.new_encoder(configs["shapes"])
    learned = {name: training.fit(data[name][0].images, config).encoder for name, config in configs.items()}
    for name, (train, val) in data.items():
        sources = {source: learned[source] for source in (["shapes"] if name == "shapes" else ["shapes", "digits"])}
        view = configs[name].views().one
        features = {
            source: [evaluation.encode(encoder, s.images) for s in (train, val)]
            for source, encoder in {"pixels": None, "random": fresh, **sources}.items()
        }
        for budget in BUDGETS[name]:
            rows = evaluation.balanced_subset(train.labels, budget, seed=seed)
            few, y = train.subset(rows), train.labels[rows]
            for source, (h, h_val) in features.items():
                judge = (h_val, val.labels)
                probe = evaluation.linear_probe_accuracy((h[rows], y), judge, judge, strengths=[STRENGTH])
                yield name, f"probe, {source}", budget, seed, probe
                nearest = evaluation.knn_accuracy(h[rows], y, *judge, k=1)
                yield name, f"nearest, {source}", budget, seed, nearest
            for source, encoder in sources.items():
                yield name, f"fine-tuned, {source}", budget, seed, tuned(encoder, few, val, TUNED_STEPS, view, seed)
            yield name, "from scratch", budget, seed, tuned(fresh, few, val, SCRATCH_STEPS, view, seed)
            print(f"seed {seed}, {name}, {budget} a class: done", flush=True)


def tuned(encoder, few, val, steps, view, seed):
    options = {"learning_rates": [RATE], "steps": steps, "evaluations": 1, "seed": seed}
    return evaluation.fine_tune(encoder, few, val, augment=view, **options).history[-1]["val_accuracy"]


def load_shapes(seed: int):
    train = datasets.load("shapes", n=PICTURES, image_size=SIDE, seed=seed)
    return train, datasets.load("shapes", "val", image_size=SIDE, seed=seed)


def load_digits(seed: int):
    parts = (datasets.load("digits", split, image_size=16) for split in ("train", "val"))
    return [replace(part, images=scatter(part.images, 3 * seed + i)) for i, part in enumerate(parts)]


def scatter(images: torch.Tensor, seed: int) -> torch.Tensor:
    """As the lesson has it: digits [N, 3, 16, 16] to random places and colours on a ground, uint8 [N, 3, 24, 24]."""
    generator = torch.Generator().manual_seed(seed)
    ink, ground = torch.rand(2, len(images), 3, 1, 1, generator=generator)  # a colour each, [N, 3, 1, 1]
    ink, ground = 0.5 + 0.5 * ink, 0.5 * ground  # light on dark
    canvas = torch.zeros(len(images), 3, SIDE, SIDE)
    for i, (x, y) in enumerate(torch.randint(SIDE - 15, (len(images), 2), generator=generator).tolist()):
        canvas[i, :, y : y + 16, x : x + 16] = images[i] / 255
    return (255 * (ground + canvas * (ink - ground))).to(torch.uint8)


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or [0, 1, 2, 3])
