"""The page about the alternatives says what was measured."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "benchmarks" / "peers"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """The program that makes the page; it is no part of a package."""
    spec = importlib.util.spec_from_file_location("tables", PEERS / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(title: str, ms: float, users: float, cold_ms: float, mb: float) -> dict[str, Any]:
    """What `beside.py` keeps of a row, as far as the page shows it."""
    start = {
        "python_ms": 50.0, "import_ms": cold_ms - 60, "load_ms": 9.0, "first_answer_ms": 1.0,
        "total_ms": cold_ms, "processor_ms": cold_ms - 20, "peak_mb": mb, "used_mb": 100.0,
        "installed_mb": 120.0, "comes_back": "items",
    }  # fmt: skip
    one = {"p50_ms": ms, "p99_ms": 3 * ms, "processor_ms": ms - 0.1}
    batch = {"processor_ms": 1e3 * 256 / users}
    return {"title": title, "one": one, "batch": batch, "start": start}


def results(**rows: dict[str, Any]) -> dict[str, Any]:
    """A file of results with one catalogue."""
    named = {name.replace("_", "-"): found for name, found in rows.items()}
    setting = {"title": "3,416 items", "rows": named}
    return {"machine": {"processor": "a processor"}, "settings": {"3k": setting}}


def cells(page: str, start: str) -> list[list[str]]:
    """Rows of the tables of a page that begin so."""
    lines = [line for line in page.splitlines() if line.startswith(f"| {start} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_ratios_are_to_bare_onnxruntime_of_the_same_catalogue(tables) -> None:
    bare, ours = row("bare", 0.5, 2000, 200, 64), row("ours", 0.2, 7000, 220, 80)
    page = tables.page(results(onnxruntime=bare, sasrec_fp32=ours), None)
    (measured, installed) = cells(page, "ours")
    assert measured[1:6] == ["0.200", "0.400 (0.250)", "0.600", "7,000", "3.50"]
    assert measured[6:] == ["220", "1.10 (1.11)", "80", "1.25"]
    assert installed[1:4] == ["210 + 9 + 1", "100", "1.00"]


def test_limits_stand_beside_what_was_measured_kept_or_not(tables) -> None:
    bare, ours = row("bare", 0.5, 2000, 200, 64), row("ours", 0.4, 2400, 220, 80)
    page = tables.page(results(onnxruntime=bare, sasrec_fp32=ours), None)
    (limits,) = cells(page, "3,416 items, fp32")
    assert limits[1:4] == [
        "0.800 (at most 0.6)", "0.750 (at most 0.6)", "1.20 (at least 1.5)",
    ]  # fmt: skip


def test_without_bare_onnxruntime_there_are_no_ratios(tables) -> None:
    page = tables.page(results(sasrec_fp32=row("ours", 0.2, 7000, 220, 80)), None)
    (measured, installed) = cells(page, "ours")
    assert [measured[2], measured[7]] == ["- (-)"] * 2
    assert [measured[5], measured[9], installed[3]] == ["-"] * 3


def test_a_scan_of_faiss_is_shown_if_there_was_one(tables) -> None:
    rows = {
        "faiss-flat": {**row("flat", 30, 1, 900, 600), "overlap@10": 1.0},
        "faiss-sq8": {**row("codes", 20, 1, 400, 200), "overlap@10": 0.98},
        "sasrec-int8": {**row("ours", 9, 1, 300, 210), "overlap@10": 0.99},
    }
    found = results(onnxruntime=row("bare", 0.5, 2000, 200, 64))
    page = tables.page(found, {"title": "1,000,000 items", "rows": rows})
    ((_, median, to_flat, to_codes, *_),) = cells(page, "ours")
    assert (median, to_flat, to_codes) == ("9.00", "0.300 (0.298)", "0.450 (0.447)")


def test_the_page_is_that_of_the_results(tables) -> None:
    """Who measures anew makes it anew."""
    found = json.loads((PEERS / "results.json").read_text())
    faiss = json.loads((PEERS / "faiss.json").read_text())
    assert (ROOT / "docs" / "peers.md").read_text(encoding="utf-8") == tables.page(found, faiss)
