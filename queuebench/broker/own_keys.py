"""A queue under a name of Celery's own, in Celery's own database, is refused however its server is called."""

from __future__ import annotations

from queuebench.settings import Settings, channel_refusal


def refuse_shared(settings: Settings) -> None:
    """Ask both servers who they are, where CHANNEL_NAME is a name that Celery has a use for.

    One that does not tell is taken for another: the settings' text has been compared already.

    Raises:
        SettingsError: it is the same database of the same server.
    """
    if settings.queue == "REDIS" and settings.channel_is_celerys:
        queue = _database(settings.redis_pubsub_url)
        if queue is not None and queue == _database(settings.redis_celery_url):
            raise channel_refusal(settings.channel_name)


def _database(url: str) -> tuple[str, int] | None:
    # Here, because who publishes to SQS needs no client of Redis.
    from redis.exceptions import RedisError

    from queuebench.plumbing.redis_client import connect

    client = connect(url)
    try:
        return str(client.info("server")["run_id"]), client.connection_pool.connection_kwargs.get("db") or 0
    except (RedisError, KeyError, OSError):
        return None
    finally:
        client.close()
