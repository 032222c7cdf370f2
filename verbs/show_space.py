"""Draw the search space as a tree: every dimension with its range, as a study's `[space]` left it.

What exists only where an option is chosen hangs under the choice. A study names such a dimension with the option in
brackets, `"architecture.block[plain].kernel_px"`, and any other by its path.

Examples:
  python run_search.py show-space
  python run_search.py show-space --study configs/demo.toml
"""

import argparse

from search_space.space import overridden, resolve_space, space_fingerprint
from verbs.common import add_study, load_study, refuse_set_without_study, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser, required=False)


def run(options: argparse.Namespace) -> None:
    """Print the tree."""
    from results.space_tree import space_tree

    refuse_set_without_study(options)
    overrides = load_study(options).space if options.study is not None else {}
    space = resolve_space(overrides)
    marked = overridden(space, overrides)
    say(space_tree(space, marked))
    note = "* set by the study. " if marked else ""
    say(f"\n{note}{len(space)} dimensions. Fingerprint {space_fingerprint(space)}")
