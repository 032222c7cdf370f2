"""Turn imagery and labels into aligned cubes, with a manifest and a quick-look per scene.

Examples:
  python run_search.py prepare --study configs/demo.toml
  python run_search.py prepare --study configs/demo.toml --jobs 4
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from verbs.bars import Bar
from verbs.common import add_study, at_least, load_study, say, split_text, study_commands

if TYPE_CHECKING:
    from pipeline.imagery.registration import Shift
    from pipeline.preparation.prepare import Progress
    from pipeline.preparation.prepared import Manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser)
    parser.add_argument(
        "--jobs",
        type=at_least(1),
        metavar="N",
        help="scenes at a time, each in a process of its own (default: by cores, free memory and what there is to do)",
    )


def run(options: argparse.Namespace) -> None:
    """Prepare every scene; what is unchanged is skipped."""
    from pipeline.patches.room import split_of
    from pipeline.preparation.prepare import prepare
    from results.splits import split_line

    study = load_study(options)
    say(f"Preparing {study.data.folder} into {study.prepared}")
    with PrepareProgress() as shown:
        dataset = prepare(study.data, shown.show, options.jobs)
    for line in _same_ground(dataset.manifest):
        say(line)
    fold = split_of(study, dataset)
    say(
        f"{len(dataset.scene_ids)} scenes of {len(dataset.bands)} bands, {len(dataset.classes)} classes: "
        f"{split_line(fold.split)}"
    )
    say(split_text(fold.split))
    say(f"Quick-looks: {study.prepared}/*/quicklook.png")
    say(f"Fingerprint {dataset.fingerprint}. Next: {study_commands(study, options).search()}")


class PrepareProgress(Bar):
    """Shows which scenes are done: a bar on a terminal, a line per scene elsewhere; use in a `with` statement."""

    def __init__(self) -> None:
        super().__init__(unit="scene")

    def show(self, progress: "Progress") -> None:
        """Show that a scene has ended."""
        line = scene_line(progress)
        if self._bar.disable:
            say(f"  {progress.number}/{progress.total} {line}")
            return
        self._bar.total = progress.total
        self._bar.set_postfix_str(line, refresh=False)
        self._bar.update(progress.number - self._bar.n)


def scene_line(progress: "Progress") -> str:
    """A scene, what became of it, and what a person should know of it."""
    line = f"{progress.scene_id}: {progress.state}"
    if progress.state == "failed":
        return line
    if not progress.has_data:
        line += ", no pixel has data"
    if not progress.labelled:
        line += ", without labels"
    return line + _shifts(progress.shifts)


def _shifts(shifts: "Sequence[Shift]") -> str:
    """Groups that were moved back, by how much they lay too far right and down; those left in place are logged."""
    told = [f"{each.group} was ({each.x_px:+.1f}, {each.y_px:+.1f}) px off" for each in shifts if each.moves]
    return "; " + ", ".join(told) if told else ""


def _same_ground(manifest: "Manifest") -> list[str]:
    """One line per group of scenes that no fold may split, with how it was found."""
    lines = []
    for group in manifest.same_ground:
        links = [link for link in manifest.same_ground_links if set(link.scenes) <= set(group)]
        how = ", ".join(sorted({link.found for link in links}))
        lines.append(f"Same ground ({how}): {', '.join(group)}")
    return lines
