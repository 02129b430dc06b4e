"""Makes the report's page one C file: its styles and scripts in place, cut where a report's data goes.

usage: embed.py DIRECTORY OUTPUT
"""
import pathlib
import re
import sys

directory = pathlib.Path(sys.argv[1])


def inline(match):
    return (directory / match[1]).read_text(encoding="utf-8").strip()


def array(name, text):
    data = text.encode("utf-8")
    lines = (",".join(map(str, data[i:i + 40])) for i in range(0, len(data), 40))
    return (f"const unsigned char {name}[] = {{\n" + ",\n".join(lines) + "\n};\n"
            f"const size_t {name}_bytes = sizeof {name};\n")


page = (directory / "report.html").read_text(encoding="utf-8")
page = re.sub(r"\{\{(\w+\.(?:css|js))\}\}", inline, page)
head, tail = page.split("{{data}}")
paper = (directory / "paper.json").read_text(encoding="utf-8")
pathlib.Path(sys.argv[2]).write_text(
    '#include "report_page.h"\n\n' + array("report_page_head", head) + array("report_page_tail", tail)
    + array("report_paper", paper), encoding="utf-8")
