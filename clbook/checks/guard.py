"""Whether the checks are still as they were: a grader asks before and after a learner's code has run."""

import sys

import clbook.checks


def fingerprint(module=None, seed="") -> str:
    """A text that changes when anything in `clbook.checks` is replaced, or `module` is something else; and the seed."""
    if module not in (None, clbook.checks):
        return f"other {seed}"
    parts = []
    for name in sorted(name for name in sys.modules if name.startswith("clbook.checks")):
        for key, value in sorted(vars(sys.modules[name]).items()):
            if not key.startswith("__"):  # those come and go: a registry of warnings, for one
                inside = vars(value) if isinstance(value, type) else value if isinstance(value, dict) else {}
                parts.append((name, key, id(value), id(getattr(value, "__code__", None)), *map(id, inside.values())))
    return f"{hash(tuple(parts))} {seed}"
