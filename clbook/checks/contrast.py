"""Checks of contrastive losses, and of what they are made of."""

import math
from collections.abc import Callable
from functools import partial
from random import Random

import torch
import torch.nn.functional as F

from clbook.checks.exercise import AXIS, Exercise, Report, judge, random
from clbook.checks.question import Choice, Question, drawn_apart


def check_info_nce(function: Callable, seed: int = 0) -> Report:
    """Check `function(query, key, temperature)`: queries and keys [N, D] and τ > 0 to the InfoNCE loss, in nats.

    Only queries are anchors and only keys are candidates, N of them; averaged over the N anchors; finite at τ = 0.01.
    """
    wide, noise = (random(seed, 9, 64, dtype=torch.float64) for seed in (3, 4))
    exercise = Exercise(
        task="write the function that takes queries and keys, both [N, D], and a temperature and returns the InfoNCE "
        "loss",
        cases=[
            _info_nce_case([[1, 2], [2, -1]], [[3, 1], [1, -3]], 0.5),
            _info_nce_case([[1, 0], [1, 0.2]], [[1, 0.1], [1, 0.3]], 0.01),  # all alike: exp(s/τ) overflows
            _info_nce_case([[1, 0], [0, 1]], [[0, 1], [1, 0]], 0.01),  # the other key is nearer: 100
            _info_nce_case(3 * random(1, 5, 7), random(2, 5, 7), 0.1),
            _info_nce_case(wide, wide + noise, 2.0),
        ],
        oracle=_info_nce_loop,
        mistakes=INFO_NCE_MISTAKES,
        not_finite="right where it is finite, but NaN or infinite at τ = 0.01. exp(s/τ) overflows float32 "
        "above s/τ = 88. Use torch.logsumexp or F.cross_entropy, which stay in logarithms.",
        verified="values and gradients agree with the printed equation, as a plain loop, in 7 cases, two of them fresh "
        "(N from 2 to 9, D from 2 to 64, τ from 0.01 to 2, float32 and float64); the inputs are left as they were.",
        fresh=lambda seed: _info_nce_case(*_fresh_views(seed)),
    )
    return judge(function, exercise, seed)


def _info_nce_case(query, key, temperature: float) -> dict:
    case = _nt_xent_case(query, key, temperature)
    return {"query": case["view1"], "key": case["view2"], "temperature": temperature}


def _fresh_views(seed: int) -> tuple:
    """Unrelated views, so that no gradient vanishes: N from 4 to 9, D from 5 to 15, and τ from 0.2 to 0.8."""
    n, dim = 4 + seed % 6, 5 + seed % 11
    return 2 * random(seed, n, dim), random(seed + 1, n, dim), (2 + seed % 7) / 10


def _info_nce_loop(query, key, temperature):
    """Bare exponentials are safe here: float64 holds exp(700)."""
    losses = []
    for i, anchor in enumerate(query):
        weights = []
        for candidate in key:
            cosine = (anchor * candidate).sum() / ((anchor * anchor).sum() * (candidate * candidate).sum()).sqrt()
            weights.append((cosine / temperature).exp())
        losses.append(-(weights[i] / sum(weights)).log())
    return sum(losses) / len(losses)


def check_nt_xent(function: Callable, seed: int = 0) -> Report:
    """Check `function(view1, view2, temperature)`: two views [N, D] and τ > 0 to the NT-Xent loss, in nats.

    The scalar of SimCLR's equation 1, averaged over all 2N anchors; finite at τ = 0.01.
    """
    wide, noise = (random(seed, 9, 64, dtype=torch.float64) for seed in (3, 4))
    exercise = Exercise(
        task="write the function that takes two views [N, D] and a temperature and returns the NT-Xent loss",
        cases=[
            _nt_xent_case([[1, 2], [2, -1]], [[3, 1], [1, -3]], 0.5),
            _nt_xent_case([[1, 0], [1, 0.2]], [[1, 0.1], [1, 0.3]], 0.01),  # all alike: exp(s/τ) overflows
            _nt_xent_case([[1, 0], [0.8, 0.6]], [[-1, 0], [-0.8, -0.6]], 0.01),  # views opposed: 180
            # A tetrahedron: the loss is log(3), and all exp(s/τ) vanish beside that of self-similarity.
            _nt_xent_case([[1, 1, 1], [1, -1, -1]], [[-1, 1, -1], [-1, -1, 1]], 0.01),
            _nt_xent_case(3 * random(1, 5, 7), random(2, 5, 7), 0.1),
            _nt_xent_case(wide, wide + noise, 2.0),
        ],
        oracle=_nt_xent_loop,
        mistakes=NT_XENT_MISTAKES,
        not_finite="right where it is finite, but NaN or infinite at τ = 0.01. exp(s/τ) overflows float32 "
        "above s/τ = 88, and underflows when the maximum that is subtracted first includes self-similarity. "
        "Mask self-similarity, then use torch.logsumexp or F.cross_entropy, which stay in logarithms.",
        verified="values and gradients agree with SimCLR's equation 1, as a plain loop, in 8 cases, two of them fresh "
        "(N from 2 to 9, D from 2 to 64, τ from 0.01 to 2, float32 and float64); the inputs are left as they were.",
        fresh=lambda seed: _nt_xent_case(*_fresh_views(seed)),
    )
    return judge(function, exercise, seed)


def _nt_xent_case(view1, view2, temperature: float) -> dict:
    view1, view2 = (v if isinstance(v, torch.Tensor) else torch.tensor(v).float() for v in (view1, view2))
    return {"view1": view1, "view2": view2, "temperature": temperature}


def _nt_xent_loop(view1, view2, temperature):
    """Equation 1 as printed. Bare exponentials are safe here: float64 holds exp(700)."""
    units = [row / (row * row).sum().sqrt() for row in [*view1, *view2]]
    losses = []
    for i, anchor in enumerate(units):
        weights = {k: ((anchor * other).sum() / temperature).exp() for k, other in enumerate(units) if k != i}
        partner = (i + len(view1)) % len(units)
        losses.append(-(weights[partner] / sum(weights.values())).log())
    return sum(losses) / len(losses)


def _nt_xent_with(
    view1,
    view2,
    temperature,
    *,
    unit=F.normalize,
    scale=torch.div,
    partner=lambda i, n: (i + n) % (2 * n),
    candidates=lambda i, k, n: i != k,
    reduce=torch.mean,
):
    """NT-Xent with one part replaced; `candidates` tells which k stand in the denominator of anchor i."""
    z, n = unit(torch.cat([view1, view2])), len(view1)  # [2N, D]
    i = torch.arange(2 * n)
    logits = scale(z @ z.T, temperature)  # [2N, 2N]
    positive = logits[i, partner(i, n)]  # [2N]
    logits = logits.masked_fill(~candidates(i[:, None], i[None, :], n), -torch.inf)
    return reduce(logits.logsumexp(1) - positive)


def _all(i, k, n):
    return (i >= 0) & (k >= 0)


def _other_view(i, k, n):
    return (i < n) != (k < n)


def _from_view1(terms):
    return terms.chunk(2)[0].mean()


def _interleaved(i, n):
    """Where the row n further on comes from, had the views been interleaved: a0 b0 a1 b1 …"""
    place = (2 * (i % n) + i // n + n) % (2 * n)
    return place // 2 + place % 2 * n


def _axis_0_by_view(z):
    return torch.cat([F.normalize(view, dim=0) for view in z.chunk(2)])


def _capped(terms, cap, tiny):
    return -cap((-terms).exp(), torch.tensor(tiny)).log().mean()


def _info_nce_with(
    query,
    key,
    temperature,
    *,
    unit=(F.normalize, F.normalize),
    scale=torch.div,
    partner=lambda i, n: i,
    candidates=lambda i, k: i == i,
    turn=lambda logits: logits,
    reduce=torch.mean,
):
    """InfoNCE with one part replaced; `turn` may exchange anchors and candidates."""
    logits = turn(scale(unit[0](query) @ unit[1](key).T, temperature))  # [N, N]
    i = torch.arange(len(query))
    positive = logits[i, partner(i, len(query))]  # [N]
    logits = logits.masked_fill(~candidates(i[:, None], i[None, :]), -torch.inf)
    return reduce(logits.logsumexp(1) - positive)


def _clip(query, key, temperature):
    return (_info_nce_with(query, key, temperature) + _info_nce_with(key, query, temperature)) / 2


def _same(x):
    return x


def _on_columns(x):
    return F.normalize(x, dim=0)


_ROW = "the positive sits on the wrong row: with the views stacked, row i belongs with row i + N. Yours is "
_CLIP = "NT-Xent has all 2N rows as anchors, and 2N − 1 candidates for each: its own view's other rows too."
_CAPPED = "a tiny number inside the log caps the loss at −log(tiny), with zero gradient: use torch.logsumexp."
_TINIES = [10.0**-k for k in range(3, 21)] + [torch.finfo(torch.float32).tiny]

_INFO_NCE_ROW = "the positive sits in the wrong place: the key of query i is row i. Yours is row "

INFO_NCE_MISTAKES = [
    *(
        (partial(_info_nce_with, **part), sentence)
        for part, sentence in [
            ({"scale": lambda s, t: s}, "this is the value without the temperature: divide similarities by it."),
            ({"scale": torch.mul}, "similarities are multiplied by the temperature: divide by it."),
            ({"unit": (_same, _same)}, "the vectors are not normalised: these are dot products, not cosines."),
            ({"unit": (F.normalize, _same)}, "only one side is normalised: `key` isn't."),
            ({"unit": (_same, F.normalize)}, "only one side is normalised: `query` isn't."),
            ({"unit": (_on_columns, _on_columns)}, AXIS),
            ({"turn": torch.t}, "anchors and candidates are exchanged: each query looks among the keys, along dim=1."),
            ({"candidates": lambda i, k: i != k}, "the positive is left out of the denominator: it is a candidate."),
            ({"partner": lambda i, n: (i + 1) % n}, _INFO_NCE_ROW + "i + 1."),
            ({"partner": lambda i, n: (i - 1) % n}, _INFO_NCE_ROW + "i − 1."),
            ({"partner": lambda i, n: 0 * i}, _INFO_NCE_ROW + "0, for every query."),
            ({"reduce": torch.sum}, "this is the sum over the N anchors: take the mean."),
            ({"reduce": lambda terms: terms}, "these are the N terms: the loss is their mean, one number."),
            ({"reduce": lambda terms: -terms.mean()}, "the sign is wrong: the loss is −log of the share."),
            ({"reduce": lambda terms: -(-terms).exp().mean().log()}, "this is −log(mean), not mean(−log)."),
            *(({"reduce": partial(_capped, cap=torch.add, tiny=tiny)}, _CAPPED) for tiny in _TINIES),
            *(({"reduce": partial(_capped, cap=torch.maximum, tiny=tiny)}, _CAPPED) for tiny in _TINIES),
        ]
    ),
    (_clip, "this is the mean of both directions, as in CLIP: here only queries are anchors."),
    (_nt_xent_with, "this is NT-Xent, with 2N − 1 candidates: here the N keys alone are candidates, for N queries."),
]

NT_XENT_MISTAKES = [
    (partial(_nt_xent_with, **part), sentence)
    for part, sentence in [
        ({"scale": lambda s, t: s}, "this is the value without the temperature: divide similarities by it."),
        ({"scale": torch.mul}, "similarities are multiplied by the temperature: divide by it."),
        ({"candidates": _all}, "self-similarity is still in the denominator: mask the diagonal."),
        ({"partner": lambda i, n: i ^ 1}, _ROW + "its neighbour: 0 with 1, 2 with 3."),
        ({"partner": lambda i, n: (i + 1) % (2 * n)}, _ROW + "the next one."),
        ({"partner": _interleaved}, _ROW + "row i + N of views that are interleaved."),
        ({"partner": lambda i, n: i}, _ROW + "row i itself."),
        ({"partner": lambda i, n: i, "candidates": _all}, _ROW + "row i itself, which isn't masked either."),
        ({"reduce": lambda terms: terms.mean() + torch.inf}, _ROW + "perhaps row i itself, which is masked."),
        ({"candidates": _other_view, "reduce": _from_view1}, "this is InfoNCE in one direction. " + _CLIP),
        ({"candidates": _other_view}, "this is InfoNCE in two directions, as in CLIP. " + _CLIP),
        ({"reduce": _from_view1}, "one direction only: the rows of view2 are anchors too, 2N terms in all."),
        ({"candidates": lambda i, k, n: (i - k) % n != 0}, "the positive is left out of the denominator."),
        ({"unit": lambda z: z}, "the vectors are not normalised: these are dot products, not cosines."),
        ({"unit": _axis_0_by_view}, AXIS),
        ({"unit": partial(F.normalize, dim=0)}, AXIS),
        ({"reduce": lambda terms: -(-terms).exp().mean().log()}, "this is −log(mean), not mean(−log)."),
        ({"reduce": torch.sum}, "this is the sum over the 2N anchors: take the mean."),
        ({"reduce": lambda terms: 2 * terms.mean()}, "exactly twice the value: divide by 2N anchors, not N."),
        ({"reduce": lambda terms: terms}, "these are the 2N terms: the loss is their mean, one number."),
        ({"reduce": lambda terms: -terms.mean()}, "the sign is wrong: the loss is −log of the share."),
        *(({"reduce": partial(_capped, cap=torch.add, tiny=tiny)}, _CAPPED) for tiny in _TINIES),
        *(({"reduce": partial(_capped, cap=torch.maximum, tiny=tiny)}, _CAPPED) for tiny in _TINIES),
    ]
]


# --- what they are made of ---


def check_log_sum_exp(function: Callable, seed: int = 0) -> Report:
    """Check `function(logits)`: [N, M] to log Σ exp of each row, [N]; finite whatever the size of the numbers."""
    exercise = Exercise(
        task="write the function that takes logits [N, M] and returns the log of the sum of exp over each row, [N]",
        cases=[
            {"logits": torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, -1.0]])},
            {"logits": torch.tensor([[100.0, 99.0, 10.0]])},  # exp overflows float32
            {"logits": torch.tensor([[-200.0, -201.0], [-150.0, -150.0]])},  # exp underflows
            {"logits": torch.tensor([[120.0, 119.0], [-120.0, -121.0]])},  # one maximum for both rows won't do
            {"logits": 3 * random(1, 5, 7)},
            {"logits": 40 * random(2, 9, 64, dtype=torch.float64)},
        ],
        edge_cases=[{"logits": torch.tensor([[-torch.inf, 2.0, 1.0], [3.0, -torch.inf, 0.5]])}],  # masked
        oracle=_log_sum_exp_loop,
        mistakes=LOG_SUM_EXP_MISTAKES,
        not_finite="right where it is finite, but NaN or infinite elsewhere. In float32 exp overflows above 88 and "
        "vanishes below −103: subtract from each row its own largest number first, and add it again outside the log.",
        verified="values and gradients agree with the plain sum in float64, in 9 cases, two of them fresh (numbers "
        "from −201 to 120, some of them masked by −inf, float32 and float64); the input is left as it was.",
        fresh=lambda seed: {"logits": 5 * random(seed, 2 + seed % 6, 3 + seed % 7)},
    )
    return judge(function, exercise, seed)


def _log_sum_exp_loop(logits):
    """Bare exponentials are safe here: float64 holds exp(700)."""
    return torch.stack([sum(x.exp() for x in row).log() for row in logits])


def _largest(x):
    return x.max(1).values


_SHIFT = "the largest number of the row, once subtracted, has to be added again outside the log."

LOG_SUM_EXP_MISTAKES = [
    (lambda x: x.exp().sum(1), "the log is missing: this is the sum of exp."),
    (lambda x: x.logsumexp(0), "this is the sum over each column: a row's candidates lie along dim=1."),
    (lambda x: x.flatten().logsumexp(0), "this is one number for the whole matrix: sum over dim=1 only."),
    (lambda x: x.logsumexp(1).mean(), "this is the mean over the rows: return one number for each row, [N]."),
    (lambda x: x.logsumexp(1, keepdim=True), "the values are right, but of shape [N, 1]: return [N]."),
    (
        lambda x: x.logsumexp(1) - _largest(x) + _largest(x)[:, None],
        "[N] plus [N, 1] broadcasts to [N, N]: drop the second axis of the largest numbers before you add them.",
    ),
    (lambda x: x.logsumexp(1) - x.new_tensor(x.shape[1]).log(), "this is the log of the mean: take the sum."),
    (lambda x: x.logsumexp(1) - _largest(x), _SHIFT),
    (lambda x: x.logsumexp(1) - 2 * _largest(x), _SHIFT + " Yours is subtracted once more."),
    (lambda x: x.sum(1), "the log of each exp gives back the number itself: sum first, then take the log."),
    (_largest, "this is the largest number of each row: the others count too."),
    (lambda x: x - x.logsumexp(1, keepdim=True), "this is log-softmax, [N, M]: return what it subtracts, [N]."),
    *(
        (
            lambda x, top=top: x.clamp(max=top).logsumexp(1),
            "numbers are cut off before exp: that avoids infinity, and gives wrong values. Subtract the largest.",
        )
        for top in (10, 20, 50, 60, 70, 80, 85, 87, 88, 88.7)
    ),
]


def check_info_nce_gradient(function: Callable, seed: int = 0) -> Report:
    """Check `function(similarities, tau)`: one anchor's N similarities, the positive first, to ∂L/∂s, [N]."""
    exercise = Exercise(
        task="write the function that takes one anchor's similarities [N], the positive first, and a temperature, and "
        "returns the gradient of the loss with respect to each, [N]",
        cases=[
            {"similarities": torch.tensor([1.0, 0.0, -1.0]), "tau": 1.0},
            {"similarities": torch.tensor([0.4, 0.55, 0.1]), "tau": 0.5},
            {"similarities": torch.tensor([0.92, 0.95, 0.94, 0.2]), "tau": 0.01},  # exp(s/τ) overflows
            {"similarities": random(1, 7).tanh(), "tau": 0.1},
            {"similarities": random(2, 64, dtype=torch.float64).tanh(), "tau": 2.0},
        ],
        oracle=_info_nce_gradient_loop,
        mistakes=INFO_NCE_GRADIENT_MISTAKES,
        not_finite="right where it is finite, but NaN or infinite at τ = 0.01: exp(s/τ) overflows float32 above "
        "s/τ = 88. Use torch.softmax, which subtracts the largest first.",
        verified="values agree with the printed equation, as a plain loop, in 7 cases, two of them fresh (N from 3 to "
        "64, τ from 0.01 to 2, float32 and float64); the input is left as it was.",
        gradients=False,
        fresh=lambda seed: {"similarities": random(seed, 4 + seed % 9).tanh(), "tau": (1 + seed % 7) / 10},
    )
    return judge(function, exercise, seed)


def _info_nce_gradient_loop(similarities, tau):
    weights = [(s / tau).exp() for s in similarities]
    shares = [weight / sum(weights) for weight in weights]
    return torch.stack([(share - 1 if j == 0 else share) / tau for j, share in enumerate(shares)])


def _gradient_with(
    similarities, tau, *, shares=lambda s, t: (s / t).softmax(0), first=lambda p: p - 1, scale=torch.div
):
    """The gradient with one part replaced; `first` makes the positive's entry of its share."""
    p = shares(similarities, tau)
    return scale(torch.cat([first(p[:1]), p[1:]]), tau)


_MINUS = "a step of gradient descent goes against the gradient; asked for is the gradient itself: "

INFO_NCE_GRADIENT_MISTAKES = [
    (partial(_gradient_with, **part), sentence)
    for part, sentence in [
        ({"scale": lambda g, t: g}, "the factor 1/τ is missing: s is divided by τ inside the loss (chain rule)."),
        ({"scale": torch.mul}, "multiplied by τ where the chain rule divides by it."),
        ({"shares": lambda s, t: s.softmax(0)}, "the shares are those at τ = 1: divide by τ inside the softmax too."),
        ({"scale": lambda g, t: -g / t}, _MINUS + "turn the sign."),
        ({"scale": lambda g, t: -g}, _MINUS + "turn the sign; and the factor 1/τ is missing."),
        ({"first": lambda p: p}, "the positive's entry is p/τ, as if it were a negative: it is −(1 − p)/τ."),
        ({"first": lambda p: -p}, "the positive's entry is −p/τ: it is −(1 − p)/τ, and all entries sum to zero."),
        (
            {"first": lambda p: 1 - p},
            "the positive's entry has the wrong sign: raising its similarity lowers the loss.",
        ),
        (
            {"scale": lambda g, t: g / t / len(g)},
            "divided by N: this is one anchor's loss, and there is no mean in it.",
        ),
        (
            {"first": lambda p: p, "scale": lambda p, t: (p - F.one_hot(torch.tensor(len(p) - 1), len(p))) / t},
            "the positive is the first of the similarities, not the last.",
        ),
    ]
]


def check_false_negatives(function: Callable, seed: int = 0) -> Report:
    """Check `function(labels)`: a batch's labels [N] to the share of its negatives that are false, a number.

    The loss is NT-Xent: 2N anchors, each with 2N − 2 negatives, of which those with the anchor's label are false.
    """
    exercise = Exercise(
        task="write the function that takes the labels [N] of a batch and returns the share of its negatives that are "
        "false",
        cases=[
            {"labels": torch.tensor([0, 0, 1])},
            {"labels": torch.tensor([4, 2, 7])},
            {"labels": torch.tensor([3, 3, 3, 3])},
            {"labels": torch.tensor([5, 1, 5, 1, 1, 0])},
            {"labels": (random(1, 64) * 2).round().long() + 9},
        ],
        oracle=_false_negatives_loop,
        mistakes=FALSE_NEGATIVES_MISTAKES,
        not_finite="right where it is finite, but NaN or infinite elsewhere: what do you divide by?",
        verified="values agree with counting pair by pair, in 7 batches of 3 to 64 pictures, two of them fresh, from "
        "no false negative to nothing else; the labels are left as they were.",
        gradients=False,
        number=True,
        fresh=lambda seed: {"labels": (random(seed, 8 + seed % 13) * 2).round().long() + 9},
    )
    return judge(function, exercise, seed)


def _false_negatives_loop(labels):
    rows, n = [*labels.tolist(), *labels.tolist()], len(labels)
    negatives = [(i, k) for i in range(2 * n) for k in range(2 * n) if k % n != i % n]
    return torch.tensor(sum(rows[i] == rows[k] for i, k in negatives) / len(negatives), dtype=torch.float64)


def _counted(of):
    """A mistake: `of(others, n, classes)` with the number of other pictures of each picture's label, [N]."""
    return lambda labels: of((labels[:, None] == labels).sum(1).double() - 1, len(labels), len(labels.unique())).mean()


FALSE_NEGATIVES_MISTAKES = [
    (_counted(of), sentence)
    for of, sentence in [
        (lambda others, n, c: (others + 1) / n, "the anchor itself and its positive are counted as negatives."),
        (lambda others, n, c: (2 * others + 1) / (2 * n - 1), "the positive is counted as a false negative."),
        (
            lambda others, n, c: 2 * others / (2 * n - 1),
            "divided by the 2N − 1 candidates: of these, one is the positive.",
        ),
        (lambda others, n, c: others / n, "divided by N pictures: the anchor's own picture is none of its negatives."),
        (lambda others, n, c: 2 * others, "this is a mean count of false negatives: divide by the 2N − 2 negatives."),
        (lambda others, n, c: others, "this is a mean count of pictures: give the share of the negatives."),
        (lambda others, n, c: others.sum(), "this is a total count: give the share of the negatives."),
        (lambda others, n, c: 4 * others.sum(), "this is a total count of pairs: give the share of the negatives."),
        (lambda others, n, c: 1 - others / (n - 1), "this is the share of the true negatives: take 1 minus it."),
        (lambda others, n, c: others / (2 * n - 2), "each other picture is there in two views: both are false."),
        (lambda others, n, c: others * 0 + 1 / c, "this is 1/C, a guess for even classes: count in this batch."),
    ]
]


# --- how hard each negative is pushed ---


def check_negative_weights(function: Callable, seed: int = 0) -> Report:
    """Check `function(cosines, temperature)`: cosines [N, N], the positives on the diagonal, to weights [N, N].

    Row i shares out the whole push of query i among its negatives: exp(s_ij / τ) / sum over k ≠ i of exp(s_ik / τ), and
    0 on the diagonal.
    """
    near = torch.tensor([[0.99, 0.95, 0.97, 0.2], [0.9, 0.93, 0.98, 0.97], [0.98, 0.97, 0.95, 0.94], [0, 0.1, 0.12, 1]])
    exercise = Exercise(
        task="write the function that takes cosines [N, N], the positives on the diagonal, and a temperature and "
        "returns each negative's share of the push in its row, [N, N]",
        cases=[
            {"cosines": torch.tensor([[0.8, 0.4, -0.1], [0.3, 0.5, 0.6], [-0.2, 0.1, 0.9]]), "temperature": 0.5},
            {"cosines": near, "temperature": 0.01},  # exp(s/τ) overflows
            {"cosines": 2 * torch.eye(3) - 1 + 0.1 * torch.tensor([0.0, 2, 1]), "temperature": 0.01},  # far behind
            {"cosines": random(1, 6, 6).tanh(), "temperature": 0.1},
            {"cosines": random(2, 32, 32, dtype=torch.float64).tanh(), "temperature": 2.0},
        ],
        oracle=_negative_weights_loop,
        mistakes=NEGATIVE_WEIGHTS_MISTAKES,
        not_finite="right where it is finite, but NaN or infinite at τ = 0.01. exp(s/τ) overflows float32 above "
        "s/τ = 88, and the negatives vanish beside a positive that leads by far, 0 / 0. Mask the diagonal with −inf "
        "first, then take the softmax, which subtracts the largest of the rest.",
        verified="values agree with the printed equation, as a plain loop, in 7 cases, two of them fresh (N from 3 to "
        "32, τ from 0.01 to 2, float32 and float64); the input is left as it was.",
        gradients=False,  # the sum over all weights is N, whatever the cosines
        fresh=lambda seed: {"cosines": random(seed, *[4 + seed % 9] * 2).tanh(), "temperature": (1 + seed % 7) / 10},
    )
    return judge(function, exercise, seed)


def _negative_weights_loop(cosines, temperature):
    rows = []
    for i, row in enumerate(cosines):
        pushes = [0 * s if j == i else (s / temperature).exp() for j, s in enumerate(row)]
        rows.append(torch.stack([push / sum(pushes) for push in pushes]))
    return torch.stack(rows)


def _off_diagonal(x, on_it=0.0):
    return x.masked_fill(torch.eye(len(x), dtype=torch.bool), on_it)


def _negative_weights(cosines, temperature):
    return _off_diagonal(cosines / temperature, -torch.inf).softmax(1)


_SOFTMAX_AXIS = "softmax along the wrong axis: a query is a row, so its negatives lie along dim=1."

NEGATIVE_WEIGHTS_MISTAKES = [
    (lambda s, t: _negative_weights(s, 1), "this is the value without the temperature: divide similarities by it."),
    (lambda s, t: _negative_weights(s, 1 / t), "similarities are multiplied by the temperature: divide by it."),
    (lambda s, t: (s / t).softmax(1), "the positive is in it: a row's weights go to its negatives alone, 0 on the "
     "diagonal."),
    (lambda s, t: _off_diagonal((s / t).softmax(1)), "these are the shares p of the loss, whose rows sum to 1 − p of "
     "the positive: leave the positive out of the sum too."),
    (lambda s, t: _off_diagonal((s / t).softmax(1)) / t, "this is the gradient p/τ: asked for is each negative's share "
     "of all negatives, so every row sums to 1."),
    (lambda s, t: _off_diagonal(s / t).softmax(1), "the diagonal is filled with 0, and exp(0) = 1 still counts: fill "
     "it with −inf."),
    (lambda s, t: _off_diagonal(_off_diagonal(s / t).softmax(1)), "the diagonal is filled with 0 before the softmax, "
     "and exp(0) = 1 still counts in the sum: fill it with −inf."),
    (lambda s, t: _off_diagonal(s / t, -torch.inf).softmax(0), _SOFTMAX_AXIS),
    (lambda s, t: _off_diagonal((s / t).softmax(0)), _SOFTMAX_AXIS),
    (lambda s, t: _negative_weights(s, t).T, "the right weights, transposed: rows are queries, columns are keys."),
    (lambda s, t: _off_diagonal(s / t, -torch.inf).flatten().softmax(0).view_as(s), "one softmax over the whole "
     "matrix: each row sums to 1 by itself."),
    (lambda s, t: _negative_weights(s, t) / len(s), "divided by N: each row sums to 1, there is no mean in it."),
    (lambda s, t: _off_diagonal(torch.ones_like(s)) / (len(s) - 1), "every negative has the same weight here: the "
     "near ones are pushed harder."),
    (lambda s, t: F.one_hot(_off_diagonal(s, -torch.inf).argmax(1), len(s)).to(s), "the hardest negative takes it "
     "all, as when τ goes to 0: the others have a share too."),
]  # fmt: skip


# --- supervised contrast ---


def check_sup_con(function: Callable, seed: int = 0) -> Report:
    """Check `function(embeddings, labels, temperature)`: [M, D], [M] integers and τ > 0 to the SupCon loss, in nats.

    Equation 2 of Khosla et al. (2020), the mean over positives outside the log; finite at τ = 0.01. A row that is alone
    with its label is a negative of the others and no anchor.
    """
    exercise = Exercise(
        task="write the function that takes embeddings [M, D], their labels [M] and a temperature and returns the "
        "supervised contrastive loss",
        cases=[
            _sup_con_case([[3, 1], [1, 2], [1, -1], [2, -3]], [0, 0, 1, 1], 0.5),
            _sup_con_case([[3, 1], [1, 2], [-1, 2], [1, -1], [2, 0]], [7, 4, 7, 5, 7], 0.5),  # two rows are alone
            _sup_con_case([[1, 0], [1, 0.2], [1, 0.1], [1, 0.3]], [2, 0, 0, 2], 0.01),  # all alike: exp overflows
            # A tetrahedron: all exp(s/τ) vanish beside that of self-similarity.
            _sup_con_case([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], [0, 1, 0, 1], 0.01),
            _sup_con_case(3 * random(1, 9, 7), [0, 1, 2, 0, 1, 0, 0, 5, 0], 0.2),
            _sup_con_case(random(2, 16, 32, dtype=torch.float64), [*range(4)] * 4, 2.0),
        ],
        oracle=_sup_con_loop,
        mistakes=SUP_CON_MISTAKES,
        not_finite="right where it is finite, but NaN or infinite elsewhere. A row that is alone with its label has no "
        "positive, and 0 / 0 is NaN: leave it out of the mean. And at τ = 0.01 exp(s/τ) overflows float32, or "
        "underflows beside self-similarity: mask the diagonal, then use torch.logsumexp.",
        verified="values and gradients agree with equation 2 of Khosla et al. (2020), as a plain loop, in 8 cases, two "
        "of them fresh (M from 4 to 16, D from 2 to 32, τ from 0.01 to 2, rows alone with their label, float32 and "
        "float64); the inputs are left as they were.",
        fresh=_fresh_sup_con,
    )
    return judge(function, exercise, seed)


def _sup_con_case(embeddings, labels, temperature: float) -> dict:
    rows = embeddings if isinstance(embeddings, torch.Tensor) else torch.tensor(embeddings).float()
    return {"embeddings": rows, "labels": torch.tensor(labels), "temperature": temperature}


def _fresh_sup_con(seed: int) -> dict:
    """Two to four classes of two rows or more, and a row that is alone."""
    rows = 9 + seed % 5
    labels = [i % (2 + seed % 3) for i in range(rows - 1)]
    return _sup_con_case(2 * random(seed, rows, 5 + seed % 11), [*labels, 9], (2 + seed % 7) / 10)


def _sup_con_loop(embeddings, labels, temperature):
    """Equation 2 as printed. Bare exponentials are safe here: float64 holds exp(700)."""
    units = [row / (row * row).sum().sqrt() for row in embeddings]
    losses = []
    for i, anchor in enumerate(units):
        weights = {k: ((anchor * other).sum() / temperature).exp() for k, other in enumerate(units) if k != i}
        terms = [-(weights[p] / sum(weights.values())).log() for p in weights if labels[p] == labels[i]]
        if terms:
            losses.append(sum(terms) / len(terms))
    return sum(losses) / len(losses)


def _mean_over_positives(terms, positives):
    return ((terms * positives).sum(1) / positives.sum(1))[positives.any(1)]


def _sup_con_with(
    embeddings,
    labels,
    temperature,
    *,
    unit=F.normalize,
    scale=torch.div,
    candidates=lambda same, own: ~own,
    positives=lambda same, own: same & ~own,
    terms=_mean_over_positives,
    reduce=torch.mean,
):
    """SupCon with one part replaced; `terms` makes of −log p and the positives, both [M, M], each anchor's loss."""
    z = unit(embeddings)  # [M, D]
    same, own = labels[:, None] == labels, torch.eye(len(labels), dtype=torch.bool)
    logits = scale(z @ z.T, temperature)  # [M, M]
    total = logits.masked_fill(~candidates(same, own), -torch.inf).logsumexp(1, keepdim=True)  # [M, 1]
    return reduce(terms(total - logits, positives(same, own)))


def _log_outside(terms, positives):
    return -_mean_over_positives((-terms).exp(), positives).log()


def _with_lone_rows(terms, positives):
    return (terms * positives).sum(1) / positives.sum(1).clamp_min(1)


def _one_positive_at_a_time(embeddings, labels, temperature):
    """Each positive against the negatives alone: the other positives are no candidates."""
    z, same = F.normalize(embeddings), labels[:, None] == labels
    logits = z @ z.T / temperature
    negatives = logits.masked_fill(same, -torch.inf).logsumexp(1, keepdim=True)  # [M, 1]
    positives = same & ~torch.eye(len(z), dtype=torch.bool)
    return _mean_over_positives(F.softplus(negatives - logits), positives).mean()


SUP_CON_MISTAKES = [
    *(
        (partial(_sup_con_with, **part), sentence)
        for part, sentence in [
            ({"scale": lambda s, t: s}, "this is the value without the temperature: divide similarities by it."),
            ({"scale": torch.mul}, "similarities are multiplied by the temperature: divide by it."),
            ({"unit": _same}, "the vectors are not normalised: these are dot products, not cosines."),
            ({"unit": _on_columns}, AXIS),
            ({"candidates": lambda same, own: same | ~same}, "self-similarity is still in the denominator: mask it."),
            ({"candidates": lambda same, own: ~same}, "only negatives are in the denominator: every row but the anchor "
             "is a candidate, its positives too."),
            ({"positives": lambda same, own: same}, "each anchor is counted among its own positives: leave it out."),
            ({"positives": lambda same, own: same, "candidates": lambda same, own: same | ~same}, "each anchor is "
             "counted among its own positives, and in the denominator: leave it out of both."),
            ({"positives": lambda same, own: ~same}, "the rows of *other* labels are taken for positives."),
            ({"terms": _log_outside}, "this is equation 3, −log of the mean share: equation 2 takes the log of each "
             "positive's share first, then the mean."),
            ({"terms": lambda terms, p: (terms * p).sum(1)[p.any(1)]}, "the positives' terms are summed: each anchor "
             "takes their mean, 1/|P(i)|."),
            ({"terms": lambda terms, p: (terms * p).sum(1)[p.any(1)] / (p.sum(1)[p.any(1)] + 1)}, "divided by "
             "|P(i)| + 1: the anchor is counted among its positives."),
            ({"terms": lambda terms, p: terms[p]}, "this is the mean over all pairs, where large classes count more: "
             "first the mean over each anchor's positives, then the mean over the anchors."),
            ({"terms": _with_lone_rows}, "rows without a positive count as anchors with a loss of 0: leave them out of "
             "the mean."),
            ({"reduce": torch.sum}, "this is the sum over the anchors: take the mean."),
            ({"reduce": lambda terms: terms}, "these are the anchors' terms: the loss is their mean, one number."),
            ({"reduce": lambda terms: -terms.mean()}, "the sign is wrong: the loss is −log of the share."),
        ]
    ),
    (_one_positive_at_a_time, "the other positives are missing from the denominator: every row but the anchor is a "
     "candidate."),
    (lambda z, labels, t: t / 0.07 * _sup_con_with(z, labels, t), "multiplied by τ / 0.07, as the authors' code does: "
     "equation 2 has no such factor."),
    (lambda z, labels, t: t * _sup_con_with(z, labels, t), "multiplied by τ: equation 2 has no such factor."),
]  # fmt: skip


# --- questions ---


def _three_cosines(generator: Random) -> dict:
    """Cosines in tenths and a τ that makes the exponents round, none of them far behind."""
    while True:
        positive, *negatives = generator.sample(range(-4, 10), 3)
        tau = generator.choice((0.1, 0.2, 0.25, 0.5))
        if positive > 1 and 0 not in negatives and max(positive, *negatives) - min(positive, *negatives) <= 40 * tau:
            return {"positive": positive / 10, "negatives": [s / 10 for s in negatives], "tau": tau}


def _one_info_nce(positive, negatives, tau):
    return math.log(sum(math.exp(s / tau) for s in (positive, *negatives))) - positive / tau


def _with_mean_negative(positive, negatives, tau):
    share = math.exp(positive / tau) / (math.exp(positive / tau) + sum(math.exp(s / tau) for s in negatives) / 2)
    return -math.log(share)


INFO_NCE_BY_HAND_MISTAKES = [
    (lambda positive, negatives, tau: _one_info_nce(positive, negatives, 1), "this is the loss without the "
     "temperature: divide each cosine by τ."),
    (lambda positive, negatives, tau: _one_info_nce(positive, negatives, 1 / tau), "the cosines are multiplied by τ: "
     "divide by it."),
    (lambda positive, negatives, tau: math.log(sum(math.exp(s / tau) for s in negatives)) - positive / tau,
     "the positive is left out of the denominator: it is a candidate."),
    (lambda **case: _one_info_nce(**case) / math.log(2), "this is in bits (log base 2): nats are asked for."),
    (lambda **case: _one_info_nce(**case) / math.log(10), "this is log base 10: the natural log is meant."),
    (_with_mean_negative, "the negatives are averaged in the denominator: sum them."),
    (lambda **case: -_one_info_nce(**case), "the sign is wrong: the loss is −log of the share."),
    (lambda **case: math.exp(-_one_info_nce(**case)), "this is the positive's share p: the loss is −log p."),
    (lambda **case: 1 - math.exp(-_one_info_nce(**case)), "this is 1 − p: the loss is −log p."),
    (lambda positive, negatives, tau: _one_info_nce(negatives[0], (positive, negatives[1]), tau), "this is the loss "
     "if the first negative were the positive."),
    (lambda positive, negatives, tau: _one_info_nce(negatives[1], (positive, negatives[0]), tau), "this is the loss "
     "if the second negative were the positive."),
    (lambda positive, negatives, tau: (max(positive, *negatives) - positive) / tau, "this is the gap to the nearest "
     "candidate, divided by τ: all candidates count."),
]  # fmt: skip

INFO_NCE_BY_HAND = Question(
    task="give the InfoNCE loss of this anchor in nats, to three decimals",
    given=lambda seed: drawn_apart(seed, _three_cosines, _one_info_nce, *(f for f, _ in INFO_NCE_BY_HAND_MISTAKES)),
    answer=_one_info_nce,
    mistakes=INFO_NCE_BY_HAND_MISTAKES,
    verified="exponentials of s/τ, the positive's share of them, and −log of it.",
)

ONE_WAY, BOTH_VIEWS, QUEUE = "InfoNCE", "NT-Xent", "InfoNCE with a queue"


def _loss_and_sizes(generator: Random) -> dict:
    """Sizes for which one candidate more or less shows in the third decimal."""
    loss = generator.choice((BOTH_VIEWS, BOTH_VIEWS, ONE_WAY, QUEUE))
    return {"loss": loss, "pictures": generator.randrange(20, 61), "queue": generator.randrange(150, 310, 10)}


def _candidates(loss, pictures, queue):
    return {ONE_WAY: pictures, BOTH_VIEWS: 2 * pictures - 1, QUEUE: queue + 1}[loss]


def _line(**case):
    return math.log(_candidates(**case))


def _line_of(one_way=None, both_views=None, queue=None):
    """A mistake: the log of a wrong count of candidates, for the losses with which people make it."""
    counts = {ONE_WAY: one_way, BOTH_VIEWS: both_views, QUEUE: queue}
    return lambda loss, pictures, queue: math.log(counts[loss](pictures, queue)) if counts[loss] else math.nan


CHANCE_LINE_MISTAKES = [
    (_line_of(one_way=lambda n, k: n - 1, both_views=lambda n, k: 2 * n - 2, queue=lambda n, k: k),
     "the positive is not counted: it is a candidate like the negatives."),
    (_line_of(one_way=lambda n, k: 2 * n - 1), "this is the line of NT-Xent: in InfoNCE the N keys alone are "
     "candidates."),
    (_line_of(one_way=lambda n, k: 2 * n, both_views=lambda n, k: 2 * n), "this counts all 2N views. In InfoNCE only "
     "the N keys are candidates, in NT-Xent all views but the anchor itself."),
    (_line_of(both_views=lambda n, k: n, queue=lambda n, k: n), "this is the line of InfoNCE with the N keys of a "
     "batch. NT-Xent has all other views of the batch as candidates, a queue its K rows and the positive."),
    (_line_of(both_views=lambda n, k: n - 1), "N − 1 counts pictures: each of them is there in two views, and the "
     "positive is a candidate too."),
    (_line_of(queue=lambda n, k: n + k), "with a queue, the other keys of the batch are no candidates: "
     "a query has its own key and the K rows of the queue."),
    (lambda **case: math.log2(_candidates(**case)), "this is log base 2: the loss is in nats."),
    (lambda **case: math.log10(_candidates(**case)), "this is log base 10: the loss is in nats."),
    (lambda **case: float(_candidates(**case)), "this is the number of candidates: the loss is its log."),
    (lambda **case: 1 / _candidates(**case), "this is the positive's share: the loss is −log of it."),
    (lambda **case: -_line(**case), "the sign is wrong: the loss is −log of a share below 1."),
]  # fmt: skip

CHANCE_LINE = Question(
    task="give the value of this loss, in nats and to three decimals, when all similarities are equal",
    given=lambda seed: drawn_apart(seed, _loss_and_sizes, _line, *(f for f, _ in CHANCE_LINE_MISTAKES), gap=0.0025),
    answer=_line,
    mistakes=CHANCE_LINE_MISTAKES,
    verified="the log of the number of candidates, the positive among them.",
)

BROKEN = {
    "self": {"candidates": _all},
    "partner": {"partner": lambda i, n: i ^ 1},
    "temperature": {"scale": lambda s, t: s},
    "positive": {"candidates": lambda i, k, n: (i - k) % n != 0},
    "lengths": {"unit": _same},
}


def _broken_values(batch: dict) -> dict[str, float]:
    """The loss that each of the broken versions gives for this batch."""
    return {name: _nt_xent_with(**batch, **part).item() for name, part in BROKEN.items()}


def _broken_batch(seed: int) -> dict:
    """Three pictures in the plane for which the broken versions, and the right one, differ."""

    def draw(generator):
        numbers = [generator.choice((-1, 1)) * generator.randrange(2, 21) / 10 for _ in range(12)]
        view1, view2 = torch.tensor(numbers).reshape(2, 3, 2)
        return _nt_xent_case(view1, view2, generator.choice((0.2, 0.25, 0.5)))

    versions = (partial(_nt_xent_with, **part) for part in ({}, *BROKEN.values()))
    return drawn_apart(seed, draw, *versions, gap=0.05)


def _which_is_broken(seed: int) -> str:
    return Random(seed).choice(list(BROKEN))


def _broken_case(seed: int) -> dict:
    batch = _broken_batch(seed)
    return batch | {"loss": _broken_values(batch)[_which_is_broken(seed)]}


def _not_this_bug(chosen: str, seed: int) -> str:
    case = _broken_case(seed)
    loss = case.pop("loss")
    return (
        f"with that bug the loss of this batch would be {_broken_values(case)[chosen]:.3f}, and the friend's is "
        f"{loss:.3f}. Break a copy of your own function in each of the five ways, and compare."
    )


BROKEN_LOSS = Choice(
    task="find the bug that gives this batch the friend's loss",
    options={
        "self": "self-similarity is left in the denominator",
        "partner": "the positive sits on the wrong row: 0 with 1, 2 with 3, 4 with 5",
        "temperature": "similarities are not divided by τ",
        "positive": "the positive is left out of the denominator",
        "lengths": "the vectors are not normalised",
    },
    right=_which_is_broken,
    why_not=_not_this_bug,
    verified="that bug gives this value, and none of the other four does.",
    given=_broken_case,
)
