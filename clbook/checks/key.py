"""All questions with a number or a choice as their answer, by name, and their answers."""

from clbook.checks import clinic, contrast, evaluation, moco, similarity, triplet, views
from clbook.checks.exercise import Report
from clbook.checks.question import Choice, Question, judge_choice, judge_number

QUESTIONS: dict[str, Question | Choice] = {
    "crop_overlap": views.CROP_OVERLAP,
    "untouched_pairs": views.UNTOUCHED_PAIRS,
    "left_out_step": views.LEFT_OUT_STEP,
    "cosine_by_hand": similarity.COSINE_BY_HAND,
    "info_nce_by_hand": contrast.INFO_NCE_BY_HAND,
    "chance_line": contrast.CHANCE_LINE,
    "broken_loss": contrast.BROKEN_LOSS,
    "triplet_mean": triplet.TRIPLET_MEAN,
    "triplet_count": triplet.TRIPLET_COUNT,
    "semi_hard_count": triplet.SEMI_HARD_COUNT,
    "oldest_key": moco.OLDEST_KEY,
    "resumed_ring": moco.RESUMED_RING,
    "steps_to_forget": moco.STEPS_TO_FORGET,
    "stuck_line": clinic.STUCK_LINE,
    "patient_a": clinic.PATIENT_A,
    "patient_b": clinic.PATIENT_B,
    "patient_c": clinic.PATIENT_C,
    "patient_d": clinic.PATIENT_D,
    "largest_class": evaluation.LARGEST_CLASS,
    "arm_difference": evaluation.ARM_DIFFERENCE,
}


def given(name: str, seed: int = 0) -> dict:
    """What the question is about, drawn from the seed. Nothing for a choice whose lab makes what to look at."""
    return _find(name).given(seed)


def check_answer(name: str, answer, seed: int = 0) -> Report:
    """Check the answer to the question of that name: a number, or one of its options."""
    question = _find(name)
    judge = judge_choice if isinstance(question, Choice) else judge_number
    return judge(answer, question, seed)


def answers(seed: int) -> dict[str, str]:
    """The teacher's key: the right answer to each question with this seed."""
    key = {}
    for name, question in QUESTIONS.items():
        if isinstance(question, Choice):
            key[name] = question.right(seed)
        else:
            key[name] = f"{question.answer(**question.given(seed)):.4g}"
    return key


def _find(name: str) -> Question | Choice:
    if name not in QUESTIONS:
        raise ValueError(f"expected the name of a question, one of {', '.join(QUESTIONS)}; got {name!r}")
    return QUESTIONS[name]
