"""The labs: what learners get is what the sources make; solved they hold, blank they fail where they should."""

import ast
import csv
import functools
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import labs
import nbformat
import pytest
from answers import BY_PROPERTIES, CATALOGUE, QUESTIONS
from run_notebooks import ROOT

from clbook import checks, grading

SOURCES = grading.read_labs(grading.LABS)
EVERY_LAB = pytest.mark.parametrize("name", SOURCES)
SOLUTION = re.compile(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", re.DOTALL)
HEADING = re.compile(r"^## Task (\d+) · (.+) \((warm-up|core|stretch), (\d+) minutes, (\d+) points?\)$", re.MULTILINE)
SEED = "seed = 0  # yours, from your teacher; on your own, leave it at 0"
CALL = re.compile(r"checks\.(check_\w+)\((.*?), seed=seed\)\.require\(\)")


def cells(name, kind):
    return [cell for cell in SOURCES[name].cells if grading._kind(cell) == kind]


def code(name):
    return [cell for cell in SOURCES[name].cells if cell.cell_type == "code"]


def learners_copy(name):
    return nbformat.read(labs.LABS / f"{name}.ipynb", as_version=4)


def calls(name):
    """Of each task with a check: which check, and what it is given."""
    return {cell.id.removesuffix("-check"): CALL.search(cell.source).groups() for cell in cells(name, "check")}


# --- files ---


def test_there_are_six():
    assert [name[:4] for name in SOURCES] == [f"lab{i}" for i in range(1, 7)]


def test_the_learners_copies_are_what_the_sources_make():
    made = labs.learners_copies(labs.LABS)
    assert set(made) == {path.stem for path in labs.LABS.glob("*.ipynb")}
    stale = [name for name, text in made.items() if (labs.LABS / f"{name}.ipynb").read_text(encoding="utf-8") != text]
    assert not stale, f"make labs writes {stale} anew"


def test_a_stale_copy_is_noticed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(labs, "LABS", tmp_path)
    monkeypatch.setattr(labs, "learners_copies", lambda folder: {"lab1": "new", "lab2": "same"})
    (tmp_path / "lab1.ipynb").write_text("old")
    (tmp_path / "lab2.ipynb").write_text("same")
    (tmp_path / "lab3.ipynb").write_text("its source is gone")
    assert labs.main(["--check"]) == 1
    assert capsys.readouterr().out.endswith("lab1.ipynb, lab3.ipynb\n")
    assert (tmp_path / "lab1.ipynb").read_text() == "old"
    labs.main([])
    assert (tmp_path / "lab1.ipynb").read_text() == "new"


@EVERY_LAB
def test_no_answer_reaches_the_learner(name):
    text = (labs.LABS / f"{name}.ipynb").read_text(encoding="utf-8")
    copy = nbformat.reads(text, as_version=4)
    for marker in ("BEGIN SOLUTION", "END SOLUTION", "HIDDEN TESTS", "104_729"):
        assert marker not in text
    open_to_all = {line.strip() for cell in SOURCES[name].cells for line in SOLUTION.sub("", cell.source).splitlines()}
    shown = {line.strip() for cell in copy.cells for line in cell.source.splitlines()}
    for cell in SOURCES[name].cells:
        for region in SOLUTION.findall(cell.source):
            assert not {line.strip() for line in region.splitlines()} & shown - open_to_all
    for cell in copy.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
        assert set(cell.metadata) <= {"nbgrader", "deletable", "editable", "tags"}


@EVERY_LAB
def test_a_source_has_no_outputs_and_says_what_its_tasks_are(name):
    source = SOURCES[name]
    assert all(not cell.outputs and cell.execution_count is None for cell in code(name))
    assert code(name)[0].source == SEED
    assert code(name)[1].id == "setup" and grading._kind(code(name)[1]) == "locked"
    tasks = [match.groups() for cell in source.cells for match in HEADING.finditer(cell.source)]
    assert [int(number) for number, *_ in tasks] == list(range(1, len(tasks) + 1))
    assert 6 <= len(tasks) <= 10
    assert tasks[0][2] == "warm-up" and "stretch" in [difficulty for _, _, difficulty, *_ in tasks]
    assert 60 <= sum(int(minutes) for *_, minutes, _ in tasks) <= 90
    points = {cell.id.removesuffix("-check"): cell.metadata.nbgrader.points
              for kind in ("check", "written") for cell in cells(name, kind)}  # fmt: skip
    assert points == {f"task{number}": int(points) for number, *_, points in tasks}


@EVERY_LAB
def test_each_check_cell_asks_and_asks_again_with_another_seed(name):
    for cell in cells(name, "check"):
        visible = grading.HIDDEN.sub("", cell.source).strip().splitlines()
        task = cell.id.removesuffix("-check").removeprefix("task")
        assert visible[0].startswith(f"# Task {task}: ")
        assert CALL.search(visible[-1])
        hidden = cell.source.partition("### BEGIN HIDDEN TESTS")[2]
        assert "seed=seed + 104_729" in hidden or "check_answer" in hidden


@EVERY_LAB
def test_some_answers_depend_on_the_seed(name):
    assert sum(check == "check_answer" for check, _ in calls(name).values()) >= 2


# --- the catalogue in the lab: each mutant fails in its own task ---


def needed(name):
    """The code cells of a lab that its answers stand on: all but experiments whose names no answer uses."""
    kept, names = [], {"seed"}
    for cell in reversed(code(name)):
        found = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name | ast.FunctionDef)]
        made = {node.name if isinstance(node, ast.FunctionDef) else node.id
                for node in found if isinstance(getattr(node, "ctx", ast.Store()), ast.Store)}  # fmt: skip
        if grading._kind(cell) in ("solution", "locked") or made & names:
            kept.append(cell)
            names |= {node.id for node in found if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return reversed(kept)


@functools.cache
def solved(name):
    """The names that a solved lab defines."""
    scope = {}
    for cell in needed(name):
        exec(cell.source, scope)
    return scope


def failing(name, scope, tasks):
    """Those of the tasks whose visible checks do not hold."""
    held = {task: eval("checks.{}({}, seed=seed)".format(*calls(name)[task]), scope) for task in tasks}
    return {task for task, report in held.items() if not report}


def mutants(name):
    """(task, what its check is given, a wrong answer) of all in the catalogue."""
    for task, (check, given) in calls(name).items():
        if check == "check_answer":
            question, answer = (part.strip() for part in given.split(","))
            yield from ((task, answer, wrong(0)) for wrong, _ in QUESTIONS[question.strip('"')][0])
        else:
            answers = (CATALOGUE | BY_PROPERTIES)[getattr(checks, check)]
            yield from ((task, given, wrong) for wrong, _ in answers[0])


def calling(name, target, scope):
    """The tasks whose answers use the answer `target`."""
    answers = {task: scope[given] for task, (check, given) in calls(name).items() if check != "check_answer"}
    return {task for task, function in answers.items() if target in function.__code__.co_names}


@EVERY_LAB
@pytest.mark.slow
def test_each_wrong_answer_fails_in_its_own_task_only(name, record_property):
    scope, seen = solved(name), set()
    assert failing(name, scope, calls(name)) == set()
    count = 0
    for task, target, wrong in mutants(name):
        follow = calling(name, target, scope)
        # The first of each task is tried on all of them, the rest where alone they can tell.
        tried = {task} | follow if task in seen else set(calls(name))
        failed = failing(name, scope | {target: wrong}, tried)
        assert {task} <= failed <= {task} | follow
        seen.add(task)
        count += 1
    assert count >= 5 * len(calls(name))
    record_property("told", f"{name}: {count} wrong answers, each fails in its own task only")


# --- run as learners run them ---


def nbval_lax(path):
    """Code cell -> whether it ran, and all that pytest printed."""
    # -rN: no summary, which in CI repeats every failure in full.
    command = [sys.executable, "-m", "pytest", "-v", "-rN", "--color=no", "-p", "no:cacheprovider", "--nbval-lax"]
    command += ["--nbval-current-env", "--nbval-cell-timeout=300", f"--rootdir={ROOT}", f"--confcutdir={ROOT}"]
    done = subprocess.run([*command, path], cwd=ROOT, capture_output=True, text=True, timeout=400)
    found = re.findall(r"::Cell (\d+) (PASSED|FAILED|XFAIL|SKIPPED)", done.stdout)
    return {int(number): outcome == "PASSED" for number, outcome in found}, done.stdout


@pytest.mark.slow
@EVERY_LAB
def test_the_blank_lab_fails_in_its_check_cells_only_as_not_started(name):
    ran, said = nbval_lax(labs.LABS / f"{name}.ipynb")
    names = [cell.id for cell in learners_copy(name).cells if cell.cell_type == "code"]
    assert len(ran) == len(names), said
    checked = {cell.id for cell in cells(name, "check")}
    assert {names[number] for number, passed in ran.items() if not passed} == checked, said
    assert said.count("\n○ Not started: ") == len(checked), said  # all that Jupyter shows, and no frame of ours
    assert f"0 of {len(checked)} tasks hold" in said


# --- nbgrader: the whole way ---


def submission(name, done):
    """A learner's copy in which the tasks in `done` are as the source has them."""
    notebook = learners_copy(name)
    solutions = {cell.id: cell.source for cell in cells(name, "solution")}
    for cell in notebook.cells:
        if cell.id in done:
            cell.source = solutions[cell.id]
    return notebook


def nbgrader(folder, *arguments):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls alembic
    environment = os.environ | {"JUPYTER_PREFER_ENV_PATH": "1", "PATH": path}
    command = [sys.executable, "-m", "nbgrader", *arguments, f"--Exchange.root={folder / 'exchange'}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_nbgrader_gives_the_points_that_were_earned(tmp_path):
    name = next(iter(SOURCES))
    points = {cell.id.removesuffix("-check"): cell.metadata.nbgrader.points for cell in cells(name, "check")}
    half = set(itertools.islice(points, len(points) // 2))
    shutil.copytree(labs.LABS / "source" / name, tmp_path / "source" / name)
    shutil.copy(labs.LABS / "nbgrader_config.py", tmp_path)
    (tmp_path / "exchange").mkdir()
    (tmp_path / "exchange").chmod(0o777)
    nbgrader(tmp_path, "generate_assignment", name)
    nbgrader(tmp_path, "release_assignment", name)
    released = list((tmp_path / "exchange").rglob(f"{name}.ipynb"))
    assert [path.read_text() for path in released] == [(labs.LABS / f"{name}.ipynb").read_text()]
    for learner, done in {"right": set(points), "half": half, "empty": set()}.items():
        folder = tmp_path / "submitted" / learner / name
        folder.mkdir(parents=True)
        nbformat.write(submission(name, done), folder / f"{name}.ipynb")
    nbgrader(tmp_path, "autograde", name, "--create")
    nbgrader(tmp_path, "generate_feedback", name)
    nbgrader(tmp_path, "export", "--to", str(tmp_path / "grades.csv"))
    with open(tmp_path / "grades.csv", newline="") as file:
        scores = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert scores == {"right": sum(points.values()), "half": sum(points[task] for task in half), "empty": 0}
    assert all((tmp_path / "feedback" / learner / name / f"{name}.html").exists() for learner in scores)


def test_every_lab_is_in_the_teachers_notes():
    notes = Path(labs.LABS / "TEACHING.md").read_text(encoding="utf-8")
    for name in SOURCES:
        assert f"`{name}`" in notes
