"""Checks of how features are judged: neighbours that vote, retrieval, confusion, and what may be reported."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from clbook.checks.exercise import Exercise, Report, judge, random


def check_knn_vote(function: Callable) -> Report:
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
        verified="values agree with a plain loop over neighbours in 6 cases (Q from 2 to 60, M from 4 to 40, "
        "k from 2 to 12, τ from 0.01 to 0.5), and the inputs are left as they were.",
        gradients=False,
    )
    return judge(function, exercise)


def _vote_case(similarities, labels, k: int, temperature: float) -> dict:
    similarities, labels = (x if isinstance(x, torch.Tensor) else torch.tensor(x) for x in (similarities, labels))
    return {"similarities": similarities, "labels": labels, "k": k, "temperature": temperature}


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


def check_recall_at_k(function: Callable) -> Report:
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
        verified="values agree with a plain loop in 5 cases (N from 4 to 30, k from 1 to 4, a class with a "
        "single picture too), and the inputs are left as they were.",
        gradients=False,
        number=True,
    )
    return judge(function, exercise)


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


def check_confusion_matrix(function: Callable) -> Report:
    """Check `function(predicted, labels, classes)`: classes [N] twice, int64, and their number C to counts [C, C]:
    row i and column j tell how many pictures of class i were taken for class j."""
    exercise = Exercise(
        task="write the function that takes `predicted` [N], `labels` [N] and the number of classes, and returns "
        "counts [classes, classes], rows the true class, columns the predicted one",
        cases=[
            _confusion_case([0, 1, 1, 0, 0], [0, 0, 1, 1, 0], 2),
            _confusion_case([1, 1, 2, 0, 1], [0, 0, 2, 0, 1], 3),
            _confusion_case([0, 2, 2, 0], [2, 2, 0, 0], 4),  # nothing of classes 1 and 3
            _confusion_case([int(x) for x in random(1, 80).abs() * 2], [int(x) for x in random(2, 80).abs() * 2], 9),
        ],
        oracle=_confusion_loop,
        mistakes=CONFUSION_MISTAKES,
        not_finite="counts are whole numbers; where a row is divided by its sum, an empty class divides by zero.",
        verified="values agree with a plain loop in 4 cases (N from 4 to 80, 2 to 9 classes, some of them empty), and "
        "the inputs are left as they were.",
        gradients=False,
    )
    return judge(function, exercise)


def _confusion_case(predicted: list, labels: list, classes: int) -> dict:
    return {"predicted": torch.tensor(predicted), "labels": torch.tensor(labels), "classes": classes}


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


def check_probe_accuracy(function: Callable) -> Report:
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
        verified="values agree with a plain loop in 5 cases (1 to 40 candidates, equals among them), and the inputs "
        "are left as they were.",
        gradients=False,
        number=True,
    )
    return judge(function, exercise)


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
