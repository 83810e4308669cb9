"""Commands as they go to the store."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from redis.exceptions import DataError

from lake.redis_store import connect

CONNECTION: Any = connect("redis://127.0.0.1:1").connection_pool.make_connection()

INTERRUPTED = """
import signal
from lake.redis_store import connect
pack = connect("redis://127.0.0.1:1").connection_pool.make_connection().pack_command
class Stop(BaseException): pass
def stop(*_): raise Stop
signal.signal(signal.SIGALRM, stop)
for _ in range(300):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        while True:
            pack("ZADD", "key", *([0.1 + 1e-9] * 100), *range(100))
    except Stop:
        pass
print("alive")
"""


@pytest.mark.parametrize(
    ("arguments", "packed"),
    [
        (("SET", "ключ", b"\x00\xff"), b"*3\r\n$3\r\nSET\r\n$8\r\n\xd0\xba\xd0\xbb\xd1\x8e\xd1\x87\r\n$2\r\n\x00\xff\r\n"),
        (("SCRIPT LOAD", "x"), b"*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$1\r\nx\r\n"),
        (("EXPIRE", "k", 60), b"*3\r\n$6\r\nEXPIRE\r\n$1\r\nk\r\n$2\r\n60\r\n"),
        (("ZADD", "k", np.float64(0.5), bytearray(b"m")), b"*4\r\n$4\r\nZADD\r\n$1\r\nk\r\n$3\r\n0.5\r\n$1\r\nm\r\n"),
    ],
)
def test_text_bytes_and_numbers_go_as_they_are(arguments: tuple[Any, ...], packed: bytes) -> None:
    assert b"".join(CONNECTION.pack_command(*arguments)) == packed


@pytest.mark.parametrize("value", [None, True, ["a"], {"a": 1}])
def test_what_is_no_text_and_no_number_is_refused(value: object) -> None:
    with pytest.raises(DataError, match=type(value).__name__):
        CONNECTION.pack_command("SET", "key", value)


def test_a_signal_in_the_middle_of_a_command_does_no_harm() -> None:
    run = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "alive\n"), run.stderr[-500:]
