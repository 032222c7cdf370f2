"""An architecture with a training plan: one point of the search space."""

from search_space.architecture import Architecture
from search_space.decode import Frozen, fingerprint
from search_space.errors import InfeasibleError
from search_space.network.unet import outline
from search_space.training_plan import TrainingPlan

LEAST_MAP_PX = 8


class Candidate(Frozen):
    """What one trial tries."""

    architecture: Architecture = Architecture()
    plan: TrainingPlan = TrainingPlan()

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that are equal exactly for equal candidates."""
        return fingerprint(self)

    def context_px(self, tile_px: int = 0) -> int:
        """How far the network looks in a map: as far as it can, but not beyond the tile that it is given.

        Args:
            tile_px: Side length of the tiles; 0 for those as large as the patches of its training.
        """
        tile_px = tile_px or self.plan.patch_px
        context_px = outline(self.architecture).context_px
        return tile_px if context_px is None else min(context_px, tile_px)

    def check_feasible(self) -> None:
        """Refuse a candidate from which no model can be built.

        Raises:
            InfeasibleError: The patch is smaller than the network's total stride, its margin leaves nothing of it, or
                parts of the plan make no sense together.
        """
        self.plan.check_feasible()
        divisor = outline(self.architecture).divisor_px
        patch_px, margin_px = self.plan.patch_px, self.architecture.margin_px
        if patch_px < divisor:
            raise InfeasibleError(
                f"plan.patch_px must be at least 2**depth = {divisor}, which the network halves to one pixel",
                received={"patch_px": patch_px, "depth": self.architecture.depth},
                remedy=f"Use {divisor} or more",
            )
        if patch_px - 2 * margin_px < LEAST_MAP_PX:
            raise InfeasibleError(
                f"architecture.margin_px must leave at least {LEAST_MAP_PX} px of a patch",
                received={"patch_px": patch_px, "margin_px": margin_px},
                remedy=f"Use patches of {2 * margin_px + LEAST_MAP_PX} px or more",
            )
