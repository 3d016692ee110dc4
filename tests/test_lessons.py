"""Lessons hold what they claim: with something wrong in clbook's place, one of them must turn red under nbval.

Each swap replaces a function of clbook by a plain one of our own with one edit. The same replacement without the edit
leaves the cell green, so that it is the mistake that is seen, and not the swap.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]

NT_XENT = """
import torch, torch.nn.functional as F, clbook.losses, clbook.methods

def nt_xent(view1, view2, *, temperature, chunk_size=None):
    z = F.normalize(torch.cat([view1, view2]), dim=1)
    logits = z @ z.T / temperature
    logits = logits.masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(view1)))

clbook.losses.nt_xent = clbook.methods.nt_xent = nt_xent
"""
TRIPLET = """
import torch, torch.nn.functional as F, clbook.losses

def triplet_margin(anchor, positive, negative, *, margin, squared=False, normalize=True):
    if normalize:
        anchor, positive, negative = (F.normalize(x, dim=1) for x in (anchor, positive, negative))
    near, far = ((anchor - x).norm(dim=1) ** (2 if squared else 1) for x in (positive, negative))
    return (near - far + margin).clamp_min(0).mean()

clbook.losses.triplet_margin = triplet_margin
"""
QUEUE = """
import torch, torch.nn.functional as F, clbook.moco

class NegativeQueue(clbook.moco.NegativeQueue):
    def enqueue(self, keys):
        room = len(keys)
        super().enqueue(keys[:room])

clbook.moco.NegativeQueue = NegativeQueue
"""
GATHER = """
import torch, clbook.distributed

right = clbook.distributed.gather

def gather(tensor):
    several, gathered = torch.distributed.is_initialized(), right(tensor)
    return gathered

clbook.distributed.gather = gather
"""
SWAPS = {  # what goes wrong: (lesson, the cell that must turn red, clbook's replacement, the edit: old, new)
    "the partner in the wrong row": ("00", "train-claim", NT_XENT, "roll(len(view1))", "roll(len(view1) + 1)"),
    "no temperature": ("03", "nt-xent-equal", NT_XENT, " / temperature", ""),
    "the wrong row": ("03", "nt-xent-equal", NT_XENT, "roll(len(view1))", "roll(1)"),
    "no normalisation": ("03", "nt-xent-equal", NT_XENT, "F.normalize(torch.cat([view1, view2]), dim=1)",
                         "torch.cat([view1, view2])"),
    "self kept": ("03", "nt-xent-equal", NT_XENT, "torch.eye(len(z), dtype=torch.bool)", "torch.tensor(False)"),
    "the triplet's sign turned": ("04", "triplet-equal", TRIPLET, "near - far", "far - near"),
    "keys dropped at the wrap": ("07", "queue-equal", QUEUE, "room = len(keys)",
                                 "room = len(self.keys) - int(self.pointer)"),
    "no gradient between processes": ("10", "two-claim", GATHER, "return gathered",
                                      "return gathered.detach() if several else gathered"),
}  # fmt: skip


def failures(lesson, cell, sabotage, folder):
    """The ids of cells, up to `cell`, that fail when every Python first runs `sabotage`."""
    (path,) = (ROOT / "notebooks").glob(f"{lesson}_*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    last = next(i for i, c in enumerate(notebook.cells) if c.id == cell)
    notebook.cells = notebook.cells[: last + 1]
    code = [c.id for c in notebook.cells if c.cell_type == "code"]
    nbformat.write(notebook, folder / "swapped.ipynb")
    (folder / "sitecustomize.py").write_text(sabotage)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml"]
    command += [f"--confcutdir={ROOT}", "--nbval", "--nbval-current-env", "--nbval-cell-timeout=300"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([*command, folder / "swapped.ipynb"], cwd=folder, env=environment, capture_output=True,
                          text=True, timeout=400)  # fmt: skip
    assert done.returncode in (0, 1), done.stdout[-3000:] + done.stderr[-1000:]
    return [code[int(number)] for number in re.findall(r"^FAILED .*::Cell (\d+)", done.stdout, re.MULTILINE)]


@pytest.mark.slow
@pytest.mark.parametrize("name", SWAPS)
def test_a_wrong_clbook_turns_a_lesson_red(name, tmp_path):
    lesson, cell, source, old, new = SWAPS[name]
    assert source.count(old) == 1
    assert failures(lesson, cell, source.replace(old, new), tmp_path) == [cell]


@pytest.mark.slow
@pytest.mark.parametrize(
    "swap", sorted({swap[:3] for swap in SWAPS.values() if swap[0] != "00"}), ids=lambda swap: swap[1]
)
def test_a_right_replacement_stays_green(swap, tmp_path):
    assert failures(*swap, tmp_path) == []
