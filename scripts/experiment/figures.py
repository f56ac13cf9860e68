"""From the records of a sweep to its figures. The formulas are in docs/PERFORMANCE.md, section "sweep".

A line is one half (prefill or decode) of one point. Speed-up is against the fewest nodes of the same prompt and sequences.
"""
import collections

HALVES = ("decode", "prefill")
SHARES = ("compute", "wire", "imbalance", "wait")

# speed: (median, min, max) in tok/s. shares: {name: 0..1}. predicted: tok/s or None. crowded: more threads than cores.
Line = collections.namedtuple("Line", "half nodes ranks prompt_tokens sequences speed speed_up efficiency shares predicted crowded")


def shares_of(half):
    """Where the time of a half went, as shares of rank 0's clock, the mean over ranks; they add up to 1."""
    time_us = half["time_us"]
    ranks = half["ranks"]
    n = len(ranks)
    if time_us <= 0 or n == 0:
        return dict.fromkeys(SHARES, 0.0)
    messages, waiting, idle, experts, others = 0, 0, 0, 0, []
    for rank in ranks:
        phases = rank["phases"]
        messages += phases["dispatch_us"] + phases["combine_us"]
        waiting += phases["wait_us"]
        idle += rank["idle_us"]
        experts += phases["experts_us"]
        others.append(sum(us for name, us in phases.items() if name not in ("wait_us", "dispatch_us", "combine_us", "experts_us")))
    compute = (experts + sum(others)) / n
    # In each exchange all wait for the rank with the most slots; and those with fewer sequences for those with more.
    uneven = experts / n * max(half["expert_imbalance"] - 1, 0) + max(others) - sum(others) / n
    imbalance = min(uneven, waiting / n) if n > 1 else 0
    parts = dict(compute=compute, wire=(messages + waiting) / n - imbalance, imbalance=imbalance, wait=idle / n)
    total = sum(parts.values())
    return {name: part / total for name, part in parts.items()}


def speed_of(bench, half):
    key = f"{half}_tok_per_s"
    return bench[key], bench.get(key + "_min", bench[key]), bench.get(key + "_max", bench[key])


def predicted_of(record, half):
    plan = record.get("plan")
    value = plan.get(f"{half}_tok_per_s") if isinstance(plan, dict) and plan.get("fits", True) else None
    return value if isinstance(value, (int, float)) and value > 0 else None


def crowded(record):
    """The hosts are all on one machine and have more threads than it has cores."""
    if not record["run"].get("one_machine"):
        return False
    threads = sum(rank.get("threads", 1) for rank in record["bench"].get("ranks", []))
    return threads > record.get("machine", {}).get("cores", threads)


def lines(records):
    """All lines, decode first; within a half by prompt, sequences, nodes."""
    base = {}
    for record in records:
        point = record["point"]
        key = (point["prompt_tokens"], point["sequences"])
        if key not in base or point["nodes"] < base[key]["point"]["nodes"]:
            base[key] = record
    found = []
    for half in HALVES:
        for record in records:
            point, bench = record["point"], record["bench"]
            least = base[(point["prompt_tokens"], point["sequences"])]
            speed = speed_of(bench, half)
            speed_up = speed[0] / speed_of(least["bench"], half)[0]
            found.append(Line(half, point["nodes"], len(bench.get("ranks", [])), point["prompt_tokens"], point["sequences"], speed,
                              speed_up, speed_up * least["point"]["nodes"] / point["nodes"], shares_of(bench[half]),
                              predicted_of(record, half), crowded(record)))
    return found


def different(records, key):
    """The values that a setting of the runs has, as texts."""
    return sorted({str(record["run"].get(key)) for record in records})


def shown(options):
    """The options that say what was run: where weights are kept says nothing."""
    return " ".join(word for i, word in enumerate(options) if word != "--cache" and (i == 0 or options[i - 1] != "--cache"))


def headline(records):
    """Two sentences for the head of a plot: what was run where, on what machine and when."""
    first = records[0]
    run, machine, versions = first["run"], first.get("machine", {}), first.get("versions", {})
    per_node = "1 rank" if run["ranks_per_node"] == 1 else f"{run['ranks_per_node']} ranks"
    days = sorted(record["run"]["started"][:10] for record in records)
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return [
        "; ".join([f"{run['model']} on {run['where']}", f"{per_node} per node", *filter(None, [shown(run["options"])]),
                   f"{run['gen_tokens']} decode steps, medians of {run['repeat']} runs"]),
        f"{machine.get('cpu', 'unknown processor')}, {machine.get('cores', '?')} cores, {machine.get('memory_gb', 0):.0f} GB; "
        f"{versions.get('shoal', '?')}; {when}",
    ]


def describe(records):
    """Sentences for the head of a table."""
    what, machine = headline(records)
    first = records[0]
    sentences = [
        what + " (min .. max).",
        f"{machine}; Linux {first.get('machine', {}).get('kernel', '?')}; {first.get('versions', {}).get('mpi', '?')}.",
    ]
    if any(crowded(record) for record in records):
        sentences.append("Where marked *, the nodes share the cores of one machine and have more threads than it has cores: what such nodes "
                         "lose, machines of their own would not.")
    plans = sorted({record["plan"]["from"] for record in records if isinstance(record.get("plan"), dict) and record["plan"].get("from")})
    if plans:
        sentences.append(f"Predicted: shoal plan, from {' and '.join(plans)}.")
    return sentences
