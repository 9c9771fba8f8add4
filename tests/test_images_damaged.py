"""Images that are cut or damaged are refused by one clear error, in every format and by every way of reading."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from pathlib import Path

import pytest

from mobilenets.cli.main import main
from mobilenets.errors import BadImagesError
from mobilenets.workflows.doctor import doctor

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # behind the helpers, which share a name with it
from fuzz_images import OWN, SOUND, read, seeds
from fuzz_mutations import mutate

CUTS = 40
"""Lengths each sound file is cut to here; `benchmarks/fuzz_images.py` makes thousands of mutants."""
MUTANTS = 30


def refusal(path: Path) -> list[str]:
    """The lines of the message that refuses an image; none where it is read."""
    try:
        read(path)
    except BadImagesError as error:
        return str(error).splitlines()
    return []


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SOUND)
def test_every_cut_gives_a_picture_or_one_clear_error(suffix: str, tmp_path: Path) -> None:
    refused = 0
    for path in seeds(suffix, tmp_path):
        content = path.read_bytes()
        read(path)
        step = max(1, len(content) // CUTS)
        for length in sorted({*range(0, len(content), step), *range(min(48, len(content))), len(content) - 1}):
            cut = tmp_path / f"cut.{suffix}"
            cut.write_bytes(content[:length])
            refused += len(told := refusal(cut))
            assert len(told) <= 1
    assert refused > CUTS


@pytest.mark.parametrize("suffix", SOUND)
def test_damage_gives_a_picture_or_one_clear_error(suffix: str, tmp_path: Path) -> None:
    contents = [path.read_bytes() for path in seeds(suffix, tmp_path)]
    random_ = random.Random(suffix)
    for _ in range(MUTANTS):
        mutant = tmp_path / f"mutant.{suffix}"
        mutant.write_bytes(mutate(random_, random_.choice(contents), contents, OWN.get(suffix, ())))
        assert len(refusal(mutant)) <= 1


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of sound images, and in one of them animations of every format, each cut to many lengths."""
    from PIL import Image

    for name, colour in (("cat", "red"), ("dog", "blue")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (24 + number, 24), colour).save(tmp_path / "photos" / name / f"{number}.png")
    for suffix, make in SOUND.items():
        moving = make()[-1]
        for tenth in range(1, 20):
            path = tmp_path / "photos/cat" / f"cut{tenth:02}.{suffix}"
            path.write_bytes(moving[: len(moving) * tenth // 20])
    return tmp_path / "photos"


def test_the_doctor_comes_to_its_end(photos: Path, tmp_path: Path) -> None:
    """The fault: a GIF was asked for its number of frames, and a cut one raised EOFError or struct.error."""
    checkup = doctor(photos, tmp_path / "out", fix=True)
    found = {finding.kind: finding for finding in checkup.findings}
    assert found["unreadable"].count > 60
    assert (tmp_path / "out/doctor.html").exists()


@pytest.mark.slow
def test_train_evaluate_and_predict_name_each_and_go_on_without(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train = ["train", "mobilenet_v3_small", "--data", "photos", "--out", "run", "--recipe", "quick", "--epochs", "1"]
    train += ["--width-mult", "0.35", "--image-size", "32"]
    assert main(train) == 2
    said = capfd.readouterr().err
    assert all(f"cut01.{suffix}: " in said for suffix in SOUND)
    assert "Traceback" not in said
    assert main([*train, "--skip-bad"]) == 0
    assert main(["evaluate", "run", "--data", "photos"]) == 2
    assert main(["evaluate", "run", "--data", "photos", "--skip-bad"]) == 0
    capfd.readouterr()
    assert main(["export", "run", "--to", "onnx", "--out", "net.onnx"]) == 0
    capfd.readouterr()
    assert main(["predict", "net.onnx", "photos", "--json"]) == 1
    said = capfd.readouterr()
    assert said.out.count('"label"') >= 8
    assert "can't be read" in said.err


@pytest.mark.slow
def test_decoders_written_in_c_print_nothing(tmp_path: Path) -> None:
    """libtiff and others write what they find to the process's standard error, past Python."""
    program = (
        "import sys, pathlib\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1] / 'benchmarks')!r})\n"
        "from fuzz_images import SOUND, read\n"
        "from mobilenets.errors import BadImagesError\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "for suffix in ('tif', 'jpg', 'png', 'webp', 'jp2', 'gif'):\n"
        "    for content in SOUND[suffix]():\n"
        "        for part in range(1, 12):\n"
        "            path = folder / f'x.{suffix}'\n"
        "            path.write_bytes(content[: len(content) * part // 12])\n"
        "            try:\n"
        "                read(path)\n"
        "            except BadImagesError:\n"
        "                pass\n"
        "            middle = len(content) * part // 12\n"
        "            path.write_bytes(content[:middle] + bytes([255] * 9) + content[middle + 9 :])\n"
        "            try:\n"
        "                read(path)\n"
        "            except BadImagesError:\n"
        "                pass\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_tiff_whose_pages_lead_back_ends(tmp_path: Path) -> None:
    """Each directory names the next; one that names itself or an earlier one is gone round for ever."""
    content = bytearray(SOUND["tif"]()[-2])
    first = int.from_bytes(content[4:8], "little")
    entries = int.from_bytes(content[first : first + 2], "little")
    at = first + 2 + 12 * entries
    content[at : at + 4] = first.to_bytes(4, "little")
    path = tmp_path / "round.tif"
    path.write_bytes(content)
    assert len(refusal(path)) <= 1


def test_bytes_that_end_anywhere_are_no_picture() -> None:
    from mobilenets.images import check_image

    for content in (b"", b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"II*\0", b"\x89PNG\r\n\x1a\n", b"BM", b"P6"):
        with pytest.raises(BadImagesError):
            check_image(io.BytesIO(content))
