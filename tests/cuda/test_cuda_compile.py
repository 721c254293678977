"""What the compiler makes of the CUDA sources, for each architecture, without a device."""

import re
from collections import Counter

import cuda_host
import numpy as np
import nvrtc
import pytest
from strategies import DTYPES

import sparseacc
from sparseacc.algebra import COEFFICIENT_VJP, VJP, VJP_VJP
from sparseacc.cuda.message_kernels import messages_kernel
from sparseacc.cuda.passes import Pass
from sparseacc.cuda.polynomial_code import Evaluation, evaluation_code

pytestmark = pytest.mark.skipif(nvrtc.LIBRARY is None, reason="no wheel of NVRTC is installed")

ARCHITECTURES = [75, 80, 90, 100, 120]
if nvrtc.LIBRARY is not None and nvrtc.version() < (13, 0):
    ARCHITECTURES = [70, *(a for a in ARCHITECTURES if a <= 90 or nvrtc.version() >= (12, 8))]

AXES = ["last", "middle"]  # "first" is "middle"
OPERATIONS = ("forward", "vjp", "jvp", "vjp_vjp", "coefficient_vjp")
EVERY_OPERATION = (*OPERATIONS, *(f"weighted_{operation}" for operation in OPERATIONS))
REGISTERS = {  # for NVRTC 13; of 65,536 a multiprocessor: 64 let 1,024 threads reside, 128 let 512, 168 let 384
    "forward": {1: 64, 3: 64, 5: 64, 8: 104},
    "vjp": {1: 64, 3: 64, 5: 96, 8: 128},
    "vjp_vjp": {1: 64, 3: 64, 5: 128, 8: 168},
    "coefficient_vjp": {1: 80, 3: 80, 5: 80, 8: 128},
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("operation", REGISTERS)
def test_float32_kernels_spill_nothing_and_keep_to_their_budget(operation, axis, architecture):
    for degree, most in REGISTERS[operation].items():
        source = sparseacc.cuda.source(sparseacc.clebsch_gordan(degree, degree, degree), operation, axis=axis)
        made = nvrtc.compiled(source, architecture)
        older = nvrtc.version() < (13, 0)  # takes some more, up to the launch bounds, and spills two at l = 8
        assert (made.spilled, made.local) == (0, 0) or (older and degree == 8 and made.spilled <= 8), degree
        assert made.shared == 0  # all of it is dynamic
        assert 0 < made.registers <= (max(most, 128) if older else most), degree
        assert source.shared_mem <= 48 * 1024


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("degree", [1, 3, 5])
def test_float32_kernels_of_broadcast_inputs_spill_nothing(degree, architecture):
    rule, n = sparseacc.clebsch_gordan(degree, degree, degree), 2 * degree + 1
    x1, x2 = np.empty((200, n, 64), "f4"), np.empty((200, n, 1), "f4")
    for operation, arrays in ((VJP, (x1, x1, x2)), (VJP_VJP, (x1, x2, x1, x1, x2))):
        source = cuda_host.planned(rule, operation, arrays, axis=-2)[0].source
        assert "sums" in source.name
        made = nvrtc.compiled(source, architecture)
        assert (made.spilled, made.local) == (0, 0)
        assert 0 < made.registers <= 168


@pytest.mark.skipif(nvrtc.NVDISASM is None, reason="no wheel of nvdisasm is installed")
@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a >= 75])  # nvdisasm 13 reads no older code
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize(("operation", "products", "outputs"), [("forward", 1, 1), ("vjp", 2, 2), ("vjp_vjp", 4, 3)])
def test_machine_code_has_the_multiply_adds_that_the_rule_needs_and_no_other_arithmetic(
    operation, products, outputs, axis, architecture, tmp_path
):
    for degree in (1, 2, 3, 5, 8):
        rule = sparseacc.clebsch_gordan(degree, degree, degree)
        source = sparseacc.cuda.source(rule, operation, axis=axis)
        counted = Counter(nvrtc.compiled(source, architecture).instructions(tmp_path))
        said = int(re.search(r"(\d+) operations a row", source.code)[1])
        assert said <= 2 * products * rule.nnz + outputs * (2 * degree + 1)
        assert counted["FFMA"] == source.code.split('extern "C"')[1].count("fmaf(") > 0
        assert 0 < counted["FFMA"] + counted["FMUL"] <= said
        assert counted["FADD"] == counted["DFMA"] == counted["DMUL"] == counted["DADD"] == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kernel_of_every_dtype_compiles_and_spills_nothing(dtype, architecture):
    rule = sparseacc.clebsch_gordan(2, 2, 2)
    for operation in EVERY_OPERATION:
        for axis in AXES:
            made = nvrtc.compiled(sparseacc.cuda.source(rule, operation, dtype, axis), architecture)
            # 43 complex numbers, and sums of them, are more than the registers hold
            most = 16 if operation == "weighted_vjp_vjp" and dtype.kind == "c" else 0
            assert max(made.spilled, made.local) <= most, (operation, axis)


MODELS = {  # irreps of x, of y, and those that are kept
    "NequIP's convolution, l = 1": ("64x0e + 64x1o", "0e + 1o", "0e + 1o"),
    "NequIP's convolution, l = 2": ("64x0e + 64x1o + 64x2e", "0e + 1o + 2e", "0e + 1o + 2e"),
    "NequIP's convolution, l = 3": ("64x0e + 64x1o + 64x2e + 64x3o", "0e + 1o + 2e + 3o", "0e + 1o + 2e + 3o"),
    "MACE, medium": ("128x0e + 128x1o", "0e + 1o + 2e + 3o", "0e + 1o + 2e + 3o"),
    "MACE, large": ("128x0e + 128x1o + 128x2e", "0e + 1o + 2e + 3o", "0e + 1o + 2e + 3o"),
}


def product_of(model):
    """Its rule, with blocks in the order of paths."""
    return sparseacc.tensor_product(*MODELS[model], order="paths")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_float32_kernels_of_weighted_paths_spill_nothing(operation, architecture):
    """Of all paths up to l = 2 that two arrays of 0 + 1 + 2 have into 0, 1 and 2 with even parity."""
    rule = product_of("NequIP's convolution, l = 2")
    for axis in AXES:
        made = nvrtc.compiled(sparseacc.cuda.source(rule, f"weighted_{operation}", axis=axis), architecture)
        assert (made.spilled, made.local) == (0, 0), axis


PASSES = {  # outputs, the slot by which edges are sorted, cotangents: registers
    (("out",), "out", ()): 128,
    (("x", "y", "w"), "x", ()): 128,
    (("out",), "out", ("x", "y", "w")): 168,
    (("x", "y", "w"), "x", ("x", "y", "w")): 168,
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("model", MODELS)
def test_message_passing_in_float32_spills_nothing_and_keeps_to_its_budget(model, architecture):
    rule = product_of(model)
    for (outputs, column, along), most in PASSES.items():
        spec = Pass(outputs, column, along, "float32", rule.channels, ("w",), ("x", "out"), weighted=True)
        source = messages_kernel(rule, spec)
        made = nvrtc.compiled(source, architecture)
        assert made.warnings == []
        assert (made.spilled, made.local) == (0, 0), spec
        assert 0 < made.registers <= most, spec
        assert (made.shared, source.tables) == (0, ())
        assert source.shared_mem <= 20 * 1024


EVALUATIONS = [  # what is computed, along tangents of x and of the weights
    (("out",), False, False),
    (("x",), False, False),
    (("w",), False, False),
    (("x", "w"), False, False),
    (("out", "x", "w"), True, False),
    (("out", "x", "w"), False, True),
    (("out", "x", "w"), True, True),
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_polynomials_keep_components_in_shared_memory_and_spill_nothing(dtype, architecture):
    """Of MACE's contraction from l = 3 to l = 2."""
    for evaluation in EVALUATIONS:
        source = evaluation_code(Evaluation(dtype, *evaluation, n_in=16, n_out=9, coefs=1211, threads=64))
        made = nvrtc.compiled(source, architecture)
        assert made.warnings == []
        assert (made.spilled, made.local) == (0, 0), evaluation
        assert 0 < made.registers <= 168
        assert made.shared == 0
        assert source.shared_mem <= 48 * 1024


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_message_passing_in_other_dtypes_spills_nothing_up_to_degree_1(dtype):
    rule = product_of("NequIP's convolution, l = 1")
    for outputs, column, along in PASSES:
        for apart, indexed in ((("w",), ("x", "out")), (("y", "w"), ("x", "y", "w", "out")), ((), ("x", "out"))):
            slots = outputs if indexed == ("x", "out") else (column,)
            made = nvrtc.compiled(
                messages_kernel(rule, Pass(slots, column, along, dtype, 64, apart, indexed, True)), 80
            )
            assert made.warnings == []
            assert (made.spilled, made.local) == (0, 0)


def test_message_passing_from_a_table_draws_no_warning(monkeypatch):
    monkeypatch.setattr(sparseacc.cuda.rows, "MOST_OPERATIONS", 10)
    rule = product_of("NequIP's convolution, l = 1")
    for slot, column in (("out", "out"), ("x", "x"), ("y", None), ("w", None)):
        source = messages_kernel(rule, Pass((slot,), column, ("x", "y"), "float32", 300, ("w",), ("x", "out"), True))
        assert source.tables
        assert nvrtc.compiled(source, 80).warnings == []


def test_no_source_draws_a_warning():
    """Of operands that are staged, read directly, strided, and summed over one dimension and more."""
    rule, large = (
        sparseacc.clebsch_gordan(1, 2, 2),
        sparseacc.Rule(*[range(30_000)] * 3, np.ones(30_000), (30_000,) * 3),
    )
    sources = [
        sparseacc.cuda.source(r, operation, axis=axis)
        for r in (rule, large)
        for operation in EVERY_OPERATION
        for axis in AXES
    ]
    for operation, shapes, axis in (
        (VJP, ((200, 5), (200, 3), (5,)), -1),
        (VJP, ((200, 7, 5), (7, 3), (200, 1, 5)), -1),
        (VJP_VJP, ((200, 3), (5,), (200, 5), (200, 3), (5,)), -1),
        (VJP, ((200, 5, 64), (200, 3, 64), (200, 5, 1)), -2),
        (COEFFICIENT_VJP, ((200, 5), (200, 3), (5,)), -1),
    ):
        arrays = [np.empty(shape, "f4") for shape in shapes]
        sources.append(cuda_host.planned(rule, operation, arrays, axis=axis)[0].source)
    for source in sources:
        assert nvrtc.compiled(source, 80).warnings == [], source.code.split("\n")[0]
