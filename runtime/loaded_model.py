"""A model file that is loaded: its facts, its session, and what is read from it again."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import onnxruntime

from attnrec.runtime.arguments import stack
from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.loaded_file import Origin, RunGraph
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.model_file.reading import check_onnxruntime
from attnrec.runtime.model_file.tensors import StoredTensors
from attnrec.runtime.selftest import check_golden
from attnrec.runtime.session import check_session
from attnrec.runtime.side_inputs import CheckedSideInputs, SideInputs, check_inputs
from attnrec.runtime.similar import SimilarIndex
from attnrec.runtime.slates import SlateMaker


class LoadedModel:
    """What a `Recommender` is before it answers.

    Safe to share between threads. Survives `fork`, and `pickle` by loading its file again.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        metadata = session.get_modelmeta().custom_metadata_map
        self._info = ModelInfo.from_metadata(metadata)
        check_onnxruntime(self._info)
        declared = {value.name for value in session.get_inputs()}.union(self._info.inputs)
        none = CheckedSideInputs(self._info, SideInputs(), [0])
        self._no_side_inputs = none.inputs_of_one()
        check_inputs(declared, self._info)
        self._run = RunGraph(session, self._info.n_items)
        self._golden = metadata.get(names.GOLDEN_KEY, "[]")
        self._nothing = stack([np.empty(0)], self._info.id_type, "")  # (1, 0)
        self._similar = SimilarIndex()
        self._slate_maker = SlateMaker()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        n_threads: int = 1,
        providers: Sequence[Any] | None = None,
        verify: bool = True,
        unavailable: Iterable[int | str] = (),
    ) -> Self:
        """Load a file from `attnrec-export`. `ModelFileError` if it cannot be trusted or run.

        Tables of more than 16 MB stay in the file and are read there when they are needed: replace
        it by renaming another one, as `attnrec-export` does, not by writing into it.
        n_threads: threads of one answer; below 100,000 items 1 is fastest.
        providers: onnxruntime execution providers, by default the CPU.
        verify: compare the sha256 at the end of the file, which notices any altered byte, and
        refuse graphs that attnrec never writes: endless, huge, or reaching outside the file.
        unavailable: ids that are never returned, such as items out of stock; they do not slow
        answers down. A warning names ids that the file does not know.
        """
        return cls._of(
            Origin.of(path, unavailable, n_threads=n_threads, providers=providers, verify=verify)
        )

    @classmethod
    def _of(cls, origin: Origin) -> Self:
        session, origin = origin.open()
        try:
            recommender = cls(session)
        except ModelFileError as error:
            raise ModelFileError(f"{origin.path}: {error}") from error
        recommender._run.origin = origin
        return recommender

    @classmethod
    def from_session(cls, session: onnxruntime.InferenceSession) -> Self:
        """Use a session that the application made itself; nothing is verified, no reloading."""
        check_session(session)
        return cls(session)

    @property
    def info(self) -> ModelInfo:
        """The facts that the file holds: model, catalogue, quality, parity."""
        return self._info

    @property
    def unavailable(self) -> tuple[int | str, ...]:
        """Items of the file that are never returned, see `load`."""
        return () if self._run.origin is None else self._run.origin.unavailable

    def items(self) -> dict[int | str, str | None]:
        """Every id of the catalogue with its title, "" where unknown, None if there are no titles.

        Read from the file anew; not kept.
        """
        return self.stored().items()

    def stored(self) -> StoredTensors:
        """Ids, titles and item vectors, read from the file anew; not kept.

        `ValueError` without a file, `ModelFileError` if it is another one by now.
        """
        if self._run.origin is None:
            raise ValueError(
                "a Recommender made from a session has no file to read; use Recommender.load"
            )
        return self._run.origin.stored()

    def selftest(self) -> int:
        """Reproduce the golden vectors of the file on this machine; returns how many there are.

        `SelfTestError` names the first that comes out differently.
        """
        if self._run.origin is not None and self.unavailable:
            # They are answers of the whole catalogue.
            return self._of(replace(self._run.origin, unavailable=())).selftest()
        return check_golden(self._golden, self._info, self._run)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._run.origin is None:
            raise TypeError("a Recommender made from a session has no file to load again")
        return self._of, (self._run.origin,)

    def __repr__(self) -> str:
        info = self._info
        return f"<{type(self).__name__} {info.model} {info.profile}, {info.n_items} items>"
