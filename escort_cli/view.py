"""``escort view``: the viewer in a browser, from a server on this machine, or as one page to share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from escort_cli.terminal import print_line
from escort_codec.words import counted


def view(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The .escx files to look at.")],
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="PAGE.html", help="Write one page with the files in it instead of serving."),
    ] = None,
    port: Annotated[int, typer.Option(metavar="N", help="The port on 127.0.0.1; 0: a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    overwrite: Annotated[bool, typer.Option("--force", help="Replace an existing page.")] = False,
) -> None:
    """Look into files in a browser.

    Shows every exemplar's edge map, hint, prompt, seeds and bytes.

    The page is served on this machine alone, under an address that cannot be guessed, until Ctrl-C.
    """
    from escort_codec.container.file import ChunkFile, naming

    for path in files:
        with naming(path):
            ChunkFile(path).close()
    if export is not None:
        from escort_cli.view_page import export_page

        exemplars = export_page(files, export, overwrite=overwrite)
        held = f"{counted(exemplars, 'exemplar')} of {counted(len(files), 'file')}"
        print_line(f"{export}: {held}, {export.stat().st_size:,} bytes")
        return
    from escort_cli.view_server import ViewServer

    with ViewServer(files, port) as server:
        print_line(f"{server.address} (Ctrl-C ends it)")
        if browser:
            import webbrowser

            if not webbrowser.open(server.address):
                print_line("no browser was found: open the address in one", error=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:  # the usual end
            print_line()
