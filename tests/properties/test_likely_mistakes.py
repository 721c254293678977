"""What a newcomer is likely to do wrong: the whole of each message, which says what, where, and what to do."""

import re
import subprocess
import sys

import numpy as np
import pytest

import sparseacc
from sparseacc import Graph, Rule, clebsch_gordan, message_passing, tensor_product

RULE = clebsch_gordan(1, 2, 3)
X1, X2 = np.ones((10, 3)), np.ones((10, 5))
PRODUCT = tensor_product("8x0e + 8x1o", "0e + 1o")
SENDERS, RECEIVERS = np.array([0, 1, 2, 3, 0, 1]), np.array([1, 0, 3, 2, 2, 3])
GRAPH = Graph(SENDERS, RECEIVERS, 4)
X, Y, W = np.ones((4, 4, 8)), np.ones((6, 4)), np.ones((6, 6, 8))


def wrong_axis():
    """Channels are last, and the components are not."""
    RULE(np.ones((10, 3, 8)), np.ones((10, 5, 8)))


def exchanged_inputs():
    RULE(X2, X1)


def no_axis_of_channels():
    PRODUCT(np.ones((20, 4, 8)), np.ones((20, 4)), axis=-2)


def batches_that_differ():
    RULE(X1, X2[:9])


def weights_of_other_paths():
    PRODUCT(np.ones((20, 4, 8)), np.ones((20, 4, 1)), np.ones((20, 5, 8)), axis=-2)


def weights_of_other_paths_of_edges():
    message_passing(PRODUCT, GRAPH, X, Y, W[:, :5])


def flat_weights_of_edges():
    message_passing(PRODUCT, GRAPH, X, Y, W.reshape(6, -1))


def flat_features():
    message_passing(PRODUCT, GRAPH, X.reshape(4, -1), Y, W)


def exchanged_operands():
    message_passing(PRODUCT, GRAPH, Y, X, W)


def one_row_a_node():
    message_passing(PRODUCT, GRAPH, X, Y[:4], W)


def exchanged_axes_of_edges():
    message_passing(PRODUCT, GRAPH, X.swapaxes(1, 2), Y, W)


def weights_without_edges():
    message_passing(PRODUCT, GRAPH, X, Y, W[0])


def flat_features_to_be_flattened():
    sparseacc.from_channels(X.reshape(4, -1), "8x0e + 8x1o")


def exchanged_features_and_irreps():
    sparseacc.to_channels("8x0e + 8x1o", X)


def an_axis_by_position():
    RULE(X1, X2, 0)


def a_rule_without_a_shape():
    Rule([0], [0], [0], [1.0])


def a_path_from_the_end():
    Rule([0, 0], [0, 0], [0, 0], [1.0, 1.0], (1, 1, 1), path=[0, -1])


def exchanged_indices():
    """Of a graph from few nodes to many."""
    Graph(senders=[0, 1, 1], receivers=[5, 9, 3], num_nodes=2)


def exchanged_indices_of_rows():
    message_passing(PRODUCT, Graph([5, 9, 3, 0, 0, 0], SENDERS, 4), X, Y, W)


def too_few_nodes():
    Graph(SENDERS, RECEIVERS, 3)


def both_rows_in_one_argument():
    Graph(np.stack([SENDERS, RECEIVERS]), 4)


def a_tuple_of_indices():
    message_passing(PRODUCT, (SENDERS, RECEIVERS), X, Y, W)


def indices_that_are_floats():
    Graph(SENDERS.astype(float), RECEIVERS)


def a_rule_of_floats():
    Rule([0.0, 1.0], [0, 0], [0, 1], [1.0, 1.0], (2, 2, 2))


def indices_from_one():
    Rule([1, 2, 3], [1, 2, 3], [1, 2, 3], [1.0, 1.0, 1.0], (3, 3, 3))


def a_mask():
    RULE(X1 > 0, X2)


def complex_numbers_in_a_polynomial():
    polynomial = sparseacc.symmetric_contraction("8x0e", "8x0e", 2)
    polynomial(np.ones((5, 1, 8), complex), np.ones((polynomial.num_paths, 8)))


def no_parity():
    tensor_product("64x0 + 64x1", "0e + 1o")


def commas_in_irreps():
    tensor_product("64x0e, 64x1o", "0e + 1o")


def parities_that_do_not_fit():
    tensor_product("64x0e", "1o", "1e")


def a_multiplicity_of_the_edges():
    tensor_product("64x0e", "4x0e")


def a_degree_that_is_too_large():
    clebsch_gordan(1, 1, 3)


def a_degree_that_is_a_float():
    clebsch_gordan(1.0, 1, 1)


def out_of_another_shape():
    RULE(X1, X2, out=np.empty((10, 5)))


def out_of_another_dtype():
    RULE(X1, X2, out=np.empty((10, 7), np.float32))


def a_gradient_of_the_inputs_shape():
    RULE.vjp(X1, X1, X2)


def assignment():
    RULE.C = np.zeros(RULE.nnz)


DTYPES = "float32, float64, complex64, complex128, float16, bfloat16 or an integer"
NO_IRREP = "is no irrep: write multiplicity, x, degree and parity (e or o), joined by +, such as '8x0e + 8x1o'"
MESSAGES = {
    wrong_axis: "x1 has length 8 along axis -1, but the rule needs 3 (it has 3 along axis -2: pass axis=-2): x1.shape "
    "is (10, 3, 8), the rule's shape is (3, 5, 7)",
    exchanged_inputs: "x1 has length 5 along axis -1, but the rule needs 3 (5 is what x2 needs: are x1 and x2 "
    "exchanged?): x1.shape is (10, 5), the rule's shape is (3, 5, 7)",
    no_axis_of_channels: "x2 has length 20 along axis -2, but the rule needs 4 (it has 4 along axis -1: pass axis=-1, "
    "or x2[..., None] if it has no channels): x2.shape is (20, 4), the rule's shape is (4, 4, 16)",
    batches_that_differ: "x1 and x2 do not broadcast: their shapes are (10, 3) and (9, 5), and without axis -1 (10,) "
    "and (9,): lengths must be equal or 1, from the last on",
    weights_of_other_paths: "weights has length 5 along axis -2, but the rule needs 6: weights.shape is (20, 5, 8), "
    "the rule has 6 paths",
    weights_of_other_paths_of_edges: "weights has length 5 along axis -2, but the rule needs 6: weights.shape is "
    "(6, 5, 8), and the rule has 6 paths",
    flat_weights_of_edges: "weights has length 48 along axis -1, but the rule needs 6: weights.shape is (6, 48), and "
    "the rule has 6 paths: weights.reshape(-1, 6, 8) if its channels are flat",
    flat_features: "x must have 3 dimensions, (rows, n1, channels), but its shape is (4, 32): sparseacc.to_channels "
    "makes rows and channels of flat features",
    exchanged_operands: "x must have 3 dimensions, (rows, n1, channels), but its shape is (6, 4): are x and y "
    "exchanged?",
    one_row_a_node: "y has 4 rows, but the graph has 6 edges, each of which reads a row of its own: make it "
    "Graph(..., rows_of_y=...) to say which one",
    exchanged_axes_of_edges: "x has length 8 along axis -2, but the rule needs 4: x.shape is (4, 8, 4), and the rule's "
    "shape is (4, 4, 16): its axes of components and channels are exchanged, or axis is not -2",
    weights_without_edges: "weights has length 8 along axis -1, but the rule needs 6: weights.shape is (6, 8), and the "
    "rule has 6 paths: weights[None] and Graph(..., rows_of_weights=numpy.zeros(6, int)) if all edges share weights",
    flat_features_to_be_flattened: "x must be (..., rows, channels), but its shape is (4, 32): is it flat already?",
    exchanged_features_and_irreps: "irreps must be text, such as '8x0e + 8x1o', or pairs (mul, ir), but is an array of "
    "shape (4, 4, 8): are arguments exchanged?",
    an_axis_by_position: "weights is one number, but must have one for each path; an axis is passed by name: axis=...",
    a_rule_without_a_shape: "Rule() missing 1 required positional argument: 'shape'",
    a_path_from_the_end: "path[1] is -1, but must not be negative",
    exchanged_indices: "receivers[0] is 5, but must be between 0 and 1 (num_nodes is 2): pass num_nodes=10 or more, or "
    "are senders and receivers exchanged?",
    exchanged_indices_of_rows: "senders[0] is 5, but x has 4 rows: senders are rows of x, and receivers those of the "
    "result",
    too_few_nodes: "receivers[2] is 3, but must be between 0 and 2 (num_nodes is 3): pass num_nodes=4 or more",
    both_rows_in_one_argument: "senders must be 1-D, one entry for each edge, but its shape is (2, 6): make "
    "Graph(*senders) of its two rows, if these are senders and receivers",
    a_tuple_of_indices: "graph must be a sparseacc.Graph, not tuple: make it with Graph(senders, receivers, num_nodes)",
    indices_that_are_floats: "senders must hold integers, but its dtype is float64 (senders[0] is 0.0): convert it, as "
    "by numpy.asarray(senders, int)",
    a_rule_of_floats: "m1 must hold integers, but its dtype is float64 (m1[0] is 0.0): convert it, as by "
    "numpy.asarray(m1, int)",
    indices_from_one: "m1[2] is 3, but must be between 0 and 2 (shape[0] is 3)",
    a_mask: f"x1 has dtype bool, but must be one of {DTYPES}: convert it with x1.astype(...)",
    complex_numbers_in_a_polynomial: "x has dtype complex128, but polynomials are not computed of complex numbers: "
    "pass x.real, or what else is real of it",
    no_parity: f"irreps1: '64x0' {NO_IRREP}",
    commas_in_irreps: f"irreps1: '64x0e, 64x1o' {NO_IRREP}",
    parities_that_do_not_fit: "nothing couples: irreps1 is '64x0e' and irreps2 is '1x1o', and irreps_out is '1x1e'; "
    "without irreps_out they couple to '64x1o'",
    a_multiplicity_of_the_edges: "irreps2 must have multiplicity 1 everywhere, or those of irreps1, [64], but has [4]: "
    "irreps1 is '64x0e' and irreps2 is '4x0e'",
    a_degree_that_is_too_large: "l3 is 3, but l1 = 1 and l2 = 1 couple only to l3 in |l1 - l2|..l1 + l2 = 0..2",
    a_degree_that_is_a_float: "l1 must be an integer, but is 1.0 (float): pass an int or a NumPy integer, such as 1",
    out_of_another_shape: "out.shape is (10, 5), but the result's is (10, 7): make it of that shape",
    out_of_another_dtype: "out has dtype float32, but the result's is float64: make it of that dtype",
    a_gradient_of_the_inputs_shape: "dy has length 3 along axis -1, but the rule needs 7: dy.shape is (10, 3), the "
    "rule's shape is (3, 5, 7)",
    assignment: "a Rule is immutable: make a new one instead of setting 'C'",
}


def message_of(mistake):
    with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
        mistake()
    return str(caught.value)


@pytest.mark.parametrize("mistake", MESSAGES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_told_with_what_to_do(mistake):
    assert message_of(mistake) == MESSAGES[mistake]


def test_what_the_messages_tell_to_do_works():
    assert RULE(np.ones((10, 3, 8)), np.ones((10, 5, 8)), axis=-2).shape == (10, 7, 8)
    assert PRODUCT(np.ones((20, 4, 8)), np.ones((20, 4))[..., None], axis=-2).shape == (20, 16, 8)
    assert message_passing(PRODUCT, GRAPH, X, Y, W.reshape(6, -1).reshape(-1, 6, 8)).shape == (4, 16, 8)
    assert repr(Graph(*np.stack([SENDERS, RECEIVERS]))) == repr(GRAPH)
    assert Graph([0, 1, 1], [5, 9, 3], num_nodes=10).num_nodes == 10
    assert Rule(np.asarray([0.0, 1.0], int), [0, 0], [0, 1], [1.0, 1.0], (2, 2, 2)).nnz == 2
    assert tensor_product("64x0e", "1o", "64x1o").num_paths == 1


def test_no_message_tells_to_cut_fractions_off():
    with pytest.raises(TypeError) as caught:
        Rule([0.5, 1], [0, 0], [0, 1], [1.0, 1.0], (2, 2, 2))
    assert str(caught.value) == "m1 must hold integers, but its dtype is float64 (m1[0] is 0.5)"


def test_a_tensor_that_requires_a_gradient_names_the_function_that_records_it():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x1, x2 = torch.ones(10, 3, requires_grad=True), torch.ones(10, 5)
    assert message_of(lambda: RULE(x1, x2)) == (
        "x1 requires gradients, which are not recorded here: use sparseacc.torch.product(rule, x1, x2), or pass "
        "x1.detach()"
    )
    x = torch.ones(4, 4, 8, requires_grad=True)
    assert message_of(lambda: message_passing(PRODUCT, GRAPH, x, torch.ones(6, 4))) == (
        "x requires gradients, which are not recorded here: use sparseacc.torch.message_passing(rule, graph, x, y), or "
        "pass x.detach()"
    )


def test_a_tensor_beside_an_array_is_a_tensor_and_torchs_own_product_wants_tensors():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from sparseacc.torch import message_passing as of_tensors
    from sparseacc.torch import product

    assert isinstance(RULE(X1, torch.ones(10, 5, dtype=torch.float64)), torch.Tensor)
    assert message_of(lambda: product(RULE, X1, torch.ones(10, 5))) == (
        "x1 must be a torch.Tensor, not ndarray: convert it with torch.as_tensor"
    )
    edge_index = torch.from_numpy(np.stack([SENDERS, RECEIVERS]))
    assert message_of(lambda: of_tensors(PRODUCT, edge_index, torch.ones(4, 4, 8), torch.ones(6, 4))) == (
        "graph must be a sparseacc.Graph or a tuple (senders, receivers, num_nodes), not Tensor"
    )


def test_arrays_of_two_libraries_are_refused():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    assert message_of(lambda: RULE(torch.ones(10, 3), jax.numpy.ones((10, 5)))) == (
        "arrays of two libraries, x1 of torch and x2 of jax: convert one of them first"
    )


def test_a_traced_array_names_the_function_that_can_be_traced():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    assert message_of(lambda: jax.jit(RULE)(jax.numpy.ones((10, 3)), jax.numpy.ones((10, 5)))) == (
        "x1 is traced by JAX (jit, grad, vmap ...): use sparseacc.jax.product(rule, x1, x2)"
    )


@pytest.mark.parametrize(
    ("name", "needs"),
    [("torch", "PyTorch 2.6 or newer"), ("jax", "JAX 0.10 or newer"), ("dask", "dask.array")],
)
def test_a_missing_extra_says_how_to_install_it(name, needs):
    code = f"import sys; sys.modules[{name!r}] = None; import sparseacc.{name}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: sparseacc.{name} needs {needs}: python -m pip install -e '.[{name}]' in a clone of "
        "sparseacc"
    )


def test_messages_are_one_line_without_the_values_of_whole_arrays():
    for mistake in MESSAGES:
        assert re.fullmatch(r".{10,260}", message_of(mistake)), mistake
