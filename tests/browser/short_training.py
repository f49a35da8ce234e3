"""Run by every kernel of the browser tests before a notebook: short trainings, two to test.

What is tried in the browser does not depend on how good a translation is, and that the notebooks
train in full is seen by `./run_all.sh smoke`. With two subjects there is one to change to.
"""


def _shorten() -> None:
    from msgan import presets

    few = {"steps": 6, "lr_steps": 12, "validate_every": 6, "checkpoint_every": 6}
    presets.TABLE["smoke", "any"] |= few
    presets.TABLE["smoke", "brain"] |= few | {"subjects": 6, "size": 48}


_shorten()
del _shorten
