"""Calls of the public API that are right: products, message passing, polynomials and their derivatives, drawn and
compared with the reference."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from choices import dtypes, given, laid
from oracle import PolynomialOracle
from reference import Reference, components_last, difference
from values import draw_graph, draw_polynomial_alone, draw_rule

import sparseacc


class FaultError(AssertionError):
    """What the library did wrong."""


class Call(NamedTuple):
    function: Callable
    arguments: dict[str, Any]
    arrays: dict[str, Any]  # those of the arguments, as NumPy's
    inputs: list  # what was laid out in memory and must not change
    dtype: Any
    expected: Callable  # () -> a list of (value, bound), None where the result must be None
    out: Any = None


def _batches(choices, n):
    """Shapes of n batches that broadcast, and their common one; mostly small."""
    dims = choices.of((1, 0, 2, 1, 3))
    common = [choices.of((2, 1, 3, 4, 0, 5)) for _ in range(dims)]
    if dims and choices.once_in(4):
        common[choices.below(dims)] = choices.of((17, 63, 64, 65, 150))
    batches = []
    for _ in range(n):
        kind = choices.below(3)
        batch = [1 if kind == 1 and choices.below(2) else length for length in common]
        batches.append(tuple(batch[choices.below(dims + 1) :] if kind == 2 else batch))
    return batches, np.broadcast_shapes(*batches)


def _laid(choices, named, each_dtype):
    """Arrays of some shapes: as they are given, and as they are; and their memory."""
    values, arrays, inputs = {}, {}, []
    for (name, shape), dtype in zip(named.items(), each_dtype):
        memory = laid(choices, shape, dtype)
        inputs.append(memory)
        values[name], arrays[name] = given(choices, memory.array)
    return values, arrays, inputs


def _result_dtype(arrays):
    dtype = np.result_type(*(a.dtype for a in arrays.values()))
    return (np.dtype(float) if dtype.kind in "iu" else dtype).newbyteorder("=")


def _draw_out(choices, shape, dtype):
    return laid(choices, shape, dtype, apart=True)


def _wrt(choices, n):
    wanted = choices.some(range(n))
    form = choices.below(4)
    if form == 3 and len(wanted) == 1:
        return wanted, wanted[0]
    return wanted, (tuple, list, set, np.array)[form](wanted) if wanted else ()


_NAMES = {"x1": "x1", "x2": "x2", "w": "weights"}


def draw_product(choices):
    """A call of a rule's method, or of accumulate."""
    rule = draw_rule(choices)
    operation = choices.of(("product", "vjp", "jvp", "vjp_vjp", "coefficient_vjp", "accumulate"))
    slots = ["x1", "x2"]
    if operation != "accumulate" and choices.below(2):
        slots.append("w")
    batches, batch = _batches(choices, len(slots))
    likes = dict(zip(slots, batches), out=batch)
    least = min(map(len, batches))
    axis = choices.of((-1, choices.between(-1 - least, least)))
    sizes = dict(zip(("x1", "x2", "w", "out"), (*rule.shape[:2], rule.num_paths, rule.shape[2])))

    def shape(slot):
        at = axis if axis >= 0 else axis + len(likes[slot]) + 1
        return (*likes[slot][:at], sizes[slot], *likes[slot][at:])

    z_names = dict(zip(slots, ("z1", "z2", "zw")))
    d_names = dict(zip(slots, ("dx1", "dx2", "dweights")))
    named, tangents, along = {}, [], []
    if operation == "vjp_vjp":
        along = choices.some(slots)
        named |= {z_names[slot]: shape(slot) for slot in along}
    if operation in ("vjp", "vjp_vjp", "coefficient_vjp"):
        named["dy"] = shape("out")
    named |= {_NAMES[slot]: shape(slot) for slot in slots}
    if operation == "jvp":
        tangents = choices.some(slots)
        named |= {d_names[slot]: shape(slot) for slot in tangents}
    arguments, arrays, inputs = _laid(choices, named, dtypes(choices, len(named)))
    try:
        dtype = _result_dtype(arrays)
    except TypeError:
        return None
    absent = {"vjp_vjp": ("z1", "z2"), "jvp": ("dx1", "dx2")}.get(operation, ())
    arguments = {**dict.fromkeys(absent), **arguments, "axis": choices.of((axis, np.int64(axis)))}
    wanted = range(len(slots))
    if operation == "vjp" and choices.below(2):
        wanted, arguments["wrt"] = _wrt(choices, len(slots))
    out = None
    if operation in ("product", "accumulate") and choices.once_in(3):
        out = _draw_out(choices, shape("out"), dtype)
        arguments["out"] = out.array
    function = rule if operation == "product" else getattr(rule, operation, sparseacc.accumulate)
    if operation == "accumulate":
        if any(array.ndim == 0 for array in arrays.values()):
            return None
        columns = {name: getattr(rule, name) for name in ("mu", "m1", "m2", "C")}
        columns = {name: choices.of((column, column.tolist())) for name, column in columns.items()}
        arguments |= columns | {"output_size": rule.shape[2]}

    def expected():
        reference = Reference(rule, dtype, batch, likes)
        last = {name: components_last(array, axis) for name, array in arrays.items()}
        factors = {slot: last[_NAMES[slot]] for slot in slots}

        def form(slot, *products):
            value, error = reference.form(slot, *products)
            at = axis if axis >= 0 else axis + len(likes[slot]) + 1
            return np.moveaxis(value, -1, at), np.moveaxis(error, -1, at)

        if operation in ("product", "accumulate"):
            return [form("out", factors)]
        if operation == "jvp":
            return [form("out", *(factors | {slot: last[d_names[slot]]} for slot in tangents))]
        everything = factors | {"out": last["dy"]}
        if operation == "coefficient_vjp":
            return [reference.coefficients(everything)]
        if operation == "vjp":
            grads = [_without(everything, slot) for slot in slots]
            return [form(slot, grads[n]) if n in wanted else None for n, slot in enumerate(slots)]
        return [
            form(slot, *(_without(everything | {z: last[z_names[z]]}, slot) for z in along if z != slot))
            for slot in ("out", *slots)
        ]

    return Call(function, arguments, arrays, inputs, dtype, expected, out)


def _without(operands, slot):
    return {name: array for name, array in operands.items() if name != slot}


_EDGE_NAMES = {"out": "dout", "x1": "x", "x2": "y", "w": "weights"}


def draw_messages(choices):
    """A call of message passing, or of one of its derivatives."""
    rule, graph = draw_rule(choices), draw_graph(choices)
    if rule.nnz > 100:
        return None
    operation = choices.of(("message_passing", "message_passing_vjp", "message_passing_vjp_vjp"))
    channels = choices.of((4, 1, 2, 3, 5, 0, 8, 15, 16, 17, 32, 50, 64, 70))
    axis = choices.of((-2, -1, 1, 2))
    slots = ["x1", "x2", *(["w"] if choices.below(3) else [])]
    edges = graph.num_edges
    index = {"x1": graph.senders, "x2": graph.rows_of_y, "w": graph.rows_of_weights, "out": graph.receivers}
    number = {
        slot: edges if column is None else int(column.max(initial=-1)) + 1 + choices.below(2)
        for slot, column in index.items()
    } | {"out": graph.num_nodes}
    index = {slot: np.arange(edges) if column is None else column for slot, column in index.items()}
    has_channels = {"x1": True, "out": True, "x2": choices.below(2), "w": choices.below(2)}
    sizes = dict(zip(("x1", "x2", "w", "out"), (*rule.shape[:2], rule.num_paths, rule.shape[2])))

    def shape(slot):
        if not has_channels[slot]:
            return number[slot], sizes[slot]
        return (number[slot], *((sizes[slot], channels) if axis in (-2, 1) else (channels, sizes[slot])))

    z_names = dict(zip(slots, ("zx", "zy", "zw")))
    named, along = {}, []
    if operation == "message_passing_vjp_vjp":
        along = choices.some(slots)
        named |= {z_names[slot]: shape(slot) for slot in along}
    if operation != "message_passing":
        named["dout"] = shape("out")
    named |= {_EDGE_NAMES[slot]: shape(slot) for slot in slots}
    arguments, arrays, inputs = _laid(choices, named, dtypes(choices, len(named)))
    try:
        dtype = _result_dtype(arrays)
    except TypeError:
        return None
    absent = ("zx", "zy", "zw") if operation == "message_passing_vjp_vjp" else ()
    arguments = {"rule": rule, "graph": graph, **dict.fromkeys(absent), **arguments, "axis": axis}
    derived = ["x1", "x2", "w"] if operation == "message_passing_vjp" else ["out", "x1", "x2", "w"]
    wanted = range(len(derived))
    if operation != "message_passing" and choices.below(2):
        wanted, arguments["wrt"] = _wrt(choices, len(derived))
    out = None
    if operation == "message_passing" and choices.once_in(3):
        out = _draw_out(choices, shape("out"), dtype)
        arguments["out"] = out.array

    def expected():
        likes = {slot: (edges, channels if has_channels[slot] else 1) for slot in has_channels}
        rows = {slot: (index[slot], number[slot]) for slot in index}
        reference = Reference(rule, dtype, (edges, channels), likes, rows)

        def gathered(slot, array):
            """Of shape (edges, channels or 1, components)."""
            last = components_last(array, axis if has_channels[slot] else -1)
            return (last if has_channels[slot] else last[:, None])[index[slot]]

        def form(slot, *products):
            value_and_bound = reference.form(slot, *products)
            if not has_channels[slot]:
                return tuple(a[:, 0] for a in value_and_bound)
            return tuple(np.moveaxis(a, -1, axis) for a in value_and_bound)

        operands = {slot: gathered(slot, arrays[name]) for slot, name in _EDGE_NAMES.items() if name in arrays}
        if operation == "message_passing":
            return [form("out", operands)]
        if operation == "message_passing_vjp":
            products = {slot: [_without(operands, slot)] for slot in slots}
        else:
            z = {slot: gathered(slot, arrays[z_names[slot]]) for slot in along}
            products = {
                slot: [_without(operands | {other: z[other]}, slot) for other in along if other != slot]
                for slot in ("out", *slots)
            }
        return [
            form(slot, *products[slot]) if n in wanted and slot in products else None for n, slot in enumerate(derived)
        ]

    return Call(getattr(sparseacc, operation), arguments, arrays, inputs, dtype, expected, out)


_REAL = {np.dtype("c8"): np.dtype("f4"), np.dtype("c16"): np.dtype("f8")}


def draw_polynomial(choices):
    """A call of a polynomial, or of one of its derivatives."""
    polynomial = draw_polynomial_alone(choices)
    operation = choices.of(("value", "vjp", "vjp_vjp"))
    channels, axis = choices.of((4, 1, 2, 3, 5, 0, 8, 16, 17, 33, 70)), choices.of((-2, -1))
    rows = None
    if choices.below(2):
        atoms, of_weights = choices.of((5, 1, 2, 3, 0, 9, 17, 40)), choices.between(1, 4)
        rows = np.array([choices.below(of_weights) for _ in range(atoms)], int)
        batch, of_weights = (atoms,), (of_weights,)
    else:
        (of_weights,), batch = _batches(choices, 1)
        of_weights = tuple(1 if choices.below(3) == 2 else n for n in of_weights)
    channels_of_weights = choices.of((channels, channels, 1))

    def shape(lead, n, channels=channels):
        return (*lead, n, channels) if axis == -2 else (*lead, channels, n)

    x = shape(batch, polynomial.shape[0])
    weights = shape(of_weights, polynomial.num_paths, channels_of_weights)
    named, along = {"x": x, "weights": weights}, []
    if operation != "value":
        named = {"dy": shape(batch, polynomial.shape[1])} | named
    if operation == "vjp_vjp":
        along = choices.some(("zx", "zw"))
        named = {name: {"zx": x, "zw": weights}[name] for name in along} | named
    each = [_REAL.get(dtype.newbyteorder("="), dtype) for dtype in dtypes(choices, len(named))]
    arguments, arrays, inputs = _laid(choices, named, each)
    try:
        dtype = _result_dtype(arrays)
    except TypeError:
        return None
    absent = ("zx", "zw") if operation == "vjp_vjp" else ()
    of_x = axis if choices.below(2) else axis + len(x)
    arguments = {**dict.fromkeys(absent), **arguments, "axis": of_x}
    if rows is not None:
        arguments["rows_of_weights"] = choices.of((rows, rows.astype("u1"), rows.astype(">i4"), rows.tolist()))
    n = {"value": 1, "vjp": 2, "vjp_vjp": 3}[operation]
    wanted = range(n)
    if n > 1 and choices.below(2):
        wanted, arguments["wrt"] = _wrt(choices, n)
    out = None
    if n == 1 and choices.once_in(3):
        out = _draw_out(choices, shape(batch, polynomial.shape[1]), dtype)
        arguments["out"] = out.array

    def expected():
        oracle = PolynomialOracle(polynomial, arrays["x"], arrays["weights"], axis, dtype, rows)
        if n == 1:
            return [oracle.value()]
        operands = [arrays.get(name) for name in ("zx", "zw", "dy")[6 - 2 * n :]]
        likes = [named[name] for name in ("dy", "x", "weights")[3 - n :]]
        return [
            tuple(part.reshape(like) for part in found) if i in wanted else None
            for i, (found, like) in enumerate(zip(getattr(oracle, operation)(*operands), likes))
        ]

    function = polynomial if n == 1 else getattr(polynomial, operation)
    return Call(function, arguments, arrays, inputs, dtype, expected, out)


def check(call, choices):
    """Runs a call and raises a FaultError if anything is wrong with it."""
    results = call.function(**call.arguments)
    if call.out is not None and results is not call.out.array:
        raise FaultError("what was returned is not out")
    results = results if isinstance(results, tuple) else (results,)
    expected = call.expected()
    if len(results) != len(expected):
        raise FaultError(f"{len(results)} results, not {len(expected)}")
    for n, (result, value) in enumerate(zip(results, expected)):
        if result is None or value is None:
            if result is not value:
                raise FaultError(f"result {n} is {'' if result is None else 'not '}None")
            continue
        if type(result) is not np.ndarray or result.dtype != call.dtype:
            raise FaultError(f"result {n} is a {type(result).__name__} of {result.dtype}, not an array of {call.dtype}")
        wrong = difference(result, value)
        if wrong:
            raise FaultError(f"result {n}: {wrong}")
    if choices.once_in(4):
        _check_again(call, results, choices)
    for memory in call.inputs:
        if not memory.is_unchanged():
            raise FaultError("an input, or memory beside one, was written")
    if call.out is not None:
        call.out.array[...] = np.ndarray(
            call.out.array.shape,
            call.out.array.dtype,
            call.out.before,
            call.out.array.__array_interface__["data"][0] - call.out.memory.__array_interface__["data"][0],
            call.out.array.strides,
        )
        if not call.out.is_unchanged():
            raise FaultError("memory beside out was written")


def _check_again(call, results, choices):
    """With another number of threads, and without out, everything is the same, bitwise."""
    threads = sparseacc.get_num_threads()
    sparseacc.set_num_threads(choices.between(1, 3))
    again = call.function(**{name: value for name, value in call.arguments.items() if name != "out"})
    sparseacc.set_num_threads(threads)
    for one, other in zip(results, again if isinstance(again, tuple) else (again,)):
        if one is not None and one.tobytes() != other.tobytes():
            raise FaultError("the second call gives other numbers")
