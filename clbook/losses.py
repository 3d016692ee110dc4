"""Contrastive losses. Pure functions: no state, no parameters, computed in float32 or better."""

import math
import numbers
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from clbook.similarity import euclidean_distance_matrix

# --- one positive among many candidates ---


def info_nce(
    query: Tensor, key: Tensor, queue: Tensor | None = None, *, temperature: float, chunk_size: int | None = None
) -> Tensor:
    """InfoNCE: find the key of each query among the candidates (van den Oord et al. 2018; He et al. 2020, equation 1).

        loss = mean over i of  -log( exp(q_i . k_i / t) / sum over candidates c of exp(q_i . c / t) )

    The candidates, of which the positive k_i is one, are all N keys of the batch; or, with a queue, k_i and the K rows
    of the queue, as in MoCo. Reading it: guessing blindly costs log N, with a queue log(K + 1).

    How it differs from its relatives: only queries are anchors here, and only keys are candidates. CLIP's loss is the
    mean of this and of info_nce(key, query). In `nt_xent` both views are anchors, and both are candidates: 2N - 1.

    Args:
        query, key: [N, D], row i of both from the same picture. Both get a gradient: detach the keys, as MoCo does, if
            they come from a momentum encoder. They are normalized here, as is the queue.
        queue: [K, D], negatives. They never get a gradient.
        temperature: t > 0; small values look at the hardest negatives only.
        chunk_size: rows of the N x N (or N x K) matrix in memory at a time, as in `nt_xent`.

    Returns:
        A scalar >= 0 (up to rounding), float32 (float64 if any input is). Half-precision input is exact with respect
        to its rounded values.

    Raises:
        ValueError: query and key of two shapes, or not [N, D]; a queue that isn't [K, D]; nothing in one of them; one
            pair without a queue; temperature or chunk_size not positive; NaN or infinity (on the CPU; on a GPU the
            check would make every step wait).
        TypeError: not floating point; a temperature that isn't a plain number (it gets no gradient here).
    """
    _check_pair(query=query, key=key)
    _check_options(temperature, chunk_size)
    if queue is None:
        if len(query) < 2:
            raise ValueError(f"expected at least 2 pairs (the others are the negatives), or a queue, got {len(query)}")
    else:
        _check_rows(queue=queue)
        if queue.shape[1] != query.shape[1] or queue.device != query.device:
            raise ValueError(f"queue: expected [K, {query.shape[1]}] on {query.device}, as query and key are, got "
                             f"{list(queue.shape)} on {queue.device}")  # fmt: skip
    with _full_precision(query.device):
        if queue is None:
            q, k = _unit(query, key)
            positive = (q * k).sum(1) / temperature  # [N]
            return (_LogSumExp.apply(q, k, temperature, chunk_size, False) - positive).mean()
        q, k, negatives = _unit(query, key, queue.detach())
        positive = (q * k).sum(1) / temperature  # [N]
        # log(exp(p) + exp(n)) - p is -log sigmoid(p - n), and so is small where the first form rounds to 0.
        return -F.logsigmoid(positive - _LogSumExp.apply(q, negatives, temperature, chunk_size, False)).mean()


def nt_xent(view1: Tensor, view2: Tensor, *, temperature: float, chunk_size: int | None = None) -> Tensor:
    """NT-Xent, the loss of SimCLR (Chen et al. 2020, equation 1).

    Stack both views to z_1 ... z_2N, unit vectors. Every z_i is an anchor once; p(i) is the other view of its
    picture, and the candidates are all but itself:

        loss = mean over i of  -log( exp(z_i . z_p(i) / t) / sum over k != i of exp(z_i . z_k / t) )

    Reading it: guessing blindly among 2N - 1 candidates costs log(2N - 1); a loss that stays there has learned nothing.
    Google's code sums the two views' means, which is twice this value.

    Args:
        view1, view2: [N, D], row i of both from the same picture. They are normalized here.
        temperature: t > 0; small values look at the hardest negatives only.
        chunk_size: rows of the 2N x 2N matrix in memory at a time (recomputed on the way back): the same value and
            gradient with memory that grows with N, not its square. None keeps it (half of it: it is symmetric).

    Returns:
        A scalar >= 0 (up to rounding), float32 (float64 for float64 input). Half-precision input is exact with
        respect to its rounded values.

    Raises:
        ValueError: shapes that differ or aren't [N, D], fewer than 2 pairs, temperature or chunk_size not positive,
            NaN or infinity (on the CPU; on a GPU the check would make every step wait).
        TypeError: not floating point; a temperature that isn't a plain number (it gets no gradient here).
    """
    _check_pair(view1=view1, view2=view2)
    _check_options(temperature, chunk_size)
    if len(view1) < 2:
        raise ValueError(f"expected at least 2 pairs (the others are the negatives), got {len(view1)}")
    with _full_precision(view1.device):
        (z,) = _unit(torch.cat(_full(view1, view2)))  # [2N, D]
        positive = (z * z.roll(len(view1), 0)).sum(1)  # [2N], z_i . z_p(i)
        return (_log_sum_exp_others(z, temperature, chunk_size) - positive / temperature).mean()


def sup_con(embeddings: Tensor, labels: Tensor, *, temperature: float, chunk_size: int | None = None) -> Tensor:
    """SupCon, NT-Xent with every picture of the class as a positive (Khosla et al. 2020, equation 2: sum outside).

    P(i) are the other rows with the label of row i:

        loss = mean over i, of the mean over p in P(i), of
               -log( exp(z_i . z_p / t) / sum over k != i of exp(z_i . z_k / t) )

    A row without a positive is no anchor (it stays a negative of others). Two rows a label make it NT-Xent. Reading it:
    blind guessing costs log(N - 1), and with |P(i)| positives no encoder gets below log |P(i)|. The authors' code
    multiplies by t / 0.07; this doesn't.

    Args:
        embeddings: [N, D], both views stacked if there are two. They are normalized here.
        labels: [N], integers.
        temperature, chunk_size: as in `nt_xent`, of the N x N matrix.

    Returns:
        A scalar >= 0 (up to rounding), float32 (float64 for float64 input).

    Raises:
        ValueError: embeddings not [N, D] or empty, labels not [N], temperature or chunk_size not positive; on the CPU
            also no two rows of one label (NaN comes back from a GPU), NaN or infinity.
        TypeError: embeddings not floating point, labels not integers, a temperature that isn't a plain number.
    """
    _check_rows(embeddings=embeddings)
    _check_labels(labels, embeddings)
    _check_options(temperature, chunk_size)
    in_order = labels.sort().values  # from here on nothing waits for a GPU, as `unique` would
    label = torch.searchsorted(in_order, labels)  # [N], where the label begins there: one number for each label
    positives = torch.searchsorted(in_order, labels, right=True) - label - 1  # [N], |P(i)|
    anchors = positives > 0
    if labels.device.type == "cpu" and not anchors.any():
        raise ValueError(f"labels: expected two rows of one label at least, got {len(labels)} rows without a positive")
    with _full_precision(embeddings.device):
        (z,) = _unit(embeddings)
        # The mean of z_i . z_p over p is z_i . mean of z_p: sums by class do, and no N x N matrix of positives.
        others = torch.zeros_like(z).index_add(0, label, z)[label] - z  # [N, D], the sum of z_p
        positive = (z * others).sum(1) / positives.clamp(min=1)  # [N]
        loss = _log_sum_exp_others(z, temperature, chunk_size) - positive / temperature  # [N]
        return torch.where(anchors, loss, 0).sum() / anchors.sum()


def _log_sum_exp_others(z: Tensor, temperature: float, chunk_size: int | None) -> Tensor:
    """log of sum over k != i of exp(z_i . z_k / t): [M, D] to [M]. z are unit vectors."""
    if 1 / temperature <= _LARGEST_LOGIT:
        return _SumExpOthers.apply(z, temperature, chunk_size).log()
    return _LogSumExp.apply(z, z, temperature, chunk_size, True)


# Float32 holds exp(88): up to here exp(s), its sum and what the gradient divides by it need no shift.
_LARGEST_LOGIT = 40
_CACHED_ROWS = 256  # these few rows of s stay in the processor's cache


class _SumExpOthers(torch.autograd.Function):
    """sum over k != i of exp(s_ik), s = z z^T / t: [M, D] to [M].

    By hand, since autograd would keep several M x M matrices where half of one, or none, is enough. s is symmetric:
    a block of rows begins at the diagonal, and what lies right of it serves the rows below as well. Neither does the
    gradient need another exp:  row i of it is  sum over k of (g_i + g_k) exp(s_ik) z_k / t.
    """

    @staticmethod
    def forward(ctx, z: Tensor, temperature: float, chunk_size: int | None) -> Tensor:
        ctx.temperature, ctx.blocks = temperature, _blocks(len(z), chunk_size or _CACHED_ROWS)
        total, kept = z.new_zeros(len(z)), []
        for rows in ctx.blocks:
            weights = _exp_from_diagonal(z, rows, temperature)  # [B, M - start]
            total[rows] += weights.sum(1)
            if rows.stop < len(z):
                total[rows.stop :] += weights[:, rows.stop - rows.start :].sum(0)
            if chunk_size is None:
                kept.append(weights)
        ctx.save_for_backward(z, *kept)
        return total

    @staticmethod
    def backward(ctx, g: Tensor):
        _refuse_second_derivative()
        z, *kept = ctx.saved_tensors
        grad = torch.zeros_like(z)
        with _full_precision(z.device):  # the caller's backward() may stand in an autocast of its own
            for i, rows in enumerate(ctx.blocks):
                weights = kept[i] if kept else _exp_from_diagonal(z, rows, ctx.temperature)
                weights = (g[rows, None] + g[rows.start :]).mul_(weights)  # [B, M - start]
                grad[rows].addmm_(weights, z[rows.start :])
                if rows.stop < len(z):
                    grad[rows.stop :].addmm_(weights[:, rows.stop - rows.start :].T, z[rows])
        return grad.div_(ctx.temperature), None, None


def _exp_from_diagonal(z: Tensor, rows: slice, temperature: float) -> Tensor:
    """`rows` of exp(z z^T / t) from the diagonal on, [B, M - start], and 0 on the diagonal."""
    weights = ((z[rows] / temperature) @ z[rows.start :].T).exp_()
    weights.diagonal().zero_()
    return weights


class _LogSumExp(torch.autograd.Function):
    """log of sum over j of exp(q_i . k_j / t): [N, D] and [M, D] to [N], for any t > 0. `others` leaves out j = i."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, temperature: float, chunk_size: int | None, others: bool) -> Tensor:
        ctx.temperature, ctx.others, ctx.blocks = temperature, others, _blocks(len(q), chunk_size or _CACHED_ROWS)
        largest, total, kept = q.new_empty(len(q)), q.new_empty(len(q)), []
        for rows in ctx.blocks:
            weights, largest[rows] = _shifted_exp(q, k, rows, temperature, others)  # [B, M], [B]
            total[rows] = weights.sum(1)
            if chunk_size is None:
                kept.append(weights)
        ctx.save_for_backward(q, k, total, *kept)
        return largest + total.log()

    @staticmethod
    def backward(ctx, g: Tensor):
        _refuse_second_derivative()
        q, k, total, *kept = ctx.saved_tensors
        grad_q, grad_k = torch.empty_like(q), torch.zeros_like(k) if ctx.needs_input_grad[1] else None
        scale = (g / total / ctx.temperature)[:, None]  # [N, 1]
        with _full_precision(q.device):
            for i, rows in enumerate(ctx.blocks):
                weights = kept[i] if kept else _shifted_exp(q, k, rows, ctx.temperature, ctx.others)[0]
                weights = weights * scale[rows]  # [B, M]
                torch.mm(weights, k, out=grad_q[rows])
                if grad_k is not None:
                    grad_k.addmm_(weights.T, q[rows])
        return grad_q, grad_k, None, None, None


def _shifted_exp(q: Tensor, k: Tensor, rows: slice, temperature: float, others: bool) -> tuple[Tensor, Tensor]:
    """exp(s - largest) for `rows` of s = q k^T / t, [B, M], and each row's largest s, [B].

    Below exp(-50) nothing adds to a sum that holds a 1, not in float64 either; but numbers near 1e-38 would make a
    processor compute twenty times slower, and small temperatures are full of them.
    """
    logits = (q[rows] / temperature) @ k.T
    if others:
        logits.diagonal(rows.start).fill_(-torch.inf)
    largest = logits.amax(1)
    return logits.sub_(largest[:, None]).clamp_(min=-50).exp_(), largest


def _refuse_second_derivative() -> None:
    if torch.is_grad_enabled():  # once_differentiable would let a wrong one pass: g itself needs no gradient
        raise RuntimeError("this loss has no second derivative: leave out create_graph=True")


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


@contextmanager
def _full_precision(device: torch.device):
    """No autocast, no TF32 or bfloat16 products: half precision can't hold 1/t times a similarity."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    coarse = [(b, b.fp32_precision) for b in backends if b.fp32_precision not in ("ieee", "none")]
    try:
        for backend, _ in coarse:
            backend.fp32_precision = "ieee"
        autocast = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
        with torch.autocast(device.type, enabled=False) if autocast else nullcontext():
            yield
    finally:
        for backend, precision in coarse:
            backend.fp32_precision = precision


# --- margins ---


def pair_margin(a: Tensor, b: Tensor, same: Tensor, *, margin: float, normalize: bool = True) -> Tensor:
    """The contrastive loss with a margin: pairs of a kind together, others at least a margin apart (Hadsell 2006).

        loss = mean over i of  d_i^2  if same_i  else  max(0, margin - d_i)^2,     d_i = |a_i - b_i|

    The paper halves both terms, and has Y = 0 where a pair is of a kind.

    Args:
        a, b: [N, D], the pairs.
        same: [N], bool.
        margin: >= 0, a distance. Unit vectors are at most 2 apart.
        normalize: distances between unit vectors, as in `triplet_margin`. The paper leaves the length free (False).

    Returns:
        A scalar >= 0, float32 (float64 if any input is). Where a_i and b_i coincide there is no direction to push in:
        the gradient is 0.

    Raises:
        ValueError: a and b of two shapes, or not [N, D], or empty; same not [N]; margin negative; NaN or infinity (on
            the CPU).
        TypeError: a or b not floating point, same not bool, a margin that isn't a plain number.
    """
    _check_pair(a=a, b=b)
    _check_margin(margin)
    if not isinstance(same, Tensor) or same.dtype != torch.bool:
        raise TypeError(f"same: expected a bool tensor [N], such as labels_a == labels_b, got {_kind(same)}")
    if same.shape != a.shape[:1] or same.device != a.device:
        raise ValueError(f"same: expected one entry for each pair, [{len(a)}] on {a.device}, got {list(same.shape)} "
                         f"on {same.device}")  # fmt: skip
    d = _distance(*_points(a, b, normalize=normalize), squared=False)  # [N]
    return torch.where(same, d, (margin - d).relu()).square().mean()


def triplet_margin(
    anchor: Tensor, positive: Tensor, negative: Tensor, *, margin: float, squared: bool = False, normalize: bool = True
) -> Tensor:
    """The negative farther away than the positive, by a margin (Schroff et al. 2015, FaceNet).

        loss = mean over i of  max(0, d(a_i, p_i) - d(a_i, n_i) + margin)

    Reading it: a loss that stays at exactly the margin means that all embeddings have become one point. The mean is
    over all N, triplets with nothing left to learn included.

    Args:
        anchor, positive, negative: [N, D].
        margin: >= 0, in the unit of d.
        squared: d is the squared distance. FaceNet's is, on unit vectors, with margin 0.2.
        normalize: distances between unit vectors (at most 2 apart; 4, squared).

    Returns:
        A scalar >= 0, float32 (float64 if any input is). Where two points coincide, their distance has gradient 0.

    Raises:
        ValueError: shapes that differ, or aren't [N, D], or are empty; margin negative; NaN or infinity (on the CPU).
        TypeError: not floating point; a margin that isn't a plain number.
    """
    _check_pair(anchor=anchor, positive=positive)
    _check_pair(anchor=anchor, negative=negative)
    _check_margin(margin)
    a, p, n = _points(anchor, positive, negative, normalize=normalize)
    return (_distance(a, p, squared) - _distance(a, n, squared) + margin).relu().mean()


def batch_triplet(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float,
    mining: str = "all",
    average: str = "all",
    squared: bool = False,
    normalize: bool = True,
) -> Tensor:
    """The triplet loss over the triplets that a labelled batch holds: `mine_triplets` says which.

        loss = sum over mined (a, p, n) of  max(0, d(a, p) - d(a, n) + margin)  / count

    Reading it: as the easy triplets reach 0, the mean over all sinks. The mean over the active ones, those above 0,
    doesn't show progress: it stays near the margin while fewer and fewer triplets enter it.

    Memory is that of the [N, N] distances and of some millions of triplets at a time; time with "all" and "semi-hard"
    grows with N^3. On a GPU mining waits for the device.

    Args:
        embeddings: [N, D].
        labels: [N], integers.
        margin: >= 0, in the unit of d.
        mining: "all", "semi-hard" or "hard".
        average: count is that of the mined triplets ("all") or of those with a loss above 0 ("active").
        squared, normalize: of the distance, as in `triplet_margin`.

    Returns:
        A scalar >= 0, float32 (float64 for float64 input); 0 with gradient 0 if nothing is mined, or active.

    Raises:
        ValueError: embeddings not [N, D] or empty, labels not [N], no triplet in them (two rows of one label and one
            of another), margin negative, an unknown mining or average, NaN or infinity (on the CPU).
        TypeError: embeddings not floating point, labels not integers, a margin that isn't a plain number.
    """
    _check_rows(embeddings=embeddings)
    _check_labels(labels, embeddings)
    _check_mining(labels, margin, mining)
    if average not in ("all", "active"):
        raise ValueError(f'average: expected "all" or "active", got {average!r}')
    (x,) = _points(embeddings, normalize=normalize)
    d = euclidean_distance_matrix(x, x, squared=squared)  # [N, N]
    # An active triplet adds d_ap - d_an + margin: how often each distance enters is all that autograd needs to know.
    counts, active, mined = torch.zeros_like(d), 0, 0
    for a, p, n in _mined(d.detach(), labels, margin, mining):
        on = d.detach()[a, p] - d.detach()[a, n] + margin > 0
        counts.index_put_((a[on], p[on]), counts.new_ones(()), accumulate=True)
        counts.index_put_((a[on], n[on]), -counts.new_ones(()), accumulate=True)
        active, mined = active + on.sum().item(), mined + len(on)
    return ((counts * d).sum() + margin * active) / max(1, active if average == "active" else mined)


def mine_triplets(distances: Tensor, labels: Tensor, *, margin: float, mining: str) -> Tensor:
    """The triplets that `batch_triplet` takes: an anchor a, another row p of its label, a row n of another label.

    - "all": every one.
    - "semi-hard": those with d(a, p) < d(a, n) < d(a, p) + margin, all of them; a pair (a, p) may have none
      (Schroff et al. 2015, FaceNet).
    - "hard": for each anchor one, its farthest p and its nearest n, the first of equals (Hermans et al. 2017, "batch
      hard"). An anchor without a p or without an n has none.

    For instance the share of active triplets:
    `a, p, n = mine_triplets(d, labels, margin=0.2, mining="all").T`, `(d[a, p] - d[a, n] + 0.2 > 0).float().mean()`.

    Args:
        distances: [N, N], d of row a to row j; squared or not, as the margin is meant.
        labels: [N], integers.
        margin: >= 0. Only "semi-hard" looks at it.
        mining: "all", "semi-hard" or "hard".

    Returns:
        [T, 3], int64, the rows a, p, n of each, ordered. T may be 0 with "semi-hard".

    Raises:
        ValueError: distances not [N, N] or empty, labels not [N], no triplet in them, margin negative, an unknown
            mining, NaN or infinity (on the CPU).
        TypeError: distances not floating point, labels not integers, a margin that isn't a plain number.
    """
    _check_rows(distances=distances)
    if distances.shape[0] != distances.shape[1]:
        raise ValueError(f"distances: expected [N, N], of all rows to all rows, got {list(distances.shape)}")
    _check_labels(labels, distances)
    _check_mining(labels, margin, mining)
    return torch.cat(list(_mined(distances.detach(), labels, margin, mining)), 1).T


def _mined(d: Tensor, labels: Tensor, margin: float, mining: str) -> Iterator[Tensor]:
    """Index triplets [3, T], a few anchors at a time."""
    same = labels[:, None] == labels  # [N, N]
    positive, negative = same & ~torch.eye(len(d), dtype=torch.bool, device=d.device), ~same
    if mining == "hard":
        (a,) = (positive.any(1) & negative.any(1)).nonzero(as_tuple=True)
        farthest = d.masked_fill(~positive, -torch.inf).argmax(1)
        nearest = d.masked_fill(~negative, torch.inf).argmin(1)
        yield torch.stack([a, farthest[a], nearest[a]])
        return
    for rows in _blocks(len(d), max(1, _MASK // d.numel())):
        chosen = positive[rows, :, None] & negative[rows, None]  # [B, N, N]: anchor, p, n
        if mining == "semi-hard":
            ap, an = d[rows, :, None], d[rows, None]
            chosen &= (ap < an) & (an < ap + margin)
        a, p, n = chosen.nonzero(as_tuple=True)
        yield torch.stack([a + rows.start, p, n])


_MASK = 2**23  # entries of [B, N, N] at a time


def _unit(*rows: Tensor) -> list[Tensor]:
    """Unit vectors in float32, or float64 if any is: half precision has no room, and its zeros normalize to NaN."""
    return [F.normalize(x, dim=1) for x in _full(*rows)]


def _points(*rows: Tensor, normalize: bool) -> list[Tensor]:
    return _unit(*rows) if normalize else _full(*rows)


def _full(*rows: Tensor) -> list[Tensor]:
    double = any(x.dtype == torch.float64 for x in rows)
    return [x.to(torch.float64 if double else torch.float32) for x in rows]


def _distance(a: Tensor, b: Tensor, squared: bool) -> Tensor:
    """|a_i - b_i|, [N]. The norm's gradient is 0 where they coincide; that of sqrt(sum of squares) is NaN."""
    return (a - b).square().sum(1) if squared else torch.linalg.vector_norm(a - b, dim=1)


# --- what was expected, and what came ---


class NotFinite(ValueError):
    """Rows with NaN or infinity among them."""


class NoTriplet(ValueError):
    """Labels that are all alike, or all different."""


def _kind(x) -> str:
    return str(getattr(x, "dtype", type(x).__name__))


def _check_rows(**rows: Tensor) -> None:
    for name, x in rows.items():
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(f"{name}: expected a floating-point tensor [N, D], got {_kind(x)}")
        if x.ndim != 2 or 0 in x.shape:
            raise ValueError(f"{name}: expected [N, D], neither of them 0, got {list(x.shape)}")
        # A finite sum has finite terms, and takes a third of the time. (One that isn't may only have overflowed.)
        if x.device.type == "cpu" and not x.detach().sum().isfinite() and not x.isfinite().all():
            raise NotFinite(f"{name}: expected finite numbers, got NaN or infinity. Look at the step before this one")


def _check_pair(**rows: Tensor) -> None:
    _check_rows(**rows)
    a, b = rows.values()
    if a.shape != b.shape or a.device != b.device:
        raise ValueError(f"{' and '.join(rows)}: expected one shape on one device, got {list(a.shape)} on {a.device} "
                         f"and {list(b.shape)} on {b.device}")  # fmt: skip


def _check_labels(labels: Tensor, rows: Tensor) -> None:
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        raise TypeError(f"labels: expected integers [N], got {_kind(labels)}")
    if labels.shape != rows.shape[:1] or labels.device != rows.device:
        raise ValueError(f"labels: expected one for each row, [{len(rows)}] on {rows.device}, got "
                         f"{list(labels.shape)} on {labels.device}")  # fmt: skip


def _check_options(temperature: float, chunk_size: int | None) -> None:
    if not isinstance(temperature, numbers.Real) or isinstance(temperature, bool):
        raise TypeError(f"temperature: expected a plain number > 0, got a {type(temperature).__name__}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature: expected a number > 0 (0.05 to 0.5 is usual), got {temperature}")
    if chunk_size is not None and (type(chunk_size) is not int or chunk_size < 1):
        raise ValueError(f"chunk_size: expected an integer of at least 1, or None, got {chunk_size!r}")


def _check_margin(margin: float) -> None:
    if not isinstance(margin, numbers.Real) or isinstance(margin, bool):
        raise TypeError(f"margin: expected a plain number >= 0, got a {type(margin).__name__}")
    if not 0 <= margin < math.inf:
        raise ValueError(f"margin: expected a number >= 0 (0.2 is usual), got {margin}")


def _check_mining(labels: Tensor, margin: float, mining: str) -> None:
    _check_margin(margin)
    if mining not in ("all", "semi-hard", "hard"):
        raise ValueError(f'mining: expected "all", "semi-hard" or "hard", got {mining!r}')
    counts = labels.unique(return_counts=True)[1]
    if len(counts) < 2 or counts.max() < 2:
        raise NoTriplet("labels: expected two rows of one label and one of another at least, got "
                        f"{len(labels)} rows of {len(counts)} label{'s' * (len(counts) != 1)}, no triplet among them. "
                        "Draw larger batches, or some pictures of each of some classes")  # fmt: skip
