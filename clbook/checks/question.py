"""Questions with a number or a choice as their answer, drawn from a seed: neighbours get other ones.

A topic defines them; `key.QUESTIONS` names them, for learners, their checks and the teacher's key.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import torch

from clbook.checks.exercise import NOT_STARTED, NOT_YET, RIGHT, Report


@dataclass(frozen=True)
class Question:
    """All that one check of a number knows.

    `given` makes what the question is about from a seed, by name; `answer` and every mistake take just that.
    """

    task: str  # what to find, in which unit
    given: Callable[[int], dict]
    answer: Callable[..., float]
    mistakes: list[tuple[Callable[..., float], str]]
    verified: str
    tolerance: float = 1e-3  # absolute: answers are typed in, or computed in float32


@dataclass(frozen=True)
class Choice:
    """All that one check of a choice knows. `right` tells from a seed which of the options is it."""

    task: str  # "Which …?"
    options: dict[str, str]  # what may be answered: what it means
    right: Callable[[int], str]
    why_not: Callable[[str, int], str]  # a wrong option and the seed: what speaks against it
    verified: str
    given: Callable[[int], dict] = lambda seed: {}  # what there is to look at, unless the lab makes it


def drawn_apart(seed: int, draw: Callable[[Random], dict], *numbers: Callable[..., float], gap: float = 0.01) -> dict:
    """The first of the drawn cases in which all `numbers`, an answer and the mistakes, differ by more than `gap`."""
    generator = Random(seed)
    while True:
        given = draw(generator)
        found = sorted(x for x in (number(**given) for number in numbers) if math.isfinite(x))
        if all(b - a > gap for a, b in pairwise(found)):
            return given


def judge_number(answer, question: Question, seed: int = 0) -> Report:
    """What `question` finds about a learner's number: a Python, NumPy or torch number."""
    if answer is None or answer is ...:
        return Report(NOT_STARTED, f"{question.task}.")
    number = _number(answer)
    if number is None:
        return Report(NOT_YET, f"expected a number, got a {type(answer).__name__}: {question.task}.")
    given = question.given(seed)
    if abs(number - question.answer(**given)) <= question.tolerance:
        return Report(RIGHT, question.verified)
    for mistake, sentence in question.mistakes:
        if abs(number - mistake(**given)) <= question.tolerance:
            return Report(NOT_YET, sentence)
    return Report(NOT_YET, f"{number:g} is not it, and not a mistake that this check knows. {_opened(question.task)}.")


def judge_choice(answer, choice: Choice, seed: int = 0) -> Report:
    """What `choice` finds about a learner's option, a string."""
    if answer is None or answer is ...:
        return Report(NOT_STARTED, f"{choice.task}. One of: {', '.join(choice.options)}.")
    chosen = answer.strip().lower() if isinstance(answer, str) else None
    if chosen not in choice.options:
        return Report(NOT_YET, f"expected one of {', '.join(map(repr, choice.options))}, got {answer!r:.80}.")
    if chosen == choice.right(seed):
        return Report(RIGHT, choice.verified)
    return Report(NOT_YET, choice.why_not(chosen, seed))


def _number(answer) -> float | None:
    if isinstance(answer, bool | str | complex):
        return None
    try:
        number = float(answer.detach() if isinstance(answer, torch.Tensor) else answer)
    except (TypeError, ValueError, RuntimeError):
        return None
    return number if math.isfinite(number) else None


def _opened(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
