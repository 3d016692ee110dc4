"""Checks of a learner's functions: is it right, and if not, which mistake is it?

`check_<thing>(function)` tries the function on small and larger cases and gives back a `Report`, which a
lesson shows and a lab asks to `.require()`. A check never raises because of what the learner wrote.

Each check is one `Exercise`: cases, an oracle (the printed equation as a naive float64 loop that shares no
code with clbook's own functions), and the mistakes people really make, each as a working wrong implementation
with the sentence that names it. A learner whose values equal a mistake's values is told its sentence.

One file a topic; `exercise` holds what they share.
"""

from clbook.checks.contrast import (
    check_false_negatives,
    check_info_nce,
    check_info_nce_gradient,
    check_log_sum_exp,
    check_nt_xent,
)
from clbook.checks.exercise import CheckFailed, Exercise, Report
from clbook.checks.similarity import (
    check_angle,
    check_cosine_from_distance,
    check_cosine_similarity_matrix,
    check_euclidean_distance_matrix,
    check_nearest_neighbours,
)

__all__ = [
    "CheckFailed",
    "Exercise",
    "Report",
    "check_angle",
    "check_cosine_from_distance",
    "check_cosine_similarity_matrix",
    "check_euclidean_distance_matrix",
    "check_false_negatives",
    "check_info_nce",
    "check_info_nce_gradient",
    "check_log_sum_exp",
    "check_nearest_neighbours",
    "check_nt_xent",
]
