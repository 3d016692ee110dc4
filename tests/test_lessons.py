"""Lessons hold what they claim: with a wrong loss in clbook's place, they must turn red under nbval."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]

WRONG_ROW = """
import clbook.methods
right = clbook.methods.nt_xent
clbook.methods.nt_xent = lambda view1, view2, **options: right(view1, view2.roll(1, 0), **options)
"""  # each view's partner is sought in the next picture


@pytest.mark.slow
def test_a_wrong_nt_xent_turns_lesson_00_red(tmp_path):
    lesson = nbformat.read(ROOT / "notebooks" / "00_start_here.ipynb", as_version=4)
    claim = next(i for i, cell in enumerate(lesson.cells) if cell.id == "train-claim")
    lesson.cells = lesson.cells[: claim + 1]  # as far as the claim that must break
    nbformat.write(lesson, tmp_path / "00_broken.ipynb")
    (tmp_path / "sitecustomize.py").write_text(WRONG_ROW)  # every Python below imports it first
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml"]
    command += [
        f"--confcutdir={ROOT}",
        "--nbval",
        "--nbval-current-env",
        "--nbval-cell-timeout=300",
        tmp_path / "00_broken.ipynb",
    ]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)
    failed = [line for line in ran.stdout.splitlines() if line.startswith("FAILED")]
    assert ran.returncode == 1, ran.stdout[-3000:] + ran.stderr[-1000:]
    assert len(failed) == 1 and "AssertionError" in ran.stdout and "val_knn" in ran.stdout, ran.stdout[-3000:]
