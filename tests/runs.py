"""What survive.py and soak.py share: a text to train on, and what is in a run's directory."""
import os
import random
import sys


def write_text(path, words):
    vocabulary = "the a cat dog bird sees hears sings and in green trees".split()
    rng = random.Random(1)
    with open(path, "w") as file:
        file.write(" ".join(rng.choice(vocabulary) for _ in range(words)) + "\n")


def newest(run):
    """Step of the newest checkpoint; None: there is none."""
    names = os.listdir(run) if os.path.isdir(run) else []
    return max((int(name[5:]) for name in names if name.startswith("step-") and name[5:].isdigit()), default=None)


def checksums(run, step):
    with open(os.path.join(run, "step-%08d" % step, "checksums.xxh128")) as file:
        return file.read()


def tell(name, main):
    """Runs main, which raises SystemExit with the reason where it fails, and sums it up as tools/test.sh reads it."""
    try:
        main()
        print("1 passed, 0 failed")
    except SystemExit as failure:
        print("%s: %s" % (name, failure))
        print("0 passed, 1 failed")
        sys.exit(1)
