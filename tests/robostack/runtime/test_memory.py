import subprocess
import sys

from robostack.runtime.memory import MemoryWatch, resident_bytes

_HOG = "import sys; block = bytearray(200 << 20); print('ready', flush=True); sys.stdin.read()"


def test_the_memory_of_children_counts_and_a_dead_process_has_none():
    with MemoryWatch() as watch:
        child = subprocess.Popen([sys.executable, "-c", _HOG], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        assert resident_bytes(child.pid) > 190 << 20
        watch._stop.wait(0.7)
        child.communicate()
    assert watch.peak_gib is not None
    assert watch.peak_gib > 190 / 1024
    assert resident_bytes(child.pid) == 0
