"""A team's W&B workspace and report, made by code: `python -m lightning_modules.cli dashboard`."""
