"""The program, run in the process of the tests."""

from typer.testing import CliRunner

from msgan.cli import app

TINY = {
    "preparation": {"scales": 1},
    "sketch": {"channels": ["edges"]},
    "contrast": {"share": 0.0},
    "conditioning": {"generated_share": 0.0},
    "network": {
        "lr_width": 4,
        "lr_levels": 2,
        "hr_width": 4,
        "hr_blocks": 1,
        "discriminator_width": 4,
    },
    "training": {
        "steps": 20,
        "lr_steps": 20,
        "batch": 1,
        "patch": 8,
        "validate_every": 10,
        "checkpoint_every": 10,
    },
}


def msgan_cli(*words: object, status: int = 0):
    """Run the program in this process."""
    result = CliRunner().invoke(app, [str(word) for word in words], prog_name="msgan")
    assert result.exit_code == status, (result.exit_code, result.output, result.exception)
    return result


def fails(*words: object) -> str:
    """The one line a command with bad input leaves on stderr, without its mark."""
    result = msgan_cli(*words, status=2)
    assert result.stdout == ""
    line, end = result.stderr.split("\n", 1)
    assert end == ""
    assert line.startswith("error: ")
    return line.removeprefix("error: ")
