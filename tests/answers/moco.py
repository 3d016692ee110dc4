"""Right and wrong answers to the exercises on MoCo."""

import math

import torch
import torch.nn.functional as F

from answers.edit import edited
from clbook import checks, losses
from clbook.checks.moco import ENQUEUE_MISTAKES, MOMENTUM_MISTAKES, QUEUE_LOSS_MISTAKES, RUN_MISTAKES

# --- enqueue ---

ENQUEUE = """
def enqueue(queue, keys, pointer):
    new = queue.clone()
    rows = (pointer + torch.arange(len(keys))) % len(queue)
    new[rows] = keys
    return new
"""


def enqueue_two_parts(queue, keys, pointer):
    new, room = queue.clone(), min(len(keys), len(queue) - pointer)
    new[pointer : pointer + room] = keys[:room]
    new[: len(keys) - room] = keys[room:]
    return new


def enqueue_rolled(queue, keys, start):
    """The pointer has a name of its own."""
    return torch.cat([keys, queue.roll(-start, 0)[len(keys) :]]).roll(start, 0)


def enqueue_where(queue, keys, pointer):
    place = (torch.arange(len(queue)) - pointer) % len(queue)  # how far behind the pointer
    return torch.where((place < len(keys))[:, None], keys[place.clamp_max(len(keys) - 1)], queue)


def enqueue_scattered(queue, keys, pointer):
    rows = torch.tensor([(pointer + i) % len(queue) for i in range(len(keys))])
    return queue.index_copy(0, rows, keys)


RIGHT_ENQUEUE = [edited(ENQUEUE), enqueue_two_parts, enqueue_rolled, enqueue_where, enqueue_scattered]

SLICES = """
def enqueue(queue, keys, pointer):
    new = queue.clone()
    end = min(pointer + len(keys), len(queue))
    new[pointer:end] = keys[: end - pointer]
    return new
"""

WRONG_ENQUEUE = [
    (edited(SLICES), "cut off at the end of the ring"),
    (
        edited(SLICES, "pointer:end] = keys[: end - pointer]", "-len(keys):] = keys"),
        "not in a way that this check knows",
    ),
    (lambda queue, keys, pointer: torch.vstack([queue, keys]), "the queue grows with each batch"),
    (lambda queue, keys, pointer: torch.vstack([queue, keys])[len(keys) :], "a list that grows at the end"),
    (lambda queue, keys, pointer: torch.vstack([keys, queue])[: len(queue)], "a list that grows at the front"),
    (lambda queue, keys, pointer: torch.vstack([queue, keys])[: len(queue)], "the oldest keys are kept and the new"),
    (edited(ENQUEUE, "pointer + ", ""), "the pointer is ignored"),
    (edited(ENQUEUE, "% len(queue)", ""), "stops with an error in line 5"),
    (edited(ENQUEUE, "pointer + torch", "pointer + 1 + torch"), "one slot too far"),
    (edited(ENQUEUE, "pointer + torch", "pointer - len(keys) + torch"), "written before the pointer"),
    (edited(ENQUEUE, "pointer + torch", "pointer - torch"), "not in a way that this check knows"),
    (edited(ENQUEUE, "= keys", "= keys.flip(0)"), "the keys stand in reverse order"),
    (edited(ENQUEUE, "queue.clone()", "queue"), "changed its input `queue`"),
    (lambda queue, keys, pointer: queue.clone(), "this is the old ring: nothing is written"),
    (
        lambda queue, keys, pointer: (
            torch.cat([keys, queue[len(keys) :]])
            if pointer + len(keys) > len(queue)
            else torch.cat([queue[:pointer], keys, queue[pointer + len(keys) :]])
        ),
        "starts again at slot 0",
    ),
    (lambda queue, keys, pointer: enqueue_two_parts(queue, keys, pointer).tolist(), "of type list, not a tensor"),
    (lambda queue, keys, pointer: enqueue_two_parts(queue, keys, pointer).float(), "result is torch.float32"),
    (
        lambda queue, keys, pointer: enqueue_two_parts(queue, F.normalize(keys), pointer),
        "not in a way that this check knows",
    ),
]

# --- momentum update ---

UPDATE = """
def update(key_weight, query_weight, momentum):
    return momentum * key_weight + (1 - momentum) * query_weight
"""


RIGHT_UPDATE = [
    edited(UPDATE),
    lambda key_weight, query_weight, momentum: torch.lerp(query_weight, key_weight, momentum),
    lambda k, q, m: k + (1 - m) * (q - k),
    lambda k, q, m: q - m * (q - k),
    lambda key_weight, query_weight, momentum: key_weight.clone().mul_(momentum).add_(query_weight, alpha=1 - momentum),
]

WRONG_UPDATE = [
    (
        edited(
            UPDATE, "momentum * key_weight + (1 - momentum) * query", "momentum * query_weight + (1 - momentum) * key"
        ),
        "m and 1 − m are exchanged",
    ),
    (lambda k, q, m: torch.lerp(k, q, m), "m and 1 − m are exchanged"),
    (lambda k, q, m: q.clone(), "a hard copy"),
    (lambda k, q, m: k.clone(), "has not moved"),
    (lambda k, q, m: 0.5 * k + 0.5 * q, "the plain mean"),
    (edited(UPDATE, "(1 - momentum) * ", ""), "the new part lacks its factor"),
    (edited(UPDATE, " + (1 - momentum) * query_weight", ""), "the query's part is missing"),
    (edited(UPDATE, "momentum * key", "key"), "the old part lacks its factor"),
    (lambda k, q, m: m * m * k + (1 - m * m) * q, "after two updates"),
    (lambda k, q, m: k + (1 - m) * (k - q), "moves away"),
    (lambda k, q, m: k.mul_(m).add_(q, alpha=1 - m), "changed its input `key_weight`"),
    (lambda k, q, m: 0.999 * k + 0.001 * q, "not in a way that this check knows"),
    (lambda k, q, m: (m * k + (1 - m) * q).sum(), "not in a way that this check knows"),
]

# --- the momentum for a run ---

RIGHT_RUN = [
    lambda steps, share: share ** (1 / steps),
    lambda steps, share: math.exp(math.log(share) / steps),
    lambda t, s: torch.tensor(s).pow(1 / t),
    lambda steps, share: 10 ** (math.log10(share) / steps),
]

WRONG_RUN = [
    (lambda steps, share: share**steps, "the power is turned round"),
    (lambda steps, share: 1 - 1 / steps, "a memory of so many steps"),
    (lambda steps, share: 1 - share / steps, "each step leaves m of the rest"),
    (lambda steps, share: 1 - (1 - share) / steps, "of what the one before had left"),
    (lambda steps, share: (1 - share) ** (1 / steps), "this leaves 1 − share"),
    (lambda steps, share: 1 - share ** (1 / steps), "this is 1 − m"),
    (lambda steps, share: math.log(share) / steps, "the logarithm of m"),
    (lambda steps, share: share / steps, "the share is divided by the steps"),
    (lambda steps, share: steps ** (1 / share), "not in a way that this check knows"),
    (lambda steps, share: 0.99, "same value whatever"),
    (lambda steps, share: math.log(share, 0), "stops with an error"),
]

# --- InfoNCE with a queue ---

LOSS = """
def info_nce(query, key, queue, temperature):
    query, key, queue = (F.normalize(x, dim=1) for x in (query, key, queue))
    positive = (query * key).sum(1, keepdim=True)
    logits = torch.cat([positive, query @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long))
"""

RAW_EXP = """
def info_nce(query, key, queue, temperature):
    query, key, queue = (x / x.norm(dim=1, keepdim=True) for x in (query, key, queue))
    positive = torch.exp((query * key).sum(1) / temperature)
    negatives = torch.exp(query @ queue.T / temperature).sum(1)
    ratio = positive / (positive + negatives)
    return -torch.log(ratio).mean()
"""


def info_nce_loops(query, key, queue, temperature):
    total = 0
    for q, k in zip(query, key, strict=True):
        scores = torch.stack([F.cosine_similarity(q, c, dim=0) / temperature for c in [k, *queue]])
        total = total - scores.log_softmax(0)[0]
    return total / len(query)


def info_nce_detached(query, key, queue, tau):
    """As in MoCo: keys and queue without gradient, and a name of its own for the temperature."""
    return losses.info_nce(query, key.detach(), queue, temperature=tau)


RIGHT_LOSS = [edited(LOSS), info_nce_loops, info_nce_detached, losses.info_nce]

WRONG_LOSS = [
    (edited(RAW_EXP, "(positive + negatives)", "negatives"), "the positive is missing from the denominator"),
    (edited(RAW_EXP), "NaN or infinite at τ = 0.01"),
    (edited(LOSS, "[positive, query @ queue.T]", "[positive, query @ key.T]"), "not in a way that this check knows"),
    (
        lambda q, k, queue, t: F.cross_entropy(
            torch.cat([F.normalize(q) @ F.normalize(k).T, F.normalize(q) @ F.normalize(queue).T], 1) / t,
            torch.arange(len(q)),
        ),
        "the other keys of the batch are among the negatives",
    ),
    (
        lambda q, k, queue, t: F.cross_entropy(F.normalize(q) @ F.normalize(k).T / t, torch.arange(len(q))),
        "the queue is not used",
    ),
    (lambda q, k, queue, t: -info_nce_loops(q, k, queue, t), "the sign is wrong"),
    (edited(LOSS, "/ temperature", "/ -temperature"), "the similarities have the wrong sign"),
    (edited(LOSS, " / temperature"), "without the temperature"),
    (edited(LOSS, "/ temperature", "* temperature"), "multiplied by the temperature"),
    (edited(LOSS, "F.normalize(x, dim=1)", "x"), "the vectors are not normalised"),
    (edited(LOSS, "dim=1) for", "dim=0) for"), "wrong axis"),
    (
        lambda q, k, queue, t: (F.cosine_similarity(q, k) - (F.normalize(q) @ F.normalize(queue).T).mean(1)).mean() / t,
        "it pushes the positive away",
    ),
    (edited(LOSS, "dtype=torch.long)", "dtype=torch.long), reduction='sum'"), "this is the sum over the N queries"),
    (edited(LOSS, "dtype=torch.long)", "dtype=torch.long), reduction='none'"), "these are the N terms"),
    (edited(RAW_EXP, "-torch.log(ratio).mean()", "-torch.log(ratio.mean())"), "this is −log(mean)"),
    (edited(LOSS, "torch.zeros(len(query)", "torch.ones(len(query)"), "not in a way that this check knows"),
    (lambda q, k, queue, t: info_nce_loops(q.detach(), k, queue, t), "no gradient flows back to `query`"),
    (lambda q, k, queue, t: info_nce_loops(q, k, queue, t).item(), "of type float, not a tensor"),
]

CATALOGUE = {
    checks.check_enqueue: (WRONG_ENQUEUE, RIGHT_ENQUEUE, ENQUEUE_MISTAKES),
    checks.check_momentum_update: (WRONG_UPDATE, RIGHT_UPDATE, MOMENTUM_MISTAKES),
    checks.check_momentum_for_run: (WRONG_RUN, RIGHT_RUN, RUN_MISTAKES),
    checks.check_info_nce_with_queue: (WRONG_LOSS, RIGHT_LOSS, QUEUE_LOSS_MISTAKES),
}
