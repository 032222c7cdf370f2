"""An architecture with a training plan: one point of the search space."""

from search_space.architecture import Architecture
from search_space.decode import Frozen, fingerprint
from search_space.errors import InfeasibleError
from search_space.training_plan import TrainingPlan


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
        return min(self.architecture.context_px, tile_px or self.plan.patch_px)

    def check_feasible(self) -> None:
        """Refuse a candidate from which no model can be built.

        Raises:
            InfeasibleError: The patch does not divide by the architecture's total stride, or is too small for it.
        """
        divisor = self.architecture.divisor_px
        patch = self.plan.patch_px
        if patch % divisor:
            below = patch // divisor * divisor
            sizes = [str(size) for size in (below, below + divisor) if size >= divisor]
            raise InfeasibleError(
                f"patch_px must be divisible by 2**depth = {divisor} so that skips line up",
                received={"patch_px": patch, "depth": self.architecture.depth},
                remedy=f"Use {' or '.join(sizes)}",
            )
