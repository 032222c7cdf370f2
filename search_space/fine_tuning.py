"""Training that goes on from a model: on other bands, and gently where it fine-tunes.

Source:
    CosmiQ Works' Solaris, https://github.com/CosmiQ/solaris: a U-Net that was trained elsewhere is brought to a new
    city in three epochs at a tenth of its learning rate, nothing frozen.
"""

from collections.abc import Collection

from search_space.architecture import NO_WEIGHTS, GrownEncoder
from search_space.candidate import Candidate
from search_space.optimisation import ConstantRate, NoAveraging
from search_space.study import Budget

RATE_DIVISOR = 10
FINE_TUNING_EPOCHS = 3


def continued(candidate: Candidate, bands: Collection[str]) -> Candidate:
    """The candidate of a model, as another begins with the model's weights on data with these bands.

    Of the bands that it names it reads those that there are; all, where there is none of them. The weights that others
    have published for its encoder are not looked for: the model has better ones.
    """
    architecture = candidate.architecture
    read = tuple(name for name in architecture.bands if name in bands)
    encoder = architecture.encoder
    if not isinstance(encoder, GrownEncoder):
        encoder = encoder.model_copy(update={"weights": NO_WEIGHTS})
    own = {"bands": read, "encoder": encoder}
    return candidate.model_copy(update={"architecture": architecture.model_copy(update=own)})


def fine_tuned(candidate: Candidate, divisor: float = RATE_DIVISOR) -> Candidate:
    """The candidate with a course of training for fine-tuning: a tenth of its learning rate, the same at every step.

    So there is no warm-up, no early end, and the best epoch counts by itself. Its network, losses, optimizer, patches
    and scaling stay; no layer is frozen.

    Args:
        candidate: What the model was made from.
        divisor: What the learning rate is divided by.
    """
    plan = candidate.plan
    course = {
        "learning_rate": plan.learning_rate / divisor,
        "schedule": ConstantRate(),
        "warm_up": 0.0,
        "averaging": NoAveraging(),
        "patience": 0,
    }
    return candidate.model_copy(update={"plan": plan.model_copy(update=course)})


def fine_tuning_budget(budget: Budget, epochs: int = FINE_TUNING_EPOCHS) -> Budget:
    """A budget of few epochs, each as long as it was."""
    return budget.model_copy(update={"epochs": epochs})
