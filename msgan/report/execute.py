"""Executes one notebook with this interpreter and records its peak memory."""

from __future__ import annotations

import ast
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import psutil

from msgan.leftovers import owned, sweep
from msgan.printing import PROGRESS
from msgan.report.results import RESULTS

SCRATCH = "msgan-notebook-"
"""How names of the folders begin that notebooks are executed in."""


class PeakMemory:
    """Context that samples the memory of the processes started within it.

    On Linux the proportional set size is summed, so that libraries shared by a kernel and its
    workers count once; elsewhere the resident set size, which counts them several times.

    Attributes:
        bytes: The largest sum seen.
    """

    def __init__(self, interval: float = 0.2) -> None:
        self.bytes = 0
        self._interval = interval
        self._before: set[psutil.Process] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._before = set(psutil.Process().children(recursive=True))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        highest = 0
        while not self._stop.wait(self._interval):
            started = [p for p in me.children(recursive=True) if p not in self._before]
            resident = sum(map(_resident, started))
            # To tell what is shared, every page is looked at: an eighth of a core all the time.
            if resident > highest:
                highest = resident
                self.bytes = max(self.bytes, sum(map(_memory, started)))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has ended, or belongs to someone else
        return 0


def _memory(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except psutil.Error:
        return 0
    return int(getattr(full, "pss", full.rss))


def _kernel(scratch: Path, out: Path, more: Mapping[str, str]) -> type:
    """A kernel manager that runs this interpreter, whatever the machine has registered."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    environment = {
        RESULTS: str(out),
        PROGRESS: "0",  # pages keep results, and no times that differ
        # A backend chosen for scripts would leave the notebook without figures.
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        # Start-up files of the user would be part of the result.
        "IPYTHONDIR": str(scratch / "ipython"),
        **more,
    }
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    # A kernel that is told to end while it is busy complains of the interruption.
    command += ["--log-level=CRITICAL"]

    class OwnKernel(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(
                argv=command, env=environment, display_name="Python 3", language="python"
            )

        def _connection_file_default(self) -> str:
            return str(scratch / "connection.json")

        def _transport_default(self) -> str:
            # Sockets that only this user opens, and no port to compete for; but the address of
            # such a socket holds about 100 characters.
            return "ipc" if len(str(scratch)) < 80 else "tcp"

    return OwnKernel


def declared(notebook: Any) -> set[str]:
    """Names that the cell tagged ``parameters`` assigns."""
    names: set[str] = set()
    for cell in notebook.cells:
        if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", []):
            for node in ast.parse(cell.source).body:
                targets = node.targets if isinstance(node, ast.Assign) else []
                targets += [node.target] if isinstance(node, ast.AnnAssign) else []
                names |= {t.id for t in targets if isinstance(t, ast.Name)}
    return names


def execute(
    notebook: Any,
    folder: Path,
    out: Path,
    parameters: Mapping[str, object],
    environment: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Any, str, int]:
    """Run all cells of a notebook in a kernel of its own.

    Args:
        notebook: The notebook, as read by nbformat; left as it is.
        folder: Working directory of the kernel: where the notebook lies.
        out: Folder of the whole run, handed to the notebook for its results.
        parameters: Values for its parameter cell.
        environment: Further variables of the kernel's environment.

    Returns:
        The executed notebook (up to the failing cell), one line that says what failed (empty if
        nothing), and the peak memory in bytes.
    """
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError

    error = ""
    # Not in MSGAN_SCRATCH: see the length of a socket's address.
    sweep(tempfile.gettempdir(), SCRATCH)
    with tempfile.TemporaryDirectory(prefix=owned(SCRATCH)) as name:
        scratch = Path(name)
        source, executed = scratch / "source.ipynb", scratch / "executed.ipynb"
        nbformat.write(notebook, source)
        with PeakMemory() as peak:
            try:
                papermill.execute_notebook(
                    source,
                    executed,
                    parameters=dict(parameters),
                    kernel_name="python3",
                    language="python",
                    progress_bar=False,
                    cwd=folder,
                    # Pages keep a widget's still picture and load nothing from the internet.
                    store_widget_state=False,
                    kernel_manager_class=_kernel(scratch, out, environment),
                )
            except PapermillExecutionError as failure:
                what = _first_line(failure.evalue)
                error = f"{failure.ename}: {what} (cell {failure.exec_count})"
            except Exception as failure:  # a kernel that died, or never started
                error = f"{type(failure).__name__}: {_first_line(failure)}"
        result = nbformat.read(executed if executed.is_file() else source, as_version=4)
    for path in ("input_path", "output_path"):  # of the scratch folder, which is gone
        result.metadata.get("papermill", {}).pop(path, None)
    return result, error, peak.bytes


def _first_line(text: object) -> str:
    return (str(text).strip().splitlines() or [""])[0]
