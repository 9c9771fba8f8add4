import contextlib
import shutil
import zipfile
from pathlib import Path

import onnx
import pytest
from described import CLASSES, colour_onnx, describe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobilenets.artifact.container import (
    DOCUMENT,
    SUFFIXES,
    check_suffix,
    read_artifact,
    read_payload,
    write_artifact,
)
from mobilenets.errors import ArtifactError, RunError

PAYLOADS = {
    "onnx": {"model.onnx": colour_onnx()},
    "openvino": {"model.xml": b"<net/>" * 9, "model.bin": bytes(range(256))},
    "litert": {"model.tflite": b"\x1c\x00\x00\x00TFL3" + bytes(range(256)) * 3},
    "executorch": {"model.pte": b"\x1c\x00\x00\x00ET12" + bytes(range(256)) * 3},
}
FILES = ("onnx", "litert", "executorch")
REAL = Path(__file__).parents[2] / "../shared/data/google/mobilenet_v1_0.25_128_quant.tflite"


def written(folder, kind, **changes):
    return write_artifact(folder / f"net{SUFFIXES[kind]}", PAYLOADS[kind], describe(kind, **changes))


@pytest.mark.parametrize("kind", PAYLOADS)
def test_what_is_written_is_read(tmp_path, kind):
    artifact = written(tmp_path, kind)
    back = read_artifact(artifact.path)
    assert back.description.to_json() == artifact.description.to_json()
    assert back.description.digest.startswith("sha256:")
    assert back.model_path.is_file()
    on_disk = [artifact.path] if artifact.path.is_file() else list(artifact.path.iterdir())
    assert back.file_bytes == sum(file.stat().st_size for file in on_disk)


@pytest.mark.parametrize("kind", PAYLOADS)
def test_the_payload_is_what_was_written(tmp_path, kind):
    artifact = written(tmp_path, kind)
    payload = read_payload(artifact)
    assert list(payload.values()) == list(PAYLOADS[kind].values())
    again = write_artifact(tmp_path / f"again{SUFFIXES[kind]}", payload, describe(kind))
    assert again.description.digest == artifact.description.digest
    artifact.model_path.unlink()
    with pytest.raises(ArtifactError, match="can't be read"):
        read_payload(artifact)


@pytest.mark.parametrize("kind", PAYLOADS)
def test_the_same_again_gives_the_same_bytes(tmp_path, kind):
    first, again = written(tmp_path / "a", kind), written(tmp_path / "b", kind)
    assert first.description.digest == again.description.digest
    for name in ["net"] if first.path.is_file() else ["net/model.xml", "net/model.bin", f"net/{DOCUMENT}"]:
        files = [tmp_path / side / (name + SUFFIXES[kind]) for side in "ab"]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_the_formats_own_tools_read_the_files(tmp_path):
    model = onnx.load(written(tmp_path, "onnx").path)
    onnx.checker.check_model(model)
    assert [entry.key for entry in model.metadata_props] == ["mobilenets"]
    with zipfile.ZipFile(written(tmp_path, "litert").path) as associated:
        assert associated.read("labels.txt").decode().split() == list(CLASSES)
        assert associated.testzip() is None


@pytest.mark.parametrize("kind", PAYLOADS)
def test_writing_over_an_artifact_replaces_it(tmp_path, kind):
    written(tmp_path, kind)
    artifact = written(tmp_path, kind, classes=("x", "y", "z"))
    assert read_artifact(artifact.path).description.classes == ("x", "y", "z")


@pytest.mark.parametrize("kind", FILES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_noticed(tmp_path, kind, data):
    artifact = written(tmp_path, kind)
    content = bytearray(artifact.path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    artifact.path.write_bytes(content)
    if kind == "onnx" or place < len(next(iter(PAYLOADS[kind].values()))):
        with pytest.raises(ArtifactError):
            read_artifact(artifact.path)
        return
    # What only other tools look at in the zip behind a model (dates, labels.txt) is not part of the guarantee.
    with contextlib.suppress(ArtifactError):
        assert read_artifact(artifact.path).description.to_json() == artifact.description.to_json()


@pytest.mark.parametrize("name", ["model.xml", "model.bin", DOCUMENT])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_of_a_folder_is_noticed(tmp_path, name, data):
    file = written(tmp_path, "openvino").path / name
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    with pytest.raises(ArtifactError):
        read_artifact(file.parent)


@pytest.mark.parametrize("kind", FILES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999))
def test_any_truncation_is_noticed(tmp_path, kind, share):
    artifact = written(tmp_path, kind)
    content = artifact.path.read_bytes()
    artifact.path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ArtifactError, match="export"):
        read_artifact(artifact.path)


def test_nothing_there(tmp_path):
    with pytest.raises(ArtifactError, match="no such file"):
        read_artifact(tmp_path / "net.onnx")
    (tmp_path / "net.tflite").touch()
    with pytest.raises(ArtifactError, match=r"net.tflite: empty file \(0 bytes\)"):
        read_artifact(tmp_path / "net.tflite")


def test_other_tools_files_are_refused(tmp_path):
    (tmp_path / "other.onnx").write_bytes(colour_onnx())
    (tmp_path / "other.tflite").write_bytes(PAYLOADS["litert"]["model.tflite"])
    (tmp_path / "text.onnx").write_text("no network\n" * 9)
    (tmp_path / "net.pt").write_bytes(b"PK")
    for name, said in (
        ("other.onnx", "not written by mobilenets"),
        ("other.tflite", "not written by mobilenets"),
        ("text.onnx", "no ONNX file"),
        ("net.pt", r"known are .onnx, .tflite, .pte and OpenVINO's folders"),
    ):
        with pytest.raises(ArtifactError, match=said):
            read_artifact(tmp_path / name)


@pytest.mark.skipif(not REAL.is_file(), reason="Google's files are not here")
def test_googles_own_file_is_foreign():
    with pytest.raises(ArtifactError, match="not written by mobilenets"):
        read_artifact(REAL)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(ArtifactError, match=r"no artifact \(no mobilenets.json in this folder\); export a run"):
        read_artifact(tmp_path)
    deployed = tmp_path / "device"
    (deployed / "model-openvino").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="export a run"):
        read_artifact(deployed)
    (deployed / "model-openvino" / "mobilenets.json").touch()
    with pytest.raises(ArtifactError, match=r"it holds model-openvino: give .*device/model-openvino$"):
        read_artifact(deployed)
    (deployed / "a.tflite").touch()
    with pytest.raises(ArtifactError, match=r"it holds a\.tflite: give .*device/a\.tflite$"):
        read_artifact(deployed)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(ArtifactError, match="it is a run folder: export it first"):
        read_artifact(tmp_path)


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_a_folder_that_lacks_a_file(tmp_path, name):
    artifact = written(tmp_path, "openvino")
    (artifact.path / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name}: can't be read"):
        read_artifact(artifact.path)


def test_parts_of_two_exports_do_not_go_together(tmp_path):
    first = written(tmp_path / "a", "openvino")
    other = write_artifact(tmp_path / "b/net", {"model.xml": b"<net/>", "model.bin": b"other"}, describe("openvino"))
    shutil.copy(other.path / "model.bin", first.path)
    with pytest.raises(ArtifactError, match="its digest differs"):
        read_artifact(first.path)


@pytest.mark.parametrize("name", [".", "/", ".."])
def test_a_place_is_no_name(name):
    with pytest.raises(ArtifactError, match=r"give a name ending in \.onnx$"):
        check_suffix(Path(name), "onnx")


def test_a_wrong_suffix_is_refused(tmp_path):
    artifact = written(tmp_path, "litert")
    renamed = artifact.path.rename(tmp_path / "net.pte")
    with pytest.raises(ArtifactError, match="it says it is litert"):
        read_artifact(renamed)
    for name, kind in (("net.pte", "onnx"), ("net", "litert"), ("net.onnx", "openvino"), ("net.xml", "openvino")):
        with pytest.raises(ArtifactError, match="give"):
            check_suffix(Path(name), kind)


def test_payloads_of_another_kind(tmp_path):
    with pytest.raises(ArtifactError, match=r"onnx is one file, not a, b"):
        write_artifact(tmp_path / "net.onnx", {"a": b"", "b": b""}, describe())
    with pytest.raises(ArtifactError, match=r"openvino is model.xml and model.bin, not model.xml"):
        write_artifact(tmp_path / "net", {"model.xml": b""}, describe("openvino"))
    (tmp_path / "taken").touch()
    with pytest.raises(RunError, match="there is a file of that name"):
        write_artifact(tmp_path / "taken", PAYLOADS["openvino"], describe("openvino"))
