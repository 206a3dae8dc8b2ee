"""What the benchmarks share: steps in fresh processes without caches, and a command line that every script answers."""

import subprocess
import sys

import pytest
from helpers import ROOT

FOLDER = ROOT / "benchmarks"
SCRIPT = """
import os, sys
sys.path.insert(0, {folder!r})
from _harness import is_child, parser_of, print_table, run_child

def step(spec):
    heavy = {{"numpy", "pandas", "jax", "pmwmix"}} & set(sys.modules)
    return spec | {{"cache": os.environ.get("JAX_COMPILATION_CACHE_DIR"), "heavy": sorted(heavy)}}

CHILDREN = {{"step": step, "failing": lambda spec: 1 / 0}}
options = parser_of("A script.", CHILDREN).parse_args()
if not is_child(options, CHILDREN):
    found = run_child("step", {{"n": 3}})
    print_table(["name", "value"], [[name, found[name]] for name in ("n", "cache", "heavy")])
    run_child("failing", {{"n": 4}})
"""


def run(*call: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, call)], capture_output=True, text=True, check=False)


def test_a_step_runs_in_a_process_without_caches_and_its_failure_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=str(FOLDER)), encoding="utf-8")
    done = run(script)
    assert done.stdout.splitlines() == ["name   value", "n          3", "cache   None", "heavy     []"]
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr and "The failing step failed" in done.stderr and "'n': 4" in done.stderr


@pytest.mark.parametrize(
    "name", ["bayes", "bootstrap", "compiled", "crossed", "expected", "gaussian", "glmm", "groups", "structures"]
)
def test_scripts_with_children_say_their_options(name: str):
    done = run(FOLDER / f"{name}.py", "--help")
    assert done.returncode == 0, done.stderr
    assert "--json OUT" in done.stdout and "--spec" not in done.stdout
