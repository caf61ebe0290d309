"""What the moment of a fault changes: each module asks one question and answers it with a table and a sentence."""

__all__: list[str] = []
