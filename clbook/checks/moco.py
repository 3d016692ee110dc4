"""Checks of MoCo's parts: the queue, the slow encoder, the loss with a queue."""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from clbook.checks.exercise import AXIS, Exercise, Report, judge, random

# --- the queue ---


def check_enqueue(function: Callable) -> Report:
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
        verified="values agree with a plain loop in 6 cases (K from 5 to 8, B from 1 to K, with and without a wrap), "
        "and the old ring is left as it was.",
        gradients=False,
    )
    return judge(function, exercise)


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


# --- the slow encoder ---


def check_momentum_update(function: Callable) -> Report:
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
        verified="values agree with a plain loop in 5 cases (m from 0 to 1, weights of one to four dimensions), and "
        "both weights are left as they were.",
        gradients=False,
    )
    return judge(function, exercise)


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


def check_momentum_for_run(function: Callable) -> Report:
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
        verified="values agree with a search by halving in 5 cases (1 to 500 steps, shares from 0.001 to 0.9).",
        gradients=False,
        number=True,
    )
    return judge(function, exercise)


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


# --- the loss ---


def check_info_nce_with_queue(function: Callable) -> Report:
    """Check `function(query, key, queue, temperature)`: queries and keys [N, D] and a queue [K, D] to the mean InfoNCE
    loss in nats (He et al. 2020, equation 1): K + 1 candidates a query, its own key and the queue's."""
    f64 = torch.float64
    exercise = Exercise(
        task="write the function that takes `query` [N, D], `key` [N, D], `queue` [K, D] and `temperature` and returns "
        "the InfoNCE loss",
        cases=[
            _queue_case([[1, 0], [0, 2]], [[3, 4], [1, 1]], [[0, 1], [-1, 0], [1, -1]], 0.5),
            _queue_case([[1, 0], [2, 0.1]], [[-1, 0.1], [-1, 0]], [[1, 0.1], [3, 0]], 0.01),  # 200: overflows float32
            _queue_case([[1, 2]], [[2, 1]], [[1, 0]], 1.0),
            _queue_case(3 * random(1, 4, 7), random(2, 4, 7), 2 * random(3, 9, 7), 0.1),
            _queue_case(*(random(s, n, 16, dtype=f64) for s, n in ((4, 5), (5, 5), (6, 12))), 2.0),
        ],
        oracle=_info_nce_queue_loop,
        mistakes=QUEUE_LOSS_MISTAKES,
        not_finite="right where it is finite, but NaN or infinite at τ = 0.01. exp(s/τ) overflows float32: "
        "use torch.logsumexp or F.cross_entropy, which stay in logarithms.",
        verified="values and the query's gradient agree with equation 1, as a plain loop, in 5 cases (N from 1 to 5, K "
        "from 1 to 12, τ from 0.01 to 2, float32 and float64), and the inputs are left as they were.",
        gradients=("query",),  # keys and queue have none in MoCo; whether a function detaches them is its own affair
    )
    return judge(function, exercise)


def _queue_case(query, key, queue, temperature: float) -> dict:
    tensors = [v if isinstance(v, torch.Tensor) else torch.tensor(v).float() for v in (query, key, queue)]
    return dict(zip(("query", "key", "queue"), tensors, strict=True)) | {"temperature": temperature}


def _info_nce_queue_loop(query, key, queue, temperature):
    """Equation 1 as printed. Bare exponentials are safe here: float64 holds exp(700)."""

    def unit(v):
        return v / (v * v).sum().sqrt()

    losses = []
    for q, k in zip(query, key, strict=True):
        candidates = [((unit(q) * unit(c)).sum() / temperature).exp() for c in [k, *queue]]
        losses.append(-(candidates[0] / sum(candidates)).log())
    return sum(losses) / len(losses)


def _queue_loss_with(query, key, queue, temperature, *, unit=(F.normalize,) * 3, scale=torch.div, loss=None):
    """InfoNCE with a queue, with one part replaced."""
    query, key, queue = (f(v) for f, v in zip(unit, (query, key, queue), strict=True))
    positive, negatives = scale((query * key).sum(1), temperature), scale(query @ queue.T, temperature)  # [N], [N, K]
    if loss is not None:
        return loss(positive, negatives, scale(query @ key.T, temperature))
    return (torch.cat([positive[:, None], negatives], 1).logsumexp(1) - positive).mean()


def _terms(positive, negatives, in_batch):
    return torch.cat([positive[:, None], negatives], 1).logsumexp(1) - positive


def _one_for_all(positive, negatives, in_batch):
    """All queries and candidates in one softmax."""
    return torch.cat([positive, negatives.flatten()]).logsumexp(0) - positive.mean()


_keep, _turned = (lambda v: v), partial(F.normalize, dim=0)

QUEUE_LOSS_MISTAKES = [
    (partial(_queue_loss_with, **part), sentence)
    for part, sentence in [
        (
            {"loss": lambda p, n, b: (n.logsumexp(1) - p).mean()},
            "the positive is missing from the denominator: a query has K + 1 candidates, its own key too.",
        ),
        (
            {"loss": lambda p, n, b: (torch.cat([b, n], 1).logsumexp(1) - p).mean()},
            "the other keys of the batch are among the negatives: in MoCo they come from the queue alone.",
        ),
        (
            {"loss": lambda p, n, b: (b.logsumexp(1) - p).mean()},
            "the queue is not used: these negatives are the other keys of the batch.",
        ),
        (
            {"loss": lambda p, n, b: -_terms(p, n, b).mean()},
            "the sign is wrong: the loss is −log of the positive's share.",
        ),
        (
            {"loss": lambda p, n, b: _terms(-p, -n, b).mean()},
            "the similarities have the wrong sign: exp(+s/τ). Minimising this would push positives apart.",
        ),
        (
            {"loss": lambda p, n, b: (p - n.mean(1)).mean()},
            "this is s(q, k) − s(q, n): minimised, it pushes the positive away and draws negatives near.",
        ),
        (
            {"loss": lambda p, n, b: (n.mean(1) - p).mean()},
            "this is a difference of similarities, no softmax over K + 1 candidates.",
        ),
        ({"scale": lambda s, t: s}, "this is the value without the temperature: divide similarities by it."),
        ({"scale": torch.mul}, "similarities are multiplied by the temperature: divide by it."),
        ({"unit": (_keep,) * 3}, "the vectors are not normalised: these are dot products, not cosines."),
        ({"unit": (_turned,) * 3}, AXIS),
        (
            {"unit": (F.normalize, F.normalize, _keep)},
            "the queue is not normalised: its keys must be unit vectors too.",
        ),
        ({"unit": (_keep, _keep, F.normalize)}, "query and key are not normalised: only the queue is."),
        (
            {"loss": lambda p, n, b: -(-_terms(p, n, b)).exp().mean().log()},
            "this is −log(mean), not mean(−log).",
        ),
        ({"loss": lambda p, n, b: _terms(p, n, b).sum()}, "this is the sum over the N queries: take the mean."),
        ({"loss": lambda p, n, b: _terms(p, n, b)}, "these are the N terms: the loss is their mean, one number."),
        ({"loss": _one_for_all}, "all queries share one softmax: each has its own, over its own K + 1 candidates."),
    ]
]
