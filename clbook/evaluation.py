"""How good are features? Judged on the encoder's h, never on the head's z, and beside a baseline.

Whatever is chosen here (regularisation, learning rate, when to stop) is chosen on a validation split; the test split
is looked at once, at the end, and no function here chooses on what it is given as test.
"""

import copy
import math
import numbers
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clbook.augmentations import check_pictures, to_float
from clbook.datasets import ImageSet
from clbook.models import evaluating, feature_dim, first_weight

_BLOCK = 1024  # rows compared with all others at a time, at most
_NUMBERS = 2**24  # similarities in memory at a time, at most: 64 MB


@torch.no_grad()
def encode(encoder: nn.Module | None, images: Tensor, *, batch_size: int = 500) -> Tensor:
    """The features of each picture.

    Args:
        encoder: [N, 3, H, W] float in [0, 1] to [N, D], run in evaluation mode where its weights are and left in the
            mode it was in. None gives the pixels themselves, the baseline that any encoder has to beat; of
            pictures larger than 64 px 32 x 32 means, for all the pixels of many would fit into no memory.
        images: [N, C, H, W], uint8 or float in [0, 1].
        batch_size: pictures a pass; beyond 96 px fewer, in proportion to their pixels.

    Returns:
        [N, D] float32 on the CPU.

    Raises:
        ValueError: no batch [N, C, H, W]; float pictures that aren't in [0, 1], NaN among them (on the CPU).
        TypeError: pictures of another kind, an encoder that isn't a module.
    """
    _check_count("batch_size", batch_size)
    check_pictures(images)
    batch_size = max(1, min(batch_size, batch_size * 96**2 // images[0, 0].numel()))  # the memory of 96 px at most
    if encoder is None:
        return torch.cat([_pixels(batch) for batch in images.split(batch_size)])
    _check_encoder(encoder)
    weight = first_weight(encoder)
    with evaluating(encoder):
        batches = (to_float(batch.to(weight.device)).to(weight.dtype) for batch in images.split(batch_size))
        return torch.cat([encoder(batch).float().cpu() for batch in batches])


def _pixels(images: Tensor) -> Tensor:
    x = to_float(images).float()
    return (F.adaptive_avg_pool2d(x, 32) if max(x.shape[2:]) > 64 else x).flatten(1).cpu()


# --- neighbours: nothing is fitted ------------------------------------------------------------------------


def knn_accuracy(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, *, k: int = 20,
                 temperature: float = 0.07) -> float:  # fmt: skip
    """Share of the queries that their k nearest neighbours in the bank name rightly.

    Neighbours are nearest by cosine similarity s and vote with weight exp(s / t) (Wu et al. 2018, section 3.4).
    No parameter is fitted, so it shows what the features hold as they are.

    Args:
        bank: [N, D] features, bank_labels: [N] int64: the pictures whose labels may be seen.
        queries: [M, D], labels: [M]: the pictures to name.
        k: neighbours that vote, 1 to N.
        temperature: t > 0 of the votes.

    Returns:
        Accuracy in [0, 1].

    Raises:
        ValueError: features that aren't floating-point [N, D], empty, NaN or infinite; labels that aren't [N] int64
            from 0 up; two devices; k or temperature out of range.
    """
    _check_labelled("queries", queries, labels)
    return (knn_predict(bank, bank_labels, queries, k=k, temperature=temperature) == labels).float().mean().item()


def knn_predict(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, *, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """The labels [M] that the weighted vote of `knn_accuracy` gives the queries; a tie goes to the lowest label.

    Memory is bounded: queries go in blocks.
    """
    _check_labelled("bank", bank, bank_labels)
    _check_like_the_bank(bank, queries)
    if not _is_count(k) or k > len(bank):
        raise ValueError(f"k: expected an integer from 1 to {len(bank)}, the size of the bank, got {k!r}")
    _check_positive("temperature", temperature)
    classes, places = bank_labels.unique(return_inverse=True)  # sorted; labels may be large numbers
    predicted = []
    for nearest, rows in _neighbours(bank, queries, k):  # [m, k]
        votes = ((nearest - nearest[:, :1]) / temperature).exp()  # relative to the nearest, which can't underflow
        votes = nearest.new_zeros(len(rows), len(classes)).scatter_add_(1, places[rows], votes)
        predicted.append(classes[votes.argmax(1)])
    return torch.cat(predicted)


def knn_score(
    encoder: nn.Module | None, bank: ImageSet, queries: ImageSet, *, factor: str | None = None, k: int = 20
) -> float:
    """`knn_accuracy` of an encoder (None: of the pixels) on two image sets.

    Args:
        factor: what to name, one of the sets' categorical `factors`, such as "color"; their labels unless told.
    """
    for s in (bank, queries):
        _check_image_set(s)
        if factor is None:
            _check_has_labels(s)
        elif factor not in s.factors:
            raise ValueError(f"factor: expected one of {', '.join(s.factors) or '(none)'} for {s.name}, got {factor!r}")
    target = [(s.labels if factor is None else s.factors[factor]).cpu() for s in (bank, queries)]
    features = [encode(encoder, s.images) for s in (bank, queries)]  # on the CPU
    return knn_accuracy(features[0], target[0], features[1], target[1], k=min(k, len(bank)) if _is_count(k) else k)


def recall_at_k(queries: Tensor, labels: Tensor, ks: Sequence[int] = (1, 5, 10), *, bank: Tensor | None = None,
                bank_labels: Tensor | None = None) -> dict[int, float]:  # fmt: skip
    """Recall@k of retrieval: the share of queries with at least one of their class among the k nearest.

    Nearest is by cosine similarity. As metric learning counts it (Oh Song et al. 2016): a query scores 1 or 0, however
    many of its class there are; one whose class has no other picture scores 0.

    Args:
        queries: [N, D] features, labels: [N] int64.
        ks: how many are retrieved, each from 1 to the number that can be.
        bank: [M, D], bank_labels: [M]: where to search. None searches the queries themselves, each among the others.

    Returns:
        k -> recall in [0, 1], never falling as k grows.

    Raises:
        ValueError: as `knn_accuracy`; a bank without labels, or labels without a bank.
    """
    _check_labelled("queries", queries, labels)
    if (bank is None) != (bank_labels is None):
        raise ValueError(f"expected bank and bank_labels, or neither; got {'labels' if bank is None else 'bank'} alone")
    others = bank is None
    if others:
        bank, bank_labels = queries, labels
    _check_labelled("bank", bank, bank_labels)
    _check_like_the_bank(bank, queries)
    ks, most = _listed("ks", ks), len(bank) - others
    if not ks or not all(_is_count(k) and k <= most for k in ks):
        raise ValueError(f"ks: expected integers from 1 to {most}, the pictures that can be found, got {ks}")
    rows = torch.cat([rows for _, rows in _neighbours(bank, queries, max(ks), others=others)])  # [N, k]
    found = bank_labels[rows] == labels[:, None]
    return {k: found[:, :k].any(1).float().mean().item() for k in ks}


def _neighbours(bank: Tensor, queries: Tensor, k: int, *, others: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
    """The k highest cosine similarities and their rows of the bank, [m, k] both, for one block of queries after
    another. others: queries and bank are the same, and none is its own neighbour."""
    bank, start = F.normalize(bank.float(), dim=1), 0
    for block in queries.split(_rows_at_a_time(len(bank))):
        similarities = F.normalize(block.float(), dim=1) @ bank.T  # [m, N]
        if others:
            similarities.diagonal(start).fill_(-torch.inf)
            start += len(block)
        yield _topk(similarities, k)


def _rows_at_a_time(columns: int) -> int:
    return max(1, min(_BLOCK, _NUMBERS // columns))


def _topk(values: Tensor, k: int, group: int = 32) -> tuple[Tensor, Tensor]:
    """`values.topk(k)` along dimension 1, several times as fast on long rows: the k largest are all in the k groups of
    columns whose maxima are largest, and a maximum is far cheaper than a selection."""
    rows, columns = values.shape
    groups = columns // group
    if groups < 4 * k:
        return values.topk(k, dim=1)
    best = values[:, : groups * group].view(rows, group, groups).amax(1).topk(k, dim=1).indices  # [m, k]
    members = best[:, :, None] + groups * torch.arange(group, device=values.device)  # [m, k, group]
    rest = torch.arange(groups * group, columns, device=values.device).expand(rows, -1)  # of no group
    candidates = torch.cat([members.flatten(1), rest], 1)
    top, places = values.gather(1, candidates).topk(k, dim=1)
    return top, candidates.gather(1, places)


# --- labels: few or many ----------------------------------------------------------------------------------

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


@dataclass(frozen=True)
class Probe:
    """What `linear_probe` found."""

    accuracy: float  # on the test split, in [0, 1]
    strength: float  # C, chosen on the validation split
    val_accuracy: dict[float, float]  # of each C that was tried
    predicted: Tensor = field(repr=False, compare=False)  # [M] int64, the test split's labels as the probe sees them


def linear_probe(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], *,
                 strengths: Sequence[float] = STRENGTHS) -> Probe:  # fmt: skip
    """What a linear classifier on frozen features reaches: the usual measure of an encoder (SimCLR's section 2.3).

    Multinomial logistic regression with an L2 penalty (scikit-learn's, L-BFGS, at most 1,000 iterations) on features
    standardised by the training split. It is fitted on the training split once for each C, the weight of the data
    against the penalty; the C that is best on the validation split (the smallest of equals, so the strongest penalty)
    is then measured on the test split. Labels of the test split are not looked at before.

    Args:
        train, val, test: features [N, D] and labels [N] int64 of each split.
        strengths: the values of C to choose from, > 0; powers of ten from 1e-4 to 100 unless told.

    Returns:
        A `Probe`.

    Raises:
        ValueError: as `knn_accuracy`; splits of different D, fewer than 2 classes to learn, no or bad strengths.
    """
    from sklearn.exceptions import ConvergenceWarning  # slow to import, and only needed here
    from sklearn.linear_model import LogisticRegression

    splits = {"train": train, "val": val, "test": test}
    _check_splits(splits)
    strengths = _positive_numbers("strengths", strengths)
    features = [split[0].detach().cpu().double() for split in splits.values()]
    y, y_val, y_test = (split[1].cpu() for split in splits.values())
    mean, std = features[0].mean(0), features[0].std(0, correction=0)
    scale = torch.where(std > 1e-7 * mean.abs(), std, torch.inf)  # a constant feature, up to rounding, becomes 0
    x, x_val, x_test = (((h - mean) / scale).cpu().numpy() for h in features)
    model, found, predicted = LogisticRegression(max_iter=1000, warm_start=True), {}, {}
    for strength in sorted(strengths):  # each starts where the one before ended, which is near
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopped early is a candidate like any other
            model.set_params(C=strength).fit(x, y.numpy())
        found[strength] = (torch.from_numpy(model.predict(x_val)) == y_val).double().mean().item()
        predicted[strength] = torch.from_numpy(model.predict(x_test))
    best = max(found, key=found.get)
    return Probe((predicted[best] == y_test).double().mean().item(), best, found, predicted[best])


def linear_probe_accuracy(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], *,
                          strengths: Sequence[float] = STRENGTHS) -> float:  # fmt: skip
    """The test accuracy in [0, 1] of `linear_probe`."""
    return linear_probe(train, val, test, strengths=strengths).accuracy


@dataclass(frozen=True)
class FineTuned:
    """What `fine_tune` made."""

    model: nn.Module = field(repr=False)  # pictures [N, 3, H, W] to logits [N, classes]: a copy, in evaluation mode
    accuracy: float | None  # on the test split, in [0, 1]; None if none was given
    learning_rate: float  # chosen on the validation split
    step: int  # the same: after so many steps it was best
    history: tuple[dict[str, float], ...] = field(repr=False)  # rows: learning_rate, step, val_accuracy


def fine_tune(encoder: nn.Module, train: ImageSet, val: ImageSet, test: ImageSet | None = None, *,
              learning_rates: Sequence[float] = (3e-4, 3e-3), steps: int = 200, evaluations: int = 5,
              batch_size: int = 64, weight_decay: float = 1e-4, seed: int = 0,
              augment: Callable[[Tensor, torch.Generator], Tensor] | None = None) -> FineTuned:  # fmt: skip
    """Train a copy of the encoder and a new linear layer on top with labels: AdamW on the cross-entropy.

    A fresh encoder gives training from scratch, the baseline that says what pretraining is worth. Every learning rate
    runs from the same start, falling to zero as half a cosine, and is measured on the validation split `evaluations`
    times on the way; the best of all these models (the first of equals) is kept, and only it sees the test split.

    Args:
        encoder: [N, 3, H, W] to [N, D]; it is left as it is. It runs where its weights are.
        train, val, test: pictures with labels.
        learning_rates: to choose from, highest values of the schedule, > 0.
        steps: batches for each learning rate. A smaller `train` than batch_size is one batch.
        seed: of the linear layer, the order and the views: the same seed, the same result on the same machine.
        augment: (images [n, 3, H, W] float, generator) to one random view of each, such as
            `TwoViews(32, jitter=0, gray=0).one`: crops and flips.

    Returns:
        A `FineTuned`.

    Raises:
        ValueError: pictures without labels, fewer than 2 pictures or classes to learn, numbers out of range.
        TypeError: an encoder that isn't a module.
    """
    _check_encoder(encoder)
    for s in (train, val) if test is None else (train, val, test):
        _check_has_labels(s)
    _check_classes(train.labels)
    for name, count in (("steps", steps), ("evaluations", evaluations), ("batch_size", batch_size)):
        _check_count(name, count)
    learning_rates = _positive_numbers("learning_rates", learning_rates)
    _check_positive("weight_decay", weight_decay, or_zero=True)
    weight = first_weight(encoder)
    device = weight.device
    marks = {-(-steps * (i + 1) // evaluations) for i in range(evaluations)}
    history, best, state = [], None, None
    seed_all = torch.default_generator.manual_seed if device.type == "cpu" else torch.manual_seed
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if device.type == "cuda" else []):
        for rate in learning_rates:  # the caller's random numbers stay (those of Apple's MPS don't)
            seed_all(seed)
            model = _classifier(encoder, train)
            optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=weight_decay)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            for step, (images, labels) in enumerate(_batches(train, batch_size, steps, augment, device, seed), 1):
                optimizer.zero_grad()
                F.cross_entropy(model(images.to(weight.dtype)), labels).backward()
                optimizer.step()
                schedule.step()
                if step in marks:
                    row = {"learning_rate": rate, "step": step, "val_accuracy": _accuracy(model, val)}
                    history.append(row)
                    if best is None or row["val_accuracy"] > best["val_accuracy"]:
                        best, state = row, copy.deepcopy(model.state_dict())
    model.load_state_dict(state)
    accuracy = None if test is None else _accuracy(model, test)
    return FineTuned(model.eval(), accuracy, best["learning_rate"], best["step"], tuple(history))


def _classifier(encoder: nn.Module, train: ImageSet) -> nn.Sequential:
    """A copy of the encoder, all of it trainable, and a linear layer."""
    if not list(encoder.parameters()) and list(encoder.buffers()):
        raise ValueError("encoder: expected one with weights to train, got a "
                         f"{type(encoder).__name__}, whose weights are buffers; load them into an encoder")  # fmt: skip
    head = nn.Linear(feature_dim(encoder, train.images.shape[-1]), max(len(train.classes), int(train.labels.max()) + 1))
    return nn.Sequential(copy.deepcopy(encoder).requires_grad_(), head.to(first_weight(encoder))).train()


def _batches(train: ImageSet, size: int, steps: int, augment, device: torch.device, seed: int):
    """`steps` batches: a new order each epoch, the rest that fills no batch left out."""
    order, views = torch.Generator().manual_seed(seed), torch.Generator(device).manual_seed(seed)
    size, made = min(size, len(train)), 0
    while made < steps:
        for rows in torch.randperm(len(train), generator=order).split(size)[: min(len(train) // size, steps - made)]:
            images = to_float(train.images[rows].to(device))
            yield (augment(images, views) if augment else images), train.labels[rows].to(device)
            made += 1


def _accuracy(model: nn.Module, pictures: ImageSet) -> float:
    return (encode(model, pictures.images).argmax(1) == pictures.labels.cpu()).double().mean().item()


def balanced_subset(labels: Tensor, per_class: int, *, seed: int = 0) -> Tensor:
    """Rows of `per_class` random pictures of each class, sorted, [classes * per_class] int64.

    For one seed, a smaller subset lies in every larger one, so that a curve over sizes adds pictures and swaps none.

    Raises:
        ValueError: labels that aren't [N] int64 from 0 up, per_class < 1 or more than the smallest class has.
    """
    _check_labels("labels", labels)
    _check_count("per_class", per_class)
    generator, chosen = torch.Generator().manual_seed(seed), []
    for label in labels.unique().tolist():
        mine = (labels == label).nonzero()[:, 0].cpu()
        if len(mine) < per_class:
            raise ValueError(f"per_class: expected at most {len(mine)}, the pictures of class {label}, got {per_class}")
        chosen.append(mine[torch.randperm(len(mine), generator=generator)[:per_class]])
    return torch.cat(chosen).sort().values


class Interval(NamedTuple):
    """A mean over seeds and the 95 % interval for it."""

    budget: int  # labelled pictures a class
    mean: float
    low: float
    high: float


def label_efficiency(
    methods: Mapping[str, Callable[[Tensor, int], float]],
    labels: Tensor,
    *,
    budgets: Sequence[int] = (1, 5, 20),
    seeds: Sequence[int] = range(5),
) -> dict[str, list[Interval]]:
    """Accuracy over the number of labels that may be seen, for each method.

        label_efficiency({
            "probe": lambda rows, seed: linear_probe_accuracy((h[rows], y[rows]), (h_val, y_val), (h_test, y_test)),
            "from scratch": lambda rows, seed: fine_tune(fresh, train.subset(rows), val, test, seed=seed).accuracy,
        }, y)

    All methods get the same pictures: `balanced_subset(labels, budget, seed=seed)`. The validation labels that a method
    chooses by count as seen too: where labels are scarce, keep that split as small.

    Args:
        methods: name -> function of the rows [n] whose labels may be seen and the seed, giving an accuracy in [0, 1].
        labels: [N] int64 of the training pictures.
        budgets: labelled pictures a class.
        seeds: at least 2.

    Returns:
        name -> one `Interval` a budget: mean -+ t * s / sqrt(n), Student's t for 95 % with n - 1 degrees of freedom,
        s the standard deviation over the n seeds, cut to [0, 1]. `plots.interval_curves` draws it.

    Raises:
        ValueError: no method, budget or fewer than 2 seeds, a budget larger than a class, an accuracy outside [0, 1].
    """
    if not isinstance(methods, Mapping):
        raise TypeError(f"methods: expected a dict of functions by name, got {type(methods).__name__}")
    budgets, seeds = _listed("budgets", budgets), _listed("seeds", seeds)
    if not methods or not budgets or len(set(seeds)) < max(2, len(seeds)):
        raise ValueError(f"expected at least 1 method, 1 budget and 2 different seeds, got {len(methods)} methods, "
                         f"budgets {budgets}, seeds {seeds}")  # fmt: skip
    rows = {(budget, seed): balanced_subset(labels, budget, seed=seed) for budget in budgets for seed in seeds}
    return {
        name: [_interval(budget, [score(rows[budget, seed], seed) for seed in seeds]) for budget in budgets]
        for name, score in methods.items()
    }


def _interval(budget: int, scores: Sequence[float]) -> Interval:
    from scipy.special import stdtrit  # comes with scikit-learn

    scores = torch.tensor(scores, dtype=torch.float64)
    if not ((scores >= 0) & (scores <= 1)).all():  # NaN fails too
        raise ValueError(f"expected accuracies in [0, 1], got {scores.tolist()} for {budget} pictures a class")
    half = stdtrit(len(scores) - 1, 0.975) * scores.std().item() / len(scores) ** 0.5
    mean = scores.mean().item()
    return Interval(budget, mean, max(0.0, mean - half), min(1.0, mean + half))


def confusion_matrix(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """How often a picture of class i was taken for class j: [classes, classes] int64, rows the true class.

    Args:
        predicted, labels: [N] int64, 0 to classes - 1.
        classes: how many there are.
    """
    _check_count("classes", classes)
    for name, values in (("predicted", predicted), ("labels", labels)):
        _check_labels(name, values)
        if values.max() >= classes:
            raise ValueError(f"{name}: expected labels below {classes}, the number of classes, got {values.max()}")
    if predicted.shape != labels.shape or predicted.device != labels.device:
        raise ValueError(f"expected as many predicted as labels on one device, got {len(predicted)} on "
                         f"{predicted.device} and {len(labels)} on {labels.device}")  # fmt: skip
    return torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)


# --- geometry: no labels at all ---------------------------------------------------------------------------


@torch.no_grad()
def alignment(z1: Tensor, z2: Tensor, *, alpha: float = 2) -> float:
    """How far apart the two views of a picture are: mean of |z1_i - z2_i|^alpha (Wang & Isola 2020, section 4).

    Args:
        z1, z2: [N, D], row i of both from the same picture. They are normalized here.

    Returns:
        0 (the views coincide) to 2^alpha (opposite); for alpha = 2 that is 2 - 2 cos, about 2 for random vectors.
    """
    _check_features("z1", z1)
    _check_positive("alpha", alpha)
    if not isinstance(z2, Tensor) or z2.shape != z1.shape or z2.device != z1.device:
        raise ValueError(f"z2: expected {list(z1.shape)} on {z1.device} like z1, got {_describe(z2)}")
    _check_features("z2", z2)
    return (_unit(z1) - _unit(z2)).norm(dim=1).pow(alpha).mean().item()


@torch.no_grad()
def uniformity(z: Tensor, *, t: float = 2) -> float:
    """How evenly vectors fill the sphere: log of the mean of exp(-t |z_i - z_j|^2) over pairs i != j (Wang & Isola
    2020, section 4; lower is more even).

    Args:
        z: [N, D], N >= 2. They are normalized here. Memory is bounded: rows go in blocks.

    Returns:
        From 0 (one point) down; random vectors of many dimensions come near -2t, which is -4.
    """
    _check_features("z", z, least=2)
    _check_positive("t", t)
    z, start, sums = _unit(z), 0, []
    for block in z.split(_rows_at_a_time(len(z))):
        exponents = (2 * t * block @ z.T).sub_(2 * t)  # -t (2 - 2 cos)
        exponents.diagonal(start).fill_(-torch.inf)
        sums.append(exponents.logsumexp(1))
        start += len(block)
    return min(0.0, torch.cat(sums).logsumexp(0).item() - math.log(len(z) * (len(z) - 1)))


@torch.no_grad()
def effective_rank(features: Tensor) -> float:
    """How many directions the features really use: exp of the entropy of p_i = s_i / sum of s, with s the singular
    values of the centred features (Roy & Vetterli 2007, who take the matrix as it is; centred, a common offset is no
    direction).

    Args:
        features: [N, D], N >= 2.

    Returns:
        1 to min(N - 1, D), the latter when all directions are used alike; 0 when all rows are equal up to rounding.
    """
    _check_features("features", features, least=2)
    return _effective_rank(_spectrum(features))


@torch.no_grad()
def dimension_std(z: Tensor) -> Tensor:
    """The standard deviation of each coordinate of the unit vectors z_i / |z_i|: [D], float32.

    Near 1 / sqrt(D) where the vectors fill the sphere, 0 where they have collapsed to one point (Chen & He 2021,
    SimSiam's section 4.1). Over the vectors given, so divided by N.

    Args:
        z: [N, D], N >= 2.
    """
    _check_features("z", z, least=2)
    return _unit(z).std(0, correction=0).float()


@torch.no_grad()
def neighbours_kept(features: Tensor, points: Tensor, *, k: int = 10) -> float:
    """How far a map can be trusted: the share of each vector's k nearest neighbours that are among its k nearest on
    the map, on average.

    Args:
        features: [N, D]; points: [N, d], the same pictures on the map. Nearest is by Euclidean distance in both; for
            angles give it `F.normalize(features)`.
        k: neighbours of each, 1 to N - 2 (with N - 1, all others, every map is perfect).

    Returns:
        0 to 1; a random map keeps k / (N - 1) on average.
    """
    _check_features("features", features, least=3)
    if not isinstance(points, Tensor) or points.shape[:1] != features.shape[:1] or points.device != features.device:
        raise ValueError(f"points: expected one for each of {len(features)} features on {features.device}, got "
                         f"{_describe(points)}")  # fmt: skip
    _check_features("points", points)
    if not _is_count(k) or k > len(points) - 2:
        raise ValueError(f"k: expected an integer from 1 to {len(points) - 2}, got {k!r}")
    kept = []
    for start in range(0, len(points), rows := _rows_at_a_time(len(points))):
        near = [_nearest_rows(x.cpu().double(), start, rows, k) for x in (features, points)]  # [m, k] each
        kept.append((near[0][:, :, None] == near[1][:, None]).any(2).double().mean(1))
    return torch.cat(kept).mean().item()


def _nearest_rows(x: Tensor, start: int, rows: int, k: int) -> Tensor:
    """The k nearest others of some rows, by Euclidean distance."""
    distances = torch.cdist(x[start : start + rows], x)  # [m, N]
    distances.diagonal(start).fill_(torch.inf)
    return distances.topk(k, dim=1, largest=False).indices


_POINT = 0.1  # spread below: mean cosine above 0.99
_FEW = 0.1  # share of the directions that there could be


@dataclass(frozen=True)
class Collapse:
    """What `collapse` measured; `print` says it in words."""

    verdict: str  # "healthy", "one point", "few directions" or "not a number"
    vectors: int  # N
    dim: int  # D
    bad: int  # vectors with NaN or infinity; then nothing below is measured
    zeros: int  # vectors of length 0, which have no direction
    mean_cosine: float  # over pairs i != j, -1 to 1
    spread: float  # standard deviation per dimension, as a share of 1 / sqrt(D): 1 fills the sphere, 0 is one point
    directions: int  # principal directions that carry 95 % of the variance
    effective_rank: float  # of the unit vectors

    def __str__(self) -> str:
        if self.verdict == "not a number":
            return (f"not a number: {self.bad:,} of {self.vectors:,} vectors hold NaN or infinity; training diverged, "
                    "so lower the learning rate and look at the loss")  # fmt: skip
        zeros = f"; {self.zeros:,} of {self.vectors:,} vectors are zero" if self.zeros else ""
        std = f"standard deviation per dimension {self.spread:.2f} of 1/√{self.dim}"
        if self.verdict == "one point":
            agree = "" if self.zeros == self.vectors else f"all directions agree (mean cosine {self.mean_cosine:.3f}), "
            return f"collapsed to a point: {agree}{std}{zeros}"
        carry = f"{self.directions} of {self.dim} directions carry 95 % of the variance"
        rank = f"effective rank {self.effective_rank:.1f}, mean cosine {self.mean_cosine:.2f}, {std}{zeros}"
        return f"{'healthy' if self.verdict == 'healthy' else 'dimensional collapse'}: {carry}; {rank}"


@torch.no_grad()
def collapse(z: Tensor) -> Collapse:
    """Do the vectors still tell pictures apart? Numbers, and a sentence: `print(collapse(z))`.

    The verdict is the first of these that holds; lengths, rotations and the order of the rows don't matter to it.

    - "not a number": a vector holds NaN or infinity.
    - "one point": the spread is below 0.1, which is a mean cosine above 0.99 (or most vectors are zero).
    - "few directions": 95 % of the variance lies in a tenth of the min(N - 1, D) directions there could be, or in a
      single one (Jing et al. 2022 call this dimensional collapse). Features of few, clean classes look like that too.
    - "healthy": none of these. It says nothing of what the vectors tell apart.

    Args:
        z: [N, D], N >= 2: what the loss sees. Before training all z lie close together anyway, so look after some
            steps; h, which the last ReLU keeps from being negative, has a mean cosine well above 0 in good health.

    Raises:
        ValueError: not floating-point [N, D], or fewer than 2 rows. NaN is reported, not raised.
    """
    _check_features("z", z, least=2, finite=False)
    n, dim = z.shape
    bad = int((~z.isfinite()).any(1).sum())
    if bad:
        return Collapse("not a number", n, dim, bad, 0, *[torch.nan] * 2, 0, torch.nan)
    z = _unit(z)
    lengths = z.square().sum(1)  # 1, or 0 for a vector of zeros
    mean_cosine = ((z.sum(0).square().sum() - lengths.sum()) / (n * (n - 1))).item()
    spread = (lengths.mean() - z.mean(0).square().sum()).clamp(min=0).sqrt().item()  # sqrt(D) * std per dimension, RMS
    spectrum = _spectrum(z)
    carried = spectrum.square().cumsum(0)
    directions = int((carried < 0.95 * carried[-1]).sum()) + 1
    possible = min(n - 1, dim)
    few = directions < possible and directions <= max(1, _FEW * possible)
    verdict = "one point" if spread < _POINT else "few directions" if few else "healthy"
    zeros = int((lengths == 0).sum())
    return Collapse(verdict, n, dim, 0, zeros, mean_cosine, spread, directions, _effective_rank(spectrum))


def _unit(z: Tensor) -> Tensor:
    return F.normalize(z.cpu().double(), dim=1, eps=1e-300)  # there, for not all devices have float64


def _spectrum(features: Tensor) -> Tensor:
    """The singular values of the centred features, falling; those that rounding alone explains are 0."""
    x = features.cpu().double()
    n, dim = x.shape
    precision = max(torch.finfo(features.dtype).eps, 1e-12)
    rounding = 2 * precision * x.norm() * (n**-0.5 + dim**-0.5)  # the norm of a matrix of random errors
    x = x - x[0]  # else the mean of equal rows can miss them by a rounding
    s = torch.linalg.svdvals(x - x.mean(0))
    return torch.where(s > rounding, s, 0)


def _effective_rank(spectrum: Tensor) -> float:
    p = spectrum / spectrum.sum()
    return torch.special.entr(p).sum().exp().item() if spectrum[0] > 0 else 0.0


# --- what is taken ----------------------------------------------------------------------------------------


def _describe(value) -> str:
    return f"{value.dtype} {list(value.shape)} on {value.device}" if isinstance(value, Tensor) else repr(value)


def _check_features(name: str, features: Tensor, *, least: int = 1, finite: bool = True) -> None:
    if not isinstance(features, Tensor):
        raise TypeError(f"{name}: expected floating-point features [N, D], got {type(features).__name__}")
    if features.ndim != 2 or not features.is_floating_point() or len(features) < least or features.shape[1] == 0:
        raise ValueError(f"{name}: expected floating-point features [N, D], N >= {least}, D >= 1, got {features.dtype} "
                         f"{list(features.shape)}")  # fmt: skip
    if finite and not features.isfinite().all():
        bad = int((~features.isfinite()).any(1).sum())
        raise ValueError(f"{name}: expected finite features, got NaN or infinity in {bad} of {len(features)} rows. "
                         "Did the training diverge?")  # fmt: skip


def _check_labels(name: str, labels: Tensor) -> None:
    if not isinstance(labels, Tensor):
        raise TypeError(f"{name}: expected a tensor [N] of int64, got {type(labels).__name__}")
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"{name}: expected [N], N > 0, got {list(labels.shape)}")
    if labels.dtype != torch.int64 or labels.min() < 0:
        raise ValueError(f"{name}: expected int64 from 0 up, got {labels.dtype} from {labels.min()}")


def _check_labelled(name: str, features: Tensor, labels: Tensor) -> None:
    _check_features(name, features)
    if isinstance(labels, Tensor) and (labels.shape != features.shape[:1] or labels.device != features.device):
        raise ValueError(f"{name} labels: expected one for each of {len(features)} features on {features.device}, got "
                         f"{list(labels.shape)} on {labels.device}")  # fmt: skip
    _check_labels(f"{name} labels", labels)


def _check_like_the_bank(bank: Tensor, queries: Tensor) -> None:
    if not isinstance(queries, Tensor) or queries.shape[1:] != bank.shape[1:] or queries.device != bank.device:
        raise ValueError(f"queries: expected [M, {bank.shape[1]}] on {bank.device} like the bank, got "
                         f"{_describe(queries)}")  # fmt: skip
    _check_features("queries", queries)


def _check_splits(splits: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    for name, split in splits.items():
        if not isinstance(split, tuple | list) or len(split) != 2:
            raise TypeError(f"{name}: expected a pair (features [N, D], labels [N]), got {type(split).__name__}")
        _check_labelled(name, *split)
    dims = {name: features.shape[1] for name, (features, _) in splits.items()}
    if len(set(dims.values())) > 1 or len({features.device for features, _ in splits.values()}) > 1:
        raise ValueError(f"expected splits with the same D on one device, got {dims}")
    _check_classes(splits["train"][1])


def _check_encoder(encoder: nn.Module) -> None:
    if not isinstance(encoder, nn.Module):
        raise TypeError(f"encoder: expected a module [N, 3, H, W] to [N, D], got {type(encoder).__name__}")


def _check_image_set(images: ImageSet) -> None:
    if not isinstance(images, ImageSet):
        raise TypeError(f"pictures: expected an ImageSet, as datasets.load gives it, got {type(images).__name__}")


def _check_has_labels(images: ImageSet) -> None:
    _check_image_set(images)
    if images.labels is None:
        raise ValueError(f"expected pictures with labels; {images.name} has none, so there is nothing to compare with "
                         "(got labels=None)")  # fmt: skip


def _check_classes(labels: Tensor) -> None:
    if len(labels.unique()) < 2:
        raise ValueError(f"train: expected at least 2 classes to tell apart, got {labels.unique().tolist()} alone")


def _is_count(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_count(name: str, value: int) -> None:
    if not _is_count(value):
        raise ValueError(f"{name}: expected an integer of at least 1, got {value!r}")


def _check_positive(name: str, value: float, *, or_zero: bool = False) -> None:
    sign = ">=" if or_zero else ">"
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a plain number {sign} 0, got a {type(value).__name__}")
    if not (value > 0 or (or_zero and value == 0)):
        raise ValueError(f"{name}: expected a number {sign} 0, got {value}")


def _listed(name: str, values: Sequence) -> list:
    if not isinstance(values, Iterable):
        raise TypeError(f"{name}: expected several numbers, got {values!r}; put it in a list: [{values!r}]")
    return list(values)


def _positive_numbers(name: str, values: Sequence[float]) -> list[float]:
    values = _listed(name, values)
    if not values:
        raise ValueError(f"{name}: expected at least one number > 0, got none")
    for value in values:
        _check_positive(name, value)
    return values
