"""Checks of contrastive losses."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from clbook.checks.exercise import AXIS, Exercise, Report, judge, random


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


_ROW = "the positive sits on the wrong row: with the views stacked, row i belongs with row i + N. Yours is "
_CLIP = "NT-Xent has all 2N rows as anchors, and 2N − 1 candidates for each: its own view's other rows too."
_CAPPED = "a tiny number inside the log caps the loss at −log(tiny), with zero gradient: use torch.logsumexp."
_TINIES = [10.0**-k for k in range(3, 21)] + [torch.finfo(torch.float32).tiny]

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
