"""The mutation run, on a toy project. Skipped without cosmic-ray: pip install -c constraints.txt -e '.[mutants]'"""

import random
from pathlib import Path

import pytest

mutants = pytest.importorskip("mutants", reason="no cosmic-ray; pip install -c constraints.txt -e '.[mutants]'")

TOY = """
def area(width: int | None, height: int = 2) -> int | None:
    return width * height


def is_wide(width: int) -> bool:
    return width > 10
"""
TESTS = """
from clbook.toy import area, is_wide

def test_area():
    assert area(3) == 6 and area(3, 4) == 12

def test_wide():
    assert is_wide(20) and not is_wide(5)  # the border, 10, is not tested
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    for name in mutants.COPIED:
        (tmp_path / name).touch() if "." in name else (tmp_path / name).mkdir()
    (tmp_path / "clbook" / "__init__.py").touch()
    (tmp_path / "clbook" / "toy.py").write_text(TOY)
    (tmp_path / "tests" / "test_toy.py").write_text(TESTS)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["browser", "slow"]\n')
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    return tmp_path


def test_each_place_breaks_in_one_way_and_annotations_in_none():
    random.seed(0)
    found = mutants.mutations(TOY, Path("toy.py"))
    lines = TOY.splitlines()
    assert [(m.start_pos[0], lines[m.start_pos[0] - 1][slice(m.start_pos[1], m.end_pos[1])]) for m in found] == [
        (2, "2"),
        (3, "*"),
        (7, ">"),
        (7, "10"),
    ]


def test_survivors_are_shown_and_the_share_killed(toy, capsys):
    mutants.main(["toy", "--processes", "1"])
    shown = capsys.readouterr().out
    assert "toy: 2 of 4 survive" in shown
    assert "-    return width > 10\n" in shown and "-    return width * height" not in shown
    assert shown.rstrip().endswith("toy             4      4       2     50%")
    assert (toy / "clbook" / "toy.py").read_text() == TOY


def test_tests_that_are_red_anyway_are_told(toy):
    (toy / "tests" / "test_toy.py").write_text("def test_nothing():\n    assert 0\n")
    with pytest.raises(SystemExit, match=r"test_toy\.py is red before anything is broken"):
        mutants.main(["toy", "--processes", "1"])


def test_the_real_modules_have_places_to_break():
    for module in mutants.MODULES:
        path = mutants.ROOT / "clbook" / f"{module}.py"
        assert len(mutants.mutations(path.read_text(encoding="utf-8"), path)) >= 30
