"""Checks of similarities."""

import math
from collections.abc import Callable
from functools import partial
from random import Random

import torch
import torch.nn.functional as F

from clbook.checks.exercise import AXIS, Exercise, Report, judge, random
from clbook.checks.question import Question, drawn_apart


def check_cosine_similarity_matrix(function: Callable, seed: int = 0) -> Report:
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
        verified="values and gradients agree with a plain loop in 8 cases, two of them fresh (N from 1 to 9, M from 2 "
        "to 12, D from 2 to 64, float32 and float64, a zero vector), and the inputs are left as they were.",
        fresh=_two_sets,
    )
    return judge(function, exercise, seed)


def _two_sets(seed: int) -> dict:
    """Vectors of different lengths: N from 2 to 4, M from 5 to 11, D from 3 to 13."""
    n, m, dim = 2 + seed % 3, 5 + seed % 7, 3 + seed % 11
    return {"a": 3 * random(seed, n, dim), "b": random(seed + 1, m, dim)}


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


# --- Euclidean distance ---


def check_euclidean_distance_matrix(function: Callable, seed: int = 0) -> Report:
    """Check `function(a, b)`: `a` [N, D] and `b` [M, D] to their Euclidean distances [N, M], >= 0.

    The gradient is looked at where points differ; where two coincide, the values alone.
    """
    f64 = torch.float64
    exercise = Exercise(
        task="write the function that takes `a` [N, D] and `b` [M, D] and returns their Euclidean distances [N, M]",
        cases=[
            {"a": torch.tensor([[0.0, 0], [3, 4]]), "b": torch.tensor([[3.0, 0], [0, 8]])},
            {"a": torch.tensor([[1.0, 2, 3], [0, 3, 0]]), "b": torch.tensor([[4.0, 3, 1], [-1, 1, 0], [5, 0, 2]])},
            {"a": random(1, 1, 3), "b": random(2, 4, 3)},
            {"a": random(5, 9, 64, dtype=f64), "b": random(6, 12, 64, dtype=f64)},
        ],
        edge_cases=[
            {"a": torch.tensor([[1.0, 2], [0, 0]]), "b": torch.tensor([[1.0, 2], [2, -1]])},
            {"a": torch.tensor([[100.0, 0.001]]), "b": torch.tensor([[100.0, 0.0]])},  # |a|² + |b|² − 2 a·b cancels
        ],
        oracle=_distance_loop,
        mistakes=DISTANCE_MISTAKES,
        not_finite="NaN where two points coincide, or nearly: |a|² + |b|² − 2 a·b can come out a little below 0, and "
        "its square root is NaN. Subtract first, then square: (a − b)².",
        verified="values and gradients agree with a plain loop in 8 cases, two of them fresh (N from 1 to 9, M from 1 "
        "to 12, D from 2 to 64, float32 and float64, equal points, points 0.001 apart), and the inputs are left as "
        "they were.",
        fresh=_two_sets,
    )
    return judge(function, exercise, seed)


def _distance_loop(a, b):
    """sqrt(sum of (a − b)²), one pair at a time."""
    return torch.stack([torch.stack([((x - y) * (x - y)).sum().sqrt() for y in b]) for x in a])


def _squares(a, b):
    return (a[:, None] - b[None]).square()  # [N, M, D]


def _expanded(a, b):
    return a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T


_CANCELS = (
    "right, but for points that are close: |a|² + |b|² − 2 a·b loses their small difference beside the large squares. "
    "Subtract first, then square."
)

DISTANCE_MISTAKES = [
    (lambda a, b: _squares(a, b).sum(-1), "these are squared distances: the square root is missing."),
    (lambda a, b: _expanded(a, b).clamp_min(0).sqrt(), _CANCELS),
    (lambda a, b: _expanded(a, b).abs().sqrt(), _CANCELS),
    (lambda a, b: (a[:, None] - b[None]).abs().sum(-1), "these are sums of absolute differences, not Euclidean."),
    (lambda a, b: (a[:, None] - b[None]).abs().amax(-1), "these are the largest differences of a coordinate."),
    (lambda a, b: _squares(a, b).mean(-1).sqrt(), "the squares are averaged over the coordinates: sum them."),
    (lambda a, b: (a[:, None] - b[None]).sum(-1).abs(), "differences are summed before they are squared."),
    (lambda a, b: torch.cdist(b, a), "the matrix is transposed: rows belong to `a`, columns to `b`."),
    (
        lambda a, b: torch.cdist(F.normalize(a), F.normalize(b)),
        "the vectors are normalised first: here their lengths count.",
    ),
    (lambda a, b: a @ b.T, "these are dot products: a distance is 0 for equal vectors."),
]


# --- cosine from distance ---


def check_cosine_from_distance(function: Callable, seed: int = 0) -> Report:
    """Check `function(distance)`: Euclidean distances of unit vectors, any shape, in [0, 2], to their cosines."""
    exercise = Exercise(
        task="write the function that takes the Euclidean distances of unit vectors and returns their cosines",
        cases=[
            {"distance": torch.tensor([1.0, 2.0, 0.5])},
            {"distance": torch.tensor([[0.2, 1.9], [math.sqrt(2), 1.2]])},
            {"distance": 0.5 + 0.2 * random(1, 5, 3, dtype=torch.float64).tanh()},
        ],
        edge_cases=[{"distance": torch.zeros(2)}],
        oracle=lambda distance: 1 - distance * distance / 2,
        mistakes=FROM_DISTANCE_MISTAKES,
        not_finite="not finite: no root and no division by the distance is needed.",
        verified="values and gradients agree with 1 − distance² / 2 in 6 cases, two of them fresh, distance 0 among "
        "them.",
        fresh=lambda seed: {"distance": 1 + 0.9 * random(seed, 2 + seed % 3, 1 + seed % 7).tanh()},
    )
    return judge(function, exercise, seed)


FROM_DISTANCE_MISTAKES = [
    (lambda d: 1 - d, "this is 1 − distance: the distance has to be squared, and halved."),
    (lambda d: 1 - d / 2, "this is 1 − distance / 2: the distance has to be squared."),
    (lambda d: 1 - d**2, "this is 1 − distance²: half of it is needed, since distance² = 2 − 2 cos."),
    (lambda d: 2 - d**2, "this is 2 cos: divide by 2."),
    (lambda d: 2 - 2 * d, "this puts the distance where the formula has the cosine: solve d² = 2 − 2 cos."),
    (lambda d: d**2 / 2 - 1, "the sign is wrong: a distance of 0 is a cosine of 1."),
    (lambda d: d**2 / 2, "this is 1 − cosine."),
    (lambda d: (1 - d**2 / 2).acos(), "this is the angle: the cosine itself is wanted."),
]


# --- angle ---


def check_angle(function: Callable, seed: int = 0) -> Report:
    """Check `function(a, b)`: `a` and `b` [N, D] to the angle between a_i and b_i, [N], in degrees, 0 to 180."""
    exercise = Exercise(
        task="write the function that takes `a` and `b`, both [N, D], and returns the angles [N] in degrees",
        cases=[
            {"a": torch.tensor([[2.0, 0], [1, 1]]), "b": torch.tensor([[0.0, 3], [4, 0]])},
            {"a": 3 * random(1, 5, 7), "b": random(2, 5, 7)},
            {"a": random(3, 8, 32, dtype=torch.float64), "b": random(4, 8, 32, dtype=torch.float64)},
        ],
        edge_cases=[  # the cosine of a vector with itself comes out as 1.0000001 for some of these
            {"a": random(5, 64, 3), "b": 2 * random(5, 64, 3)},
            {"a": torch.tensor([[1.0, 3], [0.1, 0.3]]), "b": torch.tensor([[-1.0, -3], [-0.2, -0.6]])},
        ],
        oracle=_angle_loop,
        mistakes=ANGLE_MISTAKES,
        not_finite="NaN for vectors that point the same way: rounding gives a cosine of 1.0000001, which no angle has. "
        "Clamp the cosine to [−1, 1] before the arc cosine.",
        verified="values and gradients agree with a plain loop in 7 cases, two of them fresh (N from 2 to 64, D from 2 "
        "to 32, float32 and float64, parallel and opposite vectors), and the inputs are left as they were.",
        fresh=_pairs_of_rows,
        tolerance=0.05,  # degrees: near 0° and 180° float32 holds an angle no better
    )
    return judge(function, exercise, seed)


def _pairs_of_rows(seed: int) -> dict:
    """Angles well between 0° and 180°: N from 2 to 8, D from 8 to 18."""
    n, dim = 2 + seed % 7, 8 + seed % 11
    return {"a": 3 * random(seed, n, dim), "b": random(seed + 1, n, dim)}


def _angle_loop(a, b):
    """atan2(|a| b − |b| a, …): unlike the arc cosine exact for small angles too (Kahan)."""
    angles = []
    for x, y in zip(a, b, strict=True):
        x, y = x * (y * y).sum().sqrt(), y * (x * x).sum().sqrt()  # of equal lengths now
        apart, along = ((x - y) * (x - y)).sum(), ((x + y) * (x + y)).sum()
        angles.append(2 * torch.atan2(apart.clamp_min(1e-300).sqrt(), along.clamp_min(1e-300).sqrt()) * 180 / math.pi)
    return torch.stack(angles)


def _cosine_of_rows(a, b):
    return (F.normalize(a) * F.normalize(b)).sum(1).clamp(-1, 1)


ANGLE_MISTAKES = [
    (lambda a, b: _cosine_of_rows(a, b).acos(), "these are radians: one radian is 180/π degrees."),
    (lambda a, b: _cosine_of_rows(a, b), "these are cosines: the arc cosine is missing."),
    (lambda a, b: (a * b).sum(1).clamp(-1, 1).acos().rad2deg(), "the vectors are not normalised."),
    (lambda a, b: _cosine_of_rows(a, b).acos() * math.pi / 180, "degrees and radians are exchanged: times 180/π."),
    (lambda a, b: _cosine_of_rows(a, b).abs().acos().rad2deg(), "the sign is lost: opposite vectors are 180° apart."),
    (lambda a, b: _cosine_of_rows(a, b).asin().rad2deg(), "this is the arc sine: equal vectors come out 90° apart."),
    (lambda a, b: _cosines(a, b).clamp(-1, 1).acos().rad2deg(), "every row of `a` meets every row of `b` here: "
     "only a_i with b_i is wanted, [N]."),
]  # fmt: skip


# --- nearest neighbours ---


def check_nearest_neighbours(function: Callable, seed: int = 0) -> Report:
    """Check `function(queries, bank, k)`: `queries` [Q, D] and `bank` [M, D] to the rows of the bank with the k highest
    cosines, nearest first: integers [Q, k].
    """
    exercise = Exercise(
        task="write the function that takes `queries` [Q, D], `bank` [M, D] and k, and returns the indices [Q, k] of "
        "the bank's rows with the highest cosines, nearest first",
        cases=[
            {"queries": torch.tensor([[1.0, 0], [1, 3]]), "bank": torch.tensor([[1.0, 1], [2, 0.2], [-3, 9]]), "k": 2},
            {"queries": 3 * random(1, 4, 5), "bank": random(2, 9, 5) * (1 + torch.arange(9.0)[:, None]), "k": 3},
            {"queries": random(3, 7, 16, dtype=torch.float64), "bank": random(4, 20, 16, dtype=torch.float64), "k": 1},
        ],
        oracle=_nearest_loop,
        mistakes=NEAREST_MISTAKES,
        not_finite="the result is not finite: indices are integers from 0 to M − 1.",
        verified="values agree with a plain sort in 5 cases, two of them fresh (Q from 2 to 7, M from 3 to 20, k from "
        "1 to 3, vectors of different lengths), and the inputs are left as they were.",
        gradients=False,
        fresh=_queries_and_bank,
    )
    return judge(function, exercise, seed)


def _queries_and_bank(seed: int) -> dict:
    """In float64, where no two cosines are a rounding apart: Q from 3 to 7, M from 9 to 19, k 2 or 3."""
    queries, bank = random(seed, 3 + seed % 5, 6, dtype=torch.float64), random(seed + 1, 9 + seed % 11, 6)
    return {"queries": queries, "bank": bank.double() * (1 + torch.arange(len(bank)))[:, None], "k": 2 + seed % 2}


def _nearest_loop(queries, bank, k):
    """Sort the bank by falling cosine, for one query at a time."""
    rows = []
    for q in queries:
        cosines = [(q @ x / (q @ q).sqrt() / (x @ x).sqrt()).item() for x in bank]
        rows.append(sorted(range(len(bank)), key=lambda i, c=cosines: -c[i])[:k])
    return torch.tensor(rows)


NEAREST_MISTAKES = [
    (lambda q, b, k: _cosines(q, b).topk(k, largest=False).indices, "these are the farthest: take the largest."),
    (lambda q, b, k: _cosines(q, b).topk(k).values, "these are the cosines: the rows' indices are wanted."),
    (lambda q, b, k: (q @ b.T).topk(k).indices, "compared by dot product: long vectors win whatever their direction."),
    (lambda q, b, k: torch.cdist(q, b).topk(k, largest=False).indices, "compared by distance: lengths count there."),
    (lambda q, b, k: _cosines(q, b).topk(k).indices.flip(1), "the right ones in the wrong order: nearest first."),
    (lambda q, b, k: _cosines(q, b).T.topk(k).indices, "the axes are exchanged: each query asks the bank."),
    (lambda q, b, k: _cosines(q, b).topk(k, dim=0).indices if k <= len(q) else _cosines(q, b).topk(k).indices.T,
     "topk along the wrong axis: each row of cosines belongs to one query."),
    (lambda q, b, k: _cosines(q, b).topk(k + 1).indices[:, 1:], "the nearest is left out: only a query that is in the "
     "bank itself would need that."),
]  # fmt: skip


# --- questions ---

OF_WHOLE_LENGTH = [(1, 2, 2), (2, 3, 6), (1, 4, 8), (4, 4, 7), (2, 6, 9), (6, 6, 7)]  # 3, 7, 9, 9, 11, 11


def _two_vectors(generator: Random) -> dict:
    """Two vectors whose lengths are whole numbers, one of them larger than the other by far."""
    a, b = (generator.sample(numbers, 3) for numbers in generator.sample(OF_WHOLE_LENGTH, 2))
    return {"a": a, "b": [generator.choice((-1, 1, 1)) * y for y in b]}


def _dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def _cosine(a, b):
    return _dot(a, b) / (math.hypot(*a) * math.hypot(*b))


COSINE_BY_HAND_MISTAKES = [
    (_dot, "this is the dot product: divide it by both lengths."),
    (lambda a, b: _dot(a, b) / math.hypot(*a), "divided by the length of `a` alone: `b` has one too."),
    (lambda a, b: _dot(a, b) / math.hypot(*b), "divided by the length of `b` alone: `a` has one too."),
    (
        lambda a, b: _dot(a, b) / (_dot(a, a) * _dot(b, b)),
        "divided by the squared lengths: a length is the root of the sum of the squares.",
    ),
    (
        lambda a, b: _dot(a, b) / (math.hypot(*a) + math.hypot(*b)),
        "divided by the sum of the lengths, not the product.",
    ),
    (
        lambda a, b: _dot(a, b) / (sum(map(abs, a)) * sum(map(abs, b))),
        "divided by the sums of the absolute numbers: a length is the root of the sum of the squares.",
    ),
    (lambda a, b: 1 - _cosine(a, b), "this is 1 − cosine: the cosine itself is wanted."),
    (lambda a, b: 2 - 2 * _cosine(a, b), "this is 2 − 2 cos, the squared distance of the two unit vectors."),
    (lambda a, b: math.dist(a, b), "this is the Euclidean distance: the cosine is the dot product over both lengths."),
    (lambda a, b: math.degrees(math.acos(_cosine(a, b))), "this is the angle in degrees: its cosine is wanted."),
]

COSINE_BY_HAND = Question(
    task="give the cosine of the vectors `a` and `b`, a number from −1 to 1, to three decimals",
    given=lambda seed: drawn_apart(seed, _two_vectors, _cosine, *(mistake for mistake, _ in COSINE_BY_HAND_MISTAKES)),
    answer=_cosine,
    mistakes=COSINE_BY_HAND_MISTAKES,
    verified="the dot product, divided by both lengths.",
)
