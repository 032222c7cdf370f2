"""Values of the searched dimensions, read from candidates by the dimensions' paths."""

from collections.abc import Iterable, Mapping

from results.phrases import activation_name, mix_phrase
from search_space.candidate import Candidate
from search_space.decode import encode
from search_space.default_space import DEFAULT_SPACE
from search_space.dimensions import Real

Value = str | float | None
"""A number, the name of an option, or None where the dimension does not exist in a candidate."""


def searched_dimensions(points: Iterable[Mapping[str, float]]) -> list[str]:
    """Paths of all dimensions that occur in the points, in alphabetical order of their path.

    Args:
        points: Points as they are stored: path of the dimension to number (a choice is the index of its option).
    """
    return sorted({path for point in points for path in point})


def dimension_value(candidate: Candidate, path: str) -> Value:
    """Read one dimension.

    Args:
        candidate: The candidate to read.
        path: A path of the search space, such as `architecture.block[inception].wide_kernel_px`.

    Returns:
        A float for numbers, the option's name for choices ("inception", "bce + dice"), None where the candidate
        is not on the branch of the path or does not know it.
    """
    node: object = encode(candidate)
    for part in path.split("."):
        name, _, branch = part.rstrip("]").partition("[")
        if not isinstance(node, Mapping) or name not in node:
            return None
        node = node[name]
        if branch and not (isinstance(node, Mapping) and node.get("kind") == branch):
            return None
    return _plain_value(node)


def _plain_value(node: object) -> Value:
    if isinstance(node, Mapping):
        return str(node["kind"]) if "kind" in node else mix_phrase(node)
    if isinstance(node, (int, float)) and not isinstance(node, bool):
        return float(node)
    return None if node is None else str(node)


def dimension_title(path: str) -> str:
    """A path in words, such as "inception block: wide kernel px", "scaling kind" or "learning rate"."""
    title = _spaced(path.rpartition(".")[2])
    parent = path.rpartition(".")[0]
    if "[" in parent:
        owner, _, branch = parent.rpartition(".")[2].rstrip("]").partition("[")
        return f"{branch} {_spaced(owner)}: {title}"
    # Within the architecture and the plan a name says enough, in a group of theirs it does not.
    return f"{_spaced(parent.rpartition('.')[2])} {title}" if "." in parent else title


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def is_logarithmic(path: str) -> bool:
    """Whether the dimension is searched by its order of magnitude."""
    dimension = DEFAULT_SPACE.get(path)
    return isinstance(dimension, Real) and dimension.log


def option_title(path: str, value: str) -> str:
    """An option's name as it is shown."""
    return activation_name(value) if path.endswith("activation") else value.replace("_", " ")
