"""Right and wrong answers to the exercises on contrastive losses."""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F

from answers.edit import edited
from clbook import checks, losses
from clbook.checks.contrast import (
    FALSE_NEGATIVES_MISTAKES,
    INFO_NCE_GRADIENT_MISTAKES,
    INFO_NCE_MISTAKES,
    LOG_SUM_EXP_MISTAKES,
    NEGATIVE_WEIGHTS_MISTAKES,
    NT_XENT_MISTAKES,
    SUP_CON_MISTAKES,
)

# The two ways people write it: the first stays in logarithms, the second overflows at τ = 0.01.
NT_XENT = """
def nt_xent(view1, view2, temperature):
    n = len(view1)
    z = F.normalize(torch.cat([view1, view2]), dim=1)
    logits = z @ z.T / temperature
    logits = logits.masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
    partner = (torch.arange(2 * n) + n) % (2 * n)
    losses = F.cross_entropy(logits, partner, reduction="none")
    return losses.mean()
"""

RAW_EXP = """
def nt_xent(view1, view2, temperature):
    n = len(view1)
    z = torch.cat([view1, view2])
    z = z / z.norm(dim=1, keepdim=True)
    weights = torch.exp(z @ z.T / temperature)
    own = torch.eye(2 * n, dtype=torch.bool)
    positive = torch.cat([weights.diagonal(n), weights.diagonal(-n)])
    ratio = positive / weights.masked_fill(own, 0).sum(1)
    return -torch.log(ratio).mean()
"""


def nt_xent_loops(view1, view2, temperature):
    rows = [row / row.norm() for row in [*view1, *view2]]
    total = 0
    for i, anchor in enumerate(rows):
        scores = torch.stack([anchor @ other / temperature for k, other in enumerate(rows) if k != i])
        positive = anchor @ rows[(i + len(view1)) % len(rows)] / temperature
        total = total + torch.logsumexp(scores, 0) - positive
    return total / len(rows)


def nt_xent_blocks(view1, view2, tau):
    """Four N×N blocks, both directions, as in Google's code; the temperature has a name of its own."""
    a, b = F.normalize(view1), F.normalize(view2)
    inf = torch.diag(torch.full((len(a),), torch.inf, dtype=a.dtype))
    aa, bb, ab = a @ a.T / tau - inf, b @ b.T / tau - inf, a @ b.T / tau
    target = torch.arange(len(a))
    return (F.cross_entropy(torch.cat([ab, aa], 1), target) + F.cross_entropy(torch.cat([ab.T, bb], 1), target)) / 2


def nt_xent_einsum(view1, view2, temperature):
    z = F.normalize(torch.stack([view1, view2], dim=1).flatten(0, 1))  # interleaved: partners are neighbours
    logits = torch.einsum("id,kd->ik", z, z) / temperature
    logits.fill_diagonal_(-9e15)
    partner = torch.arange(len(z)) ^ 1
    return -logits.log_softmax(1).gather(1, partner[:, None]).mean()


def nt_xent_no_diagonal(view1, view2, temperature):
    z, m = F.normalize(torch.cat([view1, view2])), 2 * len(view1)
    s = F.cosine_similarity(z[:, None], z[None], dim=-1)
    s = s.flatten()[1:].view(m - 1, m + 1)[:, :-1].reshape(m, m - 1) / temperature  # drops the diagonal
    positive = (z * z.roll(m // 2, 0)).sum(1) / temperature
    top = s.max(1, keepdim=True).values.detach()
    return (top[:, 0] + (s - top).exp().sum(1).log() - positive).mean()


def nt_xent_in_float64(view1, view2, temperature):
    return edited(RAW_EXP)(view1.double(), view2.double(), temperature).to(view1.dtype)


class NTXent(torch.nn.Module):
    def forward(self, view1, view2, temperature):
        return nt_xent_loops(view1, view2, temperature)


RIGHT_NT_XENT = [
    edited(NT_XENT),
    nt_xent_loops,
    nt_xent_blocks,
    nt_xent_einsum,
    nt_xent_no_diagonal,
    nt_xent_in_float64,
    NTXent(),
    losses.nt_xent,  # its temperature is keyword-only
    functools.partial(losses.nt_xent, chunk_size=3),
]


def info_nce(view1, view2, temperature):
    logits = F.normalize(view1) @ F.normalize(view2).T / temperature
    return F.cross_entropy(logits, torch.arange(len(view1)))


def log_probability(view1, view2, temperature):
    return -losses.nt_xent(view1, view2, temperature=temperature)


MAX_WITH_SELF = """
def nt_xent(view1, view2, temperature):
    n = len(view1)
    z = F.normalize(torch.cat([view1, view2]))
    logits = z @ z.T / temperature
    logits = logits - logits.max(1, keepdim=True).values.detach()
    weights = logits.exp() * (1 - torch.eye(2 * n, dtype=z.dtype))
    positive = torch.cat([logits.diagonal(n), logits.diagonal(-n)])
    return (weights.sum(1).log() - positive).mean()
"""

WRONG_NT_XENT = [
    (edited(NT_XENT, " / temperature"), "without the temperature"),
    (edited(RAW_EXP, " / temperature"), "without the temperature"),
    (edited(NT_XENT, "/ temperature", "* temperature"), "multiplied by the temperature"),
    (edited(RAW_EXP, "/ temperature", "* temperature"), "multiplied by the temperature"),
    (edited(NT_XENT, "-torch.inf", "logits"), "stops with an error in line 6"),
    (
        edited(NT_XENT, "logits.masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)", "logits"),
        "self-similarity is",
    ),
    (edited(RAW_EXP, ".masked_fill(own, 0)"), "self-similarity is still in the denominator"),
    (edited(NT_XENT, "(torch.arange(2 * n) + n) % (2 * n)", "torch.arange(2 * n) ^ 1"), "its neighbour"),
    (
        edited(NT_XENT, "torch.cat([view1, view2])", "torch.stack([view1, view2], 1).flatten(0, 1)"),
        "views that are interleaved",
    ),
    (
        edited(NT_XENT, "+ n)", "+ 1)"),
        "wrong row: with the views stacked, row i belongs with row i + N. Yours is the next",
    ),
    (edited(NT_XENT, "+ n) %", ") %"), "perhaps row i itself, which is masked"),
    (
        edited(RAW_EXP, "torch.cat([weights.diagonal(n), weights.diagonal(-n)])", "weights.diagonal()"),
        "wrong row: with the views stacked, row i belongs with row i + N. Yours is row i itself.",
    ),
    (
        lambda view1, view2, t: F.cross_entropy(
            F.cosine_similarity(torch.cat([view1, view2])[:, None], torch.cat([view1, view2]), dim=2) / t,
            torch.arange(2 * len(view1)),
        ),
        "row i itself, which isn't masked either",
    ),
    (edited(NT_XENT, "/ temperature", "/ (temperature + 1e-3)"), "not in a way that this check knows"),
    (info_nce, "InfoNCE in one direction"),
    (lambda a, b, t: (info_nce(a, b, t) + info_nce(b, a, t)) / 2, "InfoNCE in two directions"),
    (edited(NT_XENT, "losses.mean()", "losses[:n].mean()"), "one direction only"),
    (
        edited(RAW_EXP, "fill(own, 0)", "fill(own | own.roll(n, 0), 0)"),
        "positive is left out of the denominator",
    ),
    (edited(RAW_EXP, "0).sum(1)", "0).sum(1).sub(positive)"), "positive is left out of the denominator"),
    (
        edited(NT_XENT, "F.normalize(torch.cat([view1, view2]), dim=1)", "torch.cat([view1, view2])"),
        "not normalised",
    ),
    (edited(RAW_EXP, "z / z.norm(dim=1, keepdim=True)", "z"), "not normalised"),
    (edited(NT_XENT, "dim=1", "dim=0"), "wrong axis"),
    (
        edited(
            NT_XENT,
            "F.normalize(torch.cat([view1, view2]), dim=1)",
            "torch.cat([F.normalize(v, dim=0) for v in (view1, view2)])",
        ),
        "wrong axis",
    ),
    (edited(RAW_EXP, "-torch.log(ratio).mean()", "-torch.log(ratio.mean())"), "this is −log(mean)"),
    (edited(NT_XENT, "losses.mean()", "losses.sum()"), "this is the sum"),
    (edited(RAW_EXP, ".mean()", ".sum() / n"), "exactly twice the value"),
    (edited(NT_XENT, "losses.mean()", "losses"), "these are the 2N terms"),
    (log_probability, "the sign is wrong"),
    (edited(RAW_EXP), "NaN or infinite at τ = 0.01"),
    (
        edited(RAW_EXP, "torch.log(ratio)", "(torch.log(positive) - weights.masked_fill(own, 0).sum(1).log())"),
        "infinite at",
    ),
    (edited(MAX_WITH_SELF), "NaN or infinite at τ = 0.01"),
    (edited(RAW_EXP, "log(ratio)", "log(ratio + 1e-8)"), "caps the loss"),
    (edited(RAW_EXP, "log(ratio)", "log(ratio + 1e-5)"), "caps the loss"),
    (edited(RAW_EXP, "log(ratio)", "log(ratio.clamp_min(1e-12))"), "caps the loss"),
    (
        edited(
            NT_XENT,
            'F.cross_entropy(logits, partner, reduction="none")',
            "-(logits.softmax(1).gather(1, partner[:, None]) + torch.finfo(z.dtype).tiny).log()",
        ),
        "caps the loss",
    ),
    (lambda view1, view2, temperature: torch.tensor(math.log(2 * 2 - 1)), "same value whatever"),
    (lambda view1, view2, temperature: view1.sum() * 0, "same value whatever"),
    (
        lambda view1, view2, temperature: torch.log(torch.tensor(2.0 * len(view1) - 1)),
        "not in a way that this check knows",
    ),
    (lambda a, b, t: losses.nt_xent(a, b, temperature=t).reshape(1), "(shape [], not [1])"),
    (lambda a, b, t: losses.nt_xent(a, b, temperature=t).item(), "of type float, not a tensor"),
    (lambda a, b, t: losses.nt_xent(a, b, temperature=t).detach(), "no gradient flows back to `view1`"),
    (lambda a, b, t: losses.nt_xent(a, b.detach(), temperature=t), "no gradient flows back to `view2`"),
    (lambda a, b, t: losses.nt_xent(a, b, temperature=t).double(), "result is torch.float64"),
    (
        lambda a, b: losses.nt_xent(a, b, temperature=0.5),
        "when it is called with (view1, view2, temperature)",
    ),
]


# --- InfoNCE ---

INFO_NCE = """
def info_nce(query, key, temperature):
    query = F.normalize(query, dim=1)
    key = F.normalize(key, dim=1)
    logits = query @ key.T / temperature
    losses = F.cross_entropy(logits, torch.arange(len(logits)), reduction="none")
    return losses.mean()
"""

INFO_NCE_RAW = """
def info_nce(query, key, temperature):
    query, key = query / query.norm(dim=1, keepdim=True), key / key.norm(dim=1, keepdim=True)
    weights = torch.exp(query @ key.T / temperature)
    share = weights.diagonal() / weights.sum(1)
    return -torch.log(share).mean()
"""


def info_nce_loops(query, key, temperature):
    total = 0
    for i, q in enumerate(query):
        scores = torch.stack([F.cosine_similarity(q, k, dim=0) / temperature for k in key])
        total = total + torch.logsumexp(scores, 0) - scores[i]
    return total / len(query)


def info_nce_softplus(query, key, tau):
    """One softplus for each anchor: log(1 + Σ exp(s_j − s_pos)) over the negatives alone."""
    s = F.cosine_similarity(query[:, None], key[None], dim=2) / tau
    own = torch.eye(len(s), dtype=torch.bool)
    return F.softplus(s.masked_fill(own, -torch.inf).logsumexp(1) - s.diagonal()).mean()


def info_nce_einsum(query, key, temperature):
    logits = torch.einsum("nd,md->nm", F.normalize(query), F.normalize(key)).div(temperature)
    return -logits.log_softmax(dim=1).diagonal().mean()


def info_nce_in_float64(query, key, temperature):
    return edited(INFO_NCE_RAW)(query.double(), key.double(), temperature).to(query.dtype)


RIGHT_INFO_NCE = [
    edited(INFO_NCE),
    info_nce_loops,
    info_nce_softplus,
    info_nce_einsum,
    info_nce_in_float64,
    losses.info_nce,
]

WRONG_INFO_NCE = [
    (edited(INFO_NCE, " / temperature"), "without the temperature"),
    (edited(INFO_NCE, "/ temperature", "* temperature"), "multiplied by the temperature"),
    (edited(INFO_NCE_RAW, "/ temperature", "* temperature"), "multiplied by the temperature"),
    (lambda q, k, t: F.cross_entropy(q @ k.T / t, torch.arange(len(q))), "not normalised"),
    (edited(INFO_NCE, "query = F.normalize(query, dim=1)", "pass"), "only one side is normalised: `query` isn't"),
    (edited(INFO_NCE, "key = F.normalize(key, dim=1)", "pass"), "only one side is normalised: `key` isn't"),
    (edited(INFO_NCE, "dim=1", "dim=0"), "wrong axis"),
    (edited(INFO_NCE, "query @ key.T", "key @ query.T"), "anchors and candidates are exchanged"),
    (edited(INFO_NCE_RAW, "weights.sum(1)", "weights.sum(0)"), "anchors and candidates are exchanged"),
    (edited(INFO_NCE_RAW, "weights.sum(1)", "(weights.sum(1) - weights.diagonal())"), "left out of the denominator"),
    (edited(INFO_NCE, "torch.arange(len(logits))", "torch.arange(len(logits)).roll(-1)"), "Yours is row i + 1"),
    (edited(INFO_NCE, "torch.arange(len(logits))", "torch.arange(len(logits)).roll(1)"), "wrong place"),
    (edited(INFO_NCE, "torch.arange(len(logits))", "torch.zeros(len(logits)).long()"), "Yours is row 0"),
    (edited(INFO_NCE, "losses.mean()", "losses.sum()"), "this is the sum"),
    (edited(INFO_NCE, "losses.mean()", "losses"), "these are the N terms"),
    (edited(INFO_NCE, "losses.mean()", "-losses.mean()"), "the sign is wrong"),
    (edited(INFO_NCE_RAW, "-torch.log(share).mean()", "-torch.log(share.mean())"), "this is −log(mean)"),
    (edited(INFO_NCE_RAW, "log(share)", "log(share + 1e-8)"), "caps the loss"),
    (edited(INFO_NCE_RAW), "NaN or infinite at τ = 0.01"),
    (lambda q, k, t: (losses.info_nce(q, k, temperature=t) + losses.info_nce(k, q, temperature=t)) / 2, "as in CLIP"),
    (lambda q, k, t: losses.nt_xent(q, k, temperature=t), "this is NT-Xent"),
    (lambda q, k, t: losses.info_nce(q, k, temperature=t).item(), "of type float, not a tensor"),
    (lambda q, k, t: losses.info_nce(q, k.detach(), temperature=t), "no gradient flows back to `key`"),
    (lambda q, k, t: losses.info_nce(q, k, temperature=t + 1e-3), "not in a way that this check knows"),
]


# --- log-sum-exp ---

LOG_SUM_EXP = """
def log_sum_exp(logits):
    largest = logits.max(dim=1, keepdim=True).values
    total = (logits - largest).exp().sum(dim=1)
    return total.log() + largest[:, 0]
"""


def log_sum_exp_loops(logits):
    results = []
    for row in logits:
        top = row.max()
        results.append(top + torch.log(sum(torch.exp(x - top) for x in row)))
    return torch.stack(results)


def log_sum_exp_pairwise(logits):
    total = logits[:, 0]
    for column in logits.T[1:]:
        total = torch.logaddexp(total, column)
    return total


RIGHT_LOG_SUM_EXP = [
    edited(LOG_SUM_EXP),
    log_sum_exp_loops,
    log_sum_exp_pairwise,
    lambda logits: torch.logsumexp(logits, 1),
    lambda logits: logits.double().exp().sum(1).log().to(logits.dtype),
]

WRONG_LOG_SUM_EXP = [
    (lambda logits: logits.exp().sum(1).log(), "vanishes below −103"),
    (edited(LOG_SUM_EXP, "logits.max(dim=1, keepdim=True).values", "logits.max() + 0 * logits[:, :1]"), "its own"),
    (lambda logits: logits.exp().sum(1), "the log is missing"),
    (edited(LOG_SUM_EXP, "exp().sum(dim=1)", "exp().sum(dim=0)"), "stops with an error"),
    (lambda logits: logits.logsumexp(0), "over each column"),
    (lambda logits: logits.logsumexp((0, 1)), "one number for the whole matrix"),
    (lambda logits: logits.logsumexp(1).mean(), "the mean over the rows"),
    (edited(LOG_SUM_EXP, "largest[:, 0]", "largest"), "broadcasts to [N, N]"),
    (lambda logits: logits.logsumexp(1, keepdim=True), "of shape [N, 1]"),
    (lambda logits: logits.logsumexp(1) - math.log(logits.shape[1]), "the log of the mean"),
    (edited(LOG_SUM_EXP, " + largest[:, 0]"), "has to be added again"),
    (edited(LOG_SUM_EXP, " + largest", " - largest"), "subtracted once more"),
    (lambda logits: logits.exp().log().sum(1), "sum first, then take the log"),
    (lambda logits: logits.amax(1), "the others count too"),
    (lambda logits: logits.log_softmax(1), "this is log-softmax"),
    (lambda logits: logits.clamp(max=80).exp().sum(1).log(), "cut off before exp"),
    (lambda logits: logits.clamp(-60, 80).exp().sum(1).log(), "not in a way"),
    (lambda logits: logits.clamp(max=80).logsumexp(1), "cut off before exp"),
    (lambda logits: torch.logsumexp(logits.detach(), 1), "no gradient flows back to `logits`"),
]


# --- the gradient ---

GRADIENT = """
def gradient(similarities, tau):
    p = torch.softmax(similarities / tau, dim=0)
    target = torch.zeros_like(p)
    target[0] = 1
    return (p - target) / tau
"""


def gradient_by_autograd(similarities, tau):
    s = similarities.clone().requires_grad_()
    loss = F.cross_entropy(s[None] / tau, torch.tensor([0]))
    return torch.autograd.grad(loss, s)[0]


def gradient_loops(similarities, temperature):
    weights = [torch.exp((s - max(similarities)) / temperature) for s in similarities]
    shares = [w / sum(weights) for w in weights]
    return torch.stack([-sum(shares[1:]) / temperature, *(p / temperature for p in shares[1:])])


RIGHT_GRADIENT = [
    edited(GRADIENT),
    gradient_by_autograd,
    gradient_loops,
    lambda s, tau: ((s / tau).softmax(0) - F.one_hot(torch.tensor(0), len(s))) / tau,
]

WRONG_GRADIENT = [
    (edited(GRADIENT, "(p - target) / tau", "p - target"), "the factor 1/τ is missing"),
    (edited(GRADIENT, "(p - target) / tau", "(p - target) * tau"), "multiplied by τ"),
    (edited(GRADIENT, "similarities / tau", "similarities"), "those at τ = 1"),
    (edited(GRADIENT, "(p - target)", "(target - p)"), "turn the sign."),
    (edited(GRADIENT, "(p - target) / tau", "target - p"), "turn the sign; and the factor"),
    (edited(GRADIENT, "(p - target)", "p"), "as if it were a negative"),
    (edited(GRADIENT, "target[0] = 1", "target[0] = 2 * p[0]"), "and all entries sum to zero"),
    (edited(GRADIENT, "target[0] = 1", "target[0] = 2 * p[0] - 1"), "raising its similarity lowers the loss"),
    (edited(GRADIENT, "target[0]", "target[-1]"), "not the last"),
    (edited(GRADIENT, "(p - target) / tau", "(p - target) / tau / len(p)"), "divided by N"),
    (
        lambda s, tau: ((s / tau).exp() / (s / tau).exp().sum() - F.one_hot(torch.tensor(0), len(s))) / tau,
        "NaN or infinite at τ = 0.01",
    ),
    (lambda s, tau: gradient_loops(s, tau)[1:], "expected (shape [3], not [2])"),
]


# --- false negatives ---

SHARE = """
def share(labels):
    n = len(labels)
    same = labels[:, None] == labels[None, :]
    others = same.sum(1) - 1
    return (2 * others / (2 * n - 2)).mean()
"""


def share_in_loops(labels):
    both, n, false = labels.tolist() * 2, len(labels), 0
    for i in range(2 * n):
        false += sum(both[i] == both[k] for k in range(2 * n)) - 2
    return false / (2 * n * (2 * n - 2))


def share_with_a_mask(labels):
    both, n = labels.repeat(2), len(labels)
    own = torch.eye(2 * n, dtype=torch.bool)
    negatives = ~(own | own.roll(n, 1))
    return (both[:, None] == both)[negatives].double().mean()


def share_from_counts(labels):
    counts = torch.bincount(labels - labels.min())
    return (counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1))


RIGHT_SHARE = [edited(SHARE), share_in_loops, share_with_a_mask, share_from_counts]

WRONG_SHARE = [
    (edited(SHARE, "(2 * others / (2 * n - 2)).mean()", "same.double().mean()"), "are counted as negatives"),
    (edited(SHARE, "(2 * others / (2 * n - 2))", "((2 * others + 1) / (2 * n - 1))"), "positive is counted"),
    (edited(SHARE, "2 * n - 2", "2 * n - 1"), "of these, one is the positive"),
    (edited(SHARE, "2 * n - 2", "2 * n"), "none of its negatives"),
    (edited(SHARE, " / (2 * n - 2)", " / 1"), "mean count of false negatives"),
    (edited(SHARE, "2 * others / (2 * n - 2)", "others / 1"), "mean count of pictures"),
    (edited(SHARE, "(2 * others / (2 * n - 2)).mean()", "others.sum().item()"), "total count:"),
    (lambda labels: 4 * (labels[:, None] == labels).sum().item() - 4 * len(labels), "total count of pairs"),
    (edited(SHARE, "(2 * others / (2 * n - 2))", "(1 - others / (n - 1))"), "share of the true negatives"),
    (edited(SHARE, "2 * others / (2 * n - 2)", "others / (2 * n - 2)"), "both are false"),
    (lambda labels: 1 / len(set(labels.tolist())), "a guess for even classes"),
    (edited(SHARE, "(2 * others / (2 * n - 2)).mean()", "others.sum()"), "not plain numbers of the kind asked for"),
    (lambda labels: 0.2, "same value whatever"),
    (edited(SHARE, "(2 * others / (2 * n - 2)).mean()", "2 * others / (2 * n - 2)"), "(shape [], not [3])"),
]


# --- how hard each negative is pushed ---

WEIGHTS = """
def weights(cosines, temperature):
    own = torch.eye(len(cosines), dtype=torch.bool)
    logits = (cosines / temperature).masked_fill(own, -torch.inf)
    return torch.softmax(logits, dim=1)
"""

WEIGHTS_RAW = """
def weights(cosines, temperature):
    push = torch.exp(cosines / temperature)
    push = push * (1 - torch.eye(len(cosines), dtype=cosines.dtype))
    return push / push.sum(dim=1, keepdim=True)
"""


def weights_loops(cosines, temperature):
    result = torch.zeros_like(cosines)
    for i, row in enumerate(cosines):
        others = [j for j in range(len(row)) if j != i]
        result[i, others] = torch.softmax(row[others] / temperature, 0)
    return result


def weights_on_columns(cosines, temperature):
    """Queries along dim=1, as if the matrix came transposed."""
    logits = cosines.T / temperature
    logits = logits - torch.diag(torch.full((len(logits),), torch.inf, dtype=logits.dtype))
    return (logits - logits.logsumexp(dim=0)).exp().T


def weights_from_gradient(cosines, temperature):
    """The gradient of the loss, less the positives, and each row scaled to 1."""
    s = cosines.double().requires_grad_()
    with torch.enable_grad():
        without = (s / temperature).masked_fill(torch.eye(len(s), dtype=torch.bool), -torch.inf)
        (gradient,) = torch.autograd.grad(without.logsumexp(1).sum(), s)
    return (gradient / gradient.sum(1, keepdim=True)).to(cosines.dtype)


RIGHT_WEIGHTS = [edited(WEIGHTS), weights_loops, weights_on_columns, weights_from_gradient]

WRONG_WEIGHTS = [
    (edited(WEIGHTS, " / temperature"), "without the temperature"),
    (edited(WEIGHTS, "/ temperature", "* temperature"), "multiplied by the temperature"),
    (edited(WEIGHTS, ".masked_fill(own, -torch.inf)"), "the positive is in it"),
    (lambda s, t: (s / t).softmax(1) * (1 - torch.eye(len(s))).to(s), "these are the shares p of the loss"),
    (lambda s, t: (s / t).softmax(1).masked_fill(torch.eye(len(s), dtype=bool), 0) / t, "this is the gradient p/τ"),
    (edited(WEIGHTS, "-torch.inf", "0"), "exp(0) = 1 still counts: fill"),
    (lambda s, t: edited(WEIGHTS, "-torch.inf", "0")(s, t).fill_diagonal_(0), "still counts in the sum"),
    (edited(WEIGHTS, "dim=1", "dim=0"), "softmax along the wrong axis"),
    (lambda s, t: edited(WEIGHTS)(s, t).T, "transposed"),
    (lambda s, t: edited(WEIGHTS)(s.T, t), "not in a way that this check knows"),
    (lambda s, t: edited(WEIGHTS)(s, t) / len(s), "divided by N"),
    (edited(WEIGHTS_RAW), "NaN or infinite at τ = 0.01"),
    (edited(WEIGHTS_RAW, "cosines / temperature", "(cosines - cosines.amax(1, keepdim=True)) / temperature"), "NaN or"),
    (edited(WEIGHTS_RAW, "dim=1, keepdim=True", ""), "one softmax over the whole matrix"),
    (lambda s, t: edited(WEIGHTS)(s, 1e-6), "the hardest negative takes it all"),
    (lambda s, t: edited(WEIGHTS)(s, 1e6), "every negative has the same weight"),
]


# --- supervised contrast ---

SUP_CON = """
def sup_con(embeddings, labels, temperature):
    z = F.normalize(embeddings, dim=1)
    own = torch.eye(len(z), dtype=torch.bool)
    positives = (labels[:, None] == labels) & ~own
    logits = z @ z.T / temperature
    total = logits.masked_fill(own, -torch.inf).logsumexp(1, keepdim=True)
    terms = ((total - logits) * positives).sum(1)
    count = positives.sum(1)
    anchors = count > 0
    return (terms[anchors] / count[anchors]).mean()
"""

# As in the authors' code: shifted by a maximum that includes self, and masks that multiply.
SUP_CON_MASKS = """
def sup_con(embeddings, labels, temperature):
    z = embeddings / embeddings.norm(dim=1, keepdim=True)
    others = 1 - torch.eye(len(z), dtype=z.dtype)
    positives = (labels[:, None] == labels).to(z.dtype) * others
    logits = z @ z.T / temperature
    logits = logits - logits.max(1, keepdim=True).values.detach()
    log_share = logits - (logits.exp() * others).sum(1, keepdim=True).log()
    mean = (positives * log_share).sum(1) / positives.sum(1)
    return -mean.mean()
"""


def sup_con_loops(embeddings, labels, temperature):
    z, terms = [row / row.norm() for row in embeddings], []
    for i, anchor in enumerate(z):
        scores = {k: anchor @ other / temperature for k, other in enumerate(z) if k != i}
        total = torch.logsumexp(torch.stack(list(scores.values())), 0)
        mine = [total - score for k, score in scores.items() if labels[k] == labels[i]]
        terms += [sum(mine) / len(mine)] if mine else []
    return sum(terms) / len(terms)


def sup_con_cross_entropy(embeddings, labels, tau):
    """A cross-entropy with soft targets: 1/|P| on each positive."""
    z = F.normalize(embeddings)
    s = torch.einsum("id,kd->ik", z, z) / tau - 1e9 * torch.eye(len(z), dtype=z.dtype)
    target = (labels[:, None] == labels).to(z) - torch.eye(len(z), dtype=z.dtype)
    keep = target.sum(1) > 0
    return F.cross_entropy(s[keep], target[keep] / target[keep].sum(1, keepdim=True))


def sup_con_pairs(embeddings, labels, temperature):
    """Pairs (i, p) as lists, each weighted with 1 / |P(i)|."""
    z, n = F.normalize(embeddings), len(labels)
    i, p = ((labels[:, None] == labels) & ~torch.eye(n, dtype=torch.bool)).nonzero().T
    s = z @ z.T / temperature
    total = torch.stack([torch.cat([row[:k], row[k + 1 :]]).logsumexp(0) for k, row in enumerate(s)])
    return ((total[i] - s[i, p]) / i.bincount(minlength=n)[i]).sum() / len(i.unique())


RIGHT_SUP_CON = [edited(SUP_CON), sup_con_loops, sup_con_cross_entropy, sup_con_pairs, losses.sup_con]

WRONG_SUP_CON = [
    (edited(SUP_CON, " / temperature"), "without the temperature"),
    (edited(SUP_CON, "/ temperature", "* temperature"), "multiplied by the temperature"),
    (edited(SUP_CON, "F.normalize(embeddings, dim=1)", "embeddings"), "not normalised"),
    (edited(SUP_CON, "dim=1)", "dim=0)"), "wrong axis"),
    (edited(SUP_CON, ".masked_fill(own, -torch.inf)"), "self-similarity is still in the denominator"),
    (edited(SUP_CON, "fill(own,", "fill(labels[:, None] == labels,"), "only negatives are in the denominator"),
    (edited(SUP_CON, "(labels[:, None] == labels) & ~own", "labels[:, None] == labels"), "among its own positives"),
    (
        edited(SUP_CON.replace(" & ~own", ""), ".masked_fill(own, -torch.inf)"),
        "and in the denominator",
    ),
    (edited(SUP_CON, "labels[:, None] == labels", "labels[:, None] != labels"), "*other* labels are taken"),
    (
        edited(
            SUP_CON,
            "(terms[anchors] / count[anchors]).mean()",
            "-(((logits - total).exp() * positives).sum(1)[anchors] / count[anchors]).log().mean()",
        ),
        "this is equation 3",
    ),
    (edited(SUP_CON, " / count[anchors]"), "the positives' terms are summed"),
    (edited(SUP_CON, "count[anchors])", "(count[anchors] + 1))"), "the anchor is counted among its positives"),
    (
        edited(SUP_CON, "(terms[anchors] / count[anchors]).mean()", "terms.sum() / count.sum()"),
        "the mean over all pairs",
    ),
    (edited(SUP_CON, "(terms[anchors] / count[anchors])", "(terms / count.clamp(min=1))"), "with a loss of 0"),
    (edited(SUP_CON, "(terms[anchors] / count[anchors])", "(terms / count)"), "0 / 0 is NaN"),
    (edited(SUP_CON, "count[anchors]).mean()", "count[anchors]).sum()"), "this is the sum over the anchors"),
    (edited(SUP_CON, "count[anchors]).mean()", "count[anchors])"), "these are the anchors' terms"),
    (lambda z, labels, t: -losses.sup_con(z, labels, temperature=t), "the sign is wrong"),
    (lambda z, labels, t: losses.sup_con(z, labels, temperature=t) * t / 0.07, "as the authors' code does"),
    (lambda z, labels, t: losses.sup_con(z, labels, temperature=t) * t, "multiplied by τ: equation 2"),
    (edited(SUP_CON_MASKS), "underflows beside self-similarity"),
    (edited(SUP_CON, "* positives).sum(1)", ").masked_fill(~positives, 0).sum(1).detach()"), "no gradient flows back"),
    (
        edited(SUP_CON, "z @ z.T / temperature", "(z @ z.T / temperature).masked_fill(own, -torch.inf)"),
        "all values are NaN or infinite",  # NaN everywhere: 0 times infinity
    ),
]


CATALOGUE = {
    checks.check_nt_xent: (WRONG_NT_XENT, RIGHT_NT_XENT, NT_XENT_MISTAKES),
    checks.check_info_nce: (WRONG_INFO_NCE, RIGHT_INFO_NCE, INFO_NCE_MISTAKES),
    checks.check_log_sum_exp: (WRONG_LOG_SUM_EXP, RIGHT_LOG_SUM_EXP, LOG_SUM_EXP_MISTAKES),
    checks.check_info_nce_gradient: (WRONG_GRADIENT, RIGHT_GRADIENT, INFO_NCE_GRADIENT_MISTAKES),
    checks.check_false_negatives: (WRONG_SHARE, RIGHT_SHARE, FALSE_NEGATIVES_MISTAKES),
    checks.check_negative_weights: (WRONG_WEIGHTS, RIGHT_WEIGHTS, NEGATIVE_WEIGHTS_MISTAKES),
    checks.check_sup_con: (WRONG_SUP_CON, RIGHT_SUP_CON, SUP_CON_MISTAKES),
}


# --- questions ---


def drawn(name, of):
    """An answer: a function of what the question of that name gives for a seed."""
    return lambda seed: of(**checks.given(name, seed))


def by_hand(of):
    return drawn("info_nce_by_hand", of)


def shares(positive, negatives, tau):
    weights = np.exp(np.array([positive, *negatives]) / tau)
    return weights / weights.sum()


def one_loss(positive, negatives, tau, own=0):
    """The float64 loss with candidate `own` as the positive."""
    logits = torch.tensor([[positive, *negatives]], dtype=torch.float64) / tau
    return F.cross_entropy(logits, torch.tensor([own])).item()


RIGHT_BY_HAND = [
    by_hand(one_loss),
    by_hand(lambda **case: -np.log(shares(**case)[0])),
    by_hand(lambda positive, negatives, tau: math.log(1 + sum(math.exp((s - positive) / tau) for s in negatives))),
    by_hand(lambda **case: torch.tensor(round(one_loss(**case), 3))),
]
WRONG_BY_HAND = [
    (by_hand(lambda positive, negatives, tau: one_loss(positive, negatives, 1)), "without the temperature"),
    (by_hand(lambda positive, negatives, tau: one_loss(positive, negatives, 1 / tau)), "multiplied by τ"),
    (
        by_hand(lambda positive, negatives, tau: np.log(np.exp(np.array(negatives) / tau).sum()) - positive / tau),
        "left out of the denominator",
    ),
    (by_hand(lambda **case: -np.log2(shares(**case)[0])), "in bits"),
    (by_hand(lambda **case: -np.log10(shares(**case)[0])), "log base 10"),
    (
        by_hand(
            lambda positive, negatives, tau: (
                -np.log(np.exp(positive / tau) / (np.exp(positive / tau) + np.exp(np.array(negatives) / tau).mean()))
            )
        ),
        "averaged in the denominator",
    ),
    (by_hand(lambda **case: np.log(shares(**case)[0])), "the sign is wrong"),
    (by_hand(lambda **case: shares(**case)[0]), "the positive's share p"),
    (by_hand(lambda **case: 1 - shares(**case)[0]), "this is 1 − p"),
    (by_hand(lambda **case: one_loss(**case, own=1)), "if the first negative were"),
    (by_hand(lambda **case: one_loss(**case, own=2)), "if the second negative were"),
    (by_hand(lambda positive, negatives, tau: (max(positive, *negatives) - positive) / tau), "the gap to the nearest"),
    (lambda seed: "0.5", "expected a number, got a str"),
    (lambda seed: 77, "not a mistake that this check knows"),
]


def line(of):
    return drawn("chance_line", of)


def equal_similarities(loss, pictures, queue):
    """The loss itself, of vectors that are all the same."""
    same = torch.ones(pictures, 3, dtype=torch.float64)
    if loss == "NT-Xent":
        return losses.nt_xent(same, same, temperature=0.1)
    rows = torch.ones(queue, 3, dtype=torch.float64) if "queue" in loss else None
    return losses.info_nce(same, same, rows, temperature=0.1)


def one_more(more):
    """log of the candidates and `more`."""
    return line(lambda **case: math.log(round(equal_similarities(**case).exp().item()) + more))


def of_kind(**by_loss):
    """An answer that depends on the kind of loss, or one that is wrong for every kind."""
    return line(lambda loss, pictures, queue: by_loss[loss.split()[-1].replace("-", "")](pictures, queue))


RIGHT_LINE = [
    line(equal_similarities),
    of_kind(
        InfoNCE=lambda n, k: math.log(n), NTXent=lambda n, k: np.log(2 * n - 1), queue=lambda n, k: math.log(k + 1)
    ),
    line(lambda **case: round(equal_similarities(**case).item(), 3)),
]
WRONG_LINE = [
    (one_more(-1), "the positive is not counted"),
    (
        of_kind(
            InfoNCE=lambda n, k: math.log(2 * n - 1), NTXent=lambda n, k: math.log(n), queue=lambda n, k: math.log(n)
        ),
        "this is the line of",
    ),
    (
        of_kind(
            InfoNCE=lambda n, k: math.log(2 * n),
            NTXent=lambda n, k: math.log(2 * n),
            queue=lambda n, k: math.log(n + k),
        ),
        " the ",
    ),
    (line(lambda **case: equal_similarities(**case) / math.log(2)), "log base 2"),
    (line(lambda **case: equal_similarities(**case) / math.log(10)), "log base 10"),
    (line(lambda **case: round(equal_similarities(**case).exp().item())), "this is the number of candidates"),
    (line(lambda **case: (-equal_similarities(**case)).exp()), "this is the positive's share"),
    (line(lambda **case: -equal_similarities(**case)), "the sign is wrong"),
    (lambda seed: [4.844], "expected a number, got a list"),
]


def plain_nt_xent(rows, temperature, unit=True, self=False, positive=True, partner=lambda i, n: (i + n) % (2 * n)):
    """In plain Python, with a switch for each bug."""
    rows = [[x / math.hypot(*row) for x in row] if unit else row for row in rows]
    total = 0
    for i, a in enumerate(rows):
        logits = [sum(x * y for x, y in zip(a, b, strict=True)) / temperature for b in rows]
        own, other = partner(i, len(rows) // 2), (i + len(rows) // 2) % len(rows)
        below = [s for k, s in enumerate(logits) if (self or k != i) and (positive or k != other)]
        total += math.log(sum(map(math.exp, below))) - logits[own]
    return total / len(rows)


BUGS = {
    "self": {"self": True},
    "partner": {"partner": lambda i, n: i + 1 if i % 2 == 0 else i - 1},
    "temperature": {"temperature": 1},
    "positive": {"positive": False},
    "lengths": {"unit": False},
}


def nearest_bug(seed):
    """The bug whose value is that of the broken loss."""
    case = checks.given("broken_loss", seed)
    rows, tau = [*case["view1"].tolist(), *case["view2"].tolist()], case["temperature"]
    values = {name: plain_nt_xent(rows, **{"temperature": tau} | bug) for name, bug in BUGS.items()}
    return min(values, key=lambda name: abs(values[name] - case["loss"]))


def other_bug(k):
    return lambda seed: [name for name in BUGS if name != nearest_bug(seed)][k]


QUESTIONS = {
    "broken_loss": (
        [
            *((other_bug(k), "with that bug the loss of this batch would be") for k in range(4)),
            (lambda seed: 3, "expected one of 'self', 'partner'"),
            (lambda seed: "one-way", "expected one of 'self', 'partner'"),
        ],
        [nearest_bug, lambda seed: nearest_bug(seed).upper(), lambda seed: f" {nearest_bug(seed)}\n"],
    ),
    "chance_line": (WRONG_LINE, RIGHT_LINE),
    "info_nce_by_hand": (WRONG_BY_HAND, RIGHT_BY_HAND),
}
