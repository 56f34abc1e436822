"""Reports as the tables of docs/performance.md, each between two marks of its own."""

import datetime
import os
import re

from systems import ROOT

PAGE = os.path.join(ROOT, "docs", "performance.md")
COLUMNS = "| load | system | MB/s | records/s | p50 ms | p99 ms | CPU s/GB | RSS MiB | Flotilla is |"


def short(report):
    p99 = report.get("p99_ms")
    return f"{report['records_per_s']:,.0f} records/s, {report['mb_per_s']:.1f} MB/s" + (f", p99 {p99:.1f} ms" if p99 else "")


def number(report, key, digits):
    value = report.get(key)
    return "" if value is None else f"{value:,.{digits}f}"


def machine(folder):
    """CPU, cores, memory, kernel and the file system of the data."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    mounts = [line.split() for line in open("/proc/mounts", encoding="utf-8")]
    mount = max((m for m in mounts if folder.startswith(m[1])), key=lambda m: len(m[1]))
    name = model.group(1) if model else os.uname().machine
    return f"{os.cpu_count()} cores ({name}), {memory:.0f} GiB, Linux {os.uname().release}, {mount[2]}"


def markdown(results, missing, versions, folder, options):
    """One table; the last column is Flotilla's records a second by the system's."""
    lines = [f"Measured {datetime.date.today()}, {options.rounds} round(s) of {options.seconds} s each (median); "
             f"{machine(folder)}. " + ", ".join(f"{name} {version}" for name, version in versions.items() if version) + ".",
             "", COLUMNS, "| --- " * 9 + "|"]
    for load, systems in results.items():
        ours = systems.get("Flotilla", {}).get("records_per_s")
        for index, (system, report) in enumerate(systems.items()):
            ratio = f"{ours / report['records_per_s']:.2f}x" if ours and index and report["records_per_s"] else ""
            cells = [load if index == 0 else "", system, number(report, "mb_per_s", 1), number(report, "records_per_s", 0),
                     number(report, "p50_ms", 2), number(report, "p99_ms", 1), number(report, "cpu_s_per_gb", 1),
                     number(report, "rss_mib_sum", 0), ratio]
            lines.append("| " + " | ".join(cells) + " |")
    lines += [f"\nNot measured: {system}: {why}." for system, why in missing.items()]
    return "\n".join(lines) + "\n"


def replace(table, text):
    """Puts a table between its marks."""
    with open(PAGE, encoding="utf-8") as file:
        page = file.read()
    begin, end = f"<!-- bench-peers: {table} -->\n", "<!-- end -->"
    head, rest = page.split(begin, 1)
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(head + begin + text + end + rest.split(end, 1)[1])
