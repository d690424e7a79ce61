"""Errors that several readers raise."""

from droplens.domain.errors import DroplensError


class NotFound(DroplensError):
    """There is no run or model as an address names it. sentence: for the person who asked."""

    def __init__(self, sentence: str) -> None:
        super().__init__("console.not_found", sentence)
