"""Right and wrong answers to the exercises on InfoNCE with a queue."""

import torch
import torch.nn.functional as F

from answers.edit import edited
from clbook import checks, losses
from clbook.checks.queue_losses import HARDEST_MISTAKES, QUEUE_LOSS_MISTAKES, SYMMETRIC_MISTAKES

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

# --- with the hardest negatives alone ---

HARDEST = """
def hard_negative_loss(query, key, memory, temperature, hardest):
    query, key, memory = (F.normalize(x, dim=1) for x in (query, key, memory))
    negatives = (query @ memory.T).topk(hardest, dim=1).values
    positive = (query * key).sum(1, keepdim=True)
    logits = torch.cat([positive, negatives], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long))
"""

# As the lab prints it: its bugs are what the task asks for.
LISTING = """
def hard_negative_loss(query, key, memory, temperature, hardest):
    memory = F.normalize(memory, dim=1)
    negatives = (query @ memory.T).topk(hardest, dim=1, largest=False).values
    positive = F.cosine_similarity(query, key)
    numerator = torch.exp(positive / temperature)
    denominator = torch.exp(negatives / temperature).sum(1)
    return torch.log(numerator / denominator)
"""

REPAIRED = """
def hard_negative_loss(query, key, memory, temperature, hardest):
    query, memory = F.normalize(query, dim=1), F.normalize(memory, dim=1)
    negatives = (query @ memory.T).topk(hardest, dim=1).values
    positive = F.cosine_similarity(query, key)
    numerator = torch.exp(positive / temperature)
    denominator = numerator + torch.exp(negatives / temperature).sum(1)
    return -torch.log(numerator / denominator).mean()
"""


def hardest_loops(query, key, memory, temperature, hardest):
    total = 0
    for q, k in zip(query, key, strict=True):
        cosines = F.cosine_similarity(q[None], memory, dim=1).sort(descending=True).values[:hardest]
        scores = torch.cat([F.cosine_similarity(q, k, dim=0)[None], cosines]) / temperature
        total = total - scores.log_softmax(0)[0]
    return total / len(query)


def hardest_masked(query, key, memory, temperature, hardest):
    """All K keys, those below the smallest that counts at −∞."""
    cosines = F.cosine_similarity(query[:, None], memory, dim=2)
    threshold = cosines.kthvalue(cosines.shape[1] - hardest + 1, dim=1, keepdim=True).values
    scores = cosines.masked_fill(cosines < threshold, -torch.inf) / temperature
    positive = F.cosine_similarity(query, key) / temperature
    return (torch.cat([positive[:, None], scores], 1).logsumexp(1) - positive).mean()


def hardest_by_rows(query, key, memory, tau, count, unit=F.normalize):
    """Each query with a short queue of its own."""
    rows = (query @ unit(memory).T).topk(count).indices
    triples = zip(query, key, rows, strict=True)
    return torch.stack([losses.info_nce(q[None], k[None], memory[r], temperature=tau) for q, k, r in triples]).mean()


RIGHT_HARDEST = [edited(HARDEST), hardest_loops, hardest_masked, hardest_by_rows]

WRONG_HARDEST = [
    (edited(LISTING), "the listing as it is printed"),
    (edited(REPAIRED), "NaN or infinite at τ = 0.01"),
    (edited(REPAIRED, "dim=1).values", "dim=1, largest=False).values"), "the farthest keys"),
    (edited(REPAIRED, "numerator + torch", "torch"), "the positive is missing from the denominator"),
    (edited(REPAIRED, "-torch.log(", "torch.log("), "the sign is wrong"),
    (edited(REPAIRED, ".mean()"), "these are the N terms"),
    (edited(REPAIRED, "F.normalize(query, dim=1), F", "query, F"), "the query is not normalised where"),
    (edited(HARDEST, ".topk(hardest, dim=1).values"), "the whole memory is compared with"),
    (edited(HARDEST, ".topk(hardest, dim=1).values", "[:, :hardest]"), "the first slots of the memory"),
    (edited(HARDEST, ".topk(hardest, dim=1).values", ".max(1, keepdim=True).values"), "only the single nearest key"),
    (
        lambda q, k, memory, t, h: losses.info_nce(
            q, k, memory[(F.normalize(q) @ F.normalize(memory).T).amax(0).topk(h).indices], temperature=t
        ),
        "one short list for the whole batch",
    ),
    (
        lambda q, k, memory, t, h: hardest_by_rows(q, k, memory, t, h, unit=lambda x: x),
        "chosen by dot products",
    ),
    (edited(HARDEST, "dtype=torch.long)", "dtype=torch.long), reduction='sum'"), "this is the sum over the N queries"),
    (
        edited(REPAIRED, "-torch.log(numerator / denominator).mean()", "-(numerator / denominator).mean().log()"),
        "−log(mean)",
    ),
    (
        lambda q, k, memory, t, h: (
            ((F.normalize(q) @ F.normalize(memory).T).topk(h).values.mean(1) - F.cosine_similarity(q, k)).mean() / t
        ),
        "a difference of similarities",
    ),
    (edited(HARDEST, " / temperature"), "without the temperature"),
    (edited(HARDEST, "/ temperature", "* temperature"), "multiplied by the temperature"),
    (edited(HARDEST, "F.normalize(x, dim=1)", "x"), "the vectors are not normalised"),
    (edited(HARDEST, "dim=1) for", "dim=0) for"), "wrong axis"),
    (edited(HARDEST, "topk(hardest, dim=1)", "topk(hardest, dim=0)"), "not in a way that this check knows"),
    (lambda q, k, memory, t, h: hardest_loops(q.detach(), k, memory, t, h), "no gradient flows back to `query`"),
]


# --- both directions ---

SYMMETRIC = """
def info_nce(query, key, queue, temperature):
    query, key, queue = (F.normalize(x, dim=1) for x in (query, key, queue))
    positive = (query * key).sum(1, keepdim=True)
    logits = torch.cat([positive, query @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long))

def symmetric_loss(query1, key1, query2, key2, queue, temperature):
    forth = info_nce(query1, key2, queue, temperature)
    back = info_nce(query2, key1, queue, temperature)
    return (forth + back) / 2
"""


def symmetric_stacked(query1, key1, query2, key2, queue, temperature):
    """2N queries at once: the mean of all is the mean of both halves."""
    queries, keys = torch.cat([query1, query2]), torch.cat([key2, key1])
    return losses.info_nce(queries, keys, queue, temperature=temperature)


def symmetric_loops(query1, key1, query2, key2, queue, temperature):
    pairs = [*zip(query1, key2, strict=True), *zip(query2, key1, strict=True)]
    return sum(info_nce_loops(q[None], k[None], queue, temperature) for q, k in pairs) / len(pairs)


def symmetric_detached(q1, k1, q2, k2, queue, tau):
    both = ((q1, k2.detach()), (q2, k1.detach()))
    return torch.stack([losses.info_nce(q, k, queue.clone(), temperature=tau) for q, k in both]).mean()


RIGHT_SYMMETRIC = [edited(SYMMETRIC), symmetric_stacked, symmetric_loops, symmetric_detached]

WRONG_SYMMETRIC = [
    (
        edited(
            SYMMETRIC.replace("query1, key2, queue", "query1, key1, queue"),
            "query2, key1, queue,",
            "query2, key2, queue,",
        ),
        "query and key are of the same view",
    ),
    (
        edited(SYMMETRIC, "query2, key1, queue,", "query2, key1, torch.cat([queue, key2]),"),
        "both directions meet the queue",
    ),
    (
        edited(SYMMETRIC, "query2, key1, queue,", "query2, key1, torch.cat([queue, key2])[len(key2):],"),
        "the oldest keys were replaced",
    ),
    (
        edited(SYMMETRIC, "    forth =", "    queue = torch.cat([key1, key2, queue])\n    forth ="),
        "the keys of this batch are in the queue in both directions",
    ),
    (
        edited(
            SYMMETRIC.replace("query1, key2, queue,", "query1, key2, torch.cat([queue, key1]),"),
            "query2, key1, queue,",
            "query2, key1, torch.cat([queue, key2]),",
        ),
        "keys of the query's own view among its negatives",
    ),
    (edited(SYMMETRIC, ") / 2", ")"), "the sum of both directions"),
    (edited(SYMMETRIC, "(forth + back) / 2", "forth"), "view 2 is a query, too"),
    (edited(SYMMETRIC, "(forth + back) / 2", "back"), "view 1 is a query, too"),
    (
        edited(SYMMETRIC, "[positive, query @ queue.T]", "[positive, query @ key.T, query @ queue.T]"),
        "not in a way that this check knows",
    ),
    (edited(SYMMETRIC, "(forth + back)", "-(forth + back)"), "the sign is wrong"),
    (edited(SYMMETRIC, " / temperature"), "without the temperature"),
    (edited(SYMMETRIC, "/ temperature", "* temperature"), "multiplied by the temperature"),
    (edited(SYMMETRIC, "F.normalize(x, dim=1)", "x"), "the vectors are not normalised"),
    (
        lambda q1, k1, q2, k2, queue, t: (edited(RAW_EXP)(q1, k2, queue, t) + edited(RAW_EXP)(q2, k1, queue, t)) / 2,
        "NaN or infinite at τ = 0.01",
    ),
    (
        lambda q1, k1, q2, k2, queue, t: (
            sum(edited(RAW_EXP, "(positive + negatives)", "negatives")(q, k, queue, t) for q, k in ((q1, k2), (q2, k1)))
            / 2
        ),
        "the positive is missing from the denominator",
    ),
    (
        lambda q1, k1, q2, k2, queue, t: symmetric_stacked(q1, k1, q2.detach(), k2, queue, t),
        "no gradient flows back to `query2`",
    ),
]

CATALOGUE = {
    checks.check_info_nce_with_queue: (WRONG_LOSS, RIGHT_LOSS, QUEUE_LOSS_MISTAKES),
    checks.check_hard_negative_loss: (WRONG_HARDEST, RIGHT_HARDEST, HARDEST_MISTAKES),
    checks.check_symmetric_loss: (WRONG_SYMMETRIC, RIGHT_SYMMETRIC, SYMMETRIC_MISTAKES),
}
