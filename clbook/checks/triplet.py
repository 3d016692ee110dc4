"""Checks of margins: pairs, triplets, and mining."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from clbook.checks.exercise import Exercise, Report, judge, random

_DIVIDED = "NaN or infinite where two points coincide: their distance is 0, so nothing may be divided by it."
_ROOT = (
    "Two points coincide here, and the root of a sum of squares has an infinite slope at 0. Use .norm(dim=1) or "
    "torch.linalg.vector_norm, whose gradient there is 0."
)
_SIMILARITY = "these are cosine similarities where distances belong: a similarity falls as points come nearer."
_SUM = "this is the sum over the rows: take the mean."
_TERMS = "these are the terms, one a row: the loss is their mean, one number."


# --- pairs ---


def check_pair_margin(function: Callable) -> Report:
    """Check `function(a, b, same, margin)`: pairs a, b [N, D] and same [N] bool to Hadsell's margin loss.

    The mean over the pairs of d² where `same`, and of max(0, margin - d)² where not; d = ‖a - b‖, nothing normalised.
    """
    wide = random(3, 9, 16, dtype=torch.float64)
    exercise = Exercise(
        task="write the function that takes pairs `a` and `b` [N, D], `same` [N] and a margin and returns the pairwise "
        "margin loss",
        cases=[
            _pairs([[0, 0], [0, 0], [0, 0]], [[3, 4], [0.6, 0.8], [6, 8]], [True, False, False], 3.0),
            _pairs([[1, 2], [3, 1], [2, 0]], [[1, 3], [3, 1.5], [0, 4]], [False, True, False], 2.0),
            _pairs(random(1, 6, 3), random(2, 6, 3), [True, False, False, True, False, False], 2.5),
            _pairs(wide, wide + 0.3 * random(4, 9, 16, dtype=torch.float64), [True, False, False] * 3, 1.5),
            _pairs([[1, 1], [2, 0], [1, 1]], [[1, 1], [0, 1], [1, 2]], [True, True, False], 1.5),
        ],
        oracle=_pair_loop,
        mistakes=PAIR_MISTAKES,
        not_finite=_DIVIDED,
        infinite_slope=_ROOT,
        verified="values and gradients agree with the equation, as a plain loop, in 5 cases (N from 2 to 9, D from 2 "
        "to 16, margins from 1.5 to 3, a pair that coincides), and the inputs are left as they were.",
    )
    return judge(function, exercise)


def _pairs(a, b, same: list[bool], margin: float) -> dict:
    return {"a": _points(a), "b": _points(b), "same": torch.tensor(same), "margin": margin}


def _points(x) -> torch.Tensor:
    return x if isinstance(x, torch.Tensor) else torch.tensor(x, dtype=torch.float32)


def _pair_loop(a, b, same, margin):
    """y d² + (1 - y) max(0, m - d)², one pair at a time."""
    terms = []
    for x, y, alike in zip(a, b, same.tolist(), strict=True):
        square = ((x - y) * (x - y)).sum()
        d = square.sqrt() if square > 0 else square
        gap = margin - d if margin > d else 0 * d
        terms.append(square if alike else gap * gap)
    return sum(terms) / len(terms)


def _pair_with(
    a,
    b,
    same,
    margin,
    *,
    distance=lambda a, b: (a - b).norm(dim=1),
    pull=torch.square,
    push=lambda d, m: (m - d).relu().square(),
    reduce=torch.mean,
):
    """The pairwise loss with one part replaced."""
    d = distance(a, b)  # [N]
    return reduce(torch.where(same, pull(d), push(d, margin)))


PAIR_MISTAKES = [
    (
        lambda a, b, same, margin: _pair_with(a, b, ~same, margin),
        "the two terms are exchanged: pairs of a kind (`same`) are pulled together, d², all others pushed apart.",
    ),
    *(
        (partial(_pair_with, **part), sentence)
        for part, sentence in [
            (
                {"push": lambda d, m: (m - d).square()},
                "the hinge is missing: beyond the margin a pair costs nothing, here it is pulled back. max(0, m − d).",
            ),
            ({"push": lambda d, m: (m - d).relu()}, "the hinge is not squared: max(0, m − d)²."),
            ({"pull": lambda d: d}, "d is not squared for pairs of a kind."),
            ({"pull": lambda d: d, "push": lambda d, m: (m - d).relu()}, "nothing is squared: d² and max(0, m − d)²."),
            (
                {"push": lambda d, m: (m - d.square()).relu()},
                "this is max(0, m − d²), a later form: here the margin is a distance, and the square stands outside, "
                "max(0, m − d)².",
            ),
            (
                {"push": lambda d, m: (m * m - d.square()).relu()},
                "this is max(0, m² − d²): the difference comes first, then the square.",
            ),
            (
                {"push": lambda d, m: (d - m).relu().square()},
                "the hinge is turned: max(0, d − m)² pulls in what is far away. It is max(0, m − d)².",
            ),
            (
                {"push": lambda d, m: -d.square()},
                "pairs that differ are pushed without end (−d²): the margin says where to stop.",
            ),
            (
                {"distance": lambda a, b: 1 - F.cosine_similarity(a, b)},
                "this is 1 − cosine in place of the distance ‖a − b‖.",
            ),
            ({"distance": F.cosine_similarity}, _SIMILARITY),
            (
                {"distance": lambda a, b: (F.normalize(a) - F.normalize(b)).norm(dim=1)},
                "a and b were normalised first: this exercise takes them as they are.",
            ),
            (
                {"reduce": lambda terms: terms.mean() / 2},
                "exactly half: the paper has ½ in both terms, we leave it out.",
            ),
            ({"reduce": torch.sum}, _SUM),
            ({"reduce": lambda terms: terms}, _TERMS),
        ]
    ),
]


# --- triplets ---


def check_triplet_margin(function: Callable) -> Report:
    """Check `function(anchor, positive, negative, margin)`: three [N, D] to the triplet margin loss.

    The mean over all N of max(0, d(a, p) - d(a, n) + margin), with d = ‖·‖ not squared and nothing normalised.
    """
    a = random(5, 9, 16, dtype=torch.float64)
    p, n = (a + 0.7 * random(seed, 9, 16, dtype=torch.float64) for seed in (6, 7))
    exercise = Exercise(
        task="write the function that takes `anchor`, `positive` and `negative` [N, D] and a margin and returns the "
        "triplet loss",
        cases=[
            _triplets([[0, 0], [0, 0]], [[3, 4], [0, 1]], [[0, 4], [5, 12]], 0.5),
            _triplets([[1, 0], [0, 1], [2, 2]], [[1, 1], [0, 3], [2, 3]], [[2.2, 0], [1, 1], [6, 5]], 0.4),
            _triplets(random(1, 6, 3), random(2, 6, 3), random(3, 6, 3), 1.0),
            {"anchor": a, "positive": p, "negative": n, "margin": 0.2},
            # The first positive is its anchor, and easy: no gradient flows, and 0 times an infinite slope is NaN.
            _triplets([[1, 2], [0, 1]], [[1, 2], [0, 3]], [[3, 2], [1, 1]], 0.5),
        ],
        oracle=_triplet_loop,
        mistakes=TRIPLET_MISTAKES,
        not_finite=_DIVIDED,
        infinite_slope=_ROOT,
        verified="values and gradients agree with the equation, as a plain loop, in 5 cases (N from 2 to 9, D from 2 "
        "to 16, margins from 0.2 to 1, points that coincide), and the inputs are left as they were.",
    )
    return judge(function, exercise)


def _triplets(anchor, positive, negative, margin: float) -> dict:
    rows = {"anchor": anchor, "positive": positive, "negative": negative}
    return {name: _points(x) for name, x in rows.items()} | {"margin": margin}


def _length(x, y):
    """‖x - y‖ of two vectors, with gradient 0 where they coincide."""
    square = ((x - y) * (x - y)).sum()
    return square.sqrt() if square > 0 else square


def _triplet_loop(anchor, positive, negative, margin):
    """max(0, d(a, p) - d(a, n) + m), one triplet at a time."""
    terms = []
    for a, p, n in zip(anchor, positive, negative, strict=True):
        term = _length(a, p) - _length(a, n) + margin
        terms.append(term if term > 0 else 0 * term)
    return sum(terms) / len(terms)


def _triplet_with(
    anchor,
    positive,
    negative,
    margin,
    *,
    distance=lambda a, b: (a - b).norm(dim=1),
    term=lambda ap, an, m: (ap - an + m).relu(),
    reduce=torch.mean,
):
    """The triplet loss with one part replaced."""
    return reduce(term(distance(anchor, positive), distance(anchor, negative), margin))


def _over_active(terms):
    return terms.sum() / (terms > 0).sum().clamp(min=1)


TRIPLET_MISTAKES = [
    (partial(_triplet_with, **part), sentence)
    for part, sentence in [
        (
            {"term": lambda ap, an, m: (an - ap + m).relu()},
            "the sign is turned: d(a, p) and d(a, n) are exchanged, so minimising this sends the positive away.",
        ),
        (
            {"term": lambda ap, an, m: ap - an + m},
            "the hinge is missing: a triplet that is fine counts as a gain, below 0. max(0, …) of each.",
        ),
        (
            {"term": lambda ap, an, m: ap - an + m, "reduce": lambda terms: terms.mean().relu()},
            "the hinge is on the mean: first max(0, …) of each triplet, then the mean, or easy triplets pay for hard "
            "ones.",
        ),
        (
            {"term": lambda ap, an, m: (ap - an - m).relu()},
            "the margin has the wrong sign: it is added, so that being a little nearer is not enough.",
        ),
        (
            {"term": lambda ap, an, m: (ap - an).relu() + m},
            "the margin stands outside the hinge: as a constant it has no gradient. max(0, d(a, p) − d(a, n) + m).",
        ),
        ({"term": lambda ap, an, m: (ap - an).relu()}, "the margin is missing."),
        (
            {"term": lambda ap, an, m: (ap.square() - an.square() + m).relu()},
            "these are squared distances, as in FaceNet: this exercise wants them not squared.",
        ),
        (
            {"term": lambda ap, an, m: (ap - an + m).relu().square()},
            "the hinge is squared, as in the pairwise loss: that of a triplet is not.",
        ),
        (
            {"term": lambda ap, an, m: F.softplus(ap - an)},
            "this is the soft margin, log(1 + exp(…)), of Hermans et al.: here the hinge is wanted.",
        ),
        (
            {"distance": F.cosine_similarity},
            _SIMILARITY,
        ),
        (
            {"distance": lambda a, b: (F.normalize(a) - F.normalize(b)).norm(dim=1)},
            "the points were normalised first: this exercise takes them as they are.",
        ),
        (
            {"distance": lambda a, b: 1 - F.cosine_similarity(a, b)},
            "this is 1 − cosine in place of the distance ‖a − b‖.",
        ),
        (
            {"reduce": _over_active},
            "this is the mean over the active triplets, those above 0: here it is the mean over all.",
        ),
        ({"reduce": torch.sum}, _SUM),
        ({"reduce": lambda terms: terms}, _TERMS),
    ]
]


# --- mining ---


def check_semi_hard_mask(function: Callable) -> Report:
    """Check `function(distances, labels, margin)`: [N, N] and [N] to a bool mask [N, N, N] of semi-hard triplets.

    Entry (a, p, n) is True where p has the label of a and is not a, n has another label, and
    d(a, p) < d(a, n) < d(a, p) + margin, both strictly.
    """
    line = torch.tensor([0.0, 1.0, 1.0, 1.25, 2.0, 3.0])  # d(0, 1) = d(0, 2) = 1; d(0, 4) = d(0, 1) + 1
    exercise = Exercise(
        task="write the function that takes `distances` [N, N], `labels` [N] and a margin and returns the mask "
        "[N, N, N] of semi-hard triplets",
        cases=[
            _mining([[0, 1, 1.5], [1, 0, 2], [1.5, 2, 0]], [0, 0, 1], margin=1.0),
            _mining((line[:, None] - line).abs(), [0, 0, 1, 1, 1, 0], margin=1.0),
            _mining(_plane(8, 7), [0, 1, 2, 0, 1, 2, 0], margin=2.5),
            _mining(_plane(9, 10).double(), [3, 3, 1, 1, 1, 0, 2, 0, 3, 5], margin=0.3),
        ],
        oracle=_semi_hard_loop,
        mistakes=SEMI_HARD_MISTAKES,
        not_finite="a mask holds True and False, nothing infinite.",
        verified="values agree with a plain loop over all a, p, n in 4 cases (N from 3 to 10, equal distances among "
        "them, labels with a single row), and the inputs are left as they were.",
        gradients=False,
    )
    return judge(function, exercise)


def _mining(distances, labels: list[int], **numbers) -> dict:
    return {"distances": _points(distances), "labels": torch.tensor(labels)} | numbers


def _plane(seed: int, n: int) -> torch.Tensor:
    x = random(seed, n, 2)
    return (x[:, None] - x).norm(dim=2)  # [N, N]


def _semi_hard_loop(distances, labels, margin):
    n, d, y = len(labels), distances.tolist(), labels.tolist()
    mask = torch.zeros(n, n, n, dtype=torch.bool)
    for i in range(n):
        for j in range(n):
            for k in range(n):
                if i != j and y[i] == y[j] and y[i] != y[k]:
                    mask[i, j, k] = d[i][j] < d[i][k] < d[i][j] + margin
    return mask


def _semi_hard_with(
    distances,
    labels,
    margin,
    *,
    positive=lambda same, own: same & ~own,
    negative=lambda same, own: ~same,
    within=lambda ap, an, m: (ap < an) & (an < ap + m),
):
    """The mask with one part replaced: who is a positive, who a negative, and which distances will do."""
    same = labels[:, None] == labels  # [N, N]
    own = torch.eye(len(labels), dtype=torch.bool)
    chosen = within(distances[:, :, None], distances[:, None], margin)  # [N, N, N]
    return positive(same, own)[:, :, None] & negative(same, own)[:, None] & chosen


SEMI_HARD_MISTAKES = [
    *(
        (partial(_semi_hard_with, **part), sentence)
        for part, sentence in [
            (
                {"positive": lambda same, own: same},
                "the diagonal is taken as a positive: an anchor is no positive of its own, though the labels agree.",
            ),
            (
                {"negative": lambda same, own: ~own},
                "rows of the anchor's own label are taken as negatives.",
            ),
            (
                {"negative": lambda same, own: same & ~own, "positive": lambda same, own: ~same},
                "positives and negatives are exchanged: a positive has the anchor's label.",
            ),
            (
                {"within": lambda ap, an, m: (ap <= an) & (an < ap + m)},
                "≤ for <: a negative exactly as far as the positive is hard, not semi-hard.",
            ),
            (
                {"within": lambda ap, an, m: (ap < an) & (an <= ap + m)},
                "≤ for <: a negative exactly a margin beyond the positive has loss 0, so it is easy.",
            ),
            (
                {"within": lambda ap, an, m: (ap <= an) & (an <= ap + m)},
                "≤ for < on both sides: where the distances are equal a triplet is hard, at the margin it is easy.",
            ),
            (
                {"within": lambda ap, an, m: an < ap + m},
                "these are all active triplets: the hard ones, with a negative nearer than the positive, are left in.",
            ),
            (
                {"within": lambda ap, an, m: ap < an},
                "the margin sets no limit: a negative beyond d(a, p) + margin is easy.",
            ),
            (
                {"within": lambda ap, an, m: (an < ap) & (ap < an + m)},
                "the sign is turned: d(a, p) and d(a, n) are exchanged, and these triplets are hard.",
            ),
            (
                {"within": lambda ap, an, m: an < ap},
                "these are the hard triplets, with a negative nearer than the positive.",
            ),
            (
                {"within": lambda ap, an, m: (ap < an) & (an < m)},
                "the upper limit is d(a, p) + margin, not the margin itself.",
            ),
        ]
    ),
    (
        lambda distances, labels, margin: _semi_hard_with(distances, labels, margin).transpose(1, 2),
        "the axes are exchanged: the mask is [anchor, positive, negative].",
    ),
]


def check_batch_hard(function: Callable) -> Report:
    """Check `function(distances, labels)`: [N, N] and [N] to d(a, hardest p) - d(a, hardest n), for each anchor [N].

    The hardest positive is the farthest other row of the anchor's label, the hardest negative the nearest of another.
    """
    exercise = Exercise(
        task="write the function that takes `distances` [N, N] and `labels` [N] and returns, for each anchor, the "
        "hardest positive's distance minus the hardest negative's [N]",
        cases=[
            _mining([[0, 1, 4, 2], [1, 0, 3, 5], [4, 3, 0, 2.5], [2, 5, 2.5, 0]], [0, 0, 1, 1]),
            _mining(_plane(10, 7), [0, 1, 2, 0, 1, 2, 0]),
            _mining(_plane(11, 10).double(), [3, 3, 1, 1, 1, 0, 2, 0, 3, 2]),
        ],
        # Two rows coincide: a fill with 0 is as large as their distance.
        edge_cases=[_mining([[0, 0, 3, 2], [0, 0, 1, 2.2], [3, 1, 0, 1.5], [2, 2.2, 1.5, 0]], [5, 5, 2, 2])],
        oracle=_batch_hard_loop,
        mistakes=BATCH_HARD_MISTAKES,
        not_finite="right where it is finite, but infinite where an anchor lacks a candidate.",
        verified="values and gradients agree with a plain loop in 4 cases (N from 4 to 10, two rows that coincide, two "
        "to four labels), and the inputs are left as they were.",
    )
    return judge(function, exercise)


def _batch_hard_loop(distances, labels):
    y, gaps = labels.tolist(), []
    for i, row in enumerate(distances):
        positives = [row[j] for j in range(len(y)) if j != i and y[j] == y[i]]
        negatives = [row[j] for j in range(len(y)) if y[j] != y[i]]
        gaps.append(max(positives) - min(negatives))
    return torch.stack(gaps)


def _batch_hard_with(
    distances,
    labels,
    *,
    positive=lambda d, same, own: d.masked_fill(~(same & ~own), -torch.inf).amax(1),
    negative=lambda d, same, own: d.masked_fill(same, torch.inf).amin(1),
    gap=torch.sub,
):
    """Batch hard with one part replaced."""
    same = labels[:, None] == labels  # [N, N]
    own = torch.eye(len(labels), dtype=torch.bool)
    return gap(positive(distances, same, own), negative(distances, same, own))


def _nearest_positive(d, same, own):
    return d.masked_fill(~(same & ~own), torch.inf).amin(1)


def _farthest_negative(d, same, own):
    return d.masked_fill(same, -torch.inf).amax(1)


BATCH_HARD_MISTAKES = [
    (partial(_batch_hard_with, **part), sentence)
    for part, sentence in [
        (
            {"gap": lambda ap, an: an - ap},
            "the sign is turned: it is the positive's distance minus the negative's.",
        ),
        (
            {"positive": _nearest_positive, "negative": _farthest_negative},
            "these are the easiest: as with similarities, where large means near. The hardest positive is the "
            "farthest, the hardest negative the nearest.",
        ),
        (
            {"positive": _nearest_positive},
            "the nearest positive is the easiest one: the hardest is the farthest.",
        ),
        (
            {"positive": lambda d, same, own: d.masked_fill(~same, torch.inf).amin(1)},
            "the diagonal is taken as the positive: an anchor's nearest row of its own label is itself.",
        ),
        (
            {"negative": _farthest_negative},
            "the farthest negative is the easiest one: the hardest is the nearest.",
        ),
        (
            {"negative": lambda d, same, own: d.masked_fill(own, torch.inf).amin(1)},
            "rows of the anchor's own label are taken as negatives.",
        ),
        (
            {"negative": lambda d, same, own: d.amin(1)},
            "the hardest negative is at distance 0: it is the anchor itself, or a zero that multiplying by a mask has "
            "left. Put infinity where there is no negative.",
        ),
        (
            {"positive": lambda d, same, own: d.amax(1)},
            "the farthest row of all is taken as the positive: mask the other labels first.",
        ),
        (
            {"gap": lambda ap, an: (ap - an).relu()},
            "a hinge too many: the plain difference is wanted, it may be below 0.",
        ),
        ({"gap": lambda ap, an: (ap - an).mean()}, "this is the mean: one number for each anchor is wanted, [N]."),
    ]
]
