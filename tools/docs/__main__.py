"""Render the documents: make docs

python -m tools.docs            render docs/source/*.md.j2 into README*.md and docs/*.md
python -m tools.docs --check    write nothing; exit 1 where a figure has no source, or a page
                                is not what its source renders to
"""

import argparse
import sys

from tools.docs.figures import unsourced
from tools.docs.render import render, sources, write
from tools.docs.sources import ROOT


def problems() -> list[str]:
    """What is wrong with the documents, a line each."""
    return [
        problem
        for page, path in sources().items()
        for problem in problems_of(page, path.name, path.read_text("utf-8"))
    ]


def problems_of(page: str, name: str, source: str, shown: str | None = None) -> list[str]:
    """What is wrong with one page. page: its path; name, source: its source's file name and text;
    shown: the page's text, read from its path where it is not given."""
    found = [
        f"docs/source/{name}:{one.line}: {one.text!r} has no source: name it by an expression"
        for one in unsourced(source)
    ]
    if shown is None:
        shown = (ROOT / page).read_text("utf-8")
    if shown != render(source, name):
        found.append(f"{page} is not what docs/source/{name} renders to: make docs")
    return found


def main() -> int:
    """Render or check. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        found = problems()
        print("\n".join(found) or "docs: no findings")
        return bool(found)
    print("\n".join(write()) or "docs: nothing changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
