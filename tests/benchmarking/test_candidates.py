from dataclasses import replace
from pathlib import Path

import pytest
from described import write_onnx

from mobilenets.artifact.container import read_artifact
from mobilenets.benchmarking.candidates import (
    BenchmarkCandidate,
    Wanted,
    distinct_names,
    distinctly_labelled,
    find_candidates,
    find_peers,
    label,
    network_words,
)
from mobilenets.errors import BackendError, MobilenetsError
from mobilenets.machine import usable_cores
from mobilenets.runtime.backend import choices

pytestmark = pytest.mark.slow


@pytest.fixture
def artifact(onnx_file):
    return read_artifact(onnx_file)


def test_every_installed_way_with_every_number_of_threads(artifact):
    found = find_candidates([artifact], Wanted(threads=(1, 2)))
    ways = [(one.backend, one.precision) for one in choices(artifact)]
    assert [(one.backend, one.precision, one.threads) for one in found] == [(*way, n) for way in ways for n in (1, 2)]
    assert len({one.label for one in found}) == len(found)
    assert not any(one.peer for one in found)


def test_without_a_word_one_thread_and_every_core():
    assert Wanted().thread_counts == tuple(dict.fromkeys((1, usable_cores())))
    assert Wanted(threads=(2, 2, 1)).thread_counts == (2, 1)


def test_restrictions(artifact):
    found = find_candidates([artifact], Wanted(("onnxruntime",), ("fp32",), (1,)))
    assert [one.label for one in found] == ["model.onnx, ONNX Runtime fp32, 1 thread"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted(backends=("tensorrt",)), "no backend tensorrt; there are onnxruntime"),
        (Wanted(backends=("litert",)), "litert"),
        (Wanted(backends=("onnxruntime",), precisions=("int8",)), "runs in int8 here; they run in fp32"),
        (Wanted(threads=(0,)), "at least 1 thread, not 0"),
    ],
)
def test_what_nothing_can_do_is_refused(artifact, wanted, message):
    with pytest.raises(MobilenetsError, match=message):
        find_candidates([artifact], wanted)


def test_peers(artifact, onnx_file):
    found = find_peers(["pytorch", "onnxruntime", str(onnx_file)], [artifact], (1, 2))
    assert [(one.source, one.backend, one.threads) for one in found] == [
        (source, backend, threads)
        for source, backend in (("pytorch", "pytorch"), ("file", "onnxruntime"), ("artifact", "onnxruntime"))
        for threads in (1, 2)
    ]
    assert all(one.peer for one in found)
    assert len({one.label for one in found}) == len(found)
    assert '"mobilenet_v2"' in found[0].arguments
    assert [one.default_threads for one in found[2:4]] == [usable_cores() == threads for threads in (1, 2)]


def test_a_third_party_file_is_a_peer_by_its_suffix(tmp_path, artifact):
    path = tmp_path / "theirs.tflite"
    path.write_bytes(b"TFL3" * 8)
    (peer,) = find_peers([str(path)], [artifact], (1,))
    assert (peer.source, peer.backend, peer.label) == (
        "file",
        "litert",
        "theirs.tflite, LiteRT with its defaults, 1 thread",
    )
    assert peer.file_bytes == 32


def test_files_of_one_name_are_told_apart_also_from_peers(tmp_path):
    mine = write_onnx(tmp_path / "mine" / "model.onnx")
    theirs = tmp_path / "theirs" / "model.onnx"
    theirs.parent.mkdir()
    theirs.write_bytes(b"no artifact")
    against = ["onnxruntime", str(theirs), str(mine.path), f"{theirs.parent}/./model.onnx"]
    found = find_candidates([mine], Wanted(("onnxruntime",), threads=(1,)), against)
    found += find_peers(against, [mine], (1,))
    assert [one.label for one in found] == [
        "mine/model.onnx, ONNX Runtime fp32, 1 thread",
        "mine/model.onnx, ONNX Runtime with its defaults, 1 thread",
        "theirs/model.onnx, ONNX Runtime with its defaults, 1 thread",
        "mine/model.onnx, ONNX Runtime fp32, 1 thread (peer)",
    ]


def test_what_is_labelled_the_same_is_numbered(artifact):
    (one,) = find_candidates([artifact], Wanted(("onnxruntime",), threads=(1,)))
    labels = [each.label for each in distinctly_labelled([one, one, replace(one, label="other"), one])]
    assert labels == [one.label, f"{one.label} (2)", "other", f"{one.label} (3)"]


def test_a_peer_that_is_none_is_refused(artifact, tmp_path):
    with pytest.raises(BackendError, match=r"a peer is pytorch, onnxruntime, openvino, an artifact"):
        find_peers(["tensorflow"], [artifact], (1,))
    with pytest.raises(BackendError, match="a peer is"):
        find_peers([str(tmp_path / "missing.onnx")], [artifact], (1,))


def test_a_candidate_travels_as_json(artifact):
    for one in find_candidates([artifact], Wanted(threads=(1,))):
        assert BenchmarkCandidate.from_json(one.to_json()) == one
        assert one.file_bytes == artifact.path.stat().st_size


def test_names():
    assert distinct_names([Path("a/m.onnx"), Path("b/m.onnx")]) == ("a/m.onnx", "b/m.onnx")
    assert distinct_names([Path("a/m.onnx"), Path("a/n.onnx")]) == ("m.onnx", "n.onnx")
    assert label("", "pytorch", "", 2) == "PyTorch eager, 2 threads"
    assert network_words({"name": "mobilenet_v2", "width_mult": 0.35, "image_size": 96}) == "mobilenet_v2 x0.35 96 px"
    assert network_words({"name": "Own"}) == "Own"
