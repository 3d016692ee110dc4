"""Each method as a whole: what it computes, and that it learns."""

import copy
import math

import pytest
import torch
from torch import nn

from clbook import methods, moco, models, training
from clbook.methods import MoCo, SimCLR


def two_views(n=6, size=16, seed=0):
    return tuple(torch.rand(2, n, 3, size, size, generator=torch.Generator().manual_seed(seed)))


def simclr(**options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SimCLR(models.small(2), **options)


@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_loss_is_nt_xent_of_the_heads_output(temperature):
    method, views = simclr(temperature=temperature), two_views()
    z = method.head(method.encoder(torch.cat(views)))  # batch-norm sees both views together
    unit = z / z.norm(dim=1, keepdim=True)
    scores = unit @ unit.T / temperature - torch.diag(torch.full((12,), torch.inf))
    partner = torch.tensor([6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5])
    by_hand = nn.functional.cross_entropy(scores, partner)
    assert method.loss(views).item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_sizes_and_defaults():
    method = simclr(out_dim=5)
    assert method.head(torch.rand(4, 16)).shape == (4, 5) and method.temperature == 0.2
    assert simclr().head(torch.rand(4, 16)).shape == (4, 128)


def test_a_new_method_leaves_its_encoder_as_it_was():
    encoder = models.small(2).train()
    encoder[1].eval()
    before = copy.deepcopy(encoder.state_dict())
    method = SimCLR(encoder)
    assert method.encoder is encoder and encoder.training and encoder[0].training and not encoder[1].training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_every_parameter_gets_a_gradient_and_after_step_changes_nothing():
    method = simclr()
    method.loss(two_views()).backward()
    without = [name for name, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []
    before = copy.deepcopy(method.state_dict())
    assert method.after_step() is None
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_state_dict_has_the_encoder_and_the_head_only():
    assert {name.split(".")[0] for name in simclr().state_dict()} == {"encoder", "head"}


def test_a_few_steps_lower_the_loss():
    method = simclr(temperature=0.5)
    views = two_views(16)
    views = views[0], 0.8 * views[0] + 0.2 * views[1]
    optimizer = torch.optim.Adam(method.parameters(), 0.01)
    losses = []
    for _ in range(20):
        loss = method.loss(views)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


VIEW = two_views()[0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        # torch.cat would take these, and cut them in the wrong place
        (lambda: simclr().loss((VIEW[:4], VIEW[:2])), r"view2: expected one shape.* got \[4, 128\].*\[2, 128\]"),
        (lambda: simclr().loss((VIEW[:2], VIEW[:4])), r"view2: expected one shape.* got \[2, 128\].*\[4, 128\]"),
        (lambda: simclr().eval().loss((VIEW[:1], VIEW[:1])), "expected at least 2 pairs .* got 1"),
        (lambda: simclr().loss((VIEW * torch.nan, VIEW)), "expected finite numbers, got NaN"),
        (lambda: simclr(temperature=0.0).loss((VIEW, VIEW)), "temperature: expected a number > 0 .* got 0"),
        (lambda: simclr(out_dim=0), "out_dim: expected an integer of at least 1, got 0"),
        (lambda: SimCLR(nn.Conv2d(3, 4, 3)), r"encoder: expected features \[N, D\], got \[1, 4, 30, 30\]"),
    ],
)
def test_bad_input_says_what_was_expected_and_what_came(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# --- MoCo ---


def momentum_contrast(seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MoCo(models.small(2), **({"queue_size": 16, "out_dim": 8} | options))


def moco_by_hand(q, k, negatives, temperature):
    """MoCo's equation 1, number by number, in Python's own float64."""

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    total = 0.0
    for query, key in zip(q.tolist(), k.tolist(), strict=True):
        scores = [math.exp(cosine(query, c) / temperature) for c in [key, *negatives.tolist()]]
        total -= math.log(scores[0] / sum(scores))
    return total / len(q)


def state(method):
    return copy.deepcopy(method.state_dict())


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("temperature", [0.1, 0.7])
@pytest.mark.parametrize("symmetric", [False, True])
def test_mocos_loss_is_info_nce_with_the_queue_as_it_stands(temperature, symmetric):
    method, (x1, x2) = momentum_contrast(temperature=temperature, symmetric=symmetric), two_views()
    slow = copy.deepcopy(method)  # its own running statistics are moved by its own passes
    negatives = method.queue.keys.clone()
    found = method.loss((x1, x2)).item()
    expected = moco_by_hand(slow.head(slow.encoder(x1)), slow.key_encoder(x2), negatives, temperature)
    if symmetric:
        expected += moco_by_hand(slow.head(slow.encoder(x2)), slow.key_encoder(x1), negatives, temperature)
        expected /= 2
    assert found == pytest.approx(expected, rel=1e-5)


def test_before_training_keys_are_queries_and_the_head_is_that_of_moco_v2():
    method, views = momentum_contrast(), two_views()
    assert torch.equal(method.key_encoder(views[0]), method.head(method.encoder(views[0])))
    assert [type(layer).__name__ for layer in method.head] == ["Linear", "ReLU", "Linear"]
    assert (method.temperature, method.symmetric) == (0.2, False)
    defaults = MoCo(models.small(2))
    assert defaults.queue.keys.shape == (4096, 128) and defaults.key_encoder.momentum == 0.99


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_loss_leaves_queue_and_key_weights_alone_and_after_step_moves_both(symmetric):
    method, views = momentum_contrast(symmetric=symmetric, momentum=0.75), two_views()
    queue, weight = state(method.queue), method.key_encoder.encoder[0][0].weight.clone()
    for _ in range(3):  # a monitor may ask for the loss as often as it likes
        loss = method.loss(views)
    assert same(state(method.queue), queue) and torch.equal(method.key_encoder.encoder[0][0].weight, weight)
    keys = [copy.deepcopy(method).keys(view) for view in reversed(views)][: 1 + symmetric]
    loss.backward()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter -= 0.1 * parameter.grad
    method.after_step()
    n = 6 * (1 + symmetric)
    assert method.queue.filled == n and int(method.queue.pointer) == n
    torch.testing.assert_close(method.queue.keys[:n], nn.functional.normalize(torch.cat(keys)))
    assert torch.equal(method.queue.keys[n:], queue["keys"][n:])
    moved = method.key_encoder.encoder[0][0].weight
    torch.testing.assert_close(moved, 0.75 * weight + 0.25 * method.encoder[0].weight.detach())
    before = state(method.queue)
    method.after_step()  # nothing waits any more
    assert same(state(method.queue), before)


def test_a_symmetric_loss_never_meets_its_own_keys():
    """Enqueued between the two halves, each key would stand among its own query's negatives."""
    method, views = momentum_contrast(symmetric=True, temperature=0.1), two_views()
    negatives = method.queue.keys.clone()
    method.loss(views)
    assert torch.equal(method.queue.negatives(), negatives)


def test_mocos_gradient_reaches_encoder_and_head_alone():
    method = momentum_contrast(symmetric=True)
    names = {name for name, _ in method.named_parameters()}
    assert {name.split(".")[0] for name in names} == {"encoder", "head"}
    assert not any(tensor.requires_grad for tensor in method.key_encoder.state_dict(keep_vars=True).values())
    assert not list(method.key_encoder.parameters()) and not method.keys(two_views()[0]).requires_grad
    method.loss(two_views()).backward()
    assert [name for name, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert all(tensor.grad is None for tensor in method.buffers())
    assert not method._waiting.requires_grad


def one_step(method, views, rate=0.1):
    loss = method.loss(views)
    method.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter -= rate * parameter.grad
    method.after_step()
    return loss.item()


def test_a_moco_that_is_loaded_goes_on_exactly():
    first, other = momentum_contrast(symmetric=True), momentum_contrast(seed=1, symmetric=True)
    for i in range(3):
        one_step(first, two_views(seed=i))
    other.load_state_dict(first.state_dict())
    assert other.queue.filled == 16 and int(other.queue.pointer) == 36 % 16
    for i in range(3, 6):
        assert one_step(first, two_views(seed=i)) == one_step(other, two_views(seed=i))
    assert same(first.state_dict(), other.state_dict())


def test_keys_may_be_shuffled_by_overriding_one_method():
    class Shuffled(MoCo):
        def keys(self, view):
            return moco.encode_shuffled(self.key_encoder, view, generator=torch.Generator().manual_seed(0))

    plain, shuffled = momentum_contrast(), momentum_contrast()
    shuffled.__class__ = Shuffled
    assert shuffled.loss(two_views()).item() == pytest.approx(plain.loss(two_views()).item(), rel=1e-5)
    for method in (plain, shuffled):  # undivided batch-norm takes no notice, divided does
        moco.split_batch_norm(method.key_encoder, 3)
    assert shuffled.loss(two_views()).item() != pytest.approx(plain.loss(two_views()).item(), rel=1e-3)


def test_fit_trains_a_moco():
    images = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    config = training.TrainConfig(steps=5, batch_size=6, image_size=16, evaluations=0, precision="fp32", device="cpu")
    method = momentum_contrast(queue_size=64)
    found = training.fit(images, config, method=method)
    assert found.encoder is method.encoder and method.queue.filled == 30
    assert not method.training and not method.key_encoder.training and math.isfinite(found.history[-1]["loss"])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: momentum_contrast().loss((VIEW[:4], VIEW[:2])),
            r"views: expected a pair of one shape, got .*\[4, 3",
        ),
        (lambda: momentum_contrast().loss((VIEW * torch.nan, VIEW)), "NaN"),
        (lambda: momentum_contrast(temperature=-1), "temperature: expected a number > 0 .* got -1"),
        (lambda: momentum_contrast(momentum=1.5), "momentum: expected a number from 0 to 1 .* got 1.5"),
        (lambda: momentum_contrast(queue_size=0), "size: expected an integer of at least 1, got 0"),
        (lambda: one_step(momentum_contrast(queue_size=5), two_views()), "expected .* got [^.]*. For a larger batch"),
    ],
)
def test_bad_input_to_moco_says_what_was_expected_and_what_came(call, words):
    with pytest.raises(ValueError, match=words):
        call()


LABELS = torch.tensor([0, 1, 0, 2, 1, 0])


def new(method, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return method(models.small(2), **options)


def test_sup_con_takes_both_views_of_a_class_as_positives():
    method, views = new(methods.SupCon, temperature=0.3), two_views()
    z = method.head(method.encoder(torch.cat(views))).detach().double()
    z, y, terms = z / z.norm(dim=1, keepdim=True), torch.cat([LABELS, LABELS]), []
    for i in range(12):
        others = [k for k in range(12) if k != i]
        bottom = sum(math.exp(z[i] @ z[k] / 0.3) for k in others)
        positives = [k for k in others if y[k] == y[i]]
        terms.append(sum(-math.log(math.exp(z[i] @ z[p] / 0.3) / bottom) for p in positives) / len(positives))
    assert method.loss(views, LABELS).item() == pytest.approx(sum(terms) / 12, rel=1e-5)


def test_triplet_takes_both_views_of_a_class_as_positives():
    method, views = new(methods.Triplet, margin=0.4, mining="all"), two_views()
    z = method.head(method.encoder(torch.cat(views))).detach().double()
    z, y, terms = z / z.norm(dim=1, keepdim=True), torch.cat([LABELS, LABELS]), []
    for a in range(12):
        for p in range(12):
            for n in range(12):
                if a != p and y[a] == y[p] != y[n]:
                    terms.append(max(0.0, float((z[a] - z[p]).norm() - (z[a] - z[n]).norm()) + 0.4))
    assert method.loss(views, LABELS).item() == pytest.approx(sum(terms) / len(terms), rel=1e-4)


@pytest.mark.parametrize("name", training.METHODS)
def test_fit_learns_with_each_method_of_the_config(name):
    images = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    config = training.TrainConfig(method=name, steps=5, batch_size=6, image_size=16, width=4, evaluations=0,
                                  precision="fp32", device="cpu", queue_size=16)  # fmt: skip
    found = training.fit(images, config, labels=torch.arange(24) % 3)
    assert math.isfinite(found.history[-1]["loss"])
    before = training.new_encoder(config).state_dict()["0.weight"]
    assert not torch.equal(found.encoder.state_dict()["0.weight"], before)
    assert type(found.method) in (SimCLR, MoCo, methods.SupCon, methods.Triplet)


@pytest.mark.parametrize(
    ("name", "loss", "rows"), [("SimCLR", "nt_xent", 12), ("MoCo", "info_nce", 6), ("SupCon", "sup_con", 12)]
)
def test_a_matrix_that_does_not_fit_is_made_in_chunks(name, loss, rows, monkeypatch):
    method, views, asked = new(getattr(methods, name)), two_views(), []
    given = (views, LABELS) if name == "SupCon" else (views,)
    true_loss = getattr(methods, loss)

    def spy(*tensors, chunk_size, **options):
        asked.append(chunk_size)
        return true_loss(*tensors, chunk_size=chunk_size, **options)

    monkeypatch.setattr(methods, loss, spy)
    whole = method.loss(*given)
    columns = 4097 if name == "MoCo" else rows
    monkeypatch.setattr(methods, "MATRIX_BYTES", 4 * columns * 5)
    assert method.loss(*given).item() == pytest.approx(whole.item(), rel=1e-5)
    assert asked == [None, 5]
    monkeypatch.setattr(methods, "MATRIX_BYTES", 1)
    method.loss(*given)
    assert asked[-1] == 1  # a row at a time at least


def test_every_method_is_tested_here():
    ours = {n for n, f in vars(methods).items() if getattr(f, "__module__", "") == methods.__name__}
    assert {name for name in ours if not name.startswith("_")} == {"SimCLR", "MoCo", "SupCon", "Triplet"}


def test_a_batch_of_one_class_has_no_triplet_and_moves_nothing():
    """As small batches of unbalanced classes are now and then: no reason to end a run."""
    method, views = new(methods.Triplet), two_views()
    loss = method.loss(views, torch.ones_like(LABELS))
    loss.backward()
    assert loss == 0 and all((p.grad == 0).all() for p in method.parameters())
