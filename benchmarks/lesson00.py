"""Lesson 00's claims on several seeds, of scenes, weights, views and order.

python benchmarks/lesson00.py [SEED ...]
"""

import sys

from clbook import datasets, evaluation, training

STEPS = 700  # as in the lesson


def main(seeds: list[int]) -> None:
    print(
        "| seed | pixels | trained, val | trained, test | seconds | without hue and gray, val | its loss / the loss |"
    )
    print("|---|---|---|---|---|---|---|")
    for seed in seeds:
        train = datasets.load("shapes", n=4000, seed=seed)
        val, test = (datasets.load("shapes", split, seed=seed) for split in ("val", "test"))
        pixels = evaluation.knn_score(None, train, val)
        config = training.TrainConfig.for_data("shapes", steps=STEPS, seed=seed)
        kept = training.TrainConfig.for_data("shapes", steps=STEPS, seed=seed, hue=0.0, gray=0.0)
        runs = [training.fit(train.images, c) for c in (config, kept)]
        scores = [evaluation.knn_score(run.encoder, train, val) for run in runs]
        tested = evaluation.knn_score(runs[0].encoder, train, test)
        last = [run.history[-1] for run in runs]
        row = f"| {seed} | {pixels:.3f} | {scores[0]:.3f} | {tested:.3f} | {last[0]['seconds']:.0f} | {scores[1]:.3f} |"
        print(row, f"{last[1]['loss']:.2f} / {last[0]['loss']:.2f} |", flush=True)


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or [0, 1, 2, 3, 4])
