"""`attnrec export --recent`: popularity of newer events, without training."""

from pathlib import Path

from attnrec.runtime import Recommender


def test_newer_events_are_counted_and_what_was_counted_is_printed(run, log, tmp_path) -> None:
    directory, file = tmp_path / "run", tmp_path / "model.onnx"
    run("train", log, "--model", "popularity", "--out", directory, "--no-report")
    events: Path = tmp_path / "tonight.csv"
    rows = [f"new {n},{'024' if n else 'other'},{1_800_000_000 + n}" for n in range(99)]
    events.write_text("\n".join(["user_id,item_id,timestamp", *rows, ""]))
    outcome = run("export", directory, "--recent", events, "--out", file)
    assert outcome.code == 0, outcome.err
    assert "99 events until 2027-01-15 08:01:38 UTC, 1 of unknown items" in outcome.err
    assert "test     none" in outcome.out
    assert Recommender.load(file).recommend([], 1).item_ids == ["024"]
    before = file.read_bytes()
    run("export", directory, "--out", file)
    events.write_text("user_id,item_id,timestamp\nnew,024,1600000000\n")
    refused = run("export", directory, "--recent", events, "--out", file)
    assert refused.code == 2 and "none is newer; give what has happened since" in refused.err
    assert file.read_bytes() != before  # the file of the refused command stays as it was
