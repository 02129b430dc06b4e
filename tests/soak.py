#!/usr/bin/env python3
"""Trains a small model for many steps, twice, with saving, validation and metrics on: memory must stay flat, and both runs end in
the same bits. Speed is shown, for whoever knows what else the machine did.

    soak.py VKMOE [STEPS]

Prints a table and, last, "1 passed, 0 failed" or the like. Ten thousand steps (the default) take minutes on two CPU cores."""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from runs import checksums, newest, tell, write_text

SMALL = ("--preset demo --layers 2 --d-model 48 --experts 4 --d-expert 48 --seq 32 --batch 2 --pes-tokens 64 --log-every 10 "
         "--save-every 100 --eval-every 250 --tensorboard --quiet").split()
TENTHS = 10


def resident(pid):
    """MiB of host memory, in which a software device has its own; None once the process is gone."""
    try:
        with open("/proc/%d/status" % pid) as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None


def train(command, run, steps):
    """Memory after each save: (step, MiB)."""
    process = subprocess.Popen([command, "train", "--data", "text.txt", "--out", run, "--steps", str(steps)] + SMALL,
                               stdout=subprocess.DEVNULL)
    memory = []
    while process.poll() is None:
        now = resident(process.pid)
        if now is not None:
            memory.append((newest(run) or 0, now))
        time.sleep(0.2)
    if process.returncode != 0:
        raise SystemExit("training ended with status %d" % process.returncode)
    return memory


def speeds(run):
    with open(os.path.join(run, "metrics.jsonl")) as file:
        lines = [json.loads(line) for line in file]
    return [(line["step"], line["tokens_per_second"]) for line in lines if line.get("tokens_per_second")]


def tenths(points, steps):
    """Medians of the tenths of the run."""
    parts = [[value for step, value in points if i * steps <= step * TENTHS < (i + 1) * steps] for i in range(TENTHS)]
    return [statistics.median(part) if part else float("nan") for part in parts]


def main():
    command, steps = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10000
    os.chdir(tempfile.mkdtemp(prefix="vkmoe-soak-"))
    here = os.getcwd()
    write_text("text.txt", 20000)
    for run in "first", "second":
        memory = tenths(train(command, run, steps), steps)
        speed = tenths(speeds(run), steps)
        print("%-7s MiB       " % run + " ".join("%7.1f" % m for m in memory))
        print("%-7s tokens/s  " % run + " ".join("%7.0f" % s for s in speed), flush=True)
        if memory[-1] > 1.02 * memory[1] + 1:
            raise SystemExit("memory grows: %.1f to %.1f MiB" % (memory[1], memory[-1]))
    if checksums("first", steps) != checksums("second", steps):
        raise SystemExit("the runs differ; they are in " + here)
    print("%d steps, the same bits" % steps)
    shutil.rmtree(here)


tell("soak", main)
