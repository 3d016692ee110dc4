"""Contrastive losses. Pure functions: no state, no parameters, computed in float32 or better."""

import numbers
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F


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
            gradient with memory that grows with N, not its square. None holds the matrix whole.

    Returns:
        A scalar >= 0 (up to rounding), float32 (float64 for float64 input). Half-precision input is exact with
        respect to its rounded values.

    Raises:
        ValueError: shapes that differ or aren't [N, D], fewer than 2 pairs, temperature or chunk_size not positive,
            NaN or infinity (on the CPU; on a GPU the check would make every step wait).
        TypeError: not floating point; a temperature that isn't a plain number (it gets no gradient here).
    """
    _check_views(view1, view2)
    if not isinstance(temperature, numbers.Real):
        raise TypeError(f"temperature: expected a plain number > 0, got a {type(temperature).__name__}")
    if not temperature > 0:
        raise ValueError(f"temperature: expected a number > 0 (0.05 to 0.5 is usual), got {temperature}")
    if chunk_size is not None and (not isinstance(chunk_size, int) or chunk_size < 1):
        raise ValueError(f"chunk_size: expected an integer of at least 1, or None, got {chunk_size!r}")
    with _full_precision(view1.device):
        z = torch.cat([view1, view2])
        z = F.normalize(z if z.dtype == torch.float64 else z.float(), dim=1)  # [2N, D]
        positive = (z * z.roll(len(view1), 0)).sum(1)  # [2N], z_i . z_p(i)
        return (_LogSumExp.apply(z, temperature, chunk_size) - positive / temperature).mean()


class _LogSumExp(torch.autograd.Function):
    """log of sum over k != i of exp(s_ik), s = z z^T / t: [M, D] to [M].

    By hand, since autograd would keep several M x M matrices where one, or none, is enough. It works on a few rows of s
    at a time, so that they stay in the processor's cache. As s is symmetric, the gradient of sum_i g_i lse_i needs no
    transposed product:  row i of it is  sum over k of ( g_i exp(s_ik - lse_i) + g_k exp(s_ik - lse_k) ) z_k / t.
    """

    @staticmethod
    def forward(ctx, z: Tensor, temperature: float, chunk_size: int | None) -> Tensor:
        ctx.temperature, ctx.rows = temperature, _blocks(len(z), chunk_size or _CACHED_ROWS)
        logsumexp, kept = z.new_empty(len(z)), []
        for rows in ctx.rows:
            logits = _logits(z, rows, temperature)
            logsumexp[rows] = logits.logsumexp(1)
            if chunk_size is None:
                kept.append(logits)
        ctx.save_for_backward(z, logsumexp, *kept)
        return logsumexp

    @staticmethod
    def backward(ctx, g: Tensor):
        if torch.is_grad_enabled():  # once_differentiable would let a wrong one pass: g itself needs no gradient
            raise RuntimeError("nt_xent has no second derivative: leave out create_graph=True")
        z, logsumexp, *kept = ctx.saved_tensors
        grad = torch.empty_like(z)
        with _full_precision(z.device):  # the caller's backward() may stand in an autocast of its own
            for i, rows in enumerate(ctx.rows):
                logits = kept[i] if kept else _logits(z, rows, ctx.temperature)
                weights = (logits - logsumexp).exp_().mul_(g)
                weights.addcmul_((logits - logsumexp[rows, None]).exp_(), g[rows, None])
                torch.mm(weights, z, out=grad[rows])
        return grad.div_(ctx.temperature), None, None


_CACHED_ROWS = 256


@contextmanager
def _full_precision(device: torch.device):
    """No autocast, no TF32 or bfloat16 products: half precision can't hold 1/t times a similarity."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    coarse = [(b, b.fp32_precision) for b in backends if b.fp32_precision not in ("ieee", "none")]
    try:
        for backend, _ in coarse:
            backend.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, precision in coarse:
            backend.fp32_precision = precision


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _logits(z: Tensor, rows: slice, temperature: float) -> Tensor:
    """`rows` of z z^T / t, [chunk, M], with each row's own column at -infinity."""
    logits = (z[rows] / temperature) @ z.T
    logits.diagonal(rows.start).fill_(-torch.inf)
    return logits


def _check_views(view1: Tensor, view2: Tensor) -> None:
    for name, view in (("view1", view1), ("view2", view2)):
        if not isinstance(view, Tensor) or not view.is_floating_point():
            raise TypeError(
                f"{name}: expected a floating-point tensor [N, D], got {getattr(view, 'dtype', type(view).__name__)}"
            )
        if view.ndim != 2 or view.shape[1] == 0:
            raise ValueError(f"{name}: expected [N, D], got {list(view.shape)}")
        if view.device.type == "cpu" and not view.isfinite().all():
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity. Look at the step before this one")
    if view1.shape != view2.shape or view1.device != view2.device:
        raise ValueError(f"expected two views of one shape on one device, got {list(view1.shape)} on {view1.device} "
                         f"and {list(view2.shape)} on {view2.device}")  # fmt: skip
    if len(view1) < 2:
        raise ValueError(f"expected at least 2 pairs (the others are the negatives), got {len(view1)}")
