"""Right and wrong answers to the exercises on how features are judged."""

from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from answers.edit import edited
from clbook import checks, evaluation
from clbook.checks.evaluation import (
    BALANCED_MISTAKES,
    CHOICE_MISTAKES,
    CONFUSION_MISTAKES,
    FIGURES_MISTAKES,
    GROUPS_MISTAKES,
    INTERVAL_MISTAKES,
    RECALL_MISTAKES,
    SUBSET_MISTAKES,
    T95,
    VOTE_MISTAKES,
)

# --- the weighted vote ---

VOTE = """
def knn_vote(similarities, labels, k, temperature):
    top, indices = similarities.topk(k, dim=1)
    weights = ((top - top[:, :1]) / temperature).exp()
    votes = torch.zeros(len(top), int(labels.max()) + 1, dtype=top.dtype)
    votes = votes.scatter_add(1, labels[indices], weights)
    return votes.argmax(1)
"""


def vote_one_hot(similarities, labels, k, temperature):
    top, indices = torch.sort(similarities, dim=1, descending=True)
    weights = F.softmax(top[:, :k] / temperature, dim=1)  # [Q, k]: their sum changes no winner
    classes = F.one_hot(labels)[indices[:, :k]].to(weights.dtype)  # [Q, k, C]
    return (weights[:, :, None] * classes).sum(1).argmax(1)


def vote_loops(similarities, labels, k, temperature):
    winners = []
    for row in similarities.double():
        votes = [0.0] * (int(labels.max()) + 1)
        for j in row.argsort(descending=True)[:k]:
            votes[labels[j]] += (row[j] / temperature).exp().item()
        winners.append(votes.index(max(votes)))
    return torch.tensor(winners)


def vote_masked(cosines, y, k, temperature):
    """Whoever isn't among the k has weight 0; the tensors have names of their own."""
    kth = cosines.topk(k).values[:, -1:]
    logits = torch.where(cosines >= kth, cosines / temperature, -torch.inf)
    return (logits.softmax(1) @ F.one_hot(y).to(logits.dtype)).argmax(1)


def vote_in_logarithms(similarities, labels, k, temperature):
    top, indices = similarities.topk(k)
    own = labels[indices][:, :, None] == torch.arange(int(labels.max()) + 1)  # [Q, k, C]
    return torch.where(own, top[:, :, None] / temperature, -torch.inf).logsumexp(1).argmax(1)


RIGHT_VOTE = [edited(VOTE), vote_one_hot, vote_loops, vote_masked, vote_in_logarithms]

WRONG_VOTE = [
    (edited(VOTE, "((top - top[:, :1]) / temperature).exp()", "torch.ones_like(top)"), "counts the same"),
    (lambda s, y, k, temperature: y[s.topk(k).indices].mode(1).values, "counts the same"),
    (edited(VOTE, "k, dim=1", "k, dim=1, largest=False"), "k farthest"),
    (edited(VOTE, "topk(k,", "topk(len(labels),"), "the whole bank votes"),
    (lambda s, y, k, temperature: y[s.argmax(1)], "single nearest decides"),
    (
        edited(VOTE, "similarities.topk(k, dim=1)", "[x[:, 1:] for x in similarities.topk(k + 1, dim=1)]"),
        "nearest neighbour is left out",
    ),
    (edited(VOTE, " / temperature"), "without the temperature"),
    (edited(VOTE, "(top - top[:, :1]) /", "top *"), "multiplied by the temperature"),
    (edited(VOTE, "((top - top[:, :1]) / temperature).exp()", "top"), "similarities themselves"),
    (edited(VOTE, "((top - top[:, :1]) / temperature).exp()", "(top / temperature).softmax(0)"), "wrong axis"),
    (edited(VOTE, "top - top[:, :1]", "top"), "overflows float32"),
    (
        edited(
            VOTE,
            "votes = votes.scatter_add(1, labels[indices], weights)",
            "votes[torch.arange(len(top))[:, None], labels[indices]] += weights",
        ),
        "keeps one of its neighbours' votes",
    ),
    (edited(VOTE, "scatter_add", "scatter"), "keeps one of its neighbours' votes"),
    (edited(VOTE, "return votes.argmax(1)", "return indices[:, 0]"), "places in the bank"),
    (edited(VOTE, "argmax", "argmin"), "fewest votes"),
    (edited(VOTE, ".argmax(1)"), "these are the votes"),
    (edited(VOTE, "labels[indices]", "indices"), "stops with an error in line 6"),
    (edited(VOTE, ".argmax(1)", ".argmax(1).float()"), "result is torch.float32, not torch.int64"),
    (edited(VOTE, ".argmax(1)", ".argmax(1)[:, None]"), "shape [2], not [2, 1]"),
    (edited(VOTE, ".argmax(1)", ".argmax(1).tolist()"), "of type list, not a tensor"),
    (lambda s, y, k, temperature: torch.zeros(len(s), dtype=torch.int64), "same value whatever"),
    (lambda s, y, k, temperature: (edited(VOTE)(s, y, k, temperature) + 1) % (y.max() + 1), "not in a way that"),
]

# --- recall@k ---

RECALL = """
def recall_at_k(similarities, labels, k):
    n = len(labels)
    others = similarities.masked_fill(torch.eye(n, dtype=torch.bool), -torch.inf)
    found = labels[others.topk(k, dim=1).indices] == labels[:, None]
    return found.any(1).double().mean()
"""


def recall_second_on(similarities, labels, k):
    """The nearest of all is the picture itself, and is left out."""
    order = similarities.argsort(dim=1, descending=True)[:, 1 : k + 1]
    return (labels[order] == labels[:, None]).any(dim=1).float().mean().item()


def recall_loops(similarities, labels, k):
    hits = 0
    for i in range(len(labels)):
        rest = [j for j in range(len(labels)) if j != i]
        nearest = sorted(rest, key=lambda j: similarities[i, j].item(), reverse=True)[:k]
        hits += any(labels[j] == labels[i] for j in nearest)
    return hits / len(labels)


def recall_by_rank(similarities, labels, k):
    """How many other classes' pictures are nearer than the nearest of one's own class? Fewer than k."""
    others = similarities - 9 * torch.eye(len(labels), dtype=similarities.dtype)
    same = labels[:, None] == labels
    best = others.masked_fill(~same, -2).amax(1, keepdim=True)
    return ((others > best).sum(1)[best[:, 0] >= -1] < k).sum() / len(labels)


RIGHT_RECALL = [edited(RECALL), recall_second_on, recall_loops, recall_by_rank]

WRONG_RECALL = [
    (edited(RECALL, ".masked_fill(torch.eye(n, dtype=torch.bool), -torch.inf)"), "each picture finds itself"),
    (
        edited(RECALL, "others.topk(k, dim=1).indices", "similarities.topk(k, dim=1).indices[:, 1:]"),
        "takes one of the k places",
    ),
    (edited(RECALL, "k, dim=1", "k, dim=1, largest=False"), "each picture finds itself"),  # its −∞ is the smallest
    (edited(RECALL, "similarities.masked", "(-similarities).masked"), "k farthest"),
    (edited(RECALL, "dim=1).indices", "dim=1).indices[:, -1:]"), "only the k-th"),
    (edited(RECALL, "topk(k,", "topk(1,"), "only the nearest is looked at"),
    (edited(RECALL, ".any(1).double().mean()", ".double().mean()"), "precision@k"),
    (edited(RECALL, "any", "all"), "all k have to be"),
    (edited(RECALL, "found.any(1).double()", "(found.sum(1) / (found.shape[1] / 2) > 1).double()"), "a majority"),
    (
        edited(
            RECALL,
            "found.any(1).double()",
            "(found.sum(1) / ((labels[:, None] == labels).sum(1) - 1).clamp(min=1))",
        ),
        "share of the class that is found",
    ),
    (edited(RECALL, "return ", "return 1 - "), "the share that fails"),
    (edited(RECALL, "return ", "return 100 * "), "in percent"),
    (edited(RECALL, ".double().mean()", ".double().sum()"), "number of hits"),
    (edited(RECALL, ".double().mean()", ".double()"), "not in a way that"),
    (edited(RECALL, "similarities.masked_fill", "similarities.fill_diagonal_(-9).masked_fill"), "changed its input"),
    (lambda similarities, labels, k: 0.5, "same value whatever"),
]

# --- the confusion matrix ---

CONFUSION = """
def confusion_matrix(predicted, labels, classes):
    matrix = torch.zeros(classes, classes, dtype=torch.int64)
    for guess, truth in zip(predicted, labels):
        matrix[truth, guess] += 1
    return matrix
"""


def confusion_bincount(predicted, labels, classes):
    return torch.bincount(classes * labels + predicted, minlength=classes**2).reshape(classes, classes)


def confusion_one_hot(predicted, labels, classes):
    return torch.einsum("ni,nj->ij", F.one_hot(labels, classes), F.one_hot(predicted, classes))


def confusion_accumulate(predicted, labels, classes):
    matrix = torch.zeros(classes, classes, dtype=torch.int64)
    return matrix.index_put((labels, predicted), torch.tensor(1), accumulate=True)


RIGHT_CONFUSION = [
    edited(CONFUSION),
    confusion_bincount,
    confusion_one_hot,
    confusion_accumulate,
    evaluation.confusion_matrix,
]

WRONG_CONFUSION = [
    (edited(CONFUSION, "[truth, guess]", "[guess, truth]"), "transposed"),
    (lambda predicted, labels, classes: confusion_bincount(labels, predicted, classes), "transposed"),
    (edited(CONFUSION, "+= 1", "= 1"), "a place counts once"),
    (
        edited(
            CONFUSION,
            "    for guess, truth in zip(predicted, labels):\n        matrix[truth, guess] += 1\n",
            "    matrix[labels, predicted] += 1\n",
        ),
        "a place counts once",
    ),
    (edited(CONFUSION, "return matrix", "return matrix / matrix.sum(1, keepdim=True).clamp(min=1)"), "each true class"),
    (edited(CONFUSION, "return matrix", "return matrix / matrix.sum(0).clamp(min=1)"), "each predicted class"),
    (edited(CONFUSION, "return matrix", "return matrix / len(labels)"), "shares of all pictures"),
    (edited(CONFUSION, "return matrix", "return matrix / matrix.sum(1, keepdim=True)"), "each true class"),
    (edited(CONFUSION, "return matrix", "return matrix.diag().diag()"), "only the right answers"),
    (edited(CONFUSION, "return matrix", "return matrix.fill_diagonal_(0)"), "only the errors"),
    (
        edited(CONFUSION, "classes, classes, dtype", "int(labels.max()) + 1, int(labels.max()) + 1, dtype"),
        "row and a column too",
    ),
    (edited(CONFUSION, "[truth, guess]", "[truth, truth]"), "never looked at"),
    (edited(CONFUSION, "[truth, guess]", "[-1 - truth, -1 - guess]"), "reverse order"),
    (edited(CONFUSION, ", dtype=torch.int64"), "result is torch.float32, not torch.int64"),
    (edited(CONFUSION, "return matrix", "return matrix.tolist()"), "of type list, not a tensor"),
    (edited(CONFUSION, "classes, classes,", "2, 2,"), "stops with an error in line 5"),
]

# --- what may be reported ---

CHOICE = """
def probe_accuracy(val_accuracy, test_accuracy):
    best = val_accuracy.argmax()
    return test_accuracy[best]
"""


def choice_loop(val_accuracy, test_accuracy):
    best = 0
    for i, accuracy in enumerate(val_accuracy):
        if accuracy > val_accuracy[best]:
            best = i
    return float(test_accuracy[best])


def choice_sorted(val_accuracy, test_accuracy):
    return test_accuracy[val_accuracy.argsort(descending=True, stable=True)][0]


def choice_of_pairs(val_accuracy, test_accuracy):
    pairs = zip(val_accuracy.tolist(), test_accuracy.tolist(), strict=True)
    return max(pairs, key=lambda pair: pair[0])[1]


RIGHT_CHOICE = [edited(CHOICE), choice_loop, choice_sorted, choice_of_pairs]

WRONG_CHOICE = [
    (lambda val_accuracy, test_accuracy: test_accuracy.max(), "the best on test"),
    (edited(CHOICE, "val_accuracy.argmax()", "test_accuracy.argmax()"), "the best on test"),
    (lambda val_accuracy, test_accuracy: val_accuracy.max().item(), "on val that won the choice"),
    (lambda val_accuracy, test_accuracy: val_accuracy[test_accuracy.argmax()], "changed places"),
    (edited(CHOICE, "val_accuracy.argmax()", "(0.5 * val_accuracy + 0.5 * test_accuracy).argmax()"), "test takes part"),
    (
        lambda val_accuracy, test_accuracy: test_accuracy[val_accuracy.argsort(stable=True)[-1]],
        "among equals on val the last",
    ),
    (lambda val_accuracy, test_accuracy: test_accuracy[val_accuracy == val_accuracy.max()].max(), "test decides"),
    (lambda val_accuracy, test_accuracy: test_accuracy[val_accuracy == val_accuracy.max()].mean(), "you take the mean"),
    (edited(CHOICE, "argmax", "argmin"), "the worst on val"),
    (lambda val_accuracy, test_accuracy: test_accuracy.mean(), "the mean over all candidates"),
    (lambda val_accuracy, test_accuracy: test_accuracy[-1], "the last candidate"),
    (lambda val_accuracy, test_accuracy: test_accuracy[0], "the first candidate"),
    (edited(CHOICE, "return test_accuracy[best]", "return float(best)"), "the place of the best"),
    (edited(CHOICE, "return test_accuracy[best]", "return 100 * test_accuracy[best]"), "not in a way that"),
]

# --- several seeds of several recipes: what may be reported ---

FIGURES = """
def chosen_figures(val_accuracy, test_accuracy):
    best = val_accuracy.mean(dim=1).argmax()
    return test_accuracy[best]
"""


def figures_loop(val_accuracy, test_accuracy):
    best, best_sum = None, -1.0
    for val, test in zip(val_accuracy, test_accuracy, strict=True):
        if val.sum() > best_sum:
            best, best_sum = test, val.sum()
    return best


def figures_einsum(val_accuracy, test_accuracy):
    chosen = F.one_hot(torch.einsum("rs->r", val_accuracy).argmax(), len(val_accuracy))
    return torch.einsum("r,rs->s", chosen.to(test_accuracy.dtype), test_accuracy)


def figures_sorted(val_accuracy, test_accuracy):
    means = val_accuracy.mean(1).tolist()
    order = sorted(range(len(means)), key=lambda recipe: -means[recipe])
    return test_accuracy[order[0]]


def figures_numpy(val_accuracy, test_accuracy):
    return torch.from_numpy(test_accuracy.numpy()[np.average(val_accuracy.numpy(), axis=1).argmax()])


RIGHT_FIGURES = [edited(FIGURES), figures_loop, figures_einsum, figures_sorted, figures_numpy]

WRONG_FIGURES = [
    (edited(FIGURES, "best = val", "best = test"), "chosen by test"),
    (
        lambda val_accuracy, test_accuracy: torch.stack(
            [test[val.argmax()] for val, test in zip(val_accuracy.T, test_accuracy.T, strict=True)]
        ),
        "every seed chooses a recipe of its own",
    ),
    (lambda val_accuracy, test_accuracy: test_accuracy.max(0).values, "seed by seed"),
    (edited(FIGURES, "val_accuracy.mean(dim=1)", "val_accuracy.max(dim=1).values"), "luckiest single run"),
    (edited(FIGURES, "val_accuracy.mean(dim=1)", "val_accuracy.min(dim=1).values"), "its worst seed"),
    (edited(FIGURES, "val_accuracy.mean(dim=1)", "val_accuracy.median(dim=1).values"), "the median over its seeds"),
    (edited(FIGURES, "return test", "return val"), "the val figures that won"),
    (edited(FIGURES, "val_accuracy.mean", "(val_accuracy / 2 + test_accuracy / 2).mean"), "test takes part"),
    (edited(FIGURES, "argmax", "argmin"), "the worst on val"),
    (
        edited(FIGURES, "val_accuracy.mean(dim=1).argmax()", "val_accuracy.mean(dim=1).argsort(stable=True)[-1]"),
        "among equals on val the last",
    ),
    (
        lambda val_accuracy, test_accuracy: test_accuracy[:, val_accuracy.mean(dim=0).argmax()],
        "a seed is chosen, not a recipe",
    ),
    (edited(FIGURES, "test_accuracy[best]", "test_accuracy[best].mean()"), "this is their mean"),
    (edited(FIGURES, "test_accuracy[best]", "test_accuracy.mean(dim=0)"), "the mean over all recipes"),
    (edited(FIGURES, "test_accuracy[best]", "test_accuracy[-1]"), "the last recipe"),
    (edited(FIGURES, "test_accuracy[best]", "test_accuracy[0]"), "the first recipe"),
    (edited(FIGURES, "test_accuracy[best]", "test_accuracy[best].tolist()"), "of type list, not a tensor"),
    (edited(FIGURES, "test_accuracy[best]", "100 * test_accuracy[best]"), "not in a way that"),
]

# --- a split that keeps groups together ---

GROUPS = """
def group_split(groups, n_val, n_test):
    ids = groups.unique()
    val = torch.isin(groups, ids[:n_val])
    test = torch.isin(groups, ids[n_val : n_val + n_test])
    return torch.stack([~(val | test), val, test])
"""


def groups_by_rank(groups, n_val, n_test):
    rank = groups.unique(return_inverse=True)[1]
    split = (rank < n_val) + 2 * ((n_val <= rank) & (rank < n_val + n_test))
    return split == torch.arange(3)[:, None]


def groups_with_sets(groups, n_val, n_test):
    ids = sorted(set(groups.tolist()))
    parts = set(ids[n_val + n_test :]), set(ids[:n_val]), set(ids[n_val : n_val + n_test])
    return torch.tensor([[group in part for group in groups.tolist()] for part in parts])


def groups_by_counting(groups, n_val, n_test):
    """How many different ids are smaller?"""
    ids = torch.tensor(sorted(Counter(groups.tolist())))
    smaller = (ids[:, None] < groups).sum(0)
    edges = torch.bucketize(smaller, torch.tensor([n_val, n_val + n_test]), right=True)
    return F.one_hot((edges + 1) % 3, 3).bool().T


RIGHT_GROUPS = [edited(GROUPS), groups_by_rank, groups_with_sets, groups_by_counting]

WRONG_GROUPS = [
    (
        lambda groups, n_val, n_test: groups_by_rank(torch.arange(len(groups)), n_val, n_test),
        "the rows are split, not the groups",
    ),
    (
        lambda groups, n_val, n_test: groups_by_rank(groups.sort(stable=True).indices.argsort(), n_val, n_test),
        "count pictures here",
    ),
    (
        edited(
            GROUPS,
            "ids[n_val : n_val + n_test])\n    return torch.stack([~(val | test)",
            "ids[:n_test])\n    return torch.stack([~(val | test)",
        ),
        "val and test share groups",
    ),
    (edited(GROUPS, "~(val | test)", "~test"), "val's groups are in train too"),
    (edited(GROUPS, "~(val | test)", "~val"), "test's groups are in train too"),
    (edited(GROUPS, "~(val | test)", "torch.ones_like(val)"), "train holds all pictures"),
    (edited(GROUPS, "val, test])", "val | test, test])"), "test's groups are in val too"),
    (edited(GROUPS, "~(val | test)", "torch.zeros_like(val)"), "train is empty"),
    (edited(GROUPS, "n_val : n_val + n_test", "n_val + n_test : n_val"), "test is empty"),
    (edited(GROUPS, "[~(val | test), val, test]", "[val, test, ~(val | test)]"), "rows are in another order"),
    (edited(GROUPS, "val, test])", "test, val])"), "val and test have changed places"),
    (edited(GROUPS, "[~(val | test), val, test]", "[val | test, ~val, ~test]"), "masks are inverted"),
    (edited(GROUPS, "groups.unique()", "groups.unique().flip(0)"), "largest ids come first"),
    (
        edited(GROUPS, "groups.unique()", "torch.tensor(list(dict.fromkeys(groups.tolist())))"),
        "taken as they appear",
    ),
    (edited(GROUPS, "groups.unique()", "torch.arange(int(groups.max()) + 1)"), "taken for places"),
    (edited(GROUPS, "val, test])", "val, test]).T"), "the masks are columns"),
    (edited(GROUPS, "torch.isin(groups, ", "torch.isin(ids, "), "an entry for each group"),
    (edited(GROUPS, "val, test])", "val, test]).long()"), "result is torch.int64, not torch.bool"),
    (edited(GROUPS, "torch.stack([~(val | test), val, test])", "~(val | test), val, test"), "of type tuple"),
    (edited(GROUPS, "n_val + n_test", "n_test"), "not in a way that"),
]

# --- some labels of each class ---

SUBSET = """
def label_subset(labels, order, per_class):
    drawn = labels[order]
    rows = [order[drawn == label][:per_class] for label in labels.unique()]
    return torch.cat(rows).sort().values
"""


def subset_loop(labels, order, per_class):
    taken, rows = Counter(), []
    for row in order.tolist():
        if taken[int(labels[row])] < per_class:
            taken[int(labels[row])] += 1
            rows.append(row)
    return torch.tensor(sorted(rows))


def subset_by_rank(labels, order, per_class):
    """Each picture's place among those of its class: how many of them were drawn no later?"""
    place = order.argsort()
    rank = ((labels[:, None] == labels) & (place <= place[:, None])).sum(1)
    return (rank <= per_class).nonzero()[:, 0]


def subset_one_hot(labels, order, per_class):
    counts = F.one_hot(labels[order]).cumsum(0).gather(1, labels[order][:, None])[:, 0]
    return order[counts <= per_class].msort()


def subset_sorted(labels, order, per_class):
    by_class = {}
    for row in order.tolist():
        by_class.setdefault(labels[row].item(), []).append(row)
    return torch.tensor(sorted(row for rows in by_class.values() for row in rows[:per_class]))


RIGHT_SUBSET = [edited(SUBSET), subset_loop, subset_by_rank, subset_one_hot, subset_sorted]

WRONG_SUBSET = [
    (
        lambda labels, order, per_class: torch.cat(
            [(labels == label).nonzero()[:per_class, 0] for label in labels.unique()]
        ).msort(),
        "the order isn't used",
    ),
    (edited(SUBSET, "torch.cat(rows)", "order[: per_class * len(rows)]"), "whatever their class"),
    (edited(SUBSET, "torch.cat(rows)", "order[:per_class]"), "per_class pictures in all"),
    (edited(SUBSET, "order[drawn == label][:per_class]", "(drawn == label).nonzero()[:per_class, 0]"), "places in"),
    (edited(SUBSET, "    drawn =", "    order = order.argsort()\n    drawn ="), "the wrong way round"),
    (edited(SUBSET, "[:per_class]", "[-per_class:]"), "the last of each class"),
    (lambda labels, order, per_class: order[torch.isin(order, subset_loop(labels, order, per_class))], "were drawn"),
    (edited(SUBSET, ".sort().values"), "class after class"),
    (edited(SUBSET, "[:per_class]", "[:1]"), "one picture of each class"),
    (edited(SUBSET, "[:per_class]", "[: per_class + 1]"), "one too many"),
    (
        lambda labels, order, per_class: torch.zeros(len(labels), dtype=torch.bool).index_fill(
            0, subset_loop(labels, order, per_class), True
        ),
        "this is a mask",
    ),
    (edited(SUBSET, "torch.cat(rows).sort().values", "labels[torch.cat(rows).sort().values]"), "labels of the chosen"),
    (edited(SUBSET, ".sort().values", ".sort()"), "not a tensor"),
    (edited(SUBSET, ".values", ".values.tolist()"), "of type list, not a tensor"),
    (edited(SUBSET, "labels.unique()", "range(2)"), "not in a way that"),
]

# --- balanced accuracy ---

BALANCED = """
def balanced_accuracy(predicted, labels):
    shares = [(predicted[labels == label] == label).double().mean() for label in labels.unique()]
    return torch.stack(shares).mean()
"""


def balanced_loop(predicted, labels):
    right, total = Counter(), Counter()
    for guess, truth in zip(predicted.tolist(), labels.tolist(), strict=True):
        total[truth] += 1
        right[truth] += guess == truth
    return sum(right[label] / total[label] for label in total) / len(total)


def balanced_by_weights(predicted, labels):
    """A picture of a class with n pictures weighs 1/n."""
    weights = 1 / torch.bincount(labels)[labels]
    return ((predicted == labels) * weights).sum() / weights.sum()


def balanced_by_matrix(predicted, labels):
    classes = int(max(predicted.max(), labels.max())) + 1
    matrix = torch.bincount(classes * labels + predicted, minlength=classes**2).view(classes, classes)
    rows = matrix[matrix.sum(1) > 0]
    everywhere = matrix.diag()[matrix.sum(1) > 0]
    return (everywhere / rows.sum(1)).mean()


def balanced_of_sklearn(predicted, labels):
    return float(balanced_accuracy_score(labels.numpy(), predicted.numpy()))


RIGHT_BALANCED = [edited(BALANCED), balanced_loop, balanced_by_weights, balanced_by_matrix, balanced_of_sklearn]

WRONG_BALANCED = [
    (lambda predicted, labels: (predicted == labels).double().mean(), "the plain accuracy"),
    (lambda predicted, labels: (predicted == labels).sum().item() / len(labels), "the plain accuracy"),
    (
        edited(
            BALANCED,
            "torch.stack(shares).mean()",
            "torch.stack(shares).sum() / (1 + max(int(predicted.max()), int(labels.max())))",
        ),
        "classes without a picture count as 0",
    ),
    (
        edited(BALANCED, "torch.stack(shares).mean()", "torch.stack(shares).sum() / (1 + int(labels.max()))"),
        "below the largest label",
    ),
    (
        edited(
            BALANCED,
            "torch.stack(shares).mean()",
            "torch.stack(shares).sum() / len(torch.cat([predicted, labels]).unique())",
        ),
        "only guessed",
    ),
    (edited(BALANCED, "(predicted, labels):", "(labels, predicted):"), "the mean precision"),
    (edited(BALANCED, "stack(shares).mean()", "stack(shares).min()"), "the worst class"),
    (edited(BALANCED, "stack(shares).mean()", "stack(shares).median()"), "the median"),
    (edited(BALANCED, "stack(shares).mean()", "stack(shares).sum()"), "the sum over the classes"),
    (edited(BALANCED, "stack(shares).mean()", "stack(shares)"), "the shares of each class"),
    (edited(BALANCED, "return ", "return 100 * "), "in percent"),
    (edited(BALANCED, "return ", "return 1 - "), "the share that fails"),
    (lambda predicted, labels: 1 / len(labels.unique()), "always answering one class"),
    (edited(BALANCED, "labels.unique()", "range(int(labels.max()) + 1)"), "gives 0/0"),
    (edited(BALANCED, "(predicted[labels == label] == label)", "(labels == label)"), "always answering one class"),
]

# --- the interval for a mean ---

INTERVAL = """
def mean_interval(values):
    n = len(values)
    half = T95[n] * values.std() / n**0.5
    return torch.stack([values.mean() - half, values.mean() + half])
""".replace("T95", repr(T95))


def interval_loop(values):
    x = values.tolist()
    mean = sum(x) / len(x)
    variance = sum((v - mean) ** 2 for v in x) / (len(x) - 1)
    half = T95[len(x)] * (variance / len(x)) ** 0.5
    return torch.tensor([mean - half, mean + half], dtype=values.dtype)


def interval_of_scipy(values):
    x = values.double().numpy()
    low, high = stats.t.interval(0.95, len(x) - 1, loc=x.mean(), scale=stats.sem(x))
    return torch.tensor([low, high], dtype=values.dtype)


def interval_of_squares(values):
    """s² (n − 1) = Σ x² − n mean²."""
    x, n = values.double(), len(values)
    squares = x @ x - n * x.mean() ** 2
    return (x.mean() + torch.tensor([-1, 1]) * T95[n] * (squares / (n * (n - 1))).sqrt()).to(values.dtype)


def interval_of_numpy(values):
    half = T95[len(values)] * np.std(values.numpy(), ddof=1) / np.sqrt(len(values))
    return values.new_tensor([float(values.mean()) - half, float(values.mean()) + half])


RIGHT_INTERVAL = [edited(INTERVAL), interval_loop, interval_of_scipy, interval_of_squares, interval_of_numpy]

_T = repr(T95) + "[n]"
WRONG_INTERVAL = [
    (edited(INTERVAL, _T, "1.96"), "1.96 is for many numbers"),
    (edited(INTERVAL, _T + " * ", ""), "the factor t is missing"),
    (edited(INTERVAL, _T, "2"), "the factor is 2 here"),
    (edited(INTERVAL, _T, repr(T95) + "[n + 1]"), "factor of one number more"),
    (edited(INTERVAL, "std()", "std(correction=0)"), "the spread is divided by n"),
    (
        lambda values: values.new_tensor(
            [values.mean() + sign * T95[len(values)] * np.std(values.numpy()) / len(values) ** 0.5 for sign in (-1, 1)]
        ),
        "the spread is divided by n",
    ),
    (edited(INTERVAL, " / n**0.5"), "√n is missing"),
    (edited(INTERVAL, "n**0.5", "n"), "divided by n: by √n"),
    (edited(INTERVAL, "n**0.5", "(n - 1) ** 0.5"), "divided by √(n − 1)"),
    (edited(INTERVAL, "std()", "var()"), "with the variance"),
    (lambda values: torch.stack(values.aminmax()), "the range of the values"),
    (
        edited(INTERVAL, "values.mean() - half, values.mean() + half", "values.mean() + half, values.mean() - half"),
        "high",
    ),
    (edited(INTERVAL, "values.mean() - half, values.mean() + half", "values.mean(), half"), "mean and the half-width"),
    (edited(INTERVAL, "values.mean() - half, values.mean() + half", "-half, half"), "the mean is missing"),
    (edited(INTERVAL, "torch.stack([values.mean() - half, values.mean() + half])", "half"), "this is the half-width"),
    (edited(INTERVAL, "torch.stack([values.mean() - half, values.mean() + half])", "(0.0, 1.0)"), "of type tuple"),
]


CATALOGUE = {
    checks.check_knn_vote: (WRONG_VOTE, RIGHT_VOTE, VOTE_MISTAKES),
    checks.check_recall_at_k: (WRONG_RECALL, RIGHT_RECALL, RECALL_MISTAKES),
    checks.check_confusion_matrix: (WRONG_CONFUSION, RIGHT_CONFUSION, CONFUSION_MISTAKES),
    checks.check_probe_accuracy: (WRONG_CHOICE, RIGHT_CHOICE, CHOICE_MISTAKES),
    checks.check_chosen_figures: (WRONG_FIGURES, RIGHT_FIGURES, FIGURES_MISTAKES),
    checks.check_group_split: (WRONG_GROUPS, RIGHT_GROUPS, GROUPS_MISTAKES),
    checks.check_label_subset: (WRONG_SUBSET, RIGHT_SUBSET, SUBSET_MISTAKES),
    checks.check_balanced_accuracy: (WRONG_BALANCED, RIGHT_BALANCED, BALANCED_MISTAKES),
    checks.check_mean_interval: (WRONG_INTERVAL, RIGHT_INTERVAL, INTERVAL_MISTAKES),
}

# --- questions ---


def counts(seed):
    return torch.tensor(list(checks.given("largest_class", seed).values()))  # [2, 4]: train, test


def always_the_largest(seed):
    train, test = counts(seed)
    return (test[train.argmax()] / test.sum()).item()


def named_rightly(seed):
    """Picture by picture."""
    given = checks.given("largest_class", seed)
    labels = [label for label, count in enumerate(given["test"]) for _ in range(count)]
    answer = max(range(4), key=lambda label: given["train"][label])
    return np.mean([label == answer for label in labels])


WRONG_LARGEST = [
    (lambda seed: (counts(seed)[1].max() / counts(seed)[1].sum()).item(), "chosen on the split that judges"),
    (lambda seed: (counts(seed)[0].max() / counts(seed)[0].sum()).item(), "its share of train"),
    (lambda seed: 0.25, "all classes have the same size"),
    (lambda seed: int(counts(seed)[1][counts(seed)[0].argmax()]), "divide by all of test"),
    (lambda seed: 100 * always_the_largest(seed), "in percent"),
    (lambda seed: 1 - always_the_largest(seed), "the share of wrong answers"),
    (lambda seed: f"{always_the_largest(seed):.3f}", "expected a number, got a str"),
    (lambda seed: -1.0, "not a mistake that this check knows"),
]
RIGHT_LARGEST = [
    always_the_largest,
    named_rightly,
    lambda seed: counts(seed)[1][counts(seed)[0].argmax()] / 500,
    lambda seed: round(always_the_largest(seed), 3),
]


def arms(seed):
    given = checks.given("arm_difference", seed)
    return torch.tensor(given["a"]).double(), torch.tensor(given["b"]).double()


def difference(seed):
    a, b = arms(seed)
    return b - a


def lower_end(seed):
    d = difference(seed)
    return (d.mean() - 2.7764 * d.std() / 5**0.5).item()


def lower_end_of_scipy(seed):
    a, b = (arm.numpy() for arm in arms(seed))
    return stats.ttest_rel(b, a).confidence_interval(0.95).low


def as_strangers(seed):
    a, b = (arm.numpy() for arm in arms(seed))
    return stats.ttest_ind(b, a).confidence_interval(0.95).low


def gap_of_intervals(seed):
    a, b = arms(seed)
    return (edited(INTERVAL)(b)[0] - edited(INTERVAL)(a)[1]).item()


WRONG_ARMS = [
    (as_strangers, "treated as unrelated"),
    (gap_of_intervals, "the gap between the two recipes' own intervals"),
    (lambda seed: difference(seed).mean().item(), "the mean difference alone"),
    (lambda seed: difference(seed).mean().item() - lower_end(seed), "the half-width alone"),
    (lambda seed: edited(INTERVAL)(difference(seed))[1], "the upper end"),
    (lambda seed: edited(INTERVAL)(-difference(seed))[0], "A − B"),
    (lambda seed: difference(seed).mean() - 1.96 * difference(seed).std() / 5**0.5, "1.96 is for many seeds"),
    (lambda seed: difference(seed).mean() - 2.5706 * difference(seed).std() / 5**0.5, "of six numbers"),
    (lambda seed: difference(seed).mean() - difference(seed).std() / 5**0.5, "the factor t is missing"),
    (lambda seed: difference(seed).mean() - 2.7764 * np.std(difference(seed).numpy()) / 5**0.5, "divided by n: s is"),
    (lambda seed: difference(seed).mean() - 2.7764 * difference(seed).std(), "√5 is missing"),
    (lambda seed: difference(seed).mean() - 2.7764 * difference(seed).std() / 5, "divided by n: by √n"),
    (lambda seed: "B is better", "expected a number, got a str"),
]
RIGHT_ARMS = [
    lower_end,
    lower_end_of_scipy,
    lambda seed: edited(INTERVAL)(difference(seed))[0],
    lambda seed: np.float64(round(lower_end(seed), 2)),
]

QUESTIONS = {"arm_difference": (WRONG_ARMS, RIGHT_ARMS), "largest_class": (WRONG_LARGEST, RIGHT_LARGEST)}
