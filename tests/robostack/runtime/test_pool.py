import os
import signal
import subprocess
import sys
import time

import pytest

from robostack.errors import RobostackError
from robostack.runtime.pool import worker_pool

PARENT = """
import os, sys, time
from robostack.runtime.pool import worker_pool

def start(): ...

if __name__ == "__main__":
    with worker_pool(2, start, ()) as pool:
        print(*{pool.submit(os.getpid).result() for _ in range(20)}, flush=True)
        time.sleep(60)
"""


def begin() -> None:
    """Nothing to prepare."""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent_however_it_ends(tmp_path, how):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert workers
    parent.send_signal(how)
    parent.wait()
    deadline = time.monotonic() + 30
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))
    parent.stdout.close()


def test_a_worker_that_dies_is_an_error_of_one_line():
    with pytest.raises(RobostackError, match="worker process died"), worker_pool(2, begin, ()) as pool:
        pool.submit(os._exit, 3).result()


def test_one_worker_is_this_process():
    with worker_pool(1, begin, ()) as pool:
        assert pool.submit(os.getpid).result() == os.getpid()
