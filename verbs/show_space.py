"""List every dimension of a study's search space with its range, as the study's `[space]` left it.

A part in brackets makes a dimension conditional: it exists only where that kind is chosen.

Example:
  python run_search.py show-space --study configs/demo.toml
"""

import argparse

from search_space.space import resolve_space, space_fingerprint
from verbs.common import add_study, load_study, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser)


def run(options: argparse.Namespace) -> None:
    """Print the space."""
    study = load_study(options)
    space = resolve_space(study.space)
    longest = max(map(len, space))
    for path, dimension in space.items():
        mark = "*" if path in study.space else " "
        say(f"{mark} {path:{longest}}  {dimension}")
    say(f"* set by the study. Fingerprint {space_fingerprint(space)}")
