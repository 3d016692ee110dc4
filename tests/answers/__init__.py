"""A catalogue of learners' answers, one file a topic, as `clbook.checks` has it.

`CATALOGUE` holds for each check its wrong answers (function, phrase of the diagnosis), its right ones in several
styles, and the mistakes that the check itself knows.
"""

from answers import contrast, embeddings, encoders, evaluation, moco, similarity, training, triplet, views

CATALOGUE = (
    contrast.CATALOGUE
    | embeddings.CATALOGUE
    | encoders.CATALOGUE
    | evaluation.CATALOGUE
    | moco.CATALOGUE
    | similarity.CATALOGUE
    | training.CATALOGUE
    | triplet.CATALOGUE
    | views.CATALOGUE
)
