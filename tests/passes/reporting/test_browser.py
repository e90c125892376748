"""The page in a real browser; skipped where there is no Chromium."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hant.passes.reporting.page import page
from hant.passes.reporting.schema import Report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"), pytest.mark.slow]
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr"),
)


@contextmanager
def listener() -> Iterator[tuple[int, list[str]]]:
    """A port of this machine, and the first bytes of whatever connects to it."""
    heard: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        done = threading.Event()

        def listen() -> None:
            while not done.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(1)
                    heard.append(connection.recv(200).decode(errors="replace"))

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield server.getsockname()[1], heard
        finally:
            done.set()
            thread.join()


def browse(file: Path, profile: Path, *flags: str) -> str:
    """Open the file; return what the browser wrote to standard output. Every console message fails the test."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, file.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert not re.findall(r".*CONSOLE.*", done.stderr)
    return done.stdout


def test_no_request_leaves_and_the_console_is_silent(hostile: Report, tmp_path: Path) -> None:
    """All requests go to a proxy that listens; the browser's own are told apart by the names that the report holds."""
    file = tmp_path / "report.html"
    file.write_text(page(hostile), encoding="utf-8")
    with listener() as (port, heard):
        seen = browse(file, tmp_path / "profile", f"--proxy-server=127.0.0.1:{port}", "--dump-dom")
    assert seen.count("<svg") == 9
    assert not [line for line in heard if "x.example" in line]


def test_the_policy_of_the_page_holds_what_would_ask(report: Report, tmp_path: Path) -> None:
    """The check above can fail: markup put into the page by force asks where the policy is taken out."""
    with listener() as (port, heard):
        markup = f"<img src='http://127.0.0.1:{port}/asked'><script>document.title = 'ran'</script></main>"
        held, free = tmp_path / "held.html", tmp_path / "free.html"
        held.write_text(page(report).replace("</main>", markup), encoding="utf-8")
        free.write_text(re.sub("<meta http-equiv[^>]*>", "", held.read_text(encoding="utf-8")), encoding="utf-8")
        assert CHROMIUM is not None
        for file, expected in ((held, 0), (free, 1)):
            done = subprocess.run(
                [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / file.stem}", "--dump-dom", file.as_uri()],
                capture_output=True, text=True, check=True, timeout=120,
            )  # fmt: skip
            assert sum("/asked" in line for line in heard) == expected
            assert ("<title>ran</title>" in done.stdout) == bool(expected)


def test_it_fits_a_phone_and_prints(report: Report, tmp_path: Path) -> None:
    """At 390 pixels nothing is wider than the screen, tables scroll inside; printing makes a PDF."""
    file, probe = tmp_path / "report.html", tmp_path / "probe.html"
    script = (
        "<script>const d = document.documentElement; d.dataset.width = d.scrollWidth + ' ' + d.clientWidth;</script>"
    )
    html = re.sub("<meta http-equiv[^>]*>", "", page(report)).replace("</body>", f"{script}</body>")
    file.write_text(html, encoding="utf-8")
    words = html.replace("&", "&amp;").replace('"', "&quot;")
    look = "<script>onload = () => document.title = frames[0].document.documentElement.dataset.width</script>"
    probe.write_text(f'<iframe style="border:0;width:390px;height:900px" srcdoc="{words}"></iframe>{look}')
    seen = browse(probe, tmp_path / "phone", "--hide-scrollbars", "--dump-dom")
    assert "<title>390 390</title>" in seen
    browse(file, tmp_path / "print", f"--print-to-pdf={tmp_path / 'report.pdf'}")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
