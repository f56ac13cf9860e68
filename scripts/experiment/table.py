"""The table of a sweep, as text, Markdown and CSV: one line for each half (decode, prefill) of each point."""
import csv
import io

HEAD = ["", "nodes", "sequences", "prompt", "tok/s", "min .. max", "speed-up", "efficiency", "compute", "wire", "imbalance", "wait",
        "predicted", "off by"]
CSV_HEAD = ["half", "nodes", "ranks", "sequences", "prompt_tokens", "tok_per_s", "tok_per_s_min", "tok_per_s_max", "speed_up", "efficiency",
            "compute_share", "wire_share", "imbalance_share", "wait_share", "predicted_tok_per_s", "crowded"]


def number(value):
    """Three digits that count, never in powers of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def percent(share):
    return f"{100 * share:.0f} %"


def cells(line):
    predicted = ["", ""]
    if line.predicted is not None:
        predicted = [number(line.predicted), f"{100 * (line.predicted / line.speed[0] - 1):+.0f} %"]
    return [line.half, f"{line.nodes}{'*' if line.crowded else ''}", str(line.sequences), str(line.prompt_tokens), number(line.speed[0]),
            f"{number(line.speed[1])} .. {number(line.speed[2])}", f"{line.speed_up:.2f}", percent(line.efficiency),
            *(percent(line.shares[name]) for name in ("compute", "wire", "imbalance", "wait")), *predicted]


def grid(lines):
    """Header and cells, without the columns of predictions if there are none."""
    n = len(HEAD) if any(line.predicted is not None for line in lines) else len(HEAD) - 2
    return [HEAD[:n]] + [cells(line)[:n] for line in lines]


def text(lines, sentences):
    rows = grid(lines)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    made = list(sentences) + [""]
    before = None
    for number_of_row, row in enumerate(rows):
        key = None if number_of_row == 0 else (row[0], row[2], row[3])
        if number_of_row > 0 and key != before:
            made.append("")  # a gap between what is compared with each other
        before = key
        made.append("  ".join(cell.ljust(widths[0]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row)).rstrip())
    return "\n".join(made) + "\n"


def markdown(lines, sentences, pictures):
    rows = grid(lines)
    made = [sentence.replace("*", "\\*") for sentence in sentences] + [""]
    made.append("| " + " | ".join(rows[0]) + " |")
    made.append("|--" * len(rows[0]) + "|")
    made += ["| " + " | ".join(row).replace("*", "\\*") + " |" for row in rows[1:]]
    for name, caption in pictures:
        made += ["", f"![{caption}]({name}.png)"]
    return "\n".join(made) + "\n"


def comma_separated(lines):
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    for line in lines:
        shares = [f"{line.shares[name]:.4f}" for name in ("compute", "wire", "imbalance", "wait")]
        writer.writerow([line.half, line.nodes, line.ranks, line.sequences, line.prompt_tokens, *(f"{value:.6g}" for value in line.speed),
                         f"{line.speed_up:.4f}", f"{line.efficiency:.4f}", *shares,
                         "" if line.predicted is None else f"{line.predicted:.6g}", int(line.crowded)])
    return out.getvalue()
