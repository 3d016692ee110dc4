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
from clbook.checks.embeddings import check_neighbours_kept, check_pca, check_perplexity, check_tsne_affinities
from clbook.checks.encoders import check_conv_output_size, check_projection_head, check_receptive_field, check_residual
from clbook.checks.evaluation import check_confusion_matrix, check_knn_vote, check_probe_accuracy, check_recall_at_k
from clbook.checks.exercise import CheckFailed, Exercise, Report
from clbook.checks.moco import check_enqueue, check_info_nce_with_queue, check_momentum_for_run, check_momentum_update
from clbook.checks.similarity import (
    check_angle,
    check_cosine_from_distance,
    check_cosine_similarity_matrix,
    check_euclidean_distance_matrix,
    check_nearest_neighbours,
)
from clbook.checks.training import check_false_negative_count, check_learning_rate, check_partner_rows
from clbook.checks.triplet import check_batch_hard, check_pair_margin, check_semi_hard_mask, check_triplet_margin
from clbook.checks.views import check_box_iou, check_cutout, check_solarize

__all__ = [
    "CheckFailed",
    "Exercise",
    "Report",
    "check_angle",
    "check_batch_hard",
    "check_box_iou",
    "check_confusion_matrix",
    "check_conv_output_size",
    "check_cosine_from_distance",
    "check_cosine_similarity_matrix",
    "check_cutout",
    "check_enqueue",
    "check_euclidean_distance_matrix",
    "check_false_negative_count",
    "check_false_negatives",
    "check_info_nce",
    "check_info_nce_gradient",
    "check_info_nce_with_queue",
    "check_knn_vote",
    "check_learning_rate",
    "check_log_sum_exp",
    "check_momentum_for_run",
    "check_momentum_update",
    "check_nearest_neighbours",
    "check_neighbours_kept",
    "check_nt_xent",
    "check_pair_margin",
    "check_partner_rows",
    "check_pca",
    "check_perplexity",
    "check_probe_accuracy",
    "check_projection_head",
    "check_recall_at_k",
    "check_receptive_field",
    "check_residual",
    "check_semi_hard_mask",
    "check_solarize",
    "check_triplet_margin",
    "check_tsne_affinities",
]
