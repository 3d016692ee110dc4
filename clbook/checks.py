"""Checks of a learner's functions: is it right, and if not, which mistake is it?

`check_<thing>(function)` tries the function on small and larger cases and gives back a `Report`, which a
lesson shows and a lab asks to `.require()`. A check never raises because of what the learner wrote.

Each check is one `Exercise`: cases, an oracle (the printed equation as a naive float64 loop that shares no
code with clbook's own functions), and the mistakes people really make, each as a working wrong implementation
with the sentence that names it. A learner whose values equal a mistake's values is told its sentence.
"""

import html
import inspect
import re
import sysconfig
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

RIGHT, NOT_YET, NOT_STARTED = "Right", "Not yet", "Not started"
SYMBOLS = {RIGHT: "✓", NOT_YET: "✗", NOT_STARTED: "○"}
TOLERANCE = 1e-4  # float32 at τ = 0.01 is good to about 1e-5; the mistakes are far beyond this
SHOWN = 12  # a tensor of up to this many numbers is printed in full


class CheckFailed(AssertionError):
    """Raised by `Report.require()`; its text is the report's message."""


@dataclass(frozen=True, repr=False)
class Report:
    """What a check found. It shows itself in Jupyter, in the same words each time.

    `verdict` is "Right", "Not yet" or "Not started". `text` is plain sentences, then, after an empty line,
    what was tried, expected and found, if something differs.
    """

    verdict: str
    text: str

    @property
    def passed(self) -> bool:
        return self.verdict == RIGHT

    @property
    def message(self) -> str:
        return f"{self.verdict}: {self.text}"

    def require(self) -> "Report":
        """Return the report if the check passed; raise `CheckFailed` with the same message if not."""
        if not self.passed:
            raise CheckFailed(self.message)
        return self

    def __bool__(self) -> bool:  # so that a bare `assert check_…(f)` can't pass by accident
        return self.passed

    def __repr__(self) -> str:
        return f"{SYMBOLS[self.verdict]} {self.message}"

    def _repr_html_(self) -> str:
        sentences, _, details = html.escape(self.text, quote=False).partition("\n\n")
        symbol = f'<span aria-hidden="true">{SYMBOLS[self.verdict]}</span>'
        body = f"<div><strong>{symbol} {self.verdict}:</strong> {sentences}</div>"
        body += f"<pre>{details}</pre>" if details else ""
        return f'<div style="border-left: 3px solid; padding-left: 0.8em">{body}</div>'


@dataclass(frozen=True)
class Exercise:
    """All that one check knows. A case is the arguments by name: tensors of one dtype first, then numbers."""

    task: str  # what to write
    cases: list[dict]  # smallest first
    oracle: Callable
    mistakes: list[tuple[Callable, str]]  # finite wherever a learner's version of the mistake can be
    not_finite: str  # the diagnosis when the only wrong values are NaN or infinite
    verified: str
    edge_cases: list[dict] = field(default_factory=list)  # values only: gradients are not defined there


class _Stop(Exception):
    """The learner's function can't be judged any further, and why."""

    def __init__(self, text: str, verdict: str = NOT_YET):
        self.report = Report(verdict, text)


def _check(function: Callable, exercise: Exercise) -> Report:
    if function is None or function is ...:
        return Report(NOT_STARTED, f"{exercise.task}.")
    if not callable(function):
        kind = type(function).__name__
        return Report(NOT_YET, f"the check needs your function itself, not called; it was given a {kind}.")
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # a learner's warning would come once for every case
        try:
            _judge(function, exercise)
        except _Stop as stop:
            return stop.report
    return Report(RIGHT, exercise.verified)


def _judge(function: Callable, exercise: Exercise) -> None:
    """Raise `_Stop` unless values, dtypes and gradients are right, and the inputs untouched."""
    cases, results, stop = exercise.cases + exercise.edge_cases, [], None
    for case in cases:
        try:
            results.append(_call(function, _copy(case), case, exercise).detach().cpu().clone())
        except _Stop as stopped:  # later: the values before this point may say more than the error does
            stop = stopped
            break
    expected = [exercise.oracle(**_copy(case, torch.float64)) for case in cases[: len(results)]]
    wrong = [i for i, result in enumerate(results) if not _close(result, expected[i])]
    if wrong:
        diagnosis, i = _diagnose(exercise, cases, results, wrong), wrong[0]
        raise _Stop(diagnosis + _show_difference(cases[i], results[i], expected[i]))
    if stop:
        raise stop
    for case, result in zip(cases, results, strict=True):
        wanted = next(iter(case.values())).dtype
        if result.dtype != wanted:
            raise _Stop(
                f"the values are right, but your result is {result.dtype} where the inputs are {wanted}. "
                "Give new tensors the inputs' dtype, or convert at the end with `.to(...)`."
            )
    for case in exercise.cases:
        _judge_gradients(function, case, exercise)


def _tensors(case: dict) -> dict:
    return {name: value for name, value in case.items() if isinstance(value, torch.Tensor)}


def _copy(case: dict, dtype: torch.dtype | None = None, requires_grad: bool = False) -> dict:
    """Arguments to give away: what a function does to them never reaches the case."""
    copies = {name: x.to(dtype or x.dtype, copy=True) for name, x in _tensors(case).items()}
    return case | {name: x.requires_grad_(requires_grad) for name, x in copies.items()}


def _call(function: Callable, arguments: dict, case: dict, exercise: Exercise) -> torch.Tensor:
    """What the learner's function returns for these arguments, a copy of the case."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some built-in functions have no signature
        parameters = {}
    # Numbers go by name where the function has that name, since clbook's own are keyword-only.
    named = {name: arguments[name] for name in case if name in parameters and name not in _tensors(case)}
    try:
        result = function(*(arguments[name] for name in case if name not in named), **named)
    except NotImplementedError:
        result = None
    except (Exception, SystemExit) as error:
        raise _stop_for_error(error, case, exercise) from None
    if result is None or result is ... or result is NotImplemented:
        nothing = "Nothing is returned yet (a missing `return` looks the same)."
        raise _Stop(f"{exercise.task}. {nothing}", NOT_STARTED)
    for name, original in _tensors(case).items():
        if not torch.equal(arguments[name].detach(), original):
            raise _Stop(
                f"your function changed its input `{name}`, which belongs to the caller. Make a new tensor: "
                "`x = x / y`, not `x /= y`, and no method whose name ends in `_`."
            )
    if not isinstance(result, torch.Tensor):
        kind = type(result).__name__
        raise _Stop(f"your function returned a thing of type {kind}, not a tensor: no `.item()`, no `.numpy()`.")
    if not result.is_floating_point() or result.layout != torch.strided or result.is_nested or result.is_meta:
        kind = f"{result.dtype}, {result.layout}, {result.device}"
        raise _Stop(f"your function returned an unusual tensor ({kind}), not plain floating-point numbers.")
    return result


def _stop_for_error(error: BaseException, case: dict, exercise: Exercise) -> _Stop:
    line = _learners_line(error)
    if line and "ellipsis" in _show_error(error):
        return _Stop(f"{exercise.task}. There is still a `...` to fill in: the error is {line}.", NOT_STARTED)
    place = line or f"when it is called with ({', '.join(case)})"
    return _Stop(f"your function stops with an error {place}.\n\n{_show_error(error)}\n{_show_case(case)}")


def _learners_line(error: BaseException) -> str | None:
    """The deepest line of the traceback that is neither ours nor an installed library's."""
    installed = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    not_theirs = (str(Path(__file__).parent), "<frozen", *installed)
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(not_theirs)]
    if not theirs:
        return None
    return f"in line {theirs[-1].lineno}" + (f": `{theirs[-1].line}`" if theirs[-1].line else "")


def _close(got: torch.Tensor, expected: torch.Tensor, atol: float = TOLERANCE) -> bool:
    """Equal within tolerance, shape and all; infinite equals infinite, NaN equals nothing."""
    if got.shape != expected.shape:
        return False
    return torch.allclose(got.double(), expected.double(), rtol=TOLERANCE, atol=atol)


def _diagnose(exercise: Exercise, cases: list[dict], results: list[torch.Tensor], wrong: list[int]) -> str:
    """The sentence for the mistake behind these results.

    Infinite and NaN results are set aside where there are others: whoever overflows *and* forgets the
    temperature should hear of the temperature first.
    """
    finite = [i for i, result in enumerate(results) if result.isfinite().all()]
    if finite and not set(finite) & set(wrong):
        return exercise.not_finite
    compared = finite or range(len(results))
    for mistake, sentence in exercise.mistakes:
        if all(_close(results[i], mistake(*_copy(cases[i]).values())) for i in compared):
            return sentence
    numbers = torch.cat([results[i].double().flatten() for i in compared])
    if len(compared) > 1 and len(numbers.unique()) == 1:
        return "your function returns the same value whatever it is given."
    return f"{len(wrong)} of {len(results)} cases differ, and not in a way that this check knows."


def _judge_gradients(function: Callable, case: dict, exercise: Exercise) -> None:
    """Compare the gradients of `result.sum()` with the oracle's. The values are known to be right."""
    exact, given = _copy(case, torch.float64, requires_grad=True), _copy(case, requires_grad=True)
    names = list(_tensors(case))
    expected = torch.autograd.grad(exercise.oracle(**exact).sum(), [exact[name] for name in names])
    total, got = _call(function, given, case, exercise).sum(), [None] * len(names)
    if total.requires_grad:
        try:
            got = torch.autograd.grad(total, [given[name] for name in names], allow_unused=True)
        except RuntimeError as error:
            text = f"the values are right, but the backward pass fails.\n\n{_show_error(error)}"
            raise _Stop(text) from None
    for name, found, wanted in zip(names, got, expected, strict=True):
        scale = wanted.abs().max().item()
        if found is None or (scale > TOLERANCE and not found.any()):
            raise _Stop(
                f"the values are right, but no gradient flows back to `{name}`. Look for detach(), .data, "
                ".item(), numpy, torch.tensor(...) or torch.no_grad() on the way."
            )
        if not _close(found, wanted, atol=10 * TOLERANCE * scale + 1e-8):
            problem = "not: is a part of it detached?" if found.isfinite().all() else "not finite."
            text = f"the values are right, but the gradient with respect to `{name}` is {problem}"
            raise _Stop(text + _show_difference(case, found, wanted, f" `{name}.grad` of result.sum()"))


def _show_difference(case: dict, got: torch.Tensor, expected: torch.Tensor, of: str = "") -> str:
    """A case with both values; of large results only the worst place."""
    if got.shape != expected.shape:
        of += f" (shape {list(expected.shape)}, not {list(got.shape)})"
    elif got.numel() > SHOWN:
        error = (got.double() - expected).abs().nan_to_num(torch.inf)
        place = [int(i) for i in torch.unravel_index(error.argmax(), error.shape)]
        of, got, expected = f"{of} at {place}", got[tuple(place)], expected[tuple(place)]
    values = f"expected{of}: {_show(expected)}\ngot: {_show(got)}"
    return f"\n\nThe smallest case that differs:\n{_show_case(case)}\n{values}"


def _show_case(case: dict) -> str:
    return "\n".join(f"{name} = {_show(value)}" for name, value in case.items())


def _show(value: float | torch.Tensor) -> str:
    """Short numbers, so that every machine shows the same ones."""
    if not isinstance(value, torch.Tensor):
        return f"{value:g}"
    if value.numel() > SHOWN:
        return f"{value.dtype} of shape {list(value.shape)}"
    if value.ndim:
        return f"[{', '.join(_show(row) for row in value)}]"
    return f"{round(float(value), 4) + 0.0:g}"  # + 0.0 turns -0 into 0


def _show_error(error: BaseException) -> str:
    first_line = traceback.format_exception_only(error)[0].splitlines()[0]
    return re.sub("0x[0-9a-fA-F]+", "0x…", first_line)  # an address is another one in each run


def _random(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- cosine similarity ---


def check_cosine_similarity_matrix(function: Callable) -> Report:
    """Check `function(a, b)`: `a` [N, D] and `b` [M, D] to their cosine similarities [N, M], in [-1, 1].

    A zero vector has similarity 0 with everything.
    """
    f64 = torch.float64
    exercise = Exercise(
        task="write the function that takes `a` [N, D] and `b` [M, D] and returns their cosines [N, M]",
        cases=[
            {"a": torch.tensor([[3.0, 4, 0], [1, 2, 2]]), "b": torch.tensor([[0.0, 2, 1], [2, -1, 5]])},
            {"a": torch.tensor([[1.0, 2], [0, 3]]), "b": torch.tensor([[4.0, 3], [-1, 1], [5, 0]])},
            {"a": _random(1, 1, 3), "b": _random(2, 4, 3)},
            {"a": 3 * _random(3, 5, 7), "b": _random(4, 4, 7)},
            {"a": _random(5, 9, 64, dtype=f64), "b": _random(6, 12, 64, dtype=f64)},
        ],
        edge_cases=[{"a": torch.tensor([[0.0, 0], [1, 2]]), "b": torch.tensor([[3.0, 4], [2, -1]])}],
        oracle=_cosine_loop,
        mistakes=COSINE_MISTAKES,
        not_finite="a zero vector gives NaN: its length is a zero divisor. Divide by max(length, something "
        "tiny), as F.normalize does; its similarities are then 0.",
        verified="values and gradients agree with a plain loop in 6 cases (N from 1 to 9, M from 2 to 12, D "
        "from 2 to 64, float32 and float64, a zero vector), and the inputs are left as they were.",
    )
    return _check(function, exercise)


def _cosine_loop(a, b):
    """a·b / (‖a‖ ‖b‖), one pair at a time; 0 for a zero vector."""
    cosines = []
    for x in a:
        for y in b:
            lengths = (x * x).sum().sqrt() * (y * y).sum().sqrt()
            cosines.append((x * y).sum() / lengths if lengths > 0 else lengths)
    return torch.stack(cosines).reshape(len(a), len(b))


def _cosines(a, b, **options):
    return F.normalize(a, **options) @ F.normalize(b, **options).T


def _over_squared_length(x):
    return x / (x * x).sum(1, keepdim=True).clamp_min(1e-12)


_AXIS = "normalised along the wrong axis: a vector is a row, so its length is over dim=1."

COSINE_MISTAKES = [
    (lambda a, b: a @ b.T, "these are plain dot products: nothing is divided by the vectors' lengths."),
    (partial(_cosines, dim=0), _AXIS),
    (lambda a, b: a / a.norm() @ (b / b.norm()).T, "every row has its own length: here one serves all."),
    (lambda a, b: F.normalize(a) @ b.T, "only one side is normalised: `b` still has its lengths."),
    (lambda a, b: a @ F.normalize(b).T, "only one side is normalised: `a` still has its lengths."),
    (
        lambda a, b: _cosines(a, b).diagonal(),
        "these are row-wise pairs only, a[i] with b[i]: every row of `a` should meet every row of `b`.",
    ),
    (lambda a, b: _cosines(b, a), "the matrix is transposed: rows belong to `a`, columns to `b`."),
    (lambda a, b: torch.cdist(a, b), "these are Euclidean distances: 0, not 1, for equal vectors."),
    (
        lambda a, b: torch.cdist(F.normalize(a), F.normalize(b)),
        "these are Euclidean distances between unit vectors; the cosine is 1 − distance² / 2.",
    ),
    (lambda a, b: 1 - _cosines(a, b), "this is 1 − cosine, a distance: the similarity itself is wanted."),
    (
        lambda a, b: _over_squared_length(a) @ _over_squared_length(b).T,
        "divided by the squared lengths: the square root is missing.",
    ),
    (partial(_cosines, p=1), "divided by sums of absolute values (p=1): a length is Euclidean (p=2)."),
]


# --- NT-Xent ---


def check_nt_xent(function: Callable) -> Report:
    """Check `function(view1, view2, temperature)`: two views [N, D] and τ > 0 to the NT-Xent loss, in nats.

    The scalar of SimCLR's equation 1, averaged over all 2N anchors; finite at τ = 0.01.
    """
    wide, noise = (_random(seed, 9, 64, dtype=torch.float64) for seed in (3, 4))
    exercise = Exercise(
        task="write the function that takes two views [N, D] and a temperature and returns the NT-Xent loss",
        cases=[
            _nt_xent_case([[1, 2], [2, -1]], [[3, 1], [1, -3]], 0.5),
            _nt_xent_case([[1, 0], [1, 0.2]], [[1, 0.1], [1, 0.3]], 0.01),  # all alike: exp(s/τ) overflows
            _nt_xent_case([[1, 0], [0.8, 0.6]], [[-1, 0], [-0.8, -0.6]], 0.01),  # views opposed: 180
            # A tetrahedron: the loss is log(3), and all exp(s/τ) vanish beside that of self-similarity.
            _nt_xent_case([[1, 1, 1], [1, -1, -1]], [[-1, 1, -1], [-1, -1, 1]], 0.01),
            _nt_xent_case(3 * _random(1, 5, 7), _random(2, 5, 7), 0.1),
            _nt_xent_case(wide, wide + noise, 2.0),
        ],
        oracle=_nt_xent_loop,
        mistakes=NT_XENT_MISTAKES,
        not_finite="right where it is finite, but NaN or infinite at τ = 0.01. exp(s/τ) overflows float32 "
        "above s/τ = 88, and underflows when the maximum that is subtracted first includes self-similarity. "
        "Mask self-similarity, then use torch.logsumexp or F.cross_entropy, which stay in logarithms.",
        verified="values and gradients agree with SimCLR's equation 1, as a plain loop, in 6 cases (N from 2 "
        "to 9, D from 2 to 64, τ from 0.01 to 2, float32 and float64); the inputs are left as they were.",
    )
    return _check(function, exercise)


def _nt_xent_case(view1, view2, temperature: float) -> dict:
    view1, view2 = (v if isinstance(v, torch.Tensor) else torch.tensor(v).float() for v in (view1, view2))
    return {"view1": view1, "view2": view2, "temperature": temperature}


def _nt_xent_loop(view1, view2, temperature):
    """Equation 1 as printed. Bare exponentials are safe here: float64 holds exp(700)."""
    units = [row / (row * row).sum().sqrt() for row in [*view1, *view2]]
    losses = []
    for i, anchor in enumerate(units):
        weights = {k: ((anchor * other).sum() / temperature).exp() for k, other in enumerate(units) if k != i}
        partner = (i + len(view1)) % len(units)
        losses.append(-(weights[partner] / sum(weights.values())).log())
    return sum(losses) / len(losses)


def _nt_xent_with(
    view1,
    view2,
    temperature,
    *,
    unit=F.normalize,
    scale=torch.div,
    partner=lambda i, n: (i + n) % (2 * n),
    candidates=lambda i, k, n: i != k,
    reduce=torch.mean,
):
    """NT-Xent with one part replaced; `candidates` tells which k stand in the denominator of anchor i."""
    z, n = unit(torch.cat([view1, view2])), len(view1)  # [2N, D]
    i = torch.arange(2 * n)
    logits = scale(z @ z.T, temperature)  # [2N, 2N]
    positive = logits[i, partner(i, n)]  # [2N]
    logits = logits.masked_fill(~candidates(i[:, None], i[None, :], n), -torch.inf)
    return reduce(logits.logsumexp(1) - positive)


def _all(i, k, n):
    return (i >= 0) & (k >= 0)


def _other_view(i, k, n):
    return (i < n) != (k < n)


def _from_view1(terms):
    return terms.chunk(2)[0].mean()


def _interleaved(i, n):
    """Where the row n further on comes from, had the views been interleaved: a0 b0 a1 b1 …"""
    place = (2 * (i % n) + i // n + n) % (2 * n)
    return place // 2 + place % 2 * n


def _axis_0_by_view(z):
    return torch.cat([F.normalize(view, dim=0) for view in z.chunk(2)])


def _capped(terms, cap, tiny):
    return -cap((-terms).exp(), torch.tensor(tiny)).log().mean()


_ROW = "the positive sits on the wrong row: with the views stacked, row i belongs with row i + N. Yours is "
_CLIP = "NT-Xent has all 2N rows as anchors, and 2N − 1 candidates for each: its own view's other rows too."
_CAPPED = "a tiny number inside the log caps the loss at −log(tiny), with zero gradient: use torch.logsumexp."
_TINIES = [10.0**-k for k in range(3, 21)] + [torch.finfo(torch.float32).tiny]

NT_XENT_MISTAKES = [
    (partial(_nt_xent_with, **part), sentence)
    for part, sentence in [
        ({"scale": lambda s, t: s}, "this is the value without the temperature: divide similarities by it."),
        ({"scale": torch.mul}, "similarities are multiplied by the temperature: divide by it."),
        ({"candidates": _all}, "self-similarity is still in the denominator: mask the diagonal."),
        ({"partner": lambda i, n: i ^ 1}, _ROW + "its neighbour: 0 with 1, 2 with 3."),
        ({"partner": lambda i, n: (i + 1) % (2 * n)}, _ROW + "the next one."),
        ({"partner": _interleaved}, _ROW + "row i + N of views that are interleaved."),
        ({"partner": lambda i, n: i}, _ROW + "row i itself."),
        ({"partner": lambda i, n: i, "candidates": _all}, _ROW + "row i itself, which isn't masked either."),
        ({"reduce": lambda terms: terms.mean() + torch.inf}, _ROW + "perhaps row i itself, which is masked."),
        ({"candidates": _other_view, "reduce": _from_view1}, "this is InfoNCE in one direction. " + _CLIP),
        ({"candidates": _other_view}, "this is InfoNCE in two directions, as in CLIP. " + _CLIP),
        ({"reduce": _from_view1}, "one direction only: the rows of view2 are anchors too, 2N terms in all."),
        ({"candidates": lambda i, k, n: (i - k) % n != 0}, "the positive is left out of the denominator."),
        ({"unit": lambda z: z}, "the vectors are not normalised: these are dot products, not cosines."),
        ({"unit": _axis_0_by_view}, _AXIS),
        ({"unit": partial(F.normalize, dim=0)}, _AXIS),
        ({"reduce": lambda terms: -(-terms).exp().mean().log()}, "this is −log(mean), not mean(−log)."),
        ({"reduce": torch.sum}, "this is the sum over the 2N anchors: take the mean."),
        ({"reduce": lambda terms: 2 * terms.mean()}, "exactly twice the value: divide by 2N anchors, not N."),
        ({"reduce": lambda terms: terms}, "these are the 2N terms: the loss is their mean, one number."),
        ({"reduce": lambda terms: -terms.mean()}, "the sign is wrong: the loss is −log of the share."),
        *(({"reduce": partial(_capped, cap=torch.add, tiny=tiny)}, _CAPPED) for tiny in _TINIES),
        *(({"reduce": partial(_capped, cap=torch.maximum, tiny=tiny)}, _CAPPED) for tiny in _TINIES),
    ]
]
