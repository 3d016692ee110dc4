"""Right and wrong answers to the exercises on large runs."""

import torch
import torch.nn.functional as F

from answers.edit import edited
from clbook import checks
from clbook.checks.scaling import CHUNK_MISTAKES, GATHER_MISTAKES, STEPS_MISTAKES

# --- log-sum-exp in chunks ---

CHUNKED = """
import torch
def chunked_log_sum_exp(q, k, temperature, chunk_size):
    total = torch.full((len(q),), -torch.inf, dtype=q.dtype)
    for part in k.split(chunk_size):
        logits = q @ part.T / temperature
        total = torch.logaddexp(total, logits.logsumexp(1))
    return total
"""


def chunked_stacked(q, k, temperature, chunk_size):
    parts = [torch.logsumexp(q @ k[i : i + chunk_size].T / temperature, 1) for i in range(0, len(k), chunk_size)]
    return torch.stack(parts).logsumexp(0)


def chunked_online(q, k, temperature, chunk_size):
    """A running maximum and a running sum, as in "online softmax"."""
    largest, total = torch.full((len(q),), -1e30, dtype=q.dtype), torch.zeros(len(q), dtype=q.dtype)
    for part in k.split(chunk_size):
        logits = q @ part.T / temperature
        new = torch.maximum(largest, logits.amax(1))
        total = total * (largest - new).exp() + (logits - new[:, None]).exp().sum(1)
        largest = new
    return largest + total.log()


def chunked_by_rows(q, k, temperature, chunk_size):
    """Chunks of queries instead: the same values, all keys at once."""
    return torch.cat([(rows @ k.T / temperature).logsumexp(1) for rows in q.split(chunk_size)])


def chunked_by_names(q, k, *, temperature, chunk_size):
    return chunked_stacked(q, k, temperature, chunk_size)


RIGHT_CHUNKED = [edited(CHUNKED), chunked_stacked, chunked_online, chunked_by_names]

SUMS = """
import torch
def chunked_log_sum_exp(q, k, temperature, chunk_size):
    total = torch.zeros(len(q), dtype=q.dtype)
    for part in k.split(chunk_size):
        total = total + (q @ part.T / temperature).exp().sum(1)
    return total.log()
"""
RANGES = """
import torch
def chunked_log_sum_exp(q, k, temperature, chunk_size):
    parts = []
    for i in range(len(k) // chunk_size):
        parts.append((q @ k[i * chunk_size : (i + 1) * chunk_size].T / temperature).logsumexp(1))
    return torch.stack(parts).logsumexp(0)
"""
WRONG_CHUNKED = [
    (edited(SUMS), "exp overflows"),
    (
        lambda q, k, temperature, chunk_size: checks.scaling._full_chunks(q, k, temperature, chunk_size),
        "fill no whole chunk",
    ),
    (edited(RANGES), "fill no whole chunk"),  # and an error where there is none
    (edited(CHUNKED, "-torch.inf", "0.0"), "Start with −torch.inf"),
    (edited(CHUNKED, "torch.logaddexp(total, logits.logsumexp(1))", "logits.logsumexp(1)"), "only the last chunk"),
    (edited(CHUNKED, "    return total", "        return total"), "only the first chunk"),
    (edited(CHUNKED, "torch.logaddexp", "torch.maximum"), "the largest of the chunks'"),
    (edited(CHUNKED, " / temperature"), "temperature is missing"),
    (edited(CHUNKED, " / temperature", " * temperature"), "multiplied by the temperature"),
    (edited(CHUNKED, "logsumexp(1)", "amax(1)"), "not in a way that this check knows"),
    (edited(CHUNKED, "return total", "return total.mean()"), "one number for each"),
    (edited(CHUNKED, "total = torch.full((len(q),), -torch.inf, dtype=q.dtype)",
            "q, k, total = q / q.norm(dim=1, keepdim=True), k / k.norm(dim=1, keepdim=True), "
            "torch.full((len(q),), -torch.inf, dtype=q.dtype)"), "were normalised"),
    (edited(CHUNKED, "return total", "return total - torch.tensor(len(k)).log()"), "log of a mean"),
    (edited(CHUNKED, "return total", "return total.detach()"), "no gradient flows back to `q`"),
    (edited(CHUNKED, "k.split", "k.detach().split"), "no gradient flows back to `k`"),
    (lambda q, k, temperature, chunk_size: chunked_stacked(q, k, 1.0, chunk_size) / temperature, "divides the result"),
    (lambda q, k, temperature, chunk_size: (q @ k.T / temperature).logsumexp(0), "over the queries"),
    (lambda q, k, temperature, chunk_size: (q @ k.T / temperature).amax(1), "largest logit"),
    (lambda q, k, temperature, chunk_size: sum(
        (q @ part.T / temperature).logsumexp(1) for part in k.split(chunk_size)), "logarithm of a product"),
    (lambda q, k, temperature, chunk_size: (q @ k.T / temperature).logsumexp(1), "more than `chunk_size` keys"),
    (chunked_by_rows, "more than `chunk_size` keys"),
    (lambda q, k, temperature, chunk_size: F.softmax(q @ k.T / temperature, 1), "cases differ"),
]  # fmt: skip

# --- the number of steps ---

STEPS = """
def run_steps(pictures, batch_size, processes, epochs):
    together = batch_size * processes
    return epochs * (pictures // together)
"""


def steps_counted(pictures, batch_size, processes, epochs):
    starts = range(0, pictures - batch_size * processes + 1, batch_size * processes)
    return sum(len(starts) for _ in range(epochs))


def steps_by_remainder(pictures, batch_size, processes, epochs):
    whole = pictures - pictures % (batch_size * processes)
    return epochs * whole / (batch_size * processes)


def steps_in_tensors(pictures, batch_size, processes, epochs):
    return epochs * torch.div(torch.tensor(pictures), batch_size * processes, rounding_mode="floor")


RIGHT_STEPS = [edited(STEPS), steps_counted, steps_by_remainder, steps_in_tensors]
WRONG_STEPS = [
    (edited(STEPS, "(pictures // together)", "-(-pictures // together)"), "rounded up"),
    (edited(STEPS, "(pictures // together)", "pictures // together"), "rounded once, at the end"),
    (edited(STEPS, "(pictures // together)", "(pictures / together)"), "not rounded"),
    (edited(STEPS, " * processes"), "the processes are missing"),
    (edited(STEPS, "together = batch_size * processes", "together = batch_size / processes"),
     "not in a way that this check knows"),
    (lambda pictures, batch_size, processes, epochs: epochs * (pictures // batch_size) * processes, "fewer steps"),
    (edited(STEPS, "epochs * "), "this is one epoch"),
    (edited(STEPS, "pictures //", "2 * pictures //"), "the two views were counted"),
    (edited(STEPS, "= batch_size", "= 2 * batch_size"), "half as many"),
    (edited(STEPS, "// together", "// together + 1"), "one batch too many"),
    (lambda pictures, batch_size, processes, epochs: epochs * pictures, "cases differ"),
    (lambda pictures, batch_size, processes, epochs: "781", "of type str"),
]  # fmt: skip

# --- the way back through a gather ---

GATHER = """
def gather_backward(grads, rank):
    n = grads.shape[1] // len(grads)
    return grads.sum(0)[rank * n : (rank + 1) * n]
"""


def gather_chunks(grads, rank):
    return grads.sum(0).chunk(len(grads))[rank]


def gather_view(grads, rank):
    processes, rows, dim = grads.shape
    return grads.reshape(processes, processes, rows // processes, dim)[:, rank].sum(0)


def gather_loop(grads, rank):
    n = grads.shape[1] // grads.shape[0]
    return sum(grad[rank * n : rank * n + n] for grad in grads)


RIGHT_GATHER = [edited(GATHER), gather_chunks, gather_view, gather_loop]
WRONG_GATHER = [
    (edited(GATHER, "grads.sum(0)", "grads[rank]"), "the process's *own* loss"),
    (edited(GATHER, "sum(0)", "mean(0)"), "the mean over the processes"),
    (edited(GATHER, "[rank * n : (rank + 1) * n]"), "these are all rows, [W·n, D]"),
    (edited(GATHER, "sum(0)[rank * n : (rank + 1) * n]", "mean(0)"), "all rows, and a mean"),
    (edited(GATHER, "[rank * n : (rank + 1) * n]", "[rank :: len(grads)]"), "every W-th row"),
    (edited(GATHER, "[rank * n : (rank + 1) * n]", "[:n]"), "rank 0's rows"),
    (edited(GATHER, "[rank * n : (rank + 1) * n]", "[rank : rank + n]"), "n rows from row `rank` on"),
    (edited(GATHER, "grads.sum(0)[rank * n : (rank + 1) * n]", "grads[:, rank * n : (rank + 1) * n]"), "[W, n, D]"),
    (edited(GATHER, "sum(0)[rank * n : (rank + 1) * n]", "chunk(len(grads), 1)[0].sum(0)"), "rank 0's rows"),
    (lambda grads, rank: grads[rank], "what one loss says of all rows"),
    (lambda grads, rank: grads[rank].reshape(len(grads), -1, grads.shape[2]).sum(0), "over the blocks of rows"),
    (lambda grads, rank: gather_loop(grads, rank) - grads[rank].chunk(len(grads))[rank], "left out"),
    (lambda grads, rank: gather_loop(grads, rank).tolist(), "of type list"),
]  # fmt: skip

CATALOGUE = {
    checks.check_chunked_log_sum_exp: (WRONG_CHUNKED, RIGHT_CHUNKED, CHUNK_MISTAKES),
    checks.check_run_steps: (WRONG_STEPS, RIGHT_STEPS, STEPS_MISTAKES),
    checks.check_gather_backward: (WRONG_GATHER, RIGHT_GATHER, GATHER_MISTAKES),
}
