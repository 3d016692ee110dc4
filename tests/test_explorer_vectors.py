"""The turning vector: what it says, against plain trigonometry."""

import math
import re

import pytest

from clbook.explorers import vectors


@pytest.mark.parametrize(("angle", "length"), [(0, 1.0), (60, 2.0), (-135, 0.5), (180, 1.5), (90, 1.0)])
def test_the_sentence_tells_the_numbers(angle, length):
    sentence = vectors().draw(angle=angle, length=length)[0].replace("−", "-")
    x, y = length * math.cos(math.radians(angle)), length * math.sin(math.radians(angle))
    told = re.search(r"dot product (\S+), cosine (\S+), Euclidean distance (\S+)\. .*cos.* (\S+)\.$", sentence).groups()
    expected = x, x / math.hypot(x, y), math.dist((1, 0), (x, y)), 2 - 2 * x / math.hypot(x, y)
    assert [float(number) for number in told] == pytest.approx(expected, abs=0.00501)


def test_on_unit_vectors_the_squared_distance_is_two_minus_two_cosines():
    for angle in range(-180, 181, 3):
        sentence = vectors_once.draw(angle=angle, length=1.0)[0].replace("−", "-")
        distance = float(re.search(r"distance (\d\.\d+)", sentence).group(1))
        assert distance**2 == pytest.approx(float(sentence.split()[-1].rstrip(".")), abs=0.03)


vectors_once = vectors()


def test_the_zero_vector_has_no_direction():
    sentence, _ = vectors().draw(angle=45, length=0.0)
    assert "zero vector" in sentence and "dot product 0.00" in sentence and "distance 1.00" in sentence


@pytest.mark.parametrize("bad", [{"angle": 200}, {"length": -1.0}, {"length": 3.0}, {"angle": math.nan}])
def test_what_the_sliders_cant_show_is_refused(bad):
    (name,) = bad
    with pytest.raises(ValueError, match=f"{name}: expected a number from"):
        vectors(**bad)
