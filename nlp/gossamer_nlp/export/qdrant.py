"""Documents in Qdrant: points with a sparse vector, by `qdrant-client`, on a server or in this process."""

import itertools
from typing import TYPE_CHECKING

import scipy.sparse

from gossamer_nlp.export.exported import Exported

if TYPE_CHECKING:
    from qdrant_client import QdrantClient
    from qdrant_client.models import SparseVector

NAME = "gossamer"  # of the vector within a point
BATCH = 256


def upload(found: Exported, client: "QdrantClient", collection: str) -> None:
    """Make the collection and add the documents, numbered in order; their ids are in the payload, under "id"."""
    from qdrant_client.models import PointStruct, SparseVector, SparseVectorParams

    client.create_collection(collection, vectors_config={}, sparse_vectors_config={NAME: SparseVectorParams()})
    rows = enumerate(found.rows())
    while batch := list(itertools.islice(rows, BATCH)):
        points = []
        for i, (name, columns, values) in batch:
            own = SparseVector(indices=columns.tolist(), values=values.tolist())
            points.append(PointStruct(id=i, vector={NAME: own}, payload={"id": name}))
        client.upsert(collection, points)


def vector(query: scipy.sparse.csr_array) -> "SparseVector":
    """A query of `Exported.query` as Qdrant's `query_points(…, using="gossamer")` takes it."""
    from qdrant_client.models import SparseVector

    return SparseVector(indices=query.indices.tolist(), values=query.data.tolist())
