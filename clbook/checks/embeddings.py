"""Checks of what a map of features is made of, and of what measures it."""

from collections.abc import Callable
from functools import partial
from itertools import count

import torch

from clbook.checks.exercise import Exercise, Report, judge, random

# --- explained variance ---


def check_pca(function: Callable, seed: int = 0) -> Report:
    """Check `function(x, k)`: features [N, D] to the shares [k] of the variance along the first k principal directions,
    the largest first."""
    wide = 3 * random(4, 40, 6, dtype=torch.float64) * torch.tensor([5.0, 3, 2, 1, 0.5, 0.1]) + 20
    exercise = Exercise(
        task="write the function that takes features [N, D] and k and returns the shares [k] of the variance",
        cases=[
            {"x": torch.tensor([[7.0, 5], [3, 1], [6, 2], [4, 4]]), "k": 2},  # by hand: 0.8 and 0.2
            {"x": torch.tensor([[1.0, 0, 4], [2, 2, 4], [4, 1, 4], [0, 5, 4]]), "k": 1},  # one feature is constant
            {"x": random(1, 3, 5), "k": 2},  # fewer pictures than features
            {"x": random(2, 12, 4) * torch.tensor([4.0, 2, 1, 1]) + 7, "k": 3},
            {"x": wide, "k": 2},
        ],
        oracle=_shares_loop,
        mistakes=PCA_MISTAKES,
        not_finite="NaN or infinity: a feature that never changes has a standard deviation of zero. PCA only centres "
        "the features; nothing is divided by their deviations.",
        verified="values agree with the eigenvalues of a covariance matrix made by loops in 7 cases, two of them "
        "fresh (N from 3 to 40, D from 2 to 6, a constant feature, fewer pictures than features), and the inputs are "
        "left as they were.",
        gradients=False,
        fresh=lambda seed: {
            "x": random(seed, 6 + seed % 9, 4) * torch.tensor([3.0, 2, 1, 1]) + seed % 7,
            "k": 1 + seed % 3,
        },
    )
    return judge(function, exercise, seed)


def _shares_loop(x, k):
    """Eigenvalues of the covariance matrix, each of its entries a sum over pictures."""
    n, dim = x.shape
    mean = sum(x) / n
    covariance = torch.zeros(dim, dim, dtype=x.dtype)
    for row in x:
        for i in range(dim):
            for j in range(dim):
                covariance[i, j] += (row[i] - mean[i]) * (row[j] - mean[j]) / n
    values = sorted(torch.linalg.eigvalsh(covariance).clamp(min=0).tolist(), reverse=True)
    return torch.tensor(values[:k], dtype=x.dtype) / sum(values)


def _spectrum(x, k, *, centre=lambda x: x - x.mean(0), reduce=lambda s, k: (s**2 / (s**2).sum())[:k]):
    return reduce(torch.linalg.svdvals(centre(x)), k)


PCA_MISTAKES = [
    (
        partial(_spectrum, reduce=lambda s, k: (s / s.sum())[:k]),
        "these are shares of the singular values: a variance is the square of one.",
    ),
    (
        partial(_spectrum, centre=lambda x: x),
        "the features are not centred: subtract their mean first, or the first direction points at it.",
    ),
    (
        partial(_spectrum, centre=lambda x: x - x.mean(1, keepdim=True)),
        "centred along the wrong axis: a feature is a column, so its mean is over dim=0.",
    ),
    (
        partial(_spectrum, centre=lambda x: x - x.mean()),
        "centred by one number for all: every feature has a mean of its own, over dim=0.",
    ),
    (
        partial(_spectrum, centre=lambda x: (x - x.mean(0)) / x.std(0).clamp_min(1e-12)),
        "the features are standardised: divided by their deviations, all of them count alike.",
    ),
    (
        partial(_spectrum, reduce=lambda s, k: s[:k] ** 2 / (s[:k] ** 2).sum()),
        "divided by the variance of the first k alone: a share is of the whole, over all directions.",
    ),
    (partial(_spectrum, reduce=lambda s, k: (s**2)[:k]), "these are squared singular values, not yet shares of 1."),
    (
        lambda x, k: torch.linalg.svdvals(x - x.mean(0))[:k] ** 2 / (len(x) - 1),
        "these are variances, not yet shares: divide by their sum over all directions.",
    ),
    (
        lambda x, k: torch.linalg.svdvals(x - x.mean(0))[:k] ** 2 / len(x),
        "these are variances, not yet shares: divide by their sum over all directions.",
    ),
    (
        partial(_spectrum, reduce=lambda s, k: (s**2 / (s**2).sum()).cumsum(0)[:k]),
        "these are sums of shares: the first, the first two, and so on. Each direction's own share is wanted.",
    ),
    (
        partial(_spectrum, reduce=lambda s, k: (s**2 / (s**2).sum()).flip(0)[:k]),
        "the smallest come first: eigenvalues of torch.linalg.eigh rise. Take the last k, turned round.",
    ),
    (
        lambda x, k: (x.var(0) / x.var(0).sum()).sort(descending=True).values[:k],
        "these are the shares of the features themselves: principal directions are mixtures of them.",
    ),
]

# --- perplexity ---


def check_perplexity(function: Callable, seed: int = 0) -> Report:
    """Check `function(p)`: probabilities [N] to their perplexity, 1 to N. Zeros are allowed: 0 log 0 is 0."""
    exercise = Exercise(
        task="write the function that takes probabilities [N] and returns their perplexity",
        cases=[
            {"p": torch.tensor([0.5, 0.25, 0.25])},
            {"p": torch.tensor([0.2, 0.2, 0.2, 0.2, 0.2])},
            {"p": random(1, 7).softmax(0)},
            {"p": (3 * random(2, 30, dtype=torch.float64)).softmax(0)},
            {"p": torch.tensor([0.0, 1, 0])},
            {"p": torch.tensor([0.5, 0, 0.3, 0.2, 0])},
        ],
        oracle=_perplexity_loop,
        mistakes=PERPLEXITY_MISTAKES,
        not_finite="a probability of zero gives NaN: 0 · log 0 counts as 0. Leave zeros out (`p[p > 0]`), or use "
        "torch.special.entr.",
        verified="values agree with a plain loop in 8 cases, two of them fresh (N from 3 to 30, with and without "
        "zeros, equal probabilities and a certain one), and the inputs are left as they were.",
        gradients=False,
        number=True,
        fresh=lambda seed: {"p": random(seed, 4 + seed % 7).softmax(0)},
    )
    return judge(function, exercise, seed)


def _perplexity_loop(p):
    """The product of p to the power of -p: 2^H in whatever unit."""
    product = torch.ones((), dtype=p.dtype)
    for value in p:
        if value > 0:
            product = product * value ** (-value)
    return product


def _nats(p):
    return torch.special.entr(p).sum()


_LN2 = torch.log(torch.tensor(2.0, dtype=torch.float64)).item()

PERPLEXITY_MISTAKES = [
    (
        lambda p: (_nats(p) / _LN2).exp(),
        "bits and nats are mixed: log2 goes with 2 ** H, log goes with exp(H). Yours is exp of bits.",
    ),
    (
        lambda p: 2 ** _nats(p),
        "bits and nats are mixed: log2 goes with 2 ** H, log goes with exp(H). Yours is 2 to the nats.",
    ),
    (lambda p: (-_nats(p)).exp(), "the minus is missing: this is 1 / perplexity. The entropy is −Σ p log p, above 0."),
    (lambda p: _nats(p) / _LN2, "this is the entropy in bits: the perplexity is 2 to its power."),
    (_nats, "this is the entropy in nats: the perplexity is exp of it."),
    (lambda p: -_nats(p), "this is Σ p log p: the entropy is minus that, and the perplexity exp of it."),
    (lambda p: torch.special.entr(p).mean().exp(), "this takes the mean of −p log p: the entropy is their sum."),
    (
        lambda p: torch.special.entr(p),
        "these are the N terms −p log p: sum them, then take exp.",
    ),
    (
        lambda p: 1 / p.square().sum(),
        "this is 1 / Σ p², another count of how many matter: perplexity is exp of the entropy.",
    ),
    (lambda p: 1 / p.max(), "this is 1 / max p: perplexity heeds all probabilities, as exp of the entropy."),
    (lambda p: (p > 0).sum().to(p.dtype), "this counts the probabilities above 0: perplexity weighs them."),
]

# --- neighbours kept ---


def check_neighbours_kept(function: Callable, seed: int = 0) -> Report:
    """Check `function(features, points, k)`: features [N, D] and their map [N, 2] to the share, 0 to 1, of each one's k
    nearest others (Euclidean) that are among its k nearest on the map."""
    line = torch.tensor([[0.0, 0], [1, 0], [3, 0], [7, 0]])
    exercise = Exercise(
        task="write the function that takes features [N, D], their map [N, 2] and k and returns the share of "
        "neighbours that the map keeps",
        cases=[
            {"features": line, "points": line[[0, 2, 1, 3]], "k": 1},  # by hand: 0
            {"features": line, "points": line[[1, 3, 0, 2]] + 2, "k": 2},
            {"features": random(1, 9, 5), "points": random(2, 9, 2) + 4, "k": 3},
            {"features": random(3, 20, 6), "points": random(3, 20, 6)[:, :2], "k": 5},
            {
                "features": random(5, 12, 4, dtype=torch.float64),
                "points": random(6, 12, 2, dtype=torch.float64),
                "k": 4,
            },
        ],
        oracle=_kept_loop,
        mistakes=KEPT_MISTAKES,
        not_finite="NaN or infinity: set a point's distance to itself to infinity, but sum no distances.",
        verified="values agree with a plain loop in 7 cases, two of them fresh (N from 4 to 20, D from 2 to 6, k from "
        "1 to 5), and the inputs are left as they were.",
        gradients=False,
        number=True,
        fresh=_fresh_map,
    )
    return judge(function, exercise, seed)


def _fresh_map(seed: int) -> dict:
    """The first of a seed's draws without a near tie: rounding must not decide who is a neighbour."""
    n, k = 9 + seed % 6, 2 + seed % 3
    for attempt in count():
        x = random(seed + 10**6 * attempt, n, 6)
        features, points = x[:, :4], x[:, 3:5]  # they share a column, so that some neighbours are kept
        gaps = [torch.cdist(y, y).sort(1).values.diff()[:, k].min() for y in (features, points)]  # k-th to next
        if min(gaps) > 1e-3:
            return {"features": features, "points": points, "k": k}


def _kept_loop(features, points, k):
    kept, n = 0, len(features)
    for i in range(n):
        near = []
        for x in (features, points):
            distance = {j: sum((a - b) ** 2 for a, b in zip(x[i], x[j], strict=True)) for j in range(n) if j != i}
            near.append(set(sorted(distance, key=distance.get)[:k]))
        kept += len(near[0] & near[1])
    return torch.tensor(kept / (n * k), dtype=features.dtype)


def _nearest(x, k, *, itself=False, largest=False, score=torch.cdist):
    d = score(x, x)
    if not itself:
        d = d.masked_fill(torch.eye(len(x), dtype=torch.bool), -torch.inf if largest else torch.inf)
    return d.topk(k, dim=1, largest=largest).indices


def _shared(features, points, k, *, count=lambda hits, k: hits.mean() / k, **options):
    a, b = (_nearest(x, k, **options) for x in (features, points))
    return count((a[:, :, None] == b[:, None]).any(2).to(features.dtype).sum(1), k)


def _dots(a, b):
    return a @ b.T


def _cosines(a, b):
    return torch.nn.functional.normalize(a) @ torch.nn.functional.normalize(b).T


_SELF = "each point counts as its own nearest neighbour, which every map keeps: leave it out. "

KEPT_MISTAKES = [
    (partial(_shared, itself=True), _SELF + "Yours takes k with itself among them."),
    (
        lambda features, points, k: _shared(features, points, k + 1, itself=True),
        _SELF + "Yours takes k + 1 with itself.",
    ),
    (
        lambda features, points, k: _shared(features, points, k + 1, itself=True) * (k + 1) / k,
        _SELF + "Yours counts it and divides by k.",
    ),
    (partial(_shared, largest=True), "these are the farthest: topk takes the largest unless you say `largest=False`."),
    (
        lambda features, points, k: (_nearest(features, k) == _nearest(points, k)).to(features.dtype).mean(),
        "compared place by place: the first with the first. A neighbour is kept if it is anywhere among the k.",
    ),
    (
        partial(_shared, count=lambda hits, k: hits.mean()),
        "this is the number of neighbours kept for each point: divide by k for a share.",
    ),
    (partial(_shared, count=lambda hits, k: hits.sum()), "this is the number of neighbours kept: divide by N times k."),
    (
        partial(_shared, count=lambda hits, k: (hits / (2 * k - hits)).mean()),
        "divided by the union of both neighbourhoods: the share is of the k neighbours in D dimensions.",
    ),
    (
        partial(_shared, count=lambda hits, k: (hits > 0).to(hits.dtype).mean()),
        "this is the share of points that keep at least one neighbour: count how many of the k each keeps.",
    ),
    (
        partial(_shared, count=lambda hits, k: (hits == k).to(hits.dtype).mean()),
        "this is the share of points that keep all k: count how many of the k each keeps.",
    ),
    (partial(_shared, count=lambda hits, k: hits / k), "these are the N shares: return their mean, one number."),
    (
        partial(_shared, count=lambda hits, k: 1 - hits.mean() / k),
        "this is the share that is lost: 1 minus what is kept.",
    ),
    (
        partial(_shared, largest=True, score=_dots),
        "nearest by dot product: here near means a small Euclidean distance.",
    ),
    (partial(_shared, largest=True, score=_cosines), "nearest by cosine: here near means a small Euclidean distance."),
]

# --- t-SNE's affinities on the map ---


def check_tsne_affinities(function: Callable, seed: int = 0) -> Report:
    """Check `function(points)`: a map [N, 2] to t-SNE's q [N, N]: 1 / (1 + d²) as a share of its sum over all pairs
    i ≠ j, and 0 on the diagonal."""
    exercise = Exercise(
        task="write the function that takes a map [N, 2] and returns the affinities q [N, N]",
        cases=[
            {"points": torch.tensor([[0.0, 0], [1, 0], [3, 0]])},  # by hand: 5/16, 1/16, 2/16
            {"points": torch.tensor([[2.0, 1], [2, 1], [5, 5], [2, 4]])},  # two coincide
            {"points": 2 * random(1, 6, 2)},
            {"points": 5 * random(2, 15, 2, dtype=torch.float64)},
        ],
        oracle=_student_loop,
        mistakes=STUDENT_MISTAKES,
        not_finite="NaN or infinity: add 1 before you divide, 1 / (1 + d²); where two points coincide d is 0.",
        verified="values agree with a plain loop in 6 cases, two of them fresh (N from 3 to 15, two points that "
        "coincide), and the inputs are left as they were.",
        gradients=False,
        fresh=lambda seed: {"points": 3 * random(seed, 4 + seed % 6, 2)},
    )
    return judge(function, exercise, seed)


def _student_loop(points):
    n = len(points)
    weights = torch.zeros(n, n, dtype=points.dtype)
    for i in range(n):
        for j in range(n):
            if i != j:
                weights[i, j] = 1 / (1 + sum((a - b) ** 2 for a, b in zip(points[i], points[j], strict=True)))
    return weights / sum(weights[i, j] for i in range(n) for j in range(n))


def _q(
    points,
    *,
    weight=lambda d: 1 / (1 + d**2),
    diagonal=lambda w: w.fill_diagonal_(0),
    total=torch.sum,
    after=lambda q: q,
):
    d = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    w = diagonal(weight(d))
    return after(w / total(w))


STUDENT_MISTAKES = [
    (
        partial(_q, diagonal=lambda w: w),
        "the diagonal is kept: a point has no affinity to itself. Set it to 0 before you sum.",
    ),
    (
        partial(_q, diagonal=lambda w: w, after=lambda q: q.fill_diagonal_(0)),
        "the diagonal is 0, but it is still in the sum: set it to 0 before you sum.",
    ),
    (
        partial(_q, total=lambda w: w.sum(1, keepdim=True)),
        "each row sums to 1: on the map the sum is over all pairs, so the whole matrix sums to 1.",
    ),
    (
        partial(_q, total=lambda w: w.sum(0, keepdim=True)),
        "each column sums to 1: on the map the sum is over all pairs, so the whole matrix sums to 1.",
    ),
    (
        partial(_q, total=lambda w: w.sum() / 2),
        "twice the value: the sum is over all ordered pairs, (i, j) and (j, i) both.",
    ),
    (partial(_q, total=lambda w: 1), "not normalised: divide by the sum over all pairs i ≠ j."),
    (
        partial(_q, weight=lambda d: (-(d**2)).exp()),
        "these are Gaussians, exp(−d²), as in the space of the features: on the map the tail is 1 / (1 + d²).",
    ),
    (
        partial(_q, weight=lambda d: (-(d**2) / 2).exp()),
        "these are Gaussians, exp(−d²/2), as in the space of the features: on the map the tail is 1 / (1 + d²).",
    ),
    (partial(_q, weight=lambda d: 1 / (1 + d)), "the distance is not squared: the weight is 1 / (1 + d²)."),
    (
        partial(_q, weight=lambda d: 1 / d**2),
        "the 1 is missing: the weight is 1 / (1 + d²), or near points outweigh all.",
    ),
    (partial(_q, weight=lambda d: 1 + d**2), "these grow with the distance: the weight is 1 / (1 + d²)."),
    (
        partial(_q, weight=lambda d: (1 + d**2) ** -0.5),
        "this is the root of 1 / (1 + d²): the power is −1.",
    ),
]
