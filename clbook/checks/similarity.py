"""Checks of similarities."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from clbook.checks.exercise import AXIS, Exercise, Report, judge, random


def check_cosine_similarity_matrix(function: Callable) -> Report:
    """Check `function(a, b)`: `a` [N, D] and `b` [M, D] to their cosine similarities [N, M], in [-1, 1].

    A zero vector has similarity 0 with everything.
    """
    f64 = torch.float64
    exercise = Exercise(
        task="write the function that takes `a` [N, D] and `b` [M, D] and returns their cosines [N, M]",
        cases=[
            {"a": torch.tensor([[3.0, 4, 0], [1, 2, 2]]), "b": torch.tensor([[0.0, 2, 1], [2, -1, 5]])},
            {"a": torch.tensor([[1.0, 2], [0, 3]]), "b": torch.tensor([[4.0, 3], [-1, 1], [5, 0]])},
            {"a": random(1, 1, 3), "b": random(2, 4, 3)},
            {"a": 3 * random(3, 5, 7), "b": random(4, 4, 7)},
            {"a": random(5, 9, 64, dtype=f64), "b": random(6, 12, 64, dtype=f64)},
        ],
        edge_cases=[{"a": torch.tensor([[0.0, 0], [1, 2]]), "b": torch.tensor([[3.0, 4], [2, -1]])}],
        oracle=_cosine_loop,
        mistakes=COSINE_MISTAKES,
        not_finite="a zero vector gives NaN: its length is a zero divisor. Divide by max(length, something "
        "tiny), as F.normalize does; its similarities are then 0.",
        verified="values and gradients agree with a plain loop in 6 cases (N from 1 to 9, M from 2 to 12, D "
        "from 2 to 64, float32 and float64, a zero vector), and the inputs are left as they were.",
    )
    return judge(function, exercise)


def _cosine_loop(a, b):
    """a·b / (‖a‖ ‖b‖), one pair at a time; 0 for a zero vector."""
    cosines = []
    for x in a:
        for y in b:
            lengths = (x * x).sum().sqrt() * (y * y).sum().sqrt()
            cosines.append((x * y).sum() / lengths if lengths > 0 else lengths)
    return torch.stack(cosines).reshape(len(a), len(b))


def _cosines(a, b, **options):
    return F.normalize(a, **options) @ F.normalize(b, **options).T


def _over_squared_length(x):
    return x / (x * x).sum(1, keepdim=True).clamp_min(1e-12)


COSINE_MISTAKES = [
    (lambda a, b: a @ b.T, "these are plain dot products: nothing is divided by the vectors' lengths."),
    (partial(_cosines, dim=0), AXIS),
    (lambda a, b: a / a.norm() @ (b / b.norm()).T, "every row has its own length: here one serves all."),
    (lambda a, b: F.normalize(a) @ b.T, "only one side is normalised: `b` still has its lengths."),
    (lambda a, b: a @ F.normalize(b).T, "only one side is normalised: `a` still has its lengths."),
    (
        lambda a, b: _cosines(a, b).diagonal(),
        "these are row-wise pairs only, a[i] with b[i]: every row of `a` should meet every row of `b`.",
    ),
    (lambda a, b: _cosines(b, a), "the matrix is transposed: rows belong to `a`, columns to `b`."),
    (lambda a, b: torch.cdist(a, b), "these are Euclidean distances: 0, not 1, for equal vectors."),
    (
        lambda a, b: torch.cdist(F.normalize(a), F.normalize(b)),
        "these are Euclidean distances between unit vectors; the cosine is 1 − distance² / 2.",
    ),
    (lambda a, b: 1 - _cosines(a, b), "this is 1 − cosine, a distance: the similarity itself is wanted."),
    (
        lambda a, b: _over_squared_length(a) @ _over_squared_length(b).T,
        "divided by the squared lengths: the square root is missing.",
    ),
    (partial(_cosines, p=1), "divided by sums of absolute values (p=1): a length is Euclidean (p=2)."),
]
