"""Reports: runs the notebooks headless, and writes a page about the results."""

from msgan.report.results import results_folder, write_results
from msgan.report.run_cache import Run
from msgan.report.runner import run_notebooks

__all__ = ["Run", "results_folder", "run_notebooks", "write_results"]
