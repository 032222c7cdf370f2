"""The one table of adapters: a new data set is one file and one line here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.datasets.base import Adapter
from pipeline.datasets.dstl import DstlAdapter
from pipeline.datasets.geotiff import GeotiffAdapter
from pipeline.datasets.masks import MasksAdapter
from pipeline.datasets.spacenet import SpacenetAdapter
from pipeline.scene import DataError
from search_space.errors import did_you_mean
from search_space.study import DataSettings

ADAPTERS: Mapping[str, Callable[[Path, Mapping[str, Any]], Adapter]] = {
    "dstl": DstlAdapter,
    "geotiff": GeotiffAdapter,
    "masks": MasksAdapter,
    "spacenet": SpacenetAdapter,
}
"""Format name to adapter, made from the data set's folder and the plain `[data.options]`."""


def open_dataset(settings: DataSettings) -> Adapter:
    """Open the data set that a study names, and check what can be checked without reading pixels.

    Raises:
        DataError: No such format, a missing folder, no scenes, contradicting files.
        MalformedError: Options that the adapter does not understand.
    """
    adapter = _adapter(settings)
    adapter.check()
    return adapter


def open_image(settings: DataSettings, path: Path) -> Adapter:
    """Open an image from elsewhere as a data set of one scene; the study's own imagery need not be there.

    Raises:
        DataError: No such format.
        MalformedError: Options that the adapter does not understand.
    """
    return _adapter(settings).of_image(path)


def _adapter(settings: DataSettings) -> Adapter:
    if settings.format not in ADAPTERS:
        raise DataError(
            "data.format: no such format", received=settings.format, remedy=did_you_mean(settings.format, ADAPTERS)
        )
    return ADAPTERS[settings.format](Path(settings.folder), settings.options)
