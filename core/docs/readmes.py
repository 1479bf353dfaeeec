"""A hook of the site: the READMEs of the core and of the domains are pages of it, as they stand."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {f"{name}/README.md": f"domains/{name}.md" for name in ("vision", "speech", "nlp", "rl")}
PAGES["core/README.md"] = "measured.md"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:]+)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the READMEs, and the pictures that they show, to the site's files."""
    for readme, page in PAGES.items():
        source = ROOT / readme

        def moved(link: re.Match[str], source: Path = source, page: str = page) -> str:
            picture, text, target, anchor = link.groups()
            path = (source.parent / target).resolve().relative_to(ROOT).as_posix()
            up = "../" * page.count("/")
            if path in PAGES:
                return f"{picture}[{text}]({up}{PAGES[path]}{anchor or ''})"
            if picture and files.get_file_from_path(path) is None:
                files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
            return f"![{text}]({up}{path})" if picture else text  # what is no page of the site is named alone

        files.append(File.generated(config, page, content=LINK.sub(moved, source.read_text())))
    return files
