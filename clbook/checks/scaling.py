"""Checks of what a large run needs: a loss in chunks, the number of its steps, the way back through a gather."""

import math
from collections.abc import Callable

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from clbook.checks.exercise import NOT_YET, Exercise, Report, _call, judge, random

# --- log-sum-exp in chunks ---


def check_chunked_log_sum_exp(function: Callable, seed: int = 0) -> Report:
    """Check `function(q, k, temperature, chunk_size)`: [N, D] and [M, D] to log of sum over j of exp(q_i · k_j / τ),
    [N], of at most `chunk_size` rows of k at a time.

    The dot products are taken as they are.
    """
    exercise = Exercise(
        task="write the function that takes q [N, D], k [M, D], temperature and chunk_size and returns the log-sum-exp "
        "of each query's logits, [N]",
        cases=[
            _chunk_case(1, 1, 2, 2, 1.0, 1),
            _chunk_case(2, 2, 5, 3, 1.0, 2),
            _chunk_case(3, 4, 7, 3, 0.5, 3),
            _chunk_case(4, 3, 6, 4, 2.0, 6),
            _chunk_case(5, 5, 9, 4, 0.7, 100),
            _aligned_case(6, 4, 11, 8, 0.005, 4),
        ],
        oracle=_log_sum_exp,
        mistakes=CHUNK_MISTAKES,
        not_finite="exp overflows: float32 ends at exp(88.7), and a cosine of 1 at τ = 0.005 makes exp(200). Don't add "
        "up exponentials: join the chunks' log-sum-exps with torch.logaddexp, or with torch.logsumexp.",
        verified="values and gradients agree with a plain loop in 8 cases (1 to 12 queries, chunks that don't divide "
        "M, one chunk, τ from 0.005 to 2).",
        fresh=lambda seed: _chunk_case(seed, 4 + seed % 9, 6 + seed % 11, 3 + seed % 4, 0.4 + seed % 5 / 4, 4),
    )
    report = judge(function, exercise, seed)
    case = _chunk_case(1, 8, 64, 2, 1.0, 4)  # all logits are 512 numbers
    if report and _largest_result(lambda: _call(function, case, case, exercise)) > 128:
        return Report(NOT_YET, "the values are right, but more than `chunk_size` keys are in use at a time: go through "
                      "`k.split(chunk_size)`.")  # fmt: skip
    return report


def _largest_result(function: Callable) -> int:
    """The numbers in the largest tensor that torch makes on the way."""
    sizes = [0]

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, call, types, args=(), kwargs=None):
            result = call(*args, **(kwargs or {}))
            sizes.extend(tensor.numel() for tensor in tree_leaves(result) if isinstance(tensor, torch.Tensor))
            return result

    with Watch():
        function()
    return max(sizes)


def _chunk_case(seed: int, n: int, m: int, dim: int, temperature: float, chunk_size: int) -> dict:
    return {"q": random(seed, n, dim), "k": random(seed + 500, m, dim), "temperature": temperature,
            "chunk_size": chunk_size}  # fmt: skip


def _aligned_case(seed: int, n: int, m: int, dim: int, temperature: float, chunk_size: int) -> dict:
    """Unit vectors; each query is one of the keys."""
    k = F.normalize(random(seed, m, dim), dim=1)
    return {"q": k[:n].clone(), "k": k, "temperature": temperature, "chunk_size": chunk_size}


def _log_sum_exp(q, k, temperature, chunk_size):
    rows = []
    for query in q:
        logits = [sum(a * b for a, b in zip(query, key, strict=True)) / temperature for key in k]
        largest = max(logits)
        rows.append(largest + sum((logit - largest).exp() for logit in logits).log())
    return torch.stack(rows)


def _parts(q, k, temperature, chunk_size):
    """Each chunk's log-sum-exp, [chunks, N]."""
    return torch.stack([(q @ part.T / temperature).logsumexp(1) for part in k.split(chunk_size)])


def _full_chunks(q, k, temperature, chunk_size):
    kept = k[: len(k) // chunk_size * chunk_size]
    if not len(kept):
        return q.new_full((len(q),), -torch.inf)
    return (q @ kept.T / temperature).logsumexp(1)


CHUNK_MISTAKES = [
    (
        _full_chunks,
        "the last keys, which fill no whole chunk, are left out: `k.split(chunk_size)` gives them as a smaller chunk.",
    ),
    (
        lambda *case: _parts(*case).sum(0),
        "the chunks' log-sum-exps are added up: a sum of logarithms is the logarithm of a product. Join them with "
        "logaddexp, or with logsumexp.",
    ),
    (lambda *case: _parts(*case).mean(0), "this is the mean of the chunks' log-sum-exps: join them with logaddexp."),
    (lambda *case: _parts(*case).amax(0), "this is the largest of the chunks' log-sum-exps: the others count too."),
    (lambda *case: _parts(*case)[-1], "only the last chunk is in the result: join each with what came before."),
    (lambda *case: _parts(*case)[0], "only the first chunk is in the result: is there a `return` inside the loop?"),
    (
        lambda *case: torch.logaddexp(_parts(*case).logsumexp(0), torch.zeros(len(case[0]), dtype=case[0].dtype)),
        "one term too many, exp(0) = 1: an empty sum is 0, and its logarithm −∞. Start with −torch.inf, not with 0.",
    ),
    (lambda q, k, t, size: (q @ k.T).logsumexp(1), "the temperature is missing: divide the dot products by it."),
    (lambda q, k, t, size: (q @ k.T * t).logsumexp(1), "multiplied by the temperature: divide by it."),
    (
        lambda q, k, t, size: (q @ k.T).logsumexp(1) / t,
        "the temperature divides the result: it must divide the dot products, before the exponential.",
    ),
    (lambda q, k, t, size: (q @ k.T / t).amax(1), "this is each query's largest logit, not the log-sum-exp."),
    (lambda *case: _parts(*case).logsumexp(0).clamp(max=80).exp(), "the logarithm is missing."),
    (
        lambda q, k, t, size: (q @ k.T / t).logsumexp(1) - math.log(len(k)),
        "this is the log of a mean: the *sum* over the keys is wanted.",
    ),
    (
        lambda q, k, t, size: (F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / t).logsumexp(1),
        "q and k were normalised: take them as they are.",
    ),
    (
        lambda q, k, t, size: (q @ k.T / t).logsumexp(0),
        "summed over the queries: each *query* has a result, so the sum runs over dim=1, its keys.",
    ),
    (
        lambda q, k, t, size: (q @ k.T / t).logsumexp(1).mean(),
        "this is the mean over the queries: one number for each.",
    ),
]


# --- the number of steps ---


def check_run_steps(function: Callable, seed: int = 0) -> Report:
    """Check `function(pictures, batch_size, processes, epochs)`: to the number of steps of the run, an integer.

    batch_size counts the pictures of one process; what fills no batch of all processes sits out its epoch.
    """
    exercise = Exercise(
        task="write the function that takes pictures, batch_size, processes and epochs and returns the number of steps",
        cases=[
            _steps_case(*case)
            for case in ((10, 3, 1, 1), (10, 3, 1, 2), (12, 2, 3, 2), (2000, 64, 1, 10), (50_000, 128, 4, 200))
        ],
        oracle=_run_steps,
        mistakes=STEPS_MISTAKES,
        not_finite="NaN or infinite: a number of steps is whole.",
        verified="values agree with counting the batches one by one, in 7 runs of 1 to 8 processes.",
        gradients=False,
        number=True,
        fresh=lambda seed: _steps_case(1000 + seed % 997, 7 + seed % 31, 2 + seed % 7, 3 + seed % 17),
    )
    return judge(function, exercise, seed)


def _steps_case(pictures: int, batch_size: int, processes: int, epochs: int) -> dict:
    return {"pictures": pictures, "batch_size": batch_size, "processes": processes, "epochs": epochs}


def _run_steps(pictures, batch_size, processes, epochs):
    """Count: each process takes its share until one of them would find too few."""
    steps = 0
    for _ in range(epochs):
        left = pictures
        while left >= batch_size * processes:
            left -= batch_size * processes
            steps += 1
    return torch.tensor(steps)


def _number(function):
    return lambda *case: torch.tensor(float(function(*case)), dtype=torch.float64)


STEPS_MISTAKES = [
    (_number(function), sentence)
    for function, sentence in [
        (
            lambda n, b, w, e: e * -(-n // (b * w)),
            "rounded up: the rest of an epoch fills no batch and sits out, so the number of batches is rounded down.",
        ),
        (
            lambda n, b, w, e: e * n // (b * w),
            "rounded once, at the end: each epoch has a rest of its own, so round first, then multiply by the epochs.",
        ),
        (
            lambda n, b, w, e: -(-e * n // (b * w)),
            "rounded once, and up: each epoch has a rest of its own, and it sits out.",
        ),
        (lambda n, b, w, e: e * n / (b * w), "not rounded: a number of steps is whole. Use `//`, epoch by epoch."),
        (
            lambda n, b, w, e: e * (n // b),
            "the processes are missing: a step takes batch_size pictures in *each* of them.",
        ),
        (
            lambda n, b, w, e: e * (n // b) * w,
            "multiplied by the processes: they work at the same time, on one step. More processes, fewer steps.",
        ),
        (lambda n, b, w, e: n // (b * w), "this is one epoch: multiply by the epochs."),
        (
            lambda n, b, w, e: e * (2 * n // (b * w)),
            "the two views were counted as pictures: a step takes a batch of *pictures*, each with both views.",
        ),
        (
            lambda n, b, w, e: e * (n // (2 * b * w)),
            "half as many: a batch of N pictures has 2N views, but N is what counts the pictures.",
        ),
        (lambda n, b, w, e: e * (n // (b * w) + 1), "one batch too many in each epoch: the rest sits out."),
        (lambda n, b, w, e: e * (n // (b * w)) * b * w, "these are the pictures that are seen, not the steps."),
    ]
]


# --- the way back through a gather ---


def check_gather_backward(function: Callable, seed: int = 0) -> Report:
    """Check `function(grads, rank)`: [W, W n, D], what the loss of each process says about all gathered rows, to what
    process `rank` must pass back for its own rows, [n, D]."""
    exercise = Exercise(
        task="write the function that takes grads [W, W·n, D] and rank and returns the gradient of that process's own "
        "rows, [n, D]",
        cases=[
            {"grads": torch.tensor([[[1.0], [2.0]], [[30.0], [40.0]]]), "rank": 0},
            {"grads": torch.tensor([[[1.0], [2.0]], [[30.0], [40.0]]]), "rank": 1},
            {"grads": random(1, 2, 6, 2), "rank": 1},
            {"grads": random(2, 3, 6, 4), "rank": 2},
            {"grads": random(3, 4, 12, 5), "rank": 1},
        ],
        oracle=_gather_backward,
        mistakes=GATHER_MISTAKES,
        not_finite="NaN or infinite: nothing is divided here.",
        verified="values agree with two plain loops for 2 to 6 processes, the last rank among them.",
        gradients=False,
        fresh=lambda seed: {"grads": random(seed, 5 + seed % 2, (5 + seed % 2) * 3, 2), "rank": 1 + seed % 3},
    )
    return judge(function, exercise, seed)


def _gather_backward(grads, rank):
    processes, rows, dim = grads.shape
    n = rows // processes
    mine = torch.zeros(n, dim, dtype=grads.dtype)
    for process in range(processes):
        for i in range(n):
            mine[i] += grads[process, rank * n + i]
    return mine


def _block(grads, rank):
    n = grads.shape[1] // len(grads)
    return slice(rank * n, (rank + 1) * n)


GATHER_MISTAKES = [
    (
        lambda grads, rank: grads[rank, _block(grads, rank)],
        "this is what the process's *own* loss says of its rows. They are negatives of the others' anchors too: sum "
        "over all processes.",
    ),
    (
        lambda grads, rank: grads[:, _block(grads, rank)].mean(0),
        "this is the mean over the processes: `average_gradients` takes that mean afterwards, of the weights' "
        "gradients. Here the sum is wanted, or W is divided by twice.",
    ),
    (lambda grads, rank: grads.sum(0), "these are all rows, [W·n, D]: a process passes back its own n only."),
    (
        lambda grads, rank: grads.mean(0),
        "these are all rows, and a mean: the sum is wanted, of the process's own n rows.",
    ),
    (
        lambda grads, rank: grads[rank],
        "this is what one loss says of all rows: wanted is what all losses say of its own.",
    ),
    (
        lambda grads, rank: grads[rank].reshape(len(grads), -1, grads.shape[2]).sum(0),
        "this sums one process's gradient over the blocks of rows: sum over the *processes*, dim=0, in the block of "
        "this rank.",
    ),
    (
        lambda grads, rank: grads.sum(0)[rank :: len(grads)],
        "every W-th row: gathered rows stand in the order of the ranks, so rank r has the n rows from r·n on.",
    ),
    (
        lambda grads, rank: grads.sum(0)[: grads.shape[1] // len(grads)],
        "these are rank 0's rows whatever the rank is: start at rank · n.",
    ),
    (
        lambda grads, rank: grads.sum(0)[rank : rank + grads.shape[1] // len(grads)],
        "n rows from row `rank` on: the block starts at rank · n.",
    ),
    (
        lambda grads, rank: grads[:, _block(grads, rank)].sum(0) - grads[rank, _block(grads, rank)],
        "what the own loss says is left out: a row is an anchor at home and a negative elsewhere; sum over all.",
    ),
    (
        lambda grads, rank: grads[:, _block(grads, rank)],
        "each process's say stands by itself, [W, n, D]: sum over the processes, dim=0.",
    ),
]
