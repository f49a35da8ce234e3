"""A table as LaTeX with booktabs; all text is escaped."""

from __future__ import annotations

from collections.abc import Sequence

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # after a line's end it would be read as a distance
    "]": "{]}",
    "→": r"$\rightarrow$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≈": r"$\approx$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "−": r"$-$",
    "–": "--",
    "²": r"$^2$",
    "³": r"$^3$",
    "µ": r"$\mu$",
}
"""What LaTeX would read as a command, or what older engines have no letter for."""

PAGE = 35
"""Rows of a table that a page can hold."""


def escape(text: str) -> str:
    """``text`` as LaTeX prints it; line breaks and other control characters become blanks."""
    shown = "".join(SPECIAL.get(c, c if c.isprintable() else " ") for c in text)
    # In LaTeX two hyphens are a dash.
    return shown.replace("--", "-{}-") if "--" in text else shown


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str,
    label: str,
    bold: Sequence[Sequence[bool]],
    words: int = 1,
) -> str:
    """A floating table, or one that breaks where it is longer than a page.

    Args:
        header: Names of the columns, plain text.
        rows: Plain text of the cells.
        caption: Plain text.
        label: Plain text; what is no letter, digit or hyphen becomes a hyphen.
        bold: For each cell whether it is set in bold.
        words: Leading columns of words, set to the left; the others are centred.
    """
    import pandas as pd

    key = "".join(c if c.isascii() and c.isalnum() else "-" for c in label)
    cells = [
        [rf"\textbf{{{escape(c)}}}" if b else escape(c) for c, b in zip(line, marks, strict=True)]
        for line, marks in zip(rows, bold, strict=True)
    ]
    long = len(rows) > PAGE
    text = (
        pd.DataFrame(cells, columns=[escape(name) for name in header])
        .style.hide(axis="index")
        .to_latex(
            hrules=True,
            column_format="l" * words + "c" * (len(header) - words),
            caption=escape(caption),
            label=f"tab:{key}",
            environment="longtable" if long else "table",
            position=None if long else "htbp",
            position_float=None if long else "centering",
        )
    )
    packages = "booktabs,longtable" if long else "booktabs"
    return f"% needs \\usepackage{{{packages}}}\n" + text.replace(
        "\\centering\n", "\\centering\n\\small\n", 1
    )
