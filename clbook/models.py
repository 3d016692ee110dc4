"""Encoders, from pictures [N, 3, H, W] in [0, 1] to features h [N, D], and the head that training puts on top.

Features h are what is kept, probed and transferred; the head's output z is only what the loss sees.
"""

import difflib
import itertools
from contextlib import contextmanager

import torch
from torch import nn


def small(width: int = 32) -> nn.Sequential:
    """Four strided convolutions, for pictures of about 32 px: [N, 3, H, W] to [N, 8 * width].

    A plain `nn.Sequential` of torch's own layers, so its state dict loads without this package. It takes RGB in
    [0, 1] as it is: the first batch-norm sees to mean and scale.
    """
    _check_widths(width=width)
    channels = (3, width, 2 * width, 4 * width, 8 * width)
    layers = []
    for c_in, c_out in itertools.pairwise(channels):
        layers += [
            nn.Conv2d(c_in, c_out, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


ENCODERS = {"small": small}


def build(name: str, **options) -> nn.Module:
    """A new, randomly initialized encoder by name; `options` go to its function.

    Raises:
        ValueError: an unknown name; the message has the nearest ones.
    """
    if name not in ENCODERS:
        close = difflib.get_close_matches(str(name), ENCODERS, n=2, cutoff=0.5)
        hint = f". Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(f"model: expected one of {', '.join(ENCODERS)}; got {name!r}{hint}")
    return ENCODERS[name](**options)


@contextmanager
def evaluating(module: nn.Module):
    """Evaluation mode, and afterwards for each part the mode that it was in (a frozen batch-norm stays frozen)."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield module
    finally:
        for part, training in modes:
            part.training = training


@torch.no_grad()
def feature_dim(encoder: nn.Module, image_size: int = 32) -> int:
    """D, the number of features that the encoder makes of one picture."""
    parameter = next(encoder.parameters(), torch.empty(0))  # an encoder may have none, such as nn.Flatten
    picture = torch.zeros(1, 3, image_size, image_size, device=parameter.device, dtype=parameter.dtype)
    with evaluating(encoder):  # batch-norm can't train on one picture
        features = encoder(picture)
    if features.ndim != 2:
        raise ValueError(f"encoder: expected features [N, D], got {list(features.shape)} for one picture")
    return features.shape[1]


class ProjectionHead(nn.Sequential):
    """SimCLR's g(h): a linear layer, batch-norm, ReLU, a linear layer. [N, in_dim] to [N, out_dim].

    Chen et al. 2020, section 2.1: the loss is taken on z = g(h), and g is thrown away after training.
    """

    def __init__(self, in_dim: int, hidden_dim: int = 256, out_dim: int = 128):
        _check_widths(in_dim=in_dim, hidden_dim=hidden_dim, out_dim=out_dim)
        super().__init__(
            nn.Linear(in_dim, hidden_dim, bias=False),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, out_dim),
        )


def _check_widths(**widths: int) -> None:
    for name, width in widths.items():
        if not isinstance(width, int) or width < 1:
            raise ValueError(f"{name}: expected an integer of at least 1, got {width!r}")
