"""A bounded number of fuzzed calls, and the reference that they are compared with. `python tests/fuzz` runs more."""

from pathlib import Path

import numpy as np
import pytest
from calls import FaultError, check, draw_messages, draw_product
from choices import BytesOfChoices, Choices
from edges import Edges
from fuzzing import failure, fuzz, settings_restored
from oracle import Oracle, bound
from wrong import check_refusal

import sparseacc

CORPUS = Path(__file__).with_name("corpus.txt")


@pytest.mark.parametrize("part", range(8))
def test_fuzzed_calls_are_right_or_refused(part):
    with settings_restored():
        for n in range(part * 500, part * 500 + 500):
            wrong = failure(2026, n)
            assert wrong is None, wrong


def test_calls_that_reached_new_code_are_right_or_refused():
    """What coverage-guided fuzzing (guided.py) has kept."""
    with settings_restored():
        for line in CORPUS.read_text().split():
            fuzz(BytesOfChoices(bytes.fromhex(line)))


def drawn(draw, number):
    """The first calls that have few numbers, as a loop over them takes long."""
    n = 0
    while number:
        call, n = draw(Choices(n)), n + 1
        if call is not None and sum(memory.array.size for memory in call.inputs) < 2000:
            number -= 1
            yield call


def check_reference(call, plain):
    """Values and bounds are those of plain loops, but for what the order of sums makes of them."""
    found = call.expected()
    assert len(found) == len(plain)
    for one, other in zip(found, plain):
        if one is not None:
            np.testing.assert_allclose(one[0], other[0], rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(one[1], other[1], rtol=1e-9, atol=0)


def test_the_reference_of_products_is_the_plain_loop():
    for call in drawn(draw_product, 200):
        arrays, axis = call.arrays, int(call.arguments["axis"])
        x1, x2 = arrays["x1"], arrays["x2"]
        rule = getattr(call.function, "__self__", call.function)
        name = getattr(call.function, "__name__", "product")
        if name == "accumulate":
            shape = x1.shape[axis], x2.shape[axis], call.arguments["output_size"]
            columns = [np.asarray(call.arguments[name], int) for name in ("m1", "m2", "mu")]
            rule, name = sparseacc.Rule(*columns, call.arguments["C"], shape), "product"
        oracle = Oracle(rule, x1, x2, axis, call.dtype, arrays.get("weights"))
        operands = {
            "product": (),
            "vjp": ("dy",),
            "jvp": ("dx1", "dx2", "dweights"),
            "vjp_vjp": ("z1", "z2", "dy", "zw"),
            "coefficient_vjp": ("dy",),
        }[name]
        plain = getattr(oracle, name)(*map(arrays.get, operands))
        check_reference(call, [plain] if name in ("product", "jvp", "coefficient_vjp") else plain)


def plain_messages(call):
    """What a loop over terms makes of a call of message passing: values and bounds."""
    rule, graph, axis = (call.arguments[name] for name in ("rule", "graph", "axis"))
    last = axis in (-1, 2)
    arrays = {name: a.swapaxes(1, 2) if last and a.ndim == 3 else a for name, a in call.arrays.items()}
    edges = Edges(rule, graph, call.dtype)
    names = {"out": "dout", "x": "x", "y": "y", "w": "weights"}
    given = {slot: arrays[name] for slot, name in names.items() if name in arrays}
    along = {slot: arrays[f"z{slot}"] for slot in "xyw" if f"z{slot}" in arrays}
    likes = {slot: array.shape for slot, array in given.items()}
    likes["out"] = (graph.num_nodes, rule.shape[2], arrays["x"].shape[2])
    function = call.function.__name__

    def form(slot):
        others = [{s: a} for s, a in along.items() if s != slot] if function == "message_passing_vjp_vjp" else [{}]
        total = [np.zeros(likes[slot])] * 3
        for other in others:
            operands = {s: a for s, a in (given | other).items() if s != slot}
            total = [a + b for a, b in zip(total, edges.form(slot, likes[slot], operands))]
        value, error = total[0], bound(total[2].real, total[1].real, call.dtype)
        return [a.swapaxes(1, 2) if last and a.ndim == 3 else a for a in (value, error)]

    slots = ["out"] * (function != "message_passing_vjp") + ["x", "y", "w"] * (function != "message_passing")
    return [form(slot) if slot in likes else None for slot in slots]


def test_the_reference_of_message_passing_is_the_plain_loop():
    for call in drawn(draw_messages, 200):
        check_reference(call, plain_messages(call))


def test_what_is_wrong_is_found():
    """A result, a bound, an input or memory that is not what it must be; an error that is not as documented."""
    calls = drawn(draw_product, 200)
    call = next(c for c in calls if isinstance(c.function, sparseacc.Rule) and c.out is None and c.dtype == float)
    check(call, Choices(0))

    def wrong(result, fault):
        with pytest.raises(FaultError, match=fault):
            check(call._replace(function=lambda **arguments: result(call.function(**arguments))), Choices(0))

    eps = np.finfo(float).eps
    wrong(lambda y: y * (1 + 100 * eps), "off by")
    wrong(lambda y: y * np.nan, "off by nan")
    wrong(lambda y: y[None], "the shape is")
    wrong(lambda y: (y, y), "2 results, not 1")
    wrong(lambda y: None, "is None")
    wrong(lambda y: y.astype(object), "is a ndarray of object")
    memory = call.inputs[0].memory
    wrong(lambda y: (memory.__setitem__(0, memory[0] + 1), y)[1], "was written")
    for refusal, fault in ((str, "was taken"), ({}.pop, "which is a KeyError"), (int, "does not name x")):
        with pytest.raises(FaultError, match=fault):
            check_refusal(lambda x, refusal=refusal: refusal(x), {"x": "two"}, "x")
