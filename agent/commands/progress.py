"""What goes to stderr while a command works: a bar, and a note when kernels have to be compiled first."""

__all__ = ["Compiling", "Progress"]

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.commands.warm import Helper


class Compiling:
    """Counts the time that Numba compiles, and says so on stderr the first time.

    Loading from the disk cache does not count. Use as a context manager around the work.

    Parameters
    ----------
    quiet
        Say nothing.
    helper
        A second process to start at the first kernel, to share the work.
    """

    def __init__(self, *, quiet: bool = False, helper: "Helper | None" = None) -> None:
        self._helper = helper
        self.seconds = 0.0  #: wall time
        self.cpu_s = 0.0
        self.kernels = 0
        self._quiet = quiet
        self._depth = 0
        self._since = (0.0, 0.0)
        self._live = not quiet and sys.stderr.isatty()

    def __enter__(self) -> "Compiling":
        from numba.core import event

        outer = self

        class Listener(event.Listener):  # type: ignore[misc]
            def on_start(self, found: Any) -> None:
                outer._begin(found.data["dispatcher"].py_func.__name__)

            def on_end(self, found: Any) -> None:
                outer._end()

        self._listener = Listener()
        event.register("numba:compile", self._listener)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        from numba.core import event

        event.unregister("numba:compile", self._listener)
        if self._helper is not None:
            self._helper.stop()
        if self._live and self.kernels:
            self._clear()

    def _begin(self, name: str) -> None:
        # A kernel compiles the kernels that it calls on the way: count the outermost only.
        if self._depth == 0:
            self._since = time.perf_counter(), time.process_time()
            if self.kernels == 0:
                self._say_so()
        self._depth += 1
        self.kernels += 1
        if self._live:
            self._clear()
            sys.stderr.write(f"  compiled {self.kernels - 1}, now {name}")
            sys.stderr.flush()

    def _say_so(self) -> None:
        if self._helper is not None:
            self._helper.start()
        if not self._quiet:
            sys.stderr.write("compiling the kernels (first use only, takes about 20 s) ...\n")

    def _end(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds += time.perf_counter() - self._since[0]
            self.cpu_s += time.process_time() - self._since[1]
            if self._live:
                self._clear()

    def _clear(self) -> None:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


class Progress:
    """A bar with rate and time left on stderr; nothing where stderr is no terminal.

    Parameters
    ----------
    total
        Runs to come.
    quiet
        Show nothing at all.
    """

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        self._bar: Any = None
        self._total = total
        if quiet or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} runs, {task.fields[rate]:.1f}/s, left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("episodes", total=total, rate=0.0)

    def __enter__(self) -> "Progress":
        self._since = time.perf_counter()
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, runs: float) -> None:
        """Say how many runs are done; a started round counts in part."""
        if self._bar is not None:
            rate = runs / max(time.perf_counter() - self._since, 1e-9)
            self._bar.update(self._task, completed=min(runs, self._total), rate=rate)
