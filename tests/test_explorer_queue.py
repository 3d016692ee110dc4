"""The queue explorer: its ring is clbook's queue, its numbers those of a plain loop."""

import math
import re

import numpy as np
import pytest
import torch

from clbook import moco
from clbook.explorers import queue as make
from clbook.explorers.queue import MOMENTA, SIZES, key_path, ring, staleness

SENTENCE = re.compile(
    r"After step (\d+), (\d+) keys? a step: the pointer is at slot (\d+), "
    r"(?:no key has come yet|the oldest key is (\d+) steps? old \(cosine with a fresh one (−?[\d.]+)\))"
    r"(?:, (\d+) of (\d+) slots are noise)?; m = ([\d.]+) is a memory of (\d+) steps?, and the initial weights still "
    r"make up (.+?) % of the key encoder\."
)
EXPLORER = make()


@pytest.mark.parametrize("size", [8, 12, 20, 64])
@pytest.mark.parametrize("batch", [1, 3, 5, 8])
@pytest.mark.parametrize("step", [0, 1, 2, 5, 13, 120])
def test_the_ring_is_clbooks_queue(size, batch, step):
    """Each key carries the step that made it, so the queue itself tells which slots were written when."""
    queue = moco.NegativeQueue(size, 2)
    for t in range(1, step + 1):
        queue.enqueue(torch.tensor([[math.cos(t / 200), math.sin(t / 200)]] * batch))
    written, pointer = ring(step, batch, size)
    assert pointer == int(queue.pointer) and (written > 0).sum() == queue.filled
    real = queue.ages() < queue.filled
    found = torch.atan2(queue.keys[:, 1], queue.keys[:, 0]) * 200
    assert np.array_equal(written, torch.where(real, found.round(), 0).int().numpy())
    steps_old = (1 + queue.ages() // batch)[real].numpy()  # the next query meets the newest keys one step old
    assert np.array_equal(step + 1 - written[written > 0], steps_old)


@pytest.mark.parametrize("momentum", MOMENTA)
@pytest.mark.parametrize("values", [(0, 1, 8), (1, 8, 8), (9, 3, 16), (40, 5, 64), (120, 1, 64), (120, 8, 8)])
def test_the_sentence_says_what_a_loop_computes(momentum, values):
    step, batch, size = values
    sentence = EXPLORER._update(step=step, batch=batch, size=size, momentum=momentum)
    found = SENTENCE.fullmatch(sentence).groups()
    queue = []  # of steps, the oldest first
    for t in range(1, step + 1):
        queue = [*queue, *[t] * batch][-size:]
    assert [int(x) for x in found[:3]] == [step, batch, step * batch % size]
    if queue:
        oldest = step + 1 - queue[0]
        path = key_path(momentum)
        stale, fresh = path[step - oldest], path[step]
        cosine = stale @ fresh / math.sqrt(stale @ stale) / math.sqrt(fresh @ fresh)
        assert int(found[3]) == oldest and float(found[4].replace("−", "-")) == pytest.approx(cosine, abs=0.0051)
    else:
        assert found[3] is None
    assert found[5:7] == ((str(size - len(queue)), str(size)) if len(queue) < size else (None, None))
    assert float(found[7]) == momentum and int(found[8]) == round(1 / (1 - momentum))
    left = math.prod([momentum] * step)
    assert found[9] == ("under 1" if left < 0.01 else "over 99" if left > 0.99 else f"{100 * left:.0f}")


def test_the_key_path_is_clbooks_momentum_encoder():
    """With m = 0 the path is the query's: give it to a MomentumEncoder, step by step."""
    query, slow = torch.nn.Linear(32, 1, bias=False).double(), None
    for t, weights in enumerate(torch.from_numpy(key_path(0.0))):
        query.weight.data = weights[None]
        slow = slow or moco.MomentumEncoder(query, 0.9)
        if t:
            slow.update(query)
        assert np.allclose(slow.encoder.weight[0].numpy(), key_path(0.9)[t])


def test_staleness_runs_from_a_fresh_key_back_to_the_first():
    path = np.array([[1.0, 0], [0, 2], [3, 3]])
    assert staleness(path, 2) == pytest.approx([1, math.sqrt(0.5), math.sqrt(0.5)])
    assert staleness(path, 1) == pytest.approx([1, 0])


def test_a_slow_encoder_keeps_old_keys_near():
    for age in (1, 10, 60):
        cosines = [staleness(key_path(m), 100)[age] for m in (0.0, 0.9, 0.99, 0.999)]
        assert cosines == sorted(cosines)


def test_noise_and_pointer_are_told_by_more_than_colour():
    explorer = make(16, batch=3, step=3)
    explorer.draw()
    axes = explorer._figure.axes[0]
    crosses = next(line for line in axes.lines if line.get_marker() == "x")
    assert len(crosses.get_xdata()) == 7
    texts = [text.get_text() for text in axes.texts if text.get_text().isdigit()]
    assert texts == ["3"] * 3 + ["2"] * 3 + ["1"] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 7}, "size: expected one of 8, 12, .*64; got 7"),
        ({"batch": 0}, "batch: expected one of 1 to 8; got 0"),
        ({"batch": 9}, "got 9"),
        ({"momentum": 1.0}, "momentum: expected one of 0.0, .*0.999; got 1.0"),
        ({"step": -1}, "step: expected one of 0 to 120; got -1"),
        ({"step": 121}, "got 121"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_every_size_may_be_the_first():
    for size in SIZES:
        assert make(size).values["size"] == size
