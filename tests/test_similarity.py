"""Similarities against loops over plain numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clbook import similarity
from clbook.similarity import cosine_similarity_matrix, euclidean_distance_matrix

HALF = (torch.float16, torch.bfloat16)
few_examples = settings(derandomize=True, deadline=None, max_examples=25, database=None)
seeds = st.integers(0, 10_000)


def cosine_by_loops(a, b):
    """a . b / (|a| |b|), number by number, in Python's own float64."""

    def dot(x, y):
        return sum(p * q for p, q in zip(x, y, strict=True))

    a, b = a.tolist(), b.tolist()
    return torch.tensor([[dot(x, y) / math.sqrt(dot(x, x) * dot(y, y)) for y in b] for x in a], dtype=torch.float64)


def distance_by_loops(a, b):
    return torch.tensor([[math.dist(x, y) for y in b.tolist()] for x in a.tolist()], dtype=torch.float64)


def rows(n, d, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 1), (2, 3, 4), (7, 5, 1), (5, 1, 16), (40, 30, 64)])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_matrices_equal_the_loops(n, m, d, dtype, close):
    a, b = rows(n, d, 1, dtype), rows(m, d, 2, dtype)
    cosine, distance = cosine_similarity_matrix(a, b), euclidean_distance_matrix(a, b)
    squared = euclidean_distance_matrix(a, b, squared=True)
    assert cosine.dtype == distance.dtype == squared.dtype == dtype
    torch.testing.assert_close(cosine.double(), cosine_by_loops(a, b), rtol=0, atol=close)
    torch.testing.assert_close(distance.double(), distance_by_loops(a, b), rtol=close, atol=close)
    torch.testing.assert_close(squared.double(), distance_by_loops(a, b) ** 2, rtol=close, atol=close)


def test_known_angles_and_lengths():
    a = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    b = torch.tensor([[5.0, 0.0], [-1.0, 0.0], [1.0, 1.0], [1.0, math.sqrt(3)]])
    half, root = 0.5, math.sqrt(0.5)
    expected = torch.tensor([[1.0, -1.0, root, half], [0.0, 0.0, root, math.sqrt(0.75)]])
    torch.testing.assert_close(cosine_similarity_matrix(a, b), expected)
    assert euclidean_distance_matrix(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])).item() == 5
    assert euclidean_distance_matrix(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]), squared=True).item() == 25


def test_on_unit_vectors_the_squared_distance_is_two_minus_two_cosines():
    a, b = (x / x.norm(dim=1, keepdim=True) for x in (rows(9, 5, 1), rows(8, 5, 2)))
    torch.testing.assert_close(euclidean_distance_matrix(a, b, squared=True), 2 - 2 * cosine_similarity_matrix(a, b))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
def test_zero_vectors_are_like_nothing(dtype):
    a = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=dtype)
    cosine = cosine_similarity_matrix(a, a)
    assert cosine[0].tolist() == [0, 0] and cosine[1, 0] == 0  # F.normalize makes NaN of zeros in float16
    assert cosine[1, 1].item() == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_is_the_same_matrix_rounded(dtype):
    a, b = rows(6, 16, 1, dtype), rows(5, 16, 2, dtype)
    eps = torch.finfo(dtype).eps
    for function, loops, scale in (
        (cosine_similarity_matrix, cosine_by_loops, 1),
        (euclidean_distance_matrix, distance_by_loops, 8),
    ):
        got = function(a, b)
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), loops(a, b), rtol=0, atol=3 * scale * eps)


def test_points_very_near_each_other_keep_their_distance():
    """|a|^2 + |b|^2 - 2 a.b cancels to 0 here."""
    a = torch.full((1, 3), 10.0)
    b = a + torch.tensor([[1e-4, 0.0, 0.0]])
    true = (b[0, 0].double() - a[0, 0].double()).item()
    many = torch.cat([b] * 60)  # cdist changes its method above 25 rows unless told
    torch.testing.assert_close(euclidean_distance_matrix(a, many), torch.full((1, 60), true))
    assert (euclidean_distance_matrix(many, many) == 0).all()


@pytest.mark.parametrize("squared", [False, True])
def test_gradient_is_finite_where_points_coincide(squared):
    a = torch.ones(3, 4, requires_grad=True)
    euclidean_distance_matrix(a, torch.ones(3, 4), squared).sum().backward()
    assert (a.grad == 0).all()


@pytest.mark.parametrize(
    "function",
    [
        cosine_similarity_matrix,
        euclidean_distance_matrix,
        lambda a, b: euclidean_distance_matrix(a, b, squared=True),
    ],
)
def test_gradients_agree_with_finite_differences(function):
    a, b = rows(3, 4, 1).requires_grad_(), rows(2, 4, 2).requires_grad_()
    assert torch.autograd.gradcheck(function, (a, b))


@few_examples
@given(seeds, st.integers(1, 6), st.integers(1, 6), st.integers(1, 8))
def test_lengths_rotations_and_the_order_do_not_matter(seed, n, m, d):
    a, b = rows(n, d, seed), rows(m, d, seed + 1)
    lengths = 10 ** rows(n, 1, seed + 2)  # positive, from about 0.01 to 100
    turn = torch.linalg.qr(rows(d, d, seed + 3)).Q
    cosine, distance = cosine_similarity_matrix(a, b), euclidean_distance_matrix(a, b)
    torch.testing.assert_close(cosine_similarity_matrix(lengths * a, b), cosine)
    torch.testing.assert_close(cosine_similarity_matrix(a @ turn, b @ turn), cosine)
    torch.testing.assert_close(euclidean_distance_matrix(a @ turn + 3, b @ turn + 3), distance)
    torch.testing.assert_close(cosine_similarity_matrix(b, a), cosine.T)
    torch.testing.assert_close(euclidean_distance_matrix(b, a), distance.T)
    assert cosine.abs().max() <= 1 + 1e-12


X = torch.ones(2, 3)
BAD = {
    "cosine_similarity_matrix": [
        ((X.tolist(), X), TypeError, "a: expected a floating-point tensor [N, D], got list"),
        ((X, X.long()), TypeError, "b: expected a floating-point tensor [N, D], got torch.int64"),
        ((X, X.double()), TypeError, "torch.float32 on cpu and torch.float64 on cpu"),
        ((X, X[0]), ValueError, "got [2, 3] and [3]"),
        ((X[None], X), ValueError, "got [1, 2, 3] and [2, 3]"),
        ((X, X[:, :2]), ValueError, "same D, none of them 0, got [2, 3] and [2, 2]"),
        ((X[:0], X), ValueError, "got [0, 3] and [2, 3]"),
        ((X, X[:0]), ValueError, "got [2, 3] and [0, 3]"),
        ((X[:, :0], X[:, :0]), ValueError, "got [2, 0] and [2, 0]"),
        ((X * torch.nan, X), ValueError, "a: expected finite numbers, got NaN or infinity"),
        ((X, X * torch.inf), ValueError, "b: expected finite numbers, got NaN or infinity"),
    ]
}
BAD["euclidean_distance_matrix"] = BAD["cosine_similarity_matrix"]


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in BAD for case in BAD[name]])
def test_bad_input_says_what_was_expected_and_what_came(name, case):
    arguments, kind, words = case
    with pytest.raises(kind, match=r"expected[\s\S]*got") as error:
        getattr(similarity, name)(*arguments)
    assert words in str(error.value)


def test_every_public_function_is_in_the_table_of_bad_input():
    assert set(BAD) == {n for n, f in vars(similarity).items() if getattr(f, "__module__", "") == similarity.__name__
                        and not n.startswith("_")}  # fmt: skip
