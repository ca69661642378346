"""The viewer's page: its files as the server sends them, and as one self-contained page.

The files are plain ES modules in ``viewer/``: beside the packages in a checkout, inside this one in a wheel.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
import lzma
import posixpath
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from escort_codec.atomic import write_file
from escort_codec.errors import EscortError, LimitError, OutputError
from escort_codec.untrusted import read_file

MOST_EXEMPLARS: Final = 5000
MOST_BYTES: Final = 64 << 20
"""The most that an exported page holds; browsers become slow with more."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; worker-src 'self'; img-src data:; "
    "connect-src 'self' https: http://localhost:* http://127.0.0.1:*; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""The policy of the served page: it loads nothing from elsewhere except a file whose URL the user enters."""

PRIOR: Final = "prior-1.bin.gz"
"""The tables of coding ``context`` as browsers can unpack them; beside the spec in a checkout."""

LEARNED: Final = "latent-1.bin.gz"
"""The model of learned pictures as browsers can unpack it."""

_TEXTS: Final = (".js", ".css", ".html")
_IMPORT: Final = re.compile(r"^import \{([^}]*)\} from '([^']+)';$", re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?:async )?(?:function|class|const|var) (\w+)", re.MULTILINE)
_EXPORTED: Final = re.compile(r"^export \{([^}]*)\};$", re.MULTILINE)


def viewer_files() -> dict[str, bytes]:
    """The files of the viewer by their path in it, and the prior."""
    folder = _folder()
    paths = sorted(path for path in folder.rglob("*") if path.suffix in _TEXTS)
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    prior = next((path for path in (folder / PRIOR, folder.parent / "spec" / PRIOR) if path.is_file()), None)
    if prior is None:
        raise EscortError("the viewer's files are missing: install escort again")
    return found | {PRIOR: prior.read_bytes()}


@functools.cache
def learned_model() -> bytes:
    """The file ``LEARNED``: gzip of the length of the decoder's ONNX file (u32), the tables, and that file."""
    from escort_codec.latent.tables import DECODER, FILE, read_file

    decoder = read_file(DECODER)
    return gzip.compress(struct.pack("<I", len(decoder)) + lzma.decompress(read_file(FILE)) + decoder, 6, mtime=0)


def served_files(files: Sequence[dict[str, str]]) -> dict[str, bytes]:
    """The responses of a server that shows ``files`` ({name, url}), by path; the page is ``""``.

    Page and workers load all modules as one script: one request instead of thirty.
    """
    parts = viewer_files()
    page = parts.pop("index.html").decode()
    page = _replace(page, _SERVED, _data("served", {"files": list(files), "prior": PRIOR, "learned": LEARNED}))
    page = _replace(page, _PRELOAD, "")
    page = _replace(page, _SCRIPT, '<script defer id="bundle" src="bundle.js"></script>')
    script = bundle({name: body.decode() for name, body in parts.items() if name.endswith(".js")})
    found = {"": page.encode(), "bundle.js": script.encode(), "style.css": parts["style.css"]}
    return found | {PRIOR: parts[PRIOR], LEARNED: learned_model()}


def export_page(files: Sequence[Path], out: Path, *, overwrite: bool = False) -> int:
    """Writes one page with the viewer and ``files`` in it; it needs no server. Returns the number of exemplars.

    The page is written whole or not at all. Raises OutputError if it exists or cannot be written, LimitError for more
    than a page can hold, FormatError for a file without an index.
    """
    import escort_codec

    if not overwrite and out.exists():
        raise OutputError(f"{out}: exists already: choose another name, or give `overwrite`")
    exemplars = size = 0
    learned = False
    for path in files:
        with escort_codec.open(path) as reader:
            exemplars += len(reader)
            size += reader.size
            if exemplars <= MOST_EXEMPLARS and size <= MOST_BYTES:
                learned = learned or any("latent" in (each.kind, each.hint_codec) for each in reader)
    if exemplars > MOST_EXEMPLARS or size > MOST_BYTES:
        held = f"{exemplars:,} exemplars in {size:,} bytes"
        raise LimitError(
            f"{held} are too many for one page: it holds {MOST_EXEMPLARS:,} in {MOST_BYTES:,} bytes. "
            "Take some of them with `escort extract` or `escort split`, or serve them without --export"
        )
    contents = [(path.name, read_file(path, EscortError, most=MOST_BYTES, follow=True)) for path in files]
    write_file(out, _whole_page(contents, learned).encode())
    return exemplars


_SERVED: Final = '<script type="application/json" id="served">{}</script>'
_SCRIPT: Final = '<script type="module" src="app/main.js"></script>'
_STYLE: Final = '<link rel="stylesheet" href="style.css">'
_PRELOAD: Final = '<link rel="modulepreload" href="app/main.js">\n'


def _folder() -> Path:
    here = Path(__file__)
    for folder in (here.with_name("viewer"), here.parents[1] / "viewer"):
        if (folder / "index.html").is_file():
            return folder
    raise EscortError("the viewer's files are missing: install escort again")


def _data(name: str, value: Any) -> str:
    text = json.dumps(value).replace("<", "\\u003c")  # no text can end the element
    return f'<script type="application/json" id="{name}">{text}</script>'


def _replace(page: str, old: str, new: str) -> str:
    if page.count(old) != 1:
        raise EscortError("the viewer's files are damaged: install escort again")
    return page.replace(old, new)


def _whole_page(files: Sequence[tuple[str, bytes]], learned: bool) -> str:
    """The page with script, style, prior and files in it, and the model of learned pictures if it is needed."""
    viewer = viewer_files()
    parts = {name: body.decode() for name, body in viewer.items() if name.endswith(_TEXTS)}
    script, style = bundle(parts), parts["style.css"]
    blobs = [("prior", viewer[PRIOR]), *((f"file-{number}", body) for number, (_, body) in enumerate(files))]
    if learned:
        blobs.append(("learned", learned_model()))
    data = [
        f'<script type="application/octet-stream" id="{name}">{base64.b64encode(body).decode()}</script>'
        for name, body in blobs
    ]
    held = [{"name": name, "id": f"file-{number}"} for number, (name, _) in enumerate(files)]
    data.append(_data("served", {"embedded": held, "learned": learned}))
    page = parts["index.html"]
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; worker-src blob:; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    meta = re.compile(r'(?<=<meta http-equiv="Content-Security-Policy" content=")[^"]*')
    page = _replace(page, meta.findall(page)[0], policy)
    page = _replace(page, _PRELOAD, "")
    page = _replace(page, _STYLE, f"<style>{style}</style>")
    page = _replace(page, _SERVED, "\n".join(data))
    return _replace(page, _SCRIPT, f'<script id="bundle">{script}</script>')


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def bundle(files: dict[str, str]) -> str:
    """The modules ``app/main.js`` and ``app/worker.js`` and all that they import as one classic script.

    In a page the script is the former, in a worker the latter. The modules keep to ``import { a } from './b.js';`` and
    to ``export`` before a declaration, so lines are all there is to rewrite.
    """
    modules: dict[str, str] = {}

    def add(name: str) -> None:
        if name in modules:
            return
        modules[name] = ""  # its place is after those that it imports
        text = files[name]

        def replace_import(match: re.Match[str]) -> str:
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), match[2]))
            add(target)
            return f"const {{{match[1].replace(' as ', ': ')}}} = use({json.dumps(target)});"

        text = _IMPORT.sub(replace_import, text)
        names = _EXPORT.findall(text)
        for match in _EXPORTED.finditer(text):
            names += [each.strip() for each in match[1].split(",")]
        text = _EXPORTED.sub("", re.sub(r"^export (?=\w)", "", text, flags=re.MULTILINE))
        modules[name] = f"{json.dumps(name)}: () => {{\n{text}\nreturn {{ {', '.join(names)} }};\n}}"

    add("app/main.js")
    add("app/worker.js")
    body = ",\n".join(modules.values())
    script = (
        "'use strict';\nconst made = {};\nconst use = (name) => (made[name] ??= modules[name]());\n"
        f"const modules = {{\n{body}\n}};\n"
        "use(typeof document === 'undefined' ? 'app/worker.js' : 'app/main.js');\n"
    )
    if re.search(r"^\s*(import|export)\b", script, re.MULTILINE) or "</script" in script or "<!--" in script:
        raise EscortError("the viewer's files are damaged: install escort again")
    return script
