"""A page's place in the navigation."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Link:
    """title: what it is called; path: of its first page."""

    title: str
    path: str

    def leads_to(self, path: str) -> bool:
        """Whether the page at `path` belongs to it."""
        return path == self.path or (self.path != "/" and path.startswith(f"{self.path}/"))
