"""Whether the checks are still as they were: a grader asks before and after a learner's code has run."""

import sys

import clbook.checks


def fingerprint(module=None, seed="") -> str:
    """A text that changes when anything in `clbook.checks` is replaced, or `module` is something else; and the seed."""
    if module is not None and module is not clbook.checks:
        return f"other {seed}"
    parts = []
    for name in sorted(name for name in sys.modules if name.startswith("clbook.checks")):
        for key, value in sorted(vars(sys.modules[name]).items()):
            if not key.startswith("__"):  # those come and go: a registry of warnings, for one
                parts += [(name, key), *_marks(value), *(mark for each in _inside(value) for mark in _marks(each))]
    return f"{hash(tuple(parts))} {seed}"


def _inside(value) -> list:
    """What a class, an object of the checks' own, or a collection holds."""
    kind = value if isinstance(value, type) else type(value)
    if kind.__module__.startswith("clbook.checks"):  # of torch's classes learners may add to
        return [held for name, held in getattr(value, "__dict__", {}).items() if name not in _PYTHON_ADDS]
    return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list | tuple) else []


# To a class: at the first pickle or copy, and at the first question for annotations.
_PYTHON_ADDS = ("__slotnames__", "__annotations__", "__annotations_cache__")


def _marks(value) -> tuple:
    parts = (id(getattr(value, name, None)) for name in ("__code__", "__defaults__", "__kwdefaults__"))
    return id(value), *parts, len(value) if isinstance(value, dict | list | tuple) else 0
