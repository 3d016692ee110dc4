"""Checks of margins: pairs, triplets, and mining."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import combinations, count

import torch
import torch.nn.functional as F

from clbook.checks.exercise import FRESH, Exercise, Report, judge, random
from clbook.checks.question import Question

_DIVIDED = "NaN or infinite where two points coincide: their distance is 0, so nothing may be divided by it."
_ROOT = (
    "Two points coincide here, and the root of a sum of squares has an infinite slope at 0. Use .norm(dim=1) or "
    "torch.linalg.vector_norm, whose gradient there is 0."
)
_SIMILARITY = "these are cosine similarities where distances belong: a similarity falls as points come nearer."
_SUM = "this is the sum over the rows: take the mean."
_TERMS = "these are the terms, one a row: the loss is their mean, one number."


def _whole(seed: int, low: int, high: int, *shape: int) -> torch.Tensor:
    """Whole numbers from `low` to `high`, both included."""
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed))


def _between_steps(seed: int) -> float:
    """A margin of an odd number of sixteenths: no difference of eighths, so that no fresh case sits on a hinge."""
    return (5 + 2 * (seed % 7)) / 16


def _fresh_labels(seed: int, n: int) -> list[int]:
    """Three labels in any order, each at least n // 3 times."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return (seed % 4 + order % 3).tolist()


# --- pairs ---


def check_pair_margin(function: Callable, seed: int = 0) -> Report:
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
        verified="values and gradients agree with the equation, as a plain loop, in 7 cases, two of them fresh (N from "
        "3 to 9, D from 2 to 16, margins from 0.3 to 3, a pair that coincides), and the inputs are left as they were.",
        fresh=_fresh_pairs,
    )
    return judge(function, exercise, seed)


def _pairs(a, b, same: list[bool], margin: float) -> dict:
    return {"a": _points(a), "b": _points(b), "same": torch.tensor(same), "margin": margin}


def _fresh_pairs(seed: int) -> dict:
    n = 4 + seed % 5
    a = random(seed, n, 2 + seed % 3)
    same = _whole(seed, 0, 1, n - 2).bool().tolist()
    return _pairs(a, _around(a, seed + 1), [True, False, *same], _between_steps(seed))


def _around(x: torch.Tensor, seed: int) -> torch.Tensor:
    """A point near each of x [N, D], an eighth to 2 away, in steps of an eighth."""
    return x + _whole(seed, 1, 16, len(x), 1) / 8 * F.normalize(random(seed, *x.shape), dim=1)


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


def check_triplet_margin(function: Callable, seed: int = 0) -> Report:
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
        verified="values and gradients agree with the equation, as a plain loop, in 7 cases, two of them fresh (N from "
        "2 to 9, D from 2 to 16, margins from 0.2 to 1.1, points that coincide), and the inputs are left as they were.",
        fresh=_fresh_triplets,
    )
    return judge(function, exercise, seed)


def _triplets(anchor, positive, negative, margin: float) -> dict:
    rows = {"anchor": anchor, "positive": positive, "negative": negative}
    return {name: _points(x) for name, x in rows.items()} | {"margin": margin}


def _fresh_triplets(seed: int) -> dict:
    a = random(seed, 4 + seed % 5, 2 + seed % 3)
    return _triplets(a, _around(a, seed + 1), _around(a, seed + 2), _between_steps(seed))


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


def check_semi_hard_mask(function: Callable, seed: int = 0) -> Report:
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
        verified="values agree with a plain loop over all a, p, n in 6 cases, two of them fresh (N from 3 to 10, equal "
        "distances among them, labels with a single row), and the inputs are left as they were.",
        gradients=False,
        fresh=_fresh_mining,
    )
    return judge(function, exercise, seed)


def _mining(distances, labels: list[int], **numbers) -> dict:
    return {"distances": _points(distances), "labels": torch.tensor(labels)} | numbers


def _plane(seed: int, n: int) -> torch.Tensor:
    x = random(seed, n, 2)
    return (x[:, None] - x).norm(dim=2)  # [N, N]


def _eighths(seed: int, n: int) -> torch.Tensor:
    """Distances that float32 holds exactly, and so do their sums with a margin of sixteenths."""
    return (8 * _plane(seed, n)).round() / 8


def _fresh_mining(seed: int) -> dict:
    n = 6 + seed % 3
    return _mining(_eighths(seed, n), _fresh_labels(seed, n), margin=_between_steps(seed))


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


def check_batch_hard(function: Callable, seed: int = 0) -> Report:
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
        not_finite="right where it is finite. Elsewhere the ∞ with which you filled a mask comes out.",
        verified="values and gradients agree with a plain loop in 6 cases, two of them fresh (N from 4 to 10, two rows "
        "that coincide, two to four labels), and the inputs are left as they were.",
        fresh=lambda seed: _mining(_plane(seed, 6 + seed % 3), _fresh_labels(seed, 6 + seed % 3)),
    )
    return judge(function, exercise, seed)


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


def check_batch_all(function: Callable, seed: int = 0) -> Report:
    """Check `function(distances, labels, margin)`: [N, N] and [N] to the mean over the active triplets of the batch.

    The mean of max(0, d(a, p) - d(a, n) + margin) over the triplets where it is above 0, and 0 where there is none;
    p is another row of the label of a, n a row of another label.
    """
    line = torch.tensor([0.0, 1.0, 1.5, 4.0])
    exercise = Exercise(
        task="write the function that takes `distances` [N, N], `labels` [N] and a margin and returns the mean "
        "triplet loss over the active triplets of the batch",
        cases=[
            _mining([[0, 1, 1.5], [1, 0, 2.5], [1.5, 2.5, 0]], [0, 0, 1], margin=1.0),  # by hand: 0.5
            _mining((line[:, None] - line).abs(), [0, 0, 1, 1], margin=0.75),
            _mining([[0, 1, 8, 9], [1, 0, 9, 8], [8, 9, 0, 2], [9, 8, 2, 0]], [4, 4, 1, 1], margin=0.5),  # none active
            _mining(_eighths(12, 7), [0, 1, 2, 0, 1, 2, 0], margin=0.3125),
            _mining(_eighths(13, 10).double(), [3, 3, 1, 1, 1, 0, 2, 0, 3, 5], margin=0.9375),
        ],
        oracle=_batch_all_loop,
        mistakes=BATCH_ALL_MISTAKES,
        not_finite="NaN where no triplet is active: 0 divided by 0. The loss is 0 then: divide by at least 1.",
        infinite_slope="Where no triplet is active, 0 / 0 has a NaN slope, though torch.where puts its value aside: "
        "divide by at least 1.",
        verified="values and gradients agree with a plain loop over all a, p, n in 7 cases, two of them fresh (N from "
        "3 to 10, labels with a single row, a batch without an active triplet), and the inputs are left as they were.",
        fresh=_fresh_mining,
    )
    return judge(function, exercise, seed)


def _batch_all_loop(distances, labels, margin):
    n, y, active = len(labels), labels.tolist(), []
    for i in range(n):
        for j in range(n):
            for k in range(n):
                if i != j and y[i] == y[j] and y[i] != y[k]:
                    term = distances[i, j] - distances[i, k] + margin
                    active += [term] if term > 0 else []
    return sum(active) / len(active) if active else 0 * distances.sum()


def _terms(ap, an, m):
    return (ap - an + m).relu()


def _active_mean(terms, valid):
    return terms.sum() / (terms > 0).sum().clamp(min=1)


def _mean_of_anchors(terms, valid):
    means = terms.sum((1, 2)) / (terms > 0).sum((1, 2)).clamp(min=1)  # [N]
    return means.sum() / valid.any(2).any(1).sum()


def _batch_all_with(
    distances,
    labels,
    margin,
    *,
    positive=lambda same, own: same & ~own,
    negative=lambda same, own: ~same,
    terms=_terms,
    reduce=_active_mean,
):
    """The mean over the active triplets with one part replaced; `valid` is the mask of all triplets."""
    same = labels[:, None] == labels  # [N, N]
    own = torch.eye(len(labels), dtype=torch.bool)
    valid = positive(same, own)[:, :, None] & negative(same, own)[:, None]  # [N, N, N]
    return reduce(terms(distances[:, :, None], distances[:, None], margin) * valid, valid)


def _margin_for_all(distances, labels, margin):
    """The mask set in before the margin is added: what is no triplet at all costs the margin."""
    masked = _batch_all_with(distances, labels, margin, terms=lambda ap, an, m: ap - an, reduce=lambda t, valid: t)
    return _active_mean((masked + margin).relu(), None)


BATCH_ALL_MISTAKES = [
    (
        _margin_for_all,
        "masked too early: what is no triplet at all is 0 before the margin is added, and then costs the margin. Mask "
        "the terms, after the hinge.",
    ),
    *(
        (partial(_batch_all_with, **part), sentence)
        for part, sentence in [
            (
                {"reduce": lambda terms, valid: terms.sum() / valid.sum()},
                "this is the mean over all triplets: divide by the number of those above 0.",
            ),
            (
                {"reduce": lambda terms, valid: terms.mean()},
                "divided by N³: most of these places are no triplets. Divide by the number of those above 0.",
            ),
            (
                {"reduce": lambda terms, valid: terms.sum() / len(terms)},
                "divided by the N pictures of the batch: divide by the number of triplets above 0.",
            ),
            ({"reduce": lambda terms, valid: terms.sum()}, "this is the sum over the triplets: take the mean."),
            (
                {"reduce": _mean_of_anchors},
                "this is a mean for each anchor, and then the mean of these: all active triplets count alike.",
            ),
            (
                {"positive": lambda same, own: same},
                "the anchor is paired with itself: d(a, a) = 0 makes a triplet that is far too easy.",
            ),
            (
                {"negative": lambda same, own: ~own},
                "rows of the anchor's own label are taken as negatives.",
            ),
            (
                {"positive": lambda same, own: ~own},
                "rows of another label are taken as positives: a positive has the anchor's label.",
            ),
            (
                {"negative": lambda same, own: own | ~own},
                "any row is taken as a negative, the anchor itself among them: a negative has another label.",
            ),
            (
                {"terms": lambda ap, an, m: (an - ap + m).relu()},
                "positives and negatives are exchanged, by the sign or by their masks: it is d(a, p) − d(a, n) + m, "
                "and p has the anchor's label.",
            ),
            ({"terms": lambda ap, an, m: (ap - an).relu()}, "the margin is missing."),
            (
                {"terms": lambda ap, an, m: (ap - an - m).relu()},
                "the margin has the wrong sign: it is added, so that being a little nearer is not enough.",
            ),
            (
                {"terms": lambda ap, an, m: ap - an + m},
                "the hinge is missing: easy triplets are subtracted from the sum. max(0, …) of each.",
            ),
            (
                {"terms": lambda ap, an, m: (ap.square() - an.square() + m).relu()},
                "the distances are squared: they are meant as they come.",
            ),
            (
                {"terms": lambda ap, an, m: _terms(ap, an, m) * (ap < an)},
                "only the semi-hard triplets are in the mean: a negative nearer than the positive is active too.",
            ),
            (
                {"terms": lambda ap, an, m: _terms(ap, an, m) * (an < ap)},
                "only the hard triplets are in the mean: one whose negative is a little farther is active too.",
            ),
        ]
    ),
]


# --- a margin without a corner ---


def check_soft_batch_hard(function: Callable, seed: int = 0) -> Report:
    """Check `function(embeddings, labels)`: [N, D] and [N] to the soft-margin loss of batch hard (Hermans et al. 2017).

    The mean of log(1 + exp(d(a, hardest p) - d(a, hardest n))) over the anchors that have a positive and a negative;
    d = ‖·‖ not squared and nothing normalised.
    """
    exercise = Exercise(
        task="write the function that takes `embeddings` [N, D] and `labels` [N] and returns the soft-margin loss of "
        "the hardest triplets",
        cases=[
            _rows([[0, 0], [3, 4], [0, 1], [6, 8]], [0, 0, 1, 1]),
            _rows([[0, 0], [1, 0], [0.3, 0.5], [2, 2], [0.4, -0.2]], [1, 1, 0, 0, 2]),  # a label with one row, near
            _rows(random(14, 8, 3), [0, 1, 2, 0, 1, 2, 0, 5]),
            _rows(random(15, 10, 4, dtype=torch.float64), [3, 3, 1, 1, 1, 0, 2, 0, 3, 2]),
            _rows(200 * random(16, 6, 2), [0, 0, 0, 1, 1, 1]),  # exp(89) is beyond float32
        ],
        oracle=_soft_batch_hard_loop,
        mistakes=SOFT_MISTAKES,
        not_finite="infinite where a difference of distances is large: exp(89) is beyond float32, though log(1 + "
        "exp(89)) is 89. PyTorch has the whole as a function of its own. (Or the ∞ in a mask comes out.)",
        infinite_slope="Look at the diagonal: a row is at distance 0 from itself, and the root of a sum of squares has "
        "an infinite slope at 0, which a mask or a 0 turns into NaN. Take .norm(), torch.cdist, or clamp before the "
        "root.",
        verified="values and gradients agree with a plain loop in 7 cases, two of them fresh (N from 4 to 10, a label "
        "with a single row, distances of hundreds), and the inputs are left as they were.",
        fresh=lambda seed: _rows(random(seed, 6 + seed % 3, 2 + seed % 4), _fresh_labels(seed, 6 + seed % 3)),
    )
    return judge(function, exercise, seed)


def _rows(embeddings, labels: list[int]) -> dict:
    return {"embeddings": _points(embeddings), "labels": torch.tensor(labels)}


def _soft_batch_hard_loop(embeddings, labels):
    y, terms = labels.tolist(), []
    for i, x in enumerate(embeddings):
        positives = [_length(x, embeddings[j]) for j in range(len(y)) if j != i and y[j] == y[i]]
        negatives = [_length(x, embeddings[j]) for j in range(len(y)) if y[j] != y[i]]
        if positives and negatives:
            terms.append(torch.log(1 + torch.exp(max(positives) - min(negatives))))
    return sum(terms) / len(terms)


def _soft_with(
    embeddings,
    labels,
    *,
    distance=lambda x: torch.cdist(x, x),
    positive=lambda d, same, own: d.masked_fill(~(same & ~own), -torch.inf).amax(1),
    negative=lambda d, same, own: d.masked_fill(same, torch.inf).amin(1),
    gap=torch.sub,
    term=F.softplus,
    reduce=lambda terms, paired: terms[paired].mean(),
):
    """The soft margin of batch hard with one part replaced; `paired` tells which anchors have a positive."""
    same = labels[:, None] == labels  # [N, N]
    own = torch.eye(len(labels), dtype=torch.bool)
    d = distance(embeddings)
    return reduce(term(gap(positive(d, same, own), negative(d, same, own))), (same & ~own).any(1))


def _soft_of_all(embeddings, labels):
    d, same = torch.cdist(embeddings, embeddings), labels[:, None] == labels
    valid = (same & ~torch.eye(len(d), dtype=torch.bool))[:, :, None] & ~same[:, None]
    return F.softplus(d[:, :, None] - d[:, None])[valid].mean()


SOFT_MISTAKES = [
    *(
        (partial(_soft_with, **part), sentence)
        for part, sentence in [
            (
                {"gap": lambda ap, an: an - ap},
                "the sign is turned: it is the positive's distance minus the negative's.",
            ),
            (
                {"term": torch.relu},
                "this is a hinge, max(0, d(a, p) − d(a, n)): the soft margin is log(1 + exp(…)), never quite 0.",
            ),
            (
                {"term": lambda gap: gap},
                "this is the mean difference of the distances: log(exp(…)), with the 1 left out, changes nothing.",
            ),
            (
                {"reduce": lambda terms, paired: terms.sum() / len(terms)},
                "divided by all N: an anchor without a positive has no triplet, and isn't counted.",
            ),
            (
                {
                    "positive": lambda d, same, own: d.masked_fill(~same, 0).amax(1),
                    "reduce": lambda terms, _: terms.mean(),
                },
                "an anchor without a positive takes part, with itself as the positive at distance 0: leave it out.",
            ),
            ({"reduce": lambda terms, paired: terms[paired].sum()}, "this is the sum over the anchors: take the mean."),
            (
                {"reduce": lambda terms, paired: terms[paired]},
                "these are the terms, one an anchor: the loss is their mean, one number.",
            ),
            (
                {"term": lambda gap: gap, "reduce": lambda gap, paired: F.softplus(gap[paired].mean())},
                "the mean is taken before the log(1 + exp(…)): first the term of each anchor, then the mean.",
            ),
            (
                {"positive": _nearest_positive, "negative": _farthest_negative},
                "these are the easiest: the hardest positive is the farthest, the hardest negative the nearest.",
            ),
            (
                {"positive": _nearest_positive},
                "the nearest positive is the easiest one: the hardest is the farthest.",
            ),
            (
                {"negative": _farthest_negative},
                "the farthest negative is the easiest one: the hardest is the nearest.",
            ),
            (
                {"negative": lambda d, same, own: d.masked_fill(same | ~(same & ~own).any(1), torch.inf).amin(1)},
                "a row that is alone with its label is left out as a negative too: it is no anchor, but it can be the "
                "nearest negative of one.",
            ),
            (
                {"negative": lambda d, same, own: d.masked_fill(own, torch.inf).amin(1)},
                "rows of the anchor's own label are taken as negatives.",
            ),
            (
                {"negative": lambda d, same, own: d.amin(1)},
                "the hardest negative is at distance 0: it is the anchor itself, or a zero that multiplying by a mask "
                "has left. Put infinity where there is no negative.",
            ),
            (
                {"distance": lambda x: torch.cdist(x, x).square()},
                "these are squared distances: the soft margin is meant for distances as they are.",
            ),
            (
                {"distance": lambda x: torch.cdist(F.normalize(x), F.normalize(x))},
                "the embeddings were normalised first: this exercise takes them as they are.",
            ),
        ]
    ),
    (
        _soft_of_all,
        "this is the mean over all triplets: of each anchor only the farthest positive and the nearest negative count.",
    ),
]


# --- questions: by hand, before writing it ---


def _telling(draw: Callable[[int], dict], answer: Callable, mistakes: list[tuple[Callable, str]]) -> Callable:
    """A `given` that takes the first of a seed's draws in which the answer and every mistake have a value of their
    own."""

    def given(seed: int) -> dict:
        for attempt in count():
            drawn = draw(FRESH * seed + attempt)
            numbers = [function(**drawn) for function in (answer, *(mistake for mistake, _ in mistakes))]
            if all(abs(a - b) > 0.01 for a, b in combinations(numbers, 2)):
                return drawn

    return given


def _hinges(ap, an, margin, power=1) -> list[float]:
    return [max(0.0, p**power - n**power + margin) for p, n in zip(ap, an, strict=True)]


def _mean(values) -> float:
    return sum(values) / len(values)


def _draw_triplets(seed: int) -> dict:
    """Four triplets in tenths, in any order: a hard one, a semi-hard one and two easy ones."""
    margin, ap = int(_whole(seed, 3, 9)), _whole(seed, 7, 15, 4)
    hard, semi, *easy = (int(_whole(seed + i, 1, most)) for i, most in enumerate((6, margin - 1, 4, 6)))
    an = ap + torch.tensor([-hard, semi, *(margin + beyond for beyond in easy)])
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    return {"ap": _tenths(ap[order]), "an": _tenths(an[order]), "margin": margin / 10}


def _tenths(whole: torch.Tensor) -> list[float]:
    return [x / 10 for x in whole.tolist()]


def _triplet_mean(ap, an, margin) -> float:
    return _mean(_hinges(ap, an, margin))


TRIPLET_MEAN_MISTAKES = [
    (
        lambda ap, an, margin: _mean(_hinges(an, ap, margin)),
        "the sign is turned: it is d(a, p) − d(a, n) + m, so that a far negative costs nothing.",
    ),
    (
        lambda ap, an, margin: _mean(ap) - _mean(an) + margin,
        "the hinge is missing: an easy triplet costs 0, not less. max(0, …) of each, then the mean.",
    ),
    (
        lambda ap, an, margin: _mean(_hinges(ap, an, -margin)),
        "the margin has the wrong sign: it is added, so that being a little nearer is not enough.",
    ),
    (lambda ap, an, margin: _mean(_hinges(ap, an, 0)), "the margin is missing."),
    (
        lambda ap, an, margin: _mean(_hinges(ap, an, 0)) + margin,
        "the margin stands outside the hinge: max(0, d(a, p) − d(a, n) + m).",
    ),
    (
        lambda ap, an, margin: _mean(_hinges(ap, an, margin, power=2)),
        "the distances are squared: they are meant as they are.",
    ),
    (lambda ap, an, margin: sum(_hinges(ap, an, margin)), "this is the sum of the four terms: take the mean."),
    (
        lambda ap, an, margin: sum(_hinges(ap, an, margin)) / sum(x > 0 for x in _hinges(ap, an, margin)),
        "this is the mean over the active triplets: here all four count.",
    ),
]
TRIPLET_MEAN = Question(
    task="find the mean triplet loss of the four triplets, those with loss 0 included",
    given=_telling(_draw_triplets, _triplet_mean, TRIPLET_MEAN_MISTAKES),
    answer=_triplet_mean,
    mistakes=TRIPLET_MEAN_MISTAKES,
    verified="the hinge of each triplet, margin inside, and the mean over all four.",
)


def _draw_labels(seed: int) -> dict:
    """Three labels with two to five pictures each, and one with a single picture."""
    sizes = torch.tensor([*_whole(seed, 2, 5, 3), 1])
    labels = torch.arange(4).repeat_interleave(sizes[torch.randperm(4, generator=torch.Generator().manual_seed(seed))])
    return {"labels": labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))].tolist()}


def _over_labels(labels, term: Callable[[int, int], float]) -> float:
    """The sum over the labels of a term of c, the pictures that have it, and N."""
    return sum(term(c, len(labels)) for c in Counter(labels).values())


def _triplet_count(labels) -> float:
    return _over_labels(labels, lambda c, n: c * (c - 1) * (n - c))


_ANY_THIRD = "negatives of the anchor's own label are counted: a negative has another label, so N − c can be it."
TRIPLET_COUNT_MISTAKES = [
    (
        lambda labels: _over_labels(labels, lambda c, n: c * c * (n - c)),
        "the anchor is counted as its own positive: of c pictures with its label, c − 1 can be its positive.",
    ),
    (
        lambda labels: _triplet_count(labels) / 2,
        "each pair is counted once: (a, p, n) and (p, a, n) are two triplets, with different distances to n.",
    ),
    (lambda labels: _over_labels(labels, lambda c, n: c * (c - 1) * (n - 1)), _ANY_THIRD),
    (lambda labels: _over_labels(labels, lambda c, n: c * (c - 1) * (n - 2)), _ANY_THIRD),
    (
        lambda labels: _over_labels(labels, lambda c, n: (c - 1) * (n - c)),
        "these are the triplets of one anchor of each label: all c of them are anchors.",
    ),
    (
        lambda labels: _over_labels(labels, lambda c, n: c * (c - 1)),
        "these are the pairs (a, p): each of them meets every picture of another label.",
    ),
    (lambda labels: len(labels) ** 3, "this is N³, all places of the mask: few of them are triplets."),
    (
        lambda labels: len(labels) * (len(labels) - 1) * (len(labels) - 2),
        "any three pictures are counted: the positive has the anchor's label, the negative another.",
    ),
]
TRIPLET_COUNT = Question(
    task="find how many triplets (a, p, n) these labels hold",
    given=_telling(_draw_labels, _triplet_count, TRIPLET_COUNT_MISTAKES),
    answer=_triplet_count,
    mistakes=TRIPLET_COUNT_MISTAKES,
    verified="each picture is an anchor, with every other one of its label and every one of another.",
)


def _draw_anchor(seed: int) -> dict:
    """Distances of one anchor in tenths, and a margin between two tenths: only d(a, p) = d(a, n) can be a tie."""
    ap, an = (_whole(seed + i, 2, 14, size).sort().values for i, size in enumerate((3, 6)))
    return {"ap": _tenths(ap), "an": _tenths(an), "margin": (10 * int(_whole(seed, 2, 5)) + 5) / 100}


def _pairs_where(ap, an, chosen: Callable[[float, float], bool]) -> int:
    return sum(chosen(p, n) for p in ap for n in an)


def _semi_hard_count(ap, an, margin) -> int:
    return _pairs_where(ap, an, lambda p, n: p < n < p + margin)


SEMI_HARD_COUNT_MISTAKES = [
    (
        lambda ap, an, margin: _pairs_where(ap, an, lambda p, n: n < p + margin),
        "these are all active triplets: the hard ones, whose negative is no farther than the positive, don't count.",
    ),
    (
        lambda ap, an, margin: _pairs_where(ap, an, lambda p, n: n <= p),
        "these are the hard triplets: in a semi-hard one the negative is farther than the positive.",
    ),
    (
        lambda ap, an, margin: _pairs_where(ap, an, lambda p, n: p < n),
        "the margin sets no limit here: a negative beyond d(a, p) + m is easy.",
    ),
    (
        lambda ap, an, margin: _pairs_where(ap, an, lambda p, n: n >= p + margin),
        "these are the easy triplets, beyond the margin.",
    ),
    (
        lambda ap, an, margin: _pairs_where(ap, an, lambda p, n: p <= n < p + margin),
        "≤ for <: a negative exactly as far as the positive is hard.",
    ),
    (
        lambda ap, an, margin: _pairs_where(ap, an, lambda p, n: n < p < n + margin),
        "the two distances are exchanged: the negative has to be the farther one.",
    ),
    (
        lambda ap, an, margin: sum(any(p < n < p + margin for p in ap) for n in an),
        "these are the negatives that are semi-hard for some positive: each positive makes a triplet of its own.",
    ),
    (
        lambda ap, an, margin: _semi_hard_count(ap[-1:], an, margin),
        "only the farthest positive is looked at: each of the three makes triplets.",
    ),
    (
        lambda ap, an, margin: len(ap) * len(an),
        "these are all triplets of this anchor, easy ones included.",
    ),
]
SEMI_HARD_COUNT = Question(
    task="find how many of the 18 triplets of this anchor are semi-hard",
    given=_telling(_draw_anchor, _semi_hard_count, SEMI_HARD_COUNT_MISTAKES),
    answer=_semi_hard_count,
    mistakes=SEMI_HARD_COUNT_MISTAKES,
    verified="farther than the positive, by less than the margin, for each of the three positives.",
)
