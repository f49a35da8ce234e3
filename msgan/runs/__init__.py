"""Run folders, exported models and those that come with the package."""
