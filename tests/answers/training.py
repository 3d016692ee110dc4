"""Right and wrong answers to the exercises on the training loop."""

import math

import torch
import torch.nn.functional as F

from answers.edit import edited
from clbook import checks
from clbook.checks.training import COUNT_MISTAKES, PARTNER_MISTAKES, RATE_MISTAKES

# --- the learning rate ---

RATE = """
import math
def learning_rate(step, steps, warmup_steps, peak):
    if step < warmup_steps:
        return peak * step / warmup_steps
    share = (step - warmup_steps) / (steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * share))
"""


def rate_in_tensors(step, steps, warmup_steps, peak):
    done = torch.tensor((step - warmup_steps) / (steps - warmup_steps)).clamp(min=0)
    fall = (1 + torch.cos(torch.pi * done)) / 2
    return peak * min(1.0, step / max(warmup_steps, 1)) * fall if step < warmup_steps else peak * fall


def rate_by_torch(step, steps, warmup_steps, peak):
    """torch's own schedulers, one after the other."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    rise = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: s / max(warmup_steps, 1))
    if step < warmup_steps:
        for _ in range(step):
            optimizer.step()
            rise.step()
        return optimizer.param_groups[0]["lr"]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - warmup_steps)
    for _ in range(step - warmup_steps):
        optimizer.step()
        fall.step()
    return fall.get_last_lr()[0]


def rate_by_sine(step, steps, warmup_steps, peak):
    """cos² of half the angle is half of 1 + cos."""
    if step < warmup_steps:
        return step * peak / warmup_steps
    return peak * math.cos(math.pi / 2 * (step - warmup_steps) / (steps - warmup_steps)) ** 2


RIGHT_RATE = [edited(RATE), rate_in_tensors, rate_by_torch, rate_by_sine]

BY_EPOCHS = """
def learning_rate(step, steps, warmup_steps, peak):
    epochs = max(1, steps // 31)
    share = min(1, step / epochs)
    return peak * (1 + math.cos(math.pi * share)) / 2
"""
WRONG_RATE = [
    (edited("import math\n" + BY_EPOCHS), "counts steps, not epochs"),
    (edited(RATE, "step < warmup_steps", "False"), "not in a way that this check knows"),
    (edited(RATE, "(step - warmup_steps) / (steps - warmup_steps)", "step / steps"), "runs over the whole run"),
    (edited(RATE, "/ (steps - warmup_steps)", "/ steps"), "doesn't reach 0 at the end"),
    (edited(RATE, "/ (steps - warmup_steps)", "/ (steps - warmup_steps - 1)"), "yours is 0 one step earlier"),
    (edited(RATE, "peak * step /", "peak * (step + 1) /"), "one step early"),
    (edited(RATE, "step / warmup_steps", "step / (warmup_steps + 1)"), "one step late"),
    (edited(RATE, "peak * step / warmup_steps", "peak * (step // warmup_steps)"), "`//` drops the fraction"),
    (edited(RATE, "peak * step / warmup_steps", "peak"), "let it rise"),
    (edited(RATE, "0.5 * (1 + math.cos(math.pi * share))", "(1 - share)"), "straight line"),
    (edited(RATE, "0.5 * (1 + math.cos(math.pi * share))", "math.cos(math.pi / 2 * share)"), "a quarter of a cosine"),
    (edited(RATE, "0.5 * (1 + math.cos(math.pi * share))", "1"), "stays at the peak"),
    (edited(RATE, "0.5 * ", ""), "twice the peak"),
    (edited(RATE, "0.5 * (1 + math.cos(math.pi * share))", "math.cos(math.pi * share)"), "falls to −peak"),
    (edited(RATE, "math.pi * share", "2 * math.pi * share"), "rises again"),
    (edited(RATE, "math.pi * share", "share"), "the π is missing"),
    (edited(RATE, "math.pi * share", "math.radians(math.pi * share)"), "radians"),
    (edited(RATE, "1 + math", "1 - math"), "upside down"),
    (edited(RATE, "peak * ", ""), "multiply it by `peak`"),
    (edited(RATE, "step < warmup_steps", "step <= warmup_steps"), "stops with an error in line 5"),  # 0 / 0
    (lambda step, steps, warmup_steps, peak: peak, "not in a way that this check knows"),
    (lambda step, steps, warmup_steps, peak: 0.0, "same value whatever"),
    (
        lambda step, steps, warmup_steps, peak: checks.training._no_warmup(step, steps, warmup_steps, peak),
        "there is no warm-up",
    ),
    (
        lambda step, steps, warmup_steps, peak: (
            peak * min(1, step / max(warmup_steps, 1e-9)) * (1 + math.cos(math.pi * step / steps)) / 2
        ),
        "not in a way that this check knows",  # step 0 without warm-up is 0 here, too
    ),
    (
        lambda step, steps, warmup_steps, peak: (
            (min(1, step / warmup_steps) if warmup_steps else 1) * peak * (1 + math.cos(math.pi * step / steps)) / 2
        ),
        "at the same time",
    ),
    (lambda step, steps, warmup_steps, peak: [peak], "of type list"),
    (lambda step, steps, warmup_steps, peak: peak * torch.tensor([step / steps]), "cases differ"),
]

# --- the stacked views ---

PARTNER = """
def partner_rows(n):
    rows = torch.arange(2 * n)
    return (rows + n) % (2 * n)
"""


def partner_cat(n):
    return torch.cat([torch.arange(n) + n, torch.arange(n)])


def partner_roll(n):
    return torch.arange(2 * n).roll(n)


def partner_list(n):
    return torch.tensor([i + n if i < n else i - n for i in range(2 * n)])


def partner_search(n):
    pictures = torch.arange(n).repeat(2)
    same = (pictures[:, None] == pictures) & ~torch.eye(2 * n, dtype=torch.bool)
    return same.int().argmax(1)


def partner_where(n):
    rows = torch.arange(2 * n)
    return torch.where(rows < n, rows + n, rows - n)


RIGHT_PARTNER = [edited(PARTNER), partner_cat, partner_roll, partner_list, partner_search, partner_where]

WRONG_PARTNER = [
    (edited(PARTNER, "(rows + n) % (2 * n)", "rows"), "a row is not its own partner"),
    (edited(PARTNER, "(rows + n) % (2 * n)", "rows ^ 1"), "interleaved views"),
    (edited(PARTNER, "rows + n", "rows + 1"), "the next row"),
    (edited(PARTNER, " % (2 * n)"), "do not exist"),
    (edited(PARTNER, "(rows + n) % (2 * n)", "rows - n"), "negative row numbers"),
    (edited(PARTNER, "(rows + n) % (2 * n)", "rows % n"), "the number of the picture"),
    (edited(PARTNER, "(rows + n) % (2 * n)", "rows.flip(0)"), "mirrored"),
    (edited(PARTNER, "(rows + n) % (2 * n)", "rows[:n] + n"), "second views are anchors too"),
    (lambda n: torch.arange(n).roll(1), "not in a way that this check knows"),
    (lambda n: torch.arange(n), "this has n rows"),
    (lambda n: torch.cat([torch.arange(n) + n, torch.arange(n) + n]), "sent to themselves"),
    (lambda n: torch.eye(2 * n, dtype=torch.bool).roll(n, 0), "a matrix [2n, 2n]"),
    (lambda n: F.one_hot(partner_roll(n)), "a matrix [2n, 2n]"),
    (lambda n: partner_roll(n).float(), "the values are right, but your result is torch.float32"),
    (lambda n: partner_roll(n).int(), "the values are right, but your result is torch.int32"),
    (lambda n: partner_roll(n).tolist(), "of type list"),
    (lambda n: partner_roll(n)[:, None], "cases differ"),
]

# --- the negatives ---

COUNT = """
def false_negative_count(labels):
    same = labels[:, None] == labels[None, :]
    others = same.sum(1) - 1
    return others.float().mean()
"""


def count_by_class(labels):
    sizes = labels.unique(return_counts=True)[1].double()
    return (sizes * (sizes - 1)).sum() / len(labels)


def count_loops(labels):
    values = labels.tolist()
    return sum(values.count(value) - 1 for value in values) / len(values)


def count_diagonal(labels):
    same = (labels[:, None] == labels).double().fill_diagonal_(0)
    return same.sum().item() / len(labels)


def count_pairs(labels):
    same = (labels[:, None] == labels).float()
    return 2 * same.triu(1).sum() / len(labels)


RIGHT_COUNT = [edited(COUNT), count_by_class, count_loops, count_diagonal, count_pairs]

WRONG_COUNT = [
    (edited(COUNT, " - 1"), "counts itself"),
    (edited(COUNT, ".float().mean()", ".float().sum()"), "sum over the pictures"),
    (edited(COUNT, "others.float().mean()", "same.float().sum()"), "sum over all pairs"),
    (edited(COUNT, "others.float().mean()", "same.triu(1).sum() / len(labels)"), "half the count"),
    (edited(COUNT, "others.float().mean()", "same.triu(1).sum().float()"), "number of pairs"),
    (edited(COUNT, "==", "!="), "not in a way that this check knows"),  # minus 1 as well
    (lambda labels: (labels[:, None] != labels).float().sum(1).mean(), "*another* label"),
    (edited(COUNT, "others.float().mean()", "same.float().mean()"), "share of equal entries"),
    (edited(COUNT, "mean()", "mean() / (len(labels) - 1)"), "share of the N − 1 others"),
    (edited(COUNT, "others.float()", "2 * others.float()"), "twice the count"),
    (lambda labels: len(labels) / len(set(labels.tolist())) - 1, "N / classes − 1 holds only"),
    (lambda labels: (len(labels) - 1) / len(set(labels.tolist())), "(N − 1) / classes is what to expect"),
    (lambda labels: (len(labels) - 1) / 5, "(N − 1) / 5"),
    (edited(COUNT, ".mean()"), "counts of each picture, [N]"),
    (edited(COUNT, "others.float().mean()", "same.float().sum(1)"), "itself among them: one number"),
    (edited(COUNT, ".float()"), "stops with an error in line 5"),
    (lambda labels: 12.6, "same value whatever"),
    (lambda labels: f"{count_loops(labels)}", "of type str"),
]

CATALOGUE = {
    checks.check_learning_rate: (WRONG_RATE, RIGHT_RATE, RATE_MISTAKES),
    checks.check_partner_rows: (WRONG_PARTNER, RIGHT_PARTNER, PARTNER_MISTAKES),
    checks.check_false_negative_count: (WRONG_COUNT, RIGHT_COUNT, COUNT_MISTAKES),
}
