"""Published systems as candidates: a file each in `search_space/recipe_files/`, read by the one door."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.decode import Frozen, decode
from search_space.errors import MalformedError, MapgroveError
from search_space.prediction import PredictionSettings
from search_space.training_plan import TrainingPlan

FOLDER = Path(__file__).with_name("recipe_files")


class Recipe(Frozen):
    """A published system.

    Attributes:
        source: Where it was published.
        architecture: Its network.
        plan: How it was trained.
        prediction: How its tiles became a map.
    """

    source: str
    architecture: Architecture
    plan: TrainingPlan
    prediction: PredictionSettings = PredictionSettings()

    @property
    def candidate(self) -> Candidate:
        """The point of the search space."""
        return Candidate(architecture=self.architecture, plan=self.plan)


def recipe_names() -> tuple[str, ...]:
    """Names of all recipes, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@cache
def read_recipe(name: str) -> Recipe:
    """Read a recipe of the project by its name.

    Raises:
        MapgroveError: There is none of that name.
    """
    if name not in recipe_names():
        raise MapgroveError("there is no such recipe", received=name, remedy=f"Known are: {', '.join(recipe_names())}")
    return read_recipe_file(FOLDER / f"{name}.toml")


def read_recipe_file(path: Path) -> Recipe:
    """Read a recipe from a file.

    Raises:
        MalformedError: It is no TOML, or a key or value is wrong; its path, the value and what is allowed.
    """
    try:
        plain: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MalformedError(f"{path} cannot be read as TOML ({error})") from None
    return decode(Recipe, plain, where=str(path))
