"""From a slider's move to the new PNG, in the kernel: the part of an explorer's reply that is ours.

    python benchmarks/explorers.py [moves]

Each explorer's sliders go up and down their range, one move at a time. The aim is a median under 50 ms on two
cores; the browser adds some 30 ms to receive and show the picture.
"""

import sys
import time

import numpy as np
import torch

from clbook.explorers import (
    budget,
    circle,
    margin,
    perplexity,
    queue,
    receptive_field,
    replay,
    temperature,
    tolerance,
    vectors,
    views,
    votes,
)

AIM = 50  # milliseconds
BATCH = np.r_[0.8, np.tanh(np.random.default_rng(0).normal(0, 0.3, 65_535))]
FEATURES = (
    np.random.default_rng(1).normal(size=(10_000, 128)),
    np.arange(10_000) % 10,
    [f"class {i}" for i in range(10)],
)
EXPLORERS = {  # every explorer joins here, with the heaviest input it is meant for
    "perplexity": perplexity,
    "perplexity, 300 features": lambda: perplexity(np.random.default_rng(0).normal(size=(300, 128))),
    "temperature": temperature,
    "temperature, a batch of 65,536": lambda: temperature(BATCH),
    "vectors": vectors,
    "budget": budget,
    "circle": circle,
    "tolerance": tolerance,
    "views, 64 pixels a side": lambda: views(torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))),
    "receptive field": receptive_field,
    "replay": replay,
    "margin": margin,
    "votes": votes,
    "votes, 10,000 pictures": lambda: votes(*FEATURES),
    "queue, 64 slots": lambda: queue(64, step=80),
}


def positions(control):
    """About twenty values from one end of a slider to the other, and back."""
    if hasattr(control, "options"):
        values = [value for _, value in control.options]
        up = values[:: max(1, len(values) // 20)]
    else:
        up = [type(control.value)(value) for value in np.linspace(control.min, control.max, 20)]
    return up + up[::-1]


def milliseconds(explorer, moves):
    """The time of each move; the first picture of a slider doesn't count, it warms the caches."""
    times = []
    for name, control in explorer.controls.items():
        values = positions(control)
        explorer.values = {name: values[0]}
        for i in range(1, moves + 1):
            started, before = time.perf_counter(), explorer._image.value
            explorer.values = {name: values[i % len(values)]}
            if explorer._image.value is not before:  # at a turning point the slider stays where it is
                times.append(1000 * (time.perf_counter() - started))
    return times


def main(moves):
    print(f"{'slider to PNG, in the kernel':34} {'moves':>6} {'median':>9} {'90th':>9}   under {AIM} ms?")
    for name, make in EXPLORERS.items():
        times = milliseconds(make(), moves)
        median, late = np.percentile(times, [50, 90])
        verdict = "yes" if median < AIM else "NO"
        print(f"{name:34} {len(times):6} {median:6.1f} ms {late:6.1f} ms   {verdict}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
