"""What irreps and products of other libraries may be: every form of them, and one clear error for anything else."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

import sparseacc
from sparseacc import tensor_product


def test_irreps_come_as_text_or_as_pairs():
    rule = tensor_product("4x0e + 2x1o", "0e+1o", "1o")
    ir = {name: SimpleNamespace(l=int(name[0]), p=1 if name[1] == "e" else -1) for name in ("0e", "1o")}
    for first, second, out in (
        ([(4, ir["0e"]), (2, ir["1o"])], ((1, ir["0e"]), (1, ir["1o"])), [(7, ir["1o"])]),
        (iter([(4, ir["0e"]), (np.int64(2), ir["1o"])]), iter([(1, ir["0e"]), (1, ir["1o"])]), iter([(1, ir["1o"])])),
        (" 4 x 0e+2x1y ", "0y+1y", "5x1o + 3x7e"),
    ):
        other = tensor_product(first, second, out)
        assert other == rule
        assert (other.irreps1, other.irreps2, other.irreps_out) == (rule.irreps1, rule.irreps2, rule.irreps_out)
    assert (rule.irreps1, rule.irreps2, rule.irreps_out) == ("4x0e+2x1o", "1x0e+1x1o", "4x1o+2x1o")


@pytest.mark.parametrize("library", ["e3nn.o3", "e3nn_jax", "cuequivariance"])
def test_irreps_of_other_libraries_are_read(library):
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    group = (module.O3,) if library == "cuequivariance" else ()
    first, second, out = (module.Irreps(*group, text) for text in ("4x0e + 2x1o", "0e + 1o", "1o"))
    rule = tensor_product(first, second, out)
    assert rule == tensor_product("4x0e + 2x1o", "0e + 1o", "1o")
    assert (rule.irreps1, rule.irreps2, rule.irreps_out) == ("4x0e+2x1o", "1x0e+1x1o", "4x1o+2x1o")


IR = SimpleNamespace(l=1, p=-1)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("4x0f", "1o"), {}, ValueError, "irreps1: '4x0f' is no irrep: write multiplicity, x, degree and parity"),
        (("4x0e + ", "1o"), {}, ValueError, "irreps1: '' is no irrep"),
        (("-4x0e", "1o"), {}, ValueError, "irreps1: '-4x0e' is no irrep"),
        (("4x-1e", "1o"), {}, ValueError, "irreps1: '4x-1e' is no irrep"),
        (("4x1", "1o"), {}, ValueError, "irreps1: '4x1' is no irrep"),
        (("4.0x1o", "1o"), {}, ValueError, "irreps1: '4.0x1o' is no irrep"),
        (("4x0e", "1o", "vector"), {}, ValueError, "irreps_out: 'vector' is no irrep"),
        ((7, "1o"), {}, TypeError, r"irreps1 must be text.*but is 7 \(int\)"),
        (("0e", None), {}, TypeError, r"irreps2 must be text.*None"),
        (([(4, "0e")], "1o"), {}, TypeError, r"irreps1\[0\] must be a pair \(mul, ir\).*\(4, '0e'\)"),
        (([(4, IR), 3], "1o"), {}, TypeError, r"irreps1\[1\] must be a pair"),
        (([(4.0, IR)], "1o"), {}, TypeError, r"irreps1\[0\] must be a pair"),
        ((IR, "1o"), {}, TypeError, "irreps1 must be text"),
        (([(-4, IR)], "1o"), {}, ValueError, r"irreps1\[0\] has multiplicity -4, but must not be negative"),
        (("0e", [(1, SimpleNamespace(l=-1, p=1))]), {}, ValueError, r"irreps2\[0\] has degree -1"),
        (("0e", [(1, SimpleNamespace(l=1, p=0))]), {}, ValueError, r"irreps2\[0\] has parity 0, but must be 1 or -1"),
        (("4x0e", "2x1o"), {}, ValueError, r"irreps2 must have multiplicity 1.*irreps1, \[4\], but has \[2\]"),
        (("4x0e+2x1o", "4x1o"), {}, ValueError, r"irreps1, \[2, 4\], but has \[4\]"),
        (("4x0e", "0e+4x1o"), {}, ValueError, r"irreps1, \[4\], but has \[1, 4\]"),
        (("4x0e", "1o", "1e"), {}, ValueError, "nothing couples: irreps1 is '4x0e'.*'1x1o', and irreps_out is '1x1e'"),
        (("4x0e", "1o", ""), {}, ValueError, "nothing couples.*irreps_out is ''"),
        (("", "1o"), {}, ValueError, "nothing couples: irreps1 is '' and irreps2 is '1x1o'$"),
        (("0x0e", "1o"), {}, ValueError, "nothing couples: irreps1 is '0x0e'"),
        (("0e+900000000x1o", "1o"), {}, ValueError, "shape: n1 is 2700000001, but must be between"),
        (("9999999999x0e", "1o"), {}, ValueError, "irreps1: '9999999999x0e' is no irrep"),
        (("0e", "1o"), {"convention": "E3NN"}, ValueError, "convention must be 'librascal' or 'e3nn', but is 'E3NN'"),
        (("0e", "1o"), {"order": None}, ValueError, "order must be 'e3nn' or 'natural' or 'paths', but is None"),
        (("0e", "1o"), {"path_normalization": "element"}, ValueError, "path_normalization must be 'none' or 'path'"),
    ],
)
def test_bad_input_is_one_error(arguments, options, error, message):
    with pytest.raises(error, match=message):
        tensor_product(*arguments, **options)


def like_e3nn(*instructions, irreps=("4x0e + 4x1o", "1x0e + 4x1o", "4x0e + 4x1o + 2x1o")):
    names = ("i_in1", "i_in2", "i_out", "connection_mode", "has_weight", "path_weight")
    fields = dict(zip(("irreps_in1", "irreps_in2", "irreps_out"), irreps, strict=True))
    return SimpleNamespace(
        **fields, instructions=[SimpleNamespace(**dict(zip(names, i, strict=True))) for i in instructions]
    )


def test_an_array_of_pairs_is_pairs():
    pairs = np.array([(4, SimpleNamespace(l=0, p=1)), (4, SimpleNamespace(l=1, p=-1))], dtype=object)
    assert sparseacc.tensor_product(pairs, "0e + 1o") == sparseacc.tensor_product("4x0e + 4x1o", "0e + 1o")


GOOD = (0, 0, 0, "uvu", True, 1.0)


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ((0, 0, 0, "uvw", True, 1.0), "in mode 'uvw' with weights, 4x0e times 1x0e to 4x0e: modes may be"),
        ((0, 0, 0, "uvuv", True, 1.0), "modes may be 'uvu' and 'uuu'"),
        ((0, 1, 1, "uvu", True, 1.0), "multiplicities must be n, 1, n in mode 'uvu'"),
        ((1, 0, 2, "uvu", True, 1.0), "4x1o times 1x0e to 2x1o: multiplicities must be n, 1, n in mode 'uvu'"),
        ((0, 0, 0, "uuu", True, 1.0), "multiplicities must be the same in mode 'uuu'"),
        ((0, 0, 1, "uvu", True, 1.0), "4x0e times 1x0e to 4x1o: these irreps do not couple"),
        ((0, 0, 0, "uvu", False, 1.0), "without weights, .*: give weights to all instructions or to none"),
    ],
)
def test_an_instruction_that_is_not_supported_is_named(instruction, message):
    with pytest.raises(ValueError, match=message) as raised:
        sparseacc.from_e3nn(like_e3nn(GOOD, instruction))
    assert str(raised.value).startswith(f"instruction 1 of tp, {instruction[:3]} in mode {instruction[3]!r}")


def test_one_product_does_not_both_share_x2_and_take_it_channel_by_channel():
    message = "instruction 0 of tp, .*: others take x2 channel by channel: make two products"
    with pytest.raises(ValueError, match=message):
        sparseacc.from_e3nn(like_e3nn(GOOD, (0, 1, 1, "uuu", True, 1.0)))


@pytest.mark.parametrize("tp", [None, "8x0e", SimpleNamespace(irreps_in1="0e", irreps_in2="0e", irreps_out="0e")])
def test_what_is_no_product_of_e3nn_is_a_type_error(tp):
    with pytest.raises(TypeError, match=re.escape("tp must have irreps_in1, irreps_in2, irreps_out and instructions")):
        sparseacc.from_e3nn(tp)


def test_instructions_without_copies_do_nothing():
    irreps = ("4x0e + 0x1o", "1x0e + 0x1o", "4x0e + 0x0e")
    rule = sparseacc.from_e3nn(like_e3nn(GOOD, (1, 1, 1, "uuu", True, 1.0), irreps=irreps))
    assert rule == sparseacc.tensor_product("4x0e", "0e")
    assert (rule.channels, rule.channels2) == (4, 1)


def test_instructions_of_weight_zero_have_weights_but_no_terms():
    rule = sparseacc.from_e3nn(like_e3nn(GOOD, (1, 0, 1, "uvu", True, 0.0)))
    assert rule.num_paths == 4  # of two rows of copies each
    assert set(rule.path.tolist()) == {0, 1}
    assert rule.paths.coefficient.tolist() == [1, 1, 0, 0]


def test_a_product_without_instructions_is_zero():
    rule = sparseacc.from_e3nn(like_e3nn())
    assert (rule.shape, rule.nnz, rule.num_paths, rule.channels) == ((8, 13, 11), 0, 0, 2)
    np.testing.assert_array_equal(rule(np.ones((8, 2)), np.ones((13, 1)), axis=-2), np.zeros((11, 2)))
