"""Checks of InfoNCE with a queue: with all of its keys as negatives, with the hardest alone, in both directions."""

from collections.abc import Callable
from functools import partial
from random import Random

import torch
import torch.nn.functional as F

from clbook.checks.exercise import AXIS, Exercise, Report, judge, random

# --- keys of a queue as negatives ---


def check_info_nce_with_queue(function: Callable, seed: int = 0) -> Report:
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
        verified="values and the query's gradient agree with equation 1, as a plain loop, in 7 cases, two of them "
        "drawn from the seed (N from 1 to 6, K from 1 to 12, τ from 0.01 to 2, float32 and float64), and the inputs "
        "are left as they were.",
        gradients=("query",),  # keys and queue have none in MoCo; whether a function detaches them is its own affair
        fresh=_fresh_queue_case,
    )
    return judge(function, exercise, seed)


def _fresh_queue_case(seed):
    draw = Random(seed)
    n, dim, size = draw.randint(2, 6), draw.randint(3, 9), draw.randint(3, 12)
    rows = (random(seed + i, count, dim) for i, count in enumerate((n, n, size)))
    return _queue_case(*rows, draw.randint(10, 100) / 100)


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


def _terms(positive, negatives, in_batch=None):
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


# --- the hardest of them ---


def check_hard_negative_loss(function: Callable, seed: int = 0) -> Report:
    """Check `function(query, key, memory, temperature, hardest)`: the mean InfoNCE loss in nats of queries [N, D] with
    keys [N, D], where a query's negatives are those keys of the memory [K, D] that are nearest to it."""
    f64 = torch.float64
    exercise = Exercise(
        task="write the function that takes `query` [N, D], `key` [N, D], `memory` [K, D], `temperature` and `hardest` "
        "and returns the loss with the hardest negatives alone",
        cases=[
            _hardest_case([[1, 0], [0, 2]], [[3, 4], [1, 1]], [[0, 1], [-1, 0], [1, -1], [2, 1]], 0.5, 2),
            _hardest_case([[1, 0], [2, 0.1]], [[-1, 0.1], [-1, 0]], [[1, 0.1], [3, 0], [0, 1]], 0.01, 2),  # overflows
            _hardest_case([[1, 2]], [[2, 1]], [[-1, 3], [3, -1], [1, -1]], 1.0, 1),
            _hardest_case(3 * random(1, 4, 7), random(2, 4, 7), random(3, 9, 7) * torch.arange(1, 10)[:, None], 0.2, 3),
            _hardest_case(*(random(s, n, 16, dtype=f64) for s, n in ((4, 5), (5, 5), (6, 12))), 2.0, 12),  # all
        ],
        oracle=_hardest_loop,
        mistakes=HARDEST_MISTAKES,
        not_finite="right where it is finite, but NaN or infinite at τ = 0.01. exp(s/τ) overflows float32: "
        "use torch.logsumexp or F.cross_entropy, which stay in logarithms.",
        verified="values and the query's gradient agree with equation 1 over sorted negatives, as a plain loop, in 7 "
        "cases, two of them drawn from the seed (N from 1 to 6, K from 3 to 12, 1 to K negatives, τ from 0.01 to 2, "
        "float32 and float64), and the inputs are left as they were.",
        gradients=("query",),
        fresh=_fresh_hardest_case,
    )
    return judge(function, exercise, seed)


def _hardest_case(query, key, memory, temperature: float, hardest: int) -> dict:
    case = _queue_case(query, key, memory, temperature)
    return {"memory" if name == "queue" else name: value for name, value in case.items()} | {"hardest": hardest}


def _fresh_hardest_case(seed):
    draw = Random(seed)
    n, dim, size = draw.randint(2, 6), draw.randint(4, 9), draw.randint(6, 12)
    query, key, memory = (random(seed + i, count, dim) for i, count in enumerate((n, n, size)))
    memory = memory * torch.arange(1, size + 1)[:, None]
    return _hardest_case(query, key, memory, draw.randint(20, 100) / 100, draw.randint(2, size - 2))


def _hardest_loop(query, key, memory, temperature, hardest):
    """Equation 1 with a short list of negatives. Bare exponentials are safe here: float64 holds exp(700)."""

    def cosine(a, b):
        return (a * b).sum() / ((a * a).sum().sqrt() * (b * b).sum().sqrt())

    losses = []
    for q, k in zip(query, key, strict=True):
        nearest = sorted((cosine(q, c) for c in memory), key=float)[-hardest:]
        candidates = [(s / temperature).exp() for s in (cosine(q, k), *nearest)]
        losses.append(-(candidates[0] / sum(candidates)).log())
    return sum(losses) / len(losses)


def _nearest(cosines, dots, hardest):
    return cosines.topk(hardest).values


def _hardest_with(
    query, key, memory, temperature, hardest, *, unit=(F.normalize,) * 3, pick=_nearest, scale=torch.div, loss=None
):
    q, k, m = (f(v) for f, v in zip(unit, (query, key, memory), strict=True))
    negatives = pick(q @ m.T, q @ memory.T, hardest)  # [N, hardest]
    positive, negatives = scale((q * k).sum(1), temperature), scale(negatives, temperature)
    return (loss or (lambda p, n: _terms(p, n).mean()))(positive, negatives)


def _as_printed(query, key, memory, temperature, hardest):
    """The listing with all its bugs, but in logarithms: finite wherever the listing is."""
    near = (query @ F.normalize(memory).T).topk(hardest, largest=False).values / temperature
    return F.cosine_similarity(query, key) / temperature - near.logsumexp(1)


HARDEST_MISTAKES = [
    (_as_printed, "this is the listing as it is printed: find its faults."),
    *[
        (partial(_hardest_with, **part), sentence)
        for part, sentence in [
            (
                {"pick": lambda s, d, h: s.topk(h, largest=False).values},
                "these are the farthest keys, the easiest negatives: hard ones have the largest cosines.",
            ),
            (
                {"pick": lambda s, d, h: s},
                "the whole memory is compared with: only the `hardest` nearest keys of each query are asked for.",
            ),
            ({"pick": lambda s, d, h: s[:, :h]}, "these are the first slots of the memory, not the nearest keys."),
            (
                {"pick": lambda s, d, h: s[:, s.max(0).values.topk(h).indices]},
                "one short list for the whole batch: each query has nearest keys of its own (topk over dim=1).",
            ),
            (
                {"pick": lambda s, d, h: s.topk(1).values},
                "only the single nearest key is used: `hardest` of them are asked for.",
            ),
            (
                {"pick": lambda s, d, h: s.gather(1, d.topk(h).indices)},
                "the nearest keys are chosen by dot products, where long vectors win: normalise before topk.",
            ),
            (
                {"loss": lambda p, n: (n.logsumexp(1) - p).mean()},
                "the positive is missing from the denominator: a query has 1 + `hardest` candidates.",
            ),
            (
                {"loss": lambda p, n: -_terms(p, n).mean()},
                "the sign is wrong: the loss is −log of the positive's share.",
            ),
            ({"loss": lambda p, n: _terms(p, n).sum()}, "this is the sum over the N queries: take the mean."),
            (
                {"loss": lambda p, n: _terms(p, n)},
                "these are the N terms: backward() needs one number, their mean.",
            ),
            ({"loss": lambda p, n: -(-_terms(p, n)).exp().mean().log()}, "this is −log(mean), not mean(−log)."),
            (
                {"loss": lambda p, n: (n.mean(1) - p).mean()},
                "this is a difference of similarities, no softmax over 1 + `hardest` candidates.",
            ),
            ({"scale": lambda s, t: s}, "this is the value without the temperature: divide similarities by it."),
            ({"scale": torch.mul}, "similarities are multiplied by the temperature: divide by it."),
            ({"unit": (_keep,) * 3}, "the vectors are not normalised: these are dot products, not cosines."),
            ({"unit": (F.normalize, F.normalize, _keep)}, "the memory is not normalised: cosines are asked for."),
            ({"unit": (_turned,) * 3}, AXIS),
        ]
    ],
    (
        lambda query, key, memory, temperature, hardest: _terms(
            F.cosine_similarity(query, key) / temperature,
            (query @ F.normalize(memory).T).topk(hardest).values / temperature,
        ).mean(),
        "the query is not normalised where it meets the memory: the positive is a cosine, the negatives are not.",
    ),
]


# --- both directions ---


def check_symmetric_loss(function: Callable, seed: int = 0) -> Report:
    """Check `function(query1, key1, query2, key2, queue, temperature)`: the mean of both directions of InfoNCE with a
    queue [K, D]. The number is that of the view, so query1 belongs to key2; both directions meet the same queue."""
    f64 = torch.float64
    exercise = Exercise(
        task="write the function that takes queries and keys of both views, a queue and `temperature` and returns the "
        "mean of both directions",
        cases=[
            _symmetric_case(
                [[1, 0], [0, 2]], [[0, 1], [3, -1]], [[2, 1], [1, 1]], [[3, 4], [-1, 2]], [[0, -1], [-1, 0]], 0.5
            ),
            _symmetric_case([[1, 0]], [[-1, 0.1]], [[2, 0.1]], [[-1, 0]], [[1, 0.1], [3, 0]], 0.01),  # overflows
            _symmetric_case(*(random(s, n, 7) for s, n in ((1, 4), (2, 4), (3, 4), (4, 4), (5, 9))), 0.2),
            _symmetric_case(*(random(s, n, 5, dtype=f64) for s, n in ((6, 3), (7, 3), (8, 3), (9, 3), (10, 6))), 1.0),
        ],
        oracle=_symmetric_loop,
        mistakes=SYMMETRIC_MISTAKES,
        not_finite="right where it is finite, but NaN or infinite at τ = 0.01. exp(s/τ) overflows float32: "
        "use torch.logsumexp or F.cross_entropy, which stay in logarithms.",
        verified="values and both queries' gradients agree with equation 1, taken twice as a plain loop, in 6 cases, "
        "two of them drawn from the seed (N from 1 to 5, K from 2 to 12, τ from 0.01 to 1, float32 and float64), and "
        "the inputs, the queue among them, are left as they were.",
        gradients=("query1", "query2"),
        fresh=_fresh_symmetric_case,
    )
    return judge(function, exercise, seed)


def _symmetric_case(query1, key1, query2, key2, queue, temperature: float) -> dict:
    names, rows = ("query1", "key1", "query2", "key2", "queue"), (query1, key1, query2, key2, queue)
    tensors = [v if isinstance(v, torch.Tensor) else torch.tensor(v).float() for v in rows]
    return dict(zip(names, tensors, strict=True)) | {"temperature": temperature}


def _fresh_symmetric_case(seed):
    draw = Random(seed)
    n, dim, size = draw.randint(2, 5), draw.randint(3, 8), draw.randint(6, 12)
    rows = (random(seed + i, count, dim) for i, count in enumerate((n, n, n, n, size)))
    return _symmetric_case(*rows, draw.randint(20, 100) / 100)


def _symmetric_loop(query1, key1, query2, key2, queue, temperature):
    forth = _info_nce_queue_loop(query1, key2, queue, temperature)
    back = _info_nce_queue_loop(query2, key1, queue, temperature)
    return (forth + back) / 2


def _symmetric_with(q1, k1, q2, k2, queue, temperature, *, queues=lambda k1, k2, queue: (queue, queue), **part):
    first, second = queues(k1, k2, queue)
    forth, back = ((q1, k2, first), (q2, k1, second))
    return (_queue_loss_with(*forth, temperature, **part) + _queue_loss_with(*back, temperature, **part)) / 2


_BETWEEN = (
    "the first direction's keys are in the queue when the second is computed, so a query meets itself as a negative: "
)

SYMMETRIC_MISTAKES = [
    (
        lambda q1, k1, q2, k2, queue, t: _symmetric_with(q1, k2, q2, k1, queue, t),
        "query and key are of the same view here: query1 belongs to key2, and query2 to key1.",
    ),
    (
        partial(_symmetric_with, queues=lambda k1, k2, queue: (queue, torch.cat([queue, k2]))),
        _BETWEEN + "both directions meet the queue as it was given.",
    ),
    (
        partial(_symmetric_with, queues=lambda k1, k2, queue: (queue, torch.cat([queue[len(k2) :], k2]))),
        _BETWEEN + "enqueue after both. (Here the oldest keys were replaced.)",
    ),
    (
        partial(_symmetric_with, queues=lambda k1, k2, queue: (torch.cat([queue, k1, k2]),) * 2),
        "the keys of this batch are in the queue in both directions: a query meets its own key as a negative.",
    ),
    (
        partial(_symmetric_with, queues=lambda k1, k2, queue: (torch.cat([queue, k1]), torch.cat([queue, k2]))),
        "each direction has the keys of the query's own view among its negatives: the queue alone holds negatives.",
    ),
    (
        lambda *inputs: 2 * _symmetric_with(*inputs),
        "this is the sum of both directions: take their mean.",
    ),
    (
        lambda q1, k1, q2, k2, queue, t: _queue_loss_with(q1, k2, queue, t),
        "one direction only: view 2 is a query, too.",
    ),
    (
        lambda q1, k1, q2, k2, queue, t: _queue_loss_with(q2, k1, queue, t),
        "one direction only: view 1 is a query, too.",
    ),
    (
        partial(_symmetric_with, loss=lambda p, n, b: (n.logsumexp(1) - p).mean()),
        "the positive is missing from the denominator: a query has K + 1 candidates, its own key too.",
    ),
    (
        partial(_symmetric_with, loss=lambda p, n, b: (torch.cat([b, n], 1).logsumexp(1) - p).mean()),
        "the other keys of the batch are among the negatives: in MoCo they come from the queue alone.",
    ),
    (
        partial(_symmetric_with, loss=lambda p, n, b: -_terms(p, n).mean()),
        "the sign is wrong: the loss is −log of the positive's share.",
    ),
    (
        partial(_symmetric_with, scale=lambda s, t: s),
        "this is the value without the temperature: divide similarities by it.",
    ),
    (
        partial(_symmetric_with, scale=torch.mul),
        "similarities are multiplied by the temperature: divide by it.",
    ),
    (
        partial(_symmetric_with, unit=(_keep,) * 3),
        "the vectors are not normalised: these are dot products, not cosines.",
    ),
]
