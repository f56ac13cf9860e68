"""What gpu-check found, as DEVICE.json and as a page of tables."""
import datetime
import json
import os
import re
import subprocess


def new_record(root, programs, emulated):
    commit = subprocess.run(["git", "-C", root, "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    version = subprocess.run([programs.shoal, "--version"], stdout=subprocess.PIPE, text=True)
    return {"emulated": emulated, "date": datetime.date.today().isoformat(), "commit": commit.stdout.strip(),
            "shoal": version.stdout.strip(), "device": {"device": "not found out"}, "yardsticks": {}, "parts": {}}


def slug(name):
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "device"


def write(folder, record):
    """The paths of what was written, whole each time."""
    base = os.path.join(folder, slug(record["device"]["device"]))
    for path, text in ((base + ".json", json.dumps(record, indent=1) + "\n"), (base + ".md", page(record))):
        with open(path + ".part", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".part", path)
    return [base + ".json", base + ".md"]


def show(value, digits=3):
    return "" if value is None else f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def page(record):
    device = record["device"]
    lines = [f"# {device['device']}", "",
             f"Written by `scripts/dev gpu-check` on {record['date']}, {record['shoal']}" + (f" ({record['commit']})." if record["commit"] else "."), ""]
    if record["emulated"]:
        lines += ["**Emulated: no speeds.** Nothing here ran on a GPU.", ""]
    elif "compute_capability" in device:
        lines += [f"Compute capability {device['compute_capability']}, {device['multiprocessors']} multiprocessors, "
                  f"{device['memory_bytes'] / 1e9:.1f} GB of which {device['free_bytes'] / 1e9:.1f} free; driver for CUDA "
                  f"{device['driver'] // 1000}.{device['driver'] % 1000 // 10}, runtime {device['runtime'] // 1000}.{device['runtime'] % 1000 // 10}.", ""]
    lines += parts_table(record["parts"]) + yardsticks(record["yardsticks"])
    found = {name: part.get("found") for name, part in record["parts"].items()}
    lines += goldens_table(found.get("goldens")) + kernels_table(found.get("kernels")) + runs_table(found.get("ranks"), found.get("mixed"))
    lines += speed_table(found.get("speed"))
    return "\n".join(lines) + "\n"


def parts_table(parts):
    rows = [f"| {name} | {part['status']} | {part['seconds']} | {part['said'].replace('|', '/')} |" for name, part in parts.items()]
    return ["| part | | s | |", "|--|--|--|--|", *rows, ""]


def yardsticks(numbers):
    if not numbers:
        return []
    rows = [f"| {name} | {show(value, 4)} |" for name, value in numbers.items()]
    return ["## What the device does where nothing else is asked of it", "", "| | |", "|--|--|", *rows, ""]


def goldens_table(found):
    if not found:
        return []
    rows = [f"| {family} | {show(one['logits_away'], 2)} | {one['choices'][0]} of {one['choices'][1]} | {'the same' if one['same_text'] else 'another'} | "
            f"{show(one['fast_q4_away'], 2)} |" for family, one in found.items()]
    return ["## Goldens", "", "| family | logits, largest difference | router choices | text | q4, --math fast: the median row from the CPU's |",
            "|--|--|--|--|--|", *rows, ""]


def kernels_table(found):
    if not found:
        return []
    rows = []
    for one in found:
        met = ""
        if one["target"] is not None and one["fraction"] is not None:
            met = "yes" if one["fraction"] >= one["target"] else "**no**"
        rows.append(f"| {one['part']} {one['kernel']} | {one['format']} | {one['shape']} | {one['tokens']} | {show(one['us'], 4)} | "
                    f"{show(one['gb_per_s'], 4)} | {show(one['tflop_per_s'], 4)} | {show(one['fraction'], 2)} | {one['of'] or ''} | "
                    f"{show(one['target'])} | {met} |")
    judged = [one for one in found if one["target"] is not None and one["fraction"] is not None]
    met = sum(one["fraction"] >= one["target"] for one in judged)
    summary = f"{met} of {len(judged)} targets are met." if judged else "No target was measured."
    return ["## Kernels", "", summary + " `fraction`: of the yardstick named behind it.", "",
            "| kernel | format | shape | tokens | us | GB/s | Tflop/s | fraction | of | target | met |", "|--" * 11 + "|", *rows, ""]


def runs_table(ranks, mixed):
    rows = [f"| {name} ranks on this GPU | {'the same text' if said is True else 'another text' if said is False else said} |"
            for name, said in (ranks or {}).items()]
    rows += [f"| --device {name} | {'the same text' if said else 'another text'} |" for name, said in (mixed or {}).items()]
    return ["## Several ranks", "", "| | |", "|--|--|", *rows, ""] if rows else []


def speed_table(found):
    if not found:
        return []
    rows = []
    for model, cases in found.items():
        if isinstance(cases, str):
            rows.append(f"| {model} | | | | | {cases} |")
            continue
        for one in cases:
            rows.append(f"| {model} | {one['prompt_tokens']} | {one['sequences']} | {show(one['prefill_tok_per_s'], 4)} | "
                        f"{show(one['decode_tok_per_s'], 4)} | {show(one['read_bandwidth_fraction'], 2)} |")
    return ["## Whole runs", "", "| model | prompt | sequences | prefill tok/s | decode tok/s | of read bandwidth |", "|--|--|--|--|--|--|", *rows, ""]
