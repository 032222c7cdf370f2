"""The one door refuses what it should and takes what Hyperopt, TOML and stores really deliver."""

import pickle
import tomllib

import numpy as np
import pytest

from search_space.candidate import Candidate
from search_space.decode import canonical_json, decode, encode, fingerprint
from search_space.errors import InfeasibleError, MalformedError, MapgroveError, UsageError
from search_space.records import ModelMember


def test_whole_floats_and_numpy_scalars_are_taken_as_integers() -> None:
    plain = {"architecture": {"depth": 3.0, "base_filters": np.int64(24), "growth": np.float64(1.25)}}

    candidate = decode(Candidate, plain, where="test")

    assert candidate.architecture.depth == 3
    assert isinstance(candidate.architecture.depth, int)
    assert candidate.architecture.base_filters == 24
    assert candidate.architecture.growth == 1.25


@pytest.mark.parametrize(
    ("plain", "parts"),
    [
        ({"architecture": {"depht": 3}}, ["unknown key 'architecture.depht'", "Did you mean 'depth'?"]),
        ({"architecture": {"block": {"kind": "plain", "kernel": 3}}}, ["unknown key", "kernel", "'kernel_px'"]),
        ({"architecture": {"base_filters": 8.5}}, ["architecture.base_filters", "8.5"]),
        ({"architecture": {"depth": True}}, ["architecture.depth", "True"]),
        ({"architecture": {"depth": "3"}}, ["architecture.depth", "'3'"]),
        ({"architecture": {"block": {"kind": "denser"}}}, ["architecture.block", "denser", '"residual"']),
        ({"architecture": {"growth": float("nan")}}, ["architecture.growth", "nan"]),
        ({"plan": {"learning_rate": 0}}, ["plan.learning_rate", "above 0"]),
        ({"plan": {"loss": {"bce": 0.0}}}, ["plan.loss", "positive weight"]),
    ],
)
def test_malformed_data_is_refused_in_one_line_with_its_path(plain: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(MalformedError) as caught:
        decode(Candidate, plain, where="recipe.toml")

    message = str(caught.value)
    assert message.startswith("recipe.toml: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_date_without_quotes_is_taken_as_its_name() -> None:
    plain = tomllib.loads("class_name = 2024-05-01\nfile = 10:30:00\nthreshold = 1\n[candidate]")

    member = decode(ModelMember, plain, where="test")

    assert (member.class_name, member.file) == ("2024-05-01", "10:30:00")


def test_encode_is_the_inverse_of_decode() -> None:
    candidate = decode(Candidate, {"architecture": {"block": {"kind": "inception", "wide_kernel_px": 7}}}, where="test")

    assert decode(Candidate, encode(candidate), where="test") == candidate


def test_fingerprint_ignores_order_and_spelling_but_not_values() -> None:
    one = decode(Candidate, {"plan": {"patch_px": 64, "batch_size": 4}}, where="test")
    same = decode(Candidate, {"plan": {"batch_size": 4.0, "patch_px": 64.0}}, where="test")
    other = decode(Candidate, {"plan": {"patch_px": 64, "batch_size": 8}}, where="test")

    assert one.fingerprint == same.fingerprint
    assert one.fingerprint != other.fingerprint


def test_fingerprint_is_the_same_in_every_process_and_version() -> None:
    # Worked out by hand with sha256sum: it must never change, since stores keep it.
    assert canonical_json({"b": [1, 2.5], "a": None}) == '{"a":null,"b":[1,2.5]}'
    assert fingerprint({"b": [1, 2.5], "a": None}) == "e57f5d37865437a8"


def test_a_patch_too_small_for_the_network_names_the_least_that_fits() -> None:
    candidate = decode(Candidate, {"architecture": {"depth": 6}, "plan": {"patch_px": 63}}, where="test")

    with pytest.raises(InfeasibleError, match=r"at least 2\*\*depth = 64.*'patch_px': 63.* Use 64 or more\."):
        candidate.check_feasible()
    margin = decode(Candidate, {"architecture": {"margin_px": 30}, "plan": {"patch_px": 64}}, where="test")
    with pytest.raises(InfeasibleError, match=r"leave at least 8 px of a patch.*Use patches of 68 px or more"):
        margin.check_feasible()


@pytest.mark.parametrize("kind", [MapgroveError, MalformedError, InfeasibleError, UsageError])
def test_errors_survive_the_way_between_processes(kind: type[MapgroveError]) -> None:
    error = kind("a rule", received={"value": 3}, remedy="Do this")

    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is kind
    assert str(copy) == str(error) == "a rule. Received {'value': 3}. Do this."
    assert copy.remedy == "Do this"


def test_error_shortens_what_it_received_and_stays_on_one_line() -> None:
    message = str(MapgroveError("a rule\nin two lines", received="x" * 10_000))

    assert len(message) < 250
    assert "\n" not in message
