"""A study's search space: the default one with its word on each dimension, and the Hyperopt expression of that."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any

from search_space.candidate import Candidate
from search_space.decode import decode, encode, fingerprint
from search_space.default_space import BRANCHES, CLASS_WEIGHTS, DEFAULT_SPACE, Space
from search_space.dimensions import Choice, Dimension, Fixed, Integer, Override, Real
from search_space.errors import InfeasibleError, MalformedError, nearest
from search_space.losses import HEEDED_BY
from search_space.network.unet import InputBand


def resolve_space(overrides: Mapping[str, Any], base: Space = DEFAULT_SPACE) -> dict[str, Dimension]:
    """Apply a study's overrides to the space.

    Args:
        overrides: Dimension path to `{low, high}`, `{choices}`, `{fix}` or `{drop}`, in any order. A path that holds
            `*`, which stands for anything, overrides every dimension that it fits and that no path without one names.
            Of two that fit a dimension the narrower counts, which fits some of what the other fits and nothing else.
        base: The space to start from.

    Returns:
        The space in the order of `base`, without what is dropped, and without what exists only for options that are
        left out.

    Raises:
        MalformedError: An unknown dimension (the nearest is named), an override of the wrong kind, one that leaves
            the values `Candidate` allows, one of a dimension that others leave no place for, two of one dimension
            of which neither is the narrower, or overrides that leave no network which can be built.
    """
    chosen: dict[str, Any] = {}
    fits = {path: _fitting(path, base) for path in overrides}
    for path in sorted(overrides, key=lambda path: ("*" not in path, -len(fits[path]))):
        plain, fitting = overrides[path], fits[path]
        if not fitting:
            raise _unknown(path, plain, base)
        if not isinstance(plain, Mapping):
            override = {"choices" if isinstance(plain, (list, tuple)) else "fix": plain}
            raise MalformedError(f"space.{path} takes a table", received=plain, remedy=f"Write {_as_toml(override)}")
        chosen |= dict.fromkeys(fitting, plain)
    _check_overlaps(overrides, fits)
    applied = {
        path: decode(Override, chosen[path], where=f"space.{path}").apply(dim, path) if path in chosen else dim
        for path, dim in base.items()
    }
    kept = {path: dimension for path, dimension in applied.items() if dimension is not None}
    space = {path: dimension for path, dimension in kept.items() if _is_reached(path, kept)}
    for path in overrides:
        if path in kept and path not in space:
            raise _unreached(path, kept)
    _check_ends(space)
    _check_some_feasible(space)
    return space


def space_for(space: Space, bands: Sequence[InputBand]) -> dict[str, Dimension]:
    """The space without what makes no difference in it.

    Bands of one resolution leave none that could enter later, and losses that no option has need no details.
    """
    idle = {BRANCHES} if len({band.level for band in bands}) == 1 else set()
    losses = {name for mix in _values_at("plan.loss", space) for name, weight in mix.items() if weight}
    idle |= {f"plan.loss_details.{detail}" for detail, heeding in HEEDED_BY.items() if not heeding & losses}
    if True not in _values_at("architecture.energy", space):
        idle.add("plan.loss_details.energy")
    return {path: dimension for path, dimension in space.items() if path not in idle}


def class_weights_of(space: Space) -> Sequence[Mapping[str, float]]:
    """Every option of the weights of classes: class to weight."""
    return _values_at(CLASS_WEIGHTS, space)


def _check_overlaps(overrides: Mapping[str, Any], fits: Mapping[str, Sequence[str]]) -> None:
    """Refuse patterns that say different things of a dimension where neither is the narrower, nor one names it."""
    patterns = [path for path in overrides if "*" in path]
    for first, second in combinations(patterns, 2):
        ours, theirs = set(fits[first]), set(fits[second])
        if ours < theirs or theirs < ours or overrides[first] == overrides[second]:
            continue
        for path in fits[first]:
            if path in theirs and path not in overrides:
                raise MalformedError(
                    f"space.{first} and space.{second} both fit {path}, and neither is the narrower",
                    remedy=f'Add "{path}" by itself',
                )


def study_space(overrides: Mapping[str, Any], bands: Sequence[InputBand]) -> dict[str, Dimension]:
    """The space that a study with these overrides and bands is searched in; see `resolve_space` and `space_for`.

    Raises:
        MalformedError: As `resolve_space` does.
    """
    return space_for(resolve_space(overrides), bands)


def overridden(space: Space, overrides: Mapping[str, Any]) -> set[str]:
    """The dimensions of a space that overrides name, by their paths or by patterns."""
    return {path for key in overrides for path in _fitting(key, space)}


def _fitting(pattern: str, base: Space) -> list[str]:
    matcher = re.compile(".*".join(map(re.escape, pattern.split("*"))))
    return [path for path in base if matcher.fullmatch(path)]


def named_bands(space: Space) -> list[str]:
    """Names of the bands that some option of `architecture.bands` reads, once each."""
    options = values_of(space["architecture.bands"]) if "architecture.bands" in space else ()
    return list(dict.fromkeys(name for option in options for name in option))


def least_demand_px(space: Space) -> tuple[int, int]:
    """Side length of the smallest patch, and how far the network that looks least far looks.

    Numbers are the smallest there are: less depth, fewer units and smaller kernels never look farther. Kinds of block
    and of encoder are tried with each other; what rises and what is at the bottom add to that, one after the other.
    """
    patch_px = int(min(_values_at("plan.patch_px", space)))
    least: dict[str, Any] = {
        name: min(_values_at(f"architecture.{name}", space)) for name in ("depth", "units_per_stage")
    }
    for group in (("block", "encoder"), ("up",), ("bottom",)):
        variants = product(*([(name, each) for each in _least_variants(name, space)] for name in group))
        least = min(({**least, **dict(chosen)} for chosen in variants), key=lambda each: _context_px(each, patch_px))
    return patch_px, _context_px(least, patch_px)


def _least_variants(name: str, space: Space) -> Iterator[Any]:
    """Every kind of a part of the architecture, its numbers the smallest, with every word of its other dimensions."""
    path = f"architecture.{name}"
    for option in _values_at(path, space):
        if not isinstance(option, str):
            yield option
            continue
        children = {leaf.rpartition(".")[2]: _whole_values(dim) for leaf, dim in _children(path, option, space).items()}
        words = {leaf: values for leaf, values in children.items() if isinstance(values[0], str)}
        numbers = {leaf: min(values) for leaf, values in children.items() if leaf not in words}
        for chosen in product(*words.values()):
            yield {"kind": option, **numbers, **dict(zip(words, chosen, strict=True))}


def _context_px(plain: Mapping[str, Any], patch_px: int) -> int:
    return decode(Candidate, {"architecture": plain, "plan": {"patch_px": patch_px}}, where="space").context_px()


def space_fingerprint(space: Space) -> str:
    """16 hexadecimal digits that are equal exactly for spaces with equal dimensions."""
    return fingerprint({path: [type(dim).__name__, vars(dim)] for path, dim in space.items()})


def hyperopt_space(space: Space) -> dict[str, Any]:
    """Make the nested Hyperopt expression whose samples decode into a `Candidate`.

    Labels are the dimensions' paths, so that a stored point can be read without the space. A choice is recorded
    by Hyperopt as the index of its option; `hyperopt.space_eval` turns a recorded point into a sample.
    """
    from hyperopt import hp

    tree: dict[str, Any] = {}
    for path, dimension in space.items():
        if "[" in path:
            continue
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = _expression(hp, path, dimension, space)
    return tree


def _is_reached(path: str, space: Space) -> bool:
    """Whether a dimension exists for some option that the space has."""
    parent, _, rest = path.partition("[")
    if not rest:
        return True
    option = rest.partition("]")[0]
    return parent in space and option in [each for each in values_of(space[parent]) if isinstance(each, str)]


def _unreached(path: str, space: Space) -> MalformedError:
    parent, _, rest = path.partition("[")
    option = rest.partition("]")[0]
    now = f"is {space[parent]}" if parent in space else "is dropped"
    return MalformedError(
        f"space.{path} exists only where {parent} is {option}, and {parent} {now}",
        remedy=f"""Leave it out, or have {json.dumps(option)} among the choices of "{parent}\"""",
    )


def _unknown(path: str, plain: Any, base: Space) -> MalformedError:
    """Tell an unknown dimension, or one whose dotted name lacks its quotes, which TOML reads as nested tables."""
    for name, inner in _joined(path, plain):
        if name in base:
            override = _as_toml(inner)
            return MalformedError(
                f"space: unknown dimension {path!r}, as the dotted name {name!r} needs quotes",
                remedy=f"""Under [space] write "{name}" = {override}, after --set 'space."{name}"={override}'""",
            )
    is_group = any(name.startswith(f"{path}.") for name in base)
    known = _groups(base) if "*" in path else list(base)
    drops = isinstance(plain, Mapping) and "drop" in plain
    near = (f"{path}.*" if drops else "") if is_group else nearest(path, known, 0.3)
    return MalformedError(
        f"space: unknown dimension {path!r}",
        remedy=f"Did you mean {near!r}?" if near else "`show-space` lists all",
    )


def _groups(base: Space) -> list[str]:
    """Patterns that fit a part of the space."""
    return list(dict.fromkeys(f"{name.rpartition('.')[0]}.*" for name in base))


def _joined(path: str, plain: Any) -> Iterator[tuple[str, Any]]:
    """Every dotted name into nested tables, with what it leads to."""
    yield path, plain
    if isinstance(plain, Mapping):
        for part, inner in plain.items():
            yield from _joined(f"{path}.{part}", inner)


def _as_toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_as_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_as_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _children(path: str, kind: str, space: Space) -> dict[str, Dimension]:
    """The conditional dimensions under `path[kind]`, by their last name."""
    prefix = f"{path}[{kind}]."
    return {name: dim for name, dim in space.items() if name.startswith(prefix)}


def _is_branch(path: str) -> bool:
    """Whether a choice is one of kinds with knobs of their own, searched or not."""
    return any(name.startswith(f"{path}[") for name in DEFAULT_SPACE)


def _expression(hp: Any, path: str, dimension: Dimension, space: Space) -> Any:
    match dimension:
        case Real(low, high, log):
            if low == high:
                return low
            # hp.loguniform takes the logarithms of its ends.
            return hp.loguniform(path, math.log(low), math.log(high)) if log else hp.uniform(path, low, high)
        case Integer(low, high):
            return hp.quniform(path, low - 0.5 + 1e-9, high + 0.5 - 1e-9, 1) if low < high else low
        case Choice(options, weights):
            made = [_option(hp, path, option, space) for option in options]
            if len(made) == 1:
                return made[0]
            return hp.pchoice(path, list(zip(weights, made, strict=True))) if weights else hp.choice(path, made)
        case Fixed(value):
            return _option(hp, path, value, space)


def _option(hp: Any, path: str, option: Any, space: Space) -> Any:
    """An option as it stands, or, where it opens a branch, a mapping with the branch's dimensions."""
    if not _is_branch(path) or not isinstance(option, str):
        return option
    children = _children(path, option, space)
    return {
        "kind": option,
        **{name.rpartition(".")[2]: _expression(hp, name, dim, space) for name, dim in children.items()},
    }


def _check_ends(space: Space) -> None:
    """Decode a candidate at both ends of every dimension, so that a bad override is refused at once."""
    for path, dimension in space.items():
        for value in values_of(dimension):
            decode(Candidate, _candidate_with(path, value), where=f"space.{path}")


def values_of(dimension: Dimension) -> Sequence[Any]:
    """The options of a choice, or both ends of a range."""
    match dimension:
        case Choice(options):
            return options
        case Fixed(value):
            return (value,)
        case Real(low, high, _) | Integer(low, high):
            return (low, high)


def _check_some_feasible(space: Space) -> None:
    """Refuse a space in which no patch goes with any depth. That some do not is normal: such trials are infeasible."""
    names = ("architecture.depth", "architecture.margin_px", "plan.patch_px")
    depth, margin_px = (min(_values_at(name, space)) for name in names[:2])
    patch_px = max(_values_at(names[2], space))
    plain = {"architecture": {"depth": depth, "margin_px": margin_px}, "plan": {"patch_px": patch_px}}
    candidate = decode(Candidate, plain, where="space")
    try:
        candidate.check_feasible()
    except InfeasibleError as error:
        raise MalformedError(
            f"space: no network can be built: {error.what}",
            received={name: str(space[name]) for name in names if name in space},
            remedy=error.remedy,
        ) from None


def _values_at(path: str, space: Space) -> Sequence[Any]:
    """Every value of a choice or of whole numbers, both ends of others; of what was dropped that of a candidate."""
    if path in space:
        return _whole_values(space[path])
    node: Any = encode(Candidate())
    for part in path.split("."):
        node = node[part]
    return (node,)


def _whole_values(dimension: Dimension) -> Sequence[Any]:
    return range(dimension.low, dimension.high + 1) if isinstance(dimension, Integer) else values_of(dimension)


def _candidate_with(path: str, value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"architecture": {}, "plan": {}}
    base, _, rest = path.partition("[")
    *parents, leaf = base.split(".")
    node = plain
    for parent in parents:
        node = node.setdefault(parent, {})
    if rest:
        kind, _, name = rest.partition("].")
        node[leaf] = {"kind": kind, name: value}
    elif _is_branch(path) and isinstance(value, str):
        node[leaf] = {"kind": value}
    else:
        node[leaf] = value
    return plain
