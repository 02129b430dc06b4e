#!/usr/bin/env python3
"""Kills a run that saves at every other step, again and again at random moments (SIGKILL), and resumes it: each time its newest
checkpoint must be whole, and in the end its bits those of a run that was never killed.

    survive.py VKMOE KILLS [SEED]

VKMOE is the command. The last line is "1 passed, 0 failed" or the like."""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from runs import checksums, newest, tell, write_text

STEPS = 120
SMALL = ("--preset demo --layers 2 --d-model 48 --experts 4 --d-expert 48 --seq 32 --batch 2 --warmup 10 --pes-tokens 0 "
         "--log-every 3 --save-every 2 --keep 2 --eval-every 8 --quiet --steps %d" % STEPS).split()


class Survivor:
    def __init__(self, command):
        self.command = command
        self.text = "text.txt"
        write_text(self.text, 6000)

    def start(self, run):
        where = ["--resume", run] if newest(run) is not None else ["--out", run] + SMALL
        return subprocess.Popen([self.command, "train", "--data", self.text] + where, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True)

    def train(self, run):
        """To the end."""
        process = self.start(run)
        error = process.communicate()[1]
        if process.returncode != 0:
            raise SystemExit("not resumed: status %d: %s" % (process.returncode, error))

    def metrics(self, run):
        """Without the speed, and without "changed", which compares with the resume."""
        with open(os.path.join(run, "metrics.jsonl")) as file:
            lines = [json.loads(line) for line in file]
        for line in lines:
            line.pop("tokens_per_second", None)
            line.pop("changed", None)
        return lines


def main():
    command, kills = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    os.chdir(tempfile.mkdtemp(prefix="vkmoe-survive-"))
    here = os.getcwd()
    survivor = Survivor(command)
    began = time.monotonic()
    survivor.train("whole")
    whole = time.monotonic() - began
    expected = checksums("whole", STEPS), survivor.metrics("whole")
    done = while_saving = before_first = finished = run = 0
    while done < kills:
        name = "run%d" % run
        process = survivor.start(name)
        try:
            process.wait(timeout=rng.uniform(0, 0.9 * whole))
            error = process.stderr.read()
            if process.returncode != 0:
                raise SystemExit("kill %d: not resumed: status %d: %s" % (done, process.returncode, error))
            over = True
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            over = False
            done += 1
        process.stderr.close()
        while_saving += not over and any(n.endswith(".tmp") for n in (os.listdir(name) if os.path.isdir(name) else []))
        if newest(name) is None:
            before_first += 1
            shutil.rmtree(name, ignore_errors=True)
            continue
        looked = subprocess.run([command, "inspect", name], capture_output=True, text=True)
        if looked.returncode != 0:
            raise SystemExit("kill %d left a checkpoint that is not whole: %s" % (done, looked.stderr))
        if over or done == kills:
            if not over:
                survivor.train(name)
            if (checksums(name, STEPS), survivor.metrics(name)) != expected:
                raise SystemExit("kill %d: the end differs from that of a run that was not killed: %s" %
                                 (done, os.path.join(here, name)))
            finished += 1
            run += 1
    print("%d kills (%d while a checkpoint was written, %d before the first), %d runs to the end, all of the same bits" %
          (done, while_saving, before_first, finished))
    shutil.rmtree(here)


tell("survive", main)
