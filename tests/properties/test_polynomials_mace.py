"""MACE's symmetric contraction as a polynomial: the same numbers by fewer paths."""

import copy
import functools
import itertools
import warnings
from types import SimpleNamespace as Like

import numpy as np
import pytest
from oracle import PolynomialOracle

from sparseacc import from_channels, from_mace, symmetric_contraction

CHANNELS = 3
HIDDEN = ["3x0e", "3x0e+3x1o", "3x0e+3x1o+3x2e"]


def tensors_of(polynomial):
    """A module whose tensors are those of a polynomial's paths themselves."""
    contractions = []
    for out in np.unique(polynomial.paths.out):
        part = Like(correlation=polynomial.degree)
        for nu, (m, mu, path, C) in enumerate(polynomial.terms, start=1):
            paths = np.flatnonzero((polynomial.paths.out == out) & (polynomial.paths.degree == nu))
            start, stop, _ = polynomial.paths.rows_out[paths[0]]
            U = np.zeros((stop - start, *[polynomial.shape[0]] * nu, len(paths)))
            for k, column in itertools.product(range(len(C)), range(len(paths))):
                if path[k] == paths[column]:
                    orders = set(itertools.permutations(m[k].tolist()))
                    for order in orders:
                        U[(mu[k] - start, *order, column)] = C[k] / len(orders)
            setattr(part, f"U_matrix_{nu}", U)
        contractions.append(part)
    return Like(irreps_in=polynomial.irreps_in, irreps_out=polynomial.irreps_out, contractions=contractions)


def in_maces_order(polynomial):
    """By output, then from the largest degree to one."""
    return np.lexsort([-polynomial.paths.degree, polynomial.paths.out])


@pytest.fixture(scope="module")
def mace():
    """A maker of MACE's modules in a dtype."""
    torch = pytest.importorskip("torch", reason="MACE is made of torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("mace.modules.symmetric_contraction", reason="mace-torch is not installed")

    @functools.cache  # as making one takes MACE seconds
    def make(irreps_in, irreps_out, correlation, dtype="float64"):
        default = torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, dtype))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return module.SymmetricContraction(irreps_in, irreps_out, correlation, num_elements=4)
        finally:
            torch.set_default_dtype(default)

    return make


def concatenated(module):
    """Its weights as `from_mace` has them."""
    parts = (w for part in module.contractions for w in (part.weights_max, *part.weights))
    return np.concatenate([w.detach().double().numpy() for w in parts], axis=1)


def check_values(module, rng, precision):
    """The module's numbers, and those of the polynomial by the matrix."""
    import torch

    dtype = module.contractions[0].U_matrix_1.dtype
    polynomial, matrix = from_mace(module)
    elements = np.array([3, 0, 2, 0, 1])
    x = rng.normal(size=(5, CHANNELS, polynomial.shape[0]))
    expected = module(torch.tensor(x, dtype=dtype), torch.tensor(np.eye(4)[elements], dtype=dtype))
    weights = matrix @ concatenated(module)
    oracle = PolynomialOracle(polynomial, x.swapaxes(1, 2), weights, rows_of_weights=elements)
    result, _ = oracle.value()
    np.testing.assert_allclose(
        from_channels(result, polynomial.irreps_out),
        expected.detach().double().numpy(),
        rtol=0,
        atol=precision * max(abs(result).max(), 1),
    )
    return polynomial, matrix


@pytest.mark.parametrize("correlation", [1, 2, 3])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_the_numbers_are_maces(mace, rng, hidden, correlation):
    module = mace("3x0e+3x1o+3x2e+3x3o", hidden, correlation)
    polynomial, matrix = check_values(module, rng, 1e-12)
    assert polynomial == symmetric_contraction("3x0e+3x1o+3x2e+3x3o", hidden, correlation, convention="e3nn")
    assert matrix.shape == (polynomial.num_paths, concatenated(module).shape[1])
    assert np.linalg.matrix_rank(matrix) == polynomial.num_paths


@pytest.mark.parametrize(
    ("irreps_in", "irreps_out", "correlation"),
    [
        ("3x0e+3x1o", "3x0e", 4),
        ("3x0e+3x1o+3x1e", "3x1e+3x0o+3x0e", 3),
        ("3x1o+3x0e+3x2e", "3x1o+3x0e+3x1o", 2),
        ("3x0e+3x1o", "3x1e+3x0e", 2),  # where 1e is zero
    ],
)
def test_the_numbers_are_maces_of_other_irreps(mace, rng, irreps_in, irreps_out, correlation):
    check_values(mace(irreps_in, irreps_out, correlation), rng, 1e-12)


def test_weights_are_ordered_by_output_and_from_the_largest_degree_to_one(mace):
    polynomial, matrix = from_mace(mace("3x0e+3x1o+3x2e+3x3o", "3x0e+3x1o+3x2e", 3))
    numbers = [(out, nu) for out in range(3) for nu in (3, 2, 1)]
    ends = np.cumsum([23, 4, 1, 51, 6, 1, 65, 7, 1])
    for (out, nu), begin, end in zip(numbers, [0, *ends], ends):
        used = np.flatnonzero(np.any(matrix[:, begin:end], axis=1))
        of_these = np.flatnonzero((polynomial.paths.out == out) & (polynomial.paths.degree == nu))
        assert used.tolist() == of_these.tolist()
    assert matrix.shape[1] == ends[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("3x0e+3x1o+3x2e+3x3o", "3x0e", 3),
        ("3x0e+3x1o+3x2e+3x3o", "3x0e+3x1o", 3),
        ("3x0e+3x1o", "3x0e", 4),  # of which MACE has natural intermediates alone
    ],
)
def test_a_module_in_float32_gives_the_same_exact_matrix(mace, rng, arguments):
    polynomial, matrix = check_values(mace(*arguments, "float32"), rng, 1e-5)
    exact, of_double = from_mace(mace(*arguments))
    assert polynomial is exact
    assert np.array_equal(matrix, of_double)


def test_correlations_may_differ_by_output(mace):
    module = copy.deepcopy(mace("3x0e+3x1o", "3x0e+3x1o", 3))
    module.contractions[1] = mace("3x0e+3x1o", "3x1o", 1).contractions[0]
    polynomial, matrix = from_mace(module)
    paths = polynomial.paths
    assert [paths.degree[paths.out == out].max() for out in range(2)] == [3, 1]
    assert matrix.shape == (polynomial.num_paths, concatenated(module).shape[1])


# ---- without MACE --------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", ["3x0e", "3x1o+3x0e"])
def test_independent_tensors_are_our_paths_again(hidden):
    polynomial = symmetric_contraction("3x0e+3x1o+3x2e", hidden, 3, convention="e3nn")
    found, matrix = from_mace(tensors_of(polynomial))
    assert found is polynomial
    np.testing.assert_allclose(matrix, np.eye(polynomial.num_paths)[:, in_maces_order(polynomial)], atol=1e-14)


def test_tensors_may_have_lost_dimensions_of_length_one():
    """As MACE's of scalars have."""
    tensors = {"U_matrix_1": np.ones((1, 1)), "U_matrix_2": np.full(1, 2.0), "U_matrix_3": np.full((1, 1), -0.5)}
    polynomial, matrix = from_mace(
        Like(irreps_in="4x0e", irreps_out="4x0e", contractions=[Like(correlation=3, **tensors)])
    )
    assert polynomial.paths.degree.tolist() == [1, 2, 3]
    np.testing.assert_allclose(matrix, [[0, 0, 1], [0, 2, 0], [-0.5, 0, 0]])


def test_sums_of_paths_are_found_as_exactly_as_they_are_given(rng):
    polynomial = symmetric_contraction("3x0e+3x1o+3x2e", "3x0e", 3, convention="e3nn")
    module = tensors_of(polynomial)
    mixture = rng.normal(size=(5, 5))
    (part,) = module.contractions
    exact = part.U_matrix_3 @ mixture
    for tensor, precision in ((exact, 1e-13), (exact.astype(np.float32), 1e-6)):
        part.U_matrix_3 = tensor
        matrix = from_mace(module)[1]
        ours = np.flatnonzero(polynomial.paths.degree == 3)
        np.testing.assert_allclose(matrix[ours, :5], mixture, atol=precision)


def of_scalars(**changes):
    part = {"correlation": 1, "U_matrix_1": np.eye(4)[:1].T, **changes.pop("part", {})}
    module = {"irreps_in": "8x0e+8x1o", "irreps_out": "8x0e", "contractions": [Like(**part)], **changes}
    return Like(**{name: held for name, held in module.items() if held is not None})


NOISY = np.array([[2.0], [1e-9], [0.0], [0.0]])  # the chain is 1, 0, 0, 0


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (3, TypeError, "contraction must have irreps_in, irreps_out and contractions.* is 3 .*int"),
        (of_scalars(contractions=None), TypeError, "has no attribute 'contractions'"),
        (of_scalars(part={"correlation": 2}), TypeError, "has no attribute 'U_matrix_2'"),
        (of_scalars(part={"U_matrix_1": np.ones((4, 1), int)}), TypeError, "a tensor has the dtype int64"),
        (of_scalars(irreps_in="8x0e+4x1o"), ValueError, "contraction.irreps_in must have one multiplicity"),
        (of_scalars(irreps_out="8x0e+8x1o"), ValueError, "has 2 segments in irreps_out and 1 contractions"),
        (of_scalars(part={"correlation": 0}), ValueError, r"of correlation \[0\]"),
        (of_scalars(part={"U_matrix_1": np.ones((5, 1))}), ValueError, r"U_matrix_1 has the shape \(5, 1\), but must"),
        (of_scalars(part={"U_matrix_1": np.float64(1)}), ValueError, r"U_matrix_1 has the shape \(\), but must"),
        (of_scalars(part={"U_matrix_1": np.ones((4, 1))}), ValueError, r"U_matrix_1 is no sum of symmetric couplings"),
        (
            of_scalars(part={"U_matrix_1": NOISY}),
            ValueError,
            "1.0e-09 away from one, of which rounding explains 1e-10",
        ),
        (of_scalars(part={"U_matrix_1": np.full((4, 1), np.nan)}), ValueError, "U_matrix_1"),
    ],
)
def test_what_is_no_contraction_is_one_error(module, error, message):
    with pytest.raises(error, match=message):
        from_mace(module)
