"""The tests, and the checkout that they are in."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
