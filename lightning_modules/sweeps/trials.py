"""Trials of a sweep: their names, folders and commands, and which of them are done."""

import contextlib
import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lightning_modules.files import write_atomically
from lightning_modules.run_directory import CONFIG
from lightning_modules.sweeps.errors import SweepError
from lightning_modules.sweeps.sweep_file import ParameterPath, Sweep

PARAMETERS = "parameters.json"
DONE = "done.json"
FAILED = "failed.json"
LOG = "trial.log"

_MACRO = re.compile(r"\$\{(\w+)\}")


class Trial(NamedTuple):
    """One point of the grid: trained, then tested, in a folder of its own."""

    name: str
    """The parameters that vary, as in `bits_4` or `bits_32-noise_dim_84`."""
    folder: Path
    parameters: dict[str, Any]
    """Names and values as W&B hands them to a command."""
    recipe: dict[str, Any]
    """All else that the trial is made with, from words alone: the file's command, test configs, extra flags."""
    commands: tuple[tuple[str, ...], ...]
    """`fit`, then one or more `test`."""

    @property
    def parameters_file(self) -> Path:
        """What `${args_json_file}` names; written when the trial starts."""
        return self.folder / PARAMETERS

    @property
    def log(self) -> Path:
        """What its commands print."""
        return self.folder / LOG

    def is_done(self, adopt: bool = False) -> bool:
        """Whether the folder says that training and all tests have succeeded.

        Args:
            adopt: Whether a run that was begun in the folder by other means, but with the trial's parameters, is
                the trial's.

        Raises:
            SweepError: The folder holds a trial of other parameters, a finished one of other commands, or another
                run.
        """
        again = f"delete {self.folder} to run it anew, or choose another --output"
        parameters = _read(self.parameters_file)
        if parameters is None:
            if any(self.folder.glob("*.ckpt")) or (self.folder / "results").exists():
                self._check_adoption(adopt)
            return False
        if (difference := _difference(parameters, self.parameters)) is not None:
            raise SweepError(f"{self.name} was begun with {difference}: {again}")
        done = _read(self.folder / DONE)
        if done is None:
            return False
        if (difference := _difference(done.get("recipe", {}), self.recipe)) is not None:
            raise SweepError(
                f"{self.name} was done with {difference}: repeat what it was done with; or delete "
                f"{self.folder / DONE} to continue it from its last checkpoint; or {again}"
            )
        return True

    def _check_adoption(self, adopt: bool) -> None:
        if not adopt:
            raise SweepError(
                f"{self.folder} holds another run: move it, or choose another --output; or, if agents of W&B have "
                "trained it for this sweep and have ended, continue with --adopt"
            )
        try:
            config = yaml.safe_load((self.folder / CONFIG).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise SweepError(f"{self.folder / CONFIG}: cannot be read ({error}), so it is not adopted") from error
        for setting, value in _settings(self.parameters):
            if (found := _setting(config, setting)) != value:
                raise SweepError(
                    f"{self.folder} is not adopted: its {CONFIG} has {setting} {found}, and {self.name} has {value}: "
                    "move it, or choose another --output"
                )

    def claim(self) -> None:
        """Note whose the folder is, and that it is begun anew."""
        _write(self.parameters_file, self.parameters)
        (self.folder / FAILED).unlink(missing_ok=True)

    def failure(self) -> dict[str, Any] | None:
        """What `mark_failed` has noted since the trial was last begun; None if it has not, or cannot be read."""
        with contextlib.suppress(SweepError):
            return _read(self.folder / FAILED)
        return None

    def mark_failed(self, reason: str) -> None:
        """Note a failure for other sweeps at work on the same trials, as far as the folder can be written."""
        with contextlib.suppress(OSError):
            _write(self.folder / FAILED, {"reason": reason, "failed": datetime.now(UTC).isoformat()})

    def mark_done(self, seconds: float) -> None:
        """Note that training and tests have succeeded.

        Args:
            seconds: How long that took since the last interruption.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        _write(
            self.folder / DONE,
            {"parameters": self.parameters, "recipe": self.recipe, "finished": now, "seconds": round(seconds, 1)},
        )


def make_trials(sweep: Sweep, output: Path, test_configs: Sequence[str], flags: Sequence[str]) -> list[Trial]:
    """All trials of a sweep in the order of the grid.

    Each trains with the file's command and `--run_dir FOLDER --if_exists resume`, and is tested with the same command
    where `test` stands for `fit`: W&B runs one command per trial and its schema has no place for another. Flags come
    before the point's parameters, so that none of them, such as a config with its own λ, makes all points alike.

    Args:
        sweep: The sweep file.
        output: Folder of the trials' folders.
        test_configs: Config files laid over for tests, one test each; none for one test without.
        flags: Further flags of every command; they come after the file's words and the test configs.

    Raises:
        SweepError: The command trains nothing or has a macro that W&B does not know, or two trials would have the
            same name.
    """
    words, last = _split(sweep.command)
    if words.count("fit") != 1:
        raise SweepError(
            f"sweep {sweep.name}: its command does not have the word fit once before the parameters, so it cannot be "
            f"told how to test: {shlex.join(sweep.command)}"
        )
    recipe = {"command": list(sweep.command), "test_configs": list(test_configs), "flags": list(flags)}
    short = _short_names(sweep.varying())
    trials: dict[str, Trial] = {}
    for point in sweep.points():
        name = "-".join(f"{label}_{_value_name(_value(point, path))}" for path, label in short.items())
        if name in trials:
            raise SweepError(f"sweep {sweep.name}: two trials are named {name}: make their values differ in words")
        folder = output / name
        before, parameters = (_fill(sweep, part, point, folder / PARAMETERS) for part in (words, last))
        run_dir = ["--run_dir", str(folder)]
        fit = (*before, *flags, *parameters, *run_dir, "--if_exists", "resume")
        test = ["test" if word == "fit" else word for word in before]
        overlays = [["-c", config] for config in test_configs] or [[]]
        tests = [(*test, *overlay, *flags, *parameters, *run_dir) for overlay in overlays]
        trials[name] = Trial(name, folder, point, recipe, (fit, *tests))
    return list(trials.values())


def _split(command: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """A command in two: what comes before its parameters, and the rest."""
    macros = [i for i, word in enumerate(command) if word.startswith("${args")]
    start = macros[0] if macros else len(command)
    if macros and command[start - 1] in ("-c", "--config"):
        start -= 1
    return command[:start], command[start:]


def _fill(sweep: Sweep, command: Sequence[str], parameters: Mapping[str, Any], json_file: Path) -> list[str]:
    """Words of the command with macros filled in as W&B's agent does, except that the interpreter is this one."""
    # W&B takes a second to import, which the other verbs need not wait for.
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    macros = create_sweep_command_args({"args": {name: {"value": value} for name, value in parameters.items()}})
    macros = {name: words for name, words in macros.items() if name not in ("args_json", "args_dict")}
    macros |= {
        "env": ["/usr/bin/env"],
        "interpreter": [sys.executable],
        "program": [sweep.program],
        "args_json_file": [str(json_file)],
    }
    words: list[str] = []
    # None of its own default, which it takes for a command without words.
    for word in create_sweep_command(list(command)) if command else ():
        macro = _MACRO.fullmatch(word)
        if macro is None:
            words.append(word)
        elif macro[1] in macros:
            words.extend(macros[macro[1]])
        else:
            known = ", ".join("${" + name + "}" for name in macros)
            raise SweepError(f"sweep {sweep.name}: {word} in its command is not known to W&B; there are {known}")
    return words


def _value(parameters: Mapping[str, Any], path: ParameterPath) -> Any:
    """A parameter's value where nested `parameters` have made nested values."""
    value: Any = parameters
    for part in path:
        value = value[part]
    return value


def _settings(values: Mapping[str, Any], outer: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names of the innermost values."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{outer}{name}.")
        else:
            yield f"{outer}{name}", value


def _setting(config: Any, name: str) -> Any:
    """A setting of a run's config, whether or not its name spells out `init_args`; None if it is not there."""
    for part in name.split("."):
        if isinstance(config, Mapping) and part not in config:
            config = config.get("init_args")
        config = config.get(part) if isinstance(config, Mapping) else None
    return config


def _short_names(paths: Sequence[ParameterPath]) -> dict[ParameterPath, str]:
    """The last parts of dotted names, as many as tell each from the others."""
    parts = {path: [part for part in ".".join(path).split(".") if part != "init_args"] for path in paths}
    short = {}
    for path, mine in parts.items():
        others = [other for key, other in parts.items() if key != path]
        lengths = range(1, len(mine) + 1)
        length = next((n for n in lengths if all(other[-n:] != mine[-n:] for other in others)), len(mine))
        short[path] = "_".join(mine[-length:])
    return short


def _value_name(value: Any) -> str:
    """A value as part of a folder's name.

    >>> [_value_name(value) for value in (0.0004, True, None, [8, 16], "a/b")]
    ['0.0004', 'true', 'null', '8_16', 'a_b']
    """
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, list):
        return "_".join(_value_name(item) for item in value)
    if isinstance(value, Mapping):
        return "_".join(f"{key}_{_value_name(item)}" for key, item in value.items())
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", str(value))


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """The first key whose values differ, in words, with JSON's idea of equality; None if there is none."""
    new = json.loads(json.dumps(new))
    for key in dict.fromkeys((*old, *new)):
        if key not in old or key not in new or old[key] != new[key]:
            was, now = (_shown(side, key) for side in (old, new))
            return f"{key} {was} and is now to have {now}"
    return None


def _shown(side: Mapping[str, Any], key: str) -> str:
    if key not in side:
        return "not set"
    value = side[key]
    return shlex.join(map(str, value)) or "none" if isinstance(value, list) else json.dumps(value)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SweepError(f"{path}: cannot be read ({error}): restore it, or delete its folder") from error
    if not isinstance(content, dict):
        raise SweepError(f"{path}: is not of a trial: restore it, or delete its folder")
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_atomically(path, lambda draft: draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8"))
