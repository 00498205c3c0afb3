"""What the first call of an explanation costs: tracing, lowering and compiling it, next to `jax.jit(jax.grad)`.

    pip install '.[benchmark]' && python -m benchmarks.first_call

writes `benchmarks/results/first_call.md`; `--networks` and `--rows` choose, and `--before TABLE`, such a file that
another version wrote on the same machine, gives the ratios of before. Every number is the median of three new
processes, each of which traces and compiles one explanation and nothing before it, with XLA's defaults and no cache on
disk. Lines are those of the StableHLO that XLA is given. ``ratio`` is the sum of the three over that of `jax.jit(
jax.grad)`, the median of the rounds with the least and the most.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.explanations import Jaxplain

OUT = Path(__file__).parent / "results" / "first_call.md"
ROUNDS = 3
ROWS = (
    "jax.grad",
    "gradient",
    "integrated gradients, 16 steps",
    "LRP epsilon_plus_flat",
    "LRP epsilon_gamma_box",
    "DeepLIFT",
    "Grad-CAM",
    "Score-CAM, all channels",
)
HEADING = "| network | explanation | trace, s | lower, s | compile, s | lines | ratio (least to most) | before |"


def measured(row, network):
    """Seconds of the three stages and the number of lines, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.first_call", "--one", row, network]
    *_, last = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return json.loads(last)


def ratios_of(table):
    """The ratios of a table, by network and explanation."""
    cells = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
    return {tuple(row[:2]): next(cell for cell in row if "**" in cell) for row in cells if "**" in "".join(row)}


def line(network, row, rounds, before):
    """A line of the table."""
    mine, plain = ([r[name] for r in rounds] for name in (row, "jax.grad"))
    ratios = [sum(a[:3]) / sum(b[:3]) for a, b in zip(mine, plain, strict=True)]
    stages = [f"{statistics.median(m[i] for m in mine):.1f}" for i in range(3)]
    spread = f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})"
    cells = [network, row, *stages, f"{mine[0][3]:,}", spread, before.get((network, row), "-")]
    return f"| {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=["resnet50", "efficientnet_lite0"])
    parser.add_argument("--rows", nargs="*", default=ROWS[1:], choices=ROWS)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        seconds, lines, *_ = Jaxplain(Path()).staged(*options.one)
        print(json.dumps([*seconds, lines]))
        return
    before = ratios_of(options.before.read_text()) if options.before else {}
    lines = [
        f"jaxplain {version('jaxplain')} with jax {version('jax')}, float32, 4 images of 224 x 224, on a CPU "
        f"({platform.machine()}).",
        "",
        HEADING,
        f"|{'---|' * (HEADING.count('|') - 1)}",
    ]
    for network in options.networks:
        rows = list(dict.fromkeys(["jax.grad", *options.rows]))
        rounds = [{row: measured(row, network) for row in rows} for _ in range(ROUNDS)]
        lines += [line(network, row, rounds, before) for row in rows]
        print(*lines[-len(rows) :], sep="\n", flush=True)
    OUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
