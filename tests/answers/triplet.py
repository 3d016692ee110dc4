"""Right and wrong answers to the exercises on margins."""

from collections import Counter
from itertools import permutations, product

import numpy as np
import torch
import torch.nn.functional as F

from answers.edit import edited
from clbook import checks, losses
from clbook.checks.triplet import (
    BATCH_ALL_MISTAKES,
    BATCH_HARD_MISTAKES,
    PAIR_MISTAKES,
    SEMI_HARD_MISTAKES,
    SOFT_MISTAKES,
    TRIPLET_MISTAKES,
)

# --- pairs ---

PAIR = """
def pair(a, b, same, margin):
    d = (a - b).norm(dim=1)
    pull = d**2
    push = (margin - d).clamp(min=0) ** 2
    return torch.where(same, pull, push).mean()
"""


def pair_by_sums(a, b, same, margin):
    d = torch.linalg.vector_norm(a - b, dim=1)
    total = d[same].square().sum() + (margin - d[~same]).relu().square().sum()
    return total / len(a)


def pair_arithmetic(a, b, same, margin):
    y, d = same.to(a.dtype), F.pairwise_distance(a, b)
    return torch.mean(y * d.pow(2) + (1 - y) * torch.maximum(margin - d, torch.zeros_like(d)).pow(2))


def pair_loop(a, b, same, margin):
    terms = []
    for x, y, s in zip(a, b, same, strict=True):
        d = torch.dist(x, y)
        terms.append(d**2 if s else torch.relu(margin - d) ** 2)
    return torch.stack(terms).mean()


def pair_of_clbook(a, b, same, margin):
    return losses.pair_margin(a, b, same, margin=margin, normalize=False)


RIGHT_PAIR = [edited(PAIR), pair_by_sums, pair_arithmetic, pair_loop, pair_of_clbook]

WRONG_PAIR = [
    (edited(PAIR, "same, pull, push", "same, push, pull"), "two terms are exchanged"),
    (edited(PAIR, "(margin - d).clamp(min=0)", "(margin - d)"), "the hinge is missing"),
    (edited(PAIR, "(margin - d).clamp(min=0) ** 2", "(margin - d**2).clamp(min=0)"), "max(0, m − d²), a later form"),
    (edited(PAIR, "(margin - d).clamp(min=0) ** 2", "(margin**2 - d**2).clamp(min=0)"), "this is max(0, m² − d²)"),
    (edited(PAIR, ".clamp(min=0) ** 2", ".clamp(min=0)"), "the hinge is not squared"),
    (edited(PAIR, "d**2", "d"), "d is not squared for pairs of a kind"),
    (edited(PAIR, "(margin - d)", "(d - margin)"), "the hinge is turned"),
    (edited(PAIR, "(margin - d).clamp(min=0) ** 2", "-(d**2)"), "without end"),
    (edited(PAIR, "(a - b).norm(dim=1)", "F.cosine_similarity(a, b)"), "cosine similarities where distances belong"),
    (edited(PAIR, "(a - b).norm(dim=1)", "1 - F.cosine_similarity(a, b)"), "this is 1 − cosine"),
    (losses.pair_margin, "a and b were normalised first"),
    (edited(PAIR, ".mean()", ".mean() / 2"), "exactly half"),
    (edited(PAIR, ".mean()", ".sum()"), "this is the sum"),
    (edited(PAIR, ".mean()", ""), "these are the terms"),
    (edited(PAIR, "(a - b).norm(dim=1)", "((a - b) ** 2).sum(1).sqrt()"), "infinite slope at 0"),
    (edited(PAIR, "(a - b).norm(dim=1)", "(a - b).norm(dim=0)"), "stops with an error in line 6"),
    (edited(PAIR, "(margin - d)", "(margin - d.detach())"), "gradient with respect to `a` is not: is a part"),
]

# --- triplets ---

TRIPLET = """
def triplet(anchor, positive, negative, margin):
    ap = (anchor - positive).norm(dim=1)
    an = (anchor - negative).norm(dim=1)
    terms = (ap - an + margin).clamp(min=0)
    return terms.mean()
"""


def triplet_loop(anchor, positive, negative, margin):
    total = 0
    for a, p, n in zip(anchor, positive, negative, strict=True):
        total = total + torch.relu(torch.dist(a, p) - torch.dist(a, n) + margin)
    return total / len(anchor)


def triplet_of_torch(anchor, positive, negative, margin):
    return F.triplet_margin_loss(anchor, positive, negative, margin=margin)


def triplet_clamped_root(anchor, positive, negative, margin):
    ap, an = ((anchor - x).square().sum(1).clamp(min=1e-12).sqrt() for x in (positive, negative))
    return torch.where(ap - an + margin > 0, ap - an + margin, torch.zeros_like(ap)).mean()


def triplet_of_clbook(anchor, positive, negative, margin):
    return losses.triplet_margin(anchor, positive, negative, margin=margin, normalize=False)


RIGHT_TRIPLET = [edited(TRIPLET), triplet_loop, triplet_of_torch, triplet_clamped_root, triplet_of_clbook]

WRONG_TRIPLET = [
    (edited(TRIPLET, "ap - an", "an - ap"), "the sign is turned"),
    (edited(TRIPLET, ".clamp(min=0)", ""), "the hinge is missing"),
    (
        edited(TRIPLET, ".clamp(min=0)\n    return terms.mean()", "\n    return terms.mean().clamp(min=0)"),
        "on the mean",
    ),
    (edited(TRIPLET, "+ margin", "- margin"), "the margin has the wrong sign"),
    (edited(TRIPLET, "(ap - an + margin).clamp(min=0)", "(ap - an).clamp(min=0) + margin"), "stands outside the hinge"),
    (edited(TRIPLET, " + margin", ""), "the margin is missing"),
    (edited(TRIPLET, "ap - an", "ap**2 - an**2"), "these are squared distances"),
    (edited(TRIPLET, ".clamp(min=0)", ".clamp(min=0) ** 2"), "the hinge is squared"),
    (edited(TRIPLET, "(ap - an + margin).clamp(min=0)", "F.softplus(ap - an)"), "this is the soft margin"),
    (losses.triplet_margin, "the points were normalised first"),
    (edited(TRIPLET, "terms.mean()", "terms[terms > 0].mean()"), "the mean over the active"),
    (edited(TRIPLET, "terms.mean()", "terms.sum()"), "this is the sum"),
    (edited(TRIPLET, "terms.mean()", "terms"), "these are the terms"),
    (
        edited(TRIPLET, "(anchor - positive).norm(dim=1)", "F.cosine_similarity(anchor, positive)"),
        "not in a way that this check knows",
    ),
    (
        edited(
            TRIPLET.replace("(anchor - positive).norm(dim=1)", "F.cosine_similarity(anchor, positive)"),
            "(anchor - negative).norm(dim=1)",
            "F.cosine_similarity(anchor, negative)",
        ),
        "cosine similarities where distances belong",
    ),
    (
        edited(TRIPLET, "(anchor - positive).norm(dim=1)", "(anchor - positive).square().sum(1).sqrt()"),
        "infinite slope at 0",
    ),
    (edited(TRIPLET, "anchor - negative", "anchor.detach() - negative"), "gradient with respect to `anchor` is not:"),
]

# --- mining ---

SEMI_HARD = """
def semi_hard(distances, labels, margin):
    same = labels[:, None] == labels[None, :]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool)
    ap, an = distances[:, :, None], distances[:, None, :]
    return positive[:, :, None] & ~same[:, None, :] & (ap < an) & (an < ap + margin)
"""


def semi_hard_loops(distances, labels, margin):
    n = len(labels)
    mask = torch.zeros(n, n, n, dtype=torch.bool)
    for a in range(n):
        for p in range(n):
            if a == p or labels[a] != labels[p]:
                continue
            far = (distances[a] > distances[a, p]) & (distances[a] < distances[a, p] + margin)
            mask[a, p] = far & (labels != labels[a])
    return mask


def semi_hard_by_mining(distances, labels, margin):
    mask = torch.zeros((len(labels),) * 3, dtype=torch.bool)
    mask[tuple(losses.mine_triplets(distances, labels, margin=margin, mining="semi-hard").T)] = True
    return mask


def semi_hard_by_gap(distances, labels, margin):
    gap = distances.unsqueeze(1) - distances.unsqueeze(2)  # d(a, n) - d(a, p)
    same = labels.unsqueeze(0).eq(labels.unsqueeze(1)).fill_diagonal_(False)
    other = labels.unsqueeze(0).ne(labels.unsqueeze(1))
    return torch.einsum("ap,an->apn", same.float(), other.float()).bool() & gap.gt(0) & gap.lt(margin)


RIGHT_SEMI_HARD = [edited(SEMI_HARD), semi_hard_loops, semi_hard_by_mining, semi_hard_by_gap]

WRONG_SEMI_HARD = [
    (edited(SEMI_HARD, "same & ~torch.eye(len(labels), dtype=torch.bool)", "same"), "the diagonal is taken"),
    (edited(SEMI_HARD, "~same[:, None, :] & "), "own label are taken as negatives"),
    (edited(SEMI_HARD, "(ap < an)", "(ap <= an)"), "≤ for <: a negative exactly as far"),
    (edited(SEMI_HARD, "(an < ap + margin)", "(an <= ap + margin)"), "≤ for <: a negative exactly a margin"),
    (edited(SEMI_HARD, " & (ap < an)"), "these are all active triplets"),
    (edited(SEMI_HARD, " & (an < ap + margin)"), "the margin sets no limit"),
    (edited(SEMI_HARD, "an < ap + margin", "an < margin"), "not the margin itself"),
    (edited(SEMI_HARD, "(ap < an) & (an < ap + margin)", "(an < ap) & (ap < an + margin)"), "the sign is turned"),
    (edited(SEMI_HARD, "(ap < an) & (an < ap + margin)", "(an < ap)"), "these are the hard triplets"),
    (edited(SEMI_HARD, "ap, an = ", "an, ap = "), "the sign is turned"),
    (edited(SEMI_HARD, "return positive", "return 1.0 * positive"), "stops with an error in line 6"),
    (lambda d, y, margin: semi_hard_loops(d, y, margin).transpose(1, 2), "the axes are exchanged"),
    (lambda d, y, margin: semi_hard_loops(d, y, margin).sum(), "(shape [3, 3, 3], not [])"),
    (lambda d, y, margin: semi_hard_loops(d, y, margin).long(), "result is torch.int64, not torch.bool"),
    (lambda d, y, margin: torch.zeros(len(d), len(d), len(d), dtype=torch.bool), "same value whatever"),
]

BATCH_HARD = """
def batch_hard(distances, labels):
    same = labels[:, None] == labels[None, :]
    farthest = distances.masked_fill(~same, 0).amax(dim=1)
    nearest = distances.masked_fill(same, torch.inf).amin(dim=1)
    return farthest - nearest
"""


def batch_hard_loops(distances, labels):
    gaps = []
    for a, row in enumerate(distances):
        other = torch.arange(len(row)) != a
        gaps.append(row[(labels == labels[a]) & other].max() - row[labels != labels[a]].min())
    return torch.stack(gaps)


def batch_hard_by_mining(distances, labels):
    a, p, n = losses.mine_triplets(distances, labels, margin=0.0, mining="hard").T
    return distances[a, p] - distances[a, n]


def batch_hard_by_sorting(distances, labels):
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    far = torch.where(same, distances, -1e9).sort(1).values[:, -1]
    return far - torch.where(same, 1e9, distances).sort(1).values[:, 0]


RIGHT_BATCH_HARD = [edited(BATCH_HARD), batch_hard_loops, batch_hard_by_mining, batch_hard_by_sorting]

WRONG_BATCH_HARD = [
    (edited(BATCH_HARD, "farthest - nearest", "nearest - farthest"), "the sign is turned"),
    (edited(BATCH_HARD, "amin", "amax"), "all values are NaN or infinite"),
    (edited(BATCH_HARD, "torch.inf).amin", "-1).amax"), "the farthest negative is the easiest"),
    (edited(BATCH_HARD, "(~same, 0).amax", "(~same, torch.inf).amin"), "the diagonal is taken as the positive"),
    (
        edited(
            BATCH_HARD.replace("torch.inf).amin", "-1).amax"),
            "(~same, 0).amax",
            "(~same | torch.eye(len(labels), dtype=torch.bool), torch.inf).amin",
        ),
        "these are the easiest",
    ),
    (
        edited(BATCH_HARD, "(~same, 0).amax", "(~same | torch.eye(len(labels), dtype=torch.bool), torch.inf).amin"),
        "the nearest positive is the easiest",
    ),
    (edited(BATCH_HARD, ".masked_fill(same, torch.inf)"), "the hardest negative is at distance 0"),
    (edited(BATCH_HARD, "distances.masked_fill(same, torch.inf)", "(distances * ~same)"), "the hardest negative is at"),
    (
        edited(BATCH_HARD, "masked_fill(same, torch.inf)", "add(torch.inf * torch.eye(len(labels)).nan_to_num())"),
        "all values are NaN or infinite",
    ),
    (edited(BATCH_HARD, ".masked_fill(~same, 0)"), "the farthest row of all is taken as the positive"),
    (edited(BATCH_HARD, "farthest - nearest", "(farthest - nearest).relu()"), "a hinge too many"),
    (edited(BATCH_HARD, "farthest - nearest", "(farthest - nearest).mean()"), "this is the mean"),
    (edited(BATCH_HARD, "farthest - nearest", "farthest - nearest.detach()"), "gradient with respect to `distances`"),
]

BATCH_ALL = """
def batch_all(distances, labels, margin):
    same = labels[:, None] == labels[None, :]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool)
    valid = positive[:, :, None] & ~same[:, None, :]
    terms = (distances[:, :, None] - distances[:, None, :] + margin).clamp(min=0) * valid
    return terms.sum() / (terms > 0).sum().clamp(min=1)
"""


def batch_all_loops(distances, labels, margin):
    total, count = 0 * distances.sum(), 0
    for a in range(len(labels)):
        for p in range(len(labels)):
            for n in range(len(labels)):
                if a != p and labels[a] == labels[p] and labels[a] != labels[n]:
                    term = distances[a, p] - distances[a, n] + margin
                    if term > 0:
                        total, count = total + term, count + 1
    return total / max(count, 1)


def batch_all_by_mining(distances, labels, margin):
    a, p, n = losses.mine_triplets(distances, labels, margin=margin, mining="all").T
    terms = (distances[a, p] - distances[a, n] + margin).relu()
    active = terms[terms > 0]
    return active.mean() if len(active) else terms.sum()


def batch_all_of_counts(distances, labels, margin):
    """How often does each distance enter, and with which sign?"""
    same = labels.unsqueeze(0).eq(labels.unsqueeze(1))
    gap = distances.unsqueeze(2) - distances.unsqueeze(1)
    other, positive = (~same).to(distances.dtype), same.to(distances.dtype).fill_diagonal_(0)
    active = torch.einsum("ap,an,apn->apn", positive, other, (gap > -margin).to(distances.dtype))
    weights = active.sum(2) - active.sum(1)
    return ((weights * distances).sum() + margin * active.sum()) / max(1.0, active.sum().item())


RIGHT_BATCH_ALL = [edited(BATCH_ALL), batch_all_loops, batch_all_by_mining, batch_all_of_counts]

WRONG_BATCH_ALL = [
    (edited(BATCH_ALL, "(terms > 0).sum()", "valid.sum()"), "this is the mean over all triplets"),
    (edited(BATCH_ALL, "return terms.sum() / (terms > 0).sum().clamp(min=1)", "return terms.mean()"), "divided by N³"),
    (edited(BATCH_ALL, "(terms > 0).sum().clamp(min=1)", "len(labels)"), "divided by the N pictures"),
    (edited(BATCH_ALL, " / (terms > 0).sum().clamp(min=1)"), "this is the sum over the triplets"),
    (edited(BATCH_ALL, "same & ~torch.eye(len(labels), dtype=torch.bool)", "same"), "the anchor is paired with itself"),
    (edited(BATCH_ALL, " & ~same[:, None, :]"), "any row is taken as a negative"),
    (
        edited(BATCH_ALL, "& ~same[:, None, :]", "& ~torch.eye(len(labels), dtype=torch.bool)[:, None]"),
        "own label are taken as neg",
    ),
    (edited(BATCH_ALL, "positive = same & ~", "positive = ~"), "another label are taken as positives"),
    (
        edited(
            BATCH_ALL,
            "valid = positive[:, :, None] & ~same[:, None, :]",
            "valid = ~same[:, :, None] & positive[:, None, :]",
        ),
        "exchanged, by the sign or by their masks",
    ),
    (
        edited(BATCH_ALL, "distances[:, :, None] - distances[:, None, :]", "distances[:, None] - distances[..., None]"),
        "exchanged, by the sign or",
    ),
    (edited(BATCH_ALL, " + margin"), "the margin is missing"),
    (edited(BATCH_ALL, "+ margin", "- margin"), "the margin has the wrong sign"),
    (edited(BATCH_ALL, ".clamp(min=0) * valid", " * valid"), "the hinge is missing"),
    (
        edited(
            BATCH_ALL,
            "(distances[:, :, None] - distances[:, None, :] + margin).clamp(min=0) * valid",
            "((distances[:, :, None] - distances[:, None, :]) * valid + margin).clamp(min=0)",
        ),
        "masked too early",
    ),
    (edited(BATCH_ALL, "    same =", "    distances = distances**2\n    same ="), "the distances are squared"),
    (edited(BATCH_ALL, "* valid", "* valid * (distances[:, :, None] < distances[:, None, :])"), "only the semi-hard"),
    (
        edited(BATCH_ALL, "* valid", "* valid * (distances[:, :, None] > distances[:, None, :])"),
        "only the hard triplets",
    ),
    (edited(BATCH_ALL, ".clamp(min=1)"), "NaN where no triplet is active"),
    (
        edited(BATCH_ALL, "terms.sum() / (terms > 0).sum().clamp(min=1)", "terms[terms > 0].mean()"),
        "NaN where no triplet",
    ),
    (
        edited(
            BATCH_ALL, "terms.sum() / (terms > 0).sum().clamp(min=1)", "(terms.sum() / (terms > 0).sum()).nan_to_num()"
        ),
        "gradient with respect to `distances` is not",
    ),
    (
        edited(BATCH_ALL, "    return", "    if not terms.any():\n        return torch.tensor(0.0)\n    return"),
        "no gradient flows",
    ),
    (edited(BATCH_ALL, "terms.sum() /", "terms.detach().sum() /"), "no gradient flows back to `distances`"),
]

SOFT = """
def soft_batch_hard(embeddings, labels):
    d = (embeddings[:, None] - embeddings).norm(dim=2)
    same = labels[:, None] == labels
    positive = same & ~torch.eye(len(d), dtype=torch.bool)
    farthest = d.masked_fill(~positive, 0).amax(dim=1)
    nearest = d.masked_fill(same, torch.inf).amin(dim=1)
    terms = F.softplus(farthest - nearest)
    return terms[positive.any(dim=1)].mean()
"""


def soft_loops(embeddings, labels):
    terms = []
    for a in range(len(labels)):
        row = torch.stack([torch.dist(embeddings[a], x) for x in embeddings])
        other = torch.arange(len(labels)) != a
        positives, negatives = row[(labels == labels[a]) & other], row[labels != labels[a]]
        if len(positives) and len(negatives):
            terms.append(torch.logaddexp(positives.max() - negatives.min(), row.new_zeros(())))
    return sum(terms) / len(terms)


def soft_by_mining(embeddings, labels):
    d = torch.cdist(embeddings, embeddings)
    a, p, n = losses.mine_triplets(d, labels, margin=0.0, mining="hard").T
    return -F.logsigmoid(d[a, n] - d[a, p]).mean()


def soft_clamped_root(embeddings, labels):
    """The root kept away from 0, and exp from overflowing: log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    d = torch.einsum("abd,abd->ab", *[embeddings[:, None] - embeddings] * 2).clamp(min=1e-16).sqrt()
    same = labels.unsqueeze(0).eq(labels.unsqueeze(1))
    kept = same.sum(0) > 1
    gap = (d - 1e9 * ~same).amax(0)[kept] - (d + 1e9 * same).amin(0)[kept]
    return (gap.relu() + torch.log1p(torch.exp(-gap.abs()))).mean()


def soft_without_singles(embeddings, labels):
    paired = (labels[:, None] == labels).sum(1) > 1
    return soft_loops(embeddings[paired], labels[paired])


RIGHT_SOFT = [edited(SOFT), soft_loops, soft_by_mining, soft_clamped_root]

WRONG_SOFT = [
    (edited(SOFT, "farthest - nearest", "nearest - farthest"), "the sign is turned"),
    (soft_without_singles, "alone with its label is left out as a negative too"),
    (edited(SOFT, "F.softplus(farthest - nearest)", "(farthest - nearest).relu()"), "this is a hinge"),
    (edited(SOFT, "F.softplus(farthest - nearest)", "farthest - nearest"), "this is the mean difference"),
    (edited(SOFT, "F.softplus(farthest - nearest)", "torch.log(1 + torch.exp(farthest - nearest))"), "infinite where"),
    (edited(SOFT, "F.softplus(farthest - nearest)", "torch.log1p(torch.exp(farthest - nearest))"), "infinite where"),
    (edited(SOFT, "[positive.any(dim=1)]"), "an anchor without a positive takes part"),
    (
        edited(SOFT, "terms[positive.any(dim=1)].mean()", "(terms * positive.any(dim=1)).sum() / len(labels)"),
        "divided by all N",
    ),
    (edited(SOFT.replace("~positive, 0", "~positive, -torch.inf"), "[positive.any(dim=1)]"), "divided by all N"),
    (edited(SOFT, ".mean()", ".sum()"), "this is the sum over the anchors"),
    (edited(SOFT, ".mean()", ""), "these are the terms, one an anchor"),
    (
        edited(
            SOFT.replace("terms = F.softplus(farthest - nearest)", "terms = farthest - nearest"),
            "terms[positive.any(dim=1)].mean()",
            "F.softplus(terms[positive.any(dim=1)].mean())",
        ),
        "the mean is taken before",
    ),
    (edited(SOFT, "(~positive, 0).amax", "(~positive, torch.inf).amin"), "the nearest positive is the easiest"),
    (edited(SOFT, "torch.inf).amin", "0).amax"), "the farthest negative is the easiest"),
    (
        edited(
            SOFT.replace("(~positive, 0).amax", "(~positive, torch.inf).amin"),
            "(same, torch.inf).amin",
            "(same, 0).amax",
        ),
        "these are the easiest",
    ),
    (edited(SOFT, ".masked_fill(same, torch.inf)"), "the hardest negative is at distance 0"),
    (edited(SOFT, "d.masked_fill(same, torch.inf)", "(d * ~same)"), "the hardest negative is at distance 0"),
    (edited(SOFT, "embeddings).norm(dim=2)", "embeddings).square().sum(2)"), "these are squared distances"),
    (edited(SOFT, "    d =", "    embeddings = F.normalize(embeddings, dim=1)\n    d ="), "were normalised first"),
    (edited(SOFT, ".norm(dim=2)", ".square().sum(2).sqrt()"), "Look at the diagonal"),
    (
        edited(SOFT, "farthest - nearest", "farthest - nearest.detach()"),
        "gradient with respect to `embeddings` is not:",
    ),
]


CATALOGUE = {
    checks.check_pair_margin: (WRONG_PAIR, RIGHT_PAIR, PAIR_MISTAKES),
    checks.check_triplet_margin: (WRONG_TRIPLET, RIGHT_TRIPLET, TRIPLET_MISTAKES),
    checks.check_semi_hard_mask: (WRONG_SEMI_HARD, RIGHT_SEMI_HARD, SEMI_HARD_MISTAKES),
    checks.check_batch_hard: (WRONG_BATCH_HARD, RIGHT_BATCH_HARD, BATCH_HARD_MISTAKES),
    checks.check_batch_all: (WRONG_BATCH_ALL, RIGHT_BATCH_ALL, BATCH_ALL_MISTAKES),
    checks.check_soft_batch_hard: (WRONG_SOFT, RIGHT_SOFT, SOFT_MISTAKES),
}


# --- questions ---


def drawn(name, answer):
    """An answer as a function of the seed: `answer` of what is given."""
    return lambda seed: answer(**checks.given(name, seed))


def terms(ap, an, margin):
    return (torch.tensor(ap) - torch.tensor(an) + margin).relu()


def semi_hard_by_sorting(ap, an, margin):
    """How many negatives lie between p and p + m: by their places in the order."""
    ends = np.searchsorted(np.sort(an), np.add(ap, margin), side="left")
    return np.sum(ends - np.searchsorted(np.sort(an), ap, side="right"))


def triplets_of(labels):
    return [
        (a, p, n)
        for a, p, n in permutations(range(len(labels)), 3)
        if labels[a] == labels[p] and labels[a] != labels[n]
    ]


def per_label(term):
    return lambda labels: sum(term(c, len(labels)) for c in Counter(labels).values())


def how_many(chosen):
    return lambda ap, an, margin: sum(chosen(p, n, margin) for p, n in product(ap, an))


def mean_with(term):
    return lambda ap, an, margin: np.mean([term(p, n, margin) for p, n in zip(ap, an, strict=True)])


MEAN_WRONG = [
    (mean_with(lambda p, n, m: max(0, n - p + m)), "the sign is turned"),
    (mean_with(lambda p, n, m: p - n + m), "the hinge is missing"),
    (mean_with(lambda p, n, m: max(0, p - n - m)), "the margin has the wrong sign"),
    (mean_with(lambda p, n, m: max(0, p - n)), "the margin is missing"),
    (mean_with(lambda p, n, m: max(0, p - n) + m), "stands outside the hinge"),
    (mean_with(lambda p, n, m: max(0, p * p - n * n + m)), "the distances are squared"),
    (lambda **given: terms(**given).sum(), "this is the sum"),
    (lambda **given: terms(**given)[terms(**given) > 0].mean(), "the mean over the active"),
    (lambda **given: str(terms(**given).mean().item()), "expected a number, got a str"),
    (lambda **given: -1.0, "-1 is not it"),
]
COUNT_WRONG = [
    (per_label(lambda c, n: c * c * (n - c)), "counted as its own positive"),
    (per_label(lambda c, n: c * (c - 1) * (n - c) // 2), "each pair is counted once"),
    (per_label(lambda c, n: c * (c - 1) * (n - 2)), "own label are counted"),
    (per_label(lambda c, n: c * (c - 1) * (n - 1)), "own label are counted"),
    (per_label(lambda c, n: (c - 1) * (n - c)), "one anchor of each label"),
    (per_label(lambda c, n: c * (c - 1)), "these are the pairs"),
    (lambda labels: len(labels) ** 3, "this is N³"),
    (lambda labels: len(list(permutations(labels, 3))), "any three pictures"),
    (triplets_of, "expected a number, got a list"),
]
SEMI_HARD_WRONG = [
    (how_many(lambda p, n, m: n < p + m), "these are all active triplets"),
    (how_many(lambda p, n, m: n <= p), "these are the hard triplets"),
    (how_many(lambda p, n, m: n > p), "the margin sets no limit"),
    (how_many(lambda p, n, m: n >= p + m), "these are the easy triplets"),
    (how_many(lambda p, n, m: p <= n < p + m), "≤ for <"),
    (how_many(lambda p, n, m: n < p < n + m), "the two distances are exchanged"),
    (lambda ap, an, margin: sum(any(p < n < p + margin for p in ap) for n in an), "semi-hard for some positive"),
    (
        lambda ap, an, margin: how_many(lambda p, n, m: p < n < p + m)([max(ap)], an, margin),
        "only the farthest positive",
    ),
    (how_many(lambda p, n, m: True), "these are all triplets of this anchor"),
    (how_many(lambda p, n, m: 5), "90 is not it"),
]
ALL_WRONG = {"triplet_mean": MEAN_WRONG, "triplet_count": COUNT_WRONG, "semi_hard_count": SEMI_HARD_WRONG}
ALL_RIGHT = {
    "triplet_mean": [
        lambda **given: terms(**given).mean(),
        mean_with(lambda p, n, m: max(0, p - n + m)),
        lambda ap, an, margin: round(sum(np.maximum(0, np.subtract(ap, an) + margin)) / 4, 3),
    ],
    "triplet_count": [
        per_label(lambda c, n: c * (c - 1) * (n - c)),
        lambda labels: float(len(triplets_of(labels))),
        lambda labels: len(
            losses.mine_triplets(torch.zeros(len(labels), len(labels)), torch.tensor(labels), margin=0, mining="all")
        ),
    ],
    "semi_hard_count": [
        how_many(lambda p, n, m: p < n < p + m),
        semi_hard_by_sorting,
        lambda ap, an, margin: (
            (terms(*zip(*product(ap, an), strict=True), margin) > 0).sum()
            - how_many(lambda p, n, m: n <= p)(ap, an, margin)
        ),
    ],
}
QUESTIONS = {
    name: (
        [(drawn(name, answer), phrase) for answer, phrase in ALL_WRONG[name]],
        [drawn(name, answer) for answer in ALL_RIGHT[name]],
    )
    for name in ALL_WRONG
}
