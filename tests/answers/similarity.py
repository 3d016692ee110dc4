"""Right and wrong answers to the exercises on similarity."""

import torch
import torch.nn.functional as F

from answers.edit import edited
from clbook import checks, similarity
from clbook.checks.similarity import COSINE_MISTAKES

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
    (edited(COSINE, ".clamp_min(1e-12)", " + 1e-2"), "6 of 6 cases differ"),
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


CATALOGUE = {
    checks.check_cosine_similarity_matrix: (WRONG_COSINE, RIGHT_COSINE, COSINE_MISTAKES),
}
