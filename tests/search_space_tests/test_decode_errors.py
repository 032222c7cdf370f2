"""Whatever is wrong with plain data is told in one line, in the words of whoever wrote it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, model_validator

from search_space.candidate import Candidate
from search_space.decode import Frozen, ListAsTuple, Whole, decode, encode
from search_space.errors import MalformedError
from search_space.records import BandNumbers, ClassMap, Counts, FoldJaccard, ModelMember, ModelSet, ScoreRecord
from search_space.study import Study
from search_space.study_file import read_study

Colour = Annotated[tuple[Whole, Whole, Whole], ListAsTuple]
NAN = float("nan")


class Part(Frozen):
    size: Annotated[float, Field(gt=0, lt=10)] = 1.0


class Sample(Frozen):
    """Every kind of field that the models of any room have."""

    codes: Annotated[dict[str, Whole | Colour], Field(min_length=1)] = {"roof": 1}
    nodata: float | Literal["nan"] | None = None
    names: Annotated[tuple[str, ...], ListAsTuple] = ()
    span: Annotated[tuple[float, float], ListAsTuple] | None = None
    title: Annotated[str, Field(min_length=1, max_length=4, pattern="^[a-z]*$")] = "a"
    kind: Literal["none", "flips", "d4"] = "d4"
    exact: bool = False
    part: Part = Part()
    parts: Annotated[tuple[Part, ...], ListAsTuple] = ()
    counts: dict[str, Part] = {}
    odd: complex = 1j

    @model_validator(mode="after")
    def _rule(self) -> "Sample":
        if self.exact and self.kind == "none":
            raise ValueError("`exact` needs a kind")
        return self


def told(plain: Any, model: type[BaseModel] = Sample, remedy: str = "") -> str:
    with pytest.raises(MalformedError) as caught:
        decode(model, plain, where="f.toml", remedy=remedy)
    return str(caught.value)


COLOUR_OR_CODE = "'codes.roof' must be a whole number or a list of 3 whole numbers."


@pytest.mark.parametrize(
    ("plain", "line"),
    [
        ({"codes": {"roof": "red"}}, f"{COLOUR_OR_CODE} Received 'red'."),
        ({"codes": {"roof": [1, 2]}}, f"{COLOUR_OR_CODE} Received [1, 2]."),
        ({"codes": {"roof": [1, "a", 2]}}, "'codes.roof', item 2 must be a whole number. Received 'a'."),
        ({"codes": {}}, "'codes' must have at least 1 item(s). Received {}."),
        ({"codes": 3}, "'codes' must be a table of keys. Received 3."),
        ({"nodata": NAN}, "'nodata' must be a finite number. Received nan. Write \"nan\", with quotes."),
        ({"names": "tree"}, "'names' must be a list. Received 'tree'. Write [\"tree\"]."),
        ({"names": ["a", 3]}, "'names', item 2 must be text. Received 3. Write \"3\", with quotes."),
        ({"span": [1.0]}, "'span' must be a list of 2 numbers. Received [1.0]."),
        ({"span": [1, 2, 3]}, "'span' must have at most 2 item(s). Received [1, 2, 3]."),
        ({"span": [1, NAN]}, "'span', item 2 must be a finite number. Received nan."),
        ({"title": ""}, "'title' must have at least 1 character(s). Received ''."),
        ({"title": "abcde"}, "'title' must have at most 4 character(s). Received 'abcde'."),
        ({"title": "A"}, "'title' must match the pattern ^[a-z]*$. Received 'A'."),
        ({"title": True}, "'title' must be text. Received True. Write \"true\", with quotes."),
        ({"kind": "d5"}, "'kind' must be \"none\", \"flips\" or \"d4\". Received 'd5'. Did you mean 'd4'?"),
        ({"exact": "true"}, "'exact' must be true or false. Received 'true'. Write it without quotes."),
        ({"exact": "yes"}, "'exact' must be true or false. Received 'yes'."),
        ({"part": 5}, "'part' must be a table of keys. Received 5. Its keys: size."),
        ({"part": {"size": "3"}}, "'part.size' must be a number. Received '3'. Write it without quotes."),
        ({"part": {"size": 0}}, "'part.size' must be above 0 and below 10. Received 0."),
        ({"part": {"size": 10}}, "'part.size' must be above 0 and below 10. Received 10."),
        ({"parts": [{}, {"size": 0}]}, "'parts', item 2, 'size' must be above 0 and below 10. Received 0."),
        ({"parts": [{}, {"sise": 1}]}, "unknown key 'parts', item 2, 'sise'. Received 1. Did you mean 'size'?"),
        ({"counts": {"a.b": {"size": []}}}, "'counts.a.b.size' must be a number. Received []."),
        ({"odd": "x"}, "'odd' must be a value of another kind. Received 'x'."),
        ({"exact": True, "kind": "none"}, "`exact` needs a kind."),
    ],
)
def test_each_kind_of_problem_has_plain_words(plain: dict[str, Any], line: str) -> None:
    assert told(plain) == f"f.toml: {line}"


@pytest.mark.parametrize("whole", [[], ["a"], "text", 3, None])
def test_what_is_no_table_at_all_is_told(whole: Any) -> None:
    assert told(whole, Part) == "f.toml must be a table of keys. Its keys: size."


@pytest.mark.parametrize(
    ("block", "line"),
    [
        ("plain", "'architecture.block' must be a table of keys. Received 'plain'. Its keys: kind, kernel_px,"),
        ({}, "the key 'architecture.block.kind' is missing. Add it."),
        ({"kind": "denser"}, '\'architecture.block.kind\' must be "plain", "residual", "bottleneck", "inception", '),
        ({"kind": "plain", "kernel_px": 99}, "'architecture.block.kernel_px' must be from 1 to 9. Received 99."),
        ({"kind": "inception", "wide_kernel_px": 2}, "'architecture.block.wide_kernel_px' must be from 3 to 9."),
        (
            {"kind": "plain", "wide_kernel_px": 5},
            "unknown key 'architecture.block.wide_kernel_px'. Received 5. Did",
        ),
        (
            {"kind": "plain", "kernel": 3},
            "unknown key 'architecture.block.kernel'. Received 3. Did you mean 'kernel",
        ),
    ],
)
def test_a_union_of_tables_shows_only_keys_that_the_user_wrote(block: Any, line: str) -> None:
    assert told({"architecture": {"block": block}}, Candidate).startswith(f"f.toml: {line}")


def test_a_rule_over_many_keys_does_not_print_their_table() -> None:
    message = told({"plan": {"loss": {"bce": 0.0, "dice": 0.0}}}, Candidate)

    assert message == "f.toml: 'plan.loss': at least one loss must have a positive weight, such as bce = 1.0."


def test_a_rule_over_a_list_prints_it() -> None:
    message = told({"plan": {"schedule": {"kind": "steps", "at": [0.75, 0.5]}}}, Candidate)

    assert message == "f.toml: 'plan.schedule.at' must rise, such as [0.5, 0.75]. Received [0.75, 0.5]."


@pytest.mark.parametrize("plain", [{}, [], {"fold": 3}, {"fold": "test", "scenes": [], "jaccard": {}, "extra": 1}])
def test_a_remedy_of_the_caller_stands_for_every_problem(plain: Any) -> None:
    message = told(plain, ScoreRecord, remedy="Run `score` again")

    assert message.endswith(" Run `score` again.")
    assert "Add it" not in message
    assert "Did you mean" not in message


def test_a_remedy_of_the_caller_stands_for_problems_of_the_space_too(study: Study) -> None:
    plain = encode(study) | {"space": {"plan.patch": {"fix": 64}}}

    message = told(plain, Study, remedy="Name its .toml file")
    assert message == "f.toml: space: unknown dimension 'plan.patch'. Name its .toml file."


WRONG = [5, -1, 1.5, NAN, True, "", "?/", "x" * 300, [], ["?"], [[]], {}, {"?": 1}, None]
# Words of Python and of pydantic; "none" in lower case is a setting of ours.
FOREIGN = re.compile(
    r"\b(input|valid|tuple|dict|dictionary|instance|integer|string|bool|float|int|str|None|function|literal|Value"
    r"|decode|pydantic|type|greater|less)\b|another kind"
)


def replaced(plain: Any, value: Any) -> Iterator[tuple[str, Any]]:
    """Copies of `plain` in which one part, however deep, is `value`."""
    yield "", value
    parts = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, inner in parts:
        for path, changed in replaced(inner, value):
            copy = plain.copy()
            copy[key] = changed
            yield f"{key}.{path}", copy


@pytest.fixture
def study() -> Study:
    return read_study(Path(__file__).parents[2] / "configs" / "demo.toml")


@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:12])
def test_no_wrong_value_anywhere_is_told_in_foreign_words(value: Any, study: Study) -> None:
    numbers = BandNumbers(low=(None,), high=(1.0,), mean=(0.5,), std=(1.0,))
    member = ModelMember(class_name="road", file="road.keras", candidate=Candidate(), threshold=0.5, numbers=numbers)
    score = ScoreRecord(fold="test", scenes=("a",), jaccard={"road": 0.5}, counts={"road": Counts(tp=1, fp=1, fn=1)})
    found = ClassMap(class_name="road", threshold=0.5, folds=(FoldJaccard(fold=0, jaccard=0.5, num_models=1),))
    models = ModelSet(
        study="s", data_fingerprint="f", classes=("road",), bands=("red",), members=(member,), maps=(found,)
    )
    refused = 0
    for whole in (study, score, models):
        for path, plain in replaced(encode(whole), value):
            try:
                decode(type(whole), plain, where="f.toml")
            except MalformedError as error:
                refused += 1
                line = str(error).replace(f"Received {value!r}", "")
                assert "\n" not in line
                assert not FOREIGN.search(line.replace("_", " ")), f"{path} = {value!r}: {line}"
    assert refused > 30
