"""The plots of a sweep: each is a gnuplot script with its data inside (kept beside the pictures), drawn as PNG and SVG.

    decode-pP, prefill-pP   tokens per second over nodes, with ideal and predicted lines, for prompts of P tokens
    speed-up-pP             speed-up over nodes
    shares-pP               where the time went
    predicted               predicted against measured, if anything was predicted

Colours are those of Okabe and Ito, which colour-blind people can tell apart; series also differ in their points, and are named at their ends.
"""
import math
import os
import shutil
import subprocess

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
POINTS = [7, 5, 9, 11, 13, 15, 2]  # filled shapes; another for each series
SHARE_COLOURS = dict(compute="#0072B2", wire="#E69F00", imbalance="#CC79A7", wait="#999999")
SHARE_FOOT = "wire: messages, and waiting for them; imbalance: waiting for ranks with more to do; wait: between steps"
FONT = "DejaVu Sans"
WIDTH, HEIGHT = 960, 600  # of the SVG; the PNG has twice as many pixels each way
GREY = "#555555"


def quoted(value):
    """For gnuplot: in single quotes nothing is replaced or run."""
    return "'" + " ".join(value.replace("'", "''").split()) + "'"


def count(n, word):
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def ticks(low, high):
    """1, 2, 5, 10, ... of a logarithmic axis."""
    found = []
    for power in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1):
        found += [m * 10.0 ** power for m in (1, 2, 5) if low <= m * 10.0 ** power <= high]
    return ", ".join(f'"{value:g}" {value:g}' for value in found)


def spread(wanted, gap, low, high):
    """Places for labels as near to the wanted ones as they can be without being nearer to each other than gap."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    places = [wanted[i] for i in order]
    for _ in range(200):
        moved = False
        for i in range(len(places) - 1):
            lack = gap - (places[i + 1] - places[i])
            if lack > 1e-9:
                places[i] -= lack / 2
                places[i + 1] += lack / 2
                moved = True
        places = [min(max(place, low), high) for place in places]
        if not moved:
            break
    result = [0.0] * len(wanted)
    for i, place in zip(order, places):
        result[i] = place
    return result


class Script:
    """A gnuplot script; its terminal and output are set when it is drawn."""

    def __init__(self, name, title, sentences, caption):
        self.name, self.caption = name, caption
        self.lines = ["set encoding utf8", "set border 3 lc rgb '#555555'", "set tics nomirror out", "set grid lc rgb '#e4e4e4' lt 1 lw 0.6",
                      "set errorbars 0.7", f"set label 900 {quoted('{/:Bold ' + title + '}')} at screen 0.015,0.965 left enhanced font '{FONT},15'"]
        for i, sentence in enumerate(sentences):
            self.lines.append(f"set label {901 + i} {quoted(sentence)} at screen 0.015,{0.922 - 0.031 * i:.3f} left noenhanced "
                              f"font '{FONT},9.5' tc rgb '{GREY}'")
        self.n_block = 0

    def add(self, *lines):
        self.lines += lines

    def block(self, rows):
        """A table of numbers; its name."""
        name = f"$d{self.n_block}"
        self.n_block += 1
        self.lines += [f"{name} << EOD", *(" ".join(f"{value:.6g}" for value in row) for row in rows), "EOD"]
        return name

    def foot(self, own, *sentences):
        """Below the plot: sentences, and what the star at a number of nodes means."""
        star = ["* nodes that share the cores of one machine, with more threads than it has cores"] if any(x.crowded for x in own) else []
        for i, sentence in enumerate(reversed([*sentences, *star])):
            self.add(f"set label {990 + i} {quoted(sentence)} at screen 0.015,{0.022 + 0.030 * i:.3f} left noenhanced font '{FONT},9' "
                     f"tc rgb '{GREY}'")

    def legend(self, y, entries):
        """A row of samples with their names: (name, what draws the sample, "line", "points" or "box"). gnuplot's own key wraps as it likes."""
        x = 0.10
        for i, (name, look, kind) in enumerate(entries):
            line = look if kind == "line" else look.split(" pt ")[0] + " lw 2"
            if kind == "box":
                self.add(f"set object {50 + i} rectangle from screen {x:.4f},{y - 0.011:.4f} to screen {x + 0.024:.4f},{y + 0.011:.4f} "
                         f"fc {look} fs solid 0.9 noborder")
            else:
                self.add(f"set arrow {50 + i} from screen {x:.4f},{y:.4f} to screen {x + 0.038:.4f},{y:.4f} nohead {line}")
            if kind == "points":
                self.add(f"set label {860 + i} '' at screen {x + 0.019:.4f},{y:.4f} point {look.split(' lw ')[0]}")
            x += 0.032 if kind == "box" else 0.046
            self.add(f"set label {870 + i} {quoted(name)} at screen {x:.4f},{y:.4f} left noenhanced font '{FONT},10'")
            x += 0.0078 * len(name) + 0.03

    def once(self):
        """In a second panel: what stands beside the panels is there already."""
        self.add(*(f"unset label {number}" for number in (*range(870, 904), *range(990, 993))))

    def text(self):
        return "\n".join(self.lines) + "\n"


def series_of(lines, half, prompt):
    """{sequences: its lines by nodes}"""
    found = {}
    for line in lines:
        if line.half == half and line.prompt_tokens == prompt:
            found.setdefault(line.sequences, []).append(line)
    return {sequences: sorted(found[sequences], key=lambda line: line.nodes) for sequences in sorted(found)}


def node_ticks(lines):
    stars = {line.nodes: line.crowded for line in lines}
    return ", ".join(f'"{nodes}{"*" if stars[nodes] else ""}" {nodes}' for nodes in sorted(stars))


def style(i):
    return f"lc rgb '{COLOURS[i % len(COLOURS)]}' pt {POINTS[i % len(POINTS)]} ps 1.1"


def throughput(lines, half, prompt, sentences):
    """Tokens per second over nodes; both axes logarithmic, so that ideal lines are straight and parallel."""
    series = series_of(lines, half, prompt)
    own = [line for group in series.values() for line in group]
    what = "Decode" if half == "decode" else "Prefill"
    s = Script(f"{half}-p{prompt}", f"{what}: tokens per second over nodes, prompts of {count(prompt, 'token')}", sentences,
               f"{what}: tokens per second over nodes")
    nodes = sorted({line.nodes for line in own})
    ideal = {b: [(n, group[0].speed[0] * n / group[0].nodes) for n in (nodes[0], nodes[-1])] for b, group in series.items()}
    values = [v for line in own for v in (*line.speed, *([line.predicted] if line.predicted else []))]
    values += [value for ends in ideal.values() for _, value in ends]
    low, high = min(v for v in values if v > 0) / 1.3, max(values) * 1.3
    right = nodes[-1] * (nodes[-1] / nodes[0]) ** 0.06 if len(nodes) > 1 else nodes[0] * 1.5
    left = nodes[0] / (nodes[-1] / nodes[0]) ** 0.06 if len(nodes) > 1 else nodes[0] / 1.5
    s.add("set lmargin at screen 0.10", "set rmargin at screen 0.845", "set tmargin at screen 0.82", "set bmargin at screen 0.15",
          "set logscale xy", f"set xrange [{left:.6g}:{right:.6g}]", f"set yrange [{low:.6g}:{high:.6g}]", f"set xtics ({node_ticks(own)})",
          f"set ytics ({ticks(low, high)})", "set xlabel 'nodes' noenhanced", f"set ylabel '{half} tok/s, all sequences together' noenhanced",
          "unset key")
    s.foot(own)
    ends = [math.log(group[-1].speed[0]) for group in series.values()]
    height = math.log(high) - math.log(low)
    places = spread(ends, 0.055 * height, math.log(low) + 0.03 * height, math.log(high) - 0.03 * height)
    parts = []
    for i, (sequences, group) in enumerate(series.items()):
        data = s.block([(line.nodes, *line.speed) for line in group])
        line_of_ideal = s.block(ideal[sequences])
        parts += [f"{line_of_ideal} using 1:2 with lines lc rgb '#888888' lw 1 dt 3 notitle",
                  f"{data} using 1:2 with lines lc rgb '{COLOURS[i % len(COLOURS)]}' lw 2 notitle",
                  f"{data} using 1:2:3:4 with yerrorbars {style(i)} lw 1.2 notitle"]
        told = [(line.nodes, line.predicted) for line in group if line.predicted]
        if told:
            parts.append(f"{s.block(told)} using 1:2 with lines lc rgb '{COLOURS[i % len(COLOURS)]}' lw 1.6 dt 2 notitle")
        s.add(f"set label {100 + i} {quoted(count(sequences, 'sequence'))} at graph 1.012, first {math.exp(places[i]):.6g} left noenhanced "
              f"tc rgb '{COLOURS[i % len(COLOURS)]}' font '{FONT},11'")
    legend = [("measured: median, min and max", "lc rgb '#000000' pt 7 ps 1.1 lw 2", "points"),
              ("ideal: n times the first", "lc rgb '#888888' lw 1 dt 3", "line")]
    if any(line.predicted for line in own):
        legend.append(("predicted by shoal plan", "lc rgb '#000000' lw 1.6 dt 2", "line"))
    s.legend(0.85, legend)
    s.add("plot " + ", \\\n     ".join(parts))
    return s


def speed_up(lines, prompt, sentences):
    """Two panels: decode and prefill; the ideal is the diagonal."""
    s = Script(f"speed-up-p{prompt}", f"Speed-up over nodes, prompts of {count(prompt, 'token')}", sentences, "Speed-up over nodes")
    own = [line for line in lines if line.prompt_tokens == prompt]
    nodes = sorted({line.nodes for line in own})
    first = nodes[0]
    top = max([nodes[-1] / first] + [line.speed_up for line in own]) * 1.06
    s.foot(own)
    s.add("set multiplot", f"set xrange [{first - 0.04 * (nodes[-1] - first) - 0.02:.6g}:{nodes[-1] + 0.04 * (nodes[-1] - first) + 0.02:.6g}]",
          f"set yrange [0:{top:.6g}]", f"set xtics ({node_ticks(own)})", "set xlabel 'nodes' noenhanced", "set tmargin at screen 0.84",
          "set bmargin at screen 0.15")
    for panel, half in enumerate(("decode", "prefill")):
        series = series_of(lines, half, prompt)
        left = 0.075 + 0.49 * panel
        s.add(f"set lmargin at screen {left:.3f}", f"set rmargin at screen {left + 0.295:.3f}",
              f"set ylabel '{half}: times the speed of {count(first, 'node')}' noenhanced", "unset key")
        if panel == 1:
            s.once()
        places = spread([group[-1].speed_up for group in series.values()], 0.055 * top, 0.03 * top, 0.97 * top)
        parts = [f"{s.block([(first, 1), (nodes[-1], nodes[-1] / first)])} using 1:2 with lines lc rgb '#888888' lw 1 dt 3 notitle"]
        s.add(f"set label 200 'ideal' at first {(first + nodes[-1]) / 2:.6g}, first {(1 + nodes[-1] / first) / 2 + 0.05 * top:.6g} right "
              f"noenhanced tc rgb '{GREY}' font '{FONT},10'")
        for i, (sequences, group) in enumerate(series.items()):
            data = s.block([(line.nodes, line.speed_up) for line in group])
            parts.append(f"{data} using 1:2 with linespoints {style(i)} lw 2 notitle")
            s.add(f"set label {100 + i} {quoted(count(sequences, 'sequence'))} at graph 1.02, first {places[i]:.6g} left noenhanced "
                  f"tc rgb '{COLOURS[i % len(COLOURS)]}' font '{FONT},10'")
        s.add("plot " + ", \\\n     ".join(parts))
    s.add("unset multiplot")
    return s


def shares(lines, prompt, sentences):
    """Stacked bars: a group for each number of sequences, a bar for each number of nodes."""
    s = Script(f"shares-p{prompt}", f"Where the time goes, prompts of {count(prompt, 'token')}", sentences, "Where the time goes")
    own = [line for line in lines if line.prompt_tokens == prompt]
    s.foot(own, SHARE_FOOT)
    s.add("set multiplot", "set tmargin at screen 0.81", "set bmargin at screen 0.20", "set yrange [0:100]", "set style fill solid 0.9 noborder",
          "set boxwidth 0.82", "unset grid", "unset key", "set ytics 0,25,100", "set border 2 lc rgb '#555555'", "set tics scale 0.5")
    for panel, half in enumerate(("decode", "prefill")):
        left = 0.085 + 0.49 * panel
        if panel == 1:
            s.once()
        else:
            s.legend(0.85, [(name, f"rgb '{colour}'", "box") for name, colour in SHARE_COLOURS.items()])
        s.add(f"set lmargin at screen {left:.3f}", f"set rmargin at screen {left + 0.41:.3f}", f"set ylabel '{half}: % of the time' noenhanced")
        rows, names, at, label = [], [], 0, 300
        s.add(*(f"unset label {number}" for number in range(300, 700)) if panel == 1 else ())
        for sequences, group in series_of(lines, half, prompt).items():
            middle = at + (len(group) - 1) / 2
            for line in group:
                rows.append((at, *(100 * line.shares[name] for name in SHARE_COLOURS)))
                names.append(f'"{line.nodes}{"*" if line.crowded else ""}" {at}')
                at += 1
            s.add(f"set label {label} {quoted(count(sequences, 'sequence'))} at first {middle:.6g}, graph -0.125 center noenhanced font '{FONT},10'")
            label += 1
            at += 0.7
        s.add(f"set xrange [-0.7:{at - 1.0:.6g}]", f"set xtics ({', '.join(names)})", "set label 299 'nodes' at graph -0.02, graph -0.058 right "
              f"noenhanced font '{FONT},10'")
        for row in rows:
            under = 0.0
            for name, value in zip(SHARE_COLOURS, row[1:]):
                if value >= 7:
                    s.add(f"set label {label} '{value:.0f}' at first {row[0]:.6g}, first {under + value / 2:.6g} center noenhanced front "
                          f"tc rgb '{'#ffffff' if name == 'compute' else '#000000'}' font '{FONT},9'")
                    label += 1
                under += value
        data = s.block([(row[0], *(sum(row[1:i + 1]) for i in range(1, len(row)))) for row in rows])
        parts = []
        for i, name in reversed(list(enumerate(SHARE_COLOURS))):  # the tallest first, the others before it
            parts.append(f"{data} using 1:{i + 2} with boxes lc rgb '{SHARE_COLOURS[name]}' notitle")
        s.add("plot " + ", \\\n     ".join(parts))
    s.add("unset multiplot")
    return s


def prediction(lines, sentences):
    """Predicted against measured, on equal logarithmic axes, with the band of 25 %."""
    s = Script("predicted", "Predicted and measured tokens per second", sentences, "Predicted against measured")
    own = [line for line in lines if line.predicted]
    low = min(min(line.predicted, line.speed[0]) for line in own) / 1.5
    high = max(max(line.predicted, line.speed[0]) for line in own) * 1.5
    across = [low * (high / low) ** (i / 200) for i in range(201)]
    band = s.block([(x, max(x / 1.25, low), min(x * 1.25, high)) for x in across])  # gnuplot draws what leaves the axes wrongly
    s.add("set lmargin at screen 0.11", "set rmargin at screen 0.75", "set tmargin at screen 0.86", "set bmargin at screen 0.15", "set logscale xy",
          f"set xrange [{low:.6g}:{high:.6g}]", f"set yrange [{low:.6g}:{high:.6g}]", f"set xtics ({ticks(low, high)})",
          f"set ytics ({ticks(low, high)})", "set xlabel 'measured tok/s' noenhanced", "set ylabel 'predicted tok/s' noenhanced",
          "set key at screen 0.765,0.80 left top vertical Left reverse samplen 1.5 noenhanced")
    s.foot(own)
    parts = [f"{band} using 1:2:3 with filledcurves lc rgb '#eeeeee' title 'within 25 %'",
             f"{band} using 1:1 with lines lc rgb '#888888' lw 1 dt 3 title 'just as predicted'"]
    for half in ("decode", "prefill"):
        for i, nodes in enumerate(sorted({line.nodes for line in own})):
            points = [(line.speed[0], line.predicted) for line in own if line.half == half and line.nodes == nodes]
            if points:
                star = "*" if any(line.crowded for line in own if line.nodes == nodes) else ""
                shape = POINTS[i % len(POINTS)] if half == "decode" else POINTS[i % len(POINTS)] - 1
                parts.append(f"{s.block(points)} using 1:2 with points lc rgb '{COLOURS[i % len(COLOURS)]}' pt {shape} ps 1.3 lw 1.6 "
                             f"title {quoted(half + ', ' + count(nodes, 'node') + star)}")
    s.add("plot " + ", \\\n     ".join(parts))
    return s


def scripts(lines, sentences):
    """All plots of a sweep."""
    found = []
    for prompt in sorted({line.prompt_tokens for line in lines}):
        found += [throughput(lines, "decode", prompt, sentences), throughput(lines, "prefill", prompt, sentences)]
        if len({line.nodes for line in lines}) > 1:
            found.append(speed_up(lines, prompt, sentences))
        found.append(shares(lines, prompt, sentences))
    if any(line.predicted for line in lines):
        found.append(prediction(lines, sentences))
    return found


def draw(script, folder):
    """The script, its PNG and its SVG in `folder`. None, or what gnuplot complains about."""
    path = os.path.join(folder, script.name)
    with open(path + ".gp", "w", encoding="utf-8") as out:
        out.write("# gnuplot -e \"set terminal svg; set output 'plot.svg'\" THIS\n" + script.text())
    terminals = dict(svg=f"set terminal svg size {WIDTH},{HEIGHT} font '{FONT},11' background '#ffffff'",
                     png=f"set terminal pngcairo size {2 * WIDTH},{2 * HEIGHT} fontscale 2 linewidth 2 pointscale 2 font '{FONT},11'")
    for kind, terminal in terminals.items():
        made = subprocess.run(["gnuplot", "-"], input=f"{terminal}\nset output {quoted(path + '.' + kind)}\n{script.text()}",
                              capture_output=True, text=True, check=False)
        if made.returncode != 0:
            return f"{path}.gp: {made.stderr.strip()}"
    return None


def missing():
    """Why nothing can be drawn here, or None."""
    return None if shutil.which("gnuplot") else "gnuplot is not installed (apt-get install gnuplot-nox), so there are no plots"
