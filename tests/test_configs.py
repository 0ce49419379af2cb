"""Every config parses, and configs/taco.yaml is the paper's recipe."""

import re
from pathlib import Path

import lightning as L
import pytest
import yaml
from jsonargparse import ArgumentParser

from lightning_modules.experiment import ExperimentCLI
from tests.conftest import ROOT

VERBS = {Path("configs/anchors.yaml")}  # parsed in test_anchors.py
CONFIGS = sorted({path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml")} - VERBS)
COMPLETE = {
    Path(f"configs/{name}.yaml")
    for name in (
        *("taco", "elic", "digits_classifier"),
        *("digits_two_stage", "digits_mse", "digits_perceptual", "digits_joint"),
        *("streets_two_stage", "streets_segmenter"),
    )
}


def main_config(path: Path) -> Path:
    """What a config is laid over."""
    if path in COMPLETE:
        return path
    streets = path.name in ("camvid.yaml", "cityscapes.yaml")
    kind = "streets" if streets else path.name.split("_")[0]
    return Path(f"configs/{kind}_two_stage.yaml" if kind in ("digits", "streets") else "configs/taco.yaml")


def documented(path: Path) -> list[str]:
    """The configs of the command in the config's head; where it has none, its main config and itself."""
    command = re.search(r"^# +command +python -m lightning_modules\.cli \w+((?: -c \S+)+)", path.read_text(), re.M)
    configs = [word for word in command[1].split() if word != "-c"] if command else [str(main_config(path))]
    return list(dict.fromkeys([*configs, str(path)]))


class ParseOnly(ExperimentCLI):
    """Stops before anything is built."""

    def before_instantiate_classes(self) -> None:
        return

    def instantiate_classes(self) -> None:
        return

    def _run_subcommand(self, subcommand: str) -> None:
        return


def parse(*args: str) -> dict:
    cli = ParseOnly(
        L.LightningModule,
        L.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        parser_kwargs={"parser_mode": "omegaconf+"},
        auto_configure_optimizers=False,
        args=["fit", *args],
    )
    assert isinstance(cli.parser, ArgumentParser)
    return cli.config["fit"].as_dict()


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_config_parses(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# "), "a config says what it is for"
    main = main_config(path)
    config = parse(*(word for config in documented(path) for word in ("-c", config)))
    asked = yaml.safe_load(text).get("model", {}).get("class_path")
    assert config["model"]["class_path"] == (asked or yaml.safe_load(main.read_text())["model"]["class_path"])


def test_taco_is_the_papers_recipe() -> None:
    config = parse("-c", "configs/taco.yaml")
    model, data, trainer = config["model"]["init_args"], config["data"]["init_args"], config["trainer"]
    assert (model["k_p"], model["k_j"], model["joint"]["beta"]) == (3.5, 0.0025, 40)
    assert model["lmbda"] in [4e-4, 8e-4, 16e-4, 40e-4, 90e-4, 150e-4]
    assert (model["N"], model["M"], model["slices"]) == (192, 320, [16, 16, 32, 64, 192])
    assert (model["clip"]["pretrained"], model["clip"]["max_tokens"], model["lpips"]["net"]) == (True, 38, "alex")
    assert (model["learning_rate"], model["milestones"], model["decay"]) == (1e-4, [45, 48], 0.1)
    assert (trainer["max_epochs"], trainer["gradient_clip_val"], trainer["precision"]) == (50, 1.0, "32-true")
    assert config["data"]["class_path"].endswith("StreamingCaptionsDataModule")
    assert (data["train_names"], data["samples_per_epoch"]) == ("COCO_train2014_*", 414_113)
    assert (data["batch_size"], data["crop_size"], data["captions"]) == (4, 256, "all")


def test_every_key_of_the_recipe_has_a_comment() -> None:
    lines = (ROOT / "configs/taco.yaml").read_text().splitlines()
    model = lines[lines.index("model:") :]
    silent = [line for line in model if ":" in line and "#" not in line and "class_path" not in line]
    assert {line.split(":")[0].strip() for line in silent} <= {
        *("model", "init_args", "data", "clip", "lpips", "joint", "num_workers", "seed"),
        *("train_split", "test_split", "image_column", "caption_column", "name_column"),
    }


@pytest.mark.parametrize(("data", "table"), [("camvid", "camvid12"), ("cityscapes", "cityscapes34")])
def test_street_scenes_are_judged_by_a_network_of_their_own_table(data: str, table: str) -> None:
    streets = parse("-c", "configs/streets_two_stage.yaml", "-c", f"configs/data/{data}.yaml")
    (judge,) = [c for c in streets["trainer"]["callbacks"] if c["class_path"].endswith("MeanIou")]
    segmenter = judge["init_args"]["segmenter"]["init_args"]
    made = parse(*segmenter["make"].split()[1:])
    for section in ("model", "data"):
        assert made[section]["init_args"]["class_table"] == table == streets["data"]["init_args"]["class_table"]
    assert made["data"]["init_args"]["layout"] == data
    assert segmenter["checkpoint"] == f"{made['run_dir']}/last.ckpt"
