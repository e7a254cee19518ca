"""A Celery app that is this project's reads no configuration of another's."""

from __future__ import annotations

from typing import Any

from celery.loaders.app import AppLoader


class Loader(AppLoader):  # type: ignore[misc]
    """Reads nothing, whatever CELERY_CONFIG_MODULE says."""

    def read_configuration(self, env: str = "") -> dict[str, Any]:
        return {}


# For `Celery(…)`: neither CELERY_LOADER nor DJANGO_SETTINGS_MODULE has a say. Celery takes a loader for text.
OWN_SETTINGS: dict[str, Any] = {"loader": f"{__name__}:Loader", "fixups": set()}
