"""NT-Xent against its printed equation as a loop, known values, and what others' versions get wrong."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from clbook import losses
from clbook.losses import nt_xent

few_examples = settings(derandomize=True, deadline=None, max_examples=25, database=None)
TEMPERATURES = (0.01, 0.05, 0.5, 1.0, 10.0)


def by_loops(view1, view2, temperature):
    """SimCLR's equation 1, number by number, in Python's own float64 (exp(100) is no trouble there)."""
    z = [[x / math.hypot(*row) for x in row] for row in view1.tolist() + view2.tolist()]
    n, total = len(view1), 0.0
    for i in range(2 * n):
        similar = [sum(p * q for p, q in zip(z[i], other, strict=True)) for other in z]
        partner = i + n if i < n else i - n
        denominator = sum(math.exp(similar[k] / temperature) for k in range(2 * n) if k != i)
        total += -math.log(math.exp(similar[partner] / temperature) / denominator)
    return total / (2 * n)


def dense(view1, view2, temperature):
    """The same with whole matrices, in float64, for autograd to differentiate."""
    z = torch.cat([view1, view2]).double()
    z = z / z.norm(dim=1, keepdim=True)
    logits = z @ z.T / temperature
    count, n = len(z), len(view1)
    others = logits[~torch.eye(count, dtype=torch.bool)].view(count, count - 1)  # the diagonal is cut out
    positive = logits[torch.arange(count), (torch.arange(count) + n) % count]
    return (torch.logsumexp(others, 1) - positive).mean()


def views(n, d, seed=0, dtype=torch.float64, alike=1.0):
    """Two random views; the second is `alike` times the first, plus noise."""
    generator = torch.Generator().manual_seed(seed)
    view1, noise = torch.randn(2, n, d, generator=generator, dtype=torch.float64)
    return view1.to(dtype), (alike * view1 + noise).to(dtype)


def value_and_gradients(function, view1, view2, **options):
    view1, view2 = (v.detach().clone().requires_grad_() for v in (view1, view2))
    value = function(view1, view2, **options)
    value.backward()
    return value.detach(), view1.grad, view2.grad


# What may differ: of a gradient, as a share of 1 / (2N t), its natural scale; half precision rounds only the last step.
CLOSE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.float16: 5e-4, torch.bfloat16: 4e-3}


def assert_exact(view1, view2, temperature, **options):
    """Value and both gradients equal the dense float64 form of the same (rounded) numbers."""
    got = value_and_gradients(nt_xent, view1, view2, temperature=temperature, **options)
    expected = value_and_gradients(dense, view1.double(), view2.double(), temperature=temperature)
    double = view1.dtype == torch.float64
    assert got[0].shape == () and got[0].dtype == (torch.float64 if double else torch.float32)
    assert abs(got[0].double() - expected[0]) <= (1e-12 if double else 2e-6) * (1 + 0.1 / temperature)
    for g, e in zip(got[1:], expected[1:], strict=True):
        assert g.dtype == view1.dtype
        assert (g.double() - e).abs().max() * 2 * len(g) * temperature <= CLOSE[g.dtype]


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("n", "d"), [(2, 1), (2, 5), (3, 2), (17, 8)])
def test_equals_the_printed_equation(n, d, temperature):
    view1, view2 = views(n, d)
    assert nt_xent(view1, view2, temperature=temperature).item() == pytest.approx(by_loops(view1, view2, temperature))
    assert dense(view1, view2, temperature).item() == pytest.approx(by_loops(view1, view2, temperature))  # the oracle


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("n", [2, 3, 33, 128, 129, 200])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_value_and_gradients_equal_the_dense_form(n, temperature, dtype):
    assert_exact(*views(n, 24, n, dtype), temperature)


@pytest.mark.parametrize("chunk_size", [1, 7, 40, 79, 80, 81, 10_000])
@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_any_chunk_size_gives_the_same(chunk_size, temperature):
    assert_exact(*views(40, 16), temperature, chunk_size=chunk_size)


@pytest.mark.parametrize("chunk_size", [None, 64])
def test_more_rows_than_are_worked_on_at_a_time(chunk_size):
    assert_exact(*views(400, 16), 0.1, chunk_size=chunk_size)


@pytest.mark.parametrize("chunk_size", [None, 1, 4])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_gradient_agrees_with_finite_differences(chunk_size, temperature):
    view1, view2 = (v.requires_grad_() for v in views(3, 4))

    def loss(a, b):
        return 3 * nt_xent(a, b, temperature=temperature, chunk_size=chunk_size)  # 3: what comes from above counts

    assert torch.autograd.gradcheck(loss, (view1, view2))


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_gradient_of_each_anchors_own_term(chunk_size):
    """The loss gives all anchors one weight, so it can't show that a weight goes with its own row."""
    z = views(5, 3)[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda z: losses._LogSumExp.apply(z, 0.5, chunk_size), z)


# --- known values ---


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("n", [2, 8, 100])
def test_all_alike_costs_as_much_as_guessing(n, temperature):
    view = torch.ones(n, 6, requires_grad=True)
    loss = nt_xent(view, torch.ones(n, 6), temperature=temperature)
    assert loss.item() == pytest.approx(math.log(2 * n - 1), rel=1e-5)
    loss.backward()
    assert view.grad.abs().max() < 1e-4  # a collapsed encoder gets no push


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("sign", [1, -1])
def test_two_orthogonal_pairs(temperature, sign):
    """Each anchor has its partner at similarity 1 (or -1) and two negatives at 0."""
    view = torch.eye(2)
    by_hand = math.log1p(2 * math.exp(-sign / temperature))
    assert nt_xent(view, sign * view, temperature=temperature).item() == pytest.approx(by_hand, rel=1e-5, abs=2e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_an_anchor_that_is_opposite_to_all_others(temperature):
    """Its similarities are the lowest there can be: a finite number in its own place would count as one more."""
    view1, view2 = torch.tensor([[1.0], [-1.0]]), torch.tensor([[-1.0], [-1.0]])
    others = math.log(2 + math.exp(-2 / temperature))
    by_hand = (math.log(3) + 3 * others + 2 / temperature) / 4
    assert nt_xent(view1, view2, temperature=temperature).item() == pytest.approx(by_hand, rel=1e-6)


def test_partner_is_the_same_row_of_the_other_view():
    view = torch.eye(5)
    loss = nt_xent(view, view, temperature=0.1)
    assert loss < 1e-3 < 5 < nt_xent(view, view.roll(1, 0), temperature=0.1)


def test_zero_embeddings_are_similar_to_nothing():
    assert nt_xent(torch.zeros(4, 3), torch.zeros(4, 3), temperature=0.01).item() == pytest.approx(math.log(7))


@pytest.mark.parametrize("chunk_size", [None, 5])
@pytest.mark.parametrize("name", ["identical", "opposite", "one direction", "far apart in length"])
def test_nothing_overflows_at_a_small_temperature(name, chunk_size):
    view1, view2 = views(20, 8, dtype=torch.float32)
    view2 = {"identical": view1, "opposite": -view1, "one direction": view2, "far apart in length": 1e8 * view2}[name]
    if name == "one direction":
        view1, view2 = view1[:1].expand(20, -1), view1[:1].expand(20, -1)
    got = value_and_gradients(nt_xent, view1, view2, temperature=0.01, chunk_size=chunk_size)
    expected = value_and_gradients(dense, view1.double(), view2.double(), temperature=0.01)
    assert all(g.isfinite().all() for g in got)
    assert got[0].item() == pytest.approx(expected[0].item(), rel=2e-5, abs=2e-5)


# --- precision ---


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("temperature", [0.01, 0.2])
@pytest.mark.parametrize("chunk_size", [None, 16])
def test_half_precision_input_is_exact_for_its_rounded_values(dtype, temperature, chunk_size):
    assert_exact(*views(30, 32, dtype=dtype), temperature, chunk_size=chunk_size)


def precisions():
    return [backend.fp32_precision for backend in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)]


@pytest.fixture
def coarse_products():
    """As a user may have set it for speed: float32 products in bfloat16 (CPU) or TF32 (GPU) where the machine can."""
    torch.set_float32_matmul_precision("medium")
    assert precisions() == ["tf32", "bf16"]
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("chunk_size", [None, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_and_coarse_products_outside_change_nothing(chunk_size, dtype, coarse_products):
    view1, view2 = views(60, 32, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        got = value_and_gradients(nt_xent, view1, view2, temperature=0.05, chunk_size=chunk_size)
        product = torch.ones(1, 1) @ torch.ones(1, 1)
    assert product.dtype == torch.bfloat16 and precisions() == ["tf32", "bf16"]  # as they were
    torch.set_float32_matmul_precision("highest")
    expected = value_and_gradients(nt_xent, view1, view2, temperature=0.05, chunk_size=chunk_size)
    assert got[0].dtype == torch.float32
    for g, e in zip(got, expected, strict=True):
        assert torch.equal(g, e)


def test_settings_are_given_back_when_the_loss_fails(coarse_products, monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(losses._LogSumExp, "apply", fail)
    with pytest.raises(KeyboardInterrupt):
        nt_xent(*views(3, 4), temperature=0.5)
    assert precisions() == ["tf32", "bf16"] and not torch.is_autocast_enabled("cpu")


# --- memory ---


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation makes, those of a backward pass included."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = result if isinstance(result, (tuple, list)) else [result]
        self.numel = max([self.numel, *(t.numel() for t in made if isinstance(t, torch.Tensor))])
        return result


def largest_and_kept(n, d, chunk_size):
    """(elements of the largest tensor, elements kept for the way back) of one step."""
    kept = {}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with Largest() as largest, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value_and_gradients(nt_xent, *views(n, d), temperature=0.1, chunk_size=chunk_size)
    return largest.numel, sum(kept.values())


def test_chunks_keep_memory_linear():
    n, d = 300, 8
    largest, kept = largest_and_kept(n, d, chunk_size=10)
    assert largest == 10 * 2 * n  # chunk_size rows, no more, and not (2N)^2 = 360,000
    assert kept < 8 * 2 * n * d
    assert largest_and_kept(2 * n, d, chunk_size=10)[1] == 2 * kept


def test_memory_is_measured_where_it_is_quadratic():
    """The instrument of the test above sees the matrix where there is one."""
    assert largest_and_kept(120, 8, None)[0] == 240**2
    assert largest_and_kept(300, 8, None)[1] >= 600**2


# --- as a part of a training step ---


def test_either_view_may_be_without_gradient():
    view1, view2 = views(5, 4)
    _, grad1, grad2 = value_and_gradients(nt_xent, view1, view2, temperature=0.3)
    for fixed, grad in ((0, grad2), (1, grad1)):
        pair = [view1.clone(), view2.clone()]
        pair[1 - fixed].requires_grad_()
        nt_xent(*pair, temperature=0.3).backward()
        torch.testing.assert_close(pair[1 - fixed].grad, grad)
        assert pair[fixed].grad is None


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_two_backward_passes_give_the_same(chunk_size):
    view1, view2 = views(5, 4)
    view1.requires_grad_()
    loss = nt_xent(view1, view2, temperature=0.3, chunk_size=chunk_size)
    first = torch.autograd.grad(loss, view1, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(loss, view1)[0])


def test_a_second_derivative_is_refused_rather_than_wrong():
    view1, view2 = (v.requires_grad_() for v in views(5, 4))
    with pytest.raises(RuntimeError, match="no second derivative: leave out create_graph"):
        torch.autograd.grad(nt_xent(view1, view2, temperature=0.3), view1, create_graph=True)


def test_input_and_random_numbers_are_left_alone():
    view1, view2 = views(5, 4)
    before, state = [view1.clone(), view2.clone()], torch.get_rng_state()
    value_and_gradients(nt_xent, view1, view2, temperature=0.3)
    assert torch.equal(view1, before[0]) and torch.equal(view2, before[1])
    assert torch.equal(state, torch.get_rng_state())
    with torch.no_grad():
        assert not nt_xent(view1, view2, temperature=0.3).requires_grad


# --- properties ---

pairs = st.tuples(st.integers(2, 12), st.integers(1, 8), st.integers(0, 10_000), st.sampled_from(TEMPERATURES))


@few_examples
@given(pairs)
def test_order_of_pairs_order_of_views_lengths_and_rotations_do_not_matter(case):
    n, d, seed, temperature = case
    view1, view2 = views(n, d, seed)
    loss = nt_xent(view1, view2, temperature=temperature)
    generator = torch.Generator().manual_seed(seed + 1)
    order = torch.randperm(n, generator=generator)
    lengths = 10 ** torch.randn(n, 1, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    for same in ((view1[order], view2[order]), (view2, view1), (lengths * view1, view2), (view1 @ turn, view2 @ turn)):
        torch.testing.assert_close(nt_xent(*same, temperature=temperature), loss)


@few_examples
@given(pairs, st.integers(1, 30))
def test_loss_stays_within_its_bounds_and_chunks_agree(case, chunk_size):
    n, d, seed, temperature = case
    view1, view2 = views(n, d, seed)
    loss = nt_xent(view1, view2, temperature=temperature)
    assert -1e-9 <= loss.item() <= math.log(2 * n - 1) + 2 / temperature + 1e-9
    torch.testing.assert_close(nt_xent(view1, view2, temperature=temperature, chunk_size=chunk_size), loss)


# --- bad input ---

X = torch.ones(4, 3)
BAD = {
    "nt_xent": [
        ((X.tolist(), X), {}, TypeError, "view1: expected a floating-point tensor [N, D], got list"),
        ((X, X.long()), {}, TypeError, "view2: expected a floating-point tensor [N, D], got torch.int64"),
        ((X, X[0]), {}, ValueError, "view2: expected [N, D], got [3]"),
        ((X[None], X[None]), {}, ValueError, "view1: expected [N, D], got [1, 4, 3]"),
        ((X, X[:, :0]), {}, ValueError, "view2: expected [N, D], got [4, 0]"),
        ((X, X[:, :2]), {}, ValueError, "got [4, 3] on cpu and [4, 2] on cpu"),
        ((X, X[:2]), {}, ValueError, "got [4, 3] on cpu and [2, 3] on cpu"),
        ((X, X.to("meta")), {}, ValueError, "got [4, 3] on cpu and [4, 3] on meta"),
        ((X[:1], X[:1]), {}, ValueError, "at least 2 pairs (the others are the negatives), got 1"),
        ((X[:0], X[:0]), {}, ValueError, "at least 2 pairs (the others are the negatives), got 0"),
        ((X * torch.nan, X), {}, ValueError, "view1: expected finite numbers, got NaN or infinity"),
        ((X, X * -torch.inf), {}, ValueError, "view2: expected finite numbers, got NaN or infinity"),
        ((X, X), {"temperature": 0}, ValueError, "temperature: expected a number > 0 (0.05 to 0.5 is usual), got 0"),
        ((X, X), {"temperature": -0.1}, ValueError, "got -0.1"),
        ((X, X), {"temperature": math.nan}, ValueError, "got nan"),
        ((X, X), {"temperature": "low"}, TypeError, "temperature: expected a plain number > 0, got a str"),
        ((X, X), {"temperature": None}, TypeError, "got a NoneType"),
        ((X, X), {"temperature": torch.tensor(0.5, requires_grad=True)}, TypeError, "plain number > 0, got a Tensor"),
        ((X, X), {"chunk_size": 0}, ValueError, "chunk_size: expected an integer of at least 1, or None, got 0"),
        ((X, X), {"chunk_size": -4}, ValueError, "got -4"),
        ((X, X), {"chunk_size": 2.0}, ValueError, "got 2.0"),
    ]
}


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in BAD for case in BAD[name]])
def test_bad_input_says_what_was_expected_and_what_came(name, case):
    arguments, options, kind, words = case
    with pytest.raises(kind, match=r"expected[\s\S]*got") as error:
        getattr(losses, name)(*arguments, **({"temperature": 0.5} | options))
    assert words in str(error.value)


def test_every_public_function_is_in_the_table_of_bad_input():
    assert set(BAD) == {n for n, f in vars(losses).items() if getattr(f, "__module__", "") == losses.__name__
                        and not n.startswith("_")}  # fmt: skip
