"""Grading: what the teacher gets of submissions that are right, wrong, broken or hostile."""

import csv
import io
import json
import os
import site
import tempfile
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from clbook import cli, grading, submission
from clbook.files import write_whole
from clbook.grading import Grade, Limits, Task

COSINES = """import torch.nn.functional as F
def cosines(a, b):
    return F.normalize(a) @ F.normalize(b).T"""
CHECK = "# Task 1: cosines\nchecks.check_cosine_similarity_matrix(cosines, seed=seed).require()"
HIDDEN = "\n### BEGIN HIDDEN TESTS\nassert cosines(*[__import__('torch').ones(1, 2)] * 2) > 0.99\n### END HIDDEN TESTS"


def graded(name, *, points=None, solution=False):
    about = {"grade": points is not None, "solution": solution, "locked": not solution, "grade_id": name}
    about |= {"schema_version": 3, "task": False} | ({} if points is None else {"points": points})
    return {"id": name, "metadata": {"nbgrader": about}}


def lab(hidden=HIDDEN, first=COSINES, second="answer2 = 4 + seed", seed=0):
    """A small lab: its source, or what a learner hands in."""
    cells = [
        new_markdown_cell("# Lab 9: cosines", id="title"),
        new_code_cell(f"seed = {seed}", id="seed"),
        new_code_cell("from clbook import checks", **graded("setup")),
        new_code_cell(first, **graded("task1", solution=True)),
        new_code_cell(CHECK + hidden, **graded("task1-check", points=3)),
        new_code_cell(second, **graded("task2", solution=True)),
        new_code_cell("# Task 2: a number\nassert answer2 == 4 + seed", **graded("task2-check", points=2)),
        new_markdown_cell("Mine.", **graded("task3", points=5, solution=True)),
    ]
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def handed_in(first="def cosines(a, b):\n    ...", second="answer2 = ...", **changes):
    return lab(hidden="", first=first, second=second, **changes)


def without(notebook, *ids):
    notebook.cells = [cell for cell in notebook.cells if cell.id not in ids]
    return notebook


def with_source(notebook, name, source):
    next(cell for cell in notebook.cells if cell.id == name).source = source
    return notebook


# --- what was handed in, on the lab as it was handed out ---


def sources(notebook):
    return {cell.id: cell.source for cell in notebook.cells}


def test_what_the_learner_left_alone_is_as_the_source_has_it():
    notebook, remarks = grading.rebuild(handed_in(COSINES), lab())
    assert remarks == []
    assert sources(notebook)["task1"] == COSINES
    assert sources(notebook)["task1-check"] == CHECK + HIDDEN  # hidden tests are back


def test_an_edited_check_is_run_as_handed_out_and_told():
    notebook, remarks = grading.rebuild(with_source(handed_in(), "task1-check", "pass"), lab())
    assert sources(notebook)["task1-check"] == CHECK + HIDDEN
    assert remarks == ["cell task1-check was edited; it was run as handed out"]


def test_a_deleted_check_is_put_back_behind_its_task():
    notebook, remarks = grading.rebuild(without(handed_in(), "task1-check", "setup"), lab())
    names = list(sources(notebook))
    assert names.index("task1-check") == names.index("task1") + 1
    assert names.index("setup") < names.index("task1")
    assert remarks == ["cell setup was deleted; it was put back", "cell task1-check was deleted; it was put back"]


def test_a_deleted_answer_is_told():
    notebook, remarks = grading.rebuild(without(handed_in(), "task1", "task3"), lab())
    assert "task1" not in sources(notebook)
    assert remarks == ["cell task1 was deleted", "cell task3 was deleted"]


def test_cells_of_the_learners_own_stay_where_they_are_and_of_copied_checks_the_last_counts():
    """A wrong answer, its check, the right one further down, and the check once more, as Jupyter pastes it."""
    given = handed_in("def cosines(a, b):\n    return 1")
    copies = [given.cells[4].copy(), given.cells[2].copy()]
    for i, copy in enumerate(copies):
        copy["id"] = f"copied{i}"
    given.cells += [new_code_cell(COSINES, id="task2-check-2"), *copies]
    notebook, remarks = grading.rebuild(given, lab())
    found = [cell.source for cell in notebook.cells]
    assert remarks == []
    assert found[-2:] == [COSINES, CHECK + HIDDEN] and found.count(CHECK + HIDDEN) == 1
    assert found.count("from clbook import checks") == 1 and found.index("from clbook import checks") == 1


def test_checks_without_their_names_are_known_by_their_text():
    """Some tools take metadata and ids away."""
    given = handed_in(COSINES)
    for i, cell in enumerate(given.cells):
        cell["metadata"], cell["id"] = {}, f"cell{i}"
    notebook, _ = grading.rebuild(given, lab())
    found = [cell.source for cell in notebook.cells]
    assert found.index(CHECK + HIDDEN) == found.index(COSINES) + 1 and found.count(CHECK + HIDDEN) == 1


def test_a_check_that_a_learner_typed_is_their_own():
    """Only where names are gone does the text count: nbgrader goes by names."""
    given = handed_in(COSINES)
    given.cells.append(new_code_cell(CHECK, id="mine"))
    found = [cell.id for cell in grading.rebuild(given, lab())[0].cells]
    assert found.index("task1-check") == found.index("task1") + 1 and found[-1].startswith("own-")


def test_an_older_format_with_ids_is_read(tmp_path, monkeypatch):
    given = json.loads(nbformat.writes(handed_in(COSINES)))
    (tmp_path / "x.ipynb").write_text(json.dumps(given | {"nbformat_minor": 4}))
    monkeypatch.setattr(submission, "run_apart", lambda *_: {"cells": {}, "remarks": [], "seed": "0"})
    result = grading.grade_one(tmp_path / "x.ipynb", {"lab9": lab()}, Limits())
    assert result.lab == "lab9" and result.remarks == []


@pytest.mark.parametrize(("one", "other"), [("Anna", "anna"), ("王" * 250, "王" * 251)])
def test_each_page_has_a_file_name_of_its_own_that_every_system_takes(one, other):
    taken = set()
    names = [grading._page_name(Grade(learner, "", "lab9"), taken).lower() for learner in (one, other)]
    assert names[0] != names[1] and all(len(name.encode()) < 200 for name in names)


@pytest.mark.parametrize("change", ["renamed", "checks deleted"])
def test_a_lab_is_recognised_by_its_cells(change):
    given = handed_in() if change == "renamed" else without(handed_in(), "task1-check", "task2-check")
    other = with_source(with_source(lab(), "title", "# Lab 8"), "task1-check", "# Task 1: another")
    assert grading.recognise(given, {"other": without(other, "task2-check"), "lab9": lab()}) == "lab9"
    assert grading.recognise(new_notebook(cells=[new_code_cell("1")]), {"lab9": lab()}) == ""


# --- the table and the page ---

GRADE = Grade(
    "=HYPERLINK(1)",
    "a.ipynb",
    "lab9",
    "7",
    [
        Task("task1", 3, "Task 1: cosines", "holds"),
        Task("task2", 2, "Task 2: <a>", "not yet", "a < b\nc"),
        Task("task3", 5, "task3", "by hand"),
    ],
    ["cell <b> was edited"],
)


def test_the_table_counts_points():
    rows = list(csv.DictReader(io.StringIO(grading.table([GRADE, Grade("ben", "b.ipynb", remarks=["no"])]))))
    assert rows[0]["learner"] == "'=HYPERLINK(1)"  # no formula
    counted = ["seed", "points", "possible", "by_hand", "task1", "task2", "task3"]
    assert [rows[0][name] for name in counted] == ["7", "3", "5", "5", "3", "0", ""]
    assert [rows[1][name] for name in ("learner", "points", "task1", "remarks")] == ["ben", "0", "", "no"]


def test_the_page_escapes_what_learners_wrote():
    page = grading.feedback(GRADE)
    assert "a &lt; b\nc" in page and "cell &lt;b&gt; was edited" in page
    assert "3 of 5 points" in page and "up to 5 by hand" in page
    assert "<b>" not in page and "<td>Task 2: &lt;a&gt;</td>" in page


def test_labs_that_are_not_there_and_folders_without_notebooks(tmp_path):
    with pytest.raises(ValueError, match="expected the labs' sources"):
        grading.grade(tmp_path, labs=tmp_path)
    put(lab(), tmp_path / "labs" / "lab9" / "lab9.ipynb")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"expected notebooks to grade, \*.ipynb, in .*empty; found none"):
        grading.grade(tmp_path / "empty", labs=tmp_path / "labs")


def test_the_same_lab_handed_in_twice_has_two_pages():
    taken = set()
    assert [grading._page_name(Grade("anna b", "", "lab9"), taken) for _ in range(3)] == [
        "anna_b-lab9",
        "anna_b-lab9-2",
        "anna_b-lab9-3",
    ]


@pytest.mark.parametrize("name", ["cell_seconds", "memory_gb", "total_seconds"])
def test_limits_that_are_none_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: expected a number > 0, got 0"):
        Limits(**{name: 0})


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"cells": {"a": 3}, "remarks": [], "seed": 0}',
                                  '{"cells": []}'])  # fmt: skip
def test_a_result_that_a_submission_spoilt_is_told(text, tmp_path):
    (tmp_path / "result.json").write_text(text)
    assert submission._read_result(tmp_path / "result.json", b"", "")["remarks"] == ["left no result that can be read"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with named pipes")
def test_a_result_that_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "result.json")
    assert submission._read_result(tmp_path / "result.json", b"", "")["remarks"] == ["left no result that can be read"]


def test_a_result_counts_only_with_the_seal_of_its_own_run(tmp_path):
    text = json.dumps({"cells": {"task1": {"status": "ok", "message": ""}}, "remarks": [], "seed": "7"})
    sealed = {"result": text, "seal": submission._seal(text, b"secret")}
    (tmp_path / "result.json").write_text(json.dumps(sealed))
    assert submission._read_result(tmp_path / "result.json", b"secret", "")["seed"] == "7"
    assert submission._read_result(tmp_path / "result.json", b"another", "")["cells"] == {}


def test_a_seed_that_changes_on_the_way_is_told():
    result = {"cells": {"task1-check": submission.OK, "task2-check": submission.OK}, "remarks": [], "seed": ""}
    for name, shown in (("task1-check", "'m 0'"), ("task2-check", "'m 17'")):
        submission._note_guard(name, shown, "'m '", result)
    assert result["remarks"] == ["the seed was 0 before cell task2-check, then 17"]


@pytest.mark.slow
def test_a_folder_that_cannot_be_removed_costs_no_grade(monkeypatch):
    """Windows keeps what a killed kernel had open."""
    remove = tempfile.TemporaryDirectory._rmtree

    def refuse(name, ignore_errors=False, repeated=False):
        remove(name, ignore_errors=True)
        if not ignore_errors:
            raise PermissionError(name)

    monkeypatch.setattr(tempfile.TemporaryDirectory, "_rmtree", staticmethod(refuse))
    ran = submission.run_apart(new_notebook(cells=[new_code_cell("1", id="one")]), Limits())
    assert ran["cells"]["one"] == submission.OK and ran["remarks"] == []


def test_a_table_that_is_open_elsewhere_is_written_later(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(grading, "grade_one", lambda path, *_, learner: Grade(learner, str(path)))
    refused = ["once"]

    def write(path, data):
        if path.name == "grades.csv" and refused:
            raise PermissionError(refused.pop())
        write_whole(path, data)

    monkeypatch.setattr(grading, "write_whole", write)
    put(lab(), tmp_path / "labs" / "lab9" / "lab9.ipynb")
    put(lab(), tmp_path / "in" / "a.ipynb")
    grading.grade(tmp_path / "in", labs=tmp_path / "labs")
    assert "open elsewhere" in capsys.readouterr().out
    assert "a.ipynb" in (tmp_path / "in" / "grades" / "grades.csv").read_text()


def test_a_long_error_is_cut():
    output = new_output("error", ename="E", evalue="x" * 10**6, traceback=[])
    told = submission._outcome(new_code_cell("", outputs=[output]))["message"]
    assert told.startswith("E: xxx") and len(told) == submission.MAX_MESSAGE


@pytest.mark.parametrize("about", [None, {}, {"grade_id": ["a"]}])
def test_cells_with_other_metadata_than_nbgraders_are_the_learners_own(about):
    given = handed_in(COSINES)
    given.cells.append(new_code_cell("mine = 1", metadata={"nbgrader": about}))
    notebook, remarks = grading.rebuild(given, lab())
    assert remarks == [] and notebook.cells[-1].source == "mine = 1"


def test_a_notebook_that_breaks_the_grading_costs_only_itself(tmp_path):
    """Half of a character, which JSON can hold and no file."""
    given = handed_in(COSINES)
    given.cells.append(new_code_cell("'HALF'"))
    (tmp_path / "x.ipynb").write_text(nbformat.writes(given).replace("HALF", r"\ud83d"))
    result = grading.grade_one(tmp_path / "x.ipynb", {"lab9": lab()}, Limits(), learner="J\udcfcrgen")
    assert result.remarks[-1].startswith("could not be graded: UnicodeEncodeError")
    assert result.learner == "J\\udcfcrgen"
    assert (grading.feedback(result) + grading.table([result]) + grading._line(result)).encode()


def test_what_is_graded_is_on_disk_at_once_and_in_order(tmp_path, monkeypatch):
    """Two at a time: the first waits until the others are in the table."""
    table = tmp_path / "grades" / "grades.csv"

    def grade_one(path, references, limits, *, learner):
        deadline = time.monotonic() + 60
        while learner == "a" and not (table.exists() and table.read_text().count("\n") == 4):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return Grade(learner, str(path))

    monkeypatch.setattr(grading, "grade_one", grade_one)
    put(lab(), tmp_path / "labs" / "lab9" / "lab9.ipynb")
    for learner in "abcd":
        put(lab(), tmp_path / "in" / f"{learner}.ipynb")
    found = grading.grade(tmp_path / "in", out=tmp_path / "grades", labs=tmp_path / "labs", jobs=2)
    assert [grade.learner for grade in found] == list("abcd")
    with open(table, newline="") as file:
        assert [row["learner"] for row in csv.DictReader(file)] == list("abcd")


def test_the_key_names_the_questions_of_each_lab(tmp_path, monkeypatch, capsys):
    answers = {"kept": "0.25", "unasked": "3"}
    monkeypatch.setattr("clbook.checks.answers", lambda seed: answers | {"kept": f"{seed}/4"})
    asking = with_source(lab(), "task2-check", 'checks.check_answer("kept", answer2, seed=seed).require()')
    put(asking, tmp_path / "lab9" / "lab9.ipynb")
    assert cli.main(["key", "1", "3", "--labs", str(tmp_path)]) == 0
    found = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert found == [["lab9", "seed", "1", "seed", "3"], ["kept", "1/4", "3/4"]]


# --- the real thing: processes, limits, crashes ---


def put(notebook, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


CELL_SECONDS = 20
UNGUARDED = """import importlib, unittest.mock
checks, cosines = unittest.mock.MagicMock(), lambda *_: 1
def __import__(name):
    return importlib.import_module(name if 'guard' not in name else 'no such module')"""
RECODED = "answer2 = 4\nchecks.exercise.Report.require.__code__ = (lambda self: self).__code__"
PIPE = """import os, signal
os.remove('../result.json')
os.mkfifo('../result.json')
os.kill(os.getppid(), signal.SIGTERM)"""
FORGED = """import json, os, signal
cells = {f'task{i}-check': {'status': 'ok', 'message': ''} for i in (1, 2)}
text = json.dumps({'cells': cells, 'remarks': [], 'seed': '0'})
json.dump({'result': text, 'seal': '0' * 64}, open('../result.json', 'w'))
os.kill(os.getppid(), signal.SIGTERM)"""
ALWAYS = "answer2 = 4\nimport torch\ntorch.allclose = lambda *a, **k: True\n"
TOLERANT = "answer2 = 4\nchecks.Exercise.__init__.__defaults__ = (9.0,) * len(checks.Exercise.__init__.__defaults__)"
ADDED = "import torch\ntorch.Tensor.unit = lambda x: x / x.norm()\ntorch.Tensor.__annotations__\n"
COPIES = "import copy, torch\ncopy.copy(torch.ones(1))\n"
REPLACED = "answer2 = 4\nchecks.check_cosine_similarity_matrix = print"
CONNECT = "import socket\nsocket.create_connection(('127.0.0.1', {port}), 5)"
SUBMISSIONS = {  # learner: (notebook, verdicts of tasks 1 and 2, words that the remarks hold)
    "right": (handed_in(COSINES, "answer2 = 7", seed=3), ("holds", "holds"), ""),
    "blank": (handed_in(), ("not started", "error"), ""),
    "wrong": (handed_in(COSINES.replace("F.normalize(b)", "b"), "answer2 = 4"), ("not yet", "holds"), ""),
    "seed": (handed_in(COSINES, "answer2 = 7"), ("holds", "error"), ""),
    "endless": (handed_in("while True: print('x' * 999)", "answer2 = 4"), ("too slow", "holds"), "task1 hung"),
    "exits": (handed_in("import os; os._exit(0)", "answer2 = 4"), ("crashed", "holds"), "task1 ended"),
    "huge": (handed_in("import torch; torch.ones(1 << 36)", "answer2 = 4"), ("error", "holds"), ""),
    "typo": (handed_in("def cosines(a b)", "answer2 = 4"), ("error", "holds"), ""),
    "deleted": (without(handed_in(COSINES), "task2", "task1-check"), ("holds", "deleted"), "task1-check was deleted"),
    "edited": (with_source(handed_in(), "task1-check", "1"), ("not started", "error"), "task1-check was edited"),
    "replaced": (handed_in(COSINES, REPLACED), ("holds", "checks changed"), "the checks were changed"),
    "unguarded": (handed_in(UNGUARDED, "answer2 = 4"), ("checks changed", "checks changed"), "the checks were changed"),
    "recoded": (handed_in(COSINES, RECODED), ("holds", "checks changed"), "the checks were changed"),
    "copies": (handed_in(COPIES + COSINES, "answer2 = 4"), ("holds", "holds"), ""),
    "allclose": (handed_in(ALWAYS + COSINES.replace("F.normalize(b)", "b")), ("not yet", "error"), ""),
    "tolerant": (handed_in(COSINES, TOLERANT), ("holds", "checks changed"), "the checks were changed"),
    "added": (handed_in(ADDED + COSINES, "answer2 = 4"), ("holds", "holds"), ""),
    "forged": (handed_in(FORGED, "answer2 = 4"), ("not run", "not run"), "left no result that can be read"),
    "pipe": (handed_in(PIPE, "answer2 = 4"), ("not run", "not run"), "left no result that can be read"),
    "stranger": (new_notebook(cells=[new_code_cell("1")]), (), "is none of the labs: lab9"),
}


@pytest.fixture(scope="module")
def graded_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grading")
    put(lab(), folder / "labs" / "lab9" / "lab9.ipynb")
    for learner, (notebook, _, _) in SUBMISSIONS.items():
        put(notebook, folder / "handed in" / learner / "my lab.ipynb")
    (folder / "handed in" / "broken.ipynb").write_text('{"cells":')
    limits = ["--cell-seconds", str(CELL_SECONDS), "--memory-gb", "3"]
    assert cli.main(["grade", str(folder / "handed in"), "--labs", str(folder / "labs"), "--jobs", "2", *limits]) == 0
    with open(folder / "handed in" / "grades" / "grades.csv", newline="") as file:
        return folder / "handed in" / "grades", {row["learner"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
@pytest.mark.parametrize("learner", SUBMISSIONS)
def test_each_submission_costs_only_itself(learner, graded_folder):
    folder, rows = graded_folder
    _, verdicts, words = SUBMISSIONS[learner]
    row = rows[learner]
    points = [str(most if verdict == "holds" else 0) for most, verdict in zip((3, 2), verdicts, strict=False)]
    assert [row[f"task{i + 1}"] for i in range(len(verdicts))] == points, row
    assert words in row["remarks"] and (words or not row["remarks"])
    page = (folder / "feedback" / f"{learner}{'-lab9' if verdicts else ''}.html").read_text()
    for verdict in verdicts:
        assert f"<td>{verdict}</td>" in page
    assert "BEGIN HIDDEN" not in page and "torch').ones" not in page


@pytest.mark.slow
def test_a_file_that_is_no_notebook_is_a_row_too(graded_folder):
    folder, rows = graded_folder
    assert rows["broken"]["points"] == "0" and "is no notebook that can be read" in rows["broken"]["remarks"]
    assert rows["right"]["seed"] == "3"
    assert "line 1: import torch; torch.ones(1 &lt;&lt; 36)" in (folder / "feedback" / "huge-lab9.html").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not submission.without_network(), reason="this system has no namespaces for that")
def test_a_submission_has_no_network_nor_the_teachers_home(tmp_path, monkeypatch):
    import socket

    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "secret").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = CONNECT.format(port=server.getsockname()[1])
        look = (
            "import os, pathlib\nassert 'SECRET_TOKEN' not in os.environ\n"
            "assert not (pathlib.Path.home() / 'secret').exists()"
        )
        put(handed_in(connect, look + "\nanswer2 = 4"), tmp_path / "x.ipynb")
        result = grading.grade_one(tmp_path / "x.ipynb", {"lab9": lab()}, Limits())
    assert result.tasks[0].verdict == "error" and "OSError" in result.tasks[0].message
    assert result.tasks[1].verdict == "holds", result.tasks[1].message


@pytest.mark.slow
def test_an_interruption_ends_the_submissions_under_way(tmp_path, monkeypatch):
    """Their processes have sessions of their own, where Ctrl-C isn't heard."""

    def interrupted(futures):
        while not submission._under_way:
            time.sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(grading, "as_completed", interrupted)
    put(lab(), tmp_path / "labs" / "lab9" / "lab9.ipynb")
    for name in ("first", "second", "third"):
        put(handed_in("import time; time.sleep(999)"), tmp_path / "handed in" / f"{name}.ipynb")
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        grading.grade(tmp_path / "handed in", labs=tmp_path / "labs", jobs=2, limits=Limits(total_seconds=120))
    assert time.monotonic() - started < 60 and not submission._under_way


def test_a_submission_finds_packages_and_a_home_on_any_system(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["course", "/elsewhere"]))
    environment = submission._environment(tmp_path / "room")
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(tmp_path / "course")
    assert {environment[name] for name in ("HOME", "USERPROFILE", "APPDATA", "TEMP")} == {str(tmp_path / "room/home")}
    assert environment["PYTHONUSERBASE"] == site.getuserbase()


@pytest.mark.slow
def test_a_submission_ends_in_time_and_leaves_no_process(tmp_path):
    forks = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(999)\ntime.sleep(999)"
    put(handed_in(forks), tmp_path / "x.ipynb")
    started = time.monotonic()
    result = grading.grade_one(tmp_path / "x.ipynb", {"lab9": lab()}, Limits(total_seconds=20))
    assert "was stopped after 20 s in all" in result.remarks
    assert [task.earned for task in result.tasks] == [0, 0, 0]
    assert time.monotonic() - started < 60
