"""Features, neighbours and geometry against loops, probes against a solver of their own; encoders left as found."""

import copy
import inspect
import math
import re
import statistics
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from clbook import evaluation, training
from clbook.checks import clinic
from clbook.datasets import ImageSet
from clbook.evaluation import (
    Interval,
    alignment,
    balanced_subset,
    collapse,
    confusion_matrix,
    dimension_std,
    effective_rank,
    encode,
    fine_tune,
    knn_accuracy,
    knn_predict,
    knn_score,
    label_efficiency,
    linear_probe,
    linear_probe_accuracy,
    neighbours_kept,
    recall_at_k,
    uniformity,
)
from clbook.moco import MomentumEncoder
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


def test_labels_may_be_large_numbers():
    """A vote needs room for the labels that there are, not for all up to the largest: 40 GB here."""
    bank, labels = on_circle(0, 5, 90, 95), torch.tensor([10_000_000, 10_000_000, 7, 7])
    assert knn_predict(bank, labels, on_circle(*range(0, 5), *range(88, 93)).repeat(100, 1), k=3).tolist() == [
        *[10_000_000] * 5, *[7] * 5] * 100  # fmt: skip


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


def largest_tensor(function):
    """The numbers in the largest tensor that a call makes."""
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            tensors = result if isinstance(result, (tuple, list)) else [result]
            largest = max([largest, *(t.numel() for t in tensors if isinstance(t, torch.Tensor))])
            return result

    with Watch():
        function()
    return largest


def test_memory_is_bounded(monkeypatch):
    bank, labels = labelled(50, 3)
    queries, some = labelled(5000, 3)
    assert largest_tensor(lambda: knn_predict(bank, labels, queries, k=5)) == 1024 * 50
    assert largest_tensor(lambda: recall_at_k(queries, some, (1, 5), bank=bank, bank_labels=labels)) == 1024 * 50
    assert largest_tensor(lambda: uniformity(queries[:2000])) == 1024 * 2000
    monkeypatch.setattr(evaluation, "_NUMBERS", 60_000)  # a bank this long is met by fewer queries at a time
    assert largest_tensor(lambda: knn_predict(queries, some, queries[:100], k=5)) == 12 * 5000
    assert largest_tensor(lambda: recall_at_k(queries[:3000], some[:3000], (1, 5))) == 20 * 3000
    assert largest_tensor(lambda: uniformity(queries[:3000])) == 20 * 3000
    monkeypatch.setattr(evaluation, "_NUMBERS", 10)
    assert len(knn_predict(bank, labels, queries[:3], k=5)) == 3  # one at a time, at least


@pytest.mark.parametrize("n", [1279, 1280, 1300, 4000])
def test_long_banks_are_searched_to_their_ends(n):
    """From 40 groups of 32 on, k = 10 takes another way. Neighbours stand next to each other, and at either end."""
    bank, bank_labels = labelled(n, 5)
    queries, _ = labelled(12, 5, seed=2)
    for rows in (slice(0, 12), slice(100, 112), slice(n - 12, n)):
        near = bank.clone()
        near[rows] = queries[0] + 0.01 * bank[rows]
        expected = predict_by_loops(near, bank_labels, queries, 10, 0.07)
        assert torch.equal(knn_predict(near, bank_labels, queries, k=10), expected)
    values = torch.randn(3, n, generator=generator())
    for k in (1, 7, 10, 40):
        top, places = evaluation._topk(values, k)
        assert top.tolist() == [sorted(row, reverse=True)[:k] for row in values.tolist()]
        assert torch.equal(values.gather(1, places), top)


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


# --- recall@k ---


def recall_by_loops(queries, labels, bank, bank_labels, k, others):
    hits = 0
    for i, query in enumerate(queries.tolist()):
        ranked = sorted(
            (j for j in range(len(bank)) if not (others and i == j)),
            key=lambda j: -sum(p * q for p, q in zip(query, bank[j].tolist(), strict=True)) / math.hypot(*bank[j]),
        )
        hits += any(bank_labels[j] == labels[i] for j in ranked[:k])
    return hits / len(queries)


def test_recall_by_hand():
    """Two pairs and a lone picture: 0 finds its own first, 30 finds 45 first, 190 has no one to find."""
    features, labels = on_circle(0, 10, 45, 30, 190), torch.tensor([0, 0, 1, 2, 3])
    assert recall_at_k(features, labels, (1, 2, 4)) == pytest.approx({1: 0.4, 2: 0.4, 4: 0.4})
    labels = torch.tensor([0, 1, 1, 0, 1])  # nearest: 10, 0, 30, 45, 45
    assert recall_at_k(features, labels, [1]) == {1: pytest.approx(0.2)}
    assert recall_at_k(features, labels, [2]) == {2: pytest.approx(0.6)}  # second: 30, 30, 10, 10, 30
    bank, bank_labels = on_circle(0, 100), torch.tensor([5, 1])
    assert recall_at_k(features, labels, (1, 2), bank=bank, bank_labels=bank_labels) == {
        1: pytest.approx(0.2),
        2: pytest.approx(0.6),
    }


@few_examples
@given(st.integers(2, 30), st.integers(1, 29), st.booleans(), st.integers(0, 1000))
def test_recall_equals_the_loops(n, k, others, seed):
    queries, labels = labelled(n, 4, seed=seed)
    bank, bank_labels = (queries, labels) if others else labelled(29, 4, seed=seed + 2)
    k = min(k, len(bank) - others)
    given_bank = {} if others else {"bank": bank, "bank_labels": bank_labels}
    found = recall_at_k(queries, labels, (k, 1), **given_bank)
    assert list(found) == list(dict.fromkeys((k, 1))) and found[1] <= found[k]
    assert found[k] == pytest.approx(recall_by_loops(queries, labels, bank, bank_labels, k, others))
    assert recall_at_k(3 * queries, labels, (k,), **given_bank)[k] == found[k]


def test_no_picture_finds_itself_in_any_block():
    features, _ = labelled(2500, 3)
    assert recall_at_k(features, torch.arange(2500), (1, 50)) == {1: 0.0, 50: 0.0}
    twins = features.repeat_interleave(2, 0)[:2500]
    assert recall_at_k(twins, torch.arange(2500) // 2, (1, 3))[3] == 1.0


def test_recall_is_taken_at_1_5_and_10():
    features, labels = labelled(60, 5)
    assert recall_at_k(features, labels) == {k: recall_at_k(features, labels, [k])[k] for k in (1, 5, 10)}


# --- linear probe ---


def split(n, seed, classes=3, d=6):
    features, labels = labelled(n, d, classes, seed)
    return 2 * features + 5, labels


def fit_by_newton(features, labels, strength):
    """Minimise |W|^2 / 2 + C * (sum of the cross-entropies); the offset is free. Returns the decision function."""
    mean, std = features.double().mean(0), features.double().std(0, correction=0)
    x = (features.double() - mean) / std
    w = torch.zeros(x.shape[1] + 1, int(labels.max()) + 1, dtype=torch.float64)
    ones = torch.ones(len(x), 1, dtype=torch.float64)

    def objective(w):
        logits = torch.cat([x, ones], 1) @ w.view(x.shape[1] + 1, -1)
        return w.view(x.shape[1] + 1, -1)[:-1].square().sum() / 2 + strength * nn.functional.cross_entropy(
            logits, labels, reduction="sum"
        )

    flat = w.flatten()
    for _ in range(8):
        gradient = torch.autograd.functional.jacobian(objective, flat)
        hessian = torch.autograd.functional.hessian(objective, flat)
        flat = flat - torch.linalg.pinv(hessian) @ gradient  # the offsets share one free direction
    w = flat.view_as(w)
    return lambda features: torch.cat([(features.double() - mean) / std, torch.ones(len(features), 1)], 1) @ w


@pytest.mark.parametrize("strength", [1e-3, 0.1, 1.0])
def test_the_probe_is_the_minimum_of_its_objective(strength):
    train, val, test = split(60, 0), split(50, 2), split(200, 4)
    probe = linear_probe(train, val, test, strengths=[strength])
    logits = fit_by_newton(*train, strength)(test[0])
    margin = logits.topk(2, 1).values.diff(dim=1).abs()[:, 0]
    clear = margin > 0.01 * margin.max()  # L-BFGS stops near the minimum
    assert clear.sum() > 180
    assert torch.equal(probe.predicted[clear], logits.argmax(1)[clear])
    assert probe.accuracy == pytest.approx((probe.predicted == test[1]).double().mean().item())
    right = (fit_by_newton(*train, strength)(val[0]).argmax(1) == val[1]).double().mean().item()
    assert probe.val_accuracy[strength] == pytest.approx(right, abs=0.021)


def test_the_strength_is_chosen_on_validation_alone():
    """A strong penalty leaves the most frequent class, which one validation split likes and the other doesn't."""
    features, labels = split(200, 0, classes=2)
    train = features[:100], torch.where(torch.arange(100) < 20, labels[:100], 0)
    test = features[150:], labels[150:]
    zeros = linear_probe(train, (features[100:150], labels[100:150] * 0), test, strengths=(10, 1e-6))
    ones = linear_probe(train, (features[100:150], labels[100:150] * 0 + 1), test, strengths=(10, 1e-6))
    assert (zeros.strength, ones.strength) == (1e-6, 10)
    assert zeros.val_accuracy[1e-6] == 1.0 and zeros.accuracy == pytest.approx((test[1] == 0).double().mean().item())
    for probe in (zeros, ones):
        assert probe.val_accuracy[probe.strength] == max(probe.val_accuracy.values())


def test_test_labels_change_nothing_but_the_accuracy():
    train, val, test = split(60, 0), split(50, 2), split(40, 4)
    one, other = linear_probe(train, val, test), linear_probe(train, val, (test[0], (test[1] + 1) % 3))
    assert (one.strength, one.val_accuracy) == (other.strength, other.val_accuracy)
    assert torch.equal(one.predicted, other.predicted) and one.accuracy != other.accuracy
    moved = linear_probe(train, val, (100 * test[0], test[1]))
    assert (one.strength, one.val_accuracy) == (moved.strength, moved.val_accuracy)


def test_strengths_are_powers_of_ten_and_the_strongest_penalty_of_equals_wins():
    labels = torch.arange(60) % 3
    features = nn.functional.one_hot(labels, 3) + 0.01 * torch.randn(60, 3, generator=generator())
    probe = linear_probe(*[(features, labels)] * 3)
    assert list(probe.val_accuracy) == [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0]
    assert probe.strength == 1e-4 and probe.accuracy == 1.0
    assert linear_probe(*[(features, labels)] * 3, strengths=[5.0, 0.5]).strength == 0.5
    assert linear_probe_accuracy(*[(features, labels)] * 3, strengths=[5.0]) == 1.0


def test_the_probe_standardises_by_the_training_split():
    train, val, test = split(60, 0), split(50, 2), split(40, 4)
    scale, shift = torch.tensor([1e-3, 1, 10, 1e3, 0.5, 2]), torch.tensor([0.0, 5, -50, 1e3, 0, 1])
    probe = linear_probe(train, val, test)
    other = linear_probe(*[(features * scale + shift, labels) for features, labels in (train, val, test)])
    assert (other.strength, other.val_accuracy, other.accuracy) == (probe.strength, probe.val_accuracy, probe.accuracy)
    constant = [torch.cat([f, torch.full((len(f), 1), c)], 1) for (f, _), c in ((train, 0.1), (val, 9.0), (test, 1e9))]
    constant[0][::2, 6] = torch.nextafter(torch.tensor(0.1), torch.tensor(1.0))  # up to rounding
    same = linear_probe(*zip(constant, (train[1], val[1], test[1]), strict=True))
    assert (same.strength, same.accuracy) == (probe.strength, probe.accuracy)


def test_the_probe_takes_classes_it_never_saw_and_warns_of_nothing():
    train, val, (features, labels) = split(60, 0), split(50, 2), split(40, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert linear_probe((train[0], train[1] * 7), val, (features, labels + 100)).accuracy == 0.0
        linear_probe((train[0] * 1e3, train[1]), val, (features, labels), strengths=[1e9])


# --- fine-tuning ---


def bars(n, seed=0):
    return image_set(n, seed)


def tiny():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.1), nn.Flatten())


def states(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same_states(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_fine_tuning_learns_and_leaves_the_encoder_alone():
    encoder = tiny().requires_grad_(False).train()
    encoder[1].eval()
    before, was = states(encoder), modes(encoder)
    random_numbers = torch.get_rng_state()
    tuned = fine_tune(encoder, bars(60), bars(45, 1), bars(30, 2), steps=60, batch_size=16, learning_rates=[0.02])
    assert torch.equal(random_numbers, torch.get_rng_state())
    assert same_states(before, encoder.state_dict()) and modes(encoder) == was
    assert not any(p.requires_grad or p.grad is not None for p in encoder.parameters())
    assert tuned.accuracy > 0.9
    logits = tuned.model(bars(30, 2).images / 255)
    assert logits.shape == (30, 3) and not any(modes(tuned.model))
    assert tuned.accuracy == pytest.approx((logits.argmax(1) == bars(30, 2).labels).double().mean().item())
    assert not torch.equal(tuned.model[0][0].weight, encoder[0].weight)  # all of it is trained, frozen or not


def test_fine_tuning_repeats_itself_and_follows_its_seed():
    def weights(seed, **options):
        return states(fine_tune(tiny(), bars(40), bars(20, 1), steps=6, batch_size=8, seed=seed, **options).model)

    torch.manual_seed(1)
    one = weights(5)
    torch.manual_seed(2)
    assert same_states(one, weights(5))
    assert not same_states(one, weights(6))


def test_fine_tuning_is_adamw_on_a_falling_rate():
    train, rate, steps = bars(24), 0.02, 7
    tuned = fine_tune(nn.Flatten(), train, bars(9, 1), learning_rates=[rate], steps=steps, evaluations=1, seed=4,
                      weight_decay=0.5)  # fmt: skip
    torch.manual_seed(4)
    w = [p.detach().clone() for p in nn.Linear(48, 3).parameters()]
    m, v = [torch.zeros_like(p) for p in w], [torch.zeros_like(p) for p in w]
    x, y = train.images.flatten(1) / 255, train.labels
    for t in range(steps):
        w = [p.requires_grad_() for p in w]
        gradients = torch.autograd.grad(nn.functional.cross_entropy(x @ w[0].T + w[1], y), w)
        lr = rate * 0.5 * (1 + math.cos(math.pi * t / steps))
        for i, g in enumerate(gradients):  # Loshchilov & Hutter 2019
            m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g * g
            step = m[i] / (1 - 0.9 ** (t + 1)) / ((v[i] / (1 - 0.999 ** (t + 1))).sqrt() + 1e-8)
            w[i] = (w[i].detach() * (1 - lr * 0.5) - lr * step).detach()
    torch.testing.assert_close(list(tuned.model.parameters()), w, atol=1e-5, rtol=1e-4, check_stride=False)


def test_rate_and_step_are_chosen_on_validation():
    train, val, test = bars(60), bars(45, 1), bars(30, 2)
    options = {"learning_rates": (1e-5, 1e-2, 3.0), "steps": 10, "evaluations": 3, "batch_size": 16}
    tuned = fine_tune(tiny(), train, val, test, **options)
    assert [(row["learning_rate"], row["step"]) for row in tuned.history] == [
        (rate, step) for rate in (1e-5, 1e-2, 3.0) for step in (4, 7, 10)
    ]
    best = max(tuned.history, key=lambda row: row["val_accuracy"])  # the first of equals
    assert (tuned.learning_rate, tuned.step) == (best["learning_rate"], best["step"])
    predicted = tuned.model(val.images / 255).argmax(1)
    assert (predicted == val.labels).double().mean().item() == pytest.approx(best["val_accuracy"])  # its weights
    other = fine_tune(tiny(), train, val, image_set(30, 2, labels=(test.labels + 1) % 3), **options)
    assert other.history == tuned.history and same_states(states(tuned.model), states(other.model))
    assert other.accuracy != tuned.accuracy


def test_the_first_of_equals_is_kept():
    tuned = fine_tune(nn.Flatten(), bars(9), bars(9, 1), learning_rates=(1e-9, 1e-8), steps=4, evaluations=2)
    assert (tuned.learning_rate, tuned.step) == (1e-9, 2)


def test_an_early_best_is_kept_as_it_was():
    """The better the training labels are learned, the worse for these validation labels."""
    train = bars(60)
    val = image_set(60, labels=(train.labels + 1) % 3)
    tuned = fine_tune(tiny(), train, val, learning_rates=[0.02], steps=60, evaluations=60, batch_size=16)
    found = [row["val_accuracy"] for row in tuned.history]
    predicted = tuned.model(val.images / 255).argmax(1)
    assert tuned.step < 30 and found[-1] < 0.2 < max(found)
    assert (predicted == val.labels).double().mean().item() == pytest.approx(max(found))


def test_without_a_test_split_there_is_no_accuracy():
    assert fine_tune(nn.Flatten(), bars(9), bars(9, 1), steps=1).accuracy is None


@pytest.mark.parametrize(("steps", "evaluations", "marks"), [(3, 5, [1, 2, 3]), (5, 1, [5]), (7, 2, [4, 7])])
def test_validation_is_measured_on_the_way_and_at_the_end(steps, evaluations, marks):
    tuned = fine_tune(nn.Flatten(), bars(9), bars(9, 1), learning_rates=[0.1], steps=steps, evaluations=evaluations)
    assert [row["step"] for row in tuned.history] == marks


def test_each_epoch_shows_each_picture_once_through_the_views():
    seen, draws = [], []

    def augment(images, numbers):
        assert images.is_floating_point() and images.shape[1:] == (3, 4, 4) and images.max() <= 1
        draws.append(torch.rand(1, generator=numbers).item())
        seen.append([round(255 * image[2, 3, 2].item()) for image in images])
        return images.flip(3)

    train = bars(10)
    train.images[:, 2, 3, 2] = torch.arange(10, dtype=torch.uint8)  # a name for each
    flipped = fine_tune(nn.Flatten(), train, bars(9, 1), learning_rates=[0.1], steps=5, batch_size=4, augment=augment)
    assert [len(batch) for batch in seen] == [4] * 5
    assert len({*seen[0], *seen[1]}) == len({*seen[2], *seen[3]}) == 8 and seen[0] + seen[1] != seen[2] + seen[3]
    assert len(set(draws)) == 5
    plain = fine_tune(nn.Flatten(), train, bars(9, 1), learning_rates=[0.1], steps=5, batch_size=4)
    assert not same_states(states(plain.model), states(flipped.model))
    orders, numbers = list(seen), list(draws)
    fine_tune(nn.Flatten(), train, bars(9, 1), learning_rates=[0.1], steps=5, batch_size=4, augment=augment, seed=1)
    assert seen[5:] != orders and not {*draws[5:]} & {*numbers}


def test_classes_without_a_training_picture_have_a_logit():
    train = image_set(9, classes=("a", "b", "c", "d", "e"))
    assert fine_tune(nn.Flatten(), train, bars(9, 1), steps=1).model(train.images / 255).shape == (9, 5)


# --- label efficiency ---


def test_subsets_are_balanced_nested_and_seeded():
    labels = torch.tensor([4] * 30 + [0] * 20 + [1] * 25)[torch.randperm(75, generator=generator())]
    rows = {(n, seed): balanced_subset(labels, n, seed=seed) for n in (1, 5, 20) for seed in (0, 1)}
    for (n, _), chosen in rows.items():
        assert chosen.dtype == torch.int64 and chosen.tolist() == sorted(set(chosen.tolist()))
        assert [(labels[chosen] == c).sum().item() for c in (0, 1, 4)] == [n] * 3 and len(chosen) == 3 * n
    for seed in (0, 1):
        assert {*rows[1, seed].tolist()} < {*rows[5, seed].tolist()} < {*rows[20, seed].tolist()}
    assert not torch.equal(rows[5, 0], rows[5, 1])
    assert torch.equal(balanced_subset(labels, 5), rows[5, 0])
    picks = torch.cat([balanced_subset(labels, 5, seed=seed) for seed in range(60)])
    assert len(picks.unique()) == 75  # any picture can come


def test_intervals_are_students():
    """t for 95 % and 4 degrees of freedom is 2.776 in any table, for 1 it is 12.706."""
    labels = torch.arange(20) % 2
    scores = {0: 0.5, 1: 0.6, 2: 0.7, 3: 0.8, 4: 0.9}
    (row,) = label_efficiency({"m": lambda rows, seed: scores[seed]}, labels, budgets=[2])["m"]
    half = 2.776 * statistics.stdev(scores.values()) / math.sqrt(5)
    assert isinstance(row, Interval) and row.budget == 2
    assert row == pytest.approx((2, 0.7, 0.7 - half, 0.7 + half), abs=1e-4)
    (row,) = label_efficiency({"m": lambda rows, seed: 0.5 + 0.01 * seed}, labels, budgets=[1], seeds=(0, 1))["m"]
    assert row == pytest.approx((1, 0.505, 0.505 - 12.706 * 0.005, 0.505 + 12.706 * 0.005), abs=1e-5)
    (row,) = label_efficiency({"m": lambda rows, seed: float(seed)}, labels, budgets=[1], seeds=(0, 1))["m"]
    assert row == (1, 0.5, 0.0, 1.0)


def test_every_method_gets_the_same_balanced_pictures():
    labels, calls = torch.arange(60) % 3, {"a": [], "b": []}

    def method(name):
        return lambda rows, seed: calls[name].append((rows.tolist(), seed)) or 0.5

    found = label_efficiency({"a": method("a"), "b": method("b")}, labels, budgets=(2, 10), seeds=(7, 8, 9))
    expected = [(balanced_subset(labels, n, seed=seed).tolist(), seed) for n in (2, 10) for seed in (7, 8, 9)]
    assert calls["a"] == calls["b"] == expected
    assert found == {name: [(2, 0.5, 0.5, 0.5), (10, 0.5, 0.5, 0.5)] for name in "ab"}


def test_more_labels_help_a_probe():
    features, labels = labelled(300, 5)
    val, test = labelled(100, 5, seed=2), labelled(200, 5, seed=4)
    rows = label_efficiency(
        {"probe": lambda rows, seed: linear_probe_accuracy((features[rows], labels[rows]), val, test)},
        labels,
        budgets=(1, 30),
        seeds=range(3),
    )["probe"]
    assert rows[0].mean + 0.05 < rows[1].mean and rows[1].high - rows[1].low < 0.5


# --- confusion ---


@few_examples
@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 1000))
def test_confusion_equals_the_loops(n, classes, seed):
    predicted, labels = torch.randint(0, classes, (2, n), generator=generator(seed))
    expected = torch.zeros(classes, classes, dtype=torch.int64)
    for p, label in zip(predicted.tolist(), labels.tolist(), strict=True):
        expected[label, p] += 1
    matrix = confusion_matrix(predicted, labels, classes)
    assert matrix.dtype == torch.int64 and torch.equal(matrix, expected)
    assert matrix.sum() == n and matrix.trace() == (predicted == labels).sum()


# --- geometry ---


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def unit_rows(z):
    return [[x / math.hypot(*row) for x in row] for row in z.tolist()]


@few_examples
@given(st.integers(2, 12), st.integers(1, 5), st.sampled_from([0.5, 1, 2, 3]), st.integers(0, 1000))
def test_alignment_and_uniformity_equal_the_loops(n, d, power, seed):
    z1, z2 = randn(n, d, seed=seed), randn(n, d, seed=seed + 1)
    expected = statistics.fmean(math.dist(a, b) ** power for a, b in zip(unit_rows(z1), unit_rows(z2), strict=True))
    assert alignment(z1, z2, alpha=power) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    rows = unit_rows(z1)
    pairs = [math.exp(-power * math.dist(rows[i], rows[j]) ** 2) for i in range(n) for j in range(i)]
    assert uniformity(z1, t=power) == pytest.approx(math.log(statistics.fmean(pairs)), rel=1e-6, abs=1e-6)


def test_alignment_by_hand():
    z = randn(50, 8)
    assert alignment(z, 3 * z) == pytest.approx(0, abs=1e-12)
    assert alignment(z, -z) == pytest.approx(4)
    assert alignment(z, -z, alpha=1) == pytest.approx(2)
    assert alignment(torch.eye(6), torch.eye(6).roll(1, 0)) == pytest.approx(2)  # right angles: 2 - 2 cos
    assert alignment(z, z.roll(1, 0)) == alignment(z, z.roll(1, 0), alpha=2)
    assert alignment(randn(4000, 64), randn(4000, 64, seed=1)) == pytest.approx(2, abs=0.02)


def test_uniformity_by_hand():
    assert uniformity(torch.tensor([[0.0, 2.0], [0.0, -0.5]])) == pytest.approx(-8)  # |difference|^2 = 4, t = 2
    assert uniformity(torch.eye(5)) == pytest.approx(-4)  # 2
    assert uniformity(torch.eye(5), t=0.5) == pytest.approx(-1)
    assert uniformity(torch.ones(7, 3)) == pytest.approx(0, abs=1e-9) and uniformity(torch.ones(7, 3)) <= 0
    assert uniformity(torch.eye(5), t=1e4) == pytest.approx(-2e4)  # exp(-20000) is 0
    assert -4 < uniformity(randn(2000, 256)) < -3.9


def test_uniformity_of_more_rows_than_a_block():
    z = randn(2300, 3)
    squared = torch.pdist(nn.functional.normalize(z.double(), dim=1)).square()
    assert uniformity(z) == pytest.approx(squared.mul(-2).exp().mean().log().item(), rel=1e-9)


def signs(k, dim=None, scale=None):
    """Rows +e_i and -e_i for the first k coordinates: centred, every direction used alike."""
    basis = torch.eye(k) if scale is None else torch.diag(torch.tensor(scale))
    return nn.functional.pad(torch.cat([basis, -basis]), (0, (dim or k) - k))


@pytest.mark.parametrize(("k", "dim"), [(1, 1), (1, 6), (4, 4), (5, 64)])
def test_the_effective_rank_of_k_equal_directions_is_k(k, dim):
    turn = torch.linalg.qr(randn(dim, dim)).Q
    assert effective_rank(signs(k, dim)) == pytest.approx(k)
    assert effective_rank(100 * signs(k, dim) @ turn + 3 * randn(dim)) == pytest.approx(k, rel=1e-3)


def kept_in_sets(x, y, k):
    """One row after another, as sets."""
    rows, near = range(len(x)), []
    for p in (x.tolist(), y.tolist()):
        near.append([{*sorted(set(rows) - {i}, key=lambda j, i=i, p=p: math.dist(p[i], p[j]))[:k]} for i in rows])
    return sum(len(a & b) for a, b in zip(*near, strict=True)) / (k * len(x))


@pytest.mark.parametrize(("n", "k"), [(3, 1), (12, 4), (40, 10)])
def test_neighbours_kept_agrees_with_sets(n, k):
    x, y = randn(n, 5), randn(n, 2)
    assert neighbours_kept(x, y, k=k) == pytest.approx(kept_in_sets(x, y, k))
    assert neighbours_kept(x, 3 * x + 1, k=k) == 1  # a map to scale keeps them all


def test_neighbours_kept_by_chance_and_in_blocks(monkeypatch):
    x, y = randn(300, 5), torch.randn(300, 2, generator=torch.Generator().manual_seed(5))
    whole = neighbours_kept(x, y)
    assert whole == pytest.approx(10 / 299, abs=0.015)
    monkeypatch.setattr(evaluation, "_BLOCK", 7)
    assert neighbours_kept(x, y) == pytest.approx(whole, abs=1e-12)
    assert neighbours_kept(x[:4] * 0 + 1, y[:4], k=1) >= 0  # all features equal: no crash


def test_the_effective_rank_of_unequal_directions():
    p = [0.75, 0.25]  # singular values 3 : 1
    assert effective_rank(signs(2, scale=[3.0, 1.0])) == pytest.approx(math.exp(-sum(q * math.log(q) for q in p)))
    s = np.linalg.svd(centred := (x := randn(40, 7).double().numpy()) - x.mean(0), compute_uv=False)
    p = s / s.sum()
    assert effective_rank(torch.from_numpy(x)) == pytest.approx(math.exp(-sum(q * math.log(q) for q in p)))
    assert 6 < effective_rank(randn(3000, 7)) <= 7 and len(centred) == 40
    assert effective_rank(randn(4, 100)) <= 3 + 1e-9  # four points span three directions


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_equal_rows_have_no_rank_whatever_their_rounding(dtype):
    row = (randn(1, 48) * 0.1 + 0.3).to(dtype)
    assert effective_rank(row.expand(300, -1)) == 0
    assert effective_rank(torch.zeros(5, 3, dtype=dtype)) == 0
    assert effective_rank(row * (1 + torch.finfo(dtype).eps * torch.arange(3)[:, None]).to(dtype)) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounded_features_keep_their_rank(dtype):
    x = randn(300, 600)
    assert effective_rank(x.to(dtype)) == pytest.approx(effective_rank(x), rel=1e-3)


def test_the_deviation_of_each_dimension():
    z = randn(6, 3)
    columns = list(zip(*unit_rows(z), strict=True))
    torch.testing.assert_close(dimension_std(z), torch.tensor([statistics.pstdev(column) for column in columns]))
    assert dimension_std(z.double()).dtype == torch.float32 and dimension_std(z).shape == (3,)
    torch.testing.assert_close(dimension_std(randn(5000, 64)), torch.full((64,), 1 / 8), atol=0.01, rtol=0)
    assert dimension_std(torch.ones(9, 4) * torch.arange(1, 10)[:, None]).max() < 1e-7


# --- collapse ---


def near_point(n=400, dim=128, noise=0.05):
    return 1 + noise * randn(n, dim)


def rank(k, n=400, dim=128):
    return randn(n, k) @ randn(k, dim, seed=1)


COLLAPSE = {
    "gaussian": (randn(400, 128), "healthy", r"^healthy: 1\d\d of 128 directions carry 95 % of the variance; effective "
                 r"rank 1\d\d\.\d, mean cosine 0.00, standard deviation per dimension 1.00 of 1/√128$"),
    "shifted": (randn(400, 128) + 2, "healthy", "mean cosine 0.80"),
    "a circle": (randn(400, 2), "healthy", "healthy: 2 of 2 directions"),
    "small": (randn(400, 4), "healthy", "of 4 directions"),
    "few points": (randn(2, 64), "healthy", "healthy: 1 of 64"),
    "rank 20": (rank(20), "healthy", r"1[4-9] of 128"),
    "one point": (torch.ones(400, 128) * 0.1, "one point", r"^collapsed to a point: all directions agree \(mean cosine "
                  r"1.000\), standard deviation per dimension 0.00 of 1/√128$"),
    "near a point": (near_point(), "one point", r"mean cosine 0\.99\d"),
    "a ray": (torch.ones(400, 8) * torch.arange(1, 401)[:, None], "one point", "mean cosine 1.000"),
    "rank 3": (rank(3), "few directions", "^dimensional collapse: 3 of 128 directions carry 95 %"),
    "rank 10": (rank(10), "few directions", r"dimensional collapse: \d+ of 128"),
    "two poles": (torch.ones(400, 6) * (1 - 2.0 * (torch.arange(400) % 2))[:, None], "few directions", "1 of 6"),
    "NaN": (randn(400, 8).index_fill(0, torch.tensor([3, 5]), math.nan), "not a number",
            "^not a number: 2 of 400 vectors hold NaN or infinity; training diverged"),
    "infinity": (torch.tensor([[1.0, 2], [math.inf, 1]]), "not a number", "1 of 2 vectors"),
    "zeros": (torch.zeros(50, 8), "one point", r"^collapsed to a point: standard deviation per dimension 0\.00 of "
              "1/√8; 50 of 50 vectors are zero$"),
    "some zeros": (randn(400, 64).index_fill(0, torch.arange(3), 0), "healthy", "; 3 of 400 vectors are zero$"),
    "tiny": (randn(400, 32) * 1e-30, "healthy", "healthy"),
}  # fmt: skip


@pytest.mark.parametrize("case", COLLAPSE)
def test_collapse_is_named(case):
    z, verdict, words = COLLAPSE[case]
    report = collapse(z)
    assert report.verdict == verdict and re.search(words, str(report)), str(report)
    assert (report.vectors, report.dim) == z.shape and "nan" not in str(report)


@few_examples
@given(st.sampled_from([case for case in COLLAPSE if "N" not in case and "inf" not in case]), st.integers(0, 1000))
def test_collapse_does_not_depend_on_lengths_order_and_rotation(case, seed):
    z = COLLAPSE[case][0]
    report = collapse(z)
    turn = torch.linalg.qr(randn(z.shape[1], z.shape[1], seed=seed).double()).Q
    lengths = 0.5 + torch.rand(len(z), 1, generator=generator(seed))
    order = torch.randperm(len(z), generator=generator(seed))
    other = collapse((z.double() * lengths)[order] @ turn)
    assert (other.verdict, other.directions, other.zeros) == (report.verdict, report.directions, report.zeros)
    assert other.mean_cosine == pytest.approx(report.mean_cosine, abs=1e-6)
    assert other.spread == pytest.approx(report.spread, abs=1e-3)


def test_the_numbers_of_the_report():
    z = randn(30, 5) + 0.5
    report, rows = collapse(z), unit_rows(z)
    cosines = [sum(map(math.prod, zip(rows[i], rows[j], strict=True))) for i in range(30) for j in range(30) if i != j]
    assert report.mean_cosine == pytest.approx(statistics.fmean(cosines), abs=1e-6)
    assert report.spread == pytest.approx(math.sqrt(5 * dimension_std(z).square().mean().item()), rel=1e-5)
    assert report.effective_rank == pytest.approx(effective_rank(nn.functional.normalize(z, dim=1)), rel=1e-5)
    share = np.linalg.eigvalsh(np.cov(np.array(rows).T))[::-1].cumsum()
    assert report.directions == 1 + int((share / share[-1] < 0.95).sum())
    assert (report.bad, report.zeros) == (0, 0)
    assert collapse(torch.tensor([[2.0, 0], [1, 0], [0, 0]])).mean_cosine == pytest.approx(1 / 3)  # of zero it is 0


def test_where_the_verdicts_meet():
    """Spread 0.1 is a mean cosine of 0.99; of 100 directions, ten are few and eleven are not."""
    for cosine, verdict in ((0.9915, "one point"), (0.9885, "healthy")):
        around = nn.functional.normalize(signs(50), dim=1)  # at the same angle from one more axis, on all sides
        z = torch.cat([around * math.sqrt(1 - cosine), torch.full((100, 1), math.sqrt(cosine))], 1)
        assert collapse(z).verdict == verdict
    assert collapse(signs(10, 100).repeat(6, 1)).verdict == "few directions"
    assert collapse(signs(11, 100).repeat(6, 1)).verdict == "healthy"  # ten carry 91 %
    assert collapse(signs(12, 130).repeat(6, 1)).verdict == "few directions"
    assert collapse(signs(8, 200)[:14]).verdict == "healthy"  # 14 points span 13 directions at most


def test_metrics_keep_no_graph_and_leave_the_features_alone():
    z = randn(20, 4).requires_grad_()
    before = z.detach().clone()
    results = [alignment(z, z), uniformity(z), effective_rank(z), *vars(collapse(z)).values()]
    assert not any(isinstance(value, torch.Tensor) for value in results) and not dimension_std(z).requires_grad
    assert torch.equal(z, before)
    assert linear_probe(*[(z, torch.arange(20) % 2)] * 3).accuracy >= 0.5


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


def test_pixels_of_large_pictures_are_means():
    images = torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    expected = images.reshape(3, 3, 32, 3, 32, 3).mean((3, 5)).flatten(1)
    torch.testing.assert_close(encode(None, images, batch_size=2), expected)
    assert encode(None, torch.zeros(1, 3, 64, 64)).shape == (1, 3 * 64 * 64)
    assert encode(None, torch.zeros(1, 3, 50, 65)).shape == (1, 3 * 32 * 32)


def test_a_momentum_encoder_is_measured_and_not_fine_tuned():
    encoder = MomentumEncoder(tiny(), 0.9)
    assert torch.equal(encode(encoder, bars(9).images), encode(encoder.encoder, bars(9).images))
    with pytest.raises(ValueError, match="got a MomentumEncoder, whose weights are buffers"):
        fine_tune(encoder, bars(40), bars(20, 1), steps=6, batch_size=8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_encoders_and_pictures_of_any_precision_give_float32(dtype):
    encoder = small(2).double()
    expected = encode(encoder, pictures().double() / 255)
    encoder.to(dtype)
    for images in (pictures(), pictures() / 255, pictures().double() / 255):
        features = encode(encoder, images)
        assert features.dtype == torch.float32
        assert torch.allclose(features, expected, atol=0.05 if dtype == torch.bfloat16 else 1e-5)


@pytest.mark.parametrize(("side", "most"), [(16, 500), (96, 500), (224, 91), (3000, 1)])
def test_large_pictures_are_encoded_fewer_at_a_time(side, most):
    seen = []

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            seen.append(len(x))
            return x.flatten(1)[:, :2]

    images = torch.zeros(1, 3, 1, 1, dtype=torch.uint8).expand(most + 1, 3, side, side)
    assert encode(Encoder(), images).shape == (most + 1, 2) and seen == [most, 1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_fine_tuning_takes_encoders_and_pictures_of_other_precisions(dtype):
    sets = [replace(s, images=s.images.double() / 255) for s in (bars(40), bars(20, 1))]
    tuned = fine_tune(tiny().to(dtype), *sets, steps=2, batch_size=8)
    assert next(tuned.model.parameters()).dtype == dtype


def test_random_numbers_of_gpus_are_left_alone(monkeypatch):
    """torch.manual_seed is for all GPUs, too, and nothing here brings theirs back."""
    encoder, sets = tiny(), (bars(40), bars(20, 1))
    pictures16 = torch.randint(256, (64, 3, 16, 16), dtype=torch.uint8)
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("seeds the GPUs"))
    fine_tune(encoder, *sets, steps=2, batch_size=8)
    training.new_encoder(training.TrainConfig(width=2))
    clinic.train(pictures16, steps=1)


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
NAN4, INF4, META4 = F4.clone(), F4.clone(), torch.empty(4, 3, device="meta")
NAN4[1:3, 1], INF4[0, 2] = math.nan, -math.inf
GOOD = {"k": 2}
FEATURES = [
    ((F4[0], L4, F4), GOOD, ValueError, "bank: expected floating-point features [N, D], N >= 1, D >= 1, got torch.f"),
    ((F4[:, :0], L4, F4), GOOD, ValueError, "got torch.float32 [4, 0]"),
    ((F4.long(), L4, F4), GOOD, ValueError, "got torch.int64 [4, 3]"),
    ((F4[:0], L4[:0], F4), GOOD, ValueError, "got torch.float32 [0, 3]"),
    ((F4.tolist(), L4, F4), GOOD, TypeError, "bank: expected floating-point features [N, D], got list"),
    ((NAN4, L4, F4), GOOD, ValueError, "bank: expected finite features, got NaN or infinity in 2 of 4 rows. Did"),
    ((F4, L4, INF4), GOOD, ValueError, "queries: expected finite features, got NaN or infinity in 1 of 4 rows"),
    ((F4, L4[:3], F4), GOOD, ValueError, "bank labels: expected one for each of 4 features on cpu, got [3] on cpu"),
    ((F4, L4.to("meta"), F4), GOOD, ValueError, "bank labels: expected one for each of 4 features on cpu, got [4]"),
    ((F4, L4.tolist(), F4), GOOD, TypeError, "bank labels: expected a tensor [N] of int64, got list"),
    ((F4, L4.float(), F4), GOOD, ValueError, "bank labels: expected int64 from 0 up, got torch.float32"),
    ((F4, L4 - 1, F4), GOOD, ValueError, "bank labels: expected int64 from 0 up, got torch.int64 from -1"),
    ((F4, L4, F4[:, :2]), GOOD, ValueError, "queries: expected [M, 3] on cpu like the bank, got torch.float32 [4, 2]"),
    *(((F4, L4, F4), {"k": k}, ValueError, f"k: expected an integer from 1 to 4, the size of the bank, got {k!r}")
      for k in (0, -1, 5, 2.0, True)),
    *(((F4, L4, F4), GOOD | {"temperature": t}, ValueError, f"temperature: expected a number > 0, got {t}")
      for t in (0, -0.1, math.nan)),
    ((F4, L4, F4), GOOD | {"temperature": torch.tensor(0.1)}, TypeError, "temperature: expected a plain number > 0"),
]  # fmt: skip
SET, BARE = image_set(6), image_set(6, labels=None, factors={})
PAIR, NET = (F4, L4), nn.Flatten()
SPLITS = [
    ((PAIR, PAIR, F4), {}, TypeError, "test: expected a pair (features [N, D], labels [N]), got Tensor"),
    ((PAIR, (F4, L4, L4), PAIR), {}, TypeError, "val: expected a pair"),
    (((NAN4, L4), PAIR, PAIR), {}, ValueError, "train: expected finite features"),
    ((PAIR, (F4[:0], L4[:0]), PAIR), {}, ValueError, "val: expected floating-point features [N, D], N >= 1"),
    ((PAIR, PAIR, (F4, L4[:2])), {}, ValueError, "test labels: expected one for each of 4 features"),
    ((PAIR, (F4[:, :2], L4), PAIR), {}, ValueError, "same D on one device, got {'train': 3, 'val': 2, 'test': 3}"),
    (((F4, L4 * 0), PAIR, PAIR), {}, ValueError, "train: expected at least 2 classes to tell apart, got [0] alone"),
    ((PAIR,) * 3, {"strengths": ()}, ValueError, "strengths: expected at least one number > 0, got none"),
    ((PAIR,) * 3, {"strengths": (1, -1)}, ValueError, "strengths: expected a number > 0, got -1"),
    ((PAIR,) * 3, {"strengths": ("1",)}, TypeError, "strengths: expected a plain number > 0, got a str"),
]


def no_geometry(name, arguments=(), least=2):
    """What every function of features alone refuses."""
    shape = f"{name}: expected floating-point features [N, D], N >= {least}, D >= 1, got"
    wrong = [(F4[0], f"{shape} torch.float32 [3]"), (F4.long(), f"{shape} torch.int64"), (F4[:, :0], shape),
             (F4[: least - 1], f"{shape} torch.float32 [{least - 1}, 3]")]  # fmt: skip
    finite = [(NAN4, f"{name}: expected finite features, got NaN or infinity in 2 of 4 rows")]
    cases = [((x, *arguments), {}, ValueError, words) for x, words in wrong + finite]
    return [*cases, (([1.0], *arguments), {}, TypeError, f"{name}: expected floating-point features [N, D], got list")]


BAD = {
    "knn_predict": [
        *FEATURES,
        ((F4, L4, F4[0]), GOOD, ValueError, "queries: expected [M, 3] on cpu like the bank, got torch.float32 [3]"),
        ((F4, L4, F4[:0]), GOOD, ValueError, "queries: expected floating-point features [N, D], N >= 1"),
        ((F4, L4, None), GOOD, ValueError, "queries: expected [M, 3] on cpu like the bank, got None"),
        ((F4, L4, META4), GOOD, ValueError, "queries: expected [M, 3] on cpu like the bank, got torch.float32 [4, 3]"),
    ],
    "knn_accuracy": [
        *(((*arguments, L4), *rest) for arguments, *rest in FEATURES),
        ((F4, L4, F4, L4[:1]), GOOD, ValueError, "queries labels: expected one for each of 4 features on cpu"),
        ((F4, L4, F4, L4[:, None]), GOOD, ValueError, "queries labels: expected one for each of 4 features on cpu"),
        ((F4, L4, F4[:0], L4[:0]), GOOD, ValueError, "queries: expected floating-point features [N, D], N >= 1"),
        ((F4, L4, F4.long(), L4), GOOD, ValueError, "queries: expected floating-point features"),
    ],
    "recall_at_k": [
        ((F4[0], L4), {"ks": [1]}, ValueError, "queries: expected floating-point features"),
        ((NAN4, L4), {"ks": [1]}, ValueError, "queries: expected finite features"),
        ((F4, L4[:2]), {"ks": [1]}, ValueError, "queries labels: expected one for each of 4 features"),
        *(((F4, L4), {"ks": ks}, ValueError, "ks: expected integers from 1 to 3, the pictures that can be found, g")
          for ks in ([], [0], [1, 4], [1.0], [True])),
        ((F4, L4), {"ks": [5], "bank": F4, "bank_labels": L4}, ValueError, "ks: expected integers from 1 to 4"),
        ((F4, L4), {}, ValueError, "ks: expected integers from 1 to 3, the pictures that can be found, got [1, 5, 10]"),
        ((F4, L4), {"bank": F4}, ValueError, "expected bank and bank_labels, or neither; got bank alone"),
        ((F4, L4), {"bank_labels": L4}, ValueError, "expected bank and bank_labels, or neither; got labels alone"),
        ((F4, L4), {"bank": NAN4, "bank_labels": L4}, ValueError, "bank: expected finite features"),
        ((F4, L4), {"bank": F4[:, :2], "bank_labels": L4}, ValueError, "queries: expected [M, 2] on cpu like the bank"),
    ],
    "encode": [
        *(((None, pictures()), {"batch_size": b}, ValueError, f"batch_size: expected an integer of at least 1, got {b}")
          for b in (0, -5, 2.5, True)),
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
    "linear_probe": SPLITS,
    "linear_probe_accuracy": SPLITS,
    "fine_tune": [
        ((None, SET, SET), {}, TypeError, "encoder: expected a module [N, 3, H, W] to [N, D], got NoneType"),
        ((NET, BARE, SET), {}, ValueError, "expected pictures with labels; bars has none"),
        ((NET, SET, BARE), {}, ValueError, "expected pictures with labels; bars has none"),
        ((NET, SET, SET, BARE), {}, ValueError, "expected pictures with labels; bars has none"),
        ((NET, SET.subset([0, 3]), SET), {}, ValueError, "train: expected at least 2 classes to tell apart, got [0]"),
        *(((NET, SET, SET), {name: value}, ValueError, f"{name}: expected an integer of at least 1, got {value}")
          for name in ("steps", "evaluations", "batch_size") for value in (0, 1.5, True)),
        ((NET, SET, SET), {"learning_rates": []}, ValueError, "learning_rates: expected at least one number > 0"),
        ((NET, SET, SET), {"learning_rates": [0.1, 0]}, ValueError, "learning_rates: expected a number > 0, got 0"),
        ((nn.Conv2d(3, 1, 1), SET, SET), {}, ValueError, "encoder: expected features [N, D]"),
    ],
    "balanced_subset": [
        ((L4, 3), {}, ValueError, "per_class: expected at most 2, the pictures of class 0, got 3"),
        *(((L4, n), {}, ValueError, f"per_class: expected an integer of at least 1, got {n}") for n in (0, 1.0, True)),
        ((L4[:, None], 1), {}, ValueError, "labels: expected [N], N > 0, got [4, 1]"),
        ((L4[:0], 1), {}, ValueError, "labels: expected [N], N > 0, got [0]"),
        ((L4.float(), 1), {}, ValueError, "labels: expected int64 from 0 up, got torch.float32"),
        (([0, 1], 1), {}, TypeError, "labels: expected a tensor [N] of int64, got list"),
    ],
    "label_efficiency": [
        (({}, L4), {"budgets": [1]}, ValueError, "expected at least 1 method, 1 budget and 2 different seeds, got 0"),
        (({"m": max}, L4), {"budgets": []}, ValueError, "expected at least 1 method, 1 budget and 2 different seeds"),
        (({"m": max}, L4), {"budgets": [1], "seeds": [1]}, ValueError, "2 different seeds, got 1 methods, budgets [1]"),
        (({"m": max}, L4), {"budgets": [1], "seeds": [1, 1, 2]}, ValueError, "2 different seeds"),
        (({"m": max}, L4), {}, ValueError, "per_class: expected at most 2, the pictures of class 0, got 5"),
        *((({"m": lambda rows, seed, x=x: x}, L4), {"budgets": [1]}, ValueError, "expected accuracies in [0, 1], got [")
          for x in (-0.1, 1.1, math.nan)),
    ],
    "confusion_matrix": [
        ((L4, L4, 1), {}, ValueError, "predicted: expected labels below 1, the number of classes, got 1"),
        ((L4 * 0, L4, 1), {}, ValueError, "labels: expected labels below 1, the number of classes, got 1"),
        ((L4, L4[:3], 2), {}, ValueError, "expected as many predicted as labels on one device, got 4 on cpu and 3"),
        ((L4, L4 - 1, 2), {}, ValueError, "labels: expected int64 from 0 up, got torch.int64 from -1"),
        ((L4.tolist(), L4, 2), {}, TypeError, "predicted: expected a tensor [N] of int64, got list"),
        ((L4, L4, 2.0), {}, ValueError, "classes: expected an integer of at least 1, got 2.0"),
    ],
    "alignment": [
        *no_geometry("z1", (F4,), least=1),
        ((F4, F4[:3]), {}, ValueError, "z2: expected [4, 3] on cpu like z1, got torch.float32 [3, 3] on cpu"),
        ((F4, META4), {}, ValueError, "z2: expected [4, 3] on cpu like z1, got torch.float32 [4, 3] on meta"),
        ((F4, None), {}, ValueError, "z2: expected [4, 3] on cpu like z1, got None"),
        ((F4, INF4), {}, ValueError, "z2: expected finite features, got NaN or infinity in 1 of 4 rows"),
        ((F4, F4), {"alpha": 0}, ValueError, "alpha: expected a number > 0, got 0"),
        ((F4, F4), {"alpha": True}, TypeError, "alpha: expected a plain number > 0, got a bool"),
    ],
    "uniformity": [
        *no_geometry("z"),
        ((F4,), {"t": -1}, ValueError, "t: expected a number > 0, got -1"),
        ((F4,), {"t": "2"}, TypeError, "t: expected a plain number > 0, got a str"),
    ],
    "effective_rank": no_geometry("features"),
    "neighbours_kept": [
        ((F4[:2], F4[:2]), {"k": 1}, ValueError, "features: expected floating-point features [N, D], N >= 3"),
        ((F4, F4[:3]), {"k": 1}, ValueError, "points: expected one for each of 4 features on cpu, got torch.float32"),
        ((F4, META4), {"k": 1}, ValueError, "points: expected"),
        ((F4, INF4), {"k": 1}, ValueError, "points: expected finite features, got NaN or infinity in 1 of 4 rows"),
        ((F4, F4), {"k": 3}, ValueError, "k: expected an integer from 1 to 2, got 3"),
        ((F4, F4), {"k": 1.0}, ValueError, "k: expected an integer from 1 to 2, got 1.0"),
    ],
    "dimension_std": no_geometry("z"),
    "collapse": [case for case in no_geometry("z") if "finite" not in case[3]],
}  # fmt: skip


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in BAD for case in BAD[name]])
def test_bad_input_says_what_was_expected_and_what_came(name, case):
    arguments, options, kind, words = case
    with pytest.raises(kind, match="expected") as error:
        getattr(evaluation, name)(*arguments, **options)
    assert words in str(error.value)


def test_every_public_function_is_in_the_table_of_bad_input():
    ours = {n for n, f in vars(evaluation).items() if inspect.isfunction(f) and f.__module__ == evaluation.__name__}
    assert set(BAD) == {name for name in ours if not name.startswith("_")}
