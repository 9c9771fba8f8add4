"""The table of readers that `fuzz.py` tries: how each one's sound files are made, and how the product reads them.

To add a reader, write a function that puts sound files into a folder and returns their paths, and append a row.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from fuzz import Reader
from fuzz_mutations import (
    edit_head_words,
    edit_json,
    edit_json_lines,
    edit_lines,
    edit_numbers,
    edit_safetensors,
    edit_tar,
    edit_varints,
    edit_words,
    edit_zip,
)

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))  # described, tflite_writer

CLASSES = ("cat", "dog", "owl")


def picture(number: int) -> bytes:
    """A PNG of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (9, 8), (number * 40 % 256, 90, 7)).save(file, "PNG")
    return file.getvalue()


def run_folder(folder: Path) -> Path:
    """What training leaves: the smallest network here."""
    import torch

    from mobilenets.models.registry import create_model
    from mobilenets.models.saved import SavedNetwork, save_network
    from mobilenets.preprocessing import Preprocessing

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = create_model("mobilenet_v1", num_classes=3, width_mult=0.25, image_size=32)
    save_network(folder, SavedNetwork(model, CLASSES, Preprocessing(image_size=32), {"mobilenets": "0"}))
    return folder


def _descriptions(folder: Path) -> Sequence[Path]:
    return [run_folder(folder) / "model.json"]


def _tensors(folder: Path) -> Sequence[Path]:
    return [run_folder(folder) / "model.safetensors"]


def _read_run(path: Path) -> None:
    from mobilenets.errors import MobilenetsError
    from mobilenets.models.saved import load_network
    from mobilenets.models.weights.read import read_weights

    try:
        load_network(path.parent)
    finally:
        with contextlib.suppress(MobilenetsError):
            read_weights(path.parent)


def _recipes(folder: Path) -> Sequence[Path]:
    from mobilenets.training.recipe import load_recipe

    paths = []
    for name in ("strong", "paper-v3"):
        path = folder / f"{name}.toml"
        path.write_text(f"# {name}\n{load_recipe(name).to_toml()}")
        paths.append(path)
    return paths


def _read_recipe(path: Path) -> None:
    from mobilenets.training.recipe import load_recipe

    load_recipe(path)


def _exclusions(folder: Path) -> Sequence[Path]:
    from mobilenets.data.sources import write_exclusions

    path = folder / "exclude.txt"
    write_exclusions(path, {"cat/1.png": "copy of dog/2.png", "a\tb\n.png": "odd", '"x".png': "é"}, "a list")
    return [path]


def _read_exclusions(path: Path) -> None:
    from mobilenets.data.sources import read_exclusions

    read_exclusions(path)


def _zips(folder: Path) -> Sequence[Path]:
    path = folder / "images.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(12):
            file.writestr(f"{CLASSES[number % 3]}/{number}.png", picture(number))
    return [path]


def _read_images(path: Path) -> None:
    from mobilenets.data.datasets import load_dataset
    from mobilenets.errors import BadImagesError

    data = load_dataset(path)
    for split in (data.train, data.test):
        for source in split.sources:
            try:
                source.open()
            except BadImagesError:
                continue


def _tars(folder: Path) -> Sequence[Path]:
    (folder / "test.tar").write_bytes(_tar(range(3)))
    paths = [folder / "train.tar", folder / "train.tar.gz"]
    paths[0].write_bytes(_tar(range(6), tarfile.PAX_FORMAT))
    paths[1].write_bytes(gzip.compress(_tar(range(6), tarfile.GNU_FORMAT)))
    return paths


def _tar(numbers: range, kind: int = tarfile.USTAR_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
        for number in numbers:
            for suffix, content in (("png", picture(number)), ("cls", CLASSES[number % 3].encode())):
                # The long name makes a header of its own in the two formats that know one.
                member = tarfile.TarInfo(f"{number:04d}{'x' * (120 if number == 2 and kind else 1)}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _read_tar(path: Path) -> None:
    from mobilenets.data.shards.reading import read_shard

    for record in read_shard(str(path)):
        assert record.label


def _indexes(folder: Path) -> Sequence[Path]:
    from mobilenets.workflows.shard import shard

    for number in range(24):
        place = folder / "images" / CLASSES[number % 3] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(picture(number))
    shard(folder / "images", folder / "shards", images_per_shard=6)
    return [folder / "shards" / "index.json"]


def _read_index(path: Path) -> None:
    from mobilenets.data.datasets import load_dataset

    load_dataset(path.parent)


def _curves(folder: Path) -> Sequence[Path]:
    path = folder / "metrics.jsonl"
    points = [
        {"epoch": number, "loss": 1.0 / number, "top1": 50.0, "validation_loss": 0.5, "validation_top1": 40.0}
        | {"learning_rate": 0.1, "images_per_second": 100.0, "seconds": 1.0}
        for number in (1, 2, 3)
    ]
    from dataclasses import fields

    from mobilenets.progress import EpochPoint

    known = {field.name for field in fields(EpochPoint)}
    path.write_text("".join(json.dumps({k: v for k, v in point.items() if k in known}) + "\n" for point in points))
    return [path]


def _read_curve(path: Path) -> None:
    from mobilenets.training.progress import read_curve

    read_curve(path.parent)


def _checkpoints(folder: Path) -> Sequence[Path]:
    import torch

    from mobilenets.models.saved import load_network

    path = folder / "weights.pth"
    torch.save({"state_dict": load_network(run_folder(folder / "run")).model.state_dict()}, path)
    return [path]


def _read_weights(path: Path) -> None:
    from mobilenets.models.weights.read import read_weights

    read_weights(path)


def _artifacts(folder: Path) -> Sequence[Path]:
    from described import colour_onnx, describe

    from mobilenets.artifact.container import write_artifact

    path = folder / "model.onnx"
    write_artifact(path, {"model.onnx": colour_onnx()}, describe())
    return [path]


def _onnx_files(folder: Path) -> Sequence[Path]:
    """A network of a few layers, so that thousands are read in minutes."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    shapes = {"w0": (4, 3, 3, 3), "w1": (4, 1, 3, 3), "w2": (3, 4), "b2": (3,)}
    random = np.random.default_rng(0)
    weights = [numpy_helper.from_array(random.random(shape, np.float32), name) for name, shape in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["images", "w0"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["c"], group=4, pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["b", "c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["logits"], transB=1),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 16, 16])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "g", [images], [logits], weights)
    path = folder / "network.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return [path]


def _read_artifact(path: Path) -> None:
    from mobilenets.artifact.container import read_artifact

    read_artifact(path)


def _audited_onnx(path: Path) -> None:
    from mobilenets.auditing.graph.onnx import onnx_graph

    onnx_graph(path)


def _tflite_files(folder: Path) -> Sequence[Path]:
    import torch
    from tflite_writer import Form, write_network

    from mobilenets.models.registry import create_model

    torch.manual_seed(0)
    paths = [folder / "float.tflite", folder / "uint8.tflite"]
    model = create_model("mobilenet_v2", num_classes=3, width_mult=0.25, image_size=32).eval()
    write_network(model, paths[0])
    write_network(model, paths[1], Form(values="uint8"))
    return paths


def _audited_tflite(path: Path) -> None:
    from mobilenets.auditing.graph.tflite import tflite_graph

    tflite_graph(path)


def _descriptions_in_files(folder: Path) -> Sequence[Path]:
    """The description alone, which is put into a file with the digest that is right for it."""
    from described import describe

    path = folder / "description.json"
    path.write_text(describe().to_json())
    return [path]


def _read_description(path: Path) -> None:
    from described import colour_onnx

    from mobilenets.artifact.container import PROPERTY, _digest, read_artifact, with_property, without_properties

    bare, text = without_properties(colour_onnx()), path.read_bytes()
    text = text.replace(b'"digest": ""', b'"digest": "' + _digest([bare, text]).encode() + b'"')
    file = path.with_name("model.onnx")
    file.write_bytes(with_property(bare, PROPERTY, text))
    read_artifact(file)


def _openvino_folders(folder: Path) -> Sequence[Path]:
    from described import describe

    from mobilenets.artifact.container import write_artifact

    payload = {"model.xml": b"<net name='colours'/>", "model.bin": bytes(64)}
    write_artifact(folder / "network", payload, describe("openvino"))
    return [folder / "network" / "mobilenets.json"]


def _read_folder(path: Path) -> None:
    _read_artifact(path.parent)


def _tflite_artifacts(folder: Path) -> Sequence[Path]:
    from described import describe

    from mobilenets.artifact.container import write_artifact

    path = folder / "model.tflite"
    write_artifact(path, {"model.tflite": b"\x1c\0\0\0TFL3" + bytes(40)}, describe("litert"))
    return [path]


def _comparisons(folder: Path) -> Sequence[Path]:
    row = {"label": "V1", "model": "mobilenet_v1", "width_mult": 0.25, "image_size": 32, "runs": [{"seed": 0}]}
    document = {"choice": {"label": "V1", "reason": "most accurate"}, "rows": [row]}
    path = folder / "comparison.json"
    path.write_text(json.dumps(document))
    (folder / "runs" / "mobilenet_v1-x0.25-32px" / "seed0").mkdir(parents=True)
    (folder / "runs" / "mobilenet_v1-x0.25-32px" / "model.onnx").write_bytes(b"x")
    return [path]


def _read_comparison(path: Path) -> None:
    from mobilenets.run_folder import recommended_file, recommended_run

    recommended_run(path.parent)
    recommended_file(path.parent)


def _records(folder: Path) -> Sequence[Path]:
    import numpy as np

    from mobilenets.image_record import ImageRecord

    digests = np.arange(5, dtype=np.uint64)
    ImageRecord(digests, digests[:2], excluded={"cat/1.png": 7}).save(folder)
    return [folder / "trained_images.npz"]


def _read_record(path: Path) -> None:
    from mobilenets.image_record import ImageRecord

    ImageRecord.load(path.parent)


def _predictions(folder: Path) -> Sequence[Path]:
    import numpy as np

    from mobilenets.evaluation.predictions import Predictions

    path = folder / "predictions.npz"
    Predictions(np.arange(4) % 3, np.full((4, 3), 1 / 3, np.float32)).save(path)
    return [path]


def _read_predictions(path: Path) -> None:
    from mobilenets.evaluation.predictions import Predictions

    Predictions.load(path)


def _features(folder: Path) -> Sequence[Path]:
    import numpy as np

    from mobilenets.training.head import FeatureCache

    cache = FeatureCache(folder)
    cache.put("ab" * 32, np.ones((4, 3), np.float32))
    return list(folder.glob("*/*.npz"))


def _read_features(path: Path) -> None:
    """Damaged ones are computed again silently: counted here as refused."""
    from mobilenets.errors import RunError
    from mobilenets.training.head import FeatureCache

    if FeatureCache(path.parent.parent).get("ab" * 32, (4, 3)) is None:
        raise RunError("damaged")


_JSON = (edit_json, edit_json, edit_numbers)

READERS: list[Reader] = [
    Reader("model.json", _descriptions, _read_run, _JSON, "model.json"),
    Reader("model.safetensors", _tensors, _read_run, (edit_safetensors, edit_head_words), "model.safetensors"),
    Reader("checkpoint", _checkpoints, _read_weights, (edit_zip, edit_words)),
    Reader("recipe", _recipes, _read_recipe, (edit_lines, edit_numbers)),
    Reader("exclude list", _exclusions, _read_exclusions, (edit_lines,)),
    Reader("metrics.jsonl", _curves, _read_curve, (edit_json_lines, edit_numbers), "metrics.jsonl"),
    Reader("zip", _zips, _read_images, (edit_zip, edit_zip, edit_words)),
    Reader("tar shard", _tars, _read_tar, (edit_tar,)),
    Reader("shard index", _indexes, _read_index, _JSON, "index.json"),
    Reader("artifact", _artifacts, _read_artifact, (edit_varints, edit_numbers)),
    Reader("audited ONNX", _onnx_files, _audited_onnx, (edit_varints, edit_varints, edit_words)),
    Reader("TFLite weights", _tflite_files, _read_weights, (edit_words, edit_words, edit_head_words)),
    Reader("audited TFLite", _tflite_files, _audited_tflite, (edit_words, edit_words, edit_head_words)),
    Reader("artifact description", _descriptions_in_files, _read_description, _JSON),
    Reader("OpenVINO folder", _openvino_folders, _read_folder, _JSON, "mobilenets.json"),
    Reader("TFLite artifact", _tflite_artifacts, _read_artifact, (edit_zip, edit_words)),
    Reader("comparison.json", _comparisons, _read_comparison, _JSON, "comparison.json"),
    Reader("trained_images.npz", _records, _read_record, (edit_zip, edit_numbers), "trained_images.npz"),
    Reader("predictions.npz", _predictions, _read_predictions, (edit_zip, edit_numbers), "predictions.npz"),
    Reader("features.npz", _features, _read_features, (edit_zip, edit_numbers), f"{'ab' * 32}.npz"),
]
