"""Engines: run a trained network on patches, each on its own kind of processor."""

from medseg.engine.engine import Array, Engine
from medseg.engine.ensemble import EnsembleEngine
from medseg.engine.openvino import OpenVINOEngine

__all__ = ["Array", "Engine", "EnsembleEngine", "OpenVINOEngine"]
