from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mobilenets.cli.evaluate import main
from mobilenets.data.datasets import load_dataset
from mobilenets.errors import ArtifactError, BackendError, DataError, MobilenetsError, RunError
from mobilenets.exporters.export import export_onnx
from mobilenets.models.registry import create_model
from mobilenets.preprocessing import Preprocessing

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported network for the ten digits."""
    torch.manual_seed(0)
    model = create_model("mobilenet_v1", num_classes=10, width_mult=0.1, image_size=8).eval()
    path = tmp_path_factory.mktemp("exported") / "digits.onnx"
    export_onnx(model, path, preprocessing=Preprocessing(image_size=8), classes=tuple("0123456789"))
    return path


def test_an_artifact_is_scored_without_pytorch(artifact: Path) -> None:
    program = (
        "import sys\n"
        # Not None in sys.modules: tyro would take its presence there for PyTorch being loaded.
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'torchvision'): raise ImportError(name + ' is blocked')\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "from mobilenets.cli.evaluate import main\n"
        f"sys.exit(main([{str(artifact)!r}, '--data', 'digits', '--threads', '1', '--json']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["count"] > 300


def test_mirror_images_are_answered_on_request_alone_and_the_scores_say_so(
    artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = []
    for flags in ((), ("--flip-test",)):
        assert main([str(artifact), *flags, "--threads", "1", "--json"]) == 0
        scores.append(json.loads(capsys.readouterr().out))
    assert [one["flip_test"] for one in scores] == [False, True]
    assert main([str(artifact), "--flip-test", "--threads", "1"]) == 0
    assert "together with its mirror image" in " ".join(capsys.readouterr().out.split())


def test_listed_images_are_not_scored(artifact: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    test = load_dataset("digits").test
    (tmp_path / "exclude.txt").write_text("".join(f"{source.name}\tdull\n" for source in test.sources[:7]))
    assert main([str(artifact), "--threads", "1", "--json", "--exclude", str(tmp_path / "exclude.txt")]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["count"] == len(test) - 7
    assert "7 images left out, as exclude.txt lists them" in said.err


def test_another_backend_scores_the_same(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino")
    scores = []
    for backend in ("onnxruntime", "openvino"):
        assert main([str(artifact), "--backend", backend, "--threads", "1", "--json"]) == 0
        scores.append(json.loads(capsys.readouterr().out))
    assert scores[0]["top1"] == scores[1]["top1"]
    assert scores[0]["loss"] == pytest.approx(scores[1]["loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (("--device", "cpu"), MobilenetsError, "choose its `backend`"),
        (("--backend", "litert"), BackendError, "does not run onnx files"),
        (("--precision", "int8"), BackendError, "int8"),
        (("--threads", "0"), BackendError, "at least 1 thread"),
    ],
)
def test_what_an_artifact_does_not_take(
    artifact: Path, options: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        main([str(artifact), *options])


def test_what_a_run_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(MobilenetsError, match="`backend` is for an artifact"):
        main([str(tmp_path), "--backend", "openvino"])
    with pytest.raises(RunError, match="no run folder"):
        main([str(tmp_path)])


def test_a_damaged_artifact_and_other_classes(artifact: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="classes that the network does not know: cold, warm"):
        main([str(artifact), "--data", str(photos)])
    with pytest.raises(ArtifactError, match="no such file"):
        main([str(tmp_path / "missing.onnx")])
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(artifact.read_bytes()[:1000])
    with pytest.raises(ArtifactError):
        main([str(damaged)])
