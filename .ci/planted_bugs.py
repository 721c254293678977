"""The bugs that planted.py plants."""

from typing import NamedTuple

KERNEL = "tests/properties/test_product.py tests/properties/test_layouts.py tests/properties/test_gradients.py"
LAYOUTS = "tests/properties/test_layouts.py"
BAD_INPUT = "tests/properties/test_bad_input.py"
MESSAGES = "tests/properties/test_messages.py tests/properties/test_graphs.py"
FUZZ = "tests/fuzz"
POLYNOMIALS = "tests/properties/test_polynomial_calls.py"
RACES = "tests/cpu/test_races.py"


class Bug(NamedTuple):
    """One bug: what is wrong, where, and which tests must find it."""

    what: str
    file: str
    old: str
    new: str
    tests: str
    kind: str = "plain"


_TAIL = "    for (; i < n; i++)\n        memcpy(to + i{}, from + i{}, sizeof(REAL));"
_ROWS = "    for (; r{} < rows; r++)\n        for (int64_t c = 0; c < columns; c++)\n            memcpy(to + {}"
_SIZE = " * (int64_t)sizeof(REAL)"

BUGS = [
    Bug(
        "the last number of a column is not copied in",
        "cpu/native/copy.h",
        _TAIL.format("", _SIZE),
        _TAIL.format("", _SIZE).replace("i < n", "i + 1 < n"),
        KERNEL,
    ),
    Bug(
        "the last row of a tile is not transposed",
        "cpu/native/transpose.h",
        _ROWS.format("", "c * height"),
        _ROWS.format(" + 1", "c * height"),
        KERNEL,
    ),
    Bug(
        "the padding of a tile is not zero where rows are summed",
        "cpu/native/load.h",
        "    if (tile->rows % LANES)\n",
        "    if (0)\n",
        KERNEL,
    ),
    Bug(
        "the strides of components and of planes are exchanged",
        "cpu/native/layout.h",
        "column / 2 * operand->component + column % 2 * size",
        "column % 2 * operand->component + column / 2 * size",
        KERNEL,
    ),
    Bug(
        "a row of the batch begins where the last one of the part began",
        "cpu/native/walk.h",
        "- (w->end[d] - w->begin[d]) * batch->operand[o].stride[d];",
        "- w->end[d] * batch->operand[o].stride[d];",
        f"{KERNEL} tests/properties/test_determinism.py",
    ),
    Bug(
        "the second copy of a sum is left out",
        "cpu/native/sums.c",
        "for (int64_t copy = 1; copy < copies; copy++)",
        "for (int64_t copy = 2; copy < copies; copy++)",
        "tests/cpu/test_recall.py",
    ),
    Bug(
        "halves are rounded away from zero",
        "cpu/native/half.h",
        "+ 0xfff + ((magnitude >> 13) & 1)) >> 13",
        "+ 0x1000) >> 13",
        "tests/cpu/test_cpu.py",
    ),
    Bug(
        "subnormal halves are read as normal ones",
        "cpu/native/half.h",
        "exponent == 0 ? subnormal : exponent",
        "exponent == 0 ? normal : exponent",
        f"{LAYOUTS} tests/properties/test_product.py",
    ),
    Bug(
        "the sign of an imaginary product is left out of the gradient of coefficients",
        "cpu/native/contraction.h",
        "ab[v] = a[v] * b[v] * s;",
        "ab[v] = a[v] * b[v] + 0 * s;",
        KERNEL,
    ),
    Bug(
        "sums are not set to zero when they are flushed",
        "cpu/native/contraction.h",
        "            sums[k * LANES + lane] = 0;\n",
        "",
        KERNEL,
    ),
    Bug(
        "threads take the same part of a batch",
        "cpu/native/run.c",
        "__atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED)",
        "w->next++",
        RACES,
        "thread",
    ),
    Bug(
        "a call returns while a helper is still at work",
        "cpu/native/threads.c",
        "    while (pool.inside)\n",
        "    while (pool.inside > 1)\n",
        RACES,
        "thread",
    ),
    Bug(
        "a call that others overtake takes their threads",
        "cpu/native/threads.c",
        "    if (pthread_mutex_trylock(&pool.owner)) {\n        work(argument);\n        return;\n    }\n",
        "    pthread_mutex_trylock(&pool.owner);\n",
        RACES,
        "thread",
    ),
    Bug(
        "an output without terms is multiplied by its weight",
        "cpu/native/product.h",
        "if (head[2] + head[3] + head[5])",
        "if (1)",
        "tests/properties/test_weights.py",
    ),
    Bug(
        "results are written past the caches from any address",
        "cpu/native/copy.h",
        "past_cache && (uintptr_t)to % sizeof(VEC) == 0",
        "past_cache",
        MESSAGES,
    ),
    Bug(
        "the last of four edges is skipped",
        "cpu/native/edges.h",
        "*last = edges + turn->edges;",
        "*last = edges + turn->edges - (turn->edges == 4);",
        MESSAGES,
    ),
    Bug(
        "matrices of edges that are computed at once take the place of each other",
        "cpu/native/messages.h",
        "side_by_side % AT_ONCE *",
        "0 *",
        MESSAGES,
    ),
    Bug(
        "two edges of a sender are computed at once",
        "cpu/native/messages.h",
        "        if (met)\n            return;\n",
        "",
        MESSAGES,
    ),
    Bug(
        "the sums of a block of nodes begin with those of the last one",
        "cpu/native/messages.h",
        "        memset(desk.sum, 0, (size_t)desk.sums * sizeof(REAL));\n",
        "",
        MESSAGES,
    ),
    Bug(
        "the last term is left out of the gradient of y",
        "cpu/native/messages.h",
        "for (; t < end; t++)",
        "for (; t + 1 < end; t++)",
        MESSAGES,
    ),
    Bug(
        "the cotangent of the weights stands for that of x",
        "cpu/native/task.h",
        "of[i] == (OF_X | OF_Y) ? READ_ZW",
        "of[i] == (OF_X | OF_W) ? READ_ZW",
        MESSAGES,
    ),
    Bug(
        "what only the second of two rows has is added to the first",
        "cpu/native/edges.h",
        "add_entry(p, *m1++, 1, 1,",
        "add_entry(p, *m1++, 0, 1,",
        f"{MESSAGES} {FUZZ}",
    ),
    Bug(
        "the gradient of the weight of a path without terms is what was in memory",
        "cpu/native/task.h",
        "products_of_w == 1 && m->code[0] == m->paths && in_place(call, dw, sizeof(REAL))",
        "products_of_w == 1 && in_place(call, dw, sizeof(REAL))",
        MESSAGES,
    ),
    Bug(
        "the edges of a row add up in the opposite order",
        "cpu/native/sort.c",
        "    for (int64_t e = 0; e < edges; e++)\n        order[begin",
        "    for (int64_t e = edges - 1; e >= 0; e--)\n        order[begin",
        MESSAGES,
    ),
    Bug(
        "a remembered call is found whatever its numbers are",
        "cpu/native/recall.c",
        "!memcmp(c->numbers, numbers, (size_t)n * sizeof *numbers) &&",
        "",
        "tests/cpu/test_recall.py",
    ),
    Bug(
        "tensors that a call from C takes are not given back",
        "cpu/native/torch.c",
        "        torch.aoti_torch_delete_tensor_object((void *)stack[i]);\n    torch.torch_delete_string",
        "        (void)stack[i];\n    torch.torch_delete_string",
        "tests/torch/test_torch_memory.py",
    ),
    Bug(
        "the key of a plan has no dtype of x2",
        "cpu/execution.py",
        "                                x2.shape, x2.strides, x2.dtype)\n        # fmt: on\n        if out",
        "                                x2.shape, x2.strides, x1.dtype)\n        # fmt: on\n        if out",
        "tests/properties/test_product.py",
    ),
    Bug(
        "the key of a plan has no strides",
        "cpu/execution.py",
        "key += (value.shape, value.strides, value.dtype)",
        "key += (value.shape, value.dtype)",
        f"tests/properties/test_gradients.py {FUZZ}",
    ),
    Bug(
        "byte order is ignored",
        "cpu/execution.py",
        "None if array is None else array.astype(dtype, copy=False) for array in arrays]",
        "None if array is None else array.view(dtype) if array.dtype.newbyteorder('=') == dtype else "
        "array.astype(dtype, copy=False) for array in arrays]",
        "tests/properties/test_product.py",
    ),
    Bug(
        "a broadcast dimension is stepped through",
        "calls/layout.py",
        "steps = tuple(0 if n == 1 else step for n, step",
        "steps = tuple(step for n, step",
        f"{KERNEL} {FUZZ}",
    ),
    Bug(
        "parts of a batch add to the same sum",
        "cpu/execution.py",
        "copies = 0 if not reduced[k] else parts if shared else 1",
        "copies = 0 if not reduced[k] else 1",
        "tests/properties/test_determinism.py tests/properties/test_gradients.py",
    ),
    Bug(
        "the sign of an imaginary product is wrong",
        "schedule/planes.py",
        "(1, 1, -1, -1)[turns % 4]",
        "(1, 1, -1, 1)[turns % 4]",
        "tests/properties/test_gradients.py",
    ),
    Bug(
        "a tangent is left out of the derivative",
        "algebra.py",
        "        for k, factor in enumerate(p.factors)\n        if factor != C\n",
        "        for k, factor in enumerate(p.factors)\n        if factor not in (C, 2)\n",
        f"tests/properties/test_weights.py {FUZZ}",
    ),
    Bug(
        "the last of three equal terms replaces their sum",
        "terms.py",
        "total = np.add.reduceat(C[order], begins)",
        "total = C[order][np.append(begins[1:], len(C)) - 1]",
        "tests/properties/test_product.py",
    ),
    Bug(
        "terms of different paths are added up",
        "terms.py",
        "*([rule.path] if weighted else [])), rule.C",
        "*([rule.path][:0] if weighted else [])), rule.C",
        "tests/properties/test_weights.py",
    ),
    Bug(
        "an out that overlaps itself is taken",
        "calls/arrays.py",
        "    return bool(np.any(np.diff(np.sort(places)) < array.itemsize))",
        "    return False",
        BAD_INPUT,
    ),
    Bug(
        "an out that overlaps an input is taken when its plan is known",
        "cpu/execution.py",
        '                check_writing(out, {"x1": x1, "x2": x2})',
        "                pass",
        BAD_INPUT,
    ),
    Bug(
        "memory of another library is written that is read-only",
        "calls/dlpack.py",
        "bool(flags & _READ_ONLY)",
        "False",
        "tests/calls/test_dlpack_producers.py",
    ),
    Bug(
        "memory of another library is used after it was given back",
        "calls/dlpack.py",
        "np.asarray(_Memory(capsule, interface))",
        "np.asarray(_Memory(None, interface))",
        "tests/calls/test_dlpack.py",
    ),
    Bug(
        "memory of a result is kept while it is in use",
        "cpu/memory.py",
        "                _kept.remove(memory)\n",
        "",
        "tests/cpu/test_memory.py",
    ),
    Bug(
        "negative rows are taken",
        "graph.py",
        "((array < 0) | (array >= most)) & ~padding",
        "(array >= most) & ~padding",
        MESSAGES,
    ),
    Bug(
        "a sender one beyond the rows of x is taken",
        "graph.py",
        "        if largest < rows:\n",
        "        if largest <= rows:\n",
        MESSAGES,
    ),
    Bug(
        "the key of message passing has no axis",
        "cpu/messages.py",
        "[wanted, rule._digest, axis, lib.sa_get_threads()]",
        "[wanted, rule._digest, lib.sa_get_threads()]",
        f"{MESSAGES} {FUZZ}",
    ),
    Bug(
        "channels of y that are one number are taken for none",
        "cpu/messages.py",
        "return y.copy() if y.ndim == 3 and",
        "return y.copy() if y.ndim == 4 and",
        f"{MESSAGES} {FUZZ}",
    ),
    Bug(
        "the imaginary part of message passing has another sign",
        "messages.py",
        "(value if power < 2 else -value)",
        "(value if power != 2 else -value)",
        MESSAGES,
    ),
    Bug(
        "paths whose coefficients differ share what is computed of y",
        "cpu/matrix.py",
        "m2[of], C[of])",
        "m2[of])",
        MESSAGES,
    ),
    Bug(
        "a rule's digest does not depend on its paths",
        "values.py",
        "_digest_of((*shape, num_paths), terms)",
        "_digest_of((*shape, num_paths), terms[:4])",
        "tests/properties/test_rule.py tests/properties/test_weights.py",
    ),
    Bug(
        "the tangent of the coefficients is left out of the gradient of x",
        "cpu/native/polynomial.h",
        "d[a] = FMA(zc, gp[a], d[a]);",
        "d[a] += 0 * zc;",
        POLYNOMIALS,
    ),
    Bug(
        "of a product's factors the wrong one is left out",
        "cpu/native/polynomial.h",
        "if (i == but)",
        "if (i + (factors > 2) == but)",
        POLYNOMIALS,
    ),
    Bug(
        "the gradient of a row of weights is that of its first atoms",
        "cpu/polynomials.py",
        "np.add.reduceat(of_segment, first, axis=0)",
        "of_segment[first]",
        POLYNOMIALS,
    ),
    Bug(
        "coefficients stay from the channels before",
        "cpu/native/polynomial.h",
        "memset(all->dcoef, 0, (size_t)(blocks * f->coefs) * sizeof(VEC));",
        "memset(all->dcoef, 0, (size_t)f->coefs * sizeof(VEC));",
        POLYNOMIALS,
    ),
    Bug(
        "atoms are taken in their own order where they share weights",
        "cpu/polynomials.py",
        "ffi.NULL if order is None else",
        "ffi.NULL if order is None or len(order) > 64 else",
        f"{POLYNOMIALS} {FUZZ}",
    ),
    Bug(
        "the second of two orders of the same factors is a path of its own",
        "symmetric_powers.py",
        "_INDEPENDENT = 1e-6",
        "_INDEPENDENT = 1e-17",
        "tests/properties/test_contractions.py",
    ),
]
