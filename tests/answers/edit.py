"""What a learner's slip looks like."""

import torch
import torch.nn.functional as F


def edited(source, old="", new=""):
    """The last function that `source` defines, after one edit of its text."""
    assert old in source, f"{old!r} is not in the source: the edit would change nothing"
    scope = {"torch": torch, "F": F}
    exec(source.replace(old, new), scope)
    return [value for name, value in scope.items() if callable(value) and name != "__builtins__"][-1]
