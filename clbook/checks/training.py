"""Checks of the parts of a training loop: the learning rate, the stacked views, the negatives, the vote of kNN."""

import math
from collections.abc import Callable
from functools import partial

import torch

from clbook.checks.exercise import Exercise, Report, judge

# --- the learning rate ---


def check_learning_rate(function: Callable, seed: int = 0) -> Report:
    """Check `function(step, steps, warmup_steps, peak)`: numbers to the learning rate of that step, a number.

    It rises in a straight line from 0 at step 0 to the peak at step `warmup_steps`, then falls as half a cosine to 0
    at step `steps`; with no warm-up it starts at the peak.
    """
    exercise = Exercise(
        task="write the function that takes step, steps, warmup_steps and peak and returns the learning rate",
        cases=[
            *(_rate_case(step, 10, 2, 1.0) for step in (0, 1, 2, 4, 6, 10)),
            *(_rate_case(step, 8, 0, 2.0) for step in (0, 2, 8)),
            *(_rate_case(step, 300, 15, 2.0) for step in (7, 15, 150, 299)),
        ],
        oracle=_learning_rate,
        mistakes=RATE_MISTAKES,
        not_finite="NaN or infinite where there is no warm-up: with warmup_steps = 0 nothing may be divided by it.",
        verified="values agree with the two formulas, the ends included, in 15 cases (runs of 8 to 300 steps, with and "
        "without warm-up).",
        gradients=False,
        number=True,
        fresh=_fresh_rate_case,
    )
    return judge(function, exercise, seed)


def _fresh_rate_case(seed: int) -> dict:
    steps, warmup_steps = 40 + seed % 97, 3 + seed % 7
    step = seed % warmup_steps if seed % 2 else warmup_steps + seed % (steps - warmup_steps)  # rising, falling
    return _rate_case(step, steps, warmup_steps, (1 + seed % 8) / 2)


def _rate_case(step: int, steps: int, warmup_steps: int, peak: float) -> dict:
    return {"step": step, "steps": steps, "warmup_steps": warmup_steps, "peak": peak}


def _learning_rate(step, steps, warmup_steps, peak):
    if step < warmup_steps:
        return torch.tensor(peak * step / warmup_steps, dtype=torch.float64)
    share = (step - warmup_steps) / (steps - warmup_steps)  # of the fall, 0 to 1
    return torch.tensor(peak * (1 + math.cos(math.pi * share)) / 2, dtype=torch.float64)


def _rate_with(
    step,
    steps,
    warmup_steps,
    peak,
    *,
    rise=lambda step, warmup: step / warmup,
    share=lambda step, steps, warmup: (step - warmup) / (steps - warmup),
    fall=lambda share: (1 + math.cos(math.pi * share)) / 2,
    scale=lambda rate, peak: rate * peak,
):
    """The learning rate with one part replaced; `rise` and `fall` are shares of the peak."""
    rising = step < warmup_steps
    rate = rise(step, warmup_steps) if rising else fall(share(step, steps, warmup_steps))
    return torch.tensor(float(scale(rate, peak)), dtype=torch.float64)


def _no_warmup(step, steps, warmup_steps, peak):
    return _learning_rate(step, steps, 0, peak)


def _both_at_once(step, steps, warmup_steps, peak):
    rise = min(1.0, step / warmup_steps) if warmup_steps else 1.0
    return rise * _learning_rate(step, steps, 0, peak)


def rate_by_epochs(step, steps, warmup_steps, peak):
    """What the clinic's patient has: a run of as many steps as it has epochs of 31 batches, and no warm-up."""
    epochs = max(1, steps // 31)
    return peak * (1 + math.cos(math.pi * min(1, step / epochs))) / 2


RATE_MISTAKES = [
    (
        lambda *case: torch.tensor(rate_by_epochs(*case), dtype=torch.float64),
        "the rate falls over as many steps as there are epochs, so it is soon 0: the loop counts steps, not epochs. "
        "(And there is no warm-up.)",
    ),
    (_no_warmup, "there is no warm-up: the rate starts at its peak, where it should start at 0."),
    (
        _both_at_once,
        "warm-up and cosine run at the same time, one times the other: first the rise, then the fall, from the peak.",
    ),
    *(
        (partial(_rate_with, **part), sentence)
        for part, sentence in [
            (
                {"share": lambda step, steps, warmup: step / steps},
                "the cosine runs over the whole run: at the end of the warm-up it has fallen already. Let it start "
                "there: (step − warmup_steps) / (steps − warmup_steps).",
            ),
            (
                {"share": lambda step, steps, warmup: (step - warmup) / steps},
                "the rate doesn't reach 0 at the end: the fall lasts steps − warmup_steps steps, not steps.",
            ),
            (
                {"share": lambda step, steps, warmup: (step - warmup) / (steps - 1 - warmup)},
                "one step off: the rate is 0 at step `steps`, yours is 0 one step earlier.",
            ),
            (
                {"rise": lambda step, warmup: (step + 1) / warmup},
                "the warm-up is one step early: at step 0 the rate is 0, at step warmup_steps it is the peak.",
            ),
            (
                {"rise": lambda step, warmup: step / (warmup + 1)},
                "the warm-up is one step late: at step warmup_steps the rate is the peak.",
            ),
            (
                {"rise": lambda step, warmup: step // warmup},
                "`//` drops the fraction, so the rate stays 0 in the warm-up: divide with `/`.",
            ),
            ({"rise": lambda step, warmup: 1.0}, "the rate is at its peak all through the warm-up: let it rise."),
            (
                {"fall": lambda share: (1 + math.cos(2 * math.pi * share)) / 2},
                "a whole cosine: the rate falls to 0 in the middle and rises again, as with a T_max that is too small.",
            ),
            (
                {"fall": lambda share: math.cos(math.pi / 2 * share)},
                "this is a quarter of a cosine: half of one, (1 + cos(π · share)) / 2, is flat at both ends.",
            ),
            ({"fall": lambda share: 1 - share}, "the fall is a straight line, not half a cosine."),
            ({"fall": lambda share: 1.0}, "after the warm-up the rate stays at the peak: it should fall to 0."),
            (
                {"fall": lambda share: math.cos(math.pi * share)},
                "the rate falls to −peak: half a cosine from 1 to 0 is (1 + cos(π · share)) / 2.",
            ),
            (
                {"fall": lambda share: 1 + math.cos(math.pi * share)},
                "the fall starts at twice the peak: halve 1 + cos.",
            ),
            (
                {"fall": lambda share: (1 + math.cos(share)) / 2},
                "the π is missing: the cosine of a share from 0 to 1 hardly falls.",
            ),
            (
                {"fall": lambda share: (1 + math.cos(math.radians(math.pi * share))) / 2},
                "math.cos takes radians: no conversion is needed.",
            ),
            (
                {"fall": lambda share: (1 - math.cos(math.pi * share)) / 2},
                "upside down: after the warm-up your rate starts at 0 and rises.",
            ),
            ({"scale": lambda rate, peak: rate}, "this is a share of the peak: multiply it by `peak`."),
        ]
    ),
]


# --- the stacked views ---


def check_partner_rows(function: Callable, seed: int = 0) -> Report:
    """Check `function(n)`: the number of pictures in a batch to the partner of each row, int64 [2n].

    Rows 0 to n − 1 of the stack are first views, rows n to 2n − 1 second views, pictures in the same order.
    """
    exercise = Exercise(
        task="write the function that takes the number of pictures n and returns the partner of each of the 2n rows, "
        "int64 [2n]",
        cases=[{"n": n} for n in (2, 3, 4, 7)],
        oracle=_partner_rows,
        mistakes=PARTNER_MISTAKES,
        not_finite="NaN or infinite: row numbers are whole.",
        verified="values agree with a search for the row of the same picture, for n = 2, 3, 4, 7 and two more.",
        gradients=False,
        fresh=lambda seed: {"n": 5 + seed % 61},
    )
    return judge(function, exercise, seed)


def _partner_rows(n):
    """Look for the other row of the same picture."""
    pictures = [i for view in range(2) for i in range(n)]
    rows = range(2 * n)
    return torch.tensor([next(k for k in rows if k != i and pictures[k] == pictures[i]) for i in rows])


_STACK = "in a stack of [view 1; view 2] "
PARTNER_MISTAKES = [
    (lambda n: torch.arange(2 * n), "this is each row itself: a row is not its own partner."),
    (
        lambda n: torch.arange(2 * n) ^ 1,
        "0 with 1, 2 with 3: that is the order of interleaved views; " + _STACK + "the second views come after all "
        "first ones.",
    ),
    (lambda n: (torch.arange(2 * n) + 1) % (2 * n), "this is the next row, which shows another picture."),
    (lambda n: torch.arange(n) + n, "only the first views have a partner here: second views are anchors too, 2n rows."),
    (lambda n: torch.arange(n), "this has n rows: " + _STACK + "there are 2n, and each has a partner."),
    (lambda n: torch.arange(2 * n) + n, "rows from 2n on do not exist: from row n on, the partner is n rows back."),
    (
        lambda n: torch.arange(2 * n) - n,
        "negative row numbers: indexing would take them, but cross_entropy and gather do not. Add 2n to them.",
    ),
    (lambda n: torch.arange(2 * n) % n, "this is the number of the picture that a row shows, not its partner's row."),
    (lambda n: torch.arange(2 * n).flip(0), "mirrored: row i belongs with row i + n, not with row 2n − 1 − i."),
    (lambda n: torch.arange(n).repeat(2) + n, "second views are sent to themselves: their partners are first views."),
    (
        lambda n: torch.eye(2 * n).roll(n, 0),
        "this is a matrix [2n, 2n] that marks the partners: their row numbers are wanted, [2n].",
    ),
]


# --- the negatives ---


def check_false_negative_count(function: Callable, seed: int = 0) -> Report:
    """Check `function(labels)`: labels int64 [N] to how many *other* pictures of the batch share a picture's label, on
    average over the pictures, a number."""
    exercise = Exercise(
        task="write the function that takes labels [N] and returns the mean number of others with the same label",
        cases=[
            {"labels": torch.tensor([0, 0, 1, 0, 1])},
            {"labels": torch.tensor([3, 3])},
            {"labels": torch.tensor([2, 0, 1])},
            {"labels": torch.tensor([7, 7, 7, 2, 2, 9])},
            {"labels": _drawn_labels(1, 64, 5)},
        ],
        oracle=_false_negative_count,
        mistakes=COUNT_MISTAKES,
        not_finite="NaN or infinite: what is divided by is 0 where no label occurs twice, or none is missing.",
        verified="values agree with two plain loops in 7 batches (2 to 64 pictures, labels with gaps, none shared).",
        gradients=False,
        number=True,
        fresh=lambda seed: {"labels": _drawn_labels(seed, 10 + seed % 23, 3 + seed % 4)},
    )
    return judge(function, exercise, seed)


def _drawn_labels(seed: int, n: int, classes: int) -> torch.Tensor:
    return torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))


def _false_negative_count(labels):
    labels = labels.tolist()
    found = 0
    for i, mine in enumerate(labels):
        for k, other in enumerate(labels):
            found += i != k and mine == other
    return torch.tensor(found / len(labels), dtype=torch.float64)


def _same(labels):
    return (labels[:, None] == labels[None, :]).double()  # [N, N]


def _others(labels):
    return _same(labels).sum(1) - 1  # [N]


COUNT_MISTAKES = [
    (lambda labels: _same(labels).sum(1).mean(), "each picture counts itself: take it out, only *others* are wanted."),
    (lambda labels: _others(labels).sum(), "this is the sum over the pictures: take the mean."),
    (lambda labels: _same(labels).sum(), "this is the sum over all pairs, each picture with itself among them."),
    (
        lambda labels: _same(labels).triu(1).sum() / len(labels),
        "half the count: each pair was counted once, but both of its pictures have the other as a false negative.",
    ),
    (lambda labels: _same(labels).triu(1).sum(), "this is the number of pairs: the mean over pictures is wanted."),
    (lambda labels: (1 - _same(labels)).sum(1).mean(), "these are the others with *another* label."),
    (
        lambda labels: _same(labels).mean(),
        "this is the share of equal entries in the N × N matrix: a count is wanted, without the diagonal.",
    ),
    (
        lambda labels: _others(labels).mean() / (len(labels) - 1),
        "this is a share of the N − 1 others: their number is wanted.",
    ),
    (lambda labels: 2 * _others(labels).mean(), "twice the count: pictures are counted here, not their two views."),
    (
        lambda labels: torch.tensor(len(labels) / len(labels.unique()) - 1, dtype=torch.float64),
        "N / classes − 1 holds only if every label is as frequent as any other: large classes have more.",
    ),
    (
        lambda labels: torch.tensor((len(labels) - 1) / len(labels.unique()), dtype=torch.float64),
        "(N − 1) / classes is what to expect of a batch drawn at random: count in the batch that is given.",
    ),
    (
        lambda labels: torch.tensor((len(labels) - 1) / 5, dtype=torch.float64),
        "(N − 1) / 5 is what to expect of five shapes drawn at random: count in the batch that is given.",
    ),
    (_others, "these are the counts of each picture, [N]: their mean is wanted, one number."),
    (lambda labels: _same(labels).sum(1), "these are counts of each picture, itself among them: one number is wanted."),
]
