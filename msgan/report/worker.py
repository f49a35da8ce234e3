"""``python -m msgan.report.worker``: executes one notebook for the runner that started it.

Standard input states the notebook and ends when the runner does. That is an interruption: the
kernel and its scratch go, and no result is left.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from msgan import start


def main() -> int:
    """Execute the notebook that the first line of standard input states."""
    with start.loading():
        from msgan.report import run_cache
        from msgan.report.runner import run_one
        from msgan.report.side_by_side import Task
    # A program in the background of a shell is born without ears for it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    task = Task.of(sys.stdin.readline())
    threading.Thread(target=_watch, args=(sys.stdin.fileno(),), daemon=True).start()
    run_cache.remember(task.out, run_one(task))
    return 0


def _watch(pipe: int) -> None:
    """Interrupt this process when the other end of the pipe is closed."""
    while os.read(pipe, 1):
        pass
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
