"""What values say of themselves: in words, in pictures, in notebooks and in one line."""

import inspect
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import sparseacc
from sparseacc import Graph, Polynomial, Rule
from sparseacc.description import WIDTH

BARE = Rule([0, 1, 1], [0, 0, 2], [0, 2, 2], [1.0, -2.0, 3.0], (2, 3, 5), path=[0, 1, 1])
PRODUCT = sparseacc.tensor_product("64x0e + 64x1o + 64x2e", "0e + 1o + 2e", "0e + 1o + 2e")
MANY = sparseacc.tensor_product("2x0e + 32x1o + 16x2e + 8x3o", "0e + 1o + 2e + 3o")


def large(nnz=10**6):
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, 1000, nnz) for _ in range(3)]
    return Rule(*columns, rng.normal(size=nnz), (1000, 1000, 1000), path=rng.integers(0, 5000, nnz), num_paths=5000)


LARGE = large()


def test_a_bare_rule_is_described():
    assert BARE.describe() == (
        "Rule\n"
        "  x1       2 components\n"
        "  x2       3 components\n"
        "  result   5 components\n"
        "  terms    3, 10 % of the 30 entries of C\n"
        "  paths    2\n"
        "  C        -2 .. 3\n"
        "  outputs  3 of 5 are never written: 1, 3, 4\n"
        "  a row    6 multiply-adds; 10 numbers, 40 bytes in float32, and 2 weights\n"
        "\n"
        "path  rows of x1  rows of x2  rows of result  terms  C\n"
        "   0  0:1         0:1         0:1                 1  1\n"
        "   1  1:2         0:3:2       2:3                 2  -2 .. 3"
    )


def test_a_tensor_product_is_described_path_by_path():
    lines = PRODUCT.describe().splitlines()
    assert lines[1] == "  x1       64x0e+64x1o+64x2e: 9 rows of 64 channels"
    assert lines[2] == "  x2       1x0e+1x1o+1x2e: 9 rows, which the channels of x1 share"
    paths = lines[-PRODUCT.num_paths :]
    for number, (line, path) in enumerate(zip(paths, PRODUCT.paths)):
        C = PRODUCT.C[PRODUCT.path == number]
        ends = sorted({f"{C.min():.6g}", f"{C.max():.6g}"}, key=float)
        said = [str(number), f"{path.l1} x {path.l2} -> {path.l3}", "even" if path.parity == 1 else "odd"]
        said += [f"{start}:{stop}" for start, stop, _ in (path.rows1, path.rows2, path.rows_out)]
        assert re.split(r"\s{2,}", line.strip()) == [*said, str(len(C)), " .. ".join(ends)]


def test_rows_that_other_copies_are_between_are_a_slice_with_a_step():
    ragged = sparseacc.tensor_product("4x0e + 2x1o", "1o", "1o")
    assert re.findall("0:3 +([0-9:]+)", ragged.describe()) == ["0:5:2", "1:6:2"]


def test_rows_that_are_not_evenly_spaced_are_counted():
    rule = Rule([0, 1, 3, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], (4, 1, 1), path=[0, 0, 0, 1])
    assert re.findall(r"^   0  (.*?)  ", rule.describe(), re.M) == ["3 in 0:4"]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (range(12), "each is written"),
        (range(11), "1 of 12 is never written: 11"),
        ([11], "11 of 12 are never written: 0, 1, 2, 3, 4, 5, 6, 7, ..."),
        ([1, *range(3, 12)], "2 of 12 are never written: 0, 2"),
    ],
)
def test_outputs_that_no_term_writes_are_named(written, said):
    rule = Rule([0] * len(written), [0] * len(written), written, [1.0] * len(written), (1, 1, 12))
    assert f"  outputs  {said}\n" in rule.describe()


def test_repeated_terms_are_counted_once_in_the_density():
    assert (
        "4, 50 % of the 4 entries of C; 2 of them repeat others"
        in Rule([0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [1, 2, 3, 4], (1, 2, 2)).describe()
    )


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({}, ""),
        ({"convention": "e3nn"}, ', convention="e3nn"'),
        ({"basis": "complex"}, ', basis="complex"'),
    ],
)
def test_the_coefficients_of_a_coupling_are_recognised_however_the_rule_was_made(keywords, said):
    rule = sparseacc.clebsch_gordan(2, 1, 2, **keywords)
    order = np.random.default_rng(3).permutation(rule.nnz)
    again = Rule(rule.m1[order], rule.m2[order], rule.mu[order], rule.C[order], rule.shape)
    for same in (rule, again, Rule.from_dense(rule.to_dense())):
        assert same.describe().splitlines()[0] == f"Rule: its terms are those of clebsch_gordan(2, 1, 2{said})"
    other = Rule(rule.m1, rule.m2, rule.mu, rule.C * np.where(np.arange(rule.nnz) == 3, -1, 1), rule.shape)
    assert other.describe().splitlines()[0] == "Rule"


def test_every_description_is_at_most_a_hundred_characters_wide_and_some_thirty_lines_long():
    irreps = " + ".join(["8x0e", "8x1o"] * 20)
    for value in (BARE, PRODUCT, MANY, LARGE, sparseacc.tensor_product(irreps, "0e + 1o"), contraction(irreps)):
        lines = value.describe().splitlines()
        assert max(map(len, lines)) <= WIDTH == 100
        assert len(lines) <= 35
        paths = [line for line in lines if re.match(r" *\d+  ", line)]
        left_out = re.search(r"^ \.\.\. ([\d,]+) more paths", value.describe(), re.M)
        if value.num_paths > 20:
            assert int(left_out[1].replace(",", "")) + len(paths) == value.num_paths


def contraction(irreps):
    return sparseacc.symmetric_contraction(irreps, "8x0e", 1)


def test_values_without_terms_are_described_and_drawn():
    for shape in ((0, 0, 0), (0, 3, 0), (2, 2, 2), (2**31 - 1, 2**31 - 1, 2**31 - 1)):
        rule = Rule([], [], [], [], shape)
        assert "  C        none" in rule.describe()
        assert "</svg>" in rule._repr_html_()
    wide = Rule([2**31 - 2], [2**31 - 2], [2**31 - 2], [1.0], (2**31 - 1,) * 3)
    assert "2,147,483,646 of 2,147,483,647 are never written: 0, 1, 2, 3, 4, 5, 6, 7, ...\n" in wide.describe()
    assert "</svg>" in wide._repr_html_()
    assert "degree  paths  terms  C" in Polynomial([], (3, 0)).describe()


def test_a_polynomial_is_described_by_degree():
    polynomial = sparseacc.symmetric_contraction("8x0e + 8x1o", "8x0e", 2)
    lines = polynomial.describe().splitlines()
    assert lines[0] == "SymmetricContraction of 8x0e+8x1o to 8x0e, 8 channels"
    assert [line.split()[:3] for line in lines[-2:]] == [["1", "1", "1"], ["2", "2", "4"]]


def test_a_graph_is_described():
    said = dict(
        re.split(r"\s{2,}", line.strip(), maxsplit=1)
        for line in Graph([2, 1, 1], [1, 1, 0], 4, rows_of_y=[0, 0, 5]).describe().splitlines()[1:]
    )
    assert said == {
        "edges": "3, of which 1 leads from a node to itself",
        "nodes": "4, of which 2 receive nothing",
        "edges of a node": "0 .. 2, 0.75 on average",
        "order": "not by receiver: they are sorted when the graph is first used",
        "senders": "2 rows, 1 .. 2",
        "receivers": "2 rows, 0 .. 1",
        "rows_of_y": "2 rows, 0 .. 5",
        "rows_of_weights": "each edge has a row of its own",
        "indices from": "the host",
    }
    assert "\n  order            by receiver\n" in Graph(None, [0, 0, 3]).describe()
    assert "1 .. 1, 1 on average" in Graph([0, 1], None).describe()
    assert "0, of which 0 lead" in Graph([], [], 2**47).describe()


def test_the_padding_of_a_graph_counts_for_nothing_in_its_description():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    pytest.importorskip("sparseacc.jax")  # by which a graph is a tree
    graph = Graph(jax.numpy.array([0, 1, 9]), jax.numpy.array([1, 1, 2]), 2)
    assert "  edges            2, of which 1 leads from a node to itself, and 1 of padding\n" in graph.describe()
    assert "  nodes            2, of which 1 receives nothing\n" in graph.describe()
    assert "  senders          2 rows, 0 .. 1\n" in graph.describe()
    assert repr(graph) == "Graph(num_edges=3, num_nodes=2, padded=True)"
    traced = []
    jax.jit(lambda g: traced.append(g) or g.senders.sum())(graph)
    assert repr(traced[0]).startswith("Graph(num_edges=")
    with pytest.raises(TypeError, match="the graph's indices are not known yet: describe it outside of functions"):
        traced[0].describe()


class Elements(HTMLParser):
    """Of well-formed HTML: what was begun and ended, in order, and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("rule", [BARE, PRODUCT, MANY, LARGE], ids=["bare", "product", "many", "large"])
def test_a_notebook_shows_a_picture_of_bounded_size_and_the_description(rule):
    shown = rule._repr_html_()
    elements = Elements(shown)
    assert elements.open == []
    assert rule.describe() in elements.text
    assert len(shown.encode()) < 50_000
    assert "script" not in shown


def test_what_a_subclass_says_is_escaped_in_a_notebook():
    class Odd(Rule):
        def _meaning(self):
            return super()._meaning()._replace(heading="<script>&")

    odd = Odd([0], [0], [0], [1.0], (1, 1, 1))
    assert "<script>" not in odd._repr_html_()
    assert "&lt;script&gt;&amp;" in odd._repr_html_()


def test_the_picture_of_a_notebook_has_a_cell_for_each_entry():
    rule = sparseacc.clebsch_gordan(2, 2, 2)
    cells = re.findall(r"M(\d+) (\d+)h1", rule._repr_html_())
    assert sorted((int(x), int(y)) for x, y in cells) == sorted(
        (5 * m1 + m2, mu) for m1, m2, mu in zip(rule.m1.tolist(), rule.m2.tolist(), rule.mu.tolist())
    )


@pytest.fixture
def axes():
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot.subplots()[1]
    pyplot.close("all")


def test_a_plot_has_a_square_for_each_entry_whose_area_is_the_magnitude(axes):
    assert BARE.plot(axes) is axes
    squares = {}
    for path, face in zip(axes.collections[0].get_paths(), axes.collections[0].get_facecolor()):
        low, high = path.vertices.min(axis=0), path.vertices.max(axis=0)
        squares[tuple(((low + high) / 2).round(6).tolist())] = np.prod(high - low), tuple(face[:3]) == (1, 1, 1)
    assert squares.keys() == {(0, 0), (3, 2), (5, 2)}  # n2 * m1 + m2, and mu
    assert np.isclose(squares[3, 2][0] / squares[5, 2][0], 2 / 3)
    assert [squares[at][1] for at in ((0, 0), (3, 2), (5, 2))] == [False, True, False]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["path 0", "path 1"]


def test_a_plot_of_a_tensor_product_names_its_irreps(axes):
    PRODUCT.plot(axes)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["3x0e", "4x1o", "4x2e"]
    assert [text.get_text() for text in axes.get_xticklabels()] == [
        f"{a} x {b}" for a in ("0e", "1o", "2e") for b in ("0e", "1o", "2e")
    ]


@pytest.mark.parametrize("rule", [MANY, LARGE, Rule([], [], [], [], (0, 3, 0))], ids=["many", "large", "empty"])
def test_any_rule_can_be_drawn(rule, axes):
    new = rule.plot()
    new.figure.canvas.draw()
    assert len(new.collections[0].get_paths()) <= 20_000


def test_a_plot_without_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        BARE.plot()
    assert str(caught.value) == ("a plot needs matplotlib: python -m pip install -e '.[bench]' in a clone of sparseacc")


def test_reprs_tell_values_of_one_shape_apart_and_equal_ones_not():
    one, other = (sparseacc.clebsch_gordan(1, 1, 1, convention=c) for c in ("librascal", "e3nn"))
    assert one.shape == other.shape
    assert repr(one) != repr(other)
    assert repr(one) == repr(Rule(one.m1, one.m2, one.mu, one.C, one.shape))
    one, other = (sparseacc.tensor_product("8x1o", "1o", "1e", convention=c) for c in ("librascal", "e3nn"))
    assert repr(one) != repr(other)
    one, other = (Polynomial([([[0]], [0], [0], [C])], (1, 1)) for C in (1.0, -1.0))
    assert repr(one) != repr(other)
    assert repr(one) == repr(Polynomial([([[0]], [0], [0], [1.0])], (1, 1)))


def test_the_repr_of_a_graph_says_which_indices_there_are():
    assert repr(Graph([0], [0])) == "Graph(num_edges=1, num_nodes=1)"
    assert repr(Graph(None, [0], 3, rows_of_y=[0])) == "Graph(num_edges=1, num_nodes=3, senders=None, rows_of_y=[...])"


@pytest.mark.parametrize(
    "value",
    [BARE, PRODUCT, Graph([0], [0]), Polynomial([], (1, 1)), sparseacc.symmetric_contraction("1x0e", "1x0e", 1)],
    ids=lambda value: type(value).__name__,
)
def test_every_public_attribute_is_documented(value):
    """By a docstring of its own, or by its slot, as `help` shows; and all that hold something, in the class's list."""
    bases = type(value).__mro__
    documented = "\n\n".join(inspect.getdoc(base) or "" for base in bases if "__doc__" in vars(base))
    listed = "\n".join(re.findall(r"^Attributes\n-+\n(.*?)(?=\n\n|\Z)", documented, re.M | re.S))
    slots = {name for base in bases for name, text in dict(getattr(base, "__slots__", None) or {}).items() if text}
    for name in dir(value):
        if name.startswith("_"):
            continue
        by_itself = next((vars(base)[name] for base in bases if name in vars(base)), None)
        in_list = re.search(rf"^(\w+, )*{name}\b.* : ", listed, re.M)
        assert in_list or name in slots or by_itself.__doc__, name
        if not callable(getattr(value, name)) and name not in OF_ENGINES:
            assert in_list, name


OF_ENGINES = {"kept", "is_seen"}
