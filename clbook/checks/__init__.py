"""Checks of a learner's functions: is it right, and if not, which mistake is it?

`check_<thing>(function)` tries the function on small and larger cases and gives back a `Report`, which a
lesson shows and a lab asks to `.require()`. A check never raises because of what the learner wrote. With another
`seed`, some of its cases and all numbers of a `Question` are others.

Each check is one `Exercise`: cases, an oracle (the printed equation as a naive float64 loop that shares no
code with clbook's own functions), and the mistakes people really make, each as a working wrong implementation
with the sentence that names it. A learner whose values equal a mistake's values is told its sentence.

One file a topic; `exercise` holds what they share.
"""

from clbook.checks.clinic import check_effective_rank, check_logits, check_recolour
from clbook.checks.contrast import (
    check_false_negatives,
    check_info_nce,
    check_info_nce_gradient,
    check_log_sum_exp,
    check_negative_weights,
    check_nt_xent,
    check_sup_con,
)
from clbook.checks.embeddings import check_neighbours_kept, check_pca, check_perplexity, check_tsne_affinities
from clbook.checks.encoders import check_conv_output_size, check_projection_head, check_receptive_field, check_residual
from clbook.checks.evaluation import (
    check_balanced_accuracy,
    check_chosen_figures,
    check_confusion_matrix,
    check_group_split,
    check_knn_vote,
    check_label_subset,
    check_mean_interval,
    check_probe_accuracy,
    check_recall_at_k,
)
from clbook.checks.exercise import CheckFailed, Exercise, Report
from clbook.checks.key import QUESTIONS, answers, check_answer, given
from clbook.checks.moco import (
    check_centre_shuffled,
    check_enqueue,
    check_key_ages,
    check_momentum_for_run,
    check_momentum_update,
)
from clbook.checks.queue_losses import check_hard_negative_loss, check_info_nce_with_queue, check_symmetric_loss
from clbook.checks.scaling import check_chunked_log_sum_exp, check_gather_backward, check_run_steps
from clbook.checks.similarity import (
    check_angle,
    check_cosine_from_distance,
    check_cosine_similarity_matrix,
    check_euclidean_distance_matrix,
    check_nearest_neighbours,
)
from clbook.checks.training import check_false_negative_count, check_learning_rate, check_partner_rows
from clbook.checks.triplet import (
    check_batch_all,
    check_batch_hard,
    check_pair_margin,
    check_semi_hard_mask,
    check_soft_batch_hard,
    check_triplet_margin,
)
from clbook.checks.views import (
    check_box_iou,
    check_brightness_contrast,
    check_crop,
    check_cutout,
    check_flip,
    check_grayscale,
    check_object_kept,
    check_solarize,
    check_views,
    four_step_views,
)

__all__ = [
    "QUESTIONS",
    "CheckFailed",
    "Exercise",
    "Report",
    "answers",
    "check_angle",
    "check_answer",
    "check_balanced_accuracy",
    "check_batch_all",
    "check_batch_hard",
    "check_box_iou",
    "check_brightness_contrast",
    "check_centre_shuffled",
    "check_chosen_figures",
    "check_chunked_log_sum_exp",
    "check_confusion_matrix",
    "check_conv_output_size",
    "check_cosine_from_distance",
    "check_cosine_similarity_matrix",
    "check_crop",
    "check_cutout",
    "check_effective_rank",
    "check_enqueue",
    "check_euclidean_distance_matrix",
    "check_false_negative_count",
    "check_false_negatives",
    "check_flip",
    "check_gather_backward",
    "check_grayscale",
    "check_group_split",
    "check_hard_negative_loss",
    "check_info_nce",
    "check_info_nce_gradient",
    "check_info_nce_with_queue",
    "check_key_ages",
    "check_knn_vote",
    "check_label_subset",
    "check_learning_rate",
    "check_log_sum_exp",
    "check_logits",
    "check_mean_interval",
    "check_momentum_for_run",
    "check_momentum_update",
    "check_nearest_neighbours",
    "check_negative_weights",
    "check_neighbours_kept",
    "check_nt_xent",
    "check_object_kept",
    "check_pair_margin",
    "check_partner_rows",
    "check_pca",
    "check_perplexity",
    "check_probe_accuracy",
    "check_projection_head",
    "check_recall_at_k",
    "check_receptive_field",
    "check_recolour",
    "check_residual",
    "check_run_steps",
    "check_semi_hard_mask",
    "check_soft_batch_hard",
    "check_solarize",
    "check_sup_con",
    "check_symmetric_loss",
    "check_triplet_margin",
    "check_tsne_affinities",
    "check_views",
    "four_step_views",
    "given",
]
