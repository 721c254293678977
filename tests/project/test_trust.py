"""What SECURITY.md promises of files and of generated sources."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sparseacc

USE = """
import os, pickle, resource, sys
import numpy as np
{imports}
import sparseacc

resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # C that writes to a file ends the process
written = []

def hook(event, arguments):
    if event == "open":
        path, _, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and path != os.devnull:
            written.append(path)
    elif event.startswith(("os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate", "os.remove", "os.system",
                           "os.exec", "os.posix_spawn", "shutil.", "tempfile.", "subprocess.", "socket.", "ctypes.dl")):
        written.append((event, arguments))

sys.addaudithook(hook)
try:
    open("probe", "w")
except OSError:
    pass
os.remove("probe")
assert [written[0], written[1][0]] == ["probe", "os.remove"]
written.clear()
before = sorted(os.walk("."))
rule = sparseacc.tensor_product("4x0e+4x1o", "0e+1o")
graph = sparseacc.Graph(np.arange(500) % 7, np.arange(500) % 5)
for dtype in ("f4", "f8"):
    x, y = np.ones((500, 4, 4), dtype), np.ones((500, 4, 1), dtype)
    weights = np.ones((rule.num_paths, 4), dtype)
    {use}
    out = rule(x, y, weights, axis=-2)
    rule.vjp(out, x, y, weights, axis=-2)
    sparseacc.message_passing(rule, graph, x[:7], y[:, :, 0])
contraction = sparseacc.symmetric_contraction("4x0e+4x1o", "4x0e", 3)
contraction(np.ones((9, 4, 4)), np.ones((contraction.num_paths, 4)))
sparseacc.cache_info()
sparseacc.clebsch_gordan(6, 6, 6)(np.ones((9, 13)), np.ones((9, 13)))
pickle.loads(pickle.dumps((rule, graph, contraction)))
for operation in ("forward", "vjp"):
    sparseacc.cuda.source(rule, operation)
sparseacc.cache_clear()
assert sorted(os.walk(".")) == before  # frameworks have made folders of their own when they were imported
print(written)
"""
TORCH = (
    "import torch, sparseacc.torch",
    (
        "a, b, c = (torch.tensor(z, requires_grad=True) for z in (x, y, weights))\n"
        "    sparseacc.torch.product(rule, a, b, c, axis=-2).sum().backward()"
    ),
)
JAX = (
    "import jax, sparseacc.jax\njax.numpy.ones(2).sum()",
    (
        "a, b, c = (jax.numpy.asarray(z, 'float32') for z in (x, y, weights))\n"
        "    jax.grad(lambda a: sparseacc.jax.product(rule, a, b, c, axis=-2).sum())(a)"
    ),
)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of files as Linux does")
@pytest.mark.parametrize(
    ("needed", "imports", "use"), [("numpy", "", "pass"), ("torch", *TORCH), ("jax", *JAX)], ids=lambda text: text[:5]
)
def test_no_file_is_written_and_nothing_is_run(needed, imports, use, tmp_path):
    """By Python, as an audit hook hears of it, or by C, which a limit and the folder would show."""
    pytest.importorskip(needed)
    folders = {name: str(tmp_path) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-B", "-W", "ignore", "-c", USE.format(imports=imports, use=use)],
        cwd=tmp_path, env=os.environ | folders | {"PYTHONPATH": str(Path(sparseacc.__file__).parents[1])},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


class Hostile(sparseacc.Rule):
    """Whose every text would be code."""

    def __repr__(self):
        return '*/ __device__ int evil; /* "'

    __str__ = __repr__
    name = irreps1 = __doc__ = '*/ __device__ int evil; /* "'


def test_a_source_is_made_of_the_numbers_of_a_rule_alone():
    product = sparseacc.tensor_product("2x0e + 2x1o", "0e + 1o")
    arguments = product.m1, product.m2, product.mu, product.C, product.shape
    paths = {"path": product.path, "num_paths": product.num_paths}
    plain, hostile = sparseacc.Rule(*arguments, **paths), Hostile(*arguments, **paths)
    assert sparseacc.cuda.source(plain, "forward").code != sparseacc.cuda.source(plain, "vjp").code
    for operation in ("forward", "vjp", "jvp", "vjp_vjp", "coefficient_vjp", "weighted_vjp"):
        for axis in ("last", "middle"):
            sparseacc.cache_clear()
            text = sparseacc.cuda.source(hostile, operation, axis=axis).code
            assert "evil" not in text
            sparseacc.cache_clear()
            assert text == sparseacc.cuda.source(plain, operation, axis=axis).code
    with pytest.raises(ValueError, match="evil"):
        sparseacc.cuda.source(plain, "forward; int evil")
