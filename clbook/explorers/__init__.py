"""Explorers: sliders, a picture, and a sentence that says what the picture shows.

An explorer is a pure function that places the artists of one figure, and a thin wrapper that gives it
sliders. Live in Jupyter the sliders move; where there is no kernel (GitHub, nbviewer, a printed page) the
same output shows a few telling settings side by side. Each is worth opening alone:

    from clbook.explorers import temperature
    temperature()

One file an explorer, each with one public function of the file's name; `base` holds what they share.
"""

from clbook.explorers.base import Explorer, new_figure
from clbook.explorers.budget import budget
from clbook.explorers.circle import circle
from clbook.explorers.embedding_map import embedding_map
from clbook.explorers.margin import margin
from clbook.explorers.perplexity import perplexity
from clbook.explorers.queue import queue
from clbook.explorers.receptive_field import receptive_field
from clbook.explorers.replay import replay
from clbook.explorers.temperature import temperature
from clbook.explorers.tolerance import tolerance
from clbook.explorers.vectors import vectors
from clbook.explorers.views import views
from clbook.explorers.votes import votes

__all__ = [
    "Explorer",
    "budget",
    "circle",
    "embedding_map",
    "margin",
    "new_figure",
    "perplexity",
    "queue",
    "receptive_field",
    "replay",
    "temperature",
    "tolerance",
    "vectors",
    "views",
    "votes",
]
