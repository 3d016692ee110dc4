"""Right and wrong answers to the tasks of the clinic."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from answers.edit import edited
from clbook import checks, evaluation
from clbook.checks import clinic
from clbook.checks.clinic import LOGITS_MISTAKES, RANK_MISTAKES, RECOLOUR_MISTAKES

# --- the meter ---

RANK = """
def effective_rank(features):
    centred = features - features.mean(0)
    s = torch.linalg.svdvals(centred)
    p = s / s.sum()
    p = p[p > 0]
    return (-(p * p.log()).sum()).exp()
"""


def rank_by_numpy(features):
    s = np.linalg.svd(features.numpy() - features.numpy().mean(0, keepdims=True), compute_uv=False)
    p = s / s.sum()
    return float(np.exp(-(p * np.log(np.maximum(p, 1e-30))).sum()))


def rank_by_eigenvalues(features):
    eigenvalues = torch.linalg.eigvalsh(features.double().T.cov())
    s = eigenvalues.clamp(min=0).sqrt()
    return torch.special.entr(s / s.sum()).sum().exp()


def rank_by_product(features):
    """exp of an entropy is the product of the p to the power −p."""
    _, s, _ = torch.pca_lowrank(features.double(), q=min(features.shape), niter=20)
    p = (s / s.sum()).clamp(min=1e-30)
    return (p**-p).prod().item()


RIGHT_RANK = [edited(RANK), rank_by_numpy, rank_by_eigenvalues, rank_by_product, evaluation.effective_rank]

WRONG_RANK = [
    (edited(RANK, " - features.mean(0)"), "not centred"),
    (edited(RANK, "features.mean(0)", "features.mean(1, keepdim=True)"), "along the wrong axis"),
    (edited(RANK, "features.mean(0)", "features.mean()"), "one mean for all numbers"),
    (edited(RANK, "svdvals(centred)", "svdvals(F.normalize(centred))"), "the rows are normalised"),
    (edited(RANK, "s / s.sum()", "s**2 / (s**2).sum()"), "are squared"),
    (edited(RANK, ".exp()"), "this is the entropy"),
    (edited(RANK, "(-(p * p.log())", "((p * p.log())"), "1 over the rank"),
    (edited(RANK, ".log()", ".log2()"), "log to base 2"),
    (edited(RANK, "(-(p * p.log()).sum()).exp()", "2 ** -(p * p.log()).sum()"), "2 to the power of"),
    (edited(RANK, "(-(p * p.log()).sum()).exp()", "1 / (p**2).sum()"), "participation ratio"),
    (edited(RANK, "s / s.sum()", "s / s.max()"), "by the largest singular value"),
    (edited(RANK, "s / s.sum()", "s.softmax(0)"), "a softmax makes other shares"),
    (edited(RANK, "s / s.sum()", "F.normalize(s, dim=0)"), "divided by the norm"),
    (lambda features: torch.linalg.matrix_rank(features.double() - features.double().mean(0)).item(), "plain rank"),
    (lambda features: evaluation.effective_rank(features) / features.shape[1], "a share of D"),
    (edited(RANK, "p[p > 0]", "p[p > 0.1]"), "not in a way that this check knows"),
    (edited(RANK, "p = p[p > 0]", "p = torch.where(p > 1e-5, p, 0)"), "0 · log 0"),
    (edited(RANK, "return", "assert len(p) == 1, 'one direction'\n    return"), "stops with an error in line 7"),
    (lambda features: 2.0, "same value whatever"),
]

# --- colours ---

RECOLOUR = """
def recolour(images, matrix):
    mixed = torch.einsum("nij,njhw->nihw", matrix, images)
    return mixed.clamp(0, 1)
"""


def recolour_by_bmm(images, matrix):
    return (matrix @ images.flatten(2)).clamp(min=0, max=1).view(images.shape)


def recolour_one_by_one(images, matrix):
    mixed = [(image.permute(1, 2, 0) @ m.T).permute(2, 0, 1) for image, m in zip(images, matrix, strict=True)]
    return torch.stack(mixed).clip(0, 1)


def recolour_channel_by_channel(images, matrix):
    red, green, blue = images.unbind(1)  # [N, H, W]
    rows = [m[:, 0, None, None] * red + m[:, 1, None, None] * green + m[:, 2, None, None] * blue
            for m in matrix.unbind(1)]  # fmt: skip
    return torch.minimum(torch.maximum(torch.stack(rows, 1), torch.zeros(())), torch.ones(())).to(images.dtype)


def recolour_by_convolution(images, matrix):
    """A 1 × 1 convolution, a group for each picture."""
    n, _, height, width = images.shape
    mixed = F.conv2d(images.reshape(1, 3 * n, height, width), matrix.reshape(3 * n, 3, 1, 1), groups=n)
    return mixed.reshape(images.shape).clamp(0, 1)


RIGHT_RECOLOUR = [
    edited(RECOLOUR),
    recolour_by_bmm,
    recolour_one_by_one,
    recolour_channel_by_channel,
    recolour_by_convolution,
]

WRONG_RECOLOUR = [
    (clinic._recolour_alike, "And nothing is cut to [0, 1] yet"),
    (edited(RECOLOUR, '"nij,njhw->nihw", matrix', '"ij,njhw->nihw", matrix[0]'), "one matrix, the first"),
    (edited(RECOLOUR, '"nij,njhw->nihw", matrix', '"ij,njhw->nihw", matrix[-1]'), "one matrix, the last"),
    (edited(RECOLOUR, '"nij,njhw->nihw", matrix', '"ij,njhw->nihw", matrix.mean(0)'), "one matrix, the mean"),
    (edited(RECOLOUR, "nij,", "kij,"), "an index of the batch is lost"),
    (edited(RECOLOUR, ".clamp(0, 1)"), "values leave [0, 1]"),
    (edited(RECOLOUR, "clamp(0, 1)", "relu()"), "values above 1 are left"),
    (edited(RECOLOUR, "clamp(0, 1)", "clamp(max=1)"), "values below 0 are left"),
    (edited(RECOLOUR, "clamp(0, 1)", "sigmoid()"), "a sigmoid bends"),
    (edited(RECOLOUR, "nij,", "nji,"), "the matrices are transposed"),
    (edited(RECOLOUR, '"nij,njhw->nihw"', '"nij,nihw->nihw"'), "by the sum of its row"),
    (edited(RECOLOUR, '"nij,njhw->nihw"', '"nii,nihw->nihw"'), "by the diagonal"),
    (lambda images, matrix: images.clone(), "nothing has changed"),
    (edited(RECOLOUR, "mixed.clamp(0, 1)", "mixed / mixed.amax((1, 2, 3), keepdim=True)"), "not in a way"),
    (edited(RECOLOUR, 'torch.einsum("nij,njhw->nihw", matrix, images)', "matrix @ images"), "stops with an error"),
    (edited(RECOLOUR, "mixed.clamp(0, 1)", "images.copy_(mixed.clamp(0, 1))"), "changed its input `images`"),
    (edited(RECOLOUR, "mixed.clamp(0, 1)", "mixed.clamp(0, 1).double()"), "your result is torch.float64"),
]

# --- logits ---

LOGITS = """
def logits(z, temperature):
    own = torch.eye(len(z), dtype=torch.bool)
    z = F.normalize(z, dim=1)
    scores = z @ z.T / temperature
    return scores.masked_fill(own, -torch.inf)
"""


def logits_by_where(z, temperature):
    rows = torch.arange(len(z))
    cosines = F.cosine_similarity(z[:, None], z[None], dim=2)
    return torch.where(rows[:, None] == rows, -torch.inf, cosines / temperature)


def logits_by_einsum(z, temperature):
    z = z / z.square().sum(1, keepdim=True).sqrt()
    scores = torch.einsum("id,jd->ij", z, z / temperature)
    scores.fill_diagonal_(-torch.inf)
    return scores


def logits_by_rows(z, temperature):
    lengths = z.norm(dim=1)
    rows = []
    for i in range(len(z)):
        row = (z * z[i]).sum(1) / (lengths * lengths[i] * temperature)
        rows.append(torch.cat([row[:i], torch.full_like(row[:1], -torch.inf), row[i + 1 :]]))
    return torch.stack(rows)


RIGHT_LOGITS = [edited(LOGITS), logits_by_where, logits_by_einsum, logits_by_rows]

WRONG_LOGITS = [
    (clinic._cosines, "the temperature is ignored"),
    (edited(LOGITS, " / temperature"), "the temperature is ignored"),
    (edited(LOGITS, "/ temperature", "* temperature"), "multiplied by τ"),
    (edited(LOGITS, "/ temperature", "/ temperature**2"), "divided twice"),
    (edited(LOGITS, "F.normalize(z, dim=1)", "z"), "not normalised"),
    (edited(LOGITS, "dim=1", "dim=0"), "wrong axis"),
    (edited(LOGITS, ".masked_fill(own, -torch.inf)"), "self-similarity stands on the diagonal"),
    (edited(LOGITS, "-torch.inf", "0"), "still takes part"),
    (edited(LOGITS, "-torch.inf", "torch.inf"), "own and only candidate"),
    (edited(LOGITS, "-torch.inf", "-9e15"), "half precision has no room"),
    (edited(LOGITS, "-torch.inf", "-1e9"), "half precision has no room"),
    (edited(LOGITS, "z @ z.T", "-z @ z.T"), "the sign is turned"),
    (edited(LOGITS, "z @ z.T", "torch.cdist(z, z) ** 2"), "squared distances"),
    (edited(LOGITS, "z @ z.T / temperature", "(z @ z.T / temperature).exp()"), "cross_entropy takes logits"),
    (edited(LOGITS, "-torch.inf)", "-torch.inf).log_softmax(1)"), "log-softmax already"),
    (edited(LOGITS, "-torch.inf)", "-torch.inf).softmax(1)"), "the shares after the softmax"),
    (edited(LOGITS, "z = F.normalize(z, dim=1)", "z = F.normalize(z.detach(), dim=1)"), "no gradient flows back"),
    (edited(LOGITS, "z @ z.T", "z @ z.detach().T"), "is a part of it detached"),
    (edited(LOGITS, "scores.masked", "scores[:, :2].masked"), "stops with an error in line 6"),
]

CATALOGUE = {
    checks.check_effective_rank: (WRONG_RANK, RIGHT_RANK, RANK_MISTAKES),
    checks.check_recolour: (WRONG_RECOLOUR, RIGHT_RECOLOUR, RECOLOUR_MISTAKES),
    checks.check_logits: (WRONG_LOGITS, RIGHT_LOGITS, LOGITS_MISTAKES),
}

# --- questions ---


def keys(seed):
    return checks.given("stuck_line", seed)["queue"]


def pictures(seed):
    return checks.given("stuck_line", seed)["pictures"]


STUCK_LINE = (
    [
        (lambda seed: math.log(keys(seed)), "this is log K"),
        (lambda seed: math.log(2 * pictures(seed) - 1), "the line of SimCLR"),
        (lambda seed: np.log(keys(seed) + pictures(seed)), "log(K + N)"),
        (lambda seed: math.log(keys(seed) + 2 * pictures(seed) - 1), "log(K + 2N − 1)"),
        (lambda seed: math.log(pictures(seed)), "this is log N"),
        (lambda seed: 10 * math.log(keys(seed) + 1), "divided by τ"),
        (lambda seed: math.log10(keys(seed) + 1), "base 10"),
        (lambda seed: torch.tensor(keys(seed) + 1.0).log2(), "base 2"),
        (lambda seed: 1 / (keys(seed) + 1), "the share that each candidate gets"),
        (lambda seed: -math.log(keys(seed) + 1), "the sign is turned"),
        (lambda seed: keys(seed) + 1, "the number of candidates"),
        (lambda seed: 0.0, "not a mistake that this check knows"),
        (lambda seed: "log(K + 1)", "expected a number, got a str"),
    ],
    [
        lambda seed: math.log(keys(seed) + 1),
        lambda seed: round(math.log(keys(seed) + 1), 3),
        lambda seed: np.log1p(keys(seed)),
        lambda seed: F.cross_entropy(torch.zeros(1, keys(seed) + 1), torch.tensor([0])),
        lambda seed: -torch.zeros(keys(seed) + 1).softmax(0).log()[0],
    ],
)


def _diagnosis(name):
    def key(seed):
        return checks.answers(seed)[name]

    def another(seed):
        return next(cause for cause in clinic._FAULTS if cause != key(seed))

    wrong = [
        (lambda seed: "healthy", "has the meters of the control"),
        (lambda seed: "one view twice", "near 0 after some ten steps"),
        (lambda seed: "few pictures", "the loss on val"),
        (lambda seed: "rate too high", "Compare the ranks"),
        (another, "here it is not so"),
        (lambda seed: "collapsed", "expected one of 'healthy'"),
        (lambda seed: 3, "expected one of 'healthy'"),
    ]
    return wrong, [key, lambda seed: key(seed).upper(), lambda seed: f" {key(seed).capitalize()}\n"]


QUESTIONS = {f"patient_{letter}": _diagnosis(f"patient_{letter}") for letter in "abcd"} | {"stuck_line": STUCK_LINE}
