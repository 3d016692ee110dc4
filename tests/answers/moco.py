"""Right and wrong answers to the exercises on MoCo."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from answers.edit import edited
from clbook import checks
from clbook.checks.moco import AGES_MISTAKES, ENQUEUE_MISTAKES, MOMENTUM_MISTAKES, RUN_MISTAKES, SHUFFLE_MISTAKES

# --- enqueue ---

ENQUEUE = """
def enqueue(queue, keys, pointer):
    new = queue.clone()
    rows = (pointer + torch.arange(len(keys))) % len(queue)
    new[rows] = keys
    return new
"""


def enqueue_two_parts(queue, keys, pointer):
    new, room = queue.clone(), min(len(keys), len(queue) - pointer)
    new[pointer : pointer + room] = keys[:room]
    new[: len(keys) - room] = keys[room:]
    return new


def enqueue_rolled(queue, keys, start):
    """The pointer has a name of its own."""
    return torch.cat([keys, queue.roll(-start, 0)[len(keys) :]]).roll(start, 0)


def enqueue_where(queue, keys, pointer):
    place = (torch.arange(len(queue)) - pointer) % len(queue)  # how far behind the pointer
    return torch.where((place < len(keys))[:, None], keys[place.clamp_max(len(keys) - 1)], queue)


def enqueue_scattered(queue, keys, pointer):
    rows = torch.tensor([(pointer + i) % len(queue) for i in range(len(keys))])
    return queue.index_copy(0, rows, keys)


RIGHT_ENQUEUE = [edited(ENQUEUE), enqueue_two_parts, enqueue_rolled, enqueue_where, enqueue_scattered]

SLICES = """
def enqueue(queue, keys, pointer):
    new = queue.clone()
    end = min(pointer + len(keys), len(queue))
    new[pointer:end] = keys[: end - pointer]
    return new
"""

WRONG_ENQUEUE = [
    (edited(SLICES), "cut off at the end of the ring"),
    (
        edited(SLICES, "pointer:end] = keys[: end - pointer]", "-len(keys):] = keys"),
        "not in a way that this check knows",
    ),
    (lambda queue, keys, pointer: torch.vstack([queue, keys]), "the queue grows with each batch"),
    (lambda queue, keys, pointer: torch.vstack([queue, keys])[len(keys) :], "a list that grows at the end"),
    (lambda queue, keys, pointer: torch.vstack([keys, queue])[: len(queue)], "a list that grows at the front"),
    (lambda queue, keys, pointer: torch.vstack([queue, keys])[: len(queue)], "the oldest keys are kept and the new"),
    (edited(ENQUEUE, "pointer + ", ""), "the pointer is ignored"),
    (edited(ENQUEUE, "% len(queue)", ""), "stops with an error in line 5"),
    (edited(ENQUEUE, "pointer + torch", "pointer + 1 + torch"), "one slot too far"),
    (edited(ENQUEUE, "pointer + torch", "pointer - len(keys) + torch"), "written before the pointer"),
    (edited(ENQUEUE, "pointer + torch", "pointer - torch"), "not in a way that this check knows"),
    (edited(ENQUEUE, "= keys", "= keys.flip(0)"), "the keys stand in reverse order"),
    (edited(ENQUEUE, "queue.clone()", "queue"), "changed its input `queue`"),
    (lambda queue, keys, pointer: queue.clone(), "this is the old ring: nothing is written"),
    (
        lambda queue, keys, pointer: (
            torch.cat([keys, queue[len(keys) :]])
            if pointer + len(keys) > len(queue)
            else torch.cat([queue[:pointer], keys, queue[pointer + len(keys) :]])
        ),
        "starts again at slot 0",
    ),
    (lambda queue, keys, pointer: enqueue_two_parts(queue, keys, pointer).tolist(), "of type list, not a tensor"),
    (lambda queue, keys, pointer: enqueue_two_parts(queue, keys, pointer).float(), "result is torch.float32"),
    (
        lambda queue, keys, pointer: enqueue_two_parts(queue, F.normalize(keys), pointer),
        "not in a way that this check knows",
    ),
]

# --- momentum update ---

UPDATE = """
def update(key_weight, query_weight, momentum):
    return momentum * key_weight + (1 - momentum) * query_weight
"""


RIGHT_UPDATE = [
    edited(UPDATE),
    lambda key_weight, query_weight, momentum: torch.lerp(query_weight, key_weight, momentum),
    lambda k, q, m: k + (1 - m) * (q - k),
    lambda k, q, m: q - m * (q - k),
    lambda key_weight, query_weight, momentum: key_weight.clone().mul_(momentum).add_(query_weight, alpha=1 - momentum),
]

WRONG_UPDATE = [
    (
        edited(
            UPDATE, "momentum * key_weight + (1 - momentum) * query", "momentum * query_weight + (1 - momentum) * key"
        ),
        "m and 1 − m are exchanged",
    ),
    (lambda k, q, m: torch.lerp(k, q, m), "m and 1 − m are exchanged"),
    (lambda k, q, m: q.clone(), "a hard copy"),
    (lambda k, q, m: k.clone(), "has not moved"),
    (lambda k, q, m: 0.5 * k + 0.5 * q, "the plain mean"),
    (edited(UPDATE, "(1 - momentum) * ", ""), "the new part lacks its factor"),
    (edited(UPDATE, " + (1 - momentum) * query_weight", ""), "the query's part is missing"),
    (edited(UPDATE, "momentum * key", "key"), "the old part lacks its factor"),
    (lambda k, q, m: m * m * k + (1 - m * m) * q, "after two updates"),
    (lambda k, q, m: k + (1 - m) * (k - q), "moves away"),
    (lambda k, q, m: k.mul_(m).add_(q, alpha=1 - m), "changed its input `key_weight`"),
    (lambda k, q, m: 0.999 * k + 0.001 * q, "not in a way that this check knows"),
    (lambda k, q, m: (m * k + (1 - m) * q).sum(), "not in a way that this check knows"),
]

# --- the momentum for a run ---

RIGHT_RUN = [
    lambda steps, share: share ** (1 / steps),
    lambda steps, share: math.exp(math.log(share) / steps),
    lambda t, s: torch.tensor(s).pow(1 / t),
    lambda steps, share: 10 ** (math.log10(share) / steps),
]

WRONG_RUN = [
    (lambda steps, share: share**steps, "the power is turned round"),
    (lambda steps, share: 1 - 1 / steps, "a memory of so many steps"),
    (lambda steps, share: 1 - share / steps, "each step leaves m of the rest"),
    (lambda steps, share: 1 - (1 - share) / steps, "of what the one before had left"),
    (lambda steps, share: (1 - share) ** (1 / steps), "this leaves 1 − share"),
    (lambda steps, share: 1 - share ** (1 / steps), "this is 1 − m"),
    (lambda steps, share: math.log(share) / steps, "the logarithm of m"),
    (lambda steps, share: share / steps, "the share is divided by the steps"),
    (lambda steps, share: steps ** (1 / share), "not in a way that this check knows"),
    (lambda steps, share: 0.99, "same value whatever"),
    (lambda steps, share: math.log(share, 0), "stops with an error"),
]

# --- the age of the keys ---

AGES = """
def key_ages(size, batch, steps):
    pointer = steps * batch % size
    later = (pointer - 1 - torch.arange(size)) % size
    filled = min(steps * batch, size)
    return torch.where(later < filled, later // batch + 1, 0)
"""


def ages_by_writing(size, batch, steps):
    written = torch.zeros(size, dtype=torch.int64)
    for step in range(steps):
        written[(step * batch + torch.arange(batch)) % size] = step + 1
    return torch.where(written > 0, steps + 1 - written, written)


def ages_by_ageing(size, batch, steps):
    ages, pointer = [0] * size, 0
    for _ in range(steps):
        ages = [age + 1 if age else 0 for age in ages]
        for i in range(batch):
            ages[(pointer + i) % size] = 1
        pointer += batch
    return torch.tensor(ages)


def ages_from_the_last_key(size, batch, steps):
    """The last key of all that fell into slot i, counted through the run."""
    last = {number % size: number // batch for number in range(steps * batch)}
    return torch.tensor([steps - last[i] if i in last else 0 for i in range(size)])


RIGHT_AGES = [edited(AGES), ages_by_writing, ages_by_ageing, ages_from_the_last_key]

WRITTEN = """
def key_ages(size, batch, steps):
    written, pointer = torch.zeros(size, dtype=torch.int64), 0
    for step in range(1, steps + 1):
        written[torch.arange(pointer, pointer + batch) % size] = step
        pointer = (pointer + batch) % size
    return torch.where(written > 0, steps + 1 - written, 0)
"""

WRONG_AGES = [
    (edited(WRITTEN, "torch.where(written > 0, steps + 1 - written, 0)", "written"), "the step that wrote each slot"),
    (edited(WRITTEN, "steps + 1 - written", "steps - written"), "one step too young: the next"),
    (
        edited(WRITTEN, "torch.where(written > 0, steps + 1 - written, 0)", "steps - written"),
        "and the noise has an age",
    ),
    (
        edited(WRITTEN, "torch.where(written > 0, steps + 1 - written, 0)", "steps + 1 - written"),
        "the noise has an age",
    ),
    (edited(AGES, "torch.where(later < filled, later // batch + 1, 0)", "later // batch + 1"), "have an age too"),
    (edited(AGES, "later // batch + 1, 0", "later, 0"), "these are ages in keys:"),
    (edited(AGES, "later // batch + 1, 0", "later + 1, 0"), "ages in keys, from 1"),
    (
        edited(WRITTEN, "torch.arange(pointer, pointer + batch) % size", "pointer : pointer + batch"),
        "keys are cut off at the end",
    ),
    (edited(WRITTEN, "        pointer = (pointer + batch) % size\n"), "each batch is written from slot 0"),
    (
        edited(WRITTEN, "(pointer + batch) % size", "pointer + batch if pointer + 2 * batch <= size else 0"),
        "starts again at slot 0",
    ),
    (edited(WRITTEN, "size, dtype=torch.int64), 0", "size, dtype=torch.int64), batch"), "written to slot B"),
    (
        edited(AGES, "(pointer - 1 - torch.arange(size)) % size", "torch.arange(size)"),
        "sorted by age",
    ),
    (edited(AGES, "pointer - 1 -", "pointer -"), "not in a way that this check knows"),
    (edited(WRITTEN, " % size] = step", "] = step"), "stops with an error in line 5"),
    (edited(AGES, "torch.where(later < filled, later // batch + 1, 0)", "(later // batch + 1).tolist()"), "type list"),
    (edited(AGES, "later // batch + 1, 0)", "later / batch + 1, 0)"), "not in a way that this check knows"),
    (lambda size, batch, steps: ages_by_writing(size, batch, steps).float(), "result is torch.float32"),
]

# --- the shuffle ---

SHUFFLED = """
def centre_shuffled(x, order, groups):
    parts = x[order].reshape(groups, -1, x.shape[1])
    centred = (parts - parts.mean(dim=1, keepdim=True)).reshape(x.shape)
    return centred[order.argsort()]
"""


def centre_scattered(x, order, groups):
    result = torch.empty_like(x)
    for rows in order.chunk(groups):
        result[rows] = x[rows] - x[rows].mean(0)
    return result


def centre_by_membership(x, order, groups):
    group = torch.empty_like(order)
    group[order] = torch.arange(len(x)) // (len(x) // groups)  # of each row of x
    same = (group[:, None] == group).to(x.dtype)  # [N, N]
    return x - same @ x / same.sum(1, keepdim=True)


def centre_in_lists(x, order, groups):
    size, rows = len(x) // groups, {}
    shuffled = [x[i] for i in order]
    for start in range(0, len(x), size):
        mean = torch.stack(shuffled[start : start + size]).mean(0)
        for place in range(start, start + size):
            rows[int(order[place])] = shuffled[place] - mean
    return torch.stack([rows[i] for i in range(len(x))])


RIGHT_SHUFFLED = [edited(SHUFFLED), centre_scattered, centre_by_membership, centre_in_lists]

WRONG_SHUFFLED = [
    (edited(SHUFFLED, "centred[order.argsort()]", "centred"), "come back in the shuffled order"),
    (edited(SHUFFLED, "order.argsort()", "order"), "the order is applied twice"),
    (
        edited(SHUFFLED.replace("x[order]", "x[order.argsort()]"), "centred[order.argsort()]", "centred[order]"),
        "order and its inverse are exchanged",
    ),
    (edited(SHUFFLED.replace("x[order]", "x"), "[order.argsort()]"), "nothing is shuffled"),
    (edited(SHUFFLED, "x[order]", "x"), "put back, but never shuffled"),
    (edited(SHUFFLED, "order.argsort()", "order.flip(0)"), "read backwards"),
    (edited(SHUFFLED, "order.argsort()", "order.argsort().argsort()"), "the order is applied twice"),
    (edited(SHUFFLED, "parts.mean(dim=1, keepdim=True)", "parts.mean(dim=(0, 1))"), "one mean for the whole batch"),
    (
        edited(SHUFFLED, "parts.mean(dim=1, keepdim=True)", "parts.mean((1, 2), keepdim=True)"),
        "one mean for all columns",
    ),
    (edited(SHUFFLED, "dim=1, keepdim", "dim=2, keepdim"), "each row is less its own mean"),
    (
        edited(SHUFFLED.replace("groups, -1, x.shape[1]", "-1, groups, x.shape[1]"), "mean(dim=1", "mean(dim=0"),
        "every G-th row",
    ),
    (edited(SHUFFLED, "parts.mean(dim=1, keepdim=True)", "0"), "not in a way that this check knows"),
    (
        edited(
            SHUFFLED,
            "(parts - parts.mean(dim=1, keepdim=True))",
            "(parts - parts.mean(1, keepdim=True)).div((parts.var(1, correction=0, keepdim=True) + 1e-5).sqrt())",
        ),
        "divided by the standard deviation",
    ),
    (edited(SHUFFLED, "groups, -1", "-1, groups"), "not in a way that this check knows"),
    (edited(SHUFFLED, "order.argsort()", "x.argsort(0)[:, 0]"), "not in a way that this check knows"),
]

CATALOGUE = {
    checks.check_enqueue: (WRONG_ENQUEUE, RIGHT_ENQUEUE, ENQUEUE_MISTAKES),
    checks.check_momentum_update: (WRONG_UPDATE, RIGHT_UPDATE, MOMENTUM_MISTAKES),
    checks.check_momentum_for_run: (WRONG_RUN, RIGHT_RUN, RUN_MISTAKES),
    checks.check_key_ages: (WRONG_AGES, RIGHT_AGES, AGES_MISTAKES),
    checks.check_centre_shuffled: (WRONG_SHUFFLED, RIGHT_SHUFFLED, SHUFFLE_MISTAKES),
}

# --- questions ---


def given(name):
    """The question's numbers, for a formula that takes them."""
    return lambda formula: lambda seed: formula(**checks.given(name, seed))


oldest, forget, resume = given("oldest_key"), given("steps_to_forget"), given("resumed_ring")


def oldest_by_running(size, batch):
    return ages_by_writing(size, batch, steps=2 * size // batch).max()


def forget_by_running(momentum, percent):
    left, steps = 1.0, 0
    while left >= percent / 100:
        left, steps = left * momentum, steps + 1
    return steps


def resume_by_running(size, batch, steps):
    """Two rings that were equal, one of them with its pointer at 0."""
    queue, keys = torch.zeros(size, 1), torch.arange(1.0, batch + 1)[:, None]
    on = edited(ENQUEUE)(queue, keys, steps * batch % size)
    again = edited(ENQUEUE)(queue, keys, 0)
    return (on != again).sum()


def resume_as_sets(size, batch, steps):
    on = {(steps * batch + i) % size for i in range(batch)}
    return float(len(on | set(range(batch))))


def shift(size, batch, steps):
    return min(steps * batch % size, -steps * batch % size)


QUESTIONS = {
    "oldest_key": (
        [
            (oldest(lambda size, batch: size // batch), "one step too young"),
            (oldest(lambda size, batch: size // batch + 2), "one step too old"),
            (oldest(lambda size, batch: size / batch), "a whole number of steps"),
            (oldest(lambda size, batch: size), "this counts keys"),
            (oldest(lambda size, batch: size - 1), "its age in keys"),
            (oldest(lambda size, batch: batch / size), "turned round"),
            (lambda seed: "31 steps", "expected a number, got a str"),
            (lambda seed: -1, "not a mistake that this check knows. How many steps old"),
        ],
        [
            oldest(lambda size, batch: math.ceil(size / batch)),
            oldest(lambda size, batch: -(-size // batch)),
            oldest(lambda size, batch: np.ceil(size / batch)),
            oldest(oldest_by_running),
        ],
    ),
    "steps_to_forget": (
        [
            (forget(lambda momentum, percent: forget_by_running(momentum, percent) - 1), "one step too early"),
            (forget(lambda momentum, percent: math.log(percent / 100, momentum)), "a whole number of steps"),
            (forget(lambda momentum, percent: 1 / (1 - momentum)), "this is the memory"),
            (
                forget(lambda momentum, percent: forget_by_running(momentum, 100 - percent)),
                "when so much has been forgotten",
            ),
            (forget(lambda momentum, percent: (1 - percent / 100) / (1 - momentum)), "do not fade by equal parts"),
            (forget(lambda momentum, percent: -math.log(percent / 100) / (1 - momentum)), "takes 1 − m for −ln m"),
            (lambda seed: "many", "expected a number, got a str"),
            (lambda seed: 10_000, "not a mistake that this check knows"),
        ],
        [
            forget(forget_by_running),
            forget(lambda momentum, percent: np.ceil(np.log(percent / 100) / np.log(momentum))),
            forget(lambda momentum, percent: torch.tensor(percent / 100).log().div(math.log(momentum)).ceil()),
            forget(lambda momentum, percent: 1 + math.floor(math.log2(percent / 100) / math.log2(momentum))),
        ],
    ),
    "resumed_ring": (
        [
            (resume(lambda size, batch, steps: batch), "so many slots each of the two writes"),
            (resume(lambda size, batch, steps: 2 * batch), "the two batches overlap"),
            (resume(lambda size, batch, steps: 2 * shift(size, batch, steps)), "slots that both write differ too"),
            (resume(lambda size, batch, steps: batch - shift(size, batch, steps)), "the slots that both write:"),
            (resume(shift), "how far the pointers are apart"),
            (resume(lambda size, batch, steps: size), "most of them are written by neither"),
            (lambda seed: [3], "expected a number, got a list"),
        ],
        [
            resume(resume_by_running),
            resume(resume_as_sets),
            resume(lambda size, batch, steps: batch + shift(size, batch, steps)),
        ],
    ),
}
