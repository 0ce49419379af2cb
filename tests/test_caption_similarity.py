"""Captions of both sides, compared by BLEU-4, CIDEr-D and SPICE."""

import csv
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from callbacks import ResultRecord
from callbacks.caption_similarity import CaptionSimilarity
from callbacks.captioners import CaptionFile, HuggingFaceCaptioner
from callbacks.metrics import spice as spice_module
from callbacks.metrics.caption_tokens import tokenise
from callbacks.metrics.captions import bleu_4, cider_d
from callbacks.metrics.spice import PARSER, spice, spice_program
from callbacks.metrics.value import NotAvailable
from datamodules.captions import read_captions
from lightning_modules.errors import PretrainedError
from tests import captioner_models
from tests.callback_helpers import TinyCodec, TinyImages, images_of, loader, record, run_test
from tests.captioner_models import files
from tests.conftest import two_processes

SAID = {
    "im0.jpg": ("A dog runs on the green grass.", "a dog runs on green grass"),
    "im1.jpg": ("Two women with red hats sit by a tree.", "two women sit by a tree"),
    "im4.jpg": ("a boat on the water next to a pier", "a boat on the water next to a pier"),
    "im7.jpg": ("a brick building with red doors", "a wall"),
    "im8.jpg": ("a cat lies on a blue sofa", "a dog lies on a blue sofa"),
}


def tokens(side: int) -> dict[str, list[str]]:
    return {name: [tokenise(captions[side])] for name, captions in SAID.items()}


class TestTokens:
    @pytest.mark.parametrize(
        ("caption", "expected"),
        [
            ("A man stands. He waves!", "a man stands he waves"),
            ("they don't; it's the dogs' toys", "they do n't it 's the dogs toys"),
            ("Mr. Smith (left) at 3.5 ft. on Main St.", "mr. smith -lrb- left -rrb- at 3.5 ft. on main st."),
            ("a sign reads 'STOP' — rock 'n' roll…", "a sign reads stop rock 'n' roll"),
            ("what?? bus No. 5 or no. Dogs", "what ?? bus no. 5 or no dogs"),
            (" .,- \n", ""),
            ("", ""),
        ],
    )
    def test_as_the_coco_evaluation(self, caption, expected):
        assert tokenise(caption) == expected

    @pytest.mark.skipif(shutil.which("java") is None, reason="no java on PATH: the reference tokeniser cannot run")
    def test_equal_to_the_java_tokeniser_on_real_captions(self, data_root):
        captions = [
            text for name in ("clic", "kodak") for text in published(data_root / "captions" / f"{name}_ofa.json")
        ]
        for path in sorted((data_root / "coco_mini" / "annotations").glob("captions_*.json")):
            captions += [row["caption"] for row in json.loads(path.read_text())["annotations"]]
        with (data_root / "flickr8k_1k" / "captions.csv").open() as file:
            captions += [row["caption"] for row in csv.DictReader(file)]
        assert len(captions) > 6500
        java = PTBTokenizer().tokenize({i: [{"caption": caption}] for i, caption in enumerate(captions)})
        differing = [caption for i, caption in enumerate(captions) if tokenise(caption) != java[i][0]]
        assert differing == []


def published(path: Path) -> list[str]:
    return [caption for captions in read_captions(path).values() for caption in captions]


class TestFigures:
    def test_equal_to_pycocoevalcap(self):
        references, reconstructions = tokens(0), tokens(1)
        hypotheses = {name: caption for name, (caption,) in reconstructions.items()}
        bleus, _ = Bleu(4).compute_score(references, reconstructions, verbose=0)
        assert bleu_4(references, hypotheses) == pytest.approx(bleus[3], rel=1e-12)
        assert 0.3 < bleus[3] < 0.9
        expected, _ = Cider().compute_score(references, reconstructions)
        assert cider_d(references, hypotheses) == pytest.approx(expected, rel=1e-12)
        # Several references of an image, as in the COCO evaluation.
        several = {name: [*captions, "a dog on a boat"] for name, captions in references.items()}
        bleus, _ = Bleu(4).compute_score(several, reconstructions, verbose=0)
        assert bleu_4(several, hypotheses) == pytest.approx(bleus[3], rel=1e-12)
        assert cider_d(several, hypotheses) == pytest.approx(Cider().compute_score(several, reconstructions)[0])

    def test_identical_captions_score_the_maximum(self):
        references = tokens(0)
        hypotheses = {name: caption for name, (caption,) in references.items()}
        assert bleu_4(references, hypotheses) == pytest.approx(1)
        assert cider_d(references, hypotheses) == pytest.approx(10)

    def test_cider_depends_on_the_set(self):
        references = tokens(0)
        hypotheses = {name: caption for name, (caption,) in tokens(1).items()}
        two = ["im0.jpg", "im8.jpg"]
        part = cider_d({name: references[name] for name in two}, {name: hypotheses[name] for name in two})
        _, scores = Cider().compute_score(references, tokens(1))
        whole = dict(zip(references, scores, strict=True))
        assert part != pytest.approx(sum(whole[name] for name in two) / 2, rel=1e-3)

    def test_what_has_no_value(self):
        assert isinstance(bleu_4({"a": ["a red dog"]}, {"a": "a red dog"}), NotAvailable)
        assert bleu_4({"a": ["a red dog runs"]}, {"a": "a red dog runs"}) == pytest.approx(1)
        assert "2 images" in cider_d({"a": ["a red dog runs"]}, {"a": "a red dog runs"}).reason
        same = {"a": ["a red dog runs"], "b": ["a red dog runs"]}
        assert "same" in cider_d(same, {"a": "a red dog runs", "b": "a cat"}).reason
        assert cider_d({"a": ["a red dog runs"], "b": ["the sea"]}, {"a": "", "b": ""}) == 0

    @pytest.mark.parametrize(
        ("references", "hypotheses", "message"),
        [({}, {}, "no captions"), ({"a": ["x"]}, {"b": "x"}, "'a'"), ({"a": []}, {"a": "x"}, "no reference")],
    )
    def test_what_does_not_fit(self, references, hypotheses, message):
        for figure in (bleu_4, cider_d, spice):
            with pytest.raises(ValueError, match=message):
                figure(references, hypotheses)


def executable(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def parser(tmp_path) -> str:
    """A folder that looks as if it held the parser."""
    folder = tmp_path / "jars"
    folder.mkdir()
    for name in PARSER:
        (folder / name).write_bytes(b"")
    return str(folder)


@pytest.fixture
def java(tmp_path, monkeypatch):
    """Puts a script named `java` first on PATH; it answers the question for its version by itself."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def install(version: str, otherwise: str = "exit 1") -> None:
        answer = f"echo 'openjdk version \"{version}\"' >&2; exit 0"
        executable(folder / "java", f'if [ "$1" = "-version" ]; then {answer}; fi\n{otherwise}')

    return install


class TestSpice:
    def test_absent_parser_is_named_and_nothing_is_downloaded(self, tmp_path, java):
        java("1.8.0_402")
        program = spice_program(str(tmp_path))
        assert isinstance(program, NotAvailable)
        for part in (*PARSER, str(tmp_path), "spice_jars"):
            assert part in program.reason
        assert "java" not in program.reason
        assert spice(tokens(0), dict.fromkeys(SAID, "a dog"), str(tmp_path)) == program

    def test_absent_java(self, parser, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        assert spice_program(parser) == NotAvailable("SPICE: there is no java on PATH: install Java 8 to 14")

    @pytest.mark.parametrize(
        ("version", "fits"), [("1.8.0_402", True), ("11.0.2", True), ("17.0.15", False), ("1.7", False)]
    )
    def test_java_versions(self, parser, java, version, fits):
        java(version)
        assert isinstance(spice_program(parser), list) == fits

    def test_java_that_fails_is_reported(self, parser, java):
        java("11.0.2", "echo 'Exception in thread \"main\" java.lang.OutOfMemoryError' >&2; exit 1")
        value = spice(tokens(0), dict.fromkeys(SAID, "a dog"), parser)
        assert isinstance(value, NotAvailable) and "status 1" in value.reason and "OutOfMemoryError" in value.reason

    @pytest.mark.skipif(shutil.which("java") is None, reason="no java on PATH")
    def test_the_real_program_starts_and_its_error_is_reported(self, parser, monkeypatch):
        """With empty files for the parser, SPICE's own main class runs until it needs the parser."""
        monkeypatch.setattr(spice_module, "NEWEST_JAVA", 99)
        value = spice({"a": ["a dog"]}, {"a": "a dog"}, parser)
        assert isinstance(value, NotAvailable)
        assert "ClassNotFoundException: edu.stanford.nlp" in value.reason

    def test_question_and_answer(self, parser, java, tmp_path):
        """The program's own file formats, of its documentation."""
        scores = {"im0.jpg": 0.5, "im1.jpg": 0.25, "im4.jpg": 1.0, "im7.jpg": 0.0, "im8.jpg": 0.75}
        answer = [
            {"image_id": name, "scores": {"All": {"f": f, "pr": f}, "Color": {"f": None}}}
            for name, f in scores.items()
        ]
        (tmp_path / "answer.json").write_text(json.dumps(answer))
        java(
            "11.0.2", f'echo "$@" > {tmp_path}/call; cp "$5" {tmp_path}/question.json; cp {tmp_path}/answer.json "$7"'
        )
        references = tokens(0) | {"im0.jpg": ["un été", "a dog"]}
        hypotheses = {name: caption for name, (caption,) in tokens(1).items()}
        assert spice(references, hypotheses, parser) == 0.5
        call = (tmp_path / "call").read_text().split()
        assert call[3] == "edu.anu.spice.SpiceScorer" and call[5] == "-out" and "-cache" not in call
        asked = {row["image_id"]: row for row in json.loads((tmp_path / "question.json").read_text(encoding="ascii"))}
        assert asked["im0.jpg"] == {"image_id": "im0.jpg", "test": hypotheses["im0.jpg"], "refs": ["un été", "a dog"]}
        assert not Path(call[4]).exists()


class TestCallback:
    def test_figures_record_and_kept_captions(self, tmp_path):
        names = set(images_of(TinyImages(5)))
        assert names == set(SAID)
        metric = CaptionSimilarity(files(tmp_path, SAID), spice_jars=str(tmp_path / "jars"))
        with pytest.warns(UserWarning, match="spice will be recorded as not available"):
            run_test(tmp_path / "run", metric, ResultRecord(), data=loader(5, batch_size=2))
        hypotheses = {name: text for name, (text,) in tokens(1).items()}
        written = record(tmp_path / "run")
        assert written["mean"] == {
            "bleu_4": pytest.approx(bleu_4(tokens(0), hypotheses), rel=1e-12),
            "cider_d": pytest.approx(cider_d(tokens(0), hypotheses), rel=1e-12),
        }
        assert "stanford-corenlp-3.6.0-models.jar" in written["not_available"]["spice"]
        assert written["protocols"]["cider_d"]["captions"]["originals"]["file"] == "original.json"
        assert metric.details["tiny"]["cider_d"] == {"images": 5, "without_reference": 0, "empty_captions": 0}
        # The captions that were kept give the same figures again.
        kept = tmp_path / "run" / "captions" / "tiny"
        again = CaptionSimilarity(CaptionFile(str(kept / "originals.json"), str(kept / "reconstructions.json")))
        run_test(tmp_path / "again", again, data=loader(5))
        assert again.summary == metric.summary

    def test_a_model_captions_both_sides(self, tmp_path):
        folder = captioner_models.blip(tmp_path / "blip")
        metric = CaptionSimilarity(HuggingFaceCaptioner(folder, max_new_tokens=6))
        run_test(tmp_path, metric, model=TinyCodec(levels=255), data=loader(3, batch_size=3))
        pairs = metric.captions["tiny"].values()
        assert all(pair.original == pair.reconstruction for pair in pairs)  # 255 levels lose nothing
        assert metric.summary["tiny"]["bleu_4"] == pytest.approx(1)
        assert metric.protocol()["captions"]["architecture"] == "BlipForConditionalGeneration"
        run_test(tmp_path, metric, model=TinyCodec(levels=1), data=loader(3, batch_size=3))
        assert any(pair.original != pair.reconstruction for pair in metric.captions["tiny"].values())

    def test_one_image_has_bleu_only(self, tmp_path):
        metric = CaptionSimilarity(files(tmp_path, SAID))
        run_test(tmp_path, metric, data=loader(1))
        assert set(metric.summary["tiny"]) == {"bleu_4"}
        assert "2 images" in metric.not_available["tiny"]["cider_d"]

    def test_empty_captions(self, tmp_path):
        said = SAID | {"im0.jpg": ("...", "a dog"), "im8.jpg": (SAID["im8.jpg"][0], "")}
        metric = CaptionSimilarity(files(tmp_path, said))
        run_test(tmp_path, metric, data=loader(5))
        references = {name: [tokenise(said[name][0])] for name in said if name != "im0.jpg"}
        hypotheses = {name: tokenise(said[name][1]) for name in references}
        assert metric.summary["tiny"]["bleu_4"] == pytest.approx(bleu_4(references, hypotheses), rel=1e-12)
        assert metric.not_available["tiny"]["cider_d"].startswith("1 of 5 images: ")
        assert metric.details["tiny"]["bleu_4"] == {"images": 4, "without_reference": 1, "empty_captions": 1}
        nothing = CaptionSimilarity(files(tmp_path, dict.fromkeys(SAID, ("", "a dog"))))
        run_test(tmp_path, nothing, data=loader(5))
        assert nothing.summary == {}
        assert set(nothing.not_available["tiny"]) == {"bleu_4", "cider_d", "spice"}

    def test_missing_captioner(self, tmp_path):
        captioner = HuggingFaceCaptioner(str(tmp_path / "blip"))
        metric = CaptionSimilarity(captioner)
        with pytest.warns(UserWarning, match=r"config\.json"):
            run_test(tmp_path, metric, ResultRecord(), data=loader(2))
        reasons = record(tmp_path)["not_available"]
        assert set(reasons) == {"bleu_4", "cider_d", "spice"} and all(
            "config.json" in why for why in reasons.values()
        )
        with pytest.raises(PretrainedError, match=r"config\.json"):
            run_test(tmp_path, CaptionSimilarity(captioner, on_missing="raise"), data=loader(2))

    def test_two_processes_give_the_result_of_one(self, tmp_path):
        """5 images on 2 processes: the sampler repeats one, which must not count twice."""
        for run, options in (("one", {}), ("two", {"strategy": two_processes(), "devices": 2})):
            metrics = [CaptionSimilarity(files(tmp_path, SAID)), ResultRecord()]
            run_test(tmp_path / run, *metrics, **options)
        one, two = record(tmp_path / "one"), record(tmp_path / "two")
        assert len(two["images"]) == 5
        for key in ("images", "mean", "not_available", "protocols"):
            assert one[key] == two[key]
        kept = [
            (tmp_path / run / "captions" / "tiny" / "reconstructions.json").read_bytes() for run in ("one", "two")
        ]
        assert kept[0] == kept[1]
