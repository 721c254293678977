"""The main job: its data, its harmonics, and that its checks would notice a mistake."""

import io
import subprocess
import sys

import numpy as np
import pytest

import sparseacc
from sparseacc import demo

pytest.importorskip("scipy", reason="the main job needs scipy (sparseacc[examples])")


def test_the_data_are_the_22_complexes():
    molecules = {m.name: m for m in demo.load_molecules()}
    assert len(molecules) == 22
    assert sum(len(m.symbols) for m in molecules.values()) == 414
    pair = molecules["Adenine-thymine Watson-Crick complex"]
    assert {s: pair.symbols.count(s) for s in "CHNO"} == {"C": 10, "H": 11, "N": 7, "O": 2}
    water = molecules["Water dimer"]
    assert water.symbols == ("O", "H", "H", "O", "H", "H")
    bonds = np.linalg.norm(water.positions[1:3] - water.positions[0], axis=1)
    assert np.all(abs(bonds - 0.96) < 0.01)  # Angstrom


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["two", "", "H 0 0 0"], "line 1 must be a number of atoms, not 'two'"),
        (["2", "", "H 0 0 0"], "line 4 must be an element and three coordinates, not ''"),
        (["1", "", "H 0 0"], "line 3 must be an element and three coordinates, not 'H 0 0'"),
        (["1", "", "H 0 0 x"], "line 3 must be an element and three coordinates"),
        (["1", "", "Xx 0 0 0"], "line 3: element 'Xx' is not one of H, C, N, O"),
    ],
)
def test_a_corrupt_file_is_one_error_that_names_the_line(lines, message):
    with pytest.raises(ValueError, match=message):
        demo.load_molecules(lines)


def test_harmonics_are_orthonormal():
    """By a quadrature that is exact for them: Gauss-Legendre in cos(theta), evenly spaced angles phi."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    phi = 2 * np.pi * np.arange(24) / 24
    z, phi = np.meshgrid(nodes, phi, indexing="ij")
    directions = np.stack([np.sqrt(1 - z**2) * np.cos(phi), np.sqrt(1 - z**2) * np.sin(phi), z], axis=-1)
    Y = np.concatenate([demo.real_spherical_harmonics(degree, directions) for degree in range(5)], axis=-1)
    overlaps = np.einsum("i,ijm,ijn->mn", weights * 2 * np.pi / 24, Y, Y)
    assert np.max(abs(overlaps - np.eye(25))) < 1e-13


def test_harmonics_of_degree_1_are_y_z_x():
    vector = np.array([[0.2, -0.5, 0.7]])
    expected = np.sqrt(3 / (4 * np.pi)) * vector[:, [1, 2, 0]] / np.linalg.norm(vector)
    assert np.max(abs(demo.real_spherical_harmonics(1, vector) - expected)) < 1e-15


def quarter_turn():
    return np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("degree", range(5))
def test_wigner_matrices_are_orthogonal_and_compose(degree):
    one, two = quarter_turn(), quarter_turn()[[2, 0, 1]][:, [2, 0, 1]]
    D1, D2 = (demo.wigner_d(degree, R) for R in (one, two))
    assert np.max(abs(D1 @ D1.T - np.eye(2 * degree + 1))) < 1e-12
    assert np.max(abs(demo.wigner_d(degree, one @ two) - D1 @ D2)) < 1e-12


def test_a_wrong_sign_or_a_wrong_rotation_is_noticed():
    molecules = demo.load_molecules()[1:2]
    R = quarter_turn()[[2, 0, 1]][:, [2, 0, 1]]
    c = demo.density_expansions(molecules)
    rotated = demo.density_expansions(m._replace(positions=m.positions @ R.T) for m in molecules)
    right = sparseacc.clebsch_gordan(1, 2, 3)
    C = right.C.copy()
    C[0] *= -1
    wrong = sparseacc.Rule(right.m1, right.m2, right.mu, C, right.shape)
    D = demo.wigner_d(3, R)
    assert demo.equivariance_error(right, (1, 2, 3), c, rotated, D) < demo.TOLERANCE
    assert demo.equivariance_error(wrong, (1, 2, 3), c, rotated, D) > 1e-3
    assert demo.equivariance_error(right, (1, 2, 3), c, rotated, D.T) > 1e-3


def test_a_failed_check_fails_the_job(monkeypatch):
    monkeypatch.setattr(demo, "load_molecules", lambda load=demo.load_molecules: load()[:2])
    monkeypatch.setattr(demo, "REPEATS", 1)
    out = io.StringIO()
    assert demo.run(out=out)
    assert "FAILED" not in out.getvalue()
    wrong = {degree: np.eye(2 * degree + 1) for degree in range(5)}
    monkeypatch.setattr(demo, "wigner_d", lambda degree, rotation: wrong[degree])
    assert not demo.run(out=out)
    assert "features of degree 1 do not rotate as they should" in out.getvalue()
    assert out.getvalue().rstrip().endswith("FAILED: see above.")


def command(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_the_command_prints_a_row_for_each_degree_and_succeeds():
    result = command("-m", "sparseacc")
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[0] for row in rows if row and row[-1].count("e-")] == ["0", "1", "2", "3", "4", "all"]
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_info_names_versions_threads_and_the_instruction_set():
    result = command("-m", "sparseacc", "info")
    assert result.returncode == 0
    for word in (sparseacc.__version__, np.__version__, "cffi", "threads", *sparseacc.cpu.instruction_sets()):
        assert word in result.stdout


def test_an_unknown_command_is_refused():
    result = command("-m", "sparseacc", "frobnicate")
    assert result.returncode == 2
    assert "frobnicate" in result.stderr


def test_without_scipy_the_job_says_what_to_install():
    code = "import sys; sys.modules['scipy'] = None; from sparseacc.__main__ import main; sys.exit(main([]))"
    result = command("-c", code)
    assert result.returncode == 1
    assert result.stderr == "error: the main job needs scipy: python -m pip install 'sparseacc[examples]'\n"
