"""W&B sweep files: what of them runs without a server, and the points of their grids."""

import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import yaml

from lightning_modules.sweeps.errors import SweepError

DEFAULT_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")
"""What W&B runs when a file has no `command`."""

_TOP_LEVEL = {
    *("method", "program", "command", "parameters", "name", "description", "run_cap"),
    *("project", "entity", "metric", "controller", "apiVersion", "kind"),
}
"""Keys that mean the same here, or that only the server reads."""

_SERVER_ONLY = {
    "early_terminate": "stops trials early",
    "scheduler": "chooses trials",
    "metrics": "is for search methods",
    "job": "starts jobs of W&B Launch",
    "image_uri": "starts containers of W&B Launch",
}

_ADVICE = "remove it, or run the sweep with W&B's server: `wandb sweep FILE`, then `wandb agent`"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")

ParameterPath = tuple[str, ...]
"""A parameter's name; names, where `parameters` are nested."""


class Sweep(NamedTuple):
    """A sweep file, read and checked."""

    name: str
    """`name` of the file, or else the file's own name without suffix."""
    program: str
    command: tuple[str, ...]
    """W&B's command with its macros, such as `${args}`."""
    parameters: dict[ParameterPath, list[Any]]
    """Every parameter's values, in the order of the file."""
    run_cap: int | None
    """At most so many trials."""
    specification: Mapping[str, Any]
    """`parameters` as the file has them."""

    def points(self) -> list[dict[str, Any]]:
        """The grid, from W&B's own engine: names and values of every trial as its agent hands them to a command.

        They are in its order: names sorted, the last changing fastest. Nested `parameters` make nested values.
        """
        count = math.prod(len(values) for values in self.parameters.values())
        count = count if self.run_cap is None else min(count, self.run_cap)
        runs = _engine().next_runs({"method": "grid", "parameters": self.specification}, [], n=count)
        return [{name: entry["value"] for name, entry in run.config.items()} for run in runs]

    def varying(self) -> list[ParameterPath]:
        """Parameters with several values; if there are none, all."""
        return [path for path, values in self.parameters.items() if len(values) > 1] or list(self.parameters)


def read_sweep(path: Path) -> Sweep:
    """Read a sweep file in W&B's format (https://docs.wandb.ai/guides/sweeps).

    Of the methods only `grid` needs no server: its trials are known beforehand. A parameter has `value`, `values`, or
    nested `parameters`; `method`, `program` and `parameters` are required.

    Args:
        path: The YAML file.

    Raises:
        SweepError: The file cannot be read, is not a sweep, or asks for what only the server does.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SweepError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SweepError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, Mapping):
        raise SweepError(f"{path}: is not a sweep file; it needs the keys method, program and parameters")
    _check_keys(path, content)
    name = content.get("name", path.stem)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SweepError(f"{path}: name {name!r} cannot name a folder; use letters, digits, _, - and .")
    program = content.get("program")
    if not isinstance(program, str):
        raise SweepError(f"{path}: program is {program!r}; W&B needs the script there, lightning_modules/cli.py")
    parameters = content.get("parameters")
    if not isinstance(parameters, Mapping) or not parameters:
        raise SweepError(f"{path}: parameters is {parameters!r}; name at least one, with `values`")
    values = dict(_values(path, parameters, ()))
    _check_one_way(path, values)
    sweep = Sweep(
        name=name,
        program=program,
        command=_command(path, content.get("command", list(DEFAULT_COMMAND))),
        parameters=values,
        run_cap=_run_cap(path, content.get("run_cap")),
        specification=parameters,
    )
    # After the checks above, whose messages say what to do; W&B's schema says only what is wrong.
    if violations := _engine().schema_violations_from_proposed_config(dict(content)):
        raise SweepError(f"{path}: W&B's schema of sweep files refuses it: {'; '.join(violations)}")
    return sweep


def _engine() -> ModuleType:
    """W&B's sweep engine, a package of its own; it takes a second to import, which other verbs need not wait for."""
    with warnings.catch_warnings():
        # It still calls an option of pydantic by its former name.
        warnings.filterwarnings("ignore", message="Valid config keys have changed in V2", category=UserWarning)
        import sweeps
    return sweeps


def _check_keys(path: Path, content: Mapping[str, Any]) -> None:
    method = content.get("method")
    if method != "grid":
        raise SweepError(
            f"{path}: method is {method!r}; only grid runs without a server, since random and bayes draw the next "
            "trial while others run. Write the points as a grid, or run `wandb sweep FILE`, then `wandb agent`"
        )
    for key in content:
        if key in _SERVER_ONLY:
            raise SweepError(f"{path}: {key} {_SERVER_ONLY[key]}, which needs the server: {_ADVICE}")
        if key not in _TOP_LEVEL:
            raise SweepError(f"{path}: {key} is not a key of sweep files; there are {', '.join(sorted(_TOP_LEVEL))}")


def _command(path: Path, command: Any) -> tuple[str, ...]:
    if not isinstance(command, list) or not command:
        raise SweepError(f"{path}: command is {command!r}; write the words of the command as a list")
    return tuple(str(word) for word in command)


def _run_cap(path: Path, run_cap: Any) -> int | None:
    if run_cap is None or (type(run_cap) is int and run_cap > 0):
        return run_cap
    raise SweepError(f"{path}: run_cap is {run_cap!r}; it is the largest number of trials, 1 or more")


def _values(
    path: Path, parameters: Mapping[str, Any], outer: ParameterPath
) -> Iterator[tuple[ParameterPath, list[Any]]]:
    """Every parameter's path and values, into nested `parameters`."""
    for name, spec in parameters.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise SweepError(f"{path}: {name!r} cannot name a parameter; write the setting, as in model.lmbda")
        here = (*outer, name)
        shown = ".".join(here)
        if not isinstance(spec, Mapping):
            raise SweepError(f"{path}: parameter {shown} is {spec!r}; give it `value: ...` or `values: [...]`")
        keys = set(spec) - {"distribution"}
        if keys == {"parameters"} and isinstance(spec["parameters"], Mapping) and spec["parameters"]:
            yield from _values(path, spec["parameters"], here)
        elif keys == {"value"} and spec.get("distribution", "constant") == "constant":
            yield here, [_plain(path, shown, spec["value"])]
        elif keys == {"values"} and spec.get("distribution", "categorical") == "categorical":
            yield here, _distinct(path, shown, spec["values"])
        else:
            given = ", ".join(f"{key}: {value}" for key, value in spec.items()) or "nothing"
            raise SweepError(f"{path}: parameter {shown} has {given}; a grid takes `value: ...` or `values: [...]`")


def _check_one_way(path: Path, parameters: Mapping[ParameterPath, list[Any]]) -> None:
    """Refuse a group that is nested and dotted: of `model: parameters:` and `model.bits:` the command keeps one."""
    for outer in {names[0] for names in parameters if len(names) > 1}:
        if dotted := [names[0] for names in parameters if names[0].startswith(f"{outer}.")]:
            raise SweepError(
                f"{path}: parameter {outer} has nested parameters beside {dotted[0]}, which would be lost: write all "
                f"of {outer} one way"
            )


def _distinct(path: Path, shown: str, values: Any) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise SweepError(f"{path}: values of {shown} are {values!r}; write a list with at least one")
    for i, value in enumerate(values):
        # To W&B 1 and 1.0 are the same.
        if any(value == other and isinstance(value, bool) is isinstance(other, bool) for other in values[:i]):
            raise SweepError(f"{path}: {shown} has the value {value!r} twice")
        _plain(path, shown, value)
    return values


def _plain(path: Path, shown: str, value: Any) -> Any:
    """The value, if JSON can hold it: YAML also knows dates and sets."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SweepError(f"{path}: {shown} has the value {value}, which is not JSON: put it in quotes") from error
    return value
