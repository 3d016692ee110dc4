"""Losses against their printed equations as loops, known values, and what others' versions get wrong."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from clbook import losses
from clbook.losses import batch_triplet, info_nce, mine_triplets, nt_xent, pair_margin, sup_con, triplet_margin

few_examples = settings(derandomize=True, deadline=None, max_examples=25, database=None)
TEMPERATURES = (0.01, 0.025, 0.05, 0.5, 1.0, 10.0)  # 0.025: the largest logit that is summed without a shift


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


def assert_exact(view1, view2, temperature, *, loss=nt_xent, oracle=dense, chunk_size=None, **options):
    """Value and both gradients equal the dense float64 form of the same (rounded) numbers."""
    chunks = {} if chunk_size is None else {"chunk_size": chunk_size}
    got = value_and_gradients(loss, view1, view2, temperature=temperature, **chunks, **options)
    expected = value_and_gradients(oracle, view1.double(), view2.double(), temperature=temperature, **options)
    double = view1.dtype == torch.float64
    assert got[0].shape == () and got[0].dtype == (torch.float64 if double else torch.float32)
    assert abs(got[0].double() - expected[0]) <= (1e-12 if double else 2e-6) * (1 + 0.1 / temperature)
    for g, e in zip(got[1:], expected[1:], strict=True):
        if e is None:  # a loss of one matrix
            assert g is None
            continue
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
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("temperature", [0.01, 0.1])
def test_more_rows_than_are_worked_on_at_a_time(temperature, dtype, chunk_size):
    assert_exact(*views(400, 16, dtype=dtype), temperature, chunk_size=chunk_size)


@pytest.mark.parametrize("chunk_size", [None, 1, 4])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_gradient_agrees_with_finite_differences(chunk_size, temperature):
    view1, view2 = (v.requires_grad_() for v in views(3, 4))

    def loss(a, b):
        return 3 * nt_xent(a, b, temperature=temperature, chunk_size=chunk_size)  # 3: what comes from above counts

    assert torch.autograd.gradcheck(loss, (view1, view2))


@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("temperature", [0.5, 0.02])  # either side of where the sum can do without a shift
def test_gradient_of_each_anchors_own_term(temperature, chunk_size):
    """The loss gives all anchors one weight, so it can't show that a weight goes with its own row."""
    z = torch.nn.functional.normalize(views(5, 3)[0]).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: losses._log_sum_exp_others(z, temperature, chunk_size), z)
    q, k = (x.requires_grad_() for x in views(5, 3, 1))
    assert torch.autograd.gradcheck(lambda q, k: losses._LogSumExp.apply(q, k, temperature, chunk_size, False), (q, k))


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


def test_numbers_whose_sum_overflows_are_finite():
    view1, view2 = (1000 * (view.abs() + 1) for view in views(20, 8, dtype=torch.float16))
    assert view1.sum().isinf() and view1.isfinite().all()
    expected = dense(view1.double(), view2.double(), temperature=0.1).item()
    assert nt_xent(view1, view2, temperature=0.1).item() == pytest.approx(expected, rel=1e-5)


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

    monkeypatch.setattr(losses._SumExpOthers, "apply", fail)
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


def largest_and_kept(n, d, chunk_size, loss=nt_xent, **options):
    """(elements of the largest tensor, elements kept for the way back) of one step."""
    kept = {}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with Largest() as largest, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value_and_gradients(loss, *views(n, d), temperature=0.1, chunk_size=chunk_size, **options)
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
    assert largest_and_kept(300, 8, None)[1] >= 600**2 / 2


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


# --- info_nce ---


def info_nce_by_loops(query, key, queue, temperature):
    """MoCo's equation 1, or with in-batch keys CPC's, number by number."""
    q, k, negatives = ([[x / math.hypot(*row) for x in row] for row in m.tolist()] for m in (query, key, queue))
    total = 0.0
    for i in range(len(q)):
        candidates = [k[i], *negatives] if negatives else k
        scores = [math.exp(sum(a * b for a, b in zip(q[i], c, strict=True)) / temperature) for c in candidates]
        total += -math.log(scores[0 if negatives else i] / sum(scores))
    return total / len(q)


def info_nce_dense(query, key, *, temperature, queue=None):
    """The same in float64 with torch's own cross-entropy, for autograd to differentiate."""
    q, k = (x.double() / x.double().norm(dim=1, keepdim=True) for x in (query, key))
    if queue is None:
        return torch.nn.functional.cross_entropy(q @ k.T / temperature, torch.arange(len(q)))
    negatives = queue.double() / queue.double().norm(dim=1, keepdim=True)
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ negatives.T], 1) / temperature
    return torch.nn.functional.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))


def queue_of(size, d, dtype=torch.float64, seed=7):
    return views(size, d, seed)[0].to(dtype) if size else None


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(
    ("n", "size", "d"), [(2, 0, 1), (3, 0, 5), (17, 0, 8), (1, 1, 3), (1, 9, 4), (5, 3, 1), (6, 20, 8)]
)
def test_info_nce_equals_the_printed_equation(n, size, d, temperature):
    (query, key), queue = views(n, d), queue_of(size, d)
    by_hand = info_nce_by_loops(query, key, queue if size else torch.empty(0), temperature)
    assert info_nce(query, key, queue, temperature=temperature).item() == pytest.approx(by_hand)
    assert info_nce_dense(query, key, queue=queue, temperature=temperature).item() == pytest.approx(by_hand)


@pytest.mark.parametrize("chunk_size", [None, 1, 7, 10_000])
@pytest.mark.parametrize("temperature", [0.01, 0.1, 10.0])
@pytest.mark.parametrize(("n", "size"), [(2, 0), (33, 0), (300, 0), (1, 5), (40, 100), (300, 70)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_info_nce_value_and_gradients_equal_the_dense_form(n, size, temperature, dtype, chunk_size):
    options = {"queue": queue_of(size, 24, dtype), "chunk_size": chunk_size}
    assert_exact(*views(n, 24, n, dtype), temperature, loss=info_nce, oracle=info_nce_dense, **options)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [0, 50])
@pytest.mark.parametrize("temperature", [0.01, 0.2])
def test_info_nce_of_half_precision_is_exact_for_its_rounded_values(dtype, size, temperature, coarse_products):
    """In an autocast, and with coarse products allowed, on the way back too."""
    with torch.autocast("cpu", torch.bfloat16):
        assert_exact(*views(30, 32, dtype=dtype), temperature, loss=info_nce, oracle=outside_autocast(info_nce_dense),
                     queue=queue_of(size, 32, dtype))  # fmt: skip


def outside_autocast(function):
    """Its backward pass still stands in the autocast, where float64 is left alone."""
    return torch.autocast("cpu", enabled=False)(function)


@pytest.mark.parametrize("size", [0, 4])
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_info_nce_gradient_agrees_with_finite_differences(size, chunk_size):
    def loss(q, k):
        return 3 * info_nce(q, k, queue_of(size, 4), temperature=0.3, chunk_size=chunk_size)

    assert torch.autograd.gradcheck(loss, tuple(v.requires_grad_() for v in views(3, 4)))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_info_nce_of_equal_similarities_is_the_log_of_the_number_of_candidates(temperature):
    one, queue = torch.ones(8, 6), torch.ones(20, 6)
    assert info_nce(one, one, temperature=temperature).item() == pytest.approx(math.log(8), rel=1e-5)
    assert info_nce(one, one, queue, temperature=temperature).item() == pytest.approx(math.log(21), rel=1e-5)
    assert info_nce(one[:1], -one[:1], -queue, temperature=temperature).item() == pytest.approx(math.log(21), rel=1e-5)


def test_info_nce_is_one_way_and_with_a_queue_knows_no_other_key():
    query, key = views(6, 4)
    there, back = info_nce(query, key, temperature=0.2), info_nce(key, query, temperature=0.2)
    assert abs(there - back) > 1e-3  # CLIP takes the mean of both
    queue = queue_of(9, 4)
    alone = [info_nce(query[i : i + 1], key[i : i + 1], queue, temperature=0.2) for i in range(6)]
    torch.testing.assert_close(info_nce(query, key, queue, temperature=0.2), torch.stack(alone).mean())


def test_info_nce_with_a_queue_stays_exact_where_it_is_tiny():
    """log(1 + exp(-80)) is 1.8e-35, and log-sum-exp minus the positive would be 0, with gradient 0."""
    query = torch.eye(2)[:1].requires_grad_()
    loss = info_nce(query, query.detach(), torch.eye(2)[1:], temperature=1 / 80)
    assert loss.item() == pytest.approx(math.exp(-80), rel=1e-4, abs=0)
    loss.backward()
    assert query.grad[0, 1].item() == pytest.approx(80 * math.exp(-80), rel=1e-4, abs=0)


def test_the_queue_gets_no_gradient_and_the_key_only_where_it_has_one():
    (query, key), queue = views(5, 4), queue_of(6, 4).requires_grad_()
    query.requires_grad_(), key.requires_grad_()
    info_nce(query, key, queue, temperature=0.2).backward()
    assert queue.grad is None and key.grad.abs().max() > 0
    gradient, query.grad = query.grad, None
    info_nce(query, key.detach(), queue, temperature=0.2).backward()
    assert torch.equal(query.grad, gradient)


@pytest.mark.parametrize("size", [0, 500])
def test_info_nce_in_chunks_keeps_memory_linear(size):
    queue = queue_of(size, 2)
    largest, kept = largest_and_kept(300, 2, 10, loss=info_nce, queue=queue)
    assert largest == 10 * (size or 300)
    assert kept < 20 * (300 + size)
    assert largest_and_kept(300, 2, None, loss=info_nce, queue=queue)[1] >= 300 * (size or 300)


# --- sup_con ---


def sup_con_by_loops(embeddings, labels, temperature):
    """Khosla's equation 2, number by number; an anchor without a positive is passed over."""
    z, terms = [[x / math.hypot(*row) for x in row] for row in embeddings.tolist()], []
    for i in range(len(z)):
        score = [math.exp(sum(a * b for a, b in zip(z[i], other, strict=True)) / temperature) for other in z]
        positives = [p for p in range(len(z)) if p != i and labels[p] == labels[i]]
        denominator = sum(score[k] for k in range(len(z)) if k != i)
        if positives:
            terms.append(-sum(math.log(score[p] / denominator) for p in positives) / len(positives))
    return sum(terms) / len(terms)


def sup_con_dense(embeddings, _, *, temperature, labels):
    z = embeddings.double() / embeddings.double().norm(dim=1, keepdim=True)
    itself = torch.eye(len(z), dtype=torch.bool)
    logits = (z @ z.T / temperature).masked_fill(itself, -torch.inf)
    positive = (labels[:, None] == labels) & ~itself
    terms = -logits.log_softmax(1).masked_fill(~positive, 0).sum(1) / positive.sum(1)
    return terms[positive.any(1)].mean()


def labels_of(n, classes, seed=3):
    return torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed)) * 10 - 7


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("n", "classes"), [(2, 1), (7, 3), (12, 12), (9, 1)])
def test_sup_con_equals_the_printed_equation(n, classes, temperature):
    x, labels = views(n, 5)[0], labels_of(n, classes)
    by_hand = sup_con_by_loops(x, labels.tolist(), temperature)
    assert sup_con(x, labels, temperature=temperature).item() == pytest.approx(by_hand)
    assert sup_con_dense(x, x, temperature=temperature, labels=labels).item() == pytest.approx(by_hand)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.01, 0.1, 10.0])
@pytest.mark.parametrize(("n", "classes", "chunk_size"), [(5, 2, None), (300, 4, None), (300, 200, 70)])
def test_sup_con_value_and_gradients_equal_the_dense_form(n, classes, chunk_size, temperature, dtype):
    def loss(x, _, *, labels, **options):
        return sup_con(x, labels, chunk_size=chunk_size, **options)

    x = views(n, 24, n, dtype)[0]
    assert_exact(x, x, temperature, loss=loss, oracle=sup_con_dense, labels=labels_of(n, classes))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_sup_con_of_pairs_is_nt_xent(temperature):
    view1, view2 = views(9, 5)
    labels = torch.randperm(9, generator=torch.Generator().manual_seed(0)).repeat(2)
    both = sup_con(torch.cat([view1, view2]), labels, temperature=temperature)
    torch.testing.assert_close(both, nt_xent(view1, view2, temperature=temperature))


def test_a_row_without_a_positive_is_no_anchor_but_a_negative():
    x, labels = views(6, 4)[0], torch.tensor([0, 0, 1, 1, 2, 3])
    loss = sup_con(x, labels, temperature=0.2)
    assert sup_con(x[:4], labels[:4], temperature=0.2) < loss - 0.1  # two candidates fewer
    torch.testing.assert_close(sup_con(x, torch.tensor([0, 0, 1, 1, 3, 9]), temperature=0.2), loss)


def test_sup_con_is_bounded_by_the_number_of_positives():
    """A point for each class, far apart: log |P(i)|, here log 3. One point for all: log(N - 1)."""
    x = torch.eye(2).repeat_interleave(4, 0)
    labels = torch.arange(2).repeat_interleave(4)
    assert sup_con(x, labels, temperature=0.01).item() == pytest.approx(math.log(3), rel=1e-5)
    assert sup_con(torch.ones(8, 2), labels, temperature=0.01).item() == pytest.approx(math.log(7), rel=1e-5)


# --- margins ---

BOTH = [True, False]


def distance(a, b, squared=False, normalize=True):
    """|a - b| of two lists of numbers."""
    if normalize:
        a, b = ([x / math.hypot(*v) for x in v] for v in (a, b))
    return math.dist(a, b) ** (2 if squared else 1)


@pytest.mark.parametrize("normalize", BOTH)
@pytest.mark.parametrize("margin", [0, 0.5, 1.5])
def test_pair_margin_equals_the_printed_equation(margin, normalize):
    (a, b), same = views(30, 4), labels_of(30, 2) == 3
    terms = []
    for u, v, y in zip(a.tolist(), b.tolist(), same.tolist(), strict=True):
        d = distance(u, v, normalize=normalize)
        terms.append(y * d**2 + (1 - y) * max(0, margin - d) ** 2)
    got = pair_margin(a, b, same, margin=margin, normalize=normalize)
    assert got.item() == pytest.approx(sum(terms) / 30)
    assert (
        pair_margin(a, b, same, margin=margin).item() == pair_margin(a, b, same, margin=margin, normalize=True).item()
    )
    inputs = (a.requires_grad_(), b.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: pair_margin(a, b, same, margin=margin, normalize=normalize), inputs)


def test_pair_margin_by_hand():
    a, b = torch.tensor([[0.0, 0.0]] * 3), torch.tensor([[3.0, 4.0], [3.0, 4.0], [6.0, 8.0]])
    loss = pair_margin(a, b, torch.tensor([True, False, False]), margin=7, normalize=False)
    assert loss.item() == pytest.approx((25 + 4 + 0) / 3)  # twice the paper's, which halves the terms


@pytest.mark.parametrize("normalize", BOTH)
@pytest.mark.parametrize("squared", BOTH)
@pytest.mark.parametrize("margin", [0, 0.3, 2])
def test_triplet_margin_equals_the_printed_equation(margin, squared, normalize):
    (a, p), n = views(30, 4), views(30, 4, 1)[0]
    triplets = zip(a.tolist(), p.tolist(), n.tolist(), strict=True)
    terms = [max(0, distance(x, y, squared, normalize) - distance(x, z, squared, normalize) + margin)
             for x, y, z in triplets]  # fmt: skip
    options = {"margin": margin, "squared": squared, "normalize": normalize}
    assert triplet_margin(a, p, n, **options).item() == pytest.approx(sum(terms) / 30)
    inputs = tuple(x[:8].requires_grad_() for x in (a, p, n))
    assert torch.autograd.gradcheck(lambda a, p, n: triplet_margin(a, p, n, **options), inputs)


def test_triplet_margin_by_hand_and_by_default():
    """A right angle and a straight one: distances root 2 and 2 between unit vectors, 2 and 4 squared."""
    a, p, n = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]]), torch.tensor([[-5.0, 0.0]])
    assert triplet_margin(a, p, n, margin=1).item() == pytest.approx(math.sqrt(2) - 2 + 1)
    assert triplet_margin(a, p, n, margin=3, squared=True).item() == pytest.approx(2 - 4 + 3)
    assert triplet_margin(a, p, n, margin=5, normalize=False).item() == pytest.approx(math.sqrt(13) - 7 + 5)


def triplets_by_loops(x, labels, margin, mining, squared=False, normalize=True):
    """(a, p, n) and loss of each triplet, from the definitions."""
    x, n = x.tolist(), len(x)
    d = [[distance(u, v, squared, normalize) for v in x] for u in x]
    found = []
    for a in range(n):
        positives = [p for p in range(n) if p != a and labels[p] == labels[a]]
        negatives = [k for k in range(n) if labels[k] != labels[a]]
        if mining == "hard" and positives and negatives:
            positives = [max(positives, key=d[a].__getitem__)]
            negatives = [min(negatives, key=d[a].__getitem__)]
        for p in positives:
            for k in negatives:
                if mining != "semi-hard" or d[a][p] < d[a][k] < d[a][p] + margin:
                    found.append(((a, p, k), max(0, d[a][p] - d[a][k] + margin)))
    return found


MINING = ["all", "semi-hard", "hard"]


@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize(("squared", "normalize"), [(False, True), (True, True), (False, False), (True, False)])
@pytest.mark.parametrize(("n", "classes", "margin"), [(12, 3, 0.2), (12, 3, 0), (12, 3, 3), (15, 8, 0.5), (3, 2, 0.7)])
def test_batch_triplet_is_the_mean_over_the_triplets_of_the_definition(n, classes, margin, mining, squared, normalize):
    x, labels = views(n, 4, n)[0], labels_of(n, classes)
    found = triplets_by_loops(x, labels.tolist(), margin, mining, squared, normalize)
    losses_ = [loss for _, loss in found]
    options = {"margin": margin, "mining": mining, "squared": squared, "normalize": normalize}
    got = batch_triplet(x, labels, **options)
    assert got.item() == pytest.approx(sum(losses_) / max(1, len(found)), abs=1e-12)
    active = batch_triplet(x, labels, average="active", **options)
    assert active.item() == pytest.approx(sum(losses_) / max(1, sum(loss > 0 for loss in losses_)), abs=1e-12)

    points = x / x.norm(dim=1, keepdim=True) if normalize else x
    d = torch.cdist(points, points).pow(2 if squared else 1)
    mined = mine_triplets(d, labels, margin=margin, mining=mining)
    assert mined.dtype == torch.int64 and mined.shape == (len(found), 3)
    assert mined.tolist() == [list(triplet) for triplet, _ in found]


@pytest.mark.parametrize("average", ["all", "active"])
@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize("squared", BOTH)
@pytest.mark.parametrize("normalize", BOTH)
def test_batch_triplet_gradient_agrees_with_finite_differences(mining, average, squared, normalize):
    x, labels = views(8, 3)[0].requires_grad_(), labels_of(8, 3)
    options = {"margin": 0.4, "mining": mining, "average": average, "squared": squared, "normalize": normalize}
    assert batch_triplet(x, labels, **options) > 0
    assert torch.autograd.gradcheck(lambda x: 3 * batch_triplet(x, labels, **options), x)


@pytest.mark.parametrize("mining", MINING)
def test_blocks_of_anchors_change_nothing(mining, monkeypatch):
    x, labels = views(20, 4, dtype=torch.float32)[0], labels_of(20, 4)
    d = torch.cdist(x, x)
    whole = (batch_triplet(x, labels, margin=0.3, mining=mining), mine_triplets(d, labels, margin=0.3, mining=mining))
    monkeypatch.setattr(losses, "_MASK", 3 * 20**2)
    parts = (batch_triplet(x, labels, margin=0.3, mining=mining), mine_triplets(d, labels, margin=0.3, mining=mining))
    torch.testing.assert_close(parts, whole)
    with Largest() as largest:
        batch_triplet(x, labels, margin=0.3, mining=mining)
    assert largest.numel <= 3 * 20**2  # not 20^3


@pytest.mark.parametrize(("mining", "expected"), [("all", 0.25), ("hard", 0.25), ("semi-hard", 0)])
@pytest.mark.parametrize("average", ["all", "active"])
@pytest.mark.parametrize("squared", BOTH)
def test_collapsed_embeddings_cost_the_margin_and_get_a_zero_gradient(mining, expected, average, squared):
    """No negative is farther than a positive then, so there are no semi-hard ones."""
    x = torch.ones(6, 4, requires_grad=True)
    loss = batch_triplet(x, labels_of(6, 2), margin=0.25, mining=mining, average=average, squared=squared)
    assert loss.item() == expected and loss.requires_grad
    loss.backward()
    assert torch.equal(x.grad, torch.zeros(6, 4))


@pytest.mark.parametrize("average", ["all", "active"])
@pytest.mark.parametrize("mining", MINING)
def test_nothing_active_is_zero_with_a_zero_gradient(mining, average):
    x = torch.eye(2).repeat(3, 1).requires_grad_()
    loss = batch_triplet(x, torch.arange(2).repeat(3), margin=0.5, mining=mining, average=average)
    loss.backward()
    assert loss.item() == 0 and torch.equal(x.grad, torch.zeros(6, 2))


def test_the_two_means_differ_by_the_share_of_active_triplets():
    x, labels = views(12, 4)[0], labels_of(12, 3)
    d = torch.cdist(x, x)
    a, p, n = mine_triplets(d, labels, margin=0.5, mining="all").T
    share = (d[a, p] - d[a, n] + 0.5 > 0).double().mean()
    every = batch_triplet(x, labels, margin=0.5, normalize=False)
    active = batch_triplet(x, labels, margin=0.5, normalize=False, average="active")
    assert 0.2 < share < 0.8
    torch.testing.assert_close(every, share * active)


def test_a_triplet_exactly_at_the_margin_is_not_active():
    """Points 0 and 1 against 1.5: the first anchor's loss is 0, the second's 1."""
    x, labels = torch.tensor([[0.0], [1.0], [1.5]], requires_grad=True), torch.tensor([0, 0, 1])
    assert batch_triplet(x, labels, margin=0.5, normalize=False).item() == 0.5
    active = batch_triplet(x, labels, margin=0.5, normalize=False, average="active")
    active.backward()
    assert active.item() == 1 and x.grad.flatten().tolist() == [-1, 2, -1]


def test_hardest_of_equals_is_the_first():
    d = torch.tensor([[0.0, 2, 2, 1, 1], [2, 0, 2, 3, 3], [2, 2, 0, 3, 3], [1, 3, 3, 0, 2], [1, 3, 3, 2, 0]])
    labels = torch.tensor([0, 0, 0, 1, 2])
    mined = mine_triplets(d, labels, margin=0, mining="hard")
    assert mined.tolist() == [[0, 1, 3], [1, 0, 3], [2, 0, 3]]  # the last two have no positive


@pytest.mark.parametrize("squared", BOTH)
@pytest.mark.parametrize("normalize", BOTH)
def test_gradients_are_finite_where_points_coincide(squared, normalize):
    """sqrt(sum of squares) has a NaN gradient there."""
    a, b = (x.requires_grad_() for x in (torch.ones(4, 3), torch.ones(4, 3)))
    options = {"margin": 0.5, "normalize": normalize}
    x, labels = torch.tensor([[1.0, 2.0]] * 3 + [[2.0, 1.0]] * 3, requires_grad=True), torch.tensor([0, 0, 1, 0, 1, 1])
    total = pair_margin(a, b, torch.tensor([True, False] * 2), **options)
    total = total + triplet_margin(a, b, a + 1, squared=squared, **options)
    for mining in MINING:
        total = total + batch_triplet(x, labels, mining=mining, squared=squared, **options)
    total.backward()
    assert total.isfinite() and all(v.grad.isfinite().all() for v in (a, b, x)) and x.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_margins_of_any_precision_are_exact_for_the_rounded_values(dtype):
    (a, b), c, labels = views(20, 8, dtype=dtype), views(20, 8, 1, dtype)[0], labels_of(20, 4)
    for function in (
        lambda a, b: pair_margin(a, b, labels == 3, margin=0.8),
        lambda a, b: triplet_margin(a, b, c, margin=0.5),
        lambda a, b: batch_triplet(a, labels, margin=0.5) + batch_triplet(b, labels, margin=0.5),
        lambda a, b: (
            batch_triplet(a, labels, margin=0.5, mining="hard", squared=True) + batch_triplet(b, labels, margin=0.9)
        ),
    ):
        with torch.autocast("cpu", torch.bfloat16):
            got = value_and_gradients(function, a, b)
        expected = value_and_gradients(function, a.double(), b.double())
        assert got[0].dtype == torch.float32 and expected[0].dtype == torch.float64
        assert got[0].item() == pytest.approx(expected[0].item(), rel=2e-6)
        for g, e in zip(got[1:], expected[1:], strict=True):
            assert g.dtype == dtype
            assert (g.double() - e).abs().max() <= (1e-6 if dtype == torch.float32 else CLOSE[dtype]) * e.abs().max()


batches = st.tuples(st.integers(3, 12), st.integers(1, 6), st.integers(0, 10_000))


@few_examples
@given(batches, st.sampled_from(MINING), st.sampled_from(["all", "active"]))
def test_labelled_losses_ignore_order_lengths_and_the_names_of_labels(case, mining, average):
    n, d, seed = case
    x = views(n, d, seed)[0]
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.tensor([0, 0, 1]), torch.randint(3, (n - 3,), generator=generator)])
    order, lengths = torch.randperm(n, generator=generator), 10 ** torch.randn(n, 1, generator=generator).double()
    names = torch.tensor([5, -2, 40])
    for loss in (
        lambda x, labels: sup_con(x, labels, temperature=0.1),
        # Squared: on one dimension, where many distances are equal to rounding, the choice of one has no effect on it
        lambda x, labels: batch_triplet(x, labels, margin=0.31, mining=mining, average=average, squared=True),
    ):
        expected = loss(x, labels)
        assert expected >= 0
        torch.testing.assert_close(loss((lengths * x)[order], names[labels][order]), expected, atol=1e-9, rtol=1e-7)


@few_examples
@given(pairs, st.integers(1, 9))
def test_info_nce_ignores_order_and_lengths(case, size):
    n, d, seed, temperature = case
    (query, key), queue = views(n, d, seed), queue_of(size, d, seed=seed + 1)
    generator = torch.Generator().manual_seed(seed)
    order, lengths = torch.randperm(n, generator=generator), 10 ** torch.randn(n, 1, generator=generator).double()
    for negatives, turned in ((None, None), (queue, 3 * queue.flip(0))):
        loss = info_nce(query, key, negatives, temperature=temperature)
        assert -1e-9 <= loss <= math.log(n + size) + 2 / temperature
        same = info_nce((lengths * query)[order], key[order], turned, temperature=temperature)
        torch.testing.assert_close(same, loss)


@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_thousands_of_rows(temperature):
    view1, view2 = views(1500, 16, dtype=torch.float32)
    assert_exact(view1, view2, temperature)
    assert_exact(view1, view2, temperature, loss=info_nce, oracle=info_nce_dense)
    queue = queue_of(2000, 16, torch.float32)
    assert_exact(view1, view2, temperature, loss=info_nce, oracle=info_nce_dense, queue=queue)


@pytest.mark.parametrize(
    "function",
    [
        info_nce,
        lambda a, b, temperature: info_nce(a, b, a, temperature=temperature),
        lambda a, b, temperature: nt_xent(a, b, temperature=0.1 * temperature),
        lambda a, b, temperature: sup_con(a, torch.zeros(5, dtype=torch.long), temperature=temperature),
    ],
)
def test_every_way_through_refuses_a_second_derivative(function):
    view1, view2 = (v.requires_grad_() for v in views(5, 4))
    with pytest.raises(RuntimeError, match="no second derivative: leave out create_graph"):
        torch.autograd.grad(function(view1, view2, temperature=0.1), view1, create_graph=True)


# --- bad input ---

X, L = torch.ones(4, 3), torch.tensor([0, 0, 1, 1])
GOOD = {
    "info_nce": {"query": X, "key": X, "queue": X, "temperature": 0.5, "chunk_size": 2},
    "nt_xent": {"view1": X, "view2": X, "temperature": 0.5, "chunk_size": 2},
    "sup_con": {"embeddings": X, "labels": L, "temperature": 0.5, "chunk_size": 2},
    "pair_margin": {"a": X, "b": X, "same": L == 0, "margin": 0.5},
    "triplet_margin": {"anchor": X, "positive": X, "negative": X, "margin": 0.5},
    "batch_triplet": {"embeddings": X, "labels": L, "margin": 0.5, "mining": "all", "average": "all"},
    "mine_triplets": {"distances": torch.ones(4, 4), "labels": L, "margin": 0.5, "mining": "all"},
}
MATRIX = [
    (X.tolist(), TypeError, "expected a floating-point tensor [N, D], got list"),
    (X.long(), TypeError, "expected a floating-point tensor [N, D], got torch.int64"),
    (X[0], ValueError, "expected [N, D], neither of them 0, got [3]"),
    (X[None], ValueError, "expected [N, D], neither of them 0, got [1, 4, 3]"),
    (X[:0], ValueError, "expected [N, D], neither of them 0, got [0, 3]"),
    (X[:, :0], ValueError, "expected [N, D], neither of them 0, got [4, 0]"),
    (X * torch.nan, ValueError, "expected finite numbers, got NaN or infinity"),
    (X * -torch.inf, ValueError, "expected finite numbers, got NaN or infinity"),
]
NO_TRIPLET = "expected two rows of one label and one of another at least, got 4 rows of"
BAD_VALUES = {  # of the arguments that several functions have; what is said begins with the argument's name
    **dict.fromkeys(["query", "key", "queue", "view1", "view2", "embeddings", "a", "b", "anchor", "positive"], MATRIX),
    "negative": MATRIX,
    "distances": [*MATRIX, (X, ValueError, "expected [N, N], of all rows to all rows, got [4, 3]")],
    "temperature": [
        (0, ValueError, "expected a number > 0 (0.05 to 0.5 is usual), got 0"),
        (-0.1, ValueError, "got -0.1"),
        (math.nan, ValueError, "got nan"),
        (math.inf, ValueError, "got inf"),
        ("low", TypeError, "expected a plain number > 0, got a str"),
        (None, TypeError, "got a NoneType"),
        (torch.tensor(0.5, requires_grad=True), TypeError, "plain number > 0, got a Tensor"),
    ],
    "chunk_size": [
        (0, ValueError, "expected an integer of at least 1, or None, got 0"),
        (-4, ValueError, "got -4"),
        (2.0, ValueError, "got 2.0"),
        (True, ValueError, "got True"),
    ],
    "margin": [
        (-0.1, ValueError, "expected a number >= 0 (0.2 is usual), got -0.1"),
        (math.nan, ValueError, "got nan"),
        (math.inf, ValueError, "got inf"),
        ("wide", TypeError, "expected a plain number >= 0, got a str"),
        (torch.tensor(0.5), TypeError, "got a Tensor"),
    ],
    "labels": [
        ([0, 0, 1, 1], TypeError, "expected integers [N], got list"),
        (L.float(), TypeError, "expected integers [N], got torch.float32"),
        (L + 0j, TypeError, "expected integers [N], got torch.complex64"),
        (L[:3], ValueError, "expected one for each row, [4] on cpu, got [3] on cpu"),
        (L[:, None], ValueError, "expected one for each row, [4] on cpu, got [4, 1] on cpu"),
        (L.to("meta"), ValueError, "expected one for each row, [4] on cpu, got [4] on meta"),
    ],
    "same": [
        (L, TypeError, "expected a bool tensor [N], such as labels_a == labels_b, got torch.int64"),
        ([True], TypeError, "got list"),
        (L[:3] == 0, ValueError, "expected one entry for each pair, [4] on cpu, got [3] on cpu"),
        ((L == 0).to("meta"), ValueError, "got [4] on meta"),
    ],
    "mining": [("hardest", ValueError, 'expected "all", "semi-hard" or "hard", got \'hardest\'')],
    "average": [(None, ValueError, 'expected "all" or "active", got None')],
}
BAD = {
    "info_nce": [
        (
            {"key": X[:, :2]},
            ValueError,
            "query and key: expected one shape on one device, got [4, 3] on cpu and [4, 2]",
        ),
        ({"key": X[:2]}, ValueError, "got [4, 3] on cpu and [2, 3] on cpu"),
        ({"query": X.to("meta")}, ValueError, "got [4, 3] on meta and [4, 3] on cpu"),
        ({"queue": X[:, :2]}, ValueError, "queue: expected [K, 3] on cpu, as query and key are, got [4, 2] on cpu"),
        (
            {"queue": X.to("meta")},
            ValueError,
            "queue: expected [K, 3] on cpu, as query and key are, got [4, 3] on meta",
        ),
        ({"query": X[:1], "key": X[:1], "queue": None}, ValueError, "the negatives), or a queue, got 1"),
    ],
    "nt_xent": [
        ({"view2": X[:, :2]}, ValueError, "view1 and view2: expected one shape on one device, got [4, 3] on cpu and"),
        ({"view2": X[:2]}, ValueError, "got [4, 3] on cpu and [2, 3] on cpu"),
        ({"view2": X.to("meta")}, ValueError, "got [4, 3] on cpu and [4, 3] on meta"),
        ({"view1": X[:1], "view2": X[:1]}, ValueError, "at least 2 pairs (the others are the negatives), got 1"),
    ],
    "sup_con": [
        (
            {"labels": torch.arange(4)},
            ValueError,
            "labels: expected two rows of one label at least, got 4 rows without",
        ),
        ({"labels": L[:1], "embeddings": X[:1]}, ValueError, "got 1 rows without a positive"),
    ],
    "pair_margin": [({"b": X[:, :2]}, ValueError, "a and b: expected one shape on one device, got [4, 3] on cpu and")],
    "triplet_margin": [
        ({"positive": X[:3]}, ValueError, "anchor and positive: expected one shape on one device, got [4, 3] on cpu"),
        ({"negative": X[:3]}, ValueError, "anchor and negative: expected one shape on one device, got [4, 3] on cpu"),
        ({"negative": X.to("meta")}, ValueError, "got [4, 3] on cpu and [4, 3] on meta"),
    ],
    "batch_triplet": [
        ({"labels": torch.arange(4)}, ValueError, f"labels: {NO_TRIPLET} 4 labels, no triplet"),
        ({"labels": L * 0}, ValueError, f"labels: {NO_TRIPLET} 1 label, no triplet"),
    ],
    "mine_triplets": [
        ({"labels": torch.arange(4), "mining": "hard"}, ValueError, f"labels: {NO_TRIPLET} 4 labels, no triplet"),
        ({"labels": L * 0}, ValueError, f"labels: {NO_TRIPLET} 1 label, no triplet"),
    ],
}
CASES = [(name, *case) for name in BAD for case in BAD[name]] + [
    (name, {argument: value}, kind, (f"{argument}: expected", words))
    for name, good in GOOD.items()
    for argument in good
    for value, kind, words in BAD_VALUES[argument]
]


@pytest.mark.parametrize(("name", "changes", "kind", "words"), CASES)
def test_bad_input_says_what_was_expected_and_what_came(name, changes, kind, words):
    getattr(losses, name)(**GOOD[name])
    with pytest.raises(kind, match=r"expected[\s\S]*got") as error:
        getattr(losses, name)(**(GOOD[name] | changes))
    for part in [words] if isinstance(words, str) else words:
        assert part in str(error.value)


def test_every_public_function_is_in_the_table_of_bad_input():
    ours = {n: x for n, x in vars(losses).items() if getattr(x, "__module__", "") == losses.__name__ and n[0] != "_"}
    public = {name for name, x in ours.items() if not isinstance(x, type)}
    assert set(BAD) == set(GOOD) == public
