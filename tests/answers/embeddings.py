"""Right and wrong answers to the exercises on maps of features."""

import math

import numpy as np
import torch

from answers.edit import edited
from clbook import checks, evaluation
from clbook.checks.embeddings import KEPT_MISTAKES, PCA_MISTAKES, PERPLEXITY_MISTAKES, STUDENT_MISTAKES

PCA = """
def shares(x, k):
    centred = x - x.mean(dim=0)
    _, s, _ = torch.linalg.svd(centred, full_matrices=False)
    variance = s ** 2
    return variance[:k] / variance.sum()
"""


def shares_of_covariance(x, k):
    values = torch.linalg.eigvalsh(torch.cov(x.T.double())).flip(0).clamp(min=0)
    return (values / values.sum())[:k].to(x.dtype)


def shares_of_projections(x, k):
    x = x - x.mean(0, keepdim=True)
    _, _, directions = torch.linalg.svd(x, full_matrices=False)
    return (x @ directions[:k].T).var(0) / x.var(0).sum()


def shares_by_scikit_learn(x, k):
    from sklearn.decomposition import PCA

    return torch.tensor(PCA(k).fit(x.numpy()).explained_variance_ratio_).to(x.dtype)


RIGHT_PCA = [edited(PCA), shares_of_covariance, shares_of_projections, shares_by_scikit_learn]
WRONG_PCA = [
    (edited(PCA, "s ** 2", "s"), "the square of one"),
    (edited(PCA, " - x.mean(dim=0)"), "not centred"),
    (edited(PCA, "x.mean(dim=0)", "x.mean(dim=1, keepdim=True)"), "centred along the wrong axis"),
    (edited(PCA, "x.mean(dim=0)", "x.mean()"), "centred by one number"),
    (edited(PCA, "x - x.mean(dim=0)", "(x - x.mean(dim=0)) / (x.std(dim=0) + 1e-8)"), "standardised"),
    (edited(PCA, "x - x.mean(dim=0)", "(x - x.mean(dim=0)) / x.std(dim=0)"), "stops with an error"),
    (edited(PCA, "variance.sum()", "variance[:k].sum()"), "first k alone"),
    (edited(PCA, " / variance.sum()"), "not yet shares of 1"),
    (lambda x, k: shares_by_scikit_learn(x, k).cumsum(0), "sums of shares"),
    (lambda x, k: torch.cov(x.T).trace() * shares_of_covariance(x, k), "these are variances"),
    (lambda x, k: torch.linalg.eigvalsh(torch.cov(x.T))[:k] / torch.cov(x.T).trace(), "not in a way"),
    (lambda x, k: (x.var(0) / x.var(0).sum()).sort(descending=True).values[:k], "features themselves"),
    (lambda x, k: shares_of_covariance(x, x.shape[1]), "(shape [1], not [3])"),
    (lambda x, k: shares_of_covariance(x, k).tolist(), "of type list, not a tensor"),
]

PERPLEXITY = """
def perplexity(p):
    p = p[p > 0]
    return torch.exp(-(p * torch.log(p)).sum())
"""


def perplexity_in_bits(p):
    return 2 ** -(p * torch.log2(p.clamp_min(1e-12))).sum()


def perplexity_by_math(p):
    return math.exp(-sum(q * math.log(q) for q in p.tolist() if q > 0))


RIGHT_PERPLEXITY = [
    edited(PERPLEXITY),
    perplexity_in_bits,
    perplexity_by_math,
    lambda p: torch.special.entr(p).sum().exp(),
    lambda p: torch.distributions.Categorical(p).perplexity(),
]
WRONG_PERPLEXITY = [
    (edited(PERPLEXITY, "torch.log(", "torch.log2("), "Yours is exp of bits"),
    (edited(PERPLEXITY, "torch.exp(-(p * torch.log(p)).sum())", "2 ** -(p * p.log()).sum()"), "2 to the nats"),
    (edited(PERPLEXITY, "exp(-(", "exp(("), "the minus is missing"),
    (edited(PERPLEXITY, "    p = p[p > 0]\n"), "a probability of zero gives NaN"),
    (edited(PERPLEXITY, "torch.exp(-(p * torch.log(p)).sum())", "-(p * p.log2()).sum()"), "entropy in bits"),
    (edited(PERPLEXITY, "torch.exp(-(p * torch.log(p)).sum())", "-(p * p.log()).sum()"), "entropy in nats"),
    (lambda p: -torch.special.entr(p).sum(), "this is Σ p log p"),
    (lambda p: torch.special.entr(p).mean().exp(), "takes the mean"),
    (lambda p: torch.special.entr(p), "the N terms"),
    (lambda p: 1 / (p * p).sum(), "another count"),
    (lambda p: 1 / p.max().item(), "1 / max p"),
    (lambda p: float((p > 0).sum()), "counts the probabilities above 0"),
    (lambda p: p.sum(), "not in a way that this check knows"),
]

KEPT = """
def kept(features, points, k):
    near = []
    for x in (features, points):
        distances = torch.cdist(x, x)
        distances.fill_diagonal_(torch.inf)
        near.append(distances.topk(k, dim=1, largest=False).indices)
    same = near[0][:, :, None] == near[1][:, None, :]
    return same.any(dim=2).to(features.dtype).mean()
"""


def kept_by_sets(features, points, k):
    total = 0
    for i in range(len(features)):
        a, b = (set((x - x[i]).norm(dim=1).argsort()[: k + 1].tolist()) - {i} for x in (features, points))
        total += len(a & b)
    return total / (len(features) * k)


def kept_by_scikit_learn(features, points, k):
    from sklearn.neighbors import kneighbors_graph

    a, b = (kneighbors_graph(x.numpy(), k).toarray() for x in (features, points))
    return float((a * b).sum() / (k * len(features)))


RIGHT_KEPT = [
    edited(KEPT),
    kept_by_sets,
    kept_by_scikit_learn,
    lambda features, points, k: evaluation.neighbours_kept(features, points, k=k),
]
WRONG_KEPT = [
    (edited(KEPT, "        distances.fill_diagonal_(torch.inf)\n"), "Yours takes k with itself"),
    (
        lambda features, points, k: edited(KEPT, "        distances.fill_diagonal_(torch.inf)\n")(
            features, points, k + 1
        ),
        "Yours takes k + 1 with itself",
    ),
    (edited(KEPT, "torch.inf", "-torch.inf"), "Yours takes k with itself"),
    (edited(KEPT.replace("torch.inf", "-torch.inf"), ", largest=False"), "these are the farthest"),
    (edited(KEPT, "same.any(dim=2)", "(near[0] == near[1])"), "place by place"),
    (edited(KEPT, ".mean()", ".sum()"), "divide by N times k"),
    (edited(KEPT, ".mean()", ".sum() / len(features)"), "divide by k for a share"),
    (edited(KEPT, ".mean()", ".mean(1)"), "these are the N shares"),
    (edited(KEPT, "same.any(dim=2)", "same.any(dim=2).any(dim=1)"), "at least one neighbour"),
    (edited(KEPT, "same.any(dim=2)", "same.any(dim=2).all(dim=1)"), "keep all k"),
    (edited(KEPT, "return ", "return 1 - "), "the share that is lost"),
    (
        edited(KEPT, "torch.cdist(x, x)", "-(x @ x.T)"),
        "nearest by dot product",
    ),
    (
        edited(KEPT, "torch.cdist(x, x)", "1 - torch.cosine_similarity(x[:, None], x[None], dim=2)"),
        "nearest by cosine",
    ),
    (lambda features, points, k: 0.5, "same value whatever"),
]

Q = """
def affinities(points):
    squared = torch.cdist(points, points) ** 2
    weights = 1 / (1 + squared)
    weights.fill_diagonal_(0)
    return weights / weights.sum()
"""


def q_by_broadcasting(points):
    difference = points[:, None] - points[None]
    weights = (1 + difference.square().sum(-1)).reciprocal() - torch.eye(len(points), dtype=points.dtype)
    return weights / weights.sum()


def q_in_numpy(points):
    y = points.numpy()
    weights = 1 / (1 + np.square(y[:, None] - y).sum(2))
    np.fill_diagonal(weights, 0)
    return torch.from_numpy(weights / weights.sum())


def q_by_softmax(points):
    logits = -torch.log1p((points[:, None] - points[None]).square().sum(2))
    logits = logits.masked_fill(torch.eye(len(points), dtype=torch.bool), -torch.inf)
    return logits.flatten().softmax(0).view_as(logits)


RIGHT_Q = [edited(Q), q_by_broadcasting, q_in_numpy, q_by_softmax]
WRONG_Q = [
    (edited(Q, "    weights.fill_diagonal_(0)\n"), "the diagonal is kept"),
    (edited(Q, "weights / weights.sum()", "weights / (weights.sum() + len(points))"), "still in the sum"),
    (edited(Q, "weights.sum()", "weights.sum(dim=1, keepdim=True)"), "each row sums to 1"),
    (edited(Q, "weights.sum()", "weights.sum(dim=0)"), "each column sums to 1"),
    (edited(Q, "weights.sum()", "weights.triu().sum()"), "twice the value"),
    (edited(Q, " / weights.sum()"), "not normalised"),
    (edited(Q, "1 / (1 + squared)", "torch.exp(-squared)"), "Gaussians, exp(−d²),"),
    (edited(Q, "1 / (1 + squared)", "torch.exp(-squared / 2)"), "Gaussians, exp(−d²/2)"),
    (edited(Q, ") ** 2", ")"), "not squared"),
    (edited(Q, "1 / (1 + squared)", "1 + squared"), "grow with the distance"),
    (edited(Q, "1 / (1 + squared)", "1 / (1 + squared).sqrt()"), "the power is −1"),
    (edited(Q, "1 / (1 + squared)", "1 / squared"), "the 1 is missing"),
    (lambda points: edited(Q)(points).double(), "result is torch.float64"),
]

CATALOGUE = {
    checks.check_pca: (WRONG_PCA, RIGHT_PCA, PCA_MISTAKES),
    checks.check_perplexity: (WRONG_PERPLEXITY, RIGHT_PERPLEXITY, PERPLEXITY_MISTAKES),
    checks.check_neighbours_kept: (WRONG_KEPT, RIGHT_KEPT, KEPT_MISTAKES),
    checks.check_tsne_affinities: (WRONG_Q, RIGHT_Q, STUDENT_MISTAKES),
}
