import platform

from mobilenets.benchmarking import environment
from mobilenets.benchmarking.environment import processor

X86 = """processor\t: 0
model name\t: Some Processor
flags\t\t: fpu avx2 avx512f avx512_vnni nonsense

processor\t: 1
model name\t: Another
"""


def test_it_names_the_machine_and_what_runs_there():
    found = environment.environment()
    assert int(found["cores"]) >= 1
    assert found["python"] == platform.python_version()
    assert found["onnxruntime"]
    assert all(found.values())


def test_the_processor_and_its_units(tmp_path, monkeypatch):
    file = tmp_path / "cpuinfo"
    file.write_text(X86)
    monkeypatch.setattr(environment, "_CPUINFO", file)
    assert processor() == ("Some Processor", ("avx2", "avx512f", "avx512_vnni"))
    file.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\n")
    assert processor()[1] == ("asimd", "asimddp")
    file.unlink()
    name, units = processor()
    assert name
    assert units == ()
