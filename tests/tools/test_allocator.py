"""The C library keeps memory: seen by the page faults of a process, which do not depend on how fast the machine is."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that gives memory back")

FAULTS = """
import resource, threading, torch
from hant.transformer.tools.allocator import keep_memory

{call}
torch.set_num_threads(1)

def faults(megabytes):
    for _ in range(15):
        torch.ones(megabytes, 2**18)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(megabytes, 2**18)
    found.append((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 10)

found = []
faults(40)
thread = threading.Thread(target=faults, args=(20,))
thread.start()
thread.join()
large = threading.Thread(target=lambda: found.append(int(torch.ones(200, 2**18).sum() // 2**18)))
large.start()
large.join()
print(*found)
"""


def run(call: str) -> list[int]:
    made = subprocess.run([sys.executable, "-c", FAULTS.format(call=call)], capture_output=True, text=True, check=True)
    return [int(word) for word in made.stdout.split()]


def test_memory_is_kept_and_threads_get_theirs() -> None:
    main, thread, large = run("assert keep_memory() and keep_memory()")
    assert main < 100
    assert thread < 100
    assert large == 200
    assert run("")[0] > 1000, "else there is nothing to keep"
