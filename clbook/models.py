"""Encoders, from pictures [N, 3, H, W] in [0, 1] to features h [N, D], and the heads that training puts on top.

Features h are what is kept, probed and transferred; the heads' outputs z and p are only what the loss sees.

All encoders take RGB in [0, 1] as it is: the first batch-norm sees to mean and scale. torchvision's ImageNet weights,
trained on normalized pictures, are changed to fit (`load_weights`); with weights from elsewhere the normalization is
yours to do: `torchvision.transforms.Normalize(mean, std)`.

The ResNets and VGGs are torchvision's without their classifiers and keep its names, so that their weights outlive this
package: `torchvision.models.resnet18().load_state_dict(state, strict=False)` misses the classifier and nothing else.
(For the small stem see `resnet50`.)
"""

import difflib
import inspect
import itertools
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn


def small(width: int = 32) -> nn.Sequential:
    """Four strided convolutions, for pictures of about 32 px: [N, 3, H, W] to [N, 8 * width].

    A plain `nn.Sequential` of torch's own layers, so its state dict loads without this package.
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


def conv4(width: int = 32) -> nn.Sequential:
    """Four convolutions and two max-pools, for photographs of about 32 px: [N, 3, H, W] to [N, 8 * width].

    In the manner of VGG and of the Conv-4 of few-shot learning. Only the first convolution is strided, so the others
    see maps twice as large as `small`'s: nearly four times its multiplications, in about twice its time on a CPU
    (`benchmarks/peers.py step`). A plain `nn.Sequential` of torch's own layers.
    """
    _check_widths(width=width)
    channels, layers = (3, width, 2 * width, 4 * width, 8 * width), []
    for c_in, c_out in itertools.pairwise(channels):
        layers.append(nn.Conv2d(c_in, c_out, 3, stride=2 if c_in == 3 else 1, padding=1, bias=False))
        layers += [nn.BatchNorm2d(c_out), nn.ReLU()]
        layers += [nn.MaxPool2d(2, ceil_mode=True)] * (c_out in channels[2:4])
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def resnet18(stem: str = "small") -> nn.Module:
    """ResNet-18 (He et al. 2016, table 1), [N, 3, H, W] to [N, 512]; for `stem` see `resnet50`."""
    return _resnet("resnet18", stem)


def resnet34(stem: str = "small") -> nn.Module:
    """ResNet-34 (He et al. 2016, table 1), [N, 3, H, W] to [N, 512]; for `stem` see `resnet50`."""
    return _resnet("resnet34", stem)


def resnet50(stem: str = "small") -> nn.Module:
    """ResNet-50 (He et al. 2016, table 1), [N, 3, H, W] to [N, 2048].

    Args:
        stem: "imagenet" is torchvision's beginning, a 7x7 convolution of stride 2 and a max-pool: pictures of about
            224 px shrink to a quarter. "small" is for pictures of about 32 px, of which that would leave too little:
            a 3x3 convolution of stride 1 and no max-pool (Chen et al. 2020, the appendix on CIFAR-10).

    The small stem's `conv1.weight` is [64, 3, 3, 3], which torchvision's class refuses as a size mismatch; give it the
    same stem first: `model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)` and `model.maxpool = nn.Identity()`.
    """
    return _resnet("resnet50", stem)


def _resnet(name: str, stem: str) -> nn.Module:
    import torchvision  # takes a second, and `small` needs none of it

    if stem not in STEMS:
        raise ValueError(f"stem: expected one of {', '.join(STEMS)}, got {stem!r}")
    encoder = getattr(torchvision.models, name)(weights=None)
    encoder.fc = nn.Identity()
    if stem == "small":
        encoder.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(encoder.conv1.weight, mode="fan_out", nonlinearity="relu")  # as all the others
        encoder.maxpool = nn.Identity()
    return encoder


def vgg11() -> nn.Sequential:
    """VGG-11 with batch-norm, torchvision's `vgg11_bn` (Simonyan & Zisserman 2015, column A), to [N, 512].

    Its five max-pools leave one pixel of a 32-px picture, and what is left is averaged over the picture: [N, 512] at
    any size from 32 px. (torchvision goes on with 7x7 places, for a classifier of 120 million weights.)
    """
    return _Vgg("A")


def vgg16() -> nn.Sequential:
    """VGG-16 with batch-norm, torchvision's `vgg16_bn` (column D); the rest as `vgg11`."""
    return _Vgg("D")


class _Layers(nn.Sequential):
    """Its slices are plain Sequentials: torch would call this class with the layers."""

    def __getitem__(self, index):
        if isinstance(index, slice):
            return nn.Sequential(OrderedDict(list(self._modules.items())[index]))
        return super().__getitem__(index)


class _Vgg(_Layers):
    def __init__(self, column: str):
        from torchvision.models import vgg

        super().__init__()
        self.features = vgg.make_layers(vgg.cfgs[column], batch_norm=True)  # not vgg.VGG: that makes the classifier
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        for layer in self.features:  # as vgg.VGG does
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if min(images.shape[-2:]) < 32:
            raise ValueError(f"images: expected at least 32 x 32 pixels for VGG's five halvings, got "
                             f"{list(images.shape)}; scale them up, or take small or a resnet")  # fmt: skip
        return super().forward(images)


STEMS = ("small", "imagenet")
ENCODERS = {encoder.__name__: encoder for encoder in (small, conv4, resnet18, resnet34, resnet50, vgg11, vgg16)}


def build(name: str, **options) -> nn.Module:
    """A new, randomly initialized encoder by name; `options` go to its function: `width` of small and
    conv4, `stem` of a resnet.

    Raises:
        ValueError: an unknown name, the message has the nearest ones; an option that this encoder doesn't take.
    """
    if not isinstance(name, str) or name not in ENCODERS:
        close = difflib.get_close_matches(str(name), ENCODERS, n=2, cutoff=0.5)
        hint = f". Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(f"model: expected one of {', '.join(ENCODERS)}; got {name!r}{hint}")
    takes = inspect.signature(ENCODERS[name]).parameters
    for option in options:
        if option not in takes:
            known = ", ".join(takes) or "none"
            raise ValueError(f"{name}: expected only the options it takes ({known}), got {option}; leave it out")
    return ENCODERS[name](**options)


def load_weights(encoder: nn.Module, source: str, name: str) -> None:
    """Give an encoder, as `build(name)` makes it, the weights of an earlier training.

    Args:
        encoder: changed in place.
        source: the folder of a run, whose `encoder.pt` is read, or "torchvision" for its ImageNet weights (a download
            of some 40 to 500 MB, once, its checksum verified).
        name: of the encoder.

    ImageNet weights want normalized pictures, (x - mean) / std, and our encoders get x in [0, 1]. So the scale goes
    into the weights of the first convolution and the shift into what follows it. That is the same everywhere but at the
    border, where the padding is the mean colour there and black here.

    Raises:
        ValueError: no such file, or weights of another encoder.
        ConnectionError: torchvision's weights can't be downloaded.
    """
    if source == "torchvision":
        _take(encoder, _imagenet_weights(name), source, name)
    else:
        read_weights(encoder, Path(source) / "encoder.pt", name)


def read_weights(encoder: nn.Module, path: str | Path, name: str) -> None:
    """Give an encoder, as `build(name)` makes it, the weights in a run's `encoder.pt`.

    Raises:
        ValueError: no such file, one that can't be read, or weights of another encoder.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is cut off or of something else can raise anything
        raise _no_weights(path, name, error) from error
    _take(encoder, state, path, name)


def _take(encoder: nn.Module, state: dict[str, torch.Tensor], source: str | Path, name: str) -> None:
    try:
        encoder.load_state_dict(state)
    except (RuntimeError, TypeError) as error:  # other weights, no weights at all
        raise _no_weights(source, name, error) from error


def _no_weights(source: str | Path, name: str, error: Exception) -> ValueError:
    what = " ".join(str(error).split()) or type(error).__name__
    repair = ("torchvision's resnets have --stem imagenet" if source == "torchvision" else
              "give the folder of a run with that model, width and stem")  # fmt: skip
    return ValueError(f"encoder: expected in {str(source)!r} the weights of the {name} that is asked for, got "
                      f"{what:.200}; {repair}")  # fmt: skip


def _imagenet_weights(name: str) -> dict[str, torch.Tensor]:
    """torchvision's weights without the classifier, for pictures that aren't normalized."""
    import torchvision

    theirs = {"vgg11": "vgg11_bn", "vgg16": "vgg16_bn"}.get(name, name)
    if theirs not in torchvision.models.list_models(torchvision.models):
        raise ValueError(f"init: expected an encoder of torchvision's for its weights, got {name}; start from a run's")
    weights = torchvision.models.get_model_weights(theirs).DEFAULT
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # the latter: not the file that its checksum says
        raise ConnectionError(f"init: can't download torchvision's weights ({error}); connect once, or start from "
                              "fresh weights") from error  # fmt: skip
    state = {key: value for key, value in state.items() if not key.startswith(("fc.", "classifier."))}
    shown = weights.transforms()
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (shown.mean, shown.std))
    first = next(iter(state))  # conv1.weight, features.0.weight
    state[first] = state[first] / std
    shift = (state[first] * mean).sum((1, 2, 3))
    # What follows subtracts it: a resnet's batch-norm by its mean, a VGG's convolution by its bias.
    after, sign = ("bn1.running_mean", 1) if first == "conv1.weight" else ("features.0.bias", -1)
    state[after] = state[after] + sign * shift
    return state


@contextmanager
def evaluating(module: nn.Module):
    """Evaluation mode, and afterwards for each part the mode that it was in (a frozen batch-norm stays frozen)."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield module
    finally:
        for part, training in modes:
            part.training = training


def first_weight(encoder: nn.Module) -> torch.Tensor:
    """A tensor of the type and on the device that an encoder computes with: its first parameter; else, as those of a
    momentum encoder are none, its first floating-point buffer; else, of nn.Flatten for one, an empty tensor."""
    if not isinstance(encoder, nn.Module):
        raise TypeError(f"encoder: expected a torch.nn.Module, got {type(encoder).__name__}")
    tensors = itertools.chain(encoder.parameters(), encoder.buffers())
    return next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))


@torch.no_grad()
def feature_dim(encoder: nn.Module, image_size: int = 32) -> int:
    """D, the number of features that the encoder makes of one picture."""
    weight = first_weight(encoder)
    _check_widths(image_size=image_size)
    picture = torch.zeros(1, 3, image_size, image_size, device=weight.device, dtype=weight.dtype)
    with evaluating(encoder):  # batch-norm can't train on one picture
        features = encoder(picture)
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        got = list(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
        raise ValueError(f"encoder: expected features [N, D], got {got} for one picture")
    return features.shape[1]


class ProjectionHead(_Layers):
    """The head g that makes z = g(h) for the loss and is thrown away after training. [N, in_dim] to [N, out_dim].

    Args:
        in_dim: D, the number of features.
        hidden_dim: of each layer but the last.
        out_dim: of z.
        depth: linear layers, 2 or 3, with a ReLU between them.
        batch_norm: "hidden" after each linear layer but the last, "all" after the last too, or "none".

    Two layers with batch-norm are SimCLR's (Chen et al. 2020, section 2.1; the paper's equation leaves the batch-norm
    out, its code has it) and BYOL's; two without are MoCo v2's (Chen, Fan et al. 2020); three with "all" are SimSiam's
    (Chen & He 2021, section 3; as in its code the last one has no scale and shift of its own).
    """

    def __init__(self, in_dim: int, hidden_dim: int = 256, out_dim: int = 128, *,
                 depth: int = 2, batch_norm: str = "hidden"):  # fmt: skip
        _check_widths(in_dim=in_dim, hidden_dim=hidden_dim, out_dim=out_dim)
        if type(depth) is not int or depth not in (2, 3):
            raise ValueError(f"depth: expected 2 or 3 linear layers, got {depth!r}")
        if batch_norm not in ("hidden", "all", "none"):
            raise ValueError(f"batch_norm: expected hidden, all or none, got {batch_norm!r}")
        layers = []
        for width in [in_dim] + [hidden_dim] * (depth - 2):
            layers.append(nn.Linear(width, hidden_dim, bias=batch_norm == "none"))  # batch-norm takes a bias out again
            layers += [nn.BatchNorm1d(hidden_dim)] * (batch_norm != "none") + [nn.ReLU()]
        layers.append(nn.Linear(hidden_dim, out_dim, bias=batch_norm != "all"))
        layers += [nn.BatchNorm1d(out_dim, affine=False)] * (batch_norm == "all")
        super().__init__(*layers)


class PredictionHead(_Layers):
    """The head h that predicts one view's z from the other's, p = h(z): a linear layer, batch-norm, ReLU, a linear
    layer. [N, dim] to [N, dim].

    SimSiam's is a bottleneck of a quarter (Chen & He 2021, section 3: 2048 to 512 to 2048), the default. BYOL's is wide
    (Grill et al. 2020, section 3: 256 to 4096 to 256).
    """

    def __init__(self, dim: int, hidden_dim: int | None = None):
        _check_widths(dim=dim)
        hidden_dim = max(1, dim // 4) if hidden_dim is None else hidden_dim
        _check_widths(hidden_dim=hidden_dim)
        super().__init__(
            nn.Linear(dim, hidden_dim, bias=False),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, dim),
        )


def _check_widths(**widths: int) -> None:
    for name, width in widths.items():
        if not isinstance(width, int) or isinstance(width, bool) or width < 1:
            raise ValueError(f"{name}: expected an integer of at least 1, got {width!r}")
