"""Checks of the clinic: the meters of a run, and the parts of a loop that have to be repaired; and its patients.

`train` is lesson 06's loop in small, with four parts that can be replaced. A patient is a run with one part broken;
which of them is behind which letter is drawn from the seed.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbook import augmentations, models
from clbook.checks.exercise import AXIS, Exercise, Report, judge, random
from clbook.checks.question import Choice, Question
from clbook.checks.training import rate_by_epochs

BATCH, TEMPERATURE, STEPS, WARMUP, PEAK, WIDTH = 64, 0.1, 130, 10, 2e-3, 12
LETTERS = "ABCD"

# --- the run ---


@dataclass
class Run:
    """What a run leaves behind: an encoder, its head, and a row of `step`, `learning_rate` and `loss` for each step."""

    encoder: nn.Module  # [N, 3, 16, 16] to h [N, 96]
    head: nn.Module  # h to z [N, 64]
    history: list[dict[str, float]] = field(repr=False)
    parts: dict[str, Callable] = field(repr=False)

    @torch.no_grad()
    def loss(self, images: Tensor, seed: int = 0) -> float:
        """The mean loss of whole batches of these pictures, as in training (with batch-norm's means of the batch, and
        views and loss of this run), but without learning."""
        encoder, head = copy.deepcopy((self.encoder, self.head))  # in training mode batch-norm would remember
        encoder.train(), head.train()
        generator, losses = torch.Generator().manual_seed(seed), []
        for batch in images[: len(images) // BATCH * BATCH].split(BATCH):
            z = head(encoder(stacked_views(batch, generator, self.parts["recolour"])))  # [2N, 64]
            losses.append(_loss(z, self.parts))
        return torch.stack(losses).mean().item()


def train(images: Tensor, *, seed: int = 0, steps: int = STEPS, **parts: Callable) -> Run:
    """Train a small SimCLR encoder: batches of 64 pictures, τ = 0.1, a peak learning rate of 0.002.

    Args:
        images: [N, 3, 16, 16] uint8, at least 64.
        seed: of weights, order and views.
        steps: batches.
        parts: functions to put in place of the loop's own: `recolour(images, matrix)`, `partner_rows(n)`,
            `logits(z, temperature)`, `learning_rate(step, steps, warmup_steps, peak)`.
    """
    if parts.keys() - PARTS.keys():
        raise TypeError(f"parts: expected some of {', '.join(PARTS)}, got {', '.join(parts.keys() - PARTS.keys())}")
    parts = PARTS | parts
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
        torch.default_generator.manual_seed(seed)
        encoder, head = models.small(WIDTH), models.ProjectionHead(8 * WIDTH, 128, 64)
    encoder = encoder.to(memory_format=torch.channels_last)  # a faster order in memory
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], weight_decay=1e-4, fused=True)
    generator, run = torch.Generator().manual_seed(seed), Run(encoder, head, [], parts)
    for step in range(steps):
        if step % (len(images) // BATCH) == 0:  # an epoch: each picture once
            order = torch.randperm(len(images), generator=generator)
        start = step % (len(images) // BATCH) * BATCH
        x = stacked_views(images[order[start : start + BATCH]], generator, parts["recolour"])  # [2N, 3, 16, 16]
        rate = float(parts["learning_rate"](step, steps, WARMUP, PEAK))
        optimizer.param_groups[0]["lr"] = rate
        loss = _loss(head(encoder(x.to(memory_format=torch.channels_last))), parts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.history.append({"step": step, "learning_rate": rate, "loss": loss.item()})
    encoder.eval(), head.eval()
    return run


def _loss(z: Tensor, parts: dict[str, Callable]) -> Tensor:
    """NT-Xent of z [2N, D]: the partner's row is the right answer among the candidates."""
    return F.cross_entropy(parts["logits"](z, TEMPERATURE), parts["partner_rows"](len(z) // 2))


def stacked_views(images: Tensor, generator: torch.Generator, recolour: Callable) -> Tensor:
    """Two random crops of each picture, first all first views, then all second ones, recoloured: [2N, 3, 16, 16]."""
    crops = torch.cat(_CROPS(images, generator))  # [2N, 3, 16, 16]
    u = torch.rand(4, len(crops), generator=generator)
    saturation = torch.where(u[0] < 0.5, 0, 0.3 + 1.4 * u[1])  # half of them gray
    return recolour(crops, augmentations.color_matrix(0.5 + u[2], 1.0, saturation, u[3] - 0.5))


_CROPS = augmentations.TwoViews(16, (0.8, 1.0), jitter=0.0, gray=0.0)


def _recolour(images, matrix):
    return torch.einsum("nij,njhw->nihw", matrix, images).clamp(0, 1)


def _partner_rows(n):
    return torch.arange(2 * n).roll(n)


def _logits(z, temperature):
    own = torch.eye(len(z), dtype=torch.bool)
    z = F.normalize(z, dim=1)
    return (z @ z.T / temperature).masked_fill(own, -torch.inf)


def _learning_rate(step, steps, warmup_steps, peak):
    if step < warmup_steps:
        return peak * step / warmup_steps
    return peak * (1 + math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps))) / 2


PARTS = {
    "recolour": _recolour,
    "partner_rows": _partner_rows,
    "logits": _logits,
    "learning_rate": _learning_rate,
}


# --- the patients ---


def _next_rows(n):
    return (torch.arange(2 * n) + 1) % (2 * n)


def _recolour_alike(images, matrix):
    return torch.einsum("ij,njhw->nihw", matrix[0], images)


def _cosines(z, temperature):
    z = F.normalize(z, dim=1)
    own = torch.eye(len(z), dtype=torch.bool)
    return (z @ z.T).masked_fill(own, -9e15)


_FAULTS = {
    "wrong partner": {"partner_rows": _next_rows},
    "colour shortcut": {"recolour": _recolour_alike},
    "no temperature": {"logits": _cosines},
    "rate soon 0": {"learning_rate": rate_by_epochs},
}


def patient(letter: str, images: Tensor, seed: int = 0) -> Run:
    """The run of patient "A", "B", "C" or "D": one part of its loop is broken."""
    if letter not in tuple(LETTERS):
        raise ValueError(f"letter: expected one of {', '.join(LETTERS)}, got {letter!r}")
    return train(images, seed=seed, **_FAULTS[_fault(letter, seed)])


def _fault(letter: str, seed: int) -> str:
    order = torch.randperm(len(LETTERS), generator=torch.Generator().manual_seed(seed)).tolist()
    return list(_FAULTS)[order[LETTERS.index(letter)]]


# --- the diagnoses ---

CAUSES = {
    "healthy": "nothing is wrong with it",
    "wrong partner": "the row that counts as a row's positive shows another picture",
    "colour shortcut": "all views of a batch are recoloured alike, so a picture is found again by its colour",
    "one view twice": "the second view is the very same tensor as the first",
    "few pictures": "every batch holds the same 64 pictures",
    "no temperature": "the similarities are not divided by τ",
    "rate too high": "the peak of the learning rate is a thousand times too high",
    "rate soon 0": "the learning rate is 0 after the first few steps",
}

_AGAINST = {
    "healthy": "a healthy run has the meters of the control, all of them: compare the loss, the mean cosine of z and "
    "the kNN of shape",
    "wrong partner": "where a partner shows another picture, the best that z can do is to be all alike: the loss ends "
    "at the line of blind guessing and the mean cosine of z near 1. Look at both",
    "colour shortcut": "with the shortcut the loss falls far below the control's, while h tells colours apart far "
    "better than the random encoder does, and shapes no better. Look at the two kNN beside the loss",
    "one view twice": "a view is found in its own copy at once: the loss is near 0 after some ten steps. Look at the "
    "first steps",
    "few pictures": "whoever knows 64 pictures by heart is lost on others: the loss on val is far above the loss on "
    "train. Compare the two",
    "no temperature": "without τ, z spreads out (mean cosine near 0) and the loss still can't fall below its floor "
    "for τ = 1. Look at the loss and at the mean cosine of z",
    "rate too high": "the first steps throw the weights far off, and h loses directions: its effective rank is less "
    "than half of the control's. Compare the ranks",
    "rate soon 0": "a run without a learning rate stands still: look at the learning rate, and at whether the loss "
    "moves after the first steps",
}


def _diagnosis(letter: str) -> Choice:
    return Choice(
        task=f"choose what is wrong with patient {letter}",
        options=CAUSES,
        right=partial(_fault, letter),
        why_not=lambda cause, seed: f"the meters speak against “{cause}”: {_AGAINST[cause]}; here it is not so.",
        verified="no meter speaks against it. The repair comes later in this lab.",
    )


PATIENT_A, PATIENT_B, PATIENT_C, PATIENT_D = (_diagnosis(letter) for letter in LETTERS)

# --- the line where a stuck loss stands ---


def _stuck_run(seed: int) -> dict:
    return {"pictures": 16 + 8 * (3 * seed % 7), "queue": 96 + 32 * (5 * seed % 17), "temperature": 0.1}


STUCK_LINE = Question(
    task="give the loss at which this run stands when it guesses blindly",
    given=_stuck_run,
    answer=lambda pictures, queue, temperature: math.log(queue + 1),
    mistakes=[
        (
            lambda pictures, queue, temperature: math.log(queue),
            "this is log K: the query's own key is a candidate too.",
        ),
        (
            lambda pictures, queue, temperature: math.log(2 * pictures - 1),
            "this is the line of SimCLR, whose candidates are the other rows of the batch; here they wait in a queue.",
        ),
        (
            lambda pictures, queue, temperature: math.log(queue + pictures),
            "this is log(K + N): the keys of the other pictures in the batch are enqueued later, they are no "
            "candidates yet.",
        ),
        (
            lambda pictures, queue, temperature: math.log(queue + 2 * pictures - 1),
            "this is log(K + 2N − 1): the candidates are one positive and the queue, the batch is not among them.",
        ),
        (lambda pictures, queue, temperature: math.log(pictures), "this is log N: how many keys is a query compared "
         "with?"),
        (
            lambda pictures, queue, temperature: math.log(queue + 1) / temperature,
            "divided by τ: with all similarities equal the softmax gives equal shares, whatever τ is.",
        ),
        (
            lambda pictures, queue, temperature: math.log10(queue + 1),
            "this is the logarithm to base 10: losses are in natural logarithms.",
        ),
        (
            lambda pictures, queue, temperature: math.log2(queue + 1),
            "this is the logarithm to base 2: losses are in natural logarithms.",
        ),
        (
            lambda pictures, queue, temperature: 1 / (queue + 1),
            "this is the share that each candidate gets: the loss is minus its logarithm.",
        ),
        (lambda pictures, queue, temperature: -math.log(queue + 1), "the sign is turned: a loss is −log of a share."),
        (lambda pictures, queue, temperature: queue + 1, "this is the number of candidates: take its logarithm."),
    ],
    verified="log(K + 1): one positive and K negatives, all alike, whatever the batch and τ are.",
    tolerance=6e-4,  # three decimals will do; log K is further off
)  # fmt: skip

# --- a meter ---


def check_effective_rank(function: Callable, seed: int = 0) -> Report:
    """Check `function(features)`: [N, D], N >= 2, rows not all equal, to the effective rank, a number: exp of the
    entropy of p_i = s_i / sum of s, with s the singular values of the centred features."""
    exercise = Exercise(
        task="write the function that takes features [N, D] and returns their effective rank, a number",
        cases=[
            {"features": torch.tensor([[3.0, 0.0], [-3, 0], [0, 1], [0, -1]])},  # p = 3/4, 1/4
            {"features": torch.tensor([[5.0, 2.0], [3, 2], [4, 3], [4, 1]])},  # 2, far from the origin
            {"features": random(1, 20, 6) * torch.tensor([4.0, 2, 1, 1, 0.5, 0.1]) + 1},
            {"features": random(2, 5, 9)},  # fewer rows than columns
            {"features": random(3, 40, 8, dtype=torch.float64) + 0.3},
        ],
        edge_cases=[{"features": torch.tensor([[1.0, 0.0, 2.0], [3, 0, 2], [5, 0, 2]])}],  # one direction, two of 0
        oracle=_effective_rank_by_covariance,
        mistakes=RANK_MISTAKES,
        not_finite="NaN where a direction is not used at all: p = 0 makes 0 · log 0. Leave zeros out, or use "
        "torch.special.entr(p), which knows that −p log p is 0 there.",
        verified="values agree with another way to compute it (by the covariances) in 8 cases (more and fewer rows "
        "than columns, features far from the origin, directions that are not used, float32 and float64); the inputs "
        "are left as they were.",
        gradients=False,
        number=True,
        fresh=lambda seed: {"features": _stretched(seed, 12 + seed % 9, 3 + seed % 4) + seed % 3},
    )
    return judge(function, exercise, seed)


def _stretched(seed: int, n: int, dim: int) -> Tensor:
    """Features that use some directions more than others."""
    return random(seed, n, dim) * torch.linspace(0.3, 3, dim)


def _effective_rank_by_covariance(features):
    """Singular values are the roots of the eigenvalues of X^T X; entropies term by term."""
    rows, columns = features.tolist(), list(zip(*features.tolist(), strict=True))
    means = [sum(column) / len(rows) for column in columns]
    centred = [[x - mean for x in column] for column, mean in zip(columns, means, strict=True)]
    gram = torch.tensor([[sum(a * b for a, b in zip(one, other, strict=True)) for other in centred] for one in centred],
                        dtype=torch.float64)  # fmt: skip
    values = [math.sqrt(value) for value in torch.linalg.eigvalsh(gram).tolist() if value > 1e-9]
    shares = [value / sum(values) for value in values]
    return torch.tensor(math.exp(-sum(p * math.log(p) for p in shares)), dtype=torch.float64)


def _rank_with(
    features, *, centre=lambda x: x - x.mean(0), shares=lambda s: s / s.sum(), number=lambda p: _entropy(p).exp()
):
    """The effective rank with one part replaced."""
    return number(shares(torch.linalg.svdvals(centre(features.double()))))


def _entropy(p):
    return torch.special.entr(p).sum()


def _rank(s):
    return s > 1e-6 * s.max()


RANK_MISTAKES = [
    (partial(_rank_with, centre=lambda x: x), "not centred: subtract the mean of each column, or a common offset "
     "counts as a direction."),
    (partial(_rank_with, centre=lambda x: x - x.mean(1, keepdim=True)), "centred along the wrong axis: each column "
     "(a feature) loses its mean over the rows, dim=0."),
    (partial(_rank_with, centre=lambda x: x - x.mean()), "one mean for all numbers is subtracted: each column loses "
     "its own."),
    (partial(_rank_with, centre=lambda x: F.normalize(x - x.mean(0), dim=1)), "the rows are normalised: the lengths "
     "of the features count here."),
    (partial(_rank_with, shares=lambda s: s**2 / (s**2).sum()), "the singular values are squared: these are shares of "
     "the variance (eigenvalues); p is s / sum of s."),
    (partial(_rank_with, number=_entropy), "this is the entropy: its exp is a number of directions."),
    (partial(_rank_with, number=lambda p: (-_entropy(p)).exp()), "this is 1 over the rank: a minus sign "
     "is lost. The entropy is −Σ p log p, and its exp is asked for."),
    (partial(_rank_with, number=lambda p: (_entropy(p) / math.log(2)).exp()), "log to base 2 and exp to base e don't "
     "belong together: take torch.log."),
    (partial(_rank_with, number=lambda p: 2 ** _entropy(p)), "2 to the power of an entropy in natural logarithms: "
     "take exp."),
    (partial(_rank_with, number=lambda p: 1 / p.square().sum()), "this is 1 / Σ p², another effective rank (the "
     "participation ratio): here it is exp of the entropy."),
    (partial(_rank_with, shares=lambda s: s / s.max()), "divided by the largest singular value: shares sum to 1, so "
     "divide by the sum."),
    (partial(_rank_with, shares=lambda s: s.softmax(0)), "a softmax makes other shares: p is s / sum of s."),
    (partial(_rank_with, shares=lambda s: s / s.norm()), "divided by the norm of s: shares sum to 1, so divide by "
     "the sum."),
    (partial(_rank_with, shares=lambda s: s, number=lambda s: _rank(s).sum().double()), "this is the plain rank, a "
     "count of the directions that aren't 0: here a direction counts by how much it is used."),
    (lambda x: _rank_with(x) / x.shape[1], "this is a share of D: the number of directions is wanted."),
]  # fmt: skip

# --- the parts to repair ---


def check_recolour(function: Callable, seed: int = 0) -> Report:
    """Check `function(images, matrix)`: pictures [N, 3, H, W] in [0, 1] and a colour matrix for each, [N, 3, 3], to the
    pictures recoloured: each pixel's (R, G, B) times its own picture's matrix, cut to [0, 1]."""
    swap = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])  # red becomes green's value, green blue's, blue red's
    exercise = Exercise(
        task="write the function that takes pictures [N, 3, H, W] and colour matrices [N, 3, 3] and returns the "
        "pictures recoloured",
        cases=[
            {
                "images": torch.tensor([[0.2, 0.4, 0.6], [0.2, 0.4, 0.6]]).view(2, 3, 1, 1),
                "matrix": torch.stack([swap, 2 * torch.eye(3)]),
            },
            _recolour_case(1, 1, 2, 3),
            _recolour_case(2, 4, 3, 3),
            _recolour_case(3, 5, 4, 6),
            _recolour_case(4, 3, 5, 2, dtype=torch.float64),
        ],
        oracle=_recolour_loop,
        mistakes=RECOLOUR_MISTAKES,
        not_finite="right where it is finite, but some values are NaN or infinite: nothing is divided here.",
        verified="values agree with a plain loop in 7 cases (N from 1 to 6, pictures that aren't square, colours "
        "beyond 0 and 1, float32 and float64); the inputs are left as they were.",
        gradients=False,  # views are made without
        fresh=lambda seed: _recolour_case(seed, 3 + seed % 4, 2 + seed % 3, 4),
    )
    return judge(function, exercise, seed)


def _recolour_case(seed: int, n: int, height: int, width: int, dtype: torch.dtype = torch.float32) -> dict:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 3, height, width, generator=generator, dtype=dtype)
    return {"images": images, "matrix": 0.4 + random(seed + 1, n, 3, 3, dtype=dtype)}


def _recolour_loop(images, matrix):
    """Pixel by pixel, channel by channel."""
    result = torch.empty_like(images)
    for i, (image, m) in enumerate(zip(images.tolist(), matrix.tolist(), strict=True)):
        for y in range(images.shape[2]):
            for x in range(images.shape[3]):
                for to in range(3):
                    value = sum(m[to][source] * image[source][y][x] for source in range(3))
                    result[i, to, y, x] = min(max(value, 0.0), 1.0)
    return result


def _recoloured(images, matrix, *, cut=lambda x: x.clamp(0, 1)):
    return cut((matrix[:, :, :, None, None] * images[:, None]).sum(2))  # [N, 3, 3, H, W] to [N, 3, H, W]


RECOLOUR_MISTAKES = [
    (lambda x, m: x, "nothing has changed: these are the pictures as they came."),
    (lambda x, m: _recoloured(x, m[:1]), "one matrix, the first, for the whole batch: every view has its own."),
    (lambda x, m: _recoloured(x, m[:1], cut=lambda x: x), "one matrix, the first, for the whole batch: every view has "
     "its own. And nothing is cut to [0, 1] yet."),
    (lambda x, m: _recoloured(x, m[-1:]), "one matrix, the last, for the whole batch: every view has its own."),
    (lambda x, m: _recoloured(x, m.mean(0, keepdim=True)), "one matrix, the mean, for the whole batch: every view has "
     "its own."),
    (lambda x, m: _recoloured(x, m, cut=lambda x: x), "values leave [0, 1]: cut them off at 0 and at 1."),
    (lambda x, m: _recoloured(x, m, cut=lambda x: x.clamp(min=0)), "values above 1 are left: cut off there as well."),
    (lambda x, m: _recoloured(x, m, cut=lambda x: x.clamp(max=1)), "values below 0 are left: cut off there as well."),
    (lambda x, m: _recoloured(x, m, cut=lambda x: x.sigmoid()), "a sigmoid bends all values: only those beyond 0 and 1 "
     "change, by a cut."),
    (lambda x, m: _recoloured(x, m.transpose(1, 2)), "the matrices are transposed: row i of a matrix makes the new "
     "channel i, from all three old ones."),
    (lambda x, m: _recoloured(x, m.transpose(1, 2), cut=lambda x: x), "the matrices are transposed: row i of a matrix "
     "makes the new channel i. And nothing is cut to [0, 1] yet."),
    (lambda x, m: _recoloured(x, m.sum(0, keepdim=True)), "the matrices of all views are summed: an index of the "
     "batch is lost. Every view has its own."),
    (lambda x, m: (m.sum(2)[:, :, None, None] * x).clamp(0, 1), "each channel is only scaled, by the sum of its row: "
     "a new channel is a mixture of all three old ones."),
    (lambda x, m: (m.diagonal(dim1=1, dim2=2)[:, :, None, None] * x).clamp(0, 1), "each channel is only scaled, by the "
     "diagonal: a new channel is a mixture of all three old ones."),
]  # fmt: skip


def check_logits(function: Callable, seed: int = 0) -> Report:
    """Check `function(z, temperature)`: vectors [M, D] of no particular length to cosine similarities over τ, [M, M],
    with −inf on the diagonal, since no row is its own candidate."""
    exercise = Exercise(
        task="write the function that takes z [M, D] and a temperature and returns the logits [M, M]",
        cases=[
            {"z": torch.tensor([[3.0, 4.0], [5, 0], [0, -2]]), "temperature": 0.5},
            {"z": random(1, 4, 6), "temperature": 1.0},
            {"z": random(2, 8, 3), "temperature": 0.1},
            {"z": random(3, 6, 16), "temperature": 0.01},
            {"z": random(4, 5, 7, dtype=torch.float64), "temperature": 0.2},
        ],
        oracle=_logits_loop,
        mistakes=LOGITS_MISTAKES,
        not_finite="some values are NaN: is a vector divided by a length of 0, or −inf multiplied by 0?",
        verified="values and gradients agree with a plain loop in 7 cases (M from 3 to 10, τ from 0.01 to 1, float32 "
        "and float64); the inputs are left as they were.",
        fresh=lambda seed: {"z": random(seed, 4 + seed % 7, 3 + seed % 5), "temperature": (5 + seed % 31) / 50},
    )
    return judge(function, exercise, seed)


def _logits_loop(z, temperature):
    """Row by row, number by number."""
    rows = []
    for i, a in enumerate(z):
        row = []
        for k, b in enumerate(z):
            cosine = (a * b).sum() / ((a * a).sum() * (b * b).sum()) ** 0.5 if i != k else -torch.inf * z.new_ones(())
            row.append(cosine / temperature)
        rows.append(torch.stack(row))
    return torch.stack(rows)


def _logits_with(z, temperature, *, unit=lambda z: F.normalize(z, dim=1), score=lambda s, t: s / t, own=-torch.inf):
    """The logits with one part replaced; `own` is what stands on the diagonal, None for what comes out there."""
    z = unit(z.double())
    scores = score(z @ z.T, temperature)
    return scores if own is None else scores.masked_fill(torch.eye(len(z), dtype=torch.bool), own)


_LARGE = -1e4, -1e6, -1e8, -1e9, -1e10, -1e12, -9e15, -1e16, -1e20, -1e30
_MASKED = (
    "a large negative number stands on the diagonal: half precision has no room for numbers below −65,504, and how "
    "large is large enough depends on τ. −torch.inf is always right."
)

LOGITS_MISTAKES = [
    *((partial(_logits_with, score=lambda s, t: s, own=own), "the temperature is ignored: these are the bare cosines. "
       "Divide them by τ.") for own in (-torch.inf, None, *_LARGE)),
    *((partial(_logits_with, score=lambda s, t: s * t, own=own), "multiplied by τ, where it is divided: a small τ "
       "makes differences large.") for own in (-torch.inf, None, *_LARGE)),
    (partial(_logits_with, score=lambda s, t: s / t**2), "divided by τ²: is it divided twice?"),
    (partial(_logits_with, unit=lambda z: z), "not normalised: a cosine needs vectors of length 1."),
    (partial(_logits_with, unit=lambda z: z, own=None), "not normalised: a cosine needs vectors of length 1. And each "
     "row is still its own candidate."),
    (partial(_logits_with, unit=lambda z: F.normalize(z, dim=0)), AXIS),
    (partial(_logits_with, own=None), "self-similarity stands on the diagonal: no row is its own candidate, so put "
     "−torch.inf there."),
    (partial(_logits_with, own=0.0), "0 on the diagonal still takes part, as e⁰ = 1 in the sum: put −torch.inf there."),
    (partial(_logits_with, own=torch.inf), "+∞ on the diagonal makes each row its own and only candidate: turn "
     "the sign."),
    (partial(_logits_with, score=lambda s, t: -s / t), "the sign is turned: similar rows get large logits."),
    (partial(_logits_with, score=lambda s, t: (2 - 2 * s) / t), "these are squared distances: similar rows should get "
     "large logits, so take the cosine over τ."),
    (partial(_logits_with, score=lambda s, t: (s / t).exp()), "this is exp already: cross_entropy takes logits, and "
     "takes their exp itself."),
    *((partial(_logits_with, own=own), _MASKED) for own in (*_LARGE, torch.finfo(torch.float32).min)),
    (lambda z, t: _logits_with(z, t).log_softmax(1), "this is log-softmax already: cross_entropy does that itself."),
    (lambda z, t: _logits_with(z, t).softmax(1), "these are the shares after the softmax: logits are wanted, "
     "cross_entropy does the rest."),
]  # fmt: skip
