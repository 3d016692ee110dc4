"""Several processes, each with its share of every batch, that together take the step of one.

    torchrun --nproc-per-node 2 -m -- clbook train --batch-size 512 ...      # 256 pictures a process

(Without the `--` torchrun takes our `--run` and `--n` for abbreviations of its own options. Told to stop, it kills what
hasn't ended after 30 seconds, `--shutdown-timeout`: the checkpoint is saved by then, the report perhaps not.)

Rank r of W computes its rows r N/W ... (r + 1) N/W - 1 of a batch of N. What needs the others' rows asks for them with
`gather`. Here is why the gradients are those of one process on the joined batch, scale included, which is where
implementations differ (open_clip #616):

    - Let L be the loss of the joined batch and L_r what rank r computes. The L_r must have L as their mean: each is L
      (NT-Xent of all gathered rows), or the mean over the rank's own rows (InfoNCE with a queue).
    - `gather` passes back, to each rank, the sum over ranks of the gradient of its rows. So after `backward` on all
      ranks the gradients of rank r are its share of that of  L_0 + ... + L_(W-1) = W L.
    - The mean over ranks of those, which `average_gradients` takes and DistributedDataParallel too, is that of L.

A gather without gradient (`torch.distributed.all_gather`; lightly #1528) leaves out what a row does as a negative of
others; one that passes back only the rank's own gradient leaves out the same where each rank has its own anchors, and
is too small by a factor W where each has all.

Without a group all functions here do nothing, or return what they were given.

**What listens.** torchrun opens ports by which its processes find each other (two, of random numbers, on one machine;
`--master-port` on several) on *all* interfaces, whatever `--master-addr` says, and they ask for no password. Keep
others out by a firewall, or on one machine, with Linux, by a network of its own:

    unshare --net --map-root-user sh -c 'ip link set lo up; exec torchrun ...'

or start the processes yourself, each in `group(rank, world_size, file)`: they meet in a file. Gloo's own connections
stay on the loopback interface where all processes are on one machine; GLOO_SOCKET_IFNAME chooses another, and
NCCL_SOCKET_IFNAME that of NCCL.
"""

import importlib
import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what it tells each process


@contextmanager
def group(rank: int | None = None, world_size: int | None = None, file: str | Path | None = None, *,
          minutes: float = 30) -> Iterator[None]:  # fmt: skip
    """Be one process of a group while a `with` block lasts.

    Without arguments: of torchrun's processes, one GPU each where there are any; no group if torchrun hasn't started
    this process, or no other. Else of `world_size` processes that meet in a file.

    Args:
        rank: 0 to world_size - 1, another one in each process.
        world_size: W, the number of processes.
        file: where they meet; it must not exist, and is the same for all.
        minutes: > 0; a process that is silent for so long is given up.

    Raises:
        ValueError: only some of rank, world_size and file, or a rank out of range; minutes not positive.
        ConnectionError: the others didn't come.
    """
    given = (rank, world_size, file)
    if any(x is None for x in given) and any(x is not None for x in given):
        raise ValueError(f"group: expected rank, world_size and file, or none of them, got {given}")
    if file is not None and not (type(rank) is type(world_size) is int and 0 <= rank < world_size):
        raise ValueError(f"rank: expected an integer from 0 to below world_size, got {rank!r} of {world_size!r}")
    if not isinstance(minutes, int | float) or isinstance(minutes, bool) or not 0 < minutes < 1e6:
        raise ValueError(f"minutes: expected a number > 0, got {minutes!r}")
    if file is None and (any(name not in os.environ for name in _TORCHRUN) or os.environ["WORLD_SIZE"] == "1"):
        yield
        return
    _start(rank, world_size, file, timedelta(minutes=minutes))
    try:
        yield
    except BaseException:
        if "nccl" not in str(distributed.get_backend_config()):  # NCCL waits there for what the others never end
            distributed.destroy_process_group()
        raise
    distributed.destroy_process_group()


def _start(rank: int | None, world_size: int | None, file: str | Path | None, timeout: timedelta) -> None:
    if os.name == "posix" and (file or os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]):
        loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0]) if loopback else None
    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank or 0)) % gpus)
    backend = "cpu:gloo,cuda:nccl" if gpus and distributed.is_nccl_available() else "gloo"
    # Imported later, which the first optimizer does, its functions take the group for their default argument. It and
    # its threads then outlive `group`, and one that lets go of a tensor while Python ends aborts the process.
    importlib.import_module("torch.distributed.nn.functional")
    with _together():
        place = {"rank": rank, "world_size": world_size} if file else {}
        if file:  # not as an address, of which torch takes "%20" for a part of the name
            place["store"] = distributed.FileStore(str(Path(file).absolute()), world_size)
        distributed.init_process_group(backend, timeout=timeout, **place)


@contextmanager
def _together() -> Iterator[None]:
    """An exchange that all ranks take part in."""
    try:
        yield
    except RuntimeError as error:
        said = str(error).strip()  # of gloo's, what follows the line of its code; NCCL's reason is in its last line
        reason = said.splitlines()[-1] if "NCCL" in said else re.sub(r"^\[\S+\] ", "", said).partition(". ")[0]
        raise ConnectionError(f"rank {rank()}: expected all processes of the run to go on, one is gone or silent "
                              f"({reason:.120}). Its own message, if any, says why; then start all again, "
                              "from the last checkpoint with --resume") from error  # fmt: skip


def rank() -> int:
    """Which of the processes this is, 0 to `world_size()` - 1; 0 without a group."""
    return distributed.get_rank() if _grouped() else 0


def world_size() -> int:
    """W, the number of processes; 1 without a group."""
    return distributed.get_world_size() if _grouped() else 1


def is_writer() -> bool:
    """Whether this is the process that evaluates, writes files and shows progress: rank 0."""
    return rank() == 0


def _grouped() -> bool:
    return distributed.is_available() and distributed.is_initialized()


# --- tensors ---


def gather(tensor: Tensor) -> Tensor:
    """The rows of all ranks, in the order of the ranks, on each of them; with gradient.

    On the way back each rank gets, for its own rows, the sum over ranks of the gradient (the module says why).

    Args:
        tensor: [N, ...], of one shape and type on all ranks (not checked: that would be another exchange). All ranks
            must call this, and go back through it, equally often and in the same order.

    Returns:
        [W N, ...]. Without a group: the tensor itself.

    Raises:
        TypeError: no tensor.
        ValueError: a tensor without rows to join.
        ConnectionError: another process is gone, or silent for longer than the group waits.
    """
    _check_rows(tensor)
    return tensor if world_size() == 1 else _Gather.apply(tensor)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(world_size())]
        with _together():
            distributed.all_gather(parts, x)
        return torch.cat(parts)  # [W N, ...]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        wide = torch.promote_types(grad.dtype, torch.float32)  # half precision has no room for a sum
        total = grad.to(wide, copy=True, memory_format=torch.contiguous_format)
        with _together():
            distributed.all_reduce(total)
        return share(total).to(grad.dtype)  # [N, ...]


def share(rows: Tensor) -> Tensor:
    """This rank's part of the rows, [N, ...] to [N / W, ...]: what `gather` puts together again.

    Raises:
        TypeError: no tensor.
        ValueError: N is no multiple of W.
    """
    _check_rows(rows)
    if len(rows) % world_size():
        raise ValueError(f"rows: expected a multiple of {world_size()}, the number of processes, got {len(rows)}")
    size = len(rows) // world_size()
    return rows if world_size() == 1 else rows[rank() * size : (rank() + 1) * size]


def any_rank(*flags: bool) -> list[bool]:
    """For each flag, whether it is true on any rank; the same answer on all."""
    if world_size() == 1:
        return [bool(flag) for flag in flags]
    votes = torch.tensor([bool(flag) for flag in flags], dtype=torch.int32)
    with _together():
        distributed.all_reduce(votes, distributed.ReduceOp.MAX)
    return [bool(vote) for vote in votes]


def writers(value: float) -> float:
    """The writer's value, on all ranks: of a clock, say."""
    if world_size() == 1:
        return value
    told = torch.tensor(value, dtype=torch.float64)
    with _together():
        distributed.broadcast(told, 0)
    return told.item()


@contextmanager
def writer_first() -> Iterator[None]:
    """The block runs on rank 0 first, then on the others: what it downloads or keeps on disk is there for them."""
    if not is_writer():
        any_rank(False)  # waits for rank 0; an exchange of nothing would wait for nobody
    try:
        yield
    finally:
        if is_writer():
            any_rank(False)


# --- models ---


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its mean over ranks; a parameter without one is left out, on all ranks alike.

    One exchange after `backward`. DistributedDataParallel does the same while `backward` still runs, but wants to be
    the module that is called, and what we call is a method's `loss`.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if world_size() == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    with _together():
        distributed.all_reduce(flat)
    for gradient, mean in zip(gradients, (flat / world_size()).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def replicate(module: nn.Module) -> None:
    """Make a module one model over all ranks, in place: rank 0's weights and buffers everywhere, and each batch-norm
    (torch's classes) one over the rows of all ranks: on GPUs torch's nn.SyncBatchNorm, which refuses CPUs, elsewhere
    our own. (torch's lets the host wait for the GPU in each layer.) Without a group nothing happens.

    Raises:
        TypeError: not a module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    if world_size() == 1:
        return
    for tensor in (*module.parameters(), *module.buffers()):
        told = tensor.detach().contiguous()
        with _together():
            distributed.broadcast(told, 0)
        tensor.detach().copy_(told)
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    found = [(part, name) for part in module.modules() for name, child in part.named_children() if type(child) in kinds]
    for part, name in found:
        on_gpu = next(module.parameters()).is_cuda
        setattr(part, name, _synchronized(getattr(part, name), nn.SyncBatchNorm if on_gpu else SyncBatchNorm))


def _synchronized(norm: nn.Module, kind: type) -> nn.Module:
    new = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    # Taken over as they are: a momentum encoder's weights are buffers, which torch's own conversion stumbles over.
    new._parameters, new._buffers, new.training = norm._parameters, norm._buffers, norm.training
    return new


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch-norm over the rows of all ranks, made of `gather`: [N, C, ...] to the same, N the same on all ranks.

    In evaluation mode it is ordinary batch-norm, and needs no other rank.

    Raises:
        ValueError: a batch of another C.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        if x.ndim < 2 or x.shape[1] != self.num_features:
            raise ValueError(f"x: expected a batch [N, C, ...] with C = {self.num_features}, got {list(x.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        self._check_input_dim(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        var, mean = torch.var_mean(wide, [0, *range(2, x.ndim)], correction=0)  # [C], of this rank's rows
        means, variances = gather(torch.stack([mean, var])[None]).unbind(1)  # [W, C]
        mean, var = means.mean(0), variances.mean(0) + means.var(0, correction=0)  # [C], of all: within plus between
        self._follow(mean.detach(), var.detach(), world_size() * x.numel() // x.shape[1])
        scale = (var + self.eps).rsqrt() * (1 if self.weight is None else self.weight)  # [C]
        shift = (0 if self.bias is None else self.bias) - mean * scale  # [C]
        shape = (-1, *[1] * (x.ndim - 2))
        return torch.addcmul(shift.view(shape), wide, scale.view(shape)).to(x.dtype)

    def _follow(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics, as nn.BatchNorm does: by the variance without bias."""
        if not self.track_running_stats:
            return
        self.num_batches_tracked.add_(1)
        rate = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        self.running_var.lerp_((var * count / max(1, count - 1)).to(self.running_var.dtype), rate)


def _check_rows(rows: Tensor) -> None:
    if not isinstance(rows, Tensor):
        raise TypeError(f"rows: expected a tensor [N, ...], got {type(rows).__name__}")
    if rows.ndim == 0:
        raise ValueError("rows: expected a tensor [N, ...], got one number; give it a dimension with tensor[None]")
