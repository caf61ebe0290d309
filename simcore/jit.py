"""The one place that calls Numba's ``njit``.

Numba's disk cache looks at the file of the decorated function only, so an edit of a callee or a
constant in another file would silently keep the old machine code. Here every kernel module gets a
cache folder named by a hash of its own source and of all our modules that it imports, directly or not.
"""

__all__ = ["bits_of", "cache_root", "call_at", "float_of", "njit", "pointer", "prange", "record_of", "rows_of"]

import functools
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# OpenMP's threads spin between parallel kernels by default: with other work on the machine a step then takes
# a time slice instead of microseconds, and twelve times the CPU. Read once, when Numba starts its threads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numba
from llvmlite import binding, ir
from numba import prange
from numba.core import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher
from numba.extending import intrinsic

from simcore.patience import patient_collector

F = TypeVar("F", bound=Callable[..., Any])

_HOUSE = Path(__file__).resolve().parent.parent
_IMPORT = re.compile(r"^\s*from\s+((?:simcore|agent|tests|bench)[\w.]*)\s+import\s+(\([^)]*\)|[^\n(]+)", re.MULTILINE)


def cache_root() -> Path:
    """Return the folder under which compiled kernels are kept (``MENDSIM_CACHE_DIR`` overrides it)."""
    named = os.environ.get("MENDSIM_CACHE_DIR")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    root = (Path(base) if base else Path.home() / ".cache") / "mendsim"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            return root
    except OSError:
        return Path(tempfile.gettempdir()) / f"mendsim-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


@functools.cache
def _root() -> Path:
    return cache_root()


def _files_of(module: str) -> list[Path]:
    path = _HOUSE.joinpath(*module.split("."))
    return [p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()]


@functools.cache
def _imports(path: Path) -> tuple[Path, ...]:
    found: list[Path] = []
    for module, names in _IMPORT.findall(path.read_text(encoding="utf-8")):
        found += _files_of(module)
        for name in re.findall(r"\w+", names):
            found += _files_of(f"{module}.{name}")
    return tuple(found)


@functools.cache
def _sources_key(path: Path) -> str:
    seen: set[Path] = set()
    todo = [path, Path(__file__).resolve()]
    while todo:
        here = todo.pop()
        if here not in seen:
            seen.add(here)
            todo += _imports(here)
    digest = hashlib.sha256()
    for source in sorted(seen):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@functools.cache
def _cleaning(codegen: Any) -> tuple[Any, Any]:
    """Return LLVM's passes for the functions of a ``_Part``, and what runs them."""
    passes = binding.create_new_function_pass_manager()
    passes.add_sroa_pass()
    passes.add_aggressive_dce_pass()
    passes.add_simplify_cfg_pass()
    return passes, codegen._pass_builder()


class _Part(JITCodeLibrary):  # type: ignore[misc]
    """The code of a kernel that only other kernels call: kept for linking, not optimised or made machine code of.

    Whatever it is linked into is optimised as a whole, so that the work would be done once more at every caller.
    """

    _final_module: Any

    def _optimize_functions(self, module: Any) -> None:
        # as far as dead code goes, since it would keep alive addresses that are worth nothing to another process
        module.data_layout = self._codegen._data_layout
        passes, builder = _cleaning(self._codegen)
        for function in module.functions:
            passes.run(function, builder)

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True
        self._get_module_for_linking()
        # Numba wants to set the environments, which this leaves in place of the code
        names = [each.name for each in self._final_module.global_variables if each.name.startswith("_ZN08NumbaEnv")]
        rest = self._codegen._create_empty_module(self.name)
        for name in names:
            ir.GlobalVariable(rest, ir.IntType(8).as_pointer(), name).linkage = "common"
            rest.globals[name].initializer = ir.Constant(ir.IntType(8).as_pointer(), None)
        self._final_module = binding.parse_assembly(str(rest))
        super()._finalize_final_module()


class _PartCompiler(Compiler):  # type: ignore[misc]
    """Numba's compiler, putting its result into a ``_Part``."""

    def define_pipelines(self) -> Any:
        self.state.library = _Part(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        self.state.library.enable_object_caching()
        return super().define_pipelines()


class _Kernel(CPUDispatcher):  # type: ignore[misc]
    """A kernel that one process at a time compiles: the others wait and read its machine code from the disk."""

    def compile(self, signature: Any) -> Any:
        with global_compiler_lock, patient_collector(), _only_process(self._cache.cache_path, self.__name__):
            return super().compile(signature)


#: Locks that this process holds; only the thread that has Numba's own lock asks.
_held: set[Path] = set()


@contextmanager
def _only_process(folder: str, name: str) -> Iterator[None]:
    """Keep other processes from the kernels of that name; Numba's cache would let two of them mix up their files.

    No two kernels call each other, so two processes never wait for each other. A system or a disk without such locks
    does without: the processes then compile the same.
    """
    path = Path(folder, f"{name}.lock")
    if fcntl is None or path in _held:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)


class _NotForPython(_Kernel):
    """A kernel without an entry for Python: a call from there would jump to no address at all."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"kernel {self.__name__} has no entry for Python; call it from another kernel")


def njit(
    function: F | None = None,
    *,
    parallel: bool = False,
    inline: bool = False,
    internal: bool = False,
    task: bool = False,
) -> Any:
    """Compile a kernel with the house's options: cached, GIL released, IEEE arithmetic as written.

    Parameters
    ----------
    function
        The kernel; left out when options are given.
    parallel
        Whether ``prange`` in it runs on threads.
    inline
        Tell LLVM to inline it into its callers: for helpers of a few lines and for parts of a loop with one caller.
    internal
        Only other kernels call it: machine code of its own and the entries for Python and C are left out, which
        saves a third of the time to compile; a call from Python raises a TypeError.
    task
        It is called through its address only (``simcore.threads``): the entry for Python is left out, as above.
    """

    def wrap(kernel: F) -> Any:
        path = Path(sys.modules[kernel.__module__].__file__ or kernel.__code__.co_filename).resolve()
        numba.config.CACHE_DIR = str(_root() / _sources_key(path))
        compiled = numba.njit(
            cache=True,
            nogil=True,
            fastmath=False,
            error_model="numpy",
            parallel=parallel,
            forceinline=inline,
            no_cpython_wrapper=internal or task,
            no_cfunc_wrapper=internal,
            no_rewrites=internal,
            pipeline_class=_PartCompiler if internal else Compiler,
        )(kernel)
        compiled.__class__ = _NotForPython if internal or task else _Kernel
        return compiled

    return wrap if function is None else wrap(function)


@intrinsic  # type: ignore[untyped-decorator]
def bits_of(typingctx: Any, x: Any) -> Any:
    """Return the bits of a float64 as int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.int64))

    return types.int64(types.float64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def float_of(typingctx: Any, x: Any) -> Any:
    """Return the float64 that has the bits of an int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float64))

    return types.float64(types.int64), codegen


def rows_of(dtype: Any, field: str) -> Any:
    """Return a compiled accessor ``at(owner, index)`` for records of ``dtype`` behind a pointer.

    ``owner`` is a record with an int64 field ``field`` that holds the address of an array of ``dtype``; the result is
    a record that refers to element ``index``, to be read and written in place. A pointer costs one register where a
    NumPy array costs seven and a reference count, so state can be passed to small functions for nothing. The
    caller keeps the array alive and the index within it.
    """
    record = numba.from_dtype(dtype)
    size = dtype.itemsize

    @intrinsic  # type: ignore[untyped-decorator]
    def at(typingctx: Any, owner: Any, index: Any) -> Any:
        offset = owner.offset(field)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            bytes_type = ir.IntType(8).as_pointer()
            where = builder.gep(builder.bitcast(args[0], bytes_type), [ir.Constant(ir.IntType(64), offset)])
            first = builder.load(builder.bitcast(where, bytes_type.as_pointer()))
            # addresses change between calls of a kernel only, so LLVM may keep them in registers across stores
            first.set_metadata("invariant.load", builder.module.add_metadata([]))
            number = context.cast(builder, args[1], signature.args[1], types.int64)
            number = builder.mul(number, ir.Constant(ir.IntType(64), size))
            return builder.bitcast(builder.gep(first, [number]), context.get_value_type(record))

        return record(owner, index), codegen

    return at


def record_of(dtype: Any) -> Any:
    """Return a compiled accessor ``at(address)`` for a record of ``dtype`` at an int64 address."""
    record = numba.from_dtype(dtype)

    @intrinsic  # type: ignore[untyped-decorator]
    def at(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(record))

        return record(types.int64), codegen

    return at


@intrinsic  # type: ignore[untyped-decorator]
def call_at(typingctx: Any, function: Any, job: Any, i: Any) -> Any:
    """Call the C function of two int64 at an address; it returns an int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = ir.IntType(64)
        return builder.call(builder.inttoptr(args[0], ir.FunctionType(number, [number] * 2).as_pointer()), args[1:])

    return types.int64(types.int64, types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def pointer(typingctx: Any, address: Any) -> Any:
    """Return an int64 address as a pointer, for ``numba.carray``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), codegen
