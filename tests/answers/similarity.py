"""Right and wrong answers to the exercises on similarity."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from answers.edit import edited
from clbook import checks, similarity
from clbook.checks.similarity import (
    ANGLE_MISTAKES,
    COSINE_MISTAKES,
    DISTANCE_MISTAKES,
    FROM_DISTANCE_MISTAKES,
    NEAREST_MISTAKES,
)

COSINE = """
def cosine(a, b):
    a_unit = a / a.norm(dim=1, keepdim=True).clamp_min(1e-12)
    b_unit = b / b.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return a_unit @ b_unit.T
"""


def cosine_einsum(a, b):
    dots = torch.einsum("nd,md->nm", a, b)
    lengths = torch.einsum("n,m->nm", torch.linalg.norm(a, dim=1), torch.linalg.norm(b, dim=1))
    return dots / (lengths + 1e-8)


def cosine_loops(a, b):
    rows = [[torch.dot(x, y) / (x.norm() * y.norm()).clamp_min(1e-8) for y in b] for x in a]
    return torch.stack([torch.stack(row) for row in rows])


def cosine_filled_in(a, b):
    result = torch.zeros(len(a), len(b), dtype=a.dtype)
    for i in range(len(a)):
        result[i] = F.cosine_similarity(a[i : i + 1], b)
    return result


def cosine_broadcast(a, b):
    return F.cosine_similarity(a[:, None], b[None], dim=2)


def cosine_in_float64(a, b):
    return (F.normalize(a.double()) @ F.normalize(b.double()).T).to(a.dtype)


def cosine_columns_first(a, b):
    return (F.normalize(b.T, dim=0).T @ F.normalize(a.T, dim=0)).T


def cosine_from_distance(a, b):
    a, b = F.normalize(a), F.normalize(b)
    squared = (a[:, None] - b[None]).square().sum(-1)
    return (a.square().sum(1)[:, None] + b.square().sum(1)[None] - squared) / 2


RIGHT_COSINE = [
    edited(COSINE),
    cosine_einsum,
    cosine_loops,
    cosine_filled_in,
    cosine_broadcast,
    cosine_in_float64,
    cosine_columns_first,
    cosine_from_distance,
    similarity.cosine_similarity_matrix,
]

WRONG_COSINE = [
    (lambda a, b: a @ b.T, "plain dot products"),
    (lambda a, b: torch.einsum("nd,md->nm", a, b), "plain dot products"),
    (edited(COSINE, "dim=1", "dim=0"), "wrong axis"),
    (edited(COSINE, "dim=1, keepdim=True", ""), "every row has its own length"),
    (
        edited(COSINE, "a / a.norm(dim=1, keepdim=True).clamp_min(1e-12)", "a"),
        "only one side is normalised: `a`",
    ),
    (
        edited(COSINE, "b / b.norm(dim=1, keepdim=True).clamp_min(1e-12)", "b"),
        "only one side is normalised: `b`",
    ),
    (F.cosine_similarity, "row-wise pairs only"),
    (
        lambda a, b: torch.stack([cosine_loops(x[None], b[i : i + 1])[0, 0] for i, x in enumerate(a)]),
        "row-wise pairs",
    ),
    (edited(COSINE, "a_unit @ b_unit.T", "b_unit @ a_unit.T"), "transposed"),
    (lambda a, b: (a[:, None] - b[None]).norm(dim=-1), "Euclidean distances: 0"),
    (lambda a, b: torch.cdist(a, b), "Euclidean distances: 0"),
    (edited(COSINE, "a_unit @ b_unit.T", "torch.cdist(a_unit, b_unit)"), "distances between unit vectors"),
    (edited(COSINE, "return ", "return 1 - "), "1 − cosine"),
    (edited(COSINE, ".norm(dim=1, keepdim=True)", ".square().sum(1, keepdim=True)"), "squared lengths"),
    (edited(COSINE, "norm(dim=1", "norm(p=1, dim=1"), "absolute values"),
    (edited(COSINE, ".clamp_min(1e-12)", ""), "a zero vector gives NaN"),
    (edited(COSINE, ".clamp_min(1e-12)", " + 1e-2"), "8 of 8 cases differ"),
    (lambda a, b: similarity.cosine_similarity_matrix(a, b).squeeze(), "shape [1, 4], not [4]"),
    (edited(COSINE, ".T", ""), "stops with an error in line 5"),
    (lambda a, b: torch.zeros(len(a), len(b)), "same value whatever"),
    (lambda a, b: torch.tensor([[0.0, 0.0], [0.0, 0.0]]), "same value whatever"),
    (lambda a, b: similarity.cosine_similarity_matrix(a, b).abs(), "not in a way that this check knows"),
    (lambda a, b: similarity.cosine_similarity_matrix(a, b).detach(), "no gradient flows back to `a`"),
    (lambda a, b: similarity.cosine_similarity_matrix(a, b.detach()), "no gradient flows back to `b`"),
    (
        lambda a, b: similarity.cosine_similarity_matrix(a.data, b.data) + 0 * (a.sum() + b.sum()),
        "no gradient flows",
    ),
    (
        edited(COSINE, ".clamp_min(1e-12)", ".clamp_min(1e-12).detach()"),
        "gradient with respect to `a` is not:",
    ),
    (lambda a, b: similarity.cosine_similarity_matrix(a, b).double(), "result is torch.float64"),
    (lambda a, b: similarity.cosine_similarity_matrix(a.float(), b.float()), "result is torch.float32"),
    (
        lambda a, b: similarity.cosine_similarity_matrix(a, b).numpy(force=True),
        "of type ndarray, not a tensor",
    ),
    (lambda a, b: similarity.cosine_similarity_matrix(a, b).tolist(), "of type list, not a tensor"),
]


# --- Euclidean distance ---


def distance_from_products(a, b):
    """By the expanded square, in float64, where it doesn't cancel."""
    a, b = a.double(), b.double()
    squared = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
    return squared.clamp_min(0).sqrt().to(torch.float32)


RIGHT_DISTANCE = [
    lambda a, b: torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist"),
    lambda a, b: (a[:, None] - b[None]).norm(dim=-1),
    lambda a, b: torch.stack([torch.linalg.norm(b - x, dim=1) for x in a]),
    lambda a, b: torch.stack([(a - y).square().sum(1).sqrt() for y in b], dim=1),
    lambda a, b: torch.einsum("nmd,nmd->nm", *[a[:, None] - b[None]] * 2).sqrt(),
    similarity.euclidean_distance_matrix,
]
WRONG_DISTANCE = [
    (lambda a, b: (a[:, None] - b[None]).square().sum(-1), "the square root is missing"),
    (distance_from_products, "your result is torch.float32"),
    (
        lambda a, b: (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).sqrt(),
        "loses their small difference",
    ),
    (lambda a, b: (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_min(0).sqrt(), "Subtract first"),
    (lambda a, b: torch.cdist(a, b, p=1), "sums of absolute differences"),
    (lambda a, b: torch.cdist(a, b, p=torch.inf), "the largest differences"),
    (lambda a, b: (a[:, None] - b[None]).square().mean(-1).sqrt(), "averaged over the coordinates"),
    (lambda a, b: torch.cdist(a, b).T, "the matrix is transposed"),
    (lambda a, b: (a[:, None] - b[None]).sum(-1).square().sqrt(), "summed before they are squared"),
    (lambda a, b: torch.cdist(F.normalize(a), F.normalize(b)), "the vectors are normalised first"),
    (lambda a, b: a @ b.T, "these are dot products"),
    (lambda a, b: torch.cdist(a.detach(), b), "no gradient flows back to `a`"),
]

# --- cosine from distance ---

RIGHT_FROM_DISTANCE = [
    lambda distance: 1 - distance**2 / 2,
    lambda d: (2 - d * d) / 2,
    lambda d: 1.0 - 0.5 * torch.square(d),
    lambda d: torch.stack([1 - x * x / 2 for x in d.flatten()]).reshape(d.shape),
]
WRONG_FROM_DISTANCE = [
    (lambda d: 1 - d, "the distance has to be squared, and halved"),
    (lambda d: 1 - d / 2, "the distance has to be squared."),
    (lambda d: 1 - d * d, "half of it is needed"),
    (lambda d: 2 - d * d, "this is 2 cos"),
    (lambda d: -(1 - d * d / 2), "the sign is wrong"),
    (lambda d: torch.acos(1 - d * d / 2), "this is the angle"),
    (lambda d: 2 - 2 * d, "solve d² = 2 − 2 cos"),
    (lambda d: (1 - d.pow(2) / 2).detach(), "no gradient flows back to `distance`"),
]

# --- angle ---

ANGLE = """
def angle(a, b):
    cosine = (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1))
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))
"""


def angle_half(a, b):
    """From the chord between the unit vectors."""
    chord = (F.normalize(a) - F.normalize(b)).norm(dim=1)
    return (2 * torch.asin((chord / 2).clamp(max=1)) * 180 / math.pi).to(a.dtype)


RIGHT_ANGLE = [
    edited(ANGLE),
    angle_half,
    lambda a, b: torch.stack(
        [torch.acos((x @ y / x.norm() / y.norm()).clamp(-1, 1)) for x, y in zip(a, b, strict=True)]
    ).mul(180 / math.pi),
    lambda a, b: F.cosine_similarity(a, b).clamp(-1, 1).acos().rad2deg(),
]
WRONG_ANGLE = [
    (edited(ANGLE, "torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))", "torch.acos(cosine.clamp(-1, 1))"), "radians"),
    (edited(ANGLE, "torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))", "cosine"), "these are cosines"),
    (edited(ANGLE, " / (a.norm(dim=1) * b.norm(dim=1))"), "the vectors are not normalised"),
    (edited(ANGLE, ".clamp(-1, 1)"), "rounding gives a cosine of 1.0000001"),
    (edited(ANGLE, "cosine.clamp(-1, 1)", "cosine.abs().clamp(-1, 1)"), "the sign is lost"),
    (edited(ANGLE, "torch.acos", "torch.asin"), "the arc sine"),
    (edited(ANGLE, "rad2deg", "deg2rad"), "degrees and radians are exchanged"),
    (lambda a, b: similarity.cosine_similarity_matrix(a, b).clamp(-1, 1).acos().rad2deg(), "every row of `a` meets"),
]

# --- nearest neighbours ---


def nearest_sorted(queries, bank, k):
    return similarity.cosine_similarity_matrix(queries, bank).argsort(dim=1, descending=True)[:, :k]


def nearest_by_distance(queries, bank, k):
    return torch.cdist(F.normalize(queries), F.normalize(bank)).topk(k, largest=False).indices


def nearest_loop(queries, bank, k):
    return torch.stack([F.cosine_similarity(q[None], bank).topk(k).indices for q in queries])


RIGHT_NEAREST = [nearest_sorted, nearest_by_distance, nearest_loop]
WRONG_NEAREST = [
    (lambda q, b, k: nearest_sorted(-q, b, k), "these are the farthest"),
    (lambda q, b, k: F.cosine_similarity(q[:, None], b[None], dim=2).topk(k).values, "the rows' indices are wanted"),
    (lambda q, b, k: (q @ b.T).topk(k).indices, "compared by dot product"),
    (lambda q, b, k: torch.cdist(q, b).topk(k, largest=False).indices, "compared by distance"),
    (lambda q, b, k: nearest_sorted(q, b, k).flip(1), "in the wrong order"),
    (lambda q, b, k: nearest_sorted(q, b, k + 1)[:, 1:], "the nearest is left out"),
    (lambda q, b, k: nearest_sorted(b, q, min(k, len(q))), "the axes are exchanged"),
    (lambda q, b, k: nearest_sorted(q, b, k).float(), "your result is torch.float32, not torch.int64"),
]

CATALOGUE = {
    checks.check_cosine_similarity_matrix: (WRONG_COSINE, RIGHT_COSINE, COSINE_MISTAKES),
    checks.check_euclidean_distance_matrix: (WRONG_DISTANCE, RIGHT_DISTANCE, DISTANCE_MISTAKES),
    checks.check_cosine_from_distance: (WRONG_FROM_DISTANCE, RIGHT_FROM_DISTANCE, FROM_DISTANCE_MISTAKES),
    checks.check_angle: (WRONG_ANGLE, RIGHT_ANGLE, ANGLE_MISTAKES),
    checks.check_nearest_neighbours: (WRONG_NEAREST, RIGHT_NEAREST, NEAREST_MISTAKES),
}


# --- questions ---


def of_two(of):
    """An answer: a function of the two vectors drawn, as float64 arrays."""

    def answer(seed):
        return of(*(np.array(x, dtype=float) for x in checks.given("cosine_by_hand", seed).values()))

    return answer


def length(x):
    return np.linalg.norm(x)


def cosine_of(a, b):
    return a @ b / length(a) / length(b)


QUESTIONS = {
    "cosine_by_hand": (
        [
            (of_two(np.dot), "this is the dot product"),
            (of_two(lambda a, b: a @ b / length(a)), "divided by the length of `a` alone"),
            (of_two(lambda a, b: a @ b / length(b)), "divided by the length of `b` alone"),
            (of_two(lambda a, b: a @ b / (a @ a) / (b @ b)), "divided by the squared lengths"),
            (of_two(lambda a, b: a @ b / (length(a) + length(b))), "the sum of the lengths"),
            (of_two(lambda a, b: a @ b / abs(a).sum() / abs(b).sum()), "sums of the absolute numbers"),
            (of_two(lambda a, b: 1 - cosine_of(a, b)), "this is 1 − cosine"),
            (of_two(lambda a, b: length(a / length(a) - b / length(b)) ** 2), "this is 2 − 2 cos"),
            (of_two(lambda a, b: length(a - b)), "this is the Euclidean distance"),
            (of_two(lambda a, b: np.degrees(np.arccos(cosine_of(a, b)))), "this is the angle in degrees"),
            (lambda seed: "0.5", "expected a number, got a str"),
        ],
        [
            of_two(cosine_of),
            of_two(lambda a, b: round(float(cosine_of(a, b)), 3)),
            of_two(lambda a, b: F.cosine_similarity(torch.tensor(a), torch.tensor(b), dim=0)),
            of_two(lambda a, b: 1 - length(a / length(a) - b / length(b)) ** 2 / 2),
        ],
    ),
}
