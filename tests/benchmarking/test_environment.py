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


def test_busy_cores_are_counted_between_two_looks(tmp_path, monkeypatch):
    """Of 400 ticks of four cores, 100 were idle, and 100 waited for a disk."""
    looks = iter(("cpu  1000 0 0 5000 0 0 0 0 0 0\n", "cpu  1150 20 30 5100 100 0 0 0 150 0\n"))
    monkeypatch.setattr(environment, "_text", lambda path: next(looks))
    monkeypatch.setattr(environment.os, "cpu_count", lambda: 4)
    assert environment.busy_cores(seconds=0) == 2.0


def test_where_the_system_does_not_tell_no_core_is_called_busy(monkeypatch):
    monkeypatch.setattr(environment, "_text", lambda path: "")
    assert environment.busy_cores(seconds=0) is None
