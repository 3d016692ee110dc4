"""Right and wrong answers to the exercises on contrastive losses."""

import functools
import math

import torch
import torch.nn.functional as F

from answers.edit import edited
from clbook import checks, losses
from clbook.checks.contrast import NT_XENT_MISTAKES

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


CATALOGUE = {
    checks.check_nt_xent: (WRONG_NT_XENT, RIGHT_NT_XENT, NT_XENT_MISTAKES),
}
