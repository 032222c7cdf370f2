"""`[folds]` of a study's file: which ground trains, validates and tests."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from search_space.decode import Count, Frozen, ListAsTuple, Whole
from search_space.names import Names

LEAST_BLOCK_PX = 8

Group = Annotated[Names, Field(min_length=2)]


class FoldSettings(Frozen):
    """`[folds]`: which ground is held out; all other labelled ground trains.

    Either `validation` names whole scenes, or `num_folds` deals all labelled ground that `test` leaves into so many
    folds, with every class in each of them where possible, and `fold` says which of them validates.

    Attributes:
        validation: Scenes that rank candidates and choose thresholds.
        test: Scenes that nothing looks at before `score`.
        num_folds: Number of folds; None where `validation` names scenes.
        fold: The fold that validates, from 1 to `num_folds`; the others train.
        test_fold: The fold that nothing looks at before `score`, from 1; an alternative to `test`.
        unit: What is dealt: whole scenes, or blocks of a regular grid within each scene.
        block_px: Side length of a block; blocks differ from it as far as needed to fill the scene.
        groups: Scenes of the same ground, beside those that the data set knows of; they stay in one fold.
        seed: Deals another way. The study's own seed has no part in it: studies of other seeds have the same split.
    """

    validation: Names = ()
    test: Names = ()
    num_folds: Annotated[Whole, Field(ge=2)] | None = None
    fold: Count = 1
    test_fold: Count | None = None
    unit: Literal["scene", "block"] = "scene"
    block_px: Annotated[Whole, Field(ge=LEAST_BLOCK_PX)] | None = None
    groups: Annotated[tuple[Group, ...], ListAsTuple] = ()
    seed: Annotated[Whole, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.num_folds is None:
            self._check_named()
        else:
            self._check_numbered(self.num_folds)
        return self

    def _check_named(self) -> None:
        if not self.validation:
            raise ValueError("must have `validation` with at least one scene, or `num_folds`")
        both = sorted(set(self.validation) & set(self.test))
        if both:
            raise ValueError(f"scenes are both in `validation` and `test`: {', '.join(both)}")
        dealt = {"fold": self.fold != 1, "test_fold": self.test_fold, "unit": self.unit != "scene"}
        idle = [name for name, given in {**dealt, "block_px": self.block_px}.items() if given]
        if idle:
            raise ValueError(f"only `num_folds` gives `{idle[0]}` a meaning: give it in place of `validation`")

    def _check_numbered(self, num_folds: int) -> None:
        if self.validation:
            raise ValueError("either `validation` names scenes or `num_folds` deals them: leave one of them out")
        if self.test and self.test_fold:
            raise ValueError("either `test` names scenes or `test_fold` chooses a fold: leave one of them out")
        for name, number in (("fold", self.fold), ("test_fold", self.test_fold)):
            if number is not None and number > num_folds:
                raise ValueError(
                    f"`{name}` = {number} is no fold: with `num_folds` = {num_folds} they are 1 to {num_folds}"
                )
        if self.test_fold == self.fold:
            raise ValueError(f"`fold` and `test_fold` are both {self.fold}: name two folds")
        if self.test_fold and num_folds < 3:
            raise ValueError("nothing is left to train on: with `test_fold`, `num_folds` must be at least 3")
        if (self.unit == "block") != (self.block_px is not None):
            raise ValueError('`unit` = "block" and `block_px` go together: give both or neither')

    @property
    def places(self) -> str:
        """What folds consist of, in words: "scenes" or "blocks"."""
        return f"{self.unit}s"

    @property
    def has_test(self) -> bool:
        """Whether ground is held out that nothing looks at before `score`."""
        return bool(self.test or self.test_fold)
