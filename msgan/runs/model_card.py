"""The card of a model: all that a user who downloads only that folder must know."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from msgan.config import CascadeConfig
from msgan.metrics import CATALOGUE
from msgan.printing import code, markdown, printable
from msgan.runs.parent import Parent
from msgan.runs.run import perceptual_loss

HUB_LICENCES = ("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0")
"""Identifiers that model hubs know; any other licence is stated by its name."""

LIMITS = """
- **For research. Not a medical device; not for diagnosis or treatment.** What it makes must not be
  read as if it had been acquired.
- **It invents and omits.** It draws what is likely in its training data: it can draw pathology that
  is not there and remove what is, and the image looks real either way.
{reads}
- Images of other scanners, ages, diseases or parts of the body than those of the training data
  were not tried unless the evaluation names them.
- Weights may hold traces of the training images. Mind the terms of the data before you share them.

More in the section "Limits of use" of the README of msgan.
"""

READS = {
    "edges": """\
- A result is as good as the edges of its source. Where source and target show different
  boundaries it is guessing.""",
    "guided": """\
- A result is as good as the edges of its source and the match of its intensities. Where source and
  target show different boundaries, or the source shows alike what differs in the target, it is
  guessing.""",
    "image": """\
- A result is as good as what its source shows. Where the target shows what the source does not, it
  is guessing.""",
}
"""What limits a run, by what it reads of a source."""

MATCHED = {
    "histogram": "Match: histogram. The source's intensities are brought to the distribution of "
    "the target's, and guide the translation beside the sketch. Which way round they run is found "
    "out for each image, or stated with `--polarity same` or `--polarity inverted`; where neither "
    "is clear, they are not used at the coarsest scale.",
    "spectrum": "Match: spectrum. A filter brings noise and sharpness of the source to those of "
    "the target; the filtered image takes the place of the source.",
}
"""What is said of a run with guidance, by its match."""

CITATION = """
Uzunova H., Ehrhardt J., Jacob F., Frydrychowicz A., Handels H.: Multi-scale GANs for
memory-efficient generation of high resolution medical images. MICCAI 2019. arXiv:1907.01376.

Uzunova H., Ehrhardt J., Handels H.: Memory-efficient GAN-based domain translation of high
resolution 3D medical images. Computerized Medical Imaging and Graphics, 2020. arXiv:2010.03396.

The software: msgan, a re-implementation from these papers (its CITATION.cff).
"""


def text(
    name: str,
    card: Mapping[str, Any],
    config: CascadeConfig,
    scores: Sequence[Sequence[str]] | None = None,
) -> str:
    """The card as Markdown with the front matter that model hubs read.

    Args:
        name: Of the model.
        card: See :func:`msgan.runs.model.describe`.
        config: Of its cascade.
        scores: Rows of a table, the first with the columns' names; None: not evaluated.
    """
    model = card["model"]
    evaluation = _evaluation(model, scores)
    sections = {
        "What it does": _purpose(card, config),
        "Intended use": _use(card, config),
        "How to use it": _commands(card, config),
        "Training data": _data(card),
        "How it was trained": _training(card, config),
        "Evaluation": evaluation,
        "Limits": _limits(config),
        "Licence": _licence(model),
        "Citation": _citation(config),
    }
    body = "\n\n".join(f"## {title}\n\n{content}" for title, content in sections.items())
    head = f"---\n{_front(card, config)}---\n\n# {markdown(name)}"
    return f"{head}\n\n{_wrap(model['summary'])}\n\n{body}\n"


def _front(card: Mapping[str, Any], config: CascadeConfig) -> str:
    licence = card["model"]["licence"]
    if licence.lower() in HUB_LICENCES:
        terms = {"license": licence.lower()}
    elif licence == "not stated":
        terms = {"license": "unknown"}
    else:
        terms = {"license": "other", "license_name": licence}
    tags = ["medical-imaging", "image-translation", "gan", "msgan", f"{config.dims}d"]
    front = {
        **terms,
        "library_name": "msgan",
        "pipeline_tag": "image-to-image",
        "tags": [*tags, card["target"]],
    }
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True)


def _purpose(card: Mapping[str, Any], config: CascadeConfig) -> str:
    n, target = config.preparation.scales or 0, markdown(card["target"])
    spacings = [_spacing(config, 2**k) for k in range(n, -1, -1)]
    paired = (
        f"It was trained on pairs of {markdown(config.paired)} and {target}."
        if config.paired
        else f"It was trained on {markdown(config.cycle.source)} and {target} images without pairs."
        if config.cycle
        else f"It was trained on {target} images alone: sources of any kind can be tried, "
        "and none was seen."
    )
    if config.network.pairs:
        text = (
            f"{config.network.title}: one network translates the source image itself, "
            f"patch by patch, at {spacings[-1]}; patches overlap and are blended. {paired}"
        )
        return _wrap(text)
    first = (
        "A network at the coarsest scale draws the whole image from a sketch of the source (its "
        "edges); each further network"
        if config.drawn
        else "The image at the coarsest scale is the filtered source; each network"
    )
    parts = [
        f"A multi-scale patch GAN. {first} doubles the resolution, tile by tile, from the image "
        f"below and the sketch. Scales: {', '.join(spacings)}. {paired}"
    ]
    if config.guidance.match in MATCHED:
        parts.append(MATCHED[config.guidance.match])
    if config.labels:
        parts.append(
            f"Labels {', '.join(map(str, config.labels))} of a label map can be drawn over the "
            "sketch (`--labels`), which says where that pathology is. They may be left out."
        )
    return "\n\n".join(map(_wrap, parts))


def _use(card: Mapping[str, Any], config: CascadeConfig) -> str:
    prep = config.preparation.of(config.cycle.source if config.cycle else config.paired)
    unit = markdown(card["intensity"]["unit"])
    if prep.intensity == "window":
        known = f"with intensities from {prep.low:g} to {prep.high:g} {unit}".rstrip()
        known += "; what lies outside is cut off"
    else:
        known = (
            f"whose background is at or below {prep.foreground:g} (for MR of the brain: without "
            f"the skull); the {prep.high:g}th percentile of the rest becomes white"
        )
    return "\n".join(
        [
            _wrap(
                f"For: research on image translation, trying the software, teaching. Input: a "
                f"{config.dims}D image {known}. It is resampled to {_spacing(config, 1)} inside; "
                "the result lies on the input's own grid, in the unit of the target's training "
                "images."
            ),
            "",
            _wrap(
                "Not for: diagnosis, treatment, triage, or any decision about a person; replacing "
                "an acquisition; measuring lesions or volumes in results; training data for "
                "such uses."
            ),
        ]
    )


def _commands(card: Mapping[str, Any], config: CascadeConfig) -> str:
    suffix = "nii.gz" if config.dims == 3 else "png"
    # A target comes from a file, and this line is copied to a shell.
    result = shlex.quote(printable(f"{card['target']}.{suffix}"))
    labels = f" --labels seg.{suffix}" if config.labels else ""
    lines = [
        f"msgan plan FOLDER image.{suffix}",
        f"msgan translate FOLDER image.{suffix} {result}",
    ]
    if labels:
        lines.append(f"{lines[-1]}{labels}")
    block = "\n".join(lines)
    return (
        f"With msgan {markdown(str(card['versions']['msgan']))} or newer installed; FOLDER is this "
        "folder:\n\n"
        f"```\n{block}\n```\n\n"
        + _wrap(
            "The files are checked against the hashes in `run.json` when the model is opened; no "
            "code is loaded from them (safetensors, YAML, JSON)."
        )
    )


def _data(card: Mapping[str, Any]) -> str:
    model, data, target = card["model"], card["data"], markdown(card["target"])
    rows = "\n".join(f"- {markdown(name)}: {code(str(value))}" for name, value in data.items())
    facts = {
        "Data": model["data"],
        "Licence of the data": model["data_licence"],
        "Subjects": f"{len(data)} (training and validation), the {target} image of each",
    }
    return f"{_facts(facts)}\n\nSHA-256 over the files used of each subject:\n\n{rows}"


def _citation(config: CascadeConfig) -> str:
    own = f"{_wrap(config.network.paper)}\n" if config.network.pairs else ""
    return f"{own}{CITATION}".strip()


def _training(card: Mapping[str, Any], config: CascadeConfig) -> str:
    model, made = card["model"], card["versions"]
    lines = ["| scale | parameters | steps | seconds |", "|---|---|---|---|"]
    for scale, done in model["training"].items():
        count = model["parameters"][scale]
        seconds = f"{done['seconds']:.0f}" if "seconds" in done else "not known"
        lines.append(f"| {scale} | {count:,} | {done.get('step', 'not known')} | {seconds} |")
    precision = {"float16": "float16 (computed with as float32)"}
    stored = model.get("precision", "float32")
    facts = {
        "Networks": f"family {config.network.family}; all settings in `config.yaml`",
        "Weights": f"stored as {precision.get(stored, stored)}",
        "Seed": markdown(str(card["seed"])),
        "Machine": markdown(str(card["machine"])),
        "Versions": markdown(", ".join(f"{name} {v}" for name, v in made.items())),
        "Commit of msgan": markdown(str(card["git"] or "not known")),
    }
    if "parent" in card:
        facts["Trained longer than"] = markdown(str(Parent(**card["parent"])))
    if config.network.perceptual:
        facts["Perceptual loss"] = perceptual_loss(config)
    return "\n".join(lines) + "\n\n" + _facts(facts)


def _limits(config: CascadeConfig) -> str:
    read = "guided" if config.guidance.on else "edges"
    if {"image", "auto_context"} & set(config.sketch.channels):
        read = "image"
    return LIMITS.strip().format(reads=READS[read])


def _evaluation(model: Mapping[str, Any], scores: Sequence[Sequence[str]] | None) -> str:
    how = [_wrap(model["evaluation"])] if model["evaluation"] else []
    if scores is None:
        return "\n\n".join(how) or "Not stated."
    stated = [metric for metric in CATALOGUE.values() if metric.name in scores[0]]
    known = "; ".join(f"{metric.name}: {metric.meaning}" for metric in stated)
    end = f"{known}. The same as CSV: `scores.csv`." if known else "As CSV: `scores.csv`."
    return "\n\n".join([*how, _table(scores), _wrap(end)])


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = (list(map(markdown, row)) for row in rows)
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _licence(model: Mapping[str, Any]) -> str:
    notice = f"\n\n{_wrap(model['notice'])}" if model["notice"] else ""
    return f"Weights: {model['licence']}.{notice}"


def _spacing(config: CascadeConfig, factor: int) -> str:
    spacing = config.preparation.spacing_mm or ()
    sides = [f"{s * factor:.3g}" for s in spacing]
    if not sides:
        return "the image's own spacing"
    return f"{sides[0]} mm" if len(set(sides)) == 1 else f"{' x '.join(sides)} mm"


def _facts(facts: Mapping[str, Any]) -> str:
    return "\n".join(_wrap(f"- {name}: {fact}", "  ") for name, fact in facts.items())


def _wrap(paragraph: str, indent: str = "") -> str:
    return textwrap.fill(
        paragraph, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
