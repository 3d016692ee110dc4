"""Right and wrong answers to the exercises on how features are judged."""

import torch
import torch.nn.functional as F

from answers.edit import edited
from clbook import checks, evaluation
from clbook.checks.evaluation import CHOICE_MISTAKES, CONFUSION_MISTAKES, RECALL_MISTAKES, VOTE_MISTAKES

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


CATALOGUE = {
    checks.check_knn_vote: (WRONG_VOTE, RIGHT_VOTE, VOTE_MISTAKES),
    checks.check_recall_at_k: (WRONG_RECALL, RIGHT_RECALL, RECALL_MISTAKES),
    checks.check_confusion_matrix: (WRONG_CONFUSION, RIGHT_CONFUSION, CONFUSION_MISTAKES),
    checks.check_probe_accuracy: (WRONG_CHOICE, RIGHT_CHOICE, CHOICE_MISTAKES),
}
