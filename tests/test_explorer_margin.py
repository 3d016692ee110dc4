"""The margin explorer: what its sentence says, against a loop; what its picture marks; and what it refuses."""

import math
import re

import numpy as np
import pytest
import torch

from clbook import losses, plots
from clbook.explorers import base, margin
from clbook.explorers.margin import LOOKS, SCATTERED, hinge

BATCH = np.random.default_rng(1).uniform(-1.3, 1.3, (30, 2))
PLACED, MANY = margin(), margin(BATCH)
SENTENCE = re.compile(
    r"Margin ([\d.]+), distances (squared|as they are): with the positive at ([\d.]+), a negative at ([\d.]+) is "
    r"(easy|semi-hard|hard), its loss ([\d.]+)\. In the batch (\d+) of (\d+) negatives (?:is|are) active; the mean is "
    r"([\d.]+) over all(?:, ([\d.]+) over the active)?\."
)


@pytest.mark.parametrize(("explorer", "others"), [(PLACED, SCATTERED), (MANY, BATCH)], ids=["placed", "batch"])
@pytest.mark.parametrize("m", [0.0, 0.35, 1.0])
@pytest.mark.parametrize("positive", [0.1, 0.75, 1.2])
@pytest.mark.parametrize("distance", [0.1, 0.9, 2.0])
@pytest.mark.parametrize("squared", [False, True])
def test_the_sentence_says_what_a_loop_computes(explorer, others, m, positive, distance, squared):
    values = {"margin": m, "positive": positive, "distance": distance, "squared": squared}
    found = SENTENCE.fullmatch(explorer._update(**explorer._initial | values))
    ap, terms = positive**2 if squared else positive, []
    for an in [*(math.hypot(x, y) for x, y in others), distance]:
        terms.append(max(0, ap - (an**2 if squared else an) + m))
    active = [term for term in terms if term > 0]
    region = "hard" if distance <= positive else "semi-hard" if terms[-1] > 0 else "easy"
    assert found.group(2) == ("squared" if squared else "as they are") and found.group(5) == region
    told = [float(found.group(i)) for i in (1, 3, 4)]
    assert told == pytest.approx([m, positive, distance], abs=0.0051)
    assert float(found.group(6)) == pytest.approx(terms[-1], abs=0.0051)
    assert (int(found.group(7)), int(found.group(8))) == (len(active), len(terms))
    assert float(found.group(9)) == pytest.approx(sum(terms) / len(terms), abs=0.0051)
    assert (found.group(10) is None) == (not active)
    if active:
        assert float(found.group(10)) == pytest.approx(sum(active) / len(active), abs=0.0051)


@pytest.mark.parametrize("squared", [False, True])
def test_the_hinge_is_clbooks_loss(squared):
    anchor, positive = torch.zeros(1, 2), torch.tensor([[0.6, 0.0]])
    for point in BATCH[:10]:
        negative = torch.tensor(point, dtype=torch.float32)[None]
        options = {"margin": 0.5, "squared": squared, "normalize": False}
        wanted = losses.triplet_margin(anchor, positive, negative, **options).item()
        assert hinge(0.6, [np.linalg.norm(point)], 0.5, squared)[0][0] == pytest.approx(wanted, abs=1e-6)


def test_regions_meet_where_the_definitions_say():
    terms, regions = hinge(1.0, [0.5, 1.0, 1.25, 1.5, 1.75], 0.5)
    assert regions.tolist() == ["hard", "hard", "semi-hard", "easy", "easy"]  # semi-hard: both strictly
    assert terms == pytest.approx([1.0, 0.5, 0.25, 0, 0])
    assert hinge(1.0, [1.2, 1.3], 0.5, squared=True)[1].tolist() == ["semi-hard", "easy"]  # 1.44 and 1.69 against 1.5


def test_the_ring_ends_where_the_loss_does():
    explorer = margin()
    for squared, outer in ((False, 1.0), (True, math.sqrt(0.36 + 0.4))):
        explorer.draw(margin=0.4, positive=0.6, squared=squared)
        ring, disc = explorer._figure.axes[0].patches
        assert np.linalg.norm(ring.get_path().vertices, axis=1).max() == pytest.approx(outer)
        assert np.linalg.norm(ring.get_path().vertices, axis=1).min() == pytest.approx(0.6)
        assert np.linalg.norm(disc.get_path().vertices, axis=1).max() == pytest.approx(0.6)


def test_regions_differ_by_more_than_their_colour():
    colors, hatches, markers = zip(*LOOKS.values(), strict=True)
    assert len(set(hatches)) == len(set(markers)) == len(set(colors)) == 3
    assert {base.NEGATIVE, base.THIRD} < set(plots.PALETTE)
    ring, disc = PLACED._figure.axes[0].patches
    assert (ring.get_hatch(), disc.get_hatch()) == ("///", "xxx")
    names = [text.get_text() for text in PLACED._figure.legends[0].get_texts()]
    assert {"hard negative", "semi-hard negative", "easy negative", "anchor a", "positive p"} < set(names)


def test_tensors_are_read():
    points = torch.tensor(BATCH, requires_grad=True)
    assert margin(points).sentence == MANY.draw()[0]
    assert margin([[0.5, 0.5]]).sentence.count("of 2 negatives") == 1


@pytest.mark.parametrize(
    ("negatives", "message"),
    [
        ([0.5, 0.1], r"shape \[M, 2\] with M at least 1; got shape \[2\]"),
        ([[0.5, 0.1, 0.2]], r"got shape \[1, 3\]"),
        (np.zeros((0, 2)), r"got shape \[0, 2\]"),
        ([[math.nan, 1.0]], "got 1 NaN or infinite"),
        ([[0.1, 0.2], [3.0, 4.0]], "at most 2 away from it; got one 5 away. Scale them down"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(negatives, message):
    with pytest.raises(ValueError, match=message):
        margin(negatives)
