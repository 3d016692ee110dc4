"""Other libraries as second oracles: where definitions agree, so do values and gradients; where not, a test says how.

Skipped without them. To install both: pip install -c constraints.txt -e '.[bench]'
"""

import pytest
import torch
from torch.nn import functional as F

from clbook.evaluation import alignment, knn_predict, uniformity
from clbook.losses import batch_triplet, info_nce, nt_xent, pair_margin, sup_con, triplet_margin

INSTALL = "not installed here; pip install -c constraints.txt -e '.[bench]'"
SIZES = (2, 5, 64)


@pytest.fixture(scope="module")
def lightly():
    pytest.importorskip("lightly.loss", reason=f"lightly is {INSTALL}")
    return pytest.importorskip("lightly")


@pytest.fixture(scope="module")
def pml():
    for name in ("reducers", "miners", "distances", "losses"):
        pytest.importorskip(f"pytorch_metric_learning.{name}", reason=f"pytorch-metric-learning is {INSTALL}")
    return pytest.importorskip("pytorch_metric_learning")


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(n, d=16, seed=0):
    """Two views that are somewhat alike."""
    view1 = rows(n, d, seed=seed)
    return view1, view1 + rows(n, d, seed=seed + 1)


def labelled(n, classes, d=16):
    """[n, d] around centres, and labels [n]: each class in turn."""
    labels = torch.arange(n) % classes
    return rows(classes, d)[labels] + rows(n, d, seed=1), labels


def assert_same(ours, theirs, *inputs, rtol=1e-9):
    """The same value and the same gradients; theirs is what a loss of the library makes of the same tensors."""
    outcomes = []
    for loss in (ours, theirs):
        leaves = [x.clone().requires_grad_() for x in inputs]
        value = loss(*leaves)
        outcomes.append([value.detach(), *torch.autograd.grad(value, leaves)])
    assert all(torch.count_nonzero(gradient) for gradient in outcomes[1][1:])  # zeros would agree with much
    torch.testing.assert_close(outcomes[0], outcomes[1], rtol=rtol, atol=1e-12)


# --- lightly ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.01, 0.1, 0.5, 10.0])
@pytest.mark.parametrize("n", SIZES)
def test_nt_xent_is_lightlys(lightly, n, temperature):
    theirs = lightly.loss.NTXentLoss(temperature)
    assert_same(lambda a, b: nt_xent(a, b, temperature=temperature), theirs, *pair(n))
    assert_same(lambda a, b: nt_xent(a, b, temperature=temperature, chunk_size=3), theirs, *pair(n))


@pytest.mark.parametrize("temperature", [0.01, 0.07, 0.5])
@pytest.mark.parametrize("n", SIZES)
def test_info_nce_with_a_queue_is_lightlys_with_its_memory_bank(lightly, n, temperature):
    """Ours reads a queue that stays as it is; theirs writes the keys into its bank after having read it."""
    queue = F.normalize(rows(37, 16, seed=7), dim=1)

    def theirs(query, key):
        loss = lightly.loss.NTXentLoss(temperature, memory_bank_size=(37, 16))
        loss.memory_bank.bank = queue.clone()
        return loss(query, key)

    assert_same(lambda q, k: info_nce(q, k, queue, temperature=temperature), theirs, *pair(n))


def test_alignment_and_uniformity_are_lightlys(lightly):
    """Its loss is their sum: alignment, and the mean uniformity of both views. Ours are measures, without gradient."""
    view1, view2 = pair(20)
    loss = pytest.importorskip("lightly.loss.hypersphere_loss").HypersphereLoss(t=2.0, lam=0.5, alpha=2.0)
    theirs = loss(view1, view2).item()
    ours = alignment(view1, view2) + 0.5 * (uniformity(view1) + uniformity(view2)) / 2
    assert ours == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_neighbours_vote_as_lightlys(lightly, temperature):
    utils = pytest.importorskip("lightly.utils.benchmarking.knn")
    bank, labels = labelled(300, 7)
    queries = labelled(107, 7)[0] + 2 * rows(107, 16, seed=5)
    unit = [F.normalize(x.float(), dim=1) for x in (bank, queries)]
    theirs = utils.knn_predict(unit[1], unit[0].T, labels, 7, knn_k=20, knn_t=temperature)[:, 0]
    assert theirs.unique().numel() == 7
    assert torch.equal(knn_predict(bank, labels, queries, k=20, temperature=temperature), theirs)


# --- pytorch-metric-learning ------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.1, 0.5, 10.0])
@pytest.mark.parametrize("n", SIZES)
def test_nt_xent_is_pmls_where_each_label_comes_twice(pml, n, temperature):
    theirs, labels = pml.losses.NTXentLoss(temperature), torch.arange(n).repeat(2)
    assert_same(lambda a, b: nt_xent(a, b, temperature=temperature), lambda a, b: theirs(torch.cat([a, b]), labels),
                *pair(n))  # fmt: skip


def test_pmls_nt_xent_is_capped_where_a_positive_is_far(pml):
    """It takes log(p + tiny): in float32 no term exceeds 87.3, and there its gradient is 0. Ours goes on."""
    views = [torch.eye(4), torch.eye(4).roll(1, 0)]  # at τ = 0.005 a negative is nearer by 1 / τ = 200

    def outcome(loss):
        leaves = [view.clone().requires_grad_() for view in views]
        value = loss(*leaves)
        return value.item(), max(g.abs().max().item() for g in torch.autograd.grad(value, leaves))

    theirs = pml.losses.NTXentLoss(0.005)
    value, gradient = outcome(lambda a, b: theirs(torch.cat([a, b]), torch.arange(4).repeat(2)))
    assert value == pytest.approx(87.3, abs=0.1) and gradient == 0
    value, gradient = outcome(lambda a, b: nt_xent(a, b, temperature=0.005))
    assert value == pytest.approx(200) and gradient > 1


@pytest.mark.parametrize("temperature", [0.1, 0.5, 10.0])
@pytest.mark.parametrize(("n", "classes"), [(6, 2), (12, 4), (64, 10), (9, 8)])  # the last: seven have no positive
def test_sup_con_is_pmls(pml, n, classes, temperature):
    x, labels = labelled(n, classes)
    theirs = pml.losses.SupConLoss(temperature)  # its mean is over losses above 0, which an anchor with a positive has
    assert_same(lambda x: sup_con(x, labels, temperature=temperature), lambda x: theirs(x, labels), x)


def lp(pml, squared=False, normalize=True):
    return pml.distances.LpDistance(power=2 if squared else 1, normalize_embeddings=normalize)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("average", ["all", "active"])
@pytest.mark.parametrize("mining", ["all", "semi-hard", "hard"])
def test_batch_triplet_is_pmls(pml, mining, average, squared, normalize):
    """Their semi-hard miner includes d(a, n) = d(a, p) + margin, which ours leaves out; random numbers don't hit it."""
    options = {"distance": lp(pml, squared, normalize)}
    miner = {
        "all": None,
        "semi-hard": pml.miners.TripletMarginMiner(0.3, type_of_triplets="semihard", **options),
        "hard": pml.miners.BatchHardMiner(**options),
    }[mining]
    reducer = pml.reducers.MeanReducer() if average == "all" else pml.reducers.AvgNonZeroReducer()
    theirs = pml.losses.TripletMarginLoss(0.3, reducer=reducer, **options)
    x, labels = labelled(20, 4)
    assert_same(
        lambda x: batch_triplet(x, labels, margin=0.3, mining=mining, average=average, squared=squared,
                                normalize=normalize),
        lambda x: theirs(x, labels, miner(x.detach(), labels) if miner else None),
        x,
    )  # fmt: skip


@pytest.mark.parametrize("squared", [True, False])
def test_triplet_margin_is_pmls(pml, squared):
    """Theirs takes the mean over the active triplets unless told otherwise; ours over all."""
    theirs = pml.losses.TripletMarginLoss(0.3, distance=lp(pml, squared), reducer=pml.reducers.MeanReducer())
    i = torch.arange(30)

    def as_indices(a, p, n):
        return theirs(a, indices_tuple=(i, i, i + 30), ref_emb=torch.cat([p, n]))

    assert_same(lambda a, p, n: triplet_margin(a, p, n, margin=0.3, squared=squared), as_indices,
                *pair(30), rows(30, 16, seed=3))  # fmt: skip


@pytest.mark.parametrize("margin", [0.5, 1.2])
def test_pair_margin_is_the_mean_square_of_pmls_terms(pml, margin):
    """Theirs isn't Hadsell's: d and max(0, m - d) aren't squared, and kinds have means of their own (over the active
    ones), which are added. Its terms, squared, in one mean, are ours."""
    theirs = pml.losses.ContrastiveLoss(0, margin, distance=lp(pml), reducer=pml.reducers.DoNothingReducer())
    same, i = torch.arange(40) % 3 == 0, torch.arange(40)
    pairs = (i[same], i[same], i[~same], i[~same])

    def squares(a, b):
        terms = theirs(a, indices_tuple=pairs, ref_emb=b)
        return torch.cat([terms["pos_loss"]["losses"], terms["neg_loss"]["losses"]]).square().mean()

    assert_same(lambda a, b: pair_margin(a, b, same, margin=margin), squares, *pair(40))
