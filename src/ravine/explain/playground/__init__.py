"""The playground: one page on which a reader runs optimizers on landscapes, line by line."""

from ravine.explain.playground.page import DEFAULT, page, rules_of

__all__ = ["DEFAULT", "page", "rules_of"]
