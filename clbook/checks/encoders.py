"""Checks of the parts that encoders are made of."""

from collections.abc import Callable
from functools import partial
from random import Random

import torch
import torch.nn.functional as F

from clbook.checks.exercise import Exercise, Report, judge, random

# --- the size of a feature map ----------------------------------------------------------------------------


def check_conv_output_size(function: Callable, seed: int = 0) -> Report:
    """Check `function(size, kernel, stride, padding)`: the side of what a convolution makes of a picture's side.

    floor((size + 2 padding - kernel) / stride) + 1, a whole number.
    """
    names = "size", "kernel", "stride", "padding"
    exercise = Exercise(
        task="write the function that takes size, kernel, stride and padding and returns the side of the output",
        cases=[
            dict(zip(names, case, strict=True))
            for case in [
                (5, 3, 1, 0),
                (5, 3, 1, 1),
                (8, 3, 2, 1),
                (7, 3, 2, 0),
                (32, 7, 2, 3),
                (10, 4, 3, 2),
                (224, 7, 2, 3),
            ]
        ],
        oracle=_count_places,
        mistakes=SIZE_MISTAKES,
        not_finite="the result is not finite: is something divided by zero?",
        verified="values agree with a kernel laid down place by place in 9 cases, two of them drawn from the seed "
        "(sides from 5 to 224, kernels of 2 to 7, strides 1 to 4, with padding and without).",
        gradients=False,
        number=True,
        fresh=lambda seed: dict(zip(names, _whole(seed, (9, 60), (2, 7), (1, 4), (0, 3)), strict=True)),
    )
    return judge(function, exercise, seed)


def _whole(seed, *ranges):
    """Whole numbers, one from each range, both ends included."""
    draw = Random(seed)
    return [draw.randint(low, high) for low, high in ranges]


def _count_places(size, kernel, stride, padding):
    """Lay the kernel down, move it on by the stride, and count until it sticks out of the padded picture."""
    start, places = -padding, 0
    while start + kernel <= size + padding:
        start, places = start + stride, places + 1
    return torch.tensor(places)


def _size_with(size, kernel, stride, padding, formula):
    return torch.tensor(formula(size, kernel, stride, padding))


SIZE_MISTAKES = [
    (partial(_size_with, formula=formula), sentence)
    for formula, sentence in [
        (
            lambda n, k, s, p: (n + 2 * p - k) // s,
            "one place is missing: the first one counts too, so add 1 at the end.",
        ),
        (lambda n, k, s, p: (n + p - k) // s + 1, "padding stands on both sides of the picture: 2 · padding."),
        (lambda n, k, s, p: (n - k) // s + 1, "the padding is left out: it makes the picture larger on both sides."),
        (lambda n, k, s, p: (n + 2 * p - k) + 1, "the stride is left out: the kernel moves on by `stride` pixels."),
        (
            lambda n, k, s, p: (n + 2 * p - k) / s + 1,
            "half a place is none: round the quotient down, with // for example.",
        ),
        (
            lambda n, k, s, p: -((k - n - 2 * p) // s) + 1,
            "rounded up: a kernel that sticks out is left out, so round down.",
        ),
        (
            lambda n, k, s, p: round((n + 2 * p - k) / s) + 1,
            "rounded to the nearest: a kernel that sticks out is left out.",
        ),
        (
            lambda n, k, s, p: (n + 2 * p - k + 1) // s,
            "the 1 is added before dividing: it is the first place, so add it after.",
        ),
        (
            lambda n, k, s, p: -(-n // s),
            "this is size / stride, which holds only where the padding is (kernel − 1) / 2.",
        ),
        (lambda n, k, s, p: (n + 2 * p) // s, "the kernel's own width is missing: it has to fit into the picture."),
    ]
]

# --- the residual block -----------------------------------------------------------------------------------


def check_residual(function: Callable, seed: int = 0) -> Report:
    """Check `function(x, w1, w2)`: x [N, C, H, W] and weights [C, C, 3, 3] to relu(x + conv(relu(conv(x, w1)), w2)).

    Both convolutions have stride 1 and a zero padding of 1, and no bias.
    """
    corner, centre = torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3)
    corner[..., 0, 0], centre[..., 1, 1] = 2, -1
    exercise = Exercise(
        task="write the function that takes `x` [N, C, H, W] and two weights [C, C, 3, 3] and returns relu(x + F(x))",
        cases=[
            {"x": torch.tensor([[[[1.0, -2], [3, -4]]]]), "w1": centre + 0.5 * corner, "w2": corner + centre},
            {"x": random(1, 1, 1, 4, 3), "w1": random(2, 1, 1, 3, 3), "w2": random(3, 1, 1, 3, 3)},
            {"x": random(4, 2, 2, 4, 5), "w1": random(5, 2, 2, 3, 3), "w2": random(6, 2, 2, 3, 3)},
            {
                "x": random(7, 1, 3, 3, 3, dtype=torch.float64),
                "w1": 0.3 * random(8, 3, 3, 3, 3, dtype=torch.float64),
                "w2": 0.3 * random(9, 3, 3, 3, 3, dtype=torch.float64),
            },
        ],
        edge_cases=[{"x": random(10, 1, 2, 3, 3), "w1": random(11, 2, 2, 3, 3), "w2": torch.zeros(2, 2, 3, 3)}],
        oracle=_residual_loop,
        mistakes=RESIDUAL_MISTAKES,
        not_finite="the result is not finite, though all the inputs are.",
        verified="values and gradients agree with sums written out place by place in 7 cases, two of them drawn from "
        "the seed (C from 1 to 3, pictures from 2 x 2 to 5 x 5, float32 and float64, F(x) = 0 among them), and the "
        "inputs are left as they were.",
        fresh=_fresh_residual,
    )
    return judge(function, exercise, seed)


def _fresh_residual(seed):
    n, c, rows, columns = _whole(seed, (1, 2), (1, 3), (3, 5), (3, 5))
    x = random(seed, n, c, rows, columns)
    return {"x": x, "w1": 0.5 * random(seed + 1, c, c, 3, 3), "w2": 0.5 * random(seed + 2, c, c, 3, 3)}


def _residual_loop(x, w1, w2):
    """The block as printed, every number of a convolution as a sum of its own."""
    hidden = _convolution_loop(x, w1)
    y = x + _convolution_loop(hidden * (hidden > 0), w2)
    return y * (y > 0)


def _convolution_loop(x, w):
    n, _, rows, columns = x.shape
    framed = x.new_zeros(n, x.shape[1], rows + 2, columns + 2)
    framed[:, :, 1:-1, 1:-1] = x
    places = [
        [(framed[a, :, i : i + 3, j : j + 3] * w[c]).sum() for i in range(rows) for j in range(columns)]
        for a in range(n)
        for c in range(len(w))
    ]
    return torch.stack([torch.stack(place) for place in places]).view(n, len(w), rows, columns)


def _conv(x, w):
    return F.conv2d(x, w, padding=1)


def _framed(mode):
    return lambda x, w: F.conv2d(F.pad(x, (1, 1, 1, 1), mode=mode), w)


def _residual_with(x, w1, w2, *, conv=_conv, middle=torch.relu, join=torch.add, end=torch.relu):
    return end(join(x, conv(middle(conv(x, w1)), w2)))


_PADDING = "zeros belong around the picture (padding=1), and yours are "
RESIDUAL_MISTAKES = [
    (
        partial(_residual_with, join=lambda x, f: f),
        "no shortcut: the input x is never added to what the convolutions make.",
    ),
    (partial(_residual_with, end=lambda y: y), "the last ReLU is missing: it comes after the addition."),
    (
        partial(_residual_with, join=lambda x, f: x + f.relu(), end=lambda y: y),
        "ReLU before adding: the last ReLU comes after x has been added, or the block could only ever add.",
    ),
    (
        partial(_residual_with, join=lambda x, f: x + f.relu()),
        "one ReLU too many: nothing stands between the second convolution and the addition.",
    ),
    (
        partial(_residual_with, join=lambda x, f: x.relu() + f),
        "the shortcut goes through a ReLU first: x itself is added, as it came in.",
    ),
    (partial(_residual_with, middle=lambda y: y), "the ReLU between the two convolutions is missing."),
    (lambda x, w1, w2: _residual_with(x, w2, w1), "the weights are swapped: the first convolution has `w1`."),
    (lambda x, w1, w2: _residual_with(x, w1, w1), "both convolutions have `w1`: the second has `w2`."),
    (lambda x, w1, w2: (x + _conv(x, w1).relu()).relu(), "there is only one convolution: the second has `w2`."),
    (
        lambda x, w1, w2: (x + _conv((x + _conv(x, w1)).relu(), w2)).relu(),
        "x is added after each convolution: one shortcut goes round both.",
    ),
    (
        lambda x, w1, w2: _conv((x + _conv(x, w1)).relu(), w2).relu(),
        "the shortcut goes round the first convolution alone: it goes round both.",
    ),
    (partial(_residual_with, join=torch.sub), "the sign is wrong: x + F(x), not x − F(x)."),
    (partial(_residual_with, join=torch.mul), "x is multiplied with F(x): a shortcut is an addition."),
    (partial(_residual_with, conv=_framed("replicate")), _PADDING + "copies of the pixels at the edge."),
    (partial(_residual_with, conv=_framed("circular")), _PADDING + "pixels from the opposite edge."),
    (
        partial(_residual_with, conv=lambda x, w: _conv(x, w.flip(2, 3))),
        "the kernels are turned by half a turn: `conv2d` lays them on as they are.",
    ),
    (
        partial(_residual_with, conv=lambda x, w: _conv(x, w.transpose(0, 1))),
        "the channels of the weights are transposed: [out, in, 3, 3].",
    ),
]

# --- the projection head ----------------------------------------------------------------------------------


def check_projection_head(function: Callable, seed: int = 0) -> Report:
    """Check `function(h, w1, b1, w2, b2)`: features h [N, D] to z = W2 relu(W1 h + b1) + b2, [N, M].

    w1 [H, D], b1 [H], w2 [M, H] and b2 [M] are laid out as in `nn.Linear`.
    """
    exercise = Exercise(
        task="write the function that takes `h` [N, D], `w1`, `b1`, `w2` and `b2` and returns z [N, M]",
        cases=[
            {
                "h": torch.tensor([[1.0, 2], [-1, 3]]),
                "w1": torch.tensor([[1.0, 0.5], [-2, 0.7]]),
                "b1": torch.tensor([0.5, 1]),
                "w2": torch.tensor([[1.0, -2], [3, 0.5]]),
                "b2": torch.tensor([0.2, -4]),
            },
            _head_case(20, 3, 3, 3, 3),
            _head_case(30, 5, 4, 7, 2),
            _head_case(40, 9, 16, 8, 6, dtype=torch.float64),
        ],
        oracle=_head_loop,
        mistakes=HEAD_MISTAKES,
        not_finite="the result is not finite, though all the inputs are: is a vector divided by its length?",
        verified="values and gradients agree with one number after another in 6 cases, two of them drawn from the seed "
        "(N from 2 to 9, D from 2 to 16, float32 and float64), and the inputs are left as they were.",
        fresh=lambda seed: _head_case(seed, *_whole(seed, (2, 6), (2, 8), (2, 8), (2, 6))),
    )
    return judge(function, exercise, seed)


def _head_case(seed, n, d, hidden, m, dtype=torch.float32):
    shapes = {"h": (n, d), "w1": (hidden, d), "b1": (hidden,), "w2": (m, hidden), "b2": (m,)}
    return {name: random(seed + i, *shape, dtype=dtype) for i, (name, shape) in enumerate(shapes.items())}


def _head_loop(h, w1, b1, w2, b2):
    rows = []
    for features in h:
        hidden = [(weights * features).sum() + bias for weights, bias in zip(w1, b1, strict=True)]
        hidden = [value if value > 0 else 0 * value for value in hidden]
        rows += [
            sum(w * v for w, v in zip(weights, hidden, strict=True)) + b for weights, b in zip(w2, b2, strict=True)
        ]
    return torch.stack(rows).view(len(h), len(w2))


def _head_with(h, w1, b1, w2, b2, *, start=lambda h: h, middle=torch.relu, end=lambda z: z, linear=F.linear):
    return end(linear(middle(linear(start(h), w1, b1)), w2, b2))


def _layer_norm(x):
    return F.layer_norm(x, x.shape[1:])


HEAD_MISTAKES = [
    (
        partial(_head_with, middle=lambda y: y),
        "there is no ReLU: two linear layers in a row are one linear layer.",
    ),
    (
        partial(_head_with, middle=lambda y: y, end=torch.relu),
        "the ReLU stands at the end: it belongs between the layers, and z may be negative.",
    ),
    (
        partial(_head_with, end=torch.relu),
        "one ReLU too many: nothing comes after the second layer, z may be negative.",
    ),
    (partial(_head_with, start=torch.relu), "one ReLU too many: h goes into the first layer as it is."),
    (
        partial(_head_with, start=lambda h: F.normalize(h, dim=1)),
        "h is normalised before the head: the head takes h as it is, and the loss normalises z, after it.",
    ),
    (
        partial(_head_with, end=lambda z: F.normalize(z, dim=1)),
        "z is normalised here already: its cosines are taken by the loss, so leave z as it is.",
    ),
    (
        partial(_head_with, middle=lambda y: F.normalize(y.relu(), dim=1)),
        "the hidden layer is normalised: a ReLU is all.",
    ),
    (partial(_head_with, middle=lambda y: _layer_norm(y).relu()), "the hidden layer is normalised: a ReLU is all."),
    (
        partial(_head_with, linear=lambda x, w, b: x @ w + b),
        "the weights are transposed: as in `nn.Linear` they are [out, in], so it is h @ w.T.",
    ),
    (partial(_head_with, linear=lambda x, w, b: x @ w.T), "the biases b1 and b2 are left out."),
    (lambda h, w1, b1, w2, b2: F.linear(F.linear(h, w1, b1).relu(), w2), "the second bias, b2, is left out."),
    (lambda h, w1, b1, w2, b2: F.linear(F.linear(h, w1).relu(), w2, b2), "the first bias, b1, is left out."),
    (lambda h, w1, b1, w2, b2: F.linear(h, w1, b1).relu(), "this is the hidden layer: the second layer is missing."),
    (partial(_head_with, middle=torch.sigmoid), "this is a sigmoid between the layers: a ReLU is wanted."),
    (partial(_head_with, middle=torch.tanh), "this is a tanh between the layers: a ReLU is wanted."),
    (partial(_head_with, middle=F.gelu), "this is a GELU between the layers: a ReLU is wanted."),
]

# --- the receptive field ----------------------------------------------------------------------------------


def check_receptive_field(function: Callable, seed: int = 0) -> Report:
    """Check `function(kernels, strides)`: int64 [L] each, first layer first, to the side of the receptive field.

    In pixels of the picture, padding included; a layer of kernel 1 and stride 1 leaves it as it is.
    """
    layers = [
        ([3], [1]),
        ([3, 3], [1, 1]),
        ([3, 3], [2, 1]),
        ([7, 3], [2, 2]),
        ([3, 1, 3], [2, 2, 2]),
        ([7, 3, 3, 3, 3], [2, 2, 1, 1, 2]),
        ([4, 2, 5, 3], [3, 1, 2, 2]),
    ]
    exercise = Exercise(
        task="write the function that takes `kernels` and `strides`, int64 [L] each, and returns the receptive field",
        cases=[{"kernels": torch.tensor(kernels), "strides": torch.tensor(strides)} for kernels, strides in layers],
        oracle=_trace_back,
        mistakes=FIELD_MISTAKES,
        not_finite="the result is not finite: nothing needs to be divided here.",
        verified="values agree with the pixels traced back from one place, layer by layer, in 9 cases, two of them "
        "drawn from the seed (1 to 5 layers, kernels of 1 to 7, strides of 1 to 3), and the inputs are left as they "
        "were.",
        gradients=False,
        number=True,
        fresh=_fresh_layers,
    )
    return judge(function, exercise, seed)


def _fresh_layers(seed):
    """Two to four layers."""
    [count] = _whole(seed, (2, 4))
    kernels, strides = _whole(seed + 1, *[(2, 5)] * count), _whole(seed + 2, *[(1, 3)] * count)
    return {"kernels": torch.tensor(kernels), "strides": torch.tensor(strides)}


def _trace_back(kernels, strides):
    """Which pixels reach place 0? From the last layer to the first, place i is made of i·s … i·s + k − 1."""
    seen = {0}
    for kernel, stride in list(zip(kernels.tolist(), strides.tolist(), strict=True))[::-1]:
        seen = {place * stride + offset for place in seen for offset in range(kernel)}
    return torch.tensor(max(seen) - min(seen) + 1)


def _field_with(
    kernels, strides, *, first=1, grow=lambda k, jump: (k - 1) * jump, move=lambda jump, s: jump * s, early=False
):
    field, jump = first, 1
    for kernel, stride in zip(kernels.tolist(), strides.tolist(), strict=True):
        later = move(jump, stride)
        field, jump = field + grow(kernel, later if early else jump), later
    return torch.tensor(field)


FIELD_MISTAKES = [
    (
        partial(_field_with, move=lambda jump, s: jump),
        "the strides are left out: after a stride of 2 a step is 2 pixels wide.",
    ),
    (
        partial(_field_with, early=True),
        "a layer's own stride comes in too early: it widens the steps of the layers after it.",
    ),
    (
        partial(_field_with, grow=lambda k, jump: k * jump),
        "a kernel of k adds k − 1 steps, not k: one place is there already.",
    ),
    (partial(_field_with, first=0), "one pixel too few: before the first layer a place sees 1 pixel, itself."),
    (
        partial(_field_with, first=0, grow=lambda k, jump: k * jump),
        "this adds the kernels up: a kernel of k adds k − 1 steps.",
    ),
    (
        partial(_field_with, move=lambda jump, s: s),
        "only the stride of the layer before counts here: multiply all strides so far.",
    ),
    (
        partial(_field_with, move=lambda jump, s: jump + s),
        "the strides are added: each multiplies the width of a step.",
    ),
    (
        partial(_field_with, move=lambda jump, s: jump + s - 1),
        "the strides are added: each multiplies the width of a step.",
    ),
    (
        lambda kernels, strides: _field_with(kernels.flip(0), strides.flip(0)),
        "the layers are taken from the last to the first, with the rule for going from the first to the last.",
    ),
    (lambda kernels, strides: kernels.prod(), "the kernels are multiplied: each adds (k − 1) steps."),
    (
        lambda kernels, strides: strides.prod(),
        "this is the product of the strides: the width of a step, not what a place sees.",
    ),
]
