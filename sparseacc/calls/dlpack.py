"""Arrays of other libraries, through DLPack: read where they lie, and results handed back as the caller's own kind.

Everything here asks the objects: no library is imported that the caller has not imported. A capsule is read but not
consumed: it stays with the NumPy view of its memory, and its own destructor gives the memory back to the producer. That
takes one kind of code for every dtype (NumPy knows no bfloat16), version of the protocol, and version of NumPy.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..extras import how_to_install
from .arrays import Array, is_foreign
from .dtypes import bfloat16
from .libraries import PREPARED, kind_of, no_memory

_HOST = (1, 3, 11)  # plain memory, and memory pinned for CUDA or ROCm
_CUDA = (2, 13)  # a device's own, and managed memory
_BOOL, _BFLOAT = 6, 4
_KINDS = {0: "i", 1: "u", 2: "f", 5: "c"}
_READ_ONLY = 1


class _Tensor(ctypes.Structure):
    """`DLTensor` of dlpack.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Versioned(ctypes.Structure):
    """`DLManagedTensorVersioned`; an unversioned capsule begins with the tensor itself."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


# Prototypes of our own: the functions of ctypes.pythonapi are shared with the rest of the process.
_python = ctypes.pythonapi
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", _python))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", _python))


class Framework(NamedTuple):
    """The library that an argument belongs to, and how it takes an array."""

    name: str
    from_dlpack: Callable[[Any], Any] | None
    argument: str


class _Memory:
    """What NumPy needs for a view; the view keeps it, and with it the capsule, alive."""

    __slots__ = ("__array_interface__", "capsule")

    def __init__(self, capsule: object, interface: dict[str, Any]) -> None:
        self.capsule = capsule
        self.__array_interface__ = interface


class _BFloat16:
    """A bfloat16 array as a producer, which NumPy is not: exported as integers, then named by its own dtype."""

    def __init__(self, array: Array) -> None:
        self._integers = array.view(np.uint16)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._integers.__dlpack_device__()

    def __dlpack__(self, **keywords: Any) -> Any:
        capsule = self._integers.__dlpack__(**keywords)
        _opened(capsule)[0].code = _BFLOAT
        return capsule


class Borrowed(NamedTuple):
    """Arrays of another library as those of an engine.

    Attributes
    ----------
    arrays : dict of str to array
        NumPy's or CuPy's, by the name of the argument.
    threads : int or None
        The most that its library would use here.
    give_back : callable
        Makes a result an array of that library.
    """

    arrays: dict[str, Any]
    threads: int | None
    give_back: Callable[[Any], Any]


def borrow(named: Mapping[str, Any]) -> Borrowed | None:
    """Reads arrays where they lie; None if none of them is another library's."""
    foreign = {name: framework_of(value, name) for name, value in named.items() if is_foreign(value)}
    if not foreign:
        return None
    framework = _common(foreign)
    prepare = PREPARED.get(framework.name)
    if prepare:
        named = {name: prepare(value, name) if name in foreign else value for name, value in named.items()}
    take = _view if _on_host(named) else as_cupy
    arrays = {name: take(value, name) if name in foreign else value for name, value in named.items()}
    threads = sys.modules["torch"].get_num_threads() if framework.name == "torch" else None
    return Borrowed(arrays, threads, partial(_given_back, framework=framework))


def read(value: Any, name: str) -> Array:
    """A view of a foreign array's memory.

    Parameters
    ----------
    value : object with __dlpack__
        On the host.
    name : str
        For messages; "out" is to be written to.

    Raises
    ------
    TypeError
        If its library records or traces what is computed, or its numbers are of a kind that NumPy has not.
    ValueError
        If its memory cannot be had.
    """
    prepare = PREPARED.get(framework_of(value, name).name)
    return _view(prepare(value, name) if prepare else value, name)


def _view(value: Any, name: str) -> Array:
    capsule = _exported(value, name)
    try:
        tensor, flags = _opened(capsule)
    except ValueError as error:
        raise ValueError(f"{name}.__dlpack__() returned {error}") from None
    if tensor.device_type not in _HOST:
        raise ValueError(f"{name} is on a device of DLPack's kind {tensor.device_type}, but must be on the host")
    dtype, bits = _dtype(tensor, name)
    shape = tuple(tensor.shape[: tensor.ndim])
    if 0 in shape:
        return np.empty(shape, dtype)
    if not tensor.data:
        raise no_memory(value, name)
    strides = tuple(bits.itemsize * step for step in tensor.strides[: tensor.ndim]) if tensor.strides else None
    interface = {
        "version": 3,
        "shape": shape,
        "typestr": bits.str,
        "data": (tensor.data + tensor.byte_offset, bool(flags & _READ_ONLY)),
        "strides": strides,
    }
    try:
        return np.asarray(_Memory(capsule, interface)).view(dtype)
    except ValueError as error:  # of more dimensions than NumPy has
        raise ValueError(f"{name} cannot be made an array: {error}") from error


def framework_of(value: Any, argument: str) -> Framework:
    """The library of a foreign array, by the array API standard or else by the module of its class."""
    try:
        if hasattr(value, "__array_namespace__"):
            module = value.__array_namespace__()
            return Framework(str(module.__name__).partition(".")[0], _function(module.from_dlpack), argument)
        for cls in type(value).__mro__:
            root = cls.__module__.partition(".")[0]
            from_dlpack = getattr(sys.modules.get(root), "from_dlpack", None)
            if from_dlpack is not None:
                return Framework(root, _function(from_dlpack), argument)
    except Exception as error:
        raise TypeError(f"{argument} ({kind_of(value)}) belongs to a library that cannot be asked: {error}") from error
    return Framework(type(value).__module__.partition(".")[0], None, argument)


def _function(value: Any) -> Any:
    if not callable(value):
        raise TypeError(f"its from_dlpack is {value!r} and no function")
    return value


def _common(frameworks: Mapping[str, Framework]) -> Framework:
    found: dict[str, str] = {}
    for name, framework in frameworks.items():
        found.setdefault(framework.name, name)
    if len(found) > 1:
        listed = " and ".join(f"{name} of {framework}" for framework, name in found.items())
        raise TypeError(f"arrays of two libraries, {listed}: convert one of them first")
    return next(iter(frameworks.values()))


def _on_host(named: Mapping[str, Any]) -> bool:
    """Where the arrays are: True on the host, False on one GPU."""
    places: dict[tuple[int, int] | None, str] = {}
    for name, value in named.items():
        places.setdefault(_place(value, name), name)
    if len(places) > 1:
        listed = " and ".join(
            f"{name} on {'the host' if place is None else f'GPU {place[1]}'}" for place, name in places.items()
        )
        raise ValueError(f"arrays on two devices, {listed}: move one of them first")
    return None in places


def is_on_gpu(value: Any, name: str) -> bool:
    """Whether a foreign array is on a CUDA device."""
    return _place(value, name) is not None


def _place(value: Any, name: str) -> tuple[int, int] | None:
    """None on the host, else the kind of device and its number."""
    try:
        if not hasattr(value, "__dlpack_device__"):
            return None
        kind, number = map(int, value.__dlpack_device__())
    except Exception as error:
        cannot = ValueError if isinstance(error, (BufferError, ValueError)) else TypeError
        raise cannot(
            f"{name} ({kind_of(value)}) has no device that DLPack knows: {error}{_hint(value, name)}"
        ) from error
    if kind in _HOST:
        return None
    if kind in _CUDA:
        return _CUDA[0], number
    raise ValueError(f"{name} is on a device of DLPack's kind {kind}: only the host and CUDA are supported")


def as_cupy(value: Any, name: str) -> Any:
    """A CuPy array that shares the memory of one on a CUDA device."""
    try:
        import cupy  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ValueError(
            f"{name} is on a GPU, which needs CuPy ({error}): {how_to_install('cuda12')}, or cuda13"
        ) from error
    try:
        array = cupy.from_dlpack(value) if is_foreign(value) else cupy.asarray(value)
    except MemoryError:
        raise
    except Exception as error:
        raise _unreadable(error, value, name) from error
    if array.size and not array.data.ptr:
        raise no_memory(value, name)
    return array


def _exported(value: Any, name: str) -> Any:
    """The capsule, of the version 1 where the producer has it."""
    try:
        try:
            return value.__dlpack__(max_version=(1, 0))
        except TypeError:  # a producer of before version 1 does not know the keyword
            return value.__dlpack__()
    except MemoryError:
        raise
    except Exception as error:
        raise _unreadable(error, value, name) from error


def _unreadable(error: Exception, value: Any, name: str) -> Exception:
    """By DLPack's own error an array says that it cannot be had; by any other, that it is no such array."""
    cannot = ValueError if isinstance(error, BufferError) else TypeError
    way = "DLPack" if is_foreign(value) else "__cuda_array_interface__"
    return cannot(f"{name} ({kind_of(value)}) cannot be read through {way}: {error}{_hint(value, name)}")


def _hint(value: Any, argument: str) -> str:
    """Tensors inside a transformation, of vmap for instance, are known by their failing only."""
    name = framework_of(value, argument).name
    return f" (if {name} is transforming it: sparseacc.{name}.product can be transformed)" if name in PREPARED else ""


def _opened(capsule: Any) -> tuple[_Tensor, int]:
    """The tensor in a capsule, and its flags."""
    if _is_valid(capsule, b"dltensor_versioned"):
        managed = _Versioned.from_address(_pointer(capsule, b"dltensor_versioned"))
        if managed.major != 1:
            raise ValueError(f"a capsule of version {managed.major}.{managed.minor} of DLPack, not of version 1")
        return managed.tensor, managed.flags
    if _is_valid(capsule, b"dltensor"):
        return _Tensor.from_address(_pointer(capsule, b"dltensor")), 0
    if _is_valid(capsule, b"used_dltensor") or _is_valid(capsule, b"used_dltensor_versioned"):
        raise ValueError("a capsule that was consumed before: a producer must make a new one in every call")
    raise ValueError(f"{type(capsule).__name__}, which is not a DLPack capsule")


def _dtype(tensor: _Tensor, name: str) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """The dtype, and the one of the same size by which NumPy views it."""
    code, size, lanes = tensor.code, tensor.bits // 8, tensor.lanes
    if lanes == 1 and code == _BFLOAT and size == 2:
        return bfloat16(name), np.dtype(np.uint16)
    if lanes == 1 and code == _BOOL and size == 1:
        return np.dtype(np.bool_), np.dtype(np.bool_)
    if lanes != 1 or code not in _KINDS or size not in (1, 2, 4, 8, 16):
        raise TypeError(
            f"{name} has a dtype that NumPy has not (DLPack's code {code}, {tensor.bits} bits, {lanes} lanes): "
            "convert it, such as to float32"
        )
    dtype = np.dtype(f"{_KINDS[code]}{size}")
    return dtype, dtype


def _given_back(result: Any, framework: Framework) -> Any:
    """A result as an array of that library, sharing the memory."""
    if framework.from_dlpack is None:  # an object that gives memory and takes none
        return result
    try:
        array = framework.from_dlpack(_BFloat16(result) if result.dtype.name == "bfloat16" else result)
        dtype = array.dtype
    except MemoryError:
        raise
    except Exception as error:
        raise TypeError(
            f"{framework.argument} is an array of {framework.name}, whose from_dlpack does not take the result: {error}"
        ) from error
    if getattr(dtype, "itemsize", result.itemsize) != result.itemsize:
        raise TypeError(
            f"the result is {result.dtype}, which {framework.name} turned into {dtype}: pass arrays of a dtype "
            f"that it keeps, or let it keep {result.dtype} (JAX: jax.config.update('jax_enable_x64', True))"
        )
    return array
