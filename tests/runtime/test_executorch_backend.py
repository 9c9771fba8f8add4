import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
from described import SIZE, colour_logits, describe, plain
from executorch_files import colour_program

from mobilenets.artifact.container import write_artifact
from mobilenets.errors import BackendError
from mobilenets.runtime.backend import choices, open_backend
from mobilenets.runtime.executorch_backend import _library

pytestmark = pytest.mark.slow

pytest.importorskip("executorch")
BINDINGS = "executorch.extension.pybindings"
IMAGES = np.random.default_rng(0).integers(0, 256, (9, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def program():
    return colour_program()


def written(folder, program, dynamic):
    return write_artifact(folder / "net.pte", {"net": program}, describe("executorch", dynamic_batch=dynamic))


@pytest.mark.parametrize("dynamic", [False, True])
def test_it_answers_any_number_of_images(tmp_path, program, dynamic, capfd):
    artifact = written(tmp_path, program, dynamic)
    assert [choice.backend for choice in choices(artifact)] == ["executorch"]
    backend = open_backend(artifact, threads=1)
    for count in (1, 2, 9):
        np.testing.assert_allclose(backend.predict(IMAGES[:count]), colour_logits(IMAGES[:count]), atol=1e-4)
    assert capfd.readouterr() == ("", "")


def test_files_with_other_numbers_of_threads_do_not_harm_each_other(tmp_path, program):
    """The pool of threads is the process's: replacing it makes every loaded method point to one that is gone."""
    artifact = written(tmp_path, program, dynamic=False)
    one, two, one_more = (open_backend(artifact, threads=threads) for threads in (1, 2, 1))
    for backend in (one, two, one_more, two, one, one_more):
        np.testing.assert_allclose(backend.predict(plain((9, 90, 200))), [[0.45, 4.5, 10.0]], atol=1e-4)


def test_a_file_that_is_no_program(tmp_path, capfd):
    artifact = write_artifact(tmp_path / "net.pte", {"net": b"\x1c\x00\x00\x00ET12" * 40}, describe("executorch"))
    with pytest.raises(BackendError, match=r"net.pte: ExecuTorch can't run it: \S") as caught:
        open_backend(artifact)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_the_exporter_is_not_loaded_to_run_a_file():
    """It takes 10 s and more, and an answer needs nothing of it."""
    program = (
        "import sys; from mobilenets.runtime.executorch_backend import _library; "
        "assert callable(_library()._load_program); "
        "loaded = [name for name in sys.modules if name.startswith('executorch.exir')]; assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_release_that_calls_its_compiled_module_otherwise(monkeypatch):
    documented = ModuleType("portable_lib")
    monkeypatch.setitem(sys.modules, f"{BINDINGS}._C", None)
    monkeypatch.setitem(sys.modules, f"{BINDINGS}.portable_lib", documented)
    assert _library.__wrapped__() is documented
