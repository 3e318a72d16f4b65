"""examples/notebook: it runs from top to bottom, and its figures are what its text says."""

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.examples

NOTEBOOK = Path(__file__).parents[2] / "examples/notebook/attnrec.ipynb"
N_PICTURES = 4

FACTS = """
import json
print(json.dumps({
    "figures": {name: figures.values for name, figures in measured.items()},
    "sizes": {name: path.stat().st_size for name, path in files.items()},
    "n_users": {name: figures.n_users for name, figures in measured.items()},
    "compared": report.n_test_users,
    "identical": report.n_identical,
    "share_of_tolerance": report.largest_share,
    "price": price,
    "history": history,
    "bought_next": bought_next,
    "recommended": answers[customer].item_ids,
    "score": why.score,
    "scores": answers[customer].scores,
    "contributions": why.contributions,
    "attention": why.attention,
}))
"""


def read() -> Any:
    # Not above: `make test` reads this file as well, where the extra is not installed.
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def pictures(notebook: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook, run anew in an empty directory, and one more cell that prints facts."""
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell

    notebook = read()
    notebook.cells.append(new_code_cell(FACTS))
    folder = str(tmp_path_factory.mktemp("notebook"))
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": folder}}).execute()
    return notebook


@pytest.fixture(scope="module")
def facts(executed: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(executed.cells[-1].outputs[0].text)
    return found


def test_every_cell_runs_without_a_warning_and_draws_what_it_should(
    executed: Any,
) -> None:
    said = [output for output in outputs(executed) if output.get("name") == "stderr"]
    assert said == []
    assert pictures(executed) == N_PICTURES


def test_the_files_answer_like_torch_and_int8_nearly_like_the_exact_one(
    facts: dict[str, Any],
) -> None:
    # Lists may differ where scores are closer than the tolerance, of few customers.
    assert facts["compared"] == 4189
    assert facts["identical"] >= 4180
    assert facts["share_of_tolerance"] < 1
    assert facts["price"]["overlap@10"] > 0.98
    assert facts["sizes"]["attention, int8"] < 0.6 * facts["sizes"]["attention"]


def test_attention_stands_where_the_text_says(facts: dict[str, Any]) -> None:
    assert set(facts["n_users"].values()) == {4189}
    ndcg = {name: figures["ndcg@10"] for name, figures in facts["figures"].items()}
    assert ndcg["popularity"] < 0.03
    assert ndcg["markov-chain"] > 0.2
    assert ndcg["attention"] > 0.2
    assert ndcg["attention, int8"] == pytest.approx(ndcg["attention"], rel=0.02)


def test_the_explained_product_is_a_recommended_one_and_every_event_has_its_share(
    facts: dict[str, Any],
) -> None:
    place = facts["recommended"].index(facts["bought_next"])
    assert facts["score"] == pytest.approx(facts["scores"][place], abs=1e-4)
    assert len(facts["contributions"]) == len(facts["attention"]) == len(facts["history"])
    assert sum(facts["attention"]) == pytest.approx(1, abs=1e-4)
    assert max(facts["contributions"]) > 0


def test_what_is_committed_was_run_from_top_to_bottom_and_tells_nothing_of_a_machine() -> None:
    notebook = read()
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert {output.output_type for output in outputs(notebook)}.isdisjoint({"error"})
    assert pictures(notebook) == N_PICTURES
    text = NOTEBOOK.read_text()
    assert len(text) < 500_000
    assert not any(place in text for place in ("/tmp", "/home", "/root", "C:\\\\"))
