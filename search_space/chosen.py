"""What a class is retrained from, and what is told of that to the end."""

from typing import Annotated

from pydantic import Field

from search_space.candidate import Candidate
from search_space.decode import Frozen, Whole
from search_space.prediction import PredictionSettings

HOW_ASKED = ("start_from", "fine_tuned")
"""How a retraining was asked for a model; maps and scores do not depend on it."""

ORIGIN = ("trial", "study", "recipe", "prediction", *HOW_ASKED)
"""What is told of a model from its choice on, and does not make it another model."""


class Chosen(Frozen):
    """What a class is retrained from.

    Attributes:
        candidate: Its network and how to train it.
        trial: Number of the trial that found it; None for a recipe.
        study: Name of the study of that trial, or of the model of a recipe that training starts from, where it is not
            the one that is retrained.
        recipe: Name or file of the recipe; empty for a trial.
        prediction: How tiles become a map, where the recipe says so; else the study does.
        start_from: The model that training starts from, as `retrain --from` named it; empty from scratch.
        fine_tuned: Whether the candidate's course of training is that of `retrain --fine-tune`.
    """

    candidate: Candidate
    trial: Annotated[Whole, Field(ge=0)] | None = None
    study: str = ""
    recipe: str = ""
    prediction: PredictionSettings | None = None
    start_from: str = ""
    fine_tuned: bool = False
