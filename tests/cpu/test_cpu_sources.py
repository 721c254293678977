"""The C that `sparseacc.cpu.source` writes: compiled without a warning, against the oracle."""

import platform
import re
import subprocess
from itertools import product

import numpy as np
import pytest
from cuda_cases import Case
from embedding import CC, CXX, STRICT, call, has, library, run
from oracle import check
from strategies import numbers

import sparseacc
from sparseacc.algebra import OPERATIONS
from sparseacc.cpu import c_code
from sparseacc.terms import lengths

needs_c = pytest.mark.skipif(not has(CC), reason="no C compiler")
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
some_operations = pytest.mark.parametrize("name", ["forward", "weighted_jvp", "vjp_vjp", "weighted_coefficient_vjp"])
DTYPES = ["float32", "float64"]
BATCHES = [
    *(("last", (n,), -1) for n in (0, 1, 15, 16, 17, 50)),
    *(("middle", shape, -2) for shape in ((1, 1), (3, 16), (2, 21), (5, 3), (0, 4), (4, 0))),
    *(("first", (n,), 0) for n in (0, 5, 33)),
]
"""Each with its axis: less than a block, whole blocks, and what is left over."""


def rules(rng):
    """A coupling, one of paths, and one of terms that repeat and columns that no term has."""
    one = sparseacc.clebsch_gordan(2, 1, 2)
    mu = rng.integers(0, 9, 40)
    shape = (6, 4, 11)
    return [
        sparseacc.clebsch_gordan(1, 2, 2),
        sparseacc.Rule(one.m1, one.m2, one.mu, one.C, one.shape, path=one.mu % 3),
        sparseacc.Rule(rng.integers(0, 5, 40), rng.integers(0, 4, 40), mu, rng.normal(size=40), shape, path=mu % 2),
    ]


def compare(folder, found, operation, rng, *flags):
    """Functions of rules against the oracle, in every layout."""
    kernels = {
        (n, dtype, axis): sparseacc.cpu.source(rule, operation.name, dtype, axis)
        for (n, rule), dtype, axis in product(enumerate(found), DTYPES, ("last", "middle", "first"))
    }
    loaded = library(folder, kernels.values(), *flags)
    for (n, dtype, axis), kernel in kernels.items():
        for batch, at in (case[1:] for case in BATCHES if case[0] == axis):
            check_call(loaded, kernel, found[n], operation, dtype, batch, at, rng)


def check_call(loaded, kernel, rule, operation, dtype, batch, at, rng):
    sizes = (*rule.shape[:2], rule.num_paths)
    arrays = [np.moveaxis(numbers(rng, (*batch, n), dtype), -1, at) for n in sizes]
    whole = Case(rule, *arrays[:2], at, dtype, rng, arrays[2] if operation.weighted else None)
    expected = whole.expect(operation)
    rows = int(np.prod(batch))
    integers = {"rows": rows, "n1": batch[-1]}
    outputs = call(
        loaded,
        kernel,
        whole.inputs(operation),
        [value.shape for value, _ in expected],
        ["float64" if operation.contraction else dtype] * len(expected),
        [integers[name] for name in kernel.arguments if name in integers],
    )
    for result, value in zip(outputs, expected, strict=True):
        check(result, value)


@needs_c
@every_operation
def test_operations_are_within_the_bound_in_every_layout_and_write_nothing_else(operation, tmp_path, rng):
    compare(tmp_path, rules(rng), operation, rng)


@needs_c
@some_operations
def test_vector_instructions_give_the_same(name, tmp_path, rng):
    compare(tmp_path, rules(rng)[1:2], OPERATIONS[name], rng, "-O3", "-march=native", "-ffp-contract=fast")


@needs_c
@some_operations
@pytest.mark.parametrize("most", [3000, 1500, 0], ids=["8 lanes", "4 lanes", "in place"])
def test_a_table_of_terms_in_blocks_of_any_size_or_in_place(name, most, tmp_path, rng, monkeypatch):
    monkeypatch.setattr(c_code, "MOST_OPERATIONS", 10)
    monkeypatch.setattr(c_code, "MOST_BYTES", most)
    found = rules(rng)[1:]
    kernel = sparseacc.cpu.source(found[0], name, "float64")
    assert ("LANES" in kernel.code) == bool(most)
    assert "static const int terms" in kernel.code
    compare(tmp_path, found, OPERATIONS[name], rng)


@needs_c
def test_a_large_rule_is_a_table_and_a_wide_one_takes_no_stack(tmp_path, rng):
    shape, wide = (40, 30, 50), (70_000, 3, 90_000)
    large = sparseacc.Rule(*(rng.integers(0, n, 5000) for n in shape), rng.normal(size=5000), shape)
    wide = sparseacc.Rule(*(rng.integers(0, n, 300) for n in wide), rng.normal(size=300), wide)
    operation = OPERATIONS["vjp"]
    kernels = [sparseacc.cpu.source(rule, "vjp", "float64") for rule in (large, wide)]
    assert "LANES" in kernels[0].code
    assert "LANES" not in kernels[1].code
    loaded = library(tmp_path, kernels, "-Wframe-larger-than=65536")
    for kernel, rule in zip(kernels, (large, wide)):
        check_call(loaded, kernel, rule, operation, "float64", (5,), -1, rng)


@needs_c
@pytest.mark.parametrize("flags", [("-O3",), ("-O3", "-mavx2", "-mfma"), ("-O3", "-mavx512f")], ids=" ".join)
def test_what_compilers_put_on_the_stack_leaves_room_in_64_kb(flags, tmp_path, rng):
    """Straight-line code of as many operations as there may be, of as many columns, of both dtypes."""
    if len(flags) > 1 and platform.machine() != "x86_64":
        pytest.skip("flags of x86")
    shape = (34, 34, 34)
    columns = [rng.integers(0, n, 255) for n in shape]
    wide = sparseacc.Rule(*columns, rng.normal(size=255), shape, path=rng.integers(0, 40, 255), num_paths=40)
    model = sparseacc.tensor_product("0e + 1o + 2e + 3o", "0e + 1o + 2e + 3o", "0e + 1o + 2e + 3o", sum_paths=True)
    long = sparseacc.clebsch_gordan(8, 8, 8)
    kernels = [
        sparseacc.cpu.source(rule, operation, dtype)
        for rule, operation in ((wide, "weighted_vjp"), (model, "weighted_vjp"), (long, "vjp_vjp"))
        for dtype in DTYPES
    ]
    assert not any("terms[]" in kernel.code for kernel in kernels[:2])
    source = tmp_path / "kernels.c"
    source.write_text("\n".join(kernel.code for kernel in kernels))
    run(*CC, *flags, "-std=c99", "-Werror", "-Wframe-larger-than=49152", "-c", source, "-o", tmp_path / "kernels.o")


@needs_c
def test_gradients_of_coefficients_are_summed_in_double(tmp_path):
    rule = sparseacc.Rule([0], [0], [0], [1.0], (1, 1, 1))
    kernels = [sparseacc.cpu.source(rule, "coefficient_vjp", axis=axis) for axis in ("last", "middle")]
    loaded = library(tmp_path, kernels)
    one = np.ones((1000, 1), "f4")
    dy = one.copy()
    dy[0] = 2**26
    for kernel, integers in zip(kernels, ((1000,), (1000, 10))):
        (out,) = call(loaded, kernel, (dy, one, one), [(1,)], ["f8"], integers)
        assert out[0] == 2**26 + 999


MAIN = """
#include <stdlib.h>

static void *buffer(long bytes)
{
    return calloc(1, bytes ? (size_t)bytes : 1);
}

int main(void)
{
    for (int64_t rows = 0; rows < 36; rows += 5) {
        %s
    }
    return 0;
}
"""


@needs_c
@pytest.mark.parametrize("most", [2**15, 0], ids=["blocks", "in place"])
def test_sanitizers_find_nothing_on_arrays_of_their_exact_size(most, tmp_path, monkeypatch):
    monkeypatch.setattr(c_code, "MOST_BYTES", most)
    one = sparseacc.clebsch_gordan(1, 0, 1)
    rule, calls, kernels = sparseacc.Rule(one.m1, one.m2, one.mu, one.C, one.shape, path=one.mu % 2), [], []
    sizes = lengths(rule)
    for (name, operation), dtype, axis in product(OPERATIONS.items(), DTYPES, ("last", "middle")):
        kernel = sparseacc.cpu.source(rule, name, dtype, axis)
        columns = [column for _, column in operation.inputs] + list(operation.outputs)
        rows = ["" if operation.contraction and column == operation.outputs[0] else " * rows" for column in columns]
        size = [8 if not of_rows else int(dtype[5:]) // 8 for of_rows in rows]
        buffers = [f"buffer({sizes[c]}{of_rows} * {n})" for c, of_rows, n in zip(columns, rows, size)]
        names = [f"a{n}" for n in range(len(buffers))]
        calls.append("{ void " + ", ".join(f"*{a} = {b}" for a, b in zip(names, buffers)) + ";")
        for channels in ("",) if axis == "last" else (", 1", ", rows"):
            calls.append(f"    {kernel.name}({', '.join(names)}, rows{channels});")
        calls.append("".join(f"free({a}); " for a in names) + "}")
        kernels.append(kernel)
    source = tmp_path / "main.c"
    source.write_text("\n".join(kernel.code for kernel in kernels) + MAIN % "\n        ".join(calls))
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g0")
    empty = tmp_path / "empty.c"
    empty.write_text("int main(void) { return 0; }\n")
    if subprocess.run([*CC, *flags, str(empty), "-o", str(tmp_path / "empty")], capture_output=True).returncode:
        pytest.skip("the compiler has no sanitizers")
    run(*CC, "-std=c99", *flags, source, "-o", tmp_path / "main")
    run("env", "ASAN_OPTIONS=detect_leaks=0", tmp_path / "main")


@needs_c
@pytest.mark.parametrize("compiler", [(*CC, *STRICT, "-xc"), (*CXX, "-std=c++11", "-Wall", "-pedantic", "-xc++")])
def test_the_header_has_the_types_of_all_functions(compiler, tmp_path, rng):
    """In C beside the functions themselves; C++ reads the declarations alone."""
    if not has(compiler):
        pytest.skip("no C++ compiler")
    rule = rules(rng)[1]
    kernels = {
        f"sparseacc_{op}_{dtype}{'' if axis == 'last' else '_channels'}": sparseacc.cpu.source(rule, op, dtype, axis)
        for op, dtype, axis in product(OPERATIONS, DTYPES, ("last", "middle"))
    }

    def compile_with(types):
        text = ["#include <sparseacc.h>"]
        for kind, kernel in types:
            text.append(f"SPARSEACC_DECLARE({kind}, {kernel.name});")
            if "-xc" in compiler:
                text.append(kernel.code)
            else:
                text.append(f'extern "C" {kernel.declaration}')
        source = tmp_path / "declared"
        source.write_text("\n".join([*text, ""]))
        command = [*compiler, f"-I{sparseacc.get_include()}", "-fsyntax-only", str(source)]
        return subprocess.run(command, capture_output=True, text=True)

    done = compile_with(kernels.items())
    assert done.returncode == 0, done.stderr
    assert compile_with([(next(iter(kernels)), list(kernels.values())[1])]).returncode != 0


def test_a_source_is_one_file_that_says_what_it_is():
    rule = sparseacc.clebsch_gordan(1, 2, 2)
    kernel = sparseacc.cpu.source(rule, "vjp", np.float64, "middle")
    head = kernel.code[: kernel.code.index("*/")]
    for text in ("vjp by a rule of shape (3, 5, 5)", "float64", "axis middle", kernel.declaration, "MIT"):
        assert text in head
    assert "x2 (rows / n1, 5, n1)" in head
    assert re.findall("#include.*", kernel.code) == ["#include <stdint.h>"]
    assert kernel.arguments == ("dy", "x1", "x2", "g_x1", "g_x2", "rows", "n1")
    with pytest.raises(AttributeError):
        kernel.name = "other"


@pytest.mark.parametrize("source", [sparseacc.cpu.source, sparseacc.cuda.source], ids=["cpu", "cuda"])
def test_names_are_of_the_content_and_no_two_are_alike(source):
    one = sparseacc.clebsch_gordan(1, 1, 1)
    again = sparseacc.Rule(one.m1, one.m2, one.mu, one.C, one.shape)
    others = [
        sparseacc.Rule(one.m1, one.m2, one.mu, C, one.shape, path=path)
        for C, path in ((-one.C, None), (one.C, one.mu % 2))
    ] + [sparseacc.Rule(one.m1[::-1], one.m2[::-1], one.mu[::-1], one.C[::-1], one.shape)]
    choices = list(product(OPERATIONS, DTYPES, ("last", "middle", "first")))
    names = [source(rule, *choice).name for rule in (one, *others) for choice in choices]
    assert len({*names}) == len(names)
    assert all(re.fullmatch(r"sparseacc_[a-z_]+_[0-9a-f]{16}", name) for name in names)
    assert source(again, "vjp").name == source(one, "vjp").name
    kernel = source(one, "vjp")
    assert re.search(rf"\b{kernel.name}\(", kernel.code)


@pytest.mark.parametrize("source", [sparseacc.cpu.source, sparseacc.cuda.source], ids=["cpu", "cuda"])
def test_axes_are_named_or_numbered(source):
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    for number, name in ((-1, "last"), (-2, "middle"), (0, "first"), (np.int64(-1), "last")):
        assert source(rule, axis=number) == source(rule, axis=name)
    for wrong in (1, -3, 0.5, None if source is sparseacc.cpu.source else "1", "lost", [0]):
        with pytest.raises(ValueError, match=rf"axis must be one of last.*not {re.escape(repr(wrong))}"):
            source(rule, axis=wrong)


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "float16", "bfloat16", "int32"])
def test_a_dtype_that_c_does_not_have_is_refused(dtype):
    with pytest.raises(ValueError, match=f"dtype must be one of float32, float64, not '{dtype}'"):
        sparseacc.cpu.source(sparseacc.clebsch_gordan(1, 1, 1), dtype=dtype)


@pytest.mark.parametrize("source", [sparseacc.cpu.source, sparseacc.cuda.source], ids=["cpu", "cuda"])
def test_a_dtype_is_named_in_any_way_of_numpy(source):
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    for dtype in ("float64", "f8", ">f8", float, np.float64, np.dtype("f8")):
        assert source(rule, dtype=dtype).name == source(rule, dtype="float64").name
    for wrong in (None, 3, "nonsense", [1.0]):
        with pytest.raises(ValueError, match=rf"dtype must be one of float32.*not {re.escape(repr(wrong))}"):
            source(rule, dtype=wrong)


def test_what_cannot_be_computed_is_refused():
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    with pytest.raises(ValueError, match=r"op must be one of forward, .*, not 'message_passing'"):
        sparseacc.cpu.source(rule, "message_passing")
    with pytest.raises(TypeError, match=r"rule must be a sparseacc\.Rule, not list"):
        sparseacc.cpu.source([rule])
    with pytest.raises(ValueError, match="no terms"):
        sparseacc.cpu.source(sparseacc.Rule([], [], [], [], (1, 1, 1)))
    large = sparseacc.Rule([0], [0], [0], [1e39], (1, 1, 1))
    with pytest.raises(ValueError, match=re.escape("C[0] is 1e+39, but float32")):
        sparseacc.cpu.source(large)
    assert sparseacc.cpu.source(large, dtype="float64").code
