from results.space_tree import space_tree
from search_space.dimensions import Choice, Fixed, Integer, Real
from search_space.space import resolve_space


def test_the_tree_hangs_what_only_one_option_has_under_its_choice() -> None:
    space = {
        "net.bands": Choice(((),)),
        "net.block": Choice(("plain", "dense"), (0.75, 0.25)),
        "net.block[dense].layers": Integer(2, 4),
        "net.block[dense].join": Choice(("add", "gate")),
        "net.block[dense].join[gate].heads": Fixed(2),
        "rate": Real(1e-4, 0.1, log=True),
    }
    assert space_tree(space, {"rate", "net.block"}).splitlines() == [
        "  net",
        "  ├─ bands              = all",
        "* └─ block              plain (75%) | dense (25%)",
        "     ├─ dense: layers   2 … 4 (whole)",
        "     └─ dense: join     add | gate",
        "        └─ gate: heads  = 2",
        "* rate                  0.0001 … 0.1 (log)",
    ]


def test_every_dimension_of_the_whole_space_has_its_line() -> None:
    space = resolve_space({})
    lines = space_tree(space).splitlines()
    for path, dimension in space.items():
        name = path.rpartition(".")[2]
        assert [line for line in lines if name in line and line.endswith(str(dimension))], path
