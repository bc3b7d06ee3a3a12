"""Which of the two kinds of catalogue an artifact carries."""

from __future__ import annotations

from pathlib import Path

from recomind.artifacts import loads
from recomind.data.catalogue import StoredCatalogue, TableCatalogue, materialise
from recomind.data.catalogue_store import REFERENCE, CatalogueStore
from recomind.types import Catalogue


@loads("catalogue")
def load_catalogue(folder: Path) -> StoredCatalogue:
    """The catalogue of an artifact: a table that lies in it, or a store that it refers to.

    Raises:
        ArtifactError: absent, unreadable, or a store that is not where it was.
    """
    refers = (Path(folder) / REFERENCE).exists()
    return CatalogueStore.load(folder) if refers else TableCatalogue.load(folder)


def storable(catalogue: Catalogue, max_items: int) -> StoredCatalogue:
    """What an artifact can carry of any catalogue: a store is referred to, others are copied.

    Raises:
        ConfigError: a catalogue to be copied holds more than `max_items` items.
    """
    if isinstance(catalogue, CatalogueStore):
        return catalogue
    return materialise(catalogue, max_items)
