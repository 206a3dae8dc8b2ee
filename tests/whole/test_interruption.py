"""Ctrl-C stops what runs within two seconds, once, in our own words, and the session goes on."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest

from pmwmix.interrupt import Lent, OwnFrames, interruptible, lend, side_by_side, was_left

pytestmark = pytest.mark.optimised  # compilers are interrupted
PATIENCE = 2.0
BEGIN = """
import sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np, pandas as pd, pmwmix
rng = np.random.default_rng(0)
n = 20_000
d = pd.DataFrame({"x": rng.normal(size=n), "z": rng.normal(size=n), "g": np.arange(n) // 20, "CNT": np.arange(n) % 9})
d["y"] = d["x"] + rng.normal(size=n // 20)[d["g"]] + rng.normal(size=n)
d["b"] = (d["y"] > 1) * 1.0
print("ready", flush=True)
"""
SESSION = """
try:
    print("ready", flush=True)
    while True:
        {call}
except KeyboardInterrupt:
    print("stopped", time.monotonic(), flush=True)
    import traceback
    traceback.print_exc()
small = pd.DataFrame({{"y": rng.normal(size=60), "g": np.arange(60) // 6}})
print("again", pmwmix.fit("y ~ 1 + (1 | g)", small).converged, flush=True)
"""
CALLS = {
    "import": "pmwmix.fit('y ~ x + (1 | g)', d)",
    "compile": "pmwmix.fit('b ~ x * z + (x | g)', d, family='binomial', n_agq=7, engine='jax')",
    "groups": "pmwmix.fit_groups('b ~ x + (1 | g)', d, family='binomial', n_agq=7, progress=False)",
    "sample": "pmwmix.fit('y ~ x + (1 | g)', d, method='bayes', draws=50_000, chains=2, progress=False)",
    "read": "pmwmix.read_survey(sys.argv[1])",
}
SESSIONS = {  # what one session is stopped in, and seconds after which; a compiler that was left works on until the end
    "import": {"import": 0.4},
    "others": {"read": 1.5, "groups": 3.0, "sample": 7.0, "compile": 3.0},
}


def started(code, *given):
    env = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    child = subprocess.Popen(
        [sys.executable, "-c", code, *given], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    pyreadstat = pytest.importorskip("pyreadstat")
    path = tmp_path_factory.mktemp("survey") / "t.sav"
    rng = np.random.default_rng(0)
    pyreadstat.write_sav(pd.DataFrame(rng.normal(size=(60_000, 60)), columns=[f"v{k}" for k in range(60)]), str(path))
    return path


@pytest.mark.parametrize("session", SESSIONS)
def test_an_interruption_is_heard_at_once_and_the_session_goes_on(session, survey):
    code = "".join(SESSION.format(call=CALLS[name]) for name in SESSIONS[session])
    child = started(BEGIN + code, str(survey))
    for name, seconds in SESSIONS[session].items():
        assert child.stdout.readline() == "ready\n", (name, child.communicate())
        time.sleep(seconds)
        asked = time.monotonic()
        child.send_signal(signal.SIGINT)
        stopped, again = child.stdout.readline(), child.stdout.readline()
        assert stopped.startswith("stopped") and again == "again True\n", (name, stopped, again, child.communicate())
        assert float(stopped.split()[1]) - asked < PATIENCE, name
    said, errors = child.communicate(timeout=60)
    assert said == "" and errors.count("Traceback") == len(SESSIONS[session]), errors
    assert "/jax" not in errors and "FileError" not in errors, errors


def test_a_script_ends_at_once():
    child = started(BEGIN + CALLS["compile"])
    time.sleep(4.0)
    asked = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert time.monotonic() - asked < PATIENCE and child.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt"), errors


def test_a_script_that_goes_on_ends_as_it_wants():
    """Threads that come back from a compiler to an interpreter that has ended would abort the process."""
    code = f"""
try:
    {CALLS["compile"]}
except KeyboardInterrupt:
    print("heard", flush=True)
sys.exit(3)
"""
    child = started(BEGIN + code)
    time.sleep(4.0)
    child.send_signal(signal.SIGINT)
    said, errors = child.communicate(timeout=60)
    assert (said, child.returncode) == ("heard\n", 3), errors


def test_values_errors_and_order_come_back():
    assert interruptible(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        interruptible(divmod, 7, 0)
    assert side_by_side(lambda k: k * k, range(7)) == [k * k for k in range(7)]
    begun: list[int] = []
    with pytest.raises(IndexError):
        side_by_side(lambda k: begun.append(k) or [0][k > 2], range(1000))
    assert len(begun) < 10, "others were begun after an error"
    assert interruptible(lambda: interruptible(threading.get_ident)) != threading.get_ident()
    assert [one.result() for one in [lend(abs, -k) for k in range(5)]] == list(range(5))


def test_a_call_may_ask_whether_it_was_left():
    lent = Lent(was_left, ())
    lent.left = True
    thread = threading.Thread(target=lent.run)
    thread.start()
    thread.join()
    assert lent.result() is True and interruptible(was_left) is False


def test_an_interruption_below_us_is_told_without_the_frames_below_us():
    def interrupted(*_):
        raise KeyboardInterrupt

    begin = compile("def ours(call):\n    call()", interruptible.__code__.co_filename, "exec")
    space: dict = {}
    exec(begin, space)
    with pytest.raises(KeyboardInterrupt) as caught, OwnFrames():
        space["ours"](lambda: sorted([2, 1], key=interrupted))
    assert [entry.name for entry in caught.traceback] == [
        "test_an_interruption_below_us_is_told_without_the_frames_below_us",
        "ours",
    ]
    with pytest.raises(KeyboardInterrupt) as caught, OwnFrames():
        interrupted()
    assert len(caught.traceback) == 1
    with pytest.raises(KeyboardInterrupt) as caught, OwnFrames():
        space["ours"](lambda: space["ours"](interrupted))
    assert [entry.name for entry in caught.traceback][1:] == ["ours"], "what a compiler calls is below the compiler"
    with pytest.raises(ZeroDivisionError) as other, OwnFrames():
        space["ours"](lambda: divmod(1, 0))
    assert other.traceback[-1].name == "<lambda>"


def test_an_interruption_that_the_garbage_collector_swallowed_is_sent_again():
    def swallow(phase, _):
        if phase == "start" and not swallowed:
            swallowed.append(phase)
            raise KeyboardInterrupt

    swallowed: list[str] = []
    gc.freeze()  # all other tests' objects
    gc.callbacks.append(swallow)
    try:
        with pytest.raises(KeyboardInterrupt), OwnFrames():
            gc.collect()
            assert swallowed, "Python went on as if nothing had been"
            interruptible(time.sleep, 5.0)
    finally:
        gc.callbacks.remove(swallow)
