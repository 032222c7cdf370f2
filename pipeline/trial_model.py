"""A trial's model in one file, with all that is needed to use it."""

import json
import zipfile
from pathlib import Path
from typing import Any

from pipeline.files import written_beside
from search_space.decode import decode, encode
from search_space.errors import MapgroveError
from search_space.records import TrialModel

ABOUT = "mapgrove.json"
"""Beside Keras's own parts in the `.keras` file, which is a zip archive; Keras leaves it alone."""


def write_trial_model(path: Path, model: Any, about: TrialModel) -> None:
    """Write a `.keras` file that also says what the model maps and how its bands are scaled."""
    with written_beside(path) as beside:
        model.save(beside, include_optimizer=False)
        with zipfile.ZipFile(beside, "a") as archive:
            archive.writestr(ABOUT, json.dumps(encode(about), indent=1))


def read_about(path: Path) -> TrialModel:
    """What such a file says of its model; `keras.models.load_model` reads the model itself.

    Raises:
        MapgroveError: It is missing, or no model of a trial.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            plain = json.loads(archive.read(ABOUT))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise MapgroveError("no model of a trial", received=f"{path} ({error})") from None
    return decode(TrialModel, plain, where=str(path))
