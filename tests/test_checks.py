"""The checks are tested like any other instrument: each known fault must be named, each right answer pass.

What learners write stands in `answers`; here is what holds for every check, and the words it says.
"""

import linecache
import math

import pytest
import torch
import torch.nn.functional as F
from answers import BY_PROPERTIES, CATALOGUE, QUESTIONS
from answers.contrast import RAW_EXP
from answers.edit import edited
from answers.similarity import cosine_einsum

from clbook import checks, losses, similarity
from clbook.checks import contrast, exercise, moco, question, queue_losses
from clbook.checks import similarity as cosines

EVERY_CHECK = pytest.mark.parametrize("check", CATALOGUE)


@pytest.mark.parametrize(
    ("check", "function", "phrase"),
    [(check, *entry) for check, (wrong, _, _) in CATALOGUE.items() for entry in wrong],
)
def test_wrong_answer_is_rejected_with_its_own_diagnosis(check, function, phrase):
    report = check(function)
    assert not report.passed
    assert report.message.startswith("Not yet: ")
    assert phrase in report.text


@pytest.mark.parametrize(
    ("check", "function"),
    [(check, function) for check, (_, right, _) in CATALOGUE.items() for function in right],
)
def test_right_answer_is_accepted(check, function):
    assert check(function).require().message.startswith("Right: values ")


@pytest.mark.parametrize(
    ("check", "mistake", "sentence"),
    [(check, *entry) for check, (_, _, mistakes) in CATALOGUE.items() for entry in mistakes],
)
@pytest.mark.slow
def test_no_mistake_hides_behind_another(check, mistake, sentence):
    assert check(mistake).text.startswith(sentence)


SEEDS = 3, 104_729  # what a lab and its hidden test might use


@pytest.mark.parametrize("seed", SEEDS)
@EVERY_CHECK
@pytest.mark.slow
def test_right_answers_pass_and_wrong_ones_fail_with_other_seeds(check, seed):
    wrong, right, _ = CATALOGUE[check]
    for function in right:
        check(function, seed=seed).require()
    for function, _ in wrong:
        assert not check(function, seed=seed)


@EVERY_CHECK
def test_answers_learnt_by_heart_fail_with_another_seed(check):
    right, known = CATALOGUE[check][1][0], set()

    def case(inputs, numbers):
        values = [x.tolist() if isinstance(x, torch.Tensor) else x for x in (*inputs, *numbers.values())]
        return repr(values)

    def learn(*inputs, **numbers):
        known.add(case(inputs, numbers))
        return right(*inputs, **numbers)

    def recite(*inputs, **numbers):
        result = right(*inputs, **numbers)
        if case(inputs, numbers) in known:
            return result
        return ~result if isinstance(result, torch.Tensor) and result.dtype == torch.bool else result + 1

    check(learn, seed=1).require()
    check(recite, seed=1).require()
    assert not check(recite, seed=2)


# --- questions: a number or a choice ---

EVERY_QUESTION = pytest.mark.parametrize("name", QUESTIONS)


def test_every_question_has_answers_in_the_catalogue():
    assert set(QUESTIONS) == set(checks.QUESTIONS)
    for wrong, right in QUESTIONS.values():
        assert len(wrong) >= 5
        assert len(right) >= 3


@pytest.mark.parametrize("seed", [0, *SEEDS])
@EVERY_QUESTION
def test_wrong_answers_to_a_question_are_named(name, seed):
    wrong, right = QUESTIONS[name]
    for answer, phrase in wrong:
        report = checks.check_answer(name, answer(seed), seed=seed)
        assert report.message.startswith("Not yet: ") and phrase in report.text, report
    for answer in right:
        checks.check_answer(name, answer(seed), seed=seed).require()


@EVERY_QUESTION
def test_neighbours_answers_differ(name):
    key = [checks.answers(seed)[name] for seed in range(8)]
    assert len(set(key)) >= (2 if isinstance(checks.QUESTIONS[name], question.Choice) else 6), key


@EVERY_QUESTION
def test_the_key_is_accepted_and_a_blank_is_not_started(name):
    for seed in 0, 7:
        key = checks.answers(seed)[name]
        answer = key if isinstance(checks.QUESTIONS[name], question.Choice) else float(key)
        checks.check_answer(name, answer, seed=seed).require()
    for blank in None, ...:
        assert checks.check_answer(name, blank).verdict == "Not started"


@EVERY_CHECK
@pytest.mark.parametrize("blank", [None, ..., lambda *_: None, lambda *_: ..., lambda *_: NotImplemented])
def test_blank_exercise_is_not_started(check, blank):
    report = check(blank)
    assert not report.passed
    assert report.message.startswith("Not started: write the function that takes ")


@EVERY_CHECK
def test_stub_that_raises_is_not_started(check):
    def stub(*inputs):
        raise NotImplementedError("your turn")

    assert check(stub).verdict == "Not started"


def in_cell(source, name):
    """A function as Jupyter would define it: its source is in linecache, its file belongs to no package."""
    filename = "/tmp/ipykernel_1234/567.py"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    scope = {"torch": torch, "F": F, "similarity": similarity}
    exec(compile(source, filename, "exec"), scope)
    return scope[name]


def test_half_filled_template_is_not_started():
    source = "def nt_xent(view1, view2, temperature):\n    z = ...\n    return (z @ z.T).mean()\n"
    report = checks.check_nt_xent(in_cell(source, "nt_xent"))
    assert report.verdict == "Not started"
    assert "line 3: `return (z @ z.T).mean()`" in report.text


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("return a @ b", "RuntimeError: mat1 and mat2"),
        (
            "return F.normalize(a, dim=5) @ b.T",
            "IndexError: Dimension out of range",
        ),  # raised deep inside torch
        (
            "return similarity.cosine_similarity_matrix(a, b[0])",
            "ValueError: expected a [N, D]",
        ),  # inside clbook
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("raise KeyError(object())", "KeyError: <object object at 0x…>"),
        ("return undefined_name", "NameError: name 'undefined_name' is not defined"),
    ],
)
def test_exception_is_shown_with_the_learners_line(body, error):
    function = in_cell(f"# my cell\n\ndef cosine(a, b):\n    {body}\n", "cosine")
    report = checks.check_cosine_similarity_matrix(function)
    assert report.verdict == "Not yet"
    assert f"in line 4: `{body}`." in report.text
    assert error in report.text
    assert "a = [[3, 4, 0], [1, 2, 2]]" in report.text
    assert "ipykernel" not in report.text  # differs from run to run


def test_exception_in_a_helper_of_the_learner_names_the_helpers_line():
    source = "def unit(x):\n    return x / x.nrm()\n\ndef cosine(a, b):\n    return unit(a) @ unit(b).T\n"
    report = checks.check_cosine_similarity_matrix(in_cell(source, "cosine"))
    assert "in line 2: `return x / x.nrm()`" in report.text


def test_value_mistake_is_named_even_when_a_later_case_stops_with_an_error():
    report = checks.check_cosine_similarity_matrix(F.cosine_similarity)  # [N], and an error where N != M
    assert "row-wise pairs" in report.text


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.long(),
        lambda x: x > 0,
        lambda x: x + 1j,
        lambda x: x.to_sparse(),
        lambda x: x.to("meta"),
        lambda x: torch.nested.nested_tensor([x]),
    ],
)
def test_unusual_tensor_is_rejected_without_an_error(convert):
    report = checks.check_cosine_similarity_matrix(lambda a, b: convert(cosine_einsum(a, b)))
    assert "returned an unusual tensor" in report.text


def test_exception_that_cannot_be_printed():
    class Silent(Exception):
        def __str__(self):
            raise ValueError

    def cosine(a, b):
        raise Silent

    assert "`raise Silent`" in checks.check_cosine_similarity_matrix(cosine).text


def test_interrupt_is_not_swallowed():
    def interrupted(a, b):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checks.check_cosine_similarity_matrix(interrupted)


@EVERY_CHECK
@pytest.mark.parametrize("given", [3.5, "cosine", torch.zeros(2)])
def test_result_in_place_of_the_function(check, given):
    assert f"your function itself, not called; it was given a {type(given).__name__}" in check(given).text


def edit_in_place(x, what):
    if what == "its shape":
        x.unsqueeze_(0)
    elif x.dtype == torch.bool:
        x.logical_not_()
    elif what == "its values":
        x.add_(1)
    else:  # behind autograd's back
        x.data.sub_(1)


@pytest.mark.parametrize("what", ["its values", "its data", "its shape"])
@EVERY_CHECK
def test_input_edited_in_place_is_detected_though_the_result_is_right(check, what):
    right, seen = CATALOGUE[check][1][0], []
    check(lambda *inputs: seen.extend(inputs))
    for position in [i for i, x in enumerate(seen) if isinstance(x, torch.Tensor)]:

        def editing(*inputs, position=position):
            result = right(*inputs)
            edit_in_place(inputs[position], what)
            return result

        assert "your function changed its input `" in check(editing).text


@EVERY_CHECK
def test_a_constant_is_rejected(check):
    right, first = CATALOGUE[check][1][0], []

    def constant(*inputs, **numbers):
        if not first:
            first.append(right(*inputs, **numbers))
        return first[0]

    assert not check(constant)


@EVERY_CHECK
def test_a_detached_result_is_rejected_where_gradients_are_asked_for(check):
    right = CATALOGUE[check][1][0]

    def detached(*inputs, **numbers):
        result = right(*inputs, **numbers)
        return result.detach() if isinstance(result, torch.Tensor) else result

    if "gradient" in check(right).text:
        assert "no gradient flows back to" in check(detached).text
    else:
        assert check(detached).passed


def test_zeroed_inputs_do_not_move_the_expected_values():
    def cheat(a, b):
        a.zero_()
        return torch.zeros(len(a), len(b))

    assert not checks.check_cosine_similarity_matrix(cheat)


def test_backward_that_fails_is_reported():
    def spoiled(a, b):
        units = F.normalize(a)
        result = units @ F.normalize(b).T
        units.data = units.data.clone()  # harmless
        units.mul_(1.0)  # changes nothing, but autograd needs the old one
        return result

    assert "the backward pass fails" in checks.check_cosine_similarity_matrix(spoiled).text


def test_gradient_that_is_not_finite_is_reported():
    def sqrt_of_zero(a, b):
        return similarity.cosine_similarity_matrix(a, b) + (a - a).sum().sqrt()

    assert "the gradient with respect to `a` is not finite" in checks.check_cosine_similarity_matrix(sqrt_of_zero).text


def test_two_faults_at_once_name_the_one_that_is_not_overflow():
    unscaled = edited(RAW_EXP, "z / z.norm(dim=1, keepdim=True)", "3 * z")  # overflows, and isn't normalised
    assert "infinite at" not in checks.check_nt_xent(unscaled).text


def test_failure_shows_the_smallest_case():
    report = checks.check_cosine_similarity_matrix(lambda a, b: a @ b.T)
    assert report.text.endswith(
        "\n\nThe smallest case that differs:\na = [[3, 4, 0], [1, 2, 2]]\nb = [[0, 2, 1], [2, -1, 5]]\n"
        "expected: [[0.7155, 0.073], [0.8944, 0.6086]]\ngot: [[8, 2], [6, 10]]"
    )


def test_failure_in_a_large_case_shows_its_worst_place():
    def clipped(a, b):  # wrong only where there are many rows
        cosines = similarity.cosine_similarity_matrix(a, b)
        return (
            cosines + F.one_hot(torch.tensor(2), 12) * F.one_hot(torch.tensor(7), 9)[:, None]
            if len(a) == 9
            else cosines
        )

    text = checks.check_cosine_similarity_matrix(clipped).text
    assert "1 of 8 cases differ" in text
    assert "a = torch.float64 of shape [9, 64]" in text
    assert "expected at [7, 2]: " in text


def test_numbers_are_shown_short():
    numbers = torch.tensor([-1e-9, 1 / 3, 12345.678, torch.nan, -torch.inf], dtype=torch.float64)
    assert exercise._show(numbers) == "[0, 0.3333, 12345.7, nan, -inf]"


def test_oracles_give_known_values():
    same = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    assert contrast._nt_xent_loop(same[:2], same[2:], 0.3).item() == pytest.approx(math.log(3))
    equal = torch.ones(4, 5, dtype=torch.float64)
    assert contrast._nt_xent_loop(equal, equal, 0.07).item() == pytest.approx(math.log(7))
    found = cosines._cosine_loop(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [-6.0, -8.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.6, -1.0], [0.0, 0.0]]))


def test_oracles_of_the_softmax_give_known_values():
    three = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    gradient = contrast._info_nce_gradient_loop(three, 1.0)
    assert gradient.tolist() == pytest.approx([-0.33476, 0.24473, 0.09003], abs=1e-5)  # 1/(1 + e + e²) = 0.09003
    assert gradient.sum().item() == pytest.approx(0, abs=1e-12)
    assert contrast._log_sum_exp_loop(torch.zeros(2, 7)).tolist() == pytest.approx([math.log(7)] * 2)
    unit = torch.eye(3, dtype=torch.float64)
    assert contrast._info_nce_loop(unit, 5 * unit, 1.0).item() == pytest.approx(math.log(math.e + 2) - 1)
    assert contrast._false_negatives_loop(torch.tensor([0, 0, 1])).item() == pytest.approx(1 / 3)
    assert contrast._false_negatives_loop(torch.arange(4)).item() == 0


def test_oracles_of_moco_give_known_values():
    ring = moco._enqueue_loop(torch.zeros(5, 1), torch.tensor([[1.0], [2.0], [3.0]]), 3)
    assert ring[:, 0].tolist() == [3, 0, 0, 1, 2]
    assert moco._momentum_loop(torch.tensor([1.0]), torch.tensor([0.0]), 0.9).item() == pytest.approx(0.9)
    assert moco._momentum_by_halving(2, 0.25).item() == pytest.approx(0.5)
    assert moco._ages_loop(5, 3, 2).tolist() == [1, 2, 2, 1, 1]
    rows = torch.tensor([[1.0], [3], [10], [20]])
    assert moco._centre_loop(rows, torch.tensor([2, 0, 1, 3]), 2)[:, 0].tolist() == [-4.5, -8.5, 4.5, 8.5]
    equal = torch.ones(4, 5, dtype=torch.float64)
    assert queue_losses._info_nce_queue_loop(equal, equal, equal, 0.07).item() == pytest.approx(math.log(5))  # K + 1
    assert queue_losses._hardest_loop(equal, equal, equal, 0.07, 2).item() == pytest.approx(math.log(3))
    assert queue_losses._symmetric_loop(*[equal] * 5, 0.07).item() == pytest.approx(math.log(5))


@EVERY_CHECK
def test_checks_work_without_gradients_and_leave_no_trace(check):
    state = torch.get_rng_state()
    with torch.no_grad():
        check(CATALOGUE[check][1][0]).require()
    assert torch.equal(torch.get_rng_state(), state)


@EVERY_CHECK
@pytest.mark.slow
def test_same_function_same_words(check):
    for function, _ in CATALOGUE[check][0][::3]:
        first, second = check(function), check(function)
        assert (repr(first), first._repr_html_()) == (repr(second), second._repr_html_())
        assert not any(trace in repr(first) for trace in ("0x7", "<function", "/tmp", "site-packages"))


def test_warnings_of_the_learner_are_kept_quiet(recwarn):
    checks.check_nt_xent(lambda a, b, t: torch.tensor(losses.nt_xent(a, b, temperature=t)))
    assert not recwarn.list


def test_report_of_each_kind():
    right, wrong, blank = (checks.Report(verdict, "one < two.\n\na = 1") for verdict in exercise.SYMBOLS)
    assert (right.passed, wrong.passed, blank.passed) == (True, False, False)
    assert (bool(right), bool(wrong), bool(blank)) == (True, False, False)
    assert repr(right) == "✓ Right: one < two.\n\na = 1"
    assert repr(wrong).startswith("✗ Not yet: ")
    assert repr(blank).startswith("○ Not started: ")
    assert "Not yet:</strong> one &lt; two.</div><pre>a = 1</pre>" in wrong._repr_html_()
    assert right.require() is right
    with pytest.raises(checks.CheckFailed) as failure:
        wrong.require()
    assert str(failure.value) == wrong.message == "Not yet: one < two.\n\na = 1"
    assert isinstance(failure.value, AssertionError)


def test_catalogue_is_as_large_as_promised(record_property):
    for wrong, right, _ in CATALOGUE.values():
        assert len(wrong) >= 5
        assert len(right) >= 3
    entries = [entry[:2] for entry in (*CATALOGUE.values(), *BY_PROPERTIES.values(), *QUESTIONS.values())]
    wrong, right = (sum(map(len, kind)) for kind in zip(*entries, strict=True))
    text = f"{len(entries)} checks: {wrong} wrong answers rejected by name, {right} right ones accepted"
    record_property("told", text)


# --- exercises of other kinds: labels among the arguments, a count or an accuracy as the result ---


def share_of_pairs(labels, scores):
    """The share of pairs with equal labels and both scores above 0: no gradient, labels as integers."""
    assert labels.dtype == torch.int64 and not labels.requires_grad
    hits = [labels[i] == labels[j] and min(scores[i], scores[j]) > 0 for i in range(len(labels)) for j in range(i)]
    return torch.tensor(sum(map(float, hits)) / len(hits), dtype=scores.dtype)


COUNTING = exercise.Exercise(
    task="count",
    cases=[{"labels": torch.tensor([0, 1, 0]), "scores": torch.tensor([1.0, 2, 3])}],
    oracle=share_of_pairs,
    mistakes=[(lambda labels, scores: (labels[:, None] == labels).double().mean(), "each row is paired with itself.")],
    not_finite="",
    verified="it counts",
    gradients=False,
    number=True,
)


def test_an_exercise_may_take_labels_and_a_plain_number():
    assert exercise.judge(lambda labels, scores: 1 / 3, COUNTING).passed
    assert exercise.judge(share_of_pairs, COUNTING).passed
    assert "0.3333\ngot: 0.5" in exercise.judge(lambda labels, scores: 0.5, COUNTING).text
    assert "paired with itself" in exercise.judge(lambda labels, scores: 5 / 9, COUNTING).text
    assert "labels = [0, 1, 0]" in exercise.judge(lambda labels, scores: 0.5, COUNTING).text

    def edits(labels, scores):
        labels += 1
        return 1 / 3

    assert "changed its input `labels`" in exercise.judge(edits, COUNTING).text


def test_an_exercise_may_ask_for_integers():
    where = exercise.Exercise(
        "find", [{"x": torch.tensor([1.0, -1, 2])}], lambda x: (x > 0).nonzero()[:, 0], [], "", "found", gradients=False
    )
    assert exercise.judge(lambda x: torch.tensor([0, 2]), where).passed
    assert "result is torch.float32, not torch.int64" in exercise.judge(lambda x: torch.tensor([0.0, 2]), where).text
    assert not exercise.judge(lambda x: x > 0, where)


def test_what_is_rightly_infinite_is_no_reason_to_speak_of_infinity():
    """Right logits hold -inf on their diagonal: the place that differs is another."""
    text = checks.check_logits(lambda z, temperature: checks.clinic._logits(z, 0.5)).text
    assert "NaN" not in text and "expected at" in text and "-inf" not in text.partition("expected at")[2]


def test_values_that_are_all_nan_or_infinite_are_told_as_that():
    for bad in torch.nan, torch.inf:
        text = checks.check_sup_con(lambda z, y, t, bad=bad: (z * 0).sum() + bad).text
        assert text.startswith("all values are NaN or infinite: look for a division by 0")
