"""Grade a folder of submitted labs: each in a process of its own, with limits, and a page of feedback for each.

Each submission is rebuilt on the lab's source, so that its checks are as they were handed out, hidden tests included,
and run by `submission`. What that keeps apart, and what it does not, is said in notebooks/labs/TEACHING.md.
"""

import csv
import html
import io
import itertools
import re
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

import nbformat

from clbook import submission
from clbook.files import write_whole
from clbook.submission import Limits

LABS = Path(__file__).parents[1] / "notebooks" / "labs" / "source"
HIDDEN = re.compile(r"\n?[ \t]*### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS", re.DOTALL)
HOLDS, BY_HAND = "holds", "by hand"


@dataclass
class Task:
    """One task of one submission."""

    name: str
    points: int
    title: str  # as the check cell says it: "Task 5: semi_hard_mask"
    verdict: str  # "holds", "not yet", "not started", "by hand", or what kept the check from being run
    message: str = ""

    @property
    def earned(self) -> int:
        return self.points if self.verdict == HOLDS else 0


@dataclass
class Grade:
    """What is known of one submission."""

    learner: str
    file: str
    lab: str = ""
    seed: str = ""
    tasks: list[Task] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def points(self) -> int:
        return sum(task.earned for task in self.tasks)

    @property
    def possible(self) -> int:
        return sum(task.points for task in self.tasks if task.verdict != BY_HAND)

    @property
    def by_hand(self) -> int:
        return sum(task.points for task in self.tasks if task.verdict == BY_HAND)


# --- a folder of submissions ---


def grade(
    folder: Path, *, out: Path | None = None, labs: Path = LABS, limits: Limits | None = None, jobs: int = 1
) -> list[Grade]:
    """Grade every notebook in `folder`, at any depth, `jobs` at a time; write `grades.csv` and `feedback/` to `out`.

    `out` is `folder/grades` unless told, and is left out of the search. The table is written anew after each
    submission, so that an interruption loses only those under way. A submission can fail in any way it likes: it
    costs only itself. Raises ValueError where there is nothing to grade or nothing to grade it by.
    """
    folder = Path(folder)
    out = folder / "grades" if out is None else Path(out)
    references = read_labs(Path(labs))
    paths = [path for path in sorted(folder.rglob("*.ipynb")) if not _is_skipped(path.relative_to(folder))]
    paths = [path for path in paths if out.resolve() not in path.resolve().parents]
    if not paths:
        raise ValueError(f"expected notebooks to grade, *.ipynb, in {folder}; found none")
    (out / "feedback").mkdir(parents=True, exist_ok=True)

    def one(path: Path) -> Grade:
        return grade_one(path, references, limits or Limits(), learner=_learner(path, folder))

    grades, pages = {}, set()
    with ThreadPoolExecutor(jobs) as pool:  # threads that wait for processes
        under_way = {pool.submit(one, path): path for path in paths}
        try:
            for done in as_completed(under_way):
                grades[under_way[done]] = result = done.result()
                write_whole(out / "feedback" / f"{_page_name(result, pages)}.html", feedback(result).encode())
                try:
                    write_whole(out / "grades.csv", table([grades[path] for path in paths if path in grades]).encode())
                except PermissionError:  # Windows: a spreadsheet has it open
                    print(f"{out / 'grades.csv'} is open elsewhere; close it, the next one holds all grades")
                print(_line(result), flush=True)
        finally:  # after Ctrl-C, which the others' processes haven't heard
            for waiting in under_way:
                waiting.cancel()
            while wait(under_way, 0.2).not_done:
                submission.stop()
    write_whole(out / "grades.csv", table([grades[path] for path in paths]).encode())
    return [grades[path] for path in paths]


def read_labs(folder: Path) -> dict:
    """The labs' sources by name. Raises ValueError where there are none."""
    paths = sorted(folder.glob("*/*.ipynb"))
    if not paths:
        raise ValueError(
            f"expected the labs' sources, LAB/LAB.ipynb, in {folder}; found none. Grade from a clone of the course, or "
            "say with --labs where they are"
        )
    return {path.stem: nbformat.read(path, as_version=4) for path in paths}


def key(seeds: list[int], labs: Path = LABS) -> str:
    """The right answers to the labs' questions, a column a seed."""
    from clbook import checks

    answers = [checks.answers(seed) for seed in seeds]
    lines = []
    for lab, source in read_labs(Path(labs)).items():
        asked = re.findall(r'check_answer\(\s*"(\w+)"', "\n".join(_visible(cell) for cell in source.cells))
        lines.append(f"{lab:32}" + "".join(f"{f'seed {seed}':>20}" for seed in seeds))
        lines += [f"  {name:30}" + "".join(f"{key[name]:>20}" for key in answers) for name in dict.fromkeys(asked)]
    return "\n".join(lines)


def grade_one(path: Path, references: dict, limits: Limits, *, learner: str = "") -> Grade:
    """Grade one submission; whatever is wrong with it is told in the result."""
    result = Grade(*map(_printable, (learner or path.stem, str(path))))
    try:
        handed_in = nbformat.read(path, as_version=4)
        nbformat.validate(handed_in, relax_add_props=True)  # ids in an older format, say, harm nobody
    except Exception as error:  # whatever a broken file makes a reader raise
        result.remarks.append(f"is no notebook that can be read: {type(error).__name__}: {str(error)[:200]}")
        return result
    result.lab = recognise(handed_in, references)
    if not result.lab:
        result.remarks.append(f"is none of the labs: {', '.join(references)}")
        return result
    try:
        _run(handed_in, references[result.lab], limits, result)
    except Exception as error:  # there are more ways to break a notebook than anyone can list
        result.remarks.append(f"could not be graded: {type(error).__name__}: {_printable(str(error)[:200])}")
    return result


def _run(handed_in, reference, limits: Limits, result: Grade) -> None:
    notebook, result.remarks = rebuild(handed_in, reference)
    ran = submission.run_apart(notebook, limits)
    result.seed = _printable(ran["seed"])
    result.remarks += map(_printable, ran["remarks"])
    tasks = [_judge(cell, ran["cells"]) for cell in reference.cells if _kind(cell) in ("check", "written")]
    result.tasks = [replace(task, verdict=_printable(task.verdict), message=_printable(task.message)) for task in tasks]


def _printable(text: str) -> str:
    """Without the halves of characters that a file name or a message may hold, and no file can."""
    return text.encode("utf-8", "backslashreplace").decode()


def recognise(handed_in, references: dict) -> str:
    """The lab that shares most cells with the submission; "" if none shares a check."""

    def shared(name: str) -> int:
        checks = {_visible(cell) for cell in references[name].cells if _kind(cell) == "check"}
        return sum(cell.source in checks for cell in handed_in.cells)

    best = max(references, key=shared)
    if shared(best):
        return best
    titles = {name: reference.cells[0].source.splitlines()[0] for name, reference in references.items()}
    return next((name for name in titles if any(titles[name] in cell.source for cell in handed_in.cells)), "")


def rebuild(handed_in, reference) -> tuple[nbformat.NotebookNode, list[str]]:
    """The submission as it will be run: the learner's cells in their order, but every locked cell as the lab has it,
    back in its place if it was deleted. And what was found to be changed."""
    locked = {cell.id: cell for cell in reference.cells if _kind(cell) in ("check", "locked")}
    wanted = [cell.id for cell in reference.cells if _kind(cell)]
    names = [_name(cell) for cell in handed_in.cells]
    # Where a tool has taken the names away, the text tells.
    by_text = {_visible(cell).strip(): name for name, cell in locked.items() if name not in names}
    names = [by_text.get(cell.source.strip(), name) for name, cell in zip(names, handed_in.cells, strict=True)]
    cells, placed, remarks = [], [], []
    for i, (name, cell) in enumerate(zip(names, handed_in.cells, strict=True)):
        if name in locked:
            # Copied by the learner: of a check the last counts, as with nbgrader, which what it checks stands above.
            if name in (names[i + 1 :] if _kind(locked[name]) == "check" else names[:i]):
                continue
            if cell.source.strip() != _visible(locked[name]).strip():
                remarks.append(f"cell {name} was edited; it was run as handed out")
            cell = locked[name]
        if name in wanted:
            placed.append(name)
        if cell.cell_type == "code":
            cells.append(nbformat.v4.new_code_cell(cell.source, id=name if name in wanted else f"own-{len(cells)}"))
    for place, name in enumerate(wanted):
        if name in placed:
            continue
        remarks.append(f"cell {name} was deleted" + ("; it was put back" if name in locked else ""))
        if name in locked and locked[name].cell_type == "code":
            before = [i for i, cell in enumerate(cells) if cell.id in wanted[:place]]
            cells.insert(max(before, default=-1) + 1, nbformat.v4.new_code_cell(locked[name].source, id=name))
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": reference.metadata.kernelspec})
    return notebook, remarks


def _judge(cell, ran: dict) -> Task:
    """The task of a check cell (or a written one) of the source, by what happened to its cells."""
    name, points = cell.id.removesuffix("-check"), cell.metadata.nbgrader.points
    first = cell.source.splitlines()[0]
    about = name, points, first.removeprefix("# ") if first.startswith("# Task") else name
    if _kind(cell) == "written":
        return Task(*about, BY_HAND)
    check, work = ran.get(cell.id), ran.get(name)
    if check is None:
        return Task(*about, "not run", "The run ended before this check.")
    if check["status"] == "ok":
        return Task(*about, HOLDS)
    if work is None:
        return Task(*about, "deleted", "The cell of this task is not there.")
    if work["status"] != "ok":  # whatever the check says follows from this
        return Task(*about, work["status"], work["message"])
    if check["status"] == "error" and (verdict := check["message"].partition(":")[0]) in ("Not yet", "Not started"):
        return Task(*about, verdict.lower(), check["message"])
    return Task(*about, check["status"], check["message"])


def _kind(cell) -> str:
    """What nbgrader's metadata make of a cell: check, written, solution, locked; "" for a plain one."""
    about = cell.metadata.get("nbgrader")
    if not about:
        return ""
    if about.get("grade"):
        return "written" if about.get("solution") else "check"
    return "solution" if about.get("solution") else "locked"


def _name(cell) -> str:
    return str((cell.metadata.get("nbgrader") or {}).get("grade_id") or cell.get("id", ""))


def _visible(cell) -> str:
    return HIDDEN.sub("", cell.source)


def _is_skipped(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)  # .ipynb_checkpoints


def _learner(path: Path, folder: Path) -> str:
    """Of LEARNER/lab.ipynb the folder, of learner.ipynb the file."""
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else path.stem


# --- what the teacher gets ---


def table(grades: list[Grade]) -> str:
    """The grades as CSV: a row a submission."""
    file = io.StringIO()
    most = max((len(grade.tasks) for grade in grades), default=0)
    writer = csv.writer(file, lineterminator="\n")
    names = [f"task{i + 1}" for i in range(most)]
    writer.writerow(["learner", "lab", "seed", "points", "possible", "by_hand", *names, "remarks", "file"])
    for grade in grades:
        tasks = ["" if task.verdict == BY_HAND else task.earned for task in grade.tasks]
        tasks += [""] * (most - len(tasks))
        row = [grade.learner, grade.lab, grade.seed, grade.points, grade.possible, grade.by_hand, *tasks]
        writer.writerow([_plain(x) for x in [*row, "; ".join(grade.remarks), grade.file]])
    return file.getvalue()


def _plain(value):
    """Text that a spreadsheet won't take for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t") else value


def feedback(grade: Grade) -> str:
    """The page for the learner: each task, what its check said, and what was changed or lost. No hidden tests."""
    rows = []
    for task in grade.tasks:
        earned = f"{task.points} by hand" if task.verdict == BY_HAND else f"{task.earned} of {task.points}"
        cells = f"<td>{html.escape(task.title)}</td><td>{html.escape(task.verdict)}</td><td>{earned}</td>"
        rows.append(f"<tr>{cells}<td><pre>{html.escape(task.message)}</pre></td></tr>")
    remarks = "".join(f"<li>{html.escape(text)}</li>" for text in grade.remarks)
    by_hand = f", and up to {grade.by_hand} by hand" if grade.by_hand else ""
    title = html.escape(f"{grade.learner}: {grade.lab or 'not recognised'}")
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ border-bottom: 1px solid #ccc; padding: 0.4em 0.8em 0.4em 0; text-align: left; vertical-align: top }}
pre {{ margin: 0; white-space: pre-wrap }}
</style></head><body>
<h1>{title}</h1>
<p><strong>{grade.points} of {grade.possible} points</strong>{by_hand}. Seed {html.escape(grade.seed) or "unknown"}.</p>
<table><thead><tr><th>Task</th><th>Verdict</th><th>Points</th><th>What the check said</th></tr></thead>
<tbody>{"".join(rows)}</tbody></table>
{f"<h2>Remarks</h2><ul>{remarks}</ul>" if remarks else ""}
</body></html>
"""


def _line(grade: Grade) -> str:
    remarks = f"  ({'; '.join(grade.remarks)})" if grade.remarks else ""
    return f"{grade.learner}  {grade.lab or 'no lab'}  {grade.points}/{grade.possible}{remarks}"


def _page_name(grade: Grade, taken: set[str]) -> str:
    """A file name of its own, also where a learner handed in the same lab twice."""
    name = re.sub(r"[^\w.-]+", "_", f"{grade.learner[:40]}-{grade.lab}".strip("-"))  # a name has 255 bytes at most
    names = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
    name = next(each for each in names if each.casefold() not in taken)  # Anna and anna are one file elsewhere
    taken.add(name.casefold())
    return name
