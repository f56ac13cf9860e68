"""The points of a sweep: which there are, and the JSON file of each. A file is written whole or not at all, and says everything that
tables and plots need, so that a sweep goes on where it was interrupted and its report needs nothing but the files.
"""
import collections
import json
import os
import tempfile

FORMAT = 1

Point = collections.namedtuple("Point", "nodes prompt_tokens sequences")


class Mismatch(Exception):
    """A file in the folder is of another sweep."""


def grid(nodes, prompts, sequences):
    """All points in the order they run in: what the first of a kind gives (one node) comes first."""
    return [Point(n, p, s) for n in nodes for p in prompts for s in sequences]


def path(folder, point):
    return os.path.join(folder, "points", f"n{point.nodes}-p{point.prompt_tokens}-s{point.sequences}.json")


def read(file):
    """The record of a file; None if there is none, or one that is not whole (say so is the caller's business)."""
    try:
        with open(file, encoding="utf-8") as source:
            record = json.load(source)
    except (OSError, ValueError):
        return None
    good = isinstance(record, dict) and record.get("format") == FORMAT and isinstance(record.get("bench"), dict)
    return record if good and isinstance(record.get("point"), dict) and isinstance(record.get("run"), dict) else None


def read_wanted(folder, point, settings):
    """The record of a point that was run with the same settings; None if it must be run. Raises Mismatch."""
    record = read(path(folder, point))
    if record is None:
        return None
    for key, wanted in settings.items():
        got = record["run"].get(key)
        if got != wanted:
            raise Mismatch(f"{path(folder, point)} is of another sweep: its {key} is {got!r}, wanted is {wanted!r}; "
                           "give another --output, or remove that folder")
    return record


def read_all(folder):
    """(records in the order of their points, names of files that are not whole)."""
    records, broken = [], []
    try:
        names = sorted(os.listdir(os.path.join(folder, "points")))
    except FileNotFoundError:
        return [], []
    for name in names:
        if not name.endswith(".json"):
            continue
        record = read(os.path.join(folder, "points", name))
        if record is None:
            broken.append(os.path.join(folder, "points", name))
        else:
            records.append(record)
    return sorted(records, key=lambda r: (r["point"]["prompt_tokens"], r["point"]["sequences"], r["point"]["nodes"])), broken


def write(folder, point, record):
    """Whole or not at all, also when the machine stops."""
    target = path(folder, point)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=".part-", dir=os.path.dirname(target))
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump(record, out, indent=1)
            out.write("\n")
            out.flush()
            os.fsync(out.fileno())
        os.chmod(part, 0o644)
        os.replace(part, target)
    except BaseException:
        os.unlink(part)
        raise
