"""What a pickle holds is checked when it is loaded: one error, or an object that is as good as any other."""

import pickle
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sparseacc
from sparseacc import Graph, Polynomial, Rule

REFUSED = (ValueError, TypeError, AttributeError)
RULE = Rule([0, 1], [0, 0], [0, 2], [1.0, 2.0], (2, 1, 3), path=[0, 1])
PRODUCT = sparseacc.tensor_product("4x0e + 2x1o", "1o", "0e + 1o")
POLYNOMIAL = Polynomial([([[1]], [0], [0], [1.0]), ([[0, 1], [1, 1]], [0, 2], [1, 1], [2.0, 3.0])], (2, 3))
CONTRACTION = sparseacc.symmetric_contraction("2x0e + 2x1o", "2x1o + 2x0e", 3)
GRAPH = Graph([0, 1, 1], [1, 0, 1], rows_of_y=[0, 0, 2])


class Forged:
    """Is pickled as something else."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def loaded(*reduced):
    return pickle.loads(pickle.dumps(Forged(*reduced)))


def rule_of(path=RULE.path, num_paths=2, **changed):
    restore, arguments, _ = RULE.__reduce__()
    columns = dict(zip(("m1", "m2", "mu", "C", "shape"), arguments[1], strict=True)) | changed
    return loaded(restore, (Rule, tuple(columns.values()), {"path": path, "num_paths": num_paths}))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"m1": np.array([0, 2])}, ValueError, r"m1\[1\] is 2, but must be between 0 and 1"),
        ({"m2": np.array([-1, 0])}, ValueError, r"m2\[0\] is -1"),
        ({"mu": np.array([2**63, 0], np.uint64)}, ValueError, r"mu\[0\] is 9223372036854775808"),
        ({"mu": np.array([0])}, ValueError, "mu has 1 and C has 2"),
        ({"C": np.array([1.0, np.nan])}, ValueError, r"C\[1\] is nan"),
        ({"C": np.array([np.inf, 1.0])}, ValueError, r"C\[0\] is inf"),
        ({"path": np.array([0, 2])}, ValueError, r"path\[1\] is 2"),
        ({"num_paths": 2**40}, ValueError, "num_paths is 1099511627776"),
        ({"shape": (2, 1, 2**40)}, ValueError, "n_out is 1099511627776"),
        ({"shape": (2, 1, 2)}, ValueError, r"mu\[1\] is 2"),
        ({"shape": (2, 1)}, TypeError, "shape must be three integers"),
        ({"m1": np.zeros((2, 1), int)}, ValueError, "m1 must be 1-D"),
        ({"m1": np.array([0.0, 1.0])}, TypeError, "m1 must hold integers, but its dtype is float64"),
        ({"m1": np.array(["a", None], object)}, TypeError, "m1 must hold integers, but its dtype is object"),
        ({"C": np.array([1j, 2])}, TypeError, "C must hold real numbers, but its dtype is complex128"),
        ({"C": np.zeros(2, "i4,f8")}, TypeError, "C must hold real numbers"),
    ],
    ids=str,
)
def test_a_rule_whose_terms_are_none_is_refused(changed, error, message):
    with pytest.raises(error, match=message):
        rule_of(**changed)


def polynomial_of(num_paths=2, shape=(2, 3), terms=None, **changed):
    restore, arguments, _ = POLYNOMIAL.__reduce__()
    first, second = arguments[1][0]
    columns = dict(zip(("m", "mu", "path", "C"), second, strict=True)) | changed
    terms = [first, tuple(columns.values())] if terms is None else terms
    return loaded(restore, (Polynomial, (terms, shape), {"num_paths": num_paths}))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"m": np.array([[0, 1], [1, 2]])}, ValueError, r"terms\[1\].m\[:, 1\]\[1\] is 2, but must be between 0 and 1"),
        ({"m": np.array([[0, -1], [1, 1]])}, ValueError, r"m\[:, 1\]\[0\] is -1"),
        ({"m": np.array([0, 1])}, ValueError, r"m must have the shape \(nnz, 2\)"),
        ({"m": np.zeros((2, 2))}, TypeError, "must hold integers"),
        ({"mu": np.array([0, 3])}, ValueError, r"mu\[1\] is 3"),
        ({"mu": np.array([0])}, ValueError, "mu has 1 and m has 2"),
        ({"path": np.array([0, 2])}, ValueError, r"path\[1\] is 2"),
        ({"C": np.array([1.0, np.nan])}, ValueError, r"C\[1\] is nan"),
        ({"C": np.array([1j, 2])}, TypeError, "C must hold real numbers"),
        ({"shape": (2, 2)}, ValueError, r"mu\[1\] is 2"),
        ({"shape": (2, 2**40)}, ValueError, "n_out is 1099511627776"),
        ({"num_paths": 2**40}, ValueError, "num_paths is 1099511627776"),
        ({"terms": [3]}, TypeError, "terms must be a sequence of"),
    ],
    ids=str,
)
def test_a_polynomial_whose_terms_are_none_is_refused(changed, error, message):
    assert polynomial_of() == POLYNOMIAL
    with pytest.raises(error, match=message):
        polynomial_of(**changed)


def graph_of(senders=GRAPH.senders, receivers=GRAPH.receivers, num_nodes=2, more=(None, None), **changed):
    how = {"padded": False, "device": None} | changed
    return loaded(GRAPH.__reduce__()[0], ([senders, receivers, *more], num_nodes, *how.values()))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"senders": np.array([0, -1, 0])}, ValueError, r"senders\[1\] is -1"),
        ({"senders": np.array([0, 2**62, 0])}, ValueError, r"senders\[1\] is 4611686018427387904"),
        ({"receivers": np.array([0, 1, 2])}, ValueError, r"receivers\[2\] is 2"),
        ({"receivers": np.array([0, 1, 3]), "padded": True}, ValueError, r"receivers\[2\] is 3"),
        ({"receivers": np.array([0, 1])}, ValueError, "senders has 3 entries and receivers 2"),
        ({"senders": np.zeros((3, 1), int)}, ValueError, "senders must be 1-D"),
        ({"senders": np.zeros(3)}, TypeError, "senders must hold integers"),
        ({"senders": b"123"}, ValueError, "senders must be 1-D"),
        ({"num_nodes": -1}, ValueError, "num_nodes is -1"),
        ({"num_nodes": 2.0}, TypeError, "num_nodes must be an integer"),
        ({"more": ()}, ValueError, "a graph is made of 4 columns, not of 2"),
        ({"padded": "no"}, ValueError, "padded is 'no'"),
        ({"device": "gpu"}, TypeError, "device must be an integer"),
        ({"device": -7}, ValueError, "device is -7"),
    ],
    ids=str,
)
def test_a_graph_whose_edges_are_none_is_refused(changed, error, message):
    with pytest.raises(error, match=message):
        graph_of(**changed)


def with_irreps(value, change):
    """The same terms, with something else said of their irreps."""
    restore, arguments, state = value.__reduce__()
    state = dict(state)
    change(state)
    return loaded(restore, arguments, state)


def with_path(field, value, row=1, of=PRODUCT):
    def change(state):
        table = of.paths.copy()
        table[field][row] = value
        state["_paths"] = table.tobytes()

    return change


@pytest.mark.parametrize(
    "change",
    [
        *(
            lambda state, name=name, value=value: state.update({name: value})
            for name, value in [
                ("irreps1", "nothing"), ("irreps1", 5), ("irreps1", "4x0e"), ("irreps2", "1x1o+1x1o"),
                ("irreps_out", ""), ("channels", 1), ("channels", -2), ("channels", "2"), ("channels", 0),
                ("channels2", 10**9), ("_paths", b"abc"), ("_paths", PRODUCT._paths[:-88]), ("_paths", None),
                ("_paths", bytearray(PRODUCT._paths)),
            ]
        ),
        dict.clear,
        *(
            with_path(field, value)
            for field, value in [
                ("l1", 1), ("l2", -1), ("l3", 2**62), ("rows1", (0, 1, 1)), ("rows1", (1, 1, 0)), ("rows2", (0, 3, -1)),
                ("rows_out", (2, 8, 2)), ("rows_out", (100, 103, 1)), ("rows1", (1, 2**62 + 1, 2**62)),
                ("coefficient", np.nan),
            ]
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_terms_is_refused(change):
    assert with_irreps(PRODUCT, lambda state: None).paths.tobytes() == PRODUCT.paths.tobytes()
    with pytest.raises(ValueError, match="this pickle of a TensorProduct is damaged"):
        with_irreps(PRODUCT, change)


@pytest.mark.parametrize(
    "change",
    [
        *(
            lambda state, name=name, value=value: state.update({name: value})
            for name, value in [
                ("irreps_in", "nothing"), ("irreps_in", 5), ("irreps_in", "2x0e"), ("irreps_in", "2x0e+ 2x1o"),
                ("irreps_out", ""), ("irreps_out", "2x0e + 2x1o"), ("irreps_out", "2x1o + 2x0o"), ("channels", 1),
                ("channels", "2"), ("channels", 0), ("channels", None), ("channels", 2.0), ("_paths", b"abc"),
                ("_paths", CONTRACTION._paths[:-112]), ("_paths", None), ("_paths", bytearray(CONTRACTION._paths)),
            ]
        ),
        dict.clear,
        *(
            with_path(field, value, row, CONTRACTION)
            for row in (0, -1)
            for field, value in [
                ("degree", 4), ("degree", 0), ("out", 2), ("out", -1), ("l3", 2), ("parity", 5), ("multiplicity", 3),
                ("rows_out", (0, 4, 1)), ("factors", (0, 0, 7)), ("factors", (-1, -1, -1)), ("couplings", (9, 9, 9)),
            ]
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_terms_of_a_contraction_is_refused(change):
    same = with_irreps(CONTRACTION, lambda state: None)
    assert same == CONTRACTION
    assert same.paths.tobytes() == CONTRACTION.paths.tobytes()
    with pytest.raises(ValueError, match="this pickle of a SymmetricContraction is damaged"):
        with_irreps(CONTRACTION, change)


def used(value):
    """What anybody may do with a rule, a polynomial or a graph."""
    if isinstance(value, Rule):
        x1, x2 = np.ones((3, value.shape[0])), np.ones((3, value.shape[1]))
        for weights in (None, np.ones((3, value.num_paths))):
            value.vjp(value(x1, x2, weights), x1, x2, weights)
    elif isinstance(value, Polynomial):
        x, weights = np.ones((3, value.shape[0], 2)), np.ones((value.num_paths, 2))
        value.vjp(value(x, weights), x, weights)
        value.describe()
    elif isinstance(value, Graph):
        one = Rule([0], [0], [0], [1.0], (1, 1, 1))
        sparseacc.message_passing(one, np.ones((2, 1, 1)), np.ones((3, 1)), graph=value)
    repr(value)


def columns_of(arguments):
    """The arrays of a pickle, however deep they lie."""
    if isinstance(arguments, np.ndarray):
        yield arguments
    elif isinstance(arguments, (tuple, list)):
        for part in arguments:
            yield from columns_of(part)


def swapped(arguments, array, other):
    if isinstance(arguments, (tuple, list)):
        return type(arguments)(swapped(part, array, other) for part in arguments)
    return other if arguments is array else arguments


@given(st.sampled_from([RULE, PRODUCT, POLYNOMIAL, CONTRACTION, GRAPH]), st.data())
def test_bytes_that_are_changed_give_an_error_or_an_object_that_works(value, data):
    """Only data: no opcode is changed, so that nothing else is called."""
    with suppress(*REFUSED, MemoryError):
        restore, arguments, *state = value.__reduce__()
        array = data.draw(st.sampled_from([array for array in columns_of(arguments) if array.size]))
        changed = np.array(array)
        raw = changed.reshape(-1).view(np.uint8)
        raw[data.draw(st.integers(0, raw.size - 1))] = data.draw(st.integers(0, 255))
        other = loaded(restore, swapped(arguments, array, changed), *(s for s in state if s is not None))
        used(other)
