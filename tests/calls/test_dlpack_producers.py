"""Arrays that are known by DLPack alone: capsules of any kind, and whatever is wrong with them or their library."""

import numpy as np
import pytest
from operands import RULE, arrays
from oracle import Oracle, check
from strategies import numbers

import sparseacc
from sparseacc.calls import dlpack


class Producer:
    """An array that is known by DLPack alone."""

    def __init__(self, array, device=(1, 0), **change):
        self.array, self.device, self.change = array, device, change

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **keywords):
        capsule = self.array.__dlpack__(**keywords)
        tensor, _ = dlpack._opened(capsule)
        for field, value in self.change.items():
            setattr(tensor, field, value)
        return capsule


class Old(Producer):
    """Of before version 1: it does not know max_version."""

    def __dlpack__(self, *, stream=None):
        return super().__dlpack__()


@pytest.mark.parametrize("kind", [Producer, Old])
def test_capsules_of_both_kinds(kind, rng):
    _, _, _, x1, x2 = arrays(rng)
    result = RULE(kind(x1), kind(x2[::-1]))
    assert type(result) is np.ndarray  # its class takes no arrays
    check(result, Oracle(RULE, x1, x2[::-1]).product())
    mu, m1, m2, C = RULE.mu.copy(), RULE.m1.copy(), RULE.m2.copy(), RULE.C.copy()
    check(sparseacc.accumulate(kind(x1), kind(x2), kind(mu), 5, m1, m2, C), Oracle(RULE, x1, x2).product())


def test_the_read_only_flag_is_respected(rng):
    if np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("this NumPy exports no flags")
    _, _, out, x1, x2 = arrays(rng)
    RULE(x1, x2, out=Producer(out))
    check(out, Oracle(RULE, x1, x2).product())
    frozen = np.zeros((50, 5), "f4")
    frozen.flags.writeable = False
    check(RULE(Producer(x1), x2), Oracle(RULE, x1, x2).product())
    with pytest.raises(ValueError, match="out is read-only"):
        RULE(x1, x2, out=Producer(frozen))


def test_a_byte_offset_is_added(rng):
    x = numbers(rng, (4, 5), "f4")
    assert np.array_equal(dlpack.read(Producer(x[:3], byte_offset=20), "x1"), x[1:])


def test_a_capsule_used_twice_is_one_error(rng):
    class Once(Producer):
        def __init__(self, array):
            super().__init__(array)
            self.capsule = array.__dlpack__()

        def __dlpack__(self, **keywords):
            return self.capsule

    x = Once(np.ones((4, 5), "f4"))
    RULE(x, np.ones((4, 3), "f4"))
    RULE(x, np.ones((4, 3), "f4"))  # reading does not consume it
    np.from_dlpack(x)
    with pytest.raises(ValueError, match=r"x1.__dlpack__\(\) returned a capsule that was consumed before"):
        RULE(x, np.ones((4, 3), "f4"))
    x.capsule = 7
    with pytest.raises(ValueError, match=r"x1.__dlpack__\(\) returned int, which is not a DLPack capsule"):
        RULE(x, np.ones((4, 3), "f4"))


def test_a_producer_that_raises_is_one_error_with_its_own_as_the_cause():
    class Broken(Producer):
        def __dlpack__(self, **keywords):
            raise BufferError("the memory is on strike")

    with pytest.raises(
        ValueError, match=r"x2 \(.*Broken\) cannot be read through DLPack: the memory is on str"
    ) as caught:
        RULE(np.ones(5), Broken(np.ones(3)))
    assert isinstance(caught.value.__cause__, BufferError)


class Standard(Producer):
    """With a library of its own."""

    dtype = property(lambda self: self.array.dtype)

    def __init__(self, array, namespace):
        super().__init__(array)
        self.namespace = namespace

    def __array_namespace__(self):
        if isinstance(self.namespace, Exception):
            raise self.namespace
        return self.namespace


class Library:
    """A module of the standard, by this `from_dlpack`."""

    __name__ = "library"

    def __init__(self, from_dlpack):
        self.from_dlpack = from_dlpack


def nothing(array):
    return None


def on_strike(*arguments, **keywords):
    raise RuntimeError("on strike")


@pytest.mark.parametrize(
    "namespace",
    [
        RuntimeError("on strike"),
        ValueError("on strike"),
        None,
        7,
        object(),
        Library(None),
        Library(7),
        Library(on_strike),
        Library(nothing),
    ],
)
def test_a_hostile_library_is_one_error(namespace):
    value, x1, x2 = Standard(np.ones(3), namespace), np.ones(5), np.ones(3)
    for name, call in {
        "x2": lambda: RULE(x1, value),
        "x1": lambda: sparseacc.accumulate(value, x2, [0], 1, [0], [0], [1.0]),
        "dx2": lambda: RULE.jvp(x1, x2, None, value),
        "out": lambda: RULE(x1, x2, out=Standard(np.ones(5), namespace)),
        "m1": lambda: sparseacc.Rule(Standard(np.zeros(1, int), namespace), [0], [0], [1.0], (1, 1, 1)),
    }.items():
        if isinstance(namespace, Library) and namespace.from_dlpack in (on_strike, nothing) and name in ("out", "m1"):
            call()  # nobody asks it
            continue
        with pytest.raises(TypeError, match=rf"^{name} ") as caught:
            call()
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize("error", [RuntimeError, KeyError, TypeError, ValueError])
def test_a_hostile_producer_is_one_error(error):
    class Broken(Producer):
        def __dlpack__(self, **keywords):
            raise error("on strike")

    for call in (
        lambda: RULE(np.ones(5), Broken(np.ones(3))),
        lambda: RULE.vjp(np.ones(5), np.ones(5), Broken(np.ones(3))),
    ):
        with pytest.raises(TypeError, match=r"x2 \(.*Broken\) cannot be read through DLPack: .*on strike") as caught:
            call()
        assert isinstance(caught.value.__cause__, error)


def test_interrupts_in_a_producer_pass():
    class Interrupted(Producer):
        def __dlpack__(self, **keywords):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RULE(np.ones(5), Interrupted(np.ones(3)))


def test_no_memory_behind_a_size_is_an_error(rng):
    x1, x2 = np.ones((4, 5)), np.ones((4, 3))
    with pytest.raises(ValueError, match=r"x1 \(.*Producer\) has a size but no memory"):
        RULE(Producer(x1, data=None), x2)
    with pytest.raises(ValueError, match=r"out .* has a size but no memory"):
        RULE(x1, x2, out=Producer(np.ones((4, 5)), data=None))
    with pytest.raises(ValueError, match=r"m1 .* has a size but no memory"):
        sparseacc.Rule(Producer(np.zeros(1, int), data=None), [0], [0], [1.0], (1, 1, 1))
    assert RULE(Producer(x1[:0], data=None), x2[:0]).shape == (0, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"lanes": 2}, "2 lanes"), ({"code": 9}, "code 9"), ({"code": 2, "bits": 4}, "4 bits"), ({"code": 3}, "code 3")],
)
def test_numbers_that_numpy_has_not_are_refused(change, message):
    with pytest.raises(TypeError, match=rf"x1 has a dtype that NumPy has not.*{message}"):
        RULE(Producer(np.ones((4, 5), "f4"), **change), np.ones((4, 3), "f4"))


def test_a_capsule_of_another_major_version_is_refused():
    if np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("this NumPy exports no versions")

    class New(Producer):
        def __dlpack__(self, **keywords):
            capsule = self.array.__dlpack__(max_version=(1, 0))
            pointer = dlpack._pointer(capsule, b"dltensor_versioned")
            dlpack._Versioned.from_address(pointer).major = 2
            return capsule

    with pytest.raises(ValueError, match=r"x1.*version 2"):
        RULE(New(np.ones(5)), np.ones(3))


def test_devices():
    """Without a GPU, what says that it is on one is not touched."""
    on_gpu, on_host = Producer(np.ones(5), device=(2, 0)), np.ones(3)
    with pytest.raises(ValueError, match=r"x1 on GPU 0 and x2 on the host: move one"):
        RULE(on_gpu, on_host)
    with pytest.raises(ValueError, match=r"x1 on GPU 0 and x2 on GPU 1: move one"):
        RULE(on_gpu, Producer(np.ones(3), device=(2, 1)))
    with pytest.raises(ValueError, match=r"x1 is on a device of DLPack's kind 7"):
        RULE(Producer(np.ones(5), device=(7, 0)), on_host)
    pinned = Producer(np.ones(5), device=(3, 0), device_type=3)
    assert np.array_equal(RULE(pinned, on_host), RULE(np.ones(5), on_host))
    with pytest.raises(ValueError, match="m1 is on a device of DLPack's kind 2, but must be on the host"):
        sparseacc.Rule(Producer(np.zeros(1, int), device_type=2), [0], [0], [1.0], (1, 1, 1))


def test_any_array_of_the_standard_comes_back_by_its_namespace():
    class Namespace:
        __name__ = "standard.of_tests"

        @staticmethod
        def from_dlpack(x):
            return Standard(np.from_dlpack(x))

    class Standard(Producer):
        dtype = property(lambda self: self.array.dtype)

        def __array_namespace__(self):
            return Namespace

    result = RULE(Standard(np.ones(5)), Standard(np.ones(3)))
    assert type(result) is Standard
    assert np.array_equal(result.array, RULE(np.ones(5), np.ones(3)))
