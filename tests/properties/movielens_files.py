"""Synthetic users and films, written as MovieLens is published."""

import zipfile
from pathlib import Path

FLAGS = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
]  # fmt: skip
TITLES = ['Café "Zola" (1995)', "Ring, The (1996)", *(f"Film {i} (1990)" for i in range(3, 13))]
GENRES = [["Comedy", "War"], [], *([FLAGS[1 + i % 18]] for i in range(10))]
USERS = [(17, "F", "writer", 20), (24, "M", "programmer", 12), (56, "F", "lawyer", 11)]
USERS += [(30, "M", "other", 0)] * 5
EVENTS = [
    (user, (user * 5 + step * 7) % 12 + 1, 1 + step % 5, 874_000_000 + 1000 * user + step)
    for step in range(9)
    for user in range(1, 9)
]


def ml_100k() -> dict[str, bytes]:
    films = [
        f"{i}|{title}|01-Jan-1995||http://x|" + "|".join(str(int(f in genres)) for f in FLAGS)
        for i, (title, genres) in enumerate(zip(TITLES, GENRES, strict=True), 1)
    ]
    films[1] = films[1].replace("|0|", "|1|", 1)  # unknown is the first flag
    users = [f"{i}|{age}|{sex}|{job}|00000" for i, (age, sex, job, _) in enumerate(USERS, 1)]
    events = ["\t".join(map(str, event)) for event in EVENTS]
    return _encoded({"u.data": events, "u.item": films, "u.user": users}, "latin-1")


def ml_1m() -> dict[str, bytes]:
    films = [
        f"{i}::{title}::{'|'.join(genres)}"
        for i, (title, genres) in enumerate(zip(TITLES, GENRES, strict=True), 1)
    ]
    floors = [1, 18, 25, 35, 45, 50, 56]
    users = [
        f"{i}::{sex}::{max(f for f in floors if f <= age)}::{code}::00000"
        for i, (age, sex, _, code) in enumerate(USERS, 1)
    ]
    events = ["::".join(map(str, event)) for event in EVENTS]
    files = {"ratings.dat": events, "movies.dat": films, "users.dat": users}
    return _encoded(files, "latin-1")


def ml_latest() -> dict[str, bytes]:
    films = ["movieId,title,genres"]
    for i, (title, genres) in enumerate(zip(TITLES, GENRES, strict=True), 1):
        quoted = title.replace('"', '""')
        films.append(f'{i},"{quoted}",{"|".join(genres) or "(no genres listed)"}')
    events = ["userId,movieId,rating,timestamp"]
    events += [f"{user},{film},{rating}.0,{time}" for user, film, rating, time in EVENTS]
    return _encoded({"ratings.csv": events, "movies.csv": films, "tags.csv": ["x"]}, "utf-8")


EDITIONS = {"ml-100k": ml_100k, "ml-1m": ml_1m, "ml-latest-small": ml_latest}


def as_folder(edition: str, parent: Path) -> Path:
    folder = parent / edition
    folder.mkdir()
    for name, content in EDITIONS[edition]().items():
        (folder / name).write_bytes(content)
    return folder


def as_archive(edition: str, parent: Path) -> Path:
    path = parent / f"{edition}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{edition}/", "")
        for name, content in EDITIONS[edition]().items():
            archive.writestr(f"{edition}/{name}", content)
    return path


def _encoded(files: dict[str, list[str]], encoding: str) -> dict[str, bytes]:
    return {name: "".join(f"{x}\n" for x in rows).encode(encoding) for name, rows in files.items()}
