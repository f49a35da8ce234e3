"""``python -m msgan.report run``, called by ``run_all.sh``; ``record`` saves result tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from msgan import start
from msgan.presets import PRESETS
from msgan.printing import printable
from msgan.report.archive import archive
from msgan.report.runner import run_notebooks
from msgan.report.side_by_side import usual_jobs
from msgan.types import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the notebooks; 0 if all passed, 1 if one failed, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m msgan.report", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="execute the notebooks and render them as pages")
    run.add_argument("--preset", choices=PRESETS, default="smoke")
    run.add_argument("--folder", type=Path, default=Path("notebooks"), help="notebooks to run")
    run.add_argument("--out", type=Path, help="default: reports/runs/PRESET")
    run.add_argument("--data-root", type=Path, help="folder with the data; default: phantoms")
    run.add_argument("--only", default="*", help="pattern for names without suffix, e.g. '03*'")
    run.add_argument("--seed", type=int, help="default: each notebook's own")
    run.add_argument("--device", help="default: each notebook's own")
    jobs = "notebooks at a time; default: of smoke one a core, at most 4; of other presets 1"
    run.add_argument("--jobs", type=int, help=jobs)
    keep = commands.add_parser("record", help="keep the tables of a run with the code")
    keep.add_argument("notebooks", nargs="+", help="by name without suffix, e.g. 06_ct_kernels")
    keep.add_argument("--preset", choices=PRESETS, default="small")
    keep.add_argument("--out", type=Path, help="folder of the run; default: reports/runs/PRESET")
    keep.add_argument("--reports", type=Path, default=Path("reports"), help="where to keep them")
    options = parser.parse_args(arguments)

    out = options.out or Path("reports", "runs", options.preset)
    try:
        with start.working():
            if options.command == "record":
                for file in archive(out, options.reports, options.preset, options.notebooks):
                    _say(str(file))
                return 0
            runs = run_notebooks(
                options.folder,
                out,
                options.preset,
                only=options.only,
                data_root=options.data_root,
                seed=options.seed,
                device=options.device,
                say=_say,
                jobs=usual_jobs(options.preset) if options.jobs is None else options.jobs,
            )
    except InputError as error:
        _say(f"error: {error}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        _say("interrupted; run again to continue", sys.stderr)
        return start.INTERRUPTED
    _say(f"report: {out / 'index.html'}")
    failures = [r for r in runs if r.failed]
    for failure in failures:
        _say(f"failed: {failure.stem}: {failure.error}", sys.stderr)
    return 1 if failures else 0


def _say(text: str, stream: TextIO | None = None) -> None:
    print(printable(text), file=stream)
