from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hant.passes.finetuning.records import EpochRecord
from hant.passes.ranking.records import RankRecord
from hant.transformer.errors import LoadError, StorageError
from hant.transformer.runs.store import RunStore
from hant.transformer.tools.files import slug, write_atomically
from safetensors.torch import save_file


def rank(index: int, loss: float = 0.5) -> RankRecord:
    return RankRecord(index=index, loss=loss, accuracy=90.0, samples=10)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with RunStore(tmp_path / "run") as opened:
        yield opened


def test_records_come_back_as_they_were_and_sorted(store: RunStore) -> None:
    for index in (2, 0, 1):
        store.put(f"{index:03d}", rank(index, loss=0.1 + index / 3))
    assert store.get(RankRecord, "001") == rank(1, loss=0.1 + 1 / 3)
    assert list(store.all(RankRecord)) == ["000", "001", "002"]
    assert store.get(RankRecord, "009") is None
    assert store.get(EpochRecord, "000") is None
    store.put("000", rank(7))
    assert store.all(RankRecord)["000"].index == 7
    store.delete(RankRecord, "000")
    assert store.count("rank") == 2
    store.delete(RankRecord)
    assert store.count("rank") == 0


def test_a_transaction_is_all_or_nothing(store: RunStore) -> None:
    store.put("0", rank(0))

    def broken() -> None:
        with store.transaction():
            store.delete(RankRecord)
            store.put("1", rank(1))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        broken()
    assert list(store.all(RankRecord)) == ["0"]
    with store.transaction():
        store.delete(RankRecord)
        store.put("1", rank(1))
    assert list(store.all(RankRecord)) == ["1"]


def test_events_keep_their_order(store: RunStore) -> None:
    for number in range(3):
        store.event("a" if number % 2 == 0 else "b", number=number)
    assert store.events() == [("a", {"number": 0}), ("b", {"number": 1}), ("a", {"number": 2})]
    assert store.events("b") == [("b", {"number": 1})]


def test_every_record_is_an_event_once(store: RunStore) -> None:
    store.put("0", rank(0))
    store.put("0", rank(1))
    assert store.events("put") == [("put", {"kind": "rank", "key": "0"})] * 2


def test_tensors_come_back_to_the_bit(store: RunStore) -> None:
    tensors = {"a": torch.randn(3, 4).T, "b": torch.arange(5), "c": torch.randn(2).half()}
    tensors["shared"] = tensors["a"]
    store.save_tensors("candidates/x.safetensors", tensors)
    loaded = store.load_tensors("candidates/x.safetensors")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_a_damaged_file_is_told_in_one_line(store: RunStore) -> None:
    store.write("candidates/x.safetensors", b"\xff" * 20)
    with pytest.raises(LoadError, match=r"cannot read .*x.safetensors: .*; delete it and give the same command again"):
        store.load_tensors("candidates/x.safetensors")
    with pytest.raises(LoadError, match=r"cannot read .*y.safetensors"):
        store.load_tensors("candidates/y.safetensors")


def test_flipped_bits_and_exchanged_files_are_noticed(store: RunStore) -> None:
    digest = store.save_tensors("a.safetensors", {"x": torch.arange(100.0)})
    other = store.save_tensors("b.safetensors", {"x": torch.arange(100.0) + 1})
    assert store.load_tensors("a.safetensors", digest=digest)["x"][7] == 7
    with pytest.raises(LoadError, match=r"cannot read .*b.safetensors: its content is not what the run wrote"):
        store.load_tensors("b.safetensors", digest=digest)
    content = bytearray(store.path("b.safetensors").read_bytes())
    content[-1] ^= 1
    store.write("b.safetensors", bytes(content))
    for known in (other, ""):  # with what a record says, and by what the file says of itself
        with pytest.raises(LoadError, match="its content is not what the run wrote"):
            store.load_tensors("b.safetensors", digest=known)
    store.discard("b.safetensors")
    store.discard("b.safetensors")
    assert not store.path("b.safetensors").exists()


def test_a_file_of_an_earlier_version_has_no_digest_and_is_read(store: RunStore) -> None:
    store.write("a.safetensors", lambda path: save_file({"x": torch.ones(2)}, path))
    assert store.load_tensors("a.safetensors")["x"].tolist() == [1, 1]


def test_a_record_of_another_version_is_told_in_one_line(store: RunStore) -> None:
    store.put("0", rank(0))
    store._db.execute("UPDATE record SET payload = '{\"index\": 1}'")
    with pytest.raises(StorageError, match=r"record rank 0 .* not readable by this version .*\(3 fields differ\)"):
        store.get(RankRecord, "0")


def test_a_damaged_database_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.sqlite").write_bytes(b"not a database, but long enough to look at" * 50)
    with pytest.raises(StorageError, match=r"run.sqlite is damaged or no run of hant: .*; use a new --output"):
        RunStore(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_atomically(path, "old")

    def half(target: Path) -> None:
        target.write_text("ne")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_atomically(path, half)
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["x.txt"]


def test_opening_removes_what_a_killed_process_left_half_written(tmp_path: Path) -> None:
    RunStore(tmp_path).close()
    (tmp_path / "candidates").mkdir()
    leftover = tmp_path / "candidates" / ".x.safetensors.123.tmp"
    leftover.write_bytes(b"half")
    RunStore(tmp_path).close()
    assert not leftover.exists()


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot open run .*file/run: Not a directory; free the disk or fix"):
        RunStore(tmp_path / "file" / "run")


@pytest.mark.parametrize(("text", "name"), [("layer1.0/efn_3x3", "layer1.0_efn_3x3"), ("a b:c", "a_b_c")])
def test_slug(text: str, name: str) -> None:
    assert slug(text) == name


WRITER = """
import sys, torch
from pathlib import Path
from hant.passes.ranking.records import RankRecord
from hant.transformer.runs.store import RunStore
with RunStore(Path(sys.argv[1])) as store:
    index = store.count("rank")
    while True:
        store.save_tensors(f"candidates/{index}.safetensors", {"x": torch.full((20000,), float(index))})
        with store.transaction():
            store.put(f"{index:06d}", RankRecord(index=index, loss=0.0, accuracy=0.0, samples=1))
            store.event("unit", index=index)
        print(index, flush=True)
        index += 1
"""


def test_kill_9_loses_no_reported_record(tmp_path: Path) -> None:
    """A unit that was reported is there, with its file whole, after ``kill -9`` at a random moment."""
    reported = -1
    for seed in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert int(process.stdout.readline()) > reported - 1
        time.sleep(random.Random(seed).uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().split()
        process.wait()
        reported = max([reported, *(int(line) for line in lines[:-1])])
        with RunStore(tmp_path) as store:
            records = store.all(RankRecord)
            assert [record.index for record in records.values()] == list(range(len(records)))
            assert len(records) > reported
            assert [payload["index"] for _, payload in store.events("unit")] == list(range(len(records)))
            for index in range(len(records)):
                tensor = store.load_tensors(f"candidates/{index}.safetensors")["x"]
                assert torch.equal(tensor, torch.full((20000,), float(index)))


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        with pytest.raises(StorageError, match="is in use by another process; wait for it or give another --output"):
            RunStore(tmp_path)
    finally:
        process.kill()
        process.communicate()
    RunStore(tmp_path).close()


FILLER = """
import resource, sys
from pathlib import Path
from hant.passes.ranking.records import RankRecord
from hant.transformer.runs.store import RunStore
from hant.transformer.errors import StorageError
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
done = 0
try:
    with RunStore(Path(sys.argv[1])) as store:
        for done in range(100000):
            if done % 3 == 2:
                store.write(f"files/{done}", b"x" * 20000)
            else:
                with store.transaction():
                    store.put(f"{done}", RankRecord(index=done, loss=0.0, accuracy=0.0, samples=1))
                    store.event("unit", index=done)
except StorageError as error:
    print(done)
    print(error)
"""


def fill(root: Path, *limit: str) -> tuple[int, str]:
    words = [sys.executable, "-c", FILLER, str(root), *limit]
    done, message = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return int(done), message


def check_kept(root: Path, done: int) -> None:
    with RunStore(root) as store:
        expected = {index for index in range(done) if index % 3 != 2}
        assert expected <= {record.index for record in store.all(RankRecord).values()}
        assert all(store.path(f"files/{index}").stat().st_size == 20000 for index in range(2, done, 3))
        assert not list(root.rglob("*.tmp"))


def test_a_file_that_may_not_grow_is_told_and_what_was_finished_is_kept(tmp_path: Path) -> None:
    done, message = fill(tmp_path, "200000")
    assert done > 10
    assert "free the disk or fix the permissions, then give the same command again" in message
    check_kept(tmp_path, done)


def test_a_full_disk_is_told_and_what_was_finished_is_kept(small_disk: Path) -> None:
    done, message = fill(small_disk / "run")
    assert done > 3
    assert "full" in message or "No space left on device" in message
    assert "free the disk or fix the permissions, then give the same command again" in message
    for path in (small_disk / "run" / "files").iterdir():
        path.read_bytes()
    (small_disk / "ballast").unlink()
    check_kept(small_disk / "run", done)
