"""Memory that is left: as the system says it, and the smaller of machine and container."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import pmwmix
from pmwmix import memory
from pmwmix.errors import NotSupportedError
from pmwmix.likelihood.linear import rowproducts


def test_this_machine_has_some():
    assert 2**20 < memory.bytes_left() < 2**50


@pytest.mark.parametrize(("most", "left"), [("3000000", 3e6 - 1e6 + 4e5), ("max", 5e6 * 1.024)])
def test_the_smaller_of_machine_and_container(tmp_path, monkeypatch, most, left):
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:  5000 kB\n")
    (tmp_path / "memory.max").write_text(f"{most}\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    (tmp_path / "memory.stat").write_text("anon 600000\ninactive_file 400000\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.bytes_left() == left


def test_a_system_that_does_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "none")
    monkeypatch.delattr(memory.os, "sysconf", raising=False)
    assert memory.bytes_left() == float("inf")


def test_wide_fixed_parts_are_refused_before_memory_is_taken(monkeypatch):
    monkeypatch.setattr(rowproducts, "bytes_left", lambda: 1e5)
    rows = pd.DataFrame({"y": np.arange(900.0) % 7, "f": np.arange(900) % 30, "g": np.arange(900) // 30})
    with pytest.raises(NotSupportedError, match=r"30 fixed columns in each of 30 groups .* GiB where .* \(1 \| f\)"):
        pmwmix.fit("y ~ C(f) + (1 | g)", rows)
