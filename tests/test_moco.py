"""The queue against a plain list, the momentum encoder against its formula, and the bugs that other versions have."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from clbook import moco, models
from clbook.losses import info_nce
from clbook.moco import MomentumEncoder, NegativeQueue, SplitBatchNorm, encode_shuffled, split_batch_norm

few_examples = settings(derandomize=True, deadline=None, max_examples=25, database=None)


def rows(n, d, seed=0, dtype=torch.float32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def unit(x):
    return x / x.norm(dim=1, keepdim=True)


# --- queue ---


@few_examples
@given(st.integers(1, 12), st.lists(st.integers(1, 12), max_size=8))
def test_queue_is_a_list_that_forgets_its_oldest(size, batches):
    queue, everything = NegativeQueue(size, 3), [*NegativeQueue(size, 3).negatives()]
    batches = [min(batch, size) for batch in batches]
    for i, batch in enumerate(batches):
        keys = rows(batch, 3, seed=i)
        queue.enqueue(keys)
        everything += [*unit(keys)]
    newest_last = queue.negatives()[queue.ages().argsort(descending=True)]
    torch.testing.assert_close(newest_last, torch.stack(everything[-size:]))
    assert sorted(queue.ages().tolist()) == list(range(size))
    assert queue.filled == min(size, sum(batches))


def test_no_key_is_lost_where_the_queue_wraps():
    """Of two batches of 64 in a queue of 100, the 28 that don't fit at the end are at the beginning."""
    queue, first, second = NegativeQueue(100, 5), unit(rows(64, 5, 1)), unit(rows(64, 5, 2))
    queue.enqueue(first)
    assert queue.filled == 64 and torch.equal(queue.negatives()[64:], NegativeQueue(100, 5).negatives()[64:])
    queue.enqueue(second)
    assert queue.filled == 100 and queue.pointer == 28
    torch.testing.assert_close(queue.negatives(), torch.cat([second[36:], first[28:], second[:36]]))
    assert queue.ages()[[27, 0, 99, 28, 63]].tolist() == [0, 27, 28, 99, 64]


def test_queue_starts_as_unit_noise_of_its_own_seed():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = NegativeQueue(50, 8), NegativeQueue(50, 8), NegativeQueue(50, 8, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(6)
    assert torch.equal(first.negatives(), again.negatives()) and torch.equal(again.keys, NegativeQueue(50, 8).keys)
    assert not torch.equal(first.negatives(), other.negatives())
    assert first.filled == 0 and first.negatives().shape == (50, 8)
    torch.testing.assert_close(first.negatives().norm(dim=1), torch.ones(50))
    assert first.negatives().mean(0).norm() < 0.5  # in all directions


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_keys_of_any_type_and_length_are_stored_as_unit_vectors(dtype):
    queue, keys = NegativeQueue(6, 4), (300 * rows(3, 4, dtype=torch.float64)).to(dtype)  # their squares overflow half
    queue.enqueue(torch.cat([keys, torch.zeros(1, 4, dtype=dtype)]))
    stored = queue.negatives()
    assert stored.dtype == torch.float32
    torch.testing.assert_close(stored[:3].double(), unit(keys.double()), rtol=0, atol=1e-6)
    assert stored[3].tolist() == [0, 0, 0, 0]  # like nothing; F.normalize of half-precision zeros is NaN


def test_queue_and_keys_have_no_gradient_and_keys_stay_as_they_were():
    queue, keys = NegativeQueue(4, 3), rows(3, 3).requires_grad_()
    before = keys.detach().clone()
    queue.enqueue(keys)
    assert not queue.keys.requires_grad and not queue.negatives().requires_grad
    assert list(queue.parameters()) == []
    assert torch.equal(keys, before) and keys.grad is None
    with torch.no_grad():
        keys.zero_()
    assert queue.negatives()[0].norm() > 0.9  # no view of the caller's tensor


def test_negatives_are_a_copy_and_backward_survives_an_enqueue():
    queue, query, key = NegativeQueue(8, 4), rows(2, 4, 1).requires_grad_(), rows(2, 4, 2)
    negatives = queue.negatives()
    before = negatives.clone()
    loss = info_nce(query, key, negatives, temperature=0.2)
    queue.enqueue(key)
    loss.backward()
    assert torch.equal(negatives, before) and not torch.equal(queue.negatives(), before)
    negatives.zero_()
    assert queue.negatives().norm(dim=1).min() > 0.9


def test_a_loss_never_changes_the_queue():
    queue = NegativeQueue(8, 4)
    before = copy.deepcopy(queue.state_dict())
    info_nce(rows(2, 4, 1).requires_grad_(), rows(2, 4, 2), queue.negatives(), temperature=0.2).backward()
    for name, value in queue.state_dict().items():
        assert torch.equal(value, before[name])


def test_enqueue_between_the_halves_of_a_symmetric_loss_is_seen():
    """A key that is already in the queue is its own negative: the loss can't fall under log 2."""
    queue, z1 = NegativeQueue(64, 32), rows(8, 32, 1)
    z2 = z1 + 0.01 * rows(8, 32, 2)
    right = info_nce(z1, z2, queue.negatives(), temperature=0.05)
    queue.enqueue(z2)
    late = info_nce(z1, z2, queue.negatives(), temperature=0.05)
    assert right < 0.01 and late > math.log(2)


@pytest.mark.parametrize("written", [0, 3, 7, 10])
def test_a_resumed_queue_goes_on_exactly(written, tmp_path):
    queue = NegativeQueue(7, 4)
    for i in range(0, written, 5):
        queue.enqueue(rows(min(5, written - i), 4, i))
    torch.save(queue.state_dict(), tmp_path / "queue.pt")
    resumed = NegativeQueue(7, 4, seed=9)
    resumed.load_state_dict(torch.load(tmp_path / "queue.pt", weights_only=True))
    assert set(queue.state_dict()) == {"keys", "pointer", "count"}
    for _ in range(2):
        assert resumed.filled == queue.filled
        assert torch.equal(resumed.negatives(), queue.negatives()) and torch.equal(resumed.ages(), queue.ages())
        for one in (queue, resumed):
            one.enqueue(rows(3, 4, 99))
    with pytest.raises(RuntimeError, match="size mismatch"):
        NegativeQueue(8, 4).load_state_dict(queue.state_dict())


def test_loss_rises_at_first_as_real_keys_replace_noise():
    queue, key = NegativeQueue(256, 64), unit(rows(64, 64, 1))
    crowd = unit(rows(64, 64, 2) + 2)  # real keys have a direction in common, and so do queries
    query = unit(crowd + 0.1 * key)
    noise = info_nce(query, crowd, queue.negatives(), temperature=0.1)
    queue.enqueue(unit(rows(256, 64, 3) + 2))
    assert info_nce(query, crowd, queue.negatives(), temperature=0.1) > noise + 1


# --- momentum encoder ---


def online(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(models.small(4), models.ProjectionHead(32, 16, 8))


def moved(encoder, seed=1):
    """The same structure elsewhere: every number changed, batch-norm's counters too."""
    encoder, generator = copy.deepcopy(encoder), torch.Generator().manual_seed(seed)
    for value in encoder.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.rand(value.shape, generator=generator))
        else:
            value.add_(7)
    return encoder


@pytest.mark.parametrize("momentum", [0, 0.25, 0.9, 0.999, 1])
def test_each_update_is_the_formula_of_the_paper(momentum):
    encoder = online()
    keys, target = MomentumEncoder(encoder, momentum), moved(encoder)
    expected = copy.deepcopy(encoder.state_dict())
    for _ in range(3):
        keys.update(target)
        for name, new in target.state_dict().items():
            old = expected[name]
            expected[name] = momentum * old + (1 - momentum) * new if new.is_floating_point() else new
    for name, value in keys.encoder.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-6)
        if momentum in (0, 1) and value.is_floating_point():  # exactly
            assert torch.equal(value, (target if momentum == 0 else encoder).state_dict()[name])


def test_the_batch_norms_running_statistics_follow_and_its_counter_is_copied():
    encoder = online()
    keys, target = MomentumEncoder(encoder, 0.75), moved(encoder)
    keys.update(target)
    mean, var, count = (target.state_dict()[f"0.1.{name}"] for name in ("running_mean", "running_var",
                                                                        "num_batches_tracked"))  # fmt: skip
    assert count == 7 and keys.encoder[0][1].num_batches_tracked == 7
    torch.testing.assert_close(keys.encoder[0][1].running_mean, 0.25 * mean)  # they begin at 0 and 1
    torch.testing.assert_close(keys.encoder[0][1].running_var, 0.75 + 0.25 * var)


def test_momentum_may_follow_a_schedule():
    encoder = online()
    keys, target = MomentumEncoder(encoder, 1.0), moved(encoder)
    keys.momentum = 0.0
    keys.update(target)
    assert torch.equal(keys.encoder[0][0].weight, target[0][0].weight)
    keys.momentum = 1.5
    with pytest.raises(ValueError, match=r"momentum: expected a number from 0 to 1 .* got 1.5"):
        keys.update(target)


def test_it_is_a_copy_and_update_leaves_the_source_alone():
    encoder = online()
    before = copy.deepcopy(encoder.state_dict())
    keys = MomentumEncoder(encoder, 0.5)
    assert all(p.requires_grad for p in encoder.parameters()) and len(list(encoder.parameters())) == 17
    keys.update(moved(encoder))
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name])
    with torch.no_grad():
        encoder[0][0].weight.zero_()
    assert keys.encoder[0][0].weight.abs().max() > 0


def test_updates_keep_no_history():
    """A graph through every step so far would grow until memory ends."""
    encoder = online()
    follower = MomentumEncoder(encoder, 0.9)
    follower.update(encoder)
    assert not any(buffer.requires_grad for buffer in follower.buffers())


def test_no_optimizer_can_get_hold_of_it():
    method = nn.ModuleDict({"online": online()})
    method["follower"] = MomentumEncoder(method["online"], 0.9)
    method.requires_grad_(True)  # as one does to unfreeze a model
    held = {p.data_ptr() for p in method.parameters()}
    assert held == {p.data_ptr() for p in method["online"].parameters()}
    before = copy.deepcopy(method["follower"].state_dict())
    optimizer = torch.optim.AdamW(method.parameters(), 0.1, weight_decay=0.5)
    method["follower"].eval()  # batch-norm's own statistics are another matter
    x = torch.rand(4, 3, 16, 16)
    (method["online"](x) * method["follower"](x)).sum().backward()
    optimizer.step()
    for name, value in method["follower"].state_dict().items():
        assert torch.equal(value, before[name]), name


def test_keys_have_no_gradient_and_a_forward_pass_moves_no_weight():
    keys, x = MomentumEncoder(online(), 0.9), torch.rand(4, 3, 16, 16, requires_grad=True)
    before = copy.deepcopy(keys.state_dict())
    z = keys(x)
    assert z.shape == (4, 8) and not z.requires_grad
    for name, value in keys.state_dict().items():
        assert torch.equal(value, before[name]) or "running" in name or "tracked" in name


def test_it_computes_what_the_encoder_computes_in_either_mode():
    encoder, x = online(), torch.rand(6, 3, 16, 16)
    keys = MomentumEncoder(encoder, 0.9)
    assert keys.training
    torch.testing.assert_close(keys(x), encoder(x), rtol=0, atol=0)
    keys.eval(), encoder.eval()
    torch.testing.assert_close(keys(x), encoder(x), rtol=0, atol=0)
    assert not MomentumEncoder(encoder, 0.9).training
    assert keys.train().encoder[0][1].training


def test_its_state_loads_into_it_and_into_the_original_class(tmp_path):
    keys = MomentumEncoder(online(), 0.5)
    keys.update(moved(online()))
    torch.save(keys.state_dict(), tmp_path / "keys.pt")
    resumed, plain = MomentumEncoder(online(3), 0.5), online(4)
    resumed.load_state_dict(torch.load(tmp_path / "keys.pt", weights_only=True))
    plain.load_state_dict(keys.encoder.state_dict())
    x = torch.rand(4, 3, 16, 16)
    assert torch.equal(resumed.eval()(x), keys.eval()(x)) and torch.equal(plain.eval()(x), keys(x))
    for one in (keys, resumed):
        one.update(moved(online(), 2))
    assert torch.equal(resumed(x), keys(x))


def test_weights_that_are_shared_are_averaged_once():
    layer = nn.Linear(3, 3, bias=False)
    encoder = nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(3, 3))
    encoder[3].weight = layer.weight
    keys, target = MomentumEncoder(encoder, 0.5), moved(encoder)
    keys.update(target)
    for i in (0, 2, 3):
        torch.testing.assert_close(keys.encoder[i].weight, 0.5 * (layer.weight + target[i].weight).detach())


def test_a_recurrent_encoder_follows_too():
    """torch's LSTM keeps a second list of its weights."""
    encoder = nn.LSTM(3, 4)
    keys, target = MomentumEncoder(encoder, 0), moved(encoder)
    keys.update(target)
    x = torch.rand(5, 2, 3)
    assert torch.equal(keys(x)[0], target(x)[0]) and not torch.equal(keys(x)[0], encoder(x)[0])


# --- split batch-norm ---


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (nn.BatchNorm1d, (12, 3)),
        (nn.BatchNorm1d, (12, 3, 5)),
        (nn.BatchNorm2d, (12, 3, 4, 5)),
        (nn.BatchNorm3d, (6, 3, 2, 2, 2)),
    ],
)
@pytest.mark.parametrize("splits", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}])
def test_each_part_is_normalized_by_itself(kind, shape, splits, options):
    torch.manual_seed(0)
    norm = kind(3, **options)
    if norm.affine:
        nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    parts = [copy.deepcopy(norm) for _ in range(splits)]  # as if each were on a device of its own
    split = split_batch_norm(norm, splits)
    for step in range(2):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(step)) * 3 + 1
        expected = torch.empty_like(x)
        for i, part in enumerate(parts):
            expected[i::splits] = part(x[i::splits])
        torch.testing.assert_close(split(x), expected)
        for name in ("running_mean", "running_var"):
            if split.track_running_stats:
                together = torch.stack([getattr(part, name) for part in parts]).mean(0)
                torch.testing.assert_close(getattr(split, name), together)
    if split.track_running_stats:
        assert split.num_batches_tracked == 2
        split.eval(), parts[0].eval()
        parts[0].load_state_dict(split.state_dict())
        torch.testing.assert_close(split(x[:1]), parts[0](x[:1]))  # ordinary batch-norm, any batch size


def test_one_split_is_ordinary_batch_norm_gradients_included():
    norm, x = nn.BatchNorm2d(3), torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    split = split_batch_norm(copy.deepcopy(norm), 1)
    for module in (norm, split):
        module(x).square().mul(torch.linspace(0, 1, 5)).sum().backward()
    torch.testing.assert_close(split.weight.grad, norm.weight.grad)
    torch.testing.assert_close(split.bias.grad, norm.bias.grad)


def test_every_batch_norm_of_an_encoder_is_replaced_with_its_own_weights():
    encoder = online()
    weights, state = list(encoder.parameters()), copy.deepcopy(encoder.state_dict())
    encoder[0][1].eval()
    assert split_batch_norm(encoder, 2) is encoder
    norms = [m for m in encoder.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 5 and all(type(m) is SplitBatchNorm and m.splits == 2 for m in norms)
    assert [m.training for m in norms] == [False, True, True, True, True]
    assert all(p is q for p, q in zip(encoder.parameters(), weights, strict=True))  # an optimizer may hold them
    assert encoder.state_dict().keys() == state.keys()
    assert (norms[0].eps, norms[0].momentum) == (1e-5, 0.1) and "splits=2" in repr(norms[0])
    assert split_batch_norm(nn.BatchNorm1d(3, eps=0.5, momentum=0.3), 2).eps == 0.5


def test_the_leak_shows_with_split_batches_and_shuffling_mends_it():
    """What a picture becomes depends on who is in its part; undivided, the order of the batch changes nothing."""
    torch.manual_seed(0)
    x = torch.randn(32, 4) + torch.arange(32)[:, None] % 2  # part 0 and part 1 have another mean
    plain, split = nn.BatchNorm1d(4), split_batch_norm(nn.BatchNorm1d(4), 2)
    generator = torch.Generator().manual_seed(1)
    torch.testing.assert_close(encode_shuffled(plain, x, generator=generator), plain(x))
    assert (split(x)[::2].mean() - split(x)[1::2].mean()).abs() < 1e-6  # each part hides its mean
    shuffled = encode_shuffled(split, x, generator=generator)
    assert shuffled[1::2].mean() - shuffled[::2].mean() > 0.5  # which parts at random don't


def test_shuffled_keys_come_back_in_order():
    x, seen = torch.arange(50.0)[:, None], []

    def encoder(images):
        seen.append(images)
        return 2 * images

    generator = torch.Generator().manual_seed(0)
    assert torch.equal(encode_shuffled(encoder, x, generator=generator), 2 * x)
    assert not torch.equal(seen[0], x) and torch.equal(seen[0].sort(0).values, x)
    encode_shuffled(encoder, x, generator=generator.manual_seed(0))
    encode_shuffled(encoder, x, generator=generator)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])
    state = torch.get_rng_state()
    encode_shuffled(encoder, x, generator=generator)
    assert torch.equal(state, torch.get_rng_state())
    encode_shuffled(encoder, x)
    assert not torch.equal(seen[-1], x)


# --- bad input ---

X = torch.ones(4, 3)
QUEUE = NegativeQueue(5, 3)
LINEAR = nn.Linear(3, 3)
BAD = {
    "NegativeQueue": [
        (lambda: NegativeQueue(0, 3), ValueError, "size: expected an integer of at least 1, got 0"),
        (lambda: NegativeQueue(2.0, 3), ValueError, "size: expected an integer of at least 1, got 2.0"),
        (lambda: NegativeQueue(True, 3), ValueError, "size: expected an integer of at least 1, got True"),
        (lambda: NegativeQueue(3, -1), ValueError, "dim: expected an integer of at least 1, got -1"),
        (lambda: QUEUE.enqueue(X.tolist()), TypeError, "keys: expected a floating-point tensor [B, 3], got list"),
        (lambda: QUEUE.enqueue(X.long()), TypeError, "[B, 3], got torch.int64"),
        (lambda: QUEUE.enqueue(X[0]), ValueError, "got [3]. For a larger batch make a larger queue"),
        (lambda: QUEUE.enqueue(X[:, :2]), ValueError, "expected [B, 3] with B from 1 to the queue's 5, got [4, 2]"),
        (lambda: QUEUE.enqueue(X[:0]), ValueError, "got [0, 3]"),
        (lambda: QUEUE.enqueue(X.repeat(2, 1)[:6]), ValueError, "got [6, 3]"),
        (lambda: QUEUE.enqueue(X * torch.nan), ValueError, "keys: expected finite numbers, got NaN or infinity"),
        (lambda: QUEUE.enqueue(X * torch.inf), ValueError, "keys: expected finite numbers, got NaN or infinity"),
        (lambda: QUEUE.enqueue(X.to("meta")), ValueError, "expected them where the queue is, cpu, got meta"),
    ],
    "MomentumEncoder": [
        (lambda: MomentumEncoder(LINEAR, -0.1), ValueError, "momentum: expected a number from 0 to 1"),
        (lambda: MomentumEncoder(LINEAR, 1.01), ValueError, "got 1.01"),
        (lambda: MomentumEncoder(LINEAR, math.nan), ValueError, "got nan"),
        (lambda: MomentumEncoder(LINEAR, "high"), TypeError, "expected a plain number from 0 to 1, got a str"),
        (lambda: MomentumEncoder(LINEAR, 0.5).update(nn.Linear(3, 2)), ValueError,
         "with bias [3] torch.float32 on cpu, got [2] torch.float32 on cpu"),
        (lambda: MomentumEncoder(LINEAR, 0.5).update(nn.Linear(3, 3, bias=False)), ValueError, "got absent"),
        (lambda: MomentumEncoder(nn.Linear(3, 3, bias=False), 0.5).update(LINEAR), ValueError, "with bias absent"),
        (lambda: MomentumEncoder(LINEAR, 0.5).update(copy.deepcopy(LINEAR).double()), ValueError, "[3] torch.float64"),
        (lambda: MomentumEncoder(LINEAR, 0.5).update(nn.Sequential(LINEAR)), ValueError, "with 0.bias absent"),
        (lambda: MomentumEncoder(LINEAR, 0.5).update(copy.deepcopy(LINEAR).to("meta")), ValueError, "on meta"),
    ],
    "SplitBatchNorm": [
        (lambda: SplitBatchNorm(3, 0), ValueError, "splits: expected an integer of at least 1, got 0"),
        (lambda: SplitBatchNorm(3, 1.5), ValueError, "got 1.5"),
        (lambda: SplitBatchNorm(3, 3)(X), ValueError, "N a multiple of 3 splits, got [4, 3]"),
        (lambda: SplitBatchNorm(3, 2)(X[0]), ValueError, "expected a batch [N, C, ...]"),
    ],
    "split_batch_norm": [
        (lambda: split_batch_norm(LINEAR, 2), ValueError, "expected one with batch-norm, got Linear without any"),
        (lambda: split_batch_norm(nn.BatchNorm1d(3), True), ValueError, "splits: expected an integer of at least 1"),
    ],
    "encode_shuffled": [],  # the encoder is the judge of its images
}  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "words"), [case for cases in BAD.values() for case in cases])
def test_bad_input_says_what_was_expected_and_what_came(call, kind, words):
    before = copy.deepcopy(QUEUE.state_dict())
    with pytest.raises(kind, match=r"expected[\s\S]*got") as error:
        call()
    assert words in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in QUEUE.state_dict().items())


def test_every_public_name_is_in_the_table_of_bad_input():
    assert set(BAD) == {n for n, f in vars(moco).items() if getattr(f, "__module__", "") == moco.__name__
                        and not n.startswith("_")}  # fmt: skip
