"""Checks of MoCo's parts: the queue, the slow encoder, the shuffle. Its losses are in `queue_losses`."""

import math
from collections.abc import Callable
from functools import partial
from random import Random

import torch

from clbook.checks.exercise import Exercise, Report, judge, random
from clbook.checks.question import Question

# --- the queue ---


def check_enqueue(function: Callable, seed: int = 0) -> Report:
    """Check `function(queue, keys, pointer)`: a ring [K, D], new keys [B, D], 1 <= B <= K, and the slot to write first,
    to the new ring [K, D]. The old ring stays as it is."""
    slots, keys = torch.arange(5.0)[:, None] - 9, torch.arange(1.0, 4)[:, None]  # [5, 1], [3, 1]
    exercise = Exercise(
        task="write the function that takes a ring [K, D], keys [B, D] and a pointer and returns the new ring",
        cases=[
            {"queue": slots, "keys": keys, "pointer": 0},
            {"queue": slots, "keys": keys, "pointer": 3},  # over the end: slots 3, 4, 0
            {"queue": slots, "keys": keys, "pointer": 2},  # up to the end, exactly
            {"queue": random(1, 5, 3), "keys": random(2, 5, 3), "pointer": 4},  # a batch as large as the ring
            {"queue": random(3, 8, 2), "keys": random(4, 1, 2), "pointer": 7},
            {"queue": random(5, 7, 4, dtype=torch.float64), "keys": random(6, 4, 4, dtype=torch.float64), "pointer": 5},
        ],
        oracle=_enqueue_loop,
        mistakes=ENQUEUE_MISTAKES,
        not_finite="the ring holds NaN or infinity where the keys do not: slots are copied, not computed.",
        verified="values agree with a plain loop in 8 cases, two of them drawn from the seed (K from 5 to 9, B from 1 "
        "to K, with and without a wrap), and the old ring is left as it was.",
        gradients=False,
        fresh=_fresh_ring,
    )
    return judge(function, exercise, seed)


def _fresh_ring(seed):
    draw = Random(seed)
    size, dim = draw.randint(5, 9), draw.randint(2, 4)
    queue, keys = random(seed, size, dim), random(seed + 1, draw.randint(2, size - 1), dim)
    return {"queue": queue, "keys": keys, "pointer": draw.randint(0, size - 1)}


def _enqueue_loop(queue, keys, pointer):
    """One key after the other, each to the next slot; after the last slot comes slot 0."""
    rows = [row.clone() for row in queue]
    for key in keys:
        rows[pointer] = key
        pointer = 0 if pointer + 1 == len(rows) else pointer + 1
    return torch.stack(rows)


def _written(queue, keys, start):
    """From `start` to the end of the ring, or of the keys."""
    new, room = queue.clone(), min(len(keys), len(queue) - start)
    new[start : start + room] = keys[:room]
    return new


def _clamped(queue, keys, pointer):
    """Slice assignment that starts earlier when the end is near."""
    return _written(queue, keys, min(pointer, len(queue) - len(keys)))


def _restarted(queue, keys, pointer):
    return _written(queue, keys, pointer if pointer + len(keys) <= len(queue) else 0)


def _wrap_repeats(queue, keys, pointer):
    """The part beyond the end takes the first keys again, not the rest."""
    new, room = queue.clone(), min(len(keys), len(queue) - pointer)
    new[pointer : pointer + room], new[: len(keys) - room] = keys[:room], keys[: len(keys) - room]
    return new


def _one_after(queue, keys, pointer):
    return _enqueue_loop(queue, keys, (pointer + 1) % len(queue))


def _before(queue, keys, pointer):
    return _enqueue_loop(queue, keys, (pointer - len(keys)) % len(queue))


_SHIFTED = (
    "a list that grows at the end and is cut to the newest K: the right keys, but all of them moved. A ring "
    "writes over slots from the pointer on, and moves nothing."
)

ENQUEUE_MISTAKES = [
    (
        _written,
        "keys are cut off at the end of the ring: those that find no room there belong into slots 0, 1, …",
    ),
    (
        lambda queue, keys, pointer: torch.cat([queue, keys]),
        "the queue grows with each batch: it has K slots for ever, and new keys replace the oldest.",
    ),
    (lambda queue, keys, pointer: torch.cat([queue, keys])[-len(queue) :], _SHIFTED),
    (lambda queue, keys, pointer: torch.cat([keys, queue])[: len(queue)], _SHIFTED.replace("end", "front")),
    (
        lambda queue, keys, pointer: torch.cat([queue, keys])[: len(queue)],
        "this is the old ring: nothing is written, or the oldest keys are kept and the new ones thrown away.",
    ),
    (lambda queue, keys, pointer: _written(queue, keys, 0), "the pointer is ignored: writing always begins at slot 0."),
    (_restarted, "a batch that does not fit before the end starts again at slot 0: it should wrap."),
    (_clamped, "a batch that does not fit before the end is moved back: it begins at the pointer, and wraps."),
    (_wrap_repeats, "the slots after the wrap take the first keys once more: they are for the keys left over."),
    (_one_after, "one slot too far: the pointer itself is the first slot to write."),
    (_before, "written before the pointer: it names the first slot to write, and keys follow it."),
    (
        lambda queue, keys, pointer: _enqueue_loop(queue, keys.flip(0), pointer),
        "the keys stand in reverse order: the first key goes to the pointer's slot.",
    ),
    (
        lambda queue, keys, pointer: _enqueue_loop(queue, keys[-1:], pointer),
        "only the last key of the batch is written: all of them go in, one slot each.",
    ),
]


# --- the age of the keys ---


def check_key_ages(function: Callable, seed: int = 0) -> Report:
    """Check `function(size, batch, steps)`: how old the key in each slot of a ring is after so many steps, int64 [K].

    In steps, as the next query meets it: the newest keys are 1 step old. Writing began at slot 0; 0 is for a slot
    that no key has reached yet.
    """
    exercise = Exercise(
        task="write the function that takes size, batch and steps and returns the age of the key in each slot",
        cases=[
            dict(zip(("size", "batch", "steps"), case, strict=True))
            for case in [(5, 3, 1), (5, 3, 2), (5, 3, 4), (7, 2, 0), (4, 4, 3), (12, 5, 6), (6, 1, 20), (9, 2, 3)]
        ],
        oracle=_ages_loop,
        mistakes=AGES_MISTAKES,
        not_finite="ages are whole numbers: nothing needs to be divided by a number that may be 0.",
        verified="values agree with keys written one by one in 10 cases, two of them drawn from the seed (K from 4 to "
        "20, B from 1 to K, 0 to 20 steps, with and without noise left).",
        gradients=False,
        fresh=_fresh_ages,
    )
    return judge(function, exercise, seed)


def _fresh_ages(seed):
    draw = Random(seed)
    size = draw.randint(6, 20)
    return {"size": size, "batch": draw.randint(2, size - 1), "steps": draw.randint(1, 12)}


def _ages_loop(size, batch, steps):
    """One key after the other, each with the number of its step."""
    written, pointer = [0] * size, 0
    for step in range(1, steps + 1):
        for _ in range(batch):
            written[pointer] = step
            pointer = 0 if pointer + 1 == size else pointer + 1
    return torch.tensor([steps + 1 - step if step else 0 for step in written])


def _ages_with(
    size,
    batch,
    steps,
    *,
    start=0,
    place=lambda i, size: i % size,
    following=lambda pointer, batch, size: (pointer + batch) % size,
    age=lambda step, now: now + 1 - step if step else 0,
):
    """As the oracle, but for one part. `place` is the slot of place i on a line, or None where the line has ended."""
    written, pointer = [0] * size, start * batch
    for step in range(1, steps + 1):
        for i in range(batch):
            slot = place(pointer + i, size)
            if slot is not None:
                written[slot] = step
        pointer = following(pointer, batch, size)
    return torch.tensor([age(step, steps) for step in written])


def _in_keys(size, batch, steps, first):
    """How many keys came after this one, plus `first`; 0 for noise."""
    later = (steps * batch - 1 - torch.arange(size)) % size
    return torch.where(later < steps * batch, later + first, 0)


def _restarting(pointer, batch, size):
    """The next batch begins at slot 0 if it would not fit."""
    return pointer + batch if pointer + 2 * batch <= size else 0


AGES_MISTAKES = [
    (
        partial(_ages_with, age=lambda step, now: step),
        "this is the step that wrote each slot: its age is how long ago that was, from the next step.",
    ),
    (
        partial(_ages_with, age=lambda step, now: now - step if step else 0),
        "one step too young: the next query meets the newest keys one step after they were made.",
    ),
    (
        partial(_ages_with, age=lambda step, now: now - step),
        "one step too young, and the noise has an age: newest keys are 1 step old, and slots without a key have 0.",
    ),
    (
        partial(_ages_with, age=lambda step, now: now + 1 - step),
        "the noise has an age: a slot that no key has reached yet has 0.",
    ),
    (
        lambda size, batch, steps: 1 + (steps * batch - 1 - torch.arange(size)) % size // batch,
        "slots without a key have an age too: only min(K, steps · B) slots hold keys, the others 0.",
    ),
    (partial(_in_keys, first=0), "these are ages in keys: a step brings B of them, all of one age."),
    (partial(_in_keys, first=1), "these are ages in keys, from 1: a step brings B of them, all of one age."),
    (
        partial(_ages_with, place=lambda i, size: i if i < size else None),
        "keys are cut off at the end of the ring: those that find no room go to slots 0, 1, …",
    ),
    (
        partial(_ages_with, following=lambda pointer, batch, size: 0),
        "each batch is written from slot 0 on: the pointer moves on by B, and wraps.",
    ),
    (
        partial(_ages_with, following=_restarting),
        "a batch that does not fit before the end starts again at slot 0: it wraps, part here and part there.",
    ),
    (partial(_ages_with, start=1), "the first batch is written to slot B: the pointer starts at 0."),
    (
        lambda size, batch, steps: torch.tensor(
            [i // batch + 1 if i < steps * batch else 0 for i in range(size)], dtype=torch.int64
        ),
        "sorted by age: the newest keys are not in slot 0, but in the slots before the pointer.",
    ),
]


# --- the slow encoder ---


def check_momentum_update(function: Callable, seed: int = 0) -> Report:
    """Check `function(key_weight, query_weight, momentum)`: two weights of one shape and m in [0, 1] to the key
    encoder's new weight, m theta_k + (1 - m) theta_q (He et al. 2020, equation 2), without gradient."""
    exercise = Exercise(
        task="write the function that takes `key_weight`, `query_weight` and `momentum` and returns the new key weight",
        cases=[
            {"key_weight": torch.tensor([1.0]), "query_weight": torch.tensor([0.0]), "momentum": 0.9},
            {"key_weight": torch.tensor([2.0, -4]), "query_weight": torch.tensor([6.0, 1]), "momentum": 0.75},
            {"key_weight": random(1, 3, 4), "query_weight": random(2, 3, 4), "momentum": 0.0},
            {"key_weight": random(3, 3, 4), "query_weight": random(4, 3, 4), "momentum": 1.0},
            {"key_weight": random(5, 2, 3, 3, 3), "query_weight": random(6, 2, 3, 3, 3), "momentum": 0.99},
        ],
        oracle=_momentum_loop,
        mistakes=MOMENTUM_MISTAKES,
        not_finite="the new weight is NaN or infinite: an average of two finite weights never is.",
        verified="values agree with a plain loop in 7 cases, two of them drawn from the seed (m from 0 to 1, weights "
        "of one to four dimensions), and both weights are left as they were.",
        gradients=False,
        fresh=_fresh_weights,
    )
    return judge(function, exercise, seed)


def _fresh_weights(seed):
    draw = Random(seed)
    shape = [draw.randint(2, 4) for _ in range(draw.randint(1, 3))]
    weights = {"key_weight": random(seed, *shape), "query_weight": random(seed + 1, *shape)}
    return weights | {"momentum": draw.randint(5, 95) / 100}


def _momentum_loop(key_weight, query_weight, momentum):
    """Number by number."""
    pairs = zip(key_weight.flatten().tolist(), query_weight.flatten().tolist(), strict=True)
    numbers = [momentum * k + (1 - momentum) * q for k, q in pairs]
    return torch.tensor(numbers, dtype=key_weight.dtype).reshape(key_weight.shape)


MOMENTUM_MISTAKES = [
    (
        lambda k, q, m: (1 - m) * k + m * q,
        "m and 1 − m are exchanged: the key encoder keeps m of itself, and m is near 1. (Or the two weights are.)",
    ),
    (lambda k, q, m: q + 0, "a hard copy of the query's weight: that is m = 0. m of the old weight should stay."),
    (lambda k, q, m: k + 0, "the key weight has not moved: that is m = 1."),
    (lambda k, q, m: (k + q) / 2, "the plain mean of both: that is m = 0.5, whatever m is given."),
    (
        lambda k, q, m: m * k + q,
        "the new part lacks its factor 1 − m: the two factors sum to 1.",
    ),
    (lambda k, q, m: m * k, "the query's part is missing: (1 − m) theta_q has to be added."),
    (lambda k, q, m: k + (1 - m) * q, "the old part lacks its factor m: the two factors sum to 1."),
    (
        lambda k, q, m: m * (m * k + (1 - m) * q) + (1 - m) * q,
        "this is the weight after two updates: one step is asked for.",
    ),
    (
        lambda k, q, m: k - (1 - m) * (q - k),
        "the key weight moves away from the query's: the difference has the wrong sign.",
    ),
    (
        lambda k, q, m: k + m * (q - k) * (1 - m),
        "m is multiplied in once too often: the difference is taken (1 − m) times.",
    ),
]


def check_momentum_for_run(function: Callable, seed: int = 0) -> Report:
    """Check `function(steps, share)`: the momentum that leaves `share` of the initial weights after `steps` steps."""
    exercise = Exercise(
        task="write the function that takes a number of steps and a share and returns the momentum that leaves this "
        "share of the initial weights after so many steps",
        cases=[
            {"steps": 2, "share": 0.25},
            {"steps": 1, "share": 0.9},
            {"steps": 3, "share": 0.001},
            {"steps": 69, "share": 0.5},
            {"steps": 500, "share": 0.61},
        ],
        oracle=_momentum_by_halving,
        mistakes=RUN_MISTAKES,
        not_finite="NaN or infinite: no logarithm of 0 or root of a negative number is needed here.",
        verified="values agree with a search by halving in 7 cases, two of them drawn from the seed (1 to 500 steps, "
        "shares from 0.001 to 0.9).",
        gradients=False,
        number=True,
        fresh=_fresh_run,
    )
    return judge(function, exercise, seed)


def _fresh_run(seed):
    draw = Random(seed)
    return {"steps": draw.randint(4, 400), "share": draw.randint(2, 90) / 100}


def _momentum_by_halving(steps, share):
    """The m in [0, 1] for which m * m * … * m, `steps` times, is `share`."""
    low, high = 0.0, 1.0
    for _ in range(60):
        m, left = (low + high) / 2, 1.0
        for _ in range(steps):
            left *= m
        low, high = (m, high) if left < share else (low, m)
    return torch.tensor(low, dtype=torch.float64)


def _number(value):
    return torch.tensor(float(value), dtype=torch.float64)


RUN_MISTAKES = [
    (
        lambda steps, share: _number(share**steps),
        "the power is turned round: the share is m to the number of steps; you know the share, and m is sought.",
    ),
    (lambda steps, share: _number(1 - 1 / steps), "this is the m with a memory of so many steps, whatever the share."),
    (
        lambda steps, share: _number(1 - share / steps),
        "the weights do not fade by equal parts: each step leaves m of the rest.",
    ),
    (
        lambda steps, share: _number(1 - (1 - share) / steps),
        "the weights do not fade by equal parts: each step leaves m of what the one before had left.",
    ),
    (
        lambda steps, share: _number((1 - share) ** (1 / steps)),
        "this leaves 1 − share: the share is what stays of the initial weights.",
    ),
    (
        lambda steps, share: _number(1 - share ** (1 / steps)),
        "this is 1 − m: what a step takes from the query.",
    ),
    (
        lambda steps, share: _number(share / steps),
        "the share is divided by the steps: it is m to their number.",
    ),
    (
        lambda steps, share: _number(math.log(share) / steps),
        "this is the logarithm of m: take exp of it.",
    ),
]


# --- the shuffle ---


def check_centre_shuffled(function: Callable, seed: int = 0) -> Report:
    """Check `function(x, order, groups)`: x [N, D], each row less the mean of its group, [N, D].

    The groups are N / groups rows each, next to one another in x[order]; row i of the result belongs to row i of x.
    """
    task = (
        "write the function that takes `x` [N, D], `order` [N] and a number of groups and returns the rows, each less "
    )
    exercise = Exercise(
        task=task + "its group's mean, in their old order",
        cases=[
            {"x": torch.tensor([[1.0], [3], [10], [20]]), "order": torch.tensor([2, 0, 1, 3]), "groups": 2},
            _shuffle_case(1, [1, 2, 3, 4, 5, 0], 2, 3),
            _shuffle_case(2, [4, 2, 0, 5, 1, 3], 3, 2),
            _shuffle_case(3, [0, 1, 2, 3], 2, 2),  # nothing is shuffled
            _shuffle_case(4, [3, 1, 4, 0, 2], 1, 3),  # one group: the order makes no difference
            _shuffle_case(5, [6, 3, 0, 9, 11, 2, 8, 5, 10, 1, 7, 4], 3, 4, dtype=torch.float64),
        ],
        oracle=_centre_loop,
        mistakes=SHUFFLE_MISTAKES,
        not_finite="the result is not finite, though x is: a mean is taken off, and nothing else.",
        verified="values agree with a plain loop over the groups in 8 cases, two of them drawn from the seed (N from 4 "
        "to 20, 1 to 5 groups, float32 and float64), and the inputs are left as they were.",
        gradients=False,  # of the sum: 0, since the mean is taken off
        fresh=_fresh_shuffle,
    )
    return judge(function, exercise, seed)


def _shuffle_case(seed, order, groups, dim, dtype=torch.float32):
    x = random(seed, len(order), dim, dtype=dtype) + torch.arange(len(order))[:, None]  # group means that differ
    return {"x": x.to(dtype), "order": torch.tensor(order), "groups": groups}


def _fresh_shuffle(seed):
    draw = Random(seed)
    groups = draw.randint(2, 5)
    order = list(range(groups * draw.randint(3, 4)))
    draw.shuffle(order)
    return _shuffle_case(seed, order, groups, draw.randint(2, 4))


def _centre_loop(x, order, groups):
    """Group by group, written to the rows where its members stand."""
    rows, size = [None] * len(x), len(x) // groups
    for g in range(groups):
        members = [int(i) for i in order[g * size : (g + 1) * size]]
        mean = sum(x[i] for i in members) / size
        for i in members:
            rows[i] = x[i] - mean
    return torch.stack(rows)


def _centred(x, groups):
    parts = x.reshape(groups, -1, x.shape[1])  # [G, N / G, D]
    return (parts - parts.mean(1, keepdim=True)).reshape(x.shape)


def _centre_with(x, order, groups, *, there=lambda order: order, back=torch.argsort, centred=_centred):
    return centred(x[there(order)], groups)[back(order)]


def _stay(order):
    return torch.arange(len(order))


def _interleaved(x, groups):
    parts = x.reshape(-1, groups, x.shape[1])  # row i in group i mod G
    return (parts - parts.mean(0)).reshape(x.shape)


def _one_mean(x, groups):
    parts = x.reshape(groups, -1, x.shape[1])
    return (parts - parts.mean((1, 2), keepdim=True)).reshape(x.shape)


def _standardised(x, groups):
    parts = x.reshape(groups, -1, x.shape[1])
    variance, mean = torch.var_mean(parts, 1, correction=0, keepdim=True)
    return ((parts - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)


SHUFFLE_MISTAKES = [
    (
        partial(_centre_with, back=_stay),
        "the rows come back in the shuffled order: row i of the result belongs to row i of x.",
    ),
    (
        partial(_centre_with, back=lambda order: order),
        "the order is applied twice: what puts the rows back is its inverse, order.argsort().",
    ),
    (
        partial(_centre_with, there=torch.argsort, back=lambda order: order),
        "order and its inverse are exchanged: x[order] goes in, and the inverse puts the rows back.",
    ),
    (
        partial(_centre_with, there=_stay, back=_stay),
        "nothing is shuffled: these groups are neighbours in x, and they should be neighbours in x[order].",
    ),
    (
        partial(_centre_with, there=_stay),
        "put back, but never shuffled: the groups are taken from x as it came.",
    ),
    (
        partial(_centre_with, back=lambda order: order.flip(0)),
        "the order read backwards is not its inverse: the inverse tells for each row where it went.",
    ),
    (
        partial(_centre_with, centred=lambda x, groups: _centred(x, 1)),
        "one mean for the whole batch: each group takes off its own.",
    ),
    (
        partial(_centre_with, centred=_interleaved),
        "every G-th row is in a group here: a group is N / G rows next to one another.",
    ),
    (
        partial(_centre_with, centred=_one_mean),
        "one mean for all columns: each of the D columns has its own, so take the mean over the group's rows.",
    ),
    (
        partial(_centre_with, centred=lambda x, groups: x - x.mean(1, keepdim=True)),
        "each row is less its own mean: the mean is over the rows of a group.",
    ),
    (
        partial(_centre_with, centred=_standardised),
        "divided by the standard deviation, as batch-norm does: here only the mean is taken off.",
    ),
]


# --- questions ---


def _oldest_given(seed):
    draw = Random(seed)
    size, batch = 100 * draw.randint(5, 40), draw.choice((32, 48, 64, 96))
    return {"size": size + (size % batch == 0), "batch": batch}  # never a multiple


OLDEST_KEY = Question(
    task="how many steps old is the oldest key that the next query meets in a full queue, the newest being 1 step old",
    given=_oldest_given,
    answer=lambda size, batch: math.ceil(size / batch),
    mistakes=[
        (
            lambda size, batch: size // batch,
            "one step too young: so many whole batches do not fill the queue, and the slots left over hold older keys.",
        ),
        (
            lambda size, batch: math.ceil(size / batch) + 1,
            "one step too old: by then its slot has been written over. The newest keys are 1 step old, not 0 or 2.",
        ),
        (lambda size, batch: size / batch, "a key's age is a whole number of steps: round, and think in which way."),
        (lambda size, batch: size, "this counts keys: a step brings a whole batch of them."),
        (lambda size, batch: size - 1, "this is its age in keys: a step brings a whole batch of them."),
        (lambda size, batch: batch / size, "turned round: this is the share of the queue that one step writes."),
    ],
    verified="the number of steps that write all slots once, rounded up.",
)

MEMORIES = [
    (m, percent)
    for m in (0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
    for percent in (1, 2, 5, 10, 20)
    if round(100 * m) != 100 - percent  # where one step forgets exactly so much, a mistake rests on a tie
]


def _forget_given(seed):
    momentum, percent = MEMORIES[(7 * seed) % len(MEMORIES)]
    return {"momentum": momentum, "percent": percent}


def _steps_to(momentum, percent):
    return math.log(percent / 100) / math.log(momentum)


STEPS_TO_FORGET = Question(
    task="after how many whole steps is the share of the first weights for the first time below the one given",
    given=_forget_given,
    answer=lambda momentum, percent: math.ceil(_steps_to(momentum, percent)),
    mistakes=[
        (
            lambda momentum, percent: math.floor(_steps_to(momentum, percent)),
            "one step too early: a little more than the share is still left then.",
        ),
        (_steps_to, "a whole number of steps is asked for: round, and think in which way."),
        (
            lambda momentum, percent: 1 / (1 - momentum),
            "this is the memory, 1/(1 − m): after so many steps about a third is left (33 to 37 %).",
        ),
        (
            lambda momentum, percent: math.ceil(_steps_to(momentum, 100 - percent)),
            "this is when so much has been forgotten: the share is what is left.",
        ),
        (
            lambda momentum, percent: (1 - percent / 100) / (1 - momentum),
            "the weights do not fade by equal parts: each step leaves m of what the one before had left.",
        ),
        (
            lambda momentum, percent: math.log(100 / percent) / (1 - momentum),
            "near: ln(1/share) / (1 − m) takes 1 − m for −ln m. Divide by −ln m, and round.",
        ),
    ],
    verified="the smallest n with mⁿ below the share.",
)


def _resume_given(seed):
    """The ring is more than twice the batch; the pointer is less than a batch from slot 0, on one side or the other."""
    draw = Random(seed)
    while True:
        batch, steps = draw.randint(5, 12), draw.randint(4, 30)
        size = draw.randint(2 * batch + 1, 5 * batch)
        shift = _shift(size, batch, steps)
        distinct = {batch + shift, batch, 2 * batch, 2 * shift, shift, batch - shift, steps * batch % size}
        if 0 < shift < batch and len(distinct) == (6 if shift == steps * batch % size else 7):
            return {"size": size, "batch": batch, "steps": steps}


def _shift(size, batch, steps):
    """How far the pointer is from slot 0, round the shorter way."""
    pointer = steps * batch % size
    return min(pointer, size - pointer)


RESUMED_RING = Question(
    task="in how many slots do the two rings differ after one more step",
    given=_resume_given,
    answer=lambda size, batch, steps: batch + _shift(size, batch, steps),
    mistakes=[
        (
            lambda size, batch, steps: batch,
            "so many slots each of the two writes: the slots that only one of them writes differ, on either side.",
        ),
        (
            lambda size, batch, steps: 2 * batch,
            "the two batches overlap: some slots are written by both, and count once.",
        ),
        (
            lambda size, batch, steps: 2 * _shift(size, batch, steps),
            "slots that both write differ too: they get different keys of the batch.",
        ),
        (
            lambda size, batch, steps: batch - _shift(size, batch, steps),
            "these are the slots that both write: those that only one writes differ, too.",
        ),
        (
            _shift,
            "this is how far the pointers are apart: count the slots that either writes.",
        ),
        (lambda size, batch, steps: size, "all slots: most of them are written by neither, and stay equal."),
    ],
    verified="each slot that at least one of the two writes, since even a slot that both write gets different keys.",
)
