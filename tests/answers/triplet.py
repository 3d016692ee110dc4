"""Right and wrong answers to the exercises on margins."""

import torch
import torch.nn.functional as F

from answers.edit import edited
from clbook import checks, losses
from clbook.checks.triplet import BATCH_HARD_MISTAKES, PAIR_MISTAKES, SEMI_HARD_MISTAKES, TRIPLET_MISTAKES

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
    (edited(BATCH_HARD, "amin", "amax"), "same value whatever"),
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
        "not in a way that this check knows",
    ),
    (edited(BATCH_HARD, ".masked_fill(~same, 0)"), "the farthest row of all is taken as the positive"),
    (edited(BATCH_HARD, "farthest - nearest", "(farthest - nearest).relu()"), "a hinge too many"),
    (edited(BATCH_HARD, "farthest - nearest", "(farthest - nearest).mean()"), "this is the mean"),
    (edited(BATCH_HARD, "farthest - nearest", "farthest - nearest.detach()"), "gradient with respect to `distances`"),
]


CATALOGUE = {
    checks.check_pair_margin: (WRONG_PAIR, RIGHT_PAIR, PAIR_MISTAKES),
    checks.check_triplet_margin: (WRONG_TRIPLET, RIGHT_TRIPLET, TRIPLET_MISTAKES),
    checks.check_semi_hard_mask: (WRONG_SEMI_HARD, RIGHT_SEMI_HARD, SEMI_HARD_MISTAKES),
    checks.check_batch_hard: (WRONG_BATCH_HARD, RIGHT_BATCH_HARD, BATCH_HARD_MISTAKES),
}
