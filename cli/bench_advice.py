"""What the figures of `attnrec-bench` mean for whoever ships a file."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attnrec.runtime.measuring import BATCHES, Timing

Facts = Sequence[Mapping[str, Any]]
"""Of each file: name, profile, catalogue, size, cold start, what its export lost against fp32."""
Timings = Mapping[str, list[Timing]]
"""By file, and of torch under its own name; the first file comes first."""

_LOSS = 0.005  # of NDCG@10, what `attnrec-export` allows as well


def advice(facts: Facts, timings: Timings) -> list[str]:
    """Sentences of what was measured and of nothing else; threads and batches: the first file."""
    first, *others = timings
    said = [*_threads(timings[first]), _profile(facts)]
    size = {fact["file"]: fact["file_mb"] for fact in facts}
    speed = {kind: t.histories_per_second for kind, t in usual(timings[first]).items()}
    for name in others:
        theirs, largest = usual(timings[name]), max(BATCHES)
        one, many = (
            theirs[batch, 1, 1].histories_per_second / speed[batch, 1, 1] for batch in (1, largest)
        )
        said.append(f"{name}: {one:.2f} times the speed, {many:.2f} in batches of {largest}")
        said[-1] += f", {size[name] / size[first]:.2f} times the size" if name in size else ""
    return said


def _threads(rows: Sequence[Timing]) -> Iterator[str]:
    speed = {kind: t.histories_per_second for kind, t in usual(rows).items()}
    single = {n: speed[b, n, a] for b, n, a in speed if b == a == 1}
    wanted = max(single, key=lambda n: single[n] / (1 if n == 1 else 1.1))  # more is not free
    yield f"n_threads={wanted} for single histories"
    for n in list(single)[1:]:
        yield f"{n} threads: {single[n] / single[1]:.2f} times the speed"
    most = max(speed, key=speed.__getitem__)
    yield f"most a second: {label(*most)}, {speed[most] / single[1]:.2f} times one at a time"


def _profile(facts: Facts) -> str:
    """Of files that answer from the same catalogue, the smallest that loses little."""
    first = facts[0]
    alike = [fact for fact in facts if fact["catalogue_sha256"] == first["catalogue_sha256"]]
    if len({fact["profile"] for fact in alike}) > 1:
        fitting = [fact for fact in alike if _lost(fact) <= _LOSS]
        if not fitting:
            return f"profile: every file here lost more than {_LOSS:.1%} of NDCG@10 by rounding"
        best = min(fitting, key=lambda fact: float(fact["file_mb"]))
        return (
            f"profile: {best['file']} ({best['profile']}) is the smallest file that lost at most "
            f"{_LOSS:.1%} of NDCG@10 by rounding"
        )
    if first["profile"] == "fp32":
        return (
            "profile: fp32 is exact; attnrec-export --quantize auto makes the smallest file that "
            "keeps your limits, and tells what others cost"
        )
    cost = first["against_fp32"] or {}
    change, overlap = cost.get("ndcg@10_change"), cost.get("overlap@10")
    told = "not measured" if change is None else f"{change:+.2%}"
    shared = "not measured" if overlap is None else f"{overlap:.3f}"
    return (
        f"profile: {first['profile']}; when it was exported, NDCG@10 against fp32 was {told} and "
        f"overlap@10 {shared}"
    )


def _lost(fact: Mapping[str, Any]) -> float:
    """Share of NDCG@10; of a rounded file that does not tell, all of it."""
    if fact["profile"] == "fp32":
        return 0.0
    change = (fact["against_fp32"] or {}).get("ndcg@10_change")
    return 1.0 if change is None else -float(change)


def label(batch: int, n_threads: int, askers: int) -> str:
    """How histories are asked for, in words."""
    words = "one at a time" if batch == 1 else f"batches of {batch}"
    words += f", n_threads={n_threads}" if n_threads > 1 else ""
    return words + (f", {askers} Python threads" if askers > 1 else "")


def one_by_one(rows: Sequence[Timing]) -> dict[int, Timing]:
    """Single histories on one thread, by length."""
    return {t.history: t for t in rows if t.batch == t.n_threads == t.askers == 1}


def usual(rows: Sequence[Timing]) -> dict[tuple[int, int, int], Timing]:
    """Batches and threads, at the length of the last timing."""
    length = rows[-1].history
    return {(t.batch, t.n_threads, t.askers): t for t in rows if t.history == length}
