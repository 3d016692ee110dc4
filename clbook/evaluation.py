"""How good are features? Judged on the encoder's h, never on the head's z, and beside a baseline."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clbook.augmentations import to_float
from clbook.datasets import ImageSet
from clbook.models import evaluating

_BLOCK = 1024  # queries compared with the whole bank at a time


@torch.no_grad()
def encode(encoder: nn.Module | None, images: Tensor, *, batch_size: int = 500) -> Tensor:
    """The features of each picture.

    Args:
        encoder: [N, 3, H, W] float in [0, 1] to [N, D], run in evaluation mode where its weights are and left in the
            mode it was in. None gives the pixels themselves, the baseline that any encoder has to beat.
        images: [N, C, H, W], uint8 or float in [0, 1].

    Returns:
        [N, D] float32 on the CPU.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size: expected an integer of at least 1, got {batch_size!r}")
    if encoder is None:
        return to_float(images).flatten(1).float().cpu()
    if not isinstance(images, Tensor):
        raise TypeError(f"images: expected a tensor [N, C, H, W], got {type(images).__name__}")
    device = next(encoder.parameters(), torch.empty(0)).device  # an encoder may have none, such as nn.Flatten
    with evaluating(encoder):
        return torch.cat([encoder(to_float(batch.to(device))).float().cpu() for batch in images.split(batch_size)])


def knn_accuracy(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, *, k: int = 20,
                 temperature: float = 0.07) -> float:  # fmt: skip
    """Share of the queries that their k nearest neighbours in the bank name rightly.

    Neighbours are nearest by cosine similarity s and vote with weight exp(s / t) (Wu et al. 2018, section 3.4).
    No parameter is fitted, so it shows what the features hold as they are.

    Args:
        bank: [N, D] features, bank_labels: [N] int64: the pictures whose labels may be seen.
        queries: [M, D], labels: [M]: the pictures to name.
        k: neighbours that vote, 1 to N.
        temperature: t > 0 of the votes.

    Returns:
        Accuracy in [0, 1].
    """
    _check_features("queries", queries, labels)
    return (knn_predict(bank, bank_labels, queries, k=k, temperature=temperature) == labels).float().mean().item()


def knn_predict(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, *, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """The labels [M] that the weighted vote of `knn_accuracy` gives the queries; a tie goes to the lowest label.

    Memory is bounded: queries go in blocks.
    """
    _check_features("bank", bank, bank_labels)
    if queries.ndim != 2 or queries.shape[1] != bank.shape[1]:
        raise ValueError(f"queries: expected [M, {bank.shape[1]}] like the bank, got {list(queries.shape)}")
    if not isinstance(k, int) or not 1 <= k <= len(bank):
        raise ValueError(f"k: expected an integer from 1 to {len(bank)}, the size of the bank, got {k!r}")
    if not temperature > 0:
        raise ValueError(f"temperature: expected a number > 0, got {temperature}")
    bank, classes = F.normalize(bank.float(), dim=1), int(bank_labels.max()) + 1
    predicted = []
    for block in queries.split(_BLOCK):
        nearest, rows = (F.normalize(block.float(), dim=1) @ bank.T).topk(k, dim=1)  # [m, k]
        votes = ((nearest - nearest[:, :1]) / temperature).exp()  # relative to the nearest, which can't underflow
        votes = nearest.new_zeros(len(block), classes).scatter_add_(1, bank_labels[rows], votes)
        predicted.append(votes.argmax(1))
    return torch.cat(predicted)


def knn_score(
    encoder: nn.Module | None, bank: ImageSet, queries: ImageSet, *, factor: str | None = None, k: int = 20
) -> float:
    """`knn_accuracy` of an encoder (None: of the pixels) on two image sets.

    Args:
        factor: what to name, one of the sets' categorical `factors`, such as "color"; their labels unless told.
    """
    for s in (bank, queries):
        if factor is None and s.labels is None:
            raise ValueError(f"expected pictures with labels; {s.name} has none, so there is nothing to compare with")
        if factor is not None and factor not in s.factors:
            raise ValueError(f"factor: expected one of {', '.join(s.factors) or '(none)'} for {s.name}, got {factor!r}")
    target = [s.labels if factor is None else s.factors[factor] for s in (bank, queries)]
    features = [encode(encoder, s.images) for s in (bank, queries)]
    return knn_accuracy(features[0], target[0], features[1], target[1], k=min(k, len(bank)))


def _check_features(name: str, features: Tensor, labels: Tensor) -> None:
    if features.ndim != 2 or not features.is_floating_point() or len(features) == 0:
        raise ValueError(
            f"{name}: expected floating-point features [N, D], N > 0, got {features.dtype} {list(features.shape)}"
        )
    if labels.shape != features.shape[:1]:
        raise ValueError(f"{name} labels: expected one for each of {len(features)} features, got {list(labels.shape)}")
    if labels.dtype != torch.int64 or labels.min() < 0:
        raise ValueError(f"{name} labels: expected int64 from 0 up, got {labels.dtype} from {labels.min()}")
