"""A search space as a tree: its parts, what each dimension ranges over, and under a choice what only one option has."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from search_space.default_space import Space
from search_space.dimensions import Dimension


def space_tree(space: Space, marked: Collection[str] = ()) -> str:
    """Draw a space.

    Args:
        space: Path to dimension.
        marked: Paths that get an asterisk.

    Returns:
        One line per dimension and part; what exists only where an option is chosen hangs under the choice, with the
        option's name before it.
    """
    root = _Node()
    for path, dimension in space.items():
        node = root
        for part in path.replace("]", "").split("."):
            name, _, option = part.partition("[")
            node = node.child(name)
            if option:
                node.option = option
        node.dimension, node.path = dimension, path
    lines = list(_lines(root))
    width = max(len(label) for label, _ in lines)
    return "\n".join(
        f"{'*' if node.path in marked else ' '} {label:{width}}  {node.dimension or ''}".rstrip()
        for label, node in lines
    )


@dataclass
class _Node:
    """A part of the space; `option` is set while its path is read on behind a bracket."""

    dimension: Dimension | None = None
    path: str = ""
    option: str = ""
    children: dict[str, "_Node"] = field(default_factory=dict)

    def child(self, name: str) -> "_Node":
        label = f"{self.option}: {name}" if self.option else name
        self.option = ""
        return self.children.setdefault(label, _Node())


def _lines(node: _Node, indent: str = "", depth: int = 0) -> Iterator[tuple[str, _Node]]:
    """Each node below `node`, with its name behind the tree's branches."""
    last = len(node.children) - 1
    for number, (label, child) in enumerate(node.children.items()):
        branch, below = ("", "") if depth == 0 else ("└─ ", "   ") if number == last else ("├─ ", "│  ")
        yield indent + branch + label, child
        yield from _lines(child, indent + below, depth + 1)
