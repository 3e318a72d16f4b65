"""MovieLens is recognised by its files and read with its films and users."""

import zipfile
from pathlib import Path

import pandas as pd
import pytest
from movielens_files import EDITIONS, EVENTS, GENRES, TITLES, as_archive, as_folder, ml_100k

from attnrec.runtime.errors import DataError
from attnrec.train import TrainConfig, train
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.load import load_interactions
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.data.sources import with_known_columns

PLAIN = DataRecipe()
LOG = pd.DataFrame(EVENTS, columns=["user_id", "item_id", "rating", "timestamp"])


def read(path: Path, recipe: DataRecipe = PLAIN) -> Interactions:
    return load_interactions(path, with_known_columns(path, recipe))[0]


def replaced(archive: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for name, data in content.items():
            file.writestr(name, data)
    return archive


@pytest.mark.parametrize("pack", [as_folder, as_archive])
@pytest.mark.parametrize("edition", EDITIONS)
def test_every_edition_gives_the_events_titles_and_genres(edition, pack, tmp_path) -> None:
    data = read(pack(edition, tmp_path))
    assert data.fingerprint() == load_interactions(LOG)[0].fingerprint()
    assert data.titles is not None and data.item_attributes is not None
    films = data.item_ids.tolist()
    assert dict(zip(films, data.titles, strict=True)) == dict(enumerate(TITLES, 1))
    found = dict(zip(films, data.item_attributes.tolist(), strict=True))
    assert found == {film: tuple(genres) for film, genres in enumerate(GENRES, 1)}


@pytest.mark.parametrize("edition", ["ml-100k", "ml-1m"])
def test_users_have_a_gender_an_age_band_and_an_occupation(edition, tmp_path) -> None:
    data = read(as_archive(edition, tmp_path))
    assert data.user_tags is not None
    tags = dict(zip(data.user_ids.tolist(), data.user_tags.tolist(), strict=True))
    assert tags[1] == ("gender:F", "age:under 18", "occupation:writer")
    assert tags[2] == ("gender:M", "age:18-24", "occupation:programmer")
    assert tags[3] == ("gender:F", "age:56+", "occupation:lawyer")


def test_an_edition_without_users_has_no_tags(tmp_path) -> None:
    path = as_folder("ml-100k", tmp_path)
    (path / "u.user").unlink()
    assert read(path).user_tags is None
    assert with_known_columns(path, PLAIN).tag_cols == ()
    assert read(as_archive("ml-latest-small", tmp_path)).user_tags is None


def test_columns_and_tables_of_your_own_win(tmp_path) -> None:
    path = as_archive("ml-100k", tmp_path)
    recipe = DataRecipe(tag_cols=("occupation",), min_rating=4)
    chosen = with_known_columns(path, recipe)
    assert (chosen.attribute_cols, chosen.tag_cols) == (("genres",), ("occupation",))
    own = pd.DataFrame({"item_id": [1], "title": ["mine"], "genres": ["Own"]})
    data, report = load_interactions(path, chosen, items=own)
    assert data.user_tags is not None and ("lawyer",) in data.user_tags.tolist()
    assert data.titles is not None and set(data.titles) <= {"mine", ""}
    assert report.dropped_rating == sum(rating < 4 for *_, rating, _ in EVENTS)


def test_other_sources_keep_their_recipe(tmp_path) -> None:
    LOG.to_csv(tmp_path / "log.csv", index=False)
    for source in (None, LOG, tmp_path / "log.csv", tmp_path, tmp_path / "nothing.zip"):
        assert with_known_columns(source, PLAIN) is PLAIN
    assert load_interactions(tmp_path)[1].rows_read == len(LOG)


def test_a_run_keeps_what_was_read(tmp_path) -> None:
    path = as_folder("ml-1m", tmp_path)
    run = train(path, TrainConfig("popularity"), out=tmp_path / "run")
    assert run.recipe.attribute_cols == ("genres",)
    assert (run.data["source"], run.data["n_described"]) == ("ratings.dat", 11)


def test_a_zip_archive_of_something_else_is_refused(tmp_path) -> None:
    path = replaced(tmp_path / "photos.zip", {"a/b/u.data": b"", "../u.item": b""})
    with pytest.raises(DataError, match=r"photos\.zip: no archive of MovieLens; unpack it"):
        read(path)


@pytest.mark.parametrize("keep", [0.3, 0.99])
def test_a_cut_or_damaged_archive_is_refused(keep, tmp_path) -> None:
    path = as_archive("ml-1m", tmp_path)
    whole = bytearray(path.read_bytes())
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(DataError, match=r"ml-1m\.zip: no intact zip archive .*; get it anew"):
        read(path)
    whole[whole.index(b"ratings.dat") + 20] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"ratings\.dat: not as MovieLens is published"):
        read(path)


def test_a_member_that_claims_to_be_huge_is_not_unpacked(tmp_path) -> None:
    path = as_archive("ml-100k", tmp_path)
    content = path.read_bytes()
    listed = content.index(b"PK\x01\x02")
    listed = content.rindex(b"PK\x01\x02", listed, content.index(b"u.data", listed))
    huge = content[: listed + 24] + b"\xff\xff\xff\xf0" + content[listed + 28 :]
    path.write_bytes(huge)
    with pytest.raises(DataError, match=r"u\.data.*bytes, more than 2,147,483,648"):
        read(path)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("u.data", b"", "Empty CSV file"),
        ("u.data", b"1\t2\t3\n", "Expected 4 columns, got 3"),
        ("u.data", b"1\t2\t3\tsoon\n1\t3\t3\tnow\n", "row 1, column 'timestamp': 'soon'"),
        ("u.item", b"1|A\n", "u.item: not as MovieLens is published"),
        ("u.user", b"1|old|M|writer|0\n", "u.user: no age or occupation as MovieLens has"),
        ("u.user", b"1|30|M|21|0\n", "u.user: no age or occupation as MovieLens has"),
    ],
)
def test_a_damaged_file_is_named(name, content, problem, tmp_path) -> None:
    path = replaced(tmp_path / "ml-100k.zip", ml_100k() | {name: content})
    with pytest.raises(DataError) as caught:
        read(path)
    assert problem in str(caught.value) and str(caught.value).startswith(name)


def test_other_tables_under_the_names_of_the_latest_edition_are_refused(tmp_path) -> None:
    path = as_folder("ml-latest-small", tmp_path)
    (path / "ratings.csv").write_text("movieId,userId,rating,timestamp\n1,2,3,4\n")
    with pytest.raises(DataError, match="header is not userId,movieId,rating,timestamp"):
        read(path)
