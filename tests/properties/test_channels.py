"""Flat features as rows and channels: nothing is lost, in any library."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import irreps

import sparseacc
from sparseacc import from_channels, to_channels
from sparseacc.irreps import as_segments


def loop(x, segments, channels, layout):
    """Every number by itself: component m of copy u is in the row (m, u // channels) of its segment."""
    number = sum(s.dim * (s.mul // channels) for s in segments)
    result = np.full((*x.shape[:-1], number, channels), np.nan)
    flat = row = 0
    for s in segments:
        copies = s.mul // channels
        for u in range(s.mul):
            for m in range(s.dim):
                at = u * s.dim + m if layout == "mul_ir" else m * s.mul + u
                result[..., row + m * copies + u // channels, u % channels] = x[..., flat + at]
        flat += s.mul * s.dim
        row += copies * s.dim
    return result


@given(irreps(), st.sampled_from(["mul_ir", "ir_mul"]), st.sampled_from([(), (3,), (2, 0), (2, 1, 3)]), st.data())
def test_every_number_has_its_row_and_channel(text, layout, batch, data):
    segments = as_segments(text, "irreps")
    most = np.gcd.reduce([s.mul for s in segments])
    channels = data.draw(st.sampled_from([None, *(n for n in range(1, most + 1) if most % n == 0)]))
    dim = sum(s.mul * s.dim for s in segments)
    x = np.arange(np.prod(batch, dtype=int) * dim, dtype=float).reshape(*batch, dim)
    rows = to_channels(x, text, channels=channels, layout=layout)
    np.testing.assert_array_equal(rows, loop(x, segments, channels or most, layout))
    np.testing.assert_array_equal(from_channels(rows, text, channels=channels, layout=layout), x)


def test_component_by_component_is_a_view():
    x = np.arange(30.0).reshape(3, 10)
    rows = to_channels(x, "4x0e + 2x1o", layout="ir_mul")
    assert np.shares_memory(rows, x)
    assert np.shares_memory(from_channels(rows, "4x0e + 2x1o", layout="ir_mul"), x)


@pytest.mark.parametrize("text", ["0e + 1o + 2e", "8x0e", "8x0e + 4x0o"])
def test_where_both_layouts_are_the_same_it_is_a_view(text):
    x = np.arange(24.0)[: sum(s.mul * s.dim for s in as_segments(text, "irreps"))]
    rows = to_channels(x, text)
    assert np.shares_memory(rows, x)
    assert np.shares_memory(from_channels(rows, text), x)
    np.testing.assert_array_equal(rows, to_channels(x, text, layout="ir_mul"))


def test_it_is_an_e3nn_user_s_transposition():
    o3 = pytest.importorskip("e3nn.o3", reason="e3nn is the reference")
    text = o3.Irreps("8x0e + 4x1o + 4x2e")
    x = np.arange(float(text.dim))
    parts = [x[s].reshape(mul, ir.dim).T.reshape(-1, 4) for s, (mul, ir) in zip(text.slices(), text, strict=True)]
    np.testing.assert_array_equal(to_channels(x, text), np.concatenate(parts))


@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
@pytest.mark.parametrize("library", ["torch", "jax", "lists"])
def test_arrays_of_any_library_stay_what_they_are(library, layout):
    text, x = "4x0e + 2x1o", np.arange(20.0, dtype=np.float32).reshape(2, 10)
    expected = to_channels(x, text, layout=layout)
    if library == "lists":
        there = x.tolist()
    else:
        module = pytest.importorskip("torch" if library == "torch" else "jax.numpy", reason=f"{library} is needed")
        there = module.asarray(x)
    rows = to_channels(there, text, layout=layout)
    back = from_channels(rows, text, layout=layout)
    assert type(rows) is type(back) is (np.ndarray if library == "lists" else type(there))
    np.testing.assert_array_equal(np.asarray(rows), expected)
    np.testing.assert_array_equal(np.asarray(back), x)


def test_gradients_pass_through_in_torch():
    torch = pytest.importorskip("torch", reason="torch is needed")
    x = torch.arange(10.0, requires_grad=True)
    factors = torch.arange(10.0).reshape(5, 2)
    (to_channels(x, "4x0e + 2x1o") * factors).sum().backward()
    np.testing.assert_array_equal(x.grad, from_channels(factors, "4x0e + 2x1o"))


def test_it_is_traced_by_jax():
    jax = pytest.importorskip("jax", reason="JAX is needed")
    x = np.arange(10.0, dtype=np.float32)
    rows = jax.jit(lambda x: to_channels(x, "4x0e + 2x1o"))(x)
    np.testing.assert_array_equal(rows, to_channels(x, "4x0e + 2x1o"))


def test_it_is_compiled_by_torch_without_a_graph_break():
    torch = pytest.importorskip("torch", reason="torch is needed")
    text = "4x0e + 2x1o"
    there = torch.compile(lambda x: to_channels(x, text), fullgraph=True, backend="eager")
    back = torch.compile(lambda x: from_channels(x, text), fullgraph=True, backend="eager")
    for n in (2, 3):
        x = torch.randn(n, 10)
        assert torch.equal(there(x), to_channels(x, text))
        assert torch.equal(back(there(x)), x)


@pytest.mark.parametrize(
    ("function", "arguments", "options", "error", "message"),
    [
        (to_channels, (np.ones(9), "4x0e + 2x1o"), {}, ValueError, r"x must be \(\.\.\., 10\).*\(9,\)"),
        (to_channels, (1.0, "1x0e"), {}, ValueError, r"x must be \(\.\.\., 1\).*\(\)"),
        (to_channels, (None, "1x0e"), {}, TypeError, "x is None, but must be an array"),
        (to_channels, (np.ones(10), "4x0e + 2x1o"), {"channels": 4}, ValueError, "channels is 4.*2 of 2x1o"),
        (to_channels, (np.ones(10), "4x0e + 2x1o"), {"channels": 0}, ValueError, "channels is 0"),
        (to_channels, (np.ones(10), "4x0e + 2x1o"), {"channels": 2.0}, TypeError, "channels must be an integer"),
        (
            to_channels,
            (np.ones(10), "4x0e + 2x1o"),
            {"layout": "ir"},
            ValueError,
            "layout must be 'mul_ir' or 'ir_mul'",
        ),
        (to_channels, (np.ones(10), "4x0e ; 2x1o"), {}, ValueError, "irreps: '4x0e ; 2x1o' is no irrep"),
        (from_channels, (np.ones(10), "4x0e + 2x1o"), {}, ValueError, r"x must be \(\.\.\., rows, channels\).*\(10,\)"),
        (from_channels, (np.ones((4, 2)), "4x0e + 2x1o"), {}, ValueError, r"5 rows.*2 channels.*\(4, 2\)"),
        (from_channels, (np.ones((5, 3)), "4x0e + 2x1o"), {}, ValueError, "channels is 3.*4 of 4x0e"),
        (from_channels, (np.ones((5, 0)), "4x0e + 2x1o"), {}, ValueError, "channels is 0"),
        (from_channels, (np.ones((5, 0, 0)), "0x0e"), {}, ValueError, "channels is 0"),
        (from_channels, (np.ones((5, 2)), "4x0e + 2x1o"), {"channels": 1}, ValueError, r"1 channels.*\(5, 2\)"),
        (from_channels, (np.ones((5, 2)), "4x0e + 2x1o"), {"layout": None}, ValueError, "layout must be"),
    ],
)
def test_bad_input_is_one_error(function, arguments, options, error, message):
    with pytest.raises(error, match=message):
        function(*arguments, **options)


def test_a_rule_and_its_result_go_there_and_back(rng):
    rule = sparseacc.tensor_product("4x0e + 4x1o", "1o", "0e + 1o")
    x = rng.normal(size=(3, 16))
    out = rule(to_channels(x, rule.irreps1), to_channels(rng.normal(size=(3, 3)), rule.irreps2), axis=-2)
    assert from_channels(out, rule.irreps_out).shape == (3, 16)
