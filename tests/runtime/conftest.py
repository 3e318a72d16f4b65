"""The committed files of format 1: nothing here needs more than numpy and onnxruntime."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from attnrec.runtime import ModelFileError, Recommender
from attnrec.runtime.model_file import format as names

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"


@pytest.fixture(scope="session", params=sorted(FORMAT_1.glob("*.onnx")), ids=lambda p: p.stem)
def path(request: pytest.FixtureRequest) -> Path:
    """Each committed file in turn."""
    file: Path = request.param
    return file


@pytest.fixture(scope="session")
def recommender(path: Path) -> Recommender:
    return Recommender.load(path)


@pytest.fixture(scope="session")
def expected(path: Path) -> dict[str, Any]:
    """What the torch model behind `path` knows and answers; see tests/data/make_tiny.py."""
    content: dict[str, Any] = json.loads(path.with_suffix(".expected.json").read_text("utf-8"))
    return content


@pytest.fixture(scope="session")
def string_path() -> Path:
    """String ids, titles, policy no-repeats."""
    return FORMAT_1 / "tiny-string.onnx"


@pytest.fixture(scope="session")
def int64_path() -> Path:
    """int64 ids, no titles, policy repeats."""
    return FORMAT_1 / "tiny-int64.onnx"


@pytest.fixture(scope="session")
def strings(string_path: Path) -> Recommender:
    return Recommender.load(string_path)


@pytest.fixture(scope="session")
def numbers(int64_path: Path) -> Recommender:
    return Recommender.load(int64_path)


def facts_of(content: bytes) -> dict[str, str]:
    """The metadata entries as onnxruntime reads them."""
    facts: dict[str, str] = (
        onnxruntime.InferenceSession(content).get_modelmeta().custom_metadata_map
    )
    return facts


@pytest.fixture(scope="session")
def unsealed() -> Callable[[bytes], bytes]:
    """A file without its last metadata entry, the seal."""
    entry = names.metadata_entry(names.SEAL_KEY, "0" * names.SEAL_LENGTH)
    return lambda content: content[: -len(entry)]


@pytest.fixture(scope="session")
def rewritten(unsealed: Callable[[bytes], bytes]) -> Callable[[bytes, str, str], bytes]:
    """A file with another text under a key, sealed as if it had been exported like that."""

    def rewrite(content: bytes, key: str, text: str) -> bytes:
        facts, old = unsealed(content), names.metadata_entry(key, facts_of(content)[key])
        assert facts.count(old) == 1
        return names.seal(facts.replace(old, names.metadata_entry(key, text)))

    return rewrite


@pytest.fixture(scope="session")
def changed(
    rewritten: Callable[[bytes, str, str], bytes],
) -> Callable[[bytes, str, Callable[[Any], Any]], bytes]:
    """A file with a changed value under a key, likewise."""

    def change_value(content: bytes, key: str, change: Callable[[Any], Any]) -> bytes:
        value = change(json.loads(facts_of(content)[key]))
        return rewritten(content, key, json.dumps(value, ensure_ascii=False))

    return change_value


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., None]:
    """Assert that a file with this content is refused in words that name it and these."""
    path = tmp_path / "model.onnx"

    def assert_refused(content: bytes, *words: str, verify: bool = True) -> None:
        path.write_bytes(content)
        with pytest.raises(ModelFileError) as error:
            Recommender.load(path, verify=verify)
        message = str(error.value)
        assert message.startswith(str(path))
        for word in words:
            assert word in message, f"{word} is missing in: {message}"

    return assert_refused
