"""Arrays in, arrays out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.maps.array_maps import ArrayModels, open_models, predict_array
from pipeline.models.model_set import LoadedModelSet
from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.errors import MapgroveError
from search_space.prediction import PredictionSettings
from search_space.records import ClassMap, ModelMember, ModelSet
from search_space.training_plan import Scaling, TrainingPlan

SETTINGS = PredictionSettings(tile_px=16, symmetries="none", batch_size=4)


def last_band(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
    return tiles[..., -1:]


def models(*indices: str, bands: tuple[str, ...] = ("green", "nir")) -> ArrayModels:
    plan = TrainingPlan(patch_px=16, scaling=Scaling(kind="standard", scope="scene"))
    candidate = Candidate(architecture=Architecture(depth=1), plan=plan)
    description = ModelSet(
        study="s",
        data_fingerprint="f",
        classes=("water",),
        bands=bands,
        indices=indices,
        members=(ModelMember(class_name="water", file="m.keras", candidate=candidate, threshold=0.5),),
        maps=(ClassMap(class_name="water", threshold=0.5),),
    )
    return ArrayModels(LoadedModelSet(description, lambda _: last_band), SETTINGS)


def standard(values: NDArray[np.floating]) -> NDArray[np.floating]:
    return (values - np.nanmean(values)) / np.nanstd(values)


IMAGE = np.random.default_rng(0).integers(1, 2000, (40, 30, 2))


def test_an_array_is_mapped() -> None:
    mapped = predict_array(models(), IMAGE)
    assert (mapped.shape, mapped.dtype) == ((40, 30, 1), np.float32)
    np.testing.assert_allclose(mapped[..., 0], standard(IMAGE[..., 1]), atol=1e-4)
    assert (models().classes, models().bands, models().thresholds) == (("water",), ("green", "nir"), [0.5])


def test_indices_are_computed_where_they_are_not_given() -> None:
    green, nir = IMAGE[..., 0].astype(np.float64), IMAGE[..., 1]
    ndwi = (green - nir) / (green + nir)
    computed = predict_array(models("ndwi"), IMAGE)
    np.testing.assert_allclose(computed[..., 0], standard(ndwi), atol=1e-4)
    given = predict_array(models("ndwi"), np.concatenate([IMAGE, ndwi[..., None]], axis=-1))
    np.testing.assert_allclose(given, computed, atol=1e-5)


def test_wavelengths_tell_which_bands_an_index_needs() -> None:
    unnamed = models("ndwi", bands=("b3", "b8"))
    expected = predict_array(models("ndwi"), IMAGE)
    wavelengths_nm = {"b3": (543.0, 578.0), "b8": (785.0, 900.0)}
    np.testing.assert_array_equal(predict_array(replace(unnamed, wavelengths_nm=wavelengths_nm), IMAGE), expected)
    swapped = replace(unnamed, wavelengths_nm={"b8": (543.0, 578.0), "b3": (785.0, 900.0)})
    assert not np.allclose(predict_array(swapped, IMAGE), expected)
    with pytest.raises(MapgroveError, match=r"cannot be computed.*Give bands and indices, \(H, W, 3\): b3, b8, ndwi"):
        predict_array(unnamed, IMAGE)


def test_what_has_no_data_stays_so_and_counts_for_nothing() -> None:
    image = IMAGE.astype(np.float32)
    image[3, 4, 0] = np.nan
    valid = np.ones((40, 30), bool)
    valid[10:20, :7] = False
    image[10:20, :7] = 1e9
    mapped = predict_array(models(), image, valid=valid)[..., 0]
    known = valid.copy()
    known[3, 4] = False
    assert np.isnan(mapped[~known]).all()
    np.testing.assert_allclose(mapped[known], standard(np.where(known, image[..., 1], np.nan))[known], atol=1e-4)
    assert image[10, 0, 0] == 1e9, "what was given is left alone"


def test_what_a_masked_array_hides_has_no_data() -> None:
    hidden = np.zeros(IMAGE.shape, bool)
    hidden[5:9, 6, 1] = True
    masked = np.ma.MaskedArray(np.where(hidden, -9999, IMAGE), hidden)
    valid = ~hidden.any(axis=-1)
    np.testing.assert_array_equal(predict_array(models(), masked), predict_array(models(), IMAGE, valid=valid))
    with_index = predict_array(models("ndwi"), masked)
    np.testing.assert_array_equal(with_index, predict_array(models("ndwi"), IMAGE, valid=valid))
    given = np.ma.concatenate([IMAGE, masked[..., 1:]], axis=-1)
    assert (np.isnan(predict_array(models("ndwi"), given)[..., 0]) == ~valid).all()


def test_a_list_is_as_good_as_an_array() -> None:
    np.testing.assert_array_equal(predict_array(models(), IMAGE.tolist()), predict_array(models(), IMAGE))  # type: ignore[arg-type]


def test_arrays_that_do_not_fit_are_refused() -> None:
    for wrong in (IMAGE.astype(complex), IMAGE.astype(str), IMAGE.astype(object)):
        with pytest.raises(MapgroveError, match="an image holds real numbers"):
            predict_array(models(), wrong)
    with pytest.raises(MapgroveError, match=r"an image is \(H, W, 2\), its bands green, nir. Received \(40, 30, 1\)"):
        predict_array(models("ndwi"), IMAGE[..., :1])
    with pytest.raises(MapgroveError, match=r"an image is \(H, W, 2\).* Received \(0, 30, 2\)"):
        predict_array(models(), IMAGE[:0])
    with pytest.raises(MapgroveError, match="an image is an array of real numbers"):
        predict_array(models(), [[[1.0, 2.0]], [[1.0]]])  # type: ignore[arg-type]
    with pytest.raises(MapgroveError, match=r"`valid` must be \(40, 30\)"):
        predict_array(models(), IMAGE, valid=np.ones((3, 3), bool))
    for odd in (np.full((40, 30), "False"), np.full((40, 30), np.nan)):
        with pytest.raises(MapgroveError, match=r"`valid` tells by bool where there is data. Received"):
            predict_array(models(), IMAGE, valid=odd)
    with pytest.raises(MapgroveError, match=r"settings are PredictionSettings. Received 'dict'"):
        predict_array(models(), IMAGE, settings={"symmetries": "none"})  # type: ignore[arg-type]


def test_a_folder_without_models_is_told(tmp_path: Path) -> None:
    with pytest.raises(MapgroveError, match="no model set in"):
        open_models(tmp_path)
