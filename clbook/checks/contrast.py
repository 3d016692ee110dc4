"""Checks of contrastive losses, and of what they are made of."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from clbook.checks.exercise import AXIS, Exercise, Report, judge, random


def check_info_nce(function: Callable) -> Report:
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
        verified="values and gradients agree with the printed equation, as a plain loop, in 5 cases (N from 2 "
        "to 9, D from 2 to 64, τ from 0.01 to 2, float32 and float64); the inputs are left as they were.",
    )
    return judge(function, exercise)


def _info_nce_case(query, key, temperature: float) -> dict:
    case = _nt_xent_case(query, key, temperature)
    return {"query": case["view1"], "key": case["view2"], "temperature": temperature}


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


def check_nt_xent(function: Callable) -> Report:
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
        verified="values and gradients agree with SimCLR's equation 1, as a plain loop, in 6 cases (N from 2 "
        "to 9, D from 2 to 64, τ from 0.01 to 2, float32 and float64); the inputs are left as they were.",
    )
    return judge(function, exercise)


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


def check_log_sum_exp(function: Callable) -> Report:
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
        verified="values and gradients agree with the plain sum in float64, in 7 cases (numbers from −201 to 120, "
        "some of them masked by −inf, float32 and float64); the input is left as it was.",
    )
    return judge(function, exercise)


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


def check_info_nce_gradient(function: Callable) -> Report:
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
        verified="values agree with the printed equation, as a plain loop, in 5 cases (N from 3 to 64, τ from 0.01 "
        "to 2, float32 and float64); the input is left as it was.",
        gradients=False,
    )
    return judge(function, exercise)


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


def check_false_negatives(function: Callable) -> Report:
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
        verified="values agree with counting pair by pair, in 5 batches of 3 to 64 pictures, from no false negative to "
        "nothing else; the labels are left as they were.",
        gradients=False,
        number=True,
    )
    return judge(function, exercise)


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
