"""The main job: its data, its harmonics, its model, and that its checks would notice a mistake."""

import hashlib
import re
from importlib import resources

import numpy as np
import pytest

import sparseacc
from sparseacc import demo
from sparseacc.__main__ import main
from sparseacc.demo import harmonics, model

pytest.importorskip("scipy", reason="the main job needs scipy (extra: examples)")


FORMULAS = """H6N2 H4O2 C2H4O4 C2H6N2O2 C8H8N4O4 C10H11N3O C10H11N7O2 C2H8 C4H8 C7H10 C12H12
C8H8N4 C8H8N4O4 C14H13N C10H11N7O2 C4H6 C6H8O C6H9N C7H7N C12H12 C14H13N C12H12O2"""


def formula(symbols):
    counts = {symbol: symbols.count(symbol) for symbol in "CHNO"}
    return "".join(f"{symbol}{n if n > 1 else ''}" for symbol, n in counts.items() if n)


def test_the_data_are_the_22_complexes():
    molecules = demo.load_molecules()
    assert [formula(m.symbols) for m in molecules] == FORMULAS.split()  # in the order of the article's table 1
    assert sum(len(m.symbols) for m in molecules) == 414
    assert all(m.positions.shape == (len(m.symbols), 3) for m in molecules)
    named = {m.name: m for m in molecules}
    assert len(named["Adenine-thymine Watson-Crick complex"].symbols) == 30
    water = named["Water dimer"]
    assert water.symbols == ("O", "H", "H", "O", "H", "H")
    for oxygen in (0, 3):
        bonds = np.linalg.norm(water.positions[oxygen + 1 : oxygen + 3] - water.positions[oxygen], axis=1)
        assert np.all(abs(bonds - 0.96) < 0.01)  # Angstrom


def test_the_coordinates_are_unchanged():
    """The digest is of the coordinates in ase 3.29 (ase.data.s22), with which they were compared."""
    positions = np.concatenate([m.positions for m in demo.load_molecules()])
    digits = np.rint(positions * 10**7).astype("<i8").tobytes()
    assert hashlib.sha256(digits).hexdigest() == "168d50dee0a676991b1f84dba43de48e16455b7d283fefe5842065e18943448a"


def test_every_molecule_is_whole_and_no_two_atoms_are_on_top_of_each_other():
    """Each atom has a bond of 0.9 to 1.6 Angstrom, and none is shorter: a coordinate with a wrong digit would show."""
    for molecule in demo.load_molecules():
        distances = np.linalg.norm(molecule.positions[:, None] - molecule.positions, axis=-1)
        nearest = np.min(distances + 9 * np.eye(len(distances)), axis=1)
        assert np.min(nearest) > 0.9, molecule.name
        assert np.max(nearest) < 1.6, molecule.name


def test_the_source_is_named_in_the_file():
    text = (resources.files(sparseacc) / "data" / "s22.xyz").read_text(encoding="utf-8")
    assert text.count(demo.SOURCE.rpartition("doi ")[2]) == 22


NAME = 'name="one"'


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["two", NAME, "H 0 0 0"], "line 1 must be a number of atoms, not 'two'"),
        (["0", NAME], "line 1 must be a number of atoms, not '0'"),
        (["1", NAME, "H 0 0 0", "H 0 0 0"], "line 4 must be a number of atoms, not 'H 0 0 0'"),
        (["", "1", "a comment", "H 0 0 0"], "line 3 must hold name=\"...\", but is 'a comment'"),
        (["1"], "line 2 must hold name=\"...\", but is ''"),
        (["2", NAME, "H 0 0 0"], "line 4 must be an element and three coordinates, not 'the end of the file'"),
        (["1", NAME, "H 0 0"], "line 3 must be an element and three coordinates, not 'H 0 0'"),
        (["1", NAME, "H 0 0 0 0"], "line 3 must be an element and three coordinates"),
        (["1", NAME, "H 0 0 x"], "line 3 must be an element and three coordinates"),
        (["1", NAME, "H 0 0 nan"], "line 3 must be an element and three coordinates"),
        (["1", NAME, "Xx 0 0 0"], "line 3: element 'Xx' is not one of H, C, N, O"),
    ],
)
def test_a_corrupt_file_is_one_error_that_names_the_line(lines, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        demo.load_molecules(lines)


def test_harmonics_are_orthonormal():
    """By a quadrature that is exact for them: Gauss-Legendre in cos(theta), evenly spaced angles phi."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    phi = 2 * np.pi * np.arange(24) / 24
    z, phi = np.meshgrid(nodes, phi, indexing="ij")
    directions = np.stack([np.sqrt(1 - z**2) * np.cos(phi), np.sqrt(1 - z**2) * np.sin(phi), z], axis=-1)
    Y = np.concatenate([harmonics.real_spherical_harmonics(degree, directions) for degree in range(5)], axis=-1)
    overlaps = np.einsum("i,ijm,ijn->mn", weights * 2 * np.pi / 24, Y, Y)
    assert np.max(abs(overlaps - np.eye(25))) < 1e-13


def test_harmonics_of_degree_1_are_y_z_x():
    vector = np.array([[0.2, -0.5, 0.7]])
    expected = np.sqrt(3 / (4 * np.pi)) * vector[:, [1, 2, 0]] / np.linalg.norm(vector)
    assert np.max(abs(harmonics.real_spherical_harmonics(1, vector) - expected)) < 1e-15


def quarter_turn():
    return np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("degree", range(5))
def test_wigner_matrices_are_orthogonal_and_compose(degree):
    one, two = quarter_turn(), quarter_turn()[[2, 0, 1]][:, [2, 0, 1]]
    D1, D2 = (harmonics.wigner_d(degree, R) for R in (one, two))
    assert np.max(abs(D1 @ D1.T - np.eye(2 * degree + 1))) < 1e-12
    assert np.max(abs(harmonics.wigner_d(degree, one @ two) - D1 @ D2)) < 1e-12


def test_harmonics_transform_by_wigner_matrices():
    """At directions that did not enter them."""
    R = quarter_turn()[[2, 0, 1]][:, [2, 0, 1]]
    directions = np.random.default_rng(7).normal(size=(20, 3))
    for degree in range(5):
        turned = harmonics.real_spherical_harmonics(degree, directions @ R.T)
        expected = harmonics.real_spherical_harmonics(degree, directions) @ harmonics.wigner_d(degree, R).T
        assert np.max(abs(turned - expected)) < 1e-13


def unit_vectors(count):
    vectors = np.random.default_rng(7).normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_harmonics_by_recursion_are_scipys():
    """Within 30 eps of the largest, which is 3: each of two steps has sums of at most 9 terms."""
    directions = unit_vectors(200)
    expected = [harmonics.real_spherical_harmonics(n, directions) for n in range(harmonics.MOST_L + 1)]
    difference = harmonics.harmonics(directions) - np.sqrt(4 * np.pi) * np.concatenate(expected, axis=1)
    assert np.max(abs(difference)) < 30 * 3 * np.finfo(float).eps


def test_the_gradient_of_harmonics_is_their_slope():
    """The recursion is a polynomial of degree 3 in the components: with a step of 1e-3, the central difference is off
    by at most 1e-6 times a third derivative of about 20, and rounding adds 1e-12."""
    directions, rng = unit_vectors(50), np.random.default_rng(8)
    dy, along = rng.normal(size=(50, 16)), 1e-3 * rng.normal(size=(50, 3))
    ahead, behind = (harmonics.harmonics(directions + sign * along) for sign in (1, -1))
    slope = np.sum(dy * (ahead - behind) / 2, axis=1)
    assert np.max(abs(np.sum(harmonics.harmonics_vjp(dy, directions) * along, axis=1) - slope)) < 1e-6
    assert np.max(abs(slope)) > 1e-3


def test_radial_functions_are_their_formula_and_end_smoothly():
    distances = np.array([1.1, 4.999, 5.0, 7.0])
    R, slope = model.radial(distances)
    assert np.max(abs(R[0] - (1 - 0.22**2) ** 3 * np.exp(-((1.1 - model.RADIAL) ** 2) / 0.72))) < 1e-15
    assert np.max(abs(R[1])) < 1e-9
    assert not np.any(R[2:])
    assert not np.any(slope[2:])
    ahead, behind = (model.radial(distances + step)[0] for step in (1e-5, -1e-5))
    assert np.max(abs((ahead - behind) / 2e-5 - slope)) < 1e-8


def test_edges_are_the_ordered_pairs_of_a_complex_within_the_cutoff():
    some = demo.load_molecules()[1:3]
    edges = demo.find_edges(some)
    at = np.concatenate([m.positions for m in some])
    complexes = np.repeat([0, 1], [len(m.symbols) for m in some])
    expected = [
        (i, j)
        for i, j in np.ndindex(len(at), len(at))
        if i != j and complexes[i] == complexes[j] and np.linalg.norm(at[i] - at[j]) < 5
    ]
    assert list(zip(edges.graph.receivers.tolist(), edges.graph.senders.tolist())) == expected
    assert np.array_equal(edges.vectors, at[edges.graph.senders] - at[edges.graph.receivers])
    assert edges.graph.num_nodes == len(at)
    assert len(expected) < sum(len(m.symbols) * (len(m.symbols) - 1) for m in some)


def features(some):
    return demo.Model().features(some, demo.find_edges(some))


def turned(some, rotation):
    return [m._replace(positions=m.positions @ rotation.T) for m in some]


def two_complexes_and_a_rotation():
    return demo.load_molecules()[1:3], quarter_turn()[[2, 0, 1]][:, [2, 0, 1]]


def above(checks):
    return [check.fault for check in checks if not check.error <= check.tolerance]


@pytest.mark.parametrize("sign", [1, -1])
def test_features_turn_and_a_wrong_rotation_or_parity_is_noticed(sign):
    some, R = two_complexes_and_a_rotation()
    before, after = features(some), features(turned(some, sign * R))
    assert above(demo.check_turned(before, after, R, sign < 0)) == []
    degrees = {fault.split()[2] for fault in above(demo.check_turned(before, after, R.T, sign < 0))}
    assert degrees == {"1o", "2e", "1e", "2o", "3o", "3e", "4o", "4e", "5o"}
    parities = {fault.split()[2] for fault in above(demo.check_turned(before, after, R, sign > 0))}
    assert parities == {"1o", "2o", "3o", "4o", "5o"}


def with_a_wrong_sign(rule, path):
    C = rule.C.copy()
    C[np.flatnonzero(rule.path == path)[0]] *= -1
    return sparseacc.Rule(rule.m1, rule.m2, rule.mu, C, rule.shape, path=rule.path, num_paths=rule.num_paths)


@pytest.mark.parametrize("path", range(1, model.LAYERS[1].num_paths))
def test_a_wrong_sign_in_any_path_is_noticed(monkeypatch, path):
    """But in that of two scalars, which has one term."""

    def wrong(rule, *arrays):
        return sparseacc.message_passing(with_a_wrong_sign(rule, path) if rule is model.LAYERS[1] else rule, *arrays)

    monkeypatch.setattr(model, "message_passing", wrong)
    some, R = two_complexes_and_a_rotation()
    degree, parity = model.LAYERS[1].paths[path][["l3", "parity"]]
    found = [c for c in demo.check_turned(features(some), features(turned(some, R)), R, False) if c.error > 1e-6]
    layers = [check.fault for check in found if check.fault.startswith("layer")]
    assert layers == [f"layer 2: {degree}{'e' if parity == 1 else 'o'} is not as it should be after a rotation"]


@pytest.mark.parametrize("way", demo.NUMPY_WAYS)
def test_numpys_ways_agree_with_message_passing(way):
    """Within 100 eps of the largest: sums of some 10 terms of a path, and of at most 9 neighbours."""
    some, _ = two_complexes_and_a_rotation()
    f, graph = features(some), demo.find_edges(some).graph
    for rule, x, weights in zip(model.LAYERS, f.x, f.weights):
        ours = sparseacc.message_passing(rule, graph, x, f.harmonics, weights)
        assert demo.relative_error(way(rule, graph, x, f.harmonics, weights), ours) < 100 * np.finfo(float).eps


@pytest.fixture
def _small(monkeypatch):
    monkeypatch.setattr(demo, "load_molecules", lambda load=demo.load_molecules: load()[1:3])
    monkeypatch.setattr(demo, "REPEATS", 1)
    monkeypatch.setattr(demo, "PAUSE", 0.0)


@pytest.mark.usefixtures("_small")
def test_the_job_passes(capsys):
    assert demo.run(seed=3)
    shown = capsys.readouterr().out
    assert "(seed 3)" in shown
    assert "FAILED" not in shown
    assert "\npassed: " in shown


def no_rotation(degree, rotation):
    return np.eye(2 * degree + 1)


def wrong_rule(rule, *arrays):
    return sparseacc.message_passing(with_a_wrong_sign(rule, rule.num_paths - 1), *arrays)


def no_numbers(*arrays):
    return np.nan * sparseacc.message_passing(*arrays)


def slightly_wrong(*arrays):
    return sparseacc.message_passing(*arrays) * (1 + 1e-9)


def wrong_gradient(rule, graph, dout, x, y, *rest, **options):
    dx, dy, dw = sparseacc.message_passing_vjp(rule, graph, dout, x, y, *rest, **options)
    return dx, dy * (1 + 1e-3), dw


def friction(self, edges, f, right=model.Model.forces):
    return right(self, edges, f) + 1e-9


@pytest.mark.parametrize(
    ("where", "name", "wrong", "message"),
    [
        (demo, "wigner_d", no_rotation, "FAILED: layer 1: 1o is not as it should be after a rotation: error "),
        (demo, "wigner_d", no_rotation, "FAILED: layer 2: 5o is not as it should be after a rotation and an inversion"),
        (model, "message_passing", wrong_rule, "FAILED: layer 1: 2e is not as it should be after a rotation: error "),
        (model, "message_passing", wrong_rule, "FAILED: energies change in a rotation: error "),
        (
            model,
            "message_passing",
            no_numbers,
            "FAILED: layer 2: 0e is not as it should be after a rotation: error nan",
        ),
        (model, "message_passing", no_numbers, "FAILED: forces are not the slope of energies: error nan, above 1e-06"),
        (model, "message_passing", slightly_wrong, "FAILED: layer 1 differs from NumPy: error 1.0e-09, above 1e-12"),
        (model, "message_passing_vjp", wrong_gradient, "FAILED: forces are not the slope of energies: error "),
        (model.Model, "forces", friction, "FAILED: the forces of a complex do not add up to zero: error "),
        (model.Model, "forces", friction, "FAILED: the torques of a complex do not add up to zero: error "),
    ],
)
@pytest.mark.usefixtures("_small")
def test_a_failed_check_fails_the_job(monkeypatch, capsys, where, name, wrong, message):
    monkeypatch.setattr(where, name, wrong)
    assert main([]) == 1
    shown = capsys.readouterr().out
    assert message in shown
    assert "passed" not in shown


def test_errors_are_the_largest_magnitude_over_the_largest_magnitude():
    assert demo.relative_error(np.array([1.0, 1.0, 4.0]), np.array([2.0, -1.0, 8.0])) == 0.5
    assert demo.relative_error(np.array([1.0, -8.0]), np.array([0.0, -4.0])) == 1


@pytest.mark.usefixtures("_small")
def test_each_seed_is_a_rotation_of_its_own(monkeypatch):
    seen = []
    monkeypatch.setattr(demo, "wigner_d", lambda n, R, right=demo.wigner_d: seen.append(R) or right(n, R))
    assert demo.run(seed=0)
    assert demo.run(seed=1)
    first, second = seen[0], seen[-1]
    for R in (first, second):
        assert np.max(abs(R @ R.T - np.eye(3))) < 1e-14
        assert np.linalg.det(R) > 0
    assert np.max(abs(first - second)) > 0.1


def test_timings_take_turns_and_leave_out_the_first(monkeypatch):
    """By a clock that the calls advance: by 100 in the first turn, then by 1, 4, 9 times `seconds`."""
    clock, calls = [0.0], []

    def way(name, seconds):
        def call():
            clock[0] += seconds * calls.count(name) ** 2 or 100
            calls.append(name)

        return call

    monkeypatch.setattr(demo.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(demo, "PAUSE", 0.0)
    assert demo.median_seconds((way("a", 1), way("b", 10)), [()]).tolist() == [[4], [40]]
    assert calls == ["a", "b"] * 4
