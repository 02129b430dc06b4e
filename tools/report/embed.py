"""Makes a page one C file: its styles and scripts in place, cut where its data goes, and JSON files beside it.

usage: embed.py DIRECTORY NAME OUTPUT [JSON]...
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


name = sys.argv[2]
page = (directory / f"{name}.html").read_text(encoding="utf-8")
page = re.sub(r"\{\{(\w+\.(?:css|js))\}\}", inline, page)
head, tail = page.split("{{data}}")
text = '#include "report_page.h"\n\n' + array(f"{name}_page_head", head) + array(f"{name}_page_tail", tail)
for path in map(pathlib.Path, sys.argv[4:]):
    text += array(f"{name}_{path.stem}", path.read_text(encoding="utf-8"))
pathlib.Path(sys.argv[3]).write_text(text, encoding="utf-8")
