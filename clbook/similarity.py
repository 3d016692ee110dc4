"""How alike are two vectors? Every row of a against every row of b."""

import torch
from torch import Tensor
from torch.nn import functional as F


def cosine_similarity_matrix(a: Tensor, b: Tensor) -> Tensor:
    """cos(a_i, b_j) = a_i . b_j / (|a_i| |b_j|).

    Args:
        a: [N, D], b: [M, D]; floating point.

    Returns:
        [N, M] in [-1, 1], up to rounding. A zero vector has similarity 0 with everything.

    Raises:
        ValueError: not two matrices with the same D, or empty; NaN or infinity (on the CPU).
        TypeError: not floating point, or two types.
    """
    _check_rows(a, b)
    return _unit(a) @ _unit(b).T


def euclidean_distance_matrix(a: Tensor, b: Tensor, squared: bool = False) -> Tensor:
    """|a_i - b_j|, or its square. On unit vectors the square is 2 - 2 cos(a_i, b_j).

    Args:
        a: [N, D], b: [M, D]; floating point.

    Returns:
        [N, M], >= 0. The gradient is 0, not NaN, where two points coincide.

    Raises:
        ValueError: not two matrices with the same D, or empty; NaN or infinity (on the CPU).
        TypeError: not floating point, or two types.
    """
    _check_rows(a, b)
    # |a|^2 + |b|^2 - 2 a.b would be one product, but it cancels: points 1e-4 apart come out as 0.
    distance = torch.cdist(_full(a), _full(b), compute_mode="donot_use_mm_for_euclid_dist")
    return (distance.square() if squared else distance).to(a.dtype)


def _full(x: Tensor) -> Tensor:
    """Half precision to float32: it has no `cdist`, and its zero vectors normalize to NaN."""
    return x if x.dtype == torch.float64 else x.float()


def _unit(x: Tensor) -> Tensor:
    return F.normalize(_full(x), dim=1).to(x.dtype)


def _check_rows(a: Tensor, b: Tensor) -> None:
    for name, x in (("a", a), ("b", b)):
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(
                f"{name}: expected a floating-point tensor [N, D], got {getattr(x, 'dtype', type(x).__name__)}"
            )
        if x.device.type == "cpu" and not x.isfinite().all():
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity. Look at the step before this one")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or 0 in (*a.shape, *b.shape):
        raise ValueError(f"expected a [N, D] and b [M, D] with the same D, none of them 0, got {list(a.shape)} "
                         f"and {list(b.shape)}")  # fmt: skip
    if a.dtype != b.dtype or a.device != b.device:
        raise TypeError(f"expected a and b of one type on one device, got {a.dtype} on {a.device} and {b.dtype} on "
                        f"{b.device}")  # fmt: skip
