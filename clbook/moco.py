"""The state of MoCo (He et al. 2020): a queue of negatives, and an encoder that follows another slowly.

One training step, so that no key meets itself as a negative:

    q = encoder(view1)                                        # [N, D]; here the encoder includes its head
    k = key_encoder(view2)                                    # [N, D], without gradient
    loss = info_nce(q, k, queue.negatives(), temperature=t)
    loss.backward(); optimizer.step()
    key_encoder.update(encoder)
    queue.enqueue(k)                                          # last; if the loss is symmetric, after both its halves
"""

import copy
import numbers

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NegativeQueue(nn.Module):
    """The last K keys, first in, first out. Only `enqueue` changes it.

    At first its rows are random unit vectors, so the loss *rises* while harder, real keys replace them (`filled` tells
    how many have). Keys, place and count are buffers: the state dict holds them, and a run that is resumed goes on
    exactly.

    Args:
        size: K, the number of keys. It need not be a multiple of the batch.
        dim: D.
        seed: of the first noise. torch's own random numbers are left alone.
    """

    def __init__(self, size: int, dim: int, *, seed: int = 0):
        super().__init__()
        _check_counts(size=size, dim=dim)
        if type(seed) is not int:
            raise TypeError(f"seed: expected an integer, got {seed!r}")
        noise = torch.randn(size, dim, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("keys", F.normalize(noise, dim=1))  # [K, D]
        self.register_buffer("pointer", torch.tensor(0))  # the row that is written next
        self.register_buffer("count", torch.tensor(0))

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Write keys over the oldest rows, as unit vectors and without gradient.

        Args:
            keys: [B, D], 1 <= B <= K, any floating-point type.

        Raises:
            ValueError: not [B, D], B not in 1 to K, another device, NaN or infinity (on the CPU).
            TypeError: not floating point.
        """
        size, dim = self.keys.shape
        if not isinstance(keys, Tensor) or not keys.is_floating_point():
            got = getattr(keys, "dtype", type(keys).__name__)
            raise TypeError(f"keys: expected a floating-point tensor [B, {dim}], got {got}")
        if keys.ndim != 2 or keys.shape[1] != dim or not 1 <= len(keys) <= size:
            raise ValueError(f"keys: expected [B, {dim}] with B from 1 to the queue's {size}, got {list(keys.shape)}. "
                             "For a larger batch make a larger queue")  # fmt: skip
        if keys.device != self.keys.device:
            raise ValueError(f"keys: expected them where the queue is, {self.keys.device}, got {keys.device}. "
                             "Move the queue with queue.to(device)")  # fmt: skip
        if keys.device.type == "cpu" and not keys.isfinite().all():
            raise ValueError("keys: expected finite numbers, got NaN or infinity. Look at the step before this one")
        rows = (self.pointer + torch.arange(len(keys), device=keys.device)) % size  # [B], beyond the end from 0 on
        # Half precision has no room for the norm, and its zeros normalize to NaN.
        self.keys[rows] = F.normalize(keys.to(torch.promote_types(keys.dtype, torch.float32)), dim=1).to(
            self.keys.dtype
        )
        self.pointer.add_(len(keys)).remainder_(size)
        self.count.add_(len(keys)).clamp_(max=size)

    def negatives(self) -> Tensor:
        """All K rows, [K, D]: a copy, so that a later `enqueue` changes neither the loss nor its gradient."""
        return self.keys.clone()

    def ages(self) -> Tensor:
        """How many keys came after each row, [K]: 0 is the newest, K - 1 goes next. From age `filled` on: noise."""
        return (self.pointer - 1 - torch.arange(len(self.keys), device=self.keys.device)) % len(self.keys)

    @property
    def filled(self) -> int:
        """How many rows are real keys, 0 to K."""
        return int(self.count)


class MomentumEncoder(nn.Module):
    """A copy of an encoder that follows it slowly: after each step  theta_k <- m theta_k + (1 - m) theta_q.

    He et al. 2020, section 3.2. m is a memory of about 1 / (1 - m) steps: 0.999 suits long runs, 0.99 short ones.

    The copy's weights are buffers, no parameters. So no optimizer, weight decay or `requires_grad_()` can reach them,
    and its output never has a gradient. The state dict of `.encoder` loads into an encoder of the original class.

    The buffers that the encoder itself has follow too: floating-point ones (batch-norm's running mean and variance) are
    averaged as weights are, integers copied. MoCo's code leaves them to the key encoder's own forward passes, which
    works in training mode only. Here those count as well, and in evaluation mode the statistics don't go stale.

    Args:
        encoder: what to copy, with its head: all that turns a view into a key.
        momentum: m in [0, 1]; 1 never moves, 0 copies. It may be changed during training (`.momentum`).
    """

    def __init__(self, encoder: nn.Module, momentum: float):
        super().__init__()
        _check_module("encoder", encoder)
        _check_momentum(momentum)
        self.momentum = momentum
        self.encoder = copy.deepcopy(encoder)
        self.training = encoder.training
        weights = {weight: weight.detach() for weight in self.encoder.parameters()}  # a shared one stays shared
        for module in self.encoder.modules():
            for name, weight in list(module._parameters.items()):
                delattr(module, name)
                module.register_buffer(name, weights.get(weight))  # None stays None

    @torch.no_grad()
    def forward(self, *inputs) -> Tensor:
        """The keys of a batch, without gradient. This doesn't move the weights: `update` does."""
        return self.encoder(*inputs)

    @torch.no_grad()
    def update(self, encoder: nn.Module) -> None:
        """One step towards `encoder`. Call it once after each of the optimizer's.

        Raises:
            ValueError: an encoder of another structure, type or device; momentum outside [0, 1].
            TypeError: a momentum that isn't a plain number.
        """
        _check_module("encoder", encoder)
        _check_momentum(self.momentum)
        source = dict(encoder.named_parameters(remove_duplicate=False))
        source |= dict(encoder.named_buffers(remove_duplicate=False))
        own = dict(self.encoder.named_buffers(remove_duplicate=False))
        different = sorted(name for name in own.keys() | source.keys() if _kind(own, name) != _kind(source, name))
        if different:
            name = different[0]
            raise ValueError(f"encoder: expected what was copied, with {name} {_kind(own, name)}, got "
                             f"{_kind(source, name)}. Give it the encoder it is a copy of, on its device")  # fmt: skip
        for name, average in self.encoder.named_buffers():
            if average.is_floating_point():
                average.lerp_(source[name], 1 - self.momentum)
            else:
                average.copy_(source[name])


class SplitBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch-norm in `splits` parts of the batch, each with its own mean and variance, as on that many GPUs.

    [N, C, ...] to the same. Row i belongs to part i mod splits. In evaluation mode it is ordinary batch-norm. The
    running statistics take the mean over the parts, as in the notebook of MoCo's authors.

    Raises:
        ValueError: a batch that splits doesn't divide, or of another C; num_features or splits below 1.
        TypeError: a batch that isn't floating point.
    """

    def __init__(self, num_features: int, splits: int, **options):
        _check_counts(num_features=num_features, splits=splits)
        super().__init__(num_features, **options)
        self.splits = splits

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, splits={self.splits}"

    def _check_input_dim(self, x: Tensor) -> None:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(f"expected a floating-point batch [N, C, ...], got {getattr(x, 'dtype', type(x).__name__)}")
        if x.ndim < 2 or x.shape[1] != self.num_features or (self.training and (len(x) % self.splits or not len(x))):
            raise ValueError(f"expected a batch [N, C, ...] with C = {self.num_features}, N a multiple of "
                             f"{self.splits} splits, got {list(x.shape)}. Drop the last, smaller batch, or choose "
                             "other splits")  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        self._check_input_dim(x)
        if not self.training:
            return super().forward(x)
        statistics = self.running_mean, self.running_var
        wide = [None if s is None else s.repeat(self.splits) for s in (*statistics, self.weight, self.bias)]  # [S C]
        y = x.reshape(-1, self.splits * x.shape[1], *x.shape[2:])  # [N / S, S C, ...]: the parts as channels
        y = F.batch_norm(y, *wide, True, self._rate(), self.eps).reshape(x.shape)
        for running, parts in zip(statistics, wide, strict=False):
            if running is not None:
                running.copy_(parts.view(self.splits, -1).mean(0))
        return y

    def _rate(self) -> float:
        """The weight of the newest statistics: torch's `momentum`, or with None the one of a plain mean."""
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        if self.momentum is None:
            return 0.0 if self.num_batches_tracked is None else 1 / int(self.num_batches_tracked)
        return self.momentum


def split_batch_norm(module: nn.Module, splits: int) -> nn.Module:
    """Make every batch-norm of a module a `SplitBatchNorm`, in place, with the same weights; returns the module.

    Batch-norm lets the pictures of a batch know of each other. A query and its key that were normalized beside the same
    pictures share that, and the loss falls without anything being learned (He et al. 2020, section 3.3). On one device
    it takes split batches to see it, and then `encode_shuffled` to mend it: one undivided batch is the same, shuffled.

    Raises:
        ValueError: splits below 1, or a module without batch-norm.
        TypeError: not a module.
    """
    _check_module("module", module)
    _check_counts(splits=splits)
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if isinstance(module, kinds):
        return _split(module, splits)
    found = [(part, name) for part in module.modules() for name, child in part.named_children()
             if isinstance(child, kinds)]  # fmt: skip
    if not found:
        raise ValueError(f"module: expected one with batch-norm, got {type(module).__name__} without any")
    for part, name in found:
        setattr(part, name, _split(getattr(part, name), splits))
    return module


def _split(norm: nn.Module, splits: int) -> SplitBatchNorm:
    new = SplitBatchNorm(norm.num_features, splits, eps=norm.eps, momentum=norm.momentum, affine=norm.affine,
                         track_running_stats=norm.track_running_stats)  # fmt: skip
    new._parameters, new._buffers, new.training = norm._parameters, norm._buffers, norm.training
    return new


def encode_shuffled(encoder: nn.Module, images: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """encoder(images) with the batch in a random order on the way through (MoCo's shuffled batch-norm): [N, ...].

    With `SplitBatchNorm` a key is so normalized beside other pictures than its query was.
    """
    if not isinstance(images, Tensor) or images.ndim == 0 or len(images) == 0:
        got = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"images: expected a batch [N, ...], N > 0, got {got}")
    home = images.device if generator is None else generator.device
    order = torch.randperm(len(images), generator=generator, device=home).to(images.device)  # [N]
    return encoder(images[order])[order.argsort()]


def _kind(tensors: dict[str, Tensor], name: str) -> str:
    tensor = tensors.get(name)
    return "absent" if tensor is None else f"{list(tensor.shape)} {tensor.dtype} on {tensor.device}"


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{name}: expected an integer of at least 1, got {value!r}")


def _check_module(name: str, module: nn.Module) -> None:
    if not isinstance(module, nn.Module):
        raise TypeError(f"{name}: expected a torch.nn.Module, got {type(module).__name__}")


def _check_momentum(momentum: float) -> None:
    if not isinstance(momentum, numbers.Real) or isinstance(momentum, bool):
        raise TypeError(f"momentum: expected a plain number from 0 to 1, got a {type(momentum).__name__}")
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum: expected a number from 0 to 1 (0.99 to 0.999 is usual), got {momentum}")
