"""Calls that are wrong in one argument: each must be one of the documented errors, and name the argument."""

import re

import numpy as np
from calls import FaultError
from hostile import NO_FUNCTION, hostile

import sparseacc

_HOSTILE = [
    hostile(what, answer)
    for what in ("shape", "__array__", "__dlpack__", "__dlpack_device__", "__array_interface__")
    for answer in NO_FUNCTION
]
_NO_ARRAYS = [
    "x",
    b"x",
    object(),
    {1: 2},
    {1.0},
    range,
    [[1.0], [1.0, 2.0]],
    [1.0, "a"],
    [None],
    [2**70, 1.5j, "a"],
    lambda: None,
    np.array("2026-11-28", "M8[D]"),
    np.ma.masked_array([1.0], [True]),
    np.zeros(2, "f4,f4"),
    np.ones(3, bool),
    np.ones(3, np.longdouble),
    np.array([1, None], object),
    *_HOSTILE,
]
_NO_INTEGERS = [None, 1.0, "1", [1], np.ones(2, int), hostile("__index__", ZeroDivisionError("0")), object(), 1j]
_ARRAYS = ("x1", "x2", "x", "y", "weights", "dy", "dout", "z1", "z2", "zx", "zy", "zw", "dx1", "dx2", "dweights")
_REQUIRED = ("x1", "x2", "x", "y", "dy", "dout")
_INDICES = ("m1", "m2", "mu")


def _wrong_array(choices, name, arguments):
    value, axis = arguments[name], int(arguments["axis"])
    if isinstance(value, np.ndarray) and "output_size" not in arguments and choices.once_in(3):
        if "graph" in arguments and value.ndim == 2:
            axis = -1
        if value.shape[axis]:
            return np.concatenate([value, value], axis)
    return choices.of(_NO_ARRAYS if name not in _REQUIRED else [None, *_NO_ARRAYS])


def _wrong_out(choices, call, arguments):
    """Of another shape, dtype or kind, not to be written to, or one that shares memory."""
    out = call.out.array
    read_only = out.copy()
    read_only.flags.writeable = False
    options = [
        [1.0],
        read_only,
        np.zeros((*out.shape, 1), out.dtype),
        np.zeros(out.shape, "i8"),
        np.zeros(out.shape, "f8" if out.dtype != float else "f4"),
        np.ma.masked_array(out, False),
        *_HOSTILE,
    ]
    inputs = (array for name, array in arguments.items() if name != "out" and isinstance(array, np.ndarray))
    options += [array for array in inputs if array.shape == out.shape and array.dtype == out.dtype and array.size]
    return choices.of(options)


def spoil(choices, call):
    """The arguments with one that is wrong, and its name."""
    arguments = dict(call.arguments)
    arrays = [name for name in arguments if name in _ARRAYS and arguments[name] is not None]
    kinds = ["array"] * 4 + ["axis"] + ["wrt"] * ("wrt" in arguments) + ["out"] * 2 * ("out" in arguments)
    if "mu" in arguments:
        kinds += ["column"] * 2
    if "rule" in arguments:
        kinds += ["rule", "graph"]
    if "rows_of_weights" in arguments:
        kinds += ["rows_of_weights"] * 2
    kind = choices.of(kinds)
    if kind == "array":
        name = choices.of(arrays)
        arguments[name] = _wrong_array(choices, name, arguments)
    elif kind == "column":
        name = choices.of(("m1", "m2", "mu", "C", "output_size"))
        arguments[name] = _wrong_column(choices, name, arguments)
    elif kind == "out":
        name, arguments["out"] = "out", _wrong_out(choices, call, arguments)
    else:
        name = kind
        arguments[name] = choices.of(
            {
                "axis": [*_NO_INTEGERS, 70, -70, 2**63, -(2**70)],
                "wrt": [7, (0, 9), -1, "x", None, True, 0.5, ("x1",), np.zeros((1, 2)), object(), [[0]]],
                "rule": [None, 3, "rule", np.ones(3), sparseacc.Rule, object()],
                "graph": [None, 3, "graph", ([0], [0]), sparseacc.Graph, object()],
                "rows_of_weights": [[0] * 50, [[0]], 0, 0.5, "x", np.zeros(3), object(), *_HOSTILE],
            }[kind]
        )
    return arguments, name


def _wrong_column(choices, name, arguments):
    n = len(arguments["C"])
    if name == "output_size":
        return choices.of([-1, *_NO_INTEGERS])
    if name == "C":
        return choices.of([np.full(n + 1, np.nan), np.full(n + 1, 1.0), np.ones((1, 1)), *_NO_ARRAYS[:9], *_HOSTILE])
    far = {"m1": 2**31, "m2": 2**31 - 1, "mu": arguments["output_size"]}[name]
    return choices.of(
        [[-1] * (n + 1), [far] * (n + 1), [0.5] * (n + 1), [2**80] * (n + 1), [[0]], *_NO_ARRAYS[:9], *_HOSTILE]
    )


def draw_rule_arguments(choices):
    """Of Rule, with one that is wrong."""
    n = choices.between(1, 5)
    arguments = {name: [0] * n for name in _INDICES} | {"C": [1.0] * n, "shape": (1, 2, 3)}
    arguments |= {"path": [0] * n, "num_paths": 1}
    name = choices.of((*_INDICES, "C", "path", "shape", "num_paths"))
    if name == "shape":
        values = [None, 3, (1, 2), (1, 2, 3, 4), (1, -2, 3), (1, 2.0, 3), ("a", 1, 2), (1, 2**31, 3), object(), "123"]
    elif name == "num_paths":
        values = [-1, 0, 2**31, 2**80, *_NO_INTEGERS[1:]]
    elif name == "C":
        values = [[np.nan] * n, [np.inf] * n, [1j] * n, [True] * n, [1.0] * (n + 1), [[1.0]], None, *_NO_ARRAYS[:9]]
    else:
        values = [[7] * n, [-1] * n, [2**31] * n, [-(2**70)] * n, [0.0] * n, [True] * n, [0] * (n + 1), *_NO_ARRAYS[:9]]
    if name in (*_INDICES, "C", "path"):
        values += _HOSTILE
    return sparseacc.Rule, arguments | {name: choices.of(values)}, name


def draw_graph_arguments(choices):
    """Of Graph, with one that is wrong."""
    n = choices.between(1, 5)
    columns = ("senders", "receivers", "rows_of_y", "rows_of_weights")
    arguments = {name: [0] * n for name in columns} | {"num_nodes": 1}
    name = choices.of((*columns, "num_nodes"))
    if name == "num_nodes":
        values = [-1, 0, 2**48, 2**70, *_NO_INTEGERS[1:]]
        # nodes that are not there make the receivers wrong
        return sparseacc.Graph, arguments | {name: choices.of(values)}, "num_nodes"
    values = [[-1] * n, [2**48] * n, [-(2**70)] * n, [0.0] * n, [True] * n, [0] * (n + 1), [[0]], 0, *_NO_ARRAYS[:9]]
    return sparseacc.Graph, arguments | {name: choices.of([*values, *_HOSTILE])}, name


def draw_polynomial_arguments(choices):
    """Of Polynomial, with one that is wrong."""
    n = choices.between(1, 5)
    columns = {"m": [[0, 0]] * n, "mu": [0] * n, "path": [0] * n, "C": [1.0] * n}
    arguments = {"shape": (1, 2), "num_paths": 1}
    name = choices.of((*columns, "terms", *arguments))
    if name == "m":
        values = [[[0, 7]] * n, [[-1, 0]] * n, [[0, 2**31]] * n, [[0.0, 0.0]] * n, [[0]] * n, [0] * n, *_NO_ARRAYS[:9]]
    elif name == "C":
        values = [[np.nan] * n, [np.inf] * n, [1j] * n, [True] * n, [1.0] * (n + 1), [[1.0]], None, *_NO_ARRAYS[:9]]
    elif name in columns:
        values = [[7] * n, [-1] * n, [-(2**70)] * n, [0.0] * n, [True] * n, [0] * (n + 1), *_NO_ARRAYS[:9]]
    elif name == "terms":
        values = [3, None, [3], [([[0]], [0])], ["terms"], object()]
    elif name == "shape":
        values = [None, 3, (1,), (1, 2, 3), (1, -2), (1, 2.0), ("a", 1), (1, 2**31), object(), "123"]
    else:
        values = [-1, 0, 2**31, 2**80, *_NO_INTEGERS[1:]]
    value = choices.of([*values, *_HOSTILE] if name in columns else values)
    if name in columns:
        columns[name] = value
    terms = value if name == "terms" else [([], [], [], []), tuple(columns.values())]
    changed = {name: value} if name in arguments else {}
    return sparseacc.Polynomial, arguments | changed | {"terms": terms}, name


def check_refusal(function, arguments, name):
    """Runs a call and raises a FaultError unless it is refused as documented."""
    try:
        function(**arguments)
    except (TypeError, ValueError, MemoryError) as error:
        # accumulate takes the rule's lengths from x1 and x2, so that the indices may be what is wrong
        or_index = {"x1": "|m1", "x2": "|m2"}.get(name, "") if "output_size" in arguments else ""
        if not re.search(rf"\b({name}{or_index})\b", str(error)):
            raise FaultError(f"the error does not name {name}: {error!r}") from error
    except Exception as error:
        raise FaultError(f"{name} is wrong, which is a {type(error).__name__}") from error
    else:
        raise FaultError(f"{name} is wrong, and was taken: {arguments[name]!r}")
