"""Checks of how features are judged: neighbours that vote, retrieval, confusion, splits, and what may be reported."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F

from clbook.checks.exercise import Exercise, Report, judge, random
from clbook.checks.question import Question


def check_knn_vote(function: Callable, seed: int = 0) -> Report:
    """Check `function(similarities, labels, k, temperature)`: cosines [Q, M] of Q queries with a bank of M pictures and
    the bank's labels [M] to the predicted class of each query, [Q] int64.

    The k most similar vote with exp(s / τ); right at τ = 0.01 too. The lowest class wins a tie.
    """
    exercise = Exercise(
        task="write the function that takes `similarities` [Q, M], the bank's `labels` [M], k and a temperature, and "
        "returns the predicted class of each query, [Q] integers",
        cases=[
            # One near neighbour against two farther ones; and two near ones against one.
            _vote_case([[0.9, 0.8, 0.2, 0.7, 0.1], [0.3, 0.9, 0.1, 0.88, 0.4]], [1, 0, 2, 0, 2], 3, 0.07),
            _vote_case([[0.5, 0.1, 0.2, 0.4], [0.1, 0.6, 0.55, 0.2]], [2, 0, 1, 0], 2, 0.5),
            _vote_case([[0.98, 0.99, 0.3, 0.2], [0.95, 0.2, 0.94, 0.99]], [0, 3, 1, 2], 3, 0.01),  # exp(99) overflows
            _vote_case(random(1, 40, 30).tanh(), torch.arange(30) % 4, 7, 0.07),
            _vote_case(random(2, 60, 40).tanh() / 2, torch.arange(40) % 3, 12, 0.5),
            _vote_case(random(3, 50, 25, dtype=torch.float64).tanh(), torch.arange(25) % 5, 6, 0.2),
        ],
        oracle=_vote_loop,
        mistakes=VOTE_MISTAKES,
        not_finite="classes are whole numbers: NaN or infinity can't be one.",
        verified="values agree with a plain loop over neighbours in 8 cases, two of them fresh (Q from 2 to 60, M from "
        "4 to 40, k from 2 to 12, τ from 0.01 to 0.6), and the inputs are left as they were.",
        gradients=False,
        fresh=_fresh_vote,
    )
    return judge(function, exercise, seed)


def _vote_case(similarities, labels, k: int, temperature: float) -> dict:
    similarities, labels = (x if isinstance(x, torch.Tensor) else torch.tensor(x) for x in (similarities, labels))
    return {"similarities": similarities, "labels": labels, "k": k, "temperature": temperature}


def _fresh_vote(seed: int) -> dict:
    similarities = random(seed, 5 + seed % 7, 12 + seed % 11).tanh()
    return _vote_case(similarities, torch.arange(12 + seed % 11) % 4, 2 + seed % 9, (1 + seed % 11) / 20)


def _vote_loop(similarities, labels, k, temperature):
    """Wu et al. 2018, section 3.4, one vote at a time. Bare exponentials are safe here: float64 holds exp(700)."""
    winners = []
    for row in similarities.tolist():
        votes = dict.fromkeys(sorted(labels.tolist()), 0.0)
        for j in sorted(range(len(row)), key=lambda j: -row[j])[:k]:
            votes[int(labels[j])] += torch.tensor(row[j] / temperature, dtype=torch.float64).exp().item()
        winners.append(max(votes, key=votes.get))
    return torch.tensor(winners)


def _vote_with(
    similarities,
    labels,
    k,
    temperature,
    *,
    nearest=torch.topk,
    weigh=lambda s, t: ((s - s.amax(1, keepdim=True)) / t).exp(),
    add=lambda votes, classes, weights: votes.scatter_add(1, classes, weights),
    answer=lambda votes, labels, indices: votes.argmax(1),
):
    """The vote with one part replaced."""
    top, indices = nearest(similarities, k)  # [Q, k]
    votes = top.new_zeros(len(top), int(labels.max()) + 1)
    return answer(add(votes, labels[indices], weigh(top, temperature)), labels, indices)


def _last_of_each(votes, classes, weights):
    """As `votes[rows, classes] += weights` does: places that come twice are written once."""
    votes = votes.clone()
    for place in range(classes.shape[1]):
        votes[torch.arange(len(votes)), classes[:, place]] = weights[:, place]
    return votes


def _reduced(votes, classes, weights, how):
    return votes.scatter_reduce(1, classes, weights, how, include_self=False)


def _without_the_nearest(similarities, k):
    top, indices = similarities.topk(k + 1)
    return top[:, 1:], indices[:, 1:]


VOTE_MISTAKES = [
    (partial(_vote_with, **part), sentence)
    for part, sentence in [
        (
            {"weigh": lambda s, t: torch.ones_like(s)},
            "every neighbour counts the same: each votes with weight exp(s / temperature).",
        ),
        (
            {"nearest": partial(torch.topk, largest=False)},
            "these are the k farthest that vote: `topk` of similarities takes the largest, of distances the smallest.",
        ),
        (
            {"nearest": lambda s, k: s.topk(s.shape[1])},
            "the whole bank votes: only the k most similar should.",
        ),
        (
            {"nearest": lambda s, k: s.topk(1)},
            "the single nearest decides: all k neighbours vote.",
        ),
        (
            {"nearest": _without_the_nearest},
            "the nearest neighbour is left out: the queries aren't in this bank, so none of it is the query itself.",
        ),
        (
            {"weigh": lambda s, t: s.exp()},
            "these are votes without the temperature: the weight is exp(s / temperature).",
        ),
        ({"weigh": lambda s, t: (s * t).exp()}, "similarities are multiplied by the temperature: divide by it."),
        ({"weigh": lambda s, t: s}, "the similarities themselves are added up: the weight is exp(s / temperature)."),
        (
            {"weigh": lambda s, t: (s / t).softmax(0)},
            "the softmax runs over the wrong axis, over the queries: a query shares its votes among its own "
            "neighbours, dim=1.",
        ),
        (
            {"weigh": lambda s, t: (s.float() / t).exp().to(s.dtype)},
            "right but for the smallest temperature: exp(s/τ) overflows float32 above s/τ = 88, and infinite votes are "
            "all alike. Subtract each query's largest similarity first, which changes no winner.",
        ),
        (
            {"add": _last_of_each},
            "a class keeps one of its neighbours' votes instead of their sum: `votes[rows, classes] += w` writes each "
            "place once. Use `scatter_add_`, or a loop over the k.",
        ),
        (
            {"add": partial(_reduced, how="mean")},
            "a class gets the mean of its neighbours' votes: take their sum.",
        ),
        (
            {"answer": lambda votes, labels, indices: indices[:, 0]},
            "these are places in the bank, not classes: look the labels up, `labels[indices]`.",
        ),
        (
            {"answer": lambda votes, labels, indices: votes.argmin(1)},
            "the class with the fewest votes wins: use argmax.",
        ),
        (
            {"answer": lambda votes, labels, indices: votes},
            "these are the votes: the prediction is the class that has the most, `argmax(dim=1)`.",
        ),
    ]
]  # fmt: skip


def check_recall_at_k(function: Callable, seed: int = 0) -> Report:
    """Check `function(similarities, labels, k)`: cosines [N, N] of N pictures with each other and their labels [N] to
    recall@k, a number from 0 to 1: the share of pictures with one of their class among the k others nearest to them."""
    exercise = Exercise(
        task="write the function that takes `similarities` [N, N], `labels` [N] and k, and returns recall@k, a number "
        "from 0 to 1",
        cases=[
            _recall_case([[1, 2], [2, 1.2], [-1, 2], [2, -1]], [0, 0, 1, 1], 1),
            _recall_case([[1, 0], [0.9, 0.3], [0.2, 1], [0.5, 0.6], [-1, 0.3]], [0, 1, 0, 0, 2], 2),
            _recall_case(random(1, 9, 4), torch.arange(9) % 3, 2),
            _recall_case(random(2, 24, 5), torch.arange(24) % 5, 3),
            _recall_case(random(3, 30, 3, dtype=torch.float64), torch.arange(30) % 9, 4),
        ],
        oracle=_recall_loop,
        mistakes=RECALL_MISTAKES,
        not_finite="a share of all pictures is finite: divide by N.",
        verified="values agree with a plain loop in 7 cases, two of them fresh (N from 4 to 30, k from 1 to 4, a class "
        "with a single picture too), and the inputs are left as they were.",
        gradients=False,
        number=True,
        fresh=lambda seed: _recall_case(random(seed, 9 + seed % 7, 3), torch.arange(9 + seed % 7) % 4, 1 + seed % 3),
    )
    return judge(function, exercise, seed)


def _recall_case(features, labels, k: int) -> dict:
    features, labels = (x if isinstance(x, torch.Tensor) else torch.tensor(x) for x in (features, labels))
    unit = F.normalize(features, dim=1)
    return {"similarities": unit @ unit.T, "labels": labels, "k": k}


def _recall_loop(similarities, labels, k):
    hits = 0
    for i, row in enumerate(similarities.tolist()):
        others = sorted((j for j in range(len(row)) if j != i), key=lambda j: -row[j])
        hits += any(int(labels[j]) == int(labels[i]) for j in others[:k])
    return torch.tensor(hits / len(labels), dtype=torch.float64)


def _others(similarities, k):
    return similarities.masked_fill(torch.eye(len(similarities), dtype=torch.bool), -torch.inf).topk(k).indices


def _recall_with(similarities, labels, k, *, nearest=_others, score=lambda same, all_same: same.any(1).double()):
    """Recall@k with one part replaced; `all_same` tells how many others of its class each picture has."""
    same = labels[nearest(similarities, k)] == labels[:, None]  # [N, k]
    all_same = (labels[:, None] == labels).sum(1) - 1
    return score(same, all_same).mean()


def _with_self(similarities, k):
    return similarities.topk(k).indices


def _farthest(similarities, k):
    return _others(-similarities, k)


RECALL_MISTAKES = [
    (partial(_recall_with, **part), sentence)
    for part, sentence in [
        (
            {"nearest": _with_self},
            "each picture finds itself: its similarity to itself is 1 and its label its own. Mask the diagonal.",
        ),
        (
            {"nearest": lambda s, k: s.topk(k).indices[:, 1:]},
            "each picture itself takes one of the k places: k others are retrieved.",
        ),
        ({"nearest": _farthest}, "these are the k farthest: the nearest have the largest similarity."),
        (
            {"nearest": lambda s, k: _others(s, k)[:, -1:]},
            "only the k-th neighbour is looked at: one of the class anywhere among the k is enough.",
        ),
        ({"nearest": lambda s, k: _others(s, 1)}, "only the nearest is looked at: k may be more than 1."),
        (
            {"score": lambda same, all_same: same.double().mean(1)},
            "this is the share of neighbours of the same class, precision@k: one is enough for recall@k.",
        ),
        ({"score": lambda same, all_same: same.all(1).double()}, "all k have to be of the class here: one is enough."),
        (
            {"score": lambda same, all_same: same.sum(1) / all_same.clamp(min=1).double()},
            "this is the share of the class that is found, recall as search engines count it. In metric learning a "
            "query scores 1 or 0.",
        ),
        (
            {"score": lambda same, all_same: (2 * same.sum(1) > same.shape[1]).double()},
            "this asks for a majority: one of the class among the k is enough.",
        ),
        ({"score": lambda same, all_same: 1 - same.any(1).double()}, "this is the share that fails: 1 − recall@k."),
        (
            {"score": lambda same, all_same: 100 * same.any(1).double()},
            "this is in percent: a share from 0 to 1 is asked for.",
        ),
        (
            {"score": lambda same, all_same: len(same) * same.any(1).double()},
            "this is the number of hits: divide by N.",
        ),
    ]
]  # fmt: skip


def check_confusion_matrix(function: Callable, seed: int = 0) -> Report:
    """Check `function(predicted, labels, classes)`: classes [N] twice, int64, and their number C to counts [C, C]:
    row i and column j tell how many pictures of class i were taken for class j."""
    exercise = Exercise(
        task="write the function that takes `predicted` [N], `labels` [N] and the number of classes, and returns "
        "counts [classes, classes], rows the true class, columns the predicted one",
        cases=[
            _confusion_case([0, 1, 1, 0, 0], [0, 0, 1, 1, 0], 2),
            _confusion_case([1, 1, 2, 0, 1], [0, 0, 2, 0, 1], 3),
            _confusion_case([0, 2, 2, 0], [2, 2, 0, 0], 4),  # nothing of classes 1 and 3
            _confusion_case(_some_classes(1, 80), _some_classes(2, 80), 9),
        ],
        oracle=_confusion_loop,
        mistakes=CONFUSION_MISTAKES,
        not_finite="counts are whole numbers; where a row is divided by its sum, an empty class divides by zero.",
        verified="values agree with a plain loop in 6 cases, two of them fresh (N from 4 to 80, 2 to 10 classes, some "
        "of them empty), and the inputs are left as they were.",
        gradients=False,
        fresh=lambda seed: _confusion_case(
            *(_some_classes(s, 11 + seed % 13) for s in (seed, seed + 500)), classes=8 + seed % 3
        ),
    )
    return judge(function, exercise, seed)


def _confusion_case(predicted: list, labels: list, classes: int) -> dict:
    return {"predicted": torch.tensor(predicted), "labels": torch.tensor(labels), "classes": classes}


def _some_classes(seed: int, n: int) -> list[int]:
    """Classes from 0 to 7, the first ones most often."""
    return [min(7, int(x)) for x in random(seed, n).abs() * 2]


def _confusion_loop(predicted, labels, classes):
    counts = [[0] * classes for _ in range(classes)]
    for guess, truth in zip(predicted.tolist(), labels.tolist(), strict=True):
        counts[truth][guess] += 1
    return torch.tensor(counts)


def _counts(predicted, labels, classes):
    return (F.one_hot(labels, classes).double().T @ F.one_hot(predicted, classes).double()).long()


def _counts_of_classes_seen(predicted, labels, classes):
    return _counts(predicted, labels, int(max(predicted.max(), labels.max())) + 1)


def _shares(counts, dim):
    return counts / counts.sum(dim, keepdim=True).clamp(min=1).double()


CONFUSION_MISTAKES = [
    (
        lambda p, y, c: _counts(p, y, c).T,
        "the matrix is transposed: rows are the true class, columns the predicted one.",
    ),
    (
        lambda p, y, c: (_counts(p, y, c) > 0).long(),
        "a place counts once, however often it comes: `matrix[labels, predicted] += 1` writes each place once. Use "
        "torch.bincount, index_put_(…, accumulate=True), or a loop.",
    ),
    (lambda p, y, c: _shares(_counts(p, y, c), 1), "these are shares of each true class: counts are asked for."),
    (lambda p, y, c: _shares(_counts(p, y, c), 0), "these are shares of each predicted class: counts are asked for."),
    (lambda p, y, c: _counts(p, y, c) / len(y), "these are shares of all pictures: counts are asked for."),
    (
        lambda p, y, c: _counts(p, y, c) * torch.eye(c, dtype=torch.int64),
        "only the right answers are counted: the errors belong beside the diagonal.",
    ),
    (
        lambda p, y, c: _counts(p, y, c) * (1 - torch.eye(c, dtype=torch.int64)),
        "only the errors are counted: the right answers belong on the diagonal.",
    ),
    (
        _counts_of_classes_seen,
        "the size comes from the labels that occur: a class without a picture has a row and a column too.",
    ),
    (
        lambda p, y, c: _counts(y, y, c),
        "the predictions are never looked at: this compares the labels with themselves.",
    ),
    (
        lambda p, y, c: _counts(p, y, c).flip(0).flip(1),
        "the classes are in reverse order: class 0 has the first row and the first column.",
    ),
]  # fmt: skip


def check_probe_accuracy(function: Callable, seed: int = 0) -> Report:
    """Check `function(val_accuracy, test_accuracy)`: what S candidates (strengths of the penalty, say) reach on both
    splits, [S] each, to the one number that may be reported; the first of equals is chosen."""
    exercise = Exercise(
        task="write the function that takes `val_accuracy` [S] and `test_accuracy` [S] of S candidates and returns the "
        "accuracy that may be reported",
        cases=[
            _choice_case([0.5, 0.8, 0.6], [0.55, 0.7, 0.75]),
            _choice_case([0.7, 0.9, 0.9, 0.9, 0.4], [0.92, 0.81, 0.85, 0.82, 0.2]),  # equals: the first
            _choice_case([0.3], [0.4]),
            _choice_case(random(1, 7).sigmoid(), random(2, 7).sigmoid()),
            _choice_case(random(5, 40, dtype=torch.float64).sigmoid(), random(6, 40, dtype=torch.float64).sigmoid()),
        ],
        oracle=_choice_loop,
        mistakes=CHOICE_MISTAKES,
        not_finite="accuracies are finite, and so is the one of them that you report.",
        verified="values agree with a plain loop in 7 cases, two of them fresh (1 to 40 candidates, equals among "
        "them), and the inputs are left as they were.",
        gradients=False,
        number=True,
        fresh=lambda seed: _choice_case(*(random(s, 3 + seed % 7).sigmoid() for s in (seed, seed + 500))),
    )
    return judge(function, exercise, seed)


def _choice_case(val, test) -> dict:
    val, test = (x if isinstance(x, torch.Tensor) else torch.tensor(x) for x in (val, test))
    return {"val_accuracy": val, "test_accuracy": test}


def _choice_loop(val_accuracy, test_accuracy):
    best = 0
    for i in range(len(val_accuracy)):
        if val_accuracy[i] > val_accuracy[best]:
            best = i
    return test_accuracy[best]


CHOICE_MISTAKES = [
    (
        lambda val, test: test.max(),
        "this is the best on test: chosen by the split that should only judge. Choose by val, then look up test.",
    ),
    (lambda val, test: val.max(), "this is the accuracy on val that won the choice: what is reported comes from test."),
    (
        lambda val, test: val[test.argmax()],
        "the two splits have changed places: choose by val, report what that candidate has on test.",
    ),
    (
        lambda val, test: test[(val + test).argmax()],
        "test takes part in the choice: it may not, not even with half a voice.",
    ),
    (lambda val, test: test[val == val.max()].max(), "among equals on val, test decides: take the first of them."),
    (
        lambda val, test: test[len(val) - 1 - val.flip(0).argmax()],
        "among equals on val the last is taken: take the first.",
    ),
    (lambda val, test: test[val == val.max()].mean(), "among equals on val, you take the mean: take the first."),
    (lambda val, test: test[val.argmin()], "this candidate is the worst on val: argmax, not argmin."),
    (lambda val, test: test.mean(), "this is the mean over all candidates: one is chosen."),
    (lambda val, test: test[-1], "this is the last candidate, whatever val says."),
    (lambda val, test: test[0], "this is the first candidate, whatever val says."),
    (
        lambda val, test: val.argmax().to(val.dtype),
        "this is the place of the best on val: look up its accuracy on test.",
    ),
]


def check_chosen_figures(function: Callable, seed: int = 0) -> Report:
    """Check `function(val_accuracy, test_accuracy)`: R recipes with S seeds each, [R, S] on both splits, to the test
    accuracies [S] of the recipe with the largest mean on val; the first of equals is chosen."""
    exercise = Exercise(
        task="write the function that takes `val_accuracy` [R, S] and `test_accuracy` [R, S] of R recipes with S seeds "
        "each, and returns the S test accuracies that may be reported",
        cases=[
            _choice_case([[0.5, 0.75], [0.875, 0.625], [0.25, 0.9375]], [[0.75, 0.95], [0.7, 0.65], [0.4, 0.8]]),
            # equal means: the first
            _choice_case([[0.6875, 0.6875, 0.25], [0.75, 0.5, 0.625], [0.5, 0.875, 0.5]], random(1, 3, 3).sigmoid()),
            _choice_case(random(2, 4, 3).sigmoid(), random(3, 4, 3).sigmoid()),
            _choice_case(*(random(s, 5, 7, dtype=torch.float64).sigmoid() for s in (4, 5))),
        ],
        oracle=_figures_loop,
        mistakes=FIGURES_MISTAKES,
        not_finite="accuracies are finite, and so are those of them that you report.",
        verified="values agree with a plain loop in 6 cases, two of them fresh (2 to 9 recipes, 2 to 7 seeds, equals "
        "among them), and the inputs are left as they were.",
        gradients=False,
        fresh=lambda seed: _choice_case(*(random(s, 3 + seed % 7, 3).sigmoid() for s in (seed, seed + 500))),
    )
    return judge(function, exercise, seed)


def _figures_loop(val_accuracy, test_accuracy):
    sums = [sum(row) for row in val_accuracy.tolist()]
    best = 0
    for i, total in enumerate(sums):
        if total > sums[best]:
            best = i
    return test_accuracy[best]


def _row_of(value, table):
    """The row of `table` that holds its largest entry, for a table of such rows."""
    return value[table.amax(1).argmax()]


FIGURES_MISTAKES = [
    (
        lambda val, test: test[test.mean(1).argmax()],
        "the recipe is chosen by test, which should only judge: choose by val, then look its test figures up.",
    ),
    (
        lambda val, test: test.gather(0, val.argmax(0)[None])[0],
        "every seed chooses a recipe of its own: these figures belong to several recipes. One is chosen, by its mean.",
    ),
    (lambda val, test: test.amax(0), "the best recipe on test, seed by seed: nothing is chosen by val."),
    (
        lambda val, test: _row_of(test, val),
        "the recipe with the luckiest single run is chosen: its mean over the seeds decides.",
    ),
    (lambda val, test: test[val.amin(1).argmax()], "the recipe is chosen by its worst seed: its mean decides."),
    (
        lambda val, test: test[val.median(1).values.argmax()],
        "the recipe is chosen by the median over its seeds: the mean is asked for.",
    ),
    (
        lambda val, test: val[val.mean(1).argmax()],
        "these are the val figures that won the choice: what is reported comes from test.",
    ),
    (
        lambda val, test: test[(val + test).mean(1).argmax()],
        "test takes part in the choice: it may not, not even with half a voice.",
    ),
    (lambda val, test: test[val.mean(1).argmin()], "this recipe is the worst on val: argmax, not argmin."),
    (
        lambda val, test: test[len(val) - 1 - val.mean(1).flip(0).argmax()],
        "among equals on val the last is taken: take the first.",
    ),
    (
        lambda val, test: test[:, val.mean(0).argmax()],
        "a seed is chosen, not a recipe: recipes are rows, so the mean over the seeds is over dim=1.",
    ),
    (
        lambda val, test: test[val.mean(1).argmax()].mean(),
        "this is their mean: return the figures of all S seeds, [S]; the interval needs them.",
    ),
    (lambda val, test: test.mean(0), "this is the mean over all recipes: one is chosen."),
    (lambda val, test: test[-1], "this is the last recipe, whatever val says."),
    (lambda val, test: test[0], "this is the first recipe, whatever val says."),
]


def check_group_split(function: Callable, seed: int = 0) -> Report:
    """Check `function(groups, n_val, n_test)`: the group id of each picture, [N] int64, to three masks [3, N] bool:
    train, val, test. The n_val groups with the smallest ids are val, the next n_test are test, all others train."""
    exercise = Exercise(
        task="write the function that takes `groups` [N], n_val and n_test, and returns three masks [3, N]: train, val "
        "and test",
        cases=[
            _groups_case([52, 17, 52, 80, 17, 31], 1, 1),
            _groups_case([40, 7, 7, 91, 40, 23, 23, 23, 65, 7, 12], 1, 2),
            _groups_case([3, 90, 90, 5, 5, 90, 61, 3, 88, 17, 17, 61, 17, 88], 3, 2),
            _groups_case(_ids(1, 60, 20), 4, 5),
        ],
        oracle=_groups_loop,
        mistakes=GROUPS_MISTAKES,
        not_finite="masks are True or False: NaN or infinity can't be one.",
        verified="values agree with a plain loop in 6 cases, two of them fresh (6 to 60 pictures in 4 to 20 groups): "
        "no group is in two splits, every picture is in one; the inputs are left as they were.",
        gradients=False,
        fresh=lambda seed: _groups_case(_ids(seed, 20 + seed % 13, 7 + seed % 3), 1 + seed % 3, 2),
    )
    return judge(function, exercise, seed)


def _groups_case(groups, n_val: int, n_test: int) -> dict:
    return {"groups": torch.as_tensor(groups), "n_val": n_val, "n_test": n_test}


def _ids(seed: int, n: int, groups: int) -> torch.Tensor:
    """n pictures of so many groups, each of them there at least once; ids are large and in no order."""
    generator = torch.Generator().manual_seed(seed)
    ids = 100 + torch.randperm(900, generator=generator)[:groups]
    some = torch.randint(groups, (n - groups,), generator=generator)
    return ids[torch.cat([torch.arange(groups), some])[torch.randperm(n, generator=generator)]]


def _groups_loop(groups, n_val, n_test):
    order, split = sorted(set(groups.tolist())), []
    for group in groups.tolist():
        place = order.index(group)
        split.append(1 if place < n_val else 2 if place < n_val + n_test else 0)
    return torch.tensor([[s == wanted for s in split] for wanted in range(3)])


def _ranks(groups):
    return groups.unique(return_inverse=True)[1]


def _by_appearance(groups):
    first = list(dict.fromkeys(groups.tolist()))
    return torch.tensor([first.index(group) for group in groups.tolist()])


def _in_place(ranks, n_val, n_test, *, parts=lambda train, val, test: (train, val, test)):
    """The masks by the place of each picture, or of its group, in an order; or with one part replaced."""
    val, test = ranks < n_val, (ranks >= n_val) & (ranks < n_val + n_test)
    return torch.stack(parts(~(val | test), val, test))


def _parts(parts):
    return lambda g, n_val, n_test: _in_place(_ranks(g), n_val, n_test, parts=parts)


GROUPS_MISTAKES = [
    (
        lambda g, n_val, n_test: _in_place(torch.arange(len(g)), n_val, n_test),
        "the rows are split, not the groups: two pictures of one group land on both sides. Every row of a group goes "
        "where its group goes.",
    ),
    (
        lambda g, n_val, n_test: _in_place(g.argsort(stable=True).argsort(), n_val, n_test),
        "n_val and n_test count pictures here, so a group is cut in two: they count groups.",
    ),
    (
        lambda g, n_val, n_test: torch.stack(
            [_ranks(g) >= max(n_val, n_test), _ranks(g) < n_val, _ranks(g) < n_test]
        ),
        "val and test share groups: what was chosen on these pictures is then judged on them.",
    ),
    (
        _parts(lambda train, val, test: (~test, val, test)),
        "val's groups are in train too: a classifier that knows them by heart would win the choice.",
    ),
    (
        _parts(lambda train, val, test: (~val, val, test)),
        "test's groups are in train too: a classifier could know the answers by heart.",
    ),
    (
        _parts(lambda train, val, test: (train | val | test, val, test)),
        "train holds all pictures, those of val and test among them.",
    ),
    (_parts(lambda train, val, test: (train, val | test, test)), "test's groups are in val too."),
    (_parts(lambda train, val, test: (train & ~train, val, test)), "train is empty."),
    (_parts(lambda train, val, test: (train | test, val, test & ~test)), "test is empty: n_test groups belong there."),
    (
        _parts(lambda train, val, test: (val, test, train)),
        "the rows are in another order: train, val, test is asked for, and this is val, test, train.",
    ),
    (_parts(lambda train, val, test: (train, test, val)), "val and test have changed places: val has the smallest."),
    (
        _parts(lambda train, val, test: (~train, ~val, ~test)),
        "the masks are inverted: True stands for the pictures that are in the split.",
    ),
    (
        lambda g, n_val, n_test: _in_place(_ranks(-g), n_val, n_test),
        "the largest ids come first here: val has the smallest ids.",
    ),
    (
        lambda g, n_val, n_test: _in_place(_by_appearance(g), n_val, n_test),
        "the groups are taken as they appear: take them by id, smallest first, whatever the order of the files.",
    ),
    (
        lambda g, n_val, n_test: _in_place(g, n_val, n_test),
        "the ids are taken for places 0, 1, 2 …: they are any numbers. First find the place of each id among the "
        "different ones, sorted.",
    ),
    (
        lambda g, n_val, n_test: _in_place(_ranks(g), n_val, n_test).T,
        "the masks are columns: a row for each split is asked for, [3, N].",
    ),
    (
        lambda g, n_val, n_test: _in_place(torch.arange(len(g.unique())), n_val, n_test),
        "these masks have an entry for each group: an entry for each picture is asked for, [3, N].",
    ),
]  # fmt: skip


def check_label_subset(function: Callable, seed: int = 0) -> Report:
    """Check `function(labels, order, per_class)`: labels [N] and the order in which the pictures are drawn, a
    permutation [N] of the rows, to the rows of the first `per_class` of each class, ascending, [classes * per_class].
    """
    exercise = Exercise(
        task="write the function that takes `labels` [N], `order` [N] and per_class, and returns the rows of the first "
        "per_class pictures of each class in that order, ascending",
        cases=[
            _subset_case([0, 0, 1, 1, 0], [4, 2, 0, 3, 1], 1),
            _subset_case([7, 2, 2, 7, 2, 7, 2, 7], [5, 6, 0, 7, 2, 3, 1, 4], 2),  # there need not be all classes
            _subset_case([2, 1, 0, 2, 0, 1, 1, 2, 0, 2], [9, 3, 7, 1, 8, 0, 5, 4, 6, 2], 2),
            _subset_case(*_labels_and_order(1, 40, 4), 5),
        ],
        oracle=_subset_loop,
        mistakes=SUBSET_MISTAKES,
        not_finite="rows are whole numbers: NaN or infinity can't be one.",
        verified="values agree with a plain loop in 6 cases, two of them fresh (5 to 40 pictures, 2 to 4 classes, some "
        "labels missing, 1 to 5 of each), and the inputs are left as they were.",
        gradients=False,
        fresh=lambda seed: _subset_case(*_labels_and_order(seed, 18 + seed % 11, 2 + seed % 3), 2 + seed % 3),
    )
    return judge(function, exercise, seed)


def _subset_case(labels, order, per_class: int) -> dict:
    return {"labels": torch.as_tensor(labels), "order": torch.as_tensor(order), "per_class": per_class}


def _labels_and_order(seed: int, n: int, classes: int) -> tuple:
    labels, order = (torch.randperm(n, generator=torch.Generator().manual_seed(s)) for s in (seed, seed + 500))
    return labels % classes, order


def _subset_loop(labels, order, per_class):
    taken, rows = {}, []
    for row in order.tolist():
        label = int(labels[row])
        taken[label] = taken.get(label, 0) + 1
        if taken[label] <= per_class:
            rows.append(row)
    return torch.tensor(sorted(rows))


def _first_of_each(labels, order, per_class, *, classes=None, tidy=lambda rows: rows.sort().values):
    """The subset with one part replaced."""
    drawn = labels[order]
    rows = [order[drawn == label][:per_class] for label in (labels.unique() if classes is None else classes)]
    return tidy(torch.cat(rows))


def _in_the_order_drawn(labels, order, per_class):
    rows = _first_of_each(labels, order, per_class)
    return order[(order[:, None] == rows).any(1)]


def _places_in_the_order(labels, order, per_class):
    return torch.cat([(labels[order] == c).nonzero()[:per_class, 0] for c in labels.unique()]).sort().values


SUBSET_MISTAKES = [
    (
        lambda y, order, k: _first_of_each(y, torch.arange(len(y)), k),
        "the order isn't used: these are the first of each class in the set, the same ones in every draw.",
    ),
    (
        lambda y, order, k: order[: k * len(y.unique())].sort().values,
        "these are the first pictures of the order, whatever their class: as many of each class are asked for.",
    ),
    (
        lambda y, order, k: order[:k].sort().values,
        "these are per_class pictures in all: take per_class of *each* class.",
    ),
    (
        _places_in_the_order,
        "these are places in `order`: the rows that stand there are asked for, `order[places]`.",
    ),
    (
        lambda y, order, k: _first_of_each(y, order.argsort(), k),
        "`order` is read the wrong way round: order[0] is the row that is drawn first, not the place of row 0.",
    ),
    (
        lambda y, order, k: _first_of_each(y, order.flip(0), k),
        "these are the last of each class in that order: take the first.",
    ),
    (
        _in_the_order_drawn,
        "these are the right rows, in the order in which they were drawn: sort them.",
    ),
    (
        partial(_first_of_each, tidy=lambda rows: rows),
        "these are the right rows, class after class: sort them.",
    ),
    (
        lambda y, order, k: _first_of_each(y, order, 1),
        "one picture of each class: per_class may be more than 1.",
    ),
    (
        lambda y, order, k: _first_of_each(y, order, k + 1),
        "one too many of each class: [:per_class] ends before per_class.",
    ),
    (
        lambda y, order, k: torch.isin(torch.arange(len(y)), _first_of_each(y, order, k)),
        "this is a mask: the numbers of its rows are asked for, `mask.nonzero()[:, 0]`.",
    ),
    (
        lambda y, order, k: y[_first_of_each(y, order, k)],
        "these are the labels of the chosen pictures: their rows are asked for.",
    ),
]


def check_balanced_accuracy(function: Callable, seed: int = 0) -> Report:
    """Check `function(predicted, labels)`: classes [N] twice, int64, to the mean over the classes that occur in
    `labels` of the share of their pictures that is named rightly, a number from 0 to 1."""
    exercise = Exercise(
        task="write the function that takes `predicted` [N] and `labels` [N], and returns the balanced accuracy, a "
        "number from 0 to 1",
        cases=[
            _balanced_case([0, 0, 0, 1, 0, 1], [0, 0, 0, 0, 1, 1]),
            _balanced_case([3, 3, 0, 3, 3, 0, 4, 3], [3, 3, 3, 3, 3, 0, 0, 4]),  # nothing of classes 1 and 2
            _balanced_case([1, 2, 2, 1, 5, 1, 2], [2, 2, 2, 1, 1, 1, 2]),  # a guess that nothing is
            _balanced_case(_some_classes(3, 60), _some_classes(4, 60)),
        ],
        oracle=_balanced_loop,
        mistakes=BALANCED_MISTAKES,
        not_finite="a class without a picture gives 0/0: leave it out, for there is nothing to name.",
        verified="values agree with a plain loop in 6 cases, two of them fresh (6 to 60 pictures, classes of different "
        "sizes, some of them empty), and the inputs are left as they were.",
        gradients=False,
        number=True,
        fresh=lambda seed: _balanced_case(*(_some_classes(s, 20 + seed % 13) for s in (seed, seed + 500))),
    )
    return judge(function, exercise, seed)


def _balanced_case(predicted: list, labels: list) -> dict:
    return {"predicted": torch.tensor(predicted), "labels": torch.tensor(labels)}


def _balanced_loop(predicted, labels):
    right, total = {}, {}
    for guess, truth in zip(predicted.tolist(), labels.tolist(), strict=True):
        total[truth] = total.get(truth, 0) + 1
        right[truth] = right.get(truth, 0) + (guess == truth)
    return torch.tensor(sum(right[c] / total[c] for c in total) / len(total), dtype=torch.float64)


def _recalls(predicted, labels, of=None):
    """For each class in `of` (those in the labels) the share of its pictures that is named rightly; 0 for none."""
    classes = labels.unique() if of is None else of
    hits = predicted == labels
    return torch.stack([hits[labels == c].double().sum() / max(1, int((labels == c).sum())) for c in classes])


BALANCED_MISTAKES = [
    (
        lambda p, y: (p == y).double().mean(),
        "this is the plain accuracy, where a large class counts for more: take each class's share first, then their "
        "mean.",
    ),
    (
        lambda p, y: _recalls(p, y, range(int(max(p.max(), y.max())) + 1)).mean(),
        "classes without a picture count as 0 here: the mean is over the classes that occur in `labels`.",
    ),
    (
        lambda p, y: _recalls(p, y, range(int(y.max()) + 1)).mean(),
        "classes without a picture count as 0 here, those below the largest label: leave them out.",
    ),
    (
        lambda p, y: _recalls(p, y, torch.cat([p, y]).unique()).mean(),
        "classes that were only guessed count as 0 here: the mean is over the classes that occur in `labels`.",
    ),
    (
        lambda p, y: _recalls(y, p).mean(),
        "this is the mean precision, over what was taken for a class: divide by the pictures that *are* of the class.",
    ),
    (lambda p, y: _recalls(p, y).min(), "this is the worst class: the mean over the classes is asked for."),
    (lambda p, y: _recalls(p, y).median(), "this is the median over the classes: take the mean."),
    (lambda p, y: _recalls(p, y).sum(), "this is the sum over the classes: divide by their number."),
    (lambda p, y: _recalls(p, y), "these are the shares of each class: return their mean."),
    (lambda p, y: 100 * _recalls(p, y).mean(), "this is in percent: a share from 0 to 1 is asked for."),
    (lambda p, y: 1 - _recalls(p, y).mean(), "this is the share that fails: 1 − balanced accuracy."),
    (
        lambda p, y: 1 / len(y.unique()) + 0 * _recalls(p, y).mean(),
        "this is what always answering one class reaches, 1/C: the predictions aren't looked at.",
    ),
]


# Student's t: of n numbers, 95 % lie in mean ± t · s / √n; from printed tables, by n.
T95 = {2: 12.7062, 3: 4.3027, 4: 3.1824, 5: 2.7764, 6: 2.5706, 7: 2.4469, 8: 2.3646, 9: 2.306, 10: 2.2622}


def check_mean_interval(function: Callable, seed: int = 0) -> Report:
    """Check `function(values)`: n numbers [n] to the 95 % interval for their mean, (low, high), [2]: mean ∓ t s / √n
    with s over n - 1 and Student's t for n - 1 degrees of freedom; n from 2 to 9."""
    exercise = Exercise(
        task="write the function that takes `values` [n], n from 2 to 9, and returns the 95 % interval for their mean: "
        "low and high, [2]",
        cases=[
            {"values": torch.tensor([70.0, 72, 80])},
            {"values": torch.tensor([61.0, 64, 70, 57, 68])},
            {"values": 60 + 8 * random(1, 4)},
            {"values": 50 + 9 * random(2, 8, dtype=torch.float64)},
            {"values": torch.tensor([3.0, 5])},
        ],
        oracle=_interval_loop,
        mistakes=INTERVAL_MISTAKES,
        not_finite="right where it is finite, but some values are NaN or infinite: is something divided by n − 1 = 0, "
        "or by a length that isn't n?",
        verified="values agree with the printed formula, as a plain loop, in 7 cases, two of them fresh (n from 2 to "
        "9, float32 and float64), and the inputs are left as they were.",
        gradients=False,
        tolerance=0.01,  # of values about 60: the factor may have three decimals
        fresh=lambda seed: {"values": 40 + 10 * random(seed, 3 + seed % 7)},
    )
    return judge(function, exercise, seed)


def _interval_loop(values):
    n = len(values)
    mean = sum(values.tolist()) / n
    half = T95[n] * (sum((x - mean) ** 2 for x in values.tolist()) / (n - 1)) ** 0.5 / n**0.5
    return torch.tensor([mean - half, mean + half], dtype=torch.float64)


def _around(values, *, t=lambda n: T95[n], spread=lambda x: x.std(), root=lambda n: n**0.5, ends=(-1, 1)):
    """The interval with one part replaced."""
    x = values.double()
    return x.mean() + torch.tensor(ends, dtype=x.dtype) * t(len(x)) * spread(x) / root(len(x))


INTERVAL_MISTAKES = [
    (
        partial(_around, t=lambda n: 1.96),
        "1.96 is for many numbers: with n = 3 the factor is 4.30, Student's t for n − 1 degrees of freedom.",
    ),
    (partial(_around, t=lambda n: 1), "this is the mean ± its standard error: the factor t is missing."),
    (partial(_around, t=lambda n: 2), "the factor is 2 here, which holds for many numbers: take Student's t."),
    (
        partial(_around, t=lambda n: T95[n + 1]),
        "this is the factor of one number more: n numbers leave n − 1 degrees of freedom, so n = 3 takes 4.30.",
    ),
    (
        partial(_around, spread=lambda x: x.std(correction=0)),
        "the spread is divided by n: from a sample s is the root of the sum of squares over n − 1.",
    ),
    (
        partial(_around, root=lambda n: 1),
        "√n is missing: this is where single runs lie, and the mean of n runs lies closer.",
    ),
    (partial(_around, root=lambda n: n), "divided by n: by √n is right."),
    (partial(_around, root=lambda n: (n - 1) ** 0.5), "divided by √(n − 1): s has its n − 1 already, so by √n."),
    (partial(_around, spread=lambda x: x.var()), "this is with the variance: s is its root."),
    (
        lambda x: torch.stack([x.min(), x.max()]),
        "this is the range of the values, smallest to largest: it grows with n, where an interval shrinks.",
    ),
    (partial(_around, ends=(1, -1)), "high comes first: low, then high."),
    (
        lambda x: torch.stack([x.double().mean(), _around(x)[1] - x.double().mean()]),
        "this is the mean and the half-width: return the two ends, mean − half and mean + half.",
    ),
    (lambda x: _around(x) - x.double().mean(), "the mean is missing: the interval lies around it."),
    (lambda x: _around(x)[1] - x.double().mean(), "this is the half-width: return both ends, low and high."),
]


# --- questions --------------------------------------------------------------------------------------------


def _class_counts(seed: int) -> dict:
    """Four classes; the one that is largest in train is not the largest of the 500 pictures in test."""
    generator = torch.Generator().manual_seed(1_000 * seed + 7)
    large, other = torch.randperm(4, generator=generator)[:2].tolist()
    sizes = torch.randint(100, 300, (4,), generator=generator).tolist()
    sizes[large] = max(sizes) + 100
    shares = torch.randint(45, 125, (4,), generator=generator).tolist()
    shares[other] += 500 - sum(shares)
    return {"train": sizes, "test": shares}


def _largest(counts: list[int]) -> int:
    return counts.index(max(counts))


LARGEST_CLASS = Question(
    task="the accuracy on test, from 0 to 1, of always answering the class that is largest in train",
    given=_class_counts,
    answer=lambda train, test: test[_largest(train)] / sum(test),
    mistakes=[
        (
            lambda train, test: max(test) / sum(test),
            "this class is the largest in test, so the answer was chosen on the split that judges: choose by train.",
        ),
        (
            lambda train, test: max(train) / sum(train),
            "this is its share of train: the accuracy is counted on the pictures of test.",
        ),
        (lambda train, test: 1 / len(test), "this holds where all classes have the same size: these have not."),
        (lambda train, test: test[_largest(train)], "this is the number of right answers: divide by all of test."),
        (lambda train, test: 100 * test[_largest(train)] / sum(test), "this is in percent: a share from 0 to 1."),
        (lambda train, test: 1 - test[_largest(train)] / sum(test), "this is the share of wrong answers."),
    ],
    verified="that is the number to beat before anything is learned; it would be lower or higher with other counts.",
)


def _two_arms(seed: int) -> dict:
    """Two recipes with the same five seeds, in percent: what a seed does, it does to both. Drawn again until the answer
    and all mistakes differ."""
    for attempt in range(100):
        generator = torch.Generator().manual_seed(100 * seed + attempt)
        base = 70 + torch.randint(9, (1,), generator=generator) + torch.randint(-5, 6, (5,), generator=generator)
        gain = torch.randint(1, 4, (1,), generator=generator) + torch.randint(-2, 4, (5,), generator=generator)
        arms = {"a": base.tolist(), "b": (base + gain).tolist()}
        found = sorted([_low(**arms), *(mistake(**arms) for mistake, _ in ARM_MISTAKES)])
        if min(high - low for low, high in pairwise(found)) > 0.03:
            break
    return arms


def _gains(a, b):
    return torch.tensor(b).double() - torch.tensor(a).double()


def _half(values, **parts):
    low, high = _around(torch.as_tensor(values).double(), **parts).tolist()
    return (high - low) / 2


def _low(a, b, **parts):
    return _gains(a, b).mean().item() - _half(_gains(a, b), **parts)


ARM_MISTAKES = [
    (
        lambda a, b: _gains(a, b).mean().item() - 2.306 * ((_half(a) ** 2 + _half(b) ** 2) ** 0.5 / T95[5]),
        "the two recipes are treated as unrelated: their seeds are the same, so subtract seed by seed first, and take "
        "the interval of the five differences.",
    ),
    (
        lambda a, b: _gains(a, b).mean().item() - _half(a) - _half(b),
        "this is the gap between the two recipes' own intervals: subtract seed by seed first, and take the interval "
        "of the five differences.",
    ),
    (lambda a, b: _gains(a, b).mean().item(), "this is the mean difference alone: subtract the half-width."),
    (lambda a, b: _half(_gains(a, b)), "this is the half-width alone: mean − half-width."),
    (
        lambda a, b: 2 * _gains(a, b).mean().item() - _low(a, b),
        "this is the upper end: the lower one is asked for.",
    ),
    (lambda a, b: _low(b, a), "this is the lower end for A − B: B − A is asked for."),
    (partial(_low, t=lambda n: 1.96), "1.96 is for many seeds: with five the factor is 2.776."),
    (partial(_low, t=lambda n: T95[n + 1]), "2.571 is the factor of six numbers: with five it is 2.776."),
    (partial(_low, t=lambda n: 1), "the factor t is missing: with five seeds it is 2.776."),
    (
        partial(_low, spread=lambda x: x.std(correction=0)),
        "the spread is divided by n: s is the root of the sum of squares over n − 1.",
    ),
    (partial(_low, root=lambda n: 1), "√5 is missing: this is where single differences lie, not their mean."),
    (partial(_low, root=lambda n: n), "divided by n: by √n is right."),
]

ARM_DIFFERENCE = Question(
    task="the lower end of the 95 % interval for the mean of B − A over the five seeds, in percentage points",
    given=_two_arms,
    answer=_low,
    mistakes=ARM_MISTAKES,
    verified="where it lies above 0, B is better than A as far as five seeds can tell; where 0 is in the interval, "
    "they can't tell.",
    tolerance=0.01,
)
