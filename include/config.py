"""Settings: read once from the environment, typed, immutable.

Order of precedence: ``ATELIER_*`` environment variables, then a ``.env`` file at the project's root, then the defaults below.
Every key is listed in docs/settings.md, which is generated from this class.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parent.parent

Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """Where everything is and how large it may grow. Build it through :func:`settings`."""

    model_config = SettingsConfigDict(env_prefix="ATELIER_", env_file=PROJECT_ROOT / ".env", frozen=True, extra="ignore")

    home: Path = Field(PROJECT_ROOT / ".atelier", description="Directory of all state: logs, databases, topics, images.")
    jars: Path = Field(PROJECT_ROOT / ".jars", description="Directory of the jars that Maven fetched from pom.xml: kafka/ and flink/.")
    host: str = Field("127.0.0.1", description="Address the local services listen on.")
    kafka_port: Port = Field(9092, description="Port of the Kafka broker.")
    kafka_controller_port: Port = Field(9093, description="Port of Kafka's KRaft controller.")
    flink_port: Port = Field(8081, description="Port of Flink's REST API and UI.")
    mlflow_port: Port = Field(5000, description="Port of the MLflow server.")
    airflow_port: Port = Field(8080, description="Port of Airflow's API server and UI.")
    gateway_port: Port = Field(8000, description="Port of the HTTP gateway.")

    kafka_bootstrap: str = Field("", description="Brokers as host:port[,host:port]; empty means the local broker.")
    mlflow_uri: str = Field("", description="MLflow tracking and registry server; empty means the local one.")
    airflow_db: str = Field("", description="SQLAlchemy address of Airflow's database; empty means SQLite under HOME.")
    mlflow_db: str = Field("", description="SQLAlchemy address of MLflow's database; empty means SQLite under HOME.")
    store_url: str = Field("", description="Where images and datasets go: file:///dir or s3://bucket/prefix; empty means HOME/objects.")
    s3_endpoint: str = Field("", description="Endpoint of an S3-compatible server; empty means AWS.")
    s3_access_key: SecretStr = Field(SecretStr(""), description="S3 access key; empty means boto3's own search order.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="S3 secret key.")
    s3_region: str = Field("us-east-1", description="S3 region.")

    topic_prefix: str = Field("atelier.", description="Prefix of every topic, so that several installations share one Kafka.")
    cell: str = Field("cell-0", description="The cell (one scheduler and its pools) that this installation serves.")
    model_name: str = Field("emoji", description="Registered model that a request gets when it names none.")
    worker_count: int = Field(2, ge=0, le=64, description="CPU workers that the local profile starts.")
    worker_backend: str = Field(
        "torch-eager", description="What the local profile's workers render with: a name that `atelier doctor` knows, or auto to measure."
    )
    worker_pool: str = Field("standard", description="Pool of the local profile's workers.")
    other_pools: str = Field(
        "", description="The cell's further pools, comma-separated, such as edge.", pattern=r"^([A-Za-z0-9._-]+(,|$))*$"
    )
    lease_s: float = Field(30.0, ge=1, description="Seconds a lease lasts unless progress renews it.")
    checkpoint_s: float = Field(
        5.0,
        ge=0.1,
        le=600,
        description="Seconds between two checkpoints of the router. After a failure it does again what it did since the last one; each "
        "takes time from the requests of that moment.",
    )
    max_attempts: int = Field(3, ge=1, le=20, description="Attempts before a request fails into dead letters.")
    model_cache_gb: float = Field(20.0, gt=0, description="Gigabytes of fetched model files kept on this machine; those in use always are.")
    model_memory_gb: float = Field(
        0.0, ge=0, description="Gigabytes of weights that a worker keeps loaded; 0 means half of what its device has free at its start."
    )
    embeddings_cache: str = Field(
        "", description="Prompt embeddings shared by workers: redis://HOST:PORT/DB or memcached://HOST:PORT; empty means none."
    )
    result_cache_s: float = Field(
        86400.0, ge=0, description="Seconds for which a repeated request with a seed gets its stored image; 0: never."
    )
    safety: Literal["off", "flag", "block"] = Field(
        "off", description="What the safety checker does with what it sees: off, flag it in the result, or block: fail the request."
    )
    safety_model: Path | None = Field(None, description="Directory with an image classifier of transformers as safetensors.")
    safety_labels: str = Field("nsfw,porn,hentai,sexy,unsafe,violence", description="The classifier's classes to flag, comma-separated.")
    safety_threshold: float = Field(0.5, gt=0, le=1, description="Least probability of a class that is flagged.")
    registry_poll_s: float = Field(1.0, gt=0, description="Seconds between two looks of the registry watcher at MLflow's aliases.")

    @property
    def pools(self) -> tuple[str, ...]:
        """All pools of the cell."""
        return tuple(dict.fromkeys((self.worker_pool, *filter(None, self.other_pools.split(",")))))

    @property
    def router_group(self) -> str:
        """The consumer group by which the router's committed offsets are known."""
        return f"{self.topic_prefix}router.{self.cell}"

    @property
    def bootstrap(self) -> str:
        return self.kafka_bootstrap or f"{self.host}:{self.kafka_port}"

    @property
    def mlflow(self) -> str:
        return self.mlflow_uri or f"http://{self.host}:{self.mlflow_port}"

    @property
    def flink(self) -> str:
        return f"http://{self.host}:{self.flink_port}"

    @property
    def airflow(self) -> str:
        return f"http://{self.host}:{self.airflow_port}"

    @property
    def gateway(self) -> str:
        return f"http://{self.host}:{self.gateway_port}"

    @property
    def store(self) -> str:
        return self.store_url or (self.home / "objects").resolve().as_uri()


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings, read at the first call; later changes of the environment have no effect."""
    return Settings()
