"""Right and wrong answers to the exercises on encoders and heads."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from answers.edit import edited
from clbook import checks
from clbook.checks.encoders import FIELD_MISTAKES, HEAD_MISTAKES, RESIDUAL_MISTAKES, SIZE_MISTAKES

# --- the size of a feature map ---

SIZE = """
def output_size(size, kernel, stride, padding):
    return (size + 2 * padding - kernel) // stride + 1
"""


def size_by_counting(n, k, s, p):
    return len(range(-p, n + p - k + 1, s))


def size_by_running_it(size, kernel, stride, padding):
    return F.conv1d(torch.zeros(1, 1, size), torch.zeros(1, 1, kernel), stride=stride, padding=padding).shape[-1]


def size_with_math_floor(size, kernel, stride, padding):
    return math.floor((size + 2 * padding - kernel) / stride + 1)


def size_as_tensor(size, kernel, stride, padding):
    return torch.tensor((size + 2 * padding - kernel) // stride + 1)


RIGHT_SIZE = [edited(SIZE), size_by_counting, size_by_running_it, size_with_math_floor, size_as_tensor]

WRONG_SIZE = [
    (edited(SIZE, " + 1"), "one place is missing"),
    (edited(SIZE, "2 * "), "both sides"),
    (edited(SIZE, " + 2 * padding"), "padding is left out"),
    (edited(SIZE, " // stride"), "stride is left out"),
    (edited(SIZE, "//", "/"), "half a place is none"),
    (lambda n, k, s, p: math.ceil((n + 2 * p - k) / s) + 1, "rounded up"),
    (lambda n, k, s, p: round((n + 2 * p - k) / s) + 1, "rounded to the nearest"),
    (edited(SIZE, "kernel) // stride + 1", "kernel + 1) // stride"), "added before dividing"),
    (lambda n, k, s, p: math.ceil(n / s), "size / stride, which holds only"),
    (edited(SIZE, " - kernel"), "9 of 9 cases differ"),
    (edited(SIZE, " - kernel) // stride + 1", ") // stride"), "kernel's own width is missing"),
    (lambda n, k, s, p: 3, "same value whatever"),
    (lambda n, k, s, p: str(n), "of type str, not a tensor"),
    (lambda n, k, s: n, "stops with an error"),
]

# --- the residual block ---

RESIDUAL = """
def block(x, w1, w2):
    y = F.conv2d(x, w1, padding=1)
    y = F.relu(y)
    y = F.conv2d(y, w2, padding=1)
    y = x + y
    return F.relu(y)
"""


def residual_unfolded(x, w1, w2):
    def conv(pictures, weights):
        n, _, rows, columns = pictures.shape
        patches = F.unfold(pictures, 3, padding=1)  # [N, C * 9, H * W]
        return (weights.flatten(1) @ patches).view(n, len(weights), rows, columns)

    return (x + conv(conv(x, w1).clamp_min(0), w2)).clamp_min(0)


def residual_shifted(x, w1, w2):
    def conv(pictures, weights):
        rows, columns = pictures.shape[2:]
        framed = F.pad(pictures, (1, 1, 1, 1))
        return sum(
            torch.einsum("nchw,oc->nohw", framed[:, :, i : i + rows, j : j + columns], weights[:, :, i, j])
            for i in range(3)
            for j in range(3)
        )

    return torch.relu(conv(torch.relu(conv(x, w1)), w2).add(x))


def residual_of_layers(x, w1, w2):
    y = torch.conv2d(x, w1, None, 1, 1)
    y = torch.conv2d(torch.where(y > 0, y, 0), w2, None, 1, 1)
    return nn.ReLU()(y + x)


class Residual(nn.Module):
    def forward(self, x, w1, w2):
        return edited(RESIDUAL)(x.double(), w1.double(), w2.double()).to(x.dtype)


RIGHT_RESIDUAL = [edited(RESIDUAL), residual_unfolded, residual_shifted, residual_of_layers, Residual()]

WRONG_RESIDUAL = [
    (edited(RESIDUAL, "x + y", "y"), "no shortcut"),
    (edited(RESIDUAL, "return F.relu(y)", "return y"), "last ReLU is missing"),
    (edited(RESIDUAL, "    y = x + y\n    return F.relu(y)", "    return x + F.relu(y)"), "ReLU before adding"),
    (edited(RESIDUAL, "x + y", "x + F.relu(y)"), "one ReLU too many"),
    (edited(RESIDUAL, "x + y", "F.relu(x) + y"), "the shortcut goes through a ReLU first"),
    (edited(RESIDUAL, "    y = F.relu(y)\n"), "between the two convolutions is missing"),
    (lambda x, w1, w2: edited(RESIDUAL)(x, w2, w1), "weights are swapped"),
    (edited(RESIDUAL, "conv2d(y, w2", "conv2d(y, w1"), "both convolutions have `w1`"),
    (edited(RESIDUAL, "    y = F.conv2d(y, w2, padding=1)\n"), "only one convolution"),
    (edited(RESIDUAL, "y = F.relu(y)", "y = F.relu(x + y)"), "added after each convolution"),
    (
        edited(RESIDUAL.replace("    y = x + y\n", ""), "y = F.relu(y)", "y = F.relu(x + y)"),
        "round the first convolution alone",
    ),
    (edited(RESIDUAL, "x + y", "x - y"), "sign is wrong"),
    (edited(RESIDUAL, "x + y", "x * y"), "multiplied with F(x)"),
    (edited(RESIDUAL, "padding=1", "padding=0"), "stops with an error in line 3"),
    (edited(RESIDUAL, "padding=1", 'padding="same", stride=1, dilation=2'), "of 7 cases differ, and not in a way"),
    (edited(RESIDUAL, "F.conv2d(x, w1", "F.conv2d(x, w1.flip(2, 3)"), "not in a way that this check knows"),
    (lambda x, w1, w2: edited(RESIDUAL)(x, w1.flip(2, 3), w2.flip(2, 3)), "turned by half a turn"),
    (lambda x, w1, w2: edited(RESIDUAL)(x, w1.transpose(0, 1), w2.transpose(0, 1)), "channels of the weights"),
    (edited(RESIDUAL, "y = x + y", "y = x.add_(y)"), "changed its input `x`"),
    (edited(RESIDUAL, "x + y", "x.detach() + y"), "no gradient flows back to `x`"),
    (edited(RESIDUAL, "w2,", "w2.detach(),"), "no gradient flows back to `w2`"),
    (
        edited(RESIDUAL, "F.relu(y)\n    y = F.conv2d(y, w2", "F.relu(y.detach())\n    y = F.conv2d(y, w2"),
        "no gradient",
    ),
]

# --- the projection head ---

HEAD = """
def head(h, w1, b1, w2, b2):
    y = h @ w1.T + b1
    y = F.relu(y)
    return y @ w2.T + b2
"""


def head_linear(h, w1, b1, w2, b2):
    return F.linear(F.linear(h, w1, b1).clamp(min=0), w2, b2)


def head_einsum(h, w1, b1, w2, b2):
    hidden = torch.einsum("nd,hd->nh", h, w1) + b1
    return torch.einsum("nh,mh->nm", torch.maximum(hidden, torch.zeros_like(hidden)), w2) + b2


def head_loops(h, w1, b1, w2, b2):
    return torch.stack([w2 @ torch.relu(w1 @ row + b1) + b2 for row in h])


def head_of_modules(h, w1, b1, w2, b2):
    layers = nn.Sequential(nn.Linear(*w1.T.shape), nn.ReLU(), nn.Linear(*w2.T.shape)).to(h.dtype)
    weights = {"0.weight": w1, "0.bias": b1, "2.weight": w2, "2.bias": b2}
    return torch.func.functional_call(layers, weights, (h,))


RIGHT_HEAD = [edited(HEAD), head_linear, head_einsum, head_loops, head_of_modules]

WRONG_HEAD = [
    (edited(HEAD, "    y = F.relu(y)\n"), "there is no ReLU"),
    (
        edited(HEAD.replace("    y = F.relu(y)\n", ""), "y @ w2.T + b2", "F.relu(y @ w2.T + b2)"),
        "the ReLU stands at the end",
    ),
    (edited(HEAD, "y @ w2.T + b2", "F.relu(y @ w2.T + b2)"), "nothing comes after the second layer"),
    (edited(HEAD, "h @ w1", "F.relu(h) @ w1"), "h goes into the first layer as it is"),
    (edited(HEAD, "h @ w1", "F.normalize(h) @ w1"), "normalised before the head"),
    (edited(HEAD, "y @ w2.T + b2", "F.normalize(y @ w2.T + b2)"), "z is normalised here already"),
    (edited(HEAD, "F.relu(y)", "F.normalize(F.relu(y))"), "the hidden layer is normalised"),
    (edited(HEAD, ".T", ""), "the weights are transposed"),
    (edited(HEAD, " + b2"), "second bias, b2"),
    (edited(HEAD, " + b1"), "first bias, b1"),
    (edited(HEAD.replace(" + b1", ""), " + b2"), "b1 and b2 are left out"),
    (edited(HEAD, "y @ w2.T + b2", "y"), "the second layer is missing"),
    (edited(HEAD, "F.relu", "torch.sigmoid"), "a sigmoid between"),
    (edited(HEAD, "F.relu", "F.gelu"), "a GELU between"),
    (edited(HEAD, "F.relu", "F.leaky_relu"), "not in a way that this check knows"),
    (
        edited(HEAD, "return y @ w2.T + b2", "y @ w2.T + b2\n    return torch.zeros(len(h), len(w2))"),
        "same value whatever",
    ),
    (edited(HEAD, "y = F.relu(y)", "y = F.relu(y.detach())"), "no gradient flows back to `h`"),
    (edited(HEAD, "return y @ w2.T + b2", "return (y @ w2.T + b2).double()"), "result is torch.float64"),
]

# --- the receptive field ---

FIELD = """
def receptive_field(kernels, strides):
    field, step = 1, 1
    for kernel, stride in zip(kernels.tolist(), strides.tolist()):
        field += (kernel - 1) * step
        step *= stride
    return field
"""


def field_backwards(kernels, strides):
    field = 1
    for kernel, stride in zip(kernels.flip(0), strides.flip(0), strict=True):
        field = (field - 1) * stride + kernel
    return field


def field_as_a_sum(kernels, strides):
    steps = torch.cat([torch.ones(1, dtype=torch.int64), strides.cumprod(0)[:-1]])
    return 1 + ((kernels - 1) * steps).sum()


def field_by_gradient(kernels, strides):
    """Ones everywhere: whichever pixel has a gradient is seen."""
    x = y = torch.zeros(1, 1, 300, requires_grad=True)
    for kernel, stride in zip(kernels.tolist(), strides.tolist(), strict=True):
        y = F.conv1d(y, torch.ones(1, 1, kernel), stride=stride)
    seen = torch.autograd.grad(y[0, 0, 0], x)[0][0, 0].nonzero()
    return int(seen.max() - seen.min()) + 1


RIGHT_FIELD = [edited(FIELD), field_backwards, field_as_a_sum, field_by_gradient]

WRONG_FIELD = [
    (edited(FIELD, "        step *= stride\n"), "the strides are left out"),
    (
        edited(
            FIELD.replace("        step *= stride\n", ""),
            "        field +=",
            "        step *= stride\n        field +=",
        ),
        "comes in too early",
    ),
    (edited(FIELD, "(kernel - 1)", "kernel"), "a kernel of k adds k − 1 steps, not k"),
    (edited(FIELD, "field, step = 1", "field, step = 0"), "one pixel too few"),
    (edited(FIELD.replace("(kernel - 1)", "kernel"), "field, step = 1", "field, step = 0"), "adds the kernels up"),
    (edited(FIELD, "step *= stride", "step = stride"), "only the stride of the layer before"),
    (edited(FIELD, "step *= stride", "step += stride"), "the strides are added"),
    (edited(FIELD, "step *= stride", "step += stride - 1"), "the strides are added"),
    (lambda kernels, strides: edited(FIELD)(kernels.flip(0), strides.flip(0)), "from the last to the first"),
    (lambda kernels, strides: kernels.prod(), "the kernels are multiplied"),
    (lambda kernels, strides: strides.prod(), "product of the strides"),
    (lambda kernels, strides: 7, "same value whatever"),
    (edited(FIELD, "kernel - 1", "kernel + 1"), "not in a way that this check knows"),
    (edited(FIELD, "return field", "return kernels.mul_(2).sum()"), "changed its input `kernels`"),
]


CATALOGUE = {
    checks.check_conv_output_size: (WRONG_SIZE, RIGHT_SIZE, SIZE_MISTAKES),
    checks.check_residual: (WRONG_RESIDUAL, RIGHT_RESIDUAL, RESIDUAL_MISTAKES),
    checks.check_projection_head: (WRONG_HEAD, RIGHT_HEAD, HEAD_MISTAKES),
    checks.check_receptive_field: (WRONG_FIELD, RIGHT_FIELD, FIELD_MISTAKES),
}
