"""Turn imagery and labels into aligned cubes, with a manifest and a quick-look per scene.

Example:
  python run_search.py prepare --study configs/demo.toml
"""

import argparse

from verbs.common import add_study, load_study, say, split_text, study_commands


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser)


def run(options: argparse.Namespace) -> None:
    """Prepare every scene; what is unchanged is skipped."""
    from pipeline.folds import make_fold
    from pipeline.prepare import Progress, prepare
    from results.splits import split_line

    study = load_study(options)

    def tell(progress: Progress) -> None:
        lacks = "" if progress.has_data else ", no pixel has data"
        if not progress.labelled and progress.state != "failed":
            lacks += ", without labels"
        say(f"  {progress.number}/{progress.total} {progress.scene_id}: {progress.state}{lacks}")

    say(f"Preparing {study.data.folder} into {study.prepared}")
    dataset = prepare(study.data, tell)
    fold = make_fold(study.folds, dataset)
    say(
        f"{len(dataset.scene_ids)} scenes of {len(dataset.bands)} bands, {len(dataset.classes)} classes: "
        f"{split_line(fold.split)}"
    )
    say(split_text(fold.split))
    say(f"Quick-looks: {study.prepared}/*/quicklook.png")
    say(f"Fingerprint {dataset.fingerprint}. Next: {study_commands(study, options).search()}")
