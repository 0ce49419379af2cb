"""SPICE through pycocoevalcap's Java program, where Java and Stanford's parser are."""

import json
import math
import os
import re
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

from callbacks.metrics.captions import Hypotheses, References, common_names
from callbacks.metrics.value import NotAvailable, Value

PARSER = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
"""What pycocoevalcap would download: of stanford-corenlp-full-2015-12-09.zip, stanfordnlp.github.io/CoreNLP."""

NEWEST_JAVA = 14
"""SPICE writes its results through Java's JavaScript engine, which Java 15 removed (JEP 372)."""

SETTING = "trainer.callbacks: callbacks.CaptionSimilarity.init_args.spice_jars"

_PROBE_SECONDS = 60


def spice_program(jars: str | None = None) -> list[str] | NotAvailable:
    """The command that starts SPICE, or what it lacks. It looks at files and asks Java its version; it downloads
    nothing.

    Args:
        jars: Folder that holds the files of `PARSER`; `None` for `lib` beside pycocoevalcap's `spice-1.0.jar`.
    """
    program = _package_folder() / "spice-1.0.jar"
    folder = program.parent / "lib" if jars is None else Path(jars).expanduser()
    lacking = []
    if not program.is_file():
        lacking.append(f"{program} is missing: install pycocoevalcap again")
    if missing := [name for name in PARSER if not (folder / name).is_file()]:
        lacking.append(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not in {folder}: put them there from "
            f"stanford-corenlp-full-2015-12-09.zip (stanfordnlp.github.io/CoreNLP), or set {SETTING} to their folder"
        )
    java = shutil.which("java")
    version = None if java is None else _java_version(java)
    if java is None:
        lacking.append(f"there is no java on PATH: install Java 8 to {NEWEST_JAVA}")
    elif version is None:
        lacking.append(f"{java} does not tell its version: put a working Java 8 to {NEWEST_JAVA} first on PATH")
    elif not 8 <= version <= NEWEST_JAVA:
        lacking.append(
            f"java on PATH is version {version}, but SPICE 1.0 needs 8 to {NEWEST_JAVA} (it uses the JavaScript "
            "engine that later ones lack): put one of these first on PATH"
        )
    if java is None or lacking:
        return NotAvailable("SPICE: " + "; ".join(lacking))
    class_path = os.pathsep.join([str(program), str(folder / "*")])
    return [java, "-Xmx8G", "-cp", class_path, "edu.anu.spice.SpiceScorer"]


def spice(references: References, hypotheses: Hypotheses, jars: str | None = None) -> Value:
    """SPICE of a set of captions (Anderson et al., 2016): mean over the images of the F-score of the objects,
    attributes and relations that the captions mention.

    It runs the Java program of pycocoevalcap with its options, but in a temporary folder and without a cache: nothing
    is written into the installed package.

    Args:
        references: What the captions should say.
        hypotheses: The captions, of the same images.
        jars: See `spice_program`.

    Returns:
        A value in [0, 1], higher is better; `NotAvailable` where Java or the parser is missing, or Java fails.

    Raises:
        ValueError: The images differ, there are none, or an image has no reference.
    """
    names = common_names(references, hypotheses)
    command = spice_program(jars)
    if isinstance(command, NotAvailable):
        return command
    asked = [{"image_id": name, "test": hypotheses[name], "refs": list(references[name])} for name in names]
    with tempfile.TemporaryDirectory(prefix="spice-") as folder:
        question, answer = Path(folder, "captions.json"), Path(folder, "scores.json")
        # ASCII, because Java reads files in the encoding of the locale.
        question.write_text(json.dumps(asked, ensure_ascii=True), encoding="ascii")
        options = [str(question), "-out", str(answer), "-subset", "-silent"]
        run = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, check=False)
        if run.returncode != 0 or not answer.is_file():
            return NotAvailable(f"SPICE: Java ended with status {run.returncode}: {_last_error(run.stderr)}")
        scores = {item["image_id"]: item["scores"]["All"]["f"] for item in json.loads(answer.read_text())}
    if scores.keys() != set(names):
        return NotAvailable(f"SPICE: Java answered for {len(scores)} of {len(names)} images")
    return math.fsum(float(scores[name]) for name in names) / len(names)


def _package_folder() -> Path:
    # Found without importing it: the module of SPICE is written so that making a scorer downloads what is missing.
    spec = find_spec("pycocoevalcap")
    assert spec is not None and spec.submodule_search_locations, "pycocoevalcap is a dependency"
    return Path(next(iter(spec.submodule_search_locations))) / "spice"


def _java_version(java: str) -> int | None:
    """Major version, 8 for "1.8.0_402"."""
    try:
        run = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', run.stderr + run.stdout)
    return int(found[1]) if found else None


def _last_error(text: str) -> str:
    """The line of a stack trace that says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if ("Exception" in line or "Error" in line) and not line.startswith("at ")]
    return (told or lines or ["no message"])[-1]
