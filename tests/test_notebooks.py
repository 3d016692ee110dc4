"""The lessons' files, the tool that runs them, and whether nbval is as strict as we believe."""

import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import run_notebooks
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from run_notebooks import WIDGET, normalise, problems, source_hash

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LABS = sorted((ROOT / "notebooks/labs/source").glob("*/*.ipynb"))
ANY_DEVICE = {"00_start_here", "lab6_capstone"}  # they only hand runs to `evaluation`, which asks where the weights are
PIXEL = base64.b64encode(b"not looked at").decode()


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson_is_run_tidy_and_whole(path):
    assert problems(path) == []


@pytest.mark.parametrize("path", [*LESSONS, *LABS], ids=lambda path: path.stem)
def test_what_mixes_pictures_of_its_own_with_training_stays_on_the_processor(path):
    """A learner's views and losses draw and mask on the CPU, and so do the cells that go on with a run's parts."""
    notebook = nbformat.read(path, 4)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    trains = "training.fit(" in code and path.stem not in ANY_DEVICE
    assert not trains or re.search(r"""device(=|": )"cpu\"""", code)


# --- every problem is found -------------------------------------------------------------------------------


def lesson():
    """A notebook without a problem: text, a print, and a picture with its alt text."""
    picture = new_output("display_data", {"image/png": PIXEL, "text/plain": "a curve"})
    picture.metadata["image/png"] = {"alt": "a curve that falls"}
    cells = [
        new_markdown_cell("# A title", id="title"),
        new_code_cell("print(1)", id="one", execution_count=1, outputs=[new_output("stream", text="1\n")]),
        new_code_cell("curve()", id="two", execution_count=2, outputs=[picture]),
    ]
    notebook = new_notebook(cells=cells)
    notebook.metadata["clbook"] = {"source_hash": source_hash(notebook)}
    return normalise(notebook)


def problems_of(notebook, tmp_path):
    path = tmp_path / "00_lesson.ipynb"
    nbformat.write(notebook, path)
    return problems(path)


def test_a_good_lesson_has_no_problem(tmp_path):
    assert problems_of(lesson(), tmp_path) == []


def edit_code(notebook):
    notebook.cells[1].source = "print(1 )"


def forget_the_hash(notebook):
    del notebook.metadata["clbook"]


def clear_a_count(notebook):
    notebook.cells[1].update(execution_count=None, outputs=[])


def run_out_of_order(notebook):
    notebook.cells[1].execution_count, notebook.cells[2].execution_count = 2, 1


def empty_a_cell(notebook):
    notebook.cells[1].source = " "


def skip_a_cell(notebook):
    notebook.cells[1].metadata["tags"] = ["nbval-skip"]


def keep_an_error(notebook):
    notebook.cells[1].outputs = [new_output("error", ename="ValueError", evalue="no", traceback=[])]


def keep_a_warning(notebook):
    notebook.cells[1].outputs = [new_output("stream", name="stderr", text="UserWarning: beware\n")]


def keep_a_widget_view(notebook):
    notebook.cells[2].outputs[0].data[WIDGET] = {"model_id": "f00"}


def drop_the_alt_text(notebook):
    notebook.cells[2].outputs[0].metadata = nbformat.from_dict({"image/png": {"alt": " "}})


def keep_a_version(notebook):
    notebook.metadata.language_info["version"] = "3.11.7"


def keep_timing(notebook):
    notebook.cells[1].metadata["execution"] = {"iopub.status.busy": "2026-01-01"}


def split_a_stream(notebook):
    notebook.cells[1].outputs = [new_output("stream", text="1"), new_output("stream", text="\n")]


def make_it_huge(notebook):
    notebook.cells[0].source = "x" * run_notebooks.MAX_BYTES


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (edit_code, "is stale"),
        (forget_the_hash, "is stale"),
        (clear_a_count, "code cell 0 has execution count None"),
        (run_out_of_order, "code cell 0 has execution count 2, not 1"),
        (empty_a_cell, "code cell 0 is empty"),
        (skip_a_cell, "code cell 0 is skipped"),
        (keep_an_error, "code cell 0 ends in ValueError"),
        (keep_a_warning, "code cell 0 writes to stderr: 'UserWarning: beware'"),
        (keep_a_widget_view, "code cell 1 stores a widget view"),
        (drop_the_alt_text, "code cell 1 has a picture without alt text"),
        (keep_a_version, "is not normalised"),
        (keep_timing, "is not normalised"),
        (split_a_stream, "is not normalised"),
        (make_it_huge, "has 1,50"),
    ],
)
def test_each_problem_is_found(spoil, words, tmp_path):
    notebook = lesson()
    spoil(notebook)
    assert any(words in problem for problem in problems_of(notebook, tmp_path))


@pytest.mark.parametrize(("old", "new"), [("}", ""), ('"title"', '"no id!"'), ('"title"', '"one"')])
def test_a_broken_file_is_found(old, new, tmp_path):
    path = tmp_path / "00_lesson.ipynb"
    path.write_text(nbformat.writes(lesson()).replace(old, new))
    assert problems(path)


# --- normalise --------------------------------------------------------------------------------------------


def test_normalise_twice_is_normalise_once():
    once = nbformat.writes(lesson())
    assert nbformat.writes(normalise(nbformat.reads(once, as_version=4))) == once


def test_normalise_keeps_what_carries_meaning():
    notebook = lesson()
    notebook.cells[1].metadata.update(tags=["nbval-ignore-output"], nbgrader={"grade": True}, collapsed=True)
    normalise(notebook)
    assert notebook.cells[1].metadata == {"tags": ["nbval-ignore-output"], "nbgrader": {"grade": True}}
    assert notebook.cells[2].outputs[0].metadata == {"image/png": {"alt": "a curve that falls"}}
    assert [cell.id for cell in notebook.cells] == ["title", "one", "two"]
    assert notebook.metadata.clbook.source_hash == source_hash(notebook)


def test_normalise_takes_the_widget_and_leaves_its_picture():
    notebook = lesson()
    keep_a_widget_view(notebook)
    notebook.cells[2].outputs[0].metadata[WIDGET] = {}
    assert normalise(notebook) == lesson()


def test_editing_text_does_not_make_a_lesson_stale():
    notebook = lesson()
    before = source_hash(notebook)
    notebook.cells[0].source += ", a better one"
    assert source_hash(notebook) == before


def test_a_bare_progress_bar_goes_where_outputs_are_not_compared():
    for tags, left in (["nbval-ignore-output"], 0), ([], 1):
        notebook = lesson()
        notebook.cells[1].metadata["tags"] = tags
        notebook.cells[1].outputs = [new_output("display_data", {WIDGET: {"model_id": "f"}, "text/plain": "0%"})]
        assert len(normalise(notebook).cells[1].outputs) == left


# --- running ----------------------------------------------------------------------------------------------


KERNELS_TALK_OVER = "ipc" if os.name == "posix" else "tcp"
TRANSPORT = "import ipykernel, json\nprint(json.load(open(ipykernel.get_connection_file()))['transport'])"


def write_source(path, *sources):
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in sources]), path)
    return path


def test_a_second_run_changes_no_byte(tmp_path, capsys):
    path = write_source(tmp_path / "00_twice.ipynb", "print('1', flush=True)\nprint('2')", TRANSPORT, "1 + 1")
    assert run_notebooks.main([str(path)]) == 0
    assert "code cell 2: 1 + 1" in capsys.readouterr().out
    assert KERNELS_TALK_OVER in nbformat.read(path, as_version=4).cells[1].outputs[0].text
    once = path.read_bytes()
    assert problems(path) == []
    assert run_notebooks.main([str(path)]) == 0
    assert path.read_bytes() == once
    assert [file.name for file in tmp_path.iterdir()] == ["00_twice.ipynb"]


def test_a_failing_cell_leaves_the_file_alone_and_is_named(tmp_path, capsys):
    path = write_source(tmp_path / "00_bad.ipynb", "x = 0", "print(1 / x)")
    before = path.read_bytes()
    assert run_notebooks.main([str(path)]) == 1
    assert path.read_bytes() == before
    said = capsys.readouterr().err
    assert "code cell 1 failed" in said
    assert "ZeroDivisionError" in said


def test_claims_are_tried_with_another_seed_and_nothing_is_written(tmp_path, capsys):
    sources = "seed = 0  # of all that is random", "assert seed < 5", "print(seed)", "assert seed != 7, 'too many'"
    path = write_source(tmp_path / "00_seed.ipynb", *sources)
    before = path.read_bytes()
    assert run_notebooks.main(["--seed", "3", str(path)]) == 0
    assert "00_seed.ipynb, seed 3: all claims hold" in capsys.readouterr().out
    assert run_notebooks.main(["--seed", "7", str(path)]) == 1
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2 and all("seed 7: cell" in line and "AssertionError" in line for line in told)
    assert "assert seed < 5" in told[0] and "too many" in told[1]
    assert path.read_bytes() == before
    assert run_notebooks.main(["--seed", "3", str(write_source(tmp_path / "01_none.ipynb", "x = 0"))]) == 1
    assert "expected one line `seed = 0`, found 0" in capsys.readouterr().err


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_source(tmp_path / "00_old.ipynb", "1")
    before = path.read_bytes()

    def stop(*names):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        run_notebooks.write(lesson(), path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]


def test_check_runs_nothing_and_tells(tmp_path, capsys):
    path = write_source(tmp_path / "00_new.ipynb", "1")
    before = path.read_bytes()
    assert run_notebooks.main(["--check", str(path)]) == 1
    assert "00_new.ipynb: is stale" in capsys.readouterr().out
    assert path.read_bytes() == before


def test_lessons_are_found_by_the_beginning_of_their_name(tmp_path):
    for name in ("00_a", "01_b", "notes"):
        (tmp_path / f"{name}.ipynb").touch()
    assert [path.stem for path in run_notebooks.find_lessons([], tmp_path)] == ["00_a", "01_b"]
    assert [path.stem for path in run_notebooks.find_lessons(["01"], tmp_path)] == ["01_b"]
    with pytest.raises(SystemExit, match="no lesson '07'"):
        run_notebooks.find_lessons(["07"], tmp_path)


# --- nbval, as this project sets it up ---------------------------------------------------------------------


def executed(source, *outputs, tags=()):
    return new_code_cell(source, execution_count=1, outputs=list(outputs), metadata={"tags": list(tags)})


def printed(text):
    return new_output("stream", text=text)


def result(text):
    return new_output("execute_result", {"text/plain": text}, execution_count=1)


BACKEND = "import os\nprint(os.environ['MPLBACKEND'])"
INLINE = "module://matplotlib_inline.backend_inline\n"
NBVAL_CASES = {  # notebook: (its cells, the outcome of each)
    "good": (
        [
            executed(TRANSPORT, printed(KERNELS_TALK_OVER + "\n")),
            executed(BACKEND, printed(INLINE)),
            executed("object(), '0.25 s'", result("(<object at 0x7f0000000000>, '9.50 s')")),
            executed("print(0.1234)", printed("another\n"), tags=["nbval-ignore-output"]),
        ],
        ["PASSED"] * 4,
    ),
    "other_stdout": ([executed("print(0.124)", printed("0.123\n"))], ["FAILED"]),
    "other_result": ([executed("3", result("2"))], ["FAILED"]),
    "new_warning": ([executed("import sys; print('beware', file=sys.stderr)")], ["FAILED"]),
    "new_error": ([executed("1 / 0")], ["FAILED"]),
    # nbval takes a time-out for the expected exception, and then expects the rest to fail: all "fine"
    "timed_out": (
        [
            executed("import time; time.sleep(99)", tags=["raises-exception", "nbval-ignore-output"]),
            executed("1 / 0"),
            executed("1;"),
        ],
        ["FAILED"] * 3,
    ),
}


@pytest.mark.slow
def test_nbval_is_strict(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for file in "conftest.py", "pyproject.toml", "tests/nbval.cfg", "tools/run_notebooks.py":
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    expected = {}
    for name, (cells, outcomes) in NBVAL_CASES.items():
        nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks" / f"{name}.ipynb")
        expected |= {f"{name}.ipynb::Cell {i}": outcome for i, outcome in enumerate(outcomes)}

    command = [sys.executable, "-m", "pytest", "-v", "--color=no", "--tb=no", "-p", "no:cacheprovider"]
    command += ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=8", ".."]
    done = subprocess.run(command, cwd=tmp_path / "notebooks", env=os.environ | {"MPLBACKEND": "agg"},
                          capture_output=True, text=True, timeout=120)  # fmt: skip

    found = dict(re.findall(r"^(\S+::Cell \d+) (PASSED|FAILED|XFAIL|XPASS|SKIPPED)", done.stdout, re.MULTILINE))
    assert found == expected, done.stdout
    assert done.returncode == 1
    # Named, and in seconds; how many is the machine's affair: a busy one takes longer than the limit.
    assert re.search(r"notebooks/timed_out\.ipynb  \(Cell 0 \d+\.\d", done.stdout), done.stdout
