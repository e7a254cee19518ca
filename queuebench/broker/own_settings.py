"""A Celery app that is this project's reads no configuration of another's."""

from __future__ import annotations

from typing import Any

from celery.loaders.app import AppLoader


class OwnSettings(AppLoader):  # type: ignore[misc]
    """The loader for it: whatever CELERY_CONFIG_MODULE and CELERY_LOADER say."""

    def read_configuration(self, env: str = "") -> dict[str, Any]:
        return {}
