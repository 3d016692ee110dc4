"""A catalogue of learners' answers, one file a topic, as `clbook.checks` has it.

`CATALOGUE` holds for each check its wrong answers (function, phrase of the diagnosis), its right ones in several
styles, and the mistakes that the check itself knows.
"""

from answers import (
    clinic,
    contrast,
    embeddings,
    encoders,
    evaluation,
    moco,
    queue_losses,
    scaling,
    similarity,
    training,
    triplet,
    views,
)
from clbook import checks

CATALOGUE = (
    clinic.CATALOGUE
    | contrast.CATALOGUE
    | embeddings.CATALOGUE
    | encoders.CATALOGUE
    | evaluation.CATALOGUE
    | moco.CATALOGUE
    | queue_losses.CATALOGUE
    | scaling.CATALOGUE
    | similarity.CATALOGUE
    | training.CATALOGUE
    | triplet.CATALOGUE
    | views.CATALOGUE
)

# A check that asks for properties, not for the values of an equation; test_check_views.py has its tests.
BY_PROPERTIES = {checks.check_views: (views.WRONG_VIEWS, views.RIGHT_VIEWS)}

# For each question its wrong answers (a function of the seed, phrase of the diagnosis) and its right ones.
QUESTIONS = (
    clinic.QUESTIONS
    | contrast.QUESTIONS
    | evaluation.QUESTIONS
    | moco.QUESTIONS
    | similarity.QUESTIONS
    | triplet.QUESTIONS
    | views.QUESTIONS
)
