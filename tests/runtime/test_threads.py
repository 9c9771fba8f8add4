"""Every backend from several threads, in copies of a classifier, and in forked processes."""

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from described import SIZE, describe, plain, write_onnx
from executorch_files import colour_program
from PIL import Image

from mobilenets.artifact.container import read_artifact, write_artifact
from mobilenets.errors import ArtifactError, BackendError
from mobilenets.runtime.backend import open_backend
from mobilenets.runtime.classifier import Classifier

PACKAGES = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "litert": "ai_edge_litert",
    "executorch": "executorch",
}


@pytest.fixture(scope="session")
def litert_file(tmp_path_factory):
    """A MobileNetV2 whose answers depend on every layer."""
    pytest.importorskip("ai_edge_litert")
    from litert_files import expected, lively, noise

    from mobilenets.artifact.golden import GoldenPairs
    from mobilenets.exporters.litert.convert import to_litert
    from mobilenets.preprocessing import Preprocessing

    model, preprocessing = lively("mobilenet_v2", num_classes=3, image_size=16), Preprocessing(image_size=16)
    golden = GoldenPairs(noise(2, 16), expected(model, preprocessing, noise(2, 16)), 0.01)
    described = describe("litert", preprocessing=preprocessing, golden=golden)
    return write_artifact(
        tmp_path_factory.mktemp("litert") / "net.tflite", to_litert(model, preprocessing).payload, described
    ).path


@pytest.fixture
def file_for(request, tmp_path):
    """An artifact a backend runs."""

    def make(backend):
        pytest.importorskip(PACKAGES[backend])
        if backend == "litert":
            return request.getfixturevalue("litert_file")
        if backend == "executorch":
            payload = {"net": colour_program()}
            return write_artifact(tmp_path / "net.pte", payload, describe("executorch")).path
        return request.getfixturevalue("onnx_file")

    return make


def in_threads(count, work):
    """Run `work(number)` in so many threads at once and return what they raised."""
    with ThreadPoolExecutor(count) as pool:
        done = [pool.submit(work, number) for number in range(count)]
    return [error for one in done if (error := one.exception())]


@pytest.mark.slow
@pytest.mark.parametrize("backend", PACKAGES)
def test_eight_threads_with_mixed_batch_sizes_get_their_own_answers(file_for, backend):
    opened = open_backend(read_artifact(file_for(backend)), backend=backend, threads=1)
    size = opened.artifact.description.image_shape[0]
    images = np.random.default_rng(0).integers(0, 256, (24, size, size, 3), dtype=np.uint8)
    alone = np.concatenate([opened.predict(image[None]) for image in images])
    closest = np.abs(alone[:, None] - alone[None]).max(axis=2)[~np.eye(len(alone), dtype=bool)].min()
    checked, kept = [], []

    def work(seed):
        random = np.random.default_rng(seed)
        for _ in range(60):
            chosen = random.integers(0, len(images), random.integers(1, 9))
            answers = opened.predict(images[chosen])
            assert np.abs(answers - alone[chosen]).max() < closest / 4
            checked.append(len(chosen))
            if len(kept) < 200:
                kept.append((answers, answers.copy()))

    assert in_threads(8, work) == []
    assert len(checked) == 8 * 60
    assert all(np.array_equal(answers, then) for answers, then in kept)  # no answer is a view of a later one
    assert all(answers.flags.owndata for answers, _ in kept)


@pytest.mark.slow
def test_executorch_programs_with_other_numbers_of_threads_at_once(file_for):
    """The pool of threads is the process's: replaced while another thread computes, that would crash."""
    artifact = read_artifact(file_for("executorch"))
    backends = [open_backend(artifact, threads=threads) for threads in (1, 2, 1, 2)]

    def work(number):
        for _ in range(25):
            np.testing.assert_allclose(backends[number].predict(plain((9, 90, 200))), [[0.45, 4.5, 10.0]], atol=1e-4)

    assert in_threads(4, work) == []


def test_the_same_unread_picture_and_open_file_in_eight_threads(tmp_path):
    classifier = Classifier(write_onnx(tmp_path / "net.onnx").path)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    (expected,) = classifier.predict(tmp_path / "noise.png")
    for _ in range(5):
        with Image.open(tmp_path / "noise.png") as picture, (tmp_path / "noise.png").open("rb") as file:

            def work(number, given=(picture, file)):
                assert classifier.predict(given[number % 2])[0].top == expected.top

            assert in_threads(8, work) == []


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
@pytest.mark.parametrize("backend", PACKAGES)
@pytest.mark.slow
def test_a_copy_answers_the_same(file_for, backend, copied):
    classifier = Classifier(file_for(backend), backend=backend, threads=1, threshold=0.25)
    again = copied(classifier)
    picture = Image.new("RGB", (SIZE, SIZE), (10, 200, 30))
    assert again.predict(picture) == classifier.predict(picture)
    assert again.backend is not classifier.backend
    assert (again.backend.name, again.backend.threads, again.threshold) == (backend, 1, 0.25)


def test_a_pickle_is_small_and_finds_its_file_from_another_folder(tmp_path, monkeypatch):
    write_onnx(tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(Classifier("net.onnx"))
    assert len(pickled) < 1000
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pickle.loads(pickled).classes == ("red", "green", "blue")


def test_a_pickle_whose_file_is_gone_or_another(tmp_path):
    path = write_onnx(tmp_path / "net.onnx").path
    pickled = pickle.dumps(Classifier(path))
    write_onnx(path, provenance={"written by": "someone else"})
    with pytest.raises(ArtifactError, match=r"net.onnx: it is another file than the one this classifier was made with"):
        pickle.loads(pickled)
    path.unlink()
    with pytest.raises(ArtifactError, match=r"a copied classifier opens its file again: .*net.onnx: no such file"):
        pickle.loads(pickled)


def test_what_a_runtime_has_loaded_is_not_pickled(tmp_path):
    with pytest.raises(BackendError, match=r"net.onnx: a file loaded in a runtime can't be pickled or copied"):
        pickle.dumps(Classifier(write_onnx(tmp_path / "net.onnx").path).backend)


FORKING = """
import os, sys, threading
import numpy as np
from mobilenets.errors import ArtifactError, BackendError
from mobilenets.runtime.classifier import Classifier

path, backend, gone = sys.argv[1:]
classifier = Classifier(path, backend=backend, threads=2)
size = classifier.artifact.description.image_shape[0]
images = list(np.random.default_rng(0).integers(0, 256, (6, size, size, 3), dtype=np.uint8))
expected = classifier.predict(images)
assert classifier.predict(images[:1])
if gone == "gone":
    os.remove(path)
sys.stdout.flush()
child = os.fork()
if child == 0:
    try:
        classifier.backend.predict(np.stack(images))
    except BackendError as error:
        print(error)
    try:
        answers = classifier.predict(images)
        same = [a.label == b.label and abs(a.probability - b.probability) < 1e-4 for a, b in zip(answers, expected)]
        threads = [threading.Thread(target=classifier.predict, args=(images,)) for _ in range(3)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print("same", all(same), len(same))
    except ArtifactError as error:
        print(error)
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert classifier.predict(images) == expected
"""


def forked(path, backend, gone=""):
    command = [sys.executable, "-c", FORKING, str(path), backend, gone]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="forks are POSIX's")
@pytest.mark.parametrize("backend", PACKAGES)
def test_a_forked_process_opens_the_file_again(file_for, backend):
    refused, answered = forked(file_for(backend), backend)
    assert "loaded before this process was forked" in refused
    assert answered == "same True 6"


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="forks are POSIX's")
def test_a_forked_process_whose_file_is_gone(tmp_path):
    _, answered = forked(write_onnx(tmp_path / "net.onnx").path, "onnxruntime", "gone")
    assert "a copied classifier opens its file again" in answered
    assert "net.onnx: no such file" in answered


@pytest.mark.parametrize("backend", ["litert", "executorch"])
def test_what_is_loaded_later_is_of_the_file_as_it_was(file_for, backend, tmp_path):
    """A second interpreter, made when threads meet, must not be of what has taken the file's place since."""
    source = file_for(backend)
    path = Path(tmp_path / "moving" / source.name)
    path.parent.mkdir()
    path.write_bytes(source.read_bytes())
    opened = open_backend(read_artifact(path), threads=1)
    other = open_backend(read_artifact(source), threads=2)
    path.unlink()
    size = opened.artifact.description.image_shape[0]
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    expected = other.predict(images)

    def work(_):
        for _ in range(20):
            np.testing.assert_allclose(opened.predict(images), expected, atol=1e-4)

    assert in_threads(4, work) == []
