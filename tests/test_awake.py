import os
import signal
import subprocess
import sys
import time

CODE = """
import sys, time
from evolve.awake import AwakeClock
clock = AwakeClock()
awake, whole = clock(), time.monotonic()
print("ready", flush=True)
sys.stdin.readline()
print(clock() - awake, time.monotonic() - whole)
"""


def test_the_clock_stands_still_while_the_process_is_stopped():
    process = subprocess.Popen(
        [sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(4.0)
    os.kill(process.pid, signal.SIGCONT)
    out, _ = process.communicate("go\n", timeout=30)
    awake, whole = map(float, out.split())
    assert whole >= 4.0
    assert awake <= whole - 3.0
