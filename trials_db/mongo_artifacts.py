"""Large files of trials in the store's own database, by GridFS: for machines that share no folder."""

# The methods' docstrings are those of `Artifacts`.
# ruff: noqa: D102

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gridfs import GridFSBucket, NoFile
from pymongo import ASCENDING

from trials_db.artifacts import Artifact, Artifacts, parse_artifact, whole_file
from trials_db.errors import ArtifactError
from trials_db.mongo_server import Server
from trials_db.stopping import Stop

BUCKET = "artifacts"


class MongoArtifacts(Artifacts):
    """See `Artifacts`. A file's document is written after its last piece, so a reader never sees half of one.

    Args:
        url: The store's.
    """

    carries_checkpoints = True

    def __init__(self, url: str) -> None:
        self._server = Server(url, create=True)
        self._server.call(
            lambda db: db[f"{BUCKET}.files"].create_index([("metadata.study", ASCENDING), ("filename", ASCENDING)])
        )

    def heed(self, stop: Stop) -> None:
        self._server.stop = stop

    def close(self) -> None:
        self._server.close()

    def probe(self) -> None:
        def write(db: Any) -> None:
            bucket = GridFSBucket(db, BUCKET)
            bucket.delete(bucket.upload_from_stream(".probe", b"probe"))

        self._server.call(write)

    def put(self, study: str, artifact: Artifact, source: Path) -> None:
        def upload(db: Any) -> Any:
            with source.open("rb") as stream:
                return GridFSBucket(db, BUCKET).upload_from_stream(artifact.path, stream, metadata={"study": study})

        try:
            made = self._server.call(upload)
        except OSError as error:
            raise ArtifactError(f"{source.name} cannot be read: {error}") from error
        # Those with a lower id alone: of two that put it at once, neither then removes the last there is.
        self._delete({**_key(study, artifact), "_id": {"$lt": made}})

    def fetch(self, study: str, artifact: Artifact, target: Path) -> bool:
        query = _key(study, artifact)
        found = self._server.call(lambda db: db[f"{BUCKET}.files"].find_one(query, sort=[("uploadDate", -1)]))
        if found is None:
            return False

        def download(db: Any) -> None:
            with beside.open("wb") as stream:
                GridFSBucket(db, BUCKET).download_to_stream(found["_id"], stream)

        try:
            with whole_file(target, f"{target} cannot be written") as beside:
                self._server.call(download)
        except NoFile:
            # Dropped in between.
            return False
        return True

    def held(self, study: str, number: int | None = None) -> list[Artifact]:
        query: dict[str, Any] = {"metadata.study": study}
        if number is not None:
            query["filename"] = {"$regex": f"^{number:04d}/"}
        found = self._server.call(lambda db: list(db[f"{BUCKET}.files"].find(query, {"filename": 1})))
        artifacts = (parse_artifact(str(each.get("filename"))) for each in found)
        return sorted({artifact for artifact in artifacts if artifact is not None})

    def drop(self, study: str, artifacts: Iterable[Artifact]) -> None:
        for artifact in artifacts:
            self._delete(_key(study, artifact))

    def tidy(self, older_than_s: float) -> None:
        oldest = datetime.now(UTC) - timedelta(seconds=older_than_s)

        def remove(db: Any) -> None:
            chunks = db[f"{BUCKET}.chunks"]
            whole = set(db[f"{BUCKET}.files"].distinct("_id"))
            for each in chunks.distinct("files_id"):
                if each not in whole and each.generation_time < oldest:
                    chunks.delete_many({"files_id": each})

        self._server.call(remove)

    def _delete(self, query: dict[str, Any]) -> None:
        def delete(db: Any) -> None:
            for each in list(db[f"{BUCKET}.files"].find(query, {"_id": 1})):
                db[f"{BUCKET}.files"].delete_one(each)
                db[f"{BUCKET}.chunks"].delete_many({"files_id": each["_id"]})

        self._server.call(delete)


def _key(study: str, artifact: Artifact) -> dict[str, Any]:
    return {"metadata.study": study, "filename": artifact.path}
