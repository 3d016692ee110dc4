"""The budget: the sentence says what a loss that is written down holds, and the picture shows it."""

import importlib
import json

import pytest
import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from clbook.explorers import budget

MODULE = importlib.import_module("clbook.explorers.budget")
EXPLORER = budget()


def written_down(view1, view2, size):
    """NT-Xent in plain PyTorch, `size` rows at a time."""
    z = F.normalize(torch.cat([view1, view2]))
    partner = torch.arange(len(z)).roll(len(z) // 2)

    def some_rows(z, start):
        logits = z[start : start + size] @ z.T / 0.1
        logits.diagonal(start).fill_(-torch.inf)
        return F.cross_entropy(logits, partner[start : start + size], reduction="sum")

    starts = range(0, len(z), size)
    if len(starts) == 1:
        return some_rows(z, 0)
    return sum(checkpoint(some_rows, z, start, use_reentrant=False) for start in starts)


@pytest.mark.parametrize(("pairs", "rows"), [(1024, None), (1024, 128), (2048, 256)])
def test_bytes_are_those_that_torch_reports(pairs, rows, tmp_path):
    views = [torch.randn(pairs, 128, requires_grad=True) for _ in range(2)]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        written_down(*views, rows or 2 * pairs).backward()
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    held = [event["args"]["Total Allocated"] for event in events if event["name"] == "[memory]"]
    first = next(event["args"] for event in events if event["name"] == "[memory]")
    peak = max(held) - first["Total Allocated"] + first["Bytes"]
    assert MODULE.loss_bytes(pairs, 128, rows) == pytest.approx(peak, rel=0.06)


def test_sentence_by_hand():
    sentence, _ = EXPLORER.draw(pairs=16384, rows=256, dim=128)
    # 3 x 32,768^2 x 4 bytes = 12 GiB, and 3 x 32,768 x 128 x 4 = 48 MiB; in chunks 3 x 256 x 32,768 x 4 = 96 MiB
    assert "dense loss holds 12 GiB" in sentence and "it holds 144 MiB, 85.7 times less" in sentence
    assert "256 of its 32,768 rows" in sentence
    title = EXPLORER._figure.texts[0]
    assert title.get_text() == "N = 16,384"
    square, disc = (line for line in EXPLORER._figure.axes[0].lines if line.get_marker() in ("s", "o"))
    assert square.get_xydata().tolist() == [[16384, 12 * 2**30 + 48 * 2**20]]
    assert disc.get_xydata().tolist() == [[16384, 144 * 2**20]]


@pytest.mark.parametrize("dim", [32, 128, 2048])
def test_the_largest_batch_just_fits(dim):
    most = MODULE.most_pairs(8 * 2**30, dim)
    assert MODULE.loss_bytes(most, dim) <= 8 * 2**30 < MODULE.loss_bytes(most + 1, dim)


def test_one_chunk_saves_nothing():
    sentence, _ = EXPLORER.draw(pairs=64, rows=4096, dim=32)
    assert "with 128 of its 128 rows" in sentence and "no less, all fits into one chunk" in sentence


@pytest.mark.parametrize(
    ("option", "message"),
    [({"pairs": 100}, r"pairs: expected a power of two from 64 to 65,536; got 100"),
     ({"rows": 0}, r"rows: expected a power of two"), ({"dim": float("nan")}, r"dim: expected a power of two")],
)  # fmt: skip
def test_bad_arguments(option, message):
    with pytest.raises(ValueError, match=message):
        budget(**option)
