"""Run lessons in place, so that only what really changed shows in git.

    python tools/run_notebooks.py              every lesson
    python tools/run_notebooks.py 00 03        those whose names begin so; a path will do as well
    python tools/run_notebooks.py --check      run nothing, only name what is wrong with the files
    python tools/run_notebooks.py --seed 3     do the claims hold with `seed = 3` for `seed = 0`? Nothing is written

A lesson that fails in a cell stays as it was.
"""

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
import time
import warnings
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
CELL_TIMEOUT = 300  # seconds, as under nbval
MAX_BYTES = 1_500_000  # GitHub stops showing notebooks somewhat above this
WIDGET = "application/vnd.jupyter.widget-view+json"
SEED = re.compile(r"^seed = 0\b", re.MULTILINE)
ANSI = re.compile(r"\x1b\[[0-9;]*m")
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lessons", nargs="*", help="beginnings of lesson names, or paths; all unless told")
    parser.add_argument("--check", action="store_true", help="run nothing, only check the files")
    parser.add_argument("--seed", type=int, help="run with another seed, write nothing, name the claims that fail")
    options = parser.parse_args(arguments)
    paths = find_lessons(options.lessons)
    if options.seed is not None:
        held = [claims_hold(path, options.seed) for path in paths]
        return 0 if all(held) else 1
    if not options.check:
        ran = [run(path) for path in paths]  # all of them, whether one fails or not
        return 0 if all(ran) else 1
    wrong = [f"{path.name}: {problem}" for path in paths for problem in problems(path)]
    print("\n".join(wrong) or f"{len(paths)} lessons checked, nothing wrong")
    return 1 if wrong else 0


def find_lessons(names: list[str], folder: Path = ROOT / "notebooks") -> list[Path]:
    """The notebooks that `names` stand for. Exits with a sentence where a name stands for none."""
    found = []
    for name in names or ["[0-9]"]:
        matches = [Path(name)] if name.endswith(".ipynb") else sorted(folder.glob(f"{name}*.ipynb"))
        if not matches or not matches[0].exists():
            sys.exit(f"no lesson {name!r} in {folder}" if names else f"no lessons in {folder}")
        found += matches
    return found


def prepare_environment() -> None:
    """What kernels inherit, here and under nbval: the same hashes, and plots as a learner gets them."""
    os.environ.pop("MPLBACKEND", None)  # an exported Agg would make plt.show() silent
    os.environ.setdefault("PYTHONHASHSEED", "0")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads wait for each other where another process takes a core


def run(path: Path) -> bool:
    """Execute one notebook, normalise it and put it in its own place, all or nothing."""
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = nbformat.read(path, as_version=4)
    seconds = {}
    try:
        _execute(notebook, path.parent, seconds)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        _tell_failure(path, notebook, max(seconds, default=0), error)
        return False
    notebook.metadata["clbook"] = {"source_hash": source_hash(notebook)}
    write(normalise(notebook), path)
    _tell_times(path, notebook, seconds)
    return True


def claims_hold(path: Path, seed: int) -> bool:
    """Run a copy of the lesson with another seed, past cells that fail; name those."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    changed = [cell for cell in code if SEED.search(cell.source)]
    if len(changed) != 1:
        print(f"{path.name}: expected one line `seed = 0`, found {len(changed)}", file=sys.stderr)
        return False
    changed[0].source = SEED.sub(f"seed = {seed}", changed[0].source)
    _execute(notebook, path.parent, {}, allow_errors=True)
    failed = [(cell.id, output) for cell in code for output in cell.outputs if output.output_type == "error"]
    for cell_id, output in failed:
        where = next((line for line in output.traceback if "->" in line), "")
        where = next((line.strip() for line in ANSI.sub("", where).splitlines() if "->" in line), "")
        print(f"{path.name}, seed {seed}: cell {cell_id}: {output.ename} {output.evalue} {where}", flush=True)
    if not failed:
        print(f"{path.name}, seed {seed}: all claims hold", flush=True)
    return not failed


def _execute(notebook, folder: Path, seconds: dict[int, float], **options) -> None:
    """Run all cells in `folder`; `seconds` tells of each cell, by its index, how long it took, or that it began."""
    from nbclient import NotebookClient

    prepare_environment()
    started = {}

    def begin(cell, cell_index):
        started[cell_index], seconds[cell_index] = time.perf_counter(), 0.0

    def end(cell, cell_index, execute_reply):
        seconds[cell_index] = time.perf_counter() - started[cell_index]

    with tempfile.TemporaryDirectory(prefix="lesson-") as sockets:
        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            startup_timeout=120,
            kernel_name="python3",
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(folder)}},
            on_cell_execute=begin,
            on_cell_executed=end,
            **options,
        )
        if os.name == "posix":  # kernels over TCP race for ports, and one that loses hangs
            client.config.KernelManager.update(transport="ipc", ip=os.path.join(sockets, "k"))
        client.execute()


def write(notebook, path: Path) -> None:
    """Replace the file in one step: an interruption leaves the old one or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        nbformat.write(notebook, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def source_hash(notebook) -> str:
    """Of all code. Stored when a notebook runs, it tells later that outputs belong to the code above them."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]


def normalise(notebook):
    """Take out of a notebook, in place, what changes without meaning: versions, timing, editor state."""
    kept = notebook.metadata.get("clbook", {}).get("source_hash")
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    if kept:
        notebook.metadata["clbook"] = {"source_hash": kept}
    ids = set()
    for index, cell in enumerate(notebook.cells):
        cell.metadata = _only(cell.metadata, "tags", "nbgrader", "editable", "deletable")
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell.get("id", "")) or cell.id in ids:
            cell["id"] = hashlib.sha256(f"{index}:{cell.source}".encode()).hexdigest()[:8]
        ids.add(cell.id)
        if cell.cell_type == "code":
            cell.outputs = _merge_streams(filter(lambda output: not _is_dead(output, cell), cell.outputs))
            for output in cell.outputs:
                _normalise_output(output)
    return notebook


def _is_dead(output, cell) -> bool:
    """A progress bar or another bare widget: without its kernel, a line such as "0%| | 0/300". It has to stay
    where nbval compares the cell, for it counts the outputs."""
    data = output.get("data", {})
    return WIDGET in data and "image/png" not in data and "nbval-ignore-output" in cell.metadata.get("tags", [])


def _merge_streams(outputs) -> list:
    merged = []
    for output in outputs:
        if output.output_type == "stream" and merged and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def _normalise_output(output) -> None:
    if "data" not in output:
        return
    output.data.pop(WIDGET, None)  # the id of a model that died with its kernel
    pictures = {
        kind: _only(about, "alt", "width", "height")
        for kind, about in output.metadata.items()
        if kind.startswith("image/")
    }
    output.metadata = nbformat.from_dict(pictures)


def _only(metadata, *keys):
    return nbformat.from_dict({key: metadata[key] for key in keys if key in metadata})


def problems(path: Path) -> list[str]:
    """What keeps a lesson's file from being committed, in words; empty where all is well."""
    text = path.read_text(encoding="utf-8")
    try:
        with warnings.catch_warnings(action="error", category=FutureWarning):  # two cells with one id only warn
            nbformat.validate(nbformat.from_dict(json.loads(text)))
    except (json.JSONDecodeError, nbformat.ValidationError, FutureWarning) as error:
        return [f"is no valid notebook: {str(error).splitlines()[0]}"]
    found = [] if len(text.encode()) <= MAX_BYTES else [f"has {len(text.encode()):,} bytes, over {MAX_BYTES:,}"]
    notebook = nbformat.reads(text, as_version=4)
    if notebook.metadata.get("clbook", {}).get("source_hash") != source_hash(notebook):
        found.append("is stale: its code was edited after it was run; make notebooks runs it again")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code):  # counted as nbval counts: code cells, from 0
        found += [f"code cell {number} {problem}" for problem in _cell_problems(cell, number + 1)]
    if nbformat.writes(normalise(notebook)).rstrip("\n") != text.rstrip("\n"):
        found.append("is not normalised (metadata, ids, widget views or split streams); make notebooks does it")
    return found


def _cell_problems(cell, count: int):
    if not cell.source.strip():
        yield "is empty: remove it"
    elif cell.execution_count != count:
        yield f"has execution count {cell.execution_count}, not {count}: run it from top to bottom"
    if {"nbval-skip", "skip-execution"} & set(cell.metadata.get("tags", [])) or "NBVAL_SKIP" in cell.source:
        yield "is skipped by the tests: a lesson runs whole"
    for output in cell.outputs:
        data, metadata = output.get("data", {}), output.get("metadata", {})
        if output.output_type == "error":
            yield f"ends in {output.ename}"
        if output.get("name") == "stderr":
            yield f"writes to stderr: {output.text.strip().splitlines()[-1][:100]!r}"
        if WIDGET in data:
            yield "stores a widget view, which shows as nothing without its kernel"
        if "image/png" in data and not metadata.get("image/png", {}).get("alt", "").strip():
            yield "has a picture without alt text"


def _tell_failure(path: Path, notebook, index: int, error: Exception) -> None:
    number = sum(cell.cell_type == "code" for cell in notebook.cells[:index])
    print(f"{path}: code cell {number} failed, the file stays as it was\n{error}", file=sys.stderr)


def _tell_times(path: Path, notebook, seconds: dict[int, float]) -> None:
    print(f"{path}: {sum(seconds.values()):.1f} s")
    for index in sorted(seconds, key=seconds.get, reverse=True)[:3]:
        number = sum(cell.cell_type == "code" for cell in notebook.cells[:index])
        first = notebook.cells[index].source.strip().splitlines()[0]
        print(f"  {seconds[index]:5.1f} s  code cell {number}: {first[:70]}")


if __name__ == "__main__":
    sys.exit(main())
