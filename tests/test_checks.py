"""The checks are tested like any other instrument: each known fault must be named, each right answer pass.

`CATALOGUE` holds, for each check, its wrong answers (function, phrase of the diagnosis) and its right ones.
"""

import functools
import linecache
import math

import pytest
import torch
import torch.nn.functional as F

from clbook import checks, losses, similarity


def edited(source, old="", new=""):
    """The function written in `source`, with one edit: what a learner's slip looks like."""
    assert old in source, f"{old!r} is not in the source: the edit would change nothing"
    scope = {"torch": torch, "F": F}
    exec(source.replace(old, new), scope)
    return scope.get("cosine") or scope["nt_xent"]


# --- cosine similarity: right answers, then wrong ones ---

COSINE = """
def cosine(a, b):
    a_unit = a / a.norm(dim=1, keepdim=True).clamp_min(1e-12)
    b_unit = b / b.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return a_unit @ b_unit.T
"""


def cosine_einsum(a, b):
    dots = torch.einsum("nd,md->nm", a, b)
    lengths = torch.einsum("n,m->nm", torch.linalg.norm(a, dim=1), torch.linalg.norm(b, dim=1))
    return dots / (lengths + 1e-8)


def cosine_loops(a, b):
    rows = [[torch.dot(x, y) / (x.norm() * y.norm()).clamp_min(1e-8) for y in b] for x in a]
    return torch.stack([torch.stack(row) for row in rows])


def cosine_filled_in(a, b):
    result = torch.zeros(len(a), len(b), dtype=a.dtype)
    for i in range(len(a)):
        result[i] = F.cosine_similarity(a[i : i + 1], b)
    return result


def cosine_broadcast(a, b):
    return F.cosine_similarity(a[:, None], b[None], dim=2)


def cosine_in_float64(a, b):
    return (F.normalize(a.double()) @ F.normalize(b.double()).T).to(a.dtype)


def cosine_columns_first(a, b):
    return (F.normalize(b.T, dim=0).T @ F.normalize(a.T, dim=0)).T


def cosine_from_distance(a, b):
    a, b = F.normalize(a), F.normalize(b)
    squared = (a[:, None] - b[None]).square().sum(-1)
    return (a.square().sum(1)[:, None] + b.square().sum(1)[None] - squared) / 2


RIGHT_COSINE = [
    edited(COSINE),
    cosine_einsum,
    cosine_loops,
    cosine_filled_in,
    cosine_broadcast,
    cosine_in_float64,
    cosine_columns_first,
    cosine_from_distance,
    similarity.cosine_similarity_matrix,
]

WRONG_COSINE = [
    (lambda a, b: a @ b.T, "plain dot products"),
    (lambda a, b: torch.einsum("nd,md->nm", a, b), "plain dot products"),
    (edited(COSINE, "dim=1", "dim=0"), "wrong axis"),
    (edited(COSINE, "dim=1, keepdim=True", ""), "every row has its own length"),
    (
        edited(COSINE, "a / a.norm(dim=1, keepdim=True).clamp_min(1e-12)", "a"),
        "only one side is normalised: `a`",
    ),
    (
        edited(COSINE, "b / b.norm(dim=1, keepdim=True).clamp_min(1e-12)", "b"),
        "only one side is normalised: `b`",
    ),
    (F.cosine_similarity, "row-wise pairs only"),
    (
        lambda a, b: torch.stack([cosine_loops(x[None], b[i : i + 1])[0, 0] for i, x in enumerate(a)]),
        "row-wise pairs",
    ),
    (edited(COSINE, "a_unit @ b_unit.T", "b_unit @ a_unit.T"), "transposed"),
    (lambda a, b: (a[:, None] - b[None]).norm(dim=-1), "Euclidean distances: 0"),
    (lambda a, b: torch.cdist(a, b), "Euclidean distances: 0"),
    (edited(COSINE, "a_unit @ b_unit.T", "torch.cdist(a_unit, b_unit)"), "distances between unit vectors"),
    (edited(COSINE, "return ", "return 1 - "), "1 − cosine"),
    (edited(COSINE, ".norm(dim=1, keepdim=True)", ".square().sum(1, keepdim=True)"), "squared lengths"),
    (edited(COSINE, "norm(dim=1", "norm(p=1, dim=1"), "absolute values"),
    (edited(COSINE, ".clamp_min(1e-12)", ""), "a zero vector gives NaN"),
    (edited(COSINE, ".clamp_min(1e-12)", " + 1e-2"), "6 of 6 cases differ"),
    (lambda a, b: similarity.cosine_similarity_matrix(a, b).squeeze(), "shape [1, 4], not [4]"),
    (edited(COSINE, ".T", ""), "stops with an error in line 5"),
    (lambda a, b: torch.zeros(len(a), len(b)), "same value whatever"),
    (lambda a, b: torch.tensor([[0.0, 0.0], [0.0, 0.0]]), "same value whatever"),
    (lambda a, b: similarity.cosine_similarity_matrix(a, b).abs(), "not in a way that this check knows"),
    (lambda a, b: similarity.cosine_similarity_matrix(a, b).detach(), "no gradient flows back to `a`"),
    (lambda a, b: similarity.cosine_similarity_matrix(a, b.detach()), "no gradient flows back to `b`"),
    (
        lambda a, b: similarity.cosine_similarity_matrix(a.data, b.data) + 0 * (a.sum() + b.sum()),
        "no gradient flows",
    ),
    (
        edited(COSINE, ".clamp_min(1e-12)", ".clamp_min(1e-12).detach()"),
        "gradient with respect to `a` is not:",
    ),
    (lambda a, b: similarity.cosine_similarity_matrix(a, b).double(), "result is torch.float64"),
    (lambda a, b: similarity.cosine_similarity_matrix(a.float(), b.float()), "result is torch.float32"),
    (
        lambda a, b: similarity.cosine_similarity_matrix(a, b).numpy(force=True),
        "of type ndarray, not a tensor",
    ),
    (lambda a, b: similarity.cosine_similarity_matrix(a, b).tolist(), "of type list, not a tensor"),
]


# --- NT-Xent: right answers, then wrong ones ---

# The two ways people write it: the first stays in logarithms, the second overflows at τ = 0.01.
NT_XENT = """
def nt_xent(view1, view2, temperature):
    n = len(view1)
    z = F.normalize(torch.cat([view1, view2]), dim=1)
    logits = z @ z.T / temperature
    logits = logits.masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
    partner = (torch.arange(2 * n) + n) % (2 * n)
    losses = F.cross_entropy(logits, partner, reduction="none")
    return losses.mean()
"""

RAW_EXP = """
def nt_xent(view1, view2, temperature):
    n = len(view1)
    z = torch.cat([view1, view2])
    z = z / z.norm(dim=1, keepdim=True)
    weights = torch.exp(z @ z.T / temperature)
    own = torch.eye(2 * n, dtype=torch.bool)
    positive = torch.cat([weights.diagonal(n), weights.diagonal(-n)])
    ratio = positive / weights.masked_fill(own, 0).sum(1)
    return -torch.log(ratio).mean()
"""


def nt_xent_loops(view1, view2, temperature):
    rows = [row / row.norm() for row in [*view1, *view2]]
    total = 0
    for i, anchor in enumerate(rows):
        scores = torch.stack([anchor @ other / temperature for k, other in enumerate(rows) if k != i])
        positive = anchor @ rows[(i + len(view1)) % len(rows)] / temperature
        total = total + torch.logsumexp(scores, 0) - positive
    return total / len(rows)


def nt_xent_blocks(view1, view2, tau):
    """Four N×N blocks, both directions, as in Google's code; the temperature has a name of its own."""
    a, b = F.normalize(view1), F.normalize(view2)
    inf = torch.diag(torch.full((len(a),), torch.inf, dtype=a.dtype))
    aa, bb, ab = a @ a.T / tau - inf, b @ b.T / tau - inf, a @ b.T / tau
    target = torch.arange(len(a))
    return (F.cross_entropy(torch.cat([ab, aa], 1), target) + F.cross_entropy(torch.cat([ab.T, bb], 1), target)) / 2


def nt_xent_einsum(view1, view2, temperature):
    z = F.normalize(torch.stack([view1, view2], dim=1).flatten(0, 1))  # interleaved: partners are neighbours
    logits = torch.einsum("id,kd->ik", z, z) / temperature
    logits.fill_diagonal_(-9e15)
    partner = torch.arange(len(z)) ^ 1
    return -logits.log_softmax(1).gather(1, partner[:, None]).mean()


def nt_xent_no_diagonal(view1, view2, temperature):
    z, m = F.normalize(torch.cat([view1, view2])), 2 * len(view1)
    s = F.cosine_similarity(z[:, None], z[None], dim=-1)
    s = s.flatten()[1:].view(m - 1, m + 1)[:, :-1].reshape(m, m - 1) / temperature  # drops the diagonal
    positive = (z * z.roll(m // 2, 0)).sum(1) / temperature
    top = s.max(1, keepdim=True).values.detach()
    return (top[:, 0] + (s - top).exp().sum(1).log() - positive).mean()


def nt_xent_in_float64(view1, view2, temperature):
    return edited(RAW_EXP)(view1.double(), view2.double(), temperature).to(view1.dtype)


class NTXent(torch.nn.Module):
    def forward(self, view1, view2, temperature):
        return nt_xent_loops(view1, view2, temperature)


RIGHT_NT_XENT = [
    edited(NT_XENT),
    nt_xent_loops,
    nt_xent_blocks,
    nt_xent_einsum,
    nt_xent_no_diagonal,
    nt_xent_in_float64,
    NTXent(),
    losses.nt_xent,  # its temperature is keyword-only
    functools.partial(losses.nt_xent, chunk_size=3),
]


def info_nce(view1, view2, temperature):
    logits = F.normalize(view1) @ F.normalize(view2).T / temperature
    return F.cross_entropy(logits, torch.arange(len(view1)))


def log_probability(view1, view2, temperature):
    return -losses.nt_xent(view1, view2, temperature=temperature)


MAX_WITH_SELF = """
def nt_xent(view1, view2, temperature):
    n = len(view1)
    z = F.normalize(torch.cat([view1, view2]))
    logits = z @ z.T / temperature
    logits = logits - logits.max(1, keepdim=True).values.detach()
    weights = logits.exp() * (1 - torch.eye(2 * n, dtype=z.dtype))
    positive = torch.cat([logits.diagonal(n), logits.diagonal(-n)])
    return (weights.sum(1).log() - positive).mean()
"""

WRONG_NT_XENT = [
    (edited(NT_XENT, " / temperature"), "without the temperature"),
    (edited(RAW_EXP, " / temperature"), "without the temperature"),
    (edited(NT_XENT, "/ temperature", "* temperature"), "multiplied by the temperature"),
    (edited(RAW_EXP, "/ temperature", "* temperature"), "multiplied by the temperature"),
    (edited(NT_XENT, "-torch.inf", "logits"), "stops with an error in line 6"),
    (
        edited(NT_XENT, "logits.masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)", "logits"),
        "self-similarity is",
    ),
    (edited(RAW_EXP, ".masked_fill(own, 0)"), "self-similarity is still in the denominator"),
    (edited(NT_XENT, "(torch.arange(2 * n) + n) % (2 * n)", "torch.arange(2 * n) ^ 1"), "its neighbour"),
    (
        edited(NT_XENT, "torch.cat([view1, view2])", "torch.stack([view1, view2], 1).flatten(0, 1)"),
        "views that are interleaved",
    ),
    (
        edited(NT_XENT, "+ n)", "+ 1)"),
        "wrong row: with the views stacked, row i belongs with row i + N. Yours is the next",
    ),
    (edited(NT_XENT, "+ n) %", ") %"), "perhaps row i itself, which is masked"),
    (
        edited(RAW_EXP, "torch.cat([weights.diagonal(n), weights.diagonal(-n)])", "weights.diagonal()"),
        "wrong row: with the views stacked, row i belongs with row i + N. Yours is row i itself.",
    ),
    (
        lambda view1, view2, t: F.cross_entropy(
            F.cosine_similarity(torch.cat([view1, view2])[:, None], torch.cat([view1, view2]), dim=2) / t,
            torch.arange(2 * len(view1)),
        ),
        "row i itself, which isn't masked either",
    ),
    (edited(NT_XENT, "/ temperature", "/ (temperature + 1e-3)"), "not in a way that this check knows"),
    (info_nce, "InfoNCE in one direction"),
    (lambda a, b, t: (info_nce(a, b, t) + info_nce(b, a, t)) / 2, "InfoNCE in two directions"),
    (edited(NT_XENT, "losses.mean()", "losses[:n].mean()"), "one direction only"),
    (
        edited(RAW_EXP, "fill(own, 0)", "fill(own | own.roll(n, 0), 0)"),
        "positive is left out of the denominator",
    ),
    (edited(RAW_EXP, "0).sum(1)", "0).sum(1).sub(positive)"), "positive is left out of the denominator"),
    (
        edited(NT_XENT, "F.normalize(torch.cat([view1, view2]), dim=1)", "torch.cat([view1, view2])"),
        "not normalised",
    ),
    (edited(RAW_EXP, "z / z.norm(dim=1, keepdim=True)", "z"), "not normalised"),
    (edited(NT_XENT, "dim=1", "dim=0"), "wrong axis"),
    (
        edited(
            NT_XENT,
            "F.normalize(torch.cat([view1, view2]), dim=1)",
            "torch.cat([F.normalize(v, dim=0) for v in (view1, view2)])",
        ),
        "wrong axis",
    ),
    (edited(RAW_EXP, "-torch.log(ratio).mean()", "-torch.log(ratio.mean())"), "this is −log(mean)"),
    (edited(NT_XENT, "losses.mean()", "losses.sum()"), "this is the sum"),
    (edited(RAW_EXP, ".mean()", ".sum() / n"), "exactly twice the value"),
    (edited(NT_XENT, "losses.mean()", "losses"), "these are the 2N terms"),
    (log_probability, "the sign is wrong"),
    (edited(RAW_EXP), "NaN or infinite at τ = 0.01"),
    (
        edited(RAW_EXP, "torch.log(ratio)", "(torch.log(positive) - weights.masked_fill(own, 0).sum(1).log())"),
        "infinite at",
    ),
    (edited(MAX_WITH_SELF), "NaN or infinite at τ = 0.01"),
    (edited(RAW_EXP, "log(ratio)", "log(ratio + 1e-8)"), "caps the loss"),
    (edited(RAW_EXP, "log(ratio)", "log(ratio + 1e-5)"), "caps the loss"),
    (edited(RAW_EXP, "log(ratio)", "log(ratio.clamp_min(1e-12))"), "caps the loss"),
    (
        edited(
            NT_XENT,
            'F.cross_entropy(logits, partner, reduction="none")',
            "-(logits.softmax(1).gather(1, partner[:, None]) + torch.finfo(z.dtype).tiny).log()",
        ),
        "caps the loss",
    ),
    (lambda view1, view2, temperature: torch.tensor(math.log(2 * 2 - 1)), "same value whatever"),
    (lambda view1, view2, temperature: view1.sum() * 0, "same value whatever"),
    (
        lambda view1, view2, temperature: torch.log(torch.tensor(2.0 * len(view1) - 1)),
        "not in a way that this check knows",
    ),
    (lambda a, b, t: losses.nt_xent(a, b, temperature=t).reshape(1), "(shape [], not [1])"),
    (lambda a, b, t: losses.nt_xent(a, b, temperature=t).item(), "of type float, not a tensor"),
    (lambda a, b, t: losses.nt_xent(a, b, temperature=t).detach(), "no gradient flows back to `view1`"),
    (lambda a, b, t: losses.nt_xent(a, b.detach(), temperature=t), "no gradient flows back to `view2`"),
    (lambda a, b, t: losses.nt_xent(a, b, temperature=t).double(), "result is torch.float64"),
    (
        lambda a, b: losses.nt_xent(a, b, temperature=0.5),
        "when it is called with (view1, view2, temperature)",
    ),
]


CATALOGUE = {
    checks.check_cosine_similarity_matrix: (WRONG_COSINE, RIGHT_COSINE),
    checks.check_nt_xent: (WRONG_NT_XENT, RIGHT_NT_XENT),
}
EVERY_CHECK = pytest.mark.parametrize("check", CATALOGUE)


@pytest.mark.parametrize(
    ("check", "function", "phrase"),
    [(check, *entry) for check, (wrong, _) in CATALOGUE.items() for entry in wrong],
)
def test_wrong_answer_is_rejected_with_its_own_diagnosis(check, function, phrase):
    report = check(function)
    assert not report.passed
    assert report.message.startswith("Not yet: ")
    assert phrase in report.text


@pytest.mark.parametrize(
    ("check", "function"),
    [(check, function) for check, (_, right) in CATALOGUE.items() for function in right],
)
def test_right_answer_is_accepted(check, function):
    assert check(function).require().message.startswith("Right: values and gradients agree with")


@pytest.mark.parametrize(
    ("check", "mistake", "sentence"),
    [(checks.check_cosine_similarity_matrix, *entry) for entry in checks.COSINE_MISTAKES]
    + [(checks.check_nt_xent, *entry) for entry in checks.NT_XENT_MISTAKES],
)
def test_no_mistake_hides_behind_another(check, mistake, sentence):
    assert check(mistake).text.startswith(sentence)


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


@pytest.mark.parametrize("edit", [lambda x: x.div_(x.norm()), lambda x: x.data.zero_(), lambda x: x.t_()])
@pytest.mark.parametrize("position", [0, 1])
@EVERY_CHECK
def test_input_edited_in_place_is_detected_though_the_result_is_right(check, position, edit):
    def editing(*inputs):
        result = CATALOGUE[check][1][0](*inputs)
        edit(inputs[position])
        return result

    assert "changed its input" in check(editing).text
    assert f"`{[['a', 'b'], ['view1', 'view2']][check is checks.check_nt_xent][position]}`" in check(editing).text


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
    assert "1 of 6 cases differ" in text
    assert "a = torch.float64 of shape [9, 64]" in text
    assert "expected at [7, 2]: " in text


def test_numbers_are_shown_short():
    numbers = torch.tensor([-1e-9, 1 / 3, 12345.678, torch.nan, -torch.inf], dtype=torch.float64)
    assert checks._show(numbers) == "[0, 0.3333, 12345.7, nan, -inf]"


def test_oracles_give_known_values():
    same = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    assert checks._nt_xent_loop(same[:2], same[2:], 0.3).item() == pytest.approx(math.log(3))
    equal = torch.ones(4, 5, dtype=torch.float64)
    assert checks._nt_xent_loop(equal, equal, 0.07).item() == pytest.approx(math.log(7))
    cosines = checks._cosine_loop(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [-6.0, -8.0]]))
    torch.testing.assert_close(cosines, torch.tensor([[0.6, -1.0], [0.0, 0.0]]))


@EVERY_CHECK
def test_checks_work_without_gradients_and_leave_no_trace(check):
    state = torch.get_rng_state()
    with torch.no_grad():
        check(CATALOGUE[check][1][0]).require()
    assert torch.equal(torch.get_rng_state(), state)


@EVERY_CHECK
def test_same_function_same_words(check):
    for function, _ in CATALOGUE[check][0][::3]:
        first, second = check(function), check(function)
        assert (repr(first), first._repr_html_()) == (repr(second), second._repr_html_())
        assert not any(trace in repr(first) for trace in ("0x7", "<function", "/tmp", "site-packages"))


def test_warnings_of_the_learner_are_kept_quiet(recwarn):
    checks.check_nt_xent(lambda a, b, t: torch.tensor(losses.nt_xent(a, b, temperature=t)))
    assert not recwarn.list


def test_report_of_each_kind():
    right, wrong, blank = (checks.Report(verdict, "one < two.\n\na = 1") for verdict in checks.SYMBOLS)
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


def test_catalogue_is_as_large_as_promised():
    for wrong, right in CATALOGUE.values():
        assert len(wrong) >= 5
        assert len(right) >= 3
