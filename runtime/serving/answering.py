"""A loaded file and how a body is answered from it: bytes in, bytes out, no HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attnrec.runtime.errors import SelfTestError
from attnrec.runtime.recommender import Recommender
from attnrec.runtime.serving import messages
from attnrec.runtime.serving.messages import Answer, Asked, Decode, Refused


@dataclass(frozen=True)
class Served:
    """A file as it is served; a server changes files by changing this one reference."""

    recommender: Recommender
    version: str
    """First digits of the sha256 of the file."""
    facts: bytes
    """What the file says of itself, as JSON."""
    fault: str | None
    """Why it must not be used on this machine; None: it reproduces its golden vectors."""
    decode: Decode

    @classmethod
    def of(cls, recommender: Recommender) -> "Served":
        """Prepare a file, and test it with its golden vectors."""
        info = recommender.info
        try:
            recommender.selftest()
            fault = None
        except SelfTestError as error:
            fault = str(error)
        version = (info.sha256 or "unsealed")[:12]
        decode = messages.decoder(info.id_type, info.user_id_type)
        return cls(recommender, version, messages.encode(info), fault, decode)

    def answer(self, body: bytes) -> bytes:
        """The answer to one question, or to a list of them. `Refused` if it cannot be asked."""
        asked = self.decode(body)
        try:
            if isinstance(asked, list):
                return messages.encode(self._answer_many(asked))
            found = self.recommender.recommend(
                asked.history,
                asked.k,
                exclude=asked.exclude,
                candidates=asked.candidates,
                exclude_seen=asked.exclude_seen,
                user=asked.user,
                user_tags=asked.user_tags,
            )
        except ValueError as error:  # of the arguments, and it says which
            raise Refused(422, str(error)) from error
        return messages.encode(messages.answer_of(found, self.version))

    def _answer_many(self, asked: Sequence[Asked]) -> list[Answer]:
        """Questions with the same k and policy share a batch."""
        groups: dict[tuple[int, bool | None], list[int]] = {}
        for place, question in enumerate(asked):
            groups.setdefault((question.k, question.exclude_seen), []).append(place)
        answers: dict[int, Answer] = {}
        for (k, exclude_seen), places in groups.items():
            rows = [asked[place] for place in places]
            found = self.recommender.recommend_batch(
                [row.history for row in rows],
                k,
                exclude=[row.exclude for row in rows],
                candidates=[row.candidates for row in rows],
                exclude_seen=exclude_seen,
                users=_given([row.user for row in rows]),
                user_tags=_given([row.user_tags for row in rows]),
            )
            for place, answer in zip(places, found, strict=True):
                answers[place] = messages.answer_of(answer, self.version)
        return [answers[place] for place in range(len(asked))]


def _given(values: list[Any]) -> list[Any] | None:
    """What the rows say of who asks; None where no row says anything."""
    return None if all(value is None for value in values) else values
