"""Hostile files answer in one line, in bounded memory and time, and run nothing. `python -m tests.hostile` has more."""

import contextlib
import json
import os
import pickle
import subprocess
import sys

import pytest

from tests.hostile import corpus, run
from tests.hostile.mutations import mutated

# Lower than the defaults, so that the files that exceed them are small.
LIMITS = "arrays=1000,rows=4000,json_bytes=1e5,expansion=1,clip_pixels=1e7"
# Payloads that need more than the standard library, or only name what a file must not name.
INERT = {
    "NEWOBJ",
    "NEWOBJ_EX",
    "EXT1",
    "EXT4",
    "PERSID",
    "BINPERSID",
    "getattr",
    "a dotted name",
    "numpy's",
    "torch.load",
}
MOST_MIB = 600  # of the process with its imports, and what the limits admit


def test_files_that_ask_for_too_much(tmp_path):
    environment = {**os.environ, "JAXCAM_LIMITS": LIMITS}
    command = [sys.executable, "-W", "ignore", "-m", "tests.hostile.bombs", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) > 40
    for name, verdict, answer, words, _, peak, _ in lines:
        assert verdict == ("read" if words is None else "refused"), (name, verdict, answer)
        assert words is None or words in answer, (name, answer)
        assert peak < MOST_MIB, (name, peak)


@pytest.mark.long
def test_mutated_files(tmp_path):
    """Every file of the corpus as it is, and some mutations; a run goes on where it stopped."""
    state = tmp_path / "state.json"
    first = run.run(len(corpus.seeds()), seed=1, state=state)
    assert first["read"] >= 40, "the files of the corpus can be read"
    counts = run.run(400, seed=1, state=state)
    assert counts["files"] == 400 and counts["read"] + counts["refused"] == 400, counts["bad"]


def test_a_number_is_a_file():
    assert mutated(500, 0) == mutated(500, 0) != mutated(501, 0)


@pytest.mark.filterwarnings("ignore")  # of the files that the payloads open and nobody closes
@pytest.mark.parametrize("name", [name for name in corpus.payloads() if name not in INERT])
def test_the_payloads_run_where_pickles_are_run(name, tmp_path, monkeypatch):
    """Otherwise it would say nothing that jaxcam does not run them."""
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(Exception):  # some raise after they ran
        pickle.loads(b"\x80\x04" + corpus.payloads()[name])
    assert (tmp_path / corpus.CANARY).exists()
