"""Run by every kernel of the browser tests before a notebook: short trainings, two to test.

What is tried in the browser does not depend on how good a translation is, and that the notebooks
train in full is seen by `./run_all.sh smoke`. With two subjects there is one to change to.
"""


def _shorten() -> None:
    from msgan import presets
    from msgan.phantoms import cohorts

    smoke = presets.PRESETS["smoke"]
    few = {"steps": 6, "low_steps": 12, "validate_every": 6, "checkpoint_every": 6}

    def short(dims: int = 3, seed: int = 0) -> presets.CascadeConfig:
        config = smoke(dims, seed)
        training = config.training.model_copy(update=few)
        return config.model_copy(update={"training": training})

    presets.PRESETS["smoke"] = short
    cohorts.BRAIN["smoke"] = cohorts.Extent(6, 48)


_shorten()
del _shorten
