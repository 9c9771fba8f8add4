import pytest


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory):
    """An exported network without training: a MobileNetV2 for 16x16 images and 3 classes."""
    import torch

    from mobilenets.export.onnx import export_onnx
    from mobilenets.models.registry import create_model
    from mobilenets.preprocessing import Preprocessing

    torch.manual_seed(0)
    model = create_model("mobilenet_v2", num_classes=3, width_mult=0.35, image_size=16)
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export_onnx(model, path, preprocessing=Preprocessing(image_size=16), classes=("a", "b", "c"))
    return path
