"""The result of a scan in words: a short table to print, and notes for corrections."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from msgan.data.pseudonym import FILE
from msgan.data.scan.guess import UNKNOWN
from msgan.data.scan.proposal import UNSTATED, Proposal
from msgan.printing import code, markdown, printable

SPLITS = ("train", "val", "test")
WIDEST = 8
"""Kinds of images that are columns of a table."""
MOST_PAIRS = 6
"""Pairs of modalities that a summary shows."""
NO_IMAGE = "not an image"
FIRST = 5
"""Lines of what was left out that a summary shows."""


def table(proposal: Proposal) -> list[list[str]]:
    """Subjects by split (rows) and modality or role (columns); the first row is the header.

    Where there are many kinds, they are the rows.
    """
    kinds = [("image", m) for m in proposal.modalities]
    kinds += sorted({(f.role, f.modality) for f in proposal.found if f.role != "image"})
    has: dict[tuple[str, str], set[str]] = defaultdict(set)
    for f in proposal.found:
        has[f.role, f.modality].add(f.subject)
    split = proposal.split_of
    rows = [["", "subjects", *(m if r == "image" else f"{r} {m}".strip() for r, m in kinds)]]
    for name in (*SPLITS, "all"):
        inside = {s for s, own in split.items() if name in (own, "all")}
        rows.append([name, *map(str, (len(inside), *(len(has[k] & inside) for k in kinds)))])
    return rows if len(kinds) <= WIDEST else [list(row) for row in zip(*rows, strict=True)]


def pair_lines(proposal: Proposal, most: int) -> list[str]:
    """A line for each two modalities that subjects have on one grid; ``most`` of them."""
    pairs = list(proposal.pairs.items())
    lines = [f"{a} and {b}: {len(who)}" for (a, b), who in pairs[:most]]
    more = len(pairs) - most
    return [*lines, f"and {more} more pair{'s' * (more > 1)}"] if more > 0 else lines


def remarks(proposal: Proposal) -> list[str]:
    """What should be looked at before training."""
    found = proposal.found
    out = []
    if unknown := [f for f in found if f.modality == UNKNOWN]:
        out.append(
            f"Images of modality '{UNKNOWN}': {len(unknown)}, as {unknown[0].path}. Neither name "
            "nor header tells: write the modality into the manifest."
        )
    if any(f.hashed for f in found):
        out.append(
            "Some subjects are named by a hash: the DICOM PatientID looks like a person's "
            f"identifier, or is the same for many. The salt of the hash is in the file {FILE} "
            "beside the manifest: keep it for the same names next time, and do not pass it on: "
            "with it, identifiers can be tried."
        )
    if any(f.files > 1 or f.study for f in found):
        out.append(
            "Names of patients are not written, but paths are as they are: look whether names of "
            "folders and files tell who somebody is, before you pass the manifest on."
        )
    if any(f.unit == "HU" and not f.study for f in found):
        out.append(
            "CTs are taken to be in HU; the column unit says so. Correct it if they are not."
        )
    if proposal.apart:
        out.append(
            f"Subjects with images on different grids: {len(proposal.apart)}, as "
            f"{proposal.apart[0]}. They can be trained on; to score a translation against a real "
            "image, bring both onto one grid first."
        )
    alike: dict[str, list[str]] = defaultdict(list)
    for path, own in proposal.notes.items():
        for note in own:
            alike[note].append(path)
    for note, paths in alike.items():
        others = f" and {len(paths) - 1} others" if len(paths) > 1 else ""
        out.append(f"{paths[0]}{others}: {note}.")
    if tissues := [f for f in found if f.role == "labels" and f.why.endswith("suffix dseg")]:
        out.append(
            f"Label maps by the BIDS suffix dseg: {len(tissues)}, as {tissues[0].path}. Where they "
            "are tissues and not pathology, remove the rows: labels are drawn over sketches."
        )
    out += proposal.remarks
    split = proposal.split_of
    for modality in proposal.modalities:
        splits = {split[f.subject] for f in found if f.modality == modality}
        if "train" not in splits:
            out.append(f"No subject of split train has {modality}: change the column split.")
    if "test" not in split.values():
        out.append("No subject is of split test: there are too few to spare one.")
    return out


def summary(proposal: Proposal) -> list[str]:
    """What a command prints: the table, pairs, and the first of what is to be looked at."""
    lines = columns(table(proposal))
    if pairs := pair_lines(proposal, MOST_PAIRS):
        lines += ["", "subjects with both on one grid:", *(f"  {line}" for line in pairs)]
    else:
        lines += ["", "no subject has two images on one grid"]
    lines += ["", *remarks(proposal)] if remarks(proposal) else []
    if proposal.omitted:
        count = len(proposal.omitted)
        lines += ["", f"left out: {count} of {proposal.files} files or folders"]
        # A reason is shown once: a thousand text files must not hide what is worth knowing.
        alike = Counter(o.kind or o.reason for o in proposal.omitted)
        firsts = {o.kind or o.reason: o for o in reversed(proposal.omitted)}
        shown = sorted(firsts.items(), key=lambda item: (item[0] == NO_IMAGE, item[1].path))
        for reason, o in shown[:FIRST]:
            more = f" (and {alike[reason] - 1} more of this kind)" if alike[reason] > 1 else ""
            lines.append(f"  {o.path}: {o.reason}{more}")
        if rest := len(shown[FIRST:]):
            lines.append(f"  and for {rest} other reason{'s' * (rest > 1)}: see notes.md")
    return lines


def notes(proposal: Proposal, folder: str, commands: Sequence[str]) -> str:
    """The notes beside a manifest, as Markdown: every file that is not in it has a line.

    Args:
        proposal: What was understood.
        folder: The scanned folder, as it was called.
        commands: What to do next.
    """
    rows = table(proposal)
    stated = any(f.split for f in proposal.found)
    head = ["| " + " | ".join(map(markdown, row)) + " |" for row in rows]
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", "\n".join(commands))), default=0))
    parts = [
        "# What was understood of a folder",
        f"{code(folder)}, {proposal.files} files. Names and headers were read, voxels were not: "
        "`msgan data check` reads them. Everything here is a guess; `manifest.csv` is what counts.",
        "## Next",
        "\n".join([fence, *map(printable, commands), fence]),
        "## Subjects",
        "\n".join([head[0], "| --- " * len(rows[0]) + "|", *head[1:]]),
        "Who has what:\n\n" + _listed(_having(proposal)),
        "Subjects with both on one grid:\n\n" + _listed(pair_lines(proposal, 4 * MOST_PAIRS)),
        "## To correct",
        _listed(
            [
                f"The columns licence and citation say '{UNSTATED}': fill them in.",
                "The column split is by a hash of the subjects' names"
                + (", but for those that the data set itself keeps for testing" if stated else "")
                + ". All images of a person must be in one split.",
                *map(markdown, remarks(proposal)),
            ]
        ),
        "## What was guessed, and from what",
        _listed(_guesses(proposal)),
        "## Left out",
    ]
    reasons: dict[str, list[str]] = defaultdict(list)
    for o in proposal.omitted:
        reason = f": {markdown(o.reason)}" if o.kind else ""
        reasons[o.kind or o.reason].append(code(o.path) + reason)
    for reason, lines in sorted(reasons.items(), key=lambda item: item[0] == NO_IMAGE):
        parts += [f"### {markdown(reason[:1].upper() + reason[1:])}", _listed(lines)]
    if not reasons:
        parts.append("Nothing.")
    return "\n\n".join(parts) + "\n"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; the first column is left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _having(proposal: Proposal) -> list[str]:
    """A line for each set of images, and the subjects that have it."""
    has: dict[str, list[str]] = defaultdict(list)
    for f in proposal.found:
        has[f.subject].append(f.modality if f.role == "image" else f"{f.role} {f.modality}".strip())
    alike: dict[str, list[str]] = defaultdict(list)
    for subject, kinds in has.items():
        alike[", ".join(kinds)].append(subject)
    return [markdown(f"{kinds}: {', '.join(who)}") for kinds, who in alike.items()]


def _guesses(proposal: Proposal) -> list[str]:
    """A line for each kind and what it was read from, with an example."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for f in proposal.found:
        kind = f.modality if f.role == "image" else f"{f.role} {f.modality}".strip()
        groups[kind, f.why or "nothing"].append(f.path)
    return [
        f"{markdown(f'{kind}, from {why}')}: {len(paths)}, as {code(paths[0])}"
        for (kind, why), paths in sorted(groups.items())
    ]


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) or "None."
