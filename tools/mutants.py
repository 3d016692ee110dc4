"""How many small errors in the code do its tests notice?

    make mutants, make mutants MODULE=moco, or
    .venv/bin/python tools/mutants.py [MODULE ...] [--sample 100] [--seed 0] [--processes 2]

The mutations are cosmic-ray's: an operator or a comparison swapped, a number off by one, a condition negated, a
decorator taken off. Its own runner is left aside: it edits the working tree, one mutant at a time, and can't draw a
sample. (mutmut 3 skips decorated functions, and `@torch.no_grad()` stands on the heart of `moco`.) Here each process
has a copy of the project, and a module's mutants face its own tests, tests/test_<module>.py. Operators in annotations
are left alone, swaps that could only be a TypeError (`+` to `>>`) aren't drawn, and each place breaks in one way, so
that the share killed isn't flattered.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_item import MutationSpec, TestOutcome

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("similarity", "losses", "moco", "augmentations")
COPIED = ("clbook", "tests", "tools", "benchmarks", "conftest.py", "pyproject.toml", "constraints.txt")
BINARY = ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_Mul", "Pow_Mul", "BitOr_BitAnd",
          "BitAnd_BitOr")  # fmt: skip
COMPARISONS = ("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt",
               "Is_IsNot", "IsNot_Is")  # fmt: skip
OPERATORS = (
    *(f"core/ReplaceBinaryOperator_{swap}" for swap in BINARY),
    *(f"core/ReplaceComparisonOperator_{swap}" for swap in COMPARISONS),
    *(f"core/ReplaceUnaryOperator_Delete_{sign}" for sign in ("USub", "Invert", "Not")),
    *(f"core/{name}" for name in ("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr",
                                  "ReplaceOrWithAnd", "NumberReplacer", "RemoveDecorator", "ZeroIterationForLoop")),
)  # fmt: skip


def mutations(source: str, path: Path) -> list[MutationSpec]:
    """One mutation for each place of the source that has any; which one, random draws."""
    tree, places, annotated = get_ast(source), {}, annotations(source)
    for name in OPERATORS:
        operator = plugins.get_operator(name)()
        found = (place for node in ast_nodes(tree) for place in operator.mutation_positions(node))
        for occurrence, (start, end) in enumerate(found):
            if not any(first <= start < last for first, last in annotated):
                places.setdefault((start, end), []).append(MutationSpec(path, name, occurrence, start, end))
    return [random.choice(choices) for _, choices in sorted(places.items())]


def annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations stand: nothing reads them, but a swapped | there fails on import."""
    nodes = [node for parent in ast.walk(ast.parse(source))
             for node in (getattr(parent, "annotation", None), getattr(parent, "returns", None)) if node]  # fmt: skip
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in nodes]


def command(module: str) -> str:
    options = "-x -q -p no:cacheprovider -m 'not browser and not slow'"
    return f"'{sys.executable}' -m pytest {options} tests/test_{module}.py"


def enter_a_copy(root: Path, folder: str) -> None:
    """Give this process a copy of the project to break, and its tests one thread."""
    copy = tempfile.mkdtemp(dir=folder)
    for name in COPIED:
        (shutil.copytree if (root / name).is_dir() else shutil.copy)(root / name, os.path.join(copy, name))
    os.chdir(copy)
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ |= {"PYTHONPATH": os.pathsep.join([copy, *others]), "OMP_NUM_THREADS": "1"}


def seconds_unbroken(module: str) -> float:
    """How long the tests take on a copy that isn't broken; they must pass there."""
    started = time.monotonic()
    done = subprocess.run(command(module), shell=True, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"tests/test_{module}.py is red before anything is broken:\n{done.stdout[-2000:]}")
    return time.monotonic() - started


def survives(job: tuple[str, MutationSpec, float]) -> str:
    """The change as a diff without its headings, if the tests pass with it; else nothing."""
    module, mutation, limit = job
    result = mutate_and_test([mutation], command(module), limit)
    if result.test_outcome == TestOutcome.INCOMPETENT or not result.diff:
        raise RuntimeError(f"{mutation} could not be tried: {result.output}")
    return result.diff.split("\n", 3)[3] if result.test_outcome == TestOutcome.SURVIVED else ""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=MODULES, metavar="MODULE", help="all four unless told")
    parser.add_argument("--sample", type=int, default=100, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    table = ["module     places  tried  killed   share"]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ProcessPoolExecutor(
        options.processes, initializer=enter_a_copy, initargs=(ROOT, folder)
    ) as pool:  # fmt: skip
        for module in options.modules:
            random.seed(options.seed)
            path = Path("clbook", f"{module}.py")
            places = mutations((ROOT / path).read_text(encoding="utf-8"), path)
            drawn = random.sample(places, min(options.sample, len(places)))
            limit = 30 + 5 * pool.submit(seconds_unbroken, module).result()
            survivors = [d for d in pool.map(survives, [(module, mutation, limit) for mutation in drawn]) if d]
            print(f"\n== {module}: {len(survivors)} of {len(drawn)} survive", flush=True)
            print(*survivors, sep="\n", flush=True)
            killed = len(drawn) - len(survivors)
            table.append(f"{module:13}{len(places):4}{len(drawn):7}{killed:8}{killed / len(drawn):8.0%}")
    print("", *table, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
