"""Ways to train an encoder without labels, one small class each: `loss(views)` and `after_step()`."""

import numbers

import torch
from torch import Tensor, nn

from clbook.losses import nt_xent
from clbook.models import ProjectionHead, feature_dim


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
        if not isinstance(temperature, numbers.Real) or isinstance(temperature, bool) or not temperature > 0:
            raise ValueError(f"temperature: expected a number > 0 (0.05 to 0.5 is usual), got {temperature!r}")
        self.encoder = encoder
        self.head = ProjectionHead(feature_dim(encoder), out_dim=out_dim)
        self.temperature = temperature

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """NT-Xent of a batch of pairs, two tensors [N, 3, H, W]: a scalar."""
        if not isinstance(views, tuple | list) or len(views) != 2 or not all(isinstance(v, Tensor) for v in views):
            raise TypeError(f"views: expected a pair of tensors [N, 3, H, W], got {type(views).__name__}")
        for view in views:
            if view.ndim != 4 or not view.is_floating_point() or view.device != views[0].device:
                raise ValueError("views: expected floating-point [N, 3, H, W] on one device, got "
                                 f"{view.dtype} {list(view.shape)} on {view.device}")  # fmt: skip
        z = self.head(self.encoder(torch.cat(views)))  # [2N, out_dim]: one pass for both views
        return nt_xent(*z.split([len(view) for view in views]), temperature=self.temperature)

    def after_step(self) -> None:
        """Nothing to do; methods with a queue or a momentum encoder move them here."""
