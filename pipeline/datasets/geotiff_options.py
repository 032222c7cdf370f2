"""What a study says of GeoTIFFs and their labels: `[data.options]` of the format `geotiff`."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from rasterio.errors import CRSError

from pipeline.datasets.labels import IGNORED, Meanings, Others
from pipeline.datasets.patterns import VECTORS
from pipeline.datasets.raster import NoData
from pipeline.imagery.geodesy import read_crs
from pipeline.scene import Span
from search_space.decode import Frozen, ListAsTuple, Whole
from search_space.names import Names, Text

Code = Whole | str
Codes = Annotated[tuple[Code, ...], ListAsTuple]

Metres = Annotated[float, Field(ge=0.01, le=10_000.0)]
"""Width of a line; other numbers are slips of the unit."""

SAME_AS_IMAGE = "image"
"""As `labels_crs`: coordinates of labels are in the CRS of the images."""

ONLY_GROUP = "image"
"""Name of the group of bands where a scene is one file."""


def _crs(text: str) -> str:
    try:
        if text:
            read_crs(text)
    except (CRSError, ValueError):
        raise ValueError("must be a coordinate reference system, such as 'EPSG:32633'") from None
    return text


Crs = Annotated[str, AfterValidator(_crs)]

# The metaclass of every model has a method `register`, which no instance uses. The field must stay in the class that
# has all others: a subclass would take that method for its default.
warnings.filterwarnings("ignore", message='Field name "register" in "GeotiffOptions"', category=UserWarning)


class GeotiffOptions(Frozen):
    """`[data.options]` of the format `geotiff`.

    Patterns start at `data.folder`. What stands for `*` is the scene's name; a pattern without a star is one file
    for all scenes.

    Attributes:
        images: Pattern of the images; or, where a scene is several files, a pattern for each group of bands, the
            one whose grid is the scene's first.
        band_names: Names of the bands in the file's order, for each group where there are several.
        wavelengths_nm: Band to its shortest and longest wavelength.
        nodata: Pixels of which all bands have this value have no data (`"nan"`: any band); by default what the
            file says. For each group where they differ.
        crs: CRS of images that have a transform and do not say what it means.
        register: Whether the groups after the first are shifted against it and must be registered.
        labels: Pattern of the labels, vectors or rasters, which hold all classes; or one of vectors per class.
        class_field: Attribute of vectors that tells the class.
        values: Class to the values of the attribute, or to the numbers in label rasters.
        ignore: Values of ground about which nothing is known: never trained on, never scored.
        background: Values that are none of the classes.
        others: What becomes of all other values: "refuse", "background" or "ignore".
        ignored: Pattern of vectors within which nothing is known, whatever the labels say.
        area: Pattern of vectors outside of which nothing is known.
        labels_crs: CRS of the labels, whatever their files say; "image" for that of the images.
        layer: Layer of vector files that have several.
        width_m: Whole width of lines on the ground, for each class where they differ.
        width_field: Attribute that holds the width of lines in metres.
    """

    images: Text | dict[str, Text] = "images/*.tif"
    band_names: Names | dict[str, Names] = ()
    wavelengths_nm: dict[str, Span] = {}
    nodata: NoData | dict[str, NoData] | None = None
    crs: Crs = ""
    register: bool = False
    labels: Text | dict[Text, Text]
    class_field: str = ""
    values: dict[Text, Code | Codes] = {}
    ignore: Codes = ()
    background: Codes | None = None
    others: Others = "refuse"
    ignored: str = ""
    area: str = ""
    labels_crs: Literal["image"] | Crs = ""
    layer: str = ""
    width_m: Metres | dict[str, Metres] | None = None
    width_field: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for check in (self._check_groups, self._check_labels, self._check_values, self._check_widths):
            check()
        return self

    def _check_groups(self) -> None:
        groups = self.image_patterns
        if not groups:
            raise ValueError("`images` names no group of bands")
        for option, value in (("band_names", self.band_names), ("nodata", self.nodata)):
            strange = set(value) - set(groups) if isinstance(value, dict) else set()
            if strange:
                raise ValueError(f"`{option}` names {sorted(strange)[0]!r}, which is no group of `images`")
        if isinstance(self.band_names, tuple) and self.band_names and len(groups) > 1:
            raise ValueError("`band_names` must be a table, as `images` is: a list for each group")
        names = [name for group in groups for name in self.names_of(group)]
        if len(set(names)) < len(names):
            raise ValueError(f"`band_names` names {max(names, key=names.count)!r} twice")

    def _check_labels(self) -> None:
        for option, pattern in self._vector_patterns():
            if not is_vector(pattern):
                raise ValueError(f"`{option}` must end in {', '.join(VECTORS)}, received {pattern!r}")
        if not isinstance(self.labels, dict):
            return
        patterns = list(self.labels.values())
        if twice := [name for name, pattern in self.labels.items() if patterns.count(pattern) > 1]:
            raise ValueError(f"`labels` gives {twice[0]} and {twice[1]} the same files")
        given = [name for name in ("class_field", "values", "ignore", "background") if getattr(self, name)]
        if given or self.others != "refuse":
            raise ValueError(f"`labels` has a file for each class, so `{(given or ['others'])[0]}` means nothing")

    def _check_values(self) -> None:
        if isinstance(self.labels, dict):
            if not self.labels:
                raise ValueError("`labels` names no class")
            return
        if not self.values:
            raise ValueError("`values` is missing: what stands for each class; or name a file for each in `labels`")
        if empty := [name for name, codes in self.values.items() if codes == ()]:
            raise ValueError(f"`values` gives {empty[0]!r} none")
        if is_vector(self.labels) != bool(self.class_field):
            raise ValueError(
                "`class_field` is missing: the attribute that tells the class; or name a file for each in `labels`"
                if is_vector(self.labels)
                else "`class_field` means nothing, as `labels` are rasters"
            )
        codes = [*self._class_codes(), *self.ignore, *(self.background or ())]
        if not is_vector(self.labels) and any(isinstance(code, str) for code in codes):
            raise ValueError("`values`, `ignore` and `background` must be whole numbers, as `labels` are rasters")
        if len({str(code) for code in codes}) < len(codes):
            raise ValueError("a value is given two meanings in `values`, `ignore` and `background`")

    def _check_widths(self) -> None:
        if self.width_m is not None and self.width_field:
            raise ValueError("`width_m` and `width_field` both tell the width of lines")
        strange = set(self.width_m) - set(self.class_names) if isinstance(self.width_m, dict) else set()
        if strange:
            classes = ", ".join(self.class_names)
            raise ValueError(f"`width_m` names {sorted(strange)[0]!r}, which is no class: there are {classes}")

    @property
    def image_patterns(self) -> dict[str, str]:
        """Group of bands to the pattern of its files, the scene's grid first."""
        return self.images if isinstance(self.images, dict) else {ONLY_GROUP: self.images}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Every class that labels can have."""
        return tuple(self.labels) if isinstance(self.labels, dict) else tuple(self.values)

    @property
    def class_patterns(self) -> dict[str, str]:
        """Class to the pattern of its vectors; one entry named `IGNORED` where one pattern holds all classes."""
        return self.labels if isinstance(self.labels, dict) else {IGNORED: self.labels}

    @property
    def has_rasters(self) -> bool:
        """Whether labels are rasters."""
        return isinstance(self.labels, str) and not is_vector(self.labels)

    @property
    def meanings(self) -> Meanings:
        """What the values of labels stand for: text of attributes, or whole numbers of rasters.

        In a raster 0 is none of the classes unless it is said to be anything.
        """
        background = self.background
        if background is None and self.has_rasters:
            said = {*self._class_codes(), *self.ignore}
            background = () if 0 in said else (0,)
        turn = int if self.has_rasters else str
        return Meanings(
            classes={turn(code): name for name, codes in self.values.items() for code in _each(codes)},
            ignore=tuple(turn(code) for code in self.ignore),
            background=tuple(turn(code) for code in background or ()),
            others=self.others,
        )

    def says(self, code: float) -> bool:
        """Whether the study itself gives a value of label rasters a meaning."""
        return code in (*self._class_codes(), *self.ignore, *(self.background or ()))

    def names_of(self, group: str) -> tuple[str, ...]:
        """Names of a group's bands, as far as they are given."""
        return self.band_names.get(group, ()) if isinstance(self.band_names, dict) else self.band_names

    def nodata_of(self, group: str) -> NoData | None:
        """The value of a group that means no data, as far as it is given."""
        return self.nodata.get(group) if isinstance(self.nodata, dict) else self.nodata

    def width_of(self, class_name: str) -> float | None:
        """Width of the lines of a class; unknown ground is as wide as the widest class."""
        if isinstance(self.width_m, dict):
            return max(self.width_m.values()) if class_name == IGNORED else self.width_m.get(class_name)
        return self.width_m

    @property
    def widest_m(self) -> float:
        """No line is wider, unless widths stand in the files."""
        widths = self.width_m.values() if isinstance(self.width_m, dict) else (self.width_m or 0.0,)
        return max(widths, default=0.0)

    def _class_codes(self) -> list[Code]:
        return [code for codes in self.values.values() for code in _each(codes)]

    def _vector_patterns(self) -> Iterable[tuple[str, str]]:
        if isinstance(self.labels, dict):
            yield from ((f"labels.{name}", pattern) for name, pattern in self.labels.items())
        yield from ((option, getattr(self, option)) for option in ("ignored", "area") if getattr(self, option))


def is_vector(pattern: str) -> bool:
    """Whether a pattern's ending is that of a file of geometries."""
    return Path(pattern).suffix.lower() in VECTORS


def _each(codes: Code | tuple[Code, ...]) -> tuple[Code, ...]:
    return codes if isinstance(codes, tuple) else (codes,)
