import json

import pytest

from mobilenets.errors import RunError
from mobilenets.runtime.bulk.answer_folder import FinishedPart, open_answer_folder

MANIFEST = {"format": 1, "top": 5, "files": ["photos"]}


def part(number, *bad, text=b"answers\n"):
    return FinishedPart(number, f"digest {number}", 3, len(text), bad), text


def test_parts_in_any_order_end_in_theirs(tmp_path):
    with open_answer_folder(tmp_path / "out", MANIFEST, "jsonl") as folder:
        folder.add(*part(2, ("c.png", "empty")))
        folder.add(*part(0, ("a.png", "cut")))
        folder.add(*part(1))
        folder.conclude()
    assert (folder.answered, folder.bad) == (9, 2)
    lines = (tmp_path / "out/bad.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["a.png", "c.png"]
    notes = (tmp_path / "out/finished.jsonl").read_text().splitlines()
    assert [json.loads(line)["part"] for line in notes] == [0, 1, 2]


def test_what_a_killed_process_left_is_taken_up_or_away(tmp_path):
    out = tmp_path / "out"
    with open_answer_folder(out, MANIFEST, "csv") as folder:
        for number in range(4):
            folder.add(*part(number))
    (out / "part-00001.csv").unlink()
    (out / "part-00002.csv").write_bytes(b"torn")
    (out / ".part-00004~abcdefgh.csv").write_bytes(b"half of it")
    with (out / "finished.jsonl").open("a") as journal:
        journal.write('{"part": 4, "dig')
    with open_answer_folder(out, MANIFEST, "csv") as folder:
        assert folder.finished == {0: "digest 0", 3: "digest 3"}
        assert not list(out.glob(".part*"))
        folder.add(*part(1, ("b.png", "cut")))
        folder.add(*part(2))
        folder.conclude()
    assert [json.loads(line)["part"] for line in (out / "finished.jsonl").read_text().splitlines()] == [0, 1, 2, 3]
    assert (out / "bad.jsonl").read_text() == '{"file": "b.png", "reason": "cut"}\n'


def test_another_job_or_something_else_is_refused(tmp_path):
    with open_answer_folder(tmp_path / "out", MANIFEST, "csv"):
        pass
    other = {**MANIFEST, "top": 3, "files": ["pictures"]}
    said = "out is of another job: top was 5, now 3; files was photos, now pictures. Choose another folder"
    with pytest.raises(RunError, match=said), open_answer_folder(tmp_path / "out", other, "csv"):
        pass
    (tmp_path / "out/manifest.json").write_text("{")
    with pytest.raises(RunError, match="damaged"), open_answer_folder(tmp_path / "out", MANIFEST, "csv"):
        pass
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").touch()
    with pytest.raises(RunError, match="something else"), open_answer_folder(tmp_path / "full", MANIFEST, "csv"):
        pass
    assert [path.name for path in (tmp_path / "full").iterdir() if path.name != ".lock"] == ["letter.txt"]
    with pytest.raises(RunError, match="can't be made"), open_answer_folder(tmp_path / "full/letter.txt", {}, "csv"):
        pass


def test_damaged_notes_are_refused(tmp_path):
    with open_answer_folder(tmp_path / "out", MANIFEST, "csv"):
        (tmp_path / "out/finished.jsonl").write_text("a letter\n")
    with pytest.raises(RunError, match="damaged"), open_answer_folder(tmp_path / "out", MANIFEST, "csv"):
        pass


def test_a_second_job_at_once_is_refused(tmp_path):
    out = tmp_path / "out"
    second = pytest.raises(RunError, match="in use by another process")
    with open_answer_folder(out, {}, "csv"), second, open_answer_folder(out, {}, "csv"):
        pass
