"""Ways to train an encoder, two of them with labels, one small class each: `loss(views)` and `after_step()`.

In a group of processes (`clbook.distributed`) each calls these with its share of the batch. The mean over ranks of the
losses and of their gradients is then that of one process with the whole batch, and all queues stay equal.
"""

import numbers

import torch
from torch import Tensor, nn

from clbook.distributed import gather
from clbook.losses import NoTriplet, batch_triplet, info_nce, nt_xent, sup_con
from clbook.moco import MomentumEncoder, NegativeQueue
from clbook.models import ProjectionHead, feature_dim

MATRIX_BYTES = 2**29  # a loss whose float32 matrix takes more is computed in chunks: the same value, somewhat slower


class SimCLR(nn.Module):
    """Two views of each picture are each other's positive, all other pictures of the batch negatives (Chen et al.
    2020).

    Args:
        encoder: [N, 3, H, W] to h [N, D].
        temperature: of NT-Xent.
        out_dim: of z.
    """

    def __init__(self, encoder: nn.Module, *, temperature: float = 0.2, out_dim: int = 128):
        super().__init__()
        _check_temperature(temperature)
        self.encoder = encoder
        self.head = ProjectionHead(feature_dim(encoder), out_dim=out_dim)
        self.temperature = temperature

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """NT-Xent of a batch of pairs, two tensors [N, 3, H, W]: a scalar."""
        _check_views(views)
        z = self.head(self.encoder(torch.cat(views)))  # [2N, out_dim]: one pass for both views
        z1, z2 = z.split([len(view) for view in views])
        z1, z2 = gather(z1), gather(z2)  # all ranks' rows
        return nt_xent(z1, z2, temperature=self.temperature, chunk_size=_chunk_size(2 * len(z1), 2 * len(z1)))

    def after_step(self) -> None:
        """Nothing to do; methods with a queue or a momentum encoder move them here."""


class MoCo(nn.Module):
    """The key of a query's own picture is to be told from the K keys of earlier batches (He et al. 2020), with the
    projection head of MoCo v2 (Chen, Fan et al. 2020).

    Query encoder and head learn; keys come from a slow copy of both (`moco.MomentumEncoder`) and wait in a queue
    (`moco.NegativeQueue`), so the number of negatives doesn't hang on the batch. Blind guessing costs log(K + 1).

    `loss` leaves the queue and the slow copy alone, and may be called any number of times; `after_step`, called once
    the weights have moved, updates the copy and then enqueues the keys of the last `loss`.

    Batch-norm stays as the encoder has it; the head has none, as in MoCo v2. He et al. shuffle keys over GPUs so that
    query and key are not normalized beside the same pictures. On one device an undivided batch-norm makes that no
    difference, and in a group batch-norm is over the joined batch (`distributed.replicate`), as on one device. To
    have the effect, divide it (`moco.split_batch_norm(encoder, splits)`) and override `keys` with
    `moco.encode_shuffled(self.key_encoder, view)`.

    Args:
        encoder: [N, 3, H, W] to h [N, D].
        temperature: of InfoNCE.
        out_dim: of z.
        queue_size: K. A loss enqueues its N keys, a symmetric one 2N, which may be K at most.
        momentum: m of the slow copy, 0 to 1: a memory of about 1 / (1 - m) steps.
        symmetric: each view is query once and key once, the loss the mean of both (MoCo's code sums them); twice the
            forward passes a step.
    """

    def __init__(self, encoder: nn.Module, *, temperature: float = 0.2, out_dim: int = 128, queue_size: int = 4096,
                 momentum: float = 0.99, symmetric: bool = False):  # fmt: skip
        super().__init__()
        _check_temperature(temperature)
        if not isinstance(symmetric, bool):
            raise TypeError(f"symmetric: expected True or False, got {symmetric!r}")
        self.encoder = encoder
        self.head = ProjectionHead(feature_dim(encoder), out_dim=out_dim, batch_norm="none")
        self.key_encoder = MomentumEncoder(self._query(), momentum)
        self.queue = NegativeQueue(queue_size, out_dim)
        self.temperature, self.symmetric = temperature, symmetric
        self._waiting = None  # keys of the last loss, until after_step

    def _query(self) -> nn.Module:
        """What the key encoder is a copy of: encoder and head as one."""
        return nn.Sequential(self.encoder, self.head)

    def keys(self, view: Tensor) -> Tensor:
        """The keys of a view, [N, out_dim], without gradient."""
        return self.key_encoder(view)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """InfoNCE of a batch of pairs, two tensors [N, 3, H, W], with the queue as it stands: a scalar."""
        _check_views(views)
        if views[0].shape != views[1].shape:
            raise ValueError(f"views: expected a pair of one shape, got {[list(view.shape) for view in views]}")
        directions = [views, views[::-1]] if self.symmetric else [views]
        negatives, losses, keys = self.queue.negatives(), [], []  # both directions meet the same negatives
        for query_view, key_view in directions:
            q = self.head(self.encoder(query_view))  # [N, out_dim]
            k = self.keys(key_view)  # [N, out_dim]
            chunk_size = _chunk_size(len(q), len(negatives) + 1)
            losses.append(info_nce(q, k, negatives, temperature=self.temperature, chunk_size=chunk_size))
            keys.append(gather(k))  # all ranks' keys, for all ranks' queues
        self._waiting = torch.cat(keys)  # [N, out_dim], symmetric [2N, out_dim]
        return torch.stack(losses).mean()

    def after_step(self) -> None:
        """Move the key encoder one step, then enqueue the keys of the last loss. Nothing waits: nothing is enqueued."""
        self.key_encoder.update(self._query())
        if self._waiting is not None:
            self.queue.enqueue(self._waiting)
            self._waiting = None


class SupCon(nn.Module):
    """All views of all pictures of a class are each other's positives (Khosla et al. 2020, equation 2).

    Args:
        encoder: [N, 3, H, W] to h [N, D].
        temperature: of the loss.
        out_dim: of z.
    """

    supervised = True  # loss takes labels

    def __init__(self, encoder: nn.Module, *, temperature: float = 0.2, out_dim: int = 128):
        super().__init__()
        _check_temperature(temperature)
        self.encoder = encoder
        self.head = ProjectionHead(feature_dim(encoder), out_dim=out_dim)
        self.temperature = temperature

    def loss(self, views: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
        """SupCon of a batch of pairs, two tensors [N, 3, H, W], and their labels [N], integers: a scalar."""
        _check_views(views)
        z = self.head(self.encoder(torch.cat(views)))  # [2N, out_dim]
        z, labels = gather(z), gather(labels.repeat(2))  # all ranks' rows
        return sup_con(z, labels, temperature=self.temperature, chunk_size=_chunk_size(len(z), len(z)))

    def after_step(self) -> None:
        """Nothing to do."""


class Triplet(nn.Module):
    """A view is to be nearer to views of its class than to others, by a margin (Schroff et al. 2015), over the triplets
    mined from both views of a labelled batch. (How many there are is known when they are found, so each step waits for
    a GPU; the other methods don't.)

    Args:
        encoder: [N, 3, H, W] to h [N, D].
        margin: on the distance of unit vectors, 0 to 2.
        mining: "all", "semi-hard" or "hard", as in `losses.batch_triplet`.
        out_dim: of z.
    """

    supervised = True  # loss takes labels

    def __init__(self, encoder: nn.Module, *, margin: float = 0.2, mining: str = "semi-hard", out_dim: int = 128):
        super().__init__()
        if mining not in ("all", "semi-hard", "hard"):
            raise ValueError(f"mining: expected all, semi-hard or hard, got {mining!r}")
        if not isinstance(margin, numbers.Real) or isinstance(margin, bool) or not 0 <= margin <= 2:
            raise ValueError(f"margin: expected a number from 0 to 2, the largest distance, got {margin!r}")
        self.encoder = encoder
        self.head = ProjectionHead(feature_dim(encoder), out_dim=out_dim)
        self.margin, self.mining = margin, mining

    def loss(self, views: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
        """The triplet loss of a batch of pairs, two tensors [N, 3, H, W], and their labels [N], integers: a scalar, 0
        where all labels are alike."""
        _check_views(views)
        z = self.head(self.encoder(torch.cat(views)))  # [2N, out_dim]
        z, labels = gather(z), gather(labels.repeat(2))  # all ranks' rows
        try:
            return batch_triplet(z, labels, margin=self.margin, mining=self.mining)
        except NoTriplet:  # by chance, in a small batch: no reason to end a run
            return 0 * z.sum()

    def after_step(self) -> None:
        """Nothing to do."""


def _chunk_size(rows: int, columns: int) -> int | None:
    """Rows of a float32 matrix [rows, columns] to hold at a time; None where all of it is small enough."""
    held = max(1, MATRIX_BYTES // (4 * columns))
    return None if rows <= held else held


def _check_temperature(temperature: float) -> None:
    if not isinstance(temperature, numbers.Real) or isinstance(temperature, bool) or not temperature > 0:
        raise ValueError(f"temperature: expected a number > 0 (0.05 to 0.5 is usual), got {temperature!r}")


def _check_views(views: tuple[Tensor, Tensor]) -> None:
    if not isinstance(views, tuple | list) or len(views) != 2 or not all(isinstance(v, Tensor) for v in views):
        raise TypeError(f"views: expected a pair of tensors [N, 3, H, W], got {type(views).__name__}")
    for view in views:
        if view.ndim != 4 or not view.is_floating_point() or view.device != views[0].device:
            raise ValueError("views: expected floating-point [N, 3, H, W] on one device, got "
                             f"{view.dtype} {list(view.shape)} on {view.device}")  # fmt: skip
