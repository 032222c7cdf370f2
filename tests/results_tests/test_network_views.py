"""A network as a table and as a picture: what they tell, counted by hand."""

import re
from typing import Any

import pytest
from matplotlib.patches import FancyBboxPatch

from results.network_figure import network_figure
from results.network_table import network_table
from results.phrases import count_text, network_notes
from search_space.architecture import Architecture
from search_space.decode import decode
from search_space.network.graph import Graph
from search_space.network.unet import InputBand, draw_up
from search_space.recipes import read_recipe, recipe_names


@pytest.fixture
def small() -> Graph:
    architecture = decode(Architecture, {"depth": 2, "base_filters": 8, "units_per_stage": 1}, where="test")
    return draw_up(architecture, [InputBand(name) for name in "rgb"], 2)


def test_the_table_tells_each_stage_and_their_sum(small: Graph) -> None:
    table = network_table(small, 30).set_index("stage")

    assert list(table.index) == ["down0", "pool0", "down1", "pool1", "bottom", "up1", "up0", "head", "all"]
    # 30 px are padded to 32, a multiple of four; the map is cropped to the image, and to what has surroundings.
    assert table["size"].tolist() == ["32 px", "16 px", "16 px", "8 px", "8 px", "16 px", "32 px", "30 px", ""]
    assert network_table(small, 30, 4).set_index("stage")["size"]["head"] == "22 px"
    assert table["channels"].tolist()[:-1] == [8, 8, 16, 16, 32, 16, 8, 2]
    # 3x3 without bias and four numbers of batch normalisation per filter; 2x2 transposed.
    assert table["weights"]["down0"] == 9 * 3 * 8 + 4 * 8
    assert table["weights"]["up0"] == (4 * 16 * 8 + 4 * 8) + (9 * 16 * 8 + 4 * 8)
    assert table["weights"]["pool0"] == 0
    assert table["weights"]["all"] == small.num_parameters == table["weights"][:-1].sum()
    assert table["convolutions"]["all"] == 8
    assert table["gflop"]["all"] == pytest.approx(small.flops(32, 32) / 1e9)


def test_heads_of_coarser_stages_are_told_by_themselves() -> None:
    architecture = decode(Architecture, {"depth": 3, "base_filters": 8, "deep_supervision": True}, where="test")
    graph = draw_up(architecture, [InputBand("r")], 2)

    table = network_table(graph, 32).set_index("stage")

    assert table["channels"]["up2"] == 32
    assert table["size"]["up2"] == "8 px"
    assert table["size"]["head2"] == "32 px"
    told = " ".join(text.get_text() for text in network_figure(graph, 32, "deep").axes[0].texts)
    assert "head2" not in told


def test_the_picture_has_a_box_for_each_stage_and_an_arrow_for_each_skip(small: Graph) -> None:
    figure = network_figure(small, 32, "small: a test", notes=["one", "two"])
    [axes] = figure.axes
    told = [text.get_text() for text in axes.texts]

    assert told[0] == "small: a test"
    assert f"{count_text(small.num_parameters)} weights in all\none\ntwo" in told
    for stage, size in (
        ("down0", "32² px · 8 channels"),
        ("down1", "16² px · 16 channels"),
        ("bottom", "8² px · 32 channels"),
    ):
        assert any(stage in text for text in told), stage
        assert any(size in text for text in told), size
    assert any("248" in text for text in told), "the first stage's weights"


@pytest.mark.parametrize(
    "fields",
    [
        {"deep_supervision": True, "energy": True},
        {"encoder": {"kind": "grown", "branches": True, "pooling": "inception"}},
        {"encoder": {"kind": "vgg16"}, "depth": 5},
        {"encoder": {"kind": "resnet50"}, "depth": 3},
    ],
)
def test_the_weights_told_in_boxes_are_all_there_are(fields: dict[str, Any]) -> None:
    architecture = decode(Architecture, {"depth": 3, "base_filters": 8, **fields}, where="test")
    graph = draw_up(architecture, [InputBand(f"b{level}", level) for level in (0, 0, 1, 3)], 2)
    texts = [text.get_text() for text in network_figure(graph, 64, "all").axes[0].texts]
    told = [re.findall(r"([\d\u00a0]+) weights?", text) for text in texts]
    *boxes, total = sorted(int(number.replace("\u00a0", "")) for found in told for number in found)

    assert total == sum(boxes) == graph.num_parameters


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_drawn_inside_its_picture(name: str) -> None:
    recipe = read_recipe(name)
    names = recipe.architecture.bands or tuple(f"band{number}" for number in range(20))
    graph = draw_up(recipe.architecture, [InputBand(each) for each in names], 1)
    figure = network_figure(graph, recipe.plan.patch_px, name)
    [axes] = figure.axes
    figure.canvas.draw()

    frame = figure.bbox
    for text in axes.texts:
        box = text.get_window_extent()
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1, text.get_text()
        assert frame.y0 <= box.y0 < box.y1 <= frame.y1, text.get_text()


def test_the_notes_tell_what_no_box_does() -> None:
    fields = {
        "encoder": {"kind": "grown", "first_kernel_px": 7, "residual_units": 2, "pooling": "inception"},
        "bottom": {"kind": "attention", "heads": 2},
        "squeeze_excitation": True,
        "skip": "gate",
    }
    assert network_notes(decode(Architecture, fields, where="test")) == [
        "2 × plain, kernel 3 px",
        "squeeze and excitation",
        "first convolution 7 px",
        "2 residual units",
        "down: inception",
        "bottom: attention, heads 2",
        "up: transposed, kernel 2 px",
        "skips: gate",
    ]
    assert network_notes(read_recipe("cresi").architecture) == [
        "1 × plain, kernel 3 px",
        "down: ResNet-34",
        "up: nearest, kernel 3 px",
        "skips: concatenate",
    ]


MOST = {
    "depth": 2,
    "base_filters": 64,
    "block": {"kind": "inception", "wide_kernel_px": 7},
    "encoder": {"kind": "grown", "first_kernel_px": 7, "residual_units": 4, "pooling": "inception"},
    "bottom": {"kind": "attention", "heads": 4},
    "squeeze_excitation": True,
    "skip": "concatenate",
}


@pytest.mark.parametrize("name", [*recipe_names(), "most"])
def test_no_text_of_the_picture_lies_on_another_box(name: str) -> None:
    architecture = decode(Architecture, MOST, where="test") if name == "most" else read_recipe(name).architecture
    bands = [InputBand(f"b{number}") for number in range(24)] if not architecture.bands else map(InputBand, "rgb")
    graph = draw_up(architecture.model_copy(update={"bands": ()}), list(bands), 10)
    figure = network_figure(graph, 512, name, notes=network_notes(architecture))
    [axes] = figure.axes
    figure.draw_without_rendering()
    [notes] = [text.get_window_extent() for text in axes.texts if "weights in all" in text.get_text()]
    boxes = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) >= 6
    assert not [box for box in boxes if box.overlaps(notes)]
    heading = axes.texts[0].get_window_extent()
    assert not heading.overlaps(notes)
    skips = [text for text in axes.texts if getattr(text, "arrow_patch", None) is not None]
    assert skips
    for text in skips:
        assert not text.arrow_patch.get_window_extent().overlaps(notes)
