from pathlib import Path

import numpy as np
import pytest
from described import describe

from mobilenets.artifact.container import write_artifact
from mobilenets.artifact.golden import GoldenPairs
from mobilenets.errors import ArtifactError, BackendError, DataError
from mobilenets.preprocessing import Preprocessing
from mobilenets.runtime.backend import choices, open_backend

interpreter = pytest.importorskip("ai_edge_litert.interpreter")
REAL = Path(__file__).parents[2] / "../shared/data/google/mobilenet_v1_0.25_128_quant.tflite"
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)


def google(folder, *, classes=1001, size=128, dynamic=False, content=None):
    golden = GoldenPairs(np.zeros((1, size, size, 3), np.uint8), np.zeros((1, classes), np.float32), 1.0)
    described = describe(
        "litert",
        precision="int8",
        classes=tuple(map(str, range(classes))),
        preprocessing=Preprocessing(image_size=size),
        golden=golden,
        dynamic_batch=dynamic,
    )
    return write_artifact(folder / "net.tflite", {"net": content or REAL.read_bytes()}, described)


@pytest.mark.skipif(not REAL.is_file(), reason="Google's files are not here")
class TestGooglesNetwork:
    def test_it_answers_as_the_interpreter_does(self, tmp_path, capfd):
        artifact = google(tmp_path)
        assert [(choice.backend, choice.precision) for choice in choices(artifact)] == [("litert", "int8")]
        backend = open_backend(artifact, threads=1)
        answers = backend.predict(IMAGES)
        assert capfd.readouterr() == ("", "")  # the interpreter's greeting
        assert (answers.dtype, answers.shape) == (np.float32, (3, 1001))
        by_hand = interpreter.Interpreter(model_path=str(REAL))
        by_hand.allocate_tensors()
        for image, answer in zip(IMAGES, answers, strict=True):
            by_hand.set_tensor(by_hand.get_input_details()[0]["index"], image[None])
            by_hand.invoke()
            output = by_hand.get_output_details()[0]
            scale, zero_point = output["quantization"]
            expected = (by_hand.get_tensor(output["index"])[0].astype(np.float32) - zero_point) * scale
            np.testing.assert_allclose(answer, expected, atol=scale)

    def test_a_file_that_incorrectly_guarantees_any_batch(self, tmp_path):
        backend = open_backend(google(tmp_path, dynamic=True), threads=1)
        with pytest.raises(BackendError, match="LiteRT can't answer 3 images at once") as caught:
            backend.predict(IMAGES)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("change", "said"), [({"classes": 1000}, "1001 logits"), ({"size": 96}, r"not the uint8 images \[B, 96")]
    )
    def test_a_file_that_is_not_what_its_description_says(self, tmp_path, change, said):
        with pytest.raises(ArtifactError, match=said):
            open_backend(google(tmp_path, **change))

    def test_images_of_another_size(self, tmp_path):
        with pytest.raises(DataError, match=r"takes uint8 images \[B, 128, 128, 3\]"):
            open_backend(google(tmp_path)).predict(IMAGES[:, :64])


def test_a_file_that_is_no_network(tmp_path, capfd):
    with pytest.raises(BackendError, match=r"net.tflite: LiteRT can't run it: \S") as caught:
        open_backend(google(tmp_path, content=b"\x1c\x00\x00\x00TFL3" * 40))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
