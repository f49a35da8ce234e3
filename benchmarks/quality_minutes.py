"""Quality against minutes of training on CPU cores: T1 to T2 of a real patient.

Each method is trained on patient 19 for 2, 5, 10, 20 and 40 minutes, each time anew, and translates
the T1 of patient 26; no method sees a lesion mask. A training of its own for each time and not one
that is looked at in between, because learning rates fall to the end of a training and the scales of
a cascade are trained one after the other: halfway, a cascade is none.
Data: open MS data (Lesjak et al., Neuroinformatics 2017, CC BY), see docs/data.md.

    python benchmarks/quality_minutes.py --minutes 2 5 10

How many steps fit is found out by two short trainings: the time of a fit is a constant (images are
prepared, sketches drawn) and a time per step. s0 gets three steps for two of s1, as in
benchmarks/real_brain.py. What is told and drawn is the time that the fit really took, from opening
the images to the last weights. SSIM and the others are those of benchmarks/real_brain.py: inside
the brain, 3D, n = 1. Methods without training are drawn as level lines.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from methods import CANDIDATES, Candidate, Fitted, candidates, equal_time, fitted
from real_brain import Study, Tested, cohort_of, configured, range_of, scored, shown
from real_brain import config as brain_config
from records import about, about_method, options, parsed, record

from msgan import plots
from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort
from msgan.plots.style import WIDTH, colours, new_figure, settled, style

NAME = "quality_minutes"
SOURCE, TARGET = "t1", "t2"
STUDY = Study(("patient19",), ("patient26",), lesion="lesions")
MINUTES = (2.0, 5.0, 10.0, 20.0, 40.0)
COMPARED = (
    "inverted, matched",
    "published",
    "cascade",
    "cascade, guided",
    "CycleGAN",
    "paired regression",
    "3D-mDAUNet",
)
STEADY = tuple(one for one in equal_time(None) if one.name == "3D-mDAUNet")
"""Of the methods of notebook 12, in its sizes there."""

SHARES = {"lr_steps": 3, "steps": 2}
"""Steps of each scale that a round is made of."""

ROUNDS = (10, 60)
"""Of the two short trainings that tell the pace."""

QUICK_ROUNDS, QUICK_MINUTES = (1, 3), (0.1, 0.2)


def with_rounds(config: CascadeConfig, number: int) -> CascadeConfig:
    """The configuration with so many rounds of steps, validated four times or every 250 steps."""
    steps = {name: share * number for name, share in SHARES.items()}
    every = max(1, min(250, steps["steps"] // 4))
    return config.updated(training={**steps, "validate_every": every, "checkpoint_every": 10_000})


def rounds_in(minutes: float, short: tuple[int, float], long: tuple[int, float]) -> int:
    """How many rounds fit, from what two numbers of rounds took (seconds); at least 1."""
    (few, first), (many, second) = short, long
    pace = max((second - first) / (many - few), 1e-3)
    constant = max(first - few * pace, 0.0)
    return max(1, int((60 * minutes - constant) / pace))


def trained(
    candidate: Candidate, cohort: Cohort, config: CascadeConfig, out: Path, name: str
) -> Fitted:
    """A training from the beginning; an older one of that name is removed."""
    shutil.rmtree(out / name, ignore_errors=True)
    return fitted(
        candidate,
        cohort,
        SOURCE,
        TARGET,
        configured(candidate, config),
        out / name,
        match="histogram",
    )


def quality(fit: Fitted, tested: Tested, path: Path) -> dict[str, float]:
    """Scores inside the brain of what a method makes of the test person."""
    path.unlink(missing_ok=True)
    fit.translating().translate(tested.subject, path, modality=SOURCE)
    found = scored(shown(path, tested), tested.real, {"brain": tested.brain})
    return found["brain"]


def measured(
    candidate: Candidate,
    cohort: Cohort,
    config: CascadeConfig,
    times: list[float],
    rounds: Any,
    out: Path,
) -> list[dict[str, Any]]:
    """One line for each time: what was asked for, what it took, and the scores."""
    tested = Tested.of(cohort[STUDY.test[0]], range_of(cohort, config))
    path, place = (
        out / "translated" / f"{candidate.name}.nii",
        out / "runs" / candidate.name.replace(" ", "_"),
    )
    lines = []
    if not candidate.trained:
        fit = trained(candidate, cohort, config, place, "once")
        scores = quality(fit, tested, path)
        return [{"minutes": t, "took": t, **scores, "about": about_method(fit)} for t in times]
    short, long = (
        (n, trained(candidate, cohort, with_rounds(config, n), place, "pace").seconds)
        for n in rounds
    )
    for minutes in times:
        number = rounds_in(minutes, short, long)
        fit = trained(candidate, cohort, with_rounds(config, number), place, f"{minutes:g}")
        line = {"minutes": minutes, "took": fit.seconds / 60, **quality(fit, tested, path)}
        lines.append(line | {"about": about_method(fit)})
        print(candidate.name, line, flush=True)
    return lines


def tables(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The tables of the report: a line a method, a column a time."""
    titles = {
        "ssim": "SSIM inside the brain, by minutes",
        "psnr": "PSNR inside the brain, dB, by minutes",
        "mae": "MAE inside the brain, by minutes",
        "took": "minutes that the fit took",
    }
    return {
        title: {name: {f"{x['minutes']:g}": x[key] for x in lines} for name, lines in found.items()}
        for key, title in titles.items()
    }


def cores(report: dict[str, Any]) -> str:
    """How many threads the methods of a report were trained with."""
    used = {one["threads"] for times in report["methods"].values() for one in times.values()}
    return " or ".join(f"{n} thread{'s'[: n > 1]}" for n in sorted(used))


def figure(report: dict[str, Any], path: Path) -> None:
    """SSIM and PSNR against the minutes that were really taken, of every method in the report."""
    took = report["minutes that the fit took"]
    is_trained = {candidate.name: candidate.trained for candidate in (*CANDIDATES, *STEADY)}
    caption = (
        "T1 to T2 of patient 26 of open MS data (Lesjak et al. 2017, CC BY), inside the brain, "
        "after trainings of their own of that length on patient 19. Dashed: no training."
    )
    with style():
        drawn = new_figure(WIDTH, 3.1, caption)
        axes = drawn.subplots(1, 2)
        titles = (("SSIM", "SSIM inside the brain, by minutes"),)
        titles = (*titles, ("PSNR (dB)", "PSNR inside the brain, dB, by minutes"))
        for ax, (label, title) in zip(axes, titles, strict=True):
            for number, (name, times) in enumerate(took.items()):
                minutes = sorted(times, key=float)
                values = [report[title][name][m] for m in minutes]
                look: dict[str, Any] = {"color": colours()[number], "label": name}
                if not is_trained[name]:
                    ax.axhline(values[0], ls="--", **look)
                else:
                    ax.plot([times[m] for m in minutes], values, marker="o", ms=3, **look)
            ax.set(xscale="log", xlabel=f"training (minutes, {cores(report)})", ylabel=label)
            asked = sorted({float(m) for times in took.values() for m in times})
            ax.set_xticks(asked, [f"{m:g}" for m in asked])
            ax.minorticks_off()
        handles, texts = axes[0].get_legend_handles_labels()
        drawn.legend(handles, texts, loc="outside upper center", ncols=3)
    plots.save(settled(drawn), path, dpi=110)


def main() -> None:
    """Train, translate, score, draw; see the module's docstring."""
    parser = options(NAME, __doc__, COMPARED)
    parser.add_argument("--minutes", nargs="+", type=float, default=list(MINUTES))
    parser.add_argument("--threads", type=int, default=2)
    given = parsed(parser, NAME)
    torch.set_num_threads(given.threads)
    times = list(QUICK_MINUTES) if given.quick else given.minutes
    rounds = QUICK_ROUNDS if given.quick else ROUNDS
    cohort, config = cohort_of(STUDY, given.data), brain_config(STUDY, given.quick)
    for candidate in candidates(given.methods, *STEADY):
        lines = measured(candidate, cohort, config, times, rounds, given.out)
        report = {
            "task": "T1 -> T2, patient 26 of open MS data, 182x218x182 at 1 mm, 3D, n = 1",
            "trained_on": list(STUDY.train),
            "data": "open MS data (Lesjak et al. 2017, CC BY)",
            "range": "each image divided by its 99.5th percentile in the brain of the real T2",
            **tables({candidate.name: lines}),
            "methods": {candidate.name: {f"{x['minutes']:g}": x["about"] for x in lines}},
            **about(),
        }
        whole = record(given.json, report)
        figure(whole, given.picture)


if __name__ == "__main__":
    main()
