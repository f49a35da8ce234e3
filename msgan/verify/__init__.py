"""Whether a result is what it is said to be: checked against its card, or made again."""

from msgan.verify.notebook import check_notebook, compare_notebooks, notebook_again
from msgan.verify.training import check_training, compare_trainings, training_again
from msgan.verify.translation import check_translation, compare_translations, translation_again
from msgan.verify.verdict import Finding, State, Verdict

__all__ = [
    "Finding",
    "State",
    "Verdict",
    "check_notebook",
    "check_training",
    "check_translation",
    "compare_notebooks",
    "compare_trainings",
    "compare_translations",
    "notebook_again",
    "training_again",
    "translation_again",
]
