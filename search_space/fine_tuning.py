"""Fine-tuning: a trained network goes on for few epochs on other ground, gently, with nothing frozen.

Source:
    CosmiQ Works' Solaris, https://github.com/CosmiQ/solaris: a U-Net that was trained elsewhere is brought to a new city
    in three epochs at a tenth of its learning rate.
"""

from search_space.candidate import Candidate
from search_space.study import Budget

RATE_DIVISOR = 10
FINE_TUNING_EPOCHS = 3


def fine_tuned(candidate: Candidate, divisor: float = RATE_DIVISOR) -> Candidate:
    """The candidate with a learning rate for fine-tuning: a tenth, the same from the first step to the last.

    Its network, losses, patches and scaling stay, as does everything else; no layer is frozen.

    Args:
        candidate: What the model was made from.
        divisor: What the learning rate is divided by.
    """
    plan = candidate.plan
    return candidate.model_copy(
        update={"plan": plan.model_copy(update={"learning_rate": plan.learning_rate / divisor})}
    )


def fine_tuning_budget(budget: Budget, epochs: int = FINE_TUNING_EPOCHS) -> Budget:
    """A budget of few epochs, each as long as it was."""
    return budget.model_copy(update={"epochs": epochs})
