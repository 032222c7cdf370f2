"""Published systems as candidates: a file each in `search_space/recipe_files/`, read by the one door."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.decode import Frozen, decode
from search_space.errors import MalformedError, MalformedFileError, UsageError, did_you_mean, nearest
from search_space.prediction import PredictionSettings
from search_space.training_plan import TrainingPlan

FOLDER = Path(__file__).with_name("recipe_files")


class Recipe(Frozen):
    """A published system, or a candidate of one's own: what a file leaves out is as a candidate has it by itself.

    Attributes:
        source: Where it was published; empty where the file does not say.
        architecture: Its network.
        plan: How it was trained.
        prediction: How its tiles became a map; None where that is the study's to say.
    """

    source: str = ""
    architecture: Architecture = Architecture()
    plan: TrainingPlan = TrainingPlan()
    prediction: PredictionSettings | None = None

    @property
    def candidate(self) -> Candidate:
        """The point of the search space."""
        return Candidate(architecture=self.architecture, plan=self.plan)


def recipe_names() -> tuple[str, ...]:
    """Names of all recipes, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def is_recipe(word: str) -> bool:
    """Whether a word names a recipe of the project, or a TOML file."""
    return word in recipe_names() or word.endswith(".toml")


def read_recipe(word: str) -> Recipe:
    """Read a recipe: of the project by its name, or a TOML file by its path.

    Raises:
        UsageError: There is none of that name, or the file cannot be read.
    """
    if word.endswith(".toml"):
        return read_recipe_file(Path(word))
    if word not in recipe_names():
        raise UsageError("there is no such recipe", received=word, remedy=did_you_mean(word, recipe_names()))
    return _own_recipe(word)


@cache
def _own_recipe(name: str) -> Recipe:
    return read_recipe_file(FOLDER / f"{name}.toml")


def _meant(word: str) -> str:
    near = nearest(word, recipe_names())
    return f"Did you mean the recipe {near!r}, without .toml?" if near else did_you_mean(word, recipe_names())


def read_recipe_file(path: Path) -> Recipe:
    """Read a recipe from a file.

    Raises:
        MalformedFileError: It is no TOML, or a key or value is wrong; its path, the value and what is allowed.
    """
    try:
        plain: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MalformedFileError("there is no such file", received=str(path), remedy=_meant(path.stem)) from None
    except (OSError, ValueError) as error:
        raise MalformedFileError(
            f"{path} cannot be read as TOML ({error})",
            remedy=f"Mend what it names; examples lie in {FOLDER}/",
        ) from None
    try:
        return decode(Recipe, plain, where=str(path))
    except MalformedError as error:
        raise MalformedFileError(error.what, received=error.received, remedy=error.remedy) from None
