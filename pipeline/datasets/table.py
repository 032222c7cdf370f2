"""The one table of adapters: a new data set is one file and one line here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.datasets.base import Adapter, did_you_mean
from pipeline.datasets.dstl import DstlAdapter
from pipeline.datasets.masks import MasksAdapter
from pipeline.scene import DataError
from search_space.study import DataSettings

ADAPTERS: Mapping[str, Callable[[Path, Mapping[str, Any]], Adapter]] = {
    "dstl": DstlAdapter,
    "masks": MasksAdapter,
}
"""Format name to adapter, made from the data set's folder and the plain `[data.options]`."""


def open_dataset(settings: DataSettings) -> Adapter:
    """Open the data set that a study names, and check what can be checked without reading pixels.

    Raises:
        DataError: No such format, a missing folder, no scenes, contradicting files.
        MalformedError: Options that the adapter does not understand.
    """
    if settings.format not in ADAPTERS:
        raise DataError(
            "data.format: no such format", received=settings.format, remedy=did_you_mean(settings.format, ADAPTERS)
        )
    adapter = ADAPTERS[settings.format](Path(settings.folder), settings.options)
    adapter.check()
    return adapter
