"""SimCLR as a whole: what it computes, and that it learns."""

import copy

import pytest
import torch
from torch import nn

from clbook import methods, models
from clbook.methods import SimCLR


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


def test_every_method_is_tested_here():
    ours = {n for n, f in vars(methods).items() if getattr(f, "__module__", "") == methods.__name__}
    assert ours == {"SimCLR"}
