"""What every check stands on: cases, an oracle, the mistakes people make, and how a function is judged by them."""

import html
import inspect
import re
import sysconfig
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import allclose, equal  # by name here, where the guard of a grading looks whether they were replaced

RIGHT, NOT_YET, NOT_STARTED = "Right", "Not yet", "Not started"
SYMBOLS = {RIGHT: "✓", NOT_YET: "✗", NOT_STARTED: "○"}
TOLERANCE = 1e-4  # float32 at τ = 0.01 is good to about 1e-5; the mistakes are far beyond this
AXIS = "normalised along the wrong axis: a vector is a row, so its length is over dim=1."
FRESH = 1_000  # fresh cases are drawn from seeds of at least this, which no fixed case uses
SHOWN = 12  # a tensor of up to this many numbers is printed in full


class CheckFailed(AssertionError):
    """Raised by `Report.require()`; its text is the report's message, and all that Jupyter shows of it."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for this; the frames would be ours, not the learner's
        symbol = SYMBOLS[NOT_STARTED if str(self).startswith(NOT_STARTED) else NOT_YET]
        return [f"{symbol} {self}"]


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
    """All that one check knows. A case is the arguments by name: tensors first, then numbers.

    Floating-point tensors of a case have one dtype; the oracle and the gradients take them in float64. Tensors of
    integers or booleans (labels, say) are handed on as they are.
    """

    task: str  # what to write
    cases: list[dict]  # smallest first
    oracle: Callable
    mistakes: list[tuple[Callable, str]]  # finite wherever a learner's version of the mistake can be
    not_finite: str  # the diagnosis when the only wrong values are NaN or infinite
    verified: str
    edge_cases: list[dict] = field(default_factory=list)  # values only: gradients are not defined there
    gradients: bool | tuple[str, ...] = True  # False where there are none: an accuracy, a count; or of these arguments
    number: bool = False  # whether a plain Python number will do as the result
    tolerance: float = TOLERANCE  # absolute; relative it is always TOLERANCE
    infinite_slope: str = ""  # what to say of a gradient that is not finite, where the values are
    fresh: Callable[[int], dict] | None = None  # a further case, its sizes and numbers drawn from a seed


class _Stop(Exception):
    """The learner's function can't be judged any further, and why."""

    def __init__(self, text: str, verdict: str = NOT_YET):
        self.report = Report(verdict, text)


def judge(function: Callable, exercise: Exercise, seed: int = 0) -> Report:
    """What `exercise` finds about a learner's function. Two of its cases are drawn from `seed`: answers that were
    learnt by heart pass with one seed and fail with the next."""
    if not isinstance(seed, int):
        raise TypeError(f"expected the seed as a whole number, got {seed!r}")
    if exercise.fresh:
        drawn = [exercise.fresh(FRESH * (seed + 1) + i) for i in range(2)]
        exercise = replace(exercise, cases=exercise.cases + drawn)
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
    expected = [exercise.oracle(**_copy(case, torch.float64)) for case in cases]
    for case, exact in zip(cases, expected, strict=True):
        try:
            result = _call(function, _copy(case), case, exercise)
            if exact.is_floating_point() and not result.is_floating_point():
                raise _unusual(result)
            results.append(result.detach().cpu().clone())
        except _Stop as stopped:  # later: the values before this point may say more than the error does
            stop = stopped
            break
    expected = expected[: len(results)]
    wrong = [i for i, result in enumerate(results) if not _close(result, expected[i], exercise.tolerance)]
    if wrong:
        diagnosis, i = _diagnose(exercise, cases, results, expected, wrong), wrong[0]
        raise _Stop(diagnosis + _show_difference(cases[i], results[i], expected[i]))
    if stop:
        raise stop
    for case, result, exact in zip(cases, results, expected, strict=True):
        floats = [x.dtype for x in _floats(case).values()] or [torch.float32]
        wanted = floats[0] if exact.is_floating_point() else exact.dtype
        if result.dtype != wanted and not exercise.number:
            raise _Stop(
                f"the values are right, but your result is {result.dtype}, not {wanted}. "
                "Give new tensors the inputs' dtype, or convert at the end with `.to(...)`."
            )
    for case in exercise.cases if exercise.gradients else ():
        _judge_gradients(function, case, exercise)


def _tensors(case: dict) -> dict:
    return {name: value for name, value in case.items() if isinstance(value, torch.Tensor)}


def _floats(case: dict) -> dict:
    return {name: value for name, value in _tensors(case).items() if value.is_floating_point()}


def _copy(case: dict, dtype: torch.dtype | None = None, requires_grad: bool = False) -> dict:
    """Arguments to give away: what a function does to them never reaches the case."""
    floats = {name: x.to(dtype or x.dtype, copy=True) for name, x in _floats(case).items()}
    others = {name: x.clone() for name, x in _tensors(case).items() if name not in floats}
    return case | others | {name: x.requires_grad_(requires_grad) for name, x in floats.items()}


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
    except NotImplementedError as error:
        if "not implemented for" in str(error):  # torch's own, of a dtype that an operation doesn't take
            raise _stop_for_error(error, case, exercise) from None
        result = None
    except (Exception, SystemExit) as error:
        raise _stop_for_error(error, case, exercise) from None
    if result is None or result is ... or result is NotImplemented:
        nothing = "Nothing is returned yet (a missing `return` looks the same)."
        raise _Stop(f"{exercise.task}. {nothing}", NOT_STARTED)
    for name, original in _tensors(case).items():
        if not equal(arguments[name].detach(), original):
            raise _Stop(
                f"your function changed its input `{name}`, which belongs to the caller. Make a new tensor: "
                "`x = x / y`, not `x /= y`, and no method whose name ends in `_`."
            )
    if exercise.number and isinstance(result, int | float):
        result = torch.tensor(float(result), dtype=torch.float64)
    if not isinstance(result, torch.Tensor):
        kind = type(result).__name__
        raise _Stop(f"your function returned a thing of type {kind}, not a tensor: no `.item()`, `.numpy()` or list.")
    if result.is_complex() or result.layout != torch.strided or result.is_nested or result.is_meta:
        raise _unusual(result)
    return result


def _unusual(result: torch.Tensor) -> _Stop:
    kind = f"{result.dtype}, {result.layout}, {result.device}"
    return _Stop(f"your function returned an unusual tensor ({kind}), not plain numbers of the kind asked for.")


def _stop_for_error(error: BaseException, case: dict, exercise: Exercise) -> _Stop:
    line = _learners_line(error)
    if line and "ellipsis" in _show_error(error):
        return _Stop(f"{exercise.task}. There is still a `...` to fill in: the error is {line}.", NOT_STARTED)
    place = line or f"when it is called with ({', '.join(case)})"
    return _Stop(f"your function stops with an error {place}.\n\n{_show_error(error)}\n{_show_case(case)}")


def _learners_line(error: BaseException) -> str | None:
    """The deepest line of the traceback that is neither ours nor an installed library's."""
    installed = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    not_theirs = (str(Path(__file__).parents[1]), "<frozen", *installed)
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(not_theirs)]
    if not theirs:
        return None
    return f"in line {theirs[-1].lineno}" + (f": `{theirs[-1].line}`" if theirs[-1].line else "")


def _close(got: torch.Tensor, expected: torch.Tensor, atol: float = TOLERANCE) -> bool:
    """Equal within tolerance, shape and all; infinite equals infinite, NaN equals nothing."""
    if got.shape != expected.shape:
        return False
    return allclose(got.double(), expected.double(), rtol=TOLERANCE, atol=atol)


def _diagnose(exercise: Exercise, cases: list[dict], results: list[torch.Tensor], expected: list[torch.Tensor],
              wrong: list[int]) -> str:  # fmt: skip
    """The sentence for the mistake behind these results.

    Infinite and NaN results are set aside where there are others: whoever overflows *and* forgets the
    temperature should hear of the temperature first.
    """
    finite = [i for i, (result, exact) in enumerate(zip(results, expected, strict=True)) if _sound(result, exact)]
    if finite and not set(finite) & set(wrong):
        return exercise.not_finite
    compared = finite or range(len(results))
    for mistake, sentence in exercise.mistakes:
        if all(_close(results[i], mistake(*_copy(cases[i]).values()), exercise.tolerance) for i in compared):
            return sentence
    if not finite:
        return "all values are NaN or infinite: look for a division by 0, a logarithm of 0, or 0 times infinity."
    numbers = torch.cat([results[i].double().flatten() for i in compared])
    if len(compared) > 1 and len(numbers.unique()) == 1:
        return "your function returns the same value whatever it is given."
    return f"{len(wrong)} of {len(results)} cases differ, and not in a way that this check knows."


def _sound(got: torch.Tensor, expected: torch.Tensor) -> bool:
    """No NaN, and infinite only where that is right."""
    right = got == expected if got.shape == expected.shape else torch.tensor(False)
    return bool((got.isfinite() | right).all())


def _judge_gradients(function: Callable, case: dict, exercise: Exercise) -> None:
    """Compare the gradients of `result.sum()` with the oracle's. The values are known to be right."""
    exact, given = _copy(case, torch.float64, requires_grad=True), _copy(case, requires_grad=True)
    names = list(_floats(case) if exercise.gradients is True else exercise.gradients)
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
            if not found.isfinite().all() and exercise.infinite_slope:
                problem += f" {exercise.infinite_slope}"
            text = f"the values are right, but the gradient with respect to `{name}` is {problem}"
            raise _Stop(text + _show_difference(case, found, wanted, f" `{name}.grad` of result.sum()"))


def _show_difference(case: dict, got: torch.Tensor, expected: torch.Tensor, of: str = "") -> str:
    """A case with both values; of large results only the worst place."""
    if got.shape != expected.shape:
        of += f" (shape {list(expected.shape)}, not {list(got.shape)})"
    elif got.numel() > SHOWN:
        error = (got.double() - expected.double()).abs().nan_to_num(torch.inf).masked_fill(got == expected, 0)
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
    if value.dtype == torch.bool:
        return str(value.tolist())
    if value.numel() > SHOWN:
        return f"{value.dtype} of shape {list(value.shape)}"
    if value.ndim:
        return f"[{', '.join(_show(row) for row in value)}]"
    return f"{round(float(value), 4) + 0.0:g}"  # + 0.0 turns -0 into 0


def _show_error(error: BaseException) -> str:
    first_line = traceback.format_exception_only(error)[0].splitlines()[0]
    return re.sub("0x[0-9a-fA-F]+", "0x…", first_line)  # an address is another one in each run


def random(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
