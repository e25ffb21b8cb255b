"""Experiments: a workload made ready for a cluster, and routers compared on it."""
