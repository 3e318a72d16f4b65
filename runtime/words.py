"""How messages count, and what they call the types of ids."""


def counted(n: int, what: str) -> str:
    """As in "1 user" and "2,000 users"."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def kind_of_ids(id_type: str) -> str:
    """The word for ids of that type."""
    return "text" if id_type == "string" else id_type
