"""Lightning callbacks: metrics, records, pictures and guards.

Each is given in YAML by class path (`callbacks.Psnr`) with plain `init_args`. They read step outputs
(`lightning_modules.step_output.StepOutput`) and know nothing of the module that made them. All files go below
the run directory, which is `trainer.default_root_dir`.

The names are those of `__init__.pyi`. Each is imported at its first use: most need Lightning, which takes seconds.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
