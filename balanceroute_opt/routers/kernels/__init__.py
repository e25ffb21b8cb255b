"""The routers' decisions, compiled: plain functions that simulator loops and live routers call."""
