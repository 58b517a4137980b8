"""Makes docs/demo.png, the demo's page in a browser, from runs on the generated sample: python docs/tools/demo_picture.py [FOLDER]

Trains the two runs in FOLDER if they are not there (some minutes each), and needs Chromium.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "helpers"))

from chromium import Browser  # noqa: E402

PICTURE = ROOT / "docs" / "demo.png"
SYSTEMS = ("hcl", "transformer_keywords")
EXAMPLE, ADDED = 1, "month"  # an edit that moves the prior of the first and changes the output of the second
STEPS = 600  # of each run: those of the picture in the repository
WIDTH, PHONE = 1100, 390  # CSS pixels
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def trained(folder: Path) -> list[Path]:
    """Returns runs of `SYSTEMS` in a folder, which are trained if they are not finished."""
    runs = [folder / "runs" / system for system in SYSTEMS]
    for system, run in zip(SYSTEMS, runs, strict=True):
        command = [sys.executable, "-m", "hcl_tf.train", "--task=qqp", f"--model={system}", f"--max_steps={STEPS}", f"--run_dir={run}"]
        subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True)
    return runs


@contextmanager
def served(runs: list[Path], folder: Path) -> Iterator[str]:
    """Runs the demo on a free port and gives its address."""
    command = [sys.executable, "-m", "hcl_tf.demo", f"--run_dir={','.join(map(str, runs))}", "--port=0"]
    server = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        yield server.stdout.readline().split()[2]  # "the page: URL (Ctrl-C ends it)"
    finally:
        server.terminate()
        server.wait()


def remove(browser: Browser, number: int) -> str:
    """Clicks a chip and returns its keyword, as soon as the page without it is there."""
    chip = f"document.querySelectorAll('.chip')[{number}]"
    keyword = browser.evaluate(f"{chip}.value")
    browser.evaluate(f"{chip}.click()")
    browser.until(f"!{chips()}.includes({json.dumps(keyword)}) && document.readyState == 'complete'")
    return keyword


def add(browser: Browser, keywords: str) -> None:
    """Types keywords into the field, presses Enter and waits for the page with them."""
    browser.type(keywords, "#add")
    browser.press("Enter")
    browser.until("document.querySelector('#add')?.value === '' && document.readyState == 'complete'")


def chips() -> str:
    """Returns JavaScript for the keywords that stand on the page."""
    return "[...document.querySelectorAll('.chip')].map(chip => chip.value)"


def take(browser: Browser, width: int) -> bytes:
    """Returns the whole page as a PNG, at a width in CSS pixels."""
    browser.resize(width, 800)
    height = browser.evaluate("document.documentElement.scrollHeight")
    browser.evaluate("document.activeElement.blur()")
    browser.resize(width, height)
    return base64.b64decode(browser.call("Page.captureScreenshot", format="png")["data"])


def main(folder: Path) -> None:
    """Edits an example as a visitor would, and keeps the page."""
    folder.mkdir(parents=True, exist_ok=True)
    with served(trained(folder), folder) as address:
        browser = Browser(folder / "profile", folder)
        try:
            browser.resize(WIDTH, 800)
            browser.open(f"{address}/?example={EXAMPLE}")
            while browser.evaluate(f"{chips()}.length"):
                remove(browser, 0)
            add(browser, ADDED)
            PICTURE.write_bytes(take(browser, WIDTH))
            (folder / "phone.png").write_bytes(take(browser, PHONE))  # to be looked at
        finally:
            browser.close()
    print(f"wrote {PICTURE} and {folder / 'phone.png'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/picture").resolve())
