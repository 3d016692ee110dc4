"""Features and neighbours against loops; encoders left as they were found."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from clbook import evaluation
from clbook.datasets import ImageSet
from clbook.evaluation import encode, knn_accuracy, knn_predict, knn_score
from clbook.models import small

few_examples = settings(derandomize=True, deadline=None, max_examples=25, database=None)


@pytest.fixture(autouse=True)
def the_same_weights_every_time():
    torch.manual_seed(0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def predict_by_loops(bank, bank_labels, queries, k, temperature):
    """Wu et al. 2018, number by number: each of the k nearest votes for its label with weight exp(cosine / t)."""
    predicted = []
    for query in queries.tolist():
        cosines = []
        for row, label in zip(bank.tolist(), bank_labels.tolist(), strict=True):
            dot = sum(p * q for p, q in zip(query, row, strict=True))
            cosines.append((dot / (math.hypot(*query) * math.hypot(*row)), label))
        votes = {}
        for cosine, label in sorted(cosines, reverse=True)[:k]:
            votes[label] = votes.get(label, 0.0) + math.exp(cosine / temperature)
        predicted.append(max(votes, key=votes.get))
    return torch.tensor(predicted)


def labelled(n, d, classes=4, seed=0):
    """Features that tell the label now and then, and the labels."""
    labels = torch.randint(0, classes, (n,), generator=generator(seed))
    centres = torch.randn(classes, d, generator=generator(99))
    return centres[labels] + 1.5 * torch.randn(n, d, generator=generator(seed + 1)), labels


# --- kNN ---


@pytest.mark.parametrize("k", [1, 2, 5, 20, 60])
@pytest.mark.parametrize("temperature", [0.02, 0.07, 1.0, 100.0])
def test_votes_equal_the_loops(k, temperature):
    bank, bank_labels = labelled(60, 5)
    queries, labels = labelled(40, 5, seed=2)
    expected = predict_by_loops(bank, bank_labels, queries, k, temperature)
    predicted = knn_predict(bank, bank_labels, queries, k=k, temperature=temperature)
    assert predicted.dtype == torch.int64 and torch.equal(predicted, expected)
    right = sum(p == t for p, t in zip(expected.tolist(), labels.tolist(), strict=True))
    accuracy = knn_accuracy(bank, bank_labels, queries, labels, k=k, temperature=temperature)
    assert isinstance(accuracy, float) and accuracy == pytest.approx(right / 40)


def test_defaults_are_20_neighbours_at_temperature_0_07():
    bank, bank_labels = labelled(300, 5)
    queries, labels = labelled(200, 5, seed=2)
    expected = predict_by_loops(bank, bank_labels, queries, 20, 0.07)
    assert torch.equal(knn_predict(bank, bank_labels, queries), expected)
    assert knn_accuracy(bank, bank_labels, queries, labels) == pytest.approx((expected == labels).float().mean().item())


def on_circle(*degrees):
    angle = torch.deg2rad(torch.tensor([float(d) for d in degrees]))
    return torch.stack([angle.cos(), angle.sin()], 1)


def test_near_neighbours_count_more_than_many():
    bank, labels = on_circle(5, 60, 62, 180), torch.tensor([2, 1, 1, 0])
    query = on_circle(0)
    assert knn_predict(bank, labels, query, k=3, temperature=0.07).item() == 2  # exp(0.50 / 0.07) outweighs two
    assert knn_predict(bank, labels, query, k=3, temperature=10.0).item() == 1  # nearly a vote per head
    assert knn_predict(bank, labels, query, k=1, temperature=10.0).item() == 2
    assert knn_predict(bank, labels, -query, k=1).item() == 0


def test_a_small_temperature_does_not_underflow():
    """exp((s - 1) / t) is 0 for each of these neighbours, and label 0, which has none, would win."""
    bank, labels = on_circle(100, 255, 256), torch.tensor([3, 1, 1])
    assert knn_predict(bank, labels, on_circle(0), k=3, temperature=0.003).item() == 3


def test_a_tie_goes_to_the_lowest_label_every_time():
    bank, labels = on_circle(30, 30, 30, 30), torch.tensor([3, 1, 1, 3])
    for _ in range(3):
        assert knn_predict(bank, labels, on_circle(0, 30), k=4).tolist() == [1, 1]
    same, any_label = torch.ones(500, 3), torch.arange(500) % 7  # which of equals are the k nearest is open, but fixed
    first = knn_predict(same, any_label, torch.ones(50, 3), k=10)
    assert len(first.unique()) == 1 and torch.equal(first, knn_predict(same, any_label, torch.ones(50, 3), k=10))


def test_each_picture_is_its_own_nearest():
    bank, labels = labelled(200, 6)
    assert knn_accuracy(bank, labels, bank, labels, k=1) == 1.0
    assert knn_accuracy(bank, labels, bank, (labels + 1) % 4, k=1) == 0.0


def test_more_queries_than_a_block():
    bank, bank_labels = labelled(30, 3)
    queries, labels = labelled(2500, 3, seed=2)
    whole = knn_predict(bank, bank_labels, queries, k=5)
    parts = [knn_predict(bank, bank_labels, part, k=5) for part in queries.split(7)]
    assert torch.equal(whole, torch.cat(parts))
    some = torch.tensor([0, 1023, 1024, 2047, 2048, 2499])
    assert torch.equal(whole[some], predict_by_loops(bank, bank_labels, queries[some], 5, 0.07))
    right = (whole == labels).float().mean().item()
    assert knn_accuracy(bank, bank_labels, queries, labels, k=5) == pytest.approx(right)


def test_memory_is_bounded():
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            tensors = result if isinstance(result, (tuple, list)) else [result]
            largest = max([largest, *(t.numel() for t in tensors if isinstance(t, torch.Tensor))])
            return result

    bank, labels = labelled(50, 3)
    with Watch():
        knn_predict(bank, labels, torch.ones(5000, 3), k=5)
    assert largest == 1024 * 50


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_give_the_same_votes(dtype):
    bank, bank_labels = labelled(100, 5)
    queries, _ = labelled(80, 5, seed=2)
    bank, queries = bank.to(dtype), queries.to(dtype)
    expected = knn_predict(bank.float(), bank_labels, queries.float(), k=7)
    assert torch.equal(knn_predict(bank, bank_labels, queries, k=7), expected)


@few_examples
@given(st.integers(2, 30), st.integers(1, 30), st.integers(0, 1000))
def test_order_of_the_bank_lengths_and_rotations_do_not_matter(n, k, seed):
    bank, bank_labels = labelled(n, 4, seed=seed)
    queries, _ = labelled(20, 4, seed=seed + 2)
    k = min(k, n)
    expected = knn_predict(bank, bank_labels, queries, k=k)
    order = torch.randperm(n, generator=generator(seed))
    lengths = 1 + 9 * torch.rand(n, 1, generator=generator(seed))
    turn = torch.linalg.qr(torch.randn(4, 4, generator=generator(seed))).Q
    assert torch.equal(knn_predict(bank[order], bank_labels[order], queries, k=k), expected)
    assert torch.equal(knn_predict(lengths * bank, bank_labels, 0.1 * queries, k=k), expected)
    assert torch.equal(knn_predict(bank @ turn, bank_labels, queries @ turn, k=k), expected)


# --- encode ---


def pictures(n=23, size=16):
    return torch.randint(0, 256, (n, 3, size, size), generator=generator(), dtype=torch.uint8)


def used_encoder():
    """An encoder in the middle of its training, one batch-norm frozen."""
    encoder = small(2).train()
    encoder(torch.rand(8, 3, 16, 16))
    encoder[1].eval()
    return encoder


def modes(module):
    return [part.training for part in module.modules()]


@pytest.mark.parametrize("batch_size", [1, 7, 23, 500])
def test_features_do_not_depend_on_the_batch_size(batch_size):
    encoder, images = used_encoder(), pictures()
    features = encode(encoder, images, batch_size=batch_size)
    expected = copy.deepcopy(encoder).eval()(images / 255).detach()
    assert features.shape == (23, 16) and features.dtype == torch.float32 and not features.requires_grad
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(encode(encoder, images / 255, batch_size=batch_size), expected)


def test_no_batch_is_larger_than_asked():
    sizes = []

    class Count(nn.Flatten):
        def forward(self, images):
            sizes.append(len(images))
            return super().forward(images)

    encode(Count(), pictures(), batch_size=10)
    encode(Count(), pictures(1001, 1))
    assert sizes == [10, 10, 3, 500, 500, 1]


def test_the_encoder_is_left_as_it_was():
    encoder = used_encoder()
    before, state = modes(encoder), copy.deepcopy(encoder.state_dict())
    encode(encoder, pictures())
    assert modes(encoder) == before and True in before and False in before
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
    with pytest.raises(RuntimeError):
        encode(encoder, pictures()[:, :1])  # one channel for three
    assert modes(encoder) == before


@pytest.mark.parametrize("encoder", [None, nn.Flatten()])
def test_pixels_are_features_too(encoder):
    images = pictures()
    expected = torch.stack([image.reshape(-1) / 255 for image in images])
    assert torch.equal(encode(encoder, images), expected)
    assert encode(encoder, images.double() / 255).dtype == torch.float32
    assert encode(encoder, (images / 255).half()).dtype == torch.float32


def test_an_encoder_in_double_precision_gives_float32():
    assert encode(small(2).double(), pictures().double() / 255).dtype == torch.float32


# --- knn_score ---


def image_set(n, seed=0, **changes):
    """Pictures whose brightness is the label and whose left edge is the factor."""
    labels = torch.arange(n) % 3
    edges = torch.randint(0, 2, (n,), generator=generator(seed))
    images = 60 * labels.view(n, 1, 1, 1).expand(n, 3, 4, 4).clone() + 20
    images[..., 0] = 200 * edges.view(n, 1, 1)
    images += torch.randint(0, 6, images.shape, generator=generator(seed))
    return ImageSet("bars", images.to(torch.uint8), **({"labels": labels, "factors": {"edge": edges}} | changes))


class Centred(nn.Flatten):
    def forward(self, images):
        return super().forward(images) - 0.4


@pytest.mark.parametrize("encoder", [None, Centred()])
@pytest.mark.parametrize("factor", [None, "edge"])
def test_knn_score_is_the_accuracy_of_encoded_pictures(encoder, factor):
    bank, queries = image_set(40), image_set(30, seed=1)
    target = [s.labels if factor is None else s.factors[factor] for s in (bank, queries)]
    features = [encode(encoder, s.images) for s in (bank, queries)]
    expected = predict_by_loops(features[0], target[0], features[1], 5, 0.07)
    score = knn_score(encoder, bank, queries, factor=factor, k=5)
    assert score == pytest.approx((expected == target[1]).float().mean().item())
    assert score > 0.55 if factor is None else score > 0.9


def test_knn_score_takes_20_neighbours_or_the_whole_of_a_small_bank():
    bank, queries = image_set(9), image_set(30, seed=1)
    assert knn_score(None, bank, queries) == knn_score(None, bank, queries, k=9)
    bank = image_set(90)
    assert knn_score(None, bank, queries) == knn_score(None, bank, queries, k=20)


# --- bad input ---

F4, L4 = torch.rand(4, 3, generator=generator()), torch.tensor([0, 1, 1, 0])
GOOD = {"k": 2}
FEATURES = [
    ((F4[0], L4, F4), GOOD, ValueError, "bank: expected floating-point features [N, D], N > 0, got torch.float32 [3]"),
    ((F4.long(), L4, F4), GOOD, ValueError, "got torch.int64 [4, 3]"),
    ((F4[:0], L4[:0], F4), GOOD, ValueError, "got torch.float32 [0, 3]"),
    ((F4, L4[:3], F4), GOOD, ValueError, "bank labels: expected one for each of 4 features, got [3]"),
    ((F4, L4.float(), F4), GOOD, ValueError, "bank labels: expected int64 from 0 up, got torch.float32"),
    ((F4, L4 - 1, F4), GOOD, ValueError, "bank labels: expected int64 from 0 up, got torch.int64 from -1"),
    ((F4, L4, F4[:, :2]), GOOD, ValueError, "queries: expected [M, 3] like the bank, got [4, 2]"),
    *(((F4, L4, F4), {"k": k}, ValueError, f"k: expected an integer from 1 to 4, the size of the bank, got {k!r}")
      for k in (0, -1, 5, 2.0)),
    *(((F4, L4, F4), GOOD | {"temperature": t}, ValueError, f"temperature: expected a number > 0, got {t}")
      for t in (0, -0.1, math.nan)),
]  # fmt: skip
SET, BARE = image_set(6), image_set(6, labels=None, factors={})
BAD = {
    "knn_predict": [*FEATURES, ((F4, L4, F4[0]), GOOD, ValueError, "queries: expected [M, 3] like the bank, got [3]")],
    "knn_accuracy": [
        *(((*arguments, L4), *rest) for arguments, *rest in FEATURES),
        ((F4, L4, F4, L4[:1]), GOOD, ValueError, "queries labels: expected one for each of 4 features, got [1]"),
        ((F4, L4, F4, L4[:, None]), GOOD, ValueError, "queries labels: expected one for each of 4 features, got [4, 1"),
        ((F4, L4, F4[:0], L4[:0]), GOOD, ValueError, "queries: expected floating-point features [N, D], N > 0"),
        ((F4, L4, F4.long(), L4), GOOD, ValueError, "queries: expected floating-point features"),
    ],
    "encode": [
        *(((None, pictures()), {"batch_size": b}, ValueError, f"batch_size: expected an integer of at least 1, got {b}")
          for b in (0, -5, 2.5)),
        ((None, pictures()[0]), {}, ValueError, "images: expected a batch [N, C, H, W]"),
        ((None, pictures()[:0]), {}, ValueError, "got [0, 3, 16, 16]"),
        ((small(1), pictures()[:0]), {}, ValueError, "got [0, 3, 16, 16]"),
        ((small(1), pictures().long()), {}, TypeError, "expected uint8 in 0..255 or float in [0, 1], got torch.int64"),
        ((None, [pictures()]), {}, TypeError, "images: expected a tensor [N, C, H, W], got list"),
        ((small(1), [pictures()]), {}, TypeError, "images: expected a tensor [N, C, H, W], got list"),
    ],
    "knn_score": [
        ((None, BARE, SET), {}, ValueError, "expected pictures with labels; bars has none"),
        ((None, SET, BARE), {}, ValueError, "expected pictures with labels; bars has none"),
        ((None, SET, SET), {"factor": "egde"}, ValueError, "factor: expected one of edge for bars, got 'egde'"),
        ((None, SET, BARE), {"factor": "edge"}, ValueError, "factor: expected one of (none) for bars, got 'edge'"),
        ((None, SET, SET), {"k": 0}, ValueError, "k: expected an integer from 1 to 6"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in BAD for case in BAD[name]])
def test_bad_input_says_what_was_expected_and_what_came(name, case):
    arguments, options, kind, words = case
    with pytest.raises(kind, match="expected") as error:
        getattr(evaluation, name)(*arguments, **options)
    assert words in str(error.value)


def test_every_public_function_is_in_the_table_of_bad_input():
    ours = {n for n, f in vars(evaluation).items() if getattr(f, "__module__", "") == evaluation.__name__}
    assert set(BAD) == {name for name in ours if not name.startswith("_")}
